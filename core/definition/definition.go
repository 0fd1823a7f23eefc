// Package definition accepts task definitions: it validates them, has them versioned and stored, and announces the
// change to whoever must act on it.
package definition

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
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
	UpdateTask(ctx context.Context, task core.Task) (core.Task, error)
	DeleteTask(ctx context.Context, id string) error
	Task(ctx context.Context, id string) (core.Task, error)
	TaskByName(ctx context.Context, namespace, name string) (core.Task, error)
	Tasks(ctx context.Context, filter core.TaskFilter) ([]core.Task, error)
	TaskVersions(ctx context.Context, id string) ([]core.Task, error)
}

// Catalog says which task types there are.
type Catalog interface {
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
}

// Definitions is where tasks and namespaces are created, changed and read. It is safe for concurrent use.
type Definitions struct {
	opts    Options
	schemas schemas
}

// New gives a Definitions.
func New(opts Options) *Definitions {
	return &Definitions{opts: opts}
}

// PutNamespace creates a namespace or changes its title and description.
func (d *Definitions) PutNamespace(ctx context.Context, ns core.Namespace) (core.Namespace, error) {
	if findings := checkNamespace(ns); len(findings) > 0 {
		return core.Namespace{}, core.Invalid("put namespace", findings...)
	}
	if ns.CreatedAt.IsZero() {
		ns.CreatedAt = d.opts.Clock.Now().UTC()
	}
	if err := d.opts.Store.PutNamespace(ctx, ns); err != nil {
		return core.Namespace{}, err
	}
	return d.opts.Store.Namespace(ctx, ns.Name)
}

// Namespace gives one namespace, or KindNotFound.
func (d *Definitions) Namespace(ctx context.Context, name string) (core.Namespace, error) {
	return d.opts.Store.Namespace(ctx, name)
}

// Namespaces gives all namespaces, by name.
func (d *Definitions) Namespaces(ctx context.Context) ([]core.Namespace, error) {
	return d.opts.Store.Namespaces(ctx)
}

// Create validates and stores a new task; by is the principal. It fails with KindInvalid and findings, or with
// KindConflict if the namespace has a task of that name.
func (d *Definitions) Create(ctx context.Context, task core.Task, by string) (core.Task, error) {
	now := d.opts.Clock.Now()
	task.ID = uuid.Must(uuid.NewV7()).String()
	task.CreatedAt, task.DisabledReason, task.State = now.UTC(), "", core.TaskState{}
	if err := d.complete(ctx, &task, now, by); err != nil {
		return core.Task{}, err
	}
	stored, err := d.opts.Store.CreateTask(ctx, task)
	if err != nil {
		return core.Task{}, err
	}
	d.opts.Announce(stored, false)
	return stored, nil
}

// Replace validates and stores a changed task. task.ID and task.Version say which one was seen; namespace and name
// cannot be changed. Nothing fires retroactively: the next fire is found from now on.
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
	task.CreatedAt, task.DisabledReason, task.State = old.CreatedAt, "", old.State
	if !task.Enabled && !old.Enabled {
		task.DisabledReason = old.DisabledReason
	}
	task.Schedule.Anchor = old.Schedule.Anchor
	if task.Schedule.Spec != old.Schedule.Spec {
		task.Schedule.Anchor = time.Time{}
	}
	if err := d.complete(ctx, &task, now, by); err != nil {
		return core.Task{}, err
	}
	stored, err := d.opts.Store.UpdateTask(ctx, task)
	if err != nil {
		return core.Task{}, err
	}
	d.opts.Announce(stored, false)
	return stored, nil
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
	task.State.NextFire = time.Time{}
	stored, err := d.opts.Store.UpdateTask(ctx, task)
	if err != nil {
		return core.Task{}, err
	}
	d.opts.Announce(stored, false)
	return stored, nil
}

// Delete removes a task; its runs stay in history.
func (d *Definitions) Delete(ctx context.Context, id string) error {
	task, err := d.opts.Store.Task(ctx, id)
	if err != nil {
		return err
	}
	if err := d.opts.Store.DeleteTask(ctx, id); err != nil {
		return err
	}
	d.opts.Announce(task, true)
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
	merged := make(map[string]json.RawMessage)
	for _, part := range []json.RawMessage{task.Params, override} {
		if len(part) == 0 {
			continue
		}
		if err := json.Unmarshal(part, &merged); err != nil {
			return core.Task{}, core.Invalid(op, finding("params", "参数必须是 JSON 对象："+err.Error(), "parameters must be a JSON object: "+err.Error()))
		}
	}
	if task.Params, err = json.Marshal(merged); err != nil {
		return core.Task{}, core.Errorf(core.KindInternal, op, "%w", err)
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

// complete validates a task as it is about to be stored and fills in what follows from it: defaults, anchor, next fire.
func (d *Definitions) complete(ctx context.Context, task *core.Task, now time.Time, by string) error {
	task.UpdatedAt, task.UpdatedBy = now.UTC(), by
	task.Policies.Overlap = cmp.Or(task.Policies.Overlap, core.OverlapSkip)
	task.Policies.CatchUp = cmp.Or(task.Policies.CatchUp, core.CatchUpLatest)
	if len(task.Params) == 0 {
		task.Params = json.RawMessage("{}")
	}
	findings := checkFields(*task)
	if _, err := d.opts.Store.Namespace(ctx, task.Namespace); core.KindOf(err) == core.KindNotFound {
		findings = append(findings, finding("namespace", "没有命名空间 "+task.Namespace+"；请先创建它",
			"there is no namespace "+task.Namespace+"; create it first"))
	} else if err != nil {
		return err
	}
	more, err := d.checkParams(ctx, *task)
	if err != nil {
		return err
	}
	findings = append(findings, more...)
	sched, err := schedule.Parse(task.Schedule, task.Name)
	if err != nil {
		e, ok := asInvalid(err)
		if !ok {
			return err
		}
		findings = append(findings, e.Findings...)
	}
	if len(findings) > 0 {
		return core.Invalid("task "+task.Namespace+"/"+task.Name, findings...)
	}
	if task.Schedule.Anchor.IsZero() {
		task.Schedule.Anchor = now.UTC().Truncate(time.Microsecond)
		if sched, err = schedule.Parse(task.Schedule, task.Name); err != nil {
			return err
		}
	}
	return d.setNextFire(task, sched, now)
}

// setNextFire finds the first fire after now: an edit, like a new task, never fires retroactively.
func (d *Definitions) setNextFire(task *core.Task, sched *schedule.Schedule, now time.Time) error {
	task.State.NextFire = time.Time{}
	if !task.Enabled || sched.Kind() == schedule.Manual {
		return nil
	}
	if sched.Kind() == schedule.After {
		task.State.NextFire = now.Add(sched.After()).UTC().Truncate(time.Microsecond)
		return nil
	}
	fire, ok := sched.Next(now)
	if !ok {
		return core.Invalid("task "+task.Namespace+"/"+task.Name, finding("schedule.spec",
			"计划“"+task.Schedule.Spec+"”在现在之后不会再触发；请给出将来的时间，或停用该任务",
			"schedule \""+task.Schedule.Spec+"\" has no instant left after now; give one in the future, or disable the task"))
	}
	task.State.NextFire = fire.At.UTC()
	return nil
}
