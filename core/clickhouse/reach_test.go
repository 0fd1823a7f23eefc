package clickhouse_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gnomon-scheduler/gnomon/core"
)

// A page of a task's runs is the same whatever the roll-up of days says of it; it says how far back to look.
func TestPagesOfRareAndBusyTasks(t *testing.T) {
	t.Parallel()
	w := setup(t)
	at, day := now().Truncate(time.Second), 24*time.Hour
	made := func(when time.Time) string { // as an id made at that time
		id := uuid.Must(uuid.NewV7())
		for i, ms := 5, when.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
			id[i] = byte(ms)
		}
		return id.String()
	}
	rhythms := []struct {
		name  string
		n     int
		every time.Duration
		end   time.Time
		steps []time.Duration // of a page of fifty, when days are rolled up
	}{
		{"weekly", 60, 7 * day, at, []time.Duration{0, 0}},
		{"daily", 70, day, at, []time.Duration{0, 0}},
		{"hourly", 240, time.Hour, at, []time.Duration{35 * day, 0}},
		{"busy", 3000, 20 * time.Second, at, []time.Duration{day, 35 * day, 0}},
		{"busy until last year", 300, time.Minute, at.Add(-300 * day), []time.Duration{0, 0}},
		{"five", 5, day, at, []time.Duration{0}},
	}
	var all []core.Run
	var tasks []core.TaskSnapshot
	for _, r := range rhythms {
		task := core.Task{ID: newID(), Version: 1, Namespace: "Common", Name: r.name, Type: "Common.KeepAlive", UpdatedAt: at.Add(-999 * day)}
		tasks = append(tasks, core.TaskSnapshot{Task: task})
		for i := range r.n {
			fire := r.end.Add(-time.Duration(r.n-i) * r.every)
			all = append(all, core.Run{
				ID: made(fire.Add(-time.Second)), TaskID: task.ID, TaskVersion: 1, Namespace: task.Namespace, TaskName: task.Name, TaskType: task.Type, FireAt: fire, FireThrough: fire, FireCount: 1,
				DecidedAt: fire.Add(-time.Second), StartedAt: fire, EndedAt: fire.Add(time.Millisecond), State: core.RunEnded, Verdict: core.Succeeded, Attempt: 1,
			})
		}
	}
	if err := w.WriteTasks(t.Context(), "tasks", tasks); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteRuns(t.Context(), "runs", all); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		for i, r := range rhythms {
			want := slices.DeleteFunc(slices.Clone(all), func(run core.Run) bool { return run.TaskName != r.name })
			slices.Reverse(want)
			before := ""
			for len(want) > 0 {
				page, err := w.Runs(t.Context(), core.RunFilter{TaskID: tasks[i].Task.ID, Limit: 50, BeforeID: before})
				if err != nil {
					t.Fatal(err)
				}
				if got, want := ids(page), ids(want[:min(50, len(want))]); !slices.Equal(got, want) {
					t.Fatalf("%s, a page before %q: %d runs, want %d", r.name, before, len(got), len(want))
				}
				before, want = page[len(page)-1].ID, want[len(page):]
				if r.n > 1000 && len(want) < r.n-200 { // enough of the busy one
					break
				}
			}
		}
	}
	check()
	for {
		pass, err := w.RollUp(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if pass.Left == 0 {
			break
		}
	}
	check()
	for _, r := range rhythms {
		steps, err := w.Reach(t.Context(), "Common", r.name, at, 50)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.steps) == 2 && r.steps[0] == 0 { // a step of its own, as long as the page reaches back
			if oldest := at.Sub(r.end) + 50*r.every; len(steps) != 2 || steps[0] < oldest || steps[0] > oldest+3*day || steps[1] != 0 {
				t.Errorf("%s is looked for in %v, its page reaches back %s", r.name, steps, oldest)
			}
		} else if !slices.Equal(steps, r.steps) {
			t.Errorf("%s is looked for in %v, want %v", r.name, fmt.Sprint(steps), r.steps)
		}
	}
}

func ids(runs []core.Run) (list []string) {
	for _, r := range runs {
		list = append(list, r.ID)
	}
	return list
}
