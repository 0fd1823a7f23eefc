package pluginhost_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/coretest"
	"github.com/gnomon-scheduler/gnomon/core/luavm"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

func TestMain(m *testing.M) {
	if os.Getenv(protocol.Handshake.MagicCookieKey) != "" && len(os.Args) > 2 && os.Args[1] == "lua" {
		panic(luavm.Serve(context.TODO(), luavm.Options{Dir: os.Args[2], Namespace: "Test"}))
	}
	if os.Getenv(protocol.Handshake.MagicCookieKey) != "" {
		servePlugin(os.Args[1:])
	}
	if dir := os.Getenv("GNOMON_TEST_HOST"); dir != "" {
		runHost(dir)
	}
	goleak.VerifyTestMain(m)
}

// setup starts a host with a short run folder.
func setup(t testing.TB, change ...func(*pluginhost.Options)) *pluginhost.Host {
	t.Helper()
	opts := pluginhost.Options{Log: quiet(), RunDir: runDir(t), HostVersion: "0.0.1-test", Grace: 300 * time.Millisecond,
		Limits: pluginhost.Limits{MemoryBytes: 1 << 46}} // see memory_test.go
	for _, c := range change {
		c(&opts)
	}
	h, err := pluginhost.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return h
}

func quiet() *slog.Logger {
	if os.Getenv("GNOMON_TEST_VERBOSE") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// runDir makes a folder whose path is short enough for sockets; t.TempDir's holds the test's name.
func runDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gph")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// program is the test binary.
func program(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

const manifestText = `name: wild
version: 1.0.0
protocol: 1
namespaces: [Test]
executables:
  %s: { path: run, sha256: %x }
`

// pluginDir makes a plugin's folder around the test binary. edit may change the text of its plugin.yaml.
func pluginDir(t testing.TB, edit ...func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	from, err := os.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	return writePlugin(t, dir, from, edit...)
}

// scriptDir makes a plugin's folder around a shell script.
func scriptDir(t testing.TB, script string) string {
	t.Helper()
	return writePlugin(t, t.TempDir(), []byte("#!/bin/sh\n"+script+"\n"))
}

func writePlugin(t testing.TB, dir string, executable []byte, edit ...func(string) string) string {
	t.Helper()
	manifest := fmt.Sprintf(manifestText, runtime.GOOS+"/"+runtime.GOARCH, sha256.Sum256(executable))
	for _, e := range edit {
		manifest = e(manifest)
	}
	for name, text := range map[string][]byte{"run": executable, "plugin.yaml": []byte(manifest)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t testing.TB, h *pluginhost.Host) *pluginhost.Plugin {
	t.Helper()
	p, err := h.Load(t.Context(), pluginDir(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pool(t testing.TB, h *pluginhost.Host, change ...func(*pluginhost.PoolOptions)) *pluginhost.Pool {
	t.Helper()
	opts := pluginhost.PoolOptions{Name: "worker", Namespace: "Test", Command: []string{program(t)}, Size: 2, Grace: 300 * time.Millisecond}
	for _, c := range change {
		c(&opts)
	}
	p, err := h.Pool(opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func do(what string, more ...any) coretest.Case {
	o := map[string]any{"do": what}
	for i := 0; i+1 < len(more); i += 2 {
		o[more[i].(string)] = more[i+1]
	}
	params, _ := json.Marshal(o)
	return coretest.Case{Type: "Test.Do", Params: params}
}

func run(t testing.TB, ctx context.Context, e core.Executor, c coretest.Case, id string) (core.Outcome, *coretest.Sink) {
	t.Helper()
	sink := &coretest.Sink{}
	out, err := e.Execute(ctx, c.Attempt(id), sink)
	if err != nil {
		t.Fatalf("Execute %s: %v", id, err)
	}
	return out, sink
}

// patience is how long tests wait for what must come, and what is to be at once may take, on the slowest machine: it measures
// no speed.
const patience = 30 * time.Second

// eventually waits for real processes; nothing tells when the kernel has done its part.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	over := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// enough tries something with longer and longer time limits, until one has let a process come as far as it is to come before
// the limit ends it.
func enough(t testing.TB, what string, try func(limit time.Duration) bool) {
	t.Helper()
	for limit := 700 * time.Millisecond; !try(limit); limit *= 3 {
		if limit > patience {
			t.Fatalf("%v were not enough: %s", limit, what)
		}
	}
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X") && syscall.Kill(pid, 0) == nil
}

func pidIn(t testing.TB, file string) int {
	t.Helper()
	var pid int
	eventually(t, "a PID in "+file, func() bool {
		text, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0
	})
	return pid
}
