package clickhouse

import (
	"context"
	"fmt"
	"io"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// Export runs one reading statement as Query does and gives its answer as a file in one of ClickHouse's formats, made by
// ClickHouse and handed on as it comes. It fails as Query does; and with KindExhausted if there are more than
// limits.MaxRows rows, because a file cannot say that something is missing. limits.MaxBytes does not count here. Reading
// may fail later, by a ServerError too: then the file is not whole. Close ends the statement.
func (c *Client) Export(ctx context.Context, sql, format string, limits QueryLimits, params map[string]string, scope statement.Scope) (io.ReadCloser, error) {
	const op = "query history"
	if err := withoutFormat(op, sql); err != nil {
		return nil, err
	}
	if !c.http {
		return nil, core.Invalid(op, core.Finding{Path: "header.Accept", Message: core.Text{
			Zh: "以 clickhouse:// 连接历史库时不能导出 " + format + " 文件；请在 GNOMON_CLICKHOUSE_DSN 中改用 http:// 或 https:// 地址",
			En: "history is reached by clickhouse://, which gives no " + format + " files; name an http:// or https:// address in GNOMON_CLICKHOUSE_DSN",
		}})
	}
	limits = limits.complete()
	ask, err := c.ask(ctx, sql, limits, scope)
	if err != nil {
		return nil, err
	}
	ask.settings["max_result_rows"], ask.settings["result_overflow_mode"] = limits.MaxRows, "throw"
	ctx, cancel := context.WithCancel(ctx)
	body, err := ask.conn.QueryFormat(settings(ctx, ask.settings, limits.options(sql, params)...), format, sql)
	if err != nil {
		cancel()
		return nil, limits.explained(tooMany(serverError(op, err), limits.MaxRows))
	}
	return &export{body: body, cancel: cancel, limits: limits}, nil
}

// tooMany says what to do about a file that would have more rows than asked for.
func tooMany(err error, limit int) error {
	if e, ok := err.(*core.Error); ok && codeOf(e) == tooManyRows { //nolint:errorlint // serverError has just made it
		return &core.Error{Kind: core.KindExhausted, Op: e.Op, Err: fmt.Errorf("the answer has more than %d rows; narrow the statement, or raise max_rows: %w", limit, e.Err)}
	}
	return err
}

// tooManyRows is TOO_MANY_ROWS_OR_BYTES of ClickHouse.
const tooManyRows = 396

func codeOf(e *core.Error) int {
	if s, ok := e.Err.(*ServerError); ok { //nolint:errorlint // serverError puts it there
		return s.Code
	}
	return 0
}

// export is a file that arrives.
type export struct {
	body   io.ReadCloser
	cancel context.CancelFunc
	limits QueryLimits
}

// Read gives the next bytes of the file.
func (e *export) Read(p []byte) (int, error) {
	n, err := e.body.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // only a plain EOF is the end
		err = e.limits.explained(tooMany(serverError("query history", err), e.limits.MaxRows))
	}
	return n, err
}

// Close ends the statement, cancelling it if it still runs.
func (e *export) Close() error {
	e.cancel()
	return e.body.Close()
}

// QueryProgress is how far a running statement is.
type QueryProgress struct {
	ReadRows    uint64        // rows read of tables so far
	ReadBytes   uint64        // bytes of them, not compressed
	MemoryBytes uint64        // it uses now
	Elapsed     time.Duration // by the server's clock
}

// Progress gives how far running statements are, by the QueryID they were given; those that do not run are left out. It
// does not wait for a reader's place: while all of them are taken is when people ask.
func (c *Client) Progress(ctx context.Context) (map[string]QueryProgress, error) {
	// The embedded engine cannot set a query_id: it puts the client's behind its own name, in log_comment.
	const query = `SELECT if(startsWith(Settings['log_comment'], 'gnomon-request-'), substringIndex(Settings['log_comment'], ' ', -1), query_id) AS id,
  read_rows, read_bytes, toUInt64(greatest(memory_usage, 0)), elapsed FROM system.processes`
	rows, err := c.writes.Query(settings(ctx, ch.Settings{"max_execution_time": 10}), query)
	if err != nil {
		return nil, serverError("look at running statements", err)
	}
	defer rows.Close()
	all := map[string]QueryProgress{}
	for rows.Next() {
		var (
			id      string
			p       QueryProgress
			elapsed float64
		)
		if err := rows.Scan(&id, &p.ReadRows, &p.ReadBytes, &p.MemoryBytes, &elapsed); err != nil {
			return nil, serverError("look at running statements", err)
		}
		p.Elapsed = time.Duration(elapsed * float64(time.Second))
		all[id] = p
	}
	return all, serverError("look at running statements", rows.Err())
}
