package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/prometheus/procfs"
)

// HeartbeatParams are the parameters of Monitor.ServiceHeartbeatStrategy.
type HeartbeatParams struct {
	SilenceSeconds int `json:"silence_seconds,omitempty" doc:"warn when the previous heartbeat is longer ago than this" default:"300" minimum:"1"`
}

// HeartbeatOutput is one heartbeat of the host.
type HeartbeatOutput struct {
	Host          string  `json:"host"`
	BootID        string  `json:"boot_id" doc:"changes when the host restarts"`
	UptimeSeconds float64 `json:"uptime_seconds"`
	BootedAt      string  `json:"booted_at" doc:"RFC 3339, UTC"`
	Load1         float64 `json:"load1"`
	SilentSeconds float64 `json:"silent_seconds" doc:"since the previous heartbeat; 0: this is the first"`
	Processes     int     `json:"processes_running" doc:"runnable at the moment"`
}

var heartbeat = sdk.Define(sdk.Definition{
	Name:        "Monitor.ServiceHeartbeatStrategy",
	Title:       sdk.Text{Zh: "服务端心跳策略", En: "The server's heartbeat"},
	Description: sdk.Text{Zh: "记录主机的心跳：运行时间、启动标识、负载；发现重启和心跳中断。", En: "Records a heartbeat of the host: uptime, boot id and load; notices restarts and silence."},
	Timeout:     30 * time.Second,
	Example:     HeartbeatParams{},
}, beat)

func beat(_ context.Context, run *sdk.Run, p HeartbeatParams) (HeartbeatOutput, error) {
	var out HeartbeatOutput
	host, err := os.Hostname()
	if err != nil {
		return out, err
	}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return out, sdk.Permanent(fmt.Errorf("read /proc: %w", err))
	}
	stat, err := fs.Stat()
	if err != nil {
		return out, err
	}
	load, err := fs.LoadAvg()
	if err != nil {
		return out, err
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return out, err
	}
	now := time.Now().UTC()
	booted := time.Unix(int64(stat.BootTime), 0).UTC()
	out = HeartbeatOutput{
		Host: host, BootID: strings.TrimSpace(string(bootID)), UptimeSeconds: now.Sub(booted).Seconds(),
		BootedAt: booted.Format(time.RFC3339), Load1: load.Load1, Processes: int(stat.ProcessesRunning),
	}
	if !run.PreviousSuccess.IsZero() {
		silence := now.Sub(run.PreviousSuccess)
		out.SilentSeconds = silence.Seconds()
		if silence > time.Duration(p.SilenceSeconds)*time.Second {
			run.Log.Warn("heartbeat was silent", "silent_seconds", int64(silence.Seconds()), "limit_seconds", p.SilenceSeconds)
		}
		if booted.After(run.PreviousSuccess) {
			run.Log.Warn("host has restarted since the previous heartbeat", "booted_at", out.BootedAt)
		}
	}
	run.Log.Info("heartbeat", "host", host, "uptime_hours", round(out.UptimeSeconds/3600), "load1", out.Load1)
	return out, nil
}
