package clickhouse_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// tree is a reading of a process tree that has spent cpu and held a GiB for a second since the last one.
func tree(at time.Time, kind core.TreeKind, plugin, namespace string, pid int, total, spent, busyTotal time.Duration, busy bool) core.PluginSample {
	return core.PluginSample{ProcSample: core.ProcSample{At: at, CPU: total, RSSBytes: 1 << 30, ReadBytes: 1000, WriteBytes: 4000}, Plugin: plugin, Version: "1", Namespace: namespace, PID: pid,
		Tree: &core.Tree{Kind: kind, Server: "srv", Host: "node-1", StartTicks: 7, CPUFrom: "cgroup", Span: time.Second, Busy: busy, SpentCPU: spent, BusyCPU: busyTotal,
			SpentReadBytes: 1000, SpentWriteBytes: 4000, SpentRSS: 1 << 30, TotalRSS: 1 << 30, BusyRSS: 1 << 30}}
}

func tried(task string, started, ended time.Time, plugin string, usage core.Usage) core.AttemptRecord {
	return core.AttemptRecord{Origin: core.Origin{RunID: task + started.Format(time.RFC3339Nano), Attempt: 1, TaskID: task, Namespace: "Common", TaskName: task, TaskType: "Common.T", FireAt: started},
		StartedAt: started, Began: started, EndedAt: ended, Verdict: core.Succeeded, Usage: usage, Place: core.Place{Server: "srv", Plugin: plugin, Version: "1", PID: 5}}
}

func TestCost(t *testing.T) {
	t.Parallel()
	w := setup(t)
	hour := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	at := hour.Add(30 * time.Minute)
	measured := func(cpu time.Duration) core.Usage {
		return core.Usage{CPU: cpu, CPUSource: core.SourceMeasured, PeakRSSBytes: 1 << 28, RSSSource: core.SourceMeasured, ReadBytes: 500, WriteBytes: 500, IOSource: core.SourceMeasured}
	}
	shared := func(cpu time.Duration) core.Usage {
		return core.Usage{CPU: cpu, CPUSource: core.SourceShared, PeakRSSBytes: 1 << 28, RSSSource: core.SourceShared, IOSource: core.SourceUnknown}
	}
	s := core.Segment{ID: "costs", PluginSamples: []core.PluginSample{
		tree(at, core.TreeServer, "server", "", 1, 3*time.Second, 3*time.Second, 0, false),
		tree(at, core.TreeEngine, "engine", "", 2, 5*time.Second, 5*time.Second, 0, false),
		tree(at, core.TreePlugin, "common", "", 5, 10*time.Second, 10*time.Second, 8*time.Second, true),
		tree(at, core.TreeLuaWorker, "lua-worker", "Common", 6, 2*time.Second, 2*time.Second, 2*time.Second, true),
		tree(at.Add(time.Hour), core.TreeLuaWorker, "lua-worker", "Common", 6, 5*time.Second, 3*time.Second, 5*time.Second, true), // the next hour: 3 s
	}, Servers: []core.ServerRecord{{ID: "srv", Host: "node-1", RecordedAt: at, StartedAt: at}}}
	s.Attempts = []core.AttemptRecord{
		tried("alone", at, at.Add(time.Second), "common", measured(2*time.Second)),
		tried("beside", at, at.Add(time.Second), "common", shared(time.Second)),
		tried("beside", at.Add(time.Minute), at.Add(time.Minute+time.Second), "common", shared(time.Second)),
		// Half of its two hours' time lies in each; it says it used more than its worker did in the first.
		tried("long", hour.Add(30*time.Minute), hour.Add(90*time.Minute), "lua-worker", measured(5*time.Second)),
		tried("workflow", at, at.Add(time.Second), "", core.Usage{CPUSource: core.SourceUnknown}),
	}
	for range 2 { // and once more, as if nobody remembered
		if err := w.WriteSegment(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		s.ID += "-again"
		rollUp(t, w.Client)
	}

	t.Run("TheSumOverAllRowsIsWhatTheTreesUsed", func(t *testing.T) {
		if got := w.one(t, "SELECT toString(tuple(round(sum(cpu_s), 6), round(sum(rss_byte_s) / exp2(30), 6), sum(read_bytes), sum(write_bytes))) FROM v_cost"); got != "(23,5,5000,20000)" {
			t.Errorf("got %s; the trees used 23 s, 5 GiB for a second, 5,000 and 20,000 bytes", got)
		}
	})
	t.Run("WhatAProcessUsedBesideIsGivenToThoseThatSharedIt", func(t *testing.T) {
		// The plugin was busy for 8 s, of which its attempts measured 4: half of it each. What the one that was alone is not
		// given of the other 4 stays with the plugin, besides the 2 s in which nothing ran.
		want := `[[alone measured 2 2 0 0] [beside shared 4 0 2 2] [plugin process 4 0 0 0] [workflow unknown 0 0 0 0]]`
		got := w.ask(t, `SELECT if(kind = 'run', task, kind) AS what, cpu_source, toString(round(cpu_s, 6)), toString(cpu_measured_s), toString(cpu_shared_s), toString(cpu_apportioned_s)
			FROM v_cost WHERE plugin IN ('common', '') ORDER BY what`)
		if fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	})
	t.Run("AnAttemptIsSpreadOverItsHoursAndNeverExceedsItsProcess", func(t *testing.T) {
		want := `[[10 lua_worker 0] [10 run 2] [11 lua_worker 0.5] [11 run 2.5]]`
		got := w.ask(t, `SELECT toString(toHour(hour)), kind, toString(round(cpu_s, 6)) FROM v_cost_by_hour WHERE plugin = 'lua-worker' ORDER BY hour, kind`)
		if fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	})
	t.Run("EveryRowSaysOnWhichMachine", func(t *testing.T) {
		if got := w.one(t, "SELECT toString(groupUniqArray(host)) FROM (SELECT host FROM v_cost UNION ALL SELECT host FROM v_cost_by_hour)"); got != "['node-1']" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("HoursAndDaysAreTheSameCosts", func(t *testing.T) {
		const all = "toString(tuple(sum(attempts), sum(run_s), round(sum(cpu_s), 6), round(sum(cpu_apportioned_s), 6), sum(rss_byte_s), sum(read_bytes), sum(write_bytes))) FROM "
		if day, hour := w.one(t, "SELECT "+all+"v_cost"), w.one(t, "SELECT "+all+"v_cost_by_hour"); day != hour {
			t.Errorf("%s by day, %s by hour", day, hour)
		}
		if got := w.one(t, "SELECT toString(round(sum(cpu_s), 6)) FROM v_cost_by_hour WHERE hour >= toDateTime('2026-11-20 11:00:00', 'UTC')"); got != "3" {
			t.Errorf("from eleven on: got %s", got)
		}
	})
	t.Run("WhatComesLateIsCountedOnEachDayItRan", func(t *testing.T) {
		// Weeks later: an attempt that ran over midnight, a quarter of it before, and after it a reading of its worker.
		from := time.Date(2026, 10, 30, 23, 45, 0, 0, time.UTC)
		late := core.Segment{ID: "late", Attempts: []core.AttemptRecord{tried("night", from, from.Add(time.Hour), "lua-worker", measured(8*time.Second))}}
		if err := w.WriteSegment(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		rollUp(t, w.Client)
		const asked = "SELECT toString(day), toString(attempts), toString(round(cpu_s, 6)), toString(run_s) FROM v_cost WHERE task = 'night' ORDER BY day"
		if got, want := fmt.Sprint(w.ask(t, asked)), "[[2026-10-30 0 2 900] [2026-10-31 1 6 2700]]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		late = core.Segment{ID: "later", PluginSamples: []core.PluginSample{tree(from.Add(30*time.Minute), core.TreeLuaWorker, "lua-worker", "Common", 6, 5*time.Second, 3*time.Second, 5*time.Second, true)}}
		if err := w.WriteSegment(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		rollUp(t, w.Client)
		if got, want := fmt.Sprint(w.ask(t, asked)), "[[2026-10-30 0 2 900] [2026-10-31 1 3 2700]]"; got != want {
			t.Errorf("its worker used 3 s on the second day: got %s, want %s", got, want)
		}
	})
	t.Run("WhatIsLeftOfAnExpiredDayReplacesNothing", func(t *testing.T) {
		const asked = "SELECT * FROM v_cost WHERE day >= '2026-11-01' ORDER BY ALL"
		want := fmt.Sprint(w.ask(t, asked))
		post(t, w.engine.Socket(), "TRUNCATE TABLE attempts")
		again := s
		again.ID, again.Attempts = "after", s.Attempts[:2]
		if err := w.WriteSegment(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		if r := rollUp(t, w.Client); r.Days == 0 {
			t.Errorf("%+v", r)
		}
		if got := fmt.Sprint(w.ask(t, asked)); got != want {
			t.Errorf("a day made of few rows has replaced one made of many:\n%s\n%s", want, got)
		}
	})
	t.Run("ANamespaceSeesWhatIsItsOwn", func(t *testing.T) {
		rows := w.askAs(t, "SELECT toString(groupUniqArray(kind)), toString(groupUniqArray(namespace)), toString(groupUniqArray(host)) FROM v_cost", statement.Scope{Namespaces: []string{"Common"}})
		if got := fmt.Sprint(rows); got != "[[['lua_worker','run'] ['Common'] ['']]]" {
			t.Errorf("got %s", got)
		}
		if rows := w.askAs(t, "SELECT count() FROM v_cost_by_hour", statement.Scope{Namespaces: []string{"Other"}}); fmt.Sprint(rows) != "[[0]]" {
			t.Errorf("another namespace sees %v rows", rows)
		}
	})
}

// TestCostOfABackfill holds that what a backfill of the past cost is counted once, on the day it ran, while history is removed by age.
func TestCostOfABackfill(t *testing.T) {
	t.Parallel()
	w := setup(t)
	at := midnight().Add(time.Hour)
	tried := func(task string, fireAt time.Time, cpu time.Duration) core.AttemptRecord {
		a := tried(task, at, at.Add(time.Minute), "common", core.Usage{CPU: cpu, CPUSource: core.SourceMeasured, RSSSource: core.SourceUnknown, IOSource: core.SourceUnknown})
		a.FireAt, a.TaskType = fireAt, "Common."+task
		return a
	}
	write := func(s core.Segment) {
		t.Helper()
		if err := w.WriteSegment(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		rollUp(t, w.Client)
		for _, view := range []string{"v_cost", "v_cost_by_hour"} {
			if got := w.one(t, "SELECT sum(cpu_s) FROM "+view); got != "100" {
				t.Errorf("%s after %s: %s s of CPU; the plugin used 100", view, s.ID, got)
			}
		}
	}
	write(core.Segment{ID: "the backfill", Attempts: []core.AttemptRecord{tried("backfilled", at.AddDate(0, 0, -100), 100*time.Second)},
		PluginSamples: []core.PluginSample{tree(at, core.TreePlugin, "common", "", 5, 100*time.Second, 100*time.Second, 100*time.Second, true)}})
	if _, err := w.Retain(t.Context(), time.Now(), map[string]core.Retention{"Common": {RunsDays: 30}}); err != nil {
		t.Fatal(err)
	}
	write(core.Segment{ID: "what came after", Attempts: []core.AttemptRecord{tried("one", at, 0), tried("other", at, 0)}})
	if got := w.one(t, "SELECT sum(cpu_s) FROM v_cost WHERE task = 'backfilled'"); got != "100" {
		t.Errorf("the backfill used 100 s of CPU, and is given %s", got)
	}
}

func TestNoisyNeighbours(t *testing.T) {
	t.Parallel()
	w := setup(t)
	now := time.Now().UTC().Truncate(5 * time.Minute).Add(-10 * time.Minute)
	s := core.Segment{ID: "noise", Servers: []core.ServerRecord{{ID: "srv", Host: "node-1", RecordedAt: now, StartedAt: now}}}
	for i := range 2 { // two cores, half busy; 1 GB of memory; the disks moved 1,000,000 bytes
		d := time.Duration(i) * 4 * time.Minute
		s.HostSamples = append(s.HostSamples, core.HostSample{At: now.Add(d), Host: "node-1", Cores: 2, CPU: time.Hour + d, CPUIdle: time.Hour + d, MemTotalBytes: 1e9, DiskReadBytes: uint64(i) * 400_000, DiskWriteBytes: uint64(i) * 600_000})
	}
	usage := core.Usage{CPU: time.Millisecond, CPUSource: core.SourceMeasured, PeakRSSBytes: 1e6, RSSSource: core.SourceMeasured, IOSource: core.SourceUnknown}
	for i := range 9 { // a task that takes a second, and then three
		from, took := now.Add(time.Duration(i-8)*10*time.Minute), time.Second
		if i == 8 {
			took = 3 * time.Second
		}
		s.Attempts = append(s.Attempts, tried("victim", from, from.Add(took), "common", usage))
		s.Attempts = append(s.Attempts, tried("steady", from, from.Add(time.Second), "common", usage))
	}
	var runs []core.Run // of which what is usual is known
	for i := range 9 {
		for _, task := range []string{"victim", "steady"} {
			from, took := now.Add(time.Duration(i-8)*10*time.Minute), time.Second
			if i == 8 && task == "victim" {
				took = 3 * time.Second
			}
			runs = append(runs, core.Run{ID: newID(), TaskID: task, TaskVersion: 1, Namespace: "Common", TaskName: task, TaskType: "Common.T", Trigger: core.TriggerSchedule, FireAt: from, FireThrough: from, FireCount: 1,
				State: core.RunEnded, DecidedAt: from, CreatedBy: "gnomon", Attempt: 1, StartedAt: from, EndedAt: from.Add(took), Verdict: core.Succeeded})
		}
	}
	if err := w.WriteRuns(t.Context(), "usual", runs); err != nil {
		t.Fatal(err)
	}
	s.Attempts[16].Usage.WriteBytes, s.Attempts[16].Usage.IOSource = 20_000, core.SourceMeasured // so that the victim is seen too
	burner, hog, writer := usage, usage, usage
	burner.CPU, hog.PeakRSSBytes, writer.WriteBytes, writer.IOSource = 2*time.Minute, 9e8, 150_000, core.SourceMeasured
	s.Attempts = append(s.Attempts, tried("burner", now, now.Add(2*time.Minute), "lua-worker", burner),
		tried("hog", now, now.Add(100*time.Second), "noop", hog), tried("writer", now, now.Add(time.Second), "common", writer))
	for i := range 25 {
		s.Attempts = append(s.Attempts, tried(fmt.Sprintf("quiet-%d", i), now, now.Add(500*time.Millisecond), "common", usage))
	}
	if err := w.WriteSegment(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	rollUp(t, w.Client)
	want := `[[hog 0.3 0 300000000 0 [Common/victim] 3] [burner 0.2 0.2 400000 0 [Common/victim] 3] [writer 0.15 0 3333 0.15 [Common/victim] 3]]`
	got := w.ask(t, fmt.Sprintf(`SELECT task, toString(round(noise, 4)), toString(round(cpu_share, 4)), toString(floor(rss_avg_bytes)), toString(io_share), slowed, toString(round(worst_slowdown, 2))
		FROM v_noisy_neighbours WHERE period = toDateTime(%d, 'UTC') ORDER BY noise DESC LIMIT 3`, now.Unix()))
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if got := w.one(t, fmt.Sprintf("SELECT toString(tuple(slowed, round(host_cpu_share, 3), host)) FROM v_noisy_neighbours WHERE task = 'victim' AND period = toDateTime(%d, 'UTC')", now.Unix())); got != "([],0.5,'node-1')" {
		t.Errorf("the victim is its own neighbour: %s", got)
	}
	if got := w.one(t, fmt.Sprintf("SELECT toString(tuple(count(), countIf(task LIKE 'quiet-%%'))) FROM v_noisy_neighbours WHERE period = toDateTime(%d, 'UTC')", now.Unix())); got != "(20,15)" {
		t.Errorf("of thirty neighbours the twenty noisiest are shown, and of them so many are quiet: %s", got)
	}
}
