package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// definitionKinds are the lists of a file of definitions, with the schema of what each holds and what names one of them.
var definitionKinds = []struct {
	list, schema string
	names        []string
}{
	{"calendars", "CalendarInput", []string{"name"}},
	{"pools", "PoolInput", []string{"name"}},
	{"downstreams", "DownstreamInput", []string{"name"}},
	{"namespaces", "NamespaceInput", []string{"name"}},
	{"tasks", "TaskInput", []string{"namespace", "name"}},
}

// DefinitionSchema gives the JSON Schema 2020-12 of a file of definitions, as `gnomon apply` takes it: lists of what the REST API
// takes, each with its name. Editors complete and check by it while one writes. It needs no server.
func DefinitionSchema(permissions []string) ([]byte, error) {
	a, err := build(Options{Permissions: permissions}, nil)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(a.huma.OpenAPI().Components.Schemas)
	if err != nil {
		return nil, err
	}
	var all map[string]map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), `"#/components/schemas/`, `"#/$defs/`)), &all); err != nil {
		return nil, err
	}
	defs := map[string]any{}
	lists := all["CheckRequest"]["properties"].(map[string]any)
	for _, kind := range definitionKinds {
		one := all[kind.schema]
		fields := maps.Clone(one["properties"].(map[string]any))
		for _, name := range kind.names {
			fields[name] = map[string]any{"type": "string", "minLength": 1, "description": "The " + name + " of it"}
		}
		one["properties"] = fields
		required, _ := one["required"].([]any)
		for _, name := range slices.Backward(kind.names) {
			required = slices.Insert(required, 0, any(name))
		}
		one["required"] = required
		list := lists[kind.list].(map[string]any)
		list["items"] = map[string]any{"$ref": "#/$defs/" + kind.schema}
		keep(defs, all, kind.schema)
	}
	schema, err := json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Definitions of Gnomon", "type": "object",
		"description": "A file of the folder that gnomon apply takes", "properties": lists, "additionalProperties": false, "$defs": defs,
	}, "", "  ")
	return append(schema, '\n'), err
}

// keep takes a schema over, and those that it refers to.
func keep(defs map[string]any, all map[string]map[string]any, name string) {
	if _, kept := defs[name]; kept {
		return
	}
	defs[name] = all[name]
	var look func(any)
	look = func(value any) {
		switch v := value.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				keep(defs, all, strings.TrimPrefix(ref, "#/$defs/"))
			}
			for _, inner := range v {
				look(inner)
			}
		case []any:
			for _, inner := range v {
				look(inner)
			}
		}
	}
	look(all[name])
}
