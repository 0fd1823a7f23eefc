package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Usage is what one attempt, or the last attempt of a run, used.
type Usage struct {
	CPU          string `json:"cpu,omitempty" doc:"User plus system time" example:"12.5ms"`
	CPUSource    string `json:"cpu_source" enum:"measured,shared,unknown" doc:"measured for it alone, of a process it shared, or unknown"`
	PeakRSSBytes uint64 `json:"peak_rss_bytes" doc:"Highest resident memory of the process"`
	RSSSource    string `json:"rss_source" enum:"measured,shared,unknown" doc:"How peak_rss_bytes was obtained"`
	ReadBytes    uint64 `json:"read_bytes" doc:"Fetched from storage"`
	WriteBytes   uint64 `json:"write_bytes" doc:"Sent to storage"`
	IOSource     string `json:"io_source" enum:"measured,shared,unknown" doc:"How read_bytes and write_bytes were obtained"`
}

// Run is one fire and what became of it.
type Run struct {
	ID          string `json:"id" doc:"UUIDv7; also the idempotency key handed to the task"`
	TaskID      string `json:"task_id" doc:"Whose fire it is"`
	TaskVersion int64  `json:"task_version" doc:"The version of the task it was decided for"`
	Namespace   string `json:"namespace" doc:"The task's" example:"Common"`
	TaskName    string `json:"task_name" doc:"The task's, when it fired" example:"keep-alive-portal"`
	TaskType    string `json:"task_type" doc:"The task's, when it fired" example:"Common.KeepAlive"`
	Trigger     string `json:"trigger" enum:"schedule,manual,catch_up,backfill,upstream,workflow,retry" doc:"What made it: its schedule, a person, a missed fire started late, a backfill, the end of caused_by, a step of workflow_id, an intervention for caused_by"`
	Series      string `json:"series" doc:"Empty for the fires of the schedule; names the backfill, upstream run, workflow step … of others. Task, series and fire_at together are unique" example:"backfill:0198f2c1"`
	FireAt      *Time  `json:"fire_at,omitempty" doc:"The nominal instant"`
	MovedFrom   *Time  `json:"moved_from,omitempty" doc:"The instant that calendars moved to fire_at"`
	FireThrough *Time  `json:"fire_through,omitempty" doc:"The last instant covered, of a range of skipped fires"`
	FireCount   int    `json:"fire_count" doc:"Instants covered; 1 except for a range of skipped fires"`
	Params      Object `json:"params" doc:"Parameters it runs with"`
	State       string `json:"state" enum:"claimed,queued,waiting,running,retrying,ended" doc:"claimed: starts at start_at; queued: must be admitted then; waiting: at gate; running; retrying: an attempt has ended, the next is due at start_at; ended"`
	StartAt     *Time  `json:"start_at,omitempty" doc:"When the next or current attempt starts"`
	Attempt     int    `json:"attempt" doc:"The next or current attempt, from 1"`
	DecidedAt   *Time  `json:"decided_at,omitempty" doc:"When started-or-skipped was decided"`
	Reason      string `json:"reason,omitempty" doc:"Why it was skipped: overlap, catch_up, nonexistent_local_time, calendar, paused, max_runs, precondition, breaker, capacity, superseded, disabled, edited, shutdown, unknown_type, poisoned or params" example:"overlap"`
	Facts       Any    `json:"facts,omitempty" doc:"What the decision was made on"`

	Priority   int      `json:"priority" doc:"The higher is admitted first"`
	Gate       string   `json:"gate,omitempty" enum:"overlap,precondition,breaker,capacity" doc:"What it waits at, or the last one it waited at"`
	GateKey    string   `json:"gate_key,omitempty" doc:"Which one: name of the limit or breaker, index of the precondition" example:"pool:erp"`
	WaitSince  *Time    `json:"wait_since,omitempty" doc:"When it came to the first gate it waited at"`
	WaitUntil  *Time    `json:"wait_until,omitempty" doc:"waiting: when it is looked at again at the latest; absent: when something changes"`
	Stop       string   `json:"stop,omitempty" enum:"cancel,terminate,supersede" doc:"How it was asked to stop"`
	StopBy     string   `json:"stop_by,omitempty" doc:"Who asked"`
	WorkflowID string   `json:"workflow_id,omitempty" doc:"The workflow run it is a step of"`
	Step       string   `json:"step,omitempty" doc:"Name of that step" example:"load"`
	CausedBy   string   `json:"caused_by,omitempty" doc:"The run whose end started it, or that it repeats"`
	Breaches   []Breach `json:"breaches" doc:"Service levels it has missed so far"`

	StartedAt *Time  `json:"started_at,omitempty" doc:"When the last attempt was handed to its executor"`
	EndedAt   *Time  `json:"ended_at,omitempty" doc:"When it ended"`
	Outcome   string `json:"outcome,omitempty" enum:"succeeded,failed,timed_out,cancelled,crashed,lost,skipped" doc:"How it ended; absent while live"`
	Message   string `json:"message,omitempty" doc:"What the task said about it, in a line"`
	Output    Any    `json:"output,omitempty" doc:"What it hands on"`
	Usage     Usage  `json:"usage" doc:"What its last attempt used"`
	CreatedBy string `json:"created_by" doc:"Who asked for it; gnomon for fires of the schedule"`

	Intervention *Intervention `json:"intervention,omitempty" doc:"What a person was asked, and has decided, about it; absent: nobody was, or it is one of a list"`
}

// Breach is a service level that a run has missed.
type Breach struct {
	Kind  string `json:"kind" enum:"not_started_in_time,not_finished_in_time,too_long,slower_than_usual" doc:"Which"`
	At    *Time  `json:"at" doc:"When the limit passed"`
	Limit string `json:"limit" doc:"What was demanded" example:"start within 5m"`
}

// Attempt is one finished try of a run.
type Attempt struct {
	Attempt   int    `json:"attempt" doc:"Its number, from 1"`
	Token     int64  `json:"token" doc:"Fencing token"`
	StartedAt *Time  `json:"started_at,omitempty" doc:"Handed to the executor"`
	Began     *Time  `json:"began,omitempty" doc:"The handler began; absent: it never did"`
	EndedAt   *Time  `json:"ended_at,omitempty" doc:"When it ended"`
	Outcome   string `json:"outcome" enum:"succeeded,failed,timed_out,cancelled,crashed,lost" doc:"How it ended"`
	Message   string `json:"message,omitempty" doc:"What was said about its end"`
	RetryAt   *Time  `json:"retry_at,omitempty" doc:"When the next attempt was planned"`
	Usage     Usage  `json:"usage" doc:"What it used"`
}

// Sample is one reading of what an attempt used.
type Sample struct {
	At         *Time  `json:"at" doc:"When it was taken"`
	Attempt    int    `json:"attempt" doc:"Whose it is, from 1"`
	CPU        string `json:"cpu,omitempty" doc:"User plus system time since the attempt began" example:"12.5ms"`
	CPUSource  string `json:"cpu_source" enum:"measured,shared,unknown" doc:"How cpu was obtained"`
	RSSBytes   uint64 `json:"rss_bytes" doc:"Resident memory"`
	RSSSource  string `json:"rss_source" enum:"measured,shared,unknown" doc:"How rss_bytes was obtained"`
	ReadBytes  uint64 `json:"read_bytes" doc:"Fetched from storage since the attempt began"`
	WriteBytes uint64 `json:"write_bytes" doc:"Sent to storage since the attempt began"`
	IOSource   string `json:"io_source" enum:"measured,shared,unknown" doc:"How read_bytes and write_bytes were obtained"`
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
		Usage: usageOut(r.Usage), CreatedBy: r.CreatedBy, Series: r.Series, MovedFrom: instant(r.MovedFrom), Priority: r.Priority,
		Gate: string(r.Gate), GateKey: r.GateKey, WaitSince: instant(r.WaitSince), WaitUntil: instant(r.WaitUntil),
		Stop: string(r.Stop), StopBy: r.StopBy, WorkflowID: r.WorkflowID, Step: r.Step, CausedBy: r.CausedBy, Breaches: []Breach{},
	}
	for _, b := range r.Breaches {
		out.Breaches = append(out.Breaches, Breach{string(b.Kind), instant(b.At), b.Limit})
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

type runStarted struct {
	Location string `header:"Location" doc:"Where the run is"`
	Body     Run
}

func started(r core.Run) *runStarted {
	return &runStarted{Location: "/v1/runs/" + url.PathEscape(r.ID), Body: runOut(r)}
}

type runList struct {
	Body struct {
		Page[Run]
		Partial string `json:"partial,omitempty" doc:"Why history did not answer: only runs that are not there yet are listed"`
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
			State     []string  `query:"state" doc:"Only in one of these states" enum:"claimed,queued,waiting,running,retrying,ended"`
			Workflow  string    `query:"workflow_id" doc:"Only steps of this workflow run" maxLength:"64"`
			CausedBy  string    `query:"caused_by" doc:"Only what this run caused" maxLength:"64"`
			From      time.Time `query:"from" doc:"Only with a nominal instant at or after this"`
			To        time.Time `query:"to" doc:"Only with a nominal instant before this"`
			Cursor    string    `query:"cursor" doc:"next_cursor of the page before" maxLength:"64"`
			Limit     int       `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most"`
		}) (*runList, error) {
			out := &runList{}
			out.Body.Items = []Run{}
			filter := core.RunFilter{
				TaskID: in.TaskID, TaskType: in.Type, LiveOnly: in.Live, From: in.From, To: in.To, BeforeID: in.Cursor, Limit: in.Limit,
				WorkflowID: in.Workflow, CausedBy: in.CausedBy,
			}
			for _, state := range in.State {
				filter.States = append(filter.States, core.RunState(state))
			}
			for _, v := range in.Outcome {
				filter.Verdicts = append(filter.Verdicts, core.Verdict(v))
			}
			var err error
			if filter.Namespaces, err = a.visible(ctx, "run:read", in.Namespace); err != nil {
				return nil, err
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
			run := requestOf(ctx).run
			out := &runOne{runOut(run)}
			if !run.Verdict.Failure() {
				return out, nil
			}
			switch i, err := a.opts.Live.Intervention(ctx, run.ID); {
			case err == nil:
				asked := interventionOut(i)
				out.Body.Intervention = &asked
			case core.KindOf(err) != core.KindNotFound:
				return nil, err
			}
			return out, nil
		})
	for _, to := range []struct {
		id, summary string
		stop        func(ctx context.Context, runID, by string) error
	}{
		{"cancel", "Ask a live run to stop; it ends within its grace period", func(ctx context.Context, runID, by string) error {
			return a.opts.Runner.Cancel(ctx, runID, by)
		}},
		{"terminate", "Kill a live run: no grace period", func(ctx context.Context, runID, by string) error {
			return a.opts.Runner.Terminate(ctx, runID, by)
		}},
	} {
		register(a, huma.Operation{
			OperationID: to.id + "-run", Method: http.MethodPost, Path: "/v1/runs/{run_id}/" + to.id, Tags: tags,
			Summary: to.summary, DefaultStatus: http.StatusAccepted,
		}, rule{permission: "run:cancel", source: fromRun, changes: true},
			func(ctx context.Context, _ *RunPath) (*runOne, error) {
				req := requestOf(ctx)
				if req.run.Verdict != "" {
					return nil, core.Refuse(core.KindConflict, to.id+" run "+req.run.ID, core.Text{Zh: fmt.Sprintf("运行 %s 已结束：%s", req.run.ID, req.run.Verdict), En: fmt.Sprintf("it has ended already: %s", req.run.Verdict)})
				}
				if err := to.stop(ctx, req.run.ID, req.principal.String()); err != nil {
					return nil, err
				}
				run, err := a.findRun(ctx, req.run.ID)
				if err != nil {
					return nil, err
				}
				return &runOne{runOut(run)}, nil
			})
	}
	register(a, huma.Operation{
		OperationID: "list-attempts", Method: http.MethodGet, Path: "/v1/runs/{run_id}/attempts", Tags: tags,
		Summary: "List the finished attempts of a run; they are in history some seconds after they ended",
	}, rule{permission: "run:read", source: fromRun},
		func(ctx context.Context, in *RunPath) (*listed[Attempt], error) {
			records, err := a.opts.History.Attempts(ctx, in.RunID)
			if err != nil {
				return nil, err
			}
			var attempts []Attempt
			for _, r := range records {
				attempts = append(attempts, Attempt{
					Attempt: r.Attempt, Token: r.Token, StartedAt: instant(r.StartedAt), Began: instant(r.Began),
					EndedAt: instant(r.EndedAt), Outcome: string(r.Verdict), Message: r.Message, RetryAt: instant(r.RetryAt),
					Usage: usageOut(r.Usage),
				})
			}
			return list(attempts), nil
		})
	register(a, huma.Operation{
		OperationID: "list-samples", Method: http.MethodGet, Path: "/v1/runs/{run_id}/samples", Tags: tags,
		Summary: "List what the attempts of a run used, in time; in history some seconds after they were taken",
	}, rule{permission: "run:read", source: fromRun},
		func(ctx context.Context, in *RunPath) (*listed[Sample], error) {
			readings, err := a.opts.History.Samples(ctx, in.RunID)
			if err != nil {
				return nil, err
			}
			var samples []Sample
			for _, s := range readings {
				samples = append(samples, Sample{
					At: instant(s.At), Attempt: s.Attempt, CPU: duration(s.CPU), CPUSource: string(s.CPUSource),
					RSSBytes: s.RSSBytes, RSSSource: string(s.RSSSource), ReadBytes: s.ReadBytes, WriteBytes: s.WriteBytes,
					IOSource: string(s.IOSource), Final: s.Final,
				})
			}
			return list(samples), nil
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
	ended := len(filter.States) == 0 || slices.Contains(filter.States, core.RunEnded) // history has no others
	if !filter.LiveOnly && ended {
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
