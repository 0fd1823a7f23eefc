package runner

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// LeaseStore keeps the servers' leases.
type LeaseStore interface {
	Register(ctx context.Context, id, host string, until time.Time) error
	Renew(ctx context.Context, id string, until time.Time) error
	Unregister(ctx context.Context, id string) error
}

// LeaseOptions configure a Lease.
type LeaseOptions struct {
	Store    LeaseStore
	Clock    core.Clock
	Log      *slog.Logger
	ServerID string
	Host     string
	Length   time.Duration // 15 s if zero
}

// Lease is this server's right to act. It is renewed every third of its length; a server that cannot renew stops
// acting before the lease ends, measured by its own monotonic clock, so that another may take over its runs.
type Lease struct {
	opts   LeaseOptions
	held   atomic.Pointer[time.Time] // when the last successful renewal was begun; nil: the lease is not held
	last   atomic.Pointer[time.Time] // likewise, also once the lease is lost
	lost   chan struct{}             // closed when another server has taken it away
	cancel context.CancelFunc
	done   chan struct{}
}

// NewLease gives a lease that is not held yet.
func NewLease(opts LeaseOptions) *Lease {
	if opts.Length == 0 {
		opts.Length = 15 * time.Second
	}
	return &Lease{opts: opts, lost: make(chan struct{}), done: make(chan struct{})}
}

// Start takes the lease and goes on renewing it until Stop.
func (l *Lease) Start(ctx context.Context) error {
	began := l.opts.Clock.Now()
	if err := l.opts.Store.Register(ctx, l.opts.ServerID, l.opts.Host, began.Add(l.opts.Length)); err != nil {
		return err
	}
	l.held.Store(&began)
	l.last.Store(&began)
	ctx, l.cancel = context.WithCancel(ctx)
	go l.renew(ctx) // ends when Stop cancels ctx
	return nil
}

// Stop gives the lease back.
func (l *Lease) Stop(ctx context.Context) error {
	if l.cancel == nil {
		return nil
	}
	l.cancel()
	<-l.done
	l.held.Store(nil)
	l.cancel = nil
	return l.opts.Store.Unregister(ctx, l.opts.ServerID)
}

// MayAct says whether the lease is held for at least another tenth of its length.
func (l *Lease) MayAct() bool {
	held := l.held.Load()
	return held != nil && l.opts.Clock.Now().Sub(*held) < l.opts.Length*9/10
}

// Renewed gives when the lease was last renewed, even if it has been lost since; zero: never.
func (l *Lease) Renewed() time.Time {
	if last := l.last.Load(); last != nil {
		return *last
	}
	return time.Time{}
}

// Lost is closed once another server has taken the lease away. It never comes back: the server must be started anew.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

func (l *Lease) renew(ctx context.Context) {
	defer close(l.done)
	for {
		wake := make(chan struct{})
		stop := l.opts.Clock.AfterFunc(l.opts.Length/3, func() { close(wake) })
		select {
		case <-ctx.Done():
			stop()
			return
		case <-wake:
		}
		began := l.opts.Clock.Now()
		if err := l.opts.Store.Renew(ctx, l.opts.ServerID, began.Add(l.opts.Length)); err != nil {
			if ctx.Err() == nil {
				l.opts.Log.Error("lease not renewed", "server", l.opts.ServerID, "err", err)
			}
			if core.KindOf(err) == core.KindStale { // another server has taken it away: it never comes back
				l.held.Store(nil)
				close(l.lost)
				<-ctx.Done()
				return
			}
			continue
		}
		l.held.Store(&began)
		l.last.Store(&began)
	}
}
