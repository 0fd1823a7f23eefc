package workflow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/coretest"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

type resultsOf struct {
	Steps map[string]struct {
		RunID        string          `json:"run_id"`
		Verdict      core.Verdict    `json:"verdict"`
		Message      string          `json:"message"`
		Output       json.RawMessage `json:"output"`
		OmittedBytes int             `json:"output_omitted_bytes"`
	} `json:"steps"`
}

func read(t *testing.T, out core.Outcome) resultsOf {
	t.Helper()
	var r resultsOf
	if err := json.Unmarshal(out.Output, &r); err != nil {
		t.Fatalf("output %s: %v", out.Output, err)
	}
	return r
}

func TestStepsFanOutAndIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{
			"a": {takes: time.Minute, output: `{"n": 1}`}, "b": {takes: 2 * time.Minute}, "c": {takes: 3 * time.Minute}, "d": {takes: time.Second},
		})
		began := time.Now()
		out, sink := w.execute(t.Context(), attempt("w", 1, graph("a", "b: a", "c: a", "d: b c", "e! d")))
		if out.Verdict != core.Succeeded || out.Message != "" || !out.Began.Equal(began) {
			t.Errorf("%+v", out)
		}
		if took := time.Since(began); took != 4*time.Minute+time.Second { // hints, not polls, move it on
			t.Errorf("it took %v", took)
		}
		if got := w.started(); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
			t.Errorf("started %v", got)
		}
		for _, s := range w.starts {
			if s.Namespace != "Lab" || s.TaskName != "task-"+s.Step || s.WorkflowRunID != "w" || !s.FireAt.Equal(fireAt) || s.Round != 1 || s.By == "" {
				t.Errorf("%+v", s)
			}
		}
		r := read(t, out)
		if r.Steps["a"].RunID == "" || string(r.Steps["a"].Output) != `{"n":1}` || r.Steps["e"].Verdict != core.Skipped || r.Steps["e"].Message == "" {
			t.Errorf("%s", out.Output)
		}
		said := map[string]int{}
		for _, l := range sink.Lines(core.StreamLog) {
			said[l.Message]++
		}
		if said["step started"] != 4 || said["step ended"] != 4 || said["step left out"] != 1 || len(sink.Lines(0)) != 9 {
			t.Errorf("%v", said)
		}
	})
}

func TestWithoutHintsTheRunsAreLookedAtEveryTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {takes: 5 * time.Second}})
		w.deaf = true
		began := time.Now()
		out, _ := w.execute(t.Context(), attempt("w", 1, graph("a", "b: a")))
		if took := time.Since(began); out.Verdict != core.Succeeded || took != 8*time.Second {
			t.Errorf("%+v after %v", out, took)
		}
	})
}

func TestOutputsAreHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{
			"load": {output: `{"rows": [{"a.b": 12345678901234567890}, "<x>"], "none": null}`},
			"bad":  {verdict: core.Failed, message: "no luck"},
		})
		params := `{"inputs": {"day": {"y": 2026}, "s": "$.not-a-path-here"}, "steps": [
			{"name": "load", "task": "t"}, {"name": "bad", "task": "t"},
			{"name": "use", "task": "t", "needs": ["load", "bad"], "when": "failure", "params": {
				"n": "$.steps.load.output.rows[0][\"a.b\"]", "list": ["$.steps.load.output.rows[1]", {"k": "$.inputs.day.y"}], "all": "$.steps.load.output",
				"null": "$.steps.load.output.none", "at": "$.run.fire_at", "run": "$.run.id", "plain": "$$.x", "money": "5 $.", "num": 1.50,
				"verdict": "$.steps.bad.verdict", "why": "$.steps.bad.message", "missing": "$.steps.bad.output.deep[3]", "input": "$.inputs.s"}},
			{"name": "then", "task": "t", "needs": ["use"], "params": {"x": "$.steps.load.run_id"}}]}`
		out, sink := w.execute(t.Context(), attempt("w", 1, params))
		if out.Verdict != core.Succeeded {
			t.Fatalf("%+v", out)
		}
		var got, want any
		wanted := `{"n": 12345678901234567890, "list": ["<x>", {"k": 2026}], "all": {"rows": [{"a.b": 12345678901234567890}, "<x>"], "none": null}, "null": null,
			"at": "2026-11-20T04:00:00Z", "run": "w", "plain": "$.x", "money": "5 $.", "num": 1.5, "verdict": "failed", "why": "no luck", "missing": null, "input": "$.not-a-path-here"}`
		if json.Unmarshal([]byte(w.params["use"]), &got) != nil || json.Unmarshal([]byte(wanted), &want) != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s\nwant %s", w.params["use"], wanted)
		}
		if !strings.Contains(w.params["use"], "12345678901234567890") || w.params["load"] != "" || !strings.Contains(w.params["then"], `"r0000`) {
			t.Errorf("%v", w.params)
		}
		handed := false
		for _, l := range sink.Lines(0) {
			for _, a := range l.Attrs {
				handed = handed || a.Key == "handed_on" && strings.Contains(a.Value, "n=$.steps.load.output.rows")
			}
		}
		if !handed {
			t.Error("no line says what was handed on")
		}
	})
}

func TestAPathThatLeadsNowhereFailsTheStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {output: `{"rows": [1]}`}, "b": {}})
		params := func(path string) string {
			return `{"steps": [{"name": "a", "task": "t"}, {"name": "b", "task": "t", "needs": ["a"], "params": {"x": ` + path + `}}, {"name": "c", "task": "t", "needs": ["b"], "when": "failure"}]}`
		}
		for i, test := range []struct{ path, says string }{
			{`"$.steps.a.output.total"`, "the output of step a has nothing at $.total"}, {`"$.steps.a.output.rows[1]"`, "has nothing at $.rows[1]"}, {`"$.steps.a.output.rows.x"`, "has nothing at $.rows.x"},
			{`"$.steps.a.output[0]"`, "has nothing at $[0]"}, {`"$.steps.a.output[\"a b\"]"`, `has nothing at $["a b"]`},
		} {
			out, _ := w.execute(t.Context(), attempt(fmt.Sprintf("w%d", i), 1, params(test.path)))
			r := read(t, out)
			if out.Verdict != core.Succeeded || r.Steps["b"].Verdict != core.Failed || !strings.Contains(r.Steps["b"].Message, test.says) || r.Steps["c"].Verdict != core.Succeeded {
				t.Errorf("%s: %+v %s", test.path, out, out.Output)
			}
		}
	})
}

func TestEveryBadEndOfAStepIsAFailureThatSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i, test := range []struct {
			how  conduct
			says string
		}{
			{conduct{verdict: core.Failed, message: "no luck"}, "step a failed: no luck"},
			{conduct{verdict: core.TimedOut, message: "hard timeout reached"}, "step a failed: timed_out: hard timeout reached"},
			{conduct{verdict: core.Crashed}, "step a failed: crashed"},
			{conduct{verdict: core.Lost}, "step a failed: lost"},
			{conduct{verdict: core.Cancelled, message: "by ann"}, "step a failed: cancelled: by ann"},
			{conduct{verdict: core.Skipped, reason: core.ReasonOverlap}, "step a failed: its run was skipped (overlap)"},
			{conduct{verdict: core.Skipped, reason: core.ReasonPrecondition, message: "x"}, "its run was skipped (precondition): x"},
			{conduct{disabled: true}, "step a failed: task task-a cannot be started: start step a: task task-a is disabled"},
		} {
			w := newWorld(t, map[string]conduct{"a": test.how})
			out, _ := w.execute(t.Context(), attempt(fmt.Sprintf("w%d", i), 1, graph("a", "b: a", "c* a")))
			if out.Verdict != core.Failed || !strings.Contains(out.Message, test.says) || out.Permanent {
				t.Errorf("%+v: %+v", test.how, out)
			}
			if got := w.started(); got[len(got)-1] != "c" || slices.Contains(got, "b") {
				t.Errorf("%+v: started %v", test.how, got)
			}
		}
	})
}

func TestAStoreThatFailsForAWhileOnlyDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {takes: time.Second}})
		rnd := rand.New(rand.NewPCG(1, 3))
		flaky := func(call string) error {
			if rnd.IntN(3) > 0 {
				return core.Errorf(core.KindUnavailable, call, "the store does not answer")
			}
			return nil
		}
		w.fail, w.failLate = flaky, flaky
		out, _ := w.execute(t.Context(), attempt("w", 1, graph("a", "b: a")))
		if out.Verdict != core.Succeeded || len(w.starts) != 2 {
			t.Errorf("%+v %v", out, w.started())
		}
		w.failLate = nil
		w.fail = func(call string) error {
			if call == "start" {
				return core.Errorf(core.KindInternal, call, "a fault of ours")
			}
			return nil
		}
		out, _ = w.execute(t.Context(), attempt("w2", 1, graph("a")))
		if out.Verdict != core.Failed || !strings.Contains(out.Message, "a fault of ours") {
			t.Errorf("%+v", out)
		}
	})
}

// TestHistoryIsAskedOnlyForWhatHasMovedThere: and a workflow goes on while it does not answer.
func TestHistoryIsAskedOnlyForWhatHasMovedThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {takes: time.Hour}, "b": {takes: time.Hour}})
		w.ships = time.Millisecond
		lists := 0
		w.fail = func(call string) error {
			if call == "list" {
				if lists++; lists > 1 {
					return core.Errorf(core.KindUnavailable, call, "history does not answer")
				}
			}
			return nil
		}
		out, _ := w.execute(t.Context(), attempt("w", 1, graph("a", "b: a", "c: b")))
		if out.Verdict != core.Succeeded || lists != 1 {
			t.Errorf("%+v, asked %d times", out, lists)
		}
		w.fail, w.deaf, w.asked = nil, true, 0 // without hints each step has moved before it is looked at
		out, _ = w.execute(t.Context(), attempt("w2", 1, graph("a", "b: a", "c: b")))
		if out.Verdict != core.Succeeded || w.asked < 2 || w.asked > 4 {
			t.Errorf("%+v, asked %d times", out, w.asked)
		}
	})
}

func TestCancelStopsTheStepsAndWaitsForThem(t *testing.T) {
	for _, test := range []struct {
		cause   error
		verdict core.Verdict
		how     core.Stop
	}{
		{core.ErrRunCancelled, core.Cancelled, core.StopCancel}, {core.ErrRunTimeout, core.TimedOut, core.StopCancel},
		{core.ErrRunSoftTimeout, core.TimedOut, core.StopCancel}, {core.ErrRunTerminated, core.Cancelled, core.StopTerminate},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, map[string]conduct{"a": {}, "b": {takes: time.Hour}, "c": {takes: time.Hour}})
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Minute, func() { cancel(test.cause) })
			began := time.Now()
			out, _ := w.execute(ctx, attempt("w", 1, graph("a", "b: a", "c: a", "d: b c", "e* b")))
			if out.Verdict != test.verdict || !strings.Contains(out.Message, test.cause.Error()) || len(w.live()) > 0 || len(w.stops) != 2 {
				t.Errorf("%+v, live %v, stops %v", out, w.live(), w.stops)
			}
			for _, how := range w.stops {
				if how != test.how {
					t.Errorf("asked to %s", how)
				}
			}
			if took := time.Since(began); took > time.Minute+time.Second {
				t.Errorf("it took %v", took)
			}
			if got := w.started(); len(got) != 3 {
				t.Errorf("started %v", got)
			}
			if r := read(t, out); r.Steps["a"].Verdict != core.Succeeded || r.Steps["b"].Verdict != core.Cancelled {
				t.Errorf("%s", out.Output)
			}
		})
	}
}

func TestStepsThatDoNotStopAreNamedAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {takes: time.Hour, stubborn: true}, "b": {takes: time.Hour}})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(core.ErrRunCancelled) })
		began := time.Now()
		out, _ := w.execute(ctx, attempt("w", 1, graph("a", "b")))
		if took := time.Since(began); out.Verdict != core.Cancelled || !strings.Contains(out.Message, "had not stopped within 5s: a") || took != time.Minute+5*time.Second {
			t.Errorf("%+v after %v", out, took)
		}
		time.Sleep(time.Hour) // until a ends
	})
}

func TestAStartThatIsUnsureIsStoppedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {takes: time.Hour}})
		ctx, cancel := context.WithCancelCause(t.Context())
		w.failLate = func(call string) error { // its row was written, but nobody heard of it; then the workflow is cancelled
			if call == "start" {
				cancel(core.ErrRunCancelled)
				return core.Errorf(core.KindUnavailable, call, "no answer")
			}
			return nil
		}
		out, _ := w.execute(ctx, attempt("w", 1, graph("a")))
		if out.Verdict != core.Cancelled || len(w.stops) != 1 || len(w.live()) > 0 {
			t.Errorf("%+v %v", out, w.live())
		}
	})
}

func TestShutdownLeavesTheStepsAloneAndTheNextServerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {takes: time.Hour}})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(core.ErrShuttingDown) })
		began := time.Now()
		out, _ := w.execute(ctx, attempt("w", 1, graph("a", "b: a")))
		if out.Verdict != core.Cancelled || len(w.stops) > 0 || time.Since(began) != time.Minute {
			t.Errorf("%+v %v", out, w.stops)
		}
		out, sink := w.execute(t.Context(), attempt("w", 1, graph("a", "b: a")))
		if out.Verdict != core.Succeeded || time.Since(began) != time.Hour || len(w.starts) != 2 || sink.Lines(0)[0].Message != "step found running" {
			t.Errorf("%+v %v", out, w.started())
		}
	})
}

func TestAContextThatHasEndedStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(core.ErrRunCancelled)
		out, _ := w.execute(ctx, attempt("w", 1, graph("a")))
		if out.Verdict != core.Cancelled || len(w.starts) > 0 {
			t.Errorf("%+v", out)
		}
		a := attempt("w", 1, graph("a"))
		a.TaskType = "Common.Other"
		if _, err := workflow.New(workflow.Options{Steps: w, Clock: core.SystemClock{}}).Execute(t.Context(), a, &coretest.Sink{}); core.KindOf(err) != core.KindNotFound {
			t.Error(err)
		}
		if out, _ := w.execute(t.Context(), attempt("w", 1, `{"steps": []}`)); out.Verdict != core.Failed || !out.Permanent {
			t.Errorf("%+v", out)
		}
	})
}

func TestLinesBelowTheLevelAreNotSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {verdict: core.Failed}})
		a := attempt("w", 1, graph("a", "b"))
		a.LogLevel = core.LevelWarn
		if _, sink := w.execute(t.Context(), a); len(sink.Lines(0)) != 1 {
			t.Errorf("%+v", sink.Lines(0))
		}
	})
}

func TestOutputsThatAreTooLargeAreLeftOutLargestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := map[string]conduct{}
		var lines []string
		for i := range 20 {
			name := fmt.Sprintf("s%02d", i)
			lines = append(lines, name)
			plan[name] = conduct{output: `"` + strings.Repeat("x", 10_000*i) + `"`}
		}
		out, _ := newWorld(t, plan).execute(t.Context(), attempt("w", 1, graph(lines...)))
		r := read(t, out)
		if len(out.Output) > 1<<20 || len(out.Output) < 1<<19 || r.Steps["s19"].OmittedBytes != 190_002 || r.Steps["s19"].RunID == "" || len(r.Steps["s05"].Output) != 50_002 {
			t.Errorf("%d bytes, %+v", len(out.Output), r.Steps["s19"].OmittedBytes)
		}
	})
}

// TestALaterAttemptDoesAnewWhatFailed: with what comes after it, and nothing else.
func TestALaterAttemptDoesAnewWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.plan = func(step string, round int) conduct {
			if step == "b" && round < 3 {
				return conduct{verdict: core.Failed, message: "no luck"}
			}
			return conduct{takes: time.Second, output: fmt.Sprintf(`{"round": %d}`, round)}
		}
		params := graph("a", "b: a", "c* b", "d: b c", "x", "y: x", "z! a")
		var all []string
		for n := 1; n <= 3; n++ {
			w.starts = nil
			out, _ := w.execute(t.Context(), attempt("w", n, params))
			if wantVerdict := map[bool]core.Verdict{true: core.Succeeded, false: core.Failed}[n == 3]; out.Verdict != wantVerdict {
				t.Errorf("attempt %d: %+v", n, out)
			}
			for _, s := range w.starts {
				if s.Round != n {
					t.Errorf("attempt %d: %+v", n, s)
				}
			}
			got := w.started()
			slices.Sort(got)
			all = append(all, strings.Join(got, " "))
		}
		if got := strings.Join(all, " | "); got != "a b c x y | b c | b c d" {
			t.Errorf("started %s", got)
		}
	})
}

func TestRunAgainTakesOverWhatSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {output: `{"n": 7}`}, "b": {verdict: core.Failed, message: "no luck"}, "s": {takes: time.Second, output: `1`}})
		params := `{"steps": [{"name": "a", "task": "task-a"}, {"name": "b", "task": "task-b", "needs": ["a"]},
			{"name": "c", "task": "task-c", "needs": ["b"], "params": {"n": "$.steps.a.output.n"}}, {"name": "s", "task": "task-s"}, {"name": "h", "task": "task-h", "needs": ["s"], "when": "failure"}]}`
		out, _ := w.execute(t.Context(), attempt("w0", 1, params))
		if out.Verdict != core.Failed {
			t.Fatalf("%+v", out)
		}
		w.keep("w0", json.RawMessage(params), out)
		again := func(id, of string, from ...string) (core.Outcome, []string, string) {
			t.Helper()
			p, err := workflow.Resuming(json.RawMessage(params), workflow.Resume{Run: of, From: from})
			if err != nil {
				t.Fatal(err)
			}
			w.starts = nil
			out, _ := w.execute(t.Context(), attempt(id, 1, string(p)))
			w.keep(id, p, out)
			return out, w.started(), string(p)
		}
		// Still no luck: what succeeded is taken over.
		out, started, _ := again("w1", "w0")
		if out.Verdict != core.Failed || !slices.Equal(started, []string{"b"}) {
			t.Errorf("%+v %v", out, started)
		}
		// Over two runs: a and s are taken over of w0 by way of w1.
		w.plan = func(string, int) conduct { return conduct{output: `{"n": 8}`} }
		out, started, _ = again("w2", "w1")
		if out.Verdict != core.Succeeded || !slices.Equal(started, []string{"b", "c"}) || w.params["c"] != `{"n":7}` {
			t.Errorf("%+v %v %s", out, started, w.params["c"])
		}
		r := read(t, out)
		if first := read(t, core.Outcome{Output: w.runs["w0"].Output}); r.Steps["a"].RunID != first.Steps["a"].RunID || string(r.Steps["a"].Output) != `{"n":7}` || r.Steps["h"].Verdict != core.Skipped {
			t.Errorf("%s", out.Output)
		}
		// From a step that succeeded: with all that comes after it.
		out, started, _ = again("w3", "w2", "a")
		if out.Verdict != core.Succeeded || !slices.Equal(started, []string{"a", "b", "c"}) || w.params["c"] != `{"n":8}` {
			t.Errorf("%+v %v %s", out, started, w.params["c"])
		}
		// Nothing is left to do.
		out, started, _ = again("w4", "w3")
		if out.Verdict != core.Succeeded || len(started) > 0 {
			t.Errorf("%+v %v", out, started)
		}
		e := workflow.New(workflow.Options{Steps: w, Clock: core.SystemClock{}})
		list, err := e.View(t.Context(), *w.runs["w2"])
		if err != nil {
			t.Fatal(err)
		}
		var shown []string
		for _, v := range list {
			shown = append(shown, v.Name+" "+v.State)
		}
		if got := strings.Join(shown, ", "); got != "a taken_over, b succeeded, c succeeded, s taken_over, h skipped" {
			t.Error(got)
		}
	})
}

func TestRunAgainRefusesWhatItCannotGoOnWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		params := graph("a")
		w.keep("live", json.RawMessage(params), core.Outcome{})
		w.runs["live"].State = core.RunRunning
		w.keep("other", json.RawMessage(params), core.Outcome{})
		w.runs["other"].TaskType = "Common.KeepAlive"
		w.keep("foreign", json.RawMessage(params), core.Outcome{})
		w.runs["foreign"].Namespace = "Secret"
		w.keep("broken", json.RawMessage(`{}`), core.Outcome{})
		loop, err := workflow.Resuming(json.RawMessage(params), workflow.Resume{Run: "loop"})
		if err != nil {
			t.Fatal(err)
		}
		w.keep("loop", loop, core.Outcome{})
		for run, says := range map[string]string{
			"live": "has not ended", "other": "not of a workflow", "foreign": "no such run", "missing": "no such run", "broken": "no steps", "loop": "more than 50",
		} {
			p, err := workflow.Resuming(json.RawMessage(params), workflow.Resume{Run: run})
			if err != nil {
				t.Fatal(err)
			}
			out, _ := w.execute(t.Context(), attempt("w-"+run, 1, string(p)))
			if out.Verdict != core.Failed || !out.Permanent || !strings.Contains(out.Message, says) || len(w.starts) > 0 {
				t.Errorf("%s: %+v", run, out)
			}
		}
	})
}

// oracle says what the steps of a graph come to in the rounds 1 to last, by another way than the executor: from the definition.
func oracle(g workflow.Graph, plan func(string, int) conduct, last int) (status map[string]workflow.Status, rounds map[string]int) {
	byName := map[string]workflow.Step{}
	for _, s := range g.Steps {
		byName[s.Name] = s
	}
	var before map[string]workflow.Status
	rounds = map[string]int{}
	for n := 1; n <= last; n++ {
		status = map[string]workflow.Status{}
		var again func(name string) bool
		again = func(name string) bool {
			return before[name] == workflow.Failed || slices.ContainsFunc(byName[name].Needs, again)
		}
		var comes func(name string) workflow.Status
		comes = func(name string) workflow.Status {
			if st, ok := status[name]; ok {
				return st
			}
			s := byName[name]
			good, bad := 0, 0
			for _, need := range s.Needs {
				switch comes(need) {
				case workflow.Succeeded:
					good++
				case workflow.Failed:
					bad++
				}
			}
			st := workflow.LeftOut
			if s.When == core.OnAlways || s.When == core.OnFailure && bad > 0 || s.When == core.OnSuccess && good == len(s.Needs) {
				how := plan(name, n)
				if n > 1 && !again(name) {
					how = plan(name, rounds[name])
				} else if !how.disabled {
					rounds[name] = n
				}
				st = workflow.Succeeded
				if how.verdict != "" || how.disabled {
					st = workflow.Failed
				}
			}
			status[name] = st
			return st
		}
		for _, s := range g.Steps {
			comes(s.Name)
		}
		before = status
	}
	return status, rounds
}

// TestCrashesAnywhereStartNoStepTwice: random graphs, over two attempts, with the server dying before or after any call,
// several times over. Each step of each round starts once, after what it needs and only if its condition holds, and the workflow
// comes to what it comes to without a crash.
func TestCrashesAnywhereStartNoStepTwice(t *testing.T) {
	seeds := uint64(600)
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			lines := randomGraph(rnd)
			params := graph(lines...)
			g := parse(t, params)
			conducts := map[string]conduct{}
			for _, s := range g.Steps {
				for round := 1; round <= 2; round++ {
					how := conduct{takes: time.Duration(rnd.IntN(5000)) * time.Millisecond}
					switch rnd.IntN(6) {
					case 0:
						how.verdict, how.message = core.Failed, "no luck"
					case 1:
						how.verdict, how.reason = core.Skipped, core.ReasonOverlap
					case 2:
						how.disabled = rnd.IntN(2) == 0
					}
					conducts[fmt.Sprintf("%s#%d", s.Name, round)] = how
				}
			}
			w := newWorld(t, nil)
			w.plan = func(step string, round int) conduct { return conducts[fmt.Sprintf("%s#%d", step, round)] }
			w.deaf = rnd.IntN(2) == 0
			w.ships = time.Duration(rnd.IntN(3000)) * time.Millisecond
			if rnd.IntN(3) == 0 {
				w.failLate = func(call string) error {
					if rnd.IntN(4) == 0 {
						return core.Errorf(core.KindUnavailable, call, "no answer")
					}
					return nil
				}
			}
			for n := 1; n <= 2; n++ {
				var out core.Outcome
				for survived := false; !survived; {
					out, survived = w.dies(attempt("w", n, params), 1+rnd.IntN(12), rnd.IntN(2) == 0)
					time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond) // until the next server takes over
				}
				want, rounds := oracle(g, w.plan, n)
				came := read(t, out)
				failed := false
				for _, s := range g.Steps {
					verdict := came.Steps[s.Name].Verdict
					got := workflow.Failed
					switch {
					case verdict == core.Succeeded:
						got = workflow.Succeeded
					case verdict == core.Skipped && came.Steps[s.Name].RunID == "":
						got = workflow.LeftOut
					}
					if got != want[s.Name] {
						t.Fatalf("seed %d attempt %d: %s came to %s, want %s\n%v\n%s", seed, n, s.Name, got, want[s.Name], lines, out.Output)
					}
					handled := slices.ContainsFunc(g.Steps, func(h workflow.Step) bool {
						return h.When == core.OnFailure && slices.Contains(h.Needs, s.Name) && want[h.Name] == workflow.Succeeded
					})
					failed = failed || got == workflow.Failed && !handled
				}
				if failed != (out.Verdict == core.Failed) {
					t.Fatalf("seed %d attempt %d: %s %s", seed, n, out.Verdict, out.Message)
				}
				w.check(seed, g, n, rounds)
			}
		})
	}
}

// check holds the starts against the graph.
func (w *world) check(seed uint64, g workflow.Graph, round int, rounds map[string]int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string]bool{}
	for _, s := range w.starts {
		key := fmt.Sprintf("%s#%d", s.Step, s.Round)
		if seen[key] {
			w.t.Fatalf("seed %d: %s was started twice", seed, key)
		}
		seen[key] = true
		run := w.runs[w.bySeries[workflow.Series("w", s.Step, s.Round)]]
		for _, step := range g.Steps {
			for _, need := range step.Needs {
				if step.Name != s.Step {
					continue
				}
				for r := 1; r <= s.Round; r++ {
					if n := w.runs[w.bySeries[workflow.Series("w", need, r)]]; n != nil && (n.EndedAt.IsZero() || n.EndedAt.After(run.StartedAt)) {
						w.t.Fatalf("seed %d: %s began before %s had ended", seed, key, need)
					}
				}
			}
		}
	}
	for _, step := range g.Steps {
		last := 0
		for r := 1; r <= round; r++ {
			if seen[fmt.Sprintf("%s#%d", step.Name, r)] {
				last = r
			}
		}
		if last != rounds[step.Name] {
			w.t.Fatalf("seed %d: %s was last started in round %d, want %d", seed, step.Name, last, rounds[step.Name])
		}
	}
}

func TestViewShowsEachStep(t *testing.T) {
	t.Parallel()
	g := parse(t, graph("a", "b: a", "c: a", "d! b", "e: b c", "f: d", "g"))
	started := fireAt.Add(time.Second)
	run := func(step string, round int, state core.RunState, verdict core.Verdict) core.Run {
		return core.Run{
			ID: fmt.Sprintf("%s-%d", step, round), WorkflowID: "w", Step: step, Series: workflow.Series("w", step, round), State: state, Verdict: verdict, Attempt: 2,
			StartedAt: started, Gate: core.GateCapacity, GateKey: "pool:erp",
		}
	}
	runs := []core.Run{
		run("a", 1, core.RunEnded, core.Succeeded), run("b", 1, core.RunEnded, core.Failed), run("b", 2, core.RunEnded, core.Succeeded),
		run("c", 1, core.RunWaiting, ""), run("g", 1, core.RunEnded, core.TimedOut), run("unknown", 1, core.RunEnded, core.Failed),
	}
	var shown []string
	for _, v := range workflow.View(g, runs) {
		shown = append(shown, fmt.Sprintf("%s %s %s", v.Name, v.State, v.RunID))
		if v.Name == "c" && (v.Gate != core.GateCapacity || v.GateKey != "pool:erp" || v.Attempt != 2 || !v.StartedAt.Equal(started)) {
			t.Errorf("%+v", v)
		}
	}
	if got := strings.Join(shown, ", "); got != "a succeeded a-1, b succeeded b-2, c waiting c-1, d skipped , e pending , f skipped , g pending " {
		t.Error(got)
	}
}

func TestViewOfAnEndedWorkflowKnowsWhatCouldNotBeStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]conduct{"a": {disabled: true}, "c": {takes: time.Hour}})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(core.ErrRunCancelled) })
		params := graph("a", "b: a", "c", "d: c", "e! c")
		out, _ := w.execute(ctx, attempt("w", 1, params))
		e := workflow.New(workflow.Options{Steps: w, Clock: core.SystemClock{}})
		list, err := e.View(t.Context(), w.keep("w", json.RawMessage(params), out))
		if err != nil {
			t.Fatal(err)
		}
		var shown []string
		for _, v := range list {
			shown = append(shown, v.Name+" "+v.State)
			if v.Name == "a" && !strings.Contains(v.Message, "disabled") {
				t.Errorf("%+v", v)
			}
		}
		if got := strings.Join(shown, ", "); got != "a failed, b skipped, c cancelled, d skipped, e failed" && got != "a failed, b skipped, c cancelled, d skipped, e skipped" {
			t.Error(got)
		}
		if _, err := e.View(t.Context(), core.Run{TaskType: "Common.Other"}); core.KindOf(err) != core.KindConflict {
			t.Error(err)
		}
		missing, err := workflow.Resuming(json.RawMessage(params), workflow.Resume{Run: "gone"})
		if err != nil {
			t.Fatal(err)
		}
		if list, err := e.View(t.Context(), core.Run{ID: "w9", Namespace: "Lab", TaskType: workflow.TypeName, Params: missing}); err != nil || len(list) != 5 {
			t.Errorf("%v %v", list, err)
		}
	})
}
