// Package runner takes a run through its states: it starts a claimed run at its instant, brings others through their
// gates, hands each attempt to an executor under its timeouts, retries by policy, stops on request, recovers what a dead
// server left, and ships what has ended to history.
package runner

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Store is where runs are kept. Batches of concurrent callers are committed together.
type Store interface {
	Admit(ctx context.Context, admissions []core.Admission) ([]core.Admitted, error)
	Hold(ctx context.Context, holds []core.Hold) ([]core.Finished, error)
	Skip(ctx context.Context, skips []core.Skip) ([]core.Finished, error)
	MarkRunning(ctx context.Context, running ...core.Running) error
	Finish(ctx context.Context, ends []core.Finish) ([]core.Finished, error)
	InsertManual(ctx context.Context, run core.Run, onlyAlone bool) (core.Run, error)
	// Enqueue inserts queued runs; one whose key is taken is answered as it is stored.
	Enqueue(ctx context.Context, runs []core.Run) ([]core.Run, error)
	Breach(ctx context.Context, runID string, breaches []core.Breach) error
	RequestStop(ctx context.Context, ids []string, how core.Stop, by string) error
	StopRequests(ctx context.Context, owner string) ([]core.StopRequest, error)
	Runs(ctx context.Context, f core.RunFilter) ([]core.Run, error)
	Orphans(ctx context.Context, now time.Time, limit int) ([]core.Run, error)
	LiveRuns(ctx context.Context, owner string) ([]core.Run, error)
	Adopt(ctx context.Context, runID string, token int64, owner string, resume bool) (core.Claimed, error)
	// Task gives a task with its effective policies.
	Task(ctx context.Context, id string) (core.Task, error)
}

// Catalog finds who runs a task type for a namespace; KindNotFound if nobody does.
type Catalog interface {
	Lookup(namespace, typeName string) (core.Provider, core.TaskType, error)
}

// Log takes what one attempt says and makes it durable.
type Log interface {
	core.Sink
	// Flush returns once everything said so far is on disk.
	Flush(ctx context.Context) error
	Close()
}

// Recorder keeps log lines and attempts.
type Recorder interface {
	Attempt(origin core.Origin, level core.Level, full core.LogFull) Log
	// Resume goes on with the lines of an attempt that an earlier server began.
	Resume(ctx context.Context, origin core.Origin, level core.Level, full core.LogFull) (Log, error)
	RecordAttempt(ctx context.Context, record core.AttemptRecord) error
	// FlushAll returns once everything recorded so far is on disk.
	FlushAll(ctx context.Context) error
}

// Trace tells others how runs went. Its methods must not block.
type Trace interface {
	// Traceparent gives the W3C trace context of an attempt; "": it is not traced.
	Traceparent(runID string, attempt int) string
	// AttemptEnded is told of an attempt whose end is settled; over: so is the run's.
	AttemptEnded(ctx context.Context, run core.Run, attempt core.AttemptRecord, over bool)
}

// Options configure a Runner.
type Options struct {
	Store    Store
	Catalog  Catalog
	Recorder Recorder
	Clock    core.Clock
	Log      *slog.Logger
	ServerID string
	MayAct   func() bool // whether this server holds its lease
	// ForRun gives a task with the parameters of a manual run, checked against the type.
	ForRun func(ctx context.Context, taskID string, params json.RawMessage) (core.Task, error)
	// After gives the delay of an @after schedule.
	After func(task *core.Task) (time.Duration, bool)
	// Announce tells the scheduler that a task's next fire was set, or that the task was disabled (removed).
	Announce func(task core.Task, removed bool)
	// Gated says whether a task's runs must be admitted; Gates gives what they must fit in and pass. nil, as with the
	// functions below: no task has any.
	Gated func(task *core.Task) bool
	Gates func(task *core.Task) ([]core.Limit, []core.BreakerRule)
	// Check looks at a precondition of a run; needed if a task can have one; detail says what it saw. What cannot be judged is not true.
	Check func(ctx context.Context, task *core.Task, run core.Run, p core.Precondition) (ok bool, detail string)
	// Dependents gives the tasks that the end of a run is to start, with their parameters, or with why they cannot start. It
	// fails only if the store does.
	Dependents func(ctx context.Context, run core.Run, outcome core.Outcome) ([]core.Dependent, error)
	// Usual gives the p95 of a task's durations; 0: not known.
	Usual func(taskID string) time.Duration
	// StillDue says of a fire that was claimed and has not begun, and whose instant has passed without a server, whether it
	// starts all the same; if not, why. nil: it does.
	StillDue func(task *core.Task, fireAt, now time.Time) (reason core.Reason, facts json.RawMessage, due bool)
	// Zone gives the zone of a task's schedule.
	Zone func(task *core.Task) *time.Location
	// BreakerMoved is told when an attempt has changed the state of a breaker. It must not block.
	BreakerMoved func(b core.Breaker, run core.Run)
	// Started is told how late a run's first attempt was handed to its executor, Ended how an attempt ended and how long
	// it took. They must not block.
	Started func(lateness time.Duration)
	Ended   func(verdict core.Verdict, took time.Duration)
	Trace   Trace // nil: runs are not traced

	DefaultTimeout time.Duration // of an attempt whose task and type name none; 1 h
	Drain          time.Duration // how long Stop waits for attempts before it cancels them; 5 s
	MaxExecuting   int           // attempts at once; 512. More wait in the order of their instants
	MaxWaiting     int           // runs that wait in memory for their instant or for a place; 4,096
	Sweep          time.Duration // how often runs that this server has lost track of are looked for; 15 s
	TakeOver       time.Duration // how often runs of dead servers are looked for; 1 s, or Sweep if that is less
	Watch          time.Duration // how often live runs are looked at: wishes to stop, service levels, attempts that take long; 1 s
	LookAround     time.Duration // how often a waiting run asks again although nothing has changed here; 5 s
	MaxChecks      int           // preconditions looked at at once; 32
}

// Runner carries out runs. It is started once and stopped once; its methods are safe for concurrent use.
type Runner struct {
	opts Options

	mu        sync.Mutex
	live      map[string]*liveRun // by run id: waiting for their instant, at a door or for a place, or executing
	stopping  bool
	executing int                        // runs that have a place
	resting   int                        // runs that wait for their next attempt or at a door: they may for hours, and leave room for others
	line      []*liveRun                 // runs that may execute and wait for a place, in that order
	doors     map[doorKey]*door          // where runs wait to be admitted
	shares    map[share]int              // what is held of limits here
	watchers  map[string][]chan struct{} // by workflow run: who wants to know that a step has changed

	hands   chan *liveRun   // taken by goroutines that are free
	free    atomic.Int32    // how many are
	checks  chan struct{}   // a token for each precondition that is looked at
	base    context.Context // of all attempts: outlives the context of Start, ends when draining is over
	cancel  context.CancelCauseFunc
	sweeper context.CancelFunc
	runs    sync.WaitGroup // one per live run with a goroutine or an armed timer
	loops   sync.WaitGroup
}

// phase is what this server is doing with a run.
type phase int

const (
	armed       phase = iota // waits for its instant: stop disarms the timer
	approaching              // asks to be admitted
	parked                   // waits at a door
	inLine                   // waits for a place
	executing                // has one
)

// liveRun is a run this server is responsible for. The runner's lock is held to write any field, and by whoever else
// than the goroutine of begin reads one.
type liveRun struct {
	task *core.Task
	run  core.Run

	phase     phase
	stop      func() bool             // disarms the timer that will begin it
	cancel    context.CancelCauseFunc // approaching or executing: ends it
	stopped   error                   // why it must end, whatever it is doing; nil: it must not
	wish      core.StopRequest        // who wants that, and how
	forgotten *forgotten              // approaching: why it is to be skipped rather than start or wait on; nil: it is not
	kill      chan struct{}           // executing: closed when it must end without any grace
	began     time.Time               // when another server handed the attempt to its executor, which goes on here; zero: none did
	startedAt time.Time               // when the attempt was handed to its executor, first of all; zero: not here yet
	marked    bool                    // the store knows that it is running
	over      bool                    // taken off: what the timer would begin must not begin
	resting   bool                    // counted as such
	told      []core.Breach           // which missed service levels watch has told of

	door   *door        // parked: where
	from   *door        // approaching: where it was taken from
	passed []time.Time  // when each precondition was last seen true; zero: never
	holds  []core.Limit // what it holds
}

// New fills in defaults; nothing runs before Start.
func New(opts Options) *Runner {
	if opts.DefaultTimeout == 0 {
		opts.DefaultTimeout = time.Hour
	}
	if opts.Drain == 0 {
		opts.Drain = 5 * time.Second
	}
	if opts.MaxExecuting == 0 {
		opts.MaxExecuting = 512
	}
	if opts.MaxWaiting == 0 {
		opts.MaxWaiting = 4096
	}
	if opts.Sweep == 0 {
		opts.Sweep = 15 * time.Second
	}
	if opts.TakeOver == 0 {
		opts.TakeOver = min(time.Second, opts.Sweep)
	}
	if opts.Watch == 0 {
		opts.Watch = time.Second
	}
	if opts.LookAround == 0 {
		opts.LookAround = 5 * time.Second
	}
	if opts.MaxChecks == 0 {
		opts.MaxChecks = 32
	}
	if opts.Gated == nil {
		opts.Gated = func(*core.Task) bool { return false }
	}
	if opts.Gates == nil {
		opts.Gates = func(*core.Task) ([]core.Limit, []core.BreakerRule) { return nil, nil }
	}
	if opts.Dependents == nil {
		opts.Dependents = func(context.Context, core.Run, core.Outcome) ([]core.Dependent, error) { return nil, nil }
	}
	if opts.Usual == nil {
		opts.Usual = func(string) time.Duration { return 0 }
	}
	if opts.StillDue == nil {
		opts.StillDue = func(*core.Task, time.Time, time.Time) (core.Reason, json.RawMessage, bool) { return "", nil, true }
	}
	if opts.Zone == nil {
		opts.Zone = func(*core.Task) *time.Location { return time.UTC }
	}
	if opts.Started == nil {
		opts.Started = func(time.Duration) {}
	}
	if opts.Ended == nil {
		opts.Ended = func(core.Verdict, time.Duration) {}
	}
	if opts.BreakerMoved == nil {
		opts.BreakerMoved = func(core.Breaker, core.Run) {}
	}
	return &Runner{
		opts: opts, live: make(map[string]*liveRun), doors: make(map[doorKey]*door), shares: make(map[share]int),
		watchers: make(map[string][]chan struct{}), hands: make(chan *liveRun), checks: make(chan struct{}, opts.MaxChecks),
	}
}

// Start recovers what a dead server left and begins to accept runs. It fails if the store cannot be read.
func (r *Runner) Start(ctx context.Context) error {
	r.base, r.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := r.recover(ctx); err != nil {
		return err
	}
	ctx, r.sweeper = context.WithCancel(ctx)
	r.loops.Go(func() { r.every(ctx, r.opts.Sweep, r.sweep) }) // ends when Stop cancels ctx
	r.loops.Go(func() { r.every(ctx, r.opts.TakeOver, r.takeOvers) })
	r.loops.Go(func() { r.every(ctx, r.opts.Watch, r.markLong) }) // likewise
	r.loops.Go(func() { r.every(ctx, r.opts.Watch, r.watch) })
	r.loops.Go(func() { r.every(ctx, r.opts.Watch, r.obeyStops) })
	r.loops.Go(func() { r.every(ctx, r.opts.Watch, r.lookAround) })
	return nil
}

// Stop drains: runs about to start still do, attempts have the drain time to end, then they are cancelled. Runs that
// wait for a later instant or at a door stay in the store for the next server. It returns when nothing executes any more, or with
// an error when ctx ends before that.
func (r *Runner) Stop(ctx context.Context) error {
	if r.cancel == nil {
		return nil
	}
	if r.sweeper != nil {
		r.sweeper()
		r.loops.Wait()
	}
	r.mu.Lock()
	r.stopping = true
	soon := r.opts.Clock.Now().Add(time.Second)
	for id, l := range r.live {
		if l.phase == parked || l.phase == armed && l.run.StartAt.After(soon) {
			r.leave(id, l)
		}
	}
	r.mu.Unlock()
	idle := make(chan struct{})
	go func() { // ends when the last run has
		r.runs.Wait()
		close(idle)
	}()
	stop := r.opts.Clock.AfterFunc(r.opts.Drain, func() { r.cancel(core.ErrShuttingDown) })
	defer stop()
	select {
	case <-idle:
		r.cancel(core.ErrShuttingDown)
		return nil
	case <-ctx.Done():
		r.cancel(core.ErrShuttingDown)
		return core.Errorf(core.KindUnavailable, "stop runner", "attempts still execute: %w", context.Cause(ctx))
	}
}

// leave forgets a run that waits: for its instant, at a door or in line. Its row stays as it is. The lock is held.
func (r *Runner) leave(id string, l *liveRun) {
	l.over = true
	r.wake(l)
	delete(r.live, id)
	r.count(l, -1)
	switch l.phase {
	case armed:
		if l.stop != nil && l.stop() {
			r.runs.Done()
		}
	case parked:
		r.leaveDoor(l)
		r.runs.Done()
	}
}

// rest counts a run as one that waits without being about to start. The lock is held.
func (r *Runner) rest(l *liveRun) {
	if !l.resting {
		l.resting = true
		r.resting++
	}
}

// wake ends the resting of a run that rests. The lock is held.
func (r *Runner) wake(l *liveRun) {
	if l.resting {
		l.resting = false
		r.resting--
	}
}

// Dispatch takes over a claimed, queued, waiting or retrying run: it begins at its StartAt. It does not block. While the runner
// stops it does nothing: the row waits for the next server.
func (r *Runner) Dispatch(task *core.Task, run core.Run) { r.dispatch(newLive(task, run)) }

func (r *Runner) dispatch(l *liveRun) {
	run := &l.run
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, held := r.live[run.ID]; held || r.stopping {
		return
	}
	r.live[run.ID] = l
	if l.resting = run.State == core.RunRetrying; l.resting {
		r.resting++
	}
	r.runs.Add(1)
	wait := run.StartAt.Sub(r.opts.Clock.Now())
	if l.stopped != nil {
		wait = 0 // it has only to end
	}
	r.arm(l, wait)
}

// newLive gives a run to be responsible for. That somebody has asked it to stop outlives the attempt, and the server, that was asked.
func newLive(task *core.Task, run core.Run) *liveRun {
	l := &liveRun{task: task, run: run}
	if run.Stop == core.StopCancel || run.Stop == core.StopTerminate {
		l.askToStop(run.Stop, run.StopBy)
	}
	return l
}

// askToStop notes that somebody wants the run to stop.
func (l *liveRun) askToStop(how core.Stop, by string) {
	l.wish = core.StopRequest{RunID: l.run.ID, How: how, By: by}
	l.stopped = stopCause(how, by)
}

// maxSleep is how long a timer runs before the wall clock is looked at again: it may have been set meanwhile.
const maxSleep = 30 * time.Second

// arm begins a run after a wait. The lock is held.
func (r *Runner) arm(l *liveRun, wait time.Duration) {
	switch {
	case wait <= 0:
		r.hand(l)
	case wait <= maxSleep:
		l.stop = r.opts.Clock.AfterFunc(wait, func() { r.hand(l) })
	default:
		l.stop = r.opts.Clock.AfterFunc(maxSleep, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if !l.over {
				r.arm(l, l.run.StartAt.Sub(r.opts.Clock.Now()))
				return
			}
			r.runs.Done()
		})
	}
}

// forgotten is why runs are skipped that wait: their task was disabled, paused or removed, or a later run takes their place.
type forgotten struct {
	reason core.Reason
	facts  map[string]any
}

// errForgotten ends what a run does to be admitted that is to be skipped.
var errForgotten = errors.New("it is skipped")

// forget has a run that asks to be admitted skipped when it has its answer. The lock is held.
func (l *liveRun) forget(why *forgotten) {
	l.forgotten = why
	if l.cancel != nil {
		l.cancel(errForgotten)
	}
}

// Forget drops the runs of a task that wait, for their instant or to be admitted, also those that wait on other servers: it was
// disabled, paused or removed. Their fires are skipped with the facts. What a person or a workflow asked for stays, unless the
// task is removed, and so do manual runs and later attempts. One that asks to be admitted just now is skipped when it has its answer.
func (r *Runner) Forget(ctx context.Context, taskID string, reason core.Reason, facts map[string]any) error {
	why := &forgotten{reason, facts}
	var skips []core.Skip
	r.mu.Lock()
	for id, l := range r.live {
		if l.run.TaskID != taskID || l.over || !why.takes(&l.run) {
			continue
		}
		switch {
		case l.phase == approaching:
			l.forget(why)
		case l.phase == armed, l.phase == parked, l.phase == inLine && l.run.State == core.RunClaimed:
			r.leave(id, l)
			skips = append(skips, r.skipOf(&l.run, why))
			r.changedLocked(l.run)
		}
	}
	r.open(core.GateOverlap, taskID)
	r.mu.Unlock()
	var err error
	if len(skips) > 0 {
		_, err = r.opts.Store.Skip(ctx, skips)
	}
	return errors.Join(err, r.forgetElsewhere(ctx, taskID, why))
}

// forgetElsewhere skips what waits on other servers. They find, when it is to be admitted, that there is nothing to admit.
func (r *Runner) forgetElsewhere(ctx context.Context, taskID string, why *forgotten) error {
	const page = 1000
	f := core.RunFilter{TaskID: taskID, LiveOnly: true, States: []core.RunState{core.RunQueued, core.RunWaiting}, Limit: page}
	for {
		runs, err := r.opts.Store.Runs(ctx, f)
		if err != nil {
			return err
		}
		var skips []core.Skip
		for i := range runs {
			if why.takes(&runs[i]) && runs[i].Owner != r.opts.ServerID {
				skips = append(skips, r.skipOf(&runs[i], why))
			}
		}
		if len(skips) > 0 {
			if _, err := r.opts.Store.Skip(ctx, skips); err != nil {
				return err
			}
		}
		if len(runs) < page {
			return nil
		}
		f.BeforeID = runs[len(runs)-1].ID
	}
}

// takes says whether a run that waits goes too. One that is tried again has begun.
func (f *forgotten) takes(run *core.Run) bool {
	if f.reason == core.ReasonEdited { // the task is removed
		return run.Attempt <= 1 && run.Trigger != core.TriggerManual
	}
	return unasked(run)
}

// unasked says of a run whether it goes with its task's schedule, or with the chain that leads to it: nobody asked for it itself.
func unasked(run *core.Run) bool {
	return run.Attempt <= 1 && (run.Trigger == core.TriggerSchedule || run.Trigger == core.TriggerCatchUp || run.Trigger == core.TriggerUpstream)
}

func (r *Runner) skipOf(run *core.Run, why *forgotten) core.Skip {
	skip := core.Skip{RunID: run.ID, TaskID: run.TaskID, Token: run.Token, Owner: r.opts.ServerID, Reason: why.reason, DecidedAt: r.opts.Clock.Now()}
	if len(why.facts) > 0 {
		skip.Facts, _ = json.Marshal(why.facts) // plain values
	}
	return skip
}

// Room says how many more claimed runs it takes before as many wait as may.
func (r *Runner) Room() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, r.opts.MaxWaiting+r.opts.MaxExecuting-(len(r.live)-r.resting))
}

// Executing gives the number of attempts in progress.
func (r *Runner) Executing() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.executing
}

// StartedAt says when the current attempt of a run was handed to its executor; ok is false if none is.
func (r *Runner) StartedAt(runID string) (at time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live[runID]
	if l == nil || l.startedAt.IsZero() {
		return time.Time{}, false
	}
	return l.startedAt, true
}

// every calls f at each interval until ctx ends.
func (r *Runner) every(ctx context.Context, interval time.Duration, f func(context.Context)) {
	for {
		wake := make(chan struct{})
		stop := r.opts.Clock.AfterFunc(interval, func() { close(wake) })
		select {
		case <-ctx.Done():
			stop()
			return
		case <-wake:
			f(ctx)
		}
	}
}

// markLong tells the store which attempts have been executing for more than a second. Short ones never pay for it.
func (r *Runner) markLong(ctx context.Context) {
	var list []core.Running
	r.mu.Lock()
	now := r.opts.Clock.Now()
	for id, l := range r.live {
		if !l.marked && !l.startedAt.IsZero() && now.Sub(l.startedAt) > time.Second {
			l.marked = true
			list = append(list, core.Running{RunID: id, Token: l.run.Token, StartedAt: l.startedAt})
		}
	}
	r.mu.Unlock()
	if len(list) == 0 {
		return
	}
	if err := r.opts.Store.MarkRunning(ctx, list...); err != nil && ctx.Err() == nil {
		r.opts.Log.Warn("long runs not marked", "err", err)
	}
}
