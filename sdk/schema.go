package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// noParams is the schema of a type without parameters.
var noParams = json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","additionalProperties":false}`)

// Schema is a compiled JSON Schema 2020-12. It is safe for concurrent use.
type Schema struct {
	compiled *jsonschema.Schema
	doc      map[string]any // nil for the schemas true and false
	object   bool           // "type": "object"

	mu    sync.RWMutex
	known map[string]json.RawMessage // parameters found valid, with their defaults; tasks repeat theirs run after run
}

// Bounds of Schema.known.
const (
	maxKnown      = 256
	maxKnownBytes = 16 << 10
)

// CompileSchema compiles a JSON Schema 2020-12. It loads nothing: a $ref that leaves the document is an error. Formats
// are asserted.
func CompileSchema(source json.RawMessage) (*Schema, error) {
	const here = "gnomon://schema/params.json" // with a path, so that a relative $ref leads away from it and is refused
	doc, err := decodeAny(source)
	if err != nil {
		return nil, fmt.Errorf("the schema is not JSON: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	compiler.AssertFormat()
	if err := compiler.AddResource(here, doc); err != nil {
		return nil, fmt.Errorf("the schema cannot be used: %w", err)
	}
	compiled, err := compiler.Compile(here)
	if err != nil {
		return nil, fmt.Errorf("the schema does not compile: %w", err)
	}
	s := &Schema{compiled: compiled, known: map[string]json.RawMessage{}}
	s.doc, _ = doc.(map[string]any)
	s.object = s.doc["type"] == "object"
	return s, nil
}

type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema may not refer to %s: put the definition into the schema itself, under $defs", url)
}

// Apply fills in the defaults of properties that are missing (also within objects and arrays) and says what is wrong
// then. Empty parameters are taken as {}. With findings, the parameters returned mean nothing. The caller must not
// change the bytes returned.
func (s *Schema) Apply(params json.RawMessage) (json.RawMessage, []Finding) {
	if len(params) == 0 {
		params = json.RawMessage(`{}`)
	}
	s.mu.RLock()
	full, ok := s.known[string(params)]
	s.mu.RUnlock()
	if ok {
		return full, nil
	}
	value, err := decodeAny(params)
	if err != nil {
		return nil, []Finding{{Message: Text{Zh: "参数不是有效的 JSON：" + err.Error(), En: "the parameters are not JSON: " + err.Error()}}}
	}
	if f := hugeNumbers(value, ""); len(f) > 0 {
		return nil, f
	}
	if s.doc != nil {
		value = fillDefaults(s.doc, value)
	}
	if err := s.compiled.Validate(value); err != nil {
		wrong, ok := errors.AsType[*jsonschema.ValidationError](err)
		if !ok {
			return nil, []Finding{{Message: Text{Zh: "参数有误：" + err.Error(), En: err.Error()}}}
		}
		return nil, s.findings(wrong, value)
	}
	full, err = json.Marshal(value)
	if err != nil {
		return nil, []Finding{{Message: Text{Zh: "参数有误：" + err.Error(), En: err.Error()}}}
	}
	if len(params) <= maxKnownBytes {
		s.mu.Lock()
		if len(s.known) >= maxKnown {
			clear(s.known)
		}
		s.known[string(params)] = full
		s.mu.Unlock()
	}
	return full, nil
}

// decodeAny decodes one JSON value; numbers keep their digits.
func decodeAny(source []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(source))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if decoder.More() {
		return nil, errors.New("more than one value")
	}
	return value, nil
}

// hugeNumbers refuses numbers like 1e999999999: the validator calculates exactly and would need gigabytes for it.
func hugeNumbers(value any, path string) (found []Finding) {
	switch v := value.(type) {
	case json.Number:
		text := strings.ToLower(v.String())
		mantissa, exponent, _ := strings.Cut(text, "e")
		e, err := strconv.Atoi(strings.TrimPrefix(exponent, "+"))
		if len(mantissa) > 400 || exponent != "" && (err != nil || e > 400 || e < -400) {
			return []Finding{{Path: path, Message: Text{Zh: "数值超出可用范围", En: "the number is out of range"}}}
		}
	case map[string]any:
		for key, inner := range v {
			found = append(found, hugeNumbers(inner, join(path, key))...)
		}
	case []any:
		for i, inner := range v {
			found = append(found, hugeNumbers(inner, fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return found
}

// fillDefaults gives value with the defaults of missing properties. It follows properties and items, not references.
func fillDefaults(schema map[string]any, value any) any {
	switch v := value.(type) {
	case map[string]any:
		properties, _ := schema["properties"].(map[string]any)
		for name, p := range properties {
			property, ok := p.(map[string]any)
			if !ok {
				continue
			}
			if _, there := v[name]; !there {
				standard, ok := property["default"]
				if !ok {
					continue
				}
				v[name] = copyOf(standard)
			}
			v[name] = fillDefaults(property, v[name])
		}
		if more, ok := schema["additionalProperties"].(map[string]any); ok {
			for name, inner := range v {
				if _, named := properties[name]; !named {
					v[name] = fillDefaults(more, inner)
				}
			}
		}
	case []any:
		if items, ok := schema["items"].(map[string]any); ok {
			for i, inner := range v {
				v[i] = fillDefaults(items, inner)
			}
		}
	}
	return value
}

func copyOf(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			out[key] = copyOf(inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = copyOf(inner)
		}
		return out
	}
	return value
}

// maxFindings is how many findings are worth reading.
const maxFindings = 50

func (s *Schema) findings(wrong *jsonschema.ValidationError, value any) []Finding {
	var found []Finding
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		switch e.ErrorKind.(type) {
		case *kind.AnyOf, *kind.OneOf, *kind.Not, *kind.Contains, *kind.PropertyNames:
			// The causes of an alternative are what each branch missed: noise to the reader.
		default:
			if len(e.Causes) > 0 {
				for _, cause := range e.Causes {
					walk(cause)
				}
				return
			}
		}
		found = append(found, s.say(e, value)...)
	}
	walk(wrong)
	slices.SortStableFunc(found, func(a, b Finding) int { return strings.Compare(a.Path, b.Path) })
	return found[:min(len(found), maxFindings)]
}

// say puts one error of the validator in words.
func (s *Schema) say(e *jsonschema.ValidationError, value any) []Finding {
	path, schema := s.locate(e.InstanceLocation, value)
	one := func(zh, en string) []Finding { return []Finding{{Path: path, Message: Text{Zh: zh, En: en}}} }
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		var out []Finding
		for _, name := range k.Missing {
			out = append(out, Finding{Path: join(path, name), Message: Text{Zh: "缺少必填参数", En: "is required"}})
		}
		return out
	case *kind.AdditionalProperties:
		known := knownKeys(schema)
		var out []Finding
		for _, name := range k.Properties {
			m := Text{Zh: "未知参数", En: "unknown parameter"}
			if known != "" {
				m = Text{Zh: "未知参数；可用的有：" + known, En: "unknown parameter; known are: " + known}
			}
			out = append(out, Finding{Path: join(path, name), Message: m})
		}
		return out
	case *kind.Type:
		want := strings.Join(k.Want, " or ")
		return one(fmt.Sprintf("类型应为 %s，实际是 %s", strings.Join(k.Want, " 或 "), k.Got), fmt.Sprintf("must be %s, is %s", want, k.Got))
	case *kind.Enum:
		want := list(k.Want)
		return one("必须是以下之一："+want, "must be one of: "+want)
	case *kind.Const:
		return one("必须是 "+show(k.Want), "must be "+show(k.Want))
	case *kind.Minimum:
		return one("不能小于 "+number(k.Want), "must be at least "+number(k.Want))
	case *kind.Maximum:
		return one("不能大于 "+number(k.Want), "must be at most "+number(k.Want))
	case *kind.ExclusiveMinimum:
		return one("必须大于 "+number(k.Want), "must be greater than "+number(k.Want))
	case *kind.ExclusiveMaximum:
		return one("必须小于 "+number(k.Want), "must be less than "+number(k.Want))
	case *kind.MultipleOf:
		return one("必须是 "+number(k.Want)+" 的倍数", "must be a multiple of "+number(k.Want))
	case *kind.MinLength:
		return one(fmt.Sprintf("至少 %d 个字符，实际 %d 个", k.Want, k.Got), fmt.Sprintf("must have at least %d characters, has %d", k.Want, k.Got))
	case *kind.MaxLength:
		return one(fmt.Sprintf("最多 %d 个字符，实际 %d 个", k.Want, k.Got), fmt.Sprintf("must have at most %d characters, has %d", k.Want, k.Got))
	case *kind.MinItems:
		return one(fmt.Sprintf("至少 %d 项，实际 %d 项", k.Want, k.Got), fmt.Sprintf("must have at least %d items, has %d", k.Want, k.Got))
	case *kind.MaxItems:
		return one(fmt.Sprintf("最多 %d 项，实际 %d 项", k.Want, k.Got), fmt.Sprintf("must have at most %d items, has %d", k.Want, k.Got))
	case *kind.MinProperties:
		return one(fmt.Sprintf("至少 %d 个键", k.Want), fmt.Sprintf("must have at least %d keys", k.Want))
	case *kind.MaxProperties:
		return one(fmt.Sprintf("最多 %d 个键", k.Want), fmt.Sprintf("must have at most %d keys", k.Want))
	case *kind.UniqueItems:
		return one(fmt.Sprintf("第 %d 项与第 %d 项重复", k.Duplicates[0]+1, k.Duplicates[1]+1),
			fmt.Sprintf("items %d and %d are the same", k.Duplicates[0], k.Duplicates[1]))
	case *kind.Pattern:
		return one("格式不符，应匹配 "+k.Want, "must match "+k.Want)
	case *kind.Format:
		return one("不是有效的 "+k.Want, "is not a valid "+k.Want)
	case *kind.AnyOf, *kind.OneOf:
		return one("不符合任何一种允许的形式", "fits none, or more than one, of the allowed forms")
	}
	return one("不符合参数定义", "breaks the schema ("+strings.Join(e.ErrorKind.KeywordPath(), "/")+")")
}

// locate gives the dotted path of an instance location, and the schema there as far as properties and items lead to it.
func (s *Schema) locate(tokens []string, value any) (path string, schema map[string]any) {
	schema = s.doc
	for _, token := range tokens {
		switch v := value.(type) {
		case []any:
			path += "[" + token + "]"
			if i, err := strconv.Atoi(token); err == nil && i < len(v) {
				value = v[i]
			}
			schema, _ = schema["items"].(map[string]any)
		case map[string]any:
			path = join(path, token)
			value = v[token]
			properties, _ := schema["properties"].(map[string]any)
			schema, _ = properties[token].(map[string]any)
		}
	}
	return path, schema
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func knownKeys(schema map[string]any) string {
	properties, _ := schema["properties"].(map[string]any)
	names := make([]string, 0, len(properties))
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func list(values []any) string {
	said := make([]string, 0, len(values))
	for _, v := range values {
		said = append(said, show(v))
	}
	return strings.Join(said, ", ")
}

func show(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(data)
}

func number(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}
