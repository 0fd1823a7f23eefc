package clickhouse

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// What one statement makes this process hold. ClickHouse's blocks have no bound in bytes: one value may be a gigabyte, and
// clickhouse-go makes room for a whole block before it reads it. So over HTTP ClickHouse itself writes the rows, which come one
// by one; over the native protocol, which has blocks only, a whole answer is bounded.
const (
	maxRow    = 8 << 20  // of one row, bytes of text; a line of a log has 1 MiB at most
	keptRow   = 1 << 20  // a larger buffer is not kept for the next row
	maxBlocks = 64 << 20 // of an answer over the native protocol, bytes as ClickHouse holds them
)

// rowTooLong is why a statement ends whose answer has a row too long to be held.
func rowTooLong() error {
	return exhausted(core.Text{
		Zh: fmt.Sprintf("结果中有一行超过 %d MiB：请只取需要的部分，例如 substring(列, 1, 1000)、arraySlice(列, 1, 100)，或用 arrayJoin 把长数组拆成多行；Parquet 导出没有这个限制", maxRow>>20),
		En: fmt.Sprintf("a row of the answer is longer than %d MiB: ask for the part of it that is needed, by substring(column, 1, 1000) or arraySlice(column, 1, 100), or make rows of a long array by arrayJoin; an export as Parquet has no such limit", maxRow>>20),
	})
}

func exhausted(said core.Text) error {
	return &core.Error{Kind: core.KindExhausted, Op: "query history", Err: errors.New(said.En), Findings: []core.Finding{{Path: "sql", Message: said}}}
}

// explained says of a limit that ClickHouse held which it is and what to do.
func (l QueryLimits) explained(err error) error {
	e, ok := err.(*core.Error) //nolint:errorlint // serverError has just made it
	if !ok || len(e.Findings) > 0 {
		return err
	}
	var said core.Text
	switch codeOf(e) {
	case 241:
		said = core.Text{
			Zh: fmt.Sprintf("语句用到的内存超过 %d MiB：请缩小时间范围、少取几列，或先聚合", l.MaxMemory>>20),
			En: fmt.Sprintf("the statement needs more than %d MiB of memory: ask for a shorter time or fewer columns, or aggregate first", l.MaxMemory>>20),
		}
	case 159, 160:
		said = core.Text{
			Zh: fmt.Sprintf("语句的执行时间超过 %s：请缩小时间范围，或指定命名空间与任务", l.MaxDuration),
			En: fmt.Sprintf("the statement takes longer than %s: ask for a shorter time, or name the namespace and the task", l.MaxDuration),
		}
	default:
		return err
	}
	said.Zh, said.En = said.Zh+"。ClickHouse: "+e.Err.Error(), said.En+". ClickHouse: "+e.Err.Error()
	return &core.Error{Kind: e.Kind, Op: e.Op, Err: e.Err, Findings: []core.Finding{{Path: "sql", Message: said}}}
}

// rowLines are rows that ClickHouse has written.
type rowLines struct {
	body   io.ReadCloser
	r      *bufio.Reader
	line   []byte
	failed error
}

// askLines asks over HTTP.
func askLines(ctx context.Context, sql string, ask asking, options []ch.QueryOption) (rowSource, []Column, error) {
	for name, value := range map[string]any{
		"output_format_json_quote_64bit_integers": 0, "output_format_json_quote_denormals": 1, "output_format_json_quote_decimals": 1,
		"output_format_decimal_trailing_zeros": 1, "output_format_json_named_tuples_as_objects": 1, "date_time_output_format": "iso",
	} {
		ask.settings[name] = value
	}
	body, err := ask.conn.QueryFormat(settings(ctx, ask.settings, options...), "JSONCompactEachRowWithNamesAndTypes", sql)
	if err != nil {
		return nil, nil, serverError("query history", err)
	}
	l := &rowLines{body: body, r: bufio.NewReaderSize(body, 64<<10)}
	var names, types []string
	for _, list := range []*[]string{&names, &types} {
		if !l.next() {
			break
		}
		if err := json.Unmarshal(l.line, list); err != nil {
			l.failed = errCut
		}
	}
	if l.failed == nil && len(names) != len(types) {
		l.failed = errCut
	}
	if err := l.err(); err != nil {
		l.close()
		return nil, nil, err
	}
	columns := make([]Column, len(names))
	for i := range names {
		columns[i] = Column{names[i], types[i]}
	}
	return l, columns, nil
}

// crlf stands between rows and ClickHouse's words about why it gives no more (src/Server/HTTP/WriteBufferFromHTTPServerResponse.cpp), of
// which clickhouse-go makes an error. Rows end in a plain newline.
var crlf = []byte("\r\n")

// errCut is an answer that is not what it should be.
var errCut = core.Errorf(core.KindInternal, "query history", "ClickHouse's answer cannot be read")

func (l *rowLines) next() bool {
	if l.failed != nil {
		return false
	}
	if cap(l.line) > keptRow {
		l.line = nil
	}
	l.line = l.line[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.line)+len(part) > maxRow {
			l.failed = rowTooLong()
			return false
		}
		l.line = append(l.line, part...)
		switch {
		case err == nil && bytes.HasSuffix(l.line, crlf):
			if _, l.failed = l.r.Peek(1); l.failed == nil || l.failed == io.EOF { //nolint:errorlint // a wrapped one is an answer that broke off
				l.failed = errCut
			}
			return false
		case err == nil:
			return true
		case err == io.EOF && len(l.line) > 0:
			l.failed = errCut
			return false
		case !errors.Is(err, bufio.ErrBufferFull):
			l.failed = err
			return false
		}
	}
}

func (l *rowLines) row(dst []byte, ends []int, shapes []*shape) ([]byte, []int, error) {
	in := l.line
	for i, s := range shapes {
		if len(in) == 0 || in[0] != "[,"[min(i, 1)] {
			return nil, nil, errCut
		}
		var err error
		if dst, in, err = s.copy(dst, in[1:]); err != nil {
			return nil, nil, err
		}
		ends = append(ends, len(dst))
	}
	return dst, ends, nil
}

func (l *rowLines) err() error {
	if l.failed == io.EOF { //nolint:errorlint // a wrapped one is an answer that broke off
		return nil
	}
	return serverError("query history", l.failed)
}

func (l *rowLines) close() { _ = l.body.Close() }

// rowBlocks are rows that clickhouse-go has decoded.
type rowBlocks struct {
	rows  driver.Rows
	cells []any // pointers that clickhouse-go scans into
}

// askBlocks asks over the native protocol. The rows are counted by LIMIT, because ClickHouse has one mode for all limits of
// an answer, and an answer too large must not be sent.
func askBlocks(ctx context.Context, sql string, ask asking, limits QueryLimits, options []ch.QueryOption) (rowSource, []Column, error) {
	delete(ask.settings, "max_result_rows")
	ask.settings["limit"], ask.settings["max_result_bytes"], ask.settings["result_overflow_mode"] = limits.MaxRows+1, maxBlocks, "throw"
	ask.settings["output_format_native_write_json_as_string"] = 1 // what clickhouse-go cannot decode it shall get as text
	rows, err := ask.conn.Query(settings(ctx, ask.settings, append(options, ch.WithBlockBufferSize(1))...), sql)
	if err != nil {
		return nil, nil, tooLarge(serverError("query history", err))
	}
	b := &rowBlocks{rows: rows}
	var columns []Column
	for _, t := range rows.ColumnTypes() {
		columns = append(columns, Column{t.Name(), t.DatabaseTypeName()})
		b.cells = append(b.cells, reflect.New(t.ScanType()).Interface())
	}
	return b, columns, nil
}

func (b *rowBlocks) next() bool { return b.rows.Next() }

func (b *rowBlocks) row(dst []byte, ends []int, shapes []*shape) ([]byte, []int, error) {
	for i := range b.cells {
		reflect.ValueOf(b.cells[i]).Elem().SetZero()
	}
	if err := b.rows.Scan(b.cells...); err != nil {
		return nil, nil, core.Errorf(core.KindInternal, "query history", "%w", err)
	}
	for i := range b.cells {
		var err error
		if dst, err = shapes[i].write(dst, reflect.ValueOf(b.cells[i]).Elem()); err != nil {
			return nil, nil, err
		}
		ends = append(ends, len(dst))
	}
	return dst, ends, nil
}

func (b *rowBlocks) err() error { return tooLarge(serverError("query history", b.rows.Err())) }

func (b *rowBlocks) close() { _ = b.rows.Close() }

// tooLarge says what to do about an answer that the native protocol may not carry.
func tooLarge(err error) error {
	if e, ok := err.(*core.Error); ok && codeOf(e) == tooManyRows { //nolint:errorlint // serverError has just made it
		return exhausted(core.Text{
			Zh: fmt.Sprintf("以 clickhouse:// 连接历史库时，一个结果最多 %d MiB：请缩小查询范围，或在 GNOMON_CLICKHOUSE_DSN 中改用 http:// 或 https:// 地址，则没有这个限制", maxBlocks>>20),
			En: fmt.Sprintf("history is reached by clickhouse://, by which an answer has at most %d MiB: ask for less, or name an http:// or https:// address in GNOMON_CLICKHOUSE_DSN, which has no such limit", maxBlocks>>20),
		})
	}
	return err
}
