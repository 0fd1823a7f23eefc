package runner

import (
	"context"
	"errors"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Cancel asks a live run to stop, with its grace period; by is the principal. One that waits ends at once; for one that
// executes it returns as soon as the request is made, and for one on another server when that is written. It fails with
// KindNotFound if there is no such live run.
func (r *Runner) Cancel(ctx context.Context, runID, by string) error {
	return r.StopRun(ctx, runID, core.StopCancel, by)
}

// StopRun is Cancel, or with StopTerminate the same without any grace.
func (r *Runner) StopRun(ctx context.Context, runID string, how core.Stop, by string) error {
	found, err := r.stopHere(ctx, runID, how, by)
	if found == settled || err != nil {
		return err
	}
	err = r.opts.Store.RequestStop(ctx, []string{runID}, how, by)
	if found == asked && core.KindOf(err) == core.KindNotFound {
		return nil // it has ended meanwhile
	}
	return err
}

// reach is what asking a run here to stop has done.
type reach int

const (
	absent  reach = iota // it is not here
	asked                // it ends as soon as it can. The row has to say so too: this server may die before
	settled              // nothing is left to do
)

// stopRuns stops several runs, here and on other servers.
func (r *Runner) stopRuns(ctx context.Context, ids []string, how core.Stop, by string) error {
	var errs []error
	var open []string
	for _, id := range ids {
		found, err := r.stopHere(ctx, id, how, by)
		if err != nil {
			errs = append(errs, err)
		}
		if found != settled {
			open = append(open, id)
		}
	}
	if len(open) > 0 {
		if err := r.opts.Store.RequestStop(ctx, open, how, by); core.KindOf(err) != core.KindNotFound {
			errs = append(errs, err) // what is gone is stopped
		}
	}
	return errors.Join(errs...)
}

// stopHere stops a run if this server has it.
func (r *Runner) stopHere(ctx context.Context, runID string, how core.Stop, by string) (reach, error) {
	r.mu.Lock()
	l := r.live[runID]
	if l == nil || l.over {
		r.mu.Unlock()
		return absent, nil
	}
	if l.phase == approaching || l.phase == executing {
		defer r.mu.Unlock()
		if how == core.StopSupersede && l.phase == executing {
			return settled, nil // it waits no more
		}
		if how == core.StopSupersede { // if it is ruled on first, the later run will find that
			l.forget(&forgotten{core.ReasonSuperseded, map[string]any{"by": by}})
			return settled, nil
		}
		if l.stopped == nil {
			r.opts.Log.Info("run stopped", "run_id", runID, "how", how, "principal", by)
		}
		if how == core.StopTerminate || l.stopped == nil {
			l.askToStop(how, by)
		}
		l.end()
		return asked, nil
	}
	if waits := l.phase == parked || l.phase == armed && l.run.State == core.RunWaiting; how == core.StopSupersede && !waits {
		r.mu.Unlock()
		return settled, nil
	}
	inDoor := l.door
	r.leave(runID, l)
	if inDoor != nil {
		r.next(inDoor)
	}
	r.mu.Unlock()
	if how == core.StopSupersede {
		r.skip(l, core.ReasonSuperseded, map[string]string{"by": by})
		return settled, nil
	}
	// Nobody holds the run any more: its end is written although who asked for it may have gone.
	result, ok := r.endUnstarted(l, core.Outcome{Verdict: core.Cancelled, Message: "cancelled by " + by + " before it began"})
	switch {
	case result.Stale:
		return settled, core.Refuse(core.KindConflict, "stop run "+runID, core.Text{Zh: "运行 " + runID + " 刚刚开始；请再停止一次", En: "it has begun meanwhile; stop it again"})
	case !ok:
		return settled, core.Refuse(core.KindUnavailable, "stop run "+runID, core.Text{Zh: "存储没有应答，租约已到期；请待另一服务器接手后再停止一次", En: "the store does not answer and the lease is over; stop it again when another server has it"})
	}
	return settled, nil
}

// byOverlap begins the name of who stops a run where a later fire of its task does, by the task's policy. No principal has
// such a name.
const byOverlap = "overlap policy "

// stopCause says why a run ends that is stopped: on whose request, or by which policy.
func stopCause(how core.Stop, by string) error {
	cause, did := core.ErrRunCancelled, "cancelled by "
	if how == core.StopTerminate {
		cause, did = core.ErrRunTerminated, "terminated by "
	}
	if strings.HasPrefix(by, byOverlap) {
		return core.Worded(cause, did+by)
	}
	return core.Worded(cause, cause.Error()+" by "+by)
}

// obeyStops stops the runs of this server that others asked to stop.
func (r *Runner) obeyStops(ctx context.Context) {
	if !r.opts.MayAct() {
		return
	}
	requests, err := r.opts.Store.StopRequests(ctx, r.opts.ServerID)
	if err != nil {
		if ctx.Err() == nil {
			r.opts.Log.Warn("requests to stop not read", "err", err)
		}
		return
	}
	for _, q := range requests {
		if _, err := r.stopHere(ctx, q.RunID, q.How, q.By); err != nil && ctx.Err() == nil {
			r.opts.Log.Warn("run not stopped", "run_id", q.RunID, "err", err)
		}
	}
}
