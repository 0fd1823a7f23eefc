package definition

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/jsonpath"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

// Kinds of core.Reference.
const (
	kindUpstream      = "upstream"
	kindStep          = "step"
	kindCalendar      = "calendar"
	kindHolidays      = "holidays"
	kindPool          = "pool"
	kindDownstream    = "downstream"
	kindAskedTask     = "asked_task"
	kindAskedCalendar = "asked_calendar"
)

const (
	maxUpstreams = 64
	// tasksRead is how many tasks are read at once where all of them are wanted.
	tasksRead = 1000
)

// linked says whether a task names anything that may be removed, or that may name it in turn.
func linked(t core.Task) bool {
	p := t.Policies
	return len(t.After) > 0 || len(t.Steps) > 0 || len(p.Pools) > 0 || len(p.Downstreams) > 0 || len(p.Preconditions) > 0 || t.Schedule.HasCalendars()
}

// started is a task that a workflow starts, and the place that says so.
type started struct {
	at   string // after[0], params.steps[0]
	task string
	step workflow.Step // of a workflow
}

// stepsOf gives the tasks a workflow starts; none if the task is no workflow, or one that cannot be read.
func stepsOf(t core.Task) []started {
	if t.Type != workflow.TypeName {
		return nil
	}
	graph, wrong := workflow.Parse(t.Params)
	if len(wrong) > 0 { // its provider has said so
		return nil
	}
	steps := make([]started, len(graph.Steps))
	for i, s := range graph.Steps {
		steps[i] = started{fmt.Sprintf("params.steps[%d]", i), s.Task, s}
	}
	return steps
}

// checkLinks judges the other tasks that a task names: that they are there, and that nothing starts itself.
func (d *Definitions) checkLinks(ctx context.Context, t core.Task, steps []started) ([]core.Finding, error) {
	found := checkUpstreams(t)
	var sound []started // upstreams, then steps
	named := make([]started, 0, len(t.After)+len(steps))
	for i, u := range t.After {
		named = append(named, started{at: fmt.Sprintf("after[%d]", i), task: u.Task})
	}
	named = append(named, steps...)
	upstreams := 0
	known := map[string]bool{}
	for i, n := range named {
		if n.task == t.Name {
			found = append(found, finding(n.at+".task", "任务不能启动自己；请写另一个任务", "a task cannot start itself; name another one"))
			continue
		}
		if _, asked := known[n.task]; !asked {
			_, err := d.opts.Store.TaskByName(ctx, t.Namespace, n.task)
			if err != nil && core.KindOf(err) != core.KindNotFound {
				return nil, err
			}
			known[n.task] = err == nil
		}
		if !known[n.task] {
			said, err := d.noTask(ctx, t.Namespace, n.task)
			if err != nil {
				return nil, err
			}
			found = append(found, finding(n.at+".task", said.Zh, said.En))
			continue
		}
		sound = append(sound, n)
		if i < len(t.After) {
			upstreams = len(sound)
		}
	}
	if len(sound) == 0 {
		return found, nil
	}
	starts, err := d.starts(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, s := range sound[upstreams:] {
		starts[t.Name] = append(starts[t.Name], s.task)
	}
	for i, n := range sound {
		from, to := t.Name, n.task
		if i >= upstreams {
			from, to = to, from
		}
		way := route(starts, from, to)
		if way == nil {
			continue
		}
		if i < upstreams {
			way = append(way, t.Name)
		} else {
			way = slices.Insert(way, 0, t.Name)
		}
		round := strings.Join(way, " → ")
		found = append(found, finding(n.at+".task", "形成循环："+round+"（每个任务启动后一个）；请去掉其中一环",
			"makes a cycle: "+round+" (each starts the next); take one of the links out"))
		break
	}
	return found, nil
}

// checkUpstreams judges what can be seen in the task alone.
func checkUpstreams(t core.Task) []core.Finding {
	var found []core.Finding
	add := func(field, zh, en string) { found = append(found, finding(field, zh, en)) }
	if len(t.After) > maxUpstreams {
		add("after", fmt.Sprintf("最多 %d 个上游任务", maxUpstreams), fmt.Sprintf("at most %d upstream tasks", maxUpstreams))
	}
	for i, u := range t.After {
		field := fmt.Sprintf("after[%d]", i)
		if !slices.Contains([]core.When{"", core.OnSuccess, core.OnFailure, core.OnAlways}, u.On) {
			add(field+".on", fmt.Sprintf("%q 不是可选值；请写 success、failure 或 always", u.On),
				fmt.Sprintf("%q is not a choice; write success, failure or always", u.On))
		}
		for k, other := range t.After[:i] {
			if other.Task == u.Task && meet(other.On, u.On) {
				add(field+".task", fmt.Sprintf("任务 %s 已在 after[%d] 中列出；同一次结束会触发两次，请去掉一个", u.Task, k),
					fmt.Sprintf("task %s stands in after[%d] already, and one end would start this one twice; remove one", u.Task, k))
				break
			}
		}
		for _, param := range slices.Sorted(maps.Keys(u.Params)) {
			if param == "" {
				add(field+".params", "缺少参数名", "the name of a parameter is missing")
			}
			if _, ok := jsonpath.Parse(u.Params[param]); !ok {
				add(join(field+".params", param), fmt.Sprintf(`%q 不是 JSON 路径；请写 $、$.total 或 $.rows[0]["id"] 这样的路径`, u.Params[param]),
					fmt.Sprintf(`%q is not a JSON path; write $, $.total or $.rows[0]["id"]`, u.Params[param]))
			}
		}
	}
	return found
}

// meet says whether one end can match both.
func meet(a, b core.When) bool {
	return slices.ContainsFunc([]core.Verdict{core.Succeeded, core.Failed, core.Cancelled}, func(v core.Verdict) bool { return a.Matches(v) && b.Matches(v) })
}

// starts gives, for each task of t's namespace, the tasks it starts; of t itself only the upstreams it is to have.
func (d *Definitions) starts(ctx context.Context, t core.Task) (map[string][]string, error) {
	refs, err := d.opts.Store.AllReferences(ctx, kindUpstream, kindStep)
	if err != nil {
		return nil, err
	}
	starts := make(map[string][]string)
	for _, r := range refs {
		switch {
		case r.Namespace != t.Namespace || r.TaskID == t.ID:
		case r.Kind == kindUpstream:
			starts[r.Name] = append(starts[r.Name], r.TaskName)
		default:
			starts[r.TaskName] = append(starts[r.TaskName], r.Name)
		}
	}
	return starts, nil
}

// route gives the shortest way from one task to another, both included, or nil if there is none.
func route(starts map[string][]string, from, to string) []string {
	before := map[string]string{from: ""}
	for line := []string{from}; len(line) > 0; line = line[1:] {
		at := line[0]
		if at == to {
			var way []string
			for ; at != ""; at = before[at] {
				way = append(way, at)
			}
			slices.Reverse(way)
			return way
		}
		for _, next := range starts[at] {
			if _, seen := before[next]; !seen {
				before[next] = at
				line = append(line, next)
			}
		}
	}
	return nil
}

func (d *Definitions) noTask(ctx context.Context, namespace, name string) (core.Text, error) {
	tasks, err := d.opts.Store.Tasks(ctx, core.TaskFilter{Namespaces: []string{namespace}, Limit: tasksRead})
	if err != nil {
		return core.Text{}, err
	}
	there := make([]string, len(tasks))
	for i := range tasks {
		there[i] = tasks[i].Name
	}
	slices.Sort(there)
	return noSuch("任务", "task", "tasks of namespace "+namespace, name, there), nil
}

// namedBy gives who else names a task: others as an upstream, a step or in a precondition, and their namespace's defaults.
func (d *Definitions) namedBy(ctx context.Context, t core.Task) ([]string, error) {
	var users []string
	for _, kind := range []string{kindUpstream, kindStep, kindAskedTask} {
		refs, err := d.opts.Store.References(ctx, kind, t.Name)
		if err != nil {
			return nil, err
		}
		for _, r := range refs {
			if r.Namespace == t.Namespace && r.TaskID != t.ID && !slices.Contains(users, r.TaskName) {
				users = append(users, r.TaskName)
			}
		}
	}
	slices.Sort(users)
	if slices.Contains(d.asked(d.held.Load().namespaces[t.Namespace].Defaults.Preconditions, core.MentionTask), t.Name) {
		users = append(users, "the defaults of namespace "+t.Namespace)
	}
	return users, nil
}

// some lists names, not more than a person reads.
func some(list []string) string {
	const shown = 10
	if len(list) <= shown {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:shown], ", "), len(list)-shown)
}

// Dependents gives the tasks that an end of a task's run may start; DependentTasks says which of them it does. It costs
// a look into a map where nobody depends on the task.
func (d *Definitions) Dependents(namespace, taskName string, verdict core.Verdict) []core.Reference {
	if !core.OnAlways.Matches(verdict) {
		return nil
	}
	return d.held.Load().dependents[taskKey{namespace, taskName}]
}

// DependentTasks gives the tasks that want to start after the end of a run, by name: those that do, with what they take of the
// run's output laid over their parameters, and those that cannot, with the reason: they are disabled or paused, the output
// lacks what they take, their type refuses the parameters, or their definition cannot be read (and whether they want this end
// is not known). It fails only if the store does.
func (d *Definitions) DependentTasks(ctx context.Context, upstream core.Run, outcome core.Outcome) ([]core.Dependent, error) {
	refs := d.Dependents(upstream.Namespace, upstream.TaskName, outcome.Verdict)
	if len(refs) == 0 {
		return nil, nil
	}
	ids := make([]string, len(refs))
	for i, r := range refs {
		ids[i] = r.TaskID
	}
	tasks, problems, err := d.opts.Store.Definitions(ctx, ids)
	if err != nil {
		return nil, err
	}
	var all []core.Dependent
	for _, t := range tasks {
		i := slices.IndexFunc(t.After, func(u core.Upstream) bool { return u.Task == upstream.TaskName && u.On.Matches(outcome.Verdict) })
		if i >= 0 && t.Namespace == upstream.Namespace {
			all = append(all, d.dependent(ctx, t, t.After[i], upstream, outcome))
		}
	}
	for id := range problems {
		t, err := d.opts.Store.Task(ctx, id)
		switch {
		case core.KindOf(err) == core.KindNotFound: // deleted meanwhile
		case err != nil:
			return nil, err
		default:
			facts := endFacts(upstream, outcome)
			facts["problem"] = t.Problem
			all = append(all, core.Dependent{Task: t, Skip: core.ReasonPoisoned, Facts: encode(facts)})
		}
	}
	slices.SortFunc(all, func(a, b core.Dependent) int { return strings.Compare(a.Task.Name, b.Task.Name) })
	return all, nil
}

// maxFindings is how many findings a skipped fire keeps.
const maxFindings = 5

// dependent says whether a task that wants an end starts after it.
func (d *Definitions) dependent(ctx context.Context, t core.Task, u core.Upstream, upstream core.Run, outcome core.Outcome) core.Dependent {
	one, facts := core.Dependent{Task: t}, endFacts(upstream, outcome)
	switch {
	case !t.Enabled:
		one.Skip = core.ReasonDisabled
		if t.DisabledReason != "" {
			facts["disabled_reason"] = t.DisabledReason
		}
	case t.Pause.Holds(d.opts.Clock.Now()):
		one.Skip = core.ReasonPaused
		maps.Copy(facts, t.Pause.Facts())
	default:
		given, err := d.handedOn(ctx, t, u, outcome)
		if err != nil {
			one.Skip = core.ReasonParams
			if e, ok := errors.AsType[*core.Error](err); ok && len(e.Findings) > 0 {
				facts["findings"] = e.Findings[:min(maxFindings, len(e.Findings))]
			} else {
				facts["problem"] = err.Error()
			}
			break
		}
		one.Task = given
	}
	one.Task, one.Facts = d.Effective(one.Task), encode(facts)
	return one
}

// endFacts says which end a fire is about.
func endFacts(upstream core.Run, outcome core.Outcome) map[string]any {
	return map[string]any{"upstream": upstream.TaskName, "upstream_run_id": upstream.ID, "upstream_outcome": outcome.Verdict}
}

// encode writes facts, which are maps of plain values and cannot fail.
func encode(facts map[string]any) json.RawMessage {
	text, _ := json.Marshal(facts)
	return text
}

// handedOn lays what a task takes of an output over its parameters.
func (d *Definitions) handedOn(ctx context.Context, t core.Task, u core.Upstream, outcome core.Outcome) (core.Task, error) {
	if len(u.Params) == 0 {
		return t, nil
	}
	// Of a type that nobody offers at the moment nothing can be judged; its run says so.
	if _, _, err := d.opts.Catalog.Lookup(t.Namespace, t.Type); err != nil {
		return t, nil
	}
	op := "start task " + t.Namespace + "/" + t.Name + " after " + u.Task
	over := make(map[string]json.RawMessage, len(u.Params))
	var found []core.Finding
	for _, param := range slices.Sorted(maps.Keys(u.Params)) {
		p, ok := jsonpath.Parse(u.Params[param])
		value, err := p.In(outcome.Output)
		if !ok || err != nil {
			found = append(found, finding(join("params", param), "任务 "+u.Task+" 的输出里没有 "+u.Params[param]+"；请让它输出该项，或改取别处",
				"the output of task "+u.Task+" has nothing at "+u.Params[param]+"; have it hand that on, or take another path"))
			continue
		}
		over[param] = value
	}
	if len(found) > 0 {
		return core.Task{}, core.Invalid(op, found...)
	}
	override, err := json.Marshal(over)
	if err != nil {
		return core.Task{}, core.Errorf(core.KindInternal, op, "%w", err)
	}
	if t, err = withParams(op, t, override); err != nil {
		return core.Task{}, err
	}
	// A provider that does not answer at the moment keeps nothing from starting: the attempt is judged by it again.
	found, err = d.checkParams(ctx, t)
	if err != nil && core.KindOf(err) != core.KindUnavailable {
		return core.Task{}, err
	}
	if len(found) > 0 {
		return core.Task{}, core.Invalid(op, found...)
	}
	return t, nil
}
