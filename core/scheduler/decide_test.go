package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
)

var (
	noon  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	rules = scheduler.Rules{MissedAfter: 10 * time.Second}
)

func taskOf(t *testing.T, s core.Schedule, catchUp core.CatchUp) (*core.Task, *schedule.Schedule) {
	t.Helper()
	parsed, err := schedule.Parse(s, "t", nil)
	if err != nil {
		t.Fatal(err)
	}
	return &core.Task{
		ID: "id", Namespace: "Lab", Name: "t", Type: "Lab.Work", Version: 3, Params: []byte(`{"a":1}`), Schedule: s, Enabled: true,
		Policies: core.Policies{CatchUp: catchUp, Overlap: core.OverlapSkip},
	}, parsed
}

// row is what a decision says of one run.
type row struct {
	fire, through time.Time
	count         int
	trigger       core.Trigger
	start         time.Time // zero: skipped
	reason        core.Reason
}

func TestDecide(t *testing.T) {
	t.Parallel()
	utc := func(h, m, s int) time.Time { return time.Date(2026, 11, 20, h, m, s, 0, time.UTC) }
	newYork := func(spec, onGap string) core.Schedule {
		return core.Schedule{Spec: spec, Zone: "America/New_York", OnGap: onGap}
	}
	march := func(d, h, m int) time.Time { return time.Date(2026, 3, d, h, m, 0, 0, time.UTC) }
	every := core.Schedule{Spec: "@every 60s", Anchor: noon.Add(-time.Hour)}
	starts := func(at time.Time) row { return row{at, at, 1, core.TriggerSchedule, at, ""} }
	catches := func(at, now time.Time) row { return row{at, at, 1, core.TriggerCatchUp, now, ""} }
	skips := func(from, to time.Time, n int, reason core.Reason) row {
		return row{from, to, n, core.TriggerSchedule, time.Time{}, reason}
	}
	cases := map[string]struct {
		schedule  core.Schedule
		catchUp   core.CatchUp
		next, now time.Time
		rows      []row
		then      time.Time
	}{
		"AheadOfTime":       {every, core.CatchUpNone, noon, noon.Add(-200 * time.Millisecond), []row{starts(noon)}, utc(12, 1, 0)},
		"AtTheInstant":      {every, core.CatchUpNone, noon, noon, []row{starts(noon)}, utc(12, 1, 0)},
		"LateButNotMissed":  {every, core.CatchUpNone, noon, noon.Add(rules.MissedAfter), []row{starts(noon)}, utc(12, 1, 0)},
		"OneMissedNone":     {every, core.CatchUpNone, noon, utc(12, 0, 11), []row{skips(noon, noon, 1, core.ReasonCatchUp)}, utc(12, 1, 0)},
		"OneMissedLatest":   {every, core.CatchUpLatest, noon, utc(12, 0, 11), []row{catches(noon, utc(12, 0, 11))}, utc(12, 1, 0)},
		"ManyMissedNone":    {every, core.CatchUpNone, noon, utc(12, 9, 30), []row{skips(noon, utc(12, 9, 0), 10, core.ReasonCatchUp)}, utc(12, 10, 0)},
		"ManyMissedLatest":  {every, core.CatchUpLatest, noon, utc(12, 9, 30), []row{skips(noon, utc(12, 8, 0), 9, core.ReasonCatchUp), catches(utc(12, 9, 0), utc(12, 9, 30))}, utc(12, 10, 0)},
		"TwoMissedLatest":   {every, core.CatchUpLatest, noon, utc(12, 1, 0), []row{skips(noon, noon, 1, core.ReasonCatchUp), catches(utc(12, 1, 0), utc(12, 1, 0))}, utc(12, 2, 0)},
		"CronMissedLatest":  {core.Schedule{Spec: "0 * * * *"}, core.CatchUpLatest, utc(3, 0, 0), utc(7, 30, 0), []row{skips(utc(3, 0, 0), utc(6, 0, 0), 4, core.ReasonCatchUp), catches(utc(7, 0, 0), utc(7, 30, 0))}, utc(8, 0, 0)},
		"CronMissedNone":    {core.Schedule{Spec: "0 * * * *"}, core.CatchUpNone, utc(3, 0, 0), utc(7, 30, 0), []row{skips(utc(3, 0, 0), utc(7, 0, 0), 5, core.ReasonCatchUp)}, utc(8, 0, 0)},
		"AtInTime":          {core.Schedule{Spec: "@at 2026-11-20T12:00:00Z"}, core.CatchUpNone, noon, noon, []row{starts(noon)}, time.Time{}},
		"AtMissedLatest":    {core.Schedule{Spec: "@at 2026-11-20T12:00:00Z"}, core.CatchUpLatest, noon, utc(15, 0, 0), []row{catches(noon, utc(15, 0, 0))}, time.Time{}},
		"AtMissedNone":      {core.Schedule{Spec: "@at 2026-11-20T12:00:00Z"}, core.CatchUpNone, noon, utc(15, 0, 0), []row{skips(noon, noon, 1, core.ReasonCatchUp)}, time.Time{}},
		"ListMissedLatest":  {core.Schedule{Spec: "@list 2026-11-20T12:00:00Z 2026-11-20T13:00:00Z 2026-11-20T18:00:00Z"}, core.CatchUpLatest, noon, utc(15, 0, 0), []row{skips(noon, noon, 1, core.ReasonCatchUp), catches(utc(13, 0, 0), utc(15, 0, 0))}, utc(18, 0, 0)},
		"AfterInTime":       {core.Schedule{Spec: "@after 10m"}, core.CatchUpLatest, noon, noon, []row{starts(noon)}, time.Time{}},
		"AfterMissedLatest": {core.Schedule{Spec: "@after 10m"}, core.CatchUpLatest, noon, utc(15, 0, 0), []row{catches(noon, utc(15, 0, 0))}, time.Time{}},
		"AfterMissedNone":   {core.Schedule{Spec: "@after 10m"}, core.CatchUpNone, noon, utc(15, 0, 0), []row{skips(noon, noon, 1, core.ReasonCatchUp)}, utc(15, 10, 0)},

		// New York's clocks go from 02:00 EST to 03:00 EDT on 8 March 2026 at 07:00 UTC.
		"Nonexistent":                 {newYork("30 2 * * *", "skip"), core.CatchUpLatest, march(8, 7, 0), march(8, 7, 0), []row{skips(march(8, 7, 0), march(8, 7, 0), 1, core.ReasonNonexistent)}, march(9, 6, 30)},
		"MadeUpFor":                   {newYork("30 2 * * *", ""), core.CatchUpLatest, march(8, 7, 0), march(8, 7, 0), []row{starts(march(8, 7, 0))}, march(9, 6, 30)},
		"NonexistentMissedAlone":      {newYork("30 2 * * *", "skip"), core.CatchUpLatest, march(8, 7, 0), march(8, 20, 0), []row{skips(march(8, 7, 0), march(8, 7, 0), 1, core.ReasonNonexistent)}, march(9, 6, 30)},
		"NonexistentAmongMissed":      {newYork("30 2 * * *", "skip"), core.CatchUpLatest, march(7, 7, 30), march(9, 20, 0), []row{skips(march(7, 7, 30), march(8, 7, 0), 2, core.ReasonCatchUp), catches(march(9, 6, 30), march(9, 20, 0))}, march(10, 6, 30)},
		"NonexistentAfterLastMissed":  {newYork("30 2 * * *", "skip"), core.CatchUpLatest, march(7, 7, 30), march(8, 20, 0), []row{catches(march(7, 7, 30), march(8, 20, 0)), skips(march(8, 7, 0), march(8, 7, 0), 1, core.ReasonNonexistent)}, march(9, 6, 30)},
		"NonexistentAmongMissedNever": {newYork("30 2 * * *", "skip"), core.CatchUpNone, march(7, 7, 30), march(9, 20, 0), []row{skips(march(7, 7, 30), march(9, 6, 30), 3, core.ReasonCatchUp)}, march(10, 6, 30)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, sched := taskOf(t, c.schedule, c.catchUp)
			d := scheduler.Decide(task, sched, c.next, c.now, rules)
			if !d.Then.Equal(c.then) || d.Then.Location() != time.UTC {
				t.Errorf("then %s; want %s", d.Then, c.then)
			}
			if len(d.Runs) != len(c.rows) {
				t.Fatalf("runs %+v; want %d", d.Runs, len(c.rows))
			}
			for i, run := range d.Runs {
				wantRow(t, run, c.rows[i], c.now)
			}
		})
	}
}

func wantRow(t *testing.T, run core.Run, want row, now time.Time) {
	t.Helper()
	if !run.FireAt.Equal(want.fire) || !run.FireThrough.Equal(want.through) || run.FireCount != want.count || run.Trigger != want.trigger || run.Reason != want.reason {
		t.Errorf("run %s to %s, %d fires, %s, %q; want %+v", run.FireAt, run.FireThrough, run.FireCount, run.Trigger, run.Reason, want)
	}
	if run.TaskID != "id" || run.TaskVersion != 3 || run.Namespace != "Lab" || run.TaskName != "t" || run.TaskType != "Lab.Work" || !run.DecidedAt.Equal(now) || run.CreatedBy != "gnomon" {
		t.Errorf("run %+v does not say whose it is", run)
	}
	if want.start.IsZero() {
		if run.State != core.RunEnded || run.Verdict != core.Skipped || !run.EndedAt.Equal(now) || run.Params != nil || run.Attempt != 0 {
			t.Errorf("skipped run %+v", run)
		}
		return
	}
	if run.State != core.RunClaimed || run.Verdict != "" || !run.StartAt.Equal(want.start) || run.Attempt != 1 || string(run.Params) != `{"a":1}` {
		t.Errorf("starting run %+v; want it at %s", run, want.start)
	}
}

// TestDecideSaysWhatItWentBy: the facts of a skipped range.
func TestDecideSaysWhatItWentBy(t *testing.T) {
	t.Parallel()
	task, sched := taskOf(t, core.Schedule{Spec: "@every 60s", Anchor: noon}, core.CatchUpNone)
	d := scheduler.Decide(task, sched, noon, noon.Add(90*time.Second), rules)
	if facts := string(d.Runs[0].Facts); !strings.Contains(facts, `"policy":"none"`) || !strings.Contains(facts, `"late_seconds":90`) {
		t.Errorf("facts %s", facts)
	}
}

// TestALongOutageCostsOneDecision: 400 days, counted exactly, without walking through every fire.
func TestALongOutageCostsOneDecision(t *testing.T) {
	t.Parallel()
	now := noon.Add(400*24*time.Hour + 500*time.Millisecond)
	for name, s := range map[string]core.Schedule{
		"EverySecond":  {Spec: "@every 1s", Anchor: noon.Add(-time.Hour)},
		"CronMinutely": {Spec: "* * * * *"},
		"CronNewYork":  {Spec: "*/7 1-3 * * *", Zone: "America/New_York"},
		"CronSkipping": {Spec: "15,45 2 * * *", Zone: "America/New_York", OnGap: "skip"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, sched := taskOf(t, s, core.CatchUpLatest)
			first, _ := sched.Next(noon.Add(-time.Microsecond))
			began := time.Now()
			d := scheduler.Decide(task, sched, first.At.UTC(), now, rules)
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("the decision took %s; want less than 200 ms", took)
			}
			if len(d.Runs) != 2 {
				t.Fatalf("%d rows; want a skipped range and a catch-up", len(d.Runs))
			}
			skipped, caught := d.Runs[0], d.Runs[1]
			count, through := walk(t, sched, first.At, caught.FireAt, s.Spec == "@every 1s")
			if skipped.FireCount != count || !skipped.FireThrough.Equal(through) {
				t.Errorf("%d fires through %s; want %d through %s", skipped.FireCount, skipped.FireThrough, count, through)
			}
			if next, _ := sched.Next(caught.FireAt); next.At.Before(now) || !d.Then.Equal(next.At) {
				t.Errorf("caught up with %s, then %s; the one after is %s", caught.FireAt, d.Then, next.At)
			}
		})
	}
}

// walk counts fires from first up to and without end, one by one (or, for a plain rate, by dividing).
func walk(t *testing.T, sched *schedule.Schedule, first, end time.Time, everySecond bool) (count int, last time.Time) {
	t.Helper()
	if everySecond {
		return int(end.Sub(first) / time.Second), end.Add(-time.Second)
	}
	for at := first; at.Before(end); {
		count, last = count+1, at
		fire, ok := sched.Next(at)
		if !ok {
			t.Fatal("the schedule ended")
		}
		at = fire.At
	}
	return count, last
}
