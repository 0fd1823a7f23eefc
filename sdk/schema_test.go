package sdk_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

type urls []string

func (urls) JSONSchema() json.RawMessage {
	return json.RawMessage(`{"anyOf":[{"type":"string"},{"type":"array","items":{"type":"string"}}]}`)
}

func (u *urls) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*u = strings.Split(text, ",")
		return nil
	}
	return json.Unmarshal(data, (*[]string)(u))
}

type retry struct {
	Times int          `json:"times" default:"3" minimum:"0" maximum:"9"`
	Wait  sdk.Duration `json:"wait" default:"30s"`
}

type embedded struct {
	Tag string `json:"tag,omitempty" maxLength:"4"`
}

type params struct {
	embedded
	URLs    urls              `json:"urls" doc:"what to fetch" zh:"要访问的地址" example:"a,b"`
	Mode    string            `json:"mode" default:"fast" enum:"fast,slow"`
	Codes   []int             `json:"codes" default:"[200]" minimum:"100" maximum:"599" minItems:"1"`
	Words   []string          `json:"words,omitempty" enum:"x,y"`
	Retry   retry             `json:"retry,omitzero"`
	Headers map[string]string `json:"headers,omitempty"`
	Small   int8              `json:"small,omitempty"`
	Since   *time.Time        `json:"since,omitempty"`
	Ignored string            `json:"-"`
	Any     any               `json:"any,omitempty"`
}

func (p params) Validate() []sdk.Finding {
	if len(p.URLs) > 3 {
		return []sdk.Finding{{Path: "urls", Message: sdk.Text{Zh: "太多", En: "too many"}}}
	}
	return nil
}

var title = sdk.Text{Zh: "测试", En: "Test"}

func echo(t *testing.T, seen *params) sdk.TaskType {
	t.Helper()
	return sdk.Define(sdk.Definition{Name: "Test.Echo", Title: title}, func(_ context.Context, _ *sdk.Run, p params) (sdk.None, error) {
		*seen = p
		return sdk.None{}, nil
	})
}

func TestSchemaForDescribesEveryField(t *testing.T) {
	t.Parallel()
	source, err := sdk.SchemaFor[params]()
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(source, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{
	  "$schema": "https://json-schema.org/draft/2020-12/schema",
	  "type": "object",
	  "additionalProperties": false,
	  "required": ["urls"],
	  "x-order": ["tag", "urls", "mode", "codes", "words", "retry", "headers", "small", "since", "any"],
	  "properties": {
	    "tag": {"type": "string", "maxLength": 4},
	    "urls": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
	             "description": "what to fetch", "x-description-zh": "要访问的地址", "examples": ["a,b"]},
	    "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
	    "codes": {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}, "minItems": 1, "default": [200]},
	    "words": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}},
	    "retry": {"type": "object", "additionalProperties": false, "x-order": ["times", "wait"], "default": {}, "properties": {
	       "times": {"type": "integer", "minimum": 0, "maximum": 9, "default": 3},
	       "wait": {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$", "examples": ["90s", "1h30m"], "default": "30s"}}},
	    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
	    "small": {"type": "integer"},
	    "since": {"type": "string", "format": "date-time"},
	    "any": {}
	  }
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestDefaultsAreInPlaceBeforeTheHandler(t *testing.T) {
	t.Parallel()
	var seen params
	task := echo(t, &seen)
	for range 2 { // the second time out of what the schema remembers
		seen = params{}
		if _, err := task.Run(t.Context(), nil, json.RawMessage(`{"urls":"a,b","small":7}`)); err != nil {
			t.Fatal(err)
		}
		want := params{URLs: urls{"a", "b"}, Mode: "fast", Codes: []int{200}, Retry: retry{Times: 3, Wait: sdk.Duration(30 * time.Second)}, Small: 7}
		if diff := cmp.Diff(want, seen, cmp.AllowUnexported(params{}, embedded{})); diff != "" {
			t.Fatal(diff)
		}
		seen.Codes[0] = 0 // a handler that changes its parameters changes nobody else's
	}
}

func TestFindingsNameThePlace(t *testing.T) {
	t.Parallel()
	var seen params
	task := echo(t, &seen)
	cases := map[string]struct{ params, path, says string }{
		"Missing":         {`{}`, "urls", "is required"},
		"Unknown":         {`{"urls":"a","url":1}`, "url", "known are: any, codes"},
		"UnknownWithin":   {`{"urls":"a","retry":{"tims":1}}`, "retry.tims", "known are: times, wait"},
		"WrongType":       {`{"urls":"a","mode":1}`, "mode", "must be string, is number"},
		"Enum":            {`{"urls":"a","mode":"quick"}`, "mode", `"fast", "slow"`},
		"ItemOfList":      {`{"urls":"a","codes":[200,99]}`, "codes[1]", "at least 100"},
		"TooFew":          {`{"urls":"a","codes":[]}`, "codes", "at least 1 items"},
		"Maximum":         {`{"urls":"a","retry":{"times":10}}`, "retry.times", "at most 9"},
		"Pattern":         {`{"urls":"a","retry":{"wait":"soon"}}`, "retry.wait", "must match"},
		"Alternative":     {`{"urls":1}`, "urls", "fits none"},
		"Format":          {`{"urls":"a","since":"yesterday"}`, "since", "date-time"},
		"DoesNotFitInt8":  {`{"urls":"a","small":300}`, "small", "does not fit"},
		"TooLong":         {`{"urls":"a","tag":"12345"}`, "tag", "at most 4 characters"},
		"OwnValidate":     {`{"urls":"a,b,c,d"}`, "urls", "too many"},
		"NotAnObject":     {`[1]`, "", "must be object"},
		"NotJSON":         {`{"urls"`, "", "not JSON"},
		"TwoValues":       {`{} {}`, "", "more than one value"},
		"HugeNumber":      {`{"urls":"a","small":1e999999999}`, "small", "out of range"},
		"HugeNumberInAny": {`{"urls":"a","any":[{"x":1e-99999999}]}`, "any[0].x", "out of range"},
	}
	for promise, c := range cases {
		t.Run(promise, func(t *testing.T) {
			t.Parallel()
			found := task.Validate(t.Context(), json.RawMessage(c.params))
			if len(found) != 1 || found[0].Path != c.path || !strings.Contains(found[0].Message.En, c.says) || found[0].Message.Zh == "" {
				t.Fatalf("findings %+v, want one at %q that says %q", found, c.path, c.says)
			}
		})
	}
}

func TestCompileSchemaLoadsNothing(t *testing.T) {
	t.Parallel()
	for _, source := range []string{`{"$ref":"file:///etc/passwd"}`, `{"$ref":"https://example.com/schema"}`, `{"type":17}`, `{`} {
		if _, err := sdk.CompileSchema(json.RawMessage(source)); err == nil {
			t.Errorf("%s compiles", source)
		}
	}
}

func TestDefineRefusesWhatIsUnsound(t *testing.T) {
	t.Parallel()
	refused := func(promise, says string, define func()) {
		t.Run(promise, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if p, _ := recover().(string); !strings.Contains(p, says) {
					t.Fatalf("panic %q, want it to say %q", p, says)
				}
			}()
			define()
		})
	}
	good := sdk.Definition{Name: "Test.Good", Title: title}
	refused("NameWithoutNamespace", "Namespace.Type", func() { with[struct{}](sdk.Definition{Name: "good", Title: title}) })
	refused("NoChineseTitle", "title", func() { with[struct{}](sdk.Definition{Name: "Test.Good", Title: sdk.Text{En: "x"}}) })
	refused("ParametersAreNotAStruct", "struct", func() { with[int](good) })
	refused("NanosecondsNobodyTypes", "sdk.Duration", func() {
		with[struct {
			Wait time.Duration `json:"wait"`
		}](good)
	})
	refused("FieldWithoutName", "json tag", func() { with[struct{ Wait int }](good) })
	refused("DefaultBreaksItsLimit", "at most 3", func() {
		with[struct {
			N int `json:"n" default:"5" maximum:"3"`
		}](good)
	})
	refused("ExampleBreaksTheSchema", "example", func() {
		with[struct {
			N int `json:"n"`
		}](sdk.Definition{Name: "Test.Good", Title: title, Example: map[string]any{"m": 1}})
	})
	type loop struct {
		Next []any `json:"next,omitempty"`
		Self *struct {
			Map map[int]string `json:"map"`
		} `json:"self,omitempty"`
	}
	refused("MapWithNumbersAsKeys", "keys of a map", func() { with[loop](good) })
	refused("OwnDecoderWithoutSchema", "JSONSchemer", func() {
		with[struct {
			O ownDecoder `json:"o"`
		}](good)
	})
	refused("Recursion", "contains itself", func() { with[recursive](good) })
}

type recursive struct {
	More []recursive `json:"more,omitempty"`
}

type ownDecoder struct{}

func (*ownDecoder) UnmarshalJSON([]byte) error { return nil }

func with[P any](d sdk.Definition) sdk.TaskType {
	return sdk.Define(d, func(context.Context, *sdk.Run, P) (sdk.None, error) { return sdk.None{}, nil })
}

func TestPluginCheckFindsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	good := with[struct{}](sdk.Definition{Name: "Test.Good", Title: title})
	err := sdk.Plugin{Name: "Bad Name", Version: "one", Types: []sdk.TaskType{good, good, nil}}.Check()
	for _, says := range []string{"plugin name", "semantic version", "twice", "nil"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
	if err := (sdk.Plugin{Name: "empty", Version: "1.0.0"}).Check(); err == nil {
		t.Error("a plugin without types is accepted")
	}
}

func FuzzParameters(f *testing.F) {
	for _, seed := range []string{`{}`, `{"urls":"a"}`, `{"urls":["a"],"retry":{"times":1}}`, `{"codes":[1e5]}`, `[[[]]]`} {
		f.Add(seed)
	}
	var seen params
	task := sdk.Define(sdk.Definition{Name: "Test.Echo", Title: title}, func(_ context.Context, _ *sdk.Run, p params) (sdk.None, error) {
		seen = p
		return sdk.None{}, nil
	})
	f.Fuzz(func(t *testing.T, text string) {
		found := task.Validate(t.Context(), json.RawMessage(text))
		_, err := task.Run(t.Context(), nil, json.RawMessage(text))
		if (err == nil) != (len(found) == 0) {
			t.Fatalf("Validate finds %+v, Run says %v", found, err)
		}
		if err == nil && (seen.Mode == "" || len(seen.Codes) == 0) {
			t.Fatalf("the handler saw %+v", seen)
		}
	})
}
