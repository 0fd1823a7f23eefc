package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/google/go-cmp/cmp"
)

func TestAnOverlapIsQueuedAndAdmittedOnlyAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		first, _ := claimed(t, s, &a, at(10), at(20))
		second, got := claimed(t, s, &a, at(20), at(30))
		if !got.Queued || got.Live != 1 || runByID(t, s, second.ID).State != core.RunQueued {
			t.Fatalf("the second claim: %+v", got)
		}
		third, got := claimed(t, s, &a, at(30), at(40))
		if !got.Queued || got.Live != 2 {
			t.Fatalf("the third claim: %+v", got)
		}
		wantSound(t, s, "owner")
		ask := core.Admission{RunID: second.ID, TaskID: a.ID, Token: second.Token, Owner: "you", At: at(25)}
		if got := admit(t, s, ask); got.Start || got.Reason != core.ReasonOverlap || got.Stale {
			t.Errorf("started beside a live run: %+v", got)
		}
		if row := runByID(t, s, second.ID); row.State != core.RunQueued || row.Token != second.Token {
			t.Errorf("a ruling to skip wrote: %+v", row)
		}
		finish(t, s, finishOf(&first, core.Succeeded))
		started := admit(t, s, ask)
		if !started.Start || started.Token <= got.Token || !started.LastSuccess.Equal(at(11)) {
			t.Errorf("alone, beside a queued one: %+v", started)
		}
		if row := runByID(t, s, second.ID); row.State != core.RunClaimed || row.Owner != "you" || row.Token != started.Token ||
			!row.StartAt.Equal(at(25)) || !row.DecidedAt.Equal(at(25)) {
			t.Errorf("the started row: %+v", row)
		}
		if got := admit(t, s, ask); !got.Stale || got.Start {
			t.Errorf("started twice: %+v", got)
		}
		skip := core.Skip{RunID: third.ID, TaskID: a.ID, Token: third.Token, Owner: "other", Reason: core.ReasonOverlap, Facts: []byte(`{}`), DecidedAt: at(30)}
		skipped, err := s.Skip(t.Context(), []core.Skip{skip, skip})
		ok(t, err)
		if skipped[0].Stale || !skipped[1].Stale {
			t.Errorf("skipped %+v", skipped)
		}
		if row := runByID(t, s, third.ID); row.Verdict != core.Skipped || row.Reason != core.ReasonOverlap || !row.EndedAt.Equal(at(30)) || !row.DecidedAt.Equal(at(30)) || row.Owner != "other" {
			t.Errorf("the skipped row: %+v", row)
		}
		second.Token = started.Token
		finish(t, s, finishOf(&second, core.Succeeded))
		if live := task(t, s, a.ID).State.Live; live != 0 {
			t.Errorf("live is %d at the end", live)
		}
		b := created(t, s, "b")
		b.Policies.Overlap = core.OverlapAllow
		one, _ := claimed(t, s, &b, at(10), at(20))
		two, got := claimed(t, s, &b, at(20), at(30))
		if got.Queued || got.Live != 1 || one.Token == two.Token {
			t.Errorf("overlap allowed: %+v", got)
		}
		skip = core.Skip{RunID: two.ID, TaskID: b.ID, Token: two.Token, Reason: core.ReasonShutdown, DecidedAt: at(20)}
		if skipped, err := s.Skip(t.Context(), []core.Skip{skip}); err != nil || skipped[0].Stale {
			t.Errorf("skip of a claimed run: %+v %v", skipped, err)
		}
		if row := runByID(t, s, two.ID); row.Owner != two.Owner {
			t.Errorf("skipped by whoever had it, and now %q has", row.Owner)
		}
		wantSound(t, s, "owner")
	})
}

// TestUsageIsReadHoweverItIsWritten: as this version writes it, and as another may have.
func TestUsageIsReadHoweverItIsWritten(t *testing.T) {
	unknown := core.Usage{CPUSource: core.SourceUnknown, RSSSource: core.SourceUnknown, IOSource: core.SourceUnknown}
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run, _ := claimed(t, s, &a, at(10), at(20))
		finish(t, s, finishOf(&run, core.Succeeded))
		for text, want := range map[string]core.Usage{
			"": {},
			`{"cpu":5,"cpu_source":"measured","peak_rss_bytes":18446744073709551615,"rss_source":"shared","read_bytes":7,"write_bytes":9,"io_source":"unknown"}`: {
				CPU: 5, CPUSource: core.SourceMeasured, PeakRSSBytes: 1<<64 - 1, RSSSource: core.SourceShared, ReadBytes: 7, WriteBytes: 9, IOSource: core.SourceUnknown},
			`{ "io_source": "\u0073hared", "cpu": 5, "of_tomorrow": [1] }`:                                                                     {CPU: 5, IOSource: core.SourceShared},
			`{"cpu":-5,"cpu_source":"","peak_rss_bytes":0,"rss_source":"","read_bytes":0,"write_bytes":0,"io_source":""}`:                      {CPU: -5},
			`{"cpu":5,"cpu_source":"measured","peak_rss_bytes":1`:                                                                              unknown,
			`{"cpu":5,"cpu_source":"measured","peak_rss_bytes":1,"rss_source":"shared","read_bytes":7,"write_bytes":9,"io_source":"unknown"}x`: unknown,
			`{"cpu":9223372036854775808,"cpu_source":"","peak_rss_bytes":0,"rss_source":"","read_bytes":0,"write_bytes":0,"io_source":""}`:     unknown,
			`five`: unknown,
		} {
			w.exec(t, "UPDATE runs SET usage = $1 WHERE id = $2", text, run.ID)
			if got := runByID(t, s, run.ID).Usage; got != want {
				t.Errorf("%s is read as %+v, want %+v", text, got, want)
			}
		}
	})
}

func TestAFinishWritesWhatHappenedLast(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run, _ := claimed(t, s, &a, at(10), at(20))
		ok(t, s.MarkRunning(t.Context(), core.Running{RunID: run.ID, Token: run.Token, StartedAt: at(12)}, core.Running{RunID: "unknown"}))
		if row := runByID(t, s, run.ID); row.State != core.RunRunning || !row.StartedAt.Equal(at(12)) {
			t.Errorf("state %s since %s", row.State, row.StartedAt)
		}
		f := finishOf(&run, core.Succeeded)
		f.Outcome.Message, f.Outcome.Output, f.Outcome.Checkpoint = "done", []byte(`{"n":1}`), []byte{0, 1, 2}
		f.Outcome.Usage = core.Usage{CPU: 3 * time.Millisecond, CPUSource: core.SourceMeasured, PeakRSSBytes: 1 << 40,
			RSSSource: core.SourceShared, ReadBytes: 7, WriteBytes: 9, IOSource: core.SourceUnknown}
		stale := f
		stale.Token--
		if got := finish(t, s, stale); !got.Stale {
			t.Error("a stale token finished a run")
		}
		if got := finish(t, s, f); got.Stale {
			t.Error("the current token was refused")
		}
		if got := finish(t, s, f); !got.Stale {
			t.Error("a run ended twice")
		}
		want := run
		want.State, want.Verdict, want.Message, want.Output, want.Checkpoint = core.RunEnded, core.Succeeded, "done", f.Outcome.Output, f.Outcome.Checkpoint
		want.Usage, want.StartedAt, want.EndedAt = f.Outcome.Usage, f.StartedAt, f.EndedAt
		if diff := cmp.Diff(want, runByID(t, s, run.ID)); diff != "" {
			t.Error(diff)
		}
		state := core.TaskState{LastStart: at(10), LastEnd: at(11), LastSuccess: at(11), LastOutcome: core.Succeeded, NextFire: at(20), Fired: 1}
		if diff := cmp.Diff(state, task(t, s, a.ID).State); diff != "" {
			t.Error(diff)
		}
		run, _ = claimed(t, s, &a, at(20), at(30))
		finish(t, s, finishOf(&run, core.Failed))
		state = core.TaskState{LastStart: at(20), LastEnd: at(21), LastSuccess: at(11), LastOutcome: core.Failed, NextFire: at(30),
			Fired: 2, Failures: 1}
		if diff := cmp.Diff(state, task(t, s, a.ID).State); diff != "" {
			t.Error(diff)
		}
		wantSound(t, s)
	})
}

func TestARetryHasANewTokenAndTheOldOneIsWorthless(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run, _ := claimed(t, s, &a, at(10), at(20))
		f := finishOf(&run, core.Failed)
		f.RetryAt, f.Outcome.Checkpoint, f.Outcome.Message, f.Owner = at(15), []byte("half"), "first try", "heir"
		got := finish(t, s, f)
		if got.Stale || got.Token != run.Token+1 {
			t.Fatalf("retry %+v", got)
		}
		row := runByID(t, s, run.ID)
		if row.State != core.RunRetrying || row.Attempt != 2 || row.Token != got.Token || !row.StartAt.Equal(at(15)) ||
			string(row.Checkpoint) != "half" || row.Owner != "heir" || row.Verdict != "" || row.Message != "first try" {
			t.Errorf("the retrying row: %+v", row)
		}
		if live := task(t, s, a.ID).State.Live; live != 1 {
			t.Errorf("live %d while a retry waits", live)
		}
		if !finish(t, s, f).Stale {
			t.Error("the old token retried again")
		}
		wantSound(t, s, "owner")
		ok(t, s.MarkRunning(t.Context(), core.Running{RunID: run.ID, Token: run.Token, StartedAt: at(12)})) // the same while the retry waits
		ask := core.Admission{RunID: run.ID, TaskID: a.ID, Token: run.Token, Owner: "me", At: at(16)}
		if got := admit(t, s, ask); !got.Stale {
			t.Errorf("the old token admitted the retry: %+v", got)
		}
		ask.Token = got.Token
		started := admit(t, s, ask)
		if !started.Start || started.Token <= got.Token {
			t.Errorf("start of a retry: %+v", started)
		}
		if row := runByID(t, s, run.ID); row.State != core.RunClaimed || !row.StartAt.Equal(at(16)) || !row.DecidedAt.Equal(at(9)) {
			t.Errorf("the started retry: %+v", row)
		}
		ok(t, s.MarkRunning(t.Context(), core.Running{RunID: run.ID, Token: run.Token, StartedAt: at(12)})) // late news of the first attempt
		if state := runByID(t, s, run.ID).State; state != core.RunClaimed {
			t.Errorf("the first attempt's news made the second %s", state)
		}
		run.Token = started.Token
		if finish(t, s, finishOf(&run, core.Succeeded)).Stale {
			t.Error("the new token was refused")
		}
		if _, next := claimed(t, s, &a, at(20), at(30)); !next.LastSuccess.Equal(at(11)) {
			t.Errorf("the next claim does not know the last success: %+v", next)
		}
		wantSound(t, s, "owner")
	})
}

func TestWhatWaitsCanBeCancelled(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		first, _ := claimed(t, s, &a, at(10), at(20))
		queued, _ := claimed(t, s, &a, at(20), at(30))
		f := finishOf(&first, core.Failed)
		f.RetryAt = at(60)
		first.Token = finish(t, s, f).Token
		for _, run := range []core.Run{queued, first} {
			f := finishOf(&run, core.Cancelled)
			f.StartedAt, f.Outcome.Message = time.Time{}, "cancelled by li"
			if finish(t, s, f).Stale {
				t.Errorf("not cancelled: %+v", run)
			}
			if row := runByID(t, s, run.ID); row.Verdict != core.Cancelled || row.Message != "cancelled by li" ||
				row.StartedAt.IsZero() != (run.ID == queued.ID) {
				t.Errorf("row %+v", row)
			}
		}
		if state := task(t, s, a.ID).State; state.Live != 0 || !state.LastStart.Equal(at(10)) {
			t.Errorf("state %+v", state)
		}
		wantSound(t, s)
	})
}

func TestAnAfterTaskGetsItsMarkFromTheEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run, _ := claimed(t, s, &a, at(10), time.Time{})
		f := finishOf(&run, core.Succeeded)
		f.NextFire, f.Version = at(60), a.Version
		finish(t, s, f)
		if next := task(t, s, a.ID).State.NextFire; !next.Equal(at(60)) {
			t.Errorf("next fire %v", next)
		}
		run, _ = claimed(t, s, &a, at(60), time.Time{})
		a.State.NextFire = at(500)
		a, err := s.UpdateTask(t.Context(), a)
		ok(t, err)
		f = finishOf(&run, core.Succeeded)
		f.NextFire, f.Version = at(70), a.Version-1
		finish(t, s, f)
		if next := task(t, s, a.ID).State.NextFire; !next.Equal(at(500)) {
			t.Errorf("an end of the old version moved the mark to %v", next)
		}
		run, _ = claimed(t, s, &a, at(500), time.Time{})
		skip := core.Skip{RunID: run.ID, TaskID: a.ID, Token: run.Token, Reason: core.ReasonUnknownType, DecidedAt: at(500),
			NextFire: at(600), Version: a.Version}
		if got, err := s.Skip(t.Context(), []core.Skip{skip}); err != nil || got[0].Stale {
			t.Errorf("skip: %+v, %v", got, err)
		}
		if next := task(t, s, a.ID).State.NextFire; !next.Equal(at(600)) {
			t.Errorf("a skip left the mark at %v", next)
		}
	})
}

func TestManualRunsNeverCollide(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		manual := func(alone bool) (core.Run, error) {
			run := newRun(&a, at(3), "me")
			run.Trigger, run.CreatedBy = core.TriggerManual, "li"
			return s.InsertManual(t.Context(), run, alone)
		}
		first, err := manual(true)
		ok(t, err)
		if !first.FireAt.Equal(at(3)) || first.Token != 1 || first.State != core.RunClaimed {
			t.Errorf("the first: %+v", first)
		}
		_, err = manual(true)
		wantKind(t, err, core.KindConflict, first.ID)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := manual(false); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		runs, err := s.Runs(t.Context(), core.RunFilter{TaskID: a.ID, LiveOnly: true})
		ok(t, err)
		seen := map[int64]bool{}
		for _, run := range runs {
			seen[run.FireAt.UnixMicro()-at(3).UnixMicro()] = true
			if run.CreatedBy != "li" || !run.FireThrough.Equal(run.FireAt) {
				t.Errorf("row %+v", run)
			}
		}
		if len(seen) != 21 || !seen[20] {
			t.Errorf("%d instants: %v", len(seen), seen)
		}
		gone := newTask("gone", at(10))
		_, err = s.InsertManual(t.Context(), newRun(&gone, at(3), "me"), false)
		wantKind(t, err, core.KindNotFound)
		wantSound(t, s, "owner")
	})
}

// TestAManualRunIsRefusedOnlyForWhatItWouldWaitFor: the rule of core.Admit, asked where the run is inserted.
func TestAManualRunIsRefusedOnlyForWhatItWouldWaitFor(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		rule := core.BreakerRule{Name: "downstream:his", Failures: 1, Cooldown: 30 * time.Second}
		other := created(t, s, "other")
		// tries admits a run of the other task past the breaker; what it gives has it fail, which opens the breaker for 30 s.
		tries := func(second, next int, probe ...string) (fails func()) {
			t.Helper()
			run := queuedRun(t, s, &other, at(second), at(next))
			ask := askFor(&run, at(second))
			ask.Breakers = []core.BreakerRule{rule}
			got := admit(t, s, ask)
			if !got.Start || !slices.Equal(got.Probe, probe) {
				t.Fatalf("at %d s: %+v", second, got)
			}
			run.Token = got.Token
			return func() {
				f := finishOf(&run, core.Failed)
				f.Breakers, f.EndedAt = []core.BreakerRule{rule}, at(second)
				finish(t, s, f)
			}
		}
		tries(10, 41)()
		a := created(t, s, "a")
		waits := queuedRun(t, s, &a, at(10), at(30))
		atBreaker := askFor(&waits, at(20))
		atBreaker.Overlap, atBreaker.Breakers = core.OverlapSkip, []core.BreakerRule{rule}
		manual := func(second int) (core.Run, error) {
			run := newRun(&a, at(second), "me")
			run.Trigger, run.State, run.StartAt = core.TriggerManual, core.RunQueued, at(second)
			return s.InsertManual(t.Context(), run, true)
		}
		goes := func(what string, second int) {
			t.Helper()
			run, err := manual(second)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if row := runByID(t, s, run.ID); row.State != core.RunQueued {
				t.Errorf("%s: %+v", what, row)
			}
			_, err = s.Skip(t.Context(), []core.Skip{{RunID: run.ID, TaskID: a.ID, Token: run.Token, Reason: core.ReasonShutdown, DecidedAt: at(second)}})
			ok(t, err)
		}
		refused := func(what string, second int) {
			t.Helper()
			_, err := manual(second)
			if err == nil {
				t.Errorf("%s: it is inserted", what)
			}
			wantKind(t, err, core.KindConflict, waits.ID)
		}
		goes("one whose start is yet to come", 9)
		refused("one that is about to ask", 12)
		if got := admit(t, s, atBreaker); got.Gate != core.GateBreaker {
			t.Fatalf("admitted %+v", got)
		}
		goes("one that waits at an open breaker", 25)
		refused("one that may try, for the cooldown is over", 40)
		fails := tries(41, 52, rule.Name)
		goes("one that waits at a half-open breaker, for another's probe", 45)
		fails()
		goes("one that waits at a breaker that has opened again", 50)
		ok(t, s.ResetBreaker(t.Context(), rule.Name))
		refused("one that waits at a breaker that is closed now", 51)
		tries(52, 100)()
		atBreaker.At = at(90)
		got := admit(t, s, atBreaker)
		if !slices.Equal(got.Probe, []string{rule.Name}) {
			t.Fatalf("admitted %+v", got)
		}
		refused("one that is the probe of a half-open breaker", 91)
		waits.Token = got.Token
		finish(t, s, finishOf(&waits, core.Succeeded))
		goes("nothing", 92)
		wantSound(t, s, "owner")
	})
}

func TestEndedRunsStayUntilTheyAreShipped(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		a.Policies.Overlap = core.OverlapAllow
		var ids []string
		for i := range 5 {
			run, _ := claimed(t, s, &a, at(10+i), at(11+i))
			ids = append(ids, run.ID)
			if i != 4 {
				finish(t, s, finishOf(&run, core.Succeeded))
			}
		}
		first, err := s.Ended(t.Context(), "", 3)
		ok(t, err)
		rest, err := s.Ended(t.Context(), first[2].ID, 3)
		ok(t, err)
		if len(first) != 3 || len(rest) != 1 || first[0].ID != ids[0] || rest[0].ID != ids[3] {
			t.Errorf("pages of %d and %d", len(first), len(rest))
		}
		ok(t, s.Shipped(t.Context(), ids)) // the live one stays
		runs, err := s.Runs(t.Context(), core.RunFilter{})
		ok(t, err)
		if len(runs) != 1 || runs[0].ID != ids[4] {
			t.Errorf("left over: %+v", runs)
		}
		wantSound(t, s, "owner")
	})
}

func TestRunsFilterNewestFirst(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a, b := created(t, s, "a"), created(t, s, "b")
		a.Policies.Overlap = core.OverlapAllow
		var ids []string
		for i := range 6 {
			run, _ := claimed(t, s, &a, at(10+i), at(11+i))
			ids = append(ids, run.ID)
			if i < 3 {
				finish(t, s, finishOf(&run, []core.Verdict{core.Succeeded, core.Failed, core.TimedOut}[i]))
			}
		}
		claimed(t, s, &b, at(10), at(20))
		for name, c := range map[string]struct {
			filter core.RunFilter
			want   int
		}{
			"all":       {core.RunFilter{}, 7},
			"invisible": {core.RunFilter{Namespaces: []string{}}, 0},
			"other":     {core.RunFilter{Namespaces: []string{"Other"}}, 0},
			"mine":      {core.RunFilter{Namespaces: []string{"Common"}}, 7},
			"task":      {core.RunFilter{TaskID: a.ID}, 6},
			"type":      {core.RunFilter{TaskType: "Common.KeepAlive"}, 7},
			"verdicts":  {core.RunFilter{Verdicts: []core.Verdict{core.Failed, core.TimedOut}}, 2},
			"live":      {core.RunFilter{LiveOnly: true}, 4},
			"from":      {core.RunFilter{TaskID: a.ID, From: at(12), To: at(14)}, 2},
			"before":    {core.RunFilter{BeforeID: ids[2]}, 2},
			"limit":     {core.RunFilter{Limit: 3}, 3},
		} {
			runs, err := s.Runs(t.Context(), c.filter)
			ok(t, err)
			if len(runs) != c.want {
				t.Errorf("%s: %d runs, want %d", name, len(runs), c.want)
			}
			if !slices.IsSortedFunc(runs, func(x, y core.Run) int { return strings.Compare(y.ID, x.ID) }) {
				t.Errorf("%s: not newest first", name)
			}
		}
		live, err := s.LiveRuns(t.Context(), "me")
		ok(t, err)
		if len(live) != 4 {
			t.Errorf("%d live runs", len(live))
		}
	})
}

func TestNoByteOfAnOutcomeFailsATransaction(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run, _ := claimed(t, s, &a, at(10), at(20))
		f := finishOf(&run, core.Failed)
		f.Outcome.Message = "nul \x00 half \xe4\xb8 " + strings.Repeat("长", 3000)
		f.Outcome.Output = []byte("\"\xff\x00\"")
		if finish(t, s, f).Stale {
			t.Error("refused")
		}
		got := runByID(t, s, run.ID)
		if !strings.HasPrefix(got.Message, "nul \uFFFD half \uFFFD 长") || len(got.Message) > 4096 || !strings.HasSuffix(got.Message, "长") {
			t.Errorf("message of %d bytes: %.40q", len(got.Message), got.Message)
		}
	})
}

// Promise 1: whoever asks, a fire is claimed once.
func TestFiresAreClaimedExactlyOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		stores := []*store.Store{s}
		if w.dialect == "postgres" {
			stores = append(stores, w.open(t), w.open(t))
			for i, each := range stores {
				ok(t, each.Register(t.Context(), fmt.Sprint("server", i), "host", time.Now().Add(time.Hour)))
			}
		}
		var tasks []core.Task
		for i := range 10 {
			tasks = append(tasks, created(t, s, fmt.Sprint("task", i)))
		}
		const rounds, callers = 20, 12
		var won atomic.Int64
		var met [rounds]sync.WaitGroup // all meet after each fire, so that every one is fought for
		for i := range met {
			met[i].Add(callers)
		}
		var wg sync.WaitGroup
		for g := range callers {
			wg.Go(func() {
				mine := stores[g%len(stores)]
				fight := func(round int) {
					claims := make([]core.Claim, len(tasks))
					for i := range claims {
						task := &tasks[(i+g)%len(tasks)] // each in its own order
						claims[i] = claimOf(task, at(10+round), at(11+round))
						claims[i].Runs[0].Owner = fmt.Sprint("server", g%len(stores))
					}
					got, err := mine.Claim(t.Context(), claims)
					if err != nil {
						t.Error(err)
						return
					}
					var ends []core.Finish
					for i := range got {
						if got[i].Won {
							won.Add(1)
							run := claims[i].Runs[0]
							run.Token = got[i].Token
							if got[i].Queued {
								started, err := mine.Admit(t.Context(), []core.Admission{{RunID: run.ID, TaskID: run.TaskID, Token: run.Token, Owner: run.Owner, At: run.StartAt,
									Overlap: core.OverlapAllow}})
								if err != nil || !started[0].Start {
									t.Errorf("start: %+v %v", started, err)
									continue
								}
								run.Token = started[0].Token
							}
							ends = append(ends, finishOf(&run, core.Succeeded))
						}
					}
					finished, err := mine.Finish(t.Context(), ends)
					if err != nil {
						t.Error(err)
						return
					}
					for _, f := range finished {
						if f.Stale {
							t.Error("the winner's token was stale")
						}
					}
				}
				for round := range rounds {
					fight(round)
					met[round].Done()
					met[round].Wait()
				}
			})
		}
		wg.Wait()
		if got := won.Load(); got != rounds*int64(len(tasks)) {
			t.Errorf("%d claims won, want %d", got, rounds*len(tasks))
		}
		wantSound(t, s)
		ended, err := s.Ended(t.Context(), "", 1000)
		ok(t, err)
		if len(ended) != rounds*len(tasks) {
			t.Errorf("%d rows", len(ended))
		}
	})
}

func TestAWithdrawnCallWritesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		opts := w.options()
		opts.GroupWait, opts.MaxBatch = 10*time.Second, 2 // the second call is waited for, and no longer
		s := opened(t, opts)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		wantKind(t, s.PutSetting(ctx, "a", "1"), core.KindUnavailable)
		ok(t, s.PutSetting(t.Context(), "b", "1"))
		_, err := s.Setting(t.Context(), "a")
		wantKind(t, err, core.KindNotFound)
		ok(t, s.Close())
		ok(t, s.Close())
		wantKind(t, s.PutSetting(t.Context(), "c", "1"), core.KindUnavailable, "closed")
	})
}

func TestConcurrentCallsShareATransaction(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		opts := w.options()
		opts.GroupWait = 50 * time.Millisecond
		s := opened(t, opts)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if err := s.PutSetting(t.Context(), fmt.Sprint(i), "1"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if stats := s.Stats(); stats.Requests != 50 || stats.Commits > 10 {
			t.Errorf("%+v", stats)
		}
	})
}
