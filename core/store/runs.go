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

// Due gives tasks whose next fire is at or before until, ordered by (next fire, id), after the cursor given; the zero
// cursor begins at the earliest.
func (s *Store) Due(ctx context.Context, until time.Time, after core.Due, limit int) ([]core.Due, error) {
	var rows []sqlcgen.DueRow
	err := s.look(ctx, "list due tasks", func(ctx context.Context) (err error) {
		rows, err = s.q.Due(ctx, sqlcgen.DueParams{Until: micros(until), AfterFire: micros(after.NextFire), AfterID: after.TaskID, MaxRows: int32(limit)})
		return err
	})
	if err != nil {
		return nil, err
	}
	due := make([]core.Due, len(rows))
	for i, r := range rows {
		due[i] = core.Due{TaskID: r.TaskID, Version: r.Version, NextFire: instant(r.NextFire)}
	}
	return due, nil
}

// Claim moves marks and inserts runs. Each claim stands or falls alone: one that loses writes nothing and does not hold
// the others up.
func (s *Store) Claim(ctx context.Context, claims []core.Claim) ([]core.Claimed, error) {
	r := &request{claims: claims, claimed: make([]core.Claimed, len(claims))}
	if err := s.w.submit(ctx, r); err != nil {
		return nil, s.fault("claim fires", err)
	}
	return r.claimed, nil
}

// Finish ends attempts, and runs that are cancelled before they began. A token that is not the current one changes nothing
// and is answered by Stale.
func (s *Store) Finish(ctx context.Context, finishes []core.Finish) ([]core.Finished, error) {
	r := &request{finishes: finishes, finished: make([]core.Finished, len(finishes))}
	if err := s.w.submit(ctx, r); err != nil {
		return nil, s.fault("finish runs", err)
	}
	return r.finished, nil
}

// Skip ends claimed or queued runs that have not started. One that is neither any more, or has another token, is
// answered by Stale.
func (s *Store) Skip(ctx context.Context, skips []core.Skip) ([]core.Finished, error) {
	r := &request{skips: skips, finished: make([]core.Finished, len(skips))}
	if err := s.w.submit(ctx, r); err != nil {
		return nil, s.fault("skip runs", err)
	}
	return r.finished, nil
}

// MarkRunning says of attempts that they are known to be executing. Runs that are not
// claimed stay as they are.
func (s *Store) MarkRunning(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.fault("mark runs running", s.w.submit(ctx, &request{running: ids}))
}

// Start makes queued and retrying runs claimed, each with a new token. With OnlyAlone a start is refused (Won is false,
// and Live says how many other runs there are) while another run of the task is claimed, running or retrying; runs that
// are queued too do not count, or the runs of a task that fires faster than it is claimed ahead would block each other.
func (s *Store) Start(ctx context.Context, starts []core.Start) ([]core.Claimed, error) {
	tasks := make([]string, len(starts))
	for i := range starts {
		tasks[i] = starts[i].TaskID
	}
	out := make([]core.Claimed, len(starts))
	err := s.change(ctx, "start runs", tasks, func(ctx context.Context, q *sqlcgen.Queries) error {
		for i := range starts {
			var err error
			if out[i], err = s.startOne(ctx, q, &starts[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Store) startOne(ctx context.Context, q *sqlcgen.Queries, start *core.Start) (core.Claimed, error) {
	count, err := q.TaskCounters(ctx, start.TaskID)
	if notFound(err) { // the task is deleted: its runs are alone, and nothing else gives tokens for it
		count = sqlcgen.TaskCountersRow{Live: 1, Token: start.Token}
	} else if err != nil {
		return core.Claimed{}, err
	}
	answer := core.Claimed{Live: int(count.Live) - 1, LastSuccess: instant(count.LastSuccess)}
	run, err := q.Standing(ctx, start.RunID)
	if notFound(err) {
		return answer, nil
	}
	if err != nil {
		return answer, err
	}
	wasQueued := int64(0)
	executing := count.Live - count.Queued // or about to
	switch core.RunState(run.State) {
	case core.RunQueued:
		wasQueued = 1
	case core.RunRetrying:
		executing--
	}
	if start.OnlyAlone && executing > 0 {
		return answer, nil
	}
	token := count.Token + 1
	held, err := q.StartRun(ctx, sqlcgen.StartRunParams{ID: start.RunID, Token: start.Token, Owner: start.Owner,
		StartAt: micros(start.At), NewToken: token})
	if err != nil || held == 0 {
		return answer, err
	}
	answer.Won, answer.Token = true, token
	return answer, q.CountStart(ctx, sqlcgen.CountStartParams{TaskID: start.TaskID, Token: token, WasQueued: wasQueued})
}

// maxBump is how far a manual run may be moved to be alone on its instant.
const maxBump = 10_000

// InsertManual inserts a run that a person asked for, and gives it as it was stored: with its token, and FireAt moved on
// by as many microseconds as it takes to be the task's only fire at that instant. run.State is RunClaimed (also if it is
// empty) or RunQueued. With onlyAlone it fails with KindConflict, naming the live run, while the task has one. It fails
// with KindNotFound if the task is gone.
func (s *Store) InsertManual(ctx context.Context, run core.Run, onlyAlone bool) (core.Run, error) {
	op := fmt.Sprintf("run task %s/%s now", run.Namespace, run.TaskName)
	if run.State == "" {
		run.State = core.RunClaimed
	}
	run.Attempt, run.FireCount = max(run.Attempt, 1), 1
	var fireAt int64
	do := func(ctx context.Context, t session) error {
		q := t.queries()
		count, err := q.TaskCounters(ctx, run.TaskID)
		if notFound(err) {
			return core.Errorf(core.KindNotFound, op, "no such task")
		}
		if err != nil {
			return err
		}
		if onlyAlone && count.Live > 0 {
			live, err := q.LiveRunOfTask(ctx, run.TaskID)
			if err != nil && !notFound(err) {
				return err
			}
			return core.Errorf(core.KindConflict, op, "run %s of the task is still live", live)
		}
		run.Token, run.PrevSuccess = count.Token+1, instant(count.LastSuccess)
		fireAt = micros(run.FireAt)
		inserted := false
		for bump := int64(0); !inserted && bump < maxBump; bump++ {
			err := t.many(ctx, insertRun, 1, func(_ int, args []any) []any {
				return bindRun(args, &run, run.State, run.Token, fireAt+bump)
			}, func(_ int, affected int64, _ []int64) { inserted = affected == 1 })
			if err != nil {
				return err
			}
			if inserted {
				fireAt += bump
			}
		}
		if !inserted {
			return core.Errorf(core.KindConflict, op, "run %s is there already, or too many fires are at this instant", run.ID)
		}
		queued := int64(0)
		if run.State == core.RunQueued {
			queued = 1
		}
		return q.CountManual(ctx, sqlcgen.CountManualParams{TaskID: run.TaskID, Token: run.Token, Queue: queued})
	}
	if err := s.w.submit(ctx, &request{do: do, tasks: []string{run.TaskID}}); err != nil {
		return core.Run{}, s.fault(op, err)
	}
	run.FireAt = instant(fireAt)
	run.FireThrough = run.FireAt
	return run, nil
}

// Ended gives runs that have ended and wait to be shipped to history, ordered by id, after the id given.
func (s *Store) Ended(ctx context.Context, afterID string, limit int) ([]core.Run, error) {
	return s.lookRuns(ctx, "list ended runs", func(ctx context.Context) ([]sqlcgen.Run, error) {
		return s.q.EndedRuns(ctx, afterID, int32(limit))
	})
}

// Shipped forgets ended runs that history has acknowledged. Runs that have not ended stay.
func (s *Store) Shipped(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.fault("forget shipped runs", s.w.submit(ctx, &request{shipped: ids}))
}

// Run gives one run that is live or not yet shipped, or KindNotFound.
func (s *Store) Run(ctx context.Context, id string) (core.Run, error) {
	var row sqlcgen.Run
	op := "read run " + id
	err := s.look(ctx, op, func(ctx context.Context) (err error) {
		row, err = s.q.ReadRun(ctx, id)
		return err
	})
	if notFound(err) {
		return core.Run{}, core.Errorf(core.KindNotFound, op, "no such run")
	}
	return runOf(&row), err
}

// LiveRuns gives the runs of a server that have not ended, by id.
func (s *Store) LiveRuns(ctx context.Context, owner string) ([]core.Run, error) {
	return s.lookRuns(ctx, "list live runs", func(ctx context.Context) ([]sqlcgen.Run, error) { return s.q.LiveRuns(ctx, owner) })
}

func (s *Store) lookRuns(ctx context.Context, op string, read func(ctx context.Context) ([]sqlcgen.Run, error)) ([]core.Run, error) {
	var rows []sqlcgen.Run
	err := s.look(ctx, op, func(ctx context.Context) (err error) {
		rows, err = read(ctx)
		return err
	})
	return runsOf(rows), err
}

// Runs gives runs that are live or not yet shipped, newest id first.
func (s *Store) Runs(ctx context.Context, f core.RunFilter) ([]core.Run, error) {
	if f.Namespaces != nil && len(f.Namespaces) == 0 {
		return nil, nil
	}
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select(runColumns...).From("runs")
	if f.Namespaces != nil {
		b.Where(b.In("namespace", sqlbuilder.List(f.Namespaces)))
	}
	if f.TaskID != "" {
		b.Where(b.Equal("task_id", f.TaskID))
	}
	if f.TaskType != "" {
		b.Where(b.Equal("task_type", f.TaskType))
	}
	if len(f.Verdicts) > 0 {
		verdicts := make([]string, len(f.Verdicts))
		for i, v := range f.Verdicts {
			verdicts[i] = string(v)
		}
		b.Where(b.In("verdict", sqlbuilder.List(verdicts)))
	}
	if f.LiveOnly {
		b.Where("state <> 'ended'") // in these words, so that the index runs_live is used
	}
	if !f.From.IsZero() {
		b.Where(b.GreaterEqualThan("fire_at", micros(f.From)))
	}
	if !f.To.IsZero() {
		b.Where(b.LessThan("fire_at", micros(f.To)))
	}
	if f.BeforeID != "" {
		b.Where(b.LessThan("id", f.BeforeID))
	}
	b.OrderByDesc("id").Limit(page(f.Limit))
	text, args := b.Build()
	return s.lookRuns(ctx, "list runs", func(ctx context.Context) ([]sqlcgen.Run, error) { return s.scanRuns(ctx, text, args) })
}

func (s *Store) scanRuns(ctx context.Context, text string, args []any) (runs []sqlcgen.Run, err error) {
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r sqlcgen.Run
		if err := rows.Scan(&r.ID, &r.TaskID, &r.TaskVersion, &r.Namespace, &r.TaskName, &r.TaskType, &r.TriggerKind, &r.FireAt,
			&r.FireThrough, &r.FireCount, &r.Params, &r.State, &r.Owner, &r.StartAt, &r.Attempt, &r.Token, &r.DecidedAt,
			&r.Reason, &r.Facts, &r.CreatedBy, &r.EndedAt, &r.Verdict, &r.StartedAt, &r.Message, &r.Output, &r.Usage,
			&r.Checkpoint); err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, rows.Err()
}

var runColumns = []string{"id", "task_id", "task_version", "namespace", "task_name", "task_type", "trigger_kind", "fire_at",
	"fire_through", "fire_count", "params", "state", "owner", "start_at", "attempt", "token", "decided_at",
	"reason", "facts", "created_by", "ended_at", "verdict", "started_at", "message", "output", "usage", "checkpoint"}

// page gives a limit within 1 to 1000; 0 is 1000.
func page(limit int) int {
	if limit <= 0 || limit > 1000 {
		return 1000
	}
	return limit
}
