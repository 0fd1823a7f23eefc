package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/sampler"
	"github.com/gnomon-scheduler/gnomon/core/store"
)

func newBenchCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure this machine: lateness, throughput, ingest, idle load",
		Long: "Each measurement starts a server of its own, with the embedded store and engine, in a temporary folder, and leaves\n" +
			"a running server alone. Quote ratios, and say what else the machine was doing.",
	}
	cmd.AddCommand(s.benchFire(), s.benchThroughput(), s.benchTasks(), s.benchIngest(), s.benchTail(), s.benchHistory())
	return cmd
}

// bench is a server of its own to be measured.
type bench struct {
	dir     string
	url     string
	token   core.Secret
	process *exec.Cmd
	ended   chan error
	out     io.Writer
	loads   []load
}

// load is the tasks of one type that a measurement runs.
type load struct {
	taskType string
	count    int
}

// newBench fills a store with tasks before any server has it: the first fires are due from base on, spread evenly over
// interval.
func newBench(ctx context.Context, out io.Writer, schedule string, interval time.Duration, base time.Time, loads ...load) (*bench, error) {
	dir, err := os.MkdirTemp("", "gnomon-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, out: out, loads: loads}
	db, err := store.Open(ctx, store.Options{Dir: filepath.Join(dir, "store")})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	err = db.PutNamespace(ctx, core.Namespace{Name: "Bench", CreatedAt: time.Now().UTC()})
	for _, l := range loads {
		for from := 0; from < l.count && err == nil; from += 20_000 {
			err = db.CreateTasks(ctx, benchTasks(l, from, min(from+20_000, l.count), schedule, interval, base))
		}
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return b, nil
}

func benchTasks(l load, from, to int, spec string, interval time.Duration, base time.Time) []core.Task {
	tasks := make([]core.Task, 0, to-from)
	for i := from; i < to; i++ {
		first := base.Add(time.Duration(int64(interval) / int64(l.count) * int64(i))).UTC().Truncate(time.Microsecond)
		tasks = append(tasks, core.Task{
			ID: uuid.Must(uuid.NewV7()).String(), Namespace: "Bench", Name: fmt.Sprintf("%s-%07d", strings.TrimPrefix(l.taskType, "Bench."), i),
			Type: l.taskType, Params: json.RawMessage("{}"), Enabled: true, Version: 1, CreatedAt: base, UpdatedAt: base, UpdatedBy: "bench",
			Schedule: core.Schedule{Spec: spec, Anchor: first.Add(-interval)},
			Policies: core.Policies{Overlap: core.OverlapSkip, CatchUp: core.CatchUpLatest},
			State:    core.TaskState{NextFire: first},
		})
	}
	return tasks
}

// start starts the server and returns once it schedules; took is from the process's start to then.
func (b *bench) start(ctx context.Context) (took time.Duration, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address := listener.Addr().String()
	_ = listener.Close() // only its number was wanted
	b.url = "http://" + address
	b.process = exec.Command(exe, "server", "--data", b.dir, "--listen", address, "--no-context", "--log-level", "warn", "--cpu-profile", os.Getenv("GNOMON_BENCH_CPU_PROFILE"))
	b.process.Stderr = os.Stderr
	b.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	began := time.Now()
	if err := b.process.Start(); err != nil {
		return 0, err
	}
	b.ended = make(chan error, 1)
	go func() { b.ended <- b.process.Wait() }() // ends with the server
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case err := <-b.ended:
			b.ended <- err
			return 0, fmt.Errorf("the measured server ended: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
		answer, err := http.Get(b.url + "/readyz")
		if err != nil {
			continue
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			break
		}
	}
	took = time.Since(began)
	text, err := os.ReadFile(filepath.Join(b.dir, "bootstrap-token"))
	if err != nil {
		return 0, err
	}
	b.token = core.NewSecret(strings.TrimSpace(string(text)))
	for _, l := range b.loads { // runs of what nobody offers would wait for ever
		if err := b.call(ctx, http.MethodGet, "/v1/task-types/"+l.taskType, nil, &struct{}{}); err != nil {
			return 0, fmt.Errorf("the measured server cannot run what is to be measured, see its words above: %w", err)
		}
	}
	return took, nil
}

// stop ends the server and removes its folder.
func (b *bench) stop() {
	if b.process != nil && b.process.Process != nil {
		_ = b.process.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-b.ended:
		case <-time.After(30 * time.Second):
			_ = b.process.Process.Kill()
			<-b.ended
		}
	}
	_ = os.RemoveAll(b.dir)
}

// usage is what the server process itself used over a time, its children apart.
type usage struct {
	began    time.Time
	cpu      time.Duration
	peakRSS  uint64
	duration time.Duration
}

// watch samples the server process each half second for a time, saying how far it is.
func (b *bench) watch(ctx context.Context, d time.Duration) (usage, error) {
	u := usage{began: time.Now()}
	first, err := sampler.Process(b.process.Process.Pid)
	if err != nil {
		return u, err
	}
	for end := u.began.Add(d); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return u, ctx.Err()
		case err := <-b.ended:
			b.ended <- err
			return u, fmt.Errorf("the measured server ended: %w", err)
		case <-time.After(min(500*time.Millisecond, time.Until(end))):
		}
		sample, err := sampler.Process(b.process.Process.Pid)
		if err != nil {
			return u, err
		}
		u.cpu, u.peakRSS = sample.CPU-first.CPU, max(u.peakRSS, sample.RSSBytes)
		progress(b.out, "  %3.0f of %.0f s", time.Since(u.began).Seconds(), d.Seconds())
	}
	u.duration = time.Since(u.began)
	progress(b.out, "")
	return u, nil
}

// ask puts a statement to the measured server's history and gives the first row.
func (b *bench) ask(ctx context.Context, sql string) ([]float64, error) {
	body, err := json.Marshal(map[string]any{"sql": sql})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/query", strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+b.token.Reveal())
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	var result struct {
		Rows   [][]any `json:"rows"`
		Detail string  `json:"detail"`
	}
	if err := json.Unmarshal(text, &result); err != nil || answer.StatusCode != http.StatusOK || len(result.Rows) == 0 {
		return nil, fmt.Errorf("query answered %s: %.300s", answer.Status, text)
	}
	values := make([]float64, len(result.Rows[0]))
	for i, cell := range result.Rows[0] {
		switch v := cell.(type) {
		case float64:
			values[i] = v
		case string:
			if values[i], err = strconv.ParseFloat(v, 64); err != nil {
				values[i] = math.NaN()
			}
		default:
			values[i] = math.NaN()
		}
	}
	return values, nil
}

// settle waits until history holds everything that ended before an instant: rows are shipped in order, so it holds
// them once it holds later ones.
func (b *bench) settle(ctx context.Context, until time.Time) error {
	for range 600 {
		row, err := b.ask(ctx, "SELECT toUnixTimestamp64Micro(least((SELECT max(ended_at) FROM runs), (SELECT max(ended_at) FROM attempts)))")
		if err == nil && row[0] > float64(until.Add(3*time.Second).UnixMicro()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(time.Second):
		}
	}
	return errors.New("history is ten minutes behind")
}

// progress overwrites one line on out with how far a measurement is, where somebody looks on.
func progress(out io.Writer, format string, args ...any) {
	if isTerminal(out) {
		fmt.Fprintf(out, "\r\033[K"+format, args...)
	}
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
