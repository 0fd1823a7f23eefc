package pluginhost

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gnomon-scheduler/gnomon/core"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
)

func origin(a *core.Attempt) core.Origin {
	return core.Origin{RunID: a.RunID, Attempt: a.Number, TaskID: a.TaskID, Namespace: a.Namespace,
		TaskName: a.TaskName, TaskType: a.TaskType, FireAt: a.FireAt}
}

// request is a RunRequest and what it points to, used again and again. gRPC has encoded a request when the call returns,
// so it may be changed then.
type request struct {
	pb                  pluginv1.RunRequest
	fireAt, prevSuccess timestamppb.Timestamp
	limit               durationpb.Duration
}

var requests = sync.Pool{New: func() any { return new(request) }}

func newRequest(ctx context.Context, a *core.Attempt, grants map[string]string) *request {
	r := requests.Get().(*request)
	pb := &r.pb
	pb.RunId, pb.Attempt, pb.Token = a.RunID, int32(a.Number), a.Token
	pb.TaskId, pb.Namespace, pb.TaskName, pb.TaskType = a.TaskID, a.Namespace, a.TaskName, a.TaskType
	setTime(&r.fireAt, a.FireAt)
	pb.FireAt = &r.fireAt
	if !a.PrevSuccess.IsZero() {
		setTime(&r.prevSuccess, a.PrevSuccess)
		pb.PreviousSuccessAt = &r.prevSuccess
	}
	pb.Params, pb.Checkpoint, pb.Zone, pb.Trigger = a.Params, a.Checkpoint, a.Zone, string(a.Trigger)
	pb.Traceparent = a.Traceparent
	pb.Grants, pb.LogLevel = grants, pluginv1.Level(a.LogLevel)
	if deadline, ok := ctx.Deadline(); ok {
		left := max(time.Until(deadline), time.Millisecond)
		r.limit.Seconds, r.limit.Nanos = int64(left/time.Second), int32(left%time.Second)
		pb.TimeLimit = &r.limit
	}
	return r
}

func (r *request) release() {
	r.pb.Grants, r.pb.Params, r.pb.Checkpoint = nil, nil, nil
	r.pb.PreviousSuccessAt, r.pb.TimeLimit = nil, nil
	requests.Put(r)
}

func setTime(to *timestamppb.Timestamp, t time.Time) {
	to.Seconds, to.Nanos = t.Unix(), int32(t.Nanosecond())
}

// logLine makes a core line of what a plugin said, or gives what is wrong with it.
func logLine(said *pluginv1.LogLine) (line core.LogLine, broken string) {
	line = core.LogLine{Level: core.Level(said.GetLevel()), Stream: core.StreamLog, Message: said.GetMessage()}
	if line.Level.String() == "" {
		return line, fmt.Sprintf("the plugin sent a log line without a valid level (%d)", said.GetLevel())
	}
	switch said.GetStream() {
	case pluginv1.Stream_STREAM_UNSPECIFIED, pluginv1.Stream_STREAM_LOG:
	case pluginv1.Stream_STREAM_STDOUT:
		line.Stream = core.StreamStdout
	case pluginv1.Stream_STREAM_STDERR:
		line.Stream = core.StreamStderr
	default:
		return line, fmt.Sprintf("the plugin sent a log line of an unknown stream (%d)", said.GetStream())
	}
	if at := said.GetAt(); at.IsValid() {
		line.At = at.AsTime()
	} else {
		line.At = time.Now().UTC()
	}
	if attrs := said.GetAttrs(); len(attrs) > 0 {
		line.Attrs = make([]core.Attr, len(attrs))
		for i, a := range attrs {
			line.Attrs[i] = core.Attr{Key: a.GetKey(), Value: a.GetValue()}
		}
	}
	return line, ""
}

// result puts a plugin's verdict into out.
func result(out *core.Outcome, said *pluginv1.Outcome) {
	if success, ok := said.GetResult().(*pluginv1.Outcome_Success); ok {
		out.Verdict = core.Succeeded
		out.Output = success.Success.GetOutput()
		return
	}
	failure := said.GetFailure()
	out.Verdict, out.Message = core.Failed, failure.GetMessage()
	switch reason := failure.GetReason().(type) {
	case *pluginv1.Failure_RetryAfter:
		out.RetryAfter = max(reason.RetryAfter.GetWait().AsDuration(), 0)
	case *pluginv1.Failure_Permanent:
		out.Permanent = true
	case *pluginv1.Failure_InvalidParameters:
		out.Permanent = true
		if found := findings(reason.InvalidParameters.GetFindings()); len(found) > 0 {
			// The findings say it all, where they are; the handler's own words come first if they say something else.
			said := core.Invalid("invalid parameters", found...).Error()
			if out.Message == "" || out.Message == "invalid parameters" {
				out.Message = said
			}
		}
	case *pluginv1.Failure_Cancelled:
		if out.Message == "" {
			out.Message = "the task stopped as if it had been asked to"
		}
	}
	if out.Message == "" {
		out.Message = "the task failed and gave no reason"
	}
}

func findings(said []*pluginv1.Finding) []core.Finding {
	if len(said) == 0 {
		return nil
	}
	all := make([]core.Finding, len(said))
	for i, f := range said {
		all[i] = core.Finding{Path: f.GetPath(), Message: text(f.GetMessage())}
	}
	return all
}

func text(said *pluginv1.Text) core.Text { return core.Text{Zh: said.GetZh(), En: said.GetEn()} }

// usage takes over what the plugin measured; a figure without a source means nothing and is not kept.
func usage(said *pluginv1.Usage) core.Usage {
	u := core.Usage{CPUSource: source(said.GetCpuSource()), RSSSource: source(said.GetRssSource()), IOSource: source(said.GetIoSource())}
	if u.CPUSource != core.SourceUnknown {
		u.CPU = max(said.GetCpu().AsDuration(), 0)
	}
	if u.RSSSource != core.SourceUnknown {
		u.PeakRSSBytes = min(said.GetPeakRssBytes(), math.MaxInt64)
	}
	if u.IOSource != core.SourceUnknown {
		u.ReadBytes, u.WriteBytes = min(said.GetReadBytes(), math.MaxInt64), min(said.GetWriteBytes(), math.MaxInt64)
	}
	return u
}

func source(said pluginv1.UsageSource) core.Source {
	switch said {
	case pluginv1.UsageSource_USAGE_SOURCE_MEASURED:
		return core.SourceMeasured
	case pluginv1.UsageSource_USAGE_SOURCE_SHARED:
		return core.SourceShared
	}
	return core.SourceUnknown
}

// taskTypes makes core types of a description. Names, needs and schemas are checked by checkTypes.
func taskTypes(said *pluginv1.DescribeResponse, provider string) []core.TaskType {
	all := make([]core.TaskType, len(said.GetTaskTypes()))
	for i, t := range said.GetTaskTypes() {
		all[i] = core.TaskType{
			Name: t.GetName(), Provider: provider, Version: t.GetVersion(),
			Title: text(t.GetTitle()), Description: text(t.GetDescription()),
			ParamsSchema: t.GetParamsSchema(), OutputSchema: t.GetOutputSchema(),
			Needs: t.GetNeeds(), Problem: t.GetProblem(),
		}
		if all[i].Version == "" {
			all[i].Version = said.GetVersion()
		}
		if t.GetTimeout().IsValid() {
			all[i].Timeout = max(t.GetTimeout().AsDuration(), 0)
		}
		if !utf8.ValidString(all[i].Problem) {
			all[i].Problem = "unreadable"
		}
	}
	return all
}
