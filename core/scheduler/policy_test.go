package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
)

// TestDecideByPolicy takes what is known from time alone: pauses, calendars, the number of runs, jitter, and fires missed
// in each of these situations. Noon of 2026-11-20 is a Friday's; the 21st is a Saturday and the 22nd a Sunday.
func TestDecideByPolicy(t *testing.T) {
	t.Parallel()
	day := func(d, h int) time.Time { return time.Date(2026, 11, d, h, 0, 0, 0, time.UTC) }
	minute := func(m int) time.Time { return noon.Add(time.Duration(m) * time.Minute) }
	every := core.Schedule{Spec: "@every 60s", Anchor: noon.Add(-time.Hour)}
	daily := func(onDayOff string) core.Schedule {
		return core.Schedule{Spec: "0 9 * * *", OnlyOn: []string{"weekdays"}, OnDayOff: onDayOff}
	}
	starts := func(at time.Time) row { return row{at, at, 1, core.TriggerSchedule, at, ""} }
	catches := func(at, start time.Time) row { return row{at, at, 1, core.TriggerCatchUp, start, ""} }
	skips := func(from, to time.Time, n int, reason core.Reason) row {
		return row{from, to, n, core.TriggerSchedule, time.Time{}, reason}
	}
	paused := func(since, until time.Time) core.Pause {
		return core.Pause{Since: since, Until: until, By: "ann", Note: "stocktaking"}
	}
	all := core.Policies{CatchUp: core.CatchUpAll, CatchUpWindow: 5 * time.Minute, CatchUpLimit: 3, CatchUpSpread: 10 * time.Second}
	around := core.Policies{CatchUp: core.CatchUpAll, CatchUpLimit: 3, CatchUpSpread: 10 * time.Second}
	cases := map[string]struct {
		schedule  core.Schedule
		policies  core.Policies
		pause     core.Pause
		fired     int64
		next, now time.Time
		rows      []row
		then      time.Time
	}{
		"Paused":                      {every, core.Policies{}, paused(noon.Add(-time.Minute), time.Time{}), 0, noon, noon, []row{skips(noon, noon, 1, core.ReasonPaused)}, minute(1)},
		"PausedUntilTheInstant":       {every, core.Policies{}, paused(noon.Add(-time.Minute), noon), 0, noon, noon, []row{starts(noon)}, minute(1)},
		"PausedFromLaterOn":           {every, core.Policies{}, paused(minute(1), time.Time{}), 0, noon, noon, []row{starts(noon)}, minute(1)},
		"MissedWhilePaused":           {every, core.Policies{}, paused(noon.Add(-time.Minute), time.Time{}), 0, noon, minute(9), []row{skips(noon, minute(9), 10, core.ReasonPaused)}, minute(10)},
		"MissedBeforeAPauseThatHolds": {every, core.Policies{}, paused(minute(5), time.Time{}), 0, noon, minute(9), []row{skips(noon, minute(9), 10, core.ReasonPaused)}, minute(10)},
		"MissedBeforeAPauseThatIsOver": {every, core.Policies{}, paused(minute(3), minute(5)), 0, noon, minute(9),
			[]row{skips(noon, minute(2), 3, core.ReasonCatchUp), skips(minute(3), minute(4), 2, core.ReasonPaused), skips(minute(5), minute(8), 4, core.ReasonCatchUp), catches(minute(9), minute(9))}, minute(10)},
		"MissedAfterThePause": {every, core.Policies{}, paused(noon.Add(-time.Minute), minute(5)), 0, noon, minute(9),
			[]row{skips(noon, minute(4), 5, core.ReasonPaused), skips(minute(5), minute(8), 4, core.ReasonCatchUp), catches(minute(9), minute(9))}, minute(10)},
		"MissedAroundAPauseNone": {every, core.Policies{CatchUp: core.CatchUpNone}, paused(minute(3), minute(5)), 0, noon, minute(9),
			[]row{skips(noon, minute(2), 3, core.ReasonCatchUp), skips(minute(3), minute(4), 2, core.ReasonPaused), skips(minute(5), minute(9), 5, core.ReasonCatchUp)}, minute(10)},
		"LatestIsBeforeThePause": {every, core.Policies{}, paused(minute(3), minute(9).Add(time.Second)), 0, noon, minute(9).Add(30 * time.Second),
			[]row{skips(noon, minute(1), 2, core.ReasonCatchUp), catches(minute(2), minute(9).Add(30*time.Second)), skips(minute(3), minute(9), 7, core.ReasonPaused)}, minute(10)},
		"AllAroundAPause": {every, around, paused(minute(3), minute(8)), 0, noon, minute(9),
			[]row{skips(noon, minute(1), 2, core.ReasonCatchUp), catches(minute(2), minute(9)), skips(minute(3), minute(7), 5, core.ReasonPaused), catches(minute(8), minute(9).Add(10*time.Second)), catches(minute(9), minute(9).Add(20*time.Second))}, minute(10)},
		"AllAfterAPause": {every, around, paused(minute(3), minute(5)), 0, noon, minute(9),
			[]row{skips(noon, minute(2), 3, core.ReasonCatchUp), skips(minute(3), minute(4), 2, core.ReasonPaused), skips(minute(5), minute(6), 2, core.ReasonCatchUp), catches(minute(7), minute(9)), catches(minute(8), minute(9).Add(10*time.Second)), catches(minute(9), minute(9).Add(20*time.Second))}, minute(10)},
		"WindowEndsInThePause": {every, all, paused(minute(3), minute(8)), 0, noon, minute(9), // the five minutes of all begin at 12:04
			[]row{skips(noon, minute(2), 3, core.ReasonCatchUp), skips(minute(3), minute(7), 5, core.ReasonPaused), catches(minute(8), minute(9)), catches(minute(9), minute(9).Add(10*time.Second))}, minute(10)},
		"MissedThroughAPauseOfNothing": {every, core.Policies{}, paused(minute(3).Add(time.Second), minute(3).Add(2*time.Second)), 0, noon, minute(9),
			[]row{skips(noon, minute(3), 4, core.ReasonCatchUp), skips(minute(4), minute(8), 5, core.ReasonCatchUp), catches(minute(9), minute(9))}, minute(10)},
		"MissedBeforeAPauseToCome": {every, core.Policies{}, paused(minute(20), time.Time{}), 0, noon, minute(9), []row{skips(noon, minute(8), 9, core.ReasonCatchUp), catches(minute(9), minute(9))}, minute(10)},
		"AfterMissedInAPause":      {core.Schedule{Spec: "@after 10m"}, core.Policies{}, paused(noon.Add(-time.Minute), minute(5)), 0, noon, minute(9), []row{skips(noon, noon, 1, core.ReasonPaused)}, minute(19)},
		"AfterMissedBeforeAPause":  {core.Schedule{Spec: "@after 10m"}, core.Policies{}, paused(minute(3), minute(5)), 0, noon, minute(9), []row{catches(noon, minute(9))}, time.Time{}},
		"AfterPaused":              {core.Schedule{Spec: "@after 10m"}, core.Policies{}, paused(noon.Add(-time.Minute), time.Time{}), 0, noon, noon, []row{skips(noon, noon, 1, core.ReasonPaused)}, minute(10)},

		"MaxRunsLeft":        {every, core.Policies{MaxRuns: 3}, core.Pause{}, 2, noon, noon, []row{starts(noon)}, minute(1)},
		"MaxRunsReached":     {every, core.Policies{MaxRuns: 3}, core.Pause{}, 3, noon, noon, []row{skips(noon, noon, 1, core.ReasonMaxRuns)}, time.Time{}},
		"MaxRunsCutsCatchUp": {every, core.Policies{MaxRuns: 4, CatchUp: core.CatchUpAll}, core.Pause{}, 2, noon, minute(9), []row{skips(noon, minute(7), 8, core.ReasonCatchUp), catches(minute(8), minute(9)), catches(minute(9), minute(9).Add(time.Second))}, minute(10)},

		"DayOff":                {daily(""), core.Policies{}, core.Pause{}, 0, day(21, 9), day(21, 9), []row{skips(day(21, 9), day(21, 9), 1, core.ReasonCalendar)}, day(22, 9)},
		"WorkingDay":            {daily(""), core.Policies{}, core.Pause{}, 0, day(20, 9), day(20, 9), []row{starts(day(20, 9))}, day(21, 9)},
		"MovedOn":               {daily("next"), core.Policies{}, core.Pause{}, 0, day(23, 9), day(23, 9), []row{starts(day(23, 9))}, day(24, 9)},
		"NothingFiresInBetween": {daily("next"), core.Policies{}, core.Pause{}, 0, day(20, 9), day(20, 9), []row{starts(day(20, 9))}, day(23, 9)},
		"MissedOverAWeekend":    {daily(""), core.Policies{}, core.Pause{}, 0, day(20, 9), day(23, 20), []row{skips(day(20, 9), day(22, 9), 3, core.ReasonCatchUp), catches(day(23, 9), day(23, 20))}, day(24, 9)},
		"OnlyDaysOffMissed":     {daily(""), core.Policies{}, core.Pause{}, 0, day(21, 9), day(22, 20), []row{skips(day(21, 9), day(22, 9), 2, core.ReasonCalendar)}, day(23, 9)},
		"LatestIsBeforeDaysOff": {daily(""), core.Policies{}, core.Pause{}, 0, day(20, 9), day(22, 20), []row{catches(day(20, 9), day(22, 20)), skips(day(21, 9), day(22, 9), 2, core.ReasonCalendar)}, day(23, 9)},
		"AllWithDaysOffBetween": {daily(""), core.Policies{CatchUp: core.CatchUpAll, CatchUpWindow: 240 * time.Hour}, core.Pause{}, 0, day(20, 9), day(23, 20),
			[]row{catches(day(20, 9), day(23, 20)), skips(day(21, 9), day(22, 9), 2, core.ReasonCalendar), catches(day(23, 9), day(23, 20).Add(time.Second))}, day(24, 9)},

		"AllWithinLimit":  {every, all, core.Pause{}, 0, noon, minute(1).Add(30 * time.Second), []row{catches(noon, minute(1).Add(30*time.Second)), catches(minute(1), minute(1).Add(40*time.Second))}, minute(2)},
		"AllBeyondLimit":  {every, all, core.Pause{}, 0, noon, minute(4), []row{skips(noon, minute(1), 2, core.ReasonCatchUp), catches(minute(2), minute(4)), catches(minute(3), minute(4).Add(10*time.Second)), catches(minute(4), minute(4).Add(20*time.Second))}, minute(5)},
		"AllBeyondWindow": {every, core.Policies{CatchUp: core.CatchUpAll, CatchUpWindow: 90 * time.Second}, core.Pause{}, 0, noon, minute(4), []row{skips(noon, minute(2), 3, core.ReasonCatchUp), catches(minute(3), minute(4)), catches(minute(4), minute(4).Add(time.Second))}, minute(5)},
	}
	calendars, problems := calendar.New(nil, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sched, err := schedule.Parse(c.schedule, "t", calendars)
			if err != nil {
				t.Fatal(err)
			}
			task := &core.Task{
				ID: "id", Namespace: "Lab", Name: "t", Type: "Lab.Work", Version: 3, Params: []byte(`{"a":1}`), Schedule: c.schedule, Enabled: true,
				Policies: c.policies, Pause: c.pause,
			}
			d := scheduler.Decide(task, sched, c.next, c.now, scheduler.Rules{MissedAfter: 10 * time.Second, Fired: c.fired})
			if !d.Then.Equal(c.then) {
				t.Errorf("then %s; want %s", d.Then, c.then)
			}
			if len(d.Runs) != len(c.rows) {
				t.Fatalf("runs %+v; want %d", d.Runs, len(c.rows))
			}
			started := 0
			for i, run := range d.Runs {
				wantRow(t, run, c.rows[i], c.now)
				if run.State != core.RunEnded {
					started++
				}
			}
			if d.Gated != (started > 1) {
				t.Errorf("gated is %v with %d runs that start", d.Gated, started)
			}
		})
	}
}

// TestAMarkThatIsNoFireAnyMoreFiresNothing: the calendars have changed since it was set.
func TestAMarkThatIsNoFireAnyMoreFiresNothing(t *testing.T) {
	t.Parallel()
	task, sched := taskOf(t, core.Schedule{Spec: "0 9 * * *"}, core.CatchUpLatest)
	mark := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	d := scheduler.Decide(task, sched, mark, mark, rules)
	if len(d.Runs) != 0 || !d.Then.Equal(mark.Add(23*time.Hour)) {
		t.Errorf("decided %+v", d)
	}
}

func TestAMovedFireSaysFromWhere(t *testing.T) {
	t.Parallel()
	calendars, _ := calendar.New(nil, nil)
	s := core.Schedule{Spec: "0 9 * * 6", OnlyOn: []string{"weekdays"}, OnDayOff: "next"}
	sched, err := schedule.Parse(s, "t", calendars)
	if err != nil {
		t.Fatal(err)
	}
	saturday := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	task := &core.Task{ID: "id", Name: "t", Schedule: s}
	monday := saturday.AddDate(0, 0, 2)
	d := scheduler.Decide(task, sched, monday, monday, rules)
	if len(d.Runs) != 1 || !d.Runs[0].MovedFrom.Equal(saturday) || !d.Runs[0].FireAt.Equal(monday) {
		t.Errorf("decided %+v; want Monday's run, moved from Saturday", d.Runs)
	}
}

func TestJitterMovesTheStartAndNotTheInstant(t *testing.T) {
	t.Parallel()
	s := core.Schedule{Spec: "0 * * * *", Jitter: 10 * time.Minute}
	task, sched := taskOf(t, s, core.CatchUpLatest)
	moved := 0
	for h := range 24 {
		at := time.Date(2026, 11, 20, h, 0, 0, 0, time.UTC)
		d := scheduler.Decide(task, sched, at, at, rules)
		run := d.Runs[0]
		if delay := run.StartAt.Sub(at); delay < 0 || delay >= 10*time.Minute || !run.FireAt.Equal(at) {
			t.Errorf("the fire at %s starts at %s", run.FireAt, run.StartAt)
		} else if delay > 0 {
			moved++
			if !d.Gated {
				t.Error("a run that starts later is not gated")
			}
		}
		if again := scheduler.Decide(task, sched, at, at.Add(time.Second), rules); !again.Runs[0].StartAt.Equal(run.StartAt) {
			t.Error("deciding again moves the start")
		}
	}
	if moved < 20 {
		t.Errorf("%d of 24 fires moved", moved)
	}
}

func TestAPausedFireSaysWhoAndWhy(t *testing.T) {
	t.Parallel()
	task, sched := taskOf(t, core.Schedule{Spec: "@every 60s", Anchor: noon.Add(-time.Hour)}, core.CatchUpLatest)
	task.Pause = core.Pause{Since: noon.Add(-time.Hour), Until: noon.Add(time.Hour), By: "ann", Note: "stocktaking"}
	facts := string(scheduler.Decide(task, sched, noon, noon, rules).Runs[0].Facts)
	for _, want := range []string{`"by":"ann"`, `"note":"stocktaking"`, `"since":"2026-11-20T11:00:00Z"`, `"until":"2026-11-20T13:00:00Z"`} {
		if !strings.Contains(facts, want) {
			t.Errorf("facts %s lack %s", facts, want)
		}
	}
}

// TestAClaimedFireThatWasMissedIsStillDue as the catch-up policy would have it, had nobody claimed it.
func TestAClaimedFireThatWasMissedIsStillDue(t *testing.T) {
	t.Parallel()
	hourly := core.Schedule{Spec: "@every 1h", Anchor: noon.Add(-1000 * time.Hour)}
	for name, c := range map[string]struct {
		schedule core.Schedule
		policies core.Policies
		late     time.Duration
		reason   core.Reason // "": it starts
	}{
		"NoneAndLate":             {hourly, core.Policies{CatchUp: core.CatchUpNone}, time.Minute, core.ReasonCatchUp},
		"TheLatestOfAll":          {hourly, core.Policies{}, 59 * time.Minute, ""},
		"ALaterWasMissedToo":      {hourly, core.Policies{}, 61 * time.Minute, core.ReasonCatchUp},
		"AfterMoreThanAYear":      {hourly, core.Policies{CatchUp: core.CatchUpLatest}, 400 * 24 * time.Hour, core.ReasonCatchUp},
		"AmongTheNewest":          {hourly, core.Policies{CatchUp: core.CatchUpAll, CatchUpLimit: 3}, 150 * time.Minute, ""},
		"NotAmongTheNewest":       {hourly, core.Policies{CatchUp: core.CatchUpAll, CatchUpLimit: 2}, 150 * time.Minute, core.ReasonCatchUp},
		"BeforeTheWindow":         {hourly, core.Policies{CatchUp: core.CatchUpAll, CatchUpWindow: time.Hour}, 150 * time.Minute, core.ReasonCatchUp},
		"TheLastThatWasAllowed":   {hourly, core.Policies{MaxRuns: 1}, 59 * time.Minute, ""},
		"TheScheduleWasChanged":   {core.Schedule{Spec: "30 3 * * *"}, core.Policies{CatchUp: core.CatchUpNone}, time.Minute, ""},
		"AfterTheEndOfTheLastRun": {core.Schedule{Spec: "@after 10m"}, core.Policies{CatchUp: core.CatchUpNone}, time.Hour, core.ReasonCatchUp},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, sched := taskOf(t, c.schedule, "")
			task.Policies = c.policies
			reason, facts, due := scheduler.StillDue(task, sched, noon, noon.Add(c.late), scheduler.Rules{Fired: 1})
			if reason != c.reason || due != (c.reason == "") {
				t.Errorf("%q, due %v", reason, due)
			}
			if !due && !strings.Contains(string(facts), `"late_seconds":`) {
				t.Errorf("facts %s", facts)
			}
		})
	}
}
