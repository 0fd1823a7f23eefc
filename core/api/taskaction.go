package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// RunRequest is what a run on demand may change.
type RunRequest struct {
	Params Object `json:"params,omitempty" doc:"Laid over the task's own parameters, key by key"`
}

// PauseRequest says for how long and why a task is paused.
type PauseRequest struct {
	Note  string `json:"note,omitempty" doc:"Why, for those who wonder; shown by why" example:"the PACS is being moved" maxLength:"1024"`
	Until *Time  `json:"until,omitempty" doc:"When it goes on by itself, in the future; absent: when somebody resumes it"`
}

// BackfillRequest says for which past time a task runs again.
type BackfillRequest struct {
	From    Time   `json:"from" doc:"From this instant"`
	To      Time   `json:"to" doc:"To this one, which is not in it and not in the future"`
	Overlap string `json:"overlap,omitempty" doc:"How the backfill's runs take turns, as a task's policies.overlap says it: skip, queue or queue(n), cancel_previous, terminate_previous, allow or allow(n); absent: the task's own policy, and they wait where it would skip them" example:"allow(3)" maxLength:"32"`
	Limit   int    `json:"limit,omitempty" minimum:"1" maximum:"1000" default:"1000" doc:"How many at most, the earliest"`
	Spread  string `json:"spread,omitempty" default:"1s" doc:"Between two starts, up to 1h" example:"1s" maxLength:"32"`
	DryRun  bool   `json:"dry_run,omitempty" doc:"Only say which instants would run"`
}

// BackfillAnswer is what a backfill does, or would do.
type BackfillAnswer struct {
	DryRun   bool     `json:"dry_run" doc:"Nothing was started"`
	Series   string   `json:"series,omitempty" doc:"What its runs are found by; absent after a dry run" example:"backfill:0198f2c1"`
	Count    int      `json:"count" doc:"How many instants run"`
	More     bool     `json:"more" doc:"The time has more instants than limit; these do not run"`
	First    *Time    `json:"first,omitempty" doc:"The first instant; absent: there is none"`
	Last     *Time    `json:"last,omitempty" doc:"The last instant"`
	Instants []Time   `json:"instants" doc:"The first 1,000 of them"`
	Runs     []string `json:"runs" doc:"Ids of the first 1,000 runs; none after a dry run"`

	Refused   int      `json:"refused" doc:"How many instants the schedule has besides these, in that time or up to the last if there are more, that never start: calendars refuse them, or their local time does not exist"`
	RefusedBy []string `json:"refused_by" doc:"The calendars that refuse them" example:"[\"cn-workdays\"]"`

	AlreadyDecided    int               `json:"already_decided" doc:"How many of them the schedule had decided itself: started or skipped"`
	AlreadyBackfilled int               `json:"already_backfilled" doc:"How many of them backfills had run before; they run again all the same"`
	Earlier           []EarlierBackfill `json:"earlier_backfills" doc:"These backfills, the newest 20 first"`
}

// EarlierBackfill is a backfill that has run some of the instants of another before.
type EarlierBackfill struct {
	Series   string `json:"series" doc:"What its runs are found by" example:"backfill:0198f2c1"`
	At       *Time  `json:"at" doc:"When it was asked for"`
	Instants int    `json:"instants" doc:"How many of the instants it has run, or is running"`
}

// MaxEarlier is how many earlier backfills a backfill names.
const MaxEarlier = 20

// maxInstants is how many instants, or ids, a backfill names.
const maxInstants = 1000

type backfilled struct {
	Status int
	Body   BackfillAnswer
}

func (a *API) taskActions() {
	tags := []string{"tasks"}
	for _, to := range []struct {
		id, summary string
		enabled     bool
	}{
		{"enable", "Enable a task; nothing that was missed meanwhile fires", true},
		{"disable", "Disable a task; a run that is live goes on", false},
	} {
		register(a, huma.Operation{
			OperationID: to.id + "-task", Method: http.MethodPost, Path: "/v1/tasks/{task_id}/" + to.id, Tags: tags,
			Summary: to.summary,
		}, rule{permission: "task:write", source: fromTask, changes: true},
			func(ctx context.Context, in *struct {
				TaskPath
				Match
			}) (*taskOne, error) {
				req := requestOf(ctx)
				if err := in.matches(req.task.Version, to.id+" task "+named(req.task)); err != nil {
					return nil, err
				}
				task, err := a.opts.Definitions.SetEnabled(ctx, req.task.ID, to.enabled, req.principal.String())
				if err != nil {
					return nil, err
				}
				return a.one(ctx, task), nil
			})
	}
	register(a, huma.Operation{
		OperationID: "pause-task", Method: http.MethodPost, Path: "/v1/tasks/{task_id}/pause", Tags: tags,
		Summary: "Pause a task: its fires are skipped, a run that is live goes on",
	}, rule{permission: "task:write", source: fromTask, changes: true},
		func(ctx context.Context, in *struct {
			TaskPath
			Match
			Body *PauseRequest
		}) (*taskOne, error) {
			req := requestOf(ctx)
			if err := in.matches(req.task.Version, "pause task "+named(req.task)); err != nil {
				return nil, err
			}
			body := PauseRequest{}
			if in.Body != nil {
				body = *in.Body
			}
			task, err := a.opts.Definitions.Pause(ctx, req.task.ID, body.Note, body.Until.time(), req.principal.String())
			if err != nil {
				return nil, err
			}
			return a.one(ctx, task), nil
		})
	register(a, huma.Operation{
		OperationID: "resume-task", Method: http.MethodPost, Path: "/v1/tasks/{task_id}/resume", Tags: tags,
		Summary: "End a task's pause; nothing that was skipped meanwhile fires",
	}, rule{permission: "task:write", source: fromTask, changes: true},
		func(ctx context.Context, in *struct {
			TaskPath
			Match
		}) (*taskOne, error) {
			req := requestOf(ctx)
			if err := in.matches(req.task.Version, "resume task "+named(req.task)); err != nil {
				return nil, err
			}
			task, err := a.opts.Definitions.Resume(ctx, req.task.ID, req.principal.String())
			if err != nil {
				return nil, err
			}
			return a.one(ctx, task), nil
		})
	register(a, huma.Operation{
		OperationID: "backfill-task", Method: http.MethodPost, Path: "/v1/tasks/{task_id}/backfill", Tags: tags,
		Summary: "Run a task for the instants of a past time; dry_run only says which",
	}, rule{permission: "task:run", source: fromTask, changes: true},
		func(ctx context.Context, in *struct {
			TaskPath
			Body BackfillRequest
		}) (*backfilled, error) {
			return a.backfill(ctx, in.Body)
		})
	register(a, huma.Operation{
		OperationID: "run-task", Method: http.MethodPost, Path: "/v1/tasks/{task_id}/run", Tags: tags,
		Summary: "Run a task now, enabled or not", DefaultStatus: http.StatusAccepted,
	}, rule{permission: "task:run", source: fromTask, changes: true},
		func(ctx context.Context, in *struct {
			TaskPath
			Body *RunRequest
		}) (*runStarted, error) {
			var params json.RawMessage
			if in.Body != nil {
				params = json.RawMessage(in.Body.Params)
			}
			req := requestOf(ctx)
			run, err := a.opts.Runner.RunNow(ctx, req.task.ID, params, req.principal.String())
			if err != nil {
				return nil, err
			}
			return started(run), nil
		})
}

// backfill starts, or only lists, the runs of a past time.
func (a *API) backfill(ctx context.Context, in BackfillRequest) (*backfilled, error) {
	req := requestOf(ctx)
	op := "backfill task " + named(req.task)
	var findings []core.Finding
	ask := Backfill{
		TaskID: req.task.ID, From: utc(in.From.Time), To: utc(in.To.Time), Limit: in.Limit,
		Spread: span(in.Spread, "spread", &findings), DryRun: in.DryRun, By: req.principal.String(),
	}
	ask.Overlap, ask.OverlapLimit = readOverlap(in.Overlap, "overlap", &findings)
	if ask.Spread < 0 || ask.Spread > time.Hour {
		findings = append(findings, core.Finding{Path: "spread", Message: core.Text{Zh: "须在 0 到 1h 之间", En: "must be between 0 and 1h"}})
	}
	if !ask.From.Before(ask.To) {
		findings = append(findings, core.Finding{Path: "to", Message: core.Text{Zh: "必须晚于 from", En: "must be after from"}})
	}
	if len(findings) > 0 {
		return nil, core.Invalid(op, findings...)
	}
	done, err := a.opts.Runner.Backfill(ctx, ask)
	if err != nil {
		return nil, err
	}
	out := &backfilled{Status: http.StatusAccepted, Body: BackfillAnswer{
		DryRun: in.DryRun, Series: done.Series, Count: done.Count, More: done.More, First: instant(done.First), Last: instant(done.Last),
		Instants: []Time{}, Runs: append([]string{}, done.Runs...), AlreadyDecided: done.AlreadyDecided,
		Refused: done.Refused, RefusedBy: append([]string{}, done.RefusedBy...),
		AlreadyBackfilled: done.AlreadyBackfilled, Earlier: append([]EarlierBackfill{}, done.Earlier...),
	}}
	if in.DryRun {
		out.Status = http.StatusOK
	}
	for _, at := range done.Instants[:min(len(done.Instants), maxInstants)] {
		out.Body.Instants = append(out.Body.Instants, Time{at})
	}
	out.Body.Runs = out.Body.Runs[:min(len(out.Body.Runs), maxInstants)]
	return out, nil
}
