package runner

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/google/uuid"
)

// RunNow starts a run of a task at once, with the given parameters laid over the task's own; by is the principal. It
// returns when the run is durable, before it has started. With the overlap policy skip it fails with KindConflict
// while another run of the task is live.
func (r *Runner) RunNow(ctx context.Context, taskID string, params json.RawMessage, by string) (core.Run, error) {
	if !r.opts.MayAct() {
		return core.Run{}, core.Errorf(core.KindUnavailable, "run task "+taskID, "this server does not hold its lease; try again")
	}
	task, err := r.opts.ForRun(ctx, taskID, params)
	if err != nil {
		return core.Run{}, err
	}
	r.mu.Lock()
	stopping := r.stopping
	r.mu.Unlock()
	if stopping {
		return core.Run{}, core.Errorf(core.KindUnavailable, "run task "+taskID, "this server is stopping; try again")
	}
	now := r.opts.Clock.Now().UTC().Truncate(time.Microsecond)
	run, err := r.opts.Store.InsertManual(ctx, core.Run{
		ID: uuid.Must(uuid.NewV7()).String(), TaskID: task.ID, TaskVersion: task.Version, Namespace: task.Namespace,
		TaskName: task.Name, TaskType: task.Type, Trigger: core.TriggerManual, FireAt: now, FireThrough: now, FireCount: 1,
		Params: task.Params, State: core.RunClaimed, Owner: r.opts.ServerID, StartAt: now, Attempt: 1, DecidedAt: now, CreatedBy: by,
	}, task.Policies.Overlap != core.OverlapAllow)
	if err != nil {
		return core.Run{}, err
	}
	run.PrevSuccess = task.State.LastSuccess
	r.Dispatch(&task, run)
	return run, nil
}

// Cancel asks a live run to stop; by is the principal. One that has not begun ends at once; for one that executes it
// returns as soon as the request is made. It fails with KindNotFound if this server has no such live run.
func (r *Runner) Cancel(ctx context.Context, runID, by string) error {
	r.mu.Lock()
	l := r.live[runID]
	if l == nil {
		r.mu.Unlock()
		return core.Errorf(core.KindNotFound, "cancel run "+runID, "it is not live here: it has ended, or never was")
	}
	if cancel := l.cancel; cancel != nil {
		r.mu.Unlock()
		r.opts.Log.Info("run cancelled", "run_id", runID, "principal", by)
		cancel(core.ErrRunCancelled)
		return nil
	}
	r.leave(runID, l)
	r.mu.Unlock()
	now := r.opts.Clock.Now()
	finish := core.Finish{
		RunID: runID, TaskID: l.run.TaskID, Token: l.run.Token, Owner: r.opts.ServerID, EndedAt: now,
		Outcome:  core.Outcome{Verdict: core.Cancelled, Message: "cancelled by " + by + " before it began"},
		NextFire: r.nextFire(l.task, now), Version: l.run.TaskVersion,
	}
	results, err := r.opts.Store.Finish(ctx, []core.Finish{finish})
	if err != nil {
		return err
	}
	if results[0].Stale {
		return core.Errorf(core.KindConflict, "cancel run "+runID, "it has begun meanwhile; cancel it again")
	}
	r.moved(l.task, finish.NextFire)
	return nil
}
