package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

func TestPluginKeepsTheContract(t *testing.T) {
	t.Parallel()
	sdktest.Exercise(t, plugin())
}

func TestNoOpThatSaysNothingSendsOneMessage(t *testing.T) {
	t.Parallel()
	host := sdktest.Start(t, plugin())
	result := host.Run(t.Context(), sdktest.Attempt{Type: "Bench.NoOp"})
	if result.Verdict != sdktest.Succeeded || result.Messages != 1 {
		t.Fatalf("got %d messages and %q, want 1 and succeeded", result.Messages, result.Verdict)
	}
}

func TestNoOpSaysItsLinesInOrder(t *testing.T) {
	t.Parallel()
	host := sdktest.Start(t, plugin())
	result := host.Run(t.Context(), sdktest.Attempt{Type: "Bench.NoOp", Params: NoOpParams{Lines: 5000, CPUMS: 2}})
	if len(result.Lines) != 5000 {
		t.Fatalf("got %d lines, want 5000", len(result.Lines))
	}
	for i, line := range result.Lines {
		if line.Attrs["number"] != fmt.Sprint(i+1) {
			t.Fatalf("line %d has number %s", i+1, line.Attrs["number"])
		}
	}
}

func TestBurnHoldsItsMemoryAndBurnsItsTime(t *testing.T) {
	t.Parallel()
	var u *pluginv1.Usage
	stream, err := dial(t).Run(t.Context(), &pluginv1.RunRequest{RunId: "burn", Attempt: 1, TaskType: "Bench.Burn", Params: []byte(`{"memory_mib":96,"cpu_ms":100,"sleep_ms":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	for u == nil {
		event, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		u = event.GetOutcome().GetUsage()
	}
	if u.GetPeakRssBytes() < 96<<20 || u.GetCpu().AsDuration() < 20*time.Millisecond || u.GetCpuSource() != pluginv1.UsageSource_USAGE_SOURCE_MEASURED {
		t.Errorf("%v", u)
	}
}

func TestWitnessWantsAnAbsolutePath(t *testing.T) {
	t.Parallel()
	host := sdktest.Start(t, plugin())
	wrong := host.Validate(t.Context(), "Bench.Witness", `{"path":"evidence.csv"}`)
	if len(wrong) != 1 || wrong[0].Path != "path" {
		t.Fatalf("findings: %+v", wrong)
	}
}

func TestWitnessLeavesOneWholeLinePerAttempt(t *testing.T) {
	t.Parallel()
	host := sdktest.Start(t, plugin())
	path := filepath.Join(t.TempDir(), "evidence.csv")
	fire := time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC)
	const attempts = 40
	var all sync.WaitGroup
	for i := range attempts {
		all.Go(func() {
			result := host.Run(t.Context(), sdktest.Attempt{
				Type: "Bench.Witness", Params: WitnessParams{Path: path}, RunID: fmt.Sprintf("run-%d", i), Number: 2, Token: 7, FireAt: fire,
			})
			if result.Verdict != sdktest.Succeeded {
				t.Errorf("run %d: %s %v", i, result.Message, result.Err)
			}
		})
	}
	all.Wait()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		if len(fields) != 6 || fields[0] != "2026-03-08T07:00:00Z" || fields[1] != "2" || fields[2] != "7" || fields[3] == "" || fields[4] == "0" {
			t.Fatalf("line %q", line)
		}
		seen[fields[5]] = true
	}
	if len(seen) != attempts {
		t.Fatalf("%d runs left evidence, want %d", len(seen), attempts)
	}
}
