package simulation_test

import (
	"flag"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/simulation"
)

var (
	seeds = flag.Uint64("seeds", 150, "how many worlds to simulate")
	first = flag.Uint64("first-seed", 1, "seed of the first world; to repeat a failure give its seed and -seeds 1")
)

// TestFiringPromisesHoldInEverySimulatedWorld breaks servers, answers and clocks in every way it can, from seeds.
func TestFiringPromisesHoldInEverySimulatedWorld(t *testing.T) {
	t.Parallel()
	worlds := map[string]simulation.Config{
		"Calm":    {Servers: 1, Length: 2 * time.Minute},
		"Crashes": {Servers: 1, Length: 6 * time.Minute, Crash: 0.002},
		"Lossy":   {Servers: 2, Length: 4 * time.Minute, Crash: 0.001, Lost: 0.05, Repeat: 0.2},
		"Clocks":  {Servers: 3, Length: 8 * time.Minute, Crash: 0.001, Lost: 0.01, Repeat: 0.05, ClockStep: 0.01},
	}
	for name, cfg := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := *first; seed < *first+*seeds; seed++ {
				if broken := simulation.Run(seed, cfg); len(broken) > 0 {
					t.Fatalf("seed %d broke %d promises (repeat: go test ./core/simulation -run /%s -args -first-seed %d -seeds 1):\n%s",
						seed, len(broken), name, seed, broken[0])
				}
			}
		})
	}
}
