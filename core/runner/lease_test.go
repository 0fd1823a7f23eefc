package runner_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
)

// leases keeps one server's lease, and can fail.
type leases struct {
	mu     sync.Mutex
	until  time.Time
	fail   error
	slow   time.Duration // how long an answer takes
	renews int
	gone   bool
}

func (l *leases) Register(_ context.Context, _, _ string, until time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = until
	return l.fail
}

func (l *leases) Renew(ctx context.Context, _ string, until time.Time) error {
	select {
	case <-time.After(l.slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renews++
	if l.fail == nil {
		l.until = until
	}
	return l.fail
}

func (l *leases) Unregister(context.Context, string) error {
	l.gone = true
	return nil
}

func (l *leases) lease() (until time.Time, renews int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until, l.renews
}

func (l *leases) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

func newLease(l *leases) *runner.Lease {
	return runner.NewLease(runner.LeaseOptions{Store: l, Clock: core.SystemClock{}, Log: slog.New(slog.DiscardHandler), ServerID: "me", Host: "here"})
}

func started(t *testing.T, l *leases) *runner.Lease {
	t.Helper()
	lease := newLease(l)
	if lease.MayAct() {
		t.Error("a lease that was never taken is held")
	}
	if err := lease.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return lease
}

func TestALeaseIsRenewedForAsLongAsItIsNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &leases{}
		lease := started(t, store)
		for range 1000 {
			time.Sleep(time.Second)
			if until, renews := store.lease(); !lease.MayAct() || !until.After(time.Now()) {
				t.Fatalf("after %d renewals: may act %t, lease until %s", renews, lease.MayAct(), until)
			}
		}
		for range 2 {
			if err := lease.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if lease.MayAct() || !store.gone {
			t.Error("the lease was not given back")
		}
	})
}

// TestTheRightToActEndsBeforeTheLease: by the server's own clock, whenever the renewals begin to fail.
func TestTheRightToActEndsBeforeTheLease(t *testing.T) {
	t.Parallel()
	for _, slow := range []time.Duration{0, 4 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			store := &leases{slow: slow}
			lease := started(t, store)
			time.Sleep(33 * time.Second)
			store.set(errors.New("the store does not answer"))
			for lease.MayAct() {
				time.Sleep(10 * time.Millisecond)
			}
			until, _ := store.lease()
			if left := time.Until(until); left < time.Second || left > 2*time.Second {
				t.Errorf("the right ended %s before the lease; want a tenth of 15 s", left)
			}
			store.set(nil)
			time.Sleep(10 * time.Second)
			if !lease.MayAct() {
				t.Error("the lease was renewed, but the server does not act")
			}
			if err := lease.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAFencedServerStopsActing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &leases{}
		lease := started(t, store)
		store.set(core.Errorf(core.KindStale, "renew", "another server took it away"))
		time.Sleep(5*time.Second + time.Millisecond) // the next renewal
		if lease.MayAct() {
			t.Error("a fenced server still acts")
		}
		if since := time.Since(lease.Renewed()); since != 5*time.Second+time.Millisecond {
			t.Errorf("the lost lease was last renewed %s ago", since)
		}
		time.Sleep(time.Minute)
		if lease.MayAct() {
			t.Error("a fenced server acts again")
		}
		select {
		case <-lease.Lost():
		default:
			t.Error("nobody is told that the lease is lost")
		}
		if err := lease.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestALeaseThatCannotBeTakenFailsTheStart(t *testing.T) {
	t.Parallel()
	lease := newLease(&leases{fail: errors.New("no")})
	if err := lease.Start(t.Context()); err == nil || lease.MayAct() {
		t.Errorf("start gave %v, may act %t", err, lease.MayAct())
	}
	if err := lease.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
