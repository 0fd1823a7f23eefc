package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// begin is where a run's instant has come, or where it asks again: what must be admitted is, then it executes now or
// waits in line for a place.
func (r *Runner) begin(l *liveRun) {
	if !MayHaveStarted(l.run.State) && !r.admit(l) {
		return
	}
	if r.resumable(&l.run) { // it does little itself, and waits for others that need a place
		r.execute(l)
		return
	}
	r.mu.Lock()
	r.wake(l)
	if r.executing == r.opts.MaxExecuting {
		l.phase = inLine
		r.line = append(r.line, l)
		r.mu.Unlock()
		return
	}
	r.executing++
	r.mu.Unlock()
	for l != nil { // the place goes on to the next in line
		r.execute(l)
		l = r.nextInLine()
	}
}

// nextInLine gives the run that takes over the place of one that has ended; nil gives the place back.
func (r *Runner) nextInLine() *liveRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.line) > 0 {
		l := r.line[0]
		r.line[0] = nil
		r.line = r.line[1:]
		if !l.over {
			return l
		}
		r.runs.Done() // it was taken off while it waited
	}
	r.executing--
	return nil
}

func (r *Runner) execute(l *liveRun) {
	defer r.runs.Done()
	if r.base.Err() != nil {
		r.turnAway(l)
		return
	}
	ctx, cancel, ok := r.enter(l, executing)
	if !ok {
		return
	}
	defer cancel(nil)
	defer r.drop(l)
	if !r.opts.MayAct() { // the lease has run out: whoever takes over decides
		r.release(l, nil)
		return
	}
	provider, taskType, err := r.opts.Catalog.Lookup(l.run.Namespace, l.run.TaskType)
	if err != nil && l.run.Attempt == 1 && core.KindOf(err) == core.KindNotFound {
		r.skip(l, core.ReasonUnknownType, map[string]string{"task_type": l.run.TaskType, "problem": err.Error()})
		return
	}
	now := r.opts.Clock.Now()
	limit, grace, reached := limits(r.timeout(l.task, taskType), l.task.Policies.SoftTimeout, now.Sub(cmp.Or(l.began, now)))
	ctx, release := context.WithTimeoutCause(ctx, limit, reached)
	defer release()
	r.mu.Lock()
	l.startedAt = cmp.Or(l.began, now)
	r.mu.Unlock()
	if l.run.Attempt == 1 && l.began.IsZero() && !l.run.Trigger.OfThePast() {
		r.opts.Started(l.startedAt.Sub(l.run.FireAt))
	}
	log := r.opts.Recorder.Attempt(originOf(l.run), l.task.Policies.LogLevel, l.task.Policies.LogFull)
	defer log.Close()
	if err == nil && !taskType.Resumable { // what goes on where another server was may have others to stop
		err = context.Cause(ctx) // cancelled since it has begun
	}
	var outcome core.Outcome
	if err == nil {
		attempt := attemptOf(l, grace)
		if r.opts.Trace != nil {
			attempt.Traceparent = r.opts.Trace.Traceparent(l.run.ID, l.run.Attempt)
		}
		outcome, err = provider.Execute(ctx, attempt, log)
	}
	if err != nil {
		outcome = failed(ctx, err)
	}
	shutdown := errors.Is(context.Cause(ctx), core.ErrShuttingDown)
	if shutdown && taskType.Resumable && outcome.Verdict == core.Cancelled {
		return // the row stays as it is: the next server goes on where this one was
	}
	r.end(l, log, outcome, shutdown)
}

func (r *Runner) skip(l *liveRun, reason core.Reason, facts any) {
	text, _ := json.Marshal(facts) // maps of plain values cannot fail
	now := r.opts.Clock.Now()
	skip := core.Skip{
		RunID: l.run.ID, TaskID: l.run.TaskID, Token: l.run.Token, Owner: r.opts.ServerID, Reason: reason, Facts: text, DecidedAt: now,
		NextFire: r.nextFire(l.task, now), Version: l.run.TaskVersion, // no run will end, so the skip sets the next fire
		Breaches: r.breaches(l, now, true),
	}
	if l.forgotten != nil && reason != core.ReasonSuperseded {
		skip.NextFire = time.Time{} // that its task was changed has set it
	}
	defer r.changed(l.run)
	defer r.release(l, nil)
	if _, err := r.opts.Store.Skip(context.WithoutCancel(r.base), []core.Skip{skip}); err != nil {
		r.opts.Log.Error("skipped fire not written", "run_id", l.run.ID, "reason", reason, "err", err)
		return
	}
	r.moved(l.task, skip.NextFire)
}

// nextFire gives the fire that an end or a skip now causes: that of an @after task which is enabled. Zero for others.
func (r *Runner) nextFire(task *core.Task, now time.Time) time.Time {
	if delay, isAfter := r.opts.After(task); isAfter && task.Enabled {
		return now.Add(delay).UTC().Truncate(time.Microsecond)
	}
	return time.Time{}
}

// moved tells the scheduler about the next fire of an @after task.
func (r *Runner) moved(task *core.Task, nextFire time.Time) {
	if nextFire.IsZero() {
		return
	}
	next := *task
	next.State.NextFire = nextFire
	r.opts.Announce(next, false)
}

// enter begins a phase in which a run is stopped through its context. ok is false if it was taken off while it waited.
func (r *Runner) enter(l *liveRun, p phase) (ctx context.Context, cancel context.CancelCauseFunc, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.over {
		return nil, nil, false
	}
	ctx, cancel = context.WithCancelCause(r.base)
	l.phase, l.cancel, l.kill = p, cancel, make(chan struct{})
	if l.stopped != nil {
		l.end()
	}
	return ctx, cancel, true
}

// end makes a run that approaches or executes end as it was asked to. The lock is held.
func (l *liveRun) end() {
	if l.cancel == nil { // it is about to enter, and will see that it must not
		return
	}
	l.cancel(l.stopped)
	if !errors.Is(l.stopped, core.ErrRunTerminated) {
		return
	}
	select {
	case <-l.kill:
	default:
		close(l.kill)
	}
}

// turnAway is for a run that found no place before the drain time was over. One that waits to be admitted does so in the
// store, for the next server; a claimed one would be taken for one that may have started.
func (r *Runner) turnAway(l *liveRun) {
	r.mu.Lock()
	over := l.over
	l.over = true
	r.mu.Unlock()
	switch {
	case over || !MayHaveStarted(l.run.State) || !r.opts.MayAct():
	case l.run.Attempt == 1:
		r.skip(l, core.ReasonShutdown, map[string]int{"executing": r.Executing()})
	default: // its attempt is over before it began; the next server makes another
		now := r.opts.Clock.Now()
		_, _ = r.write(context.WithoutCancel(r.base), l, core.Finish{
			RunID: l.run.ID, TaskID: l.run.TaskID, Token: l.run.Token, Owner: r.opts.ServerID, EndedAt: now, RetryAt: now,
			Outcome: core.Outcome{Verdict: core.Cancelled, Message: "the server stopped before the attempt began", Checkpoint: l.run.Checkpoint},
		})
	}
	r.drop(l)
}

// limits says when an attempt that has run for so long is asked to stop, why, and how long it may take over that; 0: as usual.
// soft is 0 if there is none.
func limits(hard, soft, ran time.Duration) (limit, grace time.Duration, reached error) {
	ran = max(0, ran) // the clock may have been set back
	if soft > 0 && max(soft, ran) < hard {
		return soft - ran, hard - max(soft, ran), core.ErrRunSoftTimeout
	}
	return hard - ran, 0, core.ErrRunTimeout
}

// timeout is the task's own, else its type's, else the server's.
func (r *Runner) timeout(task *core.Task, taskType core.TaskType) time.Duration {
	return cmp.Or(task.Policies.Timeout, taskType.Timeout, r.opts.DefaultTimeout)
}

func (r *Runner) drop(l *liveRun) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live[l.run.ID] == l {
		delete(r.live, l.run.ID)
	}
}

// failed is the outcome of an attempt that could not be tried, or was ended before it could.
func failed(ctx context.Context, err error) core.Outcome {
	outcome := core.Outcome{Verdict: core.Failed, Message: err.Error()}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, core.ErrRunTimeout):
		outcome.Verdict = core.TimedOut
	case errors.Is(cause, core.ErrRunCancelled), errors.Is(cause, core.ErrRunTerminated), errors.Is(cause, core.ErrShuttingDown):
		outcome.Verdict = core.Cancelled
	}
	return outcome
}

// end makes what the attempt said and that it ended durable, then writes its outcome, then acts on what follows.
func (r *Runner) end(l *liveRun, log Log, outcome core.Outcome, shutdown bool) {
	now := r.opts.Clock.Now()
	if !l.startedAt.IsZero() {
		r.opts.Ended(outcome.Verdict, now.Sub(l.startedAt))
	}
	settled := Settle(l.task, l.run, outcome, shutdown && outcome.Verdict == core.Cancelled, now)
	ctx := context.WithoutCancel(r.base) // the verdict of an attempt that ended is written even while stopping
	record := core.AttemptRecord{
		Origin: originOf(l.run), Token: l.run.Token, StartedAt: l.startedAt, Began: outcome.Began, EndedAt: now,
		Verdict: outcome.Verdict, Message: outcome.Message, RetryAt: settled.RetryAt, Usage: outcome.Usage, Place: outcome.Place,
	}
	record.Place.Server = r.opts.ServerID
	if err := r.opts.Recorder.RecordAttempt(ctx, record); err != nil {
		r.opts.Log.Error("attempt not recorded", "run_id", l.run.ID, "attempt", l.run.Attempt, "err", err)
	}
	// One wait for the lines and for the record behind them: once the store says that the attempt has ended, nobody will
	// record it again. Flush then only has to say which lines a full spool made it drop.
	if err := errors.Join(r.opts.Recorder.FlushAll(ctx), log.Flush(ctx)); err != nil {
		r.opts.Log.Error("log lines and record of an attempt not durable", "run_id", l.run.ID, "attempt", l.run.Attempt, "err", err)
	}
	_, breakers := r.opts.Gates(l.task)
	finish := core.Finish{
		RunID: l.run.ID, TaskID: l.run.TaskID, Token: l.run.Token, Owner: r.opts.ServerID, Outcome: outcome, StartedAt: l.startedAt, EndedAt: now,
		RetryAt: settled.RetryAt, Version: l.run.TaskVersion, Breakers: breakers, Breaches: r.breaches(l, now, settled.RetryAt.IsZero()),
	}
	if settled.RetryAt.IsZero() {
		finish.NextFire, finish.StopAfter, finish.Intervene = r.nextFire(l.task, now), l.task.Policies.StopAfter, settled.Intervene
	}
	result, ok := r.write(ctx, l, finish)
	r.drop(l)
	r.release(l, result.Breakers)
	if !ok {
		return
	}
	if r.opts.Trace != nil {
		r.opts.Trace.AttemptEnded(ctx, l.run, record, settled.RetryAt.IsZero())
	}
	r.follow(l, finish, result)
	for _, b := range result.Breakers {
		r.opts.BreakerMoved(b, l.run)
	}
	r.changed(l.run)
}

// write brings an outcome, and with the end of a run what that causes, into the store. It is false if that was refused, or not
// possible.
func (r *Runner) write(ctx context.Context, l *liveRun, finish core.Finish) (result core.Finished, ok bool) {
	ok = r.insist("read what it causes", l.run.ID, func() (err error) {
		if finish.RetryAt.IsZero() {
			finish.Then, err = r.dependents(ctx, l.run, finish.Outcome, finish.EndedAt)
		}
		return err
	})
	ok = ok && r.insist("write it", l.run.ID, func() error {
		results, err := r.opts.Store.Finish(ctx, []core.Finish{finish})
		if err == nil {
			result = results[0]
		}
		return err
	})
	if result.Stale {
		r.opts.Log.Warn("outcome refused as stale", "run_id", finish.RunID, "token", finish.Token, "outcome", finish.Outcome.Verdict)
	}
	return result, ok && !result.Stale
}

// insist does something with the store, again while that does not answer and the lease is held. If it gives up another server
// will find the run and call it lost.
func (r *Runner) insist(on, runID string, do func() error) bool {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := do()
		if err == nil {
			return true
		}
		r.opts.Log.Error("outcome waits for the store", "run_id", runID, "to", on, "err", err)
		if !r.opts.MayAct() {
			return false
		}
		pause := make(chan struct{})
		r.opts.Clock.AfterFunc(wait, func() { close(pause) })
		<-pause
	}
}

func (r *Runner) follow(l *liveRun, finish core.Finish, result core.Finished) {
	for _, run := range result.Then {
		r.dispatchDependent(run)
	}
	switch {
	case !finish.RetryAt.IsZero():
		again := l.run
		again.State, again.StartAt, again.Attempt, again.Token = core.RunRetrying, finish.RetryAt, l.run.Attempt+1, result.Token
		again.Checkpoint = finish.Outcome.Checkpoint
		again.Stop, again.StopBy = l.wish.How, l.wish.By
		again.Breaches = slices.Concat(l.run.Breaches, finish.Breaches)
		r.Dispatch(l.task, again)
	case result.Disabled != "":
		r.opts.Log.Warn("task disabled", "task", l.task.Namespace+"/"+l.task.Name, "task_id", l.run.TaskID, "reason", result.Disabled)
		r.opts.Announce(*l.task, true)
		if err := r.Forget(context.WithoutCancel(r.base), l.run.TaskID, core.ReasonDisabled, nil); err != nil {
			r.opts.Log.Error("pending runs of a disabled task not skipped", "task_id", l.run.TaskID, "err", err)
		}
	default:
		r.moved(l.task, finish.NextFire)
	}
}

func originOf(run core.Run) core.Origin {
	return core.Origin{
		RunID: run.ID, Attempt: run.Attempt, TaskID: run.TaskID, Namespace: run.Namespace,
		TaskName: run.TaskName, TaskType: run.TaskType, FireAt: run.FireAt,
	}
}

func attemptOf(l *liveRun, grace time.Duration) core.Attempt {
	return core.Attempt{
		RunID: l.run.ID, TaskID: l.run.TaskID, Namespace: l.run.Namespace, TaskName: l.run.TaskName, TaskType: l.run.TaskType,
		Number: l.run.Attempt, Token: l.run.Token, FireAt: l.run.FireAt, PrevSuccess: l.run.PrevSuccess,
		Params: l.run.Params, Checkpoint: l.run.Checkpoint, Zone: l.task.Schedule.Zone, Trigger: l.run.Trigger,
		LogLevel: l.task.Policies.LogLevel, Grace: grace, Terminate: l.kill,
	}
}
