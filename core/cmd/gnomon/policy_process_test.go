//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	w.until(30*time.Second, "run "+id+" has ended", func() bool { r = w.run(id); return r.State == "ended" })
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

// patient gives what is cancelled half an hour to stop: longer than the two seconds after which its process is killed, in which
// there may be attempts of others.
var patient = api.Policies{SoftTimeout: "30m", Timeout: "1h"}

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
	w.script("Bench/Sleeper", "return task {\n  title = { zh = \"试\", en = \"Trial\" },\n  run = function(ctx) time.sleep(\"10m\") end,\n}")
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
		w.until(30*time.Second, "what was due by now is decided", func() bool {
			var tasks struct{ Items []api.Task }
			w.must("GET", "/v1/tasks?namespace=Bench&limit=1000", nil, &tasks)
			return !slices.ContainsFunc(tasks.Items, func(task api.Task) bool { return task.NextFire != nil && !task.NextFire.After(to) })
		})
		write(t, clock, "1m") // what is younger than 30 s is left out: such decisions may be on their way
		w.until(30*time.Second, "the last moments before are reconciled", func() bool {
			out, errOut, code := w.line("reconcile", "-n", "Bench", "--from", began.UTC().Format(time.RFC3339), "--to", to.UTC().Format(time.RFC3339))
			if code != 0 {
				t.Fatalf("%d\n%s%s", code, out, errOut)
			}
			return errOut == "" && strings.Contains(out, "Bench/rests")
		})
	})
	w.interrupt()
	w.nothingRuns(20*time.Second, nil)
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
	// What the calendars refuse is not what the schedule does not have. The first of June 2024 is a Saturday.
	off := false
	w.works("never", "0 * * * *", nil, api.Policies{}, func(in *api.TaskInput) { in.Schedule.OnlyOn, in.Enabled = []string{"weekdays"}, &off })
	args = []string{"task", "backfill", "Bench/never", "--from", "2024-06-01", "--to", "2024-06-03T00:00:30Z", "--limit", "1", "--dry-run"}
	if _, out, _ := w.line(append(args, "--to", "2024-06-03")...); !strings.Contains(out, "calendar weekdays refuses 48 instants of the schedule in that time") {
		t.Errorf("of a weekend it says %q", out)
	}
	if out := w.says(append(args, "--lang", "zh")...); !strings.Contains(out, "将运行 1 次") || !strings.Contains(out, "此外，这段时间里计划有 48 个时刻是日历 weekdays 不允许的，不会运行") {
		t.Errorf("of a weekend and the Monday it says %q", out)
	}
	if out := w.says(append(args, "--from", "2024-05-31")...); !strings.Contains(out, "would start 1 run,") || strings.Contains(out, "refuses") {
		t.Errorf("of the first instant it says %q", out)
	}
	out, errOut, code := w.line("task", "backfill", "Bench/fills", "--from", from.Format(time.RFC3339), "--to", to.Add(48*time.Hour).Format(time.RFC3339))
	refused(t, out, errOut, code, 4, "to: must not be later than now")
}

// pauses: nothing starts while the task is paused, and nothing of it afterwards.
func pauses(t *testing.T, w *world) {
	task, path := w.works("rests", "@every 1s", nil, api.Policies{}, nil)
	w.until(30*time.Second, "it fires", func() bool { return len(w.evidenceOf(path)) > 0 })
	if out := w.says("task", "pause", "Bench/rests", "--note", "ERP is being moved", "--until", "2h"); !strings.Contains(out, "paused Bench/rests") || !strings.Contains(out, "ERP is being moved") {
		t.Errorf("%q", out)
	}
	paused := time.Now()
	w.until(30*time.Second, "what was due before is decided, and what it had started has ended", func() bool {
		var now api.Task
		w.must("GET", "/v1/tasks/"+task.ID, nil, &now)
		return now.NextFire.After(paused) && now.LiveRuns == 0
	})
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
	w.until(30*time.Second, "it fires again", func() bool { return len(w.evidenceOf(path)) > before })
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
	w.until(30*time.Second, "the breaker opens and a fire waits at it", func() bool {
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
	w.until(30*time.Second, "what waited goes on", func() bool { return len(begun(w.evidenceOf(path))) > 2 })
	if out := w.says("downstream", "list"); !regexp.MustCompile(`erp +closed`).MatchString(out) {
		t.Errorf("the downstreams are %s", out)
	}
	out, errOut, code := w.line("breaker", "reset", "downstream:nix")
	refused(t, out, errOut, code, 3, "nix")
	w.must("DELETE", "/v1/tasks/"+task.ID, nil, nil)
}

// queues: a pool of one slot; who waits is seen in the order in which they go on, and why.
func queues(t *testing.T, w *world) {
	write(t, filepath.Join(w.dir, "pool.yaml"), "slots: 1\ndescription: licences\n")
	w.says("pool", "put", "licence", "-f", filepath.Join(w.dir, "pool.yaml"))
	path := filepath.Join(w.dir, "pooled.csv")
	pooled := func(name string, priority int) api.Task {
		policies := patient
		policies.Priority, policies.Pools = new(priority), []api.PoolUse{{Pool: "licence"}}
		task, _ := w.works(name, "@manual", map[string]any{"path": path, "millis": 10}, policies, nil)
		return task
	}
	holder, low, middle, high := pooled("holder", 0), pooled("low", -10), pooled("middle", 0), pooled("high", 10)
	held := w.now(holder, map[string]any{"millis": 600_000})
	w.until(30*time.Second, "the pool is taken", func() bool { return len(begun(w.evidenceOf(path))) == 1 })
	order := []string{held}
	for _, task := range []api.Task{low, middle, high} {
		order = append(order, w.now(task, nil))
	}
	slices.Reverse(order[1:])
	var lines []string
	w.until(30*time.Second, "three runs wait", func() bool {
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
	// In a process of its own: a plugin's, which the other roads share, is killed if what is terminated is not gone within a second.
	task := w.task("Bench", "slow", api.TaskInput{Type: "Bench.Sleeper", Schedule: api.Schedule{Spec: "@manual"}, Policies: &api.Policies{SLA: &api.SLA{MaxDuration: "1s", FinishWithin: "1s"}}})
	id := w.now(task, nil)
	var out string
	w.until(30*time.Second, "the run has missed its service levels", func() bool {
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
	w.task("Apart", "twice", api.TaskInput{Type: "Apart.Quick", Schedule: api.Schedule{Spec: "45 5 * * *"}, Policies: &api.Policies{MaxRuns: new(2)}})
	if out := w.says("forecast", "-n", "Apart"); !regexp.MustCompile(`(?m)^Apart/twice +2 `).MatchString(out) {
		t.Errorf("its schedule starts two runs in all:\n%s", out)
	}
	for _, name := range []string{"due-a", "due-b"} {
		w.task("Apart", name, api.TaskInput{Type: "Apart.Quick", Schedule: api.Schedule{Spec: "30 4 * * *"}, Policies: &api.Policies{SLA: &api.SLA{FinishBy: new("04:31")}}})
	}
	if out := w.says("forecast", "spread", "Apart", "--within", "10m"); !regexp.MustCompile(`(?m)^due-[ab] +30 4 \* \* \* +29 4 \* \* \* +-1m`).MatchString(out) {
		t.Errorf("at 31 past it has ended a day later:\n%s", out)
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
	w.until(30*time.Second, "the doctor notices", func() bool {
		out, errOut, code = w.line("doctor", "--lang", "zh")
		return code == 1
	})
	if !regexp.MustCompile(`(?m)^✗ +tasks .*Bench/lost-its-script`).MatchString(out) || !strings.Contains(errOut, "有检查项不正常") {
		t.Errorf("the doctor says\n%s%s", out, errOut)
	}
}
