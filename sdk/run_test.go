package sdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/gnomon-scheduler/gnomon/sdk/egress"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

// raw is a task type out of one function.
type raw struct {
	name string
	run  func(ctx context.Context, run *sdk.Run, params json.RawMessage) (json.RawMessage, error)
}

func (r raw) Describe() sdk.Description { return sdk.Description{Name: r.name, Title: title} }

func (r raw) Validate(context.Context, json.RawMessage) []sdk.Finding { return nil }

func (r raw) Run(ctx context.Context, run *sdk.Run, params json.RawMessage) (json.RawMessage, error) {
	return r.run(ctx, run, params)
}

// host serves one function as Test.It.
func host(t *testing.T, f func(ctx context.Context, run *sdk.Run) error) *sdktest.Host {
	t.Helper()
	return sdktest.Start(t, sdk.Plugin{Name: "test", Version: "1.0.0", Types: []sdk.TaskType{raw{"Test.It",
		func(ctx context.Context, run *sdk.Run, _ json.RawMessage) (json.RawMessage, error) {
			return nil, f(ctx, run)
		}}}})
}

var it = sdktest.Attempt{Type: "Test.It"}

func TestSpansOfAHandlerFallUnderItsAttempt(t *testing.T) {
	t.Parallel()
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	var got oteltrace.SpanContext
	var said string
	h := host(t, func(ctx context.Context, run *sdk.Run) error {
		got, said = oteltrace.SpanContextFromContext(ctx), run.Traceparent
		return nil
	})
	for parent, sampled := range map[string]bool{"00-" + trace + "-" + span + "-01": true, "00-" + trace + "-" + span + "-00": false} {
		attempt := it
		attempt.Traceparent = parent
		if result := h.Run(t.Context(), attempt); result.Verdict != sdktest.Succeeded {
			t.Fatalf("%+v", result)
		}
		if got.TraceID().String() != trace || got.SpanID().String() != span || got.IsSampled() != sampled || !got.IsRemote() || said != parent {
			t.Errorf("%s: the context holds %v, the run says %q", parent, got, said)
		}
	}
	for _, odd := range []string{"", "x", "00-" + trace + "-" + span, "ff-" + trace + "-" + span + "-01", "00-00000000000000000000000000000000-" + span + "-01", "00-" + trace + "-zz-01"} {
		attempt := it
		attempt.Traceparent = odd
		if result := h.Run(t.Context(), attempt); result.Verdict != sdktest.Succeeded || got.IsValid() {
			t.Errorf("%q: %v %+v", odd, got, result)
		}
	}
}

func TestErrorsCrossAsTypes(t *testing.T) {
	t.Parallel()
	cause := errors.New("the reason")
	finding := sdk.Finding{Path: "urls[2]", Message: sdk.Text{Zh: "错", En: "wrong"}}
	cases := map[string]struct {
		err   error
		check func(r sdktest.Result) bool
	}{
		"Nothing":    {nil, func(r sdktest.Result) bool { return r.Verdict == sdktest.Succeeded && r.Message == "" }},
		"Plain":      {cause, func(r sdktest.Result) bool { return !r.Permanent && r.RetryAfter == 0 && r.Message == "the reason" }},
		"Permanent":  {fmt.Errorf("outer: %w", sdk.Permanent(cause)), func(r sdktest.Result) bool { return r.Permanent && r.Message == "outer: the reason" }},
		"RetryAfter": {sdk.RetryAfter(time.Minute, cause), func(r sdktest.Result) bool { return r.RetryAfter == time.Minute && !r.Permanent }},
		"Invalid": {sdk.InvalidParameters(finding), func(r sdktest.Result) bool {
			return r.Permanent && len(r.Findings) == 1 && r.Findings[0] == finding
		}},
		"ForeignDeadline": {context.DeadlineExceeded, func(r sdktest.Result) bool { return r.Verdict == sdktest.Failed }},
		"ManyLines":       {errors.New("a\nb"), func(r sdktest.Result) bool { return r.Message == "a b" }},
		"NoWords":         {errors.New(""), func(r sdktest.Result) bool { return r.Message != "" }},
		"VeryLong": {errors.New(strings.Repeat("€", 3000)), func(r sdktest.Result) bool {
			return len(r.Message) <= protocol.MaxFailureBytes && len(r.Message) > protocol.MaxFailureBytes-3 && utf8.ValidString(r.Message)
		}},
	}
	for promise, c := range cases {
		t.Run(promise, func(t *testing.T) {
			t.Parallel()
			r := host(t, func(context.Context, *sdk.Run) error { return c.err }).Run(t.Context(), it)
			if r.Err != nil || c.err != nil && r.Verdict == sdktest.Succeeded || !c.check(r) {
				t.Fatalf("%+v", r)
			}
		})
	}
}

func TestPanicFailsTheAttemptAndNothingElse(t *testing.T) {
	t.Parallel()
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		if run.Attempt == 1 {
			panic("boom")
		}
		return nil
	})
	r := h.Run(t.Context(), it)
	if r.Verdict != sdktest.Failed || r.Message != "panic: boom" || r.Permanent {
		t.Fatalf("%+v", r)
	}
	if len(r.Lines) != 1 || !strings.Contains(r.Lines[0].Attrs["stack"], "run_test.go") || r.Lines[0].Level != slog.LevelError {
		t.Fatalf("%+v", r.Lines)
	}
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Test.It", Number: 2}); r.Verdict != sdktest.Succeeded {
		t.Fatalf("%+v", r)
	}
}

func TestCancelledAttemptStillSaysItsLastLinesAndItsOutcome(t *testing.T) {
	t.Parallel()
	h := host(t, func(ctx context.Context, run *sdk.Run) error {
		run.Log.Info("working")
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), sdk.ErrCancelled) {
			return fmt.Errorf("cause %w", context.Cause(ctx))
		}
		run.Log.Info("cleaned up")
		return errors.New("a library's own words for a context that ended")
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	attempt := it
	attempt.OnLine = func(sdktest.Line) { cancel(errors.New("the operator is tired")) }
	r := h.Run(ctx, attempt)
	if r.Verdict != sdktest.Cancelled || r.Message != "cancelled on request: the operator is tired" || len(r.Lines) != 2 {
		t.Fatalf("%+v", r)
	}
}

func TestTimeLimitEndsTheContextAndLeavesTheStream(t *testing.T) {
	t.Parallel()
	h := host(t, func(ctx context.Context, run *sdk.Run) error {
		if _, ok := ctx.Deadline(); !ok {
			return errors.New("no deadline")
		}
		<-ctx.Done()
		run.Log.Info("late")
		return context.Cause(ctx)
	})
	r := h.Run(t.Context(), sdktest.Attempt{Type: "Test.It", TimeLimit: 10 * time.Millisecond})
	if r.Verdict != sdktest.Cancelled || r.Message != "hard timeout reached" || len(r.Lines) != 1 {
		t.Fatalf("%+v", r)
	}
	if !errors.Is(sdk.ErrTimeLimit, context.DeadlineExceeded) {
		t.Fatal("ErrTimeLimit is not a context.DeadlineExceeded")
	}
}

func TestSuccessAfterTheContextEndedIsSuccess(t *testing.T) {
	t.Parallel()
	h := host(t, func(ctx context.Context, _ *sdk.Run) error { <-ctx.Done(); return nil })
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Test.It", TimeLimit: time.Millisecond}); r.Verdict != sdktest.Succeeded {
		t.Fatalf("%+v", r)
	}
}

func TestSameAttemptTwiceAtOnceIsRefused(t *testing.T) {
	t.Parallel()
	release, started := make(chan struct{}), make(chan struct{})
	h := host(t, func(context.Context, *sdk.Run) error {
		close(started)
		<-release
		return nil
	})
	done := make(chan sdktest.Result)
	attempt := sdktest.Attempt{Type: "Test.It", RunID: "one"}
	go func() { done <- h.Run(t.Context(), attempt) }()
	<-started
	if r := h.Run(t.Context(), attempt); status.Code(r.Err) != codes.AlreadyExists {
		t.Errorf("%+v", r)
	}
	close(release)
	if r := <-done; r.Verdict != sdktest.Succeeded {
		t.Errorf("%+v", r)
	}
}

func TestRunKnowsItsAttempt(t *testing.T) {
	t.Parallel()
	fire := time.Date(2026, 10, 4, 3, 0, 0, 123000, time.UTC)
	var seen *sdk.Run
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		seen = run
		var state struct{ Page int }
		found, err := run.LoadCheckpoint(&state)
		if err != nil || !found || state.Page != 3 {
			return fmt.Errorf("checkpoint %v %v %w", state, found, err)
		}
		state.Page++
		run.Log.Info("before")
		return run.Checkpoint(state)
	})
	r := h.Run(t.Context(), sdktest.Attempt{
		Type: "Test.It", RunID: "id", Number: 2, Token: 9, Namespace: "Clinic", TaskName: "name", FireAt: fire,
		PreviousSuccess: fire.Add(-time.Hour), Zone: "Asia/Shanghai", Trigger: sdk.TriggerCatchUp,
		Checkpoint: `{"Page":3}`, Grants: map[string]string{"sql:business": "dsn"},
	})
	if r.Verdict != sdktest.Succeeded || string(r.Checkpoint) != `{"Page":4}` {
		t.Fatalf("%+v", r)
	}
	if seen.ID != "id" || seen.Attempt != 2 || seen.Token != 9 || seen.Namespace != "Clinic" || seen.TaskName != "name" ||
		!seen.FireAt.Equal(fire) || !seen.PreviousSuccess.Equal(fire.Add(-time.Hour)) || seen.Trigger != sdk.TriggerCatchUp ||
		seen.Location().String() != "Asia/Shanghai" || seen.TaskType != "Test.It" {
		t.Fatalf("%+v", seen)
	}
	if value, ok := seen.Grant("sql:business"); !ok || value != "dsn" {
		t.Fatal("grant")
	}
	if _, ok := seen.Grant("http"); ok {
		t.Fatal("a grant nobody gave")
	}
}

func TestCheckpointOverTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	h := host(t, func(_ context.Context, run *sdk.Run) error { return run.Checkpoint(strings.Repeat("x", 1<<20)) })
	if r := h.Run(t.Context(), it); r.Verdict != sdktest.Failed || r.Checkpoint != nil {
		t.Fatalf("%+v", r)
	}
}

func TestOutputIsHeldToItsLimitAndToJSON(t *testing.T) {
	t.Parallel()
	for promise, output := range map[string]string{"TooLarge": `"` + strings.Repeat("x", 1<<20) + `"`, "NotJSON": `{`} {
		t.Run(promise, func(t *testing.T) {
			t.Parallel()
			h := sdktest.Start(t, sdk.Plugin{Name: "test", Version: "1.0.0", Types: []sdk.TaskType{raw{"Test.It",
				func(context.Context, *sdk.Run, json.RawMessage) (json.RawMessage, error) {
					return json.RawMessage(output), nil
				}}}})
			if r := h.Run(t.Context(), it); r.Err != nil || r.Verdict != sdktest.Failed || !r.Permanent {
				t.Fatalf("%v %v", r.Verdict, r.Err)
			}
		})
	}
}

func TestLogCarriesLevelsAttributesAndGroups(t *testing.T) {
	t.Parallel()
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		run.Log.Debug("one")
		log := run.Log.With("batch", 7).WithGroup("http")
		log.Warn("two", "status", 503, slog.Group("peer", "host", "a"), "err", io.EOF, "took", 2*time.Second, "list", []int{1, 2}, "nothing", nil)
		var none *time.Location
		run.Log.Error("three", "bad", fmt.Stringer(badStringer{none}), "bytes", []byte("abc"))
		return nil
	})
	r := h.Run(t.Context(), it)
	if len(r.Lines) != 3 || r.Lines[0].Level != slog.LevelDebug || r.Lines[1].Level != slog.LevelWarn || r.Lines[2].Level != slog.LevelError {
		t.Fatalf("%+v", r.Lines)
	}
	want := map[string]string{"batch": "7", "http.status": "503", "http.peer.host": "a", "http.err": "EOF", "http.took": "2s", "http.list": "[1,2]", "http.nothing": "null"}
	if got := r.Lines[1].Attrs; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%v", got)
	}
	if got := r.Lines[2].Attrs; !strings.HasPrefix(got["bad"], "!panic") || got["bytes"] != "abc" {
		t.Fatalf("%v", got)
	}
}

type badStringer struct{ at *time.Location }

func (b badStringer) String() string { panic("no words") }

func TestLinesBelowTheTasksLevelAreNotSent(t *testing.T) {
	t.Parallel()
	formatted := false
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		run.Log.Info("quiet", "x", lazy(func() { formatted = true }))
		run.Log.Warn("loud")
		_, err := io.WriteString(run.Stdout(), "quiet\n")
		return err
	})
	level := slog.LevelWarn
	r := h.Run(t.Context(), sdktest.Attempt{Type: "Test.It", LogLevel: &level})
	if len(r.Lines) != 1 || r.Lines[0].Message != "loud" || formatted {
		t.Fatalf("%+v, formatted %v", r.Lines, formatted)
	}
}

type lazy func()

func (l lazy) LogValue() slog.Value { l(); return slog.StringValue("") }

func TestLinesComeInBatchesAndInOrder(t *testing.T) {
	t.Parallel()
	const lines = 10_000
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		for i := range lines {
			run.Log.Info(strconv.Itoa(i))
		}
		return nil
	})
	r := h.Run(t.Context(), it)
	if len(r.Lines) != lines || r.Messages > lines/100 {
		t.Fatalf("%d lines in %d messages", len(r.Lines), r.Messages)
	}
	for i, line := range r.Lines {
		if line.Message != strconv.Itoa(i) {
			t.Fatalf("line %d says %s", i, line.Message)
		}
	}
}

func TestALineDoesNotWaitForTheNext(t *testing.T) {
	t.Parallel()
	heard := make(chan struct{})
	h := host(t, func(ctx context.Context, run *sdk.Run) error {
		run.Log.Info("alone")
		select {
		case <-heard:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	attempt := it
	attempt.TimeLimit = time.Minute
	attempt.OnLine = func(sdktest.Line) { close(heard) }
	if r := h.Run(t.Context(), attempt); r.Verdict != sdktest.Succeeded {
		t.Fatalf("%+v", r)
	}
}

func TestManyWritersLoseNothingAndMixNoLines(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 1000
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for i := range each {
					run.Log.Info("line", "writer", w, "number", i)
					run.Progress(int64(i), each, "")
				}
			})
		}
		all.Wait()
		return nil
	})
	r := h.Run(t.Context(), it)
	next := map[string]int{}
	for _, line := range r.Lines {
		w := line.Attrs["writer"]
		if line.Attrs["number"] != strconv.Itoa(next[w]) {
			t.Fatalf("writer %s: line %s, want %d", w, line.Attrs["number"], next[w])
		}
		next[w]++
	}
	if len(r.Lines) != writers*each {
		t.Fatalf("%d lines", len(r.Lines))
	}
}

func TestProgressIsThinnedAndItsLastWordKept(t *testing.T) {
	t.Parallel()
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		for i := range 100_000 {
			run.Progress(int64(i+1), 100_000, "page")
		}
		return nil
	})
	r := h.Run(t.Context(), it)
	if n := len(r.Progress); n == 0 || n > 100 || r.Progress[n-1] != (sdktest.Progress{Done: 100_000, Total: 100_000, Note: "page"}) {
		t.Fatalf("%d reports, %+v", n, r.Progress)
	}
}

func TestChildsOutputBecomesLines(t *testing.T) {
	t.Parallel()
	h := host(t, func(ctx context.Context, run *sdk.Run) error {
		child := exec.CommandContext(ctx, "sh", "-c", `printf 'one\r\ntwo\n\nlast'; printf 'bad \377 byte\n' >&2`)
		child.Stdout, child.Stderr = run.Stdout(), run.Stderr()
		return child.Run()
	})
	r := h.Run(t.Context(), it)
	var out, err []string
	for _, line := range r.Lines {
		switch {
		case line.Stream == "stdout" && line.Level == slog.LevelInfo:
			out = append(out, line.Message)
		case line.Stream == "stderr" && line.Level == slog.LevelWarn:
			err = append(err, line.Message)
		default:
			t.Fatalf("%+v", line)
		}
	}
	if strings.Join(out, "|") != "one|two||last" || strings.Join(err, "|") != "bad \uFFFD byte" {
		t.Fatalf("%q %q", out, err)
	}
}

func TestOneLineOf100MBIsCutInBoundedMemory(t *testing.T) {
	// Not parallel: it looks at the memory of the whole process.
	const size = 100 << 20
	var before, after runtime.MemStats
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		runtime.ReadMemStats(&before)
		chunk := bytes.Repeat([]byte("€"), 32<<10/3)
		for left := size; left > 0; {
			n := min(left, len(chunk))
			if _, err := run.Stdout().Write(chunk[:n]); err != nil {
				return err
			}
			left -= n
		}
		runtime.ReadMemStats(&after)
		return nil
	})
	r := h.Run(t.Context(), it)
	if len(r.Lines) != 1 || len(r.Lines[0].Message) > protocol.MaxLineBytes || !utf8.ValidString(r.Lines[0].Message) {
		t.Fatalf("%d lines, %v", len(r.Lines), r.Err)
	}
	cut, err := strconv.Atoi(r.Lines[0].Attrs[protocol.AttrCutBytes])
	if err != nil || cut+len(r.Lines[0].Message) != size {
		t.Fatalf("cut %d of %d, kept %d (%v)", cut, size, len(r.Lines[0].Message), err)
	}
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 16<<20 {
		t.Fatalf("%d MiB allocated", taken>>20)
	}
}

func TestHugeLogLineIsCut(t *testing.T) {
	t.Parallel()
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		run.Log.Info(strings.Repeat("x", 3<<20), "big", strings.Repeat("y", 1<<20))
		return nil
	})
	r := h.Run(t.Context(), it)
	if len(r.Lines) != 1 || len(r.Lines[0].Message) != protocol.MaxLineBytes || len(r.Lines[0].Attrs["big"]) != 16<<10 {
		t.Fatalf("%d lines %v", len(r.Lines), r.Err)
	}
	if r.Lines[0].Attrs[protocol.AttrCutBytes] != strconv.Itoa(2<<20+1<<20-16<<10) {
		t.Fatalf("cut %s", r.Lines[0].Attrs[protocol.AttrCutBytes])
	}
}

func TestAFloodWaitsForTheReader(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	said := 0
	count := func(n int) int { mu.Lock(); defer mu.Unlock(); said += n; return said }
	h := host(t, func(ctx context.Context, run *sdk.Run) error {
		line := strings.Repeat("x", 1000)
		for ctx.Err() == nil {
			run.Log.Info(line)
			count(1)
		}
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := h.Client().Run(ctx, &pluginv1.RunRequest{RunId: "flood", Attempt: 1, TaskType: "Test.It"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	// Nobody reads now. The count must come to rest far below what a second of flooding would say.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for rest, still := -1, 0; still < 10; still++ { // for half a second: on a busy machine the handler may have to wait for its turn
		<-tick.C
		now := count(0)
		if now > 4000 {
			t.Fatalf("%d lines said while nobody read", now)
		}
		if now != rest {
			rest, still = now, 0
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	const dsn, mysql, token = "postgres://gnomon:p%40ss word@db/his", "root:hunter22@tcp(db:3306)/his", "tok-1234567"
	h := sdktest.Start(t, sdk.Plugin{Name: "test", Version: "1.0.0", Types: []sdk.TaskType{raw{"Test.It",
		func(_ context.Context, run *sdk.Run, _ json.RawMessage) (json.RawMessage, error) {
			run.Log.Info("connect "+mysql, "password", "hunter22")
			_, _ = io.WriteString(run.Stdout(), "token "+token+"\n")
			if run.Attempt == 2 {
				return nil, errors.New("login with hunter22 refused")
			}
			return json.Marshal(map[string]string{"used": token})
		}}}})
	grants := map[string]string{"sql:a": dsn, "sql:b": mysql, "token": token, "http": "example.com"}
	for number := 1; number <= 2; number++ {
		r := h.Run(t.Context(), sdktest.Attempt{Type: "Test.It", Number: number, Grants: grants})
		shown := fmt.Sprintf("%+v %s %s", r.Lines, r.Message, r.Output)
		if strings.Contains(shown, "hunter22") || strings.Contains(shown, token) || !strings.Contains(shown, "[redacted]") {
			t.Fatal(shown)
		}
	}
}

func TestHTTPNeedsItsGrant(t *testing.T) {
	t.Parallel()
	fetch := func(ctx context.Context, run *sdk.Run) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:1/", nil)
		if err != nil {
			return err
		}
		response, err := run.HTTPClient().Do(req)
		if err == nil {
			_ = response.Body.Close()
		}
		if _, refused := errors.AsType[*egress.Refused](err); refused {
			return sdk.Permanent(err)
		}
		return err
	}
	h := host(t, fetch)
	for promise, c := range map[string]struct {
		grants  map[string]string
		refused bool
	}{
		"NoGrant":        {nil, true},
		"OtherGrant":     {map[string]string{"http": "*"}, true},
		"UnreadableList": {map[string]string{"http": "http://x"}, true},
		"Listed":         {map[string]string{"http": "127.0.0.1:1"}, false}, // nobody listens there, but it was tried
	} {
		r := h.Run(t.Context(), sdktest.Attempt{Type: "Test.It", Grants: c.grants})
		if r.Verdict != sdktest.Failed || r.Permanent != c.refused {
			t.Errorf("%s: %+v", promise, r)
		}
	}
}
