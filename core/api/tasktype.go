package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// TaskType is something that can be run.
type TaskType struct {
	Name         string   `json:"name" doc:"Namespace.Type" example:"Common.KeepAlive"`
	Namespace    string   `json:"namespace" doc:"The part of the name before the dot" example:"Common"`
	Provider     string   `json:"provider" doc:"Who offers it" example:"plugin:common"`
	Version      string   `json:"version" doc:"The provider's version"`
	Title        Text     `json:"title" doc:"Shown to people"`
	Description  Text     `json:"description" doc:"What it does, in a sentence or two"`
	ParamsSchema Object   `json:"params_schema" doc:"JSON Schema 2020-12 of the parameters"`
	OutputSchema Object   `json:"output_schema,omitempty" doc:"JSON Schema 2020-12 of the output; absent: anything"`
	Needs        []string `json:"needs" doc:"What must be granted for it to run"`
	Timeout      string   `json:"timeout,omitempty" doc:"Default hard timeout of an attempt" example:"30s"`
	Problem      string   `json:"problem,omitempty" doc:"Why it cannot be run at present"`
}

func taskTypeOut(t core.TaskType) TaskType {
	out := TaskType{
		Name: t.Name, Namespace: t.Namespace(), Provider: t.Provider, Version: t.Version, Title: text(t.Title),
		Description: text(t.Description), ParamsSchema: Object(t.ParamsSchema), OutputSchema: Object(t.OutputSchema),
		Needs: t.Needs, Timeout: duration(t.Timeout), Problem: t.Problem,
	}
	if out.Needs == nil {
		out.Needs = []string{}
	}
	return out
}

func (a *API) taskTypes() {
	register(a, huma.Operation{
		OperationID: "list-task-types", Method: http.MethodGet, Path: "/v1/task-types", Tags: []string{"task types"},
		Summary: "List the task types of the namespaces the caller may see, and those every namespace may use",
	}, rule{permission: "type:read", source: fromGrants},
		func(ctx context.Context, in *struct {
			Namespace string `query:"namespace" doc:"Only what tasks of this namespace may use"`
		}) (*listed[TaskType], error) {
			namespaces, err := a.visible(ctx, "type:read", in.Namespace)
			if err != nil {
				return nil, err
			}
			var seen []TaskType
			for _, t := range a.opts.Catalog.Types(namespaces) {
				seen = append(seen, taskTypeOut(t))
			}
			return list(seen), nil
		})
	register(a, huma.Operation{
		OperationID: "get-task-type", Method: http.MethodGet, Path: "/v1/task-types/{type}", Tags: []string{"task types"},
		Summary: "Get a task type with the schema of its parameters",
	}, rule{permission: "type:read", source: fromType},
		func(_ context.Context, in *struct {
			Type string `path:"type" doc:"Namespace.Type" example:"Common.KeepAlive" maxLength:"200"`
		}) (*struct{ Body TaskType }, error) {
			t, ok := a.opts.Catalog.Type(in.Type)
			if !ok {
				return nil, core.Refuse(core.KindNotFound, "get task type "+in.Type, core.Text{Zh: "没有插件或脚本提供任务类型 " + in.Type, En: "no plugin and no script offers it"})
			}
			return &struct{ Body TaskType }{taskTypeOut(t)}, nil
		})
}
