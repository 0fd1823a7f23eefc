package sdk

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// JSONSchemer is what a parameter's type implements to describe its own JSON form, for example because it accepts a text
// as well as a list: a JSON Schema object. The method is called on a zero value.
type JSONSchemer interface {
	JSONSchema() json.RawMessage
}

// SchemaFor gives the JSON Schema 2020-12 of parameters of type P, a struct. Keys it does not name are refused. A field
// is named by its json tag and described by these:
//
//	doc:"what it means"            description in English          zh:"说明"      in Chinese (x-description-zh)
//	default:"10"                   JSON; a text without quotes      example:"…"    likewise; examples
//	minimum, maximum               numbers                         enum:"a,b"     allowed values
//	minLength, maxLength, pattern, format    texts                 minItems, maxItems    lists
//
// On a list, all of them but the last two, doc, zh, default and example are about its items. A field is required unless
// its json tag says omitempty or omitzero, or it has a default. A time.Duration is refused: use Duration.
func SchemaFor[P any]() (json.RawMessage, error) { return paramsSchema(reflect.TypeFor[P]()) }

func paramsSchema(t reflect.Type) (json.RawMessage, error) {
	return schemaOf(t, generator{closed: true})
}

// outputSchema describes what json.Marshal makes of t: lists, maps and pointers may be null, and further keys may come
// with a later version.
func outputSchema(t reflect.Type) (json.RawMessage, error) {
	return schemaOf(t, generator{nullable: true})
}

func schemaOf(t reflect.Type, g generator) (json.RawMessage, error) {
	n, err := g.of(t)
	if err != nil {
		return nil, err
	}
	n["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	return json.Marshal(n)
}

// node is one schema. encoding/json writes its keys sorted, so the same type always gives the same bytes; the order of a
// struct's fields is in x-order, for forms.
type node map[string]any

type generator struct {
	closed   bool // unknown keys are refused
	nullable bool // nil lists, maps and pointers are written as null
	within   []reflect.Type
}

var (
	timeType      = reflect.TypeFor[time.Time]()
	durationType  = reflect.TypeFor[time.Duration]()
	rawType       = reflect.TypeFor[json.RawMessage]()
	numberType    = reflect.TypeFor[json.Number]()
	schemerType   = reflect.TypeFor[JSONSchemer]()
	unmarshalType = reflect.TypeFor[json.Unmarshaler]()
	marshalType   = reflect.TypeFor[json.Marshaler]()
	textInType    = reflect.TypeFor[encoding.TextUnmarshaler]()
	textOutType   = reflect.TypeFor[encoding.TextMarshaler]()
)

func implements(t, what reflect.Type) bool {
	return t.Implements(what) || reflect.PointerTo(t).Implements(what)
}

func (g generator) of(t reflect.Type) (node, error) {
	if t.Kind() != reflect.Pointer && implements(t, schemerType) {
		var n node
		if err := json.Unmarshal(reflect.New(t).Interface().(JSONSchemer).JSONSchema(), &n); err != nil {
			return nil, fmt.Errorf("JSONSchema of %v is not a JSON object: %w", t, err)
		}
		return n, nil
	}
	switch t {
	case timeType:
		return node{"type": "string", "format": "date-time"}, nil
	case durationType:
		if g.nullable {
			return node{"type": "integer"}, nil
		}
		return nil, fmt.Errorf("time.Duration is written in nanoseconds, which nobody wants to type: use sdk.Duration")
	case rawType:
		return node{}, nil
	case numberType:
		return node{"type": "number"}, nil
	}
	own, text := unmarshalType, textInType
	if g.nullable {
		own, text = marshalType, textOutType
	}
	if t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		if implements(t, own) {
			if g.nullable {
				return node{}, nil
			}
			return nil, fmt.Errorf("%v decodes its own JSON: let it implement sdk.JSONSchemer too", t)
		}
		if implements(t, text) {
			return node{"type": "string"}, nil
		}
	}
	switch t.Kind() {
	case reflect.Bool:
		return node{"type": "boolean"}, nil
	case reflect.String:
		return node{"type": "string"}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return node{"type": "integer"}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return node{"type": "integer", "minimum": 0}, nil
	case reflect.Float32, reflect.Float64:
		return node{"type": "number"}, nil
	case reflect.Interface:
		return node{}, nil
	case reflect.Pointer:
		n, err := g.of(t.Elem())
		return g.orNull(n), err
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return g.orNull(node{"type": "string", "contentEncoding": "base64"}), nil
		}
		items, err := g.of(t.Elem())
		if err != nil {
			return nil, err
		}
		n := node{"type": "array", "items": items}
		if t.Kind() == reflect.Array {
			n["minItems"], n["maxItems"] = t.Len(), t.Len()
			return n, nil
		}
		return g.orNull(n), nil
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return nil, fmt.Errorf("%v: the keys of a map must be texts", t)
		}
		values, err := g.of(t.Elem())
		if err != nil {
			return nil, err
		}
		return g.orNull(node{"type": "object", "additionalProperties": values}), nil
	case reflect.Struct:
		return g.ofStruct(t)
	}
	return nil, fmt.Errorf("%v has no JSON form", t)
}

func (g generator) orNull(n node) node {
	if kind, ok := n["type"].(string); ok && g.nullable {
		n["type"] = []string{kind, "null"}
	}
	return n
}

func (g generator) ofStruct(t reflect.Type) (node, error) {
	for _, outer := range g.within {
		if outer == t {
			return nil, fmt.Errorf("%v contains itself", t)
		}
	}
	g.within = append(g.within[:len(g.within):len(g.within)], t)
	properties, order, required := node{}, []string{}, []string{}
	var collect func(t reflect.Type) error
	collect = func(t reflect.Type) error {
		for i := range t.NumField() {
			f := t.Field(i)
			tag := f.Tag.Get("json")
			name, options, _ := strings.Cut(tag, ",")
			if tag == "-" || !f.IsExported() && !f.Anonymous {
				continue
			}
			if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
				if err := collect(f.Type); err != nil {
					return err
				}
				continue
			}
			if !f.IsExported() {
				continue
			}
			if name == "" {
				return fmt.Errorf("field %s.%s needs a json tag", t.Name(), f.Name)
			}
			if _, twice := properties[name]; twice {
				return fmt.Errorf("field %s.%s: the name %q is taken", t.Name(), f.Name, name)
			}
			optional := false
			for option := range strings.SplitSeq(options, ",") {
				switch option {
				case "":
				case "omitempty", "omitzero":
					optional = true
				default:
					return fmt.Errorf("field %s.%s: json option %q is not supported", t.Name(), f.Name, option)
				}
			}
			n, err := g.of(f.Type)
			if err == nil {
				err = describeField(n, f)
			}
			if err != nil {
				return fmt.Errorf("field %s.%s: %w", t.Name(), f.Name, err)
			}
			// An optional struct whose parts are all optional has its parts' defaults even where it is missing.
			if _, given := n["default"]; optional && !given && g.closed && f.Type.Kind() == reflect.Struct && n["properties"] != nil && n["required"] == nil {
				n["default"] = node{}
			}
			_, standard := n["default"]
			if !optional && !standard {
				required = append(required, name)
			}
			properties[name] = n
			order = append(order, name)
		}
		return nil
	}
	if err := collect(t); err != nil {
		return nil, err
	}
	n := node{"type": "object"}
	if len(order) > 0 {
		n["properties"] = properties
	}
	if len(order) > 1 {
		n["x-order"] = order
	}
	if len(required) > 0 {
		n["required"] = required
	}
	if g.closed {
		n["additionalProperties"] = false
	}
	return n, nil
}

// describeField adds what the tags of a field say.
func describeField(n node, f reflect.StructField) error {
	if doc := f.Tag.Get("doc"); doc != "" {
		n["description"] = doc
	}
	if zh := f.Tag.Get("zh"); zh != "" {
		n["x-description-zh"] = zh
	}
	about := n // what the limits are about: the items of a list
	if items, ok := n["items"].(node); ok {
		about = items
	}
	for _, tag := range []string{"minimum", "maximum"} {
		text, ok := f.Tag.Lookup(tag)
		if !ok {
			continue
		}
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			return fmt.Errorf("%s:%q is not a number", tag, text)
		}
		about[tag] = json.Number(text)
	}
	for tag, on := range map[string]node{"minLength": about, "maxLength": about, "minItems": n, "maxItems": n} {
		text, ok := f.Tag.Lookup(tag)
		if !ok {
			continue
		}
		v, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return fmt.Errorf("%s:%q is not a count", tag, text)
		}
		on[tag] = v
	}
	for _, tag := range []string{"pattern", "format"} {
		if text, ok := f.Tag.Lookup(tag); ok {
			about[tag] = text
		}
	}
	if text, ok := f.Tag.Lookup("enum"); ok {
		var values []any
		for each := range strings.SplitSeq(text, ",") {
			v, err := tagValue(about, strings.TrimSpace(each))
			if err != nil {
				return fmt.Errorf("enum: %w", err)
			}
			values = append(values, v)
		}
		about["enum"] = values
	}
	if text, ok := f.Tag.Lookup("default"); ok {
		v, err := tagValue(n, text)
		if err != nil {
			return fmt.Errorf("default: %w", err)
		}
		n["default"] = v
	}
	if text, ok := f.Tag.Lookup("example"); ok {
		v, err := tagValue(n, text)
		if err != nil {
			return fmt.Errorf("example: %w", err)
		}
		n["examples"] = []any{v}
	}
	if standard, ok := n["default"]; ok {
		return fits(n, standard)
	}
	return nil
}

// tagValue reads a value of a tag: a text for a string, a comma-separated list for a list of strings, else JSON.
func tagValue(n node, text string) (any, error) {
	kind, _ := n["type"].(string)
	if kinds, ok := n["type"].([]string); ok {
		kind = kinds[0]
	}
	if kind == "string" {
		return text, nil
	}
	if items, ok := n["items"].(node); ok && items["type"] == "string" && !strings.HasPrefix(text, "[") {
		values := []any{}
		for each := range strings.SplitSeq(text, ",") {
			values = append(values, strings.TrimSpace(each))
		}
		return values, nil
	}
	v, err := decodeAny([]byte(text))
	if err != nil && kind == "" {
		return text, nil // a type that describes itself as one of several
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not JSON: %w", text, err)
	}
	return v, nil
}

// fits checks a default against its own schema.
func fits(n node, value any) error {
	source, err := json.Marshal(n)
	if err != nil {
		return err
	}
	schema, err := CompileSchema(source)
	if err != nil {
		return err
	}
	given, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if _, findings := schema.Apply(given); len(findings) > 0 {
		return fmt.Errorf("default %s: %w", given, InvalidParameters(findings...))
	}
	return nil
}
