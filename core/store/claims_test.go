package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/google/go-cmp/cmp"
)

func TestAClaimMovesTheMarkAndInsertsTheRun(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		task1 := created(t, s, "web")
		claim := claimOf(&task1, at(10), at(20))
		claim.Runs[0].Facts = []byte(`{"late_ms":3}`)
		got, err := s.Claim(t.Context(), []core.Claim{claim})
		ok(t, err)
		if diff := cmp.Diff(core.Claimed{Won: true, Token: 1, Fired: 1}, got[0]); diff != "" {
			t.Fatal(diff)
		}
		want := claim.Runs[0]
		want.Token = 1
		if diff := cmp.Diff(want, runByID(t, s, want.ID)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		after := task(t, s, task1.ID)
		if !after.State.NextFire.Equal(at(20)) || after.State.Live != 1 {
			t.Errorf("state after the claim: %+v", after.State)
		}
		if got, err := s.Claim(t.Context(), []core.Claim{claim}); err != nil || got[0].Won {
			t.Errorf("the same fire was claimed twice: %+v, %v", got, err)
		}
		wantSound(t, s, "owner")
	})
}

func TestALosingClaimLeavesTheOthersAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a, b, c := created(t, s, "a"), created(t, s, "b"), created(t, s, "c")
		lost := claimOf(&b, at(11), at(20)) // not b's mark
		got, err := s.Claim(t.Context(), []core.Claim{claimOf(&a, at(10), at(20)), lost, claimOf(&c, at(10), time.Time{})})
		ok(t, err)
		if !got[0].Won || got[1].Won || !got[2].Won {
			t.Errorf("claimed %+v", got)
		}
		if state := task(t, s, b.ID).State; state.Live != 0 || !state.NextFire.Equal(at(10)) {
			t.Errorf("the lost claim wrote: %+v", state)
		}
		_, err = s.Run(t.Context(), lost.Runs[0].ID)
		wantKind(t, err, core.KindNotFound)
		if !task(t, s, c.ID).State.NextFire.IsZero() {
			t.Error("no next fire was wanted")
		}
		wantSound(t, s, "owner")
	})
}

func TestSkippedFiresAreRowsAndCountNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		missed := newRun(&a, at(10), "me")
		missed.State, missed.Verdict, missed.Reason, missed.EndedAt, missed.Attempt = core.RunEnded, core.Skipped, core.ReasonCatchUp, at(100), 0
		missed.FireThrough, missed.FireCount, missed.Facts, missed.Params = at(90), 9, []byte(`{"missed":9}`), nil
		claim := claimOf(&a, at(10), at(110))
		claim.Runs = []core.Run{missed}
		got, err := s.Claim(t.Context(), []core.Claim{claim})
		ok(t, err)
		if !got[0].Won || got[0].Live != 0 || task(t, s, a.ID).State.Live != 0 {
			t.Errorf("claimed %+v", got[0])
		}
		if diff := cmp.Diff(missed, runByID(t, s, missed.ID)); diff != "" {
			t.Error(diff)
		}
		both := claimOf(&a, at(110), at(120))
		both.Runs = append([]core.Run{missed}, both.Runs...)
		both.Runs[0].ID, both.Runs[0].FireAt, both.Runs[0].FireThrough, both.Runs[0].FireCount = newID(), at(100), at(100), 1
		got, err = s.Claim(t.Context(), []core.Claim{both})
		ok(t, err)
		if !got[0].Won || task(t, s, a.ID).State.Live != 1 {
			t.Errorf("claimed %+v", got[0])
		}
		ended, err := s.Ended(t.Context(), "", 10)
		ok(t, err)
		if len(ended) != 2 {
			t.Errorf("%d skipped rows", len(ended))
		}
		wantSound(t, s, "owner")
	})
}

func TestAFireDecidedBeforeIsNotDecidedAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run, _ := claimed(t, s, &a, at(10), at(20))
		a.State.NextFire = at(10) // an edit while the fire is claimed ahead moves the mark back over it
		a, err := s.UpdateTask(t.Context(), a)
		ok(t, err)
		again, got := claimed(t, s, &a, at(10), at(20))
		if !got.Won || !slices.Equal(got.Decided, []int{0}) || got.Queued || got.Fired != 1 {
			t.Errorf("claimed %+v", got)
		}
		_, err = s.Run(t.Context(), again.ID)
		wantKind(t, err, core.KindNotFound)
		if state := task(t, s, a.ID).State; state.Live != 1 || !state.NextFire.Equal(at(20)) {
			t.Errorf("state %+v", state)
		}
		finish(t, s, finishOf(&run, core.Succeeded))
		wantSound(t, s)
	})
}

// Promise 2: a range of skipped fires whose first one has its decision decides the others.
func TestTheRestOfARangeIsDecidedToo(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run, _ := claimed(t, s, &a, at(10), at(20))
		a.State.NextFire = at(10)
		a, err := s.UpdateTask(t.Context(), a)
		ok(t, err)
		claim := claimOf(&a, at(10), at(50))
		missed := &claim.Runs[0]
		missed.State, missed.Verdict, missed.Reason, missed.EndedAt = core.RunEnded, core.Skipped, core.ReasonCatchUp, at(45)
		missed.FireThrough, missed.FireCount = at(40), 4
		got, err := s.Claim(t.Context(), []core.Claim{claim})
		ok(t, err)
		want := *missed
		want.FireAt, want.FireCount = at(10).Add(time.Microsecond), 3
		if diff := cmp.Diff(want, runByID(t, s, want.ID)); diff != "" || !got[0].Won || got[0].Decided != nil {
			t.Errorf("claimed %+v, %s", got[0], diff)
		}
		// Edited once more, by a server whose clock is behind: the rest stands behind the rest of before, with all its fires.
		a.State.NextFire = at(10)
		a, err = s.UpdateTask(t.Context(), a)
		ok(t, err)
		claim = claimOf(&a, at(10), at(20))
		missed = &claim.Runs[0]
		missed.State, missed.Verdict, missed.Reason, missed.EndedAt = core.RunEnded, core.Skipped, core.ReasonCatchUp, at(45)
		missed.FireThrough, missed.FireCount = at(15), 2
		_, err = s.Claim(t.Context(), []core.Claim{claim})
		ok(t, err)
		want = *missed
		want.FireAt, want.FireCount = at(10).Add(2*time.Microsecond), 1
		if diff := cmp.Diff(want, runByID(t, s, want.ID)); diff != "" {
			t.Error(diff)
		}
		finish(t, s, finishOf(&run, core.Succeeded))
		wantSound(t, s)
	})
}

func TestAClaimStartsAnyNumberOfRuns(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		missed := func(second int) core.Run {
			run := newRun(&a, at(second), "me")
			run.Trigger = core.TriggerCatchUp
			return run
		}
		passed := missed(10)
		passed.State, passed.Verdict, passed.Reason, passed.EndedAt, passed.FireThrough, passed.FireCount = core.RunEnded, core.Skipped, core.ReasonCatchUp, at(60), at(20), 2
		claim := claimOf(&a, at(10), at(60))
		claim.Runs = []core.Run{passed, missed(30), missed(40), missed(50)}
		claim.Runs[2].Series, claim.Runs[2].MovedFrom, claim.Runs[2].Priority, claim.Runs[2].Overlap = "backfill:b1", at(39), 7, core.OverlapQueue
		claim.Runs[2].OverlapLimit = 3
		claim.Runs[2].WorkflowID, claim.Runs[2].Step, claim.Runs[2].CausedBy = "w1", "load", "c1"
		got, err := s.Claim(t.Context(), []core.Claim{claim})
		ok(t, err)
		if diff := cmp.Diff(core.Claimed{Won: true, Token: 1, Fired: 3}, got[0]); diff != "" {
			t.Fatal(diff)
		}
		for i, want := range claim.Runs[1:] {
			want.Token = int64(i + 1)
			if diff := cmp.Diff(want, runByID(t, s, want.ID)); diff != "" {
				t.Errorf("run %d: %s", i, diff)
			}
		}
		// An edit moves the mark back over fires that have their decision.
		a.State.NextFire = at(30)
		a, err = s.UpdateTask(t.Context(), a)
		ok(t, err)
		again := claimOf(&a, at(30), at(70))
		again.Gated = true
		again.Runs = []core.Run{missed(30), missed(40), missed(45), missed(50)}
		got, err = s.Claim(t.Context(), []core.Claim{again})
		ok(t, err)
		want := core.Claimed{Won: true, Live: 3, Token: 4, Fired: 5, Queued: true, Decided: []int{0, 3}}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Error(diff)
		}
		if row := runByID(t, s, again.Runs[1].ID); row.Token != 5 || row.State != core.RunQueued { // of another series than the run of 40 that is there
			t.Errorf("the second of the claim: %+v", row)
		}
		if state := task(t, s, a.ID).State; state.Live != 5 || state.Fired != 5 || !state.NextFire.Equal(at(70)) {
			t.Errorf("state %+v", state)
		}
		wantSound(t, s, "owner")
	})
}

func TestASkippedFireIsFiredNoMore(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		queued, waiting := queuedRun(t, s, &a, at(10), at(20)), queuedRun(t, s, &a, at(20), at(30))
		claim := claimOf(&a, at(30), at(40))
		claim.Overlap = core.OverlapAllow
		got, err := s.Claim(t.Context(), []core.Claim{claim})
		ok(t, err)
		claimed := claim.Runs[0]
		claimed.Token = got[0].Token
		manual := newRun(&a, at(3), "me")
		manual.Trigger, manual.State = core.TriggerManual, core.RunQueued
		manual, err = s.InsertManual(t.Context(), manual, false)
		ok(t, err)
		retried := queuedRun(t, s, &a, at(40), at(50))
		started := admit(t, s, askFor(&retried, at(40)))
		retried.Token = started.Token
		f := finishOf(&retried, core.Failed)
		f.RetryAt = at(50)
		retried.Token = finish(t, s, f).Token
		held, err := s.Hold(t.Context(), []core.Hold{{RunID: waiting.ID, TaskID: a.ID, Token: waiting.Token, Gate: core.GatePrecondition, Key: "0", At: at(20), Until: at(25)}})
		ok(t, err)
		if held[0].Stale || task(t, s, a.ID).State.Fired != 4 {
			t.Fatalf("held %+v, fired %d", held, task(t, s, a.ID).State.Fired)
		}
		skip := func(run core.Run, breaches ...core.Breach) core.Skip {
			return core.Skip{RunID: run.ID, TaskID: a.ID, Token: run.Token, Reason: core.ReasonPrecondition, DecidedAt: at(60), Breaches: breaches}
		}
		late := core.Breach{Kind: core.BreachStart, At: at(50), Limit: "start within 10s"}
		skipped, err := s.Skip(t.Context(), []core.Skip{skip(queued), skip(waiting, late), skip(claimed), skip(manual), skip(retried)})
		ok(t, err)
		for i, stale := range []bool{false, false, false, false, true} {
			if skipped[i].Stale != stale {
				t.Errorf("skip %d: %+v", i, skipped[i])
			}
		}
		if state := task(t, s, a.ID).State; state.Fired != 1 || state.Live != 1 {
			t.Errorf("state %+v", state)
		}
		if row := runByID(t, s, waiting.ID); row.Verdict != core.Skipped || len(row.Breaches) != 1 || row.Breaches[0] != late || row.Gate != core.GatePrecondition ||
			!row.WaitUntil.IsZero() || !row.WaitSince.Equal(at(20)) {
			t.Errorf("row %+v", row)
		}
		wantSound(t, s, "owner")
	})
}
