package ledger

import (
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// chained says whether the ends of other tasks alone start a version.
func (a *asker) chained(r *reign) bool {
	plan := a.h.schedule(r)
	return plan != nil && plan.Kind() == schedule.Manual && len(r.task.After) > 0
}

// ends says after which ends something runs: "b succeeds or c ends".
func ends(after []core.Upstream) core.Text {
	var zh, en []string
	for _, u := range after {
		switch u.On {
		case core.OnFailure:
			zh, en = append(zh, u.Task+" 失败"), append(en, u.Task+" fails")
		case core.OnAlways:
			zh, en = append(zh, u.Task+" 结束"), append(en, u.Task+" ends")
		default:
			zh, en = append(zh, u.Task+" 成功"), append(en, u.Task+" succeeds")
		}
	}
	return say(strings.Join(zh, "、"), either(en))
}

// either lists things of which one is enough: "a, b or c".
func either(list []string) string {
	last := len(list) - 1
	if last <= 0 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

// names gives the tasks that a version runs after, each once.
func names(after []core.Upstream) core.Text {
	var list []string
	for _, u := range after {
		if !slices.Contains(list, u.Task) {
			list = append(list, u.Task)
		}
	}
	return say(strings.Join(list, "、"), either(list))
}

// noSchedule says what starts a version that has no schedule.
func (a *asker) noSchedule(r *reign) core.Text {
	if !a.chained(r) {
		return say("没有计划（@manual），只在有人或程序要求时运行", "has no schedule (@manual) and runs only when somebody asks for it")
	}
	what := ends(r.task.After)
	return say("没有计划，在 "+what.Zh+"后运行", "has no schedule and runs when "+what.En)
}

// lastEnd gives the newest end up to a time of those that a version runs after, as far as it did at that end; linked is
// what it wanted of it then.
func (a *asker) lastEnd(r *reign, until time.Time) (end *core.Run, linked []core.Upstream) {
	for i := range a.q.Ends {
		e := &a.q.Ends[i]
		held := a.heldAt(e.EndedAt)
		if e.EndedAt.After(until) || held == nil || end != nil && !e.EndedAt.After(end.EndedAt) {
			continue
		}
		of := func(t *core.Task) (of []core.Upstream) {
			for _, u := range t.After {
				if u.Task == e.TaskName {
					of = append(of, u)
				}
			}
			return of
		}
		if then := of(&held.task); len(then) > 0 && len(of(&r.task)) > 0 {
			end, linked = e, then
		}
	}
	return end, linked
}

// linkedSince gives the version since which a version's task has run after what it runs after.
func (a *asker) linkedSince(r *reign) *reign {
	since := r
	for i := len(a.reigns) - 1; i >= 0; i-- {
		other := &a.reigns[i]
		if other.from.After(r.from) {
			continue
		}
		if !slices.ContainsFunc(other.task.After, func(u core.Upstream) bool {
			return slices.ContainsFunc(r.task.After, func(own core.Upstream) bool { return own.Task == u.Task })
		}) {
			break
		}
		since = other
	}
	return since
}

// caused gives the row of the task that an end has caused, or nil.
func (a *asker) caused(end *core.Run) *core.Run {
	for i := range a.q.Rows {
		if run := &a.q.Rows[i]; run.Trigger == core.TriggerUpstream && run.CausedBy == end.ID {
			return run
		}
	}
	return nil
}

// chain answers for a task that runs after others, where no instant is named: what became of the last of their ends.
func (a *asker) chain(r *reign) {
	a.sawVersion(r)
	a.Text = plus(say(a.name+" ", a.name+" "), a.noSchedule(r), say("。", ". "))
	end, linked := a.lastEnd(r, a.q.Now)
	if end != nil {
		if run := a.caused(end); run != nil {
			a.meant(end)
			a.at = run.FireAt
			a.Instant = a.at.UTC()
			before := plus(a.Text, a.theLast(end), say("。", "."))
			a.decided(run)
			a.Text = join(before, sentence(a.Text))
			return
		}
	}
	a.Text = join(plus(a.Text, a.came(r, end, linked)), a.now(r))
}

// came says what the last end was that has caused nothing, and why.
func (a *asker) came(r *reign, end *core.Run, linked []core.Upstream) core.Text {
	if end == nil {
		a.Code = CodeUpstreamPending
		since, which := a.linkedSince(r), names(r.task.After)
		a.put("since", since.from)
		a.put("version", since.task.Version)
		for i := range a.q.Ends {
			a.sawEnd(&a.q.Ends[i])
		}
		if len(a.q.Ends) > 0 {
			return plus(say("自建立关联以来 "+which.Zh+" 没有运行结束过", "No run of "+which.En+" has ended since they were linked"), both("（%s，版本 %d）。", ", at %s (version %d).", a.when(since.from), since.task.Version))
		}
		return plus(say(which.Zh+" 还没有运行结束过", "No run of "+which.En+" has ended yet"), both("（关联始于 %s，版本 %d）。", "; they have been linked since %s (version %d).", a.when(since.from), since.task.Version))
	}
	a.meant(end)
	last := a.theLast(end)
	switch {
	case end.WorkflowID != "":
		a.Code = CodeUpstreamOutcome
		a.put("workflow_id", end.WorkflowID)
		return plus(last, both("；它是工作流 %s 的步骤，步骤结束不触发下游。", ". It was a step of workflow run %s, and the end of a step starts nothing.", end.WorkflowID))
	case !slices.ContainsFunc(linked, func(u core.Upstream) bool { return u.On.Matches(end.Verdict) }):
		a.Code = CodeUpstreamOutcome
		only := ends(linked)
		return plus(last, say("；而它只在 "+only.Zh+"后运行。", ", but it runs only when "+only.En+"."))
	default:
		a.Code = CodeNoRecord
		return plus(last, say("。它本应引起一次触发，却没有记录：要么已按保留期从历史中删除，要么作出决定的服务器当时还不知道这一关联（最多 10 秒），要么是一处缺漏，请用 gnomon doctor 检查。",
			". It should have caused a fire, and there is no row: either history has removed it by age, or the server that wrote the end did not know of the link yet (10 s at most), or it is a hole; see gnomon doctor."))
	}
}

// theLast names the last end.
func (a *asker) theLast(end *core.Run) core.Text {
	return plus(both("最近一次结束的是 %s 的运行 %s，%s，结果：", "The last end was that of run %[2]s of %[1]s, at %[3]s: ", end.TaskName, end.ID, a.when(end.EndedAt)), verdict(end.Verdict))
}

// now says what keeps the next end from starting the task.
func (a *asker) now(r *reign) core.Text {
	code := a.Code
	defer func() { a.Code = code }()
	switch {
	case !r.task.Enabled:
		return plus(say("目前结束也不会启动它：", "An end would not start it now: "), a.disabledBy(r), say("。", "."))
	case r.task.Pause.Holds(a.q.Now):
		return plus(say("目前结束也不会启动它：", "An end would not start it now: "), a.paused(r.task.Pause), say("。", "."))
	}
	return core.Text{}
}

// before says what the last end was before an instant at which nothing was fired.
func (a *asker) before(r *reign) core.Text {
	end, linked := a.lastEnd(r, a.at)
	if end == nil {
		which := names(r.task.After)
		return say("此前 "+which.Zh+" 没有运行结束过。", "No run of "+which.En+" had ended by then.")
	}
	run := a.caused(end)
	if run == nil {
		code := a.Code
		text := a.came(r, end, linked)
		a.Code = code
		return text
	}
	a.meant(end)
	a.sawRun(run)
	a.put("run_id", run.ID)
	did := both("由它触发的是 %s 的运行 %s", "it started run %[2]s at %[1]s", a.when(run.FireAt), run.ID)
	if run.Verdict == core.Skipped {
		did = both("由它触发的 %s 那一次被跳过（%s）", "the fire it caused at %s was skipped (%s)", a.when(run.FireAt), run.Reason)
	}
	return plus(a.theLast(end), say("；", "; "), did, say("。", "."))
}

// meant notes the end that an answer is about.
func (a *asker) meant(end *core.Run) {
	a.put("upstream", end.TaskName)
	a.put("upstream_run_id", end.ID)
	a.put("upstream_outcome", string(end.Verdict))
	a.put("upstream_ended_at", end.EndedAt)
	a.sawEnd(end)
}

// sawEnd puts the end of an upstream's run in evidence.
func (a *asker) sawEnd(end *core.Run) {
	v := verdict(end.Verdict)
	text := plus(both("上游 %s 的运行 %s 结束，结果：", "run %[2]s of the upstream %[1]s ended: ", end.TaskName, end.ID), v, tail(end.Message))
	a.evidence("run", end.EndedAt, text, map[string]any{"run_id": end.ID, "task": end.TaskName, "outcome": string(end.Verdict)})
}

// unfit says what was wrong with what an end handed on.
func (a *asker) unfit(f facts) core.Text {
	upstream := f.text("upstream")
	text := say("上游 "+upstream+" 的输出给不出合用的参数", "the output of its upstream "+upstream+" does not give parameters that fit")
	list, _ := f["findings"].([]any)
	var zh, en []string
	for _, one := range list {
		finding, _ := one.(map[string]any)
		message, _ := finding["message"].(map[string]any)
		path := facts(finding).text("path")
		zh, en = append(zh, path+"："+facts(message).text("zh")), append(en, path+": "+facts(message).text("en"))
	}
	if len(en) == 0 {
		return plus(text, tail(f.text("problem")))
	}
	return plus(text, say("："+strings.Join(zh, "；"), ": "+strings.Join(en, "; ")))
}
