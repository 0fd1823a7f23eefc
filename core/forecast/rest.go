package forecast

import (
	"slices"
	"sort"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// rest is what max_runs leaves of a schedule: its instants from first to last, both among them. Those before first are
// decided.
type rest struct {
	ends        bool // else all of them are left
	first, last time.Time
}

// within gives the part of (from, to] that is left.
func (r rest) within(from, to time.Time) (time.Time, time.Time) {
	if !r.ends {
		return from, to
	}
	return slices.MaxFunc([]time.Time{from, r.first.Add(-time.Microsecond)}, time.Time.Compare), slices.MinFunc([]time.Time{to, r.last}, time.Time.Compare)
}

// over says whether nothing comes at an instant any more.
func (r rest) over(at time.Time) bool { return r.ends && at.After(r.last) }

// rest finds the instant at which the schedule of a task starts the last of its max_runs. As the scheduler has it, what
// calendars and pauses refuse is none of them, nor is what ends of others, workflows and people start.
func (c *canvas) rest(d *drawn) rest {
	left, mark := int64(d.MaxRuns)-d.Fired, d.Next
	switch {
	case d.MaxRuns == 0:
		return rest{}
	case left <= 0: // without a mark the scheduler has said so already, at an instant that nobody knows here
		return rest{ends: true, first: mark, last: mark.Add(-time.Microsecond)}
	case mark.IsZero():
		mark = c.in.From
	}
	r := rest{ends: true, first: mark}
	if d.Plan.Kind() == schedule.After {
		r.last = c.restAfter(d, mark, left)
	} else {
		r.last = c.restOf(d, mark, left)
	}
	r.ends = r.last.Before(c.report.To)
	return r
}

// restAfter finds the last of a task of fixed delay, laid out as layAfter does.
func (c *canvas) restAfter(d *drawn, mark time.Time, left int64) time.Time {
	step := d.Plan.After() + d.took
	if late := c.from.Sub(mark); late > 0 && late < step {
		mark = c.from // it is due
	}
	if until := d.Pause.Until; d.Pause.Holds(mark) && !until.IsZero() {
		mark = mark.Add((until.Sub(mark) + step - 1) / step * step)
	}
	return mark.Add(time.Duration(min(left-1, int64(2*MaxSpan/step))) * step)
}

// restOf finds the last of any other task. Where so many are left that they are only counted, what calendars refuse counts too.
func (c *canvas) restOf(d *drawn, mark time.Time, left int64) time.Time {
	if until := d.Pause.Until; d.Pause.Holds(mark) && !until.IsZero() {
		mark = until
	}
	at, end := mark.Add(-time.Microsecond), c.report.To
	switch {
	case d.Plan.Count(at, end) <= left:
		return end
	case left > int64(c.seconds/mostOften):
		n := sort.Search(int(end.Sub(at)/time.Second), func(n int) bool { return d.Plan.Count(at, at.Add(time.Duration(n)*time.Second)) >= left })
		return at.Add(time.Duration(n) * time.Second)
	}
	for left > 0 {
		fire, ok := d.Plan.NextStart(at)
		if !ok || !fire.At.Before(end) {
			return end
		}
		if at = fire.At; !d.Pause.Holds(at) {
			left--
		}
	}
	return at
}
