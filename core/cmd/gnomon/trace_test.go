//go:build linux

package main_test

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// TestRunsAreTraced starts a real server beside a collector and finds the fire, queue and attempt of a run there, and that what
// a script asked by HTTP was asked as part of its attempt.
func TestRunsAreTraced(t *testing.T) {
	type span struct{ trace, parent, id, outcome string }
	var mu sync.Mutex
	seen := map[string]span{}
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unzipped
		}
		raw, err := io.ReadAll(body)
		var sent v1.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(raw, &sent) != nil {
			t.Errorf("not OTLP: %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, r := range sent.GetResourceSpans() {
			for _, s := range r.GetScopeSpans() {
				for _, one := range s.GetSpans() {
					found := span{trace: hex.EncodeToString(one.GetTraceId()), parent: hex.EncodeToString(one.GetParentSpanId()), id: hex.EncodeToString(one.GetSpanId())}
					for _, a := range one.GetAttributes() {
						if a.GetKey() == "gnomon.outcome" {
							found.outcome = a.GetValue().GetStringValue()
						}
					}
					seen[one.GetName()] = found
				}
			}
		}
	}))
	defer collector.Close()
	asked := make(chan string, 1)
	business := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Header.Get("traceparent") }))
	defer business.Close()
	w := newWorld(t)
	w.env = append(w.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL)
	w.script("Bench/Asks", fmt.Sprintf(`return task { title = { zh = "问", en = "Asks" }, needs = { "http" },
		run = function(ctx) http.get(%q); return { traceparent = ctx.traceparent } end }`, business.URL))
	config := filepath.Join(w.dir, "gnomon.yaml")
	write(t, config, fmt.Sprintf("grants:\n  - namespaces: [Bench]\n    needs: { http: %q }\n", strings.TrimPrefix(business.URL, "http://")))
	w.start("--no-context", "--config", config)
	w.namespace("Bench")
	task := w.task("Bench", "traced", api.TaskInput{Type: "Bench.Asks", Schedule: api.Schedule{Spec: "@manual"}})
	run := w.over(w.now(task, nil))
	w.until(30*time.Second, "the run's spans have come", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == 3
	})
	_ = w.interrupt()
	mu.Lock()
	defer mu.Unlock()
	fire, queue, attempt := seen["fire Bench/traced"], seen["queue"], seen["attempt Bench.Asks"]
	for name, s := range seen {
		if s.trace != strings.ReplaceAll(run.ID, "-", "") {
			t.Errorf("%s of run %s is in trace %s", name, run.ID, s.trace)
		}
	}
	if fire.parent != "" || queue.parent != fire.id || attempt.parent != fire.id || fire.id == "" || fire.outcome != "succeeded" || attempt.outcome != "succeeded" {
		t.Errorf("%+v", seen)
	}
	want := "00-" + attempt.trace + "-" + attempt.id + "-01"
	if len(asked) != 1 {
		t.Fatalf("%d requests of the script, which ended %s %s", len(asked), run.Outcome, run.Output)
	}
	if got := <-asked; got != want || string(run.Output) != `{"traceparent":"`+want+`"}` {
		t.Errorf("the script's request had %q, the script %s; the attempt's span is %s", got, run.Output, want)
	}
}
