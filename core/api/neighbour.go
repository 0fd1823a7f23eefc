package api

import (
	"context"
	"encoding/json"
	"io"
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
	// Pause has a task's fires skipped from now on; until is zero, or when it goes on by itself. Resume ends that.
	// Neither fires anything retroactively.
	Pause(ctx context.Context, id, note string, until time.Time, by string) (core.Task, error)
	Resume(ctx context.Context, id, by string) (core.Task, error)
	// Effective gives the task with the policies that hold for it: the namespace's defaults laid under its own.
	Effective(task core.Task) core.Task
	// Upcoming gives the next instant at which a task starts; if its next fire is skipped before, skip says by what.
	Upcoming(task core.Task) (start time.Time, skip core.Text)
	// Warnings says what is allowed and may not be what was meant; NamespaceWarnings says so of a namespace.
	Warnings(ctx context.Context, task core.Task) []core.Text
	NamespaceWarnings(ns core.Namespace) []core.Text
}

// Settings is where what all namespaces share is kept: calendars, holidays, pools and downstreams; package definition.
// Each Put names the version that was seen, 0 for none yet, or core.AnyVersion, and fails with KindStale if it is another by
// now, KindInvalid with findings relative to the thing, and KindConflict if every installation has one of that name.
// Each Delete fails with KindConflict while a task, calendar or default names the thing.
type Settings interface {
	Calendars(ctx context.Context) ([]core.Held[core.Calendar], error)
	Calendar(ctx context.Context, name string) (core.Held[core.Calendar], error)
	PutCalendar(ctx context.Context, calendar core.Calendar, version int64, by string) (core.Held[core.Calendar], error)
	DeleteCalendar(ctx context.Context, name string, version int64, by string) error
	// CalendarWarnings says what a calendar lacks: a year whose holidays are not known.
	CalendarWarnings(name string) []core.Text
	// HolidayYears gives the years for which the holidays that a calendar is made of are known; nil: it is made of none.
	HolidayYears(name string) []int
	// Days says of each day from one to another, both included and written 2026-10-01, whether a calendar holds it and
	// why; zone is whose days, if the calendar has none of its own.
	Days(ctx context.Context, name, zone, from, to string) ([]Day, error)

	Holidays(ctx context.Context) ([]core.Held[core.Holidays], error)
	// ReadHolidays reads holidays as HolidaysInput describes them: package calendar. Findings are relative to the document.
	ReadHolidays(document []byte) ([]core.Holidays, error)
	PutHolidays(ctx context.Context, years []core.Holidays, by string) ([]core.Held[core.Holidays], error)

	Pools(ctx context.Context) ([]core.Held[core.Pool], error)
	Pool(ctx context.Context, name string) (core.Held[core.Pool], error)
	PutPool(ctx context.Context, pool core.Pool, version int64, by string) (core.Held[core.Pool], error)
	DeletePool(ctx context.Context, name string, version int64, by string) error

	Downstreams(ctx context.Context) ([]core.Held[core.Downstream], error)
	Downstream(ctx context.Context, name string) (core.Held[core.Downstream], error)
	PutDownstream(ctx context.Context, downstream core.Downstream, version int64, by string) (core.Held[core.Downstream], error)
	DeleteDownstream(ctx context.Context, name string, version int64, by string) error
}

// Rehearsal is definitions and settings as they are now, which may be changed without anything being kept.
type Rehearsal interface {
	Definitions
	Settings
	// Suppose has something of a kind (calendar, pool, downstream, namespace or task) be there, whatever it is, unless there
	// is one of that name: what names it can be judged while it cannot be had.
	Suppose(ctx context.Context, kind, namespace, name string) error
}

// Catalog knows the task types: package catalog.
type Catalog interface {
	// Types gives what tasks of any of the namespaces may use, by name; nil means every namespace.
	Types(namespaces []string) []core.TaskType
	Type(name string) (core.TaskType, bool)
}

// Schedules gives meaning to schedules without keeping them: package schedule, with the calendars of definition.
type Schedules interface {
	// Preview gives up to count fires after from, and the schedule in words. It fails with KindInvalid and findings
	// under "schedule".
	// taskName is what H in a cron expression is spread by.
	Preview(schedule core.Schedule, taskName string, from time.Time, count int) (Preview, error)
}

// Preview is what a schedule would do.
type Preview struct {
	Words    core.Text
	Fires    []PreviewFire
	Warnings []core.Text // a year whose holidays are not known
}

// PreviewFire is one instant, in the schedule's zone, or a local time that does not exist.
type PreviewFire struct {
	At        time.Time
	Skip      core.Reason // empty: it fires
	MovedFrom time.Time   // the first instant that the calendars moved here; zero: none
	Merged    int         // further instants that came to the same one
	Calendar  string      // which one refused the instant, or the one it was moved from
	Why       core.Text   // what it says of that day: the holiday's name
}

// Runner starts and stops runs: package runner.
type Runner interface {
	RunNow(ctx context.Context, taskID string, params json.RawMessage, by string) (core.Run, error)
	Cancel(ctx context.Context, runID, by string) error
	Terminate(ctx context.Context, runID, by string) error
	// Backfill has a task run for instants of the past. With DryRun it only says which.
	Backfill(ctx context.Context, backfill Backfill) (Backfilled, error)
	// Retry tries the run of an open intervention again, as a run of its own; params are laid over the run's. It fails
	// with KindConflict if the intervention is resolved.
	Retry(ctx context.Context, runID string, params json.RawMessage, note, by string) (core.Run, error)
	// Resolve closes an open intervention without a run; action is skip or done. It fails as Retry does.
	Resolve(ctx context.Context, runID, action, note, by string) (core.Intervention, error)
	// ResetBreaker closes a breaker by hand, and lets go on what waited at it.
	ResetBreaker(ctx context.Context, name, by string) (core.Breaker, error)
}

// Backfill asks for runs at instants of the past: From <= instant < To, the first Limit of them, Spread apart.
type Backfill struct {
	TaskID       string
	From, To     time.Time
	Overlap      core.Overlap // "": the task's own
	OverlapLimit int          // the number that Overlap comes with; 0: none
	Limit        int
	Spread       time.Duration
	DryRun       bool
	By           string
}

// Backfilled is what a Backfill did, or would do.
type Backfilled struct {
	Series      string      // "" after a dry run
	Count       int         // how many instants run
	More        bool        // the range has instants beyond Limit
	Instants    []time.Time // the first 1,000 of them
	First, Last time.Time
	Runs        []string // ids, the first 1,000; nil after a dry run

	Refused   int      // how many more fires the schedule has in that time, or up to Last if there are More, that never start
	RefusedBy []string // the calendars that refuse them; none if it is only that their local times do not exist

	AlreadyDecided    int               // how many of them the schedule has decided itself before
	AlreadyBackfilled int               // how many of them backfills have run before
	Earlier           []EarlierBackfill // those backfills, the newest MaxEarlier first
}

// Workflows knows the graphs of workflow runs: package workflow.
type Workflows interface {
	// Steps gives the steps of a workflow run, each after what it needs, and how they stand; KindConflict if the run is no
	// workflow's.
	Steps(ctx context.Context, run core.Run) ([]Step, error)
	// Rerun starts a new workflow run that takes over what succeeded, but for the steps in from and what needs them; no
	// step in from: those that failed. It fails with KindConflict while the run is live, KindInvalid with findings at
	// "from[0]" (or "params.resume.from[0]") if there is no such step.
	Rerun(ctx context.Context, run core.Run, from []string, note, by string) (core.Run, error)
}

// Insight answers questions about what was, is and will be: packages ledger and forecast, and the doctor.
type Insight interface {
	// Why says what became of a task's instant and why; zero: the last that should have been, and what comes next.
	Why(ctx context.Context, task core.Task, at time.Time) (Why, error)
	// Forecast looks ahead; nil namespaces are all.
	Forecast(ctx context.Context, ask ForecastQuery) (Forecast, error)
	// Spread proposes how to move a namespace's fires apart, and does it if Apply is set.
	Spread(ctx context.Context, ask SpreadQuery) (Spread, error)
	// Reconcile holds what should have run against what did; nil namespaces are all, zero times the last whole day, UTC.
	Reconcile(ctx context.Context, namespaces []string, from, to time.Time) (Reconciliation, error)
	// Doctor examines the server and what it keeps.
	Doctor(ctx context.Context) ([]Check, error)
}

// Live knows the runs that are not in history yet: package store.
type Live interface {
	Runs(ctx context.Context, filter core.RunFilter) ([]core.Run, error)
	Run(ctx context.Context, id string) (core.Run, error)
	// Holdings gives what is in use of limits, over all servers.
	Holdings(ctx context.Context) ([]core.Holding, error)
	// Breakers gives every breaker that ever moved.
	Breakers(ctx context.Context) ([]core.Breaker, error)
	Interventions(ctx context.Context, filter core.InterventionFilter) ([]core.Intervention, error)
	Intervention(ctx context.Context, runID string) (core.Intervention, error)
}

// History knows everything that happened: package clickhouse.
type History interface {
	Runs(ctx context.Context, filter core.RunFilter) ([]core.Run, error)
	Run(ctx context.Context, id string) (core.Run, error)
	Attempts(ctx context.Context, runID string) ([]core.AttemptRecord, error)
	Lines(ctx context.Context, filter core.LineFilter) ([]core.LoggedLine, error)
	SearchLines(ctx context.Context, search core.LineSearch) ([]core.LoggedLine, error)
	Samples(ctx context.Context, runID string) ([]core.RunSample, error)
}

// Query is one reading statement over history.
type Query struct {
	ID      string // by which Progress knows it
	SQL     string
	Params  map[string]*string // {name:Type} in the statement; nil: NULL
	MaxRows int
	Export  bool // the answer is kept elsewhere as it comes: it may be larger and take longer than one that is looked at
	// Format, if it is not empty, asks for a file in that format of ClickHouse, written to Into; head and row are not
	// called. More than MaxRows rows are then KindExhausted.
	Format string
	Into   io.Writer

	// All says that every row may be seen; else only those of Namespaces.
	All        bool
	Namespaces []string
}

// QueryProgress is how far a running Query is.
type QueryProgress struct {
	ReadRows, ReadBytes, MemoryBytes uint64
}

// ProgressFunc gives how far the queries are that run, by their ID.
type ProgressFunc func(ctx context.Context) (map[string]QueryProgress, error)

// Column is one column of an answer, with ClickHouse's name of its type.
type Column struct {
	Name string `json:"name" doc:"As the statement names it" example:"n"`
	Type string `json:"type" doc:"ClickHouse type" example:"DateTime64(6, 'UTC')"`
}

// QueryFunc answers a Query: head once, then row for each row, in order, until one of them fails. more says that there
// were more rows than MaxRows. It fails with KindInvalid if the statement is wrong or does more than read.
type QueryFunc func(ctx context.Context, query Query, head func([]Column) error, row func(Row) error) (more bool, err error)

// Row is a row of an answer, in both forms that answers are made of. The slices are reused for the next row.
type Row interface {
	Cells() []json.RawMessage // each value as JSON
	Values() []any            // nil, bool, int64, uint64, float64, string, and json.RawMessage of what is composed
}

// Logs knows what has been said and is not in history yet: package recorder.
type Logs interface {
	Lines(ctx context.Context, filter core.LineFilter) ([]core.LoggedLine, error)
	// Tail tells when a run says something from now on.
	Tail(ctx context.Context, runID string) Tail
}

// Tail waits for lines of one run.
type Tail interface {
	// Next waits for lines and gives them in order; none is a hint to look for them with Lines, and so is an error.
	Next(ctx context.Context) ([]core.LoggedLine, error)
	Close()
}

// Health says how the server is.
type Health interface {
	// Ready is nil once tasks are being scheduled; else it says what is missing.
	Ready(ctx context.Context) error
	Status(ctx context.Context) Status
}
