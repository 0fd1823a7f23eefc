package main

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

// retention removes from history what namespaces keep no longer: at the start, each hour, and when a setting has changed. On
// several servers each does; the second finds nothing to do.
type retention struct {
	namespaces func(ctx context.Context) ([]core.Namespace, error)
	history    retaining
	clock      core.Clock
	log        *slog.Logger
	changed    chan struct{} // holds a token when namespaces may have changed
}

// retaining is history as retention wants it.
type retaining interface {
	Retain(ctx context.Context, now time.Time, kept map[string]core.Retention) ([]clickhouse.Removal, error)
}

func newRetention(r *retention) *retention {
	r.changed = make(chan struct{}, 1)
	return r
}

// look says that namespaces may have changed. It never blocks.
func (r *retention) look() {
	if r == nil {
		return
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// run works until ctx ends. A setting takes effect some seconds after it was made, so that a slip of the hand can be mended.
func (r *retention) run(ctx context.Context) {
	const (
		each  = time.Hour
		grace = 10 * time.Second
	)
	due := r.clock.Now().Add(grace)
	var last map[string]core.Retention
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
			if kept, err := r.kept(ctx); err != nil || !maps.Equal(kept, last) {
				due = r.clock.Now().Add(grace)
			}
			continue
		case <-time.After(min(30*time.Second, max(0, due.Sub(r.clock.Now())))): // the clock may be set meanwhile
		}
		if r.clock.Now().Before(due) {
			continue
		}
		kept, err := r.kept(ctx)
		if err == nil {
			err = r.remove(ctx, kept)
		}
		due, last = r.clock.Now().Add(each), kept
		if err != nil && ctx.Err() == nil {
			r.log.Warn("what history keeps no longer is not all removed", "err", err)
			due = r.clock.Now().Add(time.Minute)
		}
	}
}

func (r *retention) kept(ctx context.Context) (map[string]core.Retention, error) {
	all, err := r.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	kept := make(map[string]core.Retention, len(all))
	for _, ns := range all {
		kept[ns.Name] = ns.Retention
	}
	return kept, nil
}

func (r *retention) remove(ctx context.Context, kept map[string]core.Retention) error {
	removed, err := r.history.Retain(ctx, r.clock.Now(), kept)
	for _, one := range removed {
		r.log.Info("history removed by age", "table", one.Table, "partition", one.Partition, "namespaces", one.Namespaces)
	}
	return err
}
