package store_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/google/go-cmp/cmp"
)

// filled makes a closed SQLite store with some rows.
func filled(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	s := opened(t, store.Options{Dir: dir})
	namespace(t, s)
	var tasks []core.Task
	for i := range 500 {
		tasks = append(tasks, newTask(fmt.Sprint("task", i), at(10)))
	}
	ok(t, s.CreateTasks(t.Context(), tasks))
	ok(t, s.Close())
	return dir, filepath.Join(dir, "store.db")
}

// Promise 14: what is damaged or foreign is refused with what to do, and left as it is.
func TestADamagedOrForeignFileIsRefused(t *testing.T) {
	t.Parallel()
	edit := func(change func(b []byte) []byte) func(t *testing.T, file string) {
		return func(t *testing.T, file string) {
			b, err := os.ReadFile(file)
			ok(t, err)
			ok(t, os.WriteFile(file, change(b), 0o600))
		}
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, file string)
		says string
	}{
		"empty":       {edit(func([]byte) []byte { return nil }), "damaged"},
		"garbage":     {edit(func(b []byte) []byte { return []byte(strings.Repeat("garbage ", len(b)/8)) }), "damaged"},
		"short":       {edit(func(b []byte) []byte { return b[:50] }), "damaged"},
		"truncated":   {edit(func(b []byte) []byte { return b[:len(b)/2] }), "cut short"},
		"zeroed page": {edit(func(b []byte) []byte { clear(b[8192:12288]); return b }), "damaged"},
		"flipped pages": {edit(func(b []byte) []byte {
			for i := 4096; i+4096 <= len(b); i += 4096 {
				b[i] ^= 0xff
			}
			return b
		}), "damaged"},
		"missing": {func(t *testing.T, file string) { ok(t, os.Remove(file)) }, "missing"},
		"another program's": {func(t *testing.T, file string) {
			ok(t, os.Remove(file))
			db := sqlOpen(t, "sqlite", "file:"+file)
			_, err := db.ExecContext(t.Context(), "CREATE TABLE cookies (id INTEGER)")
			ok(t, err)
			ok(t, db.Close())
		}, "another program"},
		"newer": {func(t *testing.T, file string) {
			execFile(t, file, "INSERT INTO gnomon_migrations VALUES (9999, '9999_future', 'x', 1)")
		}, "newer version"},
		"altered migration": {func(t *testing.T, file string) {
			execFile(t, file, "UPDATE gnomon_migrations SET checksum = 'x' WHERE version = 1")
		}, "another wording"},
		"hole in the migrations": {func(t *testing.T, file string) {
			execFile(t, file, "UPDATE gnomon_migrations SET version = 7 WHERE version = 1")
		}, "hole"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, file := filled(t)
			c.harm(t, file)
			before, _ := os.ReadFile(file)
			for range 2 { // the refusal itself must not mend or worsen anything
				_, err := store.Open(t.Context(), store.Options{Dir: dir})
				wantKind(t, err, core.KindDamaged, c.says)
				t.Log(err)
			}
			if after, _ := os.ReadFile(file); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

func execFile(t *testing.T, file, query string) {
	t.Helper()
	db := sqlOpen(t, "sqlite", "file:"+file)
	_, err := db.ExecContext(t.Context(), query)
	ok(t, err)
	ok(t, db.Close())
}

func TestACreationCutShortIsBegunAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "store.db.new"), []byte("half"), 0o600))
	s := opened(t, store.Options{Dir: dir})
	ok(t, s.PutSetting(t.Context(), "a", "1"))
	ok(t, s.Close())
	s = opened(t, store.Options{Dir: dir})
	if value, err := s.Setting(t.Context(), "a"); err != nil || value != "1" {
		t.Errorf("setting %q, %v", value, err)
	}
}

func TestAForeignPostgresIsRefused(t *testing.T) {
	t.Parallel()
	w := &world{dialect: "postgres", dsn: database(t, postgres(t))}
	w.exec(t, "CREATE TABLE tasks (id INT)")
	_, err := store.Open(t.Context(), w.options())
	wantKind(t, err, core.KindDamaged, "another program")
	w = &world{dialect: "postgres", dsn: database(t, postgres(t))}
	ok(t, w.open(t).Close())
	w.exec(t, "INSERT INTO gnomon_migrations VALUES (9999, '9999_future', 'x', 1)")
	_, err = store.Open(t.Context(), w.options())
	wantKind(t, err, core.KindDamaged, "newer version")
}

func TestServersMayOpenAnEmptyPostgresAtOnce(t *testing.T) {
	t.Parallel()
	dsn := database(t, postgres(t))
	errs := make(chan error)
	for range 4 {
		go func() {
			s, err := store.Open(t.Context(), store.Options{DSN: dsn})
			if err == nil {
				err = s.Close()
			}
			errs <- err
		}()
	}
	for range 4 {
		ok(t, <-errs)
	}
}

// A merged migration never changes: write a new one instead.
func TestMigrationsAreThoseOfTheChecksums(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("migrations/CHECKSUMS")
	ok(t, err)
	want := map[string]string{}
	for line := range strings.Lines(string(list)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		want[name] = sum
	}
	got := map[string]string{}
	numbers := map[string][]string{}
	for _, dialect := range []string{"sqlite", "postgres"} {
		files, err := filepath.Glob("migrations/" + dialect + "/*.sql")
		ok(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			ok(t, err)
			sum := sha256.Sum256(text)
			got[dialect+"/"+filepath.Base(file)] = hex.EncodeToString(sum[:])
			numbers[dialect] = append(numbers[dialect], filepath.Base(file))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a merged migration was changed, or CHECKSUMS lacks a new one (sha256sum sqlite/* postgres/*): (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(numbers["sqlite"], numbers["postgres"]); diff != "" {
		t.Errorf("the two databases have different migrations:\n%s", diff)
	}
}

// columns gives "table.column" of all tables, with "not null" where it is.
func columns(t *testing.T, db *sql.DB, query string) (list []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	ok(t, err)
	defer rows.Close()
	for rows.Next() {
		var table, column string
		var notNull bool
		ok(t, rows.Scan(&table, &column, &notNull))
		list = append(list, fmt.Sprintf("%s.%s %v", table, column, notNull))
	}
	ok(t, rows.Err())
	return list
}

func TestBothDatabasesHaveTheSameTablesAndTakeEveryQuery(t *testing.T) {
	t.Parallel()
	lite := &world{dialect: "sqlite", dir: t.TempDir()}
	pg := &world{dialect: "postgres", dsn: database(t, postgres(t))}
	lite.open(t)
	pg.open(t)
	a := columns(t, lite.raw(t), `SELECT m.name, c.name, c."notnull" FROM sqlite_schema m, pragma_table_info(m.name) c
WHERE m.type = 'table' ORDER BY m.name, c.cid`)
	b := columns(t, pg.raw(t), `SELECT table_name, column_name, is_nullable = 'NO' FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY table_name COLLATE "C", ordinal_position`)
	if diff := cmp.Diff(a, b); diff != "" || len(a) < 70 {
		t.Errorf("sqlite -, postgres + (%d columns)\n%s", len(a), diff)
	}
	files, err := filepath.Glob("sqlcgen/*.sql.go")
	ok(t, err)
	prepared := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		ok(t, err)
		for _, query := range regexp.MustCompile("(?s)const (\\w+) = `(.*?)`").FindAllStringSubmatch(string(text), -1) {
			for _, w := range []*world{lite, pg} {
				stmt, err := w.raw(t).PrepareContext(t.Context(), query[2])
				if err != nil {
					t.Errorf("%s: %s: %v", w.dialect, query[1], err)
					continue
				}
				_ = stmt.Close()
				prepared++
			}
		}
	}
	if prepared < 100 {
		t.Errorf("only %d queries were found", prepared)
	}
}

// The hot queries must not read a table from end to end.
func TestHotQueriesUseTheirIndex(t *testing.T) {
	t.Parallel()
	w := &world{dialect: "sqlite", dir: t.TempDir()}
	w.open(t)
	for query, want := range map[string]string{
		`SELECT task_id, version, next_fire FROM task_state WHERE next_fire <> 0 AND next_fire >= 5 AND next_fire <= 9
			AND (next_fire > 5 OR task_id > 'a') ORDER BY next_fire, task_id LIMIT 3`: "USING COVERING INDEX task_state_due (next_fire>? AND next_fire<?)",
		`SELECT id FROM tasks WHERE namespace = 'a' AND id > 'b' ORDER BY id LIMIT 3`:                                                                        "COVERING INDEX tasks_of_namespace (namespace=? AND id>?)",
		`SELECT * FROM runs WHERE state <> 'ended' AND owner = 'x' ORDER BY id || ''`:                                                                        "INDEX runs_live",
		`SELECT id FROM runs WHERE state <> 'ended' AND task_id IN ('x', 'y') ORDER BY task_id, id`:                                                          "INDEX runs_live (task_id=?)",
		`SELECT gate_key, COUNT(*) FROM runs WHERE wait_until <> 0 AND state = 'waiting' AND gate = 'capacity' AND gate_key IN ('x', 'y') GROUP BY gate_key`: "INDEX runs_waiting (gate=? AND gate_key=?)",
		`SELECT id, stop, stop_by FROM runs WHERE stop <> '' AND state <> 'ended' AND owner = 'x' ORDER BY id`:                                               "INDEX runs_stopping (owner=?)",
		`SELECT id FROM runs WHERE workflow_id <> '' AND workflow_id = 'x' ORDER BY id DESC LIMIT 10`:                                                        "INDEX runs_of_workflow (workflow_id=?)",
		`SELECT limit_key, SUM(slots) FROM holds WHERE limit_key IN ('x', 'y') GROUP BY limit_key`:                                                           "PRIMARY KEY (limit_key=?)",
		`DELETE FROM holds WHERE run_id = 'x'`:                                                                                                               "holds_of_run (run_id=?)",
		`SELECT run_id FROM interventions WHERE resolved_at = 0 ORDER BY run_id DESC LIMIT 10`:                                                               "INDEX interventions_open",
		`SELECT task_id FROM task_refs WHERE kind = 'pool' AND name = 'x'`:                                                                                   "INDEX task_refs_to (kind=? AND name=?)",
	} {
		rows, err := w.raw(t).QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query)
		ok(t, err)
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var line string
			ok(t, rows.Scan(&id, &parent, &unused, &line))
			plan = append(plan, line)
		}
		ok(t, rows.Err())
		sorted := func(line string) bool { return strings.HasPrefix(line, "USE TEMP B-TREE") }
		if plan = slices.DeleteFunc(plan, sorted); len(plan) != 1 || !strings.Contains(plan[0], want) {
			t.Errorf("%s\nplan %q, want %q", query, plan, want)
		}
	}
}
