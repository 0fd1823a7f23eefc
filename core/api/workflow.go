package api

import (
	"cmp"
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Workflow is a workflow run with its graph.
type Workflow struct {
	Run   Run    `json:"run" doc:"The workflow run itself"`
	State string `json:"state" enum:"claimed,queued,waiting,running,retrying,succeeded,failed,timed_out,cancelled,crashed,lost,skipped" doc:"How the whole stands: the run's outcome, or its state while it is live"`
	Steps []Step `json:"steps" doc:"In an order in which each comes after what it needs"`
}

// Step is one step of a workflow run.
type Step struct {
	Name      string         `json:"name" doc:"Unique in its workflow" example:"load"`
	Task      string         `json:"task" doc:"Name of the task it runs, in the same namespace" example:"load-orders"`
	Needs     []string       `json:"needs" doc:"Steps that must have ended before it starts"`
	When      string         `json:"when" enum:"success,failure,always" doc:"After which ends of these it runs"`
	Params    map[string]Any `json:"params,omitempty" doc:"Laid over the task's own; $.steps.load.output.total is replaced by what that step handed on"`
	State     string         `json:"state" enum:"pending,claimed,queued,waiting,running,retrying,succeeded,failed,timed_out,cancelled,crashed,lost,skipped,taken_over" doc:"pending: what it needs has not ended; then as a run's state, then its outcome; skipped: its condition did not come true, or its run was skipped; taken_over: its output is that of the run before"`
	RunID     string         `json:"run_id,omitempty" doc:"Its run; of a step taken over: the earlier run's"`
	Attempt   int            `json:"attempt,omitempty" doc:"The run's next or current attempt"`
	Gate      string         `json:"gate,omitempty" doc:"waiting: what its run waits at" example:"capacity"`
	GateKey   string         `json:"gate_key,omitempty" doc:"waiting: which one" example:"pool:erp"`
	StartedAt *Time          `json:"started_at,omitempty" doc:"When its run's last attempt began"`
	EndedAt   *Time          `json:"ended_at,omitempty" doc:"When its run ended"`
	Message   string         `json:"message,omitempty" doc:"What was said about its end"`
	Output    Any            `json:"output,omitempty" doc:"What it hands on"`
}

// RerunRequest says what of a workflow run is done again.
type RerunRequest struct {
	From []string `json:"from,omitempty" maxItems:"1000" doc:"Steps to run again, with all that need them; absent: those that did not succeed. What succeeded besides is taken over" example:"[\"load\"]"`
	Note string   `json:"note,omitempty" doc:"Why; kept with the run" example:"the disk is free again" maxLength:"1024"`
}

func (a *API) workflows() {
	tags := []string{"runs"}
	register(a, huma.Operation{
		OperationID: "get-workflow", Method: http.MethodGet, Path: "/v1/runs/{run_id}/workflow", Tags: tags,
		Summary: "Get the graph of a workflow run with the state of its steps",
	}, rule{permission: "run:read", source: fromRun},
		func(ctx context.Context, _ *RunPath) (*struct{ Body Workflow }, error) {
			run := requestOf(ctx).run
			steps, err := a.opts.Workflows.Steps(ctx, run)
			if err != nil {
				return nil, err
			}
			w := Workflow{Run: runOut(run), State: cmp.Or(string(run.Verdict), string(run.State)), Steps: append([]Step{}, steps...)}
			for i := range w.Steps {
				w.Steps[i].Needs = append([]string{}, w.Steps[i].Needs...)
			}
			return &struct{ Body Workflow }{w}, nil
		})
	register(a, huma.Operation{
		OperationID: "rerun-workflow", Method: http.MethodPost, Path: "/v1/runs/{run_id}/rerun", Tags: tags,
		Summary:       "Run an ended workflow run again from the steps that did not succeed, as a run of its own",
		DefaultStatus: http.StatusAccepted,
	}, rule{permission: "task:run", source: fromRun, changes: true},
		func(ctx context.Context, in *struct {
			RunPath
			Body *RerunRequest
		}) (*runStarted, error) {
			req := requestOf(ctx)
			body := RerunRequest{}
			if in.Body != nil {
				body = *in.Body
			}
			run, err := a.opts.Workflows.Rerun(ctx, req.run, body.From, body.Note, req.principal.String())
			if err != nil {
				return nil, moved(err, trimmed("params.resume.")) // where the wish stands in the run's own parameters
			}
			return started(run), nil
		})
}
