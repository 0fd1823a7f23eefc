package clickhouse

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// QueryLimits bound an analyst's statement. Zero fields take the defaults.
type QueryLimits struct {
	MaxRows     int           // rows given at most; then Rows.More says that there were more. 0: 100,000
	MaxBytes    int           // bytes of values given at most, as text, likewise. 0: 64 MiB
	MaxDuration time.Duration // by the server's clock; then the statement fails. 0: 30 s
	MaxMemory   uint64        // of the server, for this statement; then it fails. 0: 1 GiB
	QueryID     string        // names the statement, so that Progress finds it; empty: nobody asks
}

// complete puts the defaults where nothing is said.
func (l QueryLimits) complete() QueryLimits {
	if l.MaxRows <= 0 {
		l.MaxRows = 100_000
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = 64 << 20
	}
	if l.MaxDuration <= 0 {
		l.MaxDuration = 30 * time.Second
	}
	if l.MaxMemory == 0 {
		l.MaxMemory = 1 << 30
	}
	return l
}

// settings are those of an analyst's statement, whatever form its answer has, besides what AskSettings gives.
func (l QueryLimits) settings() ch.Settings {
	return ch.Settings{
		"max_execution_time":   strconv.FormatFloat(max(l.MaxDuration.Seconds(), 0.001), 'f', 3, 64), // 0 is no limit
		"max_memory_usage":     l.MaxMemory,
		"max_result_rows":      l.MaxRows + 1,
		"result_overflow_mode": "break",
	}
}

// options are the parameters of a statement and its name.
func (l QueryLimits) options(sql string, params map[string]string) []ch.QueryOption {
	options := []ch.QueryOption{}
	if len(params) > 0 {
		options = append(options, ch.WithParameters(escaped(sql, params)))
	}
	if l.QueryID != "" {
		options = append(options, ch.WithQueryID(l.QueryID))
	}
	return options
}

// Null is the value of a parameter that is NULL, if its type is Nullable.
const Null = `\N`

// TakesNull tells whether a statement declares a parameter to be Nullable.
func TakesNull(sql, param string) bool {
	return slices.ContainsFunc(nullable.FindAllStringSubmatch(sql, -1), func(m []string) bool { return m[1] == param })
}

// escaped gives values as ClickHouse reads parameters: as a field of a tab-separated line. What a statement declares to be
// composed it reads as it is (SerializationArray::deserializeText).
func escaped(sql string, params map[string]string) ch.Parameters {
	asIs := map[string]bool{}
	for _, m := range readAsIs.FindAllStringSubmatch(sql, -1) {
		asIs[m[1]] = true
	}
	all := make(ch.Parameters, len(params))
	for name, value := range params {
		if !asIs[name] && (value != Null || !TakesNull(sql, name)) {
			value = fieldEscaper.Replace(value)
		}
		all[name] = value
	}
	return all
}

var (
	readAsIs     = regexp.MustCompile(`\{\s*(\w+)\s*:\s*(?:Array|Map|Tuple|Nested|Point|Ring|LineString|Multi\w+|Polygon)\b`)
	nullable     = regexp.MustCompile(`\{\s*(\w+)\s*:\s*(?:LowCardinality\(\s*)?Nullable\b`)
	fieldEscaper = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`)
)

// Column is one column of an answer.
type Column struct {
	Name string
	Type string // ClickHouse's name of the type: "DateTime64(6, 'UTC')"
}

// Query runs one reading statement in ClickHouse's SQL over the part of history that scope names, without repeats (final = 1).
// params fill {name:Type} placeholders: a text is taken as it is, a list as ClickHouse writes one: ['a', 'b'], and Null. The statement can read tables and compute, nothing
// else: no writing, no settings, no files, no network. It fails with KindInvalid and ClickHouse's own words (a
// ServerError) if it is wrong or does more than read, with KindExhausted at a limit. Close the Rows.
func (c *Client) Query(ctx context.Context, sql string, limits QueryLimits, params map[string]string, scope statement.Scope) (*Rows, error) {
	const op = "query history"
	if err := withoutFormat(op, sql); err != nil {
		return nil, err
	}
	limits = limits.complete()
	ask, err := c.ask(ctx, sql, limits, scope)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	from, columns, err := c.source(ctx, sql, ask, limits, params)
	if err != nil {
		cancel()
		return nil, limits.explained(err)
	}
	r := &Rows{from: from, cancel: cancel, limits: limits, columns: columns}
	for _, column := range columns {
		r.shapes = append(r.shapes, shapeOf(column.Type))
	}
	return r, nil
}

// source asks, in the way that the protocol allows.
func (c *Client) source(ctx context.Context, sql string, ask asking, limits QueryLimits, params map[string]string) (rowSource, []Column, error) {
	if c.http {
		return askLines(ctx, sql, ask, limits.options(sql, params))
	}
	return askBlocks(ctx, sql, ask, limits, limits.options(sql, params))
}

// withoutFormat refuses a statement that chooses the form of its answer itself.
func withoutFormat(op, sql string) error {
	if statement.OutputFormat(sql) == "" {
		return nil
	}
	return core.Invalid(op, core.Finding{Path: "sql", Message: core.Text{Zh: "请去掉语句末尾的 FORMAT 子句：输出格式由调用方选择", En: "leave the FORMAT clause at the end out: the form of the output is chosen by the caller"}})
}

// Rows is an answer that arrives. Of it one row is held at a time, and no row is longer than 8 MiB of text. It is not safe for
// concurrent use.
type Rows struct {
	from    rowSource
	cancel  context.CancelFunc
	limits  QueryLimits
	columns []Column
	shapes  []*shape
	cells   []byte            // of the row
	ends    []int             // where each of them ends
	list    []json.RawMessage // Scan's
	given   int
	bytes   int
	more    bool
	err     error
}

// rowSource gives rows in the order they come.
type rowSource interface {
	// next moves to the next row.
	next() bool
	// row appends the row's cells, and where each of them ends.
	row(dst []byte, ends []int, shapes []*shape) ([]byte, []int, error)
	// err is why next gave false; nil at the end.
	err() error
	close()
}

// Columns names the columns, in order. It is empty for a statement without an answer.
func (r *Rows) Columns() []Column { return r.columns }

// Next moves to the next row; false at the end, at a limit (More) or after an error (Err).
func (r *Rows) Next() bool {
	if r.err != nil || r.more || r.from == nil || !r.from.next() {
		return false
	}
	if r.given >= r.limits.MaxRows || r.bytes >= r.limits.MaxBytes {
		r.more = true
		return false
	}
	r.given++
	return true
}

// Cells gives the row's values as JSON in cells, which is reused if it is long enough; they are good until the next row.
// Integers of more than 64 bits, decimals, dates, addresses and times (RFC 3339, as
// the clocks of the column's zone showed them) are strings, and so are "nan", "inf" and "-inf", bytes that are not UTF-8 are \x and
// hexadecimal; also in what is composed. It fails with KindExhausted if the row is too long.
func (r *Rows) Cells(cells []json.RawMessage) ([]json.RawMessage, error) {
	if r.from == nil {
		return nil, errClosed
	}
	if cap(r.cells) > keptRow {
		r.cells = nil
	}
	var err error
	if r.cells, r.ends, err = r.from.row(r.cells[:0], r.ends[:0], r.shapes); err != nil {
		r.err = err
		return nil, err
	}
	r.bytes += len(r.cells)
	cells = cells[:0]
	begin := 0
	for _, end := range r.ends {
		cells = append(cells, r.cells[begin:end:end])
		begin = end
	}
	return cells, nil
}

// Values gives a row's cells in row, which is reused if it is long enough: nil, bool, int64, uint64, float64 or string; what
// is composed stays JSON. They are good for ever.
func (r *Rows) Values(row []any, cells []json.RawMessage) []any {
	row = row[:0]
	for i, cell := range cells {
		row = append(row, r.shapes[i].scalar(cell))
	}
	return row
}

// Scan gives the Values of the row's Cells.
func (r *Rows) Scan(row []any) ([]any, error) {
	var err error
	if r.list, err = r.Cells(r.list); err != nil {
		return nil, err
	}
	return r.Values(row, r.list), nil
}

// More tells, once Next has given false, that there was more than a limit let through.
func (r *Rows) More() bool { return r.more }

// Given is how many rows and bytes of values have been given so far.
func (r *Rows) Given() (rows, bytes int) { return r.given, r.bytes }

// Err is why Next gave false, nil at the end of the answer or at a limit.
func (r *Rows) Err() error {
	if r.err != nil {
		return r.err
	}
	if r.from == nil || r.more {
		return nil
	}
	return r.limits.explained(r.from.err())
}

// Close ends the statement, cancelling it if it still runs. It is safe to call twice.
func (r *Rows) Close() {
	if r.from == nil {
		return
	}
	r.cancel()
	r.from.close()
	r.from = nil
}
