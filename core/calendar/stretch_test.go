package calendar_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

func embeddedYears(t tester) (years []core.Holidays) {
	t.Helper()
	data, err := os.ReadFile("holidays.json")
	if err == nil {
		err = json.Unmarshal(data, &years)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return years
}

// oracle applies the definition of core.Calendar by its words to one instant, with package time alone.
type oracle struct {
	defs  map[string]core.Calendar
	off   map[string]bool // date -> public holiday, in the published years
	work  map[string]bool
	known map[int]bool
}

func newOracle(t tester, defs []core.Calendar) oracle {
	o := oracle{map[string]core.Calendar{}, map[string]bool{}, map[string]bool{}, map[int]bool{}}
	for _, def := range defs {
		o.defs[def.Name] = def
	}
	for _, y := range embeddedYears(t) {
		o.known[y.Year] = true
		for date := range y.Holidays {
			o.off[date] = true
		}
		for date := range y.Workdays {
			o.work[date] = true
		}
	}
	return o
}

func (o oracle) zoneOf(name string, asker *time.Location) *time.Location {
	zone := o.defs[name].Zone
	if strings.HasPrefix(name, "cn-") {
		zone = "Asia/Shanghai"
	}
	if zone == "" {
		return asker
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	return loc
}

// wholeDays says whether a calendar is made of whole days of a zone.
func (o oracle) wholeDays(name string, loc *time.Location) bool {
	def := o.defs[name]
	if len(def.Spans)+len(def.Times) > 0 || o.zoneOf(name, loc).String() != loc.String() {
		return false
	}
	for _, other := range slices.Concat(def.AllOf, def.AnyOf, def.NoneOf) {
		if !o.wholeDays(other, loc) {
			return false
		}
	}
	return true
}

// date is a civil date, as UTC midnight.
func dateOf(at time.Time) time.Time {
	y, m, d := at.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

func (o oracle) contains(name string, at time.Time, asker *time.Location) bool {
	loc := o.zoneOf(name, asker)
	date, clock := dateOf(at.In(loc)), at.In(loc).Format("15:04:05")
	def := o.defs[name]
	if len(def.Times) == 0 {
		return o.holds(name, date, at, loc)
	}
	for _, part := range def.Times {
		from, to := (part.From + ":00")[:8], (part.To + ":00")[:8]
		switch {
		case from < to:
			if from <= clock && clock < to && o.holds(name, date, at, loc) {
				return true
			}
		case from <= clock && o.holds(name, date, at, loc), clock < to && o.holds(name, date.AddDate(0, 0, -1), at, loc):
			return true
		}
	}
	return false
}

// holds says whether a calendar, its times apart, holds an instant that belongs to a date.
func (o oracle) holds(name string, date, at time.Time, loc *time.Location) bool {
	weekday := date.Weekday() >= time.Monday && date.Weekday() <= time.Friday
	iso := date.Format(time.DateOnly)
	switch name {
	case "weekdays":
		return weekday
	case "weekends":
		return !weekday
	case "cn-holidays":
		return o.off[iso]
	case "cn-workdays":
		return o.work[iso] || weekday && !o.off[iso]
	}
	def := o.defs[name]
	other := func(name string) bool {
		if o.wholeDays(name, loc) {
			return o.holds(name, date, at, loc)
		}
		return o.contains(name, at, loc)
	}
	in := len(def.Weekdays)+len(def.Dates)+len(def.Spans)+len(def.AnyOf) == 0
	in = in || slices.Contains(def.Weekdays, strings.ToLower(date.Format("Mon"))) || dated(def.Dates, date) || slices.ContainsFunc(def.AnyOf, other)
	for _, s := range def.Spans {
		in = in || !at.Before(s.From) && at.Before(s.To)
	}
	for _, name := range def.AllOf {
		in = in && other(name)
	}
	return in && !dated(def.Except, date) && !slices.ContainsFunc(def.NoneOf, other)
}

func dated(ranges []core.DateRange, date time.Time) bool {
	for _, r := range ranges {
		from, to, s := r.From, r.To, date.Format(time.DateOnly)
		if to == "" {
			to = from
		}
		if strings.HasPrefix(from, "--") {
			s = "-" + date.Format("-01-02")
		}
		if from <= s && s <= to || from > to && (s >= from || s <= to) {
			return true
		}
	}
	return false
}

var zones = []string{"Asia/Shanghai", "UTC", "America/New_York", "America/Sao_Paulo", "Pacific/Apia", "Antarctica/Casey", "America/Havana", "Africa/Casablanca", "Australia/Lord_Howe"}

// drawCalendars makes calendars that refer to those before them.
func drawCalendars(t *rapid.T) []core.Calendar {
	dates := func(label string) (ranges []core.DateRange) {
		for range rapid.IntRange(0, 2).Draw(t, label) {
			from := time.Date(rapid.IntRange(2008, 2030).Draw(t, label+" year"), 1, rapid.IntRange(1, 366).Draw(t, label+" day"), 0, 0, 0, 0, time.UTC)
			to := from.AddDate(0, 0, rapid.SampledFrom([]int{0, 1, 30, 200}).Draw(t, label+" days"))
			layout := rapid.SampledFrom([]string{time.DateOnly, "--01-02"}).Draw(t, label+" form")
			r := core.DateRange{From: from.Format(layout), To: to.Format(layout)}
			if r.From == r.To {
				r.To = ""
			}
			ranges = append(ranges, r)
		}
		return ranges
	}
	names := []string{"cn-workdays", "cn-holidays", "weekdays", "weekends"}
	var defs []core.Calendar
	for i := range rapid.IntRange(1, 4).Draw(t, "calendars") {
		def := core.Calendar{Name: fmt.Sprintf("c%d", i), Dates: dates("dates"), Except: dates("except")}
		if rapid.IntRange(0, 2).Draw(t, "zone?") == 0 {
			def.Zone = rapid.SampledFrom(zones).Draw(t, "zone")
		}
		if rapid.Bool().Draw(t, "weekdays?") {
			def.Weekdays = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}), 1, 7, rapid.ID[string]).Draw(t, "weekdays")
		}
		for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "spans") {
			from := time.Unix(rapid.Int64Range(1_200_000_000, 1_900_000_000).Draw(t, "span"), 0).UTC()
			def.Spans = append(def.Spans, core.TimeSpan{From: from, To: from.Add(time.Duration(rapid.Int64Range(1, 1e15).Draw(t, "length")))})
		}
		for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "times") {
			clock := func(label string) string {
				return fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, label), rapid.SampledFrom([]int{0, 30, 59}).Draw(t, label+" minute"))
			}
			def.Times = append(def.Times, core.DayTime{From: clock("from"), To: clock("to")})
		}
		for _, list := range []*[]string{&def.AllOf, &def.AnyOf, &def.NoneOf} {
			if rapid.IntRange(0, 2).Draw(t, "refers") == 0 {
				*list = rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 2, rapid.ID[string]).Draw(t, "to")
			}
		}
		if _, findings := calendar.New(append(slices.Clone(defs), def), nil); len(findings) > 0 { // holds nothing
			continue
		}
		names = append(names, def.Name)
		defs = append(defs, def)
	}
	return defs
}

// checkStretch compares a stretch with the oracle, at its instant, at its ends and inside.
func checkStretch(t *rapid.T) {
	defs := drawCalendars(t)
	set := newSet(t, defs)
	o := newOracle(t, defs)
	asker := zone(t, rapid.SampledFrom(zones).Draw(t, "asker"))
	for _, name := range set.Names() {
		days := daysOf(t, set, name, asker)
		at := time.UnixMicro(rapid.Int64Range(1_199_000_000_000_000, 1_900_000_000_000_000).Draw(t, "at"))
		if start, _ := at.In(asker).ZoneBounds(); rapid.Bool().Draw(t, "near a change") && !start.IsZero() {
			at = start.Add(time.Duration(rapid.IntRange(-26, 26).Draw(t, "hours")) * time.Hour)
		}
		for range 10 {
			in, from, to := days.Stretch(at)
			if in != o.contains(name, at, asker) {
				t.Fatalf("%s of %+v in %s contains %s: %v", name, defs, asker, at.In(asker), in)
			}
			if from.After(at) || !to.After(at) {
				t.Fatalf("%s of %+v in %s at %s: [%s, %s)", name, defs, asker, at, from, to)
			}
			probes := []time.Time{from, to.Add(-time.Microsecond)}
			for range 3 {
				probes = append(probes, from.Add(time.Duration(rapid.Int64Range(0, max(0, int64(min(to.Sub(from), 400*24*time.Hour))-1000)).Draw(t, "inside"))))
			}
			for _, p := range probes {
				if p.Year() > 1990 && p.Year() < 2100 && o.contains(name, p, asker) != in {
					t.Fatalf("%s of %+v in %s: [%s, %s) is not all %v: %s", name, defs, asker, from.In(asker), to.In(asker), in, p.In(asker))
				}
			}
			if at = to; at.Year() > 2090 {
				break
			}
		}
	}
}

func TestStretchesAgreeWithTheOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, checkStretch)
}

// TestAStretchReachesTheNextBoundary holds that walking a year takes no more steps than there are boundaries.
func TestAStretchReachesTheNextBoundary(t *testing.T) {
	t.Parallel()
	set := newSet(t, []core.Calendar{
		{Name: "office", AllOf: []string{"cn-workdays"}, Times: []core.DayTime{{From: "09:00", To: "18:00"}}},
		{Name: "once", Dates: []core.DateRange{{From: "2090-01-01"}}},
	})
	for name, most := range map[string]int{"cn-workdays": 120, "cn-holidays": 20, "weekdays": 106, "office": 3 * 366, "once": 1} {
		days := daysOf(t, set, name, zone(t, "Asia/Shanghai"))
		n := 0
		for at := moment(t, "2026-01-01T00:00:00Z"); at.Year() < 2027; n++ {
			_, _, at = days.Stretch(at)
		}
		if n > most {
			t.Errorf("%s: %d steps through a year", name, n)
		}
	}
}

// TestStretchTakesAnyTime asks about the ends of time.
func TestStretchTakesAnyTime(t *testing.T) {
	t.Parallel()
	set := newSet(t, []core.Calendar{{Name: "nights", Weekdays: []string{"fri"}, Times: []core.DayTime{{From: "22:00", To: "06:00"}}}})
	for _, name := range set.Names() {
		for _, loc := range zones {
			for _, at := range []time.Time{
				{}, time.Unix(-1<<40, 1), time.Unix(1<<37, 0), time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Date(10001, 1, 1, 0, 0, 0, 0, time.UTC),
				time.Date(2028, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(2096, 12, 31, 0, 0, 0, 0, time.UTC),
			} {
				if _, from, to := daysOf(t, set, name, zone(t, loc)).Stretch(at); from.After(at) || !to.After(at) {
					t.Errorf("%s in %s at %s: [%s, %s)", name, loc, at, from, to)
				}
			}
		}
	}
}

func TestASetIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	set := newSet(t, []core.Calendar{{Name: "office", AllOf: []string{"cn-workdays"}, Times: []core.DayTime{{From: "09:00", To: "18:00"}}}})
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			days, _ := set.Days("office", time.UTC)
			at := time.Unix(1_700_000_000, 0)
			for range 1000 {
				_, _, at = days.Stretch(at)
			}
			set.Missing("office", at, at.AddDate(i, 0, 0))
		})
	}
	group.Wait()
}

// TestSchedulesMoveByTheChineseCalendar is the whole road once: a schedule, the published holidays, and words.
func TestSchedulesMoveByTheChineseCalendar(t *testing.T) {
	t.Parallel()
	set := newSet(t, nil)
	parse := func(s core.Schedule) *schedule.Schedule {
		s.Zone = "Asia/Shanghai"
		parsed, err := schedule.Parse(s, "task", set)
		if err != nil {
			t.Fatalf("%v", err)
		}
		return parsed
	}
	s := parse(core.Schedule{Spec: "0 9 1 * *", OnlyOn: []string{"cn-workdays"}, OnDayOff: "next"})
	fire, _ := s.Next(moment(t, "2026-09-15T00:00:00Z"))
	if got := fire.At.Format("01-02 15:04"); got != "10-08 09:00" || fire.MovedFrom.Format("01-02 15:04") != "10-01 09:00" {
		t.Errorf("%+v", fire)
	}
	want := core.Text{
		Zh: "2026-10-01 09:00:00 不在日历 cn-workdays 之内（国庆节），顺延到 2026-10-08 09:00:00",
		En: "2026-10-01 09:00:00 is not in the calendar cn-workdays (National Day); moved on to 2026-10-08 09:00:00",
	}
	if got := s.Explain(fire); got != want {
		t.Errorf("%+v", got)
	}
	s = parse(core.Schedule{Spec: "0 9 * * *", NotOn: []string{"cn-holidays"}, OnDayOff: "previous"})
	fires := s.Latest(moment(t, "2026-09-29T00:00:00Z"), moment(t, "2026-10-08T12:00:00Z"), 10)
	var got []string
	for _, f := range fires {
		got = append(got, fmt.Sprintf("%s+%d", f.At.Format("01-02"), f.Merged))
	}
	if !slices.Equal(got, []string{"09-29+0", "09-30+7", "10-08+0"}) {
		t.Errorf("%v", got)
	}
	s = parse(core.Schedule{Spec: "0 9 * * 1-5", OnlyOn: []string{"cn-workdays"}})
	if fire, _ := s.Next(moment(t, "2026-10-01T00:00:00Z")); fire.Skip != core.ReasonCalendar || fire.Calendar != "cn-workdays" || fire.Rule != schedule.OnlyOn {
		t.Errorf("%+v", fire)
	}
}

func BenchmarkStretch(b *testing.B) {
	set := newSet(b, []core.Calendar{
		{Name: "office", AllOf: []string{"cn-workdays"}, Times: []core.DayTime{{From: "09:00", To: "18:00"}}},
		{Name: "closed", AnyOf: []string{"cn-holidays", "weekends"}, Dates: []core.DateRange{{From: "--12-24", To: "--12-31"}}, Except: []core.DateRange{{From: "2026-12-30"}}},
	})
	for _, name := range []string{"weekdays", "cn-workdays", "office", "closed"} {
		for _, loc := range []string{"Asia/Shanghai", "America/New_York"} {
			b.Run(name+"/"+strings.ReplaceAll(loc, "/", "_"), func(b *testing.B) {
				days, at := daysOf(b, set, name, zone(b, loc)), moment(b, "2026-10-03T10:00:00Z")
				b.ReportAllocs()
				for b.Loop() {
					days.Stretch(at)
				}
			})
		}
	}
}

func BenchmarkScheduleWithCalendars(b *testing.B) {
	set := newSet(b, []core.Calendar{
		{Name: "night", Times: []core.DayTime{{From: "22:00", To: "06:00"}}},
		{Name: "office", AllOf: []string{"cn-workdays"}, Times: []core.DayTime{{From: "09:00", To: "18:00"}}},
	})
	from := moment(b, "2025-06-01T00:00:00Z")
	for _, c := range []struct {
		name string
		s    core.Schedule
	}{
		{"DailySkip", core.Schedule{Spec: "30 9 * * *", OnlyOn: []string{"cn-workdays"}}},
		{"DailyNext", core.Schedule{Spec: "30 9 * * *", OnlyOn: []string{"cn-workdays"}, OnDayOff: "next"}},
		{"DailyPrevious", core.Schedule{Spec: "30 9 * * *", OnlyOn: []string{"cn-workdays"}, OnDayOff: "previous"}},
		{"MonthlyNext", core.Schedule{Spec: "30 9 1 * *", OnlyOn: []string{"cn-workdays"}, OnDayOff: "next"}},
		{"HourlyNext", core.Schedule{Spec: "0 * * * *", OnlyOn: []string{"cn-workdays"}, OnDayOff: "next"}},
		{"HourlyOfficePrevious", core.Schedule{Spec: "0 * * * *", OnlyOn: []string{"office"}, OnDayOff: "previous"}}, // most hours never start
		{"EverySecond", core.Schedule{Spec: "* * * * * *", OnlyOn: []string{"cn-workdays"}, NotOn: []string{"night"}}},
	} {
		c.s.Zone = "Asia/Shanghai"
		s, err := schedule.Parse(c.s, "task", set)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("Next/"+c.name, func(b *testing.B) {
			at := from
			for b.Loop() {
				fire, ok := s.Next(at)
				if at = fire.At; !ok || at.Year() > 2027 {
					at = from
				}
			}
		})
		b.Run("Count400Days/"+c.name, func(b *testing.B) {
			for b.Loop() {
				s.Count(from, from.AddDate(0, 0, 400))
			}
		})
		b.Run("Latest1Of400Days/"+c.name, func(b *testing.B) {
			for b.Loop() {
				s.Latest(from, from.AddDate(0, 0, 400), 1)
			}
		})
		b.Run("Latest100Of400Days/"+c.name, func(b *testing.B) {
			for b.Loop() {
				s.Latest(from, from.AddDate(0, 0, 400), 100)
			}
		})
		b.Run("Parse/"+c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := schedule.Parse(c.s, "task", set); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
