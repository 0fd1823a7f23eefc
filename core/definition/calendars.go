package definition

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// ahead is how far holidays should be known.
const ahead = 400 * day

// builtIns are the calendars that every installation has, as they are listed.
var builtIns = []core.Calendar{
	{Name: calendar.Holidays, Title: core.Text{Zh: "中国法定节假日", En: "Public holidays in China"}},
	{Name: calendar.Workdays, Title: core.Text{Zh: "中国工作日（含调休）", En: "Working days in China, make-up days included"}},
	{Name: calendar.Weekdays, Title: core.Text{Zh: "周一至周五", En: "Monday to Friday"}, Weekdays: []string{"mon", "tue", "wed", "thu", "fri"}},
	{Name: calendar.Weekends, Title: core.Text{Zh: "周六、周日", En: "Saturday and Sunday"}, Weekdays: []string{"sat", "sun"}},
}

func builtIn(name string) bool {
	return slices.ContainsFunc(builtIns, func(c core.Calendar) bool { return c.Name == name })
}

func builtInCalendar(c core.Calendar) Held[core.Calendar] {
	return Held[core.Calendar]{Value: c, UpdatedBy: "gnomon"}
}

// Calendars gives all calendars, by name, the built-in ones (version 0) among them.
func (d *Definitions) Calendars(ctx context.Context) ([]Held[core.Calendar], error) {
	list, err := all[core.Calendar](ctx, d, kindCalendar)
	if err != nil {
		return nil, err
	}
	for _, c := range builtIns {
		list = append(list, builtInCalendar(c))
	}
	slices.SortFunc(list, func(a, b Held[core.Calendar]) int { return strings.Compare(a.Value.Name, b.Value.Name) })
	return list, nil
}

// Calendar gives one calendar, or KindNotFound.
func (d *Definitions) Calendar(ctx context.Context, name string) (Held[core.Calendar], error) {
	for _, c := range builtIns {
		if c.Name == name {
			return builtInCalendar(c), nil
		}
	}
	return one[core.Calendar](ctx, d, kindCalendar, name)
}

// PutCalendar creates or changes a calendar. Tasks that name it, also through other calendars, are planned anew from now
// on: each whose next fire moves gets a new version and is announced. It fails with KindConflict for the name of a
// built-in one, with KindStale if version is not the one there is, and with KindInvalid if the calendar cannot be used or
// would leave a task without any day.
func (d *Definitions) PutCalendar(ctx context.Context, c core.Calendar, version int64, by string) (Held[core.Calendar], error) {
	op := "put calendar " + c.Name
	if builtIn(c.Name) {
		return Held[core.Calendar]{}, core.Refuse(core.KindConflict, op, core.Text{Zh: "日历 " + c.Name + " 由系统提供，不能修改；请另取名称", En: "every installation has a calendar of this name, and it cannot be changed; take another name"})
	}
	d.linking.Lock()
	defer d.linking.Unlock()
	if err := d.begin(ctx, op, kindCalendar, c.Name, version); err != nil {
		return Held[core.Calendar]{}, err
	}
	held := d.held.Load()
	defs := []core.Calendar{c}
	for _, name := range names(held.calendars) {
		if name != c.Name {
			defs = append(defs, held.calendars[name])
		}
	}
	days, found := calendar.New(defs, held.holidays)
	for i := range found {
		found[i].Path = strings.TrimPrefix(strings.TrimPrefix(found[i].Path, "calendars."+c.Name), ".")
	}
	if len(found) > 0 {
		return Held[core.Calendar]{}, core.Invalid(op, found...)
	}
	tasks, err := d.affected(ctx, op, days, reached(held.calendars, c.Name))
	if err != nil {
		return Held[core.Calendar]{}, err
	}
	stored, err := keep(ctx, d, kindCalendar, c.Name, c, version, by)
	if err != nil {
		return stored, err
	}
	d.reread(ctx)
	return stored, d.replan(ctx, tasks, by)
}

// DeleteCalendar removes a calendar, or fails with KindConflict while tasks or other calendars name it, or if it is a
// built-in one.
func (d *Definitions) DeleteCalendar(ctx context.Context, name string, version int64, by string) error {
	if builtIn(name) {
		return core.Refuse(core.KindConflict, "delete calendar "+name, core.Text{Zh: "日历 " + name + " 由系统提供，不能删除", En: "every installation has it, and it cannot be removed"})
	}
	return d.remove(ctx, kindCalendar, name, version, by)
}

// PutHolidays stores the public holidays of years; those of a year that is there already, built in or stored, are
// replaced. Tasks are planned anew as after PutCalendar. Findings have paths like "[1].holidays.2026-02-30".
func (d *Definitions) PutHolidays(ctx context.Context, years []core.Holidays, by string) ([]Held[core.Holidays], error) {
	const op = "put holidays"
	d.linking.Lock()
	defer d.linking.Unlock()
	if err := d.Refresh(ctx); err != nil {
		return nil, err
	}
	held := d.held.Load()
	var found []core.Finding
	given := make(map[string]bool, len(years))
	years = slices.Clone(years)
	for i := range years {
		y := &years[i]
		y.Region = cmp.Or(y.Region, calendar.Region)
		at := "[" + strconv.Itoa(i) + "]"
		for _, f := range calendar.CheckHolidays(*y) {
			found = append(found, core.Finding{Path: join(at, f.Path), Message: f.Message})
		}
		if given[holidaysName(*y)] {
			found = append(found, finding(at+".year", "同一年给了两次；请合并", "the year is given twice; put the two together"))
		}
		given[holidaysName(*y)] = true
	}
	if len(years) == 0 {
		found = append(found, finding("", "列表是空的", "the list is empty"))
	}
	if len(found) > 0 {
		return nil, core.Invalid(op, found...)
	}
	known := make([]core.Holidays, 0, len(held.holidays)+len(years))
	for _, h := range held.holidays {
		if !given[holidaysName(h)] {
			known = append(known, h)
		}
	}
	defs := make([]core.Calendar, 0, len(held.calendars))
	for _, name := range names(held.calendars) {
		defs = append(defs, held.calendars[name])
	}
	days, wrong := calendar.New(defs, append(known, years...))
	if len(wrong) > 0 {
		return nil, core.Invalid(op, wrong...)
	}
	tasks, err := d.affected(ctx, op, days, reached(held.calendars, calendar.Workdays, calendar.Holidays))
	if err != nil {
		return nil, err
	}
	stored := make([]Held[core.Holidays], len(years))
	for i, y := range years {
		if stored[i], err = keep(ctx, d, kindHolidays, holidaysName(y), y, 0, by); err != nil {
			return nil, err
		}
	}
	d.reread(ctx)
	return stored, d.replan(ctx, tasks, by)
}

// Holidays gives the public holidays that have been stored, by region and year. Those that are built in are not among
// them.
func (d *Definitions) Holidays(ctx context.Context) ([]Held[core.Holidays], error) {
	return all[core.Holidays](ctx, d, kindHolidays)
}

// reached gives calendars and all that lead to them.
func reached(defs map[string]core.Calendar, those ...string) []string {
	for more := true; more; {
		more = false
		for _, name := range names(defs) {
			c := defs[name]
			if !slices.Contains(those, name) && slices.ContainsFunc(slices.Concat(c.AllOf, c.AnyOf, c.NoneOf), func(n string) bool { return slices.Contains(those, n) }) {
				those, more = append(those, name), true
			}
		}
	}
	return those
}

// affected gives the tasks that name any of some calendars. It fails with KindInvalid if calendars as they are to be would
// leave one of them without any day that it has now.
func (d *Definitions) affected(ctx context.Context, op string, days *calendar.Set, calendars []string) ([]core.Task, error) {
	tasks, err := d.tasksNaming(ctx, kindCalendar, calendars)
	if err != nil {
		return nil, err
	}
	now := d.opts.Clock.Now()
	fires := func(t core.Task, days *calendar.Set) bool {
		sched, err := schedule.Parse(t.Schedule, t.Name, days)
		if err != nil {
			return false
		}
		if sched.Kind() == schedule.Manual || sched.Kind() == schedule.After {
			return true
		}
		_, ok := sched.NextStart(now)
		return ok
	}
	var barred []string
	for _, t := range tasks {
		if t.Enabled && !fires(t, days) && fires(t, d.held.Load().days) {
			barred = append(barred, t.Namespace+"/"+t.Name)
		}
	}
	if len(barred) > 0 {
		slices.Sort(barred)
		return nil, core.Invalid(op, finding("", "这样一来，有任务一天也不能运行："+some(barred)+"；请先修改或停用它们",
			"tasks would be left without any day: "+some(barred)+"; change or disable them first"))
	}
	return tasks, nil
}

// replan finds the next fire of tasks anew, from now on, with the calendars as they are.
func (d *Definitions) replan(ctx context.Context, tasks []core.Task, by string) error {
	for _, t := range tasks {
		if err := d.replanOne(ctx, t, by); err != nil {
			return core.Errorf(core.KindOf(err), "plan task "+t.Namespace+"/"+t.Name+" anew", "%w (the calendar is stored; store it again to plan the rest)", err)
		}
	}
	return nil
}

func (d *Definitions) replanOne(ctx context.Context, t core.Task, by string) error {
	for tries := 0; ; tries++ {
		now := d.opts.Clock.Now()
		sched, err := d.Plan(&t)
		if err != nil || !t.Enabled || sched.Kind() == schedule.After {
			return nil //nolint:nilerr // it could not be planned before either, and its warnings say so
		}
		mark := t.State.NextFire
		if err := setNextFire(&t, sched, now); err != nil {
			t.State.NextFire = time.Time{}
		}
		if t.State.NextFire.Equal(mark) {
			return nil
		}
		t.UpdatedAt, t.UpdatedBy = now.UTC(), by
		_, err = d.update(ctx, t)
		if core.KindOf(err) != core.KindStale || tries == 5 {
			return err
		}
		if t, err = d.opts.Store.Task(ctx, t.ID); err != nil { // somebody edits it at the same time
			if core.KindOf(err) == core.KindNotFound {
				return nil
			}
			return err
		}
	}
}

// CalendarWarnings says which years' holidays a calendar needs within the next 400 days and nobody has given.
func (d *Definitions) CalendarWarnings(name string) []core.Text {
	return d.missing(name, d.opts.Clock.Now())
}

func (d *Definitions) missing(name string, now time.Time) []core.Text {
	years := d.held.Load().days.Missing(name, now, now.Add(ahead))
	if len(years) == 0 {
		return nil
	}
	return []core.Text{calendar.MissingText(name, years)}
}

// calendarWarnings says what is missing of the calendars a schedule names.
func (d *Definitions) calendarWarnings(s core.Schedule, now time.Time) []core.Text {
	var said []core.Text
	days := d.held.Load().days
	for _, name := range slices.Concat(s.OnlyOn, s.NotOn) {
		if _, ok := days.Days(name, nil); !ok {
			said = append(said, core.Text{Zh: "没有日历 " + name + " 了", En: "there is no calendar " + name + " any more"})
			continue
		}
		for _, text := range d.missing(name, now) {
			if !slices.Contains(said, text) {
				said = append(said, text)
			}
		}
	}
	return said
}

// Day is what a calendar says of a day.
type Day struct {
	Date  string         // 2026-10-01
	Holds bool           // it holds the day, or a part of it
	Whole bool           // it holds all of it
	Parts []core.DayTime // which parts, if not all of it; to 00:00: to the end of the day
	Why   core.Text      // the holiday's name, the note of a date; may be empty
}

const maxDays = 400

// Days says of each day from one to another, both included and written 2026-10-01, whether a calendar holds it. zone is
// whose days, if the calendar names none of its own; "" is UTC. It fails with KindNotFound if there is no such calendar.
func (d *Definitions) Days(ctx context.Context, name, zone, from, to string) ([]Day, error) {
	op := "read calendar " + name
	c, err := d.Calendar(ctx, name)
	if err != nil {
		return nil, err
	}
	zone = cmp.Or(c.Value.Zone, zone)
	if c.Version == 0 && (name == calendar.Workdays || name == calendar.Holidays) {
		zone = "Asia/Shanghai"
	}
	var found []core.Finding
	loc, err := time.LoadLocation(zone)
	if err != nil {
		found = append(found, finding("zone", "没有时区 "+zone+"；请写 IANA 名称，如 Asia/Shanghai", "there is no zone "+zone+"; write an IANA name such as Asia/Shanghai"))
		loc = time.UTC
	}
	first, err := time.ParseInLocation(time.DateOnly, from, loc)
	if err != nil {
		found = append(found, finding("from", "不是日期；请写成 2026-10-01", "is not a date; write 2026-10-01"))
	}
	last, err := time.ParseInLocation(time.DateOnly, to, loc)
	if err != nil || last.Before(first) || last.Sub(first) > maxDays*day {
		found = append(found, finding("to", "必须是 from 当天或之后的日期，至多 400 天", "must be a date from that of from on, at most 400 days later; write 2026-10-01"))
	}
	if len(found) > 0 {
		return nil, core.Invalid(op, found...)
	}
	if err := d.learn(ctx, core.Task{Schedule: core.Schedule{OnlyOn: []string{name}}}); err != nil {
		return nil, err
	}
	held, ok := d.held.Load().days.Days(name, loc)
	if !ok {
		return nil, core.Errorf(core.KindDamaged, op, "the stored calendar cannot be used; store it again")
	}
	var list []Day
	for at := first; !at.After(last); {
		next := time.Date(at.Year(), at.Month(), at.Day()+1, 0, 0, 0, 0, loc)
		list = append(list, dayOf(held, at, next))
		at = next
	}
	return list, nil
}

func dayOf(held calendar.Days, begin, end time.Time) Day {
	one := Day{Date: begin.Format(time.DateOnly), Whole: true}
	noted := begin
	for at := begin; at.Before(end); {
		in, _, to := held.Stretch(at)
		to = to.In(begin.Location())
		if to.After(end) {
			to = end
		}
		if in {
			if !one.Holds {
				noted = at
			}
			one.Holds = true
			if n := len(one.Parts); n > 0 && one.Parts[n-1].To == at.Format("15:04") {
				one.Parts[n-1].To = to.Format("15:04")
			} else {
				one.Parts = append(one.Parts, core.DayTime{From: at.Format("15:04"), To: to.Format("15:04")})
			}
		}
		one.Whole = one.Whole && in
		at = to
	}
	if one.Whole {
		one.Parts = nil
	}
	one.Why = noteOf(held, noted)
	return one
}

// noteOf says what a calendar knows of an instant: the name of the holiday.
func noteOf(days calendar.Days, at time.Time) core.Text {
	if says, ok := days.(interface{ Note(at time.Time) core.Text }); ok {
		return says.Note(at)
	}
	return core.Text{}
}

// why gives what the calendar that a fire names says of the day it refuses.
func (s *snapshot) why(fire schedule.Fire) core.Text {
	days, ok := s.days.Days(fire.Calendar, fire.At.Location())
	if !ok {
		return core.Text{}
	}
	if !fire.MovedFrom.IsZero() {
		return noteOf(days, fire.MovedFrom)
	}
	return noteOf(days, fire.At)
}

// Holds says whether a calendar holds an instant; zone is whose days are meant where the calendar has no zone of its own. It
// fails with KindNotFound if there is no such calendar.
func (d *Definitions) Holds(_ context.Context, name string, at time.Time, zone *time.Location) (bool, error) {
	days, ok := d.held.Load().days.Days(name, zone)
	if !ok {
		return false, core.Refuse(core.KindNotFound, "ask calendar "+name, core.Text{Zh: "没有日历 " + name, En: "there is no such calendar"})
	}
	in, _, _ := days.Stretch(at)
	return in, nil
}

// ReadHolidays reads public holidays from a document in any of the forms that are understood: see calendar.ParseHolidays.
func (d *Definitions) ReadHolidays(document []byte) ([]core.Holidays, error) {
	return calendar.ParseHolidays(document)
}

// HolidayYears gives the years whose holidays are known, for a calendar that is made of them; nil: it is made of none.
func (d *Definitions) HolidayYears(name string) []int {
	days := d.held.Load().days
	never := time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC) // a year that nobody has published
	if len(days.Missing(name, never, never.AddDate(1, 0, 0))) == 0 {
		return nil
	}
	return days.HolidayYears()
}
