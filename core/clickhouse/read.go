package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// where collects conditions and the values they bind.
type where struct {
	conditions []string
	args       []any
}

func (w *where) add(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

func (w *where) with(condition string, args ...any) where {
	return where{append(slices.Clone(w.conditions), condition), append(slices.Clone(w.args), args...)}
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return "1"
	}
	return strings.Join(w.conditions, " AND ")
}

// instant binds a time for a {name:DateTime64(6, 'UTC')} placeholder.
func instant(name string, at time.Time) driver.NamedValue {
	return ch.Named(name, at.UTC().Format("2006-01-02 15:04:05.000000"))
}

const inUTC = "DateTime64(6, 'UTC')"

// window are the bounds within which the rows of a run almost always lie: a run is claimed shortly before it fires,
// and its id begins with the time of its claim. Only a run that caught up long after its instant lies outside. A
// search in the window reads one or two partitions instead of all.
func window(runID string) (from, to time.Time, ok bool) {
	at, ok := idTime(runID)
	return at.Add(-36 * time.Hour), at.Add(36 * time.Hour), ok
}

// idTime gives the time in a UUIDv7 (RFC 9562, section 5.7).
func idTime(id string) (time.Time, bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[14] != '7' {
		return time.Time{}, false
	}
	var ms int64
	for _, c := range id[:8] + id[9:13] {
		digit := strings.IndexRune("0123456789abcdef", c)
		if digit < 0 {
			return time.Time{}, false
		}
		ms = ms<<4 | int64(digit)
	}
	return time.UnixMilli(ms).UTC(), true
}

// idFrom gives the least UUIDv7 of a time.
func idFrom(at time.Time) string {
	ms := max(0, at.UnixMilli())
	return fmt.Sprintf("%08x-%04x-7000-8000-000000000000", ms>>16, ms&0xffff)
}

// place is where the rows of a run lie: the beginning of the ORDER BY of every table that has runs.
type place struct {
	namespace, task string
	fireAt          time.Time
}

// maxPlaces bounds how many runs' places are remembered. A page of a log or a live tail asks for the same run again
// and again.
const maxPlaces = 4096

// placeOf finds where the rows of a run lie in a table. With it, a page of a run of a million lines reads the parts of
// the table that hold the page, and not the whole run.
func (c *Client) placeOf(ctx context.Context, table, runID string) (at place, found bool, err error) {
	c.placesMu.Lock()
	at, found = c.places[runID]
	c.placesMu.Unlock()
	if found {
		return at, true, nil
	}
	ask := func(w where) error {
		query := "SELECT namespace, task, fire_at FROM " + table + " WHERE " + w.String() + " LIMIT 1"
		rows, err := c.conn.Query(settings(ctx, ch.Settings{"readonly": 1, "max_execution_time": 30}), query, w.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			found = true
			if err := rows.Scan(&at.namespace, &at.task, &at.fireAt); err != nil {
				return err
			}
		}
		return rows.Err()
	}
	var w where
	w.add("run_id = {run_id:String}", ch.Named("run_id", runID))
	if from, to, ok := window(runID); ok {
		err = ask(w.with("fire_at >= {from:"+inUTC+"} AND fire_at < {to:"+inUTC+"}", instant("from", from), instant("to", to)))
	}
	if !found && err == nil {
		err = ask(w)
	}
	if found && err == nil {
		c.placesMu.Lock()
		if len(c.places) >= maxPlaces {
			clear(c.places)
		}
		c.places[strings.Clone(runID)] = at
		c.placesMu.Unlock()
	}
	return at, found, err
}

// ofRun reads rows of one run from a table. $WHERE in query stands for what selects them.
func (c *Client) ofRun(ctx context.Context, table, runID, query string, w where, scan func(driver.Rows) error) (found bool, err error) {
	at, found, err := c.placeOf(ctx, table, runID)
	if err != nil || !found {
		return false, err
	}
	w.add("namespace = {namespace:String} AND task = {task:String} AND fire_at = {fire_at:"+inUTC+"} AND run_id = {run_id:String}",
		ch.Named("namespace", at.namespace), ch.Named("task", at.task), instant("fire_at", at.fireAt), ch.Named("run_id", runID))
	found = false
	err = c.each(ctx, strings.Replace(query, "$WHERE", w.String(), 1), w.args, func(rows driver.Rows) error {
		found = true
		return scan(rows)
	})
	return found, err
}

func (c *Client) each(ctx context.Context, query string, args []any, scan func(driver.Rows) error) error {
	return eachOf(ctx, c.conn, query, args, scan)
}

func eachOf(ctx context.Context, conn driver.Conn, query string, args []any, scan func(driver.Rows) error) error {
	rows, err := conn.Query(settings(ctx, reading()), query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// policySelect are the columns that scanRun and scanFire read behind the decision.
const policySelect = `series, moved_from, workflow_id, step, caused_by, priority, gate, gate_key, wait_since, stop, stop_by, breaches_json`

const runSelect = `SELECT namespace, task, task_type, task_id, task_version, run_id, trigger, fire_at, fire_at AS fire_through, toUInt32(1) AS fire_count,
  ` + policySelect + `, decided_at, server, created_by, outcome, '' AS reason, message, started_at, ended_at, attempts, token, params, output,
  cpu_us, cpu_source, peak_rss_bytes, rss_source, read_bytes, write_bytes, io_source FROM runs PREWHERE $WHERE`

const skippedSelect = `SELECT namespace, task, task_type, task_id, task_version, run_id, trigger, fire_at, fire_through, fire_count,
  ` + policySelect + `, decided_at, server, created_by, 'skipped' AS outcome, reason, '' AS message, CAST(NULL AS Nullable(` + inUTC + `)) AS started_at, decided_at AS ended_at, toUInt16(0) AS attempts, toInt64(0) AS token, '' AS params, '' AS output,
  toUInt64(0) AS cpu_us, 'unknown' AS cpu_source, toUInt64(0) AS peak_rss_bytes, 'unknown' AS rss_source, toUInt64(0) AS read_bytes, toUInt64(0) AS write_bytes, 'unknown' AS io_source FROM fires PREWHERE decision = 'skipped' AND $WHERE`

// scanRun reads a row of runSelect or skippedSelect.
func scanRun(rows driver.Rows) (core.Run, error) {
	var (
		r                              core.Run
		trigger, outcome, reason       string
		params, output                 string
		cpuSource, rssSource, ioSource string
		count                          uint32
		number                         uint16
		started                        *time.Time
		cpu                            uint64
		p                              policies
	)
	err := rows.Scan(&r.Namespace, &r.TaskName, &r.TaskType, &r.TaskID, &r.TaskVersion, &r.ID, &trigger, &r.FireAt, &r.FireThrough, &count,
		&r.Series, &p.moved, &r.WorkflowID, &r.Step, &r.CausedBy, &p.priority, &p.gate, &r.GateKey, &p.waits, &p.stop, &r.StopBy, &p.breaches,
		&r.DecidedAt, &r.Owner, &r.CreatedBy, &outcome, &reason, &r.Message, &started, &r.EndedAt, &number, &r.Token, &params, &output,
		&cpu, &cpuSource, &r.Usage.PeakRSSBytes, &rssSource, &r.Usage.ReadBytes, &r.Usage.WriteBytes, &ioSource)
	if err != nil {
		return r, err
	}
	r.State, r.Trigger, r.Verdict, r.Reason = core.RunEnded, core.Trigger(trigger), core.Verdict(outcome), core.Reason(reason)
	r.FireCount, r.Attempt, r.Params, r.Output = int(count), int(number), rawJSON(params), rawJSON(output)
	r.Usage.CPU = time.Duration(cpu) * time.Microsecond
	r.Usage.CPUSource, r.Usage.RSSSource, r.Usage.IOSource = core.Source(cpuSource), core.Source(rssSource), core.Source(ioSource)
	if started != nil {
		r.StartedAt = *started
	}
	return r, p.into(&r)
}

// policies are the columns of policySelect that a Run holds as another type.
type policies struct {
	moved, waits         *time.Time
	priority             int16
	gate, stop, breaches string
}

func (p *policies) into(r *core.Run) error {
	r.Priority, r.Gate, r.Stop = int(p.priority), core.Gate(p.gate), core.Stop(p.stop)
	if p.moved != nil {
		r.MovedFrom = *p.moved
	}
	if p.waits != nil {
		r.WaitSince = *p.waits
	}
	if p.breaches == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(p.breaches), &r.Breaches); err != nil {
		return core.Errorf(core.KindDamaged, "read a run from history", "run %s: its breaches cannot be read: %w", r.ID, err)
	}
	return nil
}

func rawJSON(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// Run gives an ended run or skipped fire; KindNotFound if history has none of that id (it may still be live).
func (c *Client) Run(ctx context.Context, id string) (core.Run, error) {
	const op = "read a run from history"
	var run core.Run
	scan := func(rows driver.Rows) (err error) {
		run, err = scanRun(rows)
		return err
	}
	found, err := c.ofRun(ctx, "runs", id, runSelect, where{}, scan)
	if err == nil && !found {
		found, err = c.ofRun(ctx, "fires", id, skippedSelect, where{}, scan)
	}
	if err != nil {
		return core.Run{}, serverError(op, err)
	}
	if !found {
		return core.Run{}, core.Refuse(core.KindNotFound, op, core.Text{Zh: "历史中没有运行 " + id, En: fmt.Sprintf("history has no run %q", id)})
	}
	var facts string
	_, err = c.ofRun(ctx, "fires", id, "SELECT facts FROM fires WHERE $WHERE", where{}, func(rows driver.Rows) error { return rows.Scan(&facts) })
	if err != nil {
		return core.Run{}, serverError(op, err)
	}
	run.Facts = rawJSON(facts)
	return run, nil
}

// Runs gives ended runs and skipped fires, newest first, without their Facts.
func (c *Client) Runs(ctx context.Context, f core.RunFilter) ([]core.Run, error) {
	const op = "read runs from history"
	if f.LiveOnly || len(f.States) > 0 && !slices.Contains(f.States, core.RunEnded) {
		return nil, nil
	}
	if f.Limit < 1 || f.Limit > 1000 {
		return nil, core.Errorf(core.KindInvalid, op, "limit %d is not between 1 and 1000", f.Limit)
	}
	if f.Namespaces != nil && len(f.Namespaces) == 0 {
		return nil, nil
	}
	query, w := runsQuery(f)
	newest := time.Now()
	if at, ok := idTime(f.BeforeID); ok {
		newest = at
	}
	steps := []time.Duration{24 * time.Hour, 35 * 24 * time.Hour, 0}
	if f.TaskID != "" {
		// The name of a task is a prefix of the key, its id only a skip index: three to four times the work.
		places, err := c.taskPlaces(ctx, f.TaskID)
		if err != nil {
			return nil, serverError(op, err)
		}
		if len(places) > 0 {
			names, namespaces := make([]string, len(places)), make([]string, len(places))
			for i, p := range places {
				names[i], namespaces[i] = p.name, p.namespace
			}
			w.add("namespace IN {of:Array(String)} AND task IN {names:Array(String)}", ch.Named("of", namespaces), ch.Named("names", names))
			if steps, err = c.reach(ctx, namespaces, names, newest, f.Limit, steps); err != nil {
				return nil, serverError(op, err)
			}
		}
	}
	// Newest first means largest id first, and an id begins with a time. So the search goes back in steps and stops
	// as soon as it has enough; the last step has no bound. What a run has caused is younger than the run, so that there
	// one step does, with a day's allowance for the clocks of several servers.
	for _, cause := range []string{f.WorkflowID, f.CausedBy} {
		if at, ok := idTime(cause); ok {
			w.add("run_id >= {cause:String}", ch.Named("cause", idFrom(at.Add(-24*time.Hour))))
			steps = []time.Duration{0}
			break
		}
	}
	enough := time.Duration(0) // how far back the page reaches if all went on as in the step before
	for _, step := range steps {
		if step > 0 && step < enough {
			continue
		}
		bounded := w
		if step > 0 {
			bounded = w.with("run_id >= {oldest:String}", ch.Named("oldest", idFrom(newest.Add(-step))))
		}
		found := make([]core.Run, 0, f.Limit)
		err := c.each(ctx, strings.ReplaceAll(query, "$WHERE", bounded.String()), bounded.args, func(rows driver.Rows) error {
			run, err := scanRun(rows)
			found = append(found, run)
			return err
		})
		if err != nil {
			return nil, serverError(op, err)
		}
		if len(found) == f.Limit || step == 0 {
			return found, nil
		}
		if len(found) > 0 {
			enough = step * time.Duration(f.Limit) / time.Duration(len(found))
		}
	}
	return nil, nil
}

// reach leaves out the steps that cannot hold limit runs of a task by the roll-up of days, so that a page of one that fires each
// week is not looked for in a day and a month first. The roll-up may be behind: the step without a bound stays.
func (c *Client) reach(ctx context.Context, namespaces, names []string, newest time.Time, limit int, steps []time.Duration) ([]time.Duration, error) {
	runs, first := 0, time.Time{}
	err := c.each(ctx, `SELECT day, runs FROM runs_day WHERE namespace IN {of:Array(String)} AND task IN {names:Array(String)} AND day <= {newest:Date} ORDER BY day DESC LIMIT {limit:UInt32}`,
		[]any{ch.Named("of", namespaces), ch.Named("names", names), ch.Named("newest", newest.UTC().Format(time.DateOnly)), ch.Named("limit", uint32(limit))}, func(rows driver.Rows) error {
			var day time.Time
			var n uint64
			err := rows.Scan(&day, &n)
			if runs < limit {
				runs, first = runs+int(min(n, uint64(limit))), day
			}
			return err
		})
	switch {
	case err != nil, runs == 0:
		return steps, err
	case runs < limit:
		return []time.Duration{0}, nil
	}
	// A run is made on the day of its instant or, seldom, before: its id is of that time.
	back := newest.Sub(first)
	long := slices.DeleteFunc(steps, func(step time.Duration) bool { return step > 0 && step < back-24*time.Hour })
	if len(long) == 1 {
		long = []time.Duration{back + 24*time.Hour, 0}
	}
	return long, nil
}

// runsQuery gives the statement for a filter, with $WHERE once for each table asked.
func runsQuery(f core.RunFilter) (string, where) {
	var w where
	if len(f.Namespaces) > 0 {
		w.add("namespace IN {namespaces:Array(String)}", ch.Named("namespaces", f.Namespaces))
	}
	if f.TaskID != "" {
		w.add("task_id = {task_id:String}", ch.Named("task_id", f.TaskID))
	}
	if f.TaskType != "" {
		w.add("task_type = {task_type:String}", ch.Named("task_type", f.TaskType))
	}
	if f.WorkflowID != "" {
		w.add("workflow_id = {workflow_id:String}", ch.Named("workflow_id", f.WorkflowID))
	}
	if f.CausedBy != "" {
		w.add("caused_by = {caused_by:String}", ch.Named("caused_by", f.CausedBy))
	}
	if !f.From.IsZero() {
		w.add("fire_at >= {from:"+inUTC+"}", instant("from", f.From))
	}
	if !f.To.IsZero() {
		w.add("fire_at < {to:"+inUTC+"}", instant("to", f.To))
	}
	if f.BeforeID != "" {
		w.add("run_id < {before_id:String}", ch.Named("before_id", f.BeforeID))
	}
	w.args = append(w.args, ch.Named("limit", uint32(f.Limit)))
	const last = " ORDER BY run_id DESC LIMIT {limit:UInt32}"
	skipped := len(f.Verdicts) == 0 || slices.Contains(f.Verdicts, core.Skipped)
	others := make([]string, 0, len(f.Verdicts))
	for _, v := range f.Verdicts {
		if v != core.Skipped {
			others = append(others, string(v))
		}
	}
	ended := runSelect
	if len(f.Verdicts) > 0 {
		ended += " AND outcome IN {outcomes:Array(String)}"
		w.args = append(w.args, ch.Named("outcomes", others))
	}
	switch {
	case skipped && len(f.Verdicts) > 0 && len(others) == 0:
		return skippedSelect + last, w
	case skipped:
		return "SELECT * FROM (" + ended + last + " UNION ALL " + skippedSelect + last + ")" + last, w
	default:
		return ended + last, w
	}
}

// Attempts gives the ended attempts of a run, in order.
func (c *Client) Attempts(ctx context.Context, runID string) ([]core.AttemptRecord, error) {
	const query = `SELECT namespace, task, task_type, task_id, run_id, attempt, fire_at, token, started_at, began_at, ended_at, retry_at, outcome, message,
  cpu_us, cpu_source, peak_rss_bytes, rss_source, read_bytes, write_bytes, io_source, server, plugin, plugin_version, pid FROM attempts WHERE $WHERE ORDER BY attempt`
	var all []core.AttemptRecord
	_, err := c.ofRun(ctx, "attempts", runID, query, where{}, func(rows driver.Rows) error {
		var (
			r                              core.AttemptRecord
			number                         uint16
			began, retry                   *time.Time
			outcome                        string
			cpu                            uint64
			cpuSource, rssSource, ioSource string
			pid                            uint32
		)
		err := rows.Scan(&r.Namespace, &r.TaskName, &r.TaskType, &r.TaskID, &r.RunID, &number, &r.FireAt, &r.Token, &r.StartedAt, &began, &r.EndedAt, &retry, &outcome, &r.Message,
			&cpu, &cpuSource, &r.Usage.PeakRSSBytes, &rssSource, &r.Usage.ReadBytes, &r.Usage.WriteBytes, &ioSource,
			&r.Place.Server, &r.Place.Plugin, &r.Place.Version, &pid)
		if err != nil {
			return err
		}
		r.Place.PID = int(pid)
		r.Attempt, r.Verdict, r.Usage.CPU = int(number), core.Verdict(outcome), time.Duration(cpu)*time.Microsecond
		r.Usage.CPUSource, r.Usage.RSSSource, r.Usage.IOSource = core.Source(cpuSource), core.Source(rssSource), core.Source(ioSource)
		if began != nil {
			r.Began = *began
		}
		if retry != nil {
			r.RetryAt = *retry
		}
		all = append(all, r)
		return nil
	})
	if err != nil {
		return nil, serverError("read attempts from history", err)
	}
	return all, nil
}

// Lines gives log lines of one run in the order (Attempt, Seq). Lines that are not shipped yet are not here.
func (c *Client) Lines(ctx context.Context, f core.LineFilter) ([]core.LoggedLine, error) {
	const op = "read log lines from history"
	if f.Limit < 1 || f.Limit > 10000 {
		return nil, core.Errorf(core.KindInvalid, op, "limit %d is not between 1 and 10000", f.Limit)
	}
	var w where
	if f.Attempt > 0 {
		w.add("attempt = {attempt:UInt16}", ch.Named("attempt", uint16(f.Attempt)))
	}
	if f.MinLevel > 0 {
		w.add("toInt8(level) >= {level:Int8}", ch.Named("level", int8(f.MinLevel)))
	}
	if f.AfterAttempt > 0 || f.AfterSeq > 0 {
		w.add("attempt >= {after_attempt:UInt16} AND (attempt > {after_attempt:UInt16} OR seq > {after_seq:UInt64})", ch.Named("after_attempt", uint16(f.AfterAttempt)), ch.Named("after_seq", f.AfterSeq))
	}
	if f.Text != "" {
		w.add(containsText, ch.Named("text", f.Text))
	}
	w.args = append(w.args, ch.Named("limit", uint32(f.Limit)))
	const query = `SELECT namespace, task, task_type, task_id, run_id, attempt, fire_at, seq, at, toInt8(level), toInt8(stream), message, attrs
FROM run_logs WHERE $WHERE ORDER BY attempt, seq LIMIT {limit:UInt32}`
	var lines lineReader
	_, err := c.ofRun(ctx, "run_logs", f.RunID, query, w, lines.scan)
	if err != nil {
		return nil, serverError(op, err)
	}
	return lines.all, nil
}

// Samples gives what the attempts of a run were using, in the order of time.
func (c *Client) Samples(ctx context.Context, runID string) ([]core.RunSample, error) {
	const query = `SELECT namespace, task, task_type, task_id, run_id, attempt, fire_at, at, cpu_us, cpu_source, rss_bytes, rss_source, read_bytes, write_bytes, io_source, final
FROM run_samples WHERE $WHERE ORDER BY attempt, at LIMIT 100000`
	var all []core.RunSample
	_, err := c.ofRun(ctx, "run_samples", runID, query, where{}, func(rows driver.Rows) error {
		var (
			s                              core.RunSample
			number                         uint16
			cpu                            uint64
			cpuSource, rssSource, ioSource string
		)
		err := rows.Scan(&s.Namespace, &s.TaskName, &s.TaskType, &s.TaskID, &s.RunID, &number, &s.FireAt, &s.At, &cpu, &cpuSource, &s.RSSBytes, &rssSource, &s.ReadBytes, &s.WriteBytes, &ioSource, &s.Final)
		if err != nil {
			return err
		}
		s.Attempt, s.CPU = int(number), time.Duration(cpu)*time.Microsecond
		s.CPUSource, s.RSSSource, s.IOSource = core.Source(cpuSource), core.Source(rssSource), core.Source(ioSource)
		all = append(all, s)
		return nil
	})
	if err != nil {
		return nil, serverError("read samples from history", err)
	}
	return all, nil
}

var errClosed = errors.New("the answer was closed")
