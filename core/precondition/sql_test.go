package precondition_test

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/storetest"
)

func query(text string) core.Precondition {
	return core.Precondition{SQL: &core.SQLCheck{Connection: "business", Query: text}}
}

func sqliteFile(t *testing.T, statements string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "业务 库.db")
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// truths are queries that every database understands, and what they come to.
var truths = map[string]bool{
	"select 1": true, "select 0": false, "select -3": true, "select 0.5": true, "select 0.0": false, "select null": false,
	"select ''": false, "select '0'": false, "select 'f'": false, "select 'false'": false, "select 'no'": true, "select ' '": true,
	"select 1 where 1 = 0": false, "select v from n where v > 100": false, "select count(*) from n": true, "select v, 'x' from n order by v desc": true,
	"select 0, 1": false, "values (1)": true, "with a as (select 2 as b) select b from a": true,
	"select 'a;b' -- one; statement\n;": true, "/* ; */ select 1 ;": true, "(select 1)": true,
}

func TestSQLChecksReadTheFirstValueOfTheFirstRow(t *testing.T) {
	t.Parallel()
	path := sqliteFile(t, `pragma journal_mode = wal; create table n (v integer, b boolean, at datetime); insert into n values (2, false, '2026-11-20'), (0, true, null)`)
	for _, dsn := range []string{"sqlite:" + path, "file:" + path, path} {
		c := setup(&world{grants: map[string]string{"sql:business": dsn}})
		for text, want := range truths {
			if strings.HasPrefix(text, "(") {
				continue // SQLite has no such statement
			}
			mustCheck(t, c, query(text))
			if got, err := c.Evaluate(t.Context(), query(text), facts(``)); err != nil || got.True != want || !strings.HasPrefix(got.Detail, "sql business gave ") {
				t.Errorf("%s: %+v %v, want %v", text, got, err, want)
			}
		}
	}
	c := setup(&world{grants: map[string]string{"sql:business": "sqlite:" + path}})
	for text, want := range map[string]string{
		"select b from n": "sql business gave 0", "select 1 where 0": "sql business gave no row", "select 'x'": `sql business gave "x"`, "select 1.5": "sql business gave 1.5",
	} {
		if got, err := c.Evaluate(t.Context(), query(text), facts(``)); err != nil || got.Detail != want {
			t.Errorf("%s: %+v %v, want %v", text, got, err, want)
		}
	}
}

func TestSQLChecksOnlyRead(t *testing.T) {
	t.Parallel()
	path := sqliteFile(t, `create table n (v integer); insert into n values (2)`)
	c := setup(&world{grants: map[string]string{"sql:business": "sqlite:" + path}})
	other := sqliteFile(t, `create table secret (v integer)`)
	for _, text := range []string{
		"with a as (select 1) insert into n select * from a", "with a as (select 1) delete from n", "select 1; delete from n", "delete from n",
		"pragma query_only = 0", "attach '" + other + "' as o", "create table m (v integer)", "select load_extension('x')",
	} {
		if got, err := c.Evaluate(t.Context(), query(text), facts(``)); err == nil || got.True {
			t.Errorf("%s: %+v", text, got)
		}
	}
	if got, err := c.Evaluate(t.Context(), query("select count(*) = 1 and sum(v) = 2 from n"), facts(``)); err != nil || !got.True {
		t.Errorf("the table was changed: %+v %v", got, err)
	}
	missing := setup(&world{grants: map[string]string{"sql:business": "sqlite:" + filepath.Join(t.TempDir(), "missing.db")}})
	_, err := missing.Evaluate(t.Context(), query("select 1"), facts(``))
	is(t, err, core.KindUnavailable, "unable to open")
}

func TestASlowQueryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	path := sqliteFile(t, `create table n (v integer)`)
	c := setup(&world{grants: map[string]string{"sql:business": "sqlite:" + path}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := c.Evaluate(ctx, query("with recursive a (n) as (select 1 union all select n + 1 from a) select count(*) from a"), facts(``))
	is(t, err, core.KindUnavailable)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestHugeValuesAndManyRowsDoNoHarm(t *testing.T) {
	t.Parallel()
	path := sqliteFile(t, `create table n (v integer)`)
	c := setup(&world{grants: map[string]string{"sql:business": "sqlite:" + path}})
	_, err := c.Evaluate(t.Context(), query("select zeroblob(100000000)"), facts(``))
	is(t, err, core.KindUnavailable, "too big")
	got, err := c.Evaluate(t.Context(), query("with recursive a (n) as (select 1 union all select n + 1 from a) select n from a"), facts(``))
	if err != nil || !got.True {
		t.Errorf("%+v %v", got, err)
	}
	got, err = c.Evaluate(t.Context(), query("select printf('%.*c', 100000, 'x')"), facts(``))
	if err != nil || !got.True || len(got.Detail) > 512 {
		t.Errorf("%d bytes, %v", len(got.Detail), err)
	}
}

func TestCheckRefusesWhatIsNotOneReadingStatement(t *testing.T) {
	t.Parallel()
	c := setup(&world{})
	for text, words := range map[string]string{
		"": "empty", " \n": "empty", "-- nothing": "empty", ";": "empty", "/* ; */ ;": "empty",
		"select 1; select 2": "one statement only", "select 1;;select 2": "one statement only",
		"update n set v = 1": "that reads", "insert into n values (1)": "that reads", "explain select 1": "that reads", "begin": "that reads",
		"select 'x": "does not end", "select \"x": "does not end", "select $a$ x $b$": "does not end", "/* select 1": "does not end",
		"select v from n into outfile '/tmp/x'":    "must not write a file",
		"select v /*! into dumpfile */ from n":     "must not write a file",
		"select v into /* x */ outfile 'y' from n": "must not write a file",
		"select " + strings.Repeat("1", 17<<10):    "16 KiB", "select '\x00'": "not valid", "select '\xff'": "not valid",
		"select 'it\\'s'": "does not end",
	} {
		found := c.Check(query(text))
		if len(found) != 1 || found[0].Path != "sql.query" || !strings.Contains(found[0].Message.En, words) || found[0].Message.Zh == "" {
			t.Errorf("%q: %+v, want %q", text, found, words)
		}
	}
	for _, text := range []string{"select $1$ + 1", "SELECT 'it''s; fine'", "select $$;$$", "table n;", "select `a;b` from n", "select intox, outfile from n", "select a - -1 from n"} {
		mustCheck(t, c, query(text))
	}
	for _, connection := range []string{"", "a b", "sql:x", strings.Repeat("a", 65)} {
		p := core.Precondition{SQL: &core.SQLCheck{Connection: connection, Query: "select 1"}}
		if found := c.Check(p); len(found) != 1 || found[0].Path != "sql.connection" {
			t.Errorf("%q: %+v", connection, found)
		}
		_, err := c.Evaluate(t.Context(), p, facts(``))
		is(t, err, core.KindInvalid)
	}
}

func TestWhatIsNotGrantedIsDenied(t *testing.T) {
	t.Parallel()
	c := setup(&world{grants: map[string]string{"sql:other": "sqlite:x"}})
	_, err := c.Evaluate(t.Context(), query("select 1"), facts(``))
	is(t, err, core.KindDenied, "sql:business")
	_, err = c.Evaluate(t.Context(), core.Precondition{HTTP: &core.HTTPCheck{URL: "http://example.com"}}, facts(``))
	is(t, err, core.KindDenied, "grant http")
}

func TestGrantsThatAreNotUnderstoodAreNotShown(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://u:tiger@[bad/db", "mysql://u:tiger@", "mysql://u:tiger@host:3306", "mysql://u:%zztiger@host/db", "mysql://u:tiger@host/db?parseTime=tiger",
		"oracle://scott:tiger@host/db", "sqlite:", "",
	} {
		_, err := setup(&world{grants: map[string]string{"sql:business": dsn}}).Evaluate(t.Context(), query("select 1"), facts(``))
		if err == nil || strings.Contains(err.Error(), ":tiger@") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

func TestSQLChecksRunOnPostgreSQLToo(t *testing.T) {
	t.Parallel()
	server, err := storetest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	dsn := server.DSN("postgres")
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range []string{"create table n (v bigint)", "insert into n values (2), (0)", "create sequence counter"} {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	joint := "?"
	if strings.Contains(dsn, "?") {
		joint = "&"
	}
	// The URL asks for what would take several statements at once: it is not obeyed.
	c := setup(&world{grants: map[string]string{"sql:business": dsn + joint + "default_query_exec_mode=simple_protocol"}})
	for text, want := range truths {
		mustCheck(t, c, query(text))
		if got, err := c.Evaluate(t.Context(), query(text), facts(``)); err != nil || got.True != want {
			t.Errorf("%s: %+v %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]bool{
		"select true": true, "select false": false, "select 0.00::numeric": false, "select 0.01::numeric": true, "select 'NaN'::numeric": true, "select now()": true, "select 0::real": false,
		"select 0::smallint": false, "select 'false'::jsonb": false, "select ''::bytea": false, "table n": true, "select $$;$$": true,
		"select current_setting('transaction_read_only') = 'on' and current_setting('statement_timeout') = '10s'": true,
		"select generate_series(1, 50000000)": true,
	} {
		if got, err := c.Evaluate(t.Context(), query(text), facts(``)); err != nil || got.True != want {
			t.Errorf("%s: %+v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"with a as (delete from n returning v) select v from a", "select nextval('counter')", "select v into m from n", "select 1 / 0",
		"with a as (select set_config('transaction_read_only', 'off', true)), b as (insert into n select 1 from a returning v) select v from b",
		"select repeat('x', 100000000)", "select v from n for update",
	} {
		if got, err := c.Evaluate(t.Context(), query(text), facts(``)); err == nil || got.True {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	if got, err := c.Evaluate(t.Context(), query("select count(*) = 2 and to_regclass('m') is null from n"), facts(``)); err != nil || !got.True {
		t.Errorf("something was written: %+v %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = c.Evaluate(ctx, query("select pg_sleep(60)"), facts(``))
	if err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("a slow query: %v after %v", err, time.Since(began))
	}
	deadline := time.Now().Add(time.Minute) // the driver ends a connection that was given up in the background
	for left := 1; left > 0; {
		if err := db.QueryRowContext(t.Context(), "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()").Scan(&left); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", left)
		}
	}
}

func FuzzCheckSQL(f *testing.F) {
	for text := range truths {
		f.Add(text)
	}
	c := setup(&world{})
	f.Fuzz(func(t *testing.T, text string) {
		if found := c.Check(query(text)); len(found) == 0 && strings.TrimSpace(text) == "" {
			t.Errorf("%q passes", text)
		}
	})
}
