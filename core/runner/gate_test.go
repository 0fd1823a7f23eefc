package runner_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	if _, err := w.defs.PutDownstream(t.Context(), core.Downstream{Name: "his", Failures: 2, Cooldown: time.Second}, core.AnyVersion, "ann"); err != nil {
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
	if err := w.Forget(t.Context(), task.ID, core.ReasonPaused); err != nil {
		t.Fatal(err)
	}
	w.wantEnded(t, waiting.ID, core.Skipped, core.ReasonPaused)
	close(w.provider.let)
	w.wantEnded(t, first.ID, core.Succeeded, "")
}

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

// TestTheEndOfARunStartsItsDependents: on the verdict they want, with what it handed on, once.
func TestTheEndOfARunStartsItsDependents(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	upstream := w.create(t, "succeed", nil)
	after := func(on core.When, params map[string]string) core.Task {
		return w.create(t, "succeed", func(t *core.Task) {
			t.Schedule.Spec = "@manual"
			t.After = []core.Upstream{{Task: upstream.Name, On: on, Params: params}}
		})
	}
	yes, no := after(core.OnSuccess, map[string]string{"told": "$.done"}), after(core.OnFailure, nil)
	lacking := after(core.OnAlways, map[string]string{"told": "$.nothing.there"})
	off, paused := after(core.OnSuccess, nil), after(core.OnSuccess, nil)
	if _, err := w.defs.SetEnabled(t.Context(), off.ID, false, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.defs.Pause(t.Context(), paused.ID, "", time.Time{}, "ann"); err != nil {
		t.Fatal(err)
	}
	fired := w.fire(t, upstream.ID, 0)
	w.wantEnded(t, fired.ID, core.Succeeded, "")
	runs := map[string]core.Run{} // by task
	eventually(t, "the dependent runs", func() bool {
		list, err := w.store.Runs(t.Context(), core.RunFilter{CausedBy: fired.ID, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range list {
			runs[run.TaskID] = run
		}
		return len(list) == 4 && runs[yes.ID].State == core.RunEnded
	})
	if run := runs[yes.ID]; run.Trigger != core.TriggerUpstream || run.Verdict != core.Succeeded || !strings.Contains(string(run.Params), `"told":true`) ||
		!strings.Contains(string(run.Facts), `"upstream":"`+upstream.Name+`"`) {
		t.Errorf("the dependent run %+v; not %s", run, no.Name)
	}
	for id, reason := range map[string]core.Reason{lacking.ID: core.ReasonParams, off.ID: core.ReasonDisabled, paused.ID: core.ReasonPaused} {
		run := runs[id]
		if run.Verdict != core.Skipped || run.Reason != reason || run.State != core.RunEnded || run.Trigger != core.TriggerUpstream || run.Series != "upstream:"+fired.ID ||
			run.Token != 0 || run.Attempt != 0 || run.EndedAt.IsZero() || run.FireAt.IsZero() || run.Owner == "" || !strings.Contains(string(run.Facts), `"upstream_run_id":"`+fired.ID+`"`) {
			t.Errorf("the fire that is to be skipped as %s: %+v", reason, run)
		}
		if state := w.task(t, id).State; state.Live != 0 || state.Fired != 0 {
			t.Errorf("skipped as %s, the task has the state %+v", reason, state)
		}
	}
}

// TestNoEndIsWrittenWithoutWhatItCauses: while the store does not say what that is the end waits, and a server that loses its lease
// meanwhile leaves both to the next.
func TestNoEndIsWrittenWithoutWhatItCauses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var faults atomic.Int32
	unsteady := func() {
		read := w.opts.Dependents
		w.opts.Dependents = func(ctx context.Context, run core.Run, outcome core.Outcome) ([]core.Dependent, error) {
			if faults.Add(-1) >= 0 {
				return nil, core.Errorf(core.KindUnavailable, "read definitions", "no answer")
			}
			return read(ctx, run, outcome)
		}
	}
	unsteady()
	w.start(t)
	quick, slow := w.create(t, "succeed", nil), w.create(t, "hold", nil)
	for _, upstream := range []core.Task{quick, slow} {
		w.create(t, "succeed", func(t *core.Task) {
			t.Schedule.Spec, t.After = "@manual", []core.Upstream{{Task: upstream.Name, On: core.OnAlways}}
		})
	}
	caused := func(run core.Run) []core.Run {
		list, err := w.store.Runs(t.Context(), core.RunFilter{CausedBy: run.ID, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	faults.Store(2)
	fired := w.fire(t, quick.ID, 0)
	w.wantEnded(t, fired.ID, core.Succeeded, "")
	if list := caused(fired); len(list) != 1 || faults.Load() >= 0 {
		t.Errorf("after two faults the end caused %+v", list)
	}
	fired = w.fire(t, slow.ID, 0)
	w.executes(t, 1)
	faults.Store(1 << 30)
	w.may.Store(false)
	close(w.provider.let)
	eventually(t, "the attempt is over", func() bool { return w.Executing() == 0 })
	if run, err := w.store.Run(t.Context(), fired.ID); err != nil || run.State == core.RunEnded || len(caused(fired)) != 0 {
		t.Errorf("%+v, %v, caused %v", run, err, caused(fired))
	}
	w.crash(t, "next")
	faults.Store(0)
	unsteady()
	if err := w.defs.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	w.wantEnded(t, fired.ID, core.Lost, "")
	if list := caused(fired); len(list) != 1 || list[0].Owner != "next" {
		t.Errorf("the next server's end caused %+v", list)
	}
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
	if err := runner.New(opts).Forget(t.Context(), task.ID, core.ReasonPaused); err != nil {
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

func TestFailuresInARowDisableATask(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "fail", policies(core.Policies{StopAfter: 3, Overlap: core.OverlapAllow, Intervene: true}))
	for i := range 3 {
		if !w.task(t, task.ID).Enabled {
			t.Fatalf("disabled after %d failures", i)
		}
		w.wantEnded(t, w.fire(t, task.ID, 0).ID, core.Failed, "")
	}
	eventually(t, "the task is disabled", func() bool { return !w.task(t, task.ID).Enabled })
	if reason := w.task(t, task.ID).DisabledReason; !strings.Contains(reason, "stop_on_error: 3 runs in a row") {
		t.Errorf("reason %q", reason)
	}
	list, err := w.store.Interventions(t.Context(), core.InterventionFilter{TaskID: task.ID, Limit: 10})
	if err != nil || len(list) != 3 {
		t.Fatalf("interventions %+v, %v", list, err)
	}
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

func TestABackfillIsOneSeriesInOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "succeed", policies(core.Policies{Overlap: core.OverlapSkip}))
	began := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	var fires []time.Time
	for h := range 5 {
		fires = append(fires, began.Add(time.Duration(h)*time.Hour))
	}
	runs, err := w.Backfill(t.Context(), runner.Backfill{TaskID: task.ID, Fires: fires, By: "ann"})
	if err != nil || len(runs) != 5 {
		t.Fatal(runs, err)
	}
	for i, run := range runs {
		ended := w.wantEnded(t, run.ID, core.Succeeded, "")
		if ended.Series != runs[0].Series || !ended.FireAt.Equal(fires[i]) || ended.Trigger != core.TriggerBackfill || ended.CreatedBy != "ann" {
			t.Errorf("run %d: %+v", i, ended)
		}
	}
	for i, a := range w.provider.attempts() {
		if !a.FireAt.Equal(fires[i]) {
			t.Errorf("attempt %d was for %s", i, a.FireAt)
		}
	}
	if w.provider.atOnce() != 1 {
		t.Errorf("%d at once", w.provider.atOnce())
	}
}

// TestABackfillsOwnOverlapHoldsBesideTheTasks: two at once of a backfill with allow(2), although the task says queue(5).
func TestABackfillsOwnOverlapHoldsBesideTheTasks(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", policies(core.Policies{Overlap: core.OverlapQueue, OverlapLimit: 5}))
	var fires []time.Time
	for h := range 5 {
		fires = append(fires, time.Date(2026, 10, 1, h, 0, 0, 0, time.UTC))
	}
	runs, err := w.Backfill(t.Context(), runner.Backfill{TaskID: task.ID, Fires: fires, Overlap: core.OverlapAllow, OverlapLimit: 2, By: "ann"})
	if err != nil || len(runs) != 5 {
		t.Fatal(runs, err)
	}
	w.executes(t, 2)
	for _, run := range runs[2:] {
		w.waits(t, run.ID, core.GateOverlap)
	}
	close(w.provider.let)
	for _, run := range runs {
		w.wantEnded(t, run.ID, core.Succeeded, "")
	}
	if w.provider.atOnce() != 2 {
		t.Errorf("%d at once", w.provider.atOnce())
	}
}

func TestAStepIsStartedOnceAndItsEndIsTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", nil)
	step := runner.Step{WorkflowID: "wf-1", Name: "load", TaskID: task.ID, Params: []byte(`{"x":1}`), FireAt: time.Now().UTC(), By: "gnomon"}
	changed, stop := w.Changed("wf-1")
	defer stop()
	run, err := w.StartStep(t.Context(), step)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.StartStep(t.Context(), step)
	if err != nil || again.ID != run.ID {
		t.Errorf("asked again, the step is %s, %v; want %s", again.ID, err, run.ID)
	}
	w.executes(t, 1)
	close(w.provider.let)
	<-changed
	if ended := w.wantEnded(t, run.ID, core.Succeeded, ""); ended.WorkflowID != "wf-1" || ended.Step != "load" || !strings.Contains(string(ended.Params), `"x":1`) {
		t.Errorf("the step's run: %+v", ended)
	}
	if n := len(w.provider.attempts()); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// TestStepsOfOneTaskWaitForEachOther: whose fires are skipped while one is live carries out all steps that name it.
func TestStepsOfOneTaskWaitForEachOther(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "succeed", policies(core.Policies{Overlap: core.OverlapSkip}))
	at := time.Now().UTC()
	var runs []core.Run
	for _, name := range []string{"east", "north", "west"} {
		run, err := w.StartStep(t.Context(), runner.Step{WorkflowID: "wf-2", Name: name, TaskID: task.ID, FireAt: at, By: "gnomon"})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	for _, run := range runs {
		w.wantEnded(t, run.ID, core.Succeeded, "")
	}
	if w.provider.atOnce() != 1 {
		t.Errorf("%d at once", w.provider.atOnce())
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

func TestAMissedServiceLevelIsWritten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.usual = 10 * time.Millisecond
	w.start(t)
	task := w.create(t, "hold", policies(core.Policies{SLA: core.SLA{StartWithin: time.Millisecond, MaxDuration: 50 * time.Millisecond, P95Factor: 2}}))
	fired := w.fire(t, task.ID, -5*time.Second)
	eventually(t, "the store knows while it runs", func() bool { return len(w.run(t, fired.ID).Breaches) == 3 })
	close(w.provider.let)
	run := w.wantEnded(t, fired.ID, core.Succeeded, "")
	var kinds []core.BreachKind
	for _, b := range run.Breaches {
		kinds = append(kinds, b.Kind)
	}
	if want := []core.BreachKind{core.BreachStart, core.BreachLong, core.BreachSlow}; !slices.Equal(kinds, want) {
		t.Errorf("breaches %v; want %v", kinds, want)
	}
}
