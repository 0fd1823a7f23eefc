package ledger

import (
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// Code says what became of an instant, for programs. The list is closed. What was skipped has the reason as its code.
type Code string

// The codes of instants that have a row.
const (
	CodeStarted      Code = "started"                // it ran, and has ended; Data says how
	CodeRunning      Code = "running"                // it executes
	CodeClaimed      Code = "claimed"                // it is about to start
	CodeWaiting      Code = "waiting"                // it waits at a gate
	CodeRetrying     Code = "retrying"               // it waits for its next attempt
	CodeNotStarted   Code = "not_started"            // it ended without having begun: cancelled, or a precondition failed it
	CodeOverlap      Code = "overlap"                // an earlier run was live
	CodeCatchUp      Code = "catch_up"               // missed, and the policy did not want it any more; Data["cause"]: none, latest, window or limit
	CodeNonexistent  Code = "nonexistent_local_time" // the local time does not exist on that date
	CodeCalendar     Code = "calendar"               // the calendars refuse it
	CodePaused       Code = "paused"                 // the task was, or will be, paused
	CodeMaxRuns      Code = "max_runs"               // the task has had its number of runs
	CodePrecondition Code = "precondition"           // a precondition had not come true
	CodeBreaker      Code = "breaker"                // a breaker was open
	CodeCapacity     Code = "capacity"               // too many waited for a limit
	CodeSuperseded   Code = "superseded"             // a later fire took its place
	CodeShutdown     Code = "shutdown"               // the server was stopping
	CodeUnknownType  Code = "unknown_type"           // nobody offers the type
	CodePoisoned     Code = "poisoned"               // the definition cannot be read
	CodeParams       Code = "params"                 // its upstream's output does not give parameters that fit
)

// The codes of instants that may have no row.
const (
	CodeStopOnError     Code = "stop_on_error"    // Gnomon had disabled the task after a failed run
	CodeDisabled        Code = "disabled"         // a person had
	CodeEdited          Code = "edited"           // it belongs to a version that did not hold then, or no longer
	CodeNotCreated      Code = "not_created"      // the task did not exist yet
	CodeDeleted         Code = "deleted"          // the task did not exist any more
	CodeMoved           Code = "moved"            // the calendars moved it to another instant
	CodeMerged          Code = "merged"           // its local time does not exist; the fire after the gap stands for it
	CodeNotDue          Code = "not_due"          // it has not come yet, and is expected to start
	CodeUndecided       Code = "undecided"        // it has come, and no server has decided it yet
	CodeServerDown      Code = "server_down"      // likewise, and no server has shown itself lately
	CodeNoSuchFire      Code = "no_such_fire"     // the schedule has no such instant
	CodeNoRecord        Code = "no_record"        // it should have a row and has none: removed from history, or a fault
	CodeUpstreamPending Code = "upstream_pending" // of what it runs after, nothing has ended since it does
	CodeUpstreamOutcome Code = "upstream_outcome" // the last end of what it runs after is none that starts it
)

// Question asks what became of an instant of a task.
type Question struct {
	Task     core.Task   // as it is now, with its effective policies; of a deleted one: its last version
	Versions []core.Task // all that are known, in any order; Task may be among them
	// Plan gives meaning to the schedule of a version, as of History.
	Plan func(version core.Task) (*schedule.Schedule, error)
	At   time.Time // the instant; zero: LastExpected
	Now  time.Time
	// Rows are the task's rows around the instant, live ones among them: those over several instants that cover it, and
	// a few before it, which say since when nothing was decided, and what ran.
	Rows []core.Run

	// Ends are the runs that ended last of the tasks that the task runs after, if it has no schedule; among Rows is what they
	// have caused.
	Ends []core.Run

	Deleted      time.Time // when the task was deleted; zero: it is there
	DeletedBy    string
	Serving      time.Time      // when a server last renewed its lease; zero: not known
	Recalendared time.Time      // as of History
	Breakers     []core.Breaker // those the task passes, as they stand
	// Intervention gives what a person was asked, and has decided, about a run; false: nobody was asked. It may be nil.
	Intervention func(runID string) (core.Intervention, bool)
	// Seen gives when a server last showed itself before a time; zero: not known. It may be nil.
	Seen func(before time.Time) time.Time
	// Note gives what a calendar says of the day of an instant: the holiday's name. It may be nil.
	Note func(calendar string, at time.Time) core.Text
}

// Answer says what became of an instant.
type Answer struct {
	Instant  time.Time      `json:"instant"` // UTC; zero: none was asked about and the task has none
	Code     Code           `json:"code"`
	Text     core.Text      `json:"text"`             // one sentence, or two
	RunID    string         `json:"run_id,omitempty"` // the row that decided it
	Data     map[string]any `json:"data,omitempty"`   // the same facts for programs; keys are in DESIGN.md
	Evidence []Evidence     `json:"evidence"`
}

// Evidence is one thing on record that the answer rests on.
type Evidence struct {
	Kind string         `json:"kind"` // run, version, pause, schedule, calendar, mark, breaker, server, gap, intervention
	At   time.Time      `json:"at,omitzero"`
	Text core.Text      `json:"text"`
	Data map[string]any `json:"data,omitempty"`
}

// serverSilent is how long no server may have renewed its lease before it counts as down: the length of a lease.
const serverSilent = 15 * time.Second

// Why answers a question. It never fails: what is missing among the facts is missing in the answer.
func Why(q Question) Answer {
	a := newAsker(q)
	if a.at.IsZero() {
		a.at = LastExpected(q)
	}
	a.Instant = a.at.UTC()
	if a.at.IsZero() {
		a.noInstant()
		return a.Answer
	}
	run, ok := a.row()
	if !ok && a.wholeSecond() {
		a.Instant = a.at.UTC()
		run, ok = a.row()
	}
	if ok {
		a.decided(run)
	} else {
		a.undecided()
	}
	a.Text = sentence(a.Text)
	return a.Answer
}

// wholeSecond goes on to the instant that begins within a second that is asked about, if the second's first moment is
// none: people are shown seconds, and know no others.
func (a *asker) wholeSecond() bool {
	held := a.heldAt(a.at)
	if held == nil || !a.at.Equal(a.at.Truncate(time.Second)) || a.belongs(held) {
		return false
	}
	plan := a.h.schedule(held)
	if !follows(plan) {
		return false
	}
	fire, ok := plan.Next(a.at)
	if !ok || fire.At.Sub(a.at) >= time.Second {
		return false
	}
	a.at = fire.At
	return true
}

// LastExpected gives the instant that "why did it not run?" means where none is named: the last one at or before now.
// For a disabled task that is the last it would have had. If there is none yet it is the next one; zero: there is none. A task
// that runs after others and has no schedule has none: Why answers for the last of their ends.
func LastExpected(q Question) time.Time {
	a := newAsker(q)
	end := q.Now
	if !q.Deleted.IsZero() && q.Deleted.Before(end) {
		end = q.Deleted
	}
	now, held := a.current()
	if !held {
		return time.Time{}
	}
	if a.chained(now) {
		return time.Time{}
	}
	plan := a.h.schedule(now)
	if plan != nil && plan.Kind() == schedule.After {
		if next := q.Task.State.NextFire; !next.IsZero() && !next.After(q.Now) {
			return next
		}
		return a.newestRow(q.Task.State.NextFire)
	}
	for i := len(a.reigns) - 1; i >= 0; i-- {
		r := &a.reigns[i]
		if !r.task.Enabled && !r.last {
			continue
		}
		until := end
		if !r.to.IsZero() && r.to.Before(until) {
			until = r.to
		}
		if fire, ok := before(a.h.schedule(r), until); ok && fire.At.After(r.from) {
			return fire.At
		}
	}
	if !follows(plan) {
		return a.newestRow(time.Time{})
	}
	if fire, ok := plan.Next(q.Now); ok && now.task.Enabled && q.Deleted.IsZero() {
		return fire.At
	}
	if fire, ok := before(plan, q.Now); ok {
		return fire.At
	}
	return time.Time{}
}

// Codes gives all codes there are.
func Codes() []Code {
	return []Code{
		CodeStarted, CodeRunning, CodeClaimed, CodeWaiting, CodeRetrying, CodeNotStarted, CodeOverlap, CodeCatchUp, CodeNonexistent,
		CodeCalendar, CodePaused, CodeMaxRuns, CodePrecondition, CodeBreaker, CodeCapacity, CodeSuperseded, CodeShutdown, CodeUnknownType,
		CodePoisoned, CodeStopOnError, CodeDisabled, CodeEdited, CodeNotCreated, CodeDeleted, CodeMoved, CodeMerged, CodeNotDue,
		CodeUndecided, CodeServerDown, CodeNoSuchFire, CodeNoRecord, CodeParams, CodeUpstreamPending, CodeUpstreamOutcome,
	}
}
