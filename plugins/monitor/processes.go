package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/prometheus/procfs"
)

// ProcessParams are the parameters of Monitor.ServerProcessMonitorPolicy.
type ProcessParams struct {
	Require []ProcessRule `json:"require,omitempty" doc:"processes that must run; the attempt fails when one does not"`
	Top     int           `json:"top,omitempty" doc:"how many of the largest processes to report" default:"5" minimum:"0" maximum:"100"`
}

// ProcessRule says how many processes of a name there must be.
type ProcessRule struct {
	Name string `json:"name" doc:"as in /proc/PID/comm, at most 15 characters"`
	Min  int    `json:"min,omitempty" default:"1" minimum:"0"`
	Max  int    `json:"max,omitempty" doc:"0: any number" default:"0" minimum:"0"`
}

// ProcessOutput is what was found.
type ProcessOutput struct {
	Processes int           `json:"processes"`
	Threads   int           `json:"threads"`
	Largest   []ProcessInfo `json:"largest" doc:"by resident memory"`
	Broken    []string      `json:"broken" doc:"rules that do not hold"`
}

// ProcessInfo is one process.
type ProcessInfo struct {
	PID        int     `json:"pid"`
	Name       string  `json:"name"`
	RSSBytes   uint64  `json:"rss_bytes"`
	CPUSeconds float64 `json:"cpu_seconds" doc:"since it began"`
	Threads    int     `json:"threads"`
}

var processes = sdk.Define(sdk.Definition{
	Name:        "Monitor.ServerProcessMonitorPolicy",
	Title:       sdk.Text{Zh: "服务端进程监控策略", En: "Watch the server's processes"},
	Description: sdk.Text{Zh: "检查必须运行的进程是否在运行，报告占用内存最多的进程。", En: "Checks that required processes run and reports those with the most memory."},
	Timeout:     time.Minute,
	Example:     ProcessParams{Top: 3},
}, watchProcesses)

func watchProcesses(ctx context.Context, run *sdk.Run, p ProcessParams) (ProcessOutput, error) {
	out := ProcessOutput{Broken: []string{}}
	all, err := procfs.AllProcs()
	if err != nil {
		return out, err
	}
	count := make(map[string]int)
	pageBytes := uint64(os.Getpagesize())
	for i, proc := range all {
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		stat, err := proc.Stat()
		if err != nil { // it ended between listing and reading
			continue
		}
		count[stat.Comm]++
		out.Processes++
		out.Threads += stat.NumThreads
		out.Largest = append(out.Largest, ProcessInfo{
			PID: stat.PID, Name: stat.Comm, RSSBytes: uint64(stat.RSS) * pageBytes, CPUSeconds: stat.CPUTime(), Threads: stat.NumThreads,
		})
		run.Progress(int64(i+1), int64(len(all)), "")
	}
	slices.SortFunc(out.Largest, func(a, b ProcessInfo) int { return cmp.Compare(b.RSSBytes, a.RSSBytes) })
	out.Largest = out.Largest[:min(p.Top, len(out.Largest))]
	run.Log.Info("processes counted", "processes", out.Processes, "threads", out.Threads)
	for _, proc := range out.Largest {
		run.Log.Info("large process", "pid", proc.PID, "name", proc.Name, "rss_mib", proc.RSSBytes>>20, "cpu_seconds", round(proc.CPUSeconds))
	}
	for _, rule := range p.Require {
		n := count[rule.Name]
		if n < rule.Min || rule.Max > 0 && n > rule.Max {
			broken := fmt.Sprintf("%s: %d running, wanted %d to %d", rule.Name, n, rule.Min, rule.Max)
			if rule.Max == 0 {
				broken = fmt.Sprintf("%s: %d running, wanted at least %d", rule.Name, n, rule.Min)
			}
			out.Broken = append(out.Broken, broken)
			run.Log.Error("process rule broken", "name", rule.Name, "running", n, "min", rule.Min, "max", rule.Max)
		}
	}
	if len(out.Broken) > 0 {
		return out, fmt.Errorf("%d process rules broken: %s", len(out.Broken), out.Broken[0])
	}
	return out, nil
}
