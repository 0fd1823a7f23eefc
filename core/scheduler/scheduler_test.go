package scheduler_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/definition"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // most of what happens here is waiting for instants; -parallel still overrides it
	goleak.VerifyTestMain(m)
}

// world is a scheduler on a real store. The runner is the test: it notes what it is given.
type world struct {
	*scheduler.Scheduler
	store  *store.Store
	dir    string
	defs   *definition.Definitions
	opts   scheduler.Options
	may    atomic.Bool
	barred atomic.Int64 // how often the scheduler has found that it may not act
	room   atomic.Int64

	mu         sync.Mutex
	dispatched []core.Run
}

// Dispatch notes a run.
func (w *world) Dispatch(_ *core.Task, run core.Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dispatched = append(w.dispatched, run)
}

func (w *world) mayAct() bool {
	if w.may.Load() {
		return true
	}
	w.barred.Add(1)
	return false
}

// Room is what the test says; as much as anyone wants at first.
func (w *world) Room() int { return int(w.room.Load()) }

func (w *world) taken(taskID string) []core.Run {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []core.Run
	for _, d := range w.dispatched {
		if d.TaskID == taskID {
			list = append(list, d)
		}
	}
	return list
}

// anyType is a catalog in which every type exists.
type anyType struct{}

func (anyType) Types([]string) []core.TaskType { return nil }

func (anyType) Type(name string) (core.TaskType, bool) {
	return core.TaskType{Name: name, ParamsSchema: json.RawMessage(`{}`)}, true
}

func (c anyType) Lookup(_, name string) (core.Provider, core.TaskType, error) {
	found, _ := c.Type(name)
	return c, found, nil
}

func (anyType) Validate(context.Context, string, json.RawMessage) ([]core.Finding, error) {
	return nil, nil
}

func (anyType) Execute(context.Context, core.Attempt, core.Sink) (core.Outcome, error) {
	return core.Outcome{}, nil
}

// setup opens a store; the scheduler begins with start.
func setup(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	w.may.Store(true)
	w.room.Store(1 << 20)
	var err error
	if w.store, err = store.Open(t.Context(), store.Options{Dir: w.dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	w.opts = scheduler.Options{
		Store: w.store, Runner: w, Clock: core.SystemClock{}, Log: slog.New(slog.DiscardHandler), ServerID: "me", MayAct: w.mayAct, Ahead: 400 * time.Millisecond,
	}
	w.defs = definition.New(definition.Options{
		Store: w.store, Catalog: anyType{}, Clock: core.SystemClock{}, Log: w.opts.Log,
		Announce: func(task core.Task, removed bool) {
			if w.Scheduler != nil {
				w.Announce(task, removed)
			}
		},
	})
	if _, err := w.defs.PutNamespace(t.Context(), core.Namespace{Name: "Lab"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) start(t *testing.T) {
	t.Helper()
	w.Scheduler = scheduler.New(w.opts)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Stop(context.WithoutCancel(t.Context())) })
}

func (w *world) create(t *testing.T, name, spec string) core.Task {
	t.Helper()
	task, err := w.defs.Create(t.Context(), core.Task{
		Namespace: "Lab", Name: name, Type: "Lab.Work", Schedule: core.Schedule{Spec: spec}, Enabled: true,
		Policies: core.Policies{Overlap: core.OverlapAllow},
	}, "ann")
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// rows gives the decisions about a task, by their instants.
func (w *world) rows(t *testing.T, taskID string) []core.Run {
	t.Helper()
	runs, err := w.store.Runs(t.Context(), core.RunFilter{TaskID: taskID})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(runs, func(a, b core.Run) int { return a.FireAt.Compare(b.FireAt) })
	return runs
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so after a minute: %s", what)
		}
		wait(5 * time.Millisecond)
	}
}

// wait lets real time pass: the loop is tested with a real store, which no bubble of synctest can hold.
func wait(d time.Duration) { <-time.After(d) }

// wantEachOnce checks that the rows decide about every instant of the schedule after from, each once and without a
// hole, up to the last row; it gives how many instants that are.
func wantEachOnce(t *testing.T, task core.Task, rows []core.Run, from time.Time) int {
	t.Helper()
	sched, err := schedule.Parse(task.Schedule, task.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	at, total := from, 0
	for _, row := range rows {
		for n := range row.FireCount {
			fire, _ := sched.Next(at)
			if n == 0 && !fire.At.Equal(row.FireAt) || n == row.FireCount-1 && !fire.At.Equal(row.FireThrough) {
				t.Fatalf("task %s: after %s comes %s, but the row is about %s to %s (%d)", task.Name, at, fire.At, row.FireAt, row.FireThrough, row.FireCount)
			}
			at = fire.At
			total++
		}
	}
	return total
}

func TestEachInstantIsDecidedOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	<-w.Ready()
	specs := []string{"@every 1s", "@every 1s", "@every 1500ms", "* * * * * *", "*/2 * * * * *", "@every 1s"}
	var tasks []core.Task
	for i, spec := range specs {
		tasks = append(tasks, w.create(t, fmt.Sprintf("t%d", i), spec))
		wait(70 * time.Millisecond) // so that their instants lie apart
	}
	later := w.create(t, "later", "@every 1h")
	eventually(t, "each fires twice", func() bool {
		return !slices.ContainsFunc(tasks, func(task core.Task) bool { return len(w.taken(task.ID)) < 2 })
	})
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, task := range tasks {
		rows := w.rows(t, task.ID)
		if n := wantEachOnce(t, task, rows, task.CreatedAt); n < 1 {
			t.Errorf("task %s was never decided", task.Name)
		}
		taken := w.taken(task.ID)
		if len(taken) != len(rows) {
			t.Errorf("task %s: %d runs were dispatched, %d are stored", task.Name, len(taken), len(rows))
		}
		for i, d := range taken {
			row := rows[i]
			if row.ID != d.ID || row.State != core.RunClaimed || row.Owner != "me" || row.Token != d.Token || !row.StartAt.Equal(row.FireAt) || row.Verdict != "" {
				t.Errorf("task %s: dispatched %+v, stored %+v", task.Name, d, row)
			}
			total++
		}
		if stored, err := w.defs.Task(t.Context(), task.ID); err != nil || len(rows) > 0 && !stored.State.NextFire.After(rows[len(rows)-1].FireAt) {
			t.Errorf("task %s: its mark stands at %s, %v", task.Name, stored.State.NextFire, err)
		}
	}
	if n := len(w.rows(t, later.ID)); n != 0 || w.Stats().Decided != int64(total) || w.Stats().ClockSteps != 0 {
		t.Errorf("%d early fires; figures %+v, want %d decided", n, w.Stats(), total)
	}
}

// standingClock is the machine's clock, whose time stands where it was put.
type standingClock struct {
	core.SystemClock
	at atomic.Pointer[time.Time]
}

// Now gives the time it was put at.
func (c *standingClock) Now() time.Time { return *c.at.Load() }

func (c *standingClock) put(at time.Time) { c.at.Store(&at) }

// TestAFireIsDurableBeforeItsInstantAndNotLongBefore: the clock never reaches the instant.
func TestAFireIsDurableBeforeItsInstantAndNotLongBefore(t *testing.T) {
	t.Parallel()
	w := setup(t)
	clock, instant := &standingClock{}, time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	clock.put(instant.Add(-w.opts.Ahead - time.Microsecond))
	w.opts.Clock = clock
	task := w.create(t, "t", "@at "+instant.Format(time.RFC3339Nano))
	w.start(t)
	eventually(t, "it was looked at", func() bool { return w.Stats().Window == 1 })
	if rows := w.rows(t, task.ID); len(rows) != 0 {
		t.Errorf("claimed more than %s ahead: %+v", w.opts.Ahead, rows)
	}
	clock.put(instant.Add(-w.opts.Ahead))
	eventually(t, "it is dispatched", func() bool { return len(w.taken(task.ID)) == 1 })
	if rows := w.rows(t, task.ID); len(rows) != 1 || rows[0].State != core.RunClaimed || !rows[0].FireAt.Equal(instant) || !rows[0].StartAt.Equal(instant) {
		t.Errorf("stored %+v", rows)
	}
}

// TestAChangeTakesEffectAtOnceAndNeverRetroactively: the next look into the store would be 10 s away.
func TestAChangeTakesEffectAtOnceAndNeverRetroactively(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	<-w.Ready()
	task := w.create(t, "t", "@every 1s")
	eventually(t, "the new task fires", func() bool { return len(w.taken(task.ID)) > 0 })

	off, err := w.defs.SetEnabled(t.Context(), task.ID, false, "ann")
	if err != nil {
		t.Fatal(err)
	}
	before := len(w.rows(t, task.ID))
	wait(1600 * time.Millisecond)
	if n := len(w.rows(t, task.ID)); n != before {
		t.Fatalf("%d fires were decided while the task was disabled", n-before)
	}

	enabledAt := time.Now()
	if _, err = w.defs.SetEnabled(t.Context(), off.ID, true, "ann"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the enabled task fires", func() bool { return len(w.rows(t, task.ID)) > before })
	if first := w.rows(t, task.ID)[before]; !first.FireAt.After(enabledAt) || first.Verdict != "" || first.TaskVersion != 3 {
		t.Errorf("enabled at %s, the first decision is %+v", enabledAt, first)
	}

	edited, err := w.defs.Task(t.Context(), task.ID)
	if err != nil {
		t.Fatal(err)
	}
	instant := time.Now().Add(1200 * time.Millisecond).UTC().Truncate(time.Millisecond)
	edited.Schedule.Spec = "@at " + instant.Format(time.RFC3339Nano)
	if edited, err = w.defs.Replace(t.Context(), edited, "ann"); err != nil {
		t.Fatal(err)
	}
	before = len(w.rows(t, task.ID))
	eventually(t, "the edited task fires", func() bool { return len(w.rows(t, task.ID)) > before })
	if last := w.rows(t, task.ID)[before]; !last.FireAt.Equal(instant) || last.TaskVersion != edited.Version || !last.StartAt.Equal(instant) {
		t.Errorf("after the edit came %+v; want %s", last, instant)
	}

	if err := w.defs.Delete(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deleted task leaves the window", func() bool { return w.Stats().Window == 0 })
}

// TestTheEndOfAnOldRunDoesNotHideTheNewVersion: the next fire that an @after run's end sets is of the version it ran in.
func TestTheEndOfAnOldRunDoesNotHideTheNewVersion(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	<-w.Ready()
	old := w.create(t, "t", "@after 1h")
	edited := old
	edited.Schedule.Spec = "@every 1s"
	edited, err := w.defs.Replace(t.Context(), edited, "ann")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new version fires", func() bool { return len(w.taken(old.ID)) > 0 })
	for range 2 {
		before := len(w.taken(old.ID))
		ended := old
		ended.State.NextFire = time.Now().Add(time.Hour)
		w.Announce(ended, false)
		began := time.Now()
		eventually(t, "it goes on", func() bool { return len(w.taken(old.ID)) > before })
		if waited := time.Since(began); waited > 5*time.Second {
			t.Errorf("the next fire was found after %s, by a scan", waited)
		}
	}
	wantEachOnce(t, edited, w.rows(t, old.ID), edited.UpdatedAt)
}

// TestAPoisonedRowIsSkippedOnceAndDelaysNoOther: a definition that cannot be read, and a schedule that cannot.
func TestAPoisonedRowIsSkippedOnceAndDelaysNoOther(t *testing.T) {
	t.Parallel()
	w := setup(t)
	schedulePoisoned, docPoisoned, healthy := w.create(t, "p1", "@every 1s"), w.create(t, "p2", "@every 1s"), w.create(t, "h", "@every 1s")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "store.db")+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for id, query := range map[string]string{
		schedulePoisoned.ID: "UPDATE tasks SET doc = replace(doc, '@every 1s', '@sometimes') WHERE id = ?",
		docPoisoned.ID:      "UPDATE tasks SET doc = substr(doc, 1, 20) WHERE id = ?",
	} {
		if _, err := db.ExecContext(t.Context(), query, id); err != nil {
			t.Fatal(err)
		}
	}
	w.start(t)
	eventually(t, "the healthy task fires three times", func() bool { return len(w.taken(healthy.ID)) >= 3 })
	wantEachOnce(t, healthy, w.rows(t, healthy.ID), healthy.CreatedAt)
	for _, task := range []core.Task{schedulePoisoned, docPoisoned} {
		rows := w.rows(t, task.ID)
		if len(rows) != 1 || rows[0].Verdict != core.Skipped || rows[0].Reason != core.ReasonPoisoned || len(rows[0].Facts) < 20 || len(w.taken(task.ID)) != 0 {
			t.Fatalf("decisions about %s: %+v; want one, skipped as poisoned", task.Name, rows)
		}
		if rows[0].Namespace != "Lab" || rows[0].TaskName != task.Name || rows[0].Owner != "me" {
			t.Errorf("the skipped fire belongs to %q/%q and was decided by %q; want Lab/%s by me", rows[0].Namespace, rows[0].TaskName, rows[0].Owner, task.Name)
		}
	}
	// A change mends it: the definition is read anew.
	mended, err := w.store.Task(t.Context(), schedulePoisoned.ID)
	if err != nil {
		t.Fatal(err)
	}
	mended.Schedule.Spec = "@every 1s"
	if mended, err = w.defs.Replace(t.Context(), mended, "ann"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the mended task fires", func() bool { return len(w.taken(mended.ID)) > 0 })
}

// rival is a store in which another server is always the faster one.
type rival struct {
	*store.Store
	claims atomic.Int64
}

func (r *rival) Claim(_ context.Context, claims []core.Claim) ([]core.Claimed, error) {
	r.claims.Add(1)
	return make([]core.Claimed, len(claims)), nil
}

// TestAPoisonedRowLostToAnotherServerIsLeftToIt: it cannot be read, so it must not be tried again and again.
func TestAPoisonedRowLostToAnotherServerIsLeftToIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, "p", "@every 1s")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "store.db")+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "UPDATE tasks SET doc = '{' WHERE id = ?", task.ID); err != nil {
		t.Fatal(err)
	}
	store := &rival{Store: w.store}
	w.opts.Store = store
	w.start(t)
	eventually(t, "the fire is claimed", func() bool { return store.claims.Load() > 0 })
	wait(300 * time.Millisecond)
	if n := store.claims.Load(); n != 1 {
		t.Errorf("the fire was claimed %d times; want once until the next scan", n)
	}
}

// TestRunsStartedByAnotherServerCountForMaxRuns: how many there were is read again when the mark has been moved elsewhere.
func TestRunsStartedByAnotherServerCountForMaxRuns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.opts.Scan = 50 * time.Millisecond
	w.start(t)
	task, err := w.defs.Create(t.Context(), core.Task{
		Namespace: "Lab", Name: "limited", Type: "Lab.Work", Schedule: core.Schedule{Spec: "@every 1s"}, Enabled: true,
		Policies: core.Policies{Overlap: core.OverlapAllow, MaxRuns: 3},
	}, "ann")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first has been dispatched", func() bool { return len(w.taken(task.ID)) == 1 })
	w.may.Store(false)
	for range 2 { // the other server
		seen, err := w.store.Task(t.Context(), task.ID)
		if err != nil {
			t.Fatal(err)
		}
		next := seen.State.NextFire
		run := core.Run{
			ID: uuid.Must(uuid.NewV7()).String(), TaskID: task.ID, TaskVersion: seen.Version, Namespace: "Lab", TaskName: task.Name, TaskType: task.Type,
			Trigger: core.TriggerSchedule, FireAt: next, FireThrough: next, FireCount: 1, State: core.RunClaimed, Owner: "other", StartAt: next, Attempt: 1, DecidedAt: next,
		}
		won, err := w.store.Claim(t.Context(), []core.Claim{{TaskID: task.ID, Version: seen.Version, NextFire: next, Then: next.Add(time.Second), Runs: []core.Run{run}, Overlap: core.OverlapAllow}})
		if err != nil || !won[0].Won {
			t.Fatalf("%+v %v", won, err)
		}
	}
	w.may.Store(true)
	eventually(t, "its schedule is over", func() bool {
		seen, err := w.store.Task(t.Context(), task.ID)
		return err == nil && seen.State.NextFire.IsZero()
	})
	if seen, err := w.store.Task(t.Context(), task.ID); err != nil || seen.State.Fired != 3 || len(w.taken(task.ID)) != 1 {
		t.Errorf("%d were started, %d of them here: %v", seen.State.Fired, len(w.taken(task.ID)), err)
	}
}

func TestNothingIsClaimedWithoutTheLease(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.may.Store(false)
	task := w.create(t, "t", "@every 1s")
	w.start(t)
	wait(1500 * time.Millisecond)
	if n := len(w.rows(t, task.ID)); n != 0 || w.Stats().Decided != 0 {
		t.Fatalf("%d fires were decided without the lease", n)
	}
	w.may.Store(true)
	eventually(t, "it fires", func() bool { return len(w.taken(task.ID)) >= 2 })
	w.may.Store(false)
	seen := w.barred.Load()
	eventually(t, "a pass that had begun has ended", func() bool { return w.barred.Load() > seen })
	before := len(w.rows(t, task.ID))
	wait(1200 * time.Millisecond)
	rows := w.rows(t, task.ID)
	if len(rows) != before {
		t.Errorf("%d fires were decided after the lease had gone", len(rows)-before)
	}
	wantEachOnce(t, task, rows, task.CreatedAt) // none was lost: those that came meanwhile were late
}

// TestAFullRunnerIsNotGivenMore: fires wait in the store, with their instants, and are claimed late.
func TestAFullRunnerIsNotGivenMore(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.room.Store(0)
	task := w.create(t, "t", "@every 1s")
	w.start(t)
	wait(1300 * time.Millisecond)
	if n := len(w.rows(t, task.ID)); n != 0 {
		t.Fatalf("%d fires were claimed for a full runner", n)
	}
	w.room.Store(1)
	eventually(t, "it fires", func() bool { return len(w.taken(task.ID)) >= 2 })
	wantEachOnce(t, task, w.rows(t, task.ID), task.CreatedAt)
}

// steppingClock is the machine's clock, set by someone: the wall clock moves and the monotonic one does not.
type steppingClock struct {
	core.SystemClock
	seconds atomic.Int64
}

// Now moves the wall part of a Time only. The standard library has no way to make such a value, the kernel does: the
// seconds are bits 30 to 62 of the first word (time.Time, "wall and ext").
func (c *steppingClock) Now() time.Time {
	now := time.Now()
	*(*uint64)(unsafe.Pointer(&now)) += uint64(c.seconds.Load()) << 30
	return now
}

func TestTheSteppingClockStepsLikeAMachines(t *testing.T) {
	t.Parallel()
	clock := &steppingClock{}
	before := clock.Now()
	clock.seconds.Store(3600)
	after := clock.Now()
	if wall := after.Round(0).Sub(before.Round(0)); wall < time.Hour || after.Sub(before) > time.Minute {
		t.Errorf("the wall clock moved %s, the monotonic one %s", wall, after.Sub(before))
	}
}

// TestAClockThatIsSoonRightAgainMakesNoFireLate: the step back is not slept through until the next scan.
func TestAClockThatIsSoonRightAgainMakesNoFireLate(t *testing.T) {
	t.Parallel()
	clock := &steppingClock{}
	w := setup(t)
	w.opts.Clock, w.opts.Scan = clock, time.Hour
	task := w.create(t, "t", "@every 1s")
	w.start(t)
	eventually(t, "it fires", func() bool { return len(w.taken(task.ID)) > 0 })
	clock.seconds.Store(-3600)
	wait(2200 * time.Millisecond)
	clock.seconds.Store(0)
	right := time.Now()
	eventually(t, "it fires again, long before the scan", func() bool {
		taken := w.taken(task.ID)
		return taken[len(taken)-1].FireAt.After(right)
	})
	wantEachOnce(t, task, w.rows(t, task.ID), task.CreatedAt)
}

func TestAClockStepIsNoticedAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	clock := &steppingClock{}
	w := setup(t)
	w.opts.Clock, w.opts.Scan = clock, 300*time.Millisecond
	task := w.create(t, "t", "@every 1s")
	w.start(t)
	eventually(t, "it fires", func() bool { return len(w.taken(task.ID)) >= 1 })
	if n := w.Stats().ClockSteps; n != 0 {
		t.Fatalf("%d steps of a clock that did not step", n)
	}
	clock.seconds.Store(3600)
	eventually(t, "the step forward is counted", func() bool { return w.Stats().ClockSteps == 1 })
	eventually(t, "it fires an hour later", func() bool {
		rows := w.rows(t, task.ID)
		return rows[len(rows)-1].FireAt.Sub(task.CreatedAt) > time.Hour
	})
	clock.seconds.Store(0)
	eventually(t, "the step back is counted", func() bool { return w.Stats().ClockSteps == 2 })
	wait(50 * time.Millisecond)
	before := w.rows(t, task.ID)
	wait(1500 * time.Millisecond)
	rows := w.rows(t, task.ID)
	if len(rows) != len(before) {
		t.Errorf("%d fires were decided again after the clock went back", len(rows)-len(before))
	}
	if n := wantEachOnce(t, task, rows, task.CreatedAt); n < 3600 {
		t.Errorf("%d instants decided; want the hour's", n)
	}
	caught := 0
	for _, row := range rows {
		if row.Trigger == core.TriggerCatchUp {
			caught++
		}
	}
	if caught != 1 || w.Stats().ClockSteps != 2 {
		t.Errorf("%d catch-ups, %d steps; want 1 and 2", caught, w.Stats().ClockSteps)
	}
}

// TestAFullWindowLeavesNoFireBehind: more tasks fire at one instant than the window holds.
func TestAFullWindowLeavesNoFireBehind(t *testing.T) {
	t.Parallel()
	const n = 5_500
	w := setup(t)
	w.opts.MaxWindow, w.opts.MissedAfter, w.opts.Scan = 5_000, time.Hour, time.Hour // no scan comes by itself
	instant := time.Now().Add(1500 * time.Millisecond).UTC().Truncate(time.Millisecond)
	tasks := make([]core.Task, n)
	for i := range tasks {
		tasks[i] = core.Task{
			ID: uuid.Must(uuid.NewV7()).String(), Namespace: "Lab", Name: fmt.Sprint(i), Type: "Lab.Work", Enabled: true,
			Schedule: core.Schedule{Spec: "@at " + instant.Format(time.RFC3339Nano)}, State: core.TaskState{NextFire: instant},
		}
	}
	if err := w.store.CreateTasks(t.Context(), tasks); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	most := int64(0)
	eventually(t, "all fire", func() bool {
		most = max(most, w.Stats().Window)
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.dispatched) >= n
	})
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if most > 5_000 {
		t.Errorf("the window held %d tasks; want 5,000 at most", most)
	}
	seen := map[string]bool{}
	for _, d := range w.dispatched {
		seen[d.TaskID] = true
	}
	if len(seen) != n || len(w.dispatched) != n || w.Stats().Decided != n {
		t.Errorf("%d runs of %d tasks; want %d of each", len(w.dispatched), len(seen), n)
	}
}
