package simulation

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// calendars are those of the world, by name.
type calendars map[string]pattern

// Days gives a calendar of the world.
func (c calendars) Days(name string, _ *time.Location) (schedule.Days, bool) {
	p, ok := c[name]
	return p, ok
}

// pattern contains the first part of every period since its origin.
type pattern struct {
	origin       time.Time
	period, part time.Duration
}

// Stretch says whether it contains an instant, and since and until when.
func (p pattern) Stretch(at time.Time) (in bool, from, to time.Time) {
	n := at.Sub(p.origin) / p.period
	begin := p.origin.Add(n * p.period)
	if at.Before(begin) {
		begin = begin.Add(-p.period)
	}
	if middle := begin.Add(p.part); at.Before(middle) {
		return true, begin, middle
	}
	return false, begin.Add(p.part), begin.Add(p.period)
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// draw makes a world: how hard it is, what there is in it, and its tasks.
func (w *world) draw() {
	r := w.rng
	w.began = time.Date(2026, 3, 8, 6, 59, 0, 0, time.UTC).Add(w.between(0, 30*time.Second)) // just before New York's clocks go forward
	w.now = w.began
	w.slow = r.IntN(4) == 0
	w.cfg = config{
		servers: 1 + r.IntN(3), length: w.between(20*time.Second, 2*time.Minute),
		crash: pick(r, 0, 0, 0.002, 0.01), lost: pick(r, 0, 0, 0.02, 0.1), repeat: pick(r, 0, 0.1), stall: pick(r, 0, 0, 0.01),
		clockStep: pick(r, 0, 0, 0, 0.02), people: pick(r, 0, 2*time.Second, 6*time.Second),
		outage: pick(r, 0, 0, 20*time.Second, 5*time.Minute, 40*time.Minute),
	}
	w.cfg.longSteps = w.cfg.clockStep > 0 && r.IntN(4) == 0
	if w.cfg.servers > 1 {
		w.cfg.apart = pick(r, 0, 0, 0, 2*time.Second, 20*time.Second, time.Hour)
	}
	if w.slow {
		w.cfg.outage = pick(r, 0, time.Minute, 24*time.Hour, 9*24*time.Hour, 400*24*time.Hour)
	}
	midnight := time.Date(2026, 3, 2, 5, 0, 0, 0, time.UTC) // a Monday in New York
	w.cals = calendars{
		"blink": {origin: w.began.Truncate(time.Second), period: 20 * time.Second, part: 13 * time.Second},
		"week":  {origin: midnight, period: 7 * 24 * time.Hour, part: 5 * 24 * time.Hour},
	}
	w.pools = []core.Pool{{Name: "erp", Slots: 1 + r.IntN(3), MaxWaiting: pick(r, 2, 30)}, {Name: "gpu", Slots: 1, MaxWaiting: 30}}
	w.downs = []core.Downstream{
		{Name: "his", Failures: 1 + r.IntN(3), Cooldown: w.between(time.Second, 8*time.Second), Probes: r.IntN(3)},
		{Name: "lis", Failures: 2, Cooldown: 3 * time.Second},
	}
	for _, d := range w.downs {
		w.sick[d.Name] = w.between(4*time.Second, 20*time.Second)
	}
	w.running = pick(r, 0, 0, 0, 1, 3)
	for i := range 2 + r.IntN(4) {
		task := &core.Task{
			ID: fmt.Sprintf("task-%d", i), Namespace: "Sim", Name: fmt.Sprintf("t%d", i), Type: "Sim.Work", Enabled: true, Version: 1,
			Schedule: w.drawSchedule(), Policies: w.drawPolicies(), Labels: map[string]string{},
		}
		task.Policies.MaxRuns = pick(r, 0, 0, 0, 1+r.IntN(12))
		if r.IntN(5) == 0 {
			task.Labels["resumable"] = "yes"
		}
		for j := range i { // only earlier ones: no cycles
			if r.IntN(4) == 0 {
				task.After = append(task.After, core.Upstream{Task: fmt.Sprintf("t%d", j), On: pick(r, "", core.OnSuccess, core.OnFailure, core.OnAlways)})
			}
		}
		v := w.plan(task)
		v.mark = firstFire(v.sched, w.now)
		w.store.put(v)
		w.seen.changed(v)
	}
}

func (w *world) drawSchedule() core.Schedule {
	r := w.rng
	s := core.Schedule{Zone: pick(r, "", "America/New_York", "Asia/Shanghai"), Anchor: w.began}
	if w.slow {
		s.Spec = pick(r, "0 * * * *", "30 2 * * *", "0 3 * * 1-5", "@every 6h", "0 0 1 * *", "0 0 1 1 *", "15 7 * * *", "@after 1h")
		if s.Spec[0] != '@' && r.IntN(2) == 0 {
			s.Zone = "America/New_York"
			s.OnlyOn = []string{"week"}
			if s.Spec != "0 * * * *" {
				s.OnDayOff = pick(r, "", "skip", "next", "previous")
			}
		}
		s.Jitter = pick(r, 0, 0, 5*time.Second)
		return s
	}
	s.Spec = pick(r, "@every 2s", "@every 5s", "@every 9s", "*/3 * * * * *", "*/10 * * * * *", "* * * * *", "@after 3s", "30 2 * * *")
	if s.Spec == "30 2 * * *" {
		s.Zone, s.OnGap = "America/New_York", pick(r, "", "skip")
	}
	if r.IntN(5) == 0 && s.Spec != "@after 3s" && s.Spec != "30 2 * * *" {
		s.NotOn = []string{"blink"}
		if r.IntN(2) == 0 {
			s.NotOn, s.OnlyOn = nil, s.NotOn
		}
	}
	if r.IntN(8) == 0 {
		s.Until = w.began.Add(50 * time.Second)
	}
	if r.IntN(6) == 0 {
		s.Jitter = time.Second
	}
	return s
}

// plan gives meaning to a task's schedule.
func (w *world) plan(task *core.Task) *version {
	sched, err := schedule.Parse(task.Schedule, task.Name, w.cals)
	if err != nil { // a window that leaves nothing, or a jitter that is too long
		task.Schedule = core.Schedule{Spec: "@every 7s", Anchor: w.began}
		if w.slow {
			task.Schedule.Spec = "@every 5h"
		}
		if sched, err = schedule.Parse(task.Schedule, task.Name, nil); err != nil {
			panic(err) // the specs above are constants
		}
	}
	return &version{task: task, sched: sched, since: w.now}
}

func firstFire(sched *schedule.Schedule, now time.Time) time.Time {
	if sched.Kind() == schedule.After {
		return now.Add(sched.After()).UTC().Truncate(time.Microsecond)
	}
	fire, ok := sched.Next(now)
	if !ok {
		return time.Time{}
	}
	return fire.At.UTC()
}

func (w *world) drawPolicies() core.Policies {
	r := w.rng
	p := core.Policies{
		Overlap: pick(r, core.OverlapSkip, core.OverlapSkip, core.OverlapQueue, core.OverlapQueue, core.OverlapCancel, core.OverlapTerminate, core.OverlapAllow),
		CatchUp: pick(r, core.CatchUpLatest, core.CatchUpNone, core.CatchUpAll, core.CatchUpAll), CatchUpWindow: pick(r, 0, 30*time.Second, 4*time.Minute, 48*time.Hour),
		CatchUpLimit: 1 + r.IntN(8), CatchUpSpread: pick(r, 0, 300*time.Millisecond, 4*time.Second),
		MaxAttempts: 1 + r.IntN(3), RetryDelay: w.between(time.Second, 3*time.Second), RetryBackoff: pick(r, core.BackoffFixed, core.BackoffExponential),
		RetryJitter: pick(r, 0, 0.3), StopAfter: pick(r, 0, 0, 0, 1, 3), Priority: r.IntN(3) - 1,
	}
	switch p.Overlap {
	case core.OverlapQueue:
		p.OverlapLimit = r.IntN(4)
	case core.OverlapAllow:
		p.OverlapLimit = r.IntN(3)
	}
	if r.IntN(3) == 0 {
		p.Pools = append(p.Pools, core.PoolUse{Pool: "erp", Slots: 1 + r.IntN(w.pools[0].Slots)})
	}
	if r.IntN(5) == 0 {
		p.Pools = append(p.Pools, core.PoolUse{Pool: "gpu"})
	}
	if r.IntN(3) == 0 {
		p.Downstreams = append(p.Downstreams, "his")
	}
	if r.IntN(6) == 0 {
		p.Downstreams = append(p.Downstreams, "lis")
	}
	if r.IntN(5) == 0 {
		p.Breaker = core.BreakerRule{Failures: 1 + r.IntN(3), Cooldown: w.between(time.Second, 6*time.Second), Probes: r.IntN(3)}
	}
	for range pick(r, 0, 0, 0, 1, 2) {
		p.Preconditions = append(p.Preconditions, core.Precondition{
			Every: w.between(500*time.Millisecond, 2*time.Second), Deadline: pick(r, 0, 3*time.Second, 12*time.Second),
			Otherwise: pick(r, "", core.OtherwiseSkip, core.OtherwiseRun, core.OtherwiseFail),
		})
	}
	return p
}

// dice gives a number that depends on the seed and its arguments alone.
func (w *world) dice(what string, n int64) uint64 {
	h := w.seed*0x9e3779b97f4a7c15 + uint64(n)*0xbf58476d1ce4e5b9
	for _, c := range []byte(what) {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	h ^= h >> 29
	return h * 0x94d049bb133111eb >> 33
}

// holds says whether a precondition is true now: it flips at random.
func (w *world) holds(task *core.Task, index int) bool {
	return w.dice(task.ID, w.now.UnixMilli()/3000+int64(index)<<40)%3 > 0
}

// verdict says how an attempt ends: badly while what it touches is sick.
func (w *world) verdict(task *core.Task) core.Verdict {
	for _, name := range task.Policies.Downstreams {
		if every := w.sick[name]; w.dice(name, w.now.UnixMilli()/every.Milliseconds())%3 == 0 {
			return core.Failed
		}
	}
	return pick(w.rng, core.Succeeded, core.Succeeded, core.Succeeded, core.Succeeded, core.Failed, core.TimedOut, core.Crashed)
}

// disturb plans what happens to the world from outside.
func (w *world) disturb() {
	if d := w.cfg.outage; d > 0 {
		w.after(nil, w.between(0, w.cfg.length), func() {
			w.cfg.length += d
			w.dark = w.now.Add(d)
			for _, s := range w.servers {
				if !s.dead {
					w.kill(s, d)
				}
			}
		})
	}
	if w.cfg.people > 0 {
		w.people()
	}
	if w.rng.IntN(3) == 0 {
		w.after(nil, w.between(0, w.cfg.length), func() {
			if s := w.anyone(); s != nil && !w.calm {
				w.stops(s)
			}
		})
	}
}

// anyone gives a server that answers.
func (w *world) anyone() *server {
	s := w.servers[w.rng.IntN(len(w.servers))]
	if s.dead || s.stalled.After(w.now) || !w.mayAct(s) || !w.registered(s) {
		return nil
	}
	return s
}

// people do something from time to time.
func (w *world) people() {
	at := w.now.Add(w.between(0, 2*w.cfg.people))
	if at.Before(w.dark) {
		at = w.dark
	}
	w.at(nil, at, func() {
		if w.calm {
			return
		}
		if s := w.anyone(); s != nil {
			w.act(s, w.store.tasks[w.rng.IntN(len(w.store.tasks))])
		}
		w.people()
	})
}

func (w *world) act(s *server, t *taskRow) {
	now := w.wall(s).UTC().Truncate(time.Microsecond)
	task := *t.task
	task.Version++
	paused := task.Pause.Holds(now)
	switch w.rng.IntN(8) {
	case 0: // a new definition; what was paused stays so
		old := task.Policies
		task.Policies = w.drawPolicies()
		task.Policies.MaxRuns = old.MaxRuns
		if w.rng.IntN(2) == 0 {
			task.Policies.Overlap, task.Policies.OverlapLimit = old.Overlap, old.OverlapLimit
		}
		if w.rng.IntN(2) == 0 {
			task.Schedule = w.drawSchedule()
		}
		task.Enabled, task.DisabledReason = true, ""
		w.change(t, &task, func(v *version) time.Time { return firstFire(v.sched, now) })
	case 1, 2:
		if paused {
			task.Pause.Until = now // it stays on record, so that what it covers is still skipped
		} else {
			task.Pause = core.Pause{Since: now, By: "sim"}
			if w.rng.IntN(2) == 0 {
				task.Pause.Until = now.Add(w.between(time.Second, 20*time.Second)).Truncate(time.Microsecond)
			}
		}
		w.change(t, &task, func(v *version) time.Time {
			if t.nextFire.IsZero() && task.Enabled && v.sched.Kind() == schedule.After {
				return firstFire(v.sched, now) // the end of the run that would set it has another version
			}
			return t.nextFire
		})
	case 3:
		enabled := task.Enabled
		task.Enabled = !enabled
		w.change(t, &task, func(v *version) time.Time {
			if enabled {
				return time.Time{}
			}
			return firstFire(v.sched, now)
		})
		if enabled {
			w.forget(s, task.ID, core.ReasonDisabled)
		}
	case 4:
		w.backfill(s, t)
	case 5:
		if len(t.live) > 0 {
			w.stop(s, t.live[w.rng.IntN(len(t.live))].ID, pick(w.rng, core.StopCancel, core.StopTerminate))
		}
	default:
		run := w.newRun(s, t.task, core.TriggerManual, now)
		if !w.gated(t.task) {
			run.State = core.RunClaimed
		}
		for _, run := range w.store.enqueue([]core.Run{run}, t.task.Policies.Overlap == core.OverlapSkip) {
			w.dispatch(s, t.version, run)
		}
	}
}

// change stores a new version of a task.
func (w *world) change(t *taskRow, task *core.Task, mark func(v *version) time.Time) {
	v := &version{task: task, sched: t.sched, since: w.now}
	if !reflect.DeepEqual(task.Schedule, t.task.Schedule) {
		v = w.plan(task)
	}
	v.mark = mark(v)
	if task.Enabled && !t.task.Enabled {
		t.failures = 0
	}
	w.store.put(v)
	w.seen.changed(v)
}

// backfill wants instants of the last minutes again.
func (w *world) backfill(s *server, t *taskRow) {
	w.serial++
	series := fmt.Sprintf("backfill:%d", w.serial)
	own, most := pick(w.rng, "", "", core.OverlapAllow, core.OverlapQueue, core.OverlapSkip), 0
	if own == core.OverlapAllow || own == core.OverlapQueue {
		most = w.rng.IntN(3)
	}
	w.seen.mixed[t.task.ID] = w.seen.mixed[t.task.ID] || own != ""
	var runs []core.Run
	at := w.wall(s).Add(-w.between(0, 2*time.Minute))
	for range 1 + w.rng.IntN(4) {
		fire, ok := t.sched.Next(at)
		if !ok || fire.At.After(w.wall(s)) {
			break
		}
		at = fire.At
		run := w.newRun(s, t.task, core.TriggerBackfill, at)
		run.Series, run.Overlap, run.OverlapLimit, run.StartAt = series, own, most, run.StartAt.Add(time.Duration(len(runs))*200*time.Millisecond)
		runs = append(runs, run)
	}
	for _, run := range w.store.enqueue(runs, false) {
		w.dispatch(s, t.version, run)
	}
}
