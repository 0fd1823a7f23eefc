package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
)

// PoolOptions say which workers a pool has.
type PoolOptions struct {
	Name      string   // for logs and samples: "lua-worker"
	Namespace string   // the one namespace its workers serve
	Command   []string // the absolute path of the program, then its arguments; no secret belongs there
	Size      int      // most workers at once; default 1
	// IdleAfter is how long a worker waits for the next attempt before it is ended. Default 1 min.
	IdleAfter time.Duration
	// QueueLimit is how many attempts may wait for a worker; one more fails with KindExhausted. Default 10,000.
	QueueLimit int
	// Grace is how long an attempt may take to stop after it was asked to; then its worker is killed. Default 500 ms.
	Grace time.Duration
	// DescribeLimit is how long Describe may take. Default 5 s.
	DescribeLimit time.Duration
	MaxAttempts   int    // attempts after which a worker is replaced; default 100,000
	MaxRSSBytes   uint64 // resident memory above which a worker is replaced after its attempt; default 256 MiB
	Limits        Limits // of each worker; zero fields take the host's
}

// Pool runs attempts in worker processes of one command, one attempt at a time each. Workers are started when there is
// more to do than there are workers, used again, and ended when idle. It implements core.Provider.
type Pool struct {
	host *Host
	opts PoolOptions
	spec spec

	mu      sync.Mutex
	idle    []*worker           // the longest idle first
	workers int                 // idle, busy and starting
	queue   []*waiter           // those who wait, first come first; from queue[head]
	head    int                 // see queue
	needs   map[string][]string // by type, as last described
	breaker breaker             // of workers that do not even start
	stopped bool
	disarm  func() bool // stops the timer that ends idle workers; nil: it is not running

	starts     map[int]context.CancelFunc // of the workers being started
	generation int                        // rises with Recycle
	serial     int                        // of the last worker started

	rest    sync.WaitGroup // workers being started or ended, and attempts in progress
	settled chan struct{}  // closed by Stop
}

var _ core.Provider = (*Pool)(nil)

// worker is a process in a pool. Its fields belong to whoever holds it: the attempt, or the pool while it is idle.
type worker struct {
	proc       *process
	generation int // the pool's when it was started
	attempts   int
	idleSince  time.Time
	sampled    int // attempts when its memory was last looked at
}

// waiter waits for a worker. One value is sent, with the pool's mu held.
type waiter struct{ ready chan offer }

type offer struct {
	w   *worker
	err error
}

// Pool makes a pool; no worker is started before it is needed. It lives until its Stop or the host's.
func (h *Host) Pool(opts PoolOptions) (*Pool, error) {
	op := fmt.Sprintf("set up pool %q of namespace %q", opts.Name, opts.Namespace)
	if opts.Name == "" || len(opts.Command) == 0 {
		return nil, core.Errorf(core.KindInvalid, op, "a pool needs a name and a command")
	}
	fill := func(value *time.Duration, d time.Duration) {
		if *value <= 0 {
			*value = d
		}
	}
	fill(&opts.IdleAfter, time.Minute)
	fill(&opts.Grace, 500*time.Millisecond)
	fill(&opts.DescribeLimit, 5*time.Second)
	opts.Size = max(opts.Size, 1)
	if opts.QueueLimit <= 0 {
		opts.QueueLimit = 10_000
	}
	if opts.MaxAttempts <= 0 {
		opts.MaxAttempts = 100_000
	}
	if opts.MaxRSSBytes == 0 {
		opts.MaxRSSBytes = 256 << 20
	}
	p := &Pool{
		host: h, opts: opts, needs: map[string][]string{}, starts: map[int]context.CancelFunc{}, settled: make(chan struct{}),
		spec: spec{name: opts.Name, version: h.opts.HostVersion, namespace: opts.Namespace, argv: slices.Clone(opts.Command),
			limits: opts.Limits.filled(h.opts.Limits), alone: true, worker: true, silent: true},
	}
	if err := h.adopt(op, p); err != nil {
		return nil, err
	}
	return p, nil
}

// Describe starts a worker of its own with extra arguments, asks it which task types it offers, and ends it. A worker
// that crashes or hangs meanwhile is an error with what it wrote last. The types' needs are remembered for Execute.
func (p *Pool) Describe(ctx context.Context, extraArgs ...string) ([]core.TaskType, error) {
	op := fmt.Sprintf("describe the task types of namespace %q", p.opts.Namespace)
	limit := p.opts.DescribeLimit
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it did not describe itself within %v", limit))
	defer cancel()
	s := p.spec
	s.silent = false
	s.argv = append(slices.Clone(s.argv), extraArgs...)
	proc, said, err := p.host.spawn(ctx, s)
	if err != nil {
		return nil, startError(op, err)
	}
	proc.kill("stopped after it had described itself")
	<-proc.gone
	types := taskTypes(said, p.opts.Name)
	if found := checkTypes(types, []string{p.opts.Namespace}); len(found) > 0 {
		return nil, core.Invalid(op, found...)
	}
	p.learn(said)
	return types, nil
}

// learn remembers what the types need.
func (p *Pool) learn(said *pluginv1.DescribeResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range said.GetTaskTypes() {
		p.needs[t.GetName()] = t.GetNeeds()
	}
}

// needsOf gives what a type needs. Workers are not asked when they start: one script that makes its worker crash while
// it is described must not keep all the others of its namespace from running. So who uses a pool calls Describe for each
// type; for one that was never described, the worker at hand is asked.
func (p *Pool) needsOf(ctx context.Context, w *worker, taskType string) []string {
	p.mu.Lock()
	needs, known := p.needs[taskType]
	p.mu.Unlock()
	if known {
		return needs
	}
	ctx, cancel := context.WithTimeout(ctx, p.opts.DescribeLimit)
	defer cancel()
	said, err := w.proc.api.Describe(ctx, &pluginv1.DescribeRequest{HostVersion: p.host.opts.HostVersion})
	if err != nil {
		return nil // the attempt will show what is wrong with the worker
	}
	p.learn(said)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.needs[taskType]
}

// Execute runs one attempt on a worker of its own, and waits for one if all are busy. Apart from what core.Executor
// says: KindExhausted if the queue is full, KindUnavailable if no worker starts.
func (p *Pool) Execute(ctx context.Context, attempt core.Attempt, sink core.Sink) (core.Outcome, error) {
	w, err := p.acquire(ctx, "run "+attempt.TaskType)
	if err != nil && ctx.Err() != nil {
		return neverBegan(ctx, "no worker was free"), nil
	}
	if err != nil {
		return core.Outcome{}, err
	}
	grants, err := p.host.grants(attempt.Namespace, attempt.TaskType, p.needsOf(ctx, w, attempt.TaskType))
	if err != nil {
		p.release(ctx, w, true)
		return core.Outcome{}, err
	}
	w.attempts++
	out, clean, err := w.proc.run(ctx, &attempt, grants, sink, p.opts.Grace)
	p.release(ctx, w, clean)
	if errors.Is(err, errLeaving) { // Stop was not waited for
		err = core.Errorf(core.KindUnavailable, "run "+attempt.TaskType, "the workers of namespace %q are stopped", p.opts.Namespace)
	}
	return out, err
}

// Validate asks a worker.
func (p *Pool) Validate(ctx context.Context, taskType string, params json.RawMessage) ([]core.Finding, error) {
	w, err := p.acquire(ctx, "validate parameters of "+taskType)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, validateLimit)
	defer cancel()
	found, err := w.proc.validate(limited, taskType, params)
	kind := core.KindOf(err)
	p.release(ctx, w, err == nil || kind == core.KindNotFound)
	return found, err
}

// acquire gives a worker that nobody else uses.
func (p *Pool) acquire(ctx context.Context, op string) (*worker, error) {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return nil, core.Errorf(core.KindUnavailable, op, "the workers of namespace %q are stopped", p.opts.Namespace)
	}
	for last := len(p.idle) - 1; last >= 0; last-- { // the one used last is the warmest
		w := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		if !w.proc.dead() {
			p.rest.Add(1)
			p.mu.Unlock()
			return w, nil
		}
		p.discard(w)
	}
	now := p.host.opts.Clock.Now()
	if p.breaker.open && now.Before(p.breaker.until) {
		until := p.breaker.until
		p.mu.Unlock()
		return nil, core.Errorf(core.KindUnavailable, op, "the workers of namespace %q do not start; they will be tried again at %s",
			p.opts.Namespace, until.UTC().Format(time.RFC3339))
	}
	if len(p.queue)-p.head >= p.opts.QueueLimit {
		p.mu.Unlock()
		return nil, core.Errorf(core.KindExhausted, op, "%d attempts wait for a worker of namespace %q already", p.opts.QueueLimit, p.opts.Namespace)
	}
	me := &waiter{ready: make(chan offer, 1)}
	p.queue = append(p.queue, me)
	p.grow(ctx)
	p.mu.Unlock()

	select {
	case o := <-me.ready:
		return o.w, o.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.queue[p.head:], me); i >= 0 {
		p.queue = slices.Delete(p.queue, p.head+i, p.head+i+1)
	} else if o := <-me.ready; o.err == nil { // it came just now
		p.hand(o.w)
		p.rest.Done()
	}
	return nil, core.Errorf(core.KindUnavailable, op, "no worker of namespace %q was free: %w", p.opts.Namespace, context.Cause(ctx))
}

// grow starts workers while more wait than are being started. mu is held. ctx gives values only.
func (p *Pool) grow(ctx context.Context) {
	for !p.stopped && len(p.queue)-p.head > len(p.starts) && p.workers < p.opts.Size {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p.workers++
		p.serial++
		serial, generation := p.serial, p.generation
		p.starts[serial] = cancel
		p.rest.Go(func() { p.startWorker(ctx, serial, generation) }) // ends when the worker has started, or not
	}
}

func (p *Pool) startWorker(ctx context.Context, serial, generation int) {
	proc, _, err := p.host.spawn(ctx, p.spec)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starts[serial]()
	delete(p.starts, serial)
	if err == nil {
		p.breaker = breaker{}
		p.hand(&worker{proc: proc, generation: generation})
		return
	}
	p.workers--
	p.breaker.crashed(p.host.opts.Clock.Now(), 0)
	if !p.stopped {
		p.host.log.Warn("a worker did not start", "plugin", p.opts.Name, "namespace", p.opts.Namespace, "err", err)
	}
	// One who waits bears the error, so that a command that never works does not starve the queue in silence.
	if first := p.pop(); first != nil {
		first.ready <- offer{err: startError(fmt.Sprintf("start a worker of namespace %q", p.opts.Namespace), err)}
	}
	p.grow(ctx)
}

// pop takes the first waiter off the queue; nil: nobody waits. mu is held.
func (p *Pool) pop() *waiter {
	if p.head == len(p.queue) {
		return nil
	}
	first := p.queue[p.head]
	p.queue[p.head] = nil
	p.head++
	if p.head == len(p.queue) {
		p.queue, p.head = p.queue[:0], 0
	} else if p.head >= 1024 && p.head*2 >= len(p.queue) {
		p.queue, p.head = slices.Delete(p.queue, 0, p.head), 0
	}
	return first
}

// hand gives a free worker to the first who waits, or lets it idle. mu is held.
func (p *Pool) hand(w *worker) {
	if p.stopped {
		p.discard(w)
		return
	}
	if first := p.pop(); first != nil {
		p.rest.Add(1) // until the receiver releases it
		first.ready <- offer{w: w}
		return
	}
	w.idleSince = p.host.opts.Clock.Now()
	p.idle = append(p.idle, w)
	if p.disarm == nil {
		p.disarm = p.host.opts.Clock.AfterFunc(p.opts.IdleAfter, p.shrink)
	}
}

// release takes a worker back. One that is not clean, has run enough or has grown too large is replaced when needed.
func (p *Pool) release(ctx context.Context, w *worker, clean bool) {
	defer p.rest.Done()
	const look = 16 // attempts between two looks at its memory
	worn := w.attempts >= p.opts.MaxAttempts
	if clean && !worn && w.attempts-w.sampled >= look {
		w.sampled = w.attempts
		worn = residentBytes(w.proc.pid) > p.opts.MaxRSSBytes
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if clean && !worn && w.generation == p.generation && !w.proc.dead() {
		p.hand(w)
		return
	}
	p.discard(w)
	p.grow(ctx)
}

// discard ends a worker in the background. mu is held. Its place is free at once.
func (p *Pool) discard(w *worker) {
	p.workers--
	p.rest.Go(func() { // ends when nothing of the worker is left
		w.proc.kill("stopped because it was not needed any more")
		<-w.proc.gone
	})
}

// shrink ends the workers that have been idle for long enough, and comes again for the others.
func (p *Pool) shrink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disarm = nil
	if p.stopped {
		return
	}
	now := p.host.opts.Clock.Now()
	for len(p.idle) > 0 && now.Sub(p.idle[0].idleSince) >= p.opts.IdleAfter {
		p.discard(p.idle[0])
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	if len(p.idle) > 0 {
		p.disarm = p.host.opts.Clock.AfterFunc(p.idle[0].idleSince.Add(p.opts.IdleAfter).Sub(now), p.shrink)
	}
}

// Recycle ends the idle workers, and the busy ones after their attempt; later attempts get new ones.
func (p *Pool) Recycle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	for _, w := range p.idle {
		p.discard(w)
	}
	p.idle = nil
}

// Stop ends the pool: whoever waits fails with KindUnavailable, attempts in progress end as crashed unless they end
// before ctx does. It returns when no worker is left.
func (p *Pool) Stop(ctx context.Context) error {
	p.mu.Lock()
	already := p.stopped
	p.stopped = true
	if p.disarm != nil {
		p.disarm()
		p.disarm = nil
	}
	for first := p.pop(); first != nil; first = p.pop() {
		first.ready <- offer{err: core.Errorf(core.KindUnavailable, "wait for a worker", "the workers of namespace %q are stopped", p.opts.Namespace)}
	}
	for _, w := range p.idle {
		p.discard(w)
	}
	p.idle = nil
	for _, cancel := range p.starts {
		cancel()
	}
	p.mu.Unlock()
	if already {
		<-p.settled
		return nil
	}
	ended := make(chan struct{})
	go func() { // ends when nothing of the pool is left
		p.rest.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		for _, proc := range p.host.living() {
			if proc.alone && proc.namespace == p.opts.Namespace && proc.name == p.opts.Name {
				proc.kill(stopping)
			}
		}
		<-ended
	}
	close(p.settled)
	p.host.disown(p)
	return nil
}
