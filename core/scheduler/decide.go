package scheduler

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// Rules are the limits a decision is made under.
type Rules struct {
	// MissedAfter is how late a fire may be and still start as if in time. A fire that is later was missed: no server
	// ran, or none could reach the store; the task's catch-up policy decides about it.
	MissedAfter time.Duration
}

// Decision is what becomes of a task's fires that are due.
type Decision struct {
	// Runs are the rows to write: any number of skipped ones (a range of missed fires is one row), and at most one
	// that starts. IDs, owner and token are not given here.
	Runs []core.Run
	// Then is the next fire still undecided; zero: none, or (for @after) known only when the run has ended.
	Then time.Time
}

// Decide gives the decision for the fire at next, the first one of the task not yet decided, which is due now or
// within the claim-ahead time. It is pure: the same arguments give the same decision, whatever happened before, so a
// crash between deciding and writing changes nothing. It decides about one fire that is in time, or about all the
// missed ones at once, so that an outage of any length costs one claim.
func Decide(task *core.Task, sched *schedule.Schedule, next, now time.Time, rules Rules) Decision {
	if now.Sub(next) <= rules.MissedAfter {
		return decideOne(task, sched, next, now)
	}
	return decideMissed(task, sched, next, now)
}

func decideOne(task *core.Task, sched *schedule.Schedule, next, now time.Time) Decision {
	d := Decision{Then: following(sched, next)}
	fire, ok := sched.Next(next.Add(-time.Microsecond))
	run := newRun(task, next, now)
	if ok && fire.At.Equal(next) && fire.Skip != "" {
		d.Runs = []core.Run{skip(run, fire.Skip, nil)}
		return d
	}
	d.Runs = []core.Run{run}
	return d
}

func decideMissed(task *core.Task, sched *schedule.Schedule, next, now time.Time) Decision {
	last, count, reason := next, int64(1), core.ReasonCatchUp
	start := task.Policies.CatchUp != core.CatchUpNone
	if fire, n, ok := sched.Last(next.Add(-time.Microsecond), now); ok && n > 0 {
		last, count = fire.At.UTC(), n
		if fire.Skip != "" { // nothing in the range exists in local time, so there is nothing to catch up
			reason, start = fire.Skip, false
		}
	}
	d := Decision{Then: following(sched, last)}
	through := last
	if start {
		count--
	}
	if count > 0 {
		missed := newRun(task, next, now)
		if start {
			through = previous(sched, next, last)
		}
		missed.FireThrough, missed.FireCount = through, int(count)
		facts, _ := json.Marshal(map[string]any{ // a map of plain values cannot fail
			"policy":       string(task.Policies.CatchUp),
			"late_seconds": fmt.Sprintf("%.3f", now.Sub(next).Seconds()),
		})
		d.Runs = append(d.Runs, skip(missed, reason, facts))
	}
	if start {
		run := newRun(task, last, now)
		run.Trigger, run.StartAt = core.TriggerCatchUp, now
		d.Runs = append(d.Runs, run)
	} else if sched.Kind() == schedule.After {
		d.Then = now.Add(sched.After()).UTC().Truncate(time.Microsecond) // nothing runs, so no end will set the next fire
	}
	return d
}

// previous gives the last fire before last, skipped ones among them, knowing that there is one at or after first.
func previous(sched *schedule.Schedule, first, last time.Time) time.Time {
	at := first.Add(-time.Microsecond)
	if fire, n, ok := sched.Last(at, last.Add(-time.Microsecond)); ok && n > 0 {
		at = fire.At
	}
	for { // Last stops at the last one that can start; what follows it is in one gap of the clock
		fire, ok := sched.Next(at)
		if !ok || !fire.At.Before(last) {
			return at.UTC()
		}
		at = fire.At
	}
}

// following gives the fire after at; for @after it is unknown until the run has ended.
func following(sched *schedule.Schedule, at time.Time) time.Time {
	if sched.Kind() == schedule.After {
		return time.Time{}
	}
	if fire, ok := sched.Next(at); ok {
		return fire.At.UTC()
	}
	return time.Time{}
}

func newRun(task *core.Task, fireAt, now time.Time) core.Run {
	return core.Run{
		TaskID: task.ID, TaskVersion: task.Version, Namespace: task.Namespace, TaskName: task.Name, TaskType: task.Type,
		Trigger: core.TriggerSchedule, FireAt: fireAt, FireThrough: fireAt, FireCount: 1, Params: task.Params,
		State: core.RunClaimed, StartAt: fireAt, Attempt: 1, DecidedAt: now, CreatedBy: "gnomon",
	}
}

func skip(run core.Run, reason core.Reason, facts json.RawMessage) core.Run {
	run.State, run.Verdict, run.Reason, run.Facts = core.RunEnded, core.Skipped, reason, facts
	run.EndedAt, run.Attempt, run.Params = run.DecidedAt, 0, nil
	return run
}
