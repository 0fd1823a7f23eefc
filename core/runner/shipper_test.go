package runner_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/store"
)

// warehouse takes ended runs, as ClickHouse would: a row is there once per id, and a batch it has taken is not looked at
// again. Each insert checks that the store still has the rows.
type warehouse struct {
	t     *testing.T
	store *store.Store

	mu      sync.Mutex
	fail    error
	written bool // a failing insert writes nevertheless: only its answer is lost
	rows    map[string]core.Run
	batches []string
	sizes   []int
}

func (h *warehouse) WriteRuns(ctx context.Context, batchID string, runs []core.Run) error {
	for _, run := range runs {
		if stored, err := h.store.Run(ctx, run.ID); err != nil || stored.State != core.RunEnded {
			h.t.Errorf("run %s is inserted while the store has %+v, %v", run.ID, stored, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.batches, h.sizes = append(h.batches, batchID), append(h.sizes, len(runs))
	if (h.fail == nil || h.written) && !slices.Contains(h.batches[:len(h.batches)-1], batchID) {
		for _, run := range runs {
			h.rows[run.ID] = run
		}
	}
	return h.fail
}

func (h *warehouse) set(fail error, written bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail, h.written = fail, written
}

func (h *warehouse) look() (rows int, batches []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rows), append([]string(nil), h.batches...)
}

func shipping(t *testing.T, w *world, h *warehouse, batch int) *runner.Shipper {
	t.Helper()
	s := runner.NewShipper(runner.ShipperOptions{
		Outbox: w.store, History: h, Clock: core.SystemClock{}, Log: slog.New(slog.DiscardHandler), Every: 10 * time.Millisecond, Batch: batch,
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.WithoutCancel(t.Context())) })
	return s
}

// end makes n ended runs.
func (w *world) end(t *testing.T, n int) {
	t.Helper()
	task := w.create(t, "succeed", nil)
	for i := range n {
		_, run := w.claim(t, task.ID, "me", time.Now().Add(time.Duration(i)*time.Second))
		finish := core.Finish{RunID: run.ID, TaskID: task.ID, Token: run.Token, EndedAt: time.Now(), Outcome: core.Outcome{Verdict: core.Succeeded}}
		if done, err := w.store.Finish(t.Context(), []core.Finish{finish}); err != nil || done[0].Stale {
			t.Fatal(done, err)
		}
	}
}

func (w *world) outbox(t *testing.T) int {
	t.Helper()
	runs, err := w.store.Ended(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return len(runs)
}

func TestARowIsDeletedOnlyAfterHistoryHasIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	h := &warehouse{t: t, store: w.store, rows: map[string]core.Run{}}
	w.end(t, 7)
	_, live := w.claim(t, w.create(t, "succeed", nil).ID, "me", time.Now())
	s := shipping(t, w, h, 3)
	eventually(t, "the outbox is empty", func() bool { return w.outbox(t) == 0 && s.Shipped() == 7 })
	rows, batches := h.look()
	if rows != 7 || len(batches) != 3 || fmt.Sprint(h.sizes) != "[3 3 1]" {
		t.Errorf("%d rows in batches %v of %v", rows, batches, h.sizes)
	}
	if run := w.run(t, live.ID); run.State != core.RunClaimed {
		t.Errorf("the live run: %+v", run)
	}
}

// TestHistoryMayFailAndComeBack: the same rows are sent again under the same id, and each is there once.
func TestHistoryMayFailAndComeBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	h := &warehouse{t: t, store: w.store, rows: map[string]core.Run{}}
	h.set(errors.New("history does not answer"), true)
	w.end(t, 3)
	s := shipping(t, w, h, 3)
	eventually(t, "two inserts fail", func() bool { _, batches := h.look(); return len(batches) >= 2 })
	if n := w.outbox(t); n != 3 || s.Shipped() != 0 {
		t.Errorf("%d rows are left, %d shipped; want all left", n, s.Shipped())
	}
	w.end(t, 2) // more come meanwhile
	h.set(nil, false)
	eventually(t, "the outbox is empty", func() bool { return w.outbox(t) == 0 && s.Shipped() == 5 })
	rows, batches := h.look()
	if rows != 5 || batches[0] != batches[1] || batches[1] != batches[len(batches)-2] || batches[len(batches)-1] == batches[0] {
		t.Errorf("%d rows in the batches %s; want the first sent again as it was", rows, strings.Join(batches, " "))
	}
}

// TestARunThatEndsWhileABatchIsSentAgainIsShippedToo: its id lies between those of the batch, which history has taken.
func TestARunThatEndsWhileABatchIsSentAgainIsShippedToo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	h := &warehouse{t: t, store: w.store, rows: map[string]core.Run{}}
	h.set(errors.New("the answer is lost"), true)
	task := w.create(t, "succeed", nil)
	var runs []core.Run
	for i := range 3 {
		_, run := w.claim(t, task.ID, "me", time.Now().Add(time.Duration(i)*time.Second))
		runs = append(runs, run)
	}
	end := func(run core.Run) {
		finish := core.Finish{RunID: run.ID, TaskID: task.ID, Token: run.Token, EndedAt: time.Now(), Outcome: core.Outcome{Verdict: core.Succeeded}}
		if done, err := w.store.Finish(t.Context(), []core.Finish{finish}); err != nil || done[0].Stale {
			t.Fatal(done, err)
		}
	}
	end(runs[0])
	end(runs[2])
	s := shipping(t, w, h, 10)
	eventually(t, "the insert has failed", func() bool { _, batches := h.look(); return len(batches) > 0 })
	end(runs[1])
	h.set(nil, false)
	eventually(t, "the outbox is empty", func() bool { return w.outbox(t) == 0 && s.Shipped() == 3 })
	if rows, batches := h.look(); rows != 3 {
		t.Errorf("history has %d rows of 3 after the batches %v", rows, batches)
	}
}

func TestStoppingShipsWhatThereIs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	h := &warehouse{t: t, store: w.store, rows: map[string]core.Run{}}
	s := runner.NewShipper(runner.ShipperOptions{
		Outbox: w.store, History: h, Clock: core.SystemClock{}, Log: slog.New(slog.DiscardHandler), Every: time.Hour, Batch: 2,
	})
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("stopping before the start gave %v", err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.end(t, 5)
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if rows, _ := h.look(); rows != 5 || w.outbox(t) != 0 {
		t.Errorf("%d rows shipped, %d left", rows, w.outbox(t))
	}
}

// slowHistory takes so long for a batch, and notes when it was given one.
type slowHistory struct {
	took  time.Duration
	given []time.Time
}

func (h *slowHistory) WriteRuns(ctx context.Context, _ string, _ []core.Run) error {
	h.given = append(h.given, time.Now())
	select {
	case <-ctx.Done():
	case <-time.After(h.took):
	}
	return ctx.Err()
}

// endless has one more run that has ended whenever it is asked.
type endless struct{}

func (endless) Ended(context.Context, string, int) ([]core.Run, error) {
	return []core.Run{{ID: "1"}}, nil
}
func (endless) Shipped(context.Context, []string) error { return nil }

func TestTheShipperRestsAsLongAsHistoryIsBusy(t *testing.T) {
	t.Parallel()
	for took, rest := range map[time.Duration]time.Duration{
		0: 500 * time.Millisecond, 40 * time.Millisecond: 500 * time.Millisecond, 120 * time.Millisecond: 1200 * time.Millisecond, time.Minute: 2 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := &slowHistory{took: took}
			s := runner.NewShipper(runner.ShipperOptions{Outbox: endless{}, History: h, Clock: core.SystemClock{}, Log: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(t.Context())
			if err := s.Start(ctx); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2*(took+rest) + time.Millisecond)
			cancel()
			synctest.Wait()
			if len(h.given) != 3 || h.given[2].Sub(h.given[1]) != took+rest {
				t.Errorf("inserts of %s began at %v, want them %s apart", took, h.given, took+rest)
			}
		})
	}
}
