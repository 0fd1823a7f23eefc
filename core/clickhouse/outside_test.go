package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine"
)

// TestAHistoryThatComesLater: a server whose ClickHouse is down starts all the same and has it once it is there.
func TestAHistoryThatComesLater(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "gnomon-later-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	socket := filepath.Join(dir, "s")
	if _, err := clickhouse.Open(t.Context(), clickhouse.Options{Socket: socket, Log: log}); core.KindOf(err) != core.KindUnavailable {
		t.Errorf("without patience: %v", err)
	}
	c, err := clickhouse.Open(t.Context(), clickhouse.Options{Socket: socket, Log: log, Patient: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, err := range map[string]error{
		"health": c.Health(t.Context()), "write": c.WriteSegment(t.Context(), fullSegment("later")),
		"query": func() error {
			_, err := c.Query(t.Context(), "SELECT 1", clickhouse.QueryLimits{}, nil, everything)
			return err
		}(),
	} {
		if core.KindOf(err) != core.KindUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c.Version() != "" {
		t.Errorf("version %q of nothing", c.Version())
	}
	s, err := engine.NewSupervisor(engine.SupervisorOptions{Executable: os.Args[0], Dir: filepath.Join(dir, "d"), Socket: socket, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	until(t, "history to be taken up", func() error { return c.WriteSegment(t.Context(), fullSegment("later")) })
	if c.Version() == "" || c.Health(t.Context()) != nil {
		t.Errorf("version %q, health %v", c.Version(), c.Health(t.Context()))
	}
}

// TestATroubleOnTheWayIsSaidShortAndPlain: what, where and what to do, and nothing of what the driver was about to send.
func TestATroubleOnTheWayIsSaidShortAndPlain(t *testing.T) {
	t.Parallel()
	// Silent takes connections and never answers; broken hangs up.
	silent, broken := listen(t, func(net.Conn) {}), listen(t, func(c net.Conn) { _ = c.Close() })
	nobody := nobody(t)
	dir, err := os.MkdirTemp("", "gnomon-away-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, c := range map[string]struct {
		options clickhouse.Options
		says    []string
	}{
		"silent":       {clickhouse.Options{DSN: "http://gnomon:sEcReT@" + silent + "/gnomon?dial_timeout=300ms"}, []string{silent, "gave no connection within 300ms; look whether it runs"}},
		"broken":       {clickhouse.Options{DSN: "http://gnomon:sEcReT@" + broken + "/gnomon?dial_timeout=5s"}, []string{broken, "does not answer (", "; look whether it runs"}},
		"nobody":       {clickhouse.Options{DSN: "http://gnomon:sEcReT@" + nobody + "/gnomon?dial_timeout=5s"}, []string{nobody, "connection refused", "; look whether it runs"}},
		"nativeSilent": {clickhouse.Options{DSN: "clickhouse://gnomon:sEcReT@" + silent + "/gnomon?dial_timeout=300ms&read_timeout=300ms"}, []string{silent, "; look whether it runs"}},
		"nativeNobody": {clickhouse.Options{DSN: "clickhouse://gnomon:sEcReT@" + nobody + "/gnomon?dial_timeout=5s"}, []string{nobody, "connection refused", "; look whether it runs"}},
		"engine":       {clickhouse.Options{Socket: filepath.Join(dir, "s")}, []string{"the embedded engine", "; it is started again by itself", "gnomon doctor"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			c.options.Log, c.options.Patient = slog.New(slog.NewTextHandler(&log, nil)), true
			client, err := clickhouse.Open(t.Context(), c.options)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			err = client.Health(t.Context())
			if core.KindOf(err) != core.KindUnavailable {
				t.Fatalf("%v", err)
			}
			for _, said := range []string{err.Error(), log.String()} {
				for _, want := range c.says {
					if !strings.Contains(said, want) {
						t.Errorf("%q is not in %q", want, said)
					}
				}
				for _, never := range []string{"sEcReT", "http://", "Post ", "acquire conn", "default_format", "client_protocol", "%3D"} {
					if strings.Contains(said, never) {
						t.Errorf("%q is in %q", never, said)
					}
				}
			}
			if len(err.Error()) > 250 {
				t.Errorf("%d letters: %s", len(err.Error()), err)
			}
		})
	}
}

// nobody gives an address that is taken, so that no other test gets it, and at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
}

// listen gives the address of a server that does something with each connection.
func listen(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []net.Conn
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range all {
			_ = c.Close()
		}
	})
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			do(c)
		}
	}()
	return l.Addr().String()
}

// TestWhatTheServerRefusesIsKept: what an administrator can mend must not put a segment out of the way for ever.
func TestWhatTheServerRefusesIsKept(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for away, back := range map[string]string{
		"RENAME TABLE run_logs TO elsewhere":                          "RENAME TABLE elsewhere TO run_logs",
		"ALTER TABLE run_logs ADD CONSTRAINT full CHECK message = ''": "ALTER TABLE run_logs DROP CONSTRAINT full",
	} {
		post(t, w.engine.Socket(), away)
		if err := w.WriteSegment(t.Context(), fullSegment("kept")); core.KindOf(err) != core.KindUnavailable {
			t.Errorf("%s: %v", away, err)
		}
		post(t, w.engine.Socket(), back)
	}
	if err := w.WriteSegment(t.Context(), fullSegment("kept")); err != nil {
		t.Error(err)
	}
}

// TestARealServerThatIsTooOld: ClickHouse 18.16, the newest that Debian has, over both of its protocols.
func TestARealServerThatIsTooOld(t *testing.T) {
	t.Parallel()
	program, err := filepath.Abs("../../.cache/bin/clickhouse-old")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: `make test` fetches the old ClickHouse that this test needs", err)
	}
	httpPort, nativePort := freePort(t), freePort(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"config.xml": fmt.Sprintf(`<yandex><logger><level>warning</level><console>1</console></logger><listen_host>127.0.0.1</listen_host>
			<http_port>%d</http_port><tcp_port>%d</tcp_port><path>%s/data/</path><tmp_path>%s/tmp/</tmp_path><mark_cache_size>8388608</mark_cache_size>
			<users_config>users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database></yandex>`, httpPort, nativePort, dir, dir),
		"users.xml": `<yandex><profiles><default/></profiles><quotas><default/></quotas><users><default><password></password>
			<networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users></yandex>`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := exec.Command(program, "--config-file="+filepath.Join(dir, "config.xml"))
	server.Dir = dir
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	server.Stdout, server.Stderr = out, out
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	until(t, "the old server to answer", func() error {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/ping", httpPort))
		if err != nil {
			return err
		}
		return answer.Body.Close()
	})
	for _, dsn := range []string{fmt.Sprintf("http://default@127.0.0.1:%d/default", httpPort), fmt.Sprintf("clickhouse://default@127.0.0.1:%d/default", nativePort)} {
		_, err := clickhouse.Open(t.Context(), clickhouse.Options{DSN: dsn, Log: slog.New(slog.DiscardHandler), Patient: true})
		if core.KindOf(err) != core.KindInvalid || !strings.Contains(err.Error(), "at least 25.8") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// until tries again and again, for at most two minutes.
func until(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if err = try(); err == nil {
			return
		}
		select {
		case <-t.Context().Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("waited in vain for %s: %v", what, err)
}

// TestAPoolThatIsUsedUpIsCalledBusy: the server answers well, and is not to be looked at.
func TestAPoolThatIsUsedUpIsCalledBusy(t *testing.T) {
	t.Parallel()
	w := setup(t)
	addr := listen(t, func(c net.Conn) {
		there, err := net.Dial("unix", w.engine.Socket())
		if err != nil {
			return
		}
		for _, way := range [][2]net.Conn{{there, c}, {c, there}} {
			go func() { // ends with either connection
				_, _ = io.Copy(way[0], way[1])
				_ = errors.Join(c.Close(), there.Close())
			}()
		}
	})
	c, err := clickhouse.Open(t.Context(), clickhouse.Options{DSN: "http://" + addr + "/gnomon?dial_timeout=5s", Connections: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	held, err := c.Query(t.Context(), "SELECT number FROM numbers(100000000)", clickhouse.QueryLimits{}, nil, everything)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Query(t.Context(), "SELECT 1", clickhouse.QueryLimits{}, nil, everything)
	held.Close()
	if core.KindOf(err) != core.KindUnavailable || !strings.Contains(err.Error(), "is busy: all connections to it were in use for 5s") || strings.Contains(err.Error(), "look whether it runs") {
		t.Errorf("%v", err)
	}
}
