package core

import (
	"encoding/json"
	"time"
)

// RunState is where a live run stands. A run that has ended has RunEnded and a verdict.
type RunState string

// The states of a run:
//
//	claimed ──(its instant arrives)──> executing ──> ended
//	   ^                                   │
//	   └──(admitted)── queued ──> waiting  │
//	   └──(admitted)── waiting             │
//	   └──(admitted)── retrying <──────────┘
//
// A claimed row is committed before StartAt arrives and is started with no further write, so that the commit is not part
// of the lateness: a claimed run of a dead server may have started. A queued, waiting or retrying run has certainly not
// started: its admission is written before it does. RunRunning is written late, for attempts that take longer than a
// second, so that short runs do not pay for it.
const (
	RunClaimed  RunState = "claimed"  // will start at StartAt by Owner, with no further write
	RunQueued   RunState = "queued"   // its instant StartAt has not come yet, and it must be admitted then
	RunWaiting  RunState = "waiting"  // its instant has come, and it waits at Gate to be admitted
	RunRunning  RunState = "running"  // known to be executing
	RunRetrying RunState = "retrying" // an attempt ended; the next is due at StartAt and must be admitted
	RunEnded    RunState = "ended"    // terminal: Verdict or Reason is set; waits to be shipped to history
)

// Verdict is how an attempt or a run ended.
type Verdict string

// The verdicts.
const (
	Succeeded Verdict = "succeeded"
	Failed    Verdict = "failed"    // the task said so, or could not be run at all
	TimedOut  Verdict = "timed_out" // the hard timeout passed
	Cancelled Verdict = "cancelled" // a person, or the shutdown after the drain time, stopped it
	Crashed   Verdict = "crashed"   // its process died
	Lost      Verdict = "lost"      // the server died while it ran, or may have
	Skipped   Verdict = "skipped"   // not a run: the fire was skipped; Reason says why
)

// Reason says why a fire was skipped. The list is closed.
type Reason string

// The reasons.
const (
	ReasonOverlap      Reason = "overlap"                // an earlier run was still live
	ReasonCatchUp      Reason = "catch_up"               // missed while no server ran, and the policy did not want it
	ReasonNonexistent  Reason = "nonexistent_local_time" // the local time does not exist on that date
	ReasonCalendar     Reason = "calendar"               // the calendars refuse the day or the time
	ReasonPaused       Reason = "paused"                 // the task was paused
	ReasonMaxRuns      Reason = "max_runs"               // the task had its number of runs
	ReasonPrecondition Reason = "precondition"           // a precondition had not come true by its deadline
	ReasonBreaker      Reason = "breaker"                // a circuit breaker was open
	ReasonCapacity     Reason = "capacity"               // as many runs as may waited for the same capacity already
	ReasonSuperseded   Reason = "superseded"             // a later fire took its place while it waited
	ReasonDisabled     Reason = "disabled"               // the task was disabled after the fire was claimed
	ReasonEdited       Reason = "edited"                 // the task was changed or deleted after the fire was claimed
	ReasonShutdown     Reason = "shutdown"               // the server was stopping
	ReasonUnknownType  Reason = "unknown_type"           // no provider offers the task's type any more
	ReasonPoisoned     Reason = "poisoned"               // the stored definition cannot be read; Facts say why
	ReasonParams       Reason = "params"                 // what it takes of its upstream's output is not there, or its type refuses it; Facts say what
)

// Trigger says what made a fire.
type Trigger string

// The triggers.
const (
	TriggerSchedule Trigger = "schedule"
	TriggerManual   Trigger = "manual"   // a person or a program asked for it
	TriggerCatchUp  Trigger = "catch_up" // a missed fire, started late
	TriggerBackfill Trigger = "backfill" // an instant of the past that somebody wanted again
	TriggerUpstream Trigger = "upstream" // another task's run has ended: CausedBy
	TriggerWorkflow Trigger = "workflow" // a step of the workflow run WorkflowID
	TriggerRetry    Trigger = "retry"    // an intervention: the run CausedBy is tried again
)

// Patient says that a run waits for earlier runs of its task even where the policy would have a fire skipped: it is wanted
// although its instant has passed, and often with others at once.
func (t Trigger) Patient() bool {
	return t == TriggerCatchUp || t == TriggerBackfill || t == TriggerWorkflow || t == TriggerRetry
}

// OfThePast says that a run's instant was past when somebody wanted it: how late it began is no news.
func (t Trigger) OfThePast() bool { return t == TriggerBackfill || t == TriggerRetry }

// Run is one fire and what became of it. A skipped fire is a Run with Verdict Skipped, so that each fire is one row.
type Run struct {
	ID          string // UUIDv7; the idempotency key handed to the task
	TaskID      string
	TaskVersion int64
	Namespace   string
	TaskName    string
	TaskType    string
	Trigger     Trigger
	Series      string    // "" for the fires of the schedule; names the backfill, upstream run, workflow step … of others
	FireAt      time.Time // nominal instant, UTC, whole microseconds; unique per task and series
	MovedFrom   time.Time // the first instant that the calendars moved to FireAt; zero: none
	FireThrough time.Time // last nominal instant covered; equals FireAt unless FireCount > 1 (a range of skipped fires)
	FireCount   int       // nominal instants covered; 1 except for a skipped range
	Params      json.RawMessage

	State     RunState
	Owner     string          // id of the server that has claimed it
	StartAt   time.Time       // when the next (or current) attempt starts
	Attempt   int             // number of the next (or current) attempt, from 1
	Token     int64           // fencing token of that attempt; rises with every claim and attempt of the task
	DecidedAt time.Time       // when started-or-skipped was decided
	Reason    Reason          // only with Verdict Skipped
	Facts     json.RawMessage // what the decision was made on; small; may be empty

	Priority  int       // of the task's policies as it was claimed: the higher is admitted first
	Gate      Gate      // what a waiting run waits at; what the last one was that it waited at, if it does no more
	GateKey   string    // which one: name of the pool or breaker, index of the precondition
	WaitSince time.Time // when it came to the first gate it waited at; zero: it never waited
	WaitUntil time.Time // waiting: when it is looked at again at the latest; zero: only when something changes
	Overlap   Overlap   // of a backfill: its own policy; "": the task's
	// OverlapLimit is the number that Overlap comes with: how many may wait, or run side by side. The store keeps the two as one.
	OverlapLimit int
	Stop         Stop     // that somebody asked it to stop, and how
	StopBy       string   // who did
	WorkflowID   string   // the workflow run it is a step of; "": none
	Step         string   // the step's name
	CausedBy     string   // the run that caused it: upstream, or that it repeats
	Breaches     []Breach // what of its service levels it has missed so far

	StartedAt  time.Time // when the last attempt was handed to its executor, of a live run once it is known to run; zero if none was
	EndedAt    time.Time // when the run ended
	Verdict    Verdict   // "" while live
	Message    string    // the outcome's message, at most 4 KiB
	Output     json.RawMessage
	Usage      Usage
	Checkpoint []byte // what the last attempt left for the next
	// PrevSuccess is when the task's last successful run had ended as this run was claimed. It is not stored.
	PrevSuccess time.Time
	CreatedBy   string // principal of a manual run; else "gnomon"
}

// SkippedFor gives the row of a fire that was to be the run, and is skipped for a reason.
func (r Run) SkippedFor(reason Reason) Run {
	r.State, r.Verdict, r.Reason = RunEnded, Skipped, reason
	r.EndedAt, r.Attempt, r.Params = r.DecidedAt, 0, nil
	return r
}

// Source says how a figure was obtained. A figure is never invented.
type Source string

// The sources.
const (
	SourceUnknown  Source = "unknown"  // the figure is zero and means nothing
	SourceMeasured Source = "measured" // exact for this attempt alone
	SourceShared   Source = "shared"   // of a process that ran other attempts at the same time
)

// Usage is what one attempt used.
type Usage struct {
	CPU          time.Duration `json:"cpu"`            // user plus system time
	CPUSource    Source        `json:"cpu_source"`     // how CPU was obtained
	PeakRSSBytes uint64        `json:"peak_rss_bytes"` // highest resident memory of the process
	RSSSource    Source        `json:"rss_source"`
	ReadBytes    uint64        `json:"read_bytes"` // bytes fetched from storage, /proc/<pid>/io read_bytes
	WriteBytes   uint64        `json:"write_bytes"`
	IOSource     Source        `json:"io_source"`
}

// Outcome is the verdict of one attempt. It is apart from error: an Outcome says the task ran and how it ended.
type Outcome struct {
	Verdict    Verdict
	Message    string          // one line for a person; empty on success
	Output     json.RawMessage // what the task hands on; may be empty
	Permanent  bool            // retrying cannot help: parameters are wrong, the thing is gone
	RetryAfter time.Duration   // the task asks for at least this wait before the next attempt; 0: no wish
	Began      time.Time       // when the handler began, by the executing process's clock; zero: it never did
	Usage      Usage
	Checkpoint []byte // the last checkpoint of the attempt; nil: none
	Place      Place  // which process carried it; its Server is left to the runner
}

// Attempt is what an executor needs to try a run once.
type Attempt struct {
	RunID       string
	TaskID      string
	Namespace   string
	TaskName    string
	TaskType    string
	Number      int   // from 1
	Token       int64 // fencing token; rises with every attempt of the task
	FireAt      time.Time
	PrevSuccess time.Time // nominal end of the previous success; zero: none
	Params      json.RawMessage
	Checkpoint  []byte
	Zone        string // the schedule's zone
	Trigger     Trigger
	Traceparent string // W3C trace context of the attempt, handed to the task; "": it is not traced
	LogLevel    Level
	Grace       time.Duration // how long it may take to stop when it is asked to, before it is killed; 0: the executor's own
	// Terminate ends the grace of an attempt that was asked to stop before, when it is closed; nil: nothing does. One that
	// was not asked yet is terminated by ErrRunTerminated as the cause of its context: a context has one cause only.
	Terminate <-chan struct{}
}

// Failure says whether a run that ended so has failed: it was carried out, or should have been, and did not succeed.
func (v Verdict) Failure() bool {
	switch v {
	case Failed, TimedOut, Crashed, Lost:
		return true
	default:
		return false
	}
}
