package runner_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
)

// TestFewGoroutinesAreKept: what a burst of runs needed goes again, up to what the next runs can use. It is not parallel: it
// counts goroutines.
func TestFewGoroutinesAreKept(t *testing.T) {
	const burst, kept = 200, 64
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", nil)
	for range burst {
		w.fire(t, task.ID, 0)
	}
	eventually(t, "all execute", func() bool { return w.provider.executing() == burst })
	if n := working(); n != burst {
		t.Errorf("%d goroutines execute %d runs", n, burst)
	}
	close(w.provider.let)
	eventually(t, "all end", func() bool { return w.task(t, task.ID).State.Live == 0 })
	eventually(t, "most goroutines end", func() bool { return working() == kept })
	w.wantEnded(t, w.fire(t, w.create(t, "ok", nil).ID, 0).ID, core.Succeeded, "")
	eventually(t, "none came to those", func() bool { return working() == kept })
}

// working counts the goroutines that carry out runs, or have and are kept.
func working() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "runner.(*Runner).work(")
}
