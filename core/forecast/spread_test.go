package forecast_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/forecast"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

func plan(t forecast.Task, s core.Schedule) (*schedule.Schedule, error) {
	days, _ := calendar.New(nil, nil)
	return schedule.Parse(s, t.Name, days)
}

// apply gives the input with the moves made.
func apply(t testing.TB, in forecast.Input, moves []forecast.Move) forecast.Input {
	t.Helper()
	in.Tasks = slices.Clone(in.Tasks)
	for _, m := range moves {
		i := slices.IndexFunc(in.Tasks, func(task forecast.Task) bool { return task.ID == m.Task.ID })
		if in.Tasks[i].Schedule.Spec != m.FromSpec {
			t.Fatalf("%s is %q, not %q", m.Task.Name, in.Tasks[i].Schedule.Spec, m.FromSpec)
		}
		in.Tasks[i].Schedule.Spec = m.ToSpec
		var err error
		if in.Tasks[i].Plan, err = plan(in.Tasks[i], in.Tasks[i].Schedule); err != nil {
			t.Fatal(err)
		}
	}
	return in
}

func TestSpreadRemovesTheFactorysCollisions(t *testing.T) {
	t.Parallel()
	in := input(manufacturing(t)...)
	for _, within := range []time.Duration{20 * time.Minute, 30 * time.Minute, 59 * time.Minute} {
		p := forecast.Spread(in, forecast.Rules{Within: within, Plan: plan})
		if p.Before.Starts != 9 || p.Before.Colliding != 182 || p.After.Starts != 1 || p.After.Colliding != 0 || len(p.Kept) != 0 {
			t.Errorf("within %v: from %+v to %+v, kept %v", within, p.Before, p.After, p.Kept)
		}
		after := forecast.Forecast(apply(t, in, p.Moves))
		if after.PeakStarts != 1 || len(after.Collisions) != 0 || after.Limits[0].Waiting != 0 {
			t.Errorf("within %v: after the moves %d start together, %d wait", within, after.PeakStarts, after.Limits[0].Waiting)
		}
		if before := forecast.Forecast(in); before.Fires != after.Fires {
			t.Errorf("%d fires became %d", before.Fires, after.Fires)
		}
		if len(p.Moves) > 14 {
			t.Errorf("%d of 34 schedules changed: more than need to be", len(p.Moves))
		}
		for _, m := range p.Moves {
			if m.By == 0 || m.By.Abs() > within || m.Why.Zh == "" || !strings.Contains(m.Why.En, "starts together with") {
				t.Errorf("%+v", m)
			}
			from, to := strings.Fields(m.FromSpec), strings.Fields(m.ToSpec)
			if !slices.Equal(from[1:], to[1:]) {
				t.Errorf("%s: only the minute may change: %q became %q", m.Task.Name, m.FromSpec, m.ToSpec)
			}
		}
	}
	// Ten minutes are not enough for all of them, but better than nothing.
	if p := forecast.Spread(in, forecast.Rules{Within: 10 * time.Minute}); p.After.Starts > 2 || p.After.Colliding > 30 {
		t.Errorf("%+v", p.After)
	}
}

func TestSpreadWritesEverySortOfMinute(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		schedule core.Schedule
		moved    string // how the same schedule looks a minute later; "" if it is not moved
		why      string
	}{
		"Hourly":        {core.Schedule{Spec: "0 * * * *"}, "1 * * * *", ""},
		"Daily":         {core.Schedule{Spec: "0 9 * * *"}, "1 9 * * *", ""},
		"Seconds":       {core.Schedule{Spec: "30 0 9 * * *"}, "30 1 9 * * *", ""},
		"Quartz":        {core.Schedule{Spec: "0 0 9 ? * MON-FRI", Dialect: "quartz"}, "0 1 9 ? * MON-FRI", ""},
		"QuartzYear":    {core.Schedule{Spec: "0 0 9 * * ? 2026", Dialect: "quartz"}, "0 1 9 * * ? 2026", ""},
		"Zone":          {core.Schedule{Spec: "CRON_TZ=Asia/Shanghai 0 9 * * *", Zone: shanghai}, "CRON_TZ=Asia/Shanghai 1 9 * * *", ""},
		"HourlyWord":    {core.Schedule{Spec: "@hourly", Zone: shanghai}, "1 * * * *", ""},
		"DailyWord":     {core.Schedule{Spec: "@daily", Zone: shanghai}, "1 0 * * *", ""},
		"Hours":         {core.Schedule{Spec: "0 9-17 * * *"}, "1 9-17 * * *", ""},
		"Every":         {core.Schedule{Spec: "@every 1h", Anchor: monday.Add(-time.Hour)}, "", "jitter"},
		"After":         {core.Schedule{Spec: "@after 3h"}, "", "@after"},
		"SeveralMinute": {core.Schedule{Spec: "0,30 * * * *"}, "", "more than one minute"},
		"Steps":         {core.Schedule{Spec: "*/15 * * * *"}, "", "more than one minute"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			subject := task(t, "subject", c.schedule)
			var tasks []forecast.Task
			for at := monday; at.Before(monday.Add(week)); at = at.Add(time.Hour) { // somebody is there whenever it fires
				tasks = append(tasks, task(t, "there-"+at.Format("0215"), core.Schedule{Spec: "@at " + at.Format(time.RFC3339)}))
			}
			in := input(append(tasks, subject)...)
			p := forecast.Spread(in, forecast.Rules{Within: 5 * time.Minute, Plan: plan, Namespaces: []string{"Factory"}})
			if c.moved == "" {
				i := slices.IndexFunc(p.Kept, func(k forecast.Kept) bool { return k.Task.Name == "subject" })
				if len(p.Moves) != 0 || i < 0 || !strings.Contains(p.Kept[i].Why.En, c.why) || p.Kept[i].Why.Zh == "" {
					t.Errorf("%+v", p)
				}
				return
			}
			if len(p.Moves) != 1 || p.Moves[0].ToSpec != c.moved || p.Moves[0].By != time.Minute {
				t.Errorf("%+v", p.Moves)
			}
		})
	}
}

func TestSpreadStaysInTheHour(t *testing.T) {
	t.Parallel()
	in := input(task(t, "a", core.Schedule{Spec: "59 9 * * *"}), task(t, "b", core.Schedule{Spec: "59 9 * * *"}),
		task(t, "c", core.Schedule{Spec: "0 17 * * *"}), task(t, "d", core.Schedule{Spec: "0 17 * * *"}),
		task(t, "e", core.Schedule{Spec: "0 * * * *"}, takes(40*time.Minute)))
	p := forecast.Spread(in, forecast.Rules{Within: 10 * time.Minute, Plan: plan})
	if p.After.Colliding != 0 {
		t.Errorf("%+v", p.After)
	}
	for _, m := range p.Moves {
		if fields := strings.Fields(m.ToSpec); strings.Fields(m.FromSpec)[1] != fields[1] {
			t.Errorf("%+v", m)
		}
	}
}

func TestSpreadLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	foreign := func(t *forecast.Task) { t.Namespace = "Other" }
	in := input(task(t, "theirs", core.Schedule{Spec: "0 9 * * *"}, foreign), task(t, "kept", core.Schedule{Spec: "0 9 * * *"}),
		task(t, "ours", core.Schedule{Spec: "0 9 * * *"}), task(t, "spread", core.Schedule{Spec: "0 9 * * *", Jitter: time.Second}),
		task(t, "minutely", core.Schedule{Spec: "* * * * *"}))
	p := forecast.Spread(in, forecast.Rules{Within: time.Hour, Namespaces: []string{"Factory"}, Keep: func(t forecast.Task) bool { return t.Name == "kept" }, Plan: plan})
	if len(p.Moves) != 1 || p.Moves[0].Task.Name != "ours" || p.Moves[0].ToSpec != "1 9 * * *" || len(p.Kept) != 3 {
		t.Errorf("%+v", p)
	}
	if p := forecast.Spread(in, forecast.Rules{Plan: plan}); len(p.Moves) != 0 {
		t.Errorf("no time to move in: %+v", p.Moves)
	}
}

func TestSpreadKeepsTheOrder(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "load", core.Schedule{Spec: "0 3 * * *"}), task(t, "other", core.Schedule{Spec: "0 3 * * *"}), task(t, "third", core.Schedule{Spec: "0 3 * * *"}),
		task(t, "report", core.Schedule{Spec: "5 3 * * *"}), task(t, "also", core.Schedule{Spec: "5 3 * * *"}),
	)
	in.Order = []forecast.Order{{Before: "id-load", After: "id-report", Gap: 4 * time.Minute}, {Before: "id-other", After: "id-also", Gap: 30 * time.Minute}, {Before: "gone", After: "id-also"}}
	p := forecast.Spread(in, forecast.Rules{Within: 30 * time.Minute, Plan: plan})
	if p.After.Colliding != 0 {
		t.Errorf("%+v", p)
	}
	by := map[string]time.Duration{}
	for _, m := range p.Moves {
		by[m.Task.Name] = m.By
	}
	if 5*time.Minute+by["report"]-by["load"] < 4*time.Minute || by["also"] < by["other"] {
		t.Errorf("%v", by)
	}
}

// TestSpreadRefusesWhatACalendarWouldTurnAround: a window of the day that a moved fire would fall out of.
func TestSpreadRefusesWhatACalendarWouldTurnAround(t *testing.T) {
	t.Parallel()
	night, _ := calendar.New([]core.Calendar{{Name: "night", Weekdays: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, Times: []core.DayTime{{From: "02:00", To: "03:01"}}}}, nil)
	with := func(t forecast.Task, s core.Schedule) (*schedule.Schedule, error) {
		return schedule.Parse(s, t.Name, night)
	}
	s := core.Schedule{Spec: "0 3 * * *", Zone: shanghai, OnlyOn: []string{"night"}}
	in := input(task(t, "other", core.Schedule{Spec: "0 3 * * *"}, func(t *forecast.Task) { t.Namespace = "Other" }))
	own, err := with(forecast.Task{Name: "own"}, s)
	if err != nil {
		t.Fatal(err)
	}
	in.Tasks = append(in.Tasks, forecast.Task{ID: "own", Namespace: "Factory", Name: "own", Schedule: s, Plan: own})
	p := forecast.Spread(in, forecast.Rules{Within: 20 * time.Minute, Namespaces: []string{"Factory"}, Plan: with})
	if len(p.Moves) != 0 || len(p.Kept) != 2 {
		t.Errorf("%+v", p)
	}
}

// by has a task end by a local time of day.
func by(clock string) func(*forecast.Task) {
	return func(t *forecast.Task) { t.FinishBy = clock }
}

// TestSpreadHoldsFinishBy: whoever is moved is expected to end by the moment by which he had to where he stood.
func TestSpreadHoldsFinishBy(t *testing.T) {
	t.Parallel()
	at := func(spec string) core.Schedule { return core.Schedule{Spec: spec} }
	elsewhere := func(t *forecast.Task) { t.Namespace = "Other" }
	for name, c := range map[string]struct {
		tasks  []forecast.Task
		within time.Duration
		moved  []string // name and new schedule
		kept   string   // of our own: why
	}{
		"NotPastIt": {[]forecast.Task{
			task(t, "a", at("30 4 * * *"), by("04:31")), task(t, "b", at("30 4 * * *"), by("04:31")), task(t, "c", at("30 4 * * *"), by("04:31")), task(t, "d", at("30 4 * * *"), by("04:31")),
		}, 30 * time.Minute, []string{"a 29 4 * * *", "b 28 4 * * *", "c 27 4 * * *"}, ""},
		"NotSoThatItEndsPastIt": {[]forecast.Task{
			task(t, "long", at("0 4 * * *"), by("04:31"), takes(30*time.Minute)), task(t, "there", at("0 4 * * *"), elsewhere), task(t, "next", at("1 4 * * *"), elsewhere),
		}, 30 * time.Minute, nil, "that keeps sla.finish_by 04:31 of long"},
		"UpToIt": {[]forecast.Task{
			task(t, "long", at("0 4 * * *"), by("04:31"), takes(30*time.Minute)), task(t, "there", at("0 4 * * *"), elsewhere),
		}, 30 * time.Minute, []string{"long 1 4 * * *"}, ""},
		"NotBeforeThatOfTheDayBefore": {[]forecast.Task{
			task(t, "late", at("32 4 * * *"), by("04:31")), task(t, "there", at("32 4 * * *"), elsewhere), task(t, "next", at("33 4 * * *"), elsewhere),
		}, time.Minute, nil, "finish_by 04:31 of late"},
		"InTimeAgainIfItIsLate": {[]forecast.Task{
			task(t, "slow", at("30 4 * * *"), by("04:31"), takes(2*time.Minute)), task(t, "there", at("30 4 * * *"), elsewhere),
		}, 30 * time.Minute, []string{"slow 29 4 * * *"}, ""},
		"OfWhatItBrings": {[]forecast.Task{
			task(t, "first", at("5 4 * * *"), takes(10*time.Minute)), task(t, "then", core.Schedule{Spec: "@manual", Zone: shanghai}, after("first"), by("04:16"), takes(time.Minute)),
			task(t, "there", at("5 4 * * *"), elsewhere),
		}, 30 * time.Minute, []string{"first 4 4 * * *"}, ""},
		"OfAStepByTheInstantOfItsWorkflow": {[]forecast.Task{ // the step starts after 04:31, which is its deadline of the next day, had it an instant of its own
			task(t, "flow", at("29 4 * * *"), takes(5*time.Minute), steps(forecast.Step{Task: "id-one"}, forecast.Step{Task: "id-two", Needs: []int{0}})),
			task(t, "one", manual, takes(3*time.Minute)), task(t, "two", core.Schedule{Spec: "@manual", Zone: shanghai}, by("04:31")), task(t, "there", at("29 4 * * *"), elsewhere),
		}, 30 * time.Minute, []string{"flow 27 4 * * *"}, ""},
		"FreeWithoutIt": {[]forecast.Task{
			task(t, "late", at("32 4 * * *")), task(t, "there", at("32 4 * * *"), elsewhere),
		}, time.Minute, []string{"late 33 4 * * *"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := forecast.Spread(input(c.tasks...), forecast.Rules{Within: c.within, Plan: plan, Namespaces: []string{"Factory"}})
			var moved []string
			for _, m := range p.Moves {
				moved = append(moved, m.Task.Name+" "+m.ToSpec)
			}
			if !slices.Equal(moved, c.moved) {
				t.Errorf("moved %q, want %q; kept %+v", moved, c.moved, p.Kept)
			}
			i := slices.IndexFunc(p.Kept, func(k forecast.Kept) bool { return k.Task.Namespace == "Factory" })
			if c.kept != "" && (i < 0 || !strings.Contains(p.Kept[i].Why.En, c.kept) || !strings.Contains(p.Kept[i].Why.Zh, "sla.finish_by")) {
				t.Errorf("kept %+v", p.Kept)
			}
		})
	}
}

// TestSpreadKeepsTheLastFireOfAWindow, though it comes long after the week that is looked at.
func TestSpreadKeepsTheLastFireOfAWindow(t *testing.T) {
	t.Parallel()
	until := monday.Add(30*24*time.Hour + 9*time.Hour + time.Minute) // its fire of nine o'clock is the last
	in := input(task(t, "own", core.Schedule{Spec: "0 9 * * *", Until: until}), task(t, "there", core.Schedule{Spec: "0 9 * * *"}, func(t *forecast.Task) { t.Namespace = "Other" }))
	p := forecast.Spread(in, forecast.Rules{Within: 20 * time.Minute, Namespaces: []string{"Factory"}, Plan: plan})
	if len(p.Moves) != 0 {
		t.Errorf("%+v: its last fire is lost", p.Moves)
	}
	in.Tasks[0] = task(t, "own", core.Schedule{Spec: "30 9 * * *", Until: until.Add(30 * time.Minute)})
	in.Tasks[1] = task(t, "there", core.Schedule{Spec: "30 9 * * *"}, func(t *forecast.Task) { t.Namespace = "Other" })
	p = forecast.Spread(in, forecast.Rules{Within: 20 * time.Minute, Namespaces: []string{"Factory"}, Plan: plan})
	if len(p.Moves) != 1 || p.Moves[0].ToSpec != "29 9 * * *" {
		t.Errorf("%+v", p)
	}
}

// TestSpreadNeverMakesItWorse holds for any tasks: fires stay, nobody leaves his hour or misses what he has to be done by, fewer
// collide, and twice the same question has the same answer.
func TestSpreadNeverMakesItWorse(t *testing.T) {
	t.Parallel()
	for seed := range uint64(90) {
		r, tied := rand.New(rand.NewPCG(seed, 9)), seed >= 60
		var tasks []forecast.Task
		for i := range 5 + r.IntN(60) {
			spec := fmt.Sprintf("%d %d * * *", 15*r.IntN(4), 8+r.IntN(3))
			switch r.IntN(4) {
			case 0:
				spec = fmt.Sprintf("%d * * * *", 30*r.IntN(2))
			case 1:
				spec = fmt.Sprintf("%d %d * * 1-5", 10*r.IntN(6), r.IntN(24))
			}
			tasks = append(tasks, task(t, fmt.Sprintf("t%02d", i), core.Schedule{Spec: spec}, takes(time.Duration(1+r.IntN(900))*time.Second), func(t *forecast.Task) {
				if tied && r.IntN(3) == 0 {
					t.FinishBy = fmt.Sprintf("%02d:%02d", r.IntN(24), 5*r.IntN(12))
				}
			}))
		}
		in := input(tasks...)
		rules := forecast.Rules{Within: time.Duration(1+r.IntN(40)) * time.Minute, Plan: plan}
		p := forecast.Spread(in, rules)
		if !reflect.DeepEqual(p, forecast.Spread(in, rules)) {
			t.Fatalf("seed %d: two answers to one question", seed)
		}
		for _, m := range p.Moves {
			of := in.Tasks[slices.IndexFunc(in.Tasks, func(t forecast.Task) bool { return t.ID == m.Task.ID })]
			due := func(at time.Time) (due time.Time) { // Shanghai sets no clocks
				for due, _ = time.ParseInLocation("2006-01-02 15:04", at.Format("2006-01-02 ")+of.FinishBy, at.Location()); due.Before(at); {
					due = due.AddDate(0, 0, 1)
				}
				return due
			}
			for at := monday; of.FinishBy != ""; {
				fire, ok := of.Plan.Next(at)
				if at = fire.At; !ok || at.After(in.To) {
					break
				}
				if moved := at.Add(m.By); !due(moved).Equal(due(at)) || moved.Add(of.Usual.P50).After(due(at)) {
					t.Errorf("seed %d: %s by %s is moved from %v to %v and takes %v", seed, m.Task.Name, of.FinishBy, at, moved, of.Usual.P50)
				}
			}
		}
		before, after := forecast.Forecast(in), forecast.Forecast(apply(t, in, p.Moves))
		if before.Fires != after.Fires || after.PeakStarts > before.PeakStarts || !tied && p.After.Colliding > p.Before.Colliding { // who may not move far takes few neighbours often for many at once
			t.Errorf("seed %d: %d fires became %d, %d at once became %d, %d minutes became %d", seed, before.Fires, after.Fires,
				before.PeakStarts, after.PeakStarts, p.Before.Colliding, p.After.Colliding)
		}
		if p.After.Starts != after.PeakStarts {
			t.Errorf("seed %d: promised %d at once, it is %d", seed, p.After.Starts, after.PeakStarts)
		}
	}
}
