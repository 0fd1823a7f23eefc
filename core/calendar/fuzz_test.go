package calendar_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
)

// FuzzParseHolidays holds that no file makes the reader panic, and that what it accepts can be used.
func FuzzParseHolidays(f *testing.F) {
	for _, text := range []string{
		`{"region":"CN","year":2027,"holidays":{"2027-01-01":"元旦"},"workdays":{"2027-01-03":"元旦"}}`, `[{"year":2027,"holidays":{"2027-01-01":""}}]`,
		`{"holidays":{"2027-01-01":"New Year's Day,元旦,1"},"workdays":{},"inLieuDays":{}}`, `[null]`, `{"year":1e9}`, "\xef\xbb\xbf{}", `[[]]`, `nul`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		years, err := calendar.ParseHolidays(data)
		if err != nil {
			if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.KindInvalid || len(e.Findings) == 0 || e.Findings[0].Message.Zh == "" {
				t.Fatalf("not a finding: %v", err)
			}
			return
		}
		set, findings := calendar.New(nil, years)
		if len(findings) > 0 || len(set.Missing("cn-workdays", time.Date(years[0].Year, 5, 1, 0, 0, 0, 0, time.UTC), time.Date(years[0].Year, 5, 1, 0, 0, 0, 0, time.UTC))) > 0 {
			t.Fatalf("%s: accepted, and then %+v", data, findings)
		}
	})
}

// FuzzDefinition holds that no definition makes a set panic or loop, and that what it accepts has some day.
func FuzzDefinition(f *testing.F) {
	f.Add("mon,tue", "2026-01-01", "2026-02-01", "22:00", "06:00", "cn-workdays", "Asia/Shanghai", int64(1_770_000_000))
	f.Add("", "--12-24", "--01-02", "00:00", "24:00", "c", "", int64(0))
	f.Fuzz(func(t *testing.T, weekdays, from, to, begin, end, other, zone string, at int64) {
		def := core.Calendar{Name: "c", Zone: zone, Dates: []core.DateRange{{From: from, To: to}}, Times: []core.DayTime{{From: begin, To: end}}, AllOf: []string{other}}
		if weekdays != "" {
			def.Weekdays = strings.Split(weekdays, ",")
		}
		set, findings := calendar.New([]core.Calendar{def}, nil)
		days, ok := set.Days("c", time.UTC)
		if ok != (len(findings) == 0) {
			t.Fatalf("%+v: usable %v with findings %+v", def, ok, findings)
		}
		for _, f := range findings {
			if f.Path == "" || f.Message.En == "" || f.Message.Zh == "" {
				t.Fatalf("%+v: %+v", def, f)
			}
		}
		for when := time.Unix(at, 0); ok && when.Unix() < at+1e6; {
			_, a, b := days.Stretch(when)
			if a.After(when) || !b.After(when) {
				t.Fatalf("%+v at %s: [%s, %s)", def, when, a, b)
			}
			when = b
		}
	})
}
