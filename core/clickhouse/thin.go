package clickhouse

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

//go:embed thin/*.sql
var thinFiles embed.FS

// Bounds of thinning.
const (
	// thinPeriod is what one row stands for. Hours, days and the five minutes of neighbours are made of whole periods.
	thinPeriod = 5 * time.Minute
	// thinQuiet is how long no part may have come to a partition: what is being backfilled or merged is thinned once that is over.
	thinQuiet = time.Hour
	thinPass  = 20 * time.Second // how long a pass goes on; what is left is the next one's
	thinTime  = 30 * time.Minute // for one partition
	gateTime  = 2 * time.Minute  // how long writers are waited for
	scratchOf = "thinning_"      // what the names of scratch tables begin with
)

// Thinning is what Thin has done to a partition.
type Thinning struct {
	Table       string
	Partition   string // 20261101 or 202611
	RowsBefore  uint64 // repeats apart
	RowsAfter   uint64
	BytesBefore uint64
	BytesAfter  uint64
	Took        time.Duration
}

// Thinned says how far thinning is.
type Thinned struct {
	Days        uint64    // days that are thinned; of hosts months
	Through     time.Time // beginning of the youngest; zero: there is none
	RowsBefore  uint64    // of all that was done
	RowsAfter   uint64
	BytesBefore uint64
	BytesAfter  uint64
}

// Thin puts samples together that each namespace no longer keeps as measured: one row then stands for five minutes (ADR 022).
// Rows that belong to no namespace stay fine as long as those of any. A partition (a day; of hosts a month) is thinned
// once all of it is that old and nothing has come to it for an hour. The new rows are made in a table of their own, and take
// the partition's place in one step, while gate is shut so that no writer of this server is under way; if the partition
// has changed meanwhile, they are thrown away and the next pass does it. So it may break off anywhere, and be repeated, and
// run on several servers at once. Rows that come later stay as measured until a later pass thins them too. more says
// that there is more to do. On a cluster it does nothing.
func (c *Client) Thin(ctx context.Context, now time.Time, kept map[string]core.Retention, gate *sync.RWMutex) (done []Thinning, more bool, err error) {
	const op = "thin old samples"
	if c.cluster != nil {
		return nil, false, nil
	}
	err = under(gate.RLocker(), func() error { return c.settleAll(ctx, c.conn) })
	if err = errors.Join(err, c.sweep(ctx, now, gate)); err != nil {
		return nil, false, serverError(op, err)
	}
	began := time.Now()
	for _, t := range allRetained {
		text, err := thinFiles.ReadFile("thin/" + t.table + ".sql")
		if err != nil { // of lines and runs nothing is thinned
			continue
		}
		t.thinning = string(text)
		partitions, err := c.partsByPartition(ctx, t.table, "")
		if err != nil {
			return done, more, serverError(op, err)
		}
		for _, id := range slices.Sorted(maps.Keys(partitions)) {
			from, to, ok := partitionTime(id)
			if !ok || !overAt(to, now, shortestFine(kept)) {
				continue
			}
			if len(done) > 0 && time.Since(began) > thinPass {
				return done, true, nil
			}
			one, err := c.thin(ctx, t, span{id, from, to}, partitions[id], now, kept, gate)
			if err != nil {
				return done, more, serverError(op+": "+t.table+" "+id, err)
			}
			if one != nil {
				done = append(done, *one)
			}
		}
	}
	return done, false, nil
}

// span is a partition and the time it holds.
type span struct {
	id       string
	from, to time.Time
}

// fineDays is for how many days the samples of a namespace stay as they were measured.
func fineDays(r core.Retention) int {
	days := r.OrDefault().FineDays
	if days != core.KeepForever {
		days = max(days, core.LeastFineDays)
	}
	return days
}

// shortestFine is the least number of days that anybody's samples stay fine; KeepForever if all do for ever.
func shortestFine(kept map[string]core.Retention) int {
	least := core.KeepForever
	for _, days := range everyonesFine(kept) {
		if least == core.KeepForever || days != core.KeepForever && days < least {
			least = days
		}
	}
	return least
}

// longestFine is how long what belongs to no namespace stays fine.
func longestFine(kept map[string]core.Retention) int {
	all := everyonesFine(kept)
	if slices.Contains(all, core.KeepForever) {
		return core.KeepForever
	}
	return slices.Max(all)
}

func everyonesFine(kept map[string]core.Retention) []int {
	all := []int{}
	for _, r := range kept {
		all = append(all, fineDays(r))
	}
	if len(all) == 0 {
		all = append(all, fineDays(core.Retention{}))
	}
	return all
}

// thin thins one partition, unless there is nothing to do, or it is not quiet; then it gives nil.
func (c *Client) thin(ctx context.Context, t retained, s span, parts parts, now time.Time, kept map[string]core.Retention, gate *sync.RWMutex) (*Thinning, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, thinTime, core.Errorf(core.KindExhausted, "thin partition "+s.id, "it took more than %s", thinTime))
	defer cancel()
	began := time.Now()
	if c.knownThin(t.table, s.id, parts) {
		return nil, nil
	}
	over, all, err := c.fine(ctx, t, s, now, kept)
	if err != nil {
		return nil, err
	}
	if len(over) == 0 {
		if all {
			c.rememberThin(t.table, s.id, parts)
		}
		return nil, nil
	}
	if parts.newest.Add(thinQuiet).After(now) {
		return nil, nil
	}
	name, err := scratchName(t.table)
	if err != nil {
		return nil, err
	}
	m := thinMark{table: t.table, day: s.from, replaced: parts.names, bytesBefore: parts.bytes}
	err = c.fill(ctx, t, s, over, name, gate, &m)
	if err == nil {
		c.thinStep("filled")
		err = c.swap(ctx, t, s, name, &m, gate)
	}
	if m.state == thinReplaced {
		m.took = time.Since(began)
	}
	limited, stop := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer stop()
	if m.state != "" {
		err = errors.Join(err, c.seeThrough(limited, m, gate))
	}
	err = errors.Join(err, under(gate.RLocker(), func() error { return c.conn.Exec(limited, "DROP TABLE IF EXISTS "+name+" SYNC") })) // else sweep does it
	if errors.Is(err, errChanged) {
		c.log.Debug("samples not thinned: they have changed meanwhile", "table", t.table, "partition", s.id)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &Thinning{Table: t.table, Partition: s.id, RowsBefore: m.rowsBefore, RowsAfter: m.rowsAfter, BytesBefore: m.bytesBefore, BytesAfter: m.bytesAfter, Took: m.took}, nil
}

// errChanged says that a partition is not what it was when it was read.
var errChanged = errors.New("the partition has changed")

func under(lock sync.Locker, do func() error) error {
	lock.Lock()
	defer lock.Unlock()
	return do()
}

// fine gives the namespaces that have samples in a partition as measured which they no longer keep so, and whether nobody at
// all has samples as measured in it. What belongs to no namespace has the name "".
func (c *Client) fine(ctx context.Context, t retained, s span, now time.Time, kept map[string]core.Retention) (over []string, none bool, err error) {
	namespace := "namespace"
	if t.host {
		namespace = "''"
	}
	none = true
	err = c.each(ctx, "SELECT toString("+namespace+"), countIf(thinned_s = 0), maxIf(at, thinned_s = 0) FROM "+t.table+" WHERE "+t.at+" >= {from:"+inUTC+"} AND "+t.at+" < {to:"+inUTC+"} GROUP BY 1",
		[]any{instant("from", s.from), instant("to", s.to)}, func(rows driver.Rows) error {
			var name string
			var measured uint64
			var last time.Time // of a backfill long after the partition's time
			if err := rows.Scan(&name, &measured, &last); err != nil {
				return err
			}
			days := longestFine(kept)
			if name != "" {
				days = fineDays(kept[name])
			}
			none = none && measured == 0
			if measured > 0 && overAt(s.to, now, days) && overAt(last, now, days) {
				over = append(over, name)
			}
			return nil
		})
	slices.Sort(over)
	return over, none, err
}

// fill makes the rows that a partition is to have, in a table of their own, and holds that they stand for as many readings as
// it has.
func (c *Client) fill(ctx context.Context, t retained, s span, over []string, into string, gate *sync.RWMutex, m *thinMark) error {
	gate.RLock() // a backup shall not meet a table that comes and goes
	defer gate.RUnlock()
	if err := c.conn.Exec(ctx, "CREATE TABLE "+into+" AS "+t.table); err != nil {
		return err
	}
	// What is replaced is removed from disk some minutes later: what replaces it must be there before, also if the power fails.
	if err := c.conn.Exec(ctx, "ALTER TABLE "+into+" MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1"); err != nil {
		return err
	}
	bounded := settings(ctx, exact(ch.Settings{
		"max_execution_time": uint64(thinTime.Seconds()), "max_memory_usage": uint64(rollupMem), "max_bytes_before_external_group_by": uint64(rollupMem / 4),
		"max_bytes_before_external_sort": uint64(rollupMem / 4), "optimize_aggregation_in_order": 1, "insert_deduplicate": 0, "max_threads": 1,
	}))
	for day := s.from; day.Before(s.to); day = day.AddDate(0, 0, 1) {
		args := []any{instant("from", day), instant("to", day.AddDate(0, 0, 1)), ch.Named("period", uint32(thinPeriod.Seconds()))}
		if !t.host {
			args = append(args, ch.Named("over", over))
		}
		if err := c.conn.Exec(bounded, strings.Replace(t.thinning, "$INTO$", into, 1), args...); err != nil {
			return err
		}
	}
	var was, is uint64
	count := func(table string, rows, readings *uint64) error {
		return c.conn.QueryRow(settings(ctx, exact(ch.Settings{"readonly": 1, "max_execution_time": 600})), "SELECT count(), sum(readings) FROM "+table+" WHERE "+t.at+" >= {from:"+inUTC+"} AND "+t.at+" < {to:"+inUTC+"}",
			instant("from", s.from), instant("to", s.to)).Scan(rows, readings)
	}
	if err := errors.Join(count(t.table, &m.rowsBefore, &was), count(into, &m.rowsAfter, &is)); err != nil {
		return err
	}
	if p, err := c.partsOf(ctx, t.table, s.id); err != nil || !slices.Equal(p.names, m.replaced) {
		return errors.Join(err, errChanged)
	}
	if was != is {
		return core.Errorf(core.KindInternal, "", "the thinned rows stand for %d readings and not for %d: nothing was changed", is, was)
	}
	p, err := c.partsOf(ctx, into, s.id)
	m.bytesAfter = p.bytes
	return err
}

// swap puts the new rows in the partition's place. It does so only if the partition still is what was read, and shuts gate
// meanwhile. Nobody is made to wait for it: it takes its turn when no writer is under way.
func (c *Client) swap(ctx context.Context, t retained, s span, from string, m *thinMark, gate *sync.RWMutex) error {
	for until := time.Now().Add(gateTime); !gate.TryLock(); {
		if time.Now().After(until) {
			return errChanged
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
	defer gate.Unlock()
	var err error
	if m.begun, err = c.serverTime(ctx); err != nil {
		return err
	}
	m.state = thinBegun
	if err := put(ctx, c.conn, *m); err != nil {
		return err
	}
	is, err := c.partsOf(ctx, t.table, s.id)
	if err != nil {
		return err
	}
	if !slices.Equal(is.names, m.replaced) {
		m.state = thinGivenUp
		return errChanged
	}
	c.thinStep("looked")
	if err := c.conn.Exec(ctx, "ALTER TABLE "+t.table+" REPLACE PARTITION ID '"+s.id+"' FROM "+from); err != nil {
		return err
	}
	c.thinStep("swapped")
	m.state = thinReplaced
	return nil
}

// What a row of thinnings says.
const (
	thinBegun    = "begun"
	thinReplaced = "replaced" // what was replaced lies on disk still
	thinDone     = "done"
	thinGivenUp  = "given up"
)

// thinMark is a row of thinnings: what is to become of a partition. It is written before the partition is replaced, because
// parts that were replaced lie on disk for some minutes more, and a ClickHouse that is killed meanwhile could take them for
// its rows again, beside those that replaced them: what it replaces, and that it does, is no one step on disk.
type thinMark struct {
	table                   string
	day                     time.Time
	begun                   time.Time
	state                   string // "": nothing was begun
	replaced                []string
	rowsBefore, rowsAfter   uint64
	bytesBefore, bytesAfter uint64
	took                    time.Duration
}

func put(ctx context.Context, conn driver.Conn, m thinMark) error {
	return conn.Exec(ctx, `INSERT INTO thinnings (samples, day, begun_at, recorded_at, state, replaced, rows_before, rows_after, bytes_before, bytes_after, took_ms)
SELECT {samples:String}, {day:Date}, {begun:`+inUTC+`}, now64(6, 'UTC'), {state:String}, {replaced:Array(String)}, {rows_before:UInt64}, {rows_after:UInt64}, {bytes_before:UInt64}, {bytes_after:UInt64}, {took:UInt32}`,
		ch.Named("samples", m.table), ch.Named("day", m.day.Format(time.DateOnly)), instant("begun", m.begun), ch.Named("state", m.state), ch.Named("replaced", m.replaced),
		ch.Named("rows_before", m.rowsBefore), ch.Named("rows_after", m.rowsAfter), ch.Named("bytes_before", m.bytesBefore), ch.Named("bytes_after", m.bytesAfter), ch.Named("took", uint32(m.took.Milliseconds())))
}

// seeThrough says what has become of a thinning that was begun. Should ClickHouse have been killed meanwhile, it is waited for,
// and what came back is removed. What is not settled when ctx ends is the next pass's.
func (c *Client) seeThrough(ctx context.Context, m thinMark, gate *sync.RWMutex) error {
	for {
		settled := false
		err := under(gate.RLocker(), func() (err error) {
			if m.state != thinBegun {
				settled = true
				return put(ctx, c.conn, m)
			}
			settled, err = c.settle(ctx, c.conn, m)
			return err
		})
		if settled && err == nil || err != nil && core.KindOf(serverError("", err)) != core.KindUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// settle looks at what has become of a thinning that was begun, and removes what came back. It gives true when there is nothing
// more to wait for.
func (c *Client) settle(ctx context.Context, conn driver.Conn, m thinMark) (bool, error) {
	var there int
	var back []string
	var now time.Time
	// A part that is younger has only the name: a history that was restored numbers its parts anew.
	err := eachOf(ctx, conn, "SELECT name, active FROM system.parts WHERE database = currentDatabase() AND table = {table:String} AND name IN {names:Array(String)} AND modification_time <= toDateTime({begun:"+inUTC+"}, 'UTC')",
		[]any{ch.Named("table", m.table), ch.Named("names", m.replaced), instant("begun", m.begun)}, func(rows driver.Rows) error {
			var name string
			var active uint8
			err := rows.Scan(&name, &active)
			if there++; active != 0 {
				back = append(back, name)
			}
			return err
		})
	switch {
	case err != nil:
		return false, err
	case there == 0:
		m.state = thinDone
		return true, put(ctx, conn, m)
	case len(back) == 0:
		return true, nil
	}
	t := allRetained[slices.IndexFunc(allRetained, func(t retained) bool { return t.table == m.table })]
	to := m.day.AddDate(0, 0, 1)
	if t.host {
		to = m.day.AddDate(0, 1, 0)
	}
	var others uint64
	err = conn.QueryRow(settings(ctx, ch.Settings{"readonly": 1, "final": 0}), "SELECT countIf(thinned_s > 0 AND _part NOT IN {names:Array(String)}), now64(6, 'UTC') FROM "+t.table+
		" WHERE "+t.at+" >= {from:"+inUTC+"} AND "+t.at+" < {to:"+inUTC+"}",
		instant("from", m.day), instant("to", to), ch.Named("names", m.replaced)).Scan(&others, &now)
	if err != nil {
		return false, err
	}
	if others == 0 { // nothing was replaced; after an hour nothing will be
		if m.begun.Add(2 * thinTime).Before(now) {
			m.state = thinGivenUp
			err = put(ctx, conn, m)
		}
		return true, err
	}
	for _, name := range back {
		err := conn.Exec(ctx, "ALTER TABLE "+t.table+" DROP PART '"+name+"'")
		if exception, ok := errors.AsType[*ch.Exception](err); ok && exception.Code == noSuchPart { // another server did
			continue
		}
		if err != nil {
			return false, err
		}
	}
	c.log.Warn("samples that were thinned came back when ClickHouse was killed, and were removed again", "table", t.table, "day", m.day.Format(time.DateOnly))
	return false, nil
}

// settleAll settles what was begun and not seen through, because this server or ClickHouse was killed.
func (c *Client) settleAll(ctx context.Context, conn driver.Conn) error {
	if c.cluster != nil {
		return nil
	}
	var all []thinMark
	err := eachOf(ctx, conn, "SELECT samples, day, begun_at, state, replaced, rows_before, rows_after, bytes_before, bytes_after, took_ms FROM thinnings WHERE state IN {states:Array(String)}", []any{ch.Named("states", []string{thinBegun, thinReplaced})}, func(rows driver.Rows) error {
		var m thinMark
		var ms uint32
		err := rows.Scan(&m.table, &m.day, &m.begun, &m.state, &m.replaced, &m.rowsBefore, &m.rowsAfter, &m.bytesBefore, &m.bytesAfter, &ms)
		m.took = time.Duration(ms) * time.Millisecond
		all = append(all, m)
		return err
	})
	for _, m := range all {
		_, failed := c.settle(ctx, conn, m)
		err = errors.Join(err, failed)
	}
	return err
}

// parts are those that a partition has.
type parts struct {
	names  []string // sorted
	newest time.Time
	bytes  uint64
}

func (c *Client) partsOf(ctx context.Context, table, partition string) (parts, error) {
	all, err := c.partsByPartition(ctx, table, partition)
	return all[partition], err
}

// partsByPartition gives the parts of one partition, or with "" of all.
func (c *Client) partsByPartition(ctx context.Context, table, partition string) (map[string]parts, error) {
	all := map[string]parts{}
	err := c.each(ctx, "SELECT partition_id, name, modification_time, bytes_on_disk FROM system.parts WHERE active AND database = currentDatabase() AND table = {table:String} AND {partition:String} IN (partition_id, '') ORDER BY name",
		[]any{ch.Named("table", table), ch.Named("partition", partition)}, func(rows driver.Rows) error {
			var id, name string
			var at time.Time
			var bytes uint64
			if err := rows.Scan(&id, &name, &at, &bytes); err != nil {
				return err
			}
			p := all[id]
			if p.names, p.bytes = append(p.names, name), p.bytes+bytes; at.After(p.newest) {
				p.newest = at
			}
			all[id] = p
			return nil
		})
	return all, err
}

// knownThin says whether these parts were found to have nothing as measured: an old day is not read each hour.
func (c *Client) knownThin(table, partition string, p parts) bool {
	c.thinMu.Lock()
	defer c.thinMu.Unlock()
	names, ok := c.thinParts[table+" "+partition]
	return ok && slices.Equal(names, p.names)
}

func (c *Client) rememberThin(table, partition string, p parts) {
	c.thinMu.Lock()
	defer c.thinMu.Unlock()
	if c.thinParts == nil {
		c.thinParts = make(map[string][]string)
	}
	c.thinParts[table+" "+partition] = p.names
}

func (c *Client) thinStep(step string) {
	if c.onThin != nil {
		c.onThin(step)
	}
}

func scratchName(table string) (string, error) {
	var random [6]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	return scratchOf + table + "_" + hex.EncodeToString(random[:]), nil
}

// sweep removes what a pass has left that was killed. A pass of another server may be at work on one that is younger.
func (c *Client) sweep(ctx context.Context, now time.Time, gate *sync.RWMutex) error {
	var left []string
	err := c.each(ctx, "SELECT name FROM system.tables WHERE database = currentDatabase() AND startsWith(name, {scratch:String}) AND metadata_modification_time < {before:DateTime('UTC')}",
		[]any{ch.Named("scratch", scratchOf), ch.Named("before", now.Add(-2*thinTime).UTC().Format(time.DateTime))}, func(rows driver.Rows) error {
			var name string
			err := rows.Scan(&name)
			left = append(left, name)
			return err
		})
	for _, name := range left {
		err = errors.Join(err, under(gate.RLocker(), func() error { return c.conn.Exec(ctx, "DROP TABLE IF EXISTS "+quoted(name)+" SYNC") }))
	}
	return err
}

// ThinState says how far thinning is.
func (c *Client) ThinState(ctx context.Context) (Thinned, error) {
	var t Thinned
	err := c.conn.QueryRow(settings(ctx, ch.Settings{"readonly": 1, "max_execution_time": 10, "final": 0}),
		`SELECT uniqExact(samples, day), max(day), sum(rows_before), sum(rows_after), sum(bytes_before), sum(bytes_after)
FROM (SELECT samples, day, max(rows_before) AS rows_before, max(rows_after) AS rows_after, max(bytes_before) AS bytes_before, max(bytes_after) AS bytes_after
  FROM thinnings FINAL WHERE state IN {states:Array(String)} GROUP BY samples, day, replaced)`, ch.Named("states", []string{thinReplaced, thinDone})).
		Scan(&t.Days, &t.Through, &t.RowsBefore, &t.RowsAfter, &t.BytesBefore, &t.BytesAfter)
	if t.Days == 0 {
		t.Through = time.Time{}
	}
	return t, serverError("read how far samples are thinned", err)
}
