package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// RunRequest is what a run on demand may change.
type RunRequest struct {
	Params Object `json:"params,omitempty" doc:"Laid over the task's own parameters, key by key"`
}

func (a *API) taskActions() {
	tags := []string{"tasks"}
	for _, to := range []struct {
		id, summary string
		enabled     bool
	}{
		{"enable", "Enable a task; nothing that was missed meanwhile fires", true},
		{"disable", "Disable a task; a run that is live goes on", false},
	} {
		register(a, huma.Operation{
			OperationID: to.id + "-task", Method: http.MethodPost, Path: "/v1/tasks/{task_id}/" + to.id, Tags: tags,
			Summary: to.summary,
		}, rule{permission: "task:write", source: fromTask, changes: true},
			func(ctx context.Context, in *struct {
				TaskPath
				Match
			}) (*taskOne, error) {
				req := requestOf(ctx)
				if err := in.matches(req.task.Version, to.id+" task "+named(req.task)); err != nil {
					return nil, err
				}
				task, err := a.opts.Definitions.SetEnabled(ctx, req.task.ID, to.enabled, req.principal.String())
				if err != nil {
					return nil, err
				}
				return one(task), nil
			})
	}
	register(a, huma.Operation{
		OperationID: "run-task", Method: http.MethodPost, Path: "/v1/tasks/{task_id}/run", Tags: tags,
		Summary: "Run a task now, enabled or not", DefaultStatus: http.StatusAccepted,
	}, rule{permission: "task:run", source: fromTask, changes: true},
		func(ctx context.Context, in *struct {
			TaskPath
			Body *RunRequest
		}) (*struct {
			Location string `header:"Location" doc:"Where the run is"`
			Body     Run
		}, error) {
			var params json.RawMessage
			if in.Body != nil {
				params = json.RawMessage(in.Body.Params)
			}
			req := requestOf(ctx)
			run, err := a.opts.Runner.RunNow(ctx, req.task.ID, params, req.principal.String())
			if err != nil {
				return nil, err
			}
			return &struct {
				Location string `header:"Location" doc:"Where the run is"`
				Body     Run
			}{"/v1/runs/" + run.ID, runOut(run)}, nil
		})
}
