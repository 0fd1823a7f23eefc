package clickhouse_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gnomon-scheduler/gnomon/core"
)

func fullSegment(id string) core.Segment {
	s := segment(id, 3000, true)
	origin := *s.Logs[0].Origin
	at := now()
	s.RunSamples = []core.RunSample{
		{Origin: origin, At: at, CPU: 1500 * time.Microsecond, CPUSource: core.SourceMeasured, RSSBytes: 1 << 30, RSSSource: core.SourceShared, ReadBytes: 3, WriteBytes: 4, IOSource: core.SourceUnknown},
		{Origin: origin, At: at.Add(time.Second), CPU: 2500 * time.Microsecond, CPUSource: core.SourceMeasured, RSSBytes: 2 << 30, RSSSource: core.SourceShared, IOSource: core.SourceUnknown, Final: true},
	}
	s.PluginSamples = []core.PluginSample{{ProcSample: core.ProcSample{At: at, CPU: time.Second, RSSBytes: 5, ReadBytes: 6, WriteBytes: 7, Threads: 8, FDs: -1, Processes: 9}, Plugin: "common", Version: "1.2.3", PID: 4711, Running: 2}}
	tree := s.PluginSamples[0]
	tree.At, tree.CPU = at.Add(time.Second), 3*time.Second
	tree.Tree = &core.Tree{Kind: core.TreePlugin, Server: "srv", Host: "node-1", StartTicks: 77, CPUFrom: "cgroup", Final: true, Span: time.Second, Busy: true,
		Attempts: 12, SpentCPU: 2 * time.Second, SpentReadBytes: 1, SpentWriteBytes: 2, SpentRSS: 3, TotalRSS: 4, BusyCPU: 2500 * time.Millisecond, BusyRSS: 3}
	s.PluginSamples = append(s.PluginSamples, tree)
	s.HostSamples = []core.HostSample{{At: at, Host: "node-1", CPU: time.Hour, CPUIdle: time.Minute, Cores: 2, Load1: 0.5, MemTotalBytes: 1, MemUsedBytes: 2, SwapUsedBytes: 3, DiskReadBytes: 4, DiskWriteBytes: 5, NetRecvBytes: 6, NetSentBytes: 7, DataTotalBytes: 8, DataFreeBytes: 9}}
	detailed := s.HostSamples[0]
	detailed.At = at.Add(time.Second)
	detailed.Detail = &core.HostDetail{Load5: 1.5, Load15: 2.5, IOWait: time.Second, Steal: 2 * time.Second, SwapTotalBytes: 3, OpenFiles: 4, OpenFilesMax: 5, Threads: 6,
		Runnable: 7, Blocked: 8, ContextSwitches: 9, Forks: 10, FileSystems: []core.FileSystem{{Mount: "/", TotalBytes: 100, FreeBytes: 40}, {Mount: "/data", TotalBytes: 200, FreeBytes: 50}}}
	pressed := detailed
	pressed.At, pressed.Detail = at.Add(2*time.Second), new(*detailed.Detail)
	pressed.Detail.Pressure = &core.Pressure{CPUSome: time.Microsecond, MemorySome: 2 * time.Microsecond, MemoryFull: 3 * time.Microsecond, IOSome: 4 * time.Microsecond, IOFull: 5 * time.Microsecond}
	s.HostSamples = append(s.HostSamples, detailed, pressed)
	s.Servers = []core.ServerRecord{
		{ID: "srv", Host: "node-1", Version: "1", PID: 5, StartedAt: at, EndedAt: time.UnixMicro(time.Time{}.UnixMicro()).UTC(), Cores: 2, MemBytes: 7, RecordedAt: at},
		{ID: "old", Host: "node-1", Version: "0", PID: 4, StartedAt: at, EndedAt: at.Add(time.Hour), Cores: 2, CPULimit: 1.5, MemBytes: 7, MemLimit: 6, RecordedAt: at},
	}
	s.Attempts = []core.AttemptRecord{
		{Origin: origin, Token: 3, StartedAt: at, EndedAt: at.Add(time.Second), Verdict: core.Failed, Message: "数据库连接被拒绝", RetryAt: at.Add(time.Minute), Usage: core.Usage{CPU: time.Millisecond, CPUSource: core.SourceMeasured, PeakRSSBytes: 1, RSSSource: core.SourceShared, IOSource: core.SourceUnknown}},
		{Origin: origin, Token: 4, StartedAt: at.Add(time.Minute), Began: at.Add(time.Minute + time.Millisecond), EndedAt: at.Add(2 * time.Minute), Verdict: core.Succeeded, Usage: core.Usage{CPUSource: core.SourceUnknown, RSSSource: core.SourceUnknown, IOSource: core.SourceUnknown}},
	}
	s.Attempts[1].Attempt = 2
	s.Attempts[1].Place = core.Place{Server: "srv", Plugin: "common", Version: "1.2.3", PID: 4711}
	return s
}

func TestSegment(t *testing.T) {
	t.Parallel()
	t.Run("ByNativeBlocks", func(t *testing.T) {
		t.Parallel()
		testSegment(t, setup(t))
	})
	t.Run("ByBatches", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.UseBatches()
		testSegment(t, w)
	})
}

func testSegment(t *testing.T, w *world) {
	s := fullSegment("seg-1")
	if err := w.WriteSegment(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	runID := s.Logs[0].Origin.RunID

	t.Run("IsReadBackAsItWas", func(t *testing.T) {
		lines, err := w.Lines(t.Context(), core.LineFilter{RunID: runID, Limit: 10000})
		if err != nil {
			t.Fatal(err)
		}
		want := s.Logs[:1000]
		for i := range want {
			want[i].Attrs = []core.Attr{{Key: "device", Value: "ecg-12"}, {Key: "patient", Value: fmt.Sprint(i)}}
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Error(diff)
		}
		samples, err := w.Samples(t.Context(), runID)
		if diff := cmp.Diff(s.RunSamples, samples); diff != "" || err != nil {
			t.Error(err, diff)
		}
		attempts, err := w.Attempts(t.Context(), runID)
		if diff := cmp.Diff(s.Attempts, attempts); diff != "" || err != nil {
			t.Error(err, diff)
		}
		for query, want := range map[string]string{
			"SELECT concat(plugin, version, toString(pid), toString(cpu_us), toString(fds), toString(running), kind, host) FROM plugin_samples WHERE isNull(spent_cpu_us)":                                                                                           "common1.2.347111000000-12plugin",
			"SELECT toString(tuple(kind, server, host, cpu_from, final, busy, start_ticks, span_us, attempts, spent_cpu_us, spent_read_bytes, spent_write_bytes, spent_rss_byte_s, total_rss_byte_s, busy_cpu_us, busy_rss_byte_s)) FROM plugin_samples WHERE final": "('plugin','srv','node-1','cgroup',true,true,77,1000000,12,2000000,1,2,3,4,2500000,3)",
			"SELECT concat(host, toString(cores), toString(load1), toString(data_free_bytes)) FROM host_samples WHERE isNull(load5)":                                                                                                                                 "node-120.59",
			"SELECT toString(tuple(load5, load15, cpu_iowait_us, cpu_steal_us, swap_total_bytes, open_files, open_files_max, threads, runnable, blocked, context_switches, forks, io_full_us)) FROM host_samples WHERE load5 > 0 AND isNull(cpu_some_us)":            "(1.5,2.5,1000000,2000000,3,4,5,6,7,8,9,10,NULL)",
			"SELECT toString(tuple(cpu_some_us, memory_some_us, memory_full_us, io_some_us, io_full_us, fs_total_bytes['/'], fs_free_bytes['/data'])) FROM host_samples WHERE isNotNull(cpu_some_us)":                                                                "(1,2,3,4,5,100,50)",
			"SELECT toString(groupArray(tuple(server, host, version, pid, isNull(ended_at), cores, cpu_limit_cores, mem_limit_bytes))) FROM (SELECT * FROM servers ORDER BY server)":                                                                                 "[('old','node-1','0',4,0,2,1.5,6),('srv','node-1','1',5,1,2,NULL,NULL)]",
		} {
			if got := w.one(t, query); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if got := w.one(t, "SELECT count() FROM run_logs WHERE level = 'info' AND stream = 'log' AND attrs['device'] = 'ecg-12' AND message LIKE '%兜底%'"); got != "3000" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("TwiceLeavesItOnce", func(t *testing.T) {
		for range 2 {
			if err := w.WriteSegment(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		for table, want := range map[string]string{"run_logs": "3000", "run_samples": "2", "plugin_samples": "2", "host_samples": "3", "attempts": "2", "servers": "2"} {
			if got := w.one(t, "SELECT count() FROM "+table); got != want {
				t.Errorf("%s: %s rows, want %s", table, got, want)
			}
			if got := w.one(t, "SELECT sum(rows) FROM system.parts WHERE active AND table = '"+table+"' AND database = currentDatabase()"); got != want {
				t.Errorf("%s: %s rows stored, want %s: the server's window did not drop the repeat", table, got, want)
			}
		}
		// As if the server's window had forgotten it: only the keys tell.
		again := s
		again.ID = "seg-1-forgotten"
		if err := w.WriteSegment(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		for table, want := range map[string]string{"run_logs": "3000", "run_samples": "2", "plugin_samples": "2", "host_samples": "3", "attempts": "2", "servers": "2"} {
			if got := w.one(t, "SELECT count() FROM "+table); got != want {
				t.Errorf("%s: %s rows after a forgotten repeat, want %s", table, got, want)
			}
		}
	})
	t.Run("TheHoursOfATreeCountARepeatOnce", func(t *testing.T) {
		const query = `SELECT toString(tuple(host, kind, plugin, pid, start_ticks, max(cpu_us_to) - min(cpu_us_from), max(busy_cpu_us_to) - min(busy_cpu_us_from),
  max(read_bytes_to) - min(read_bytes_from), max(write_bytes_to) - min(write_bytes_from), max(rss_byte_s_to) - min(rss_byte_s_from), max(busy_rss_byte_s_to) - min(busy_rss_byte_s_from)))
  FROM process_hours GROUP BY host, kind, plugin, pid, start_ticks`
		if got := w.one(t, query); got != "('node-1','plugin','common',4711,77,2000000,2000000,1,2,3,3)" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("LinesArePagedInOrder", func(t *testing.T) {
		var seen []uint64
		filter := core.LineFilter{RunID: runID, Limit: 300}
		for {
			lines, err := w.Lines(t.Context(), filter)
			if err != nil {
				t.Fatal(err)
			}
			if len(lines) == 0 {
				break
			}
			for _, l := range lines {
				seen = append(seen, l.Seq)
			}
			filter.AfterAttempt, filter.AfterSeq = lines[len(lines)-1].Origin.Attempt, lines[len(lines)-1].Seq
		}
		if len(seen) != 1000 || seen[0] != 1 || seen[999] != 1000 {
			t.Errorf("%d lines", len(seen))
		}
		if lines, err := w.Lines(t.Context(), core.LineFilter{RunID: runID, MinLevel: core.LevelWarn, Limit: 10}); err != nil || len(lines) != 0 {
			t.Errorf("%d lines of level warn, %v", len(lines), err)
		}
	})
	t.Run("OddValuesAreKept", func(t *testing.T) {
		odd := core.Segment{ID: "odd"}
		origin := &core.Origin{RunID: "not-a-uuid", Attempt: 1, TaskName: "t", FireAt: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)}
		messages := []string{"", "\x00\xff\xfe binary", "line one\nline two\r\n", "'; DROP TABLE run_logs; --", "🩺 心电 \u202e", string(make([]byte, 1<<20))}
		for i, m := range messages {
			odd.Logs = append(odd.Logs, core.LoggedLine{Origin: origin, LogLine: core.LogLine{At: now(), Level: core.Level(200), Seq: uint64(i + 1), Message: m}})
		}
		if err := w.WriteSegment(t.Context(), odd); err != nil {
			t.Fatal(err)
		}
		lines, err := w.Lines(t.Context(), core.LineFilter{RunID: "not-a-uuid", Limit: 10})
		if err != nil || len(lines) != len(messages) {
			t.Fatalf("%d lines, %v", len(lines), err)
		}
		for i, m := range messages {
			if lines[i].Message != m || lines[i].Level != 0 {
				t.Errorf("line %d: %d bytes, level %v", i, len(lines[i].Message), lines[i].Level)
			}
		}
	})
	t.Run("EmptyIsNothing", func(t *testing.T) {
		if err := w.WriteSegment(t.Context(), core.Segment{ID: "empty"}); err != nil {
			t.Fatal(err)
		}
	})
}

func someRuns(n int) []core.Run {
	all := make([]core.Run, n)
	for i := range all {
		at := now().Add(time.Duration(i-n) * time.Second)
		all[i] = core.Run{
			ID: newID(), TaskID: "task-" + fmt.Sprint(i%3), TaskVersion: 7, Namespace: []string{"Common", "Telemedicine"}[i%2], TaskName: fmt.Sprint("t", i%3), TaskType: "Common.KeepAlive",
			Trigger: core.TriggerSchedule, FireAt: at, FireThrough: at, FireCount: 1, Params: json.RawMessage(`{"urls":["http://a/"]}`), State: core.RunEnded, Owner: "server-1",
			Attempt: 1, Token: int64(i), DecidedAt: at.Add(-time.Second), StartedAt: at.Add(1500 * time.Microsecond), EndedAt: at.Add(41500 * time.Microsecond), Verdict: core.Succeeded,
			Output: json.RawMessage(`{"ok":1}`), Usage: core.Usage{CPU: 2 * time.Millisecond, CPUSource: core.SourceMeasured, PeakRSSBytes: 9 << 20, RSSSource: core.SourceShared, IOSource: core.SourceUnknown}, CreatedBy: "gnomon",
		}
		if i%5 == 4 {
			all[i].Verdict, all[i].Reason, all[i].Facts = core.Skipped, core.ReasonOverlap, json.RawMessage(`{"live":"run-x"}`)
			all[i].Params, all[i].Output, all[i].StartedAt, all[i].Attempt, all[i].Token = nil, nil, time.Time{}, 0, 0
			all[i].EndedAt, all[i].Usage = all[i].DecidedAt, core.Usage{CPUSource: core.SourceUnknown, RSSSource: core.SourceUnknown, IOSource: core.SourceUnknown}
		}
	}
	return all
}

func TestRuns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	written := someRuns(50)
	for range 2 {
		if err := w.WriteRuns(t.Context(), "batch-1", written); err != nil {
			t.Fatal(err)
		}
	}
	w.UseBatches()
	if err := w.WriteRuns(t.Context(), "batch-2", written[10:]); err != nil {
		t.Fatal(err)
	}

	t.Run("EachOnceInFiresAndRuns", func(t *testing.T) {
		if got := fmt.Sprint(w.ask(t, "SELECT count(), countIf(decision = 'skipped'), uniqExact(run_id) FROM fires")); got != "[[50 10 50]]" {
			t.Errorf("fires %s", got)
		}
		if got := fmt.Sprint(w.ask(t, "SELECT task_type, count(), countIf(outcome='succeeded') FROM runs GROUP BY 1")); got != "[[Common.KeepAlive 40 40]]" {
			t.Errorf("runs %s", got)
		}
		if got := fmt.Sprint(w.ask(t, "SELECT DISTINCT duration_ms, lateness_ms, cpu_ms FROM runs")); got != "[[40 1.5 2]]" {
			t.Errorf("figures %s", got)
		}
	})
	t.Run("OneIsReadBackAsItWas", func(t *testing.T) {
		for _, want := range []core.Run{written[0], written[4]} {
			got, err := w.Run(t.Context(), want.ID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		if _, err := w.Run(t.Context(), newID()); core.KindOf(err) != core.KindNotFound {
			t.Errorf("got %v", err)
		}
	})
	t.Run("NewestFirstByFilterAndPage", func(t *testing.T) {
		list := func(f core.RunFilter) (ids []string) {
			if f.Limit == 0 {
				f.Limit = 1000
			}
			got, err := w.Runs(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range got {
				ids = append(ids, r.ID)
			}
			return ids
		}
		wanted := func(keep func(core.Run) bool) (ids []string) {
			for i := len(written) - 1; i >= 0; i-- {
				if keep(written[i]) {
					ids = append(ids, written[i].ID)
				}
			}
			return ids
		}
		for name, c := range map[string]struct {
			filter core.RunFilter
			keep   func(core.Run) bool
		}{
			"all":       {core.RunFilter{}, func(core.Run) bool { return true }},
			"namespace": {core.RunFilter{Namespaces: []string{"Common"}}, func(r core.Run) bool { return r.Namespace == "Common" }},
			"none":      {core.RunFilter{Namespaces: []string{}}, func(core.Run) bool { return false }},
			"task":      {core.RunFilter{TaskID: "task-1"}, func(r core.Run) bool { return r.TaskID == "task-1" }},
			"skipped":   {core.RunFilter{Verdicts: []core.Verdict{core.Skipped}}, func(r core.Run) bool { return r.Verdict == core.Skipped }},
			"succeeded": {core.RunFilter{Verdicts: []core.Verdict{core.Succeeded, core.Failed}}, func(r core.Run) bool { return r.Verdict == core.Succeeded }},
			"time": {core.RunFilter{From: written[10].FireAt, To: written[20].FireAt}, func(r core.Run) bool {
				return !r.FireAt.Before(written[10].FireAt) && r.FireAt.Before(written[20].FireAt)
			}},
			"live":       {core.RunFilter{LiveOnly: true}, func(core.Run) bool { return false }},
			"other type": {core.RunFilter{TaskType: "X.Y"}, func(core.Run) bool { return false }},
			"before":     {core.RunFilter{BeforeID: written[20].ID}, func(r core.Run) bool { return r.ID < written[20].ID }},
			"both kinds": {core.RunFilter{Verdicts: []core.Verdict{core.Succeeded, core.Skipped}, TaskID: "task-2"}, func(r core.Run) bool { return r.TaskID == "task-2" }},
		} {
			if diff := cmp.Diff(wanted(c.keep), list(c.filter)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		var paged []string
		filter := core.RunFilter{Limit: 7}
		for {
			page := list(filter)
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			filter.BeforeID = page[len(page)-1]
		}
		if diff := cmp.Diff(wanted(func(core.Run) bool { return true }), paged); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("FiresSayWhyNot", func(t *testing.T) {
		got, err := w.Fires(t.Context(), core.FireFilter{TaskID: "task-1", From: written[0].FireAt, To: written[49].FireAt.Add(time.Hour), Limit: 1000})
		if err != nil || len(got) != 17 {
			t.Fatalf("%d fires, %v", len(got), err)
		}
		for _, f := range got {
			if f.Verdict == core.Skipped && (f.Reason != core.ReasonOverlap || string(f.Facts) != `{"live":"run-x"}`) {
				t.Errorf("%+v", f)
			}
		}
	})
	t.Run("RunThatCaughtUpLongAfterItsInstantIsFound", func(t *testing.T) {
		old := someRuns(1)
		old[0].FireAt = now().AddDate(-2, 0, 0)
		old[0].FireThrough = old[0].FireAt
		if err := w.WriteRuns(t.Context(), "old", old); err != nil {
			t.Fatal(err)
		}
		if got, err := w.Run(t.Context(), old[0].ID); err != nil || !got.FireAt.Equal(old[0].FireAt) {
			t.Errorf("%v %v", got.FireAt, err)
		}
	})
}

func TestKilledInTheMiddleOfAnInsertAndSentAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for round := range 5 {
		s := segment(fmt.Sprintf("killed-%d", round), 100_000, round%2 == 0)
		var sending sync.WaitGroup
		sending.Go(func() { _ = w.WriteSegment(t.Context(), s) })
		time.Sleep(time.Duration(20+round*40) * time.Millisecond)
		if err := syscall.Kill(w.engine.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		sending.Wait()
		deadline := time.Now().Add(2 * time.Minute)
		for {
			err := w.WriteSegment(t.Context(), s)
			if err == nil {
				break
			}
			if core.KindOf(err) != core.KindUnavailable {
				t.Logf("kind %s: %v", core.KindOf(err), err)
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		got := fmt.Sprint(w.ask(t, "SELECT count(), uniqExact(run_id, attempt, seq) FROM run_logs"))
		if want := fmt.Sprintf("[[%d %d]]", (round+1)*100_000, (round+1)*100_000); got != want {
			t.Fatalf("round %d: %s, want %s", round, got, want)
		}
	}
}
