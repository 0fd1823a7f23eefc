package core

import (
	"slices"
	"time"
)

// Overlap says what happens to a fire while earlier runs of the same task are still live.
type Overlap string

// The overlap policies.
const (
	OverlapSkip      Overlap = "skip"               // default: the fire is skipped with the reason overlap
	OverlapQueue     Overlap = "queue"              // it waits for them; as many as Policies.OverlapLimit may, the next is skipped
	OverlapCancel    Overlap = "cancel_previous"    // they are asked to stop, and it starts when they have
	OverlapTerminate Overlap = "terminate_previous" // they are killed, and it starts when they are gone
	OverlapAllow     Overlap = "allow"              // they run side by side, as many as Policies.OverlapLimit; 0: without limit
)

// CatchUp says what happens to fires that were missed while no server ran, and to those that come while a breaker is open.
type CatchUp string

// The catch-up policies.
const (
	CatchUpLatest CatchUp = "latest" // default: the latest missed fire starts, the others are skipped
	CatchUpNone   CatchUp = "none"   // all are skipped
	CatchUpAll    CatchUp = "all"    // those of the last CatchUpWindow start, the newest CatchUpLimit of them, CatchUpSpread apart
)

// What CatchUpAll takes where nothing is said, and how much may be said.
const (
	DefaultCatchUpWindow = 24 * time.Hour
	DefaultCatchUpLimit  = 100
	MaxCatchUpLimit      = 1000
	DefaultCatchUpSpread = time.Second
)

// Backoff says how the wait before an attempt grows.
type Backoff string

// The back-offs.
const (
	BackoffExponential Backoff = "exponential" // default: doubled for each attempt made
	BackoffFixed       Backoff = "fixed"
)

// LogFull says what becomes of a run's log lines while the log spool takes no more: history is down for long, or the disk is full.
type LogFull string

// The choices.
const (
	LogFullWait LogFull = "wait" // default: the run waits, and no line is lost
	LogFullDrop LogFull = "drop" // the run goes on; the lines are counted, and its log says how many are missing, and where
)

// When says after which ends of another run something happens.
type When string

// The ends.
const (
	OnSuccess When = "success" // default
	OnFailure When = "failure" // any verdict but succeeded and cancelled
	OnAlways  When = "always"  // any end but a skipped fire
)

// Matches says whether an end is meant.
func (w When) Matches(v Verdict) bool {
	switch w {
	case OnFailure:
		return v.Failure()
	case OnAlways:
		return v != Skipped && v != ""
	default:
		return v == Succeeded
	}
}

// Upstream names a task whose runs start this one when they end.
type Upstream struct {
	Task   string            `json:"task"`             // name of the task, in the same namespace
	On     When              `json:"on,omitempty"`     // "" is OnSuccess
	Params map[string]string `json:"params,omitempty"` // parameter -> JSON path into the upstream run's output ("$.total"), laid over the task's own
}

// Policies say how a task's runs are carried out. Fields that are not said take the namespace's default, else the one named.
// A field is said if it is not zero, if it is a list that is there and empty, or if Zeros names it.
type Policies struct {
	Zeros []string // the numbers, switches and times that are written and zero, as in JSON: "stop_after", "sla.finish_by"

	Timeout     time.Duration // hard limit of one attempt: it is killed; 0: the type's default, else the server's
	SoftTimeout time.Duration // the attempt is asked to stop, and has the rest up to Timeout to do so; 0: asked at Timeout

	Overlap       Overlap       // "" is OverlapSkip
	OverlapLimit  int           // OverlapQueue: how many may wait (0: 1); OverlapAllow: how many may run (0: no limit)
	CatchUp       CatchUp       // "" is CatchUpLatest
	CatchUpWindow time.Duration // CatchUpAll: how far back; 0: DefaultCatchUpWindow
	CatchUpLimit  int           // CatchUpAll: how many at most; 0: DefaultCatchUpLimit
	CatchUpSpread time.Duration // CatchUpAll: between two starts; 0: DefaultCatchUpSpread
	MaxRuns       int           // how many runs its schedule starts in all; 0: no limit

	MaxAttempts   int           // how often a run is tried in all; 0 and 1: no retry
	RetryDelay    time.Duration // wait before the second attempt; 0: 10 s
	RetryBackoff  Backoff       // "" is BackoffExponential
	RetryMaxDelay time.Duration // no wait is longer, unless the task asks for it; 0: one hour
	RetryJitter   float64       // 0 to 1: by how much of itself a wait is varied, by a hash of run and attempt
	RetryOn       []Verdict     // which verdicts are retried; empty: failed, timed_out, crashed and lost
	StopAfter     int           // so many failed runs in a row disable the task; 0: never; Task.StopOnError is 1
	Intervene     bool          // a run whose attempts are used up is put before a person

	Priority      int // -100 to 100; the higher is admitted first
	Pools         []PoolUse
	Downstreams   []string    // what it touches: the names of the breakers shared by all tasks that name them
	Breaker       BreakerRule // of this task alone; Failures 0: none
	Preconditions []Precondition
	SLA           SLA

	LogLevel Level   // lines below this level are not kept; zero: all
	LogFull  LogFull // "" is LogFullWait
}

// Zero says whether a field is written and zero; name is as in Zeros.
func (p *Policies) Zero(name string) bool { return slices.Contains(p.Zeros, name) }

// Over lays policies over defaults: what p does not say, defaults do. The breaker and the service levels are laid field by
// field too. Zeros stay those of p.
func (p Policies) Over(defaults Policies) Policies {
	d := &defaults
	field(&p, "timeout", &p.Timeout, d.Timeout)
	field(&p, "soft_timeout", &p.SoftTimeout, d.SoftTimeout)
	if p.Overlap == "" {
		p.Overlap, p.OverlapLimit = d.Overlap, d.OverlapLimit
	}
	word(&p.CatchUp, d.CatchUp)
	field(&p, "catch_up_window", &p.CatchUpWindow, d.CatchUpWindow)
	field(&p, "catch_up_limit", &p.CatchUpLimit, d.CatchUpLimit)
	field(&p, "catch_up_spread", &p.CatchUpSpread, d.CatchUpSpread)
	field(&p, "max_runs", &p.MaxRuns, d.MaxRuns)
	field(&p, "max_attempts", &p.MaxAttempts, d.MaxAttempts)
	field(&p, "retry_delay", &p.RetryDelay, d.RetryDelay)
	word(&p.RetryBackoff, d.RetryBackoff)
	field(&p, "retry_max_delay", &p.RetryMaxDelay, d.RetryMaxDelay)
	field(&p, "retry_jitter", &p.RetryJitter, d.RetryJitter)
	list(&p.RetryOn, d.RetryOn)
	field(&p, "stop_after", &p.StopAfter, d.StopAfter)
	field(&p, "intervene", &p.Intervene, d.Intervene)
	field(&p, "priority", &p.Priority, d.Priority)
	list(&p.Pools, d.Pools)
	list(&p.Downstreams, d.Downstreams)
	field(&p, "breaker.failures", &p.Breaker.Failures, d.Breaker.Failures)
	field(&p, "breaker.cooldown", &p.Breaker.Cooldown, d.Breaker.Cooldown)
	field(&p, "breaker.probes", &p.Breaker.Probes, d.Breaker.Probes)
	list(&p.Preconditions, d.Preconditions)
	field(&p, "sla.start_within", &p.SLA.StartWithin, d.SLA.StartWithin)
	field(&p, "sla.finish_within", &p.SLA.FinishWithin, d.SLA.FinishWithin)
	field(&p, "sla.finish_by", &p.SLA.FinishBy, d.SLA.FinishBy)
	field(&p, "sla.max_duration", &p.SLA.MaxDuration, d.SLA.MaxDuration)
	field(&p, "sla.p95_factor", &p.SLA.P95Factor, d.SLA.P95Factor)
	word(&p.LogLevel, d.LogLevel)
	word(&p.LogFull, d.LogFull)
	return p
}

// field fills in what is zero and not written so.
func field[T comparable](p *Policies, name string, value *T, otherwise T) {
	if !p.Zero(name) {
		word(value, otherwise)
	}
}

// word fills in what has a word for each choice, and no zero that could be written.
func word[T comparable](value *T, otherwise T) {
	var none T
	if *value == none {
		*value = otherwise
	}
}

// list fills in a list that is not there; one that is there and empty was written so.
func list[T any](value *[]T, otherwise []T) {
	if *value == nil {
		*value = otherwise
	}
}

// Otherwise says what happens when a precondition has not come true by its deadline.
type Otherwise string

// The choices.
const (
	OtherwiseSkip Otherwise = "skip" // default: the fire is skipped with the reason precondition
	OtherwiseRun  Otherwise = "run"  // it starts all the same
	OtherwiseFail Otherwise = "fail" // the run ends as failed
)

// NotTrueInTime ends the detail in the facts of a run that OtherwiseRun has started.
const NotTrueInTime = "; it had not come true by its deadline, and otherwise: run starts it all the same"

// Precondition must be true before a run starts. Exactly one of Expression, SQL and HTTP is given.
type Precondition struct {
	Name       string        `json:"name,omitempty"`       // for people; "": the expression, query or URL itself
	Expression string        `json:"expression,omitempty"` // expr-lang; true or false
	SQL        *SQLCheck     `json:"sql,omitempty"`
	HTTP       *HTTPCheck    `json:"http,omitempty"`
	Every      time.Duration `json:"every_ns,omitempty"`    // how often it is looked at; 0: 30 s
	Deadline   time.Duration `json:"deadline_ns,omitempty"` // how long after its instant a run waits for it; 0: it is looked at once
	Otherwise  Otherwise     `json:"otherwise,omitempty"`   // "" is OtherwiseSkip
}

// MentionKind is what kind of thing a precondition names.
type MentionKind string

// The kinds of mention.
const (
	MentionTask      MentionKind = "task"      // another of the namespace: task("stats")
	MentionCalendar  MentionKind = "calendar"  // day(now, "factory-days")
	MentionParameter MentionKind = "parameter" // of the task's type: params.region
)

// Mention is a name that stands written out in a precondition's expression.
type Mention struct {
	Kind         MentionKind
	Name         string
	Line, Column int // where it stands first, from 1
}

// SQLCheck is true if the first value of the query's first row is: true, a number other than 0, or a text but "", "0", "f" and "false".
type SQLCheck struct {
	Connection string `json:"connection"` // as granted to the namespace: "business"
	Query      string `json:"query"`      // one reading statement
}

// HTTPCheck is true if a GET is answered as wanted.
type HTTPCheck struct {
	URL      string `json:"url"`
	Status   int    `json:"status,omitempty"`   // 0: any of 200 to 299
	Contains string `json:"contains,omitempty"` // what the first 64 KiB of the body must contain
}

// SLA are a task's service levels. Each is watched; zero ones are not.
type SLA struct {
	StartWithin  time.Duration `json:"start_within_ns,omitempty"`  // after its instant a run must have started
	FinishWithin time.Duration `json:"finish_within_ns,omitempty"` // after its instant it must have ended
	FinishBy     string        `json:"finish_by,omitempty"`        // by this local time, the first at or after its instant: "06:00"
	MaxDuration  time.Duration `json:"max_duration_ns,omitempty"`  // of an attempt
	P95Factor    float64       `json:"p95_factor,omitempty"`       // an attempt may take this many times the p95 of the task's last 30 days
}

// BreachKind is which service level was missed.
type BreachKind string

// The kinds of breach.
const (
	BreachStart  BreachKind = "not_started_in_time"
	BreachFinish BreachKind = "not_finished_in_time"
	BreachLong   BreachKind = "too_long"
	BreachSlow   BreachKind = "slower_than_usual"
)

// Breach is a service level that a run has missed.
type Breach struct {
	Kind  BreachKind `json:"kind"`
	At    time.Time  `json:"at"`    // when the limit passed, UTC
	Limit string     `json:"limit"` // what was demanded, in words: "start within 5m0s"
}

// Same says whether two tell of the same limit.
func (b Breach) Same(other Breach) bool { return b.Kind == other.Kind && b.Limit == other.Limit }

// Stop is how a live run was asked to stop.
type Stop string

// The ways to stop a run.
const (
	StopCancel    Stop = "cancel"    // politely, with the grace period
	StopTerminate Stop = "terminate" // at once
	StopSupersede Stop = "supersede" // only if it still waits: its fire is then skipped as superseded
)
