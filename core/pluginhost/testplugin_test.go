package pluginhost_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// The test binary is its own plugin: started with the handshake's cookie, it serves wild. It does not use the SDK, which
// would not let it misbehave.

type order struct {
	Do   string `json:"do"`
	Size int    `json:"size"`
	File string `json:"file"`
}

type wild struct {
	pluginv1.UnimplementedPluginServiceServer
	deaf bool // does not know Cancel

	mu      sync.Mutex
	running map[string]context.CancelFunc
}

// servePlugin serves until the host ends it. What it does beyond that is told by its arguments.
func servePlugin(args []string) {
	if len(args) > 0 {
		switch args[0] {
		case "crash-at-start":
			fmt.Fprintln(os.Stderr, "panic: no configuration")
			os.Exit(3)
		case "hang-at-start":
			select {}
		}
	}
	immortal := len(args) > 0 && args[0] == "immortal" // does not mind that the host is gone
	if fd, err := strconv.Atoi(os.Getenv(protocol.EnvHostGoneFD)); err == nil && !immortal {
		gone := os.NewFile(uintptr(fd), "host-gone")
		syscall.CloseOnExec(fd)
		go func() {
			_, _ = gone.Read(make([]byte, 1))
			_ = syscall.Kill(-os.Getpid(), syscall.SIGKILL)
		}()
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM)
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: protocol.Handshake,
		Plugins:         protocol.Plugins(&wild{running: map[string]context.CancelFunc{}, deaf: len(args) > 0 && args[0] == "deaf"}),
		Logger:          protocol.Silence(),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(append(opts, protocol.ServerOptions()...), grpc.MaxSendMsgSize(1<<30), grpc.NumStreamWorkers(16))...)
		},
	})
	os.Exit(0)
}

func (w *wild) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	if len(os.Args) > 1 && os.Args[1] == "hang-at-describe" {
		fmt.Fprintln(os.Stderr, "thinking about it")
		select {}
	}
	schema := []byte(`{"type":"object"}`)
	types := []*pluginv1.TaskType{
		{Name: "Test.Do", Title: &pluginv1.Text{Zh: "做", En: "Do"}, ParamsSchema: schema, Timeout: durationpb.New(time.Minute)},
		{Name: "Test.Needy", Title: &pluginv1.Text{Zh: "要", En: "Need"}, ParamsSchema: schema, Needs: []string{"sql:business"}},
	}
	if len(os.Args) > 1 && os.Args[1] == "foreign-type" {
		types = append(types, &pluginv1.TaskType{Name: "Other.Do", ParamsSchema: []byte("nothing")})
	}
	return &pluginv1.DescribeResponse{Name: "wild", Version: "1.0.0", Sdk: "none", TaskTypes: types}, nil
}

func (w *wild) Validate(_ context.Context, req *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	var o order
	if err := json.Unmarshal(req.GetParams(), &o); err != nil || o.Do == "" {
		return &pluginv1.ValidateResponse{Findings: []*pluginv1.Finding{{Path: "do", Message: &pluginv1.Text{Zh: "要做什么", En: "do what"}}}}, nil
	}
	return &pluginv1.ValidateResponse{}, nil
}

func key(run string, attempt int32) string { return fmt.Sprintf("%s/%d", run, attempt) }

func (w *wild) Cancel(_ context.Context, req *pluginv1.CancelRequest) (*pluginv1.CancelResponse, error) {
	if w.deaf {
		return nil, status.Error(codes.Unimplemented, "no such method")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	cancel, running := w.running[key(req.GetRunId(), req.GetAttempt())]
	if running {
		cancel()
	}
	return &pluginv1.CancelResponse{Running: running}, nil
}

func say(level pluginv1.Level, message string, attrs ...*pluginv1.Attr) *pluginv1.RunResponse {
	return &pluginv1.RunResponse{Event: &pluginv1.RunResponse_Logs{Logs: &pluginv1.LogBatch{Lines: []*pluginv1.LogLine{
		{At: timestamppb.Now(), Level: level, Message: message, Attrs: attrs}}}}}
}

func done(output string) *pluginv1.RunResponse {
	return &pluginv1.RunResponse{Event: &pluginv1.RunResponse_Outcome{Outcome: &pluginv1.Outcome{
		BeganAt: timestamppb.Now(), Result: &pluginv1.Outcome_Success{Success: &pluginv1.Success{Output: []byte(output)}},
		Usage: &pluginv1.Usage{Cpu: durationpb.New(time.Millisecond), CpuSource: pluginv1.UsageSource_USAGE_SOURCE_MEASURED,
			PeakRssBytes: 7, RssSource: pluginv1.UsageSource_USAGE_SOURCE_UNSPECIFIED}}}}
}

func failed(f *pluginv1.Failure) *pluginv1.RunResponse {
	return &pluginv1.RunResponse{Event: &pluginv1.RunResponse_Outcome{Outcome: &pluginv1.Outcome{
		BeganAt: timestamppb.Now(), Result: &pluginv1.Outcome_Failure{Failure: f}}}}
}

var nothing = done("")

func (w *wild) Run(req *pluginv1.RunRequest, stream grpc.ServerStreamingServer[pluginv1.RunResponse]) error {
	if req.GetTaskType() != "Test.Do" && req.GetTaskType() != "Test.Needy" {
		return status.Errorf(codes.NotFound, "no task type %q", req.GetTaskType())
	}
	if len(req.GetParams()) == 2 { // {}: the empty attempt
		return stream.Send(nothing)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	k := key(req.GetRunId(), req.GetAttempt())
	w.mu.Lock()
	w.running[k] = cancel
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.running, k)
		w.mu.Unlock()
	}()
	var o order
	if err := json.Unmarshal(req.GetParams(), &o); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	send := func(all ...*pluginv1.RunResponse) error {
		for _, one := range all {
			if err := stream.Send(one); err != nil {
				return err
			}
		}
		return nil
	}
	info := pluginv1.Level_LEVEL_INFO
	switch o.Do {
	case "talk":
		return send(say(info, "one"), say(pluginv1.Level_LEVEL_WARN, "two", &pluginv1.Attr{Key: "k", Value: "v"}),
			&pluginv1.RunResponse{Event: &pluginv1.RunResponse_Progress{Progress: &pluginv1.Progress{Done: 1, Total: 2}}},
			say(pluginv1.Level_LEVEL_ERROR, "three"),
			&pluginv1.RunResponse{Event: &pluginv1.RunResponse_Checkpoint{Checkpoint: []byte("here")}}, done(`{"ok":true}`))
	case "echo":
		out, _ := json.Marshal(map[string]any{"run_id": req.GetRunId(), "attempt": req.GetAttempt(), "checkpoint": string(req.GetCheckpoint())})
		return send(done(string(out)))
	case "trace":
		out, _ := json.Marshal(map[string]any{"traceparent": req.GetTraceparent()})
		return send(done(string(out)))
	case "fail":
		return send(failed(&pluginv1.Failure{Message: "no luck"}))
	case "permanent":
		return send(failed(&pluginv1.Failure{Message: "gone", Reason: &pluginv1.Failure_Permanent{Permanent: &pluginv1.Permanent{}}}))
	case "later":
		return send(failed(&pluginv1.Failure{Message: "busy", Reason: &pluginv1.Failure_RetryAfter{RetryAfter: &pluginv1.RetryAfter{Wait: durationpb.New(90 * time.Second)}}}))
	case "invalid":
		return send(failed(&pluginv1.Failure{Reason: &pluginv1.Failure_InvalidParameters{InvalidParameters: &pluginv1.InvalidParameters{
			Findings: []*pluginv1.Finding{{Path: "urls[2]", Message: &pluginv1.Text{Zh: "不是网址", En: "is no URL"}}}}}}))
	case "wait":
		<-ctx.Done()
		return send(say(info, "stopping"), failed(&pluginv1.Failure{Message: "asked to", Reason: &pluginv1.Failure_Cancelled{Cancelled: &pluginv1.Cancelled{}}}))
	case "say-and-wait":
		_ = send(say(info, "waiting"))
		<-ctx.Done()
		return send(say(info, "stopping"), failed(&pluginv1.Failure{Message: "asked to", Reason: &pluginv1.Failure_Cancelled{Cancelled: &pluginv1.Cancelled{}}}))
	case "lines-then-wait":
		_ = send(say(info, "waiting"))
		<-ctx.Done()
		return send(failed(&pluginv1.Failure{Message: "asked to", Reason: &pluginv1.Failure_Cancelled{Cancelled: &pluginv1.Cancelled{}}}))
	case "finish-late": // succeeds although it was asked to stop
		_ = send(say(info, "working"))
		<-ctx.Done()
		return send(done(`"late"`))
	case "stubborn":
		_ = send(say(info, "no"))
		select {}
	case "crash":
		_ = send(say(info, "before"))
		fmt.Fprintln(os.Stderr, "about to crash")
		<-time.After(50 * time.Millisecond) // what is still in gRPC's buffers ends with the process
		go func() { panic("boom " + req.GetGrants()["sql:business"]) }()
		select {}
	case "exit":
		os.Exit(7)
	case "flood":
		line := []byte(strings.Repeat("x", 99) + "\n")
		for range o.Size {
			_, _ = syscall.Write(2, line)
		}
		_, _ = syscall.Write(2, []byte("the end\n"))
		os.Exit(9)
	case "huge":
		return send(say(info, strings.Repeat("x", o.Size)), done(""))
	case "latin1":
		return stream.SendMsg(&pluginv1.ValidateResponse{Findings: []*pluginv1.Finding{{Path: "do"}}})
	case "no-outcome":
		return send(say(info, "bye"))
	case "two-outcomes":
		return send(done("1"), done("2"))
	case "after-outcome":
		return send(done("1"), say(info, "one more thing"))
	case "empty-outcome":
		return send(&pluginv1.RunResponse{Event: &pluginv1.RunResponse_Outcome{Outcome: &pluginv1.Outcome{}}})
	case "empty-event":
		return send(&pluginv1.RunResponse{}, done("1"))
	case "no-level":
		return send(say(0, "what level"), done("1"))
	case "bad-output":
		return send(done("{"))
	case "big-checkpoint":
		return send(&pluginv1.RunResponse{Event: &pluginv1.RunResponse_Checkpoint{Checkpoint: make([]byte, protocol.MaxCheckpointBytes+1)}}, done("1"))
	case "grpc-error":
		return status.Error(codes.DataLoss, "lost it")
	case "lines":
		for i := range o.Size {
			if err := send(say(info, strconv.Itoa(i))); err != nil {
				return err
			}
		}
		return send(done(""))
	case "burn", "burn-away": // 150 ms of CPU time; away: in a child that nobody waits for, after it has left the group
		if o.Do == "burn-away" {
			child := exec.Command("/bin/sh", "-c", "(i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done) & sleep 0")
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := child.Run(); err != nil {
				return err
			}
			return send(done(""))
		}
		var u syscall.Rusage
		for u.Utime.Nano() < int64(150*time.Millisecond) {
			_ = syscall.Getrusage(syscall.RUSAGE_THREAD, &u)
		}
		return send(done(""))
	case "environment":
		out, _ := json.Marshal(map[string]any{"env": os.Environ(), "args": os.Args, "grants": req.GetGrants()})
		return send(done(string(out)))
	case "memory":
		var kept [][]byte
		for {
			b := make([]byte, 8<<20)
			for i := range b {
				b[i] = byte(i)
			}
			kept = append(kept, b)
			_ = kept
		}
	case "fork", "fork-away": // a child that would live for ten minutes; its PID goes to the file
		child := exec.Command("/bin/sleep", "600")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: o.Do == "fork-away"}
		if err := child.Start(); err != nil {
			return err
		}
		if err := os.WriteFile(o.File, []byte(strconv.Itoa(child.Process.Pid)), 0o600); err != nil {
			return err
		}
		_ = send(say(info, "forked"))
		<-ctx.Done()
		select {}
	}
	return status.Errorf(codes.InvalidArgument, "do %q", o.Do)
}
