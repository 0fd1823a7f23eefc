package runner_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
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
