package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/huandu/go-sqlbuilder"
)

// Admissions of one transaction: all that they are decided on is read at once, core.Admit decides one after the other on
// what the earlier ones have left, and what was decided is written at once. The locks taken before (writer.keys) see to
// it that no other server admits past the same limit or breaker meanwhile.

type askItem struct {
	ask *core.Admission
	out *core.Admitted
	// What became of it, for the statements.
	had    int64 // the token it had
	queued int64 // 1: it was queued or waited, and starts
	same   bool  // it waits just so already
}

// waitItem is a run that is to wait.
type waitItem struct {
	core.Hold
	same bool
	got  func(held bool)
}

// standing is a live run in the memory of an admission.
type standing struct {
	core.Standing
	taskID   string
	key      string
	until    int64
	token    int64
	priority int64
}

// scene is what admissions are decided on.
type scene struct {
	tasks   map[string]*sceneTask
	runs    map[string]*standing
	book    book
	used    map[string]int
	waiting map[string]map[int64]int // by limit and priority
}

type sceneTask struct {
	live        []*standing
	known       bool // false: it is deleted
	token       int64
	lastSuccess int64
}

// Admit decides whether queued, waiting and retrying runs may start, and writes what core.Admit rules, except that a run
// is to be skipped, stopped or superseded: that is the caller's to do.
func (s *Store) Admit(ctx context.Context, admissions []core.Admission) ([]core.Admitted, error) {
	r := &request{admissions: admissions, admitted: make([]core.Admitted, len(admissions))}
	if err := s.w.submit(ctx, r); err != nil {
		return nil, s.fault("admit runs", err)
	}
	return r.admitted, nil
}

// Hold makes queued runs wait at a gate of the caller's own, or wait on until another time. A run that is neither queued,
// waiting nor retrying, or has another token, is answered by Stale.
func (s *Store) Hold(ctx context.Context, holds []core.Hold) ([]core.Finished, error) {
	r := &request{holds: holds, finished: make([]core.Finished, len(holds))}
	if err := s.w.submit(ctx, r); err != nil {
		return nil, s.fault("hold runs", err)
	}
	return r.finished, nil
}

func (w *writer) applyHolds(ctx context.Context, reqs []*request) error {
	var items []waitItem
	for _, r := range reqs {
		for i := range r.holds {
			items = append(items, waitItem{Hold: r.holds[i], got: func(held bool) { r.finished[i] = core.Finished{Stale: !held} }})
		}
	}
	return w.writeWaits(ctx, items)
}

// writeWaits has runs wait, and notes in their facts how that stands. Nothing is written of what was noted before.
func (w *writer) writeWaits(ctx context.Context, items []waitItem) error {
	if len(items) == 0 {
		return nil
	}
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = items[i].RunID
	}
	facts := make(map[string]string, len(ids))
	err := each(ctx, w.conn, ids, func(b *sqlbuilder.SelectBuilder, in []any) {
		b.Select("id", "facts").From("runs").Where(b.In("id", in...))
	}, func(rows *sql.Rows) error {
		var id, text string
		err := rows.Scan(&id, &text)
		facts[id] = text
		return err
	})
	if err != nil {
		return err
	}
	items = slices.DeleteFunc(items, func(item waitItem) bool {
		return item.same && facts[item.RunID] == standsFacts(facts[item.RunID], &item.Hold)
	})
	return w.conn.many(ctx, holdRun, len(items), func(i int, args []any) []any {
		h := &items[i].Hold
		facts[h.RunID] = standsFacts(facts[h.RunID], h)
		return append(args, h.RunID, h.Token, string(h.Gate), clean(h.Key), micros(h.At), untilMicros(h.Until), facts[h.RunID])
	}, func(i int, affected int64, _ []int64) {
		if items[i].got != nil {
			items[i].got(affected != 0)
		}
	})
}

// untilMicros gives the end of a wait as the store keeps it: -1 for none.
func untilMicros(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return micros(t)
}

// standsFacts adds to a run's facts what it waits at and how that stands.
func standsFacts(before string, h *core.Hold) string {
	facts := map[string]json.RawMessage{}
	if json.Unmarshal([]byte(before), &facts) != nil || facts == nil {
		facts = map[string]json.RawMessage{}
	}
	for name, value := range map[string]string{"gate": string(h.Gate), "key": h.Key, "detail": h.Detail} {
		delete(facts, name)
		if value != "" {
			facts[name], _ = json.Marshal(clean(value)) // texts cannot fail
		}
	}
	text, _ := json.Marshal(facts) // nor can what was read as JSON
	return string(text)
}

func (w *writer) applyAdmissions(ctx context.Context, asks []askItem) error {
	if len(asks) == 0 {
		return nil
	}
	sc, err := w.readScene(ctx, asks)
	if err != nil {
		return err
	}
	// Who asks at the same moment asks in the order of priorities: at the full hour places are not given by chance.
	slices.SortStableFunc(asks, func(a, b askItem) int { return cmp.Compare(sc.priority(&b), sc.priority(&a)) })
	var waits []waitItem
	var starts []int
	for i := range asks {
		ask, out := asks[i].ask, asks[i].out
		switch sc.decide(&asks[i]); {
		case out.Start:
			starts = append(starts, i)
		case out.Gate != core.GateNone:
			waits = append(waits, waitItem{same: asks[i].same, Hold: core.Hold{RunID: ask.RunID, Token: ask.Token, Gate: out.Gate, Key: out.Key,
				Detail: out.Detail, At: ask.At, Until: out.Until}})
		}
	}
	if err := w.writeWaits(ctx, waits); err != nil {
		return err
	}
	err = w.conn.many(ctx, admitRun, len(starts), func(i int, args []any) []any {
		item := &asks[starts[i]]
		return append(args, item.ask.RunID, item.had, item.ask.Owner, micros(item.ask.At), item.out.Token)
	}, nil)
	if err != nil {
		return err
	}
	err = w.conn.many(ctx, countAdmit, len(starts), func(i int, args []any) []any {
		item := &asks[starts[i]]
		return append(args, item.ask.TaskID, item.out.Token, item.queued)
	}, nil)
	if err != nil {
		return err
	}
	type hold struct {
		run   string
		limit *core.Limit
	}
	var holds []hold
	for _, i := range starts {
		for j := range asks[i].ask.Limits {
			if l := &asks[i].ask.Limits[j]; l.Need > 0 {
				holds = append(holds, hold{asks[i].ask.RunID, l})
			}
		}
	}
	err = w.conn.many(ctx, takeSlots, len(holds), func(i int, args []any) []any {
		return append(args, holds[i].limit.Key, holds[i].run, int64(holds[i].limit.Need))
	}, nil)
	if err != nil {
		return err
	}
	return sc.book.close(ctx, w.conn)
}

// priority gives that of the run that asks; 0 if there is no such run.
func (sc *scene) priority(item *askItem) int64 {
	if run := sc.runs[item.ask.RunID]; run != nil {
		return run.priority
	}
	return 0
}

// decide rules on one admission and keeps what follows from it in the scene.
func (sc *scene) decide(item *askItem) {
	ask, out := item.ask, item.out
	run, task := sc.runs[ask.RunID], sc.tasks[ask.TaskID]
	*out = core.Admitted{Stale: true, LastSuccess: instant(task.lastSuccess)}
	if run == nil || run.taskID != ask.TaskID || run.token != ask.Token {
		return
	}
	switch run.State {
	case core.RunQueued, core.RunWaiting, core.RunRetrying:
	default:
		return
	}
	s := core.Standings{Run: run.Standing, Peers: make([]core.Standing, 0, len(task.live)),
		Breakers: make([]core.Breaker, len(ask.Breakers)), Rooms: make([]core.Room, len(ask.Limits))}
	for _, peer := range task.live {
		if peer != run {
			s.Peers = append(s.Peers, peer.Standing)
		}
	}
	for i := range ask.Breakers {
		s.Breakers[i] = sc.book.of(ask.Breakers[i].Name)
	}
	for i := range ask.Limits {
		s.Rooms[i] = sc.room(ask.Limits[i].Key, run)
	}
	out.Stale, out.Ruling = false, core.Admit(*ask, s)
	switch {
	case out.Start:
		item.had, item.queued = run.token, one(run.State != core.RunRetrying)
		if !task.known { // nothing else gives tokens for it
			task.token = run.token
		}
		task.token++
		sc.move(run, core.RunClaimed, run.Gate, run.key)
		run.token, out.Token = task.token, task.token
		for i := range ask.Limits {
			sc.used[ask.Limits[i].Key] += max(0, ask.Limits[i].Need)
		}
		for _, name := range out.Probe {
			b := sc.book.of(name)
			b.State, b.ProbeRun, b.UpdatedAt = core.BreakerHalfOpen, ask.RunID, ask.At
			sc.book.put(b)
		}
	case out.Gate != core.GateNone:
		until := untilMicros(out.Until)
		item.same = run.State != core.RunQueued && run.Gate == out.Gate && run.key == out.Key && run.until == until
		state := core.RunWaiting
		if run.State == core.RunRetrying {
			state = core.RunRetrying
		}
		sc.move(run, state, out.Gate, out.Key)
		run.until = until
	}
}

// room gives how a limit stands for a run.
func (sc *scene) room(key string, run *standing) core.Room {
	room := core.Room{Used: sc.used[key]}
	for priority, n := range sc.waiting[key] {
		if priority == run.priority && run.capacity() == key {
			n-- // itself
		}
		room.Waiting += n
		if priority >= run.priority {
			room.Ahead += n
		}
	}
	return room
}

// capacity gives the limit that a run waits for; "": none.
func (r *standing) capacity() string {
	if r.State == core.RunWaiting && r.Gate == core.GateCapacity {
		return r.key
	}
	return ""
}

func (sc *scene) move(run *standing, state core.RunState, gate core.Gate, key string) {
	if at := run.capacity(); at != "" {
		sc.waits(at, run.priority, -1)
	}
	run.State, run.Gate, run.key = state, gate, key
	if at := run.capacity(); at != "" {
		sc.waits(at, run.priority, 1)
	}
}

func (sc *scene) waits(key string, priority int64, more int) {
	if sc.waiting[key] == nil {
		sc.waiting[key] = map[int64]int{}
	}
	sc.waiting[key][priority] += more
}

func (w *writer) readScene(ctx context.Context, asks []askItem) (*scene, error) {
	sc := &scene{tasks: map[string]*sceneTask{}, runs: map[string]*standing{}, used: map[string]int{}, waiting: map[string]map[int64]int{}}
	var tasks, names, limits []string
	for i := range asks {
		ask := asks[i].ask
		if sc.tasks[ask.TaskID] == nil {
			sc.tasks[ask.TaskID] = &sceneTask{}
			tasks = append(tasks, ask.TaskID)
		}
		for j := range ask.Breakers {
			names = append(names, ask.Breakers[j].Name)
		}
		for j := range ask.Limits {
			limits = append(limits, ask.Limits[j].Key)
		}
	}
	slices.Sort(limits)
	limits = slices.Compact(limits)
	err := each(ctx, w.conn, tasks, func(b *sqlbuilder.SelectBuilder, in []any) {
		b.Select("task_id", "token", "last_success").From("task_state").Where(b.In("task_id", in...))
	}, func(rows *sql.Rows) error {
		var id string
		var token, success int64
		if err := rows.Scan(&id, &token, &success); err != nil {
			return err
		}
		t := sc.tasks[id]
		t.known, t.token, t.lastSuccess = true, token, success
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, w.conn, tasks, func(b *sqlbuilder.SelectBuilder, in []any) {
		b.Select("id", "task_id", "state", "gate", "gate_key", "wait_until", "fire_at", "start_at", "trigger_kind", "priority", "token").From("runs").
			Where("state <> 'ended'", b.In("task_id", in...)).OrderBy("task_id", "id") // in these words, so that the index runs_live is used
	}, func(rows *sql.Rows) error {
		r := &standing{}
		var fireAt, startAt int64
		if err := rows.Scan(&r.RunID, &r.taskID, &r.State, &r.Gate, &r.key, &r.until, &fireAt, &startAt, &r.Trigger, &r.priority, &r.token); err != nil {
			return err
		}
		r.FireAt, r.StartAt = instant(fireAt), instant(startAt)
		sc.runs[r.RunID] = r
		sc.tasks[r.taskID].live = append(sc.tasks[r.taskID].live, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if sc.book, err = openBook(ctx, w.conn, names); err != nil {
		return nil, err
	}
	err = each(ctx, w.conn, limits, func(b *sqlbuilder.SelectBuilder, in []any) {
		b.Select("limit_key", "CAST(SUM(slots) AS BIGINT)").From("holds").Where(b.In("limit_key", in...)).GroupBy("limit_key")
	}, func(rows *sql.Rows) error {
		var key string
		var n int
		err := rows.Scan(&key, &n)
		sc.used[key] = n
		return err
	})
	if err != nil {
		return nil, err
	}
	return sc, each(ctx, w.conn, limits, func(b *sqlbuilder.SelectBuilder, in []any) {
		b.Select("gate_key", "priority", "COUNT(*)").From("runs").
			Where("wait_until <> 0", "state = 'waiting'", "gate = 'capacity'", b.In("gate_key", in...)).GroupBy("gate_key", "priority")
	}, func(rows *sql.Rows) error {
		var key string
		var priority int64
		var n int
		err := rows.Scan(&key, &priority, &n)
		sc.waits(key, priority, n)
		return err
	})
}

// each selects rows by a list of values, as many at a time as a statement takes, in the open transaction.
func each(ctx context.Context, t session, values []string, build func(b *sqlbuilder.SelectBuilder, in []any), row func(rows *sql.Rows) error) error {
	for part := range slices.Chunk(values, inList) {
		b := sqlbuilder.PostgreSQL.NewSelectBuilder()
		build(b, sqlbuilder.Flatten(part))
		text, args := b.Build()
		rows, err := t.rows(ctx, text, args...)
		if err != nil {
			return err
		}
		for err == nil && rows.Next() {
			err = row(rows)
		}
		if err := errors.Join(err, rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	return nil
}

// inList is how many values one IN takes.
const inList = 500
