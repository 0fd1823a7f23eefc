package luavm_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gnomon-scheduler/gnomon/core/luavm"
	"github.com/gnomon-scheduler/gnomon/sdk"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

// scriptFolder writes files of the namespace Ns and gives the folder of scripts.
func scriptFolder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "Ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, source := range files {
		write(t, dir, name, source)
	}
	return dir
}

func write(t testing.TB, dir, name, source string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "Ns", name), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
}

// script is a task whose run function has this body.
func script(body string, extra ...string) string {
	head := ""
	for _, e := range extra {
		head += e + ","
	}
	return "return task{ title = {zh='甲', en='A'}, " + head + " run = function(ctx)\n" + body + "\nend }"
}

// host serves the folder in this process.
func host(t testing.TB, dir string, change ...func(*luavm.Options)) *sdktest.Host {
	t.Helper()
	opts := luavm.Options{Dir: dir, Namespace: "Ns"}
	for _, c := range change {
		c(&opts)
	}
	w, err := luavm.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return sdktest.Start(t, sdk.Plugin{Name: "lua-ns", Version: "1.0.0", Source: w})
}

// run runs a script of this body, with these grants as needs, and gives the result.
func run(t testing.TB, body string, grants map[string]string) sdktest.Result {
	t.Helper()
	needs := "needs = {"
	for need := range grants {
		needs += "'" + need + "',"
	}
	h := host(t, scriptFolder(t, map[string]string{"T.lua": script(body, needs+"}")}))
	return h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T", Grants: grants, Zone: "Asia/Shanghai"})
}

// output runs a script that must succeed and gives its output.
func output(t testing.TB, body string, grants map[string]string) string {
	t.Helper()
	r := run(t, body, grants)
	if r.Err != nil || r.Verdict != sdktest.Succeeded {
		t.Fatalf("the run ended %s: %s %v\n%s", r.Verdict, r.Message, r.Err, body)
	}
	return string(r.Output)
}

// failure runs a script that must fail and gives why.
func failure(t testing.TB, body string, grants map[string]string) string {
	t.Helper()
	r := run(t, body, grants)
	if r.Err != nil || r.Verdict != sdktest.Failed {
		t.Fatalf("the run ended %q %s %v, and should have failed\n%s", r.Verdict, r.Output, r.Err, body)
	}
	return r.Message
}

// process is a worker as its host starts it: a child process over the plugin contract. The handshake of go-plugin is
// done by hand, one line on standard output, because that library is pluginhost's.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	api  pluginv1.PluginServiceClient
	runs atomic.Int64
	ends func()
}

func startProcess(t testing.TB, dir, only string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "luavm") // t.TempDir may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{
		workerEnv + "=" + dir + "|Ns|" + only, "PLUGIN_UNIX_SOCKET_DIR=" + sockets,
		protocol.Handshake.MagicCookieKey + "=" + protocol.Handshake.MagicCookieValue, fmt.Sprint("PLUGIN_PROTOCOL_VERSIONS=", protocol.Version),
	}
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd}
	p.ends = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(sockets)
	})
	t.Cleanup(p.ends)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	part := strings.Split(strings.TrimSpace(line), "|") // core version, protocol version, network, address, grpc
	if err != nil || len(part) < 5 || part[2] != "unix" || part[4] != "grpc" {
		t.Fatalf("the worker said %q: %v", line, err)
	}
	conn, err := grpc.NewClient("unix:"+part[3], append(protocol.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p.api = pluginv1.NewPluginServiceClient(conn)
	return p
}

// kill ends the worker as a host does that has lost its patience.
func (p *process) kill() { p.ends() }

// run runs a task type with a time limit and gives its outcome, or the error of the call if the worker died.
func (p *process) run(ctx context.Context, typ string, limit time.Duration, grants map[string]string) (*pluginv1.Outcome, error) {
	stream, err := p.api.Run(ctx, &pluginv1.RunRequest{
		RunId: fmt.Sprintf("run-%d", p.runs.Add(1)), Attempt: 1, Token: 1, Namespace: "Ns", TaskType: typ, FireAt: timestamppb.Now(),
		Params: json.RawMessage(`{}`), TimeLimit: durationpb.New(limit), Grants: grants,
	})
	if err != nil {
		return nil, err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if o := m.GetOutcome(); o != nil {
			return o, nil
		}
	}
}
