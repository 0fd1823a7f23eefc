package runner_test

import (
	"context"
	"strings"
	"sync"
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

// TestACancelOutlivesTheAttempt: who was told that a run is cancelled never sees it begin again.
func TestACancelOutlivesTheAttempt(t *testing.T) {
	t.Parallel()
	retries := policies(core.Policies{MaxAttempts: 3, RetryDelay: time.Millisecond, RetryOn: []core.Verdict{core.Failed, core.Lost}})
	t.Run("AskedWhileItsEndIsWritten", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		writes, write := make(chan struct{}), make(chan struct{})
		var once sync.Once
		w.opts.Store = hooked{Store: w.opts.Store, finish: func([]core.Finish) {
			once.Do(func() {
				close(writes)
				<-write
			})
		}}
		w.start(t)
		run := w.fire(t, w.create(t, "fail", retries).ID, 0)
		<-writes
		cancelled := make(chan error)
		go func() { cancelled <- w.Cancel(t.Context(), run.ID, "ann") }()
		eventually(t, "it is asked for", func() bool { return w.run(t, run.ID).Stop == core.StopCancel })
		close(write)
		if err := <-cancelled; err != nil {
			t.Fatal(err)
		}
		if run = w.wantEnded(t, run.ID, core.Cancelled, ""); !strings.Contains(run.Message, "ann") || len(w.provider.attempts()) != 1 {
			t.Errorf("%q after %d attempts", run.Message, len(w.provider.attempts()))
		}
	})
	t.Run("AskedElsewhereBeforeItFails", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.opts.Watch = 20 * time.Millisecond
		var asked atomic.Bool
		w.opts.Store = hooked{Store: w.opts.Store, finish: func(ends []core.Finish) {
			if asked.CompareAndSwap(false, true) {
				if err := w.store.RequestStop(t.Context(), []string{ends[0].RunID}, core.StopCancel, "bob"); err != nil {
					t.Error(err)
				}
			}
		}}
		w.start(t)
		run := w.fire(t, w.create(t, "fail", policies(core.Policies{MaxAttempts: 2, RetryDelay: time.Hour})).ID, 0)
		if run = w.wantEnded(t, run.ID, core.Cancelled, ""); !strings.Contains(run.Message, "bob") || len(w.provider.attempts()) != 1 {
			t.Errorf("%q after %d attempts", run.Message, len(w.provider.attempts()))
		}
	})
	t.Run("AskedWhileTheStoreDoesNotAnswer", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		asks, answer := make(chan struct{}), make(chan struct{})
		var once sync.Once
		w.opts.Store = hooked{Store: w.opts.Store, admit: func([]core.Admission) (err error) {
			once.Do(func() {
				close(asks)
				<-answer
				err = core.Errorf(core.KindUnavailable, "admit", "no answer")
			})
			return err
		}}
		w.start(t)
		task := w.create(t, "succeed", policies(w.pool(t, 1)))
		run := w.fire(t, task.ID, -time.Minute) // so late that the sweep looks at it
		<-asks
		if err := w.Cancel(t.Context(), run.ID, "ann"); err != nil {
			t.Fatal(err)
		}
		close(answer)
		w.wantEnded(t, run.ID, core.Cancelled, "")
		if n := len(w.provider.attempts()); n > 0 {
			t.Errorf("%d attempts", n)
		}
	})
	t.Run("TheServerDies", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		var alive atomic.Bool
		alive.Store(true)
		w.opts.MayAct, w.opts.Drain = alive.Load, time.Millisecond
		w.start(t)
		run := w.fire(t, w.create(t, "deaf", retries).ID, 0)
		w.executes(t, 1)
		if err := w.Cancel(t.Context(), run.ID, "ann"); err != nil {
			t.Fatal(err)
		}
		if row := w.run(t, run.ID); row.Stop != core.StopCancel {
			t.Fatalf("nobody else can know of it: %+v", row)
		}
		dead, let := w.Runner, w.provider.let
		w.Runner = nil // what it still does reaches nobody
		alive.Store(false)
		w.crash(t, "next")
		w.start(t)
		if run = w.wantEnded(t, run.ID, core.Cancelled, ""); !strings.Contains(run.Message, "ann") || len(w.provider.attempts()) > 0 {
			t.Errorf("%q after %d attempts by the next server", run.Message, len(w.provider.attempts()))
		}
		close(let)
		if err := dead.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
