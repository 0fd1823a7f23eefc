package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

// listed is a Source of two types, one of which cannot run.
type listed struct{}

func (listed) Describe(context.Context) ([]sdk.Description, error) {
	return []sdk.Description{
		{Name: "Script.Good", Title: title, Version: "abc123", ParamsSchema: json.RawMessage(`{"type":"object"}`)},
		{Name: "Script.Broken", Title: title, Problem: "line 3: unexpected symbol"},
		{Name: "no name", Title: title},
	}, nil
}

func (listed) Lookup(_ context.Context, name string) (sdk.TaskType, error) {
	switch name {
	case "Script.Good":
		return raw{name, func(_ context.Context, run *sdk.Run, params json.RawMessage) (json.RawMessage, error) {
			return params, nil
		}}, nil
	case "Script.Broken":
		return nil, sdk.Permanent(errors.New("line 3: unexpected symbol"))
	}
	return nil, sdk.ErrUnknownType
}

func TestSourceOffersTypesKnownAtRunTimeAlone(t *testing.T) {
	t.Parallel()
	h := sdktest.Start(t, sdk.Plugin{Name: "lua", Version: "1.0.0", Source: listed{}})
	said := h.Describe(t.Context()).GetTaskTypes()
	if len(said) != 3 || said[0].GetVersion() != "abc123" || said[1].GetProblem() == "" || !strings.Contains(said[2].GetProblem(), "Namespace.Type") {
		t.Fatalf("%v", said)
	}
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Script.Good", Params: `{"a":1}`}); string(r.Output) != `{"a":1}` {
		t.Fatalf("%+v", r)
	}
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Script.Broken"}); !r.Permanent || !strings.Contains(r.Message, "line 3") {
		t.Fatalf("%+v", r)
	}
	if found := h.Validate(t.Context(), "Script.Broken", nil); len(found) != 1 {
		t.Fatalf("%+v", found)
	}
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Script.None"}); status.Code(r.Err) != codes.NotFound {
		t.Fatalf("%+v", r)
	}
}
