package luavm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

// text is what a person reads, in both languages.
type text struct{ zh, en string }

// definition is what a script's task table says.
type definition struct {
	title, description text
	params             json.RawMessage // JSON Schema 2020-12
	output             json.RawMessage // likewise; may be empty
	schema             *sdk.Schema     // of params, compiled
	needs              []string
	timeout            time.Duration
}

// Keys a script may write, so that a spelling mistake is found when the script is described.
var (
	taskKeys  = []string{"title", "description", "params", "needs", "timeout", "output", "run"}
	paramKeys = []string{
		"type", "default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
		"maxLength", "pattern", "format", "enum", "items", "properties", "minItems", "maxItems", "uniqueItems",
		"required", "title", "description", "examples",
	}
	paramTypes = []string{"string", "integer", "number", "boolean", "array", "object"}
)

func readDefinition(t *lua.LTable) (*definition, error) {
	d := &definition{}
	var err error
	if err = onlyKeys(t, "task", taskKeys); err != nil {
		return nil, err
	}
	if d.title, err = readText(t.RawGetString("title"), "title", true); err != nil {
		return nil, err
	}
	if d.title.zh == "" || d.title.en == "" {
		return nil, fmt.Errorf(`title is missing or has one language only; write title = { zh = "…", en = "…" }`)
	}
	if d.description, err = readText(t.RawGetString("description"), "description", false); err != nil {
		return nil, err
	}
	if _, ok := t.RawGetString("run").(*lua.LFunction); !ok {
		return nil, fmt.Errorf("run is missing; write run = function(ctx) … end")
	}
	if v := t.RawGetString("timeout"); v != lua.LNil {
		if d.timeout, err = parseSpan(lua.LVAsString(v)); err != nil || d.timeout <= 0 {
			return nil, fmt.Errorf(`timeout is %s; write a span such as "30s" or "5m"`, v)
		}
	}
	switch needs := t.RawGetString("needs").(type) {
	case *lua.LNilType:
	case *lua.LTable:
		for i := 1; i <= needs.Len(); i++ {
			need, ok := needs.RawGetInt(i).(lua.LString)
			if !ok || need == "" {
				return nil, fmt.Errorf(`needs[%d] is no text; write needs = { "sql:business", "http" }`, i)
			}
			d.needs = append(d.needs, string(need))
		}
	default:
		return nil, fmt.Errorf(`needs is %s; write needs = { "sql:business", "http" }`, typeName(needs))
	}
	var params *lua.LTable
	switch p := t.RawGetString("params").(type) {
	case *lua.LNilType:
		params = newTable(0, 0)
	case *lua.LTable:
		params = p
	default:
		return nil, fmt.Errorf("params is %s; write params = { name = { type = … }, … }", typeName(p))
	}
	var schema bytes.Buffer
	schema.WriteString(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"`)
	if err = writeProperties(&schema, params, "params", 0); err != nil {
		return nil, err
	}
	schema.WriteString(`}`)
	d.params = schema.Bytes()
	if d.schema, err = sdk.CompileSchema(d.params); err != nil {
		return nil, fmt.Errorf("params: %w", err)
	}
	if v := t.RawGetString("output"); v != lua.LNil {
		out, ok := v.(*lua.LTable)
		if !ok {
			return nil, fmt.Errorf("output is %s; write output = { name = { type = … }, … }", typeName(v))
		}
		var schema bytes.Buffer
		schema.WriteString(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"`)
		if err = writeProperties(&schema, out, "output", 0); err != nil {
			return nil, err
		}
		schema.WriteString(`}`)
		d.output = schema.Bytes()
	}
	return d, nil
}

func onlyKeys(t *lua.LTable, where string, known []string) error {
	for k, _ := t.Next(lua.LNil); k != lua.LNil; k, _ = t.Next(k) {
		if name, ok := k.(lua.LString); !ok || !slices.Contains(known, string(name)) {
			return fmt.Errorf("%s has the unknown key %q; known are %v", where, k.String(), known)
		}
	}
	return nil
}

// readText reads {zh=, en=}, or a string that stands for both.
func readText(v lua.LValue, where string, bothNeeded bool) (text, error) {
	switch v := v.(type) {
	case *lua.LNilType:
		return text{}, nil
	case lua.LString:
		if bothNeeded {
			return text{}, fmt.Errorf(`%s needs both languages; write %s = { zh = "…", en = "…" }`, where, where)
		}
		return text{string(v), string(v)}, nil
	case *lua.LTable:
		if err := onlyKeys(v, where, []string{"zh", "en"}); err != nil {
			return text{}, err
		}
		return text{lua.LVAsString(v.RawGetString("zh")), lua.LVAsString(v.RawGetString("en"))}, nil
	}
	return text{}, fmt.Errorf(`%s is %s; write { zh = "…", en = "…" }`, where, typeName(v))
}

// writeProperties writes the members "properties", "required" and "additionalProperties" of an object schema.
func writeProperties(out *bytes.Buffer, params *lua.LTable, where string, depth int) error {
	if depth > 10 {
		return fmt.Errorf("%s is more than 10 levels deep", where)
	}
	var names, required []string
	for k, v := params.Next(lua.LNil); k != lua.LNil; k, v = params.Next(k) {
		name, ok := k.(lua.LString)
		param, isTable := v.(*lua.LTable)
		if !ok || !isTable {
			return fmt.Errorf(`%s.%s: write name = { type = "integer", default = 100, … }`, where, k.String())
		}
		names = append(names, string(name))
		if must, ok := param.RawGetString("required").(lua.LBool); ok && bool(must) {
			required = append(required, string(name))
		}
	}
	slices.Sort(names)
	slices.Sort(required)
	out.WriteString(`,"properties":{`)
	for i, name := range names {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(appendJSONString(nil, name))
		out.WriteByte(':')
		if err := writeParam(out, params.RawGetString(name).(*lua.LTable), where+"."+name, depth); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	if len(required) > 0 {
		list, _ := json.Marshal(required) // strings always have a JSON form
		out.WriteString(`,"required":`)
		out.Write(list)
	}
	out.WriteString(`,"additionalProperties":false`)
	return nil
}

func writeParam(out *bytes.Buffer, p *lua.LTable, where string, depth int) error {
	if err := onlyKeys(p, where, paramKeys); err != nil {
		return err
	}
	kind := lua.LVAsString(p.RawGetString("type"))
	if !slices.Contains(paramTypes, kind) {
		return fmt.Errorf("%s: type is %q; it must be one of %v", where, kind, paramTypes)
	}
	fmt.Fprintf(out, `{"type":%q`, kind)
	for _, key := range []string{"title", "description"} {
		said, err := readText(p.RawGetString(key), where+"."+key, false)
		if err != nil {
			return err
		}
		if said == (text{}) {
			continue
		}
		if said.en == "" {
			said.en = said.zh
		}
		fmt.Fprintf(out, `,%q:%s`, key, appendJSONString(nil, said.en))
		if said.zh != "" && said.zh != said.en {
			fmt.Fprintf(out, `,"x-%s-zh":%s`, key, appendJSONString(nil, said.zh))
		}
	}
	for _, key := range paramKeys {
		v := p.RawGetString(key)
		if v == lua.LNil {
			continue
		}
		switch key {
		case "type", "title", "description", "required":
		case "items":
			item, ok := v.(*lua.LTable)
			if !ok || kind != "array" {
				return fmt.Errorf(`%s: items belongs to an array: items = { type = "string" }`, where)
			}
			out.WriteString(`,"items":`)
			if err := writeParam(out, item, where+".items", depth+1); err != nil {
				return err
			}
		case "properties":
			properties, ok := v.(*lua.LTable)
			if !ok || kind != "object" {
				return fmt.Errorf(`%s: properties belongs to an object: properties = { name = { type = … } }`, where)
			}
			if err := writeProperties(out, properties, where, depth+1); err != nil {
				return err
			}
		default:
			encoded, err := toJSON(v, nil)
			if err != nil {
				return fmt.Errorf("%s.%s: %w", where, key, err)
			}
			if t, ok := v.(*lua.LTable); ok && t.Len() == 0 && (key == "enum" || key == "examples" || key == "default" && kind == "array") {
				encoded = []byte("[]")
			}
			if key == "default" {
				if !fits(kind, encoded) {
					return fmt.Errorf("%s: the default %s is not of type %s", where, encoded, kind)
				}
			}
			fmt.Fprintf(out, `,%q:%s`, key, encoded)
		}
	}
	out.WriteByte('}')
	return nil
}

func fits(kind string, encoded []byte) bool {
	switch encoded[0] {
	case '"':
		return kind == "string"
	case '[':
		return kind == "array"
	case '{':
		return kind == "object"
	case 't', 'f':
		return kind == "boolean"
	case 'n':
		return false
	}
	return kind == "number" || kind == "integer" && !bytes.ContainsAny(encoded, ".eE")
}
