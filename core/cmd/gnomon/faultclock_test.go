package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTheFaultClockMovesTheWallTimeOnly: differences of times go by the monotonic clock, which no step touches.
func TestTheFaultClockMovesTheWallTimeOnly(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{time.Second, -time.Second, time.Hour, -time.Hour, 400 * 24 * time.Hour, -400 * 24 * time.Hour} {
		path := filepath.Join(t.TempDir(), "clock")
		if err := os.WriteFile(path, []byte(step.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		clock := newFaultClock(path, slog.New(slog.DiscardHandler))
		before, moved := time.Now(), clock.Now()
		if wall := moved.Round(0).Sub(before.Round(0)); wall < step || wall > step+time.Minute {
			t.Errorf("the wall time moved by %s; want %s", wall, step)
		}
		if mono := moved.Sub(before); mono < 0 || mono > time.Minute {
			t.Errorf("the monotonic time moved by %s", mono)
		}
	}
}
