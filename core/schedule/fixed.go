package schedule

import (
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// landing is a nominal instant that was moved.
type landing struct{ from, to time.Time }

// fix works out the fires of @at and @list once and for all: there are at most 1,000.
func (s *Schedule) fix() {
	s.fixed = []Fire{}
	groups := make(map[int64]*Fire)
	tracks := make(map[int64]*track) // by time of day
	for _, at := range s.instants {
		if !at.After(s.lo) || at.After(s.hi) {
			continue
		}
		v := s.look(at)
		fire := Fire{At: at}
		if v.refuses != nil {
			fire.Calendar, fire.Rule = v.refuses.told()
			tod := timeOfDay(at)
			if tracks[tod] == nil {
				t := newTrack(line{}, dailyAt(s.zone, at))
				tracks[tod] = &t
			}
			if to, ok := s.target(tracks[tod], at); ok {
				fire.At, fire.MovedFrom = to.In(s.zone.loc), at
				s.moved = append(s.moved, landing{at, fire.At})
			} else {
				fire.Skip = core.ReasonCalendar
			}
		}
		same := groups[fire.At.UnixMicro()]
		if same == nil {
			groups[fire.At.UnixMicro()] = &fire
			continue
		}
		same.Merged++
		if same.MovedFrom.IsZero() {
			same.MovedFrom, same.Calendar, same.Rule = fire.MovedFrom, fire.Calendar, fire.Rule
		}
	}
	for _, fire := range groups {
		s.fixed = append(s.fixed, *fire)
	}
	slices.SortFunc(s.fixed, func(a, b Fire) int { return a.At.Compare(b.At) })
}

// timeOfDay gives the local time of day of an instant, in microseconds.
func timeOfDay(at time.Time) int64 {
	h, m, sec := at.Clock()
	return int64(h*3600+m*60+sec)*1e6 + int64(at.Nanosecond()/1000)
}

// dailyAt gives the local time of an instant on every day.
func dailyAt(z *zone, at time.Time) line {
	whole := at.Truncate(time.Second)
	h, m, sec := whole.In(z.loc).Clock()
	f := everyDay(fields{hour: 1 << h, min: 1 << m, sec: 1 << sec})
	return line{cron: &cron{fields: f, zone: z, onOverlap: onOverlapBoth}, after: at.Sub(whole)}
}
