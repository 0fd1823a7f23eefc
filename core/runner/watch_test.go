package runner_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
)

func TestAMissedServiceLevelIsWritten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.usual = 10 * time.Millisecond
	w.start(t)
	task := w.create(t, "hold", policies(core.Policies{SLA: core.SLA{StartWithin: time.Millisecond, MaxDuration: 50 * time.Millisecond, P95Factor: 2}}))
	fired := w.fire(t, task.ID, -5*time.Second)
	eventually(t, "the store knows while it runs", func() bool { return len(w.run(t, fired.ID).Breaches) == 3 })
	close(w.provider.let)
	run := w.wantEnded(t, fired.ID, core.Succeeded, "")
	var kinds []core.BreachKind
	for _, b := range run.Breaches {
		kinds = append(kinds, b.Kind)
	}
	if want := []core.BreachKind{core.BreachStart, core.BreachLong, core.BreachSlow}; !slices.Equal(kinds, want) {
		t.Errorf("breaches %v; want %v", kinds, want)
	}
}

// TestARunThatIsTriedAgainHasStarted: with its first attempt. What that missed is told once, and stays.
func TestARunThatIsTriedAgainHasStarted(t *testing.T) {
	t.Parallel()
	sla, fired := core.SLA{StartWithin: time.Minute}, time.Now()
	for attempt, want := range map[int]int{1: 1, 2: 0} {
		run := core.Run{FireAt: fired, Attempt: attempt}
		waits := runner.Breaches(sla, run, time.Time{}, time.Time{}, fired.Add(time.Hour), false, 0, time.UTC)
		runs := runner.Breaches(sla, run, fired.Add(time.Hour), time.Time{}, fired.Add(time.Hour), false, 0, time.UTC)
		if len(waits) != want || len(runs) != want {
			t.Errorf("attempt %d an hour later: %v while it waits, %v while it runs", attempt, waits, runs)
		}
	}
	w := setup(t)
	w.start(t)
	task := w.create(t, "fail", policies(core.Policies{MaxAttempts: 3, RetryDelay: 100 * time.Millisecond, SLA: sla}))
	run := w.wantEnded(t, w.fire(t, task.ID, -time.Hour).ID, core.Failed, "")
	if run.Attempt != 3 || len(run.Breaches) != 1 || run.Breaches[0].Kind != core.BreachStart {
		t.Errorf("after %d attempts %+v", run.Attempt, run.Breaches)
	}
}
