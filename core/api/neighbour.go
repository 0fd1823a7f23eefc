package api

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// What the API calls of its neighbours. All must be safe for concurrent use.

// Definitions is where tasks and namespaces are created, changed and read: package definition.
type Definitions interface {
	PutNamespace(ctx context.Context, ns core.Namespace) (core.Namespace, error)
	Namespace(ctx context.Context, name string) (core.Namespace, error)
	Namespaces(ctx context.Context) ([]core.Namespace, error)
	Create(ctx context.Context, task core.Task, by string) (core.Task, error)
	// Replace names the version that was seen in task.Version and fails with KindStale if it is another by now.
	Replace(ctx context.Context, task core.Task, by string) (core.Task, error)
	SetEnabled(ctx context.Context, id string, enabled bool, by string) (core.Task, error)
	Delete(ctx context.Context, id string) error
	Task(ctx context.Context, id string) (core.Task, error)
	TaskByName(ctx context.Context, namespace, name string) (core.Task, error)
	Tasks(ctx context.Context, filter core.TaskFilter) ([]core.Task, error)
	// TaskVersions gives every version of a task, newest first.
	TaskVersions(ctx context.Context, id string) ([]core.Task, error)
}

// Catalog knows the task types: package catalog.
type Catalog interface {
	// Types gives what tasks of any of the namespaces may use, by name; nil means every namespace.
	Types(namespaces []string) []core.TaskType
	Type(name string) (core.TaskType, bool)
}

// Schedules gives meaning to schedules without keeping them: package schedule.
type Schedules interface {
	// Preview gives up to count fires after from, and the schedule in words. It fails with KindInvalid and findings
	// under "schedule".
	Preview(schedule core.Schedule, from time.Time, count int) (Preview, error)
}

// Preview is what a schedule would do.
type Preview struct {
	Words core.Text
	Fires []PreviewFire
}

// PreviewFire is one instant, in the schedule's zone, or a local time that does not exist.
type PreviewFire struct {
	At   time.Time
	Skip core.Reason // empty: it fires
}

// Runner starts and stops runs: package runner.
type Runner interface {
	RunNow(ctx context.Context, taskID string, params json.RawMessage, by string) (core.Run, error)
	Cancel(ctx context.Context, runID, by string) error
}

// Live knows the runs that are not in history yet: package store.
type Live interface {
	Runs(ctx context.Context, filter core.RunFilter) ([]core.Run, error)
	Run(ctx context.Context, id string) (core.Run, error)
}

// History knows everything that happened: package clickhouse.
type History interface {
	Runs(ctx context.Context, filter core.RunFilter) ([]core.Run, error)
	Run(ctx context.Context, id string) (core.Run, error)
	Attempts(ctx context.Context, runID string) ([]core.AttemptRecord, error)
	Lines(ctx context.Context, filter core.LineFilter) ([]core.LoggedLine, error)
	Samples(ctx context.Context, runID string) ([]core.RunSample, error)
}

// Query is one reading statement over history.
type Query struct {
	SQL     string
	Params  map[string]string // {name:Type} in the statement
	MaxRows int
}

// Column is one column of an answer, with ClickHouse's name of its type.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type" doc:"ClickHouse type" example:"DateTime64(6, 'UTC')"`
}

// QueryFunc answers a Query: head once, then row for each row, in order, until one of them fails. more says that there
// were more rows than MaxRows. Values are what JSON can carry: nil, bool, numbers, string, []any and map[string]any; the
// slice may be reused after row returns. It fails with KindInvalid if the statement is wrong or does more than read.
type QueryFunc func(ctx context.Context, query Query, head func([]Column) error, row func([]any) error) (more bool, err error)

// Logs knows what has been said and is not in history yet: package recorder.
type Logs interface {
	Lines(ctx context.Context, filter core.LineFilter) ([]core.LoggedLine, error)
	// Tail follows what a run says from now on.
	Tail(ctx context.Context, runID string) Tail
}

// Tail waits for lines of one run. Here it only wakes: what is sent is read by Lines.
type Tail interface {
	// Next waits for lines. After an error that is not the caller's ctx, none will come.
	Next(ctx context.Context) ([]core.LoggedLine, error)
	Close()
}

// Health says how the server is.
type Health interface {
	// Ready is nil once tasks are being scheduled; else it says what is missing.
	Ready(ctx context.Context) error
	Status(ctx context.Context) Status
}
