package main

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

// hourlyJobs are the six that the inventory has at every full hour.
var hourlyJobs = []string{
	"calculate-progress-summary", "calculate-project-health", "check-overdue-issues", "check-task-deadline-reminder", "check-task-delay-alerts", "check-work-report-timeout",
}

// chains of the demo: each is begun after what it waits for has ended, as far as its precondition goes.
var waitsFor = map[string][]string{
	"alert-delivery":                 {"check-overdue-issues", "check-blocking-issues", "check-task-delay-alerts", "check-work-report-timeout", "check-task-deadline-reminder"},
	"check-milestone-risk-alerts":    {"check-milestone-alerts"},
	"generate-shortage-alerts":       {"daily-kit-check"},
	"check-issue-timeout-escalation": {"check-timeout-issues"},
}

func TestTheForecastShowsTheCollisionAndTheSpreadRemovesIt(t *testing.T) {
	t.Parallel()
	f := newFactory(t)
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		waitUntil(ctx, local("10-12 00:30"))
		f.open(t)
		defer f.close(t)
		f.apply(t)
		waitUntil(ctx, local("10-13 00:30")) // a day of which durations are known
		defined, err := readFolder(demo)
		if err != nil {
			t.Fatal(err)
		}

		ask := url.Values{"namespace": {"Manufacturing"}, "days": {"7"}, "bucket": {"1m"}}
		var before, after api.Forecast
		f.ask(t, http.MethodGet, "/v1/forecast", ask, nil, &before)
		wantTheCollision(t, before)

		var spread api.Spread
		f.ask(t, http.MethodPost, "/v1/namespaces/Manufacturing/forecast/spread", nil, api.SpreadRequest{Within: "30m", Apply: true}, &spread)
		if !spread.Applied || spread.Before.PeakFires != 9 || spread.After.PeakFires != 1 || spread.After.Colliding != 0 || len(spread.Kept) != 0 {
			t.Errorf("the spread: %+v to %+v, kept %+v", spread.Before, spread.After, spread.Kept)
		}
		for _, p := range spread.Proposals {
			if by, err := time.ParseDuration(p.MovedBy); p.Problem != "" || err != nil || by.Abs() > 30*time.Minute || p.Why.Zh == "" || p.Why.En == "" {
				t.Errorf("%+v", p)
			}
			if got := f.task(t, p.TaskName).Schedule.Spec; got != p.ToSpec {
				t.Errorf("%s has %q after the spread, not %q", p.TaskName, got, p.ToSpec)
			}
		}

		f.ask(t, http.MethodGet, "/v1/forecast", ask, nil, &after)
		if len(after.Collisions) != 0 || after.Fires != before.Fires || after.Peak >= before.Peak {
			t.Errorf("after the spread %d fires, not %d; %d at once, not %d; collisions %+v", after.Fires, before.Fires, after.Peak, before.Peak, after.Collisions)
		}
		for _, g := range after.Groups {
			if g.Name == "pool:erp" && g.Waiting > 0 {
				t.Errorf("%d runs still wait for %s", g.Waiting, g.Name)
			}
		}
		t.Logf("%d schedules moved: %d minutes of the week in which several start became %d, at most %d starts became %d",
			len(spread.Proposals), spread.Before.Colliding, spread.After.Colliding, spread.Before.PeakFires, spread.After.PeakFires)

		waitUntil(ctx, local("10-15 00:30"))
		f.wantOrder(t, local("10-13 01:00"), local("10-15 00:00"), duties(t, defined))
	})
}

// wantTheCollision looks for the full hours of the inventory.
func wantTheCollision(t *testing.T, f api.Forecast) {
	t.Helper()
	names := func(c api.Collision) (list []string) {
		for _, task := range c.Tasks {
			list = append(list, task.TaskName)
		}
		slices.Sort(list)
		return list
	}
	i := slices.IndexFunc(f.Collisions, func(c api.Collision) bool { return slices.Equal(names(c), hourlyJobs) })
	if i < 0 {
		t.Fatalf("no collision of the six hourly jobs: %+v", f.Collisions)
	}
	// Alone at the full hour they are where no daily job stands: 17 to 24, noon and one o'clock.
	if c := f.Collisions[i]; c.At.Minute() != 0 || c.Starts != 6 || c.Times < 7*9 || c.Tasks[0].Expected == "" {
		t.Errorf("the hourly jobs start together %d times, %d of them, first at %v", c.Times, c.Starts, c.At)
	}
	worst := slices.MaxFunc(f.Collisions, func(a, b api.Collision) int { return a.Starts - b.Starts })
	if worst.Starts != 9 || worst.At.In(shanghai).Hour() != 9 || worst.At.Minute() != 0 {
		t.Errorf("%d start at %v; the fullest minute is nine o'clock with nine", worst.Starts, worst.At)
	}
	if i := slices.IndexFunc(f.Groups, func(g api.Load) bool { return g.Name == "pool:erp" }); i < 0 || f.Groups[i].Waiting == 0 || f.Groups[i].Peak != 9 {
		t.Errorf("the pool of four slots in the forecast: %+v", f.Groups)
	}
}

// wantOrder looks at what happened under the spread schedules: no two begin in one minute, all fire as often as before, and
// what waits for others still begins after them.
func (f *factory) wantOrder(t *testing.T, from, to time.Time, all []duty) {
	t.Helper()
	rows, minutes, n := map[string][]core.Run{}, map[int64]string{}, 0
	for _, r := range f.rows(t) {
		if r.Series != "" || r.FireAt.Before(from.Add(-time.Hour)) || !r.FireAt.Before(to) {
			continue
		}
		rows[r.TaskName] = append(rows[r.TaskName], r)
		if minute := r.FireAt.Unix() / 60; !r.FireAt.Before(from) && r.Verdict != core.Skipped {
			if other := minutes[minute]; other != "" {
				t.Errorf("%s and %s both fire at %s", other, r.TaskName, r.FireAt.In(shanghai))
			}
			minutes[minute] = r.TaskName
			n++
		}
		if r.Verdict == core.Skipped && r.Reason != core.ReasonCalendar {
			t.Errorf("%s at %s was skipped: %s", r.TaskName, r.FireAt.In(shanghai), r.Reason)
		}
	}
	for i := range all {
		got, want := 0, len(all[i].instants(from, to, nil))
		for _, r := range rows[all[i].name] {
			if !r.FireAt.Before(from) {
				got++
			}
		}
		if got < want-1 || got > want+1 { // a move over the full hour takes one in or out at the edges
			t.Errorf("%s fired %d times in two days; by the inventory %d", all[i].name, got, want)
		}
	}
	pairs := 0
	for name, befores := range waitsFor {
		for _, r := range rows[name] {
			if r.FireAt.Before(from) || r.Verdict == core.Skipped {
				continue
			}
			for _, before := range befores {
				var last core.Run
				for _, b := range rows[before] {
					if b.FireAt.Before(r.FireAt) {
						last = b
					}
				}
				if last.ID == "" || last.EndedAt.After(r.StartedAt) || r.FireAt.Sub(last.FireAt) >= time.Hour+time.Minute {
					t.Errorf("%s at %s began at %s; %s of %s ended at %s", name, r.FireAt.In(shanghai), r.StartedAt.In(shanghai), before, last.FireAt.In(shanghai), last.EndedAt.In(shanghai))
				}
				pairs++
			}
		}
	}
	if n < 2*180 || pairs < 2*23*5 {
		t.Errorf("%d fires and %d pairs in two days", n, pairs)
	}
	t.Logf("after the spread %d fires in two days, no two in one minute; %d times something began after what it waits for", n, pairs)
}
