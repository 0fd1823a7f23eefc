package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// migrationLock is the key of the advisory lock that one server at a time migrates under.
	migrationLock = 0x474E4F4D
	// pipelined is how many statements go to the server before its answers are read.
	pipelined = 512
)

type postgresDialect struct {
	config *pgx.ConnConfig
	read   *sql.DB
	write  *sql.DB
}

func openPostgres(ctx context.Context, opts Options) (_ dialect, err error) {
	config, err := pgx.ParseConfig(opts.DSN)
	if err != nil { // pgx keeps the password out of this error
		return nil, core.Errorf(core.KindInvalid, "open store", "%w", err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "gnomon"
	}
	d := &postgresDialect{config: config, read: stdlib.OpenDB(*config), write: stdlib.OpenDB(*config)}
	d.read.SetMaxOpenConns(8)
	d.read.SetMaxIdleConns(8)
	d.write.SetMaxIdleConns(0) // the writer keeps its connection itself
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err := migrate(ctx, d.write, "postgres", refuseForeign); err != nil {
		return nil, d.fault("open store", err)
	}
	return d, nil
}

// refuseForeign takes the migration lock and refuses a schema that has tables of these names, but not our record of them.
func refuseForeign(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
		return err
	}
	var ours, theirs int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FILTER (WHERE table_name = 'gnomon_migrations'),
       COUNT(*) FILTER (WHERE table_name IN ('namespaces', 'tasks', 'task_versions', 'task_state', 'runs', 'servers', 'tokens', 'settings',
                                            'holds', 'breakers', 'resources', 'task_refs', 'interventions'))
FROM information_schema.tables WHERE table_schema = current_schema()`).Scan(&ours, &theirs)
	if err != nil {
		return err
	}
	if ours == 0 && theirs > 0 {
		return core.Errorf(core.KindDamaged, "open store",
			"the database has tables of Gnomon's names but not its table gnomon_migrations: they belong to another program, or the record was lost; "+
				"give Gnomon a database (or a search_path) of its own, or put back a backup")
	}
	return nil
}

func (d *postgresDialect) name() string     { return "postgres" }
func (d *postgresDialect) readers() *sql.DB { return d.read }
func (d *postgresDialect) alone() bool      { return false }

func (d *postgresDialect) now(ctx context.Context) (now time.Time, err error) {
	err = d.read.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&now)
	return now, err
}

func (d *postgresDialect) close() error { return errors.Join(d.read.Close(), d.write.Close()) }

func (d *postgresDialect) weigh(err error) remedy {
	if errors.Is(err, errLost) {
		return again
	}
	if _, ok := errors.AsType[*core.Error](err); ok {
		return giveUp
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if e.Code == "25P03" { // this process was stopped in the middle, and the session was ended meanwhile
			return again
		}
		switch e.Code[:2] {
		case "40", "08", "57", "55", "53": // deadlock, connection, shutdown or cancelled, lock not available, out of resources
			return again
		}
	} else if isConnection(err) {
		return again
	}
	return isolate
}

func (d *postgresDialect) fault(op string, err error) error {
	kind := core.KindInternal
	e, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case answered && (e.Code == "XX001" || e.Code == "XX002"):
		if _, ours := errors.AsType[*core.Error](err); !ours {
			return core.Errorf(core.KindDamaged, op, "PostgreSQL says that its data are damaged (%w); put back a backup", err)
		}
	case answered && (e.Code[:2] == "08" || e.Code[:2] == "53" || e.Code[:2] == "57" || e.Code[:2] == "28" || e.Code == "3D000"):
		kind = core.KindUnavailable
	case answered && e.Code == "23503": // a namespace deleted at the same moment
		kind = core.KindConflict
	case !answered && isConnection(err):
		kind = core.KindUnavailable
	}
	return faultOf(op, err, kind)
}

func isConnection(err error) bool {
	for _, lost := range []error{errLost, driver.ErrBadConn, net.ErrClosed, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, lost) {
			return true
		}
	}
	if pgconn.Timeout(err) || pgconn.SafeToRetry(err) {
		return true
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// postgresSession sends the hot statements of one kind in one go and then reads the answers.
type postgresSession struct {
	conn *sql.Conn
	q    *sqlcgen.Queries
	row  [4]int64
	held bool // slots or probes, by any run
}

func (d *postgresDialect) session(ctx context.Context) (session, error) {
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &postgresSession{conn: conn, q: sqlcgen.New(conn)}, nil
}

func (s *postgresSession) queries() *sqlcgen.Queries { return s.q }

func (s *postgresSession) raw(f func(c *pgx.Conn) error) error {
	return s.conn.Raw(func(dc any) error { return f(dc.(*stdlib.Conn).Conn()) })
}

func (s *postgresSession) begin(ctx context.Context) error {
	return s.raw(func(c *pgx.Conn) error {
		// A server that is stopped in the middle must not hold up the others, who are to take over when its lease is over.
		_, err := c.Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '5s'")
		return err
	})
}

// commit: an error that PostgreSQL itself gives says that the transaction is rolled back; any other says nothing.
func (s *postgresSession) commit(ctx context.Context) error {
	return s.raw(func(c *pgx.Conn) error {
		tag, err := c.Exec(ctx, "COMMIT")
		if err == nil && tag.String() != "COMMIT" {
			return fmt.Errorf("%w: the server answered %s", errLost, tag)
		}
		if _, answered := errors.AsType[*pgconn.PgError](err); err == nil || answered && !c.IsClosed() {
			return err
		}
		return fmt.Errorf("%w: %w", errUnknown, err)
	})
}

func (s *postgresSession) rollback(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return s.raw(func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "ROLLBACK")
		return err
	})
}

// lock: a key is an advisory lock, which needs no row to be there. As all is locked it is seen, on the same way, whether
// there is anything that the runs of these tasks could hold: what is admitted later in this transaction cannot end in it.
func (s *postgresSession) lock(ctx context.Context, tasks []string, keys []int64) error {
	return s.raw(func(c *pgx.Conn) (err error) {
		batch := &pgx.Batch{}
		if len(tasks) > 0 {
			batch.Queue("SELECT 1 FROM task_state WHERE task_id = ANY($1) ORDER BY task_id FOR UPDATE", tasks)
		}
		if len(keys) > 0 {
			batch.Queue("SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k", keys)
		}
		if batch.Len() == 0 {
			return nil
		}
		batch.Queue(sqlcgen.AnythingHeld)
		results := c.SendBatch(ctx, batch)
		defer func() { err = errors.Join(err, results.Close()) }()
		for range batch.Len() - 1 {
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		return results.QueryRow().Scan(&s.held)
	})
}

func (s *postgresSession) rows(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return s.conn.QueryContext(ctx, text, args...)
}

func (s *postgresSession) free(ctx context.Context, runs []string) (probed []sqlcgen.ProbedBreakersRow, err error) {
	if !s.held {
		return nil, nil
	}
	err = s.raw(func(c *pgx.Conn) (err error) {
		batch := &pgx.Batch{}
		batch.Queue("DELETE FROM holds WHERE run_id = ANY($1)", runs)
		batch.Queue(sqlcgen.ProbedBreakers)
		results := c.SendBatch(ctx, batch)
		defer func() { err = errors.Join(err, results.Close()) }()
		if _, err := results.Exec(); err != nil {
			return err
		}
		rows, err := results.Query()
		if err != nil {
			return err
		}
		probed, err = pgx.CollectRows(rows, pgx.RowToStructByPos[sqlcgen.ProbedBreakersRow])
		return err
	})
	return probed, err
}

func (s *postgresSession) many(ctx context.Context, stmt statement, n int, bind func(int, []any) []any, got func(int, int64, []int64)) error {
	for from := 0; from < n; from += pipelined {
		to := min(from+pipelined, n)
		err := s.raw(func(c *pgx.Conn) error { return s.pipeline(ctx, c, stmt, from, to, bind, got) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *postgresSession) pipeline(ctx context.Context, c *pgx.Conn, stmt statement, from, to int, bind func(int, []any) []any,
	got func(int, int64, []int64)) (err error) {
	batch := &pgx.Batch{}
	for i := from; i < to; i++ {
		batch.Queue(stmt.sql, bind(i, nil)...)
	}
	results := c.SendBatch(ctx, batch)
	defer func() { err = errors.Join(err, results.Close()) }()
	for i := from; i < to; i++ {
		if stmt.returns == 0 {
			tag, err := results.Exec()
			if err != nil {
				return err
			}
			if got != nil {
				got(i, tag.RowsAffected(), nil)
			}
			continue
		}
		row, err := s.one(results, stmt.returns)
		if err != nil {
			return err
		}
		got(i, 0, row)
	}
	return nil
}

func (s *postgresSession) one(results pgx.BatchResults, columns int) ([]int64, error) {
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var row []int64
	dest := [4]any{&s.row[0], &s.row[1], &s.row[2], &s.row[3]}
	for rows.Next() {
		if err := rows.Scan(dest[:columns]...); err != nil {
			return nil, err
		}
		row = s.row[:columns]
	}
	rows.Close()
	return row, rows.Err()
}

func (s *postgresSession) close() {
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // never back into the pool: a transaction may be open
	_ = s.conn.Close()
}
