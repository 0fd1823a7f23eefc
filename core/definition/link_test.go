package definition_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

// after makes a task that others start.
func after(name string, upstreams ...core.Upstream) func(*core.Task) {
	return func(t *core.Task) { t.Name, t.Schedule.Spec, t.After = name, "@manual", upstreams }
}

// flow makes a workflow of tasks.
func flow(name string, tasks ...string) func(*core.Task) {
	return func(t *core.Task) {
		steps := make([]map[string]any, len(tasks))
		for i, task := range tasks {
			steps[i] = map[string]any{"name": fmt.Sprintf("s%d", i), "task": task}
		}
		t.Name, t.Type, t.Schedule.Spec = name, workflow.TypeName, "@manual"
		t.Params, _ = json.Marshal(map[string]any{"steps": steps})
	}
}

func TestARefusedUpstreamOrStepSaysWhich(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.create(t, after("load"))
	w.create(t, func(task *core.Task) { task.Namespace, task.Name = "Imaging", "elsewhere" })
	// One for each way to end is no contradiction.
	w.create(t, after("both", core.Upstream{Task: "load", On: core.OnSuccess}, core.Upstream{Task: "load", On: core.OnFailure}))
	cases := map[string]struct {
		change func(*core.Task)
		path   string
		says   string
	}{
		"Unknown":     {after("x", core.Upstream{Task: "nothing-like-it"}), "after[0].task", "there is no task nothing-like-it; tasks of namespace Telemedicine: both, load"},
		"Nearly":      {after("x", core.Upstream{Task: "laod"}), "after[0].task", "did you mean load?"},
		"Nameless":    {after("x", core.Upstream{}), "after[0].task", "missing"},
		"Elsewhere":   {after("x", core.Upstream{Task: "elsewhere"}), "after[0].task", "there is no task elsewhere"},
		"Itself":      {after("x", core.Upstream{Task: "load"}, core.Upstream{Task: "x"}), "after[1].task", "cannot start itself"},
		"Twice":       {after("x", core.Upstream{Task: "load"}, core.Upstream{Task: "load", On: core.OnSuccess}), "after[1].task", "stands in after[0]"},
		"AlwaysToo":   {after("x", core.Upstream{Task: "load", On: core.OnFailure}, core.Upstream{Task: "load", On: core.OnAlways}), "after[1].task", "twice"},
		"BadOn":       {after("x", core.Upstream{Task: "load", On: "done"}), "after[0].on", "success, failure or always"},
		"BadPath":     {after("x", core.Upstream{Task: "load", Params: map[string]string{"batch": "total"}}), "after[0].params.batch", "not a JSON path"},
		"NoParam":     {after("x", core.Upstream{Task: "load", Params: map[string]string{"": "$"}}), "after[0].params", "missing"},
		"TooMany":     {after("x", make([]core.Upstream, 65)...), "after", "at most 64"},
		"StepUnknown": {flow("x", "load", "loda"), "params.steps[1].task", "did you mean load?"},
		"StepItself":  {flow("x", "load", "x"), "params.steps[1].task", "cannot start itself"},
		"NoSteps":     {flow("x"), "params.steps", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := sound()
			c.change(&task)
			_, err := w.Create(t.Context(), task, "ann")
			wantFinding(t, err, c.path, c.says)
		})
	}
}

// TestACycleIsRefusedAndItsPathShown: over upstreams, over steps, and over both.
func TestACycleIsRefusedAndItsPathShown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.create(t, after("a"))
	w.create(t, after("b", core.Upstream{Task: "a"}))
	w.create(t, after("c", core.Upstream{Task: "b", On: core.OnAlways}))
	a.After = []core.Upstream{{Task: "c"}}
	_, err := w.Replace(t.Context(), a, "ann")
	wantFinding(t, err, "after[0].task", "a → b → c → a")

	f := w.create(t, flow("f", "a"))
	flow("f", "a", "c")(&f)
	f.After = []core.Upstream{{Task: "c"}} // f starts a, whose end starts b, then c, whose end starts f
	_, err = w.Replace(t.Context(), f, "ann")
	wantFinding(t, err, "after[0].task", "f → c → f")

	g := w.create(t, flow("g", "f"))
	flow("f", "a", "g")(&f)
	f.After = nil
	_, err = w.Replace(t.Context(), f, "ann")
	wantFinding(t, err, "params.steps[1].task", "f → g → f")

	// Taking a link out makes room for the other way round.
	flow("g", "a")(&g)
	if g, err = w.Replace(t.Context(), g, "ann"); err != nil || !slices.Equal(g.Steps, []string{"a"}) {
		t.Fatalf("steps %v, %v", g.Steps, err)
	}
	flow("f", "a", "g", "a")(&f)
	if f, err = w.Replace(t.Context(), f, "ann"); err != nil || !slices.Equal(f.Steps, []string{"a", "g"}) {
		t.Fatalf("steps %v, %v", f.Steps, err)
	}
	// The same names in another namespace are other tasks.
	w.create(t, func(task *core.Task) { after("b")(task); task.Namespace = "Imaging" })
	w.create(t, func(task *core.Task) { after("a", core.Upstream{Task: "b"})(task); task.Namespace = "Imaging" })
}

func TestATaskThatOthersNameIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.create(t, after("a"))
	b := w.create(t, after("b", core.Upstream{Task: "a"}))
	f := w.create(t, flow("f", "a", "b"))
	err := w.Delete(t.Context(), a.ID)
	if core.KindOf(err) != core.KindConflict || !strings.Contains(err.Error(), "b, f;") {
		t.Errorf("deleting what b and f name gave %v", err)
	}
	for _, id := range []string{f.ID, b.ID, a.ID} {
		if err := w.Delete(t.Context(), id); err != nil {
			t.Errorf("deleting from the end of the chain: %v", err)
		}
	}
	if refs := w.Dependents("Telemedicine", "a", core.Succeeded); len(refs) != 0 {
		t.Errorf("after all are gone, %v depend", refs)
	}
}

func TestTheEndOfARunStartsItsDependents(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.namespace(t, core.Namespace{Name: "Telemedicine", Defaults: core.Policies{Priority: 7}})
	w.create(t, after("load"))
	w.create(t, after("ok", core.Upstream{Task: "load", Params: map[string]string{"batch": "$.rows[0].n", "urls": "$.urls"}}))
	w.create(t, after("bad", core.Upstream{Task: "load", On: core.OnFailure}))
	w.create(t, after("any", core.Upstream{Task: "load", On: core.OnAlways}))
	w.create(t, after("lacking", core.Upstream{Task: "load", Params: map[string]string{"note": "$.gone"}}))
	w.create(t, after("misfit", core.Upstream{Task: "load", Params: map[string]string{"batch": "$.text"}}))
	w.create(t, func(task *core.Task) { after("off", core.Upstream{Task: "load"})(task); task.Enabled = false })
	paused := w.create(t, after("paused", core.Upstream{Task: "load"}))
	if _, err := w.Pause(t.Context(), paused.ID, "", time.Time{}, "ann"); err != nil {
		t.Fatal(err)
	}
	upstream := core.Run{ID: "r1", Namespace: "Telemedicine", TaskName: "load"}
	end := func(v core.Verdict, output string) (names []string, tasks []core.Task, errs []error) {
		tasks, errs = w.DependentTasks(t.Context(), upstream, core.Outcome{Verdict: v, Output: json.RawMessage(output)})
		for _, task := range tasks {
			names = append(names, task.Name)
		}
		return names, tasks, errs
	}
	names, tasks, errs := end(core.Succeeded, `{"rows":[{"n":7}],"urls":["http://b/"],"text":"seven"}`)
	if !slices.Equal(names, []string{"any", "ok"}) || string(tasks[1].Params) != `{"batch":7,"urls":["http://b/"]}` || tasks[1].Policies.Priority != 7 ||
		tasks[1].Policies.Overlap != core.OverlapSkip {
		t.Errorf("after success: %v, %+v", names, tasks)
	}
	if len(errs) != 2 || !strings.Contains(errs[0].Error(), "lacking after load: params.note") || !strings.Contains(errs[0].Error(), "$.gone") ||
		!strings.Contains(errs[1].Error(), "misfit after load: params.batch") {
		t.Errorf("what could not start: %v", errs)
	}
	wantFinding(t, errs[0], "params.note", "not started")
	if names, _, errs = end(core.Crashed, ""); !slices.Equal(names, []string{"any", "bad"}) || errs != nil {
		t.Errorf("after a crash: %v, %v", names, errs)
	}
	if names, _, errs = end(core.Cancelled, ""); !slices.Equal(names, []string{"any"}) || errs != nil {
		t.Errorf("after a cancel: %v, %v", names, errs)
	}
	if names, _, errs = end(core.Skipped, ""); names != nil || errs != nil || w.Dependents("Telemedicine", "load", core.Skipped) != nil {
		t.Errorf("after a skipped fire: %v, %v", names, errs)
	}
	upstream.Namespace = "Imaging"
	if names, _, errs = end(core.Succeeded, ""); names != nil || errs != nil {
		t.Errorf("a task of that name elsewhere started %v, %v", names, errs)
	}
}

// TestDependentsFollowEdits: at once on this server, at the next refresh on another.
func TestDependentsFollowEdits(t *testing.T) {
	t.Parallel()
	w := setup(t)
	other := w.another(t)
	w.create(t, after("a"))
	b := w.create(t, after("b", core.Upstream{Task: "a"}, core.Upstream{Task: "a", On: core.OnFailure}))
	if refs := w.Dependents("Telemedicine", "a", core.Failed); len(refs) != 1 || refs[0].TaskID != b.ID || refs[0].TaskName != "b" {
		t.Errorf("dependents %+v", refs)
	}
	if err := other.Refresh(t.Context()); err != nil || len(other.Dependents("Telemedicine", "a", core.Failed)) != 1 {
		t.Errorf("the other server has %v, %v", other.Dependents("Telemedicine", "a", core.Failed), err)
	}
	b.After = nil
	if _, err := w.Replace(t.Context(), b, "ann"); err != nil {
		t.Fatal(err)
	}
	if refs := w.Dependents("Telemedicine", "a", core.Failed); refs != nil {
		t.Errorf("dependents %+v", refs)
	}
}

// TestAProviderThatDoesNotAnswerKeepsNothingFromStarting: the chain goes on while a plugin is being restarted.
func TestAProviderThatDoesNotAnswerKeepsNothingFromStarting(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.create(t, after("load"))
	w.create(t, after("next", core.Upstream{Task: "load", Params: map[string]string{"note": "$"}}))
	tasks, errs := w.DependentTasks(t.Context(), core.Run{Namespace: "Telemedicine", TaskName: "load"},
		core.Outcome{Verdict: core.Succeeded, Output: json.RawMessage(`"off"`)})
	if len(tasks) != 1 || errs != nil {
		t.Errorf("started %v, %v", tasks, errs)
	}
}
