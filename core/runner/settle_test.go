package runner_test

import (
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
)

func TestSettle(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	retry := func(d time.Duration) runner.Settlement { return runner.Settlement{RetryAt: now.Add(d)} }
	end := runner.Settlement{}
	disabled := func(v core.Verdict) runner.Settlement {
		return runner.Settlement{Disable: "stop_on_error: run r1 " + string(v)}
	}
	three := core.Policies{MaxAttempts: 3, RetryDelay: 20 * time.Second}
	many := func(delay time.Duration) core.Policies { return core.Policies{MaxAttempts: 100, RetryDelay: delay} }
	only := core.Policies{MaxAttempts: 3, RetryOn: []core.Verdict{core.Lost}}
	verdict := func(v core.Verdict) core.Outcome { return core.Outcome{Verdict: v} }
	cases := map[string]struct {
		policies core.Policies
		stop     bool // stop_on_error
		attempt  int
		outcome  core.Outcome
		shutdown bool
		want     runner.Settlement
	}{
		"SuccessEnds":               {three, true, 1, verdict(core.Succeeded), false, end},
		"NoRetryByDefault":          {core.Policies{}, false, 1, verdict(core.Failed), false, end},
		"OneAttemptIsNoRetry":       {core.Policies{MaxAttempts: 1}, false, 1, verdict(core.Failed), false, end},
		"FailedIsRetried":           {three, false, 1, verdict(core.Failed), false, retry(20 * time.Second)},
		"TimedOutIsRetried":         {three, false, 1, verdict(core.TimedOut), false, retry(20 * time.Second)},
		"CrashedIsRetried":          {three, false, 1, verdict(core.Crashed), false, retry(20 * time.Second)},
		"LostIsRetried":             {three, false, 1, verdict(core.Lost), false, retry(20 * time.Second)},
		"CancelledIsNot":            {three, true, 1, verdict(core.Cancelled), false, end},
		"SecondRetryWaitsTwice":     {three, false, 2, verdict(core.Failed), false, retry(40 * time.Second)},
		"LastAttemptEnds":           {three, false, 3, verdict(core.Failed), false, end},
		"PermanentEnds":             {three, false, 1, core.Outcome{Verdict: core.Failed, Permanent: true}, false, end},
		"NamedVerdictIsRetried":     {only, false, 1, verdict(core.Lost), false, retry(10 * time.Second)},
		"OtherVerdictIsNot":         {only, false, 1, verdict(core.Failed), false, end},
		"RetryAfterIsTheLeast":      {three, false, 1, core.Outcome{Verdict: core.Failed, RetryAfter: 90 * time.Second}, false, retry(90 * time.Second)},
		"BackOffIsLongerThanWished": {three, false, 2, core.Outcome{Verdict: core.Failed, RetryAfter: time.Second}, false, retry(40 * time.Second)},
		"BackOffDoubles":            {many(10 * time.Second), false, 8, verdict(core.Failed), false, retry(1280 * time.Second)},
		"BackOffIsAnHourAtMost":     {many(10 * time.Second), false, 10, verdict(core.Failed), false, retry(time.Hour)},
		"BackOffNeverOverflows":     {many(time.Hour - 1), false, 99, verdict(core.Failed), false, retry(time.Hour)},
		"LongDelayIsKept":           {many(5 * time.Hour), false, 7, verdict(core.Failed), false, retry(5 * time.Hour)},
		"StopOnErrorDisables":       {core.Policies{}, true, 1, verdict(core.Failed), false, disabled(core.Failed)},
		"StopOnErrorAfterTheLast":   {three, true, 3, verdict(core.Crashed), false, disabled(core.Crashed)},
		"StopOnErrorNotBefore":      {three, true, 2, verdict(core.Crashed), false, retry(40 * time.Second)},
		"StopOnPermanentError":      {three, true, 1, core.Outcome{Verdict: core.Failed, Permanent: true}, false, disabled(core.Failed)},
		"ShutdownIsRetried":         {three, true, 1, verdict(core.Cancelled), true, retry(20 * time.Second)},
		"ShutdownOfTheLastEnds":     {three, true, 3, verdict(core.Cancelled), true, end},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := &core.Task{StopOnError: c.stop, Policies: c.policies}
			if got := runner.Settle(task, core.Run{ID: "r1", Attempt: c.attempt}, c.outcome, c.shutdown, now); got != c.want {
				t.Errorf("settled %+v; want %+v", got, c.want)
			}
		})
	}
}

func TestOnlyRunsThatNeedAStartHaveCertainlyNotStarted(t *testing.T) {
	t.Parallel()
	for state, may := range map[core.RunState]bool{core.RunClaimed: true, core.RunRunning: true, core.RunQueued: false, core.RunRetrying: false} {
		if runner.MayHaveStarted(state) != may {
			t.Errorf("a %s run may have started: %t", state, !may)
		}
	}
}
