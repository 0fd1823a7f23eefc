package scheduler

import (
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Window is the window, for tests.
type Window struct{ w *window }

// NewWindow gives an empty one.
func NewWindow() Window { return Window{newWindow()} }

// Put adds or moves a task.
func (w Window) Put(due core.Due) { w.w.put(due) }

// Remove forgets a task.
func (w Window) Remove(id string) { w.w.remove(id) }

// Len counts tasks.
func (w Window) Len() int { return w.w.len() }

// First gives the earliest fire.
func (w Window) First() (time.Time, bool) { return w.w.first() }

// Due gives what is due up to horizon.
func (w Window) Due(horizon time.Time, limit int) []core.Due {
	var list []core.Due
	for _, e := range w.w.due(horizon, limit) {
		list = append(list, e.Due)
	}
	return list
}
