package api_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func TestAWholeLogIsSpoolAndHistoryInOneOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.live("r1")
	w.history.lines = append(spoken("r1", 1, 1, 700), spoken("r1", 2, 1, 3)...) // more than the first page
	w.spool.say("r1", 2, 2, 5)
	a := w.must(200, w.do(w.admin, "GET", "/v1/runs/r1/log", ""))
	lines := strings.Split(strings.TrimSuffix(a.raw, "\n"), "\n")
	if len(lines) != 705 || lines[0] != "2026-12-01T00:00:00.000000Z info  stdout: line" && lines[0] != "2026-12-01T00:00:00.000000Z info  line" {
		t.Errorf("%d lines, the first %q", len(lines), lines[0])
	}
	if last := lines[704]; last != "2026-12-01T00:00:00.000000Z info  #2 line" || lines[702] != "2026-12-01T00:00:00.000000Z error #2 line" {
		t.Errorf("%q, %q", lines[702], last)
	}
	if a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Error(a.header)
	}
	a = w.must(200, w.do(w.admin, "GET", "/v1/runs/r1/log?attempt=2&level=error&file=r1.ndjson", "", "Accept", "application/x-ndjson"))
	if want := `{"attempt":2,"seq":3,"at":"2026-12-01T00:00:00.000000Z","level":"error","stream":"log","message":"line"}` + "\n"; a.raw != want || a.header.Get("Content-Disposition") != "attachment; filename=r1.ndjson" {
		t.Errorf("%q %v", a.raw, a.header)
	}
}

func TestALogAsTextIsHarmlessAndOneLineIsFoundAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.live("r1")
	w.history.lines = []core.LoggedLine{{Origin: &core.Origin{RunID: "r1", Attempt: 1}, LogLine: core.LogLine{
		At: time.Unix(1796083200, 5000), Level: core.LevelWarn, Stream: core.StreamStderr, Seq: 1, Message: "first\nsecond\x1b[31m",
		Attrs: []core.Attr{{Key: "z", Value: "2"}, {Key: "a", Value: "x y\n"}},
	}}}
	a := w.must(200, w.do(w.admin, "GET", "/v1/runs/r1/log", ""))
	if want := "2026-12-01T00:00:00.000005Z warn  stderr: first\n    second␛[31m a=\"x y\\n\" z=\"2\"\n"; a.raw != want {
		t.Errorf("%q", a.raw)
	}
}

func TestALogIsPackedForWhoTakesIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.live("r1")
	w.history.lines = spoken("r1", 1, 1, 5000)
	for accept, packed := range map[string]bool{"gzip, br": true, "br;q=1, *;q=0.1": true, "gzip;q=0": false, "identity": false} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/runs/r1/log", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.admin)
		req.Header.Set("Accept-Encoding", accept)
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := io.Reader(resp.Body)
		if got := resp.Header.Get("Content-Encoding") == "gzip"; got != packed {
			t.Errorf("%s: packed %v", accept, got)
		}
		if packed {
			if body, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		text, err := io.ReadAll(body)
		if _, rest := io.Copy(io.Discard, resp.Body); err != nil || rest != nil || strings.Count(string(text), "\n") != 5000 || resp.Trailer.Get("X-Gnomon-Lines") != "5000" {
			t.Errorf("%s: %d bytes %v %v %v", accept, len(text), err, rest, resp.Trailer)
		}
		_ = resp.Body.Close()
	}
}

func TestALogThatCannotBeReadIsNoLog(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.live("r1")
	w.history.lines = spoken("r1", 1, 1, 10)
	w.history.down = true
	w.must(503, w.do(w.admin, "GET", "/v1/runs/r1/log", ""))
	w.history.down = false
	w.history.breakAfter = 4
	w.history.lines = spoken("r1", 1, 1, 30_000)
	for _, encoding := range []string{"identity", "gzip"} {
		w.history.asked = 0
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/runs/r1/log", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.admin)
		req.Header.Set("Accept-Encoding", encoding)
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if _ = resp.Body.Close(); err == nil && resp.StatusCode == http.StatusOK {
			t.Errorf("%s: %d bytes look whole", encoding, len(text))
		}
	}
}
