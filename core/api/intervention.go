package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Intervention is a run whose attempts are used up, put before a person.
type Intervention struct {
	RunID      string `json:"run_id" doc:"The run; also the intervention's id"`
	TaskID     string `json:"task_id" doc:"Its task"`
	Namespace  string `json:"namespace" doc:"The task's" example:"Common"`
	TaskName   string `json:"task_name" doc:"The task's" example:"nightly-load"`
	TaskType   string `json:"task_type" doc:"The task's" example:"Common.HTTPRequest"`
	FireAt     *Time  `json:"fire_at" doc:"The run's nominal instant"`
	Params     Object `json:"params" doc:"What it ran with"`
	Outcome    string `json:"outcome" enum:"failed,timed_out,crashed,lost" doc:"How its last attempt ended"`
	Message    string `json:"message" doc:"What was said about it"`
	Attempts   int    `json:"attempts" doc:"How often it was tried"`
	WorkflowID string `json:"workflow_id,omitempty" doc:"The workflow run it is a step of"`
	Step       string `json:"step,omitempty" doc:"Name of that step"`
	CreatedAt  *Time  `json:"created_at" doc:"When it was put before a person"`
	ResolvedAt *Time  `json:"resolved_at,omitempty" doc:"When somebody resolved it; absent: it is open"`
	Action     string `json:"action,omitempty" enum:"retry,skip,done" doc:"What was decided: it is tried again, it is left at that, or it was done by hand"`
	Note       string `json:"note,omitempty" doc:"Why"`
	By         string `json:"by,omitempty" doc:"Who decided"`
	NewRun     string `json:"new_run,omitempty" doc:"retry: the run that tries again"`
}

func interventionOut(i core.Intervention) Intervention {
	return Intervention{
		RunID: i.RunID, TaskID: i.TaskID, Namespace: i.Namespace, TaskName: i.TaskName, TaskType: i.TaskType, FireAt: instant(i.FireAt),
		Params: Object(i.Params), Outcome: string(i.Verdict), Message: i.Message, Attempts: i.Attempts, WorkflowID: i.WorkflowID,
		Step: i.Step, CreatedAt: instant(i.CreatedAt), ResolvedAt: instant(i.ResolvedAt), Action: i.Action, Note: i.Note, By: i.By, NewRun: i.NewRun,
	}
}

// NoteRequest says why something is done.
type NoteRequest struct {
	Note string `json:"note,omitempty" doc:"Why; kept with it" example:"loaded by hand from the backup" maxLength:"1024"`
}

// note gives the note of a body that may be absent.
func (n *NoteRequest) note() string {
	if n == nil {
		return ""
	}
	return n.Note
}

// RetryRequest is what may be other when a run is tried again.
type RetryRequest struct {
	Params Object `json:"params,omitempty" doc:"Laid over the run's parameters, key by key"`
	Note   string `json:"note,omitempty" doc:"Why; kept with it" example:"the disk is free again" maxLength:"1024"`
}

type interventionOne struct {
	Body Intervention
}

func (a *API) interventions() {
	tags := []string{"interventions"}
	register(a, huma.Operation{
		OperationID: "list-interventions", Method: http.MethodGet, Path: "/v1/interventions", Tags: tags,
		Summary: "List the runs that are put before a person, newest first",
	}, rule{permission: "run:read", source: fromGrants},
		func(ctx context.Context, in *struct {
			Namespace string `query:"namespace" doc:"Only of this namespace"`
			TaskID    string `query:"task_id" doc:"Only of this task" maxLength:"64"`
			Resolved  bool   `query:"resolved" doc:"The resolved ones instead of the open ones"`
			Cursor    string `query:"cursor" doc:"next_cursor of the page before" maxLength:"64"`
			Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most"`
		}) (*paged[Intervention], error) {
			out := page[Intervention]()
			filter := core.InterventionFilter{TaskID: in.TaskID, Resolved: in.Resolved, BeforeID: in.Cursor, Limit: in.Limit}
			var err error
			if filter.Namespaces, err = a.visible(ctx, "run:read", in.Namespace); err != nil {
				return nil, err
			}
			list, err := a.opts.Live.Interventions(ctx, filter)
			if err != nil {
				return nil, err
			}
			for _, i := range list {
				out.Body.Items = append(out.Body.Items, interventionOut(i))
			}
			if len(list) == in.Limit {
				out.Body.NextCursor = list[len(list)-1].RunID
			}
			return out, nil
		})
	register(a, huma.Operation{
		OperationID: "get-intervention", Method: http.MethodGet, Path: "/v1/interventions/{run_id}", Tags: tags,
		Summary: "Get an intervention",
	}, rule{permission: "run:read", source: fromIntervention},
		func(ctx context.Context, _ *RunPath) (*interventionOne, error) {
			return &interventionOne{interventionOut(requestOf(ctx).intervention)}, nil
		})
	decide := rule{permission: "run:intervene", source: fromIntervention, changes: true}
	register(a, huma.Operation{
		OperationID: "retry-intervention", Method: http.MethodPost, Path: "/v1/interventions/{run_id}/retry", Tags: tags,
		Summary: "Try the run again, with other parameters if need be", DefaultStatus: http.StatusAccepted,
	}, decide,
		func(ctx context.Context, in *struct {
			RunPath
			Body *RetryRequest
		}) (*runStarted, error) {
			req := requestOf(ctx)
			if err := open(req.intervention, "retry"); err != nil {
				return nil, err
			}
			body := RetryRequest{}
			if in.Body != nil {
				body = *in.Body
			}
			run, err := a.opts.Runner.Retry(ctx, req.intervention.RunID, json.RawMessage(body.Params), body.Note, req.principal.String())
			if err != nil {
				return nil, err
			}
			return started(run), nil
		})
	for _, to := range []struct{ action, summary string }{
		{"skip", "Leave it at that: the run stays failed and nobody is asked about it any more"},
		{"done", "Say that what the run should have done was done by hand"},
	} {
		register(a, huma.Operation{
			OperationID: to.action + "-intervention", Method: http.MethodPost, Path: "/v1/interventions/{run_id}/" + to.action, Tags: tags,
			Summary: to.summary,
		}, decide,
			func(ctx context.Context, in *struct {
				RunPath
				Body *NoteRequest
			}) (*interventionOne, error) {
				req := requestOf(ctx)
				if err := open(req.intervention, to.action); err != nil {
					return nil, err
				}
				i, err := a.opts.Runner.Resolve(ctx, req.intervention.RunID, to.action, in.Body.note(), req.principal.String())
				if err != nil {
					return nil, err
				}
				return &interventionOne{interventionOut(i)}, nil
			})
	}
}

// open refuses to resolve what is resolved.
func open(i core.Intervention, action string) error {
	if i.ResolvedAt.IsZero() {
		return nil
	}
	return core.Refuse(core.KindConflict, action+" intervention "+i.RunID, core.Text{Zh: fmt.Sprintf("运行 %s 已由 %s 处理：%s", i.RunID, i.By, i.Action), En: fmt.Sprintf("it is resolved already: %s by %s", i.Action, i.By)})
}
