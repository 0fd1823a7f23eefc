package definition_test

import (
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/definition"
)

// TestARehearsalJudgesAsTheRealThingAndKeepsNothing: what is put there is judged by what was put there before, in all the ways
// in which definitions name each other, and neither stored nor announced.
func TestARehearsalJudgesAsTheRealThingAndKeepsNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pool(t, core.Pool{Name: "erp", Slots: 1})
	w.calendar(t, days("fri"))
	there := w.create(t, daily("there", "plant"))
	w.announced()
	w.changed.Store(0)
	trial, err := w.Rehearsal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after := func(name string, upstreams ...string) core.Task {
		task := sound()
		task.Namespace, task.Name, task.Type, task.Params = "Factory", name, "Common.KeepAlive", sound().Params
		for _, u := range upstreams {
			task.After = append(task.After, core.Upstream{Task: u})
		}
		return task
	}
	_, err = trial.Create(t.Context(), after("first"), "ann")
	wantFinding(t, err, "namespace", "there is no namespace Factory")
	if _, err := trial.PutNamespace(t.Context(), core.Namespace{Name: "Factory"}); err != nil {
		t.Fatal(err)
	}
	if _, err := trial.PutPool(t.Context(), core.Pool{Name: "erp", Slots: 3}, definition.AnyVersion, "ann"); err != nil {
		t.Fatal(err)
	}
	_, err = trial.Create(t.Context(), after("second", "first"), "ann")
	wantFinding(t, err, "after[0].task", "first")
	first, err := trial.Create(t.Context(), after("first"), "ann")
	if err != nil {
		t.Fatal(err)
	}
	greedy := after("second", "first")
	greedy.Policies.Pools = []core.PoolUse{{Pool: "erp", Slots: 3}}
	if _, err := trial.Create(t.Context(), greedy, "ann"); err != nil {
		t.Fatal(err)
	}
	_, err = trial.PutPool(t.Context(), core.Pool{Name: "erp", Slots: 2}, definition.AnyVersion, "ann")
	wantFinding(t, err, "slots", "task Factory/second")
	first.After = []core.Upstream{{Task: "second"}}
	_, err = trial.Replace(t.Context(), first, "ann")
	wantFinding(t, err, "after[0].task", "makes a cycle")
	_, err = trial.PutCalendar(t.Context(), core.Calendar{Name: "plant", Dates: []core.DateRange{{From: "2020-01-01"}}}, definition.AnyVersion, "ann")
	wantFinding(t, err, "", "without any day: Telemedicine/there")
	if _, err := trial.PutCalendar(t.Context(), days("tue"), definition.AnyVersion, "ann"); err != nil {
		t.Fatal(err)
	}
	if moved, err := trial.Task(t.Context(), there.ID); err != nil || !moved.State.NextFire.Equal(date(24)) {
		t.Errorf("with the other calendar it fires at %s, %v", moved.State.NextFire, err)
	}
	if err := trial.Delete(t.Context(), there.ID); err == nil {
		t.Error("a rehearsal has removed a task")
	}

	if real, err := w.Task(t.Context(), there.ID); err != nil || real.Version != 1 || !real.State.NextFire.Equal(date(20)) {
		t.Errorf("the real task is %+v, %v", real, err)
	}
	if pool, err := w.Pool(t.Context(), "erp"); err != nil || pool.Version != 1 || pool.Value.Slots != 1 {
		t.Errorf("the real pool is %+v, %v", pool, err)
	}
	for _, err := range []error{
		func() error { _, err := w.Namespace(t.Context(), "Factory"); return err }(),
		func() error { _, err := w.TaskByName(t.Context(), "Factory", "first"); return err }(),
	} {
		if core.KindOf(err) != core.KindNotFound {
			t.Errorf("it was kept: %v", err)
		}
	}
	if said := w.announced(); len(said) != 0 || w.changed.Load() != 0 {
		t.Errorf("announced %+v", said)
	}
}

// TestWhatIsSupposedCanBeNamed: whatever it is, and nothing that is there is replaced by it.
func TestWhatIsSupposedCanBeNamed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pool(t, core.Pool{Name: "small", Slots: 1})
	if err := w.Suppose(t.Context(), "pool", "", "erp"); err == nil {
		t.Error("something was supposed of the real definitions")
	}
	trial, err := w.Rehearsal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, thing := range [][3]string{
		{"namespace", "", "Factory"}, {"task", "Factory", "first"}, {"pool", "", "erp"}, {"pool", "", "small"}, {"downstream", "", "his"}, {"calendar", "", "plant"},
	} {
		if err := trial.Suppose(t.Context(), thing[0], thing[1], thing[2]); err != nil {
			t.Fatal(thing, err)
		}
	}
	task := sound()
	task.Namespace, task.After, task.Schedule.OnlyOn = "Factory", []core.Upstream{{Task: "first"}}, []string{"plant"}
	task.Policies.Pools, task.Policies.Downstreams = []core.PoolUse{{Pool: "erp", Slots: 1000}}, []string{"his"}
	if _, err := trial.Create(t.Context(), task, "ann"); err != nil {
		t.Error(err)
	}
	task.Policies.Pools = []core.PoolUse{{Pool: "small", Slots: 2}}
	_, err = trial.Create(t.Context(), task, "ann")
	wantFinding(t, err, "policies.pools[0].slots", "pool small has 1 in all")
}

// TestTheNextStartIsOneThatTheCalendarLetsThrough: the next instant of a Tuesday's task is a Friday's, which is skipped.
func TestTheNextStartIsOneThatTheCalendarLetsThrough(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.calendar(t, core.Calendar{Name: "plant", Weekdays: []string{"tue"}, Except: []core.DateRange{{From: "2026-12-01"}}})
	for name, c := range map[string]struct {
		only, move string
		fire       time.Time
		start      time.Time
		skip       core.Text
	}{
		"free":    {"", "", date(20), date(20), core.Text{}},
		"skipped": {"plant", "", date(20), date(24), core.Text{Zh: "被日历 plant 跳过", En: "skipped by calendar plant"}},
		"moved":   {"plant", "next", date(24), date(24), core.Text{}},
	} {
		task := w.create(t, func(task *core.Task) {
			task.Name, task.Schedule.Spec, task.Schedule.OnDayOff = name, "30 12 * * *", c.move
			if c.only != "" {
				task.Schedule.OnlyOn = []string{c.only}
			}
		})
		start, skip := w.Upcoming(task)
		if !task.State.NextFire.Equal(c.fire) || !start.Equal(c.start) || skip != c.skip {
			t.Errorf("%s: fires at %s, starts at %s: %+v", name, task.State.NextFire, start, skip)
		}
	}
	if start, skip := w.Upcoming(core.Task{Schedule: core.Schedule{Spec: "@manual"}}); !start.IsZero() || skip != (core.Text{}) {
		t.Errorf("a task without schedule starts at %s: %+v", start, skip)
	}
	night := w.create(t, func(task *core.Task) {
		task.Name, task.Schedule = "night", core.Schedule{Spec: "30 2 13 3 *", Zone: "America/New_York", OnGap: "skip"}
	})
	night.State.NextFire = time.Date(2033, 3, 13, 7, 0, 0, 0, time.UTC) // when the clock goes forward over 02:30
	if start, skip := w.Upcoming(night); start.Year() != 2034 || skip.En != "skipped: the clock goes forward, so that the local time does not exist" {
		t.Errorf("it starts at %s: %+v", start, skip)
	}
}

func TestAnOverlapForOnceIsJudgedAsATasks(t *testing.T) {
	t.Parallel()
	if found := definition.CheckOverlap("overlap", core.OverlapAllow, 3); len(found) != 0 {
		t.Error(found)
	}
	if found := definition.CheckOverlap("overlap", core.OverlapSkip, 3); len(found) != 1 || found[0].Path != "overlap" {
		t.Error(found)
	}
	if found := definition.CheckOverlap("overlap", core.OverlapQueue, 1001); len(found) != 1 || found[0].Path != "overlap" {
		t.Error(found)
	}
}
