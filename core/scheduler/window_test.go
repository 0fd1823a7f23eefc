package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
)

func TestWindowGivesWhatIsDueAndKeepsIt(t *testing.T) {
	t.Parallel()
	w := scheduler.NewWindow()
	if _, ok := w.First(); ok || w.Due(noon, 10) != nil {
		t.Error("an empty window has fires")
	}
	for i := range 10 {
		w.Put(core.Due{TaskID: fmt.Sprint(9 - i), Version: 1, NextFire: noon.Add(time.Duration(9-i) * time.Second)})
	}
	for range 2 { // asking takes nothing out
		due := w.Due(noon.Add(4*time.Second), 3)
		if len(due) != 3 || due[0].TaskID != "0" || due[1].TaskID != "1" || due[2].TaskID != "2" {
			t.Fatalf("due %+v; want the three earliest", due)
		}
	}
	if due := w.Due(noon.Add(4*time.Second), 100); len(due) != 5 || w.Len() != 10 {
		t.Errorf("due %d of %d; want 5 of 10", len(due), w.Len())
	}
}

func TestWindowMovesAndForgetsTasks(t *testing.T) {
	t.Parallel()
	w := scheduler.NewWindow()
	w.Put(core.Due{TaskID: "a", Version: 2, NextFire: noon})
	w.Put(core.Due{TaskID: "b", Version: 1, NextFire: noon.Add(time.Second)})
	w.Put(core.Due{TaskID: "a", Version: 2, NextFire: noon.Add(time.Minute)})
	if at, _ := w.First(); !at.Equal(noon.Add(time.Second)) || w.Len() != 2 {
		t.Errorf("first %s of %d; want b's", at, w.Len())
	}
	w.Put(core.Due{TaskID: "a", Version: 1, NextFire: noon}) // what an older version says counts no more
	if due := w.Due(noon, 10); len(due) != 0 {
		t.Errorf("an older version moved the task: %+v", due)
	}
	w.Put(core.Due{TaskID: "a", Version: 3, NextFire: noon})
	if due := w.Due(noon, 10); len(due) != 1 || due[0].Version != 3 {
		t.Errorf("due %+v; want a in version 3", due)
	}
	w.Remove("a")
	w.Remove("a")
	w.Remove("never")
	if due := w.Due(noon.Add(time.Hour), 10); len(due) != 1 || due[0].TaskID != "b" || w.Len() != 1 {
		t.Errorf("due %+v", due)
	}
}

// TestWindowAgreesWithAPlainMap compares it with the simplest thing that could do its work.
func TestWindowAgreesWithAPlainMap(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	w, plain := scheduler.NewWindow(), map[string]core.Due{}
	for range 5_000 {
		id := fmt.Sprint(rng.IntN(50))
		if rng.IntN(4) == 0 {
			w.Remove(id)
			delete(plain, id)
		} else {
			due := core.Due{TaskID: id, Version: int64(rng.IntN(5)), NextFire: noon.Add(time.Duration(rng.IntN(1000)) * time.Second)}
			w.Put(due)
			if held, ok := plain[id]; !ok || due.Version >= held.Version {
				plain[id] = due
			}
		}
		horizon, want := noon.Add(time.Duration(rng.IntN(1000))*time.Second), 0
		for _, due := range plain {
			if !due.NextFire.After(horizon) {
				want++
			}
		}
		got := w.Due(horizon, 1000)
		if len(got) != want || w.Len() != len(plain) {
			t.Fatalf("%d due of %d; want %d of %d", len(got), w.Len(), want, len(plain))
		}
		for i, due := range got {
			if due != plain[due.TaskID] || i > 0 && due.NextFire.Before(got[i-1].NextFire) {
				t.Fatalf("due %+v out of order or not %+v", due, plain[due.TaskID])
			}
		}
	}
}
