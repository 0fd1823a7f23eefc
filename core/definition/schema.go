package definition

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/sdk"
)

// schemas compiles the JSON Schemas of task types, each once per version. What it says of parameters is the SDK's own
// words, so that a task is refused for the same reason, in the same place, here and in the plugin.
type schemas struct {
	mu       sync.Mutex
	compiled map[string]versioned // by task type
}

type versioned struct {
	source string
	schema *sdk.Schema
}

func (s *schemas) get(t core.TaskType) (*sdk.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, ok := s.compiled[t.Name]; ok && held.source == string(t.ParamsSchema) {
		return held.schema, nil
	}
	schema, err := sdk.CompileSchema(t.ParamsSchema)
	if err != nil {
		return nil, err
	}
	if s.compiled == nil {
		s.compiled = make(map[string]versioned)
	}
	s.compiled[t.Name] = versioned{source: string(t.ParamsSchema), schema: schema}
	return schema, nil
}

// parameters gives the names of the parameters that a type takes; closed is false if its schema allows others too, or is not known.
func parameters(t core.TaskType) (names []string, closed bool) {
	var schema struct {
		Properties           map[string]json.RawMessage `json:"properties"`
		PatternProperties    map[string]json.RawMessage `json:"patternProperties"`
		AdditionalProperties any                        `json:"additionalProperties"`
	}
	if json.Unmarshal(t.ParamsSchema, &schema) != nil || schema.AdditionalProperties != false || len(schema.PatternProperties) > 0 {
		return nil, false
	}
	return slices.Sorted(maps.Keys(schema.Properties)), true
}

// conditional says whether a type's schema may demand other things of one parameter for what another is. A parameter that is
// named like one of the keywords makes it say so too often, and no harm is done.
func conditional(t core.TaskType) bool {
	return bytes.Contains(t.ParamsSchema, []byte(`"if"`)) || bytes.Contains(t.ParamsSchema, []byte(`"dependentSchemas"`))
}

// Complete gives the parameters of a run as its task gets them: with the defaults of the type's schema. It gives them as they
// are where nobody offers the type, or they break the schema: the attempt says so.
func (d *Definitions) Complete(taskType string, params json.RawMessage) json.RawMessage {
	offered, ok := d.opts.Catalog.Type(taskType)
	if !ok {
		return params
	}
	schema, err := d.schemas.get(offered)
	if err != nil {
		return params
	}
	full, wrong := schema.Apply(params)
	if len(wrong) > 0 {
		return params
	}
	return full
}

// check gives a finding for each way in which params break the type's schema. A schema that cannot be used is a
// finding too: the task cannot be saved until the type's author mends it.
func (s *schemas) check(t core.TaskType, params json.RawMessage) []core.Finding {
	schema, err := s.get(t)
	if err != nil {
		return []core.Finding{finding("type", "任务类型 "+t.Name+" 的参数说明有误，请联系其作者："+err.Error(),
			"the parameter schema of task type "+t.Name+" cannot be used; tell its author: "+err.Error())}
	}
	_, wrong := schema.Apply(params)
	found := make([]core.Finding, len(wrong))
	for i, f := range wrong {
		hint := core.Text{Zh: "；用 gnomon type get " + t.Name + " 查看参数说明", En: "; gnomon type get " + t.Name + " shows the parameters"}
		found[i] = finding(join("params", f.Path), f.Message.Zh+hint.Zh, f.Message.En+hint.En)
	}
	return found
}
