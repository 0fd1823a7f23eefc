package schedule_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// TestBadSchedulesAreRefused holds what each refusal names: the field, what is wrong, and how to mend it.
func TestBadSchedulesAreRefused(t *testing.T) {
	t.Parallel()
	unix := func(spec string) core.Schedule { return core.Schedule{Spec: spec} }
	quartz := func(spec string) core.Schedule { return core.Schedule{Spec: spec, Dialect: "quartz"} }
	for _, c := range []struct {
		name  string
		s     core.Schedule
		path  string
		wants []string // parts of the English message
	}{
		{"Empty", unix("  "), "schedule.spec", []string{"is empty", "@manual"}},
		{"NeverFires", unix("0 0 30 2 *"), "schedule.spec", []string{`"0 0 30 2 *" never fires`, "check day of month, month"}},
		{"NeverFiresInAYear", quartz("0 0 0 29 2 ? 2027"), "schedule.spec", []string{"never fires"}},
		{"NeverFiresInAGap", core.Schedule{Spec: "0 */5 2 8 3 ? 2026", Dialect: "quartz", Zone: "America/New_York"}, "schedule.spec", []string{"never fires"}},
		{"OnlyEverSkipped", core.Schedule{Spec: "0 0 12 30 12 ? 2011", Dialect: "quartz", Zone: "Pacific/Apia"}, "schedule.spec", []string{"never fires"}},
		{"UnknownZone", core.Schedule{Spec: "@daily", Zone: "Asia/Shangai"}, "schedule.zone", []string{`no zone "Asia/Shangai"`, "2025c", "did you mean Asia/Shanghai"}},
		{"UnknownZoneBeijing", core.Schedule{Spec: "@daily", Zone: "Asia/Beijing"}, "schedule.zone", []string{"did you mean Asia/Shanghai"}},
		{"UnknownZoneByCity", core.Schedule{Spec: "@daily", Zone: "tokyo"}, "schedule.zone", []string{"did you mean Asia/Tokyo"}},
		{"ZoneThatIsAnOffset", core.Schedule{Spec: "@daily", Zone: "+08:00"}, "schedule.zone", []string{"did you mean Asia/Shanghai, Etc/GMT-8"}},
		{"ZoneThatIsAPath", core.Schedule{Spec: "@daily", Zone: "../../etc/passwd"}, "schedule.zone", []string{"no zone", "write an IANA name"}},
		{"ZoneLocal", core.Schedule{Spec: "@daily", Zone: "Local"}, "schedule.zone", []string{"no zone"}},
		{"ZoneInThePrefix", unix("CRON_TZ=Mars/Olympus 0 0 * * *"), "schedule.spec", []string{`no zone "Mars/Olympus"`}},
		{"ZoneTwice", core.Schedule{Spec: "CRON_TZ=Asia/Tokyo 0 0 * * *", Zone: "UTC"}, "schedule.zone", []string{"is UTC, but the spec begins with CRON_TZ=Asia/Tokyo", "keep only one"}},
		{"PrefixTwice", unix("TZ=UTC CRON_TZ=UTC 0 0 * * *"), "schedule.spec", []string{"once, at the beginning"}},
		{"PrefixInThePrefix", unix("TZ=TZ=TZ="), "schedule.spec", []string{"names a zone wrongly"}},
		{"PrefixWithoutZone", unix("TZ= 0 0 * * *"), "schedule.spec", []string{"no zone after TZ="}},
		{"PrefixWithoutTimes", unix("TZ=UTC"), "schedule.spec", []string{"no times"}},
		{"PrefixZero", unix("TZ=0"), "schedule.spec", []string{"no times"}},
		{"PrefixAtTheEnd", unix("0 0 * * * TZ=UTC"), "schedule.spec", []string{"once, at the beginning"}},
		{"SixFieldsAndAYear", unix("0 0 12 1 1 2027"), "schedule.spec", []string{
			`the last field, "2027", can be read in two ways`, "(1) the day of week of six unix fields (seconds first)", "(2) a year",
			`dialect: quartz`, `"0 0 12 1 1 ? 2027"`, `"0 0 0 12 1 1 2027"`, "@at",
		}},
		{"SixFieldsAndYears", unix("0 0 12 1 * 2027-2029"), "schedule.spec", []string{"two ways"}},
		{"QuartzSixFieldsAndAYear", quartz("0 0 12 1 1 2027"), "schedule.spec", []string{"two ways", `"0 0 12 1 1 ? 2027"`}},
		{"QuartzMarkInUnix", unix("0 0 12 ? * MON"), "schedule.spec", []string{`field 4, "?"`, "dialect: quartz"}},
		{"LastDayInUnix", unix("0 0 L * *"), "schedule.spec", []string{`field 3, "L"`, "dialect: quartz"}},
		{"NthWeekdayInUnix", unix("0 0 * * 5#3"), "schedule.spec", []string{"dialect: quartz"}},
		{"SevenFieldsInUnix", unix("0 0 0 1 1 1 2027"), "schedule.spec", []string{"7 fields", "dialect: quartz"}},
		{"FourFields", unix("0 0 1 1"), "schedule.spec", []string{"number of fields is 4", "takes 5"}},
		{"FiveFieldsInQuartz", quartz("0 0 * * *"), "schedule.spec", []string{"number of fields is 5", "dialect: unix"}},
		{"MinuteOutOfRange", unix("60 0 * * *"), "schedule.spec", []string{`field 1 (minute) "60"`, "0–59"}},
		{"HourOutOfRange", unix("0 24 * * *"), "schedule.spec", []string{`field 2 (hour) "24"`, "0–23"}},
		{"HourOfSixFields", unix("0 0 24 * * *"), "schedule.spec", []string{`field 3 (hour) "24"`}},
		{"WeekdayOutOfRange", unix("0 0 * * 8"), "schedule.spec", []string{`field 5 (day of week) "8"`, "0 and 7 are Sunday"}},
		{"RangeBackwards", unix("0 17-9 * * *"), "schedule.spec", []string{`field 2 (hour) "17-9"`}},
		{"StepZero", unix("*/0 * * * *"), "schedule.spec", []string{`field 1 (minute) "*/0"`}},
		{"StarInARange", unix("*-5 * * * *"), "schedule.spec", []string{"* cannot be an end of a range"}},
		{"NothingBetweenCommas", unix("1,,2 * * * *"), "schedule.spec", []string{"nothing between two commas"}},
		{"Sign", unix("+5 * * * *"), "schedule.spec", []string{"not a number"}},
		{"FullWidth", unix("0 9，12 * * *"), "schedule.spec", []string{"U+FF0C", "ASCII"}},
		{"TwoLines", unix("0 9 * * *\n0 12 * * *"), "schedule.spec", []string{"one line"}},
		{"HWithoutSense", unix("H5 * * * *"), "schedule.spec", []string{"H is written"}},
		{"HOutOfRange", unix("H(0-60) * * * *"), "schedule.spec", []string{"range of H"}},
		{"HStepTooWide", unix("H/61 * * * *"), "schedule.spec", []string{"step of H"}},
		{"HForAYear", quartz("0 0 0 1 1 ? H"), "schedule.spec", []string{"cannot stand for a year"}},
		{"QuartzTwoMarks", quartz("0 0 0 ? * ?"), "schedule.spec", []string{"? for both"}},
		{"QuartzMarkInHours", quartz("0 0 ? * * 1"), "schedule.spec", []string{`field 3 (hour) "?"`}},
		{"QuartzWeekdayZero", quartz("0 0 0 ? * 0"), "schedule.spec", []string{"1 is Sunday"}},
		{"QuartzSixthWeek", quartz("0 0 0 ? * 2#6"), "schedule.spec", []string{"6#3"}},
		{"QuartzStepTooLong", quartz("0 0/90 * * * ?"), "schedule.spec", []string{"step must be 1 to 60"}},
		{"QuartzYearBackwards", quartz("0 0 0 1 1 ? 2030-2027"), "schedule.spec", []string{"begins after its end"}},
		{"QuartzDay32W", quartz("0 0 0 32W * ?"), "schedule.spec", []string{"1 to 31"}},
		{"QuartzLastButTooMany", quartz("0 0 0 L-31 * ?"), "schedule.spec", []string{"0–30"}},
		{"UnknownDialect", core.Schedule{Spec: "@daily", Dialect: "spring"}, "schedule.dialect", []string{`"spring"`, "unix or quartz"}},
		{"UnknownOnGap", core.Schedule{Spec: "@daily", OnGap: "run"}, "schedule.on_gap", []string{`"run"`, "run_after"}},
		{"UnknownOnOverlap", core.Schedule{Spec: "@daily", OnOverlap: "last"}, "schedule.on_overlap", []string{`"last"`, "first, second or both"}},
		{"UnknownWord", unix("@fortnightly"), "schedule.spec", []string{`"@fortnightly"`, "@weekly"}},
		{"Reboot", unix("@reboot"), "schedule.spec", []string{"not supported"}},
		{"DailyWithMore", unix("@daily 5"), "schedule.spec", []string{"nothing after @daily"}},
		{"EveryWithoutDuration", unix("@every"), "schedule.spec", []string{`"@every 90s"`}},
		{"EveryDays", unix("@every 2d"), "schedule.spec", []string{"no days", "24h"}},
		{"EveryTooShort", unix("@every 500ms"), "schedule.spec", []string{"shortest is 1s"}},
		{"EveryNegative", unix("@every -5s"), "schedule.spec", []string{"shortest is 1s"}},
		{"EveryTooFine", unix("@every 1.0000001s"), "schedule.spec", []string{"whole milliseconds"}},
		{"EveryOverflow", unix("@every 9999999999h"), "schedule.spec", []string{"too long", "2562047h"}},
		{"AfterTooShort", unix("@after 0s"), "schedule.spec", []string{"shortest is 1s"}},
		{"AtWithoutOffset", unix("@at 2026-12-01T08:00:00"), "schedule.spec", []string{"with an offset"}},
		{"AtTwo", unix("@at 2026-12-01T08:00:00Z 2026-12-02T08:00:00Z"), "schedule.spec", []string{"one instant"}},
		{"AtTooFine", unix("@at 2026-12-01T08:00:00.0000001Z"), "schedule.spec", []string{"microsecond"}},
		{"ListEmpty", unix("@list"), "schedule.spec", []string{"at least one"}},
		{"ListTwice", unix("@list 2026-12-01T08:00:00+08:00 2026-12-01T00:00:00Z"), "schedule.spec", []string{"instants 1 and 2 are the same"}},
		{"ListTooLong", unix("@list" + strings.Repeat(" 2026-12-01T08:00:00Z", 1001)), "schedule.spec", []string{"the most is 1000"}},
		{"TooLong", unix(strings.Repeat("0", 70_000)), "schedule.spec", []string{"longer than"}},
		{"NotText", unix("\xff\xfe * * * *"), "schedule.spec", []string{"ASCII"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := schedule.Parse(c.s, "task", nil)
			e, ok := errors.AsType[*core.Error](err)
			if !ok || e.Kind != core.KindInvalid || len(e.Findings) == 0 {
				t.Fatalf("%+v: not refused with findings: %v", c.s, err)
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
			if text := err.Error() + f.Message.Zh; strings.Contains(text, "%!") || strings.Contains(err.Error(), "\n") {
				t.Errorf("badly formatted: %s", text)
			}
		})
	}
}

func TestEverythingWrongIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := schedule.Parse(core.Schedule{Spec: "60 25 * * *", Zone: "Nowhere", Dialect: "", OnGap: "x", OnOverlap: "y"}, "task", nil)
	e, ok := errors.AsType[*core.Error](err)
	if !ok || len(e.Findings) != 5 {
		t.Errorf("want 5 findings: %v", err)
	}
}

func TestKindsAreTold(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]schedule.Kind{
		"0 0 * * *": schedule.Cron, "@hourly": schedule.Cron, "@every 5s": schedule.Every, "@after 5s": schedule.After,
		"@at 2026-12-01T08:00:00Z": schedule.At, "@list 2026-12-01T08:00:00Z": schedule.List, "@manual": schedule.Manual,
	} {
		s := mustParse(t, core.Schedule{Spec: spec, Zone: "Asia/Shanghai"})
		if s.Kind() != want || s.Location().String() != "Asia/Shanghai" {
			t.Errorf("%s: kind %s in %s, want %s", spec, s.Kind(), s.Location(), want)
		}
		if after := s.After(); (after == 5*time.Second) != (want == schedule.After) {
			t.Errorf("%s: After() = %s", spec, after)
		}
	}
}

func TestTheZoneDatabaseIsEmbedded(t *testing.T) {
	t.Setenv("ZONEINFO", "/nowhere")
	if v := schedule.TZVersion(); len(v) != 5 || v < "2025c" {
		t.Errorf("version %q", v)
	}
	if n := len(schedule.ZoneNames()); n < 590 {
		t.Errorf("%d zones", n)
	}
}

// FuzzParse holds that no input makes Parse, Next, Last or Words panic, loop or go back.
func FuzzParse(f *testing.F) {
	for _, spec := range []string{
		"30 2 * * *", "0 0 30 2 *", "TZ=0", "TZ=TZ=TZ=", "CRON_TZ=Asia/Tokyo 0 6 * * *", "H H(1-5) * * H/2", "@every 90s",
		"0 0 0 L-3,LW,15W * ?", "0 0 0 ? * 6L,6#3 2027", "@list 2026-12-01T08:00:00Z,2026-12-02T08:00:00Z", "* * * * 1-7/2",
		"*/9223372036854775807 * * * *", "0 0 * * sun-sun", ",", "@", "0 0 0 31W 2 ?", "0 0 0 L-30 * ?",
	} {
		f.Add(spec, "unix", "America/New_York", int64(1_772_000_000))
		f.Add(spec, "quartz", "", int64(0))
	}
	f.Fuzz(func(t *testing.T, spec, dialect, zone string, at int64) {
		s, err := schedule.Parse(core.Schedule{Spec: spec, Dialect: dialect, Zone: zone}, "task", nil)
		if err != nil {
			if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.KindInvalid || len(e.Findings) == 0 {
				t.Fatalf("not a finding: %v", err)
			}
			return
		}
		if w := s.Words(); w.Zh == "" || w.En == "" || strings.Contains(w.Zh+w.En, "%!") {
			t.Errorf("%q: words %+v", spec, w)
		}
		from := time.Unix(at, 0)
		before, n := from, int64(0)
		for range 50 {
			fire, ok := s.Next(before)
			if !ok {
				break
			}
			if !fire.At.After(before) {
				t.Fatalf("%q: Next(%s) = %s", spec, before, fire.At)
			}
			before = fire.At
			if s.Kind() != schedule.After {
				n++
			}
		}
		if got := s.Count(from, before); got != n {
			t.Errorf("%q: Count(%s, %s) = %d, and Next gave %d", spec, from, before, got, n)
		}
	})
}
