package ledger_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

var calendars = func() *calendar.Set {
	set, found := calendar.New([]core.Calendar{{Name: "freeze", Spans: []core.TimeSpan{{From: at("2026-11-10 00:00"), To: at("2026-11-12 00:00")}}}}, nil)
	if len(found) > 0 {
		panic(found[0].Message.En)
	}
	return set
}()

func plan(task core.Task) (*schedule.Schedule, error) {
	return schedule.Parse(task.Schedule, task.Name, calendars)
}

// at reads a time of day in Shanghai.
func at(s string) time.Time {
	zone := time.FixedZone("CST", 8*3600)
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02 15:04:05.999999"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t.UTC()
		}
	}
	panic(s)
}

const (
	taskID = "0190aaaa-0000-7000-8000-000000000001"
	runID  = "0190bbbb-0000-7000-8000-000000000002"
)

// report is a task of every day at nine, created on the first of November.
func report(change ...func(*core.Task)) core.Task {
	t := core.Task{
		ID: taskID, Namespace: "Erp", Name: "report", Type: "Common.Http", Version: 1, Enabled: true,
		Schedule:  core.Schedule{Spec: "0 9 * * *", Zone: "Asia/Shanghai"},
		CreatedAt: at("2026-11-01 00:00"), UpdatedAt: at("2026-11-01 00:00"), UpdatedBy: "li",
	}
	t.State.NextFire = at("2026-11-21 09:00")
	for _, c := range change {
		c(&t)
	}
	return t
}

// edited is the version after t, changed at a time by wang.
func edited(t core.Task, when string, change func(*core.Task)) core.Task {
	t.Version++
	t.UpdatedAt, t.UpdatedBy = at(when), "wang"
	change(&t)
	return t
}

// row is what decided the fire of an instant: it started in time and succeeded.
func row(when string, change ...func(*core.Run)) core.Run {
	fire := at(when)
	r := core.Run{
		ID: runID, TaskID: taskID, TaskVersion: 1, Namespace: "Erp", TaskName: "report", TaskType: "Common.Http", Trigger: core.TriggerSchedule,
		FireAt: fire, FireThrough: fire, FireCount: 1, State: core.RunEnded, StartAt: fire, Attempt: 1, DecidedAt: fire.Add(-200 * time.Millisecond),
		StartedAt: fire.Add(3 * time.Millisecond), EndedAt: fire.Add(2003 * time.Millisecond), Verdict: core.Succeeded, Owner: "server-1", CreatedBy: "gnomon",
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func skipped(reason core.Reason, facts map[string]any) func(*core.Run) {
	return func(r *core.Run) {
		r.Verdict, r.Reason, r.Attempt, r.StartedAt, r.EndedAt = core.Skipped, reason, 0, time.Time{}, r.DecidedAt
		if facts != nil {
			r.Facts, _ = json.Marshal(facts)
		}
	}
}

func live(state core.RunState) func(*core.Run) {
	return func(r *core.Run) {
		r.State, r.Verdict, r.EndedAt = state, "", time.Time{}
		if state != core.RunRunning {
			r.StartedAt = time.Time{}
		}
	}
}

// why asks about nine o'clock on the twentieth, at noon.
func why(t *testing.T, q ledger.Question) ledger.Answer {
	t.Helper()
	if q.Now.IsZero() {
		q.Now = at("2026-11-20 12:00")
	}
	if q.Task.ID == "" && len(q.Versions) == 0 {
		q.Task = report()
	}
	q.Plan = plan
	return ledger.Why(q)
}
