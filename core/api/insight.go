package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Why says what became of an instant of a task, and why.
type Why struct {
	TaskID   string     `json:"task_id" doc:"The task"`
	Instant  *Time      `json:"instant,omitempty" doc:"The instant the answer is about; absent: there is none"`
	Code     string     `json:"code" enum:"started,running,claimed,waiting,retrying,not_started,overlap,catch_up,nonexistent_local_time,calendar,paused,max_runs,precondition,breaker,capacity,superseded,shutdown,unknown_type,poisoned,stop_on_error,disabled,edited,not_created,deleted,moved,merged,not_due,undecided,server_down,no_such_fire,no_record,params,upstream_pending,upstream_outcome" doc:"The answer as a word"`
	Answer   Text       `json:"answer" doc:"The answer in a sentence, or two"`
	Data     Any        `json:"data,omitempty" doc:"The same facts for programs"`
	RunID    string     `json:"run_id,omitempty" doc:"The run, or the skipped fire, that it is about"`
	Evidence []Evidence `json:"evidence" doc:"What it rests on, in the order in which it happened"`
	Next     *Time      `json:"next,omitempty" doc:"The next instant at which it fires; absent: none"`
}

// Evidence is one fact that an answer rests on.
type Evidence struct {
	Kind string `json:"kind" doc:"What sort of fact: run, version, pause, schedule, calendar, mark, breaker, server, gap or intervention" example:"run"`
	Text Text   `json:"text" doc:"The fact in a sentence"`
	At   *Time  `json:"at,omitempty" doc:"When it came about"`
	Data Any    `json:"data,omitempty" doc:"The fact itself"`
}

// Reconciliation holds what should have run against what did, computed without the scheduler's own marks.
type Reconciliation struct {
	From    *Time        `json:"from" doc:"From this instant"`
	To      *Time        `json:"to" doc:"To this one, which is not in it"`
	Sound   bool         `json:"sound" doc:"Nothing is missing, doubled, unexpected or miscounted"`
	Partial string       `json:"partial,omitempty" doc:"Why a part of the answer is missing"`
	Items   []Reconciled `json:"items" doc:"One for each task that should have fired, or did"`
}

// Reconciled is what should have run of one task against what did. Expected is decided and missing together.
type Reconciled struct {
	TaskID     string           `json:"task_id" doc:"The task"`
	Namespace  string           `json:"namespace" doc:"The task's" example:"Common"`
	TaskName   string           `json:"task_name" doc:"The task's" example:"nightly-load"`
	Expected   int64            `json:"expected" doc:"Instants of its schedule, as it stood at each of them"`
	Decided    int64            `json:"decided" doc:"Of these, how many have a decision"`
	Started    int64            `json:"started" doc:"Of these, how many were started"`
	Skipped    map[string]int64 `json:"skipped" doc:"Of these, how many were skipped, by reason" example:"{\"overlap\":2}"`
	Missing    int64            `json:"missing" doc:"Instants without a decision"`
	MissingAt  []Time           `json:"missing_at" doc:"The first 100 of them"`
	Doubled    int64            `json:"doubled" doc:"Instants decided more than once"`
	Unexpected int64            `json:"unexpected" doc:"Decisions at an instant that its schedule does not have"`
	Miscounted int64            `json:"miscounted" doc:"Decisions over several instants that name another number than there are"`
	Odd        []OddDecision    `json:"odd" doc:"The first 100 decisions that are doubled, unexpected or miscounted"`
	Tolerated  int64            `json:"tolerated" doc:"So near to an edit that either way is right"`
	Unjudged   int64            `json:"unjudged" doc:"Of calendars that have changed since, so that nothing can be said of them"`
	Unreadable []int64          `json:"unreadable_versions,omitempty" doc:"Versions whose schedule cannot be read, so that nothing is expected of them"`
}

// OddDecision is a decision that should not be as it is.
type OddDecision struct {
	At    *Time  `json:"at" doc:"The instant"`
	RunID string `json:"run_id" doc:"The run, or the skipped fire"`
	What  string `json:"what" enum:"doubled,unexpected,miscounted" doc:"What is odd about it"`
}

// Check is one thing the doctor looked at.
type Check struct {
	Name     string `json:"name" doc:"What was looked at" example:"no_run_without_owner"`
	OK       bool   `json:"ok" doc:"It is as it should be"`
	Severity string `json:"severity" enum:"info,warning,error" doc:"How bad it is if it is not"`
	Text     Text   `json:"text" doc:"What was found, and what to do about it"`
	Data     Any    `json:"data,omitempty" doc:"What was found, for programs"`
}

// Diagnosis is everything the doctor looked at.
type Diagnosis struct {
	OK     bool    `json:"ok" doc:"No check found an error"`
	Checks []Check `json:"checks" doc:"What was looked at"`
}

// maxReconcile is the longest time that is reconciled at once.
const maxReconcile = 31 * 24 * time.Hour

func (a *API) insights() {
	register(a, huma.Operation{
		OperationID: "why-task", Method: http.MethodGet, Path: "/v1/tasks/{task_id}/why", Tags: []string{"tasks"},
		Summary: "Say why a task did, or did not, run at an instant",
	}, rule{permission: "run:read", source: fromTask},
		func(ctx context.Context, in *struct {
			TaskPath
			At time.Time `query:"at" doc:"The instant; absent: the last that should have been, and what comes next" example:"2026-10-01T08:00:00+08:00"`
		}) (*struct{ Body Why }, error) {
			why, err := a.opts.Insight.Why(ctx, requestOf(ctx).task, in.At)
			if err != nil {
				return nil, err
			}
			why.Evidence = append([]Evidence{}, why.Evidence...)
			return &struct{ Body Why }{why}, nil
		})
	register(a, huma.Operation{
		OperationID: "reconcile", Method: http.MethodGet, Path: "/v1/reconciliation", Tags: []string{"insight"},
		Summary: "Hold what should have run against what did, task by task",
	}, rule{permission: "run:read", source: fromGrants},
		func(ctx context.Context, in *struct {
			Namespace string    `query:"namespace" doc:"Only of this namespace"`
			From      time.Time `query:"from" doc:"From this instant; absent: with to, a day before it; without, the last whole day, UTC"`
			To        time.Time `query:"to" doc:"To this one, which is not in it, at most 31 days later; absent: a day after from"`
		}) (*struct{ Body Reconciliation }, error) {
			from, to, err := between(ctx, in.From, in.To, maxReconcile)
			if err != nil {
				return nil, err
			}
			namespaces, err := a.visible(ctx, "run:read", in.Namespace)
			if err != nil {
				return nil, err
			}
			r, err := a.opts.Insight.Reconcile(ctx, namespaces, from, to)
			if err != nil {
				return nil, err
			}
			r.Items = append([]Reconciled{}, r.Items...)
			for i := range r.Items {
				item := &r.Items[i]
				item.MissingAt, item.Odd = append([]Time{}, item.MissingAt...), append([]OddDecision{}, item.Odd...)
				if item.Skipped == nil {
					item.Skipped = map[string]int64{}
				}
			}
			return &struct{ Body Reconciliation }{r}, nil
		})
	register(a, huma.Operation{
		OperationID: "get-doctor", Method: http.MethodGet, Path: "/v1/doctor", Tags: []string{"server"},
		Summary: "Examine the server and what it keeps: the promises that can be checked while it runs",
	}, rule{permission: "server:read", source: fromServer},
		func(ctx context.Context, _ *struct{}) (*struct{ Body Diagnosis }, error) {
			checks, err := a.opts.Insight.Doctor(ctx)
			if err != nil {
				return nil, err
			}
			out := Diagnosis{OK: true, Checks: append([]Check{}, checks...)}
			for _, c := range checks {
				out.OK = out.OK && (c.OK || c.Severity != "error")
			}
			return &struct{ Body Diagnosis }{out}, nil
		})
	a.forecasts()
}

// between fills in the missing end of a time and holds its length against what is allowed. Both zero stay zero.
func between(ctx context.Context, from, to time.Time, most time.Duration) (time.Time, time.Time, error) {
	const day = 24 * time.Hour
	switch {
	case from.IsZero() && to.IsZero():
		return from, to, nil
	case from.IsZero():
		from = to.Add(-day)
	case to.IsZero():
		to = from.Add(day)
	}
	switch {
	case !from.Before(to):
		return from, to, wrong(ctx, "query.to", core.Text{Zh: "必须晚于 from", En: "must be after from"})
	case to.Sub(from) > most:
		return from, to, wrong(ctx, "query.to", core.Text{Zh: "距 from 至多 " + duration(most), En: "must be at most " + duration(most) + " after from"})
	}
	return from.UTC(), to.UTC(), nil
}
