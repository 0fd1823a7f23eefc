package ledger

import (
	"iter"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Result holds what should have been decided in [From, To) against what was. Expected = Decided + Missing.
type Result struct {
	From, To time.Time
	Expected int64 // nominal instants by the versions' schedules, computed anew
	Decided  int64 // of them covered by rows
	Started  int64 // of them started, or about to
	Skipped  map[core.Reason]int64

	Missing     int64       // expected, and no row covers them
	MissingList []time.Time // the first of them, at most core.MaxMissingListed, UTC
	Doubled     int64       // covered by more than one row
	Unexpected  int64       // rows at an instant that no version of the task has
	Miscounted  int64       // rows over several instants that name another number than there are
	Odd         []Odd       // the first rows that are doubled, unexpected or miscounted, at most core.MaxMissingListed

	Tolerated int64 // instants and rows so near to an edit that either way is right
	Unjudged  int64 // of calendars that have changed since: neither missing nor unexpected can be said

	// Unreadable are versions whose schedule cannot be read, so that nothing could be expected of them.
	Unreadable []int64
}

// Odd is a row that should not be as it is.
type Odd struct {
	At    time.Time // UTC
	RunID string
	What  string // doubled, unexpected or miscounted
}

// Balanced says that nothing is missing, doubled, unexpected or miscounted.
func (r Result) Balanced() bool {
	return r.Missing == 0 && r.Doubled == 0 && r.Unexpected == 0 && r.Miscounted == 0
}

// Reconcile holds a task's rows against what its history expects of from <= t < to. Rows come in the order of FireAt,
// those over several instants included that begin before from and reach into it, and those from before it after which
// nothing more comes (max_runs, poisoned); rows of other series, of runs by hand and else outside the time are passed over, and the same row may come twice (from the store and from history). It fails with
// the first error of rows, or with KindInvalid if they are not in order. Memory does not depend on their number.
func Reconcile(h History, from, to time.Time, rows iter.Seq2[core.Run, error]) (Result, error) {
	r := NewReconciler(h, from, to)
	for run, err := range rows {
		if err != nil {
			return Result{}, err
		}
		if err := r.Add(&run); err != nil {
			return Result{}, err
		}
	}
	return r.End(), nil
}

// Reconciler is Reconcile for rows that are handed on one by one. It serves one task, once, and one goroutine.
type Reconciler struct {
	result  Result
	h       History
	want    cursor
	more    bool      // want stands at an instant that no row has reached yet
	covered time.Time // all instants up to here have been looked at
	asked   time.Time // FireAt of the row before, and the ids of the rows there
	ids     []string
	closed  time.Time // a row said that nothing more comes until the next edit: that edit
	moves   bool      // the calendars move fires of some version
	live    []core.Run
}

// NewReconciler begins a reconciliation of one task over from <= t < to.
func NewReconciler(h History, from, to time.Time) *Reconciler {
	r := &Reconciler{h: h, covered: from.Add(-tick)}
	r.result = Result{From: from.UTC(), To: to.UTC(), Skipped: map[core.Reason]int64{}}
	r.want = r.h.cursor(from, to)
	r.more = r.want.next()
	for _, v := range h.Versions {
		r.moves = r.moves || v.Schedule.HasCalendars() && v.Schedule.OnDayOff != "" && v.Schedule.OnDayOff != "skip"
	}
	return r
}

// Live takes the rows of the task that are not in history yet, in any order, and keeps them until their turn has come
// among those that are added. It must be called before Add.
func (r *Reconciler) Live(rows []core.Run) {
	r.live = slices.Clone(rows)
	slices.SortStableFunc(r.live, func(a, b core.Run) int { return a.FireAt.Compare(b.FireAt) })
}

// Add takes the next row; run is not kept. It fails with KindInvalid if run comes before the one before it.
func (r *Reconciler) Add(run *core.Run) error {
	for len(r.live) > 0 && !r.live[0].FireAt.After(run.FireAt) {
		if err := r.add(&r.live[0]); err != nil {
			return err
		}
		r.live = r.live[1:]
	}
	return r.add(run)
}

func (r *Reconciler) add(run *core.Run) error {
	through := run.FireThrough
	if through.Before(run.FireAt) {
		through = run.FireAt
	}
	if run.Series != "" || run.Trigger != core.TriggerSchedule && run.Trigger != core.TriggerCatchUp || !run.FireAt.Before(r.result.To) {
		return nil
	}
	if through.Before(r.result.From) {
		if closing(run) {
			r.close(run)
		}
		return nil
	}
	switch order := run.FireAt.Compare(r.asked); {
	case order < 0:
		return core.Errorf(core.KindInvalid, "reconcile task "+run.TaskID, "row %s at %s comes after one at %s", run.ID,
			run.FireAt.UTC().Format(time.RFC3339Nano), r.asked.UTC().Format(time.RFC3339Nano))
	case order > 0:
		r.asked, r.ids = run.FireAt, r.ids[:0]
	}
	if slices.Contains(r.ids, run.ID) {
		return nil
	}
	r.ids = append(r.ids, run.ID)
	if r.free(run) {
		return nil
	}

	first, last, whole := run.FireAt, through, true
	if first.Before(r.result.From) {
		first, whole = r.result.From, false
	}
	if !last.Before(r.result.To) {
		last, whole = r.result.To.Add(-tick), false
	}
	if !first.After(r.covered) {
		r.twice(run, first, last)
		whole = false
	}
	r.pass(first)
	r.cover(run, first, last, whole)
	if last.After(r.covered) {
		r.covered = last
	}
	if closing(run) {
		r.close(run)
	}
	return nil
}

// closing says that after a row nothing more comes until the task is changed.
func closing(run *core.Run) bool {
	return run.Reason == core.ReasonMaxRuns || run.Reason == core.ReasonPoisoned
}

// End gives the result: what no row has reached is missing.
func (r *Reconciler) End() Result {
	for i := range r.live {
		_ = r.add(&r.live[i]) // they are in order, and after all that was added
	}
	r.pass(r.result.To)
	for i := range r.want.reigns {
		if v := &r.want.reigns[i]; v.err != nil {
			r.result.Unreadable = append(r.result.Unreadable, v.task.Version)
		}
	}
	return r.result
}

// free takes the rows of a version whose fires do not follow from time: that there are some says that they were wanted.
func (r *Reconciler) free(run *core.Run) bool {
	for i := range r.want.reigns {
		v := &r.want.reigns[i]
		if v.task.Version != run.TaskVersion {
			continue
		}
		if plan := r.h.schedule(v); plan != nil && follows(plan) {
			return false
		}
		r.count(run, int64(max(1, run.FireCount)))
		if len(r.ids) > 1 {
			r.odd(run, "doubled", &r.result.Doubled, 1)
		}
		return true
	}
	return false
}

// count adds n instants that a row decides.
func (r *Reconciler) count(run *core.Run, n int64) {
	r.result.Expected += n
	r.result.Decided += n
	if run.Verdict == core.Skipped {
		if n > 0 {
			r.result.Skipped[run.Reason] += n
		}
		return
	}
	r.result.Started += n
}

// pass goes by the instants before first: nothing has decided them.
func (r *Reconciler) pass(first time.Time) {
	for r.more && r.want.at.At.Before(first) {
		at := r.want.at
		switch {
		case at.At.Before(r.closed):
		case at.Optional:
			r.result.Tolerated++
		case r.unjudged(at.At):
			r.result.Unjudged++
		default:
			r.result.Expected++
			r.result.Missing++
			if len(r.result.MissingList) < core.MaxMissingListed {
				r.result.MissingList = append(r.result.MissingList, at.At)
			}
		}
		r.more = r.want.next()
	}
}

// cover takes the instants that a row decides; whole says that all of them are looked at.
func (r *Reconciler) cover(run *core.Run, first, last time.Time, whole bool) {
	n, optional := int64(0), int64(0)
	for r.more && !r.want.at.At.After(last) {
		n++
		if r.want.at.Optional {
			optional++
		}
		r.more = r.want.next()
	}
	r.count(run, n)
	count := int64(max(1, run.FireCount))
	switch {
	case !whole || count == n:
	case r.unjudged(first):
		r.result.Unjudged++
	case optional > 0 && count < n && count >= n-optional:
		r.result.Tolerated++
	case n == 0 && r.either(first):
		r.result.Tolerated++
	case n == 0:
		r.odd(run, "unexpected", &r.result.Unexpected, 1)
	default:
		r.odd(run, "miscounted", &r.result.Miscounted, 1)
	}
}

// twice looks at the part of a row that lies where other rows have been.
func (r *Reconciler) twice(run *core.Run, first, last time.Time) {
	if last.After(r.covered) {
		last = r.covered
	}
	n := int64(0)
	for c := r.h.cursor(first, last.Add(tick)); c.next(); {
		n++
	}
	switch {
	case n > 0 || r.either(first):
		r.odd(run, "doubled", &r.result.Doubled, max(1, n))
	case r.unjudged(first):
		r.result.Unjudged++
	default:
		r.odd(run, "unexpected", &r.result.Unexpected, 1)
	}
}

// either says whether an instant belongs to a version that held at about that time.
func (r *Reconciler) either(at time.Time) bool {
	for i := range r.want.reigns {
		v := &r.want.reigns[i]
		if !v.holds(at, Slack) || !v.task.Enabled {
			continue
		}
		if plan := r.h.schedule(v); plan == nil {
			return true
		} else if _, ok := fireAt(plan, at); ok || !follows(plan) {
			return true
		}
	}
	return false
}

// unjudged says whether what the calendars said of at is no longer known, and matters.
func (r *Reconciler) unjudged(at time.Time) bool {
	return r.moves && at.Before(r.h.Recalendared)
}

// close notes that a row was the last one until the task is changed.
func (r *Reconciler) close(run *core.Run) {
	for i := range r.want.reigns {
		v := &r.want.reigns[i]
		if v.task.Version != run.TaskVersion {
			continue
		}
		r.closed = v.to
		if v.to.IsZero() {
			r.closed = r.result.To
		}
	}
}

func (r *Reconciler) odd(run *core.Run, what string, count *int64, n int64) {
	*count += n
	if len(r.result.Odd) < core.MaxMissingListed {
		r.result.Odd = append(r.result.Odd, Odd{At: run.FireAt.UTC(), RunID: run.ID, What: what})
	}
}
