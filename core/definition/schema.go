package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// schemas compiles the JSON Schemas of task types, each once per version.
type schemas struct {
	mu       sync.Mutex
	compiled map[string]versioned // by task type
}

type versioned struct {
	source string
	schema *jsonschema.Schema
}

// refuse is a loader that loads nothing: a schema from a plugin must not make the server read files or the network.
type refuse struct{}

func (refuse) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema may not refer to %s: put the definition into the schema itself, under $defs", url)
}

func (s *schemas) get(t core.TaskType) (*jsonschema.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, ok := s.compiled[t.Name]; ok && held.source == string(t.ParamsSchema) {
		return held.schema, nil
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(t.ParamsSchema))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(refuse{})
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("params.json", document); err != nil {
		return nil, err
	}
	schema, err := compiler.Compile("params.json")
	if err != nil {
		return nil, err
	}
	if s.compiled == nil {
		s.compiled = make(map[string]versioned)
	}
	s.compiled[t.Name] = versioned{source: string(t.ParamsSchema), schema: schema}
	return schema, nil
}

// check gives a finding for each way in which params break the type's schema.
func (s *schemas) check(t core.TaskType, params json.RawMessage) ([]core.Finding, error) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(params))
	if err != nil {
		return []core.Finding{finding("params", "不是合法的 JSON："+err.Error(), "not valid JSON: "+err.Error())}, nil
	}
	if _, ok := value.(map[string]any); !ok {
		return []core.Finding{finding("params", "参数必须是 JSON 对象", "parameters must be a JSON object")}, nil
	}
	if hugeNumber(value) {
		return []core.Finding{finding("params", "参数中有超出范围的数值", "the parameters hold a number that is out of range")}, nil
	}
	schema, err := s.get(t)
	if err != nil {
		return []core.Finding{finding("type", fmt.Sprintf("任务类型 %s 的参数定义无法使用，请联系其提供者：%v", t.Name, err),
			fmt.Sprintf("the parameter schema of task type %s cannot be used; ask its provider: %v", t.Name, err))}, nil
	}
	err = schema.Validate(value)
	if err == nil {
		return nil, nil
	}
	broken, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return nil, core.Errorf(core.KindInternal, "validate parameters of "+t.Name, "%w", err)
	}
	return leaves(broken, t.Name, nil), nil
}

// hugeNumber finds a number like 1e999999999: the validator calculates exactly and would need gigabytes for it.
func hugeNumber(value any) bool {
	switch v := value.(type) {
	case json.Number:
		mantissa, exponent, has := strings.Cut(strings.ToLower(v.String()), "e")
		e, err := strconv.Atoi(strings.TrimPrefix(exponent, "+"))
		return len(mantissa) > 400 || has && (err != nil || e > 400 || e < -400)
	case map[string]any:
		for _, inner := range v {
			if hugeNumber(inner) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hugeNumber)
	}
	return false
}

var english = message.NewPrinter(language.English)

// leaves gives the innermost causes: they name the field, the outer ones only say that something inside is wrong.
func leaves(e *jsonschema.ValidationError, typeName string, found []core.Finding) []core.Finding {
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			found = leaves(cause, typeName, found)
		}
		return found
	}
	path := "params"
	for _, part := range e.InstanceLocation {
		if _, err := strconv.Atoi(part); err == nil {
			path += "[" + part + "]"
			continue
		}
		path += "." + part
	}
	if unknown, ok := e.ErrorKind.(*kind.AdditionalProperties); ok { // a misspelt name is the place to look at
		for _, name := range slices.Sorted(slices.Values(unknown.Properties)) {
			found = append(found, finding(path+"."+name, "没有这个参数；用 gnomon type get "+typeName+" 查看参数说明",
				"there is no such parameter; gnomon type get "+typeName+" shows the parameters"))
		}
		return found
	}
	return append(found, finding(path,
		inChinese(e.ErrorKind)+"；用 gnomon type get "+typeName+" 查看参数说明",
		strings.TrimSpace(e.ErrorKind.LocalizedString(english))+"; gnomon type get "+typeName+" shows the parameters"))
}
