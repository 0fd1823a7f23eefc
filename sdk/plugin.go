// Package sdk is what the author of a Gnomon plugin imports.
//
// A plugin is a program whose main calls Serve with the task types it offers. Define makes a task type out of a Go
// function with typed parameters:
//
//	var KeepAlive = sdk.Define(sdk.Definition{
//		Name:  "Common.KeepAlive",
//		Title: sdk.Text{Zh: "保持网站活跃", En: "Keep websites awake"},
//		Needs: []string{"http"},
//	}, func(ctx context.Context, run *sdk.Run, p Params) (Output, error) { … })
//
//	func main() {
//		sdk.Serve(sdk.Plugin{Name: "common", Version: "1.0.0", Types: []sdk.TaskType{KeepAlive}})
//	}
//
// A handler may run many times at once in one process, and again for a fire whose effect it already had: the run's ID is
// its idempotency key. Package sdktest tests a plugin as Gnomon will use it.
package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Version is the version of this SDK.
const Version = "0.1.0"

// Text is what a person reads, in both languages of the console.
type Text struct {
	Zh string `json:"zh"` // Chinese
	En string `json:"en"` // English
}

// Finding is one thing wrong with parameters.
type Finding struct {
	Path    string `json:"path"`    // dotted, from the parameters' top: "urls[2]"; empty: the whole
	Message Text   `json:"message"` // what is wrong and how to mend it
}

// Description says what a task type is.
type Description struct {
	Name         string          // Namespace.Type: "Common.KeepAlive"
	Title        Text            // a few words
	Description  Text            // a sentence or two
	ParamsSchema json.RawMessage // JSON Schema 2020-12 of the parameters, an object schema; empty: no parameters
	OutputSchema json.RawMessage // JSON Schema 2020-12 of the output; empty: anything
	Needs        []string        // grants it asks for: "http", "sql:business"
	Timeout      time.Duration   // default hard timeout; 0: the server's default
	Example      json.RawMessage // parameters that work, for sdktest; may be empty
	Problem      string          // why the type cannot run at present; empty: it can
	Version      string          // version of this type alone (a script's hash); empty: the plugin's
}

// TaskType is one task type. Define makes one with typed parameters; implement it yourself only where parameters are
// known at run time alone. Its methods are called at once from several goroutines.
type TaskType interface {
	// Describe says what the type is.
	Describe() Description
	// Validate gives what is wrong with params; it touches no network and ends in a second. Params may be empty or
	// break the type's schema.
	Validate(ctx context.Context, params json.RawMessage) []Finding
	// Run carries out one attempt. It returns when ctx ends. The output is JSON or empty. The error may be one of
	// RetryAfter, Permanent and InvalidParameters; any other is a failure that may be retried.
	Run(ctx context.Context, run *Run, params json.RawMessage) (output json.RawMessage, err error)
}

// Source offers task types that are known at run time alone. Its methods are called at once from several goroutines.
type Source interface {
	// Describe gives all types there are now. One with a Problem is listed but not run.
	Describe(ctx context.Context) ([]Description, error)
	// Lookup gives the type of a full name, to validate for or to run; ErrUnknownType if there is none. Any other error
	// is what the attempt fails with, and may be Permanent.
	Lookup(ctx context.Context, name string) (TaskType, error)
}

// ErrUnknownType is what a Source answers for a name it does not have.
var ErrUnknownType = errors.New("unknown task type")

// Plugin is what a program serves.
type Plugin struct {
	Name    string     // as in plugin.yaml: lower-case letters, digits and "-"
	Version string     // semantic version
	Types   []TaskType // the types it offers; asked first
	Source  Source     // further types, computed; may be nil
}

var (
	pluginName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	semver     = regexp.MustCompile(`^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?$`)
	typeName   = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*\.[A-Z][A-Za-z0-9]*$`)
)

// Check gives what is wrong with the plugin itself: names, versions, doubles, a type without a title in both languages,
// a schema that does not compile. Serve refuses such a plugin. It does not ask the Source.
func (p Plugin) Check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !pluginName.MatchString(p.Name) {
		fail("plugin name %q is not lower-case letters, digits and \"-\"", p.Name)
	}
	if !semver.MatchString(p.Version) {
		fail("plugin version %q is not a semantic version like 1.0.0", p.Version)
	}
	if len(p.Types) == 0 && p.Source == nil {
		fail("plugin %q offers no task type", p.Name)
	}
	seen := map[string]bool{}
	for i, t := range p.Types {
		if t == nil {
			fail("task type %d is nil", i)
			continue
		}
		d := t.Describe()
		if seen[d.Name] {
			fail("task type %q is offered twice", d.Name)
		}
		seen[d.Name] = true
		if err := d.Check(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Check gives what is wrong with the description.
func (d Description) Check() error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("task type %q: "+format, append([]any{d.Name}, args...)...))
	}
	if !typeName.MatchString(d.Name) {
		fail("the name is not Namespace.Type, each an upper-case letter and then letters and digits")
	}
	if d.Title.Zh == "" || d.Title.En == "" {
		fail("it needs a title in Chinese and in English")
	}
	if d.Timeout < 0 {
		fail("timeout %v is negative", d.Timeout)
	}
	for _, need := range d.Needs {
		if need == "" {
			fail("an empty need")
		}
	}
	if len(d.ParamsSchema) > 0 {
		if s, err := CompileSchema(d.ParamsSchema); err != nil {
			fail("parameters: %w", err)
		} else if !s.object {
			fail(`the schema of the parameters must have "type": "object"`)
		}
	}
	if len(d.OutputSchema) > 0 {
		if _, err := CompileSchema(d.OutputSchema); err != nil {
			fail("output: %w", err)
		}
	}
	return errors.Join(errs...)
}
