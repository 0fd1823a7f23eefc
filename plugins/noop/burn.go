package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

// BurnParams say what an attempt takes from its neighbours.
type BurnParams struct {
	MemoryMiB int `json:"memory_mib" default:"0" minimum:"0" maximum:"65536" doc:"MiB of memory to hold, every page of it touched" zh:"占用并写满的内存（MiB）"`
	CPUMS     int `json:"cpu_ms" default:"0" minimum:"0" maximum:"3600000" doc:"milliseconds of CPU time to burn, about" zh:"大约消耗的 CPU 毫秒数"`
	SleepMS   int `json:"sleep_ms" default:"0" minimum:"0" maximum:"86400000" doc:"milliseconds to hold the memory after that" zh:"之后继续占用内存的毫秒数"`
}

var burnType = sdk.Define(sdk.Definition{
	Name:  "Bench.Burn",
	Title: sdk.Text{Zh: "吵闹的邻居", En: "Noisy neighbour"},
	Description: sdk.Text{
		Zh: "占用内存并消耗 CPU，用于验证能否看出是谁在影响别人",
		En: "Takes memory and CPU time, to see whether who disturbs the others can be told",
	},
	Example: BurnParams{MemoryMiB: 64, CPUMS: 200},
}, func(ctx context.Context, run *sdk.Run, p BurnParams) (sdk.None, error) {
	const page = 4096
	held := make([]byte, p.MemoryMiB<<20)
	for at := 0; at < len(held); at += page {
		held[at] = 1
		if at%(64<<20) == 0 && ctx.Err() != nil {
			return sdk.None{}, ctx.Err()
		}
	}
	err := burn(ctx, time.Duration(p.CPUMS)*time.Millisecond)
	if err == nil {
		err = pretend(ctx, run, 0, 0, p.SleepMS)
	}
	runtime.KeepAlive(held)
	debug.FreeOSMemory() // what runs next in this process is not to be taken for as large
	return sdk.None{}, err
})
