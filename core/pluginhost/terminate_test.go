package pluginhost_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/coretest"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
)

// both runs a test on a plugin and on a pool of workers. The host's and the pool's grace is an hour.
func both(t *testing.T, test func(t *testing.T, h *pluginhost.Host, e core.Executor)) {
	t.Helper()
	for name, make := range map[string]func(*testing.T, *pluginhost.Host) core.Executor{
		"Plugin": func(t *testing.T, h *pluginhost.Host) core.Executor { return load(t, h) },
		"Worker": func(t *testing.T, h *pluginhost.Host) core.Executor {
			return pool(t, h, func(o *pluginhost.PoolOptions) { o.Grace = time.Hour })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := setup(t, func(o *pluginhost.Options) { o.Grace = time.Hour })
			e := make(t, h)
			run(t, t.Context(), e, do("talk"), "warm")
			test(t, h, e)
		})
	}
}

// begun gives a sink that tells when the attempt has said something.
func begun() (*coretest.Sink, <-chan struct{}) {
	began := make(chan struct{})
	var once sync.Once
	return &coretest.Sink{Hold: func(context.Context) error { once.Do(func() { close(began) }); return nil }}, began
}

func TestGraceOfTheAttemptReplacesTheHosts(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ *pluginhost.Host, e core.Executor) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		attempt := do("stubborn").Attempt("stubborn")
		attempt.Grace = 400 * time.Millisecond
		sink, began := begun()
		var asked time.Time
		go func() { <-began; asked = time.Now(); cancel(core.ErrRunTimeout) }() // ends when it has begun
		out, err := e.Execute(ctx, attempt, sink)
		took := time.Since(asked)
		if err != nil || out.Verdict != core.TimedOut || !strings.Contains(out.Message, "did not stop in time") {
			t.Errorf("%+v %v", out, err)
		}
		if took < 400*time.Millisecond || took > patience {
			t.Errorf("killed after %v", took)
		}
		// Whether it listened to its soft timeout or was killed at the hard one, the message says which it was.
		for what, c := range map[string]struct {
			grace   time.Duration
			message string
		}{
			"lines-then-wait": {time.Hour, "soft timeout reached"},
			"stubborn":        {400 * time.Millisecond, "hard timeout reached; it had not stopped since its soft timeout, so its process was killed"},
		} {
			soft := do(what).Attempt(what + "-soft")
			soft.Grace = c.grace
			limited, stop := context.WithCancelCause(t.Context())
			sink, began := begun()
			go func() { <-began; stop(core.ErrRunSoftTimeout) }() // ends when it has begun
			out, err := e.Execute(limited, soft, sink)
			stop(nil)
			if err != nil || out.Verdict != core.TimedOut || out.Message != c.message {
				t.Errorf("%s: %s %q %v, want %q", what, out.Verdict, out.Message, err, c.message)
			}
		}
		// One that needs it gets it: a soft timeout leaves more than the usual grace.
		patient := do("finish-late").Attempt("late")
		patient.Grace = 2 * time.Hour
		limited, stop := context.WithCancelCause(t.Context())
		defer stop(nil)
		sink, working := begun()
		go func() { <-working; stop(core.ErrRunTimeout) }() // ends when it has begun
		if out, err := e.Execute(limited, patient, sink); err != nil || out.Verdict != core.Succeeded {
			t.Errorf("%+v %v", out, err)
		}
	})
}

func TestTerminatedIsKilledAtOnce(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ *pluginhost.Host, e core.Executor) {
		for _, what := range []string{"stubborn", "lines-then-wait"} {
			ctx, cancel := context.WithCancelCause(t.Context())
			sink, began := begun()
			var asked time.Time
			go func() { <-began; asked = time.Now(); cancel(core.ErrRunTerminated) }() // ends when it has begun
			attempt := do(what).Attempt(what)
			attempt.Grace = time.Hour // is for those who are asked
			out, err := e.Execute(ctx, attempt, sink)
			if took := time.Since(asked); err != nil || out.Verdict != core.Cancelled || !strings.HasPrefix(out.Message, "terminated on request") || took > patience {
				t.Errorf("%s: after %v %+v %v", what, took, out, err)
			}
			if what == "stubborn" && !strings.Contains(out.Message, "killed") {
				t.Errorf("%s: %+v", what, out)
			}
			cancel(nil)
		}
		if out, _ := run(t, t.Context(), e, do("talk"), "after"); out.Verdict != core.Succeeded {
			t.Errorf("afterwards: %+v", out)
		}
	})
}

func TestTerminatedWhileItIsAskedToStop(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, h *pluginhost.Host, e core.Executor) {
		for _, what := range []string{"stubborn", "frozen"} {
			ctx, cancel := context.WithCancelCause(t.Context())
			terminate := make(chan struct{})
			attempt := do("stubborn").Attempt(what)
			attempt.Terminate = terminate
			sink, began := begun()
			var terminated time.Time
			go func() { // ends when it has begun and was terminated
				<-began
				if what == "frozen" {
					freeze(t, busy(t, h))
				}
				cancel(core.ErrRunTimeout)
				<-time.After(200 * time.Millisecond) // nothing tells that it was asked to stop
				terminated = time.Now()
				close(terminate)
			}()
			out, err := e.Execute(ctx, attempt, sink)
			select {
			case <-terminate:
				if took := time.Since(terminated); took > patience {
					t.Errorf("%s: ended %v after it was terminated", what, took)
				}
			default:
				t.Fatalf("%s: ended before it was terminated: %+v %v", what, out, err)
			}
			if err != nil || out.Verdict != core.TimedOut || !strings.Contains(out.Message, "killed") {
				t.Errorf("%s: %+v %v", what, out, err)
			}
		}
	})
}

func TestTerminatingOneThatListensHarmsNoOther(t *testing.T) {
	t.Parallel()
	h := setup(t)
	p := load(t, h)
	rest, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	var beside sync.WaitGroup
	sink, began := begun()
	beside.Go(func() {
		out, err := p.Execute(rest, do("lines-then-wait").Attempt("beside"), sink)
		if err != nil || out.Message != core.ErrRunCancelled.Error() {
			t.Errorf("the attempt beside it: %+v, %v", out, err)
		}
	})
	<-began
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	mine, began := begun()
	terminate := make(chan struct{})
	go func() { <-began; cancel(core.ErrRunTerminated); close(terminate) }() // ends when it has begun
	attempt := do("lines-then-wait").Attempt("mine")
	attempt.Terminate = terminate // a runner says it both ways
	if out, err := p.Execute(ctx, attempt, mine); err != nil || out.Verdict != core.Cancelled || out.Message != core.ErrRunTerminated.Error() {
		t.Errorf("%+v %v", out, err)
	}
	stop(core.ErrRunCancelled)
	beside.Wait()
}

// onWarning is a log that calls do for each warning, before whoever wrote it goes on.
type onWarning struct {
	slog.Handler
	do func()
}

func (o onWarning) Enabled(_ context.Context, l slog.Level) bool { return l == slog.LevelWarn }
func (o onWarning) WithAttrs([]slog.Attr) slog.Handler           { return o }
func (o onWarning) Handle(context.Context, slog.Record) error    { o.do(); return nil }

// TestAProcessThatIsKilledTakesNoAttempt: one that comes meanwhile gets the process that is started instead.
func TestAProcessThatIsKilledTakesNoAttempt(t *testing.T) {
	t.Parallel()
	var p *pluginhost.Plugin
	var late sync.WaitGroup
	asked, ask := context.WithCancelCause(t.Context())
	defer ask(nil)
	sink, began := begun()
	killing := sync.OnceFunc(func() {
		late.Go(func() { // ends when the attempt does
			if out, err := p.Execute(asked, do("finish-late").Attempt("late"), sink); err != nil || out.Verdict != core.Succeeded {
				t.Errorf("the attempt that came while the process was killed: %+v %v", out, err)
			}
		})
		select { // it waits for another process; or it has begun in the one that dies
		case <-began:
		case <-time.After(50 * time.Millisecond):
		}
	})
	h := setup(t, func(o *pluginhost.Options) { o.Log = slog.New(onWarning{slog.DiscardHandler, killing}) })
	p = load(t, h)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stubborn, works := begun()
	go func() { <-works; cancel(core.ErrRunTerminated) }() // ends when it has begun
	if out, err := p.Execute(ctx, do("stubborn").Attempt("killed"), stubborn); err != nil || out.Verdict != core.Cancelled {
		t.Errorf("%+v %v", out, err)
	}
	select {
	case <-began:
	case <-time.After(patience):
		t.Error("it did not begin again")
	}
	ask(core.ErrRunCancelled)
	late.Wait()
}

// luaPool is a pool of real Lua workers whose script logs a line and then never ends. Its grace is an hour.
func luaPool(t *testing.T, h *pluginhost.Host) *pluginhost.Pool {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "Test"), 0o700); err != nil {
		t.Fatal(err)
	}
	const script = `return task{ title = {zh='忙', en='Busy'}, run = function(ctx) log.info("busy") while true do end end }`
	if err := os.WriteFile(filepath.Join(dir, "Test", "Busy.lua"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	return pool(t, h, func(o *pluginhost.PoolOptions) {
		o.Command, o.Grace, o.Size = []string{program(t), "lua", dir}, time.Hour, 1
	})
}

func TestALuaWorkerIsTerminatedAtOnceAndKilledAfterTheAttemptsGrace(t *testing.T) {
	t.Parallel()
	h := setup(t)
	p := luaPool(t, h)
	for name, c := range map[string]struct {
		cause   error
		grace   time.Duration
		freeze  bool // the worker neither stops nor answers
		verdict core.Verdict
		least   time.Duration
	}{
		"terminated":         {core.ErrRunTerminated, time.Hour, false, core.Cancelled, 0},
		"terminated, frozen": {core.ErrRunTerminated, 0, true, core.Cancelled, 0},
		"asked":              {core.ErrRunTimeout, time.Hour, false, core.TimedOut, 0},
		"frozen":             {core.ErrRunTimeout, 400 * time.Millisecond, true, core.TimedOut, 400 * time.Millisecond},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		sink, began := begun()
		attempt := coretest.Case{Type: "Test.Busy"}.Attempt(name)
		attempt.Grace = c.grace
		var asked time.Time
		go func() { // ends when it has begun
			<-began
			if c.freeze {
				freeze(t, busy(t, h))
			}
			asked = time.Now()
			cancel(c.cause)
		}()
		out, err := p.Execute(ctx, attempt, sink)
		if took := time.Since(asked); err != nil || out.Verdict != c.verdict || !strings.HasPrefix(out.Message, c.cause.Error()) || took < c.least || took > c.least+patience {
			t.Errorf("%s: after %v %+v %v", name, took, out, err)
		}
		cancel(nil)
	}
}

// busy gives the process that has attempts in progress.
func busy(t *testing.T, h *pluginhost.Host) int {
	all := h.Processes()
	i := slices.IndexFunc(all, func(one pluginhost.Process) bool { return len(one.Running) > 0 })
	if i < 0 {
		t.Errorf("none has: %+v", all)
		return 0
	}
	return all[i].PID
}

// freeze stops a process, and returns when each of its threads has stopped: until then one may still answer.
func freeze(t *testing.T, pid int) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Error(err)
	}
	runs := func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		return slices.ContainsFunc(threads, func(path string) bool {
			stat, err := os.ReadFile(path)
			return err == nil && !strings.Contains(string(stat), ") T ")
		})
	}
	for until := time.Now().Add(patience); runs(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Errorf("process %d does not stop", pid)
			return
		}
	}
}
