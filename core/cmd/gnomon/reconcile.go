package main

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
	"github.com/gnomon-scheduler/gnomon/core/metrics"
)

const wholeDay = 24 * time.Hour

// yesterday gives the last whole day, UTC.
func yesterday(now time.Time) (from, to time.Time) {
	to = now.UTC().Truncate(wholeDay)
	return to.Add(-wholeDay), to
}

// Reconcile holds what should have run against what did.
func (i insight) Reconcile(ctx context.Context, namespaces []string, from, to time.Time) (api.Reconciliation, error) {
	if from.IsZero() && to.IsZero() {
		from, to = yesterday(i.a.clock.Now())
	}
	answer := api.Reconciliation{From: instant(from), To: instant(to), Sound: true}
	// What is due this very moment may be on its way.
	if edge := i.a.clock.Now().Add(-settling); to.After(edge) {
		to = edge
		answer.To = instant(to)
		answer.Partial = "the last moments are left out: their fires may be on their way"
	}
	if !from.Before(to) {
		return answer, nil
	}
	err := i.reconcile(ctx, namespaces, from, to, func(task core.Task, r ledger.Result) error {
		if r.Expected == 0 && r.Unexpected == 0 && len(r.Unreadable) == 0 {
			return nil
		}
		item := api.Reconciled{
			TaskID: task.ID, Namespace: task.Namespace, TaskName: task.Name, Expected: r.Expected, Decided: r.Decided, Started: r.Started,
			Skipped: make(map[string]int64, len(r.Skipped)), Missing: r.Missing, Doubled: r.Doubled, Unexpected: r.Unexpected, Miscounted: r.Miscounted,
			Tolerated: r.Tolerated, Unjudged: r.Unjudged, Unreadable: r.Unreadable,
		}
		for reason, n := range r.Skipped {
			item.Skipped[string(reason)] = n
		}
		for _, at := range r.MissingList {
			item.MissingAt = append(item.MissingAt, api.Time{Time: at})
		}
		for _, odd := range r.Odd {
			item.Odd = append(item.Odd, api.OddDecision{At: instant(odd.At), RunID: odd.RunID, What: odd.What})
		}
		answer.Sound = answer.Sound && r.Balanced()
		answer.Items = append(answer.Items, item)
		return nil
	})
	return answer, err
}

// settling is how long after an instant its decision is certainly on record: claims are made ahead of it, so this is for
// a server that is just starting.
const settling = 30 * time.Second

// reconcile does it task by task; a task's result is given as soon as it is there.
func (i insight) reconcile(ctx context.Context, namespaces []string, from, to time.Time, each func(core.Task, ledger.Result) error) error {
	filter := core.TaskFilter{Namespaces: namespaces, Limit: 1000}
	for {
		page, err := i.a.definitions.Tasks(ctx, filter)
		if err != nil {
			return err
		}
		for _, task := range page {
			result, err := i.reconcileTask(ctx, task, from, to)
			if err != nil {
				return err
			}
			if err := each(task, result); err != nil {
				return err
			}
		}
		if len(page) < filter.Limit {
			return nil
		}
		filter.AfterID = page[len(page)-1].ID
	}
}

func (i insight) reconcileTask(ctx context.Context, task core.Task, from, to time.Time) (ledger.Result, error) {
	versions, err := i.a.store.TaskVersions(ctx, task.ID)
	if err != nil {
		return ledger.Result{}, err
	}
	h := ledger.History{Versions: versions, Plan: i.planOf}
	if h.Recalendared, err = i.recalendared(ctx, task); err != nil {
		return ledger.Result{}, err
	}
	// The store first: a row leaves it only once history has it. What is in both counts once.
	kept, err := pages(ctx, core.RunFilter{TaskID: task.ID, Namespaces: []string{task.Namespace}, To: to, Limit: 1000}, i.a.store.Runs)
	if err != nil {
		return ledger.Result{}, err
	}
	if ends := slices.ContainsFunc(versions, func(v core.Task) bool { return i.a.definitions.Effective(v).Policies.MaxRuns > 0 }); ends || task.State.NextFire.IsZero() {
		// After such a row nothing more comes, and it may be much older than from.
		before := core.FireFilter{Namespaces: []string{task.Namespace}, TaskID: task.ID, To: from, Reasons: []core.Reason{core.ReasonMaxRuns, core.ReasonPoisoned}}
		if err := i.a.history.EachFire(ctx, before, func(run *core.Run) error { kept = append(kept, *run); return nil }); err != nil {
			return ledger.Result{}, err
		}
	}
	slices.SortFunc(kept, func(a, b core.Run) int { return a.FireAt.Compare(b.FireAt) })
	return ledger.Reconcile(h, from, to, i.rows(ctx, task, from, to, kept))
}

// errEnough ends the reading of rows that nobody wants any more.
var errEnough = errors.New("enough")

// rows gives a task's rows in the order of their instants: those of history, with those still in the store among them.
func (i insight) rows(ctx context.Context, task core.Task, from, to time.Time, kept []core.Run) iter.Seq2[core.Run, error] {
	return func(yield func(core.Run, error) bool) {
		err := i.a.history.EachFire(ctx, core.FireFilter{Namespaces: []string{task.Namespace}, TaskID: task.ID, From: from, To: to}, func(run *core.Run) error {
			for len(kept) > 0 && !kept[0].FireAt.After(run.FireAt) {
				if !yield(kept[0], nil) {
					return errEnough
				}
				kept = kept[1:]
			}
			if !yield(*run, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil {
			if !errors.Is(err, errEnough) {
				yield(core.Run{}, err)
			}
			return
		}
		for _, run := range kept {
			if !yield(run, nil) {
				return
			}
		}
	}
}

// accountant reconciles each day once it is over and looks for broken invariants in between, and keeps what it found last.
type accountant struct {
	insight insight

	mu     sync.Mutex
	last   accounts
	broken *metrics.Invariants // nil: not looked yet
}

// invariants gives what the last look at the store's invariants found; nil: nobody has looked yet.
func (c *accountant) invariants() *metrics.Invariants {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// invariantNames are the rules of store.CheckInvariants.
var invariantNames = []string{"counters", "owner", "token", "version", "mark", "verdict", "hold", "gate", "breaker", "reference"}

// look looks for broken invariants.
func (c *accountant) look(ctx context.Context) {
	a := c.insight.a
	found, err := a.store.CheckInvariants(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Warn("invariants not checked", "err", err)
		}
		return
	}
	broken := &metrics.Invariants{CheckedAt: a.clock.Now(), Broken: make(map[string]int, len(invariantNames))}
	for _, rule := range invariantNames {
		broken.Broken[rule] = 0
	}
	for _, v := range found {
		broken.Broken[v.Rule]++
		a.log.Error("invariant broken", "rule", v.Rule, "task_id", v.TaskID, "run_id", v.RunID, "detail", v.Detail)
	}
	c.mu.Lock()
	c.broken = broken
	c.mu.Unlock()
}

// accounts is what a day's reconciliation came to.
type accounts struct {
	day                   time.Time
	missing, doubled, odd int // instants decided never, and more than once; rows that are unexpected or miscounted
	tasks                 int
	at                    time.Time
}

func (f *accounts) add(r *ledger.Result) {
	f.tasks++
	f.missing += int(r.Missing)
	f.doubled += int(r.Doubled)
	f.odd += int(r.Unexpected + r.Miscounted)
}

// reconciliation is the row of history that says what a task's day came to.
func reconciliation(task *core.Task, r *ledger.Result, day, now time.Time, server string) core.Reconciliation {
	skipped := int64(0)
	for _, n := range r.Skipped {
		skipped += n
	}
	return core.Reconciliation{
		Day: day, Namespace: task.Namespace, TaskName: task.Name, TaskID: task.ID, Expected: int(r.Expected), Decided: int(r.Decided),
		Started: int(r.Started), Skipped: int(skipped), Missing: int(r.Missing), Doubled: int(r.Doubled), Unexpected: int(r.Unexpected),
		Miscounted: int(r.Miscounted), Unjudged: int(r.Unjudged), MissingList: r.MissingList, CheckedAt: now, Server: server,
	}
}

// latest gives the last day's result; ok is false if there is none yet.
func (c *accountant) latest() (accounts, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, !c.last.at.IsZero()
}

// run looks for broken invariants every five minutes, and reconciles the day before some minutes after midnight (UTC) and
// when the server starts, until ctx ends.
func (c *accountant) run(ctx context.Context) {
	a := c.insight.a
	for wait := time.Minute; ; wait = 5 * time.Minute {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		c.look(ctx)
		now := a.clock.Now()
		day, _ := yesterday(now)
		if last, ok := c.latest(); ok && last.day.Equal(day) || now.Sub(now.Truncate(wholeDay)) < 5*time.Minute {
			continue
		}
		if err := c.account(ctx, day, now); err != nil && ctx.Err() == nil {
			a.log.Warn("day not reconciled yet", "day", day.Format(time.DateOnly), "err", err)
		}
	}
}

func (c *accountant) account(ctx context.Context, day, now time.Time) error {
	a := c.insight.a
	found := accounts{day: day, at: now}
	var batch []core.Reconciliation
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		id := "reconciliations-" + day.Format(time.DateOnly) + "-" + batch[0].TaskID + "-" + batch[len(batch)-1].TaskID
		err := a.history.WriteReconciliations(ctx, id, batch)
		batch = batch[:0]
		return err
	}
	err := c.insight.reconcile(ctx, nil, day, day.Add(wholeDay), func(task core.Task, r ledger.Result) error {
		found.add(&r)
		if !r.Balanced() {
			a.log.Error("ledger does not balance", "task", task.Namespace+"/"+task.Name, "day", day.Format(time.DateOnly), "missing", r.Missing, "doubled", r.Doubled, "unexpected", r.Unexpected, "miscounted", r.Miscounted)
		}
		if r.Expected == 0 && r.Balanced() {
			return nil
		}
		batch = append(batch, reconciliation(&task, &r, day, now, a.id))
		if len(batch) < 1000 {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.last = found
	c.mu.Unlock()
	a.log.Info("day reconciled", "day", day.Format(time.DateOnly), "tasks", found.tasks, "missing", found.missing, "doubled", found.doubled, "odd", found.odd)
	return nil
}
