// Package enginetest gives tests the real engine, each in a process and a folder of its own. The process is the test's own
// binary, started again with "engine" first: TestMain hands such a start to Serve.
package enginetest

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/engine"
)

// Asked tells whether this process was started to be an engine.
func Asked() bool { return len(os.Args) > 1 && os.Args[1] == "engine" }

// Serve is the engine, until it is told to end, and gives the exit code. Lines of its log from a level on go to standard error.
func Serve(ctx context.Context, level slog.Level, readable []engine.Readable) int {
	o := engine.Options{Readable: readable, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))}
	flags := flag.NewFlagSet("engine", flag.ContinueOnError)
	flags.StringVar(&o.Dir, "dir", "", "")
	flags.StringVar(&o.Socket, "socket", "", "")
	flags.StringVar(&o.Library, "library", "", "")
	flags.IntVar(&o.MaxThreads, "max-threads", 0, "")
	flags.Uint64Var(&o.MemoryBytes, "memory-bytes", 0, "")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	if err := engine.Serve(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Engine is the engine of one test.
type Engine struct {
	*engine.Supervisor
	Dir string // holds its data
}

// New makes an engine in the test's temporary folder, or one named by tune, which may change how it is started. It is stopped
// when the test is over.
func New(t testing.TB, level slog.Level, tune ...func(*engine.SupervisorOptions)) *Engine {
	t.Helper()
	// A path below the temporary folder of a test may be longer than a socket's name may be.
	run, err := os.MkdirTemp("", "gnomon-engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	o := engine.SupervisorOptions{Executable: os.Args[0], Socket: filepath.Join(run, "s"), Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))}
	for _, f := range tune {
		f(&o)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "clickhouse")
	}
	s, err := engine.NewSupervisor(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return &Engine{s, o.Dir}
}

// Start makes an engine and starts it.
func Start(t testing.TB) *Engine {
	t.Helper()
	e := New(t, slog.LevelWarn)
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// Halt stops an engine's process as it stands, and returns once it does: on a busy machine that takes a while.
func Halt(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), ") T ") {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// Continue lets a stopped process go on.
func Continue(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}
