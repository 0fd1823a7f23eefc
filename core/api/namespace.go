package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Namespace is one business system.
type Namespace struct {
	Name        string `json:"name" example:"ImageArchive"`
	Title       Text   `json:"title"`
	Description string `json:"description"`
	CreatedAt   *Time  `json:"created_at,omitempty"`
}

// NamespaceInput is what can be said about a namespace.
type NamespaceInput struct {
	Title       *Text  `json:"title,omitempty" doc:"Shown to people"`
	Description string `json:"description,omitempty"`
}

func namespaceOut(n core.Namespace) Namespace {
	return Namespace{Name: n.Name, Title: text(n.Title), Description: n.Description, CreatedAt: instant(n.CreatedAt)}
}

// NamespacePath names a namespace in a path. (Exported, as huma fills in only exported fields.)
type NamespacePath struct {
	Namespace string `path:"namespace" doc:"Name of the namespace" maxLength:"64"`
}

type namespaceList struct {
	Body struct {
		Items []Namespace `json:"items"`
	}
}

type namespaceOne struct {
	Body Namespace
}

func (a *API) namespaces() {
	register(a, huma.Operation{
		OperationID: "list-namespaces", Method: http.MethodGet, Path: "/v1/namespaces", Tags: []string{"namespaces"},
		Summary: "List the namespaces the caller may see",
	}, rule{permission: "namespace:read", source: fromGrants},
		func(ctx context.Context, _ *struct{}) (*namespaceList, error) {
			all, err := a.opts.Definitions.Namespaces(ctx)
			if err != nil {
				return nil, err
			}
			out := &namespaceList{}
			out.Body.Items = []Namespace{}
			for _, n := range all {
				if requestOf(ctx).principal.Can("namespace:read", n.Name) {
					out.Body.Items = append(out.Body.Items, namespaceOut(n))
				}
			}
			return out, nil
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
			return &namespaceOne{Body: namespaceOut(n)}, nil
		})
	register(a, huma.Operation{
		OperationID: "put-namespace", Method: http.MethodPut, Path: "/v1/namespaces/{namespace}", Tags: []string{"namespaces"},
		Summary: "Create a namespace, or change its title and description",
	}, rule{permission: "namespace:write", source: fromPath, changes: true},
		func(ctx context.Context, in *struct {
			NamespacePath
			Body NamespaceInput
		}) (*namespaceOne, error) {
			n := core.Namespace{Name: in.Namespace, Description: in.Body.Description}
			if t := in.Body.Title; t != nil {
				n.Title = core.Text{Zh: t.Zh, En: t.En}
			}
			stored, err := a.opts.Definitions.PutNamespace(ctx, n)
			if err != nil {
				return nil, nameIsNamespace(err)
			}
			return &namespaceOne{Body: namespaceOut(stored)}, nil
		})
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
