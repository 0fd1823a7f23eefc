package clickhouse

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// retained is a table whose rows go when they are old.
type retained struct {
	table    string
	at       string // the column that its partitions are cut by
	happened string // the column that says when it happened, where that may be long after at, as in a backfill
	days     func(core.Retention) int
	host     bool // it has no namespaces

	thinning string // the statement that thins a day of it, while Thin is at it
}

// allRetained are all tables of single rows, and the roll-ups that have what a run said in them. Those that only count stay.
var allRetained = []retained{
	{table: "run_logs", at: "fire_at", happened: "at", days: func(r core.Retention) int { return r.LinesDays }},
	{table: "run_samples", at: "fire_at", happened: "at", days: func(r core.Retention) int { return r.SamplesDays }},
	{table: "plugin_samples", at: "at", days: func(r core.Retention) int { return r.SamplesDays }},
	{table: "attempts", at: "fire_at", happened: "ended_at", days: func(r core.Retention) int { return r.RunsDays }},
	{table: "runs", at: "fire_at", happened: "ended_at", days: func(r core.Retention) int { return r.RunsDays }},
	{table: "fires", at: "fire_at", happened: "decided_at", days: func(r core.Retention) int { return r.RunsDays }},
	{table: "errors_day", at: "day", happened: "last_at", days: func(r core.Retention) int { return r.RunsDays }},
	{table: "breaker_changes", at: "at", days: func(r core.Retention) int { return r.RunsDays }},
	{table: "host_samples", at: "at", host: true},
}

// Removal is what Retain has taken from a table.
type Removal struct {
	Table      string
	Partition  string   // 202611 or 20261129
	Namespaces []string // of which rows went; nil: the whole partition
}

// removeTime bounds the rewriting of one partition.
const removeTime = 30 * time.Minute

// Retain removes what is older than each namespace keeps it, by its nominal instant and by when it happened: what a backfill
// of last year leaves today is of today. A namespace that is not in kept, and rows without one, follow the default. It works
// by partitions: one goes as a whole once all in it is over, at no cost; while other rows stay, those that are over are
// deleted from it, which rewrites it, once for each day on which some of them happened. So rows stay for the time said and at
// most a partition longer: a day, of fires, runs and attempts a month. Doing it again, or on two servers at once, does nothing
// more. What was removed before an error is given with it. On a cluster the shards have been told to when it returns, and go on
// by themselves.
//
// It is not done by ClickHouse's TTL because a part with rows that expire is merged again each four hours: a month of runs
// would be rewritten six times a day for as long as it has rows of two namespaces.
func (c *Client) Retain(ctx context.Context, now time.Time, kept map[string]core.Retention) ([]Removal, error) {
	const op = "remove what history keeps no longer"
	var removed []Removal
	for _, t := range allRetained {
		partitions, err := c.partitions(ctx, t.table)
		if err != nil {
			return removed, serverError(op, err)
		}
		if rewritten, err := c.rewritten(ctx, t.table); err != nil {
			return removed, serverError(op, err)
		} else if rewritten {
			continue
		}
		for _, id := range partitions {
			_, to, ok := partitionTime(id)
			if !ok || !overAt(to, now, t.shortest(kept)) {
				continue
			}
			r, err := c.retain(ctx, t, id, to, now, kept)
			if err != nil {
				return removed, serverError(op+": "+t.table+" "+id, err)
			}
			if r != nil {
				removed = append(removed, *r)
			}
		}
	}
	return removed, nil
}

// shortest is the least number of days that anybody's rows are kept; KeepForever if all are kept for ever.
func (t retained) shortest(kept map[string]core.Retention) int {
	if t.host {
		return core.HostSamplesDays
	}
	least := t.days(core.DefaultRetention)
	for _, r := range kept {
		if days := t.days(r.OrDefault()); least == core.KeepForever || days != core.KeepForever && days < least {
			least = days
		}
	}
	return least
}

// overAt says whether what happened before an instant is over now if it is kept for some days.
func overAt(at, now time.Time, days int) bool {
	return days != core.KeepForever && !at.AddDate(0, 0, days).After(now)
}

// overUntil is the end of the last day of which all is over now if it is kept for some days.
func overUntil(now time.Time, days int) time.Time {
	return now.UTC().AddDate(0, 0, -days).Truncate(24 * time.Hour)
}

func (c *Client) retain(ctx context.Context, t retained, id string, to, now time.Time, kept map[string]core.Retention) (*Removal, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, removeTime, core.Errorf(core.KindExhausted, "rewrite partition "+id, "it took more than %s", removeTime))
	defer cancel()
	parts, err := c.parts(ctx, t.table, id) // before it is looked what they hold: what arrives meanwhile stays
	if err != nil {
		return nil, err
	}
	over, stays := map[string]string{}, false
	if !t.host {
		if over, stays, err = c.over(ctx, t, id, to, now, kept); err != nil {
			return nil, err
		}
	}
	switch {
	case !stays && c.cluster.local(t.table) == t.table:
		for _, part := range parts {
			err := c.conn.Exec(ctx, c.cluster.alter(t.table)+" DROP PART '"+part+"'")
			if exception, ok := errors.AsType[*ch.Exception](err); ok && exception.Code == noSuchPart { // merged meanwhile: the next time
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		return &Removal{Table: t.table, Partition: id}, nil
	case len(over) == 0:
		return nil, nil
	}
	removed := &Removal{Table: t.table, Partition: id, Namespaces: slices.Sorted(maps.Keys(over))}
	if !stays { // parts have other names on each shard, so that they are emptied and not dropped
		removed.Namespaces = nil
	}
	return removed, c.conn.Exec(settings(ctx, c.cluster.mutations()), c.cluster.alter(t.table)+" DELETE IN PARTITION ID '"+id+"' WHERE "+strings.Join(slices.Sorted(maps.Values(over)), " OR "))
}

// over gives the namespaces that have rows in a partition which are over, each with a condition that holds for those, and
// whether rows of anybody stay.
func (c *Client) over(ctx context.Context, t retained, id string, to, now time.Time, kept map[string]core.Retention) (over map[string]string, stays bool, err error) {
	over = make(map[string]string)
	partition := ch.Named("partition", id)
	err = c.each(ctx, "SELECT DISTINCT namespace FROM "+t.table+" WHERE _partition_id = {partition:String}", []any{partition}, func(rows driver.Rows) error {
		var namespace string
		if err := rows.Scan(&namespace); err != nil {
			return err
		}
		if overAt(to, now, t.days(kept[namespace].OrDefault())) {
			over[namespace] = "namespace = " + literal(namespace) // an ALTER takes no parameters
		} else {
			stays = true
		}
		return nil
	})
	if err != nil || t.happened == "" || len(over) == 0 {
		return over, stays, err
	}
	// When it happened is read of these namespaces only: most of it goes now, and where it does not it is a backfill's. What is
	// said to be of the future happened at no time that is known: the clock is that of whoever said it.
	when := func(at time.Time) string {
		return "toDateTime64('" + at.UTC().Format("2006-01-02 15:04:05.000000") + "', 6, 'UTC')"
	}
	happened := "if(" + t.happened + " > " + when(now.AddDate(0, 0, 1)) + ", " + when(time.Unix(0, 0)) + ", " + t.happened + ")"
	err = c.each(ctx, "SELECT namespace, min("+happened+"), max("+happened+") FROM "+t.table+" WHERE _partition_id = {partition:String} AND namespace IN {namespaces:Array(String)} GROUP BY namespace",
		[]any{partition, ch.Named("namespaces", slices.Sorted(maps.Keys(over)))}, func(rows driver.Rows) error {
			var namespace string
			var first, last time.Time
			if err := rows.Scan(&namespace, &first, &last); err != nil {
				return err
			}
			until := overUntil(now, t.days(kept[namespace].OrDefault()))
			over[namespace] += " AND " + happened + " < " + when(until)
			if !first.Before(until) {
				delete(over, namespace)
			}
			stays = stays || !last.Before(until)
			return nil
		})
	return over, stays, err
}

// rewritten says whether shards are still at work on what an earlier Retain has told them to remove from a table.
func (c *Client) rewritten(ctx context.Context, table string) (yes bool, err error) {
	if c.cluster.local(table) == table { // then Retain has waited for it
		return false, nil
	}
	err = c.each(ctx, "SELECT count() > 0 FROM "+c.cluster.system("mutations")+" WHERE database = currentDatabase() AND table = {table:String} AND NOT is_done AND NOT is_killed",
		[]any{ch.Named("table", c.cluster.local(table))}, func(rows driver.Rows) error { return rows.Scan(&yes) })
	return yes, err
}

// noSuchPart is ClickHouse's NO_SUCH_DATA_PART.
const noSuchPart = 232

func (c *Client) parts(ctx context.Context, table, partition string) (names []string, err error) {
	err = c.each(ctx, "SELECT name FROM system.parts WHERE active AND database = currentDatabase() AND table = {table:String} AND partition_id = {partition:String}",
		[]any{ch.Named("table", table), ch.Named("partition", partition)}, func(rows driver.Rows) error {
			var name string
			err := rows.Scan(&name)
			names = append(names, name)
			return err
		})
	return names, err
}

// partitions gives the partitions of a table, the oldest first.
func (c *Client) partitions(ctx context.Context, table string) ([]string, error) {
	ids := map[string]bool{}
	err := c.each(ctx, "SELECT DISTINCT partition_id FROM "+c.cluster.system("parts")+" WHERE active AND database = currentDatabase() AND table = {table:String}",
		[]any{ch.Named("table", c.cluster.local(table))}, func(rows driver.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids[id] = true
			return err
		})
	return slices.Sorted(maps.Keys(ids)), err
}

// partitionTime gives the time that a partition named by toYYYYMM or toYYYYMMDD holds.
func partitionTime(id string) (from, to time.Time, ok bool) {
	if from, err := time.Parse("20060102", id); err == nil {
		return from, from.AddDate(0, 0, 1), true
	}
	if from, err := time.Parse("200601", id); err == nil {
		return from, from.AddDate(0, 1, 0), true
	}
	return time.Time{}, time.Time{}, false
}
