// Package scheduler decides which fires are due and claims them: one transaction moves a task's mark and inserts the
// run, so that each fire has exactly one decision, whatever crashes in between.
package scheduler

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/google/uuid"
)

// Store is where marks and runs are kept.
type Store interface {
	// Due lists tasks whose next fire is at or before until, ordered by (next fire, id), after a cursor.
	Due(ctx context.Context, until time.Time, after core.Due, limit int) ([]core.Due, error)
	// Definitions gives tasks by id, with their effective policies, without those that are gone; problems says which
	// rows cannot be read, and why.
	Definitions(ctx context.Context, ids []string) (tasks []core.Task, problems map[string]error, err error)
	// Task gives one task, also one whose definition cannot be read: then only its names.
	Task(ctx context.Context, id string) (core.Task, error)
	Claim(ctx context.Context, claims []core.Claim) ([]core.Claimed, error)
}

// Runner starts claimed runs at their instant. Dispatch takes over at once and must not block for long.
type Runner interface {
	Dispatch(task *core.Task, run core.Run)
	// Room says how many more runs it can take now. Fires beyond it are claimed later, and then late: the store is the
	// queue, not memory.
	Room() int
}

// Options configure a Scheduler. Zero durations take the values named.
type Options struct {
	Store    Store
	Runner   Runner
	Clock    core.Clock
	Log      *slog.Logger
	ServerID string
	// MayAct says whether this server holds its lease; while it does not, nothing is claimed.
	MayAct func() bool
	// Plan gives meaning to a task's schedule, with the calendars it names; nil: there are no calendars.
	Plan func(task *core.Task) (*schedule.Schedule, error)
	// Gated says whether a task's runs must be admitted at their instant; nil: none.
	Gated func(task *core.Task) bool

	Ahead       time.Duration // how long before its instant a fire is claimed; 200 ms
	Gather      time.Duration // fires due within this time are claimed together; 20 ms
	Window      time.Duration // how far ahead fires are held in memory; 30 s
	Scan        time.Duration // how often the window is filled from the store; 10 s
	MissedAfter time.Duration // see Rules; 10 s
	MaxWindow   int           // fires held in memory at most; 100,000
	MaxBatch    int           // claims in one call of the store; 1,000
}

// Scheduler is the timer loop. It is started once and stopped once.
type Scheduler struct {
	opts Options
	wake chan struct{} // holds one token: look again

	mu      sync.Mutex
	changed map[string]core.Task // announced since the last pass, by id; removed tasks have Version 0

	ready  chan struct{} // closed after the first pass
	cancel context.CancelFunc
	done   chan struct{}

	began      time.Time
	stale      atomic.Bool // plans are to be read anew
	clockSteps atomic.Int64
	decided    atomic.Int64
	pending    atomic.Int64
}

// Stats are the scheduler's own figures.
type Stats struct {
	Decided    int64 // fires decided since start
	Window     int64 // upcoming fires held in memory
	ClockSteps int64 // steps of the wall clock noticed
}

// New checks nothing and starts nothing; it fills in defaults.
func New(opts Options) *Scheduler {
	defaults := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	defaults(&opts.Ahead, 200*time.Millisecond)
	defaults(&opts.Gather, 20*time.Millisecond)
	defaults(&opts.Window, 30*time.Second)
	defaults(&opts.Scan, 10*time.Second)
	defaults(&opts.MissedAfter, 10*time.Second)
	if opts.MaxWindow == 0 {
		opts.MaxWindow = 100_000
	}
	if opts.MaxBatch == 0 {
		opts.MaxBatch = 1_000
	}
	if opts.Plan == nil {
		opts.Plan = func(task *core.Task) (*schedule.Schedule, error) {
			return schedule.Parse(task.Schedule, task.Name, nil)
		}
	}
	if opts.Gated == nil {
		opts.Gated = func(*core.Task) bool { return false }
	}
	return &Scheduler{
		opts: opts, wake: make(chan struct{}, 1), changed: make(map[string]core.Task),
		ready: make(chan struct{}), done: make(chan struct{}),
	}
}

// Start begins the loop.
func (s *Scheduler) Start(ctx context.Context) error {
	s.began = s.opts.Clock.Now()
	ctx, s.cancel = context.WithCancel(ctx)
	go s.loop(ctx) // ends when Stop cancels ctx
	return nil
}

// Stop ends the loop: nothing is claimed after it returns. What was claimed is the runner's.
func (s *Scheduler) Stop(context.Context) error {
	if s.cancel != nil {
		s.cancel()
		<-s.done
	}
	return nil
}

// Ready is closed once the first pass over the store is done: tasks are being scheduled.
func (s *Scheduler) Ready() <-chan struct{} { return s.ready }

// Stats gives the scheduler's figures.
func (s *Scheduler) Stats() Stats {
	return Stats{Decided: s.decided.Load(), Window: s.pending.Load(), ClockSteps: s.clockSteps.Load()}
}

// Announce tells the scheduler that a task was stored or removed. It never blocks.
func (s *Scheduler) Announce(task core.Task, removed bool) {
	if removed {
		task = core.Task{ID: task.ID}
	}
	s.mu.Lock()
	if held, ok := s.changed[task.ID]; !ok || removed || held.Version <= task.Version {
		s.changed[task.ID] = task
	}
	s.mu.Unlock()
	s.poke()
}

// Refresh has every task's definition read anew before it is decided on again: calendars, limits or a namespace's
// defaults have changed. It never blocks.
func (s *Scheduler) Refresh() {
	s.stale.Store(true)
	s.poke()
}

func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Scheduler) loop(ctx context.Context) {
	defer close(s.done)
	w := newWindow()
	var nextScan time.Time
	seen := s.opts.Clock.Now()
	announced := sync.OnceFunc(func() { close(s.ready) })
	for ctx.Err() == nil {
		now := s.opts.Clock.Now()
		if s.stepped(seen, now) {
			nextScan = time.Time{}
		}
		seen = now
		if s.stale.Swap(false) {
			w.forgetPlans()
		}
		s.takeChanges(w)
		if s.opts.MayAct() {
			if !now.Before(nextScan) {
				if err := s.scan(ctx, w, now); err != nil {
					s.complain(ctx, "due tasks not read", err)
					s.pause(ctx, time.Second)
					continue
				}
				nextScan = now.Add(s.opts.Scan)
				announced()
			}
			if err := s.pass(ctx, w); err != nil {
				s.complain(ctx, "fires not claimed", err)
				s.pause(ctx, 200*time.Millisecond)
				nextScan = time.Time{} // an unknown commit result: look at what the store says now
				continue
			}
			if s.drained(w) {
				nextScan = time.Time{}
			}
		}
		s.pending.Store(int64(w.len()))
		s.pause(ctx, s.untilNext(w, nextScan))
	}
}

// stepped notices that the wall clock moved otherwise than the monotonic one did.
func (s *Scheduler) stepped(before, now time.Time) bool {
	step := now.Round(0).Sub(before.Round(0)) - now.Sub(before)
	if step.Abs() < 500*time.Millisecond {
		return false
	}
	s.clockSteps.Add(1)
	s.opts.Log.Warn("wall clock stepped", "step_ms", step.Milliseconds())
	return true
}

func (s *Scheduler) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		s.opts.Log.Error("scheduler pass not finished", "step", what, "err", err)
	}
}

// drained says that a window which could not hold all that fires now has been worked off: the store has more.
func (s *Scheduler) drained(w *window) bool {
	horizon := s.opts.Clock.Now().Add(s.opts.Ahead)
	at, ok := w.first()
	return !w.until.After(horizon) && (!ok || at.After(horizon))
}

// notice is how long a step of the wall clock may go unnoticed: much less than a fire may be late. A clock that is set back
// and soon right again would else find the scheduler asleep until the next scan.
const notice = time.Second

// untilNext gives how long nothing needs doing: at least the gather time, so that fires are claimed in groups, and
// never more than the time to the next scan, or for a step of the clock to be noticed.
func (s *Scheduler) untilNext(w *window, nextScan time.Time) time.Duration {
	now := s.opts.Clock.Now()
	wait := min(nextScan.Sub(now), notice)
	if at, ok := w.first(); ok {
		wait = min(wait, at.Add(-s.opts.Ahead).Sub(now))
	}
	return max(wait, s.opts.Gather)
}

func (s *Scheduler) pause(ctx context.Context, d time.Duration) {
	stop := s.opts.Clock.AfterFunc(d, s.poke)
	defer stop()
	select {
	case <-ctx.Done():
	case <-s.wake:
	}
}

func (s *Scheduler) takeChanges(w *window) {
	s.mu.Lock()
	changed := s.changed
	s.changed = make(map[string]core.Task)
	s.mu.Unlock()
	for id, task := range changed {
		if held, ok := w.byID[id]; ok && task.Version != 0 && task.Version < held.Version {
			continue // the end of a run of an older version
		}
		switch {
		case task.Version == 0 || task.State.NextFire.IsZero():
			w.remove(id)
		case !task.State.NextFire.After(w.until):
			w.put(core.Due{TaskID: id, Version: task.Version, NextFire: task.State.NextFire})
		default:
			w.remove(id) // a later scan brings it back
		}
	}
}

// scan fills the window from the store. Marks of tasks in the window may have been moved by another server; the
// store's word counts.
func (s *Scheduler) scan(ctx context.Context, w *window, now time.Time) error {
	until := now.Add(s.opts.Window)
	var cursor core.Due
	for {
		page, err := s.opts.Store.Due(ctx, until, cursor, 5_000)
		if err != nil {
			return err
		}
		for _, due := range page {
			w.put(due)
		}
		if len(page) < 5_000 {
			break
		}
		cursor = page[len(page)-1]
		if w.len() >= s.opts.MaxWindow {
			until = cursor.NextFire
			break
		}
	}
	w.until = until
	return nil
}

// pass claims everything that is due, in batches, until nothing is.
func (s *Scheduler) pass(ctx context.Context, w *window) error {
	for ctx.Err() == nil && s.opts.MayAct() {
		now := s.opts.Clock.Now()
		due := w.due(now.Add(s.opts.Ahead), min(s.opts.MaxBatch, s.opts.Runner.Room()))
		if len(due) == 0 {
			return nil
		}
		if err := s.load(ctx, w, due); err != nil {
			return err
		}
		claims, entries := s.decide(due, now)
		if len(claims) == 0 {
			continue
		}
		results, err := s.opts.Store.Claim(ctx, claims)
		if err != nil {
			return err
		}
		for i, result := range results {
			s.settle(w, entries[i], claims[i], result)
		}
	}
	return nil
}

// load reads the definitions of entries that have none yet. A task that is gone leaves the window; one that cannot be
// read keeps its problem, which decide turns into a skipped fire: a poisoned row delays no other.
func (s *Scheduler) load(ctx context.Context, w *window, due []*entry) error {
	var ids []string
	for _, e := range due {
		if e.task == nil {
			ids = append(ids, e.TaskID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	tasks, problems, err := s.opts.Store.Definitions(ctx, ids)
	if err != nil {
		return err
	}
	found := make(map[string]*core.Task, len(tasks))
	for i := range tasks {
		found[tasks[i].ID] = &tasks[i]
	}
	for _, e := range due {
		if e.task != nil {
			continue
		}
		task := found[e.TaskID]
		if e.problem = problems[e.TaskID]; e.problem != nil {
			if named, err := s.opts.Store.Task(ctx, e.TaskID); err == nil {
				e.unreadable = &named
			}
			continue
		}
		if task == nil {
			w.remove(e.TaskID)
			continue
		}
		sched, err := s.opts.Plan(task)
		if err != nil {
			e.problem, e.unreadable = err, task
			continue
		}
		if !task.Enabled || task.State.NextFire.IsZero() {
			w.remove(e.TaskID)
			continue
		}
		e.task, e.sched, e.fired = task, sched, task.State.Fired
		if task.Version != e.Version || !task.State.NextFire.Equal(e.NextFire) {
			w.put(core.Due{TaskID: e.TaskID, Version: task.Version, NextFire: task.State.NextFire})
			e.task, e.sched = task, sched // put forgets what it knew of another version
		}
	}
	return nil
}

func (s *Scheduler) decide(due []*entry, now time.Time) ([]core.Claim, []*entry) {
	claims := make([]core.Claim, 0, len(due))
	entries := make([]*entry, 0, len(due))
	for _, e := range due {
		if e.problem != nil {
			s.opts.Log.Error("task not readable", "task_id", e.TaskID, "err", e.problem)
			claims = append(claims, poisoned(e, now, s.opts.ServerID))
			entries = append(entries, e)
			continue
		}
		if e.task == nil || e.NextFire.After(now.Add(s.opts.Ahead)) { // left the window, or moved, while it was loaded
			continue
		}
		d := Decide(e.task, e.sched, e.NextFire, now, Rules{MissedAfter: s.opts.MissedAfter, Fired: e.fired, Since: s.began})
		for i := range d.Runs {
			d.Runs[i].ID, d.Runs[i].Owner = newID(), s.opts.ServerID
		}
		claims = append(claims, core.Claim{TaskID: e.TaskID, Version: e.Version, NextFire: e.NextFire, Then: d.Then, Runs: d.Runs,
			Overlap: e.task.Policies.Overlap, Gated: d.Gated || s.opts.Gated(e.task)})
		entries = append(entries, e)
	}
	return claims, entries
}

// poisoned skips the fire of a task whose row cannot be read, and with it all later ones until the row changes.
func poisoned(e *entry, now time.Time, server string) core.Claim {
	facts, _ := json.Marshal(map[string]string{"problem": e.problem.Error()}) // a map of strings cannot fail
	var task core.Task
	if e.unreadable != nil {
		task = *e.unreadable
	}
	task.ID, task.Version = e.TaskID, e.Version
	run := newRun(&task, e.NextFire, now).SkippedFor(core.ReasonPoisoned)
	run.ID, run.Owner, run.Facts = newID(), server, facts
	return core.Claim{TaskID: e.TaskID, Version: e.Version, NextFire: e.NextFire, Runs: []core.Run{run}}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// settle acts on the answer to one claim: hands the run over and moves the task in the window.
func (s *Scheduler) settle(w *window, e *entry, claim core.Claim, result core.Claimed) {
	if !result.Won { // edited, or another server was faster: read it again
		e.task, e.sched = nil, nil
		if e.problem != nil && w.byID[e.TaskID] == e { // what cannot be read does not say what it is now: a scan does
			w.remove(e.TaskID)
		}
		return
	}
	s.decided.Add(int64(len(claim.Runs)))
	e.fired = result.Fired
	token := result.Token
	for i, run := range claim.Runs {
		if run.State == core.RunEnded {
			continue
		}
		run.Token, run.PrevSuccess = token, result.LastSuccess
		token++
		if slices.Contains(result.Decided, i) {
			continue
		}
		if result.Queued {
			run.State = core.RunQueued
		}
		s.opts.Runner.Dispatch(e.task, run)
	}
	if held := w.byID[e.TaskID]; held != e {
		return
	}
	if claim.Then.IsZero() || claim.Then.After(w.until) {
		w.remove(e.TaskID)
		return
	}
	w.move(e, claim.Then)
}
