package sampler_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/sampler"
)

func TestMain(m *testing.M) {
	if todo := os.Getenv("GNOMON_TEST_CHILD"); todo != "" {
		child(strings.Split(todo, ","))
		return
	}
	goleak.VerifyTestMain(m)
}

var kept []byte

// child does what it is told, says "ready", and ends when its standard input does.
func child(todo []string) {
	for _, what := range todo {
		switch what {
		case "burn":
			burn(300 * time.Millisecond)
		case "alloc":
			kept = make([]byte, 64<<20)
			for i := range kept {
				kept[i] = 1
			}
		case "fork": // a child that burns, ends and is waited for
			_ = again("burn,exit", nil).Run()
		case "keep": // a child that burns and stays
			in, _ := io.Pipe()
			_ = started(again("burn,alloc", in))
		case "write":
			f, err := os.CreateTemp("", "sampler")
			if err == nil {
				_, _ = f.Write(make([]byte, 1<<20))
				_ = f.Sync()
				_ = os.Remove(f.Name())
			}
		case "files":
			for range 20 {
				_, _ = os.Open("/dev/null")
			}
		case "exit":
			return
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// burn uses CPU time of its own: on a busy machine that takes longer than it says.
func burn(d time.Duration) {
	used := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for from := used(); used()-from < d; {
	}
}

func again(todo string, stdin io.Reader) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), "GNOMON_TEST_CHILD="+todo)
	cmd.Stdin = stdin
	return cmd
}

// started waits until a child is ready.
func started(cmd *exec.Cmd) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	return err
}

// spawn starts a child in its own process group; the group is killed when the test ends.
func spawn(t *testing.T, exe, todo string) int {
	t.Helper()
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := again(todo, in)
	cmd.Path = exe
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := started(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = in.Close()
		_ = feed.Close()
	})
	return cmd.Process.Pid
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func tree(t *testing.T, pid int) core.ProcSample {
	t.Helper()
	s, err := sampler.Tree(pid)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTree(t *testing.T) {
	t.Parallel()

	t.Run("CountsWhatAProcessBurnsAllocatesOpensAndWrites", func(t *testing.T) {
		t.Parallel()
		idle, busy := tree(t, spawn(t, self(t), "idle")), tree(t, spawn(t, self(t), "burn,alloc,files,write"))
		if busy.CPU-idle.CPU < 200*time.Millisecond || busy.CPU > 5*time.Second {
			t.Errorf("CPU %s, idle %s", busy.CPU, idle.CPU)
		}
		if busy.RSSBytes < 64<<20 || idle.RSSBytes > 40<<20 || idle.RSSBytes == 0 {
			t.Errorf("RSS %d, idle %d", busy.RSSBytes, idle.RSSBytes)
		}
		if busy.FDs-idle.FDs < 20 || idle.FDs < 3 {
			t.Errorf("descriptors %d, idle %d", busy.FDs, idle.FDs)
		}
		if busy.WriteBytes < 1<<20 {
			t.Errorf("%d bytes written", busy.WriteBytes)
		}
		if idle.Processes != 1 || idle.Threads < 1 || time.Since(idle.At) > time.Minute {
			t.Errorf("%+v", idle)
		}
	})

	t.Run("CountsChildrenThatEndedAndThatLive", func(t *testing.T) {
		t.Parallel()
		ended, live := tree(t, spawn(t, self(t), "fork")), tree(t, spawn(t, self(t), "keep"))
		if ended.CPU < 250*time.Millisecond || ended.Processes != 1 {
			t.Errorf("ended: %+v", ended)
		}
		if live.CPU < 250*time.Millisecond || live.Processes != 2 || live.RSSBytes < 64<<20 {
			t.Errorf("live: %+v", live)
		}
	})

	t.Run("ReadsAProcessWhateverItsName", func(t *testing.T) {
		t.Parallel()
		exe := filepath.Join(t.TempDir(), "a) S 1 (b")
		if err := os.Link(self(t), exe); err != nil {
			b, err := os.ReadFile(self(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(exe, b, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		pid := spawn(t, exe, "burn")
		if s := tree(t, pid); s.CPU < 250*time.Millisecond || s.Processes != 1 {
			t.Errorf("%+v", s)
		}
		if ticks, err := sampler.StartTicks(pid); err != nil || ticks == 0 {
			t.Errorf("%d %v", ticks, err)
		}
	})

	t.Run("SaysThatAProcessIsGone", func(t *testing.T) {
		t.Parallel()
		if _, err := sampler.Tree(1 << 22); core.KindOf(err) != core.KindNotFound {
			t.Errorf("%v", err)
		}
		if _, err := sampler.StartTicks(1 << 22); core.KindOf(err) != core.KindNotFound {
			t.Errorf("%v", err)
		}
	})

	t.Run("SelfIsThisProcess", func(t *testing.T) {
		t.Parallel()
		if s, err := sampler.Self(); err != nil || s.RSSBytes == 0 || s.Threads < 2 {
			t.Errorf("%+v %v", s, err)
		}
	})
}

type sink struct {
	mu      sync.Mutex
	err     error
	plugins []core.PluginSample
	runs    []core.RunSample
	hosts   []core.HostSample
}

func put[T any](k *sink, list *[]T, v T) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		*list = append(*list, v)
	}
	return k.err
}

func (k *sink) RecordPlugin(_ context.Context, s core.PluginSample) error {
	return put(k, &k.plugins, s)
}
func (k *sink) RecordRun(_ context.Context, s core.RunSample) error   { return put(k, &k.runs, s) }
func (k *sink) RecordHost(_ context.Context, s core.HostSample) error { return put(k, &k.hosts, s) }

func (k *sink) counts() (plugins, runs, hosts int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.plugins), len(k.runs), len(k.hosts)
}

func build(t *testing.T, opts sampler.Options) *sampler.Sampler {
	t.Helper()
	opts.Log, opts.DataDir = slog.New(slog.DiscardHandler), t.TempDir()
	s, err := sampler.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSampler(t *testing.T) {
	t.Parallel()
	origin := core.Origin{RunID: "r1", Attempt: 1, Namespace: "Common"}

	t.Run("AnAttemptAloneIsMeasuredFromItsBase", func(t *testing.T) {
		t.Parallel()
		pid := spawn(t, self(t), "burn")
		start, err := sampler.StartTicks(pid)
		if err != nil {
			t.Fatal(err)
		}
		var k sink
		target := sampler.Target{PID: pid, StartTicks: start, Plugin: "lua-worker", Version: "1", Namespace: "Common", Running: []core.Origin{origin}, Alone: true}
		for _, c := range []struct {
			base core.ProcSample
			min  time.Duration
			max  time.Duration
		}{
			{core.ProcSample{At: time.Now()}, 250 * time.Millisecond, 5 * time.Second}, // it began with the process
			{core.ProcSample{}, 0, 0}, // first seen now: no more is known
		} {
			target.Base = c.base
			s := build(t, sampler.Options{Sink: &k, Targets: func() []sampler.Target { return []sampler.Target{target} }})
			if err := s.Sample(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := k.runs[len(k.runs)-1]
			if got.CPU < c.min || got.CPU > c.max || got.CPUSource != core.SourceMeasured || got.Origin != origin || got.RSSSource != core.SourceMeasured || got.RSSBytes == 0 || got.Final {
				t.Errorf("%+v", got)
			}
		}
		if p := k.plugins[0]; p.Plugin != "lua-worker" || p.Version != "1" || p.Namespace != "Common" || p.PID != pid || p.Running != 1 || p.CPU < 250*time.Millisecond {
			t.Errorf("%+v", p)
		}
	})

	t.Run("AttemptsInOneProcessAreShared", func(t *testing.T) {
		t.Parallel()
		pid := spawn(t, self(t), "burn")
		var k sink
		other := core.Origin{RunID: "r2", Attempt: 1}
		running := []core.Origin{origin, other}
		s := build(t, sampler.Options{Sink: &k, Targets: func() []sampler.Target { return []sampler.Target{{PID: pid, Running: running}} }})
		if err := s.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
		running = running[:1] // alone now, but not all the time
		if err := s.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(k.runs) != 3 {
			t.Fatalf("%+v", k.runs)
		}
		for _, r := range k.runs {
			if r.CPUSource != core.SourceShared || r.RSSSource != core.SourceShared || r.CPU > 100*time.Millisecond {
				t.Errorf("%+v", r)
			}
		}
	})

	t.Run("AProcessThatIsGoneOrAnotherIsNotInvented", func(t *testing.T) {
		t.Parallel()
		var k sink
		s := build(t, sampler.Options{Sink: &k, Targets: func() []sampler.Target {
			return []sampler.Target{{PID: 1 << 22, Running: []core.Origin{origin}}, {PID: os.Getpid(), StartTicks: 1, Running: []core.Origin{origin}}}
		}})
		if err := s.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
		if plugins, runs, hosts := k.counts(); plugins != 0 || runs != 0 || hosts != 1 {
			t.Errorf("%d %d %d", plugins, runs, hosts)
		}
	})

	t.Run("TheHostIsReadWhole", func(t *testing.T) {
		t.Parallel()
		var k sink
		s := build(t, sampler.Options{Sink: &k, Targets: func() []sampler.Target { return nil }})
		if err := s.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
		h := k.hosts[0]
		if h.Host == "" || h.CPU <= 0 || h.CPUIdle <= 0 || h.Cores < 1 || h.MemTotalBytes == 0 || h.MemUsedBytes == 0 || h.MemUsedBytes >= h.MemTotalBytes ||
			h.DataTotalBytes == 0 || h.DataFreeBytes == 0 || h.DataFreeBytes > h.DataTotalBytes {
			t.Errorf("%+v", h)
		}
	})

	t.Run("ItSamplesOftenWhileSomethingRunsAndSeldomElse", func(t *testing.T) {
		t.Parallel()
		var k sink
		var mu sync.Mutex
		var running []core.Origin
		s := build(t, sampler.Options{Sink: &k, Every: 5 * time.Millisecond, IdleEvery: time.Hour, Targets: func() []sampler.Target {
			mu.Lock()
			defer mu.Unlock()
			return []sampler.Target{{PID: os.Getpid(), Plugin: "common", Running: running}}
		}})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "one idle sample", func() bool { p, _, h := k.counts(); return p == 1 && h == 1 })
		mu.Lock()
		running = []core.Origin{origin}
		mu.Unlock()
		until(t, "samples while it runs", func() bool { p, r, h := k.counts(); return p >= 5 && r >= 4 && h >= 5 })
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, before, _ := k.counts()
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, after, _ := k.counts(); after != before {
			t.Error("it goes on after Stop")
		}
	})

	t.Run("ASinkThatRefusesCostsSamplesOnly", func(t *testing.T) {
		t.Parallel()
		k := sink{err: errors.New("full")}
		s := build(t, sampler.Options{Sink: &k, Every: time.Millisecond, Targets: func() []sampler.Target {
			return []sampler.Target{{PID: os.Getpid(), Running: []core.Origin{origin}}}
		}})
		if err := s.Sample(t.Context()); !errors.Is(err, k.err) {
			t.Errorf("%v", err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		k.mu.Lock()
		k.err = nil
		k.mu.Unlock()
		until(t, "it goes on", func() bool { _, r, _ := k.counts(); return r > 0 })
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never came true: %s", what)
		}
	}
}

// BenchmarkTick reads the host, every process of a machine with 120 more than it had, and twenty trees.
func BenchmarkTick(b *testing.B) {
	var targets []sampler.Target
	for i := range 120 {
		cmd := exec.CommandContext(b.Context(), "sleep", "60")
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		if i < 20 {
			targets = append(targets, sampler.Target{PID: cmd.Process.Pid, Running: []core.Origin{{RunID: fmt.Sprint(i)}}, Alone: true})
		}
	}
	s, err := sampler.New(sampler.Options{Log: slog.New(slog.DiscardHandler), Sink: nothing{}, Targets: func() []sampler.Target { return targets }, DataDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Sample(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(procs)), "processes")
}

type nothing struct{}

func (nothing) RecordPlugin(context.Context, core.PluginSample) error { return nil }
func (nothing) RecordRun(context.Context, core.RunSample) error       { return nil }
func (nothing) RecordHost(context.Context, core.HostSample) error     { return nil }
