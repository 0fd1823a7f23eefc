package recorder_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
)

func benchRecorder(b *testing.B, opts recorder.Options) *recorder.Recorder {
	b.Helper()
	opts.Dir, opts.Log = b.TempDir(), discard()
	if opts.Shipper == nil {
		opts.Shipper = &ordered{}
	}
	opts.KeepShipped = 50 * time.Millisecond
	r, err := recorder.New(opts)
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	return r
}

// BenchmarkLog is the whole road of a short line: said by several goroutines, synced, sealed, decoded, shipped.
func BenchmarkLog(b *testing.B) {
	r := benchRecorder(b, recorder.Options{})
	line := core.LogLine{At: time.Now(), Level: core.LevelInfo, Stream: core.StreamLog, Message: "patient record 12345678 archived"}
	n := 0
	b.ReportAllocs()
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		n++
		a := r.Attempt(origin(fmt.Sprint("run", n)), 0, recorder.Wait)
		for pb.Next() {
			if err := a.Log(b.Context(), line); err != nil {
				b.Error(err)
			}
		}
		if err := a.Flush(b.Context()); err != nil {
			b.Error(err)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	b.StopTimer()
	_ = r.Stop(b.Context())
}

// BenchmarkShortAttempt is what a short run asks of the spool: two lines, a sample and its record.
func BenchmarkShortAttempt(b *testing.B) {
	r := benchRecorder(b, recorder.Options{})
	line := core.LogLine{At: time.Now(), Level: core.LevelInfo, Stream: core.StreamLog, Message: "patient record 12345678 archived"}
	o := origin("0198c8a5-0000-7000-8000-000000000001")
	b.ReportAllocs()
	for b.Loop() {
		a := r.Attempt(o, 0, recorder.Wait)
		_ = a.Log(b.Context(), line)
		_ = a.Log(b.Context(), line)
		_ = a.Sample(b.Context(), core.RunSample{At: line.At, Final: true})
		_ = r.RecordAttempt(b.Context(), core.AttemptRecord{Origin: o, Verdict: core.Succeeded})
		a.Close()
	}
	b.StopTimer()
	_ = r.Stop(b.Context())
}

// BenchmarkFlush is an acknowledgement when nothing else goes on.
func BenchmarkFlush(b *testing.B) {
	r := benchRecorder(b, recorder.Options{})
	a := r.Attempt(origin("r"), 0, recorder.Wait)
	for b.Loop() {
		_ = a.Log(b.Context(), core.LogLine{Message: "x"})
		_ = a.Flush(b.Context())
	}
	b.StopTimer()
	_ = r.Stop(b.Context())
}

// BenchmarkDecode decodes a full segment of short lines.
func BenchmarkDecode(b *testing.B) {
	r := benchRecorder(b, recorder.Options{Shipper: &history{down: errDown}})
	defer r.Stop(b.Context())
	a := r.Attempt(origin("r"), 0, recorder.Wait)
	for range 100_000 {
		_ = a.Log(b.Context(), core.LogLine{Level: core.LevelInfo, Stream: core.StreamLog, Message: "patient record 12345678 archived"})
	}
	_ = a.Flush(b.Context())
	files, _ := filepath.Glob(filepath.Join(b.TempDir(), "..", "*", "*"))
	var data []byte
	for _, f := range files {
		if d, err := os.ReadFile(f); err == nil && len(d) > len(data) {
			data = d
		}
	}
	lines := 0
	b.ReportAllocs()
	for b.Loop() {
		seg, _, err := recorder.Decode(data)
		if err != nil {
			b.Fatal(err)
		}
		lines += len(seg.Logs)
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
}

// BenchmarkStart opens a spool that holds two million unshipped lines (100 MB).
func BenchmarkStart(b *testing.B) {
	r := benchRecorder(b, recorder.Options{Shipper: &history{down: errDown}})
	a := r.Attempt(origin("r"), 0, recorder.Wait)
	for range 2_000_000 {
		_ = a.Log(b.Context(), core.LogLine{Level: core.LevelInfo, Stream: core.StreamLog, Message: "patient record 12345678 archived"})
	}
	_ = a.Flush(b.Context())
	_ = r.Stop(b.Context())
	for b.Loop() {
		again, err := recorder.New(recorder.Options{Dir: r.Dir(), Log: discard(), Shipper: &history{down: errDown}})
		if err != nil {
			b.Fatal(err)
		}
		if err := again.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		if st := again.Stats(); st.UnshippedBytes < 90<<20 {
			b.Fatalf("%+v", st)
		}
		_ = again.Stop(b.Context())
	}
}
