// Package simulation runs the decisions of the scheduler and the runner against a model of the store, in virtual time,
// from a seed: servers crash at any step, stand still for longer than their lease, answers are lost, calls are repeated
// and delayed, wall clocks step, people pause, edit and stop things. An observer outside the model keeps what was really
// started, and the promises about firing are checked against it.
//
// What is real here is every decision: scheduler.Decide, core.Admit, core.Breaker.After, runner.Settle,
// runner.MayHaveStarted and schedule. What is modelled is what the store promises (compare-and-set, unique fires, fencing
// tokens, fenced servers, holds that end with their attempt) and time.
package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
)

// Mutant is a way in which the decisions or the model of the store are broken on purpose, to see the checks notice.
type Mutant string

const (
	ahead       = 200 * time.Millisecond
	missedAfter = 10 * time.Second
	lease       = 15 * time.Second
	overdue     = 30 * time.Second
	maxSleep    = 30 * time.Second
	longestRun  = 4 * time.Second
)

// Run runs the world of a seed and gives the broken promises; none means that all held. How hard the world is follows
// from the seed too.
func Run(seed uint64) []string { return RunMutant(seed, "") }

// RunMutant is Run with something broken on purpose.
func RunMutant(seed uint64, mutant Mutant) []string { return play(seed, mutant).broken }

func play(seed uint64, mutant Mutant) *world {
	w := newWorld(seed, mutant)
	for range w.cfg.servers {
		w.clocks = append(w.clocks, w.between(-w.cfg.apart, w.cfg.apart))
	}
	for range w.cfg.servers {
		w.boot(len(w.servers))
	}
	w.disturb()
	for w.step(w.began.Add(w.cfg.length)) { // an outage makes it longer
	}
	w.now = w.began.Add(w.cfg.length)
	w.calmDown()
	w.run(w.now.Add(4 * lease))
	w.checkWaiting()
	w.end = w.now
	w.checkMarks()
	w.drain()
	w.check()
	return w
}

// config says how hard the world is. Probabilities are per step at which the thing can happen.
type config struct {
	servers   int
	length    time.Duration // virtual time during which faults happen; then the world calms down and is checked
	crash     float64       // of a server, between any two of its steps
	lost      float64       // of an answer of the store: the server does not learn what was committed
	repeat    float64       // of a write that is sent twice
	apart     time.Duration // how far each server's wall clock may be from the true time from the start
	clockStep float64       // of a step of a server's wall clock soon, per pass
	longSteps bool          // such steps may be of an hour
	stall     float64       // of standing still, per pass
	people    time.Duration // how often somebody does something; 0: nobody does
	outage    time.Duration // all servers are down for so long, once; 0: they are not
}

// world is everything there is. Events happen one at a time, in the order of virtual time.
type world struct {
	cfg      config
	rng      *rand.Rand
	seed     uint64
	mutant   Mutant
	now      time.Time // true time
	began    time.Time
	end      time.Time // when the calm time was over, and nothing fired any more
	calm     bool
	draining bool
	events   queue
	serial   int
	servers  []*server
	clocks   []time.Duration // of the servers' machines, by slot: from the true time; a new start sets none right
	store    *store
	dark     time.Time // until when all servers are down
	slow     bool      // schedules of hours and days, and long outages
	cals     calendars
	pools    []core.Pool
	downs    []core.Downstream
	running  int // the most runs of the namespace at once; 0: no limit
	sick     map[string]time.Duration
	decide   func(task *core.Task, v *version, next, now time.Time, rules scheduler.Rules) scheduler.Decision
	admit    func(core.Admission, core.Standings) core.Ruling
	started  func(core.RunState) bool
	seen     observer
	broken   []string
}

// server is one incarnation of a server: a crash ends it, and its memory with it.
type server struct {
	id      string
	slot    int
	dead    bool
	fenced  bool      // another server has taken its registration away: it writes no more
	since   time.Time // true time since which it has been at work, by one setting of its clock
	renewed time.Time // true (monotonic) time of the last renewal
	stalled time.Time // until when it stands still
	stood   time.Time // when it last began to stand still
	live    map[string]*held
}

// held is a run in the memory of a server.
type held struct {
	run       core.Run
	v         *version // of the task, as the server saw it
	executing bool
	over      bool // taken off: what was to happen to it does not
	stopping  core.Stop
	begun     *start
	asked     time.Time   // when it last asked to be admitted
	passed    []time.Time // when its preconditions were last true
}

type event struct {
	at     time.Time
	serial int
	owner  *server // nil: of the world; else it is void once the server is dead
	do     func()
}

// queue is a heap of events.
type queue []event

func (q queue) before(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].serial < q[j].serial
}

func (q *queue) push(e event) {
	*q = append(*q, e)
	for i := len(*q) - 1; i > 0 && q.before(i, (i-1)/2); i = (i - 1) / 2 {
		(*q)[i], (*q)[(i-1)/2] = (*q)[(i-1)/2], (*q)[i]
	}
}

func (q *queue) pop() event {
	old := *q
	top, last := old[0], len(old)-1
	old[0], old[last] = old[last], event{}
	*q = old[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && q.before(child+1, child) {
			child++
		}
		if !q.before(child, i) {
			return top
		}
		old[i], old[child] = old[child], old[i]
		i = child
	}
}

func newWorld(seed uint64, mutant Mutant) *world {
	w := &world{seed: seed, mutant: mutant, rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), sick: make(map[string]time.Duration)}
	w.store = newStore(mutant, &w.now)
	w.seen = newObserver()
	w.decide = func(task *core.Task, v *version, next, now time.Time, rules scheduler.Rules) scheduler.Decision {
		return scheduler.Decide(task, v.sched, next, now, rules)
	}
	w.admit, w.started = core.Admit, runner.MayHaveStarted
	w.mutate()
	w.store.admits = w.admit
	w.draw()
	return w
}

func (w *world) at(owner *server, t time.Time, do func()) {
	w.serial++
	w.events.push(event{at: t, serial: w.serial, owner: owner, do: do})
}

func (w *world) after(owner *server, d time.Duration, do func()) { w.at(owner, w.now.Add(d), do) }

// step carries out the next event before a time; false: there is none.
func (w *world) step(until time.Time) bool {
	if len(w.events) == 0 || w.events[0].at.After(until) {
		return false
	}
	e := w.events.pop()
	w.now = e.at
	switch {
	case e.owner == nil:
		e.do()
	case e.owner.dead:
	case e.owner.stalled.After(w.now): // it finds out when it goes on
		w.at(e.owner, e.owner.stalled, e.do)
	default:
		e.do()
	}
	return true
}

func (w *world) run(until time.Time) {
	for w.step(until) {
	}
	w.now = until
}

// calmDown ends all faults, and brings up whoever is down, so that what is left over is settled.
func (w *world) calmDown() {
	w.calm = true
	for i, s := range w.servers {
		if w.clocks[i], s.since = 0, w.now; s.stalled.After(w.now) { // what it had to do waits until then all the same
			s.since = s.stalled
		}
		s.stalled = time.Time{}
		if s.dead {
			w.boot(i)
		}
	}
}

// drain lets nothing fire any more and waits for the last live run to end: none may be left that waits for ever.
func (w *world) drain() {
	w.draining = true
	for _, t := range w.store.tasks {
		w.store.seal(t)
	}
	until := w.now.Add(20 * time.Minute)
	if w.cfg.longSteps || w.cfg.apart >= time.Hour { // a retry or a probe may be due an hour later, by a clock that was ahead
		until = until.Add(3 * time.Hour)
	}
	for w.store.live() > 0 && w.step(until) {
	}
}

func (w *world) chance(p float64) bool { return !w.calm && p > 0 && w.rng.Float64() < p }

func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

func (w *world) fail(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// wall is a server's idea of the time.
func (w *world) wall(s *server) time.Time { return w.now.Add(w.clocks[s.slot]) }

// stepClock sets the wall clock of a server's machine, whatever the server is doing.
func (w *world) stepClock(slot int) {
	if w.calm {
		return
	}
	s := w.servers[slot]
	w.checkUndecided(s, w.store.tasks...)
	w.clocks[slot] += w.between(-3*time.Second, 3*time.Second)
	if w.cfg.longSteps && w.rng.IntN(10) == 0 {
		w.clocks[slot] += w.between(-time.Hour, time.Hour)
	}
	if s.since.Before(w.now) {
		s.since = w.now
	}
}

func (w *world) mayAct(s *server) bool { return !s.fenced && w.now.Sub(s.renewed) < lease*9/10 }

// crashes ends a server, with everything in its memory and every attempt it executes, and boots it again later.
func (w *world) crashes(s *server) bool {
	if !w.chance(w.cfg.crash) {
		return s.dead
	}
	w.kill(s, w.between(0, 40*time.Second))
	return true
}

func (w *world) kill(s *server, down time.Duration) {
	w.checkUndecided(s, w.store.tasks...)
	s.dead = true
	w.seen.died(s)
	back := w.now.Add(down)
	if back.Before(w.dark) {
		back = w.dark.Add(w.between(0, 3*time.Second))
	}
	w.at(nil, back, func() {
		switch {
		case w.servers[s.slot] != s:
		case w.now.Before(w.dark): // an outage has begun meanwhile
			w.kill(s, 0)
		default:
			w.boot(s.slot)
		}
	})
}

// stops ends a server as its operator would: it gives back what it has not begun and cancels what it executes.
func (w *world) stops(s *server) {
	for _, run := range w.store.owned(s.id) {
		h := s.live[run.ID]
		switch {
		case h == nil || h.over:
		case h.executing:
			w.seen.ended(h.begun)
			w.settle(s, h, core.Outcome{Verdict: core.Cancelled}, true)
		case !w.started(h.run.State):
		case h.run.Attempt == 1:
			w.skip(s, h, core.ReasonShutdown)
		default:
			w.store.finish(core.Finish{RunID: run.ID, TaskID: run.TaskID, Token: h.run.Token, Owner: s.id, EndedAt: w.wall(s), RetryAt: w.wall(s),
				Outcome: core.Outcome{Verdict: core.Cancelled}})
		}
		if s.dead {
			return
		}
	}
	delete(w.store.leases, s.id)
	w.kill(s, w.between(0, 5*time.Second))
}

func (w *world) boot(slot int) {
	w.serial++
	s := &server{id: fmt.Sprintf("server-%d-%d", slot, w.serial), slot: slot, since: w.now, renewed: w.now, live: make(map[string]*held)}
	if slot == len(w.servers) {
		w.servers = append(w.servers, s)
	} else {
		w.servers[slot] = s
	}
	w.store.leases[s.id] = w.now.Add(lease)
	w.recover(s)
	w.after(s, 0, func() { w.pass(s) })
	w.after(s, lease/3, func() { w.renew(s) })
}

// renew keeps the lease, and looks for what others have left. A server whose registration was taken away never gets it
// back: it is started anew.
func (w *world) renew(s *server) {
	if _, held := w.store.leases[s.id]; !held {
		s.fenced = true
		w.kill(s, w.between(0, 10*time.Second))
		return
	}
	s.renewed = w.now
	w.store.leases[s.id] = w.now.Add(lease)
	w.recover(s)
	if !s.dead {
		w.after(s, lease/3, func() { w.renew(s) })
	}
}
