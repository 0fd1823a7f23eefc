package schedule_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// upcoming gives the next n fires as text; a skipped one is marked.
func upcoming(t tester, s *schedule.Schedule, from string, n int) []string {
	t.Helper()
	var out []string
	for at := instant(t, from); len(out) < n; {
		fire, ok := s.Next(at)
		if !ok {
			break
		}
		line := fire.At.Format(time.RFC3339Nano)
		if fire.Skip != "" {
			line += " " + string(fire.Skip)
		}
		out = append(out, line)
		at = fire.At
	}
	return out
}

// TestTheCronRule holds the examples of the rule and the cases that other schedulers get wrong.
func TestTheCronRule(t *testing.T) {
	t.Parallel()
	cron := func(zone, spec string) core.Schedule { return core.Schedule{Zone: zone, Spec: spec} }
	quartz := func(zone, spec string) core.Schedule {
		return core.Schedule{Zone: zone, Spec: spec, Dialect: "quartz"}
	}
	with := func(s core.Schedule, gap, overlap string) core.Schedule {
		s.OnGap, s.OnOverlap = gap, overlap
		return s
	}
	for _, c := range []struct {
		name string
		s    core.Schedule
		from string
		want []string
	}{
		{"NewYorkMissingFiresAfterTheGap", cron("America/New_York", "30 2 * * *"), "2026-03-07T12:00:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"}},
		{"NewYorkDoubledFiresFirstOnly", cron("America/New_York", "30 1 * * *"), "2026-10-31T12:00:00-04:00",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"}},
		{"LordHoweFiresOnceAtThree", cron("Australia/Lord_Howe", "0 3 * * *"), "2026-10-03T12:00:00Z",
			[]string{"2026-10-04T03:00:00+11:00", "2026-10-05T03:00:00+11:00"}},
		{"LordHoweHalfHourGap", cron("Australia/Lord_Howe", "15 2 * * *"), "2026-10-03T12:00:00Z",
			[]string{"2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"}},
		{"LeapDayIsFoundAfter2096", cron("UTC", "0 0 29 2 *"), "2096-03-01T00:00:00Z",
			[]string{"2104-02-29T00:00:00Z", "2108-02-29T00:00:00Z"}},
		{"SeveralMissingTimesMerge", cron("America/New_York", "0,15,30,45 2 * * *"), "2026-03-08T00:00:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"}},
		{"MissingMergesIntoTheTimeAfterTheGap", cron("America/New_York", "0 2,3 * * *"), "2026-03-08T00:00:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"}},
		{"RealTimeHasNothingInAGap", cron("America/New_York", "*/30 * * * *"), "2026-03-08T01:00:00-05:00",
			[]string{"2026-03-08T01:30:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00"}},
		{"RealTimeHasBothInAnOverlap", cron("America/New_York", "30 * * * *"), "2026-11-01T00:45:00-04:00",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00", "2026-11-01T02:30:00-05:00"}},
		{"RealTimeInOneHourSkipsTheGapsDay", cron("America/New_York", "*/30 2 * * *"), "2026-03-07T12:00:00-05:00",
			[]string{"2026-03-09T02:00:00-04:00", "2026-03-09T02:30:00-04:00"}},
		{"StepInTheHourIsRealTime", cron("America/New_York", "30 */1 * * *"), "2026-11-01T00:45:00-04:00",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00"}},
		{"RangeOfAllHoursIsDailyTimes", cron("America/New_York", "30 0-23 * * *"), "2026-11-01T00:45:00-04:00",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-01T02:30:00-05:00"}},
		{"OnGapSkip", with(cron("America/New_York", "30 2 * * *"), "skip", ""), "2026-03-07T12:00:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00 nonexistent_local_time", "2026-03-09T02:30:00-04:00"}},
		{"OnGapSkipBesideATimeThatFires", with(cron("America/New_York", "0 2,3 * * *"), "skip", ""), "2026-03-08T00:00:00-05:00",
			[]string{"2026-03-08T01:59:59.999999-05:00 nonexistent_local_time", "2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"}},
		{"OnOverlapSecond", with(cron("America/New_York", "30 1 * * *"), "", "second"), "2026-10-31T12:00:00-04:00",
			[]string{"2026-11-01T01:30:00-05:00", "2026-11-02T01:30:00-05:00"}},
		{"OnOverlapBoth", with(cron("America/New_York", "30 1 * * *"), "", "both"), "2026-10-31T12:00:00-04:00",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00", "2026-11-02T01:30:00-05:00"}},
		{"ApiaSkipsTheDayThatNeverWas", cron("Pacific/Apia", "0 12 * * *"), "2011-12-29T00:00:00-10:00",
			[]string{"2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00 nonexistent_local_time", "2011-12-31T12:00:00+14:00"}},
		{"ApiaMidnightFiresBesideTheSkippedOne", cron("Pacific/Apia", "0 0 * * *"), "2011-12-28T12:00:00-10:00",
			[]string{"2011-12-29T00:00:00-10:00", "2011-12-29T23:59:59.999999-10:00 nonexistent_local_time", "2011-12-31T00:00:00+14:00"}},
		{"ApiaNeverLoops", cron("Pacific/Apia", "0 0 30 12 *"), "2011-12-01T00:00:00-10:00",
			[]string{"2011-12-31T00:00:00+14:00 nonexistent_local_time", "2012-12-30T00:00:00+14:00"}},
		{"TrollTwoHours", cron("Antarctica/Troll", "30 2 * * *"), "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"}},
		{"CaseyThreeHoursIsMadeUpFor", cron("Antarctica/Casey", "30 2 * * *"), "2009-10-17T12:00:00Z",
			[]string{"2009-10-18T05:00:00+11:00", "2009-10-19T02:30:00+11:00"}},
		{"MidnightLeftOut", cron("America/Sao_Paulo", "0 0 * * *"), "2018-11-03T12:00:00-03:00",
			[]string{"2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"}},
		{"EverySecondOfAMissingMinuteMerges", cron("America/New_York", "* 30 2 8 3 *"), "2026-03-08T00:00:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00", "2027-03-08T02:30:00-05:00"}},
		{"DaysAreOred", cron("UTC", "0 0 13 * 5"), "2026-02-11T00:00:00Z",
			[]string{"2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z"}},
		{"DaysAreAndedWithAStar", cron("UTC", "0 0 */2 * 5"), "2026-02-11T00:00:00Z",
			[]string{"2026-02-13T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-13T00:00:00Z"}},
		{"AStarLaterInTheListDoesNotCount", cron("UTC", "0 0 1,* * 5"), "2026-02-11T00:00:00Z",
			[]string{"2026-02-12T00:00:00Z", "2026-02-13T00:00:00Z"}},
		{"SevenIsSunday", cron("UTC", "0 0 * * 7"), "2026-02-11T00:00:00Z", []string{"2026-02-15T00:00:00Z", "2026-02-22T00:00:00Z"}},
		{"RangeToSeven", cron("UTC", "0 0 * * 6-7"), "2026-02-11T00:00:00Z",
			[]string{"2026-02-14T00:00:00Z", "2026-02-15T00:00:00Z", "2026-02-21T00:00:00Z"}},
		{"RangeToSevenWithStep", cron("UTC", "0 0 * * 1-7/3"), "2026-02-11T00:00:00Z",
			[]string{"2026-02-12T00:00:00Z", "2026-02-15T00:00:00Z", "2026-02-16T00:00:00Z"}},
		{"FridayToSundayByName", cron("UTC", "0 0 * * fri-sun"), "2026-02-11T00:00:00Z",
			[]string{"2026-02-13T00:00:00Z", "2026-02-14T00:00:00Z", "2026-02-15T00:00:00Z", "2026-02-20T00:00:00Z"}},
		{"SecondsFirst", cron("UTC", "15 30 2 * * *"), "2026-02-11T00:00:00Z", []string{"2026-02-11T02:30:15Z"}},
		{"MonthNames", cron("UTC", "0 0 1 JAN,jul *"), "2026-02-11T00:00:00Z", []string{"2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"}},
		{"ZonePrefix", cron("", "CRON_TZ=Asia/Tokyo 0 6 * * *"), "2026-02-11T00:00:00Z", []string{"2026-02-12T06:00:00+09:00"}},
		{"ShortZonePrefix", cron("Asia/Tokyo", "TZ=Asia/Tokyo @daily"), "2026-02-11T00:00:00Z", []string{"2026-02-12T00:00:00+09:00"}},
		{"NoZoneIsUTC", cron("", "@monthly"), "2026-02-11T00:00:00+08:00", []string{"2026-03-01T00:00:00Z"}},
		{"Weekly", cron("", "@weekly"), "2026-02-11T00:00:00Z", []string{"2026-02-15T00:00:00Z"}},
		{"Annually", cron("", "@Annually"), "2026-02-11T00:00:00Z", []string{"2027-01-01T00:00:00Z"}},
		{"QuartzOneIsSunday", quartz("UTC", "0 0 12 ? * 1"), "2026-02-11T00:00:00Z", []string{"2026-02-15T12:00:00Z"}},
		{"QuartzLastDay", quartz("UTC", "0 0 0 L * ?"), "2026-02-11T00:00:00Z", []string{"2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"}},
		{"QuartzLastDayButThree", quartz("UTC", "0 0 0 L-3 * ?"), "2026-02-11T00:00:00Z", []string{"2026-02-25T00:00:00Z", "2026-03-28T00:00:00Z"}},
		{"QuartzLastWeekday", quartz("UTC", "0 0 0 LW * ?"), "2026-02-11T00:00:00Z", []string{"2026-02-27T00:00:00Z", "2026-03-31T00:00:00Z"}},
		{"QuartzNearestWeekday", quartz("UTC", "0 0 0 15W * ?"), "2026-02-11T00:00:00Z", []string{"2026-02-16T00:00:00Z", "2026-03-16T00:00:00Z"}},
		{"QuartzNearestWeekdayStaysInTheMonth", quartz("UTC", "0 0 0 1W 8 ?"), "2026-02-11T00:00:00Z", []string{"2026-08-03T00:00:00Z"}},
		{"QuartzLastFriday", quartz("UTC", "0 0 0 ? * 6L"), "2026-02-11T00:00:00Z", []string{"2026-02-27T00:00:00Z", "2026-03-27T00:00:00Z"}},
		{"QuartzThirdFriday", quartz("UTC", "0 0 0 ? * 6#3"), "2026-02-11T00:00:00Z", []string{"2026-02-20T00:00:00Z", "2026-03-20T00:00:00Z"}},
		{"QuartzFirstDayIsOfTheFirstWeek", quartz("UTC", "0 0 0 ? * SUN#1"), "2026-10-31T00:00:00Z", []string{"2026-11-01T00:00:00Z", "2026-12-06T00:00:00Z"}},
		{"QuartzSeventhDayIsOfTheFirstWeek", quartz("UTC", "0 0 0 ? * SAT#1"), "2026-10-31T00:00:00Z", []string{"2026-11-07T00:00:00Z", "2026-12-05T00:00:00Z"}},
		{"QuartzLastFridayIsTheLastDay", quartz("UTC", "0 0 0 ? 7 6L"), "2026-02-11T00:00:00Z", []string{"2026-07-31T00:00:00Z", "2027-07-30T00:00:00Z"}},
		{"QuartzFifthFridayOnlyWhereThereIsOne", quartz("UTC", "0 0 0 ? * FRI#5"), "2026-02-11T00:00:00Z", []string{"2026-05-29T00:00:00Z", "2026-07-31T00:00:00Z"}},
		{"QuartzYear", quartz("UTC", "0 0 0 1 1 ? 2030/100"), "2026-02-11T00:00:00Z", []string{"2030-01-01T00:00:00Z", "2130-01-01T00:00:00Z"}},
		{"QuartzRangeOverTheEnd", quartz("UTC", "0 0 22-2/2 * * ?"), "2026-02-11T00:00:00Z",
			[]string{"2026-02-11T02:00:00Z", "2026-02-11T22:00:00Z", "2026-02-12T00:00:00Z"}},
		{"QuartzLAloneIsSaturday", quartz("UTC", "0 0 0 ? * L"), "2026-02-11T00:00:00Z", []string{"2026-02-14T00:00:00Z"}},
		{"FiresBefore1970", cron("UTC", "0 0 1 1 *"), "1960-06-01T00:00:00Z", []string{"1961-01-01T00:00:00Z"}},
		{"At", cron("Asia/Shanghai", "@at 2026-12-01T00:00:00Z"), "2026-02-11T00:00:00Z", []string{"2026-12-01T08:00:00+08:00"}},
		{"AtHasPassed", cron("UTC", "@at 2026-12-01T00:00:00Z"), "2026-12-01T00:00:00Z", nil},
		{"ListIsSorted", cron("UTC", "@list 2026-12-02T00:00:00Z, 2026-12-01T00:00:00.5Z"), "2026-02-11T00:00:00Z",
			[]string{"2026-12-01T00:00:00.5Z", "2026-12-02T00:00:00Z"}},
		{"EveryWithoutAnchorCountsFromTheQuestion", cron("UTC", "@every 90s"), "2026-02-11T00:00:00.25Z",
			[]string{"2026-02-11T00:01:30.25Z", "2026-02-11T00:03:00.25Z"}},
		{"Manual", cron("UTC", "@manual"), "2026-02-11T00:00:00Z", nil},
		{"AfterCountsFromTheEndOfTheLastRun", cron("UTC", "@after 10m"), "2026-02-11T00:00:00Z", []string{"2026-02-11T00:10:00Z", "2026-02-11T00:20:00Z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := mustParse(t, c.s)
			if got := upcoming(t, s, c.from, max(1, len(c.want))); !slices.Equal(got, c.want) {
				t.Errorf("%+v from %s:\n got %v\nwant %v", c.s, c.from, got, c.want)
			}
		})
	}
}

func TestEveryCountsFromItsAnchor(t *testing.T) {
	t.Parallel()
	s := mustParse(t, core.Schedule{Spec: "@every 7s", Anchor: instant(t, "2026-02-11T00:00:00.000001Z")})
	got := upcoming(t, s, "2026-02-11T00:00:21Z", 2)
	if want := []string{"2026-02-11T00:00:21.000001Z", "2026-02-11T00:00:28.000001Z"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := upcoming(t, s, "2020-01-01T00:00:00Z", 1); got[0] != "2026-02-11T00:00:07.000001Z" {
		t.Errorf("nothing fires before, or at, the anchor; got %v", got)
	}
}

func TestCountAndLatestOfASimpleKind(t *testing.T) {
	t.Parallel()
	anchor := instant(t, "2026-01-01T00:00:00Z")
	every := mustParse(t, core.Schedule{Spec: "@every 1s", Anchor: anchor})
	list := mustParse(t, core.Schedule{Spec: "@list 2026-01-01T00:00:01Z 2026-01-01T00:00:02Z 2026-01-01T00:00:03Z"})
	for _, c := range []struct {
		name     string
		s        *schedule.Schedule
		from, to time.Time
		last     time.Time
		count    int64
	}{
		{"Every", every, anchor.Add(time.Second), anchor.Add(10*time.Second + 1), anchor.Add(10 * time.Second), 9},
		{"EveryBeforeItsAnchor", every, anchor.Add(-time.Hour), anchor.Add(2 * time.Second), anchor.Add(2 * time.Second), 2},
		{"EveryTooShort", every, anchor.Add(100 * time.Millisecond), anchor.Add(900 * time.Millisecond), time.Time{}, 0},
		{"List", list, anchor.Add(time.Second), anchor.Add(time.Hour), anchor.Add(3 * time.Second), 2},
		{"ListOver", list, anchor.Add(3 * time.Second), anchor.Add(time.Hour), time.Time{}, 0},
		{"Backwards", every, anchor.Add(time.Hour), anchor.Add(time.Minute), time.Time{}, 0},
		{"AfterFollowsFromRuns", mustParse(t, core.Schedule{Spec: "@after 1s"}), anchor, anchor.Add(time.Hour), time.Time{}, 0},
		{"Manual", mustParse(t, core.Schedule{Spec: "@manual"}), anchor, anchor.Add(time.Hour), time.Time{}, 0},
	} {
		got, n := c.s.Latest(c.from, c.to, 1), c.s.Count(c.from, c.to)
		if n != c.count || len(got) != int(min(1, n)) || n > 0 && !got[0].At.Equal(c.last) {
			t.Errorf("%s: got %v, %d; want %s, %d", c.name, got, n, c.last, c.count)
		}
	}
}

// TestLongOutageIsCounted holds a figure that a calculator gives: 400 days of seconds, less the hours of the night.
func TestLongOutageIsCounted(t *testing.T) {
	t.Parallel()
	from := instant(t, "2025-12-31T23:59:59+08:00")
	to := from.AddDate(0, 0, 400)
	s := mustParse(t, core.Schedule{Spec: "* * 6-23 * * *", Zone: "Asia/Shanghai"})
	fires, n := s.Latest(from, to, 2), s.Count(from, to)
	if want := int64(400 * 18 * 3600); n != want || len(fires) != 2 || !fires[1].At.Equal(to) || !fires[0].At.Equal(to.Add(-time.Second)) {
		t.Errorf("got %v, %d; want %s, %d", fires, n, to, want)
	}
}

// TestEveryQuestionTakesAnyTime asks about the ends of time; only wrong order or a hang can fail it.
func TestEveryQuestionTakesAnyTime(t *testing.T) {
	t.Parallel()
	times := []time.Time{
		{}, time.Unix(0, 0), time.Unix(-1<<40, 999), time.Unix(1<<37, 0), time.Unix(1<<60, 0),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for _, spec := range []string{
		"* * * * * *", "0 0 29 2 *", "30 2 * * *", "@every 1s", "@every 100000h", "@after 1h", "@at 9999-12-31T23:59:59Z", "@manual",
	} {
		for _, zone := range []string{"UTC", "America/New_York", "Africa/Casablanca", "Asia/Manila"} {
			s := mustParse(t, core.Schedule{Spec: spec, Zone: zone})
			for _, from := range times {
				if fire, ok := s.Next(from); ok && !fire.At.After(from) {
					t.Errorf("%s: Next(%s) = %s", spec, from, fire.At)
				}
				for _, to := range times {
					if n := s.Count(from, to); n < 0 || n > 0 && !to.After(from) {
						t.Errorf("%s: Count(%s, %s) = %d", spec, from, to, n)
					}
					for _, fire := range s.Latest(from, to, 3) {
						if !fire.At.After(from) || fire.At.After(to) {
							t.Errorf("%s: Latest(%s, %s) has %s", spec, from, to, fire.At)
						}
					}
				}
			}
		}
	}
}

// TestNextIsNeverSlow times the searches that go furthest, in the zones with the most changes.
func TestNextIsNeverSlow(t *testing.T) {
	for _, s := range []core.Schedule{
		{Spec: "0 0 29 2 *", Zone: "Africa/Casablanca"},
		{Spec: "0 0 0 29 2 ? 2000", Dialect: "quartz", Zone: "America/New_York"},
		{Spec: "0 */5 2 ? 3 1#2", Dialect: "quartz", Zone: "America/New_York"}, // real time, in the gap of every year
		{Spec: "0 0 0 ? 2 5#5", Dialect: "quartz", Zone: "Europe/Berlin"},      // a leap February that begins on Thursday
		{Spec: "59 59 23 31 12 ? 2199", Dialect: "quartz", Zone: "Australia/Lord_Howe"},
	} {
		parsed := mustParse(t, s)
		from := instant(t, "2026-01-01T00:00:00Z")
		best := time.Hour // of several, because the machine has other things to do
		for range 20 {
			began := time.Now()
			parsed.Next(from)
			best = min(best, time.Since(began))
		}
		if best > time.Millisecond {
			t.Errorf("%s: Next took %s", s.Spec, best)
		}
	}
}

// TestZoneTableAgreesWithGo takes moments of every zone, thousands of years of them, and asks for the fire of a schedule
// that matches the local time Go gives for the moment: it must be that moment.
func TestZoneTableAgreesWithGo(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, zone := range schedule.ZoneNames() {
		loc := mustParse(t, core.Schedule{Spec: "@manual", Zone: zone}).Location()
		for range 40 {
			at := time.Unix(rng.Int64N(30_000_000_000)-6_000_000_000, 0).In(loc) // 1779 to 2730
			if rng.IntN(2) == 0 {
				if start, _ := at.ZoneBounds(); !start.IsZero() {
					at = start.Add(time.Duration(rng.Int64N(7200)-3600) * time.Second).In(loc)
				}
			}
			s := mustParse(t, core.Schedule{
				Spec: at.Format("5 4 15 2 1") + " *", Zone: zone, OnOverlap: "both", OnGap: "skip",
			})
			if fire, ok := s.Next(at.Add(-time.Second)); !ok || !fire.At.Equal(at) {
				t.Fatalf("%s: Next(%s - 1s) = %s", zone, at, fire.At)
			}
		}
	}
}

func TestJitterIsAHashOfTaskAndInstant(t *testing.T) {
	t.Parallel()
	at := instant(t, "2026-01-01T00:00:00Z")
	if a, b := schedule.Jitter("task", at, time.Minute), schedule.Jitter("task", at.In(time.FixedZone("x", 3600)), time.Minute); a != b {
		t.Errorf("the same task and instant give %s and %s", a, b)
	}
	if got := schedule.Jitter("task", at, 0); got != 0 {
		t.Errorf("no jitter gives %s", got)
	}
	sum := time.Duration(0)
	for i := range 10_000 {
		j := schedule.Jitter("task", at.Add(time.Duration(i)*time.Second), time.Minute)
		if j < 0 || j >= time.Minute {
			t.Fatalf("jitter %s", j)
		}
		sum += j
	}
	if mean := sum / 10_000; mean < 29*time.Second || mean > 31*time.Second {
		t.Errorf("the mean jitter of a minute is %s", mean)
	}
}

// TestSpreadNeverMoves holds the places that H gives, because every task that uses it hangs on them.
func TestSpreadNeverMoves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, spec, want string }{
		{"Common.Backup", "H H * * *", "2026-01-01T18:48:00Z"},
		{"Common.Backup", "H/15 * * * *", "2026-01-01T00:03:00Z"},
		{"Common.Backup", "H(30-39) H(1-5) * * *", "2026-01-01T05:38:00Z"},
		{"Common.Backup", "H(30-59)/10 * * * *", "2026-01-01T00:38:00Z"},
		{"Common.Backup", "H H H * *", "2026-01-22T18:48:00Z"},
		{"Common.Backup", "0 12 * * H", "2026-01-02T12:00:00Z"},
		{"Common.Clean", "H H * * *", "2026-01-01T19:43:00Z"},
	} {
		s, err := schedule.Parse(core.Schedule{Spec: c.spec}, c.name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := upcoming(t, s, "2025-12-31T23:59:59Z", 1)[0]; got != c.want {
			t.Errorf("%s %q: %s, want %s", c.name, c.spec, got, c.want)
		}
	}
}

func TestSpreadIsEven(t *testing.T) {
	t.Parallel()
	var hits [60]int
	for i := range 6000 {
		s, err := schedule.Parse(core.Schedule{Spec: "H * * * *"}, "task-"+string(rune('a'+i%26))+time.Duration(i).String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		fire, _ := s.Next(time.Unix(0, 0))
		hits[fire.At.Minute()]++
	}
	for minute, n := range hits {
		if n < 50 || n > 170 {
			t.Errorf("minute %d has %d of 6,000 tasks, about 100 expected", minute, n)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	for _, c := range []struct {
		name string
		s    core.Schedule
	}{
		{"EverySecond", core.Schedule{Spec: "* * * * * *", Zone: "Asia/Shanghai"}},
		{"DailyWithSummerTime", core.Schedule{Spec: "30 2 * * *", Zone: "America/New_York"}},
		{"LeapDay", core.Schedule{Spec: "0 0 29 2 *", Zone: "America/New_York"}},
		{"RateEvery", core.Schedule{Spec: "@every 90s", Anchor: time.Unix(0, 0)}},
		{"NeverInFourHundredYears", core.Schedule{Spec: "0 */5 2 ? 3 1#2", Dialect: "quartz", Zone: "America/New_York"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := mustParse(b, c.s)
			start := instant(b, "2026-01-01T00:00:00Z")
			at := start
			b.ReportAllocs()
			for b.Loop() {
				fire, ok := s.Next(at)
				if at = fire.At; !ok {
					at = start
				}
			}
		})
	}
}

func BenchmarkCountAndLatest(b *testing.B) {
	from := instant(b, "2025-06-01T00:00:00Z")
	for _, c := range []struct {
		name string
		s    core.Schedule
	}{
		{"EverySecondFor400Days", core.Schedule{Spec: "* * * * * *", Zone: "America/New_York"}},
		{"DailyFor400Days", core.Schedule{Spec: "30 2 * * *", Zone: "America/New_York"}},
		{"RateEvery", core.Schedule{Spec: "@every 1s", Anchor: from}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := mustParse(b, c.s)
			for b.Loop() {
				s.Count(from, from.AddDate(0, 0, 400))
				s.Latest(from, from.AddDate(0, 0, 400), 1)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	s := core.Schedule{Spec: "30 2 * * 1-5", Zone: "Asia/Shanghai"}
	for b.Loop() {
		mustParse(b, s)
	}
}
