package runner

import (
	"cmp"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Settlement is what follows from the end of an attempt.
type Settlement struct {
	RetryAt time.Time // zero: the run ends
	Disable string    // not empty: the task is disabled, for this reason
}

const (
	defaultRetryDelay = 10 * time.Second
	maxRetryDelay     = time.Hour
)

// retriable are the verdicts retried unless the task names others.
var retriable = []core.Verdict{core.Failed, core.TimedOut, core.Crashed, core.Lost}

// Settle decides what follows from an attempt's outcome: another attempt, or the end of the run and perhaps of the
// task's being enabled. shutdown says that the attempt ended only because the server is stopping. It is pure.
func Settle(task *core.Task, run core.Run, outcome core.Outcome, shutdown bool, now time.Time) Settlement {
	p := task.Policies
	wanted := shutdown
	if !shutdown {
		on := p.RetryOn
		if len(on) == 0 {
			on = retriable
		}
		wanted = slices.Contains(on, outcome.Verdict) && !outcome.Permanent
	}
	if wanted && run.Attempt < p.MaxAttempts {
		return Settlement{RetryAt: now.Add(max(retryDelay(p.RetryDelay, run.Attempt), outcome.RetryAfter))}
	}
	if task.StopOnError && outcome.Verdict != core.Succeeded && outcome.Verdict != core.Cancelled {
		return Settlement{Disable: "stop_on_error: run " + run.ID + " " + string(outcome.Verdict)}
	}
	return Settlement{}
}

// retryDelay doubles the delay for each attempt made, up to an hour.
func retryDelay(first time.Duration, made int) time.Duration {
	delay := cmp.Or(first, defaultRetryDelay)
	for range made - 1 {
		if delay >= maxRetryDelay {
			return max(maxRetryDelay, first)
		}
		delay *= 2
	}
	return min(delay, max(maxRetryDelay, first))
}

// MayHaveStarted decides about a live run whose server is gone: true means that it may have been executing, so that
// starting it again as the same attempt could run it twice. It goes by the state alone, not by any clock: a claimed run
// begins with no write before it, a queued or retrying one only after Start has been written. It is pure.
func MayHaveStarted(state core.RunState) bool {
	return state != core.RunQueued && state != core.RunRetrying
}
