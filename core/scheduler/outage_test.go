package scheduler_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
)

// TestAfterAnOutageEachTaskDoesWhatItsPolicySays takes outages of a minute, a day and 400 days, tasks that fire each
// second, minute, day and year, and every catch-up policy, and compares what is decided with the instants as plain
// arithmetic gives them.
func TestAfterAnOutageEachTaskDoesWhatItsPolicySays(t *testing.T) {
	t.Parallel()
	began := time.Date(2025, 12, 31, 23, 59, 30, 0, time.UTC) // the last moment anybody decided
	outages := map[string]time.Duration{"Minute": time.Minute, "Day": 24 * time.Hour, "400Days": 400 * 24 * time.Hour}
	specs := map[string]struct {
		spec    string
		instant func(t time.Time) time.Time // the last one at or before t
		step    func(t time.Time) time.Time // the one before an instant
	}{
		"Second": {"* * * * * *", func(t time.Time) time.Time { return t.Truncate(time.Second) }, func(t time.Time) time.Time { return t.Add(-time.Second) }},
		"Minute": {"* * * * *", func(t time.Time) time.Time { return t.Truncate(time.Minute) }, func(t time.Time) time.Time { return t.Add(-time.Minute) }},
		"Daily": {"0 3 * * *", func(t time.Time) time.Time { return t.Add(-3 * time.Hour).Truncate(24 * time.Hour).Add(3 * time.Hour) },
			func(t time.Time) time.Time { return t.AddDate(0, 0, -1) }},
		"Yearly": {"0 0 1 1 *", func(t time.Time) time.Time { return time.Date(t.Year(), 1, 1, 0, 0, 0, 0, time.UTC) },
			func(t time.Time) time.Time { return t.AddDate(-1, 0, 0) }},
	}
	policies := map[string]core.Policies{
		"None":        {CatchUp: core.CatchUpNone},
		"Latest":      {CatchUp: core.CatchUpLatest},
		"Default":     {},
		"All":         {CatchUp: core.CatchUpAll},
		"AllOfAnHour": {CatchUp: core.CatchUpAll, CatchUpWindow: time.Hour, CatchUpLimit: 7, CatchUpSpread: 20 * time.Second},
		"AllOf500Days": {CatchUp: core.CatchUpAll, CatchUpWindow: 500 * 24 * time.Hour, CatchUpLimit: core.MaxCatchUpLimit,
			CatchUpSpread: 100 * time.Millisecond},
	}
	for outage, length := range outages {
		for often, s := range specs {
			for policy, p := range policies {
				t.Run(fmt.Sprintf("%s/%s/%s", outage, often, policy), func(t *testing.T) {
					t.Parallel()
					task := &core.Task{ID: "t", Name: "t", Version: 1, Enabled: true, Schedule: core.Schedule{Spec: s.spec}, Policies: p}
					sched, err := schedule.Parse(task.Schedule, task.Name, nil)
					if err != nil {
						t.Fatal(err)
					}
					now := began.Add(length + 250*time.Millisecond)
					first, ok := sched.Next(began)
					if !ok || first.At.After(now) {
						return // nothing was missed
					}
					d := scheduler.Decide(task, sched, first.At.UTC(), now, scheduler.Rules{MissedAfter: 10 * time.Second})

					// What is wanted: the newest instants within window and limit, newest first.
					limit, window := 1, length+time.Hour
					switch p.CatchUp {
					case core.CatchUpNone:
						limit = 0
					case core.CatchUpAll:
						limit, window = core.DefaultCatchUpLimit, core.DefaultCatchUpWindow
						if p.CatchUpLimit > 0 {
							limit, window = p.CatchUpLimit, p.CatchUpWindow
						}
					}
					var wanted []time.Time
					for at := s.instant(now); len(wanted) < limit && at.After(began) && !at.Before(now.Add(-window)); at = s.step(at) {
						wanted = append(wanted, at)
					}
					inTime := now.Sub(first.At) <= 10*time.Second // a fire that is hardly late was not missed
					if inTime {
						wanted = []time.Time{first.At.UTC()}
					}

					var started []core.Run
					covered, through := 0, began
					for _, run := range d.Runs {
						if !run.FireAt.After(through) || run.FireThrough.Before(run.FireAt) {
							t.Fatalf("the row from %s through %s does not follow %s", run.FireAt, run.FireThrough, through)
						}
						covered, through = covered+run.FireCount, run.FireThrough
						if run.State != core.RunEnded {
							started = append(started, run)
						} else if run.Reason != core.ReasonCatchUp {
							t.Errorf("%s is skipped for %q", run.FireAt, run.Reason)
						}
					}
					if len(started) != len(wanted) {
						t.Fatalf("%d runs start; want %d", len(started), len(wanted))
					}
					spread := core.DefaultCatchUpSpread
					if p.CatchUpSpread > 0 {
						spread = p.CatchUpSpread
					}
					for i, run := range started {
						if want := wanted[len(wanted)-1-i]; !run.FireAt.Equal(want) {
							t.Errorf("run %d is for %s; want %s", i, run.FireAt, want)
						}
						if i > 0 && run.StartAt.Sub(started[i-1].StartAt) < spread {
							t.Errorf("run %d starts %s after the one before; the policy says %s", i, run.StartAt.Sub(started[i-1].StartAt), spread)
						}
					}
					if len(started) > 1 && !d.Gated {
						t.Error("runs that start later than now are not gated: a crash would take them for started")
					}
					if inTime {
						return
					}
					if total := int(sched.Count(began, now)); covered != total {
						t.Errorf("%d instants are decided; %d were missed", covered, total)
					}
					if last := s.instant(now); !through.Equal(last) {
						t.Errorf("decided through %s; the last instant missed is %s", through, last)
					}
					if then, _ := sched.Next(now); !d.Then.Equal(then.At) {
						t.Errorf("goes on at %s; want %s", d.Then, then.At)
					}
					if rows := limit + 1; len(d.Runs) > rows {
						t.Errorf("%d rows for an outage; at most %d are needed", len(d.Runs), rows)
					}
				})
			}
		}
	}
}

// TestALongOutageCostsNoMoreMemoryThanAShortOne counts what is allocated, which no other work on the machine changes.
func TestALongOutageCostsNoMoreMemoryThanAShortOne(t *testing.T) {
	began := time.Date(2025, 12, 31, 23, 59, 30, 0, time.UTC)
	for _, policy := range []core.CatchUp{core.CatchUpNone, core.CatchUpLatest, core.CatchUpAll} {
		task := &core.Task{ID: "t", Name: "t", Version: 1, Enabled: true, Schedule: core.Schedule{Spec: "* * * * * *"}, Policies: core.Policies{CatchUp: policy}}
		sched, err := schedule.Parse(task.Schedule, task.Name, nil)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := sched.Next(began)
		bytes := func(length time.Duration) float64 {
			const times = 50
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range times {
				if d := scheduler.Decide(task, sched, first.At, began.Add(length), scheduler.Rules{MissedAfter: 10 * time.Second}); len(d.Runs) == 0 {
					t.Fatal("nothing was decided")
				}
			}
			runtime.ReadMemStats(&after)
			return float64(after.TotalAlloc-before.TotalAlloc) / times
		}
		bytes(time.Hour)
		if day, long := bytes(24*time.Hour), bytes(400*24*time.Hour); long > 1.5*day {
			t.Errorf("catch_up %s: a day of missed seconds allocates %.0f bytes, 400 days %.0f", policy, day, long)
		}
	}
}
