package simulation

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
)

// registered says whether the store still takes what a server writes.
func (w *world) registered(s *server) bool {
	_, held := w.store.leases[s.id]
	return held
}

// pass is the scheduler's loop: read what is due, decide, claim. Between reading and claiming time goes by, in which
// others act: what was read may be stale.
func (w *world) pass(s *server) {
	w.checkUndecided(s, w.store.tasks...)
	if w.chance(w.cfg.clockStep) {
		w.after(nil, w.between(0, 2*time.Second), func() { w.stepClock(s.slot) })
	}
	if w.chance(w.cfg.stall) {
		s.stalled = w.now.Add(w.between(lease/2, 3*lease))
		s.since, s.stood = s.stalled, w.now
	}
	if w.crashes(s) {
		return
	}
	now := w.wall(s)
	w.seen.reads(s, w.now, now)
	due, next := w.store.due(now.Add(ahead))
	for _, d := range due {
		v, fired := w.store.byID[d.TaskID].version, w.store.byID[d.TaskID].fired
		w.after(s, w.between(0, 30*time.Millisecond), func() { w.claim(s, d, v, fired, now) })
	}
	if w.store.stops > 0 {
		w.obey(s)
	}
	wait := w.between(20*time.Millisecond, 2*time.Second)
	if w.mutant == stepsUnnoticed {
		wait = time.Hour
	}
	if !next.IsZero() {
		wait = min(wait, max(next.Sub(now)-w.between(0, ahead), 10*time.Millisecond))
	}
	w.after(s, wait, func() { w.pass(s) })
}

func (w *world) claim(s *server, due core.Due, v *version, fired int64, decidedAt time.Time) {
	if w.crashes(s) || !w.mayAct(s) || !w.registered(s) {
		return
	}
	task := v.task
	if w.mutant == maxRunsIgnored {
		fired = 0
	}
	d := w.decide(task, v, due.NextFire, decidedAt, scheduler.Rules{MissedAfter: missedAfter, Fired: fired})
	for i := range d.Runs {
		w.serial++
		d.Runs[i].ID, d.Runs[i].Owner = runID(w.serial), s.id
	}
	claim := core.Claim{TaskID: task.ID, Version: due.Version, NextFire: due.NextFire, Then: d.Then, Runs: d.Runs,
		Overlap: task.Policies.Overlap, Gated: d.Gated || w.gated(task)}
	for _, other := range w.servers {
		w.checkUndecided(other, w.store.byID[task.ID])
	}
	result := w.store.claim(claim)
	if result.Won {
		w.seen.decided(w, s, v, claim, result, fired)
	}
	if w.chance(w.cfg.repeat) {
		if again := w.store.claim(claim); again.Won && result.Won && !claim.Then.Equal(claim.NextFire) {
			w.fail("task %s: the claim of %s was won twice", task.ID, due.NextFire)
		}
	}
	if w.crashes(s) || w.chance(w.cfg.lost) || !result.Won {
		return // the server does not know that it has the run: the sweep must find it
	}
	token := result.Token
	for i, run := range claim.Runs {
		if run.State == core.RunEnded {
			continue
		}
		run.Token = token
		token++
		if slices.Contains(result.Decided, i) {
			continue
		}
		if result.Queued {
			run.State = core.RunQueued
		}
		w.dispatch(s, v, run)
	}
}

// gates gives what a run of a task must fit in and pass.
func (w *world) gates(task *core.Task) (limits []core.Limit, breakers []core.BreakerRule) {
	if w.running > 0 {
		limits = append(limits, core.Limit{Key: "namespace:Sim", Slots: w.running, Need: 1, MaxWaiting: 50})
	}
	for _, use := range task.Policies.Pools {
		for _, p := range w.pools {
			if p.Name == use.Pool {
				limits = append(limits, core.Limit{Key: "pool:" + p.Name, Slots: p.Slots, Need: max(1, use.Slots), MaxWaiting: p.MaxWaiting})
			}
		}
	}
	if own := task.Policies.Breaker; own.Failures > 0 {
		own.Name = "task:" + task.ID
		breakers = append(breakers, own)
	}
	for _, name := range task.Policies.Downstreams {
		for _, d := range w.downs {
			if d.Name == name {
				breakers = append(breakers, core.BreakerRule{Name: "downstream:" + name, Failures: d.Failures, Cooldown: d.Cooldown, Probes: d.Probes})
			}
		}
	}
	return limits, breakers
}

// gated says whether runs of a task must be admitted.
func (w *world) gated(task *core.Task) bool {
	p := task.Policies
	limits, breakers := w.gates(task)
	return task.Schedule.Jitter > 0 || len(p.Preconditions) > 0 || len(limits)+len(breakers) > 0 ||
		p.Overlap != core.OverlapSkip && (p.Overlap != core.OverlapAllow || p.OverlapLimit > 0)
}

// dispatch waits for the instant by the server's own clock, as the runner's timer does.
func (w *world) dispatch(s *server, v *version, run core.Run) {
	if s.live[run.ID] != nil {
		return
	}
	h := &held{run: run, v: v}
	s.live[run.ID] = h
	w.arm(s, h)
}

func (w *world) arm(s *server, h *held) {
	wait := h.run.StartAt.Sub(w.wall(s))
	switch {
	case asked(&h.run): // it has only to end
		w.after(s, 0, func() { w.begin(s, h) })
	case wait > maxSleep:
		w.after(s, maxSleep, func() { w.arm(s, h) })
	default:
		w.after(s, max(wait, 0), func() { w.begin(s, h) })
	}
}

func (w *world) drop(s *server, h *held) {
	h.over = true
	if s.live[h.run.ID] == h {
		delete(s.live, h.run.ID)
	}
}

// begin is where a run's instant has come, or where it asks again.
func (w *world) begin(s *server, h *held) {
	if h.over || w.crashes(s) {
		return
	}
	if !w.mayAct(s) { // whoever takes over decides
		w.drop(s, h)
		return
	}
	if !w.started(h.run.State) {
		if asked(&h.run) {
			w.endUnstarted(s, h, core.Cancelled)
			return
		}
		if !w.admitted(s, h) || w.crashes(s) {
			return
		}
	}
	h.executing = true
	h.begun = &start{
		task: h.v.task, run: h.run, server: s, at: w.now, wall: w.wall(s), row: w.store.runs[h.run.ID],
	}
	h.begun.limits = w.store.holds[h.run.ID]
	w.seen.began(w, h.begun)
	h.run.StartedAt = w.wall(s)
	length := w.between(0, longestRun)
	w.after(s, length, func() { w.finish(s, h) })
}

// admitted brings a run through its gates; false: it waits, or is over.
func (w *world) admitted(s *server, h *held) bool {
	h.asked = w.now
	if !w.registered(s) {
		w.drop(s, h)
		return false
	}
	task, now := h.v.task, w.wall(s)
	var holds core.Ruling
	if h.run.State != core.RunRetrying {
		holds = w.preconditions(s, h)
	}
	p := task.Policies
	limits, breakers := w.gates(task)
	ask := core.Admission{
		RunID: h.run.ID, TaskID: task.ID, Token: h.run.Token, Owner: s.id, At: now,
		Patient: h.run.Trigger.Patient(), Held: holds,
		CatchUp: p.CatchUp, CatchUpLimit: p.CatchUpLimit, CatchUpSince: now.Add(-cmp.Or(p.CatchUpWindow, core.DefaultCatchUpWindow)),
		Breakers: breakers, Limits: limits,
	}
	ask.Overlap, ask.OverlapLimit = h.run.OverlapUnder(p)
	comes := w.store.runs[h.run.ID].Gate != core.GateCapacity
	answer := w.store.admit(ask)
	if answer.Start {
		w.seen.admitted(w, &ask, h, comes)
	}
	if w.chance(w.cfg.repeat) {
		if again := w.store.admit(ask); again.Start && answer.Start {
			w.fail("run %s was admitted twice", h.run.ID)
		}
	}
	if s.dead || w.chance(w.cfg.lost) || answer.Stale {
		w.drop(s, h)
		return false
	}
	switch {
	case answer.Start:
		h.run.State, h.run.Token = core.RunClaimed, answer.Token
		return true
	case answer.Gate != core.GateNone:
		w.park(s, h, answer.Until)
		how := core.StopCancel
		if ask.Overlap == core.OverlapTerminate {
			how = core.StopTerminate
		}
		for _, id := range answer.Stop {
			w.seen.replaces(w, &h.run, id)
			w.stop(s, id, how)
		}
		for _, id := range answer.Supersede {
			w.seen.replaces(w, &h.run, id)
			w.stop(s, id, core.StopSupersede)
		}
	case fails(task, answer.Ruling):
		w.endUnstarted(s, h, core.Failed)
	default:
		w.skip(s, h, answer.Reason)
	}
	return false
}

// park has a run ask again, at the latest at a time.
func (w *world) park(s *server, h *held, until time.Time) {
	if h.run.State == core.RunQueued {
		h.run.State = core.RunWaiting
	}
	wait := w.between(100*time.Millisecond, 2*time.Second)
	if !until.IsZero() {
		wait = min(max(until.Sub(w.wall(s)), 10*time.Millisecond), maxSleep)
	}
	w.after(s, wait, func() { w.begin(s, h) })
}

// preconditions looks at a run's preconditions in turn, and gives what the first one that is not true makes of it; zero: all are.
func (w *world) preconditions(s *server, h *held) (holds core.Ruling) {
	all := h.v.task.Policies.Preconditions
	if h.passed == nil {
		h.passed = make([]time.Time, len(all))
	}
	for i, p := range all {
		now := w.wall(s)
		switch deadline := h.run.StartAt.Add(p.Deadline); {
		case !h.passed[i].IsZero() && now.Sub(h.passed[i]) < p.Every:
		case w.holds(h.v.task, i), !now.Before(deadline) && p.Otherwise == core.OtherwiseRun:
			h.passed[i] = now
		case now.Before(deadline):
			until := now.Add(p.Every)
			if until.After(deadline) {
				until = deadline
			}
			return core.Ruling{Gate: core.GatePrecondition, Key: strconv.Itoa(i), Until: until}
		default:
			return core.Ruling{Reason: core.ReasonPrecondition, Key: strconv.Itoa(i)}
		}
	}
	return core.Ruling{}
}

// fails says whether a run that is skipped for a precondition is to fail instead.
func fails(task *core.Task, r core.Ruling) bool {
	i, err := strconv.Atoi(r.Key)
	return r.Reason == core.ReasonPrecondition && err == nil && task.Policies.Preconditions[i].Otherwise == core.OtherwiseFail
}

func (w *world) skip(s *server, h *held, reason core.Reason) {
	w.drop(s, h)
	if !w.registered(s) {
		return
	}
	skip := core.Skip{RunID: h.run.ID, TaskID: h.run.TaskID, Token: h.run.Token, Reason: reason, DecidedAt: w.wall(s),
		NextFire: w.next(h.v, w.wall(s)), Version: h.run.TaskVersion}
	if !w.store.skip(skip).Stale && reason == core.ReasonSuperseded {
		w.seen.superseded(w, &h.run)
	}
	if w.chance(w.cfg.repeat) && !w.store.skip(skip).Stale {
		w.fail("run %s was skipped twice", h.run.ID)
	}
}

// endUnstarted ends a run that was never admitted, or whose instant has not come.
func (w *world) endUnstarted(s *server, h *held, verdict core.Verdict) {
	w.finishWith(s, h, core.Outcome{Verdict: verdict, Permanent: true}, false, nil)
}

// next is what the end of a run or its skipping sets for an @after task; zero for any other.
func (w *world) next(v *version, now time.Time) time.Time {
	if delay := v.sched.After(); delay > 0 && v.task.Enabled {
		return now.Add(delay).UTC().Truncate(time.Microsecond)
	}
	return time.Time{}
}

// asked says whether a run was asked to stop, on whatever server and before whichever attempt.
func asked(run *core.Run) bool { return run.Stop == core.StopCancel || run.Stop == core.StopTerminate }

// stop has a run stop, here or on another server. What executes here has to end also if this server dies.
func (w *world) stop(s *server, runID string, how core.Stop) {
	if h := s.live[runID]; h != nil && !h.over {
		executing := h.executing
		w.stopHere(s, h, how)
		if !executing || how == core.StopSupersede || s.dead || w.crashes(s) {
			return
		}
	}
	w.store.stop(runID, how)
}

// obey stops what somebody has asked to stop on another server.
func (w *world) obey(s *server) {
	for _, run := range w.store.owned(s.id) {
		if h := s.live[run.ID]; run.Stop != "" && h != nil && !h.over {
			w.stopHere(s, h, run.Stop)
		}
	}
}

func (w *world) stopHere(s *server, h *held, how core.Stop) {
	switch {
	case how == core.StopSupersede:
		if h.run.State == core.RunWaiting {
			w.skip(s, h, core.ReasonSuperseded)
		}
	case h.executing:
		if h.stopping == how || h.stopping == core.StopTerminate {
			return
		}
		h.stopping = how
		var grace time.Duration
		if how == core.StopCancel {
			grace = w.between(0, 2*time.Second)
		}
		w.after(s, grace, func() {
			if h.over || w.crashes(s) {
				return
			}
			w.seen.ended(h.begun)
			w.settle(s, h, core.Outcome{Verdict: core.Cancelled}, false)
		})
	default:
		w.endUnstarted(s, h, core.Cancelled)
	}
}

func (w *world) finish(s *server, h *held) {
	if h.over || w.crashes(s) {
		return
	}
	w.seen.ended(h.begun)
	w.settle(s, h, core.Outcome{Verdict: w.verdict(h.v.task)}, false)
}

func (w *world) settle(s *server, h *held, outcome core.Outcome, shutdown bool) {
	_, breakers := w.gates(h.v.task)
	w.finishWith(s, h, outcome, shutdown, breakers)
}

func (w *world) finishWith(s *server, h *held, outcome core.Outcome, shutdown bool, breakers []core.BreakerRule) {
	w.drop(s, h)
	if !w.registered(s) {
		return
	}
	task, run, now := h.v.task, h.run, w.wall(s)
	settled := runner.Settle(task, run, outcome, shutdown, now)
	end := core.Finish{RunID: run.ID, TaskID: run.TaskID, Token: run.Token, Owner: s.id, Outcome: outcome, StartedAt: run.StartedAt, EndedAt: now,
		RetryAt: settled.RetryAt, Version: run.TaskVersion, Breakers: breakers}
	if settled.RetryAt.IsZero() {
		end.NextFire, end.StopAfter, end.Then = w.next(h.v, now), task.Policies.StopAfter, w.dependents(s, run, outcome)
	}
	before := w.store.byID[task.ID].task
	result := w.store.finish(end)
	if !result.Stale && settled.RetryAt.IsZero() {
		w.seen.ends(w, s, before, run, outcome.Verdict, end.StopAfter)
	}
	if w.chance(w.cfg.repeat) {
		if again := w.store.finish(end); !again.Stale {
			w.fail("run %s: the outcome of token %d was written twice", run.ID, run.Token)
		}
	}
	if w.crashes(s) || result.Stale || w.chance(w.cfg.lost) {
		return
	}
	for _, then := range result.Then {
		w.dispatch(s, w.store.byID[then.TaskID].version, then)
	}
	if result.Disabled != "" {
		w.forget(s, task.ID, core.ReasonDisabled)
	}
	if !settled.RetryAt.IsZero() {
		run.State, run.StartAt, run.Attempt, run.Token = core.RunRetrying, settled.RetryAt, run.Attempt+1, result.Token
		run.Gate, run.Stop = "", h.stopping
		w.dispatch(s, h.v, run)
	}
}

// dependents gives the runs and the skipped fires that the end of a run causes.
func (w *world) dependents(s *server, run core.Run, outcome core.Outcome) (then []core.Run) {
	now := w.wall(s)
	for _, t := range w.store.tasks {
		i := slices.IndexFunc(t.task.After, func(u core.Upstream) bool { return u.Task == run.TaskName && u.On.Matches(outcome.Verdict) })
		if i < 0 {
			continue
		}
		next := w.newRun(s, t.task, core.TriggerUpstream, now)
		next.Series, next.CausedBy, next.DecidedAt = "upstream:"+run.ID, run.ID, now
		switch {
		case !t.task.Enabled:
			next = next.SkippedFor(core.ReasonDisabled)
		case t.task.Pause.Holds(now):
			next = next.SkippedFor(core.ReasonPaused)
		}
		then = append(then, next)
	}
	return then
}

// newRun gives a queued run that no schedule asked for.
func (w *world) newRun(s *server, task *core.Task, trigger core.Trigger, fireAt time.Time) core.Run {
	w.serial++
	fireAt = fireAt.UTC().Truncate(time.Microsecond)
	return core.Run{
		ID: runID(w.serial), TaskID: task.ID, TaskVersion: task.Version, TaskName: task.Name, Trigger: trigger, FireAt: fireAt, FireThrough: fireAt,
		FireCount: 1, State: core.RunQueued, Owner: s.id, StartAt: w.wall(s), Attempt: 1, Priority: task.Policies.Priority,
	}
}

// forget takes off a task's runs of this server whose instant has not come.
func (w *world) forget(s *server, taskID string, reason core.Reason) {
	for _, run := range w.store.owned(s.id) {
		h := s.live[run.ID]
		if run.TaskID != taskID || h == nil || h.over || h.executing || run.Attempt > 1 ||
			run.Trigger != core.TriggerSchedule && run.Trigger != core.TriggerCatchUp && run.Trigger != core.TriggerUpstream {
			continue
		}
		w.drop(s, h)
		w.store.skip(core.Skip{RunID: run.ID, TaskID: taskID, Token: h.run.Token, Reason: reason, DecidedAt: w.wall(s)})
	}
}

// recover is the sweep: runs of servers whose lease has ended, and the server's own that it does not know of.
func (w *world) recover(s *server) {
	for _, run := range w.store.orphans(w.now, s.id) {
		if w.crashes(s) {
			return
		}
		w.takeOver(s, run)
	}
	before := w.wall(s).Add(-overdue)
	for _, run := range w.store.owned(s.id) {
		if s.live[run.ID] == nil && run.StartAt.Before(before) {
			if w.crashes(s) {
				return
			}
			w.takeOver(s, run)
		}
	}
}

// takeOver resumes a run that certainly has not started, or whose type goes on where it was, and settles one that may
// have started as lost.
func (w *world) takeOver(s *server, run core.Run) {
	v := w.store.byID[run.TaskID].version
	resume := w.started(run.State) && v.task.Labels["resumable"] != ""
	if w.started(run.State) && !resume {
		w.settle(s, &held{run: run, v: v}, core.Outcome{Verdict: core.Lost}, false)
		return
	}
	if now := w.wall(s); run.State == core.RunQueued && run.Trigger == core.TriggerSchedule && now.Sub(run.StartAt) > missedAfter {
		if reason, _, due := scheduler.StillDue(v.task, v.sched, run.FireAt, now, scheduler.Rules{}); !due {
			w.skip(s, &held{run: run, v: v}, reason)
			return
		}
	}
	if run.Owner != s.id || resume {
		token, ok := w.store.adopt(run.ID, run.Token, s.id, resume)
		if !ok || w.chance(w.cfg.lost) {
			return
		}
		run.Token, run.Owner = token, s.id
		if resume {
			run.State = core.RunRetrying
		}
	}
	w.dispatch(s, v, run)
}
