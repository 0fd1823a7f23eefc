package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
	"github.com/huandu/go-sqlbuilder"
)

func interventionOf(r *sqlcgen.Intervention) core.Intervention {
	return core.Intervention{RunID: r.RunID, TaskID: r.TaskID, Namespace: r.Namespace, TaskName: r.TaskName, TaskType: r.TaskType,
		FireAt: instant(r.FireAt), Params: document(r.Params), Verdict: core.Verdict(r.Verdict), Message: r.Message, Attempts: int(r.Attempts),
		WorkflowID: r.WorkflowID, Step: r.Step, CreatedAt: instant(r.CreatedAt), ResolvedAt: instant(r.ResolvedAt), Action: r.Action,
		Note: r.Note, By: r.ResolvedBy, NewRun: r.NewRun}
}

// Interventions gives the runs that wait for a person, or those that no longer do, newest run first.
func (s *Store) Interventions(ctx context.Context, f core.InterventionFilter) (list []core.Intervention, err error) {
	if f.Namespaces != nil && len(f.Namespaces) == 0 {
		return nil, nil
	}
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select("run_id", "task_id", "namespace", "task_name", "task_type", "fire_at", "params", "verdict", "message", "attempts",
		"workflow_id", "step", "created_at", "resolved_at", "action", "note", "resolved_by", "new_run").From("interventions")
	if f.Resolved {
		b.Where("resolved_at <> 0")
	} else {
		b.Where("resolved_at = 0") // in these words, so that the index interventions_open is used
	}
	if f.Namespaces != nil {
		b.Where(b.In("namespace", sqlbuilder.List(f.Namespaces)))
	}
	if f.TaskID != "" {
		b.Where(b.Equal("task_id", f.TaskID))
	}
	if f.BeforeID != "" {
		b.Where(b.LessThan("run_id", f.BeforeID))
	}
	b.OrderByDesc("run_id").Limit(page(f.Limit))
	text, args := b.Build()
	err = s.look(ctx, "list interventions", func(ctx context.Context) (err error) {
		list = list[:0]
		rows, err := s.read.QueryContext(ctx, text, args...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			var r sqlcgen.Intervention
			if err := rows.Scan(&r.RunID, &r.TaskID, &r.Namespace, &r.TaskName, &r.TaskType, &r.FireAt, &r.Params, &r.Verdict, &r.Message,
				&r.Attempts, &r.WorkflowID, &r.Step, &r.CreatedAt, &r.ResolvedAt, &r.Action, &r.Note, &r.ResolvedBy, &r.NewRun); err != nil {
				return err
			}
			list = append(list, interventionOf(&r))
		}
		return rows.Err()
	})
	return list, err
}

// Intervention gives one intervention, or KindNotFound.
func (s *Store) Intervention(ctx context.Context, runID string) (core.Intervention, error) {
	op := "read intervention of run " + runID
	var row sqlcgen.Intervention
	err := s.look(ctx, op, func(ctx context.Context) (err error) {
		row, err = s.q.ReadIntervention(ctx, runID)
		return err
	})
	if notFound(err) {
		return core.Intervention{}, core.Refuse(core.KindNotFound, op, core.Text{Zh: "运行 " + runID + " 没有等待人工处理", En: "no person was asked about this run"})
	}
	return interventionOf(&row), err
}

// ResolveIntervention keeps what a person decided about a run. With again, the run that tries it again is enqueued in
// the same transaction, as Enqueue does, and given as it is stored. It fails with KindNotFound if there is no such
// intervention, or again's task is gone, and with KindConflict if it is resolved already.
func (s *Store) ResolveIntervention(ctx context.Context, runID string, action, note, by string, at time.Time, again *core.Run) (core.Intervention, core.Run, error) {
	op := "resolve intervention of run " + runID
	var tasks []string
	if again != nil {
		tasks = []string{again.TaskID}
	}
	var made core.Run
	var row sqlcgen.Intervention
	err := s.alter(ctx, op, tasks, func(ctx context.Context, t session) error {
		q := t.queries()
		var err error
		if row, err = q.ReadIntervention(ctx, runID); notFound(err) {
			return core.Refuse(core.KindNotFound, op, core.Text{Zh: "运行 " + runID + " 没有等待人工处理", En: "no person was asked about this run"})
		} else if err != nil {
			return err
		}
		counts, err := countsOf(ctx, t, op, tasks)
		if err != nil {
			return err
		}
		// In this statement it is seen whether another server was quicker: the row is locked from here on.
		resolved, err := q.ResolveIntervention(ctx, sqlcgen.ResolveInterventionParams{RunID: runID, ResolvedAt: micros(at), Action: clean(action),
			Note: clean(note), ResolvedBy: clean(by)})
		if err != nil {
			return err
		}
		if resolved == 0 {
			return core.Refuse(core.KindConflict, op, core.Text{Zh: fmt.Sprintf("运行 %s 已由 %s 处理：%s", runID, row.ResolvedBy, row.Action), En: fmt.Sprintf("it is resolved already: %s, by %s", row.Action, row.ResolvedBy)})
		}
		if again != nil {
			stored, err := enqueue(ctx, t, op, []core.Run{*again}, counts)
			if err != nil {
				return err
			}
			made = stored[0]
			if err := q.SetNewRun(ctx, runID, made.ID); err != nil {
				return err
			}
		}
		row, err = q.ReadIntervention(ctx, runID)
		return err
	})
	if err != nil {
		return core.Intervention{}, core.Run{}, err
	}
	return interventionOf(&row), made, nil
}
