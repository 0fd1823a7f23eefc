package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gnomon-scheduler/gnomon/sdk/internal/wire"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// Serve serves a plugin to the host that started this program; call it from main. It ends the process: with status 1 and
// a line on standard error if the plugin is unsound or no host started it, and with SIGKILL for the whole process group
// if the host is gone. Terminal signals are not obeyed: the host decides.
func Serve(p Plugin) {
	if err := p.Check(); err != nil {
		wire.Refuse(err)
	}
	wire.Serve(newServer(p))
}

// Register offers the plugin on a gRPC server of the caller's, for tests and for hosts that run it in their own process.
func (p Plugin) Register(to grpc.ServiceRegistrar) error {
	if err := p.Check(); err != nil {
		return err
	}
	pluginv1.RegisterPluginServiceServer(to, newServer(p))
	return nil
}

type server struct {
	pluginv1.UnimplementedPluginServiceServer
	plugin Plugin
	types  map[string]TaskType

	mu      sync.Mutex
	running map[attemptKey]context.CancelCauseFunc
}

type attemptKey struct {
	run     string
	attempt int32
}

func newServer(p Plugin) *server {
	s := &server{plugin: p, types: make(map[string]TaskType, len(p.Types)), running: map[attemptKey]context.CancelCauseFunc{}}
	for _, t := range p.Types {
		s.types[t.Describe().Name] = t
	}
	return s
}

// lookup gives a gRPC NOT_FOUND for a name nobody knows; any other error is the type's own trouble.
func (s *server) lookup(ctx context.Context, name string) (TaskType, error) {
	if t := s.types[name]; t != nil {
		return t, nil
	}
	if s.plugin.Source != nil {
		t, err := s.plugin.Source.Lookup(ctx, name)
		if err == nil && t != nil {
			return t, nil
		}
		if err != nil && !errors.Is(err, ErrUnknownType) {
			return nil, err
		}
	}
	return nil, status.Errorf(codes.NotFound, "plugin %q offers no task type %q", s.plugin.Name, name)
}

func isNotFound(err error) bool { return status.Code(err) == codes.NotFound }

func (s *server) Describe(ctx context.Context, _ *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	all := &pluginv1.DescribeResponse{Name: s.plugin.Name, Version: s.plugin.Version, Sdk: "go/" + Version}
	for _, t := range s.plugin.Types {
		all.TaskTypes = append(all.TaskTypes, describe(t.Describe()))
	}
	if s.plugin.Source == nil {
		return all, nil
	}
	more, err := guard(func() ([]Description, error) { return s.plugin.Source.Describe(ctx) })
	if err != nil {
		return nil, status.Errorf(codes.Internal, "describe task types: %v", err)
	}
	for _, d := range more {
		// One unsound type must not take the others with it.
		if err := d.Check(); err != nil && d.Problem == "" {
			d.Problem = err.Error()
		}
		all.TaskTypes = append(all.TaskTypes, describe(d))
	}
	return all, nil
}

func describe(d Description) *pluginv1.TaskType {
	t := &pluginv1.TaskType{
		Name:         d.Name,
		Title:        textMessage(d.Title),
		Description:  textMessage(d.Description),
		ParamsSchema: d.ParamsSchema,
		OutputSchema: d.OutputSchema,
		Needs:        d.Needs,
		Problem:      d.Problem,
		Version:      d.Version,
	}
	if len(t.ParamsSchema) == 0 {
		t.ParamsSchema = noParams
	}
	if d.Timeout > 0 {
		t.Timeout = durationpb.New(d.Timeout)
	}
	return t
}

func textMessage(t Text) *pluginv1.Text { return &pluginv1.Text{Zh: t.Zh, En: t.En} }

func findingMessages(findings []Finding) []*pluginv1.Finding {
	out := make([]*pluginv1.Finding, 0, len(findings))
	for _, f := range findings {
		out = append(out, &pluginv1.Finding{Path: f.Path, Message: textMessage(f.Message)})
	}
	return out
}

func (s *server) Validate(ctx context.Context, req *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	t, err := s.lookup(ctx, req.GetTaskType())
	if isNotFound(err) {
		return nil, err
	}
	if err != nil {
		return &pluginv1.ValidateResponse{Findings: findingMessages([]Finding{{Message: Text{
			Zh: "任务类型目前无法运行：" + err.Error(), En: "the task type cannot run at present: " + err.Error(),
		}}})}, nil
	}
	findings, err := guard(func() ([]Finding, error) { return t.Validate(ctx, req.GetParams()), nil })
	if err != nil {
		return nil, status.Errorf(codes.Internal, "validate parameters of %s: %v", req.GetTaskType(), err)
	}
	return &pluginv1.ValidateResponse{Findings: findingMessages(findings)}, nil
}

// guard calls f and turns a panic into an error with its stack.
func guard[T any](f func() (T, error)) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

func (s *server) Cancel(_ context.Context, req *pluginv1.CancelRequest) (*pluginv1.CancelResponse, error) {
	s.mu.Lock()
	cancel := s.running[attemptKey{req.GetRunId(), req.GetAttempt()}]
	s.mu.Unlock()
	if cancel == nil {
		return &pluginv1.CancelResponse{}, nil
	}
	cause := ErrCancelled
	if req.GetReason() != "" {
		cause = fmt.Errorf("%w: %s", ErrCancelled, req.GetReason())
	}
	cancel(cause)
	return &pluginv1.CancelResponse{Running: true}, nil
}

func (s *server) Run(req *pluginv1.RunRequest, stream grpc.ServerStreamingServer[pluginv1.RunResponse]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	if req.GetTimeLimit() != nil {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, req.GetTimeLimit().AsDuration(), ErrTimeLimit)
		defer stop()
	}
	if parent := req.GetTraceparent(); parent != "" {
		ctx = withTrace(ctx, parent)
	}
	t, err := s.lookup(ctx, req.GetTaskType())
	if isNotFound(err) {
		return err
	}
	key := attemptKey{req.GetRunId(), req.GetAttempt()}
	s.mu.Lock()
	_, twice := s.running[key]
	if !twice {
		s.running[key] = cancel
	}
	s.mu.Unlock()
	if twice {
		return status.Errorf(codes.AlreadyExists, "attempt %d of run %s is in progress", key.attempt, key.run)
	}
	defer func() {
		s.mu.Lock()
		delete(s.running, key)
		s.mu.Unlock()
	}()

	run := newRun(req, stream.Send)
	outcome := &pluginv1.Outcome{}
	var output json.RawMessage
	if err == nil {
		output, err = measure(ctx, t, run, req.GetParams(), outcome)
	} else {
		outcome.BeganAt = timestamppb.Now()
	}
	run.conclude(ctx, outcome, output, err)
	return run.finish(outcome)
}

// measure calls the handler on one thread, so that the thread's clock is the handler's.
func measure(ctx context.Context, t TaskType, run *Run, params json.RawMessage, outcome *pluginv1.Outcome) (output json.RawMessage, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var meter wire.Meter
	meter.Begin()
	outcome.BeganAt = timestamppb.New(meter.BeganAt())
	defer func() {
		if p := recover(); p != nil {
			run.Log.Error("handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			output, err = nil, &panicError{p}
		}
		outcome.Usage = meter.End()
	}()
	return t.Run(ctx, run, params)
}

// conclude writes the verdict into outcome.
func (r *Run) conclude(ctx context.Context, outcome *pluginv1.Outcome, output json.RawMessage, err error) {
	if err == nil && len(output) > protocol.MaxOutputBytes {
		err = Permanent(fmt.Errorf("the output of %d bytes is over the limit of %d", len(output), protocol.MaxOutputBytes))
	}
	if err == nil && len(output) > 0 && !json.Valid(output) {
		err = Permanent(errors.New("the output is not JSON"))
	}
	if err == nil {
		outcome.Result = &pluginv1.Outcome_Success{Success: &pluginv1.Success{Output: r.maskOutput(output)}}
		return
	}
	failure := &pluginv1.Failure{Message: wire.CutMessage(r.stream.Mask(err.Error()), protocol.MaxFailureBytes)}
	if failure.Message == "" {
		failure.Message = "failed without a reason"
	}
	outcome.Result = &pluginv1.Outcome_Failure{Failure: failure}
	if invalid, ok := errors.AsType[*invalidError](err); ok {
		failure.Reason = &pluginv1.Failure_InvalidParameters{
			InvalidParameters: &pluginv1.InvalidParameters{Findings: findingMessages(invalid.findings)}}
		return
	}
	if _, ok := errors.AsType[*permanentError](err); ok {
		failure.Reason = &pluginv1.Failure_Permanent{Permanent: &pluginv1.Permanent{}}
		return
	}
	if later, ok := errors.AsType[*retryAfterError](err); ok {
		failure.Reason = &pluginv1.Failure_RetryAfter{RetryAfter: &pluginv1.RetryAfter{Wait: durationpb.New(later.wait)}}
		return
	}
	// Many libraries lose the context's error on the way; what fails once the context has ended fails because of it.
	if _, panicked := errors.AsType[*panicError](err); ctx.Err() != nil && !panicked {
		failure.Reason = &pluginv1.Failure_Cancelled{Cancelled: &pluginv1.Cancelled{}}
		failure.Message = wire.CutMessage(r.stream.Mask(causeOf(ctx)), protocol.MaxFailureBytes)
	}
}

func (r *Run) maskOutput(output json.RawMessage) json.RawMessage {
	if len(r.grants) == 0 {
		return output
	}
	masked := json.RawMessage(r.stream.Mask(string(output)))
	if !json.Valid(masked) { // a number that happens to contain the digits of a password is not the password
		return output
	}
	return masked
}
