// Package sampler reads what processes, process trees and the machine use, each second while something runs. It scans
// /proc once per tick for all trees. A figure that cannot be read is marked unknown or left out, never invented.
// DESIGN.md, beside this file, says what each figure means. It runs on Linux.
package sampler

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Target is the root of a process tree: of a plugin, a Lua worker, the engine, or the server itself, whose children are
// trees of their own and not counted with it.
type Target struct {
	Kind       core.TreeKind // "": a plugin
	PID        int
	StartTicks uint64 // of StartTicks(PID) when it was started, so that a reused PID is not taken for it; 0: not known
	Plugin     string // "common", "lua-worker", "engine" or "server"
	Version    string
	Namespace  string        // of a Lua worker; "" for a plugin that serves several
	Group      string        // folder of a control group that holds the tree from its beginning and nothing else; "": none
	Running    []core.Origin // attempts in progress
	Attempts   uint64        // begun since the process began
	Alone      bool          // it never runs two attempts at a time

	// Base is the tree's reading when the one attempt in Running began, for a process with Alone. If its At is zero, or
	// before the process served another attempt, leave it out: the attempt is then measured from where it was first seen.
	Base core.ProcSample
}

// Sink takes the samples; the recorder implements it.
type Sink interface {
	RecordPlugin(ctx context.Context, sample core.PluginSample) error
	RecordHost(ctx context.Context, sample core.HostSample) error
	RecordRun(ctx context.Context, sample core.RunSample) error
}

// Options is what New needs. Log, Sink, Targets and DataDir are required.
type Options struct {
	Log       *slog.Logger
	Sink      Sink
	Targets   func() []Target // asked once per tick
	Server    string          // id of the server whose trees these are, for the samples
	DataDir   string          // whose file system is part of the host's sample
	Every     time.Duration   // while something runs; default 1 s
	IdleEvery time.Duration   // while nothing runs; default 15 s
	Clock     core.Clock      // default core.SystemClock
}

// Sampler takes the samples.
type Sampler struct {
	log       *slog.Logger
	sink      Sink
	targets   func() []Target
	server    string
	every     time.Duration
	idleEvery time.Duration
	clock     core.Clock
	host      *host

	mu    sync.Mutex // one Sample at a time
	procs *reader
	trees map[treeKey]account
	runs  map[runKey]runState
	sunk  bool // the last sample was taken by the sink

	hostMu sync.Mutex // taken alone, or after mu
	latest core.HostSample

	cancel   context.CancelFunc
	worker   sync.WaitGroup
	stopOnce sync.Once
}

type treeKey struct {
	pid   int
	start uint64
}

type runKey struct {
	run     string
	attempt int
}

// runState is what is known of an attempt from earlier ticks.
type runState struct {
	tree   treeKey
	base   reading
	shared bool // it was once seen beside another attempt
}

// New checks the options and finds out where to read.
func New(opts Options) (*Sampler, error) {
	const op = "set up the sampler"
	if opts.Log == nil || opts.Sink == nil || opts.Targets == nil || opts.DataDir == "" {
		return nil, core.Errorf(core.KindInvalid, op, "Log, Sink, Targets and DataDir are required")
	}
	if opts.Every < 0 || opts.IdleEvery < 0 {
		return nil, core.Errorf(core.KindInvalid, op, "Every and IdleEvery must not be negative")
	}
	h, err := newHost(opts.DataDir)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	s := &Sampler{log: opts.Log, sink: opts.Sink, targets: opts.Targets, server: opts.Server, every: opts.Every, idleEvery: opts.IdleEvery, clock: opts.Clock,
		host: h, procs: newReader(), trees: map[treeKey]account{}, runs: map[runKey]runState{}, sunk: true}
	if s.every == 0 {
		s.every = time.Second
	}
	if s.idleEvery == 0 {
		s.idleEvery = 15 * time.Second
	}
	s.idleEvery = max(s.idleEvery, s.every)
	if s.clock == nil {
		s.clock = core.SystemClock{}
	}
	return s, nil
}

// Start begins to sample.
func (s *Sampler) Start(ctx context.Context) error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.worker.Go(func() { s.loop(running) }) // ends with running
	return nil
}

// Stop ends it, after one last reading, so that what was used since the last tick is not missing. A tick in progress
// ends as soon as it is cancelled.
func (s *Sampler) Stop(ctx context.Context) (err error) {
	if s.cancel != nil {
		s.stopOnce.Do(func() {
			s.cancel()
			s.worker.Wait()
			err = s.Sample(ctx)
		})
	}
	return err
}

// loop looks each tick whether something runs, and samples then, or when the idle time has passed.
func (s *Sampler) loop(ctx context.Context) {
	var last time.Time
	var before uint64
	for {
		targets := s.targets()
		now := s.clock.Now()
		begun := begun(targets)
		worked := begun != before // attempts that came and went between two ticks
		before = begun
		if busy(targets) || worked || now.Sub(last) >= s.idleEvery {
			last = now
			limited, cancel := context.WithTimeout(ctx, s.every) // a full spool costs samples, not the sampler
			err := s.sample(limited, targets, now)
			cancel()
			if ctx.Err() == nil {
				s.say(err)
			}
		}
		next := make(chan struct{})
		stop := s.clock.AfterFunc(s.every-s.clock.Now().Sub(now), func() { close(next) })
		select {
		case <-next:
		case <-ctx.Done():
			stop()
			return
		}
	}
}

func busy(targets []Target) bool {
	for i := range targets {
		if len(targets[i].Running) > 0 {
			return true
		}
	}
	return false
}

// begun counts the attempts of all living trees. One tree that ends while another begins as many is not noticed: then
// the next reading comes later.
func begun(targets []Target) (n uint64) {
	for i := range targets {
		n += targets[i].Attempts
	}
	return n
}

// say logs when samples begin or cease to be lost.
func (s *Sampler) say(err error) {
	switch {
	case err != nil && s.sunk:
		s.log.Warn("samples are lost", "err", err)
	case err == nil && !s.sunk:
		s.log.Info("samples are taken again")
	}
	s.sunk = err == nil
}

// hostAge is how old a reading of the host may be that HostSample gives.
const hostAge = 5 * time.Second

// HostSample gives the latest reading of the machine, at most 5 s old: while nothing runs few are taken, so that one may
// be taken now, which costs about 0.2 ms. It may be called before Start and after Stop. ok is false if the machine cannot
// be read. The reading goes to nobody else.
func (s *Sampler) HostSample() (sample core.HostSample, ok bool) {
	now := s.clock.Now()
	s.hostMu.Lock()
	defer s.hostMu.Unlock()
	if age := now.Sub(s.latest.At); age < 0 || age > hostAge { // a clock that was set back makes it negative
		s.latest = s.host.sample(now)
	}
	return s.latest, s.latest.Cores > 0
}

// Sample takes one reading of everything now and gives it to the sink. The loop does this by itself.
func (s *Sampler) Sample(ctx context.Context) error {
	return s.sample(ctx, s.targets(), s.clock.Now())
}

func (s *Sampler) sample(ctx context.Context, targets []Target, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hostMu.Lock()
	s.latest = s.host.sample(now)
	host := s.latest
	s.hostMu.Unlock()
	if err := s.sink.RecordHost(ctx, host); err != nil {
		return err
	}
	if len(targets) == 0 {
		clear(s.trees)
		clear(s.runs)
		return nil
	}
	if err := s.procs.scan(); err != nil {
		return core.Errorf(core.KindUnavailable, "scan the processes", "%w", err)
	}
	runs := make(map[runKey]runState, len(s.runs))
	listed := make(map[treeKey]bool, len(targets))
	for i := range targets {
		t := &targets[i]
		k := treeKey{t.PID, t.StartTicks}
		listed[k] = true
		tree, err := s.read(t, now)
		if err != nil {
			continue // it has ended: there is nothing to read
		}
		if err := s.record(ctx, t, k, tree, false); err != nil {
			return err
		}
		tree = s.trees[k].reading
		for _, o := range t.Running {
			st := s.run(t, k, o, tree)
			runs[runKey{o.RunID, o.Attempt}] = st
			if err := s.sink.RecordRun(ctx, st.sample(o, tree)); err != nil {
				return err
			}
		}
	}
	for k := range s.trees { // what is listed no more has ended, and was closed by Ended, or nobody knew its end
		if !listed[k] {
			delete(s.trees, k)
		}
	}
	s.runs = runs
	return nil
}

// keepUp keeps sums from falling: what an orphan used is no longer seen once it has ended, but was used.
func (r *reading) keepUp(before reading) {
	r.CPU = max(r.CPU, before.CPU)
	r.ReadBytes = max(r.ReadBytes, before.ReadBytes)
	r.WriteBytes = max(r.WriteBytes, before.WriteBytes)
}

// run gives what is known of an attempt, this tick included.
func (s *Sampler) run(t *Target, k treeKey, o core.Origin, tree reading) runState {
	st, known := s.runs[runKey{o.RunID, o.Attempt}]
	if !known || st.tree != k {
		st = runState{tree: k, base: tree}
		if t.Alone && len(t.Running) == 1 && !t.Base.At.IsZero() {
			st.base = reading{ProcSample: t.Base, ioRead: tree.ioRead}
		}
	}
	st.shared = st.shared || !t.Alone || len(t.Running) > 1
	return st
}

// sample tells what the tree used since the attempt's base, and whether that was the attempt's alone.
func (st runState) sample(o core.Origin, tree reading) core.RunSample {
	source := core.SourceMeasured
	if st.shared {
		source = core.SourceShared
	}
	out := core.RunSample{Origin: o, At: tree.At, CPU: max(0, tree.CPU-st.base.CPU), CPUSource: source,
		RSSBytes: tree.RSSBytes, RSSSource: source, IOSource: core.SourceUnknown}
	if tree.ioRead && st.base.ioRead {
		out.ReadBytes = tree.ReadBytes - min(st.base.ReadBytes, tree.ReadBytes)
		out.WriteBytes = tree.WriteBytes - min(st.base.WriteBytes, tree.WriteBytes)
		out.IOSource = source
	}
	return out
}
