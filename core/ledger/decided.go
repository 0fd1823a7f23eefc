package ledger

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// decided answers from the row of the instant.
func (a *asker) decided(run *core.Run) {
	a.RunID = run.ID
	a.put("trigger", string(run.Trigger))
	a.put("series", run.Series)
	a.put("decided_at", run.DecidedAt)
	if run.FireCount > 1 {
		a.put("range_from", run.FireAt)
		a.put("range_to", run.FireThrough)
		a.put("range_count", run.FireCount)
	}
	a.sawRun(run)
	moved := core.Text{}
	if !run.MovedFrom.IsZero() {
		moved = a.movedHere(run)
	}
	switch {
	case run.Verdict == core.Skipped:
		a.skipped(run)
	case run.Verdict != "" && run.StartedAt.IsZero() && run.State == core.RunEnded && run.Attempt <= 1 && !run.EndedAt.IsZero():
		a.neverBegan(run)
	case run.State == core.RunEnded || run.Verdict != "":
		a.ended(run)
	default:
		a.live(run)
	}
	a.Text = join(a.Text, a.intervention(run), moved)
	if run.Reason != core.ReasonNonexistent {
		a.Text = join(a.Text, a.standsFor(run.FireAt))
	}
}

// subject names the instant: "A/b 在 … 的一次触发", "the fire of A/b at …".
func (a *asker) subject(run *core.Run) core.Text {
	if run != nil {
		switch run.Trigger {
		case core.TriggerManual:
			return plus(both("%s 在 %s 由 ", "the run of %s at %s, started by hand by ", a.name, a.here()), by(run.CreatedBy), say(" 手动启动的运行", ","))
		case core.TriggerBackfill:
			return both("%s 补跑的 %s 这一次（%s）", "the backfill run of %s for %s (%s)", a.name, a.here(), run.Series)
		case core.TriggerUpstream:
			of := run.CausedBy
			if task := factsOf(run).text("upstream"); task != "" {
				of += " (" + task + ")"
			}
			return both("%s 在 %s 由上游运行 %s 触发的一次", "the run of %s at %s, caused by the upstream run %s,", a.name, a.here(), of)
		case core.TriggerWorkflow:
			return both("%s 在 %s 作为工作流 %s 的步骤 %s 的一次", "the run of %s at %s, a step of workflow run %s (%s),", a.name, a.here(), run.WorkflowID, run.Step)
		case core.TriggerRetry:
			return both("%s 在 %s 重试运行 %s 的一次", "the run of %s at %s, which tries run %s again,", a.name, a.here(), run.CausedBy)
		}
	}
	return both("%s 在 %s 的这一次", "the fire of %s at %s", a.name, a.here())
}

// the puts a subject and what is said of it into a sentence.
func (a *asker) the(run *core.Run, said core.Text) core.Text {
	return plus(a.subject(run), said)
}

func (a *asker) ended(run *core.Run) {
	a.Code = CodeStarted
	a.put("verdict", string(run.Verdict))
	a.put("started_at", run.StartedAt)
	if run.Verdict != core.Lost {
		a.put("ended_at", run.EndedAt)
	}
	a.put("message", run.Message)
	end := core.Text{}
	switch {
	case run.Verdict == "":
	case run.Verdict == core.Lost: // between the last sign of it and its end somebody had to notice
		a.put("found_at", run.EndedAt)
		end = plus(both("，随服务器丢失（%s 才发现，运行了多久不得而知）", " and was lost (which was found at %s; how long it ran is not known)", a.when(run.EndedAt)),
			a.message(run))
	case run.StartedAt.IsZero():
		end = plus(say("，结果："+verdict(run.Verdict).Zh, ", and ended: "+verdict(run.Verdict).En), a.message(run))
	default:
		a.put("duration_seconds", run.EndedAt.Sub(run.StartedAt))
		took, v := lasted(run.EndedAt.Sub(run.StartedAt)), verdict(run.Verdict)
		end = plus(say("，历时 "+took.Zh+"，结果："+v.Zh, ", took "+took.En+" and ended: "+v.En), a.message(run))
	}
	a.Text = plus(a.the(run, a.start(run)), end, say("。", "."))
	a.breaches(run)
}

// replacing is how a run says that a later fire of its task has stopped it, or taken its place.
var replacing = regexp.MustCompile(`overlap policy (\S+) \(the fire of (\S+), run ([^\s)]+)\)`)

// message puts what was said of a run's end behind a text.
func (a *asker) message(run *core.Run) core.Text { return tail(a.replaced(run.Message)) }

// replaced notes by which policy and for which fire a run was stopped, and has the instant in the words in the
// schedule's zone.
func (a *asker) replaced(said string) string {
	m := replacing.FindStringSubmatch(said)
	if m == nil {
		return said
	}
	fire, err := time.Parse(time.RFC3339Nano, m[2])
	if err != nil {
		return said
	}
	a.put("overlap", m[1])
	a.put("later_fire", fire)
	a.put("later_run_id", m[3])
	return strings.Replace(said, m[2], a.when(fire), 1)
}

// start says when a run began, how late, and why so late.
func (a *asker) start(run *core.Run) core.Text {
	began := begun(run)
	if began.IsZero() {
		return say("已启动", " was started")
	}
	late := began.Sub(run.FireAt)
	a.put("late_seconds", late)
	a.put("attempt", run.Attempt)
	text := both("于 %s 启动", " was started at %s", a.when(began))
	switch {
	case run.Attempt > 1:
		text = both("的第 %d 次尝试于 %s 启动", " began attempt %d at %s", run.Attempt, a.when(began))
	case run.Trigger == core.TriggerCatchUp:
		text = plus(text, a.outage(run, late))
	case run.Trigger == core.TriggerBackfill:
	default:
		d := lasted(late)
		text = plus(text, say("（晚 "+d.Zh+"）", ", "+d.En+" late"))
	}
	if !run.WaitSince.IsZero() && run.Attempt <= 1 {
		text = plus(text, a.waited(run, began))
	}
	return text
}

// outage says since when no decision was made before a missed fire was decided.
func (a *asker) outage(run *core.Run, late time.Duration) core.Text {
	f, d := factsOf(run), lasted(late)
	a.put("policy", f.text("policy"))
	if from, to, ok := a.silence(run, f); ok {
		return plus(say("（晚 "+d.Zh+"：", ", "+d.En+" late: "), both("自 %s 至 %s 没有服务器做决定，事后补上）", "no server decided anything between %s and %s", a.when(from), a.when(to)))
	}
	text := say("（晚 "+d.Zh+"：到点时没有服务器在做决定，事后补上", ", "+d.En+" late, because no server decided anything when it was due")
	if last := a.lastDecision(run.DecidedAt); !last.IsZero() && last.Before(run.FireAt.Add(late)) {
		a.put("last_decision_at", last)
		text = plus(text, both("；此前最后一次决定在 %s", "; the last decision before was made at %s", a.when(last)))
	}
	if since := f.time("server_started"); !since.IsZero() {
		a.put("server_started", since)
		text = plus(text, both("；服务器自 %s 起工作", "; the server has worked since %s", a.when(since)))
		a.evidence("server", since, both("作出决定的服务器于 %s 启动", "the server that decided was started at %s", a.when(since)), nil)
	}
	return plus(text, say("）", ""))
}

// silence gives the time in which no server worked, before the one that decided a missed fire began to, or went on: since a server
// last showed itself. ok is false if that is not known.
func (a *asker) silence(run *core.Run, f facts) (from, to time.Time, ok bool) {
	if to = f.time("server_started"); to.IsZero() || a.q.Seen == nil {
		return from, to, false
	}
	from = a.lastDecision(run.FireAt) // who decided or was seen later would have decided this fire too
	if seen := a.q.Seen(run.FireAt); seen.After(from) {
		from = seen
	}
	if from.IsZero() {
		return from, to, false
	}
	a.put("server_seen", from)
	a.put("server_started", to)
	a.evidence("server", from, both("最后一次有服务器工作的迹象在 %s", "a server last showed itself at %s", a.when(from)), nil)
	a.evidence("server", to, both("作出决定的服务器于 %s 启动", "the server that decided was started at %s", a.when(to)), nil)
	if !from.Before(to) { // it was there all the time, and stood still or had no lease
		to = run.DecidedAt
	}
	return from, to, true
}

func (a *asker) waited(run *core.Run, until time.Time) core.Text {
	d := lasted(until.Sub(run.WaitSince))
	gate := a.gate(run)
	a.put("waited_seconds", until.Sub(run.WaitSince))
	a.put("gate", string(run.Gate))
	a.put("key", run.GateKey)
	text := say("，此前等待"+gate.Zh+" "+d.Zh, ", after it had waited for "+gate.En+" for "+d.En)
	if detail := factsOf(run).text("detail"); run.Gate == core.GatePrecondition && strings.HasSuffix(detail, core.NotTrueInTime) {
		a.put("otherwise", string(core.OtherwiseRun))
		text = plus(text, say("，到期限仍未成立，按 otherwise: run 照常启动", ", which had not come true by its deadline: it was started all the same, as otherwise: run says"))
	}
	return text
}

// own says whether a breaker is the task's own, whose name tells people nothing.
func (a *asker) own(breaker string) bool { return breaker == "task:"+a.q.Task.ID }

func (a *asker) breaches(run *core.Run) {
	for _, b := range run.Breaches {
		a.evidence("sla", b.At, plus(say("未达服务级别", "missed its service level"), tail(b.Limit)), map[string]any{"kind": string(b.Kind)})
	}
}

// intervention says whether a person was asked about a run whose attempts are used up, and what was decided.
func (a *asker) intervention(run *core.Run) core.Text {
	if a.q.Intervention == nil || !run.Verdict.Failure() {
		return core.Text{}
	}
	i, ok := a.q.Intervention(run.ID)
	if !ok {
		return core.Text{}
	}
	text, at := both("它的尝试已用完，自 %s 起等待人工处理。", "Its attempts are used up, and since %s it waits for a person.", a.when(i.CreatedAt)), i.CreatedAt
	if !i.ResolvedAt.IsZero() {
		at = i.ResolvedAt
		who := by(i.By)
		text = plus(say("经 "+who.Zh, "It was put before a person, and "+who.En), both(" 于 %s 人工处理：", " decided at %s: ", a.when(at)))
		switch i.Action {
		case "retry":
			text = plus(text, both("作为运行 %s 再试", "it is tried again as run %s", i.NewRun))
		case "skip":
			text = plus(text, say("到此为止（skip）", "it is left at that (skip)"))
		case "done":
			text = plus(text, say("已由人工完成（done）", "it was done by hand (done)"))
		default:
			text = plus(text, say(i.Action, i.Action))
		}
		if i.Note != "" {
			text = plus(text, say("，说明：“"+i.Note+"”", ", with the note \""+i.Note+"\""))
		}
		text = plus(text, say("。", "."))
	}
	a.put("intervention", cmp.Or(i.Action, "open"))
	a.put("intervention_by", i.By)
	a.put("intervention_note", i.Note)
	a.put("intervention_run_id", i.NewRun)
	a.put("intervention_at", at)
	a.evidence("intervention", at, text, map[string]any{"run_id": i.RunID, "action": i.Action, "by": i.By, "note": i.Note, "new_run": i.NewRun})
	return text
}

func (a *asker) neverBegan(run *core.Run) {
	a.Code = CodeNotStarted
	a.put("verdict", string(run.Verdict))
	a.put("message", run.Message)
	v := verdict(run.Verdict)
	said := both("没有开始就在 %s 结束，结果：", " ended at %s without having begun: ", a.when(run.EndedAt))
	a.Text = plus(a.the(run, plus(said, v)), a.message(run))
	if run.StopBy != "" && !strings.Contains(run.Message, run.StopBy) {
		a.put("by", run.StopBy)
		a.Text = plus(a.Text, say("（由 "+run.StopBy+" 停止）", " (stopped by "+run.StopBy+")"))
	}
	a.Text = plus(a.Text, say("。", "."))
}

// live says where a run stands that has not ended.
func (a *asker) live(run *core.Run) {
	now := a.q.Now
	a.put("state", string(run.State))
	switch run.State {
	case core.RunWaiting:
		a.waits(run)
	case core.RunRetrying:
		a.Code = CodeRetrying
		a.put("attempt", run.Attempt)
		a.put("next_attempt_at", run.StartAt)
		a.Text = plus(a.the(run, both("正处于两次尝试之间：第 %d 次尝试定于 %s", " is between two attempts: attempt %d is due at %s", run.Attempt, a.when(run.StartAt))),
			tail(run.Message))
		if run.Gate != core.GateNone {
			gate := a.gate(run)
			a.Text = plus(a.Text, say("，正在等待"+gate.Zh, ", and waits for "+gate.En))
		}
		a.Text = plus(a.Text, say("。", "."))
	case core.RunClaimed, core.RunQueued:
		if run.StartedAt.IsZero() && now.Before(run.StartAt) || run.State == core.RunQueued {
			a.Code = CodeClaimed
			a.put("start_at", run.StartAt)
			a.Text = a.the(run, both("已由服务器 %s 认领，将于 %s 启动。", " is claimed by server %s and starts at %s.", cmp.Or(run.Owner, "?"), a.when(run.StartAt)))
			return
		}
		fallthrough
	default:
		a.Code = CodeRunning
		began := begun(run)
		a.put("started_at", began)
		since := core.Text{}
		if !began.IsZero() {
			d := lasted(now.Sub(began))
			since = say("，已运行 "+d.Zh, " and has run for "+d.En)
		}
		a.Text = plus(a.the(run, a.start(run)), since, both("，由服务器 %s 执行，尚未结束。", ", on server %s; it has not ended.", cmp.Or(run.Owner, "?")))
		a.breaches(run)
	}
}

func (a *asker) waits(run *core.Run) {
	a.Code = CodeWaiting
	f := factsOf(run)
	a.put("gate", string(run.Gate))
	a.put("key", run.GateKey)
	a.put("wait_since", run.WaitSince)
	a.put("wait_until", run.WaitUntil)
	detail := f.text("detail")
	a.put("detail", detail)
	d := lasted(a.q.Now.Sub(run.WaitSince))
	gate := a.gate(run)
	if p, ok := a.precondition(run, run.GateKey); ok && run.Gate == core.GatePrecondition {
		detail = strings.TrimPrefix(detail, label(p)+": ")
	}
	a.Text = plus(a.the(run, say("仍在等待"+gate.Zh, " still waits for "+gate.En)),
		both("，自 %s 起，", ", since %s (", a.when(run.WaitSince)), say("已 "+d.Zh, d.En+")"))
	if detail != "" { // only the first in line is looked at again and again
		a.Text = plus(a.Text, say("；上次查看时", "; when it was last looked at"), tail(detail))
	}
	switch run.Gate {
	case core.GatePrecondition:
		if p, ok := a.precondition(run, run.GateKey); ok {
			deadline := run.StartAt.Add(p.Deadline)
			a.put("deadline", deadline)
			a.Text = plus(a.Text, both("；最迟等到 %s", "; it waits until %s at the latest", a.when(deadline)))
		}
	case core.GateBreaker:
		a.breaker(run.GateKey)
	case core.GateOverlap:
		for _, other := range a.liveAt(a.q.Now, run.ID) {
			a.ran(other)
		}
	}
	a.Text = plus(a.Text, say("。", "."))
}

// ran puts a run in evidence that was in the way.
func (a *asker) ran(other *core.Run) {
	text := both("运行 %s（%s）于 %s 开始", "run %s (of %s) began at %s", other.ID, a.when(other.FireAt), a.when(begun(other)))
	if !other.EndedAt.IsZero() {
		text = plus(text, both("，%s 结束", " and ended at %s", a.when(other.EndedAt)))
	}
	a.evidence("run", begun(other), text, map[string]any{"run_id": other.ID})
}

// breaker puts a breaker in evidence as it stands now.
func (a *asker) breaker(name string) {
	for _, b := range a.q.Breakers {
		if b.Name != name {
			continue
		}
		state := b.State
		if state == "" {
			state = core.BreakerClosed
		}
		text := plus(both("熔断器 %s 现在：%s", "breaker %s stands now: %s", b.Name, state), tail(b.Because))
		if !b.OpenedAt.IsZero() && state != core.BreakerClosed {
			text = plus(text, both("，自 %s 起", ", since %s", a.when(b.OpenedAt)))
			a.put("breaker_since", b.OpenedAt)
		}
		a.put("breaker_state", string(state))
		a.put("breaker_error", b.Because)
		a.evidence("breaker", b.OpenedAt, text, map[string]any{"name": b.Name, "state": string(state), "failures": b.Failures, "because": b.Because})
	}
}

// precondition gives the one a key means, of the version the run was decided by.
func (a *asker) precondition(run *core.Run, key string) (core.Precondition, bool) {
	i, err := strconv.Atoi(key)
	if err != nil {
		return core.Precondition{}, false
	}
	for _, task := range []*reign{a.version(run.TaskVersion), {task: a.q.Task}} { // the namespace's defaults are only in Task
		if task != nil && i >= 0 && i < len(task.task.Policies.Preconditions) {
			return task.task.Policies.Preconditions[i], true
		}
	}
	return core.Precondition{}, false
}

func label(p core.Precondition) string {
	switch {
	case p.Name != "":
		return p.Name
	case p.SQL != nil:
		return p.SQL.Query
	case p.HTTP != nil:
		return p.HTTP.URL
	default:
		return p.Expression
	}
}

var (
	slotsUsed = regexp.MustCompile(`(\d+) of (\d+) slots of (\S+) in use`)
	opened    = regexp.MustCompile(`^(open|half_open) after (\d+) failures?(?:: (.*))?$`)
)
