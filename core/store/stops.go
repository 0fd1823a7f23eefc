package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
	"github.com/huandu/go-sqlbuilder"
)

// strength orders the ways to stop a run, as the query StopRun does.
var strength = map[core.Stop]int64{core.StopSupersede: 1, core.StopCancel: 2, core.StopTerminate: 3}

// RequestStop asks live runs to stop, on whatever server they are; the others of ids are left out. A stronger request
// takes the place of a weaker one: supersede, cancel, terminate. It holds until the run ends. It fails with
// KindNotFound if none of them is live.
func (s *Store) RequestStop(ctx context.Context, ids []string, how core.Stop, by string) error {
	op := fmt.Sprintf("ask %d runs to stop", len(ids))
	if strength[how] == 0 {
		return core.Errorf(core.KindInvalid, op, "there is no way to stop called %q", how)
	}
	if len(ids) == 0 {
		return nil
	}
	tasks, err := s.liveTasks(ctx, op, ids)
	if err != nil {
		return err
	}
	if len(tasks) == 0 {
		return core.Refuse(core.KindNotFound, op, core.Text{Zh: "要停止的运行都已结束", En: "none of them is live"})
	}
	return s.alter(ctx, op, tasks, func(ctx context.Context, t session) error {
		return t.many(ctx, stopRun, len(ids), func(i int, args []any) []any {
			return append(args, string(how), clean(by), ids[i], strength[how])
		}, nil)
	})
}

// StopRequests gives the live runs of a server that somebody asked to stop, by id.
func (s *Store) StopRequests(ctx context.Context, owner string) ([]core.StopRequest, error) {
	var rows []sqlcgen.StopRequestsRow
	err := s.look(ctx, "list stop requests", func(ctx context.Context) (err error) {
		rows, err = s.q.StopRequests(ctx, owner)
		return err
	})
	var list []core.StopRequest
	for _, r := range rows {
		list = append(list, core.StopRequest{RunID: r.ID, How: core.Stop(r.Stop), By: r.StopBy})
	}
	return list, err
}

// Breach notes service levels that a live run has missed; one that is noted already is not noted again. It fails with
// KindNotFound if there is no such live run.
func (s *Store) Breach(ctx context.Context, runID string, breaches []core.Breach) error {
	op := "note breaches of run " + runID
	tasks, err := s.liveTasks(ctx, op, []string{runID})
	if err != nil {
		return err
	}
	return s.alter(ctx, op, tasks, func(ctx context.Context, t session) error {
		row, err := t.queries().BreachesOfRun(ctx, runID)
		if notFound(err) || err == nil && core.RunState(row.State) == core.RunEnded {
			return core.Errorf(core.KindNotFound, op, "it is not live any more")
		}
		if err != nil {
			return err
		}
		return keepBreaches(ctx, t, runID, breaches)
	})
}

// liveTasks gives the tasks of live runs, whose locks a change of the runs takes.
func (s *Store) liveTasks(ctx context.Context, op string, runs []string) (tasks []string, err error) {
	for part := range slices.Chunk(runs, inList) {
		b := sqlbuilder.PostgreSQL.NewSelectBuilder()
		b.Select("task_id").Distinct().From("runs").Where(b.In("id", sqlbuilder.List(part)), "state <> 'ended'")
		text, args := b.Build()
		var some []string
		err := s.look(ctx, op, func(ctx context.Context) (err error) {
			some = some[:0]
			rows, err := s.read.QueryContext(ctx, text, args...)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, rows.Close()) }()
			for rows.Next() {
				var id string
				if err := rows.Scan(&id); err != nil {
					return err
				}
				some = append(some, id)
			}
			return rows.Err()
		})
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, some...)
	}
	return tasks, nil
}
