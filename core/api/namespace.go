package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Namespace is one business system.
type Namespace struct {
	Name        string         `json:"name" doc:"Starts with an upper-case letter, then letters and digits" example:"ImageArchive"`
	Title       Text           `json:"title" doc:"Shown to people"`
	Description string         `json:"description" doc:"What it is"`
	CreatedAt   *Time          `json:"created_at,omitempty" doc:"When it was created"`
	Defaults    Policies       `json:"defaults" doc:"What its tasks follow where they say nothing else"`
	MaxRunning  int            `json:"max_running" doc:"Runs of the namespace at once; 0: no limit"`
	TypeLimits  map[string]int `json:"type_limits" doc:"Runs of one task type at once, by the type's name"`
	Retention   Retention      `json:"retention" doc:"How long its history is kept; what is absent takes the default"`
	Kept        Retention      `json:"effective_retention" readOnly:"true" doc:"How long its history is kept, defaults filled in"`
	Warnings    []Text         `json:"warnings" readOnly:"true" doc:"What is allowed and may not be what was meant: a limit of a task type that nobody offers"`
}

// Retention is how long history is kept. Days are counted from the nominal instant, or from when it happened if that is later,
// as in a backfill; what is gone is gone in whole days, of runs in whole months.
type Retention struct {
	Runs    string `json:"runs,omitempty" doc:"Fires, runs and attempts, and the messages of errors by day and of breakers: days, or forever; absent: forever" pattern:"^([1-9][0-9]{0,4}d|forever)$" patternDescription:"days: 90d, or forever" example:"730d"`
	Lines   string `json:"lines,omitempty" doc:"Log lines: days, or forever; absent: 90d" pattern:"^([1-9][0-9]{0,4}d|forever)$" patternDescription:"days: 90d, or forever" example:"90d"`
	Samples string `json:"samples,omitempty" doc:"Samples of runs and Lua workers: days, or forever; absent: 30d" pattern:"^([1-9][0-9]{0,4}d|forever)$" patternDescription:"days: 90d, or forever" example:"30d"`
	Fine    string `json:"fine,omitempty" doc:"Of these, how long samples stay as they were measured, every second or so; then one row stands for five minutes. Days, at least 8d, or forever; absent: 14d" pattern:"^([1-9][0-9]{0,4}d|forever)$" patternDescription:"days: 90d, or forever" example:"14d"`
}

func retentionOut(r core.Retention) Retention {
	return Retention{Runs: days(r.RunsDays), Lines: days(r.LinesDays), Samples: days(r.SamplesDays), Fine: days(r.FineDays)}
}

func days(n int) string {
	switch n {
	case 0:
		return ""
	case core.KeepForever:
		return "forever"
	}
	return strconv.Itoa(n) + "d"
}

// retention reads one; its form was checked by the schema.
func (r *Retention) retention() core.Retention {
	if r == nil {
		return core.Retention{}
	}
	read := func(text string) int {
		if text == "forever" {
			return core.KeepForever
		}
		n, _ := strconv.Atoi(strings.TrimSuffix(text, "d"))
		return n
	}
	return core.Retention{RunsDays: read(r.Runs), LinesDays: read(r.Lines), SamplesDays: read(r.Samples), FineDays: read(r.Fine)}
}

// NamespaceInput is what can be said about a namespace. What is left out takes its default.
type NamespaceInput struct {
	Title       *Text          `json:"title,omitempty" doc:"Shown to people"`
	Description string         `json:"description,omitempty" doc:"What it is" maxLength:"16384"`
	Defaults    *Policies      `json:"defaults,omitempty" doc:"What its tasks follow where they say nothing else"`
	MaxRunning  int            `json:"max_running,omitempty" minimum:"0" maximum:"100000" doc:"Runs of the namespace at once; absent: no limit" example:"20"`
	TypeLimits  map[string]int `json:"type_limits,omitempty" doc:"Runs of one task type at once, by the type's name" example:"{\"Common.SendMail\":2}"`
	Retention   *Retention     `json:"retention,omitempty" doc:"How long its history is kept"`
}

// namespaceSaid gives what can be said about a namespace, as it is now.
func namespaceSaid(n core.Namespace) NamespaceInput {
	out := namespaceOut(n)
	return NamespaceInput{
		Title: &out.Title, Description: out.Description, Defaults: &out.Defaults, MaxRunning: out.MaxRunning, TypeLimits: n.TypeLimits,
		Retention: &out.Retention,
	}
}

func namespaceOut(n core.Namespace) Namespace {
	out := Namespace{
		Name: n.Name, Title: text(n.Title), Description: n.Description, CreatedAt: instant(n.CreatedAt), Defaults: policiesOut(n.Defaults),
		MaxRunning: n.MaxRunning, TypeLimits: n.TypeLimits, Retention: retentionOut(n.Retention), Kept: retentionOut(n.Retention.OrDefault()),
		Warnings: []Text{},
	}
	if out.TypeLimits == nil {
		out.TypeLimits = map[string]int{}
	}
	return out
}

// NamespacePath names a namespace in a path. (Exported, as huma fills in only exported fields.)
type NamespacePath struct {
	Namespace string `path:"namespace" doc:"Name of the namespace" maxLength:"64"`
}

type namespaceOne struct {
	ETag string `header:"ETag" doc:"Changes with the namespace"`
	Body Namespace
}

// namespaceNow gives a namespace with what may be wrong with it.
func (a *API) namespaceNow(n core.Namespace) Namespace {
	out := namespaceOut(n)
	out.Warnings = textsOut(a.opts.Definitions.NamespaceWarnings(n))
	return out
}

func (a *API) oneNamespace(n core.Namespace) *namespaceOne {
	return &namespaceOne{ETag: digest(namespaceOut(n)), Body: a.namespaceNow(n)}
}

func (a *API) namespaces() {
	register(a, huma.Operation{
		OperationID: "list-namespaces", Method: http.MethodGet, Path: "/v1/namespaces", Tags: []string{"namespaces"},
		Summary: "List the namespaces the caller may see",
	}, rule{permission: "namespace:read", source: fromGrants},
		func(ctx context.Context, _ *struct{}) (*listed[Namespace], error) {
			all, err := a.opts.Definitions.Namespaces(ctx)
			if err != nil {
				return nil, err
			}
			var seen []Namespace
			for _, n := range all {
				if requestOf(ctx).principal.Can("namespace:read", n.Name) {
					seen = append(seen, a.namespaceNow(n))
				}
			}
			return list(seen), nil
		})
	register(a, huma.Operation{
		OperationID: "get-namespace", Method: http.MethodGet, Path: "/v1/namespaces/{namespace}", Tags: []string{"namespaces"},
		Summary: "Get a namespace",
	}, rule{permission: "namespace:read", source: fromPath},
		func(ctx context.Context, in *NamespacePath) (*namespaceOne, error) {
			n, err := a.opts.Definitions.Namespace(ctx, in.Namespace)
			if err != nil {
				return nil, err
			}
			return a.oneNamespace(n), nil
		})
	register(a, huma.Operation{
		OperationID: "put-namespace", Method: http.MethodPut, Path: "/v1/namespaces/{namespace}", Tags: []string{"namespaces"},
		Summary: "Create a namespace, or make it what is said here: title, default policies, limits, retention",
	}, rule{permission: "namespace:write", source: fromPath, changes: true},
		func(ctx context.Context, in *struct {
			NamespacePath
			Match
			Body NamespaceInput
		}) (*namespaceOne, error) {
			if in.IfMatch != "" {
				old, err := a.opts.Definitions.Namespace(ctx, in.Namespace)
				if err != nil && core.KindOf(err) != core.KindNotFound {
					return nil, err
				}
				if tag := digest(namespaceOut(old)); err != nil || !in.names(tag) {
					return nil, core.Refuse(core.KindStale, "put namespace "+in.Namespace, core.Text{Zh: "命名空间 " + in.Namespace + " 已被修改；请重新读取后再改", En: "it has changed meanwhile; read it again"})
				}
			}
			stored, err := a.putNamespace(ctx, in.Namespace, in.Body)
			if err != nil {
				return nil, nameIsNamespace(err)
			}
			return a.oneNamespace(stored), nil
		})
}

// putNamespace makes the namespace of a name what is said.
func (a *API) putNamespace(ctx context.Context, name string, in NamespaceInput) (core.Namespace, error) {
	var findings []core.Finding
	n := core.Namespace{
		Name: name, Description: in.Description, Defaults: in.Defaults.policies("defaults", &findings),
		MaxRunning: in.MaxRunning, TypeLimits: in.TypeLimits, Retention: in.Retention.retention(),
	}
	if len(findings) > 0 {
		return core.Namespace{}, core.Invalid("put namespace "+name, findings...)
	}
	if t := in.Title; t != nil {
		n.Title = core.Text{Zh: t.Zh, En: t.En}
	}
	return a.opts.Definitions.PutNamespace(ctx, n)
}

// nameIsNamespace moves findings about a namespace's name to where it stands in the request: the path.
func nameIsNamespace(err error) error {
	return moved(err, func(path string) string {
		if path == "name" {
			return "namespace"
		}
		return path
	})
}
