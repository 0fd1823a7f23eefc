package scheduler

import (
	"container/heap"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// entry is one task with an upcoming fire. Task and sched are read when the fire is first decided and kept for the
// next ones; an entry of another version is another entry.
type entry struct {
	core.Due
	task    *core.Task
	sched   *schedule.Schedule
	problem error // why the task's row cannot be read
	// unreadable is what can be read of such a row; nil: nothing.
	unreadable *core.Task
	fired      int64 // runs that its schedule has started
	index      int
}

// window holds the upcoming fires up to an instant, earliest first. Its size bounds the scheduler's memory: tasks
// that fire later stay in the store until a later scan.
type window struct {
	queue fires
	byID  map[string]*entry
	until time.Time // every fire up to here is in the window
}

func newWindow() *window { return &window{byID: make(map[string]*entry)} }

// put adds a task or moves it to another fire; what is known of an older version is forgotten. An older version than
// the one held changes nothing.
func (w *window) put(due core.Due) {
	held, ok := w.byID[due.TaskID]
	switch {
	case !ok:
		e := &entry{Due: due}
		w.byID[due.TaskID] = e
		heap.Push(&w.queue, e)
		return
	case due.Version < held.Version:
		return
	case due.Version > held.Version:
		held.task, held.sched = nil, nil
	case held.task != nil && held.task.Policies.MaxRuns > 0 && !due.NextFire.Equal(held.NextFire):
		held.task, held.sched = nil, nil // another server has decided since, and may have started runs that count
	}
	held.Due = due
	heap.Fix(&w.queue, held.index)
}

// move moves a task that is held to the fire after the one just decided here: all that is known of it still holds.
func (w *window) move(e *entry, next time.Time) {
	e.NextFire = next
	heap.Fix(&w.queue, e.index)
}

// remove forgets a task.
func (w *window) remove(id string) {
	if e, ok := w.byID[id]; ok {
		heap.Remove(&w.queue, e.index)
		delete(w.byID, id)
	}
}

// forgetPlans has every definition read anew before it is decided on: what they depend on has changed.
func (w *window) forgetPlans() {
	for _, e := range w.byID {
		e.task, e.sched = nil, nil
	}
}

// due gives at most limit entries that fire at or before horizon; they stay in the window.
func (w *window) due(horizon time.Time, limit int) []*entry {
	var list []*entry
	for len(w.queue) > 0 && len(list) < limit && !w.queue[0].NextFire.After(horizon) {
		list = append(list, heap.Pop(&w.queue).(*entry))
	}
	for _, e := range list {
		heap.Push(&w.queue, e)
	}
	return list
}

// first gives the earliest fire.
func (w *window) first() (time.Time, bool) {
	if len(w.queue) == 0 {
		return time.Time{}, false
	}
	return w.queue[0].NextFire, true
}

func (w *window) len() int { return len(w.queue) }

// fires is a heap by next fire.
type fires []*entry

func (f fires) Len() int           { return len(f) }
func (f fires) Less(i, j int) bool { return f[i].NextFire.Before(f[j].NextFire) }
func (f fires) Swap(i, j int) {
	f[i], f[j] = f[j], f[i]
	f[i].index, f[j].index = i, j
}
func (f *fires) Push(x any) {
	e := x.(*entry)
	e.index = len(*f)
	*f = append(*f, e)
}
func (f *fires) Pop() any {
	old := *f
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*f = old[:len(old)-1]
	return e
}
