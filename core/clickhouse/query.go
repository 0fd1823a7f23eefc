package clickhouse

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"net"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// QueryLimits bound an analyst's statement. Zero fields take the defaults.
type QueryLimits struct {
	MaxRows     int           // rows given at most; then Rows.More says that there were more. 0: 100,000
	MaxBytes    int           // bytes of values given at most, likewise. 0: 64 MiB
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
		"max_execution_time":   strconv.FormatFloat(l.MaxDuration.Seconds(), 'f', 3, 64),
		"max_memory_usage":     l.MaxMemory,
		"max_result_rows":      l.MaxRows + 1,
		"result_overflow_mode": "break",
		// What clickhouse-go cannot decode it shall get as text.
		"output_format_native_write_json_as_string": 1,
	}
}

// options are the parameters of a statement and its name.
func (l QueryLimits) options(params map[string]string) []ch.QueryOption {
	options := []ch.QueryOption{}
	if len(params) > 0 {
		options = append(options, ch.WithParameters(params))
	}
	if l.QueryID != "" {
		options = append(options, ch.WithQueryID(l.QueryID))
	}
	return options
}

// Column is one column of an answer.
type Column struct {
	Name string
	Type string // ClickHouse's name of the type: "DateTime64(6, 'UTC')"
}

// Query runs one reading statement in ClickHouse's SQL over the part of history that scope names, without repeats (final = 1).
// params fill {name:Type} placeholders in ClickHouse's own escaped text form. The statement can read tables and compute, nothing
// else: no writing, no settings, no files, no network. It fails with KindInvalid and ClickHouse's own words (a
// ServerError) if it is wrong or does more than read, with KindExhausted at a limit. Close the Rows.
func (c *Client) Query(ctx context.Context, sql string, limits QueryLimits, params map[string]string, scope statement.Scope) (*Rows, error) {
	const op = "query history"
	if err := withoutFormat(op, sql); err != nil {
		return nil, err
	}
	limits = limits.complete()
	ask, err := c.ask(ctx, sql, limits, params, scope)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	rows, err := ask.conn.Query(settings(ctx, ask.settings, limits.options(params)...), sql)
	if err != nil {
		cancel()
		return nil, serverError(op, err)
	}
	r := &Rows{rows: rows, cancel: cancel, limits: limits}
	for _, t := range rows.ColumnTypes() {
		r.columns = append(r.columns, Column{Name: t.Name(), Type: t.DatabaseTypeName()})
		r.cells = append(r.cells, reflect.New(t.ScanType()).Interface())
	}
	return r, nil
}

// withoutFormat refuses a statement that chooses the form of its answer itself.
func withoutFormat(op, sql string) error {
	if !formatClause.MatchString(sql) {
		return nil
	}
	return core.Invalid(op, core.Finding{Path: "sql", Message: core.Text{Zh: "请去掉语句末尾的 FORMAT 子句：输出格式由调用方选择", En: "leave the FORMAT clause at the end out: the form of the output is chosen by the caller"}})
}

// formatClause finds a FORMAT clause at the end of a statement; it would replace the form that is decoded here.
var formatClause = regexp.MustCompile(`(?is)\sFORMAT\s+[A-Za-z][A-Za-z0-9]*\s*;?\s*$`)

// Rows is an answer that arrives. It is not safe for concurrent use.
type Rows struct {
	rows    driver.Rows
	cancel  context.CancelFunc
	limits  QueryLimits
	columns []Column
	cells   []any // pointers that clickhouse-go scans into
	given   int
	bytes   int
	more    bool
	err     error
}

// Columns names the columns, in order. It is empty for a statement without an answer.
func (r *Rows) Columns() []Column { return r.columns }

// Next moves to the next row; false at the end, at a limit (More) or after an error (Err).
func (r *Rows) Next() bool {
	if r.err != nil || r.more || r.rows == nil || !r.rows.Next() {
		return false
	}
	if r.given >= r.limits.MaxRows || r.bytes >= r.limits.MaxBytes {
		r.more = true
		return false
	}
	r.given++
	return true
}

// Scan gives the row's values in row, which is reused if it is long enough: nil, bool, int64, uint64, float64, string,
// []any and map[string]any; integers of more than 64 bits, decimals, dates, addresses and times (RFC 3339) as strings;
// NaN and infinities as nil; bytes that are not UTF-8 as \x and hexadecimal.
func (r *Rows) Scan(row []any) ([]any, error) {
	if r.rows == nil {
		return nil, errClosed
	}
	for i := range r.cells {
		reflect.ValueOf(r.cells[i]).Elem().SetZero()
	}
	if err := r.rows.Scan(r.cells...); err != nil {
		r.err = core.Errorf(core.KindInternal, "query history", "%w", err)
		return nil, r.err
	}
	row = row[:0]
	for i := range r.cells {
		value, size := plain(reflect.ValueOf(r.cells[i]).Elem(), r.columns[i].Type)
		r.bytes += size
		row = append(row, value)
	}
	return row, nil
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
	if r.rows == nil || r.more {
		return nil
	}
	return serverError("query history", r.rows.Err())
}

// Close ends the statement, cancelling it if it still runs. It is safe to call twice.
func (r *Rows) Close() {
	if r.rows == nil {
		return
	}
	r.cancel()
	_ = r.rows.Close()
	r.rows = nil
}

// plain turns what clickhouse-go scanned into what JSON can carry, and tells about how many bytes that is.
func plain(v reflect.Value, kind string) (any, int) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil, 4
		}
		if text, ok := special(v.Interface(), kind); ok {
			return text, len(text)
		}
		v = v.Elem()
	}
	if v.CanInterface() {
		if text, ok := special(v.Interface(), kind); ok {
			return text, len(text)
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool(), 5
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), 8
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Uint(), 8
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f, 8
		}
		return nil, 4
	case reflect.String:
		return text(v.String()), v.Len()
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 && !strings.Contains(kind, "Array(UInt8") {
			bytes := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(bytes), v)
			return text(string(bytes)), len(bytes)
		}
		list, size := make([]any, v.Len()), 2
		for i := range list {
			item, n := plain(v.Index(i), kind)
			list[i], size = item, size+n+1
		}
		return list, size
	case reflect.Map:
		object, size := make(map[string]any, v.Len()), 2
		for it := v.MapRange(); it.Next(); {
			key, _ := plain(it.Key(), "")
			name := fmt.Sprint(key)
			value, n := plain(it.Value(), kind)
			object[name], size = value, size+n+len(name)+4
		}
		return object, size
	case reflect.Invalid:
		return nil, 4
	default:
		s := fmt.Sprint(v.Interface())
		return s, len(s)
	}
}

// special gives the text of values that have one of their own.
func special(value any, kind string) (string, bool) {
	switch x := value.(type) {
	case time.Time:
		if dateType.MatchString(kind) {
			return x.Format(time.DateOnly), true
		}
		return x.Format(time.RFC3339Nano), true
	case big.Int:
		return x.String(), true
	case *big.Int:
		return x.String(), true
	case net.IP:
		return x.String(), true
	case fmt.Stringer:
		if reflect.ValueOf(value).Kind() == reflect.Pointer && reflect.ValueOf(value).IsNil() {
			return "", false
		}
		return x.String(), true
	}
	return "", false
}

// dateType matches types that hold days without a time of day.
var dateType = regexp.MustCompile(`\bDate(32)?\b`)

func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return `\x` + hex.EncodeToString([]byte(s))
}
