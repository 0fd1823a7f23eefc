package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

// WitnessParams say where the evidence goes.
type WitnessParams struct {
	Path    string `json:"path" minLength:"1" doc:"file to append to, an absolute path" zh:"追加写入的文件（绝对路径）"`
	Lines   int    `json:"lines" default:"0" minimum:"0" maximum:"1000000" doc:"log lines to say" zh:"输出的日志行数"`
	Tally   string `json:"tally,omitempty" doc:"file to append to how many lines were said so far, each 200 lines and at the end; an absolute path; empty: none" zh:"每说 200 行以及结束时，把已输出的行数追加写入的文件（绝对路径）；空：不写"`
	SleepMS int    `json:"sleep_ms" default:"0" minimum:"0" maximum:"86400000" doc:"milliseconds to sleep after the evidence is written" zh:"写入后休眠的毫秒数"`
}

// Validate wants an absolute path: a plugin's working folder is nobody's.
func (p *WitnessParams) Validate() []sdk.Finding {
	var found []sdk.Finding
	for field, path := range map[string]string{"path": p.Path, "tally": p.Tally} {
		if !filepath.IsAbs(path) && (path != "" || field == "path") {
			found = append(found, sdk.Finding{Path: field, Message: sdk.Text{Zh: "必须是绝对路径", En: "must be an absolute path"}})
		}
	}
	return found
}

// tallyEvery is how many lines are said between two lines of the tally.
const tallyEvery = 200

var witness = sdk.Define(sdk.Definition{
	Name:  "Bench.Witness",
	Title: sdk.Text{Zh: "见证任务", En: "Witness"},
	Description: sdk.Text{
		Zh: "把每次执行追加写入文件并同步到磁盘，用于故障测试中核对调度结果",
		En: "Appends every attempt to a synced file; a checker compares it with what should have run",
	},
}, func(ctx context.Context, run *sdk.Run, p WitnessParams) (sdk.None, error) {
	if err := testify(run, p.Path, ""); err != nil {
		return sdk.None{}, err
	}
	if p.Tally == "" {
		return sdk.None{}, pretend(ctx, run, p.Lines, 0, p.SleepMS)
	}
	for said := 0; said < p.Lines; {
		for range min(tallyEvery, p.Lines-said) {
			said++
			run.Log.Info("line", "number", said)
		}
		// Whatever becomes of this process or of Gnomon, the kernel has the line.
		if err := appendTo(p.Tally, fmt.Sprintf("%s,%d,%d\n", run.ID, run.Attempt, said), false); err != nil {
			return sdk.None{}, err
		}
		if ctx.Err() != nil {
			return sdk.None{}, ctx.Err()
		}
	}
	return sdk.None{}, pretend(ctx, run, 0, 0, p.SleepMS)
})

// testify appends one line: what, then fire,attempt,token,host,monotonic_ns,run_id. One write with O_APPEND is whole or absent even
// when many attempts write at once, and it is on disk before the attempt says or does anything else.
func testify(run *sdk.Run, path, what string) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	clock, err := monotonic()
	if err != nil {
		return fmt.Errorf("monotonic clock: %w", err)
	}
	line := fmt.Sprintf("%s%s,%d,%d,%s/%d,%d,%s\n", what, run.FireAt.UTC().Format(time.RFC3339Nano), run.Attempt, run.Token,
		strings.ReplaceAll(host, ",", "_"), os.Getpid(), clock, run.ID)
	return appendTo(path, line, true)
}

func appendTo(path, line string, sync bool) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return sdk.Permanent(err)
	}
	if _, err = file.WriteString(line); err == nil && sync {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}
