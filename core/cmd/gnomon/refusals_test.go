//go:build linux

package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
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
		if took := time.Since(began); took > 15*time.Second {
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
	w.nothingRuns(2*time.Second, nil)
}
