package workflow_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

func TestParseRefusesWhatIsWrongAndNamesTheField(t *testing.T) {
	t.Parallel()
	many := make([]string, 501)
	for i := range many {
		many[i] = fmt.Sprintf("s%d", i)
	}
	step := func(fields string) string {
		return `{"steps": [{"name": "a", "task": "t"}, {"name": "b", "task": "t", ` + fields + `}]}`
	}
	for _, test := range []struct{ params, path, says string }{
		{``, "params", "no JSON object"},
		{`[]`, "params", "array cannot stand here"},
		{`{}`, "params.steps", "no steps"},
		{`{"steps": []}`, "params.steps", "at least one"},
		{`{"steps": [{}]} x`, "params", "follows"},
		{graph(many...), "params.steps", "501 steps"},
		{`{"stpes": []}`, "params", `no field "stpes"`},
		{step(`"need": ["a"]`), "params", `no field "need"`},
		{step(`"needs": "a"`), "params.steps.needs", "string cannot stand here"},
		{`{"steps": [{"name": "A", "task": "t"}]}`, "params.steps[0].name", "lower-case"},
		{`{"steps": [{"task": "t"}]}`, "params.steps[0].name", "starts with"},
		{`{"steps": [{"name": "a", "task": "t"}, {"name": "a", "task": "t"}]}`, "params.steps[1].name", "that of steps[0]"},
		{`{"steps": [{"name": "a", "task": ""}]}`, "params.steps[0].task", "name of a task"},
		{step(`"when": "done"`), "params.steps[1].when", "success, failure or always"},
		{step(`"when": "failure"`), "params.steps[1].when", "goes with needs"},
		{step(`"needs": ["b"]`), "params.steps[1].needs[0]", "cannot need itself"},
		{step(`"needs": ["a", "a"]`), "params.steps[1].needs[1]", "needed twice"},
		{step(`"needs": ["a", "zebra"]`), "params.steps[1].needs[1]", "no step zebra"},
		{graph("load", "b: laod"), "params.steps[1].needs[0]", "did you mean load?"},
		{graph("a: c", "b: a", "c: b", "d"), "params.steps[1].needs[0]", "a → b → c → a"},
		{graph("x", "a: x b", "b: a"), "params.steps[2].needs[0]", "a → b → a"},
		{step(`"params": {"x": "$.steps.a.output"}`), "params.steps[1].params.x", "put it into needs"},
		{step(`"needs": ["a"], "params": {"x": [{"y": "$.steps.c.output"}]}`), "params.steps[1].params.x", "no step c"},
		{step(`"needs": ["a"], "params": {"x": "$.steps.a.total"}`), "params.steps[1].params.x", "is no path"},
		{step(`"needs": ["a"], "params": {"x": "$.steps.a"}`), "params.steps[1].params.x", "is no path"},
		{step(`"needs": ["a"], "params": {"x": "$.steps.a.output..b"}`), "params.steps[1].params.x", "is no path"},
		{step(`"params": {"x": "$.run.name"}`), "params.steps[1].params.x", "is no path"},
		{step(`"params": {"x": "$.inputs.day"}`), "params.steps[1].params.x", "inputs has no day"},
		{step(`"params": {"x": "$.5 a piece"}`), "params.steps[1].params.x", `"$$.5 a piece"`},
		{`{"steps": [{"name": "a", "task": "t"}], "resume": {}}`, "params.resume.run", "id of the workflow run"},
		{`{"steps": [{"name": "a", "task": "t"}], "resume": {"run": "r", "from": ["a", "b"]}}`, "params.resume.from[1]", "no step b"},
	} {
		_, found := workflow.Parse(json.RawMessage(test.params))
		if len(found) != 1 || found[0].Path != test.path || !strings.Contains(found[0].Message.En, test.says) || found[0].Message.Zh == "" {
			t.Errorf("%.120s: %+v, want %s: %s", test.params, found, test.path, test.says)
		}
	}
}

func TestParseTakesEverythingAStepMayHave(t *testing.T) {
	t.Parallel()
	g := parse(t, `{"inputs": {"day": "2026-11-20"}, "resume": {"run": "r", "from": ["b"]}, "steps": [
		{"name": "b", "task": "影像.统计-1", "needs": ["a"], "when": "always", "params": {"x": "$.steps.a.output.rows[0][\"a.b\"].c-d", "y": ["$.inputs.day", {"z": "$.run.fire_at"}], "w": "$$.x", "v": 5}},
		{"name": "a", "task": "t"}, {"name": "c", "task": "t", "needs": ["b"], "params": {"from-above": "$.steps.a.verdict"}}]}`)
	if got := g.Tasks(); !slices.Equal(got, []string{"影像.统计-1", "t"}) {
		t.Errorf("tasks %v", got)
	}
	if g.Steps[1].When != core.OnSuccess || g.Resume.Run != "r" {
		t.Errorf("%+v", g)
	}
	names := []string{}
	for _, v := range workflow.View(g, nil) {
		names = append(names, v.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("order %v", names)
	}
	wide := make([]string, 500)
	for i := range wide {
		wide[i] = fmt.Sprintf("s%d", i)
		if i > 0 {
			wide[i] = fmt.Sprintf("s%d: s%d", i, i-1)
		}
	}
	slices.Reverse(wide)
	parse(t, graph(wide...))
}

func TestValidatePathsBeginBelowTheParameters(t *testing.T) {
	t.Parallel()
	e := workflow.New(workflow.Options{})
	found, err := e.Validate(t.Context(), workflow.TypeName, json.RawMessage(graph("a", "b: c")))
	if err != nil || len(found) != 1 || found[0].Path != "steps[1].needs[0]" {
		t.Errorf("%+v %v", found, err)
	}
	found, err = e.Validate(t.Context(), workflow.TypeName, json.RawMessage(`5`))
	if err != nil || len(found) != 1 || found[0].Path != "" {
		t.Errorf("%+v %v", found, err)
	}
	if _, err := e.Validate(t.Context(), "Common.Other", nil); core.KindOf(err) != core.KindNotFound {
		t.Error(err)
	}
}

func TestTheTypesSchemasAreJSON(t *testing.T) {
	t.Parallel()
	typ := workflow.Type()
	var schema struct {
		Examples []json.RawMessage `json:"examples"`
	}
	if err := json.Unmarshal(typ.ParamsSchema, &schema); err != nil || len(schema.Examples) == 0 {
		t.Fatal(err)
	}
	for _, example := range schema.Examples {
		parse(t, string(example))
	}
	if !json.Valid(typ.OutputSchema) || !typ.Resumable || typ.Timeout == 0 || typ.Title.Zh == "" || typ.Namespace() != "Common" {
		t.Errorf("%+v", typ)
	}
}

func TestResumingKeepsTheGraph(t *testing.T) {
	t.Parallel()
	params, err := workflow.Resuming(json.RawMessage(graph("a", "b: a")), workflow.Resume{Run: "r1", From: []string{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	params, err = workflow.Resuming(params, workflow.Resume{Run: "r2"})
	if err != nil {
		t.Fatal(err)
	}
	if g := parse(t, string(params)); len(g.Steps) != 2 || g.Resume.Run != "r2" || g.Resume.From != nil {
		t.Errorf("%s", params)
	}
	if _, err := workflow.Resuming(params, workflow.Resume{Run: "r2", From: []string{"x"}}); core.KindOf(err) != core.KindInvalid {
		t.Error(err)
	}
	if _, err := workflow.Resuming(json.RawMessage("5"), workflow.Resume{Run: "r2"}); core.KindOf(err) != core.KindInvalid {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(graph("a", "b: a", "c! a b", "d* c"))
	f.Add(`{"inputs": {"x": 1}, "steps": [{"name": "a", "task": "t", "params": {"k": "$.inputs.x"}}, {"name": "b", "task": "t", "needs": ["a"], "params": {"k": ["$.steps.a.output[\"x\"][3].y"]}}]}`)
	f.Add(`{"steps": [{"name": "a", "task": "t", "params": {"k": "$$.x", "l": "$[\"steps\"]"}}], "resume": {"run": "x", "from": null}}`)
	f.Fuzz(func(t *testing.T, params string) {
		g, found := workflow.Parse(json.RawMessage(params))
		for _, x := range found {
			if !strings.HasPrefix(x.Path, "params") || x.Message.Zh == "" || x.Message.En == "" {
				t.Errorf("%q: %+v", params, x)
			}
		}
		if len(found) > 0 {
			return
		}
		start, _, over, _, _ := workflow.Advance(g, nil)
		if over || len(start) == 0 || len(workflow.View(g, nil)) != len(g.Steps) {
			t.Errorf("%q: nothing starts", params)
		}
	})
}

func TestConstantsAreTheParametersWithoutPaths(t *testing.T) {
	t.Parallel()
	graph, found := workflow.Parse(json.RawMessage(`{"inputs":{"day":1},"steps":[{"name":"a","task":"t","params":{
		"number":3,"text":"$.inputs.day","deep":{"list":["$.run.id"]},"escaped":["$$.x","$5"],"nothing":null}}]}`))
	if len(found) > 0 {
		t.Fatal(found)
	}
	said, err := json.Marshal(graph.Steps[0].Constants())
	if want := `{"escaped":["$.x","$5"],"nothing":null,"number":3}`; err != nil || string(said) != want {
		t.Errorf("%s, want %s (%v)", said, want, err)
	}
}
