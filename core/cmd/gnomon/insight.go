package main

import (
	"cmp"
	"context"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/forecast"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/gnomon-scheduler/gnomon/core/statement"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

// insight answers what was, is and will be, out of store, history and definitions.
type insight struct{ a *app }

// planOf gives meaning to the schedule of any version of a task.
func (i insight) planOf(version core.Task) (*schedule.Schedule, error) {
	effective := i.a.definitions.Effective(version)
	return i.a.definitions.Plan(&effective)
}

// recalendared gives when calendars or holidays last changed, for a task that names calendars.
func (i insight) recalendared(ctx context.Context, task core.Task) (time.Time, error) {
	var last time.Time
	if !task.Schedule.HasCalendars() {
		return last, nil
	}
	calendars, err := i.a.definitions.Calendars(ctx)
	if err != nil {
		return last, err
	}
	for _, c := range calendars {
		if c.UpdatedAt.After(last) {
			last = c.UpdatedAt
		}
	}
	holidays, err := i.a.definitions.Holidays(ctx)
	for _, h := range holidays {
		if h.UpdatedAt.After(last) {
			last = h.UpdatedAt
		}
	}
	return last, err
}

// Why says what became of a task's instant.
func (i insight) Why(ctx context.Context, task core.Task, at time.Time) (api.Why, error) {
	versions, err := i.a.store.TaskVersions(ctx, task.ID)
	if err != nil {
		return api.Why{}, err
	}
	now := i.a.clock.Now()
	q := ledger.Question{
		Task: i.a.definitions.Effective(task), Versions: versions, Plan: i.planOf, At: at.UTC(), Now: now.UTC(), Serving: i.a.lease.Renewed(),
		Intervention: func(runID string) (core.Intervention, bool) { return i.intervention(ctx, runID) },
		Seen:         func(before time.Time) time.Time { return i.seen(ctx, before) },
		Note:         func(calendar string, at time.Time) core.Text { return i.note(ctx, task, calendar, at) },
	}
	if at.IsZero() { // where fires follow runs, the runs say which was last
		if q.Rows, err = i.rowsAround(ctx, task, now); err != nil {
			return api.Why{}, err
		}
		q.At = ledger.LastExpected(q)
	}
	if q.Recalendared, err = i.recalendared(ctx, task); err != nil {
		return api.Why{}, err
	}
	ends, caused, err := i.ends(ctx, task, at)
	if err != nil {
		return api.Why{}, err
	}
	around := q.At
	if around.IsZero() && len(caused) > 0 {
		around = slices.MaxFunc(caused, func(x, y core.Run) int { return x.FireAt.Compare(y.FireAt) }).FireAt
	}
	if q.Rows, err = i.rowsAround(ctx, task, around); err != nil {
		return api.Why{}, err
	}
	q.Ends, q.Rows = ends, once(append(q.Rows, caused...))
	if there := i.movedTo(task, q.At); !there.IsZero() {
		rows, err := i.rowsAround(ctx, task, there)
		if err != nil {
			return api.Why{}, err
		}
		q.Rows = once(append(q.Rows, rows...))
	}
	_, rules := i.a.definitions.Gates(&q.Task)
	for _, rule := range rules {
		b, err := i.a.store.Breaker(ctx, rule.Name)
		if err != nil && core.KindOf(err) != core.KindNotFound {
			return api.Why{}, err
		}
		if err == nil {
			q.Breakers = append(q.Breakers, b)
		}
	}
	answer := ledger.Why(q)
	next, _ := i.a.definitions.Upcoming(task)
	why := api.Why{
		TaskID: task.ID, Instant: instant(answer.Instant), Code: string(answer.Code), Answer: textOf(answer.Text), RunID: answer.RunID,
		Next: instant(next),
	}
	if len(answer.Data) > 0 {
		why.Data = anyOf(answer.Data)
	}
	for _, e := range answer.Evidence {
		one := api.Evidence{Kind: e.Kind, Text: textOf(e.Text), At: instant(e.At)}
		if len(e.Data) > 0 {
			one.Data = anyOf(e.Data)
		}
		why.Evidence = append(why.Evidence, one)
	}
	return why, nil
}

// intervention gives what a person was asked about a run; false: nobody was, or it cannot be read.
func (i insight) intervention(ctx context.Context, runID string) (core.Intervention, bool) {
	asked, err := i.a.store.Intervention(ctx, runID)
	if err != nil && core.KindOf(err) != core.KindNotFound {
		i.a.log.Warn("intervention not read", "run_id", runID, "err", err)
	}
	return asked, err == nil
}

// seen gives when a server last showed itself before a time, by the readings that servers take of their machines; zero:
// none is on record.
func (i insight) seen(ctx context.Context, before time.Time) time.Time {
	const farBack = 400 * 24 * time.Hour
	rows, err := i.a.history.Query(ctx, "SELECT toUnixTimestamp64Micro(max(at)) FROM host_samples WHERE at >= {from:DateTime64(6)} AND at < {to:DateTime64(6)}",
		clickhouse.QueryLimits{MaxRows: 1, MaxDuration: 5 * time.Second}, map[string]string{"from": sqlTime(before.Add(-farBack)), "to": sqlTime(before)}, statement.Scope{All: true})
	if err != nil {
		i.a.log.Debug("readings of machines not read", "err", err)
		return time.Time{}
	}
	defer rows.Close()
	var values []any
	if !rows.Next() {
		return time.Time{}
	}
	if values, err = rows.Scan(values); err != nil || len(values) != 1 {
		return time.Time{}
	}
	micros, _ := values[0].(int64)
	if micros <= 0 { // the maximum of nothing is the epoch
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

func sqlTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000") }

// note gives what a calendar says of a day: the name of the holiday.
func (i insight) note(ctx context.Context, task core.Task, calendar string, at time.Time) core.Text {
	zone := time.UTC
	if plan, err := i.planOf(task); err == nil {
		zone = plan.Location()
	}
	day := at.In(zone).Format(time.DateOnly)
	days, err := i.a.definitions.Days(ctx, calendar, zone.String(), day, day)
	if err != nil || len(days) != 1 {
		return core.Text{}
	}
	return days[0].Why
}

// movedTo gives the instant to which the calendars moved one that is asked about; zero: it was not moved on.
func (i insight) movedTo(task core.Task, at time.Time) time.Time {
	if at.IsZero() || task.Schedule.OnDayOff != "next" || !task.Schedule.HasCalendars() {
		return time.Time{}
	}
	plan, err := i.planOf(task)
	if err != nil {
		return time.Time{}
	}
	fire, ok := plan.Next(at.Add(-time.Microsecond))
	if !ok || fire.MovedFrom.IsZero() || fire.At.Equal(at) {
		return time.Time{}
	}
	return fire.At
}

// rowsAround gives the rows that cover the second an instant begins, a few before it, and all that are live.
func (i insight) rowsAround(ctx context.Context, task core.Task, at time.Time) ([]core.Run, error) {
	if at.IsZero() {
		return nil, nil
	}
	own := []string{task.Namespace}
	const few = 20
	until := at.Add(time.Second)
	// The store first: a row leaves it only once history has it.
	rows, err := pages(ctx, core.RunFilter{TaskID: task.ID, Namespaces: own, To: until, Limit: 1000}, i.a.store.Runs)
	if err != nil {
		return nil, err
	}
	live, err := i.a.store.Runs(ctx, core.RunFilter{TaskID: task.ID, Namespaces: own, LiveOnly: true, Limit: 1000})
	if err != nil {
		return nil, err
	}
	rows = append(rows, live...)
	before, err := i.a.history.Runs(ctx, core.RunFilter{TaskID: task.ID, Namespaces: own, To: until, Limit: few})
	if err != nil {
		return nil, err
	}
	for n := range before { // they come without their facts
		if run := &before[n]; run.Reason == core.ReasonMaxRuns || run.Reason == core.ReasonPoisoned {
			if *run, err = i.a.history.Run(ctx, run.ID); err != nil {
				return nil, err
			}
		}
	}
	rows = append(rows, before...)
	covering, err := i.a.history.Fires(ctx, core.FireFilter{Namespaces: own, TaskID: task.ID, From: at, To: until, Limit: 1000})
	return once(append(rows, covering...)), err
}

// ends gives, for a task without a schedule that runs after others, the last run of each of them that ended at or before a
// time (zero: so far), and the rows of the task that these ends have caused.
func (i insight) ends(ctx context.Context, task core.Task, until time.Time) (ends, caused []core.Run, err error) {
	if plan, err := i.planOf(task); len(task.After) == 0 || err != nil || plan.Kind() != schedule.Manual {
		return nil, nil, nil
	}
	asked := map[string]bool{}
	for _, u := range task.After {
		if asked[u.Task] {
			continue
		}
		asked[u.Task] = true
		upstream, err := i.a.store.TaskByName(ctx, task.Namespace, u.Task)
		if err != nil && core.KindOf(err) == core.KindNotFound {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		const few = 20 // the newest run need not have been the last to end
		runs, err := i.everywhere(ctx, core.RunFilter{
			TaskID: upstream.ID, Namespaces: []string{task.Namespace}, States: []core.RunState{core.RunEnded}, To: until, Limit: few,
			Verdicts: []core.Verdict{core.Succeeded, core.Failed, core.TimedOut, core.Cancelled, core.Crashed, core.Lost},
		})
		if err != nil {
			return nil, nil, err
		}
		if !until.IsZero() {
			runs = slices.DeleteFunc(runs, func(r core.Run) bool { return r.EndedAt.After(until) })
		}
		if len(runs) == 0 {
			continue
		}
		last := slices.MaxFunc(runs, func(x, y core.Run) int { return x.EndedAt.Compare(y.EndedAt) })
		by, err := i.everywhere(ctx, core.RunFilter{TaskID: task.ID, Namespaces: []string{task.Namespace}, CausedBy: last.ID, Limit: few})
		if err != nil {
			return nil, nil, err
		}
		ends, caused = append(ends, last), append(caused, by...)
	}
	return ends, caused, nil
}

// everywhere gives the runs of the store and of history.
func (i insight) everywhere(ctx context.Context, filter core.RunFilter) ([]core.Run, error) {
	runs, err := i.a.store.Runs(ctx, filter) // first: a row leaves it only once history has it
	if err != nil {
		return nil, err
	}
	shipped, err := i.a.history.Runs(ctx, filter)
	return append(runs, shipped...), err
}

// once sorts rows by instant and makes one of those with the same id: the first says how the run went, and one that follows
// may have the facts it was decided on.
func once(rows []core.Run) []core.Run {
	slices.SortStableFunc(rows, func(x, y core.Run) int { return cmp.Or(x.FireAt.Compare(y.FireAt), cmp.Compare(x.ID, y.ID)) })
	var all []core.Run
	for _, run := range rows {
		if last := len(all) - 1; last < 0 || all[last].ID != run.ID {
			all = append(all, run)
		} else if len(all[last].Facts) == 0 {
			all[last].Facts = run.Facts
		}
	}
	return all
}

// input is what a forecast of some namespaces is made of.
func (i insight) input(ctx context.Context, ask api.ForecastQuery) (forecast.Input, error) {
	namespaces, from, to := ask.Namespaces, ask.From, ask.To
	if from.IsZero() {
		from = i.a.clock.Now()
	}
	if to.IsZero() {
		to = from.UTC().AddDate(0, 0, ask.Days)
	}
	in := forecast.Input{From: from.UTC(), To: to.UTC(), Bucket: ask.Bucket, List: ask.Fires, Of: ask.TaskID}
	enabled := true
	filter := core.TaskFilter{Namespaces: namespaces, Enabled: &enabled, Limit: 1000}
	byName := map[string]string{} // namespace/name -> id
	var tasks []core.Task
	for {
		page, err := i.a.definitions.Tasks(ctx, filter)
		if err != nil {
			return in, err
		}
		tasks = append(tasks, page...)
		if len(page) < filter.Limit {
			break
		}
		filter.AfterID = page[len(page)-1].ID
	}
	usual, err := i.a.history.Durations(ctx, namespaces, nil, i.a.clock.Now().AddDate(0, 0, -30))
	if err != nil {
		return in, err
	}
	for n := range tasks {
		byName[tasks[n].Namespace+"/"+tasks[n].Name] = tasks[n].ID
	}
	for n := range tasks {
		t := i.a.definitions.Effective(tasks[n])
		plan, _ := i.a.definitions.Plan(&t) // nil says that it cannot be read
		limits, _ := i.a.definitions.Gates(&t)
		ft := forecast.Task{
			ID: t.ID, Namespace: t.Namespace, Name: t.Name, Schedule: tasks[n].Schedule, Plan: plan, Pause: t.Pause, Next: t.State.NextFire,
			MaxRuns: t.Policies.MaxRuns, Fired: t.State.Fired,
			Usual: usual[t.ID], Limits: limits, Priority: t.Policies.Priority, FinishBy: t.Policies.SLA.FinishBy, Host: i.a.hostname,
		}
		for _, u := range t.After {
			// A run is expected to succeed. One end starts a task once, however often it is named.
			if id, ok := byName[t.Namespace+"/"+u.Task]; ok && u.On.Matches(core.Succeeded) && !slices.Contains(ft.After, id) {
				ft.After = append(ft.After, id)
			}
		}
		if t.Type == workflow.TypeName {
			ft.Steps = stepsOf(t, byName)
		}
		in.Tasks = append(in.Tasks, ft)
		in.Order = append(in.Order, orders(t, byName)...)
	}
	return in, nil
}

// stepsOf gives the steps of a workflow; those of a graph that cannot be read are none.
func stepsOf(t core.Task, byName map[string]string) []forecast.Step {
	graph, findings := workflow.Parse(t.Params)
	if len(findings) > 0 {
		return nil
	}
	index := map[string]int{}
	for k, s := range graph.Steps {
		index[s.Name] = k
	}
	list := make([]forecast.Step, len(graph.Steps))
	for k, s := range graph.Steps {
		list[k] = forecast.Step{Task: byName[t.Namespace+"/"+s.Task], When: s.When}
		for _, need := range s.Needs {
			list[k].Needs = append(list[k].Needs, index[need])
		}
	}
	return list
}

var quoted = regexp.MustCompile(`["']([^"']{1,128})["']`)

// orders gives what must stay before a task: the tasks that its preconditions ask about.
func orders(t core.Task, byName map[string]string) []forecast.Order {
	var list []forecast.Order
	for _, p := range t.Policies.Preconditions {
		for _, m := range quoted.FindAllStringSubmatch(p.Expression, -1) {
			if id, ok := byName[t.Namespace+"/"+m[1]]; ok && id != t.ID {
				list = append(list, forecast.Order{Before: id, After: t.ID, Gap: time.Minute})
			}
		}
	}
	return list
}

// Forecast looks ahead.
func (i insight) Forecast(ctx context.Context, ask api.ForecastQuery) (api.Forecast, error) {
	in, err := i.input(ctx, ask)
	if err != nil {
		return api.Forecast{}, err
	}
	r := forecast.Forecast(in)
	f := api.Forecast{
		From: instant(r.From), To: instant(r.To), Bucket: r.Bucket.String(), Fires: r.Fires, Peak: r.Peak, PeakAt: instant(r.PeakAt),
		Counted: r.Counted, Unmeasured: r.Unmeasured, UsedUp: r.UsedUp, Unforeseen: r.Unforeseen, Unfollowed: r.Unfollowed, FiresLeft: r.More,
	}
	for _, t := range r.ByTask {
		if ask.TaskID == "" || t.ID == ask.TaskID {
			f.Tasks = append(f.Tasks, taskForecast(t))
		}
	}
	for _, fire := range r.Listed {
		f.FireList = append(f.FireList, forecastFire(fire))
	}
	for _, b := range r.Buckets {
		if b.Fires > 0 || b.Busy > 0 {
			f.Buckets = append(f.Buckets, api.Bucket{At: instant(b.At), Fires: b.Fires, Running: b.Peak, Busy: round(b.Busy)})
		}
	}
	f.Collisions = collisions(r.Collisions)
	group := func(kind string, g forecast.Group) api.Load {
		return api.Load{Kind: kind, Name: g.Name, Fires: g.Fires, PeakAt: instant(g.PeakAt), PeakFires: g.PeakStarts, Peak: g.Peak, Collisions: collisions(g.Collisions)}
	}
	for _, g := range r.Namespaces {
		f.Groups = append(f.Groups, group("namespace", g))
	}
	for _, g := range r.Hosts {
		f.Groups = append(f.Groups, group("host", g))
	}
	for _, l := range r.Limits {
		load := api.Load{Kind: "limit", Name: l.Key, Fires: l.Runs, PeakAt: instant(l.PeakAt), Peak: l.PeakSlots, Limit: l.Slots, Use: round(l.Use), Rough: l.Rough, Waiting: l.Waiting}
		if l.LongestWait > 0 {
			load.LongestWait = l.LongestWait.Round(time.Millisecond).String()
		}
		for _, m := range l.Moments {
			load.Moments = append(load.Moments, textOf(m.Text))
		}
		f.Groups = append(f.Groups, load)
	}
	return f, nil
}

func taskForecast(t forecast.TaskForecast) api.TaskForecast {
	one := api.TaskForecast{
		TaskID: t.ID, Namespace: t.Namespace, TaskName: t.Name, Fires: t.Fires, Caused: t.Caused, Skipped: t.Skipped, Next: []*api.Time{},
		Expected: t.Expected.Round(time.Millisecond).String(), Basis: string(t.Basis), Measured: t.Measured, Busy: round(t.Busy), Counted: t.Counted,
	}
	if t.Measured > 0 {
		one.P95 = t.P95.Round(time.Millisecond).String()
	}
	for _, at := range t.Next {
		one.Next = append(one.Next, instant(at))
	}
	return one
}

func forecastFire(f forecast.Fire) api.ForecastFire {
	cause := "schedule"
	switch {
	case f.Step:
		cause = "workflow"
	case f.Cause.ID != "":
		cause = "upstream"
	}
	return api.ForecastFire{
		TaskID: f.ID, Namespace: f.Namespace, TaskName: f.Name, At: instant(f.At), End: instant(f.End), Late: instant(f.Late),
		Assumed: f.Basis == forecast.Assumed, Cause: cause, Of: f.Cause.Name,
	}
}

// round keeps what a reader can use of a share: six digits.
func round(share float64) float64 { return math.Round(share*1e6) / 1e6 }

func collisions(list []forecast.Collision) []api.Collision {
	out := make([]api.Collision, 0, len(list))
	for _, c := range list {
		one := api.Collision{At: instant(c.At), Times: c.Times, Starts: c.Starts, More: c.More}
		for _, t := range c.Tasks {
			task := api.ForecastTask{TaskID: t.ID, Namespace: t.Namespace, TaskName: t.Name, Fires: t.Fires}
			if t.Expected > 0 {
				task.Expected = t.Expected.Round(time.Millisecond).String()
			}
			one.Tasks = append(one.Tasks, task)
		}
		out = append(out, one)
	}
	return out
}

// Spread proposes how to move a namespace's fires apart, and does it if asked.
func (i insight) Spread(ctx context.Context, ask api.SpreadQuery) (api.Spread, error) {
	in, err := i.input(ctx, api.ForecastQuery{Days: 7, Bucket: time.Hour}) // what other namespaces do counts too
	if err != nil {
		return api.Spread{}, err
	}
	p := forecast.Spread(in, forecast.Rules{
		Within: ask.Within, Namespaces: []string{ask.Namespace},
		Plan: func(task forecast.Task, changed core.Schedule) (*schedule.Schedule, error) {
			return i.a.definitions.Plan(&core.Task{ID: task.ID, Namespace: task.Namespace, Name: task.Name, Schedule: changed})
		},
	})
	spread := api.Spread{Before: crowd(p.Before), After: crowd(p.After)}
	for _, m := range p.Moves {
		spread.Proposals = append(spread.Proposals, api.Proposal{
			TaskID: m.Task.ID, TaskName: m.Task.Name, FromSpec: m.FromSpec, ToSpec: m.ToSpec, MovedBy: m.By.String(), Why: textOf(m.Why),
		})
	}
	for _, k := range p.Kept {
		if k.Task.Namespace == ask.Namespace {
			spread.Kept = append(spread.Kept, api.KeptTask{TaskID: k.Task.ID, TaskName: k.Task.Name, Why: textOf(k.Why)})
		}
	}
	if !ask.Apply {
		return spread, nil
	}
	for n := range spread.Proposals {
		proposal := &spread.Proposals[n]
		task, err := i.a.definitions.Task(ctx, proposal.TaskID)
		if err == nil {
			task.Schedule.Spec = proposal.ToSpec
			_, err = i.a.definitions.Replace(ctx, task, ask.By)
		}
		if err != nil { // the others are moved all the same; this one says why it was not
			proposal.Problem = err.Error()
		}
	}
	spread.Applied = true
	return spread, nil
}

func crowd(c forecast.Crowd) api.SpreadForecast {
	return api.SpreadForecast{Fires: c.Fires, PeakAt: instant(c.StartsAt), PeakFires: c.Starts, Peak: c.Peak, Colliding: c.Colliding}
}

func textOf(t core.Text) api.Text { return api.Text{Zh: t.Zh, En: t.En} }
