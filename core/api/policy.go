package api

import (
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Policies say how a task's runs are carried out. What is left out takes the namespace's default, else the one named; what is
// written holds, also a zero, false or an empty list.
type Policies struct {
	Timeout     string `json:"timeout,omitempty" doc:"Hard limit of one attempt, which is killed then, up to 720h; 0s: the type's default, else the server's" example:"30s" minLength:"1" maxLength:"32"`
	SoftTimeout string `json:"soft_timeout,omitempty" doc:"After this an attempt is asked to stop, and has the rest up to timeout to do so; shorter than timeout; 0s: it is asked at timeout" example:"25s" minLength:"1" maxLength:"32"`

	Overlap       string `json:"overlap,omitempty" doc:"While earlier runs of the task are live: skip (default), queue or queue(n) (n may wait; queue is queue(1)), cancel_previous, terminate_previous, allow (side by side) or allow(n) (n at most); n up to 1000" example:"queue(3)" minLength:"1" maxLength:"32"`
	CatchUp       string `json:"catch_up,omitempty" enum:"none,latest,all" doc:"Of the fires missed while no server ran, and of those that came while a breaker was open: none starts, the latest (default), or all within a window"`
	CatchUpWindow string `json:"catch_up_window,omitempty" doc:"catch_up all: how far back; 0s: 24h" example:"24h" minLength:"1" maxLength:"32"`
	CatchUpLimit  *int   `json:"catch_up_limit,omitempty" minimum:"0" maximum:"1000" doc:"catch_up all: how many at most, the newest; 0: 100" example:"100"`
	CatchUpSpread string `json:"catch_up_spread,omitempty" doc:"catch_up all: between two starts, up to 1h; 0s: 1s" example:"1s" minLength:"1" maxLength:"32"`
	MaxRuns       *int   `json:"max_runs,omitempty" minimum:"0" maximum:"1000000000" doc:"How many runs its schedule starts in all; 0: no limit" example:"12"`

	MaxAttempts   *int     `json:"max_attempts,omitempty" minimum:"0" maximum:"100" doc:"How often a run is tried in all; 0 and 1: once" example:"3"`
	RetryDelay    string   `json:"retry_delay,omitempty" doc:"Wait before the second attempt, up to 24h; 0s: 10s" example:"10s" minLength:"1" maxLength:"32"`
	RetryBackoff  string   `json:"retry_backoff,omitempty" enum:"exponential,fixed" doc:"How the wait grows: exponential (default), doubled for each attempt made, or fixed"`
	RetryMaxDelay string   `json:"retry_max_delay,omitempty" doc:"No wait is longer, unless the task asks for it; 0s: 1h" example:"1h" minLength:"1" maxLength:"32"`
	RetryJitter   *float64 `json:"retry_jitter,omitempty" minimum:"0" maximum:"1" doc:"By how much of itself a wait is varied" example:"0.2"`
	RetryOn       []string `json:"retry_on,omitzero" enum:"failed,timed_out,crashed,lost" maxItems:"4" doc:"Verdicts that are retried; []: all of these" example:"[\"failed\",\"timed_out\"]"`
	StopAfter     *int     `json:"stop_after,omitempty" minimum:"0" maximum:"1000" doc:"So many failed runs in a row disable the task; 0: never" example:"5"`
	Intervene     *bool    `json:"intervene,omitempty" doc:"A run whose attempts are used up is put before a person: see interventions"`

	Priority      *int           `json:"priority,omitempty" minimum:"-100" maximum:"100" doc:"Of runs that wait for the same capacity the one with the higher priority is admitted first" example:"10"`
	Pools         []PoolUse      `json:"pools,omitzero" maxItems:"20" doc:"What a run takes of named pools while it executes; not of a workflow, whose steps take theirs"`
	Downstreams   []string       `json:"downstreams,omitzero" maxItems:"20" doc:"What it touches: names of downstreams, each with one breaker for all tasks that name it; not of a workflow" example:"[\"his\"]"`
	Breaker       *BreakerRule   `json:"breaker,omitempty" doc:"A circuit breaker of this task alone; field by field over the namespace's"`
	Preconditions []Precondition `json:"preconditions,omitzero" maxItems:"20" doc:"What must be true before a run starts, all of them"`
	SLA           *SLA           `json:"sla,omitempty" doc:"Service levels, field by field over the namespace's; each is watched, and a run that misses one says so in its breaches"`

	LogLevel string `json:"log_level,omitempty" doc:"Lines below it are not kept: debug, info, warn or error; absent: all are" example:"info" minLength:"1" maxLength:"16"`
	LogFull  string `json:"log_full,omitempty" enum:"wait,drop" doc:"While the log spool takes no more (history is down for long, or the disk is full): the run waits (default), or goes on and its lines are dropped, counted, and their number said in its log"`
}

// PoolUse is what a run takes of a named pool while it executes.
type PoolUse struct {
	Pool  string `json:"pool" doc:"Name of the pool" example:"erp" minLength:"1" maxLength:"128"`
	Slots int    `json:"slots,omitempty" minimum:"0" maximum:"1000000" doc:"How many of its slots; absent: 1" example:"1"`
}

// BreakerRule says when a circuit breaker opens and closes.
type BreakerRule struct {
	Failures *int   `json:"failures,omitempty" minimum:"0" maximum:"1000" doc:"So many failed attempts in a row open it; 0: there is no breaker" example:"5"`
	Cooldown string `json:"cooldown,omitempty" doc:"How long it stays open before one run may try, 1s to 24h" example:"5m" minLength:"1" maxLength:"32"`
	Probes   *int   `json:"probes,omitempty" minimum:"0" maximum:"100" doc:"So many tries in a row must succeed to close it; 0: 1" example:"1"`
}

// Precondition must be true before a run starts. Exactly one of expression, sql and http is given.
type Precondition struct {
	Name       string     `json:"name,omitempty" doc:"For people; absent: the expression, query or URL itself" example:"statistics are there" maxLength:"1024"`
	Expression string     `json:"expression,omitempty" doc:"expr-lang (https://expr-lang.org), true or false, over params, calendars, the last outcomes of other tasks and the host's pressure" example:"host.load1 < 4" maxLength:"8192"`
	SQL        *SQLCheck  `json:"sql,omitempty" doc:"A query whose first value is true"`
	HTTP       *HTTPCheck `json:"http,omitempty" doc:"A GET that is answered as wanted"`
	Every      string     `json:"every,omitempty" doc:"How often it is looked at, 1s to 24h; absent: 30s" example:"30s" maxLength:"32"`
	Deadline   string     `json:"deadline,omitempty" doc:"How long after its instant a run waits for it, up to 720h; absent: it is looked at once" example:"10m" maxLength:"32"`
	Otherwise  string     `json:"otherwise,omitempty" enum:"skip,run,fail" doc:"If it has not come true by then: the fire is skipped (default), it starts all the same, or the run fails"`
}

// SQLCheck is true if the first value of the first row is: true, a number other than 0, or a text but empty, 0, f, false.
type SQLCheck struct {
	Connection string `json:"connection" doc:"As granted to the namespace" example:"business" minLength:"1" maxLength:"128"`
	Query      string `json:"query" doc:"One reading statement" example:"SELECT count(*) FROM inbox WHERE state = 'new'" minLength:"1" maxLength:"65536"`
}

// HTTPCheck is true if a GET is answered as wanted.
type HTTPCheck struct {
	URL      string `json:"url" doc:"Must be allowed to the namespace" example:"https://his.example/ready" minLength:"1" maxLength:"8192"`
	Status   int    `json:"status,omitempty" minimum:"0" maximum:"599" doc:"The status wanted; absent: any of 200 to 299" example:"200"`
	Contains string `json:"contains,omitempty" doc:"What the first 64 KiB of the body must contain" example:"ready" maxLength:"1024"`
}

// SLA are a task's service levels.
type SLA struct {
	StartWithin  string   `json:"start_within,omitempty" doc:"After its instant a run must have started; 0s: not watched" example:"1m" minLength:"1" maxLength:"32"`
	FinishWithin string   `json:"finish_within,omitempty" doc:"After its instant it must have ended; 0s: not watched" example:"15m" minLength:"1" maxLength:"32"`
	FinishBy     *string  `json:"finish_by,omitempty" pattern:"^(([01][0-9]|2[0-3]):[0-5][0-9])?$" patternDescription:"a time of day: 00:00 to 23:59" doc:"By this time in the schedule's zone, the first at or after its instant, it must have ended; empty: none" example:"06:00"`
	MaxDuration  string   `json:"max_duration,omitempty" doc:"An attempt may take this long; 0s: not watched" example:"10m" minLength:"1" maxLength:"32"`
	P95Factor    *float64 `json:"p95_factor,omitempty" minimum:"0" maximum:"1000" doc:"An attempt may take this many times the p95 of the task's last 30 days; at least 1, or 0: not watched" example:"3"`
}

// Upstream names a task whose runs start this one when they end.
type Upstream struct {
	Task   string            `json:"task" doc:"Name of the task, in the same namespace" example:"daily-statistics" minLength:"1" maxLength:"128"`
	On     string            `json:"on,omitempty" enum:"success,failure,always" doc:"After which of its ends; absent: success"`
	Params map[string]string `json:"params,omitempty" doc:"Parameter to JSON path into the output of its run, laid over the task's own parameters" example:"{\"total\":\"$.total\"}"`
}

// readOverlap reads an overlap policy with its number; a mistake is added to the findings under path.
func readOverlap(said, path string, findings *[]core.Finding) (core.Overlap, int) {
	policy, limit, ok := core.ParseOverlap(said)
	if !ok {
		*findings = append(*findings, core.Finding{Path: path, Message: core.Text{
			Zh: "“" + said + "”不是重叠策略；可写 skip、queue、queue(3)、cancel_previous、terminate_previous、allow 或 allow(2)",
			En: `"` + said + `" is no overlap policy; write skip, queue, queue(3), cancel_previous, terminate_previous, allow or allow(2)`,
		}})
	}
	return policy, limit
}

// PoliciesOf gives policies in the words of the API.
func PoliciesOf(p core.Policies) Policies { return policiesOut(p) }

func policiesOut(p core.Policies) Policies {
	span := func(name string, d time.Duration) string {
		if d == 0 && p.Zero(name) {
			return "0s"
		}
		return duration(d)
	}
	out := Policies{
		Timeout: span("timeout", p.Timeout), SoftTimeout: span("soft_timeout", p.SoftTimeout), Overlap: p.Overlap.With(p.OverlapLimit),
		CatchUp: string(p.CatchUp), CatchUpWindow: span("catch_up_window", p.CatchUpWindow), CatchUpLimit: shown(&p, "catch_up_limit", p.CatchUpLimit),
		CatchUpSpread: span("catch_up_spread", p.CatchUpSpread), MaxRuns: shown(&p, "max_runs", p.MaxRuns),
		MaxAttempts: shown(&p, "max_attempts", p.MaxAttempts), RetryDelay: span("retry_delay", p.RetryDelay),
		RetryBackoff: string(p.RetryBackoff), RetryMaxDelay: span("retry_max_delay", p.RetryMaxDelay),
		RetryJitter: shown(&p, "retry_jitter", p.RetryJitter), RetryOn: each(p.RetryOn, func(v core.Verdict) string { return string(v) }),
		StopAfter: shown(&p, "stop_after", p.StopAfter), Intervene: shown(&p, "intervene", p.Intervene), Priority: shown(&p, "priority", p.Priority),
		Pools: each(p.Pools, func(u core.PoolUse) PoolUse { return PoolUse(u) }), Downstreams: p.Downstreams,
		Preconditions: each(p.Preconditions, preconditionOut), LogLevel: p.LogLevel.String(), LogFull: string(p.LogFull),
	}
	breaker := BreakerRule{
		Failures: shown(&p, "breaker.failures", p.Breaker.Failures), Cooldown: span("breaker.cooldown", p.Breaker.Cooldown),
		Probes: shown(&p, "breaker.probes", p.Breaker.Probes),
	}
	if breaker != (BreakerRule{}) {
		out.Breaker = &breaker
	}
	sla := SLA{
		StartWithin: span("sla.start_within", p.SLA.StartWithin), FinishWithin: span("sla.finish_within", p.SLA.FinishWithin),
		FinishBy: shown(&p, "sla.finish_by", p.SLA.FinishBy), MaxDuration: span("sla.max_duration", p.SLA.MaxDuration),
		P95Factor: shown(&p, "sla.p95_factor", p.SLA.P95Factor),
	}
	if sla != (SLA{}) {
		out.SLA = &sla
	}
	return out
}

// shown gives a value for JSON, or nil if it is zero and was not written so.
func shown[T comparable](p *core.Policies, name string, value T) *T {
	var none T
	if value == none && !p.Zero(name) {
		return nil
	}
	return &value
}

// each gives a list made of another; none of none, an empty one of an empty one.
func each[A, B any](list []A, of func(A) B) []B {
	if list == nil {
		return nil
	}
	out := make([]B, len(list))
	for i, one := range list {
		out[i] = of(one)
	}
	return out
}

func preconditionOut(c core.Precondition) Precondition {
	out := Precondition{
		Name: c.Name, Expression: c.Expression, Every: duration(c.Every), Deadline: duration(c.Deadline), Otherwise: string(c.Otherwise),
	}
	if c.SQL != nil {
		out.SQL = &SQLCheck{Connection: c.SQL.Connection, Query: c.SQL.Query}
	}
	if c.HTTP != nil {
		out.HTTP = &HTTPCheck{URL: c.HTTP.URL, Status: c.HTTP.Status, Contains: c.HTTP.Contains}
	}
	return out
}

// policies reads policies; at is where they stand in the request. What cannot be read is a finding.
func (p *Policies) policies(at string, findings *[]core.Finding) core.Policies {
	if p == nil {
		return core.Policies{}
	}
	at += "."
	var zeros []string
	span := func(name, text string) time.Duration {
		d := span(text, at+name, findings)
		if d == 0 && text != "" {
			zeros = append(zeros, name)
		}
		return d
	}
	out := core.Policies{
		Timeout: span("timeout", p.Timeout), SoftTimeout: span("soft_timeout", p.SoftTimeout),
		CatchUp: core.CatchUp(p.CatchUp), CatchUpWindow: span("catch_up_window", p.CatchUpWindow),
		CatchUpLimit: said(&zeros, "catch_up_limit", p.CatchUpLimit), CatchUpSpread: span("catch_up_spread", p.CatchUpSpread),
		MaxRuns: said(&zeros, "max_runs", p.MaxRuns), MaxAttempts: said(&zeros, "max_attempts", p.MaxAttempts),
		RetryDelay: span("retry_delay", p.RetryDelay), RetryBackoff: core.Backoff(p.RetryBackoff),
		RetryMaxDelay: span("retry_max_delay", p.RetryMaxDelay), RetryJitter: said(&zeros, "retry_jitter", p.RetryJitter),
		RetryOn:   each(p.RetryOn, func(v string) core.Verdict { return core.Verdict(v) }),
		StopAfter: said(&zeros, "stop_after", p.StopAfter), Intervene: said(&zeros, "intervene", p.Intervene),
		Priority: said(&zeros, "priority", p.Priority), Pools: each(p.Pools, func(u PoolUse) core.PoolUse { return core.PoolUse(u) }),
		Downstreams: p.Downstreams, LogFull: core.LogFull(p.LogFull),
	}
	out.Overlap, out.OverlapLimit = readOverlap(p.Overlap, at+"overlap", findings)
	if b := p.Breaker; b != nil {
		out.Breaker = core.BreakerRule{
			Failures: said(&zeros, "breaker.failures", b.Failures), Cooldown: span("breaker.cooldown", b.Cooldown),
			Probes: said(&zeros, "breaker.probes", b.Probes),
		}
	}
	if p.Preconditions != nil {
		out.Preconditions = make([]core.Precondition, len(p.Preconditions))
	}
	for i, c := range p.Preconditions {
		out.Preconditions[i] = c.precondition(at+"preconditions["+strconv.Itoa(i)+"].", findings)
	}
	if s := p.SLA; s != nil {
		out.SLA = core.SLA{
			StartWithin: span("sla.start_within", s.StartWithin), FinishWithin: span("sla.finish_within", s.FinishWithin),
			FinishBy: said(&zeros, "sla.finish_by", s.FinishBy), MaxDuration: span("sla.max_duration", s.MaxDuration),
			P95Factor: said(&zeros, "sla.p95_factor", s.P95Factor),
		}
	}
	if p.LogLevel != "" {
		level, ok := core.ParseLevel(p.LogLevel)
		if !ok {
			*findings = append(*findings, core.Finding{Path: at + "log_level", Message: core.Text{
				Zh: "只能是 debug、info、warn、error 之一", En: "must be debug, info, warn or error",
			}})
		}
		out.LogLevel = level
	}
	out.Zeros = zeros
	return out
}

// said gives what was written, and adds a zero that was to zeros.
func said[T comparable](zeros *[]string, name string, value *T) (v T) {
	if value == nil {
		return v
	}
	if *value == v {
		*zeros = append(*zeros, name)
	}
	return *value
}

func (c Precondition) precondition(at string, findings *[]core.Finding) core.Precondition {
	out := core.Precondition{
		Name: c.Name, Expression: c.Expression, Every: span(c.Every, at+"every", findings),
		Deadline: span(c.Deadline, at+"deadline", findings), Otherwise: core.Otherwise(c.Otherwise),
	}
	if c.SQL != nil {
		out.SQL = &core.SQLCheck{Connection: c.SQL.Connection, Query: c.SQL.Query}
	}
	if c.HTTP != nil {
		out.HTTP = &core.HTTPCheck{URL: c.HTTP.URL, Status: c.HTTP.Status, Contains: c.HTTP.Contains}
	}
	return out
}

func upstreamsOut(list []core.Upstream) []Upstream {
	out := make([]Upstream, 0, len(list))
	for _, u := range list {
		out = append(out, Upstream{Task: u.Task, On: string(u.On), Params: u.Params})
	}
	return out
}

func upstreams(list []Upstream) []core.Upstream {
	var out []core.Upstream
	for _, u := range list {
		out = append(out, core.Upstream{Task: u.Task, On: core.When(u.On), Params: u.Params})
	}
	return out
}

// textsOut gives what is said to people; never nil, so that it is a list in JSON.
func textsOut(list []core.Text) []Text {
	out := make([]Text, 0, len(list))
	for _, t := range list {
		out = append(out, text(t))
	}
	return out
}

// trimmed gives the path of a finding without what it begins with.
func trimmed(prefix string) func(string) string {
	return func(path string) string { return strings.TrimPrefix(path, prefix) }
}
