//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// on gives the world for a subtest of its own; it must not end the server.
func (w *world) on(t *testing.T) *world {
	sub := *w
	sub.t = t
	return &sub
}

// says runs a command line that must succeed, and gives what it prints.
func (w *world) says(args ...string) string {
	w.t.Helper()
	out, errOut, code := w.line(args...)
	if code != 0 {
		w.t.Fatalf("%q: exit code %d, %s%s", args, code, out, errOut)
	}
	return out
}

// witnessed is one line of Bench.Work's evidence.
type witnessed struct {
	what, fire, attempt, run string
}

// evidenceOf gives what attempts have left in a file, in order; none yet is nothing.
func (w *world) evidenceOf(path string) (all []witnessed) {
	w.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) != 7 {
			w.t.Fatalf("torn evidence %q", line)
		}
		all = append(all, witnessed{f[0], f[1], f[2], f[6]})
	}
	return all
}

// begun gives the lines of starts.
func begun(all []witnessed) []witnessed {
	return slices.DeleteFunc(slices.Clone(all), func(e witnessed) bool { return e.what != "start" })
}

// run gives a run.
func (w *world) run(id string) (r api.Run) {
	w.t.Helper()
	w.must("GET", "/v1/runs/"+id, nil, &r)
	return r
}

// over waits for a run's end and gives it.
func (w *world) over(id string) (r api.Run) {
	w.t.Helper()
	w.until(20*time.Second, "run "+id+" has ended", func() bool { r = w.run(id); return r.State == "ended" })
	return r
}

// now starts a run by hand and gives its id.
func (w *world) now(task api.Task, p map[string]any) string {
	w.t.Helper()
	body := map[string]any{}
	if p != nil {
		body["params"] = p
	}
	var r api.Run
	w.must("POST", "/v1/tasks/"+task.ID+"/run", body, &r)
	return r.ID
}

// works creates a task of Bench.Work that leaves its evidence in a file of its name.
func (w *world) works(name, spec string, p map[string]any, policies api.Policies, change func(*api.TaskInput)) (api.Task, string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name+".csv")
	all := map[string]any{"path": path}
	for key, value := range p {
		all[key] = value
	}
	in := api.TaskInput{Type: "Bench.Work", Schedule: api.Schedule{Spec: spec}, Params: params(all), Policies: &policies}
	if change != nil {
		change(&in)
	}
	return w.task("Bench", name, in), path
}

// repair makes a task that fails succeed from now on.
func (w *world) repair(task api.Task, path string) {
	w.t.Helper()
	var input map[string]any
	raw, _ := json.Marshal(task)
	_ = json.Unmarshal(raw, &input) // what was just written
	keep := map[string]any{"type": task.Type, "schedule": map[string]any{"spec": task.Schedule.Spec}, "policies": input["policies"], "params": map[string]any{"path": path}}
	w.must("PUT", "/v1/namespaces/Bench/tasks/"+task.Name, keep, nil)
}

// TestOneRoadForEachPolicy: what issue 3 promises, once through on a real server.
func TestOneRoadForEachPolicy(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"Bench/Vanishing", "Apart/Quick"} {
		w.script(name, "return task {\n  title = { zh = \"试\", en = \"Trial\" },\n  run = function(ctx) end,\n}")
	}
	clock := filepath.Join(w.dir, "clock")
	write(t, clock, "0s")
	w.env = []string{"GNOMON_FAULT_CLOCK=" + clock}
	w.start()
	w.namespace("Bench")
	began := time.Now()
	t.Run("Roads", func(t *testing.T) {
		for name, road := range map[string]func(*testing.T, *world){
			"Backfill": backfills, "Pause": pauses, "Intervention": intervenes, "Breaker": breaks, "Workflow": worksAsAGraph, "Upstream": follows,
			"Pool": queues, "ServiceLevel": misses, "Metrics": measures, "Forecast": forecasts,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); road(t, w.on(t)) })
		}
	})
	t.Run("Doctor", func(t *testing.T) { examines(t, w.on(t)) })
	t.Run("Reconcile", func(t *testing.T) {
		w := w.on(t)
		to := time.Now()
		write(t, clock, "1m") // what is younger than 30 s is left out
		w.until(5*time.Second, "the last moments before are reconciled", func() bool {
			out, errOut, code := w.line("reconcile", "-n", "Bench", "--from", began.UTC().Format(time.RFC3339), "--to", to.UTC().Format(time.RFC3339))
			if code != 0 {
				t.Fatalf("%d\n%s%s", code, out, errOut)
			}
			return errOut == "" && strings.Contains(out, "Bench/rests")
		})
	})
	w.interrupt()
	w.nothingRuns(2*time.Second, nil)
}

// TestAFileTakesADefaultAway: zeros of a YAML file or of flags hold, are printed again, and what is printed may be applied again.
func TestAFileTakesADefaultAway(t *testing.T) {
	w := newWorld(t)
	w.start()
	folder := filepath.Join(w.dir, "definitions")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "all.yaml"), `
pools: [{ name: one, slots: 1 }]
namespaces:
  - name: Bench
    type_limits: { Bench.NoOpp: 3 }
    defaults: { stop_after: 2, intervene: true, pools: [{ pool: one }], priority: 7, max_runs: 100, sla: { start_within: 1m, finish_by: "06:00" }, breaker: { failures: 3, cooldown: 1m } }
tasks:
  - namespace: Bench
    name: zeros
    type: Bench.NoOp
    schedule: { spec: "@manual" }
    policies: { stop_after: 0, pools: [], intervene: false, priority: 0, max_runs: 0, sla: { start_within: 2m, finish_by: "" }, breaker: { failures: 0 } }
  - namespace: Bench
    name: short
    type: Bench.NoOp
    stop_on_error: false
    schedule: { spec: "@manual" }
`)
	out, errOut, code := w.line("apply", folder)
	if code != 0 || !strings.Contains(errOut, "type_limits.Bench.NoOpp: has no effect at present: there is no task type Bench.NoOpp; did you mean Bench.NoOp?") {
		t.Fatalf("%d\n%s%s", code, out, errOut)
	}
	w.says("task", "create", "-n", "Bench", "--name", "flags", "--type", "Bench.NoOp", "--stop-on-error=false", "--max-attempts", "0", "--timeout", "0s")
	for name, c := range map[string]struct{ shown, holds string }{
		"zeros": {`{"breaker":{"failures":0},"intervene":false,"max_runs":0,"pools":[],"priority":0,"sla":{"finish_by":"","start_within":"2m"},"stop_after":0}`,
			`{"breaker":{"failures":0},"catch_up":"latest","intervene":false,"max_runs":0,"overlap":"skip","pools":[],"priority":0,"sla":{"finish_by":"","start_within":"2m"},"stop_after":0}`},
		"short": {`{}`, `{"breaker":{"cooldown":"1m","failures":3},"catch_up":"latest","intervene":true,"max_runs":100,"overlap":"skip","pools":[{"pool":"one"}],"priority":7,"sla":{"finish_by":"06:00","start_within":"1m"},"stop_after":0}`},
		"flags": {`{"max_attempts":0,"timeout":"0s"}`, `{"breaker":{"cooldown":"1m","failures":3},"catch_up":"latest","intervene":true,"max_attempts":0,"max_runs":100,"overlap":"skip","pools":[{"pool":"one"}],"priority":7,"sla":{"finish_by":"06:00","start_within":"1m"},"stop_after":0,"timeout":"0s"}`},
	} {
		printed := w.says("task", "get", "Bench/"+name, "-o", "yaml")
		var task map[string]any
		if err := json.Unmarshal([]byte(w.says("task", "get", "Bench/"+name, "-o", "json")), &task); err != nil {
			t.Fatal(err)
		}
		shown, _ := json.Marshal(task["policies"])
		holds, _ := json.Marshal(task["effective_policies"])
		if string(shown) != c.shown || string(holds) != c.holds || (task["stop_on_error"] == false) != (name != "zeros") {
			t.Errorf("%s: %s and %s, stop_on_error %v", name, shown, holds, task["stop_on_error"])
		}
		file := filepath.Join(w.dir, name+".yaml")
		write(t, file, printed)
		w.says("task", "apply", "-f", file)
		if again := w.says("task", "get", "Bench/"+name, "-o", "yaml"); again != printed {
			t.Errorf("applied again, it is\n%s\nand was\n%s", again, printed)
		}
	}
	file, printed := filepath.Join(w.dir, "namespace.yaml"), w.says("namespace", "get", "Bench")
	write(t, file, printed)
	w.says("namespace", "put", "Bench", "-f", file)
	if again := w.says("namespace", "get", "Bench"); again != printed {
		t.Errorf("put again, the namespace is\n%s\nand was\n%s", again, printed)
	}
	w.interrupt()
}

// backfills: a dry run starts nothing and names the instants; the real one runs exactly these.
func backfills(t *testing.T, w *world) {
	minute := (time.Now().Minute() + 30) % 60 // so that it does not fire by itself meanwhile
	_, path := w.works("fills", fmt.Sprintf("%d * * * *", minute), nil, api.Policies{}, nil)
	to := time.Now().UTC().Truncate(time.Hour)
	from := to.Add(-5 * time.Hour)
	args := []string{"task", "backfill", "Bench/fills", "--from", from.Format(time.RFC3339), "--to", to.Format(time.RFC3339), "--spread", "50ms"}
	first := from.Add(time.Duration(minute) * time.Minute).Format("\n  2006-01-02 15:04:05\n")
	if out := w.says(append(args, "--dry-run")...); !strings.Contains(out, "would start 5 runs") || !strings.Contains(out, first) || strings.Contains(out, "before") {
		t.Errorf("the dry run says %q", out)
	}
	if out := w.says(append(args, "--dry-run", "--lang", "zh", "--limit", "2")...); !strings.Contains(out, "将运行 2 次") || !strings.Contains(out, "还有更多时刻") {
		t.Errorf("the dry run says %q", out)
	}
	if all := w.evidenceOf(path); len(all) != 0 {
		t.Fatalf("the dry runs have started %v", all)
	}
	var done api.BackfillAnswer
	if err := json.Unmarshal([]byte(w.says(append(args, "-o", "json")...)), &done); err != nil || done.Count != 5 || len(done.Runs) != 5 || !strings.HasPrefix(done.Series, "backfill:") {
		t.Fatalf("%+v %v", done, err)
	}
	for _, id := range done.Runs {
		if r := w.over(id); r.Outcome != "succeeded" || r.Trigger != "backfill" || r.Series != done.Series {
			t.Errorf("%+v", r)
		}
	}
	var fires, wanted []string
	for _, e := range begun(w.evidenceOf(path)) {
		fires = append(fires, e.fire)
	}
	for at := from.Add(time.Duration(minute) * time.Minute); at.Before(to); at = at.Add(time.Hour) {
		wanted = append(wanted, at.Format(time.RFC3339))
	}
	if !slices.Equal(fires, wanted) {
		t.Errorf("ran for %v instead of %v", fires, wanted)
	}
	var again api.BackfillAnswer
	if err := json.Unmarshal([]byte(w.says(append(args, "--dry-run", "--overlap", "allow(2)", "-o", "json")...)), &again); err != nil || again.AlreadyBackfilled != 5 ||
		len(again.Earlier) != 1 || again.Earlier[0].Series != done.Series || again.Earlier[0].Instants != 5 || len(again.Instants) != 5 {
		t.Errorf("the dry run after it says %+v %v", again, err)
	}
	again = api.BackfillAnswer{}
	if err := json.Unmarshal([]byte(w.says(append(args, "--overlap", "allow(2)", "--spread", "0s", "-o", "json")...)), &again); err != nil || len(again.Runs) != 5 || again.AlreadyBackfilled != 5 {
		t.Fatalf("%+v %v", again, err)
	}
	for _, id := range again.Runs {
		if r := w.over(id); r.Outcome != "succeeded" {
			t.Errorf("%+v", r)
		}
	}
	out, errOut, code := w.line("task", "backfill", "Bench/fills", "--from", from.Format(time.RFC3339), "--to", to.Add(48*time.Hour).Format(time.RFC3339))
	refused(t, out, errOut, code, 4, "to: must not be later than now")
}

// pauses: nothing starts while the task is paused, and nothing of it afterwards.
func pauses(t *testing.T, w *world) {
	task, path := w.works("rests", "@every 1s", nil, api.Policies{}, nil)
	w.until(10*time.Second, "it fires", func() bool { return len(w.evidenceOf(path)) > 0 })
	if out := w.says("task", "pause", "Bench/rests", "--note", "ERP is being moved", "--until", "2h"); !strings.Contains(out, "paused Bench/rests") || !strings.Contains(out, "ERP is being moved") {
		t.Errorf("%q", out)
	}
	pause(t.Context(), 300*time.Millisecond)
	before := len(w.evidenceOf(path))
	pause(t.Context(), 2500*time.Millisecond)
	if now := len(w.evidenceOf(path)); now != before {
		t.Errorf("%d attempts began while it was paused", now-before)
	}
	if out := w.says("task", "list", "-n", "Bench", "--search", "rests"); !strings.Contains(out, "paused until ") {
		t.Errorf("the list shows %q", out)
	}
	resumed := time.Now()
	w.says("task", "resume", "Bench/rests")
	w.until(5*time.Second, "it fires again", func() bool { return len(w.evidenceOf(path)) > before })
	for _, e := range begun(w.evidenceOf(path))[len(begun(w.evidenceOf(path)[:before])):] {
		if at, err := time.Parse(time.RFC3339Nano, e.fire); err != nil || at.Before(resumed.Add(-time.Second)) {
			t.Errorf("resuming fired for %s (%v)", e.fire, err)
		}
	}
	var runs struct{ Items []api.Run }
	w.must("GET", "/v1/runs?outcome=skipped&task_id="+task.ID, nil, &runs)
	if len(runs.Items) == 0 || runs.Items[0].Reason != "paused" || !strings.Contains(string(runs.Items[0].Facts), "ERP is being moved") {
		var one api.Run
		if len(runs.Items) > 0 {
			one = w.run(runs.Items[0].ID)
		}
		if one.Reason != "paused" || !strings.Contains(string(one.Facts), "ERP is being moved") {
			t.Errorf("skipped: %+v", one)
		}
	}
}

// intervenes: a run whose attempts are used up is put before a person, who tries it again with other parameters, skips it, or
// says that it is done.
func intervenes(t *testing.T, w *world) {
	task, path := w.works("fails", "@manual", map[string]any{"fail_rate": 1}, api.Policies{MaxAttempts: new(2), RetryDelay: "100ms", Intervene: new(true)}, nil)
	ids := []string{w.now(task, nil)}
	w.over(ids[0])
	for range 2 {
		id := w.now(task, nil)
		w.over(id)
		ids = append(ids, id)
	}
	out := w.says("intervention", "list", "-n", "Bench")
	for _, id := range ids {
		if !strings.Contains(out, id) || !strings.Contains(out, "out of luck") {
			t.Errorf("the list has no %s: %s", id, out)
		}
	}
	out = w.says("intervention", "retry", ids[0], "--params", `{"fail_rate":0}`, "--note", "the disk is free again")
	again := w.over(regexp.MustCompile(`[0-9a-f-]{36}`).FindString(out))
	if again.Outcome != "succeeded" || again.Trigger != "retry" || again.CausedBy != ids[0] || !strings.Contains(string(again.Params), `"fail_rate":0`) {
		t.Errorf("the retry is %+v", again)
	}
	w.says("intervention", "skip", ids[1], "--note", "not needed any more")
	w.says("intervention", "done", ids[2], "--note", "loaded by hand")
	stdout, errOut, code := w.line("intervention", "done", ids[0])
	refused(t, stdout, errOut, code, 4, ids[0], "resolved")
	if out = w.says("intervention", "list", "-n", "Bench", "--resolved"); !strings.Contains(out, "retry") || !strings.Contains(out, "skip") || !strings.Contains(out, "done") ||
		!strings.Contains(out, "the disk is free again") || !strings.Contains(out, again.ID) || !strings.Contains(out, "loaded by hand") {
		t.Errorf("the resolved ones are %s", out)
	}
	if all := begun(w.evidenceOf(path)); len(all) != 7 { // three runs of two attempts, and the retry
		t.Errorf("%d attempts began: %v", len(all), all)
	}
}

// breaks: two failures open the breaker of a downstream, what comes meanwhile waits, and a reset lets it go on.
func breaks(t *testing.T, w *world) {
	w.must("PUT", "/v1/downstreams/erp", map[string]any{"failures": 2, "cooldown": "1h"}, nil)
	task, path := w.works("touches", "@every 1s", map[string]any{"fail_rate": 1}, api.Policies{Downstreams: []string{"erp"}}, nil)
	w.until(15*time.Second, "the breaker opens and a fire waits at it", func() bool {
		out, _, _ := w.line("queue", "--gate", "breaker")
		return strings.Contains(out, "Bench/touches") && strings.Contains(out, "breaker downstream:erp") && strings.Contains(out, "open after 2 failures: out of luck")
	})
	if out := w.says("breaker", "list"); !regexp.MustCompile(`downstream:erp +open +2 .*out of luck`).MatchString(out) {
		t.Errorf("the breakers are %s", out)
	}
	if all := begun(w.evidenceOf(path)); len(all) != 2 {
		t.Errorf("%d attempts began", len(all))
	}
	w.repair(task, path)
	w.says("breaker", "reset", "downstream:erp")
	w.until(5*time.Second, "what waited goes on", func() bool { return len(begun(w.evidenceOf(path))) > 2 })
	if out := w.says("downstream", "list"); !regexp.MustCompile(`erp +closed`).MatchString(out) {
		t.Errorf("the downstreams are %s", out)
	}
	out, errOut, code := w.line("breaker", "reset", "downstream:nix")
	refused(t, out, errOut, code, 3, "nix")
	w.must("DELETE", "/v1/tasks/"+task.ID, nil, nil)
}

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
	w.works("long", "@manual", map[string]any{"millis": 600_000}, api.Policies{}, nil)
	longFlow := w.task("Bench", "long-flow", api.TaskInput{Type: "Common.Workflow", Schedule: api.Schedule{Spec: "@manual"}, Params: params(map[string]any{"steps": []map[string]any{
		{"name": "one", "task": "long"}, {"name": "two", "task": "long", "needs": []string{"one"}},
	}})})
	third := w.now(longFlow, nil)
	w.until(10*time.Second, "the first step has begun", func() bool { return len(begun(w.evidenceOf(filepath.Join(w.dir, "long.csv")))) == 1 })
	w.says("run", "cancel", third)
	if r := w.over(third); r.Outcome != "cancelled" {
		t.Errorf("the cancelled workflow ended as %s: %s", r.Outcome, r.Message)
	}
	last := steps(third)
	if last["one"].State != "cancelled" || last["two"].RunID != "" {
		t.Errorf("its steps are %+v", last)
	}
}

// follows: the ends of a task's runs start others, by how they ended, with what the run hands on.
func follows(t *testing.T, w *world) {
	first, _ := w.works("statistics", "@manual", map[string]any{"output": map[string]any{"rows": 7}}, api.Policies{}, nil)
	after := func(on string, p map[string]string) func(*api.TaskInput) {
		return func(in *api.TaskInput) { in.After = []api.Upstream{{Task: "statistics", On: on, Params: p}} }
	}
	report, _ := w.works("report", "@manual", nil, api.Policies{}, after("success", map[string]string{"millis": "$.rows"}))
	alarm, _ := w.works("alarm", "@manual", nil, api.Policies{}, after("failure", nil))
	always, _ := w.works("cleaning", "@manual", nil, api.Policies{}, after("always", nil))
	caused := func(task api.Task, by string) (found []api.Run) {
		var runs struct{ Items []api.Run }
		w.must("GET", "/v1/runs?task_id="+task.ID, nil, &runs)
		for _, r := range runs.Items {
			if r.CausedBy == by {
				found = append(found, w.run(r.ID))
			}
		}
		return found
	}
	good := w.now(first, nil)
	w.until(10*time.Second, "the report and the cleaning follow", func() bool { return len(caused(report, good)) == 1 && len(caused(always, good)) == 1 })
	if r := w.over(caused(report, good)[0].ID); r.Trigger != "upstream" || !strings.Contains(string(r.Params), `"millis":7`) || r.Outcome != "succeeded" {
		t.Errorf("%+v", r)
	}
	bad := w.now(first, map[string]any{"fail_rate": 1})
	w.until(10*time.Second, "the alarm and the cleaning follow", func() bool { return len(caused(alarm, bad)) == 1 && len(caused(always, bad)) == 1 })
	if len(caused(alarm, good)) != 0 || len(caused(report, bad)) != 0 {
		t.Error("a task followed an end it was not to follow")
	}
	asks := func(task, code string, en, zh []string, data string) {
		t.Helper()
		whyCase{task: task, code: code, en: en, zh: zh, data: data, last: true}.answers(t, w)
	}
	asks("report", "upstream_outcome", []string{"Bench/report has no schedule and runs when statistics succeeds. The last end was that of run " + bad + " of statistics", "failed, but it runs only when statistics succeeds"},
		[]string{"没有计划，在 statistics 成功后运行", "结果：失败；而它只在 statistics 成功后运行"}, `"upstream_run_id":"`+bad+`"`)
	asks("alarm", "started", []string{"runs when statistics fails", "caused by the upstream run " + bad + " (statistics), was started at"}, []string{"由上游运行 " + bad + " (statistics) 触发的一次于"}, `"upstream_outcome":"failed"`)
	leavesWhatDoesNotFollow(t, w, first, after, caused, asks)
}

// leavesWhatDoesNotFollow: an end that does not start a dependent leaves its decision, with the reason, in the store and in history.
func leavesWhatDoesNotFollow(t *testing.T, w *world, first api.Task, after func(string, map[string]string) func(*api.TaskInput),
	caused func(api.Task, string) []api.Run, asks func(task, code string, en, zh []string, data string),
) {
	off, _ := w.works("chain-off", "@manual", nil, api.Policies{}, after("success", nil))
	paused, _ := w.works("chain-paused", "@manual", nil, api.Policies{}, after("success", nil))
	lacking, _ := w.works("chain-lacking", "@manual", nil, api.Policies{}, after("success", map[string]string{"millis": "$.nothing"}))
	misfit, _ := w.works("chain-misfit", "@manual", nil, api.Policies{}, after("success", map[string]string{"path": "$.rows"}))
	asks("chain-off", "upstream_pending", []string{"runs when statistics succeeds. No run of statistics has ended since they were linked, at "}, []string{"自建立关联以来 statistics 没有运行结束过"}, `"version":1`)
	w.says("task", "disable", "Bench/chain-off")
	w.says("task", "pause", "Bench/chain-paused", "--note", "stocktaking")
	asks("chain-off", "upstream_pending", []string{"An end would not start it now: the task was disabled by bootstrap"}, []string{"目前结束也不会启动它：任务已由 bootstrap"}, "")
	good := w.now(first, nil)
	w.over(good)
	for task, reason := range map[*api.Task]string{&off: "disabled", &paused: "paused", &lacking: "params", &misfit: "params"} {
		var runs []api.Run
		w.until(10*time.Second, "the fire of "+task.Name+" is decided", func() bool { runs = caused(*task, good); return len(runs) == 1 })
		if r := runs[0]; r.Trigger != "upstream" || r.Outcome != "skipped" || r.Reason != reason || r.State != "ended" || !strings.Contains(string(r.Facts), `"upstream_run_id":"`+good+`"`) {
			t.Errorf("%s: %+v, facts %s", task.Name, r, r.Facts)
		}
	}
	last := "The last end was that of run " + good + " of statistics"
	asks("chain-off", "disabled", []string{last, "was skipped: the task was disabled by bootstrap at "}, []string{"被跳过：任务已由 bootstrap"}, `"upstream":"statistics"`)
	asks("chain-paused", "paused", []string{last, `was skipped: the task was paused by bootstrap`, `the note "stocktaking"`}, []string{"被跳过：任务已由 bootstrap", "“stocktaking”"}, "")
	asks("chain-lacking", "params", []string{last, "was skipped: the output of its upstream statistics does not give parameters that fit: params.millis: the output of task statistics has nothing at $.nothing"},
		[]string{"被跳过：上游 statistics 的输出给不出合用的参数：params.millis：任务 statistics 的输出里没有 $.nothing"}, "")
	asks("chain-misfit", "params", []string{last, "parameters that fit: params.path: "}, []string{"给不出合用的参数：params.path："}, "")
	const fires = "SELECT task, reason, count(), any(JSONExtractString(facts, 'upstream')), any(trigger), uniqExact(run_id) FROM fires WHERE task LIKE 'chain-%' GROUP BY 1, 2 ORDER BY 1, 2"
	want := "chain-lacking\tparams\t1\tstatistics\tupstream\t1\nchain-misfit\tparams\t1\tstatistics\tupstream\t1\n" +
		"chain-off\tdisabled\t1\tstatistics\tupstream\t1\nchain-paused\tpaused\t1\tstatistics\tupstream\t1\n"
	out := ""
	w.until(20*time.Second, "history has one decision for each", func() bool {
		out = w.says("sql", "-o", "tsv", fires)
		return strings.HasSuffix(out, want)
	})
	// Once the rows are in history alone the answer is the same.
	asks("chain-paused", "paused", []string{last, "the task was paused by bootstrap"}, nil, `"upstream_run_id":"`+good+`"`)
	// Each goes on as it did before once nothing is in its way.
	w.says("task", "enable", "Bench/chain-off")
	w.says("task", "resume", "Bench/chain-paused")
	again := w.now(first, nil)
	w.until(10*time.Second, "those that may start do", func() bool { return len(caused(off, again)) == 1 && len(caused(paused, again)) == 1 })
	if a, b := caused(off, again)[0], caused(paused, again)[0]; a.Reason+b.Reason != "" {
		t.Errorf("they are %+v and %+v", a, b)
	}
}

// queues: a pool of one slot; who waits is seen in the order in which they go on, and why.
func queues(t *testing.T, w *world) {
	write(t, filepath.Join(w.dir, "pool.yaml"), "slots: 1\ndescription: licences\n")
	w.says("pool", "put", "licence", "-f", filepath.Join(w.dir, "pool.yaml"))
	path := filepath.Join(w.dir, "pooled.csv")
	pooled := func(name string, priority int) api.Task {
		task, _ := w.works(name, "@manual", map[string]any{"path": path, "millis": 10}, api.Policies{Priority: new(priority), Pools: []api.PoolUse{{Pool: "licence"}}}, nil)
		return task
	}
	holder, low, middle, high := pooled("holder", 0), pooled("low", -10), pooled("middle", 0), pooled("high", 10)
	held := w.now(holder, map[string]any{"millis": 600_000})
	w.until(10*time.Second, "the pool is taken", func() bool { return len(begun(w.evidenceOf(path))) == 1 })
	order := []string{held}
	for _, task := range []api.Task{low, middle, high} {
		order = append(order, w.now(task, nil))
	}
	slices.Reverse(order[1:])
	var lines []string
	w.until(10*time.Second, "three runs wait", func() bool {
		out := w.says("queue", "--gate", "capacity")
		lines = regexp.MustCompile(`(?m)^\d+  .*pool:licence.*$`).FindAllString(out, -1)
		return len(lines) == 3
	})
	for i, name := range []string{"Bench/high", "Bench/middle", "Bench/low"} {
		if !strings.HasPrefix(lines[i], fmt.Sprintf("%d  %s ", i+1, name)) || !strings.Contains(lines[i], "1 of 1 slots of pool:licence in use, 1 wanted") && !strings.Contains(lines[i], "wait for pool:licence") {
			t.Errorf("place %d of the queue is %s", i+1, lines[i])
		}
	}
	if out := w.says("pool", "list"); !regexp.MustCompile(`licence +1 +1 +3 +licences`).MatchString(out) {
		t.Errorf("the pools are %s", out)
	}
	out, errOut, code := w.line("pool", "delete", "licence")
	refused(t, out, errOut, code, 4, "licence", "Bench/")
	w.says("run", "cancel", held)
	for _, id := range order[1:] {
		w.over(id)
	}
	var ran []string
	for _, e := range begun(w.evidenceOf(path)) {
		ran = append(ran, e.run)
	}
	if !slices.Equal(ran, order) {
		t.Errorf("ran %v instead of %v", ran, order)
	}
}

// misses: a run that is too slow says so while it runs.
func misses(t *testing.T, w *world) {
	task, _ := w.works("slow", "@manual", map[string]any{"millis": 600_000}, api.Policies{SLA: &api.SLA{MaxDuration: "1s", FinishWithin: "1s"}}, nil)
	id := w.now(task, nil)
	var out string
	w.until(15*time.Second, "the run has missed its service levels", func() bool {
		out = w.says("run", "get", id)
		return strings.Contains(out, "too_long") && strings.Contains(out, "not_finished_in_time")
	})
	if !regexp.MustCompile(`breaches +\S+: .*1s`).MatchString(out) {
		t.Errorf("the run is\n%s", out)
	}
	if r := w.run(id); len(r.Breaches) != 2 || r.State == "ended" {
		t.Errorf("%+v", r)
	}
	w.says("run", "terminate", id)
	if r := w.over(id); r.Outcome != "cancelled" || len(r.Breaches) != 2 {
		t.Errorf("%+v", r)
	}
}

// measures: the metrics are for those with a token.
func measures(t *testing.T, w *world) {
	for token, want := range map[string]int{"": 401, "gnomon_nobody": 401, w.token: 200} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != want {
			t.Errorf("answered %d instead of %d: %v %.200s", answer.StatusCode, want, err, text)
		}
		if want == 200 != strings.Contains(string(text), "\ngnomon_") {
			t.Errorf("answered %d: %.300s", want, text)
		}
	}
	w.now(w.task("Bench", "measured", api.TaskInput{Type: "Bench.Vanishing", Schedule: api.Schedule{Spec: "@manual"}}), nil)
	var shown map[string]metric
	w.until(time.Minute, "it is known how far the roll-ups are", func() bool {
		shown = w.metrics()
		return shown["gnomon_rollups_complete"].values[""] == 1
	})
	if behind, known := shown["gnomon_rollups_behind_seconds"].values[""]; !known || behind < 0 || behind > 60 {
		t.Errorf("the roll-ups are %v s behind (known: %v)", behind, known)
	}
	if free, total := shown["gnomon_data_disk_free_bytes"].values[""], shown["gnomon_data_disk_total_bytes"].values[""]; free <= 0 || free > total {
		t.Errorf("%v of %v bytes of the disk are free", free, total)
	}
	if used, limit := shown["gnomon_spool_bytes"].values[""], shown["gnomon_spool_limit_bytes"].values[""]; used <= 0 || used > limit {
		t.Errorf("the spool has %v of %v bytes", used, limit)
	}
	panelsAreFilled(t, shown)
}

// metric is one of /metrics.
type metric struct {
	counter bool
	values  map[string]float64 // by labels, as they are written
}

// metrics scrapes the server; histograms are left out.
func (w *world) metrics() map[string]metric {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/metrics", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		w.t.Fatalf("answered %d: %v %.200s", answer.StatusCode, err, text)
	}
	all := make(map[string]metric)
	for _, kind := range regexp.MustCompile(`(?m)^# TYPE (gnomon_\w+) (gauge|counter)$`).FindAllStringSubmatch(string(text), -1) {
		all[kind[1]] = metric{kind[2] == "counter", make(map[string]float64)}
	}
	for _, line := range regexp.MustCompile(`(?m)^(gnomon_\w+)(?:\{(.*)\})? (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		value, err := strconv.ParseFloat(line[3], 64)
		if err != nil {
			w.t.Errorf("%s: %v", line[0], err)
		}
		if m, ok := all[line[1]]; ok {
			m.values[line[2]] = value
		}
	}
	return all
}

// panelsAreFilled: each query of deploy/grafana's dashboard of the server is one of a few simple forms of PromQL, over metrics
// that the server shows, with labels that they have. Only what tells that something waits may be absent.
func panelsAreFilled(t *testing.T, shown map[string]metric) {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/grafana/dashboards/server.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID         int    `json:"id"`
			Title      string `json:"title"`
			Datasource struct {
				Type, UID string
			} `json:"datasource"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &d); err != nil || d.UID != "gnomon-server" || len(d.Panels) == 0 {
		t.Fatalf("%v %+v", err, d)
	}
	form := regexp.MustCompile(`^(?:rate\((gnomon_\w+)\[\$__rate_interval\]\)|max by \((\w+)\) \((gnomon_\w+)\)|(gnomon_\w+)(?: / (gnomon_\w+)| \* 1000)?)$`)
	seen := make(map[int]bool)
	for _, p := range d.Panels {
		if seen[p.ID] || p.Datasource.Type != "prometheus" || p.Datasource.UID != "gnomon-metrics" || len(p.Targets) == 0 {
			t.Errorf("panel %d: %+v", p.ID, p)
		}
		seen[p.ID] = true
		for _, target := range p.Targets {
			parts := form.FindStringSubmatch(target.Expr)
			if parts == nil {
				t.Errorf("panel %q: %s is of no form that is known here", p.Title, target.Expr)
				continue
			}
			rated, label, grouped := parts[1], parts[2], parts[3]
			for _, name := range []string{rated, grouped, parts[4], parts[5]} {
				if name != "" && len(shown[name].values) == 0 && name != "gnomon_spool_oldest_unshipped_timestamp_seconds" {
					t.Errorf("panel %q: the server does not show %s", p.Title, name)
				}
			}
			if rated != "" && !shown[rated].counter {
				t.Errorf("panel %q: %s is no counter", p.Title, rated)
			}
			for labels := range shown[grouped].values {
				if !strings.Contains(","+labels, ","+label+"=") {
					t.Errorf("panel %q: %s{%s} has no label %s", p.Title, grouped, labels, label)
				}
			}
		}
	}
}

// forecasts: tasks that start together are seen, and moved apart.
func forecasts(t *testing.T, w *world) {
	w.namespace("Apart")
	for _, name := range []string{"a", "b", "c"} {
		w.task("Apart", name, api.TaskInput{Type: "Apart.Quick", Schedule: api.Schedule{Spec: "0 * * * *"}})
	}
	if out := w.says("forecast", "-n", "Apart", "--days", "2"); !regexp.MustCompile(`(?m) (47|48) +3 +█+ +a b c$`).MatchString(out) {
		t.Errorf("the forecast is\n%s", out)
	}
	if out := w.says("forecast", "spread", "Apart", "--within", "30m"); !regexp.MustCompile(`[34] → 1;`).MatchString(out) || !strings.Contains(out, "--apply") {
		t.Errorf("the proposal is\n%s", out)
	}
	if out := w.says("forecast", "-n", "Apart", "--days", "2"); !strings.Contains(out, "a b c") {
		t.Errorf("the proposal was put in force:\n%s", out)
	}
	if out := w.says("forecast", "spread", "Apart", "--within", "30m", "--apply", "--lang", "zh"); !strings.Contains(out, "已生效") {
		t.Errorf("the spread is\n%s", out)
	}
	if out := w.says("forecast", "-n", "Apart", "--days", "2"); !strings.Contains(out, "No tasks start in the same minute.") {
		t.Errorf("they still collide:\n%s", out)
	}
	w.task("Apart", "chained", api.TaskInput{Type: "Apart.Quick", Schedule: api.Schedule{Spec: "@manual"}, After: []api.Upstream{{Task: "a"}, {Task: "b", On: "always"}, {Task: "c", On: "failure"}}})
	w.task("Apart", "flow", api.TaskInput{Type: "Common.Workflow", Schedule: api.Schedule{Spec: "59 23 * * *"}, Params: api.Object(`{"steps":[{"name":"one","task":"c"},{"name":"two","task":"c","needs":["one"]}]}`)})
	if out := w.says("forecast", "-n", "Apart", "--days", "2"); !regexp.MustCompile(`(?m)^Apart/chained +(9[4-8]) +(9[4-8]) +\d{4}-`).MatchString(out) || !strings.Contains(out, "load by hour") {
		t.Errorf("two of the three that it follows bring it at each end:\n%s", out)
	}
	if out := w.says("forecast", "--task", "Apart/chained", "--days", "2"); strings.Count(out, "after a\n") < 23 || strings.Count(out, "after b\n") < 23 || strings.Contains(out, "after c") {
		t.Errorf("its fires are\n%s", out)
	}
	if out := w.says("forecast", "--task", "Apart/c", "--fires", "1000"); strings.Count(out, "step of flow") != 14 {
		t.Errorf("the steps are\n%s", out)
	}
	out, errOut, code := w.line("forecast", "--task", "Apart/c", "--fires", "2")
	if code != 0 || !regexp.MustCompile(`note: 18\d more fires`).MatchString(errOut) || strings.Count(out, "Apart/c ") != 3 {
		t.Errorf("%d\n%s%s", code, out, errOut)
	}
	out, errOut, code = w.line("forecast", "--to", "2020-01-01T00:00")
	refused(t, out, errOut, code, 4, "must be after from")
	out, errOut, code = w.line("forecast", "spread", "Apart", "--within", "0m")
	refused(t, out, errOut, code, 4, "within: must be between 1m and 59m")
}

// examines: all is well, until a task cannot run any more.
func examines(t *testing.T, w *world) {
	out, errOut, code := w.line("doctor")
	if code != 0 || errOut != "" || strings.Contains(out, "✗") {
		t.Errorf("of a healthy server the doctor says %d\n%s%s", code, out, errOut)
	}
	w.task("Bench", "lost-its-script", api.TaskInput{Type: "Bench.Vanishing", Schedule: api.Schedule{Spec: "@hourly"}})
	if err := os.Remove(filepath.Join(w.scripts, "Bench/Vanishing.lua")); err != nil {
		t.Fatal(err)
	}
	w.until(15*time.Second, "the doctor notices", func() bool {
		out, errOut, code = w.line("doctor", "--lang", "zh")
		return code == 1
	})
	if !regexp.MustCompile(`(?m)^✗ +tasks .*Bench/lost-its-script`).MatchString(out) || !strings.Contains(errOut, "有检查项不正常") {
		t.Errorf("the doctor says\n%s%s", out, errOut)
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
	w.until(15*time.Second, "both branches execute", func() bool {
		return len(w.evidenceOf(paths["step-left"])) == 1 && len(w.evidenceOf(paths["step-right"])) == 1
	})
	children := w.kill()
	w.nothingRuns(5*time.Second, children)
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
	w.nothingRuns(2*time.Second, nil)
}
