package store

import (
	"context"
	"errors"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// What the merged requests of one transaction do, statement by statement, each for all rows at once: ends first, so that
// admissions and claims of the same transaction see them. Everything here may run again after a lost connection: answers
// are assigned, never added to.

type claimItem struct {
	claim  *core.Claim
	out    *core.Claimed
	starts int64 // how many of its runs start
}

type runItem struct {
	run   *core.Run
	claim int   // index of its claim
	at    int   // index in the claim's runs
	nth   int64 // of those that start, from 0; -1: it is skipped
}

type skipItem struct {
	skip    *core.Skip
	out     *core.Finished
	queued  int64 // 1: it was queued, or waited
	unfired int64 // 1: it was counted as fired
}

func (w *writer) apply(ctx context.Context, reqs []*request) error {
	w.claims, w.ends, w.skips, w.asks = w.claims[:0], w.ends[:0], w.skips[:0], w.asks[:0]
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
		for i := range r.admissions {
			w.asks = append(w.asks, askItem{ask: &r.admissions[i], out: &r.admitted[i]})
			r.admitted[i] = core.Admitted{}
		}
	}
	if !w.dialect.alone() {
		if err := w.conn.lock(ctx, w.taskIDs(reqs), w.keys(reqs)); err != nil {
			return err
		}
	}
	if err := w.applyFinishes(ctx, w.ends); err != nil {
		return err
	}
	if err := w.applySkips(ctx, w.skips); err != nil {
		return err
	}
	if err := w.applyHolds(ctx, reqs); err != nil {
		return err
	}
	if err := w.applyAdmissions(ctx, w.asks); err != nil {
		return err
	}
	if err := w.applyClaims(ctx, w.claims); err != nil {
		return err
	}
	for _, r := range reqs {
		err := w.conn.many(ctx, runStarted, len(r.running), func(i int, args []any) []any {
			return append(args, r.running[i].RunID, r.running[i].Token, micros(r.running[i].StartedAt))
		}, nil)
		if err != nil {
			return err
		}
		if err := w.conn.many(ctx, shippedRun, len(r.shipped), func(i int, args []any) []any { return append(args, r.shipped[i]) }, nil); err != nil {
			return err
		}
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

func starting(c *core.Claim) int64 {
	n := int64(0)
	for i := range c.Runs {
		if c.Runs[i].State != core.RunEnded {
			n++
		}
	}
	return n
}

// taskIDs gives the tasks of all requests, sorted, each once.
func (w *writer) taskIDs(reqs []*request) []string {
	ids := w.texts[:0]
	for i := range w.claims {
		ids = append(ids, w.claims[i].claim.TaskID)
	}
	for i := range w.ends {
		f := w.ends[i].finish
		ids = append(ids, f.TaskID)
		for j := range f.Then {
			ids = append(ids, f.Then[j].TaskID)
		}
	}
	for i := range w.skips {
		ids = append(ids, w.skips[i].skip.TaskID)
	}
	for i := range w.asks {
		ids = append(ids, w.asks[i].ask.TaskID)
	}
	for _, r := range reqs {
		for i := range r.holds {
			ids = append(ids, r.holds[i].TaskID)
		}
		ids = append(ids, r.tasks...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	w.texts = ids
	return ids
}

// keys gives what stands for the limits and breakers that the requests read and then write, sorted, each once.
func (w *writer) keys(reqs []*request) []int64 {
	var keys []int64
	for i := range w.asks {
		for j := range w.asks[i].ask.Breakers {
			keys = appendBreaker(keys, w.asks[i].ask.Breakers[j].Name)
		}
		for j := range w.asks[i].ask.Limits {
			keys = append(keys, lockKey("limit", w.asks[i].ask.Limits[j].Key))
		}
	}
	for i := range w.ends {
		for j := range w.ends[i].finish.Breakers {
			keys = appendBreaker(keys, w.ends[i].finish.Breakers[j].Name)
		}
	}
	for _, r := range reqs {
		keys = append(keys, r.keys...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// ownBreaker begins the name of a task's own breaker, before the task's id. It needs no key: who touches it holds the
// task. (A server has room for some thousand advisory locks, of all transactions together.)
const ownBreaker = "task:"

func appendBreaker(keys []int64, name string) []int64 {
	if strings.HasPrefix(name, ownBreaker) {
		return keys
	}
	return append(keys, lockKey("breaker", name))
}

// lockKey gives the number of an advisory lock. Two things of one number only wait for each other.
func lockKey(kind, name string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("gnomon " + kind + " " + name)) // it never fails
	return int64(h.Sum64())
}

func (w *writer) applyClaims(ctx context.Context, claims []claimItem) error {
	if len(claims) == 0 {
		return nil
	}
	starts := make([]int, 0, len(claims))
	var marks []int
	for i := range claims {
		if claims[i].starts > 0 {
			starts = append(starts, i)
		} else {
			marks = append(marks, i)
		}
	}
	err := w.conn.many(ctx, claimFire, len(starts), func(i int, args []any) []any {
		c := &claims[starts[i]]
		return append(args, micros(c.claim.Then), c.starts, queueAbove(c.claim), c.claim.TaskID, c.claim.Version, micros(c.claim.NextFire))
	}, func(i int, _ int64, row []int64) {
		if row != nil {
			c := &claims[starts[i]]
			live := row[0] - c.starts
			*c.out = core.Claimed{Won: true, Live: int(live), Token: row[1] - c.starts + 1, LastSuccess: instant(row[2]), Fired: row[3],
				Queued: live > queueAbove(c.claim)}
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
			*claims[marks[i]].out = core.Claimed{Won: true, Live: int(row[0]), Token: row[1], Fired: row[3]}
		}
	})
	if err != nil {
		return err
	}
	return w.insertClaimed(ctx, claims)
}

// queueAbove gives how many other live runs a task may have for a claimed run to need no admission.
func queueAbove(c *core.Claim) int64 {
	switch {
	case c.Gated:
		return -1
	case c.Overlap == core.OverlapAllow:
		return math.MaxInt64
	default:
		return 0
	}
}

// insertClaimed inserts the rows of the claims that won. A fire whose row is there already has its decision: its claim
// only moves the mark on.
func (w *writer) insertClaimed(ctx context.Context, claims []claimItem) error {
	plain, others := w.rows[:0], w.others[:0]
	for i := range claims {
		if !claims[i].out.Won {
			continue
		}
		nth := int64(0)
		for j := range claims[i].claim.Runs {
			item := runItem{run: &claims[i].claim.Runs[j], claim: i, at: j, nth: -1}
			if item.run.State != core.RunEnded {
				item.nth = nth
				nth++
			}
			if isPlain(item.run) {
				plain = append(plain, item)
			} else {
				others = append(others, item)
			}
		}
	}
	w.rows, w.others = plain, others
	var decided, ranges []runItem
	insert := func(stmt statement, rows []runItem, values func(args []any, run *core.Run, state core.RunState, token, fireAt int64) []any) error {
		return w.conn.many(ctx, stmt, len(rows), func(i int, args []any) []any {
			run, c := rows[i].run, &claims[rows[i].claim]
			state, token := run.State, run.Token
			if rows[i].nth >= 0 {
				state, token = core.RunClaimed, c.out.Token+rows[i].nth
				if c.out.Queued {
					state = core.RunQueued
				}
			}
			return values(args, run, state, token, micros(run.FireAt))
		}, func(i int, affected int64, _ []int64) {
			switch {
			case affected != 0:
			case rows[i].nth >= 0:
				decided = append(decided, rows[i])
			case rows[i].run.FireCount > 1:
				ranges = append(ranges, rows[i])
			}
		})
	}
	err := insert(insertRun, plain, bindRun)
	if err == nil {
		err = insert(insertRunOf, others, bindRunOf)
	}
	for i := 0; err == nil && i < len(ranges); i++ {
		err = w.insertRest(ctx, ranges[i].run)
	}
	if err != nil || len(decided) == 0 {
		return err
	}
	err = w.conn.many(ctx, releaseRun, len(decided), func(i int, args []any) []any {
		c := &claims[decided[i].claim]
		return append(args, one(c.out.Queued), int64(1), c.claim.TaskID)
	}, nil)
	for _, item := range decided {
		c := &claims[item.claim]
		c.out.Decided = append(c.out.Decided, item.at)
		slices.Sort(c.out.Decided)
		c.out.Fired--
		if int64(len(c.out.Decided)) == c.starts {
			c.out.Queued = false
		}
	}
	return err
}

// insertRest inserts a range of skipped fires whose first one has its decision: the others must have theirs too. Where it would
// stand, the rest of a range of an older version may stand already: it is put behind that, and is none the smaller.
func (w *writer) insertRest(ctx context.Context, skipped *core.Run) error {
	run, inserted := *skipped, false
	run.FireCount--
	for !inserted && run.FireAt.Before(run.FireThrough) {
		run.FireAt = run.FireAt.Add(time.Microsecond)
		err := w.conn.many(ctx, insertRunOf, 1, func(_ int, args []any) []any {
			return bindRunOf(args, &run, run.State, run.Token, micros(run.FireAt))
		}, func(_ int, affected int64, _ []int64) { inserted = affected == 1 })
		if err != nil {
			return err
		}
	}
	return nil
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
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

// bindRunOf gives the arguments of InsertRunOf.
func bindRunOf(args []any, run *core.Run, state core.RunState, token, fireAt int64) []any {
	return append(bindRun(args, run, state, token, fireAt), clean(run.Series), micros(run.MovedFrom), int64(run.Priority),
		run.Overlap.With(run.OverlapLimit), run.WorkflowID, clean(run.Step), run.CausedBy)
}

// isPlain says that InsertRun keeps all of a run.
func isPlain(run *core.Run) bool {
	return run.Series == "" && run.MovedFrom.IsZero() && run.Priority == 0 && run.Overlap == "" && run.WorkflowID == "" && run.Step == "" &&
		run.CausedBy == ""
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
	var claimed []string // those that may hold slots
	for _, states := range [][2]core.RunState{{core.RunQueued, core.RunWaiting}, {core.RunClaimed, core.RunClaimed}} {
		var missed []int
		err := w.conn.many(ctx, skipRun, len(left), func(i int, args []any) []any {
			s := skips[left[i]].skip
			return append(args, s.RunID, s.Token, string(states[0]), string(states[1]), string(s.Reason), clean(s.Facts), micros(s.DecidedAt), s.Owner)
		}, func(i int, _ int64, row []int64) {
			if row == nil {
				missed = append(missed, left[i])
				return
			}
			item := &skips[left[i]]
			item.queued, item.unfired = one(states[0] == core.RunQueued), row[0]
			if item.queued == 0 {
				claimed = append(claimed, item.skip.RunID)
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
		item := &skips[held[i]]
		return append(args, item.queued, item.unfired, item.skip.TaskID)
	}, nil)
	if err != nil {
		return err
	}
	of := func(run string) *skipItem {
		i := slices.IndexFunc(skips, func(item skipItem) bool { return !item.out.Stale && item.skip.RunID == run })
		return &skips[i]
	}
	err = leave(ctx, w.conn, claimed, func(run string) (core.Outcome, time.Time) {
		return core.Outcome{Verdict: core.Skipped}, of(run).skip.DecidedAt
	},
		func(run string, breakers []core.Breaker) {
			of(run).out.Breakers = append(of(run).out.Breakers, breakers...)
		})
	if err != nil {
		return err
	}
	for _, i := range held {
		if err := keepBreaches(ctx, w.conn, skips[i].skip.RunID, skips[i].skip.Breaches); err != nil {
			return err
		}
	}
	marks := slices.DeleteFunc(held, func(i int) bool { return skips[i].skip.NextFire.IsZero() })
	return w.conn.many(ctx, moveMark, len(marks), func(i int, args []any) []any {
		s := skips[marks[i]].skip
		return append(args, micros(s.NextFire), s.TaskID, s.Version)
	}, nil)
}
