//go:build linux

package main_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// TestWhatPreconditionsName: once through on a real server. A folder in which the one that asks stands before the one it asks
// about is applied; parameters have their defaults; what is asked about is not deleted; what is not there is told by doctor.
func TestWhatPreconditionsName(t *testing.T) {
	w := newWorld(t)
	w.start()
	folder := filepath.Join(w.dir, "folder")
	write(t, filepath.Join(folder, "a.yaml"), `
namespaces: [{ name: Bench }]
tasks:
  - { namespace: Bench, name: asks, type: Bench.NoOp, schedule: { spec: "@manual" }, policies: { preconditions: [{ expression: 'task("asked").live == 0 && !day(now, "audit")' }] } }
  - { namespace: Bench, name: flow, type: Common.Workflow, schedule: { spec: "@manual" }, params: { steps: [{ name: one, task: asked, params: { lines: 1 } }] } }
`)
	write(t, filepath.Join(folder, "b.yaml"), `
calendars: [{ name: audit, dates: [{ from: "2020-01-01" }] }]
tasks:
  - { namespace: Bench, name: asked, type: Bench.NoOp, schedule: { spec: "@manual" } }
`)
	if out := w.says("apply", folder); !strings.Contains(out, "created 5") {
		t.Errorf("applied: %s", out)
	}

	task, path := w.works("defaults", "@every 1s", nil, api.Policies{Preconditions: []api.Precondition{{Expression: `params.millis == 0 && params.fails == "failed"`}}}, nil)
	w.until(30*time.Second, "a run starts whose precondition asks for the defaults of its parameters", func() bool { return len(begun(w.evidenceOf(path))) > 0 })
	w.must("POST", "/v1/tasks/"+task.ID+"/disable", nil, nil)

	for _, line := range [][]string{{"task", "delete", "Bench/asked"}, {"calendar", "delete", "audit"}} {
		if _, errOut, code := w.line(line...); code == 0 || !strings.Contains(errOut, "asks") {
			t.Errorf("%q: %d %s", line, code, errOut)
		}
	}

	w.must("PUT", "/v1/namespaces/Bench", map[string]any{"defaults": map[string]any{"preconditions": []any{map[string]any{"expression": `task("later").live == 0`}}}}, nil)
	asked := w.named("asked")
	if len(asked.Warnings) != 1 || asked.Warnings[0].En != "defaults.preconditions[0].expression: line 1, column 6: there is no task later; tasks of namespace Bench: asked, asks, defaults, flow" {
		t.Errorf("warnings %+v", asked.Warnings)
	}
	if out, _, _ := w.line("doctor"); !strings.Contains(out, "Bench/asked") {
		t.Errorf("doctor says nothing of it: %s", out)
	}
}
