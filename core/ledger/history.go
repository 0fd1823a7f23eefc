package ledger

import (
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// tick is the smallest step between two instants.
const tick = time.Microsecond

// Slack is how near to an edit an instant may be decided by the old version, by the new one, or not at all: fires are
// claimed a little ahead of their instant, and an edit may be written in between.
const Slack = time.Second

// History is what a task's definition was at any time. Nothing here goes by what the scheduler keeps of the task.
type History struct {
	// Versions are the task's versions, in any order: each holds from its UpdatedAt until the next one's.
	Versions []core.Task
	// Plan gives meaning to the schedule of a version. An error means that the stored schedule cannot be read.
	Plan func(version core.Task) (*schedule.Schedule, error)
	// Deleted is when the task was deleted; zero: it is there.
	Deleted time.Time
	// Recalendared is when the calendars that the task names, or the holidays, last changed; zero: never. Where calendars
	// move fires to other days, nothing before it can be held against anybody, because what the calendars said then is
	// not kept.
	Recalendared time.Time
}

// reign is a version with the time it held: from < t <= to.
type reign struct {
	task core.Task
	from time.Time
	to   time.Time // zero: it still holds
	last bool      // nothing follows: it holds, or the task is deleted at to
	plan *schedule.Schedule
	err  error
	read bool
}

// reigns gives the versions in the order in which they held.
func (h *History) reigns() []reign {
	versions := slices.Clone(h.Versions)
	slices.SortStableFunc(versions, func(a, b core.Task) int { return int(min(1, max(-1, a.Version-b.Version))) })
	versions = slices.CompactFunc(versions, func(a, b core.Task) bool { return a.Version == b.Version })
	list := make([]reign, 0, len(versions))
	for i, v := range versions {
		r := reign{task: v, from: v.UpdatedAt, last: i == len(versions)-1}
		if v.Version <= 1 && !v.CreatedAt.IsZero() && v.CreatedAt.Before(r.from) {
			r.from = v.CreatedAt
		}
		if i > 0 && r.from.Before(list[i-1].from) { // the clock was set back in between
			r.from = list[i-1].from
		}
		if i > 0 {
			list[i-1].to = r.from
		}
		if r.last {
			r.to = h.Deleted
		}
		list = append(list, r)
	}
	return list
}

// schedule gives the plan of a reign, or nil if it cannot be read.
func (h *History) schedule(r *reign) *schedule.Schedule {
	if !r.read {
		r.read = true
		r.plan, r.err = h.planOf(r.task, r.from)
	}
	return r.plan
}

// planOf reads a version's schedule. One that counts from the time it is asked about counts from since.
func (h *History) planOf(task core.Task, since time.Time) (*schedule.Schedule, error) {
	if task.Schedule.Anchor.IsZero() {
		task.Schedule.Anchor = since
	}
	return h.Plan(task)
}

// follows says whether a plan's fires follow from time alone.
func follows(plan *schedule.Schedule) bool {
	return plan != nil && plan.Kind() != schedule.After && plan.Kind() != schedule.Manual
}

// holds says whether at lies in the reign, give or take slack.
func (r *reign) holds(at time.Time, slack time.Duration) bool {
	return at.After(r.from.Add(-slack)) && (r.to.IsZero() || !at.After(r.to.Add(slack)))
}

// nearEdit says whether at is so near to where a reign begins or ends that either side may have decided it.
func (r *reign) nearEdit(at time.Time) bool {
	return at.Sub(r.from) <= Slack || !r.to.IsZero() && r.to.Sub(at) <= Slack
}

// fireAt gives the fire of a plan at exactly an instant.
func fireAt(plan *schedule.Schedule, at time.Time) (schedule.Fire, bool) {
	if !follows(plan) {
		return schedule.Fire{}, false
	}
	fire, ok := plan.Next(at.Add(-tick))
	return fire, ok && fire.At.Equal(at)
}

// furthest is how far back before looks: further than any two fires of a yearly schedule on 29 February.
const furthest = 30 * 366 * 24 * time.Hour

// before gives the last fire of a plan at or before a time, by asking for the next ones only.
func before(plan *schedule.Schedule, at time.Time) (schedule.Fire, bool) {
	if !follows(plan) {
		return schedule.Fire{}, false
	}
	back := time.Minute
	for ; ; back *= 4 {
		if fire, ok := plan.Next(at.Add(-back)); ok && !fire.At.After(at) {
			break
		}
		if back > furthest {
			return schedule.Fire{}, false
		}
	}
	// There is a fire in (lo, at]; the later half is taken as long as it has one too.
	lo, hi := at.Add(-back), at
	for {
		fire, _ := plan.Next(lo)
		next, ok := plan.Next(fire.At)
		if !ok || next.At.After(at) {
			return fire, true
		}
		lo = fire.At
		if mid := lo.Add(hi.Sub(lo) / 2); mid.After(lo) {
			if later, ok := plan.Next(mid); ok && !later.At.After(at) {
				lo = mid
			} else {
				hi = mid
			}
		}
	}
}
