package runner_test

import (
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
)

func TestABackfillIsOneSeriesInOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "succeed", policies(core.Policies{Overlap: core.OverlapSkip}))
	began := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	var fires []time.Time
	for h := range 5 {
		fires = append(fires, began.Add(time.Duration(h)*time.Hour))
	}
	runs, err := w.Backfill(t.Context(), runner.Backfill{TaskID: task.ID, Fires: fires, By: "ann"})
	if err != nil || len(runs) != 5 {
		t.Fatal(runs, err)
	}
	for i, run := range runs {
		ended := w.wantEnded(t, run.ID, core.Succeeded, "")
		if ended.Series != runs[0].Series || !ended.FireAt.Equal(fires[i]) || ended.Trigger != core.TriggerBackfill || ended.CreatedBy != "ann" {
			t.Errorf("run %d: %+v", i, ended)
		}
	}
	for i, a := range w.provider.attempts() {
		if !a.FireAt.Equal(fires[i]) {
			t.Errorf("attempt %d was for %s", i, a.FireAt)
		}
	}
	if w.provider.atOnce() != 1 {
		t.Errorf("%d at once", w.provider.atOnce())
	}
}

// TestABackfillsOwnOverlapHoldsBesideTheTasks: two at once of a backfill with allow(2), although the task says queue(5).
func TestABackfillsOwnOverlapHoldsBesideTheTasks(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", policies(core.Policies{Overlap: core.OverlapQueue, OverlapLimit: 5}))
	var fires []time.Time
	for h := range 5 {
		fires = append(fires, time.Date(2026, 10, 1, h, 0, 0, 0, time.UTC))
	}
	runs, err := w.Backfill(t.Context(), runner.Backfill{TaskID: task.ID, Fires: fires, Overlap: core.OverlapAllow, OverlapLimit: 2, By: "ann"})
	if err != nil || len(runs) != 5 {
		t.Fatal(runs, err)
	}
	w.executes(t, 2)
	for _, run := range runs[2:] {
		w.waits(t, run.ID, core.GateOverlap)
	}
	close(w.provider.let)
	for _, run := range runs {
		w.wantEnded(t, run.ID, core.Succeeded, "")
	}
	if w.provider.atOnce() != 2 {
		t.Errorf("%d at once", w.provider.atOnce())
	}
}
