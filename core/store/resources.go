package store

import (
	"context"
	"fmt"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

func resourceOf(r *sqlcgen.Resource) core.Resource {
	return core.Resource{Kind: r.Kind, Name: r.Name, Version: r.Version, Doc: document(r.Doc), UpdatedAt: instant(r.UpdatedAt), UpdatedBy: r.UpdatedBy}
}

func noResource(op, kind, name string) error {
	return core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有" + core.ResourceInChinese(kind, name), En: "no such " + kind})
}

func resourceOp(verb, kind, name string) string { return fmt.Sprintf("%s %s %q", verb, kind, name) }

// PutResource stores a resource and gives it with its new version. With Version 0 it is created or replaced; any other
// must be the stored one's, else it fails with KindStale.
func (s *Store) PutResource(ctx context.Context, r core.Resource) (core.Resource, error) {
	op := resourceOp("put", r.Kind, r.Name)
	if r.UpdatedAt.IsZero() {
		r.UpdatedAt = s.clock.Now()
	}
	r.UpdatedAt = instant(micros(r.UpdatedAt))
	seen := r.Version
	err := s.change(ctx, op, nil, func(ctx context.Context, q *sqlcgen.Queries) error {
		// On PostgreSQL two servers that see the same version are told apart by the row's lock.
		stored, err := q.HoldResource(ctx, r.Kind, r.Name)
		if err != nil && !notFound(err) {
			return err
		}
		if seen != 0 && stored != seen {
			return core.Refuse(core.KindStale, op, core.Text{
				Zh: fmt.Sprintf("%s 现在是版本 %d，而读到的是版本 %d；请重新读取后再改", core.ResourceInChinese(r.Kind, r.Name), stored, seen),
				En: fmt.Sprintf("version %d was seen, but version %d is stored; read it again and repeat the change", seen, stored),
			})
		}
		r.Version, err = q.PutResource(ctx, sqlcgen.PutResourceParams{Kind: clean(r.Kind), Name: clean(r.Name), Doc: clean(r.Doc),
			UpdatedAt: micros(r.UpdatedAt), UpdatedBy: clean(r.UpdatedBy)})
		return err
	})
	if err != nil {
		return core.Resource{}, err
	}
	return r, nil
}

// Resource gives one resource, or KindNotFound.
func (s *Store) Resource(ctx context.Context, kind, name string) (core.Resource, error) {
	op := resourceOp("read", kind, name)
	var row sqlcgen.Resource
	err := s.look(ctx, op, func(ctx context.Context) (err error) {
		row, err = s.q.ReadResource(ctx, kind, name)
		return err
	})
	if notFound(err) {
		return core.Resource{}, noResource(op, kind, name)
	}
	return resourceOf(&row), err
}

// Resources gives all resources of a kind, by name.
func (s *Store) Resources(ctx context.Context, kind string) ([]core.Resource, error) {
	var rows []sqlcgen.Resource
	err := s.look(ctx, "list resources of kind "+kind, func(ctx context.Context) (err error) {
		rows, err = s.q.ResourcesOfKind(ctx, kind)
		return err
	})
	list := make([]core.Resource, len(rows))
	for i := range rows {
		list[i] = resourceOf(&rows[i])
	}
	return list, err
}

// DeleteResource removes a resource, or fails with KindNotFound. Whether tasks name it is the caller's to ask.
func (s *Store) DeleteResource(ctx context.Context, kind, name string) error {
	op := resourceOp("delete", kind, name)
	return s.change(ctx, op, nil, func(ctx context.Context, q *sqlcgen.Queries) error {
		gone, err := q.DeleteResource(ctx, kind, name)
		if err == nil && gone == 0 {
			return noResource(op, kind, name)
		}
		return err
	})
}

// insertRefs keeps what tasks name.
func insertRefs(ctx context.Context, s session, tasks []core.Task) error {
	var refs []core.Reference
	for i := range tasks {
		refs = append(refs, tasks[i].References()...)
	}
	return s.many(ctx, insertRef, len(refs), func(i int, args []any) []any {
		return append(args, refs[i].TaskID, refs[i].Kind, clean(refs[i].Name))
	}, nil)
}

// References gives the tasks, of any namespace, that name something: kind is as of core.Reference. A task named by upstream,
// step or asked_task is one of the naming task's namespace.
func (s *Store) References(ctx context.Context, kind, name string) ([]core.Reference, error) {
	var rows []sqlcgen.ReferencesRow
	err := s.look(ctx, resourceOp("list references to", kind, name), func(ctx context.Context) (err error) {
		rows, err = s.q.References(ctx, kind, name)
		return err
	})
	list := make([]core.Reference, len(rows))
	for i, r := range rows {
		list[i] = core.Reference(r)
	}
	return list, err
}

// AllReferences gives all references of the kinds given, by kind in the order asked, then by name; without kinds, all.
func (s *Store) AllReferences(ctx context.Context, kinds ...string) ([]core.Reference, error) {
	if len(kinds) == 0 {
		kinds = []string{core.RefUpstream, core.RefStep, core.RefCalendar, core.RefPool, core.RefDownstream, core.RefAskedTask, core.RefAskedCalendar}
	}
	var list []core.Reference
	for _, kind := range kinds {
		var rows []sqlcgen.ReferencesOfKindRow
		err := s.look(ctx, "list references of kind "+kind, func(ctx context.Context) (err error) {
			rows, err = s.q.ReferencesOfKind(ctx, kind)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			list = append(list, core.Reference(r))
		}
	}
	return list, nil
}
