package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Step is a wish to have a step of a workflow run carried out.
type Step struct {
	WorkflowID string // the workflow's run
	Name       string // the step's
	Round      int    // 0, or how often it was wanted before
	TaskID     string
	Params     json.RawMessage // laid over the task's own
	FireAt     time.Time       // the workflow's instant
	By         string
}

// StartStep starts the run of a step. Asked again for the same step and round it gives the run that is there.
func (r *Runner) StartStep(ctx context.Context, s Step) (core.Run, error) {
	task, err := r.wanted(ctx, "start step "+s.Name, s.TaskID, s.Params)
	if err != nil {
		return core.Run{}, err
	}
	run := r.newRun(&task, core.TriggerWorkflow, s.FireAt, r.opts.Clock.Now().UTC(), s.By)
	run.Series = fmt.Sprintf("workflow:%s/%s#%d", s.WorkflowID, s.Name, s.Round)
	run.WorkflowID, run.Step = s.WorkflowID, s.Name
	runs, err := r.enqueue(ctx, &task, []core.Run{run})
	if err != nil {
		return core.Run{}, err
	}
	return runs[0], nil
}

// Changed gives a channel that holds a token once a step of a workflow run has ended here since it was last read. The
// caller calls stop when it looks no more.
func (r *Runner) Changed(workflowID string) (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[workflowID] = append(r.watchers[workflowID], ch)
	return ch, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		left := slices.DeleteFunc(r.watchers[workflowID], func(c chan struct{}) bool { return c == ch })
		if r.watchers[workflowID] = left; len(left) == 0 {
			delete(r.watchers, workflowID)
		}
	}
}

// changed tells those who watch its workflow that a run has ended.
func (r *Runner) changed(run core.Run) {
	if run.WorkflowID == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changedLocked(run)
}

// changedLocked is changed with the lock held.
func (r *Runner) changedLocked(run core.Run) {
	for _, ch := range r.watchers[run.WorkflowID] {
		select {
		case ch <- struct{}{}:
		default: // it has been told
		}
	}
}
