package forecast_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/forecast"
)

// limited gives a task max_runs of which its schedule has started some, with the mark at an instant; nil: there is none.
func limited(most int, fired int64, mark time.Time) func(*forecast.Task) {
	return func(t *forecast.Task) { t.MaxRuns, t.Fired, t.Next = most, fired, mark }
}

func TestForecastEndsWithMaxRuns(t *testing.T) {
	t.Parallel()
	paused := func(t *forecast.Task) {
		t.Pause = core.Pause{Since: monday.Add(-time.Hour), Until: monday.Add(36 * time.Hour), By: "li"}
	}
	often, day := core.Schedule{Spec: "*/5 * * * * *"}, core.Schedule{Spec: "0 9 * * *"}
	nine := monday.Add(9 * time.Hour)
	for name, c := range map[string]struct {
		task  forecast.Task
		from  time.Duration // after monday
		fires int64
		last  time.Duration // of those listed
	}{
		"NoneLeft":           {task(t, "t", often, limited(2, 2, monday)), 0, 0, 0},
		"NoneLeftAndSaid":    {task(t, "t", often, limited(2, 2, time.Time{})), 0, 0, 0},
		"LessThanStarted":    {task(t, "t", often, limited(2, 7, monday)), 0, 0, 0}, // max_runs was lowered
		"TwoLeft":            {task(t, "t", often, limited(2, 0, monday)), 0, 2, 5 * time.Second},
		"InABegunMinute":     {task(t, "t", often, limited(4, 2, monday.Add(40*time.Second))), 38 * time.Second, 2, 45 * time.Second},
		"ManyLeft":           {task(t, "t", often, limited(100_100, 100, monday)), 0, 100_000, 99_999 * 5 * time.Second},
		"Daily":              {task(t, "t", day, limited(2, 0, nine)), 0, 2, 33 * time.Hour},
		"MoreThanCome":       {task(t, "t", day, limited(9, 1, nine)), 0, 7, 153 * time.Hour},
		"UsedUpBefore":       {task(t, "t", day, limited(2, 0, nine)), 48 * time.Hour, 0, 0},
		"OneIsBefore":        {task(t, "t", day, limited(2, 0, nine)), 24 * time.Hour, 1, 33 * time.Hour},
		"CalendarsTakeNone":  {task(t, "t", core.Schedule{Spec: "0 9 * * *", NotOn: []string{"cn-workdays"}}, limited(1, 0, nine)), 0, 1, 129 * time.Hour},
		"PausesTakeNone":     {task(t, "t", day, limited(2, 0, nine), paused), 0, 2, 81 * time.Hour},
		"PausedOften":        {task(t, "t", often, limited(2, 0, monday), paused), 0, 2, 36*time.Hour + 5*time.Second},
		"PausedAndManyLeft":  {task(t, "t", often, limited(50_000, 0, monday), paused), 0, 50_000, 36*time.Hour + 49_999*5*time.Second},
		"Jitter":             {task(t, "t", core.Schedule{Spec: "0 9 * * *", Jitter: time.Second}, limited(2, 0, nine)), 0, 2, 33 * time.Hour},
		"FixedRate":          {task(t, "t", core.Schedule{Spec: "@every 10m", Anchor: monday}, limited(3, 0, monday)), 0, 3, 30 * time.Minute},
		"FixedDelay":         {task(t, "t", core.Schedule{Spec: "@after 40s"}, limited(3, 1, monday)), 0, 2, time.Minute},
		"FixedDelayRunning":  {task(t, "t", core.Schedule{Spec: "@after 40s"}, limited(3, 3, time.Time{})), 0, 0, 0},
		"FixedDelayUsedUp":   {task(t, "t", core.Schedule{Spec: "@after 40s"}, limited(3, 0, monday)), time.Hour, 0, 0},
		"FixedDelayPaused":   {task(t, "t", core.Schedule{Spec: "@after 40s"}, limited(3, 1, monday), paused), 0, 2, 36*time.Hour + time.Minute},
		"FixedDelayManyLeft": {task(t, "t", core.Schedule{Spec: "@after 3s"}, takes(2*time.Second), limited(90_000, 0, monday)), 0, 90_000, 89_999 * 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := input(c.task)
			in.From, in.List = monday.Add(c.from), 200_000
			r := forecast.Forecast(in)
			if n := int64(len(r.Listed)); r.Fires != c.fires || n != c.fires || r.More != 0 {
				t.Fatalf("%d fires, %d listed, %d more; want %d", r.Fires, n, r.More, c.fires)
			}
			inBuckets := int64(0)
			for _, b := range r.Buckets {
				inBuckets += b.Fires
			}
			if off := r.Fires - inBuckets; off < 0 || off > 168 { // a counted @after is spread evenly over the buckets
				t.Errorf("buckets hold %d fires, the whole %d", inBuckets, r.Fires)
			}
			if used := name != "MoreThanCome"; (r.UsedUp == 1) != used {
				t.Errorf("%d used up", r.UsedUp)
			}
			if c.fires == 0 {
				return
			}
			if last := r.Listed[c.fires-1].At.Sub(monday); last != c.last && last != c.last+c.task.Schedule.Jitter {
				t.Errorf("the last comes after %v, not %v", last, c.last)
			}
			if got := len(r.ByTask[0].Next); got != int(min(3, c.fires)) {
				t.Errorf("%d next fires", got)
			}
		})
	}
}

// TestForecastMaxRunsBindTheScheduleOnly: what others bring comes all the same, and is brought by what is left.
func TestForecastMaxRunsBindTheScheduleOnly(t *testing.T) {
	t.Parallel()
	nine := monday.Add(9 * time.Hour)
	in := input(
		task(t, "fa", core.Schedule{Spec: "0 9 * * *"}, takes(time.Minute), limited(2, 0, nine)),
		task(t, "fb", core.Schedule{Spec: "0 9 * * *"}, takes(time.Minute), limited(1, 1, nine), after("fa")),
		task(t, "flow", core.Schedule{Spec: "0 12 * * *"}, limited(5, 4, monday.Add(12*time.Hour)), steps(forecast.Step{Task: "id-fb"})),
		task(t, "all", core.Schedule{Spec: "0 9 * * *"}),
	)
	in.List, in.To = 20, monday.Add(72*time.Hour)
	r := forecast.Forecast(in)
	wantLines(t, listed(r), "9h0m0s all 20s", "9h0m0s fa 1m0s", "9h1m0s fb 1m0s by fa", "12h0m0s fb 1m0s by flow's step", "12h0m0s flow 20s",
		"33h0m0s all 20s", "33h0m0s fa 1m0s", "33h1m0s fb 1m0s by fa", "57h0m0s all 20s")
	if len(r.Collisions) != 1 || r.Collisions[0].Times != 2 || r.Collisions[0].Starts != 2 || r.UsedUp != 3 {
		t.Errorf("%+v, %d used up", r.Collisions, r.UsedUp)
	}
}

// TestForecastOfARunThatWasTheLast: what it brings is still to come.
func TestForecastOfARunThatWasTheLast(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "fa", core.Schedule{Spec: "0 23 * * *"}, takes(90*time.Minute), limited(2, 2, monday.Add(23*time.Hour))),
		task(t, "fb", manual, after("fa")),
	)
	in.List = 10
	wantLines(t, listed(forecast.Forecast(in)), "30m0s fb 20s by fa")
}

// TestForecastMaxRunsAgainstASimpleOne holds what is left against one fire after another.
func TestForecastMaxRunsAgainstASimpleOne(t *testing.T) {
	t.Parallel()
	for seed := range uint64(80) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := core.Schedule{Spec: []string{"0 * * * *", "*/7 * * * *", "*/2 * * * * *", "30 2 * * *", "15,45 8-17 * * 1-5"}[r.IntN(5)]}
		if r.IntN(2) == 0 {
			s.OnlyOn = []string{"cn-workdays"}
		}
		from := monday.Add(time.Duration(r.IntN(3000)) * time.Minute)
		mark := from.Add(-time.Duration(r.IntN(2000)) * time.Minute)
		planned := task(t, "t", s, limited(10+r.IntN(1000), int64(r.IntN(12)), mark))
		if r.IntN(3) == 0 {
			planned.Pause = core.Pause{Since: mark.Add(-time.Hour), Until: from.Add(time.Duration(r.IntN(2000)-1000) * time.Minute), By: "li"}
		}
		in := input(planned)
		in.From, in.List = from, 10_000
		want, left := int64(0), int64(planned.MaxRuns)-planned.Fired
		for at := mark.Add(-time.Microsecond); left > 0; {
			fire, ok := planned.Plan.Next(at)
			if !ok || !fire.At.Before(in.To) {
				break
			}
			if at = fire.At; fire.Skip != "" || planned.Pause.Holds(at) {
				continue
			}
			if left--; !at.Before(from) {
				want++
			}
		}
		if got := forecast.Forecast(in); got.Fires != want || int64(len(got.Listed)) != want {
			t.Errorf("seed %d: %q of max_runs %d with %d started has %d fires, %d listed; want %d", seed, s.Spec, planned.MaxRuns, planned.Fired, got.Fires, len(got.Listed), want)
		}
	}
}

func TestSpreadKnowsMaxRuns(t *testing.T) {
	t.Parallel()
	nine := monday.Add(9 * time.Hour)
	day := core.Schedule{Spec: "0 9 * * *"}
	over := input(task(t, "over", day, limited(3, 3, nine)), task(t, "other", day))
	if p := forecast.Spread(over, forecast.Rules{Within: time.Hour, Plan: plan}); len(p.Moves) != 0 || p.Before.Colliding != 0 {
		t.Errorf("what comes no more is in nobody's way: %+v", p)
	}
	left := input(task(t, "left", day, limited(3, 1, nine)), task(t, "other", day, func(t *forecast.Task) { t.Namespace = "Other" }))
	p := forecast.Spread(left, forecast.Rules{Within: time.Hour, Plan: plan, Namespaces: []string{"Factory"}})
	if len(p.Moves) != 1 || p.Moves[0].ToSpec != "1 9 * * *" || p.Before.Colliding != 2 || p.After.Colliding != 0 || p.After.Fires != 9 {
		t.Errorf("%+v", p)
	}
}
