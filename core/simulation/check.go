package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// check holds the promises about firing against the observer's record.
func (w *world) check() []string {
	w.checkStarts()
	for _, task := range w.tasks {
		w.checkDecisions(task)
	}
	for _, id := range w.store.live {
		run := w.store.runs[id]
		if w.end.Sub(run.StartAt) > 3*lease {
			w.fail("run %s of %s is %s since %s and nobody works on it", id, run.TaskID, run.State, run.StartAt)
		}
	}
	return w.broken
}

// checkStarts: no attempt of a fire begins twice, and the tokens of a run's attempts rise.
func (w *world) checkStarts() {
	seen := make(map[string]bool)
	tokens := make(map[string]int64)
	for _, s := range w.starts {
		key := fmt.Sprintf("%s %s attempt %d", s.task, s.fire, s.attempt)
		if seen[key] {
			w.fail("%s was started twice", key)
		}
		seen[key] = true
		if s.token <= tokens[s.run] {
			w.fail("run %s: token %d of attempt %d does not rise above %d", s.run, s.token, s.attempt, tokens[s.run])
		}
		tokens[s.run] = s.token
	}
}

// checkDecisions: the decisions of a task cover each of its nominal instants exactly once. The instants are found
// here one by one, not by the functions that skip over ranges.
func (w *world) checkDecisions(task *core.Task) {
	var rows []*core.Run
	for _, run := range w.store.runs {
		if run.TaskID == task.ID {
			rows = append(rows, run)
		}
	}
	slices.SortFunc(rows, func(a, b *core.Run) int { return a.FireAt.Compare(b.FireAt) })
	sched := w.scheds[task.ID]
	if sched.Kind() == schedule.After {
		if len(rows) == 0 {
			w.fail("task %s never fired", task.ID)
		}
		return
	}
	mark := w.store.tasks[task.ID].nextFire
	if mark.Before(w.end) {
		w.fail("task %s: its mark stands at %s, behind the end of the world at %s", task.ID, mark, w.end)
	}
	at := w.began
	for _, row := range rows {
		covered := 0
		for {
			fire, ok := sched.Next(at)
			if !ok || fire.At.After(row.FireThrough) {
				break
			}
			if fire.At.Before(row.FireAt) {
				w.fail("task %s: %s has no decision", task.ID, fire.At.UTC().Format(time.RFC3339))
			} else {
				covered++
			}
			at = fire.At
		}
		if covered != row.FireCount {
			w.fail("task %s: the decision at %s claims %d instants and covers %d", task.ID, row.FireAt.Format(time.RFC3339), row.FireCount, covered)
		}
	}
	if fire, ok := sched.Next(at); ok && fire.At.Before(mark) {
		w.fail("task %s: %s has no decision and the mark is past it", task.ID, fire.At.UTC().Format(time.RFC3339))
	}
}
