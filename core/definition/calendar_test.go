package definition_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/definition"
)

// daily fires at 12:30, UTC; noon is a Friday.
func daily(name string, only ...string) func(*core.Task) {
	return func(t *core.Task) {
		t.Name, t.Schedule.Spec, t.Schedule.OnlyOn, t.Schedule.OnDayOff = name, "30 12 * * *", only, "next"
	}
}

func days(names ...string) core.Calendar { return core.Calendar{Name: "plant", Weekdays: names} }

func date(day int) time.Time { return time.Date(2026, 11, day, 12, 30, 0, 0, time.UTC) }

// TestAChangeOfACalendarPlansAnewWhoeverNamesIt: also through another calendar, and nobody else.
func TestAChangeOfACalendarPlansAnewWhoeverNamesIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, days("fri"))
	w.calendar(t, core.Calendar{Name: "shift", AllOf: []string{"plant"}})
	direct := w.create(t, daily("direct", "plant"))
	through := w.create(t, daily("through", "shift"))
	free := w.create(t, daily("free", "weekdays"))
	off := w.create(t, func(task *core.Task) { daily("off", "plant")(task); task.Enabled = false })
	if !direct.State.NextFire.Equal(date(20)) || !through.State.NextFire.Equal(date(20)) {
		t.Fatalf("next fires %s, %s", direct.State.NextFire, through.State.NextFire)
	}
	w.announced()
	w.changed.Store(0)
	w.calendar(t, days("tue"))
	if w.changed.Load() != 1 {
		t.Errorf("it was said %d times that plans have changed", w.changed.Load())
	}
	for _, task := range []core.Task{direct, through} {
		again, err := w.Task(t.Context(), task.ID)
		if err != nil || again.Version != 2 || !again.State.NextFire.Equal(date(24)) {
			t.Errorf("%s: version %d, next fire %s, %v", task.Name, again.Version, again.State.NextFire, err)
		}
	}
	for _, task := range []core.Task{free, off} {
		if again, err := w.Task(t.Context(), task.ID); err != nil || again.Version != 1 || !again.State.NextFire.Equal(task.State.NextFire) {
			t.Errorf("%s: version %d, next fire %s, %v", task.Name, again.Version, again.State.NextFire, err)
		}
	}
	if said := w.announced(); len(said) != 2 || said[0].removed || !said[0].task.State.NextFire.Equal(date(24)) {
		t.Errorf("announced %+v", said)
	}
	// What moves no fire makes no version.
	w.calendar(t, core.Calendar{Name: "plant", Description: "only words", Weekdays: []string{"tue"}})
	if again, err := w.Task(t.Context(), direct.ID); err != nil || again.Version != 2 || len(w.announced()) != 0 {
		t.Errorf("version %d, %v", again.Version, err)
	}
	task := direct
	if plan, err := w.Plan(&task); err != nil {
		t.Error(err)
	} else if fire, ok := plan.Next(noon); !ok || !fire.At.Equal(date(24)) {
		t.Errorf("the plan says %+v", fire)
	}
}

func TestACalendarThatLeavesATaskNoDayIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, days("fri"))
	w.calendar(t, core.Calendar{Name: "shift", AllOf: []string{"plant"}})
	task := w.create(t, daily("through", "shift"))
	never := core.Calendar{Name: "plant", Dates: []core.DateRange{{From: "2020-01-01"}}}
	_, err := w.PutCalendar(t.Context(), never, definition.AnyVersion, "ann")
	wantFinding(t, err, "", "without any day: Telemedicine/through")
	if _, err := w.SetEnabled(t.Context(), task.ID, false, "ann"); err != nil {
		t.Fatal(err)
	}
	w.calendar(t, never)
	_, err = w.SetEnabled(t.Context(), task.ID, true, "ann")
	wantFinding(t, err, "schedule.only_on", "")
	_, err = w.Create(t.Context(), func() core.Task { task := sound(); daily("x", "plant")(&task); return task }(), "ann")
	wantFinding(t, err, "schedule.only_on", "")
	_, err = w.Create(t.Context(), func() core.Task { task := sound(); daily("x", "plnt")(&task); return task }(), "ann")
	wantFinding(t, err, "schedule.only_on[0]", "plant")
}

func TestARefusedCalendarNamesTheField(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, days("fri"))
	w.calendar(t, core.Calendar{Name: "shift", AllOf: []string{"plant"}})
	for name, c := range map[string]struct {
		calendar core.Calendar
		path     string
	}{
		"Name":    {core.Calendar{Name: "a b"}, "name"},
		"Weekday": {days("freitag"), "weekdays[0]"},
		"Date":    {core.Calendar{Name: "plant", Dates: []core.DateRange{{From: "tomorrow"}}}, "dates[0].from"},
		"Unknown": {core.Calendar{Name: "plant", AllOf: []string{"nothing"}}, "all_of[0]"},
		"Cycle":   {core.Calendar{Name: "plant", AnyOf: []string{"shift"}}, "any_of[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := w.PutCalendar(t.Context(), c.calendar, definition.AnyVersion, "ann")
			wantFinding(t, err, c.path, "")
		})
	}
}

func TestBuiltInCalendarsAreListedAndStay(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, days("fri"))
	list, err := w.Calendars(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var own, built []string
	for _, c := range list {
		if c.Version == 0 {
			built = append(built, c.Value.Name)
		} else {
			own = append(own, c.Value.Name)
		}
	}
	if !same(own, []string{"plant"}) || !same(built, []string{"cn-holidays", "cn-workdays", "weekdays", "weekends"}) {
		t.Errorf("own %v, built in %v", own, built)
	}
	for _, name := range built {
		if _, err := w.PutCalendar(t.Context(), core.Calendar{Name: name}, definition.AnyVersion, "ann"); core.KindOf(err) != core.KindConflict {
			t.Errorf("changing %s gave %v", name, err)
		}
		if err := w.DeleteCalendar(t.Context(), name, definition.AnyVersion, "ann"); core.KindOf(err) != core.KindConflict {
			t.Errorf("deleting %s gave %v", name, err)
		}
		if c, err := w.Calendar(t.Context(), name); err != nil || c.Value.Title.Zh == "" {
			t.Errorf("%s is %+v, %v", name, c, err)
		}
	}
	if c, err := w.Calendar(t.Context(), "plant"); err != nil || c.Version != 1 || !same(c.Value, days("fri")) {
		t.Errorf("plant is %+v, %v", c, err)
	}
	if _, err := w.Calendar(t.Context(), "nothing"); core.KindOf(err) != core.KindNotFound {
		t.Errorf("reading nothing gave %v", err)
	}
}

// TestHolidaysPlanAnewWhoeverGoesByThem: a year that was not known until now, and a day that has become one off.
func TestHolidaysPlanAnewWhoeverGoesByThem(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, core.Calendar{Name: "plant", AllOf: []string{"cn-workdays"}})
	task := w.create(t, func(task *core.Task) {
		daily("report", "plant")(task)
		task.Schedule.Zone, task.Schedule.Spec = "Asia/Shanghai", "30 21 * * *"
	})
	if want := time.Date(2026, 11, 20, 13, 30, 0, 0, time.UTC); !task.State.NextFire.Equal(want) {
		t.Fatalf("next fire %s; want %s", task.State.NextFire, want)
	}
	year := core.Holidays{Region: "CN", Year: 2026, Holidays: map[string]string{"2026-11-20": "停电"}, Workdays: map[string]string{"2026-11-21": "停电"}}
	stored, err := w.PutHolidays(t.Context(), []core.Holidays{year}, "bob")
	if err != nil || len(stored) != 1 || stored[0].Version != 1 || !same(stored[0].Value, year) {
		t.Fatalf("stored %+v, %v", stored, err)
	}
	again, err := w.Task(t.Context(), task.ID)
	if want := time.Date(2026, 11, 21, 13, 30, 0, 0, time.UTC); err != nil || !again.State.NextFire.Equal(want) || again.UpdatedBy != "bob" {
		t.Errorf("next fire %s by %s, %v; want %s", again.State.NextFire, again.UpdatedBy, err, want)
	}
	if list, err := w.Holidays(t.Context()); err != nil || len(list) != 1 || list[0].Value.Year != 2026 {
		t.Errorf("listed %+v, %v", list, err)
	}
	_, err = w.PutHolidays(t.Context(), []core.Holidays{year, year}, "bob")
	wantFinding(t, err, "[1].year", "twice")
	year.Holidays = map[string]string{"2026-13-01": "x"}
	if _, err = w.PutHolidays(t.Context(), []core.Holidays{year}, "bob"); core.KindOf(err) != core.KindInvalid {
		t.Errorf("a month that is none gave %v", err)
	}
}

func TestAYearWithoutHolidaysIsAWarning(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.clock.set(time.Date(2031, 11, 20, 12, 0, 0, 0, time.UTC))
	task := w.create(t, daily("report", "cn-workdays"))
	if said := w.Warnings(t.Context(), task); len(said) != 1 || !strings.Contains(said[0].En, "2031–2032") || !chinese(said[0].Zh) {
		t.Errorf("warnings %+v", said)
	}
	years := []core.Holidays{{Region: "CN", Year: 2031, Holidays: map[string]string{"2031-10-01": "国庆节"}}, {Region: "CN", Year: 2032, Holidays: map[string]string{"2032-10-01": "国庆节"}}}
	if _, err := w.PutHolidays(t.Context(), years, "ann"); err != nil {
		t.Fatal(err)
	}
	if said := w.Warnings(t.Context(), task); len(said) != 0 {
		t.Errorf("warnings %+v", said)
	}
	if said := w.CalendarWarnings("cn-workdays"); len(said) != 0 {
		t.Errorf("warnings %+v", said)
	}
	task.Schedule.NotOn = []string{"gone"}
	if said := w.Warnings(t.Context(), task); len(said) != 1 || !strings.Contains(said[0].En, "no calendar gone") {
		t.Errorf("warnings %+v", said)
	}
}

func TestAPreviewShowsWhatIsSkippedAndWhatMoved(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, days("mon", "tue"))
	s := core.Schedule{Spec: "30 12 * * *", OnlyOn: []string{"plant"}}
	preview, err := w.Preview(s, "x", noon, 2)
	if err != nil || preview.Words.En == "" || len(preview.Fires) != 4 || len(preview.Warnings) != 0 {
		t.Fatalf("preview %+v, %v", preview, err)
	}
	for i, day := range []int{20, 21, 23, 24} { // Sunday, the third skipped one, is left out
		f := preview.Fires[i]
		if skipped := i < 2; !f.At.Equal(date(day)) || (f.Skip == core.ReasonCalendar) != skipped || (f.Calendar == "plant") != skipped {
			t.Errorf("fire %d is %+v", i, f)
		}
	}
	s.OnDayOff = "next"
	if preview, err = w.Preview(s, "x", noon, 1); err != nil || len(preview.Fires) != 1 {
		t.Fatalf("preview %+v, %v", preview, err)
	}
	if f := preview.Fires[0]; !f.At.Equal(date(23)) || !f.MovedFrom.Equal(date(18)) || f.Merged != 5 || f.Calendar != "plant" || f.Skip != "" {
		t.Errorf("moved %+v", f)
	}
	if preview, err = w.Preview(core.Schedule{Spec: "@after 10m"}, "x", noon, 5); err != nil || preview.Fires != nil || preview.Words.Zh == "" {
		t.Errorf("@after: %+v, %v", preview, err)
	}
	if preview, err = w.Preview(core.Schedule{Spec: "@at 2026-12-01T08:00:00+08:00"}, "x", noon, 5); err != nil || len(preview.Fires) != 1 {
		t.Errorf("@at: %+v, %v", preview, err)
	}
	_, err = w.Preview(core.Schedule{Spec: "@daily", NotOn: []string{"nothing"}}, "x", noon, 5)
	wantFinding(t, err, "schedule.not_on[0]", "")
}

func TestDaysSayWhatACalendarHoldsAndWhy(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, core.Calendar{Name: "shift", Weekdays: []string{"fri"}, Times: []core.DayTime{{From: "08:00", To: "12:00"}, {From: "22:00", To: "06:00"}},
		Except: []core.DateRange{{From: "2026-11-27", Note: "stocktaking"}}})
	list, err := w.Days(t.Context(), "shift", "Asia/Shanghai", "2026-11-19", "2026-11-21")
	if err != nil || len(list) != 3 {
		t.Fatalf("days %+v, %v", list, err)
	}
	want := []definition.Day{
		{Date: "2026-11-19"}, {Date: "2026-11-20", Holds: true, Parts: []core.DayTime{{From: "08:00", To: "12:00"}, {From: "22:00", To: "00:00"}}},
		{Date: "2026-11-21", Holds: true, Parts: []core.DayTime{{From: "00:00", To: "06:00"}}},
	}
	if !same(list, want) {
		t.Errorf("days %+v; want %+v", list, want)
	}
	if list, err = w.Days(t.Context(), "shift", "", "2026-11-27", "2026-11-27"); err != nil || list[0].Holds || list[0].Why.En != "stocktaking" {
		t.Errorf("days %+v, %v", list, err)
	}
	if list, err = w.Days(t.Context(), "cn-holidays", "America/New_York", "2026-10-01", "2026-10-01"); err != nil || !list[0].Whole || list[0].Parts != nil ||
		list[0].Why.Zh == "" {
		t.Errorf("days %+v, %v", list, err)
	}
	_, err = w.Days(t.Context(), "shift", "Nowhere", "yesterday", "2026-11-27")
	wantFinding(t, err, "zone", "IANA")
	wantFinding(t, err, "from", "not a date")
	_, err = w.Days(t.Context(), "shift", "", "2026-11-27", "2028-11-27")
	wantFinding(t, err, "to", "400 days")
	if _, err = w.Days(t.Context(), "nothing", "", "2026-11-27", "2026-11-27"); core.KindOf(err) != core.KindNotFound {
		t.Errorf("a calendar that is not there gave %v", err)
	}
}
