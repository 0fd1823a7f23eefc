package schedule_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// weekly are days of the week in UTC, as calendars.
var weekly = func() named {
	week := func(days ...time.Weekday) toggles {
		var d toggles
		in := false
		for at := time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2500; at = at.AddDate(0, 0, 1) {
			holds := false
			for _, day := range days {
				holds = holds || at.Weekday() == day
			}
			if holds != in {
				d.at, in = append(d.at, at), holds
			}
		}
		return d
	}
	return named{
		"weekdays": week(1, 2, 3, 4, 5), "weekends": week(6, 0), "mondays": week(1), "nothing": {},
		"past": {at: []time.Time{time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2020, 1, 8, 0, 0, 0, 0, time.UTC)}},
	}
}()

// TestBadLimitsAreRefused holds what each refusal of window, jitter and calendars names.
func TestBadLimitsAreRefused(t *testing.T) {
	t.Parallel()
	at := instant(t, "2026-01-01T00:00:00Z")
	daily := func(change func(s *core.Schedule)) core.Schedule {
		s := core.Schedule{Spec: "0 9 * * *"}
		change(&s)
		return s
	}
	moved := func(spec, move string) core.Schedule {
		return core.Schedule{Spec: spec, OnlyOn: []string{"weekdays"}, OnDayOff: move}
	}
	for _, c := range []struct {
		name  string
		s     core.Schedule
		path  string
		wants []string
	}{
		{"UntilBeforeFrom", daily(func(s *core.Schedule) { s.From, s.Until = at, at }), "schedule.until", []string{"not after from"}},
		{"NothingInTheWindow", daily(func(s *core.Schedule) { s.From, s.Until = at, at.Add(time.Hour) }), "schedule.until", []string{"leaves no instant"}},
		{"NothingBeforeUntil", core.Schedule{Spec: "@at 2026-06-01T00:00:00Z", Until: at}, "schedule.until", []string{"leaves no instant"}},
		{"NothingAfterFrom", core.Schedule{Spec: "@at 2025-06-01T00:00:00Z", From: at}, "schedule.from", []string{"leaves no instant"}},
		{"JitterNegative", daily(func(s *core.Schedule) { s.Jitter = -1 }), "schedule.jitter", []string{"negative"}},
		{"JitterTooLong", core.Schedule{Spec: "0 0 1 * *", Jitter: 25 * time.Hour}, "schedule.jitter", []string{"most is 24h"}},
		{"JitterOverHalfADay", daily(func(s *core.Schedule) { s.Jitter = 13 * time.Hour }), "schedule.jitter", []string{"half of the shortest time", "24h0m0s", "12h0m0s"}},
		{"JitterBetweenUnevenTimes", core.Schedule{Spec: "0,10 9 * * *", Jitter: 6 * time.Minute}, "schedule.jitter", []string{"10m0s"}},
		{"JitterOverMidnight", core.Schedule{Spec: "0 0,23 * * *", Jitter: 31 * time.Minute}, "schedule.jitter", []string{"1h0m0s"}},
		{"JitterOfSeconds", core.Schedule{Spec: "* * * * * *", Jitter: time.Second}, "schedule.jitter", []string{"500ms"}},
		{"JitterOfARate", core.Schedule{Spec: "@every 10m", Jitter: 6 * time.Minute}, "schedule.jitter", []string{"5m0s"}},
		{"JitterOfAList", core.Schedule{Spec: "@list 2026-06-01T00:00:00Z 2026-06-01T00:01:00Z", Jitter: time.Minute}, "schedule.jitter", []string{"1m0s"}},
		{"JitterOfAYearThatHasPassed", core.Schedule{Spec: "0 0 0 1,2 1 ? 2001", Dialect: "quartz", Jitter: 13 * time.Hour}, "schedule.jitter", []string{"24h0m0s"}},
		{"JitterAfter", core.Schedule{Spec: "@after 10m", Jitter: time.Minute}, "schedule.jitter", []string{"@after"}},
		{"JitterManual", core.Schedule{Spec: "@manual", Jitter: time.Minute}, "schedule.jitter", []string{"@manual"}},
		{"UnknownCalendar", daily(func(s *core.Schedule) { s.OnlyOn = []string{"weekdays", "weekend"} }), "schedule.only_on[1]", []string{`no calendar "weekend"`, "did you mean weekends"}},
		{"UnknownCalendarUnlikeAny", daily(func(s *core.Schedule) { s.NotOn = []string{"stock-taking"} }), "schedule.not_on[0]", []string{"define it first"}},
		{"NamedTwice", daily(func(s *core.Schedule) { s.NotOn = []string{"weekends", "weekends"} }), "schedule.not_on[1]", []string{"as not_on[0] does", "remove one"}},
		{"NamedOnBothSides", daily(func(s *core.Schedule) { s.OnlyOn, s.NotOn = []string{"weekends"}, []string{"weekends"} }), "schedule.not_on[0]", []string{"as only_on[0] does", "no day is left"}},
		{"OnDayOffUnknown", moved("0 9 * * *", "later"), "schedule.on_day_off", []string{`"later"`, "skip", "next", "previous"}},
		{"OnDayOffWithoutCalendars", daily(func(s *core.Schedule) { s.OnDayOff = "next" }), "schedule.on_day_off", []string{"neither only_on nor not_on"}},
		{"MovedTooOften", moved("*/30 * * * *", "next"), "schedule.on_day_off", []string{"48 fires a day"}},
		{"MovedRate", moved("@every 12h", "next"), "schedule.on_day_off", []string{"whole number of days"}},
		{"MovedRateOfNoDays", moved("@every 36h", "previous"), "schedule.on_day_off", []string{"multiple of 24h"}},
		{"MovedAfter", moved("@after 48h", "next"), "schedule.on_day_off", []string{"@after"}},
		{"MovedManual", moved("@manual", "next"), "schedule.on_day_off", []string{"@manual"}},
		{"NoDayLeft", daily(func(s *core.Schedule) { s.OnlyOn = []string{"weekdays", "weekends"} }), "schedule.only_on", []string{"leave no day", "only_on weekdays, only_on weekends"}},
		{"NoDayLeftForSeconds", core.Schedule{Spec: "* * * * * *", OnlyOn: []string{"weekdays", "weekends"}}, "schedule.only_on", []string{"leave no day"}},
		{"NoDayLeftToMoveTo", core.Schedule{Spec: "0 * * * *", OnlyOn: []string{"weekdays", "weekends"}, OnDayOff: "next"}, "schedule.only_on", []string{"leave no day"}},
		{"NoDayLeftToMoveBackTo", core.Schedule{Spec: "0 * * * *", OnlyOn: []string{"weekdays", "weekends"}, OnDayOff: "previous"}, "schedule.only_on", []string{"leave no day"}},
		{"NoDayOfTheSpecLeft", core.Schedule{Spec: "0 9 * * 6", NotOn: []string{"weekends"}}, "schedule.not_on", []string{"leave no day"}},
		{"NoDayLeftInTheWindow", daily(func(s *core.Schedule) {
			s.OnlyOn, s.From, s.Until = []string{"mondays"}, at, at.AddDate(0, 0, 3)
		}), "schedule.only_on", []string{"leave no day"}},
		{"NoDayLeftForTheInstant", core.Schedule{Spec: "@at 2026-06-06T00:00:00Z", OnlyOn: []string{"weekdays"}}, "schedule.only_on", []string{"leave no day"}},
		{"NoMomentForADelay", core.Schedule{Spec: "@after 1h", NotOn: []string{"weekdays", "weekends"}}, "schedule.not_on", []string{"leave no day"}},
		{"NoRateLeft", core.Schedule{Spec: "@every 168h", Anchor: at, OnlyOn: []string{"mondays"}}, "schedule.only_on", []string{"leave no day"}},
		{"EmptyCalendar", daily(func(s *core.Schedule) { s.OnlyOn = []string{"nothing"} }), "schedule.only_on", []string{"leave no day"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := schedule.Parse(c.s, "task", weekly)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("took %s", took)
			}
			e, ok := errors.AsType[*core.Error](err)
			if !ok || e.Kind != core.KindInvalid || len(e.Findings) != 1 {
				t.Fatalf("%+v: not refused with one finding: %v", c.s, err)
			}
			f := e.Findings[0]
			if f.Path != c.path || f.Message.Zh == "" || f.Message.Zh == f.Message.En {
				t.Errorf("finding %+v, want path %s and both languages", f, c.path)
			}
			for _, want := range c.wants {
				if !strings.Contains(f.Message.En, want) {
					t.Errorf("%q does not say %q", f.Message.En, want)
				}
			}
			if strings.Contains(f.Message.En+f.Message.Zh, "%!") {
				t.Errorf("badly formatted: %+v", f)
			}
		})
	}
}

func TestCalendarsNeedNotBeGivenIfNoneIsNamed(t *testing.T) {
	t.Parallel()
	_, err := schedule.Parse(core.Schedule{Spec: "@daily", OnlyOn: []string{"weekdays"}}, "task", nil)
	if err == nil || !strings.Contains(err.Error(), "schedule.only_on[0]") {
		t.Errorf("%v", err)
	}
	if _, err := schedule.Parse(core.Schedule{Spec: strings.Repeat("x", 100_000), OnlyOn: []string{"weekdays"}, Jitter: 1}, "task", weekly); err == nil {
		t.Error("a spec that is too long is taken")
	}
}

// TestGoodLimitsAreTaken holds what is just not contradictory.
func TestGoodLimitsAreTaken(t *testing.T) {
	t.Parallel()
	for _, s := range []core.Schedule{
		{Spec: "0 9 * * *", Jitter: 12 * time.Hour},
		{Spec: "@at 2026-06-01T00:00:00Z", Jitter: 24 * time.Hour},
		{Spec: "0 0 1 * *", Jitter: 24 * time.Hour},
		{Spec: "@every 24h", OnlyOn: []string{"weekdays"}, OnDayOff: "next"},
		{Spec: "0 * * * *", OnlyOn: []string{"weekdays"}, OnDayOff: "previous"},
		{Spec: "@at 2026-06-06T00:00:00Z", OnlyOn: []string{"weekdays"}, OnDayOff: "next"},
		{Spec: "0 9 * * 6", OnlyOn: []string{"mondays"}, OnDayOff: "next"},
		{Spec: "0 9 * * *", OnlyOn: []string{"past"}}, // whether anything is left is for NextStart
		{Spec: "@after 1h", OnlyOn: []string{"weekdays"}},
		{Spec: "@manual", OnlyOn: []string{"weekdays"}},
		{Spec: "0 9 * * *", OnlyOn: []string{"weekdays"}, OnDayOff: "skip"},
	} {
		if _, err := schedule.Parse(s, "task", weekly); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestTheWindowHoldsEveryKind holds that From is the first instant that may fire and Until the first that may not.
func TestTheWindowHoldsEveryKind(t *testing.T) {
	t.Parallel()
	from, until := instant(t, "2026-01-02T00:00:00Z"), instant(t, "2026-01-05T00:00:00Z")
	for _, spec := range []string{
		"0 0 * * *", "@every 24h", "@list 2026-01-01T00:00:00Z 2026-01-02T00:00:00Z 2026-01-03T00:00:00Z 2026-01-04T00:00:00Z 2026-01-05T00:00:00Z",
	} {
		s := mustParse(t, core.Schedule{Spec: spec, From: from, Until: until, Anchor: instant(t, "2025-12-01T00:00:00Z")})
		got := fmt.Sprint(upcoming(t, s, "2025-12-24T00:00:00Z", 9))
		if want := "[2026-01-02T00:00:00Z 2026-01-03T00:00:00Z 2026-01-04T00:00:00Z]"; got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
		if n := s.Count(time.Time{}, until.AddDate(1, 0, 0)); n != 3 {
			t.Errorf("%s: %d fires", spec, n)
		}
		if fires := s.Latest(time.Time{}, until.AddDate(1, 0, 0), 9); len(fires) != 3 || !fires[2].At.Equal(until.AddDate(0, 0, -1)) {
			t.Errorf("%s: %v", spec, fires)
		}
		if _, ok := s.FireOf(until); ok {
			t.Errorf("%s fires at until", spec)
		}
	}
	after := mustParse(t, core.Schedule{Spec: "@after 1h", From: from, Until: until})
	if fire, ok := after.Next(instant(t, "2025-12-24T00:00:00Z")); !ok || !fire.At.Equal(from) {
		t.Errorf("a delay that ends before from fires at %s", fire.At)
	}
	if fire, ok := after.Next(until.Add(-time.Hour)); ok {
		t.Errorf("a delay that ends at until fires at %s", fire.At)
	}
}

// TestADelayIsJudgedWhenItsInstantComes holds how the scheduler asks about @after.
func TestADelayIsJudgedWhenItsInstantComes(t *testing.T) {
	t.Parallel()
	s, err := schedule.Parse(core.Schedule{Spec: "@after 1h", OnlyOn: []string{"weekdays"}}, "task", weekly)
	if err != nil {
		t.Fatal(err)
	}
	saturday := instant(t, "2026-06-06T10:00:00Z")
	if fire := s.Judge(saturday); fire.Skip != core.ReasonCalendar || fire.Calendar != "weekdays" || fire.Rule != schedule.OnlyOn || !fire.At.Equal(saturday) {
		t.Errorf("%+v", fire)
	}
	if fire := s.Judge(saturday.AddDate(0, 0, 2)); fire.Skip != "" || fire.Calendar != "" {
		t.Errorf("%+v", fire)
	}
	if _, ok := s.FireOf(saturday); ok || s.Count(saturday, saturday.AddDate(1, 0, 0)) != 0 || s.Latest(saturday, saturday.AddDate(1, 0, 0), 5) != nil {
		t.Error("its fires follow from time")
	}
}

// TestWhatIsOverIsTold holds that a calendar whose days have passed leaves fires, all skipped, and no start.
func TestWhatIsOverIsTold(t *testing.T) {
	t.Parallel()
	at := instant(t, "2026-01-01T00:00:00Z")
	for _, move := range []string{"skip", "next", "previous"} {
		s, err := schedule.Parse(core.Schedule{Spec: "0 * * * *", OnlyOn: []string{"past"}, OnDayOff: move}, "task", weekly)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if fire, ok := s.NextStart(at); ok {
			t.Errorf("%s: starts at %s", move, fire.At)
		}
		if fire, ok := s.Next(at); !ok || fire.Skip != core.ReasonCalendar {
			t.Errorf("%s: %+v", move, fire)
		}
		if n := s.Count(at, at.AddDate(0, 0, 400)); n != 9600 {
			t.Errorf("%s: %d fires in 400 days", move, n)
		}
		if fires := s.Latest(at, at.AddDate(0, 0, 400), 5); len(fires) != 0 {
			t.Errorf("%s: %v", move, fires)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: took %s", move, took)
		}
	}
}

func TestWordsSayTheLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s    core.Schedule
		want core.Text
	}{
		{
			core.Schedule{Spec: "0 9 * * *", Zone: "Asia/Shanghai", OnlyOn: []string{"weekdays"}, OnDayOff: "next", Jitter: 10 * time.Minute},
			core.Text{
				Zh: "每天 09:00（Asia/Shanghai）；仅在 weekdays 的日子；遇休息日顺延到下一个允许的日子；开始时间最多推迟 10 分钟",
				En: "every day at 09:00 (Asia/Shanghai); only on weekdays; what falls on a day off moves to the next day allowed; each starts up to 10 minutes later",
			},
		},
		{
			core.Schedule{Spec: "@daily", OnlyOn: []string{"weekdays"}, NotOn: []string{"mondays", "nothing"}, From: instant(t, "2026-01-01T00:00:00Z"), Until: instant(t, "2027-01-01T00:00:00Z")},
			core.Text{
				Zh: "每天 00:00（UTC）；仅在 weekdays 的日子；不在 mondays、nothing 的日子；遇休息日跳过；自 2026-01-01 00:00:00 起（UTC）；到 2027-01-01 00:00:00 为止（UTC）",
				En: "every day at 00:00 (UTC); only on weekdays; not on mondays and nothing; what falls on a day off is skipped; from 2026-01-01 00:00:00 on (UTC); until 2027-01-01 00:00:00 (UTC)",
			},
		},
	} {
		s, err := schedule.Parse(c.s, "task", weekly)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Words(); got != c.want {
			t.Errorf("\n got %+v\nwant %+v", got, c.want)
		}
	}
}

// FuzzParseWithCalendars holds that no combination of limits makes a question panic, loop or contradict another.
func FuzzParseWithCalendars(f *testing.F) {
	for i, spec := range []string{"30 2 * * *", "0 * * * *", "@every 24h", "@list 2026-12-05T08:00:00Z,2026-12-06T08:00:00Z", "@after 1h", "@manual", "0 0 0 L * ?", "@every 90s"} {
		f.Add(spec, "America/New_York", uint8(i), int64(1_772_000_000), int64(i)*1_000_000, int64(i))
	}
	names := []string{"weekdays", "weekends", "mondays", "past", "nothing"}
	f.Fuzz(func(t *testing.T, spec, zone string, bits uint8, at, width, jitter int64) {
		s := core.Schedule{Spec: spec, Zone: zone, Jitter: time.Duration(jitter)}
		s.OnDayOff = []string{"", "next", "previous", "x"}[bits&3]
		s.OnlyOn = names[:bits>>2&1]
		s.NotOn = names[1:][:bits>>3&3]
		from := time.Unix(at, 0)
		if bits>>5&1 == 1 {
			s.From = from
		}
		if bits>>6&1 == 1 {
			s.Until = time.Unix(at+width, 5)
		}
		parsed, err := schedule.Parse(s, "task", weekly)
		if err != nil {
			if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.KindInvalid || len(e.Findings) == 0 {
				t.Fatalf("not a finding: %v", err)
			}
			return
		}
		if w := parsed.Words(); w.Zh == "" || w.En == "" || strings.Contains(w.Zh+w.En, "%!") {
			t.Errorf("%q: words %+v", spec, w)
		}
		before, n := from, int64(0)
		var starts []schedule.Fire
		for range 30 {
			fire, ok := parsed.Next(before)
			if !ok {
				break
			}
			if !fire.At.After(before) {
				t.Fatalf("%+v: Next(%s) = %s", s, before, fire.At)
			}
			if before = fire.At; parsed.Kind() == schedule.After {
				continue
			}
			if n++; fire.Skip == "" {
				starts = append(starts, fire)
			}
		}
		if got := parsed.Count(from, before); got != n {
			t.Errorf("%+v: Count(%s, %s) = %d, and Next gave %d", s, from, before, got, n)
		}
		if got := parsed.Latest(from, before, 100); fmt.Sprint(got) != fmt.Sprint(starts) && len(got)+len(starts) > 0 {
			t.Errorf("%+v: Latest(%s, %s) = %v, and Next gave %v", s, from, before, got, starts)
		}
	})
}
