package pluginhost_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/coretest"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

func TestWhatBreaksTheContractFailsTheAttemptAndSaysSo(t *testing.T) {
	t.Parallel()
	p := load(t, setup(t))
	for _, c := range []struct {
		c    coretest.Case
		says string
	}{
		{do("no-outcome"), "without an outcome"},
		{do("two-outcomes"), "two outcomes"},
		{do("after-outcome"), "after its outcome"},
		{do("empty-outcome"), "neither success nor failure"},
		{do("empty-event"), "unknown kind"},
		{do("no-level"), "without a valid level"},
		{do("bad-output"), "not JSON"},
		{do("big-checkpoint"), "checkpoint"},
		{do("huge", "size", protocol.MaxMessageBytes+1), "too large"},
		{do("grpc-error"), "lost it"},
		{do("no-such-order"), "broke off"},
	} {
		t.Run(string(c.c.Params), func(t *testing.T) {
			t.Parallel()
			out, sink := run(t, t.Context(), p, c.c, string(c.c.Params))
			if out.Verdict != core.Failed || !strings.Contains(out.Message, c.says) {
				t.Errorf("outcome %+v", out)
			}
			if n := len(sink.Samples()); n != 1 {
				t.Errorf("%d samples", n)
			}
			if len(out.Checkpoint) > 0 {
				t.Error("it kept a checkpoint")
			}
		})
	}
}

func TestUsageIsTakenOverAndNeverInvented(t *testing.T) {
	t.Parallel()
	p := load(t, setup(t))
	out, sink := run(t, t.Context(), p, do("talk"), "usage")
	want := core.Usage{CPU: time.Millisecond, CPUSource: core.SourceMeasured, RSSSource: core.SourceUnknown, IOSource: core.SourceUnknown}
	if out.Usage != want {
		t.Errorf("usage %+v", out.Usage)
	}
	if s := sink.Samples()[0]; s.CPU != time.Millisecond || s.RSSBytes != 0 || s.RSSSource != core.SourceUnknown || s.TaskType != "Test.Do" {
		t.Errorf("sample %+v", s)
	}
	if out, _ := run(t, t.Context(), p, do("fail"), "no-usage"); out.Usage.CPUSource != core.SourceUnknown {
		t.Errorf("usage %+v", out.Usage)
	}
}

func TestInvalidParametersArePermanentAndSayWhere(t *testing.T) {
	t.Parallel()
	out, _ := run(t, t.Context(), load(t, setup(t)), do("invalid"), "invalid")
	if out.Verdict != core.Failed || !out.Permanent || !strings.Contains(out.Message, "urls[2]: is no URL") {
		t.Errorf("outcome %+v", out)
	}
}

func TestACrashEndsItsAttemptsWithTheStderrTailAndHarmsNoOtherPlugin(t *testing.T) {
	t.Parallel()
	h := setup(t, func(o *pluginhost.Options) {
		o.Grants = func(string, string, []string) (map[string]string, error) {
			return map[string]string{"sql:business": "dsn-with-password"}, nil
		}
	})
	p, other := load(t, h), load(t, h)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var both sync.WaitGroup
	both.Go(func() {
		if out, _ := run(t, ctx, other, do("wait"), "bystander"); out.Verdict != core.Cancelled {
			t.Errorf("the other plugin's attempt: %+v", out)
		}
	})
	both.Go(func() {
		if out, _ := run(t, t.Context(), p, do("wait"), "beside"); out.Verdict != core.Crashed {
			t.Errorf("the attempt beside it: %+v", out)
		}
	})
	eventually(t, "both run", func() bool {
		n := 0
		for _, one := range h.Processes() {
			n += len(one.Running)
		}
		return n == 2
	})
	crash := do("crash")
	crash.Type = "Test.Needy"
	out, sink := run(t, t.Context(), p, crash, "crash")
	if out.Verdict != core.Crashed || !strings.Contains(out.Message, "boom") || !strings.Contains(out.Message, "exit status 2") {
		t.Errorf("outcome %+v", out)
	}
	if strings.Contains(out.Message, "dsn-with-password") || !strings.Contains(out.Message, "boom [redacted]") {
		t.Errorf("the message tells a secret: %s", out.Message)
	}
	if said := sink.Lines(core.StreamSystem); len(said) != 1 || said[0].Level != core.LevelError || strings.Contains(said[0].Message, "password") {
		t.Errorf("system lines %+v", said)
	}
	if said := sink.Lines(core.StreamLog); len(said) != 1 || said[0].Message != "before" {
		t.Errorf("lines %+v", said)
	}
	cancel(core.ErrRunCancelled)
	both.Wait()
}

func TestAnAttemptThatHoldsOnPastGraceEndsTheProcessAndOthersSayWhy(t *testing.T) {
	t.Parallel()
	h := setup(t)
	p := load(t, h)
	var beside sync.WaitGroup
	beside.Go(func() {
		out, _ := run(t, t.Context(), p, do("wait"), "beside")
		if out.Verdict != core.Crashed || !strings.Contains(out.Message, "run stubborn") {
			t.Errorf("the attempt beside it: %+v", out)
		}
	})
	eventually(t, "it runs", func() bool { ps := h.Processes(); return len(ps) == 1 && len(ps[0].Running) == 1 })
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	sink, began := begun()
	go func() { <-began; cancel(core.ErrRunTimeout) }() // ends when it has begun
	if out, err := p.Execute(ctx, do("stubborn").Attempt("stubborn"), sink); err != nil || out.Verdict != core.TimedOut {
		t.Errorf("outcome %+v, %v", out, err)
	}
	beside.Wait()
	if out, _ := run(t, t.Context(), p, do("talk"), "after"); out.Verdict != core.Succeeded {
		t.Errorf("afterwards: %+v", out)
	}
}

func TestAFrozenProcessIsKilledAfterGrace(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for name, e := range map[string]core.Executor{"Plugin": load(t, h), "Pool": pool(t, h)} {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		sink, began := begun()
		var asked time.Time
		go func() { // ends when it has begun
			<-began
			freeze(t, busy(t, h))
			asked = time.Now()
			cancel(core.ErrRunTimeout)
		}()
		out, err := e.Execute(ctx, do("stubborn").Attempt(name), sink)
		if took := time.Since(asked); err != nil || out.Verdict != core.TimedOut || !strings.Contains(out.Message, "killed") || took < 300*time.Millisecond || took > patience {
			t.Errorf("%s: after %v %+v %v", name, took, out, err)
		}
	}
}

func TestStopDrainsAPluginUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	p := load(t, setup(t))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var ran sync.WaitGroup
	began := make(chan struct{}, 1)
	ran.Go(func() {
		sink := &coretest.Sink{Hold: func(context.Context) error { began <- struct{}{}; return nil }}
		out, err := p.Execute(ctx, do("lines-then-wait").Attempt("drains"), sink)
		if err != nil || out.Verdict != core.Cancelled {
			t.Errorf("%+v, %v", out, err)
		}
	})
	<-began
	stopped := make(chan error)
	go func() { stopped <- p.Stop(t.Context()) }() // ends when the attempt does
	eventually(t, "new attempts are refused", func() bool {
		_, err := p.Execute(t.Context(), do("talk").Attempt("new"), &coretest.Sink{})
		return core.KindOf(err) == core.KindUnavailable
	})
	select {
	case <-stopped:
		t.Error("it did not wait for the attempt")
	default:
	}
	cancel(core.ErrRunCancelled)
	ran.Wait()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestSuccessWithinGraceIsSuccess(t *testing.T) {
	t.Parallel()
	p := load(t, setup(t))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	sink, working := begun()
	go func() { <-working; cancel(core.ErrRunTimeout) }() // ends when it has begun
	if out, err := p.Execute(ctx, do("finish-late").Attempt("late"), sink); err != nil || out.Verdict != core.Succeeded || string(out.Output) != `"late"` {
		t.Errorf("outcome %+v", out)
	}
}

func TestAPluginThatDoesNotKnowCancelIsCancelledThePlainWayAndTheOutcomeSaysSo(t *testing.T) {
	t.Parallel()
	p, err := setup(t).Load(t.Context(), scriptDir(t, "exec "+program(t)+" deaf"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	sink, began := begun()
	go func() { <-began; cancel(core.ErrRunTimeout) }() // ends when it has begun
	attempt := do("lines-then-wait").Attempt("deaf")
	attempt.Grace = time.Hour // which is not waited for
	if out, err := p.Execute(ctx, attempt, sink); err != nil || out.Verdict != core.TimedOut || !strings.Contains(out.Message, "may still run") {
		t.Errorf("outcome %+v, %v", out, err)
	}
}

func TestAStderrFloodIsBoundedAndItsEndIsKept(t *testing.T) {
	t.Parallel()
	out, _ := run(t, t.Context(), load(t, setup(t)), do("flood", "size", 200_000), "flood") // 20 MB
	if out.Verdict != core.Crashed || !strings.HasSuffix(out.Message, "the end") || len(out.Message) > 4096 {
		t.Errorf("outcome of %d bytes: %.200s", len(out.Message), out.Message)
	}
}

func TestLinesKeepTheirOrderAndASlowSinkSlowsThePluginOnly(t *testing.T) {
	t.Parallel()
	p := load(t, setup(t))
	const n = 20_000
	out, sink := run(t, t.Context(), p, do("lines", "size", n), "lines")
	lines := sink.Lines(core.StreamLog)
	if out.Verdict != core.Succeeded || len(lines) != n {
		t.Fatalf("%d lines, %+v", len(lines), out)
	}
	if !slices.IsSortedFunc(lines, func(a, b core.LogLine) int { return len(a.Message) - len(b.Message) }) {
		t.Error("lines are out of order")
	}
	// A sink that takes nothing more holds its own attempt up, not another's, and not the cancel.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, core.ErrRunTimeout)
	defer cancel()
	stuck := &coretest.Sink{Hold: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	var held sync.WaitGroup
	held.Go(func() {
		out, err := p.Execute(ctx, do("lines", "size", 1_000_000).Attempt("held"), stuck)
		if err != nil || out.Verdict != core.TimedOut {
			t.Errorf("%+v, %v", out, err)
		}
	})
	for range 100 {
		if out, _ := run(t, t.Context(), p, do("talk"), "beside"); out.Verdict != core.Succeeded && ctx.Err() == nil {
			t.Errorf("beside: %+v", out)
		}
	}
	held.Wait()
}

func TestAKillTakesTheWholeTree(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"fork", "fork-away"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := pool(t, setup(t))
			file := filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var ran sync.WaitGroup
			ran.Go(func() { run(t, ctx, p, do(how, "file", file), how) })
			child := pidIn(t, file)
			if !alive(child) {
				t.Fatal("the child did not start")
			}
			cancel(core.ErrRunCancelled)
			ran.Wait()
			eventually(t, "the child is dead", func() bool { return !alive(child) })
		})
	}
}

func TestAChildGetsNothingOfTheServersAndNoSecretInItsArguments(t *testing.T) {
	h := setup(t, func(o *pluginhost.Options) {
		o.Grants = func(ns, taskType string, needs []string) (map[string]string, error) {
			if ns != "Test" || taskType != "Test.Needy" || !slices.Equal(needs, []string{"sql:business"}) {
				t.Errorf("asked to grant %v to %s in %s", needs, taskType, ns)
			}
			return map[string]string{"sql:business": "dsn-with-password"}, nil
		}
	})
	t.Setenv("GNOMON_STORE_DSN", "secret of the server")
	for name, e := range map[string]core.Executor{"Plugin": load(t, h), "Pool": pool(t, h)} {
		c := do("environment")
		c.Type = "Test.Needy"
		out, _ := run(t, t.Context(), e, c, name)
		var said struct {
			Env, Args []string
			Grants    map[string]string
		}
		if err := json.Unmarshal(out.Output, &said); err != nil || said.Grants["sql:business"] != "dsn-with-password" {
			t.Fatalf("%s: %+v, %v", name, out, err)
		}
		for _, one := range said.Env {
			if !strings.HasPrefix(one, "PLUGIN_") && !strings.HasPrefix(one, "GNOMON_PLUGIN") || strings.Contains(one, "password") {
				t.Errorf("%s has %s in its environment", name, one)
			}
		}
		if strings.Contains(strings.Join(said.Args, " "), "password") {
			t.Errorf("%s has a secret among its arguments: %v", name, said.Args)
		}
	}
}

func TestARefusedGrantIsAnErrorAndNothingRuns(t *testing.T) {
	t.Parallel()
	h := setup(t, func(o *pluginhost.Options) {
		o.Grants = func(string, string, []string) (map[string]string, error) {
			return nil, core.Errorf(core.KindDenied, "grant", "not for you")
		}
	})
	for _, e := range []core.Executor{load(t, h), pool(t, h)} {
		c := do("talk")
		c.Type = "Test.Needy"
		if _, err := e.Execute(t.Context(), c.Attempt("denied"), &coretest.Sink{}); core.KindOf(err) != core.KindDenied || err == nil {
			t.Errorf("err %v", err)
		}
	}
}
