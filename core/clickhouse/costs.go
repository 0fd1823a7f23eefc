package clickhouse

import (
	"context"
	"fmt"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// everyone stands in rollups for all namespaces together: processes and machines are shared, so that their days are made anew
// as a whole, and go by when an attempt ran, not by the instant it was for.
const everyone = "*"

// neighboursKept is for how many days before today neighbours are made; v_noisy_neighbours shows seven.
// They read host_samples as measured: so core.LeastFineDays must be more.
const neighboursKept = 7

// costsDue gives the days on which attempts ran, or processes were read, that history got since they were last made, as due
// does for those of namespaces.
func (c *Client) costsDue(ctx context.Context, through, now time.Time) ([]unit, error) {
	// An attempt that is said to have taken longer than a year is counted on its last days.
	return c.dueOf(ctx, through, now, `SELECT '*' AS namespace, arrayJoin(arrayMap(n -> toDate(ended_at) - n, range(toUInt32(least(366, greatest(0, toDate(ended_at) - toDate(started_at)))) + 1))) AS day, max(shipped_at) AS newest, count() AS fresh
FROM attempts WHERE shipped_at >= {since:DateTime('UTC')} GROUP BY day
UNION ALL
SELECT '*' AS namespace, toDate(hour) AS day, max(shipped_at) AS newest, count() AS fresh
FROM process_hours WHERE shipped_at >= {since:DateTime('UTC')} GROUP BY day`)
}

// rollUpCosts makes the costs of some days of one month anew, and what neighbours are shown of them, and then says that it did.
func (c *Client) rollUpCosts(ctx context.Context, s step) error {
	args, ctx := s.args(), rollingUp(ctx)
	at, err := c.serverTime(ctx)
	if err != nil {
		return err
	}
	if err := c.rollUpTable(ctx, "costs", args); err != nil {
		return err
	}
	recent := step{namespaces: s.namespaces}
	for _, day := range s.days {
		if !day.Before(at.Truncate(24*time.Hour).AddDate(0, 0, -neighboursKept)) {
			recent.days = append(recent.days, day)
		}
	}
	if len(recent.days) > 0 {
		if err := c.rollUpTable(ctx, "neighbours", recent.args()); err != nil {
			return err
		}
	}
	const done = `INSERT INTO rollups (namespace, day, rows_seen, computed_at, took_ms)
SELECT {everyone:String}, d.day, r.rows_seen, {at:` + inUTC + `}, 0
FROM (SELECT arrayJoin({days:Array(Date)}) AS day) AS d
LEFT JOIN (SELECT day, max(rows_seen) AS rows_seen FROM costs WHERE day IN {days:Array(Date)} GROUP BY day) AS r USING (day)`
	if err := c.conn.Exec(ctx, done, append(args, ch.Named("everyone", everyone), instant("at", at))...); err != nil {
		return fmt.Errorf("rollups: %w", err)
	}
	return nil
}
