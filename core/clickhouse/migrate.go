package clickhouse

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one file: one statement that may be run again.
type migration struct {
	version  uint32
	name     string
	sql      string
	checksum string // SHA-256, hexadecimal
}

// migrations gives the embedded files in order. Their names are checked by a test.
func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	all := make([]migration, 0, len(names))
	for _, path := range names {
		text, err := migrationFiles.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("migration %q: %w", name, err)
		}
		sum := sha256.Sum256(text)
		all = append(all, migration{uint32(version), name, string(text), hex.EncodeToString(sum[:])})
	}
	return all, nil
}

const createMigrations = `CREATE TABLE IF NOT EXISTS schema_migrations
(
    version    UInt32 COMMENT 'number of the migration file',
    name       String COMMENT 'name of the file',
    checksum   String COMMENT 'SHA-256 of the file, hexadecimal',
    applied_at DateTime64(6, 'UTC') COMMENT 'when it was applied; clock of the server that did'
)
ENGINE = ReplacingMergeTree
ORDER BY version
COMMENT 'which migrations the schema has; written and read by gnomon at its start'`

// migrate applies what is missing. Two servers may do so at once: every statement may be run twice.
func (c *Client) migrate(ctx context.Context, conn driver.Conn) error {
	const op = "bring the schema of history up to date"
	known, err := migrations()
	if err != nil {
		return err
	}
	if err := c.change(ctx, conn, createMigrations); err != nil {
		return serverError(op, err)
	}
	applied, err := appliedTo(ctx, conn)
	if err != nil {
		return serverError(op, err)
	}
	for version, was := range applied {
		if version > uint32(len(known)) {
			return core.Errorf(core.KindDamaged, op, "the schema has migration %s, which this version of Gnomon does not know: it was written by a newer one; use that, or another database", was.name)
		}
	}
	for _, m := range known {
		was, done := applied[m.version]
		if done && was.checksum != m.checksum {
			return core.Errorf(core.KindDamaged, op, "migration %s was applied with another text (checksum %.12s, now %.12s): the schema is not the one this version expects; use the version that made it, or another database", m.name, was.checksum, m.checksum)
		}
		if done {
			continue
		}
		if err := c.change(ctx, conn, m.sql); err != nil {
			return serverError(op+": "+m.name, err)
		}
		err := conn.Exec(ctx, "INSERT INTO schema_migrations (version, name, checksum, applied_at) SELECT {version:UInt32}, {name:String}, {checksum:String}, {at:DateTime64(6, 'UTC')}",
			ch.Named("version", m.version), ch.Named("name", m.name), ch.Named("checksum", m.checksum), ch.Named("at", time.Now().UTC().Format("2006-01-02 15:04:05.000000")))
		if err != nil {
			return serverError(op+": "+m.name, err)
		}
		c.log.Info("schema changed", "migration", m.name)
	}
	return nil
}

// change runs what a migration is on this server or cluster.
func (c *Client) change(ctx context.Context, conn driver.Conn, file string) error {
	all, err := c.cluster.statements(file)
	if err != nil {
		return err
	}
	for _, sql := range all {
		if err := c.cluster.exec(ctx, conn, sql); err != nil {
			return err
		}
	}
	return nil
}

func appliedTo(ctx context.Context, conn driver.Conn) (map[uint32]migration, error) {
	rows, err := conn.Query(settings(ctx, reading()), "SELECT version, name, checksum FROM schema_migrations")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[uint32]migration)
	for rows.Next() {
		var m migration
		if err := rows.Scan(&m.version, &m.name, &m.checksum); err != nil {
			return nil, err
		}
		all[m.version] = m
	}
	return all, rows.Err()
}
