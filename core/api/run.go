package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Usage is what one attempt, or the last attempt of a run, used.
type Usage struct {
	CPU          string `json:"cpu,omitempty" doc:"User plus system time" example:"12.5ms"`
	CPUSource    string `json:"cpu_source" doc:"measured, shared or unknown"`
	PeakRSSBytes uint64 `json:"peak_rss_bytes"`
	RSSSource    string `json:"rss_source"`
	ReadBytes    uint64 `json:"read_bytes"`
	WriteBytes   uint64 `json:"write_bytes"`
	IOSource     string `json:"io_source"`
}

// Run is one fire and what became of it.
type Run struct {
	ID          string `json:"id" doc:"Also the idempotency key handed to the task"`
	TaskID      string `json:"task_id"`
	TaskVersion int64  `json:"task_version"`
	Namespace   string `json:"namespace"`
	TaskName    string `json:"task_name"`
	TaskType    string `json:"task_type"`
	Trigger     string `json:"trigger" doc:"schedule, manual or catch_up"`
	FireAt      *Time  `json:"fire_at,omitempty" doc:"The nominal instant"`
	FireThrough *Time  `json:"fire_through,omitempty" doc:"The last instant covered, of a range of skipped fires"`
	FireCount   int    `json:"fire_count" doc:"Instants covered; 1 except for a range of skipped fires"`
	Params      Object `json:"params"`
	State       string `json:"state" doc:"claimed, queued, running, retrying or ended"`
	StartAt     *Time  `json:"start_at,omitempty" doc:"When the next or current attempt starts"`
	Attempt     int    `json:"attempt" doc:"The next or current attempt, from 1"`
	DecidedAt   *Time  `json:"decided_at,omitempty" doc:"When started-or-skipped was decided"`
	Reason      string `json:"reason,omitempty" doc:"Why it was skipped"`
	Facts       Any    `json:"facts,omitempty" doc:"What the decision was made on"`
	StartedAt   *Time  `json:"started_at,omitempty" doc:"When the last attempt was handed to its executor"`
	EndedAt     *Time  `json:"ended_at,omitempty"`
	Outcome     string `json:"outcome,omitempty" doc:"succeeded, failed, timed_out, cancelled, crashed, lost or skipped; absent while live"`
	Message     string `json:"message,omitempty"`
	Output      Any    `json:"output,omitempty"`
	Usage       Usage  `json:"usage"`
	CreatedBy   string `json:"created_by"`
}

// Attempt is one finished try of a run.
type Attempt struct {
	Attempt   int    `json:"attempt"`
	Token     int64  `json:"token" doc:"Fencing token"`
	StartedAt *Time  `json:"started_at,omitempty" doc:"Handed to the executor"`
	Began     *Time  `json:"began,omitempty" doc:"The handler began; absent: it never did"`
	EndedAt   *Time  `json:"ended_at,omitempty"`
	Outcome   string `json:"outcome"`
	Message   string `json:"message,omitempty"`
	RetryAt   *Time  `json:"retry_at,omitempty" doc:"When the next attempt was planned"`
	Usage     Usage  `json:"usage"`
}

// Sample is one reading of what an attempt used.
type Sample struct {
	At         *Time  `json:"at"`
	Attempt    int    `json:"attempt"`
	CPU        string `json:"cpu,omitempty" doc:"Since the attempt began"`
	CPUSource  string `json:"cpu_source"`
	RSSBytes   uint64 `json:"rss_bytes"`
	RSSSource  string `json:"rss_source"`
	ReadBytes  uint64 `json:"read_bytes"`
	WriteBytes uint64 `json:"write_bytes"`
	IOSource   string `json:"io_source"`
	Final      bool   `json:"final" doc:"Taken as the attempt ended"`
}

func usageOut(u core.Usage) Usage {
	source := func(s core.Source) string { return string(cmp.Or(s, core.SourceUnknown)) }
	return Usage{
		CPU: duration(u.CPU), CPUSource: source(u.CPUSource), PeakRSSBytes: u.PeakRSSBytes, RSSSource: source(u.RSSSource),
		ReadBytes: u.ReadBytes, WriteBytes: u.WriteBytes, IOSource: source(u.IOSource),
	}
}

func runOut(r core.Run) Run {
	out := Run{
		ID: r.ID, TaskID: r.TaskID, TaskVersion: r.TaskVersion, Namespace: r.Namespace, TaskName: r.TaskName,
		TaskType: r.TaskType, Trigger: string(r.Trigger), FireAt: instant(r.FireAt), FireCount: r.FireCount,
		Params: Object(r.Params), State: string(r.State), StartAt: instant(r.StartAt), Attempt: r.Attempt,
		DecidedAt: instant(r.DecidedAt), Reason: string(r.Reason), Facts: Any(r.Facts), StartedAt: instant(r.StartedAt),
		EndedAt: instant(r.EndedAt), Outcome: string(r.Verdict), Message: r.Message, Output: Any(r.Output),
		Usage: usageOut(r.Usage), CreatedBy: r.CreatedBy,
	}
	if r.FireCount > 1 {
		out.FireThrough = instant(r.FireThrough)
	}
	if r.Verdict != "" {
		out.State = string(core.RunEnded)
	}
	return out
}

// RunPath names a run in a path.
type RunPath struct {
	RunID string `path:"run_id" doc:"Id of the run" maxLength:"64"`
}

type runOne struct {
	Body Run
}

type runList struct {
	Body struct {
		Items      []Run  `json:"items"`
		NextCursor string `json:"next_cursor,omitempty" doc:"Give it as cursor to go on; absent: this was the end"`
		Partial    string `json:"partial,omitempty" doc:"Why history did not answer: only runs that are not there yet are listed"`
	}
}

func (a *API) runs() {
	tags := []string{"runs"}
	register(a, huma.Operation{
		OperationID: "list-runs", Method: http.MethodGet, Path: "/v1/runs", Tags: tags,
		Summary: "List runs, skipped fires too, newest first",
	}, rule{permission: "run:read", source: fromGrants},
		func(ctx context.Context, in *struct {
			Namespace string    `query:"namespace" doc:"Only of this namespace"`
			TaskID    string    `query:"task_id" doc:"Only of this task" maxLength:"64"`
			Type      string    `query:"type" doc:"Only of this task type"`
			Outcome   []string  `query:"outcome" doc:"Only with one of these outcomes" enum:"succeeded,failed,timed_out,cancelled,crashed,lost,skipped"`
			Live      bool      `query:"live" doc:"Only those that have not ended"`
			From      time.Time `query:"from" doc:"Only with a nominal instant at or after this"`
			To        time.Time `query:"to" doc:"Only with a nominal instant before this"`
			Cursor    string    `query:"cursor" doc:"next_cursor of the page before" maxLength:"64"`
			Limit     int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
		}) (*runList, error) {
			out := &runList{}
			out.Body.Items = []Run{}
			filter := core.RunFilter{
				TaskID: in.TaskID, TaskType: in.Type, LiveOnly: in.Live, From: in.From, To: in.To, BeforeID: in.Cursor, Limit: in.Limit,
			}
			for _, v := range in.Outcome {
				filter.Verdicts = append(filter.Verdicts, core.Verdict(v))
			}
			var some bool
			if filter.Namespaces, some = visible(ctx, "run:read", in.Namespace); !some {
				return out, nil
			}
			list, away, err := a.listRuns(ctx, filter)
			if err != nil {
				return nil, err
			}
			if away != nil {
				out.Body.Partial = "history does not answer at present"
				requestOf(ctx).log.Warn("history does not answer", "request_id", requestOf(ctx).id, "err", away)
			}
			for _, r := range list {
				out.Body.Items = append(out.Body.Items, runOut(r))
			}
			if len(list) == in.Limit {
				out.Body.NextCursor = list[len(list)-1].ID
			}
			return out, nil
		})
	register(a, huma.Operation{
		OperationID: "get-run", Method: http.MethodGet, Path: "/v1/runs/{run_id}", Tags: tags, Summary: "Get a run",
	}, rule{permission: "run:read", source: fromRun},
		func(ctx context.Context, _ *RunPath) (*runOne, error) {
			return &runOne{runOut(requestOf(ctx).run)}, nil
		})
	register(a, huma.Operation{
		OperationID: "cancel-run", Method: http.MethodPost, Path: "/v1/runs/{run_id}/cancel", Tags: tags,
		Summary: "Ask a live run to stop; it ends within its grace period", DefaultStatus: http.StatusAccepted,
	}, rule{permission: "run:cancel", source: fromRun, changes: true},
		func(ctx context.Context, _ *RunPath) (*runOne, error) {
			req := requestOf(ctx)
			if req.run.Verdict != "" {
				return nil, core.Errorf(core.KindConflict, "cancel run "+req.run.ID, "it has ended already: %s", req.run.Verdict)
			}
			if err := a.opts.Runner.Cancel(ctx, req.run.ID, req.principal.String()); err != nil {
				return nil, err
			}
			run, err := a.findRun(ctx, req.run.ID)
			if err != nil {
				return nil, err
			}
			return &runOne{runOut(run)}, nil
		})
	register(a, huma.Operation{
		OperationID: "list-attempts", Method: http.MethodGet, Path: "/v1/runs/{run_id}/attempts", Tags: tags,
		Summary: "List the finished attempts of a run; they are in history some seconds after they ended",
	}, rule{permission: "run:read", source: fromRun},
		func(ctx context.Context, in *RunPath) (*struct {
			Body struct {
				Items []Attempt `json:"items"`
			}
		}, error) {
			list, err := a.opts.History.Attempts(ctx, in.RunID)
			if err != nil {
				return nil, err
			}
			out := &struct {
				Body struct {
					Items []Attempt `json:"items"`
				}
			}{}
			out.Body.Items = []Attempt{}
			for _, r := range list {
				out.Body.Items = append(out.Body.Items, Attempt{
					Attempt: r.Attempt, Token: r.Token, StartedAt: instant(r.StartedAt), Began: instant(r.Began),
					EndedAt: instant(r.EndedAt), Outcome: string(r.Verdict), Message: r.Message, RetryAt: instant(r.RetryAt),
					Usage: usageOut(r.Usage),
				})
			}
			return out, nil
		})
	register(a, huma.Operation{
		OperationID: "list-samples", Method: http.MethodGet, Path: "/v1/runs/{run_id}/samples", Tags: tags,
		Summary: "List what the attempts of a run used, in time; in history some seconds after they were taken",
	}, rule{permission: "run:read", source: fromRun},
		func(ctx context.Context, in *RunPath) (*struct {
			Body struct {
				Items []Sample `json:"items"`
			}
		}, error) {
			list, err := a.opts.History.Samples(ctx, in.RunID)
			if err != nil {
				return nil, err
			}
			out := &struct {
				Body struct {
					Items []Sample `json:"items"`
				}
			}{}
			out.Body.Items = []Sample{}
			for _, s := range list {
				out.Body.Items = append(out.Body.Items, Sample{
					At: instant(s.At), Attempt: s.Attempt, CPU: duration(s.CPU), CPUSource: string(s.CPUSource),
					RSSBytes: s.RSSBytes, RSSSource: string(s.RSSSource), ReadBytes: s.ReadBytes, WriteBytes: s.WriteBytes,
					IOSource: string(s.IOSource), Final: s.Final,
				})
			}
			return out, nil
		})
}

// findRun looks where a run moves from before it looks where it moves to, so that one that moves meanwhile is found.
func (a *API) findRun(ctx context.Context, id string) (core.Run, error) {
	run, err := a.opts.Live.Run(ctx, id)
	if err == nil || core.KindOf(err) != core.KindNotFound {
		return run, err
	}
	return a.opts.History.Run(ctx, id)
}

// listRuns merges live runs and history by id. away says why history is missing from the answer; that is not an error,
// as what runs now must be visible while history is down.
func (a *API) listRuns(ctx context.Context, filter core.RunFilter) (list []core.Run, away, err error) {
	list, err = a.opts.Live.Runs(ctx, filter)
	if err != nil {
		return nil, nil, err
	}
	if !filter.LiveOnly {
		var past []core.Run
		if past, away = a.opts.History.Runs(ctx, filter); away == nil {
			list = append(list, past...)
		}
	}
	// Stable, and live rows come first: of two with one id the live one stays, which carries all columns.
	slices.SortStableFunc(list, func(x, y core.Run) int { return cmp.Compare(y.ID, x.ID) })
	list = slices.CompactFunc(list, func(x, y core.Run) bool { return x.ID == y.ID })
	return list[:min(len(list), filter.Limit)], away, nil
}
