package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

const (
	applyFirst = `# a comment
namespaces:
  - name: Common
    warnings: [old]
tasks:
  - namespace: Common
    name: last
    type: Common.Echo
    version: 7
    schedule:
      spec: "@daily"
      anchor: 2026-12-01T00:00:00Z
    after:
      - task: first
    policies: {overlap: sometimes}
`
	applySecond = `pools:
  - name: erp
    slots: 2
    used: 1
---
tasks:
- {namespace: Common, name: first, type: Common.Echo, schedule: {spec: "@hourly"}}
`
)

// applies makes a folder of two files, and a remote that has checked them so.
func applies(t *testing.T, answer api.CheckAnswer) (m *remote, folder string) {
	t.Helper()
	m, folder = newRemote(t), t.TempDir()
	for name, text := range map[string]string{"a.yaml": applyFirst, "b.yml": applySecond, "c.txt": "pools: [wrong"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.on("POST /v1/definitions/check", answer)
	for _, path := range []string{"pools/erp", "namespaces/Common", "namespaces/Common/tasks/first", "namespaces/Common/tasks/last"} {
		m.on("PUT /v1/"+path, map[string]any{})
	}
	return m, folder
}

func accepted() api.CheckAnswer {
	return api.CheckAnswer{OK: true, Items: []api.CheckedDefinition{
		{Kind: "pool", Index: 0, Action: "change", Fields: []string{"slots", "description"}}, {Kind: "namespace", Index: 0, Action: "keep"},
		{Kind: "task", Index: 1, Action: "create"}, {Kind: "task", Index: 0, Action: "create", Warnings: []api.Text{{Zh: "留意", En: "beware"}}},
	}}
}

func (m *remote) puts() (list []string) {
	for _, key := range m.asked {
		if strings.HasPrefix(key, "PUT ") {
			list = append(list, key)
		}
	}
	return list
}

// TestApplyPutsWhatIsNotThereInTheOrderOfTheCheck: and says what has become of each thing.
func TestApplyPutsWhatIsNotThereInTheOrderOfTheCheck(t *testing.T) {
	m, folder := applies(t, accepted())
	out, errOut, code := gnomon(t, m, "", "apply", folder, "--dry-run")
	if code != exitOK || len(m.puts()) != 0 || errOut != "note: task Common/last: beware\n" {
		t.Errorf("the dry run: %d %s %v", code, errOut, m.puts())
	}
	golden(t, "apply-dry-run", out)
	out, errOut, code = gnomon(t, m, "", "apply", folder)
	if code != exitOK || errOut != "note: task Common/last: beware\n" {
		t.Errorf("%d %s", code, errOut)
	}
	golden(t, "apply", out)
	want := []string{"PUT /v1/pools/erp", "PUT /v1/namespaces/Common/tasks/first", "PUT /v1/namespaces/Common/tasks/last"}
	if !slices.Equal(m.puts(), want) {
		t.Errorf("put %v instead of %v", m.puts(), want)
	}
	for key, want := range map[string]string{
		"POST /v1/definitions/check": `{"namespaces":[{"name":"Common"}],"pools":[{"name":"erp","slots":2}],"tasks":[` +
			`{"after":[{"task":"first"}],"name":"last","namespace":"Common","policies":{"overlap":"sometimes"},"schedule":{"spec":"@daily"},"type":"Common.Echo"},` +
			`{"name":"first","namespace":"Common","schedule":{"spec":"@hourly"},"type":"Common.Echo"}]}`,
		"PUT /v1/pools/erp":                     `{"slots":2}`,
		"PUT /v1/namespaces/Common/tasks/first": `{"schedule":{"spec":"@hourly"},"type":"Common.Echo"}`,
		"PUT /v1/namespaces/Common/tasks/last":  `{"after":[{"task":"first"}],"policies":{"overlap":"sometimes"},"schedule":{"spec":"@daily"},"type":"Common.Echo"}`,
	} {
		if m.bodies[key] != want {
			t.Errorf("%s was sent\n%s\ninstead of\n%s", key, m.bodies[key], want)
		}
	}
	many := accepted()
	for i := range many.Items {
		many.Items[i].Warnings = []api.Text{{Zh: "留意", En: "beware"}}
	}
	m.on("POST /v1/definitions/check", many)
	for lang, note := range map[string]string{
		"en": "note: pool erp, namespace Common, task Common/first and 1 more: beware\n", "zh": "注意：pool erp, namespace Common, task Common/first 等 4 个: 留意\n",
	} {
		if _, errOut, _ = gnomon(t, m, "", "apply", folder, "--dry-run", "--lang", lang); errOut != note {
			t.Errorf("%q instead of %q", errOut, note)
		}
	}
	out, _, code = gnomon(t, m, "", "apply", folder, "--dry-run", "-o", "json")
	var items []appliedItem
	if err := json.Unmarshal([]byte(out), &items); err != nil || code != exitOK || len(items) != 4 || items[2].Name != "Common/first" || filepath.Base(items[2].File) != "b.yml" {
		t.Errorf("%d %v %+v", code, err, items)
	}
}

// TestApplySaysAllThatIsWrongWithItsPlaceAndChangesNothing: file, line, what it is and the field.
func TestApplySaysAllThatIsWrongWithItsPlaceAndChangesNothing(t *testing.T) {
	said := func(location, en string) api.ProblemError {
		return api.ProblemError{Location: location, MessageZh: "错", MessageEn: en}
	}
	m, folder := applies(t, api.CheckAnswer{Items: []api.CheckedDefinition{
		{Kind: "pool", Index: 0, Errors: []api.ProblemError{said("slots", "too few"), said("", "not yours")}}, {Kind: "namespace", Index: 0, Action: "keep"},
		{Kind: "task", Index: 0, Errors: []api.ProblemError{said("policies.overlap", "no such policy"), said("after[0].task", "no such task"), said("params.urls[3].x", "missing")}},
		{Kind: "task", Index: 1, Errors: []api.ProblemError{said("schedule.spec", "never fires")}},
	}})
	out, errOut, code := gnomon(t, m, "", "apply", folder)
	want := []string{
		"a.yaml:6: task Common/last: params.urls[3].x: missing", "a.yaml:14: task Common/last: after[0].task: no such task",
		"a.yaml:15: task Common/last: policies.overlap: no such policy", "b.yml:2: pool erp: not yours", "b.yml:3: pool erp: slots: too few",
		"b.yml:7: task Common/first: schedule.spec: never fires",
	}
	var wanted strings.Builder
	for _, line := range want {
		wanted.WriteString("gnomon: apply: " + filepath.Join(folder, line) + "\n")
	}
	wanted.WriteString("gnomon: apply: 6 things are wrong; nothing was changed\n")
	if code != exitRefused || out != "" || errOut != wanted.String() || len(m.puts()) != 0 {
		t.Errorf("%d %s %v\n%s\ninstead of\n%s", code, out, m.puts(), errOut, &wanted)
	}
	if _, errOut, _ = gnomon(t, m, "", "apply", folder, "--lang", "zh"); !strings.Contains(errOut, "共 6 处错误；什么都没有改") || !strings.Contains(errOut, "schedule.spec: 错") {
		t.Error(errOut)
	}
	for name, text := range map[string]string{"d.yaml": "tasks: {", "e.yaml": "task:\n- name: x\n", "f.yaml": "# nothing\n---\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, errOut, code = gnomon(t, m, "", "apply", folder)
	if code != exitRefused || strings.Count(errOut, "\n") != 2 || !strings.Contains(errOut, "d.yaml: [1:") || !strings.Contains(errOut, `e.yaml: [1:1] unknown field "task"`) {
		t.Errorf("%d %s", code, errOut)
	}
	if _, errOut, _ = gnomon(t, m, "", "apply", folder, "--lang", "zh"); !strings.Contains(errOut, `e.yaml: [1:1] 没有字段 "task"；请检查拼写`) || !strings.Contains(errOut, "d.yaml: [1:8] 缺少 } 或逗号") {
		t.Error(errOut)
	}
}

// TestApplyThatBreaksOffSaysWhatItHasDone: something may become wrong between the check and its turn.
func TestApplyThatBreaksOffSaysWhatItHasDone(t *testing.T) {
	m, folder := applies(t, accepted())
	m.answers["PUT /v1/namespaces/Common/tasks/first"] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 422, "invalid", "", api.ProblemError{Location: "body.type", MessageEn: "is gone"})
	}
	out, errOut, code := gnomon(t, m, "", "apply", folder)
	if code != exitRefused || !strings.Contains(errOut, "gnomon: apply: "+filepath.Join(folder, "b.yml")+":7: task Common/first: type: is gone\n") || len(m.puts()) != 2 {
		t.Errorf("%d %s %v", code, errOut, m.puts())
	}
	golden(t, "apply-broken-off", out)
}
