package runner_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
)

// crash ends a server without letting it finish anything, and begins another in the same folder.
func (w *world) crash(t *testing.T, next string) {
	t.Helper()
	w.unchecked = true
	w.close(t)
	w.unchecked = false
	w.begin(t, next)
}

// TestADeadServersRunsAreRecovered: each state its own way, and nothing twice.
func TestADeadServersRunsAreRecovered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	past := time.Now().Add(-time.Minute)
	lost := w.create(t, "succeed", nil)
	retried := w.create(t, "succeed", func(t *core.Task) { t.Policies.MaxAttempts, t.Policies.RetryDelay = 3, 30*time.Millisecond })
	stopping := w.create(t, "succeed", func(t *core.Task) { t.StopOnError = new(true) })
	resumed := w.create(t, "succeed", func(t *core.Task) { t.Policies.MaxAttempts = 2 })
	later := w.create(t, "succeed", func(t *core.Task) { t.Policies.MaxAttempts = 2 })
	overlapping := w.create(t, "succeed", func(t *core.Task) { t.Policies.Overlap = core.OverlapSkip })
	afterTask := w.create(t, "succeed", func(t *core.Task) { t.Schedule.Spec = "@after 10m" })
	unwanted := w.create(t, "succeed", func(t *core.Task) { t.Policies.Overlap, t.Policies.CatchUp = core.OverlapSkip, core.CatchUpNone })
	intime := w.create(t, "succeed", func(t *core.Task) { t.Policies.Overlap, t.Policies.CatchUp = core.OverlapSkip, core.CatchUpNone })

	_, claimed := w.claim(t, lost.ID, "me", past)
	_, running := w.claim(t, retried.ID, "me", past)
	if err := w.store.MarkRunning(t.Context(), core.Running{RunID: running.ID, Token: running.Token, StartedAt: past}); err != nil {
		t.Fatal(err)
	}
	_, stops := w.claim(t, stopping.ID, "me", past)
	retrying := func(task core.Task, at time.Time) core.Run {
		_, run := w.claim(t, task.ID, "me", past)
		done, err := w.store.Finish(t.Context(), []core.Finish{{
			RunID: run.ID, TaskID: task.ID, Token: run.Token, Owner: "me", RetryAt: at, EndedAt: time.Now(), Version: task.Version,
			Outcome: core.Outcome{Verdict: core.Failed, Checkpoint: []byte("half")},
		}})
		if err != nil || done[0].Stale {
			t.Fatal(done, err)
		}
		run.Token = done[0].Token
		return run
	}
	soon, far := retrying(resumed, past), retrying(later, time.Now().Add(time.Hour))
	_, before := w.claim(t, overlapping.ID, "me", past)
	_, queued := w.claim(t, overlapping.ID, "me", past.Add(time.Second))
	if queued.State != core.RunQueued {
		t.Fatalf("the second is %s", queued.State)
	}
	_, last := w.claim(t, afterTask.ID, "me", past)
	w.claim(t, unwanted.ID, "me", past)
	_, missed := w.claim(t, unwanted.ID, "me", past.Add(time.Second))
	w.claim(t, intime.ID, "me", past)
	_, late := w.claim(t, intime.ID, "me", time.Now().Add(-time.Second))

	w.crash(t, "next")
	w.start(t)
	w.wantEnded(t, claimed.ID, core.Lost, "")
	w.wantEnded(t, before.ID, core.Lost, "")
	w.wantEnded(t, stops.ID, core.Lost, "")
	if run := w.wantEnded(t, missed.ID, core.Skipped, core.ReasonCatchUp); !strings.Contains(string(run.Facts), `"policy":"none"`) {
		t.Errorf("claimed before the crash, and missed: %s", run.Facts)
	} else if run.Owner != "next" {
		t.Errorf("it was skipped by the next server, by whose clock it is dated, and the ledger names %q", run.Owner)
	}
	w.wantEnded(t, late.ID, core.Succeeded, "")
	if task := w.task(t, stopping.ID); task.Enabled || !strings.Contains(task.DisabledReason, "lost") {
		t.Errorf("stop_on_error: %+v", task)
	}
	again := w.wantEnded(t, running.ID, core.Succeeded, "")
	if again.Attempt != 2 || again.Owner != "next" || again.Token <= running.Token {
		t.Errorf("the retried run: %+v", again)
	}
	w.wantAttempts(t, running.ID, core.Lost, core.Succeeded)
	if run := w.wantEnded(t, soon.ID, core.Succeeded, ""); run.Attempt != 2 || run.Token <= soon.Token {
		t.Errorf("the resumed run: %+v", run)
	}
	if run := w.run(t, far.ID); run.State != core.RunRetrying || run.Owner != "next" || run.Token <= far.Token {
		t.Errorf("the run that waits: %+v", run)
	}
	// The queued one was decided by the new server: it started, as its rival was lost, or was skipped, as it was not yet.
	if run := w.ended(t, queued.ID); run.Verdict != core.Succeeded && run.Reason != core.ReasonOverlap {
		t.Errorf("the queued run: %+v", run)
	}
	w.wantEnded(t, last.ID, core.Lost, "")
	if next := time.Until(w.task(t, afterTask.ID).State.NextFire); next < 9*time.Minute || next > 10*time.Minute {
		t.Errorf("the next fire of the @after task is in %s", next)
	}
	lines, err := w.spool.Lines(t.Context(), core.LineFilter{RunID: claimed.ID, Limit: 10})
	if err != nil || len(lines) != 1 || lines[0].Stream != core.StreamSystem || !strings.Contains(lines[0].Message, "server died") {
		t.Errorf("the log of the lost attempt says %+v, %v", lines, err)
	}
	wait(100 * time.Millisecond) // several sweeps
	seen := map[string]int{}
	for _, a := range w.provider.attempts() {
		if key := fmt.Sprint(a.RunID, a.Number); seen[key] > 0 {
			t.Errorf("attempt %d of run %s was executed twice", a.Number, a.RunID)
		} else {
			seen[key]++
		}
		if a.RunID == soon.ID && string(a.Checkpoint) != "half" {
			t.Errorf("the resumed attempt got the checkpoint %q", a.Checkpoint)
		}
	}
	if seen[fmt.Sprint(claimed.ID, 1)]+seen[fmt.Sprint(running.ID, 1)] > 0 {
		t.Error("an attempt that may have run was executed again under its number")
	}
	if err := w.Cancel(t.Context(), far.ID, "ann"); err != nil {
		t.Error(err)
	}
}

// TestTheClockOfAnAttemptThatGoesOnElsewhereGoesOn: neither its timeouts, nor its service levels, nor what is said of it begin anew.
func TestTheClockOfAnAttemptThatGoesOnElsewhereGoesOn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	began := time.Now().Add(-3 * time.Minute).UTC().Truncate(time.Microsecond)
	long := func(do string, p core.Policies) core.Run {
		p.Overlap = core.OverlapAllow
		task := w.create(t, do, func(t *core.Task) { t.Type, t.Policies = "Lab.Long", p })
		_, run := w.claim(t, task.ID, "me", began.Add(-time.Second))
		if err := w.store.MarkRunning(t.Context(), core.Running{RunID: run.ID, Token: run.Token, StartedAt: began}); err != nil {
			t.Fatal(err)
		}
		return run
	}
	over := long("wait", core.Policies{Timeout: 2 * time.Minute, SLA: core.SLA{StartWithin: 5 * time.Second, MaxDuration: time.Minute}})
	asked := long("wait", core.Policies{SoftTimeout: 2 * time.Minute, Timeout: time.Hour})
	inTime := long("succeed", core.Policies{Timeout: time.Hour, SLA: core.SLA{StartWithin: 5 * time.Second}})
	w.crash(t, "next")
	w.start(t)
	for _, r := range []struct {
		core.Run
		verdict  core.Verdict
		breaches int
	}{{over, core.TimedOut, 1}, {asked, core.TimedOut, 0}, {inTime, core.Succeeded, 0}} {
		run := w.wantEnded(t, r.ID, r.verdict, "")
		if !run.StartedAt.Equal(began) || len(run.Breaches) != r.breaches || r.breaches > 0 && (run.Breaches[0].Kind != core.BreachLong || !run.Breaches[0].At.Equal(began.Add(time.Minute))) {
			t.Errorf("started at %s instead of %s; %+v", run.StartedAt, began, run.Breaches)
		}
		if a := w.wantAttempts(t, r.ID, r.verdict); len(a) == 1 && !a[0].StartedAt.Equal(began) {
			t.Errorf("the attempt started at %s instead of %s", a[0].StartedAt, began)
		}
	}
	for _, a := range w.provider.attempts() {
		if left := a.Grace - 57*time.Minute; a.RunID == asked.ID && (left > 0 || left < -time.Minute) {
			t.Errorf("asked to stop after its soft timeout it has %s", a.Grace)
		}
	}
}

// TestTheDeadServersOutcomeIsRefused: it comes back after its run has been taken over.
func TestTheDeadServersOutcomeIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, "hold", func(t *core.Task) { t.Policies.MaxAttempts, t.Policies.RetryDelay = 2, 10*time.Millisecond })
	_, run := w.claim(t, task.ID, "me", time.Now().Add(-time.Minute))
	w.crash(t, "next")
	w.start(t)
	eventually(t, "the next attempt executes", func() bool { return w.provider.executing() == 1 })
	done, err := w.store.Finish(t.Context(), []core.Finish{{RunID: run.ID, TaskID: task.ID, Token: run.Token, Owner: "me", EndedAt: time.Now(), Outcome: core.Outcome{Verdict: core.Failed}}})
	if err != nil || !done[0].Stale {
		t.Errorf("the old token gave %+v, %v; want stale", done, err)
	}
	close(w.provider.let)
	w.wantEnded(t, run.ID, core.Succeeded, "")
}

// TestAServerReclaimsItsOwnStrayRuns: rows that name it, that it does not hold and that are overdue, because an answer
// of the store was lost or the run was dropped.
func TestAServerReclaimsItsOwnStrayRuns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	overdue, recent := time.Now().Add(-31*time.Second), time.Now().Add(-5*time.Second)
	simple := w.create(t, "succeed", nil)
	retried := w.create(t, "succeed", func(t *core.Task) { t.Policies.MaxAttempts, t.Policies.RetryDelay = 2, 20*time.Millisecond })
	skipping := w.create(t, "hold", func(t *core.Task) { t.Policies.Overlap = core.OverlapSkip })

	_, young := w.claim(t, simple.ID, "me", recent)
	_, future := w.claim(t, simple.ID, "me", time.Now().Add(time.Hour))
	soon := time.Now().Add(-29 * time.Second) // not before it is dispatched
	holds, held := w.claim(t, w.create(t, "hold", nil).ID, "me", soon)
	w.Dispatch(holds, held) // this one is in memory, and it will be old
	eventually(t, "it executes", func() bool { return w.provider.executing() == 1 })
	_, stray := w.claim(t, simple.ID, "me", overdue)
	_, again := w.claim(t, retried.ID, "me", overdue)
	rivalTask, rival := w.claim(t, skipping.ID, "me", time.Now())
	w.Dispatch(rivalTask, rival)
	_, queued := w.claim(t, skipping.ID, "me", overdue)

	lost := w.wantEnded(t, stray.ID, core.Lost, "")
	if !strings.Contains(lost.Message, "lost track") {
		t.Errorf("message %q", lost.Message)
	}
	if run := w.wantEnded(t, again.ID, core.Succeeded, ""); run.Attempt != 2 {
		t.Errorf("the retried run: %+v", run)
	}
	w.wantEnded(t, queued.ID, core.Skipped, core.ReasonOverlap)       // decided, late, by Start
	wait(time.Until(soon.Add(30*time.Second + 100*time.Millisecond))) // several sweeps past it
	for what, run := range map[string]core.Run{"recent": young, "future": future} {
		if got := w.run(t, run.ID); got.State != core.RunClaimed || got.Token != run.Token {
			t.Errorf("the %s run was touched: %+v", what, got)
		}
	}
	if run := w.run(t, held.ID); run.State == core.RunEnded || run.Token != held.Token {
		t.Errorf("the run in memory was touched: %+v", run)
	}
	close(w.provider.let)
	w.wantEnded(t, held.ID, core.Succeeded, "")
	attempts, _ := w.history.records(held.ID)
	for _, a := range attempts {
		if a.Verdict == core.Lost {
			t.Errorf("the run in memory got an attempt %+v", a)
		}
	}
}

// TestADroppedRetryIsReclaimed: its server had no lease at its instant, and has one again.
func TestADroppedRetryIsReclaimed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, "succeed", func(t *core.Task) { t.Policies.MaxAttempts = 2 })
	_, run := w.claim(t, task.ID, "me", time.Now().Add(-time.Minute))
	done, err := w.store.Finish(t.Context(), []core.Finish{{
		RunID: run.ID, TaskID: task.ID, Token: run.Token, Owner: "me", RetryAt: time.Now().Add(-31 * time.Second), EndedAt: time.Now(), Outcome: core.Outcome{Verdict: core.Failed},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.start(t)
	ended := w.wantEnded(t, run.ID, core.Succeeded, "")
	if ended.Attempt != 2 || ended.Token <= done[0].Token || len(w.provider.attempts()) != 1 {
		t.Errorf("the run: %+v", ended)
	}
}

func TestAQueuedRunOfADeletedTaskIsSkipped(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, "succeed", func(t *core.Task) { t.Policies.Overlap = core.OverlapSkip })
	_, first := w.claim(t, task.ID, "me", time.Now().Add(-time.Minute))
	_, queued := w.claim(t, task.ID, "me", time.Now().Add(-59*time.Second))
	if err := w.defs.Delete(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	w.crash(t, "next")
	w.start(t)
	w.wantEnded(t, first.ID, core.Lost, "")
	w.wantEnded(t, queued.ID, core.Skipped, core.ReasonEdited)
}

// pausingStore holds Admit up until it is told.
type pausingStore struct {
	spyStore
	entered, leave chan struct{}
}

func (s pausingStore) Admit(ctx context.Context, admissions []core.Admission) ([]core.Admitted, error) {
	close(s.entered)
	<-s.leave
	return s.spyStore.Admit(ctx, admissions)
}

// TestARunCancelledWhileItStartsNeverExecutes: between its instant and its attempt, while the store is asked.
func TestARunCancelledWhileItStartsNeverExecutes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	slow := pausingStore{spyStore{w.store, w.diary, w.defs.Effective}, make(chan struct{}), make(chan struct{})}
	w.opts.Store = slow
	w.start(t)
	task := w.create(t, "fail", func(t *core.Task) { t.Policies.MaxAttempts, t.Policies.RetryDelay = 3, 20*time.Millisecond })
	fired := w.fire(t, task.ID, 0)
	<-slow.entered
	if err := w.Cancel(t.Context(), fired.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	close(slow.leave)
	w.wantEnded(t, fired.ID, core.Cancelled, "")
	if n := len(w.provider.attempts()); n != 1 {
		t.Errorf("%d attempts; want the first only", n)
	}
}

var _ runner.Store = pausingStore{}
