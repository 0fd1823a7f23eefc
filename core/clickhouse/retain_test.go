package clickhouse_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func TestRetain(t *testing.T) {
	t.Parallel()
	today := now().Truncate(24 * time.Hour).Add(12 * time.Hour)
	// leave adds what a run of an instant has left, which was decided and carried out at a time.
	leave := func(s *core.Segment, runs *[]core.Run, ns string, fireAt, at time.Time) {
		o := core.Origin{RunID: newID(), Attempt: 1, TaskID: newID(), Namespace: ns, TaskName: "x", TaskType: ns + ".X", FireAt: fireAt}
		s.Logs = append(s.Logs, core.LoggedLine{Origin: &o, LogLine: core.LogLine{At: at, Level: core.LevelInfo, Stream: core.StreamLog, Seq: 1, Message: "said"}})
		s.RunSamples = append(s.RunSamples, core.RunSample{Origin: o, At: at})
		s.Attempts = append(s.Attempts, core.AttemptRecord{Origin: o, StartedAt: at, EndedAt: at, Verdict: core.Failed})
		*runs = append(*runs, core.Run{ID: o.RunID, TaskID: o.TaskID, Namespace: ns, TaskName: "x", TaskType: o.TaskType, FireAt: fireAt, FireThrough: fireAt, FireCount: 1, DecidedAt: at, StartedAt: at, EndedAt: at, State: core.RunEnded, Verdict: core.Failed, Message: "no answer about " + ns, Attempt: 1})
	}
	write := func(t *testing.T, w *world, s core.Segment, runs []core.Run) {
		t.Helper()
		if err := w.WriteSegment(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteRuns(t.Context(), s.ID, runs); err != nil {
			t.Fatal(err)
		}
	}
	// fill writes for each namespace a run with a line, a sample and an attempt so many days ago, and samples of plugins and hosts.
	fill := func(t *testing.T, w *world, days ...int) {
		t.Helper()
		s := core.Segment{ID: "retain"}
		var runs []core.Run
		for _, ago := range days {
			at := today.AddDate(0, 0, -ago)
			for _, ns := range []string{"Short", "Long", "O'Neill"} {
				leave(&s, &runs, ns, at, at)
				s.PluginSamples = append(s.PluginSamples, core.PluginSample{Plugin: "lua-worker", Namespace: ns, PID: 1, ProcSample: core.ProcSample{At: at}})
			}
			s.HostSamples = append(s.HostSamples, core.HostSample{Host: "h", At: at})
		}
		write(t, w, s, runs)
	}
	ages := func(t *testing.T, w *world, table, column string) string {
		t.Helper()
		return fmt.Sprint(w.ask(t, "SELECT namespace, groupArray(d) FROM (SELECT namespace, dateDiff('day', "+column+", toDateTime64('"+today.Format(time.DateTime)+"', 6, 'UTC')) AS d FROM "+table+" ORDER BY d) GROUP BY namespace ORDER BY namespace"))
	}
	kept := map[string]core.Retention{"Short": {RunsDays: 40, LinesDays: 10, SamplesDays: 5}, "Long": {LinesDays: core.KeepForever, SamplesDays: core.KeepForever}, "O'Neill": {LinesDays: 20}}

	t.Run("EachNamespaceGoesByItsOwnDays", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		fill(t, w, 0, 6, 12, 25, 100)
		removed, err := w.Retain(t.Context(), today, kept)
		if err != nil || len(removed) == 0 {
			t.Fatal(removed, err)
		}
		for table, want := range map[string]string{
			"run_logs":       "[[Long [0 6 12 25 100]] [O'Neill [0 6 12]] [Short [0 6]]]",
			"run_samples":    "[[Long [0 6 12 25 100]] [O'Neill [0 6 12 25]] [Short [0]]]",
			"plugin_samples": "[[Long [0 6 12 25 100]] [O'Neill [0 6 12 25]] [Short [0]]]",
		} {
			column := "fire_at"
			if table == "plugin_samples" {
				column = "at"
			}
			if got := ages(t, w, table, column); got != want {
				t.Errorf("%s: %s, want %s", table, got, want)
			}
		}
		for _, table := range []string{"runs", "attempts", "fires"} {
			if got := w.one(t, "SELECT count() FROM "+table+" WHERE namespace = 'Short' AND fire_at < toDateTime64('"+today.AddDate(0, 0, -99).Format(time.DateTime)+"', 6, 'UTC')"); got != "0" {
				t.Errorf("%s: %s old rows of Short", table, got)
			}
			if got := w.one(t, "SELECT count() FROM "+table+" WHERE namespace = 'Long'"); got != "5" {
				t.Errorf("%s: %s rows of Long", table, got)
			}
		}
		if again, err := w.Retain(t.Context(), today, kept); err != nil || len(again) != 0 {
			t.Errorf("the second time: %v %v", again, err)
		}
	})
	t.Run("WhatABackfillOfThePastLeftIsOfTheDayItRan", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		old := today.AddDate(0, 0, -200)
		short := core.Retention{RunsDays: 30, LinesDays: 30, SamplesDays: 30}
		s := core.Segment{ID: "backfill"}
		var runs []core.Run
		for _, ns := range []string{"Short", "Late", "O'Neill"} {
			for _, ago := range []int{0, 29, 31, 200} {
				if at := today.AddDate(0, 0, -ago); ns != "Late" || ago < 30 { // all of Late's is backfilled
					leave(&s, &runs, ns, old, at)
				}
			}
		}
		leave(&s, &runs, "Short", old, today.AddDate(50, 0, 0)) // by a clock that is wrong: of the past, by all that is known
		write(t, w, s, runs)
		// left gives from how many days ago rows happened.
		left := func() map[string]string {
			all := make(map[string]string)
			for table, at := range map[string]string{"run_logs": "at", "run_samples": "at", "attempts": "ended_at", "runs": "ended_at", "fires": "decided_at"} {
				all[table] = fmt.Sprint(w.ask(t, "SELECT namespace, arraySort(groupArray(dateDiff('day', "+at+", toDateTime64('"+today.Format(time.DateTime)+"', 6, 'UTC')))) FROM "+table+" GROUP BY namespace ORDER BY namespace"))
			}
			return all
		}
		for _, pass := range []struct {
			now  time.Time
			kept map[string]core.Retention
			want string
		}{
			{today, map[string]core.Retention{"Short": short, "Late": short, "O'Neill": {LinesDays: core.KeepForever, SamplesDays: core.KeepForever}}, "[[Late [0 29]] [O'Neill [0 29 31 200]] [Short [0 29]]]"},
			{today, map[string]core.Retention{"Short": short, "Late": short, "O'Neill": short}, "[[Late [0 29]] [O'Neill [0 29]] [Short [0 29]]]"},
			{today.AddDate(0, 0, 2), map[string]core.Retention{"Short": short, "Late": short, "O'Neill": short}, "[[Late [0]] [O'Neill [0]] [Short [0]]]"},
			{today.AddDate(0, 0, 31), map[string]core.Retention{"Short": short, "Late": short, "O'Neill": short}, "[]"},
		} {
			removed, err := w.Retain(t.Context(), pass.now, pass.kept)
			if err != nil || len(removed) != 5 {
				t.Errorf("%v %v", removed, err)
			}
			for table, got := range left() {
				if got != pass.want {
					t.Errorf("%s, %s: %s, want %s", pass.now.Format(time.DateOnly), table, got, pass.want)
				}
			}
			if again, err := w.Retain(t.Context(), pass.now, pass.kept); err != nil || len(again) != 0 {
				t.Errorf("the second time: %v %v", again, err)
			}
		}
	})
	t.Run("WhatRunsSaidGoesWithThemAndTheirFiguresStay", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		old := today.AddDate(0, 0, -200)
		s := core.Segment{ID: "messages"}
		var runs []core.Run
		leave(&s, &runs, "Short", old, old)
		leave(&s, &runs, "Short", today, today)
		leave(&s, &runs, "Backfilled", old, today)
		leave(&s, &runs, "Long", old, old)
		write(t, w, s, runs)
		var changes []core.BreakerChange
		for _, r := range runs {
			changes = append(changes, core.BreakerChange{Breaker: core.Breaker{Name: "task:" + r.TaskID, State: core.BreakerOpen, Because: r.Message, UpdatedAt: r.EndedAt}, Namespace: r.Namespace, TaskName: r.TaskName, RunID: r.ID})
		}
		if err := w.WriteBreakerChanges(t.Context(), "messages", changes); err != nil {
			t.Fatal(err)
		}
		rollUp(t, w.Client)
		short := core.Retention{RunsDays: 30}
		kept := map[string]core.Retention{"Short": short, "Backfilled": short, "Long": {}}
		if _, err := w.Retain(t.Context(), today, kept); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"last_message FROM errors_day", "because FROM breaker_changes", "message FROM runs"} {
			want := "[[no answer about Backfilled] [no answer about Long] [no answer about Short]]"
			if got := fmt.Sprint(w.ask(t, "SELECT "+text+" ORDER BY ALL")); got != want {
				t.Errorf("%s: %s, want %s", text, got, want)
			}
		}
		if got := w.one(t, "SELECT sum(failed) FROM v_success_by_day"); got != "4" {
			t.Errorf("%s runs failed, says the roll-up", got)
		}
		if again, err := w.Retain(t.Context(), today, kept); err != nil || len(again) != 0 {
			t.Errorf("the second time: %v %v", again, err)
		}
		if _, err := w.Retain(t.Context(), today.AddDate(0, 2, 0), map[string]core.Retention{"Short": short, "Backfilled": short, "Long": short}); err != nil {
			t.Fatal(err)
		}
		if got := w.one(t, "SELECT (SELECT count() FROM errors_day) + (SELECT count() FROM breaker_changes) + (SELECT count() FROM runs)"); got != "0" {
			t.Errorf("%s rows left", got)
		}
	})
	t.Run("APartitionThatIsOverForAllIsDroppedWhole", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		fill(t, w, 0, 500)
		all := core.Retention{RunsDays: 30, LinesDays: 30, SamplesDays: 30}
		const mutations = "SELECT count() FROM system.mutations WHERE database = currentDatabase()"
		before := w.one(t, mutations) // of migrations
		removed, err := w.Retain(t.Context(), today, map[string]core.Retention{"Short": all, "Long": all, "O'Neill": all})
		if err != nil || len(removed) != 7 {
			t.Fatalf("%v %v", removed, err)
		}
		for _, r := range removed {
			if r.Namespaces != nil {
				t.Errorf("%+v was not dropped whole", r)
			}
		}
		for _, table := range []string{"fires", "runs", "attempts", "run_logs", "run_samples", "plugin_samples", "host_samples"} {
			if got := w.one(t, "SELECT uniqExact(_partition_id) FROM "+table); got != "1" {
				t.Errorf("%s has %s partitions", table, got)
			}
		}
		if got := w.one(t, mutations); got != before {
			t.Errorf("%s mutations, %s before", got, before)
		}
	})
	t.Run("WhatNobodySetFollowsTheDefault", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		fill(t, w, 0, 29, 91, 800)
		if _, err := w.Retain(t.Context(), today, nil); err != nil {
			t.Fatal(err)
		}
		if got := w.one(t, "SELECT count() FROM runs"); got != "12" {
			t.Errorf("%s runs", got)
		}
		if got := ages(t, w, "run_logs", "fire_at"); got != "[[Long [0 29]] [O'Neill [0 29]] [Short [0 29]]]" {
			t.Errorf("lines %s", got)
		}
		if got := w.one(t, "SELECT count() FROM host_samples"); got != "3" {
			t.Errorf("%s samples of hosts", got)
		}
	})
}
