package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	goplugin "github.com/hashicorp/go-plugin"

	"github.com/gnomon-scheduler/gnomon/sdk"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// The test's own program is the plugin of the benchmark: started with the magic cookie it serves.
func TestMain(m *testing.M) {
	if os.Getenv(protocol.Handshake.MagicCookieKey) != "" {
		sdk.Serve(plugin())
	}
	os.Exit(m.Run())
}

// BenchmarkRun is the whole way of a no-op attempt between two processes over a unix socket, with a bare host.
func BenchmarkRun(b *testing.B) {
	for _, lines := range []int{0, 2} {
		for _, callers := range []int{1, 16} {
			b.Run(fmt.Sprintf("lines=%d/callers=%d", lines, callers), func(b *testing.B) { benchmarkRun(b, lines, callers) })
		}
	}
}

// dial starts the plugin as a process of its own.
func dial(t testing.TB) pluginv1.PluginServiceClient {
	t.Helper()
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: protocol.Handshake, Plugins: protocol.Plugins(nil), Cmd: exec.Command(os.Args[0]), SkipHostEnv: true,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: protocol.Silence(), GRPCDialOptions: protocol.DialOptions(),
	})
	t.Cleanup(client.Kill)
	conn, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	dispensed, err := conn.Dispense(protocol.SetName)
	if err != nil {
		t.Fatal(err)
	}
	return dispensed.(pluginv1.PluginServiceClient)
}

// TestWorkThatCrashesTakesItsProcessAlongAndLeavesNoEnd needs a process that may end.
func TestWorkThatCrashesTakesItsProcessAlongAndLeavesNoEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "evidence.csv")
	stream, err := dial(t).Run(t.Context(), &pluginv1.RunRequest{
		RunId: "crash", Attempt: 1, TaskType: "Bench.Work", Params: fmt.Appendf(nil, `{"path":%q,"fail_rate":1,"fails":"crash"}`, path),
	})
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || strings.Count(string(data), "\n") != 1 || !strings.HasPrefix(string(data), "start,") {
		t.Errorf("%q %v", data, err)
	}
}

func benchmarkRun(b *testing.B, lines, callers int) {
	api := dial(b)
	params := fmt.Appendf(nil, `{"lines":%d}`, lines)
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ResetTimer()
	for caller := range callers {
		request := &pluginv1.RunRequest{RunId: fmt.Sprint(caller), Attempt: 1, TaskType: "Bench.NoOp", Params: params}
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := runOnce(b, api, request); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func runOnce(b *testing.B, api pluginv1.PluginServiceClient, request *pluginv1.RunRequest) error {
	stream, err := api.Run(b.Context(), request)
	if err != nil {
		return err
	}
	var last *pluginv1.RunResponse
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		last = event
	}
	if last.GetOutcome().GetSuccess() == nil {
		return fmt.Errorf("ended with %v", last)
	}
	return nil
}
