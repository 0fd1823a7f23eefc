//go:build linux

package sdk_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"

	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// launch starts this test's program as a plugin, as a host does, and gives the host's end of the host-gone pipe.
func launch(t *testing.T) (*exec.Cmd, pluginv1.PluginServiceClient, io.Closer) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{protocol.EnvHostGoneFD + "=" + strconv.Itoa(protocol.HostGoneFD), "PATH=" + os.Getenv("PATH"), "GOCOVERDIR=" + t.TempDir()}
	cmd.ExtraFiles = []*os.File{read}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: protocol.Handshake, Plugins: protocol.Plugins(nil), Cmd: cmd, SkipHostEnv: true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, Logger: protocol.Silence(), GRPCDialOptions: protocol.DialOptions(),
	})
	t.Cleanup(func() {
		client.Kill()
		_ = write.Close()
	})
	conn, err := client.Client()
	_ = read.Close()
	if err != nil {
		t.Fatal(err)
	}
	api, err := conn.Dispense(protocol.SetName)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, api.(pluginv1.PluginServiceClient), write
}

func TestServe(t *testing.T) {
	t.Run("SpeaksGoPluginsHandshake", func(t *testing.T) {
		_, api, _ := launch(t)
		said, err := api.Describe(t.Context(), &pluginv1.DescribeRequest{})
		if err != nil || said.GetName() != "child" || said.GetSdk() == "" {
			t.Fatalf("%v %v", said, err)
		}
	})
	t.Run("DiesWithItsHostAndTakesItsChildrenAlong", func(t *testing.T) {
		cmd, api, pipe := launch(t)
		pidFile := filepath.Join(t.TempDir(), "pid")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stream, err := api.Run(ctx, &pluginv1.RunRequest{RunId: "r", Attempt: 1, TaskType: "Test.Hang", Params: []byte(`{"pid_file":"` + pidFile + `"}`)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil { // the line that says the child runs
			t.Fatal(err)
		}
		text, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		child, err := strconv.Atoi(string(text))
		if err != nil {
			t.Fatal(err)
		}
		_ = pipe.Close()
		if _, err := stream.Recv(); err == nil {
			t.Fatal("the stream lives on")
		}
		for _, pid := range []int{child, cmd.Process.Pid} {
			if err := awaitDeath(ctx, pid); err != nil {
				t.Fatalf("process %d: %v", pid, err)
			}
		}
	})
	t.Run("LeavesTerminalSignalsToTheHost", func(t *testing.T) {
		cmd, api, _ := launch(t)
		for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := api.Describe(t.Context(), &pluginv1.DescribeRequest{}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("StartedByHandSaysWhatItIs", func(t *testing.T) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{protocol.Handshake.MagicCookieKey + "=wrong"}
		said, err := cmd.CombinedOutput()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != 1 || !strings.Contains(string(said), "plugin of Gnomon") {
			t.Fatalf("%v: %s", err, said)
		}
	})
}

// awaitDeath waits until a process is gone or a zombie nobody has waited for yet.
func awaitDeath(ctx context.Context, pid int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return nil
		}
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && (rest[0] == 'Z' || rest[0] == 'X') {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
