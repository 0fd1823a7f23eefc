package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Kept says how something that all namespaces share is kept.
type Kept struct {
	Version   int64  `json:"version" doc:"Rises with every change; also the ETag; 0: every installation has it, and nobody changes it"`
	UpdatedAt *Time  `json:"updated_at,omitempty" doc:"When it was last changed"`
	UpdatedBy string `json:"updated_by,omitempty" doc:"Who changed it" example:"wang"`
}

func kept[T any](h core.Held[T]) Kept {
	return Kept{Version: h.Version, UpdatedAt: instant(h.UpdatedAt), UpdatedBy: h.UpdatedBy}
}

// setting is one kind of thing that all namespaces share: how it is kept, and how it crosses the API.
type setting[T, In, Out any] struct {
	one, many string // "pool", "pools": in paths, names of operations and summaries
	what      string // what it is, for the summary of the list
	list      func(context.Context) ([]core.Held[T], error)
	get       func(ctx context.Context, name string) (core.Held[T], error)
	put       func(ctx context.Context, value T, version int64, by string) (core.Held[T], error)
	remove    func(ctx context.Context, name string, version int64, by string) error
	in        func(name string, in In, findings *[]core.Finding) T
	said      func(T) In // what in was made of
	out       func(context.Context, []core.Held[T]) ([]Out, error)
}

// NamePath names something that all namespaces share in a path.
type NamePath struct {
	Name string `path:"name" doc:"Its name" maxLength:"256"`
}

type settingOne[Out any] struct {
	Status   int
	ETag     string `header:"ETag" doc:"Its version"`
	Location string `header:"Location" doc:"Where it is"`
	Body     Out
}

// settings adds the operations that list, get, put and delete a kind. What all namespaces share anybody with a namespace
// may read; to change it takes a grant for all of them.
func settings[T, In, Out any](a *API, s setting[T, In, Out]) {
	tags := []string{s.many}
	path := "/v1/" + s.many
	read := rule{permission: "settings:read", source: fromGrants}
	write := rule{permission: "settings:write", source: fromServer, changes: true}
	one := func(ctx context.Context, h core.Held[T], status int, name string) (*settingOne[Out], error) {
		list, err := s.out(ctx, []core.Held[T]{h})
		if err != nil {
			return nil, err
		}
		return &settingOne[Out]{Status: status, ETag: etag(h.Version), Location: path + "/" + url.PathEscape(name), Body: list[0]}, nil
	}
	register(a, huma.Operation{
		OperationID: "list-" + s.many, Method: http.MethodGet, Path: path, Tags: tags, Summary: "List " + s.what + ", by name",
	}, read,
		func(ctx context.Context, _ *struct{}) (*listed[Out], error) {
			held, err := s.list(ctx)
			if err != nil {
				return nil, err
			}
			items, err := s.out(ctx, held)
			return list(items), err
		})
	register(a, huma.Operation{
		OperationID: "get-" + s.one, Method: http.MethodGet, Path: path + "/{name}", Tags: tags, Summary: "Get a " + s.one,
	}, read,
		func(ctx context.Context, in *NamePath) (*settingOne[Out], error) {
			h, err := s.get(ctx, in.Name)
			if err != nil {
				return nil, err
			}
			return one(ctx, h, http.StatusOK, in.Name)
		})
	register(a, huma.Operation{
		OperationID: "put-" + s.one, Method: http.MethodPut, Path: path + "/{name}", Tags: tags,
		Summary: "Create a " + s.one + ", or make it what is said here; doing it twice changes nothing more",
	}, write,
		func(ctx context.Context, in *struct {
			NamePath
			Match
			IfNoneMatch string `header:"If-None-Match" enum:"*" doc:"*: only if there is none of that name yet"`
			Body        In
		}) (*settingOne[Out], error) {
			h, status, err := s.store(ctx, in.Name, in.Body, in.Match, in.IfNoneMatch != "")
			if err != nil {
				return nil, err
			}
			return one(ctx, h, status, in.Name)
		})
	register(a, huma.Operation{
		OperationID: "delete-" + s.one, Method: http.MethodDelete, Path: path + "/{name}", Tags: tags,
		Summary: "Delete a " + s.one + " that nothing names", DefaultStatus: http.StatusNoContent,
	}, write,
		func(ctx context.Context, in *struct {
			NamePath
			Match
		}) (*struct{}, error) {
			version := int64(core.AnyVersion)
			if in.IfMatch != "" {
				old, err := s.get(ctx, in.Name)
				if err != nil {
					return nil, err
				}
				if err := in.matches(old.Version, "delete "+s.one+" "+in.Name); err != nil {
					return nil, err
				}
				version = old.Version
			}
			return nil, s.remove(ctx, in.Name, version, requestOf(ctx).principal.String())
		})
}

// store makes the thing of a name what is said, and gives it as it is then kept. Nothing is written if nothing would change.
func (s setting[T, In, Out]) store(ctx context.Context, name string, in In, match Match, onlyNew bool) (h core.Held[T], status int, err error) {
	op := "put " + s.one + " " + name
	var findings []core.Finding
	value := s.in(name, in, &findings)
	if len(findings) > 0 {
		return h, 0, core.Invalid(op, findings...)
	}
	old, err := s.get(ctx, name)
	fresh := core.KindOf(err) == core.KindNotFound && err != nil
	version, status := int64(core.AnyVersion), http.StatusOK
	switch {
	case err != nil && !fresh:
		return h, 0, err
	case fresh && match.IfMatch != "":
		return h, 0, core.Refuse(core.KindStale, op, core.Text{Zh: name + " 已不存在", En: "there is none any more"})
	case !fresh && onlyNew:
		return h, 0, core.Refuse(core.KindStale, op, core.Text{Zh: fmt.Sprintf("%s 已存在，版本 %d", name, old.Version), En: fmt.Sprintf("there is one already, in version %d", old.Version)})
	case fresh:
		status = http.StatusCreated
	case match.IfMatch != "":
		version = old.Version
	}
	if onlyNew {
		version = 0
	}
	if err := match.matches(old.Version, op); err != nil && !fresh {
		return h, 0, err
	}
	if !fresh && alike(old.Value, value) {
		return old, http.StatusOK, nil
	}
	h, err = s.put(ctx, value, version, requestOf(ctx).principal.String())
	return h, status, err
}

// alike reports whether two values are the same when written.
func alike(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}
