package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine"
)

//go:embed benchhistory/*.sql
var benchSQL embed.FS

// historyBench fills a history of its own and asks it.
type historyBench struct {
	*session
	dir     string
	runs    int64
	tasks   int
	days    int
	lines   int // of a run, on average
	detail  int // days back in which runs keep lines and samples
	seed    uint64
	workers int
	ask     string // only questions with this in their name

	world   benchWorld
	log     *slog.Logger
	engine  *engine.Supervisor
	history *clickhouse.Client
	door    http.Client // of the engine, for statements that are none of the product's
	began   time.Time
	done    atomic.Int64 // statements
	all     int64
}

func (s *session) benchHistory() *cobra.Command {
	b := &historyBench{session: s, workers: 2}
	var keep string
	cmd := &cobra.Command{
		Use: "history", Short: "Fill a year of history and time what analysts and pages ask of it", Args: cobra.NoArgs,
		Long: "Fills an engine of its own with a made-up year of a hospital's and a factory's background work, straight into the real\n" +
			"tables: tasks that fire each second to once a year, log-normal durations, some that have become slower, failures in\n" +
			"bursts while a downstream is out, retries, skipped fires. Runs of the last 31 days keep log lines and samples, as the\n" +
			"usual retention would leave them; readings of process trees and hosts are one a second in these days (fewer below 10,000,000\n" +
			"runs) and one a minute before.\n" +
			"Then it asks every v_* view about the last 30 days, a task's page, a run's page and a word in a task's month: cold (the\n" +
			"engine restarted, its files dropped from the page cache) and warm. 100,000,000 runs take about 12 GB of disk.",
		Example: "  gnomon bench history --runs 1000000\n  gnomon bench history --runs 100000000 --keep /var/tmp/year\n  gnomon bench history --keep /var/tmp/year   # asks again what is there",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			switch {
			case b.runs < 1000 || b.days < 2 || b.lines < 0 || b.detail < 0 || b.tasks < 0:
				return &usageError{errors.New("--runs must be at least 1000, --days at least 2, and nothing negative")}
			case b.tasks == 0:
				b.tasks = int(min(5000, max(50, b.runs/20_000)))
			}
			if b.dir = keep; keep == "" {
				if b.dir, err = os.MkdirTemp("", "gnomon-bench-"); err != nil {
					return err
				}
				defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
			}
			return b.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.Int64Var(&b.runs, "runs", 1_000_000, "about how many runs the year has")
	f.IntVar(&b.days, "days", 365, "length of the year")
	f.IntVar(&b.tasks, "tasks", 0, "tasks; 0: one for each 20,000 runs, 50 to 5,000")
	f.IntVar(&b.lines, "lines-per-run", 8, "log lines of a run on average; 0: none")
	f.IntVar(&b.detail, "detail-days", 31, "days before the end whose runs keep lines and samples")
	f.StringVar(&keep, "keep", "", "folder to keep the history in; one that has been filled is asked again without filling")
	f.StringVar(&b.ask, "ask", "", "ask only questions with this in their name, such as v_cost or page")
	f.Uint64Var(&b.seed, "seed", 1, "seed of all that is random")
	return cmd
}

func (b *historyBench) run(ctx context.Context) (err error) {
	b.log = slog.New(slog.NewTextHandler(b.err, &slog.HandlerOptions{Level: slog.LevelError}))
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	if err := b.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	filled, err := b.filled()
	if err != nil {
		return err
	}
	if !filled {
		if err := b.fill(ctx); err != nil {
			progress(b.err, "")
			if ctx.Err() != nil {
				fmt.Fprintln(b.err, b.say("已中断：未完成的历史不能使用", "interrupted: the history is not complete"))
			}
			return err
		}
		if err := b.remember(); err != nil {
			return err
		}
	}
	if err := b.rollUp(ctx); err != nil {
		return err
	}
	if err := b.size(ctx); err != nil {
		return err
	}
	return b.measure(ctx)
}

// benchMark is the file that says that a folder holds a whole history, and which.
type benchMark struct {
	Runs  int64     `json:"runs"`
	Days  int       `json:"days"`
	Tasks int       `json:"tasks"`
	Seed  uint64    `json:"seed"`
	To    time.Time `json:"to"`
	Took  float64   `json:"took_s"`
}

func (b *historyBench) markFile() string { return filepath.Join(b.dir, "bench.json") }

// filled tells whether the folder holds a whole history already, and draws its world, else a new one.
func (b *historyBench) filled() (bool, error) {
	text, err := os.ReadFile(b.markFile())
	if errors.Is(err, os.ErrNotExist) {
		b.world = newBenchWorld(b.runs, b.days, b.tasks, time.Now(), b.seed)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var m benchMark
	if err := json.Unmarshal(text, &m); err != nil {
		return false, fmt.Errorf("read %s: %w", b.markFile(), err)
	}
	b.runs, b.days, b.tasks, b.seed = m.Runs, m.Days, m.Tasks, m.Seed
	b.world = newBenchWorld(b.runs, b.days, b.tasks, m.To, b.seed)
	fmt.Fprintf(b.err, b.say("使用 %s 中已有的历史（%d 次运行）\n", "asking the history that is in %s (%d runs)\n"), b.dir, m.Runs)
	return true, nil
}

func (b *historyBench) remember() error {
	text, err := json.Marshal(benchMark{b.runs, b.days, b.tasks, b.seed, b.world.to, time.Since(b.began).Seconds()})
	if err != nil {
		return err
	}
	return os.WriteFile(b.markFile(), text, 0o600)
}

// open starts the engine and connects.
func (b *historyBench) open(ctx context.Context) (err error) {
	socket := filepath.Join(b.dir, "engine.sock")
	b.engine, err = engine.NewSupervisor(engine.SupervisorOptions{Dir: filepath.Join(b.dir, "history"), Socket: socket, Log: b.log})
	if err != nil {
		return err
	}
	if err := b.engine.Start(ctx); err != nil {
		return errors.Join(err, b.close(context.WithoutCancel(ctx)))
	}
	b.history, err = clickhouse.Open(ctx, clickhouse.Options{Socket: socket, Log: b.log})
	if err != nil {
		return errors.Join(err, b.close(context.WithoutCancel(ctx)))
	}
	b.door.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	return nil
}

func (b *historyBench) close(ctx context.Context) error {
	var err error
	b.door.CloseIdleConnections()
	if b.history != nil {
		err = b.history.Close()
		b.history = nil
	}
	if b.engine != nil {
		limit, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		err = errors.Join(err, b.engine.Stop(limit))
		b.engine = nil
	}
	return err
}

// send has the engine carry out a statement; body is the data of an INSERT, or nil.
func (b *historyBench) send(ctx context.Context, sql string, body []byte) error {
	q := url.Values{"database": {"gnomon"}, "max_threads": {"1"}, "optimize_on_insert": {"0"}, "max_partitions_per_insert_block": {"0"}, "min_insert_block_size_rows": {"1048576"}, "exclude_materialize_skip_indexes_on_insert": {"message_words,message_pairs"}}
	reader := io.Reader(strings.NewReader(sql))
	if body != nil {
		q.Set("query", sql)
		reader = bytes.NewReader(body)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/?"+q.Encode(), reader)
	if err != nil {
		return err
	}
	answer, err := b.door.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the engine answered %s: %.500s", answer.Status, text)
	}
	return nil
}

// statement gives an INSERT of a stretch of time.
func (b *historyBench) statement(name string, from, to int64, every int) (string, error) {
	read := func(name string) (string, error) {
		text, err := benchSQL.ReadFile("benchhistory/" + name + ".sql")
		return string(text), err
	}
	sql, err := read("insert_" + name)
	if err != nil {
		return "", err
	}
	attempts, err := read("attempts")
	if err != nil {
		return "", err
	}
	facts, err := read("facts")
	if err != nil {
		return "", err
	}
	sql = strings.ReplaceAll(strings.ReplaceAll(sql, "$ATTEMPTS$", "\n"+attempts), "$FACTS$", "\n"+facts)
	return strings.NewReplacer(
		"$FROM$", strconv.FormatInt(from, 10), "$TO$", strconv.FormatInt(to, 10), "$SEED$", strconv.FormatUint(b.seed, 10),
		"$LINES$", strconv.Itoa(b.lines), "$EVERY$", strconv.Itoa(every), "$EPOCH$", strconv.FormatInt(b.world.from.Unix(), 10),
		"$OUTAGE$", within(b.world.outages, from, to, true), "$DOWN$", within(b.world.down, from, to, false),
		// a UUIDv7 of the instant of the decision: the time, the version, the variant, and 74 bits of hashes
		"$RUN_ID$", "toString(reinterpretAsUUID(bitOr(bitShiftLeft(toUInt128(bitOr(bitAnd(id_low, 0x3fffffffffffffff), 0x8000000000000000)), 64), toUInt128(bitOr(bitShiftLeft(toUInt64(intDiv(us - 1000000 + h % 900000, 1000)), 16), bitOr(0x7000, bitAnd(id_high, 0xfff)))))))",
	).Replace(sql), nil
}

// sampled is how many seconds lie between samples of hosts and plugins in the days of full detail: a small history is not
// buried under them. It divides a minute.
func (b *historyBench) sampled() int {
	every := int(min(60, max(1, 10_000_000/b.runs)))
	for 60%every != 0 {
		every--
	}
	return every
}

// job is one statement of the filling.
type job struct {
	table    string
	from, to time.Time
	every    int    // seconds between samples
	optimize string // partition to merge into one part, as the engine does by itself after an hour; empty: an INSERT
}

// jobs gives the statements in groups, the next of which begins when one has ended: those of each month, and some that
// follow it, which run beside the next months': a month is merged once it is filled, and what its process trees used is
// counted from its attempts before their readings are made of it.
func (b *historyBench) jobs() (groups [][]job) {
	perDay := float64(b.runs) / float64(b.days)
	step := min(31, max(1, int(1_500_000/perDay)))
	detail := b.world.to.AddDate(0, 0, -b.detail)
	every := b.sampled()
	add := func(group int, j job) {
		for len(groups) <= group {
			groups = append(groups, nil)
		}
		groups[group] = append(groups[group], j)
	}
	const rows, counted, read, merged = 0, 1, 2, 3 // which group after a month's own
	for n, month := 0, b.world.from; month.Before(b.world.to); n++ {
		next := time.Date(month.Year(), month.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		if next.After(b.world.to) {
			next = b.world.to
		}
		for from := month; from.Before(next); from = from.AddDate(0, 0, step) {
			to := from.AddDate(0, 0, step)
			if to.After(next) {
				to = next
			}
			for _, table := range []string{"runs", "attempts", "fires"} {
				add(n+rows, job{table: table, from: from, to: to})
			}
		}
		add(n+counted, job{table: "tree_hours", from: month, to: next})
		for _, table := range []string{"runs", "attempts", "fires", "host_samples"} {
			add(n+counted, job{table: table, optimize: month.Format("200601")})
		}
		sparse := next // until then there is a reading a minute
		if sparse.After(detail) {
			sparse = detail
		}
		if month.Before(sparse) {
			add(n+rows, job{table: "host_samples", from: month, to: sparse, every: 60})
			add(n+read, job{table: "plugin_samples", from: month, to: sparse, every: 60})
		}
		for day := month; day.Before(next); day = day.AddDate(0, 0, 1) {
			add(n+merged, job{table: "plugin_samples", optimize: day.Format("20060102")})
			if day.Before(detail) {
				continue
			}
			tomorrow := day.AddDate(0, 0, 1)
			add(n+rows, job{table: "host_samples", from: day, to: tomorrow, every: every})
			add(n+read, job{table: "plugin_samples", from: day, to: tomorrow, every: every})
			for _, table := range []string{"run_logs", "run_samples"} {
				if table == "run_logs" && b.lines == 0 {
					continue
				}
				add(n+rows, job{table: table, from: day, to: tomorrow})
				add(n+counted, job{table: table, optimize: day.Format("20060102")})
			}
		}
		add(n+merged, job{table: "process_hours", optimize: month.Format("200601")})
		month = next
	}
	return groups
}

// fill makes the world's tasks and all that has become of them.
func (b *historyBench) fill(ctx context.Context) error {
	b.began = time.Now()
	groups := b.jobs()
	b.all = 3
	for _, jobs := range groups {
		b.all += int64(len(jobs))
	}
	for _, sql := range []string{"DROP DATABASE IF EXISTS bench", "CREATE DATABASE bench", createBenchTasks, createBenchTrees} {
		if err := b.send(ctx, sql, nil); err != nil {
			return err
		}
	}
	var rows bytes.Buffer
	encoder := json.NewEncoder(&rows)
	for i := range b.world.tasks {
		if err := encoder.Encode(b.world.tasks[i]); err != nil {
			return err
		}
	}
	if err := b.send(ctx, "INSERT INTO bench.tasks FORMAT JSONEachRow", rows.Bytes()); err != nil {
		return err
	}
	for _, table := range []string{"tasks", "task_types", "servers"} {
		if err := b.do(ctx, job{table: table, from: b.world.from, to: b.world.to}); err != nil {
			return err
		}
	}
	fmt.Fprintf(b.err, b.say("正在生成：%d 个任务，约 %d 次运行，%d 天；Ctrl-C 可中断\n", "filling: %d tasks, about %d runs, %d days; Ctrl-C ends it\n"), len(b.world.tasks), b.runs, b.days)
	for _, jobs := range groups {
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(b.workers)
		for _, j := range jobs {
			group.Go(func() error { return b.do(groupCtx, j) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if !isTerminal(b.err) {
			fmt.Fprintf(b.err, "  %3.0f %%  %s\n", 100*float64(b.done.Load())/float64(b.all), time.Since(b.began).Round(time.Second))
		}
	}
	progress(b.err, b.say("  为日志行建立索引", "  indexing log lines"))
	if _, err := b.history.IndexLines(ctx, b.world.from, b.world.to); err != nil { // as the server does once a day is over
		return err
	}
	return nil
}

// rollUp brings the roll-ups up to date, as the server does; a history that an older version has filled may lack some.
func (b *historyBench) rollUp(ctx context.Context) error {
	for began, made := time.Now(), 0; ; {
		rolled, err := b.history.RollUp(ctx)
		if err != nil {
			return err
		}
		made += rolled.Days
		progress(b.err, b.say("  汇总：还有 %d 天", "  rolling up: %d days of namespaces are left"), rolled.Left)
		if rolled.Left == 0 {
			reconcile, err := b.statement("reconciliations", b.world.from.Unix(), b.world.to.Unix(), 1)
			if err == nil {
				err = b.send(ctx, reconcile, nil) // as the ledger does each night
			}
			if err != nil {
				return fmt.Errorf("reconcile: %w", err)
			}
			for _, table := range []string{"runs_day", "namespaces_day", "runs_hour", "errors_day", "servers_day", "costs", "neighbours", "reconciliations"} { // as the engine does within an hour or so
				if err := b.send(ctx, "OPTIMIZE TABLE "+table+" FINAL SETTINGS optimize_skip_merged_partitions = 1", nil); err != nil {
					return fmt.Errorf("merge %s: %w", table, err)
				}
			}
			progress(b.err, "")
			fmt.Fprintf(b.err, b.say("  汇总 %d 天用时 %s\n", "  rolled up %d days in %s\n"), made, time.Since(began).Round(time.Second))
			return nil
		}
	}
}

func (b *historyBench) do(ctx context.Context, j job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sql := "OPTIMIZE TABLE " + j.table + " PARTITION " + j.optimize + " FINAL"
	if j.optimize == "" {
		var err error
		if sql, err = b.statement(j.table, j.from.Unix(), j.to.Unix(), max(1, j.every)); err != nil {
			return err
		}
	}
	if err := b.send(ctx, sql, nil); err != nil {
		return fmt.Errorf("%s %s %s: %w", j.table, j.from.Format(time.DateOnly), j.optimize, err)
	}
	done := b.done.Add(1)
	passed := time.Since(b.began)
	left := time.Duration(float64(passed) * float64(b.all-done) / float64(done))
	progress(b.err, b.say("  %3.0f %%  已用 %s，约剩 %s  %s", "  %3.0f %%  %s, about %s left  %s"), 100*float64(done)/float64(b.all), passed.Round(time.Second), left.Round(time.Second), j.table)
	return nil
}
