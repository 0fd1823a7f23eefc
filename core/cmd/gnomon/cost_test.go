//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// TestCostsAddUp runs the sample work on a real server and holds what v_cost adds up to against what the kernel says that
// the server and everything below it has used, read by the test itself.
func TestCostsAddUp(t *testing.T) {
	const runs, off = 50 * time.Second, 0.05
	w := newWorld(t)
	w.sampleWork()
	group := newCPUGroup(t)
	w.wrap = group.enter()
	w.start("--config", filepath.Join(repository(), "deploy/demo/gnomon.yaml"))
	if _, errOut, code := w.line("apply", filepath.Join(repository(), "deploy/demo/tasks")); code != 0 {
		t.Fatalf("apply: %s", errOut)
	}
	server := w.server.Process.Pid
	pause(t.Context(), runs)
	before := familyCPU(server)
	counted, hasGroup := group.used()
	at := time.Now().UTC()
	pause(t.Context(), time.Second)
	after := familyCPU(server) // the last readings lie between the two: a second in which the engine may have worked hard
	countedAfter, _ := group.used()

	type sums struct {
		CPU   float64 `json:"cpu"`
		Rows  uint64  `json:"rows"`
		Until string  `json:"until"`
	}
	const when = "2006-01-02 15:04:05.000000"
	var recorded sums
	w.until(30*time.Second, "the readings around that moment are in history", func() bool {
		rows, err := query[sums](w, "SELECT sum(spent_cpu_us) / 1e6 AS cpu, count() AS rows, toString(max(at)) AS until FROM plugin_samples WHERE at <= toDateTime64('"+at.Add(time.Second).Format(when)+"', 6, 'UTC')")
		if err != nil || len(rows) == 0 {
			return false
		}
		recorded = rows[0]
		latest := mustQuery[sums](w, "SELECT toString(max(at)) AS until FROM plugin_samples")
		return latest[0].Until > at.Add(time.Second).Format(when)
	})
	t.Logf("%d readings say that Gnomon has used %.2f s of CPU; the test's own readings of /proc a second apart: %.2f and %.2f s, control group: %.2f and %.2f s (%t)", recorded.Rows, recorded.CPU, before.Seconds(), after.Seconds(), counted.Seconds(), countedAfter.Seconds(), hasGroup)
	near(t, "the readings, by the test's reading of /proc", recorded.CPU, min(max(recorded.CPU, before.Seconds()), after.Seconds()), off)
	if hasGroup {
		near(t, "the readings, by the control group", recorded.CPU, min(max(recorded.CPU, counted.Seconds()), countedAfter.Seconds()), off)
	}

	type line struct {
		Kind, Namespace, Task, Plugin string
		Source                        string `json:"cpu_source"`
		Attempts                      uint64
		CPU                           float64 `json:"cpu"`
		RSS                           float64 `json:"rss"`
	}
	// Both sides once more from the same rows: what v_cost adds up to is what the trees used, of which the runs are a part.
	state := w.server
	_ = w.interrupt()
	all := state.ProcessState.UserTime() + state.ProcessState.SystemTime() // wait4(2): its own and that of all children it waited for
	first := mustServer(t, w)
	now := mustQuery[sums](w, "SELECT toString(now64(6, 'UTC')) AS until")[0].Until
	w.until(3*time.Minute, "all that is in history by now is rolled up", func() bool {
		rows, err := query[sums](w, "SELECT toString(max(computed_at)) AS until FROM rollups WHERE namespace = '*' AND day = toDate(0)")
		return err == nil && len(rows) == 1 && rows[0].Until > now
	})
	costs := mustQuery[line](w, "SELECT kind, namespace, task, plugin, any(cpu_source) AS cpu_source, sum(attempts) AS attempts, sum(cpu_s) AS cpu, sum(rss_byte_s) AS rss FROM v_cost WHERE server = '"+first+"' GROUP BY kind, namespace, task, plugin ORDER BY cpu DESC")
	trees := mustQuery[sums](w, "SELECT sum(spent_cpu_us) / 1e6 AS cpu, count() AS rows FROM plugin_samples WHERE server = '"+first+"'")[0]
	memory := mustQuery[sums](w, "SELECT sum(spent_rss_byte_s) / 1e6 AS cpu, count() AS rows FROM plugin_samples WHERE server = '"+first+"'")[0]
	var cpu, rss float64
	kinds, working := map[string]float64{}, map[string]bool{}
	for _, c := range costs {
		cpu, rss = cpu+c.CPU, rss+c.RSS
		kinds[c.Kind] += c.CPU
		if c.Kind == "run" && c.CPU > 0 {
			working[c.Namespace+"/"+c.Task] = true
		}
		t.Logf("%-10s %-30s %-13s %-8s %3d attempts %8.3f s %8.1f MB·s", c.Kind, c.Namespace+"/"+c.Task, c.Plugin, c.Source, c.Attempts, c.CPU, c.RSS/1e6)
	}
	t.Logf("v_cost: %.2f s, of it %v; trees: %.2f s; wait4 of the server, its end included: %.2f s", cpu, kinds, trees.CPU, all.Seconds())
	near(t, "v_cost, by the readings", cpu, trees.CPU, 0.001)
	near(t, "v_cost in byte-seconds, by the readings", rss/1e6, memory.CPU, 0.001)
	near(t, "v_cost, by what the kernel told the server's parent", cpu, all.Seconds(), off)
	for _, kind := range []string{"run", "plugin", "lua_worker", "server", "engine"} {
		if kinds[kind] <= 0 {
			t.Errorf("%s has cost nothing", kind)
		}
	}
	if len(working) < 8 {
		t.Errorf("of the sample work only %d tasks have a cost: %v", len(working), working)
	}
	type life struct{ Host, Version, Ended string }
	if l := mustQuery[life](w, "SELECT host, version, toString(ended_at) AS ended FROM servers WHERE server = '"+first+"'"); len(l) != 1 || l[0].Host == "" || l[0].Ended == "" {
		t.Errorf("the server's life: %+v", l)
	}
}

func near(t *testing.T, what string, got, want, off float64) {
	t.Helper()
	if want <= 0 || got < want*(1-off) || got > want*(1+off) {
		t.Errorf("%s: %.3f, not within %g %% of %.3f", what, got, off*100, want)
	} else {
		t.Logf("%s: off by %+.2f %%", what, (got/want-1)*100)
	}
}

// mustServer starts the server again, without work, and gives the id of the one before.
func mustServer(t *testing.T, w *world) string {
	t.Helper()
	w.wrap = nil
	w.start("--no-context")
	type server struct{ Server string }
	var found []server
	w.until(30*time.Second, "the end of the first server is in history", func() bool {
		found, _ = query[server](w, "SELECT server FROM servers WHERE isNotNull(ended_at)")
		return len(found) == 1
	})
	return found[0].Server
}

// sampleWork gives the world the plugins and scripts of the demo, and opens its hospital.
func (w *world) sampleWork() {
	w.t.Helper()
	w.scripts, w.plugins = filepath.Join(repository(), "scripts"), filepath.Join(w.dir, "plugins")
	for _, name := range []string{"common", "imagearchive", "monitor", "noop"} {
		dir := filepath.Join(w.plugins, name)
		if err := compile("plugins/"+name, filepath.Join(dir, name)); err != nil {
			w.t.Fatal(err)
		}
		if err := seal(dir, name, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	program := filepath.Join(w.dir, "hospital-program")
	if err := compile("deploy/demo/hospital", program); err != nil {
		w.t.Fatal(err)
	}
	var said bytes.Buffer
	hospital := exec.Command(program, "run", "--gnomon", "", "--dir", w.dir)
	hospital.Stderr, hospital.Env = &said, w.environment()
	out, err := hospital.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := hospital.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = hospital.Process.Signal(syscall.SIGTERM)
		_ = hospital.Wait()
	})
	if _, err := out.Read(make([]byte, 256)); err != nil { // it says when it is open
		w.t.Fatalf("the hospital does not open: %v %s", err, said.String())
	}
	w.env = append(w.env, "HOSPITAL_DIR="+filepath.Join(w.dir, "hospital"))
}

// familyCPU adds up, from /proc, what a process, its living descendants and all that they have waited for have used.
func familyCPU(pid int) time.Duration {
	var all time.Duration
	pids := []int{pid}
	for _, p := range descendants(pid) {
		pids = append(pids, p.pid)
	}
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime: proc(5) fields 14 to 17
			ticks, _ := strconv.Atoi(f)
			all += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return all
}

// cpuGroup is a control group of the test's own that counts the server and all its children, whatever Gnomon says.
type cpuGroup struct{ dir string }

func newCPUGroup(t *testing.T) cpuGroup {
	t.Helper()
	dir := filepath.Join("/sys/fs/cgroup/cpuacct", fmt.Sprintf("gnomon-test-%d", os.Getpid()))
	if os.Mkdir(dir, 0o755) != nil {
		return cpuGroup{} // no such hierarchy, or not ours: /proc and wait4 judge alone
	}
	t.Cleanup(func() {
		for range 100 {
			if os.Remove(dir) == nil {
				return
			}
			pause(t.Context(), 10*time.Millisecond)
		}
	})
	return cpuGroup{dir}
}

// enter gives the command that begins in the group what follows it.
func (g cpuGroup) enter() []string {
	if g.dir == "" {
		return nil
	}
	return []string{"/bin/sh", "-c", `echo $$ > "$0/cgroup.procs"; exec "$@"`, g.dir}
}

func (g cpuGroup) used() (time.Duration, bool) {
	text, err := os.ReadFile(filepath.Join(g.dir, "cpuacct.usage"))
	if g.dir == "" || err != nil {
		return 0, false
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return time.Duration(ns), err == nil
}

// TestTheNoisiestNeighboursComeFirst has a script that burns CPU and a plugin's task type that holds memory among others.
func TestTheNoisiestNeighboursComeFirst(t *testing.T) {
	w := newWorld(t)
	w.script("Clinic/Burn", script(`local x = 0 local until_ms = time.now() + 12000 while time.now() < until_ms do for i = 1, 100000 do x = (x * 31 + i) % 1000003 end end return { x = x }`))
	w.script("Clinic/Quiet", script(`return {}`))
	w.start("--no-context")
	w.namespace("Bench")
	w.namespace("Clinic")
	for i := range 6 {
		w.task("Bench", fmt.Sprintf("work-%d", i), api.TaskInput{Type: "Bench.Work", Schedule: api.Schedule{Spec: "@every 1s"}, Params: params(map[string]any{"millis": 50})})
		w.task("Clinic", fmt.Sprintf("quiet-%d", i), api.TaskInput{Type: "Clinic.Quiet", Schedule: api.Schedule{Spec: "@every 1s"}})
	}
	burner := w.task("Clinic", "burner", api.TaskInput{Type: "Clinic.Burn", Schedule: api.Schedule{Spec: "@manual"}})
	hog := w.task("Bench", "hog", api.TaskInput{Type: "Bench.Burn", Schedule: api.Schedule{Spec: "@manual"}, Params: params(map[string]any{"memory_mib": 600, "sleep_ms": 12000})})
	for _, task := range []api.Task{burner, hog} {
		w.must("POST", "/v1/tasks/"+task.ID+"/run", nil, nil)
	}
	type line struct {
		Task   string
		Plugin string
		Noise  float64
		CPU    float64 `json:"cpu"`
		Memory float64 `json:"memory"`
	}
	var lines []line
	w.until(3*time.Minute, "both have ended and are rolled up", func() bool {
		rows, err := query[line](w, `SELECT concat(namespace, '/', task) AS task, any(plugin) AS plugin, max(noise) AS noise, max(cpu_share) AS cpu, max(rss_share) AS memory
			FROM v_noisy_neighbours GROUP BY namespace, task ORDER BY noise DESC`)
		lines = rows
		seen := 0
		for _, l := range lines {
			if l.Task == "Clinic/burner" || l.Task == "Bench/hog" {
				seen++
			}
		}
		return err == nil && seen == 2
	})
	for _, l := range lines[:min(5, len(lines))] {
		t.Logf("%-16s %-10s noise %.5f: cpu %.5f, memory %.5f", l.Task, l.Plugin, l.Noise, l.CPU, l.Memory)
	}
	// Which of the two is noisier depends on how much of a core the machine has left for the script.
	first := map[string]line{}
	for _, l := range lines[:2] {
		first[l.Task] = l
	}
	burnt, held := first["Clinic/burner"], first["Bench/hog"]
	if len(lines) < 10 || burnt.Noise == 0 || burnt.Noise != burnt.CPU || held.Noise == 0 || held.Noise != held.Memory || lines[1].Noise < 2*lines[2].Noise {
		t.Errorf("the first lines of %d: %+v", len(lines), lines[:min(3, len(lines))])
	}
}
