package workflow_test

import (
	"context"
	"encoding/json"
	"fmt"
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

// TestARunThatIsTriedAgainByHandStandsForItsStep: an intervention makes a new run of the step, from the run of whichever round.
func TestARunThatIsTriedAgainByHandStandsForItsStep(t *testing.T) {
	t.Parallel()
	g := parse(t, graph("a", "b: a"))
	run := func(id string, round int, state core.RunState, verdict core.Verdict) core.Run {
		return core.Run{ID: id, WorkflowID: "w", Step: "a", Series: workflow.Series("w", "a", round), State: state, Verdict: verdict}
	}
	again := func(id, of string, state core.RunState, verdict core.Verdict) core.Run {
		return core.Run{ID: id, WorkflowID: "w", Step: "a", Series: "retry:" + of + "#" + id, CausedBy: of, State: state, Verdict: verdict}
	}
	const over, live = core.RunEnded, core.RunRunning
	for name, c := range map[string]struct {
		runs  []core.Run
		stand string
		state string
	}{
		"OneRound":            {[]core.Run{run("r1", 1, over, core.Failed), again("r2", "r1", over, core.Succeeded)}, "r2", "succeeded"},
		"Fails":               {[]core.Run{run("r1", 1, over, core.Failed), again("r2", "r1", over, core.TimedOut)}, "r2", "timed_out"},
		"OfTheLastRound":      {[]core.Run{run("r1", 1, over, core.Failed), run("r2", 2, over, core.Failed), again("r3", "r2", over, core.Succeeded)}, "r3", "succeeded"},
		"OfAnEarlierRound":    {[]core.Run{run("r1", 1, over, core.Failed), run("r2", 2, over, core.Failed), again("r3", "r1", over, core.Succeeded)}, "r3", "succeeded"},
		"OfWhatWasTriedAgain": {[]core.Run{run("r1", 1, over, core.Failed), run("r2", 2, over, core.Failed), again("r3", "r2", over, core.Failed), again("r4", "r3", over, core.Succeeded)}, "r4", "succeeded"},
		"Live":                {[]core.Run{run("r1", 1, over, core.Failed), run("r2", 2, over, core.Failed), again("r3", "r1", live, "")}, "r3", "running"},
		"BetweenTheRounds":    {[]core.Run{run("r1", 1, over, core.Failed), again("r2", "r1", over, core.Failed), run("r3", 2, over, core.Failed)}, "r3", "failed"},
		"BesideASuccess":      {[]core.Run{run("r1", 1, over, core.Failed), run("r2", 2, over, core.Succeeded), again("r3", "r1", over, core.Failed)}, "r2", "succeeded"},
		"BesideALiveOne":      {[]core.Run{run("r1", 1, over, core.Failed), run("r2", 2, live, ""), again("r3", "r1", over, core.Failed)}, "r2", "running"},
		"OfWhatIsGone":        {[]core.Run{again("r2", "r1", over, core.Succeeded)}, "r2", "succeeded"},
	} {
		for range 2 {
			if v := workflow.View(g, c.runs); v[0].RunID != c.stand || v[0].State != c.state || v[1].State != "pending" && v[1].State != "skipped" {
				t.Errorf("%s: %+v", name, v)
			}
			slices.Reverse(c.runs)
		}
	}
}

// TestWhatWasTriedAgainByHandIsNotRepeated: neither by the next attempt, nor by a workflow run that goes on, also through one that
// went on with the same step in vain.
func TestWhatWasTriedAgainByHandIsNotRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		again int    // which run of a is tried again
		after string // when
	}{
		"TheLastOne": {1, "round 2"}, "TheFirstOne": {0, "round 2"}, "BetweenTheRounds": {0, "round 1"}, "TheFirstOneAfterGoingOn": {0, "going on"}, "TheLastOneAfterGoingOn": {1, "going on"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, map[string]conduct{"a": {verdict: core.Failed, message: "no luck", takes: time.Minute}, "b": {takes: time.Minute}})
				params, last := graph("a", "b: a"), "w0"
				byHand := func(after string) {
					if after == c.after {
						w.again(fmt.Sprintf("r%05d", c.again+1), conduct{output: `{"rows":7}`, takes: time.Minute})
						time.Sleep(2 * time.Minute)
						w.starts = nil
					}
				}
				goOn := func(id string) core.Outcome {
					p, err := workflow.Resuming(json.RawMessage(params), workflow.Resume{Run: last})
					if err != nil {
						t.Fatal(err)
					}
					last = id
					out, _ := w.execute(t.Context(), attempt(id, 1, string(p)))
					w.keep(id, p, out)
					return out
				}
				w.execute(t.Context(), attempt("w0", 1, params))
				byHand("round 1")
				out, _ := w.execute(t.Context(), attempt("w0", 2, params))
				w.keep("w0", json.RawMessage(params), out)
				byHand("round 2")
				if c.after == "going on" {
					goOn("w1")
					byHand("going on")
				}
				if c.after != "round 1" {
					out = goOn("w2")
				}
				if out.Verdict != core.Succeeded || !slices.Equal(w.started(), []string{"b"}) || string(read(t, out).Steps["a"].Output) != `{"rows":7}` {
					t.Errorf("%+v, started %v", out, w.started())
				}
			})
		})
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
