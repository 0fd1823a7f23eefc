package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/definition"
)

type previews struct{ defs *definition.Definitions }

func (p previews) Preview(s core.Schedule, taskName string, from time.Time, count int) (api.Preview, error) {
	preview, err := p.defs.Preview(s, taskName, from, count)
	out := api.Preview{Words: preview.Words, Warnings: preview.Warnings}
	for _, f := range preview.Fires {
		out.Fires = append(out.Fires, api.PreviewFire(f))
	}
	return out, err
}

// settings are the real ones.
type settings struct{ *definition.Definitions }

func rehearse(defs *definition.Definitions) func(context.Context) (api.Rehearsal, error) {
	return func(ctx context.Context) (api.Rehearsal, error) {
		trial, err := defs.Rehearsal(ctx)
		return settings{trial}, err
	}
}

func held[T any](h definition.Held[T], err error) (core.Held[T], error) { return h, err }

func everyHeld[T any](list []definition.Held[T], err error) ([]core.Held[T], error) { return list, err }

func (s settings) Calendars(ctx context.Context) ([]core.Held[core.Calendar], error) {
	return everyHeld(s.Definitions.Calendars(ctx))
}

func (s settings) Calendar(ctx context.Context, name string) (core.Held[core.Calendar], error) {
	return held(s.Definitions.Calendar(ctx, name))
}

func (s settings) PutCalendar(ctx context.Context, c core.Calendar, version int64, by string) (core.Held[core.Calendar], error) {
	return held(s.Definitions.PutCalendar(ctx, c, version, by))
}

func (s settings) Holidays(ctx context.Context) ([]core.Held[core.Holidays], error) {
	return everyHeld(s.Definitions.Holidays(ctx))
}

func (s settings) PutHolidays(ctx context.Context, years []core.Holidays, by string) ([]core.Held[core.Holidays], error) {
	return everyHeld(s.Definitions.PutHolidays(ctx, years, by))
}

func (s settings) Pools(ctx context.Context) ([]core.Held[core.Pool], error) {
	return everyHeld(s.Definitions.Pools(ctx))
}

func (s settings) Pool(ctx context.Context, name string) (core.Held[core.Pool], error) {
	return held(s.Definitions.Pool(ctx, name))
}

func (s settings) PutPool(ctx context.Context, p core.Pool, version int64, by string) (core.Held[core.Pool], error) {
	return held(s.Definitions.PutPool(ctx, p, version, by))
}

func (s settings) Downstreams(ctx context.Context) ([]core.Held[core.Downstream], error) {
	return everyHeld(s.Definitions.Downstreams(ctx))
}

func (s settings) Downstream(ctx context.Context, name string) (core.Held[core.Downstream], error) {
	return held(s.Definitions.Downstream(ctx, name))
}

func (s settings) PutDownstream(ctx context.Context, d core.Downstream, version int64, by string) (core.Held[core.Downstream], error) {
	return held(s.Definitions.PutDownstream(ctx, d, version, by))
}

func (settings) ReadHolidays(document []byte) ([]core.Holidays, error) {
	return calendar.ParseHolidays(document)
}

func (settings) HolidayYears(name string) []int {
	if name == "cn-workdays" {
		return []int{2025, 2026}
	}
	return nil
}

func (s settings) Days(ctx context.Context, name, zone, from, to string) ([]api.Day, error) {
	days, err := s.Definitions.Days(ctx, name, zone, from, to)
	var out []api.Day
	for _, d := range days {
		day := api.Day{Date: d.Date, Holds: d.Holds, Whole: d.Whole, Why: api.Text(d.Why)}
		for _, p := range d.Parts {
			day.Parts = append(day.Parts, api.DayTime(p))
		}
		out = append(out, day)
	}
	return out, err
}

// starter makes runs that stay live.
type starter struct {
	w    *world
	defs *definition.Definitions
	// asked is the last backfill.
	asked api.Backfill
}

func (s *starter) RunNow(ctx context.Context, taskID string, params json.RawMessage, by string) (core.Run, error) {
	task, err := s.defs.ForRun(ctx, taskID, params)
	if err != nil {
		return core.Run{}, err
	}
	run := core.Run{
		ID: "run-" + task.Name, TaskID: task.ID, Namespace: task.Namespace, TaskName: task.Name, TaskType: task.Type,
		Trigger: core.TriggerManual, FireAt: time.Now(), FireCount: 1, Params: task.Params, State: core.RunClaimed, CreatedBy: by,
	}
	s.w.tables.put(run)
	return run, nil
}

func (s *starter) stop(ctx context.Context, runID string, how core.Stop, by string) error {
	run, err := s.w.tables.Run(ctx, runID)
	if err == nil {
		run.State, run.Verdict, run.EndedAt, run.Stop, run.StopBy = core.RunEnded, core.Cancelled, time.Now(), how, by
		s.w.tables.put(run)
	}
	return err
}

func (s *starter) Cancel(ctx context.Context, runID, by string) error {
	return s.stop(ctx, runID, core.StopCancel, by)
}

func (s *starter) Terminate(ctx context.Context, runID, by string) error {
	return s.stop(ctx, runID, core.StopTerminate, by)
}

// Backfill has an instant each hour.
func (s *starter) Backfill(_ context.Context, b api.Backfill) (api.Backfilled, error) {
	s.asked = b
	out := api.Backfilled{AlreadyDecided: 1, AlreadyBackfilled: 2, Earlier: []api.EarlierBackfill{{Series: "backfill:0", At: &api.Time{Time: b.From}, Instants: 2}}}
	for at := b.From; at.Before(b.To); at = at.Add(time.Hour) {
		if len(out.Instants) == b.Limit {
			out.More = true
			break
		}
		out.Instants = append(out.Instants, at)
	}
	if out.Count = len(out.Instants); out.Count > 0 {
		out.First, out.Last = out.Instants[0], out.Instants[out.Count-1]
	}
	if !b.DryRun {
		out.Series = "backfill:1"
		for range out.Instants {
			out.Runs = append(out.Runs, "run")
		}
	}
	return out, nil
}

func (s *starter) Retry(ctx context.Context, runID string, params json.RawMessage, note, by string) (core.Run, error) {
	i, err := s.Resolve(ctx, runID, "retry", note, by)
	if err != nil {
		return core.Run{}, err
	}
	if strings.Contains(string(params), "wrong") {
		return core.Run{}, core.Invalid("retry "+runID, core.Finding{Path: "params.count", Message: core.Text{Zh: "应为整数", En: "must be an integer"}})
	}
	run := core.Run{ID: "again-" + runID, TaskID: i.TaskID, Namespace: i.Namespace, Trigger: core.TriggerRetry, CausedBy: runID, Params: params, FireCount: 1}
	s.w.tables.put(run)
	return run, nil
}

func (s *starter) Resolve(_ context.Context, runID, action, note, by string) (core.Intervention, error) {
	t := s.w.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.interventions[runID]
	i.ResolvedAt, i.Action, i.Note, i.By = time.Now(), action, note, by
	t.interventions[runID] = i
	return i, nil
}

func (s *starter) ResetBreaker(_ context.Context, name, _ string) (core.Breaker, error) {
	return core.Breaker{Name: name, UpdatedAt: time.Now()}, nil
}

// graphs has one step in each workflow run.
type graphs struct{ w *world }

func (graphs) Steps(_ context.Context, run core.Run) ([]api.Step, error) {
	if !strings.HasPrefix(run.ID, "run-") {
		return nil, core.Errorf(core.KindConflict, "get workflow "+run.ID, "it is no workflow run")
	}
	return []api.Step{{Name: "load", Task: "there", State: "failed", When: "success"}}, nil
}

func (g graphs) Rerun(_ context.Context, run core.Run, from []string, note, by string) (core.Run, error) {
	if slices.Contains(from, "nope") {
		return core.Run{}, core.Invalid("rerun "+run.ID, core.Finding{Path: "params.resume.from[0]", Message: core.Text{Zh: "没有这一步", En: "there is no such step"}})
	}
	return core.Run{ID: "rerun", CausedBy: run.ID, Namespace: run.Namespace, Message: note, CreatedBy: by, FireCount: 1}, nil
}

// insight answers with what it was given, and keeps what it was asked.
type insight struct {
	mu         sync.Mutex
	at         time.Time
	from, to   time.Time
	namespaces []string
	forecast   api.ForecastQuery
	spread     api.SpreadQuery
	checks     []api.Check
	err        error
}

func (i *insight) Why(_ context.Context, task core.Task, at time.Time) (api.Why, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.at = at
	return api.Why{TaskID: task.ID, Code: "no_such_fire", Answer: api.Text{Zh: "没有这个时刻", En: "no such fire"}}, i.err
}

func (i *insight) Forecast(_ context.Context, ask api.ForecastQuery) (api.Forecast, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.forecast = ask
	return api.Forecast{Bucket: ask.Bucket.String(), Collisions: []api.Collision{{}}}, i.err
}

func (i *insight) Spread(_ context.Context, ask api.SpreadQuery) (api.Spread, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.spread = ask
	return api.Spread{Applied: ask.Apply}, i.err
}

func (i *insight) Reconcile(_ context.Context, namespaces []string, from, to time.Time) (api.Reconciliation, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.namespaces, i.from, i.to = namespaces, from, to
	return api.Reconciliation{Sound: true, Items: []api.Reconciled{{TaskID: "x"}}}, i.err
}

func (i *insight) Doctor(context.Context) ([]api.Check, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.checks, i.err
}

func (s *tables) PutResource(_ context.Context, r core.Resource) (core.Resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Version = s.resources[r.Kind+" "+r.Name].Version + 1
	s.resources[r.Kind+" "+r.Name] = r
	return r, nil
}

func (s *tables) Resource(_ context.Context, kind, name string) (core.Resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.resources[kind+" "+name]
	if !ok {
		return r, none(kind + " " + name)
	}
	return r, nil
}

func (s *tables) Resources(_ context.Context, kind string) ([]core.Resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []core.Resource
	for _, r := range s.resources {
		if r.Kind == kind {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b core.Resource) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *tables) DeleteResource(_ context.Context, kind, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.resources[kind+" "+name]; !ok {
		return none(kind + " " + name)
	}
	delete(s.resources, kind+" "+name)
	return nil
}

func (s *tables) references() (list []core.Reference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, versions := range s.tasks {
		t := versions[len(versions)-1]
		add := func(kind, name string) {
			list = append(list, core.Reference{TaskID: id, Namespace: t.Namespace, TaskName: t.Name, Kind: kind, Name: name})
		}
		for _, u := range t.After {
			add("upstream", u.Task)
		}
		for _, name := range slices.Concat(t.Schedule.OnlyOn, t.Schedule.NotOn) {
			add("calendar", name)
		}
		for _, u := range t.Policies.Pools {
			add("pool", u.Pool)
		}
		for _, name := range t.Policies.Downstreams {
			add("downstream", name)
		}
	}
	return list
}

func (s *tables) References(_ context.Context, kind, name string) ([]core.Reference, error) {
	return slices.DeleteFunc(s.references(), func(r core.Reference) bool { return r.Kind != kind || r.Name != name }), nil
}

func (s *tables) AllReferences(_ context.Context, kinds ...string) ([]core.Reference, error) {
	return slices.DeleteFunc(s.references(), func(r core.Reference) bool { return !slices.Contains(kinds, r.Kind) }), nil
}

func (s *tables) Definitions(_ context.Context, ids []string) (tasks []core.Task, problems map[string]error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if versions := s.tasks[id]; len(versions) > 0 {
			tasks = append(tasks, versions[len(versions)-1])
		}
	}
	return tasks, nil, nil
}

func (s *tables) Holdings(context.Context) ([]core.Holding, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.holdings), nil
}

func (s *tables) Breakers(context.Context) ([]core.Breaker, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.breakers)), nil
}

func (s *tables) Intervention(_ context.Context, runID string) (core.Intervention, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.interventions[runID]
	if !ok {
		return i, none("intervention " + runID)
	}
	return i, nil
}

func (s *tables) Interventions(_ context.Context, f core.InterventionFilter) ([]core.Intervention, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(slices.Collect(maps.Values(s.interventions)), func(i core.Intervention) bool {
		return f.Namespaces != nil && !slices.Contains(f.Namespaces, i.Namespace) || f.TaskID != "" && f.TaskID != i.TaskID ||
			f.Resolved == i.ResolvedAt.IsZero() || f.BeforeID != "" && i.RunID >= f.BeforeID
	})
	slices.SortFunc(list, func(a, b core.Intervention) int { return cmp.Compare(b.RunID, a.RunID) })
	return list[:min(len(list), f.Limit)], nil
}
