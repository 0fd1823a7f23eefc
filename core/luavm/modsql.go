package luavm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	lua "github.com/yuin/gopher-lua"
	"modernc.org/sqlite"
)

const (
	maxRows     = 100_000
	maxRowBytes = 64 << 20 // of all rows of one query together
)

// sql.query(name, statement, …) gives an array of rows, each a table by column name; NULL is nil, so an absent key.
// sql.exec(name, statement, …) gives {affected=, last_id=}. sql.tx(name, function(tx) … end) commits when the function
// returns and rolls back when it raises; inside, tx.query(statement, …) and tx.exec(statement, …). Arguments are bound:
// nil and sql.null are NULL, a whole number up to 2^53 is an integer. The name is that of the grant "sql:<name>".
var sqlFuncs = functions{"query": sqlQuery, "exec": sqlExec, "tx": sqlTx}

// databases keeps one handle per DSN, from the first run that needs it to the end of the worker.
type databases struct {
	mu   sync.Mutex
	open map[string]*database
}

type database struct {
	*sql.DB
	sqlite   bool
	numbered bool // parameters are $1, $2, …
}

// Limits of SQLite (sqlite3.h): a script may use the file it was granted and no other, and no huge values.
const (
	limitLength   = 0
	limitAttached = 7
)

// get gives the handle of a DSN: postgres://…, mysql://user:password@host:3306/name, or a SQLite file as sqlite:PATH,
// file:PATH or a plain path.
func (d *databases) get(dsn string) (*database, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if db, ok := d.open[dsn]; ok {
		return db, nil
	}
	var db *database
	scheme, rest, _ := strings.Cut(dsn, "://")
	switch scheme {
	case "postgres", "postgresql":
		h, err := sql.Open("pgx", dsn)
		if err != nil {
			return nil, errors.New("the DSN of the grant is not a PostgreSQL URL") // the cause may hold the password
		}
		db = &database{DB: h, numbered: true}
	case "mysql":
		text, err := mysqlDSN(rest)
		if err != nil {
			return nil, err
		}
		h, err := sql.Open("mysql", text)
		if err != nil {
			return nil, errors.New("the DSN of the grant is not a MySQL URL")
		}
		db = &database{DB: h}
	default:
		text, err := sqliteDSN(dsn)
		if err != nil {
			return nil, err
		}
		connector, err := sqlite.NewConnector(text)
		if err != nil {
			return nil, errors.New("the DSN of the grant is not understood: give postgres://…, mysql://… or sqlite:PATH")
		}
		db = &database{DB: sql.OpenDB(connector), sqlite: true}
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(2)
	db.SetConnMaxIdleTime(5 * time.Minute)
	if d.open == nil {
		d.open = map[string]*database{}
	}
	d.open[dsn] = db
	return db, nil
}

// close closes all handles.
func (d *databases) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, db := range d.open {
		errs = append(errs, db.Close())
	}
	d.open = nil
	return errors.Join(errs...)
}

// sqliteDSN gives modernc's form, with a wait for locks, WAL, and transactions that take the write lock at once.
func sqliteDSN(dsn string) (string, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(dsn, "sqlite:"), "file:")
	path = strings.TrimPrefix(path, "//")
	path, query, _ := strings.Cut(path, "?")
	values, err := url.ParseQuery(query)
	if path == "" || err != nil || strings.Contains(path, "\x00") {
		return "", errors.New("the DSN of the grant names no SQLite file: give sqlite:/path/to/file.db")
	}
	values.Del("vfs")
	values.Set("_txlock", "immediate")
	for _, pragma := range []string{"busy_timeout(5000)", "journal_mode(WAL)", "foreign_keys(1)"} {
		values.Add("_pragma", pragma)
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.Clean(path)}).EscapedPath(), RawQuery: values.Encode()}
	return u.String(), nil
}

// mysqlDSN turns user:password@host:port/name?options into the driver's form user:password@tcp(host:port)/name?options.
func mysqlDSN(rest string) (string, error) {
	at := strings.LastIndex(rest, "@")
	address, name, ok := strings.Cut(rest[at+1:], "/")
	if !ok || address == "" {
		return "", errors.New("the DSN of the grant is not mysql://user:password@host:3306/name")
	}
	user := ""
	if at >= 0 {
		var err error
		if user, err = url.PathUnescape(rest[:at]); err != nil {
			return "", errors.New("the user part of the MySQL DSN is not percent-encoded rightly")
		}
		user += "@"
	}
	if strings.Contains(strings.ToLower(name), "allowallfiles") {
		return "", errors.New("allowAllFiles is not allowed in a grant's DSN: it lets a script read the worker's files")
	}
	if strings.HasPrefix(address, "unix(") || strings.HasPrefix(address, "tcp(") {
		return user + address + "/" + name, nil
	}
	return user + "tcp(" + address + ")/" + name, nil
}

// conn takes a connection for one statement or one transaction.
func (s *session) conn(ctx context.Context, name string) (*connection, error) {
	dsn, ok := s.granted["sql:"+name]
	if !ok {
		return nil, errors.New(s.notGranted("sql:" + name))
	}
	db, err := s.db.get(dsn)
	if err != nil {
		return nil, err
	}
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if db.sqlite {
		_, err1 := sqlite.Limit(c, limitAttached, 0)
		_, err2 := sqlite.Limit(c, limitLength, maxString)
		if err := errors.Join(err1, err2); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return &connection{c, db.numbered}, nil
}

// connection is a connection and how its database writes parameters.
type connection struct {
	*sql.Conn
	numbered bool
}

// target is where a statement goes.
type target struct {
	queryer
	name     string
	numbered bool
}

// queryer is a connection or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// raiseSQL raises err, or what stops the run if that is why the statement ended.
func raiseSQL(L *lua.LState, name, statement string, err error) {
	b := budgetOf(L)
	b.next = b.left
	b.charge(L, 1)
	statement = strings.Join(strings.Fields(statement), " ")
	if len(statement) > 200 {
		statement = statement[:200] + "…"
	}
	if statement != "" {
		statement = ", in: " + statement
	}
	L.RaiseError("sql %q: %s%s", name, err.Error(), statement)
}

func sqlQuery(L *lua.LState) int { return sqlOne(L, runQuery) }
func sqlExec(L *lua.LState) int  { return sqlOne(L, runExec) }

func sqlOne(L *lua.LState, f func(L *lua.LState, to target, first int) int) int {
	s, name := sessionOf(L), L.CheckString(1)
	if s.inTx[name] {
		L.RaiseError("sql %q: a transaction is open; use tx.query and tx.exec inside sql.tx", name)
	}
	c, err := s.conn(ctxOf(L), name)
	if err != nil {
		raiseSQL(L, name, "", err)
	}
	defer c.Close()
	return f(L, target{c, name, c.numbered}, 2)
}

func sqlTx(L *lua.LState) int {
	s, name, body := sessionOf(L), L.CheckString(1), L.CheckFunction(2)
	if s.inTx[name] {
		L.RaiseError("sql %q: a transaction is already open", name)
	}
	ctx := ctxOf(L)
	c, err := s.conn(ctx, name)
	if err != nil {
		raiseSQL(L, name, "", err)
	}
	defer c.Close()
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		raiseSQL(L, name, "begin", err)
	}
	done := false
	if s.inTx == nil {
		s.inTx = map[string]bool{}
	}
	s.inTx[name] = true
	outer := s.txThread
	s.txThread = L
	defer func() {
		done = true
		s.inTx[name] = false
		s.txThread = outer
		_ = tx.Rollback() // after a commit this does nothing; after an error the error is what counts
	}()
	handle := newTable(0, 2)
	bind := func(f func(L *lua.LState, to target, first int) int) lua.LValue {
		return L.NewFunction(func(L *lua.LState) int {
			if done {
				L.RaiseError("sql %q: the transaction has ended", name)
			}
			first := 1
			if L.Get(1) == handle { // tx:query(…) as well as tx.query(…)
				first = 2
			}
			return f(L, target{tx, name, c.numbered}, first)
		})
	}
	handle.RawSetString("query", bind(runQuery))
	handle.RawSetString("exec", bind(runExec))
	top := L.GetTop()
	L.Push(body)
	L.Push(handle)
	L.Call(1, lua.MultRet)
	if err := tx.Commit(); err != nil {
		raiseSQL(L, name, "commit", err)
	}
	return L.GetTop() - top
}

// sqlArgs gives the statement at stack index first and its arguments after it.
func sqlArgs(L *lua.LState, to target, first int) (string, []any) {
	statement := L.CheckString(first)
	if to.numbered {
		statement = numbered(statement)
	}
	args := make([]any, 0, max(L.GetTop()-first, 0))
	for i := first + 1; i <= L.GetTop(); i++ {
		switch v := L.Get(i).(type) {
		case *lua.LNilType:
			args = append(args, nil)
		case lua.LBool:
			args = append(args, bool(v))
		case lua.LString:
			args = append(args, string(v))
		case lua.LNumber:
			if f := float64(v); f == math.Trunc(f) && math.Abs(f) <= maxExact {
				args = append(args, int64(f))
			} else {
				args = append(args, f)
			}
		default:
			if v == lua.LValue(null) {
				args = append(args, nil)
				continue
			}
			L.RaiseError("sql %q: argument %d is %s; give a string, number, boolean, nil or sql.null", to.name, i-first, typeName(v))
		}
	}
	return statement, args
}

// numbered writes the parameters ? of a statement as $1, $2, …, so that a script need not know its database. What stands
// in quotes and comments is left alone; a statement that already has $1 is not touched.
func numbered(statement string) string {
	if !strings.Contains(statement, "?") || strings.Contains(statement, "$1") {
		return statement
	}
	var out strings.Builder
	n := 0
	for i := 0; i < len(statement); {
		end := i + 1
		switch c := statement[i]; {
		case c == '\'' || c == '"':
			end = skipTo(statement, i+1, string(c))
		case strings.HasPrefix(statement[i:], "--"):
			end = skipTo(statement, i, "\n")
		case strings.HasPrefix(statement[i:], "/*"):
			end = skipTo(statement, i+2, "*/")
		case strings.HasPrefix(statement[i:], "$$"):
			end = skipTo(statement, i+2, "$$")
		case c == '?':
			n++
			fmt.Fprintf(&out, "$%d", n)
			i = end
			continue
		}
		out.WriteString(statement[i:end])
		i = end
	}
	return out.String()
}

func skipTo(text string, from int, mark string) int {
	if at := strings.Index(text[from:], mark); at >= 0 {
		return from + at + len(mark)
	}
	return len(text)
}

func runExec(L *lua.LState, to target, first int) int {
	name := to.name
	statement, args := sqlArgs(L, to, first)
	result, err := to.ExecContext(ctxOf(L), statement, args...)
	if err != nil {
		raiseSQL(L, name, statement, err)
	}
	t := newTable(0, 2)
	if n, err := result.RowsAffected(); err == nil {
		t.RawSetString("affected", lua.LNumber(n))
	}
	if id, err := result.LastInsertId(); err == nil { // PostgreSQL has none
		t.RawSetString("last_id", integerOf(id))
	}
	budgetOf(L).charge(L, 100)
	L.Push(t)
	return 1
}

func runQuery(L *lua.LState, to target, first int) int {
	name := to.name
	statement, args := sqlArgs(L, to, first)
	rows, err := to.QueryContext(ctxOf(L), statement, args...)
	if err != nil {
		raiseSQL(L, name, statement, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		raiseSQL(L, name, statement, err)
	}
	b := budgetOf(L)
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	out := newTable(16, 0)
	out.Metatable = arrayMark
	total := 0
	for n := 0; rows.Next(); n++ {
		if n == maxRows {
			L.RaiseError("sql %q: the query gives more than %d rows; add a LIMIT and go on in the next run", name, maxRows)
		}
		if err := rows.Scan(into...); err != nil {
			raiseSQL(L, name, statement, err)
		}
		row := newTable(0, len(columns))
		size := 200
		for i, v := range values {
			value, bytes := fromSQL(v)
			size += bytes
			row.RawSetString(columns[i], value)
		}
		if total += size; total > maxRowBytes {
			L.RaiseError("sql %q: the rows are larger than 64 MiB together; select fewer columns, or add a LIMIT", name)
		}
		b.give(L, size)
		b.charge(L, 20)
		out.Append(row)
	}
	if err := rows.Err(); err != nil {
		raiseSQL(L, name, statement, err)
	}
	L.Push(out)
	return 1
}

// fromSQL gives a column's value and about how many bytes it takes. Integers beyond 2^53 become strings, times instants
// in milliseconds.
func fromSQL(v any) (lua.LValue, int) {
	switch v := v.(type) {
	case nil:
		return lua.LNil, 0
	case int64:
		return integerOf(v), 16
	case float64:
		return lua.LNumber(v), 16
	case float32:
		return lua.LNumber(v), 16
	case bool:
		return lua.LBool(v), 16
	case string:
		return lua.LString(v), len(v) + 16
	case []byte:
		return lua.LString(v), len(v) + 16
	case time.Time:
		return lua.LNumber(v.UnixMilli()), 16
	}
	text := fmt.Sprint(v)
	return lua.LString(text), len(text) + 16
}
