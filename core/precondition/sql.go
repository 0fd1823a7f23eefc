package precondition

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/gnomon-scheduler/gnomon/core"
)

// sqlNeed is what the names of grants of databases begin with.
const sqlNeed = "sql:"

// noConnection says that a namespace was not granted a connection, and which ones it was.
func (c *Preconditions) noConnection(namespace, name string) core.Finding {
	var there []string
	if c.opts.Needs != nil {
		for _, need := range c.opts.Needs(namespace) {
			if connection, ok := strings.CutPrefix(need, sqlNeed); ok {
				there = append(there, connection)
			}
		}
	}
	zh, en := "命名空间 "+namespace+" 没有获得连接 "+name+" 的授权", "namespace "+namespace+" has not been granted the connection "+name
	switch like := nearest(name, there); {
	case like != "":
		zh, en = zh+"；是否指 "+like+"？", en+"; did you mean "+like+"?"
	case len(there) > 0:
		zh, en = zh+"；已授权的有："+strings.Join(there, "、"), en+"; it has been granted "+strings.Join(there, ", ")
	default:
		zh, en = zh+"；请在服务器配置的 grants 里加上 "+sqlNeed+name, en+"; add "+sqlNeed+name+" under grants in the server's configuration"
	}
	return finding("sql.connection", zh, en)
}

// query judges a SQL check. Each has a connection of its own, so that nothing a statement leaves in its session meets the next.
func (c *Preconditions) query(ctx context.Context, q core.SQLCheck, facts Facts) (Result, error) {
	op := "query " + q.Connection
	if findings := checkSQL(q); len(findings) > 0 {
		return Result{}, core.Invalid(op, findings...)
	}
	dsn, err := c.grant(sqlNeed+q.Connection, facts)
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTime, fmt.Errorf("no answer within %v", checkTime))
	defer cancel()
	d, err := open(dsn)
	if err != nil {
		return Result{}, core.Errorf(core.KindInvalid, op, "%w", err)
	}
	value, found, err := d.first(ctx, cancel, q.Query)
	err = errors.Join(err, d.Close())
	switch {
	case err != nil && ctx.Err() != nil:
		return Result{}, core.Errorf(core.KindUnavailable, op, "%w", context.Cause(ctx))
	case err != nil:
		return Result{}, core.Errorf(core.KindUnavailable, op, "%w", err)
	case !found:
		return Result{Detail: "sql " + q.Connection + " gave no row"}, nil
	}
	return Result{True: truthy(value), Detail: "sql " + q.Connection + " gave " + show(value)}, nil
}

// database is a database that was granted, opened for one statement.
type database struct {
	*sql.DB
	kind string // postgres, mysql or sqlite
}

// maxValueBytes bounds what one message or value of a database may hold.
const maxValueBytes = 1 << 20

// open opens the database of a grant: postgres://…, mysql://user:password@host:3306/name or a SQLite file as sqlite:PATH,
// file:PATH or a plain path. No error shows the grant: it may hold a password.
func open(dsn string) (*database, error) {
	scheme, rest, _ := strings.Cut(dsn, "://")
	var d *database
	switch scheme {
	case "postgres", "postgresql":
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, errors.New("the grant is not a PostgreSQL URL")
		}
		config.DefaultQueryExecMode = pgx.QueryExecModeExec // one statement only, whatever the URL says, and nothing prepared
		config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			f := pgproto3.NewFrontend(r, w)
			f.SetMaxBodyLen(maxValueBytes)
			return f
		}
		d = &database{stdlib.OpenDB(*config), "postgres"}
	case "mysql":
		config, err := mysqlConfig(rest)
		if err != nil {
			return nil, err
		}
		connector, err := mysql.NewConnector(config)
		if err != nil {
			return nil, errors.New("the grant is not a MySQL URL")
		}
		d = &database{sql.OpenDB(connector), "mysql"}
	default:
		text, err := sqliteURI(dsn)
		if err != nil {
			return nil, err
		}
		connector, err := sqlite.NewConnector(text)
		if err != nil {
			return nil, errors.New("the grant is not understood: give postgres://…, mysql://… or sqlite:PATH")
		}
		d = &database{sql.OpenDB(connector), "sqlite"}
	}
	d.SetMaxOpenConns(1)
	return d, nil
}

// mysqlConfig reads user:password@host:port/name?options, percent-encoded as in a URL.
func mysqlConfig(rest string) (*mysql.Config, error) {
	at := strings.LastIndex(rest, "@")
	address, name, ok := strings.Cut(rest[at+1:], "/")
	if !ok || address == "" {
		return nil, errors.New("the grant is not mysql://user:password@host:3306/name")
	}
	user, err := url.PathUnescape(rest[:at+1])
	if err != nil {
		return nil, errors.New("the user part of the MySQL grant is not percent-encoded rightly")
	}
	if !strings.HasPrefix(address, "unix(") && !strings.HasPrefix(address, "tcp(") {
		address = "tcp(" + address + ")"
	}
	config, err := mysql.ParseDSN(user + address + "/" + name)
	if err != nil {
		return nil, errors.New("the grant is not a MySQL URL")
	}
	config.MultiStatements, config.AllowAllFiles = false, false
	config.Timeout, config.ReadTimeout, config.WriteTimeout = checkTime, checkTime, checkTime
	config.Logger = &mysql.NopLogger{}
	return config, nil
}

// sqliteURI opens the file for reading only; one that is not there is not made.
func sqliteURI(dsn string) (string, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(dsn, "sqlite:"), "file:")
	path, _, _ = strings.Cut(strings.TrimPrefix(path, "//"), "?")
	if path == "" || strings.Contains(path, "\x00") {
		return "", errors.New("the grant names no SQLite file: give sqlite:/path/to/file.db")
	}
	values := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)"}}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.Clean(path)}).EscapedPath(), RawQuery: values.Encode()}
	return u.String(), nil
}

// Limits of SQLite (sqlite3.h): no other file is attached, and no value is huge.
const (
	limitLength   = 0
	limitAttached = 7
)

// querier is a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// first gives the first value of the first row; found is false if there is no row.
func (d *database) first(ctx context.Context, cancel context.CancelFunc, query string) (value any, found bool, err error) {
	conn, err := d.Conn(ctx)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if d.kind == "sqlite" {
		_, err1 := sqlite.Limit(conn, limitAttached, 0)
		_, err2 := sqlite.Limit(conn, limitLength, maxValueBytes)
		if err := errors.Join(err1, err2); err != nil {
			return nil, false, err
		}
		return firstOf(ctx, cancel, conn, query)
	}
	if d.kind == "mysql" { // the one is MySQL's word for it and the other MariaDB's; without either the context ends it
		_, _ = conn.ExecContext(ctx, fmt.Sprintf("SET SESSION max_execution_time = %d", checkTime.Milliseconds()))
		_, _ = conn.ExecContext(ctx, fmt.Sprintf("SET SESSION max_statement_time = %d", int(checkTime.Seconds())))
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written, and the connection ends
	if d.kind == "postgres" {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", checkTime.Milliseconds())); err != nil {
			return nil, false, err
		}
	}
	return firstOf(ctx, cancel, tx, query)
}

func firstOf(ctx context.Context, cancel context.CancelFunc, q querier, query string) (value any, found bool, err error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		// Closing reads the rows that are left. If they are many the connection is given up instead.
		stop := time.AfterFunc(time.Second, cancel)
		_ = rows.Close() // the first row is what was wanted
		stop.Stop()
	}()
	columns, err := rows.ColumnTypes()
	if err != nil {
		return nil, false, err
	}
	if !rows.Next() {
		return nil, false, rows.Err()
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, false, err
	}
	if len(values) == 0 {
		return nil, true, nil
	}
	return plain(values[0], columns[0].DatabaseTypeName()), true, nil
}

// plain gives a column's value as nil, bool, int64, float64, string or time.
func plain(value any, column string) any {
	if b, ok := value.([]byte); ok {
		if column == "BIT" {
			return strings.Trim(string(b), "\x00") != ""
		}
		value = string(b)
	}
	if text, ok := value.(string); ok && (column == "NUMERIC" || column == "DECIMAL") { // drivers give these as text, so as not to round them
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return f
		}
	}
	return value
}

// truthy is the rule of core.SQLCheck.
func truthy(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != "" && v != "0" && v != "f" && v != "false"
	case int64:
		return v != 0
	case int32:
		return v != 0
	case uint64:
		return v != 0
	case float64:
		return v != 0
	case float32:
		return v != 0
	default:
		return true // a time
	}
}
