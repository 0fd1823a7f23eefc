package core_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// live is another live run of the task: its fire is so many seconds from noon, which is the fire of the run that asks.
func live(id string, state core.RunState, gate core.Gate, fire int) core.Standing {
	at := noon.Add(time.Duration(fire) * time.Second)
	return core.Standing{RunID: id, State: state, Gate: gate, FireAt: at, StartAt: at, Trigger: core.TriggerSchedule}
}

// asker is the run "m" of noon.
func asker(state core.RunState, gate core.Gate) core.Standing { return live("m", state, gate, 0) }

// say writes a ruling in one line, without its detail.
func say(r core.Ruling) string {
	var words []string
	switch {
	case r.Start:
		words = append(words, "start")
	case r.Gate != core.GateNone:
		words = append(words, "wait", strings.TrimSuffix(string(r.Gate)+":"+r.Key, ":"))
	case r.Reason != "":
		words = append(words, "skip", string(r.Reason))
	}
	for _, list := range []struct {
		name string
		ids  []string
	}{{"probe", r.Probe}, {"stop", r.Stop}, {"supersede", r.Supersede}} {
		if len(list.ids) > 0 {
			words = append(words, list.name+"="+strings.Join(list.ids, ","))
		}
	}
	return strings.Join(words, " ")
}

// TestOverlap holds every overlap policy against every situation a run can meet among the other runs of its task.
func TestOverlap(t *testing.T) {
	t.Parallel()
	policies := []struct {
		name    string
		overlap core.Overlap
		limit   int
	}{
		{"skip", core.OverlapSkip, 0}, {"queue(1)", core.OverlapQueue, 0}, {"queue(2)", core.OverlapQueue, 2},
		{"cancel", core.OverlapCancel, 0}, {"terminate", core.OverlapTerminate, 0},
		{"allow", core.OverlapAllow, 0}, {"allow(1)", core.OverlapAllow, 1}, {"allow(2)", core.OverlapAllow, 2},
	}
	const (
		start = "start"
		wait  = "wait overlap"
		skip  = "skip overlap"
		super = "skip superseded"
	)
	executing := live("a", core.RunRunning, "", -10)
	claimed := live("b", core.RunClaimed, "", -8)
	retrying := live("c", core.RunRetrying, core.GateBreaker, -7)
	waits := live("d", core.RunWaiting, core.GateOverlap, -6)
	atLimit := live("e", core.RunWaiting, core.GateCapacity, -5)
	atCheck := live("f", core.RunWaiting, core.GatePrecondition, -4)
	later := live("x", core.RunWaiting, core.GateOverlap, 5)
	laterCheck := live("y", core.RunWaiting, core.GatePrecondition, 5)
	laterRuns := live("z", core.RunRunning, "", 5)
	due := live("g", core.RunQueued, "", -3)
	notDue := due
	notDue.StartAt = noon.Add(time.Second)
	laterDue := live("w", core.RunQueued, "", 0)
	of := func(s core.Standing, trigger core.Trigger) core.Standing { s.Trigger = trigger; return s }
	twinWaits, twinBefore := live("p", core.RunWaiting, core.GateOverlap, 0), live("k", core.RunWaiting, core.GateOverlap, 0)

	fresh, waiting := asker(core.RunQueued, ""), asker(core.RunWaiting, core.GateOverlap)
	retry := asker(core.RunRetrying, "")
	situations := []struct {
		name    string
		run     core.Standing
		patient bool
		peers   []core.Standing
		want    []string // by policy, in the order above
	}{
		{"Alone", fresh, false, nil, []string{start, start, start, start, start, start, start, start}},
		{"OneExecuting", fresh, false, []core.Standing{executing}, []string{skip, wait, wait, wait + " stop=a", wait + " stop=a", start, skip, start}},
		{"OneClaimed", fresh, false, []core.Standing{claimed}, []string{skip, wait, wait, wait + " stop=b", wait + " stop=b", start, skip, start}},
		{"OneRetryingAtABreaker", fresh, false, []core.Standing{retrying}, []string{skip, wait, wait, wait + " stop=c", wait + " stop=c", start, skip, start}},
		{"OneWaitsEarlier", fresh, false, []core.Standing{waits}, []string{skip, skip, wait, wait + " supersede=d", wait + " supersede=d", start, skip, start}},
		{"OneWaitsEarlierForALimit", fresh, false, []core.Standing{atLimit}, []string{skip, skip, wait, wait + " supersede=e", wait + " supersede=e", start, skip, start}},
		{"OneWaitsEarlierForAPrecondition", fresh, false, []core.Standing{atCheck}, []string{skip, skip, wait, wait + " supersede=f", wait + " supersede=f", start, skip, start}},
		{"OneWaitsLater", fresh, false, []core.Standing{later}, []string{start, start, start, super, super, start, start, start}},
		{"OneWaitsLaterForAPrecondition", fresh, false, []core.Standing{laterCheck}, []string{start, start, start, start, start, start, start, start}},
		{"OneExecutesThatIsLater", fresh, false, []core.Standing{laterRuns}, []string{skip, wait, wait, super, super, start, skip, start}},
		{"ExecutingAndWaiting", fresh, false, []core.Standing{executing, waits}, []string{skip, skip, wait, wait + " stop=a supersede=d", wait + " stop=a supersede=d", start, skip, skip}},
		{"ExecutingAndWaitingLater", fresh, false, []core.Standing{executing, later}, []string{skip, skip, wait, super, super, start, skip, start}},
		{"Several", fresh, false, []core.Standing{executing, claimed, retrying, waits, atLimit}, []string{skip, skip, skip, wait + " stop=a,b,c supersede=d,e", wait + " stop=a,b,c supersede=d,e", start, skip, skip}},
		{"TwoOfOneInstantTheFirst", fresh, false, []core.Standing{twinWaits}, []string{start, start, start, super, super, start, start, start}},
		{"TwoOfOneInstantTheSecond", fresh, false, []core.Standing{twinBefore}, []string{skip, skip, wait, wait + " supersede=k", wait + " supersede=k", start, skip, start}},

		{"EarlierIsAboutToAsk", fresh, false, []core.Standing{due}, []string{start, skip, wait, start, start, start, start, start}},
		{"EarlierIsNotDueYet", fresh, false, []core.Standing{notDue}, []string{start, start, start, start, start, start, start, start}},
		{"LaterIsAboutToAsk", fresh, false, []core.Standing{laterDue}, []string{start, start, start, start, start, start, start, start}},

		{"WaitsAlreadyAndMayGo", waiting, false, nil, []string{start, start, start, start, start, start, start, start}},
		{"WaitsAlreadyWhileOneExecutes", waiting, false, []core.Standing{executing}, []string{wait, wait, wait, wait + " stop=a", wait + " stop=a", start, wait, start}},
		{"WaitsAlreadyBehindOthers", waiting, false, []core.Standing{executing, waits, atLimit}, []string{wait, wait, wait, wait + " stop=a supersede=d,e", wait + " stop=a supersede=d,e", start, wait, wait}},
		{"WaitsAlreadyAndALaterCame", waiting, false, []core.Standing{executing, later}, []string{wait, wait, wait, super, super, start, wait, start}},

		{"PatientWhileOneExecutes", fresh, true, []core.Standing{executing}, []string{wait, wait, wait, wait + " stop=a", wait + " stop=a", start, wait, start}},
		{"PatientBehindAFullQueue", fresh, true, []core.Standing{executing, waits, atLimit}, []string{wait, wait, wait, wait + " stop=a supersede=d,e", wait + " stop=a supersede=d,e", start, wait, wait}},
		{"PatientAndAnEarlierIsAboutToAsk", fresh, true, []core.Standing{due}, []string{wait, wait, wait, start, start, start, wait, start}},

		// what is wanted for itself is not replaced, and replaces nobody
		{"ABackfillWhileOneExecutes", of(fresh, core.TriggerBackfill), true, []core.Standing{executing}, []string{wait, wait, wait, wait, wait, start, wait, start}},
		{"AStepWhileALaterFireExecutes", of(fresh, core.TriggerWorkflow), true, []core.Standing{laterRuns}, []string{wait, wait, wait, wait, wait, start, wait, start}},
		{"ARetryByHandWhileALaterFireWaits", of(fresh, core.TriggerRetry), true, []core.Standing{executing, later}, []string{wait, wait, wait, wait, wait, start, wait, start}},
		{"AFireWhileABackfillExecutes", fresh, false, []core.Standing{of(executing, core.TriggerBackfill)}, []string{skip, wait, wait, wait, wait, start, skip, start}},
		{"AFireBehindABackfillThatWaits", fresh, false, []core.Standing{of(waits, core.TriggerBackfill), claimed}, []string{skip, skip, wait, wait + " stop=b", wait + " stop=b", start, skip, skip}},
		{"AFireBeforeAStepThatExecutes", fresh, false, []core.Standing{of(laterRuns, core.TriggerWorkflow)}, []string{skip, wait, wait, wait, wait, start, skip, start}},
		{"AFireBeforeABackfillThatWaits", fresh, false, []core.Standing{of(later, core.TriggerBackfill)}, []string{start, start, start, start, start, start, start, start}},
		{"AFireWhileOneStartedByHandExecutes", fresh, false, []core.Standing{of(executing, core.TriggerManual)}, []string{skip, wait, wait, wait + " stop=a", wait + " stop=a", start, skip, start}},

		{"Retrying", retry, false, []core.Standing{executing, waits, later}, []string{start, start, start, start, start, start, start, start}},
	}
	for _, s := range situations {
		for i, p := range policies {
			t.Run(s.name+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				a := core.Admission{RunID: "m", At: noon, Overlap: p.overlap, OverlapLimit: p.limit, Patient: s.patient}
				if got := say(core.Admit(a, core.Standings{Run: s.run, Peers: s.peers})); got != s.want[i] {
					t.Errorf("got %q, want %q", got, s.want[i])
				}
			})
		}
	}
	t.Run("EarlierRunsComeBeforeAPrecondition", func(t *testing.T) {
		t.Parallel()
		until := noon.Add(time.Minute)
		untrue := core.Ruling{Gate: core.GatePrecondition, Key: "0", Until: until}
		late := core.Ruling{Reason: core.ReasonPrecondition, Key: "0"}
		for _, c := range []struct {
			held  core.Ruling
			run   core.Standing
			peers []core.Standing
			want  string
		}{
			{untrue, fresh, nil, "wait precondition:0"},
			{untrue, fresh, []core.Standing{executing}, skip},
			{untrue, fresh, []core.Standing{atCheck}, skip},
			{untrue, waiting, []core.Standing{executing}, wait},
			{untrue, retry, []core.Standing{executing}, "wait precondition:0"},
			{late, fresh, nil, "skip precondition"},
			{late, fresh, []core.Standing{executing}, skip},
		} {
			a := core.Admission{RunID: "m", At: noon, Held: c.held, Breakers: []core.BreakerRule{{Name: "b"}}}
			r := core.Admit(a, core.Standings{Run: c.run, Peers: c.peers, Breakers: []core.Breaker{{Name: "b", State: core.BreakerOpen, ProbeAt: until}}})
			if got := say(r); got != c.want || r.Gate == core.GatePrecondition && !r.Until.Equal(until) {
				t.Errorf("%+v of %+v beside %v: got %q until %v, want %q", c.held, c.run, c.peers, got, r.Until, c.want)
			}
		}
	})
	t.Run("NothingSaidIsSkip", func(t *testing.T) {
		t.Parallel()
		if got := say(core.Admit(core.Admission{RunID: "m", At: noon}, core.Standings{Run: fresh, Peers: []core.Standing{executing}})); got != skip {
			t.Errorf("got %q", got)
		}
	})
}

// TestCatchUpAtABreaker holds every catch-up policy against every state of a breaker.
func TestCatchUpAtABreaker(t *testing.T) {
	t.Parallel()
	b := func(state core.BreakerState, probeIn int, probe string) core.Breaker {
		return core.Breaker{Name: "downstream:his", State: state, Failures: 3, ProbeAt: noon.Add(time.Duration(probeIn) * time.Second), ProbeRun: probe}
	}
	there := func(id string, fire int) core.Standing { return live(id, core.RunWaiting, core.GateBreaker, fire) }
	of := func(s core.Standing, trigger core.Trigger) core.Standing { s.Trigger = trigger; return s }
	const (
		start = "start"
		probe = "start probe=downstream:his"
		wait  = "wait breaker:downstream:his"
		skip  = "skip breaker"
		super = "skip superseded"
		over  = "skip overlap"
	)
	fresh, waits, retry := asker(core.RunQueued, ""), asker(core.RunWaiting, core.GateBreaker), asker(core.RunRetrying, "")
	open, ready, half, own := b(core.BreakerOpen, 30, ""), b(core.BreakerOpen, 0, ""), b(core.BreakerHalfOpen, -5, "other"), b(core.BreakerHalfOpen, -5, "m")
	one, two, three := there("a", -30), there("b", -20), there("c", -10)
	later := there("z", 10)
	cases := []struct {
		name    string
		breaker core.Breaker
		run     core.Standing
		peers   []core.Standing
		want    [3]string // none, latest, all (limit 2)
	}{
		{"Closed", b(core.BreakerClosed, 0, ""), fresh, nil, [3]string{start, start, start}},
		{"NeverTouched", core.Breaker{}, fresh, nil, [3]string{start, start, start}},
		{"Open", open, fresh, nil, [3]string{skip, wait, wait}},
		{"OpenAndMayTry", ready, fresh, nil, [3]string{probe, probe, probe}},
		{"HalfOpen", half, fresh, nil, [3]string{skip, wait, wait}},
		{"HalfOpenAndItIsTheProbe", own, fresh, nil, [3]string{probe, probe, probe}},

		{"OneWaitsThere", open, fresh, []core.Standing{three}, [3]string{skip, wait + " supersede=c", wait}},
		{"TwoWaitThere", open, fresh, []core.Standing{three, two}, [3]string{skip, wait + " supersede=b,c", wait + " supersede=b"}},
		{"ThreeWaitThere", half, fresh, []core.Standing{one, three, two}, [3]string{skip, wait + " supersede=a,b,c", wait + " supersede=a,b"}},
		{"ALaterWaitsThere", open, fresh, []core.Standing{later}, [3]string{skip, super, wait}},
		{"OneAndALaterWaitThere", open, fresh, []core.Standing{one, later}, [3]string{skip, super, wait + " supersede=a"}},
		{"TwoLaterWaitThere", open, fresh, []core.Standing{later, there("y", 20)}, [3]string{skip, super, super}},
		{"ATwinWaitsThere", open, fresh, []core.Standing{there("k", 0)}, [3]string{skip, wait + " supersede=k", wait}},
		{"ATwinWaitsThereThatComesAfter", open, fresh, []core.Standing{there("p", 0)}, [3]string{skip, super, wait}},

		{"WaitsThereAlready", open, waits, nil, [3]string{skip, wait, wait}},
		{"WaitsThereAlreadyAndALaterCame", open, waits, []core.Standing{later}, [3]string{skip, super, wait}},
		{"WaitsThereAlreadyAmongTooMany", open, waits, []core.Standing{two, three, later}, [3]string{skip, super, wait + " supersede=b,c"}},
		{"WaitsThereAndMayTry", ready, waits, nil, [3]string{probe, probe, probe}},

		// those who wait there come first as soon as it lets somebody pass
		{"MayTryButAnEarlierWaits", ready, fresh, []core.Standing{three}, [3]string{over, over, over}},
		{"ClosedButAnEarlierWaits", b(core.BreakerClosed, 0, ""), waits, []core.Standing{three}, [3]string{"wait overlap", "wait overlap", "wait overlap"}},

		{"RetryingAtAnOpenOne", open, retry, []core.Standing{later, three}, [3]string{wait, wait, wait}},
		{"RetryingThatMayTry", ready, retry, []core.Standing{later, three}, [3]string{probe, probe, probe}},

		// what is wanted for itself neither makes way nor pushes aside
		{"ABackfill", open, of(fresh, core.TriggerBackfill), []core.Standing{three, later}, [3]string{wait, wait, wait}},
		{"AfterAnotherTask", open, of(fresh, core.TriggerUpstream), []core.Standing{of(three, core.TriggerUpstream), of(two, core.TriggerUpstream)}, [3]string{skip, wait + " supersede=b,c", wait + " supersede=b"}},
		{"AmongBackfills", open, fresh, []core.Standing{of(three, core.TriggerBackfill), of(two, core.TriggerWorkflow), of(later, core.TriggerManual)}, [3]string{skip, wait, wait}},
	}
	for _, c := range cases {
		for i, policy := range []core.CatchUp{core.CatchUpNone, core.CatchUpLatest, core.CatchUpAll} {
			t.Run(c.name+"/"+string(policy), func(t *testing.T) {
				t.Parallel()
				a := core.Admission{RunID: "m", At: noon, CatchUp: policy, CatchUpLimit: 2, Breakers: []core.BreakerRule{{Name: "downstream:his", Failures: 3}}}
				r := core.Admit(a, core.Standings{Run: c.run, Peers: c.peers, Breakers: []core.Breaker{c.breaker}})
				if got := say(r); got != c.want[i] {
					t.Errorf("got %q, want %q", got, c.want[i])
				}
				var until time.Time
				if r.Gate == core.GateBreaker && c.breaker.State == core.BreakerOpen {
					until = c.breaker.ProbeAt
				}
				if !r.Until.Equal(until) {
					t.Errorf("it is looked at again at %v, want %v", r.Until, until)
				}
			})
		}
	}
	t.Run("ExecutingRunsComeBeforeTheBreaker", func(t *testing.T) {
		t.Parallel()
		for overlap, want := range map[core.Overlap]string{core.OverlapSkip: over, core.OverlapQueue: "wait overlap", core.OverlapAllow: wait + " supersede=c"} {
			a := core.Admission{RunID: "m", At: noon, Overlap: overlap, Breakers: []core.BreakerRule{{Name: "downstream:his"}}}
			s := core.Standings{Run: fresh, Peers: []core.Standing{live("r", core.RunRunning, "", -60), three}, Breakers: []core.Breaker{open}}
			if got := say(core.Admit(a, s)); got != want {
				t.Errorf("%s: got %q, want %q", overlap, got, want)
			}
		}
	})
	t.Run("WhatItLetsGoStaysApartAndWithinTheWindow", func(t *testing.T) {
		t.Parallel()
		waits, retries := asker(core.RunWaiting, core.GateBreaker), asker(core.RunRetrying, core.GateBreaker)
		backfilled := waits
		backfilled.Trigger = core.TriggerBackfill
		apart := core.Ruling{Gate: core.GateBreaker, Key: "downstream:his", Until: noon.Add(time.Second), Timed: true}
		for name, c := range map[string]struct {
			run    core.Standing
			since  time.Time
			apart  core.Ruling
			policy core.CatchUp
			at     core.Breaker
			want   string
		}{
			"its turn has come":        {waits, noon, core.Ruling{}, core.CatchUpAll, core.Breaker{}, "start"},
			"its turn has not come":    {waits, noon, apart, core.CatchUpAll, core.Breaker{}, wait},
			"it is the probe":          {waits, noon, apart, core.CatchUpAll, ready, "start probe=downstream:his"},
			"the breaker is open":      {waits, noon, apart, core.CatchUpAll, open, wait},
			"before the window":        {waits, noon.Add(1), apart, core.CatchUpAll, core.Breaker{}, "skip breaker"},
			"before the window, open":  {waits, noon.Add(1), apart, core.CatchUpAll, open, "skip breaker"},
			"latest has no window":     {waits, noon.Add(1), core.Ruling{}, core.CatchUpLatest, core.Breaker{}, "start"},
			"it has not waited":        {asker(core.RunQueued, ""), noon.Add(1), core.Ruling{}, core.CatchUpAll, core.Breaker{}, "start"},
			"it is tried again":        {retries, noon.Add(1), core.Ruling{}, core.CatchUpAll, core.Breaker{}, "start"},
			"backfills have no window": {backfilled, noon.Add(1), core.Ruling{}, core.CatchUpAll, core.Breaker{}, "start"},
		} {
			a := core.Admission{RunID: "m", At: noon, CatchUp: c.policy, CatchUpSince: c.since, Apart: c.apart, Breakers: []core.BreakerRule{{Name: "downstream:his"}}}
			if got := say(core.Admit(a, core.Standings{Run: c.run, Breakers: []core.Breaker{c.at}})); got != c.want {
				t.Errorf("%s: got %q, want %q", name, got, c.want)
			}
		}
	})
	t.Run("AllMustPass", func(t *testing.T) {
		t.Parallel()
		rules := []core.BreakerRule{{Name: "task:t"}, {Name: "downstream:his"}, {Name: "downstream:erp"}}
		for want, list := range map[string][]core.Breaker{
			"start":                             {{}, {}, {}},
			"start probe=task:t,downstream:erp": {ready, {}, ready},
			"wait breaker:downstream:erp":       {ready, {}, half},
			"wait breaker:downstream:his":       {ready, open, open},
		} {
			if got := say(core.Admit(core.Admission{RunID: "m", At: noon, Breakers: rules}, core.Standings{Run: fresh, Breakers: list})); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

// TestCapacity holds a run against limits.
func TestCapacity(t *testing.T) {
	t.Parallel()
	const wait = "wait capacity:pool:erp"
	fresh, waits, retry := asker(core.RunQueued, ""), asker(core.RunWaiting, core.GateCapacity), asker(core.RunRetrying, "")
	fromOverlap := asker(core.RunWaiting, core.GateOverlap)
	for _, c := range []struct {
		name  string
		run   core.Standing
		slots int
		need  int
		room  core.Room
		want  string
	}{
		{"Room", fresh, 2, 1, core.Room{Used: 1}, "start"},
		{"Full", fresh, 2, 1, core.Room{Used: 2}, wait},
		{"TwoWantedOneFree", fresh, 3, 2, core.Room{Used: 2}, wait},
		{"TwoWantedTwoFree", fresh, 3, 2, core.Room{Used: 1}, "start"},
		{"MoreWantedThanThereIs", fresh, 2, 3, core.Room{}, wait},
		{"ShrunkBelowUse", fresh, 2, 1, core.Room{Used: 5}, wait},
		{"NoSlots", fresh, 0, 1, core.Room{}, wait},
		{"QueueFull", fresh, 2, 1, core.Room{Used: 2, Waiting: 10, Ahead: 10}, "skip capacity"},
		{"QueueFullOfThoseWhoWantMore", fresh, 2, 1, core.Room{Used: 1, Waiting: 10, Ahead: 10}, "skip capacity"},
		{"QueueFullButFits", fresh, 2, 1, core.Room{Used: 1, Waiting: 10}, "start"},
		{"OthersWaitBeforeIt", fresh, 2, 1, core.Room{Used: 1, Waiting: 1, Ahead: 1}, wait},
		{"OthersOfLowerPriorityWait", fresh, 2, 1, core.Room{Used: 1, Waiting: 4}, "start"},
		{"WaitsAlreadyAndFits", waits, 2, 1, core.Room{Used: 1, Waiting: 9, Ahead: 9}, "start"},
		{"WaitsAlreadyAndDoesNot", waits, 2, 1, core.Room{Used: 2, Waiting: 99, Ahead: 99}, wait},
		{"ComesFromAnotherGate", fromOverlap, 2, 1, core.Room{Used: 0, Waiting: 1, Ahead: 1}, wait},
		{"ComesFromAnotherGateToAFullQueue", fromOverlap, 2, 1, core.Room{Used: 2, Waiting: 99, Ahead: 99}, wait},
		{"RetryingFits", retry, 2, 1, core.Room{Used: 1}, "start"},
		{"RetryingIsNeverSkipped", retry, 2, 1, core.Room{Used: 2, Waiting: 99}, wait},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := core.Admission{RunID: "m", At: noon, Limits: []core.Limit{
				{Key: "namespace:Common", Slots: 100, Need: 1, MaxWaiting: 10}, {Key: "pool:erp", Slots: c.slots, Need: c.need, MaxWaiting: 10},
			}}
			s := core.Standings{Run: c.run, Rooms: []core.Room{{Used: 40}, c.room}}
			if got := say(core.Admit(a, s)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			s.Rooms[0].Used = 100
			if got := say(core.Admit(a, s)); got != "wait capacity:namespace:Common" {
				t.Errorf("with the namespace full: got %q", got)
			}
		})
	}
	t.Run("ComesLast", func(t *testing.T) { // nobody who waits for something else is told of a place, nor is one kept for him
		t.Parallel()
		a := core.Admission{RunID: "m", At: noon, Overlap: core.OverlapQueue, Breakers: []core.BreakerRule{{Name: "task:t"}}, Limits: []core.Limit{{Key: "pool:erp", Slots: 1, Need: 1}}}
		s := core.Standings{Run: fresh, Breakers: []core.Breaker{{State: core.BreakerHalfOpen, ProbeRun: "o"}}, Rooms: []core.Room{{Used: 1}}}
		if got := say(core.Admit(a, s)); got != "wait breaker:task:t" {
			t.Errorf("got %q", got)
		}
		s.Breakers[0] = core.Breaker{State: core.BreakerOpen}
		if got := say(core.Admit(a, s)); got != "skip capacity" { // and it is no probe of anything
			t.Errorf("got %q", got)
		}
	})
}

// TestBreakerAfter holds every end of an attempt against every state of a breaker.
func TestBreakerAfter(t *testing.T) {
	t.Parallel()
	rule := core.BreakerRule{Name: "downstream:his", Failures: 3, Cooldown: time.Minute, Probes: 2}
	before := noon.Add(-time.Hour)
	closed := func(failures int) core.Breaker { return core.Breaker{State: core.BreakerClosed, Failures: failures} }
	open := core.Breaker{State: core.BreakerOpen, Failures: 3, OpenedAt: before, ProbeAt: before, Because: "refused"}
	half := func(run string, successes int) core.Breaker {
		return core.Breaker{State: core.BreakerHalfOpen, Failures: 3, Successes: successes, OpenedAt: before, ProbeAt: before, ProbeRun: run, Because: "refused"}
	}
	show := func(b core.Breaker, moved bool) string {
		if !moved {
			return "-"
		}
		text := fmt.Sprintf("%s failures=%d", b.State, b.Failures)
		if b.State == core.BreakerOpen {
			text += fmt.Sprintf(" again=%s opened=%s", b.ProbeAt.Sub(noon), b.OpenedAt.Sub(noon))
		}
		if b.Successes > 0 {
			text += fmt.Sprintf(" successes=%d", b.Successes)
		}
		if b.ProbeRun != "" {
			text += " probe=" + b.ProbeRun
		}
		return text
	}
	silent := []core.Verdict{core.Cancelled, core.Lost, core.Skipped}
	bad := []core.Verdict{core.Failed, core.TimedOut, core.Crashed}
	for _, c := range []struct {
		name           string
		breaker        core.Breaker
		good, bad, not string // after succeeded; failed, timed_out, crashed; cancelled, lost, skipped
	}{
		{"NeverTouched", core.Breaker{}, "-", " failures=1", "-"},
		{"Closed", closed(0), "-", "closed failures=1", "-"},
		{"ClosedAfterAFailure", closed(1), "closed failures=0", "closed failures=2", "-"},
		{"ClosedBeforeTheLastFailure", closed(2), "closed failures=0", "open failures=3 again=1m0s opened=0s", "-"},
		{"Open", open, "-", "open failures=4 again=-1h0m0s opened=-1h0m0s", "-"},
		{"HalfOpenAnotherTries", half("o", 0), "-", "half_open failures=4 probe=o", "-"},
		{"TheProbe", half("m", 0), "open failures=3 again=0s opened=-1h0m0s successes=1", "open failures=4 again=1m0s opened=-1h0m0s", "open failures=3 again=0s opened=-1h0m0s"},
		{"TheLastProbe", half("m", 1), "closed failures=0", "open failures=4 again=1m0s opened=-1h0m0s", "open failures=3 again=0s opened=-1h0m0s successes=1"},
	} {
		for _, ends := range []struct {
			want     string
			verdicts []core.Verdict
		}{{c.good, []core.Verdict{core.Succeeded}}, {c.bad, bad}, {c.not, silent}} {
			for _, v := range ends.verdicts {
				t.Run(c.name+"/"+string(v), func(t *testing.T) {
					t.Parallel()
					after, moved := c.breaker.After(rule, "m", core.Outcome{Verdict: v, Message: "why"}, noon)
					if got := show(after, moved); got != ends.want {
						t.Errorf("got %q, want %q", got, ends.want)
					}
					if moved && (after.Name != rule.Name || !after.UpdatedAt.Equal(noon)) {
						t.Errorf("named %q, updated at %s", after.Name, after.UpdatedAt)
					}
					if slices.Contains(bad, v) && after.Because != "why" {
						t.Errorf("because %q", after.Because)
					}
				})
			}
		}
	}
	t.Run("NothingSaidIsOneProbe", func(t *testing.T) {
		t.Parallel()
		if after, _ := half("m", 0).After(core.BreakerRule{Name: "task:t"}, "m", core.Outcome{Verdict: core.Succeeded}, noon); after.State != core.BreakerClosed {
			t.Errorf("it is %s", after.State)
		}
	})
}

// TestABreakerIsNeverLeftHalfOpen follows a breaker and the run that probes it through every end that run may have.
func TestABreakerIsNeverLeftHalfOpen(t *testing.T) {
	t.Parallel()
	rule := core.BreakerRule{Name: "downstream:his", Failures: 1, Cooldown: time.Minute, Probes: 1}
	for _, v := range []core.Verdict{core.Succeeded, core.Failed, core.TimedOut, core.Crashed, core.Cancelled, core.Lost, core.Skipped} {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			b := core.Breaker{State: core.BreakerHalfOpen, ProbeRun: "o", ProbeAt: noon}
			b, moved := b.After(rule, "o", core.Outcome{Verdict: v}, noon)
			if !moved {
				t.Fatal("it was not moved")
			}
			a := core.Admission{RunID: "m", At: noon.Add(time.Minute), Breakers: []core.BreakerRule{rule}}
			if r := core.Admit(a, core.Standings{Run: asker(core.RunQueued, ""), Breakers: []core.Breaker{b}}); !r.Start {
				t.Errorf("a minute later nobody passes: %s", say(r))
			}
		})
	}
}

// TestOneRunOfATaskCanAlwaysGoOn draws what a task has waiting, with nothing but its own runs in the way, and looks for
// two that wait for each other for ever, for two that make way for each other, and for one that passes an earlier one.
func TestOneRunOfATaskCanAlwaysGoOn(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	overlaps := []core.Overlap{core.OverlapSkip, core.OverlapQueue, core.OverlapCancel, core.OverlapTerminate, core.OverlapAllow}
	gates := []core.Gate{core.GateOverlap, core.GateBreaker, core.GateCapacity}
	for range 20_000 {
		a := core.Admission{
			At: noon.Add(time.Hour), Overlap: overlaps[rng.IntN(len(overlaps))], OverlapLimit: rng.IntN(3),
			CatchUp: []core.CatchUp{core.CatchUpLatest, core.CatchUpAll}[rng.IntN(2)], CatchUpLimit: rng.IntN(4),
			Breakers: []core.BreakerRule{{Name: "task:t"}}, Limits: []core.Limit{{Key: "pool:erp", Slots: 9, Need: 1, MaxWaiting: 9}},
		}
		breaker := core.Breaker{State: []core.BreakerState{core.BreakerClosed, core.BreakerOpen}[rng.IntN(2)], ProbeAt: noon.Add(time.Duration(rng.IntN(2)) * 2 * time.Hour)}
		runs := make([]core.Standing, 1+rng.IntN(5))
		for i := range runs {
			runs[i] = live(string(rune('a'+i)), core.RunWaiting, gates[rng.IntN(len(gates))], rng.IntN(3))
		}
		rulings := make([]core.Ruling, len(runs))
		first, gone, moving := -1, 0, 0
		for i, run := range runs {
			a.RunID = run.RunID
			rulings[i] = core.Admit(a, core.Standings{
				Run: run, Peers: slices.Concat(runs[:i:i], runs[i+1:]), Breakers: []core.Breaker{breaker}, Rooms: []core.Room{{Waiting: len(runs) - 1}},
			})
			if first < 0 || run.FireAt.Before(runs[first].FireAt) {
				first = i
			}
		}
		for i, r := range rulings {
			superseded := slices.ContainsFunc(rulings, func(o core.Ruling) bool { return slices.Contains(o.Supersede, runs[i].RunID) })
			if r.Reason != "" || superseded {
				gone++
			}
			if r.Start || r.Gate == core.GateBreaker {
				moving++
			}
			if r.Start && i != first && (a.Overlap == core.OverlapSkip || a.Overlap == core.OverlapQueue) {
				t.Fatalf("%s passes %s: %+v", runs[i].RunID, runs[first].RunID, runs)
			}
		}
		if gone == len(runs) || gone == 0 && moving == 0 {
			t.Fatalf("%d of %d go, %d move: %+v: %+v", gone, len(runs), moving, runs, rulings)
		}
	}
}

// TestWhatALimitSays: what is true for a moment only is not said of a run that waits, and one is not several.
func TestWhatALimitSays(t *testing.T) {
	t.Parallel()
	limit := core.Admission{Limits: []core.Limit{{Key: "pool:erp", Slots: 2, Need: 1, MaxWaiting: 3}}}
	for _, c := range []struct {
		waiting, most int
		want          string
	}{
		{2, 3, "2 of 2 slots of pool:erp in use, 1 wanted"},
		{3, 3, "2 of 2 slots of pool:erp in use, 1 wanted, and 3 runs wait for it already: as many wait as may"},
		{1, 1, "2 of 2 slots of pool:erp in use, 1 wanted, and 1 run waits for it already: as many wait as may"},
		{0, 0, "2 of 2 slots of pool:erp in use, 1 wanted: as many wait as may"},
	} {
		limit.Limits[0].MaxWaiting = c.most
		r := core.Admit(limit, core.Standings{Run: asker(core.RunQueued, ""), Rooms: []core.Room{{Used: 2, Waiting: c.waiting, Ahead: c.waiting}}})
		if r.Detail != c.want || (r.Reason == core.ReasonCapacity) != (c.waiting >= c.most) {
			t.Errorf("with %d of at most %d waiting: %+v, want %q", c.waiting, c.most, r, c.want)
		}
	}
}
