// Package sqlgrant opens the databases a task was granted, so that plugins in Go and scripts name them alike. It is apart
// from package sdk because the drivers are large.
package sqlgrant

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

var (
	mu   sync.Mutex
	open = make(map[string]*sql.DB) // by DSN; a plugin serves few databases and lives as long as its handles
)

// DB gives the database of the grant "sql:<name>": "postgres://…", or "sqlite:PATH" for a SQLite file. Handles are kept
// and shared by all attempts of the process; do not close one. Both take parameters as $1, $2, …. It fails with a
// permanent error if the task was not granted the database or the grant is not understood.
func DB(run *sdk.Run, name string) (*sql.DB, error) {
	dsn, ok := run.Grant("sql:" + name)
	if !ok {
		return nil, sdk.Permanent(fmt.Errorf("database %q was not granted: declare sql:%s under Needs and grant it in the server's configuration", name, name))
	}
	mu.Lock()
	defer mu.Unlock()
	if db, ok := open[dsn]; ok {
		return db, nil
	}
	db, err := connect(dsn)
	if err != nil {
		return nil, sdk.Permanent(fmt.Errorf("database %q: %w", name, err)) // without the DSN: it may hold a password
	}
	open[dsn] = db
	return db, nil
}

func connect(dsn string) (*sql.DB, error) {
	var db *sql.DB
	var err error
	switch path, isSQLite := strings.CutPrefix(dsn, "sqlite:"); {
	case isSQLite && path != "":
		values := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "foreign_keys(1)"}}
		u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.Clean(path)}).EscapedPath(), RawQuery: values.Encode()}
		db, err = sql.Open("sqlite", u.String())
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
		var config *pgx.ConnConfig
		if config, err = pgx.ParseConfig(dsn); err == nil {
			db = stdlib.OpenDB(*config)
		}
	default:
		return nil, errors.New("the grant is not understood: give postgres://… or sqlite:PATH")
	}
	if err != nil {
		return nil, errors.New("the grant is not a data source that the driver understands")
	}
	db.SetMaxOpenConns(4)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, nil
}
