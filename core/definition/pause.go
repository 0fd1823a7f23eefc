package definition

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// Pause has a task's fires skipped from now on, until a time (zero: until somebody resumes it). It makes a new version.
// The task stays enabled and keeps its mark: each fire that the pause covers is decided as skipped. A second pause takes
// the place of the first. It fails with KindInvalid if until is not in the future.
func (d *Definitions) Pause(ctx context.Context, id, note string, until time.Time, by string) (core.Task, error) {
	now := d.opts.Clock.Now().UTC().Truncate(time.Microsecond)
	task, err := d.opts.Store.Task(ctx, id)
	if err != nil {
		return core.Task{}, err
	}
	var found []core.Finding
	if !until.IsZero() && !until.After(now) {
		found = append(found, finding("until", "必须是将来的时刻；不写则一直暂停到恢复为止",
			"must be in the future; leave it out to pause until somebody resumes it"))
	}
	if len(note) > maxNote {
		found = append(found, finding("note", "说明超过 1 KiB", "the note is longer than 1 KiB"))
	}
	if len(found) > 0 {
		return core.Task{}, core.Invalid("pause task "+task.Namespace+"/"+task.Name, found...)
	}
	since := now
	if task.Pause.Holds(now) {
		since = task.Pause.Since
	}
	task.Pause = core.Pause{Since: since, Note: note, By: by}
	if !until.IsZero() {
		task.Pause.Until = until.UTC().Truncate(time.Microsecond)
	}
	task.UpdatedAt, task.UpdatedBy = now, by
	return d.update(ctx, d.goingOn(task, now))
}

// goingOn gives a task of a new version whose mark stays, so that it goes on. The end of a run that began under the version
// before does not set the mark of an @after task any more: so it is set here.
func (d *Definitions) goingOn(task core.Task, now time.Time) core.Task {
	if !task.Enabled || !task.State.NextFire.IsZero() {
		return task
	}
	if sched, err := d.Plan(&task); err == nil && sched.Kind() == schedule.After {
		task.State.NextFire = now.Add(sched.After()).UTC().Truncate(time.Microsecond)
	}
	return task
}

// Resume ends a task's pause. Nothing fires retroactively: the pause stays on record as one that ended now, so that fires
// it covers and that are not decided yet are still skipped as paused. It changes nothing if the task is not paused.
func (d *Definitions) Resume(ctx context.Context, id, by string) (core.Task, error) {
	now := d.opts.Clock.Now().UTC().Truncate(time.Microsecond)
	task, err := d.opts.Store.Task(ctx, id)
	if err != nil || !task.Pause.Holds(now) {
		return task, err
	}
	task.Pause.Until = now
	task.UpdatedAt, task.UpdatedBy = now, by
	return d.update(ctx, d.goingOn(task, now))
}

// Warnings gives what is not wrong with a task but should be seen: what it names that is gone, words that have lost their
// effect, holidays that are not known yet, fires that will not come.
func (d *Definitions) Warnings(ctx context.Context, task core.Task) []core.Text {
	var said []core.Text
	say := func(zh, en string, args ...any) {
		said = append(said, core.Text{Zh: fmt.Sprintf(zh, args...), En: fmt.Sprintf(en, args...)})
	}
	now := d.opts.Clock.Now()
	if task.Problem != "" {
		say("保存的定义无法读取：%s", "the stored definition cannot be read: %s", task.Problem)
		return said
	}
	if _, _, err := d.opts.Catalog.Lookup(task.Namespace, task.Type); err != nil {
		say("任务类型 %s 目前不可用", "task type %s cannot be used at present", task.Type)
	}
	defaults := d.held.Load().namespaces[task.Namespace].Defaults
	conditions, at := task.Policies.Preconditions, "policies"
	if conditions == nil { // an empty list takes none
		conditions, at = defaults.Preconditions, "defaults"
	}
	// A store that does not answer at the moment says nothing against the task.
	mentions, _ := d.checkMentions(ctx, task, at, conditions)
	handed, _ := d.checkHanded(ctx, task, stepsOf(task))
	for _, f := range slices.Concat(d.checkPolicies(task, defaults), mentions, handed) {
		said = append(said, core.Text{Zh: f.Path + "：" + f.Message.Zh, En: f.Path + ": " + f.Message.En})
	}
	said = append(said, d.calendarWarnings(task.Schedule, now)...)
	if task.Pause.Holds(now) && task.Pause.Until.IsZero() {
		say("任务已暂停，没有恢复时间", "the task is paused with no time to go on")
	}
	p := d.Effective(task).Policies
	if p.MaxRuns > 0 && task.State.Fired >= int64(p.MaxRuns) {
		say("已运行 %d 次，达到 max_runs，不会再按计划运行", "its schedule has started %d runs, which is max_runs: it starts no more", task.State.Fired)
	}
	return said
}
