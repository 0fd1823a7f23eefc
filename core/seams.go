package core

import (
	"context"
	"encoding/json"
)

// Executor tries a run once. There are two: a plugin process and a Lua worker, both behind package pluginhost.
// Execute blocks until the attempt has ended and nothing of it runs any more, or says in the outcome's message that
// something may. Cancelling ctx asks the task to stop; after the grace period its process is killed. context.Cause(ctx)
// says why (ErrRunTimeout, ErrRunCancelled, ErrShuttingDown; ErrRunTerminated: without any grace) and decides the verdict;
// it may be a case of one in words of its own (Worded), which are for the outcome's message.
// An error means the attempt could not be tried at all; how a tried attempt ended is the Outcome. Safe for concurrent use.
type Executor interface {
	Execute(ctx context.Context, attempt Attempt, sink Sink) (Outcome, error)
}

// Sink takes what one attempt says while it runs. The recorder's attempt writer implements it. Calls for one attempt
// come from one goroutine. Log blocks while the recorder is full: that wait is the back-pressure of the road.
type Sink interface {
	// Log records a line; Seq is assigned by the sink. It returns once the line is queued, before it is durable, and
	// fails only if ctx ends or the recorder has stopped.
	Log(ctx context.Context, line LogLine) error
	// Progress says how far the attempt is; done <= total, total 0 means unknown. Only the newest is kept.
	Progress(done, total int64, note string)
	// Sample records a reading of what the attempt uses.
	Sample(ctx context.Context, sample RunSample) error
}

// Provider offers task types and executes them.
type Provider interface {
	Executor
	// Validate gives what is wrong with parameters beyond their JSON Schema; it touches no network.
	Validate(ctx context.Context, taskType string, params json.RawMessage) ([]Finding, error)
}
