package calendar_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// A set serves the room that asks it, without either knowing the other.
var _ schedule.Calendars = (*calendar.Set)(nil)

type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newSet(t tester, defs []core.Calendar, holidays ...core.Holidays) *calendar.Set {
	t.Helper()
	set, findings := calendar.New(defs, holidays)
	if len(findings) > 0 {
		t.Fatalf("findings: %+v", findings)
	}
	return set
}

func zone(t tester, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return loc
}

func moment(t tester, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return at
}

func daysOf(t tester, set *calendar.Set, name string, loc *time.Location) calendar.Days {
	t.Helper()
	days, ok := set.Days(name, loc)
	if !ok {
		t.Fatalf("there is no calendar %s in %v", name, set.Names())
	}
	return days
}

// noonsOf gives the dates of a year that a calendar contains at noon in Shanghai.
func noonsOf(t tester, set *calendar.Set, name string, year int) (dates []string) {
	t.Helper()
	shanghai := zone(t, "Asia/Shanghai")
	days := daysOf(t, set, name, shanghai)
	for at := time.Date(year, 1, 1, 12, 0, 0, 0, shanghai); at.Year() == year; at = at.AddDate(0, 0, 1) {
		if in, _, _ := days.Stretch(at); in {
			dates = append(dates, at.Format("01-02"))
		}
	}
	return dates
}

// TestHolidaysAreThoseOfTheStateCouncil holds the notices of the General Office of the State Council for 2025
// (国办发明电〔2024〕12号) and 2026 (国办发明电〔2025〕7号), written down by hand.
func TestHolidaysAreThoseOfTheStateCouncil(t *testing.T) {
	t.Parallel()
	set := newSet(t, nil)
	for _, c := range []struct {
		year    int
		off     string // first-last, in the order of the notice
		makeUps []string
	}{
		{2025, "01-01 01-28/02-04 04-04/04-06 05-01/05-05 05-31/06-02 10-01/10-08", []string{"01-26", "02-08", "04-27", "09-28", "10-11"}},
		{2026, "01-01/01-03 02-15/02-23 04-04/04-06 05-01/05-05 06-19/06-21 09-25/09-27 10-01/10-07", []string{"01-04", "02-14", "02-28", "05-09", "09-20", "10-10"}},
	} {
		var off []string
		for part := range strings.FieldsSeq(c.off) {
			first, last, _ := strings.Cut(part, "/")
			if last == "" {
				last = first
			}
			for at := moment(t, fmt.Sprintf("%d-%sT00:00:00Z", c.year, first)); at.Format("01-02") <= last; at = at.AddDate(0, 0, 1) {
				off = append(off, at.Format("01-02"))
			}
		}
		if got := noonsOf(t, set, calendar.Holidays, c.year); !slices.Equal(got, off) {
			t.Errorf("holidays of %d:\n got %v\nwant %v", c.year, got, off)
		}
		var work []string
		for at := time.Date(c.year, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() == c.year; at = at.AddDate(0, 0, 1) {
			date := at.Format("01-02")
			weekend := at.Weekday() == time.Saturday || at.Weekday() == time.Sunday
			if slices.Contains(c.makeUps, date) || !weekend && !slices.Contains(off, date) {
				work = append(work, date)
			}
		}
		if got := noonsOf(t, set, calendar.Workdays, c.year); !slices.Equal(got, work) {
			t.Errorf("working days of %d:\n got %v\nwant %v", c.year, got, work)
		}
	}
}

// TestEveryPublishedYearHasItsNumberOfDays holds the totals of the embedded years: holidays, and working days.
func TestEveryPublishedYearHasItsNumberOfDays(t *testing.T) {
	t.Parallel()
	set := newSet(t, nil)
	// Working days are the weekdays of the year less its legal holidays (10, 11 from 2008 on, 13 from 2025 on), but for what
	// new year's days share with the year before (2006, 2007, 2011, 2012) and the two days the epidemic took in 2020.
	want := map[int][2]int{
		2004: {22, 252}, 2005: {24, 250}, 2006: {24, 251}, 2007: {26, 249}, 2008: {27, 251}, 2009: {27, 250}, 2010: {29, 250},
		2011: {28, 250}, 2012: {26, 249}, 2013: {29, 250}, 2014: {23, 250}, 2015: {25, 249}, 2016: {24, 250}, 2017: {24, 249},
		2018: {25, 250}, 2019: {28, 250}, 2020: {30, 249}, 2021: {31, 250}, 2022: {32, 249}, 2023: {26, 249}, 2024: {28, 251},
		2025: {28, 248}, 2026: {33, 248},
	}
	years := set.HolidayYears()
	if years[0] != 2004 || years[len(years)-1] != 2026 || len(years) != len(want) {
		t.Errorf("years %v", years)
	}
	for _, year := range years {
		got := [2]int{len(noonsOf(t, set, calendar.Holidays, year)), len(noonsOf(t, set, calendar.Workdays, year))}
		if got != want[year] {
			t.Errorf("%d: %d holidays and %d working days, want %v", year, got[0], got[1], want[year])
		}
	}
}

func TestAMissingYearIsMondayToFridayWithAWarning(t *testing.T) {
	t.Parallel()
	set := newSet(t, []core.Calendar{
		{Name: "ours", AllOf: []string{"deep"}}, {Name: "deep", NoneOf: []string{"cn-holidays"}}, {Name: "summer", Dates: []core.DateRange{{From: "--07-01", To: "--08-31"}}},
	})
	from, to := moment(t, "2025-06-01T00:00:00Z"), moment(t, "2028-12-31T16:00:00Z") // 2029 in China
	for name, want := range map[string][]int{"cn-workdays": {2027, 2028, 2029}, "ours": {2027, 2028, 2029}, "summer": nil, "weekdays": nil, "nobody's": nil} {
		if got := set.Missing(name, from, to); !slices.Equal(got, want) {
			t.Errorf("%s needs %v, want %v", name, got, want)
		}
	}
	if got := noonsOf(t, set, "cn-workdays", 2027); len(got) != 261 {
		t.Errorf("2027 has %d working days", len(got))
	}
	if got := noonsOf(t, set, "cn-holidays", 2027); len(got) != 0 {
		t.Errorf("2027 has holidays %v", got)
	}
	text := calendar.MissingText("ours", []int{2027, 2028, 2030})
	for _, said := range []string{text.Zh, text.En} {
		if !strings.Contains(said, "ours") || !strings.Contains(said, "2027–2028, 2030") {
			t.Errorf("%q does not say what is missing", said)
		}
	}
	if calendar.MissingText("ours", nil) != (core.Text{}) {
		t.Error("a warning about nothing")
	}
}

func TestGivenHolidaysReplaceTheirYear(t *testing.T) {
	t.Parallel()
	set := newSet(t, nil,
		core.Holidays{Year: 2027, Holidays: map[string]string{"2027-01-01": "x"}},
		core.Holidays{Year: 2027, Holidays: map[string]string{"2027-01-04": "元旦"}, Workdays: map[string]string{"2027-01-02": "元旦", "2026-12-26": "元旦"}},
		core.Holidays{Year: 2025, Holidays: map[string]string{"2025-05-01": "劳动节"}},
	)
	if got := noonsOf(t, set, "cn-holidays", 2027); !slices.Equal(got, []string{"01-04"}) {
		t.Errorf("2027: %v; the later ones win", got)
	}
	if got := noonsOf(t, set, "cn-workdays", 2027); got[0] != "01-01" || got[1] != "01-02" || got[2] != "01-05" {
		t.Errorf("2027 begins with %v", got[:3])
	}
	if got := noonsOf(t, set, "cn-workdays", 2026); !slices.Contains(got, "12-26") || slices.Contains(got, "10-01") {
		t.Errorf("2026 has lost its own, or not gained the make-up day of 2027: %v", got)
	}
	if got := noonsOf(t, set, "cn-holidays", 2025); !slices.Equal(got, []string{"05-01"}) {
		t.Errorf("2025: %v", got)
	}
	if got := noonsOf(t, newSet(t, nil), "cn-holidays", 2025); len(got) != 28 {
		t.Errorf("what was given to one set is seen in another: %v", got)
	}
	if years := set.HolidayYears(); years[len(years)-1] != 2027 {
		t.Errorf("years %v", years)
	}
}

// TestCalendarsCombine holds examples of each part of a definition.
func TestCalendarsCombine(t *testing.T) {
	t.Parallel()
	span := func(from, to string) []core.TimeSpan {
		return []core.TimeSpan{{From: moment(t, from), To: moment(t, to)}}
	}
	defs := []core.Calendar{
		{Name: "mondays", Weekdays: []string{"MON"}},
		{Name: "summer", Dates: []core.DateRange{{From: "--07-01", To: "--08-31"}}},
		{Name: "new-year", Dates: []core.DateRange{{From: "--12-24", To: "--01-02"}}},
		{Name: "leap", Dates: []core.DateRange{{From: "--02-29"}}},
		{Name: "audit", Dates: []core.DateRange{{From: "2026-03-30", To: "2026-04-02"}, {From: "2026-04-03"}}, Except: []core.DateRange{{From: "2026-04-01"}}},
		{Name: "change-over", Spans: span("2026-05-01T22:00:00+08:00", "2026-05-02T06:00:00+08:00")},
		{Name: "nights", Times: []core.DayTime{{From: "22:00", To: "06:00"}}},
		{Name: "friday-nights", Weekdays: []string{"fri"}, Times: []core.DayTime{{From: "22:00", To: "06:00"}}},
		{Name: "office", AllOf: []string{"cn-workdays"}, Times: []core.DayTime{{From: "09:00", To: "12:00"}, {From: "13:00", To: "18:00:30"}}},
		{Name: "evening", Times: []core.DayTime{{From: "18:00", To: "24:00"}}},
		{Name: "not-summer", NoneOf: []string{"summer"}},
		{Name: "tokyo-days", Zone: "Asia/Tokyo", Weekdays: []string{"sat"}},
		{Name: "worked-nights", AllOf: []string{"cn-workdays"}, Times: []core.DayTime{{From: "22:00", To: "06:00"}}},
		{Name: "quiet", AnyOf: []string{"change-over", "weekends"}, Except: []core.DateRange{{From: "2026-05-03"}}},
	}
	set := newSet(t, defs)
	for _, c := range []struct {
		name, in, out string // instants it contains, and some it does not
	}{
		{"mondays", "2026-06-01T00:00:00 2026-06-01T23:59:59.999999", "2026-06-02T00:00:00 2026-05-31T23:59:59"},
		{"summer", "2026-07-01T00:00:00 2030-08-31T23:59:59", "2026-06-30T23:59:59 2026-09-01T00:00:00"},
		{"new-year", "2026-12-24T00:00:00 2027-01-02T23:00:00 2026-01-01T00:00:00", "2026-12-23T23:00:00 2027-01-03T00:00:00"},
		{"leap", "2028-02-29T12:00:00", "2027-03-01T00:00:00 2027-02-28T12:00:00 2028-03-01T00:00:00"},
		{"audit", "2026-03-30T00:00:00 2026-04-02T10:00:00 2026-04-03T10:00:00", "2026-03-29T23:00:00 2026-04-01T10:00:00 2026-04-04T00:00:00"},
		{"change-over", "2026-05-01T22:00:00 2026-05-02T05:59:59", "2026-05-01T21:59:59 2026-05-02T06:00:00"},
		{"nights", "2026-05-01T22:00:00 2026-05-02T05:59:59 2026-05-02T00:00:00", "2026-05-01T21:59:59 2026-05-02T06:00:00 2026-05-02T12:00:00"},
		{"friday-nights", "2026-06-05T22:00:00 2026-06-06T05:59:59", "2026-06-05T05:00:00 2026-06-06T22:00:00 2026-06-05T21:00:00"},
		{"office", "2026-10-10T09:00:00 2026-10-10T18:00:29 2026-10-08T13:00:00", "2026-10-10T12:30:00 2026-10-01T10:00:00 2026-10-10T18:00:30 2026-10-11T10:00:00"},
		{"evening", "2026-06-05T18:00:00 2026-06-05T23:59:59", "2026-06-05T17:59:59 2026-06-06T00:00:00"},
		{"not-summer", "2026-06-30T23:00:00 2026-09-01T00:00:00", "2026-07-01T00:00:00"},
		{"tokyo-days", "2026-06-05T23:30:00 2026-06-06T22:59:59", "2026-06-05T22:30:00 2026-06-06T23:30:00"},
		{"worked-nights", "2026-09-30T22:00:00 2026-10-01T05:00:00", "2026-10-01T22:00:00 2026-10-02T05:00:00 2026-10-08T05:00:00"},
		{"quiet", "2026-05-01T23:00:00 2026-05-02T12:00:00", "2026-05-03T12:00:00 2026-05-04T12:00:00"},
		{"weekdays", "2026-10-01T00:00:00", "2026-10-10T00:00:00"},
		{"weekends", "2026-10-10T00:00:00", "2026-10-01T00:00:00"},
	} {
		days := daysOf(t, set, c.name, zone(t, "Asia/Shanghai"))
		for want, list := range map[bool]string{true: c.in, false: c.out} {
			for s := range strings.FieldsSeq(list) {
				if in, _, _ := days.Stretch(moment(t, s+"+08:00")); in != want {
					t.Errorf("%s contains %s: %v", c.name, s, in)
				}
			}
		}
	}
}

// TestTheChineseCalendarsAreChinasDays holds whose days they are: China's for the two Chinese ones, whoever asks.
func TestTheChineseCalendarsAreChinasDays(t *testing.T) {
	t.Parallel()
	set := newSet(t, nil)
	at := moment(t, "2026-09-30T16:30:00Z") // 1 October in China
	for _, zoneName := range []string{"UTC", "America/New_York", "Asia/Shanghai"} {
		if in, _, _ := daysOf(t, set, "cn-holidays", zone(t, zoneName)).Stretch(at); !in {
			t.Errorf("asked from %s", zoneName)
		}
	}
	at = moment(t, "2026-06-05T16:30:00Z") // Saturday in China, Friday in London
	for zoneName, want := range map[string]bool{"Europe/London": false, "Asia/Shanghai": true} {
		if in, _, _ := daysOf(t, set, "weekends", zone(t, zoneName)).Stretch(at); in != want {
			t.Errorf("weekends asked from %s: %v", zoneName, in)
		}
	}
	if days, ok := set.Days("weekends", nil); !ok {
		t.Error("a nil zone is UTC")
	} else if in, _, _ := days.Stretch(at); in {
		t.Error("a nil zone is UTC")
	}
}

func TestADayIsExplained(t *testing.T) {
	t.Parallel()
	set := newSet(t, []core.Calendar{
		{Name: "closed", AnyOf: []string{"cn-holidays"}, Dates: []core.DateRange{{From: "2026-06-01", Note: "盘点"}}, Spans: []core.TimeSpan{{
			From: moment(t, "2026-07-01T00:00:00Z"), To: moment(t, "2026-07-02T00:00:00Z"), Note: "机房搬迁",
		}}},
	})
	days := daysOf(t, set, "closed", zone(t, "Asia/Shanghai")).(interface{ Note(at time.Time) core.Text })
	for at, want := range map[string]core.Text{
		"2026-10-03T10:00:00+08:00": {Zh: "国庆节", En: "National Day"},
		"2026-10-10T10:00:00+08:00": {Zh: "国庆节调休上班", En: "working day to make up for National Day"},
		"2026-06-01T10:00:00+08:00": {Zh: "盘点", En: "盘点"},
		"2026-07-01T10:00:00+08:00": {Zh: "机房搬迁", En: "机房搬迁"},
		"2026-07-03T10:00:00+08:00": {},
	} {
		if got := days.Note(moment(t, at)); got != want {
			t.Errorf("%s: %+v, want %+v", at, got, want)
		}
	}
}

// TestBadCalendarsAreRefused holds what each refusal names.
func TestBadCalendarsAreRefused(t *testing.T) {
	t.Parallel()
	dates := func(from, to string) core.Calendar {
		return core.Calendar{Name: "c", Dates: []core.DateRange{{From: "2026-01-01"}, {From: from, To: to}}}
	}
	times := func(from, to string) core.Calendar {
		return core.Calendar{Name: "c", Times: []core.DayTime{{From: from, To: to}}}
	}
	at := moment(t, "2026-01-01T00:00:00Z")
	for _, c := range []struct {
		name string
		defs []core.Calendar
		want []string // path, and a part of the English message
	}{
		{"BuiltIn", []core.Calendar{{Name: "weekends", Weekdays: []string{"fri"}}}, []string{"calendars.weekends.name", "built-in"}},
		{"Name", []core.Calendar{{Name: "Our Days", Weekdays: []string{"fri"}}}, []string{"calendars.Our Days.name", "lower-case"}},
		{"NameTooLong", []core.Calendar{{Name: strings.Repeat("a", 65), Weekdays: []string{"fri"}}}, []string{"calendars." + strings.Repeat("a", 65) + ".name", "at most 64"}},
		{"Twice", []core.Calendar{{Name: "a", Weekdays: []string{"fri"}}, {Name: "a", Weekdays: []string{"mon"}}}, []string{"calendars.a.name", "two calendars"}},
		{"NoSuchDate", []core.Calendar{dates("2026-02-30", "")}, []string{"calendars.c.dates[1].from", `"2026-02-30" is not a date`}},
		{"NoSuchYearlyDate", []core.Calendar{dates("--02-30", "")}, []string{"calendars.c.dates[1].from", "--10-01"}},
		{"NoSuchEnd", []core.Calendar{dates("2026-02-01", "2026-2-3")}, []string{"calendars.c.dates[1].to", "not a date"}},
		{"EndBeforeBegin", []core.Calendar{dates("2026-02-02", "2026-02-01")}, []string{"calendars.c.dates[1].to", "before from"}},
		{"YearlyAndNot", []core.Calendar{dates("--02-02", "2026-02-03")}, []string{"calendars.c.dates[1].to", "--MM-DD"}},
		{"ExceptToo", []core.Calendar{{Name: "c", Except: []core.DateRange{{From: "x"}}}}, []string{"calendars.c.except[0].from", "not a date"}},
		{"Weekday", []core.Calendar{{Name: "c", Weekdays: []string{"mon", "tues"}}}, []string{"calendars.c.weekdays[1]", "did you mean tue"}},
		{"WeekdayChinese", []core.Calendar{{Name: "c", Weekdays: []string{"周一"}}}, []string{"calendars.c.weekdays[0]", "write mon"}},
		{"SpanBackwards", []core.Calendar{{Name: "c", Spans: []core.TimeSpan{{From: at, To: at}}}}, []string{"calendars.c.spans[0].to", "not after"}},
		{"SpanWithoutEnd", []core.Calendar{{Name: "c", Spans: []core.TimeSpan{{From: at}}}}, []string{"calendars.c.spans[0].to", "missing"}},
		{"SpanWithoutBegin", []core.Calendar{{Name: "c", Spans: []core.TimeSpan{{To: at}}}}, []string{"calendars.c.spans[0].from", "missing"}},
		{"Time", []core.Calendar{times("25:00", "06:00")}, []string{"calendars.c.times[0].from", `"25:00" is not a time of day`}},
		{"TimeWithoutMinutes", []core.Calendar{times("22:00", "6")}, []string{"calendars.c.times[0].to", "22:00"}},
		{"BeginsAtTheEnd", []core.Calendar{times("24:00", "06:00")}, []string{"calendars.c.times[0].from", "not a time of day"}},
		{"Zone", []core.Calendar{{Name: "c", Zone: "Asia/Shangai", Weekdays: []string{"mon"}}}, []string{"calendars.c.zone", "no zone"}},
		{"ZoneLocal", []core.Calendar{{Name: "c", Zone: "Local", Weekdays: []string{"mon"}}}, []string{"calendars.c.zone", "no zone"}},
		{"Unknown", []core.Calendar{{Name: "c", AnyOf: []string{"weekends", "cn-holiday"}}}, []string{"calendars.c.any_of[1]", "did you mean cn-holidays"}},
		{"UnknownAndUnlikeAny", []core.Calendar{{Name: "c", NoneOf: []string{"something-else"}}}, []string{"calendars.c.none_of[0]", "define it first"}},
		{"SameTwice", []core.Calendar{{Name: "c", AllOf: []string{"weekends", "weekends"}}}, []string{"calendars.c.all_of[1]", "twice"}},
		{"Itself", []core.Calendar{{Name: "c", NoneOf: []string{"c"}}}, []string{"calendars.c.none_of[0]", "c → c"}},
		{"Circle", []core.Calendar{{Name: "a", AnyOf: []string{"b"}}, {Name: "b", AllOf: []string{"a"}}}, []string{"calendars.b.all_of[0]", "a → b → a"}},
		{"OnUnusable", []core.Calendar{{Name: "a", AnyOf: []string{"b"}}, {Name: "b", Weekdays: []string{"x"}}}, []string{"calendars.b.weekdays[0]", "no weekday"}},
		{"Nothing", []core.Calendar{{Name: "c", Title: core.Text{En: "x"}}}, []string{"calendars.c", "says nothing"}},
		{"NothingLeft", []core.Calendar{{Name: "c", AllOf: []string{"weekdays", "weekends"}}}, []string{"calendars.c", "holds no day"}},
		{"NothingLeftOfADate", []core.Calendar{{Name: "c", Dates: []core.DateRange{{From: "2026-01-01"}}, Except: []core.DateRange{{From: "--01-01"}}}}, []string{"calendars.c", "holds no day"}},
		{"NothingButTimesOfNoDay", []core.Calendar{{Name: "c", NoneOf: []string{"weekdays", "weekends"}, Times: []core.DayTime{{From: "09:00", To: "10:00"}}}}, []string{"calendars.c", "holds no day"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			set, findings := calendar.New(c.defs, nil)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("took %s", took)
			}
			if len(findings) == 0 {
				t.Fatal("not refused")
			}
			f := findings[0]
			if f.Path != c.want[0] || !strings.Contains(f.Message.En, c.want[1]) || f.Message.Zh == "" || f.Message.Zh == f.Message.En || strings.Contains(f.Message.En+f.Message.Zh, "%!") {
				t.Errorf("finding %+v, want %v", f, c.want)
			}
			if _, ok := set.Days("weekdays", time.UTC); !ok {
				t.Error("the built-in ones are gone")
			}
			for _, name := range set.Names() {
				if strings.HasPrefix(f.Path, "calendars."+name+".") && c.name != "BuiltIn" && c.name != "Twice" {
					t.Errorf("%s is usable", name)
				}
			}
		})
	}
}

// TestACalendarCannotGrowWithoutBound builds a tower in which each calendar names the one below twice.
func TestACalendarCannotGrowWithoutBound(t *testing.T) {
	t.Parallel()
	defs := []core.Calendar{{Name: "c0", Weekdays: []string{"mon"}}}
	for i := 1; i < 64; i++ {
		below := []string{fmt.Sprintf("c%d", i-1)}
		defs = append(defs, core.Calendar{Name: fmt.Sprintf("c%d", i), AnyOf: below, AllOf: below})
	}
	set, findings := calendar.New(defs, nil)
	if len(findings) == 0 || !strings.Contains(findings[0].Message.En, "too many calendars") {
		t.Errorf("findings %+v", findings)
	}
	if _, ok := set.Days("c5", time.UTC); !ok {
		t.Errorf("what is small enough is not there: %v", set.Names())
	}
}

func TestCheckSpeaksOfOneDefinition(t *testing.T) {
	t.Parallel()
	others := []core.Calendar{{Name: "a", AnyOf: []string{"c"}}, {Name: "c", Weekdays: []string{"mon"}}, {Name: "bad", Weekdays: []string{"x"}}}
	if found := calendar.Check(core.Calendar{Name: "c", Weekdays: []string{"tue"}}, others); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	for _, c := range []struct {
		def  core.Calendar
		path string
	}{
		{core.Calendar{Name: "c", AllOf: []string{"a"}}, "any_of"}, // the circle closes in a
		{core.Calendar{Name: "c", Weekdays: []string{"x"}}, "weekdays[0]"},
		{core.Calendar{Name: "c"}, ""},
		{core.Calendar{Name: "", Weekdays: []string{"mon"}}, "name"},
		{core.Calendar{Name: "weekdays", Weekdays: []string{"mon"}}, "name"},
		{core.Calendar{Name: "c", AnyOf: []string{"bad"}}, "any_of[0]"},
	} {
		found := calendar.Check(c.def, others)
		if len(found) == 0 || c.path != "any_of" && found[0].Path != c.path {
			t.Errorf("%+v: %+v, want %q", c.def, found, c.path)
		}
	}
}

func TestHolidaysAreReadFromAFile(t *testing.T) {
	t.Parallel()
	own := `{"region":"CN","year":2027,"holidays":{"2027-01-01":"元旦"},"workdays":{"2027-01-03":"元旦"}}`
	theirs := `{"holidays":{"2027-01-01":"New Year's Day,元旦,1","2028-01-01":"New Year's Day,元旦,1"},"workdays":{"2027-01-03":"New Year's Day,元旦,1"},"inLieuDays":{}}`
	want := core.Holidays{Region: "CN", Year: 2027, Holidays: map[string]string{"2027-01-01": "元旦"}, Workdays: map[string]string{"2027-01-03": "元旦"}}
	for name, text := range map[string]string{"own": own, "list": "[" + own + "]", "their own": theirs, "with a mark": "\xef\xbb\xbf" + own} {
		got, err := calendar.ParseHolidays([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if fmt.Sprint(got[0]) != fmt.Sprint(want) {
			t.Errorf("%s: %+v", name, got[0])
		}
	}
	for name, c := range map[string]struct{ text, path, en string }{
		"Empty":      {" ", "", "empty"},
		"EmptyList":  {"[]", "", "list is empty"},
		"NoHolidays": {"{}", "", "no holidays"},
		"NotJSON":    {"{\n \"year\": 2027,,}", "line 2, column 16", "cannot be read"},
		"Unknown":    {`{"year":2027,"holiday":{}}`, "", "unknown field"},
		"Type":       {`{"year":"2027"}`, "", "cannot be read: year: a whole number belongs here"},
		"ListOfText": {`["x"]`, "line 1, column 5", "cannot be read: an object of fields belongs here"},
		"Text":       {`"x"`, "", "has no holidays; give {region, year, holidays, workdays}"},
		"TwoValues":  {own + own, "", "more behind"},
		"Date":       {`[` + own + `,{"year":2028,"holidays":{"2028-02-30":"x"}}]`, "[1].holidays.2028-02-30", "not a date"},
		"OtherYear":  {`{"year":2027,"holidays":{"2028-05-01":"x"}}`, "holidays.2028-05-01", "does not belong"},
		"Both":       {`{"year":2027,"holidays":{"2027-05-01":"x"},"workdays":{"2027-05-01":"x"}}`, "workdays.2027-05-01", "at once"},
		"Region":     {`{"region":"HK","year":2027,"holidays":{"2027-05-01":"x"}}`, "region", "only for CN"},
		"Year":       {`{"year":3,"holidays":{"0003-05-01":"x"}}`, "year", "between"},
		"None":       {`{"year":2027,"workdays":{"2027-05-01":"x"}}`, "holidays", "replaces the whole"},
		"YearTwice":  {"[" + own + "," + own + "]", "[1].year", "twice"},
		"TheirDate":  {`{"holidays":{"2027-13-01":"x,y,1"}}`, "holidays.2027-13-01", "not a date"},
	} {
		_, err := calendar.ParseHolidays([]byte(c.text))
		var findings []core.Finding
		if e, ok := err.(*core.Error); ok { //nolint:errorlint // made here
			findings = e.Findings
		}
		if len(findings) == 0 || core.KindOf(err) != core.KindInvalid {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f := findings[0]; c.path != "" && f.Path != c.path || !strings.Contains(f.Message.En, c.en) || f.Message.Zh == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestWhatIsWrittenIsRead holds that every embedded year passes our own check and survives JSON.
func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	years := embeddedYears(t)
	data, err := json.Marshal(years)
	if err != nil {
		t.Fatal(err)
	}
	got, err := calendar.ParseHolidays(data)
	if err != nil || len(got) != 23 {
		t.Fatalf("%d years, %v", len(got), err)
	}
	set := newSet(t, nil, got...)
	for _, year := range set.HolidayYears() {
		for _, name := range []string{"cn-workdays", "cn-holidays"} {
			if a, b := noonsOf(t, set, name, year), noonsOf(t, newSet(t, nil), name, year); !slices.Equal(a, b) {
				t.Errorf("%s of %d differ", name, year)
			}
		}
	}
}

func TestBadHolidaysDoNotReachASet(t *testing.T) {
	t.Parallel()
	set, findings := calendar.New(nil, []core.Holidays{{Year: 2027, Holidays: map[string]string{"2027-02-30": "x"}}})
	if len(findings) != 1 || findings[0].Path != "holidays.2027.holidays.2027-02-30" {
		t.Errorf("%+v", findings)
	}
	if len(set.Missing("cn-workdays", moment(t, "2027-02-01T00:00:00Z"), moment(t, "2027-03-01T00:00:00Z"))) != 1 {
		t.Error("a year with findings counts as known")
	}
}
