package runner_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
)

// waits waits until a run stands at a gate.
func (w *world) waits(t *testing.T, id string, gate core.Gate) core.Run {
	t.Helper()
	var run core.Run
	eventually(t, "the run waits at "+string(gate), func() bool {
		run = w.run(t, id)
		return run.State == core.RunWaiting && run.Gate == gate
	})
	return run
}

// executes waits until so many attempts are in progress.
func (w *world) executes(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d attempts execute", n), func() bool { return w.provider.executing() == n })
}

func policies(p core.Policies) func(*core.Task) {
	return func(t *core.Task) { t.Policies = p }
}

func TestOverlapQueueRunsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", policies(core.Policies{Overlap: core.OverlapQueue, OverlapLimit: 2}))
	first := w.fire(t, task.ID, 0)
	w.executes(t, 1)
	second := w.fire(t, task.ID, 0)
	w.waits(t, second.ID, core.GateOverlap)
	third := w.fire(t, task.ID, 0)
	w.waits(t, third.ID, core.GateOverlap)
	fourth := w.wantEnded(t, w.fire(t, task.ID, 0).ID, core.Skipped, core.ReasonOverlap)
	if !strings.Contains(string(fourth.Facts), "2 runs wait already") {
		t.Errorf("facts %s", fourth.Facts)
	}
	close(w.provider.let)
	for _, id := range []string{first.ID, second.ID, third.ID} {
		w.wantEnded(t, id, core.Succeeded, "")
	}
	attempts := w.provider.attempts()
	if len(attempts) != 3 || attempts[1].RunID != second.ID || attempts[2].RunID != third.ID || w.provider.atOnce() != 1 {
		t.Errorf("attempts %+v, %d at once", attempts, w.provider.atOnce())
	}
}

func TestOverlapCancelsOrTerminatesWhatRan(t *testing.T) {
	t.Parallel()
	for _, overlap := range []core.Overlap{core.OverlapCancel, core.OverlapTerminate} {
		t.Run(string(overlap), func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(t)
			task := w.create(t, "wait", policies(core.Policies{Overlap: overlap}))
			first := w.fire(t, task.ID, 0)
			w.executes(t, 1)
			second := w.fire(t, task.ID, 0)
			ended := w.wantEnded(t, first.ID, core.Cancelled, "")
			did := map[core.Overlap]string{core.OverlapCancel: "cancelled", core.OverlapTerminate: "terminated"}[overlap]
			want := did + " by overlap policy " + string(overlap) + " (the fire of " + second.FireAt.UTC().Format(time.RFC3339Nano) + ", run " + second.ID + ")"
			if ended.Message != want {
				t.Errorf("the first ended with %q; want %q", ended.Message, want)
			}
			eventually(t, "the second executes", func() bool { _, ok := w.StartedAt(second.ID); return ok })
			if w.provider.atOnce() != 1 {
				t.Errorf("%d attempts at once", w.provider.atOnce())
			}
			if err := w.Cancel(t.Context(), second.ID, "ann"); err != nil {
				t.Fatal(err)
			}
			w.ended(t, second.ID)
		})
	}
}

func TestOverlapAllowHasALimit(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", policies(core.Policies{Overlap: core.OverlapAllow, OverlapLimit: 2}))
	first, second := w.fire(t, task.ID, 0), w.fire(t, task.ID, 0)
	w.executes(t, 2)
	w.wantEnded(t, w.fire(t, task.ID, 0).ID, core.Skipped, core.ReasonOverlap)
	close(w.provider.let)
	w.wantEnded(t, first.ID, core.Succeeded, "")
	w.wantEnded(t, second.ID, core.Succeeded, "")
}

// pool defines a pool and gives policies that use it.
func (w *world) pool(t *testing.T, slots int) core.Policies {
	t.Helper()
	if _, err := w.defs.PutPool(t.Context(), core.Pool{Name: "erp", Slots: slots, MaxWaiting: 30}, core.AnyVersion, "ann"); err != nil {
		t.Fatal(err)
	}
	return core.Policies{Overlap: core.OverlapAllow, Pools: []core.PoolUse{{Pool: "erp"}}}
}

func TestAPoolIsNeverExceededAndItsQueueIsOrdered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	p := w.pool(t, 1)
	low := w.create(t, "hold", policies(p))
	p.Priority = 5
	high := w.create(t, "hold", policies(p))
	first := w.fire(t, low.ID, 0)
	w.executes(t, 1)
	var ids []string
	for range 3 {
		run := w.fire(t, low.ID, 0)
		w.waits(t, run.ID, core.GateCapacity)
		ids = append(ids, run.ID)
	}
	urgent := w.fire(t, high.ID, 0)
	if row := w.waits(t, urgent.ID, core.GateCapacity); row.GateKey != "pool:erp" || row.WaitSince.IsZero() {
		t.Errorf("the row of a waiting run: %+v", row)
	}
	close(w.provider.let)
	for _, id := range append(ids, first.ID, urgent.ID) {
		w.wantEnded(t, id, core.Succeeded, "")
	}
	var got []string
	for _, a := range w.provider.attempts() {
		got = append(got, a.RunID)
	}
	if want := append([]string{first.ID, urgent.ID}, ids...); !slices.Equal(got, want) {
		t.Errorf("the order was %v; want %v", got, want)
	}
	if w.provider.atOnce() != 1 {
		t.Errorf("%d at once in a pool of one", w.provider.atOnce())
	}
}

func TestManyRunsShareAPool(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	tasks := make([]core.Task, 4)
	p := w.pool(t, 3)
	for i := range tasks {
		tasks[i] = w.create(t, "succeed", policies(p))
	}
	var ids []string
	for i := range 24 {
		ids = append(ids, w.fire(t, tasks[i%4].ID, time.Duration(i%3)*10*time.Millisecond).ID)
	}
	for _, id := range ids {
		w.wantEnded(t, id, core.Succeeded, "")
	}
	if w.provider.atOnce() > 3 {
		t.Errorf("%d at once in a pool of three", w.provider.atOnce())
	}
}

func TestAFullQueueOfAPoolSkips(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	p := w.pool(t, 1)
	if _, err := w.defs.PutPool(t.Context(), core.Pool{Name: "erp", Slots: 1, MaxWaiting: 1}, core.AnyVersion, "ann"); err != nil {
		t.Fatal(err)
	}
	task := w.create(t, "hold", policies(p))
	w.fire(t, task.ID, 0)
	w.executes(t, 1)
	w.waits(t, w.fire(t, task.ID, 0).ID, core.GateCapacity)
	w.wantEnded(t, w.fire(t, task.ID, 0).ID, core.Skipped, core.ReasonCapacity)
	close(w.provider.let)
}

func TestALimitOfTheNamespaceHolds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	if _, err := w.defs.PutNamespace(t.Context(), core.Namespace{Name: "Lab", MaxRunning: 2, TypeLimits: map[string]int{"Lab.Work": 1}}); err != nil {
		t.Fatal(err)
	}
	a, b := w.create(t, "hold", nil), w.create(t, "hold", nil)
	w.fire(t, a.ID, 0)
	w.executes(t, 1)
	waiting := w.fire(t, b.ID, 0)
	if row := w.waits(t, waiting.ID, core.GateCapacity); row.GateKey != "type:Lab/Lab.Work" {
		t.Errorf("it waits for %q", row.GateKey)
	}
	close(w.provider.let)
	w.wantEnded(t, waiting.ID, core.Succeeded, "")
}

func TestABreakerOpensIsProbedAndCloses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	if _, err := w.defs.PutDownstream(t.Context(), core.Downstream{Name: "his", Failures: 2, Cooldown: 5 * time.Second}, core.AnyVersion, "ann"); err != nil {
		t.Fatal(err)
	}
	p := core.Policies{Downstreams: []string{"his"}, Overlap: core.OverlapAllow}
	failing := w.create(t, "fail", policies(p))
	for range 2 {
		w.wantEnded(t, w.fire(t, failing.ID, 0).ID, core.Failed, "")
	}
	p.CatchUp = core.CatchUpNone
	w.wantEnded(t, w.fire(t, w.create(t, "succeed", policies(p)).ID, 0).ID, core.Skipped, core.ReasonBreaker)
	p.CatchUp = core.CatchUpLatest
	patient := w.create(t, "succeed", policies(p))
	first := w.fire(t, patient.ID, 0)
	w.waits(t, first.ID, core.GateBreaker)
	second := w.fire(t, patient.ID, 0)
	w.wantEnded(t, first.ID, core.Skipped, core.ReasonSuperseded)
	w.wantEnded(t, second.ID, core.Succeeded, "") // it is the probe
	w.wantEnded(t, w.fire(t, patient.ID, 0).ID, core.Succeeded, "")
	if b, err := w.store.Breaker(t.Context(), "downstream:his"); err != nil || b.State != core.BreakerClosed && b.State != "" {
		t.Errorf("the breaker %+v, %v", b, err)
	}
}

// TestWhatABreakerHasKeptIsCaughtUpByItsPolicy: what is older than the window is not, the others start a spread apart, also where
// another server has taken them over.
func TestWhatABreakerHasKeptIsCaughtUpByItsPolicy(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]bool{"the server lives": false, "another takes over": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(t)
			if _, err := w.defs.PutDownstream(t.Context(), core.Downstream{Name: "his", Failures: 1, Cooldown: time.Hour}, core.AnyVersion, "ann"); err != nil {
				t.Fatal(err)
			}
			const spread = 300 * time.Millisecond
			p := core.Policies{Downstreams: []string{"his"}, Overlap: core.OverlapAllow, CatchUp: core.CatchUpAll, CatchUpWindow: 30 * time.Minute, CatchUpSpread: spread}
			w.wantEnded(t, w.fire(t, w.create(t, "fail", policies(p)).ID, 0).ID, core.Failed, "")
			herd, other := w.create(t, "succeed", policies(p)), w.create(t, "succeed", policies(p))
			old := w.fire(t, herd.ID, -time.Hour)
			w.waits(t, old.ID, core.GateBreaker)
			var kept []core.Run
			for i := range 4 {
				kept = append(kept, w.fire(t, herd.ID, time.Duration(i)*time.Microsecond))
			}
			alone := w.fire(t, other.ID, 0)
			for _, run := range append(kept, alone) {
				w.waits(t, run.ID, core.GateBreaker)
			}
			if crash {
				w.crash(t, "next")
			}
			closed := time.Now()
			if err := w.store.ResetBreaker(t.Context(), "downstream:his"); err != nil {
				t.Fatal(err)
			}
			if crash {
				w.start(t)
			}
			w.Look()
			if run := w.ended(t, old.ID); !crash && (run.Reason != core.ReasonBreaker || !strings.Contains(string(run.Facts), "catch_up_window")) {
				t.Errorf("the fire before the window: %s %s %s", run.Verdict, run.Reason, run.Facts)
			}
			w.wantEnded(t, alone.ID, core.Succeeded, "")
			var starts []time.Time
			for _, run := range kept {
				starts = append(starts, w.wantEnded(t, run.ID, core.Succeeded, "").StartedAt)
			}
			slices.SortFunc(starts, time.Time.Compare)
			for i, at := range starts {
				if after := at.Sub(closed); after < time.Duration(i)*spread {
					t.Errorf("start %d came %s after the breaker had closed", i, after)
				}
			}
		})
	}
}

func TestAPreconditionIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	condition := func(name string, deadline time.Duration, otherwise core.Otherwise) func(*core.Task) {
		return policies(core.Policies{Preconditions: []core.Precondition{{
			Name: name, Expression: "true", Every: time.Second, Deadline: deadline, Otherwise: otherwise,
		}}})
	}
	for _, name := range []string{"comes", "never"} {
		w.truths.Store(name, name+" is not so yet")
	}
	comes := w.fire(t, w.create(t, "succeed", condition("comes", time.Hour, "")).ID, 0)
	if row := w.waits(t, comes.ID, core.GatePrecondition); row.GateKey != "0" || !strings.Contains(string(row.Facts), "comes is not so yet") {
		t.Errorf("the row of a waiting run: %+v, facts %s", row, row.Facts)
	}
	w.truths.Delete("comes")
	w.wantEnded(t, comes.ID, core.Succeeded, "")
	skipped := w.wantEnded(t, w.fire(t, w.create(t, "succeed", condition("never", 1100*time.Millisecond, core.OtherwiseSkip)).ID, 0).ID, core.Skipped, core.ReasonPrecondition)
	if !strings.Contains(string(skipped.Facts), "never is not so yet") {
		t.Errorf("facts %s", skipped.Facts)
	}
	allTheSame := w.wantEnded(t, w.fire(t, w.create(t, "succeed", condition("never", 1100*time.Millisecond, core.OtherwiseRun)).ID, 0).ID, core.Succeeded, "")
	if want := "never: never is not so yet" + core.NotTrueInTime; !strings.Contains(string(allTheSame.Facts), want) || allTheSame.Gate != core.GatePrecondition {
		t.Errorf("a run that starts all the same: gate %q, facts %s; want %q", allTheSame.Gate, allTheSame.Facts, want)
	}
	failed := w.wantEnded(t, w.fire(t, w.create(t, "succeed", condition("never", 1100*time.Millisecond, core.OtherwiseFail)).ID, 0).ID, core.Failed, "")
	if !strings.Contains(failed.Message, "never") {
		t.Errorf("message %q", failed.Message)
	}
	once := w.create(t, "succeed", policies(core.Policies{Preconditions: []core.Precondition{{Name: "never", Expression: "true"}}}))
	w.wantEnded(t, w.fire(t, once.ID, 0).ID, core.Skipped, core.ReasonPrecondition)
}

// TestWaitingRunsSurviveTheServer: they are rows, and the next server goes on waiting with them.
func TestWaitingRunsSurviveTheServer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var alive atomic.Bool
	alive.Store(true)
	w.opts.MayAct, w.opts.Drain = alive.Load, time.Millisecond
	w.start(t)
	p := w.pool(t, 1)
	task := w.create(t, "wait", policies(p))
	held := w.fire(t, task.ID, 0)
	w.executes(t, 1)
	quick := w.create(t, "succeed", policies(p))
	waiting := w.fire(t, quick.ID, 0)
	w.waits(t, waiting.ID, core.GateCapacity)
	dead := w.Runner
	w.Runner = nil // the server dies: what it still does reaches nobody
	alive.Store(false)
	w.crash(t, "next")
	if err := dead.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.defs.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	w.wantEnded(t, held.ID, core.Lost, "")
	run := w.wantEnded(t, waiting.ID, core.Succeeded, "")
	if run.Owner != "next" || run.WaitSince.IsZero() {
		t.Errorf("the run that waited: %+v", run)
	}
}

func TestDisablingSkipsWhatWaits(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	p := w.pool(t, 1)
	task := w.create(t, "hold", policies(p))
	first := w.fire(t, task.ID, 0)
	w.executes(t, 1)
	waiting := w.fire(t, task.ID, 0)
	w.waits(t, waiting.ID, core.GateCapacity)
	if err := w.Forget(t.Context(), task.ID, core.ReasonPaused, nil); err != nil {
		t.Fatal(err)
	}
	w.wantEnded(t, waiting.ID, core.Skipped, core.ReasonPaused)
	close(w.provider.let)
	w.wantEnded(t, first.ID, core.Succeeded, "")
}

// TestWhatHeldAPlaceGivesItBackWithoutALease: what was admitted and waits in line when the lease is over.
func TestWhatHeldAPlaceGivesItBackWithoutALease(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.opts.MaxExecuting = 1
	p := w.pool(t, 3)
	w.start(t)
	w.fire(t, w.create(t, "hold", nil).ID, 0)
	w.executes(t, 1)
	run := w.fire(t, w.create(t, "succeed", policies(p)).ID, 0)
	eventually(t, "the run is admitted", func() bool { return w.run(t, run.ID).State == core.RunClaimed && w.Shares() == 1 })
	w.may.Store(false)
	close(w.provider.let)
	eventually(t, "its share is given back", func() bool { return w.Shares() == 0 })
	if got := w.provider.attempts(); len(got) != 1 {
		t.Errorf("%d attempts without a lease", len(got)-1)
	}
}

// TestDisablingSkipsWhatAnotherServerHolds: while that lives, and when its runs are taken over.
// hooked is a store that does something of the test's first: before it admits runs, before it writes how attempts ended.
type hooked struct {
	runner.Store
	admit  func([]core.Admission) error
	finish func([]core.Finish)
}

func (h hooked) Admit(ctx context.Context, admissions []core.Admission) ([]core.Admitted, error) {
	if h.admit != nil {
		if err := h.admit(admissions); err != nil {
			return nil, err
		}
	}
	return h.Store.Admit(ctx, admissions)
}

func (h hooked) Finish(ctx context.Context, ends []core.Finish) ([]core.Finished, error) {
	if h.finish != nil {
		h.finish(ends)
	}
	return h.Store.Finish(ctx, ends)
}

// TestDisablingSkipsWhatAsksJustNow: a run that waits asks again and again, and is on its way to start while it does.
func TestDisablingSkipsWhatAsksJustNow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var waiting atomic.Value
	asks, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.opts.Store = hooked{Store: w.opts.Store, admit: func(admissions []core.Admission) error {
		if admissions[0].RunID == waiting.Load() {
			once.Do(func() {
				close(asks)
				<-answer
			})
		}
		return nil
	}}
	w.start(t)
	p := w.pool(t, 1)
	holder := w.fire(t, w.create(t, "hold", policies(p)).ID, 0)
	w.executes(t, 1)
	task := w.create(t, "succeed", policies(p))
	run := w.fire(t, task.ID, 0)
	w.waits(t, run.ID, core.GateCapacity)
	waiting.Store(run.ID)
	<-asks
	close(w.provider.let)
	w.wantEnded(t, holder.ID, core.Succeeded, "")
	if err := w.Forget(t.Context(), task.ID, core.ReasonPaused, map[string]any{"note": "stocktaking"}); err != nil {
		t.Fatal(err)
	}
	close(answer)
	if run = w.wantEnded(t, run.ID, core.Skipped, core.ReasonPaused); !strings.Contains(string(run.Facts), "stocktaking") {
		t.Errorf("facts %s", run.Facts)
	}
	w.wantEnded(t, w.fire(t, w.create(t, "succeed", policies(p)).ID, 0).ID, core.Succeeded, "") // the place it was given is free again
}

// TestALaterFireTakesThePlaceOfOneThatAsksJustNow: that is no cancelled run.
func TestALaterFireTakesThePlaceOfOneThatAsksJustNow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	looks := make(chan struct{}, 10)
	w.opts.Check = func(ctx context.Context, _ *core.Task, _ core.Run, _ core.Precondition) (bool, string) {
		if len(looks) == 0 {
			looks <- struct{}{}
			<-ctx.Done()
		}
		return false, "not yet"
	}
	w.start(t)
	task := w.create(t, "succeed", policies(core.Policies{Overlap: core.OverlapCancel,
		Preconditions: []core.Precondition{{Name: "data", Expression: "true", Every: time.Second, Deadline: time.Hour}}}))
	run := w.fire(t, task.ID, 0)
	eventually(t, "it is looked at", func() bool { return len(looks) == 1 })
	if err := w.StopRun(t.Context(), run.ID, core.StopSupersede, "a later fire"); err != nil {
		t.Fatal(err)
	}
	if run = w.wantEnded(t, run.ID, core.Skipped, core.ReasonSuperseded); !strings.Contains(string(run.Facts), "a later fire") {
		t.Errorf("facts %s", run.Facts)
	}
}

// TestDisablingEndsALookAtAPrecondition: nobody waits for the answer of a slow check any more, whatever the check would have led to.
func TestDisablingEndsALookAtAPrecondition(t *testing.T) {
	t.Parallel()
	w := setup(t)
	looks := make(chan struct{}, 10)
	w.opts.Check = func(ctx context.Context, _ *core.Task, _ core.Run, _ core.Precondition) (bool, string) {
		looks <- struct{}{}
		<-ctx.Done()
		return false, "no answer"
	}
	w.start(t)
	task := w.create(t, "succeed", policies(core.Policies{Preconditions: []core.Precondition{{Name: "slow", Expression: "true", Otherwise: core.OtherwiseFail}}}))
	run := w.fire(t, task.ID, 0)
	<-looks
	if err := w.Forget(t.Context(), task.ID, core.ReasonDisabled, nil); err != nil {
		t.Fatal(err)
	}
	w.wantEnded(t, run.ID, core.Skipped, core.ReasonDisabled)
	cancelled := w.fire(t, task.ID, 0)
	<-looks
	if err := w.Cancel(t.Context(), cancelled.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	w.wantEnded(t, cancelled.ID, core.Cancelled, "")
}

// TestDisablingLeavesWhatWasAskedFor: a person, or a workflow, wants the run itself, whatever becomes of the schedule.
func TestDisablingLeavesWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	p := w.pool(t, 1)
	w.fire(t, w.create(t, "hold", policies(p)).ID, 0)
	w.executes(t, 1)
	task := w.create(t, "succeed", policies(p))
	fired := w.fire(t, task.ID, 0)
	again, err := w.Backfill(t.Context(), runner.Backfill{TaskID: task.ID, Fires: []time.Time{time.Now().Add(-time.Hour)}, By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []core.Run{fired, again[0]} {
		w.waits(t, run.ID, core.GateCapacity)
	}
	if err := w.Forget(t.Context(), task.ID, core.ReasonPaused, nil); err != nil {
		t.Fatal(err)
	}
	w.wantEnded(t, fired.ID, core.Skipped, core.ReasonPaused)
	close(w.provider.let)
	w.wantEnded(t, again[0].ID, core.Succeeded, "")
}

// TestOverlapHoldsBeforeAPrecondition: fires that wait for one are earlier runs to those that come after them.
func TestOverlapHoldsBeforeAPrecondition(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	w.truths.Store("data", "not there yet")
	for overlap, want := range map[core.Overlap][]core.Gate{
		core.OverlapSkip: {core.GatePrecondition, "", ""}, core.OverlapQueue: {core.GatePrecondition, core.GateOverlap, ""},
		core.OverlapAllow: {core.GatePrecondition, core.GatePrecondition, core.GatePrecondition},
	} {
		task := w.create(t, "succeed", policies(core.Policies{Overlap: overlap, OverlapLimit: map[core.Overlap]int{core.OverlapQueue: 2}[overlap],
			Preconditions: []core.Precondition{{Name: "data", Expression: "true", Every: time.Second, Deadline: time.Hour}}}))
		for _, gate := range want {
			if run := w.fire(t, task.ID, 0); gate == core.GateNone {
				w.wantEnded(t, run.ID, core.Skipped, core.ReasonOverlap)
			} else {
				w.waits(t, run.ID, gate)
			}
		}
	}
	w.truths.Delete("data")
}

// TestAPreconditionThatIsLookedAtOnceStaysTrue also when another before it is looked at again.
func TestAPreconditionThatIsLookedAtOnceStaysTrue(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var again atomic.Int32
	check := w.opts.Check
	w.opts.Check = func(ctx context.Context, task *core.Task, run core.Run, p core.Precondition) (bool, string) {
		if p.Name == "again" {
			again.Add(1)
		}
		return check(ctx, task, run, p)
	}
	w.start(t)
	p := w.pool(t, 1)
	w.fire(t, w.create(t, "hold", policies(p)).ID, 0)
	w.executes(t, 1)
	p.Preconditions = []core.Precondition{{Name: "again", Expression: "true", Every: time.Second, Deadline: time.Hour}, {Name: "once", Expression: "true"}}
	run := w.fire(t, w.create(t, "succeed", policies(p)).ID, 0)
	w.waits(t, run.ID, core.GateCapacity)
	w.truths.Store("once", "true no more")
	seen := again.Load()
	eventually(t, "the first is looked at again", func() bool { return again.Load() > seen })
	close(w.provider.let)
	w.wantEnded(t, run.ID, core.Succeeded, "")
}

func TestDisablingSkipsWhatAnotherServerHolds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	p := w.pool(t, 1)
	w.fire(t, w.create(t, "hold", policies(p)).ID, 0)
	w.executes(t, 1)
	parked := func() (core.Task, core.Run) {
		task := w.create(t, "succeed", policies(p))
		run := w.fire(t, task.ID, 0)
		w.waits(t, run.ID, core.GateCapacity)
		return task, run
	}
	task, run := parked()
	opts := w.opts
	opts.ServerID = "other"
	if err := runner.New(opts).Forget(t.Context(), task.ID, core.ReasonPaused, nil); err != nil {
		t.Fatal(err)
	}
	if run = w.wantEnded(t, run.ID, core.Skipped, core.ReasonPaused); run.Owner != "other" {
		t.Errorf("skipped by %s", run.Owner)
	}
	close(w.provider.let)
	w.wantEnded(t, w.fire(t, w.create(t, "succeed", policies(p)).ID, 0).ID, core.Succeeded, "")
	if got := w.provider.attempts(); len(got) != 2 {
		t.Errorf("%d attempts, and the forgotten run is to have none", len(got))
	}
	w.provider.let = make(chan struct{})
	w.fire(t, w.create(t, "hold", policies(p)).ID, 0)
	w.executes(t, 1)
	reasons := map[string]core.Reason{} // by run
	for _, reason := range []core.Reason{core.ReasonDisabled, core.ReasonPaused} {
		task, run := parked()
		reasons[run.ID] = reason
		if task = w.task(t, task.ID); reason == core.ReasonDisabled {
			task.Enabled = false
		} else {
			task.Pause = core.Pause{Since: time.Now().Add(-time.Second)}
		}
		if _, err := w.store.UpdateTask(t.Context(), task); err != nil { // nobody is told
			t.Fatal(err)
		}
	}
	w.crash(t, "next")
	w.start(t)
	for id, reason := range reasons {
		w.wantEnded(t, id, core.Skipped, reason)
	}
}
