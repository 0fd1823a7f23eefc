package runner_test

import (
	"fmt"
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
	person := runner.Settlement{Intervene: true}
	three := core.Policies{MaxAttempts: 3, RetryDelay: 20 * time.Second}
	many := func(delay time.Duration) core.Policies { return core.Policies{MaxAttempts: 100, RetryDelay: delay} }
	only := core.Policies{MaxAttempts: 3, RetryOn: []core.Verdict{core.Lost}}
	fixed := core.Policies{MaxAttempts: 9, RetryDelay: 7 * time.Second, RetryBackoff: core.BackoffFixed}
	capped := core.Policies{MaxAttempts: 9, RetryDelay: 10 * time.Second, RetryMaxDelay: 25 * time.Second}
	asks := core.Policies{MaxAttempts: 2, RetryDelay: 20 * time.Second, Intervene: true}
	verdict := func(v core.Verdict) core.Outcome { return core.Outcome{Verdict: v} }
	cases := map[string]struct {
		policies core.Policies
		attempt  int
		outcome  core.Outcome
		shutdown bool
		want     runner.Settlement
	}{
		"SuccessEnds":               {three, 1, verdict(core.Succeeded), false, end},
		"NoRetryByDefault":          {core.Policies{}, 1, verdict(core.Failed), false, end},
		"OneAttemptIsNoRetry":       {core.Policies{MaxAttempts: 1}, 1, verdict(core.Failed), false, end},
		"FailedIsRetried":           {three, 1, verdict(core.Failed), false, retry(20 * time.Second)},
		"TimedOutIsRetried":         {three, 1, verdict(core.TimedOut), false, retry(20 * time.Second)},
		"CrashedIsRetried":          {three, 1, verdict(core.Crashed), false, retry(20 * time.Second)},
		"LostIsRetried":             {three, 1, verdict(core.Lost), false, retry(20 * time.Second)},
		"CancelledIsNot":            {three, 1, verdict(core.Cancelled), false, end},
		"SecondRetryWaitsTwice":     {three, 2, verdict(core.Failed), false, retry(40 * time.Second)},
		"LastAttemptEnds":           {three, 3, verdict(core.Failed), false, end},
		"PermanentEnds":             {three, 1, core.Outcome{Verdict: core.Failed, Permanent: true}, false, end},
		"NamedVerdictIsRetried":     {only, 1, verdict(core.Lost), false, retry(10 * time.Second)},
		"OtherVerdictIsNot":         {only, 1, verdict(core.Failed), false, end},
		"RetryAfterIsTheLeast":      {three, 1, core.Outcome{Verdict: core.Failed, RetryAfter: 90 * time.Second}, false, retry(90 * time.Second)},
		"BackOffIsLongerThanWished": {three, 2, core.Outcome{Verdict: core.Failed, RetryAfter: time.Second}, false, retry(40 * time.Second)},
		"BackOffDoubles":            {many(10 * time.Second), 8, verdict(core.Failed), false, retry(1280 * time.Second)},
		"BackOffIsAnHourAtMost":     {many(10 * time.Second), 10, verdict(core.Failed), false, retry(time.Hour)},
		"BackOffNeverOverflows":     {many(time.Hour - 1), 99, verdict(core.Failed), false, retry(time.Hour)},
		"LongDelayIsKept":           {many(5 * time.Hour), 7, verdict(core.Failed), false, retry(5 * time.Hour)},
		"FixedStaysTheSame":         {fixed, 8, verdict(core.Failed), false, retry(7 * time.Second)},
		"FixedHeedsRetryAfter":      {fixed, 1, core.Outcome{Verdict: core.Failed, RetryAfter: 9 * time.Second}, false, retry(9 * time.Second)},
		"BackOffIsCapped":           {capped, 3, verdict(core.Failed), false, retry(25 * time.Second)},
		"UsedUpAsksAPerson":         {asks, 2, verdict(core.Failed), false, person},
		"LostAsksAPerson":           {asks, 2, verdict(core.Lost), false, person},
		"PermanentAsksAPerson":      {asks, 1, core.Outcome{Verdict: core.Failed, Permanent: true}, false, person},
		"RetryAsksNobody":           {asks, 1, verdict(core.Failed), false, retry(20 * time.Second)},
		"CancelledAsksNobody":       {asks, 2, verdict(core.Cancelled), false, end},
		"SuccessAsksNobody":         {asks, 2, verdict(core.Succeeded), false, end},
		"ShutdownIsRetried":         {three, 1, verdict(core.Cancelled), true, retry(20 * time.Second)},
		"ShutdownOfTheLastEnds":     {three, 3, verdict(core.Cancelled), true, end},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := &core.Task{Policies: c.policies}
			if got := runner.Settle(task, core.Run{ID: "r1", Attempt: c.attempt}, c.outcome, c.shutdown, now); got != c.want {
				t.Errorf("settled %+v; want %+v", got, c.want)
			}
		})
	}
}

// TestJitterVariesTheWaitByAFixedPart: within its share, otherwise for each run, and the same when asked again.
func TestJitterVariesTheWaitByAFixedPart(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	task := &core.Task{Policies: core.Policies{MaxAttempts: 5, RetryDelay: 100 * time.Second, RetryBackoff: core.BackoffFixed, RetryJitter: 0.3}}
	seen := map[time.Duration]bool{}
	for i := range 50 {
		run := core.Run{ID: fmt.Sprint("r", i), Attempt: 1}
		wait := runner.Settle(task, run, core.Outcome{Verdict: core.Failed}, false, now).RetryAt.Sub(now)
		if wait < 70*time.Second || wait > 130*time.Second {
			t.Errorf("run %d waits %s", i, wait)
		}
		if again := runner.Settle(task, run, core.Outcome{Verdict: core.Failed}, false, now).RetryAt.Sub(now); again != wait {
			t.Errorf("run %d waits %s, then %s", i, wait, again)
		}
		seen[wait] = true
	}
	if len(seen) < 45 {
		t.Errorf("%d different waits for 50 runs", len(seen))
	}
}

// TestNoJitterExceedsTheLongestWait: runs that have reached it are spread below it, evenly, and not all tried again at it.
func TestNoJitterExceedsTheLongestWait(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	second := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	cases := map[string]struct {
		policies    core.Policies
		attempt     int
		least, most time.Duration
	}{
		"AtTheLimit":      {core.Policies{RetryDelay: second(10), RetryMaxDelay: second(10), RetryJitter: 1}, 1, 0, second(10)},
		"DoubledUpToIt":   {core.Policies{RetryDelay: second(3), RetryMaxDelay: second(10), RetryJitter: 0.2}, 9, second(8), second(10)},
		"OnlyJustBelowIt": {core.Policies{RetryDelay: second(9), RetryMaxDelay: second(10), RetryJitter: 0.5}, 1, second(4.5), second(10)},
		"FarBelowIt":      {core.Policies{RetryDelay: second(3), RetryMaxDelay: second(10), RetryJitter: 0.5}, 1, second(1.5), second(4.5)},
		"OfAnHour":        {core.Policies{RetryDelay: time.Minute, RetryJitter: 0.3}, 20, 42 * time.Minute, time.Hour},
		"LongDelay":       {core.Policies{RetryDelay: 5 * time.Hour, RetryBackoff: core.BackoffFixed, RetryJitter: 0.1}, 1, 4*time.Hour + 30*time.Minute, 5 * time.Hour},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.policies.MaxAttempts = 100
			task := &core.Task{Policies: c.policies}
			const runs, parts = 10_000, 10
			var counts [parts]int
			for i := range runs {
				run := core.Run{ID: fmt.Sprint("r", i), Attempt: c.attempt}
				wait := runner.Settle(task, run, core.Outcome{Verdict: core.Failed}, false, now).RetryAt.Sub(now)
				if wait < c.least || wait > c.most {
					t.Fatalf("run %d waits %s, not from %s to %s", i, wait, c.least, c.most)
				}
				counts[min(parts-1, int((wait-c.least)*parts/(c.most-c.least)))]++
			}
			for i, n := range counts {
				if n < runs/parts/2 || n > runs/parts*2 {
					t.Errorf("%d of %d runs wait in part %d of %d: %v", n, runs, i, parts, counts)
				}
			}
			asks := core.Outcome{Verdict: core.Failed, RetryAfter: 6 * time.Hour}
			if got := runner.Settle(task, core.Run{ID: "r", Attempt: c.attempt}, asks, false, now).RetryAt.Sub(now); got != asks.RetryAfter {
				t.Errorf("a run whose task asks for %s waits %s", asks.RetryAfter, got)
			}
		})
	}
}

func TestOnlyRunsThatNeedAStartHaveCertainlyNotStarted(t *testing.T) {
	t.Parallel()
	for state, may := range map[core.RunState]bool{core.RunClaimed: true, core.RunRunning: true, core.RunQueued: false, core.RunWaiting: false, core.RunRetrying: false} {
		if runner.MayHaveStarted(state) != may {
			t.Errorf("a %s run may have started: %t", state, !may)
		}
	}
}
