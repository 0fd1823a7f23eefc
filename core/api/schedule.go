package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// PreviewRequest is a schedule to look ahead with.
type PreviewRequest struct {
	Spec        string     `json:"spec" doc:"As in a task's schedule" example:"30 8 * * 1-5" maxLength:"65536"`
	Dialect     string     `json:"dialect,omitempty" doc:"unix (default) or quartz" example:"unix" maxLength:"16"`
	Zone        string     `json:"zone,omitempty" doc:"IANA time zone; default UTC" example:"Asia/Shanghai" maxLength:"64"`
	OnGap       string     `json:"on_gap,omitempty" enum:"run_after,skip" doc:"A local time that does not exist"`
	OnOverlap   string     `json:"on_overlap,omitempty" enum:"first,second,both" doc:"A local time that comes twice"`
	ActiveFrom  *Time      `json:"active_from,omitempty" doc:"The schedule's from: nothing fires before it"`
	ActiveUntil *Time      `json:"active_until,omitempty" doc:"The schedule's until: nothing fires at it or after"`
	OnlyOn      []string   `json:"only_on,omitempty" maxItems:"20" doc:"Calendars that must all contain the instant" example:"[\"cn-workdays\"]"`
	NotOn       []string   `json:"not_on,omitempty" maxItems:"20" doc:"Calendars that must not contain it"`
	OnDayOff    string     `json:"on_day_off,omitempty" enum:"skip,next,previous" doc:"An instant the calendars refuse: skip (default), or move it to the next or previous day they allow"`
	TaskName    string     `json:"task_name,omitempty" doc:"Of the task it is meant for: H in a cron expression is spread by it" example:"nightly-load" maxLength:"128"`
	From        *time.Time `json:"from,omitempty" doc:"Look for instants after this; absent: now"`
	Count       int        `json:"count,omitempty" minimum:"1" maximum:"1000" default:"10" doc:"How many instants at most"`
}

// PreviewAnswer is what a schedule would do.
type PreviewAnswer struct {
	Words    Text          `json:"words" doc:"The schedule in words"`
	Fires    []PreviewItem `json:"fires" doc:"In time, those that do not fire too"`
	Warnings []Text        `json:"warnings" doc:"What its calendars lack: a year whose holidays are not known"`
}

// PreviewItem is one instant.
type PreviewItem struct {
	At        *Time  `json:"at" doc:"The instant"`
	Local     string `json:"local" doc:"The same in the schedule's zone, RFC 3339 with its offset" example:"2026-12-01T08:30:00+08:00"`
	Skip      string `json:"skip,omitempty" enum:"calendar,nonexistent_local_time" doc:"Why it does not fire"`
	MovedFrom *Time  `json:"moved_from,omitempty" doc:"The instant that the calendars moved here"`
	Merged    int    `json:"merged,omitempty" doc:"Further instants that came to the same one"`
	Calendar  string `json:"calendar,omitempty" doc:"Which calendar refused it, or the instant it was moved from" example:"cn-workdays"`
	Why       *Text  `json:"why,omitempty" doc:"What that calendar says of the day: the holiday's name"`
}

// schedule gives what is looked ahead with.
func (b PreviewRequest) schedule(from time.Time) core.Schedule {
	return core.Schedule{
		Spec: b.Spec, Dialect: b.Dialect, Zone: b.Zone, OnGap: b.OnGap, OnOverlap: b.OnOverlap, Anchor: from,
		From: b.ActiveFrom.time(), Until: b.ActiveUntil.time(), OnlyOn: b.OnlyOn, NotOn: b.NotOn, OnDayOff: b.OnDayOff,
	}
}

// flat moves a finding about a schedule to where its field stands in a PreviewRequest.
func flat(path string) string {
	path = strings.TrimPrefix(path, "schedule.")
	if path == "from" || path == "until" {
		return "active_" + path
	}
	return path
}

func (a *API) schedules() {
	register(a, huma.Operation{
		OperationID: "preview-schedule", Method: http.MethodPost, Path: "/v1/schedule/preview", Tags: []string{"schedules"},
		Summary: "Say when a schedule would fire, without keeping it",
	}, rule{permission: "task:read", source: fromGrants},
		func(_ context.Context, in *struct{ Body PreviewRequest }) (*struct{ Body PreviewAnswer }, error) {
			from := a.opts.Clock.Now()
			if in.Body.From != nil {
				from = *in.Body.From
			}
			preview, err := a.opts.Schedules.Preview(in.Body.schedule(from), in.Body.TaskName, from, in.Body.Count)
			if err != nil {
				return nil, moved(err, flat)
			}
			out := &struct{ Body PreviewAnswer }{PreviewAnswer{
				Words: text(preview.Words), Fires: []PreviewItem{}, Warnings: textsOut(preview.Warnings),
			}}
			for _, f := range preview.Fires {
				item := PreviewItem{
					At: instant(f.At), Local: f.At.Format(time.RFC3339Nano), Skip: string(f.Skip), MovedFrom: instant(f.MovedFrom),
					Merged: f.Merged, Calendar: f.Calendar,
				}
				if f.Why != (core.Text{}) {
					why := text(f.Why)
					item.Why = &why
				}
				out.Body.Fires = append(out.Body.Fires, item)
			}
			return out, nil
		})
}
