package simulation_test

import (
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/simulation"
)

var (
	seeds = flag.Uint64("seeds", 10_000, "how many worlds to simulate")
	first = flag.Uint64("first-seed", 1, "seed of the first world; to repeat a failure give its seed and -seeds 1")
)

// TestFiringPromisesHoldInEverySimulatedWorld breaks servers, answers and clocks in every way it can, and has people
// change things meanwhile, from seeds.
func TestFiringPromisesHoldInEverySimulatedWorld(t *testing.T) {
	t.Parallel()
	var next, failed atomic.Uint64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for failed.Load() < 3 {
				n := next.Add(1) - 1
				if n >= *seeds {
					return
				}
				seed := *first + n
				if broken := simulation.Run(seed); len(broken) > 0 {
					failed.Add(1)
					t.Errorf("seed %d broke %d promises (repeat: go test ./core/simulation -run TestFiring -count=1 -args -first-seed %d -seeds 1):\n%s",
						seed, len(broken), seed, broken[0])
				}
			}
		})
	}
	all.Wait()
}

// TestAWorldFollowsFromItsSeedAlone runs worlds twice, so that a failing seed fails again.
func TestAWorldFollowsFromItsSeedAlone(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		if a, b := simulation.Trace(seed), simulation.Trace(seed); a != b {
			t.Errorf("seed %d gives two worlds", seed)
		}
	}
}

// TestTheChecksNoticeWhatIsBrokenOnPurpose proves that each promise has teeth.
func TestTheChecksNoticeWhatIsBrokenOnPurpose(t *testing.T) {
	t.Parallel()
	for _, mutant := range simulation.Mutants() {
		t.Run(string(mutant), func(t *testing.T) {
			t.Parallel()
			const enough = 5000
			for seed := range uint64(enough) {
				if broken := simulation.RunMutant(seed+1, mutant); len(broken) > 0 {
					t.Logf("noticed in world %d: %s", seed+1, broken[0])
					return
				}
			}
			t.Errorf("nothing was noticed in %d worlds", enough)
		})
	}
}

// TestTheWorldsMeetEverySituation keeps the worlds from becoming harmless.
func TestTheWorldsMeetEverySituation(t *testing.T) {
	t.Parallel()
	met := make(map[string]int)
	for seed := range uint64(1000) {
		simulation.Tally(seed+1, met)
	}
	for _, what := range []string{
		"trigger schedule", "trigger catch_up", "trigger manual", "trigger backfill", "trigger upstream",
		"overlap skip", "overlap queue", "overlap cancel_previous", "overlap terminate_previous", "overlap allow",
		"caught up by latest", "caught up by all", "retried", "resumed", "breaker opened", "probed",
		"ended succeeded", "ended failed", "ended timed_out", "ended crashed", "ended cancelled", "ended lost",
		"waited overlap", "waited precondition", "waited breaker", "waited capacity",
		"skipped overlap", "skipped catch_up", "skipped nonexistent_local_time", "skipped calendar", "skipped paused", "skipped max_runs",
		"skipped precondition", "skipped breaker", "skipped capacity", "skipped superseded", "skipped disabled", "missed by one clock of several",
	} {
		if met[what] < 3 {
			t.Errorf("%s: %d times in 1,000 worlds", what, met[what])
		}
	}
	t.Logf("%d starts, %d events", met["starts"], met["events"])
}
