package definition

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

// snapshot is what all tasks stand on, read from the store every few seconds and after each change of our own, so that a
// run costs no read of it. It does not change.
type snapshot struct {
	namespaces map[string]core.Namespace
	resources  map[string][]core.Resource // by kind, by name

	shares    shares
	calendars map[string]core.Calendar // without the built-in ones
	holidays  []core.Holidays
	days      *calendar.Set

	running    map[string]core.Limit // by namespace, if it has one
	types      map[typeKey]core.Limit
	pools      map[string]core.Limit // Need is 1
	breakers   map[string]core.BreakerRule
	dependents map[taskKey][]core.Reference // the tasks that a task's ends may start
}

type (
	taskKey struct{ namespace, name string }
	typeKey struct{ namespace, taskType string }
)

func newSnapshot() *snapshot {
	days, _ := calendar.New(nil, nil)
	return &snapshot{days: days}
}

// Start reads what tasks stand on for the first time. Nothing runs afterwards that would have to be stopped.
func (d *Definitions) Start(ctx context.Context) error { return d.Refresh(ctx) }

// Refresh reads it again: the changes of other servers. It is to be called every few seconds; after changes of our own it
// has been called already. Options.Changed is called if there are any beyond who depends on whom.
func (d *Definitions) Refresh(ctx context.Context) error {
	d.reading.Lock()
	defer d.reading.Unlock()
	read := &snapshot{namespaces: map[string]core.Namespace{}, resources: map[string][]core.Resource{}}
	namespaces, err := d.opts.Store.Namespaces(ctx)
	if err != nil {
		return err
	}
	for _, ns := range namespaces {
		read.namespaces[ns.Name] = ns
	}
	for _, kind := range []string{kindCalendar, kindHolidays, kindPool, kindDownstream} {
		if read.resources[kind], err = d.opts.Store.Resources(ctx, kind); err != nil {
			return err
		}
	}
	if read.dependents, err = d.dependents(ctx); err != nil {
		return err
	}
	old := d.held.Load()
	changed := !reflect.DeepEqual(old.namespaces, read.namespaces) || !reflect.DeepEqual(old.resources, read.resources)
	if !changed {
		same := *old
		same.dependents = read.dependents
		d.held.Store(&same)
		return nil
	}
	d.derive(read)
	d.held.Store(read)
	if d.opts.Changed != nil {
		d.opts.Changed()
	}
	return nil
}

func (d *Definitions) dependents(ctx context.Context) (map[taskKey][]core.Reference, error) {
	refs, err := d.opts.Store.AllReferences(ctx, kindUpstream)
	if err != nil {
		return nil, err
	}
	of := make(map[taskKey][]core.Reference)
	for _, r := range refs {
		key := taskKey{r.Namespace, r.Name}
		if !slices.ContainsFunc(of[key], func(o core.Reference) bool { return o.TaskID == r.TaskID }) {
			of[key] = append(of[key], r)
		}
	}
	return of, nil
}

// relink reads who depends on whom after a task that has a say in it was stored. What cannot be read now is read by the
// next Refresh.
func (d *Definitions) relink(ctx context.Context, t core.Task) {
	if len(t.After) == 0 {
		return
	}
	d.reading.Lock()
	defer d.reading.Unlock()
	of, err := d.dependents(ctx)
	if err != nil {
		d.opts.Log.Warn("references not read", "namespace", t.Namespace, "task", t.Name, "err", err)
		return
	}
	next := *d.held.Load()
	next.dependents = of
	d.held.Store(&next)
}

// learn refreshes if a task names something that is not in the snapshot: another server may have made it just now.
func (d *Definitions) learn(ctx context.Context, t core.Task) error {
	held := d.held.Load()
	known := true
	for _, use := range t.Policies.Pools {
		_, ok := held.shares.pools[use.Pool]
		known = known && ok
	}
	for _, name := range t.Policies.Downstreams {
		_, ok := held.shares.downstreams[name]
		known = known && ok
	}
	for _, name := range slices.Concat(t.Schedule.OnlyOn, t.Schedule.NotOn, d.asked(t.Policies.Preconditions, core.MentionCalendar)) {
		_, ok := held.calendars[name]
		known = known && (ok || builtIn(name))
	}
	if known {
		return nil
	}
	return d.Refresh(ctx)
}

// derive fills in what follows from what was read. A resource that cannot be read is left out, and said.
func (d *Definitions) derive(s *snapshot) {
	s.shares = shares{pools: map[string]core.Pool{}, downstreams: map[string]core.Downstream{}}
	s.pools, s.breakers = map[string]core.Limit{}, map[string]core.BreakerRule{}
	s.running, s.types = map[string]core.Limit{}, map[typeKey]core.Limit{}
	for _, ns := range s.namespaces {
		if ns.MaxRunning > 0 {
			s.running[ns.Name] = core.Limit{Key: "namespace:" + ns.Name, Slots: ns.MaxRunning, Need: 1, MaxWaiting: core.DefaultMaxWaiting}
		}
		for taskType, slots := range ns.TypeLimits {
			if taskType == workflow.TypeName { // stored before it was refused
				continue
			}
			s.types[typeKey{ns.Name, taskType}] = core.Limit{Key: "type:" + ns.Name + "/" + taskType, Slots: slots, Need: 1, MaxWaiting: core.DefaultMaxWaiting}
		}
	}
	for _, p := range decode[core.Pool](d, s.resources[kindPool]) {
		s.shares.pools[p.Name] = p
		s.pools[p.Name] = limitOf(p)
	}
	for _, t := range decode[core.Downstream](d, s.resources[kindDownstream]) {
		s.shares.downstreams[t.Name] = t
		s.breakers[t.Name] = core.BreakerRule{Name: "downstream:" + t.Name, Failures: t.Failures, Cooldown: t.Cooldown, Probes: t.Probes}
	}
	s.calendars = map[string]core.Calendar{}
	defs := decode[core.Calendar](d, s.resources[kindCalendar])
	for _, c := range defs {
		s.calendars[c.Name] = c
	}
	s.holidays = decode[core.Holidays](d, s.resources[kindHolidays])
	var wrong []core.Finding
	s.days, wrong = calendar.New(defs, s.holidays)
	for _, f := range wrong {
		d.opts.Log.Error("stored calendar cannot be used", "path", f.Path, "err", f.Message.En)
	}
}

func limitOf(p core.Pool) core.Limit {
	waiting := p.MaxWaiting
	if waiting == 0 {
		waiting = core.DefaultMaxWaiting
	}
	return core.Limit{Key: "pool:" + p.Name, Slots: p.Slots, Need: 1, MaxWaiting: waiting}
}

func decode[T any](d *Definitions, resources []core.Resource) []T {
	list := make([]T, 0, len(resources))
	for _, r := range resources {
		var one T
		if err := json.Unmarshal(r.Doc, &one); err != nil {
			d.opts.Log.Error("stored definition cannot be read", "kind", r.Kind, "name", r.Name, "err", err)
			continue
		}
		list = append(list, one)
	}
	return list
}

// Plan gives the schedule of a task with the calendars as they are. It fails with KindInvalid and findings below
// "schedule".
func (d *Definitions) Plan(task *core.Task) (*schedule.Schedule, error) {
	return schedule.Parse(task.Schedule, task.Name, d.held.Load().days)
}

// Effective gives a task with the policies that hold for it: its own over its namespace's defaults over Gnomon's. What
// the task itself says is what the store has.
func (d *Definitions) Effective(task core.Task) core.Task {
	defaults := d.held.Load().namespaces[task.Namespace].Defaults
	if task.Type == workflow.TypeName { // its steps take these: if it held them too, it might wait for itself
		task.Policies.Pools, task.Policies.Downstreams = nil, nil
		defaults.Pools, defaults.Downstreams = nil, nil
	}
	task.Policies = effective(task.Policies, task.StopOnError, defaults)
	return task
}

// Gates gives the limits a run of an effective task must fit in and the breakers it must pass. It allocates nothing for a
// task that has none.
func (d *Definitions) Gates(task *core.Task) (limits []core.Limit, breakers []core.BreakerRule) {
	held := d.held.Load()
	p := &task.Policies
	if own, ok := held.running[task.Namespace]; ok && task.Type != workflow.TypeName { // a workflow waits for runs that count
		limits = append(limits, own)
	}
	if own, ok := held.types[typeKey{task.Namespace, task.Type}]; ok {
		limits = append(limits, own)
	}
	for _, use := range p.Pools {
		limit, ok := held.pools[use.Pool]
		if !ok { // removed on another server while the task was saved on this one
			continue
		}
		limit.Need = max(1, use.Slots)
		limits = append(limits, limit)
	}
	if p.Breaker.Failures > 0 {
		own := p.Breaker
		own.Name = "task:" + task.ID
		breakers = append(breakers, own)
	}
	for _, name := range p.Downstreams {
		if rule, ok := held.breakers[name]; ok {
			breakers = append(breakers, rule)
		}
	}
	return limits, breakers
}

// Gated says whether runs of an effective task must be admitted at their instant, because of what is not known before.
func (d *Definitions) Gated(task *core.Task) bool {
	p := &task.Policies
	if task.Schedule.Jitter > 0 || len(p.Preconditions) > 0 || p.Breaker.Failures > 0 ||
		p.Overlap != core.OverlapSkip && (p.Overlap != core.OverlapAllow || p.OverlapLimit > 0) {
		return true
	}
	held := d.held.Load()
	if _, ok := held.running[task.Namespace]; ok && task.Type != workflow.TypeName {
		return true
	}
	if _, ok := held.types[typeKey{task.Namespace, task.Type}]; ok {
		return true
	}
	return len(p.Pools) > 0 || len(p.Downstreams) > 0
}

// Knows says whether all pools and downstreams that an effective task names are known here. One that is not was made on another
// server a moment ago: Refresh, and Gates is complete.
func (d *Definitions) Knows(task *core.Task) bool {
	held := d.held.Load()
	for _, use := range task.Policies.Pools {
		if _, ok := held.pools[use.Pool]; !ok {
			return false
		}
	}
	for _, name := range task.Policies.Downstreams {
		if _, ok := held.breakers[name]; !ok {
			return false
		}
	}
	return true
}

func holidaysName(h core.Holidays) string { return fmt.Sprintf("%s-%d", h.Region, h.Year) }
