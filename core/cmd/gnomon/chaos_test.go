//go:build linux

package main_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

var kills = flag.Int("kills", 4, "how often TestKillingTheServer kills the server")

// missedAfter is how late a fire may be and still start as if in time; an outage beyond it needs the catch-up policy.
const missedAfter = 10 * time.Second

// load creates tasks of every kind of schedule and policy that leave evidence, and Lua tasks beside them.
func load(w *world, tasks int) []*evidence {
	w.namespace("Bench")
	var all []*evidence
	for i := range tasks {
		e := &evidence{path: filepath.Join(w.dir, fmt.Sprintf("witness-%02d.csv", i)), lines: 3 + i%4, step: time.Second}
		schedule := api.Schedule{Spec: []string{"@every 1s", "* * * * * *", "*/2 * * * * *"}[i%3]}
		if i%3 == 2 {
			e.step = 2 * time.Second
		}
		policies := api.Policies{
			Overlap: []string{"skip", "allow"}[i%2], CatchUp: []string{"latest", "none"}[i/2%2],
			MaxAttempts: new([]int{1, 3}[i/4%2]), RetryDelay: []string{"", "500ms"}[i/4%2],
		}
		e.task = w.task("Bench", fmt.Sprintf("witness-%02d", i), api.TaskInput{
			Type: "Bench.Witness", Schedule: schedule, Policies: &policies,
			Params: params(map[string]any{"path": e.path, "lines": e.lines, "sleep_ms": i % 6 * 230}),
		})
		all = append(all, e)
	}
	for i := range 6 {
		kind := []string{"Bench.LuaNoOp", "Bench.LuaNoOp", "Bench.LuaSlow"}[i%3]
		all = append(all, &evidence{step: time.Second, task: w.task("Bench", fmt.Sprintf("lua-%d", i), api.TaskInput{
			Type: kind, Schedule: api.Schedule{Spec: "@every 1s"}, Policies: &api.Policies{MaxAttempts: new(1 + i%2), RetryDelay: []string{"", "500ms"}[i%2]},
		})})
	}
	return all
}

const luaSlow = `return task {
  title = { zh = "慢任务", en = "Slow" },
  run = function(ctx)
    log.info("begins")
    time.sleep("300ms")
    log.info("ends")
  end,
}`

// TestKillingTheServer is promises 1, 2, 6, 11, 15 and 22: kill -9 of the server under load at random moments, once with
// an outage longer than catch-up waits for.
func TestKillingTheServer(t *testing.T) {
	w := newWorld(t)
	w.script("Bench/LuaSlow", luaSlow)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	w.start("--no-context")
	tasks := load(w, 60)
	reader := newReader()
	outage := random.IntN(*kills)
	for k := range *kills {
		lives := 500*time.Millisecond + time.Duration(random.Int64N(int64(3500*time.Millisecond)))
		if k > 0 && random.IntN(4) == 0 { // in the middle of recovering from the kill before
			lives = time.Duration(random.Int64N(int64(time.Second)))
			w.spawn("--no-context")
			pause(t.Context(), lives)
		} else {
			if k > 0 {
				w.start("--no-context")
			}
			stop := reader.follow(w)
			pause(t.Context(), lives)
			defer stop() // a reader that lost its server ends by itself
		}
		children := w.kill()
		t.Logf("kill %d after %s with %d children", k+1, lives.Round(time.Millisecond), len(children))
		w.nothingRuns(20*time.Second, children)
		if k == outage {
			pause(t.Context(), missedAfter+2*time.Second)
		}
	}
	w.start("--no-context")
	seen := settle(w, tasks)
	seen.check(t, tasks)
	seen.checkCatchUp(t, tasks)
	seen.checkLines(t, tasks, reader)
	for _, kind := range []string{" engine ", "/noop"} {
		if found := w.children(kind); len(found) != 1 {
			t.Errorf("there are %d children %q: %v", len(found), kind, found)
		}
	}
	if took := w.interrupt(); took > 10*time.Second {
		t.Errorf("the server took %s to end", took)
	}
	w.nothingRuns(20*time.Second, nil)
}

// TestKillingChildren is promise 20 and the rest of 22: kill -9 of the engine, a Lua worker and the plugin. The server
// goes on, what ran there ends as crashed, and nothing is lost or doubled.
func TestKillingChildren(t *testing.T) {
	w := newWorld(t)
	w.script("Bench/LuaSlow", luaSlow)
	w.start("--no-context")
	tasks := load(w, 24)
	reader := newReader()
	stop := reader.follow(w)
	for _, kind := range []string{" engine ", "noop", " lua-worker ", "noop", " lua-worker ", " engine "} {
		pause(t.Context(), 1500*time.Millisecond)
		var victims []process
		w.until(30*time.Second, "there is a child "+kind, func() bool { victims = w.children(kind); return len(victims) > 0 })
		victim := victims[len(victims)-1]
		t.Logf("kill %s", victim)
		if err := syscall.Kill(victim.pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.until(30*time.Second, "another child "+kind+" has taken its place", func() bool {
			for _, p := range w.children(kind) {
				if p.pid != victim.pid || p.ticks != victim.ticks {
					return true
				}
			}
			return false
		})
	}
	pause(t.Context(), 2*time.Second)
	stop()
	seen := settle(w, tasks)
	seen.check(t, tasks)
	seen.checkLines(t, tasks, reader)
	crashed := map[string]int{}
	for _, a := range seen.attempts {
		switch a.Outcome {
		case "succeeded":
		case "crashed":
			crashed[a.TaskType]++
		default:
			t.Errorf("an attempt of %s ended as %s: %s", a.Task, a.Outcome, a.Message)
		}
	}
	t.Logf("crashed: %v", crashed)
	if crashed["Bench.Witness"] == 0 {
		t.Error("no attempt in the killed plugin ended as crashed")
	}
	log := read(t, w.log.Name())
	if strings.Contains(log, "panic") {
		t.Error("the server's log speaks of a panic")
	}
	w.interrupt()
	w.nothingRuns(20*time.Second, nil)
}
