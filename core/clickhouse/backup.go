package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Checksum is what can be said of a table's rows without knowing them: how many there are, repeats apart, and the sum of
// their hashes, which does not depend on their order nor on how they lie on disk.
type Checksum struct {
	Table string `json:"table"`
	Rows  uint64 `json:"rows"`
	Sum   uint64 `json:"sum"` // of cityHash64 of every row, modulo 2^64; 0 for roll-ups, whose states may be merged in any order
}

// Checksums reads every table of history.
func (c *Client) Checksums(ctx context.Context) ([]Checksum, error) {
	if err := c.cluster.refused("sum up history", backUpCluster); err != nil {
		return nil, err
	}
	return checksums(ctx, c.conn)
}

var backUpCluster = core.Text{
	Zh: "请用 ClickHouse 自己的 BACKUP DATABASE … ON CLUSTER … 备份到所有节点都能访问的存储（如 S3）",
	En: "back it up by ClickHouse's own BACKUP DATABASE … ON CLUSTER …, to a storage that all nodes reach (S3)",
}

func checksums(ctx context.Context, conn driver.Conn) ([]Checksum, error) {
	const op = "sum up history"
	tables, err := tablesOf(ctx, conn)
	if err != nil {
		return nil, serverError(op, err)
	}
	var all []Checksum
	for _, t := range tables {
		if !strings.HasSuffix(t.engine, "MergeTree") {
			continue
		}
		one := Checksum{Table: t.name}
		s, sum := exact(ch.Settings{"max_threads": 2}), "sum(cityHash64(formatRow('RowBinary', *)))" // a NULL would make the hash of columns NULL
		switch {
		case strings.Contains(t.engine, "Aggregating"), strings.Contains(t.engine, "Summing"):
			sum = "toUInt64(0)"
		case !strings.Contains(t.engine, "Replacing"):
			s["final"] = 0 // such a table has no repeats to leave out
		}
		if err := conn.QueryRow(settings(ctx, s), "SELECT count(), "+sum+" FROM "+quoted(t.name)).Scan(&one.Rows, &one.Sum); err != nil {
			return nil, serverError(op+": "+t.name, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// Differences says, one sentence each, in what two lists of Checksums differ; none: they are equal.
func Differences(want, got []Checksum) []string {
	var all []string
	for _, w := range want {
		i := slices.IndexFunc(got, func(g Checksum) bool { return g.Table == w.Table })
		switch {
		case i < 0:
			all = append(all, fmt.Sprintf("the table %s is missing", w.Table))
		case got[i].Rows != w.Rows:
			all = append(all, fmt.Sprintf("%s has %d rows instead of %d", w.Table, got[i].Rows, w.Rows))
		case got[i].Sum != w.Sum:
			all = append(all, fmt.Sprintf("the rows of %s are not those that were backed up", w.Table))
		}
	}
	return all
}

// Backup writes all of history into a folder that must not exist yet, readers and writers going on. It is made of whole
// parts: to have all tables of one instant, keep writers away meanwhile. With base, a folder that holds an earlier backup,
// only what that one lacks is written, and restoring needs both. The folders are the server's. It fails with KindInvalid
// if the server may not write there or base is not a backup. When ctx ends, the backup is cancelled.
func (c *Client) Backup(ctx context.Context, database, folder, base string) error {
	const op = "back up history"
	if err := c.cluster.refused(op, backUpCluster); err != nil {
		return err
	}
	statement := "BACKUP DATABASE " + quoted(database) + " TO " + inFolder(folder)
	if base != "" {
		statement += " SETTINGS base_backup = " + inFolder(base)
	}
	return longRunning(ctx, op, c.conn, statement)
}

// Database is the database that holds history.
func (c *Client) Database(ctx context.Context) (string, error) {
	var name string
	err := c.conn.QueryRow(ctx, "SELECT currentDatabase()").Scan(&name)
	return name, serverError("ask for the database of history", err)
}

// Restore fills an empty history from a backup and gives the Checksums of what it has then. The schema is the backup's:
// Open brings it up to date. It fails with KindConflict if history is not empty, KindInvalid if the folder holds no backup.
func Restore(ctx context.Context, o Options, folder, base string) ([]Checksum, error) {
	const op = "restore history"
	options, err := driverOptions(o)
	if err != nil {
		return nil, err
	}
	conn, err := ch.Open(options)
	if err != nil {
		return nil, core.Errorf(core.KindInvalid, op, "%w", err)
	}
	defer func() { _ = conn.Close() }()
	tables, err := tablesOf(ctx, conn)
	if err != nil {
		return nil, serverError(op, err)
	}
	var full []string
	for _, t := range tables {
		if t.rows > 0 && t.name != "schema_migrations" {
			full = append(full, fmt.Sprintf("%s (%d rows)", t.name, t.rows))
		}
	}
	if len(full) > 0 {
		return nil, &core.Error{Kind: core.KindConflict, Op: op, Findings: []core.Finding{{Message: core.Text{
			Zh: "历史库不是空的：" + strings.Join(full, "，") + "。恢复只写入空的历史库：请先把历史目录移走，或指定另一个数据目录",
			En: "history is not empty: " + strings.Join(full, ", ") + "; only an empty history is restored into: move its folder away first, or name another data folder",
		}}}}
	}
	for _, t := range tables {
		what := "TABLE "
		switch {
		case strings.HasSuffix(t.engine, "View"):
			what = "VIEW "
		case t.engine == "Dictionary":
			what = "DICTIONARY "
		}
		if err := conn.Exec(ctx, "DROP "+what+quoted(t.name)+" SYNC"); err != nil {
			return nil, serverError(op, err)
		}
	}
	statement := "RESTORE DATABASE " + quoted(options.Auth.Database) + " FROM " + inFolder(folder)
	if base != "" {
		statement += " SETTINGS base_backup = " + inFolder(base)
	}
	if err := longRunning(ctx, op, conn, statement); err != nil {
		return nil, err
	}
	return checksums(ctx, conn)
}

// longRunning has the server back up or restore and waits for its end, however long it takes.
func longRunning(ctx context.Context, op string, conn driver.Conn, statement string) error {
	var id, status, problem, query string
	if err := conn.QueryRow(ctx, statement+" ASYNC").Scan(&id, &status); err != nil {
		return serverError(op, err)
	}
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for {
		err := conn.QueryRow(ctx, "SELECT toString(status), error, query_id FROM system.backups WHERE id = {id:String}", ch.Named("id", id)).Scan(&status, &problem, &query)
		switch {
		case ctx.Err() != nil:
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return errors.Join(context.Cause(ctx), conn.Exec(limited, "KILL QUERY WHERE query_id = {query:String} ASYNC FORMAT Null", ch.Named("query", query)))
		case err != nil:
			return serverError(op, err)
		case status == "BACKUP_CREATED" || status == "RESTORED":
			return nil
		case strings.HasSuffix(status, "FAILED") || strings.HasSuffix(status, "CANCELLED"):
			problem, _, _ = strings.Cut(problem, ", Stack trace")
			return core.Errorf(core.KindInvalid, op, "%s", problem)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
		}
	}
}

type storedTable struct {
	name, engine string
	rows         uint64
}

// tablesOf gives what the database holds; views first, so that nothing stands on what was dropped before it.
func tablesOf(ctx context.Context, conn driver.Conn) ([]storedTable, error) {
	rows, err := conn.Query(ctx, `SELECT name, engine, toUInt64(coalesce(total_rows, 0)) FROM system.tables
WHERE database = currentDatabase() AND NOT startsWith(name, '.inner') ORDER BY engine NOT LIKE '%View', engine != 'Dictionary', name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []storedTable
	for rows.Next() {
		var t storedTable
		if err := rows.Scan(&t.name, &t.engine, &t.rows); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

func quoted(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}

func inFolder(path string) string {
	return "File('" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(path) + "')"
}
