package clickhouse_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

func TestMillionLinesGoInAndComeOutInBoundedMemory(t *testing.T) {
	t.Parallel()
	w := setup(t)
	origin := &core.Origin{RunID: newID(), Attempt: 1, TaskID: newID(), Namespace: "ImageArchive", TaskName: "verify", TaskType: "ImageArchive.DataVerifyService", FireAt: now()}
	const lines, perSegment = 1_000_000, 50_000
	s := core.Segment{Logs: make([]core.LoggedLine, perSegment)}
	began := time.Now()
	for part := range lines / perSegment {
		s.ID = fmt.Sprint("million-", part)
		for i := range s.Logs {
			seq := uint64(part*perSegment + i + 1)
			s.Logs[i] = core.LoggedLine{Origin: origin, LogLine: core.LogLine{At: origin.FireAt, Level: core.LevelInfo, Stream: core.StreamLog, Seq: seq, Message: "verified document " + strconv.FormatUint(seq, 10) + " 校验通过"}}
		}
		if err := w.WriteSegment(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	wrote := time.Since(began)

	began = time.Now()
	rows, err := w.Query(t.Context(), "SELECT seq, message FROM run_logs ORDER BY seq", clickhouse.QueryLimits{MaxRows: 2_000_000, MaxBytes: 1 << 30}, nil, everything)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var row []any
	n := uint64(0)
	for rows.Next() {
		if row, err = rows.Scan(row); err != nil {
			t.Fatal(err)
		}
		if n++; row[0] != n {
			t.Fatalf("row %d has seq %v", n, row[0])
		}
	}
	if rows.Err() != nil || n != lines {
		t.Fatalf("%d rows, %v", n, rows.Err())
	}
	resident := rss(t, w.engine.PID())
	t.Logf("wrote %d lines in %s, read them in %s, engine resident %d MB", lines, wrote, time.Since(began), resident>>20)
	if resident > 900<<20 {
		t.Errorf("engine resident %d MB", resident>>20)
	}

	began = time.Now()
	page, err := w.Lines(t.Context(), core.LineFilter{RunID: origin.RunID, AfterAttempt: 1, AfterSeq: 900_000, Limit: 1000})
	if err != nil || len(page) != 1000 || page[0].Seq != 900_001 {
		t.Fatalf("%d lines, %v", len(page), err)
	}
	t.Logf("a page of 1000 lines in %s", time.Since(began))
}

// BenchmarkWriteSegment reports lines per second and the processor time that a line costs here and in the engine.
func BenchmarkWriteSegment(b *testing.B) {
	for _, attrs := range []bool{false, true} {
		b.Run(fmt.Sprintf("attrs=%v", attrs), func(b *testing.B) {
			w := setup(b)
			const lines = 100_000
			s := segment("", lines, attrs)
			hereBefore, thereBefore := cpu(b, os.Getpid()), cpu(b, w.engine.PID())
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				s.ID = fmt.Sprint("bench-", n)
				n++
				if err := w.WriteSegment(b.Context(), s); err != nil {
					b.Fatal(err)
				}
			}
			total := float64(n) * lines
			b.ReportMetric(total/b.Elapsed().Seconds(), "lines/s")
			b.ReportMetric(float64((cpu(b, os.Getpid())-hereBefore).Nanoseconds())/total, "client-cpu-ns/line")
			b.ReportMetric(float64((cpu(b, w.engine.PID())-thereBefore).Nanoseconds())/total, "engine-cpu-ns/line")
			b.ReportMetric(float64(rss(b, w.engine.PID())>>20), "engine-MB")
		})
	}
}

// BenchmarkWriteRuns writes batches of 2,000 ended runs, each a row of fires and one of runs.
func BenchmarkWriteRuns(b *testing.B) {
	w := setup(b)
	hereBefore, thereBefore := cpu(b, os.Getpid()), cpu(b, w.engine.PID())
	n, wrote := 0, 0
	for b.Loop() {
		batch := someRuns(2000)
		if err := w.WriteRuns(b.Context(), fmt.Sprint("bench-", n), batch); err != nil {
			b.Fatal(err)
		}
		n++
		wrote += len(batch)
	}
	b.ReportMetric(float64(wrote)/b.Elapsed().Seconds(), "runs/s")
	b.ReportMetric(float64((cpu(b, os.Getpid())-hereBefore).Nanoseconds())/float64(wrote), "client-cpu-ns/run")
	b.ReportMetric(float64((cpu(b, w.engine.PID())-thereBefore).Nanoseconds())/float64(wrote), "engine-cpu-ns/run")
}

// cpu is the user and system time of a process so far.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func rss(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(rest, "kB")))
			return kb << 10
		}
	}
	return 0
}

// largeRows is how many rows a large table has: TestALargeTable… with -large.rows 10000000 takes some minutes.
var largeRows = flag.Int("large.rows", 1_000_000, "rows of the table whose schema is changed")

// What migrations do to a table (columns, indexes and comments added) touches none of its rows: writers of a large one go on.
func TestALargeTableChangesItsSchemaWhileItIsWritten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	alter := func(sql string) time.Duration {
		t.Helper()
		began := time.Now()
		client := http.Client{Transport: &http.Transport{DialContext: dialer(w.engine.Socket()), DisableKeepAlives: true}}
		answer, err := client.Post("http://engine/", "text/plain", strings.NewReader(sql))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", sql, text)
		}
		return time.Since(began)
	}
	rows := *largeRows
	filled := alter(fmt.Sprintf(`INSERT INTO run_logs (namespace, task, task_type, task_id, run_id, attempt, seq, fire_at, at, level, stream, message)
SELECT 'Common', concat('t', toString(intDiv(number, 100000) %% 20)), 'Common.X', '', leftPad(toString(intDiv(number, 1000)), 36, '0'), 1, number %% 1000 + 1,
  toDateTime64('2026-11-01 00:00:00', 6, 'UTC') + intDiv(number, 1000000) * 86400, now64(6), 'info', 'log', concat('line ', toString(number %% 977)) FROM numbers(%d)`, rows))

	const rewriting = "SELECT count() FROM system.mutations WHERE database = 'gnomon' AND table = 'run_logs'" // done or not
	before := w.one(t, rewriting)
	done := make(chan struct{})
	var written int
	var slowest time.Duration
	var writing sync.WaitGroup
	writing.Go(func() { // ends when the schema is changed
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			began := time.Now()
			if err := w.WriteSegment(t.Context(), segment(fmt.Sprint("meanwhile-", i), 1000, i%2 == 0)); err != nil {
				t.Error(err)
				return
			}
			written += 1000
			slowest = max(slowest, time.Since(began))
		}
	})
	var took time.Duration
	for i, change := range []string{
		"ADD COLUMN IF NOT EXISTS added_a LowCardinality(String) COMMENT 'a'", "ADD COLUMN IF NOT EXISTS added_b Nullable(DateTime64(6, 'UTC')) COMMENT 'b' CODEC(Delta, ZSTD(1))",
		"ADD COLUMN IF NOT EXISTS added_c UInt64 ALIAS seq + 1 COMMENT 'c'", "ADD INDEX IF NOT EXISTS added_d added_a TYPE bloom_filter(0.01) GRANULARITY 1",
		"COMMENT COLUMN message 'another comment'", "MODIFY TTL toDateTime(fire_at) + INTERVAL 3650 DAY SETTINGS materialize_ttl_after_modify = 0",
	} {
		one := alter("ALTER TABLE run_logs " + change)
		t.Logf("%s: %s", change, one)
		if took += one; one > time.Minute {
			t.Errorf("change %d took %s", i, one)
		}
	}
	close(done)
	writing.Wait()
	t.Logf("%d rows in %s; six changes in %s; %d lines written meanwhile, the slowest thousand in %s", rows, filled, took, written, slowest)
	if written == 0 || slowest > time.Minute {
		t.Errorf("%d lines written, the slowest thousand in %s", written, slowest)
	}
	if got, want := w.one(t, "SELECT concat(toString(count()), ' ', toString(countIf(added_a = '' AND added_b IS NULL)), ' ', toString(min(added_c))) FROM run_logs"), fmt.Sprint(rows+written, " ", rows+written, " 2"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := w.one(t, rewriting); got != before {
		t.Errorf("%s mutations rewrite the table or have, %s before", got, before)
	}
}
