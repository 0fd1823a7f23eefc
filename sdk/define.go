package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Definition is what an author says about a task type beside its parameters and its output.
type Definition struct {
	Name        string        // Namespace.Type: "Common.KeepAlive"
	Title       Text          // a few words
	Description Text          // a sentence or two
	Needs       []string      // grants it asks for: "http", "sql:business"
	Timeout     time.Duration // default hard timeout; 0: the server's default
	Example     any           // parameters that work anywhere, for sdktest: a value of the parameters' type; nil: none
}

// Validator is what parameters may implement to be checked beyond their schema, before every run and when a task is
// saved. It touches no network.
type Validator interface {
	Validate() []Finding
}

// None is the parameters of a type that has none, or the output of a type that hands nothing on.
type None = struct{}

// Define makes a task type out of a function. P is a struct: its fields are the parameters, described by their tags
// (see SchemaFor), and O is the output. Before run is called, unknown keys, missing parameters and values that break a
// tag or P's Validate are refused, and defaults are filled in.
//
// It panics if the definition is unsound: that is a programmer's mistake, found when the program starts.
func Define[P, O any](d Definition, run func(ctx context.Context, run *Run, params P) (O, error)) TaskType {
	t, err := define(d, run)
	if err != nil {
		panic(fmt.Sprintf("sdk.Define(%q): %v", d.Name, err))
	}
	return t
}

type typed[P, O any] struct {
	described Description
	schema    *Schema
	run       func(context.Context, *Run, P) (O, error)
	noParams  bool
	noOutput  bool
}

func define[P, O any](d Definition, run func(context.Context, *Run, P) (O, error)) (*typed[P, O], error) {
	if run == nil {
		return nil, errors.New("it has no function")
	}
	t := &typed[P, O]{run: run}
	pt, ot := reflect.TypeFor[P](), reflect.TypeFor[O]()
	if pt.Kind() != reflect.Struct {
		return nil, fmt.Errorf("parameters are a struct, not %v", pt)
	}
	params, err := paramsSchema(pt)
	if err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	if t.schema, err = CompileSchema(params); err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	t.noParams = pt.NumField() == 0
	t.noOutput = ot.Kind() == reflect.Struct && ot.NumField() == 0
	var output json.RawMessage
	if !t.noOutput {
		if output, err = outputSchema(ot); err != nil {
			return nil, fmt.Errorf("output: %w", err)
		}
	}
	var example json.RawMessage
	if d.Example != nil {
		if example, err = json.Marshal(d.Example); err != nil {
			return nil, fmt.Errorf("example: %w", err)
		}
		if _, findings := t.decode(example); len(findings) > 0 {
			return nil, fmt.Errorf("example: %w", InvalidParameters(findings...))
		}
	}
	t.described = Description{
		Name: d.Name, Title: d.Title, Description: d.Description, ParamsSchema: params, OutputSchema: output,
		Needs: d.Needs, Timeout: d.Timeout, Example: example,
	}
	return t, t.described.Check()
}

func (t *typed[P, O]) Describe() Description { return t.described }

func (t *typed[P, O]) Validate(_ context.Context, params json.RawMessage) []Finding {
	_, findings := t.decode(params)
	return findings
}

func (t *typed[P, O]) Run(ctx context.Context, run *Run, raw json.RawMessage) (json.RawMessage, error) {
	params, findings := t.decode(raw)
	if len(findings) > 0 {
		return nil, InvalidParameters(findings...)
	}
	output, err := t.run(ctx, run, params)
	if err != nil || t.noOutput {
		return nil, err
	}
	data, err := json.Marshal(output)
	if err != nil {
		return nil, Permanent(fmt.Errorf("encode output: %w", err))
	}
	if string(data) == "null" {
		return nil, nil
	}
	return data, nil
}

func (t *typed[P, O]) decode(raw json.RawMessage) (params P, findings []Finding) {
	if t.noParams && (len(raw) == 0 || string(raw) == "{}") {
		return params, nil
	}
	full, findings := t.schema.Apply(raw)
	if len(findings) > 0 {
		return params, findings
	}
	if err := json.Unmarshal(full, &params); err != nil {
		return params, []Finding{decodeFinding(err)}
	}
	if v, ok := any(&params).(Validator); ok {
		findings = v.Validate()
	}
	return params, findings
}

// decodeFinding says where a value fits the schema but not the Go type: a number too large for an int32, a text that the
// type's own decoder refuses.
func decodeFinding(err error) Finding {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return Finding{Path: wrong.Field, Message: Text{
			Zh: fmt.Sprintf("值 %s 不适用于类型 %v", wrong.Value, wrong.Type),
			En: fmt.Sprintf("%s does not fit the type %v", wrong.Value, wrong.Type),
		}}
	}
	said := strings.TrimPrefix(err.Error(), "json: ")
	return Finding{Message: Text{Zh: "无法解析参数：" + said, En: "cannot be decoded: " + said}}
}

// Duration is a span of time in parameters, written as in Go: "90s", "1h30m".
type Duration time.Duration

// String gives the span as Go writes it.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText gives String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText understands what time.ParseDuration does, without a sign.
func (d *Duration) UnmarshalText(text []byte) error {
	span, err := time.ParseDuration(string(bytes.TrimSpace(text)))
	if err != nil {
		return err
	}
	if span < 0 {
		return fmt.Errorf("duration %q is negative", text)
	}
	*d = Duration(span)
	return nil
}

// JSONSchema describes a Duration.
func (Duration) JSONSchema() json.RawMessage {
	return json.RawMessage(`{"type":"string","pattern":"^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$","examples":["90s","1h30m"]}`)
}
