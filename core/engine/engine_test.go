package engine_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/engine"
	"github.com/gnomon-scheduler/gnomon/core/engine/enginetest"
)

func TestProtocol(t *testing.T) {
	t.Parallel()
	w := setup(t)

	t.Run("PingAnswersOk", func(t *testing.T) {
		answer, err := w.client.Get("http://engine/ping")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		if string(body) != "Ok.\n" {
			t.Errorf("got %q", body)
		}
	})
	t.Run("SocketIsForTheOwnerOnly", func(t *testing.T) {
		info, err := os.Stat(w.Socket())
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
	})
	t.Run("AnswersInTheFormatAsked", func(t *testing.T) {
		for _, c := range []struct{ sql, format, want string }{
			{"SELECT 1 AS a, '中文' AS b", "", "1\t中文"},
			{"SELECT 1 AS a, '中文' AS b", "CSV", `1,"中文"`},
			{"SELECT 1 AS a FORMAT JSONEachRow", "CSV", `{"a":1}`},
			{"SELECT 1 AS a FORMAT CSVWithNames", "", "\"a\"\n1"},
			{"SHOW DATABASES LIKE 'gnomon'", "", "gnomon"},
			{"SELECT timezone(), currentDatabase()", "", "UTC\tgnomon"},
			{"SELECT count() FROM numbers(3) -- FORMAT Null", "", "3"},
		} {
			if got := w.must(t, c.sql, "default_format="+c.format); got != c.want {
				t.Errorf("%s: got %q, want %q", c.sql, got, c.want)
			}
		}
	})
	t.Run("WholeDocumentFormatsAreOneDocument", func(t *testing.T) {
		if got := w.must(t, "SELECT number FROM numbers(200000) FORMAT JSON"); strings.Count(got, `"meta"`) != 1 {
			t.Errorf("%d documents", strings.Count(got, `"meta"`))
		}
	})
	t.Run("NamesAndTypesComeOnceThoughRowsComeInChunks", func(t *testing.T) {
		const form = "default_format=JSONCompactEachRowWithNamesAndTypes"
		got := w.must(t, "SELECT number AS n FROM numbers(200000)", form)
		if lines := strings.Split(got, "\n"); len(lines) != 200_002 || lines[0] != `["n"]` || lines[1] != `["UInt64"]` || lines[100_002] != "[100000]" || lines[200_001] != "[199999]" || strings.Count(got, `"`) != 4 {
			t.Errorf("%d lines, %d quotes: %.40s", len(lines), strings.Count(got, `"`), got)
		}
		if got := w.must(t, "SELECT 1::UInt8 AS a WHERE 0", form); got != "[\"a\"]\n[\"UInt8\"]" {
			t.Errorf("without rows: %q", got)
		}
	})
	t.Run("BindsParameters", func(t *testing.T) {
		got := w.must(t, "SELECT {x:Int32} + 1, {s:String}", "param_x=41", `param_s=it's \t ok`)
		if got != "42\tit\\'s \\t ok" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("SettingsHoldForOneRequestOnly", func(t *testing.T) {
		if got := w.must(t, "SELECT getSetting('max_result_rows')", "max_result_rows=77"); got != "77" {
			t.Errorf("got %q", got)
		}
		if got := w.must(t, "SELECT getSetting('max_result_rows')"); got != "0" {
			t.Errorf("got %q afterwards", got)
		}
		w.must(t, "SET max_result_rows = 5")
		if got := w.must(t, "SELECT getSetting('max_result_rows')"); got != "0" {
			t.Errorf("got %q after SET", got)
		}
	})
	t.Run("ErrorsKeepClickHousesWords", func(t *testing.T) {
		status, body, header := w.ask(t, "SELECT\n  nope FROM numbers(1)")
		if status != http.StatusNotFound && status != http.StatusBadRequest {
			t.Errorf("status %d", status)
		}
		if header.Get("X-ClickHouse-Exception-Code") != "47" || !strings.Contains(body, "Unknown expression identifier `nope`") || !strings.Contains(body, "UNKNOWN_IDENTIFIER") {
			t.Errorf("code %q body %q", header.Get("X-ClickHouse-Exception-Code"), body)
		}
		if status, body, _ := w.ask(t, "SELECT 1 FRM x y"); status != http.StatusBadRequest || !strings.Contains(body, "failed at position 14 (x)") {
			t.Errorf("status %d body %q", status, body)
		}
		if _, body, _ := w.ask(t, "SELECT 1", "no_such_setting=1"); !strings.Contains(body, "UNKNOWN_SETTING") {
			t.Errorf("body %q", body)
		}
		if status, _, _ := w.ask(t, "SELECT 1; SELECT 2"); status != http.StatusBadRequest {
			t.Errorf("two statements: status %d", status)
		}
		if status, _, _ := w.ask(t, "  "); status != http.StatusBadRequest {
			t.Errorf("empty: status %d", status)
		}
	})
	t.Run("ErrorAfterTheFirstRowsIsFramed", func(t *testing.T) {
		status, body, _ := w.ask(t, "SELECT number, throwIf(number = 300000, 'boom') FROM numbers(1000000) SETTINGS max_block_size=1000", "max_threads=1")
		if status != http.StatusOK || !strings.Contains(body, "\r\n__exception__\r\n") || !strings.Contains(body, "Code: 395") {
			t.Errorf("status %d, end %q", status, body[max(0, len(body)-300):])
		}
	})
	t.Run("AStatementHasItsThreadsInTheMemoryThereIs", func(t *testing.T) {
		if _, body, _ := w.ask(t, "EXPLAIN PIPELINE SELECT sum(number) FROM numbers_mt(100000000)"); !strings.Contains(body, "AggregatingTransform × 2") {
			t.Errorf("not two threads: %s", body)
		}
	})
	t.Run("QueryInTheURLAndGET", func(t *testing.T) {
		answer, err := w.client.Get("http://engine/?query=" + url.QueryEscape("SELECT 5 FORMAT CSV"))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		if string(body) != "5\n" || answer.Header.Get("X-ClickHouse-Format") != "CSV" || answer.Header.Get("X-ClickHouse-Query-Id") == "" {
			t.Errorf("%q %v", body, answer.Header)
		}
		refused, err := w.client.Get("http://engine/?query=" + url.QueryEscape("CREATE TABLE by_get (a Int8) ENGINE=Memory"))
		if err != nil {
			t.Fatal(err)
		}
		refused.Body.Close()
		if refused.StatusCode != http.StatusForbidden {
			t.Errorf("GET wrote: status %d", refused.StatusCode)
		}
	})
	t.Run("InsertsKeepNewlinesAndAnyByte", func(t *testing.T) {
		w.must(t, "CREATE TABLE ins (a UInt64, b String) ENGINE=MergeTree ORDER BY a")
		rows := "1,\"first\nsecond; ' \"\"\"\n2,\"中文\"\n"
		if status, body, _ := w.post(t, strings.NewReader(rows), "query=INSERT INTO ins (a, b) FORMAT CSV"); status != 200 {
			t.Fatal(body)
		}
		w.must(t, "INSERT INTO ins FORMAT CSV\n3,\"x\ny\"\n")
		w.must(t, "INSERT INTO ins (a, b) VALUES (4, 'a;b\nc'), (5, '')")
		w.must(t, "INSERT INTO ins SELECT number + 6, 'FORMAT CSV' FROM numbers(2)")
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = z.Write([]byte("8\tz\n"))
		_ = z.Close()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine/?query="+url.QueryEscape("INSERT INTO ins FORMAT TSV"), &zipped)
		req.Header.Set("Content-Encoding", "gzip")
		answer, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		want := "1\tfirst\\nsecond; \\' \"\n2\t中文\n3\tx\\ny\n4\ta;b\\nc\n5\t\n6\tFORMAT CSV\n7\tFORMAT CSV\n8\tz"
		if got := w.must(t, "SELECT a, b FROM ins ORDER BY a"); got != want {
			t.Errorf("got %q", got)
		}
		if status, body, _ := w.post(t, strings.NewReader("not,a,number\n"), "query=INSERT INTO ins FORMAT CSV"); status != http.StatusBadRequest {
			t.Errorf("status %d %s", status, body)
		}
	})
	t.Run("WhatItCannotDoItRefuses", func(t *testing.T) {
		for _, param := range []string{"compress=1", "decompress=1", "session_id=x"} {
			if status, _, _ := w.ask(t, "SELECT 1", param); status != http.StatusNotImplemented {
				t.Errorf("%s: status %d", param, status)
			}
		}
		for _, sql := range []string{"SELECT 1 INTO OUTFILE '/tmp/gnomon-out'", "INSERT INTO ins FROM INFILE '/etc/passwd' FORMAT CSV"} {
			if status, _, _ := w.ask(t, sql); status != http.StatusNotImplemented {
				t.Errorf("%s: status %d", sql, status)
			}
		}
	})
}

func TestReadersOnlyRead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.must(t, "CREATE TABLE kept (a UInt64) ENGINE=MergeTree ORDER BY a")
	w.must(t, "INSERT INTO kept VALUES (1)")
	secret := filepath.Join(t.TempDir(), "secret.csv")
	if err := os.WriteFile(secret, []byte("kEpTsEcReT\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "written")
	for _, sql := range []string{
		"INSERT INTO kept VALUES (2)", "INSERT INTO kept SELECT 2", "DROP TABLE kept", "TRUNCATE TABLE kept", "ALTER TABLE kept DELETE WHERE 1",
		"CREATE TABLE other (a Int8) ENGINE=Memory", "CREATE TEMPORARY TABLE other (a Int8)", "CREATE FUNCTION f AS (x) -> x", "OPTIMIZE TABLE kept",
		"SET readonly = 0", "SET max_threads = 1", "SELECT 1 SETTINGS readonly = 0", "SELECT 1 SETTINGS max_memory_usage = 12345678", "USE system",
		"KILL QUERY WHERE 1", "SYSTEM SHUTDOWN", "SYSTEM FLUSH LOGS", "BACKUP DATABASE gnomon TO File('" + target + "')", "ATTACH TABLE x", "WATCH kept",
		"SELECT 1; DROP TABLE kept", "SELECT 1; SET readonly=0", "exit", "quit",
		"SELECT * FROM file('" + secret + "')", "SELECT * FROM FILE('" + secret + "')", "SELECT file('" + secret + "')", "SELECT `file`('" + secret + "')",
		"SELECT `fi\\x6ce`('" + secret + "')", "SELECT `fi\\Nle`('" + secret + "')", "SELECT \"\\Nfile\"('" + secret + "')", "SELECT \"file\"/* */('" + secret + "')", "SELECT “file”('" + secret + "')", "SELECT arrayMap(file, ['" + secret + "'])",
		"SELECT * APPLY file FROM (SELECT '" + secret + "')", "SELECT * APPLY(file) FROM (SELECT '" + secret + "')", "EXPLAIN SELECT file('" + secret + "')",
		"DESCRIBE file('" + secret + "')", "DESCRIBE TABLE url('http://127.0.0.1:1/x')", "EXPLAIN SELECT * FROM file('" + secret + "')",
		"SELECT * FROM `" + secret + "`", "SELECT * FROM default.`" + secret + "`", "SELECT * FROM '" + secret + "'", "DESCRIBE default.`" + secret + "`", "DESCRIBE TABLE '" + secret + "'",
		"SHOW CREATE TABLE default.`" + secret + "`", "EXISTS TABLE default.`" + secret + "`",
		"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')", "SELECT * FROM remote('127.0.0.1', 'system.one')", "SELECT * FROM remoteSecure('127.0.0.1', 'system.one')",
		"SELECT * FROM s3('http://127.0.0.1:1/b/k', 'CSV', 'a String')", "SELECT * FROM executable('x', 'CSV', 'a String')", "SELECT * FROM mysql('127.0.0.1:1','a','b','c','d')",
		"SELECT * FROM postgresql('127.0.0.1:1','a','b','c','d')", "SELECT * FROM sqlite('" + secret + "','t')", "SELECT * FROM cluster('default', 'system.one')",
		"SELECT * FROM hdfs('hdfs://h/x','CSV','a String')", "SELECT * FROM iceberg('http://127.0.0.1:1/')", "SELECT * FROM icebergLocal('/etc')", "SELECT * FROM filesystem('/etc')",
		"SELECT * FROM merge('gnomon', '.*')", "SELECT * FROM loop(system.one) LIMIT 1", "SELECT * FROM eval('SELECT 1')", "SELECT * FROM fileCluster('default','" + secret + "')",
		"WITH x AS (SELECT * FROM file('" + secret + "')) SELECT * FROM x", "SELECT (SELECT file('" + secret + "'))", "SELECT 1 WHERE 1 IN (SELECT * FROM file('" + secret + "'))",
		"SELECT addressToSymbol(1)", "SELECT catboostEvaluate('" + secret + "', 1)", "SELECT sleep(3)", "SELECT AIGenerate('x')", "SELECT getClientHTTPHeader('a')",
		"INSERT INTO FUNCTION file('" + target + "', 'CSV', 'a Int8') VALUES (1)", "SELECT 1 INTO OUTFILE '" + target + "'", "SELECT 1 INTO /* */ OUTFILE '" + target + "' FORMAT CSV",
		"SELECT * FROM view(SELECT * FROM file('" + secret + "'))", "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT file('" + secret + "')))",
		"SELECT * FROM mergeTreeIndex('gnomon', 'kept')", "SELECT * FROM dictionary('x')", "EXPLAIN TABLE OVERRIDE mysql('127.0.0.1:1','a','b','c','d') (COLUMNS (id Int8))",
		"SELECT {f:Identifier}('" + secret + "')", "SELECT * FROM {f:Identifier}", "SELECT arrayMap({g:Identifier}, ['" + secret + "'])",
	} {
		for _, readonly := range []string{"1", "2"} {
			if readonly == "2" && strings.Contains(sql, "SETTINGS") {
				continue // 2 is for trusted clients that set their own limits
			}
			status, body, _ := w.ask(t, sql, "readonly="+readonly, "param_f="+secret, "param_g=file")
			if status == http.StatusOK || strings.Contains(body, "kEpTsEcReT") {
				t.Errorf("readonly=%s %s: status %d, %q", readonly, sql, status, body)
			}
		}
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("a reader wrote a file")
	}
	if got := w.must(t, "SELECT count(), sum(a) FROM kept"); got != "1\t1" {
		t.Errorf("the table changed: %q", got)
	}
	for sql, want := range map[string]string{
		"SELECT sum(a) FROM kept": "1", "SELECT count() FROM numbers(10)": "10", "SHOW TABLES": "kept", "EXISTS TABLE kept": "1",
		"WITH 1 AS x SELECT x UNION ALL SELECT 1": "1\n1", "(SELECT 1)": "1", "SELECT format('{}-{}', 'a', 'b')": "a-b", "SELECT url FROM (SELECT 'u' AS url)": "u",
		"SELECT 'file(x) INTO OUTFILE'": "file(x) INTO OUTFILE", "SELECT * FROM view(SELECT 3)": "3",
		"SELECT value FROM system.settings WHERE name = 'readonly'": "1", "SELECT 1 AS `p50/p95` ORDER BY `p50/p95`": "1",
	} {
		if got := w.must(t, sql, "readonly=1"); got != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
}

func TestLimitsHoldForReaders(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, c := range []struct{ sql, limit, code string }{
		{"SELECT max(sipHash64(number)) FROM numbers(100000000000)", "max_execution_time=0.3", "159"},
		{"SELECT groupArray(number) FROM numbers(100000000)", "max_memory_usage=50000000", "241"},
		{"SELECT number FROM numbers(1000)", "max_result_rows=10", "396"},
	} {
		began := time.Now()
		_, body, header := w.ask(t, c.sql, "readonly=1", c.limit)
		if code := header.Get("X-ClickHouse-Exception-Code"); code != c.code && !strings.Contains(body, "Code: "+c.code) {
			t.Errorf("%s with %s: code %q, %q", c.sql, c.limit, code, body[:min(len(body), 200)])
		}
		if took := time.Since(began); took > 30*time.Second { // without its limit it takes minutes
			t.Errorf("%s took %s", c.limit, took)
		}
	}
}

func TestClientThatGoesCancelsItsQuery(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, sql := range map[string]string{
		"while aggregating": "SELECT max(sipHash64(number)) FROM numbers(100000000000)",
		"while streaming":   "SELECT number, randomPrintableASCII(100) FROM numbers(100000000000)",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/?readonly=1", strings.NewReader(sql))
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := w.client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
		cancel()
		deadline := time.Now().Add(30 * time.Second)
		for w.must(t, "SELECT count() FROM system.processes WHERE query NOT LIKE '%system.processes%'") != "0" {
			if time.Now().After(deadline) {
				t.Fatalf("%s: still running", name)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func TestBodyThatBreaksOffIsNotInserted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.must(t, "CREATE TABLE cut (a UInt64) ENGINE=MergeTree ORDER BY a")
	reader, writer := io.Pipe()
	go func() {
		for i := range 100_000 {
			_, _ = fmt.Fprintln(writer, i)
		}
		_ = writer.CloseWithError(io.ErrClosedPipe)
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine/?query="+url.QueryEscape("INSERT INTO cut FORMAT CSV"), reader)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := w.client.Do(req); err == nil {
		answer.Body.Close()
		t.Errorf("status %d", answer.StatusCode)
	}
	waitFor(t, func() bool {
		return w.must(t, "SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'") == "0"
	})
	if got := w.must(t, "SELECT count() FROM cut"); got != "0" {
		t.Errorf("%s rows", got)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.must(t, "CREATE TABLE many (a UInt64, b UInt64) ENGINE=MergeTree ORDER BY (a, b)")
	var all sync.WaitGroup
	for worker := range 12 {
		all.Go(func() {
			for i := range 20 {
				if worker%2 == 0 {
					w.must(t, fmt.Sprintf("INSERT INTO many VALUES (%d, %d)", worker, i))
				} else if got := w.must(t, "SELECT sum(number) FROM numbers(1000)", "readonly=1"); got != "499500" {
					t.Errorf("got %q", got)
				}
			}
		})
	}
	all.Wait()
	if got := w.must(t, "SELECT count() FROM many"); got != "120" {
		t.Errorf("%s rows", got)
	}
}

func TestLargeAnswersStreamInBoundedMemory(t *testing.T) {
	t.Parallel()
	w := setup(t)
	before := rss(t, w.PID())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine/?readonly=1", strings.NewReader("SELECT number, randomPrintableASCII(200) FROM numbers(4000000) FORMAT RowBinary"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if err != nil || n != 4000000*(8+2+200) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if grown := rss(t, w.PID()) - before; grown > 300<<20 {
		t.Errorf("grew by %d MB for an answer of %d MB", grown>>20, n>>20)
	}
	t.Logf("resident before %d MB, after %d MB, answer %d MB", before>>20, rss(t, w.PID())>>20, n>>20)
}

func TestSupervisor(t *testing.T) {
	t.Parallel()

	t.Run("RestartsWhatWasKilledAndKeepsTheData", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.must(t, "CREATE TABLE kept (a UInt64) ENGINE=MergeTree ORDER BY a")
		w.must(t, "INSERT INTO kept VALUES (7)")
		old := w.PID()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return w.PID() != old && w.Ready() })
		if got := w.must(t, "SELECT a FROM kept"); got != "7" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("EndsAndRestartsWhatHangsAndKeepsTheData", func(t *testing.T) {
		t.Parallel()
		w := setup(t, impatient, func(o *engine.SupervisorOptions) { o.HangTime = 3 * time.Second })
		w.must(t, "CREATE TABLE kept (a UInt64) ENGINE=MergeTree ORDER BY a")
		w.must(t, "INSERT INTO kept VALUES (7)")
		old := w.PID()
		enginetest.Halt(t, old)
		waitFor(t, func() bool { return w.Silent() > 0 || w.PID() != old })
		waitFor(t, func() bool {
			pid, silent := w.PID(), w.Silent()
			if pid != 0 && pid != old && !w.Ready() && silent != 0 { // nobody has asked it before it is ready
				t.Errorf("the new one is said to be silent for %s", silent)
			}
			return pid != old && w.Ready()
		})
		if got := w.must(t, "SELECT a FROM kept"); got != "7" {
			t.Errorf("got %q", got)
		}
		waitFor(t, func() bool { return w.Silent() == 0 })
	})
	t.Run("IsRenewedWithAStatementThatNothingEnds", func(t *testing.T) {
		t.Parallel()
		w := setup(t, impatient, func(o *engine.SupervisorOptions) { o.StopTime = 100 * time.Millisecond })
		old := w.PID()
		broke := make(chan error, 1)
		go func() { // ends with the engine
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine/", strings.NewReader("SELECT editDistance(repeat('a', 65000), repeat('b', 65000) || toString(number)) FROM numbers(100)"))
			if err == nil {
				var answer *http.Response
				if answer, err = w.client.Do(req); err == nil {
					answer.Body.Close()
				}
			}
			broke <- err
		}()
		waitFor(t, func() bool {
			return w.must(t, "SELECT count() FROM system.processes WHERE query LIKE '%editDistance%' AND query NOT LIKE '%processes%'") != "0"
		})
		w.Renew()
		if err := <-broke; err == nil {
			t.Error("it was answered")
		}
		waitFor(t, func() bool { return w.PID() != old && w.Ready() })
		if got := w.must(t, "SELECT count() FROM system.processes WHERE query LIKE '%editDistance%' AND query NOT LIKE '%processes%'"); got != "0" {
			t.Errorf("%s of them work", got)
		}
	})
	t.Run("AShortStopIsSurvived", func(t *testing.T) {
		t.Parallel()
		w := setup(t, impatient)
		old := w.PID()
		enginetest.Halt(t, old)
		waitFor(t, func() bool { return w.Silent() > 0 })
		enginetest.Continue(t, old)
		waitFor(t, func() bool { return w.Silent() == 0 })
		if w.PID() != old || w.must(t, "SELECT 1") != "1" {
			t.Errorf("process %d has become %d", old, w.PID())
		}
	})
	t.Run("WhatUsesTheProcessorIsGivenMoreTime", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			silent, used time.Duration
			hangs        bool
		}{
			{55 * time.Second, 0, false},
			{time.Minute, 0, true},
			{time.Minute, 2 * time.Second, true}, // what an idle one uses
			{time.Minute, 10 * time.Second, false},
			{295 * time.Second, 10 * time.Minute, false},
			{5 * time.Minute, 10 * time.Minute, true},
		} {
			if got := engine.Hangs(c.silent, c.used, time.Minute); got != c.hangs {
				t.Errorf("no answer for %s, %s of the processor: hangs is %t", c.silent, c.used, got)
			}
		}
	})
	t.Run("StandsBackBehindTheScheduler", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.must(t, "CREATE TABLE merged (a UInt64) ENGINE=MergeTree ORDER BY a")
		niceness := func(stat string) int {
			_, fields, _ := strings.Cut(stat, ") ")
			n, err := strconv.Atoi(strings.Fields(fields)[16])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		own, err := os.ReadFile("/proc/self/stat")
		if err != nil {
			t.Fatal(err)
		}
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", w.PID()))
		if err != nil || len(stats) == 0 {
			t.Fatalf("%d threads, %v", len(stats), err)
		}
		merging := 0
		for _, name := range stats {
			stat, err := os.ReadFile(name)
			if err != nil {
				continue // the thread has ended
			}
			comm, _, _ := strings.Cut(string(stat), ") ")
			if strings.HasSuffix(comm, "(MemoryWorker") {
				continue // ClickHouse hurries this one itself
			}
			if nice, want := niceness(string(stat)), min(niceness(string(own))+5, 19); nice != want {
				t.Errorf("thread %s) has niceness %d, not %d", comm, nice, want)
			}
			if strings.HasSuffix(comm, "(MergeMutate") {
				merging++
			}
		}
		if merging == 0 {
			t.Error("no thread that merges was found")
		}
	})
	t.Run("StopLeavesNoProcess", func(t *testing.T) {
		t.Parallel()
		w := setup(t, func(o *engine.SupervisorOptions) { o.StopTime = time.Hour }) // after which it is killed
		pid := w.PID()
		w.client.CloseIdleConnections()
		began := time.Now()
		if err := w.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("an idle engine took %s to stop", took)
		}
		if err := syscall.Kill(pid, 0); err == nil {
			t.Error("still there")
		}
		if w.PID() != 0 {
			t.Error("still named")
		}
	})
	t.Run("StopDuringAQuery", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		done := make(chan int, 1)
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine/", strings.NewReader("SELECT max(sipHash64(number)) FROM numbers(100000000000)"))
			answer, err := w.client.Do(req)
			if err != nil {
				done <- 0
				return
			}
			answer.Body.Close()
			done <- answer.StatusCode
		}()
		waitFor(t, func() bool {
			return w.must(t, "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(number)) FROM%' AND query NOT LIKE '%processes%'") == "1"
		})
		if err := w.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if status := <-done; status == http.StatusOK {
			t.Error("the query succeeded")
		}
	})
	t.Run("EngineDiesWithItsServerByKill9", func(t *testing.T) {
		t.Parallel()
		run, err := os.MkdirTemp("", "gnomon-engine-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(run)
		server := exec.Command(os.Args[0], "supervise", filepath.Join(t.TempDir(), "clickhouse"), filepath.Join(run, "s"))
		out, err := server.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscan(out, &pid); err != nil {
			t.Fatal(err)
		}
		if err := server.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = server.Wait()
		// The orphan's new parent may be slow to reap it: a zombie runs no more.
		waitFor(t, func() bool {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(text), ") Z ")
		})
	})
	t.Run("SecondProcessOnTheFolderIsRefused", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		first := newWorld(t, dir)
		if err := first.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := newWorld(t, dir).Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "another process uses") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("DamagedOrForeignFoldersAreRefusedWithWhatToDo", func(t *testing.T) {
		t.Parallel()
		foreign := t.TempDir()
		if err := os.MkdirAll(filepath.Join(foreign, "clickhouse", "photos"), 0o755); err != nil {
			t.Fatal(err)
		}
		err := newWorld(t, foreign).Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "not a data folder of Gnomon's engine") {
			t.Errorf("foreign: got %v", err)
		}
		dir := t.TempDir()
		w := newWorld(t, dir)
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.must(t, "CREATE TABLE hurt (a UInt64) ENGINE=MergeTree ORDER BY a")
		w.client.CloseIdleConnections()
		if err := w.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		var hurt int
		_ = filepath.Walk(w.dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && strings.HasSuffix(path, "hurt.sql") && info.Mode().IsRegular() {
				hurt++
				return os.WriteFile(path, []byte("\x00\x01garbage"), 0o600)
			}
			return nil
		})
		if hurt == 0 {
			t.Fatal("found nothing to damage")
		}
		err = newWorld(t, dir).Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("damaged: got %v", err)
		}
	})
	t.Run("MissingLibraryIsOneClearError", func(t *testing.T) {
		t.Parallel()
		err := newWorld(t, t.TempDir(), func(o *engine.SupervisorOptions) { o.Library = "/nonexistent/libchdb.so" }).Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "/nonexistent/libchdb.so") || core.KindOf(err) != core.KindUnavailable {
			t.Errorf("got %v", err)
		}
	})
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("waited a minute")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func rss(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(rest, "kB")))
			return kb << 10
		}
	}
	return 0
}

// impatient has the engine looked at often.
func impatient(o *engine.SupervisorOptions) {
	o.LookEvery, o.StopTime = 100*time.Millisecond, 100*time.Millisecond
}
