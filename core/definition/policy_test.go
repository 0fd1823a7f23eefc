package definition_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

type policies = func(*core.Policies)

// TestARefusedPolicySaysWhichFieldAndWhatToDo goes through every finding about policies there is.
func TestARefusedPolicySaysWhichFieldAndWhatToDo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pool(t, core.Pool{Name: "erp", Slots: 2})
	w.downstream(t, "his")
	all := func(change policies) policies {
		return func(p *core.Policies) { p.CatchUp = core.CatchUpAll; change(p) }
	}
	twice := func(change policies) policies { return func(p *core.Policies) { p.MaxAttempts = 2; change(p) } }
	condition := func(c core.Precondition) policies {
		return func(p *core.Policies) {
			p.Preconditions = []core.Precondition{{Expression: "true"}, c}
		}
	}
	sla := func(s core.SLA) policies { return func(p *core.Policies) { p.SLA = s } }
	breaker := func(b core.BreakerRule) policies { return func(p *core.Policies) { p.Breaker = b } }
	pools := func(uses ...core.PoolUse) policies { return func(p *core.Policies) { p.Pools = uses } }
	cases := map[string]struct {
		change policies
		path   string
		says   string
	}{
		"NegativeTimeout":       {func(p *core.Policies) { p.Timeout = -1 }, "timeout", "720h"},
		"LongTimeout":           {func(p *core.Policies) { p.Timeout = 721 * time.Hour }, "timeout", "720h"},
		"NegativeSoftTimeout":   {func(p *core.Policies) { p.SoftTimeout = -1 }, "soft_timeout", "between"},
		"SoftNotBelowHard":      {func(p *core.Policies) { p.Timeout, p.SoftTimeout = time.Minute, time.Minute }, "soft_timeout", "not shorter than the hard timeout (1m)"},
		"SoftNotBelowTypes":     {func(p *core.Policies) { p.SoftTimeout = 20 * time.Minute }, "soft_timeout", "(15m)"},
		"OverlapUnknown":        {func(p *core.Policies) { p.Overlap = "never" }, "overlap", "queue, cancel_previous"},
		"OverlapLimitRange":     {func(p *core.Policies) { p.Overlap, p.OverlapLimit = core.OverlapQueue, 1001 }, "overlap", "between 1 and 1000"},
		"OverlapLimitAlone":     {func(p *core.Policies) { p.OverlapLimit = 3 }, "overlap", "queue(3) or allow(3)"},
		"OverlapTakesNoLimit":   {func(p *core.Policies) { p.Overlap, p.OverlapLimit = core.OverlapCancel, 3 }, "overlap", "cancel_previous takes no number"},
		"CatchUpUnknown":        {func(p *core.Policies) { p.CatchUp = "some" }, "catch_up", "none, latest, all"},
		"WindowRange":           {all(func(p *core.Policies) { p.CatchUpWindow = -1 }), "catch_up_window", "between"},
		"LimitRange":            {all(func(p *core.Policies) { p.CatchUpLimit = 1001 }), "catch_up_limit", "1000"},
		"SpreadRange":           {all(func(p *core.Policies) { p.CatchUpSpread = 2 * time.Hour }), "catch_up_spread", "1h"},
		"WindowWithoutAll":      {func(p *core.Policies) { p.CatchUpWindow = time.Hour }, "catch_up_window", "catch_up: latest"},
		"LimitWithoutAll":       {func(p *core.Policies) { p.CatchUp, p.CatchUpLimit = core.CatchUpNone, 1 }, "catch_up_limit", "catch_up: none"},
		"SpreadWithoutAll":      {func(p *core.Policies) { p.CatchUpSpread = time.Second }, "catch_up_spread", "write catch_up: all"},
		"NegativeMaxRuns":       {func(p *core.Policies) { p.MaxRuns = -1 }, "max_runs", "negative"},
		"MaxAttemptsRange":      {func(p *core.Policies) { p.MaxAttempts = 101 }, "max_attempts", "100"},
		"RetryDelayRange":       {twice(func(p *core.Policies) { p.RetryDelay = 25 * time.Hour }), "retry_delay", "24h"},
		"BackoffUnknown":        {twice(func(p *core.Policies) { p.RetryBackoff = "linear" }), "retry_backoff", "exponential, fixed"},
		"RetryMaxDelayRange":    {twice(func(p *core.Policies) { p.RetryMaxDelay = -1 }), "retry_max_delay", "24h"},
		"JitterRange":           {twice(func(p *core.Policies) { p.RetryJitter = 1.5 }), "retry_jitter", "between 0 and 1"},
		"JitterNaN":             {twice(func(p *core.Policies) { p.RetryJitter = math.NaN() }), "retry_jitter", "between 0 and 1"},
		"RetryOnSuccess":        {twice(func(p *core.Policies) { p.RetryOn = []core.Verdict{core.Lost, core.Succeeded} }), "retry_on[1]", "one of"},
		"DelayWithoutRetry":     {func(p *core.Policies) { p.RetryDelay = time.Second }, "retry_delay", "set max_attempts"},
		"BackoffWithoutRetry":   {func(p *core.Policies) { p.RetryBackoff = core.BackoffFixed }, "retry_backoff", "no effect"},
		"MaxDelayWithoutRetry":  {func(p *core.Policies) { p.RetryMaxDelay = time.Second }, "retry_max_delay", "no effect"},
		"JitterWithoutRetry":    {func(p *core.Policies) { p.MaxAttempts, p.RetryJitter = 1, 0.5 }, "retry_jitter", "no effect"},
		"RetryOnWithoutRetry":   {func(p *core.Policies) { p.RetryOn = []core.Verdict{core.Lost} }, "retry_on", "no effect"},
		"DelayAboveItsMost":     {twice(func(p *core.Policies) { p.RetryDelay, p.RetryMaxDelay = time.Minute, time.Second }), "retry_max_delay", "at least 1m"},
		"DelayAboveAnHour":      {twice(func(p *core.Policies) { p.RetryDelay = 2 * time.Hour }), "retry_delay", "set retry_max_delay to at least 2h"},
		"StopAfterRange":        {func(p *core.Policies) { p.StopAfter = -1 }, "stop_after", "1000"},
		"PriorityRange":         {func(p *core.Policies) { p.Priority = 101 }, "priority", "-100 and 100"},
		"LogFullUnknown":        {func(p *core.Policies) { p.LogFull = "burn" }, "log_full", "wait, drop"},
		"LogLevelUnknown":       {func(p *core.Policies) { p.LogLevel = 9 }, "log_level", "debug"},
		"PoolUnknown":           {pools(core.PoolUse{Pool: "rep"}), "pools[0].pool", "there is no pool rep"},
		"PoolNearly":            {pools(core.PoolUse{Pool: "erq"}), "pools[0].pool", "did you mean erp?"},
		"PoolNameless":          {pools(core.PoolUse{}), "pools[0].pool", "missing"},
		"PoolTwice":             {pools(core.PoolUse{Pool: "erp"}, core.PoolUse{Pool: "erp"}), "pools[1].pool", "stands in pools[0]"},
		"PoolTooSmall":          {pools(core.PoolUse{Pool: "erp", Slots: 3}), "pools[0].slots", "could never start"},
		"PoolNegative":          {pools(core.PoolUse{Pool: "erp", Slots: -1}), "pools[0].slots", "negative"},
		"PoolsTooMany":          {pools(make([]core.PoolUse, 21)...), "pools", "at most 20"},
		"DownstreamUnknown":     {func(p *core.Policies) { p.Downstreams = []string{"his", "lis-archive"} }, "downstreams[1]", "downstreams: his"},
		"DownstreamTwice":       {func(p *core.Policies) { p.Downstreams = []string{"his", "his"} }, "downstreams[1]", "already"},
		"DownstreamsTooMany":    {func(p *core.Policies) { p.Downstreams = make([]string, 21) }, "downstreams", "at most 20"},
		"BreakerFailuresRange":  {breaker(core.BreakerRule{Failures: 1001, Cooldown: time.Minute}), "breaker.failures", "1000"},
		"BreakerProbesRange":    {breaker(core.BreakerRule{Failures: 1, Cooldown: time.Minute, Probes: 101}), "breaker.probes", "100"},
		"BreakerCooldownRange":  {breaker(core.BreakerRule{Failures: 1, Cooldown: time.Millisecond}), "breaker.cooldown", "between 1s and 24h"},
		"BreakerNoFailures":     {breaker(core.BreakerRule{Cooldown: time.Minute}), "breaker.failures", "never opens"},
		"BreakerNoCooldown":     {breaker(core.BreakerRule{Failures: 3}), "breaker.cooldown", "no cooldown"},
		"ConditionOfNothing":    {condition(core.Precondition{}), "preconditions[1]", "one of expression, sql and http"},
		"ConditionOfTwo":        {condition(core.Precondition{Expression: "true", HTTP: &core.HTTPCheck{URL: "http://a/"}}), "preconditions[1]", "more than one"},
		"ConditionNotCompiled":  {condition(core.Precondition{Expression: "1 +"}), "preconditions[1].expression", "unexpected token"},
		"ConditionLongName":     {condition(core.Precondition{Expression: "true", Name: strings.Repeat("x", 1025)}), "preconditions[1].name", "1 KiB"},
		"ConditionEveryRange":   {condition(core.Precondition{Expression: "true", Every: 25 * time.Hour, Deadline: 48 * time.Hour}), "preconditions[1].every", "24h"},
		"ConditionDeadline":     {condition(core.Precondition{Expression: "true", Deadline: -1}), "preconditions[1].deadline", "between"},
		"ConditionOtherwise":    {condition(core.Precondition{Expression: "true", Otherwise: "wait"}), "preconditions[1].otherwise", "skip, run, fail"},
		"ConditionEveryAlone":   {condition(core.Precondition{Expression: "true", Every: time.Minute}), "preconditions[1].every", "give a deadline"},
		"ConditionEveryTooSlow": {condition(core.Precondition{Expression: "true", Every: time.Hour, Deadline: time.Minute}), "preconditions[1].every", "looked at once"},
		"ConditionPointless":    {condition(core.Precondition{Expression: "true", Otherwise: core.OtherwiseRun}), "preconditions[1].otherwise", "starts at once whether"},
		"ConditionsTooMany":     {func(p *core.Policies) { p.Preconditions = make([]core.Precondition, 21) }, "preconditions", "at most 20"},
		"SLAStartRange":         {sla(core.SLA{StartWithin: -1}), "sla.start_within", "between"},
		"SLAFinishRange":        {sla(core.SLA{FinishWithin: 800 * time.Hour}), "sla.finish_within", "720h"},
		"SLADurationRange":      {sla(core.SLA{MaxDuration: -1}), "sla.max_duration", "between"},
		"SLAFinishByNoTime":     {sla(core.SLA{FinishBy: "24:00"}), "sla.finish_by", "06:00"},
		"SLAFactorBelowOne":     {sla(core.SLA{P95Factor: 0.5}), "sla.p95_factor", "below 1"},
		"SLAStartAfterFinish":   {sla(core.SLA{StartWithin: time.Hour, FinishWithin: time.Minute}), "sla.start_within", "longer than finish_within (1m)"},
		"SLANeverSeen":          {sla(core.SLA{MaxDuration: time.Hour}), "sla.max_duration", "killed at the hard timeout (15m)"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := sound()
			task.Name = name
			c.change(&task.Policies)
			_, err := w.Create(t.Context(), task, "ann")
			wantFinding(t, err, "policies."+c.path, c.says)
		})
	}
	t.Run("StopTwice", func(t *testing.T) {
		t.Parallel()
		task := sound()
		task.StopOnError, task.Policies.StopAfter = new(true), 3
		_, err := w.Create(t.Context(), task, "ann")
		wantFinding(t, err, "policies.stop_after", "stop_on_error")
	})
	t.Cleanup(func() {
		if tasks, err := w.Tasks(context.WithoutCancel(t.Context()), core.TaskFilter{}); err != nil || len(tasks) != 0 {
			t.Errorf("%d refused tasks were stored (%v)", len(tasks), err)
		}
	})
}

// full says something in every field.
func full() core.Policies {
	return core.Policies{
		Timeout: time.Hour, SoftTimeout: 50 * time.Minute, Overlap: core.OverlapQueue, OverlapLimit: 3, CatchUp: core.CatchUpAll,
		CatchUpWindow: 400 * 24 * time.Hour, CatchUpLimit: 1000, CatchUpSpread: 2 * time.Second, MaxRuns: 9, MaxAttempts: 3, RetryDelay: 2 * time.Hour,
		RetryBackoff: core.BackoffFixed, RetryMaxDelay: 3 * time.Hour, RetryJitter: 0.25, RetryOn: []core.Verdict{core.Lost}, StopAfter: 4, Intervene: true,
		Priority: -100, Pools: []core.PoolUse{{Pool: "erp", Slots: 2}}, Downstreams: []string{"his"},
		Breaker:       core.BreakerRule{Failures: 3, Cooldown: time.Minute, Probes: 2},
		Preconditions: []core.Precondition{{Name: "quiet", Expression: "true", Every: time.Second, Deadline: time.Minute, Otherwise: core.OtherwiseRun}},
		SLA:           core.SLA{StartWithin: time.Minute, FinishWithin: time.Hour, FinishBy: "06:00", MaxDuration: time.Hour, P95Factor: 1.5}, LogLevel: core.LevelWarn, LogFull: core.LogFullDrop,
	}
}

func TestWhatATaskSaysIsKeptAsItWasSaid(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pool(t, core.Pool{Name: "erp", Slots: 2})
	w.downstream(t, "his")
	for name, p := range map[string]core.Policies{"nothing": {}, "everything": full()} {
		stored := w.create(t, func(task *core.Task) { task.Name, task.Policies = name, p })
		if again, err := w.Task(t.Context(), stored.ID); err != nil || !same(again.Policies, p) {
			t.Errorf("%s: stored %+v; want %+v (%v)", name, again.Policies, p, err)
		}
	}
}

func TestPoliciesAreLaidOverTheNamespacesDefaults(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pool(t, core.Pool{Name: "erp", Slots: 2})
	w.downstream(t, "his")
	effective := func(change func(*core.Task)) core.Policies {
		task := sound()
		change(&task)
		got := w.Effective(task)
		if again := w.Effective(got); !same(again.Policies, got.Policies) {
			t.Errorf("twice effective is %+v; once %+v", again.Policies, got.Policies)
		}
		return got.Policies
	}
	if p := effective(func(*core.Task) {}); !same(p, core.Policies{Overlap: core.OverlapSkip, CatchUp: core.CatchUpLatest}) {
		t.Errorf("without defaults: %+v", p)
	}
	w.namespace(t, core.Namespace{Name: "Telemedicine", Defaults: full()})
	if p := effective(func(*core.Task) {}); !same(p, full()) {
		t.Errorf("with defaults: %+v", p)
	}
	p := effective(func(task *core.Task) {
		task.StopOnError = new(true)
		task.Policies = core.Policies{Timeout: time.Minute, Overlap: core.OverlapAllow, CatchUp: core.CatchUpNone, MaxAttempts: 1, Pools: []core.PoolUse{{Pool: "erp", Slots: 1}}}
	})
	want := full()
	want.Timeout, want.SoftTimeout = time.Minute, 0 // the default soft timeout would come after it
	want.Overlap, want.OverlapLimit = core.OverlapAllow, 0
	want.CatchUp, want.CatchUpWindow, want.CatchUpLimit, want.CatchUpSpread = core.CatchUpNone, 0, 0, 0
	want.MaxAttempts, want.StopAfter, want.Pools = 1, 1, []core.PoolUse{{Pool: "erp", Slots: 1}}
	if !same(p, want) {
		t.Errorf("own words over defaults: %+v; want %+v", p, want)
	}
	if p := w.Effective(core.Task{Namespace: "Imaging"}).Policies; p.MaxAttempts != 0 {
		t.Errorf("another namespace has %+v", p)
	}
}

// TestABlockIsLaidFieldByField: what fights is refused where it is the task's own word, and dropped where it is a default.
func TestABlockIsLaidFieldByField(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.namespace(t, core.Namespace{Name: "Telemedicine", Defaults: core.Policies{
		Timeout: 20 * time.Minute, SoftTimeout: 10 * time.Minute, Breaker: core.BreakerRule{Failures: 5, Cooldown: time.Minute, Probes: 2},
		SLA: core.SLA{StartWithin: 10 * time.Minute, FinishWithin: 15 * time.Minute, FinishBy: "06:00"},
	}})
	for name, c := range map[string]struct {
		own     core.Policies
		breaker core.BreakerRule
		sla     core.SLA
	}{
		"Nothing":           {core.Policies{}, core.BreakerRule{Failures: 5, Cooldown: time.Minute, Probes: 2}, core.SLA{StartWithin: 10 * time.Minute, FinishWithin: 15 * time.Minute, FinishBy: "06:00"}},
		"SomeOfEach":        {core.Policies{Breaker: core.BreakerRule{Cooldown: time.Hour}, SLA: core.SLA{StartWithin: time.Minute}}, core.BreakerRule{Failures: 5, Cooldown: time.Hour, Probes: 2}, core.SLA{StartWithin: time.Minute, FinishWithin: 15 * time.Minute, FinishBy: "06:00"}},
		"NoBreaker":         {core.Policies{Zeros: []string{"breaker.failures"}}, core.BreakerRule{}, core.SLA{StartWithin: 10 * time.Minute, FinishWithin: 15 * time.Minute, FinishBy: "06:00"}},
		"NoFinish":          {core.Policies{Zeros: []string{"breaker.probes", "sla.finish_within", "sla.finish_by"}}, core.BreakerRule{Failures: 5, Cooldown: time.Minute}, core.SLA{StartWithin: 10 * time.Minute}},
		"FinishBeforeStart": {core.Policies{SLA: core.SLA{FinishWithin: 5 * time.Minute}}, core.BreakerRule{Failures: 5, Cooldown: time.Minute, Probes: 2}, core.SLA{FinishWithin: 5 * time.Minute, FinishBy: "06:00"}},
	} {
		stored := w.create(t, func(task *core.Task) { task.Name, task.Policies = name, c.own })
		got := w.Effective(stored)
		if !same(got.Policies.Breaker, c.breaker) || !same(got.Policies.SLA, c.sla) || !same(got.Policies.Zeros, c.own.Zeros) {
			t.Errorf("%s: %+v", name, got.Policies)
		}
		if again := w.Effective(got); !same(again.Policies, got.Policies) {
			t.Errorf("%s: twice effective is %+v", name, again.Policies)
		}
		if said := w.Warnings(t.Context(), stored); len(said) != 0 {
			t.Errorf("%s: warnings %+v", name, said)
		}
	}
	for name, c := range map[string]struct {
		own  core.Policies
		path string
		says string
	}{
		"StartAfterFinish":  {core.Policies{SLA: core.SLA{StartWithin: time.Hour}}, "policies.sla.start_within", "longer than finish_within (15m)"},
		"ProbesOfNoBreaker": {core.Policies{Zeros: []string{"breaker.failures"}, Breaker: core.BreakerRule{Probes: 1}}, "policies.breaker.failures", "never opens"},
		"NoCooldown":        {core.Policies{Zeros: []string{"breaker.cooldown"}}, "policies.breaker.cooldown", "no cooldown"},
		"SoftBesideTypes":   {core.Policies{Zeros: []string{"timeout"}, SoftTimeout: 16 * time.Minute}, "policies.soft_timeout", "hard timeout (15m)"},
	} {
		task := sound()
		task.Name, task.Policies = name, c.own
		_, err := w.Create(t.Context(), task, "ann")
		wantFinding(t, err, c.path, c.says)
	}
}

// TestADefaultCompletesATask: what a task says about retries has an effect once the namespace says that there are any.
func TestADefaultCompletesATask(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := sound()
	task.Policies.RetryDelay, task.Policies.CatchUpLimit = time.Minute, 5
	_, err := w.Create(t.Context(), task, "ann")
	wantFinding(t, err, "policies.retry_delay", "no effect")
	w.namespace(t, core.Namespace{Name: "Telemedicine", Defaults: core.Policies{MaxAttempts: 3, CatchUp: core.CatchUpAll, SoftTimeout: time.Minute}})
	stored := w.create(t, func(task *core.Task) {
		task.Policies.RetryDelay, task.Policies.CatchUpLimit, task.Policies.Timeout = time.Minute, 5, 30*time.Second
	})
	if said := w.Warnings(t.Context(), stored); len(said) != 0 {
		t.Errorf("warnings %+v", said)
	}
	w.namespace(t, core.Namespace{Name: "Telemedicine"})
	said := w.Warnings(t.Context(), stored)
	if len(said) != 2 || !strings.Contains(said[0].En, "policies.catch_up_limit") || !strings.Contains(said[1].En, "policies.retry_delay") {
		t.Errorf("the defaults are gone, and the warnings are %+v", said)
	}
}

func TestANamespacesDefaultsAndLimitsAreJudged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cases := map[string]struct {
		ns   core.Namespace
		path string
		says string
	}{
		"BadDefault":      {core.Namespace{Defaults: core.Policies{Overlap: "never"}}, "defaults.overlap", "not a choice"},
		"Contradiction":   {core.Namespace{Defaults: core.Policies{Timeout: time.Minute, SoftTimeout: time.Hour}}, "defaults.soft_timeout", "shorter"},
		"NoRetries":       {core.Namespace{Defaults: core.Policies{MaxAttempts: 1, RetryDelay: time.Minute}}, "defaults.retry_delay", "no effect"},
		"NotAll":          {core.Namespace{Defaults: core.Policies{CatchUp: core.CatchUpNone, CatchUpLimit: 3}}, "defaults.catch_up_limit", "fights"},
		"UnknownPool":     {core.Namespace{Defaults: core.Policies{Pools: []core.PoolUse{{Pool: "erp"}}}}, "defaults.pools[0].pool", "create it first"},
		"BadPrecondition": {core.Namespace{Defaults: core.Policies{Preconditions: []core.Precondition{{Expression: "1 +"}}}}, "defaults.preconditions[0].expression", "unexpected token"},
		"NegativeRunning": {core.Namespace{MaxRunning: -1}, "max_running", "no limit"},
		"NoType":          {core.Namespace{TypeLimits: map[string]int{"KeepAlive": 1}}, "type_limits.KeepAlive", "Common.KeepAlive"},
		"ZeroOfAType":     {core.Namespace{TypeLimits: map[string]int{"Common.KeepAlive": 0}}, "type_limits.Common.KeepAlive", "between 1"},
		"NegativeDays":    {core.Namespace{Retention: core.Retention{RunsDays: -2}}, "retention.runs", "forever"},
		"TooManyDays":     {core.Namespace{Retention: core.Retention{SamplesDays: 40_000}}, "retention.samples", "36500d"},
		"FineTooShort":    {core.Namespace{Retention: core.Retention{FineDays: 7}}, "retention.fine", "at least 8d"},
		"LinesWithoutRun": {core.Namespace{Retention: core.Retention{RunsDays: 30, LinesDays: 60}}, "retention.lines", "longer than retention.runs"},
		"OfWorkflows":     {core.Namespace{TypeLimits: map[string]int{"Common.Workflow": 1}}, "type_limits.Common.Workflow", "a step that is a workflow too would wait for it"},
		"MoreOfAType":     {core.Namespace{MaxRunning: 2, TypeLimits: map[string]int{"Common.KeepAlive": 3}}, "type_limits.Common.KeepAlive", "no effect"},
		"LongDescription": {core.Namespace{Description: strings.Repeat("x", 17<<10)}, "description", "16 KiB"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.ns.Name = "Telemedicine"
			_, err := w.PutNamespace(t.Context(), c.ns)
			wantFinding(t, err, c.path, c.says)
		})
	}
	// What tasks may complete is no contradiction of a namespace.
	w.namespace(t, core.Namespace{Name: "Pacs", Defaults: core.Policies{RetryDelay: 2 * time.Hour, CatchUpWindow: time.Hour, SoftTimeout: 10 * time.Hour, SLA: core.SLA{MaxDuration: 9 * time.Hour}}})
}

// TestAWorkflowHoldsNoPlacesItself: its steps would wait for it. What was stored before that was refused can be read, holds
// nothing, says so, and is refused when it is saved again.
func TestAWorkflowHoldsNoPlacesItself(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pool(t, core.Pool{Name: "erp", Slots: 1})
	w.downstream(t, "his")
	held := core.Policies{Pools: []core.PoolUse{{Pool: "erp"}}, Downstreams: []string{"his"}, Breaker: core.BreakerRule{Failures: 2, Cooldown: time.Minute}}
	step := w.create(t, func(task *core.Task) { task.Name, task.Policies = "step", held })
	refused := func(task core.Task, err error) {
		t.Helper()
		if e, ok := errors.AsType[*core.Error](err); !ok || len(e.Findings) != 2 {
			t.Errorf("task %s: %v", task.Name, err)
		}
		wantFinding(t, err, "policies.pools", "give them to its steps' tasks")
		wantFinding(t, err, "policies.downstreams", "give them to its steps' tasks")
	}
	task := sound()
	flow("flow", "step")(&task)
	task.Policies = held
	_, err := w.Create(t.Context(), task, "ann")
	refused(task, err)

	// One of an earlier release.
	task.ID, task.Version = "00000000-0000-7000-8000-000000000001", 1
	if _, err := w.store.CreateTask(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	stored, err := w.TaskByName(t.Context(), "Telemedicine", "flow")
	if err != nil || stored.Problem != "" || !same(stored.Policies, held) {
		t.Fatalf("it is read as %+v (%v)", stored, err)
	}
	runs := w.Effective(stored)
	limits, breakers := w.Gates(&runs)
	if len(runs.Policies.Pools)+len(runs.Policies.Downstreams)+len(limits) > 0 || !same(breakers, []core.BreakerRule{{Name: "task:" + stored.ID, Failures: 2, Cooldown: time.Minute}}) {
		t.Errorf("it runs with %+v: %v, %v", runs.Policies, limits, breakers)
	}
	if again := w.Effective(runs); !same(again.Policies, runs.Policies) {
		t.Errorf("twice effective is %+v", again.Policies)
	}
	if said := w.Warnings(t.Context(), stored); len(said) != 2 || !strings.HasPrefix(said[0].En, "policies.pools: ") || !strings.HasPrefix(said[1].Zh, "policies.downstreams：") {
		t.Errorf("warnings %+v", said)
	}
	_, err = w.Replace(t.Context(), stored, "ann")
	refused(stored, err)

	// The defaults of its namespace are for its steps; an empty list may be said.
	w.namespace(t, core.Namespace{Name: "Telemedicine", Defaults: held})
	sober := w.create(t, func(task *core.Task) {
		flow("sober", "step")(task)
		task.Policies = core.Policies{Pools: []core.PoolUse{}, Downstreams: []string{}}
	})
	plain := w.create(t, flow("plain", "sober"))
	for _, task := range []core.Task{sober, plain} {
		runs := w.Effective(task)
		if limits, breakers := w.Gates(&runs); len(limits) > 0 || len(breakers) != 1 {
			t.Errorf("task %s has %v, %v", task.Name, limits, breakers)
		}
	}

	// A limit of the type of workflows, of an earlier release.
	limited := core.Namespace{Name: "Telemedicine", TypeLimits: map[string]int{"Common.Workflow": 1}}
	if err := w.store.PutNamespace(t.Context(), limited); err != nil {
		t.Fatal(err)
	}
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	runs = w.Effective(plain)
	if limits, _ := w.Gates(&runs); len(limits) > 0 || w.Gated(&runs) {
		t.Errorf("a step that is a workflow has %v, and may wait for its own", limits)
	}
	if said := w.NamespaceWarnings(limited); len(said) != 1 || !strings.HasPrefix(said[0].En, "type_limits.Common.Workflow: has no effect: ") {
		t.Errorf("warnings %+v", said)
	}

	// A task that becomes a workflow leaves its places behind.
	w.create(t, func(task *core.Task) { task.Name = "other" })
	flow("step", "other")(&step)
	_, err = w.Replace(t.Context(), step, "ann")
	refused(step, err)
}

// It counts allocations, so nothing else may run meanwhile.
func TestGatesAreTheLimitsAndBreakersOfATask(t *testing.T) { //nolint:paralleltest // see above
	w := setup(t)
	w.pool(t, core.Pool{Name: "erp", Slots: 4, MaxWaiting: 7})
	w.downstream(t, "his")
	plain := sound()
	plain.ID = "1"
	plain = w.Effective(plain)
	if limits, breakers := w.Gates(&plain); limits != nil || breakers != nil || w.Gated(&plain) {
		t.Errorf("a plain task has %v, %v", limits, breakers)
	}
	if n := testing.AllocsPerRun(100, func() { w.Gates(&plain); w.Gated(&plain); w.Dependents("Telemedicine", "ping", core.Succeeded) }); n != 0 {
		t.Errorf("a task without gates costs %v allocations", n)
	}
	for name, change := range map[string]func(*core.Task){
		"Jitter":       func(t *core.Task) { t.Schedule.Jitter = time.Second },
		"Queue":        func(t *core.Task) { t.Policies.Overlap = core.OverlapQueue },
		"Cancel":       func(t *core.Task) { t.Policies.Overlap = core.OverlapCancel },
		"Allow(2)":     func(t *core.Task) { t.Policies.Overlap, t.Policies.OverlapLimit = core.OverlapAllow, 2 },
		"Precondition": func(t *core.Task) { t.Policies.Preconditions = []core.Precondition{{Expression: "true"}} },
		"Breaker":      func(t *core.Task) { t.Policies.Breaker = core.BreakerRule{Failures: 1, Cooldown: time.Second} },
		"Pool":         func(t *core.Task) { t.Policies.Pools = []core.PoolUse{{Pool: "erp"}} },
		"Downstream":   func(t *core.Task) { t.Policies.Downstreams = []string{"his"} },
	} {
		task := plain
		change(&task)
		if !w.Gated(&task) {
			t.Errorf("%s: the task is not gated", name)
		}
	}
	free := plain
	free.Policies.Overlap = core.OverlapAllow
	if w.Gated(&free) {
		t.Error("unlimited overlap is gated")
	}
	w.namespace(t, core.Namespace{Name: "Telemedicine", MaxRunning: 5, TypeLimits: map[string]int{"Common.KeepAlive": 2}})
	task := plain
	task.Policies.Pools = []core.PoolUse{{Pool: "erp", Slots: 3}}
	task.Policies.Downstreams = []string{"his"}
	task.Policies.Breaker = core.BreakerRule{Failures: 2, Cooldown: time.Minute}
	limits, breakers := w.Gates(&task)
	wantLimits := []core.Limit{
		{Key: "namespace:Telemedicine", Slots: 5, Need: 1, MaxWaiting: 1000}, {Key: "type:Telemedicine/Common.KeepAlive", Slots: 2, Need: 1, MaxWaiting: 1000},
		{Key: "pool:erp", Slots: 4, Need: 3, MaxWaiting: 7},
	}
	wantBreakers := []core.BreakerRule{{Name: "task:1", Failures: 2, Cooldown: time.Minute}, {Name: "downstream:his", Failures: 3, Cooldown: time.Minute}}
	if !same(limits, wantLimits) || !same(breakers, wantBreakers) || !w.Gated(&plain) {
		t.Errorf("gates %+v, %+v", limits, breakers)
	}
	other := plain
	other.Type = "Common.Other"
	if limits, _ := w.Gates(&other); len(limits) != 1 {
		t.Errorf("another type has %+v", limits)
	}
}

// TestChangedIsSaidOnceForEachChange: and not for a change that says the same.
func TestChangedIsSaidOnceForEachChange(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.changed.Store(0)
	w.pool(t, core.Pool{Name: "erp", Slots: 4})
	w.pool(t, core.Pool{Name: "erp", Slots: 4})
	w.namespace(t, core.Namespace{Name: "Telemedicine", MaxRunning: 3})
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.create(t, func(task *core.Task) { task.Policies.Pools = []core.PoolUse{{Pool: "erp"}} })
	if n := w.changed.Load(); n != 2 {
		t.Errorf("it was said %d times that something changed", n)
	}
}

// TestTheChangeOfAnotherServerIsSeen: by refreshing, and where a task names what is not known yet.
func TestTheChangeOfAnotherServerIsSeen(t *testing.T) {
	t.Parallel()
	w := setup(t)
	other := w.another(t)
	if _, err := other.PutPool(t.Context(), core.Pool{Name: "erp", Slots: 4}, 0, "ann"); err != nil {
		t.Fatal(err)
	}
	pooled := w.Effective(sound())
	if pooled.Policies.Pools = []core.PoolUse{{Pool: "erp"}}; w.Knows(&pooled) || !w.Gated(&pooled) {
		t.Error("a pool of another server is known before it has been read, or its task passes ungated")
	}
	w.create(t, func(task *core.Task) { task.Policies.Pools = []core.PoolUse{{Pool: "erp"}} })
	if _, err := other.PutNamespace(t.Context(), core.Namespace{Name: "Telemedicine", MaxRunning: 3}); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	task := sound()
	if limits, _ := w.Gates(&task); len(limits) != 1 || limits[0].Slots != 3 || !w.Knows(&pooled) {
		t.Errorf("limits %+v", limits)
	}
}
