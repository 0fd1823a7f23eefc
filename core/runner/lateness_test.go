package runner_test

import (
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
)

// A backfill of last month says nothing about how late runs begin.
func TestWhatIsOfThePastHasNoLateness(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var mu sync.Mutex
	var told []time.Duration
	w.opts.Started = func(lateness time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, lateness)
	}
	w.start(t)
	task := w.create(t, "succeed", nil)
	past, err := w.Backfill(t.Context(), runner.Backfill{TaskID: task.ID, Fires: []time.Time{time.Now().AddDate(0, -1, 0).Truncate(time.Second)}, By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	w.wantEnded(t, past[0].ID, core.Succeeded, "")
	now, err := w.RunNow(t.Context(), task.ID, nil, "ann")
	if err != nil {
		t.Fatal(err)
	}
	w.wantEnded(t, now.ID, core.Succeeded, "")
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 1 || told[0] > time.Hour {
		t.Errorf("%v", told)
	}
}
