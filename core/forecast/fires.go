package forecast

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// maxNext is how many of a task's next fires are named.
const maxNext = 3

// TaskForecast is what one task will do.
type TaskForecast struct {
	Ref
	Fires    int64
	Caused   int64         // of them, those that ends of other tasks' runs and workflows bring
	Skipped  int64         // fires that the calendars or the clock refuse
	Next     []time.Time   // the first fires, at most three
	Expected time.Duration // of a run
	P95      time.Duration // 95 runs in 100 take no longer; 0: not known
	Basis    Basis         // of Expected
	Measured uint64        // how many runs it is known from
	Busy     float64       // share of the time in which a run goes on; above 1: it runs beside itself
	Counted  bool          // it fires too often to be looked at fire by fire
}

// Fire is a fire to come.
type Fire struct {
	Ref
	At    time.Time // to the second
	End   time.Time // expected, if nothing is waited for
	Late  time.Time // 95 runs in 100 have ended by then; zero: not known
	Basis Basis     // of End
	Cause Ref       // the task whose run brings it; zero: its own schedule
	Step  bool      // it is a step of that workflow
}

// byTask sums up what each task does.
func (c *canvas) byTask() {
	all := make([]TaskForecast, len(c.in.Tasks)) // those that do nothing have no basis
	span := c.report.To.Sub(c.from).Seconds()
	for _, d := range c.tasks {
		t := &all[d.index]
		if t.Basis == "" {
			e := c.expect(d.index)
			*t = TaskForecast{Ref: d.ref(), Expected: e.took, Basis: e.basis, Next: make([]time.Time, 0, maxNext)}
			if d.Usual.Count > 0 {
				t.P95, t.Measured = d.Usual.P95, d.Usual.Count
			}
		}
		t.Fires, t.Skipped, t.Counted = t.Fires+d.fires, t.Skipped+d.skipped, t.Counted || d.counted
		if d.cause != nil {
			t.Caused += d.fires
		}
		t.Busy += float64(d.fires) * d.took.Seconds() / span
		w := c.walk(d)
		for range maxNext {
			at, ok := w.next()
			if !ok {
				break
			}
			t.Next = append(t.Next, at)
		}
		slices.SortFunc(t.Next, time.Time.Compare)
		t.Next = t.Next[:min(maxNext, len(t.Next))]
	}
	for i := range all {
		plan := c.in.Tasks[i].Plan
		if all[i].Basis == "" && plan != nil && plan.Kind() == schedule.Manual {
			c.report.Unforeseen++
		}
	}
	all = slices.DeleteFunc(all, func(t TaskForecast) bool { return t.Basis == "" })
	for _, t := range all {
		if t.Counted {
			c.report.Counted++
		}
		if t.Basis == Assumed {
			c.report.Unmeasured++
		}
	}
	slices.SortFunc(all, func(a, b TaskForecast) int {
		return cmp.Or(cmp.Compare(b.Busy, a.Busy), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	c.report.Tasks, c.report.ByTask = len(all), all
}

// list gives the first fires, one by one. However many there are, little more than those asked for is held.
func (c *canvas) list() {
	limit := c.in.List
	if limit <= 0 {
		return
	}
	var list []Fire
	all, cut, last := int64(0), false, c.report.To
	first := func() {
		slices.SortFunc(list, func(a, b Fire) int {
			return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.Cause.Name, b.Cause.Name))
		})
		if len(list) > limit {
			list, cut, last = list[:limit], true, list[limit-1].At
		}
	}
	for _, d := range c.tasks {
		if c.in.Of != "" && d.ID != c.in.Of {
			continue
		}
		all += d.fires
		fire := Fire{Ref: d.ref(), Basis: c.expect(d.index).basis, Step: d.step}
		if d.cause != nil {
			fire.Cause = d.cause.ref()
		}
		w := c.walk(d)
		for at, ok := w.next(); ok && !at.After(last); at, ok = w.next() {
			fire.At, fire.End = at, at.Add(d.took)
			if d.Usual.Count > 0 {
				fire.Late = at.Add(d.Usual.P95)
			}
			if list = append(list, fire); len(list) >= 2*limit+1000 {
				first()
			}
		}
	}
	first()
	if c.report.Listed = list; cut {
		c.report.More = all - int64(len(list))
	}
}

// walk goes over the fires of a task one by one, those that are only counted too.
type walk struct {
	c    *canvas
	d    *drawn
	n    int       // of offs
	root time.Time // where a counted one stands
}

func (c *canvas) walk(d *drawn) walk {
	w := walk{c: c, d: d}
	if d.counted {
		w.root = c.from.Add(-d.after - d.root.Schedule.Jitter - time.Microsecond)
		if d.cause == nil {
			w.root, _ = d.rest.within(w.root, c.report.To)
		}
		if d.root.Plan.Kind() == schedule.After {
			w.root = slices.MaxFunc([]time.Time{c.from, d.root.Next}, time.Time.Compare)
		}
	} else {
		w.n, _ = slices.BinarySearch(d.offs, int32(c.in.From.Sub(c.from)/time.Second))
	}
	return w
}

// next gives the next fire from Input.From on.
func (w *walk) next() (at time.Time, ok bool) {
	if !w.d.counted {
		if w.n == len(w.d.offs) {
			return time.Time{}, false
		}
		w.n++
		return w.c.at(int(w.d.offs[w.n-1])), true
	}
	for {
		switch root := w.d.root; {
		case root.Plan.Kind() == schedule.After && w.n == 0: // its mark
			w.n = 1
		case root.Plan.Kind() == schedule.After:
			w.root = w.root.Add(root.Plan.After() + root.took)
		default:
			fire, ok := root.Plan.NextStart(w.root)
			if !ok {
				return time.Time{}, false
			}
			w.root = fire.At
		}
		start := w.d.root.start(w.root)
		at = start.Add(w.d.after).UTC().Truncate(time.Second)
		pause := w.pause(start)
		switch {
		case !at.Before(w.c.report.To) || w.d.root.rest.over(w.root) || pause != nil && pause.Until.IsZero():
			return time.Time{}, false
		case pause == nil && !at.Before(w.c.in.From.Truncate(time.Second)):
			return at, true
		case pause != nil && w.d.root.Plan.Kind() != schedule.After: // on to where it ends
			if skipped := pause.Until.Add(-w.d.after - w.d.root.Schedule.Jitter - time.Microsecond); skipped.After(w.root) {
				w.root = skipped
			}
		}
	}
}

// pause gives the pause that covers the fire: the task's, or that of one that leads to it. A fire of the schedule is held by
// its instant, a run after another's end by its start, a step by none of its own task's.
func (w *walk) pause(start time.Time) *core.Pause {
	for d := w.d; d != nil; d = d.cause {
		at := start.Add(d.after)
		if d.cause == nil {
			at = w.root
		}
		if !d.step && d.Pause.Holds(at) {
			return &d.Pause
		}
	}
	return nil
}
