package ledger_test

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

func of(versions ...core.Task) ledger.History {
	return ledger.History{Versions: versions, Plan: plan}
}

func seq(rows []core.Run) iter.Seq2[core.Run, error] {
	return func(yield func(core.Run, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func reconcile(t *testing.T, h ledger.History, from, to string, rows []core.Run) ledger.Result {
	t.Helper()
	slices.SortStableFunc(rows, func(a, b core.Run) int { return a.FireAt.Compare(b.FireAt) })
	result, err := ledger.Reconcile(h, at(from), at(to), seq(rows))
	if err != nil {
		t.Fatal(err)
	}
	if result.Expected != result.Decided+result.Missing {
		t.Errorf("expected %d, but %d decided and %d missing", result.Expected, result.Decided, result.Missing)
	}
	return result
}

// fire is the row of one instant.
func fire(instant time.Time, n int, version int64) core.Run {
	return core.Run{ID: fmt.Sprintf("run-%06d", n), TaskID: taskID, TaskVersion: version, Trigger: core.TriggerSchedule, FireAt: instant,
		FireThrough: instant, FireCount: 1, State: core.RunEnded, Verdict: core.Succeeded}
}

// world is a made-up history of a task with the rows of a scheduler that made no mistake.
type world struct {
	h        ledger.History
	rows     []core.Run
	from, to time.Time
}

var specs = []core.Schedule{
	{Spec: "* * * * *"},
	{Spec: "*/7 * * * *", Zone: "America/New_York"},
	{Spec: "30 2 * * *", Zone: "America/New_York"},
	{Spec: "30 2 * * *", Zone: "America/New_York", OnGap: "skip"},
	{Spec: "15,45 * * * * *"},
	{Spec: "@every 95s"},
	{Spec: "@every 20m"},
	{Spec: "0 9 * * *", Zone: "Asia/Shanghai", OnlyOn: []string{"cn-workdays"}},
	{Spec: "0 */3 * * *", Zone: "Asia/Shanghai", OnlyOn: []string{"cn-workdays"}, OnDayOff: "next"},
	{Spec: "0 9 * * *", Zone: "Asia/Shanghai", NotOn: []string{"freeze"}, OnDayOff: "previous"},
	{Spec: "@manual"},
}

// newWorld is made without the code under test: versions and rows are walked by Next alone.
func newWorld(r *rand.Rand) world {
	start := at("2026-10-30 00:00").Add(time.Duration(r.IntN(86400)) * time.Second)
	w := world{from: start.Add(-time.Hour), to: start.Add(time.Duration(6+r.IntN(36)) * time.Hour)}
	w.h.Plan = plan
	task := report()
	task.Schedule = specs[r.IntN(len(specs))]
	task.Schedule.Anchor = start
	task.CreatedAt, task.UpdatedAt = start, start
	n := 0
	for held := start; held.Before(w.to); {
		task.UpdatedAt = held
		w.h.Versions = append(w.h.Versions, task)
		until := held.Add(time.Duration(r.Int64N(int64(36 * time.Hour)))).Truncate(time.Microsecond)
		if r.IntN(3) == 0 {
			until = w.to.Add(time.Hour)
		}
		sched, err := plan(task)
		if err != nil {
			panic(err)
		}
		var instants []time.Time
		for t := held; task.Enabled && sched.Kind() != schedule.Manual; {
			f, ok := sched.Next(t)
			if !ok || f.At.After(until) || !f.At.Before(w.to) {
				break
			}
			t = f.At
			instants = append(instants, f.At.UTC())
		}
		for i := 0; i < len(instants); {
			row := fire(instants[i], n, task.Version)
			k := 1
			switch r.IntN(12) {
			case 0: // an outage: one row over several
				k = min(1+r.IntN(9), len(instants)-i)
				row.Reason, row.Verdict, row.FireThrough, row.FireCount = core.ReasonCatchUp, core.Skipped, instants[i+k-1], k
			case 1:
				row.Reason, row.Verdict = core.ReasonPaused, core.Skipped
			case 2:
				row.State, row.Verdict = core.RunWaiting, ""
			}
			w.rows = append(w.rows, row)
			i += k
			n++
		}
		if r.IntN(4) == 0 { // of other series, and by hand: no business of the ledger's schedule
			other := fire(held.Add(time.Minute), 900000+n, task.Version)
			if other.Trigger = core.TriggerManual; r.IntN(2) == 0 {
				other.Trigger, other.Series = core.TriggerBackfill, "backfill:1"
			}
			w.rows = append(w.rows, other)
		}
		task.Version++
		task.Enabled = !task.Enabled || r.IntN(4) > 0
		if r.IntN(2) == 0 {
			task.Schedule = specs[r.IntN(len(specs))]
			task.Schedule.Anchor = until
		}
		held = until
	}
	slices.SortStableFunc(w.rows, func(a, b core.Run) int { return a.FireAt.Compare(b.FireAt) })
	return w
}

func (w world) reconcile(t *testing.T, rows []core.Run) ledger.Result {
	t.Helper()
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b core.Run) int { return a.FireAt.Compare(b.FireAt) })
	result, err := ledger.Reconcile(w.h, w.from, w.to, seq(rows))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// nearEdit says whether a row lies where either version may decide.
func (w world) nearEdit(r core.Run) bool {
	for _, v := range w.h.Versions {
		if d := r.FireAt.Sub(v.UpdatedAt); d.Abs() <= 2*ledger.Slack {
			return true
		}
		if !v.UpdatedAt.Before(r.FireAt.Add(-2*ledger.Slack)) && !v.UpdatedAt.After(r.FireThrough.Add(2*ledger.Slack)) {
			return true
		}
	}
	return false
}

// TestReconcileFindsAnySingleMistake: a faultless ledger balances, and no row of it can be removed, written twice or
// shifted without being noticed.
func TestReconcileFindsAnySingleMistake(t *testing.T) {
	t.Parallel()
	removed, doubled, shifted := 0, 0, 0
	for seed := range uint64(80) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(r)
		if result := w.reconcile(t, w.rows); !result.Balanced() {
			t.Fatalf("seed %d: a faultless ledger does not balance: %+v", seed, result)
		}
		for range 10 {
			if len(w.rows) == 0 {
				break
			}
			i := r.IntN(len(w.rows))
			row := w.rows[i]
			if row.Series != "" || row.Trigger == core.TriggerManual || w.nearEdit(row) {
				continue
			}
			without := slices.Delete(slices.Clone(w.rows), i, i+1)
			if result := w.reconcile(t, without); result.Missing != int64(row.FireCount) || !slices.ContainsFunc(result.MissingList, row.FireAt.Equal) {
				t.Fatalf("seed %d: removed %s (%d instants) at %v: %+v", seed, row.ID, row.FireCount, row.FireAt, result)
			}
			removed++
			again := row
			again.ID = "again"
			if result := w.reconcile(t, append(slices.Clone(w.rows), again)); result.Doubled != int64(row.FireCount) || result.Missing != 0 {
				t.Fatalf("seed %d: doubled %s at %v: %+v", seed, row.ID, row.FireAt, result)
			}
			doubled++
			by := []time.Duration{-time.Minute, -time.Second, -time.Microsecond, time.Microsecond, time.Second, 7 * time.Minute}[r.IntN(6)]
			row.FireAt, row.FireThrough = row.FireAt.Add(by), row.FireThrough.Add(by)
			if row.FireAt.Before(w.from) || !row.FireThrough.Before(w.to) || w.nearEdit(row) {
				continue
			}
			if result := w.reconcile(t, append(slices.Clone(without), row)); result.Balanced() {
				t.Fatalf("seed %d: shifted %s by %v to %v and not found: %+v", seed, row.ID, by, row.FireAt, result)
			}
			shifted++
		}
	}
	if removed < 200 || doubled < 200 || shifted < 200 {
		t.Errorf("too little was tried: %d removed, %d doubled, %d shifted", removed, doubled, shifted)
	}
}

func TestReconcileCountsWhatWasDecided(t *testing.T) {
	t.Parallel()
	task := report(func(t *core.Task) { t.Schedule.Spec = "0 * * * *" })
	var rows []core.Run
	for n := range 24 {
		rows = append(rows, fire(at("2026-11-20 00:00").Add(time.Duration(n)*time.Hour), n, 1))
	}
	rows[3].Verdict, rows[3].Reason = core.Skipped, core.ReasonOverlap
	rows[4].Verdict, rows[4].Reason, rows[4].FireThrough, rows[4].FireCount = core.Skipped, core.ReasonCatchUp, rows[7].FireAt, 4
	rows = slices.Delete(rows, 5, 8)
	rows = append(rows, rows[0], fire(at("2026-11-20 10:30"), 77, 1)) // the first has been shipped: store and history have it
	r := reconcile(t, of(task), "2026-11-20 00:00", "2026-11-21 00:00", rows)
	if r.Expected != 24 || r.Decided != 24 || r.Started != 19 || r.Skipped[core.ReasonOverlap] != 1 || r.Skipped[core.ReasonCatchUp] != 4 ||
		r.Doubled != 0 || r.Missing != 0 || r.Unexpected != 1 || r.Odd[0].RunID != "run-000077" {
		t.Errorf("%+v", r)
	}
	for name, count := range map[string]int{"TooFew": 3, "TooMany": 5} {
		rows[4].FireCount = count
		if r := reconcile(t, of(task), "2026-11-20 00:00", "2026-11-21 00:00", slices.Clone(rows)); r.Miscounted != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestReconcileClipsARangeThatReachesOver(t *testing.T) {
	t.Parallel()
	task := report(func(t *core.Task) { t.Schedule.Spec = "0 * * * *" })
	outage := fire(at("2026-11-18 05:00"), 1, 1)
	outage.Verdict, outage.Reason, outage.FireThrough, outage.FireCount = core.Skipped, core.ReasonCatchUp, at("2026-11-22 08:00"), 100
	r := reconcile(t, of(task), "2026-11-20 00:00", "2026-11-21 00:00", []core.Run{outage})
	if r.Expected != 24 || r.Decided != 24 || !r.Balanced() {
		t.Errorf("%+v", r)
	}
}

// TestReconcileEditRacingWithAnInstant: fires are claimed before their instant, and an edit may come in between.
func TestReconcileEditRacingWithAnInstant(t *testing.T) {
	t.Parallel()
	v1 := report(func(t *core.Task) { t.Schedule.Spec = "0 * * * *" })
	for _, when := range []string{"2026-11-20 09:59:59.9", "2026-11-20 10:00:00", "2026-11-20 10:00:00.05"} {
		v2 := edited(v1, when, func(t *core.Task) { t.Schedule.Spec = "30 * * * *" })
		rows := []core.Run{fire(at("2026-11-20 09:00"), 1, 1), fire(at("2026-11-20 10:30"), 3, 2)}
		for _, both := range [][]core.Run{rows, append(slices.Clone(rows), fire(at("2026-11-20 10:00"), 2, 1))} {
			if r := reconcile(t, of(v1, v2), "2026-11-20 08:30", "2026-11-20 11:00", both); !r.Balanced() || r.Expected < 2 {
				t.Errorf("edited at %s: %+v", when, r)
			}
		}
	}
	// Two seconds later nothing excuses it.
	v2 := edited(v1, "2026-11-20 10:00:02", func(t *core.Task) { t.Schedule.Spec = "30 * * * *" })
	if r := reconcile(t, of(v1, v2), "2026-11-20 09:30", "2026-11-20 11:00", []core.Run{fire(at("2026-11-20 10:30"), 3, 2)}); r.Missing != 1 {
		t.Errorf("%+v", r)
	}
}

func TestReconcileNothingIsRetroactive(t *testing.T) {
	t.Parallel()
	v1 := report(func(t *core.Task) {
		t.CreatedAt, t.UpdatedAt, t.Schedule.Spec = at("2026-11-20 09:30"), at("2026-11-20 09:30"), "0 * * * *"
	})
	v2 := edited(v1, "2026-11-20 12:30", func(t *core.Task) { t.Enabled = false })
	v3 := edited(v2, "2026-11-20 15:30", func(t *core.Task) { t.Enabled = true })
	h := of(v3, v1, v2, v3)
	h.Deleted = at("2026-11-20 17:30")
	instants, more := ledger.Expected(h, at("2026-11-20 00:00"), at("2026-11-21 00:00"), 10)
	var hours []int
	for _, i := range instants {
		hours = append(hours, i.At.Add(8*time.Hour).Hour())
	}
	if !slices.Equal(hours, []int{10, 11, 12, 16, 17}) || more {
		t.Errorf("%v", hours)
	}
	if some, more := ledger.Expected(h, at("2026-11-20 00:00"), at("2026-11-21 00:00"), 2); len(some) != 2 || !more {
		t.Errorf("%v %v", some, more)
	}
}

func TestReconcileAfterTheLastRunThereIsNoMore(t *testing.T) {
	t.Parallel()
	for _, reason := range []core.Reason{core.ReasonMaxRuns, core.ReasonPoisoned} {
		v1 := report(func(t *core.Task) { t.Schedule.Spec = "0 * * * *" })
		v2 := edited(v1, "2026-11-20 05:30", func(t *core.Task) { t.Policies.MaxRuns = 9 })
		end := fire(at("2026-11-20 02:00"), 3, 1)
		end.Verdict, end.Reason = core.Skipped, reason
		rows := []core.Run{fire(at("2026-11-20 00:00"), 1, 1), fire(at("2026-11-20 01:00"), 2, 1), end, fire(at("2026-11-20 06:00"), 4, 2)}
		if r := reconcile(t, of(v1, v2), "2026-11-20 00:00", "2026-11-20 07:00", rows); !r.Balanced() || r.Expected != 4 {
			t.Errorf("%s: %+v", reason, r)
		}
		if r := reconcile(t, of(v1, v2), "2026-11-20 00:00", "2026-11-20 07:00", rows[:3]); r.Missing != 1 {
			t.Errorf("%s: after the edit it fires again: %+v", reason, r)
		}
		if r := reconcile(t, of(v1), "2026-11-21 00:00", "2026-11-22 00:00", []core.Run{end}); !r.Balanced() || r.Expected != 0 {
			t.Errorf("%s: it came on the day before: %+v", reason, r)
		}
	}
}

func TestReconcileAfterTasksExpectNothingOfTime(t *testing.T) {
	t.Parallel()
	task := report(func(t *core.Task) { t.Schedule.Spec = "@after 10m" })
	rows := []core.Run{fire(at("2026-11-20 00:00"), 1, 1), fire(at("2026-11-20 00:11"), 2, 1)}
	if r := reconcile(t, of(task), "2026-11-20 00:00", "2026-11-21 00:00", rows); !r.Balanced() || r.Expected != 2 || r.Started != 2 {
		t.Errorf("%+v", r)
	}
	again := rows[1]
	again.ID = "again"
	if r := reconcile(t, of(task), "2026-11-20 00:00", "2026-11-21 00:00", append(rows, again)); r.Doubled != 1 {
		t.Errorf("%+v", r)
	}
}

// TestReconcileTakesLiveRowsInBetween: what is not in history yet comes out of the store, all at once.
func TestReconcileTakesLiveRowsInBetween(t *testing.T) {
	t.Parallel()
	task := report(func(t *core.Task) { t.Schedule.Spec = "0 * * * *" })
	r := ledger.NewReconciler(of(task), at("2026-11-20 00:00"), at("2026-11-20 06:00"))
	var rows []core.Run
	for n := range 6 {
		rows = append(rows, fire(at("2026-11-20 00:00").Add(time.Duration(n)*time.Hour), n, 1))
	}
	r.Live([]core.Run{rows[5], rows[0], rows[2], rows[3]})
	for _, i := range []int{1, 3, 4} { // the third is in both: it has just been shipped
		if err := r.Add(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if result := r.End(); !result.Balanced() || result.Decided != 6 {
		t.Errorf("%+v", result)
	}
}

func TestReconcileChangedCalendarsJudgeNobody(t *testing.T) {
	t.Parallel()
	task := report(func(t *core.Task) { t.Schedule.OnlyOn, t.Schedule.OnDayOff = []string{"cn-workdays"}, "next" })
	h := of(task)
	rows := []core.Run{fire(at("2026-11-14 09:00"), 1, 1)} // a Saturday that was a working day then
	if r := reconcile(t, h, "2026-11-14 00:00", "2026-11-15 00:00", rows); r.Unexpected != 1 {
		t.Errorf("%+v", r)
	}
	h.Recalendared = at("2026-11-18 00:00")
	if r := reconcile(t, h, "2026-11-14 00:00", "2026-11-15 00:00", rows); !r.Balanced() || r.Unjudged != 1 {
		t.Errorf("%+v", r)
	}
}

func TestReconcileSaysWhatItCannotRead(t *testing.T) {
	t.Parallel()
	task := report(func(t *core.Task) { t.Schedule.Spec = "no such thing" })
	if r := reconcile(t, of(task), "2026-11-14 00:00", "2026-11-15 00:00", nil); len(r.Unreadable) != 1 || r.Expected != 0 {
		t.Errorf("%+v", r)
	}
	rows := []core.Run{fire(at("2026-11-14 09:00"), 1, 1), fire(at("2026-11-13 09:00"), 2, 1)}
	if _, err := ledger.Reconcile(of(report()), at("2026-11-10 00:00"), at("2026-11-15 00:00"), seq(rows)); core.KindOf(err) != core.KindInvalid {
		t.Errorf("rows out of order: %v", err)
	}
	broken := errors.New("store gone")
	_, err := ledger.Reconcile(of(report()), at("2026-11-10 00:00"), at("2026-11-15 00:00"), func(yield func(core.Run, error) bool) { yield(core.Run{}, broken) })
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// secondTask gives a day of a task of every second, row by row.
func secondTask(from time.Time) (ledger.History, iter.Seq2[core.Run, error]) {
	task := report(func(t *core.Task) { t.Schedule.Spec = "* * * * * *" })
	return of(task), func(yield func(core.Run, error) bool) {
		r := fire(from, 0, 1)
		for n := range 86400 {
			r.ID = string([]byte{byte(n >> 16), byte(n >> 8), byte(n)})
			r.FireAt = from.Add(time.Duration(n) * time.Second)
			r.FireThrough = r.FireAt
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestReconcileADayOfASecondTask(t *testing.T) {
	t.Parallel()
	h, rows := secondTask(at("2026-11-19 00:00"))
	r, err := ledger.Reconcile(h, at("2026-11-19 00:00"), at("2026-11-20 00:00"), rows)
	if err != nil || !r.Balanced() || r.Started != 86400 {
		t.Errorf("%+v %v", r, err)
	}
}

func BenchmarkReconcileADayOfASecondTask(b *testing.B) {
	h, rows := secondTask(at("2026-11-19 00:00"))
	b.ReportAllocs()
	for b.Loop() {
		if r, err := ledger.Reconcile(h, at("2026-11-19 00:00"), at("2026-11-20 00:00"), rows); err != nil || r.Started != 86400 {
			b.Fatal(r, err)
		}
	}
}
