package clickhouse_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

const aDay = 24 * time.Hour

// midnight is the beginning of today, UTC.
func midnight() time.Time { return time.Now().UTC().Truncate(aDay) }

// past is a history made up of known values, to hold what the views say against.
type past struct {
	runs     []core.Run // started ones and skipped fires
	attempts []core.AttemptRecord
}

func (p *past) started() []core.Run {
	return slices.DeleteFunc(slices.Clone(p.runs), func(r core.Run) bool { return r.Verdict == core.Skipped })
}

// makePast makes some tasks' runs of some days before today, with retries, waits, skipped ranges and failures in bursts.
func makePast(seed uint64, tasks, days, perDay int) *past {
	random := rand.New(rand.NewPCG(seed, 1))
	p := &past{}
	for n := range tasks {
		namespace := []string{"Alpha", "Beta"}[n%2]
		failing := false
		for i := range days * perDay {
			at := midnight().AddDate(0, 0, -days).Add(time.Duration(i) * aDay / time.Duration(perDay)).Add(time.Duration(n) * time.Second)
			r := core.Run{
				ID: newID(), TaskID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n), TaskVersion: int64(1 + i/(perDay*3)), Namespace: namespace, TaskName: fmt.Sprintf("task-%d", n),
				TaskType: fmt.Sprintf("%s.Type%d", namespace, n%3), Trigger: core.TriggerSchedule, FireAt: at, FireThrough: at, FireCount: 1, State: core.RunEnded, Owner: fmt.Sprintf("server-%d", random.IntN(2)),
				DecidedAt: at.Add(-time.Second), CreatedBy: "gnomon", Attempt: 1,
			}
			if random.IntN(10) == 0 {
				r.Verdict, r.Reason, r.FireCount, r.FireThrough = core.Skipped, []core.Reason{core.ReasonOverlap, core.ReasonPaused}[random.IntN(2)], 3, at.Add(2*time.Second)
				p.runs = append(p.runs, r)
				continue
			}
			if i%11 == 5 {
				r.Trigger = []core.Trigger{core.TriggerBackfill, core.TriggerRetry}[i%2]
			}
			if random.IntN(7) == 0 {
				failing = !failing
			}
			r.StartedAt = at.Add(time.Duration(1+random.IntN(5_000_000)) * time.Microsecond)
			if random.IntN(4) == 0 {
				r.WaitSince = at.Add(-time.Duration(random.IntN(900_000)) * time.Microsecond)
				r.Gate = core.GateCapacity
			}
			if failing {
				r.Attempt = 1 + random.IntN(3)
			}
			for try := 1; try <= r.Attempt; try++ {
				began := r.StartedAt.Add(time.Duration(random.IntN(20_000)) * time.Microsecond)
				usage := core.Usage{
					CPU: time.Duration(random.IntN(1_000_000)) * time.Microsecond, CPUSource: []core.Source{core.SourceMeasured, core.SourceShared, core.SourceUnknown}[random.IntN(3)],
					PeakRSSBytes: uint64(random.IntN(1 << 30)), RSSSource: core.SourceMeasured, ReadBytes: uint64(random.IntN(1 << 20)), WriteBytes: uint64(random.IntN(1 << 20)), IOSource: core.SourceMeasured,
				}
				a := core.AttemptRecord{
					Origin:    core.Origin{RunID: r.ID, Attempt: try, TaskID: r.TaskID, Namespace: r.Namespace, TaskName: r.TaskName, TaskType: r.TaskType, FireAt: r.FireAt},
					StartedAt: r.StartedAt, Began: began, EndedAt: began.Add(time.Duration(1+random.IntN(60_000_000)) * time.Microsecond), Usage: usage, Verdict: core.Failed,
					Place: core.Place{Server: r.Owner},
				}
				if try < r.Attempt {
					a.RetryAt = a.EndedAt.Add(time.Second)
					r.StartedAt = a.RetryAt
					a.Place.Server = fmt.Sprintf("server-%d", (n+i+try)%3) // wherever; server-2 owns no run
				} else {
					r.EndedAt, r.Usage = a.EndedAt, usage
					r.Verdict = core.Succeeded
					if failing {
						r.Verdict = []core.Verdict{core.Failed, core.TimedOut, core.Crashed, core.Lost, core.Cancelled}[random.IntN(5)]
						r.Message = fmt.Sprintf("order %d of hospital %q failed", random.IntN(1000), fmt.Sprint("h", random.IntN(9)))
						if r.Verdict == core.Cancelled { // while it waited for another attempt
							a.RetryAt = a.EndedAt.Add(time.Minute)
						}
					}
					a.Verdict = r.Verdict
				}
				p.attempts = append(p.attempts, a)
			}
			p.runs = append(p.runs, r)
		}
	}
	return p
}

// write sends everything in batches of a size, whose names begin with name.
func (p *past) write(t testing.TB, c *clickhouse.Client, name string, size int) {
	t.Helper()
	n := 0
	for batch := range slices.Chunk(p.runs, size) {
		n++
		if err := c.WriteRuns(t.Context(), fmt.Sprint(name, "-runs-", n), batch); err != nil {
			t.Fatal(err)
		}
	}
	for batch := range slices.Chunk(p.attempts, size) {
		n++
		if err := c.WriteSegment(t.Context(), core.Segment{ID: fmt.Sprint(name, "-attempts-", n), Attempts: batch}); err != nil {
			t.Fatal(err)
		}
	}
}

// rollUp makes all that is due, in as many passes as that takes: one goes on for no longer than its time.
func rollUp(t testing.TB, c *clickhouse.Client) clickhouse.RolledUp {
	t.Helper()
	for days := 0; ; {
		r, err := c.RollUp(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Days == 0 && r.Left > 0 || r.Left == 0 && r.Through.IsZero() {
			t.Fatalf("%+v", r)
		}
		if r.Days += days; r.Left == 0 {
			return r
		}
		days = r.Days
	}
}

// raw asks as an unmodified client does: no setting of ours helps the statement.
func raw(t testing.TB, w *world, sql string) string {
	t.Helper()
	transport := &http.Transport{DialContext: dialer(w.engine.Socket())}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, "http://engine/?database=gnomon&readonly=1", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", sql, text, err)
	}
	return string(text)
}

// figures gives all that roll-ups and views say, but for when it was computed and what moves with the clock.
func figures(t testing.TB, w *world) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, table := range []string{"runs_day", "namespaces_day", "runs_hour", "errors_day", "servers_day", "costs"} {
		all[table] = raw(t, w, "SELECT * EXCEPT (computed_at) FROM "+table+" FINAL ORDER BY ALL")
	}
	for _, v := range clickhouse.Views(t) {
		columns := "*"
		if v.Name == "v_reliability_30d" { // up to now
			columns = "* EXCEPT (down_s, mtbf_s)"
		}
		all[v.Name] = raw(t, w, "SELECT "+columns+" FROM "+v.Name+" ORDER BY ALL")
	}
	return all
}

func TestRollUps(t *testing.T) {
	t.Parallel()

	t.Run("RepeatsChangeNoFigure", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		p := makePast(7, 6, 9, 12)
		p.write(t, w.Client, "first", 200)
		rollUp(t, w.Client)
		want := figures(t, w)
		if got := raw(t, w, "SELECT sum(runs) FROM v_success_by_day"); got != fmt.Sprintf("%d\n", len(p.started())) {
			t.Fatalf("%s runs", got)
		}
		if got := raw(t, w, "SELECT count(), countIf(tasks != arraySort(tasks)) FROM v_errors_30d WHERE length(tasks) > 1"); got == "0\t0\n" || !strings.HasSuffix(got, "\t0\n") {
			t.Errorf("groups of errors, and those whose tasks come in no order: %s", got)
		}
		same := func(what string) {
			t.Helper()
			for name, got := range figures(t, w) {
				if got != want[name] {
					t.Errorf("%s: %s changed\n%.2000s\n%.2000s", what, name, want[name], got)
				}
			}
		}
		p.write(t, w.Client, "first", 200)
		rollUp(t, w.Client)
		same("the same batches again")
		p.write(t, w.Client, "forgotten", 200)
		p.write(t, w.Client, "other", 77)
		if raw(t, w, "SELECT count() > (SELECT count() FROM runs FINAL) FROM runs") != "1\n" {
			t.Error("no repeat is stored, so nothing is shown")
		}
		rollUp(t, w.Client)
		same("the same rows in other batches")
		second := open(t, w.engine.Socket())
		defer second.Close()
		p.write(t, w.Client, "several", 150)
		var servers sync.WaitGroup
		for _, c := range []*clickhouse.Client{w.Client, second, w.Client} {
			servers.Go(func() {
				if _, err := c.RollUp(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		servers.Wait()
		same("several servers at once")
	})
	t.Run("WhatComesLateIsFound", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		p := makePast(3, 2, 4, 6)
		p.write(t, w.Client, "a", 1000)
		rollUp(t, w.Client)
		before := raw(t, w, "SELECT sum(runs) FROM v_success_by_day")
		late := p.started()[0]
		late.ID, late.FireAt = newID(), midnight().AddDate(-1, -2, -3)
		late.StartedAt, late.EndedAt = late.FireAt.Add(aDay), late.FireAt.Add(aDay+time.Second)
		if err := w.WriteRuns(t.Context(), "late", []core.Run{late}); err != nil {
			t.Fatal(err)
		}
		if r := rollUp(t, w.Client); r.Days < 1 {
			t.Errorf("%+v", r)
		}
		if got := raw(t, w, "SELECT runs FROM v_success_by_day WHERE day = '"+late.FireAt.Format(time.DateOnly)+"'"); got != "1\n" {
			t.Errorf("the late run: %q", got)
		}
		if got := raw(t, w, "SELECT sum(runs) - 1 FROM v_success_by_day"); got != before {
			t.Errorf("%s runs, before %s", got, before)
		}
	})
	t.Run("ADayWhoseRunsAreGoneKeepsItsFiguresUntilAsManyAreBackfilled", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		day := midnight().AddDate(0, 0, -400)
		write := func(name string, runs int, ran time.Time, want string) {
			t.Helper()
			var all []core.Run
			for i := range runs {
				at := day.Add(time.Duration(i) * time.Hour)
				all = append(all, core.Run{ID: newID(), TaskID: "t", TaskVersion: 1, Namespace: "Common", TaskName: "x", TaskType: "Common.X", Trigger: core.TriggerSchedule, FireAt: at, FireThrough: at, FireCount: 1,
					State: core.RunEnded, DecidedAt: ran, CreatedBy: "gnomon", Attempt: 1, StartedAt: ran, EndedAt: ran.Add(time.Second), Verdict: core.Succeeded})
			}
			if err := w.WriteRuns(t.Context(), name, all); err != nil {
				t.Fatal(err)
			}
			rollUp(t, w.Client)
			if got := fmt.Sprint(w.one(t, "SELECT sum(runs) FROM v_success_by_day"), " ", w.one(t, "SELECT count() FROM runs")); got != want {
				t.Errorf("%s: the view and the table have %s runs, want %s", name, got, want)
			}
		}
		write("a day", 12, day.AddDate(0, 0, 1), "12 12")
		if _, err := w.Retain(t.Context(), time.Now(), map[string]core.Retention{"Common": {RunsDays: 30}}); err != nil {
			t.Fatal(err)
		}
		write("two of it again", 2, time.Now(), "12 2")
		write("the day again", 11, time.Now(), "13 13")
	})
	t.Run("WhatWasSeenLateIsMadeOnceMore", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		makePast(3, 2, 4, 6).write(t, w.Client, "a", 1000)
		days := rollUp(t, w.Client).Days
		time0, err := w.RollupState(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The insert took a second of the server's clock, so the days made in that second are due again at first.
		for minutes, want := range map[int]int{5: 0, 11: days} {
			post(t, w.engine.Socket(), "INSERT INTO gnomon.rollups (namespace, day, rows_seen, computed_at, took_ms) SELECT namespace, day, max(rows_seen), now64(6) + 2, 0 FROM gnomon.rollups WHERE namespace != '' GROUP BY namespace, day")
			due, err := w.Due(t.Context(), time0.Through, time.Now().Add(time.Duration(minutes)*time.Minute))
			if err != nil || due != want {
				t.Errorf("after %d minutes %d days of %d are due, want %d: %v", minutes, due, days, want, err)
			}
		}
		// The clock was set back: what was made in the future is made again.
		if due, err := w.Due(t.Context(), time0.Through, time.Now().Add(-time.Hour)); err != nil || due != days {
			t.Errorf("%d days of %d are due after the clock was set back: %v", due, days, err)
		}
	})
	t.Run("WhatAMigrationClearsIsMadeAnew", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		makePast(3, 2, 4, 6).write(t, w.Client, "a", 1000)
		days := rollUp(t, w.Client).Days
		before := figures(t, w)
		migration, err := os.ReadFile("migrations/0038_clear_rollups.sql")
		if err != nil {
			t.Fatal(err)
		}
		post(t, w.engine.Socket(), strings.Replace(string(migration), "ALTER TABLE rollups", "ALTER TABLE gnomon.rollups", 1))
		if s, err := w.RollupState(t.Context()); err != nil || !s.Through.IsZero() || s.Behind != 0 {
			t.Errorf("%+v %v", s, err)
		}
		same := func(when string) {
			got := figures(t, w)
			for _, name := range []string{"runs_day", "namespaces_day", "runs_hour", "errors_day", "servers_day", "v_success_by_day", "v_resources_by_server"} {
				if got[name] != before[name] || got[name] == "" {
					t.Errorf("%s %s says\n%s\nnot\n%s", when, name, got[name], before[name])
				}
			}
		}
		same("meanwhile")
		if due, err := w.Due(t.Context(), time.Time{}, time.Now()); err != nil || due == 0 || due > days {
			t.Errorf("%d days are due of %d with those of costs: %v", due, days, err)
		}
		rollUp(t, w.Client)
		same("made anew")
	})
	t.Run("WhatWasThereBeforeAMigrationHasItsFigures", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		makePast(40, 2, 4, 6).write(t, w.Client, "a", 1000)
		rollUp(t, w.Client)
		before := figures(t, w)
		for _, table := range []string{"runs_day", "runs_hour"} {
			post(t, w.engine.Socket(), "ALTER TABLE gnomon."+table+" DROP COLUMN duration_count, DROP COLUMN lateness_count, DROP COLUMN waited_count, DROP COLUMN queue_count")
		}
		post(t, w.engine.Socket(), "DROP TABLE gnomon.namespaces_day")
		post(t, w.engine.Socket(), "DELETE FROM gnomon.schema_migrations WHERE version >= 46")
		later := open(t, w.engine.Socket())
		defer later.Close()
		if got := raw(t, w, "SELECT max(version) >= 51, (SELECT count() FROM namespaces_day) FROM schema_migrations"); got != "1\t0\n" {
			t.Errorf("the migrations were not made again, so nothing is shown: %s", got)
		}
		// Days by an older server, which does not know the table, and one that was made of less.
		rollUp(t, later)
		last := midnight().AddDate(0, 0, -1).Format(time.DateOnly)
		if got := raw(t, w, "SELECT count() > 0 FROM namespaces_day WHERE day = '"+last+"'"); got != "1\n" {
			t.Fatal("nothing on ", last)
		}
		post(t, w.engine.Socket(), "ALTER TABLE gnomon.namespaces_day DELETE WHERE day = '"+last+"' SETTINGS mutations_sync = 1")
		post(t, w.engine.Socket(), "INSERT INTO gnomon.namespaces_day (namespace, day, runs, rows_seen, computed_at) SELECT DISTINCT namespace, day, 99, 1, now64(6) FROM gnomon.runs_day WHERE day = '"+last+"' AND namespace = (SELECT min(namespace) FROM gnomon.runs_day)")
		rollUp(t, later)
		for name, got := range figures(t, w) {
			if got != before[name] {
				t.Errorf("%s says\n%.2000s\nnot\n%.2000s", name, got, before[name])
			}
		}
	})
	t.Run("WhatWasFoldedOtherwiseIsForgotten", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		const group = "INSERT INTO gnomon.errors_day (namespace, task, day, fingerprint, task_type, pattern, runs, last_message, rows_seen, computed_at) SELECT 'Alpha', 't', today(), %d, 'Alpha.T', %s, 1, %s, 1, now64(6)"
		for i, messages := range [][2]string{{`'can<text>a.csv\''`, `'can\'t open \'a.csv\''`}, {"'文件/data/a.csv不存在'", "'文件/data/a.csv不存在'"}, {"'打开 <path>'", "'打开 /data/a.csv不存在'"}, {"'order <n> failed'", "'order 7 failed'"}} {
			post(t, w.engine.Socket(), fmt.Sprintf(group, i, messages[0], messages[1]))
		}
		migration, err := os.ReadFile("migrations/0045_forget_errors_folded.sql")
		if err != nil {
			t.Fatal(err)
		}
		post(t, w.engine.Socket(), strings.Replace(string(migration), "ALTER TABLE errors_day", "ALTER TABLE gnomon.errors_day", 1))
		if got := fmt.Sprint(w.ask(t, "SELECT pattern FROM errors_day")); got != "[[order <n> failed]]" {
			t.Error(got)
		}
	})
	t.Run("NothingNewCostsNothing", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		if r := rollUp(t, w.Client); r.Days != 0 {
			t.Errorf("%+v", r)
		}
		s, err := w.RollupState(t.Context())
		if err != nil || s.Through.IsZero() || s.Rest <= 0 || s.Rest > time.Minute || s.Behind > time.Minute {
			t.Errorf("%+v %v", s, err)
		}
	})
	t.Run("AKeeperMakesThemWithoutBeingAsked", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		p := makePast(5, 2, 2, 6)
		p.write(t, w.Client, "a", 1000)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { // ends with ctx
			defer close(done)
			w.KeepRolledUp(ctx, &sync.Mutex{})
		}()
		for deadline := time.Now().Add(2 * time.Minute); raw(t, w, "SELECT sum(runs) FROM v_success_by_day") != fmt.Sprintf("%d\n", len(p.started())); {
			if time.Now().After(deadline) {
				t.Fatal("not in two minutes")
			}
		}
		cancel()
		<-done
	})
	t.Run("AKeeperRestsLongButNotWhileItIsYoung", func(t *testing.T) {
		t.Parallel()
		for took, want := range map[time.Duration]time.Duration{0: 30 * time.Second, 200 * time.Millisecond: 30 * time.Second, time.Second: 100 * time.Second, 20 * time.Second: 10 * time.Minute} {
			if got := clickhouse.Rest(took, time.Hour, 1_000_000); got != want {
				t.Errorf("after %s it rests %s, want %s", took, got, want)
			}
		}
		for took, want := range map[time.Duration]time.Duration{10 * time.Millisecond: 5 * time.Second, 200 * time.Millisecond: 20 * time.Second, time.Second: 100 * time.Second} {
			if got := clickhouse.Rest(took, time.Minute, 1_000_000); got != want {
				t.Errorf("a young one rests %s after %s, want %s", got, took, want)
			}
		}
	})
	t.Run("APassIsLongAgainstTheTimeItTakesToSeeWhatIsDue", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		for looking, want := range map[time.Duration]time.Duration{0: 20 * time.Second, time.Second: 21 * time.Second, 27 * time.Second: 135 * time.Second} {
			if got := clickhouse.PassUntil(began, began.Add(looking)).Sub(began); got != want {
				t.Errorf("after %s of looking it ends in %s, want %s", looking, got, want)
			}
		}
	})
	t.Run("ABusyMachineDoesNotMakeViewsOfASmallHistoryOld", func(t *testing.T) {
		t.Parallel()
		for took, want := range map[time.Duration]time.Duration{200 * time.Millisecond: 30 * time.Second, 3500 * time.Millisecond: time.Minute, 20 * time.Second: time.Minute} {
			if got := clickhouse.Rest(took, time.Hour, 1556*3); got != want {
				t.Errorf("after %s it rests %s, want %s", took, got, want)
			}
		}
		w := setup(t)
		p := makePast(9, 2, 2, 6)
		p.write(t, w.Client, "a", 1000)
		rollUp(t, w.Client)
		rows := len(p.runs) + len(p.started()) + len(p.attempts)
		if got := w.one(t, "SELECT rows_seen FROM rollups WHERE namespace = '' AND day = toDate(0)"); got == "0" {
			t.Errorf("a pass over more than %d rows is said to be over none", rows)
		}
		post(t, w.engine.Socket(), "TRUNCATE TABLE rollups")
		post(t, w.engine.Socket(), "INSERT INTO rollups (namespace, day, rows_seen, computed_at, took_ms) SELECT arrayJoin(['', '*']), toDate(0), arrayJoin([4668]), now64(6, 'UTC') - 50, 3500")
		r, err := w.RollupState(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Rest <= 0 || r.Rest > 15*time.Second || r.Usual != 2*time.Minute+3500*time.Millisecond || r.Behind < 49*time.Second {
			t.Errorf("50 s after a pass of 3.5 s over few rows: %+v", r)
		}
	})
	t.Run("HistoryFromBeforeIsRolledUp", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		for _, table := range []string{"fires", "runs", "attempts"} {
			post(t, w.engine.Socket(), "DROP TABLE "+table)
		}
		post(t, w.engine.Socket(), "TRUNCATE TABLE schema_migrations")
		for _, file := range []string{"0001_create_fires", "0002_create_runs", "0003_create_attempts", "0008_extend_fires", "0009_extend_runs", "0025_extend_attempts"} {
			text, err := os.ReadFile("migrations/" + file + ".sql")
			if err != nil {
				t.Fatal(err)
			}
			post(t, w.engine.Socket(), string(text))
		}
		p := makePast(11, 4, 70, 3)
		p.write(t, w.Client, "old", 500)
		later := open(t, w.engine.Socket())
		defer later.Close()
		for deadline := time.Now().Add(2 * time.Minute); raw(t, w, "SELECT countIf(NOT is_done) FROM system.mutations") != "0\n"; {
			if time.Now().After(deadline) {
				t.Fatal("shipped_at is not filled")
			}
		}
		rollUp(t, later)
		if got := raw(t, w, "SELECT sum(runs) FROM v_success_by_day"); got != fmt.Sprintf("%d\n", len(p.started())) {
			t.Errorf("%s runs of %d", got, len(p.started()))
		}
		// They have got a time of their own, so they are not new for ever: the second it was made in apart.
		for deadline := time.Now().Add(5 * time.Minute); rollUp(t, later).Days > 0; {
			if time.Now().After(deadline) {
				t.Fatal("the same days are made again and again")
			}
		}
	})
	t.Run("WhatHasExpiredStaysRolledUp", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		p := makePast(13, 2, 5, 10)
		p.write(t, w.Client, "a", 1000)
		rollUp(t, w.Client)
		want := raw(t, w, "SELECT * EXCEPT computed_at FROM runs_day FINAL ORDER BY ALL")
		for _, table := range []string{"fires", "runs", "attempts"} {
			post(t, w.engine.Socket(), "TRUNCATE TABLE "+table)
		}
		again := p.started()[:3]
		if err := w.WriteRuns(t.Context(), "again", again); err != nil {
			t.Fatal(err)
		}
		if r := rollUp(t, w.Client); r.Days == 0 {
			t.Errorf("%+v", r)
		}
		if got := raw(t, w, "SELECT * EXCEPT computed_at FROM runs_day FINAL ORDER BY ALL"); got != want {
			t.Errorf("a day made of few rows has replaced one made of many:\n%s\n%s", want, got)
		}
	})
}

func TestRollUpSteps(t *testing.T) {
	t.Parallel()
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	got := clickhouse.Steps([]clickhouse.Unit{
		{Namespace: "a", Day: day("2026-03-02"), Rows: 10}, {Namespace: "b", Day: day("2026-03-02"), Rows: 10}, {Namespace: "huge", Day: day("2026-03-02"), Rows: 5_000_000},
		{Namespace: "a", Day: day("2026-03-01"), Rows: 10}, {Namespace: "b", Day: day("2026-03-01"), Rows: 10}, {Namespace: "huge", Day: day("2026-03-01"), Rows: 5_000_000},
		{Namespace: "a", Day: day("2026-02-28"), Rows: 10},
	})
	want := []string{"[a b] 2026-03-02 2026-03-01", "[huge] 2026-03-02", "[huge] 2026-03-01", "[a] 2026-02-28"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
