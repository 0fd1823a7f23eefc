package clickhouse_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

// dashboard is what is looked at of a dashboard's JSON.
type dashboard struct {
	UID        string `json:"uid"`
	Title      string `json:"title"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Query struct {
				SQL string `json:"rawSql"`
			} `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID         int    `json:"id"`
		Title      string `json:"title"`
		Datasource struct {
			Type, UID string
		} `json:"datasource"`
		Targets []struct {
			SQL  string `json:"rawSql"`
			Kind string `json:"queryType"`
		} `json:"targets"`
	} `json:"panels"`
}

// macros are those of grafana-clickhouse-datasource 4 (pkg/macros/macros.go), written out as the plugin does.
var macros = []struct {
	pattern *regexp.Regexp
	expand  func(from, to time.Time, seconds int, args string) string
}{
	{regexp.MustCompile(`\$__timeFilter\(([^)]*)\)`), func(from, to time.Time, _ int, column string) string {
		return fmt.Sprintf("%s >= toDateTime(%d) AND %s <= toDateTime(%d)", column, from.Unix(), column, to.Unix())
	}},
	{regexp.MustCompile(`\$__timeInterval\(([^)]*)\)`), func(_, _ time.Time, seconds int, column string) string {
		return fmt.Sprintf("toStartOfInterval(toDateTime(%s), INTERVAL %d second)", column, seconds)
	}},
	{regexp.MustCompile(`\$__fromTime()`), func(from, _ time.Time, _ int, _ string) string {
		return fmt.Sprintf("toDateTime(%d)", from.Unix())
	}},
	{regexp.MustCompile(`\$__toTime()`), func(_, to time.Time, _ int, _ string) string {
		return fmt.Sprintf("toDateTime(%d)", to.Unix())
	}},
	{regexp.MustCompile(`\$__interval_s()`), func(_, _ time.Time, seconds int, _ string) string { return fmt.Sprint(seconds) }},
}

// grafana writes a query out as Grafana and the plugin would, with some values of the variables chosen, for points so many
// seconds apart.
func grafana(sql string, from, to time.Time, seconds int, values map[string][]string) string {
	for name, chosen := range values {
		sql = strings.ReplaceAll(sql, "${"+name+":singlequote}", "'"+strings.Join(chosen, "','")+"'")
	}
	for _, m := range macros {
		sql = m.pattern.ReplaceAllStringFunc(sql, func(found string) string { return m.expand(from, to, seconds, m.pattern.FindStringSubmatch(found)[1]) })
	}
	return sql
}

// TestEveryQueryOfTheDashboardsIsAnswered runs what deploy/grafana holds on history as it is written. The dashboard of the
// server's own metrics is held against a running server in core/cmd/gnomon.
func TestEveryQueryOfTheDashboardsIsAnswered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ended := someRuns(60)
	for i := range ended {
		if i%7 == 3 && ended[i].Verdict == core.Succeeded {
			ended[i].Verdict, ended[i].Message = core.Failed, fmt.Sprintf("patient %d not found", i)
		}
		switch {
		case ended[i].Verdict == core.Skipped:
		case i%6 == 0: // it waited half a second
			ended[i].Gate, ended[i].GateKey, ended[i].WaitSince = core.GateCapacity, "namespace", ended[i].StartedAt.Add(-500*time.Millisecond)
		case i%6 == 1:
			ended[i].Attempt, ended[i].Gate, ended[i].WaitSince = 2, core.GateCapacity, ended[i].StartedAt.Add(-time.Hour)
		case i%6 == 2:
			ended[i].Trigger, ended[i].StartedAt, ended[i].EndedAt = core.TriggerBackfill, ended[i].StartedAt.Add(time.Hour), ended[i].EndedAt.Add(time.Hour)
		}
	}
	if err := w.WriteRuns(t.Context(), "dashboards", ended); err != nil {
		t.Fatal(err)
	}
	s := core.Segment{ID: "dashboards"}
	var cpu time.Duration // of all attempts
	for i, run := range ended {
		if run.Verdict == core.Skipped {
			continue
		}
		origin := core.Origin{RunID: run.ID, Attempt: 1, TaskID: run.TaskID, Namespace: run.Namespace, TaskName: run.TaskName, TaskType: run.TaskType, FireAt: run.FireAt}
		s.Logs = append(s.Logs, core.LoggedLine{Origin: &origin, LogLine: core.LogLine{At: run.FireAt, Level: core.LevelWarn, Stream: core.StreamLog, Seq: 1, Message: "slow"}})
		s.Attempts = append(s.Attempts, core.AttemptRecord{Origin: origin, Token: int64(i), StartedAt: run.StartedAt, EndedAt: run.EndedAt, Verdict: run.Verdict, Message: run.Message, Usage: run.Usage})
		s.Attempts[len(s.Attempts)-1].Attempt = run.Attempt
		cpu += run.Usage.CPU
		if run.Attempt == 2 {
			first := core.AttemptRecord{Origin: origin, Token: int64(i), StartedAt: run.FireAt, EndedAt: run.FireAt.Add(time.Second), Verdict: core.Failed, RetryAt: run.StartedAt, Usage: run.Usage}
			first.Usage.CPU = 3 * time.Second
			s.Attempts, cpu = append(s.Attempts, first), cpu+first.Usage.CPU
		}
		s.RunSamples = append(s.RunSamples, core.RunSample{Origin: origin, At: run.FireAt, CPU: time.Millisecond, CPUSource: core.SourceMeasured, RSSBytes: 1 << 20, RSSSource: core.SourceMeasured, IOSource: core.SourceUnknown})
		s.PluginSamples = append(s.PluginSamples, core.PluginSample{ProcSample: core.ProcSample{At: run.FireAt, RSSBytes: 9 << 20, Threads: 5}, Plugin: "common", Version: "1.0.0", Namespace: run.Namespace, PID: 7})
		s.HostSamples = append(s.HostSamples, core.HostSample{Host: "node-1", At: run.FireAt, CPU: time.Duration(i) * time.Second, Cores: 2, Load1: 1, MemTotalBytes: 8 << 30, MemUsedBytes: 4 << 30, DiskWriteBytes: uint64(i) << 20, NetRecvBytes: uint64(i) << 10, DataTotalBytes: 1 << 40, DataFreeBytes: 1 << 39})
	}
	if err := w.WriteSegment(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../deploy/grafana/dashboards/*.json")
	files = slices.DeleteFunc(files, func(path string) bool { return filepath.Base(path) == "server.json" })
	if err != nil || len(files) != 4 {
		t.Fatal(files, err)
	}
	from, to := now().Add(-time.Hour), now().Add(time.Minute)
	asked, views := 0, 0
	rollUp(t, w.Client)
	rows := func(where, sql string) (columns []clickhouse.Column, all [][]any) {
		t.Helper()
		asked++
		if left := regexp.MustCompile(`\$[_{a-z]\w*`).FindString(sql); left != "" {
			t.Errorf("%s: %s is not a macro or a variable that is known", where, left)
			return nil, nil
		}
		answer, err := w.Query(t.Context(), sql, clickhouse.QueryLimits{}, nil, everything)
		if err != nil {
			t.Errorf("%s: %v\n%s", where, err, sql)
			return nil, nil
		}
		defer answer.Close()
		for answer.Next() {
			row, err := answer.Scan(nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, row)
		}
		if err := answer.Err(); err != nil || len(all) == 0 {
			t.Errorf("%s: %d rows, %v\n%s", where, len(all), err, sql)
		}
		return answer.Columns(), all
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil || d.UID != "gnomon-"+strings.TrimSuffix(filepath.Base(path), ".json") || len(d.Panels) == 0 {
			t.Fatalf("%s: %v %+v", path, err, d)
		}
		values := map[string][]string{}
		for _, v := range d.Templating.List { // in their order: a later one may use an earlier one
			_, found := rows(d.UID+" variable "+v.Name, grafana(v.Query.SQL, from, to, 60, values))
			for _, row := range found {
				values[v.Name] = append(values[v.Name], fmt.Sprint(row[0]))
			}
		}
		seen := map[int]bool{}
		for _, p := range d.Panels {
			if seen[p.ID] || p.Datasource.Type != "grafana-clickhouse-datasource" || p.Datasource.UID != "gnomon-history" || len(p.Targets) != 1 {
				t.Errorf("%s panel %d: %+v", d.UID, p.ID, p)
			}
			seen[p.ID] = true
			for _, target := range p.Targets {
				where := fmt.Sprintf("%s panel %q", d.UID, p.Title)
				columns, near := rows(where, grafana(target.SQL, from, to, 60, values))
				if strings.Contains(target.SQL, "$__interval_s >= ") { // of a longer time a view is asked, which must say the same
					views++
					if _, far := rows(where, grafana(target.SQL, from, to, 86400, values)); lastColumn(far) != lastColumn(near) {
						t.Errorf("%s: %v of tables, %v of views", where, near, far)
					}
				}
				switch where {
				case `gnomon-overview panel "CPU"`:
					holds(t, where, lastColumn(near)/1e6, cpu.Seconds(), 1e-6)
				case `gnomon-namespace panel "CPU"`:
					holds(t, where, lastColumn(near)/1e6, cpu.Seconds()/60, 1e-4)
				case `gnomon-namespace panel "排队 / Waits"`:
					holds(t, where, lastColumn(near)/1e6/float64(len(near)), 500, 1e-6)
				case `gnomon-overview panel "迟到 p99 / Lateness p99"`:
					holds(t, where, near[0][0], 1.5, 1e-6)
				case `gnomon-overview panel "命名空间 / Namespaces"`, `gnomon-namespace panel "任务 / Tasks"`:
					used := 0.0
					for _, row := range near {
						used += number(row[slices.IndexFunc(columns, func(c clickhouse.Column) bool { return c.Name == "cpu_seconds" })])
					}
					holds(t, where, used, cpu.Seconds(), 1e-6)
				}
				if target.Kind == "timeseries" && (len(columns) < 2 || columns[0].Name != "time" || !strings.HasPrefix(columns[0].Type, "DateTime")) {
					t.Errorf("%s: the first column of a time series is its time, not %v", where, columns)
				}
			}
		}
	}
	if views < 9 {
		t.Errorf("%d panels ask views", views)
	}
	t.Logf("%d queries, %d panels of tables and views", asked, views)
}

// lastColumn adds up the figures of an answer.
func lastColumn(rows [][]any) float64 {
	sum := 0.0
	for _, row := range rows {
		sum += number(row[len(row)-1])
	}
	return math.Round(sum * 1e6)
}
