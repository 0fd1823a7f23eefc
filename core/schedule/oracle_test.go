package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// The oracle knows nothing of the code under test: it makes a spec as predicates and as text at once, walks every
// second (or minute) of the line of time around a change of the clock, asks Go for the local time of each, and applies
// the cron rule by its words. What the two share is the tz database and package time.

// cronField is one field: how it is written, and which values match.
type cronField struct {
	text  string
	match func(v int) bool
}

// drawField makes a field; hot are values that matter at the change of the clock, and come up often.
func drawField(t *rapid.T, label string, lo, hi int, hot ...int) cronField {
	step := rapid.IntRange(2, min(20, hi-lo)).Draw(t, label+" step")
	value := rapid.OneOf(rapid.IntRange(lo, hi), rapid.SampledFrom(append(hot, lo)))
	a, c := value.Draw(t, label+" a"), value.Draw(t, label+" c")
	b := rapid.IntRange(a, hi).Draw(t, label+" b")
	switch rapid.IntRange(0, 8).Draw(t, label+" form") {
	case 0:
		return cronField{"*", func(int) bool { return true }}
	case 1:
		return cronField{fmt.Sprintf("*/%d", step), func(v int) bool { return (v-lo)%step == 0 }}
	case 2:
		return cronField{fmt.Sprintf("%d-%d", a, b), func(v int) bool { return a <= v && v <= b }}
	case 3:
		return cronField{fmt.Sprintf("%d-%d/%d", a, b, step), func(v int) bool { return a <= v && v <= b && (v-a)%step == 0 }}
	case 4:
		return cronField{fmt.Sprintf("%d/%d", a, step), func(v int) bool { return a <= v && (v-a)%step == 0 }}
	case 5:
		return cronField{fmt.Sprintf("%d,%d-%d", c, a, b), func(v int) bool { return v == c || a <= v && v <= b }}
	case 6:
		return cronField{fmt.Sprint(a), func(v int) bool { return v == a }}
	default:
		return cronField{fmt.Sprintf("%d,%d", a, c), func(v int) bool { return v == a || v == c }}
	}
}

// dayField is a field of days: how it is written, and which dates match (civil times, held as UTC).
type dayField struct {
	text  string
	match func(civil time.Time) bool
}

// oracleSpec is a cron expression as the oracle sees it.
type oracleSpec struct {
	schedule              core.Schedule
	sec, min, hour, month cronField
	dom, dow              dayField
	year                  func(year int) bool
}

func (o oracleSpec) matches(civil time.Time) bool {
	if !o.hour.match(civil.Hour()) || !o.min.match(civil.Minute()) || !o.sec.match(civil.Second()) ||
		!o.month.match(int(civil.Month())) || !o.year(civil.Year()) {
		return false
	}
	star := func(s string) bool { return s[0] == '*' || s[0] == '?' }
	if star(o.dom.text) || star(o.dow.text) {
		return o.dom.match(civil) && o.dow.match(civil)
	}
	return o.dom.match(civil) || o.dow.match(civil)
}

func (o oracleSpec) realTime() bool { return o.min.text[0] == '*' || o.hour.text[0] == '*' }

func always[T any](T) bool { return true }

func drawSpec(t *rapid.T, near time.Time, seconds bool) oracleSpec {
	before, after := near.Add(-time.Second), near
	o := oracleSpec{
		sec:   cronField{"0", func(v int) bool { return v == 0 }},
		min:   drawField(t, "minute", 0, 59, before.Minute(), after.Minute(), 30),
		hour:  drawField(t, "hour", 0, 23, before.Hour(), (before.Hour()+1)%24, after.Hour(), (after.Hour()+1)%24),
		month: cronField{"*", always[int]},
		dom:   dayField{"*", always[time.Time]},
		dow:   dayField{"*", always[time.Time]},
		year:  always[int],
	}
	if seconds {
		o.sec = drawField(t, "second", 0, 59)
	}
	if rapid.IntRange(0, 7).Draw(t, "month?") == 0 {
		o.month = drawField(t, "month", 1, 12, int(near.Month()))
	}
	if rapid.IntRange(0, 4).Draw(t, "dom?") == 0 {
		f := drawField(t, "dom", 1, 31, before.Day(), after.Day())
		o.dom = dayField{f.text, func(c time.Time) bool { return f.match(c.Day()) }}
	}
	year := ""
	if rapid.Bool().Draw(t, "quartz") {
		o.schedule.Dialect = "quartz"
		drawQuartzDays(t, &o, near)
		if from := near.Year(); rapid.IntRange(0, 3).Draw(t, "year?") == 0 && 1970 <= from && from < 2197 {
			to := from + rapid.IntRange(0, 2).Draw(t, "years")
			year = fmt.Sprintf(" %d-%d", from, to)
			o.year = func(y int) bool { return from <= y && y <= to }
		}
	} else if rapid.IntRange(0, 4).Draw(t, "dow?") == 0 {
		f := drawField(t, "dow", 0, 6, int(before.Weekday()), int(after.Weekday()))
		o.dow = dayField{f.text, func(c time.Time) bool { return f.match(int(c.Weekday())) }}
	}
	o.schedule.OnGap = rapid.SampledFrom([]string{"", "run_after", "skip"}).Draw(t, "on_gap")
	o.schedule.OnOverlap = rapid.SampledFrom([]string{"", "first", "second", "both"}).Draw(t, "on_overlap")
	o.schedule.Spec = strings.Join([]string{o.sec.text, o.min.text, o.hour.text, o.dom.text, o.month.text, o.dow.text}, " ") + year
	if o.schedule.Dialect == "" && o.sec.text == "0" {
		_, o.schedule.Spec, _ = strings.Cut(o.schedule.Spec, " ")
	}
	return o
}

// drawQuartzDays may replace a day field by what only quartz has. Weekdays are 1 to 7 there, Sunday first.
func drawQuartzDays(t *rapid.T, o *oracleSpec, near time.Time) {
	end := time.Date(near.Year(), near.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
	n := rapid.SampledFrom([]int{1, near.Day(), near.Day()%31 + 1, max(1, near.Day()-1), end - near.Day() + 1, end}).Draw(t, "n")
	k := rapid.SampledFrom([]int{(near.Day() + 6) / 7, 5}).Draw(t, "k")
	day := (int(near.Weekday()) + rapid.IntRange(0, 6).Draw(t, "weekday")) % 7
	last := func(c time.Time) int { return time.Date(c.Year(), c.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day() }
	nearest := func(c time.Time, target int) bool {
		best, far := 0, 99
		for d := 1; d <= last(c) && target >= 1 && target <= last(c); d++ {
			w := time.Date(c.Year(), c.Month(), d, 0, 0, 0, 0, time.UTC).Weekday()
			if dist := max(d-target, target-d); w != time.Saturday && w != time.Sunday && dist < far {
				best, far = d, dist
			}
		}
		return c.Day() == best
	}
	anyDay := dayField{"?", always[time.Time]}
	switch rapid.IntRange(0, 14).Draw(t, "quartz days") {
	case 0:
		o.dom, o.dow = dayField{"L", func(c time.Time) bool { return c.Day() == last(c) }}, anyDay
	case 1:
		o.dom, o.dow = dayField{fmt.Sprintf("L-%d", n-1), func(c time.Time) bool { return c.Day() == last(c)-(n-1) }}, anyDay
	case 2:
		o.dom, o.dow = dayField{"LW", func(c time.Time) bool { return nearest(c, last(c)) }}, anyDay
	case 3:
		o.dom, o.dow = dayField{fmt.Sprintf("%dW", n), func(c time.Time) bool { return nearest(c, n) }}, anyDay
	case 4:
		o.dow = dayField{fmt.Sprintf("%dL", day+1), func(c time.Time) bool { return int(c.Weekday()) == day && c.Day()+7 > last(c) }}
	case 5:
		o.dow = dayField{fmt.Sprintf("%d#%d", day+1, k), func(c time.Time) bool { return int(c.Weekday()) == day && (c.Day()+6)/7 == k }}
	case 6:
		o.dow = dayField{fmt.Sprint(day + 1), func(c time.Time) bool { return int(c.Weekday()) == day }}
	case 7:
		o.dom = anyDay
	default:
		o.dow = anyDay
	}
}

// expect gives every fire in (from, to], worked out second by second (or minute by minute).
func (o oracleSpec) expect(loc *time.Location, from, to time.Time, step int64) []schedule.Fire {
	const margin = 2 * 86400
	type moment struct {
		u, civil int64
		match    bool
	}
	var line []moment
	when := make(map[int64][]int64) // matching civil second -> its instants
	match := func(civil int64) bool { return o.matches(time.Unix(civil, 0).UTC()) }
	for u := from.Unix() - from.Unix()%step - margin/step*step; u <= to.Unix()+margin; u += step {
		_, off := time.Unix(u, 0).In(loc).Zone()
		m := moment{u, u + int64(off), match(u + int64(off))}
		if line = append(line, m); m.match {
			when[m.civil] = append(when[m.civil], u)
		}
	}
	runs, skips := map[int64]bool{}, map[int64]bool{}
	for i, m := range line {
		if m.match {
			same := when[m.civil]
			switch {
			case o.realTime() || o.schedule.OnOverlap == "both":
				runs[m.u] = true
			case o.schedule.OnOverlap == "second":
				runs[same[len(same)-1]] = true
			default:
				runs[same[0]] = true
			}
		}
		if i == 0 || o.realTime() {
			continue
		}
		missing := line[i-1].civil + step
		width := m.civil - missing
		for c := missing; c < m.civil; c += step {
			if match(c) && len(when[c]) == 0 {
				if o.schedule.OnGap == "skip" || width > 3*3600 {
					skips[m.u] = true
				} else {
					runs[m.u] = true
				}
			}
		}
	}
	var fires []schedule.Fire
	for u := range runs {
		fires = append(fires, schedule.Fire{At: time.Unix(u, 0)})
	}
	for u := range skips {
		at := time.Unix(u, 0)
		if runs[u] {
			at = at.Add(-time.Microsecond)
		}
		fires = append(fires, schedule.Fire{At: at, Skip: core.ReasonNonexistent})
	}
	fires = slices.DeleteFunc(fires, func(f schedule.Fire) bool { return !f.At.After(from) || f.At.After(to) })
	slices.SortFunc(fires, func(a, b schedule.Fire) int { return a.At.Compare(b.At) })
	return fires
}

// oddZones are places where the clock did, or does, something few people think of.
var oddZones = []struct{ zone, near string }{
	{"America/New_York", "2026-03-08T07:00:00Z"},
	{"America/New_York", "2026-11-01T06:00:00Z"},
	{"Europe/Berlin", "2026-03-29T01:00:00Z"},
	{"Europe/Dublin", "2026-10-25T01:00:00Z"},       // negative summer time
	{"Australia/Lord_Howe", "2026-10-03T15:30:00Z"}, // half an hour
	{"Australia/Lord_Howe", "2027-04-03T15:00:00Z"}, //
	{"Antarctica/Troll", "2026-03-29T01:00:00Z"},    // two hours
	{"Antarctica/Troll", "2026-10-25T01:00:00Z"},    //
	{"Pacific/Apia", "2011-12-30T10:00:00Z"},        // a day left out
	{"Pacific/Kwajalein", "1993-08-21T12:00:00Z"},   // a day left out
	{"Pacific/Kiritimati", "1994-12-31T10:00:00Z"},  // a day left out
	{"America/Sao_Paulo", "2018-11-04T03:00:00Z"},   // midnight left out
	{"America/Havana", "2026-03-08T05:00:00Z"},      // midnight left out
	{"America/Havana", "2026-11-01T05:00:00Z"},      // midnight doubled
	{"America/Asuncion", "2024-03-24T03:00:00Z"},    // the hour before midnight doubled
	{"Africa/Casablanca", "2026-02-15T02:00:00Z"},   // Ramadan
	{"Africa/Casablanca", "2087-05-11T02:00:00Z"},   // the last listed change of the tz database
	{"Asia/Pyongyang", "2015-08-14T15:00:00Z"},      // half an hour, for politics
	{"Asia/Pyongyang", "2018-05-04T15:00:00Z"},      //
	{"America/Caracas", "2016-05-01T07:00:00Z"},     // half an hour
	{"Asia/Kathmandu", "1985-12-31T18:30:00Z"},      // a quarter of an hour
	{"Asia/Shanghai", "1986-05-03T18:00:00Z"},       // summer time in China
	{"Asia/Shanghai", "1991-09-14T17:00:00Z"},       //
	{"Antarctica/Casey", "2010-03-04T15:00:00Z"},    // three hours back
	{"Antarctica/Casey", "2009-10-17T18:00:00Z"},    // three hours on
	{"Antarctica/Davis", "2009-10-17T19:00:00Z"},    // two hours
	{"Antarctica/Vostok", "1994-01-31T17:00:00Z"},   // seven hours
	{"America/Metlakatla", "1983-10-30T10:00:00Z"},  //
	{"Asia/Gaza", "2026-03-27T22:00:00Z"},           //
	{"Africa/Monrovia", "1972-01-07T00:44:30Z"},     // seconds
	{"Europe/Amsterdam", "1937-06-30T22:40:00Z"},    // twenty minutes
	{"America/Juneau", "1867-10-18T15:33:32Z"},      // a day doubled, with seconds
	{"Asia/Manila", "1844-12-30T15:56:00Z"},         // a day left out, with seconds
	{"America/Argentina/San_Luis", "2008-01-21T02:00:00Z"},
	{"Asia/Shanghai", "2026-06-01T00:00:00Z"}, // nothing happens
	{"UTC", "2026-06-01T00:00:00Z"},
	{"America/New_York", "2499-12-31T00:00:00Z"}, // the fold of the zone table
	{"Europe/Berlin", "2500-03-28T01:00:00Z"},
	{"Australia/Sydney", "2899-10-04T16:00:00Z"},
}

func checkAgainstOracle(t *rapid.T) {
	place := rapid.SampledFrom(oddZones).Draw(t, "place")
	near := instant(t, place.near)
	loc := mustParse(t, core.Schedule{Spec: "@manual", Zone: place.zone}).Location()
	if rapid.IntRange(0, 3).Draw(t, "elsewhen") == 0 { // some other change of the same zone
		if _, end := near.AddDate(rapid.IntRange(-60, 60).Draw(t, "years off"), 0, 0).In(loc).ZoneBounds(); !end.IsZero() {
			near = end
		}
	}
	_, before := near.Add(-96 * time.Hour).In(loc).Zone()
	_, after := near.Add(96 * time.Hour).In(loc).Zone()
	fine := before%60 != 0 || after%60 != 0
	seconds := fine && rapid.Bool().Draw(t, "seconds") || rapid.IntRange(0, 30).Draw(t, "seconds") == 0
	step, reach := int64(60), 40*time.Hour
	if fine || seconds {
		step, reach = 1, 26*time.Hour
	}
	o := drawSpec(t, near.In(loc), seconds)
	o.schedule.Zone = place.zone
	from := near.Add(-reach + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "from")))
	to := near.Add(reach)

	s, err := schedule.Parse(o.schedule, "task", nil)
	if err != nil {
		if strings.Contains(err.Error(), "never fires") {
			t.Skip("never fires")
		}
		t.Fatalf("%+v: %v", o.schedule, err)
	}
	want := o.expect(loc, from, to, step)

	var got []schedule.Fire
	for at := from; ; {
		fire, ok := s.Next(at)
		if !ok || fire.At.After(to) {
			break
		}
		if !fire.At.After(at) {
			t.Fatalf("%+v: Next(%s) = %s, which is not after it", o.schedule, at, fire.At)
		}
		got = append(got, fire)
		at = fire.At
	}
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			t.Fatalf("%+v: missed %s %s", o.schedule, want[i].At.In(loc), want[i].Skip)
		case i >= len(want):
			t.Fatalf("%+v: fired at %s %s, and should not", o.schedule, got[i].At, got[i].Skip)
		case !want[i].At.Equal(got[i].At) || want[i].Skip != got[i].Skip:
			t.Fatalf("%+v: fire %d is %s %q, want %s %q", o.schedule, i, got[i].At, got[i].Skip, want[i].At.In(loc), want[i].Skip)
		}
	}
	for range 4 { // Count and Latest over any piece, whose ends may be fires themselves
		pick := func(label string) time.Time {
			if len(want) > 0 && rapid.Bool().Draw(t, label+" at a fire") {
				return rapid.SampledFrom(want).Draw(t, label).At.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, label+" off")) * time.Microsecond)
			}
			return from.Add(time.Duration(rapid.Int64Range(0, int64(to.Sub(from))).Draw(t, label)))
		}
		checkRange(t, s, want, from, to, pick("a"), pick("b"))
	}
	checkRange(t, s, want, from, to, from, to)
}

// checkRange compares Count(a, b) and Latest(a, b) with what the list of all fires in (from, to] says.
func checkRange(t *rapid.T, s *schedule.Schedule, all []schedule.Fire, from, to, a, b time.Time) {
	if a.Before(from) || b.After(to) {
		return
	}
	limit := rapid.IntRange(1, 5).Draw(t, "limit")
	var count int64
	var want []schedule.Fire
	for _, f := range all {
		if !f.At.After(a) || f.At.After(b) {
			continue
		}
		count++
		if f.Skip == "" {
			want = append(want, f)
		}
	}
	want = want[max(0, len(want)-limit):]
	if n := s.Count(a, b); n != count {
		t.Fatalf("Count(%s, %s) = %d, want %d", a, b, n, count)
	}
	same := func(x, y schedule.Fire) bool { // the rest of Fire is compared, zones and all, but for At itself
		x.At, y.At, x.MovedFrom, y.MovedFrom = x.At.UTC(), y.At.UTC(), x.MovedFrom.UTC(), y.MovedFrom.UTC()
		return x == y
	}
	if got := s.Latest(a, b, limit); !slices.EqualFunc(got, want, same) {
		t.Fatalf("Latest(%s, %s, %d) = %v, want %v", a, b, limit, got, want)
	}
}

func TestFiresAgreeWithTheOracle(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"A", "B", "C", "D"} { // 100 schedules each, and more with -rapid.checks
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, checkAgainstOracle)
		})
	}
}

func FuzzNext(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkAgainstOracle)) }
