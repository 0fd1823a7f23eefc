package core

import (
	"encoding/json"
	"time"
)

// The values that cross between scheduler, runner and store. Each batch method of the store takes a slice and answers
// with a slice of the same length, in the same order, after its transaction is durable.

// Due is a task with an upcoming fire, as the scheduler's window holds it.
type Due struct {
	TaskID   string
	Version  int64
	NextFire time.Time
}

// Claim moves a task's mark and inserts the rows of its fires, in one transaction, if task version and next fire are
// still what the scheduler saw. All of it or nothing.
type Claim struct {
	TaskID   string
	Version  int64
	NextFire time.Time // as seen; the compare-and-set value
	Then     time.Time // the fire after that; zero: none
	Runs     []Run     // any number that start, and any number of skipped ones (range rows); IDs already given
	Overlap  Overlap   // the task's policy: with OverlapSkip, a run that would start beside a live one is queued
	Gated    bool      // all that start must be admitted at their instant: they are inserted as RunQueued
}

// Claimed answers a Claim.
type Claimed struct {
	Won   bool  // false: somebody else moved the mark or edited the task; nothing was written
	Live  int   // live runs of the task before this claim
	Token int64 // fencing token of the first run that starts; those after it have the numbers that follow
	Fired int64 // TaskState.Fired after this claim
	// LastSuccess is when the task's last successful run ended, for the runs that start; zero: none yet.
	LastSuccess time.Time
	// Queued says that the starting runs were inserted as RunQueued instead of RunClaimed: the claim was gated, or its
	// overlap policy is OverlapSkip and Live was not zero.
	Queued bool
	// Decided lists, by index in Claim.Runs, starting runs whose fire had a row already (an edit moved the mark back
	// over it): the mark was moved on, they were not inserted and do not start.
	Decided []int
}

// Admitted answers an Admission, after what it says was written: a run that starts is RunClaimed with its new token and
// holds its slots, one that waits is RunWaiting. One that is to be skipped, stopped or superseded is left to the caller.
type Admitted struct {
	Ruling
	Stale       bool // the run is in none of the three states any more, or has another token: nothing was written
	Token       int64
	LastSuccess time.Time
}

// Hold makes a queued run wait at a gate that the store knows nothing about: a precondition.
type Hold struct {
	RunID  string
	TaskID string
	Token  int64
	Gate   Gate
	Key    string
	Detail string // what it waits for, in words; becomes part of the run's facts
	At     time.Time
	Until  time.Time
}

// Skip ends a claimed, queued or waiting run that has not started.
type Skip struct {
	RunID     string
	TaskID    string
	Token     int64
	Owner     string // server that decides so: the ledger names it beside DecidedAt, which is by its clock; empty: the run's owner
	Reason    Reason
	Facts     json.RawMessage
	DecidedAt time.Time
	NextFire  time.Time // for @after schedules: the fire that follows the skipped one; zero: leave the mark alone
	Version   int64     // task version NextFire belongs to
	Breaches  []Breach
}

// Running says that an attempt is known to be executing, and since when.
type Running struct {
	RunID     string
	Token     int64 // of the attempt; a stale one changes nothing
	StartedAt time.Time
}

// Finish ends an attempt. Exactly one of the two ways: Retry set, or the run ends with Outcome.
type Finish struct {
	RunID     string
	TaskID    string
	Token     int64  // of the attempt; a stale one changes nothing
	Owner     string // the server that writes this; a retry is its own from now on
	Outcome   Outcome
	StartedAt time.Time
	EndedAt   time.Time
	RetryAt   time.Time // zero: the run ends
	NextFire  time.Time // for @after schedules: the fire this end causes; zero: leave the mark alone
	Version   int64     // task version NextFire belongs to
	StopAfter int       // disable the task if this is the last of so many failed runs in a row; 0: never
	Breakers  []BreakerRule
	Breaches  []Breach
	Intervene bool  // put the run before a person
	Then      []Run // what this end causes of other tasks: runs, which are queued and get their tokens from the store, and skipped fires (RunEnded)
}

// Dependent is a task that the end of a run is to start, with its effective policies and the parameters of that run.
type Dependent struct {
	Task  Task
	Skip  Reason          // why it cannot start, so that its fire is skipped; "": it starts
	Facts json.RawMessage // which end it is, and what it was skipped for
}

// Finished answers a Finish.
type Finished struct {
	Stale    bool      // the token was not the current one; nothing was written
	Token    int64     // after a retry: the fencing token of the next attempt
	Disabled string    // not empty: the task was disabled by this, with this reason
	Then     []Run     // those of Finish.Then that were queued, with their tokens; not those whose task is gone by then, or disabled, which are skipped
	Breakers []Breaker // those whose state was changed by this
}

// StopRequest is a live run that somebody asked to stop, on whatever server.
type StopRequest struct {
	RunID string
	How   Stop
	By    string
}

// Intervention is a run whose attempts are used up, put before a person.
type Intervention struct {
	RunID      string
	TaskID     string
	Namespace  string
	TaskName   string
	TaskType   string
	FireAt     time.Time
	Params     json.RawMessage
	Verdict    Verdict
	Message    string
	Attempts   int
	WorkflowID string
	Step       string
	CreatedAt  time.Time

	ResolvedAt time.Time // zero: it is open
	Action     string    // retry, skip or done
	Note       string
	By         string
	NewRun     string // retry: the run that tries again
}

// InterventionFilter selects interventions, newest first; zero fields select all.
type InterventionFilter struct {
	Namespaces []string // nil: all
	TaskID     string
	Resolved   bool // the resolved ones; else the open ones
	BeforeID   string
	Limit      int // 1 to 1000
}

// Resource is a definition that is no task: of a kind, under a name, as JSON.
type Resource struct {
	Kind      string // calendar, holidays, pool or downstream
	Name      string
	Version   int64 // rises with every change
	Doc       json.RawMessage
	UpdatedAt time.Time
	UpdatedBy string
}

// ResourceInChinese is what a person calls a resource in Chinese.
func ResourceInChinese(kind, name string) string {
	return map[string]string{"calendar": "日历", "holidays": "节假日数据", "pool": "池", "downstream": "下游"}[kind] + " " + name
}

// Reference says that a task names something: what must be planned anew, or refused, when that changes.
type Reference struct {
	TaskID    string
	Namespace string // the task's
	TaskName  string
	Kind      string // one of the kinds below
	Name      string // of a task: its name in the same namespace
}

// The kinds of Reference.
const (
	RefUpstream      = "upstream"
	RefStep          = "step"
	RefCalendar      = "calendar"
	RefPool          = "pool"
	RefDownstream    = "downstream"
	RefAskedTask     = "asked_task" // of preconditions
	RefAskedCalendar = "asked_calendar"
)

// References gives all that a task names; some may be there twice.
func (t *Task) References() []Reference {
	var refs []Reference
	add := func(kind string, names ...string) {
		for _, name := range names {
			refs = append(refs, Reference{TaskID: t.ID, Namespace: t.Namespace, TaskName: t.Name, Kind: kind, Name: name})
		}
	}
	for _, up := range t.After {
		add(RefUpstream, up.Task)
	}
	add(RefStep, t.Steps...)
	add(RefCalendar, t.Schedule.OnlyOn...)
	add(RefCalendar, t.Schedule.NotOn...)
	for _, use := range t.Policies.Pools {
		add(RefPool, use.Pool)
	}
	add(RefDownstream, t.Policies.Downstreams...)
	for _, m := range t.Mentions {
		switch m.Kind {
		case MentionTask:
			add(RefAskedTask, m.Name)
		case MentionCalendar:
			add(RefAskedCalendar, m.Name)
		case MentionParameter: // nothing that could go
		}
	}
	return refs
}

// TaskFilter selects tasks; zero fields select all.
type TaskFilter struct {
	Namespaces []string // nil: all; the API fills it from what the caller may see
	Type       string
	Enabled    *bool
	Search     string // substring of the name or description, case-insensitive
	AfterID    string // cursor: only ids greater than this
	Limit      int    // 1 to 1000
}

// RunFilter selects runs, newest first; zero fields select all.
type RunFilter struct {
	Namespaces []string
	TaskID     string
	TaskType   string
	Verdicts   []Verdict
	LiveOnly   bool
	States     []RunState
	WorkflowID string // runs that are steps of it
	CausedBy   string
	From, To   time.Time // of FireAt: From <= FireAt < To
	BeforeID   string    // cursor: only ids less than this
	Limit      int       // 1 to 1000
}
