package runner_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func TestAWaitingRunIsCancelled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", policies(w.pool(t, 1)))
	w.fire(t, task.ID, 0)
	w.executes(t, 1)
	waiting := w.fire(t, task.ID, 0)
	w.waits(t, waiting.ID, core.GateCapacity)
	if err := w.Cancel(t.Context(), waiting.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	if run := w.wantEnded(t, waiting.ID, core.Cancelled, ""); !strings.Contains(run.Message, "ann") {
		t.Errorf("message %q", run.Message)
	}
	close(w.provider.let)
}

// TestACancelOutlivesAFault: a run that was taken off to be cancelled ends so, although the store does not answer for a while and who
// asked is gone.
func TestACancelOutlivesAFault(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var faults atomic.Int32
	read := w.opts.Dependents
	w.opts.Dependents = func(ctx context.Context, run core.Run, outcome core.Outcome) ([]core.Dependent, error) {
		if faults.Add(-1) >= 0 {
			return nil, core.Errorf(core.KindUnavailable, "read definitions", "no answer")
		}
		return read(ctx, run, outcome)
	}
	w.opts.MaxExecuting = 1
	w.start(t)
	w.fire(t, w.create(t, "hold", nil).ID, 0)
	w.executes(t, 1)
	run := w.fire(t, w.create(t, "succeed", nil).ID, 0)
	faults.Store(2)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := w.Cancel(gone, run.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	if run = w.wantEnded(t, run.ID, core.Cancelled, ""); !run.StartedAt.IsZero() {
		t.Errorf("the cancelled run %+v", run)
	}
	close(w.provider.let)
}

func TestASoftTimeoutAsksAndLeavesTheRest(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "wait", policies(core.Policies{SoftTimeout: 60 * time.Millisecond, Timeout: 5 * time.Second}))
	run := w.wantEnded(t, w.fire(t, task.ID, 0).ID, core.TimedOut, "")
	if took := run.EndedAt.Sub(run.StartedAt); took > 4*time.Second || run.Message != "soft timeout reached" {
		t.Errorf("asked after %s: %q", took, run.Message)
	}
	if grace := w.provider.attempts()[0].Grace; grace != 5*time.Second-60*time.Millisecond {
		t.Errorf("it was given %s to stop", grace)
	}
}

func TestAStopAskedElsewhereIsObeyed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	fired := w.fire(t, w.create(t, "wait", nil).ID, 0)
	w.executes(t, 1)
	if err := w.store.RequestStop(t.Context(), []string{fired.ID}, core.StopTerminate, "bob"); err != nil {
		t.Fatal(err)
	}
	if run := w.wantEnded(t, fired.ID, core.Cancelled, ""); !strings.Contains(run.Message, "terminated") {
		t.Errorf("message %q", run.Message)
	}
}
