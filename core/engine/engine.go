//go:build linux || darwin

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// parentEnv tells the engine process that its standard input is a pipe whose end means that its supervisor is gone.
const parentEnv = "GNOMON_ENGINE_PARENT"

// drainTime is how long running queries may go on once the engine has been told to stop.
const drainTime = 2 * time.Second

// marker is the file that makes a folder ours. Its text says which layout the folder has.
const (
	marker     = "gnomon-engine"
	markerText = "gnomon engine data, layout 1\n"
)

// database is where Gnomon's tables live. `default` belongs to libchdb, which keeps paths of the machine in it.
const database = "gnomon"

// Serve runs the engine until ctx ends or, under a Supervisor, until the supervising process is gone; then it lets
// running queries finish for a few seconds and closes. It fails with KindUnavailable without the library,
// KindConflict if another process has the folder, KindDamaged if the folder is foreign or cannot be opened.
func Serve(ctx context.Context, o Options) error {
	if o.Dir == "" || o.Socket == "" || o.Log == nil {
		return errors.New("engine: Dir, Socket and Log are required")
	}
	if len(o.Socket) > 104 {
		return core.Errorf(core.KindInvalid, "start engine", "socket path %q is longer than 104 bytes; choose a shorter data folder", o.Socket)
	}
	if o.MaxThreads <= 0 {
		o.MaxThreads = 2
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 2 << 30
	}
	var cancel context.CancelFunc
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	path, err := FindLibrary(o.Library)
	if err != nil {
		return err
	}
	if err := claim(o.Dir); err != nil {
		return err
	}
	if err := confine(o, path); err != nil {
		o.Log.Info("the engine may read other files than its own", "err", err)
	}
	if os.Getenv(parentEnv) != "" {
		// Ends with the process: a read of standard input cannot be interrupted.
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			o.Log.Warn("supervisor is gone, engine stops")
			cancel()
		}()
	}

	unlock, err := lockDir(o.Dir)
	if err != nil {
		return err
	}
	defer unlock()

	lib, err := load(path)
	if err != nil {
		return core.Errorf(core.KindUnavailable, "start engine", "%w", err)
	}
	began := time.Now()
	h, err := newHandler(lib, o)
	if err != nil {
		return damaged(o.Dir, err)
	}
	defer h.close()

	listener, err := listen(o.Socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)}
	served := make(chan error, 1)
	// Ends when the server is shut down below.
	go func() { served <- server.Serve(listener) }()
	o.Log.Info("engine ready", "socket", o.Socket, "dir", o.Dir, "clickhouse", h.clickhouse, "libchdb", lib.version(), "start_ms", time.Since(began).Milliseconds())

	select {
	case err := <-served:
		return fmt.Errorf("serve engine: %w", err)
	case <-ctx.Done():
	}
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer stop()
	if err := server.Shutdown(drain); err != nil {
		h.cancelAll()
		_ = server.Close()
	}
	<-served
	h.wait()
	o.Log.Info("engine stopped")
	return nil
}

// claim makes dir ours, or refuses it if it holds something else.
func claim(dir string) error {
	const op = "open engine data"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	file := filepath.Join(dir, marker)
	text, err := os.ReadFile(file)
	switch {
	case err == nil && string(text) == markerText:
		return nil
	case err == nil:
		return core.Errorf(core.KindDamaged, op, "%s says %q, which this version does not know; use the Gnomon that wrote it, or another folder", file, firstLine(string(text)))
	case !errors.Is(err, os.ErrNotExist):
		return core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	for _, e := range entries {
		if e.Name() != lockName {
			return core.Errorf(core.KindDamaged, op, "%s is not empty (it holds %q) and has no file %q: it is not a data folder of Gnomon's engine; name another folder", dir, e.Name(), marker)
		}
	}
	return os.WriteFile(file, []byte(markerText), 0o600)
}

// damaged says what to do about a folder that ClickHouse does not open.
func damaged(dir string, err error) error {
	return &core.Error{Kind: core.KindDamaged, Op: "open engine data", Err: fmt.Errorf("%s: %w", dir, err), Findings: []core.Finding{{Message: core.Text{
		Zh: "ClickHouse 无法打开该数据目录：请从备份恢复，或把该目录移走后重启（历史会从头开始，任务与调度不受影响）",
		En: "ClickHouse cannot open this data folder: restore it from a backup, or move it away and start again (history begins anew; tasks and schedules are not affected)",
	}}}}
}

// listen opens the socket for the owner only. A socket left by a dead process is replaced: the folder's lock is held.
func listen(path string) (net.Listener, error) {
	const op = "listen for ClickHouse clients"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, core.Errorf(core.KindConflict, op, "%s exists and is not a socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, core.Errorf(core.KindUnavailable, op, "%w", err)
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close()
		return nil, core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	return listener, nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
