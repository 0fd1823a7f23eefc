package clickhouse_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// fineHour is a segment with an hour of readings each five seconds: of a plugin, of Lua workers of two namespaces, of runs of
// theirs, and of a machine that starts again in the middle.
func fineHour(id string, from time.Time) (core.Segment, []core.Run) {
	s := core.Segment{ID: id, Servers: []core.ServerRecord{{ID: "srv", Host: "h", Version: "1", PID: 1, StartedAt: from, Cores: 2, MemBytes: 8 << 30, RecordedAt: from}}}
	var runs []core.Run
	origins := map[string]*core.Origin{}
	for _, ns := range []string{"Thin", "Fine"} {
		o := &core.Origin{RunID: newID(), Attempt: 1, TaskID: newID(), Namespace: ns, TaskName: "x", TaskType: ns + ".X", FireAt: from}
		origins[ns] = o
		use := core.Usage{CPU: 9 * time.Second, CPUSource: core.SourceMeasured, PeakRSSBytes: 700, RSSSource: core.SourceMeasured, IOSource: core.SourceMeasured}
		s.Attempts = append(s.Attempts, core.AttemptRecord{Origin: *o, StartedAt: from, EndedAt: from.Add(time.Hour - time.Second), Verdict: core.Succeeded, Place: core.Place{Server: "srv", Plugin: "lua-worker", Version: "1", PID: 20}, Usage: use})
		runs = append(runs, core.Run{ID: o.RunID, TaskID: o.TaskID, Namespace: ns, TaskName: "x", TaskType: o.TaskType, FireAt: from, FireThrough: from, FireCount: 1, DecidedAt: from, StartedAt: from, EndedAt: from.Add(time.Hour - time.Second), State: core.RunEnded, Verdict: core.Succeeded, Attempt: 1, Usage: use})
	}
	type tree struct{ cpu, busyCPU, read, write, rss, busyRSS uint64 }
	trees := map[string]*tree{}
	for n := 1; n <= 720; n++ {
		at := from.Add(time.Duration(n)*5*time.Second - 3*time.Second)
		x := uint64(n)
		for i, ns := range []string{"", "Thin", "Fine"} {
			t := trees[ns]
			if t == nil || n == 500 && ns == "Thin" { // a worker ends and another gets its number
				t = &tree{}
				trees[ns] = t
			}
			busy := n%100 < 60
			spent, held := 1000*x%7919+uint64(i), (100+x*x%997)*5
			t.cpu, t.read, t.write, t.rss = t.cpu+spent, t.read+x%3, t.write+x%5, t.rss+held
			if busy {
				t.busyCPU, t.busyRSS = t.busyCPU+spent, t.busyRSS+held
			}
			p := core.PluginSample{Plugin: "lua-worker", Version: "1", Namespace: ns, PID: 20 + i, Running: n % 4,
				ProcSample: core.ProcSample{At: at, CPU: time.Duration(t.cpu) * time.Microsecond, RSSBytes: 100 + x*x%997, ReadBytes: t.read, WriteBytes: t.write, Threads: n % 11, FDs: n%13 - 1, Processes: n % 3},
				Tree: &core.Tree{Kind: core.TreeLuaWorker, Server: "srv", Host: "h", StartTicks: 7, CPUFrom: "proc", Final: n == 499 && ns == "Thin", Span: 5 * time.Second, Busy: busy, Attempts: x / 50,
					SpentCPU: time.Duration(spent) * time.Microsecond, SpentReadBytes: x % 3, SpentWriteBytes: x % 5, SpentRSS: held, TotalRSS: t.rss, BusyCPU: time.Duration(t.busyCPU) * time.Microsecond, BusyRSS: t.busyRSS}}
			switch {
			case ns == "":
				p.Plugin, p.Tree.Kind = "common", core.TreePlugin
			case ns == "Thin" && n >= 500:
				p.Tree.StartTicks = 8
			}
			if n < 20 { // written by an older version
				p.Tree, *t = nil, tree{}
			}
			s.PluginSamples = append(s.PluginSamples, p)
			if ns != "" {
				s.RunSamples = append(s.RunSamples, core.RunSample{Origin: *origins[ns], At: at, CPU: time.Duration(x) * time.Millisecond, CPUSource: core.SourceShared, RSSBytes: 500 + x*37%613, RSSSource: core.SourceShared, ReadBytes: x * 3, WriteBytes: x * 5, IOSource: core.SourceUnknown, Final: n == 720})
			}
		}
		up := x
		if n >= 333 {
			up = x - 332
		}
		h := core.HostSample{Host: "h", At: at, CPU: time.Duration(up) * time.Second, CPUIdle: time.Duration(up) * 9 * time.Second, Cores: 2, Load1: float64(n%50) / 7, MemTotalBytes: 8 << 30, MemUsedBytes: 1<<30 + x*x%10007, SwapUsedBytes: x % 71,
			DiskReadBytes: up * 11, DiskWriteBytes: up * 13, NetRecvBytes: up * 17, NetSentBytes: up * 19, DataTotalBytes: 1 << 40, DataFreeBytes: 1<<39 - x*x%1013}
		if n%90 == 0 { // the folder could not be looked at
			h.DataTotalBytes, h.DataFreeBytes = 0, 0
		}
		if n > 100 {
			h.Detail = &core.HostDetail{Load5: float64(n%9) / 3, Load15: 1.5, IOWait: time.Duration(up), Steal: time.Duration(up), SwapTotalBytes: 100, OpenFiles: x % 31, OpenFilesMax: 1000, Threads: n % 17, Runnable: n % 5, Blocked: n % 2, ContextSwitches: up * 23, Forks: up * 29,
				FileSystems: []core.FileSystem{{Mount: "/", TotalBytes: 100, FreeBytes: 50 - x%20}, {Mount: "/data", TotalBytes: 300, FreeBytes: 200 - x%7}}}
		}
		s.HostSamples = append(s.HostSamples, h)
	}
	return s, runs
}

// said is what the samples say, in answers that thinning must not change.
var said = []string{
	`SELECT toStartOfFiveMinutes(at) AS t, plugin, version, namespace, pid, kind, server, host, cpu_from, final, busy, start_ticks, sum(readings), sum(span_us), sum(spent_cpu_us), sum(spent_read_bytes), sum(spent_write_bytes), sum(spent_rss_byte_s),
 max(rss_bytes), max(threads), max(fds), max(processes), max(running), max(at), argMax(cpu_us, at), argMax(read_bytes, at), argMax(write_bytes, at), argMax(total_rss_byte_s, at), argMax(busy_cpu_us, at), argMax(busy_rss_byte_s, at), argMax(attempts, at)
FROM plugin_samples GROUP BY ALL ORDER BY ALL`,
	`SELECT toStartOfFiveMinutes(at) AS t, namespace, task, task_type, task_id, run_id, attempt, fire_at, cpu_source, rss_source, io_source, final, sum(readings), max(rss_bytes), round(sum(ifNull(rss_mean_bytes, toFloat64(rss_bytes)) * readings) / sum(readings), 3),
 max(at), argMax(cpu_us, at), argMax(read_bytes, at), argMax(write_bytes, at) FROM run_samples GROUP BY ALL ORDER BY ALL`,
	`SELECT toStartOfFiveMinutes(at) AS t, host, sum(readings), round(sum(load1 * readings) / sum(readings), 6), max(ifNull(load1_peak, load1)), round(sum(load5 * readings) / sumIf(readings, isNotNull(load5)), 1), max(mem_used_bytes), max(swap_used_bytes), minIf(data_free_bytes, data_total_bytes > 0), max(data_total_bytes),
 round(sum(ifNull(mem_used_mean_bytes, toFloat64(mem_used_bytes)) * readings) / sum(readings), 3), max(cpu_us), argMax(cpu_us, at), argMax(cpu_idle_us, at), max(disk_read_bytes), argMax(disk_write_bytes, at), max(net_recv_bytes), argMax(net_sent_bytes, at), max(cores), max(mem_total_bytes),
 max(open_files), max(open_files_max), max(threads), max(runnable), max(blocked), max(context_switches), argMax(forks, at), max(cpu_iowait_us), argMax(cpu_steal_us, at), max(swap_total_bytes), minMap(fs_free_bytes), maxMap(fs_total_bytes), max(cpu_some_us)
FROM host_samples GROUP BY ALL ORDER BY ALL`,
	// What process_hours is made of, were it made anew.
	`SELECT toStartOfHour(at) AS hour, plugin, namespace, pid, start_ticks, min(cpu_us - least(cpu_us, spent_cpu_us)), max(cpu_us), min(busy_cpu_us - least(busy_cpu_us, if(busy, spent_cpu_us, 0))), max(busy_cpu_us), min(read_bytes - least(read_bytes, spent_read_bytes)), max(read_bytes),
 min(write_bytes - least(write_bytes, spent_write_bytes)), max(write_bytes), min(total_rss_byte_s - least(total_rss_byte_s, spent_rss_byte_s)), max(total_rss_byte_s), min(busy_rss_byte_s - least(busy_rss_byte_s, if(busy, spent_rss_byte_s, 0))), max(busy_rss_byte_s), max(rss_bytes)
FROM plugin_samples WHERE isNotNull(spent_cpu_us) GROUP BY ALL ORDER BY ALL`,
	"SELECT * FROM process_hours FINAL ORDER BY ALL",
	"SELECT * FROM v_cost ORDER BY ALL",
	"SELECT * FROM v_cost_by_hour ORDER BY ALL",
	"SELECT * FROM v_resources_by_day ORDER BY ALL",
	"SELECT * FROM v_timing_by_day ORDER BY ALL",
	"SELECT * FROM v_namespace_by_day ORDER BY ALL",
	"SELECT * FROM v_noisy_neighbours ORDER BY ALL",
}

func (w *world) said(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, sql := range said {
		all = append(all, fmt.Sprint(w.ask(t, sql)))
	}
	return all
}

func same(t *testing.T, before, after []string) {
	t.Helper()
	for i := range said {
		if len(before[i]) < 10 && !strings.Contains(said[i], "v_noisy") {
			t.Errorf("nothing to compare: %s", said[i])
		}
		if before[i] == after[i] {
			continue
		}
		at := 0
		for at < min(len(before[i]), len(after[i])) && before[i][at] == after[i][at] {
			at++
		}
		cut := func(s string) string { return s[max(0, at-200):min(len(s), at+200)] }
		t.Errorf("%.200s…\nwas %s\n is %s", said[i], cut(before[i]), cut(after[i]))
	}
}

func TestThin(t *testing.T) {
	t.Parallel()
	old := now().Truncate(24*time.Hour).AddDate(0, 0, -70).Add(9*time.Hour + 30*time.Minute)
	fresh := now().Truncate(24*time.Hour).AddDate(0, 0, -3).Add(9 * time.Hour)
	later := func() time.Time { return time.Now().Add(2 * time.Hour) } // than what was just written is young
	kept := map[string]core.Retention{"Thin": {}, "Other": {FineDays: 30}}
	keptFine := map[string]core.Retention{"Thin": {}, "Fine": {FineDays: core.KeepForever}}
	rows := func(t *testing.T, w *world) string {
		t.Helper()
		return w.one(t, "SELECT concat(toString((SELECT count() FROM run_samples WHERE thinned_s = 0)), ' ', toString((SELECT count() FROM run_samples WHERE thinned_s = 300)), ' ', toString((SELECT count() FROM plugin_samples WHERE thinned_s = 0)), ' ', toString((SELECT count() FROM plugin_samples WHERE thinned_s = 300)), ' ', toString((SELECT count() FROM host_samples WHERE thinned_s = 0)), ' ', toString((SELECT count() FROM host_samples WHERE thinned_s = 300)))")
	}
	write := func(t *testing.T, w *world, id string, from time.Time) {
		t.Helper()
		s, runs := fineHour(id, from)
		if err := w.WriteSegment(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteRuns(t.Context(), id, runs); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(t *testing.T) (*world, []string) {
		t.Helper()
		w := setup(t)
		write(t, w, "old", old)
		write(t, w, "fresh", fresh)
		rollUp(t, w.Client)
		return w, w.said(t)
	}
	thin := func(t *testing.T, w *world, kept map[string]core.Retention) int {
		t.Helper()
		var gate sync.RWMutex
		done, more, err := w.Thin(t.Context(), later(), kept, &gate)
		if err != nil || more {
			t.Fatal(done, more, err)
		}
		if !gate.TryLock() {
			t.Error("the gate stays shut")
		}
		if got := w.ask(t, "SELECT name FROM system.tables WHERE name LIKE 'thinning\\\\_%'"); len(got) > 0 {
			t.Errorf("left: %v", got)
		}
		return len(done)
	}

	t.Run("SumsPeaksAndViewsStay", func(t *testing.T) {
		t.Parallel()
		w, before := begin(t)
		if got := rows(t, w); got != "2880 0 4320 0 1440 0" {
			t.Fatal(got)
		}
		if n := thin(t, w, kept); n != 3 {
			t.Errorf("%d partitions", n)
		}
		same(t, before, w.said(t))
		thinned := rows(t, w)
		if !strings.HasPrefix(thinned, "1440 26 2160 ") || !strings.Contains(thinned, " 720 ") {
			t.Error(thinned)
		}
		t.Log("fine and thinned rows of run_samples, plugin_samples, host_samples:", thinned)
		if n := thin(t, w, kept); n != 0 || rows(t, w) != thinned {
			t.Errorf("again: %d partitions, %s", n, rows(t, w))
		}
		rollUp(t, w.Client)
		// On a busy machine what was replaced is gone from disk by now.
		if got := w.one(t, "SELECT toString((count(), countIf(state IN ('replaced', 'done')), sum(rows_before), countIf(rows_after * 20 < rows_before))) FROM thinnings"); got != "(3,3,4320,3)" {
			t.Error(got)
		}
		state, err := w.ThinState(t.Context())
		if err != nil || state.Days != 3 || state.RowsBefore != 4320 || state.RowsAfter > 200 || state.Through.Before(old.AddDate(0, 0, -40)) {
			t.Errorf("%+v %v", state, err)
		}
		same(t, before, w.said(t))
	})
	t.Run("WhoKeepsThemFineHasThemFine", func(t *testing.T) {
		t.Parallel()
		w, before := begin(t)
		if n := thin(t, w, keptFine); n != 2 {
			t.Errorf("%d partitions", n)
		}
		same(t, before, w.said(t))
		for table, at := range map[string]string{"run_samples": "fire_at", "plugin_samples": "at"} {
			if got := w.one(t, "SELECT toString((countIf(namespace = 'Thin' AND thinned_s = 0), countIf(namespace = 'Fine'), countIf(namespace != 'Thin' AND thinned_s > 0))) FROM "+table+" WHERE "+at+" < now() - INTERVAL 30 DAY"); got != "(0,720,0)" {
				t.Errorf("%s: %s", table, got)
			}
		}
	})
	t.Run("NeverBeforeRollUpsNeedThemNoMore", func(t *testing.T) {
		t.Parallel()
		w, _ := begin(t)
		was := rows(t, w)
		if n := thin(t, w, map[string]core.Retention{"Thin": {FineDays: 1}, "Fine": {FineDays: 1}}); n != 3 {
			t.Errorf("%d partitions", n)
		}
		if now := rows(t, w); !strings.HasPrefix(now, "1440 ") {
			t.Errorf("the day before yesterday's are thinned: %s, were %s", now, was)
		}
	})
	t.Run("RowsThatComeLaterAreThinnedTheNextTime", func(t *testing.T) {
		t.Parallel()
		w, _ := begin(t)
		thin(t, w, kept)
		write(t, w, "late", old.Add(2*time.Hour+7*time.Minute+30*time.Second))
		rollUp(t, w.Client)
		before := w.said(t)
		if got := w.one(t, "SELECT countIf(thinned_s = 0) FROM plugin_samples WHERE at < now() - INTERVAL 30 DAY"); got != "2160" {
			t.Errorf("%s late rows", got)
		}
		if n := thin(t, w, kept); n != 3 {
			t.Errorf("%d partitions", n)
		}
		same(t, before, w.said(t))
		if got := rows(t, w); !strings.HasPrefix(got, "1440 ") || !strings.Contains(got, " 2160 ") {
			t.Error(got)
		}
	})
	t.Run("WhatABackfillUsedStaysFineFromTheDayItRan", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		now := time.Now().UTC().Truncate(5 * time.Minute)
		var s core.Segment
		for i := range 60 {
			o := core.Origin{RunID: "r", Attempt: 1, TaskID: "t", Namespace: "Thin", TaskName: "x", TaskType: "Thin.X", FireAt: old}
			s.ID, s.RunSamples = "backfill", append(s.RunSamples, core.RunSample{Origin: o, At: now.Add(time.Duration(i) * time.Second)})
		}
		if err := w.WriteSegment(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		for _, pass := range []struct{ days, rows int }{{1, 60}, {13, 60}, {15, 1}} {
			var gate sync.RWMutex
			if _, _, err := w.Thin(t.Context(), now.AddDate(0, 0, pass.days), kept, &gate); err != nil {
				t.Fatal(err)
			}
			if got := w.one(t, "SELECT toString((count(), sum(readings))) FROM run_samples"); got != fmt.Sprintf("(%d,60)", pass.rows) {
				t.Errorf("after %d days: %s rows and readings, want %d", pass.days, got, pass.rows)
			}
		}
	})
	t.Run("RowsThatComeMeanwhileAreNotLost", func(t *testing.T) {
		t.Parallel()
		w, _ := begin(t)
		came := 0
		w.OnThin(func(at string) {
			if at == "filled" {
				came++
				write(t, w, fmt.Sprint("meanwhile", came), old.Add(time.Duration(came)*time.Hour))
			}
		})
		if n := thin(t, w, kept); n != 0 {
			t.Errorf("%d partitions", n)
		}
		w.OnThin(nil)
		for table, hour := range map[string]int{"run_samples": 1440, "plugin_samples": 2160, "host_samples": 720} {
			if got := w.one(t, "SELECT toString((count(), sum(readings))) FROM "+table); got != fmt.Sprintf("(%[1]d,%[1]d)", (2+came)*hour) {
				t.Errorf("%s has %s rows and readings, %d hours came", table, got, 2+came)
			}
		}
		rollUp(t, w.Client)
		before := w.said(t)
		if n := thin(t, w, kept); n != 3 {
			t.Errorf("%d partitions", n)
		}
		same(t, before, w.said(t))
	})
	t.Run("NotWhileItStillComes", func(t *testing.T) {
		t.Parallel()
		w, _ := begin(t)
		was := rows(t, w)
		var gate sync.RWMutex
		if done, more, err := w.Thin(t.Context(), time.Now(), kept, &gate); err != nil || more || len(done) > 0 || rows(t, w) != was {
			t.Error(done, more, err)
		}
	})
	t.Run("WritersAreNotMadeToWait", func(t *testing.T) {
		t.Parallel()
		w, before := begin(t)
		var gate sync.RWMutex
		gate.RLock()
		waited := time.AfterFunc(2*time.Second, gate.RUnlock)
		defer waited.Stop()
		if done, _, err := w.Thin(t.Context(), later(), kept, &gate); err != nil || len(done) != 3 {
			t.Error(done, err)
		}
		same(t, before, w.said(t))
	})
	for _, step := range []string{"filled", "looked", "swapped"} {
		t.Run("KilledWhen/"+step, func(t *testing.T) {
			t.Parallel()
			w, before := begin(t)
			killed := 0
			w.OnThin(func(at string) {
				if at == step && killed < 3 {
					killed++
					if err := syscall.Kill(w.engine.PID(), syscall.SIGKILL); err != nil {
						t.Error(err)
					}
				}
			})
			deadline := time.Now().Add(5 * time.Minute)
			for {
				var gate sync.RWMutex
				done, _, err := w.Thin(t.Context(), later(), kept, &gate)
				if err == nil && len(done) == 0 && killed == 3 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(done, err)
				}
				for w.Health(t.Context()) != nil {
					time.Sleep(50 * time.Millisecond)
				}
				same(t, before, w.said(t))
			}
			same(t, before, w.said(t))
			if got := rows(t, w); !strings.HasPrefix(got, "1440 26 2160 ") {
				t.Error(got)
			}
			if got := w.ask(t, "SELECT state, samples, replaced FROM thinnings ORDER BY ALL"); len(got) == 0 {
				t.Error("nothing was said")
			}
			var gate sync.RWMutex // what the killed ones left goes when it is old
			if _, _, err := w.Thin(t.Context(), time.Now().Add(3*time.Hour), kept, &gate); err != nil {
				t.Error(err)
			}
			if got := w.ask(t, "SELECT name FROM system.tables WHERE name LIKE 'thinning\\\\_%'"); len(got) > 0 {
				t.Errorf("left: %v", got)
			}
		})
	}
	t.Run("WhatCameBackIsRemoved", func(t *testing.T) {
		t.Parallel()
		w, before := begin(t)
		thin(t, w, kept)
		// As if ClickHouse had been killed and had forgotten that it replaced a part.
		comeBack := func(id string, from time.Time, begun string, rows int) {
			s, _ := fineHour(id, from)
			s.PluginSamples = s.PluginSamples[:rows]
			s.RunSamples, s.HostSamples, s.Attempts, s.Servers = nil, nil, nil, nil
			if err := w.WriteSegment(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			post(t, w.engine.Socket(), "INSERT INTO gnomon.thinnings (samples, day, begun_at, recorded_at, state, replaced) SELECT 'plugin_samples', toDate('"+old.Format(time.DateOnly)+"'), "+begun+", now64(6), 'replaced', groupArray(name) FROM system.parts WHERE database = 'gnomon' AND table = 'plugin_samples' AND active AND rows = "+fmt.Sprint(rows)+" AND partition_id = '"+old.Format("20060102")+"'")
		}
		fine := func(want int) {
			t.Helper()
			if got := w.one(t, "SELECT countIf(thinned_s = 0) FROM plugin_samples"); got != fmt.Sprint(want) {
				t.Errorf("%s rows as measured, want %d", got, want)
			}
		}
		comeBack("came back", old, "now64(6)", 2160)
		fine(4320)
		again := open(t, w.engine.Socket())
		defer again.Close()
		fine(2160)
		same(t, before, w.said(t))
		comeBack("same name only", old.Add(2*time.Hour), "now64(6) - INTERVAL 1 DAY", 999)
		third := open(t, w.engine.Socket())
		defer third.Close()
		fine(2160 + 999)
		if got := w.one(t, "SELECT groupArray(state) FROM thinnings WHERE begun_at < now64(6) - INTERVAL 1 HOUR"); got != "[done]" {
			t.Errorf("the mark whose parts are gone says %s", got)
		}
	})
	t.Run("EveryColumnIsThoughtOf", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		for _, table := range []string{"run_samples", "plugin_samples", "host_samples"} {
			text, err := os.ReadFile("thin/" + table + ".sql")
			if err != nil {
				t.Fatal(err)
			}
			list := regexp.MustCompile(`(?s)\n\(\n(.*?)\n\)\n`).FindStringSubmatch(string(text))
			var have, want []string
			for _, name := range strings.Split(list[1], ",") {
				have = append(have, strings.TrimSpace(name))
			}
			for _, row := range w.ask(t, "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '"+table+"' AND default_kind NOT IN ('ALIAS', 'MATERIALIZED')") {
				want = append(want, fmt.Sprint(row[0]))
			}
			slices.Sort(have)
			slices.Sort(want)
			if !slices.Equal(have, want) {
				t.Errorf("%s has %v; the statement that thins it %v", table, want, have)
			}
		}
	})
}
