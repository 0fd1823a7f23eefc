package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/gnomon-scheduler/gnomon/openapi"
	"github.com/gnomon-scheduler/gnomon/sdk"
)

// TestDefinitionFilesAreWhatTheirSchemaSays: an editor underlines nothing in the files that come with Gnomon or that its guide shows,
// and what is wrong where it is.
func TestDefinitionFilesAreWhatTheirSchemaSays(t *testing.T) {
	t.Parallel()
	schema, err := sdk.CompileSchema(openapi.DefinitionSchema)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../../deploy/demo/tasks/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("files %q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if found := held(t, schema, string(text)); len(found) > 0 {
			t.Errorf("%s: %q", file, found)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		_, named, ok := strings.Cut(first, "$schema=")
		if _, err := os.Stat(filepath.Join(filepath.Dir(file), named)); !ok || err != nil {
			t.Errorf("%s does not name the schema: %v", file, err)
		}
	}
	guide, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(guide), "    - namespace: Manufacturing\n")
	example, _, _ = strings.Cut(example, "\n## ")
	if found := held(t, schema, "tasks:\n    - namespace: Manufacturing\n"+example); len(found) > 0 {
		t.Errorf("the guide's example: %q", found)
	}
	const task = "tasks:\n- namespace: Common\n  name: a\n  type: Common.Echo\n"
	for text, want := range map[string]string{
		"task: []":                                   "",
		"tasks:\n- {name: a, type: b}":               "tasks[0]",
		task + "  schedule: {}":                      "tasks[0].schedule",
		task + "  schedule: {spec: 7}":               "tasks[0].schedule.spec",
		task + "  schedul: {spec: '@daily'}":         "tasks[0]",
		task + "  policies: {catch_up: some}":        "tasks[0].policies.catch_up",
		task + "  policies: {priority: 101}":         "tasks[0].policies.priority",
		task + "  policies: {overlapp: skip}":        "tasks[0].policies",
		task + "  policies: {sla: {finish_by: 6am}}": "tasks[0].policies.sla.finish_by",
		"pools: [{name: erp, slots: many}]":          "pools[0].slots",
		"calendars: [{name: c, weekdays: monday}]":   "calendars[0].weekdays",
		"namespaces: [{name: n, defaults: {a: 1}}]":  "namespaces[0].defaults",
	} {
		if found := held(t, schema, text); !slices.ContainsFunc(found, func(f sdk.Finding) bool { return strings.HasPrefix(f.Path, want) }) {
			t.Errorf("%q: %q; want one at %q", text, found, want)
		}
	}
}

// held gives what a schema finds wrong in a YAML file.
func held(t *testing.T, schema *sdk.Schema, text string) []sdk.Finding {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	_, found := schema.Apply(document)
	return found
}
