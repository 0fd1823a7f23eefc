package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core/engine"
	"github.com/gnomon-scheduler/gnomon/core/engine/enginetest"
)

// TestMain is also the engine process: the supervisor under test starts this binary again with "engine" first.
func TestMain(m *testing.M) {
	if enginetest.Asked() {
		os.Exit(enginetest.Serve(context.Background(), slog.LevelDebug, readable))
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
	in := func(o *engine.SupervisorOptions) { o.Dir = filepath.Join(dir, "clickhouse") }
	e := enginetest.New(t, slog.LevelInfo, append([]func(*engine.SupervisorOptions){in}, tune...)...)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.Socket())
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &world{Supervisor: e.Supervisor, dir: e.Dir, client: &http.Client{Transport: transport}}
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
