package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
)

func TestAStepIsStartedOnceAndItsEndIsTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", nil)
	step := runner.Step{WorkflowID: "wf-1", Name: "load", TaskID: task.ID, Params: []byte(`{"x":1}`), FireAt: time.Now().UTC(), By: "gnomon"}
	changed, stop := w.Changed("wf-1")
	defer stop()
	run, err := w.StartStep(t.Context(), step)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.StartStep(t.Context(), step)
	if err != nil || again.ID != run.ID {
		t.Errorf("asked again, the step is %s, %v; want %s", again.ID, err, run.ID)
	}
	w.executes(t, 1)
	close(w.provider.let)
	<-changed
	if ended := w.wantEnded(t, run.ID, core.Succeeded, ""); ended.WorkflowID != "wf-1" || ended.Step != "load" || !strings.Contains(string(ended.Params), `"x":1`) {
		t.Errorf("the step's run: %+v", ended)
	}
	if n := len(w.provider.attempts()); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// TestStepsOfOneTaskWaitForEachOther: whose fires are skipped while one is live carries out all steps that name it.
func TestStepsOfOneTaskWaitForEachOther(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "succeed", policies(core.Policies{Overlap: core.OverlapSkip}))
	at := time.Now().UTC()
	var runs []core.Run
	for _, name := range []string{"east", "north", "west"} {
		run, err := w.StartStep(t.Context(), runner.Step{WorkflowID: "wf-2", Name: name, TaskID: task.ID, FireAt: at, By: "gnomon"})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	for _, run := range runs {
		w.wantEnded(t, run.ID, core.Succeeded, "")
	}
	if w.provider.atOnce() != 1 {
		t.Errorf("%d at once", w.provider.atOnce())
	}
}
