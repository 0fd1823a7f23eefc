package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

//go:embed migrations
var migrationFiles embed.FS

// migration is one step of the schema. A merged step never changes: its checksum stands in migrations/CHECKSUMS and in
// every database that has it.
type migration struct {
	version  int64
	name     string
	text     string
	checksum string
}

func migrations(dialect string) ([]migration, error) {
	dir := path.Join("migrations", dialect)
	entries, err := fs.ReadDir(migrationFiles, dir)
	if err != nil {
		return nil, err
	}
	var steps []migration
	for i, entry := range entries { // sorted by name
		text, err := fs.ReadFile(migrationFiles, path.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil || version != int64(i+1) {
			return nil, fmt.Errorf("migration %s is out of order", entry.Name())
		}
		sum := sha256.Sum256(text)
		steps = append(steps, migration{version, strings.TrimSuffix(entry.Name(), ".sql"), string(text), hex.EncodeToString(sum[:])})
	}
	return steps, nil
}

const createMigrations = `CREATE TABLE IF NOT EXISTS gnomon_migrations (
    version    BIGINT NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    checksum   TEXT   NOT NULL, -- SHA-256 of the file
    applied_at BIGINT NOT NULL
)`

// migrate verifies the steps a database has and applies the ones it has not, in one transaction. begin is called in
// it first: it takes a lock against other servers, and refuses a foreign database.
func migrate(ctx context.Context, db *sql.DB, dialect string, begin func(ctx context.Context, tx *sql.Tx) error) (err error) {
	steps, err := migrations(dialect)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	if begin != nil {
		if err := begin(ctx, tx); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, createMigrations); err != nil {
		return err
	}
	have, err := applied(ctx, tx)
	if err != nil {
		return err
	}
	if err := verify(steps, have); err != nil {
		return err
	}
	for _, step := range steps[len(have):] {
		if _, err := tx.ExecContext(ctx, step.text); err != nil {
			return fmt.Errorf("migration %s: %w", step.name, err)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO gnomon_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)",
			step.version, step.name, step.checksum, time.Now().UnixMicro())
		if err != nil {
			return fmt.Errorf("migration %s: %w", step.name, err)
		}
	}
	return tx.Commit()
}

func applied(ctx context.Context, tx *sql.Tx) (have []migration, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT version, name, checksum FROM gnomon_migrations ORDER BY version")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m migration
		if err := rows.Scan(&m.version, &m.name, &m.checksum); err != nil {
			return nil, err
		}
		have = append(have, m)
	}
	return have, rows.Err()
}

func verify(steps, have []migration) error {
	for i, m := range have {
		switch {
		case i >= len(steps):
			return core.Errorf(core.KindDamaged, "open store",
				"the store was written by a newer version of Gnomon (migration %s is not known here); start that version, or put back a backup from before the upgrade", m.name)
		case m.version != steps[i].version:
			return core.Errorf(core.KindDamaged, "open store",
				"the store's record of migrations has a hole before %s; put back a backup", m.name)
		case m.checksum != steps[i].checksum:
			return core.Errorf(core.KindDamaged, "open store",
				"migration %s was applied in another wording than this program has; start the version that made the store, or put back a backup", m.name)
		}
	}
	return nil
}
