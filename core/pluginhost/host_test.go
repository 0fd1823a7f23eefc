package pluginhost_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/coretest"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
)

// runHost is a host of its own process, to be killed: it starts a plugin whose attempt has forked, and workers, one of
// which does not mind the host's end, and writes their PIDs to dir/pids.
func runHost(dir string) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	h, err := pluginhost.New(pluginhost.Options{Log: quiet(), RunDir: os.Getenv("GNOMON_TEST_RUN")})
	fail(err)
	fail(h.Start(ctx))
	p, err := h.Load(ctx, filepath.Join(dir, "plugin"))
	fail(err)
	exe, _ := os.Executable()
	tame, err := h.Pool(pluginhost.PoolOptions{Name: "worker", Namespace: "Test", Command: []string{exe}})
	fail(err)
	immortal, err := h.Pool(pluginhost.PoolOptions{Name: "immortal", Namespace: "Test", Command: []string{exe, "immortal"}})
	fail(err)
	go p.Execute(ctx, do("fork", "file", filepath.Join(dir, "child")).Attempt("fork"), &coretest.Sink{})
	go tame.Execute(ctx, do("fork", "file", filepath.Join(dir, "child-of-worker")).Attempt("fork"), &coretest.Sink{})
	go immortal.Execute(ctx, do("fork-away", "file", filepath.Join(dir, "child-of-immortal")).Attempt("fork"), &coretest.Sink{})
	for len(h.Processes()) < 3 || missing(dir, "child", "child-of-worker", "child-of-immortal") {
		<-time.After(5 * time.Millisecond)
	}
	text, _ := json.Marshal(h.Processes())
	fail(os.WriteFile(filepath.Join(dir, "pids.tmp"), text, 0o600))
	fail(os.Rename(filepath.Join(dir, "pids.tmp"), filepath.Join(dir, "pids")))
	select {}
}

func missing(dir string, names ...string) bool {
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join(dir, n)); err != nil || len(b) == 0 {
			return true
		}
	}
	return false
}

func TestAKilledHostLeavesNoChildAndTheNextOneEndsWhatHeldOn(t *testing.T) {
	t.Parallel()
	dir, runs := t.TempDir(), runDir(t)
	if err := os.Rename(pluginDir(t), filepath.Join(dir, "plugin")); err != nil {
		t.Fatal(err)
	}
	host := exec.Command(program(t))
	host.Env = []string{"GNOMON_TEST_HOST=" + dir, "GNOMON_TEST_RUN=" + runs}
	host.Stderr = os.Stderr
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = host.Process.Kill()
			_ = host.Wait()
		}
	})
	var processes []pluginhost.Process
	eventually(t, "the host has started its children", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "pids"))
		return err == nil && json.Unmarshal(text, &processes) == nil
	})
	var mortal, immortal []int
	for _, p := range processes {
		if p.Plugin == "immortal" {
			immortal = append(immortal, p.PID)
		} else {
			mortal = append(mortal, p.PID)
		}
	}
	mortal = append(mortal, pidIn(t, filepath.Join(dir, "child")), pidIn(t, filepath.Join(dir, "child-of-worker")))
	immortal = append(immortal, pidIn(t, filepath.Join(dir, "child-of-immortal")))
	for _, pid := range append(mortal, immortal...) {
		if !alive(pid) {
			t.Fatalf("%d is not alive", pid)
		}
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	ended = true
	eventually(t, "the children are dead", func() bool {
		for _, pid := range mortal {
			if alive(pid) {
				return false
			}
		}
		return true
	})
	h, err := pluginhost.New(pluginhost.Options{Log: quiet(), RunDir: runs})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what held on is dead", func() bool {
		for _, pid := range immortal {
			if alive(pid) {
				return false
			}
		}
		return true
	})
	if err := h.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTwoHostsDoNotShareARunFolder(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	setup(t, func(o *pluginhost.Options) { o.RunDir = dir })
	h, err := pluginhost.New(pluginhost.Options{Log: quiet(), RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); core.KindOf(err) != core.KindConflict || err == nil {
		t.Fatalf("err %v", err)
	}
	if err := h.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStopEndsEverythingAndMayBeCalledTwice(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	h := setup(t, func(o *pluginhost.Options) { o.RunDir = dir })
	p, w := load(t, h), pool(t, h)
	var ran sync.WaitGroup
	for _, e := range []core.Executor{p, w} {
		ran.Go(func() {
			if out, _ := run(t, t.Context(), e, do("stubborn"), "stubborn"); out.Verdict != core.Crashed || !strings.Contains(out.Message, "stopping") {
				t.Errorf("outcome %+v", out)
			}
		})
	}
	eventually(t, "both run", func() bool { return len(h.Processes()) == 2 })
	pids := h.Processes()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for range 2 {
		if err := h.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	ran.Wait()
	for _, one := range pids {
		if alive(one.PID) {
			t.Errorf("%s is alive", one.Plugin)
		}
	}
	if _, err := h.Load(t.Context(), t.TempDir()); err == nil {
		t.Error("a stopped host loads")
	}
	for _, e := range []core.Executor{p, w} {
		if _, err := e.Execute(t.Context(), do("talk").Attempt("late"), &coretest.Sink{}); core.KindOf(err) != core.KindUnavailable || err == nil {
			t.Errorf("err %v", err)
		}
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 || left[0].Name() != "lock" {
		t.Errorf("left behind: %v", left)
	}
}

func TestProcessesSayWhatRunsWhere(t *testing.T) {
	t.Parallel()
	h := setup(t)
	p, w := load(t, h), pool(t, h)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var ran sync.WaitGroup
	for i := range 2 {
		ran.Go(func() { run(t, ctx, p, do("wait"), "shared-"+strconv.Itoa(i)) })
	}
	ran.Go(func() { run(t, ctx, w, do("wait"), "alone") })
	eventually(t, "all run", func() bool {
		shared, alone := 0, 0
		for _, one := range h.Processes() {
			switch {
			case one.Plugin == "wild" && one.Version == "1.0.0" && one.Namespace == "" && !one.Alone && one.PID > 0 && one.StartTicks > 0:
				shared = len(one.Running)
			case one.Plugin == "worker" && one.Namespace == "Test" && one.Alone && len(one.Running) == 1 && one.Running[0].RunID == "alone":
				alone++
			}
		}
		return shared == 2 && alone == 1
	})
	cancel(core.ErrRunCancelled)
	ran.Wait()
	for _, one := range h.Processes() {
		if len(one.Running) != 0 {
			t.Errorf("still running: %+v", one)
		}
	}
}

// fastClock is a hundred times as fast as the real one.
type fastClock struct{ began time.Time }

func (c fastClock) Now() time.Time { return c.began.Add(100 * time.Since(c.began)) }
func (c fastClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d/100, f).Stop
}

func TestTheBreakerOpensAndRecovers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "broken")
	// Crashes at start as long as the file exists.
	script := fmt.Sprintf("test -e %s && exit 5; exec %s", file, program(t))
	h := setup(t, func(o *pluginhost.Options) { o.Clock = fastClock{time.Now()} })
	p, err := h.Load(t.Context(), scriptDir(t, script))
	if err != nil {
		t.Fatal(err)
	}
	other := load(t, h)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := run(t, t.Context(), p, do("exit"), "exit"); out.Verdict != core.Crashed {
		t.Fatalf("outcome %+v", out)
	}
	eventually(t, "the breaker is open", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := p.Execute(ctx, do("talk").Attempt("open"), &coretest.Sink{})
		return core.KindOf(err) == core.KindUnavailable && strings.Contains(err.Error(), "will be started again at 20")
	})
	if out, _ := run(t, t.Context(), other, do("talk"), "other"); out.Verdict != core.Succeeded {
		t.Errorf("the other plugin: %+v", out)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it runs again", func() bool {
		out, err := p.Execute(t.Context(), do("talk").Attempt("recovered"), &coretest.Sink{})
		return err == nil && out.Verdict == core.Succeeded
	})
}
