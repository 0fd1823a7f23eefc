package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

// retention looks after what is old in history. It removes what namespaces keep no longer: at the start, each hour, and when a
// setting has changed; and makes the indexes of the log lines of days that are over; and thins samples. On several servers each does; the second
// finds nothing to do.
type retention struct {
	store   remembering
	history retaining
	clock   core.Clock
	log     *slog.Logger
	gate    *sync.RWMutex // in front of history's writers
	changed chan struct{} // holds a token when namespaces may have changed
}

// remembering is the store as retention wants it.
type remembering interface {
	Namespaces(ctx context.Context) ([]core.Namespace, error)
	Setting(ctx context.Context, name string) (string, error)
	PutSetting(ctx context.Context, name, value string) error
}

// retaining is history as retention wants it.
type retaining interface {
	Retain(ctx context.Context, now time.Time, kept map[string]core.Retention) ([]clickhouse.Removal, error)
	Thin(ctx context.Context, now time.Time, kept map[string]core.Retention, gate *sync.RWMutex) (done []clickhouse.Thinning, more bool, err error)
	IndexLines(ctx context.Context, from, to time.Time) (until time.Time, err error)
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
		if err == nil {
			more, err := r.thin(ctx, kept)
			if err != nil && ctx.Err() == nil {
				r.log.Warn("old samples not all thinned", "err", err)
			}
			if more || err != nil {
				due = r.clock.Now().Add(time.Minute)
			}
		}
		if err := r.index(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("log lines not all indexed: searching them takes longer", "err", err)
		}
	}
}

func (r *retention) kept(ctx context.Context) (map[string]core.Retention, error) {
	all, err := r.store.Namespaces(ctx)
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

func (r *retention) thin(ctx context.Context, kept map[string]core.Retention) (more bool, err error) {
	done, more, err := r.history.Thin(ctx, r.clock.Now(), kept, r.gate)
	for _, one := range done {
		r.log.Info("samples thinned", "table", one.Table, "partition", one.Partition, "rows_before", one.RowsBefore, "rows_after", one.RowsAfter, "took_ms", one.Took.Milliseconds())
	}
	return more, err
}

const (
	// indexedUntil is the setting that holds the first day whose lines are not indexed.
	indexedUntil = "history.lines_indexed_until"
	// lateLines is how long after a day's end lines of its runs are still waited for.
	lateLines = 2 * time.Hour
)

// index makes the indexes of the lines of days that are over and have none yet.
func (r *retention) index(ctx context.Context) error {
	text, err := r.store.Setting(ctx, indexedUntil)
	if err != nil && core.KindOf(err) != core.KindNotFound {
		return err
	}
	from, _ := time.Parse(time.DateOnly, text) // none yet: from the beginning
	to := r.clock.Now().UTC().Add(-lateLines).Truncate(24 * time.Hour)
	if !from.Before(to) {
		return nil
	}
	until, err := r.history.IndexLines(ctx, from, to)
	if until.After(from) {
		err = errors.Join(err, r.store.PutSetting(ctx, indexedUntil, until.Format(time.DateOnly)))
	}
	return err
}
