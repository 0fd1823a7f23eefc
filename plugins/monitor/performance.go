package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/prometheus/procfs"
)

// PerformanceParams are the parameters of Monitor.ServerPerformanceMonitorPolicy.
type PerformanceParams struct {
	WindowMS      int     `json:"window_ms,omitempty" doc:"how long the processors are watched, milliseconds" default:"500" minimum:"100" maximum:"60000"`
	CPUPercent    float64 `json:"cpu_percent,omitempty" doc:"warn when the processors are busier than this" default:"95" minimum:"1" maximum:"100"`
	MemoryPercent float64 `json:"memory_percent,omitempty" doc:"warn when more memory than this is in use" default:"95" minimum:"1" maximum:"100"`
	LoadPerCore   float64 `json:"load_per_core,omitempty" doc:"warn when the one-minute load, per processor, is higher" default:"4" minimum:"0.1"`
}

// PerformanceOutput is what was measured.
type PerformanceOutput struct {
	CPUPercent       float64 `json:"cpu_percent" doc:"busy time of all processors during the window"`
	Cores            int     `json:"cores"`
	Load1            float64 `json:"load1" doc:"load average over one minute"`
	MemoryTotalBytes uint64  `json:"memory_total_bytes"`
	MemoryUsedBytes  uint64  `json:"memory_used_bytes" doc:"total minus available"`
	MemoryPercent    float64 `json:"memory_percent"`
	SwapUsedBytes    uint64  `json:"swap_used_bytes"`
	Warnings         int     `json:"warnings" doc:"figures above their limit"`
}

var performance = sdk.Define(sdk.Definition{
	Name:        "Monitor.ServerPerformanceMonitorPolicy",
	Title:       sdk.Text{Zh: "服务端性能监控策略", En: "Watch the server's performance"},
	Description: sdk.Text{Zh: "测量处理器、内存和负载，超过上限时告警。", En: "Measures processors, memory and load, and warns above limits."},
	Timeout:     2 * time.Minute,
	Example:     PerformanceParams{WindowMS: 100},
}, watchPerformance)

func watchPerformance(ctx context.Context, run *sdk.Run, p PerformanceParams) (PerformanceOutput, error) {
	var out PerformanceOutput
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return out, sdk.Permanent(fmt.Errorf("read /proc: %w", err))
	}
	before, err := fs.Stat()
	if err != nil {
		return out, err
	}
	select {
	case <-ctx.Done():
		return out, context.Cause(ctx)
	case <-time.After(time.Duration(p.WindowMS) * time.Millisecond):
	}
	after, err := fs.Stat()
	if err != nil {
		return out, err
	}
	load, err := fs.LoadAvg()
	if err != nil {
		return out, err
	}
	memory, err := fs.Meminfo()
	if err != nil {
		return out, err
	}
	out.CPUPercent, out.Cores, out.Load1 = busyPercent(before.CPUTotal, after.CPUTotal), len(after.CPU), load.Load1
	out.MemoryTotalBytes = deref(memory.MemTotalBytes)
	out.MemoryUsedBytes = out.MemoryTotalBytes - min(deref(memory.MemAvailableBytes), out.MemoryTotalBytes)
	out.SwapUsedBytes = deref(memory.SwapTotalBytes) - min(deref(memory.SwapFreeBytes), deref(memory.SwapTotalBytes))
	out.MemoryPercent = percent(out.MemoryUsedBytes, out.MemoryTotalBytes)
	run.Log.Info("host measured", "cpu_percent", round(out.CPUPercent), "memory_percent", round(out.MemoryPercent), "load1", out.Load1, "cores", out.Cores)
	for _, check := range []struct {
		what         string
		value, limit float64
	}{
		{"processors are busy", out.CPUPercent, p.CPUPercent},
		{"memory is short", out.MemoryPercent, p.MemoryPercent},
		{"load is high", out.Load1 / float64(max(out.Cores, 1)), p.LoadPerCore},
	} {
		if check.value > check.limit {
			out.Warnings++
			run.Log.Warn(check.what, "value", round(check.value), "limit", check.limit)
		}
	}
	return out, nil
}

func busyPercent(before, after procfs.CPUStat) float64 {
	total := func(s procfs.CPUStat) float64 {
		return s.User + s.Nice + s.System + s.Idle + s.Iowait + s.IRQ + s.SoftIRQ + s.Steal
	}
	span := total(after) - total(before)
	if span <= 0 {
		return 0
	}
	idle := after.Idle + after.Iowait - before.Idle - before.Iowait
	return min(100, max(0, 100*(span-idle)/span)) // the kernel's idle and iowait may run back a little: proc_stat(5)
}

func deref(p *uint64) uint64 {
	if p == nil {
		return 0
	}
	return *p
}

func percent(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

func round(f float64) float64 { return float64(int64(f*10+0.5)) / 10 }
