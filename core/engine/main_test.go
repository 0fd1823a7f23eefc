package engine_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core/engine"
)

// TestMain is also the engine process: the supervisor under test starts this binary again with "engine" first.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		os.Exit(serve(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		os.Exit(supervise(os.Args[2], os.Args[3]))
	}
	goleak.VerifyTestMain(m)
}

// supervise is a server whose only part is the engine: it says the engine's process id and waits to be killed.
func supervise(dir, socket string) int {
	s, err := engine.NewSupervisor(engine.SupervisorOptions{Executable: os.Args[0], Dir: dir, Socket: socket, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = s.Start(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, s.PID())
	select {}
}

func serve(args []string) int {
	var o engine.Options
	flags := flag.NewFlagSet("engine", flag.ContinueOnError)
	flags.StringVar(&o.Dir, "dir", "", "")
	flags.StringVar(&o.Socket, "socket", "", "")
	flags.StringVar(&o.Library, "library", "", "")
	flags.IntVar(&o.MaxThreads, "max-threads", 0, "")
	flags.Uint64Var(&o.MemoryBytes, "memory-bytes", 0, "")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	o.Readable = readable
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := engine.Serve(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// world is an engine of a test's own.
type world struct {
	*engine.Supervisor
	dir    string
	client *http.Client
}

// setup starts an engine; tune may change how.
func setup(t *testing.T, tune ...func(*engine.SupervisorOptions)) *world {
	t.Helper()
	w := newWorld(t, t.TempDir(), tune...)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func newWorld(t *testing.T, dir string, tune ...func(*engine.SupervisorOptions)) *world {
	t.Helper()
	// A path below the temporary folder of a test may be longer than a socket's name may be.
	run, err := os.MkdirTemp("", "gnomon-engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	o := engine.SupervisorOptions{
		Executable: os.Args[0], Dir: filepath.Join(dir, "clickhouse"), Socket: filepath.Join(run, "s"),
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	for _, f := range tune {
		f(&o)
	}
	s, err := engine.NewSupervisor(o)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", o.Socket)
	}}
	w := &world{Supervisor: s, dir: o.Dir, client: &http.Client{Transport: transport}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return w
}

// ask posts a statement with "name=value" parameters and gives the answer.
func (w *world) ask(t *testing.T, sql string, params ...string) (status int, body string, header http.Header) {
	t.Helper()
	return w.post(t, strings.NewReader(sql), params...)
}

func (w *world) post(t *testing.T, body io.Reader, params ...string) (int, string, http.Header) {
	t.Helper()
	values := url.Values{}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		values.Set(name, value)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine/?"+values.Encode(), body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(answer.Body); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, text.String(), answer.Header
}

// must asks and fails the test on anything but success.
func (w *world) must(t *testing.T, sql string, params ...string) string {
	t.Helper()
	status, body, _ := w.ask(t, sql, params...)
	if status != http.StatusOK {
		t.Fatalf("%s\nstatus %d: %s", sql, status, body)
	}
	return strings.TrimSuffix(body, "\n")
}
