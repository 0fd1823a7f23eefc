package main

import (
	"context"
	"os"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/trace"
)

// startTraces tells a collector how runs go, if one was named: by otlp_endpoint, GNOMON_OTLP_ENDPOINT or OpenTelemetry's
// own variables.
func (a *app) startTraces(starting, live context.Context, started func(part)) (err error) {
	if a.config.OTLPEndpoint == "" && os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return nil
	}
	a.tracer, err = trace.New(starting, trace.Options{
		Endpoint: a.config.OTLPEndpoint, Ratio: a.config.TraceRatio, Log: a.log, Version: version, Server: a.id, Host: a.hostname,
	})
	if err != nil {
		return err
	}
	if err := a.tracer.Start(live); err != nil {
		return err
	}
	started(part{"traces", 2 * time.Second, a.tracer.Stop})
	a.log.Info("runs are traced", "ratio", a.config.TraceRatio)
	return nil
}

// traces is what the runner tells of its runs; nil: nobody wants to know.
func (a *app) traces() runner.Trace {
	if a.tracer == nil {
		return nil
	}
	return a.tracer
}
