package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/google/uuid"
)

// RunNow starts a run of a task at once, with the given parameters laid over the task's own; by is the principal. It
// returns when the run is durable, before it has started. With the overlap policy skip it fails with KindConflict
// while it would have to wait for another run of the task.
func (r *Runner) RunNow(ctx context.Context, taskID string, params json.RawMessage, by string) (core.Run, error) {
	task, err := r.wanted(ctx, "run task "+taskID, taskID, params)
	if err != nil {
		return core.Run{}, err
	}
	now := r.opts.Clock.Now().UTC().Truncate(time.Microsecond)
	run := r.newRun(&task, core.TriggerManual, now, now, by)
	if !r.opts.Gated(&task) {
		run.State = core.RunClaimed
	}
	run, err = r.opts.Store.InsertManual(ctx, run, cmp.Or(task.Policies.Overlap, core.OverlapSkip) == core.OverlapSkip)
	if err != nil {
		return core.Run{}, err
	}
	run.PrevSuccess = task.State.LastSuccess
	r.Dispatch(&task, run)
	return run, nil
}

// wanted gives a task that somebody wants a run of, if this server can start one.
func (r *Runner) wanted(ctx context.Context, op, taskID string, params json.RawMessage) (core.Task, error) {
	if !r.opts.MayAct() {
		return core.Task{}, core.Refuse(core.KindUnavailable, op, core.Text{Zh: "本服务器暂时没有租约；请稍后再试", En: "this server does not hold its lease; try again"})
	}
	r.mu.Lock()
	stopping := r.stopping
	r.mu.Unlock()
	if stopping {
		return core.Task{}, core.Refuse(core.KindUnavailable, op, core.Text{Zh: "本服务器正在停止；请稍后再试", En: "this server is stopping; try again"})
	}
	return r.opts.ForRun(ctx, taskID, params)
}

// newRun gives a queued run that no schedule asked for.
func (r *Runner) newRun(task *core.Task, trigger core.Trigger, fireAt, startAt time.Time, by string) core.Run {
	return core.Run{
		ID: uuid.Must(uuid.NewV7()).String(), TaskID: task.ID, TaskVersion: task.Version, Namespace: task.Namespace,
		TaskName: task.Name, TaskType: task.Type, Trigger: trigger, FireAt: fireAt, FireThrough: fireAt, FireCount: 1,
		Params: task.Params, State: core.RunQueued, Owner: r.opts.ServerID, StartAt: startAt, Attempt: 1,
		DecidedAt: r.opts.Clock.Now(), CreatedBy: by, Priority: task.Policies.Priority,
	}
}

// Backfill is a wish to have instants of the past again.
type Backfill struct {
	TaskID       string
	Fires        []time.Time  // rising; at most core.MaxCatchUpLimit
	Overlap      core.Overlap // "": the task's policy, under which they wait for each other rather than be skipped
	OverlapLimit int          // the number that Overlap comes with; 0: none
	Spread       time.Duration
	By           string
}

// Backfill starts a run for each instant, the first now and the others Spread apart; they are one series. It returns
// when the runs are durable.
func (r *Runner) Backfill(ctx context.Context, b Backfill) ([]core.Run, error) {
	op := "backfill task " + b.TaskID
	if len(b.Fires) > core.MaxCatchUpLimit {
		return nil, core.Refuse(core.KindExhausted, op, core.Text{Zh: fmt.Sprintf("共有 %d 次运行，一次最多 %d 次；请把区间分开", len(b.Fires), core.MaxCatchUpLimit), En: fmt.Sprintf("%d runs are wanted, the most is %d; split the range", len(b.Fires), core.MaxCatchUpLimit)})
	}
	task, err := r.wanted(ctx, op, b.TaskID, nil)
	if err != nil {
		return nil, err
	}
	now := r.opts.Clock.Now().UTC().Truncate(time.Microsecond)
	series := "backfill:" + uuid.Must(uuid.NewV7()).String()
	runs := make([]core.Run, len(b.Fires))
	for i, at := range b.Fires {
		runs[i] = r.newRun(&task, core.TriggerBackfill, at, now.Add(time.Duration(i)*b.Spread), b.By)
		runs[i].Series, runs[i].Overlap, runs[i].OverlapLimit = series, b.Overlap, b.OverlapLimit
	}
	return r.enqueue(ctx, &task, runs)
}

// Again starts a run of a run's task once more, for the same instant; params are laid over its own. It is the row only:
// the caller has the store insert it, and then hands it over with Dispatched.
func (r *Runner) Again(ctx context.Context, old core.Run, params json.RawMessage, by string) (core.Run, error) {
	given, err := overlay(old.Params, params)
	if err != nil {
		return core.Run{}, err
	}
	task, err := r.wanted(ctx, "run "+old.ID+" again", old.TaskID, given)
	if err != nil {
		return core.Run{}, err
	}
	run := r.newRun(&task, core.TriggerRetry, old.FireAt, r.opts.Clock.Now().UTC(), by)
	run.Series, run.CausedBy = fmt.Sprintf("retry:%s#%s", old.ID, run.ID), old.ID
	run.WorkflowID, run.Step = old.WorkflowID, old.Step
	return run, nil
}

// overlay lays the keys of one JSON object over those of another; either may be empty.
func overlay(under, over json.RawMessage) (json.RawMessage, error) {
	if len(over) == 0 || len(under) == 0 {
		return append(under, over...), nil
	}
	keys := make(map[string]json.RawMessage)
	for _, part := range []json.RawMessage{under, over} {
		if err := json.Unmarshal(part, &keys); err != nil {
			return nil, core.Invalid("read parameters", core.Finding{Path: "params", Message: core.Text{
				Zh: "参数必须是 JSON 对象：" + err.Error(), En: "parameters must be a JSON object: " + err.Error(),
			}})
		}
	}
	return json.Marshal(keys)
}

// Dispatched takes over a run of this server that the store has inserted for somebody else.
func (r *Runner) Dispatched(ctx context.Context, run core.Run) error {
	task, err := r.opts.Store.Task(ctx, run.TaskID)
	if err != nil {
		return err
	}
	r.Dispatch(&task, run)
	return nil
}

// Insert stores a run that Again made, and takes it over.
func (r *Runner) Insert(ctx context.Context, run core.Run) (core.Run, error) {
	task, err := r.opts.Store.Task(ctx, run.TaskID)
	if err != nil {
		return core.Run{}, err
	}
	runs, err := r.enqueue(ctx, &task, []core.Run{run})
	if err != nil {
		return core.Run{}, err
	}
	return runs[0], nil
}

// enqueue stores queued runs of a task and takes those over that were not there already.
func (r *Runner) enqueue(ctx context.Context, task *core.Task, runs []core.Run) ([]core.Run, error) {
	stored, err := r.opts.Store.Enqueue(ctx, runs)
	if err != nil {
		return nil, err
	}
	for i, run := range stored {
		if run.ID == runs[i].ID {
			r.Dispatch(task, run)
		}
	}
	return stored, nil
}

// dependents gives the runs, and the skipped fires, that the end of a run causes. A step of a workflow causes none: its
// workflow says what follows.
func (r *Runner) dependents(ctx context.Context, run core.Run, outcome core.Outcome, now time.Time) ([]core.Run, error) {
	if run.WorkflowID != "" {
		return nil, nil
	}
	wanting, err := r.opts.Dependents(ctx, run, outcome)
	if err != nil || len(wanting) == 0 {
		return nil, err
	}
	runs := make([]core.Run, len(wanting))
	at := now.UTC().Truncate(time.Microsecond)
	for i := range wanting {
		next := r.newRun(&wanting[i].Task, core.TriggerUpstream, at, at, "gnomon")
		next.Series, next.CausedBy, next.Facts = "upstream:"+run.ID, run.ID, wanting[i].Facts
		if wanting[i].Skip != "" {
			next = next.SkippedFor(wanting[i].Skip)
		}
		runs[i] = next
	}
	return runs, nil
}

// dispatchDependent takes over a run that an end has caused.
func (r *Runner) dispatchDependent(run core.Run) {
	if err := r.Dispatched(context.WithoutCancel(r.base), run); err != nil {
		r.opts.Log.Error("dependent run waits for the sweep", "run_id", run.ID, "task", run.Namespace+"/"+run.TaskName, "err", err)
	}
}
