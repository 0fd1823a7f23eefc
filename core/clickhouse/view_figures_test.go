package clickhouse_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// quantile is the value that a share p of all lies below: the one at floor(p n), as ClickHouse's quantileExact gives it.
func quantile(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func number(v any) float64 {
	switch x := v.(type) {
	case int64:
		return float64(x)
	case uint64:
		return float64(x)
	case float64:
		return x
	case bool:
		if x {
			return 1
		}
		return 0
	}
	return math.NaN()
}

// holds compares a figure of a view with one computed here; nil means that there is none.
func holds(t *testing.T, what string, got any, want float64, within float64) {
	t.Helper()
	if math.IsNaN(want) {
		if got != nil {
			t.Errorf("%s: %v, want none", what, got)
		}
		return
	}
	if x := number(got); math.IsNaN(x) || math.Abs(x-want) > within*math.Max(1e-9, math.Abs(want))+1e-6 {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// sums is what a group of runs comes to, computed from the runs themselves.
type sums struct {
	runs, succeeded, cancelled, retried, attempts, started, skipped float64
	duration, lateness, waited, queue                               []float64
	cpu, shared, unknown, peak, read, write                         float64
	reasons                                                         map[string]float64
}

// group puts runs and attempts of a past together by a key.
func (p *past) group(key func(namespace, task, kind string, at time.Time) string) map[string]*sums {
	all := make(map[string]*sums)
	of := func(namespace, task, kind string, at time.Time) *sums {
		k := key(namespace, task, kind, at)
		if all[k] == nil {
			all[k] = &sums{reasons: map[string]float64{}}
		}
		return all[k]
	}
	for _, r := range p.runs {
		s := of(r.Namespace, r.TaskName, r.TaskType, r.FireAt)
		if r.Verdict == core.Skipped {
			s.skipped += float64(r.FireCount)
			s.reasons[string(r.Reason)] += float64(r.FireCount)
			continue
		}
		s.started++
		s.runs++
		s.attempts += float64(r.Attempt)
		switch r.Verdict {
		case core.Succeeded:
			s.succeeded++
		case core.Cancelled:
			s.cancelled++
		}
		s.duration = append(s.duration, millis(r.EndedAt.Sub(r.StartedAt)))
		if r.Attempt > 1 {
			s.retried++
			continue
		}
		if !r.Trigger.OfThePast() {
			s.lateness = append(s.lateness, millis(r.StartedAt.Sub(r.FireAt)))
		}
		if !r.WaitSince.IsZero() {
			s.waited = append(s.waited, millis(r.StartedAt.Sub(r.WaitSince)))
		}
	}
	for _, a := range p.attempts {
		s := of(a.Namespace, a.TaskName, a.TaskType, a.FireAt)
		s.queue = append(s.queue, millis(a.Began.Sub(a.StartedAt)))
		if a.Usage.CPUSource == core.SourceUnknown {
			s.unknown++
		} else {
			s.cpu += a.Usage.CPU.Seconds()
		}
		if a.Usage.CPUSource == core.SourceShared {
			s.shared += a.Usage.CPU.Seconds()
		}
		s.peak = max(s.peak, float64(a.Usage.PeakRSSBytes))
		s.read += float64(a.Usage.ReadBytes)
		s.write += float64(a.Usage.WriteBytes)
	}
	return all
}

func (s *sums) rate() float64 {
	if s.runs == s.cancelled {
		return math.NaN()
	}
	return s.succeeded / (s.runs - s.cancelled)
}

// TestViewFigures holds what the views say against the same figures computed here from the same runs.
func TestViewFigures(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := makePast(42, 6, 25, 24)
	p.write(t, w.Client, "a", 500)
	p.write(t, w.Client, "b", 300)
	rollUp(t, w.Client)
	days := p.group(func(ns, task, _ string, at time.Time) string { return ns + " " + task + " " + at.Format(time.DateOnly) })
	hours := p.group(func(ns, _, kind string, at time.Time) string {
		return ns + " " + kind + " " + at.Format("2006-01-02T15:00:00Z")
	})
	spaces := p.group(func(ns, _, _ string, at time.Time) string { return ns + " " + at.Format(time.DateOnly) })

	timing := func(t *testing.T, key string, s *sums, cells []any, within float64, average bool) {
		t.Helper()
		for _, list := range [][]float64{s.duration, s.lateness, s.waited, s.queue} {
			var want []float64
			if average {
				want = append(want, mean(list))
			}
			for _, q := range []float64{0.5, 0.95, 0.99, 1} {
				if len(list) == 0 {
					want = append(want, math.NaN())
				} else {
					want = append(want, quantile(list, q))
				}
			}
			for i, x := range want {
				exact := within
				if i == len(want)-1 {
					exact = 1e-6
				}
				holds(t, fmt.Sprintf("%s figure %d", key, i), cells[i], x, exact)
			}
			cells = cells[len(want):]
		}
	}
	const stats = "%[1]s_p50_ms, %[1]s_p95_ms, %[1]s_p99_ms, %[1]s_max_ms"
	columns := func(average bool) (list string) {
		for _, name := range []string{"duration", "lateness", "waited", "queue"} {
			if average {
				list += ", " + name + "_avg_ms"
			}
			list += ", " + fmt.Sprintf(stats, name)
		}
		return list
	}

	t.Run("NoQuantileIsBeyondTheGreatest", func(t *testing.T) {
		for _, view := range []string{"v_timing_by_day", "v_timing_by_hour", "v_namespace_by_day"} {
			for _, name := range []string{"duration", "lateness", "waited", "queue"} {
				if got := w.one(t, fmt.Sprintf("SELECT countIf(%[1]s_p50_ms > %[1]s_p95_ms OR %[1]s_p95_ms > %[1]s_p99_ms OR %[1]s_p99_ms > %[1]s_max_ms) FROM "+view, name)); got != "0" {
					t.Errorf("%s: %s of %s", view, got, name)
				}
			}
		}
	})
	t.Run("OfRunsTheSame", func(t *testing.T) { // the column of runs and the roll-ups say one thing
		got := fmt.Sprint(w.ask(t, "SELECT count(lateness_ms), countIf(lateness_ms IS NOT NULL AND trigger != 'schedule'), countIf(trigger != 'schedule') > 0 FROM runs"))
		want := 0
		for _, s := range days {
			want += len(s.lateness)
		}
		if got != fmt.Sprintf("[[%d 0 1]]", want) {
			t.Errorf("%s of %d", got, want)
		}
	})

	t.Run("SuccessByDay", func(t *testing.T) {
		rows := w.ask(t, "SELECT concat(namespace, ' ', task, ' ', toString(day)), runs, succeeded, failures, failed + timed_out + crashed + lost, cancelled, retried, attempts, success_rate, fires_started, fires_skipped, skip_reasons['overlap'], skip_reasons['paused'] FROM v_success_by_day")
		if len(rows) != len(days) {
			t.Errorf("%d rows of %d", len(rows), len(days))
		}
		for _, row := range rows {
			key := row[0].(string)
			s := days[key]
			if s == nil {
				t.Fatalf("%s is not there", key)
			}
			failures := s.runs - s.succeeded - s.cancelled
			for i, want := range []float64{s.runs, s.succeeded, failures, failures, s.cancelled, s.retried, s.attempts, s.rate(), s.started, s.skipped, s.reasons["overlap"], s.reasons["paused"]} {
				holds(t, fmt.Sprintf("%s column %d", key, i+1), row[i+1], want, 1e-9)
			}
		}
	})
	t.Run("SuccessAndTimingByHour", func(t *testing.T) {
		rows := w.ask(t, "SELECT concat(namespace, ' ', task_type, ' ', formatDateTime(hour, '%Y-%m-%dT%H:00:00Z')), runs, failures, attempts, success_rate FROM v_success_by_hour")
		seen := 0
		for _, row := range rows {
			s := hours[row[0].(string)]
			for i, want := range []float64{s.runs, s.runs - s.succeeded - s.cancelled, s.attempts, s.rate()} {
				holds(t, fmt.Sprintf("%v column %d", row[0], i+1), row[i+1], want, 1e-9)
			}
			seen += int(s.runs)
		}
		if seen != len(p.started()) {
			t.Errorf("%d runs of %d", seen, len(p.started()))
		}
		for _, row := range w.ask(t, "SELECT concat(namespace, ' ', task_type, ' ', formatDateTime(hour, '%Y-%m-%dT%H:00:00Z'))"+columns(true)+" FROM v_timing_by_hour") {
			timing(t, row[0].(string), hours[row[0].(string)], row[1:], 1e-6, true)
		}
	})
	t.Run("TimingByDay", func(t *testing.T) {
		for _, row := range w.ask(t, "SELECT concat(namespace, ' ', task, ' ', toString(day))"+columns(true)+" FROM v_timing_by_day") {
			timing(t, row[0].(string), days[row[0].(string)], row[1:], 1e-6, true)
		}
	})
	t.Run("NamespaceByDayAddsHistogramsUp", func(t *testing.T) {
		rows := w.ask(t, "SELECT concat(namespace, ' ', toString(day)), runs, success_rate, attempts"+columns(false)+" FROM v_namespace_by_day")
		if len(rows) != len(spaces) {
			t.Errorf("%d rows of %d", len(rows), len(spaces))
		}
		for _, row := range rows {
			s := spaces[row[0].(string)]
			for i, want := range []float64{s.runs, s.rate(), s.attempts} {
				holds(t, fmt.Sprintf("%v column %d", row[0], i+1), row[i+1], want, 1e-9)
			}
			timing(t, row[0].(string), s, row[4:], 0.022, false)
		}
	})
	t.Run("ResourcesOfAllAttempts", func(t *testing.T) {
		for _, row := range w.ask(t, "SELECT concat(namespace, ' ', task, ' ', toString(day)), cpu_s, cpu_shared_s, cpu_unknown, peak_rss_bytes, read_bytes, write_bytes FROM v_resources_by_day") {
			s := days[row[0].(string)]
			for i, want := range []float64{s.cpu, s.shared, s.unknown, s.peak, s.read, s.write} {
				holds(t, fmt.Sprintf("%v column %d", row[0], i+1), row[i+1], want, 1e-9)
			}
		}
	})
	t.Run("ResourcesByServerOfAllAttemptsWhereTheyWereMade", func(t *testing.T) {
		type servers struct{ runs, failures, attempts, cpu, shared, peak, read, write float64 }
		want := map[string]*servers{}
		of := func(server, kind string, at time.Time) *servers {
			key := server + " " + kind + " " + at.Format(time.DateOnly)
			if want[key] == nil {
				want[key] = &servers{}
			}
			return want[key]
		}
		for _, r := range p.started() {
			s := of(r.Owner, r.TaskType, r.FireAt)
			s.runs++
			if r.Verdict != core.Succeeded && r.Verdict != core.Cancelled {
				s.failures++
			}
		}
		elsewhere := 0
		for _, a := range p.attempts {
			s := of(a.Place.Server, a.TaskType, a.FireAt)
			s.attempts++
			if a.Usage.CPUSource != core.SourceUnknown {
				s.cpu += a.Usage.CPU.Seconds()
			}
			if a.Usage.CPUSource == core.SourceShared {
				s.shared += a.Usage.CPU.Seconds()
			}
			s.peak = max(s.peak, float64(a.Usage.PeakRSSBytes))
			s.read += float64(a.Usage.ReadBytes)
			s.write += float64(a.Usage.WriteBytes)
			if a.Place.Server == "server-2" {
				elsewhere++
			}
		}
		rows := w.ask(t, "SELECT concat(server, ' ', task_type, ' ', toString(day)), runs, failures, attempts, cpu_s, cpu_shared_s, peak_rss_bytes, read_bytes, write_bytes FROM v_resources_by_server")
		if len(rows) != len(want) || elsewhere == 0 {
			t.Errorf("%d rows of %d; %d attempts of a server that ended no run", len(rows), len(want), elsewhere)
		}
		for _, row := range rows {
			s := want[row[0].(string)]
			if s == nil {
				t.Fatalf("%s is not there", row[0])
			}
			for i, x := range []float64{s.runs, s.failures, s.attempts, s.cpu, s.shared, s.peak, s.read, s.write} {
				holds(t, fmt.Sprintf("%v column %d", row[0], i+1), row[i+1], x, 1e-9)
			}
		}
		byDay := w.ask(t, "SELECT sum(attempts), round(sum(cpu_s), 3), sum(read_bytes) FROM v_resources_by_day")
		if byServer := w.ask(t, "SELECT sum(attempts), round(sum(cpu_s), 3), sum(read_bytes) FROM v_resources_by_server"); fmt.Sprint(byServer) != fmt.Sprint(byDay) {
			t.Errorf("servers come to %v, days to %v", byServer, byDay)
		}
	})
	t.Run("Reliability", func(t *testing.T) { reliability(t, w, p) })
}

func mean(list []float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	sum := 0.0
	for _, x := range list {
		sum += x
	}
	return sum / float64(len(list))
}

// reliability walks over each task's runs one by one, as the view must not.
func reliability(t *testing.T, w *world, p *past) {
	byTask := map[string][]core.Run{}
	for _, r := range p.started() {
		if r.Verdict != core.Cancelled {
			byTask[r.TaskName] = append(byTask[r.TaskName], r)
		}
	}
	now := time.Now()
	rows := w.ask(t, "SELECT task, results, failures, failures_in_row, worst_in_row, incidents, flips, flakiness, down_s, mtbf_s, mttr_s, toUnixTimestamp64Milli(failing_since) FROM v_reliability_30d")
	if len(rows) != len(byTask) {
		t.Errorf("%d rows of %d", len(rows), len(byTask))
	}
	failing := 0
	for _, row := range rows {
		list := byTask[row[0].(string)]
		slices.SortFunc(list, func(a, b core.Run) int { return cmp.Or(a.FireAt.Compare(b.FireAt), cmp.Compare(a.ID, b.ID)) })
		var failures, inRow, worst, incidents, flips, down, up, repaired, open float64
		var since time.Time // of the stretch
		var mended float64
		stretch := func(ok bool, to time.Time, last bool) {
			length := max(0, to.Truncate(time.Millisecond).Sub(since.Truncate(time.Millisecond)).Seconds())
			switch {
			case ok:
				up += length
			case last:
				down += length
				open = float64(since.UnixMilli())
			default:
				down += length
				mended += length
				repaired++
			}
		}
		for i, r := range list {
			ok := r.Verdict == core.Succeeded
			if i == 0 || ok != (list[i-1].Verdict == core.Succeeded) {
				if i > 0 {
					stretch(!ok, r.EndedAt, false)
					if r.TaskVersion == list[i-1].TaskVersion {
						flips++
					}
				}
				since = r.EndedAt
				if !ok {
					incidents++
				}
			}
			if ok {
				inRow = 0
			} else {
				failures++
				inRow++
			}
			worst = max(worst, inRow)
		}
		stretch(inRow == 0, now, true)
		if inRow > 0 {
			failing++
		}
		mttr, mtbf := math.NaN(), math.NaN()
		if repaired > 0 {
			mttr = mended / repaired
		}
		if incidents > 0 {
			mtbf = up / incidents
		}
		if inRow == 0 {
			open = math.NaN()
		}
		for i, want := range []float64{float64(len(list)), failures, inRow, worst, incidents, flips, flips / float64(len(list)-1)} {
			holds(t, fmt.Sprintf("%v column %d", row[0], i+1), row[i+1], want, 1e-9)
		}
		holds(t, row[0].(string)+" down_s", row[8], down, 1e-4) // up to the time of asking
		holds(t, row[0].(string)+" mtbf_s", row[9], mtbf, 1e-4)
		holds(t, row[0].(string)+" mttr_s", row[10], mttr, 1e-9)
		holds(t, row[0].(string)+" failing_since", row[11], open, 1e-15)
	}
	if failing == 0 || failing == len(rows) {
		t.Errorf("%d tasks of %d are failing: one of the two cases is not shown", failing, len(rows))
	}
}

// TestRegressions holds that a change is found with its day, and that noise is not called one.
func TestRegressions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	random := rand.New(rand.NewPCG(4, 2))
	const noisy, days, perDay = 300, 50, 5
	from := midnight().AddDate(0, 0, -days)
	var runs []core.Run
	add := func(task string, durations func(day int) float64) {
		for day := range days {
			for n := range perDay {
				at := from.AddDate(0, 0, day).Add(time.Duration(n) * time.Hour)
				took := time.Duration(durations(day) * float64(time.Millisecond))
				runs = append(runs, core.Run{
					ID: newID(), TaskID: "id-" + task, Namespace: "Common", TaskName: task, TaskType: "Common.T", Trigger: core.TriggerSchedule, FireAt: at, DecidedAt: at, StartedAt: at.Add(time.Millisecond),
					EndedAt: at.Add(time.Millisecond + took), Verdict: core.Succeeded, State: core.RunEnded, Attempt: 1,
				})
			}
		}
	}
	for n := range noisy {
		base, wide := 10*math.Exp(random.Float64()*8), 0.05+0.6*random.Float64()
		add(fmt.Sprint("noise-", n), func(day int) float64 {
			weekend := 1.0
			if n%3 == 0 && day%7 >= 5 {
				weekend = 3 // a rhythm of a week is no change
			}
			return base * weekend * math.Exp(wide*random.NormFloat64())
		})
	}
	add("constant", func(int) float64 { return 20 })
	for _, c := range []struct {
		task  string
		day   int
		ratio float64
		wide  float64
	}{{"slower", 30, 1.5, 0.1}, {"just-now", days - 6, 3, 0.3}, {"faster", 20, 0.4, 0.2}, {"exact", 25, 1.1, 0}} {
		add(c.task, func(day int) float64 {
			level := 100.0
			if day >= c.day {
				level *= c.ratio
			}
			return level * math.Exp(c.wide*random.NormFloat64())
		})
	}
	n := 0
	for batch := range slices.Chunk(runs, 5000) {
		n++
		if err := w.WriteRuns(t.Context(), fmt.Sprint("b", n), batch); err != nil {
			t.Fatal(err)
		}
	}
	rollUp(t, w.Client)
	found := map[string][]any{}
	noise := 0
	for _, row := range w.ask(t, "SELECT task, toString(changed_on), ratio, days_before, days_after, before_ms, chance FROM v_regressions") {
		found[row[0].(string)] = row
		if len(row[0].(string)) > 5 && row[0].(string)[:5] == "noise" {
			noise++
			t.Logf("noise called a change: %v", row)
		}
	}
	if noise > noisy/100 {
		t.Errorf("%d of %d tasks with nothing but noise", noise, noisy)
	}
	if row := found["constant"]; row != nil {
		t.Errorf("%v", row)
	}
	for task, want := range map[string]struct {
		day    int
		ratio  float64
		within float64
	}{"slower": {30, 1.5, 0.1}, "just-now": {days - 6, 3, 0.3}, "faster": {20, 0.4, 0.2}, "exact": {25, 1.1, 0.001}} {
		row := found[task]
		if row == nil {
			t.Errorf("%s is not found", task)
			continue
		}
		if got, day := row[1].(string), from.AddDate(0, 0, want.day).Format(time.DateOnly); got != day {
			t.Errorf("%s changed on %s, found on %s", task, day, got)
		}
		holds(t, task, row[2], want.ratio, want.within)
		holds(t, task+" days", number(row[3])+number(row[4]), days, 0)
	}
}

// TestErrorsAreFolded holds which messages are called the same.
func TestErrorsAreFolded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	groups := []struct {
		pattern  string
		messages []string
	}{
		{"connect to <n>:<n>: timeout after <n> ms", []string{"connect to 10.0.3.7:5432: timeout after 900 ms", "connect to 10.0.14.8:81: timeout after 1,200 ms"}},
		{"order <uuid> not found", []string{"order 0198c0de-0000-7000-8000-000000000001 not found", "order 0198C0DE-1111-7000-8000-00000000ABCD not found"}},
		{"no such table <text>", []string{`no such table "patients"`, `no such table 'ecg'`, "no such table `x y`"}},
		{"open <path>: permission denied", []string{"open /var/lib/a.db: permission denied", "open /tmp/b: permission denied", `open C:\data\x.db: permission denied`}},
		{"deadline <time> passed", []string{"deadline 2026-11-28T09:30:00Z passed", "deadline 2026-01-02 03:04:05.678 passed"}},
		{"checksum <hex> differs", []string{"checksum deadbeef01 differs", "checksum 0x1F differs"}},
		{"GET <path>: <n>", []string{"GET https://a.example/x?y=1: 503", "GET http://b/: 500"}},
		{"患者<n>的<text>发送失败", []string{"患者12的“心电图”发送失败", "患者7的“血压”发送失败"}},
		{"can't open <text>", []string{`can't open 'a.csv'`, `can't open 'b.csv'`, `can't open "it's.csv"`, `can't open 'it's.csv'`}},
		{"found <text> and <text> of John's", []string{`found 'a' and 'b' of John's`, `found '' and 'c d' of John's`}},
		{"key <text> is missing", []string{`key b'a1' is missing`, `key 'a2' is missing`}},
		{"找不到<text>文件", []string{"找不到'a.csv'文件", "找不到'b.csv'文件"}},
		{"文件<path>不存在", []string{"文件/data/abc.csv不存在", "文件/data/abd.csv不存在", "文件/data/报表.csv不存在", "文件/数据/十一月/a.csv不存在"}},
		{"路径：<path> 不存在", []string{"路径：/data/abc.csv 不存在", "路径：/data/abd 不存在"}},
		{"打开 <path>不存在", []string{"打开 /data/a.csv不存在", "打开 /data/b.csv不存在", `打开 C:\数据\b.csv不存在`}},
		{"打开 <path>权限不足", []string{"打开 /data/b.csv权限不足", "打开 /data/患者/c.csv权限不足"}},
		{"打开 <path>，权限不足/不存在", []string{"打开 /data/b.csv，权限不足/不存在"}},
		{"请求<path>失败", []string{"请求https://a.example/x?y=1失败", "请求http://b:80/患者/7失败"}},
		{"请求<path>超时", []string{"请求https://a.example/x?y=1超时"}},
		{"读/写失败", []string{"读/写失败"}},
		{"and/or <path>: bad", []string{"and/or /home/josé: bad"}},
		{"", []string{""}},
		{"facade is bad", []string{"facade is bad"}},
	}
	var runs []core.Run
	verdicts := []core.Verdict{core.Failed, core.TimedOut, core.Crashed, core.Lost}
	for g, group := range groups {
		for m, message := range group.messages {
			at := midnight().AddDate(0, 0, -1-m).Add(time.Duration(g) * time.Minute)
			runs = append(runs, core.Run{
				ID: newID(), TaskID: fmt.Sprint("id-", m), Namespace: "Common", TaskName: fmt.Sprint("task-", m), TaskType: "Common.T", Trigger: core.TriggerSchedule, FireAt: at, DecidedAt: at,
				StartedAt: at, EndedAt: at.Add(time.Second), Verdict: verdicts[m], Message: message, State: core.RunEnded, Attempt: 1,
			})
		}
	}
	fine := runs[0]
	fine.ID, fine.Verdict, fine.Message = newID(), core.Cancelled, "stopped by 17"
	runs = append(runs, fine)
	for _, batch := range []string{"a", "b"} {
		if err := w.WriteRuns(t.Context(), batch, runs); err != nil {
			t.Fatal(err)
		}
	}
	rollUp(t, w.Client)
	rows := w.ask(t, "SELECT pattern, runs, length(tasks), length(by_day), outcomes['failed'], example_message, first_seen, last_seen, example_run_id FROM v_errors_30d")
	if len(rows) != len(groups) {
		t.Errorf("%d groups of %d: %v", len(rows), len(groups), rows)
	}
	for _, group := range groups {
		i := slices.IndexFunc(rows, func(row []any) bool { return row[0] == group.pattern })
		if i < 0 {
			t.Errorf("no group %q", group.pattern)
			continue
		}
		row, n := rows[i], float64(len(group.messages))
		for c, want := range []float64{n, n, n, 1} {
			holds(t, fmt.Sprintf("%s column %d", group.pattern, c+1), row[c+1], want, 0)
		}
		if row[5] != group.messages[0] || row[8] == "" {
			t.Errorf("%s: the last was %q, not %v of %v", group.pattern, group.messages[0], row[5], row[8])
		}
	}
}

// TestShouldRunAgainstDidRun holds that reconciliations and reasons of fires come together, each once.
func TestShouldRunAgainstDidRun(t *testing.T) {
	t.Parallel()
	w := setup(t)
	day := midnight().AddDate(0, 0, -2)
	r := core.Reconciliation{Day: day, Namespace: "Common", TaskName: "t", TaskID: "id", Expected: 10, Decided: 9, Started: 4, Skipped: 5, Missing: 1, CheckedAt: now(), Server: "s"}
	fine := core.Reconciliation{Day: day, Namespace: "Common", TaskName: "fine", TaskID: "id-2", Expected: 3, Decided: 3, Started: 3, CheckedAt: now(), Server: "s"}
	fire := func(hour, count int, reason core.Reason) core.Run {
		at := day.Add(time.Duration(hour) * time.Hour)
		return core.Run{ID: newID(), TaskID: "id", Namespace: "Common", TaskName: "t", FireAt: at, FireThrough: at, FireCount: count, DecidedAt: at, Verdict: core.Skipped, Reason: reason, State: core.RunEnded}
	}
	fires := []core.Run{fire(1, 3, core.ReasonOverlap), fire(2, 1, core.ReasonOverlap), fire(3, 1, core.ReasonPaused)}
	for _, batch := range []string{"a", "b"} {
		if err := w.WriteReconciliations(t.Context(), batch, []core.Reconciliation{r, fine}); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteRuns(t.Context(), batch, fires); err != nil {
			t.Fatal(err)
		}
	}
	rollUp(t, w.Client)
	got := raw(t, w, "SELECT day, task, expected, decided, started, skipped, missing, doubled, reasons, complete FROM v_should_run ORDER BY task")
	date := day.Format(time.DateOnly)
	if want := date + "\tfine\t3\t3\t3\t0\t0\t0\t{}\ttrue\n" + date + "\tt\t10\t9\t4\t5\t1\t0\t{'overlap':4,'paused':1}\tfalse\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
