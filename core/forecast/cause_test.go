package forecast_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/forecast"
)

// after has a task started by the ends of others.
func after(names ...string) func(*forecast.Task) {
	return func(t *forecast.Task) {
		for _, n := range names {
			t.After = append(t.After, "id-"+n)
		}
	}
}

func steps(list ...forecast.Step) func(*forecast.Task) {
	return func(t *forecast.Task) { t.Steps = list }
}

// unknown takes a task's history away.
func unknown(t *forecast.Task) { t.Usual = core.Usual{} }

var manual = core.Schedule{Spec: "@manual"}

// listed writes the fires of a report as lines: when after monday, which task, how long, and what brings it.
func listed(r forecast.Report) (lines []string) {
	for _, f := range r.Listed {
		line := fmt.Sprintf("%v %s %v", f.At.Sub(monday), f.Name, f.End.Sub(f.At))
		if f.Cause.Name != "" {
			line += " by " + f.Cause.Name
		}
		if f.Step {
			line += "'s step"
		}
		lines = append(lines, line)
	}
	return lines
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func byName(r forecast.Report) map[string]forecast.TaskForecast {
	all := map[string]forecast.TaskForecast{}
	for _, t := range r.ByTask {
		all[t.Name] = t
	}
	return all
}

func TestForecastFollowsChains(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "fa", core.Schedule{Spec: "0 9 * * *"}, takes(90*time.Second)),
		task(t, "fb", manual, after("fa"), takes(10*time.Minute)),
		task(t, "fc", core.Schedule{Spec: "30 12 * * *"}, after("fb"), takes(time.Second)), // by itself too
		task(t, "alone", manual),
		task(t, "of-none", manual, after("gone")),
	)
	in.List = 10
	in.To = monday.Add(2 * 24 * time.Hour)
	r := forecast.Forecast(in)
	wantLines(t, listed(r),
		"9h0m0s fa 1m30s", "9h1m30s fb 10m0s by fa", "9h11m30s fc 1s by fb", "12h30m0s fc 1s",
		"33h0m0s fa 1m30s", "33h1m30s fb 10m0s by fa", "33h11m30s fc 1s by fb", "36h30m0s fc 1s",
	)
	if r.Fires != 8 || r.Tasks != 3 || r.Unforeseen != 2 || r.More != 0 || r.Buckets[9].Fires != 3 {
		t.Errorf("%d fires of %d tasks, %d unforeseen, %d more, %d from nine to ten", r.Fires, r.Tasks, r.Unforeseen, r.More, r.Buckets[9].Fires)
	}
	all := byName(r)
	fc := all["fc"]
	if fc.Fires != 4 || fc.Caused != 2 || len(fc.Next) != 3 || fc.Next[0].Sub(monday) != 9*time.Hour+11*time.Minute+30*time.Second || fc.Next[1].Sub(monday) != 12*time.Hour+30*time.Minute {
		t.Errorf("%+v", fc)
	}
	if fb := all["fb"]; fb.Fires != 2 || fb.Caused != 2 || fb.Expected != 10*time.Minute || fb.P95 != time.Minute || fb.Basis != forecast.FromHistory || fb.Measured != 30 {
		t.Errorf("%+v", fb)
	}
	if r.ByTask[0].Name != "fb" || r.ByTask[0].Busy != 1200.0/(48*3600) {
		t.Errorf("the busiest is fb with 20 minutes of two days, not %+v", r.ByTask[0])
	}
}

// TestForecastSeesWhatIsBroughtFromBefore: a run begun before the time looked at ends in it.
func TestForecastSeesWhatIsBroughtFromBefore(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "fa", core.Schedule{Spec: "0 23 * * *"}, takes(90*time.Minute)),
		task(t, "fb", manual, after("fa"), takes(20*time.Hour)),
		task(t, "fc", manual, after("fb")),
	)
	in.List, in.To = 10, monday.Add(21*time.Hour)
	wantLines(t, listed(forecast.Forecast(in)), "30m0s fb 20h0m0s by fa", "20h30m0s fc 20s by fb")
}

func TestForecastOfAPausedLinkBringsNothing(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "fa", core.Schedule{Spec: "0 9 * * *"}),
		task(t, "fb", manual, after("fa"), func(t *forecast.Task) {
			t.Pause = core.Pause{Since: monday.Add(-time.Hour), Until: monday.Add(24 * time.Hour), By: "li"}
		}),
		task(t, "fc", manual, after("fb")),
	)
	in.List, in.Of, in.To = 10, "id-fc", monday.Add(48*time.Hour)
	r := forecast.Forecast(in)
	wantLines(t, listed(r), "33h0m40s fc 20s by fb")
	if r.Paused != 1 {
		t.Errorf("%d paused", r.Paused)
	}
}

// TestForecastOfAPausedStep: only its workflow's pause holds a step, whether fires are drawn or counted.
func TestForecastOfAPausedStep(t *testing.T) {
	t.Parallel()
	paused := func(t *forecast.Task) { t.Pause = core.Pause{Since: monday.Add(-time.Hour), By: "li"} }
	for _, c := range []struct {
		spec   string
		change func(*forecast.Task)
		fires  int64
	}{
		{"0 9 * * *", unknown, 7},
		{"* * * * * *", unknown, 7 * 86400},
		{"0 9 * * *", paused, 0},
	} {
		in := input(
			task(t, "flow", core.Schedule{Spec: c.spec}, c.change, steps(forecast.Step{Task: "id-report"})),
			task(t, "report", core.Schedule{Spec: "@manual"}, paused),
			task(t, "mail", core.Schedule{Spec: "@manual"}, after("report"), paused),
		)
		in.Of, in.List = "id-report", 2
		r := forecast.Forecast(in)
		if all := byName(r); all["report"].Fires != c.fires || all["mail"].Fires != 0 || len(r.Listed) != int(min(c.fires, 2)) {
			t.Errorf("%s: %d fires, %d of mail, %d listed", c.spec, all["report"].Fires, all["mail"].Fires, len(r.Listed))
		}
	}
}

func TestForecastLaysOutWorkflows(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "flow", core.Schedule{Spec: "0 9 * * *"}, unknown, steps(
			forecast.Step{Task: "id-report", Needs: []int{1}},
			forecast.Step{Task: "id-stats"},
			forecast.Step{Task: "id-mail", Needs: []int{1}, When: core.OnAlways},
			forecast.Step{Task: "id-alarm", Needs: []int{1}, When: core.OnFailure},
			forecast.Step{Task: "id-sum", Needs: []int{0, 2}},
			forecast.Step{Task: "gone", Needs: []int{2}},
			forecast.Step{Task: "id-stats", Needs: []int{5}},                       // never: what it needs cannot start
			forecast.Step{Task: "id-alarm", Needs: []int{5}, When: core.OnFailure}, // which is a failure
		)),
		task(t, "stats", manual, takes(time.Minute)),
		task(t, "report", manual, takes(5*time.Minute)),
		task(t, "mail", manual, takes(time.Second)),
		task(t, "alarm", manual, takes(time.Second)),
		task(t, "sum", manual, takes(2*time.Minute)),
		task(t, "follows-step", manual, after("stats")), // a step starts no dependents
		task(t, "follows-flow", manual, after("flow")),
	)
	in.List, in.To = 20, monday.Add(24*time.Hour)
	r := forecast.Forecast(in)
	wantLines(t, listed(r),
		"9h0m0s flow 8m0s", "9h0m0s stats 1m0s by flow's step", "9h1m0s mail 1s by flow's step", "9h1m0s report 5m0s by flow's step",
		"9h1m1s alarm 1s by flow's step", "9h6m0s sum 2m0s by flow's step", "9h8m0s follows-flow 20s by flow",
	)
	if flow := byName(r)["flow"]; flow.Basis != forecast.FromSteps || flow.Measured != 0 || flow.P95 != 0 || r.Unmeasured != 0 {
		t.Errorf("%+v", flow)
	}
	if len(r.Collisions) != 0 || r.PeakStarts != 3 {
		t.Errorf("what one workflow starts does not collide with itself: %+v; %d start in a minute", r.Collisions, r.PeakStarts)
	}
}

func TestForecastCountsWhatIsBroughtInLoadCollisionsAndWaits(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "fa", core.Schedule{Spec: "0 9 * * *"}, takes(10*time.Minute)),
		task(t, "fb", manual, after("fa"), takes(5*time.Minute), wants("pool:erp", 1, 1)),
		task(t, "other", core.Schedule{Spec: "10 9 * * *"}, takes(2*time.Minute), wants("pool:erp", 1, 1)),
	)
	in.To = monday.Add(24 * time.Hour)
	r := forecast.Forecast(in)
	if len(r.Collisions) != 1 || r.Collisions[0].Starts != 2 || r.Collisions[0].At.Sub(monday) != 9*time.Hour+10*time.Minute ||
		r.Collisions[0].Tasks[0].Name != "fb" || r.Collisions[0].Tasks[1].Name != "other" {
		t.Errorf("fb meets other at 9:10: %+v", r.Collisions)
	}
	if pool := r.Limits[0]; pool.Runs != 2 || pool.Waiting != 1 || pool.LongestWait != 5*time.Minute || pool.PeakSlots != 2 {
		t.Errorf("other waits for fb: %+v", pool)
	}
	if r.Peak != 2 || r.Buckets[9].Fires != 3 || r.Buckets[9].Busy < 17.0/60-1e-9 || r.Buckets[9].Busy > 17.0/60+1e-9 {
		t.Errorf("peak %d, %+v", r.Peak, r.Buckets[9])
	}
}

// TestForecastCountsWhatIsBroughtTooOften: whoever follows a task that is only counted is only counted too.
func TestForecastCountsWhatIsBroughtTooOften(t *testing.T) {
	t.Parallel()
	r := forecast.Forecast(input(
		task(t, "second", core.Schedule{Spec: "* * * * * *"}, takes(100*time.Millisecond)),
		task(t, "behind", manual, after("second"), takes(500*time.Millisecond)),
	))
	fires, busy := int64(0), 0.0
	for _, b := range r.Buckets {
		fires, busy = fires+b.Fires, busy+b.Busy
	}
	if r.Fires != 2*604800 || fires != r.Fires || r.Counted != 2 || busy/168 < 0.599 || busy/168 > 0.601 {
		t.Errorf("%d fires, %d in buckets, %d counted, busy %.3f", r.Fires, fires, r.Counted, busy/168)
	}
}

// TestSpreadMovesChainsAsOne: whoever starts a chain looks at where the whole of it lands.
func TestSpreadMovesChainsAsOne(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "fa", core.Schedule{Spec: "0 9 * * *"}, takes(10*time.Minute)),
		task(t, "fb", manual, after("fa")),
		task(t, "fixed", core.Schedule{Spec: "@every 24h", Anchor: monday.Add(-15*time.Hour + 10*time.Minute)}),  // 9:10
		task(t, "beside", core.Schedule{Spec: "@every 24h", Anchor: monday.Add(-15*time.Hour + 11*time.Minute)}), // 9:11
	)
	p := forecast.Spread(in, forecast.Rules{Within: 30 * time.Minute, Plan: plan})
	if len(p.Moves) != 1 || p.Moves[0].ToSpec != "2 9 * * *" || p.Before.Colliding != 7 || p.After.Colliding != 0 || p.Before.Fires != 28 {
		t.Errorf("fb would land on fixed, and a minute later on beside: %+v", p)
	}
	if want := "at 2026-11-23 09:10 what it brings starts together with Factory/fixed"; p.Moves[0].Why.En != want || !strings.Contains(p.Moves[0].Why.Zh, "它引起的运行与另外 1 个同时启动") {
		t.Errorf("%+v", p.Moves[0].Why)
	}
	if r := forecast.Forecast(apply(t, in, p.Moves)); len(r.Collisions) != 0 {
		t.Errorf("%+v", r.Collisions)
	}
}

// TestForecastOfChainsThatPartAndMeetIsBounded: each diamond doubles the fires; forty of them are more than anybody can hold.
func TestForecastOfChainsThatPartAndMeetIsBounded(t *testing.T) {
	t.Parallel()
	tasks := []forecast.Task{task(t, "t0", core.Schedule{Spec: "0 9 * * *"})}
	for i := range 40 {
		before := fmt.Sprintf("t%d", i)
		left, right := task(t, fmt.Sprintf("l%d", i), manual, after(before)), task(t, fmt.Sprintf("r%d", i), manual, after(before))
		tasks = append(tasks, left, right, task(t, fmt.Sprintf("t%d", i+1), manual, after(left.Name, right.Name)))
	}
	r := forecast.Forecast(input(tasks...))
	if all := byName(r); all["t1"].Fires != 14 || all["t5"].Fires != 7*32 || r.Unfollowed == 0 {
		t.Errorf("t1 %d, t5 %d, %d not followed", all["t1"].Fires, all["t5"].Fires, r.Unfollowed)
	}
	round := input(task(t, "a", core.Schedule{Spec: "0 9 * * *"}, after("b"), takes(0)), task(t, "b", manual, after("a"), takes(0))) // refused when saved, but it must end
	if r := forecast.Forecast(round); r.Unfollowed != 1 {
		t.Errorf("%d not followed", r.Unfollowed)
	}
}

func TestForecastListsTheFirstFires(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "second", core.Schedule{Spec: "* * * * * *"}, takes(500*time.Millisecond), func(t *forecast.Task) {
			t.Pause = core.Pause{Since: monday.Add(3 * time.Second), Until: monday.Add(time.Hour), By: "li"}
		}),
		task(t, "behind", manual, after("second"), takes(time.Second)),
		task(t, "delay", core.Schedule{Spec: "@after 2s"}, takes(3*time.Second), func(t *forecast.Task) { t.Next = monday.Add(4 * time.Second) }),
		task(t, "hourly", core.Schedule{Spec: "0 * * * *"}, unknown),
	)
	in.List = 12
	r := forecast.Forecast(in)
	wantLines(t, listed(r),
		"0s behind 1s by second", "0s hourly 1s", "0s second 500ms", "1s behind 1s by second", "1s second 500ms", "2s behind 1s by second", "2s second 500ms",
		"4s delay 3s", "9s delay 3s", "14s delay 3s", "19s delay 3s", "24s delay 3s",
	)
	if r.Counted != 3 || r.More != r.Fires-12 {
		t.Errorf("%d counted, %d more of %d", r.Counted, r.More, r.Fires)
	}
	if f := r.Listed[1]; f.Basis != forecast.Assumed || !f.Late.IsZero() {
		t.Errorf("nothing is known of hourly: %+v", f)
	}
	if f := r.Listed[7]; f.Basis != forecast.FromHistory || f.Late.Sub(f.At) != time.Minute {
		t.Errorf("%+v", f)
	}
	in.Of, in.From = "id-hourly", monday.Add(time.Hour+30*time.Second)
	in.List = 2
	if r = forecast.Forecast(in); len(r.Listed) != 2 || r.Listed[0].At.Sub(monday) != 2*time.Hour || r.More == 0 {
		t.Errorf("what has fired already is not listed: %v", listed(r))
	}
	if next := byName(r)["hourly"].Next; len(next) != 3 || next[0].Sub(monday) != 2*time.Hour {
		t.Errorf("%v", next)
	}
}

// TestForecastListIsWhatSortingAllGives holds the cut list against the beginning of the whole one.
func TestForecastListIsWhatSortingAllGives(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	var tasks []forecast.Task
	for i := range 60 {
		tasks = append(tasks, task(t, fmt.Sprintf("t%02d", i), core.Schedule{Spec: fmt.Sprintf("%d * * * *", r.IntN(60))}, takes(time.Duration(r.IntN(300))*time.Second)))
		if i > 0 && i%3 == 0 {
			after(fmt.Sprintf("t%02d", r.IntN(i)))(&tasks[i])
		}
	}
	in := input(tasks...)
	in.List = 1_000_000
	whole := listed(forecast.Forecast(in))
	in.List = 700
	r2 := forecast.Forecast(in)
	if got := listed(r2); !slices.Equal(got, whole[:700]) || r2.More != int64(len(whole)-700) || int64(len(whole)) != r2.Fires {
		t.Errorf("%d of %d fires, %d more; the first that differ: %v", len(got), len(whole), r2.More, got[:3])
	}
}
