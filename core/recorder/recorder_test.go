package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("GNOMON_TEST_SPOOL"); dir != "" {
		crashChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// history is a Shipper that keeps what it is given, as ClickHouse would: a record is there once per key.
type history struct {
	mu       sync.Mutex
	down     error
	lines    map[string]core.LoggedLine
	segments []core.Segment
	calls    int
}

func newHistory() *history { return &history{lines: map[string]core.LoggedLine{}} }

func (h *history) WriteSegment(_ context.Context, s core.Segment) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	if h.down != nil {
		return h.down
	}
	h.segments = append(h.segments, s)
	for _, l := range s.Logs {
		h.lines[key(l)] = l
	}
	return nil
}

func (h *history) setDown(err error) {
	h.mu.Lock()
	h.down = err
	h.mu.Unlock()
}

func (h *history) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.lines)
}

func (h *history) all() []core.Segment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.segments)
}

func key(l core.LoggedLine) string {
	return fmt.Sprintf("%s/%d/%d", l.Origin.RunID, l.Origin.Attempt, l.Seq)
}

var errDown = errors.New("history is down")

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t *testing.T, opts recorder.Options) *recorder.Recorder {
	t.Helper()
	r := build(t, opts)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func build(t *testing.T, opts recorder.Options) *recorder.Recorder {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	if opts.Log == nil {
		opts.Log = discard()
	}
	if opts.Shipper == nil {
		opts.Shipper = newHistory()
	}
	r, err := recorder.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, r) })
	return r
}

func stop(t *testing.T, r *recorder.Recorder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func origin(run string) core.Origin {
	return core.Origin{RunID: run, Attempt: 1, TaskID: "task-" + run, Namespace: "Common", TaskName: "web", TaskType: "Common.KeepAlive",
		FireAt: time.Date(2026, 5, 6, 7, 8, 9, 123456000, time.UTC)}
}

func say(t *testing.T, a *recorder.Attempt, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if err := a.Log(t.Context(), core.LogLine{Level: core.LevelInfo, Stream: core.StreamLog, Message: s}); err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t *testing.T, a *recorder.Attempt) {
	t.Helper()
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, r *recorder.Recorder, run string) []string {
	t.Helper()
	got, err := r.Lines(t.Context(), core.LineFilter{RunID: run, Limit: 10000})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i, l := range got {
		if l.Seq != uint64(i+1) {
			t.Fatalf("line %d has seq %d: %q", i, l.Seq, l.Message)
		}
		out = append(out, l.Message)
	}
	return out
}

// eventually polls: what is awaited depends on the disk and on goroutines of the recorder, not on a clock of ours.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never came true: %s", what)
		}
	}
}

func segmentFiles(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".seg") || strings.HasSuffix(e.Name(), ".open") {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

func TestASilentAttemptCostsOneAllocationAndNoWait(t *testing.T) {
	r := open(t, recorder.Options{Shipper: &history{down: errDown}})
	o := origin("r1")
	n := testing.AllocsPerRun(1000, func() {
		a := r.Attempt(o, 0, recorder.Wait)
		flush(t, a)
		a.Close()
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
	if got := r.Stats().Commits; got != 0 {
		t.Errorf("%d commits", got)
	}
}

func TestRecorder(t *testing.T) {
	t.Parallel()

	t.Run("EverythingSaidReachesHistoryAsItWas", func(t *testing.T) {
		t.Parallel()
		h := newHistory()
		r := open(t, recorder.Options{Shipper: h, SegmentAge: 10 * time.Millisecond})
		o := origin("r1")
		at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
		a := r.Attempt(o, 0, recorder.Wait)
		line := core.LogLine{At: at, Level: core.LevelWarn, Stream: core.StreamStderr, Message: "心电图 late", Attrs: []core.Attr{{Key: "n", Value: "1"}, {Key: "空", Value: ""}}}
		if err := a.Log(t.Context(), line); err != nil {
			t.Fatal(err)
		}
		run := core.RunSample{At: at, CPU: 1234567, CPUSource: core.SourceMeasured, RSSBytes: 1 << 40, RSSSource: core.SourceShared, ReadBytes: 7, WriteBytes: 8, IOSource: core.SourceUnknown, Final: true}
		if err := a.Sample(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		run.Origin = o
		plugin := core.PluginSample{ProcSample: core.ProcSample{At: at, CPU: 5, RSSBytes: 6, ReadBytes: 7, WriteBytes: 8, Threads: 9, FDs: -1, Processes: 2}, Plugin: "common", Version: "1.2.3", Namespace: "X", PID: 4242, Running: 3}
		host := core.HostSample{At: at, Host: "h", CPU: 1, CPUIdle: 2, Cores: 3, Load1: 4.5, MemTotalBytes: 6, MemUsedBytes: 7, SwapUsedBytes: 8, DiskReadBytes: 9, DiskWriteBytes: 10, NetRecvBytes: 11, NetSentBytes: 12, DataTotalBytes: 13, DataFreeBytes: 14}
		rec := core.AttemptRecord{Origin: o, Token: -9, StartedAt: at, EndedAt: at.Add(time.Second), Verdict: core.TimedOut, Message: "m", RetryAt: at.Add(time.Hour),
			Usage: core.Usage{CPU: 1, CPUSource: core.SourceMeasured, PeakRSSBytes: 2, RSSSource: core.SourceMeasured, ReadBytes: 3, WriteBytes: 4, IOSource: core.SourceShared}}
		tree, detailed, placed := plugin, host, rec
		tree.Tree = &core.Tree{Kind: core.TreeLuaWorker, Server: "s", Host: "h", StartTicks: 1, CPUFrom: "cgroup", Final: true, Span: time.Second, Busy: true,
			Attempts: 2, SpentCPU: 3, SpentReadBytes: 4, SpentWriteBytes: 5, SpentRSS: 6, TotalRSS: 7, BusyCPU: 8, BusyRSS: 9}
		detailed.Detail = &core.HostDetail{Load5: 1.5, Load15: 2.5, IOWait: 3, Steal: 4, SwapTotalBytes: 5, OpenFiles: 6, OpenFilesMax: 7, Threads: 8, Runnable: 9,
			Blocked: 10, ContextSwitches: 11, Forks: 12, Pressure: &core.Pressure{CPUSome: 1, MemorySome: 2, MemoryFull: 3, IOSome: 4, IOFull: 5},
			FileSystems: []core.FileSystem{{Mount: "/", TotalBytes: 1, FreeBytes: 2}, {Mount: "/数据", TotalBytes: 3, FreeBytes: 4}}}
		placed.Place = core.Place{Server: "s", Plugin: "common", Version: "1.2.3", PID: 42}
		server := core.ServerRecord{ID: "s", Host: "h", Version: "v", PID: 1, StartedAt: at, EndedAt: at.Add(time.Hour), Cores: 2, CPULimit: 1.5, MemBytes: 3, MemLimit: 4, RecordedAt: at}
		for _, err := range []error{r.RecordRun(t.Context(), run), r.RecordPlugin(t.Context(), plugin), r.RecordHost(t.Context(), host), r.RecordAttempt(t.Context(), rec),
			r.RecordPlugin(t.Context(), tree), r.RecordHost(t.Context(), detailed), r.RecordAttempt(t.Context(), placed), r.RecordServer(t.Context(), server)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := r.FlushAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "shipped", func() bool { return r.Stats().Unshipped == 0 })
		var got core.Segment
		for _, s := range h.all() {
			got.Logs, got.RunSamples = append(got.Logs, s.Logs...), append(got.RunSamples, s.RunSamples...)
			got.PluginSamples, got.HostSamples = append(got.PluginSamples, s.PluginSamples...), append(got.HostSamples, s.HostSamples...)
			got.Attempts, got.Servers = append(got.Attempts, s.Attempts...), append(got.Servers, s.Servers...)
		}
		line.Seq = 1
		if len(got.Logs) != 1 || *got.Logs[0].Origin != o || fmt.Sprint(got.Logs[0].LogLine) != fmt.Sprint(line) {
			t.Errorf("lines: %+v", got.Logs)
		}
		if len(got.RunSamples) != 2 || got.RunSamples[0] != run || got.RunSamples[1] != run {
			t.Errorf("run samples: %+v", got.RunSamples)
		}
		if !reflect.DeepEqual(got.PluginSamples, []core.PluginSample{plugin, tree}) || !reflect.DeepEqual(got.HostSamples, []core.HostSample{host, detailed}) {
			t.Errorf("samples: %+v %+v", got.PluginSamples, got.HostSamples)
		}
		if !reflect.DeepEqual(got.Attempts, []core.AttemptRecord{rec, placed}) {
			t.Errorf("attempts: %+v", got.Attempts)
		}
		if !reflect.DeepEqual(got.Servers, []core.ServerRecord{server}) {
			t.Errorf("servers: %+v", got.Servers)
		}
	})

	t.Run("AFlushedLineIsOnDisk", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		r := open(t, recorder.Options{Dir: dir, Shipper: &history{down: errDown}, SegmentAge: time.Hour})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "one", "two")
		flush(t, a)
		files := segmentFiles(t, dir)
		if len(files) != 1 {
			t.Fatalf("files: %v", files)
		}
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		seg, _, err := recorder.Decode(data)
		if err != nil || len(seg.Logs) != 2 {
			t.Fatalf("%v %+v", err, seg.Logs)
		}
	})

	t.Run("LinesBelowTheLevelAreNotRecordedButSystemLinesAre", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{})
		a := r.Attempt(origin("r1"), core.LevelWarn, recorder.Wait)
		say(t, a, "quiet")
		for _, l := range []core.LogLine{{Level: core.LevelError, Stream: core.StreamLog, Message: "loud"}, {Level: core.LevelInfo, Stream: core.StreamSystem, Message: "system"}} {
			if err := a.Log(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		flush(t, a)
		if got := lines(t, r, "r1"); !slices.Equal(got, []string{"loud", "system"}) {
			t.Errorf("%q", got)
		}
	})

	t.Run("ProgressKeepsTheNewest", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		a.Progress(1, 10, "first")
		a.Progress(2, 10, "second")
		if got := a.ProgressNow(); got != (recorder.Progress{Done: 2, Total: 10, Note: "second"}) {
			t.Errorf("%+v", got)
		}
	})

	t.Run("ABinaryLineIsKeptReadable", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "a\xff\x00b\xc4\xe3")
		flush(t, a)
		got, err := r.Lines(t.Context(), core.LineFilter{RunID: "r1", Limit: 10})
		if err != nil || len(got) != 1 || got[0].Message != "a\\xff\x00b\\xc4\\xe3" || !slices.Contains(got[0].Attrs, core.Attr{Key: recorder.AttrBinaryBytes, Value: "3"}) {
			t.Errorf("%v %+v", err, got)
		}
	})

	t.Run("ALineOf100MBIsCutAndSaysSo", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{})
		for name, line := range map[string]string{"text": strings.Repeat("é", 50<<20), "binary": strings.Repeat("\xff", 100<<20)} {
			a := r.Attempt(origin(name), 0, recorder.Wait)
			say(t, a, line, "after")
			flush(t, a)
			got, err := r.Lines(t.Context(), core.LineFilter{RunID: name, Limit: 10})
			if err != nil || len(got) != 2 {
				t.Fatalf("%v %d", err, len(got))
			}
			var cut int
			for _, attr := range got[0].Attrs {
				if attr.Key == recorder.AttrCutBytes {
					fmt.Sscan(attr.Value, &cut)
				}
			}
			kept := len(got[0].Message)
			if name == "binary" {
				kept /= 4
			}
			if len(got[0].Message) > 1<<20 || kept+cut != 100<<20 {
				t.Errorf("%s: %d kept, %d cut", name, kept, cut)
			}
		}
	})

	t.Run("AMillionLinesKeepTheirOrder", func(t *testing.T) {
		t.Parallel()
		const total = 1_000_000
		h := &ordered{}
		r := open(t, recorder.Options{Shipper: h})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		line := core.LogLine{At: time.Now(), Level: core.LevelInfo, Stream: core.StreamStdout, Message: "processed one more row of the million"}
		for range total {
			if err := a.Log(t.Context(), line); err != nil {
				t.Fatal(err)
			}
		}
		flush(t, a)
		if a.Lines() != total || r.Stats().LinesAcked != total {
			t.Errorf("%d lines, %d acknowledged", a.Lines(), r.Stats().LinesAcked)
		}
		got, err := r.Lines(t.Context(), core.LineFilter{RunID: "r1", AfterAttempt: 1, AfterSeq: 987_654, Limit: 100})
		if err != nil || len(got) != 100 || got[0].Seq != 987_655 || got[99].Seq != 987_754 {
			t.Errorf("page: %v, %d lines", err, len(got))
		}
		eventually(t, "shipped", func() bool { return r.Stats().Unshipped == 0 })
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.next != total || h.wrong {
			t.Errorf("history has %d lines, out of order: %v", h.next, h.wrong)
		}
	})

	t.Run("LinesFollowsItsFilter", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{SegmentBytes: 4 << 10, Shipper: &history{down: errDown}})
		for attempt := 1; attempt <= 3; attempt++ {
			o := origin("r1")
			o.Attempt = attempt
			a := r.Attempt(o, 0, recorder.Wait)
			other := r.Attempt(origin("other"), 0, recorder.Wait)
			for i := 1; i <= 200; i++ {
				level := core.LevelInfo
				if i%50 == 0 {
					level = core.LevelError
				}
				if err := a.Log(t.Context(), core.LogLine{Level: level, Stream: core.StreamLog, Message: fmt.Sprintf("%d.%d", attempt, i)}); err != nil {
					t.Fatal(err)
				}
				say(t, other, "noise")
				if i%40 == 0 {
					flush(t, a)
				}
			}
			flush(t, a)
		}
		first, second := origin("r2"), origin("r2") // two attempts in one block, as when one is taken over
		second.Attempt = 2
		old, young := r.Attempt(first, 0, recorder.Wait), r.Attempt(second, 0, recorder.Wait)
		for i := 1; i <= 30; i++ {
			say(t, old, fmt.Sprintf("1.%d", i))
			say(t, young, fmt.Sprintf("2.%d", i))
		}
		flush(t, old)
		flush(t, young)
		for _, c := range []struct {
			f           core.LineFilter
			n           int
			first, last string
		}{
			{core.LineFilter{RunID: "r1", Limit: 10000}, 600, "1.1", "3.200"},
			{core.LineFilter{RunID: "r1", Limit: 250}, 250, "1.1", "2.50"},
			{core.LineFilter{RunID: "r1", Attempt: 2, Limit: 10000}, 200, "2.1", "2.200"},
			{core.LineFilter{RunID: "r1", MinLevel: core.LevelError, Limit: 10000}, 12, "1.50", "3.200"},
			{core.LineFilter{RunID: "r1", AfterAttempt: 2, AfterSeq: 199, Limit: 2}, 2, "2.200", "3.1"},
			{core.LineFilter{RunID: "r1", AfterAttempt: 3, AfterSeq: 200, Limit: 2}, 0, "", ""},
			{core.LineFilter{RunID: "nobody", Limit: 2}, 0, "", ""},
			{core.LineFilter{RunID: "r2", Limit: 10000}, 60, "1.1", "2.30"},
			{core.LineFilter{RunID: "r2", Attempt: 2, Limit: 10000}, 30, "2.1", "2.30"},
			{core.LineFilter{RunID: "r2", Text: ".2", Limit: 10000}, 22, "1.2", "2.29"},
			{core.LineFilter{RunID: "r2", AfterAttempt: 1, AfterSeq: 29, Limit: 10000}, 31, "1.30", "2.30"},
		} {
			got, err := r.Lines(t.Context(), c.f)
			if err != nil || len(got) != c.n || c.n > 0 && (got[0].Message != c.first || got[c.n-1].Message != c.last) {
				t.Errorf("%+v: %v, %d lines", c.f, err, len(got))
			}
			for _, limit := range []int{1, 7, 40} { // page after page, however they lie to the blocks
				page, paged := c.f, []core.LoggedLine(nil)
				for page.Limit = limit; len(paged) < len(got); {
					lines, err := r.Lines(t.Context(), page)
					if err != nil || len(lines) == 0 || len(lines) > limit {
						t.Fatalf("%+v in pages of %d: after %d of %d lines: %d, %v", c.f, limit, len(paged), len(got), len(lines), err)
					}
					paged = append(paged, lines...)
					page.AfterAttempt, page.AfterSeq = lines[len(lines)-1].Origin.Attempt, lines[len(lines)-1].Seq
				}
				if diff := cmp.Diff(got, paged[:len(got)]); diff != "" {
					t.Errorf("%+v in pages of %d: %s", c.f, limit, diff)
				}
				if more, err := r.Lines(t.Context(), page); c.n < c.f.Limit && (err != nil || len(more) > 0) {
					t.Errorf("%+v in pages of %d: %d lines behind the last, %v", c.f, limit, len(more), err)
				}
			}
		}
		if _, err := r.Lines(t.Context(), core.LineFilter{RunID: "r1"}); core.KindOf(err) != core.KindInvalid {
			t.Errorf("no limit: %v", err)
		}
	})

	t.Run("StopEndsEverythingAndIsSafeTwiceAndBeforeStart", func(t *testing.T) {
		t.Parallel()
		r := build(t, recorder.Options{})
		stop(t, r)
		dir := t.TempDir()
		r = open(t, recorder.Options{Dir: dir, Shipper: &history{down: errDown}})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "last words")
		stop(t, r)
		stop(t, r)
		flush(t, a)
		if err := a.Log(t.Context(), core.LogLine{Message: "too late"}); core.KindOf(err) != core.KindUnavailable {
			t.Errorf("%v", err)
		}
		again := open(t, recorder.Options{Dir: dir})
		if got := lines(t, again, "r1"); !slices.Equal(got, []string{"last words"}) {
			t.Errorf("%q", got)
		}
	})

	t.Run("ManyWritersLoseAndMixNothing", func(t *testing.T) {
		t.Parallel()
		h := newHistory()
		r := open(t, recorder.Options{Shipper: h, SegmentBytes: 64 << 10, SegmentAge: 10 * time.Millisecond})
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for n := range 50 {
					a := r.Attempt(origin(fmt.Sprintf("g%d-%d", g, n)), 0, recorder.Wait)
					for i := range 20 {
						if err := a.Log(t.Context(), core.LogLine{Level: core.LevelInfo, Message: fmt.Sprint(g, n, i)}); err != nil {
							t.Error(err)
						}
					}
					if err := a.Flush(t.Context()); err != nil {
						t.Error(err)
					}
					a.Close()
				}
			})
		}
		wg.Wait()
		eventually(t, "shipped", func() bool { return h.count() == 8*50*20 && r.Stats().Unshipped == 0 })
		for g := range 8 {
			for n := range 50 {
				for i := range 20 {
					l, ok := h.lines[fmt.Sprintf("g%d-%d/1/%d", g, n, i+1)]
					if !ok || l.Message != fmt.Sprint(g, n, i) || *l.Origin != origin(fmt.Sprintf("g%d-%d", g, n)) {
						t.Fatalf("%d %d %d: %+v", g, n, i, l)
					}
				}
			}
		}
		if st := r.Stats(); st.OpenAttempts != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// ordered checks that one attempt's lines arrive numbered without holes.
type ordered struct {
	mu    sync.Mutex
	next  uint64
	wrong bool
}

func (o *ordered) WriteSegment(_ context.Context, s core.Segment) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range s.Logs {
		o.next++
		o.wrong = o.wrong || l.Seq != o.next
	}
	return nil
}
