//go:build linux

package main_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// worksAsAGraph: fan-out, fan-in and outputs handed on; a step that fails and is run again without those that succeeded; and
// a workflow that is cancelled.
func worksAsAGraph(t *testing.T, w *world) {
	w.works("load", "@manual", map[string]any{"output": map[string]any{"rows": 3, "by": "load"}}, api.Policies{}, nil)
	w.works("left", "@manual", map[string]any{"output": map[string]any{"n": 1}}, api.Policies{}, nil)
	right, rightPath := w.works("right", "@manual", map[string]any{"fail_rate": 1, "output": map[string]any{"n": 2}}, api.Policies{}, nil)
	w.works("join", "@manual", nil, api.Policies{}, nil)
	flow := w.task("Bench", "flow", api.TaskInput{Type: "Common.Workflow", Schedule: api.Schedule{Spec: "@manual"}, Params: params(map[string]any{"steps": []map[string]any{
		{"name": "load", "task": "load"},
		{"name": "left", "task": "left", "needs": []string{"load"}, "params": map[string]any{"millis": "$.steps.load.output.rows"}},
		{"name": "right", "task": "right", "needs": []string{"load"}},
		{"name": "join", "task": "join", "needs": []string{"left", "right"}, "params": map[string]any{"output": map[string]any{"fixed": 1}, "millis": "$.steps.left.output.n"}},
	}})})
	guarded := w.task("Bench", "guarded", api.TaskInput{Type: "Common.Workflow", Schedule: api.Schedule{Spec: "@manual"}, Params: params(map[string]any{"steps": []map[string]any{
		{"name": "right", "task": "right"}, {"name": "alarm", "task": "left", "needs": []string{"right"}, "when": "failure"},
	}})})
	steps := func(id string) map[string]api.Step {
		var graph api.Workflow
		w.must("GET", "/v1/runs/"+id+"/workflow", nil, &graph)
		all := map[string]api.Step{}
		for _, s := range graph.Steps {
			all[s.Name] = s
		}
		return all
	}
	handled := w.now(guarded, nil)
	if r, s := w.over(handled), steps(handled); r.Outcome != "succeeded" || s["right"].State != "failed" || s["alarm"].State != "succeeded" {
		t.Errorf("a failure that a step handles: %s %s %+v", r.Outcome, r.Message, s)
	}
	first := w.now(flow, nil)
	if r := w.over(first); r.Outcome != "failed" || !strings.Contains(r.Message, "right") {
		t.Errorf("the workflow ended as %s: %s", r.Outcome, r.Message)
	}
	s := steps(first)
	for step, state := range map[string]string{"load": "succeeded", "left": "succeeded", "right": "failed", "join": "skipped"} {
		if s[step].State != state {
			t.Errorf("step %s is %s instead of %s", step, s[step].State, state)
		}
	}
	if got := w.run(s["left"].RunID); !strings.Contains(string(got.Params), `"millis":3`) || got.WorkflowID != first || got.Step != "left" || got.Trigger != "workflow" {
		t.Errorf("what was handed on: %+v", got)
	}
	if out := w.says("run", "workflow", first); !regexp.MustCompile(`(?m)^  right +failed +load .*out of luck`).MatchString(out) || !regexp.MustCompile(`(?m)^    join +skipped`).MatchString(out) {
		t.Errorf("the graph is\n%s", out)
	}
	w.repair(right, rightPath)
	second := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(w.says("run", "rerun", first, "--note", "repaired"))
	if r := w.over(second); r.Outcome != "succeeded" || r.CausedBy != first {
		t.Errorf("the second run ended as %s: %s, caused by %s", r.Outcome, r.Message, r.CausedBy)
	}
	again := steps(second)
	if again["load"].State != "taken_over" || again["load"].RunID != s["load"].RunID || again["right"].State != "succeeded" || again["join"].State != "succeeded" {
		t.Errorf("the steps of the second run are %+v", again)
	}
	if all := begun(w.evidenceOf(filepath.Join(w.dir, "load.csv"))); len(all) != 1 {
		t.Errorf("the step that was taken over began %d times", len(all))
	}
	// What a person did instead of a step counts when the workflow goes on.
	w.works("broken", "@manual", map[string]any{"fail_rate": 1}, api.Policies{Intervene: new(true)}, nil)
	mended := w.task("Bench", "mended", api.TaskInput{Type: "Common.Workflow", Schedule: api.Schedule{Spec: "@manual"}, Params: params(map[string]any{"steps": []map[string]any{
		{"name": "broken", "task": "broken"}, {"name": "left", "task": "left", "needs": []string{"broken"}},
	}})})
	stuck := w.now(mended, nil)
	if r := w.over(stuck); r.Outcome != "failed" {
		t.Errorf("the workflow with a broken step ended as %s", r.Outcome)
	}
	w.says("intervention", "done", steps(stuck)["broken"].RunID, "--note", "loaded by hand")
	goesOn := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(w.says("run", "rerun", stuck))
	if r, s := w.over(goesOn), steps(goesOn); r.Outcome != "succeeded" || s["broken"].State != "taken_over" || !strings.Contains(s["broken"].Message, "by hand") || s["left"].State != "succeeded" {
		t.Errorf("what went on after a step was done by hand: %s %s %+v", r.Outcome, r.Message, s)
	}
	// So does a run that a person has tried again, whichever attempt of the workflow it failed in: its step is not repeated.
	_, unluckyPath := w.works("unlucky", "@manual", map[string]any{"fail_rate": 1}, api.Policies{Intervene: new(true)}, nil)
	twice := w.task("Bench", "twice", api.TaskInput{Type: "Common.Workflow", Schedule: api.Schedule{Spec: "@manual"}, Policies: &api.Policies{MaxAttempts: new(2), RetryDelay: "100ms"},
		Params: params(map[string]any{"steps": []map[string]any{{"name": "unlucky", "task": "unlucky"}, {"name": "left", "task": "left", "needs": []string{"unlucky"}}}})})
	for name, of := range map[string]int{"the last": 1, "the first": 0} { // attempt
		before := len(begun(w.evidenceOf(unluckyPath)))
		id := w.now(twice, nil)
		if r := w.over(id); r.Outcome != "failed" || r.Attempt != 2 {
			t.Fatalf("the workflow with an unlucky step ended as %s after attempt %d", r.Outcome, r.Attempt)
		}
		failed := begun(w.evidenceOf(unluckyPath))[before:]
		if len(failed) != 2 {
			t.Fatalf("the unlucky step began %d times in two attempts", len(failed))
		}
		byHand := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(w.says("intervention", "retry", failed[of].run, "--params", `{"fail_rate":0}`))
		w.over(byHand)
		if s := steps(id)["unlucky"]; s.RunID != byHand || s.State != "succeeded" {
			t.Errorf("the run of %s attempt was tried again by %s, and its step is %+v", name, byHand, s)
		}
		next := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(w.says("run", "rerun", id))
		if r, s := w.over(next), steps(next); r.Outcome != "succeeded" || s["unlucky"].State != "taken_over" || s["unlucky"].RunID != byHand || s["left"].State != "succeeded" {
			t.Errorf("what went on after %s was tried again: %s %s %+v", name, r.Outcome, r.Message, s)
		}
		if all := begun(w.evidenceOf(unluckyPath))[before:]; len(all) != 3 {
			t.Errorf("%s: the step began %d times instead of 3", name, len(all))
		}
	}
	// While one is tried again by hand, the workflow does not go on: the step would be carried out twice.
	waits := w.now(twice, nil)
	w.over(waits)
	byHand := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(w.says("intervention", "retry", steps(waits)["unlucky"].RunID, "--params", `{"fail_rate":0,"millis":600000}`))
	if out, errOut, code := w.line("run", "rerun", waits); code == 0 || !strings.Contains(errOut, `its step "unlucky" still runs, as run `+byHand) {
		t.Errorf("run again while a step is tried again: %d %s%s", code, out, errOut)
	}
	w.says("run", "cancel", byHand)
	w.over(byHand)
	w.over(regexp.MustCompile(`[0-9a-f-]{36}`).FindString(w.says("run", "rerun", waits)))
	// A step of a paused task is started, as a run by hand is; one of a disabled task is not, and says no more than is known.
	w.works("step-paused", "@manual", nil, api.Policies{}, nil)
	w.works("step-off", "@manual", nil, api.Policies{}, nil)
	w.says("task", "pause", "Bench/step-paused")
	w.says("task", "disable", "Bench/step-off")
	held := w.now(w.task("Bench", "held-flow", api.TaskInput{Type: "Common.Workflow", Schedule: api.Schedule{Spec: "@manual"}, Params: params(map[string]any{"steps": []map[string]any{
		{"name": "paused", "task": "step-paused"}, {"name": "off", "task": "step-off"},
	}})}), nil)
	w.over(held)
	if s := steps(held); s["paused"].State != "succeeded" || s["off"].State != "failed" || !strings.HasSuffix(s["off"].Message, "task Bench/step-off is disabled") {
		t.Errorf("steps of a paused and of a disabled task: %+v", s)
	}
	// The end of a cancelled workflow is the end of its steps.
	w.works("long", "@manual", map[string]any{"millis": 600_000}, patient, nil)
	longFlow := w.task("Bench", "long-flow", api.TaskInput{Type: "Common.Workflow", Schedule: api.Schedule{Spec: "@manual"}, Params: params(map[string]any{"steps": []map[string]any{
		{"name": "one", "task": "long"}, {"name": "two", "task": "long", "needs": []string{"one"}},
	}})})
	third := w.now(longFlow, nil)
	w.until(30*time.Second, "the first step has begun", func() bool { return len(begun(w.evidenceOf(filepath.Join(w.dir, "long.csv")))) == 1 })
	w.says("run", "cancel", third)
	if r := w.over(third); r.Outcome != "cancelled" {
		t.Errorf("the cancelled workflow ended as %s: %s", r.Outcome, r.Message)
	}
	last := steps(third)
	if last["one"].State != "cancelled" || last["two"].RunID != "" {
		t.Errorf("its steps are %+v", last)
	}
}

// TestAWorkflowSurvivesItsServer: kill -9 while two steps execute; the next server finishes the workflow, and no attempt
// began twice.
func TestAWorkflowSurvivesItsServer(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.namespace("Bench")
	steps := []map[string]any{
		{"name": "load", "task": "step-load"}, {"name": "left", "task": "step-left", "needs": []string{"load"}},
		{"name": "right", "task": "step-right", "needs": []string{"load"}}, {"name": "join", "task": "step-join", "needs": []string{"left", "right"}},
	}
	paths := map[string]string{}
	for name, millis := range map[string]int{"step-load": 10, "step-left": 1500, "step-right": 1500, "step-join": 10} {
		_, paths[name] = w.works(name, "@manual", map[string]any{"millis": millis, "output": map[string]any{"by": name}}, api.Policies{MaxAttempts: new(3), RetryDelay: "100ms"}, nil)
	}
	flow := w.task("Bench", "flow", api.TaskInput{Type: "Common.Workflow", Schedule: api.Schedule{Spec: "@manual"}, Params: params(map[string]any{"steps": steps})})
	id := w.now(flow, nil)
	w.until(30*time.Second, "both branches execute", func() bool {
		return len(w.evidenceOf(paths["step-left"])) == 1 && len(w.evidenceOf(paths["step-right"])) == 1
	})
	children := w.kill()
	w.nothingRuns(20*time.Second, children)
	w.start()
	if r := w.over(id); r.Outcome != "succeeded" {
		t.Errorf("the workflow ended as %s: %s", r.Outcome, r.Message)
	}
	for name, path := range paths {
		seen, runs := map[witnessed]bool{}, map[string]bool{}
		for _, e := range begun(w.evidenceOf(path)) {
			if seen[e] {
				t.Errorf("%s: attempt %s of run %s began twice", name, e.attempt, e.run)
			}
			seen[e], runs[e.run] = true, true
		}
		want := map[string]int{"step-load": 1, "step-left": 2, "step-right": 2, "step-join": 1}[name] // those that were killed are tried again
		if len(runs) != 1 || len(seen) != want {
			t.Errorf("%s: %d attempts of %d runs began, instead of %d of one: %v", name, len(seen), len(runs), want, seen)
		}
	}
	if out := w.says("run", "workflow", id); strings.Count(out, "succeeded") != 5 {
		t.Errorf("the graph is\n%s", out)
	}
	w.says("reconcile")
	w.interrupt()
	w.nothingRuns(20*time.Second, nil)
}
