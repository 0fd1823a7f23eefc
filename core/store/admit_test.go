package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/google/go-cmp/cmp"
)

// queuedRun claims one fire of a gated task.
func queuedRun(tb testing.TB, s *store.Store, task *core.Task, fire, then time.Time) core.Run {
	tb.Helper()
	claim := claimOf(task, fire, then)
	claim.Gated = true
	got, err := s.Claim(tb.Context(), []core.Claim{claim})
	if err != nil {
		tb.Fatal(err)
	}
	if !got[0].Won || !got[0].Queued {
		tb.Fatalf("claimed %+v", got[0])
	}
	run := claim.Runs[0]
	run.Token = got[0].Token
	return run
}

func askFor(run *core.Run, at time.Time) core.Admission {
	return core.Admission{RunID: run.ID, TaskID: run.TaskID, Token: run.Token, Owner: "me", At: at, Overlap: core.OverlapAllow}
}

func pool(name string, slots int) core.Limit {
	return core.Limit{Key: "pool:" + name, Slots: slots, Need: 1, MaxWaiting: 10}
}

func TestAnAdmittedRunHoldsItsSlotsAndTheNextWaits(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		first, second, third := queuedRun(t, s, &a, at(10), at(20)), queuedRun(t, s, &a, at(20), at(30)), queuedRun(t, s, &a, at(30), at(40))
		ask := func(run *core.Run, second int) core.Admission {
			ask := askFor(run, at(second))
			erp, ns := pool("erp", 3), core.Limit{Key: "namespace:Common", Slots: 5, Need: 1, MaxWaiting: 10}
			erp.Need, erp.MaxWaiting = 2, 1
			ask.Limits = []core.Limit{ns, erp}
			return ask
		}
		got := admit(t, s, ask(&first, 10))
		if !got.Start || got.Token != 4 || got.Stale {
			t.Fatalf("admitted %+v", got)
		}
		first.Token = got.Token
		if got := admit(t, s, ask(&second, 20)); got.Start || got.Gate != core.GateCapacity || got.Key != "pool:erp" || got.Token != 0 {
			t.Fatalf("admitted %+v", got)
		}
		want := second
		want.State, want.Gate, want.GateKey, want.WaitSince = core.RunWaiting, core.GateCapacity, "pool:erp", at(20)
		want.Facts = []byte(fmt.Sprintf(`{"detail":%q,"gate":"capacity","key":"pool:erp"}`, "2 of 3 slots of pool:erp in use, 2 wanted"))
		if diff := cmp.Diff(want, runByID(t, s, second.ID)); diff != "" {
			t.Error(diff)
		}
		if got := admit(t, s, ask(&second, 21)); got.Gate != core.GateCapacity {
			t.Errorf("it waits in its own way: %+v", got)
		}
		if row := runByID(t, s, second.ID); !row.WaitSince.Equal(at(20)) {
			t.Errorf("waits since %v", row.WaitSince)
		}
		if got := admit(t, s, ask(&third, 30)); got.Reason != core.ReasonCapacity {
			t.Errorf("as many as may wait already: %+v", got)
		}
		if row := runByID(t, s, third.ID); row.State != core.RunQueued || !row.WaitSince.IsZero() {
			t.Errorf("a ruling to skip wrote: %+v", row)
		}
		holdings := []core.Holding{{Limit: "namespace:Common", Namespace: "Common", Slots: 1}, {Limit: "pool:erp", Namespace: "Common", Slots: 2}}
		if diff := cmp.Diff(holdings, must2(s.Holdings(t.Context()))); diff != "" {
			t.Error(diff)
		}
		wantSound(t, s, "owner")
		finish(t, s, finishOf(&first, core.Succeeded))
		got = admit(t, s, ask(&second, 35))
		if !got.Start || got.Token != 5 {
			t.Fatalf("admitted %+v", got)
		}
		want.State, want.Owner, want.Token, want.StartAt, want.DecidedAt = core.RunClaimed, "me", 5, at(35), at(35)
		if diff := cmp.Diff(want, runByID(t, s, second.ID)); diff != "" {
			t.Error(diff)
		}
		wantSound(t, s, "owner")
		// A person cancels what waits.
		if got := admit(t, s, ask(&third, 36)); got.Gate != core.GateCapacity {
			t.Errorf("admitted %+v", got)
		}
		if finish(t, s, finishOf(&third, core.Cancelled)).Stale {
			t.Error("a waiting run cannot be cancelled")
		}
		wantSound(t, s, "owner")
	})
}

func TestSlotsAreFreedHoweverAnAttemptEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		ok(t, s.Register(t.Context(), "you", "host", time.Now().Add(time.Hour)))
		a := created(t, s, "a")
		for i, end := range []func(run *core.Run){
			func(run *core.Run) { finish(t, s, finishOf(run, core.Failed)) },
			func(run *core.Run) {
				f := finishOf(run, core.Failed)
				f.RetryAt = at(100)
				finish(t, s, f)
			},
			func(run *core.Run) {
				_, err := s.Skip(t.Context(), []core.Skip{{RunID: run.ID, TaskID: a.ID, Token: run.Token, Reason: core.ReasonShutdown, DecidedAt: at(50)}})
				ok(t, err)
			},
			func(run *core.Run) {
				if got, err := s.Adopt(t.Context(), run.ID, run.Token, "you", false); err != nil || got.Won {
					t.Errorf("adopted what may have started: %+v, %v", got, err)
				}
				got, err := s.Adopt(t.Context(), run.ID, run.Token, "you", true)
				ok(t, err)
				row := runByID(t, s, run.ID)
				if !got.Won || row.State != core.RunRetrying || row.Attempt != 1 || row.Owner != "you" || row.Token != got.Token || got.Token <= run.Token {
					t.Errorf("resumed: %+v, row %+v", got, row)
				}
			},
		} {
			run := queuedRun(t, s, &a, at(10+i), at(11+i))
			ask := askFor(&run, at(10+i))
			ask.Limits = []core.Limit{pool("one", 1)}
			got := admit(t, s, ask)
			if !got.Start {
				t.Fatalf("%d: the slot of the one before is not free: %+v", i, got)
			}
			run.Token = got.Token
			end(&run)
		}
		wantSound(t, s, "owner")
	})
}

func TestARetryWaitsAsItIs(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run, other := queuedRun(t, s, &a, at(10), at(20)), queuedRun(t, s, &a, at(20), at(30))
		ask := askFor(&run, at(10))
		ask.Limits = []core.Limit{pool("one", 1)}
		run.Token = admit(t, s, ask).Token
		ok(t, s.RequestStop(t.Context(), []string{run.ID}, core.StopSupersede, "li"))
		f := finishOf(&run, core.Failed)
		f.RetryAt = at(20)
		run.Token = finish(t, s, f).Token
		if row := runByID(t, s, run.ID); row.Stop != "" || row.StopBy != "" || !row.WaitSince.IsZero() || row.Gate != "" {
			t.Errorf("the retry: %+v", row)
		}
		rival := askFor(&other, at(20))
		rival.Limits = ask.Limits
		other.Token = admit(t, s, rival).Token
		ask.Token, ask.At = run.Token, at(21)
		if got := admit(t, s, ask); got.Gate != core.GateCapacity || got.Start {
			t.Fatalf("admitted %+v", got)
		}
		if row := runByID(t, s, run.ID); row.State != core.RunRetrying || row.Gate != core.GateCapacity || row.GateKey != "pool:one" || !row.WaitSince.Equal(at(21)) {
			t.Errorf("the retry: %+v", row)
		}
		finish(t, s, finishOf(&other, core.Succeeded))
		ask.At = at(22)
		if got := admit(t, s, ask); !got.Start {
			t.Fatalf("admitted %+v", got)
		}
		row := runByID(t, s, run.ID)
		if row.State != core.RunClaimed || !row.DecidedAt.Equal(at(10)) || !row.StartAt.Equal(at(22)) {
			t.Errorf("the retry: %+v", row)
		}
		ok(t, s.RequestStop(t.Context(), []string{run.ID}, core.StopCancel, "li"))
		f = finishOf(&row, core.Failed)
		f.RetryAt = at(23)
		finish(t, s, f)
		if row := runByID(t, s, run.ID); row.Stop != core.StopCancel || row.StopBy != "li" {
			t.Errorf("the wish to stop has not outlived the attempt: %+v", row)
		}
		wantSound(t, s, "owner")
	})
}

func TestAdmissionsOfOneCallSeeEachOther(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a, b := created(t, s, "a"), created(t, s, "b")
		var asks []core.Admission
		for i := range 5 {
			run := queuedRun(t, s, &a, at(10+i), at(11+i))
			ask := askFor(&run, at(20))
			ask.Limits = []core.Limit{pool("p", 2)}
			ask.Limits[0].MaxWaiting = 2
			asks = append(asks, ask)
		}
		one, two := queuedRun(t, s, &b, at(10), at(11)), queuedRun(t, s, &b, at(11), at(12))
		asks = append(asks, askFor(&one, at(20)), askFor(&two, at(20)), askFor(&one, at(20)))
		asks[5].Overlap, asks[6].Overlap = core.OverlapSkip, core.OverlapSkip
		got, err := s.Admit(t.Context(), asks)
		ok(t, err)
		var said []string
		for _, g := range got {
			switch {
			case g.Stale:
				said = append(said, "stale")
			case g.Start:
				said = append(said, "start")
			case g.Gate != "":
				said = append(said, "wait")
			default:
				said = append(said, string(g.Reason))
			}
		}
		if diff := cmp.Diff([]string{"start", "start", "wait", "wait", "capacity", "start", "overlap", "stale"}, said); diff != "" {
			t.Error(diff)
		}
		wantSound(t, s, "owner")
	})
}

// Who comes anew does not pass those of its priority who wait, and passes those of a lower one.
func TestAnAdmissionKnowsWhoWaitsAhead(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		ask := func(second, priority, need int) core.Admission {
			run := newRun(&a, at(second), "me")
			run.Trigger, run.Series, run.Priority = core.TriggerBackfill, "backfill:x", priority
			stored, err := s.Enqueue(t.Context(), []core.Run{run})
			ok(t, err)
			ask := askFor(&stored[0], at(100))
			ask.Limits = []core.Limit{{Key: "pool:p", Slots: 4, Need: need, MaxWaiting: 10}}
			return ask
		}
		first, large := ask(1, 0, 3), ask(2, 5, 2)
		if got := admit(t, s, first); !got.Start {
			t.Fatalf("admitted %+v", got)
		}
		if got := admit(t, s, large); got.Gate != core.GateCapacity {
			t.Fatalf("admitted %+v", got)
		}
		asks := []core.Admission{ask(3, 4, 1), ask(4, 5, 1), ask(5, 6, 1)}
		got, err := s.Admit(t.Context(), asks)
		ok(t, err)
		for i, starts := range []bool{false, false, true} {
			if got[i].Start != starts || !starts && got[i].Gate != core.GateCapacity {
				t.Errorf("priority %d: %+v", i+4, got[i])
			}
		}
		wantSound(t, s, "owner")
	})
}

// Those who ask at the same moment get places by their priorities, not by who came first.
func TestAdmissionsOfOneMomentGoByPriority(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		var asks []core.Admission
		for i, priority := range []int{0, -10, 10, 0, 20} {
			task := created(t, s, fmt.Sprint("t", i))
			run := newRun(&task, at(10), "me")
			run.Trigger, run.Series, run.Priority = core.TriggerBackfill, "backfill:x", priority
			stored, err := s.Enqueue(t.Context(), []core.Run{run})
			ok(t, err)
			ask := askFor(&stored[0], at(20))
			ask.Limits = []core.Limit{pool("p", 3)}
			asks = append(asks, ask)
		}
		got, err := s.Admit(t.Context(), asks)
		ok(t, err)
		for i, starts := range []bool{true, false, true, false, true} {
			if got[i].Start != starts {
				t.Errorf("the %d. of five: %+v", i+1, got[i])
			}
		}
		wantSound(t, s, "owner")
	})
}

// Limits, overlap and probes hold, whoever asks on whatever server. The witness counts from after an admission to before
// the end, which is less than the store counts.
func TestNothingIsAdmittedPastItsLimit(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		stores := []*store.Store{s}
		if w.dialect == "postgres" {
			stores = append(stores, w.open(t), w.open(t))
			for i, each := range stores {
				ok(t, each.Register(t.Context(), fmt.Sprint("server", i), "host", time.Now().Add(time.Hour)))
			}
		}
		const tasks, rounds = 12, 12
		var inPool, inOther, most atomic.Int64
		var alone [tasks / 2]atomic.Int64 // two callers share a task that does not overlap
		var wg sync.WaitGroup
		var list []core.Task
		for i := range tasks / 2 {
			list = append(list, created(t, s, fmt.Sprint("task", i)))
		}
		var fire atomic.Int64
		for g := range tasks {
			wg.Go(func() {
				mine, task := stores[g%len(stores)], &list[g%len(list)]
				for range rounds {
					run := newRun(task, at(int(fire.Add(1))), "server0")
					run.Series, run.State, run.Trigger = "backfill:x", core.RunQueued, core.TriggerBackfill
					stored, err := mine.Enqueue(t.Context(), []core.Run{run})
					if err != nil {
						t.Error(err)
						return
					}
					run = stored[0]
					for {
						ask := core.Admission{RunID: run.ID, TaskID: run.TaskID, Token: run.Token, Owner: "server0", At: at(1000), Overlap: core.OverlapSkip, Patient: true,
							Limits: []core.Limit{pool("a", 3), pool("b", 4)}}
						ask.Limits[0].MaxWaiting, ask.Limits[1].MaxWaiting = 1000, 1000
						ask.Limits[1].Need = 2
						got, err := mine.Admit(t.Context(), []core.Admission{ask})
						if err != nil {
							t.Error(err)
							return
						}
						if got[0].Stale || got[0].Reason != "" {
							t.Errorf("admitted %+v", got[0])
							return
						}
						if got[0].Start {
							run.Token = got[0].Token
							break
						}
					}
					a, b, o := inPool.Add(1), inOther.Add(2), alone[g%len(list)].Add(1)
					if a > 3 || b > 4 || o > 1 {
						t.Errorf("in use: %d of 3, %d of 4, %d of 1", a, b, o)
					}
					for seen := most.Load(); a > seen && !most.CompareAndSwap(seen, a); seen = most.Load() {
					}
					if err := mine.MarkRunning(t.Context(), core.Running{RunID: run.ID, Token: run.Token, StartedAt: at(1)}); err != nil { // takes a moment
						t.Error(err)
					}
					inPool.Add(-1)
					inOther.Add(-2)
					alone[g%len(list)].Add(-1)
					if done, err := mine.Finish(t.Context(), []core.Finish{finishOf(&run, core.Succeeded)}); err != nil || done[0].Stale {
						t.Errorf("finished %+v, %v", done, err)
					}
				}
			})
		}
		wg.Wait()
		ended, err := s.Ended(t.Context(), "", 1000)
		ok(t, err)
		if len(ended) != tasks*rounds {
			t.Errorf("%d ended", len(ended))
		}
		if most.Load() != 2 {
			t.Errorf("at most %d ran at once: the test proves nothing", most.Load())
		}
		t.Logf("at most %d at once; %+v", most.Load(), s.Stats())
		wantSound(t, s, "owner")
	})
}

func TestAHeldRunWaitsAndIsLookedAtAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		claim := claimOf(&a, at(10), at(20))
		claim.Gated, claim.Runs[0].Facts = true, []byte(`{"key":7,"late_seconds":12345678901234567}`)
		claimed, err := s.Claim(t.Context(), []core.Claim{claim})
		ok(t, err)
		run := claim.Runs[0]
		run.Token = claimed[0].Token
		hold := core.Hold{RunID: run.ID, TaskID: a.ID, Token: run.Token, Gate: core.GatePrecondition, Key: "1", Detail: "the file is missing", At: at(10), Until: at(40)}
		later, stale := hold, hold
		later.At, later.Until, later.Detail = at(40), at(70), "the file \x00 is empty"
		stale.Token++
		got, err := s.Hold(t.Context(), []core.Hold{hold, later, stale})
		ok(t, err)
		if got[0].Stale || got[1].Stale || !got[2].Stale {
			t.Errorf("held %+v", got)
		}
		want := run
		want.State, want.Gate, want.GateKey, want.WaitSince, want.WaitUntil = core.RunWaiting, core.GatePrecondition, "1", at(10), at(70)
		want.Facts = []byte(`{"detail":"the file ` + "\uFFFD" + ` is empty","gate":"precondition","key":"1","late_seconds":12345678901234567}`)
		if diff := cmp.Diff([]core.Run{want}, must2(s.Runs(t.Context(), core.RunFilter{States: []core.RunState{core.RunWaiting}}))); diff != "" {
			t.Error(diff)
		}
		wantSound(t, s, "owner")
		if got := admit(t, s, askFor(&run, at(70))); !got.Start {
			t.Errorf("admitted %+v", got)
		}
		if got, err := s.Hold(t.Context(), []core.Hold{hold}); err != nil || !got[0].Stale {
			t.Errorf("a claimed run is held: %+v, %v", got, err)
		}
		wantSound(t, s, "owner")
	})
}
