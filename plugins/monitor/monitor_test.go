package main

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

func TestPluginKeepsTheContract(t *testing.T) { sdktest.Exercise(t, plugin()) }

// run runs a type and decodes its output.
func run(t *testing.T, a sdktest.Attempt, out any) sdktest.Result {
	t.Helper()
	result := sdktest.Start(t, plugin()).Run(t.Context(), a)
	if out != nil {
		if result.Verdict != sdktest.Succeeded {
			t.Fatalf("%s: %s %s", a.Type, result.Verdict, result.Message)
		}
		if err := json.Unmarshal(result.Output, out); err != nil {
			t.Fatal(err)
		}
	}
	return result
}

func TestPerformanceMeasuresThisHost(t *testing.T) {
	t.Parallel()
	var out PerformanceOutput
	result := run(t, sdktest.Attempt{Type: "Monitor.ServerPerformanceMonitorPolicy", Params: `{"window_ms":150,"memory_percent":1}`}, &out)
	if out.Cores < 1 || out.MemoryTotalBytes == 0 || out.MemoryUsedBytes == 0 || out.MemoryUsedBytes > out.MemoryTotalBytes || out.CPUPercent < 0 || out.CPUPercent > 100 {
		t.Errorf("impossible figures: %+v", out)
	}
	if out.Warnings == 0 || len(result.Lines) < 2 {
		t.Errorf("memory use above 1 %% was not warned about: %+v", out)
	}
}

func TestProcessesFindsThisOne(t *testing.T) {
	t.Parallel()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	name := string(comm[:len(comm)-1])
	var out ProcessOutput
	run(t, sdktest.Attempt{Type: "Monitor.ServerProcessMonitorPolicy", Params: map[string]any{"require": []any{map[string]any{"name": name}}, "top": 2}}, &out)
	if out.Processes < 1 || len(out.Largest) > 2 || len(out.Broken) != 0 {
		t.Errorf("wrong: %+v", out)
	}
}

func TestMissingProcessFails(t *testing.T) {
	t.Parallel()
	result := run(t, sdktest.Attempt{Type: "Monitor.ServerProcessMonitorPolicy", Params: `{"require":[{"name":"no-such-process"}]}`}, nil)
	if result.Verdict != sdktest.Failed || result.Message == "" {
		t.Errorf("got %s %q", result.Verdict, result.Message)
	}
}

func TestStorageWarnsAndFails(t *testing.T) {
	t.Parallel()
	var out StorageOutput
	run(t, sdktest.Attempt{Type: "Monitor.ServerStorageMonitorPolicy", Params: `{"paths":["/","/proc/self"],"warn_percent":100,"fail_percent":100}`}, &out)
	if len(out.FileSystems) != 2 || out.FileSystems[0].TotalBytes == 0 || out.FileSystems[0].UsedPercent <= 0 {
		t.Errorf("impossible figures: %+v", out)
	}
	full := run(t, sdktest.Attempt{Type: "Monitor.ServerStorageMonitorPolicy", Params: `{"paths":["/"],"warn_percent":1,"fail_percent":1}`}, nil)
	if full.Verdict != sdktest.Failed {
		t.Errorf("a file system above its limit: %s", full.Verdict)
	}
	missing := run(t, sdktest.Attempt{Type: "Monitor.ServerStorageMonitorPolicy", Params: `{"paths":["/no/such/path"]}`}, nil)
	if missing.Verdict != sdktest.Failed {
		t.Errorf("a path that does not exist: %s", missing.Verdict)
	}
}

func TestHeartbeatNoticesSilence(t *testing.T) {
	t.Parallel()
	var out HeartbeatOutput
	result := run(t, sdktest.Attempt{
		Type: "Monitor.ServiceHeartbeatStrategy", Params: `{"silence_seconds":60}`, PreviousSuccess: time.Now().Add(-10 * time.Minute),
	}, &out)
	if out.Host == "" || out.BootID == "" || out.UptimeSeconds <= 0 || out.SilentSeconds < 590 {
		t.Errorf("impossible figures: %+v", out)
	}
	for _, line := range result.Lines {
		if line.Message == "heartbeat was silent" {
			return
		}
	}
	t.Error("ten minutes of silence were not warned about")
}
