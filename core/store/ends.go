package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

type finishItem struct {
	finish   *core.Finish
	out      *core.Finished
	queued   int64 // 1: it ended while it was queued or waited
	failures int64 // with StopAfter: failed runs in a row, this one included
}

// applyFinishes ends attempts, and does all that their ends cause.
func (w *writer) applyFinishes(ctx context.Context, finishes []finishItem) error {
	if len(finishes) == 0 {
		return nil
	}
	ends := make([]int, 0, len(finishes))
	var retries []int
	for i := range finishes {
		if finishes[i].finish.RetryAt.IsZero() {
			ends = append(ends, i)
		} else {
			retries = append(retries, i)
		}
	}
	if err := w.end(ctx, finishes, ends); err != nil {
		return err
	}
	if err := w.retry(ctx, finishes, retries); err != nil {
		return err
	}
	var marks []int
	done := make([]string, 0, len(finishes))
	for i := range finishes {
		f := finishes[i].finish
		if finishes[i].out.Stale {
			w.log.Warn("stale finish refused", "run_id", f.RunID, "token", f.Token, "verdict", string(f.Outcome.Verdict))
			continue
		}
		done = append(done, f.RunID)
		if !f.NextFire.IsZero() {
			marks = append(marks, i)
		}
	}
	err := w.conn.many(ctx, moveMark, len(marks), func(i int, args []any) []any {
		f := finishes[marks[i]].finish
		return append(args, micros(f.NextFire), f.TaskID, f.Version)
	}, nil)
	if err != nil {
		return err
	}
	if err := w.account(ctx, finishes); err != nil {
		return err
	}
	of := func(run string) *finishItem {
		i := slices.IndexFunc(finishes, func(item finishItem) bool { return !item.out.Stale && item.finish.RunID == run })
		return &finishes[i]
	}
	err = leave(ctx, w.conn, done, func(run string) (core.Outcome, time.Time) { return of(run).finish.Outcome, of(run).finish.EndedAt },
		func(run string, breakers []core.Breaker) {
			of(run).out.Breakers = append(of(run).out.Breakers, breakers...)
		})
	if err != nil {
		return err
	}
	for i := range finishes {
		if item := &finishes[i]; !item.out.Stale {
			if err := w.conclude(ctx, item); err != nil {
				return err
			}
		}
	}
	return w.cause(ctx, finishes)
}

func (w *writer) end(ctx context.Context, finishes []finishItem, ends []int) error {
	held := make([]int, 0, len(ends))
	var missed []int // stale, queued or waiting
	err := w.conn.many(ctx, endRun, len(ends), func(i int, args []any) []any {
		f := finishes[ends[i]].finish
		o := &f.Outcome
		return append(args, f.RunID, f.Token, string(o.Verdict), cut(o.Message), clean(o.Output), usageText(&o.Usage),
			blob(o.Checkpoint), micros(f.StartedAt), micros(f.EndedAt))
	}, func(i int, affected int64, _ []int64) {
		if affected == 0 {
			missed = append(missed, ends[i])
			return
		}
		held = append(held, ends[i])
	})
	if err != nil {
		return err
	}
	err = w.conn.many(ctx, endQueued, len(missed), func(i int, args []any) []any {
		f := finishes[missed[i]].finish
		return append(args, f.RunID, f.Token, string(f.Outcome.Verdict), cut(f.Outcome.Message), micros(f.EndedAt))
	}, func(i int, affected int64, _ []int64) {
		if affected == 0 {
			finishes[missed[i]].out.Stale = true
			return
		}
		finishes[missed[i]].queued = 1
		held = append(held, missed[i])
	})
	if err != nil {
		return err
	}
	var plain, watched []int // those of a task that failures may disable are counted one by one
	for _, i := range held {
		if finishes[i].finish.StopAfter > 0 {
			watched = append(watched, i)
		} else {
			plain = append(plain, i)
		}
	}
	bind := func(item *finishItem, args []any) []any {
		f := item.finish
		success := int64(0)
		if f.Outcome.Verdict == core.Succeeded {
			success = micros(f.EndedAt)
		}
		return append(args, item.queued, micros(f.StartedAt), micros(f.EndedAt), success, string(f.Outcome.Verdict),
			one(f.Outcome.Verdict.Failure()), f.TaskID)
	}
	err = w.conn.many(ctx, countEnd, len(plain), func(i int, args []any) []any { return bind(&finishes[plain[i]], args) }, nil)
	if err != nil {
		return err
	}
	return w.conn.many(ctx, countFailure, len(watched), func(i int, args []any) []any { return bind(&finishes[watched[i]], args) },
		func(i int, _ int64, row []int64) {
			if row != nil {
				finishes[watched[i]].failures = row[0]
			}
		})
}

func (w *writer) retry(ctx context.Context, finishes []finishItem, retries []int) error {
	// The token comes from the task's row, which the same run may have raised already: one after the other.
	for _, at := range retries {
		item := &finishes[at]
		f, o := item.finish, &item.finish.Outcome
		item.out.Stale = true
		err := w.conn.many(ctx, retryRun, 1, func(_ int, args []any) []any {
			return append(args, f.RunID, f.Token, cut(o.Message), clean(o.Output), usageText(&o.Usage), blob(o.Checkpoint),
				micros(f.StartedAt), micros(f.RetryAt), f.Owner)
		}, func(_ int, _ int64, row []int64) {
			if row != nil {
				*item.out = core.Finished{Token: row[0]}
			}
		})
		if err != nil {
			return err
		}
		if item.out.Stale {
			continue
		}
		err = w.conn.many(ctx, countRetry, 1, func(_ int, args []any) []any {
			return append(args, micros(f.StartedAt), f.TaskID)
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// account lets the breakers know how attempts ended.
func (w *writer) account(ctx context.Context, finishes []finishItem) error {
	var names []string
	for i := range finishes {
		if !finishes[i].out.Stale {
			for _, rule := range finishes[i].finish.Breakers {
				names = append(names, rule.Name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	book, err := openBook(ctx, w.conn, names)
	if err != nil {
		return err
	}
	for i := range finishes {
		f, out := finishes[i].finish, finishes[i].out
		if out.Stale {
			continue
		}
		for _, rule := range f.Breakers {
			out.Breakers = append(out.Breakers, book.after(rule, f.RunID, f.Outcome, f.EndedAt)...)
		}
	}
	return book.close(ctx, w.conn)
}

// conclude keeps the breaches of an attempt, and if its run has ended with it, disables the task and calls a person
// where that is wanted.
func (w *writer) conclude(ctx context.Context, item *finishItem) (err error) {
	f := item.finish
	if err := keepBreaches(ctx, w.conn, f.RunID, f.Breaches); err != nil || !f.RetryAt.IsZero() {
		return err
	}
	if f.StopAfter > 0 && f.Outcome.Verdict.Failure() && item.failures >= int64(f.StopAfter) {
		reason := fmt.Sprintf("stop_on_error: run %s %s", f.RunID, f.Outcome.Verdict)
		if f.StopAfter > 1 {
			reason = fmt.Sprintf("stop_on_error: %d runs in a row failed, the last was %s (%s)", item.failures, f.RunID, f.Outcome.Verdict)
		}
		if item.out.Disabled, err = w.disable(ctx, f.TaskID, reason); err != nil {
			return err
		}
	}
	if f.Intervene {
		return w.conn.many(ctx, intervene, 1, func(_ int, args []any) []any { return append(args, f.RunID) }, nil)
	}
	return nil
}

// disable switches a task off in Gnomon's name and gives the reason back, or "" if the task is off already, or gone.
func (w *writer) disable(ctx context.Context, taskID, reason string) (string, error) {
	q := w.conn.queries()
	if err := q.KeepVersion(ctx, taskID); err != nil {
		return "", err
	}
	off, err := q.DisableTask(ctx, sqlcgen.DisableTaskParams{ID: taskID, DisabledReason: reason, UpdatedAt: micros(w.clock.Now())})
	if err != nil || off == 0 {
		return "", err
	}
	return reason, q.FollowVersion(ctx, sqlcgen.FollowVersionParams{TaskID: taskID, NextFire: 0, KeepFailures: 1})
}

// cause inserts what ends cause of other tasks: runs, and skipped fires. A run whose task has been disabled since the causer saw
// it is a skipped fire too.
func (w *writer) cause(ctx context.Context, finishes []finishItem) error {
	type caused struct {
		run core.Run
		out *core.Finished
	}
	var runs []caused
	var skipped []core.Run
	for i := range finishes {
		f, out := finishes[i].finish, finishes[i].out
		if out.Stale || !f.RetryAt.IsZero() {
			continue
		}
		for j := range f.Then {
			run := f.Then[j]
			if run.State == core.RunEnded {
				skipped = append(skipped, run)
				continue
			}
			run.State, run.Token = core.RunQueued, 0
			settle(&run)
			runs = append(runs, caused{run, out})
		}
	}
	err := w.conn.many(ctx, countCaused, len(runs), func(i int, args []any) []any {
		return append(args, runs[i].run.TaskID)
	}, func(i int, _ int64, row []int64) {
		if row != nil {
			runs[i].run.Token, runs[i].run.PrevSuccess = row[0], instant(row[1])
		}
	})
	if err != nil {
		return err
	}
	for i := range runs {
		if run := runs[i].run; run.Token == 0 {
			stored, err := w.conn.queries().StoredTask(ctx, run.TaskID)
			if notFound(err) {
				continue
			}
			if err != nil {
				return err
			}
			run.TaskVersion = stored.Version
			skipped = append(skipped, run.SkippedFor(core.ReasonDisabled))
		}
	}
	runs = slices.DeleteFunc(runs, func(c caused) bool { return c.run.Token == 0 })
	var there []string // tasks whose run was there already
	err = w.conn.many(ctx, insertRunOf, len(runs), func(i int, args []any) []any {
		run := &runs[i].run
		return bindRunOf(args, run, run.State, run.Token, micros(run.FireAt))
	}, func(i int, affected int64, _ []int64) {
		if affected == 0 {
			there = append(there, runs[i].run.TaskID)
			return
		}
		runs[i].out.Then = append(runs[i].out.Then, runs[i].run)
	})
	if err != nil {
		return err
	}
	err = w.conn.many(ctx, insertRunOf, len(skipped), func(i int, args []any) []any {
		return bindRunOf(args, &skipped[i], core.RunEnded, 0, micros(skipped[i].FireAt))
	}, nil)
	if err != nil {
		return err
	}
	return w.conn.many(ctx, releaseRun, len(there), func(i int, args []any) []any {
		return append(args, int64(1), int64(0), there[i])
	}, nil)
}

// settle gives a run that is inserted the values that its row has.
func settle(run *core.Run) {
	run.Attempt, run.FireCount = max(run.Attempt, 1), max(run.FireCount, 1)
	run.FireAt, run.FireThrough = instant(micros(run.FireAt)), instant(micros(run.FireThrough))
	if run.FireThrough.Before(run.FireAt) {
		run.FireThrough = run.FireAt
	}
}

// keepBreaches adds breaches to those a run has.
func keepBreaches(ctx context.Context, t session, runID string, breaches []core.Breach) error {
	if len(breaches) == 0 {
		return nil
	}
	row, err := t.queries().BreachesOfRun(ctx, runID)
	if notFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	all := breachesOf(row.Breaches)
	for _, b := range breaches {
		if !slices.ContainsFunc(all, b.Same) {
			b.At = b.At.UTC()
			all = append(all, b)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return t.queries().SetBreaches(ctx, runID, clean(text))
}

// breachesOf reads what keepBreaches has written; what cannot be read is none.
func breachesOf(text string) (breaches []core.Breach) {
	if text == "" || json.Unmarshal([]byte(text), &breaches) != nil {
		return nil
	}
	return breaches
}
