package clickhouse_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

// Over HTTP ClickHouse writes the values, over the native protocol we do: they are the same.
func TestValuesAreTheSameByEitherProtocol(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for sql, want := range map[string]any{
		"SELECT map(toDate('2026-11-29'), 12::UInt64)":                                   json.RawMessage(`{"2026-11-29":12}`),
		"SELECT map(toDateTime('2026-11-29 00:00:00', 'UTC'), 1::UInt8)":                 json.RawMessage(`{"2026-11-29T00:00:00Z":1}`),
		"SELECT map(7::UInt8, toDate32('1950-01-02'))":                                   json.RawMessage(`{"7":"1950-01-02"}`),
		"SELECT toDecimal64('1.50', 2)":                                                  "1.50",
		"SELECT [toDecimal128('-0.5', 4)]":                                               json.RawMessage(`["-0.5000"]`),
		"SELECT CAST('1.5', 'Nullable(Decimal(10, 2))')":                                 "1.50",
		"SELECT toDateTime64('2026-11-29 08:00:00.25', 3, 'Asia/Shanghai')":              "2026-11-29T08:00:00.25+08:00",
		"SELECT toDateTime('2026-11-29 08:00:00', 'Asia/Shanghai')":                      "2026-11-29T08:00:00+08:00",
		"SELECT [tuple(toDateTime('2026-07-01 08:00:00', 'America/New_York'), 'x')]":     json.RawMessage(`[["2026-07-01T08:00:00-04:00","x"]]`),
		"SELECT CAST((toDate('2026-11-29'), [1]), 'Tuple(day Date, list Array(UInt8))')": json.RawMessage(`{"day":"2026-11-29","list":[1]}`),
		"SELECT [toInt128('170141183460469231731687303715884105727'), -1]":               json.RawMessage(`["170141183460469231731687303715884105727","-1"]`),
		"SELECT [unhex('ff00'), 'a\\n\"']":                                               json.RawMessage(`["\\xff00","a\n\""]`),
		"SELECT map('a', unhex('ff'))":                                                   json.RawMessage(`{"a":"\\xff"}`),
		"SELECT [nan, -nan, inf, -inf, 0.1]":                                             json.RawMessage(`["nan","nan","inf","-inf",0.1]`),
		"SELECT 1 / 0":                                                                   "inf",
		"SELECT -1.5::Float32 / 0":                                                       "-inf",
		"SELECT CAST(nan, 'Nullable(Float64)')":                                          "nan",
		"SELECT [[], [1::UInt64, NULL]]":                                                 json.RawMessage(`[[],[1,null]]`),
		"SELECT toFloat64(3)":                                                            3.0,
		"SELECT 0.1::Float32":                                                            0.1,
		"SELECT 'tab\\t \\\\ 中 \u2028'":                                                  "tab\t \\ 中 \u2028",
		"SELECT toUUID('0198c0de-0000-7000-8000-000000000001')":                          "0198c0de-0000-7000-8000-000000000001",
		"SELECT toFixedString('ab', 2)":                                                  "ab",
		"SELECT CAST(NULL, 'Nullable(DateTime(\\'UTC\\'))')":                             nil,
	} {
		for _, batches := range []bool{false, true} {
			asked := w.Client
			if batches && strings.HasPrefix(sql, "SELECT toDateTime(") {
				continue // the engine's Native is of revision 0, in which a DateTime has no zone
			}
			if batches {
				asked = open(t, w.engine.Socket())
				asked.UseBatches()
			}
			rows, err := asked.Query(t.Context(), sql, clickhouse.QueryLimits{}, nil, everything)
			if err != nil {
				t.Errorf("%s: %v", sql, err)
				continue
			}
			var got []any
			if rows.Next() {
				if got, err = rows.Scan(nil); err != nil {
					t.Errorf("%s: %v", sql, err)
				}
			}
			rows.Close()
			if batches {
				_ = asked.Close()
			}
			if want == nil && got == nil {
				continue
			}
			if diff := cmp.Diff([]any{want}, got); diff != "" {
				t.Errorf("%s, native %v: %s", sql, batches, diff)
			}
		}
	}
}

// TestNoStatementMakesTheProcessLarge asks for what a block, boxed, once made gigabytes of. It is not parallel: it
// watches the heap.
func TestNoStatementMakesTheProcessLarge(t *testing.T) { //nolint:paralleltest // see above
	w := setup(t)
	const bound = 96 << 20
	for name, c := range map[string]struct {
		sql  string
		rows int // 0: it fails
	}{
		"a huge array":          {"SELECT range(100000000)", 0},
		"a large array":         {"SELECT range(6000000)", 0},
		"an array just allowed": {"SELECT range(1000000)", 1},
		"a huge text":           {"SELECT repeat(repeat('x', 1000), 1000000)", 0},
		"a large text":          {"SELECT repeat(repeat('x', 100), 600000)", 0},
		"a text of lines":       {"SELECT repeat(repeat('\n', 100), 200000)", 0},
		"many medium":           {"SELECT repeat('x', 999999 - number % 2) FROM numbers(120)", 120},
		"the same many times":   {"SELECT repeat('x', 100000), number FROM numbers(2000)", 2000},
		"nested arrays":         {"SELECT arrayMap(x -> range(x % 10), range(2000000))", 0},
		"empty arrays":          {"SELECT arrayMap(x -> emptyArrayUInt8(), range(10000000))", 0},
		"a map":                 {"SELECT mapFromArrays(range(3000000), range(3000000))", 0},
		"late":                  {"SELECT if(number = 99999, repeat(repeat('x', 100), 600000), 'y') FROM numbers(100000)", 0},
	} {
		runtime.GC()
		before, peak := heapBytes(), atomic.Uint64{}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // ends when stop is closed
			defer close(stopped)
			for {
				peak.Store(max(peak.Load(), heapBytes()))
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
			}
		}()
		given := 0
		rows, err := w.Query(t.Context(), c.sql, clickhouse.QueryLimits{MaxRows: 1_000_000, MaxBytes: 4 << 30}, nil, everything)
		if err == nil {
			var values []any
			for rows.Next() {
				if values, err = rows.Scan(values); err != nil {
					break
				}
				given++
			}
			err = errors.Join(err, rows.Err())
			rows.Close()
		}
		close(stop)
		<-stopped
		if grew := int64(peak.Load()) - int64(before); grew > bound {
			t.Errorf("%s: the heap grew by %d MiB", name, grew>>20)
		}
		if c.rows > 0 {
			if err != nil || given != c.rows {
				t.Errorf("%s: %d rows, %v", name, given, err)
			}
			continue
		}
		e, ok := errors.AsType[*core.Error](err)
		if !ok || e.Kind != core.KindExhausted || len(e.Findings) != 1 {
			t.Errorf("%s: %d rows, %v", name, given, err)
			continue
		}
		said := e.Findings[0].Message
		if strings.Contains(said.En, "more than 1024 MiB of memory: ask for") && strings.Contains(said.Zh, "超过 1024 MiB：请") {
			continue // ClickHouse's own limit came first
		}
		if !strings.Contains(said.En, "longer than 8 MiB") || !strings.Contains(said.En, "substring") || !strings.Contains(said.Zh, "超过 8 MiB") || !strings.Contains(said.Zh, "arraySlice") {
			t.Errorf("%s: %v", name, said)
		}
	}
}

func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// Over the native protocol a row is bounded too, and the answer as a whole by ClickHouse.
func TestARowOfTheNativeProtocolIsBounded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.UseBatches()
	for _, sql := range []string{"SELECT range(2000000)", "SELECT repeat(repeat('x', 100), 100000), 'y'", "SELECT mapFromArrays(range(900000), range(900000))"} {
		rows, err := w.Query(t.Context(), sql, clickhouse.QueryLimits{}, nil, everything)
		if err != nil {
			t.Fatal(err)
		}
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		if row, err := rows.Scan(nil); core.KindOf(err) != core.KindExhausted || !strings.Contains(err.Error(), "longer than 8 MiB") {
			t.Errorf("%s: %.100v %v", sql, row, err)
		}
		if rows.Next() || core.KindOf(rows.Err()) != core.KindExhausted {
			t.Errorf("%s goes on: %v", sql, rows.Err())
		}
		rows.Close()
	}
	if rows := w.ask(t, "SELECT number FROM numbers(200000) ORDER BY number"); len(rows) != 100_000 {
		t.Errorf("%d rows", len(rows))
	}
}

// A value of a parameter is the text it is.
func TestParametersArePlainTexts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, c := range []struct{ kind, value, want string }{
		{"String", `C:\temp\new`, `C:\temp\new`},
		{"String", "a\tb\nc\r\n", "a\tb\nc\r\n"},
		{"String", `\N`, `\N`},
		{"String", `it's "中文" \' 100%`, `it's "中文" \' 100%`},
		{"String", "", ""},
		{"Nullable(String)", `C:\temp`, `C:\temp`},
		{"Nullable(String)", clickhouse.Null, "<nil>"},
		{"LowCardinality(Nullable(String))", clickhouse.Null, "<nil>"},
		{" Nullable(UInt8)", clickhouse.Null, "<nil>"},
		{"Nullable(UInt8)", "7", "7"},
		{"LowCardinality(String)", "x\ty", "x\ty"},
		{"Array(String)", `['C:\\temp', 'it\'s', '中\t文']`, `["C:\\temp","it's","中\t文"]`},
		{" Array(UInt8) ", "[1, 2]", "[1,2]"},
		{"Map(String, String)", `{'a':'b\\c'}`, `{"a":"b\\c"}`},
		{"UInt8", "7", "7"},
		{"DateTime64(3, 'UTC')", "2026-11-29 00:00:00.5", "2026-11-29T00:00:00.5Z"},
	} {
		rows, err := w.Query(t.Context(), "SELECT {p:"+c.kind+"}", clickhouse.QueryLimits{}, map[string]string{"p": c.value}, everything)
		if err != nil {
			t.Errorf("%s %q: %v", c.kind, c.value, err)
			continue
		}
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		row, err := rows.Scan(nil)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(row[0])
		if raw, ok := row[0].(json.RawMessage); ok {
			got = string(raw)
		}
		if got != c.want {
			t.Errorf("%s %q is %q", c.kind, c.value, got)
		}
		rows.Close()
	}
}
