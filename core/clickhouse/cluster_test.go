package clickhouse_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine"
)

// clusterConfig makes the embedded engine a node of the cluster "main", of one shard: itself, and both shards of "pair", see
// shardPolicies. Its Keeper lives in its memory.
const clusterConfig = `<clickhouse>
  <tcp_port>9000</tcp_port>
  <remote_servers>
    <main><shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>9000</port></replica></shard></main>
    <pair><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></pair>
    <elsewhere><shard><replica><host>192.0.2.1</host><port>9000</port></replica></shard></elsewhere>
    <doubled><shard><replica><host>127.0.0.1</host><port>9000</port></replica><replica><host>192.0.2.1</host><port>9000</port></replica></shard></doubled>
  </remote_servers>
  <zookeeper><implementation>testkeeper</implementation></zookeeper>
  %s
</clickhouse>`

const nodeMacros = `<macros><shard>01</shard><replica>a</replica></macros>`

// shardPolicies make one engine answer as two shards: of a local table each is shown the rows that Distributed tables sent to
// it; whoever reads it without a Distributed table (what fills process_hours) is shown all. So what one question comes to is put together of what two shards answer, by ClickHouse itself.
func shardPolicies() (all []engine.Readable) {
	for table, key := range clickhouse.Sharded() {
		all = append(all, engine.Readable{Table: table + "_local", Filter: "shardNum() = 0 OR " + key + " % 2 = shardNum() - 1"})
	}
	return all
}

// node starts an engine with a cluster's configuration and gives a proxy to it. env is the engine's.
func node(t *testing.T, macros string, env ...string) (s *engine.Supervisor, address string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clickhouse")
	run, err := os.MkdirTemp("", "gnomon-node-")
	if err != nil {
		t.Fatal(err)
	}
	o := engine.SupervisorOptions{Executable: os.Args[0], Dir: dir, Socket: filepath.Join(run, "s"), Env: env, Log: slog.New(slog.DiscardHandler)}
	start := func() (func(), error) {
		s, err = engine.NewSupervisor(o)
		if err != nil {
			return nil, err
		}
		return func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
			defer cancel()
			if err := s.Stop(ctx); err != nil {
				t.Error(err)
			}
		}, s.Start(t.Context())
	}
	stop, err := start() // makes the folder, which must be empty
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := os.Mkdir(filepath.Join(dir, "gnomon-access.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gnomon-access.d", "cluster.xml"), fmt.Appendf(nil, clusterConfig, macros), 0o600); err != nil {
		t.Fatal(err)
	}
	if stop, err = start(); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: dialer(o.Socket), DisableCompression: true}
	proxy := httptest.NewServer(standIn(&httputil.ReverseProxy{Transport: transport, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine"
	}}, 1+len(env)))
	t.Cleanup(func() {
		proxy.Close()
		transport.CloseIdleConnections()
		stop()
		_ = os.RemoveAll(run)
	})
	return s, proxy.Listener.Addr().(*net.TCPAddr).String()
}

var (
	queued     = regexp.MustCompile(" ON CLUSTER `?(?:main|pair)`?")
	replicated = regexp.MustCompile(`ENGINE = Replicated(\w*MergeTree)\('[^']*', '[^']*'(?:, (\w+))?\)`)
	systems    = regexp.MustCompile(`\bcluster(?:AllReplicas)?\('(?:main|pair)', system\.`)
	window     = regexp.MustCompile(`\breplicated_deduplication_window = (\d+), replicated_deduplication_window_seconds = \d+`)
)

// standIn does what the embedded engine lacks of a node, and this is all of a cluster that these tests do not show: it has no queue
// of statements (libchdb starts none), so what goes ON CLUSTER is carried out here, as by such a queue: not in the client's
// database. Two shards that are one engine would take each other's rows of a batch for repeats, by its token: there none is
// looked for. And replicas cannot reach one another (libchdb sets no interserver address), so tables take no rows when they
// are replicated: here they are not. Distributed tables, views, inserts and questions are the engine's own.
func standIn(to http.Handler, shards int) http.Handler {
	deduplication := "non_replicated_deduplication_window = $1"
	if shards > 1 {
		deduplication = "non_replicated_deduplication_window = 0"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		values := r.URL.Query()
		if !values.Has("query") {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			sql := window.ReplaceAllString(replicated.ReplaceAllString(string(body), "ENGINE = $1($2)"), deduplication)
			if queued.MatchString(sql) {
				sql = queued.ReplaceAllString(sql, "")
				values.Set("database", "default")
			}
			if systems.MatchString(sql) {
				values.Del("readonly") // the engine lets no reader reach for other servers
			}
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(sql)), int64(len(sql))
			r.Header.Set("Content-Length", fmt.Sprint(len(sql)))
			r.URL.RawQuery = values.Encode()
		}
		to.ServeHTTP(w, r)
	})
}

func openCluster(t *testing.T, dsn string) (*clickhouse.Client, error) {
	t.Helper()
	return clickhouse.Open(t.Context(), clickhouse.Options{DSN: dsn, Log: slog.New(slog.DiscardHandler)})
}

// clustered is a history spread over a cluster: main has one shard, pair two.
func clustered(t *testing.T, name string) *world {
	t.Helper()
	var env []string
	if name == "pair" {
		env = []string{twoShards + "=1"}
	}
	s, address := node(t, nodeMacros, env...)
	c, err := openCluster(t, "http://"+address+"/gnomon?cluster="+name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{Client: c, engine: s}
}

func TestOnACluster(t *testing.T) {
	t.Parallel()

	t.Run("LargeTablesAreDistributed", func(t *testing.T) {
		t.Parallel()
		w := clustered(t, "main")
		if got := w.ask(t, "SELECT name, engine FROM system.tables WHERE database = 'gnomon' AND engine = 'Distributed' ORDER BY name"); fmt.Sprint(got) !=
			"[[attempts Distributed] [fires Distributed] [plugin_samples Distributed] [process_hours Distributed] [run_logs Distributed] [run_samples Distributed] [runs Distributed]]" {
			t.Errorf("%v", got)
		}
		single := setup(t)
		const columns = "SELECT table, groupArray((name, type, default_kind, default_expression, comment)) FROM (SELECT * FROM system.columns WHERE database = 'gnomon' AND NOT endsWith(table, '_local') AND table != 'asker_probe' ORDER BY position) GROUP BY table ORDER BY table FORMAT TSV"
		if got, want := raw(t, w, columns), raw(t, single, columns); got != want {
			t.Errorf("columns differ:\n%s\n%s", got, want)
		}
		const about = "SELECT name, comment FROM system.tables WHERE database = 'gnomon' AND NOT endsWith(name, '_local') AND name != 'asker_probe' ORDER BY name FORMAT TSV"
		if got, want := raw(t, w, about), raw(t, single, about); got != want {
			t.Errorf("comments differ:\n%s\n%s", got, want)
		}
		const parts = "SELECT name, partition_key, sorting_key FROM system.tables WHERE database = 'gnomon' AND name LIKE 'run%' AND engine LIKE '%MergeTree' ORDER BY replaceOne(name, '_local', '') FORMAT TSV"
		if got, want := strings.ReplaceAll(raw(t, w, parts), "_local", ""), raw(t, single, parts); got != want {
			t.Errorf("keys differ:\n%s\n%s", got, want)
		}
	})
	t.Run("RollUpsAndViewsSayTheSameAsInOneServer", func(t *testing.T) {
		t.Parallel()
		w, two, single := clustered(t, "main"), clustered(t, "pair"), setup(t)
		p := makePast(7, 6, 4, 24)
		spent := fullSegment("spent")
		for _, one := range []*world{w, two, single} {
			if err := one.WriteSegment(t.Context(), spent); err != nil {
				t.Fatal(err)
			}
			p.write(t, one.Client, "past", 100)
			p.write(t, one.Client, "past", 100)      // sent again
			p.write(t, one.Client, "forgotten", 100) // and once more, when the servers have forgotten it
			rollUp(t, one.Client)
		}
		want := figures(t, single)
		rows := 0
		for name, got := range map[string]map[string]string{"one shard": figures(t, w), "two shards": figures(t, two)} {
			for what := range want {
				if want[what] == "" && what != "v_regressions" && what != "v_noisy_neighbours" && what != "v_should_run" {
					t.Errorf("%s has no rows to compare", what)
				}
				rows += strings.Count(want[what], "\n")
				if diff := cmp.Diff(strings.Split(nearly(want[what]), "\n"), strings.Split(nearly(got[what]), "\n")); diff != "" {
					t.Errorf("%s: %s: %s", name, what, diff)
				}
			}
		}
		if split := two.ask(t, "SELECT shardNum() AS n, count() FROM runs GROUP BY n ORDER BY n"); len(split) != 2 {
			t.Errorf("runs of the shards: %v", split)
		}
		if rows < 100 {
			t.Errorf("%d rows were compared", rows)
		}
		if stored := w.one(t, "SELECT sum(rows) FROM system.parts WHERE active AND database = 'gnomon' AND table = 'runs_local'"); stored == "0" {
			t.Error("no rows in runs_local")
		}
		for _, v := range clickhouse.Views(t) {
			w.ask(t, v.Example)
			two.ask(t, v.Example)
		}
		if runs, err := two.Runs(t.Context(), core.RunFilter{TaskID: p.runs[0].TaskID, Limit: 1000}); err != nil || len(runs) != 96 {
			t.Errorf("%d runs of a task, %v", len(runs), err)
		}
		if run, err := two.Run(t.Context(), p.runs[5].ID); err != nil || run.ID != p.runs[5].ID {
			t.Errorf("%+v %v", run, err)
		}
		last := time.Time{}
		n := 0
		if err := two.EachFire(t.Context(), core.FireFilter{TaskID: p.runs[0].TaskID}, func(r *core.Run) error {
			if n++; r.FireAt.Before(last) {
				t.Errorf("%s comes after %s", r.FireAt, last)
			}
			last = r.FireAt
			return nil
		}); err != nil || n != 96 {
			t.Errorf("%d fires, %v", n, err)
		}
		for _, sql := range []string{
			"SELECT count() FROM runs", "SELECT count(), countIf(attempt > 1) FROM attempts", "SELECT sum(fire_count) FROM fires WHERE decision = 'skipped'",
			"SELECT count(), round(sum(a.duration_ms)) FROM runs AS r INNER JOIN attempts AS a ON a.run_id = r.run_id",
			"SELECT count() FROM runs WHERE run_id IN (SELECT run_id FROM attempts WHERE attempt = 3)",
			"SELECT count() FROM fires WHERE run_id NOT IN (SELECT run_id FROM runs)",
			"SELECT namespace, outcome, count(), round(quantileExact(0.9)(duration_ms)) FROM runs GROUP BY namespace, outcome ORDER BY ALL",
			"SELECT task, max(n) FROM (SELECT task, row_number() OVER (PARTITION BY task ORDER BY fire_at) AS n FROM runs) GROUP BY task ORDER BY task",
		} {
			want := fmt.Sprint(single.ask(t, sql))
			if one, both := fmt.Sprint(w.ask(t, sql)), fmt.Sprint(two.ask(t, sql)); one != want || both != want {
				t.Errorf("%s: one shard %s, two %s, want %s", sql, one, both, want)
			}
		}
	})
	t.Run("ASegmentIsReadBackOnce", func(t *testing.T) {
		t.Parallel()
		w := clustered(t, "main")
		s := fullSegment("seg-1")
		for _, id := range []string{"seg-1", "seg-1", "seg-1-forgotten"} {
			s.ID = id
			if err := w.WriteSegment(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if id == "seg-1" { // the server's window, not the key
				if got := w.one(t, "SELECT sum(rows) FROM system.parts WHERE active AND table = 'run_logs_local' AND database = 'gnomon'"); got != "3000" {
					t.Errorf("%s rows stored", got)
				}
			}
		}
		for table, want := range map[string]string{"run_logs": "3000", "run_samples": "2", "plugin_samples": "2", "host_samples": "3", "attempts": "2", "servers": "2"} {
			if got := w.one(t, "SELECT count() FROM "+table); got != want {
				t.Errorf("%s: %s rows, want %s", table, got, want)
			}
		}
		if got := w.one(t, "SELECT max(cpu_us_to) - min(cpu_us_from) FROM process_hours"); got != "2000000" {
			t.Errorf("process_hours: %s", got)
		}
		lines, err := w.Lines(t.Context(), core.LineFilter{RunID: s.Logs[0].Origin.RunID, Limit: 10000})
		if err != nil || len(lines) != 1000 {
			t.Errorf("%d lines, %v", len(lines), err)
		}
		first := s.Logs[0].Origin
		found, err := w.SearchLines(t.Context(), core.LineSearch{Namespace: first.Namespace, TaskID: first.TaskID, TaskName: first.TaskName, Text: "兜底", From: first.FireAt.Add(-time.Hour), To: first.FireAt.Add(time.Hour), Limit: 10})
		if err != nil || len(found) != 10 {
			t.Errorf("%d lines found, %v", len(found), err)
		}
		storage, err := w.Storage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rows := map[string]uint64{}
		for _, table := range storage.Tables {
			rows[table.Name] = table.Rows
		}
		if rows["host_samples"] == 0 || rows["run_logs"] < 3000 || rows["run_logs_local"] != 0 || storage.TotalBytes == 0 {
			t.Errorf("%+v", storage)
		}
	})
	t.Run("WhatIsOverGoes", func(t *testing.T) {
		t.Parallel()
		w := clustered(t, "main")
		today := now().Truncate(24 * time.Hour).Add(12 * time.Hour)
		var runs []core.Run
		for _, ago := range []int{1, 100, 400} {
			at := today.AddDate(0, 0, -ago)
			for _, namespace := range []string{"Short", "Long"} {
				runs = append(runs, core.Run{ID: newID(), TaskID: "t", Namespace: namespace, TaskName: "x", TaskType: namespace + ".X", FireAt: at, FireThrough: at, FireCount: 1, DecidedAt: at, StartedAt: at, EndedAt: at, State: core.RunEnded, Verdict: core.Failed, Message: "no answer", Attempt: 1})
			}
		}
		if err := w.WriteRuns(t.Context(), "old", runs); err != nil {
			t.Fatal(err)
		}
		if _, err := w.RollUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		hosts := core.Segment{ID: "hosts", HostSamples: []core.HostSample{{Host: "h", At: today}, {Host: "h", At: today.AddDate(-2, 0, 0)}}}
		if err := w.WriteSegment(t.Context(), hosts); err != nil {
			t.Fatal(err)
		}
		kept := map[string]core.Retention{"Short": {RunsDays: 30, LinesDays: 30, SamplesDays: 30}, "Long": {RunsDays: 200, LinesDays: 30, SamplesDays: 30}}
		until(t, "the shard to remove what is over", func() error {
			if _, err := w.Retain(t.Context(), today, kept); err != nil {
				return err
			}
			if got := fmt.Sprint(w.ask(t, "SELECT namespace, count() FROM runs GROUP BY namespace ORDER BY namespace")); got != "[[Long 2] [Short 1]]" {
				return fmt.Errorf("left: %s", got)
			}
			if got := w.one(t, "SELECT count() FROM fires"); got != "3" {
				return fmt.Errorf("fires left: %s", got)
			}
			if got := w.one(t, "SELECT count() FROM errors_day"); got != "3" {
				return fmt.Errorf("errors left: %s", got)
			}
			return nil
		})
		if got := w.one(t, "SELECT count() FROM host_samples"); got != "1" {
			t.Errorf("%s samples of hosts", got)
		}
		until(t, "everything to be as said", func() error {
			if again, err := w.Retain(t.Context(), today, kept); err != nil || len(again) > 0 {
				return fmt.Errorf("%v %w", again, err)
			}
			return nil
		})
		if through, err := w.IndexLines(t.Context(), today.AddDate(0, 0, -2), today); err != nil || !through.Equal(today.Truncate(24*time.Hour)) {
			t.Errorf("%v %v", through, err)
		}
	})
	t.Run("OpeningAgainChangesNothing", func(t *testing.T) {
		t.Parallel()
		s, address := node(t, nodeMacros)
		const made = "SELECT name, uuid, metadata_modification_time FROM system.tables WHERE database = 'gnomon' AND name != 'asker_probe' ORDER BY name FORMAT TSV"
		var before string
		for i := range 2 {
			c, err := openCluster(t, "http://"+address+"/gnomon?cluster=main")
			if err != nil {
				t.Fatal(err)
			}
			w := &world{Client: c, engine: s}
			after := raw(t, w, made)
			if i > 0 && after != before {
				t.Errorf("made again:\n%s\n%s", before, after)
			}
			before = after
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("ANodeThatJoinsIsGivenWhatTheOthersHave", func(t *testing.T) {
		t.Parallel()
		s, address := node(t, nodeMacros)
		c, err := openCluster(t, "http://"+address+"/gnomon?cluster=main")
		if err != nil {
			t.Fatal(err)
		}
		w := &world{Client: c, engine: s}
		const has = "SELECT name, create_table_query FROM system.tables WHERE database = 'gnomon' ORDER BY name FORMAT TSV"
		before := raw(t, w, has)
		all, err := c.ForANewNode(t.Context())
		if err != nil || len(all) != strings.Count(before, "\n") {
			t.Fatalf("%d statements for\n%s\n%v", len(all), before, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for _, sql := range all {
			if !queued.MatchString(sql) {
				t.Errorf("not for the whole cluster: %s", sql)
			}
		}
		for _, sql := range append([]string{"DROP DATABASE gnomon SYNC", "CREATE DATABASE gnomon"}, all...) {
			answer, err := http.Post("http://"+address+"/?database=default", "text/plain", strings.NewReader(sql))
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Errorf("%s\n%s", sql, text)
			}
		}
		if after := raw(t, w, has); after != before {
			t.Errorf("the new node has\n%s\nand the others\n%s", after, before)
		}
	})
	t.Run("ABackupIsRefusedAndSaysWhatToDo", func(t *testing.T) {
		t.Parallel()
		w := clustered(t, "main")
		_, err := w.Checksums(t.Context())
		for _, err := range []error{err, w.Backup(t.Context(), "gnomon", t.TempDir(), "")} {
			if core.KindOf(err) != core.KindInvalid || !strings.Contains(err.Error(), "ON CLUSTER") {
				t.Errorf("%v", err)
			}
		}
	})
}

// nearly rounds the figures in a text: the order in which shards' rows are added up shows in the last digits.
func nearly(text string) string {
	return figure.ReplaceAllStringFunc(text, func(s string) string {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return s
		}
		return strconv.FormatFloat(f, 'g', 12, 64)
	})
}

var figure = regexp.MustCompile(`\b\d+\.\d{6,}(?:e-?\d+)?\b`)

func TestAClusterThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	_, address := node(t, "")
	_, whole := node(t, nodeMacros)
	for dsn, want := range map[string]string{
		"http://" + address + "/gnomon?cluster=main":         "no macro {shard}",
		"http://" + whole + "/gnomon?cluster=other":          "does not have it, but: doubled, elsewhere, main",
		"http://" + whole + "/gnomon?cluster=elsewhere":      "none of its nodes",
		"http://" + whole + "/gnomon?cluster=doubled":        "internal_replication",
		"http://" + whole + "/system?cluster=main":           "must be Atomic",
		"http://" + whole + "/gnomon?cluster=":               "must name one cluster",
		"http://" + whole + "/gnomon?cluster=a&cluster=main": "must name one cluster",
	} {
		c, err := openCluster(t, dsn)
		if err == nil {
			_ = c.Close()
		}
		if core.KindOf(err) != core.KindInvalid || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %q", dsn, err, want)
		}
	}
}

// TestAHistoryStaysWhereItWasBegun: what one server has is not taken for a cluster's, nor the other way round.
func TestAHistoryStaysWhereItWasBegun(t *testing.T) {
	t.Parallel()
	s, address := node(t, nodeMacros)
	single := "http://" + address + "/gnomon"
	for _, dsn := range []string{single + "?cluster=main", single + "?cluster=main"} {
		c, err := openCluster(t, dsn)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	refused := func(dsn, want string) {
		t.Helper()
		c, err := openCluster(t, dsn)
		if err == nil {
			_ = c.Close()
		}
		if core.KindOf(err) != core.KindInvalid || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %q", dsn, err, want)
		}
	}
	refused(single, "add cluster=main")
	refused(single+"?cluster=pair", "on the ClickHouse cluster main, not on pair")
	post(t, s.Socket(), "DROP TABLE fires SYNC")
	post(t, s.Socket(), "CREATE TABLE fires (x UInt8) ENGINE = MergeTree ORDER BY x")
	refused(single+"?cluster=main", "of one server")
}

// TestWhatAClusterIsToldIsUnderstood: the statements themselves, read by ClickHouse's own parser.
func TestWhatAClusterIsToldIsUnderstood(t *testing.T) {
	t.Parallel()
	w := setup(t)
	migrated, others := clickhouse.ClusterStatements(t, "ma`in", "it's", "secret")
	statements := others
	for _, all := range migrated {
		statements = append(statements, all...)
	}
	alone := 0
	for _, sql := range statements {
		rows, err := w.Query(t.Context(), "SELECT formatQuerySingleLine({sql:String})", clickhouse.QueryLimits{}, map[string]string{"sql": sql}, everything)
		if err != nil {
			t.Fatal(err)
		}
		var text string
		for rows.Next() {
			row, err := rows.Scan(nil)
			if err != nil {
				t.Fatal(err)
			}
			text, _ = row[0].(string)
		}
		if err := rows.Err(); err != nil {
			t.Errorf("%s\n%v", sql, err)
		}
		rows.Close()
		if !strings.Contains(text, "ON CLUSTER `ma\\`in`") {
			alone++
			if !regexp.MustCompile("^ALTER TABLE `it\\\\?'s`\\.(errors_day|host_samples|rollups|runs_day|runs_hour|servers_day) ").MatchString(text) {
				t.Errorf("not for the whole cluster: %s", text)
			}
		}
		if strings.Contains(text, "MergeTree") && !strings.Contains(text, "ENGINE = Replicated") {
			t.Errorf("not replicated: %s", text)
		}
	}
	if alone != 11 { // tables that hand on a change themselves
		t.Errorf("%d statements are for one node, want 11", alone)
	}
	for _, file := range []string{"DROP TABLE runs", "CREATE TABLE IF NOT EXISTS x\n(\n)\nENGINE = Memory\n", "CREATE MATERIALIZED VIEW IF NOT EXISTS v TO runs_day\nAS SELECT 1\nFROM runs\n"} {
		if all, err := clickhouse.SchemaChange(file); err == nil {
			t.Errorf("%s: %q", file, all)
		}
	}
}

// TestReplicatedTablesAreKnownToKeeper: the tables of a cluster are made as they are, in a Keeper, with the macros of the node. The
// embedded engine cannot go further: its replicas stay read-only.
func TestReplicatedTablesAreKnownToKeeper(t *testing.T) {
	t.Parallel()
	s, _ := node(t, nodeMacros)
	migrated, _ := clickhouse.ClusterStatements(t, "main", "gnomon", "secret")
	made := 0
	for _, all := range migrated {
		if strings.HasPrefix(all[0], "CREATE TABLE") {
			post(t, s.Socket(), queued.ReplaceAllString(all[0], ""))
			made++
		}
	}
	w := &world{engine: s}
	got := raw(t, w, "SELECT table, zookeeper_path, replica_name, total_replicas FROM system.replicas WHERE database = 'gnomon' ORDER BY table FORMAT TSV")
	if n := strings.Count(got, "\n"); n != made || n < 15 {
		t.Errorf("%d of %d tables", n, made)
	}
	for _, line := range []string{
		"runs_local\t/clickhouse/tables/main/01/gnomon/runs_local\ta\t1\n",
		"tasks\t/clickhouse/tables/main/every/gnomon/tasks\t01-a\t1\n",
		"schema_migrations\t/clickhouse/tables/main/every/gnomon/schema_migrations\t01-a\t1\n",
	} {
		if !bytes.Contains([]byte(got), []byte(line)) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if name, _, _ := strings.Cut(line, "\t"); strings.HasSuffix(name, "_local") != strings.Contains(line, "/main/01/") {
			t.Errorf("%s", line)
		}
	}
}
