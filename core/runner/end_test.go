package runner_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

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
