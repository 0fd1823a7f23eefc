package store_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/google/go-cmp/cmp"
)

func TestABreakerOpensIsProbedAndCloses(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a, b := created(t, s, "a"), created(t, s, "b")
		rule := core.BreakerRule{Name: "downstream:his", Failures: 2, Cooldown: 30 * time.Second}
		second := 10
		admitted := func(task *core.Task, now time.Time) (core.Run, core.Admitted) {
			t.Helper()
			queued := newRun(task, at(second), "me")
			queued.Trigger, queued.Series = core.TriggerBackfill, "backfill:x"
			stored, err := s.Enqueue(t.Context(), []core.Run{queued})
			ok(t, err)
			second++
			run := stored[0]
			ask := askFor(&run, now)
			ask.Breakers, ask.CatchUp = []core.BreakerRule{rule}, core.CatchUpAll
			got := admit(t, s, ask)
			if got.Start {
				run.Token = got.Token
			}
			return run, got
		}
		end := func(run *core.Run, verdict core.Verdict, at time.Time, retry bool) core.Finished {
			t.Helper()
			f := finishOf(run, verdict)
			f.Breakers, f.EndedAt, f.Outcome.Message = []core.BreakerRule{rule}, at, "refused"
			if retry {
				f.RetryAt = at
			}
			return finish(t, s, f)
		}
		one, got := admitted(&a, at(100))
		if !got.Start || len(got.Probe) != 0 {
			t.Fatalf("at a closed breaker: %+v", got)
		}
		if got := end(&one, core.Failed, at(101), true); len(got.Breakers) != 0 {
			t.Errorf("one failure: %+v", got)
		}
		two, _ := admitted(&a, at(102))
		opened := core.Breaker{Name: rule.Name, State: core.BreakerOpen, Failures: 2, OpenedAt: at(103), ProbeAt: at(133), Because: "refused", UpdatedAt: at(103)}
		if diff := cmp.Diff([]core.Breaker{opened}, end(&two, core.Failed, at(103), false).Breakers); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]core.Breaker{opened}, must2(s.Breakers(t.Context()))); diff != "" {
			t.Error(diff)
		}
		three, got := admitted(&a, at(110))
		if got.Gate != core.GateBreaker || got.Key != rule.Name || !got.Until.Equal(at(133)) {
			t.Errorf("at an open breaker: %+v", got)
		}
		if row := runByID(t, s, three.ID); row.State != core.RunWaiting || row.Gate != core.GateBreaker || !row.WaitUntil.Equal(at(133)) {
			t.Errorf("row %+v", row)
		}
		probe, got := admitted(&b, at(140))
		if !got.Start || !slices.Equal(got.Probe, []string{rule.Name}) {
			t.Fatalf("after the cool-down: %+v", got)
		}
		if got, err := s.Breaker(t.Context(), rule.Name); err != nil || got.State != core.BreakerHalfOpen || got.ProbeRun != probe.ID {
			t.Errorf("half open: %+v, %v", got, err)
		}
		ask := askFor(&three, at(141))
		ask.Breakers, ask.CatchUp = []core.BreakerRule{rule}, core.CatchUpAll
		if got := admit(t, s, ask); got.Start || got.Gate != core.GateBreaker || !got.Until.IsZero() {
			t.Errorf("beside the probe: %+v", got)
		}
		wantSound(t, s, "owner")
		// The probe is skipped, its task knows nothing of the breaker: it does not stay half open for ever.
		_, err := s.Skip(t.Context(), []core.Skip{{RunID: probe.ID, TaskID: b.ID, Token: probe.Token, Reason: core.ReasonShutdown, DecidedAt: at(142)}})
		ok(t, err)
		wantSound(t, s, "owner")
		ask.At = at(143)
		got = admit(t, s, ask)
		if !got.Start || len(got.Probe) != 1 {
			t.Fatalf("another probe: %+v", got)
		}
		three.Token = got.Token
		closed := end(&three, core.Succeeded, at(144), false).Breakers
		if len(closed) != 1 || closed[0].State != core.BreakerClosed {
			t.Errorf("closed: %+v", closed)
		}
		wantSound(t, s, "owner")
		for range 2 {
			run, _ := admitted(&a, at(150))
			end(&run, core.Crashed, at(151), false)
		}
		if got := must2(s.Breaker(t.Context(), rule.Name)); got.State != core.BreakerOpen {
			t.Errorf("opened again: %+v", got)
		}
		ok(t, s.ResetBreaker(t.Context(), rule.Name))
		ok(t, s.ResetBreaker(t.Context(), "downstream:unknown"))
		if _, got := admitted(&a, at(152)); !got.Start || len(got.Probe) != 0 {
			t.Errorf("closed by hand: %+v", got)
		}
		got2, err := s.Breaker(t.Context(), "downstream:unknown")
		ok(t, err)
		if diff := cmp.Diff(core.Breaker{Name: "downstream:unknown", State: core.BreakerClosed}, got2); diff != "" {
			t.Error(diff)
		}
	})
}

// However the probe leaves, the breaker gets to know it.
func TestAProbeNeverLeavesItsBreakerHalfOpen(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		ok(t, s.Register(t.Context(), "you", "host", time.Now().Add(time.Hour)))
		a := created(t, s, "a")
		rule := core.BreakerRule{Name: "downstream:x", Failures: 1, Cooldown: time.Second}
		second := 0
		probe := func() core.Run {
			t.Helper()
			second += 100
			for i := range 2 {
				run := newRun(&a, at(second+i), "me")
				run.Trigger, run.Series = core.TriggerBackfill, "backfill:x"
				stored, err := s.Enqueue(t.Context(), []core.Run{run})
				ok(t, err)
				run = stored[0]
				ask := askFor(&run, at(second+10*i))
				ask.Breakers = []core.BreakerRule{rule}
				got := admit(t, s, ask)
				if run.Token = got.Token; !got.Start || len(got.Probe) != i {
					t.Fatalf("admitted %+v", got)
				}
				if i == 1 {
					return run
				}
				f := finishOf(&run, core.Failed)
				f.Breakers = ask.Breakers
				finish(t, s, f)
			}
			panic("unreachable")
		}
		for _, c := range []struct {
			name string
			end  func(run core.Run) []core.Breaker
			want core.BreakerState
		}{
			{"skipped", func(run core.Run) []core.Breaker {
				got, err := s.Skip(t.Context(), []core.Skip{{RunID: run.ID, TaskID: a.ID, Token: run.Token, Reason: core.ReasonShutdown, DecidedAt: at(second + 20)}})
				ok(t, err)
				return got[0].Breakers
			}, core.BreakerOpen},
			{"ended well under rules that do not name it", func(run core.Run) []core.Breaker { return finish(t, s, finishOf(&run, core.Succeeded)).Breakers }, core.BreakerClosed},
			{"ended badly under rules that do not name it", func(run core.Run) []core.Breaker { return finish(t, s, finishOf(&run, core.Failed)).Breakers }, core.BreakerOpen},
			{"resumed", func(run core.Run) []core.Breaker {
				if got, err := s.Adopt(t.Context(), run.ID, run.Token, "you", true); err != nil || !got.Won {
					t.Errorf("resumed: %+v, %v", got, err)
				}
				return must2(s.Breakers(t.Context()))
			}, core.BreakerOpen},
		} {
			told := c.end(probe())
			got := must2(s.Breaker(t.Context(), rule.Name))
			if got.State != c.want || got.ProbeRun != "" || len(told) != 1 || told[0].State != c.want {
				t.Errorf("%s: %+v, told %+v", c.name, got, told)
			}
			wantSound(t, s, "owner")
			ok(t, s.ResetBreaker(t.Context(), rule.Name))
		}
	})
}

func TestOneRunProbesABreaker(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		stores := []*store.Store{s}
		if w.dialect == "postgres" {
			stores = append(stores, w.open(t), w.open(t))
		}
		rule := core.BreakerRule{Name: "downstream:x", Failures: 1, Cooldown: time.Second}
		var runs []core.Run
		for i := range 12 {
			a := created(t, s, fmt.Sprint("task", i))
			runs = append(runs, queuedRun(t, s, &a, at(10), at(20)))
		}
		first := askFor(&runs[0], at(10))
		first.Breakers = []core.BreakerRule{rule}
		runs[0].Token = admit(t, s, first).Token
		f := finishOf(&runs[0], core.Failed)
		f.Breakers = first.Breakers
		finish(t, s, f)
		var probes atomic.Int64
		var wg sync.WaitGroup
		for i, run := range runs[1:] {
			wg.Go(func() {
				ask := askFor(&run, at(30))
				ask.Breakers, ask.CatchUp = []core.BreakerRule{rule}, core.CatchUpAll
				got, err := stores[i%len(stores)].Admit(t.Context(), []core.Admission{ask})
				if err != nil {
					t.Error(err)
					return
				}
				if got[0].Start {
					probes.Add(1)
				}
			})
		}
		wg.Wait()
		if probes.Load() != 1 {
			t.Errorf("%d probes", probes.Load())
		}
		wantSound(t, s, "owner")
	})
}
