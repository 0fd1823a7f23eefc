package store_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/google/go-cmp/cmp"
)

// first makes a store as the first version of Gnomon did, and gives a connection to it.
func (w *world) first(t *testing.T) *sql.DB {
	t.Helper()
	if w.dialect == "sqlite" {
		db := sqlOpen(t, "sqlite", "file:"+filepath.Join(w.dir, "store.db"))
		execOn(t, db, "PRAGMA application_id = 1196314445")
		w.migrated(t, db)
		return db
	}
	db := w.raw(t)
	w.migrated(t, db)
	return db
}

func (w *world) migrated(t *testing.T, db *sql.DB) {
	t.Helper()
	text, err := os.ReadFile("migrations/" + w.dialect + "/0001_create_store.sql")
	ok(t, err)
	execOn(t, db, string(text))
	execOn(t, db, "CREATE TABLE gnomon_migrations (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)")
	sum := sha256.Sum256(text)
	execOn(t, db, "INSERT INTO gnomon_migrations VALUES (1, '0001_create_store', $1, 1)", hex.EncodeToString(sum[:]))
}

func execOn(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// Promise 24: what the version before has stored is all there after the upgrade.
func TestAStoreOfTheFirstVersionIsTakenOverWhole(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		db := w.first(t)
		execOn(t, db, "INSERT INTO namespaces (name, title, description, created_at) VALUES ('Common', '{\"zh\":\"公共\"}', 'd', $1)", epoch.UnixMicro())
		doc := `{"params":{"a":1},"schedule":{"spec":"@every 10s","zone":"UTC","anchor":"2026-11-20T08:00:00Z"},"stop_on_error":true,"owner":"ops",` +
			`"policies":{"timeout_ns":60000000000,"overlap":"allow","catch_up":"none","max_attempts":3,"retry_delay_ns":1000000000,"retry_on":["failed"],"log_level":2}}`
		a, off := newID(), newID()
		for id, name := range map[string]string{a: "a", off: "off"} {
			execOn(t, db, `INSERT INTO tasks (id, namespace, name, type, enabled, disabled_reason, version, search, doc, created_at, updated_at, updated_by)
VALUES ($1, 'Common', $2, 'Common.KeepAlive', $3, $4, 3, $2, $5, $6, $7, 'li')`, id, name, name == "a", map[string]string{"off": "stop_on_error: x"}[name], doc,
				epoch.UnixMicro(), at(1).UnixMicro())
		}
		execOn(t, db, `INSERT INTO task_versions (task_id, version, namespace, name, type, enabled, disabled_reason, doc, created_at, updated_at, updated_by)
VALUES ($1, 2, 'Common', 'old', 'Common.KeepAlive', TRUE, '', $2, 1, 1, 'wang')`, a, doc)
		execOn(t, db, `INSERT INTO task_state (task_id, version, next_fire, live, queued, token, last_start, last_end, last_success, last_outcome)
VALUES ($1, 3, $2, 4, 1, 17, $3, $4, $4, 'succeeded'), ($5, 3, 0, 0, 0, 0, 0, 0, 0, '')`, a, at(100).UnixMicro(), at(10).UnixMicro(), at(11).UnixMicro(), off)
		execOn(t, db, "INSERT INTO tokens (hash, principal, grants, purpose, created_at, expires_at, revoked_at) VALUES ('ab', 'li', '{\"*\":\"owner\"}', 'p', 1, 2, 0)")
		execOn(t, db, "INSERT INTO settings (name, value) VALUES ('k', 'v')")
		var want []core.Run
		for i, state := range []core.RunState{core.RunEnded, core.RunEnded, core.RunRunning, core.RunClaimed, core.RunRetrying, core.RunQueued} {
			run := core.Run{ID: newID(), TaskID: a, TaskVersion: 3, Namespace: "Common", TaskName: "a", TaskType: "Common.KeepAlive", Trigger: core.TriggerSchedule,
				FireAt: at(10 * i), FireThrough: at(10 * i), FireCount: 1, Params: []byte(`{"a":1}`), State: state, Owner: "me", StartAt: at(10*i + 1), Attempt: 2,
				Token: int64(10 + i), DecidedAt: at(10*i - 1), Facts: []byte(`{"late_ms":1}`), CreatedBy: "gnomon", StartedAt: at(10 * i), Message: "m",
				Output: []byte(`{"n":1}`), Usage: core.Usage{CPU: 5, CPUSource: core.SourceMeasured, RSSSource: core.SourceShared, IOSource: core.SourceUnknown},
				Checkpoint: []byte{0, 1, 255}}
			switch i {
			case 0:
				run.Verdict, run.EndedAt = core.Succeeded, at(11)
			case 1:
				run.Verdict, run.Reason, run.EndedAt, run.FireThrough, run.FireCount = core.Skipped, core.ReasonCatchUp, at(12), at(19), 9
			}
			execOn(t, db, `INSERT INTO runs (id, task_id, task_version, namespace, task_name, task_type, trigger_kind, fire_at, fire_through, fire_count, params,
state, owner, start_at, attempt, token, decided_at, reason, facts, created_by, ended_at, verdict, started_at, message, output, usage, checkpoint)
VALUES ($1, $2, 3, 'Common', 'a', 'Common.KeepAlive', 'schedule', $3, $4, $5, $6, $7, 'me', $8, 2, $9, $10, $11, $12, 'gnomon', $13, $14, $15, 'm', $16, $17, $18)`,
				run.ID, a, run.FireAt.UnixMicro(), run.FireThrough.UnixMicro(), run.FireCount, string(run.Params), string(state), run.StartAt.UnixMicro(), run.Token,
				run.DecidedAt.UnixMicro(), string(run.Reason), string(run.Facts), unixOrZero(run.EndedAt), string(run.Verdict), run.StartedAt.UnixMicro(),
				string(run.Output), `{"cpu":5,"cpu_source":"measured","rss_source":"shared","io_source":"unknown"}`, run.Checkpoint)
			want = append(want, run)
		}
		ok(t, db.Close())

		s := w.open(t)
		for _, run := range want {
			if diff := cmp.Diff(run, runByID(t, s, run.ID)); diff != "" {
				t.Errorf("%s: %s", run.State, diff)
			}
		}
		all := must2(s.Runs(t.Context(), core.RunFilter{}))
		if len(all) != len(want) || len(must2(s.Ended(t.Context(), "", 10))) != 2 {
			t.Errorf("%d runs", len(all))
		}
		got := task(t, s, a)
		if got.Policies.Timeout != time.Minute || got.Policies.Overlap != core.OverlapAllow || got.Policies.RetryOn[0] != core.Failed || got.Schedule.Spec != "@every 10s" ||
			got.StopOnError == nil || !*got.StopOnError || got.Policies.Zeros != nil || got.Policies.Pools != nil || got.Version != 3 || got.Problem != "" {
			t.Errorf("task %+v", got)
		}
		state := core.TaskState{LastStart: at(10), LastEnd: at(11), LastSuccess: at(11), LastOutcome: core.Succeeded, NextFire: at(100), Live: 4}
		if diff := cmp.Diff(state, got.State); diff != "" {
			t.Error(diff)
		}
		if got := task(t, s, off); got.Enabled || got.DisabledReason == "" {
			t.Errorf("the disabled task: %+v", got)
		}
		if versions := must2(s.TaskVersions(t.Context(), a)); len(versions) != 2 || versions[1].Name != "old" {
			t.Errorf("versions %+v", versions)
		}
		if ns := must2(s.Namespace(t.Context(), "Common")); ns.Title.Zh != "公共" || ns.Description != "d" || !ns.CreatedAt.Equal(epoch) || ns.MaxRunning != 0 {
			t.Errorf("namespace %+v", ns)
		}
		if token := must2(s.TokenByHash(t.Context(), "ab")); token.Principal != "li" || must2(s.Setting(t.Context(), "k")) != "v" {
			t.Errorf("token %+v", token)
		}
		wantSound(t, s, "owner")

		// And it all goes on.
		queued := want[5]
		ask := askFor(&queued, at(60))
		if got := admit(t, s, ask); !got.Start || got.Token != 18 {
			t.Errorf("admitted %+v", got)
		}
		for _, run := range want[2:5] {
			if finish(t, s, finishOf(&run, core.Succeeded)).Stale {
				t.Errorf("%s: cannot end", run.State)
			}
		}
		if _, next := claimed(t, s, &got, at(100), at(110)); !next.Won || next.Fired != 1 {
			t.Errorf("claimed %+v", next)
		}
		again := newRun(&got, at(50), "me") // the instant of a run that was there, in another series
		again.Series = "backfill:x"
		if stored := must2(s.Enqueue(t.Context(), []core.Run{again})); stored[0].ID != again.ID {
			t.Errorf("enqueued %+v", stored)
		}
		again.Series = ""
		if stored := must2(s.Enqueue(t.Context(), []core.Run{again})); stored[0].ID != queued.ID {
			t.Errorf("the old key does not hold: %+v", stored)
		}
		wantSound(t, s, "owner")
		ok(t, s.Close())
		if s := w.open(t); len(must2(s.Runs(t.Context(), core.RunFilter{}))) != 8 {
			t.Error(fmt.Errorf("opened again: %+v", s.Stats()))
		}
	})
}

func unixOrZero(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMicro()
}
