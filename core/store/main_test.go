package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/gnomon-scheduler/gnomon/core/store/storetest"
	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("GNOMON_STORE_CHILD"); dir != "" {
		child(dir)
		return
	}
	code := m.Run()
	if server.pg != nil {
		if err := server.pg.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop postgres:", err)
			code = 1
		}
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// server is the PostgreSQL that all tests of this package share; each test has a database of its own.
var server struct {
	once sync.Once
	pg   *storetest.Postgres
	err  error
	next atomic.Int64
}

func postgres(tb testing.TB) *storetest.Postgres {
	tb.Helper()
	server.once.Do(func() { server.pg, server.err = storetest.Start(context.WithoutCancel(tb.Context())) })
	if server.err != nil {
		tb.Fatal(server.err)
	}
	return server.pg
}

// database makes an empty database and gives its DSN.
func database(tb testing.TB, pg *storetest.Postgres) string {
	tb.Helper()
	admin := sqlOpen(tb, "pgx", pg.DSN("postgres"))
	name := fmt.Sprintf("t%d", server.next.Add(1))
	if _, err := admin.ExecContext(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	return pg.DSN(name)
}

func sqlOpen(tb testing.TB, driver, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// world is a place where stores can be opened, with direct access to its tables.
type world struct {
	dialect string
	dsn     string
	dir     string
}

func (w *world) options() store.Options { return store.Options{DSN: w.dsn, Dir: w.dir} }

func (w *world) open(tb testing.TB) *store.Store {
	tb.Helper()
	return opened(tb, w.options())
}

func opened(tb testing.TB, opts store.Options) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// raw gives a connection beside the store.
func (w *world) raw(tb testing.TB) *sql.DB {
	tb.Helper()
	if w.dialect == "postgres" {
		return sqlOpen(tb, "pgx", w.dsn)
	}
	return sqlOpen(tb, "sqlite", "file:"+filepath.Join(w.dir, "store.db")+"?_busy_timeout=5000")
}

func (w *world) exec(tb testing.TB, query string, args ...any) {
	tb.Helper()
	if _, err := w.raw(tb).ExecContext(tb.Context(), query, args...); err != nil {
		tb.Fatal(err)
	}
}

// onBoth runs a test of the conformance suite on both databases.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, &world{dialect: "sqlite", dir: t.TempDir()})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, &world{dialect: "postgres", dsn: database(t, postgres(t))})
	})
}

// The pieces tests are made of.

var epoch = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func newTask(name string, next time.Time) core.Task {
	return core.Task{
		ID: newID(), Namespace: "Common", Name: name, Type: "Common.KeepAlive", Params: []byte(`{"urls":"http://a/?x=1&y=2"}`),
		Schedule: core.Schedule{Spec: "@every 10s", Zone: "Asia/Shanghai", Anchor: epoch}, Enabled: true, StopOnError: new(true),
		Owner: "ops", Category: "watch", Description: "looks after 网站 " + name, Labels: map[string]string{"a": "b"},
		Policies:  core.Policies{Timeout: time.Minute, MaxAttempts: 3, RetryDelay: time.Second, RetryOn: []core.Verdict{core.Failed}, LogLevel: core.LevelInfo},
		CreatedAt: epoch, UpdatedAt: epoch, UpdatedBy: "li", State: core.TaskState{NextFire: next},
	}
}

func namespace(tb testing.TB, s *store.Store) {
	tb.Helper()
	if err := s.PutNamespace(tb.Context(), core.Namespace{Name: "Common", Title: core.Text{Zh: "公共", En: "Common"}, CreatedAt: epoch}); err != nil {
		tb.Fatal(err)
	}
}

// created makes a task whose first fire is at(10).
func created(tb testing.TB, s *store.Store, name string) core.Task {
	tb.Helper()
	namespace(tb, s)
	task, err := s.CreateTask(tb.Context(), newTask(name, at(10)))
	if err != nil {
		tb.Fatal(err)
	}
	return task
}

func newRun(task *core.Task, fire time.Time, owner string) core.Run {
	return core.Run{ID: newID(), TaskID: task.ID, TaskVersion: task.Version, Namespace: task.Namespace, TaskName: task.Name,
		TaskType: task.Type, Trigger: core.TriggerSchedule, FireAt: fire, FireThrough: fire, FireCount: 1, Params: task.Params,
		State: core.RunClaimed, Owner: owner, StartAt: fire, Attempt: 1, DecidedAt: fire.Add(-time.Second), CreatedBy: "gnomon"}
}

func claimOf(task *core.Task, fire, then time.Time) core.Claim {
	return core.Claim{TaskID: task.ID, Version: task.Version, NextFire: fire, Then: then,
		Runs: []core.Run{newRun(task, fire, "me")}, Overlap: task.Policies.Overlap}
}

// claimed claims one fire and gives its run.
func claimed(tb testing.TB, s *store.Store, task *core.Task, fire, then time.Time) (core.Run, core.Claimed) {
	tb.Helper()
	claim := claimOf(task, fire, then)
	got, err := s.Claim(tb.Context(), []core.Claim{claim})
	if err != nil {
		tb.Fatal(err)
	}
	run := claim.Runs[0]
	run.Token = got[0].Token
	return run, got[0]
}

func finishOf(run *core.Run, verdict core.Verdict) core.Finish {
	return core.Finish{RunID: run.ID, TaskID: run.TaskID, Token: run.Token, StartedAt: run.FireAt, EndedAt: run.FireAt.Add(time.Second),
		Outcome: core.Outcome{Verdict: verdict}}
}

func finish(tb testing.TB, s *store.Store, f core.Finish) core.Finished {
	tb.Helper()
	got, err := s.Finish(tb.Context(), []core.Finish{f})
	if err != nil {
		tb.Fatal(err)
	}
	return got[0]
}

func admit(tb testing.TB, s *store.Store, ask core.Admission) core.Admitted {
	tb.Helper()
	got, err := s.Admit(tb.Context(), []core.Admission{ask})
	if err != nil {
		tb.Fatal(err)
	}
	return got[0]
}

func wantKind(tb testing.TB, err error, kind core.Kind, words ...string) {
	tb.Helper()
	if err == nil || core.KindOf(err) != kind {
		tb.Fatalf("error %v, kind %s; want kind %s", err, core.KindOf(err), kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			tb.Errorf("error %q does not say %q", err, word)
		}
	}
}

// wantSound checks the invariants; ignoring names the rules that a test breaks on purpose.
func wantSound(tb testing.TB, s *store.Store, ignoring ...string) {
	tb.Helper()
	found, err := s.CheckInvariants(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for _, v := range found {
		if !strings.Contains(strings.Join(ignoring, " "), v.Rule) {
			tb.Errorf("invariant broken: %+v", v)
		}
	}
}

func task(tb testing.TB, s *store.Store, id string) core.Task {
	tb.Helper()
	got, err := s.Task(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func runByID(tb testing.TB, s *store.Store, id string) core.Run {
	tb.Helper()
	got, err := s.Run(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
