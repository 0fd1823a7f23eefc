package wire

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// streamWorkers are goroutines that gRPC keeps for short calls, so that each does not grow a new stack. When all are
// busy, calls get goroutines of their own.
const streamWorkers = 16

// Refuse ends the process because the plugin is unsound.
func Refuse(err error) {
	fmt.Fprintf(os.Stderr, "gnomon plugin: %v\n", err)
	os.Exit(1) //nolint:forbidigo // Serve is the main of a plugin
}

// Serve serves the contract to the host that started this process, and ends the process with it.
func Serve(server pluginv1.PluginServiceServer) {
	if os.Getenv(protocol.Handshake.MagicCookieKey) != protocol.Handshake.MagicCookieValue {
		Refuse(fmt.Errorf("this program is a plugin of Gnomon: put its folder among the server's plugins; the server starts it"))
	}
	if text := os.Getenv(protocol.EnvHostGoneFD); text != "" {
		fd, err := strconv.Atoi(text)
		if err != nil || fd < 3 {
			Refuse(fmt.Errorf("%s=%q is not a descriptor", protocol.EnvHostGoneFD, text))
		}
		pipe := os.NewFile(uintptr(fd), "host-gone")
		closeOnExec(fd)
		go dieWithHost(pipe) // ends with the process
	}
	ignoreTerminal()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: protocol.Handshake,
		Plugins:         protocol.Plugins(server),
		Logger:          protocol.Silence(),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(append(opts, protocol.ServerOptions()...),
				grpc.NumStreamWorkers(streamWorkers),
				grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
			)...)
		},
	})
	// The host has asked the server to stop. Handlers that are still running have had their grace.
	os.Exit(0) //nolint:forbidigo // Serve is the main of a plugin
}

// dieWithHost waits for the end of the pipe nobody writes to: the kernel closes the host's end however the host dies.
func dieWithHost(pipe *os.File) {
	buf := make([]byte, 64)
	for {
		if _, err := pipe.Read(buf); err != nil {
			killGroup()
		}
	}
}

// ignoreTerminal takes the signals a terminal or an init system sends to all of a service, so that the host can drain
// first. They are caught, not ignored: a child process would inherit the ignoring.
func ignoreTerminal() {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() { // ends with the process
		for range caught {
		}
	}()
}
