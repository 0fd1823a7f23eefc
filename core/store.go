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

// Claim moves a task's mark and inserts the run of its fire, in one transaction, if task version and next fire are
// still what the scheduler saw. All of it or nothing.
type Claim struct {
	TaskID   string
	Version  int64
	NextFire time.Time // as seen; the compare-and-set value
	Then     time.Time // the fire after that; zero: none
	Runs     []Run     // at most one that starts, and any number of skipped ones (range rows); IDs already given
	Overlap  Overlap   // the task's policy: with skip, a run that would start beside a live one is queued
}

// Claimed answers a Claim.
type Claimed struct {
	Won   bool  // false: somebody else moved the mark or edited the task; nothing was written
	Live  int   // live runs of the task before this claim
	Token int64 // fencing token of the run that starts
	// LastSuccess is when the task's last successful run ended, for the run that starts; zero: none yet.
	LastSuccess time.Time
	// Queued says that the starting run was inserted as RunQueued instead of RunClaimed, because the task's overlap
	// policy is skip and Live was not zero: it must be decided at its instant, by Start or Skip.
	Queued bool
	// Decided says that the fire that would start had a row already (an edit moved the mark back over it): the mark
	// was moved on, nothing was inserted and nothing starts.
	Decided bool
}

// Start makes a queued or retrying run claimed, before it executes; it is answered by a Claimed with the new token. It
// loses if the run is in neither state or has another token.
type Start struct {
	RunID  string
	TaskID string
	Token  int64 // the current one
	Owner  string
	At     time.Time // becomes StartAt
	// OnlyAlone lets the start succeed only if every other live run of the task is queued too; Claimed.Live counts the
	// other live runs.
	OnlyAlone bool
}

// Skip ends a claimed or queued run that has not started.
type Skip struct {
	RunID     string
	TaskID    string
	Token     int64
	Reason    Reason
	Facts     json.RawMessage
	DecidedAt time.Time
	NextFire  time.Time // for @after schedules: the fire that follows the skipped one; zero: leave the mark alone
	Version   int64     // task version NextFire belongs to
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
	Disable   string    // not empty: disable the task, with this reason (stop_on_error)
}

// Finished answers a Finish.
type Finished struct {
	Stale    bool  // the token was not the current one; nothing was written
	Token    int64 // after a retry: the fencing token of the next attempt
	Disabled bool  // the task was disabled by this
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
	From, To   time.Time // of FireAt: From <= FireAt < To
	BeforeID   string    // cursor: only ids less than this
	Limit      int       // 1 to 1000
}
