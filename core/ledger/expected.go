package ledger

import (
	"iter"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Instant is a nominal instant that should have a decision.
type Instant struct {
	At        time.Time   // UTC
	Version   int64       // of the task, that had it
	Skip      core.Reason // why it could not start in any case; "": it could
	MovedFrom time.Time   // the first instant that the calendars moved to At; zero: none
	Optional  bool        // so near to an edit that it may have been decided or not
}

// Instants gives the instants from <= t < to that should have a decision, in order, from the versions' own schedules
// alone: each version's in the time it held and was enabled. An edit fires nothing retroactively, so a version has none
// before it was written. Fires of @after and @manual do not follow from time and are not among them, nor are those of a
// version whose schedule cannot be read. It takes memory for the versions and none for the instants.
func (h *History) Instants(from, to time.Time) iter.Seq[Instant] {
	return func(yield func(Instant) bool) {
		c := h.cursor(from, to)
		for c.next() {
			if !yield(c.at) {
				return
			}
		}
	}
}

// Expected gives the first limit of the instants from <= t < to that should have a decision; more says that there are
// others.
func Expected(h History, from, to time.Time, limit int) (instants []Instant, more bool) {
	for at := range h.Instants(from, to) {
		if len(instants) == limit {
			return instants, true
		}
		instants = append(instants, at)
	}
	return instants, false
}

// cursor walks over the instants of a history.
type cursor struct {
	h      *History
	reigns []reign
	i      int       // the reign it is in
	after  time.Time // what has been given
	to     time.Time
	at     Instant // the one it stands at
}

func (h *History) cursor(from, to time.Time) cursor {
	return cursor{h: h, reigns: h.reigns(), after: from.Add(-tick), to: to}
}

// next goes on to the next instant; false: there is none.
func (c *cursor) next() bool {
	for ; c.i < len(c.reigns); c.i++ {
		r := &c.reigns[c.i]
		if !r.to.IsZero() && !r.to.After(c.after) || !r.task.Enabled || !r.from.Before(c.to) {
			continue
		}
		plan := c.h.schedule(r)
		if !follows(plan) {
			continue
		}
		if c.after.Before(r.from) {
			c.after = r.from
		}
		fire, ok := plan.Next(c.after)
		if !ok || !fire.At.Before(c.to) || !r.to.IsZero() && fire.At.After(r.to) {
			continue
		}
		c.after = fire.At
		c.at = Instant{At: fire.At.UTC(), Version: r.task.Version, Skip: fire.Skip, Optional: r.nearEdit(fire.At)}
		if !fire.MovedFrom.IsZero() {
			c.at.MovedFrom = fire.MovedFrom.UTC()
		}
		return true
	}
	return false
}
