package store

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
	"github.com/huandu/go-sqlbuilder"
)

// book holds breakers as the open transaction sees them, by name.
type book map[string]*bookEntry

type bookEntry struct {
	core.Breaker
	moved bool
}

// openBook reads breakers. Their locks are held.
func openBook(ctx context.Context, t session, names []string) (book, error) {
	b := make(book, len(names))
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		b[name] = &bookEntry{Breaker: core.Breaker{Name: name, State: core.BreakerClosed}}
	}
	err := each(ctx, t, names, func(s *sqlbuilder.SelectBuilder, in []any) {
		s.Select("name", "state", "failures", "successes", "opened_at", "probe_at", "probe_run", "because", "updated_at").
			From("breakers").Where(s.In("name", in...))
	}, func(rows *sql.Rows) error {
		var r sqlcgen.Breaker
		if err := rows.Scan(&r.Name, &r.State, &r.Failures, &r.Successes, &r.OpenedAt, &r.ProbeAt, &r.ProbeRun, &r.Because, &r.UpdatedAt); err != nil {
			return err
		}
		b[r.Name] = &bookEntry{Breaker: breakerOf(&r)}
		return nil
	})
	return b, err
}

func (b book) of(name string) core.Breaker { return b[name].Breaker }

func (b book) put(breaker core.Breaker) {
	e := b[breaker.Name]
	e.Breaker, e.moved = breaker, true
}

// after lets a breaker know how an attempt ended, and gives it if its state was changed.
func (b book) after(rule core.BreakerRule, runID string, outcome core.Outcome, now time.Time) []core.Breaker {
	before := b.of(rule.Name)
	after, moved := before.After(rule, runID, outcome, now)
	if !moved {
		return nil
	}
	after.Because = cut(after.Because)
	b.put(after)
	if after.State == before.State {
		return nil
	}
	return []core.Breaker{after}
}

// close writes the breakers that have moved.
func (b book) close(ctx context.Context, t session) error {
	var moved []*bookEntry
	for _, e := range b {
		if e.moved {
			moved = append(moved, e)
		}
	}
	return t.many(ctx, putBreaker, len(moved), func(i int, args []any) []any {
		e := moved[i]
		return append(args, clean(e.Name), string(e.State), int64(e.Failures), int64(e.Successes), micros(e.OpenedAt), micros(e.ProbeAt),
			e.ProbeRun, clean(e.Because), micros(e.UpdatedAt))
	}, nil)
}

// leave frees what runs hold as their attempts are over. A breaker that one of them is the probe of even now, because
// nothing was said to it, is told how that one left, as left gives it, and changed gets it if its state is another then:
// it would stay half open for ever.
func leave(ctx context.Context, t session, runs []string, left func(run string) (core.Outcome, time.Time), changed func(run string, breakers []core.Breaker)) error {
	if len(runs) == 0 {
		return nil
	}
	probed, err := t.free(ctx, runs)
	if err != nil {
		return err
	}
	probed = slices.DeleteFunc(probed, func(p sqlcgen.ProbedBreakersRow) bool { return !slices.Contains(runs, p.ProbeRun) })
	if len(probed) == 0 {
		return nil
	}
	var keys []int64
	names := make([]string, len(probed))
	for i, p := range probed {
		names[i], keys = p.Name, appendBreaker(keys, p.Name)
	}
	// Nobody could know them before. Should this lock come into the way of another transaction, one of the two is tried
	// anew.
	slices.Sort(keys)
	if err := t.lock(ctx, nil, keys); err != nil {
		return err
	}
	book, err := openBook(ctx, t, names)
	if err != nil {
		return err
	}
	for _, p := range probed {
		if b := book.of(p.Name); b.State != core.BreakerHalfOpen || b.ProbeRun != p.ProbeRun {
			continue
		}
		outcome, at := left(p.ProbeRun)
		changed(p.ProbeRun, book.after(core.BreakerRule{Name: p.Name}, p.ProbeRun, outcome, at))
	}
	return book.close(ctx, t)
}

func breakerOf(r *sqlcgen.Breaker) core.Breaker {
	return core.Breaker{Name: r.Name, State: core.BreakerState(r.State), Failures: int(r.Failures), Successes: int(r.Successes),
		OpenedAt: instant(r.OpenedAt), ProbeAt: instant(r.ProbeAt), ProbeRun: r.ProbeRun, Because: r.Because, UpdatedAt: instant(r.UpdatedAt)}
}

// Breakers gives all breakers that have ever moved, by name.
func (s *Store) Breakers(ctx context.Context) ([]core.Breaker, error) {
	var rows []sqlcgen.Breaker
	err := s.look(ctx, "list breakers", func(ctx context.Context) (err error) {
		rows, err = s.q.Breakers(ctx)
		return err
	})
	list := make([]core.Breaker, len(rows))
	for i := range rows {
		list[i] = breakerOf(&rows[i])
	}
	return list, err
}

// Breaker gives one breaker. One that has never moved is closed.
func (s *Store) Breaker(ctx context.Context, name string) (core.Breaker, error) {
	var row sqlcgen.Breaker
	err := s.look(ctx, "read breaker "+name, func(ctx context.Context) (err error) {
		row, err = s.q.ReadBreaker(ctx, name)
		return err
	})
	if notFound(err) {
		return core.Breaker{Name: name, State: core.BreakerClosed}, nil
	}
	return breakerOf(&row), err
}

// ResetBreaker closes a breaker by hand and forgets the failures. One that has never moved is closed already.
func (s *Store) ResetBreaker(ctx context.Context, name string) error {
	r := &request{keys: appendBreaker(nil, name), do: func(ctx context.Context, t session) error {
		_, err := t.queries().ResetBreaker(ctx, name, micros(s.clock.Now()))
		return err
	}}
	if task, own := strings.CutPrefix(name, ownBreaker); own {
		r.tasks = []string{task}
	}
	return s.fault("reset breaker "+name, s.w.submit(ctx, r))
}

// Holdings gives what executing runs have in use of limits, over all servers, by limit and namespace.
func (s *Store) Holdings(ctx context.Context) ([]core.Holding, error) {
	var rows []sqlcgen.HoldingsRow
	err := s.look(ctx, "list slots in use", func(ctx context.Context) (err error) {
		rows, err = s.q.Holdings(ctx)
		return err
	})
	list := make([]core.Holding, len(rows))
	for i, r := range rows {
		list[i] = core.Holding{Limit: r.LimitKey, Namespace: r.Namespace, Slots: int(r.Slots)}
	}
	return list, err
}
