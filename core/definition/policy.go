package definition

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

const (
	day            = 24 * time.Hour
	maxTimeout     = 30 * day
	maxAttempts    = 100
	maxOverlap     = 1000
	maxWindow      = 10 * 366 * day
	maxSpread      = time.Hour
	maxRetryDelay  = day
	maxStopAfter   = 1000
	maxPriority    = 100
	maxPools       = 20
	maxDownstreams = 20
	maxChecks      = 20
	maxNote        = 1 << 10
	maxFailures    = 1000
	maxProbes      = 100
	// defaultRetryMaxDelay and defaultTimeout are what the runner takes where nothing is said.
	defaultRetryMaxDelay = time.Hour
	defaultTimeout       = time.Hour
)

// judge gathers what is wrong with policies. A word of one's own that could have no effect is refused; a default that
// has none beside a word of the task's own is merely not used (see effective).
type judge struct {
	at       string        // what paths begin with: "policies" or "defaults"
	own      core.Policies // the words that are judged
	all      core.Policies // with the namespace's defaults below them; those of a namespace itself: own
	task     bool          // they are a task's, which nothing else completes; those of a namespace tasks may complete
	flow     bool          // the task is a workflow
	hard     time.Duration // the hard timeout that will hold; 0: not known
	shares   shares        // the pools and downstreams there are
	checks   Preconditions
	findings []core.Finding
}

// shares are what tasks of all namespaces share.
type shares struct {
	pools       map[string]core.Pool
	downstreams map[string]core.Downstream
}

func (j *judge) refuse(field, zh, en string, args ...any) {
	j.findings = append(j.findings, finding(j.at+"."+field, fmt.Sprintf(zh, args...), fmt.Sprintf(en, args...)))
}

// span refuses a duration outside 0 to most.
func (j *judge) span(field string, d, most time.Duration) {
	if d < 0 || d > most {
		j.refuse(field, "必须在 0 到 %[1]s 之间", "must be between 0 and %[1]s", words(most))
	}
}

func (j *judge) number(field string, n, least, most int) {
	if n < least || n > most {
		j.refuse(field, "必须在 %d 到 %d 之间", "must be between %d and %d", least, most)
	}
}

// choice refuses a word that is neither empty nor among those there are.
func choice[T ~string](j *judge, field string, said T, choices ...T) {
	if said == "" || slices.Contains(choices, said) {
		return
	}
	list := make([]string, len(choices))
	for i, c := range choices {
		list[i] = string(c)
	}
	j.refuse(field, "%q 不是可选值；请写 %s", "%q is not a choice; write one of %s", said, strings.Join(list, ", "))
}

// words writes a duration without the zeros at its end: 1h, 90s as 1m30s.
func words(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func (j *judge) judge() []core.Finding {
	j.timeouts()
	j.overlap()
	j.catchUp()
	j.retry()
	j.shared()
	j.breaker()
	for i := range j.own.Preconditions {
		j.precondition(i, j.own.Preconditions[i])
	}
	if len(j.own.Preconditions) > maxChecks {
		j.refuse("preconditions", "最多 %d 个前置条件", "at most %d preconditions", maxChecks)
	}
	j.sla()
	j.number("priority", j.own.Priority, -maxPriority, maxPriority)
	if j.own.MaxRuns < 0 {
		j.refuse("max_runs", "不能为负；0 表示不限", "must not be negative; 0 sets no limit")
	}
	if j.own.LogLevel > core.LevelError {
		j.refuse("log_level", "请写 debug、info、warn 或 error", "write debug, info, warn or error")
	}
	choice(j, "log_full", j.own.LogFull, core.LogFullWait, core.LogFullDrop)
	return j.findings
}

func (j *judge) timeouts() {
	p := j.own
	j.span("timeout", p.Timeout, maxTimeout)
	j.span("soft_timeout", p.SoftTimeout, maxTimeout)
	if p.SoftTimeout > 0 && j.hard > 0 && p.SoftTimeout >= j.hard {
		j.refuse("soft_timeout", "软超时 %[1]s 不短于硬超时 timeout（%[2]s），永远轮不到它；请改短，或把 timeout 设得更长",
			"the soft timeout %[1]s is not shorter than the hard timeout (%[2]s), so it never comes; shorten it or give a longer timeout",
			words(p.SoftTimeout), words(j.hard))
	}
}

// CheckOverlap judges an overlap policy that is said for once, as a task's own would be; at is where it stands.
func CheckOverlap(at string, policy core.Overlap, limit int) []core.Finding {
	j := judge{own: core.Policies{Overlap: policy, OverlapLimit: limit}}
	j.overlap()
	for i := range j.findings {
		j.findings[i].Path = at
	}
	return j.findings
}

func (j *judge) overlap() {
	p := j.own
	choice(j, "overlap", p.Overlap, core.OverlapSkip, core.OverlapQueue, core.OverlapCancel, core.OverlapTerminate, core.OverlapAllow)
	takes := p.Overlap == core.OverlapQueue || p.Overlap == core.OverlapAllow
	switch {
	case p.OverlapLimit < 0 || p.OverlapLimit > maxOverlap:
		j.refuse("overlap", "括号里的数必须在 1 到 %d 之间", "the number in brackets must be between 1 and %d", maxOverlap)
	case p.OverlapLimit > 0 && p.Overlap == "":
		j.refuse("overlap", "只有数字 %[1]d，没有策略；请写 queue(%[1]d) 或 allow(%[1]d)",
			"has the number %[1]d but no policy; write queue(%[1]d) or allow(%[1]d)", p.OverlapLimit)
	case p.OverlapLimit > 0 && !takes:
		j.refuse("overlap", "%[1]s 不带数字（写了 %[2]d）；请去掉数字，或改用 queue(%[2]d)、allow(%[2]d)",
			"%[1]s takes no number (it has %[2]d); leave it out, or write queue(%[2]d) or allow(%[2]d)", p.Overlap, p.OverlapLimit)
	}
}

func (j *judge) catchUp() {
	p := j.own
	choice(j, "catch_up", p.CatchUp, core.CatchUpNone, core.CatchUpLatest, core.CatchUpAll)
	j.span("catch_up_window", p.CatchUpWindow, maxWindow)
	j.number("catch_up_limit", p.CatchUpLimit, 0, core.MaxCatchUpLimit)
	j.span("catch_up_spread", p.CatchUpSpread, maxSpread)
	policy := j.all.CatchUp
	if policy == "" && j.task {
		policy = core.CatchUpLatest
	}
	if policy == "" || policy == core.CatchUpAll {
		return
	}
	for _, f := range []struct {
		field string
		said  bool
	}{
		{"catch_up_window", p.CatchUpWindow > 0}, {"catch_up_limit", p.CatchUpLimit > 0}, {"catch_up_spread", p.CatchUpSpread > 0},
	} {
		if f.said {
			j.refuse(f.field, "与 catch_up: %[1]s 矛盾：只有 catch_up: all 才用得到它；请改为 all，或去掉它",
				"fights with catch_up: %[1]s: only catch_up: all has a use for it; write catch_up: all, or leave it out", policy)
		}
	}
}

func (j *judge) retry() {
	p := j.own
	j.number("max_attempts", p.MaxAttempts, 0, maxAttempts)
	j.span("retry_delay", p.RetryDelay, maxRetryDelay)
	choice(j, "retry_backoff", p.RetryBackoff, core.BackoffExponential, core.BackoffFixed)
	j.span("retry_max_delay", p.RetryMaxDelay, maxRetryDelay)
	if p.RetryJitter < 0 || p.RetryJitter > 1 || math.IsNaN(p.RetryJitter) {
		j.refuse("retry_jitter", "必须在 0 到 1 之间", "must be between 0 and 1")
	}
	retriable := []core.Verdict{core.Failed, core.TimedOut, core.Crashed, core.Lost}
	for i, v := range p.RetryOn {
		if !slices.Contains(retriable, v) {
			j.refuse(fmt.Sprintf("retry_on[%d]", i), "只能是 failed、timed_out、crashed、lost", "must be one of failed, timed_out, crashed, lost")
		}
	}
	j.number("stop_after", p.StopAfter, 0, maxStopAfter)
	if once := j.all.MaxAttempts == 1 || j.task && j.all.MaxAttempts == 0; once {
		for _, f := range []struct {
			field string
			said  bool
		}{
			{"retry_delay", p.RetryDelay > 0}, {"retry_backoff", p.RetryBackoff != ""}, {"retry_max_delay", p.RetryMaxDelay > 0},
			{"retry_jitter", p.RetryJitter > 0}, {"retry_on", len(p.RetryOn) > 0},
		} {
			if f.said {
				j.refuse(f.field, "没有作用：max_attempts 不大于 1，从不重试；请设 max_attempts（至少 2），或去掉它",
					"has no effect: with max_attempts at most 1 nothing is retried; set max_attempts (2 or more), or leave it out")
			}
		}
	}
	most := j.all.RetryMaxDelay
	if j.task {
		most = cmp.Or(most, defaultRetryMaxDelay)
	}
	if p.RetryDelay > 0 && most > 0 && p.RetryDelay > most {
		field := "retry_delay"
		if p.RetryMaxDelay > 0 {
			field = "retry_max_delay"
		}
		j.refuse(field, "retry_delay（%[1]s）比最长等待 retry_max_delay（%[2]s）还长；请把 retry_max_delay 设为至少 %[1]s，或缩短 retry_delay",
			"retry_delay (%[1]s) is longer than the longest wait, retry_max_delay (%[2]s); set retry_max_delay to at least %[1]s, or shorten retry_delay",
			words(p.RetryDelay), words(most))
	}
}

// shared judges the pools and the downstreams that are named.
func (j *judge) shared() {
	p := j.own
	if j.flow {
		if len(p.Pools) > 0 {
			j.refuse("pools", "工作流自身不占名额：它占着名额等步骤，步骤若要同一个池，就会一直等它；请写到各步骤的任务上，这里去掉",
				"a workflow holds no slots itself: it would keep them while its steps wait for them; give them to its steps' tasks and leave them out here")
		}
		if len(p.Downstreams) > 0 {
			j.refuse("downstreams", "工作流自身不碰下游：熔断器半开时放行的那次若正是它，步骤就会一直等它；请写到各步骤的任务上，这里去掉",
				"a workflow touches no downstream itself: if it were the run that tries a half-open breaker, its steps would wait for it; give them to its steps' tasks and leave them out here")
		}
		return
	}
	if len(p.Pools) > maxPools {
		j.refuse("pools", "最多 %d 个池", "at most %d pools", maxPools)
	}
	for i, use := range p.Pools {
		field := fmt.Sprintf("pools[%d]", i)
		pool, known := j.shares.pools[use.Pool]
		switch first := slices.IndexFunc(p.Pools, func(u core.PoolUse) bool { return u.Pool == use.Pool }); {
		case first < i:
			j.refuse(field+".pool", "池 %[1]s 已在 pools[%[2]d] 中列出；请把名额合并成一项", "pool %[1]s stands in pools[%[2]d] already; put the slots together", use.Pool, first)
		case !known:
			j.unknown(field+".pool", "池", "pool", "pools", use.Pool, names(j.shares.pools))
		case use.Slots > pool.Slots:
			j.refuse(field+".slots", "要 %[1]d 个名额，而池 %[2]s 一共只有 %[3]d 个，永远无法开始；请减少，或把池扩大",
				"wants %[1]d slots, and pool %[2]s has %[3]d in all, so it could never start; take fewer, or make the pool larger", use.Slots, use.Pool, pool.Slots)
		}
		if use.Slots < 0 {
			j.refuse(field+".slots", "不能为负；0 表示 1", "must not be negative; 0 means 1")
		}
	}
	if len(p.Downstreams) > maxDownstreams {
		j.refuse("downstreams", "最多 %d 个下游", "at most %d downstreams", maxDownstreams)
	}
	for i, name := range p.Downstreams {
		field := fmt.Sprintf("downstreams[%d]", i)
		if first := slices.Index(p.Downstreams, name); first < i {
			j.refuse(field, "下游 %[1]s 已在 downstreams[%[2]d] 中列出；请去掉一个", "downstream %[1]s stands in downstreams[%[2]d] already; remove one", name, first)
		} else if _, known := j.shares.downstreams[name]; !known {
			j.unknown(field, "下游", "downstream", "downstreams", name, names(j.shares.downstreams))
		}
	}
}

// unknown says that there is no thing of that name, which there are, and which may have been meant.
func (j *judge) unknown(field, zh, en, several, name string, there []string) {
	said := noSuch(zh, en, several, name, there)
	j.findings = append(j.findings, finding(j.at+"."+field, said.Zh, said.En))
}

func (j *judge) breaker() {
	b, all := j.own.Breaker, j.all.Breaker
	j.number("breaker.failures", b.Failures, 0, maxFailures)
	j.number("breaker.probes", b.Probes, 0, maxProbes)
	switch {
	case b.Cooldown < 0 || b.Cooldown > day || b.Cooldown > 0 && b.Cooldown < time.Second:
		j.refuse("breaker.cooldown", "必须在 1s 到 24h 之间", "must be between 1s and 24h")
	case all.Failures == 0 && (b.Cooldown > 0 || b.Probes > 0):
		j.refuse("breaker.failures", "给了 cooldown 或 probes 却没有 failures，熔断器永远不会断开；请写连续失败几次后打开，或去掉整个 breaker",
			"there is a cooldown or probes but no failures, so the breaker never opens; say after how many failures in a row it does, or leave the breaker out")
	case all.Failures > 0 && all.Cooldown == 0:
		j.refuse("breaker.cooldown", "给了 failures 却没有 cooldown；请写断开多久后再试一次，例如 5m",
			"there are failures but no cooldown; say how long it stays open before a run may try: 5m")
	}
}

func (j *judge) precondition(i int, p core.Precondition) {
	field := fmt.Sprintf("preconditions[%d]", i)
	kinds := 0
	for _, given := range []bool{p.Expression != "", p.SQL != nil, p.HTTP != nil} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds == 0:
		j.refuse(field, "没有说明条件；请写 expression、sql、http 三者之一", "says no condition; give one of expression, sql and http")
	case kinds > 1:
		j.refuse(field, "expression、sql、http 只能有一个；请拆成几个前置条件", "has more than one of expression, sql and http; make a precondition of each")
	case j.checks != nil:
		for _, f := range j.checks.Check(p) {
			j.findings = append(j.findings, core.Finding{Path: join(j.at+"."+field, f.Path), Message: f.Message})
		}
	}
	if len(p.Name) > maxNote {
		j.refuse(field+".name", "名称超过 1 KiB", "the name is longer than 1 KiB")
	}
	if p.Every < 0 || p.Every > day || p.Every > 0 && p.Every < time.Second {
		j.refuse(field+".every", "必须在 1s 到 24h 之间", "must be between 1s and 24h")
	}
	j.span(field+".deadline", p.Deadline, maxTimeout)
	choice(j, field+".otherwise", p.Otherwise, core.OtherwiseSkip, core.OtherwiseRun, core.OtherwiseFail)
	switch {
	case p.Every > 0 && p.Deadline == 0:
		j.refuse(field+".every", "没有作用：没有 deadline 时只检查一次；请给出 deadline，或去掉 every",
			"has no effect: without a deadline it is looked at once; give a deadline, or leave every out")
	case p.Every > 0 && p.Deadline > 0 && p.Every > p.Deadline:
		j.refuse(field+".every", "检查间隔 %[1]s 比期限 deadline（%[2]s）还长，只会检查一次；请缩短 every 或延长 deadline",
			"the interval %[1]s is longer than the deadline (%[2]s), so it is looked at once; shorten every or lengthen the deadline", words(p.Every), words(p.Deadline))
	}
	if p.Otherwise == core.OtherwiseRun && p.Deadline == 0 {
		j.refuse(field+".otherwise", "没有 deadline 又写 run：条件成不成立都会立即运行；请给出 deadline，或去掉这个条件",
			"run without a deadline starts at once whether it is true or not; give a deadline, or leave the precondition out")
	}
}

var localTime = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)

func (j *judge) sla() {
	s := j.own.SLA
	j.span("sla.start_within", s.StartWithin, maxTimeout)
	j.span("sla.finish_within", s.FinishWithin, maxTimeout)
	j.span("sla.max_duration", s.MaxDuration, maxTimeout)
	if s.FinishBy != "" && !localTime.MatchString(s.FinishBy) {
		j.refuse("sla.finish_by", "%q 不是当地时间；请写成 06:00", "%q is not a local time; write 06:00", s.FinishBy)
	}
	if s.P95Factor != 0 && (math.IsNaN(s.P95Factor) || s.P95Factor < 1 || s.P95Factor > 1000) {
		j.refuse("sla.p95_factor", "必须在 1 到 1000 之间：小于 1 时正常的运行也会违约", "must be between 1 and 1000: below 1 ordinary runs would breach it")
	}
	if most := j.all.SLA.FinishWithin; s.StartWithin > 0 && most > 0 && s.StartWithin > most {
		j.refuse("sla.start_within", "start_within（%[1]s）比 finish_within（%[2]s）还长；请把前者改短，或把后者改长",
			"start_within (%[1]s) is longer than finish_within (%[2]s); shorten the one or lengthen the other", words(s.StartWithin), words(most))
	}
	if s.MaxDuration > 0 && j.hard > 0 && s.MaxDuration > j.hard {
		j.refuse("sla.max_duration", "永远看不到：运行到硬超时 timeout（%[2]s）就被终止，而这里是 %[1]s；请改短，或把 timeout 设得更长",
			"is never seen: an attempt is killed at the hard timeout (%[2]s), and this is %[1]s; shorten it or give a longer timeout", words(s.MaxDuration), words(j.hard))
	}
}

// effective lays a task's policies over the namespace's defaults, and drops the defaults that a word of the task's own
// leaves without meaning. What it gives it gives again when asked about its answer.
func effective(p core.Policies, stopOnError *bool, defaults core.Policies) core.Policies {
	switch {
	case stopOnError == nil:
	case *stopOnError:
		p.StopAfter = 1
	case p.StopAfter == 0 && !p.Zero("stop_after"):
		p.Zeros = append(slices.Clip(p.Zeros), "stop_after")
	}
	own := p
	p = p.Over(defaults)
	p.Overlap = cmp.Or(p.Overlap, core.OverlapSkip)
	p.CatchUp = cmp.Or(p.CatchUp, core.CatchUpLatest)
	if p.Timeout > 0 && p.SoftTimeout >= p.Timeout {
		p.SoftTimeout = 0
	}
	if p.CatchUp != core.CatchUpAll {
		p.CatchUpWindow, p.CatchUpLimit, p.CatchUpSpread = 0, 0, 0
	}
	if p.Breaker.Failures == 0 {
		p.Breaker = core.BreakerRule{}
	}
	if most := p.SLA.FinishWithin; most > 0 && p.SLA.StartWithin > most && own.SLA.StartWithin == 0 {
		p.SLA.StartWithin = 0
	}
	return p
}
