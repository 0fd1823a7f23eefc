package main

import (
	"context"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/sampler"
)

// historyWatch knows whether history answers, since when it does not, how it lies on disk and how far its roll-ups are, so
// that who asks the server does not wait for history.
type historyWatch struct {
	history past

	mu        sync.Mutex
	down      error // nil: it answered when it was last asked
	since     time.Time
	storage   clickhouse.Storage
	storageAt time.Time // zero: not known yet
	rollups   clickhouse.RolledUp
	rollupsAt time.Time // when they were so; zero: not known yet
}

// How often history is asked whether it is there, how it lies on disk, and how far its roll-ups are.
const (
	healthEvery  = 5 * time.Second
	storageEvery = time.Minute
	rollupsEvery = 15 * time.Second // half of the shortest rest between two passes
)

// run asks until ctx ends.
func (w *historyWatch) run(ctx context.Context) {
	every := time.NewTicker(healthEvery)
	defer every.Stop()
	for {
		w.look(ctx, storageEvery)
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// look asks whether history is there, and how it lies on disk and how far its roll-ups are if that is not known since a time.
func (w *historyWatch) look(ctx context.Context, since time.Duration) {
	limited, cancel := context.WithTimeout(ctx, healthEvery)
	defer cancel()
	err := w.history.Health(limited)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	w.mu.Lock()
	if err == nil {
		w.since = time.Time{}
	} else if w.down == nil {
		w.since = now
	}
	w.down = err
	due := err == nil && now.Sub(w.storageAt) >= since
	rollupsDue := err == nil && now.Sub(w.rollupsAt) >= min(since, rollupsEvery)
	w.mu.Unlock()
	if rollupsDue {
		limited, cancel := context.WithTimeout(ctx, healthEvery)
		defer cancel()
		asked := time.Now()
		if r, err := w.history.RollupState(limited); err == nil {
			w.mu.Lock()
			w.rollups, w.rollupsAt = r, asked
			w.mu.Unlock()
		}
	}
	if !due {
		return
	}
	if storage, err := w.history.Storage(ctx); err == nil {
		w.mu.Lock()
		w.storage, w.storageAt = storage, now
		w.mu.Unlock()
	}
}

// last gives what is known: why history does not answer and since when, and how it lay on disk when it was last looked at.
func (w *historyWatch) last() (storage clickhouse.Storage, known bool, since time.Time, down error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.storage, !w.storageAt.IsZero(), w.since, w.down
}

// rolledUp gives how far the roll-ups were when that was last asked, and when; a zero time: it is not known.
func (w *historyWatch) rolledUp() (r clickhouse.RolledUp, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rollups, w.rollupsAt
}

// watchHistory begins to watch.
func (a *app) watchHistory(_, live context.Context, started func(part)) error {
	a.watch = &historyWatch{history: a.history}
	a.background(live, started, "watch of history", a.watch.run)
	return nil
}

// engineMemory gives what ClickHouse takes: the resident memory of the embedded engine, or what a server counts itself.
func (a *app) engineMemory(storage clickhouse.Storage) uint64 {
	if a.engine == nil {
		return storage.MemoryBytes
	}
	if pid := a.engine.PID(); pid > 0 {
		if sample, err := sampler.Process(pid); err == nil {
			return sample.RSSBytes
		}
	}
	return 0
}

// historyStatus is how history stands, as the API shows it.
func (a *app) historyStatus() api.HistoryStatus {
	storage, known, since, down := a.watch.last()
	h := api.HistoryStatus{Embedded: a.engine != nil, Version: a.history.Version(), Answers: down == nil, DownSince: instant(since)}
	if down != nil {
		h.Why = down.Error()
	}
	if !known {
		return h
	}
	h.MemoryBytes, h.FreeBytes, h.Merges = a.engineMemory(storage), storage.FreeBytes, storage.Merges
	for _, t := range storage.Tables {
		h.DiskBytes += t.Bytes
		h.Tables = append(h.Tables, api.HistoryTable{Name: t.Name, Rows: t.Rows, Bytes: t.Bytes, Parts: t.Parts})
	}
	return h
}
