package clickhouse

import (
	"context"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Storage is how history lies on disk.
type Storage struct {
	Tables      []Table
	FreeBytes   uint64 // of the disk with the least room that history uses
	TotalBytes  uint64 // of that disk
	MemoryBytes uint64 // that ClickHouse counts as in use, its caches included; on a cluster of the node with the most
	Merges      int    // running
	OldestMerge time.Duration
	Mutations   []string // that fail: table and reason
	ReadOnly    []string // replicated tables that take no rows
}

// Table is one table of history on disk.
type Table struct {
	Name      string
	Rows      uint64 // repeats that are not merged away yet included
	Bytes     uint64 // on disk, compressed
	Parts     uint64 // active
	MostParts uint64 // active, in the partition with the most
	Broken    uint64 // parts that ClickHouse has set aside because they cannot be read; 0 on a cluster, where replicas mend them
}

// Storage gives how history lies on disk and what ClickHouse is doing with it. It reads no rows.
func (c *Client) Storage(ctx context.Context) (Storage, error) {
	const op = "look at the storage of history"
	var s Storage
	ask := func(query string, scan func(driver.Rows) error) error {
		rows, err := c.conn.Query(settings(ctx, ch.Settings{"max_execution_time": 10}), query)
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
	tables := `SELECT name, sum(n), sum(bytes), sum(parts), max(parts), any(broken) FROM (
  SELECT t.name AS name, p.partition_id AS partition_id, sum(p.rows) AS n, sum(p.bytes_on_disk) AS bytes, countIf(p.table != '') AS parts FROM system.tables AS t
  LEFT JOIN (SELECT table, partition_id, rows, bytes_on_disk FROM system.parts WHERE database = currentDatabase() AND active) AS p ON p.table = t.name
  WHERE t.database = currentDatabase() AND t.engine LIKE '%MergeTree' GROUP BY 1, 2
) AS a LEFT JOIN (SELECT table, count() AS broken FROM system.detached_parts WHERE database = currentDatabase() AND startsWith(coalesce(reason, ''), 'broken') GROUP BY 1) AS d ON d.table = a.name
GROUP BY name ORDER BY name`
	if c.cluster != nil { // one replica of each shard; parts are apart on each
		tables = `SELECT name, sum(n), sum(bytes), sum(parts), max(parts), toUInt64(0) FROM (
  SELECT table AS name, hostName() AS host, partition_id, sum(rows) AS n, sum(bytes_on_disk) AS bytes, count() AS parts FROM ` + c.cluster.system("parts") + `
  WHERE database = currentDatabase() AND active GROUP BY 1, 2, 3
) GROUP BY name ORDER BY name`
	}
	err := ask(tables, func(rows driver.Rows) error {
		var t Table
		if err := rows.Scan(&t.Name, &t.Rows, &t.Bytes, &t.Parts, &t.MostParts, &t.Broken); err != nil {
			return err
		}
		if name := strings.TrimSuffix(t.Name, "_local"); c.cluster.local(name) == t.Name {
			t.Name = name
		}
		s.Tables = append(s.Tables, t)
		return nil
	})
	if err == nil {
		err = ask(`SELECT free_space, total_space FROM `+c.cluster.everywhere("disks")+` WHERE total_space > 0 ORDER BY free_space LIMIT 1`, func(rows driver.Rows) error {
			return rows.Scan(&s.FreeBytes, &s.TotalBytes)
		})
	}
	if err == nil {
		err = ask(`SELECT toUInt64(greatest(0, max(value))) FROM `+c.cluster.everywhere("metrics")+` WHERE metric = 'MemoryTracking'`, func(rows driver.Rows) error { return rows.Scan(&s.MemoryBytes) })
	}
	if err == nil {
		err = ask(`SELECT count(), max(elapsed) FROM `+c.cluster.everywhere("merges")+` WHERE database = currentDatabase()`, func(rows driver.Rows) error {
			var running uint64
			var longest float64
			err := rows.Scan(&running, &longest)
			s.Merges, s.OldestMerge = int(running), time.Duration(longest*float64(time.Second))
			return err
		})
	}
	if err == nil {
		err = ask(`SELECT concat(table, ': ', latest_fail_reason) FROM `+c.cluster.everywhere("mutations")+` WHERE database = currentDatabase() AND NOT is_done AND latest_fail_reason != '' ORDER BY 1 LIMIT 20`, texts(&s.Mutations))
	}
	if err == nil {
		err = ask(`SELECT DISTINCT table FROM `+c.cluster.everywhere("replicas")+` WHERE database = currentDatabase() AND is_readonly ORDER BY 1`, texts(&s.ReadOnly))
	}
	return s, serverError(op, err)
}

func texts(into *[]string) func(driver.Rows) error {
	return func(rows driver.Rows) error {
		var text string
		err := rows.Scan(&text)
		*into = append(*into, text)
		return err
	}
}

// Span is the time that history has of a namespace.
type Span struct {
	Namespace      string
	Oldest, Newest time.Time // nominal instants of runs
	Runs           uint64    // repeats that are not merged away yet included
}

// Spans gives from when to when history has runs of each namespace, by name. It reads two columns of all runs.
func (c *Client) Spans(ctx context.Context) ([]Span, error) {
	rows, err := c.conn.Query(settings(ctx, ch.Settings{"readonly": 1, "max_execution_time": 20}),
		"SELECT namespace, min(fire_at), max(fire_at), count() FROM runs GROUP BY namespace ORDER BY namespace")
	if err != nil {
		return nil, serverError("read the spans of history", err)
	}
	defer rows.Close()
	var all []Span
	for rows.Next() {
		var s Span
		if err := rows.Scan(&s.Namespace, &s.Oldest, &s.Newest, &s.Runs); err != nil {
			return nil, serverError("read the spans of history", err)
		}
		all = append(all, s)
	}
	return all, serverError("read the spans of history", rows.Err())
}

// DiskTrend gives how many bytes a second the disk of the data folder of a machine has been losing in the last week; below
// zero: gaining. known is false if the readings span less than an hour.
func (c *Client) DiskTrend(ctx context.Context, host string, now time.Time) (lost float64, known bool, err error) {
	const query = `SELECT toFloat64(count()), toFloat64(dateDiff('second', min(at), max(at))), -simpleLinearRegression(toFloat64(toUnixTimestamp(at)) - {base:Float64}, toFloat64(data_free_bytes)).1
FROM host_samples WHERE host = {host:String} AND at >= {from:` + inUTC + `} AND data_total_bytes > 0`
	from := now.AddDate(0, 0, -7)
	rows, err := c.conn.Query(settings(ctx, ch.Settings{"readonly": 1, "max_execution_time": 10}), query,
		ch.Named("host", host), instant("from", from), ch.Named("base", float64(from.Unix())))
	if err != nil {
		return 0, false, serverError("read the trend of the disk", err)
	}
	defer rows.Close()
	var count, seconds float64
	for rows.Next() {
		if err := rows.Scan(&count, &seconds, &lost); err != nil {
			return 0, false, serverError("read the trend of the disk", err)
		}
	}
	return lost, count > 2 && seconds >= 3600, serverError("read the trend of the disk", rows.Err())
}
