package clickhouse

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// again is how long a server that was not found good is left alone.
const again = time.Second

// connection is clickhouse-go's, which nothing uses before the server has been found good: new enough, and with our
// schema. A history that does not answer when Gnomon starts is looked for by whoever uses it, at most once in a second:
// tasks run without it, and what they leave waits in spool and store.
type connection struct {
	conn  driver.Conn
	log   *slog.Logger
	begin func(ctx context.Context) error // looks at the server and brings its schema up to date

	good atomic.Bool
	turn chan struct{} // holds one token: whoever has it may look
	last time.Time     // when somebody looked; with turn
	err  error         // what was found then; with turn
	said core.Kind     // of the trouble that the log has; with turn
}

func newConnection(conn driver.Conn, log *slog.Logger, begin func(context.Context) error) *connection {
	n := &connection{conn: conn, log: log, begin: begin, turn: make(chan struct{}, 1)}
	n.turn <- struct{}{}
	return n
}

// open is nil once the server is good. It fails with KindUnavailable, whatever is wrong with the server: what it should
// have taken is to be kept for it.
func (n *connection) open(ctx context.Context) error {
	err := n.look(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return core.Errorf(core.KindUnavailable, "", "%w", err)
}

// look is nil once the server is good. It fails as Open does.
func (n *connection) look(ctx context.Context) error {
	if n.good.Load() {
		return nil
	}
	select {
	case <-n.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { n.turn <- struct{}{} }()
	if n.good.Load() {
		return nil
	}
	if n.err != nil && time.Since(n.last) < again {
		return n.err
	}
	n.err = n.begin(bare{ctx})
	n.last = time.Now()
	switch kind := core.KindOf(n.err); {
	case n.err == nil:
		n.good.Store(true)
	case ctx.Err() != nil: // the caller's own end says nothing about the server
	case kind != n.said:
		n.said = kind
		n.log.Error("history is not to be had; what is to be kept waits in the spool", "err", n.err)
	}
	return n.err
}

// bare is a context without its values: the settings of whoever happens to look (readonly) are not those of the schema.
type bare struct{ context.Context }

func (bare) Value(any) any { return nil }

// Exec runs a statement without an answer.
func (n *connection) Exec(ctx context.Context, query string, args ...any) error {
	if err := n.open(ctx); err != nil {
		return err
	}
	return n.conn.Exec(ctx, query, args...)
}

// Query runs a statement with rows.
func (n *connection) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	if err := n.open(ctx); err != nil {
		return nil, err
	}
	return n.conn.Query(ctx, query, args...)
}

// QueryRow runs a statement with one row.
func (n *connection) QueryRow(ctx context.Context, query string, args ...any) driver.Row {
	if err := n.open(ctx); err != nil {
		return noRow{err}
	}
	return n.conn.QueryRow(ctx, query, args...)
}

// noRow is the row of a statement that could not be asked.
type noRow struct{ err error }

func (r noRow) Err() error           { return r.err }
func (r noRow) Scan(...any) error    { return r.err }
func (r noRow) ScanStruct(any) error { return r.err }

// QueryFormat runs a statement whose answer is a file in a form of ClickHouse's.
func (n *connection) QueryFormat(ctx context.Context, format, query string, args ...any) (io.ReadCloser, error) {
	if err := n.open(ctx); err != nil {
		return nil, err
	}
	return n.conn.QueryFormat(ctx, format, query, args...)
}

// InsertFormat sends rows in a form of ClickHouse's.
func (n *connection) InsertFormat(ctx context.Context, format, query string, rows io.Reader) error {
	if err := n.open(ctx); err != nil {
		return err
	}
	return n.conn.InsertFormat(ctx, format, query, rows)
}

// PrepareBatch begins an insert over ClickHouse's native protocol.
func (n *connection) PrepareBatch(ctx context.Context, query string) (driver.Batch, error) {
	if err := n.open(ctx); err != nil {
		return nil, err
	}
	return n.conn.PrepareBatch(ctx, query)
}

// Close ends it.
func (n *connection) Close() error { return n.conn.Close() }
