package simulation

import (
	"fmt"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Trace gives everything that happens in a world, as far as an observer sees it.
func Trace(seed uint64) string {
	w := play(seed, "")
	text := fmt.Sprintln(w.serial, w.now, w.broken)
	for _, s := range w.seen.starts {
		text += fmt.Sprintln(s.run.ID, s.run.FireAt, s.run.Attempt, s.run.Token, s.at)
	}
	return text
}

// Tally counts what a world was about.
func Tally(seed uint64, met map[string]int) {
	w := play(seed, "")
	for _, run := range w.store.runs {
		met["trigger "+string(run.Trigger)]++
		if run.Gate != "" {
			met["waited "+string(run.Gate)]++
		}
		if run.Reason != "" {
			met["skipped "+string(run.Reason)]++
		} else {
			met["ended "+string(run.Verdict)]++
		}
	}
	type attempt struct {
		run    string
		number int
	}
	begun := make(map[attempt]bool)
	for _, s := range w.seen.starts {
		met["overlap "+string(s.task.Policies.Overlap)]++
		if s.run.Trigger == core.TriggerCatchUp {
			met["caught up by "+string(s.task.Policies.CatchUp)]++
		}
		if s.run.Attempt > 1 {
			met["retried"]++
		}
		if key := (attempt{s.run.ID, s.run.Attempt}); begun[key] {
			met["resumed"]++
		} else {
			begun[key] = true
		}
	}
	for _, b := range w.store.breakers {
		if !b.OpenedAt.IsZero() {
			met["breaker opened"]++
			if b.State == core.BreakerClosed {
				met["probed"]++
			}
		}
	}
	met["missed by one clock of several"] += w.seen.alone
	met["events"] += w.serial
	met["starts"] += len(w.seen.starts)
}
