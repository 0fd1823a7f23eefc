package schedule

import (
	"sort"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// What a schedule's text alone says, before window and calendars.

// anchored gives the schedule with an anchor: @every without one counts from the time asked about.
func (s *Schedule) anchored(at time.Time) *Schedule {
	if s.kind != Every || !s.anchor.IsZero() {
		return s
	}
	own := *s
	own.anchor = at
	if len(s.tracks) > 0 {
		own.tracks = []track{everyTrack(at, s.interval)}
	}
	return &own
}

// between gives the part of (from, to] that lies in the active window, and the schedule with an anchor.
func (s *Schedule) between(from, to time.Time) (*Schedule, time.Time, time.Time) {
	from, to = within(from), within(to)
	return s.anchored(from), latest(from, s.lo), earliest(to, s.hi)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// plainNext gives the first instant after a time and after lo, without regard to the calendars and to hi.
func (s *Schedule) plainNext(after time.Time) (Fire, bool) {
	switch s.kind {
	case Cron:
		return s.cron.next(latest(after, s.lo))
	case Every:
		at, ok := every(s.anchor, s.interval, 1).next(latest(after, s.lo))
		return Fire{At: at.In(s.zone.loc)}, ok
	case After:
		at := latest(after.Add(s.interval), s.lo.Add(time.Microsecond)).Truncate(time.Microsecond)
		return Fire{At: at.In(s.zone.loc)}, at.Unix() <= endSec
	case At, List:
		if i := s.instantAfter(latest(after, s.lo)); i < len(s.instants) {
			return Fire{At: s.instants[i]}, true
		}
	}
	return Fire{}, false
}

// plainPrev gives the last instant in (from, to].
func (s *Schedule) plainPrev(from, to time.Time) (Fire, bool) {
	switch s.kind {
	case Cron:
		return s.cron.prev(from, to)
	case Every:
		at, ok := every(s.anchor, s.interval, 1).prev(from, to)
		return Fire{At: at.In(s.zone.loc)}, ok
	case At, List:
		if i := s.instantAfter(to); i > 0 && s.instants[i-1].After(from) {
			return Fire{At: s.instants[i-1]}, true
		}
	}
	return Fire{}, false
}

// plainStart gives the first instant after a time that the calendars allow, where none is moved.
func (s *Schedule) plainStart(after time.Time) (Fire, bool) {
	end := after.AddDate(400, 0, 0)
	for range maxSteps {
		fire, ok := s.plainNext(after)
		if !ok || fire.At.After(s.hi) || fire.At.After(end) {
			return Fire{}, false
		}
		if after = fire.At; fire.Skip != "" {
			continue
		}
		v := s.look(fire.At)
		if v.refuses == nil {
			return fire, true
		}
		after = v.to.Add(-time.Microsecond)
	}
	return Fire{}, false
}

// plainCount gives the number of instants in (from, to].
func (s *Schedule) plainCount(from, to time.Time) int64 {
	switch s.kind {
	case Cron:
		starts, skips := s.cron.tally(from, to)
		return starts + skips
	case Every:
		return every(s.anchor, s.interval, 1).count(from, to)
	case At, List:
		return int64(s.instantAfter(to) - s.instantAfter(from))
	}
	return 0
}

// plainLatest gives the newest fires in (from, to] that the calendars allow, newest first, where none is moved.
func (s *Schedule) plainLatest(from, to time.Time, limit int) []Fire {
	var fires []Fire
	var v verdict // of the stretch it looked at last; its end is not used
	known := false
	for len(fires) < limit {
		fire, ok := s.plainPrev(from, to)
		if !ok {
			break
		}
		to = fire.At.Add(-time.Microsecond)
		if fire.Skip != "" {
			continue
		}
		if !known || fire.At.Before(v.from) {
			v, known = s.look(fire.At), true
		}
		if v.refuses == nil {
			fires = append(fires, fire)
		} else {
			to = v.from.Add(-time.Microsecond)
		}
	}
	return fires
}

func (s *Schedule) instantAfter(t time.Time) int {
	return sort.Search(len(s.instants), func(i int) bool { return s.instants[i].After(t) })
}

func (s *Schedule) fixedAfter(t time.Time) int {
	return sort.Search(len(s.fixed), func(i int) bool { return s.fixed[i].At.After(t) })
}

// rule is a calendar that has a say.
type rule struct {
	name string
	days Days
	not  bool // not_on
}

// verdict is what the calendars say about an instant, and since and until when they say it.
type verdict struct {
	refuses  *rule // the first calendar that refuses it; nil: it is allowed
	from, to time.Time
}

// look asks the calendars about an instant. What one of them refuses is refused for as long as any of those that refuse
// it now goes on; what all allow is allowed until the first of them changes.
func (s *Schedule) look(at time.Time) verdict {
	v := verdict{from: time.Time{}, to: endOfTime}
	for i := range s.rules {
		r := &s.rules[i]
		in, from, to := r.days.Stretch(at)
		from, to = earliest(from, at), latest(to, at.Add(time.Microsecond)) // whatever it says, the search moves on
		switch refused := in == r.not; {
		case refused && v.refuses == nil:
			v = verdict{refuses: r, from: from, to: to}
		case refused:
			v.from, v.to = earliest(v.from, from), latest(v.to, to)
		case v.refuses == nil:
			v.from, v.to = latest(v.from, from), earliest(v.to, to)
		}
	}
	return v
}

// judged marks a fire that the calendars refuse.
func (s *Schedule) judged(fire Fire) Fire {
	if fire.Skip != "" || len(s.rules) == 0 {
		return fire
	}
	if v := s.look(fire.At); v.refuses != nil {
		fire.Skip = core.ReasonCalendar
		fire.Calendar, fire.Rule = v.refuses.told()
	}
	return fire
}

func (r *rule) told() (name, field string) {
	if r.not {
		return r.name, NotOn
	}
	return r.name, OnlyOn
}

// line is a rising row of instants: a cron expression without what it skips, or a fixed rate.
type line struct {
	cron             *cron
	after            time.Duration // cron: added to each of its instants; less than a second
	anchor, interval int64         // fixed rate, microseconds
	first            int64         // fixed rate: the least multiple of the interval
}

func every(anchor time.Time, interval time.Duration, first int64) line {
	return line{anchor: anchor.UnixMicro(), interval: interval.Microseconds(), first: first}
}

func (l line) next(t time.Time) (time.Time, bool) {
	if l.cron == nil {
		n := max(l.first, floorDiv(t.UnixMicro()-l.anchor, l.interval)+1)
		at := l.anchor + n*l.interval
		return time.UnixMicro(at), at <= endSec*1e6
	}
	for t = t.Add(-l.after); ; {
		fire, ok := l.cron.next(t)
		if !ok || fire.Skip == "" {
			return fire.At.Add(l.after), ok
		}
		t = fire.At
	}
}

func (l line) prev(from, to time.Time) (time.Time, bool) {
	if l.cron == nil {
		n := floorDiv(to.UnixMicro()-l.anchor, l.interval)
		at := time.UnixMicro(l.anchor + n*l.interval)
		return at, n >= l.first && at.After(from)
	}
	for from, to = from.Add(-l.after), to.Add(-l.after); ; {
		fire, ok := l.cron.prev(from, to)
		if !ok || fire.Skip == "" {
			return fire.At.Add(l.after), ok
		}
		to = fire.At.Add(-time.Microsecond)
	}
}

func (l line) count(from, to time.Time) int64 {
	if !to.After(from) {
		return 0
	}
	if l.cron == nil {
		until := min(floorDiv(to.UnixMicro()-l.anchor, l.interval), floorDiv(endSec*1e6-l.anchor, l.interval))
		return max(0, until-max(l.first-1, floorDiv(from.UnixMicro()-l.anchor, l.interval)))
	}
	starts, _ := l.cron.tally(from.Add(-l.after), to.Add(-l.after))
	return starts
}
