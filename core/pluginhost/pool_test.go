package pluginhost_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/coretest"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
)

func TestPoolRunsOneAttemptAtATimeAndGrowsToItsSize(t *testing.T) {
	t.Parallel()
	h := setup(t)
	p := pool(t, h, func(o *pluginhost.PoolOptions) { o.Size = 3 })
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var ran sync.WaitGroup
	for i := range 5 {
		ran.Go(func() {
			_, err := p.Execute(ctx, do("wait").Attempt(fmt.Sprint(i)), &coretest.Sink{})
			if err != nil && core.KindOf(err) != core.KindUnavailable {
				t.Error(err)
			}
		})
	}
	eventually(t, "three run", func() bool {
		n := 0
		for _, one := range h.Processes() {
			n += len(one.Running)
		}
		return n == 3
	})
	for _, one := range h.Processes() {
		if len(one.Running) != 1 {
			t.Errorf("%+v", one)
		}
	}
	cancel(core.ErrRunCancelled)
	ran.Wait()
}

func TestPoolUsesWarmWorkersAgainAndShrinksToNothing(t *testing.T) {
	t.Parallel()
	h := setup(t, func(o *pluginhost.Options) { o.Clock = fastClock{time.Now()} })
	p := pool(t, h, func(o *pluginhost.PoolOptions) { o.IdleAfter = time.Minute }) // 0.6 s
	run(t, t.Context(), p, do("talk"), "first")
	before := h.Processes()
	for i := range 20 {
		run(t, t.Context(), p, do("talk"), fmt.Sprint(i))
	}
	after := h.Processes()
	if len(before) != 1 || len(after) != 1 || before[0].PID != after[0].PID {
		t.Fatalf("workers before %+v, after %+v", before, after)
	}
	eventually(t, "no worker is left", func() bool { return len(h.Processes()) == 0 && !alive(before[0].PID) })
	run(t, t.Context(), p, do("talk"), "again")
}

func TestPoolKillsAnOverrunningWorkerAndOthersGoOn(t *testing.T) {
	t.Parallel()
	h := setup(t)
	p := pool(t, h)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var ran sync.WaitGroup
	ran.Go(func() {
		if out, _ := run(t, ctx, p, do("stubborn"), "stubborn"); out.Verdict != core.TimedOut || !strings.Contains(out.Message, "killed") {
			t.Errorf("outcome %+v", out)
		}
	})
	eventually(t, "it runs", func() bool { ps := h.Processes(); return len(ps) == 1 && len(ps[0].Running) == 1 })
	cancel(core.ErrRunTimeout)
	over := time.Now().Add(time.Second)
	for i := 0; time.Now().Before(over); i++ {
		if out, _ := run(t, t.Context(), p, do("talk"), fmt.Sprint(i)); out.Verdict != core.Succeeded {
			t.Fatalf("beside it: %+v", out)
		}
	}
	ran.Wait()
}

func TestPoolQueueIsFirstComeFirstServedAndBounded(t *testing.T) {
	t.Parallel()
	h := setup(t)
	p := pool(t, h, func(o *pluginhost.PoolOptions) { o.Size, o.QueueLimit = 1, 3 })
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var ran sync.WaitGroup
	ran.Go(func() { run(t, ctx, p, do("wait"), "holds") })
	eventually(t, "it runs", func() bool { ps := h.Processes(); return len(ps) == 1 && len(ps[0].Running) == 1 })
	var mu sync.Mutex
	var order []string
	for i := range 3 {
		queued := make(chan struct{})
		ran.Go(func() {
			close(queued)
			id := fmt.Sprint(i)
			out, _ := run(t, t.Context(), p, do("talk"), id)
			mu.Lock()
			defer mu.Unlock()
			order = append(order, id+string(out.Verdict))
		})
		<-queued
		<-time.After(50 * time.Millisecond) // nothing tells that it waits in the queue
	}
	if _, err := p.Execute(t.Context(), do("talk").Attempt("too many"), &coretest.Sink{}); core.KindOf(err) != core.KindExhausted || err == nil {
		t.Errorf("err %v", err)
	}
	impatient, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	if _, err := p.Validate(impatient, "Test.Do", nil); err == nil {
		t.Error("it did not wait")
	}
	cancel(core.ErrRunCancelled)
	ran.Wait()
	if got := strings.Join(order, " "); got != "0succeeded 1succeeded 2succeeded" {
		t.Errorf("order %s", got)
	}
}

func TestPoolReplacesAWorkerAfterItsShareAndAfterRecycle(t *testing.T) {
	t.Parallel()
	h := setup(t)
	p := pool(t, h, func(o *pluginhost.PoolOptions) { o.MaxAttempts = 3 })
	seen := map[int]bool{}
	for i := range 6 {
		run(t, t.Context(), p, do("talk"), fmt.Sprint(i))
		for _, one := range h.Processes() {
			seen[one.PID] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d workers for 6 attempts of at most 3 each", len(seen))
	}
	run(t, t.Context(), p, do("talk"), "before")
	pid := h.Processes()[0].PID
	p.Recycle()
	run(t, t.Context(), p, do("talk"), "after")
	eventually(t, "the old one is gone", func() bool { return !alive(pid) })
}

func TestPoolDescribeUsesAWorkerOfItsOwn(t *testing.T) {
	t.Parallel()
	h := setup(t)
	limited := func(limit time.Duration) *pluginhost.Pool {
		return pool(t, h, func(o *pluginhost.PoolOptions) { o.DescribeLimit = limit })
	}
	p := limited(patience)
	types, err := p.Describe(t.Context())
	if err != nil || len(types) != 2 || types[1].Needs[0] != "sql:business" {
		t.Fatalf("types %+v, err %v", types, err)
	}
	if left := h.Processes(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	for arg, says := range map[string]string{"crash-at-start": "no configuration", "foreign-type": "Other.Do"} {
		if _, err := p.Describe(t.Context(), arg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", arg, err)
		}
	}
	for arg, says := range map[string]string{"hang-at-start": "", "hang-at-describe": "thinking about it"} {
		enough(t, arg, func(limit time.Duration) bool {
			began := time.Now()
			_, err := limited(limit).Describe(t.Context(), arg)
			if took := time.Since(began); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("did not describe itself within %v", limit)) || took < limit || took > limit+patience {
				t.Fatalf("%s: after %v %v", arg, took, err)
			}
			return strings.Contains(err.Error(), says)
		})
	}
}

func TestPoolWhoseWorkersDoNotStartSaysSoAndTriesAgainLater(t *testing.T) {
	t.Parallel()
	p := pool(t, setup(t), func(o *pluginhost.PoolOptions) { o.Command = append(o.Command, "crash-at-start") })
	for range 5 {
		if _, err := p.Execute(t.Context(), do("talk").Attempt("x"), &coretest.Sink{}); core.KindOf(err) != core.KindUnavailable || !strings.Contains(err.Error(), "no configuration") {
			t.Fatalf("err %v", err)
		}
	}
	if _, err := p.Execute(t.Context(), do("talk").Attempt("x"), &coretest.Sink{}); core.KindOf(err) != core.KindUnavailable || !strings.Contains(err.Error(), "tried again at") {
		t.Fatalf("err %v", err)
	}
}
