// Package trace tells an OpenTelemetry collector how runs went: a span for the fire, one for each wait and one for each
// attempt, under which a plugin's own spans fall in. It is the only user of OpenTelemetry's SDK.
//
// Whoever knows a run knows its trace: the trace id is the run's id, and a span's id is a hash of the run's id and what
// the span is. So nothing is kept between the beginning and the end of a span, any server can end what another began, and
// all decide alike which runs are traced. Spans are made when an attempt has ended and go through a bounded queue: a
// collector that is slow or away costs spans, which are counted, and nothing else.
package trace

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Options configure a Tracer.
type Options struct {
	// Endpoint is the collector's URL for OTLP over HTTP: "http://127.0.0.1:4318"; without a path /v1/traces is added.
	// Empty: the standard OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, whose other variables
	// (headers, certificates, compression) count in any case.
	Endpoint string
	Ratio    float64 // of runs that are traced, above 0 to 1; 0: all
	Log      *slog.Logger
	Version  string // of Gnomon
	Server   string // id of this server
	Host     string // name of the machine

	Queue   int           // spans that may wait; more are dropped. Default 4,096
	Timeout time.Duration // of one request to the collector. Default 5 s
}

// Stats are what has become of the spans since the start.
type Stats struct {
	Sent    uint64 // the collector has taken them
	Dropped uint64 // the queue was full, or the collector did not take them
}

// Tracer makes spans and sends them. Its methods are safe for concurrent use, and never wait for the collector.
type Tracer struct {
	log       *slog.Logger
	below     uint64 // a run is traced if the random end of its id lies below
	timeout   time.Duration
	exporter  *otlptrace.Exporter
	provider  *sdktrace.TracerProvider
	tracer    oteltrace.Tracer
	queue     chan sdktrace.ReadOnlySpan
	sent      atomic.Uint64
	dropped   atomic.Uint64
	refused   bool // by the last request; of the sender
	mu        sync.RWMutex
	stopped   bool // under mu: nothing goes into the queue any more
	sender    sync.WaitGroup
	giveUp    context.Context // ends when Stop may wait no longer
	giveUpNow context.CancelFunc
}

const (
	defaultQueue   = 4096
	defaultTimeout = 5 * time.Second
	batch          = 512         // spans of one request at most
	gather         = time.Second // how long spans wait for others
	random         = 1 << 56     // the last 56 bits of a UUIDv7 are random, as those of a W3C trace id should be
)

// New checks the options; nothing is sent before Start.
func New(ctx context.Context, o Options) (*Tracer, error) {
	const op = "set up traces"
	if o.Ratio < 0 || o.Ratio > 1 || math.IsNaN(o.Ratio) {
		return nil, core.Errorf(core.KindInvalid, op, "the share of runs to trace is %v, not between 0 and 1", o.Ratio)
	}
	if o.Ratio == 0 {
		o.Ratio = 1
	}
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	options := []otlptracehttp.Option{otlptracehttp.WithTimeout(o.Timeout), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false})}
	if o.Endpoint != "" {
		at, err := url.Parse(o.Endpoint)
		if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
			return nil, core.Errorf(core.KindInvalid, op, "%q is not the URL of a collector; write one such as http://127.0.0.1:4318", o.Endpoint)
		}
		if strings.Trim(at.Path, "/") == "" {
			at.Path = "/v1/traces"
		}
		options = append(options, otlptracehttp.WithEndpointURL(at.String()))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, core.Errorf(core.KindInvalid, op, "%w", err)
	}
	t := &Tracer{log: o.Log, below: uint64(o.Ratio * random), timeout: o.Timeout, exporter: exporter, queue: make(chan sdktrace.ReadOnlySpan, o.Queue)}
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithIDGenerator(ids{}), sdktrace.WithSpanProcessor(enqueue{t}),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "gnomon"), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Server), attribute.String("host.name", o.Host))))
	t.tracer = t.provider.Tracer("github.com/gnomon-scheduler/gnomon")
	return t, nil
}

// Start begins to send.
func (t *Tracer) Start(ctx context.Context) error {
	t.giveUp, t.giveUpNow = context.WithCancel(context.WithoutCancel(ctx))
	t.sender.Go(t.send) // ends when the queue is closed and empty, or giveUp ends
	return nil
}

// Stop sends what waits, as long as ctx lasts.
func (t *Tracer) Stop(ctx context.Context) error {
	t.mu.Lock()
	first := !t.stopped
	t.stopped = true
	t.mu.Unlock()
	if !first || t.giveUpNow == nil {
		return nil
	}
	close(t.queue)
	stop := context.AfterFunc(ctx, t.giveUpNow)
	t.sender.Wait()
	stop()
	t.giveUpNow()
	return t.exporter.Shutdown(context.WithoutCancel(ctx))
}

// Stats gives what has become of the spans.
func (t *Tracer) Stats() Stats { return Stats{Sent: t.sent.Load(), Dropped: t.dropped.Load()} }

// Traceparent gives the W3C trace context of an attempt, for whoever carries it out; empty: the run is not traced.
func (t *Tracer) Traceparent(runID string, attempt int) string {
	trace, ok := t.traced(runID)
	if !ok {
		return ""
	}
	span := attemptSpan(runID, attempt)
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, span[:])
	return string(append(b, "-01"...))
}

// AttemptEnded makes the spans of an attempt and of what it waited for; over: the run has ended with it, so that the span
// of the fire, which holds them, is made too. They are made whether ctx has ended or not; it gives its values only.
func (t *Tracer) AttemptEnded(ctx context.Context, run core.Run, a core.AttemptRecord, over bool) {
	trace, ok := t.traced(run.ID)
	if !ok {
		return
	}
	fire := spanID(run.ID, "fire")
	began := later(run.FireAt, run.DecidedAt) // a fire of the past is as old as the decision to make up for it
	about := []attribute.KeyValue{
		attribute.String("gnomon.namespace", run.Namespace), attribute.String("gnomon.task", run.TaskName), attribute.String("gnomon.task_type", run.TaskType),
		attribute.String("gnomon.run_id", run.ID), attribute.Int("gnomon.attempt", a.Attempt),
	}
	due := began
	if a.Attempt > 1 {
		due = run.StartAt
	}
	started := a.StartedAt
	if started.IsZero() {
		started = a.EndedAt
	}
	if started.Before(due) {
		due = started
	}
	waited := about
	if run.Gate != "" {
		waited = append(about[:len(about):len(about)], attribute.String("gnomon.gate", string(run.Gate)), attribute.String("gnomon.gate_key", run.GateKey))
	}
	t.span(ctx, trace, fire, spanID(run.ID, "queue "+strconv.Itoa(a.Attempt)), "queue", due, started, waited, "", "")
	tried := append(about[:len(about):len(about)], attribute.String("gnomon.outcome", string(a.Verdict)), attribute.String("gnomon.plugin", a.Place.Plugin),
		attribute.String("gnomon.plugin_version", a.Place.Version), attribute.Int64("gnomon.token", a.Token))
	if a.Usage.CPUSource == core.SourceMeasured || a.Usage.CPUSource == core.SourceShared {
		tried = append(tried, attribute.Int64("gnomon.cpu_us", a.Usage.CPU.Microseconds()), attribute.String("gnomon.cpu_source", string(a.Usage.CPUSource)))
	}
	t.span(ctx, trace, fire, attemptSpan(run.ID, a.Attempt), "attempt "+run.TaskType, started, a.EndedAt, tried, a.Verdict, a.Message)
	if !over {
		return
	}
	fired := append(about[:4:4], attribute.Int("gnomon.attempts", a.Attempt), attribute.String("gnomon.outcome", string(a.Verdict)),
		attribute.String("gnomon.trigger", string(run.Trigger)), attribute.String("gnomon.fire_at", run.FireAt.UTC().Format(time.RFC3339Nano)))
	var links []oteltrace.Link
	for _, other := range []string{run.CausedBy, run.WorkflowID} {
		if id, ok := t.traced(other); ok {
			links = append(links, oteltrace.Link{SpanContext: oteltrace.NewSpanContext(oteltrace.SpanContextConfig{
				TraceID: id, SpanID: spanID(other, "fire"), TraceFlags: oteltrace.FlagsSampled, Remote: true})})
		}
	}
	t.span(ctx, trace, oteltrace.SpanID{}, fire, "fire "+run.Namespace+"/"+run.TaskName, began, a.EndedAt, fired, a.Verdict, a.Message, links...)
}

// traced gives the trace of a run, if the run is one of those that are traced: the same on every server.
func (t *Tracer) traced(runID string) (id oteltrace.TraceID, ok bool) {
	if len(runID) != 36 {
		return id, false
	}
	text := make([]byte, 0, len(runID))
	for i := range len(runID) {
		if runID[i] != '-' {
			text = append(text, runID[i])
		}
	}
	if len(text) != 2*len(id) {
		return id, false
	}
	if _, err := hex.Decode(id[:], text); err != nil || !id.IsValid() {
		return id, false
	}
	return id, binary.BigEndian.Uint64(id[8:])&(random-1) < t.below
}

func attemptSpan(runID string, attempt int) oteltrace.SpanID {
	return spanID(runID, "attempt "+strconv.Itoa(attempt))
}

func spanID(runID, what string) (id oteltrace.SpanID) {
	sum := sha256.Sum256([]byte(runID + " " + what))
	copy(id[:], sum[:])
	return id
}

// span makes one span; it goes into the queue as it ends.
func (t *Tracer) span(ctx context.Context, trace oteltrace.TraceID, parent, id oteltrace.SpanID, name string, from, to time.Time, about []attribute.KeyValue, verdict core.Verdict, message string, links ...oteltrace.Link) {
	ctx = context.WithValue(ctx, idsKey{}, spanIDs{trace, id})
	// Whatever span ctx has is not the parent: without one of the run's own this is the root.
	above := oteltrace.SpanContext{}
	if parent.IsValid() {
		above = oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: trace, SpanID: parent, TraceFlags: oteltrace.FlagsSampled})
	}
	ctx = oteltrace.ContextWithSpanContext(ctx, above)
	_, s := t.tracer.Start(ctx, name, oteltrace.WithTimestamp(from), oteltrace.WithAttributes(about...), oteltrace.WithLinks(links...))
	switch {
	case verdict == core.Succeeded:
		s.SetStatus(codes.Ok, "")
	case verdict != "":
		s.SetStatus(codes.Error, message)
	}
	s.End(oteltrace.WithTimestamp(to))
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// ids gives spans the ids they were made for.
type ids struct{}

type (
	idsKey  struct{}
	spanIDs struct {
		trace oteltrace.TraceID
		span  oteltrace.SpanID
	}
)

func (ids) NewIDs(ctx context.Context) (oteltrace.TraceID, oteltrace.SpanID) {
	of := ctx.Value(idsKey{}).(spanIDs)
	return of.trace, of.span
}

func (ids) NewSpanID(ctx context.Context, _ oteltrace.TraceID) oteltrace.SpanID {
	return ctx.Value(idsKey{}).(spanIDs).span
}

// enqueue is where the SDK leaves spans that have ended.
type enqueue struct{ t *Tracer }

func (enqueue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (enqueue) Shutdown(context.Context) error                  { return nil }
func (enqueue) ForceFlush(context.Context) error                { return nil }

func (e enqueue) OnEnd(s sdktrace.ReadOnlySpan) {
	e.t.mu.RLock()
	defer e.t.mu.RUnlock()
	if !e.t.stopped {
		select {
		case e.t.queue <- s:
			return
		default:
		}
	}
	e.t.dropped.Add(1)
}

// send takes spans from the queue and gives them to the collector, some at a time.
func (t *Tracer) send() {
	var waiting []sdktrace.ReadOnlySpan
	tick := time.NewTicker(gather)
	defer tick.Stop()
	for {
		select {
		case s, more := <-t.queue:
			if !more {
				t.export(waiting)
				return
			}
			if waiting = append(waiting, s); len(waiting) < batch {
				continue
			}
		case <-tick.C:
		case <-t.giveUp.Done():
			t.dropped.Add(uint64(len(waiting) + len(t.queue)))
			return
		}
		t.export(waiting)
		waiting = waiting[:0]
	}
}

func (t *Tracer) export(spans []sdktrace.ReadOnlySpan) {
	if len(spans) == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(t.giveUp, t.timeout, fmt.Errorf("no answer within %s", t.timeout))
	defer cancel()
	err := t.exporter.ExportSpans(ctx, spans)
	if err != nil {
		t.dropped.Add(uint64(len(spans)))
	} else {
		t.sent.Add(uint64(len(spans)))
	}
	if refused := err != nil; refused != t.refused { // said once, not every second
		t.refused = refused
		if refused {
			t.log.Warn("spans are dropped: the collector does not take them", "err", err)
		} else {
			t.log.Info("the collector takes spans again", "dropped", t.dropped.Load())
		}
	}
}
