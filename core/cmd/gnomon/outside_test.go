//go:build linux

package main_test

import (
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// TestHistoryOutside: a ClickHouse of one's own, over HTTPS, that is down when the server starts. Tasks run all the same;
// once it is there it has each of their runs and lines once, and when it goes again, nothing is lost either.
func TestHistoryOutside(t *testing.T) {
	w := newWorld(t)
	socket := filepath.Join(w.dir, "outside.sock")
	outside := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		FlushInterval: -1,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}},
	}
	address := reserve(t)
	serve := func() *httptest.Server {
		t.Helper()
		server := httptest.NewUnstartedServer(outside)
		_ = server.Listener.Close()
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		server.Listener = listener
		server.StartTLS()
		return server
	}
	first := serve()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: first.Certificate().Raw})
	first.Close()
	write(t, filepath.Join(w.dir, "ca.pem"), string(authority))
	w.env = []string{"GNOMON_CLICKHOUSE_DSN=https://someone:geheim@" + address + "/gnomon", "SSL_CERT_FILE=" + filepath.Join(w.dir, "ca.pem")}
	w.start()
	w.namespace("Bench")
	w.task("Bench", "steady", api.TaskInput{Type: "Bench.NoOp", Schedule: api.Schedule{Spec: "* * * * * *"}, Params: params(map[string]any{"lines": 3})})
	var status api.Status
	w.until(30*time.Second, "runs end without history", func() bool {
		w.must("GET", "/v1/server", nil, &status)
		return status.Spool.Unshipped > 0
	})
	if !strings.HasSuffix(status.Engine, "does not answer") {
		t.Errorf("history is said to be %q", status.Engine)
	}

	engine := exec.Command(filepath.Join(program(t), "gnomon"), "engine", "--dir", filepath.Join(w.dir, "outside"), "--socket", socket)
	engine.Env, engine.Stderr = w.environment(), w.log
	engine.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = engine.Process.Signal(os.Interrupt)
		_ = engine.Wait()
	}()
	counted := func(atLeast int) func() bool {
		return func() bool {
			rows, err := query[struct{ Runs, Lines, Distinct int }](w, "SELECT uniqExact(run_id) AS Runs, count() AS Lines, uniqExact(run_id, attempt, seq) AS Distinct FROM run_logs WHERE stream = 'log'")
			return err == nil && len(rows) == 1 && rows[0].Runs >= atLeast && rows[0].Lines == rows[0].Distinct && rows[0].Lines == 3*rows[0].Runs
		}
	}
	second := serve()
	w.until(30*time.Second, "history has what waited for it", counted(2))
	second.CloseClientConnections()
	second.Close()
	w.until(30*time.Second, "it is noticed that history has gone", func() bool {
		w.must("GET", "/v1/server", nil, &status)
		return strings.HasSuffix(status.Engine, "does not answer")
	})
	third := serve()
	defer third.Close()
	w.until(30*time.Second, "history has the rest", counted(6))
	w.interrupt()
	if log := read(t, w.log.Name()); strings.Contains(log, "geheim") {
		t.Error("the log holds the password of the DSN")
	}
}
