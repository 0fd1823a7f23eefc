package definition

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

const maxRunning = 100_000

// maxRetentionDays is a hundred years.
const maxRetentionDays = 36_500

// PutNamespace creates a namespace, or changes its title, description, default policies and limits.
func (d *Definitions) PutNamespace(ctx context.Context, ns core.Namespace) (core.Namespace, error) {
	d.linking.Lock()
	defer d.linking.Unlock()
	named := core.Task{Policies: ns.Defaults}
	if linked(named) {
		if err := d.learn(ctx, named); err != nil {
			return core.Namespace{}, err
		}
	}
	findings := d.checkNamespace(ns)
	mentions, err := d.checkMentions(ctx, core.Task{Namespace: ns.Name}, "defaults", ns.Defaults.Preconditions)
	if err != nil {
		return core.Namespace{}, err
	}
	if findings = append(findings, mentions...); len(findings) > 0 {
		return core.Namespace{}, core.Invalid("put namespace", findings...)
	}
	ns.Defaults.Breaker.Name = ""
	if ns.CreatedAt.IsZero() {
		ns.CreatedAt = d.opts.Clock.Now().UTC()
	}
	if err := d.opts.Store.PutNamespace(ctx, ns); err != nil {
		return core.Namespace{}, err
	}
	d.reread(ctx)
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

// ofWorkflows says why no limit is of the type of workflows.
var ofWorkflows = core.Text{
	Zh: "工作流自身不占名额：它占着名额等步骤，步骤若也是工作流，就会一直等它；请去掉，改为限制各步骤的任务（pools、max_running）",
	En: "a workflow holds no place itself: a step that is a workflow too would wait for it; leave this out, and limit the tasks of the steps (pools, max_running)",
}

func (d *Definitions) checkNamespace(ns core.Namespace) []core.Finding {
	var found []core.Finding
	add := func(path, zh, en string) { found = append(found, finding(path, zh, en)) }
	if !namespaceName.MatchString(ns.Name) {
		add("name", "命名空间名以大写字母开头，只含字母和数字，至多 64 个字符，例如 ImageArchive",
			"a namespace's name starts with an upper-case letter and has only letters and digits, at most 64: ImageArchive")
	}
	if len(ns.Description) > maxTextBytes {
		add("description", "文字超过 16 KiB", "text is longer than 16 KiB")
	}
	if ns.MaxRunning < 0 || ns.MaxRunning > maxRunning {
		add("max_running", fmt.Sprintf("必须在 0 到 %d 之间；0 表示不限", maxRunning), fmt.Sprintf("must be between 0 and %d; 0 sets no limit", maxRunning))
	}
	for _, taskType := range slices.Sorted(maps.Keys(ns.TypeLimits)) {
		switch slots, path := ns.TypeLimits[taskType], join("type_limits", taskType); {
		case core.NamespaceOf(taskType) == "":
			add(path, "任务类型名形如 Common.KeepAlive", "the name of a task type is like Common.KeepAlive")
		case taskType == workflow.TypeName:
			add(path, ofWorkflows.Zh, ofWorkflows.En)
		case slots < 1 || slots > maxRunning:
			add(path, fmt.Sprintf("必须在 1 到 %d 之间；不限则去掉这一项", maxRunning), fmt.Sprintf("must be between 1 and %d; leave it out for no limit", maxRunning))
		case ns.MaxRunning > 0 && slots > ns.MaxRunning:
			add(path, fmt.Sprintf("没有作用：比整个命名空间的 max_running（%d）还大；请改小，或去掉", ns.MaxRunning),
				fmt.Sprintf("has no effect: it is more than max_running of the whole namespace (%d); lower it or leave it out", ns.MaxRunning))
		}
	}
	for _, kept := range []struct {
		path string
		days int
	}{{"retention.runs", ns.Retention.RunsDays}, {"retention.lines", ns.Retention.LinesDays}, {"retention.samples", ns.Retention.SamplesDays}, {"retention.fine", ns.Retention.FineDays}} {
		if kept.days < core.KeepForever || kept.days > maxRetentionDays {
			add(kept.path, fmt.Sprintf("必须在 1d 到 %dd 之间，或写 forever", maxRetentionDays), fmt.Sprintf("must be between 1d and %dd, or forever", maxRetentionDays))
		}
	}
	if r := ns.Retention.OrDefault(); r.RunsDays > 0 && ns.Retention.LinesDays != 0 && (r.LinesDays == core.KeepForever || r.LinesDays > r.RunsDays) {
		add("retention.lines", "不能比 retention.runs 更久：没有运行记录的日志行无处可看", "must not be longer than retention.runs: lines of a run that is gone are found nowhere")
	}
	if fine := ns.Retention.FineDays; fine > 0 && fine < core.LeastFineDays {
		add("retention.fine", fmt.Sprintf("至少 %dd：汇总在此期间由原始读数生成", core.LeastFineDays), fmt.Sprintf("must be at least %dd: roll-ups are made of samples as measured meanwhile", core.LeastFineDays))
	}
	j := judge{at: "defaults", own: ns.Defaults, all: ns.Defaults, hard: ns.Defaults.Timeout, shares: d.held.Load().shares, checks: d.opts.Preconditions}
	return append(found, j.judge()...)
}

// NamespaceWarnings gives what is not wrong with a namespace but should be seen: limits of task types that nobody offers, and of
// workflows.
func (d *Definitions) NamespaceWarnings(ns core.Namespace) []core.Text {
	var said []core.Text
	for _, taskType := range names(ns.TypeLimits) {
		path := join("type_limits", taskType)
		if taskType == workflow.TypeName { // stored before it was refused
			said = append(said, core.Text{Zh: path + "：没有作用：" + ofWorkflows.Zh, En: path + ": has no effect: " + ofWorkflows.En})
			continue
		}
		if _, ok := d.opts.Catalog.Type(taskType); ok {
			continue
		}
		var there []string
		for _, t := range d.opts.Catalog.Types([]string{ns.Name}) {
			there = append(there, t.Name)
		}
		none := noSuch("任务类型", "task type", "there are", taskType, there)
		said = append(said, core.Text{Zh: path + "：目前没有作用：" + none.Zh, En: path + ": has no effect at present: " + none.En})
	}
	return said
}

// reread refreshes after a change of our own is stored. What cannot be read now is read by the next Refresh.
func (d *Definitions) reread(ctx context.Context) {
	if err := d.Refresh(ctx); err != nil {
		d.opts.Log.Warn("definitions not refreshed", "err", err)
	}
}
