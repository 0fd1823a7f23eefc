package clickhouse

import (
	"context"
	"slices"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// firesWhere gives the conditions of a filter, cursor and limit apart. ok is false if it can select nothing.
func firesWhere(f core.FireFilter) (w where, ok bool) {
	if f.Namespaces != nil {
		w.add("namespace IN {namespaces:Array(String)}", ch.Named("namespaces", f.Namespaces))
	}
	if f.TaskID != "" {
		w.add("task_id = {task_id:String}", ch.Named("task_id", f.TaskID))
	}
	if !f.From.IsZero() {
		w.add("fire_through >= {from:"+inUTC+"}", instant("from", f.From))
	}
	if !f.To.IsZero() {
		w.add("fire_at <= {to:"+inUTC+"}", instant("to", f.To))
	}
	if f.Reasons != nil {
		reasons := make([]string, len(f.Reasons))
		for i, reason := range f.Reasons {
			reasons[i] = string(reason)
		}
		w.add("reason IN {reasons:Array(String)}", ch.Named("reasons", reasons))
	}
	return w, f.Namespaces == nil || len(f.Namespaces) > 0
}

// Fires gives what was decided about nominal instants, oldest first, ranges of skipped ones that overlap the time
// included: for each row a Run with everything a fire has, Facts too, and Verdict Skipped or none. It fails with
// KindInvalid if the limit is not between 1 and 10,000.
func (c *Client) Fires(ctx context.Context, f core.FireFilter) ([]core.Run, error) {
	const op = "read fires from history"
	if f.Limit < 1 || f.Limit > 10_000 {
		return nil, core.Errorf(core.KindInvalid, op, "limit %d is not between 1 and 10,000", f.Limit)
	}
	all := []core.Run{}
	w, ok := firesWhere(f)
	if !ok {
		return all, nil
	}
	if !f.AfterAt.IsZero() {
		w.add("(fire_at, run_id) > ({after_at:"+inUTC+"}, {after_id:String})", instant("after_at", f.AfterAt), ch.Named("after_id", f.AfterID))
	}
	w.args = append(w.args, ch.Named("limit", uint32(f.Limit)))
	query := `SELECT namespace, task, task_type, task_id, task_version, run_id, trigger, fire_at, fire_through, fire_count, decision, reason,
  ` + policySelect + `, decided_at, server, created_by, facts
FROM fires WHERE ` + w.String() + ` ORDER BY fire_at, run_id LIMIT {limit:UInt32}`
	err := c.each(ctx, query, w.args, func(rows driver.Rows) error {
		var (
			r                                core.Run
			trigger, decision, reason, facts string
			count                            uint32
			p                                policies
		)
		err := rows.Scan(&r.Namespace, &r.TaskName, &r.TaskType, &r.TaskID, &r.TaskVersion, &r.ID, &trigger, &r.FireAt, &r.FireThrough, &count, &decision, &reason,
			&r.Series, &p.moved, &r.WorkflowID, &r.Step, &r.CausedBy, &p.priority, &p.gate, &r.GateKey, &p.waits, &p.stop, &r.StopBy, &p.breaches,
			&r.DecidedAt, &r.Owner, &r.CreatedBy, &facts)
		if err != nil {
			return err
		}
		fire(&r, trigger, decision, reason, count)
		r.Facts = rawJSON(facts)
		err = p.into(&r)
		all = append(all, r)
		return err
	})
	if err != nil {
		return nil, serverError(op, err)
	}
	return all, nil
}

func fire(r *core.Run, trigger, decision, reason string, count uint32) {
	r.State, r.Trigger, r.Reason, r.FireCount = core.RunEnded, core.Trigger(trigger), core.Reason(reason), int(count)
	if decision == "skipped" {
		r.Verdict = core.Skipped
	}
}

// Bounds of EachFire.
const (
	eachSeconds  = 1800       // for each statement, with a caller that is slow to take the rows
	eachMemory   = 1500 << 20 // of the server for each statement, bytes
	eachSort     = 256 << 20  // of it for sorting, where it must; then it goes on on disk
	maxScattered = 5000       // tasks that are asked for one by one
)

// EachFire hands on every row that Fires would, without a limit: all of one task in the order (FireAt, ID), then all of
// the next. The tasks are in no particular order. Facts and what a fire waited for are left out. It takes bounded memory
// here and on the server, whatever the number of rows, and ends with the first error of each. The Run handed to each is
// used again after it returns.
//
// Rows are stored by the names of tasks, and read so they need not be sorted (10 million rows: 1.2 s and no memory to
// speak of, sorted by id 2.5 s and a gigabyte). A task that has had two names in that time, or a name that has belonged
// to two tasks, is not in one piece then: these few are asked for by themselves.
func (c *Client) EachFire(ctx context.Context, f core.FireFilter, each func(*core.Run) error) error {
	w, ok := firesWhere(f)
	if !ok {
		return nil
	}
	scattered, err := c.scattered(ctx, w)
	if err != nil {
		return err
	}
	if len(scattered) > maxScattered {
		return c.eachFire(ctx, w, "task_id, fire_at, run_id", each)
	}
	others := w
	if len(scattered) > 0 {
		others = w.with("task_id NOT IN {scattered:Array(String)}", ch.Named("scattered", scattered))
	}
	if err := c.eachFire(ctx, others, "namespace, task, fire_at, run_id", each); err != nil {
		return err
	}
	for _, id := range scattered {
		if err := c.eachFire(ctx, w.with("task_id = {of:String}", ch.Named("of", id)), "fire_at, run_id", each); err != nil {
			return err
		}
	}
	return nil
}

// scattered gives the tasks whose rows do not lie together: that had several names, or a name another task had too.
func (c *Client) scattered(ctx context.Context, w where) (ids []string, err error) {
	query := `SELECT DISTINCT task_id FROM
(SELECT task_id, count() OVER (PARTITION BY task_id) AS names, count() OVER (PARTITION BY namespace, task) AS ids FROM
  (SELECT DISTINCT namespace, task, task_id FROM fires WHERE ` + w.String() + `))
WHERE names > 1 OR ids > 1 ORDER BY task_id LIMIT {limit:UInt32}`
	limited := append(slices.Clone(w.args), ch.Named("limit", uint32(maxScattered+1)))
	err = c.each(ctx, query, limited, func(rows driver.Rows) error {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, id)
		return nil
	})
	return ids, serverError("read fires from history", err)
}

func (c *Client) eachFire(ctx context.Context, w where, order string, each func(*core.Run) error) error {
	const op = "read fires from history"
	query := `SELECT namespace, task, task_id, task_version, run_id, trigger, series, fire_at, moved_from, fire_through, fire_count, decision, reason, decided_at
FROM fires WHERE ` + w.String() + ` ORDER BY ` + order
	ctx, cancel := context.WithCancel(ctx) // an answer that is not read to its end is ended
	defer cancel()
	rows, err := c.conn.Query(settings(ctx, exact(ch.Settings{
		"readonly": 1, "max_execution_time": eachSeconds, "max_memory_usage": eachMemory, "max_bytes_before_external_sort": eachSort,
	})), query, w.args...)
	if err != nil {
		return serverError(op, err)
	}
	defer rows.Close()
	var (
		r                         core.Run
		trigger, decision, reason string
		count                     uint32
		moved                     *time.Time
	)
	for rows.Next() {
		r, moved = core.Run{}, nil
		if err := rows.Scan(&r.Namespace, &r.TaskName, &r.TaskID, &r.TaskVersion, &r.ID, &trigger, &r.Series, &r.FireAt, &moved, &r.FireThrough, &count, &decision, &reason, &r.DecidedAt); err != nil {
			return serverError(op, err)
		}
		fire(&r, trigger, decision, reason, count)
		if moved != nil {
			r.MovedFrom = *moved
		}
		if err := each(&r); err != nil {
			return err
		}
	}
	return serverError(op, rows.Err())
}

// maxUsual bounds the tasks of an answer of Durations.
const maxUsual = 200_000

// Durations gives, by task id, how long the successful runs took that fired at or after since (from the start of their
// last attempt), in one statement for all of them: of taskIDs, else of the namespaces, else of all. A task without a
// successful run is left out. Percentiles are t-digests: right to about 1 %.
func (c *Client) Durations(ctx context.Context, namespaces, taskIDs []string, since time.Time) (map[string]core.Usual, error) {
	const op = "read usual durations from history"
	usual := make(map[string]core.Usual)
	if namespaces != nil && len(namespaces) == 0 || taskIDs != nil && len(taskIDs) == 0 {
		return usual, nil
	}
	var w where
	w.add("outcome = 'succeeded' AND started_at IS NOT NULL AND fire_at >= {since:"+inUTC+"}", instant("since", since))
	if namespaces != nil {
		w.add("namespace IN {namespaces:Array(String)}", ch.Named("namespaces", namespaces))
	}
	if taskIDs != nil {
		w.add("task_id IN {task_ids:Array(String)}", ch.Named("task_ids", taskIDs))
	}
	w.args = append(w.args, ch.Named("limit", uint32(maxUsual)))
	query := `SELECT task_id, count(), quantilesTDigest(0.5, 0.95)(duration_ms) AS q, max(duration_ms)
FROM runs WHERE ` + w.String() + ` GROUP BY task_id LIMIT {limit:UInt32}`
	err := c.each(ctx, query, w.args, func(rows driver.Rows) error {
		var (
			id      string
			u       core.Usual
			q       []float32
			longest *float64
		)
		if err := rows.Scan(&id, &u.Count, &q, &longest); err != nil {
			return err
		}
		if longest == nil || len(q) != 2 {
			return nil
		}
		u.Max = milliseconds(*longest)
		u.P50, u.P95 = min(milliseconds(float64(q[0])), u.Max), min(milliseconds(float64(q[1])), u.Max)
		usual[id] = u
		return nil
	})
	if err != nil {
		return nil, serverError(op, err)
	}
	return usual, nil
}

// milliseconds makes a span in whole microseconds; a clock that was set back makes it 0.
func milliseconds(ms float64) time.Duration {
	return time.Duration(max(0, ms)*1000+0.5) * time.Microsecond
}

// Reconciliations gives what was found about days, the newest day first, then by namespace and task. It fails with
// KindInvalid if the limit is not between 1 and 10,000.
func (c *Client) Reconciliations(ctx context.Context, f core.ReconciliationFilter) ([]core.Reconciliation, error) {
	const op = "read reconciliations from history"
	if f.Limit < 1 || f.Limit > 10_000 {
		return nil, core.Errorf(core.KindInvalid, op, "limit %d is not between 1 and 10,000", f.Limit)
	}
	all := []core.Reconciliation{}
	if f.Namespaces != nil && len(f.Namespaces) == 0 {
		return all, nil
	}
	var w where
	if f.Namespaces != nil {
		w.add("namespace IN {namespaces:Array(String)}", ch.Named("namespaces", f.Namespaces))
	}
	if f.TaskID != "" {
		w.add("task_id = {task_id:String}", ch.Named("task_id", f.TaskID))
	}
	if !f.From.IsZero() {
		w.add("day >= {from:Date}", ch.Named("from", f.From.UTC().Format(time.DateOnly)))
	}
	if !f.To.IsZero() {
		w.add("day < {to:Date}", ch.Named("to", f.To.UTC().Format(time.DateOnly)))
	}
	if f.Wrong {
		w.add("(missing > 0 OR doubled > 0 OR unexpected > 0 OR miscounted > 0)")
	}
	w.args = append(w.args, ch.Named("limit", uint32(f.Limit)))
	query := `SELECT day, namespace, task, task_id, expected, decided, started, skipped, missing, doubled, unexpected, miscounted, unjudged, missing_list, checked_at, server
FROM reconciliations WHERE ` + w.String() + ` ORDER BY day DESC, namespace, task, task_id LIMIT {limit:UInt32}`
	err := c.each(ctx, query, w.args, func(rows driver.Rows) error {
		var (
			r core.Reconciliation
			n [9]uint32
		)
		if err := rows.Scan(&r.Day, &r.Namespace, &r.TaskName, &r.TaskID, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7], &n[8], &r.MissingList, &r.CheckedAt, &r.Server); err != nil {
			return err
		}
		for i, into := range []*int{&r.Expected, &r.Decided, &r.Started, &r.Skipped, &r.Missing, &r.Doubled, &r.Unexpected, &r.Miscounted, &r.Unjudged} {
			*into = int(n[i])
		}
		all = append(all, r)
		return nil
	})
	if err != nil {
		return nil, serverError(op, err)
	}
	return all, nil
}

// BreakerChanges gives the changes of one breaker with from <= at < to, the newest first, at most limit (1 to 10,000).
func (c *Client) BreakerChanges(ctx context.Context, name string, from, to time.Time, limit int) ([]core.BreakerChange, error) {
	const op = "read breaker changes from history"
	if limit < 1 || limit > 10_000 {
		return nil, core.Errorf(core.KindInvalid, op, "limit %d is not between 1 and 10,000", limit)
	}
	const query = `SELECT name, at, state, failures, opened_at, probe_at, because, namespace, task, run_id
FROM breaker_changes WHERE name = {name:String} AND at >= {from:` + inUTC + `} AND at < {to:` + inUTC + `} ORDER BY at DESC, run_id LIMIT {limit:UInt32}`
	all := []core.BreakerChange{}
	err := c.each(ctx, query, []any{ch.Named("name", name), instant("from", from), instant("to", to), ch.Named("limit", uint32(limit))}, func(rows driver.Rows) error {
		var (
			b             core.BreakerChange
			state         string
			failures      uint32
			opened, probe *time.Time
		)
		if err := rows.Scan(&b.Name, &b.UpdatedAt, &state, &failures, &opened, &probe, &b.Because, &b.Namespace, &b.TaskName, &b.RunID); err != nil {
			return err
		}
		b.State, b.Failures = core.BreakerState(state), int(failures)
		if opened != nil {
			b.OpenedAt = *opened
		}
		if probe != nil {
			b.ProbeAt = *probe
		}
		all = append(all, b)
		return nil
	})
	if err != nil {
		return nil, serverError(op, err)
	}
	return all, nil
}
