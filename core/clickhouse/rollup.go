package clickhouse

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

//go:embed rollups/*.sql
var rollupFiles embed.FS

// rollups are the statements that make the days of some namespaces anew, one for each table of roll-ups.
var rollups = []string{"runs_day", "runs_hour", "errors_day", "servers_day"}

// Bounds of the roll-ups.
const (
	// settled is how long an insert may take to be seen after the server gave it its time (shipped_at): a day that got rows
	// is made anew as they come, and once more when nothing has come for so long.
	settled = 10 * time.Minute
	// stepRows is how many rows of fires, runs and attempts are read at once; a day of a namespace that has more is read alone.
	stepRows = 1_000_000
	// passTime is how long a pass goes on; what is left is the next one's.
	passTime = 20 * time.Second
	// A pass that left nothing is followed by idleShare times as long of rest, within these bounds: 3 % of the time at most.
	idleShare = 30
	minRest   = 5 * time.Second
	maxRest   = 10 * time.Minute
	rollupMem = 1 << 30 // of the server for each statement, bytes
)

// RolledUp says how far the roll-ups are.
type RolledUp struct {
	Days    int           // days of namespaces that this pass has made anew
	Left    int           // that were due and are left to the next pass
	Through time.Time     // everything that history got some minutes before is in; zero: not everything ever was; clock of the ClickHouse server
	Took    time.Duration // how long the pass took
	Rest    time.Duration // until the next is due
	Behind  time.Duration // how long ago everything was in; 0 if Through is zero
}

// unit is one day of one namespace, what is made anew at once.
type unit struct {
	namespace string
	day       time.Time
	rows      uint64
}

// RollUp makes anew what has got rows since it was last made, the youngest days first. It computes whole days from rows
// without repeats and replaces what stood there, so it may be repeated, break off anywhere, and run on several servers at
// once.
func (c *Client) RollUp(ctx context.Context) (RolledUp, error) {
	const op = "roll up history"
	began := time.Now()
	now, through, _, err := c.rolledUp(ctx)
	if err != nil {
		return RolledUp{}, serverError(op, err)
	}
	due, err := c.due(ctx, through, now)
	if err != nil {
		return RolledUp{}, serverError(op, err)
	}
	r := RolledUp{Left: len(due), Through: through}
	for _, s := range steps(due) {
		if r.Days > 0 && time.Since(began) > passTime {
			r.Took = time.Since(began)
			r.Rest = r.Took // half of the time, until all is done
			return r, nil
		}
		if err := c.rollUp(ctx, s); err != nil {
			return r, serverError(op, err)
		}
		r.Days, r.Left = r.Days+s.size(), r.Left-s.size()
	}
	r.Through, r.Took = now, time.Since(began)
	r.Rest, r.Behind = rest(r.Took), r.Took
	return r, serverError(op, c.conn.Exec(ctx, "INSERT INTO rollups (namespace, day, rows_seen, computed_at, took_ms) SELECT '', toDate(0), 0, {now:"+inUTC+"}, {took:UInt32}",
		instant("now", now), ch.Named("took", uint32(r.Took.Milliseconds()))))
}

func rest(took time.Duration) time.Duration { return min(max(idleShare*took, minRest), maxRest) }

// RollupState says how far the roll-ups are, without doing anything.
func (c *Client) RollupState(ctx context.Context) (RolledUp, error) {
	now, through, took, err := c.rolledUp(ctx)
	r := RolledUp{Through: through, Took: took}
	if !through.IsZero() && !through.After(now) {
		r.Behind = now.Sub(through)
		r.Rest = max(0, rest(took)-r.Behind)
	}
	return r, serverError("read how far the roll-ups are", err)
}

// rolledUp gives the server's time, that of the last pass that left nothing, and how long it took.
func (c *Client) rolledUp(ctx context.Context) (now, through time.Time, took time.Duration, err error) {
	var ms uint32
	row := c.conn.QueryRow(settings(ctx, ch.Settings{"readonly": 1, "final": 0}), "SELECT now64(6, 'UTC'), max(computed_at), argMax(took_ms, computed_at) FROM rollups WHERE namespace = ''")
	if err = row.Scan(&now, &through, &ms); err != nil {
		return now, through, 0, err
	}
	if through.Unix() == 0 {
		through = time.Time{}
	}
	return now, through, time.Duration(ms) * time.Millisecond, nil
}

// due gives the days that have got rows since they were last made, or that must be made once more because a row may have
// been seen late. The clock meant is always that of the ClickHouse server; if it was set back, days made "in the future"
// are made again.
func (c *Client) due(ctx context.Context, through, now time.Time) ([]unit, error) {
	since := time.Unix(0, 0)
	if !through.IsZero() {
		if through.After(now) {
			through = now
		}
		since = through.Add(-2 * settled)
	}
	var parts []string
	for _, table := range []string{"runs", "attempts", "fires"} {
		parts = append(parts, "SELECT namespace, toDate(fire_at) AS day, max(shipped_at) AS newest, count() AS fresh FROM "+table+" WHERE shipped_at >= {since:DateTime('UTC')} GROUP BY namespace, day")
	}
	query := `SELECT toString(f.namespace), f.day, f.fresh + m.rows_seen
FROM (SELECT namespace, day, max(newest) AS newest, sum(fresh) AS fresh FROM (` + strings.Join(parts, " UNION ALL ") + `) GROUP BY namespace, day) AS f
LEFT JOIN (SELECT namespace, day, max(computed_at) AS made, argMax(rows_seen, computed_at) AS rows_seen FROM rollups WHERE namespace != '' GROUP BY namespace, day) AS m USING (namespace, day)
WHERE f.newest >= toDateTime(m.made, 'UTC') OR m.made > {now:` + inUTC + `}
   OR m.made < f.newest + {settled:UInt32} AND {now:` + inUTC + `} >= f.newest + {settled:UInt32}
ORDER BY f.day DESC, f.namespace`
	ctx = settings(ctx, ch.Settings{"readonly": 1, "final": 0, "distributed_product_mode": "global", "max_execution_time": 300, "max_memory_usage": uint64(rollupMem)})
	rows, err := c.conn.Query(ctx, query, ch.Named("since", since.UTC().Format(time.DateTime)), instant("now", now), ch.Named("settled", uint32(settled.Seconds())))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []unit
	for rows.Next() {
		var u unit
		if err := rows.Scan(&u.namespace, &u.day, &u.rows); err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, rows.Err()
}

// step is some days of some namespaces, each with each, all in one month: what one statement makes anew.
type step struct {
	namespaces []string
	days       []time.Time
}

func (s step) size() int { return len(s.namespaces) * len(s.days) }

// steps puts days together so that a statement reads about stepRows: a namespace's part of a month is read in one go
// whether one day is needed of it or all. due is sorted by day, youngest first.
func steps(due []unit) []step {
	type chunk struct {
		namespace string
		days      []time.Time
		rows      uint64
	}
	month := func(t time.Time) int { return t.Year()*12 + int(t.Month()) }
	var chunks []*chunk
	open := make(map[string]*chunk)
	for _, u := range due {
		last := open[u.namespace]
		if last == nil || month(last.days[0]) != month(u.day) || last.rows+u.rows > stepRows {
			last = &chunk{namespace: u.namespace}
			open[u.namespace] = last
			chunks = append(chunks, last)
		}
		last.days = append(last.days, u.day)
		last.rows += u.rows
	}
	var all []step
	var rows uint64
	for _, ch := range chunks {
		last := len(all) - 1
		if last >= 0 && slices.EqualFunc(all[last].days, ch.days, time.Time.Equal) && rows+ch.rows <= stepRows {
			all[last].namespaces = append(all[last].namespaces, ch.namespace)
			rows += ch.rows
			continue
		}
		all = append(all, step{[]string{ch.namespace}, ch.days})
		rows = ch.rows
	}
	return all
}

// rollUp makes one step anew and then says that it did.
func (c *Client) rollUp(ctx context.Context, s step) error {
	days := make([]string, len(s.days))
	for i, day := range s.days {
		days[i] = day.Format(time.DateOnly)
	}
	from, to := slices.MinFunc(s.days, time.Time.Compare), slices.MaxFunc(s.days, time.Time.Compare).AddDate(0, 0, 1)
	args := []any{ch.Named("namespaces", s.namespaces), ch.Named("days", days), instant("from", from), instant("to", to)}
	ctx = settings(ctx, ch.Settings{
		"max_execution_time": 600, "max_memory_usage": uint64(rollupMem), "max_bytes_before_external_group_by": uint64(rollupMem / 4),
		"insert_deduplicate": 0, "final": 0, "distributed_product_mode": "global",
	})
	var at time.Time
	if err := c.conn.QueryRow(ctx, "SELECT now64(6, 'UTC')").Scan(&at); err != nil {
		return err
	}
	for _, name := range rollups {
		text, err := rollupFiles.ReadFile("rollups/" + name + ".sql")
		if err != nil {
			return err
		}
		if err := c.conn.Exec(ctx, string(text), args...); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	const done = `INSERT INTO rollups (namespace, day, rows_seen, computed_at, took_ms)
SELECT u.namespace, u.day, r.rows_seen, {at:` + inUTC + `}, 0
FROM (SELECT arrayJoin({namespaces:Array(String)}) AS namespace, arrayJoin({days:Array(Date)}) AS day) AS u
LEFT JOIN (SELECT toString(namespace) AS namespace, day, sum(rows_seen) AS rows_seen FROM runs_day FINAL WHERE namespace IN {namespaces:Array(String)} AND day IN {days:Array(Date)} GROUP BY namespace, day) AS r
USING (namespace, day)`
	return c.conn.Exec(ctx, done, append(args[:2:2], instant("at", at))...)
}

// KeepRolledUp makes roll-ups anew until ctx ends, at intervals that depend on what it costs; a pass of another server
// counts. It holds turn while it writes, and says in the log what does not go well, and goes on.
func (c *Client) KeepRolledUp(ctx context.Context, turn sync.Locker) {
	for {
		r, err := c.RollupState(ctx)
		if err == nil && r.Rest == 0 {
			turn.Lock()
			r, err = c.RollUp(ctx)
			turn.Unlock()
		}
		wait := r.Rest
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && core.KindOf(err) == core.KindUnavailable: // said by those whose rows wait
			c.log.Debug("roll-ups not made", "err", err)
			wait = 30 * time.Second
		case err != nil:
			c.log.Warn("roll-ups not made", "err", err)
			wait = time.Minute
		case r.Left > 0:
			c.log.Info("roll-ups are being made", "days", r.Days, "left", r.Left, "took_ms", r.Took.Milliseconds())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
