package main

import (
	"context"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

// NoOpParams say what an attempt pretends to do; without any it ends at once.
type NoOpParams struct {
	Lines    int `json:"lines" default:"0" minimum:"0" maximum:"10000000" doc:"log lines to say" zh:"输出的日志行数"`
	LineRate int `json:"line_rate" default:"0" minimum:"0" maximum:"1000000" doc:"lines to say in a second, evenly; 0: as fast as they are taken" zh:"每秒输出的行数，均匀输出；0 表示不限速"`
	SleepMS  int `json:"sleep_ms" default:"0" minimum:"0" maximum:"86400000" doc:"milliseconds to sleep" zh:"休眠毫秒数"`
	CPUMS    int `json:"cpu_ms" default:"0" minimum:"0" maximum:"3600000" doc:"milliseconds of CPU time to burn, about" zh:"大约消耗的 CPU 毫秒数"`
}

var noOp = sdk.Define(sdk.Definition{
	Name:        "Bench.NoOp",
	Title:       sdk.Text{Zh: "空任务", En: "No operation"},
	Description: sdk.Text{Zh: "什么也不做，用于测量调度器本身", En: "Does nothing; for measuring the scheduler itself"},
	Example:     NoOpParams{Lines: 2},
}, func(ctx context.Context, run *sdk.Run, p NoOpParams) (sdk.None, error) {
	if err := pretend(ctx, run, p.Lines, p.LineRate, p.SleepMS); err != nil {
		return sdk.None{}, err
	}
	return sdk.None{}, burn(ctx, time.Duration(p.CPUMS)*time.Millisecond)
})

// pretend says some lines, at most rate in a second unless that is 0, and sleeps.
func pretend(ctx context.Context, run *sdk.Run, lines, rate, sleepMS int) error {
	began := time.Now()
	for i := range lines {
		if rate > 0 {
			if err := sleep(ctx, time.Until(began.Add(time.Duration(i)*time.Second/time.Duration(rate)))); err != nil {
				return err
			}
		}
		run.Log.Info("line", "number", i+1)
		if i%1024 == 1023 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return sleep(ctx, time.Duration(sleepMS)*time.Millisecond)
}

// sleep waits d, if that is worth a timer, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d < time.Millisecond {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// burn keeps a core busy for a while.
func burn(ctx context.Context, span time.Duration) error {
	if span <= 0 {
		return nil
	}
	x := uint64(1)
	for end := time.Now().Add(span); time.Now().Before(end); {
		for range 10_000 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		if x == 0 || ctx.Err() != nil { // x never becomes 0; the question keeps the loop from being optimised away
			return ctx.Err()
		}
	}
	return nil
}
