package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
	"github.com/gnomon-scheduler/gnomon/core/sampler"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

func (s *session) benchIngest() *cobra.Command {
	var length, outage time.Duration
	var writers, rate int
	cmd := &cobra.Command{
		Use: "ingest", Short: "Log lines per second through spool and engine", Args: cobra.NoArgs,
		Long: "Writes log lines through the durable spool into the embedded engine, in one process without scheduler, and counts\n" +
			"them in ClickHouse. With --outage the engine is stopped for that long in the middle; nothing may be lost.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.ingest(cmd.Context(), length, outage, writers, rate)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&length, "duration", 20*time.Second, "how long to write")
	f.DurationVar(&outage, "outage", 0, "how long the engine is stopped meanwhile")
	f.IntVar(&writers, "writers", 4, "runs that write at once")
	f.IntVar(&rate, "rate", 0, "lines per second offered; 0: as many as are taken")
	return cmd
}

func (s *session) ingest(ctx context.Context, length, outage time.Duration, writers, rate int) (err error) {
	dir, err := os.MkdirTemp("", "gnomon-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelError}))
	eng, err := engine.NewSupervisor(engine.SupervisorOptions{Dir: filepath.Join(dir, "history"), Socket: filepath.Join(dir, "engine.sock"), Log: log})
	if err != nil {
		return err
	}
	if err := eng.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, eng.Stop(context.WithoutCancel(ctx))) }()
	history, err := clickhouse.Open(ctx, clickhouse.Options{Socket: eng.Socket(), Log: log})
	if err != nil {
		return err
	}
	defer func() { _ = history.Close() }()
	spool, err := recorder.New(recorder.Options{Dir: filepath.Join(dir, "spool"), Log: log, Shipper: history, MaxBytes: 16 << 30})
	if err != nil {
		return err
	}
	if err := spool.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Stop(context.WithoutCancel(ctx))) }()

	before, err := sampler.Process(os.Getpid())
	if err != nil {
		return err
	}
	began := time.Now()
	var written, peak atomic.Int64
	group, writing := errgroup.WithContext(ctx)
	deadline, stop := context.WithTimeout(writing, length+outage)
	defer stop()
	for i := range writers {
		group.Go(func() error { return writeLines(deadline, spool, i, rate/writers, &written) })
	}
	group.Go(func() error { return s.report1s(deadline, spool, &written, &peak) })
	if outage > 0 {
		group.Go(func() error { return interrupt(deadline, eng, length/3, outage) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	wrote := time.Since(began)
	for spool.Stats().Unshipped > 1 || spool.Stats().UnshippedBytes > 1<<20 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	took := time.Since(began)
	time.Sleep(2 * time.Second) // the last segment is sealed by its age
	after, err := sampler.Process(os.Getpid())
	if err != nil {
		return err
	}
	count, distinct, highest, err := countLines(ctx, history)
	if err != nil {
		return err
	}
	lines := written.Load()
	fmt.Fprintf(s.out, "ingest: %d writers for %s, engine stopped for %s\n", writers, length+outage, outage)
	fmt.Fprintf(s.out, "  written        %d lines in %.1f s (%.0f lines/s), all in ClickHouse after %.1f s (%.0f lines/s)\n",
		lines, wrote.Seconds(), float64(lines)/wrote.Seconds(), took.Seconds(), float64(lines)/took.Seconds())
	fmt.Fprintf(s.out, "  in ClickHouse  %d lines, %d distinct (run, attempt, seq), sum of highest seq %d\n", count, distinct, highest)
	fmt.Fprintf(s.out, "  process        %.0f %% of one CPU, peak RSS %.0f MB (the engine apart)\n",
		100*(after.CPU-before.CPU).Seconds()/took.Seconds(), float64(peak.Load())/1e6)
	if count != lines || distinct != lines || highest != lines {
		return fmt.Errorf("lines were lost or doubled: %d written, %d found, %d distinct", lines, count, distinct)
	}
	return nil
}

// writeLines writes lines of a usual length until ctx ends, then makes them durable.
func writeLines(ctx context.Context, spool *recorder.Recorder, number, rate int, written *atomic.Int64) error {
	origin := core.Origin{
		RunID: uuid.Must(uuid.NewV7()).String(), Attempt: 1, TaskID: uuid.Must(uuid.NewV7()).String(), Namespace: "Bench",
		TaskName: fmt.Sprintf("writer-%d", number), TaskType: "Bench.Lines", FireAt: time.Now().UTC().Truncate(time.Second),
	}
	attempt := spool.Attempt(origin, 0, recorder.Wait)
	defer attempt.Close()
	text := "patient record synchronised with the archive, " + strings.Repeat("x", 40)
	began := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if rate > 0 && n%100 == 0 {
			if ahead := time.Duration(n)*time.Second/time.Duration(rate) - time.Since(began); ahead > 0 {
				time.Sleep(ahead)
			}
		}
		line := core.LogLine{At: time.Now(), Level: core.LevelInfo, Stream: core.StreamLog, Message: text}
		if err := attempt.Log(context.WithoutCancel(ctx), line); err != nil {
			return err
		}
		written.Add(1)
	}
	return attempt.Flush(context.WithoutCancel(ctx))
}

// report1s says each second how it goes and keeps the highest memory seen.
func (s *session) report1s(ctx context.Context, spool *recorder.Recorder, written, peak *atomic.Int64) error {
	last := int64(0)
	for {
		select {
		case <-ctx.Done():
			progress(s.err, "")
			return nil
		case <-time.After(time.Second):
		}
		sample, err := sampler.Process(os.Getpid())
		if err != nil {
			return err
		}
		peak.Store(max(peak.Load(), int64(sample.RSSBytes)))
		now := written.Load()
		progress(s.err, "  %8d lines/s, spool %5d MB, RSS %4d MB ", now-last, spool.Stats().UnshippedBytes>>20, sample.RSSBytes>>20)
		last = now
	}
}

// interrupt stops the engine for a time. A supervisor is started once, so it is the process that is stopped and goes on.
func interrupt(ctx context.Context, eng *engine.Supervisor, after, outage time.Duration) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(after):
	}
	process, err := os.FindProcess(eng.PID())
	if err != nil {
		return err
	}
	if err := process.Signal(stopSignal); err != nil {
		return fmt.Errorf("stop the engine: %w", err)
	}
	time.Sleep(outage)
	if err := process.Kill(); err != nil { // what it had begun is cut off; the supervisor starts another
		return fmt.Errorf("kill the stopped engine: %w", err)
	}
	return nil
}

func countLines(ctx context.Context, history *clickhouse.Client) (count, distinct, highest int64, err error) {
	rows, err := history.Query(ctx, "SELECT toInt64(sum(n)), toInt64(sum(d)), toInt64(sum(h)) FROM (SELECT count() AS n, uniqExact(seq) AS d, max(seq) AS h FROM run_logs GROUP BY run_id, attempt)",
		clickhouse.QueryLimits{MaxDuration: 5 * time.Minute, MaxMemory: 8 << 30}, nil, statement.Scope{All: true})
	if err != nil {
		return 0, 0, 0, err
	}
	defer rows.Close()
	if !rows.Next() {
		return 0, 0, 0, errors.Join(errors.New("no count"), rows.Err())
	}
	values, err := rows.Scan(nil)
	if err != nil {
		return 0, 0, 0, err
	}
	for i, into := range []*int64{&count, &distinct, &highest} {
		n, ok := values[i].(int64)
		if !ok {
			return 0, 0, 0, fmt.Errorf("count is %T", values[i])
		}
		*into = n
	}
	return count, distinct, highest, nil
}

// stopSignal suspends a process.
const stopSignal = syscall.SIGSTOP
