package forecast_test

import (
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/forecast"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/google/go-cmp/cmp"
)

var (
	monday = time.Date(2026, 11, 22, 16, 0, 0, 0, time.UTC) // 2026-11-23 00:00 in Shanghai
	week   = 7 * 24 * time.Hour
)

const shanghai = "Asia/Shanghai"

func task(t testing.TB, name string, s core.Schedule, change ...func(*forecast.Task)) forecast.Task {
	t.Helper()
	if s.Zone == "" && !strings.HasPrefix(s.Spec, "@") {
		s.Zone = shanghai
	}
	days, _ := calendar.New(nil, nil)
	plan, err := schedule.Parse(s, name, days)
	if err != nil {
		t.Fatal(err)
	}
	task := forecast.Task{ID: "id-" + name, Namespace: "Factory", Name: name, Schedule: s, Plan: plan,
		Usual: core.Usual{Count: 30, P50: 20 * time.Second, P95: time.Minute, Max: 2 * time.Minute}}
	for _, c := range change {
		c(&task)
	}
	return task
}

func takes(d time.Duration) func(*forecast.Task) {
	return func(t *forecast.Task) { t.Usual.P50 = d }
}

func wants(key string, slots, need int) func(*forecast.Task) {
	return func(t *forecast.Task) { t.Limits = append(t.Limits, core.Limit{Key: key, Slots: slots, Need: need}) }
}

func input(tasks ...forecast.Task) forecast.Input {
	zone, _ := time.LoadLocation(shanghai)
	return forecast.Input{Tasks: tasks, From: monday, To: monday.Add(week), Zone: zone}
}

// manufacturing gives the factory's scheduled jobs out of the inventory; lines that repeat a job, or are no job, apart.
func manufacturing(t testing.TB) []forecast.Task {
	t.Helper()
	file, err := os.Open("testdata/manufacturing-jobs.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	hourly := regexp.MustCompile("^hourly `:(\\d\\d)`$")
	daily := regexp.MustCompile(`^(\d\d):(\d\d)$`)
	monthly := regexp.MustCompile(`^每月1号 (\d\d):(\d\d)$`)
	var tasks []forecast.Task
	for _, line := range lines[1:] {
		spec := ""
		if m := hourly.FindStringSubmatch(line[2]); m != nil {
			spec = strings.TrimPrefix(m[1], "0") + " * * * *"
		} else if m := daily.FindStringSubmatch(line[2]); m != nil {
			spec = strings.TrimPrefix(m[2], "0") + " " + strings.TrimPrefix(m[1], "0") + " * * *"
		} else if m := monthly.FindStringSubmatch(line[2]); m != nil {
			spec = strings.TrimPrefix(m[2], "0") + " " + strings.TrimPrefix(m[1], "0") + " 1 * *"
		}
		if spec == "" {
			continue
		}
		tasks = append(tasks, task(t, line[1], core.Schedule{Spec: spec}, func(t *forecast.Task) {
			t.Host = "factory-1"
			t.Limits = []core.Limit{{Key: "pool:erp", Slots: 2, Need: 1}}
		}))
	}
	if len(tasks) != 34 {
		t.Fatalf("%d jobs with a time in the inventory, not 34", len(tasks))
	}
	return tasks
}

func TestForecastTheFactoryCollidesAtTheFullHour(t *testing.T) {
	t.Parallel()
	r := forecast.Forecast(input(manufacturing(t)...))
	if r.Tasks != 33 || r.Fires != 9*168+24*7 { // the monthly one does not fire in this week
		t.Errorf("%d tasks, %d fires", r.Tasks, r.Fires)
	}
	worst := r.Collisions[0]
	if worst.Starts != 9 || worst.Times != 7 || worst.At.Sub(monday) != 9*time.Hour || worst.Same != 9 || len(worst.Tasks) != 9 {
		t.Errorf("the fullest minute is every day at nine, not %d starts at %v, %d times", worst.Starts, worst.At, worst.Times)
	}
	hour := r.Collisions[slices.IndexFunc(r.Collisions, func(c forecast.Collision) bool { return c.Starts == 6 })]
	if hour.Times != 7*10 || !slices.ContainsFunc(hour.Tasks, func(c forecast.Colliding) bool { return c.Name == "check_overdue_issues" }) {
		t.Errorf("in ten hours of the day the six hourly jobs collide alone: %+v", hour)
	}
	if r.Peak != 9 || r.PeakStarts != 9 || !r.PeakAt.Equal(worst.At) {
		t.Errorf("peak %d at %v", r.Peak, r.PeakAt)
	}
	if len(r.Namespaces) != 1 || r.Namespaces[0].Name != "Factory" || r.Namespaces[0].Peak != 9 || len(r.Hosts) != 1 || r.Hosts[0].Name != "factory-1" {
		t.Errorf("%d namespaces, %d hosts", len(r.Namespaces), len(r.Hosts))
	}
	if len(r.Buckets) != 168 || r.Buckets[9].Starts != 9 || r.Buckets[9].Peak != 9 || r.Buckets[9].Fires != 13 {
		t.Errorf("%+v", r.Buckets[9])
	}
	pool := r.Limits[0]
	if pool.Key != "pool:erp" || pool.PeakSlots != 9 || pool.LongestWait != 80*time.Second { // the last of nine, 20 s each, two at a time
		t.Errorf("%+v", pool)
	}
	want := "pool:erp: at 2026-11-23 09:00:00 9 runs want 9 slots of 2 (7 times); the last waits about 1m20s"
	if pool.Moments[0].Text.En != want || !strings.Contains(pool.Moments[0].Text.Zh, "9 个运行共需 9 个名额") {
		t.Errorf("%+v", pool.Moments[0].Text)
	}
}

func TestForecastCountsBucketsExactly(t *testing.T) {
	t.Parallel()
	in := input(
		task(t, "hourly", core.Schedule{Spec: "0 * * * *"}, takes(90*time.Minute)), // overlaps itself, and reaches into the next bucket
		task(t, "second", core.Schedule{Spec: "* * * * * *"}, takes(500*time.Millisecond)),
		task(t, "workdays", core.Schedule{Spec: "0 8 * * *", OnlyOn: []string{"cn-workdays"}}),
		task(t, "manual", core.Schedule{Spec: "@manual"}),
		task(t, "after", core.Schedule{Spec: "@after 40s"}),
		task(t, "unknown", core.Schedule{Spec: "30 12 * * *"}, func(t *forecast.Task) { t.Usual = core.Usual{} }),
	)
	in.Tasks = append(in.Tasks, forecast.Task{ID: "broken"})
	r := forecast.Forecast(in)
	if r.Fires != 168+604800+5+10080+7 || r.Skipped != 2 || r.Counted != 1 || r.Unforeseen != 1 || r.Unreadable != 1 || r.Unmeasured != 1 {
		t.Errorf("%+v", r)
	}
	fires, skipped, busy := int64(0), int64(0), 0.0
	for _, b := range r.Buckets {
		fires, skipped, busy = fires+b.Fires, skipped+b.Skipped, busy+b.Busy
	}
	if fires != r.Fires || skipped != r.Skipped {
		t.Errorf("buckets hold %d fires and %d skipped ones, the whole %d and %d", fires, skipped, r.Fires, r.Skipped)
	}
	if b := r.Buckets[20]; b.Fires != 1+3600+60 || b.Busy < 1.5+0.5+0.33 || b.Busy > 1.5+0.5+0.34 || b.Peak != 3 {
		t.Errorf("%+v", b)
	}
	if mean := busy / 168; mean < r.Busy-0.02 || mean > r.Busy+0.001 { // runs that reach over the end are cut in the buckets
		t.Errorf("buckets are busy %.3f on average, the whole %.3f", mean, r.Busy)
	}
}

func TestForecastHeedsPausesAndJitter(t *testing.T) {
	t.Parallel()
	paused := func(t *forecast.Task) {
		t.Pause = core.Pause{Since: monday.Add(-time.Hour), Until: monday.Add(24*time.Hour + time.Minute), By: "li"}
	}
	r := forecast.Forecast(input(
		task(t, "hourly", core.Schedule{Spec: "0 * * * *"}, paused),
		task(t, "second", core.Schedule{Spec: "* * * * * *"}, paused),
		task(t, "spread", core.Schedule{Spec: "0 * * * *", Jitter: 30 * time.Minute}),
	))
	if r.Paused != 25+86460 || r.Fires != (168-25)+(604800-86460)+168 {
		t.Errorf("%d paused, %d fires", r.Paused, r.Fires)
	}
	if len(r.Collisions) > 0 && r.Collisions[0].Times > 20 {
		t.Errorf("jitter moves starts apart: %+v", r.Collisions[0])
	}
}

// TestForecastStartsAreTheSchedulersToTheSecond: jitter goes by the very instant, and the usual anchor is no whole second.
func TestForecastStartsAreTheSchedulersToTheSecond(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]core.Schedule{
		"Every6h":     {Spec: "@every 6h", Jitter: 2 * time.Hour, Anchor: monday.Add(-7*time.Hour + 481*time.Millisecond)},
		"Microsecond": {Spec: "@every 90s", Jitter: 45 * time.Second, Anchor: monday.Add(-time.Hour + time.Microsecond)},
		"Uneven":      {Spec: "@every 61001ms", Jitter: 20 * time.Second, Anchor: monday.Add(-time.Hour + 999_999*time.Microsecond)},
		"Counted":     {Spec: "@every 20s", Jitter: 10 * time.Second, Anchor: monday.Add(-time.Hour + 250*time.Millisecond)},
		"List":        {Spec: "@list 2026-11-22T15:59:50.5Z 2026-11-22T16:30:00.000001Z 2026-11-22T17:10:00.75Z", Jitter: 15 * time.Minute},
		"WholeSecond": {Spec: "0 * * * *", Jitter: 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			planned := task(t, "spread", s, takes(time.Minute))
			planned.Pause = core.Pause{Since: monday.Add(26*time.Hour + 300*time.Millisecond), Until: monday.Add(30*time.Hour + 400*time.Millisecond), By: "li"}
			in := input(planned, task(t, "behind", manual, after("spread")))
			in.To, in.List = monday.Add(48*time.Hour), 1_000_000
			var want []string
			for at := monday.Add(-10 * time.Hour); ; {
				fire, ok := planned.Plan.Next(at)
				if !ok || !fire.At.Before(in.To) {
					break
				}
				at = fire.At
				start := at.Add(schedule.Jitter(planned.ID, at, s.Jitter))
				if planned.Pause.Holds(at) {
					continue
				}
				for name, at := range map[string]time.Time{"spread": start, "behind": start.Add(time.Minute)} {
					if !at.Before(in.From) && at.Before(in.To) {
						want = append(want, name+" "+at.UTC().Format(time.DateTime))
					}
				}
			}
			var got []string
			for _, fire := range forecast.Forecast(in).Listed {
				got = append(got, fire.Name+" "+fire.At.Format(time.DateTime))
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
				t.Error(diff)
			}
		})
	}
}

func TestForecastAFullLimitQueuesForEver(t *testing.T) {
	t.Parallel()
	r := forecast.Forecast(input(
		task(t, "a", core.Schedule{Spec: "* * * * *"}, takes(50*time.Second), wants("pool:erp", 1, 1)),
		task(t, "b", core.Schedule{Spec: "* * * * *"}, takes(50*time.Second), wants("pool:erp", 1, 1)),
		task(t, "wide", core.Schedule{Spec: "30 3 * * *"}, takes(time.Minute), wants("pool:db", 3, 9)), // more than there is takes all
		task(t, "c", core.Schedule{Spec: "30 3 * * *"}, takes(time.Minute), wants("pool:db", 3, 1), func(t *forecast.Task) { t.Priority = 5 }),
	))
	erp, db := r.Limits[0], r.Limits[1]
	if erp.Key != "pool:erp" || erp.Use < 1.6 || erp.Use > 1.7 || erp.LongestWait < 100*time.Hour || erp.Waiting < 20000 {
		t.Errorf("%+v", erp)
	}
	if db.Waiting != 7 || db.LongestWait != time.Minute || db.MeanWait != time.Minute || db.Moments[0].Times != 7 || db.Moments[0].Tasks[0].Name != "c" {
		t.Errorf("%+v", db)
	}
}

// TestForecastSaysTheUseOfALimitThatIsWantedOften: nobody looks at such runs one by one, and the limit is too small all the same.
func TestForecastSaysTheUseOfALimitThatIsWantedOften(t *testing.T) {
	t.Parallel()
	each := core.Schedule{Spec: "*/10 * * * * *"}
	r := forecast.Forecast(input(
		task(t, "a", each, takes(8*time.Second), wants("pool:p1", 1, 1)), task(t, "b", each, takes(8*time.Second), wants("pool:p1", 1, 1)),
		task(t, "c", each, takes(8*time.Second), wants("pool:p1", 1, 1)),
		task(t, "wide", each, takes(5*time.Second), wants("pool:p2", 4, 2)), task(t, "hourly", core.Schedule{Spec: "0 * * * *"}, takes(36*time.Minute), wants("pool:p2", 4, 1)),
	))
	use := map[string]forecast.LimitForecast{}
	for _, l := range r.Limits {
		use[l.Key] = l
	}
	if p1 := use["pool:p1"]; p1.Use < 2.399 || p1.Use > 2.401 || !p1.Rough || p1.Runs != 3*60480 || p1.Waiting != 0 {
		t.Errorf("%+v", p1)
	}
	if p2 := use["pool:p2"]; p2.Use < 0.399 || p2.Use > 0.401 || !p2.Rough || p2.PeakSlots != 1 {
		t.Errorf("%+v", p2)
	}
}

// TestForecastQueueAgainstASimpleOne holds the queue against one that walks second by second.
func TestForecastQueueAgainstASimpleOne(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		slots := 1 + r.IntN(4)
		var tasks []forecast.Task
		for i := range 3 + r.IntN(5) {
			spec := fmt.Sprintf("%d %d * * * *", 10*r.IntN(3), r.IntN(3))
			tasks = append(tasks, task(t, fmt.Sprintf("t%d", i), core.Schedule{Spec: spec}, takes(time.Duration(1+r.IntN(200))*time.Second), wants("pool:p", slots, 1+r.IntN(slots))))
		}
		in := input(tasks...)
		in.To = monday.Add(6 * time.Hour)
		got := forecast.Forecast(in).Limits[0]

		type run struct{ at, took, need int }
		var waiting, running []run // running: at is when it ends
		longest, waited, free := 0, int64(0), slots
		for s := 0; s < 24*3600; s++ {
			running = slices.DeleteFunc(running, func(x run) bool {
				if x.at <= s {
					free += x.need
				}
				return x.at <= s
			})
			if s < 6*3600 {
				for _, k := range tasks {
					if f, ok := k.Plan.Next(monday.Add(time.Duration(s)*time.Second - 1)); ok && f.At.Sub(monday) == time.Duration(s)*time.Second {
						waiting = append(waiting, run{s, int(k.Usual.P50 / time.Second), k.Limits[0].Need})
					}
				}
			}
			for len(waiting) > 0 && waiting[0].need <= free {
				w := waiting[0]
				waiting = waiting[1:]
				free -= w.need
				running = append(running, run{s + w.took, w.took, w.need})
				if s > w.at {
					waited++
					longest = max(longest, s-w.at)
				}
			}
		}
		if got.LongestWait != time.Duration(longest)*time.Second || got.Waiting != waited {
			t.Errorf("seed %d: %d wait, %v at most; want %d and %ds", seed, got.Waiting, got.LongestWait, waited, longest)
		}
	}
}

func TestForecastOfNothing(t *testing.T) {
	t.Parallel()
	in := input()
	in.To = in.From
	if r := forecast.Forecast(in); r.Fires != 0 || len(r.Buckets) != 0 {
		t.Errorf("%+v", r)
	}
	if p := forecast.Spread(in, forecast.Rules{Within: time.Hour}); len(p.Moves) != 0 {
		t.Errorf("%+v", p)
	}
	in = input(task(t, "a", core.Schedule{Spec: "0 * * * *"}))
	in.To = in.From.AddDate(2, 0, 0)
	if r := forecast.Forecast(in); r.To.Sub(r.From) != forecast.MaxSpan {
		t.Errorf("looked as far as %v", r.To)
	}
	in.To = in.From.Add(-time.Hour)
	if r := forecast.Forecast(in); r.Fires != 0 {
		t.Errorf("%+v", r)
	}
}

// many gives tasks as a large installation has them: each with a schedule of its own.
func many(t testing.TB, n int) []forecast.Task {
	r := rand.New(rand.NewPCG(1, 2))
	var tasks []forecast.Task
	for i := range n {
		spec := ""
		switch k := r.IntN(100); {
		case k < 45:
			spec = fmt.Sprintf("%d * * * *", r.IntN(60))
		case k < 80:
			spec = fmt.Sprintf("%d %d * * *", r.IntN(60), r.IntN(24))
		case k < 95:
			spec = fmt.Sprintf("%d-59/5 * * * *", r.IntN(5))
		case k < 97:
			spec = "* * * * *"
		case k < 98:
			spec = "* * * * * *"
		default:
			spec = fmt.Sprintf("@every %ds", 300+i)
		}
		s := core.Schedule{Spec: spec, Anchor: monday.Add(-time.Duration(i) * time.Second)}
		tasks = append(tasks, task(t, fmt.Sprintf("task-%05d", i), s, takes(time.Duration(1+r.IntN(120))*time.Second), func(t *forecast.Task) {
			t.Namespace = fmt.Sprintf("Ns%02d", i%40)
			t.Host = fmt.Sprintf("host-%d", i%8)
			if i%4 == 0 {
				t.Limits = []core.Limit{{Key: fmt.Sprintf("pool:p%d", i%16), Slots: 50, Need: 1}}
			}
		}))
	}
	return tasks
}

func TestForecastOfTenThousandTasksIsBounded(t *testing.T) {
	t.Parallel()
	in := input(many(t, 10_000)...)
	in.List = 1000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := forecast.Forecast(in)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if r.Tasks != 10_000 || len(r.Namespaces) != 40 || len(r.Limits) != 4 || len(r.Collisions) != 20 {
		t.Errorf("%d tasks, %d namespaces, %d limits, %d collisions", r.Tasks, len(r.Namespaces), len(r.Limits), len(r.Collisions))
	}
	fires := int64(0)
	for _, b := range r.Buckets {
		fires += b.Fires
	}
	if fires != r.Fires {
		t.Errorf("buckets hold %d fires, the whole %d", fires, r.Fires)
	}
	if len(r.ByTask) != 10_000 || len(r.Listed) != 1000 || r.More != r.Fires-1000 {
		t.Errorf("%d tasks, %d fires listed, %d more of %d", len(r.ByTask), len(r.Listed), r.More, r.Fires)
	}
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 32<<20 {
		t.Errorf("the report holds %d MiB", kept>>20)
	}
}

func BenchmarkForecastTenThousandTasksAWeek(b *testing.B) {
	in := input(many(b, 10_000)...)
	b.ReportAllocs()
	for b.Loop() {
		if r := forecast.Forecast(in); r.Tasks != 10_000 {
			b.Fatal(r.Tasks)
		}
	}
}

func BenchmarkSpreadTenThousandTasks(b *testing.B) {
	in := input(many(b, 10_000)...)
	for b.Loop() {
		forecast.Spread(in, forecast.Rules{Within: 15 * time.Minute})
	}
}
