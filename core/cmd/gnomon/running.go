package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/definition"
	"github.com/gnomon-scheduler/gnomon/core/precondition"
	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

// effective is the store as scheduler and runner want it: tasks come with the policies that hold for them.
type effective struct {
	*store.Store
	definitions *definition.Definitions
}

// Task gives one task.
func (e effective) Task(ctx context.Context, id string) (core.Task, error) {
	task, err := e.Store.Task(ctx, id)
	return e.definitions.Effective(task), err
}

// Definitions gives several.
func (e effective) Definitions(ctx context.Context, ids []string) ([]core.Task, map[string]error, error) {
	tasks, problems, err := e.Store.Definitions(ctx, ids)
	for i := range tasks {
		tasks[i] = e.definitions.Effective(tasks[i])
	}
	return tasks, problems, err
}

// forRun gives a task with its effective policies and the parameters of one run.
func (a *app) forRun(ctx context.Context, id string, params json.RawMessage) (core.Task, error) {
	task, err := a.definitions.ForRun(ctx, id, params)
	return a.definitions.Effective(task), err
}

// check looks at a precondition of a run.
func (a *app) check(ctx context.Context, task *core.Task, run core.Run, p core.Precondition) (bool, string) {
	result, err := a.preconditions.Evaluate(ctx, p, precondition.Facts{
		Namespace: run.Namespace, TaskID: run.TaskID, TaskType: run.TaskType, Params: a.definitions.Complete(run.TaskType, run.Params), FireAt: run.FireAt, Now: a.clock.Now(), Zone: task.Schedule.Zone,
	})
	if err != nil && ctx.Err() == nil {
		a.log.Debug("precondition not judged", "run_id", run.ID, "task", run.Namespace+"/"+run.TaskName, "err", err)
	}
	return result.True && err == nil, result.Detail
}

// zone gives the zone of a task's schedule.
func (a *app) zone(task *core.Task) *time.Location {
	if sched, err := a.definitions.Plan(task); err == nil {
		return sched.Location()
	}
	return time.UTC
}

// steps starts and finds the runs of workflow steps.
type steps struct{ a *app }

// StartStep starts the run of a step, or gives the one there is.
func (s steps) StartStep(ctx context.Context, start workflow.Start) (core.Run, error) {
	task, err := s.a.store.TaskByName(ctx, start.Namespace, start.TaskName)
	if err != nil {
		return core.Run{}, err
	}
	if !task.Enabled {
		said := "task " + task.Namespace + "/" + task.Name + " is disabled"
		if task.DisabledReason != "" { // a person who disables a task gives none
			said += ": " + task.DisabledReason
		}
		return core.Run{}, core.Errorf(core.KindConflict, "start step "+start.Step, "%s", said)
	}
	return s.a.runner.StartStep(ctx, runner.Step{
		WorkflowID: start.WorkflowRunID, Name: start.Step, Round: start.Round, TaskID: task.ID, Params: start.Params, FireAt: start.FireAt, By: start.By,
	})
}

// StepRuns gives the runs of a workflow's steps, live and ended.
func (s steps) StepRuns(ctx context.Context, namespace, workflowRunID string) ([]core.Run, error) {
	filter := core.RunFilter{Namespaces: []string{namespace}, WorkflowID: workflowRunID, Limit: 1000}
	// The store first: a row leaves it only once history has it, so no run is missed between the two reads.
	ended, err := pages(ctx, filter, s.a.store.Runs)
	if err != nil {
		return nil, err
	}
	shipped, err := pages(ctx, filter, s.a.history.Runs)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(ended))
	for _, run := range ended {
		known[run.ID] = true
	}
	for _, run := range shipped {
		if !known[run.ID] {
			ended = append(ended, run)
		}
	}
	return ended, nil
}

// recent is StepRuns as far as history has not taken them over.
func (s steps) recent(ctx context.Context, namespace, workflowRunID string) ([]core.Run, error) {
	return pages(ctx, core.RunFilter{Namespaces: []string{namespace}, WorkflowID: workflowRunID, Limit: 1000}, s.a.store.Runs)
}

// pages reads a list of runs to its end.
func pages(ctx context.Context, filter core.RunFilter, read func(context.Context, core.RunFilter) ([]core.Run, error)) ([]core.Run, error) {
	var all []core.Run
	for {
		page, err := read(ctx, filter)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < filter.Limit {
			return all, nil
		}
		filter.BeforeID = page[len(page)-1].ID
	}
}

// WorkflowRun gives an earlier workflow run.
func (s steps) WorkflowRun(ctx context.Context, namespace, runID string) (core.Run, error) {
	run, err := s.a.findRun(ctx, runID)
	if err == nil && run.Namespace != namespace {
		err = core.Errorf(core.KindNotFound, "read workflow run "+runID, "namespace %s has no such run", namespace)
	}
	return run, err
}

// StopRun asks a step's run to stop.
func (s steps) StopRun(ctx context.Context, runID string, how core.Stop, by string) error {
	return s.a.runner.StopRun(ctx, runID, how, by)
}

// Changed tells that a step's run may have ended.
func (s steps) Changed(workflowRunID string) (<-chan struct{}, func()) {
	return s.a.runner.Changed(workflowRunID)
}

// findRun gives a run wherever it is.
func (a *app) findRun(ctx context.Context, id string) (core.Run, error) {
	run, err := a.store.Run(ctx, id)
	if err != nil && core.KindOf(err) == core.KindNotFound {
		return a.history.Run(ctx, id)
	}
	return run, err
}

// operator is what people do with runs, as the API wants it.
type operator struct {
	*runner.Runner
	a *app
}

// Terminate kills a live run.
func (o operator) Terminate(ctx context.Context, runID, by string) error {
	return o.StopRun(ctx, runID, core.StopTerminate, by)
}

// Backfill has a task run for instants of the past.
func (o operator) Backfill(ctx context.Context, ask api.Backfill) (api.Backfilled, error) {
	op := "backfill task " + ask.TaskID
	task, err := o.a.definitions.Task(ctx, ask.TaskID)
	if err != nil {
		return api.Backfilled{}, err
	}
	if now := o.a.clock.Now(); ask.To.After(now) {
		return api.Backfilled{}, core.Invalid(op, core.Finding{Path: "to", Message: core.Text{
			Zh: "不能晚于现在：将来的时刻由计划触发", En: "must not be later than now: the schedule itself fires in the future",
		}})
	}
	if found := definition.CheckOverlap("overlap", ask.Overlap, ask.OverlapLimit); len(found) > 0 {
		return api.Backfilled{}, core.Invalid(op, found...)
	}
	effective := o.a.definitions.Effective(task)
	sched, err := o.a.definitions.Plan(&effective)
	if err != nil {
		return api.Backfilled{}, err
	}
	var done api.Backfilled
	limit := min(ask.Limit, core.MaxCatchUpLimit)
	before, end := ask.From.Add(-time.Microsecond), ask.To.Add(-time.Microsecond)
	for at := before; ; {
		fire, ok := sched.NextStart(at)
		within := ok && !fire.At.After(end)
		if within && len(done.Instants) == limit {
			done.More, end = true, at
			break
		}
		if first, some := sched.Next(at); some && !first.At.After(end) && first.Skip == core.ReasonCalendar && !slices.Contains(done.RefusedBy, first.Calendar) {
			done.RefusedBy = append(done.RefusedBy, first.Calendar)
		}
		if !within {
			break
		}
		done.Instants = append(done.Instants, fire.At.UTC())
		at = fire.At
	}
	done.Count = len(done.Instants)
	done.Refused = max(0, int(sched.Count(before, end))-done.Count) // Count has none for a schedule without instants
	if done.Count == 0 {
		return done, nil
	}
	done.First, done.Last = done.Instants[0], done.Instants[done.Count-1]
	if err := o.before(ctx, task, &done); err != nil {
		return done, err
	}
	if ask.DryRun {
		return done, nil
	}
	runs, err := o.Runner.Backfill(ctx, runner.Backfill{TaskID: ask.TaskID, Fires: done.Instants, Overlap: ask.Overlap, OverlapLimit: ask.OverlapLimit, Spread: ask.Spread, By: ask.By})
	for _, run := range runs {
		done.Runs, done.Series = append(done.Runs, run.ID), run.Series
	}
	return done, err
}

// before says what became of the instants of a backfill before, as far as history answers: how many the schedule has decided
// itself, and which backfills have run some of them.
func (o operator) before(ctx context.Context, task core.Task, done *api.Backfilled) error {
	instants := done.Instants
	decided, filled := map[time.Time]bool{}, map[time.Time]bool{}
	earlier := map[string]*api.EarlierBackfill{}
	seen := map[string]bool{} // a row may be in the store and in history
	mark := func(run *core.Run) error {
		from, _ := slices.BinarySearchFunc(instants, run.FireAt, time.Time.Compare)
		covered := instants[from:]
		if to := slices.IndexFunc(covered, run.FireThrough.Before); to >= 0 {
			covered = covered[:to]
		}
		if seen[run.ID] || len(covered) == 0 {
			return nil
		}
		seen[run.ID] = true
		switch {
		case run.Trigger == core.TriggerBackfill && run.Verdict != core.Skipped:
			e := earlier[run.Series]
			if e == nil {
				e = &api.EarlierBackfill{Series: run.Series, At: &api.Time{Time: run.DecidedAt.UTC()}}
				earlier[run.Series] = e
			}
			e.Instants++
			filled[covered[0]] = true
		case run.Series == "" && run.Trigger != core.TriggerManual:
			for _, at := range covered {
				decided[at] = true
			}
		}
		return nil
	}
	live, err := pages(ctx, core.RunFilter{TaskID: task.ID, Namespaces: []string{task.Namespace}, To: done.Last.Add(time.Microsecond), Limit: 1000}, o.a.store.Runs)
	if err != nil {
		return err
	}
	for i := range live {
		_ = mark(&live[i]) // it cannot fail
	}
	err = o.a.history.EachFire(ctx, core.FireFilter{Namespaces: []string{task.Namespace}, TaskID: task.ID, From: done.First, To: done.Last}, mark)
	done.AlreadyDecided, done.AlreadyBackfilled = len(decided), len(filled)
	for _, e := range earlier {
		done.Earlier = append(done.Earlier, *e)
	}
	slices.SortFunc(done.Earlier, func(a, b api.EarlierBackfill) int { return b.At.Compare(a.At.Time) })
	done.Earlier = done.Earlier[:min(len(done.Earlier), api.MaxEarlier)]
	return err
}

// Retry tries the run of an open intervention again.
func (o operator) Retry(ctx context.Context, runID string, params json.RawMessage, note, by string) (core.Run, error) {
	i, err := o.a.store.Intervention(ctx, runID)
	if err != nil {
		return core.Run{}, err
	}
	again, err := o.Again(ctx, core.Run{
		ID: i.RunID, TaskID: i.TaskID, Params: i.Params, FireAt: i.FireAt, WorkflowID: i.WorkflowID, Step: i.Step,
	}, params, by)
	if err != nil {
		return core.Run{}, err
	}
	_, again, err = o.a.store.ResolveIntervention(ctx, runID, "retry", note, by, o.a.clock.Now(), &again)
	if err != nil {
		return core.Run{}, err
	}
	return again, o.Dispatched(ctx, again)
}

// Resolve closes an open intervention without a run.
func (o operator) Resolve(ctx context.Context, runID, action, note, by string) (core.Intervention, error) {
	i, _, err := o.a.store.ResolveIntervention(ctx, runID, action, note, by, o.a.clock.Now(), nil)
	return i, err
}

// ResetBreaker closes a breaker by hand, and lets go on what waited at it. It fails with KindNotFound if nothing has a
// breaker of that name.
func (o operator) ResetBreaker(ctx context.Context, name, by string) (core.Breaker, error) {
	if downstream, ok := strings.CutPrefix(name, "downstream:"); ok {
		if _, err := o.a.definitions.Downstream(ctx, downstream); err != nil {
			return core.Breaker{}, err
		}
	} else if id, ok := strings.CutPrefix(name, ofTask); !ok {
		return core.Breaker{}, core.Errorf(core.KindNotFound, "reset breaker "+name, "no such breaker; they are named downstream:<name> and task:<id>")
	} else if _, err := o.a.definitions.Task(ctx, id); err != nil {
		return core.Breaker{}, err
	}
	if err := o.a.store.ResetBreaker(ctx, name); err != nil {
		return core.Breaker{}, err
	}
	o.a.log.Info("breaker reset", "breaker", name, "principal", by)
	o.Look()
	return o.a.store.Breaker(ctx, name)
}

// workflows is the workflow room as the API wants it.
type workflows struct{ a *app }

// Steps gives the steps of a workflow run.
func (w workflows) Steps(ctx context.Context, run core.Run) ([]api.Step, error) {
	views, err := w.a.workflows.View(ctx, run)
	if err != nil {
		return nil, err
	}
	list := make([]api.Step, len(views))
	for i, v := range views {
		list[i] = api.Step{
			Name: v.Name, Task: v.Task, Needs: v.Needs, When: string(v.When), State: v.State, RunID: v.RunID, Attempt: v.Attempt,
			Gate: string(v.Gate), StartedAt: instant(v.StartedAt), EndedAt: instant(v.EndedAt), Message: v.Message, Output: api.Any(v.Output),
		}
		if len(v.Params) > 0 {
			list[i].Params = make(map[string]api.Any, len(v.Params))
			for key, value := range v.Params {
				list[i].Params[key] = api.Any(value)
			}
		}
	}
	return list, nil
}

// Rerun starts a new workflow run that takes over what succeeded.
func (w workflows) Rerun(ctx context.Context, run core.Run, from []string, note, by string) (core.Run, error) {
	op := "run workflow run " + run.ID + " again"
	switch {
	case run.TaskType != workflow.TypeName:
		return core.Run{}, core.Errorf(core.KindConflict, op, "it is a run of %s, not of a workflow", run.TaskType)
	case run.State != core.RunEnded:
		return core.Run{}, core.Errorf(core.KindConflict, op, "it has not ended; cancel it first")
	}
	views, err := w.a.workflows.View(ctx, run)
	if err != nil {
		return core.Run{}, err
	}
	for _, v := range views { // one that is tried again by hand, or that its workflow did not live to stop
		if v.RunID != "" && v.Verdict == "" {
			return core.Run{}, core.Errorf(core.KindConflict, op, "its step %q still runs, as run %s; wait until that has ended, or cancel it first", v.Name, v.RunID)
		}
	}
	done, err := w.doneByHand(ctx, views)
	if err != nil {
		return core.Run{}, err
	}
	params, err := workflow.Resuming(run.Params, workflow.Resume{Run: run.ID, From: from, Done: done})
	if err != nil {
		return core.Run{}, err
	}
	again, err := w.a.runner.Again(ctx, run, params, by)
	if err != nil {
		return core.Run{}, err
	}
	w.a.log.Info("workflow run again", "run_id", run.ID, "again", again.ID, "principal", by, "note", note)
	return w.a.runner.Insert(ctx, again)
}

// doneByHand gives the steps that failed, and of whose runs a person has said that what they should have done was done by
// hand.
func (w workflows) doneByHand(ctx context.Context, views []workflow.StepView) ([]string, error) {
	var done []string
	for _, v := range views {
		if v.RunID == "" || !v.Verdict.Failure() {
			continue
		}
		switch i, err := w.a.store.Intervention(ctx, v.RunID); {
		case core.KindOf(err) == core.KindNotFound:
		case err != nil:
			return nil, err
		case i.Action == "done":
			done = append(done, v.Name)
		}
	}
	return done, nil
}

// instant gives a time as the API shows it; zero is absent.
func instant(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	return &api.Time{Time: t}
}

// usuals knows how long tasks usually take. It is asked while runs are watched, so it answers from memory and reads history
// behind that: what has not been read yet is not known.
type usuals struct {
	history past
	clock   core.Clock
	log     *slog.Logger

	mu     sync.Mutex
	known  map[string]core.Usual
	asked  map[string]bool // since the last reading
	wanted chan struct{}   // holds a token when a task was asked about for the first time
}

func newUsuals(history past, clock core.Clock, log *slog.Logger) *usuals {
	return &usuals{history: history, clock: clock, log: log, known: map[string]core.Usual{}, asked: map[string]bool{}, wanted: make(chan struct{}, 1)}
}

// p95 gives the p95 of a task's durations in the last 30 days; 0: not known.
func (u *usuals) p95(taskID string) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	usual, ok := u.known[taskID]
	if u.asked[taskID] = true; !ok {
		select {
		case u.wanted <- struct{}{}:
		default:
		}
	}
	if usual.Count < enoughRuns {
		return 0
	}
	return usual.P95
}

// enoughRuns is how many runs it takes to say what is usual.
const enoughRuns = 20

// run reads again what was asked for, every ten minutes and when a new task is asked about, until ctx ends.
func (u *usuals) run(ctx context.Context) {
	every := time.NewTicker(10 * time.Minute)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		case <-u.wanted:
		}
		u.mu.Lock()
		ids := make([]string, 0, len(u.asked))
		for id := range u.asked {
			ids = append(ids, id)
		}
		clear(u.asked)
		u.mu.Unlock()
		if len(ids) == 0 {
			continue
		}
		read, err := u.history.Durations(ctx, nil, ids, u.clock.Now().AddDate(0, 0, -30))
		if err != nil {
			if ctx.Err() == nil {
				u.log.Warn("usual durations not read", "err", err)
			}
			continue
		}
		u.mu.Lock()
		clear(u.known) // who is not asked about any more is forgotten
		for _, id := range ids {
			u.known[id] = read[id]
		}
		u.mu.Unlock()
	}
}

// breakerDiary brings changes of breakers into history, behind those who cause them.
type breakerDiary struct {
	history past
	log     *slog.Logger
	changes chan core.BreakerChange
}

func newBreakerDiary(history past, log *slog.Logger) *breakerDiary {
	return &breakerDiary{history: history, log: log, changes: make(chan core.BreakerChange, 1000)}
}

// note takes a change. If history has not answered for a thousand of them, it is said in the log only: how breakers stand is
// in the store.
func (d *breakerDiary) note(b core.Breaker, run core.Run) {
	d.log.Warn("breaker moved", "breaker", b.Name, "state", b.State, "failures", b.Failures, "run_id", run.ID, "because", b.Because)
	select {
	case d.changes <- core.BreakerChange{Breaker: b, Namespace: run.Namespace, TaskName: run.TaskName, RunID: run.ID}:
	default:
		d.log.Error("change of a breaker not kept in history", "breaker", b.Name, "state", b.State)
	}
}

// run writes changes until ctx ends.
func (d *breakerDiary) run(ctx context.Context) {
	for {
		var batch []core.BreakerChange
		select {
		case <-ctx.Done():
			return
		case c := <-d.changes:
			batch = append(batch, c)
		}
		for len(d.changes) > 0 {
			batch = append(batch, <-d.changes)
		}
		id := "breakers-" + batch[0].RunID + "-" + batch[0].UpdatedAt.UTC().Format(time.RFC3339Nano)
		for wait := time.Second; ; wait = min(2*wait, time.Minute) {
			err := d.history.WriteBreakerChanges(ctx, id, batch)
			if err == nil || ctx.Err() != nil {
				break
			}
			d.log.Warn("changes of breakers not in history yet", "count", len(batch), "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
}
