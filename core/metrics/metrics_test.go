package metrics_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func some[T any](v T) *T { return &v }

// full gives every figure another value, so that none can be taken for another.
func full() metrics.Figures {
	return metrics.Figures{
		Scheduler: &metrics.Scheduler{Decided: 101, Window: 102, ClockSteps: 103},
		Queue: &metrics.Queue{
			Runs:    map[core.RunState]int{core.RunClaimed: 104, core.RunQueued: 105, core.RunWaiting: 106, core.RunRunning: 107, core.RunRetrying: 108},
			Waiting: map[core.Gate]int{core.GateOverlap: 109, core.GatePrecondition: 110, core.GateBreaker: 111, core.GateCapacity: 112},
			Limits:  map[string]metrics.Limit{"pool:erp": {Slots: 113, Used: 114, Waiting: 115}},
		},
		Breakers:       map[core.BreakerState]int{core.BreakerClosed: 116, core.BreakerOpen: 117, core.BreakerHalfOpen: 118},
		Interventions:  some(119),
		Invariants:     &metrics.Invariants{CheckedAt: time.Unix(120, 5e8), Broken: map[string]int{"live_without_owner": 121, "fire_twice": 0}},
		Reconciliation: &metrics.Reconciliation{Day: time.Unix(86400, 0), Missing: 122, Doubled: 123, Odd: 135},
		Spool: &metrics.Spool{Bytes: 124, LimitBytes: 125, UnshippedSegments: 126, UnshippedBytes: 127, ShipLag: 128500 * time.Millisecond, LinesDropped: 129, SamplesDropped: 130, LinesShipped: 131, Full: true,
			OldestUnshippedAt: time.Unix(150, 5e8), Quarantined: 151, WriteFails: true},
		Kept:      &metrics.Kept{Tables: map[string]metrics.KeptTable{"runs": {Rows: 141, Bytes: 142, Parts: 143, MostParts: 144, Broken: 145}}, FreeBytes: 146, MemoryBytes: 147, Merges: 148, DownSeconds: 149, OldestMerge: 152500 * time.Millisecond, Mutations: 153, ReadOnly: 154},
		Store:     &metrics.Store{Commits: 131, Requests: 132, Retries: 133},
		LeaseHeld: some(true), History: some(false), Executing: some(134),
		Traces:   &metrics.Traces{Sent: 136, Dropped: 137},
		Rollups:  &metrics.Rollups{Complete: true, Behind: 155500 * time.Millisecond, LastPass: 156 * time.Second},
		DataDisk: &metrics.DataDisk{FreeBytes: 157, TotalBytes: 158},
	}
}

func setup(t testing.TB, collect func(context.Context) metrics.Figures, change ...func(*metrics.Options)) *metrics.Metrics {
	t.Helper()
	o := metrics.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Collect: collect, Version: "1.2.3"}
	for _, c := range change {
		c(&o)
	}
	m, err := metrics.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func scrape(t testing.TB, m *metrics.Metrics, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	return w
}

func parse(t testing.TB, body io.Reader) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// values gives each sample of gnomon's own gauges and counters, by name and labels.
func values(families map[string]*dto.MetricFamily) map[string]float64 {
	all := make(map[string]float64)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				key += "{" + l.GetName() + "=" + l.GetValue() + "}"
			}
			switch family.GetType() {
			case dto.MetricType_GAUGE:
				all[key] = m.GetGauge().GetValue()
			case dto.MetricType_COUNTER:
				all[key] = m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				all[key] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return all
}

func TestEveryFigureIsShownUnderItsName(t *testing.T) {
	t.Parallel()
	m := setup(t, func(context.Context) metrics.Figures { return full() })
	m.ObserveStart(3 * time.Millisecond)
	m.ObserveStart(-time.Second)
	m.ObserveEnd(core.Failed, time.Minute)
	m.ObserveEnd(core.Skipped, time.Minute) // is no attempt
	answer := scrape(t, m)
	if answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	got := values(parse(t, answer.Body))
	for key, want := range map[string]float64{
		"gnomon_build_info{version=1.2.3}": 1, "gnomon_scheduler_fires_decided_total": 101, "gnomon_scheduler_window_fires": 102, "gnomon_scheduler_clock_steps_total": 103,
		"gnomon_runs_live{state=claimed}": 104, "gnomon_runs_live{state=queued}": 105, "gnomon_runs_live{state=waiting}": 106, "gnomon_runs_live{state=running}": 107, "gnomon_runs_live{state=retrying}": 108,
		"gnomon_runs_waiting{gate=overlap}": 109, "gnomon_runs_waiting{gate=precondition}": 110, "gnomon_runs_waiting{gate=breaker}": 111, "gnomon_runs_waiting{gate=capacity}": 112,
		"gnomon_limit_slots{limit=pool:erp}": 113, "gnomon_limit_used_slots{limit=pool:erp}": 114, "gnomon_limit_waiting_runs{limit=pool:erp}": 115,
		"gnomon_breakers{state=closed}": 116, "gnomon_breakers{state=open}": 117, "gnomon_breakers{state=half_open}": 118, "gnomon_interventions_open": 119,
		"gnomon_invariants_checked_timestamp_seconds": 120.5, "gnomon_invariant_broken_rows{invariant=live_without_owner}": 121, "gnomon_invariant_broken_rows{invariant=fire_twice}": 0,
		"gnomon_reconciliation_missing_fires": 122, "gnomon_reconciliation_doubled_fires": 123, "gnomon_reconciliation_odd_fires": 135, "gnomon_reconciliation_day_timestamp_seconds": 86400,
		"gnomon_spool_shipped_lines_total": 131, "gnomon_spool_full": 1, "gnomon_history_down_seconds": 149, "gnomon_history_disk_free_bytes": 146,
		"gnomon_history_memory_bytes": 147, "gnomon_history_merges": 148, `gnomon_history_table_rows{table=runs}`: 141, `gnomon_history_table_bytes{table=runs}`: 142,
		`gnomon_history_table_parts{table=runs}`: 143, `gnomon_history_partition_parts{table=runs}`: 144, `gnomon_history_broken_parts{table=runs}`: 145,
		"gnomon_spool_bytes": 124, "gnomon_spool_limit_bytes": 125, "gnomon_spool_unshipped_segments": 126, "gnomon_spool_unshipped_bytes": 127, "gnomon_spool_ship_lag_seconds": 128.5,
		"gnomon_spool_dropped_lines_total": 129, "gnomon_spool_dropped_samples_total": 130,
		"gnomon_store_commits_total": 131, "gnomon_store_requests_total": 132, "gnomon_store_retries_total": 133, "gnomon_attempts_executing": 134,
		"gnomon_trace_spans_sent_total": 136, "gnomon_trace_spans_dropped_total": 137,
		"gnomon_spool_oldest_unshipped_timestamp_seconds": 150.5, "gnomon_spool_quarantined_segments": 151, "gnomon_spool_write_failing": 1, "gnomon_spool_ship_failing": 0,
		"gnomon_history_oldest_merge_seconds": 152.5, "gnomon_history_failing_mutations": 153, "gnomon_history_read_only_tables": 154,
		"gnomon_rollups_complete": 1, "gnomon_rollups_behind_seconds": 155.5, "gnomon_rollups_last_pass_seconds": 156,
		"gnomon_data_disk_free_bytes": 157, "gnomon_data_disk_total_bytes": 158,
		"gnomon_lease_held": 1, "gnomon_history_reachable": 0,
		"gnomon_run_lateness_seconds": 2, "gnomon_attempt_duration_seconds{outcome=failed}": 1, "gnomon_attempt_duration_seconds{outcome=succeeded}": 0,
	} {
		if value, ok := got[key]; !ok || value != want {
			t.Errorf("%s is %v (shown: %v), want %v", key, value, ok, want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
}

func TestWhatIsNotKnownIsLeftOut(t *testing.T) {
	t.Parallel()
	got := values(parse(t, scrape(t, setup(t, func(context.Context) metrics.Figures { return metrics.Figures{} })).Body))
	for key := range got {
		if strings.HasPrefix(key, "gnomon_") && !strings.HasPrefix(key, "gnomon_build_info") && !strings.HasPrefix(key, "gnomon_run_lateness") && !strings.HasPrefix(key, "gnomon_attempt_duration") {
			t.Errorf("%s is shown", key)
		}
	}
}

// TestRollUpsThatWereNeverDoneAreNotUpToDate: how far behind they are is not known, and never 0.
func TestRollUpsThatWereNeverDoneAreNotUpToDate(t *testing.T) {
	t.Parallel()
	got := values(parse(t, scrape(t, setup(t, func(context.Context) metrics.Figures { return metrics.Figures{Rollups: &metrics.Rollups{}} })).Body))
	if value, shown := got["gnomon_rollups_complete"]; !shown || value != 0 {
		t.Errorf("complete is %v (shown: %v)", value, shown)
	}
	for _, key := range []string{"gnomon_rollups_behind_seconds", "gnomon_rollups_last_pass_seconds"} {
		if value, shown := got[key]; shown {
			t.Errorf("%s is shown as %v", key, value)
		}
	}
}

// TestTheGuideTellsOfEveryMetric: core/docs/metrics.md has a row for each metric, with its type and labels, and none more.
func TestTheGuideTellsOfEveryMetric(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `(gnomon_\\w+)(?:\\{([a-z, ]+)\\})?` \\| (gauge|counter|histogram) \\| ([^|]{9,}) \\| ([^|]{4,}) \\|$").FindAllStringSubmatch(string(guide), -1) {
		if told[row[1]] != "" {
			t.Errorf("%s is told of twice", row[1])
		}
		told[row[1]] = row[3] + " " + row[2]
	}
	for name, family := range parse(t, scrape(t, setup(t, func(context.Context) metrics.Figures { return full() })).Body) {
		if !strings.HasPrefix(name, "gnomon_") {
			continue
		}
		var labels []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		want := strings.ToLower(family.GetType().String()) + " " + strings.Join(labels, ", ")
		if told[name] != want {
			t.Errorf("the guide says of %s %q, not %q: %s", name, told[name], want, family.GetHelp())
		}
		delete(told, name)
	}
	for name := range told {
		t.Errorf("the guide tells of %s, which there is not", name)
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	body := scrape(t, setup(t, func(context.Context) metrics.Figures { return full() })).Body.Bytes()
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "gnomon_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	for name, family := range parse(t, bytes.NewReader(body)) {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if regexp.MustCompile(`^(run|task|run_id|task_id|id)$`).MatchString(l.GetName()) {
					t.Errorf("%s has the label %s", name, l.GetName())
				}
			}
		}
	}
}

func TestLimitsShownByNameAreBounded(t *testing.T) {
	t.Parallel()
	limits := make(map[string]metrics.Limit)
	for i := range 10_000 {
		limits[fmt.Sprintf("namespace:N%05d", i)] = metrics.Limit{Slots: 2, Used: 1, Waiting: i}
	}
	limits["pool:\xff"] = metrics.Limit{Waiting: 1 << 20} // whoever wrote that
	body := scrape(t, setup(t, func(context.Context) metrics.Figures {
		return metrics.Figures{Queue: &metrics.Queue{Limits: limits}}
	})).Body
	families := parse(t, body)
	if got := len(families["gnomon_limit_waiting_runs"].GetMetric()); got != metrics.MaxLimits+1 {
		t.Errorf("%d limits shown", got)
	}
	got := values(families)
	if got["gnomon_limit_waiting_runs{limit=namespace:N09999}"] != 9999 || got["gnomon_limit_waiting_runs{limit=pool:\uFFFD}"] != 1<<20 {
		t.Error("the busiest are not shown")
	}
	if want := float64(10_000 - (metrics.MaxLimits - 1)); got["gnomon_limit_used_slots{limit=other}"] != want {
		t.Errorf("the others use %v, want %v", got["gnomon_limit_used_slots{limit=other}"], want)
	}
}

func TestScrapeThatWaitsIsEndedAndMoreAreRefused(t *testing.T) {
	t.Parallel()
	began, asked := make(chan struct{}, 2), make(chan struct{})
	m := setup(t, func(ctx context.Context) metrics.Figures {
		began <- struct{}{}
		<-ctx.Done() // a store that does not answer
		<-asked      // the first is there still when the second comes
		return metrics.Figures{Interventions: some(1)}
	}, func(o *metrics.Options) { o.Limit, o.MaxScrapes = 100*time.Millisecond, 1 })
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- scrape(t, m) }() // ends with the limit
	<-began
	if second := scrape(t, m); second.Code != http.StatusServiceUnavailable {
		t.Errorf("the second was answered %d", second.Code)
	}
	close(asked)
	if answer := <-first; answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), "gnomon_interventions_open 1") {
		t.Errorf("the first was answered %d", answer.Code)
	}
	if again := scrape(t, m); again.Code != http.StatusOK {
		t.Errorf("afterwards: %d", again.Code)
	}
}

func TestAnswerIsCompressedWhenAskedFor(t *testing.T) {
	t.Parallel()
	answer := scrape(t, setup(t, func(context.Context) metrics.Figures { return full() }), "Accept-Encoding", "gzip")
	plain, err := gzip.NewReader(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(parse(t, plain)); got["gnomon_interventions_open"] != 119 {
		t.Errorf("%v", got["gnomon_interventions_open"])
	}
}

func TestOptionsAreNeeded(t *testing.T) {
	t.Parallel()
	if _, err := metrics.New(metrics.Options{}); err == nil {
		t.Error("no error")
	}
}

func BenchmarkObserve(b *testing.B) {
	m := setup(b, func(context.Context) metrics.Figures { return metrics.Figures{} })
	b.Run("Start", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.ObserveStart(1700 * time.Microsecond)
		}
	})
	b.Run("End", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.ObserveEnd(core.Succeeded, 40*time.Millisecond)
		}
	})
	b.Run("EndOnBothCores", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				m.ObserveEnd(core.Succeeded, 40*time.Millisecond)
			}
		})
	})
}

func BenchmarkScrape(b *testing.B) {
	m := setup(b, func(context.Context) metrics.Figures { return full() })
	b.ReportAllocs()
	for b.Loop() {
		scrape(b, m)
	}
}
