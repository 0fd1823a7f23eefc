package simulation

import (
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
)

// The mutants: of decisions, and of what the store promises.
const (
	peersIgnored       Mutant = "an admission looks at no other run"
	waitersIgnored     Mutant = "an admission looks at no waiting run"
	aboutToAskIgnored  Mutant = "an admission passes an earlier run that is about to ask"
	waitersMakeWay     Mutant = "two waiting runs make way for each other"
	waitersWait        Mutant = "waiting runs wait for later ones"
	earlierWins        Mutant = "an earlier run has a later one stopped"
	newcomersPass      Mutant = "who comes takes what others wait for"
	nobodyMakesWay     Mutant = "no fire makes way for a later one at a breaker"
	limitsIgnored      Mutant = "an admission takes more than there is"
	catchUpTooMuch     Mutant = "one fire too many is caught up"
	catchUpTooOld      Mutant = "the oldest missed fires are caught up"
	spreadIgnored      Mutant = "missed fires start together"
	fireForgotten      Mutant = "the mark passes over a fire"
	rowForgotten       Mutant = "a range of skipped fires is not written"
	pauseIgnored       Mutant = "a paused task fires"
	maxRunsIgnored     Mutant = "max_runs is not looked at"
	claimedNotStarted  Mutant = "a claimed run is taken for one that has not started"
	startedAlways      Mutant = "a waiting run of a dead server is taken for one that has started"
	holdsStay          Mutant = "what an attempt held is not given back"
	probesStay         Mutant = "a breaker keeps a probe that came to nothing"
	causedTwice        Mutant = "what an end causes is started twice"
	skippedUnsaid      Mutant = "what an end does not start leaves no row"
	neverStops         Mutant = "failures never disable a task"
	tokensIgnored      Mutant = "a stale outcome is taken"
	tokensKept         Mutant = "a run that is taken over keeps its token"
	waitersForgotten   Mutant = "a waiting run of a dead server is not found"
	patienceWithoutEnd Mutant = "a run waits at a breaker although it may try"
	anothersClock      Mutant = "a decision goes by the clock that is furthest ahead"
	missedElsewhere    Mutant = "a fire is missed that another server's clock has left behind"
	stepsUnnoticed     Mutant = "a server sleeps on when its clock is set"
)

// Mutants are all ways in which a world can be broken on purpose.
func Mutants() []Mutant {
	return []Mutant{peersIgnored, waitersIgnored, aboutToAskIgnored, waitersMakeWay, waitersWait, earlierWins, newcomersPass, nobodyMakesWay, limitsIgnored, catchUpTooMuch, catchUpTooOld,
		spreadIgnored, fireForgotten, rowForgotten, pauseIgnored, maxRunsIgnored, claimedNotStarted, startedAlways, holdsStay, probesStay,
		causedTwice, skippedUnsaid, neverStops, tokensIgnored, tokensKept, waitersForgotten, patienceWithoutEnd, anothersClock, missedElsewhere, stepsUnnoticed}
}

// mutate breaks the decisions, if the world's mutant is one of them; the store and the servers ask for the others.
func (w *world) mutate() {
	decide, admit, started := w.decide, w.admit, w.started
	switch w.mutant {
	case peersIgnored:
		w.admit = func(a core.Admission, s core.Standings) core.Ruling {
			s.Peers = nil
			return admit(a, s)
		}
	case waitersIgnored:
		w.admit = withoutPeers(admit, func(_ core.Standings, p core.Standing) bool { return p.State == core.RunWaiting })
	case aboutToAskIgnored:
		w.admit = withoutPeers(admit, func(_ core.Standings, p core.Standing) bool { return p.State == core.RunQueued })
	case waitersMakeWay:
		w.admit = func(a core.Admission, s core.Standings) core.Ruling {
			if slices.ContainsFunc(s.Peers, func(p core.Standing) bool { return p.State == core.RunWaiting }) {
				return core.Ruling{Gate: core.GateOverlap}
			}
			return admit(a, s)
		}
	case waitersWait:
		w.admit = func(a core.Admission, s core.Standings) core.Ruling {
			r := admit(a, s)
			if r.Start && slices.ContainsFunc(s.Peers, func(p core.Standing) bool { return p.State == core.RunWaiting && p.FireAt.After(s.Run.FireAt) }) {
				return core.Ruling{Gate: core.GateOverlap}
			}
			return r
		}
	case earlierWins:
		w.admit = func(a core.Admission, s core.Standings) core.Ruling {
			r := admit(a, s)
			if r.Reason == core.ReasonSuperseded {
				r = core.Ruling{Gate: core.GateOverlap}
				for _, p := range s.Peers {
					r.Stop = append(r.Stop, p.RunID)
				}
			}
			return r
		}
	case newcomersPass:
		w.admit = func(a core.Admission, s core.Standings) core.Ruling {
			for i := range s.Rooms {
				s.Rooms[i].Ahead = 0
			}
			return admit(a, s)
		}
	case nobodyMakesWay:
		w.admit = func(a core.Admission, s core.Standings) core.Ruling {
			r := admit(a, s)
			if r.Gate == core.GateBreaker {
				r.Supersede = nil
			}
			if r.Reason == core.ReasonSuperseded && s.Run.Gate == core.GateBreaker && len(a.Breakers) > 0 { // its task may have been given none meanwhile
				r = core.Ruling{Gate: core.GateBreaker, Key: a.Breakers[0].Name, Until: a.At.Add(time.Second)}
			}
			return r
		}
	case limitsIgnored:
		w.admit = func(a core.Admission, s core.Standings) core.Ruling {
			for i := range s.Rooms {
				s.Rooms[i].Used--
			}
			return admit(a, s)
		}
	case patienceWithoutEnd:
		w.admit = func(a core.Admission, s core.Standings) core.Ruling {
			for i := range s.Breakers {
				s.Breakers[i].ProbeAt = a.At.Add(time.Second)
			}
			return admit(a, s)
		}
	case catchUpTooMuch, catchUpTooOld, spreadIgnored, fireForgotten, rowForgotten, pauseIgnored:
		w.decide = func(task *core.Task, v *version, next, now time.Time, rules scheduler.Rules) scheduler.Decision {
			return w.wrongly(decide, *task, v, next, now, rules)
		}
	case anothersClock:
		w.decide = func(task *core.Task, v *version, next, now time.Time, rules scheduler.Rules) scheduler.Decision {
			return decide(task, v, next, w.furthest(now), rules)
		}
	case missedElsewhere:
		w.decide = func(task *core.Task, v *version, next, now time.Time, rules scheduler.Rules) scheduler.Decision {
			if w.furthest(now).Sub(next) > rules.MissedAfter {
				rules.MissedAfter = min(rules.MissedAfter, now.Sub(next)-1)
			}
			return decide(task, v, next, now, rules)
		}
	case claimedNotStarted:
		w.started = func(state core.RunState) bool { return state != core.RunClaimed && started(state) }
	case startedAlways:
		w.started = func(state core.RunState) bool { return state == core.RunWaiting || started(state) }
	}
}

// furthest gives what the clock shows that is furthest ahead.
func (w *world) furthest(now time.Time) time.Time {
	for _, s := range w.servers {
		if wall := w.wall(s); wall.After(now) {
			now = wall
		}
	}
	return now
}

func withoutPeers(admit func(core.Admission, core.Standings) core.Ruling, which func(core.Standings, core.Standing) bool) func(core.Admission, core.Standings) core.Ruling {
	return func(a core.Admission, s core.Standings) core.Ruling {
		s.Peers = slices.DeleteFunc(s.Peers, func(p core.Standing) bool { return which(s, p) })
		return admit(a, s)
	}
}

type decider func(task *core.Task, v *version, next, now time.Time, rules scheduler.Rules) scheduler.Decision

// wrongly decides with what the mutant breaks.
func (w *world) wrongly(decide decider, task core.Task, v *version, next, now time.Time, rules scheduler.Rules) scheduler.Decision {
	switch w.mutant {
	case catchUpTooMuch:
		if task.Policies.CatchUp == core.CatchUpAll {
			task.Policies.CatchUpLimit++
		}
	case pauseIgnored:
		task.Pause = core.Pause{}
	}
	d := decide(&task, v, next, now, rules)
	switch w.mutant {
	case fireForgotten:
		if f, ok := v.sched.Next(d.Then); ok && !d.Then.IsZero() && w.rng.IntN(20) == 0 {
			d.Then = f.At.UTC()
		}
	case rowForgotten:
		d.Runs = slices.DeleteFunc(d.Runs, func(r core.Run) bool { return r.FireCount > 1 })
	case catchUpTooOld:
		if i := slices.IndexFunc(d.Runs, func(r core.Run) bool { return r.Trigger == core.TriggerCatchUp }); i >= 0 {
			d.Runs[i].FireAt = next
			d.Runs[i].FireThrough = next
		}
	case spreadIgnored:
		for i := range d.Runs {
			if d.Runs[i].Trigger == core.TriggerCatchUp {
				d.Runs[i].StartAt = now
			}
		}
	}
	return d
}
