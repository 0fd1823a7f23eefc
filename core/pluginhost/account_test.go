package pluginhost_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/coretest"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
)

// ends collects what processes had used when they ended.
type ends struct {
	mu  sync.Mutex
	all []pluginhost.Ended
}

func (e *ends) note(end pluginhost.Ended) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, end)
}

func TestWhatAProcessHasUsedIsToldWhenItHasEnded(t *testing.T) {
	t.Parallel()
	var e ends
	h := setup(t, func(o *pluginhost.Options) { o.Ended = e.note })
	p := pool(t, h)
	if _, err := p.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, _ := run(t, t.Context(), p, do("burn"), "r1")
	if out.Place.Plugin != "worker" || out.Place.PID == 0 || out.Place.Version != "0.0.1-test" {
		t.Errorf("carried by %+v", out.Place)
	}
	run(t, t.Context(), p, do("talk"), "r2")
	living := h.Processes()
	if len(living) != 1 || living[0].Attempts != 2 || !living[0].Worker {
		t.Errorf("living: %+v", living)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.all) != 2 { // the one that described itself has lived for nobody's tick
		t.Fatalf("%+v", e.all)
	}
	for _, end := range e.all {
		if end.CPU <= 0 || end.CPUFrom == "" || end.PeakRSSBytes == 0 || end.StartTicks == 0 || end.Namespace != "Test" {
			t.Errorf("%+v", end)
		}
	}
	if worked := e.all[1]; worked.PID != out.Place.PID || worked.Attempts != 2 || worked.CPU < 140*time.Millisecond {
		t.Errorf("%+v", worked)
	}
}

func TestWhatNobodyWaitedForIsCountedByTheControlGroup(t *testing.T) {
	t.Parallel()
	var e ends
	h := setup(t, func(o *pluginhost.Options) { o.Ended = e.note })
	p := pool(t, h)
	run(t, t.Context(), p, do("talk"), "r1")
	if h.Processes()[0].Group == "" {
		t.Log("this machine gives no control group that counts: what orphans use after the last tick is not known here")
		return
	}
	run(t, t.Context(), p, do("burn-away"), "r2")
	members := filepath.Join(h.Processes()[0].Group, "cgroup.procs")
	eventually(t, "the orphan has burnt", func() bool {
		pids, err := os.ReadFile(members)
		return err == nil && len(strings.Fields(string(pids))) == 1
	})
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.all) != 1 || e.all[0].CPUFrom != "cgroup" || e.all[0].CPU < 40*time.Millisecond {
		t.Errorf("%+v", e.all)
	}
}

func TestTheTraceOfAnAttemptIsHandedOnAndForgotten(t *testing.T) {
	t.Parallel()
	p := load(t, setup(t))
	for i, parent := range []string{"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ""} { // requests are used again
		attempt := do("trace").Attempt(fmt.Sprint("r", i))
		attempt.Traceparent = parent
		out, err := p.Execute(t.Context(), attempt, &coretest.Sink{})
		var got struct{ Traceparent string }
		if err != nil || json.Unmarshal(out.Output, &got) != nil || got.Traceparent != parent {
			t.Errorf("%q came as %s, %v", parent, out.Output, err)
		}
	}
}
