//go:build linux

package main_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// refused holds a refusal of the command line: its exit code, and one readable line that says all of the words.
func refused(t *testing.T, out, errOut string, code, wanted int, words ...string) {
	t.Helper()
	if code != wanted {
		t.Errorf("exit code %d instead of %d", code, wanted)
	}
	if out != "" {
		t.Errorf("printed %q", out)
	}
	if strings.Count(errOut, "\n") != 1 || !strings.HasPrefix(errOut, "gnomon: ") || len(errOut) > 600 {
		t.Errorf("is not one readable line: %q", errOut)
	}
	for _, word := range words {
		if !strings.Contains(errOut, word) {
			t.Errorf("%q does not say %q", errOut, word)
		}
	}
	t.Log(strings.TrimSpace(errOut))
}

// TestTasksAreRefused: where, what, and how to mend it, on the command line and as a problem with a path.
func TestTasksAreRefused(t *testing.T) {
	w := newWorld(t)
	w.script("Bench/Broken", "return task {\n  title = { zh = \"坏\", en = \"Broken\" },\n  run = function(ctx\n}")
	w.start()
	w.namespace("Bench")
	noOp := func(spec string, change func(*api.TaskInput)) api.TaskInput {
		in := api.TaskInput{Type: "Bench.NoOp", Schedule: api.Schedule{Spec: spec}, Params: api.Object(`{}`)}
		if change != nil {
			change(&in)
		}
		return in
	}
	for name, c := range map[string]struct {
		input api.TaskInput
		path  string // of the problem, below body
		words []string
	}{
		"NeverFires":         {noOp("0 0 30 2 *", nil), "schedule.spec", []string{"never fires", "day"}},
		"UnknownZone":        {noOp("0 8 * * *", func(in *api.TaskInput) { in.Schedule.Zone = "Asia/Shangai" }), "schedule.zone", []string{"Asia/Shangai"}},
		"SixthFieldIsAYear":  {noOp("0 0 1 1 * 2027", nil), "schedule.spec", []string{"2027", "year", "quartz"}},
		"ParamsBreakSchema":  {noOp("@manual", func(in *api.TaskInput) { in.Params = api.Object(`{"sleep_ms":"long"}`) }), "params.sleep_ms", []string{"integer"}},
		"ParamsBelowMinimum": {noOp("@manual", func(in *api.TaskInput) { in.Params = api.Object(`{"lines":-1}`) }), "params.lines", []string{"0"}},
		"UnknownParam":       {noOp("@manual", func(in *api.TaskInput) { in.Params = api.Object(`{"slep_ms":1}`) }), "params.slep_ms", []string{"unknown parameter", "sleep_ms"}},
		"ValidatorSaysNo": {noOp("@manual", func(in *api.TaskInput) {
			in.Type, in.Params = "Bench.Witness", api.Object(`{"path":"relative"}`)
		}), "params.path", []string{"absolute"}},
		"UnknownType":  {noOp("@manual", func(in *api.TaskInput) { in.Type = "Bench.NoOpp" }), "type", []string{"Bench.NoOpp", "no plugin and no script"}},
		"BrokenScript": {noOp("@manual", func(in *api.TaskInput) { in.Type = "Bench.Broken" }), "type", []string{"Bench.Broken", "Broken.lua:4"}},
	} {
		t.Run(name, func(t *testing.T) {
			var problem api.Problem
			status, err := w.ask("POST", "/v1/namespaces/Bench/tasks", api.NewTask{Name: "refused", TaskInput: c.input}, &problem)
			if err != nil || status != http.StatusUnprocessableEntity || problem.Kind != "invalid" || len(problem.Errors) != 1 {
				t.Fatalf("answered %d %+v %v", status, problem, err)
			}
			e := problem.Errors[0]
			if e.Location != "body."+c.path || e.MessageZh == "" || e.MessageZh == e.MessageEn {
				t.Errorf("the problem is %+v", e)
			}
			for _, word := range c.words {
				if !strings.Contains(e.MessageEn, word) {
					t.Errorf("%q does not say %q", e.MessageEn, word)
				}
			}
			args := []string{"task", "create", "-n", "Bench", "--name", "refused", "--type", c.input.Type, "--params", string(c.input.Params), "--schedule", c.input.Schedule.Spec}
			if c.input.Schedule.Zone != "" {
				args = append(args, "--zone", c.input.Schedule.Zone)
			}
			out, errOut, code := w.line(args...)
			refused(t, out, errOut, code, 4, append(c.words, c.path+":")...)
			if _, _, code := w.line("task", "get", "Bench/refused"); code != 3 {
				t.Errorf("the refused task is there: exit code %d", code)
			}
		})
	}
	t.Run("SchedulesWithoutAServer", func(t *testing.T) {
		for _, c := range [][]string{
			{"0 0 30 2 *", "", "never fires"}, {"0 8 * * *", "Mars/Olympus", "Mars/Olympus"}, {"0 0 1 1 * 2027", "", "year"},
		} {
			args := []string{"schedule", "next", c[0]}
			if c[1] != "" {
				args = append(args, "--zone", c[1])
			}
			out, errOut, code := w.line(args...)
			refused(t, out, errOut, code, 4, c[2])
		}
	})
	t.Run("TheTypeOfAScriptThatDoesNotCompileSaysSo", func(t *testing.T) {
		out, errOut, code := w.line("type", "list", "-n", "Bench")
		if code != 0 || !regexp.MustCompile(`(?m)^Bench\.Broken .*Broken\.lua:4`).MatchString(out) {
			t.Errorf("exit code %d, %s%s", code, out, errOut)
		}
		if out, _, code = w.line("type", "get", "Bench.Broken"); code != 0 || !strings.Contains(out, "Broken.lua:4") {
			t.Errorf("exit code %d, %s", code, out)
		}
	})
}

// refusal is a thing that must not be saved or done, and what is said about it.
type refusal struct {
	method, path string         // "": a task "refused" is created in Bench
	body         map[string]any // of a task: what differs from a good one
	at           string         // where the problem is, below body; "": it is a conflict, with the words in its detail
	en, zh       []string
	line         []string // the same on the command line; FILE is the body in a file; nil: as a task from a file
}

// TestPoliciesAreRefused: where, what, and how to mend it, in both languages, by REST and on the command line.
func TestPoliciesAreRefused(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.namespace("Bench")
	w.must("PUT", "/v1/pools/erp", map[string]any{"slots": 2}, nil)
	w.must("PUT", "/v1/downstreams/his", map[string]any{"failures": 3, "cooldown": "1m"}, nil)
	w.must("PUT", "/v1/calendars/plant", map[string]any{"all_of": []string{"weekdays"}}, nil)
	good := func(name string, change func(*api.TaskInput)) api.Task {
		in := api.TaskInput{Type: "Bench.NoOp", Schedule: api.Schedule{Spec: "@manual"}}
		if change != nil {
			change(&in)
		}
		return w.task("Bench", name, in)
	}
	first := good("first", nil)
	good("second", func(in *api.TaskInput) { in.After = []api.Upstream{{Task: "first"}} })
	flow := map[string]any{"steps": []map[string]any{{"name": "one", "task": "second"}}}
	good("flow", func(in *api.TaskInput) { in.Type, in.Params = "Common.Workflow", params(flow) })
	good("outer", func(in *api.TaskInput) {
		in.Type, in.Params = "Common.Workflow", params(map[string]any{"steps": []map[string]any{{"name": "one", "task": "flow"}}})
	})
	good("user", func(in *api.TaskInput) {
		in.Schedule.OnlyOn = []string{"plant"}
		in.Schedule.Spec = "0 9 * * *"
		in.Policies = &api.Policies{Pools: []api.PoolUse{{Pool: "erp"}}, Downstreams: []string{"his"}}
	})
	policies := func(p map[string]any) map[string]any { return map[string]any{"policies": p} }
	schedule := func(s map[string]any) map[string]any { return map[string]any{"schedule": s} }
	condition := func(p map[string]any) map[string]any { return policies(map[string]any{"preconditions": []any{p}}) }
	steps := func(task string) map[string]any {
		return map[string]any{"type": "Common.Workflow", "params": map[string]any{"steps": []map[string]any{{"name": "one", "task": task}}}}
	}
	both := func(a, b map[string]any) map[string]any { maps.Copy(a, b); return a }
	change := func(name string, body map[string]any) refusal {
		return refusal{method: "PUT", path: "/v1/namespaces/Bench/tasks/" + name, body: body, line: []string{"task", "apply", "-f", "FILE"}}
	}
	with := func(r refusal, at string, en, zh []string) refusal { r.at, r.en, r.zh = at, en, zh; return r }
	put := func(kind, name string, body map[string]any, at string, en, zh []string) refusal {
		return refusal{"PUT", "/v1/" + kind + "s/" + name, body, at, en, zh, []string{kind, "put", name, "-f", "FILE"}}
	}
	act := func(name, act string, body map[string]any, at string, en, zh []string, line ...string) refusal {
		return refusal{"POST", "/v1/tasks/" + w.named(name).ID + "/" + act, body, at, en, zh, line}
	}
	remove := func(kind, name string, words ...string) refusal {
		return refusal{"DELETE", "/v1/" + kind + "s/" + name, nil, "", words, nil, []string{kind, "delete", name}}
	}
	for name, r := range map[string]refusal{
		"WindowWithoutCatchUpAll": {body: policies(map[string]any{"catch_up": "latest", "catch_up_window": "1h"}), at: "policies.catch_up_window", en: []string{"catch_up: all"}, zh: []string{"矛盾", "catch_up: all"}},
		"RetryThatNeverComes":     {body: policies(map[string]any{"retry_delay": "1s"}), at: "policies.retry_delay", en: []string{"max_attempts"}, zh: []string{"max_attempts"}},
		"SoftAfterHard":           {body: policies(map[string]any{"timeout": "10s", "soft_timeout": "10s"}), at: "policies.soft_timeout", en: []string{"10s", "never comes"}, zh: []string{"永远轮不到"}},
		"StopsTwice":              {body: map[string]any{"stop_on_error": true, "policies": map[string]any{"stop_after": 3}}, at: "policies.stop_after", en: []string{"stop_on_error"}, zh: []string{"stop_on_error"}},
		"StartsAfterItsEnd":       {body: policies(map[string]any{"sla": map[string]any{"start_within": "2h", "finish_within": "1h"}}), at: "policies.sla.start_within", en: []string{"finish_within (1h)"}, zh: []string{"finish_within（1h）"}},
		"BreakerWithoutCooldown":  {body: policies(map[string]any{"breaker": map[string]any{"failures": 3}}), at: "policies.breaker.cooldown", en: []string{"5m"}, zh: []string{"5m"}},
		"LooksOnceEvery":          {body: condition(map[string]any{"expression": "true", "every": "5s"}), at: "policies.preconditions[0].every", en: []string{"deadline"}, zh: []string{"deadline"}},
		"TwoConditionsInOne":      {body: condition(map[string]any{"expression": "true", "http": map[string]any{"url": "http://a"}}), at: "policies.preconditions[0]", en: []string{"a precondition of each"}, zh: []string{"拆成几个"}},
		"MoreThanThePoolHas":      {body: policies(map[string]any{"pools": []any{map[string]any{"pool": "erp", "slots": 3}}}), at: "policies.pools[0].slots", en: []string{"pool erp has 2"}, zh: []string{"一共只有 2 个"}},
		"UnknownPool":             {body: policies(map[string]any{"pools": []any{map[string]any{"pool": "epr"}}}), at: "policies.pools[0].pool", en: []string{"no pool epr", "erp"}, zh: []string{"epr", "erp"}},
		"SlotsOfAWorkflow": {body: both(steps("first"), policies(map[string]any{"pools": []any{map[string]any{"pool": "erp"}}})), at: "policies.pools",
			en: []string{"a workflow holds no slots itself", "to its steps' tasks"}, zh: []string{"工作流自身不占名额", "各步骤的任务"}},
		"DownstreamOfAWorkflow": {body: both(steps("first"), policies(map[string]any{"downstreams": []any{"his"}})), at: "policies.downstreams",
			en: []string{"a workflow touches no downstream itself", "to its steps' tasks"}, zh: []string{"工作流自身不碰下游", "各步骤的任务"}},
		"UnknownDownstream":       {body: policies(map[string]any{"downstreams": []any{"hsi"}}), at: "policies.downstreams[0]", en: []string{"no downstream hsi", "his"}, zh: []string{"hsi", "his"}},
		"UnknownCalendar":         {body: schedule(map[string]any{"spec": "@daily", "only_on": []any{"cn-workday"}}), at: "schedule.only_on[0]", en: []string{"cn-workday", "cn-workdays"}, zh: []string{"cn-workday"}},
		"NoDayIsLeft":             {body: schedule(map[string]any{"spec": "@daily", "only_on": []any{"weekdays"}, "not_on": []any{"plant"}}), at: "schedule.only_on", en: []string{"only_on weekdays, not_on plant", "leave no day"}, zh: []string{"only_on weekdays, not_on plant", "不给这个计划留下任何一天"}},
		"MovesWithoutCalendars":   {body: schedule(map[string]any{"spec": "@daily", "on_day_off": "next"}), at: "schedule.on_day_off", en: []string{"only_on"}, zh: []string{"only_on"}},
		"EndsBeforeItBegins":      {body: schedule(map[string]any{"spec": "@daily", "from": "2030-01-01T00:00:00Z", "until": "2029-01-01T00:00:00Z"}), at: "schedule.until", en: []string{"from"}, zh: []string{"from"}},
		"OverlapOfNobody":         {body: policies(map[string]any{"overlap": "queue(0)"}), at: "policies.overlap", en: []string{`"queue(0)" is no overlap policy`, "queue(3)"}, zh: []string{"“queue(0)”不是重叠策略"}},
		"OverlapWithoutNumber":    {body: policies(map[string]any{"overlap": "skip(2)"}), at: "policies.overlap", en: []string{"takes no number"}, zh: []string{"不带数字"}},
		"OverlapUnknown":          {body: policies(map[string]any{"overlap": "wait"}), at: "policies.overlap", en: []string{`"wait" is no overlap policy`}, zh: []string{"“wait”不是重叠策略"}},
		"ExpressionThatBreaksOff": {body: condition(map[string]any{"expression": "params.lines >"}), at: "policies.preconditions[0].expression", en: []string{"line 1, column 14", "unexpected token EOF"}, zh: []string{"第 1 行第 14 列"}},
		"ExpressionOfAnUnknown":   {body: condition(map[string]any{"expression": "hots.load1 < 4"}), at: "policies.preconditions[0].expression", en: []string{"line 1, column 1: unknown name hots; did you mean host?"}, zh: []string{"第 1 行第 1 列：没有名称 hots；是否指 host？"}},
		"ExpressionOfANumber":     {body: condition(map[string]any{"expression": "host.load1 + 1"}), at: "policies.preconditions[0].expression", en: []string{"true or false"}, zh: []string{"真或假"}},
		"ConditionOnNoTask":       {body: condition(map[string]any{"expression": `task("fisrt").live == 0`}), at: "policies.preconditions[0].expression", en: []string{"line 1, column 6: there is no task fisrt; did you mean first?"}, zh: []string{"第 1 行第 6 列：没有任务 fisrt；是否指 first？"}},
		"ConditionOnNoOutcome":    {body: condition(map[string]any{"expression": `task("first").last_outcome == "success"`}), at: "policies.preconditions[0].expression", en: []string{`never "success"`, "succeeded, failed, timed_out"}, zh: []string{`不会是 "success"`, "succeeded、failed、timed_out"}},
		"ConditionOnNoCalendar":   {body: condition(map[string]any{"expression": `day(now, "palnt")`}), at: "policies.preconditions[0].expression", en: []string{"no calendar palnt; did you mean plant?"}, zh: []string{"没有日历 palnt；是否指 plant？"}},
		"ConditionOnNoParameter":  {body: condition(map[string]any{"expression": "params.linse > 1"}), at: "policies.preconditions[0].expression", en: []string{"no parameter linse; did you mean lines?"}, zh: []string{"没有参数 linse；是否指 lines？"}},
		"ConditionOnNoConnection": {body: condition(map[string]any{"sql": map[string]any{"connection": "erp", "query": "select 1"}}), at: "policies.preconditions[0].sql.connection", en: []string{"has not been granted the connection erp; add sql:erp under grants"}, zh: []string{"没有获得连接 erp 的授权", "grants"}},
		"ConditionOnNoHost":       {body: condition(map[string]any{"http": map[string]any{"url": "http://a.example"}}), at: "policies.preconditions[0].http.url", en: []string{"has not been granted http"}, zh: []string{"没有获得 http 授权"}},
		"HandedToNoParameter":     {body: map[string]any{"after": []any{map[string]any{"task": "first", "params": map[string]any{"linse": "$"}}}}, at: "after[0].params.linse", en: []string{"did you mean lines?"}, zh: []string{"是否指 lines？"}},
		"StepOfNoParameter": {body: map[string]any{"type": "Common.Workflow", "params": map[string]any{"steps": []map[string]any{{"name": "one", "task": "first", "params": map[string]any{"nothing_like": 3}}}}},
			at: "params.steps[0].params.nothing_like", en: []string{"no parameter nothing_like; parameters of Bench.NoOp: cpu_ms, "}, zh: []string{"没有参数 nothing_like；现有：cpu_ms, "}},
		"StepOfAWrongType": {body: map[string]any{"type": "Common.Workflow", "params": map[string]any{"steps": []map[string]any{{"name": "one", "task": "first", "params": map[string]any{"lines": "3"}}}}},
			at: "params.steps[0].params.lines", en: []string{"must be integer, is string"}, zh: []string{"类型应为 integer"}},
		"CycleOfUpstreams": with(change("first", map[string]any{"after": []any{map[string]any{"task": "second"}}}), "after[0].task", []string{"first", "second"}, []string{"first", "second"}),
		"CycleOfOneself":   {body: map[string]any{"after": []any{map[string]any{"task": "refused"}}}, at: "after[0].task", en: []string{"cannot start itself"}, zh: []string{"不能启动自己"}},
		"CycleOfSteps":     with(change("flow", steps("flow")), "params.steps[0].task", []string{"cannot start itself"}, []string{"不能启动自己"}),
		"CycleOfWorkflows": with(change("flow", steps("outer")), "params.steps[0].task", []string{"flow → outer → flow"}, []string{"flow → outer → flow"}),
		"CycleOfBoth":      with(change("flow", both(steps("second"), map[string]any{"after": []any{map[string]any{"task": "second"}}})), "after[0].task", []string{"flow → second → flow"}, []string{"flow → second → flow"}),
		"CycleInAGraph": {body: map[string]any{"type": "Common.Workflow", "params": map[string]any{"steps": []map[string]any{
			{"name": "a", "task": "first", "needs": []string{"b"}}, {"name": "b", "task": "first", "needs": []string{"a"}}}}}, at: "params.steps[1].needs[0]", en: []string{"a → b → a"}, zh: []string{"a → b → a"}},
		"StepOfAnUnknownTask": {body: steps("fisrt"), at: "params.steps[0].task", en: []string{"fisrt"}, zh: []string{"fisrt"}},
		"UnknownUpstream":     {body: map[string]any{"after": []any{map[string]any{"task": "fisrt"}}}, at: "after[0].task", en: []string{"fisrt"}, zh: []string{"fisrt"}},
		"CycleOfCalendars":    put("calendar", "plant", map[string]any{"all_of": []string{"plant"}}, "all_of[0]", []string{"plant"}, []string{"plant"}),
		"CalendarOfUnknowns":  put("calendar", "refused", map[string]any{"none_of": []string{"nix"}}, "none_of[0]", []string{"nix"}, []string{"nix"}),
		"CalendarOfNoDate":    put("calendar", "refused", map[string]any{"dates": []any{map[string]any{"from": "2026-02-30"}}}, "dates[0].from", []string{"2026-02-30"}, []string{"2026-02-30"}),
		"PoolOfNothing":       put("pool", "refused", map[string]any{"slots": 0}, "slots", []string{"1"}, []string{"1"}),
		"DownstreamOfNoTime":  put("downstream", "refused", map[string]any{"failures": 3, "cooldown": "soon"}, "cooldown", []string{`"soon" is not a duration`, "30s"}, []string{"“soon”不是时长"}),
		"HolidaysOfNoYear": {"PUT", "/v1/holidays", map[string]any{"region": "CN", "year": 2027, "holidays": map[string]string{"2026-01-01": "元旦"}}, "holidays.2026-01-01", []string{"2027"}, []string{"2027"},
			[]string{"calendar", "holidays", "-f", "FILE"}},
		"BackfillOfTheFuture": act("first", "backfill", map[string]any{"from": "2026-01-01T00:00:00Z", "to": "2999-01-01T00:00:00Z"}, "to", []string{"later than now"}, []string{"晚于现在"},
			"task", "backfill", "Bench/first", "--from", "2026-01-01T00:00:00Z", "--to", "2999-01-01T00:00:00Z"),
		"BackfillBackwards": act("first", "backfill", map[string]any{"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to", []string{"after from"}, []string{"from"},
			"task", "backfill", "Bench/first", "--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"),
		"PauseUntilThePast": act("first", "pause", map[string]any{"until": "2020-01-01T00:00:00Z"}, "until", []string{"in the future"}, []string{"将来"},
			"task", "pause", "Bench/first", "--until", "2020-01-01T00:00:00Z"),
		"SpreadWithinNothing": {"POST", "/v1/namespaces/Bench/forecast/spread", map[string]any{"within": "0s"}, "within", []string{"between 1m and 59m"}, []string{"1m 到 59m"},
			[]string{"forecast", "spread", "Bench", "--within", "0s"}},
		"PoolInUse":       remove("pool", "erp", "erp", "in use", "Bench/user"),
		"DownstreamInUse": remove("downstream", "his", "his", "in use", "Bench/user"),
		"CalendarInUse":   remove("calendar", "plant", "plant", "in use", "Bench/user"),
		"BuiltIn":         remove("calendar", "weekdays", "weekdays"),
	} {
		t.Run(name, func(t *testing.T) { r.holds(t, w.on(t)) })
	}
	t.Run("AnEditOfWhatHasChanged", func(t *testing.T) {
		for _, c := range []struct{ method, path, body, form string }{
			{http.MethodPatch, "/v1/tasks/" + first.ID, `{"owner":"li"}`, "application/merge-patch+json"},
			{http.MethodPut, "/v1/namespaces/Bench/tasks/first", `{"type":"Bench.NoOp","schedule":{"spec":"@daily"}}`, "application/json"},
			{http.MethodPut, "/v1/pools/erp", `{"slots":3}`, "application/json"}, {http.MethodPut, "/v1/downstreams/his", `{"failures":1,"cooldown":"1m"}`, "application/json"},
			{http.MethodPut, "/v1/calendars/plant", `{"weekdays":["mon"]}`, "application/json"}, {http.MethodDelete, "/v1/pools/erp", "", ""},
		} {
			request, err := http.NewRequestWithContext(t.Context(), c.method, w.url+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+w.token)
			request.Header.Set("If-Match", `"99"`)
			if c.form != "" {
				request.Header.Set("Content-Type", c.form)
			}
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusPreconditionFailed || !strings.Contains(string(text), `"kind":"stale"`) {
				t.Errorf("%s %s answered %s %s", c.method, c.path, answer.Status, text)
			}
		}
	})
	t.Run("NothingWasSaved", func(t *testing.T) {
		if _, _, code := w.line("task", "get", "Bench/refused"); code != 3 {
			t.Errorf("a refused task is there: %d", code)
		}
		if now := w.named("first"); now.Version != first.Version || now.Pause != nil || len(now.After) != 0 {
			t.Errorf("a refused change was made: %+v", now)
		}
	})
}

// named gives a task of Bench.
func (w *world) named(name string) (task api.Task) {
	w.t.Helper()
	w.must("GET", "/v1/namespaces/Bench/tasks/"+name, nil, &task)
	return task
}

func (r refusal) holds(t *testing.T, w *world) {
	document := r.body
	if strings.Contains(r.path, "/tasks/") && r.method == "PUT" || r.path == "" {
		document = map[string]any{"type": "Bench.NoOp", "schedule": map[string]any{"spec": "@manual"}}
		for key, value := range r.body {
			document[key] = value
		}
	}
	line := append([]string{}, r.line...)
	if r.path == "" {
		document["name"] = "refused"
		r.method, r.path, line = "POST", "/v1/namespaces/Bench/tasks", []string{"task", "create", "-n", "Bench", "-f", "FILE"}
	}
	var problem api.Problem
	var asked any
	if document != nil {
		asked = document
	}
	status, err := w.ask(r.method, r.path, asked, &problem)
	detail, zh := problem.Detail, ""
	switch {
	case err != nil:
		t.Fatal(err)
	case r.at == "" && (status != http.StatusConflict || len(problem.Errors) != 0):
		t.Fatalf("answered %d %+v", status, problem)
	case r.at != "" && (status != http.StatusUnprocessableEntity || len(problem.Errors) != 1 || problem.Errors[0].Location != "body."+r.at):
		t.Fatalf("answered %d %+v", status, problem)
	case r.at != "":
		if detail, zh = problem.Errors[0].MessageEn, problem.Errors[0].MessageZh; zh == detail || zh == "" {
			t.Errorf("in Chinese it is %q", zh)
		}
	}
	for text, words := range map[string][]string{detail: r.en, zh: r.zh} {
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%q does not say %q", text, word)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "refused.yaml")
	if i := slices.Index(line, "FILE"); i >= 0 {
		if line[0] == "task" && line[1] == "apply" {
			document["namespace"], document["name"] = "Bench", filepath.Base(r.path)
		}
		raw, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, string(raw)) // JSON is YAML
		line[i] = file
	}
	place := ""
	if r.at != "" {
		place = r.at + ": "
	}
	lang, words := "zh", r.zh // what it prints in English is looked at in TestTasksAreRefused, and where there is no other
	if len(words) == 0 {
		lang, words = "en", r.en
	}
	out, errOut, code := w.line(append(line, "--lang", lang)...)
	refused(t, out, errOut, code, 4, append(slices.Clone(words), place)...)
}

// TestPluginsAreRefused: one with a wrong checksum and one of another protocol are named in the log and offer nothing;
// the others run.
func TestPluginsAreRefused(t *testing.T) {
	w := newWorld(t)
	w.plugins = filepath.Join(w.dir, "plugins")
	for name, change := range map[string]func(string) string{
		"noop":    nil,
		"monitor": func(text string) string { return strings.Replace(text, "protocol: 1", "protocol: 9", 1) },
	} {
		dir := filepath.Join(w.plugins, name)
		write(t, filepath.Join(dir, name), read(t, filepath.Join(program(t), "plugins", name, name)))
		if err := os.Chmod(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := seal(dir, name, change); err != nil {
			t.Fatal(err)
		}
	}
	sealed := filepath.Join(w.plugins, "noop", "noop")
	good := read(t, sealed)
	write(t, sealed, good+"x")
	w.start()
	log := read(t, w.log.Name())
	for _, words := range [][]string{
		{"plugins/noop", "executables.linux/", "sha256", "SHA-256", "was changed"},
		{"plugins/monitor", "protocol", "version 9", "version 1"},
	} {
		if line := lineWith(log, `msg="plugin refused"`, words...); line == "" {
			t.Errorf("no line of the log refuses a plugin with %q:\n%s", words, log)
		} else {
			t.Log(line)
		}
	}
	for _, name := range []string{"Bench.NoOp", "Monitor.ServiceHeartbeatStrategy"} {
		out, errOut, code := w.line("type", "get", name)
		refused(t, out, errOut, code, 3, name, "no plugin and no script offers it")
	}
	if out, _, code := w.line("type", "get", "Bench.LuaNoOp"); code != 0 {
		t.Errorf("the refused plugins keep a script from being offered: %d %s", code, out)
	}
	w.interrupt()
	write(t, sealed, good)
	w.start()
	if out, _, code := w.line("type", "get", "Bench.NoOp"); code != 0 {
		t.Errorf("the plugin as it was is refused: %d %s", code, out)
	}
}

func lineWith(text, first string, words ...string) string {
lines:
	for line := range strings.Lines(text) {
		for _, word := range append(words, first) {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		return strings.TrimSpace(line)
	}
	return ""
}

// TestServersAreRefused: what a server does not start with.
func TestServersAreRefused(t *testing.T) {
	w := newWorld(t)
	server := func(args ...string) (out, errOut string, code int) {
		began := time.Now()
		out, errOut, code = w.line(append([]string{"server", "--log-level", "error", "--no-context", "--plugins", w.plugins, "--scripts", w.scripts}, args...)...)
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("took %s to refuse", took)
		}
		return out, errOut, code
	}
	w.start()
	t.Run("SecondOnTheSameFolder", func(t *testing.T) {
		out, errOut, code := server("--data", w.data, "--listen", "127.0.0.1:0")
		refused(t, out, errOut, code, 4, w.data, "another")
	})
	t.Run("SameAddress", func(t *testing.T) {
		out, errOut, code := server("--data", filepath.Join(w.dir, "e"), "--listen", strings.TrimPrefix(w.url, "http://"))
		refused(t, out, errOut, code, 1, strings.TrimPrefix(w.url, "http://"), "--listen")
	})
	w.interrupt()
	t.Run("OtherThanLoopback", func(t *testing.T) {
		for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"} {
			out, errOut, code := server("--data", filepath.Join(w.dir, "f"), "--listen", address)
			refused(t, out, errOut, code, 1, address, "--insecure-listen")
		}
	})
	t.Run("DamagedStore", func(t *testing.T) {
		path := filepath.Join(w.data, "store", "store.db")
		good := read(t, path)
		damaged := []byte(good)
		for i := 4096; i < min(len(damaged), 12*4096); i++ {
			damaged[i] ^= 0x5a
		}
		write(t, path, string(damaged))
		out, errOut, code := server("--data", w.data, "--listen", "127.0.0.1:0")
		refused(t, out, errOut, code, 1, path)
		if read(t, path) != string(damaged) {
			t.Error("the damaged file was changed")
		}
		write(t, path, "this is not a database, but somebody's letter\n"+strings.Repeat("x", 8192))
		out, errOut, code = server("--data", w.data, "--listen", "127.0.0.1:0")
		refused(t, out, errOut, code, 1, path)
		write(t, path, good)
		w.start() // and it is as it was
	})
	w.interrupt()
	w.nothingRuns(20*time.Second, nil)
}
