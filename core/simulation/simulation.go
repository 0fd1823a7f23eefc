// Package simulation runs the decisions of the scheduler and the runner against a model of the store, in virtual time,
// from a seed: servers crash at any step, answers are lost, calls are repeated and delayed, wall clocks step. An
// observer outside the model keeps what was really started, and the promises about firing are checked against it.
//
// What is real here is every decision: scheduler.Decide, runner.Settle, runner.MayHaveStarted and schedule. What is
// modelled is what the store promises (compare-and-set, unique fires, fencing tokens) and time.
package simulation

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// Config says how hard the world is. Probabilities are per step at which the thing can happen.
type Config struct {
	Servers   int
	Length    time.Duration // virtual time during which faults happen; then the world calms down and is checked
	Crash     float64       // of a server, between any two of its steps
	Lost      float64       // of an answer of the store: the server does not learn what was committed
	Repeat    float64       // of a write that is sent twice
	ClockStep float64       // of a step of a server's wall clock, per pass
}

const (
	ahead       = 200 * time.Millisecond
	missedAfter = 10 * time.Second
	lease       = 15 * time.Second
)

// Run runs one world and gives the broken promises; none means that all held.
func Run(seed uint64, cfg Config) []string {
	w := newWorld(seed, cfg)
	for range cfg.Servers {
		w.boot(len(w.servers))
	}
	end := w.now.Add(cfg.Length)
	w.run(end)
	w.calm = true
	for i := range w.servers { // whoever is down comes back, so that what is left over is settled
		if w.servers[i].dead {
			w.boot(i)
		}
	}
	w.run(end.Add(4 * lease))
	w.end = w.now
	return w.check()
}

// world is everything there is. Events happen one at a time, in the order of virtual time.
type world struct {
	cfg     Config
	rng     *rand.Rand
	now     time.Time // true time
	began   time.Time
	end     time.Time
	calm    bool
	events  events
	serial  int
	servers []*server
	store   *store
	tasks   []*core.Task
	scheds  map[string]*schedule.Schedule
	starts  []start // the observer's record
	running map[string][]start
	broken  []string
}

// start is an attempt that really began, as an outside observer sees it.
type start struct {
	task, run string
	fire      time.Time
	attempt   int
	token     int64
	server    *server
	at        time.Time
}

// server is one incarnation of a server: a crash ends it, and its memory with it.
type server struct {
	id      string
	slot    int
	dead    bool
	skew    time.Duration // of its wall clock
	renewed time.Time     // true (monotonic) time of the last renewal
	live    map[string]bool
}

type event struct {
	at     time.Time
	serial int
	owner  *server // nil: of the world; else it is void once the server is dead
	do     func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].serial < e[j].serial
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

func newWorld(seed uint64, cfg Config) *world {
	began := time.Date(2026, 3, 8, 6, 55, 0, 0, time.UTC) // five minutes before New York's clocks go forward
	w := &world{
		cfg: cfg, rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), now: began, began: began,
		scheds: make(map[string]*schedule.Schedule), running: make(map[string][]start),
	}
	w.store = newStore()
	specs := []core.Schedule{
		{Spec: "@every 1s"}, {Spec: "@every 7s"}, {Spec: "*/2 * * * * *"}, {Spec: "* * * * *"}, {Spec: "@after 3s"},
		{Spec: "30 2 * * *", Zone: "America/New_York"}, {Spec: "*/5 * * * *", Zone: "America/New_York"},
	}
	for i, spec := range specs {
		spec.Anchor = began
		task := &core.Task{
			ID: fmt.Sprintf("task-%d", i), Namespace: "Sim", Name: fmt.Sprintf("t%d", i), Type: "Sim.Work", Enabled: true, Version: 1, Schedule: spec,
			Policies: core.Policies{
				Overlap:     []core.Overlap{core.OverlapSkip, core.OverlapAllow}[w.rng.IntN(2)],
				CatchUp:     []core.CatchUp{core.CatchUpLatest, core.CatchUpNone}[w.rng.IntN(2)],
				MaxAttempts: 1 + w.rng.IntN(3), RetryDelay: time.Duration(1+w.rng.IntN(3)) * time.Second,
			},
		}
		sched, err := schedule.Parse(spec, task.Name)
		if err != nil {
			panic(err) // the specs above are constants
		}
		w.scheds[task.ID] = sched
		w.tasks = append(w.tasks, task)
		w.store.addTask(task, firstFire(sched, began))
	}
	return w
}

func firstFire(sched *schedule.Schedule, now time.Time) time.Time {
	if sched.Kind() == schedule.After {
		return now.Add(sched.After())
	}
	fire, _ := sched.Next(now)
	return fire.At.UTC()
}

func (w *world) at(owner *server, t time.Time, do func()) {
	w.serial++
	heap.Push(&w.events, event{at: t, serial: w.serial, owner: owner, do: do})
}

func (w *world) after(owner *server, d time.Duration, do func()) { w.at(owner, w.now.Add(d), do) }

func (w *world) run(until time.Time) {
	for len(w.events) > 0 && !w.events[0].at.After(until) {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		if e.owner == nil || !e.owner.dead {
			e.do()
		}
	}
	w.now = until
}

func (w *world) chance(p float64) bool { return !w.calm && w.rng.Float64() < p }

func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

func (w *world) fail(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// wall is a server's idea of the time.
func (w *world) wall(s *server) time.Time { return w.now.Add(s.skew) }

func (w *world) mayAct(s *server) bool { return w.now.Sub(s.renewed) < lease*9/10 }

// crashes ends a server, with everything in its memory and every attempt it executes, and boots it again later.
func (w *world) crashes(s *server) bool {
	if !w.chance(w.cfg.Crash) {
		return false
	}
	s.dead = true
	for task, list := range w.running {
		kept := list[:0]
		for _, r := range list {
			if r.server != s {
				kept = append(kept, r)
			}
		}
		w.running[task] = kept
	}
	w.after(nil, w.between(0, 40*time.Second), func() {
		if w.servers[s.slot] == s {
			w.boot(s.slot)
		}
	})
	return true
}

func (w *world) boot(slot int) {
	w.serial++
	s := &server{id: fmt.Sprintf("server-%d-%d", slot, w.serial), slot: slot, renewed: w.now, live: make(map[string]bool)}
	if slot == len(w.servers) {
		w.servers = append(w.servers, s)
	} else {
		w.servers[slot] = s
	}
	w.store.leases[s.id] = w.now.Add(lease)
	w.recover(s)
	w.pass(s)
	w.renew(s)
}

func (w *world) renew(s *server) {
	w.after(s, lease/3, func() {
		s.renewed = w.now
		w.store.leases[s.id] = w.now.Add(lease)
		w.recover(s)
		w.renew(s)
	})
}
