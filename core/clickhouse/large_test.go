package clickhouse_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
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
