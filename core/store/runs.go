package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Finish ends attempts, and runs that end before they began, with all that their ends cause. A token that is not the
// current one changes nothing and is answered by Stale.
func (s *Store) Finish(ctx context.Context, finishes []core.Finish) ([]core.Finished, error) {
	r := &request{finishes: finishes, finished: make([]core.Finished, len(finishes))}
	if err := s.w.submit(ctx, r); err != nil {
		return nil, s.fault("finish runs", err)
	}
	return r.finished, nil
}

// Skip ends claimed, queued or waiting runs that have not started. One that is in none of these states any more, or has
// another token, is answered by Stale.
func (s *Store) Skip(ctx context.Context, skips []core.Skip) ([]core.Finished, error) {
	r := &request{skips: skips, finished: make([]core.Finished, len(skips))}
	if err := s.w.submit(ctx, r); err != nil {
		return nil, s.fault("skip runs", err)
	}
	return r.finished, nil
}

// MarkRunning says of attempts that they are known to be executing. Runs that are not
// claimed stay as they are.
func (s *Store) MarkRunning(ctx context.Context, running ...core.Running) error {
	if len(running) == 0 {
		return nil
	}
	return s.fault("mark runs running", s.w.submit(ctx, &request{running: running}))
}

// maxBump is how far a manual run may be moved to be alone on its instant.
const maxBump = 10_000

// InsertManual inserts a run that a person asked for, and gives it as it was stored: with its token, and FireAt moved on
// by as many microseconds as it takes to be the task's only fire at that instant. run.State is RunClaimed (also if it is
// empty) or RunQueued. With onlyAlone it fails with KindConflict, naming the run, while a live one of the task is in its way.
// It fails with KindNotFound if the task is gone.
func (s *Store) InsertManual(ctx context.Context, run core.Run, onlyAlone bool) (core.Run, error) {
	op := fmt.Sprintf("run task %s/%s now", run.Namespace, run.TaskName)
	if run.State == "" {
		run.State = core.RunClaimed
	}
	run.FireCount, run.FireThrough = 1, time.Time{}
	settle(&run)
	wanted := run.FireAt
	do := func(ctx context.Context, t session) error {
		q := t.queries()
		count, err := q.TaskCounters(ctx, run.TaskID)
		if notFound(err) {
			return core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有任务 " + run.Namespace + "/" + run.TaskName, En: "no such task"})
		}
		if err != nil {
			return err
		}
		if onlyAlone && count.Live > 0 {
			live, err := inTheWay(ctx, t, &run)
			if err != nil {
				return err
			}
			if live != "" {
				return core.Refuse(core.KindConflict, op, core.Text{Zh: "任务 " + run.Namespace + "/" + run.TaskName + " 的运行 " + live + " 尚未结束", En: "run " + live + " of the task is still live"})
			}
		}
		run.Token, run.PrevSuccess = count.Token+1, instant(count.LastSuccess)
		inserted := false
		for bump := range maxBump {
			run.FireAt = wanted.Add(time.Duration(bump) * time.Microsecond)
			run.FireThrough = run.FireAt
			err := t.many(ctx, insertRunOf, 1, func(_ int, args []any) []any {
				return bindRunOf(args, &run, run.State, run.Token, micros(run.FireAt))
			}, func(_ int, affected int64, _ []int64) { inserted = affected == 1 })
			if err != nil {
				return err
			}
			if inserted {
				break
			}
		}
		if !inserted {
			return core.Errorf(core.KindConflict, op, "run %s is there already, or too many fires are at this instant", run.ID)
		}
		return q.CountRuns(ctx, sqlcgen.CountRunsParams{TaskID: run.TaskID, Token: run.Token, More: 1, MoreQueued: one(run.State == core.RunQueued)})
	}
	if err := s.alter(ctx, op, []string{run.TaskID}, do); err != nil {
		return core.Run{}, err
	}
	return run, nil
}

// inTheWay gives a live run of the task that a run asked for now would have to wait for, as core.Admit has it; "": there is none.
// So one that waits at a breaker that lets nobody pass is not, nor one whose own start is yet to come. A breaker may move
// meanwhile: who has breakers is queued, and admitted by what holds then.
func inTheWay(ctx context.Context, t session, run *core.Run) (string, error) {
	peers, err := t.queries().LiveRunsOfTask(ctx, run.TaskID)
	if err != nil {
		return "", err
	}
	var names []string
	for _, p := range peers {
		if core.Gate(p.Gate) == core.GateBreaker {
			names = append(names, p.GateKey)
		}
	}
	breakers, err := openBook(ctx, t, names)
	if err != nil {
		return "", err
	}
	for _, p := range peers {
		ask := core.Admission{RunID: run.ID, TaskID: run.TaskID, At: run.StartAt, Overlap: core.OverlapSkip, Patient: true}
		s := core.Standings{
			Run: core.Standing{RunID: run.ID, State: core.RunQueued, FireAt: run.FireAt, StartAt: run.StartAt, Trigger: run.Trigger},
			Peers: []core.Standing{{RunID: p.ID, State: core.RunState(p.State), Gate: core.Gate(p.Gate), FireAt: instant(p.FireAt), StartAt: instant(p.StartAt),
				Trigger: core.Trigger(p.TriggerKind)}},
		}
		if s.Peers[0].Gate == core.GateBreaker {
			ask.Breakers, s.Breakers = []core.BreakerRule{{Name: p.GateKey}}, []core.Breaker{breakers.of(p.GateKey)}
		}
		if core.Admit(ask, s).Gate == core.GateOverlap {
			return p.ID, nil
		}
	}
	return "", nil
}

// Enqueue inserts queued runs, of any tasks and series, and gives them as they are stored, with their tokens. It may be
// repeated: a fire that has a row already (task, instant, series) is answered by that row, in whatever state it is. It
// fails with KindNotFound, inserting nothing, if a task is gone.
func (s *Store) Enqueue(ctx context.Context, runs []core.Run) ([]core.Run, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	op := fmt.Sprintf("enqueue %d runs", len(runs))
	if len(runs) == 1 {
		op = fmt.Sprintf("enqueue a run of task %q", runs[0].Namespace+"/"+runs[0].TaskName)
	}
	tasks := make([]string, len(runs))
	for i := range runs {
		tasks[i] = runs[i].TaskID
	}
	var stored []core.Run
	err := s.alter(ctx, op, tasks, func(ctx context.Context, t session) error {
		counts, err := countsOf(ctx, t, op, tasks)
		if err == nil {
			stored, err = enqueue(ctx, t, op, runs, counts)
		}
		return err
	})
	return stored, err
}

// countsOf reads the counters of tasks, or fails with KindNotFound.
func countsOf(ctx context.Context, t session, op string, tasks []string) (map[string]*sqlcgen.TaskCountersRow, error) {
	counts := make(map[string]*sqlcgen.TaskCountersRow)
	for _, id := range tasks {
		if counts[id] != nil {
			continue
		}
		row, err := t.queries().TaskCounters(ctx, id)
		if notFound(err) {
			return nil, core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有任务 " + id, En: "no such task: " + id})
		}
		if err != nil {
			return nil, err
		}
		counts[id] = &row
	}
	return counts, nil
}

// enqueue is Enqueue within a transaction that holds the tasks.
func enqueue(ctx context.Context, t session, op string, runs []core.Run, counts map[string]*sqlcgen.TaskCountersRow) ([]core.Run, error) {
	stored := slices.Clone(runs)
	more := map[string]int64{}
	for i := range stored {
		run := &stored[i]
		settle(run)
		count := counts[run.TaskID]
		count.Token++
		run.State, run.Token, run.PrevSuccess = core.RunQueued, count.Token, instant(count.LastSuccess)
	}
	var there []int
	err := t.many(ctx, insertRunOf, len(stored), func(i int, args []any) []any {
		run := &stored[i]
		return bindRunOf(args, run, run.State, run.Token, micros(run.FireAt))
	}, func(i int, affected int64, _ []int64) {
		if affected == 0 {
			there = append(there, i)
			return
		}
		more[stored[i].TaskID]++
	})
	if err != nil {
		return nil, err
	}
	for _, i := range there {
		run := &stored[i]
		row, err := t.queries().RunOfFire(ctx, sqlcgen.RunOfFireParams{TaskID: run.TaskID, FireAt: micros(run.FireAt), Series: run.Series})
		if notFound(err) {
			return nil, partial{core.Errorf(core.KindConflict, op, "another run has the id %s", run.ID)}
		}
		if err != nil {
			return nil, err
		}
		*run = runOf(&row)
	}
	for id, n := range more {
		if err := t.queries().CountRuns(ctx, sqlcgen.CountRunsParams{TaskID: id, Token: counts[id].Token, More: n, MoreQueued: n}); err != nil {
			return nil, err
		}
	}
	return stored, nil
}

// Ended gives runs that have ended and wait to be shipped to history, ordered by id, after the id given.
func (s *Store) Ended(ctx context.Context, afterID string, limit int) ([]core.Run, error) {
	return s.lookRuns(ctx, s.reads, "list ended runs", sqlcgen.EndedRuns, afterID, int32(limit))
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
		return core.Run{}, core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有运行 " + id, En: "no such run"})
	}
	return runOf(&row), err
}

// LiveRuns gives the runs of a server that have not ended, by id.
func (s *Store) LiveRuns(ctx context.Context, owner string) ([]core.Run, error) {
	return s.lookRuns(ctx, s.reads, "list live runs", sqlcgen.LiveRuns, owner)
}

// lookRuns runs a select of all columns of runs, in the order of the table.
func (s *Store) lookRuns(ctx context.Context, from sqlcgen.DBTX, op, text string, args ...any) (runs []core.Run, err error) {
	err = s.look(ctx, op, func(ctx context.Context) (err error) {
		runs, err = scanRuns(ctx, from, text, args)
		return err
	})
	return runs, err
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
		b.Where(b.In("verdict", sqlbuilder.List(texts(f.Verdicts))))
	}
	live := f.LiveOnly || len(f.States) > 0 && !slices.Contains(f.States, core.RunEnded)
	if live {
		b.Where("state <> 'ended'") // in these words, so that the index runs_live is used
	}
	if len(f.States) > 0 {
		b.Where(b.In("state", sqlbuilder.List(texts(f.States))))
	}
	if f.WorkflowID != "" {
		b.Where("workflow_id <> ''", b.Equal("workflow_id", f.WorkflowID)) // likewise: runs_of_workflow
	}
	if f.CausedBy != "" {
		b.Where(b.Equal("caused_by", f.CausedBy))
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
	if live {
		b.OrderByDesc("id || ''") // likewise
	} else {
		b.OrderByDesc("id")
	}
	text, args := b.Limit(page(f.Limit)).Build()
	return s.lookRuns(ctx, s.read, "list runs", text, args...)
}

func scanRuns(ctx context.Context, from sqlcgen.DBTX, text string, args []any) (runs []core.Run, err error) {
	rows, err := from.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var cells runCells
	var to [len(cells)]any
	for i := range cells {
		to[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(to[:]...); err != nil {
			return nil, err
		}
		if len(runs) == cap(runs) { // append grows a long list by a quarter, and leaves four times as much to be collected
			runs = slices.Grow(runs, max(len(runs), 4))
		}
		row := cells.row()
		runs = append(runs, runOf(&row))
	}
	return runs, rows.Err()
}

// runColumns are all columns of runs, in the order of the table.
var runColumns = []string{"id", "task_id", "task_version", "namespace", "task_name", "task_type", "trigger_kind", "fire_at",
	"fire_through", "fire_count", "params", "state", "owner", "start_at", "attempt", "token", "decided_at",
	"reason", "facts", "created_by", "ended_at", "verdict", "started_at", "message", "output", "usage", "checkpoint",
	"series", "moved_from", "priority", "gate", "gate_key", "wait_since", "wait_until", "overlap", "stop", "stop_by", "workflow_id",
	"step", "caused_by", "breaches"}

// runCells are the values of a run's row, in the order of the table. They are scanned as they come: database/sql's
// conversions take longer than the rest of the reading.
type runCells [41]any

func (c *runCells) row() (r sqlcgen.Run) {
	at := 0
	text := func(to *string) { *to, _ = c[at].(string); at++ } // the columns' types are strict
	number := func(to *int64) { *to, _ = c[at].(int64); at++ }
	text(&r.ID)
	text(&r.TaskID)
	number(&r.TaskVersion)
	text(&r.Namespace)
	text(&r.TaskName)
	text(&r.TaskType)
	text(&r.TriggerKind)
	number(&r.FireAt)
	number(&r.FireThrough)
	number(&r.FireCount)
	text(&r.Params)
	text(&r.State)
	text(&r.Owner)
	number(&r.StartAt)
	number(&r.Attempt)
	number(&r.Token)
	number(&r.DecidedAt)
	text(&r.Reason)
	text(&r.Facts)
	text(&r.CreatedBy)
	number(&r.EndedAt)
	text(&r.Verdict)
	number(&r.StartedAt)
	text(&r.Message)
	text(&r.Output)
	text(&r.Usage)
	r.Checkpoint, _ = c[at].([]byte)
	at++
	text(&r.Series)
	number(&r.MovedFrom)
	number(&r.Priority)
	text(&r.Gate)
	text(&r.GateKey)
	number(&r.WaitSince)
	number(&r.WaitUntil)
	text(&r.Overlap)
	text(&r.Stop)
	text(&r.StopBy)
	text(&r.WorkflowID)
	text(&r.Step)
	text(&r.CausedBy)
	text(&r.Breaches)
	return r
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// page gives a limit within 1 to 1000; 0 is 1000.
func page(limit int) int {
	if limit <= 0 || limit > 1000 {
		return 1000
	}
	return limit
}
