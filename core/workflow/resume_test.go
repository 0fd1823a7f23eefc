package workflow_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

// TestAStepThatCouldNotBeStartedStaysSoOnceOthersWentOn: a task that is enabled again after its step was given up must not
// run beside, or after, the steps that are there for its failure.
func TestAStepThatCouldNotBeStartedStaysSoOnceOthersWentOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disabled := true
		w := newWorld(t, nil)
		w.plan = func(step string, _ int) conduct {
			return conduct{disabled: step == "a" && disabled, takes: time.Minute}
		}
		params := graph("a", "n: a", "b! a", "c: b")
		if _, survived := w.dies(attempt("w", 1, params), 4, true); survived || !slices.Equal(w.started(), []string{"b"}) {
			t.Fatalf("started %v", w.started())
		}
		disabled = false
		out, _ := w.execute(t.Context(), attempt("w", 1, params))
		r := read(t, out)
		if out.Verdict != core.Succeeded || !slices.Equal(w.started(), []string{"b", "c"}) || r.Steps["a"].Verdict != core.Failed || r.Steps["n"].Verdict != core.Skipped {
			t.Errorf("%+v, started %v", out, w.started())
		}
		out, _ = w.execute(t.Context(), attempt("w", 2, params)) // a new attempt does it anew, with what comes after it
		if out.Verdict != core.Succeeded || !slices.Equal(w.started(), []string{"b", "c", "a", "n"}) {
			t.Errorf("%+v, started %v", out, w.started())
		}
	})
}

// TestAStepThatCouldNotBeStartedStaysSoBehindOneThatWasLeftOut: likewise over a step that has no run either.
func TestAStepThatCouldNotBeStartedStaysSoBehindOneThatWasLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disabled := true
		w := newWorld(t, nil)
		w.plan = func(step string, _ int) conduct {
			return conduct{disabled: step == "a" && disabled, takes: time.Minute}
		}
		params := graph("a", "n: a", "c* n")
		if _, survived := w.dies(attempt("w", 1, params), 3, true); survived || !slices.Equal(w.started(), []string{"c"}) {
			t.Fatalf("started %v", w.started())
		}
		disabled = false
		out, _ := w.execute(t.Context(), attempt("w", 1, params))
		if out.Verdict != core.Failed || !slices.Equal(w.started(), []string{"c"}) {
			t.Errorf("%+v, started %v", out, w.started())
		}
	})
}

// TestAStepThatWasPutInBeforeAnotherMakesThatRunAgain: what needs a new step has not been carried out after it.
func TestAStepThatWasPutInBeforeAnotherMakesThatRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		old := graph("a", "b: a", "c", "d")
		out, _ := w.execute(t.Context(), attempt("w0", 1, old))
		w.keep("w0", json.RawMessage(old), out)
		changed := strings.Replace(graph("a", "new: a", "b: new", "c", "d"), "task-d", "task-other", 1)
		params, err := workflow.Resuming(json.RawMessage(changed), workflow.Resume{Run: "w0"})
		if err != nil {
			t.Fatal(err)
		}
		w.starts = nil
		out, _ = w.execute(t.Context(), attempt("w1", 1, string(params)))
		started := w.started()
		slices.Sort(started)
		if out.Verdict != core.Succeeded || !slices.Equal(started, []string{"b", "d", "new"}) {
			t.Errorf("%+v, started %v", out, started)
		}
	})
}

// TestAStartThatIsWrittenLateIsStoppedToo: the answer to a start was lost, and its row comes after the cancel.
func TestAStartThatIsWrittenLateIsStoppedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {takes: time.Hour}})
		ctx, cancel := context.WithCancelCause(t.Context())
		out, _ := (&late{world: w, cancel: cancel}).execute(ctx, attempt("w", 1, graph("a")))
		if out.Verdict != core.Cancelled || len(w.stops) != 1 || len(w.live()) > 0 {
			t.Errorf("%+v %v", out, w.live())
		}
	})
}

// late is a store whose commit takes effect after it was given up.
type late struct {
	*world
	cancel context.CancelCauseFunc
}

func (l *late) StartStep(ctx context.Context, s workflow.Start) (core.Run, error) {
	l.cancel(core.ErrRunCancelled)
	time.AfterFunc(50*time.Millisecond, func() {
		if _, err := l.world.StartStep(context.WithoutCancel(ctx), s); err != nil {
			l.t.Error(err)
		}
	})
	return core.Run{}, core.Errorf(core.KindUnavailable, "start", "no answer")
}

func (l *late) execute(ctx context.Context, a core.Attempt) (core.Outcome, error) {
	return workflow.New(workflow.Options{Steps: l, Clock: core.SystemClock{}}).Execute(ctx, a, nothing{})
}

// nothing takes all and keeps none.
type nothing struct{}

func (nothing) Log(context.Context, core.LogLine) error      { return nil }
func (nothing) Progress(int64, int64, string)                {}
func (nothing) Sample(context.Context, core.RunSample) error { return nil }

// TestARunThatIsTriedAgainByHandStandsForItsStep: an intervention makes a new run of the step.
func TestARunThatIsTriedAgainByHandStandsForItsStep(t *testing.T) {
	t.Parallel()
	g := parse(t, graph("a", "b: a"))
	failed := core.Run{ID: "r1", WorkflowID: "w", Step: "a", Series: workflow.Series("w", "a", 1), State: core.RunEnded, Verdict: core.Failed}
	again := core.Run{ID: "r2", WorkflowID: "w", Step: "a", Series: "retry:r1", State: core.RunEnded, Verdict: core.Succeeded}
	for _, runs := range [][]core.Run{{failed, again}, {again, failed}} {
		if v := workflow.View(g, runs); v[0].RunID != "r2" || v[0].State != "succeeded" || v[1].State != "pending" {
			t.Errorf("%+v", v)
		}
	}
}

// TestAStepDoneByHandIsTakenOver: it is not carried out again, what needs it is, and of one that is named in from nobody's word
// is taken.
func TestAStepDoneByHandIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {verdict: core.Failed, message: "no luck"}})
		params := graph("a", "b: a", "c: b")
		out, _ := w.execute(t.Context(), attempt("w0", 1, params))
		w.keep("w0", json.RawMessage(params), out)
		for _, wish := range []struct {
			workflow.Resume
			started []string
		}{
			{workflow.Resume{Run: "w0"}, []string{"a"}},
			{workflow.Resume{Run: "w0", Done: []string{"a"}}, []string{"b", "c"}},
			{workflow.Resume{Run: "w0", Done: []string{"a"}, From: []string{"a"}}, []string{"a"}},
		} {
			p, err := workflow.Resuming(json.RawMessage(params), wish.Resume)
			if err != nil {
				t.Fatal(err)
			}
			w.starts = nil
			id := "w" + strings.Join(wish.Done, "") + strings.Join(wish.From, "-")
			out, _ := w.execute(t.Context(), attempt(id, 1, string(p)))
			if !slices.Equal(w.started(), wish.started) || (out.Verdict == core.Succeeded) != (len(wish.started) == 2) {
				t.Errorf("%+v: %+v, started %v; want %v", wish.Resume, out, w.started(), wish.started)
			}
		}
		if _, err := workflow.Resuming(json.RawMessage(params), workflow.Resume{Run: "w0", Done: []string{"x"}}); core.KindOf(err) != core.KindInvalid {
			t.Errorf("a step that is not there was done: %v", err)
		}
	})
}
