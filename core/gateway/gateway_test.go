package gateway_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/compress"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/gateway"
)

// get sends a request as it is made by change.
func (w *world) get(path string, change func(*http.Request)) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, strings.TrimSuffix(w.url, "/")+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(raw), resp.Header}
}

func TestProtocol(t *testing.T) {
	t.Parallel()
	w := setup(t, gateway.Limits{MaxDuration: 20 * time.Second, MaxMemory: 200 << 20, PerPrincipal: 2, Overall: 3, Patience: 300 * time.Millisecond})

	t.Run("TheTokenIsThePasswordWhereverClientsPutIt", func(t *testing.T) {
		for name, change := range map[string]func(*http.Request){
			"basic": func(r *http.Request) { r.SetBasicAuth("default", "some") },
			"headers": func(r *http.Request) {
				r.Header.Set("X-ClickHouse-User", "u")
				r.Header.Set("X-ClickHouse-Key", "some")
			},
			"bearer":    func(r *http.Request) { r.Header.Set("Authorization", "Bearer some") },
			"parameter": func(r *http.Request) { r.URL.RawQuery += "&user=u&password=some" },
		} {
			if a := w.get("/?query=SELECT+1", change); a.status != 200 || a.body != "1\n" {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
		for change, want := range map[string]int{"": 401, "wrong": 403, "nothing": 403} {
			a := w.get("/?query=SELECT+1", func(r *http.Request) {
				if change != "" {
					r.SetBasicAuth("x", change)
				}
			})
			if a.status != want || !strings.HasPrefix(a.body, "Code: ") || a.header.Get("X-ClickHouse-Exception-Code") == "" {
				t.Errorf("%q: %d %s", change, a.status, a.body)
			}
		}
		for _, path := range []string{"/ping", "/"} {
			if a := w.get(path, nil); a.body != "Ok.\n" {
				t.Errorf("%s: %s", path, a.body)
			}
		}
		if a := w.get("/other", nil); a.status != 404 {
			t.Error(a.status)
		}
	})
	t.Run("EveryQuestionIsInTheAuditFirst", func(t *testing.T) {
		w.mu.Lock()
		acts := len(w.acts)
		w.mu.Unlock()
		w.must("some", "SELECT 1", "query_id=q1")
		w.ask("nothing", "SELECT 1")
		w.mu.Lock()
		kept := w.acts[acts:]
		w.fail = core.Errorf(core.KindUnavailable, "write the audit file", "no space left")
		w.mu.Unlock()
		if len(kept) != 2 || kept[0].Principal != "li" || !kept[0].Allowed || kept[0].RequestID != "q1" || kept[1].Principal != "wang" || kept[1].Allowed {
			t.Errorf("%+v", kept)
		}
		a := w.ask("some", "SELECT 1")
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		if a.status != 503 || strings.Contains(a.body, "space") {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("StatementsComeByUrlBodyAndBoth", func(t *testing.T) {
		if got := w.must("some", " + 1", "query=SELECT 1"); got != "2" {
			t.Error(got)
		}
		if got := w.must("some", "SELECT {n:UInt8} + 1 AS n, {s:String} AS s, {d:DateTime64(3, 'UTC')} FORMAT JSONCompactEachRow", "param_n=4", "param_s=中文'\\t", "param_d=2026-11-01 00:00:00.5"); got != `[5, "中文'\t", "2026-11-01 00:00:00.500"]` {
			t.Error(got)
		}
		if got := w.must("some", "SELECT 1 AS a", "default_format=CSVWithNames"); got != "\"a\"\n1" {
			t.Error(got)
		}
		if got := w.must("some", "SELECT toInt64(1) AS a", "default_format=JSONEachRow", "output_format_json_quote_64bit_integers=1", "session_id=s", "session_timeout=60", "database=default"); got != `{"a":"1"}` {
			t.Error(got)
		}
		if a := w.ask("some", "SELECT 1", "database=system"); a.status != 404 || a.header.Get("X-ClickHouse-Exception-Code") != "81" {
			t.Error(a)
		}
		if a := w.ask("some", " "); a.header.Get("X-ClickHouse-Exception-Code") != "62" {
			t.Error(a)
		}
		if a := w.ask("some", "SELECT '"+strings.Repeat("x", 300<<10)+"'"); a.status != 413 || a.header.Get("X-ClickHouse-Exception-Code") != "168" {
			t.Error(a.status, a.header)
		}
	})
	t.Run("ErrorsAreClickHousesOwn", func(t *testing.T) {
		a := w.ask("some", "SELECT 1 FORM runs")
		if a.status != 400 || a.header.Get("X-ClickHouse-Exception-Code") != "62" || !strings.Contains(a.body, "failed at position 15 (runs)") {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a = w.ask("some", "SELECT nothing FROM runs"); a.header.Get("X-ClickHouse-Exception-Code") != "47" {
			t.Error(a)
		}
		if a = w.ask("some", "INSERT INTO runs (run_id) VALUES ('x')"); a.status < 400 {
			t.Error(a)
		}
		if a = w.ask("some", "SELECT throwIf(number = 99000, 'late') FROM numbers(100000)"); !strings.Contains(a.body, "late") {
			t.Error(len(a.body))
		}
	})
	t.Run("SettingsThatDoMoreAreRefused", func(t *testing.T) {
		for _, setting := range []string{"query_cache_tag=*", "role=gnomon_owner", "additional_table_filters={}", "output_format_schema=/tmp/x", "output_format_pretty_squash_consecutive_ms=18446744073709551615", "output_format_pretty_squash_max_wait_ms=1", "format_schema=/tmp/x", "allow_introspection_functions=1", "max_rows_to_read=1"} {
			if a := w.ask("some", "SELECT 1", setting); a.status != 403 || a.header.Get("X-ClickHouse-Exception-Code") != "164" {
				t.Errorf("%s: %d %s", setting, a.status, a.body)
			}
		}
		got := w.must("some", "SELECT getSetting('max_execution_time'), getSetting('max_memory_usage'), getSetting('readonly'), getSetting('final')",
			"max_execution_time=900", "max_memory_usage=0", "readonly=0")
		if got != "20\t209715200\t1\ttrue" && got != "20\t209715200\t1\t1" {
			t.Error(got)
		}
		if got = w.must("some", "SELECT getSetting('max_block_size')", "max_block_size=100000000"); got != "65409" {
			t.Error(got)
		}
		if got = w.must("some", "SELECT getSetting('max_execution_time')", "max_execution_time=3"); got != "3" {
			t.Error(got)
		}
	})
	t.Run("LimitsHold", func(t *testing.T) {
		for want, ask := range map[string][]string{
			"159": {"SELECT max(sipHash64(number)) FROM numbers(100000000000)", "max_execution_time=0.3"},
			"241": {"SELECT length(groupArray(number)) FROM numbers(100000000)"},
			"396": {"SELECT number FROM numbers(1000)", "max_result_rows=10"},
		} {
			if a := w.ask("some", ask[0], ask[1:]...); a.header.Get("X-ClickHouse-Exception-Code") != want {
				t.Errorf("%s: %v %.300s", want, a.header, a.body)
			}
		}
	})
	t.Run("CompressionAsAsked", func(t *testing.T) {
		const sql = "SELECT number, 'text' FROM numbers(50000)"
		plain := w.must("some", sql)
		a := w.ask("some", sql, "compress=1")
		framed, err := io.ReadAll(compress.NewReader(strings.NewReader(a.body)))
		if !errors.Is(err, io.EOF) || // how ch-go says that no frame follows
			strings.TrimSuffix(string(framed), "\n") != plain || len(a.body) > len(plain)/2 {
			t.Errorf("%v %d of %d", err, len(framed), len(plain))
		}
		zipped := w.get("/?enable_http_compression=1&query="+strings.ReplaceAll(sql, " ", "+"), func(r *http.Request) {
			r.SetBasicAuth("", "some")
			r.Header.Set("Accept-Encoding", "br, gzip;q=0.8")
		})
		reader, err := gzip.NewReader(strings.NewReader(zipped.body))
		if err != nil || zipped.header.Get("Content-Encoding") != "gzip" {
			t.Fatal(err, zipped.header)
		}
		if text, err := io.ReadAll(reader); err != nil || strings.TrimSuffix(string(text), "\n") != plain {
			t.Error(err, len(text))
		}
		if a := w.ask("some", "SELECT x", "compress=1"); a.status == 200 || !strings.Contains(a.body, "UNKNOWN_IDENTIFIER") {
			t.Error(a)
		}
		// And the statement itself, by gzip or by ClickHouse's frames.
		var body bytes.Buffer
		zip := gzip.NewWriter(&body)
		_, _ = zip.Write([]byte("SELECT 42"))
		_ = zip.Close()
		frames := compress.NewWriter(compress.LevelZero, compress.LZ4)
		if err := frames.Compress([]byte("SELECT 42")); err != nil {
			t.Fatal(err)
		}
		packed := compress.NewWriter(compress.LevelZero, compress.ZSTD)
		if err := packed.Compress([]byte("SELECT 42")); err != nil {
			t.Fatal(err)
		}
		post := func(encoding string, text []byte) answer {
			return w.get("/?decompress="+map[string]string{"": "1"}[encoding], func(r *http.Request) {
				r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(bytes.NewReader(text)), int64(len(text))
				r.SetBasicAuth("", "some")
				if encoding != "" {
					r.Header.Set("Content-Encoding", encoding)
				}
			})
		}
		for name, text := range map[string][]byte{"gzip": body.Bytes(), "lz4": frames.Data, "zstd": packed.Data} {
			if a := post(map[string]string{"gzip": "gzip"}[name], text); a.body != "42\n" {
				t.Errorf("%q: %s", name, a.body)
			}
		}
	})
	t.Run("AnotherStatementThanMayBeAtOnceIsToldSo", func(t *testing.T) {
		w.free()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		const slow = "SELECT count() FROM numbers(100000000000) WHERE NOT ignore(number)"
		ended := make(chan error, 2)
		for range 2 {
			go func() { // ends with ctx
				_, err := w.try(ctx, "some", slow)
				ended <- err
			}()
		}
		for w.owner("SELECT count() FROM system.processes WHERE query LIKE '%100000000000%' AND query NOT LIKE '%processes%'") != "2" {
			if t.Context().Err() != nil {
				t.Fatal("the statements do not run")
			}
		}
		if a := w.ask("some", "SELECT 1"); a.status != 503 || a.header.Get("X-ClickHouse-Exception-Code") != "202" || !strings.Contains(a.body, "li may have 2") ||
			!strings.Contains(a.body, "and has 2, all together may have 3 and have 2") || !strings.Contains(a.body, "现有 2 条") || a.header.Get("Retry-After") == "" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if got := w.must("all", "SELECT 1"); got != "1" {
			t.Errorf("another principal: %s", got)
		}
		// When the clients go, the engine stops.
		cancel()
		<-ended
		<-ended
		for w.owner("SELECT count() FROM system.processes WHERE query LIKE '%100000000000%' AND query NOT LIKE '%processes%'") != "0" {
			if t.Context().Err() != nil {
				t.Fatal("the statements go on")
			}
		}
	})
	t.Run("AStatementIsKnownWhileItWaitsAndRunsAndMayBeCancelled", func(t *testing.T) {
		w.free()
		const slow = "SELECT count() FROM numbers(200000000000) WHERE NOT ignore(number)"
		inEngine := func() string {
			return w.owner("SELECT count() FROM system.processes WHERE query LIKE '%200000000000%' AND query NOT LIKE '%processes%'")
		}
		ended := make(map[string]chan answer)
		for _, id := range []string{"first", "second"} {
			ended[id] = make(chan answer, 1)
			go func() { // ends when the statement is cancelled
				a, err := w.try(t.Context(), "some", slow, "query_id="+id)
				if err != nil {
					t.Error(err)
				}
				ended[id] <- a
			}()
		}
		for inEngine() != "2" {
			if t.Context().Err() != nil {
				t.Fatal("the statements do not run")
			}
		}
		running := w.runs()
		if first := running["first"]; len(running) != 2 || first.SQL != slow || first.Principal != "li" {
			t.Fatalf("%+v", running)
		}
		if a := w.ask("all", "SELECT 1", "query_id=second"); a.status != 409 || a.header.Get("X-ClickHouse-Exception-Code") != "216" {
			t.Errorf("the same id again: %d %s", a.status, a.body)
		}
		// One that waits for a place is known as well, and its waiting can be ended.
		waits := make(chan answer, 1)
		go func() { // ends when the statement is cancelled, or its patience ends
			for a := (answer{}); ; {
				if a = w.ask("some", "SELECT 3", "query_id=waits"); a.header.Get("X-ClickHouse-Exception-Code") == "202" {
					continue // its patience ended before it was cancelled
				}
				waits <- a
				return
			}
		}()
		cancel := func(id string) {
			for t.Context().Err() == nil {
				if r, known := w.runs()[id]; known {
					r.cancel(stopped("wang"))
					return
				}
			}
		}
		ended["waits"] = waits
		for _, id := range []string{"waits", "first"} {
			cancel(id)
			var a answer
			for got := false; !got; {
				select {
				case a, got = <-ended[id]:
				case <-time.After(time.Second):
					if _, again := w.runs()["waits"]; again { // its patience ended as it was cancelled
						cancel("waits")
					}
				}
			}
			if a.status != 500 || a.header.Get("X-ClickHouse-Exception-Code") != "394" || !strings.Contains(a.body, "cancelled by wang") {
				t.Errorf("%s: %d %s", id, a.status, a.body)
			}
		}
		for inEngine() != "1" {
			if t.Context().Err() != nil {
				t.Fatal("the statement goes on")
			}
		}
		cancel("second")
		<-ended["second"]
		if left := w.runs(); len(left) != 0 {
			t.Errorf("still there: %+v", left)
		}
		// Cancelled in the middle of its rows it does not look whole.
		w.free()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"?query_id=rows", strings.NewReader("SELECT repeat('x', 1000) FROM numbers(100000000)"))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("", "some")
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if _, err := io.ReadFull(resp.Body, make([]byte, 5<<20)); err != nil {
			t.Fatal(err)
		}
		cancel("rows")
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("half an answer looks whole")
		}
	})
	t.Run("AClientThatReadsNothingHoldsNoPlace", func(t *testing.T) {
		slow := setup(t, gateway.Limits{PerPrincipal: 1, Patience: 20 * time.Second, WriteTime: 200 * time.Millisecond})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, slow.url, strings.NewReader("SELECT repeat('x', 1000) FROM numbers(10000000)"))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("", "some")
		resp, err := slow.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		// It is cut off, and the next statement gets the place.
		if got := slow.must("some", "SELECT 1"); got != "1" {
			t.Error(got)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("half an answer looks whole")
		}
	})
	t.Run("ABrokenAnswerDoesNotLookWhole", func(t *testing.T) {
		w.free()
		a := w.ask("some", "SELECT throwIf(number = 3000000, 'late') FROM numbers(4000000)", "max_block_size=65536")
		tag := a.header.Get("X-ClickHouse-Exception-Tag")
		if a.status != 200 || tag == "" || !strings.Contains(a.body, "__exception__\r\n"+tag) || !strings.Contains(a.body, "late") {
			t.Errorf("%d, %d bytes, ends with %q", a.status, len(a.body), a.body[max(0, len(a.body)-300):])
		}
	})
	t.Run("SummaryOnlyForThoseWhoSeeAll", func(t *testing.T) {
		w.free()
		if a := w.ask("all", "SELECT count() FROM runs", "default_format=JSON"); !strings.Contains(a.header.Get("X-ClickHouse-Summary"), "read_rows") || !strings.Contains(a.body, "rows_read") {
			t.Error(a)
		}
		if a := w.ask("some", "SELECT count() FROM runs", "default_format=JSON"); a.header.Get("X-ClickHouse-Summary") != "" || strings.Contains(a.body, "rows_read") {
			t.Error(a)
		}
	})
}

// TestAFrameThatLiesIsNotDecoded: one that says less than it holds, more than there may be, or more than there is. It is not
// parallel: it watches what the process takes.
func TestAFrameThatLiesIsNotDecoded(t *testing.T) { //nolint:paralleltest // see above
	w := setup(t, gateway.Limits{})
	frame := func(method compress.Method, text []byte) []byte {
		packed := compress.NewWriter(compress.LevelZero, method)
		if err := packed.Compress(text); err != nil {
			t.Fatal(err)
		}
		return packed.Data
	}
	bomb, honest := frame(compress.ZSTD, bytes.Repeat([]byte{' '}, 64<<20)), frame(compress.LZ4, []byte("SELECT 42"))
	lying, long, short := bytes.Clone(bomb), bytes.Clone(honest), honest[:len(honest)-3]
	binary.LittleEndian.PutUint32(lying[21:], 1)
	binary.LittleEndian.PutUint32(long[17:], 1<<31)
	for name, text := range map[string][]byte{"bomb": bomb, "lying": lying, "long": long, "short": short, "nothing": {1, 2}} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		a := w.get("/?decompress=1", func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(bytes.NewReader(text)), int64(len(text))
			r.SetBasicAuth("", "some")
		})
		runtime.ReadMemStats(&after)
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, "The body ") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 32<<20 {
			t.Errorf("%s took %d bytes", name, took)
		}
	}
}
