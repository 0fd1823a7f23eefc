package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

// WorkParams say how long an attempt works, whether it fails, what it hands on and where it leaves evidence.
type WorkParams struct {
	Path     string         `json:"path,omitempty" doc:"file to append evidence to, an absolute path; none: no evidence" zh:"追加写入证据的文件（绝对路径）；不填则不写"`
	Millis   int            `json:"millis" default:"0" minimum:"0" maximum:"86400000" doc:"milliseconds to work" zh:"工作的毫秒数"`
	FailRate float64        `json:"fail_rate" default:"0" minimum:"0" maximum:"1" doc:"share of attempts that fail, chosen by a hash of run and attempt" zh:"失败的比例，由执行与尝试次数的哈希决定"`
	Fails    string         `json:"fails" default:"failed" enum:"failed,permanent,later,crash,hang" doc:"how they fail: failed, permanent (do not retry), later (retry after one second), crash (the process ends), hang (until it is asked to stop)" zh:"失败方式：failed 普通失败、permanent 不再重试、later 一秒后重试、crash 进程退出、hang 挂起直到被要求停止"`
	Output   map[string]any `json:"output,omitempty" doc:"what a success hands on" zh:"成功时输出的对象"`
}

// Validate wants an absolute path, as Witness does.
func (p *WorkParams) Validate() []sdk.Finding {
	if p.Path == "" || filepath.IsAbs(p.Path) {
		return nil
	}
	return []sdk.Finding{{Path: "path", Message: sdk.Text{Zh: "必须是绝对路径", En: "must be an absolute path"}}}
}

var work = sdk.Define(sdk.Definition{
	Name:  "Bench.Work",
	Title: sdk.Text{Zh: "模拟工作", En: "Work"},
	Description: sdk.Text{
		Zh: "工作一段时间，在开始和结束时写下证据，可按比例失败；用于核对重叠、容量与重试",
		En: "Works for a while and leaves evidence of its start and its end; fails as often as it is told. For checking overlap, capacity and retries",
	},
	Example: WorkParams{Fails: "failed", Output: map[string]any{"rows": 3}},
}, func(ctx context.Context, run *sdk.Run, p WorkParams) (map[string]any, error) {
	if err := leave(run, p.Path, "start,"); err != nil {
		return nil, err
	}
	fails := luck(run.ID, run.Attempt) < p.FailRate
	err := pretend(ctx, run, 0, 0, p.Millis)
	if err == nil && fails {
		err = fail(ctx, p.Fails)
	}
	if ended := leave(run, p.Path, "end,"); ended != nil {
		return nil, ended
	}
	if err != nil {
		return nil, err
	}
	if p.Output == nil {
		return map[string]any{}, nil
	}
	return p.Output, nil
})

// luck is a number in [0, 1) that an attempt always has: the first 53 bits of the SHA-256 of "run/attempt" as a fraction.
func luck(runID string, attempt int) float64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", runID, attempt))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// fail ends the attempt as it was told; after a crash there is nobody left to say that it has ended.
func fail(ctx context.Context, how string) error {
	out := errors.New("out of luck")
	switch how {
	case "permanent":
		return sdk.Permanent(out)
	case "later":
		return sdk.RetryAfter(time.Second, out)
	case "crash":
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		if err := self.Kill(); err != nil {
			return err
		}
		select {} // until the kernel has done it
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	}
	return out
}

// leave appends a line of evidence: start or end, and what testify says.
func leave(run *sdk.Run, path, what string) error {
	if path == "" {
		return nil
	}
	return testify(run, path, what)
}
