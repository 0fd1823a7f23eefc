package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
	"modernc.org/sqlite"
)

const (
	sqliteFile = "store.db"
	lockFile   = "store.lock"
	// applicationID marks the file as ours, in its header: "GNOM".
	applicationID = 0x474E4F4D
	// quickCheckBytes is the largest file that is checked whole when it is opened (about half a second).
	quickCheckBytes = 64 << 20
	readConns       = 4
)

// SQLite's primary result codes, https://www.sqlite.org/rescode.html.
const (
	codeBusy     = 5
	codeLocked   = 6
	codeIOErr    = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeReadOnly = 8
	codeNoMem    = 7
	codeNotADB   = 26
)

type sqliteDialect struct {
	path  string
	lock  *os.File
	write *sql.DB
	read  *sql.DB
}

func openSQLite(ctx context.Context, opts Options) (_ dialect, err error) {
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, core.Errorf(core.KindInvalid, "open store", "data folder %q: %w", opts.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, core.Errorf(core.KindUnavailable, "open store", "%w", err)
	}
	d := &sqliteDialect{path: filepath.Join(dir, sqliteFile)}
	if d.lock, err = takeLock(ctx, filepath.Join(dir, lockFile)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err := d.findOrCreate(ctx, opts.Log); err != nil {
		return nil, err
	}
	if err := checkHeader(d.path); err != nil {
		return nil, err
	}
	if d.write, err = d.open("mode=rw&_pragma=cache_size(-16000)", 1); err != nil {
		return nil, d.fault("open store", err)
	}
	// Each reader has a cache of its own: a small one, the operating system keeps the file's pages anyway.
	if d.read, err = d.open("mode=rw&_query_only=1&_pragma=cache_size(-2000)", readConns); err != nil {
		return nil, d.fault("open store", err)
	}
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if err := migrate(ctx, d.write, "sqlite", nil); err != nil {
		return nil, d.fault("open store", err)
	}
	// The lock proves that no other server is alive.
	if _, err := sqlcgen.New(d.write).DeleteServers(ctx); err != nil {
		return nil, d.fault("open store", err)
	}
	return d, nil
}

// open gives a pool whose connections all have the settings that promise 13 needs.
func (d *sqliteDialect) open(mode string, conns int) (*sql.DB, error) {
	return openSQLiteFile(d.path, mode, conns)
}

func openSQLiteFile(path, mode string, conns int) (*sql.DB, error) {
	u := url.URL{Scheme: "file", OmitHost: true, Path: path}
	dsn := u.String() + "?" + mode + "&_txlock=immediate&_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1" +
		"&_defensive=1&_dqs=0&_pragma=temp_store(memory)&_pragma=wal_autocheckpoint(4000)" +
		"&_pragma=journal_size_limit(67108864)"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// findOrCreate makes the file where there has never been one. It is made under another name, so that a file with the
// right name is always a whole store: an empty one is damage.
func (d *sqliteDialect) findOrCreate(ctx context.Context, log *slog.Logger) error {
	_, err := os.Stat(d.path)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return core.Errorf(core.KindUnavailable, "open store", "%w", err)
	}
	_, walErr := os.Stat(d.path + "-wal")
	mark, err := os.ReadFile(d.lock.Name())
	if err != nil {
		return core.Errorf(core.KindUnavailable, "open store", "%w", err)
	}
	if walErr == nil || strings.Contains(string(mark), createdMark) {
		return core.Errorf(core.KindDamaged, "open store",
			"%s is missing, but this folder had a store; put the file back from a backup, or, to begin with an empty store, delete %s and %s-wal",
			d.path, d.lock.Name(), d.path)
	}
	made := d.path + ".new"
	for _, left := range []string{made, made + "-wal", made + "-shm"} { // of a creation that was cut short
		if err := os.Remove(left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return core.Errorf(core.KindUnavailable, "create store", "%w", err)
		}
	}
	if err := create(ctx, made); err != nil {
		return d.fault("create store", err)
	}
	if err := os.Rename(made, d.path); err != nil {
		return core.Errorf(core.KindUnavailable, "create store", "%w", err)
	}
	if err := syncDir(filepath.Dir(d.path)); err != nil {
		return core.Errorf(core.KindUnavailable, "create store", "%w", err)
	}
	if err := writeMark(d.lock, createdMark); err != nil {
		return core.Errorf(core.KindUnavailable, "create store", "%w", err)
	}
	log.Info("store created", "path", d.path)
	return nil
}

func create(ctx context.Context, path string) (err error) {
	db, err := openSQLiteFile(path, "mode=rwc", 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }() // the last to close folds the WAL into the file
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
		return err
	}
	if err := migrate(ctx, db, "sqlite", nil); err != nil {
		return err
	}
	if _, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return err
	}
	return os.Chmod(path, 0o600) // SQLite gives the WAL the same mode
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// checkHeader refuses what is no store of ours before SQLite touches it. The offsets are those of
// https://www.sqlite.org/fileformat2.html, section 1.3.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return core.Errorf(core.KindUnavailable, "open store", "%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return core.Errorf(core.KindUnavailable, "open store", "%w", err)
	}
	header := make([]byte, 100)
	if n, err := f.ReadAt(header, 0); n < len(header) {
		return damaged(path, fmt.Sprintf("it has %d bytes and no header (%v)", info.Size(), err))
	}
	if string(header[:16]) != "SQLite format 3\x00" {
		return damaged(path, "it does not begin like an SQLite file")
	}
	if id := binary.BigEndian.Uint32(header[68:]); id != applicationID {
		return core.Errorf(core.KindDamaged, "open store",
			"%s is an SQLite file of another program (application_id %#x); give Gnomon a data folder of its own, or move that file away", path, id)
	}
	pageSize := int64(binary.BigEndian.Uint16(header[16:]))
	if pageSize == 1 {
		pageSize = 65536
	}
	if pageSize < 512 || pageSize&(pageSize-1) != 0 {
		return damaged(path, fmt.Sprintf("its header names a page size of %d", pageSize))
	}
	// While there is a WAL, the file's own length may lag behind its header.
	wal, err := os.Stat(path + "-wal")
	if err == nil && wal.Size() > 0 {
		return nil
	}
	pages := int64(binary.BigEndian.Uint32(header[28:]))
	if info.Size() < pages*pageSize {
		return damaged(path, fmt.Sprintf("it is cut short: %d bytes of %d", info.Size(), pages*pageSize))
	}
	return nil
}

func damaged(path, how string) error {
	return core.Errorf(core.KindDamaged, "open store",
		"%s is damaged: %s; stop here and put back a backup, or salvage what is left with `sqlite3 %s .recover` into a new file",
		path, how, filepath.Base(path))
}

// check has SQLite itself look at a small file whole, and at the schema of a large one.
func (d *sqliteDialect) check(ctx context.Context) error {
	info, err := os.Stat(d.path)
	if err != nil {
		return core.Errorf(core.KindUnavailable, "open store", "%w", err)
	}
	query := "PRAGMA quick_check(1)"
	if info.Size() > quickCheckBytes {
		query = "SELECT CASE WHEN COUNT(*) > 0 THEN 'ok' ELSE 'its schema is empty' END FROM sqlite_schema"
	}
	var verdict string
	if err := d.write.QueryRowContext(ctx, query).Scan(&verdict); err != nil {
		return d.fault("open store", err)
	}
	if verdict != "ok" {
		return damaged(d.path, verdict)
	}
	return nil
}

func (d *sqliteDialect) name() string     { return "sqlite" }
func (d *sqliteDialect) readers() *sql.DB { return d.read }
func (d *sqliteDialect) alone() bool      { return true }

func (d *sqliteDialect) now(context.Context) (time.Time, error) { return time.Now(), nil }

func (d *sqliteDialect) close() error {
	var errs []error
	if d.read != nil {
		errs = append(errs, d.read.Close())
	}
	if d.write != nil {
		errs = append(errs, d.write.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close()) // which gives the lock back
	}
	d.read, d.write, d.lock = nil, nil, nil
	return errors.Join(errs...)
}

func (d *sqliteDialect) weigh(err error) remedy {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return giveUp
	}
	switch e.Code() & 0xff {
	case codeBusy, codeLocked:
		return again
	case codeIOErr, codeCorrupt, codeFull, codeCantOpen, codeReadOnly, codeNoMem, codeNotADB:
		return giveUp
	default:
		return isolate
	}
}

func (d *sqliteDialect) fault(op string, err error) error {
	kind := core.KindInternal
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case codeCorrupt, codeNotADB:
			if _, ours := errors.AsType[*core.Error](err); !ours {
				return damaged(d.path, err.Error())
			}
		case codeBusy, codeLocked, codeIOErr, codeFull, codeCantOpen, codeReadOnly, codeNoMem:
			kind = core.KindUnavailable
		}
	}
	return faultOf(op, err, kind)
}

// sqliteSession runs hot statements on the driver itself: database/sql costs as much again as the statement.
type sqliteSession struct {
	conn  *sql.Conn
	hot   map[string]*hotStmt
	cold  *preparing
	q     *sqlcgen.Queries
	args  []any
	named []driver.NamedValue
	dest  [4]driver.Value
	row   [4]int64
}

func (d *sqliteDialect) session(ctx context.Context) (session, error) {
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	s := &sqliteSession{conn: conn, hot: map[string]*hotStmt{}, cold: newPreparing(conn)}
	s.q = sqlcgen.New(s.cold)
	return s, nil
}

func (s *sqliteSession) queries() *sqlcgen.Queries                     { return s.q }
func (s *sqliteSession) lock(context.Context, []string, []int64) error { return nil } // the writer is alone

func (s *sqliteSession) rows(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return s.conn.QueryContext(ctx, text, args...)
}

func (s *sqliteSession) free(ctx context.Context, runs []string) ([]sqlcgen.ProbedBreakersRow, error) {
	held := false
	err := s.many(ctx, anythingHeld, 1, func(_ int, args []any) []any { return args }, func(_ int, _ int64, row []int64) { held = row[0] != 0 })
	if err != nil || !held {
		return nil, err
	}
	if err := s.many(ctx, freeSlots, len(runs), func(i int, args []any) []any { return append(args, runs[i]) }, nil); err != nil {
		return nil, err
	}
	return s.q.ProbedBreakers(ctx)
}

func (s *sqliteSession) begin(ctx context.Context) error {
	return s.control(ctx, "BEGIN IMMEDIATE")
}

func (s *sqliteSession) commit(ctx context.Context) error {
	return s.control(ctx, "COMMIT")
}

func (s *sqliteSession) rollback(ctx context.Context) error {
	return s.control(context.WithoutCancel(ctx), "ROLLBACK")
}

// control runs without a deadline of its own: an interrupted COMMIT would be rolled back after all.
func (s *sqliteSession) control(ctx context.Context, text string) error {
	return s.many(context.WithoutCancel(ctx), statement{sql: text}, 1, func(_ int, args []any) []any { return args }, nil)
}

func (s *sqliteSession) many(ctx context.Context, stmt statement, n int, bind func(int, []any) []any, got func(int, int64, []int64)) error {
	if n == 0 {
		return nil
	}
	return s.conn.Raw(func(dc any) error {
		prepared, err := s.prepare(dc, stmt.sql)
		if err != nil {
			return err
		}
		// A context that can end costs the driver a goroutine per statement; the deadline is looked at in between.
		quiet := context.WithoutCancel(ctx)
		for i := range n {
			if i&0xff == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.args = bind(i, s.args[:0])
			s.named = s.named[:0]
			for j, arg := range prepared.args {
				s.named = append(s.named, driver.NamedValue{Ordinal: j + 1, Value: s.args[arg]})
			}
			if stmt.returns == 0 {
				result, err := prepared.stmt.(driver.StmtExecContext).ExecContext(quiet, s.named)
				if err != nil {
					return err
				}
				if got != nil {
					affected, err := result.RowsAffected()
					if err != nil {
						return err
					}
					got(i, affected, nil)
				}
				continue
			}
			row, err := s.one(quiet, prepared.stmt.(driver.StmtQueryContext), stmt.returns)
			if err != nil {
				return err
			}
			got(i, 0, row)
		}
		return nil
	})
}

// hotStmt is a prepared statement, and which argument each of its parameters is.
type hotStmt struct {
	stmt driver.Stmt
	args []int
}

// numbered is a parameter as the queries write it.
var numbered = regexp.MustCompile(`\$[0-9]+`)

func (s *sqliteSession) prepare(dc any, text string) (*hotStmt, error) {
	if prepared := s.hot[text]; prepared != nil {
		return prepared, nil
	}
	prepared := &hotStmt{}
	// To SQLite $1 is a name, for which the driver asks each time that it binds a value.
	unnamed := numbered.ReplaceAllStringFunc(text, func(parameter string) string {
		number, _ := strconv.Atoi(parameter[1:])
		prepared.args = append(prepared.args, number-1)
		return "?"
	})
	var err error
	if prepared.stmt, err = dc.(driver.Conn).Prepare(unnamed); err != nil {
		return nil, err
	}
	s.hot[text] = prepared
	return prepared, nil
}

// one runs a statement that gives at most one row of integers.
func (s *sqliteSession) one(ctx context.Context, stmt driver.StmtQueryContext, columns int) (row []int64, err error) {
	rows, err := stmt.QueryContext(ctx, s.named)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next(s.dest[:columns]) == nil {
		row = s.row[:columns]
		for i, v := range s.dest[:columns] {
			row[i], _ = v.(int64)
		}
	}
	return row, nil
}

func (s *sqliteSession) close() {
	// What fails to close here is closed with the connection.
	_ = s.conn.Raw(func(any) error {
		for _, hot := range s.hot {
			_ = hot.stmt.Close()
		}
		return nil
	})
	s.cold.close()
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // take the connection out of the pool
	_ = s.conn.Close()
}
