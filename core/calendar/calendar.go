// Package calendar gives meaning to calendars: working days, Chinese public holidays with make-up days, weekly and
// yearly patterns, own days, times of day, blackout spans, and what they combine to. It is pure: no clock, no I/O, no
// goroutines. DESIGN.md holds the rules, the surprising ones first.
package calendar

import (
	"slices"
	"time"
	_ "time/tzdata" // for calendars that name a zone, also where the host has no zone files

	"github.com/gnomon-scheduler/gnomon/core"
)

// The calendars that are always there. Nobody else may define one of these names.
const (
	Workdays = "cn-workdays" // working days in China: Monday to Friday without the holidays, and the make-up days
	Holidays = "cn-holidays" // public holidays in China as published, the weekends inside them among them, and no others
	Weekdays = "weekdays"    // Monday to Friday
	Weekends = "weekends"    // Saturday and Sunday
)

var builtIn = []string{Workdays, Holidays, Weekdays, Weekends}

// chinaZone is whose days the two Chinese calendars are, whoever asks.
const chinaZone = "Asia/Shanghai"

// Days is a set of days, or of parts of days, in a zone. It is an alias, so that *Set serves rooms that declare the same
// interface. What Days gives is immutable and safe for concurrent use.
type Days = interface {
	// Stretch says whether the set contains an instant, and since and until when that stays so: from <= at < to. The
	// stretch reaches the next boundary of a day, a time of day or a span at least, and most often runs on to where the
	// answer changes. It takes well under a microsecond for one calendar.
	Stretch(at time.Time) (in bool, from, to time.Time)
}

// Set is a number of calendars that may refer to each other, resolved. It does not change and is safe for concurrent use.
type Set struct {
	calendars map[string]*calendar
	holidays  *holidays
	names     []string
}

// New resolves calendars, given in any order, and public holidays, of which the later ones win over the earlier and all
// win over the embedded ones, a whole year at a time. What is wrong is told by findings, with paths that begin with
// "calendars." and the name, or "holidays." and the year; the set then holds all that can be used: a calendar with a
// finding, and one that refers to such, is not among them.
func New(defs []core.Calendar, published []core.Holidays) (*Set, []core.Finding) {
	table, findings := newHolidays(published)
	s := &Set{calendars: make(map[string]*calendar, len(defs)+len(builtIn)), holidays: table}
	for _, name := range builtIn {
		s.calendars[name] = &calendar{name: name, table: table}
	}
	s.calendars[Weekdays].weekdays, s.calendars[Weekends].weekdays = mondayToFriday, saturdayAndSunday
	s.calendars[Workdays].zone, s.calendars[Holidays].zone = china(), china()

	r := resolver{set: s, defs: make(map[string]*core.Calendar, len(defs))}
	for i := range defs {
		def := &defs[i]
		if _, twice := r.defs[def.Name]; twice {
			r.refuse(def.Name, "name", "名为 %q 的日历定义了两次；请去掉一个", "there are two calendars named %q; remove one", def.Name)
			continue
		}
		r.defs[def.Name] = def
	}
	r.resolve(defs)
	for name := range s.calendars {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	return s, append(findings, r.findings...)
}

// Check gives what would be wrong if a definition were stored beside others; one of others with the same name is the one it
// replaces. Paths begin with the field: "dates[2].from".
func Check(def core.Calendar, others []core.Calendar) []core.Finding {
	defs := []core.Calendar{def}
	for _, other := range others {
		if other.Name != def.Name {
			defs = append(defs, other)
		}
	}
	_, all := New(defs, nil)
	return below(all, "calendars."+def.Name+".")
}

// Days gives the days of a calendar; zone says whose days they are where the calendar names no zone of its own; nil is
// UTC. ok is false if there is no such calendar.
func (s *Set) Days(name string, zone *time.Location) (days Days, ok bool) {
	c, ok := s.calendars[name]
	if !ok {
		return nil, false
	}
	if zone == nil {
		zone = time.UTC
	}
	return c.in(zone), true
}

// Names gives the names of all calendars, in order.
func (s *Set) Names() []string { return slices.Clone(s.names) }

// HolidayYears gives the years whose public holidays are known, rising.
func (s *Set) HolidayYears() []int { return s.holidays.years() }

// Missing gives the years of a period, in China's time, whose public holidays a calendar needs and nobody has given; in
// such a year Monday to Friday are taken for working days. Both ends are inclusive. It is empty for a calendar that does
// not lead to the Chinese ones, and for one that does not exist.
func (s *Set) Missing(name string, from, to time.Time) []int {
	c, ok := s.calendars[name]
	if !ok || !c.needsHolidays() {
		return nil
	}
	var missing []int
	first, last := from.In(china()).Year(), to.In(china()).Year()
	last = min(last, first+maxMissing-1)
	for year := first; year <= last; year++ {
		if !s.holidays.known(year) {
			missing = append(missing, year)
		}
	}
	return missing
}

const maxMissing = 1000 // years
