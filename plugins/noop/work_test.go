package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

// records reads evidence: for each run the times of its start and its end, monotonic nanoseconds; 0: it has none.
func records(t *testing.T, path string) map[string][2]int64 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string][2]int64{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		if len(fields) != 7 || fields[1] != "2026-03-08T07:00:00Z" || fields[3] != "7" || fields[4] == "" {
			t.Fatalf("line %q", line)
		}
		at, err := strconv.ParseInt(fields[5], 10, 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		one := seen[fields[6]]
		switch {
		case fields[0] == "start" && one[0] == 0:
			one[0] = at
		case fields[0] == "end" && one[0] != 0 && one[1] == 0:
			one[1] = at
		default:
			t.Fatalf("line %q out of order", line)
		}
		seen[fields[6]] = one
	}
	return seen
}

func attempt(run string, p WorkParams) sdktest.Attempt {
	if p.Fails == "" {
		p.Fails = "failed"
	}
	return sdktest.Attempt{Type: "Bench.Work", Params: p, RunID: run, Number: 2, Token: 7, FireAt: time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC)}
}

func TestWorkLeavesItsStartAndItsEnd(t *testing.T) {
	t.Parallel()
	host := sdktest.Start(t, plugin())
	path := filepath.Join(t.TempDir(), "evidence.csv")
	const runs = 20
	var all sync.WaitGroup
	for i := range runs {
		all.Go(func() {
			result := host.Run(t.Context(), attempt(fmt.Sprint("run-", i), WorkParams{Path: path, Millis: 50, Output: map[string]any{"n": i}}))
			if result.Verdict != sdktest.Succeeded || string(result.Output) != fmt.Sprintf(`{"n":%d}`, i) {
				t.Errorf("run %d: %s %s %v", i, result.Message, result.Output, result.Err)
			}
		})
	}
	all.Wait()
	seen := records(t, path)
	for run, at := range seen {
		if took := time.Duration(at[1] - at[0]); took < 50*time.Millisecond {
			t.Errorf("%s worked for %v", run, took)
		}
	}
	if len(seen) != runs {
		t.Errorf("%d runs left evidence", len(seen))
	}
	if result := host.Run(t.Context(), attempt("no evidence", WorkParams{})); result.Verdict != sdktest.Succeeded || string(result.Output) != "{}" {
		t.Errorf("%s %s", result.Message, result.Output)
	}
}

func TestWorkFailsAsOftenAsItIsTold(t *testing.T) {
	t.Parallel()
	host := sdktest.Start(t, plugin())
	failed := 0
	for i := range 400 {
		run := fmt.Sprint("run-", i)
		first := host.Run(t.Context(), attempt(run, WorkParams{FailRate: 0.25}))
		again := host.Run(t.Context(), attempt(run, WorkParams{FailRate: 0.25}))
		if first.Verdict != again.Verdict || (first.Verdict == sdktest.Failed) != (luck(run, 2) < 0.25) {
			t.Fatalf("%s: %s, then %s", run, first.Verdict, again.Verdict)
		}
		if first.Verdict == sdktest.Failed {
			failed++
		}
	}
	if failed < 60 || failed > 140 {
		t.Errorf("%d of 400 failed", failed)
	}
	if host.Run(t.Context(), attempt("never", WorkParams{})).Verdict != sdktest.Succeeded || host.Run(t.Context(), attempt("always", WorkParams{FailRate: 1})).Verdict != sdktest.Failed {
		t.Error("0 and 1 are not never and always")
	}
	if luck("r", 1) == luck("r", 2) {
		t.Error("a second attempt has the luck of the first")
	}
}

func TestWorkFailsTheWayItIsTold(t *testing.T) {
	t.Parallel()
	host := sdktest.Start(t, plugin())
	path := filepath.Join(t.TempDir(), "evidence.csv")
	if result := host.Run(t.Context(), attempt("permanent", WorkParams{Path: path, FailRate: 1, Fails: "permanent"})); !result.Permanent {
		t.Errorf("%+v", result)
	}
	if result := host.Run(t.Context(), attempt("later", WorkParams{Path: path, FailRate: 1, Fails: "later"})); result.RetryAfter != time.Second {
		t.Errorf("%+v", result)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("enough"))
	defer cancel()
	if result := host.Run(ctx, attempt("hang", WorkParams{Path: path, FailRate: 1, Fails: "hang"})); result.Verdict == sdktest.Succeeded {
		t.Errorf("%+v", result)
	}
	for run, at := range records(t, path) {
		if at[1] == 0 {
			t.Errorf("%s has no end", run)
		}
	}
	for _, wrong := range []string{`{"path":"relative"}`, `{"fail_rate":2}`, `{"fails":"somehow"}`, `{"millis":-1}`, `{"output":[1]}`} {
		if found := host.Validate(t.Context(), "Bench.Work", wrong); len(found) != 1 {
			t.Errorf("%s: %+v", wrong, found)
		}
	}
}
