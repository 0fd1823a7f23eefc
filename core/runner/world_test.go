package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/catalog"
	"github.com/gnomon-scheduler/gnomon/core/definition"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary is the order in which things happened, over all parts of a world.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf(format, args...))
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries)
}

// provider is the seam: it executes what the parameter "do" says.
type provider struct {
	diary *diary
	mu    sync.Mutex
	seen  []core.Attempt
	now   int           // attempts in progress
	most  int           // attempts in progress at once, at most
	let   chan struct{} // closed: "hold" goes on
}

func (p *provider) Validate(context.Context, string, json.RawMessage) ([]core.Finding, error) {
	return nil, nil
}

func (p *provider) Execute(ctx context.Context, a core.Attempt, sink core.Sink) (core.Outcome, error) {
	p.mu.Lock()
	p.seen = append(p.seen, a)
	p.now++
	p.most = max(p.most, p.now)
	let := p.let
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.now--
		p.mu.Unlock()
	}()
	p.diary.note("execute %d", a.Number)
	var params struct {
		Do    string
		Until int
	}
	if err := json.Unmarshal(a.Params, &params); err != nil {
		return core.Outcome{}, err
	}
	if err := sink.Log(ctx, core.LogLine{Level: core.LevelInfo, Stream: core.StreamLog, Message: fmt.Sprintf("attempt %d", a.Number)}); err != nil {
		return core.Outcome{}, err
	}
	outcome := core.Outcome{
		Verdict: core.Succeeded, Began: time.Now(), Output: json.RawMessage(`{"done":true}`), Checkpoint: fmt.Appendf(nil, "after %d", a.Number),
		Usage: core.Usage{CPU: 7 * time.Millisecond, CPUSource: core.SourceMeasured, PeakRSSBytes: 9 << 20, RSSSource: core.SourceShared, IOSource: core.SourceUnknown},
	}
	fail := func() { outcome.Verdict, outcome.Message, outcome.Output = core.Failed, "no luck", nil }
	switch params.Do {
	case "fail":
		fail()
	case "until":
		if a.Number < params.Until {
			fail()
		}
	case "error":
		return core.Outcome{}, errors.New("the plugin does not start")
	case "hold":
		select {
		case <-let:
		case <-ctx.Done():
			return core.Outcome{}, context.Cause(ctx)
		}
	case "deaf": // whatever it is asked
		<-let
	case "wait": // for the end of the context, as a well-behaved plugin does
		<-ctx.Done()
		outcome.Verdict, outcome.Message = core.Cancelled, context.Cause(ctx).Error()
		if errors.Is(context.Cause(ctx), core.ErrRunTimeout) {
			outcome.Verdict = core.TimedOut
		}
	}
	return outcome, nil
}

func (p *provider) attempts() []core.Attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

func (p *provider) executing() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// atOnce gives how many attempts were in progress at once, at most.
func (p *provider) atOnce() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

// history keeps the segments that the recorder ships.
type history struct {
	mu       sync.Mutex
	segments []core.Segment
}

func (h *history) WriteSegment(_ context.Context, s core.Segment) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.segments = append(h.segments, s)
	return nil
}

// records gives the attempts of a run, and its lines.
func (h *history) records(runID string) (attempts []core.AttemptRecord, lines []core.LoggedLine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.segments {
		for _, a := range s.Attempts {
			if a.RunID == runID {
				attempts = append(attempts, a)
			}
		}
		for _, l := range s.Logs {
			if l.Origin.RunID == runID {
				lines = append(lines, l)
			}
		}
	}
	slices.SortFunc(attempts, func(a, b core.AttemptRecord) int { return a.Attempt - b.Attempt })
	return attempts, lines
}

// spy is the recorder as the runner sees it, noting the order of what it is asked.
type spy struct {
	*recorder.Recorder
	diary *diary
}

type spyLog struct {
	*recorder.Attempt
	diary *diary
}

func (s spy) Attempt(origin core.Origin, level core.Level, _ core.LogFull) runner.Log {
	return spyLog{s.Recorder.Attempt(origin, level, recorder.Wait), s.diary}
}

func (s spy) Resume(ctx context.Context, origin core.Origin, level core.Level, _ core.LogFull) (runner.Log, error) {
	attempt, err := s.Recorder.Resume(ctx, origin, level, recorder.Wait)
	return spyLog{attempt, s.diary}, err
}

func (s spy) RecordAttempt(ctx context.Context, a core.AttemptRecord) error {
	s.diary.note("record %d %s", a.Attempt, a.Verdict)
	return s.Recorder.RecordAttempt(ctx, a)
}

func (l spyLog) Flush(ctx context.Context) error {
	err := l.Attempt.Flush(ctx)
	l.diary.note("durable %v", err == nil)
	return err
}

// spyStore notes outcomes before they are written.
type spyStore struct {
	*store.Store
	diary     *diary
	effective func(core.Task) core.Task
}

// Task gives a task with its effective policies, as the runner wants it.
func (s spyStore) Task(ctx context.Context, id string) (core.Task, error) {
	task, err := s.Store.Task(ctx, id)
	return s.effective(task), err
}

func (s spyStore) Finish(ctx context.Context, ends []core.Finish) ([]core.Finished, error) {
	for _, f := range ends {
		s.diary.note("finish %s", f.Outcome.Verdict)
	}
	return s.Store.Finish(ctx, ends)
}

// world is a runner on real parts: store, recorder, catalog and definitions. The scheduler is the test.
type world struct {
	*runner.Runner
	dir       string
	store     *store.Store
	spool     *recorder.Recorder
	history   *history
	catalog   *catalog.Catalog
	defs      *definition.Definitions
	provider  *provider
	diary     *diary
	opts      runner.Options
	may       atomic.Bool
	unchecked bool // the test leaves the store with runs of a server that is gone

	truths sync.Map      // precondition -> its detail, if it is not true
	usual  time.Duration // p95 of every task

	mu   sync.Mutex
	said []core.Task // announced
	gone []core.Task // announced as removed
}

// setup makes a world whose runner has not been started.
func setup(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	w.begin(t, "me")
	if _, err := w.defs.PutNamespace(t.Context(), core.Namespace{Name: "Lab"}); err != nil {
		t.Fatal(err)
	}
	return w
}

// begin opens everything in the world's folder, as the server of an id does when it starts.
func (w *world) begin(t *testing.T, id string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w.history, w.catalog, w.diary = &history{}, catalog.New(), &diary{}
	w.provider = &provider{diary: w.diary, let: make(chan struct{})}
	w.may.Store(true)
	var err error
	if w.store, err = store.Open(t.Context(), store.Options{Dir: filepath.Join(w.dir, "store")}); err != nil {
		t.Fatal(err)
	}
	w.spool, err = recorder.New(recorder.Options{Dir: filepath.Join(w.dir, "spool"), Log: log, Shipper: w.history, SegmentAge: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.spool.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Register(t.Context(), id, "here", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	types := []core.TaskType{{Name: "Lab.Work", ParamsSchema: json.RawMessage(`{"type":"object"}`)},
		{Name: "Lab.Long", ParamsSchema: json.RawMessage(`{"type":"object"}`), Resumable: true}}
	if err := w.catalog.Offer("plugin:lab", w.provider, types); err != nil {
		t.Fatal(err)
	}
	w.defs = definition.New(definition.Options{Store: w.store, Catalog: w.catalog, Clock: core.SystemClock{}, Log: log, Announce: func(core.Task, bool) {}})
	w.opts = runner.Options{
		Store: spyStore{w.store, w.diary, w.defs.Effective}, Catalog: w.catalog, Recorder: spy{w.spool, w.diary}, Clock: core.SystemClock{}, Log: log, ServerID: id,
		MayAct: w.may.Load, ForRun: w.forRun, After: after, Announce: w.announce, Drain: 5 * time.Second, Sweep: 20 * time.Millisecond,
		Gated: w.defs.Gated, Gates: w.defs.Gates, LookAround: 50 * time.Millisecond, Check: w.check, Dependents: w.defs.DependentTasks,
		StillDue: func(task *core.Task, _, _ time.Time) (core.Reason, json.RawMessage, bool) {
			return core.ReasonCatchUp, json.RawMessage(`{"policy":"none"}`), task.Policies.CatchUp != core.CatchUpNone
		},
		Usual: func(string) time.Duration { return w.usual }, BreakerMoved: func(b core.Breaker, _ core.Run) { w.diary.note("breaker %s", b.State) },
	}
	t.Cleanup(func() { w.close(t) })
}

// close ends the world, if it has not ended, and looks for what must never be left behind.
func (w *world) close(t *testing.T) {
	t.Helper()
	if w.store == nil {
		return
	}
	ctx := context.WithoutCancel(t.Context())
	if w.Runner != nil {
		if err := w.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := w.spool.Stop(ctx); err != nil {
		t.Error(err)
	}
	found, err := w.store.CheckInvariants(ctx)
	if err != nil || len(found) > 0 && !w.unchecked {
		t.Errorf("the store breaks its invariants: %+v, %v", found, err)
	}
	if err := w.store.Close(); err != nil {
		t.Error(err)
	}
	w.Runner, w.store = nil, nil
}

func (w *world) start(t *testing.T) {
	t.Helper()
	w.Runner = runner.New(w.opts)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func after(task *core.Task) (time.Duration, bool) {
	sched, err := schedule.Parse(task.Schedule, task.Name, nil)
	if err != nil || sched.Kind() != schedule.After {
		return 0, false
	}
	return sched.After(), true
}

func (w *world) announce(task core.Task, removed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if removed {
		w.gone = append(w.gone, task)
		return
	}
	w.said = append(w.said, task)
}

func (w *world) announced() (said, gone []core.Task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.said), slices.Clone(w.gone)
}

// forRun gives a task with its effective policies and the parameters of one run.
func (w *world) forRun(ctx context.Context, id string, params json.RawMessage) (core.Task, error) {
	task, err := w.defs.ForRun(ctx, id, params)
	return w.defs.Effective(task), err
}

// check says that a precondition is true unless the test has said otherwise.
func (w *world) check(_ context.Context, _ *core.Task, _ core.Run, p core.Precondition) (bool, string) {
	if detail, untrue := w.truths.Load(p.Name); untrue {
		return false, detail.(string)
	}
	return true, ""
}

// create stores a task that does something; change may be nil.
func (w *world) create(t *testing.T, do string, change func(*core.Task)) core.Task {
	t.Helper()
	task := core.Task{
		Namespace: "Lab", Name: "t" + uuid.NewString()[:8], Type: "Lab.Work", Params: json.RawMessage(`{"do":"` + do + `"}`),
		Schedule: core.Schedule{Spec: "@every 1h"}, Enabled: true, Policies: core.Policies{Overlap: core.OverlapAllow},
	}
	if change != nil {
		change(&task)
	}
	stored, err := w.defs.Create(t.Context(), task, "ann")
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// claim claims a fire of a task for an instant, as the scheduler of a server does, and gives the run.
func (w *world) claim(t *testing.T, taskID, owner string, instant time.Time) (*core.Task, core.Run) {
	t.Helper()
	task, err := w.opts.Store.Task(t.Context(), taskID)
	if err != nil {
		t.Fatal(err)
	}
	instant = instant.UTC().Truncate(time.Microsecond)
	run := core.Run{
		ID: uuid.Must(uuid.NewV7()).String(), TaskID: task.ID, TaskVersion: task.Version, Namespace: task.Namespace, TaskName: task.Name,
		TaskType: task.Type, Trigger: core.TriggerSchedule, FireAt: instant, FireThrough: instant, FireCount: 1, Params: task.Params,
		State: core.RunClaimed, Owner: owner, StartAt: instant, Attempt: 1, DecidedAt: time.Now(), CreatedBy: "gnomon",
		Priority: task.Policies.Priority,
	}
	then := task.State.NextFire.Add(time.Hour)
	if _, isAfter := after(&task); isAfter {
		then = time.Time{}
	}
	answers, err := w.store.Claim(t.Context(), []core.Claim{{
		TaskID: task.ID, Version: task.Version, NextFire: task.State.NextFire, Then: then, Runs: []core.Run{run}, Overlap: task.Policies.Overlap,
		Gated: w.defs.Gated(&task),
	}})
	if err != nil || !answers[0].Won || len(answers[0].Decided) > 0 {
		t.Fatalf("claimed %+v, %v", answers, err)
	}
	run.Token, run.PrevSuccess = answers[0].Token, answers[0].LastSuccess
	if answers[0].Queued {
		run.State = core.RunQueued
	}
	return &task, run
}

// fire claims a fire and hands it to the runner.
func (w *world) fire(t *testing.T, taskID string, in time.Duration) core.Run {
	t.Helper()
	task, run := w.claim(t, taskID, w.opts.ServerID, time.Now().Add(in))
	w.Dispatch(task, run)
	return run
}

func (w *world) run(t *testing.T, id string) core.Run {
	t.Helper()
	run, err := w.store.Run(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func (w *world) task(t *testing.T, id string) core.Task {
	t.Helper()
	task, err := w.store.Task(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// ended waits for a run to end.
func (w *world) ended(t *testing.T, id string) core.Run {
	t.Helper()
	var run core.Run
	eventually(t, "the run ends", func() bool { run = w.run(t, id); return run.State == core.RunEnded })
	return run
}

func (w *world) wantEnded(t *testing.T, id string, verdict core.Verdict, reason core.Reason) core.Run {
	t.Helper()
	run := w.ended(t, id)
	if run.Verdict != verdict || run.Reason != reason {
		t.Errorf("the run ended %s (%q, %q); want %s (%q)", run.Verdict, run.Reason, run.Message, verdict, reason)
	}
	return run
}

// wantAttempts waits for the attempts of a run to reach history and checks their verdicts.
func (w *world) wantAttempts(t *testing.T, runID string, verdicts ...core.Verdict) []core.AttemptRecord {
	t.Helper()
	var attempts []core.AttemptRecord
	eventually(t, "the attempts reach history", func() bool {
		attempts, _ = w.history.records(runID)
		return len(attempts) >= len(verdicts)
	})
	for i, a := range attempts {
		if i >= len(verdicts) || a.Verdict != verdicts[i] || a.Attempt != i+1 || i > 0 && a.Token <= attempts[i-1].Token {
			t.Errorf("attempts %+v; want %v with rising numbers and tokens", attempts, verdicts)
			break
		}
	}
	return attempts
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); wait(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after a minute: %s", what)
		}
	}
}

// wait lets real time pass: a real store cannot be held in a bubble of synctest.
func wait(d time.Duration) { <-time.After(d) }

func order(entries []string) string { return strings.Join(entries, ", ") }
