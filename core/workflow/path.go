package workflow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/jsonpath"
)

// The roots of a path.
const (
	rootSteps  = "steps"  // $.steps.<step>.output[…], .verdict, .message, .run_id
	rootInputs = "inputs" // $.inputs.<name>[…]
	rootRun    = "run"    // $.run.id, $.run.fire_at
)

// path points at a value: $.steps.load.output.rows[0]["a.b"].
type path struct {
	text  string
	root  string
	step  string // rootSteps
	field string // of the step or the run; the name of the input
	rest  jsonpath.Path
}

var (
	stepFields = []string{"output", "verdict", "message", "run_id"}
	runFields  = []string{"id", "fire_at"}
)

// parsePath reads a text that begins with "$.".
func parsePath(text string) (path, bool) {
	keys, ok := jsonpath.Parse(text)
	if !ok {
		return path{}, false
	}
	names := 0 // how many keys of the beginning are names
	for names < len(keys) && keys[names].Index < 0 {
		names++
	}
	if names < 2 {
		return path{}, false
	}
	p := path{text: text, root: keys[0].Name, field: keys[1].Name, rest: keys[2:]}
	switch p.root {
	case rootSteps:
		if names < 3 {
			return path{}, false
		}
		p.step, p.field, p.rest = keys[1].Name, keys[2].Name, keys[3:]
		return p, slices.Contains(stepFields, p.field) && (p.field == "output" || len(p.rest) == 0)
	case rootInputs:
		return p, true
	case rootRun:
		return p, slices.Contains(runFields, p.field) && len(p.rest) == 0
	}
	return path{}, false
}

// A text in a step's parameters that begins with "$." is a path; one that begins with "$$." stands for itself without
// the first "$".
func isPath(text string) bool { return strings.HasPrefix(text, "$.") || strings.HasPrefix(text, "$[") }

func isEscaped(text string) bool {
	return strings.HasPrefix(text, "$$.") || strings.HasPrefix(text, "$$[")
}

// eachPath calls f with each text in a parameter that is a path.
func eachPath(value json.RawMessage, f func(text string)) error {
	_, err := replace(value, func(text string) (any, error) {
		f(text)
		return nil, nil
	})
	return err
}

// replace gives a parameter with what resolve makes of its paths.
func replace(value json.RawMessage, resolve func(text string) (any, error)) (json.RawMessage, error) {
	if !bytes.Contains(value, []byte{'$'}) && !bytes.Contains(value, []byte(`\u0024`)) {
		return value, nil
	}
	v, err := decode(value)
	if err != nil {
		return nil, err
	}
	var walk func(v any) (any, error)
	walk = func(v any) (any, error) {
		var err error
		switch v := v.(type) {
		case string:
			if isPath(v) {
				return resolve(v)
			}
			if isEscaped(v) {
				return v[1:], nil
			}
		case []any:
			for i := range v {
				if v[i], err = walk(v[i]); err != nil {
					return nil, err
				}
			}
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if v[k], err = walk(v[k]); err != nil {
					return nil, err
				}
			}
		}
		return v, nil
	}
	if v, err = walk(v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// decode reads JSON and keeps numbers as they are written.
func decode(text json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON document")
	}
	return v, nil
}

// Constants gives the step's parameters that hold no path, as its run gets them. What the others are is known when it starts.
func (s Step) Constants() map[string]json.RawMessage {
	constants := make(map[string]json.RawMessage)
	for name, value := range s.Params {
		constant := true
		said, err := replace(value, func(string) (any, error) {
			constant = false
			return nil, nil
		})
		if err == nil && constant {
			constants[name] = said
		}
	}
	return constants
}

// handed is what a step's parameters are made of.
type handed struct {
	graph  Graph
	states map[string]StepState
	runID  string
	fireAt time.Time
}

// params gives a step's parameters with the paths replaced by what they point at. A path into the output of a step that
// did not succeed gives null; one that leads nowhere in the output of a step that did is an error that names it.
func (h handed) params(s Step) (json.RawMessage, error) {
	if len(s.Params) == 0 {
		return nil, nil
	}
	out := make(map[string]json.RawMessage, len(s.Params))
	for _, name := range sortedKeys(s.Params) {
		value, err := replace(s.Params[name], h.resolve)
		if err != nil {
			return nil, core.Errorf(core.KindInvalid, "parameter "+name, "%w", err)
		}
		out[name] = value
	}
	return json.Marshal(out)
}

func (h handed) resolve(text string) (any, error) {
	p, ok := parsePath(text)
	if !ok {
		return nil, fmt.Errorf("%s is no path", text)
	}
	switch p.root {
	case rootRun:
		if p.field == "id" {
			return h.runID, nil
		}
		return h.fireAt.UTC().Format(time.RFC3339Nano), nil
	case rootInputs:
		return p.in(h.graph.Inputs[p.field], "inputs."+p.field)
	}
	st := h.states[p.step]
	switch p.field {
	case "verdict":
		if st.Status == LeftOut {
			return string(core.Skipped), nil
		}
		return string(st.Verdict), nil
	case "message":
		return st.Message, nil
	case "run_id":
		return st.RunID, nil
	}
	if st.Status != Succeeded {
		return nil, nil
	}
	return p.in(st.Output, "the output of step "+p.step)
}

// in gives the value that the path's rest leads to within a document.
func (p path) in(text json.RawMessage, what string) (any, error) {
	if len(text) == 0 {
		text = json.RawMessage("null")
	}
	value, err := p.rest.In(text)
	if err != nil {
		return nil, fmt.Errorf("%s leads nowhere: %s has %w", p.text, what, err)
	}
	v, err := decode(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %s is not valid JSON", p.text, what)
	}
	return v, nil
}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
