//go:build linux

package main_test

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// TestRunsAreTraced starts a real server beside a collector and finds a run's fire, queue and attempt there.
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
	w := newWorld(t)
	w.env = append(w.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL)
	w.start("--no-context")
	w.namespace("Bench")
	task := w.task("Bench", "traced", api.TaskInput{Type: "Bench.NoOp", Schedule: api.Schedule{Spec: "@manual"}})
	var run struct{ ID string }
	w.must("POST", "/v1/tasks/"+task.ID+"/run", nil, &run)
	w.until(30*time.Second, "the run's spans have come", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == 3
	})
	_ = w.interrupt()
	mu.Lock()
	defer mu.Unlock()
	fire, queue, attempt := seen["fire Bench/traced"], seen["queue"], seen["attempt Bench.NoOp"]
	for name, s := range seen {
		if s.trace != strings.ReplaceAll(run.ID, "-", "") {
			t.Errorf("%s of run %s is in trace %s", name, run.ID, s.trace)
		}
	}
	if fire.parent != "" || queue.parent != fire.id || attempt.parent != fire.id || fire.id == "" || fire.outcome != "succeeded" || attempt.outcome != "succeeded" {
		t.Errorf("%+v", seen)
	}
}
