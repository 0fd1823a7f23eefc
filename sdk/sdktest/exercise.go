package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gnomon-scheduler/gnomon/sdk"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
)

// Option changes what Exercise does.
type Option func(*options)

type options struct {
	grants map[string]string
}

// Grants gives the attempts of Exercise what the plugin's types need. The example of a type that needs more is checked
// but not run.
func Grants(grants map[string]string) Option {
	return func(o *options) { o.grants = grants }
}

// Exercise checks that a plugin keeps the contract: it describes itself soundly, refuses junk with the place, runs its
// examples, stops when asked, and ends every attempt with exactly one outcome.
func Exercise(t *testing.T, plugin sdk.Plugin, opts ...Option) {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if err := plugin.Check(); err != nil {
		t.Fatalf("the plugin is unsound: %v", err)
	}
	host := Start(t, plugin)
	said := host.Describe(t.Context())
	t.Run("Describe/IsSound", func(t *testing.T) { checkDescription(t, plugin, said) })
	t.Run("UnknownTypeIsNotFound", func(t *testing.T) {
		unknown := "Nowhere.NoSuchType"
		if _, err := host.api.Validate(t.Context(), &pluginv1.ValidateRequest{TaskType: unknown}); status.Code(err) != codes.NotFound {
			t.Errorf("validate: %v, want NOT_FOUND", err)
		}
		if result := host.Run(t.Context(), Attempt{Type: unknown}); status.Code(result.Err) != codes.NotFound {
			t.Errorf("run: %v, want NOT_FOUND", result.Err)
		}
	})
	examples := examplesOf(t, plugin)
	for _, described := range said.GetTaskTypes() {
		if described.GetProblem() != "" {
			continue
		}
		t.Run(described.GetName(), func(t *testing.T) {
			t.Run("RefusesJunk", func(t *testing.T) { refusesJunk(t, host, described.GetName()) })
			example := examples[described.GetName()]
			if example == nil {
				return
			}
			t.Run("AcceptsItsExample", func(t *testing.T) {
				if wrong := host.Validate(t.Context(), described.GetName(), example); len(wrong) > 0 {
					t.Errorf("the example is refused: %+v", wrong)
				}
			})
			for _, need := range described.GetNeeds() {
				if _, ok := o.grants[need]; !ok {
					return
				}
			}
			attempt := Attempt{Type: described.GetName(), Params: example, Grants: o.grants}
			t.Run("RunsItsExample", func(t *testing.T) { runsExample(t, host, attempt, described.GetOutputSchema()) })
			t.Run("StopsWhenAsked", func(t *testing.T) { stops(t, host, attempt) })
		})
	}
}

func checkDescription(t *testing.T, plugin sdk.Plugin, said *pluginv1.DescribeResponse) {
	if said.GetName() != plugin.Name || said.GetVersion() != plugin.Version {
		t.Errorf("it says it is %s %s, want %s %s", said.GetName(), said.GetVersion(), plugin.Name, plugin.Version)
	}
	if len(said.GetTaskTypes()) == 0 {
		t.Error("it offers no task type")
	}
	seen := map[string]bool{}
	for _, d := range said.GetTaskTypes() {
		if seen[d.GetName()] {
			t.Errorf("%s is offered twice", d.GetName())
		}
		seen[d.GetName()] = true
		if d.GetProblem() != "" {
			t.Errorf("%s cannot run: %s", d.GetName(), d.GetProblem())
			continue
		}
		again := sdk.Description{
			Name: d.GetName(), Title: sdk.Text{Zh: d.GetTitle().GetZh(), En: d.GetTitle().GetEn()},
			ParamsSchema: d.GetParamsSchema(), OutputSchema: d.GetOutputSchema(), Needs: d.GetNeeds(), Timeout: d.GetTimeout().AsDuration(),
		}
		if err := again.Check(); err != nil {
			t.Error(err)
		}
		if len(d.GetParamsSchema()) == 0 {
			t.Errorf("%s has no schema of its parameters", d.GetName())
		}
	}
}

func examplesOf(t *testing.T, plugin sdk.Plugin) map[string]json.RawMessage {
	t.Helper()
	examples := map[string]json.RawMessage{}
	add := func(d sdk.Description) {
		if len(d.Example) > 0 {
			examples[d.Name] = d.Example
		}
	}
	for _, each := range plugin.Types {
		add(each.Describe())
	}
	if plugin.Source != nil {
		more, err := plugin.Source.Describe(t.Context())
		if err != nil {
			t.Fatalf("describe task types: %v", err)
		}
		for _, d := range more {
			add(d)
		}
	}
	return examples
}

func refusesJunk(t *testing.T, host *Host, taskType string) {
	for _, junk := range []string{`[]`, `"junk"`, `{"`, `17`} {
		wrong := host.Validate(t.Context(), taskType, junk)
		if len(wrong) == 0 {
			t.Errorf("parameters %s are accepted", junk)
		}
		checkFindings(t, wrong)
	}
	const unknown = "no_such_parameter"
	wrong := host.Validate(t.Context(), taskType, `{"`+unknown+`": 1}`)
	checkFindings(t, wrong)
	named := false
	for _, f := range wrong {
		named = named || f.Path == unknown
	}
	if !named {
		t.Errorf("an unknown parameter is not refused by its path; findings: %+v", wrong)
	}
	result := host.Run(t.Context(), Attempt{Type: taskType, Params: `{"` + unknown + `": 1}`})
	if result.Err != nil || result.Verdict != Failed || len(result.Findings) == 0 {
		t.Errorf("an attempt with an unknown parameter ended as %q (%s, %v), want failed with findings", result.Verdict, result.Message, result.Err)
	}
}

func checkFindings(t *testing.T, findings []sdk.Finding) {
	t.Helper()
	for _, f := range findings {
		if f.Message.Zh == "" || f.Message.En == "" {
			t.Errorf("the finding %+v needs words in Chinese and in English", f)
		}
	}
}

func runsExample(t *testing.T, host *Host, attempt Attempt, outputSchema []byte) {
	result := host.Run(t.Context(), attempt)
	if result.Err != nil || result.Verdict != Succeeded {
		t.Fatalf("the example ended as %q: %s %v %+v", result.Verdict, result.Message, result.Err, result.Findings)
	}
	for _, p := range result.Progress {
		if p.Done < 0 || p.Total < 0 || p.Total > 0 && p.Done > p.Total {
			t.Errorf("progress %d of %d makes no sense", p.Done, p.Total)
		}
	}
	if len(outputSchema) == 0 || len(result.Output) == 0 {
		return
	}
	schema, err := sdk.CompileSchema(outputSchema)
	if err != nil {
		t.Fatal(err)
	}
	if _, wrong := schema.Apply(result.Output); len(wrong) > 0 {
		t.Errorf("the output %s breaks its schema: %+v", result.Output, wrong)
	}
}

var errEnough = errors.New("the test has seen enough")

// stops asks an attempt to stop just after its start; Run fails the test if it then takes longer than Grace.
func stops(t *testing.T, host *Host, attempt Attempt) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errEnough)
	defer cancel()
	if result := host.Run(ctx, attempt); result.Err != nil {
		t.Errorf("an attempt that was asked to stop broke the call: %v", result.Err)
	}
}
