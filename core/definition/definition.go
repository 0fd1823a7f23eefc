// Package definition accepts task definitions: it validates them, has them versioned and stored, and announces the
// change to whoever must act on it.
package definition

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/google/uuid"
)

// Store keeps definitions. UpdateTask names the version it saw in task.Version and fails with KindStale if the stored
// one is another.
type Store interface {
	PutNamespace(ctx context.Context, ns core.Namespace) error
	Namespace(ctx context.Context, name string) (core.Namespace, error)
	Namespaces(ctx context.Context) ([]core.Namespace, error)
	CreateTask(ctx context.Context, task core.Task) (core.Task, error)
	// UpdateTask and DeleteTask insert the rows of fires that were due and undecided, unless somebody has decided them since.
	UpdateTask(ctx context.Context, task core.Task, undecided ...core.Run) (core.Task, error)
	DeleteTask(ctx context.Context, id string, undecided ...core.Run) error
	Task(ctx context.Context, id string) (core.Task, error)
	TaskByName(ctx context.Context, namespace, name string) (core.Task, error)
	Tasks(ctx context.Context, filter core.TaskFilter) ([]core.Task, error)
	TaskVersions(ctx context.Context, id string) ([]core.Task, error)
	Definitions(ctx context.Context, ids []string) (tasks []core.Task, problems map[string]error, err error)

	PutResource(ctx context.Context, r core.Resource) (core.Resource, error)
	Resource(ctx context.Context, kind, name string) (core.Resource, error)
	Resources(ctx context.Context, kind string) ([]core.Resource, error)
	DeleteResource(ctx context.Context, kind, name string) error
	// References gives the tasks that name a thing, AllReferences those that name any thing of the kinds.
	References(ctx context.Context, kind, name string) ([]core.Reference, error)
	AllReferences(ctx context.Context, kinds ...string) ([]core.Reference, error)
}

// Preconditions compiles preconditions: package precondition. Findings have paths relative to the precondition.
type Preconditions interface {
	Check(p core.Precondition) []core.Finding
	// Mentions gives the names that stand written out in an expression.
	Mentions(p core.Precondition) []core.Mention
	// CheckGrants gives what it needs and tasks of the type in the namespace were not granted.
	CheckGrants(namespace, taskType string, p core.Precondition) []core.Finding
}

// Catalog says which task types there are.
type Catalog interface {
	// Types gives what tasks of any of the namespaces may use, by name; nil means every namespace.
	Types(namespaces []string) []core.TaskType
	Type(name string) (core.TaskType, bool)
	Lookup(namespace, name string) (core.Provider, core.TaskType, error)
}

// Options configure a Definitions.
type Options struct {
	Store   Store
	Catalog Catalog
	Clock   core.Clock
	Log     *slog.Logger
	// Announce is called after a change is stored: removed is true if the task is gone. It must not block.
	Announce func(task core.Task, removed bool)
	// Changed is called when namespaces, calendars, pools or downstreams have changed: what was made of Plan, Effective
	// or Gates holds no more. It must not block. nil: nobody keeps such things.
	Changed func()
	// Preconditions compiles preconditions when a task is saved; nil: they are taken as they are.
	Preconditions Preconditions
	// DefaultTimeout is the hard timeout of tasks that name none, and whose namespace and type name none: the runner's.
	// 0: 1 h.
	DefaultTimeout time.Duration
}

// Definitions is where tasks and namespaces are created, changed and read. It is safe for concurrent use.
type Definitions struct {
	opts    Options
	schemas schemas

	// linking is held while a task that names other things is stored, and while such a thing is changed or removed. It
	// is taken before reading.
	linking sync.Mutex
	reading sync.Mutex // held by Refresh
	held    atomic.Pointer[snapshot]
}

// New gives a Definitions.
func New(opts Options) *Definitions {
	opts.DefaultTimeout = cmp.Or(opts.DefaultTimeout, defaultTimeout)
	d := &Definitions{opts: opts}
	d.held.Store(newSnapshot())
	return d
}

// Create validates and stores a new task; by is the principal. It fails with KindInvalid and findings, or with
// KindConflict if the namespace has a task of that name.
func (d *Definitions) Create(ctx context.Context, task core.Task, by string) (core.Task, error) {
	now := d.opts.Clock.Now()
	task.ID = uuid.Must(uuid.NewV7()).String()
	task.CreatedAt, task.DisabledReason, task.State, task.Pause = now.UTC(), "", core.TaskState{}, core.Pause{}
	return d.accept(ctx, task, nil, now, by)
}

// Replace validates and stores a changed task. task.ID and task.Version say which one was seen; namespace and name
// cannot be changed, and a pause stays. Nothing fires retroactively: the next fire is found from now on.
func (d *Definitions) Replace(ctx context.Context, task core.Task, by string) (core.Task, error) {
	now := d.opts.Clock.Now()
	old, err := d.opts.Store.Task(ctx, task.ID)
	if err != nil {
		return core.Task{}, err
	}
	if task.Namespace != old.Namespace || task.Name != old.Name {
		return core.Task{}, core.Invalid("change task "+old.Namespace+"/"+old.Name, finding("name",
			"命名空间和名称不能修改；请新建任务", "namespace and name cannot be changed; create another task"))
	}
	task.CreatedAt, task.DisabledReason, task.State, task.Pause = old.CreatedAt, "", old.State, old.Pause
	if !task.Enabled && !old.Enabled {
		task.DisabledReason = old.DisabledReason
	}
	task.Schedule.Anchor = old.Schedule.Anchor
	if task.Schedule.Spec != old.Schedule.Spec {
		task.Schedule.Anchor = time.Time{}
	}
	return d.accept(ctx, task, &old, now, by)
}

// SetEnabled switches a task on or off. Switching on never fires retroactively, and validates the task anew; switching
// off is possible whatever has become of its type.
func (d *Definitions) SetEnabled(ctx context.Context, id string, enabled bool, by string) (core.Task, error) {
	task, err := d.opts.Store.Task(ctx, id)
	if err != nil || task.Enabled == enabled {
		return task, err
	}
	task.Enabled = enabled
	if enabled || task.Problem != "" {
		return d.Replace(ctx, task, by)
	}
	task.DisabledReason, task.UpdatedAt, task.UpdatedBy = "", d.opts.Clock.Now().UTC(), by
	undecided := d.undecided(task, core.ReasonDisabled, task.UpdatedAt, by)
	task.State.NextFire = time.Time{}
	return d.update(ctx, task, undecided...)
}

// undecided gives the row of the fires that are due by a task's mark and that nobody has decided: no server could, and now
// the task changes. Without the row they would be gone without a word.
func (d *Definitions) undecided(old core.Task, reason core.Reason, now time.Time, by string) []core.Run {
	next := old.State.NextFire
	if next.IsZero() || next.After(now) || old.Problem != "" {
		return nil
	}
	sched, err := d.Plan(&old)
	if err != nil {
		return nil // what cannot be read has no fires
	}
	facts, _ := json.Marshal(map[string]string{"by": by}) // a map of strings cannot fail
	run := core.Run{
		ID: uuid.Must(uuid.NewV7()).String(), TaskID: old.ID, TaskVersion: old.Version, Namespace: old.Namespace, TaskName: old.Name, TaskType: old.Type,
		Trigger: core.TriggerSchedule, FireAt: next, FireThrough: next, FireCount: 1, State: core.RunEnded, Verdict: core.Skipped, Reason: reason,
		Facts: facts, DecidedAt: now.UTC(), EndedAt: now.UTC(), StartAt: next, CreatedBy: by,
	}
	if sched.Kind() == schedule.After {
		return []core.Run{run}
	}
	before := next.Add(-time.Microsecond)
	count := sched.Count(before, now)
	if count == 0 { // the calendars have changed since the mark was set
		return nil
	}
	last, _ := sched.Final(before, now)
	run.FireThrough, run.FireCount = last.At.UTC(), int(count)
	return []core.Run{run}
}

// update stores a task that needs no validation, and announces it.
func (d *Definitions) update(ctx context.Context, task core.Task, undecided ...core.Run) (core.Task, error) {
	stored, err := d.opts.Store.UpdateTask(ctx, task, undecided...)
	if err != nil {
		return core.Task{}, err
	}
	d.opts.Announce(stored, false)
	return stored, nil
}

// Delete removes a task; its runs stay in history. It fails with KindConflict while other tasks are started by its ends,
// have it as a step or ask about it.
func (d *Definitions) Delete(ctx context.Context, id string) error {
	d.linking.Lock()
	defer d.linking.Unlock()
	task, err := d.opts.Store.Task(ctx, id)
	if err != nil {
		return err
	}
	users, err := d.namedBy(ctx, task)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return core.Refuse(core.KindConflict, "delete task "+task.Namespace+"/"+task.Name, core.Text{
			Zh: "其他任务引用了 " + task.Namespace + "/" + task.Name + "：" + some(users) + "；请先从它们的 after、steps 或 preconditions 中去掉",
			En: "other tasks name it: " + some(users) + "; take it out of their after, steps or preconditions first",
		})
	}
	if err := d.opts.Store.DeleteTask(ctx, id, d.undecided(task, core.ReasonEdited, d.opts.Clock.Now(), "gnomon")...); err != nil {
		return err
	}
	d.opts.Announce(task, true)
	d.relink(ctx, task)
	return nil
}

// Task gives one task, or KindNotFound.
func (d *Definitions) Task(ctx context.Context, id string) (core.Task, error) {
	return d.opts.Store.Task(ctx, id)
}

// TaskByName gives one task, or KindNotFound.
func (d *Definitions) TaskByName(ctx context.Context, namespace, name string) (core.Task, error) {
	return d.opts.Store.TaskByName(ctx, namespace, name)
}

// Tasks lists tasks by id.
func (d *Definitions) Tasks(ctx context.Context, filter core.TaskFilter) ([]core.Task, error) {
	return d.opts.Store.Tasks(ctx, filter)
}

// TaskVersions gives every version of a task, newest first.
func (d *Definitions) TaskVersions(ctx context.Context, id string) ([]core.Task, error) {
	return d.opts.Store.TaskVersions(ctx, id)
}

// ForRun gives a task with the parameters of one run: override replaces the task's own keys at the top level and may
// be empty. It fails with KindInvalid if the result breaks the type's schema.
func (d *Definitions) ForRun(ctx context.Context, id string, override json.RawMessage) (core.Task, error) {
	task, err := d.opts.Store.Task(ctx, id)
	if err != nil {
		return core.Task{}, err
	}
	if len(override) == 0 {
		return task, nil
	}
	op := "run task " + task.Namespace + "/" + task.Name
	if task, err = withParams(op, task, override); err != nil {
		return core.Task{}, err
	}
	findings, err := d.checkParams(ctx, task)
	if err != nil {
		return core.Task{}, err
	}
	if len(findings) > 0 {
		return core.Task{}, core.Invalid(op, findings...)
	}
	return task, nil
}

// withParams lays parameters over a task's own, key by key.
func withParams(op string, task core.Task, override json.RawMessage) (core.Task, error) {
	merged := make(map[string]json.RawMessage)
	for _, part := range []json.RawMessage{task.Params, override} {
		if len(part) == 0 {
			continue
		}
		if err := json.Unmarshal(part, &merged); err != nil {
			return core.Task{}, core.Invalid(op, finding("params", "参数必须是 JSON 对象："+err.Error(), "parameters must be a JSON object: "+err.Error()))
		}
	}
	var err error
	if task.Params, err = json.Marshal(merged); err != nil {
		return core.Task{}, core.Errorf(core.KindInternal, op, "%w", err)
	}
	return task, nil
}

// accept validates a task as it is about to be stored, fills in what follows from it (steps, anchor, next fire), stores
// and announces it. old is what it replaces; nil: it is new.
func (d *Definitions) accept(ctx context.Context, task core.Task, old *core.Task, now time.Time, by string) (core.Task, error) {
	task.UpdatedAt, task.UpdatedBy = now.UTC(), by
	if len(task.Params) == 0 {
		task.Params = json.RawMessage("{}")
	}
	op := "task " + task.Namespace + "/" + task.Name
	findings := checkFields(task)
	ns, err := d.opts.Store.Namespace(ctx, task.Namespace)
	if core.KindOf(err) == core.KindNotFound {
		findings = append(findings, finding("namespace", "没有命名空间 "+task.Namespace+"；请先创建它",
			"there is no namespace "+task.Namespace+"; create it first"))
	} else if err != nil {
		return core.Task{}, err
	}
	wrong, err := d.checkParams(ctx, task)
	if err != nil {
		return core.Task{}, err
	}
	findings = append(findings, wrong...)
	task.Steps = nil
	steps := stepsOf(task)
	for _, s := range steps {
		if !slices.Contains(task.Steps, s.task) {
			task.Steps = append(task.Steps, s.task)
		}
	}
	task.Mentions = nil
	for _, p := range task.Policies.Preconditions {
		task.Mentions = append(task.Mentions, d.mentions(p)...)
	}
	if linked(task) { // what it names must stay while it is stored
		d.linking.Lock()
		defer d.linking.Unlock()
		if err := d.learn(ctx, task); err != nil {
			return core.Task{}, err
		}
		links, err := d.checkLinks(ctx, task, steps)
		if err != nil {
			return core.Task{}, err
		}
		handed, err := d.checkHanded(ctx, task, steps)
		if err != nil {
			return core.Task{}, err
		}
		mentions, err := d.checkMentions(ctx, task, "policies", task.Policies.Preconditions)
		if err != nil {
			return core.Task{}, err
		}
		findings = slices.Concat(findings, links, handed, mentions)
	}
	findings = append(findings, d.checkPolicies(task, ns.Defaults)...)
	sched, err := d.Plan(&task)
	if err != nil {
		e, ok := asInvalid(err)
		if !ok {
			return core.Task{}, err
		}
		findings = append(findings, e.Findings...)
	}
	if len(findings) > 0 {
		return core.Task{}, core.Invalid(op, findings...)
	}
	if task.Schedule.Anchor.IsZero() {
		task.Schedule.Anchor = now.UTC().Truncate(time.Microsecond)
		if sched, err = d.Plan(&task); err != nil {
			return core.Task{}, err
		}
	}
	if err := setNextFire(&task, sched, now); err != nil {
		return core.Task{}, err
	}
	var stored core.Task
	if old == nil {
		stored, err = d.opts.Store.CreateTask(ctx, task)
	} else {
		stored, err = d.opts.Store.UpdateTask(ctx, task, d.undecided(*old, core.ReasonEdited, now, by)...)
	}
	if err != nil {
		return core.Task{}, err
	}
	stored.Steps = task.Steps
	d.opts.Announce(stored, false)
	if old != nil && len(old.After) > 0 {
		d.relink(ctx, *old)
	} else {
		d.relink(ctx, stored)
	}
	return stored, nil
}

// setNextFire finds the first fire after now: an edit, like a new task, never fires retroactively.
func setNextFire(task *core.Task, sched *schedule.Schedule, now time.Time) error {
	task.State.NextFire = time.Time{}
	if !task.Enabled || sched.Kind() == schedule.Manual {
		return nil
	}
	fire, ok := sched.Next(now)
	if ok && sched.Kind() != schedule.After { // whose later instants nobody knows
		_, ok = sched.NextStart(now)
	}
	switch op := "task " + task.Namespace + "/" + task.Name; {
	case ok:
		task.State.NextFire = fire.At.UTC()
		return nil
	case fire.Skip == core.ReasonCalendar:
		return core.Invalid(op, finding("schedule."+fire.Rule, "日历 "+fire.Calendar+" 使计划在现在之后一次也不会触发；请检查 only_on 与 not_on",
			"calendar "+fire.Calendar+" leaves no instant after now on which it fires; check only_on and not_on"))
	case !task.Schedule.Until.IsZero() && !now.Before(task.Schedule.Until):
		return core.Invalid(op, finding("schedule.until", "已经过去，任务不会再触发；请改晚，或停用该任务",
			"has passed, so the task fires no more; give a later one, or disable the task"))
	default:
		return core.Invalid(op, finding("schedule.spec",
			"计划“"+task.Schedule.Spec+"”在现在之后不会再触发；请给出将来的时间，或停用该任务",
			"schedule \""+task.Schedule.Spec+"\" has no instant left after now; give one in the future, or disable the task"))
	}
}
