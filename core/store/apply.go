package store

import (
	"context"
	"errors"
	"slices"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

// What the merged requests of one transaction do, statement by statement, each for all rows at once: ends first, so that
// a claim of the same transaction sees them. Everything here may run again after a lost connection: answers are
// assigned, never added to.

type claimItem struct {
	claim  *core.Claim
	out    *core.Claimed
	starts *core.Run // the run that starts; nil: all are skipped
}

type runItem struct {
	run   *core.Run
	claim int // index of its claim
}

type finishItem struct {
	finish *core.Finish
	out    *core.Finished
	queued int64 // 1: it was queued, and is cancelled
}

type skipItem struct {
	skip   *core.Skip
	out    *core.Finished
	queued int64
}

func (w *writer) apply(ctx context.Context, reqs []*request) error {
	w.claims, w.ends, w.skips, w.texts = w.claims[:0], w.ends[:0], w.skips[:0], w.texts[:0]
	for _, r := range reqs {
		r.answer = nil
		for i := range r.claims {
			w.claims = append(w.claims, claimItem{claim: &r.claims[i], out: &r.claimed[i], starts: starting(&r.claims[i])})
			r.claimed[i] = core.Claimed{}
		}
		for i := range r.finishes {
			w.ends = append(w.ends, finishItem{finish: &r.finishes[i], out: &r.finished[i]})
			r.finished[i] = core.Finished{}
		}
		for i := range r.skips {
			w.skips = append(w.skips, skipItem{skip: &r.skips[i], out: &r.finished[i]})
			r.finished[i] = core.Finished{}
		}
	}
	if !w.dialect.alone() {
		if err := w.conn.lockTasks(ctx, w.taskIDs(reqs)); err != nil {
			return err
		}
	}
	if err := w.applyFinishes(ctx, w.ends); err != nil {
		return err
	}
	if err := w.applySkips(ctx, w.skips); err != nil {
		return err
	}
	if err := w.applyClaims(ctx, w.claims); err != nil {
		return err
	}
	if err := w.applyEach(ctx, reqs, runStarted, func(r *request) []string { return r.running }); err != nil {
		return err
	}
	if err := w.applyEach(ctx, reqs, shippedRun, func(r *request) []string { return r.shipped }); err != nil {
		return err
	}
	for _, r := range reqs {
		if r.do == nil {
			continue
		}
		switch err := r.do(ctx, w.conn); {
		case err == nil:
		case isAnswer(err):
			r.answer = err
		default:
			return err
		}
	}
	return nil
}

// isAnswer says that a change was refused before it wrote anything.
func isAnswer(err error) bool {
	if _, ok := errors.AsType[partial](err); ok {
		return false
	}
	switch core.KindOf(err) {
	case core.KindConflict, core.KindNotFound, core.KindStale, core.KindInvalid:
		return true
	default:
		return false
	}
}

func starting(c *core.Claim) *core.Run {
	for i := range c.Runs {
		if c.Runs[i].State != core.RunEnded {
			return &c.Runs[i]
		}
	}
	return nil
}

// taskIDs gives the tasks of all requests, sorted, each once.
func (w *writer) taskIDs(reqs []*request) []string {
	ids := w.texts
	for _, c := range w.claims {
		ids = append(ids, c.claim.TaskID)
	}
	for _, f := range w.ends {
		ids = append(ids, f.finish.TaskID)
	}
	for _, s := range w.skips {
		ids = append(ids, s.skip.TaskID)
	}
	for _, r := range reqs {
		ids = append(ids, r.tasks...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	w.texts = ids
	return ids
}

func (w *writer) applyEach(ctx context.Context, reqs []*request, stmt statement, ids func(r *request) []string) error {
	for _, r := range reqs {
		list := ids(r)
		err := w.conn.many(ctx, stmt, len(list), func(i int, args []any) []any { return append(args, list[i]) }, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) applyClaims(ctx context.Context, claims []claimItem) error {
	if len(claims) == 0 {
		return nil
	}
	starts := make([]int, 0, len(claims))
	var marks []int
	for i := range claims {
		if claims[i].starts != nil {
			starts = append(starts, i)
		} else {
			marks = append(marks, i)
		}
	}
	err := w.conn.many(ctx, claimFire, len(starts), func(i int, args []any) []any {
		c := claims[starts[i]].claim
		return append(args, micros(c.Then), queueBeside(c), c.TaskID, c.Version, micros(c.NextFire))
	}, func(i int, _ int64, row []int64) {
		if row != nil {
			c := &claims[starts[i]]
			*c.out = core.Claimed{Won: true, Live: int(row[0]) - 1, Token: row[1], LastSuccess: instant(row[2]),
				Queued: row[0] > 1 && queueBeside(c.claim) == 1}
		}
	})
	if err != nil {
		return err
	}
	err = w.conn.many(ctx, claimMark, len(marks), func(i int, args []any) []any {
		c := claims[marks[i]].claim
		return append(args, micros(c.Then), c.TaskID, c.Version, micros(c.NextFire))
	}, func(i int, _ int64, row []int64) {
		if row != nil {
			*claims[marks[i]].out = core.Claimed{Won: true, Live: int(row[0]), Token: row[1]}
		}
	})
	if err != nil {
		return err
	}
	return w.insertClaimed(ctx, claims)
}

func queueBeside(c *core.Claim) int64 {
	if c.Overlap == core.OverlapAllow {
		return 0
	}
	return 1
}

// insertClaimed inserts the rows of the claims that won. A fire whose row is there already has its decision: its claim
// only moves the mark on.
func (w *writer) insertClaimed(ctx context.Context, claims []claimItem) error {
	rows := w.rows[:0]
	for i := range claims {
		if !claims[i].out.Won {
			continue
		}
		for j := range claims[i].claim.Runs {
			rows = append(rows, runItem{&claims[i].claim.Runs[j], i})
		}
	}
	w.rows = rows
	var decided []int
	err := w.conn.many(ctx, insertRun, len(rows), func(i int, args []any) []any {
		run, c := rows[i].run, &claims[rows[i].claim]
		state, token := run.State, run.Token
		if run == c.starts {
			state, token = core.RunClaimed, c.out.Token
			if c.out.Queued {
				state = core.RunQueued
			}
		}
		return bindRun(args, run, state, token, micros(run.FireAt))
	}, func(i int, affected int64, _ []int64) {
		if affected == 0 && rows[i].run == claims[rows[i].claim].starts {
			decided = append(decided, rows[i].claim)
		}
	})
	if err != nil || len(decided) == 0 {
		return err
	}
	return w.conn.many(ctx, releaseRun, len(decided), func(i int, args []any) []any {
		c := &claims[decided[i]]
		queued := int64(0)
		if c.out.Queued {
			queued = 1
		}
		c.out.Queued, c.out.Decided = false, true
		return append(args, queued, c.claim.TaskID)
	}, nil)
}

// bindRun gives the arguments of InsertRun.
func bindRun(args []any, run *core.Run, state core.RunState, token, fireAt int64) []any {
	through := micros(run.FireThrough)
	if through < fireAt {
		through = fireAt
	}
	return append(args, run.ID, run.TaskID, run.TaskVersion, run.Namespace, run.TaskName, run.TaskType, string(run.Trigger),
		fireAt, through, int64(max(run.FireCount, 1)), clean(run.Params), string(state), run.Owner,
		micros(run.StartAt), int64(run.Attempt), token, micros(run.DecidedAt), string(run.Reason), clean(run.Facts),
		run.CreatedBy, micros(run.EndedAt), string(run.Verdict))
}

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
	for i := range finishes {
		f := finishes[i].finish
		if finishes[i].out.Stale {
			w.log.Warn("stale finish refused", "run_id", f.RunID, "token", f.Token, "verdict", string(f.Outcome.Verdict))
			continue
		}
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
	for i := range finishes {
		if f := &finishes[i]; f.finish.Disable != "" && !f.out.Stale {
			if f.out.Disabled, err = w.disable(ctx, f.finish); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) end(ctx context.Context, finishes []finishItem, ends []int) error {
	held := make([]int, 0, len(ends))
	var missed []int // stale, or queued
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
	return w.conn.many(ctx, countEnd, len(held), func(i int, args []any) []any {
		f := finishes[held[i]].finish
		success := int64(0)
		if f.Outcome.Verdict == core.Succeeded {
			success = micros(f.EndedAt)
		}
		return append(args, finishes[held[i]].queued, micros(f.StartedAt), micros(f.EndedAt), success, string(f.Outcome.Verdict), f.TaskID)
	}, nil)
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

// disable switches a task off in Gnomon's name. It reports false if the task is off already, or gone.
func (w *writer) disable(ctx context.Context, f *core.Finish) (bool, error) {
	q := w.conn.queries()
	if err := q.KeepVersion(ctx, f.TaskID); err != nil {
		return false, err
	}
	off, err := q.DisableTask(ctx, sqlcgen.DisableTaskParams{ID: f.TaskID, DisabledReason: cut(f.Disable), UpdatedAt: micros(w.clock.Now())})
	if err != nil || off == 0 {
		return false, err
	}
	return true, q.FollowVersion(ctx, f.TaskID, 0)
}

func (w *writer) applySkips(ctx context.Context, skips []skipItem) error {
	if len(skips) == 0 {
		return nil
	}
	left := make([]int, len(skips))
	for i := range left {
		left[i] = i
	}
	var held []int
	for _, state := range []core.RunState{core.RunQueued, core.RunClaimed} {
		var missed []int
		err := w.conn.many(ctx, skipRun, len(left), func(i int, args []any) []any {
			s := skips[left[i]].skip
			return append(args, s.RunID, s.Token, string(state), string(s.Reason), clean(s.Facts), micros(s.DecidedAt))
		}, func(i int, affected int64, _ []int64) {
			if affected == 0 {
				missed = append(missed, left[i])
				return
			}
			if state == core.RunQueued {
				skips[left[i]].queued = 1
			}
			held = append(held, left[i])
		})
		if err != nil {
			return err
		}
		left = missed
	}
	for _, i := range left {
		skips[i].out.Stale = true
	}
	err := w.conn.many(ctx, releaseRun, len(held), func(i int, args []any) []any {
		return append(args, skips[held[i]].queued, skips[held[i]].skip.TaskID)
	}, nil)
	if err != nil {
		return err
	}
	marks := slices.DeleteFunc(held, func(i int) bool { return skips[i].skip.NextFire.IsZero() })
	return w.conn.many(ctx, moveMark, len(marks), func(i int, args []any) []any {
		s := skips[marks[i]].skip
		return append(args, micros(s.NextFire), s.TaskID, s.Version)
	}, nil)
}
