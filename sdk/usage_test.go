//go:build linux

package sdk_test

import (
	"context"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

func TestUsageSaysHowItWasObtained(t *testing.T) {
	// Not parallel: other attempts in this process are what it is about.
	var sink uint64
	work := func() uint64 { // the same CPU time however busy the machine is
		x := uint64(1)
		for range 30_000_000 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		return x
	}
	meet := make(chan struct{})
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		if run.TaskName == "together" {
			select {
			case meet <- struct{}{}:
			case <-meet:
			}
		}
		atomic.AddUint64(&sink, work())
		return nil
	})
	alone := h.Run(t.Context(), it).Usage
	if alone.GetCpuSource() != pluginv1.UsageSource_USAGE_SOURCE_MEASURED || alone.GetIoSource() != pluginv1.UsageSource_USAGE_SOURCE_MEASURED {
		t.Fatalf("alone: %v", alone)
	}
	if cpu := alone.GetCpu().AsDuration(); cpu < 5*time.Millisecond || cpu > time.Second {
		t.Fatalf("cpu %v", cpu)
	}
	if alone.GetRssSource() == pluginv1.UsageSource_USAGE_SOURCE_UNSPECIFIED || alone.GetPeakRssBytes() < 1<<20 {
		t.Fatalf("alone: %v", alone)
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			u := h.Run(t.Context(), sdktest.Attempt{Type: "Test.It", TaskName: "together"}).Usage
			if u.GetCpuSource() != pluginv1.UsageSource_USAGE_SOURCE_SHARED || u.GetRssSource() != pluginv1.UsageSource_USAGE_SOURCE_SHARED {
				t.Errorf("together: %v", u)
			}
		})
	}
	both.Wait()
}

func TestChildrensCPUIsTheAttempts(t *testing.T) {
	h := host(t, func(ctx context.Context, _ *sdk.Run) error {
		return exec.CommandContext(ctx, "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").Run()
	})
	if cpu := h.Run(t.Context(), it).Usage.GetCpu().AsDuration(); cpu < 10*time.Millisecond {
		t.Fatalf("cpu %v", cpu)
	}
}

func TestNewMemoryIsThePeakOfAnAttemptAlone(t *testing.T) {
	h := host(t, func(_ context.Context, run *sdk.Run) error {
		if run.Attempt == 1 {
			big := make([]byte, 64<<20)
			for i := 0; i < len(big); i += 4096 {
				big[i] = 1
			}
			runtime.KeepAlive(big)
		}
		return nil
	})
	u := h.Run(t.Context(), it).Usage
	if u.GetPeakRssBytes() < 64<<20 {
		t.Fatalf("%v", u)
	}
}
