package ledger

import (
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// asker is an Answer in the making.
type asker struct {
	Answer
	q      Question
	h      History
	reigns []reign
	at     time.Time
	zone   *time.Location
	name   string
}

func newAsker(q Question) *asker {
	a := &asker{q: q, at: q.At, zone: time.UTC, name: q.Task.Namespace + "/" + q.Task.Name}
	versions := append([]core.Task{}, q.Versions...)
	if q.Task.ID != "" || len(versions) == 0 {
		versions = append(versions, q.Task)
	}
	a.h = History{Versions: versions, Plan: q.Plan, Deleted: q.Deleted, Recalendared: q.Recalendared}
	a.reigns = a.h.reigns()
	for i := len(a.reigns) - 1; i >= 0; i-- {
		if plan := a.h.schedule(&a.reigns[i]); plan != nil {
			a.zone = plan.Location()
			break
		}
	}
	a.Evidence = []Evidence{}
	return a
}

// current gives the version that holds now, or held last.
func (a *asker) current() (*reign, bool) {
	if len(a.reigns) == 0 {
		return nil, false
	}
	return &a.reigns[len(a.reigns)-1], true
}

// heldAt gives the version that held at an instant, or nil.
func (a *asker) heldAt(at time.Time) *reign {
	for i := len(a.reigns) - 1; i >= 0; i-- {
		r := &a.reigns[i]
		if at.After(r.from) && (r.to.IsZero() || !at.After(r.to)) {
			return r
		}
	}
	return nil
}

// version gives a version by its number, or the one that held at the instant asked about.
func (a *asker) version(number int64) *reign {
	for i := range a.reigns {
		if a.reigns[i].task.Version == number {
			return &a.reigns[i]
		}
	}
	return a.heldAt(a.at)
}

// row finds the row that decided the instant: its own, one over a range that holds it, one of another series, or one
// that the calendars moved away from it.
func (a *asker) row() (*core.Run, bool) {
	var best *core.Run
	rank := 0
	take := func(run *core.Run, r int) {
		if r > rank {
			best, rank = run, r
		}
	}
	for i := range a.q.Rows {
		run := &a.q.Rows[i]
		if run.TaskID != "" && a.q.Task.ID != "" && run.TaskID != a.q.Task.ID {
			continue
		}
		switch own := run.Series == ""; {
		case own && run.FireAt.Equal(a.at):
			take(run, 5)
		case own && run.FireCount > 1 && run.FireAt.Before(a.at) && !a.at.After(run.FireThrough) && a.isInstant(run):
			take(run, 4)
		case own && run.MovedFrom.Equal(a.at) && !run.MovedFrom.IsZero():
			take(run, 3)
		case run.FireAt.Equal(a.at):
			take(run, 2)
		case (!own || run.Trigger == core.TriggerManual) && run.FireAt.Truncate(time.Second).Equal(a.at): // of a run by hand people know the second
			take(run, 1)
		}
	}
	return best, best != nil
}

// isInstant says whether what is asked about is an instant of the version that a row over several was decided by.
func (a *asker) isInstant(run *core.Run) bool {
	r := a.version(run.TaskVersion)
	if r == nil {
		return true
	}
	plan := a.h.schedule(r)
	if !follows(plan) {
		return true
	}
	_, ok := fireAt(plan, a.at)
	return ok
}

// newestRow gives the instant of the newest row, or otherwise.
func (a *asker) newestRow(otherwise time.Time) time.Time {
	newest := otherwise
	for i := range a.q.Rows {
		if at := a.q.Rows[i].FireAt; !at.After(a.q.Now) && (newest.IsZero() || newest.After(a.q.Now) || at.After(newest)) {
			newest = at
		}
	}
	return newest
}

// put notes a fact for programs.
func (a *asker) put(key string, value any) {
	if a.Data == nil {
		a.Data = map[string]any{}
	}
	switch v := value.(type) {
	case time.Time:
		if v.IsZero() {
			return
		}
		value = v.UTC().Format(time.RFC3339Nano)
	case time.Duration:
		value = v.Seconds()
	case string:
		if v == "" {
			return
		}
	}
	a.Data[key] = value
}

func (a *asker) evidence(kind string, at time.Time, text core.Text, data map[string]any) {
	if !at.IsZero() {
		at = at.UTC()
	}
	a.Evidence = append(a.Evidence, Evidence{Kind: kind, At: at, Text: text, Data: data})
}

// sawVersion puts a version in evidence: when it was written, by whom, and its schedule.
func (a *asker) sawVersion(r *reign) {
	if slices.ContainsFunc(a.Evidence, func(e Evidence) bool { return e.Kind == "version" && e.Data["version"] == r.task.Version }) {
		return
	}
	state := say("启用", "enabled")
	if !r.task.Enabled {
		state = say("停用", "disabled")
		if r.task.DisabledReason != "" {
			why := Detail(r.task.DisabledReason)
			state = plus(state, say("（"+why.Zh+"）", " ("+why.En+")"))
		}
	}
	text := plus(both("版本 %d，%s 由 %s 保存，计划“%s”，", "version %d, saved at %s by %s, schedule \"%s\", ",
		r.task.Version, a.when(r.from), by(r.task.UpdatedBy).En, r.task.Schedule.Spec), state)
	a.evidence("version", r.from, text, map[string]any{
		"version": r.task.Version, "by": r.task.UpdatedBy, "spec": r.task.Schedule.Spec, "zone": r.task.Schedule.Zone, "enabled": r.task.Enabled,
	})
}

// sawRun puts a row in evidence.
func (a *asker) sawRun(run *core.Run) {
	data := map[string]any{"run_id": run.ID, "trigger": string(run.Trigger), "version": run.TaskVersion, "state": string(run.State)}
	if run.Reason != "" {
		data["reason"] = string(run.Reason)
	}
	if run.FireCount > 1 {
		data["first"], data["last"], data["count"] = run.FireAt.UTC().Format(time.RFC3339Nano), run.FireThrough.UTC().Format(time.RFC3339Nano), run.FireCount
	}
	if f := factsOf(run); len(f) > 0 {
		data["facts"] = map[string]any(f)
	}
	text := both("运行记录 %s，%s 作出决定", "row %s, decided at %s", run.ID, a.when(run.DecidedAt))
	if run.FireCount > 1 {
		text = plus(text, both("，涵盖 %s 至 %s 的 %d 个时刻", ", over %[3]d instants from %[1]s to %[2]s", a.when(run.FireAt), a.when(run.FireThrough), run.FireCount))
	}
	a.evidence("run", run.DecidedAt, text, data)
}

// lastDecision gives when the newest decision before a time was made, as far as the rows at hand say.
func (a *asker) lastDecision(than time.Time) (last time.Time) {
	for i := range a.q.Rows {
		if at := a.q.Rows[i].DecidedAt; at.Before(than) && at.After(last) {
			last = at
		}
	}
	return last
}

// liveAt gives the runs of the task that executed at a time, but for one.
func (a *asker) liveAt(at time.Time, but string) []*core.Run {
	var live []*core.Run
	for i := range a.q.Rows {
		run := &a.q.Rows[i]
		began := begun(run)
		if run.ID == but || run.Verdict == core.Skipped || began.IsZero() || began.After(at) {
			continue
		}
		if run.EndedAt.IsZero() || !run.EndedAt.Before(at) {
			live = append(live, run)
		}
	}
	return live
}

// begun gives when a run's last attempt began. Of one that executes only the time at which it was to begin is on record.
func begun(run *core.Run) time.Time {
	if run.StartedAt.IsZero() && (run.State == core.RunRunning || run.State == core.RunClaimed) {
		return run.StartAt
	}
	return run.StartedAt
}
