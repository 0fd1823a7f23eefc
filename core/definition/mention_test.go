package definition_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/definition"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

// when makes a task with preconditions.
func when(name string, expressions ...string) func(*core.Task) {
	return func(t *core.Task) {
		t.Name, t.Schedule.Spec = name, "@manual"
		for _, e := range expressions {
			t.Policies.Preconditions = append(t.Policies.Preconditions, core.Precondition{Expression: e})
		}
	}
}

// step makes a workflow with one step.
func step(name, task, params string) func(*core.Task) {
	return func(t *core.Task) {
		t.Name, t.Type, t.Schedule.Spec = name, workflow.TypeName, "@manual"
		t.Params = json.RawMessage(`{"inputs":{"day":1},"steps":[{"name":"s","task":"` + task + `","params":` + params + `}]}`)
	}
}

func TestARefusedNameInAPreconditionSaysWhichThereAre(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.create(t, after("load"))
	w.create(t, func(task *core.Task) { task.Namespace, task.Name = "Imaging", "elsewhere" })
	w.calendar(t, core.Calendar{Name: "factory-days", Weekdays: []string{"mon"}})
	const expression, second = "policies.preconditions[0].expression", "policies.preconditions[1].expression"
	sql := func(connection string) func(*core.Task) {
		return func(t *core.Task) {
			t.Policies.Preconditions = []core.Precondition{{SQL: &core.SQLCheck{Connection: connection, Query: "select 1"}}}
		}
	}
	get := func(url string) func(*core.Task) {
		return func(t *core.Task) {
			t.Policies.Preconditions = []core.Precondition{{HTTP: &core.HTTPCheck{URL: url}}}
		}
	}
	in := func(namespace string, change func(*core.Task)) func(*core.Task) {
		return func(t *core.Task) { t.Namespace = namespace; change(t) }
	}
	plain := func(t *core.Task) {
		t.Type, t.Params = "Common.Plain", nil
		when("x", `params.mode == "fast"`)(t)
	}
	cases := map[string]struct {
		change func(*core.Task)
		path   string
		says   string
	}{
		"Task":             {when("x", `true`, `1 < 2 && task("nothing-like-it").live == 0`), second, "line 1, column 15: there is no task nothing-like-it; tasks of namespace Telemedicine: "},
		"TaskNearly":       {when("x", `task("laod").live == 0`), expression, "did you mean load?"},
		"TaskNameless":     {when("x", `task("").live == 0`), expression, "missing"},
		"TaskElsewhere":    {when("x", `task("elsewhere").live == 0`), expression, "there is no task elsewhere"},
		"TaskOfANamespace": {when("x", `task("Imaging/elsewhere").live == 0`), expression, "its own namespace Telemedicine"},
		"TaskBesideItself": {when("x", `task("x").live == 0 && task("y").live == 0`), expression, "there is no task y"},
		"Calendar":         {when("x", `day(now, "nothing-like-it")`), expression, "calendars: cn-holidays, cn-workdays, factory-days, weekdays, weekends"},
		"CalendarNearly":   {when("x", `!day(fire_at, "factory-dais")`), expression, "line 1, column 15: there is no calendar factory-dais; did you mean factory-days?"},
		"Outcome":          {when("x", `task("load").last_outcome == "success"`), expression, `never "success"; it is one of succeeded, failed, timed_out, cancelled, crashed, lost`},
		"OutcomeOfAList":   {when("x", `not (task("load")?.last_outcome in ["lost", "done"])`), expression, `never "done"`},
		"OutcomeTurned":    {when("x", `"ok" != task("load").last_outcome`), expression, `column 1: last_outcome is never "ok"`},
		"Parameter":        {when("x", `params.xx > 1`), expression, "there is no parameter xx; parameters of Common.KeepAlive: batch, mode, note, urls"},
		"ParameterNearly":  {when("x", `params["bacth"] > 1`), expression, "did you mean batch?"},
		"ParameterOfNone":  {plain, expression, "Common.Plain takes no parameters"},
		"Connection":       {sql("nothing-like-it"), "policies.preconditions[0].sql.connection", "not been granted the connection nothing-like-it; it has been granted business"},
		"ConnectionNearly": {sql("busyness"), "policies.preconditions[0].sql.connection", "did you mean business?"},
		"Host":             {get("http://other.example/ready"), "policies.preconditions[0].http.url", "other.example:80"},
		"HostByAddress":    {get("https://10.0.0.1/ready"), "policies.preconditions[0].http.url", "10.0.0.1:443"},
		"NoHost":           {in("Imaging", get("http://ready.example/")), "policies.preconditions[0].http.url", "Imaging has not been granted http"},
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
	for name, change := range map[string]func(*core.Task){
		"There":  when("there", `task("load").last_outcome in ["", "succeeded"]`, `day(now, "factory-days") || workday(now)`, `(params.batch ?? 1) > 0`, `task("there").live == 0`),
		"MadeUp": when("made-up", `any(["load", "gone"], task(#).live > 0)`, `task("lo" + params.note).live == 0`),
		"Open": func(t *core.Task) {
			t.Namespace, t.Type = "Imaging", "Imaging.Export"
			when("open", `params.xx == 1`)(t)
		},
		"Granted": sql("business"),
		"Host":    func(t *core.Task) { get("http://ready.example:80/")(t); t.Name = "host" },
	} {
		t.Run("Sound"+name, func(t *testing.T) {
			t.Parallel()
			w.create(t, change)
		})
	}
}

func TestARefusedParameterThatIsHandedOnSaysWhichThereAre(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.create(t, after("load"))
	w.create(t, func(t *core.Task) { after("plain")(t); t.Type, t.Params = "Common.Plain", nil })
	w.create(t, step("other", "load", `{}`))
	cases := map[string]struct {
		change func(*core.Task)
		path   string
		says   string
	}{
		"Upstream":     {after("x", core.Upstream{Task: "load"}, core.Upstream{Task: "plain", Params: map[string]string{"batsh": "$"}}), "after[1].params.batsh", "did you mean batch?"},
		"Step":         {step("x", "load", `{"nothing-like-it":3}`), "params.steps[0].params.nothing-like-it", "there is no parameter nothing-like-it; parameters of Common.KeepAlive: batch, mode"},
		"StepByPath":   {step("x", "load", `{"nope":"$.inputs.day"}`), "params.steps[0].params.nope", "did you mean note?"},
		"OfNone":       {step("x", "plain", `{"nope":3}`), "params.steps[0].params.nope", "takes no parameters"},
		"WrongType":    {step("x", "load", `{"batch":"3"}`), "params.steps[0].params.batch", "must be integer, is string"},
		"WrongChoice":  {step("x", "load", `{"mode":"slwo","batch":"$.inputs.day"}`), "params.steps[0].params.mode", "must be one of"},
		"WrongWithin":  {step("x", "load", `{"urls":["http://a/",7]}`), "params.steps[0].params.urls[1]", "must be string"},
		"WrongEscaped": {step("x", "load", `{"note":"$$.abc"}`), "params.steps[0].params.note", "at most 3"},
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
	types := []core.TaskType{{Name: "Common.Either", ParamsSchema: json.RawMessage(`{"type":"object","properties":{"kind":{"type":"string"},"n":{"type":"integer"}},
		"if":{"properties":{"kind":{"const":"large"}}},"then":{"properties":{"n":{"minimum":100}}}}`)}}
	if err := w.catalog.Offer("plugin:either", provider{}, types); err != nil {
		t.Fatal(err)
	}
	w.create(t, func(t *core.Task) {
		after("either")(t)
		t.Type, t.Params = "Common.Either", json.RawMessage(`{"kind":"large","n":100}`)
	})
	task := sound()
	step("x", "either", `{"n":3}`)(&task)
	_, err := w.Create(t.Context(), task, "ann")
	wantFinding(t, err, "params.steps[0].params.n", "at least 100")
	w.create(t, step("hangs", "either", `{"n":3,"kind":"$.run.id"}`)) // what is wanted of n hangs on what is not known yet
	w.create(t, step("right", "load", `{"batch":3,"note":"$.inputs.day","urls":["$.run.id"]}`))
	w.create(t, step("nested", "right", `{"inputs":{"day":2}}`))
	w.create(t, after("last", core.Upstream{Task: "load", Params: map[string]string{"batch": "$.n"}}))
}

// TestWhatAPreconditionNamesIsNotDeleted: neither while a task's own names it, nor while a namespace's defaults do.
func TestWhatAPreconditionNamesIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, core.Calendar{Name: "audit", Weekdays: []string{"mon"}})
	load := w.create(t, after("load"))
	asks := w.create(t, when("asks", `task("load").live == 0 && !day(now, "audit")`))
	if _, err := w.Pause(t.Context(), asks.ID, "", noon.AddDate(0, 0, 1), "ann"); err != nil { // which reads the expressions no more
		t.Fatal(err)
	}
	held := func(by string) {
		t.Helper()
		if err := w.Delete(t.Context(), load.ID); core.KindOf(err) != core.KindConflict || !strings.Contains(err.Error(), by+"; take it out") {
			t.Errorf("the task was deleted: %v", err)
		}
		if err := w.DeleteCalendar(t.Context(), "audit", definition.AnyVersion, "ann"); core.KindOf(err) != core.KindConflict || !strings.Contains(err.Error(), by+"; take it out") {
			t.Errorf("the calendar was deleted: %v", err)
		}
	}
	held("asks")
	conditions := []core.Precondition{{Expression: `task("load").live == 0 && !day(now, "audit")`}}
	w.namespace(t, core.Namespace{Name: "Telemedicine", Defaults: core.Policies{Preconditions: conditions}})
	if err := w.Delete(t.Context(), asks.ID); err != nil {
		t.Fatal(err)
	}
	held("the defaults of namespace Telemedicine")
	w.namespace(t, core.Namespace{Name: "Telemedicine"})
	if err := w.Delete(t.Context(), load.ID); err != nil {
		t.Error(err)
	}
	if err := w.DeleteCalendar(t.Context(), "audit", definition.AnyVersion, "ann"); err != nil {
		t.Error(err)
	}
}

// TestWhatCameToNameNothingIsAWarning: a task is no worse than it was saved, and what has gone since is told.
func TestWhatCameToNameNothingIsAWarning(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, core.Calendar{Name: "audit", Weekdays: []string{"mon"}})
	load := w.create(t, after("load"))
	asks := w.create(t, when("asks", `task("load").live == 0`, `day(now, "audit")`))
	flow := w.create(t, step("flow", "load", `{"batch":3}`))
	plain := w.create(t, func(t *core.Task) { after("plain")(t); t.Type, t.Params = "Common.Plain", nil })
	warned := func(task core.Task, words ...string) {
		t.Helper()
		said := w.Warnings(t.Context(), task)
		if len(said) != len(words) {
			t.Fatalf("%s: %+v; want %q", task.Name, said, words)
		}
		for i, word := range words {
			if !strings.Contains(said[i].En, word) || !chinese(said[i].Zh) {
				t.Errorf("%s: %+v; want %q", task.Name, said[i], word)
			}
		}
	}
	warned(asks)
	warned(flow)

	// A namespace's defaults come before its tasks, whose types differ.
	conditions := []core.Precondition{{Expression: `task("later").live == 0 || params.batch > 1`}}
	w.namespace(t, core.Namespace{Name: "Telemedicine", Defaults: core.Policies{Preconditions: conditions}})
	warned(load, "defaults.preconditions[0].expression: line 1, column 6: there is no task later")
	warned(plain, "no task later", "defaults.preconditions[0].expression: line 1, column 35: task type Common.Plain takes no parameters")
	warned(asks)
	warned(w.create(t, func(t *core.Task) { after("none")(t); t.Policies.Preconditions = []core.Precondition{} }))
	w.namespace(t, core.Namespace{Name: "Telemedicine"})

	load.Type, load.Params = "Common.Plain", nil
	if _, err := w.Replace(t.Context(), load, "ann"); err != nil {
		t.Fatal(err)
	}
	warned(flow, "params.steps[0].params.batch: task type Common.Plain takes no parameters")
	// Behind the server's back, as by another one in the same moment.
	if err := w.store.DeleteResource(t.Context(), "calendar", "audit"); err != nil {
		t.Fatal(err)
	}
	if err := w.store.DeleteTask(t.Context(), load.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	warned(asks, "policies.preconditions[0].expression: line 1, column 6: there is no task load", "policies.preconditions[1].expression: line 1, column 10: there is no calendar audit")
}

func TestANamespacesPreconditionsNameCalendarsAndGrants(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for at, p := range map[string]core.Precondition{
		"expression":     {Expression: `day(now, "nope") && task("later").live == 0`},
		"sql.connection": {SQL: &core.SQLCheck{Connection: "nope", Query: "select 1"}},
		"http.url":       {HTTP: &core.HTTPCheck{URL: "http://nope.example/"}},
	} {
		_, err := w.PutNamespace(t.Context(), core.Namespace{Name: "Telemedicine", Defaults: core.Policies{Preconditions: []core.Precondition{p}}})
		wantFinding(t, err, "defaults.preconditions[0]."+at, "nope")
	}
}

// TestAnotherServersCalendarIsFoundAtOnce: it is read when a precondition names it.
func TestAnotherServersCalendarIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	other := w.another(t)
	if _, err := other.PutCalendar(t.Context(), core.Calendar{Name: "audit", Weekdays: []string{"mon"}}, definition.AnyVersion, "ann"); err != nil {
		t.Fatal(err)
	}
	w.create(t, when("asks", `day(now, "audit")`))
}

func TestCompleteFillsInTheTypesDefaults(t *testing.T) {
	t.Parallel()
	w := setup(t)
	types := []core.TaskType{{Name: "Common.Wait", ParamsSchema: json.RawMessage(`{"type":"object","properties":{"ms":{"type":"integer","default":10},"note":{"type":"string"}}}`)}}
	if err := w.catalog.Offer("plugin:wait", provider{}, types); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{``: `{"ms":10}`, `{"note":"x"}`: `{"ms":10,"note":"x"}`, `{"ms":3}`: `{"ms":3}`, `{"ms":"wrong"}`: `{"ms":"wrong"}`} {
		if got := w.Complete("Common.Wait", json.RawMessage(given)); string(got) != want {
			t.Errorf("%s became %s, want %s", given, got, want)
		}
	}
	if got := w.Complete("Common.Gone", json.RawMessage(`{"a":1}`)); string(got) != `{"a":1}` {
		t.Errorf("of a type that nobody offers: %s", got)
	}
}
