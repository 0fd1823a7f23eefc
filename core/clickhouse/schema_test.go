package clickhouse_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

func TestMigrationFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("migrations/CHECKSUMS")
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Split(strings.TrimSuffix(string(sums), "\n"), "\n")
	if len(listed) != len(files) {
		t.Errorf("CHECKSUMS lists %d files of %d; add a line for a new file, never change one", len(listed), len(files))
	}
	for i, path := range files {
		name := filepath.Base(path)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(fmt.Sprintf(`^%04d_[a-z]+_[a-z0-9_]+\.sql$`, i+1)).MatchString(name) {
			t.Errorf("%s: not the next four-digit number, a verb and an object", name)
		}
		sum := sha256.Sum256(text)
		if i < len(listed) && listed[i] != hex.EncodeToString(sum[:])+"  "+name {
			t.Errorf("%s is not the file of CHECKSUMS: a merged migration is never edited", name)
		}
		if regexp.MustCompile(`(?m);\s*$`).Match(text) {
			t.Errorf("%s: a semicolon; one statement per file", name)
		}
		if !strings.HasPrefix(string(text), "--") || !strings.Contains(string(text), "-- Read by:") || !strings.Contains(string(text), "-- ORDER BY:") {
			t.Errorf("%s: the header does not say who reads it and why this ORDER BY", name)
		}
	}
}

func TestEveryColumnIsExplained(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if got := w.ask(t, "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''"); len(got) > 0 {
		t.Errorf("no comment: %v", got)
	}
	if got := w.ask(t, "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = ''"); len(got) > 0 {
		t.Errorf("no comment: %v", got)
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)

	t.Run("OpeningAgainChangesNothing", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		second := open(t, w.engine.Socket())
		defer second.Close()
		if got := w.one(t, "SELECT count() FROM schema_migrations"); got != fmt.Sprint(clickhouse.MigrationCount(t)) {
			t.Errorf("%s migrations", got)
		}
		if !strings.HasPrefix(second.Version(), "26.7") || second.Health(t.Context()) != nil {
			t.Errorf("version %s, health %v", second.Version(), second.Health(t.Context()))
		}
	})
	t.Run("RowsWrittenBeforeAMigrationReadAsEmpty", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		for _, sql := range []string{"DROP TABLE fires", "DROP TABLE runs", "TRUNCATE TABLE schema_migrations"} {
			post(t, w.engine.Socket(), sql)
		}
		for _, file := range []string{"0001_create_fires", "0002_create_runs"} {
			text, err := os.ReadFile("migrations/" + file + ".sql")
			if err != nil {
				t.Fatal(err)
			}
			post(t, w.engine.Socket(), string(text))
		}
		id := newID()
		const known = "(namespace, task, task_id, run_id, fire_at, decided_at, "
		values := fmt.Sprintf("('Common', 't', 'task-1', '%s', now64(6), now64(6), ", id)
		post(t, w.engine.Socket(), "INSERT INTO fires "+known+"fire_through, decision) VALUES "+values+"now64(6), 'started')")
		post(t, w.engine.Socket(), "INSERT INTO runs "+known+"started_at, ended_at, outcome) VALUES "+values+"now64(6), now64(6), 'succeeded')")
		later := open(t, w.engine.Socket()) // every migration again, those of tables that are there already too
		defer later.Close()
		run, err := later.Run(t.Context(), id)
		if err != nil || run.Series != "" || !run.MovedFrom.IsZero() || !run.WaitSince.IsZero() || run.Breaches != nil || run.Priority != 0 {
			t.Errorf("%+v %v", run, err)
		}
		fires, err := later.Fires(t.Context(), core.FireFilter{TaskID: "task-1", Limit: 10})
		if err != nil || len(fires) != 1 || fires[0].Gate != core.GateNone {
			t.Errorf("%+v %v", fires, err)
		}
		if got := fmt.Sprint(w.ask(t, "SELECT breaches, waited_ms FROM runs")); got != "[[[] <nil>]]" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("AlteredOrNewerIsRefused", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct{ sql, want string }{
			{"INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (3, '0003_create_attempts', 'other', now())", "another text"},
			{"INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (9999, '9999_from_the_future', 'x', now())", "newer"},
		} {
			w := setup(t)
			post(t, w.engine.Socket(), c.sql)
			_, err := clickhouse.Open(t.Context(), clickhouse.Options{Socket: w.engine.Socket(), Log: log})
			if core.KindOf(err) != core.KindDamaged || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("TooOldServerIsRefused", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(hello("23.8.1.1")) }))
		defer server.Close()
		_, err := clickhouse.Open(t.Context(), clickhouse.Options{DSN: server.URL, Log: log})
		if core.KindOf(err) != core.KindInvalid || !strings.Contains(err.Error(), "23.8") || !strings.Contains(err.Error(), "at least") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("NoServerIsUnavailable", func(t *testing.T) {
		t.Parallel()
		for _, o := range []clickhouse.Options{{DSN: "http://127.0.0.1:1/x"}, {DSN: "clickhouse://127.0.0.1:1/x"}, {Socket: filepath.Join(t.TempDir(), "none")}} {
			o.Log = log
			if _, err := clickhouse.Open(t.Context(), o); core.KindOf(err) != core.KindUnavailable {
				t.Errorf("%+v: got %v", o, err)
			}
		}
	})
	t.Run("BadDSNDoesNotShowItsPassword", func(t *testing.T) {
		t.Parallel()
		_, err := clickhouse.Open(t.Context(), clickhouse.Options{DSN: "clickhouse://u:geheim%zz@h:x/", Log: log})
		if core.KindOf(err) != core.KindInvalid || strings.Contains(err.Error(), "geheim") {
			t.Errorf("got %v", err)
		}
		if _, err := clickhouse.Open(t.Context(), clickhouse.Options{Log: log}); core.KindOf(err) != core.KindInvalid {
			t.Errorf("got %v", err)
		}
	})
}

// hello is the first answer of a server of some version, at the protocol revision clickhouse-go asks with.
func hello(version string) []byte {
	b := []byte{1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 4, 1}
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for _, column := range [][3]string{{"displayName()", "String", "old"}, {"version()", "String", version}, {"revision()", "UInt32", ""}, {"timezone()", "String", "UTC"}} {
		text(column[0])
		text(column[1])
		b = append(b, 0)
		if column[1] == "UInt32" {
			b = append(b, 0, 0, 0, 0)
			continue
		}
		text(column[2])
	}
	return b
}

// post sends a statement past the client, as somebody else would.
func post(t *testing.T, socket, sql string) {
	t.Helper()
	transport := &http.Transport{DialContext: dialer(socket)}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, "http://engine/", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("status %d", answer.StatusCode)
	}
}
