package engine_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/engine"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// readable is what askers of these tests may read: serve hands it to the engine.
var readable = []engine.Readable{
	{Table: "seen", Filter: "has(" + statement.Granted + ", '" + statement.Everything + "') OR has(" + statement.Granted + ", who)"},
	{Table: "v_*"},
}

// An asker reads the listed tables only, and of them what it may see; whatever it is not told, it does not see.
func TestAskersReadWhatIsListed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, sql := range []string{
		"CREATE TABLE seen (who String, n UInt64) ENGINE = MergeTree ORDER BY who", "CREATE TABLE hidden (n UInt64) ENGINE = MergeTree ORDER BY n",
		"INSERT INTO seen SELECT ['', 'A', 'B'][1 + number % 3], number FROM numbers(300)", "INSERT INTO hidden SELECT 1",
		"CREATE VIEW v_seen AS SELECT count() AS n FROM seen", "CREATE VIEW v_hidden AS SELECT n FROM hidden",
	} {
		w.must(t, sql)
	}
	ask := func(sql string, params ...string) (int, string) {
		status, body, _ := w.ask(t, sql, append(params, "user="+engine.Asker)...)
		return status, strings.TrimSuffix(body, "\n")
	}
	for scope, want := range map[string]string{"": "0", "A": "100", "A,B": "200", "C": "0", ",": "0", statement.Everything: "300"} {
		for _, sql := range []string{"SELECT count() FROM seen", "SELECT n FROM v_seen", "SELECT toUInt64(countIf(who = who)) FROM gnomon.seen"} {
			if status, body := ask(sql, "readonly=1", statement.ScopeSetting+"="+scope); status != http.StatusOK || body != want {
				t.Errorf("%q: %s: %d %s instead of %s", scope, sql, status, body, want)
			}
		}
	}
	if _, body := ask("SELECT count() FROM seen", "readonly=1"); body != "0" {
		t.Errorf("an asker of whom nothing is said sees %s rows", body)
	}
	for _, sql := range []string{"SELECT * FROM hidden", "SELECT * FROM v_hidden", "SELECT * FROM `default`.`/etc/passwd`", "SELECT * FROM seen SETTINGS " + statement.ScopeSetting + " = '*'"} {
		if status, body := ask(sql, "readonly=1"); status == http.StatusOK {
			t.Errorf("%s: %s", sql, body)
		}
	}
	for _, readonly := range []string{"readonly=0", "readonly=2", ""} {
		if status, _ := ask("SELECT 1", readonly); status == http.StatusOK {
			t.Errorf("an asker with %q", readonly)
		}
	}
	// The server's own sessions see all.
	if got := w.must(t, "SELECT (SELECT count() FROM seen) + (SELECT count() FROM hidden)"); got != "301" {
		t.Error(got)
	}
	// What is set within a statement, which readonly does not prevent, is not sealed: here by a session that nothing else holds back.
	for _, sql := range []string{
		"SELECT count() FROM (SELECT * FROM seen SETTINGS $S = '*')", "WITH s AS (SELECT * FROM seen SETTINGS $S = 'B') SELECT count() FROM s",
		"SELECT count() FROM view(SELECT * FROM seen SETTINGS $S = 'B')", "SELECT (SELECT count() FROM seen SETTINGS $S = '" + statement.Seal("", "B") + "')",
		"SELECT count() FROM seen SETTINGS $S = ''",
	} {
		if got := w.must(t, strings.ReplaceAll(sql, "$S", statement.ScopeSetting)); got != "0" {
			t.Errorf("%s: %s rows", sql, got)
		}
	}
	for _, sql := range []string{"SELECT count() FROM (SELECT * FROM seen SETTINGS max_threads = 1)", "SELECT count() FROM seen settings max_threads = 1"} {
		if status, body := ask(sql, "readonly=1"); status == http.StatusOK {
			t.Errorf("%s: %s", sql, body)
		}
	}
	info, err := os.Stat(filepath.Join(w.dir, "gnomon-access.xml"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}
