package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newServerCommand() *cobra.Command {
	var file, level string
	var flags Config
	var noContext, openListen bool
	var cpuProfile string
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the scheduler: REST API, task types, history",
		Long: "Run the scheduler in the foreground until it is interrupted. Everything it keeps is in the data folder; with no\n" +
			"store and no ClickHouse named, SQLite and the embedded ClickHouse engine are used.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := readConfig(file)
			if err != nil {
				return err
			}
			overlay(&config.Listen, flags.Listen)
			overlay(&config.Data, flags.Data)
			overlay(&config.Plugins, flags.Plugins)
			overlay(&config.Scripts, flags.Scripts)
			if err := config.complete(); err != nil {
				return err
			}
			var threshold slog.Level
			if err := threshold.UnmarshalText([]byte(level)); err != nil {
				return fmt.Errorf("--log-level: %w", err)
			}
			if err := checkListen(config.Listen, openListen); err != nil {
				return err
			}
			if config.ClickHouseListen != "" {
				if err := checkListen(config.ClickHouseListen, openListen); err != nil {
					return fmt.Errorf("clickhouse_listen: %w", err)
				}
			}
			stopProfile, err := profile(cpuProfile)
			if err != nil {
				return err
			}
			defer stopProfile()
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: threshold}))
			return serve(cmd.Context(), config, log, !noContext)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", os.Getenv("GNOMON_CONFIG"), "configuration file (YAML)")
	f.StringVar(&flags.Data, "data", "", "data folder (default ~/.local/share/gnomon)")
	f.StringVar(&flags.Listen, "listen", "", "address of the REST API (default 127.0.0.1:8080)")
	f.StringVar(&flags.Plugins, "plugins", "", "folder that holds one folder per plugin (default beside the program)")
	f.StringVar(&flags.Scripts, "scripts", "", "folder that holds <Namespace>/<Type>.lua (default beside the program)")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&noContext, "no-context", false, "do not write the context file by which the command line finds this server")
	f.BoolVar(&openListen, "insecure-listen", false, "allow an address that is not loopback although there is no TLS")
	f.StringVar(&cpuProfile, "cpu-profile", "", "write a CPU profile of the server's whole life to this file (go tool pprof reads it)")
	return cmd
}

// profile writes a CPU profile until stop is called; an empty path writes none.
func profile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}

func overlay(field *string, flag string) {
	if flag != "" {
		*field = flag
	}
}

// checkListen refuses an address that others can reach, unless it was asked for: there is no TLS.
func checkListen(address string, allowed bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("--listen %q is not host:port: %w", address, err)
	}
	ip := net.ParseIP(host)
	if allowed || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("--listen %s: without TLS the server listens on loopback only; put a TLS proxy before it, or add --insecure-listen", address)
}

// part is something that was started and must be stopped. Parts are stopped in the opposite order.
type part struct {
	name  string
	limit time.Duration
	stop  func(context.Context) error
}

// serve starts every room, waits for ctx to end, and stops them. The order of the parts is the order of the road:
// whoever writes is stopped before whoever it writes to.
func serve(ctx context.Context, config Config, log *slog.Logger, writeContext bool) (err error) {
	live, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var parts []part
	defer func() {
		for i := len(parts) - 1; i >= 0; i-- {
			p := parts[i]
			limited, done := context.WithTimeout(live, p.limit)
			if stopErr := p.stop(limited); stopErr != nil {
				log.Warn("part did not stop in order", "part", p.name, "err", stopErr)
			}
			done()
		}
		log.Info("server stopped")
	}()
	if err := os.MkdirAll(config.Data, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	// Before all else: a taken address is said before anything has been started, and tasks are kept from the one it is.
	listener, err := (&net.ListenConfig{Control: boundSending}).Listen(ctx, "tcp", config.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; is another gnomon server running? Choose another address with --listen", config.Listen, err)
	}
	defer func() { _ = listener.Close() }() // Shutdown has closed it, unless the start failed
	if config.notItself, err = excluding(listener.Addr().String()); err != nil {
		return fmt.Errorf("find this machine's addresses: %w", err)
	}
	var own net.Listener // for ClickHouse's clients; nil: none
	if config.ClickHouseListen != "" {
		if own, err = (&net.ListenConfig{Control: boundSending}).Listen(ctx, "tcp", config.ClickHouseListen); err != nil {
			return fmt.Errorf("listen for ClickHouse's clients on %s: %w; choose another address for GNOMON_CLICKHOUSE_LISTEN", config.ClickHouseListen, err)
		}
		defer func() { _ = own.Close() }() // as above
		more, err := excluding(own.Addr().String())
		if err != nil {
			return fmt.Errorf("find this machine's addresses: %w", err)
		}
		config.notItself += more
	}
	app, err := assemble(ctx, live, config, log, func(p part) { parts = append(parts, p) })
	if err != nil {
		return err
	}
	// Before anything is answered: whoever sees the server ready finds its token.
	if err := app.welcome(ctx, listener.Addr().String(), writeContext); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", app.api.Handler())
	mux.Handle("GET /metrics", app.metricsHandler())
	for _, pattern := range []string{gatewayPrefix, gatewayPrefix + "/"} {
		mux.Handle(pattern, app.api.Beside(http.StripPrefix(gatewayPrefix, app.gateway)))
	}
	if own != nil {
		parts = append(parts, app.answerClickHouse(own))
	}
	httpServer := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- httpServer.Serve(listener) }() // ends with Shutdown
	parts = append(parts, part{"http", 2 * time.Second, func(ctx context.Context) error {
		app.api.Stop()
		if err := httpServer.Shutdown(ctx); err != nil {
			return httpServer.Close()
		}
		return nil
	}})
	select {
	case <-ctx.Done():
		log.Info("server stopping", "executing", app.runner.Executing())
		return nil
	case <-app.lease.Lost():
		return errors.New("another server has taken this one's lease away: it had not been renewed in time, because the process was stopped or the store did not answer; start the server again")
	case err := <-failed:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve the REST API: %w", err)
	}
}

// answerClickHouse answers ClickHouse's clients at the root of a port of their own, for those that know no path.
func (a *app) answerClickHouse(listener net.Listener) part {
	server := &http.Server{Handler: a.api.Beside(a.gateway), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	served := make(chan struct{})
	go func() { // ends with Shutdown or Close
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("clients of ClickHouse not answered any more", "err", err)
		}
	}()
	a.log.Info("listening for clients of ClickHouse", "url", "http://"+listener.Addr().String())
	return part{"clickhouse clients", 2 * time.Second, func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if err != nil {
			err = server.Close()
		}
		<-served
		return err
	}}
}

// sendBuffer is how many bytes of an answer may be on their way. The system would let it grow to 4 MiB, all of which is made
// for a reader who takes a byte a second; this carries 2.5 MB/s over a line of 100 ms.
const sendBuffer = 128 << 10

// unsent is how many bytes of it may wait to be sent: more would be made for a reader whose own buffer is small and full.
const unsent = 16 << 10

// boundSending bounds the send buffers of the connections that a listener takes: they inherit its own.
func boundSending(_, _ string, c syscall.RawConn) (err error) {
	controlled := c.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent))
	})
	return errors.Join(err, controlled)
}

// runDir is where sockets live: in the data folder, or, if its path is too long for a unix socket, in the system's
// folder for temporary files under a name made from it.
func runDir(data string) string {
	dir := filepath.Join(data, "run")
	if len(dir) <= 50 {
		return dir
	}
	return filepath.Join(os.TempDir(), "gnomon-"+shortHash(data))
}

// pluginDirs lists the folders that hold a plugin.
func pluginDirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, core.Errorf(core.KindInvalid, "read plugins folder "+dir, "%w", err)
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			dirs = append(dirs, filepath.Join(dir, e.Name()))
		}
	}
	return dirs, nil
}
