package ledger

import (
	"regexp"
	"strconv"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// noInstant answers for a task that never had an instant and has none to come.
func (a *asker) noInstant() {
	a.Code = CodeNoSuchFire
	plan := a.lastPlan()
	if r, ok := a.current(); ok && a.chained(r) {
		a.chain(r)
		return
	}
	switch {
	case plan == nil && len(a.reigns) > 0 && a.reigns[len(a.reigns)-1].err != nil:
		a.Code = CodePoisoned
		a.Text = plus(both("%s 的计划无法读取", "the schedule of %s cannot be read", a.name), tail(a.reigns[len(a.reigns)-1].err.Error()), say("。", "."))
	case plan != nil && plan.Kind() == schedule.Manual:
		r, _ := a.current() // whose plan it is
		a.Text = plus(say(a.name+" ", a.name+" "), a.noSchedule(r), say("。", "."))
	default:
		a.Text = both("%s 的计划没有任何时刻。", "the schedule of %s has no instant.", a.name)
	}
	if r, ok := a.current(); ok {
		a.sawVersion(r)
	}
}

func (a *asker) lastPlan() *schedule.Schedule {
	if r, ok := a.current(); ok {
		return a.h.schedule(r)
	}
	return nil
}

// undecided answers for an instant that has no row.
func (a *asker) undecided() {
	held := a.heldAt(a.at)
	switch {
	case len(a.reigns) == 0:
		a.noInstant()
	case !a.q.Deleted.IsZero() && a.at.After(a.q.Deleted):
		a.Code = CodeDeleted
		a.Text = plus(a.the(nil, say("没有记录：", " is not there: ")), a.deleted(), say("。", "."))
	case held == nil:
		a.beforeAll()
	case a.belongs(held):
		a.lacking(held)
	case a.elsewhere(held):
	default:
		a.none(held)
	}
}

// belongs says whether a version has the instant, whether it was enabled or not.
func (a *asker) belongs(r *reign) bool {
	plan := a.h.schedule(r)
	if plan == nil {
		return r.err != nil
	}
	if plan.Kind() == schedule.After {
		next := a.q.Task.State.NextFire
		return r.last && !next.IsZero() && next.Equal(a.at)
	}
	_, ok := fireAt(plan, a.at)
	return ok
}

// beforeAll answers for an instant before the first version.
func (a *asker) beforeAll() {
	first := &a.reigns[0]
	a.sawVersion(first)
	if first.task.Version > 1 {
		a.Code = CodeNoRecord
		a.Text = plus(a.the(nil, both("没有记录：最早保留的版本 %d 于 %s 才保存", " is not on record: the oldest version that is kept, %d, was saved at %s",
			first.task.Version, a.when(first.from))), say("。", "."))
		return
	}
	a.Code = CodeNotCreated
	a.put("created_at", first.from)
	a.put("by", first.task.UpdatedBy)
	a.Text = plus(a.the(nil, both("不存在：任务在 %s 才由 ", " does not exist: the task was only created at %s by ", a.when(first.from))),
		by(first.task.UpdatedBy), say(" 创建，新建的任务不追溯触发。", ", and a new task fires nothing retroactively."))
}

func (a *asker) deleted() core.Text {
	a.Code = CodeDeleted
	a.put("deleted_at", a.q.Deleted)
	a.put("by", a.q.DeletedBy)
	text := plus(say("任务已由 ", "the task was deleted by "), by(a.q.DeletedBy), both(" 于 %s 删除", " at %s", a.when(a.q.Deleted)))
	a.evidence("version", a.q.Deleted, text, map[string]any{"by": a.q.DeletedBy})
	return text
}

// disabledBy says since when a task was disabled, and by what.
func (a *asker) disabledBy(r *reign) core.Text {
	first := r
	for i := range a.reigns {
		if &a.reigns[i] == r {
			for ; i > 0 && !a.reigns[i-1].task.Enabled; i-- {
				first = &a.reigns[i-1]
			}
			break
		}
	}
	a.sawVersion(first)
	a.put("since", first.from)
	a.put("version", first.task.Version)
	if why := first.task.DisabledReason; why != "" {
		a.Code = CodeStopOnError
		a.put("disabled_reason", why)
		run := runID.FindString(why)
		a.put("run_id", run)
		text := plus(both("任务在 %s 被 Gnomon 停用（版本 %d）", "Gnomon had disabled the task at %s (version %d)", a.when(first.from), first.task.Version), tail(why))
		for i := range a.q.Rows {
			if failed := &a.q.Rows[i]; run != "" && failed.ID == run {
				text = plus(text, both("，即 %s 那一次", ", which was the fire of %s", a.when(failed.FireAt)), tail(failed.Message))
				a.sawRun(failed)
			}
		}
		return text
	}
	a.Code = CodeDisabled
	a.put("by", first.task.UpdatedBy)
	if first.task.Version <= 1 {
		return plus(say("任务由 ", "the task was created disabled by "), by(first.task.UpdatedBy), both(" 于 %s 创建时就是停用的", " at %s", a.when(first.from)))
	}
	return plus(say("任务已由 ", "the task was disabled by "), by(first.task.UpdatedBy), both(" 于 %s 停用（版本 %d）", " at %s (version %d)", a.when(first.from), first.task.Version))
}

var runID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// lacking answers for an instant that the version of its time has, and no row decides.
func (a *asker) lacking(r *reign) {
	plan := a.h.schedule(r)
	future := a.at.After(a.q.Now)
	switch {
	case !r.task.Enabled:
		because := a.disabledBy(r)
		if future {
			a.Text = plus(a.the(nil, say("不会触发：", " will not come: ")), because, say("。", "."))
			return
		}
		a.Text = plus(a.the(nil, say("没有触发：", " did not come: ")), because, say("。", "."))
	case plan == nil:
		a.Code = CodePoisoned
		a.put("problem", r.err.Error())
		a.sawVersion(r)
		a.Text = plus(a.the(nil, say("无法判断：当时版本的计划读不懂", " cannot be told: the schedule of the version of that time cannot be read")), tail(r.err.Error()), say("。", "."))
	case future:
		a.notDue(r, plan)
	case a.stopped(r):
	case r.last && a.q.Deleted.IsZero() && a.pending():
		a.behind(plan)
	case r.nearEdit(a.at):
		a.atEdit(r)
	default:
		a.lost(r)
	}
}

// notDue says what is expected of an instant to come.
func (a *asker) notDue(r *reign, plan *schedule.Schedule) {
	a.sawVersion(r)
	left := lasted(a.at.Sub(a.q.Now))
	a.put("due_in_seconds", a.at.Sub(a.q.Now))
	fire, _ := fireAt(plan, a.at)
	if a.exhausted() {
		return
	}
	if p := r.task.Pause; p.Holds(a.at) {
		a.Code = CodePaused
		a.Text = plus(a.the(nil, say("还有 "+left.Zh+"，届时会被跳过：", " comes in "+left.En+" and will be skipped: ")), a.paused(p), say("。", "."))
		return
	}
	switch fire.Skip {
	case core.ReasonCalendar:
		a.Code = CodeCalendar
		a.Text = plus(a.the(nil, say("还有 "+left.Zh+"，届时会被跳过：", " comes in "+left.En+" and will be skipped: ")), a.refused(fire.Calendar, a.at), say("。", "."))
		return
	case core.ReasonNonexistent:
		a.Code = CodeNonexistent
		a.Text = a.the(nil, say("会被跳过：那个当地时间在那一天不存在。", " will be skipped: that local time does not exist on that date."))
		a.gap(a.at)
		return
	}
	if a.lastBefore(plan) {
		return
	}
	a.Code = CodeNotDue
	a.Text = plus(a.the(nil, say("还没有到，还有 "+left.Zh, " has not come yet: it is due in "+left.En)))
	if p := a.q.Task.Policies; p.MaxRuns > 0 {
		a.put("max_runs", p.MaxRuns)
		a.put("fired", a.q.Task.State.Fired)
		a.Text = plus(a.Text, both("（最多 %d 次，已运行 %d 次）", " (%[2]d of at most %[1]d runs started so far)", p.MaxRuns, a.q.Task.State.Fired))
	}
	a.Text = plus(a.Text, say("。", "."))
	if !fire.MovedFrom.IsZero() {
		a.put("moved_from", fire.MovedFrom)
		a.Text = join(a.Text, both("它由日历“%s”从 %s 移来。", "Calendar \"%s\" moves it here from %s.", fire.Calendar, a.when(fire.MovedFrom)))
	}
	a.Text = join(a.Text, a.standsFor(a.at))
}

// exhausted answers if the task has had its number of runs.
func (a *asker) exhausted() bool {
	most, started := a.q.Task.Policies.MaxRuns, a.q.Task.State.Fired
	if most == 0 || started < int64(most) {
		return false
	}
	a.Code = CodeMaxRuns
	a.put("max_runs", most)
	a.put("fired", started)
	said := say("不会触发：", " will not come: ")
	if a.at.Equal(a.q.Task.State.NextFire) { // the scheduler has not said so yet
		said = say("届时会被跳过：", " will be skipped: ")
	}
	a.Text = plus(a.the(nil, said), usedUp(strconv.Itoa(most), strconv.FormatInt(started, 10)),
		say("；要再触发须修改任务。", "; nothing more comes until the task is changed."))
	return true
}

// lastBefore answers if the task will have had its number of runs before the instant, unless some are skipped.
func (a *asker) lastBefore(plan *schedule.Schedule) bool {
	const most = 10_000 // more fires are not walked over
	p, fired := a.q.Task.Policies, a.q.Task.State.Fired
	left := int64(p.MaxRuns) - fired
	if p.MaxRuns == 0 || left > most || !follows(plan) {
		return false
	}
	last := a.q.Now
	for ; left > 0; left-- {
		fire, ok := plan.NextStart(last)
		if !ok || !fire.At.Before(a.at) {
			return false
		}
		last = fire.At
	}
	a.Code = CodeMaxRuns
	a.put("max_runs", p.MaxRuns)
	a.put("fired", fired)
	a.put("last", last)
	a.Text = plus(a.the(nil, say("预计不会触发：", " is not expected to come: ")), usedUp(strconv.Itoa(p.MaxRuns), strconv.FormatInt(fired, 10)),
		both("，若无跳过，%s 就是最后一次。", "; the last will be that of %s if none is skipped before.", a.when(last)))
	return true
}

// stopped says whether an earlier row of the same version said that nothing more comes.
func (a *asker) stopped(r *reign) bool {
	for i := range a.q.Rows {
		run := &a.q.Rows[i]
		if run.TaskVersion != r.task.Version || !run.FireAt.Before(a.at) || run.Reason != core.ReasonMaxRuns && run.Reason != core.ReasonPoisoned {
			continue
		}
		a.RunID = run.ID
		a.sawRun(run)
		a.skipped(run)
		a.Text = both("%s 在 %s 没有触发：自 %s 那一次起，计划不再触发（", "%s did not fire at %s: since the fire of %s its schedule starts nothing more (", a.name, a.here(), a.when(run.FireAt))
		if most := factsOf(run).text("max_runs"); run.Reason == core.ReasonMaxRuns {
			a.Text = plus(a.Text, say("最多运行 "+most+" 次", runs(most)+" at most"))
		} else {
			a.Text = plus(a.Text, say("保存的定义无法读取", "the stored definition cannot be read"))
		}
		a.Text = plus(a.Text, say("），直到任务被修改。", "), until the task is changed."))
		return true
	}
	return false
}

// pending says whether the scheduler's mark has not come past the instant yet.
func (a *asker) pending() bool {
	mark := a.q.Task.State.NextFire
	return !mark.IsZero() && !mark.After(a.at)
}

// behind answers for an instant that has come and is not decided.
func (a *asker) behind(plan *schedule.Schedule) {
	mark, late := a.q.Task.State.NextFire, a.q.Now.Sub(a.at)
	d := lasted(late)
	a.put("late_seconds", late)
	a.put("mark", mark)
	a.evidence("mark", mark, both("下一个待决定的时刻是 %s", "the next instant to be decided is %s", a.when(mark)), nil)
	last := a.lastDecision(a.q.Now)
	more := core.Text{}
	if !last.IsZero() {
		a.put("last_decision_at", last)
		more = both("；本任务最后一次决定在 %s", "; the last decision about the task was made at %s", a.when(last))
	}
	if follows(plan) && mark.Before(a.at) {
		more = plus(more, both("，自 %s 起的时刻都还没有决定", ", and every instant since %s is undecided", a.when(mark)))
	}
	next := say("。恢复后按补跑策略处理。", ". When one does, the catch-up policy decides.")
	if s := a.q.Serving; !s.IsZero() && a.q.Now.Sub(s) > serverSilent {
		a.Code = CodeServerDown
		a.put("server_seen", s)
		a.evidence("server", s, both("最后一次有服务器续约在 %s", "a server renewed its lease last at %s", a.when(s)), nil)
		a.Text = plus(a.the(nil, both("已到点 ", " was due ")), d, both("，还没有决定：自 %s 起没有服务器在工作", " ago and is not decided: no server has worked since %s", a.when(s)), more, next)
		return
	}
	a.Code = CodeUndecided
	if late < 2*time.Second {
		a.Text = a.the(nil, say("刚刚到点，正在作出决定。", " has just come and is being decided."))
		return
	}
	a.Text = plus(a.the(nil, say("已到点 ", " was due ")), d, say("，还没有服务器作出决定", " ago, and no server has decided it yet"), more, next)
}

// atEdit answers for an instant that an edit came so close to that neither version decided it.
func (a *asker) atEdit(r *reign) {
	next := a.after(r)
	if next == nil || r.from.After(a.at.Add(-Slack)) {
		next = r
	}
	a.Code = CodeEdited
	a.sawVersion(next)
	a.put("version", next.task.Version)
	a.put("by", next.task.UpdatedBy)
	a.Text = plus(a.the(nil, say("没有触发：任务就在那一刻由 ", " did not come: at that very moment the task was changed by ")), by(next.task.UpdatedBy),
		both(" 修改（%s，版本 %d），修改不追溯触发。", " (%s, version %d), and an edit fires nothing retroactively.", a.when(next.from), next.task.Version))
}

func (a *asker) after(r *reign) *reign {
	for i := range a.reigns {
		if &a.reigns[i] == r && i+1 < len(a.reigns) {
			return &a.reigns[i+1]
		}
	}
	return nil
}

// lost answers for an instant that has passed undecided: the task was changed while no server decided, or the row is gone.
func (a *asker) lost(r *reign) {
	a.sawVersion(r)
	if next := a.after(r); next != nil && a.lastDecision(next.from).Before(a.at) {
		a.Code = CodeEdited
		a.sawVersion(next)
		a.put("version", next.task.Version)
		a.put("by", next.task.UpdatedBy)
		a.Text = plus(a.the(nil, both("没有决定：没有服务器在那时作出决定，而在 %s 任务由 ", " was not decided: no server decided anything then, and at %s the task was changed by ", a.when(next.from))),
			by(next.task.UpdatedBy), both(" 修改（版本 %d），此前未决定的时刻不再触发。", " (version %d), after which what was undecided fires no more.", next.task.Version))
		return
	}
	a.Code = CodeNoRecord
	a.Text = a.the(nil, say("应当有一条记录，却没有：要么已按保留期从历史中删除，要么是一处缺漏，请用 gnomon doctor 和对账检查。",
		" should have a row and has none: either history has removed it by age, or it is a hole; see gnomon doctor and the reconciliation."))
	if r.task.Schedule.HasCalendars() && a.at.Before(a.q.Recalendared) {
		a.put("calendars_changed_at", a.q.Recalendared)
		a.Text = join(a.Text, both("日历在 %s 之后改过，当时这个时刻可能不存在。", "The calendars have changed since, at %s: it may not have been an instant then.", a.when(a.q.Recalendared)))
	}
}

// elsewhere answers if the instant belongs to another version, to another day, or to a local time that does not exist.
func (a *asker) elsewhere(held *reign) bool {
	return a.wasMoved(held) || a.wasMerged(held) || a.otherVersion(held)
}

// wasMoved answers if the calendars moved the instant away.
func (a *asker) wasMoved(r *reign) bool {
	s := r.task.Schedule
	if !s.HasCalendars() || s.OnDayOff == "" || s.OnDayOff == "skip" {
		return false
	}
	bare := r.task
	bare.Schedule.OnlyOn, bare.Schedule.NotOn, bare.Schedule.OnDayOff = nil, nil, ""
	plain, err := a.h.planOf(bare, r.from)
	if err != nil {
		return false
	}
	if _, ok := fireAt(plain, a.at); !ok {
		return false
	}
	plan := a.h.schedule(r)
	to, ok := plan.Next(a.at.Add(-tick))
	if s.OnDayOff == "previous" {
		to, ok = before(plan, a.at)
	}
	if !ok || to.MovedFrom.IsZero() {
		return false
	}
	a.Code = CodeMoved
	a.put("moved_to", to.At)
	a.put("calendar", to.Calendar)
	a.sawVersion(r)
	day := a.dayOff(to.Calendar, a.at)
	a.Text = plus(a.the(nil, say("（"+day.Zh+"）", " ("+day.En+")")), both("由日历“%s”移到 %s。", " was moved by calendar \"%s\" to %s.", to.Calendar, a.when(to.At)))
	a.andThere(to.At)
	return true
}

// andThere adds what became of the instant that stands for the one asked about.
func (a *asker) andThere(at time.Time) {
	q := a.q
	q.At = at
	there := newAsker(q)
	there.at = at
	run, ok := there.row()
	if !ok {
		return
	}
	there.decided(run)
	a.RunID = run.ID
	a.put("there", string(there.Code))
	a.Text = join(a.Text, sentence(there.Text))
	a.Evidence = append(a.Evidence, there.Evidence...)
}

// movedHere says from where the calendars moved a row's instant.
func (a *asker) movedHere(run *core.Run) core.Text {
	a.put("moved_from", run.MovedFrom)
	calendar := ""
	if r := a.version(run.TaskVersion); r != nil {
		if fire, ok := fireAt(a.h.schedule(r), run.FireAt); ok && fire.MovedFrom.Equal(run.MovedFrom) {
			calendar = fire.Calendar
		}
	}
	a.put("calendar", calendar)
	day := a.dayOff(calendar, run.MovedFrom)
	text := say("它由日历“"+calendar+"”从 "+a.when(run.MovedFrom)+"（"+day.Zh+"）移到 "+a.when(run.FireAt)+"。",
		"Calendar \""+calendar+"\" moved it from "+a.when(run.MovedFrom)+" ("+day.En+") to "+a.when(run.FireAt)+".")
	if calendar == "" {
		text = both("它由日历从 %s 移到 %s。", "The calendars moved it from %s to %s.", a.when(run.MovedFrom), a.when(run.FireAt))
	}
	a.evidence("calendar", run.MovedFrom, text, map[string]any{"calendar": calendar})
	return text
}

// otherVersion answers if another version has the instant, but did not hold then.
func (a *asker) otherVersion(held *reign) bool {
	var older, newer *reign
	for i := range a.reigns {
		r := &a.reigns[i]
		if r == held || !a.belongs(r) {
			continue
		}
		if r.task.Version < held.task.Version {
			older = r
		} else if newer == nil {
			newer = r
		}
	}
	switch {
	case older != nil:
		next := a.after(older)
		a.Code = CodeEdited
		a.sawVersion(older)
		a.sawVersion(next)
		a.put("version", older.task.Version)
		a.put("replaced_by", next.task.Version)
		a.put("by", next.task.UpdatedBy)
		a.Text = plus(a.the(nil, both("属于版本 %d（计划“%s”），该版本在 %s 由 ", " belongs to version %d (schedule \"%s\"), which was replaced at %s by ",
			older.task.Version, older.task.Schedule.Spec, a.when(next.from))), by(next.task.UpdatedBy),
			both(" 改为版本 %d；当时有效的计划是“%s”，没有这个时刻。", " (version %d); the schedule that held then, \"%s\", has no such instant.", next.task.Version, held.task.Schedule.Spec))
		return true
	case newer != nil:
		a.Code = CodeEdited
		a.sawVersion(held)
		a.sawVersion(newer)
		a.put("version", newer.task.Version)
		a.put("held_version", held.task.Version)
		a.put("by", newer.task.UpdatedBy)
		a.Text = plus(a.the(nil, both("在当时的计划“%s”（版本 %d）中不存在：现在的计划“%s”在 %s 才由 ", " is not in the schedule of that time, \"%s\" (version %d): \"%s\" came only at %s by ",
			held.task.Schedule.Spec, held.task.Version, newer.task.Schedule.Spec, a.when(newer.from))), by(newer.task.UpdatedBy),
			both(" 保存（版本 %d），修改不追溯触发。", " (version %d), and an edit fires nothing retroactively.", newer.task.Version))
		return true
	}
	return false
}

// outside says that an instant lies before or after the time in which a version's schedule is active.
func (a *asker) outside(r *reign) core.Text {
	switch s := r.task.Schedule; {
	case !s.Until.IsZero() && !a.at.Before(s.Until):
		a.put("until", s.Until)
		return both("：它的有效期到 %s 为止（until），此后不再触发", ": its active window ended at %s (until), and nothing fires after that", a.when(s.Until))
	case !s.From.IsZero() && a.at.Before(s.From):
		a.put("from", s.From)
		return both("：它的有效期自 %s 才开始（from），此前不触发", ": its active window begins only at %s (from), and nothing fires before that", a.when(s.From))
	}
	return core.Text{}
}

// none answers for an instant that no version has.
func (a *asker) none(r *reign) {
	a.Code = CodeNoSuchFire
	a.sawVersion(r)
	plan := a.h.schedule(r)
	if plan != nil && plan.Kind() == schedule.Manual {
		a.Text = plus(both("%s 在 %s 没有触发：它", "%s did not fire at %s: it ", a.name, a.here()), a.noSchedule(r), say("。", "."))
		if a.chained(r) {
			a.Text = join(a.Text, a.before(r))
		}
		return
	}
	if plan != nil && plan.Kind() == schedule.After {
		delay := lasted(plan.After())
		a.Text = plus(both("%s 在 %s 没有触发：它在上次运行结束后 ", "%s did not fire at %s: it fires ", a.name, a.here()), say(delay.Zh+"触发", delay.En+" after its last run has ended"))
		for _, run := range a.liveAt(a.at, "") {
			a.ran(run)
			a.put("live_run_id", run.ID)
			a.Text = plus(a.Text, both("，而那时运行 %s 尚未结束", ", and run %s had not ended then", run.ID))
		}
		if next := a.q.Task.State.NextFire; !next.IsZero() {
			a.put("next", next)
			a.Text = plus(a.Text, both("；下一次是 %s", "; the next is at %s", a.when(next)))
		}
		a.Text = plus(a.Text, say("。", "."))
		return
	}
	a.Text = plus(both("%s 的计划“%s”没有 %s 这个时刻", "the schedule of %s, \"%s\", has no instant at %s", a.name, r.task.Schedule.Spec, a.here()), a.outside(r))
	if fire, ok := before(plan, a.at); ok {
		a.put("before", fire.At)
		a.Text = plus(a.Text, both("；之前最近的是 %s", "; the nearest before is %s", a.when(fire.At)))
	}
	if plan != nil {
		if fire, ok := plan.Next(a.at); ok {
			a.put("after", fire.At)
			a.Text = plus(a.Text, both("，之后最近的是 %s", ", the nearest after is %s", a.when(fire.At)))
		}
	}
	a.Text = plus(a.Text, say("。", "."))
}
