package schedule

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

const (
	maxMove  = 366 * 24 * time.Hour // how far an instant is moved; if no day so near is allowed, its fire is skipped
	maxSteps = 50_000               // refused stretches a search for a start passes over before it gives up
	maxADay  = 24                   // fires a day that can be moved
)

// track is one time of day of a schedule that is moved. Its nominal instants are among the daily ones, and go to daily
// ones: to the next (or the last) that the calendars allow. So where they go rises as they do, and every question about
// the fires of a track is one about two rows of instants. A schedule that is moved has a track for each of its times.
type track struct {
	nominal line
	daily   line // the same time of every day
	barren  *atomic.Pointer[barren]
}

// barren is what a search has found out about a track: none of its daily instants in (from, to] is allowed. A time of day
// that no day allows would otherwise be looked for on 366 days by every question. It changes no answer.
type barren struct{ from, to time.Time }

// everyTrack is the track of a fixed rate of whole days. Like the rate itself it pays no heed to the zone.
func everyTrack(anchor time.Time, interval time.Duration) track {
	return newTrack(every(anchor, interval, 1), every(anchor, 24*time.Hour, -maxDays))
}

const maxDays = 4_000_000 // more than there are from the year 1 to 9999

// cronTracks gives the track of each time of day of a cron expression.
func cronTracks(c *cron) []track {
	var tracks []track
	for tod, ok := c.timeFrom(0); ok; tod, ok = c.timeFrom(tod + 1) {
		tracks = append(tracks, cronTrack(c, tod))
		if tod == daySeconds-1 {
			break
		}
	}
	return tracks
}

func cronTrack(c *cron, tod int) track {
	nominal, daily := *c, *c
	f := *c.fields
	f.hour, f.min, f.sec = 1<<(tod/3600), 1<<(tod/60%60), 1<<(tod%60)
	nominal.fields = &f
	daily.fields = everyDay(f)
	return newTrack(line{cron: &nominal}, line{cron: &daily})
}

func newTrack(nominal, daily line) track {
	return track{nominal: nominal, daily: daily, barren: new(atomic.Pointer[barren])}
}

func everyDay(f fields) *fields {
	return &fields{
		sec: f.sec, min: f.min, hour: f.hour, month: 1<<13 - 2, dom: everyMonthDay, dow: everyWeekday,
		anyYear: true, anyDom: true, anyDow: true, realTime: f.realTime,
	}
}

// target gives where the calendars move a nominal instant that they refuse; ok is false if no day within reach is allowed.
func (s *Schedule) target(t *track, from time.Time) (to time.Time, ok bool) {
	if s.move == onDayOffPrevious {
		return s.allowedUpTo(t, latest(from.Add(-maxMove-time.Microsecond), s.lo), from.Add(-time.Microsecond))
	}
	return s.allowedAfter(t, from, earliest(from.Add(maxMove), s.hi))
}

// allowedAfter gives the first daily instant of a track in (from, to] that the calendars allow.
func (s *Schedule) allowedAfter(t *track, from, to time.Time) (time.Time, bool) {
	known := t.barren.Load()
	all := barren{from, to}
	for at := from; ; {
		if known != nil && known.covers(at) {
			at = known.to
		}
		day, ok := t.daily.next(at)
		if !ok || day.After(to) {
			t.learn(known, all)
			return time.Time{}, false
		}
		v := s.look(day)
		if v.refuses == nil {
			return day, true
		}
		at = v.to.Add(-time.Microsecond)
	}
}

// allowedUpTo gives the last daily instant of a track in (from, to] that the calendars allow.
func (s *Schedule) allowedUpTo(t *track, from, to time.Time) (time.Time, bool) {
	known := t.barren.Load()
	all := barren{from, to}
	for at := to; ; {
		if known != nil && known.covers(at.Add(-time.Microsecond)) {
			at = known.from
		}
		day, ok := t.daily.prev(from, at)
		if !ok {
			t.learn(known, all)
			return time.Time{}, false
		}
		v := s.look(day)
		if v.refuses == nil {
			return day, true
		}
		at = v.from.Add(-time.Microsecond)
	}
}

// covers says whether nothing is allowed from just after an instant on, up to b.to.
func (b *barren) covers(at time.Time) bool { return !at.Before(b.from) && at.Before(b.to) }

// learn keeps what a search in vain has found out, together with what was known if the two touch.
func (t *track) learn(known *barren, found barren) {
	if !found.to.After(found.from) {
		return
	}
	if known != nil && !known.from.After(found.to) && !found.from.After(known.to) {
		if !found.from.Before(known.from) && !found.to.After(known.to) {
			return
		}
		found = barren{earliest(known.from, found.from), latest(known.to, found.to)}
	}
	t.barren.Store(&found)
}

// nominalAfter gives the first nominal instant of a track after a time, within the window.
func (s *Schedule) nominalAfter(t *track, after time.Time) (time.Time, bool) {
	at, ok := t.nominal.next(latest(after, s.lo))
	return at, ok && !at.After(s.hi)
}

// pending gives the instant after a time to which nominal instants up to that time are moved: at most one, because what
// is between them and it is refused.
func (s *Schedule) pending(t *track, after time.Time) (time.Time, bool) {
	if s.move == onDayOffPrevious {
		return time.Time{}, false
	}
	at, ok := t.nominal.prev(latest(after.Add(-maxMove), s.lo), after)
	if !ok || s.look(at).refuses == nil {
		return time.Time{}, false
	}
	to, ok := s.target(t, at)
	return to, ok && to.After(after)
}

// trackNext gives the first instant after a time at which a track has a fire, skipped or not.
func (s *Schedule) trackNext(t *track, after time.Time) (time.Time, bool) {
	if at, ok := s.pending(t, after); ok {
		return at, true
	}
	for from := after; ; {
		at, ok := s.nominalAfter(t, from)
		if !ok {
			return time.Time{}, false
		}
		v := s.look(at)
		if v.refuses == nil {
			return at, true
		}
		to, ok := s.target(t, at)
		if !ok {
			return at, true
		}
		if to.After(after) {
			return to, true
		}
		// What follows in this stretch is moved to the same instant, as far as that is in reach.
		from = latest(at, earliest(v.to.Add(-time.Microsecond), to.Add(maxMove)))
	}
}

// trackStart gives the first instant after a time at which a track has a fire that can start, as far as that follows from
// nominal instants up to end. It gives up after its share of maxSteps.
func (s *Schedule) trackStart(t *track, after, end time.Time) (time.Time, bool) {
	if at, ok := s.pending(t, after); ok {
		return at, true
	}
	steps, most := 0, maxSteps/len(s.tracks)
	for from := after; steps < most; steps++ {
		at, ok := s.nominalAfter(t, from)
		if !ok || at.After(end) {
			return time.Time{}, false
		}
		if s.look(at).refuses == nil {
			return at, true
		}
		if to, ok := s.target(t, at); ok && to.After(after) {
			return to, true
		}
		// None within reach, or one that has passed: what comes of the calendars' next allowed day is the next question.
		for from = at; steps < most; steps++ {
			c, ok := t.daily.next(from)
			if !ok || c.After(s.hi) || c.After(end) {
				return time.Time{}, false
			}
			v := s.look(c)
			if v.refuses == nil {
				from = c.Add(-time.Microsecond)
				if s.move == onDayOffNext {
					from = latest(at, c.Add(-maxMove-time.Microsecond))
				}
				break
			}
			from = v.to.Add(-time.Microsecond)
		}
	}
	return time.Time{}, false
}

// part is what a track contributes to the fire at an instant.
type part struct {
	own   bool      // a nominal instant of its own, which is not moved
	moved int64     // nominal instants moved here
	first time.Time // the first of those
}

func (s *Schedule) part(t *track, at time.Time, allowed bool) (p part) {
	before := at.Add(-time.Microsecond)
	nominal, ok := s.nominalAfter(t, before)
	own := ok && nominal.Equal(at)
	if !allowed {
		if own {
			_, moved := s.target(t, at)
			p.own = !moved
		}
		return p
	}
	p.own = own
	if day, ok := t.daily.next(before); !ok || !day.Equal(at) {
		return p
	}
	// What is moved here lies between this and the neighbouring day that is allowed.
	var from, to time.Time
	if s.move == onDayOffNext {
		from, to = latest(at.Add(-maxMove-time.Microsecond), s.lo), before
		if day, ok := s.allowedUpTo(t, from, to); ok {
			from = day
		}
	} else {
		from, to = at, earliest(at.Add(maxMove), s.hi)
		if day, ok := s.allowedAfter(t, from, to); ok {
			to = day.Add(-time.Microsecond)
		}
	}
	if first, ok := t.nominal.next(from); ok && !first.After(to) {
		p.first, p.moved = first, t.nominal.count(from, to)
	}
	return p
}

// fireAt puts together the fire at an instant at which some track has one: any, or those whose place in from holds it.
func (s *Schedule) fireAt(at time.Time, from []time.Time) Fire {
	fire := Fire{At: at.In(s.zone.loc)}
	v := s.look(at)
	stands := int64(0) // nominal instants that the fire stands for; its own is one, of however many tracks
	own := false
	for i := range s.tracks {
		if from != nil && !from[i].Equal(at) {
			continue
		}
		p := s.part(&s.tracks[i], at, v.refuses == nil)
		stands += p.moved
		own = own || p.own
		if p.moved > 0 && (fire.MovedFrom.IsZero() || p.first.Before(fire.MovedFrom)) {
			fire.MovedFrom = p.first.In(s.zone.loc)
		}
	}
	if own {
		stands++
	}
	fire.Merged = int(max(0, stands-1))
	if v.refuses != nil {
		fire.Skip = core.ReasonCalendar
	} else if !fire.MovedFrom.IsZero() {
		v = s.look(fire.MovedFrom)
	}
	if v.refuses != nil {
		fire.Calendar, fire.Rule = v.refuses.told()
	}
	return fire
}

// movedNext is Next for a schedule that is moved.
func (s *Schedule) movedNext(after time.Time) (Fire, bool) {
	if fire, ok := s.undisturbed(after); ok {
		return fire, true
	}
	var best time.Time
	var nexts [maxADay]time.Time
	found := false
	for i := range s.tracks {
		at, ok := s.trackNext(&s.tracks[i], after)
		if !ok {
			continue
		}
		if nexts[i] = at; !found || at.Before(best) {
			best, found = at, true
		}
	}
	if s.cron != nil {
		until := s.hi
		if found {
			until = best
		}
		var left Fire
		s.cron.gaps(latest(after, s.lo), until, func(_ time.Time, skipped Fire) bool {
			left = skipped
			return skipped.Skip == ""
		})
		if left.Skip != "" && (!found || left.At.Before(best)) {
			return left, true
		}
	}
	if !found {
		return Fire{}, false
	}
	return s.fireAt(best, nexts[:len(s.tracks)]), true
}

// undisturbed is the short way in the middle of days that are all allowed: nothing is moved here or away from here. Two
// days and a bit are as long as it can be from one instant of a daily line to the next, where the clock leaves one out.
func (s *Schedule) undisturbed(after time.Time) (Fire, bool) {
	const apart = 50 * time.Hour
	fire, ok := s.plainNext(after)
	if !ok || fire.Skip != "" || fire.At.After(s.hi) {
		return Fire{}, false
	}
	v := s.look(fire.At)
	if v.refuses != nil || s.move == onDayOffNext && v.from.After(after.Add(-apart)) ||
		s.move == onDayOffPrevious && v.to.Before(fire.At.Add(apart)) {
		return Fire{}, false
	}
	return fire, true
}

// movedStart is NextStart for a schedule that is moved. It looks further and further, so that a track that never starts
// does not keep it from the others.
func (s *Schedule) movedStart(after time.Time) (Fire, bool) {
	for _, years := range []int{1, 20, 400} {
		end := after.AddDate(years, 0, 0)
		best := end.Add(time.Microsecond)
		for i := range s.tracks {
			if at, ok := s.trackStart(&s.tracks[i], after, best.Add(maxMove)); ok {
				best = earliest(best, at)
			}
		}
		if !best.After(end) {
			return s.fireAt(best, nil), true
		}
	}
	return Fire{}, false
}

// movedTo is Nominal for a schedule that is moved.
func (s *Schedule) movedTo(at time.Time) (to time.Time, ok bool) {
	if len(s.tracks) == 0 || s.look(at).refuses == nil {
		return time.Time{}, false
	}
	for i := range s.tracks {
		t := &s.tracks[i]
		if nominal, hit := s.nominalAfter(t, at.Add(-time.Microsecond)); !hit || !nominal.Equal(at) {
			continue
		}
		day, hit := s.target(t, at)
		if !hit { // it is skipped there, also where a gap has put a time of another track on the same instant
			return time.Time{}, false
		}
		if !ok || day.Before(to) {
			to, ok = day.In(s.zone.loc), true
		}
	}
	return to, ok
}

// movedCount is Count for a schedule that is moved; (from, to] lies in the window.
func (s *Schedule) movedCount(from, to time.Time) int64 {
	n := int64(0)
	for i := range s.tracks {
		n += s.trackCount(&s.tracks[i], from, to)
	}
	if s.cron == nil {
		return n
	}
	// Two tracks have a fire at the same instant only where the clock leaves out the time of one of them.
	s.cron.gaps(from, to, func(at time.Time, skipped Fire) bool {
		if skipped.Skip != "" {
			n++
		}
		if len(s.tracks) < 2 || !at.After(from) || at.After(to) {
			return true
		}
		allowed := s.look(at).refuses == nil
		same := int64(0)
		for i := range s.tracks {
			if p := s.part(&s.tracks[i], at, allowed); p.own || p.moved > 0 {
				same++
			}
		}
		n -= max(0, same-1)
		return true
	})
	return n
}

// trackCount gives how many instants in (from, to] a track has fires at. It looks at one nominal instant of each stretch
// that the calendars allow, and of each run of days off.
func (s *Schedule) trackCount(t *track, from, to time.Time) (n int64) {
	last := from // everything up to here is counted
	if at, ok := s.pending(t, from); ok {
		if at.After(to) {
			return 0
		}
		n, last = 1, at
	}
	for at := last; ; {
		nominal, ok := s.nominalAfter(t, at)
		if !ok {
			return n
		}
		v := s.look(nominal)
		if v.refuses == nil {
			if nominal.After(to) {
				return n
			}
			at = earliest(v.to.Add(-time.Microsecond), to)
			n += t.nominal.count(nominal.Add(-time.Microsecond), at)
			if last, ok = t.nominal.prev(nominal.Add(-time.Microsecond), at); !ok {
				last = nominal
			}
			continue
		}
		target, moved := s.target(t, nominal)
		switch {
		case !moved && nominal.After(to), moved && target.After(to):
			return n
		case !moved:
			n++
			at, last = nominal, nominal
			continue
		case target.After(last):
			n++
			last = target
		}
		if nominal.After(to) { // previous: it was moved back into the range, and what follows goes there too or later
			return n
		}
		at = target
		if s.move == onDayOffPrevious {
			at = latest(nominal, earliest(v.to.Add(-time.Microsecond), target.Add(maxMove)))
		}
	}
}

// movedLatest is Latest for a schedule that is moved, newest first; (from, to] lies in the window. It looks back further
// and further, so that a track that has not started for long does not hold up the others.
func (s *Schedule) movedLatest(from, to time.Time, limit int) []Fire {
	var fires []Fire
	newest := make([]time.Time, len(s.tracks)) // of each track; zero: no more
	for back := 48 * time.Hour; len(fires) < limit && to.After(from); back = min(4*back, 20*maxMove) {
		floor := latest(from, to.Add(-back))
		for i := range s.tracks {
			newest[i] = s.trackPrev(&s.tracks[i], floor, to)
		}
		for len(fires) < limit {
			at := slices.MaxFunc(newest, time.Time.Compare)
			if at.IsZero() {
				break
			}
			fires = append(fires, s.fireAt(at, newest))
			for i := range newest {
				if newest[i].Equal(at) {
					newest[i] = s.trackPrev(&s.tracks[i], floor, at.Add(-time.Microsecond))
				}
			}
		}
		to = floor
	}
	return fires
}

// trackPrev gives the last instant in (from, to] at which a track has a fire that can start; zero if there is none.
func (s *Schedule) trackPrev(t *track, from, to time.Time) time.Time {
	in := func(at time.Time) time.Time {
		if at.After(from) {
			return at
		}
		return time.Time{}
	}
	oldest := from
	if s.move == onDayOffNext {
		oldest = latest(from.Add(-maxMove-time.Microsecond), s.lo)
	} else if nominal, ok := s.nominalAfter(t, to); ok && s.look(nominal).refuses != nil {
		if day, ok := s.target(t, nominal); ok && !day.After(to) {
			return in(day)
		}
	}
	for {
		nominal, ok := t.nominal.prev(oldest, to)
		if !ok {
			return time.Time{}
		}
		v := s.look(nominal)
		if v.refuses == nil {
			return in(nominal)
		}
		day, moved := s.target(t, nominal)
		switch {
		case moved && !day.After(to):
			return in(day)
		case s.move == onDayOffNext: // those before it in this stretch have the same target, or are further from any
			if to = v.from.Add(-time.Microsecond); moved {
				continue
			}
			if known := t.barren.Load(); known != nil && known.covers(nominal) { // and so are those in what is known to be barren
				to = earliest(to, known.from)
			}
		default:
			to = nominal.Add(-time.Microsecond)
		}
	}
}
