package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"golang.org/x/sys/unix"
)

// StorageParams are the parameters of Monitor.ServerStorageMonitorPolicy.
type StorageParams struct {
	Paths       []string `json:"paths,omitempty" doc:"any path on each file system to watch" default:"[\"/\"]"`
	WarnPercent float64  `json:"warn_percent,omitempty" doc:"warn above this use" default:"85" minimum:"1" maximum:"100"`
	FailPercent float64  `json:"fail_percent,omitempty" doc:"fail above this use" default:"97" minimum:"1" maximum:"100"`
}

// StorageOutput is what was measured.
type StorageOutput struct {
	FileSystems []FileSystem `json:"file_systems"`
}

// FileSystem is the use of one file system.
type FileSystem struct {
	Path           string  `json:"path"`
	TotalBytes     uint64  `json:"total_bytes"`
	AvailableBytes uint64  `json:"available_bytes" doc:"to ordinary users"`
	UsedPercent    float64 `json:"used_percent" doc:"of what ordinary users could have"`
	FilesPercent   float64 `json:"files_percent" doc:"used inodes; 0 where there is no limit"`
}

var storage = sdk.Define(sdk.Definition{
	Name:        "Monitor.ServerStorageMonitorPolicy",
	Title:       sdk.Text{Zh: "服务端存储监控策略", En: "Watch the server's storage"},
	Description: sdk.Text{Zh: "测量文件系统的使用率和文件数，超过上限时告警或失败。", En: "Measures the use of file systems, in bytes and files, and warns or fails above limits."},
	Timeout:     time.Minute,
	Example:     StorageParams{Paths: []string{"/"}, WarnPercent: 100, FailPercent: 100},
}, watchStorage)

func watchStorage(ctx context.Context, run *sdk.Run, p StorageParams) (StorageOutput, error) {
	var out StorageOutput
	full := 0
	for i, path := range p.Paths {
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		var s unix.Statfs_t
		if err := unix.Statfs(path, &s); err != nil {
			return out, fmt.Errorf("measure the file system of %s: %w", path, err)
		}
		size := uint64(s.Bsize)
		used, available := (s.Blocks-s.Bfree)*size, s.Bavail*size
		fs := FileSystem{Path: path, TotalBytes: s.Blocks * size, AvailableBytes: available, UsedPercent: percent(used, used+available)}
		if s.Files > 0 {
			fs.FilesPercent = percent(s.Files-s.Ffree, s.Files)
		}
		out.FileSystems = append(out.FileSystems, fs)
		attrs := []any{"path", path, "used_percent", round(fs.UsedPercent), "available_gib", available >> 30, "files_percent", round(fs.FilesPercent)}
		switch use := max(fs.UsedPercent, fs.FilesPercent); {
		case use > p.FailPercent:
			full++
			run.Log.Error("file system full", attrs...)
		case use > p.WarnPercent:
			run.Log.Warn("file system filling", attrs...)
		default:
			run.Log.Info("file system measured", attrs...)
		}
		run.Progress(int64(i+1), int64(len(p.Paths)), path)
	}
	if full > 0 {
		return out, fmt.Errorf("%d of %d file systems are more than %g %% full", full, len(p.Paths), p.FailPercent)
	}
	return out, nil
}
