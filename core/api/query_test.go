package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

func TestQueryAnswersInFourForms(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const body = `{"sql":"SELECT n, at, text FROM t WHERE ns = {ns:String}","params":{"ns":"Common"}}`
	for accept, want := range map[string]string{
		"application/json": `{"columns":[{"name":"n","type":"UInt64"},{"name":"at","type":"DateTime64(6, 'UTC')"},{"name":"text","type":"Nullable(String)"}],` +
			`"rows":[[0,"2026-12-01T00:00:00.000005Z","é, \"q\"\n"],[1,"2026-12-01T00:00:00.000005Z",null],[2,"2026-12-01T00:00:00.000005Z",null]],"more":false}` + "\n",
		"application/x-ndjson": `{"n":0,"at":"2026-12-01T00:00:00.000005Z","text":"é, \"q\"\n"}` + "\n" +
			`{"n":1,"at":"2026-12-01T00:00:00.000005Z","text":null}` + "\n" + `{"n":2,"at":"2026-12-01T00:00:00.000005Z","text":null}` + "\n",
		"text/csv": "n,at,text\n0,2026-12-01T00:00:00.000005Z,\"é, \"\"q\"\"\n\"\n1,2026-12-01T00:00:00.000005Z,\n2,2026-12-01T00:00:00.000005Z,\n",
		"text/tab-separated-values": "n\tat\ttext\n0\t2026-12-01T00:00:00.000005Z\t\"é, \"\"q\"\"\n\"\n" +
			"1\t2026-12-01T00:00:00.000005Z\t\n2\t2026-12-01T00:00:00.000005Z\t\n",
	} {
		a := w.must(200, w.do(w.admin, "POST", "/v1/query", body, "Accept", accept))
		if a.raw != want || a.header.Get("Content-Type") != accept {
			t.Errorf("%s %s:\n%s\ninstead of\n%s", accept, a.header.Get("Content-Type"), a.raw, want)
		}
	}
	a := w.must(200, w.do(w.admin, "POST", "/v1/query", `{"sql":"SELECT 1","max_rows":2}`))
	if rows, _ := a.body["rows"].([]any); len(rows) != 2 || a.body["more"] != true {
		t.Error(a.raw)
	}
	// What fails while it is still buffered is a problem, not a broken answer.
	if a = w.must(503, w.do(w.admin, "POST", "/v1/query", `{"sql":"early"}`)); a.header.Get("Content-Type") != "application/problem+json" {
		t.Error(a.raw)
	}
	if a = w.must(422, w.do(w.admin, "POST", "/v1/query", `{"sql":"SELEC"}`)); a.problem()["body.sql"] != "syntax error at position 1" {
		t.Error(a.raw)
	}
}

func TestClickHousesOwnWordsAreShortened(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.must(422, w.do(w.admin, "POST", "/v1/query", `{"sql":"wordy"}`))
	if m := a.problem()["body.sql"]; m != "Syntax error: failed at position 1 (SELEC). Expected one of: a, b, c, d, e, f, …" {
		t.Errorf("%q", m)
	}
}

func TestAParameterMayBeNull(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if a := w.must(200, w.do(w.admin, "POST", "/v1/query", `{"sql":"params","params":{"a":null,"b":"x"}}`)); !strings.Contains(a.raw, `"rows":[["NULL","x"]]`) {
		t.Error(a.raw)
	}
	w.must(422, w.do(w.admin, "POST", "/v1/query", `{"sql":"params","params":{"a":1}}`))
}

// An answer that breaks in the middle must not look whole in any form.
func TestQueryThatBreaksIsCutOff(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, accept := range []string{"application/json", "application/x-ndjson", "text/csv"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/query", strings.NewReader(`{"sql":"broken"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.admin)
		req.Header.Set("Accept", accept)
		resp, err := w.client.Do(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s looks whole", accept)
		}
	}
}

// Why an answer breaks off is its last line, so that nobody has to look into the server's log.
func TestQueryThatBreaksSaysWhy(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const id = "0198c0de-0000-7000-8000-000000000001"
	for accept, before := range map[string]string{"application/json": ",[1]\n", "application/x-ndjson": "{\"n\":1}\n", "text/csv": "\n1\n", "text/tab-separated-values": "\n1\n", parquet: "PAR1\n"} {
		for lang, want := range map[string]string{"en": "the statement takes too long", "zh": "语句的执行时间太长"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/query", strings.NewReader(`{"sql":"stopped","id":"`+id+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+w.admin)
			req.Header.Set("Accept", accept)
			req.Header.Set("Accept-Language", lang)
			resp, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			rows, end, _ := strings.Cut(string(raw), api.QueryEndMark(id))
			var why struct {
				Error api.Problem `json:"error"`
			}
			if bad := json.Unmarshal([]byte("{"+strings.TrimPrefix(end, ",")), &why); bad != nil || err == nil || !strings.HasSuffix(rows, before) || why.Error.Kind != "exhausted" || len(why.Error.Errors) != 1 || why.Error.Errors[0].Message != want {
				t.Errorf("%s %s: %v %v %q %+v", accept, lang, err, bad, rows[max(0, len(rows)-40):], why)
			}
		}
	}
}

// A row does not wait for so many others that a buffer is full.
func TestARowLeavesThoughTheNextIsLongInComing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for accept, want := range map[string]string{
		"application/json": `{"columns":[{"name":"n","type":"UInt64"}],"rows":[[7]`, "application/x-ndjson": `{"n":7}` + "\n", "text/csv": "n\n7\n",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/query", strings.NewReader(`{"sql":"slow"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.admin)
		req.Header.Set("Accept", accept)
		resp, err := w.client.Do(req) // the answer begins, though the statement does not end
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", accept, got, err)
		}
		_ = resp.Body.Close()
	}
}

// Statements of the API stand in the same line as those of ClickHouse's clients.
func TestAQueryTakesAPlaceAndGivesItBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	analyst := w.named("li", access.Analyst, "Common")
	w.must(200, w.do(analyst, "POST", "/v1/query", `{"sql":"SELECT 1"}`))
	if id := w.history.abandoned.Load(); id != nil {
		t.Errorf("the end of %v is waited for, which has ended", id)
	}
	for sql, status := range map[string]int{"SELECT 1": 200, "SELEC": 422, "early": 503} {
		w.must(status, w.do(analyst, "POST", "/v1/query", `{"sql":"`+sql+`"}`))
	}
	w.must(200, w.do(analyst, "POST", "/v1/query", `{"sql":"cells"}`, "Accept", xlsx))
	w.history.full.Store(true)
	for lang, want := range map[string]string{"en": "li may have 4 at once and has 4", "zh": "li 最多 4 条，现有 4 条"} {
		a := w.must(429, w.do(analyst, "POST", "/v1/query", `{"sql":"SELECT 1"}`, "Accept-Language", lang))
		if a.body["detail"] != want || a.body["kind"] != "exhausted" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s %v", a.raw, a.header)
		}
	}
	if got := w.must(200, w.do(analyst, "GET", "/v1/queries", "")).body["items"].([]any); len(got) != 0 {
		t.Errorf("one without a place is still listed: %v", got)
	}
	if n := w.history.taken.Load(); n != 0 {
		t.Errorf("%d places were not given back", n)
	}
}
