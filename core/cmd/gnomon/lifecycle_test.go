//go:build linux

package main_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/openapi"
)

// TestServerBeginsAndEnds: ready soon, closed without a token, ended by an interrupt soon although runs execute that would not
// end, with nothing left, and the same again afterwards. The limits leave room for a slow machine.
func TestServerBeginsAndEnds(t *testing.T) {
	w := newWorld(t)
	w.script("Bench/Stubborn", `return task { title = { zh = "顽固", en = "Stubborn" }, run = function(ctx) while true do pcall(function() while true do end end) end end }`)
	if took := w.start(); took > 30*time.Second {
		t.Errorf("a new server was ready after %s", took)
	}
	t.Run("TheTokenIsForItsOwnerOnly", func(t *testing.T) {
		for path, mode := range map[string]fs.FileMode{
			filepath.Join(w.data, "bootstrap-token"): 0o600, filepath.Join(w.dir, "context.json"): 0o600, w.data: 0o700,
		} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
			}
		}
		if log := read(t, w.log.Name()); strings.Contains(log, w.token) || !strings.Contains(log, "bootstrap-token") {
			t.Error("the log holds the token, or does not say where it is")
		}
	})
	t.Run("NothingIsOpenWithoutAToken", func(t *testing.T) { nothingIsOpen(t, w) })
	w.namespace("Bench")
	path := filepath.Join(w.dir, "witness.csv")
	kept := w.task("Bench", "kept", api.TaskInput{
		Type: "Bench.Witness", Schedule: api.Schedule{Spec: "@every 1s"}, Params: params(map[string]any{"path": path}), Owner: "wang", Labels: map[string]string{"team": "pacs"},
	})
	for name, kind := range map[string]string{"sleeps": "Bench.NoOp", "stubborn": "Bench.Stubborn"} {
		in := api.TaskInput{Type: kind, Schedule: api.Schedule{Spec: "@every 1s"}}
		if kind == "Bench.NoOp" {
			in.Params = api.Object(`{"sleep_ms":600000}`)
		}
		w.task("Bench", name, in)
	}
	w.until(30*time.Second, "both that do not end execute, and the third leaves evidence", func() bool {
		var live struct {
			Items []api.Run `json:"items"`
		}
		w.must("GET", "/v1/runs?live=true", nil, &live)
		executing := map[string]bool{}
		for _, r := range live.Items {
			executing[r.TaskName] = executing[r.TaskName] || r.State == "running"
		}
		_, err := os.Stat(path)
		return executing["sleeps"] && executing["stubborn"] && err == nil
	})
	var status api.Status
	w.must("GET", "/v1/server", nil, &status)
	children := descendants(w.server.Process.Pid)
	if took := w.interrupt(); took > 30*time.Second {
		t.Errorf("the server took %s to end while runs execute", took)
	} else {
		t.Logf("ended within %s while %d attempts executed", took, status.Executing)
	}
	w.nothingRuns(20*time.Second, children)
	before := w.token
	if took := w.start(); took > 30*time.Second {
		t.Errorf("the server was ready again after %s", took)
	}
	if w.token != before {
		t.Error("the second start made another token")
	}
	var again api.Task
	w.must("GET", "/v1/tasks/"+kept.ID, nil, &again)
	again.NextFire, kept.NextFire, again.NextStart, kept.NextStart, again.LastStart, again.LastEnd, again.LastSuccess, again.LastOutcome, again.LiveRuns, again.Fired = nil, nil, nil, nil, nil, nil, nil, "", 0, 0
	if a, b := text(t, kept), text(t, again); a != b {
		t.Errorf("the task was\n%s\nand is\n%s", a, b)
	}
	then := len((&evidence{path: path}).starts(t))
	w.until(30*time.Second, "the kept task fires again", func() bool { return len((&evidence{path: path}).starts(t)) > then })
	type cancelled struct {
		Outcome string `json:"outcome"`
	}
	w.until(30*time.Second, "what the interrupt ended is in history as cancelled", func() bool {
		rows, err := query[cancelled](w, "SELECT outcome FROM runs WHERE task IN ('sleeps', 'stubborn') ORDER BY fire_at")
		return err == nil && len(rows) >= 2 && rows[0].Outcome == "cancelled" && rows[1].Outcome == "cancelled"
	})
	w.interrupt()
}

func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// nothingIsOpen asks for every operation of the reviewed document, and for places it does not name.
func nothingIsOpen(t *testing.T, w *world) {
	operation := regexp.MustCompile(`(?m)^  (/[^:\n]*):\n|^    (get|put|post|patch|delete):\n`)
	path, asked := "", 0
	check := func(method, path string) {
		asked++
		for _, token := range []string{"", "Bearer gnomon_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "Basic Z25vbW9uOmdub21vbg=="} {
			request, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			if token != "" {
				request.Header.Set("Authorization", token)
			}
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			open := path == "/healthz" || path == "/readyz"
			if open != (answer.StatusCode == http.StatusOK) || !open && answer.StatusCode != http.StatusUnauthorized && !strings.HasPrefix(path, "/nowhere") {
				t.Errorf("%s %s with %q answered %s", method, path, token, answer.Status)
			}
		}
	}
	for _, found := range operation.FindAllStringSubmatch(string(openapi.Document), -1) {
		if found[1] != "" {
			path = regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(found[1], "Bench")
			continue
		}
		check(strings.ToUpper(found[2]), path)
	}
	if asked < 20 {
		t.Errorf("only %d operations found in the document", asked)
	}
	for _, path := range []string{"/nowhere", "/nowhere/debug/pprof/"} {
		check(http.MethodGet, path)
	}
}

// TestTheDayOfATask goes through the command line: create, change, disable, enable, run now, cancel, delete.
func TestTheDayOfATask(t *testing.T) {
	w := newWorld(t)
	w.start()
	do := func(args ...string) string {
		t.Helper()
		out, errOut, code := w.line(args...)
		if code != 0 || errOut != "" {
			t.Fatalf("%v: exit code %d, %s%s", args, code, out, errOut)
		}
		return out
	}
	get := func() (task api.Task) {
		t.Helper()
		if err := json.Unmarshal([]byte(do("task", "get", "Bench/day", "-o", "json")), &task); err != nil {
			t.Fatal(err)
		}
		return task
	}
	path := filepath.Join(w.dir, "witness.csv")
	begun := func() int {
		if _, err := os.Stat(path); err != nil {
			return 0
		}
		return len((&evidence{path: path}).starts(t))
	}
	do("namespace", "create", "Bench")
	do("task", "create", "-n", "Bench", "--name", "day", "--type", "Bench.Witness", "--schedule", "@every 1s", "--params", text(t, map[string]any{"path": path, "lines": 2}))
	w.until(30*time.Second, "the task fires", func() bool { return begun() > 1 })

	do("task", "disable", "Bench/day")
	w.until(30*time.Second, "what it had started has ended", func() bool { return get().LiveRuns == 0 })
	still := begun()
	pause(t.Context(), 2500*time.Millisecond)
	if now := begun(); now != still {
		t.Errorf("a disabled task fired %d times", now-still)
	}
	if out := do("task", "run", "Bench/day", "--wait"); !strings.Contains(out, "succeeded") || begun() != still+1 {
		t.Errorf("a run on demand of a disabled task: %s", out)
	}
	enabled := time.Now()
	do("task", "enable", "Bench/day")
	w.until(30*time.Second, "the enabled task fires", func() bool { return begun() > still+1 })
	for _, s := range (&evidence{path: path}).starts(t)[still+1:] {
		if s.fire.Before(enabled) {
			t.Errorf("enabling fired for %s, which was before it", s.fire)
		}
	}

	file := filepath.Join(w.dir, "day.yaml")
	write(t, file, strings.NewReplacer("@every 1s", "@every 1h", "lines: 2", "lines: 2\n  sleep_ms: 60000").Replace(do("task", "get", "Bench/day", "-o", "yaml")))
	do("task", "apply", "-f", file)
	changed := get()
	do("task", "apply", "-f", file)
	if again := get(); again.Version != changed.Version || changed.Schedule.Spec != "@every 1h" {
		t.Errorf("applied %d then %d: %+v", changed.Version, again.Version, again.Schedule)
	}
	id := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(do("task", "run", "Bench/day"))
	w.until(30*time.Second, "the run has begun", func() bool {
		_, err := os.Stat(path)
		return err == nil && strings.Contains(read(t, path), id)
	})
	cancelled := time.Now()
	do("run", "cancel", id)
	w.until(30*time.Second, "the run is cancelled", func() bool { return strings.Contains(do("run", "get", id), "cancelled") })
	if took := time.Since(cancelled); took > 30*time.Second {
		t.Errorf("cancelling took %s", took)
	}
	out, errOut, code := w.line("run", "cancel", id)
	refused(t, out, errOut, code, 4, id, "ended already")
	if lines := do("run", "logs", id); strings.Count(lines, "line") < 2 {
		t.Errorf("its log is %q", lines)
	}
	do("task", "delete", "Bench/day")
	out, errOut, code = w.line("task", "get", "Bench/day")
	refused(t, out, errOut, code, 3, "Bench/day")
	w.until(30*time.Second, "its runs are still in history", func() bool {
		out, _, code := w.line("sql", "SELECT outcome FROM runs WHERE run_id = '"+id+"'")
		return code == 0 && strings.Contains(out, "cancelled")
	})
	runs := func(of string) string {
		return do("sql", "SELECT toString(sum(n)), toString(sum(c)) FROM ("+of+") WHERE task = 'day'", "-o", "json")
	}
	w.until(3*time.Minute, "the views tell of its runs", func() bool { // roll-ups rest for a minute where a pass is slow
		return runs("SELECT task, runs AS n, cancelled AS c FROM v_success_by_day") == runs("SELECT task, 1 AS n, outcome = 'cancelled' AS c FROM runs")
	})
	w.interrupt()
	out, errOut, code = w.line("task", "list")
	refused(t, out, errOut, code, 5, w.url, "is it running")
}
