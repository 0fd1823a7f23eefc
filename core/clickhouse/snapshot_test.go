package clickhouse_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func TestTaskSnapshots(t *testing.T) {
	t.Parallel()
	w := setup(t)
	at := now()
	task := core.Task{
		ID: "0198c0de-0000-7000-8000-00000000000a", Version: 3, Namespace: "ImageArchive", Name: "verify", Type: "ImageArchive.DataVerifyService", Params: json.RawMessage(`{"batch":100}`),
		Schedule: core.Schedule{Spec: "0 2 * * *", Zone: "Asia/Shanghai"}, Enabled: true, Owner: "wang", Category: "archive", Description: "夜间校验", Labels: map[string]string{"team": "pacs", "site": "第一医院"},
		After: []core.Upstream{{Task: "load"}, {Task: "scan"}}, CreatedAt: at.Add(-time.Hour), UpdatedAt: at, UpdatedBy: "wang",
	}
	write := func(batch string, snapshots ...core.TaskSnapshot) {
		t.Helper()
		if err := w.WriteTasks(t.Context(), batch, snapshots); err != nil {
			t.Fatal(err)
		}
	}
	next := task
	next.Version, next.Owner = 4, "li"
	other := core.Task{ID: "0198c0de-0000-7000-8000-00000000000b", Version: 1, Namespace: "Common", Name: "plain", UpdatedAt: at}
	write("one", core.TaskSnapshot{Task: task, Policies: `{"timeout":"1h"}`}, core.TaskSnapshot{Task: next}, core.TaskSnapshot{Task: other})
	write("one-again", core.TaskSnapshot{Task: task, Policies: `{"timeout":"1h"}`})

	row := fmt.Sprint(w.ask(t, "SELECT namespace, task, task_type, schedule, zone, enabled, owner, category, description, labels, params, policies, after, changed_by, deleted FROM tasks WHERE task_version = 3"))
	if want := `[[ImageArchive verify ImageArchive.DataVerifyService 0 2 * * * Asia/Shanghai true wang archive 夜间校验 map[site:第一医院 team:pacs] {"batch":100} {"timeout":"1h"} [load scan] wang false]]`; row != want {
		t.Errorf("got  %s\nwant %s", row, want)
	}
	run := core.Run{ID: newID(), TaskID: task.ID, TaskVersion: 4, Namespace: task.Namespace, TaskName: task.Name, TaskType: task.Type, FireAt: at, FireThrough: at, FireCount: 1, DecidedAt: at, StartedAt: at, EndedAt: at, State: core.RunEnded, Verdict: core.Succeeded, Attempt: 1}
	if err := w.WriteRuns(t.Context(), "joined", []core.Run{run}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(w.ask(t, "SELECT run_id, owner FROM runs JOIN tasks USING (task_id, task_version)")); got != fmt.Sprintf("[[%s li]]", run.ID) {
		t.Errorf("joined %s", got)
	}

	write("gone", core.TaskSnapshot{Task: next, Deleted: true})
	write("late", core.TaskSnapshot{Task: next}) // another server had read it before it was deleted
	known, err := w.KnownTasks(t.Context(), "", "", 10)
	if want := []core.KnownTask{{TaskID: task.ID, Version: 4, Deleted: true}, {TaskID: other.ID, Version: 1}}; err != nil || !slices.Equal(known, want) {
		t.Errorf("known %v, %v", known, err)
	}
	if known, err = w.KnownTasks(t.Context(), task.ID, other.ID, 10); err != nil || len(known) != 1 || known[0].TaskID != other.ID {
		t.Errorf("known behind the first %v, %v", known, err)
	}
	runs, err := w.Runs(t.Context(), core.RunFilter{TaskID: task.ID, Limit: 10})
	if err != nil || len(runs) != 1 || runs[0].ID != run.ID {
		t.Errorf("runs of the task %v, %v", runs, err)
	}
}

func TestTaskTypeSnapshots(t *testing.T) {
	t.Parallel()
	w := setup(t)
	at := now().Add(-time.Hour)
	offered := func(version string, after time.Duration) core.TypeSnapshot {
		return core.TypeSnapshot{
			Type:      core.TaskType{Name: "Common.KeepAlive", Provider: "plugin:common", Version: version, Title: core.Text{Zh: "保活", En: "Keep alive"}, ParamsSchema: json.RawMessage(`{}`), Needs: []string{"http"}, Timeout: time.Minute},
			ValidFrom: at.Add(after), SHA256: "abc" + version, Server: "s1",
		}
	}
	if err := w.WriteTaskTypes(t.Context(), "types", []core.TypeSnapshot{offered("1.0.0", 0), offered("1.1.0", 30*time.Minute)}); err != nil {
		t.Fatal(err)
	}
	known, err := w.KnownTypes(t.Context())
	if k := known["Common.KeepAlive"]; err != nil || len(known) != 1 || k.Type.Version != "1.1.0" || k.SHA256 != "abc1.1.0" || k.Type.Provider != "plugin:common" {
		t.Errorf("%+v, %v", known, err)
	}
	var runs []core.Run
	for i := range 2 {
		fire := at.Add(time.Duration(i)*30*time.Minute + time.Minute)
		runs = append(runs, core.Run{ID: newID(), TaskID: "t", Namespace: "Common", TaskName: "x", TaskType: "Common.KeepAlive", FireAt: fire, FireThrough: fire, FireCount: 1, DecidedAt: fire, EndedAt: fire, State: core.RunEnded, Verdict: core.Succeeded})
	}
	if err := w.WriteRuns(t.Context(), "types", runs); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(w.ask(t, "SELECT t.plugin, t.provider_version, t.needs FROM runs ASOF JOIN task_types AS t ON runs.task_type = t.task_type AND runs.decided_at >= t.valid_from ORDER BY runs.fire_at"))
	if got != "[[common 1.0.0 [http]] [common 1.1.0 [http]]]" {
		t.Errorf("got %s", got)
	}
}
