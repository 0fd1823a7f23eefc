package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// recover takes over the runs of servers that are gone.
func (r *Runner) recover(ctx context.Context) error {
	turns := map[string]time.Time{}
	for {
		orphans, err := r.opts.Store.Orphans(ctx, r.opts.Clock.Now(), 1_000)
		if err != nil {
			return err
		}
		taken := 0
		for _, run := range orphans {
			if r.takeOver(ctx, run, turns) {
				taken++
			}
		}
		if taken == 0 || len(orphans) < 1_000 {
			return nil
		}
	}
}

// takeOvers is recover while the server runs: what a dead server left waits for its lease, and not for much more.
func (r *Runner) takeOvers(ctx context.Context) {
	if !r.opts.MayAct() {
		return
	}
	if err := r.recover(ctx); err != nil && ctx.Err() == nil {
		r.opts.Log.Error("runs of dead servers not recovered", "err", err)
	}
}

func (r *Runner) sweep(ctx context.Context) {
	if !r.opts.MayAct() {
		return
	}
	if err := r.reclaim(ctx); err != nil && ctx.Err() == nil {
		r.opts.Log.Error("runs of this server not reclaimed", "err", err)
	}
}

// overdue is how far past its start a run of this server that it does not hold is reclaimed: longer than any answer of
// the store takes, so that nobody is about to dispatch it.
const overdue = 30 * time.Second

// reclaim takes over the runs that the store calls this server's and that it does not hold: the answer to their claim
// or start was lost, or they were dropped because the lease had run out or the store did not answer.
func (r *Runner) reclaim(ctx context.Context) error {
	held := r.held() // looked at first: a run that ends while the store is read is in held, or read as ended
	runs, err := r.opts.Store.LiveRuns(ctx, r.opts.ServerID)
	if err != nil {
		return err
	}
	before, turns := r.opts.Clock.Now().Add(-overdue), map[string]time.Time{}
	for _, run := range runs {
		if !held[run.ID] && run.StartAt.Before(before) {
			r.takeOver(ctx, run, turns)
		}
	}
	return nil
}

func (r *Runner) held() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make(map[string]bool, len(r.live))
	for id := range r.live {
		ids[id] = true
	}
	return ids
}

// takeOver resumes a run that certainly has not started, or whose type goes on where it was, and settles one that may
// have started as lost. turns are the next starts of tasks whose runs stay apart, by task.
func (r *Runner) takeOver(ctx context.Context, run core.Run, turns map[string]time.Time) bool {
	log := r.opts.Log.With("run_id", run.ID, "task", run.Namespace+"/"+run.TaskName)
	task, err := r.opts.Store.Task(ctx, run.TaskID)
	if err != nil && core.KindOf(err) != core.KindNotFound {
		log.Error("task of an orphaned run not read", "err", err)
		return false
	}
	deleted := err != nil
	if deleted {
		task = core.Task{ID: run.TaskID, Namespace: run.Namespace, Name: run.TaskName, Type: run.TaskType}
	}
	now := r.opts.Clock.Now()
	resume := MayHaveStarted(run.State) && !deleted && r.resumable(&run)
	began := begun(&run)
	goes := unasked(&run) && !resume
	reason, facts, due := r.stillDue(&task, &run, now)
	switch {
	case MayHaveStarted(run.State) && !resume:
		return r.settleLost(ctx, &task, run, now)
	case deleted && run.Attempt == 1 && !resume:
		return r.bury(ctx, &task, run, core.ReasonEdited, nil, now)
	case goes && !task.Enabled:
		return r.bury(ctx, &task, run, core.ReasonDisabled, nil, now)
	case goes && task.Pause.Holds(now):
		facts, _ := json.Marshal(task.Pause.Facts()) // plain values
		return r.bury(ctx, &task, run, core.ReasonPaused, facts, now)
	case !due:
		return r.bury(ctx, &task, run, reason, facts, now)
	case run.Owner == r.opts.ServerID && !resume:
		run.PrevSuccess = task.State.LastSuccess
	default:
		adopted, err := r.opts.Store.Adopt(ctx, run.ID, run.Token, r.opts.ServerID, resume)
		if err != nil || !adopted.Won {
			log.Warn("orphaned run not adopted", "err", err)
			return false
		}
		run.Token, run.Owner, run.PrevSuccess = adopted.Token, r.opts.ServerID, adopted.LastSuccess
		if resume {
			run.State = core.RunRetrying
		}
	}
	if staysApart(&task, &run) && run.StartAt.Before(now) { // many may be overdue by now
		run.StartAt = r.apart(&task, now, turns)
	}
	l := newLive(&task, run)
	l.began = began
	r.dispatch(l)
	return true
}

// begun gives when the attempt that a run of another server is at began; zero: it is not known to run, and has for a second at most.
func begun(run *core.Run) time.Time {
	if run.State != core.RunRunning {
		return time.Time{}
	}
	return run.StartedAt
}

// staysApart says whether a run is one of several that start a spread after each other: what is caught up, or was kept by a breaker.
func staysApart(task *core.Task, run *core.Run) bool {
	if run.State == core.RunWaiting {
		return run.Gate == core.GateBreaker && task.Policies.CatchUp == core.CatchUpAll && unasked(run)
	}
	return run.State == core.RunQueued && run.Trigger.Patient()
}

// apart gives the next start of an overdue run of a task: a spread after the one given before, in these turns or earlier.
func (r *Runner) apart(task *core.Task, now time.Time, turns map[string]time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, spread := now, spreadOf(task.Policies)
	if turn := turns[task.ID]; turn.After(at) {
		at = turn
	}
	for _, l := range r.live {
		if l.run.TaskID == task.ID && l.phase == armed && staysApart(task, &l.run) && !l.run.StartAt.Add(spread).Before(at) {
			at = l.run.StartAt.Add(spread)
		}
	}
	turns[task.ID] = at.Add(spread)
	return at
}

// resumable says whether a run's attempt may be executed again.
func (r *Runner) resumable(run *core.Run) bool {
	_, taskType, err := r.opts.Catalog.Lookup(run.Namespace, run.TaskType)
	return err == nil && taskType.Resumable
}

// stillDue says whether a run that was claimed ahead of its instant starts although that has passed meanwhile: it was missed like
// those that nobody had claimed yet.
func (r *Runner) stillDue(task *core.Task, run *core.Run, now time.Time) (reason core.Reason, facts json.RawMessage, due bool) {
	if run.State != core.RunQueued || run.Trigger != core.TriggerSchedule || now.Sub(run.StartAt) <= missedAfter {
		return "", nil, true
	}
	return r.opts.StillDue(task, run.FireAt, now)
}

// missedAfter is how late a run may be that no server has started in time: what scheduler.Options.MissedAfter is by default.
const missedAfter = 10 * time.Second

// bury skips a run that has not started and shall not: its task is deleted, or its time has passed.
func (r *Runner) bury(ctx context.Context, task *core.Task, run core.Run, reason core.Reason, facts json.RawMessage, now time.Time) bool {
	skip := core.Skip{
		RunID: run.ID, TaskID: run.TaskID, Token: run.Token, Owner: r.opts.ServerID, Reason: reason, Facts: facts, DecidedAt: now,
		NextFire: r.nextFire(task, now), Version: run.TaskVersion, // no run will end, so the skip sets the next fire
	}
	if _, err := r.opts.Store.Skip(ctx, []core.Skip{skip}); err != nil {
		r.opts.Log.Error("queued run not skipped", "run_id", run.ID, "reason", reason, "err", err)
		return false
	}
	r.moved(task, skip.NextFire)
	return true
}

func (r *Runner) settleLost(ctx context.Context, task *core.Task, run core.Run, now time.Time) bool {
	message := "the server died while the attempt ran, or may have run"
	if run.Owner == r.opts.ServerID {
		message = "the server lost track of the attempt, which may have run: the store did not answer, or the lease had run out"
	}
	l := newLive(task, run)
	l.startedAt = cmp.Or(begun(&run), run.StartAt)
	log, err := r.opts.Recorder.Resume(ctx, originOf(run), task.Policies.LogLevel, task.Policies.LogFull)
	if err != nil {
		r.opts.Log.Error("log of a lost attempt not reopened", "run_id", run.ID, "err", err)
		return false
	}
	defer log.Close()
	if err := log.Log(ctx, core.LogLine{At: now, Level: core.LevelError, Stream: core.StreamSystem, Message: message}); err != nil {
		r.opts.Log.Error("system line not written", "run_id", run.ID, "err", err)
	}
	r.end(l, log, core.Outcome{Verdict: core.Lost, Message: message}, false)
	return true
}
