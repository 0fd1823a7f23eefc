// Package sdktest tests a plugin the way Gnomon uses it: over the contract, on a unix socket, in the test's process.
// Exercise is the suite every plugin should pass; Start gives a host to run single attempts with.
package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gnomon-scheduler/gnomon/sdk"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// Verdict is how an attempt ended.
type Verdict string

// The verdicts.
const (
	Succeeded Verdict = "succeeded"
	Failed    Verdict = "failed"
	Cancelled Verdict = "cancelled"
)

// Attempt is what to run. Only Type is needed; the rest has sensible values.
type Attempt struct {
	Type            string // full name of the task type
	Params          any    // JSON as string, []byte or json.RawMessage; anything else is encoded; nil: {}
	Grants          map[string]string
	Checkpoint      any // what the last attempt left, encoded as Params are; nil: nothing
	RunID           string
	Number          int // of the attempt; 0: 1
	Token           int64
	Namespace       string // "": the type's
	TaskName        string
	FireAt          time.Time // zero: now
	PreviousSuccess time.Time
	Zone            string
	Trigger         sdk.Trigger   // "": manual
	Traceparent     string        // W3C trace context; "": none
	LogLevel        *slog.Level   // nil: all lines
	TimeLimit       time.Duration // 0: none
	OnLine          func(Line)    // called for each line as it comes; may be nil
}

// Line is one line an attempt said.
type Line struct {
	At      time.Time
	Level   slog.Level
	Stream  string // log, stdout or stderr
	Message string
	Attrs   map[string]string
}

// Progress is one report of how far an attempt was.
type Progress struct {
	Done, Total int64
	Note        string
}

// Result is what an attempt said and how it ended.
type Result struct {
	Lines      []Line
	Progress   []Progress
	Checkpoint json.RawMessage // the last one; nil: none
	Messages   int             // messages on the stream, the outcome included

	Verdict    Verdict
	Message    string          // of a failure
	Output     json.RawMessage // of a success
	Permanent  bool            // trying again cannot help; also with Findings
	RetryAfter time.Duration
	Findings   []sdk.Finding // of invalid parameters
	Usage      *pluginv1.Usage
	Err        error // the call itself failed; a gRPC status. Nothing else means anything then, but for what came before
}

// Host is a host with one plugin. It ends with the test.
type Host struct {
	t   testing.TB
	api pluginv1.PluginServiceClient

	mu   sync.Mutex
	runs int
}

// Start serves the plugin on a unix socket and connects to it.
func Start(t testing.TB, plugin sdk.Plugin) *Host {
	t.Helper()
	// Not t.TempDir: its path holds the test's name, and a socket's path may have 107 bytes.
	folder, err := os.MkdirTemp("", "sdktest")
	if err != nil {
		t.Fatalf("socket folder: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	path := filepath.Join(folder, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	server := grpc.NewServer(protocol.ServerOptions()...)
	if err := plugin.Register(server); err != nil {
		t.Fatalf("the plugin is unsound: %v", err)
	}
	served := make(chan struct{})
	go func() { // ends when the cleanup stops the server
		defer close(served)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient("unix:"+path, append(protocol.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-served
	})
	return &Host{t: t, api: pluginv1.NewPluginServiceClient(conn)}
}

// Client gives the contract itself, for what the other methods do not cover.
func (h *Host) Client() pluginv1.PluginServiceClient { return h.api }

// Describe gives what the plugin says of itself.
func (h *Host) Describe(ctx context.Context) *pluginv1.DescribeResponse {
	h.t.Helper()
	said, err := h.api.Describe(ctx, &pluginv1.DescribeRequest{HostVersion: "sdktest"})
	if err != nil {
		h.t.Fatalf("describe: %v", err)
	}
	return said
}

// Validate gives what is wrong with params, which are as in Attempt.
func (h *Host) Validate(ctx context.Context, taskType string, params any) []sdk.Finding {
	h.t.Helper()
	answer, err := h.api.Validate(ctx, &pluginv1.ValidateRequest{TaskType: taskType, Params: h.encode(params, "{}")})
	if err != nil {
		h.t.Fatalf("validate parameters of %s: %v", taskType, err)
	}
	return findings(answer.GetFindings())
}

// Grace is how long Run waits for the outcome once its context has ended.
const Grace = 5 * time.Second

// Run carries out one attempt and waits for its outcome. When ctx ends the attempt is asked to stop, as by an operator,
// and its outcome is still waited for, up to Grace. A breach of the contract (nothing or something after the outcome,
// a line without level) is an error of the test.
func (h *Host) Run(ctx context.Context, attempt Attempt) Result {
	h.t.Helper()
	request := h.request(attempt)
	calling, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	stream, err := h.api.Run(calling, request)
	if err != nil {
		return Result{Err: err}
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_, err := h.api.Cancel(calling, &pluginv1.CancelRequest{RunId: request.GetRunId(), Attempt: request.GetAttempt(), Reason: context.Cause(ctx).Error()})
		if err != nil && calling.Err() == nil {
			h.t.Errorf("cancel %s: %v", attempt.Type, err)
		}
		late := time.NewTimer(Grace)
		defer late.Stop()
		select {
		case <-late.C:
			h.t.Errorf("%s did not end within %v of being asked to stop", attempt.Type, Grace)
			hangUp()
		case <-calling.Done():
		}
	})
	result := h.receive(stream, attempt)
	hangUp()
	if !stop() {
		<-stopped
	}
	return result
}

func (h *Host) request(a Attempt) *pluginv1.RunRequest {
	h.t.Helper()
	h.mu.Lock()
	h.runs++
	id := fmt.Sprintf("00000000-0000-7000-8000-%012d", h.runs)
	h.mu.Unlock()
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	namespace := a.Type
	for i := range namespace {
		if namespace[i] == '.' {
			namespace = namespace[:i]
			break
		}
	}
	if a.FireAt.IsZero() {
		a.FireAt = time.Now()
	}
	request := &pluginv1.RunRequest{
		RunId:       or(a.RunID, id),
		Attempt:     int32(max(a.Number, 1)),
		Token:       max(a.Token, 1),
		TaskId:      "00000000-0000-7000-8000-000000000000",
		Namespace:   or(a.Namespace, namespace),
		TaskName:    or(a.TaskName, "test"),
		TaskType:    a.Type,
		FireAt:      timestamppb.New(a.FireAt),
		Params:      h.encode(a.Params, "{}"),
		Checkpoint:  h.encode(a.Checkpoint, ""),
		Zone:        a.Zone,
		Traceparent: a.Traceparent,
		Trigger:     or(string(a.Trigger), string(sdk.TriggerManual)),
		Grants:      a.Grants,
	}
	if !a.PreviousSuccess.IsZero() {
		request.PreviousSuccessAt = timestamppb.New(a.PreviousSuccess)
	}
	if a.LogLevel != nil {
		request.LogLevel = pluginv1.Level(min(max((int32(*a.LogLevel)+8)/4, 1), 4))
	}
	if a.TimeLimit > 0 {
		request.TimeLimit = durationpb.New(a.TimeLimit)
	}
	return request
}

func (h *Host) encode(value any, otherwise string) []byte {
	h.t.Helper()
	switch v := value.(type) {
	case nil:
		return []byte(otherwise)
	case string:
		return []byte(v)
	case []byte:
		return v
	case json.RawMessage:
		return v
	}
	data, err := json.Marshal(value)
	if err != nil {
		h.t.Fatalf("encode %T: %v", value, err)
	}
	return data
}

func (h *Host) receive(stream grpc.ServerStreamingClient[pluginv1.RunResponse], attempt Attempt) (result Result) {
	h.t.Helper()
	var outcome *pluginv1.Outcome
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			result.Err = err
			return result
		}
		result.Messages++
		if outcome != nil {
			h.t.Errorf("%s sent %T after its outcome", attempt.Type, event.GetEvent())
		}
		switch e := event.GetEvent().(type) {
		case *pluginv1.RunResponse_Logs:
			for _, said := range e.Logs.GetLines() {
				line := h.line(said, attempt.Type)
				result.Lines = append(result.Lines, line)
				if attempt.OnLine != nil {
					attempt.OnLine(line)
				}
			}
		case *pluginv1.RunResponse_Progress:
			result.Progress = append(result.Progress, Progress{e.Progress.GetDone(), e.Progress.GetTotal(), e.Progress.GetNote()})
		case *pluginv1.RunResponse_Checkpoint:
			result.Checkpoint = e.Checkpoint
		case *pluginv1.RunResponse_Outcome:
			outcome = e.Outcome
		default:
			h.t.Errorf("%s sent an empty event", attempt.Type)
		}
	}
	if outcome == nil {
		h.t.Errorf("%s ended without an outcome", attempt.Type)
		return result
	}
	result.conclude(outcome)
	return result
}

func (h *Host) line(said *pluginv1.LogLine, taskType string) Line {
	h.t.Helper()
	if said.GetLevel() == pluginv1.Level_LEVEL_UNSPECIFIED || said.GetAt() == nil {
		h.t.Errorf("%s said a line without level or time: %v", taskType, said)
	}
	line := Line{
		At: said.GetAt().AsTime(), Level: slog.Level(4*int(said.GetLevel()) - 8), Message: said.GetMessage(), Stream: "log",
		Attrs: map[string]string{},
	}
	switch said.GetStream() {
	case pluginv1.Stream_STREAM_STDOUT:
		line.Stream = "stdout"
	case pluginv1.Stream_STREAM_STDERR:
		line.Stream = "stderr"
	}
	for _, a := range said.GetAttrs() {
		line.Attrs[a.GetKey()] = a.GetValue()
	}
	return line
}

func (r *Result) conclude(outcome *pluginv1.Outcome) {
	r.Usage = outcome.GetUsage()
	if success := outcome.GetSuccess(); success != nil {
		r.Verdict, r.Output = Succeeded, success.GetOutput()
		return
	}
	failure := outcome.GetFailure()
	r.Verdict, r.Message = Failed, failure.GetMessage()
	switch reason := failure.GetReason().(type) {
	case *pluginv1.Failure_Cancelled:
		r.Verdict = Cancelled
	case *pluginv1.Failure_Permanent:
		r.Permanent = true
	case *pluginv1.Failure_RetryAfter:
		r.RetryAfter = reason.RetryAfter.GetWait().AsDuration()
	case *pluginv1.Failure_InvalidParameters:
		r.Permanent, r.Findings = true, findings(reason.InvalidParameters.GetFindings())
	}
}

func findings(said []*pluginv1.Finding) []sdk.Finding {
	var out []sdk.Finding
	for _, f := range said {
		out = append(out, sdk.Finding{Path: f.GetPath(), Message: sdk.Text{Zh: f.GetMessage().GetZh(), En: f.GetMessage().GetEn()}})
	}
	return out
}
