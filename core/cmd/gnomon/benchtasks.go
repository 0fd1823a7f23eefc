package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func (s *session) benchTasks() *cobra.Command {
	var count int
	var length time.Duration
	cmd := &cobra.Command{
		Use: "tasks", Short: "Start time, memory and idle load with very many tasks", Args: cobra.NoArgs,
		Long: "Loads tasks that are due once a day, none of them while it measures, and starts a server on them.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			began := time.Now()
			fmt.Fprintf(s.err, "loading %d tasks\n", count)
			b, err := newBench(ctx, s.err, "@every 24h", 12*time.Hour, time.Now().Add(6*time.Hour), load{"Bench.NoOp", count})
			if err != nil {
				return err
			}
			defer b.stop()
			loaded := time.Since(began)
			took, err := b.start(ctx)
			if err != nil {
				return err
			}
			if _, err := b.watch(ctx, 5*time.Second); err != nil { // what follows the start is not idleness
				return err
			}
			u, err := b.watch(ctx, length)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "tasks: %d\n  loaded in      %.1f s (%.0f/s)\n  start          %.2f s until tasks are scheduled\n"+
				"  idle           %.2f %% of one CPU, RSS %.0f MB\n", count, loaded.Seconds(), float64(count)/loaded.Seconds(),
				took.Seconds(), 100*u.cpu.Seconds()/u.duration.Seconds(), float64(u.peakRSS)/1e6)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&count, "count", 1_000_000, "tasks")
	f.DurationVar(&length, "duration", 30*time.Second, "how long to watch the idle server")
	return cmd
}
