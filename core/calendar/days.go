package calendar

import (
	"sort"
	"time"
)

const (
	daySeconds = 24 * 60 * 60
	dayMicros  = daySeconds * 1_000_000
	distant    = 1 << 40 // further than any day number; days, so that it can be turned into seconds and back
)

const (
	mondayToFriday    = 0b0111110 // bit 0 is Sunday
	saturdayAndSunday = 0b1000001
)

// calendar is a resolved definition. It does not change.
type calendar struct {
	name     string
	zone     *time.Location // nil: of whoever asks
	table    *holidays
	weekdays uint8
	dates    dates
	except   dates
	spans    []span // rising, apart from each other
	times    []dayTime
	all, any []*calendar
	none     []*calendar
	notes    []note
}

// everything says whether the calendar starts from all days, because nothing says which ones it holds.
func (c *calendar) everything() bool {
	return c.weekdays == 0 && c.dates.empty() && len(c.spans) == 0 && len(c.any) == 0
}

func (c *calendar) needsHolidays() bool {
	if c.name == Workdays || c.name == Holidays {
		return true
	}
	for _, list := range [][]*calendar{c.all, c.any, c.none} {
		for _, other := range list {
			if other.needsHolidays() {
				return true
			}
		}
	}
	return false
}

// stretch is an answer and how far it holds: in days, counted from 1970-01-01, or in microseconds since then.
type stretch struct {
	in       bool
	from, to int64 // from <= asked < to
}

func always(in bool) stretch { return stretch{in: in, from: -distant, to: distant} }

// or joins two answers about the same day or instant. Where both say yes, or the other has no say, the longer one counts.
func (a stretch) or(b stretch) stretch {
	switch {
	case a.in && b.in:
		return stretch{true, min(a.from, b.from), max(a.to, b.to)}
	case a.in:
		return a
	case b.in:
		return b
	}
	return stretch{false, max(a.from, b.from), min(a.to, b.to)}
}

func (a stretch) not() stretch { return stretch{!a.in, a.from, a.to} }

func (a stretch) and(b stretch) stretch { return a.not().or(b.not()).not() }

// days is a calendar in a zone.
type days struct {
	*calendar
	loc     *time.Location
	all     []*days
	any     []*days
	none    []*days
	dayOnly bool // made of whole days of loc
}

// in resolves a calendar and what it refers to in a zone. A calendar without a zone has that of the one that refers to it.
func (c *calendar) in(zone *time.Location) *days {
	if c.zone != nil && c.zone.String() != zone.String() { // the asker's own table of the same zone is the one to go by
		zone = c.zone
	}
	d := &days{calendar: c, loc: zone, dayOnly: len(c.spans) == 0 && len(c.times) == 0}
	resolve := func(list []*calendar) (resolved []*days) {
		for _, other := range list {
			o := other.in(zone)
			d.dayOnly = d.dayOnly && o.dayOnly && o.sameZone(d)
			resolved = append(resolved, o)
		}
		return resolved
	}
	d.all, d.any, d.none = resolve(c.all), resolve(c.any), resolve(c.none)
	return d
}

func (d *days) sameZone(other *days) bool {
	return d.loc == other.loc || d.loc.String() == other.loc.String()
}

// Stretch implements Days.
func (d *days) Stretch(at time.Time) (in bool, from, to time.Time) {
	// Within a segment of constant offset local time is arithmetic; a stretch ends where the segment does.
	micro := at.UnixMicro()
	local := at.In(d.loc)
	_, seconds := local.Zone()
	offset := int64(seconds) * 1_000_000
	s := d.local(micro, offset)
	s.from, s.to = max(s.from, earliest), min(s.to, latest)
	if start, end := local.ZoneBounds(); !start.IsZero() || !end.IsZero() {
		if !start.IsZero() {
			s.from = max(s.from, start.UnixMicro())
		}
		if !end.After(at) && !end.IsZero() {
			// Go gives the end of a leap year's last segment one day early (time.tzset, go1.26). Nothing changes in that day.
			end = time.Date(at.UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		if !end.IsZero() {
			s.to = min(s.to, end.UnixMicro())
		}
	}
	return s.in, time.UnixMicro(min(s.from, micro)).UTC(), time.UnixMicro(max(s.to, micro+1)).UTC()
}

// The ends of time: the years 1 and 9999.
var (
	earliest = time.Time{}.UnixMicro()
	latest   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

// local gives the answer for an instant whose local time is offset ahead of it; all in microseconds.
func (d *days) local(at, offset int64) stretch {
	day := floorDiv(at+offset, dayMicros)
	if d.dayOnly {
		return d.day(day).micros(offset)
	}
	if len(d.times) == 0 {
		return d.holds(day, at, offset)
	}
	// A part of a day that runs past midnight belongs to the day it began on.
	tod := (at + offset - day*dayMicros) / 1_000_000
	result := stretch{false, 0, daySeconds}
	today, yesterday := false, false
	for _, t := range d.times {
		for _, edge := range [2]int64{t.from, t.to} {
			if edge <= tod {
				result.from = max(result.from, edge)
			} else {
				result.to = min(result.to, edge)
			}
		}
		if t.from < t.to {
			today = today || t.from <= tod && tod < t.to
		} else {
			today, yesterday = today || t.from <= tod, yesterday || tod < t.to
		}
	}
	result.from = result.from*1_000_000 + day*dayMicros - offset
	result.to = result.to*1_000_000 + day*dayMicros - offset
	held := stretch{false, earliest, latest}
	if today {
		held = held.or(d.holds(day, at, offset))
	}
	if yesterday {
		held = held.or(d.holds(day-1, at, offset))
	}
	if !today && !yesterday {
		return result
	}
	return stretch{held.in, max(held.from, result.from), min(held.to, result.to)}
}

// holds gives the answer for an instant that belongs to a day (its own, or the one before), the times of day apart.
func (d *days) holds(day, at, offset int64) stretch {
	shift := day - floorDiv(at+offset, dayMicros) // -1 for what began the day before
	whole := func(s stretch) stretch {
		if s.from > -distant {
			s.from -= shift
		}
		if s.to < distant {
			s.to -= shift
		}
		return s.micros(offset)
	}
	of := func(other *days) stretch {
		if other.dayOnly && other.sameZone(d) {
			return whole(other.day(day))
		}
		if other.sameZone(d) {
			return other.local(at, offset)
		}
		in, from, to := other.Stretch(time.UnixMicro(at))
		return stretch{in, from.UnixMicro(), to.UnixMicro()}
	}
	s := whole(d.own(day))
	if len(d.spans) > 0 {
		s = s.or(spanned(d.spans, at))
	}
	for _, other := range d.any {
		s = s.or(of(other))
	}
	if !d.except.empty() {
		s = s.and(whole(d.except.find(day).not()))
	}
	for _, other := range d.none {
		s = s.and(of(other).not())
	}
	for _, other := range d.all {
		s = s.and(of(other))
	}
	return s
}

// day gives the answer for a day of a calendar that is made of whole days.
func (d *days) day(day int64) stretch {
	s := d.own(day)
	for _, other := range d.any {
		s = s.or(other.day(day))
	}
	if !d.except.empty() {
		s = s.and(d.except.find(day).not())
	}
	for _, other := range d.none {
		s = s.and(other.day(day).not())
	}
	for _, other := range d.all {
		s = s.and(other.day(day))
	}
	return s
}

// own gives what the calendar's own weekdays and dates, or the table of holidays, say of a day.
func (c *calendar) own(day int64) stretch {
	switch c.name {
	case Workdays:
		return c.table.workday(day)
	case Holidays:
		return c.table.holiday(day)
	}
	if c.everything() {
		return always(true)
	}
	s := always(false)
	if c.weekdays != 0 {
		s = ofWeek(c.weekdays, day)
	}
	if !c.dates.empty() {
		s = s.or(c.dates.find(day))
	}
	return s
}

// micros turns a stretch of local days into one of instants.
func (s stretch) micros(offset int64) stretch {
	if s.from <= -distant {
		s.from = earliest
	} else {
		s.from = s.from*dayMicros - offset
	}
	if s.to >= distant {
		s.to = latest
	} else {
		s.to = s.to*dayMicros - offset
	}
	return s
}

// ofWeek says whether the weekday of a day is among some, and since and until when that stays so.
func ofWeek(weekdays uint8, day int64) stretch {
	if weekdays == 0x7f {
		return always(true)
	}
	w := weekday(day)
	in := weekdays>>w&1 == 1
	same := func(step int64) (n int64) {
		for n < 7 && (weekdays>>weekday(day+step*n)&1 == 1) == in {
			n++
		}
		return n
	}
	return stretch{in, day - same(-1) + 1, day + same(1)}
}

// span is a stretch of time [from, to), in microseconds since 1970.
type span struct{ from, to int64 }

func spanned(spans []span, at int64) stretch {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].to > at })
	s := stretch{false, earliest, latest}
	if i > 0 {
		s.from = spans[i-1].to
	}
	switch {
	case i == len(spans):
	case spans[i].from <= at:
		return stretch{true, spans[i].from, spans[i].to}
	default:
		s.to = spans[i].from
	}
	return s
}

// dayTime is a part of each day, in seconds since midnight; past the next midnight if to <= from.
type dayTime struct{ from, to int64 }

// dates are days, by their number or by month and day of every year.
type dates struct {
	ranges []span   // of day numbers, rising, apart from each other
	yearly []yearly // rising by from, within the year
}

// yearly is a stretch of days [from, to] of every year, as month*100+day.
type yearly struct{ from, to int }

func (d *dates) empty() bool { return len(d.ranges) == 0 && len(d.yearly) == 0 }

func (d *dates) find(day int64) stretch {
	s := always(false)
	if len(d.ranges) > 0 {
		s = spanned(d.ranges, day)
		if s.from == earliest {
			s.from = -distant
		}
		if s.to == latest {
			s.to = distant
		}
	}
	if len(d.yearly) > 0 {
		s = s.or(d.ofYear(day))
	}
	return s
}

// ofYear looks at the yearly ranges; a stretch does not leave the year.
func (d *dates) ofYear(day int64) stretch {
	year, month, dom := civil(day)
	date := month*100 + dom
	s := stretch{false, dayNumber(year, 1, 1), dayNumber(year+1, 1, 1)}
	for _, r := range d.yearly {
		first, after := ofDate(year, r.from), ofDate(year, r.to)+1
		if r.to == 229 && daysIn(year, 2) == 28 {
			after--
		}
		switch {
		case date > r.to:
			s.from = max(s.from, after)
		case date < r.from:
			s.to = min(s.to, first)
		default:
			return stretch{true, first, after}
		}
	}
	return s
}

// ofDate gives the day number of a yearly date; 29 February is 1 March where there is none.
func ofDate(year int64, date int) int64 { return dayNumber(year, date/100, 1) + int64(date%100) - 1 }
