package simulation

import (
	"cmp"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// observer keeps what really happens, apart from the servers' memory and the store's own accounts, and holds the promises
// that can be held at once against it.
type observer struct {
	starts   []*start
	running  []*start
	versions map[string][]*version          // of each task, in order
	then     map[*version]time.Time         // where the last claim of a version left its mark
	through  map[*version]time.Time         // the last instant it has decided about
	closed   map[string][]string            // by run that ended: the tasks that its end starts, or skips
	order    []string                       // of closed
	streak   map[string]int                 // failed runs in a row, by task
	stopped  map[string]bool                // by stop_after
	fired    map[string]map[string]struct{} // runs of the schedule that began, by task
	mixed    map[string]bool                // tasks whose runs did not all have one overlap policy
	clocks   map[*server][]reading          // what a server's clock showed when it looked at it
	alone    int                            // fires that were missed by the clock of the server that decided, and not by another's
}

// reading is what a clock showed at a true time.
type reading struct{ at, wall time.Time }

// reads keeps what a server's clock shows as it is about to decide.
func (o *observer) reads(s *server, at, wall time.Time) {
	o.clocks[s] = append(o.clocks[s], reading{at, wall})
}

// showed says whether a server's clock showed a wall time a moment ago, or a moment before it stood still.
func (o *observer) showed(s *server, now, wall time.Time) bool {
	const moment = 30 * time.Millisecond // from reading the clock to the claim
	for _, r := range slices.Backward(o.clocks[s]) {
		switch {
		case now.Sub(r.at) > moment && s.stood.Sub(r.at) > moment:
			return false
		case r.wall.Equal(wall):
			return true
		}
	}
	return false
}

// start is an attempt that really began.
type start struct {
	task     *core.Task
	run      core.Run
	row      *core.Run // as the store has it
	server   *server
	at, wall time.Time
	limits   []core.Limit
}

func newObserver() observer {
	return observer{
		versions: make(map[string][]*version), then: make(map[*version]time.Time), through: make(map[*version]time.Time), closed: make(map[string][]string),
		streak: make(map[string]int), stopped: make(map[string]bool), fired: make(map[string]map[string]struct{}), mixed: make(map[string]bool), clocks: make(map[*server][]reading),
	}
}

func (o *observer) changed(v *version) {
	id := v.task.ID
	if list := o.versions[id]; len(list) > 0 {
		old := list[len(list)-1].task
		if p, q := old.Policies, v.task.Policies; p.Overlap != q.Overlap || p.OverlapLimit != q.OverlapLimit {
			o.mixed[id] = true
		}
		if v.task.Enabled && (o.stopped[id] || !old.Enabled) {
			o.stopped[id], o.streak[id] = false, 0
		}
	}
	o.versions[id] = append(o.versions[id], v)
}

// died ends all that a server executed.
func (o *observer) died(s *server) {
	o.running = slices.DeleteFunc(o.running, func(r *start) bool { return r.server == s })
}

func (o *observer) ended(begun *start) {
	o.running = slices.DeleteFunc(o.running, func(r *start) bool { return r == begun })
}

func (s *start) valid() bool { return s.row.State != core.RunEnded && s.row.Token == s.run.Token }

// began holds a start against what else executes.
func (o *observer) began(w *world, s *start) {
	o.starts = append(o.starts, s)
	o.running = append(o.running, s)
	id, p := s.task.ID, s.task.Policies
	if s.run.Trigger == core.TriggerSchedule || s.run.Trigger == core.TriggerCatchUp {
		if o.fired[id] == nil {
			o.fired[id] = make(map[string]struct{})
		}
		if o.fired[id][s.run.ID] = struct{}{}; p.MaxRuns > 0 && len(o.fired[id]) > p.MaxRuns {
			w.fail("task %s: run %s is number %d of at most %d", id, s.run.ID, len(o.fired[id]), p.MaxRuns)
		}
	}
	if !s.valid() {
		return
	}
	beside := 0
	used := make(map[string]int, len(s.limits))
	for _, r := range o.running {
		if !r.valid() {
			continue
		}
		if r.task.ID == id {
			beside++
		}
		for _, l := range r.limits {
			used[l.Key] += l.Need
		}
	}
	most := 1
	if policy, limit := s.run.OverlapUnder(p); policy == core.OverlapAllow {
		if most = limit; most == 0 {
			most = beside
		}
	}
	if beside > most && !o.mixed[id] {
		w.fail("task %s: %d attempts hold valid tokens at once with %s(%d), run %s among them", id, beside, p.Overlap, p.OverlapLimit, s.run.ID)
	}
	limits, _ := w.gates(s.task)
	for _, l := range limits {
		if !slices.ContainsFunc(s.limits, func(held core.Limit) bool { return held.Key == l.Key }) {
			w.fail("run %s of %s executes without a place in %s", s.run.ID, id, l.Key)
		}
	}
	for _, l := range s.limits {
		if used[l.Key] > l.Slots {
			w.fail("run %s of %s: %d of %d slots of %s in use", s.run.ID, id, used[l.Key], l.Slots, l.Key)
		}
	}
}

// admitted holds an admission against the other runs: nobody who stands in line is passed, and nobody starts beside one
// whom its policy does not allow.
func (o *observer) admitted(w *world, a *core.Admission, h *held, comes bool) {
	for _, l := range a.Limits {
		for _, p := range w.store.queued(l.Key) {
			if comes && p.Priority >= h.run.Priority {
				w.fail("run %s has just come, and takes of %s what run %s waits for since %s", a.RunID, l.Key, p.ID, p.WaitSince)
			}
		}
	}
	if h.run.State == core.RunRetrying {
		return
	}
	beside := 0
	for _, p := range w.store.byID[a.TaskID].live {
		switch {
		case p.ID == a.RunID:
		case p.State == core.RunClaimed || p.State == core.RunRunning || p.State == core.RunRetrying:
			beside++
		case a.Overlap == core.OverlapQueue && (p.State == core.RunWaiting || !p.StartAt.After(a.At)) && later(&h.run, p):
			w.fail("task %s: run %s of %s passes run %s of %s in the queue", a.TaskID, a.RunID, h.run.FireAt, p.ID, p.FireAt)
		}
	}
	if a.Overlap != core.OverlapAllow && beside > 0 || a.OverlapLimit > 0 && a.Overlap == core.OverlapAllow && beside >= a.OverlapLimit {
		w.fail("task %s: run %s is admitted beside %d others with %s(%d)", a.TaskID, a.RunID, beside, a.Overlap, a.OverlapLimit)
	}
}

func later(run, than *core.Run) bool {
	return run.FireAt.After(than.FireAt) || run.FireAt.Equal(than.FireAt) && run.ID > than.ID
}

// replaces holds against each other a run that waits and one that must make way for it.
func (o *observer) replaces(w *world, run *core.Run, id string) {
	if old := w.store.runs[id]; !later(run, old) {
		w.fail("task %s: run %s of %s has run %s of %s stopped, which is later", run.TaskID, run.ID, run.FireAt, id, old.FireAt)
	}
}

// superseded looks for the run that a superseded one has made way for.
func (o *observer) superseded(w *world, run *core.Run) {
	p := w.store.byID[run.TaskID].task.Policies
	if w.cfg.people > 0 || p.StopAfter > 0 || len(p.Preconditions) > 0 || p.CatchUp == core.CatchUpNone { // it may be over since
		return
	}
	for _, other := range w.store.runs {
		if other.TaskID == run.TaskID && other.Reason == "" && later(other, run) {
			return
		}
	}
	w.fail("task %s: run %s of %s was superseded by nobody", run.TaskID, run.ID, run.FireAt)
}

// ends keeps that a run has ended, and what its end causes.
func (o *observer) ends(w *world, s *server, task *core.Task, run core.Run, verdict core.Verdict, stopAfter int) {
	id := task.ID
	switch {
	case verdict == core.Succeeded:
		o.streak[id] = 0
	case verdict.Failure():
		if o.streak[id]++; stopAfter > 0 && o.streak[id] >= stopAfter {
			o.stopped[id] = true
		}
	}
	var causes []string
	for _, t := range w.store.tasks {
		for _, u := range t.task.After {
			if u.Task != task.Name || !u.On.Matches(verdict) {
				continue
			}
			switch {
			case !t.task.Enabled:
				causes = append(causes, t.task.ID+" skipped disabled")
			case t.task.Pause.Holds(w.wall(s)):
				causes = append(causes, t.task.ID+" skipped paused")
			default:
				causes = append(causes, t.task.ID)
			}
			break
		}
	}
	if _, twice := o.closed[run.ID]; twice {
		w.fail("run %s ended twice", run.ID)
	}
	slices.Sort(causes)
	o.closed[run.ID] = causes
	o.order = append(o.order, run.ID)
}

// fire is a nominal instant, as it is found one by one.
type fire struct {
	at     time.Time
	skip   core.Reason
	paused bool
}

// instants gives the nominal instants from from on, before to (zero: as long as there are any), and up to last.
func instants(v *version, from, to, last time.Time) (list []fire) {
	for at := from.Add(-time.Microsecond); ; {
		f, ok := v.sched.Next(at)
		if !ok || !to.IsZero() && !f.At.Before(to) || f.At.After(last) {
			return list
		}
		list = append(list, fire{f.At.UTC(), f.Skip, v.task.Pause.Holds(f.At)})
		at = f.At
	}
}

// decided holds a decision that was committed against an independent computation of what it should have been, by the clock
// of the server that took it, whatever the others' show.
func (o *observer) decided(w *world, s *server, v *version, c core.Claim, result core.Claimed, fired int64) {
	task, p := v.task, v.task.Policies
	id := task.ID
	if len(c.Runs) == 0 { // it is no fire any more
		return
	}
	now := c.Runs[0].DecidedAt
	if !o.showed(s, w.now, now) {
		w.fail("task %s: %s decides about %s at %s, which its clock has not shown; it shows %s", id, s.id, c.NextFire, now, w.wall(s))
	}
	for i := range c.Runs {
		run := &c.Runs[i]
		caughtUp := run.Reason == core.ReasonCatchUp || run.Trigger == core.TriggerCatchUp
		if late := now.Sub(c.NextFire); !run.DecidedAt.Equal(now) || run.Owner != s.id || caughtUp && late <= missedAfter ||
			!caughtUp && late > missedAfter && run.State != core.RunEnded {
			w.fail("task %s: %s is decided (%s %s) by %q at %s, and the clock of %s shows %s, %s after %s", id, run.FireAt, run.Trigger, run.Reason, run.Owner, run.DecidedAt, s.id, now, late, c.NextFire)
		}
	}
	if now.Sub(c.NextFire) > missedAfter && slices.ContainsFunc(w.servers, func(other *server) bool {
		return !other.dead && w.wall(other).Sub(c.NextFire) <= missedAfter
	}) {
		o.alone++
	}
	if v.sched.Kind() == schedule.After { // its marks are set by the ends of its runs
		if len(c.Runs) != 1 || !c.Runs[0].FireAt.Equal(c.NextFire) {
			w.fail("task %s: the decision about %s has %d rows", id, c.NextFire, len(c.Runs))
		}
		if o.stopped[id] && c.Runs[0].State != core.RunEnded {
			w.fail("task %s fires at %s although it was stopped", id, c.NextFire)
		}
		return
	}
	mark, known := o.then[v]
	if !known {
		mark = v.mark
	}
	if !mark.Equal(c.NextFire) {
		w.fail("task %s: %s is decided after a mark at %s", id, c.NextFire, mark)
	}
	o.then[v] = c.Then
	if len(c.Runs) > 0 {
		o.through[v] = c.Runs[len(c.Runs)-1].FireThrough
	}
	missed := now.Sub(c.NextFire) > missedAfter
	last := c.NextFire
	if missed {
		last = now
	}
	usedUp := p.MaxRuns > 0 && fired >= int64(p.MaxRuns)
	if usedUp {
		last = c.NextFire
	}
	list := instants(v, c.NextFire, c.Then, last)
	if missed && !usedUp && !c.Then.IsZero() && !c.Then.After(now) {
		w.fail("task %s: missed until %s, but the next fire to be decided is %s", id, now, c.Then)
	}
	var want []time.Time
	row := 0
	for _, f := range list {
		for row < len(c.Runs) && c.Runs[row].FireThrough.Before(f.at) {
			row++
		}
		if row == len(c.Runs) || c.Runs[row].FireAt.After(f.at) {
			w.fail("task %s: %s has no decision", id, f.at)
			return
		}
		run := &c.Runs[row]
		if f.paused = f.paused || missed && task.Pause.Holds(now); f.paused != (run.Reason == core.ReasonPaused) && !usedUp {
			w.fail("task %s: %s is decided as %q, and the task is paused: %t", id, f.at, run.Reason, f.paused)
		}
		if f.skip == "" && !f.paused && !usedUp {
			want = append(want, f.at)
		}
	}
	if missed {
		limit := 1
		switch p.CatchUp {
		case core.CatchUpNone:
			limit = 0
		case core.CatchUpAll:
			limit = p.CatchUpLimit
			edge := now.Add(-cmp.Or(p.CatchUpWindow, core.DefaultCatchUpWindow))
			want = slices.DeleteFunc(want, func(at time.Time) bool { return at.Before(edge) })
		}
		if p.MaxRuns > 0 {
			limit = min(limit, p.MaxRuns-int(fired))
		}
		want = want[max(0, len(want)-max(0, limit)):]
	}
	spread := cmp.Or(p.CatchUpSpread, core.DefaultCatchUpSpread)
	covered, started := 0, 0
	for i := range c.Runs {
		run := &c.Runs[i]
		covered += run.FireCount
		if run.State == core.RunEnded {
			continue
		}
		switch {
		case o.stopped[id]:
			w.fail("task %s fires at %s although it was stopped", id, run.FireAt)
		case started >= len(want) || !want[started].Equal(run.FireAt):
			w.fail("task %s: %s starts, but by %s and %d missed only %s should", id, run.FireAt, p.CatchUp, len(list), want)
		case missed && !run.StartAt.Equal(now.Add(time.Duration(started)*spread)):
			w.fail("task %s: the caught-up fire %s starts at %s, not %d times %s after %s", id, run.FireAt, run.StartAt, started, spread, now)
		case !missed && (run.StartAt.Before(run.FireAt) || run.StartAt.After(run.FireAt.Add(task.Schedule.Jitter))):
			w.fail("task %s: %s starts at %s with a jitter of %s", id, run.FireAt, run.StartAt, task.Schedule.Jitter)
		}
		started++
	}
	if started < len(want) {
		w.fail("task %s: of the missed fires %s only %d start", id, want, started)
	}
	if covered != len(list) {
		w.fail("task %s: the decision at %s claims %d instants and covers %d", id, c.NextFire, covered, len(list))
	}
}
