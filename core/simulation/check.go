package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// check holds the promises about firing against the observer's record, after everything has come to its end.
func (w *world) check() {
	w.checkStarts()
	w.checkEnds()
	w.checkNothingLeft()
	for _, t := range w.store.tasks {
		w.checkDecisions(t)
	}
}

// checkStarts: no attempt of a fire begins twice, and the tokens of a task rise and are used once. A resumable one may
// begin again, with a newer token.
func (w *world) checkStarts() {
	type attempt struct {
		fire   fireKey
		number int
	}
	type token struct {
		task   string
		number int64
	}
	seen := make(map[attempt]bool, len(w.seen.starts))
	used := make(map[token]bool, len(w.seen.starts))
	last := make(map[string]int64)
	for _, s := range w.seen.starts {
		key := attempt{keyOf(&s.run), s.run.Attempt}
		if seen[key] && s.task.Labels["resumable"] == "" {
			w.fail("task %s: attempt %d of the fire at %s (%s) was started twice", s.task.ID, s.run.Attempt, s.run.FireAt, s.run.Series)
		}
		seen[key] = true
		if s.run.Token <= last[s.run.ID] {
			w.fail("run %s: token %d of attempt %d does not rise above %d", s.run.ID, s.run.Token, s.run.Attempt, last[s.run.ID])
		}
		last[s.run.ID] = s.run.Token
		if used[token{s.task.ID, s.run.Token}] {
			w.fail("task %s: token %d was used twice", s.task.ID, s.run.Token)
		}
		used[token{s.task.ID, s.run.Token}] = true
	}
}

// checkEnds: what the end of a run causes is there exactly once, and nothing else is.
func (w *world) checkEnds() {
	caused := make(map[string][]string) // tasks, by run
	for _, run := range w.store.runs {
		if run.Trigger == core.TriggerUpstream {
			what := run.TaskID
			if run.Attempt == 0 { // as it was inserted: one that started may be skipped later
				what += " skipped " + string(run.Reason)
			}
			caused[run.CausedBy] = append(caused[run.CausedBy], what)
		}
	}
	for _, id := range w.seen.order {
		got, want := caused[id], w.seen.closed[id]
		slices.Sort(got)
		if !slices.Equal(got, want) {
			w.fail("the end of run %s causes %v, not %v", id, got, want)
		}
		delete(caused, id)
	}
	for id, tasks := range caused {
		w.fail("run %s has not ended, and caused %v", id, tasks)
	}
}

// checkNothingLeft: when nothing fires any more every run comes to an end, and nothing stays held.
func (w *world) checkNothingLeft() {
	for _, t := range w.store.tasks {
		for _, run := range t.live {
			w.fail("run %s of %s (%s, attempt %d, due %s) is %s at %s %q of %s long after the last fire, at %s: owner %s, breaker %+v",
				run.ID, t.task.ID, run.Trigger, run.Attempt, run.StartAt, run.State, run.Gate, run.GateKey, run.WaitSince, w.now, run.Owner, w.store.breakers[run.GateKey])
		}
	}
	if w.store.live() > 0 {
		return
	}
	for key, n := range w.store.used {
		if n != 0 {
			w.fail("%d slots of %s are held and nothing runs", n, key)
		}
	}
}

// checkMarks: at the end of the calm time every task's mark is ahead of it.
func (w *world) checkMarks() {
	for _, t := range w.store.tasks {
		switch {
		case t.nextFire.IsZero():
			ended := t.task.Policies.MaxRuns > 0
			if next := firstFire(t.sched, w.now); t.task.Enabled && !ended && !next.IsZero() && (t.sched.Kind() != schedule.After || len(t.live) == 0) {
				w.fail("task %s is enabled, and will never fire again", t.task.ID)
			}
		case t.nextFire.Before(w.now.Add(-3 * time.Second)):
			w.fail("task %s: its mark stands at %s, behind the end of the world at %s", t.task.ID, t.nextFire, w.now)
		}
	}
}

// deciding is how long a server at work may have a fire due before it is decided: it looks again after two seconds at the
// latest, whatever has become of its clock.
const deciding = 2500 * time.Millisecond

// checkUndecided: no fire lies undecided while a server is at work whose clock has it due.
func (w *world) checkUndecided(s *server, tasks ...*taskRow) {
	if s.dead || s.stalled.After(w.now) || !w.mayAct(s) || !w.registered(s) {
		return
	}
	for _, t := range tasks {
		if t.nextFire.IsZero() {
			continue
		}
		since := t.nextFire.Add(-w.clocks[s.slot]) // the true time at which its clock shows it
		for _, other := range []time.Time{s.since, t.marked} {
			if other.After(since) {
				since = other
			}
		}
		if lies := w.now.Sub(since); lies > deciding {
			w.fail("task %s: %s lies undecided for %s, and %s is at work and has it due", t.task.ID, t.nextFire, lies, s.id)
		}
	}
}

// checkDecisions: the rows of a task cover each of its nominal instants exactly once. The instants are found here one by
// one, not by the functions that skip over ranges.
func (w *world) checkDecisions(t *taskRow) {
	if t.sched.Kind() == schedule.After {
		return
	}
	id := t.task.ID
	byVersion := make(map[int64][]*core.Run)
	exact := make(map[time.Time]bool) // instants with a row of their own, of whatever version or trigger
	for _, run := range w.store.runs {
		if run.TaskID == id && run.Series == "" {
			exact[run.FireAt] = true
			if run.FireCount == 1 { // the rest of a range whose others had their decisions begins some microseconds after one of them
				exact[run.FireThrough] = true
			}
			if run.Trigger == core.TriggerSchedule || run.Trigger == core.TriggerCatchUp {
				byVersion[run.TaskVersion] = append(byVersion[run.TaskVersion], run)
			}
		}
	}
	for _, v := range w.seen.versions[id] {
		mark, claimed := w.seen.then[v]
		if !claimed || v.sched.Kind() == schedule.After {
			continue
		}
		rows := byVersion[v.task.Version]
		slices.SortFunc(rows, func(a, b *core.Run) int { return a.FireAt.Compare(b.FireAt) })
		for i := 1; i < len(rows); i++ {
			if !rows[i-1].FireThrough.Before(rows[i].FireAt) {
				w.fail("task %s: %s is decided twice", id, rows[i].FireAt)
			}
		}
		last := w.end
		if mark.IsZero() { // it has ended: nothing comes after, or it had its runs
			last = w.seen.through[v]
		}
		if mark.After(last) { // a clock was ahead
			last = mark
		}
		row := 0
		for _, f := range instants(v, v.mark, mark, last) {
			for row < len(rows) && rows[row].FireThrough.Before(f.at) {
				row++
			}
			if (row == len(rows) || rows[row].FireAt.After(f.at)) && !exact[f.at] {
				w.fail("task %s: %s has no decision", id, f.at)
			}
		}
	}
}

// checkWaiting: whoever waits at the end of the calm time has a reason to, found here without core.Admit, or is about to
// be let through.
func (w *world) checkWaiting() {
	before := make(map[*taskRow][]string)
	for _, t := range w.store.tasks {
		before[t] = w.atBreakers(t)
	}
	w.run(w.now.Add(10 * time.Second))
	for _, t := range w.store.tasks {
		w.checkBreakers(t, before[t])
		for _, run := range t.live {
			if !w.found(run) {
				continue
			}
			var h *held
			for _, s := range w.servers {
				if s.id == run.Owner {
					h = s.live[run.ID]
				}
			}
			switch {
			case h == nil:
				w.fail("run %s of %s is %s since %s and nobody works on it", run.ID, t.task.ID, run.State, run.StartAt)
			case w.started(run.State):
				if !h.executing || w.now.Sub(h.begun.at) > longestRun+5*time.Second {
					w.fail("run %s of %s is %s since %s and does not end", run.ID, t.task.ID, run.State, run.StartAt)
				}
			case w.now.Sub(h.asked) > maxSleep+time.Second:
				w.fail("run %s of %s has not asked since %s", run.ID, t.task.ID, h.asked)
			default:
				if why := w.blocked(t, run, h); why != "" {
					w.fail("run %s of %s waits at %s %q since %s: %s", run.ID, t.task.ID, run.Gate, run.GateKey, run.WaitSince, why)
				}
			}
		}
	}
}

// checkBreakers: at a breaker wait as many fires of a task as its catch-up policy lets, once the others have made way.
// before gives those who waited there a while ago.
func (w *world) checkBreakers(t *taskRow, before []string) {
	if w.cfg.people > 0 { // another policy may have held when they came
		return
	}
	most := 1
	switch p := t.task.Policies; p.CatchUp {
	case core.CatchUpNone:
		most = 0
	case core.CatchUpAll:
		most = p.CatchUpLimit
	}
	still := slices.DeleteFunc(w.atBreakers(t), func(id string) bool { return !slices.Contains(before, id) })
	if len(still) > most {
		w.fail("task %s: %v wait at breakers with %s(%d)", t.task.ID, still, t.task.Policies.CatchUp, most)
	}
}

// found says whether a run must be in somebody's hands by now. What a lost answer has left behind is found a while after
// it should have started, which is long if a clock was far ahead when it was claimed.
func (w *world) found(run *core.Run) bool { return w.now.Sub(run.StartAt) >= overdue+lease }

// atBreakers gives the fires of a task's schedule, or of its chain, that wait at a breaker.
func (w *world) atBreakers(t *taskRow) (ids []string) {
	for _, run := range t.live {
		if w.found(run) && run.State == core.RunWaiting && run.Gate == core.GateBreaker && (run.Trigger == core.TriggerSchedule || run.Trigger == core.TriggerCatchUp || run.Trigger == core.TriggerUpstream) {
			ids = append(ids, run.ID)
		}
	}
	return ids
}

// blocked says what is wrong with the reason that a run waits for; "": nothing, or it has just gone.
func (w *world) blocked(t *taskRow, run *core.Run, h *held) string {
	recently := w.now.Sub(h.asked) < 3*time.Second
	switch run.Gate {
	case core.GateOverlap:
		for _, p := range t.live {
			if p != run && (p.State != core.RunQueued || p.FireAt.Before(run.FireAt) || p.FireAt.Equal(run.FireAt)) {
				return ""
			}
		}
	case core.GatePrecondition:
		return ""
	case core.GateBreaker:
		b := w.store.breakers[run.GateKey]
		if b.State == core.BreakerOpen && b.ProbeAt.After(w.now.Add(-3*time.Second)) {
			return ""
		}
		if p := w.store.runs[b.ProbeRun]; b.State == core.BreakerHalfOpen && p.State == core.RunClaimed {
			return ""
		}
	case core.GateCapacity:
		limits, _ := w.gates(h.v.task)
		for _, l := range limits {
			used := 0
			for _, s := range w.seen.running {
				for _, held := range s.limits {
					if s.valid() && held.Key == l.Key {
						used += held.Need
					}
				}
			}
			if l.Key == run.GateKey && used+l.Need > l.Slots {
				return ""
			}
		}
	}
	if recently {
		return ""
	}
	return fmt.Sprintf("nothing is in its way, and it last asked at %s", h.asked)
}
