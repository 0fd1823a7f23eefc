package definition_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/definition"
	"github.com/gnomon-scheduler/gnomon/core/store"
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
	if _, err := w.Pause(t.Context(), paused.ID, "stocktaking", time.Time{}, "ann"); err != nil {
		t.Fatal(err)
	}
	upstream := core.Run{ID: "r1", Namespace: "Telemedicine", TaskName: "load"}
	end := func(v core.Verdict, output string) (names []string, all []core.Dependent) {
		all, err := w.DependentTasks(t.Context(), upstream, core.Outcome{Verdict: v, Output: json.RawMessage(output)})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			names = append(names, strings.TrimSpace(one.Task.Name+" "+string(one.Skip)))
		}
		return names, all
	}
	names, all := end(core.Succeeded, `{"rows":[{"n":7}],"urls":["http://b/"],"text":"seven"}`)
	if !slices.Equal(names, []string{"any", "lacking params", "misfit params", "off disabled", "ok", "paused paused"}) {
		t.Fatalf("after success: %v, %+v", names, all)
	}
	if ok := all[4].Task; string(ok.Params) != `{"batch":7,"urls":["http://b/"]}` || ok.Policies.Priority != 7 || ok.Policies.Overlap != core.OverlapSkip {
		t.Errorf("the one that takes something starts as %+v", ok)
	}
	for i, parts := range [][]string{
		{`"upstream":"load","upstream_outcome":"succeeded","upstream_run_id":"r1"`},
		{`"upstream":"load"`, `"path":"params.note"`, "has nothing at $.gone", "没有 $.gone"},
		{`"upstream_run_id":"r1"`, `"path":"params.batch"`},
		{`"upstream_run_id":"r1"`},
		{},
		{`"by":"ann"`, `"note":"stocktaking"`, `"since":"`, `"upstream_run_id":"r1"`},
	} {
		for _, part := range parts {
			if !strings.Contains(string(all[i].Facts), part) {
				t.Errorf("%s: the facts %s have no %s", names[i], all[i].Facts, part)
			}
		}
	}
	if names, _ = end(core.Crashed, ""); !slices.Equal(names, []string{"any", "bad"}) {
		t.Errorf("after a crash: %v", names)
	}
	if names, _ = end(core.Cancelled, ""); !slices.Equal(names, []string{"any"}) {
		t.Errorf("after a cancel: %v", names)
	}
	if names, _ = end(core.Skipped, ""); names != nil || w.Dependents("Telemedicine", "load", core.Skipped) != nil {
		t.Errorf("after a skipped fire: %v", names)
	}
	upstream.Namespace = "Imaging"
	if names, _ = end(core.Succeeded, ""); names != nil {
		t.Errorf("a task of that name elsewhere started %v", names)
	}
}

// torn is a store with a task whose definition cannot be read.
type torn struct {
	*store.Store
	id string
}

func (s torn) Task(ctx context.Context, id string) (core.Task, error) {
	task, err := s.Store.Task(ctx, id)
	if id == s.id {
		task.Problem, task.After = "torn", nil
	}
	return task, err
}

func (s torn) Definitions(ctx context.Context, ids []string) ([]core.Task, map[string]error, error) {
	tasks, _, err := s.Store.Definitions(ctx, ids)
	return slices.DeleteFunc(tasks, func(t core.Task) bool { return t.ID == s.id }), map[string]error{s.id: errors.New("torn")}, err
}

// TestADependentThatCannotBeReadIsSkipped: whether it wants the end is not known, and nothing vanishes without a word.
func TestADependentThatCannotBeReadIsSkipped(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.create(t, after("load"))
	next := w.create(t, after("next", core.Upstream{Task: "load"}))
	defs := definition.New(definition.Options{
		Store: torn{w.store, next.ID}, Catalog: w.catalog, Clock: w.clock, Log: slog.New(slog.DiscardHandler), Preconditions: preconditions(),
	})
	if err := defs.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := defs.DependentTasks(t.Context(), core.Run{ID: "r1", Namespace: "Telemedicine", TaskName: "load"}, core.Outcome{Verdict: core.Succeeded})
	if err != nil || len(all) != 1 || all[0].Skip != core.ReasonPoisoned || all[0].Task.ID != next.ID || all[0].Task.Version != 1 ||
		!strings.Contains(string(all[0].Facts), `"problem":"torn"`) || !strings.Contains(string(all[0].Facts), `"upstream_run_id":"r1"`) {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestADependentOfATypeThatIsGoneStarts: its run is skipped by the reason unknown_type, whether it takes parameters or not.
func TestADependentOfATypeThatIsGoneStarts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.create(t, after("load"))
	w.create(t, after("next", core.Upstream{Task: "load", Params: map[string]string{"batch": "$.n"}}))
	w.catalog.Withdraw("plugin:common")
	all, err := w.DependentTasks(t.Context(), core.Run{ID: "r1", Namespace: "Telemedicine", TaskName: "load"}, core.Outcome{Verdict: core.Succeeded})
	if err != nil || len(all) != 1 || all[0].Skip != "" {
		t.Errorf("%+v, %v", all, err)
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
	all, err := w.DependentTasks(t.Context(), core.Run{Namespace: "Telemedicine", TaskName: "load"},
		core.Outcome{Verdict: core.Succeeded, Output: json.RawMessage(`"off"`)})
	if len(all) != 1 || all[0].Skip != "" || err != nil {
		t.Errorf("started %v, %v", all, err)
	}
}
