package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

// namespaceDoc is what a namespace says beyond its name. Fields are only ever added to it.
type namespaceDoc struct {
	Defaults   policyDoc      `json:"defaults,omitzero"`
	MaxRunning int            `json:"max_running,omitempty"`
	TypeLimits map[string]int `json:"type_limits,omitempty"`
	Retention  retentionDoc   `json:"retention,omitzero"`
}

// retentionDoc is core.Retention as it is stored.
type retentionDoc struct {
	RunsDays    int `json:"runs_days,omitempty"`
	LinesDays   int `json:"lines_days,omitempty"`
	SamplesDays int `json:"samples_days,omitempty"`
	FineDays    int `json:"fine_days,omitempty"`
}

// PutNamespace creates a namespace, or changes all but the creation time of the one of that name.
func (s *Store) PutNamespace(ctx context.Context, ns core.Namespace) error {
	op := fmt.Sprintf("put namespace %q", ns.Name)
	title, err := json.Marshal(ns.Title)
	if err != nil {
		return core.Errorf(core.KindInvalid, op, "%w", err)
	}
	doc, err := json.Marshal(namespaceDoc{Defaults: policyDoc(ns.Defaults), MaxRunning: ns.MaxRunning, TypeLimits: ns.TypeLimits, Retention: retentionDoc(ns.Retention)})
	if err != nil {
		return core.Errorf(core.KindInvalid, op, "%w", err)
	}
	if ns.CreatedAt.IsZero() {
		ns.CreatedAt = s.clock.Now()
	}
	return s.change(ctx, op, nil, func(ctx context.Context, q *sqlcgen.Queries) error {
		return q.PutNamespace(ctx, sqlcgen.PutNamespaceParams{Name: clean(ns.Name), Title: clean(title), Description: clean(ns.Description),
			CreatedAt: micros(ns.CreatedAt), Doc: clean(doc)})
	})
}

func (s *Store) namespaceOf(r sqlcgen.Namespace) core.Namespace {
	ns := core.Namespace{Name: r.Name, Description: r.Description, CreatedAt: instant(r.CreatedAt)}
	if err := json.Unmarshal([]byte(r.Title), &ns.Title); err != nil {
		ns.Title = core.Text{} // a title that cannot be read is only not shown
	}
	if r.Doc == "" {
		return ns
	}
	var doc namespaceDoc
	if err := json.Unmarshal([]byte(r.Doc), &doc); err != nil {
		s.log.Error("namespace's defaults and limits cannot be read: they do not hold", "namespace", r.Name, "err", err)
		return ns
	}
	ns.Defaults, ns.MaxRunning, ns.TypeLimits, ns.Retention = core.Policies(doc.Defaults), doc.MaxRunning, doc.TypeLimits, core.Retention(doc.Retention)
	return ns
}

// Namespace gives one namespace, or KindNotFound.
func (s *Store) Namespace(ctx context.Context, name string) (core.Namespace, error) {
	op := fmt.Sprintf("read namespace %q", name)
	var row sqlcgen.Namespace
	err := s.look(ctx, op, func(ctx context.Context) (err error) {
		row, err = s.q.ReadNamespace(ctx, name)
		return err
	})
	if notFound(err) {
		return core.Namespace{}, core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有命名空间 " + name, En: "no such namespace"})
	}
	return s.namespaceOf(row), err
}

// Namespaces gives all namespaces, by name.
func (s *Store) Namespaces(ctx context.Context) ([]core.Namespace, error) {
	var rows []sqlcgen.Namespace
	err := s.look(ctx, "list namespaces", func(ctx context.Context) (err error) {
		rows, err = s.q.Namespaces(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	list := make([]core.Namespace, len(rows))
	for i, r := range rows {
		list[i] = s.namespaceOf(r)
	}
	return list, nil
}

// DeleteNamespace removes a namespace. It fails with KindConflict while the namespace has tasks.
func (s *Store) DeleteNamespace(ctx context.Context, name string) error {
	op := fmt.Sprintf("delete namespace %q", name)
	return s.change(ctx, op, nil, func(ctx context.Context, q *sqlcgen.Queries) error {
		switch task, err := q.TaskOfNamespace(ctx, name); {
		case err == nil:
			return core.Refuse(core.KindConflict, op, core.Text{Zh: fmt.Sprintf("命名空间 %s 中还有任务（例如 %s）；请先删除它们", name, task), En: fmt.Sprintf("it still has tasks (%q for one); delete them first", task)})
		case !notFound(err):
			return err
		}
		gone, err := q.DeleteNamespace(ctx, name)
		if err == nil && gone == 0 {
			return core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有命名空间 " + name, En: "no such namespace"})
		}
		return err
	})
}
