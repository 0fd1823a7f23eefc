package forecast

import (
	"math"
	"time"
)

// room is how far a schedule may be moved, in minutes, so that every run is expected to end by the very moment by which
// finish_by of its task wants it as it stands. It says nothing of where it stands: that is not made worse.
type room struct {
	least, most int
	of          *Task // whose finish_by leaves no more; nil: nobody's
}

// room finds what finish_by leaves to a schedule and to what it brings.
func (c *canvas) room(family []*drawn) room {
	r := room{least: math.MinInt, most: math.MaxInt}
	for _, d := range family {
		if d.FinishBy == "" {
			continue
		}
		of := d // whose instant counts: a step has that of its workflow
		for of.step {
			of = of.cause
		}
		for _, off := range d.offs {
			at := c.at(int(off)).Add(of.after - d.after)
			before, by, ok := around(at, d.FinishBy, d.Plan.Location())
			if !ok {
				break
			}
			// An instant that is no later than the moment before is to have ended by that one.
			if least := -int((at.Sub(before) - 1) / time.Minute); least > r.least {
				r.least, r.of = least, d.Task
			}
			if most := int(math.Floor(by.Sub(c.at(int(off)).Add(d.took)).Minutes())); most < r.most {
				r.most, r.of = most, d.Task
			}
		}
	}
	return r
}

// around gives the first moment at or after an instant at whose local time of day is the one given as 15:04, as the runner
// finds it, and the one before.
func around(at time.Time, clock string, zone *time.Location) (before, by time.Time, ok bool) {
	t, err := time.Parse("15:04", clock)
	if err != nil {
		return before, by, false
	}
	local := at.In(zone)
	for day := -1; day <= 1; day++ {
		by = time.Date(local.Year(), local.Month(), local.Day()+day, t.Hour(), t.Minute(), 0, 0, zone)
		if !by.Before(at) {
			return before, by, true
		}
		before = by
	}
	return before, by, false
}
