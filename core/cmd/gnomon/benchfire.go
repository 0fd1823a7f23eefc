package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// loadsOf gives the tasks for a kind of executor: plugin, lua or both.
func loadsOf(kind string, count int) ([]load, error) {
	plugin, lua := load{"Bench.NoOp", count}, load{"Bench.LuaNoOp", count}
	switch kind {
	case "plugin":
		return []load{plugin}, nil
	case "lua":
		return []load{lua}, nil
	case "both":
		plugin.count, lua.count = count-count/2, count/2
		return []load{plugin, lua}, nil
	}
	return nil, &usageError{fmt.Errorf("--type %s: give plugin, lua or both", kind)}
}

const (
	leadIn = 8 * time.Second // from the making of the tasks to the first fires
	warmUp = 7 * time.Second // of fires that do not count
)

func (s *session) benchFire() *cobra.Command {
	var rate int
	var length time.Duration
	var kind string
	cmd := &cobra.Command{
		Use: "fire", Short: "Lateness at a steady rate of fires", Args: cobra.NoArgs,
		Long: "Makes as many tasks as fires per second are asked for, each due once a second, spread evenly over the second, and\n" +
			"measures from nominal instant to hand-over to the executor and to the beginning of the handler.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			loads, err := loadsOf(kind, rate)
			if err != nil {
				return err
			}
			m, err := s.measure(cmd.Context(), loads, length)
			if err != nil {
				return err
			}
			m.print(s, fmt.Sprintf("fire: %d fires/s for %s, no-op %s", rate, length, kind))
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&rate, "rate", 1000, "fires per second")
	f.DurationVar(&length, "duration", 30*time.Second, "how long to measure")
	f.StringVar(&kind, "type", "both", "no-op tasks of which executor: plugin, lua or both")
	return cmd
}

// usualOffer is a little more than a machine with two cores runs.
var usualOffer = map[string]int{"plugin": 11_000, "lua": 6_000}

func (s *session) benchThroughput() *cobra.Command {
	var rate int
	var length time.Duration
	var kind string
	cmd := &cobra.Command{
		Use: "throughput", Short: "No-op runs per second that are sustained with full history", Args: cobra.NoArgs,
		Long: "Offers more fires per second than the machine can run and counts the runs that ended, and are in history, within\n" +
			"the time measured.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			kinds := []string{kind}
			if kind == "both" {
				kinds = []string{"plugin", "lua"}
			}
			for _, one := range kinds {
				offered := rate
				if offered == 0 {
					offered = usualOffer[one]
				}
				loads, err := loadsOf(one, offered)
				if err != nil {
					return err
				}
				m, err := s.measure(cmd.Context(), loads, length)
				if err != nil {
					return err
				}
				m.print(s, fmt.Sprintf("throughput: no-op %s, %d fires/s offered for %s", one, offered, length))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&rate, "rate", 0, "fires per second offered; 0: a little more than two cores run, by type")
	f.DurationVar(&length, "duration", 20*time.Second, "how long to measure")
	f.StringVar(&kind, "type", "both", "no-op tasks of which executor: plugin, lua, or one after the other")
	return cmd
}

// measurement is what one steady load gave.
type measurement struct {
	usage
	expected, decided, started, succeeded, inHistory float64
	lateness, handler                                []float64 // ms: p50, p99, p99.9, max
}

func (s *session) measure(ctx context.Context, loads []load, length time.Duration) (m measurement, err error) {
	base := time.Now().Add(leadIn)
	count := 0
	for _, l := range loads {
		count += l.count
	}
	fmt.Fprintf(s.err, "making %d tasks, starting a server\n", count)
	b, err := newBench(ctx, s.err, "@every 1s", time.Second, base, loads...)
	if err != nil {
		return m, err
	}
	defer b.stop()
	if _, err := b.start(ctx); err != nil {
		return m, err
	}
	if _, err := b.watch(ctx, time.Until(base.Add(warmUp))); err != nil {
		return m, err
	}
	if m.usage, err = b.watch(ctx, length); err != nil {
		return m, err
	}
	if err := b.settle(ctx, m.began.Add(m.duration)); err != nil {
		return m, err
	}
	from, to := m.began.UnixMicro(), m.began.Add(m.duration).UnixMicro()
	within := func(column string) string {
		return fmt.Sprintf("%s >= fromUnixTimestamp64Micro(%d) AND %s < fromUnixTimestamp64Micro(%d)", column, from, column, to)
	}
	m.expected = float64(count) * m.duration.Seconds()
	row, err := b.ask(ctx, "SELECT sum(fire_count), countIf(decision = 'started') FROM fires WHERE "+within("fire_at"))
	if err != nil {
		return m, err
	}
	m.decided, m.started = row[0], row[1]
	row, err = b.ask(ctx, "SELECT count(), countIf(outcome = 'succeeded') FROM runs WHERE "+within("ended_at"))
	if err != nil {
		return m, err
	}
	m.inHistory, m.succeeded = row[0], row[1]
	const percentiles = "SELECT quantileExact(0.5)(l), quantileExact(0.99)(l), quantileExact(0.999)(l), max(l) FROM (SELECT dateDiff('microsecond', fire_at, %s) / 1000 AS l FROM attempts WHERE attempt = 1 AND %s)"
	if m.lateness, err = b.ask(ctx, fmt.Sprintf(percentiles, "started_at", within("fire_at"))); err != nil {
		return m, err
	}
	m.handler, err = b.ask(ctx, fmt.Sprintf(percentiles, "began_at", within("fire_at")+" AND began_at IS NOT NULL"))
	return m, err
}

func (m measurement) print(s *session, title string) {
	seconds := m.duration.Seconds()
	fmt.Fprintf(s.out, "%s\n", title)
	fmt.Fprintf(s.out, "  fires          %.0f expected, %.0f decided, %.0f started (%.0f/s)\n", m.expected, m.decided, m.started, m.started/seconds)
	fmt.Fprintf(s.out, "  runs ended     %.0f, succeeded %.0f (%.0f/s), all in history\n", m.inHistory, m.succeeded, m.succeeded/seconds)
	for _, line := range []struct {
		what   string
		values []float64
	}{{"lateness       ", m.lateness}, {"handler begins ", m.handler}} {
		fmt.Fprintf(s.out, "  %sp50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms\n", line.what, line.values[0], line.values[1], line.values[2], line.values[3])
	}
	fmt.Fprintf(s.out, "  server         %.0f %% of one CPU, peak RSS %.0f MB (engine, plugins and workers apart)\n", 100*m.cpu.Seconds()/seconds, float64(m.peakRSS)/1e6)
}
