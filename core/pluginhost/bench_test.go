package pluginhost_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/coretest"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
)

type nowhere struct{}

func (nowhere) Log(context.Context, core.LogLine) error      { return nil }
func (nowhere) Progress(int64, int64, string)                {}
func (nowhere) Sample(context.Context, core.RunSample) error { return nil }

// throughput runs empty attempts, many at once.
func throughput(b *testing.B, h *pluginhost.Host, e core.Executor, c coretest.Case, atOnce int) {
	b.ReportAllocs()
	attempt := c.Attempt("0198c7a0-0000-7000-8000-000000000000")
	if _, err := e.Execute(b.Context(), attempt, nowhere{}); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	host, children := cpu(b, os.Getpid()), 0.0
	for _, p := range h.Processes() {
		children -= cpu(b, p.PID)
	}
	b.ResetTimer()
	var next atomic.Int64
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for range atOnce {
		all.Go(func() {
			attempt := attempt
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				attempt.RunID = strconv.FormatInt(n, 10)
				out, err := e.Execute(ctx, attempt, nowhere{})
				if err != nil || out.Verdict != core.Succeeded {
					b.Errorf("%+v, %v", out, err)
					return
				}
			}
		})
	}
	all.Wait()
	for _, p := range h.Processes() {
		children += cpu(b, p.PID)
	}
	b.ReportMetric((cpu(b, os.Getpid())-host)*1e6/float64(b.N), "host-cpu-µs/op")
	b.ReportMetric(children*1e6/float64(b.N), "child-cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "attempts/s")
}

// cpu gives the seconds of CPU a process has used. What the machine can do is one over their sum, times its cores; the
// wall clock says less on a machine that others use too.
func cpu(b *testing.B, pid int) float64 {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		b.Fatal(err)
	}
	total := 0.0
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		var ns float64
		_, _ = fmt.Sscan(string(text), &ns)
		total += ns / 1e9
	}
	return total
}

func BenchmarkPluginEmptyAttempts(b *testing.B) {
	h := setup(b)
	throughput(b, h, load(b, h), coretest.Case{Type: "Test.Do"}, 64)
}

func BenchmarkPluginOneAfterAnother(b *testing.B) {
	h := setup(b)
	throughput(b, h, load(b, h), coretest.Case{Type: "Test.Do"}, 1)
}

func BenchmarkPoolEmptyAttempts(b *testing.B) {
	h := setup(b)
	throughput(b, h, pool(b, h), coretest.Case{Type: "Test.Do"}, 8)
}
