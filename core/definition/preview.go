package definition

import (
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// Preview is what a schedule would do.
type Preview struct {
	Words    core.Text
	Fires    []PreviewFire
	Warnings []core.Text // what should be seen before saving: years whose holidays are not known
}

// PreviewFire is one fire, or an instant at which it would fire but for the calendars or the clock.
type PreviewFire struct {
	At        time.Time   // in the schedule's zone
	Skip      core.Reason // why it does not start; empty: it does
	MovedFrom time.Time   // the first instant that the calendars moved to At; zero: none
	Merged    int         // how many more nominal instants it stands for
	Calendar  string      // the calendar that refuses the instant, or the one it was moved from
	Why       core.Text   // what that calendar says of the day: the holiday's name
}

// Preview gives up to count fires after from that start, with the skipped ones between them (at most count of those),
// and the schedule in words. taskName spreads H in a cron expression. It fails with KindInvalid and findings below
// "schedule". What depends on how runs go (@after, @manual) has no fires.
func (d *Definitions) Preview(s core.Schedule, taskName string, from time.Time, count int) (Preview, error) {
	held := d.held.Load()
	sched, err := schedule.Parse(s, taskName, held.days)
	if err != nil {
		return Preview{}, err
	}
	preview := Preview{Words: sched.Words(), Warnings: d.calendarWarnings(s, from)}
	if sched.Kind() == schedule.After || sched.Kind() == schedule.Manual {
		return preview, nil
	}
	for starts, skipped := 0, 0; starts < count; {
		next := sched.Next
		if skipped == count {
			next = sched.NextStart
		}
		fire, ok := next(from)
		if !ok {
			break
		}
		if fire.Skip == "" {
			starts++
		} else {
			skipped++
		}
		preview.Fires = append(preview.Fires, PreviewFire{
			At: fire.At, Skip: fire.Skip, MovedFrom: fire.MovedFrom, Merged: fire.Merged, Calendar: fire.Calendar, Why: held.why(fire),
		})
		from = fire.At
	}
	return preview, nil
}

// Upcoming gives the next instant at which a task starts by its schedule, as far as is known now; zero: none. If its next
// fire is decided to be skipped, by the calendars or the clock, skip says by what, and start is a later one.
func (d *Definitions) Upcoming(task core.Task) (start time.Time, skip core.Text) {
	next := task.State.NextFire
	sched, err := d.Plan(&task)
	if err != nil || next.IsZero() || sched.Kind() == schedule.After {
		return next, skip
	}
	before := next.Add(-time.Microsecond)
	fire, ok := sched.Next(before)
	if !ok || fire.Skip == "" || !fire.At.Equal(next) {
		return next, skip
	}
	skip = core.Text{Zh: "因当地时间不存在而跳过", En: "skipped: the clock goes forward, so that the local time does not exist"}
	if fire.Skip == core.ReasonCalendar {
		skip = core.Text{Zh: "被日历 " + fire.Calendar + " 跳过", En: "skipped by calendar " + fire.Calendar}
		if why := d.held.Load().why(fire); why != (core.Text{}) {
			skip.Zh, skip.En = skip.Zh+"（"+why.Zh+"）", skip.En+" ("+why.En+")"
		}
	}
	if fire, ok = sched.NextStart(before); ok {
		start = fire.At.UTC()
	}
	return start, skip
}
