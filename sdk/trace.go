package sdk

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// withTrace makes the attempt's span the parent of what the handler begins with any OpenTelemetry tracer. What is no W3C
// trace context (https://www.w3.org/TR/trace-context/#traceparent-header) is left alone.
func withTrace(ctx context.Context, traceparent string) context.Context {
	parts := strings.Split(traceparent, "-")
	if len(parts) < 4 || len(parts[0]) != 2 || parts[0] == "ff" || len(parts[3]) != 2 {
		return ctx
	}
	id, err := trace.TraceIDFromHex(parts[1])
	if err != nil {
		return ctx
	}
	span, err := trace.SpanIDFromHex(parts[2])
	if err != nil {
		return ctx
	}
	var flags trace.TraceFlags
	if last := parts[3][1]; strings.IndexByte("13579bdf", last) >= 0 {
		flags = trace.FlagsSampled
	}
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: flags, Remote: true}))
}
