// Command noop is a plugin for measuring and testing Gnomon itself: Bench.NoOp does nothing, Bench.Witness leaves
// evidence outside Gnomon of every attempt it made, Bench.Work of when each began and ended, and fails as it
// is told, Bench.Burn takes memory and CPU time.
package main

import "github.com/gnomon-scheduler/gnomon/sdk"

func main() { sdk.Serve(plugin()) }

func plugin() sdk.Plugin {
	return sdk.Plugin{Name: "noop", Version: "1.3.0", Types: []sdk.TaskType{noOp, witness, work, burnType}}
}
