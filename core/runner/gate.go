package runner

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// door is where runs wait at one gate for one thing: a task's earlier runs, a limit, a breaker, or (alone) a
// precondition. One run at a time is taken from it to ask again; whoever leaves for good makes way for the next.
type door struct {
	at      doorKey
	waiting []*liveRun
	asking  *liveRun             // taken from here, and asking now
	again   bool                 // something has changed while it asked
	asked   time.Time            // when somebody last did
	stop    func() bool          // disarms the timer that has the next one ask; nil: there is none
	turn    map[string]time.Time // of a breaker: when the next fire of a task may start that it lets go, by task
}

type doorKey struct {
	gate core.Gate
	key  string // task id, limit, breaker, or run id
}

func doorOf(gate core.Gate, key string, run *core.Run) doorKey {
	switch gate {
	case core.GateOverlap:
		key = run.TaskID
	case core.GatePrecondition:
		key = run.ID
	}
	return doorKey{gate, key}
}

// admit brings a run whose instant has come through its gates. It reports true if the run may execute now; else the run
// waits at a door, or is over.
func (r *Runner) admit(l *liveRun) bool {
	ctx, cancel, ok := r.enter(l, approaching)
	if !ok {
		r.runs.Done()
		return false
	}
	defer cancel(nil)
	from := l.from
	var ruling core.Ruling
	var limits []core.Limit
	ends := r.hasToEnd(l)
	known := ends
	if !ends {
		ruling, limits, known = r.ask(ctx, l)
	}
	r.mu.Lock()
	l.from = nil
	if ruling.Start {
		l.holds = limits
		r.count(l, 1)
		from.letGo(l, r.opts.Clock.Now())
	}
	forgotten, stopped := l.forgotten, l.stopped
	if known && ruling.Gate != core.GateNone && forgotten == nil && stopped == nil && !r.stopping {
		if ruling.Timed {
			from.letGo(l, ruling.Until)
			r.await(l, ruling)
		} else {
			r.park(l, ruling)
		}
		r.makeWay(from, l)
		r.mu.Unlock()
		r.stopOthers(l, ruling)
		return false
	}
	r.makeWay(from, nil)
	r.mu.Unlock()
	switch {
	case ruling.Start && forgotten == nil:
		return true
	case !known: // the row stays as it is: the sweep takes it up again
	case forgotten != nil:
		r.skip(l, forgotten.reason, forgotten.facts)
	case ends:
		r.endUnstarted(l, core.Outcome{Verdict: core.Cancelled, Message: stopped.Error() + " before it began"})
	case ruling.Gate != core.GateNone && stopped != nil:
		r.endUnstarted(l, core.Outcome{Verdict: core.Cancelled, Message: stopped.Error() + " while it waited: " + ruling.Detail})
	case ruling.Reason != "":
		if p := unmet(l, ruling); p != nil && p.Otherwise == core.OtherwiseFail {
			r.endUnstarted(l, core.Outcome{Verdict: core.Failed, Message: "precondition " + nameOf(*p) + " had not come true by its deadline: " + strings.TrimPrefix(ruling.Detail, nameOf(*p)+": ")})
			break
		}
		r.skip(l, ruling.Reason, map[string]string{"gate": string(gateOf(ruling)), "key": ruling.Key, "detail": ruling.Detail})
	}
	r.drop(l)
	r.runs.Done()
	return false
}

// hasToEnd says whether a run was asked to stop before it asks to be admitted. One that goes on where another server was must
// execute to end: it may have others to stop.
func (r *Runner) hasToEnd(l *liveRun) bool {
	r.mu.Lock()
	stopped := l.stopped
	r.mu.Unlock()
	return stopped != nil && !r.resumable(&l.run)
}

// gateOf gives the gate whose ruling a skip is.
func gateOf(ruling core.Ruling) core.Gate {
	switch ruling.Reason {
	case core.ReasonOverlap, core.ReasonSuperseded:
		return cmp.Or(ruling.Gate, core.GateOverlap)
	case core.ReasonBreaker:
		return core.GateBreaker
	case core.ReasonCapacity:
		return core.GateCapacity
	default:
		return cmp.Or(ruling.Gate, core.GatePrecondition)
	}
}

// ask looks at the preconditions and has the store rule on all gates. known is false if no ruling could be had, or another server has taken over.
func (r *Runner) ask(ctx context.Context, l *liveRun) (ruling core.Ruling, limits []core.Limit, known bool) {
	if r.base.Err() != nil || !r.opts.MayAct() {
		return ruling, nil, false
	}
	limits, breakers := r.opts.Gates(l.task)
	var holds core.Ruling
	if l.run.State != core.RunRetrying {
		if holds, known = r.preconditions(ctx, l); !known || holds.Gate != core.GateNone && ctx.Err() != nil {
			return holds, nil, known
		}
	}
	if holds.Gate == core.GateNone && holds.Reason == "" {
		holds = r.queueAhead(l, limits)
	}
	p := l.task.Policies
	admission := core.Admission{
		RunID: l.run.ID, TaskID: l.run.TaskID, Token: l.run.Token, Owner: r.opts.ServerID, At: r.opts.Clock.Now(),
		Patient: l.run.Trigger.Patient(), CatchUp: p.CatchUp, CatchUpLimit: p.CatchUpLimit, Breakers: breakers, Limits: limits,
		Held: holds,
	}
	admission.Overlap, admission.OverlapLimit = l.run.OverlapUnder(p)
	admission.CatchUpSince, admission.Apart = r.caughtUp(l, admission.At)
	answers, err := r.opts.Store.Admit(context.WithoutCancel(ctx), []core.Admission{admission})
	if err != nil {
		r.opts.Log.Error("run not admitted", "run_id", l.run.ID, "state", l.run.State, "err", err)
		return ruling, nil, false
	}
	answer := answers[0]
	if answer.Stale {
		r.opts.Log.Warn("run was taken over", "run_id", l.run.ID, "token", l.run.Token)
		return ruling, nil, false
	}
	if answer.Start {
		r.mu.Lock()
		l.run.State, l.run.Token = core.RunClaimed, answer.Token
		if !answer.LastSuccess.IsZero() {
			l.run.PrevSuccess = answer.LastSuccess
		}
		r.mu.Unlock()
	}
	return answer.Ruling, limits, true
}

// caughtUp gives how far back the policy of a run goes that a breaker has kept, and until when it waits for its turn: what an open
// breaker has held up is caught up like what an outage has, with a spread.
func (r *Runner) caughtUp(l *liveRun, now time.Time) (since time.Time, apart core.Ruling) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := l.task.Policies
	if !l.from.spreads(l) {
		return since, apart
	}
	if at := l.from.turn[l.run.TaskID]; now.Before(at) {
		apart = core.Ruling{Gate: core.GateBreaker, Key: l.from.at.key, Until: at, Timed: true,
			Detail: "closed again, and its fires are caught up " + spreadOf(p).String() + " apart"}
	}
	return now.Add(-cmp.Or(p.CatchUpWindow, core.DefaultCatchUpWindow)), apart
}

func spreadOf(p core.Policies) time.Duration {
	return cmp.Or(p.CatchUpSpread, core.DefaultCatchUpSpread)
}

// spreads says whether a run that has waited at the door is one of several that start apart from each other.
func (d *door) spreads(l *liveRun) bool {
	return d != nil && d.at.gate == core.GateBreaker && l.task.Policies.CatchUp == core.CatchUpAll && unasked(&l.run)
}

// letGo notes that a run that has waited at the door starts at a time. The lock is held.
func (d *door) letGo(l *liveRun, at time.Time) {
	if !d.spreads(l) {
		return
	}
	if d.turn == nil {
		d.turn = map[string]time.Time{}
	}
	d.turn[l.run.TaskID] = at.Add(spreadOf(l.task.Policies))
}

// await has a run ask again when its turn has come, away from any door. The lock is held.
func (r *Runner) await(l *liveRun, ruling core.Ruling) {
	l.phase, l.cancel, l.door = armed, nil, nil
	l.run.Gate, l.run.GateKey, l.run.StartAt, l.run.State = ruling.Gate, ruling.Key, ruling.Until, core.RunWaiting
	r.rest(l)
	r.arm(l, ruling.Until.Sub(r.opts.Clock.Now()))
}

// preconditions looks at a run's preconditions in turn, and gives what the first one that is not true makes of it: it waits, or its
// time is over. The ruling is zero if all are true. known is false if that cannot be said.
func (r *Runner) preconditions(ctx context.Context, l *liveRun) (holds core.Ruling, known bool) {
	all := l.task.Policies.Preconditions
	if l.passed == nil {
		l.passed = make([]time.Time, len(all))
	}
	now := r.opts.Clock.Now()
	for i, p := range all {
		every := cmp.Or(p.Every, defaultPoll)
		if !l.passed[i].IsZero() && (p.Deadline == 0 || now.Sub(l.passed[i]) < every) { // without a deadline it is looked at once
			continue
		}
		holds = core.Ruling{Gate: core.GatePrecondition, Key: strconv.Itoa(i), Detail: "not looked at to the end"}
		select {
		case r.checks <- struct{}{}:
		case <-ctx.Done():
			return holds, true
		}
		ok, detail := r.opts.Check(ctx, l.task, l.run, p)
		<-r.checks
		if ctx.Err() != nil { // it says nothing about the condition that nobody waited for the answer
			return holds, true
		}
		now = r.opts.Clock.Now()
		holds.Detail = nameOf(p) + ": " + detail
		switch deadline := l.run.StartAt.Add(p.Deadline); {
		case ok:
			l.passed[i] = now
		case now.Before(deadline):
			holds.Until = now.Add(every)
			if holds.Until.After(deadline) {
				holds.Until = deadline
			}
			return holds, true
		case p.Otherwise == core.OtherwiseRun:
			// It is noted only while nothing else is waited for: it must not lose its place at a limit.
			if l.run.State == core.RunWaiting && l.run.Gate == core.GatePrecondition {
				holds.Detail += core.NotTrueInTime
				if !r.hold(ctx, l, holds) {
					return core.Ruling{}, false
				}
			}
			l.passed[i] = now
		default:
			return core.Ruling{Reason: core.ReasonPrecondition, Key: holds.Key, Detail: holds.Detail}, true
		}
	}
	return core.Ruling{}, true
}

// unmet gives the precondition that a run is skipped for; nil: it is skipped for something else.
func unmet(l *liveRun, ruling core.Ruling) *core.Precondition {
	i, err := strconv.Atoi(ruling.Key)
	if ruling.Reason != core.ReasonPrecondition || err != nil || i >= len(l.task.Policies.Preconditions) {
		return nil
	}
	return &l.task.Policies.Preconditions[i]
}

// defaultPoll is how often a precondition is looked at that does not say.
const defaultPoll = 30 * time.Second

func nameOf(p core.Precondition) string {
	switch {
	case p.Name != "":
		return p.Name
	case p.SQL != nil:
		return p.SQL.Query
	case p.HTTP != nil:
		return p.HTTP.URL
	default:
		return p.Expression
	}
}

// queueAhead gives where a run queues up without asking, because others wait for what it wants and come before it.
func (r *Runner) queueAhead(l *liveRun, limits []core.Limit) core.Ruling {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := (doorKey{core.GateOverlap, l.run.TaskID}); l.run.Trigger.Patient() && r.ahead(at, l) {
		return core.Ruling{Gate: core.GateOverlap, Detail: "earlier fires of the task wait"}
	}
	for _, limit := range limits {
		if d := r.doors[doorKey{core.GateCapacity, limit.Key}]; d != nil && len(d.waiting) < limit.MaxWaiting && r.ahead(d.at, l) {
			return core.Ruling{Gate: core.GateCapacity, Key: limit.Key, Detail: "others wait for " + limit.Key + " and come before it"}
		}
	}
	return core.Ruling{}
}

// ahead says whether somebody waits at a door who comes before l. The lock is held.
func (r *Runner) ahead(at doorKey, l *liveRun) bool {
	d := r.doors[at]
	if d == nil || d == l.from {
		return false
	}
	return slices.ContainsFunc(d.waiting, func(w *liveRun) bool { return r.before(d, w, l) })
}

// before is the order at a door: the higher priority, then (for a limit) the namespace that has the least of it, then
// the earlier instant. The lock is held.
func (r *Runner) before(d *door, a, b *liveRun) bool {
	if a.run.Priority != b.run.Priority {
		return a.run.Priority > b.run.Priority
	}
	if d.at.gate == core.GateCapacity && a.run.Namespace != b.run.Namespace {
		if x, y := r.shares[share{d.at.key, a.run.Namespace}], r.shares[share{d.at.key, b.run.Namespace}]; x != y {
			return x < y
		}
	}
	if d.at.gate == core.GateOverlap && !a.run.FireAt.Equal(b.run.FireAt) {
		return a.run.FireAt.Before(b.run.FireAt)
	}
	if !a.run.StartAt.Equal(b.run.StartAt) {
		return a.run.StartAt.Before(b.run.StartAt)
	}
	return a.run.ID < b.run.ID
}

// hold writes that a run waits at a gate which the store has not ruled on.
func (r *Runner) hold(ctx context.Context, l *liveRun, ruling core.Ruling) bool {
	answers, err := r.opts.Store.Hold(context.WithoutCancel(ctx), []core.Hold{{
		RunID: l.run.ID, TaskID: l.run.TaskID, Token: l.run.Token, Gate: ruling.Gate, Key: ruling.Key, Detail: ruling.Detail,
		At: r.opts.Clock.Now(), Until: ruling.Until,
	}})
	if err != nil {
		r.opts.Log.Error("waiting run not written", "run_id", l.run.ID, "gate", ruling.Gate, "err", err)
		return false
	}
	if answers[0].Stale {
		r.opts.Log.Warn("run was taken over", "run_id", l.run.ID, "token", l.run.Token)
	}
	return !answers[0].Stale
}

// park puts a run at a door. The lock is held.
func (r *Runner) park(l *liveRun, ruling core.Ruling) {
	at := doorOf(ruling.Gate, ruling.Key, &l.run)
	d := r.doors[at]
	if d == nil {
		d = &door{at: at}
		r.doors[at] = d
	}
	l.phase, l.cancel, l.door = parked, nil, d
	l.run.Gate, l.run.GateKey = ruling.Gate, ruling.Key
	if l.run.State == core.RunQueued {
		l.run.State = core.RunWaiting
	}
	r.rest(l)
	d.waiting = append(d.waiting, l)
	if !ruling.Until.IsZero() {
		r.lookAgain(d, ruling.Until)
	}
}

// lookAgain has the first at a door ask again at a time. The lock is held.
func (r *Runner) lookAgain(d *door, at time.Time) {
	if d.stop != nil {
		d.stop()
	}
	wait := min(max(at.Sub(r.opts.Clock.Now()), 10*time.Millisecond), maxSleep)
	d.stop = r.opts.Clock.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case r.doors[d.at] != d: // closed meanwhile
		case at.After(r.opts.Clock.Now()):
			r.lookAgain(d, at)
		default:
			r.next(d)
		}
	})
}

// next has the first at a door ask again. The lock is held.
func (r *Runner) next(d *door) {
	if d.asking != nil {
		d.again = true
		return
	}
	d.asked = r.opts.Clock.Now()
	if len(d.waiting) == 0 {
		r.close(d)
		return
	}
	best := 0
	for i := range d.waiting {
		if r.before(d, d.waiting[i], d.waiting[best]) {
			best = i
		}
	}
	l := d.waiting[best]
	d.waiting = slices.Delete(d.waiting, best, best+1)
	d.asking, l.from, l.door, l.phase = l, d, nil, approaching
	r.wake(l)
	r.hand(l)
}

// makeWay ends the asking of a run taken from a door, which now waits at another (or the same: stays), starts or is
// over: the next may ask. The lock is held.
func (r *Runner) makeWay(from *door, stays *liveRun) {
	if from == nil {
		return
	}
	again := from.again
	from.asking, from.again = nil, false
	if stays == nil || stays.door != from || again {
		r.next(from)
	}
}

// close forgets a door at which nobody waits. The lock is held.
func (r *Runner) close(d *door) {
	if d.stop != nil {
		d.stop()
	}
	if r.doors[d.at] == d {
		delete(r.doors, d.at)
	}
}

// open tells a door that what it stands before may have changed. The lock is held.
func (r *Runner) open(gate core.Gate, key string) {
	if d := r.doors[doorKey{gate, key}]; d != nil {
		r.next(d)
	}
}

// leaveDoor takes a parked run away from where it waits. The lock is held.
func (r *Runner) leaveDoor(l *liveRun) {
	d := l.door
	if d == nil {
		return
	}
	l.door = nil
	d.waiting = slices.DeleteFunc(d.waiting, func(w *liveRun) bool { return w == l })
	if len(d.waiting) == 0 && d.asking == nil {
		r.close(d)
	}
}

// share is what a namespace's runs hold of a limit.
type share struct{ limit, namespace string }

// count adds or takes away what a run holds, for the fair share. The lock is held.
func (r *Runner) count(l *liveRun, sign int) {
	for _, limit := range l.holds {
		s := share{limit.Key, l.run.Namespace}
		if r.shares[s] += sign * limit.Need; r.shares[s] <= 0 {
			delete(r.shares, s)
		}
	}
	if sign < 0 {
		l.holds = nil
	}
}

// release gives back what an attempt held, and has those ask who wait for it.
func (r *Runner) release(l *liveRun, breakers []core.Breaker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := l.holds
	r.count(l, -1)
	r.open(core.GateOverlap, l.run.TaskID)
	for _, limit := range held {
		r.open(core.GateCapacity, limit.Key)
	}
	for _, b := range breakers {
		r.open(core.GateBreaker, b.Name)
	}
}

// lookAround has the first at every door ask again that nobody has asked at for a while: other servers free what runs
// wait for here, and a limit may have been raised.
func (r *Runner) lookAround(context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.opts.Clock.Now().Add(-r.opts.LookAround)
	for _, d := range r.doors {
		if d.at.gate != core.GatePrecondition && d.asked.Before(before) {
			r.next(d)
		}
	}
}

// Look has the first at every door ask again: limits or breakers were changed by hand.
func (r *Runner) Look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.doors {
		r.next(d)
	}
}

// endUnstarted ends a run that has not begun. It is false if that was refused, or not possible.
func (r *Runner) endUnstarted(l *liveRun, outcome core.Outcome) (result core.Finished, ok bool) {
	now := r.opts.Clock.Now()
	settled := Settle(l.task, l.run, core.Outcome{Verdict: outcome.Verdict, Permanent: true}, false, now)
	finish := core.Finish{
		RunID: l.run.ID, TaskID: l.run.TaskID, Token: l.run.Token, Owner: r.opts.ServerID, Outcome: outcome, EndedAt: now,
		StopAfter: l.task.Policies.StopAfter, Intervene: settled.Intervene, Breaches: r.breaches(l, now, true),
		NextFire: r.nextFire(l.task, now), Version: l.run.TaskVersion,
	}
	if result, ok = r.write(context.WithoutCancel(r.base), l, finish); ok {
		r.follow(l, finish, result)
	}
	r.release(l, nil)
	r.changed(l.run)
	return result, ok
}

// stopOthers stops what is in the way of a run that waits: by its task's policy earlier runs are cancelled, terminated,
// or lose their place.
func (r *Runner) stopOthers(l *liveRun, ruling core.Ruling) {
	how := core.StopCancel
	policy, _ := l.run.OverlapUnder(l.task.Policies)
	if policy == core.OverlapTerminate {
		how = core.StopTerminate
	}
	ctx := context.WithoutCancel(r.base)
	by := byOverlap + string(policy) + " (the fire of " + l.run.FireAt.UTC().Format(time.RFC3339Nano) + ", run " + l.run.ID + ")"
	for _, stop := range []struct {
		ids []string
		how core.Stop
	}{{ruling.Stop, how}, {ruling.Supersede, core.StopSupersede}} {
		if len(stop.ids) == 0 {
			continue
		}
		if err := r.stopRuns(ctx, stop.ids, stop.how, by); err != nil && !errors.Is(err, context.Canceled) {
			r.opts.Log.Error("earlier runs not stopped", "run_id", l.run.ID, "how", stop.how, "err", err)
		}
	}
}
