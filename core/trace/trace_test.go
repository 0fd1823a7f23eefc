package trace_test

import (
	"compress/gzip"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/trace"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// collector is a receiver of OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	got     []*spans.Span
	service string
	hold    chan struct{} // if not nil, requests wait until it is closed
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.hold != nil {
			<-c.hold
		}
		if err := c.take(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(r *http.Request) error {
	if r.URL.Path != "/v1/traces" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return errors.New("not OTLP: " + r.Method + " " + r.URL.Path)
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		body = unzipped
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var sent v1.ExportTraceServiceRequest
	if err := proto.Unmarshal(raw, &sent); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range sent.GetResourceSpans() {
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				c.service = a.GetValue().GetStringValue()
			}
		}
		for _, s := range r.GetScopeSpans() {
			c.got = append(c.got, s.GetSpans()...)
		}
	}
	return nil
}

// span gives the only span whose name begins so.
func (c *collector) span(t *testing.T, name string) *spans.Span {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var found *spans.Span
	for _, s := range c.got {
		if strings.HasPrefix(s.GetName(), name) {
			if found != nil {
				t.Fatalf("two spans begin with %q", name)
			}
			found = s
		}
	}
	if found == nil {
		t.Fatalf("no span begins with %q", name)
	}
	return found
}

func attr(s *spans.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

func start(t *testing.T, o trace.Options) *trace.Tracer {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	tracer, err := trace.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := tracer.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Stop(t.Context()) })
	return tracer
}

var at = time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC)

func run() core.Run {
	return core.Run{ID: uuid.Must(uuid.NewV7()).String(), Namespace: "Common", TaskName: "keep-alive", TaskType: "Common.KeepAlive", Trigger: core.TriggerSchedule,
		FireAt: at, DecidedAt: at.Add(-time.Second), StartAt: at, Attempt: 1}
}

func ended(r core.Run, number int, from, to time.Duration, verdict core.Verdict, message string) core.AttemptRecord {
	return core.AttemptRecord{Origin: core.Origin{RunID: r.ID, Attempt: number}, StartedAt: at.Add(from), EndedAt: at.Add(to), Verdict: verdict, Message: message,
		Place: core.Place{Plugin: "common", Version: "1"}, Usage: core.Usage{CPU: time.Millisecond, CPUSource: core.SourceMeasured}}
}

func TestARunIsOneTraceWhoeverEndsIt(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	first, second := start(t, trace.Options{Endpoint: c.URL, Version: "1"}), start(t, trace.Options{Endpoint: c.URL + "/v1/traces"})
	r := run()
	r.CausedBy = run().ID
	parent := first.Traceparent(r.ID, 2)
	first.AttemptEnded(t.Context(), r, ended(r, 1, 10*time.Millisecond, time.Second, core.Failed, "refused"), false)
	r.StartAt = at.Add(2 * time.Second)
	second.AttemptEnded(t.Context(), r, ended(r, 2, 3*time.Second, 4*time.Second, core.Succeeded, ""), true) // another server
	for _, tracer := range []*trace.Tracer{first, second} {
		if err := tracer.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if first.Stats() != (trace.Stats{Sent: 2}) || second.Stats() != (trace.Stats{Sent: 3}) || c.service != "gnomon" {
		t.Errorf("%+v %+v %q", first.Stats(), second.Stats(), c.service)
	}
	fire := c.span(t, "fire Common/keep-alive")
	if hex.EncodeToString(fire.GetTraceId()) != strings.ReplaceAll(r.ID, "-", "") || len(fire.GetParentSpanId()) != 0 {
		t.Errorf("the trace of %s is %x, its fire has the parent %x", r.ID, fire.GetTraceId(), fire.GetParentSpanId())
	}
	if fire.GetStartTimeUnixNano() != uint64(at.UnixNano()) || fire.GetEndTimeUnixNano() != uint64(at.Add(4*time.Second).UnixNano()) ||
		fire.GetStatus().GetCode() != spans.Status_STATUS_CODE_OK || len(fire.GetLinks()) != 1 {
		t.Errorf("%v", fire)
	}
	for key, want := range map[string]string{"gnomon.namespace": "Common", "gnomon.task": "keep-alive", "gnomon.task_type": "Common.KeepAlive", "gnomon.run_id": r.ID, "gnomon.outcome": "succeeded"} {
		if got := attr(fire, key); got != want {
			t.Errorf("%s is %q", key, got)
		}
	}
	var attempts, queues int
	for _, s := range c.got {
		if s == fire {
			continue
		}
		if string(s.GetTraceId()) != string(fire.GetTraceId()) || string(s.GetParentSpanId()) != string(fire.GetSpanId()) {
			t.Errorf("%s does not belong to the fire", s.GetName())
		}
		began := time.Unix(0, int64(s.GetStartTimeUnixNano())).Sub(at)
		took := time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano())
		switch {
		case s.GetName() == "queue":
			queues++
			if !(began == 0 && took == 10*time.Millisecond || began == 2*time.Second && took == time.Second) {
				t.Errorf("queue from %s for %s", began, took)
			}
		case attr(s, "gnomon.outcome") == "failed":
			attempts++
			if s.GetStatus().GetMessage() != "refused" || s.GetStatus().GetCode() != spans.Status_STATUS_CODE_ERROR {
				t.Errorf("%v", s)
			}
		default:
			attempts++
			if want := "00-" + hex.EncodeToString(s.GetTraceId()) + "-" + hex.EncodeToString(s.GetSpanId()) + "-01"; parent != want {
				t.Errorf("the plugin was told %s, its attempt is %s", parent, want)
			}
		}
	}
	if attempts != 2 || queues != 2 {
		t.Errorf("%d attempts, %d queues", attempts, queues)
	}
}

func TestAllServersTraceTheSameShareOfRuns(t *testing.T) {
	t.Parallel()
	a, b := start(t, trace.Options{Endpoint: "http://127.0.0.1:1", Ratio: 0.25}), start(t, trace.Options{Endpoint: "http://127.0.0.1:1", Ratio: 0.25})
	traced := 0
	for range 4000 {
		id := uuid.Must(uuid.NewV7()).String()
		if a.Traceparent(id, 1) != b.Traceparent(id, 1) {
			t.Fatal("two servers disagree")
		}
		if a.Traceparent(id, 1) != "" {
			traced++
		}
	}
	if traced < 850 || traced > 1150 {
		t.Errorf("%d of 4,000 are traced, 1,000 should be, more or less", traced)
	}
	for _, odd := range []string{"", "run-1", strings.Repeat("x", 36), strings.Repeat("-", 36), strings.Repeat("0", 36)} {
		if got := a.Traceparent(odd, 1); got != "" {
			t.Errorf("%q is traced as %q", odd, got)
		}
	}
}

func TestACollectorThatIsAwayCostsSpansOnly(t *testing.T) {
	t.Parallel()
	tracer := start(t, trace.Options{Endpoint: "http://127.0.0.1:1"})
	for range 10 {
		r := run()
		tracer.AttemptEnded(t.Context(), r, ended(r, 1, 0, time.Second, core.Succeeded, ""), true)
	}
	if err := tracer.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := tracer.Stats(); got != (trace.Stats{Dropped: 30}) {
		t.Errorf("%+v", got)
	}
	r := run()
	tracer.AttemptEnded(t.Context(), r, ended(r, 1, 0, time.Second, core.Succeeded, ""), true) // too late
	if got := tracer.Stats().Dropped; got != 33 {
		t.Errorf("%d dropped", got)
	}
}

func TestACollectorThatHangsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	c.hold = make(chan struct{})
	tracer := start(t, trace.Options{Endpoint: c.URL, Queue: 100, Timeout: 100 * time.Millisecond})
	began := time.Now()
	const runs = 2000
	for range runs {
		r := run()
		tracer.AttemptEnded(t.Context(), r, ended(r, 1, 0, time.Second, core.Succeeded, ""), true)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("%d runs took %s", runs, took)
	}
	if err := tracer.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(c.hold)
	if got := tracer.Stats(); got.Dropped != 3*runs || got.Sent != 0 {
		t.Errorf("%+v", got)
	}
}

func TestWhatIsNoCollectorIsRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []trace.Options{{Endpoint: "127.0.0.1:4318"}, {Endpoint: "ftp://x"}, {Endpoint: "http://"}, {Ratio: 2}, {Ratio: -1}} {
		if _, err := trace.New(t.Context(), o); core.KindOf(err) != core.KindInvalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// BenchmarkAttempt is what tracing costs the end of an attempt, for a run that is traced and one that is not.
func BenchmarkAttempt(b *testing.B) {
	for name, ratio := range map[string]float64{"traced": 1, "not": 1e-15} {
		b.Run(name, func(b *testing.B) {
			tracer, err := trace.New(b.Context(), trace.Options{Endpoint: "http://127.0.0.1:1", Ratio: ratio, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			r := run()
			a := ended(r, 1, 0, time.Second, core.Succeeded, "")
			b.ReportAllocs()
			for b.Loop() {
				_ = tracer.Traceparent(r.ID, 1)
				tracer.AttemptEnded(b.Context(), r, a, true)
			}
		})
	}
}
