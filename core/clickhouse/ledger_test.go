package clickhouse_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gnomon-scheduler/gnomon/core"
)

// policed gives a run that has everything policies, calendars, chains and gates may say, and a skipped fire likewise.
func policed() []core.Run {
	both := someRuns(5)
	both = []core.Run{both[0], both[4]}
	for i := range both {
		r := &both[i]
		r.Series, r.MovedFrom, r.WorkflowID, r.Step, r.CausedBy = "workflow:"+newID()+"/load#1", r.FireAt.Add(-48*time.Hour), newID(), "load", newID()
		r.Priority, r.Gate, r.GateKey, r.WaitSince = -7, core.GateCapacity, "pool:erp", r.FireAt.Add(-2*time.Second)
		r.Stop, r.StopBy = core.StopCancel, "alice"
		r.Breaches = []core.Breach{
			{Kind: core.BreachStart, At: r.FireAt.Add(time.Minute), Limit: "start within 1m0s"},
			{Kind: core.BreachSlow, At: r.FireAt.Add(time.Hour), Limit: "3 times the p95"},
		}
		r.Trigger = core.TriggerWorkflow
	}
	return both
}

func TestWhatPoliciesSayIsReadBackAsItWas(t *testing.T) {
	t.Parallel()
	w := setup(t)
	written := policed()
	plain := someRuns(1)
	if err := w.WriteRuns(t.Context(), "rich", append(slices.Clone(written), plain...)); err != nil {
		t.Fatal(err)
	}
	w.UseBatches()
	if err := w.WriteRuns(t.Context(), "by batches", written); err != nil {
		t.Fatal(err)
	}
	for _, want := range append(slices.Clone(written), plain...) {
		got, err := w.Run(t.Context(), want.ID)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
		fires, err := w.Fires(t.Context(), core.FireFilter{TaskID: want.TaskID, From: want.FireAt, To: want.FireAt, Limit: 10})
		if err != nil || len(fires) != 1 {
			t.Fatalf("%d fires, %v", len(fires), err)
		}
		// A row of fires holds the decision, not what became of the run.
		ignored := cmpopts.IgnoreFields(core.Run{}, "Verdict", "Usage", "StartedAt", "EndedAt", "Attempt", "Token", "Params", "Output")
		if diff := cmp.Diff(want, fires[0], ignored); diff != "" {
			t.Error(diff)
		}
	}
	for sql, want := range map[string]string{
		"SELECT breaches, waited_ms, priority FROM runs WHERE has(breaches, 'too_long') OR has(breaches, 'slower_than_usual')": "[[[not_started_in_time slower_than_usual] 2001.5 -7]]",
		"SELECT waited_ms FROM fires WHERE decision = 'skipped'":                                                               "[[1000]]",
		"SELECT breaches, waited_ms FROM runs WHERE series = ''":                                                               "[[[] <nil>]]",
	} {
		if got := fmt.Sprint(w.ask(t, sql)); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
}

func TestWhatARunCausedIsFoundByItsID(t *testing.T) {
	t.Parallel()
	w := setup(t)
	flow, cause := newID(), newID()
	all := someRuns(400)
	for i := range all {
		switch i {
		case 17, 44: // 44 is skipped
			all[i].WorkflowID, all[i].Step = flow, fmt.Sprint("step-", i)
			all[i].FireAt = all[i].FireAt.AddDate(0, -3, 0) // a step has the workflow's instant, whenever that was
			all[i].FireThrough = all[i].FireAt
		case 300:
			all[i].CausedBy = cause
		}
	}
	if err := w.WriteRuns(t.Context(), "all", all); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter core.RunFilter
		want   []string
	}{
		"steps":           {core.RunFilter{WorkflowID: flow}, []string{all[44].ID, all[17].ID}},
		"executed steps":  {core.RunFilter{WorkflowID: flow, Verdicts: []core.Verdict{core.Succeeded}}, []string{all[17].ID}},
		"followers":       {core.RunFilter{CausedBy: cause}, []string{all[300].ID}},
		"nobody's":        {core.RunFilter{WorkflowID: newID()}, nil},
		"odd id":          {core.RunFilter{CausedBy: "not-a-uuid"}, nil},
		"ended":           {core.RunFilter{WorkflowID: flow, States: []core.RunState{core.RunWaiting, core.RunEnded}, Limit: 1}, []string{all[44].ID}},
		"live ones":       {core.RunFilter{WorkflowID: flow, States: []core.RunState{core.RunWaiting}}, nil},
		"of another page": {core.RunFilter{WorkflowID: flow, BeforeID: all[44].ID}, []string{all[17].ID}},
	} {
		if c.filter.Limit == 0 {
			c.filter.Limit = 100
		}
		got, err := w.Runs(t.Context(), c.filter)
		var ids []string
		for _, r := range got {
			ids = append(ids, r.ID)
		}
		if diff := cmp.Diff(c.want, ids); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	plan := w.ask(t, "EXPLAIN indexes = 1 SELECT run_id FROM runs WHERE workflow_id = '"+flow+"'")
	if !slices.ContainsFunc(plan, func(row []any) bool { return strings.Contains(fmt.Sprint(row[0]), "workflow_id_bloom") }) {
		t.Errorf("the bloom filter is not used: %v", plan)
	}
}

// fireRow is a skipped fire, or a range of them.
func fireRow(task, name string, at time.Time, through time.Duration, count int) core.Run {
	return core.Run{
		ID: newID(), TaskID: task, TaskVersion: 1, Namespace: "Common", TaskName: name, TaskType: "Common.KeepAlive", Trigger: core.TriggerSchedule,
		FireAt: at, FireThrough: at.Add(through), FireCount: count, State: core.RunEnded, DecidedAt: at, Verdict: core.Skipped, Reason: core.ReasonCatchUp, Facts: json.RawMessage(`{"a":1}`),
	}
}

func TestFiresOfATimeAreThoseThatOverlapIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	rows := []core.Run{
		fireRow("a", "one", day.AddDate(0, -2, 0), 61*24*time.Hour, 1000), // began long before, reaches into the day
		fireRow("a", "one", day.AddDate(0, -2, 0).Add(time.Second), time.Hour, 2),
		fireRow("a", "one", day, 0, 1),
		fireRow("a", "one", day.Add(time.Hour), time.Hour, 3),
		fireRow("a", "other name", day.Add(3*time.Hour), 0, 1), // renamed
		fireRow("b", "one", day.Add(2*time.Hour), 0, 1),        // another task under the old name
		fireRow("b", "one", day.Add(24*time.Hour), 0, 1),
		fireRow("a", "other name", day.Add(25*time.Hour), 0, 1),
	}
	rows[6].Namespace = "Telemedicine"
	for range 2 {
		if err := w.WriteRuns(t.Context(), newID(), rows); err != nil {
			t.Fatal(err)
		}
	}
	ids := func(all ...int) (ids []string) {
		for _, i := range all {
			ids = append(ids, rows[i].ID)
		}
		return ids
	}
	end := day.Add(24*time.Hour - time.Microsecond)
	t.Run("OfOneTask", func(t *testing.T) {
		for name, c := range map[string]struct {
			filter core.FireFilter
			want   []string
		}{
			"day":             {core.FireFilter{TaskID: "a", From: day, To: end}, ids(0, 2, 3, 4)},
			"an instant":      {core.FireFilter{TaskID: "a", From: day.Add(90 * time.Minute), To: day.Add(90 * time.Minute)}, ids(3)},
			"end included":    {core.FireFilter{TaskID: "b", From: day, To: day.Add(24 * time.Hour)}, ids(5, 6)},
			"everything":      {core.FireFilter{}, ids(0, 1, 2, 3, 5, 4, 6, 7)},
			"namespace":       {core.FireFilter{Namespaces: []string{"Telemedicine"}}, ids(6)},
			"no namespace":    {core.FireFilter{Namespaces: []string{}}, nil},
			"the first two":   {core.FireFilter{TaskID: "a", From: day, To: end, Limit: 2}, ids(0, 2)},
			"the two behind":  {core.FireFilter{TaskID: "a", From: day, To: end, AfterAt: rows[2].FireAt, AfterID: rows[2].ID}, ids(3, 4)},
			"nothing of both": {core.FireFilter{TaskID: "c", From: day}, nil},
		} {
			if c.filter.Limit == 0 {
				c.filter.Limit = 100
			}
			got, err := w.Fires(t.Context(), c.filter)
			var found []string
			for _, r := range got {
				found = append(found, r.ID)
			}
			if diff := cmp.Diff(c.want, found); diff != "" || err != nil {
				t.Errorf("%s: %v %s", name, err, diff)
			}
		}
		if _, err := w.Fires(t.Context(), core.FireFilter{}); core.KindOf(err) != core.KindInvalid {
			t.Errorf("got %v", err)
		}
	})
	t.Run("OfAllTasksEachInOnePiece", func(t *testing.T) {
		var got []core.Run
		keep := func(r *core.Run) error {
			got = append(got, *r)
			return nil
		}
		if err := w.EachFire(t.Context(), core.FireFilter{Namespaces: []string{"Common"}, From: day, To: end}, keep); err != nil {
			t.Fatal(err)
		}
		var want []core.Run
		for _, i := range []int{0, 2, 3, 4, 5} {
			r := rows[i]
			r.Facts, r.TaskType = nil, ""
			want = append(want, r)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		stop := errors.New("enough")
		if err := w.EachFire(t.Context(), core.FireFilter{}, func(*core.Run) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
	})
}

func TestADayOfFiresIsReadInBoundedMemory(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const tasks, each = 300, 8640 // every ten seconds: 2.6 million rows
	began := time.Now()
	for part := range 4 {
		post(t, w.engine.Socket(), fmt.Sprintf(`INSERT INTO fires (namespace, task, task_type, task_id, task_version, run_id, trigger, fire_at, fire_through, fire_count, decision, decided_at)
SELECT 'Common', concat('task-', toString(number %% %d)) AS task, 'Common.KeepAlive', concat('id-', toString(number %% %d)), 1, concat(hex(sipHash64(number)), '-', hex(number)), 'schedule',
  toDateTime64('2026-11-20 00:00:00', 6, 'UTC') + toIntervalSecond(10 * intDiv(number, %d)) AS at, at, 1, 'started', at FROM numbers(%d, %d)`, tasks, tasks, tasks, part*tasks*each/4, tasks*each/4))
	}
	before := rss(t, w.engine.PID())
	wrote := time.Since(began)
	began = time.Now()
	n, last := 0, core.Run{}
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	highest := before
	seen := map[string]bool{}
	err := w.EachFire(t.Context(), core.FireFilter{From: day, To: day.Add(24*time.Hour - 1)}, func(r *core.Run) error {
		if r.TaskID != last.TaskID && seen[r.TaskID] || r.TaskID == last.TaskID && !r.FireAt.After(last.FireAt) {
			return fmt.Errorf("%s %s came after %s %s", r.TaskID, r.FireAt, last.TaskID, last.FireAt)
		}
		seen[r.TaskID] = true
		if n++; n%500_000 == 0 {
			highest = max(highest, rss(t, w.engine.PID()))
		}
		last = *r
		return nil
	})
	if err != nil || n != tasks*each {
		t.Fatalf("%d rows, %v", n, err)
	}
	t.Logf("made %d rows in %s, read them in order in %s, engine %d MB before, %d MB at most", n, wrote, time.Since(began), before>>20, highest>>20)
	if highest > before+250<<20 {
		t.Errorf("engine resident %d MB", highest>>20)
	}
}

func TestRenamedTasksAreInOnePieceHoweverManyThereAre(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const tasks = 6000 // more than are asked for one by one
	post(t, w.engine.Socket(), fmt.Sprintf(`INSERT INTO fires (namespace, task, task_id, run_id, fire_at, fire_through, fire_count, decision, decided_at)
SELECT 'Common', concat('name-', toString((number + 7 * intDiv(number, %d)) %% %d)), concat('id-', toString(number %% %d)), hex(sipHash64(number)), toDateTime64('2026-11-20 00:00:00', 6, 'UTC') + toIntervalSecond(number) AS at, at, 1, 'started', at FROM numbers(%d)`, tasks, tasks, tasks, 3*tasks))
	n, last, seen := 0, core.Run{}, map[string]bool{}
	err := w.EachFire(t.Context(), core.FireFilter{}, func(r *core.Run) error {
		if r.TaskID != last.TaskID && seen[r.TaskID] || r.TaskID == last.TaskID && !r.FireAt.After(last.FireAt) {
			return fmt.Errorf("%s %s came after %s %s", r.TaskID, r.FireAt, last.TaskID, last.FireAt)
		}
		n, last, seen[r.TaskID] = n+1, *r, true
		return nil
	})
	if err != nil || n != 3*tasks || len(seen) != tasks {
		t.Errorf("%d rows of %d tasks, %v", n, len(seen), err)
	}
}

func TestDurationsAreThoseOfSuccessfulRuns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	runs := someRuns(300)
	for i := range runs {
		r := &runs[i]
		r.TaskID, r.Verdict, r.Reason = []string{"fast", "slow", "never"}[i%3], core.Succeeded, ""
		r.StartedAt = r.FireAt
		r.EndedAt = r.FireAt.Add(time.Duration(i/3+1) * time.Millisecond) // 1 to 100 ms
		switch i % 3 {
		case 1:
			r.EndedAt = r.FireAt.Add(time.Hour + time.Microsecond)
		case 2:
			r.Verdict = core.Failed
		}
	}
	runs[0].FireAt = runs[0].FireAt.AddDate(0, 0, -40) // too long ago
	for range 2 {
		if err := w.WriteRuns(t.Context(), newID(), runs); err != nil {
			t.Fatal(err)
		}
	}
	since := now().AddDate(0, 0, -30)
	got, err := w.Durations(t.Context(), nil, nil, since)
	if err != nil || len(got) != 2 {
		t.Fatalf("%v %v", got, err)
	}
	fast := got["fast"]
	near := func(d, want time.Duration) bool { return d > want-3*time.Millisecond && d < want+3*time.Millisecond }
	if fast.Count != 99 || !near(fast.P50, 51*time.Millisecond) || !near(fast.P95, 95*time.Millisecond) || fast.Max != 100*time.Millisecond {
		t.Errorf("fast %+v", fast)
	}
	if slow := got["slow"]; slow.Count != 100 || slow.Max != time.Hour+time.Microsecond || slow.P95 > slow.Max || slow.P50 < time.Hour-time.Minute {
		t.Errorf("slow %+v", slow)
	}
	for name, c := range map[string]struct {
		namespaces, tasks []string
		want              int
	}{
		"one task": {nil, []string{"slow"}, 1}, "no task": {nil, []string{}, 0}, "no namespace": {[]string{}, nil, 0},
		"a namespace": {[]string{"Common"}, nil, 2}, "another": {[]string{"X"}, nil, 0}, "both": {[]string{"Common"}, []string{"fast"}, 1},
	} {
		if got, err := w.Durations(t.Context(), c.namespaces, c.tasks, since); err != nil || len(got) != c.want {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func TestReconciliationsOfADayAreReplacedByTheNext(t *testing.T) {
	t.Parallel()
	w := setup(t)
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	found := []core.Reconciliation{
		{Day: day, Namespace: "Common", TaskName: "a", TaskID: "id-a", Expected: 1440, Decided: 1438, Started: 1400, Skipped: 38, Missing: 2, Doubled: 0,
			MissingList: []time.Time{day.Add(time.Hour), day.Add(2 * time.Hour)}, CheckedAt: now(), Server: "server-1"},
		{Day: day, Namespace: "Common", TaskName: "b", TaskID: "id-b", Expected: 24, Decided: 24, Started: 24, Doubled: 1, Unexpected: 2, Miscounted: 3, Unjudged: 4, MissingList: []time.Time{}, CheckedAt: now(), Server: "server-1"},
		{Day: day.AddDate(0, 0, 1), Namespace: "Telemedicine", TaskName: "c", TaskID: "id-c", Expected: 1, Decided: 1, Started: 1, MissingList: []time.Time{}, CheckedAt: now(), Server: "server-1"},
	}
	for range 2 {
		if err := w.WriteReconciliations(t.Context(), "first", found); err != nil {
			t.Fatal(err)
		}
	}
	list := func(f core.ReconciliationFilter) []core.Reconciliation {
		t.Helper()
		f.Limit = 100
		got, err := w.Reconciliations(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if diff := cmp.Diff([]core.Reconciliation{found[2], found[0], found[1]}, list(core.ReconciliationFilter{})); diff != "" {
		t.Error(diff)
	}
	better := []core.Reconciliation{found[0]}
	better[0].Decided, better[0].Missing, better[0].MissingList, better[0].CheckedAt = 1440, 0, []time.Time{}, now().Add(time.Second)
	w.UseBatches()
	if err := w.WriteReconciliations(t.Context(), "second", better); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter core.ReconciliationFilter
		want   []core.Reconciliation
	}{
		"day":       {core.ReconciliationFilter{From: day, To: day.AddDate(0, 0, 1)}, []core.Reconciliation{better[0], found[1]}},
		"wrong":     {core.ReconciliationFilter{Wrong: true}, found[1:2]},
		"task":      {core.ReconciliationFilter{TaskID: "id-c"}, found[2:]},
		"namespace": {core.ReconciliationFilter{Namespaces: []string{"Telemedicine"}}, found[2:]},
		"none":      {core.ReconciliationFilter{Namespaces: []string{}}, []core.Reconciliation{}},
	} {
		if diff := cmp.Diff(c.want, list(c.filter)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	many := core.Reconciliation{Day: day, Namespace: "X", TaskID: "x", MissingList: make([]time.Time, 10_000), CheckedAt: now()}
	if err := w.WriteReconciliations(t.Context(), "many", []core.Reconciliation{many}); err != nil {
		t.Fatal(err)
	}
	if got := w.one(t, "SELECT length(missing_list) FROM reconciliations WHERE namespace = 'X'"); got != "100" {
		t.Errorf("%s missing instants listed", got)
	}
	if _, err := w.Reconciliations(t.Context(), core.ReconciliationFilter{}); core.KindOf(err) != core.KindInvalid {
		t.Errorf("got %v", err)
	}
}

func TestBreakerChangesAreReadNewestFirst(t *testing.T) {
	t.Parallel()
	w := setup(t)
	at := now()
	run := newID()
	changes := []core.BreakerChange{
		{Breaker: core.Breaker{Name: "downstream:his", State: core.BreakerOpen, Failures: 5, OpenedAt: at, ProbeAt: at.Add(time.Minute), Because: "连接被拒绝", UpdatedAt: at}, Namespace: "Common", TaskName: "sync", RunID: run},
		{Breaker: core.Breaker{Name: "downstream:his", State: core.BreakerClosed, OpenedAt: at, UpdatedAt: at.Add(time.Minute)}, Namespace: "Common", TaskName: "sync", RunID: run},
		{Breaker: core.Breaker{Name: "task:1", State: core.BreakerOpen, UpdatedAt: at}, RunID: run},
	}
	if err := w.WriteBreakerChanges(t.Context(), "one", changes); err != nil {
		t.Fatal(err)
	}
	w.UseBatches()
	if err := w.WriteBreakerChanges(t.Context(), "again", changes[:2]); err != nil {
		t.Fatal(err)
	}
	got, err := w.BreakerChanges(t.Context(), "downstream:his", at, at.Add(time.Hour), 10)
	if diff := cmp.Diff([]core.BreakerChange{changes[1], changes[0]}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if got, err := w.BreakerChanges(t.Context(), "downstream:his", at, at.Add(time.Minute), 1); err != nil || len(got) != 1 || got[0].State != core.BreakerOpen {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := w.BreakerChanges(t.Context(), "x", at, at, 0); core.KindOf(err) != core.KindInvalid {
		t.Errorf("got %v", err)
	}
}
