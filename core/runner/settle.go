package runner

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Settlement is what follows from the end of an attempt.
type Settlement struct {
	RetryAt   time.Time // zero: the run ends
	Intervene bool      // it failed for good, and its task wants a person to look at it
}

const (
	defaultRetryDelay = 10 * time.Second
	maxRetryDelay     = time.Hour
)

// retriable are the verdicts retried unless the task names others.
var retriable = []core.Verdict{core.Failed, core.TimedOut, core.Crashed, core.Lost}

// Settle decides what follows from an attempt's outcome: another attempt, or the end of the run. shutdown says that the
// attempt ended only because the server is stopping. It is pure.
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
		return Settlement{RetryAt: now.Add(max(retryDelay(p, run), outcome.RetryAfter))}
	}
	return Settlement{Intervene: p.Intervene && outcome.Verdict.Failure()}
}

// retryDelay is the wait before the attempt after run's: the same each time or doubled, and varied by a hash, so that runs
// that failed together are not tried again together. The limit cuts what it is varied within and not the wait itself: runs
// that have reached it stay spread, below it.
func retryDelay(p core.Policies, run core.Run) time.Duration {
	first := cmp.Or(p.RetryDelay, defaultRetryDelay)
	most := max(cmp.Or(p.RetryMaxDelay, maxRetryDelay), first)
	delay := first
	if p.RetryBackoff != core.BackoffFixed {
		for range run.Attempt - 1 {
			if delay >= most {
				break
			}
			delay *= 2
		}
	}
	delay = min(delay, most)
	if p.RetryJitter > 0 {
		h := fnv.New64a()
		_, _ = fmt.Fprintf(h, "%s/%d", run.ID, run.Attempt) // a hash takes everything
		part := float64(h.Sum64()>>11) / (1 << 53)          // 0 <= part < 1
		vary := time.Duration(float64(delay) * p.RetryJitter)
		least := delay - vary
		delay = least + time.Duration(part*float64(min(delay+vary, most)-least))
	}
	return delay
}

// MayHaveStarted decides about a live run whose server is gone: true means that it may have been executing, so that
// starting it again as the same attempt could run it twice. It goes by the state alone, not by any clock: a claimed run
// begins with no write before it, a queued, waiting or retrying one only after its admission has been written. It is pure.
func MayHaveStarted(state core.RunState) bool {
	return state != core.RunQueued && state != core.RunWaiting && state != core.RunRetrying
}
