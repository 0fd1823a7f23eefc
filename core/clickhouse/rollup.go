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
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

//go:embed rollups/*.sql
var rollupFiles embed.FS

// rollups are the statements that make the days of some namespaces anew, one for each table of roll-ups, in the order in
// which one reads another. Those of all namespaces together are in costs.go.
var rollups = []string{"runs_day", "namespaces_day", "runs_hour", "errors_day", "servers_day"}

// Bounds of the roll-ups.
const (
	// settled is how long an insert may take to be seen after the server gave it its time (shipped_at): a day that got rows
	// is made anew as they come, and once more when nothing has come for so long.
	settled = 10 * time.Minute
	// stepRows is how many rows of fires, runs and attempts are read at once; a day of a namespace that has more is read alone.
	stepRows = 1_000_000
	// A pass makes days for passTime, and for passShare times as long as it took to see which are due: in 300 million rows that
	// may be half a minute. What is left is the next one's.
	passTime  = 20 * time.Second
	passShare = 4
	// A pass that left nothing is followed by idleShare times as long of rest, within these bounds: 1 % of the time at most,
	// but for a history whose pass takes longer than 6 s. A pass over few rows takes a core for a second at most; if it took
	// longer the machine was busy with something else, which is no reason to leave views old. While a server is young somebody
	// may be trying it out: then what takes next to nothing comes sooner.
	idleShare = 100
	minRest   = 30 * time.Second
	maxRest   = 10 * time.Minute
	fewRows   = stepRows / 2
	fewRest   = time.Minute
	young     = 3 * time.Minute
	youngRest = 5 * time.Second
	// lateness, beyond a rest and a pass, is no reason to warn: thinning and backups have their turn, too.
	lateness  = time.Minute
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
	Usual   time.Duration // how far behind they may be before something is wrong; 0 if Through is zero
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
func (c *Client) RollUp(ctx context.Context) (RolledUp, error) { return c.rollUpAll(ctx, young) }

// rollUpAll is RollUp by a keeper of some age.
func (c *Client) rollUpAll(ctx context.Context, age time.Duration) (RolledUp, error) {
	const op = "roll up history"
	began := time.Now()
	p, err := c.rolledUp(ctx)
	if err != nil {
		return RolledUp{}, serverError(op, err)
	}
	if err := c.addUp(ctx); err != nil {
		return RolledUp{}, serverError(op, err)
	}
	due, err := c.due(ctx, p.through, p.now)
	if err != nil {
		return RolledUp{}, serverError(op, err)
	}
	costsDue, err := c.costsDue(ctx, p.costsThrough, p.now)
	if err != nil {
		return RolledUp{}, serverError(op, err)
	}
	r, rows := RolledUp{Left: len(due) + len(costsDue), Through: p.through}, rowsOf(due)+rowsOf(costsDue)
	enough := passUntil(began, time.Now())
	for _, part := range []struct {
		steps []step
		do    func(context.Context, step) error
	}{{steps(due), c.rollUp}, {steps(costsDue), c.rollUpCosts}} { // neighbours read what runs usually take
		for _, s := range part.steps {
			if r.Days > 0 && time.Now().After(enough) {
				r.Took = time.Since(began)
				r.Rest = r.Took // half of the time, until all is done
				return r, nil
			}
			if err := part.do(ctx, s); err != nil {
				return r, serverError(op, err)
			}
			r.Days, r.Left = r.Days+s.size(), r.Left-s.size()
		}
	}
	r.Through, r.Took = p.now, time.Since(began)
	r.Rest, r.Behind = rest(r.Took, age, rows), r.Took
	return r, serverError(op, c.conn.Exec(ctx, "INSERT INTO rollups (namespace, day, rows_seen, computed_at, took_ms) SELECT arrayJoin(['', {everyone:String}]), toDate(0), {rows:UInt64}, {now:"+inUTC+"}, {took:UInt32}",
		ch.Named("everyone", everyone), ch.Named("rows", rows), instant("now", p.now), ch.Named("took", uint32(r.Took.Milliseconds()))))
}

// passUntil is when a pass that saw at one instant what is due, having begun at another, leaves the rest to the next.
func passUntil(began, looked time.Time) time.Time {
	return looked.Add(max(passTime, passShare*looked.Sub(began)))
}

// rowsOf is how many rows the days have.
func rowsOf(due []unit) (rows uint64) {
	for _, u := range due {
		rows += u.rows
	}
	return rows
}

// rest is how long after a pass that left nothing the next is due: took is how long it took for days of so many rows, age is
// how long the server has been keeping roll-ups.
func rest(took, age time.Duration, rows uint64) time.Duration {
	least, most := minRest, maxRest
	if age < young {
		least = youngRest
	}
	if rows <= fewRows {
		most = fewRest
	}
	return min(max(idleShare*took, least), most)
}

// RollupState says how far the roll-ups are, without doing anything.
func (c *Client) RollupState(ctx context.Context) (RolledUp, error) { return c.rollupState(ctx, young) }

func (c *Client) rollupState(ctx context.Context, age time.Duration) (RolledUp, error) {
	p, err := c.rolledUp(ctx)
	if p.costsThrough.IsZero() { // costs and neighbours are being made for the first time, so not everything ever was in
		return RolledUp{Took: p.took}, serverError("read how far the roll-ups are", err)
	}
	r := RolledUp{Through: p.through, Took: p.took}
	if !p.through.IsZero() && !p.through.After(p.now) {
		r.Behind = p.now.Sub(p.through)
		r.Rest = max(0, rest(p.took, age, p.rows)-r.Behind)
	}
	if !p.through.IsZero() {
		r.Usual = rest(p.took, young, p.rows) + p.took + lateness
	}
	return r, serverError("read how far the roll-ups are", err)
}

// passed is how far the roll-ups are.
type passed struct {
	now                   time.Time     // of the server's clock
	through, costsThrough time.Time     // of the last pass that left nothing, of namespaces and of all together; zero: there was none
	took                  time.Duration // how long it took
	rows                  uint64        // how many the days had that it made anew
}

func (c *Client) rolledUp(ctx context.Context) (passed, error) {
	var p passed
	var ms uint32
	row := c.conn.QueryRow(settings(ctx, with(look(), ch.Settings{"readonly": 1, "final": 0})), `SELECT now64(6, 'UTC'), maxIf(computed_at, namespace = ''), maxIf(computed_at, namespace = {everyone:String}), argMaxIf(took_ms, computed_at, namespace = ''), argMaxIf(rows_seen, computed_at, namespace = '')
FROM rollups WHERE namespace IN ('', {everyone:String}) AND day = toDate(0)`, ch.Named("everyone", everyone))
	if err := row.Scan(&p.now, &p.through, &p.costsThrough, &ms, &p.rows); err != nil {
		return p, err
	}
	for _, at := range []*time.Time{&p.through, &p.costsThrough} {
		if at.Unix() == 0 {
			*at = time.Time{}
		}
	}
	p.took = time.Duration(ms) * time.Millisecond
	return p, nil
}

// due gives the days that have got rows since they were last made, or that must be made once more because a row may have
// been seen late. The clock meant is always that of the ClickHouse server; if it was set back, days made "in the future"
// are made again.
func (c *Client) due(ctx context.Context, through, now time.Time) ([]unit, error) {
	var parts []string
	for _, table := range []string{"runs", "attempts", "fires"} {
		parts = append(parts, "SELECT toString(namespace) AS namespace, toDate(fire_at) AS day, max(shipped_at) AS newest, count() AS fresh FROM "+table+" WHERE shipped_at >= {since:DateTime('UTC')} GROUP BY namespace, day")
	}
	return c.dueOf(ctx, through, now, strings.Join(parts, " UNION ALL "))
}

// dueOf is due; came says when rows of which days of whom came.
func (c *Client) dueOf(ctx context.Context, through, now time.Time, came string) ([]unit, error) {
	since := time.Unix(0, 0)
	if !through.IsZero() {
		if through.After(now) {
			through = now
		}
		since = through.Add(-2 * settled)
	}
	query := `SELECT f.namespace, f.day, f.fresh + m.rows_seen
FROM (SELECT namespace, day, max(newest) AS newest, sum(fresh) AS fresh FROM (` + came + `) GROUP BY namespace, day) AS f
LEFT JOIN (SELECT toString(namespace) AS namespace, day, max(computed_at) AS made, argMax(rows_seen, computed_at) AS rows_seen FROM rollups WHERE namespace != '' GROUP BY namespace, day) AS m USING (namespace, day)
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

// args are what its statements are given.
func (s step) args() []any {
	days := make([]string, len(s.days))
	for i, day := range s.days {
		days[i] = day.Format(time.DateOnly)
	}
	from, to := slices.MinFunc(s.days, time.Time.Compare), slices.MaxFunc(s.days, time.Time.Compare).AddDate(0, 0, 1)
	return []any{ch.Named("namespaces", s.namespaces), ch.Named("days", days), instant("from", from), instant("to", to)}
}

// rollingUp are the bounds of the statements that make days anew. One thread: who starts runs on the same machine shall
// not wait for a view.
func rollingUp(ctx context.Context) context.Context {
	return settings(ctx, ch.Settings{
		"max_execution_time": 600, "max_memory_usage": uint64(rollupMem), "max_bytes_before_external_group_by": uint64(rollupMem / 4), "max_threads": 1,
		"insert_deduplicate": 0, "final": 0, "distributed_product_mode": "global",
	})
}

func (c *Client) serverTime(ctx context.Context) (at time.Time, err error) {
	return at, c.conn.QueryRow(settings(ctx, look()), "SELECT now64(6, 'UTC')").Scan(&at)
}

func (c *Client) rollUpTable(ctx context.Context, name string, args []any) error {
	text, err := rollupFiles.ReadFile("rollups/" + name + ".sql")
	if err != nil {
		return err
	}
	if err := c.conn.Exec(ctx, string(text), args...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// rollUp makes one step anew and then says that it did.
func (c *Client) rollUp(ctx context.Context, s step) error {
	args, ctx := s.args(), rollingUp(ctx)
	at, err := c.serverTime(ctx)
	if err != nil {
		return err
	}
	for _, name := range rollups {
		if err := c.rollUpTable(ctx, name, args); err != nil {
			return err
		}
	}
	const done = `INSERT INTO rollups (namespace, day, rows_seen, computed_at, took_ms)
SELECT u.namespace, u.day, r.rows_seen, {at:` + inUTC + `}, 0
FROM (SELECT arrayJoin({namespaces:Array(String)}) AS namespace, arrayJoin({days:Array(Date)}) AS day) AS u
LEFT JOIN (SELECT toString(namespace) AS namespace, day, sum(rows_seen) AS rows_seen FROM runs_day FINAL WHERE namespace IN {namespaces:Array(String)} AND day IN {days:Array(Date)} GROUP BY namespace, day) AS r
USING (namespace, day)`
	return c.conn.Exec(ctx, done, append(args[:2:2], instant("at", at))...)
}

// addUp makes the days of namespaces_day that were made of less than runs_day has: those from before there was that table, and those
// that a server of an older version has made since, or one that read a replica which was behind.
func (c *Client) addUp(ctx context.Context) error {
	var behind []unit
	err := c.each(ctx, `SELECT toString(r.namespace), r.day, r.tasks
FROM (SELECT namespace, day, sum(rows_seen) AS seen, count() AS tasks FROM runs_day GROUP BY namespace, day) AS r
LEFT JOIN namespaces_day AS n ON n.namespace = r.namespace AND n.day = r.day
WHERE r.seen > n.rows_seen ORDER BY r.day DESC, r.namespace`, nil, func(rows driver.Rows) error {
		var u unit
		err := rows.Scan(&u.namespace, &u.day, &u.rows)
		behind = append(behind, u)
		return err
	})
	if err != nil {
		return err
	}
	for _, s := range steps(behind) {
		if err := c.rollUpTable(rollingUp(ctx), "namespaces_day", s.args()); err != nil {
			return err
		}
	}
	return nil
}

// KeepRolledUp makes roll-ups anew until ctx ends, at intervals that depend on what it costs; a pass of another server
// counts. It holds turn while it writes, and says in the log what does not go well, and goes on.
func (c *Client) KeepRolledUp(ctx context.Context, turn sync.Locker) {
	began := time.Now()
	for {
		age := time.Since(began)
		r, err := c.rollupState(ctx, age)
		if err == nil && r.Rest == 0 {
			turn.Lock()
			r, err = c.rollUpAll(ctx, age)
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
