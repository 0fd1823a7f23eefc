package ledger

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// skipped says why a fire was skipped.
func (a *asker) skipped(run *core.Run) {
	f := factsOf(run)
	a.Code = Code(run.Reason)
	a.put("reason", string(run.Reason))
	for _, key := range []string{"gate", "key", "detail"} {
		a.put(key, f.text(key))
	}
	detail := tail(f.text("detail"))
	var because core.Text
	switch run.Reason {
	case core.ReasonOverlap:
		because = a.overlapped(run, f.text("detail"), detail)
	case core.ReasonCatchUp:
		because = a.missed(run, f)
	case core.ReasonNonexistent:
		because = say("这个当地时间在那一天不存在（时钟拨快），计划不要求补跑", "that local time does not exist on that date (the clock went forward), and the schedule does not make up for it")
		a.gap(run.FireAt)
	case core.ReasonCalendar:
		because = a.refused(f.text("calendar"), run.FireAt)
	case core.ReasonPaused:
		because = a.paused(a.pauseOf(run, f))
	case core.ReasonMaxRuns:
		because = usedUp(cmp.Or(f.text("max_runs"), "?"), cmp.Or(f.text("fired"), "?"))
		a.put("max_runs", f.number("max_runs"))
	case core.ReasonPrecondition:
		because = a.unmet(run, f, detail)
	case core.ReasonBreaker:
		because = a.broken(f)
	case core.ReasonCapacity:
		because = a.full(f, detail)
	case core.ReasonSuperseded:
		because = plus(say("它在等待时被后一次取代", "a later fire took its place while it waited"), detail)
		if who := cmp.Or(run.StopBy, f.text("by")); who != "" {
			a.put("by", who)
			because = plus(because, tail(a.replaced(who)))
		}
	case core.ReasonDisabled, core.ReasonEdited:
		because = a.changedAfter(run)
	case core.ReasonShutdown:
		because = plus(both("服务器 %s 正在停止，没有再启动它", "server %s was stopping and did not start it any more", cmp.Or(run.Owner, "?")), detail)
	case core.ReasonUnknownType:
		because = plus(both("没有插件或脚本提供任务类型 %s", "no plugin or script offers the task type %s", run.TaskType), detail)
		a.put("task_type", run.TaskType)
	case core.ReasonPoisoned:
		because = plus(say("保存的定义无法读取", "the stored definition cannot be read"), tail(f.text("problem")))
		a.put("problem", f.text("problem"))
	case core.ReasonParams:
		because = a.unfit(f)
	default:
		because = plus(both("原因是 %s", "the reason is %s", run.Reason), detail)
	}
	a.Text = plus(a.the(run, say("被跳过：", " was skipped: ")), because, say("。", "."))
}

var earlierRuns = regexp.MustCompile(`^(\d+) earlier runs? (?:is|are) live$`)

// usedUp says that a task's schedule has had its number of runs.
func usedUp(most, started string) core.Text {
	return say("任务按计划最多运行 "+most+" 次，已运行 "+started+" 次", "its schedule starts "+runs(most)+" at most, and has started "+started)
}

func (a *asker) overlapped(run *core.Run, f string, detail core.Text) core.Text {
	live := a.liveAt(run.DecidedAt, run.ID)
	for _, other := range live {
		a.ran(other)
	}
	said := a.q.Task.Policies // with the namespace's defaults, which versions do not have
	if r := a.version(run.TaskVersion); r != nil {
		said = r.task.Policies.Over(said)
	}
	policy := string(cmp.Or(run.Overlap, said.Overlap, core.OverlapSkip))
	a.put("overlap", policy)
	if n := said.OverlapLimit; n > 0 && (policy == string(core.OverlapQueue) || policy == string(core.OverlapAllow)) {
		a.put("overlap_limit", n)
		policy += "(" + strconv.Itoa(n) + ")"
	}
	if len(live) == 0 {
		return plus(both("先前的运行尚未结束（重叠策略 %s）", "an earlier run had not ended (overlap policy %s)", policy), detail)
	}
	a.put("live_run_id", live[0].ID)
	if m := earlierRuns.FindStringSubmatch(f); m != nil {
		detail = core.Text{} // it has been said
		if n, _ := strconv.Atoi(m[1]); n > 1 {
			a.put("live_runs", n)
			return both("先前有 %[1]d 次运行尚未结束，其中有 %[2]s 那一次的运行 %[3]s，自 %[4]s 起（重叠策略 %[5]s）",
				"%[1]d earlier runs had not ended, among them run %[3]s of %[2]s, begun at %[4]s (overlap policy %[5]s)",
				n, a.when(live[0].FireAt), live[0].ID, a.when(begun(live[0])), policy)
		}
	}
	return plus(both("%s 那一次的运行 %s 自 %s 起尚未结束（重叠策略 %s）", "run %[2]s of %[1]s, begun at %[3]s, had not ended (overlap policy %[4]s)",
		a.when(live[0].FireAt), live[0].ID, a.when(begun(live[0])), policy), detail)
}

// missed says why a missed fire was not caught up.
func (a *asker) missed(run *core.Run, f facts) core.Text {
	late := run.DecidedAt.Sub(a.at)
	policy := core.CatchUp(cmp.Or(f.text("policy"), string(a.q.Task.Policies.CatchUp), string(core.CatchUpLatest)))
	a.put("late_seconds", late)
	said := core.Text{Zh: "到点时没有服务器在做决定，", En: "no server decided anything when it was due; it was decided "}
	from, to, known := a.silence(run, f)
	if known {
		said = both("自 %s 至 %s 没有服务器做决定，", "no server decided anything between %s and %s; it was decided ", a.when(from), a.when(to))
	}
	text := plus(said, lasted(late), say("后才轮到它", " late"))
	if last := a.lastDecision(run.DecidedAt); !known && !last.IsZero() && !last.After(a.at) {
		a.put("last_decision_at", last)
		text = plus(text, both("（此前最后一次决定在 %s）", " (the last decision before was made at %s)", a.when(last)))
	}
	if since := f.time("server_started"); !known && !since.IsZero() {
		a.put("server_started", since)
		a.evidence("server", since, both("作出决定的服务器于 %s 启动", "the server that decided was started at %s", a.when(since)), nil)
		text = plus(text, both("，服务器自 %s 起工作", ", by a server that has worked since %s", a.when(since)))
	}
	window, limit := core.DefaultCatchUpWindow, core.DefaultCatchUpLimit
	for _, t := range []*reign{a.version(run.TaskVersion), {task: a.q.Task}} {
		if t != nil {
			window, limit = cmp.Or(t.task.Policies.CatchUpWindow, window), cmp.Or(t.task.Policies.CatchUpLimit, limit)
		}
	}
	a.put("policy", string(policy))
	switch {
	case policy == core.CatchUpNone:
		a.put("cause", "none")
		return plus(text, say("，而补跑策略 none 不补", ", and the catch-up policy none wants none of them"))
	case policy == core.CatchUpLatest:
		a.put("cause", "latest")
		return plus(text, say("，而补跑策略 latest 只补最近一次", ", and the catch-up policy latest wants only the last one"))
	case late > window:
		a.put("cause", "window")
		a.put("window_seconds", window)
		w := lasted(window)
		return plus(text, say("，补跑窗口（"+w.Zh+"）已过", ", when the catch-up window ("+w.En+") had passed"))
	default:
		a.put("cause", "limit")
		a.put("limit", limit)
		newest := "newest " + strconv.Itoa(limit) + " are"
		if limit == 1 {
			newest = "newest is"
		}
		return plus(text, say("，而补跑只补最近的 "+strconv.Itoa(limit)+" 次", ", and only the "+newest+" caught up"))
	}
}

// refused says which calendar refuses an instant.
func (a *asker) refused(calendar string, at time.Time) core.Text {
	day := at.In(a.zone).Format("2006-01-02")
	rule := ""
	if r := a.heldAt(at); r != nil {
		if fire, ok := fireAt(a.h.schedule(r), at); ok && fire.Skip == core.ReasonCalendar {
			calendar, rule = cmp.Or(calendar, fire.Calendar), fire.Rule
		}
	}
	a.put("calendar", calendar)
	a.put("day", day)
	a.put("rule", rule)
	what := a.dayOff(calendar, at)
	zh, en := "日历“"+calendar+"”不允许 "+day+"（"+what.Zh+"）", "calendar \""+calendar+"\" refuses "+day+" ("+what.En+")"
	if rule != "" {
		zh, en = zh+"，规则 "+rule, en+", by "+rule
	}
	a.evidence("calendar", at, say(zh, en), map[string]any{"calendar": calendar, "day": day})
	return say(zh, en)
}

// dayOff says what day an instant falls on: "Thursday, National Day".
func (a *asker) dayOff(calendar string, at time.Time) core.Text {
	week := at.In(a.zone).Weekday()
	text := say(weekZh[week], week.String())
	if a.q.Note == nil || calendar == "" {
		return text
	}
	note := a.q.Note(calendar, at)
	if note.En == "" {
		return text
	}
	a.put("note", note.En)
	return plus(text, say("，"+note.Zh, ", "+note.En))
}

var weekZh = [...]string{"周日", "周一", "周二", "周三", "周四", "周五", "周六"}

// pauseOf gives the pause that a row was skipped for: as its facts tell, else as the version had it.
func (a *asker) pauseOf(run *core.Run, f facts) core.Pause {
	p := core.Pause{Since: f.time("since"), Until: f.time("until"), Note: f.text("note"), By: f.text("by")}
	if p.Since.IsZero() && p.By == "" {
		if r := a.version(run.TaskVersion); r != nil {
			p = r.task.Pause
		}
	}
	return p
}

func (a *asker) paused(p core.Pause) core.Text {
	a.put("by", p.By)
	a.put("note", p.Note)
	a.put("since", p.Since)
	a.put("until", p.Until)
	text := plus(say("任务已由 ", "the task was paused by "), by(p.By))
	if p.Since.IsZero() {
		text = plus(text, say("暂停", ""))
	} else {
		text = plus(text, both(" 于 %s 暂停", " at %s", a.when(p.Since)))
	}
	if p.Until.IsZero() {
		text = plus(text, say("，直到有人恢复", ", until somebody resumes it"))
	} else {
		text = plus(text, both("，至 %s", ", until %s", a.when(p.Until)))
	}
	if p.Note != "" {
		text = plus(text, say("，说明：“"+p.Note+"”", ", with the note \""+p.Note+"\""))
	}
	a.evidence("pause", p.Since, text, map[string]any{"by": p.By, "note": p.Note})
	return text
}

func (a *asker) unmet(run *core.Run, f facts, detail core.Text) core.Text {
	p, ok := a.precondition(run, f.text("key"))
	if !ok {
		return plus(say("前置条件直到期限仍未成立", "a precondition had not come true by its deadline"), detail)
	}
	name := label(p)
	detail = tail(strings.TrimPrefix(f.text("detail"), name+": "))
	deadline := a.gaveUp(run, p.Deadline)
	a.put("precondition", name)
	a.put("deadline", deadline)
	return plus(both("前置条件“%s”直到 %s 仍未成立", "the precondition \"%s\" had not come true by %s", name, a.when(deadline)), detail)
}

// gaveUp says until when a run waited that was skipped for a precondition. The deadline counts from when it could have started,
// which history does not have: a fire of the schedule could at its instant, any other run when it came to its first gate, at the
// latest. That it was skipped says that the deadline had come.
func (a *asker) gaveUp(run *core.Run, wait time.Duration) time.Time {
	r := a.version(run.TaskVersion)
	switch {
	case !run.StartAt.IsZero():
		return run.StartAt.Add(wait)
	case run.Trigger == core.TriggerSchedule && (r == nil || r.task.Schedule.Jitter == 0):
		return run.FireAt.Add(wait)
	case run.WaitSince.IsZero() || run.WaitSince.Add(wait).After(run.DecidedAt):
		return run.DecidedAt.Truncate(time.Second) // more would say more than is known
	default:
		return run.WaitSince.Add(wait).Truncate(time.Second)
	}
}

func (a *asker) broken(f facts) core.Text {
	name := f.text("key")
	a.put("breaker", name)
	text := both("熔断器 %s 处于断开状态", "breaker %s was open", cmp.Or(name, "?"))
	if a.own(name) {
		text = say("任务自身的熔断器处于断开状态", "its own breaker was open")
	}
	if m := opened.FindStringSubmatch(f.text("detail")); m != nil {
		a.put("last_error", m[3])
		n, _ := strconv.Atoi(m[2]) // digits
		a.put("failures", n)
		times := m[2] + " failures in a row"
		if n == 1 {
			times = "one failure"
		}
		text = plus(text, say("（连续失败 "+m[2]+" 次）", " after "+times))
		if m[3] != "" {
			text = plus(text, say("，最后的错误："+m[3], ", the last error being: "+m[3]))
		}
	} else {
		text = plus(text, tail(f.text("detail")))
	}
	since := f.time("opened_at")
	for _, b := range a.q.Breakers { // where it has not closed since, it is still the same opening
		if b.Name == name && since.IsZero() && b.State != core.BreakerClosed && !b.OpenedAt.IsZero() && !b.OpenedAt.After(a.at.Add(time.Minute)) {
			since = b.OpenedAt
		}
	}
	if !since.IsZero() {
		a.put("since", since)
		text = plus(text, both("，自 %s 起", ", since %s", a.when(since)))
	}
	a.breaker(name)
	return text
}

func (a *asker) full(f facts, detail core.Text) core.Text {
	m := slotsUsed.FindStringSubmatch(f.text("detail"))
	if m == nil {
		return plus(both("额度 %s 已用完，等待的运行也已达上限", "limit %s was used up, and as many runs as may waited for it", cmp.Or(f.text("key"), "?")), detail)
	}
	used, _ := strconv.Atoi(m[1]) // digits
	limit, _ := strconv.Atoi(m[2])
	a.put("used", used)
	a.put("limit", limit)
	return both("额度 %[1]s 共 %[2]d，已用 %[3]d，等待的运行也已达上限", "limit %[1]s was used up (%[3]d of %[2]d), and as many runs as may waited for it", m[3], limit, used)
}

// changedAfter says what was done to the task between the claim of a fire and its start; of one that an end causes, before.
func (a *asker) changedAfter(run *core.Run) core.Text {
	var next *reign
	if r := a.version(run.TaskVersion); run.Trigger == core.TriggerUpstream && r != nil && !r.task.Enabled { // it was so before
		return a.disabledBy(r)
	}
	for i := range a.reigns {
		if a.reigns[i].task.Version > run.TaskVersion {
			next = &a.reigns[i]
			break
		}
	}
	switch {
	case next != nil && !next.task.Enabled:
		return a.disabledBy(next)
	case next == nil && !a.q.Deleted.IsZero():
		return a.deleted()
	case next == nil:
		a.Code = Code(cmp.Or(string(run.Reason), string(CodeEdited)))
		return say("任务在认领之后、启动之前被修改", "the task was changed after the fire was claimed and before it started")
	}
	a.Code = CodeEdited
	a.sawVersion(next)
	a.put("version", next.task.Version)
	a.put("by", next.task.UpdatedBy)
	return plus(say("认领之后、启动之前，任务被 ", "after it was claimed and before it started, the task was changed by "), by(next.task.UpdatedBy),
		both(" 于 %s 修改（版本 %d）", " at %s (version %d)", a.when(next.from), next.task.Version))
}
