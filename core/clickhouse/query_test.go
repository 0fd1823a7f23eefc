package clickhouse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

func TestQuery(t *testing.T) {
	t.Parallel()
	w := setup(t)

	t.Run("GivesNamesTypesAndPlainValues", func(t *testing.T) {
		rows, err := w.Query(t.Context(), `SELECT 1::UInt8 AS a, -5::Int64 AS b, 1.5 AS c, '中文' AS d, NULL AS e, [1, 2] AS f, map('k', 'v') AS g,
			toDateTime64('2026-11-20 01:02:03.000004', 6, 'UTC') AS h, toDate('2026-11-20') AS i, true AS j, toUInt256('123456789012345678901234567890') AS k, toDecimal64(1.25, 3) AS l,
			nan AS m, 'x'::LowCardinality(String) AS n, toUUID('0198c0de-0000-7000-8000-000000000001') AS o, (1, 'x') AS p, 18446744073709551615 AS q, toIPv4('10.0.0.1') AS r,
			CAST('warn', 'Enum8(''warn'' = 3)') AS s, unhex('ff00') AS t, [toNullable('z'), NULL] AS u, {name:String} AS v`, clickhouse.QueryLimits{}, map[string]string{"name": "O'Neill"}, everything)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		if c := rows.Columns(); len(c) != 22 || c[7] != (clickhouse.Column{Name: "h", Type: "DateTime64(6, 'UTC')"}) || c[0].Type != "UInt8" {
			t.Errorf("columns %v", c)
		}
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		got, err := rows.Scan(nil)
		if err != nil {
			t.Fatal(err)
		}
		want := []any{uint64(1), int64(-5), 1.5, "中文", nil, json.RawMessage(`[1,2]`), json.RawMessage(`{"k":"v"}`),
			"2026-11-20T01:02:03.000004Z", "2026-11-20", true, "123456789012345678901234567890", "1.250", "nan", "x", "0198c0de-0000-7000-8000-000000000001", json.RawMessage(`[1,"x"]`),
			uint64(18446744073709551615), "10.0.0.1", "warn", `\xff00`, json.RawMessage(`["z",null]`), "O'Neill"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("KeepsClickHousesWordsAndPosition", func(t *testing.T) {
		_, err := w.Query(t.Context(), "SELECT count( FROM runs", clickhouse.QueryLimits{}, nil, everything)
		server, ok := errors.AsType[*clickhouse.ServerError](err)
		if !ok || server.Code != 62 || !strings.Contains(server.Text, "Code: 62. DB::Exception: Syntax error: failed at position 13") || core.KindOf(err) != core.KindInvalid {
			t.Errorf("got %v", err)
		}
		_, err = w.Query(t.Context(), "SELECT nope FROM runs", clickhouse.QueryLimits{}, nil, everything)
		if server, ok := errors.AsType[*clickhouse.ServerError](err); !ok || server.Code != 47 || core.KindOf(err) != core.KindInvalid {
			t.Errorf("got %v", err)
		}
		if _, err := w.Query(t.Context(), "SELECT 1 FORMAT JSON", clickhouse.QueryLimits{}, nil, everything); core.KindOf(err) != core.KindInvalid || !strings.Contains(err.Error(), "FORMAT") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("OtherReadingStatements", func(t *testing.T) {
		for sql, want := range map[string]string{
			"SHOW TABLES LIKE '%_samples'": "[[host_samples] [plugin_samples] [run_samples]]",
			"EXISTS TABLE runs":            "[[1]]",
			"SELECT * FROM numbers(2)":     "[[0] [1]]",
			"WITH 2 AS x SELECT x":         "[[2]]",
			"SELECT count() FROM fires":    "[[0]]",
		} {
			if got := fmt.Sprint(w.ask(t, sql)); got != want {
				t.Errorf("%s: %s", sql, got)
			}
		}
		if got := w.ask(t, "DESCRIBE TABLE runs"); len(got) < 20 {
			t.Errorf("%d columns", len(got))
		}
		if got := w.ask(t, "EXPLAIN SELECT 1"); len(got) == 0 {
			t.Error("no plan")
		}
	})
	t.Run("OnlyReads", func(t *testing.T) {
		secret := t.TempDir() + "/secret"
		if err := os.WriteFile(secret, []byte("41976"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{
			"INSERT INTO runs (run_id) VALUES ('x')", "DROP TABLE runs", "ALTER TABLE runs DELETE WHERE 1", "CREATE TABLE x (a Int8) ENGINE=Memory", "SET readonly=0", "SELECT 1 SETTINGS readonly=0",
			"SELECT 1 SETTINGS max_memory_usage=0", "SELECT 1; DROP TABLE runs", "KILL QUERY WHERE 1", "SYSTEM SHUTDOWN", "OPTIMIZE TABLE runs", "TRUNCATE TABLE runs",
			"SELECT * FROM file('" + secret + "', 'LineAsString')", "SELECT file('" + secret + "')", "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')", "SELECT * FROM remote('127.0.0.1', 'system.one')",
			"SELECT * FROM s3('http://127.0.0.1:1/b/k', 'CSV', 'a String')", "SELECT * FROM executable('x', 'CSV', 'a String')", "SELECT 1 INTO OUTFILE '" + secret + ".out'", "DESCRIBE url('http://127.0.0.1:1/')",
			"SELECT * FROM mysql('127.0.0.1:1','a','b','c','d')", "SELECT * FROM postgresql('127.0.0.1:1','a','b','c','d')", "SELECT arrayMap(file, ['" + secret + "'])", "BACKUP DATABASE gnomon TO File('x')",
		} {
			rows, err := w.Query(t.Context(), sql, clickhouse.QueryLimits{}, nil, everything)
			if err == nil {
				for rows.Next() {
					row, _ := rows.Scan(nil)
					t.Errorf("%s gave %v", sql, row)
				}
				if rows.Err() == nil {
					t.Errorf("%s was allowed", sql)
				}
				rows.Close()
				continue
			}
			if core.KindOf(err) != core.KindInvalid {
				t.Errorf("%s: kind %s, %v", sql, core.KindOf(err), err)
			}
		}
		if got := w.one(t, "EXISTS TABLE runs"); got != "1" {
			t.Error("the table is gone")
		}
	})
	t.Run("LimitsHold", func(t *testing.T) {
		rows, err := w.Query(t.Context(), "SELECT number FROM numbers(1000000)", clickhouse.QueryLimits{MaxRows: 10}, nil, everything)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rows.Next() {
			n++
		}
		if n != 10 || !rows.More() || rows.Err() != nil {
			t.Errorf("%d rows, more %v, %v", n, rows.More(), rows.Err())
		}
		rows.Close()
		rows.Close()
		rows, err = w.Query(t.Context(), "SELECT number FROM numbers(10)", clickhouse.QueryLimits{MaxRows: 10}, nil, everything)
		if err != nil {
			t.Fatal(err)
		}
		for n = 0; rows.Next(); n++ {
		}
		if n != 10 || rows.More() {
			t.Errorf("exactly as many: %d rows, more %v", n, rows.More())
		}
		rows.Close()
		rows, err = w.Query(t.Context(), "SELECT repeat('x', 1000) FROM numbers(1000000)", clickhouse.QueryLimits{MaxBytes: 50_000}, nil, everything)
		if err != nil {
			t.Fatal(err)
		}
		for n = 0; rows.Next(); n++ {
			if _, err := rows.Scan(nil); err != nil {
				t.Fatal(err)
			}
		}
		if n != 50 || !rows.More() {
			t.Errorf("%d rows, more %v", n, rows.More())
		}
		rows.Close()
		for name, limits := range map[string]clickhouse.QueryLimits{"time": {MaxDuration: 300 * time.Millisecond}, "memory": {MaxMemory: 50 << 20}} {
			sql := map[string]string{"time": "SELECT max(sipHash64(number)) FROM numbers(100000000000)", "memory": "SELECT length(groupArray(number)) FROM numbers(100000000)"}[name]
			if _, err := w.Query(t.Context(), sql, limits, nil, everything); core.KindOf(err) != core.KindExhausted {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("CancelStopsTheServerToo", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := w.Query(ctx, "SELECT max(sipHash64(number)) FROM numbers(100000000000)", clickhouse.QueryLimits{}, nil, everything); err == nil {
			t.Error("no error")
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("took %s", took)
		}
		deadline := time.Now().Add(30 * time.Second)
		for w.one(t, "SELECT count() FROM system.processes WHERE query NOT LIKE '%processes%'") != "0" {
			if time.Now().After(deadline) {
				t.Fatal("still running on the server")
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	t.Run("ManyAtOnce", func(t *testing.T) {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range 10 {
					if got := w.one(t, "SELECT sum(number) FROM numbers(100000)"); got != "4999950000" {
						t.Errorf("got %s", got)
					}
				}
			})
		}
		all.Wait()
	})
}

// What ClickHouse says when it breaks an answer off reaches the asker, a limit as our own words about it.
func TestAnAnswerThatBreaksOffSaysWhy(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, c := range []struct {
		sql    string
		limits clickhouse.QueryLimits
		kind   core.Kind
		want   string
	}{
		{"SELECT number, throwIf(number = 200000, 'enough \\r\\n') FROM numbers(300000)", clickhouse.QueryLimits{MaxRows: 300_000}, core.KindInvalid, "enough"},
		{"SELECT number FROM numbers(1000000000000) WHERE sipHash64(number) % 20000 = 1", clickhouse.QueryLimits{MaxRows: 1_000_000, MaxDuration: 2 * time.Second}, core.KindExhausted, "takes longer than 2s"},
	} {
		rows, err := w.Query(t.Context(), c.sql, c.limits, nil, everything)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for rows.Next() {
			if _, err = rows.Scan(nil); err != nil {
				t.Fatalf("%s: after %d rows: %v", c.sql, got, err)
			}
			got++
		}
		if err = rows.Err(); got == 0 || core.KindOf(err) != c.kind || !strings.Contains(told(err), c.want) || !strings.Contains(told(err), "Code: ") {
			t.Errorf("%s: after %d rows: %v", c.sql, got, err)
		}
		rows.Close()
		body, err := w.Export(t.Context(), c.sql, "Parquet", c.limits, nil, everything)
		if err == nil {
			_, err = io.Copy(io.Discard, body)
			_ = body.Close()
		}
		if core.KindOf(err) != c.kind || !strings.Contains(told(err), c.want) {
			t.Errorf("%s as a file: %v", c.sql, err)
		}
	}
}

// told gives an error with all that it says to a person.
func told(err error) string {
	text := fmt.Sprint(err)
	if e, ok := errors.AsType[*core.Error](err); ok {
		for _, f := range e.Findings {
			text += " " + f.Message.En
		}
	}
	return text
}

func TestExport(t *testing.T) {
	t.Parallel()
	w := setup(t)
	export := func(t *testing.T, sql string, limits clickhouse.QueryLimits) ([]byte, error) {
		t.Helper()
		body, err := w.Export(t.Context(), sql, "Parquet", limits, map[string]string{"n": "5"}, everything)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		return io.ReadAll(body)
	}
	t.Run("IsAParquetFileOfClickHouse", func(t *testing.T) {
		file, err := export(t, "SELECT number AS n, toString(number) AS \"文字\" FROM numbers(100000) WHERE number >= {n:UInt64}", clickhouse.QueryLimits{})
		if err != nil || len(file) < 100_000 || string(file[:4]) != "PAR1" || string(file[len(file)-4:]) != "PAR1" || !bytes.Contains(file, []byte("文字")) {
			t.Errorf("%d bytes, %v", len(file), err)
		}
	})
	t.Run("IsNeverCutInSilence", func(t *testing.T) {
		file, err := export(t, "SELECT number FROM numbers(100001)", clickhouse.QueryLimits{MaxRows: 100_000})
		if core.KindOf(err) != core.KindExhausted || !strings.Contains(err.Error(), "more than 100000 rows") {
			t.Errorf("%d bytes, %v", len(file), err)
		}
	})
	t.Run("OnlyReads", func(t *testing.T) {
		for _, sql := range []string{"SELECT * FROM file('/etc/passwd', LineAsString)", "DROP TABLE runs", "BACKUP DATABASE gnomon TO File('/tmp/b')", "SELECT 1 INTO OUTFILE '/tmp/x'", "SELECT 1 FORMAT CSV"} {
			if file, err := export(t, sql, clickhouse.QueryLimits{}); core.KindOf(err) != core.KindInvalid {
				t.Errorf("%s: %q %v", sql, file, err)
			}
		}
	})
}

// Who asks is told how far a statement is, and one that nobody waits for any more is not running.
func TestARunningStatementIsFoundByItsIDAndEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const id = "01942f00-0000-7000-8000-0000000000aa"
	for name, ask := range map[string]func(context.Context) error{
		"rows": func(ctx context.Context) error {
			rows, err := w.Query(ctx, "SELECT max(sipHash64(number)) FROM numbers(100000000000)", clickhouse.QueryLimits{QueryID: id}, nil, everything)
			if err == nil {
				rows.Close()
			}
			return err
		},
		"file": func(ctx context.Context) error {
			body, err := w.Export(ctx, "SELECT max(sipHash64(number)) FROM numbers(100000000000)", "Parquet", clickhouse.QueryLimits{QueryID: id}, nil, everything)
			if err == nil {
				_ = body.Close()
			}
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- ask(ctx) }()
		var seen clickhouse.QueryProgress
		for begun := time.Now(); seen.ReadRows == 0; {
			all, err := w.Progress(t.Context())
			if err != nil || time.Since(begun) > 30*time.Second {
				t.Fatalf("%s: %v %v", name, all, err)
			}
			seen = all[id]
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		for begun := time.Now(); ; {
			all, err := w.Progress(t.Context())
			if _, runs := all[id]; err == nil && !runs {
				break
			}
			if time.Since(begun) > 30*time.Second {
				t.Fatalf("%s: still running: %v %v", name, all, err)
			}
		}
	}
}
