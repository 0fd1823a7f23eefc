package simulation

import (
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
)

// pass is the scheduler's loop: read what is due, decide, claim. Between reading and claiming time goes by, in which
// others act: what was read may be stale.
func (w *world) pass(s *server) {
	if w.chance(w.cfg.ClockStep) {
		s.skew += w.between(-3*time.Second, 3*time.Second)
		if w.rng.IntN(20) == 0 {
			s.skew += w.between(-time.Hour, time.Hour)
		}
	}
	if w.calm {
		s.skew = 0
	}
	if w.crashes(s) {
		return
	}
	now := w.wall(s)
	for _, due := range w.store.due(now.Add(ahead)) {
		w.after(s, w.between(0, 30*time.Millisecond), func() { w.claim(s, due, now) })
	}
	w.after(s, w.between(20*time.Millisecond, 300*time.Millisecond), func() { w.pass(s) })
}

func (w *world) claim(s *server, due core.Due, decidedAt time.Time) {
	if w.crashes(s) || !w.mayAct(s) {
		return
	}
	task := w.store.tasks[due.TaskID].task
	d := scheduler.Decide(task, w.scheds[task.ID], due.NextFire, decidedAt, scheduler.Rules{MissedAfter: missedAfter})
	for i := range d.Runs {
		w.serial++
		d.Runs[i].ID, d.Runs[i].Owner = runID(w.serial), s.id
	}
	claim := core.Claim{TaskID: due.TaskID, Version: due.Version, NextFire: due.NextFire, Then: d.Then, Runs: d.Runs, Overlap: task.Policies.Overlap}
	result := w.store.claim(claim)
	if w.chance(w.cfg.Repeat) {
		if again := w.store.claim(claim); again.Won && result.Won && !claim.Then.Equal(claim.NextFire) {
			w.fail("task %s: the claim of %s was won twice", task.ID, due.NextFire)
		}
	}
	if w.crashes(s) || w.chance(w.cfg.Lost) || !result.Won {
		return // the server does not know that it has the run: the sweep must find it
	}
	for _, run := range claim.Runs {
		if run.State == core.RunEnded || result.Decided {
			continue
		}
		run.Token = result.Token
		if result.Queued {
			run.State = core.RunQueued
		}
		w.dispatch(s, run)
	}
}

// dispatch waits for the instant by the server's own clock, as the runner's timer does.
func (w *world) dispatch(s *server, run core.Run) {
	if s.live[run.ID] {
		return
	}
	s.live[run.ID] = true
	w.arm(s, run)
}

func (w *world) arm(s *server, run core.Run) {
	if wait := run.StartAt.Sub(w.wall(s)); wait > 30*time.Second {
		w.after(s, 30*time.Second, func() { w.arm(s, run) })
	} else {
		w.after(s, max(wait, 0), func() { w.begin(s, run) })
	}
}

func (w *world) begin(s *server, run core.Run) {
	if w.crashes(s) {
		return
	}
	if !w.mayAct(s) {
		delete(s.live, run.ID)
		return
	}
	task := w.store.tasks[run.TaskID].task
	if !runner.MayHaveStarted(run.State) {
		queued := run.State == core.RunQueued
		answer := w.store.start(core.Start{RunID: run.ID, TaskID: run.TaskID, Token: run.Token, Owner: s.id, At: w.wall(s), OnlyAlone: queued})
		if !answer.Won {
			if queued && answer.Live > 0 {
				w.store.skip(run.ID, run.Token, core.ReasonOverlap, w.wall(s), w.next(task, w.wall(s)))
			}
			delete(s.live, run.ID)
			return
		}
		run.Token = answer.Token
		if w.chance(w.cfg.Lost) { // started in the store, and the server does not know
			delete(s.live, run.ID)
			return
		}
		if w.crashes(s) {
			return
		}
	}
	begun := start{task: task.ID, run: run.ID, fire: run.FireAt, attempt: run.Attempt, token: run.Token, server: s, at: w.now}
	w.observe(task, begun)
	length := w.between(0, 4*time.Second)
	w.after(s, length, func() { w.finish(s, run, begun) })
}

// next is what the end of a run or its skipping sets for an @after task; zero for any other.
func (w *world) next(task *core.Task, now time.Time) time.Time {
	if delay := w.scheds[task.ID].After(); delay > 0 {
		return now.Add(delay)
	}
	return time.Time{}
}

func (w *world) finish(s *server, run core.Run, begun start) {
	if w.crashes(s) {
		return
	}
	w.forgetRunning(begun)
	verdicts := []core.Verdict{core.Succeeded, core.Succeeded, core.Succeeded, core.Failed, core.TimedOut}
	outcome := core.Outcome{Verdict: verdicts[w.rng.IntN(len(verdicts))]}
	w.settle(s, run, outcome)
}

func (w *world) settle(s *server, run core.Run, outcome core.Outcome) {
	task := w.store.tasks[run.TaskID].task
	now := w.wall(s)
	settled := runner.Settle(task, run, outcome, false, now)
	end := core.Finish{RunID: run.ID, TaskID: run.TaskID, Token: run.Token, Owner: s.id, Outcome: outcome, EndedAt: now, RetryAt: settled.RetryAt, Version: task.Version}
	if settled.RetryAt.IsZero() {
		end.NextFire = w.next(task, now)
	}
	result := w.store.finish(end)
	if w.chance(w.cfg.Repeat) {
		if again := w.store.finish(end); !again.Stale {
			w.fail("run %s: the outcome of token %d was written twice", run.ID, run.Token)
		}
	}
	delete(s.live, run.ID)
	if w.crashes(s) || result.Stale || settled.RetryAt.IsZero() {
		return
	}
	run.State, run.StartAt, run.Attempt, run.Token = core.RunRetrying, settled.RetryAt, run.Attempt+1, result.Token
	w.dispatch(s, run)
}

// recover is the sweep: runs of servers whose lease has ended, and the server's own that it does not know of.
func (w *world) recover(s *server) {
	for _, run := range w.store.orphans(w.now, s.id, s.live, w.wall(s).Add(-2*lease)) {
		if w.crashes(s) {
			return
		}
		if runner.MayHaveStarted(run.State) {
			w.settle(s, run, core.Outcome{Verdict: core.Lost})
			continue
		}
		token, ok := w.store.adopt(run.ID, run.Token, s.id)
		if ok && !w.chance(w.cfg.Lost) {
			run.Token, run.Owner = token, s.id
			w.dispatch(s, run)
		}
	}
}

func (w *world) observe(task *core.Task, begun start) {
	w.starts = append(w.starts, begun)
	if task.Policies.Overlap == core.OverlapSkip {
		for _, other := range w.running[task.ID] {
			if w.store.valid(other.run, other.token) && w.store.valid(begun.run, begun.token) {
				w.fail("task %s: runs %s and %s hold valid tokens at once", task.ID, other.run, begun.run)
			}
		}
	}
	w.running[task.ID] = append(w.running[task.ID], begun)
}

func (w *world) forgetRunning(begun start) {
	list := w.running[begun.task]
	for i := range list {
		if list[i].run == begun.run && list[i].attempt == begun.attempt && list[i].server == begun.server {
			w.running[begun.task] = append(list[:i], list[i+1:]...)
			return
		}
	}
}
