package definition

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/google/uuid"
)

// Rehearsal gives definitions as they are now, which may be changed without anything being stored or announced: what is put
// there is judged by what was put there before, and gone when it is forgotten. It is for one caller and one question.
func (d *Definitions) Rehearsal(ctx context.Context) (*Definitions, error) {
	opts := d.opts
	opts.Store = &rehearsal{
		Store: d.opts.Store, namespaces: map[string]core.Namespace{}, resources: map[[2]string]core.Resource{}, tasks: map[string]core.Task{}, ids: map[taskKey]string{},
	}
	opts.Announce, opts.Changed, opts.Log = func(core.Task, bool) {}, nil, slog.New(slog.DiscardHandler)
	r := New(opts)
	return r, r.Start(ctx)
}

// Suppose has something be there, whatever it is, unless there is one of that name already: in a rehearsal only.
func (d *Definitions) Suppose(ctx context.Context, kind, namespace, name string) error {
	r, ok := d.opts.Store.(*rehearsal)
	if !ok {
		return core.Errorf(core.KindInternal, "suppose "+kind+" "+name, "this is no rehearsal")
	}
	var err error
	switch kind {
	case "namespace":
		if _, err = r.Namespace(ctx, name); core.KindOf(err) == core.KindNotFound {
			err = r.PutNamespace(ctx, core.Namespace{Name: name})
		}
	case "task":
		if _, err = r.TaskByName(ctx, namespace, name); core.KindOf(err) == core.KindNotFound {
			_, err = r.CreateTask(ctx, core.Task{ID: uuid.Must(uuid.NewV7()).String(), Namespace: namespace, Name: name})
		}
	default:
		if kind == kindCalendar && builtIn(name) || len(checkResourceName(name)) > 0 { // nothing can be of that name
			return nil
		}
		if _, err = r.Resource(ctx, kind, name); core.KindOf(err) != core.KindNotFound {
			break
		}
		doc, wrong := json.Marshal(map[string]any{
			kindCalendar:   core.Calendar{Name: name, Weekdays: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}},
			kindPool:       core.Pool{Name: name, Slots: maxSlots},
			kindDownstream: core.Downstream{Name: name, Failures: 1, Cooldown: time.Minute},
		}[kind])
		if wrong != nil {
			return core.Errorf(core.KindInternal, "suppose "+kind+" "+name, "%w", wrong)
		}
		_, err = r.PutResource(ctx, core.Resource{Kind: kind, Name: name, Doc: doc})
	}
	if err != nil {
		return err
	}
	return d.Refresh(ctx)
}

// rehearsal is a store that keeps to itself what is put there, and lays it over what the real one has.
type rehearsal struct {
	Store
	namespaces map[string]core.Namespace
	resources  map[[2]string]core.Resource // by kind and name
	tasks      map[string]core.Task        // by id
	ids        map[taskKey]string          // of these
}

var errRehearsed = core.Errorf(core.KindInternal, "rehearse", "a rehearsal removes nothing")

// DeleteTask is refused, lest it reach the real store.
func (*rehearsal) DeleteTask(context.Context, string, ...core.Run) error { return errRehearsed }

// DeleteResource is refused as well.
func (*rehearsal) DeleteResource(context.Context, string, string) error { return errRehearsed }

func (r *rehearsal) PutNamespace(_ context.Context, ns core.Namespace) error {
	r.namespaces[ns.Name] = ns
	return nil
}

func (r *rehearsal) Namespace(ctx context.Context, name string) (core.Namespace, error) {
	if ns, ok := r.namespaces[name]; ok {
		return ns, nil
	}
	return r.Store.Namespace(ctx, name)
}

func (r *rehearsal) Namespaces(ctx context.Context) ([]core.Namespace, error) {
	list, err := r.Store.Namespaces(ctx)
	return laid(list, maps.Values(r.namespaces), func(ns core.Namespace) string { return ns.Name }), err
}

func (r *rehearsal) CreateTask(_ context.Context, task core.Task) (core.Task, error) {
	task.Version = 1
	return r.keep(task), nil
}

func (r *rehearsal) UpdateTask(_ context.Context, task core.Task, _ ...core.Run) (core.Task, error) {
	task.Version++
	return r.keep(task), nil
}

func (r *rehearsal) keep(task core.Task) core.Task {
	r.tasks[task.ID], r.ids[taskKey{task.Namespace, task.Name}] = task, task.ID
	return task
}

func (r *rehearsal) Task(ctx context.Context, id string) (core.Task, error) {
	if t, ok := r.tasks[id]; ok {
		return t, nil
	}
	return r.Store.Task(ctx, id)
}

func (r *rehearsal) TaskByName(ctx context.Context, namespace, name string) (core.Task, error) {
	if id, ok := r.ids[taskKey{namespace, name}]; ok {
		return r.tasks[id], nil
	}
	return r.Store.TaskByName(ctx, namespace, name)
}

// Tasks lays what was put here over a page of the real store, as far as it is of the namespaces asked for: enough for whoever
// looks for names.
func (r *rehearsal) Tasks(ctx context.Context, filter core.TaskFilter) ([]core.Task, error) {
	list, err := r.Store.Tasks(ctx, filter)
	var own []core.Task
	for _, t := range r.tasks {
		if filter.Namespaces == nil || slices.Contains(filter.Namespaces, t.Namespace) {
			own = append(own, t)
		}
	}
	return laid(list, slices.Values(own), func(t core.Task) string { return t.ID }), err
}

func (r *rehearsal) Definitions(ctx context.Context, ids []string) ([]core.Task, map[string]error, error) {
	var real []string
	var own []core.Task
	for _, id := range ids {
		if t, ok := r.tasks[id]; ok {
			own = append(own, t)
		} else {
			real = append(real, id)
		}
	}
	list, problems, err := r.Store.Definitions(ctx, real)
	return append(list, own...), problems, err
}

func (r *rehearsal) PutResource(_ context.Context, res core.Resource) (core.Resource, error) {
	res.Version++
	r.resources[[2]string{res.Kind, res.Name}] = res
	return res, nil
}

func (r *rehearsal) Resource(ctx context.Context, kind, name string) (core.Resource, error) {
	if res, ok := r.resources[[2]string{kind, name}]; ok {
		return res, nil
	}
	return r.Store.Resource(ctx, kind, name)
}

func (r *rehearsal) Resources(ctx context.Context, kind string) ([]core.Resource, error) {
	list, err := r.Store.Resources(ctx, kind)
	var own []core.Resource
	for _, res := range r.resources {
		if res.Kind == kind {
			own = append(own, res)
		}
	}
	return laid(list, slices.Values(own), func(res core.Resource) string { return res.Name }), err
}

func (r *rehearsal) References(ctx context.Context, kind, name string) ([]core.Reference, error) {
	list, err := r.Store.References(ctx, kind, name)
	return r.referring(list, func(ref core.Reference) bool { return ref.Kind == kind && ref.Name == name }), err
}

func (r *rehearsal) AllReferences(ctx context.Context, kinds ...string) ([]core.Reference, error) {
	list, err := r.Store.AllReferences(ctx, kinds...)
	return r.referring(list, func(ref core.Reference) bool { return len(kinds) == 0 || slices.Contains(kinds, ref.Kind) }), err
}

// referring replaces the references of the tasks that were put here.
func (r *rehearsal) referring(list []core.Reference, meant func(core.Reference) bool) []core.Reference {
	list = slices.DeleteFunc(list, func(ref core.Reference) bool { _, ok := r.tasks[ref.TaskID]; return ok })
	for _, id := range names(r.tasks) {
		t := r.tasks[id]
		for _, ref := range t.References() {
			if meant(ref) {
				list = append(list, ref)
			}
		}
	}
	return list
}

// laid lays things over a list of others, by what they are known by, and gives them in that order.
func laid[T any](list []T, over func(yield func(T) bool), key func(T) string) []T {
	all := make(map[string]T, len(list))
	for _, one := range list {
		all[key(one)] = one
	}
	for one := range over {
		all[key(one)] = one
	}
	return slices.SortedFunc(maps.Values(all), func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}
