package scheduler

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// Rules are the limits a decision is made under.
type Rules struct {
	// MissedAfter is how late a fire may be and still start as if in time. A fire that is later was missed: no server
	// ran, or none could reach the store; the task's catch-up policy decides about it.
	MissedAfter time.Duration
	// Fired is how many runs the task's schedule has started so far: max_runs counts from there.
	Fired int64
	// Since is when this server began to decide, for the record.
	Since time.Time
}

// Decision is what becomes of a task's fires that are due.
type Decision struct {
	// Runs are the rows to write, in the order of their instants: any number of skipped ones (a range of them is one
	// row), and those that start. IDs, owner and token are not given here.
	Runs []core.Run
	// Then is the next fire still undecided; zero: none, or (for @after) known only when the run has ended.
	Then time.Time
	// Gated says that what starts must be admitted at its StartAt, because that is not the instant itself.
	Gated bool
}

// Decide gives the decision for the fire at next, the first one of the task not yet decided, which is due now or
// within the claim-ahead time. The task's policies are the effective ones. It is pure: the same arguments give the same
// decision, whatever happened before, so a crash between deciding and writing changes nothing. It decides about one
// fire that is in time, or about all the missed ones at once, so that an outage of any length costs one claim.
func Decide(task *core.Task, sched *schedule.Schedule, next, now time.Time, rules Rules) Decision {
	d := decision{task: task, sched: sched, now: now, rules: rules}
	switch {
	case task.Policies.MaxRuns > 0 && rules.Fired >= int64(task.Policies.MaxRuns):
		d.skip(next, next, 1, core.ReasonMaxRuns, map[string]any{"max_runs": task.Policies.MaxRuns, "fired": rules.Fired})
	case now.Sub(next) <= rules.MissedAfter:
		d.one(next)
	case task.Pause.Holds(now): // nothing starts meanwhile, so what was missed before the pause is not caught up either
		d.skipAll(next, d.end(), core.ReasonPaused, task.Pause.Facts())
	default:
		d.missed(next)
	}
	return d.Decision
}

// decision is a Decision in the making.
type decision struct {
	Decision
	task  *core.Task
	sched *schedule.Schedule
	now   time.Time
	rules Rules
}

func (d *decision) one(next time.Time) {
	d.Then = d.following(next)
	fire, ok := d.sched.FireOf(next)
	switch {
	case ok:
	case d.sched.Kind() == schedule.After: // its instants do not follow from time
		fire = d.sched.Judge(next)
	default: // the calendars have changed since the mark was set: it is no fire any more
		return
	}
	switch pause := d.task.Pause; {
	case pause.Holds(next):
		d.skip(next, next, 1, core.ReasonPaused, pause.Facts())
	case fire.Skip != "":
		d.skip(next, next, 1, fire.Skip, skipFacts(fire))
	default:
		run := d.run(next)
		run.MovedFrom = fire.MovedFrom.UTC()
		if delay := schedule.Jitter(d.task.ID, next, d.task.Schedule.Jitter); delay > 0 {
			run.StartAt, d.Gated = next.Add(delay), true
		}
		d.Runs = append(d.Runs, run)
		if d.sched.Kind() == schedule.After {
			d.Then = time.Time{} // the end of the run sets it
		}
	}
}

// missed decides about all the fires from next until now by the catch-up policy, those of a pause that began and ended
// meanwhile apart: they are skipped, and what was missed before it and after it is one outage with one limit and one spread.
func (d *decision) missed(next time.Time) {
	p := d.task.Policies
	facts := map[string]any{"policy": string(cmp.Or(p.CatchUp, core.CatchUpLatest)), "late_seconds": d.now.Sub(next).Round(time.Millisecond).Seconds()}
	if !d.rules.Since.IsZero() {
		facts["server_started"] = d.rules.Since.UTC().Format(time.RFC3339Nano)
	}
	starts := d.caughtUp(next)
	spread := cmp.Or(p.CatchUpSpread, core.DefaultCatchUpSpread)
	from := next
	d.Then = d.following(next)
	for i, fire := range starts {
		at := fire.At.UTC()
		d.between(from, at, facts)
		run := d.run(at)
		run.Trigger, run.StartAt, run.MovedFrom = core.TriggerCatchUp, d.now.Add(time.Duration(i)*spread), fire.MovedFrom.UTC()
		run.Facts = encode(facts)
		d.Runs = append(d.Runs, run)
		d.Gated = d.Gated || i > 0
		d.Then = d.following(at)
		from = at.Add(time.Microsecond)
	}
	switch {
	case d.sched.Kind() != schedule.After:
		d.between(from, d.end(), facts)
	case len(starts) == 0:
		d.between(next, next.Add(time.Microsecond), facts)
	default:
		d.Then = time.Time{} // the end of the run sets it
	}
}

// caughtUp gives the missed fires from next on that start, oldest first.
func (d *decision) caughtUp(next time.Time) []schedule.Fire {
	p := d.task.Policies
	limit, from := 1, next
	switch p.CatchUp {
	case core.CatchUpNone:
		return nil
	case core.CatchUpAll:
		limit = min(cmp.Or(p.CatchUpLimit, core.DefaultCatchUpLimit), core.MaxCatchUpLimit)
		from = later(from, d.now.Add(-cmp.Or(p.CatchUpWindow, core.DefaultCatchUpWindow)))
	}
	if p.MaxRuns > 0 {
		limit = min(limit, p.MaxRuns-int(d.rules.Fired))
	}
	if d.sched.Kind() == schedule.After {
		if fire := d.sched.Judge(next); fire.Skip == "" && !next.Before(from) && !d.task.Pause.Holds(next) {
			return []schedule.Fire{fire}
		}
		return nil
	}
	since, until := d.pausedMeanwhile()
	starts := d.latest(later(from, until), d.end(), limit)
	if more := limit - len(starts); more > 0 {
		starts = append(d.latest(from, since, more), starts...)
	}
	return starts
}

// pausedMeanwhile gives the pause that began and ended before now; zero if there was none.
func (d *decision) pausedMeanwhile() (since, until time.Time) {
	if p := d.task.Pause; p.Until.After(p.Since) && !p.Until.After(d.now) {
		return p.Since, p.Until
	}
	return time.Time{}, time.Time{}
}

// end gives the end of what is missed by now, as do all ends here the first instant that is not in it.
func (d *decision) end() time.Time { return d.now.Add(time.Microsecond) }

// latest gives the last fires in [from, end) that can start, oldest first.
func (d *decision) latest(from, end time.Time, limit int) []schedule.Fire {
	if !from.Before(end) {
		return nil
	}
	return d.sched.Latest(from.Add(-time.Microsecond), end.Add(-time.Microsecond), limit)
}

// between skips all the fires in [from, end): those that lie in the pause as paused, the others as missed.
func (d *decision) between(from, end time.Time, facts map[string]any) {
	since, until := d.pausedMeanwhile()
	d.skipAll(from, earlier(end, since), core.ReasonCatchUp, facts)
	d.skipAll(later(from, since), earlier(end, until), core.ReasonPaused, d.task.Pause.Facts())
	d.skipAll(later(from, until), end, core.ReasonCatchUp, facts)
}

// skipAll writes one row over all the fires in [from, end); where none of those missed could have started anyway, for the
// reason why the last could not. Then follows the last of them.
func (d *decision) skipAll(from, end time.Time, reason core.Reason, facts map[string]any) {
	if !from.Before(end) {
		return
	}
	if d.sched.Kind() == schedule.After {
		if fire := d.sched.Judge(from); fire.Skip != "" && reason == core.ReasonCatchUp {
			reason, facts = fire.Skip, skipFacts(fire)
		}
		d.skip(from, from, 1, reason, facts)
		d.Then = d.following(d.now)
		return
	}
	before, to := from.Add(-time.Microsecond), end.Add(-time.Microsecond)
	count := d.sched.Count(before, to)
	if count == 0 {
		return
	}
	first, _ := d.sched.Next(before)
	last, _ := d.sched.Final(before, to)
	if reason == core.ReasonCatchUp && len(d.sched.Latest(before, to, 1)) == 0 {
		reason, facts = last.Skip, skipFacts(last)
	}
	d.skip(first.At.UTC(), last.At.UTC(), count, reason, facts)
	d.Then = d.following(last.At)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// following gives the fire after at. For @after that is the delay after at, which holds if nothing runs.
func (d *decision) following(at time.Time) time.Time {
	if d.sched.Kind() == schedule.After {
		return at.Add(d.sched.After()).UTC().Truncate(time.Microsecond)
	}
	if fire, ok := d.sched.Next(at); ok {
		return fire.At.UTC()
	}
	return time.Time{}
}

func (d *decision) run(fireAt time.Time) core.Run { return newRun(d.task, fireAt, d.now) }

func (d *decision) skip(first, last time.Time, count int64, reason core.Reason, facts map[string]any) {
	run := d.run(first)
	run.FireThrough, run.FireCount = last, int(count)
	run.Facts = encode(facts)
	d.Runs = append(d.Runs, run.SkippedFor(reason))
}

func newRun(task *core.Task, fireAt, now time.Time) core.Run {
	return core.Run{
		TaskID: task.ID, TaskVersion: task.Version, Namespace: task.Namespace, TaskName: task.Name, TaskType: task.Type,
		Trigger: core.TriggerSchedule, FireAt: fireAt, FireThrough: fireAt, FireCount: 1, Params: task.Params,
		State: core.RunClaimed, StartAt: fireAt, Attempt: 1, DecidedAt: now, CreatedBy: "gnomon", Priority: task.Policies.Priority,
	}
}

// encode writes facts, which are maps of plain values and cannot fail.
func encode(facts map[string]any) json.RawMessage {
	if len(facts) == 0 {
		return nil
	}
	text, _ := json.Marshal(facts)
	return text
}

func skipFacts(fire schedule.Fire) map[string]any {
	if fire.Skip != core.ReasonCalendar {
		return nil
	}
	return map[string]any{"calendar": fire.Calendar, "rule": fire.Rule}
}

// StillDue says of a fire that was claimed ahead of its instant, and that no server has begun, whether the catch-up policy
// starts it now all the same: as if nobody had decided about it. If not, it gives why.
func StillDue(task *core.Task, sched *schedule.Schedule, fireAt, now time.Time, rules Rules) (reason core.Reason, facts json.RawMessage, due bool) {
	anew := *task
	anew.Pause, anew.Policies.MaxRuns = core.Pause{}, 0 // the claim has counted it, and whoever asks has looked at the pause
	for _, run := range Decide(&anew, sched, fireAt, now, rules).Runs {
		if !fireAt.Before(run.FireAt) && !fireAt.After(run.FireThrough) {
			return run.Reason, run.Facts, run.Verdict != core.Skipped
		}
	}
	return "", nil, true // no instant of the schedule as it is now: what was claimed is not undone by a change
}
