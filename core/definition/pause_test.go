package definition_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func TestAPauseKeepsTheMarkAndFiresNothingRetroactively(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, nil)
	w.announced()
	mark := task.State.NextFire
	w.clock.set(noon.Add(3 * time.Second))
	paused, err := w.Pause(t.Context(), task.ID, "上线", time.Time{}, "bob")
	if err != nil || !paused.Enabled || paused.Version != 2 || paused.UpdatedBy != "bob" || !paused.State.NextFire.Equal(mark) ||
		paused.Pause.By != "bob" || paused.Pause.Note != "上线" || !paused.Pause.Since.Equal(noon.Add(3*time.Second)) || !paused.Pause.Until.IsZero() {
		t.Fatalf("paused: %+v, %v", paused, err)
	}
	if said := w.Warnings(t.Context(), paused); len(said) != 1 || !strings.Contains(said[0].En, "paused") {
		t.Errorf("warnings %+v", said)
	}
	// A second pause takes the place of the first, and covers what that one covered.
	until := noon.Add(time.Hour)
	w.clock.set(noon.Add(9 * time.Second))
	again, err := w.Pause(t.Context(), task.ID, "", until, "ann")
	if err != nil || again.Version != 3 || !again.Pause.Until.Equal(until) || again.Pause.Note != "" || !again.Pause.Since.Equal(paused.Pause.Since) {
		t.Fatalf("paused again: %+v, %v", again.Pause, err)
	}
	if said := w.Warnings(t.Context(), again); len(said) != 0 {
		t.Errorf("warnings %+v", said)
	}
	// An edit and switching off and on leave it.
	again.Description = "x"
	edited, err := w.Replace(t.Context(), again, "ann")
	if err != nil || edited.Pause != again.Pause {
		t.Errorf("after an edit: %+v, %v", edited.Pause, err)
	}
	w.clock.set(noon.Add(25 * time.Second))
	resumed, err := w.Resume(t.Context(), task.ID, "eve")
	if err != nil || resumed.Version != 5 || resumed.UpdatedBy != "eve" || resumed.Pause.Holds(w.clock.Now()) || !resumed.Pause.Holds(noon.Add(20*time.Second)) {
		t.Fatalf("resumed: %+v, %v", resumed, err)
	}
	if !resumed.State.NextFire.Equal(edited.State.NextFire) {
		t.Errorf("resuming moved the mark from %s to %s", edited.State.NextFire, resumed.State.NextFire)
	}
	if twice, err := w.Resume(t.Context(), task.ID, "eve"); err != nil || twice.Version != 5 {
		t.Errorf("resuming twice made version %d, %v", twice.Version, err)
	}
	if said := w.announced(); len(said) != 4 {
		t.Errorf("announced %+v", said)
	}
	// A later pause begins anew.
	if anew, err := w.Pause(t.Context(), task.ID, "", time.Time{}, "ann"); err != nil || !anew.Pause.Since.Equal(noon.Add(25*time.Second)) {
		t.Errorf("paused anew: %+v, %v", anew.Pause, err)
	}
}

func TestAPauseIntoThePastIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, nil)
	_, err := w.Pause(t.Context(), task.ID, strings.Repeat("x", 1025), noon, "ann")
	wantFinding(t, err, "until", "in the future")
	wantFinding(t, err, "note", "1 KiB")
	if _, err := w.Pause(t.Context(), "nobody", "", time.Time{}, "ann"); core.KindOf(err) != core.KindNotFound {
		t.Errorf("pausing nobody gave %v", err)
	}
	if _, err := w.Resume(t.Context(), "nobody", "ann"); core.KindOf(err) != core.KindNotFound {
		t.Errorf("resuming nobody gave %v", err)
	}
}

// TestANewTaskIsNotPaused: a pause comes from Pause alone.
func TestANewTaskIsNotPaused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, func(task *core.Task) { task.Pause = core.Pause{Since: noon, By: "eve"} })
	if task.Pause != (core.Pause{}) {
		t.Errorf("pause %+v", task.Pause)
	}
	task.Pause = core.Pause{Since: noon, By: "eve"}
	if edited, err := w.Replace(t.Context(), task, "ann"); err != nil || edited.Pause != (core.Pause{}) {
		t.Errorf("pause %+v, %v", edited.Pause, err)
	}
}

func TestWarningsAreWhatIsNotWrongButShouldBeSeen(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, func(task *core.Task) { task.Policies.MaxRuns = 3 })
	if said := w.Warnings(t.Context(), task); len(said) != 0 {
		t.Errorf("a sound task has the warnings %+v", said)
	}
	task.State.Fired = 3
	w.catalog.Withdraw("plugin:common")
	said := w.Warnings(t.Context(), task)
	if len(said) != 2 || !strings.Contains(said[0].En, "Common.KeepAlive") || !strings.Contains(said[1].En, "max_runs") || !chinese(said[0].Zh+said[1].Zh) {
		t.Errorf("warnings %+v", said)
	}
	if said := w.Warnings(t.Context(), core.Task{Problem: "torn"}); len(said) != 1 || !strings.Contains(said[0].En, "torn") {
		t.Errorf("warnings %+v", said)
	}
}

// TestAChangeLosesNoFireThatWasDue: what is due and undecided as a task is changed, disabled or deleted gets its decision.
func TestAChangeLosesNoFireThatWasDue(t *testing.T) {
	t.Parallel()
	changes := map[string]struct {
		reason core.Reason
		do     func(t *testing.T, w *world, task core.Task) error
	}{
		"Edit": {core.ReasonEdited, func(t *testing.T, w *world, task core.Task) error {
			task.Description = "changed"
			_, err := w.Replace(t.Context(), task, "ann")
			return err
		}},
		"Disable": {core.ReasonDisabled, func(t *testing.T, w *world, task core.Task) error {
			_, err := w.SetEnabled(t.Context(), task.ID, false, "ann")
			return err
		}},
		"Delete": {core.ReasonEdited, func(t *testing.T, w *world, task core.Task) error { return w.Delete(t.Context(), task.ID) }},
	}
	for name, c := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			task := w.create(t, nil)                // @every 10s
			w.clock.set(noon.Add(35 * time.Second)) // three fires are past, and no server has decided them
			if err := c.do(t, w, task); err != nil {
				t.Fatal(err)
			}
			rows, err := w.store.Runs(t.Context(), core.RunFilter{TaskID: task.ID, Limit: 10})
			if err != nil || len(rows) != 1 {
				t.Fatalf("rows %+v, %v", rows, err)
			}
			row := rows[0]
			if row.Verdict != core.Skipped || row.Reason != c.reason || row.FireCount != 3 || !row.FireAt.Equal(noon.Add(10*time.Second)) || !row.FireThrough.Equal(noon.Add(30*time.Second)) {
				t.Errorf("the row: %+v", row)
			}
		})
	}
}
