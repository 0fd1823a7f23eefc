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
	Spec      string     `json:"spec" doc:"As in a task's schedule" example:"30 8 * * 1-5" maxLength:"65536"`
	Dialect   string     `json:"dialect,omitempty"`
	Zone      string     `json:"zone,omitempty"`
	OnGap     string     `json:"on_gap,omitempty"`
	OnOverlap string     `json:"on_overlap,omitempty"`
	From      *time.Time `json:"from,omitempty" doc:"Look for instants after this; absent: now"`
	Count     int        `json:"count,omitempty" minimum:"1" maximum:"1000" default:"10"`
}

// PreviewAnswer is what a schedule would do.
type PreviewAnswer struct {
	Words Text          `json:"words" doc:"The schedule in words"`
	Fires []PreviewItem `json:"fires"`
}

// PreviewItem is one instant.
type PreviewItem struct {
	At    *Time  `json:"at"`
	Local string `json:"local" doc:"The same instant in the schedule's zone, RFC 3339 with its offset" example:"2026-12-01T08:30:00+08:00"`
	Skip  string `json:"skip,omitempty" doc:"Why it does not fire"`
}

func (a *API) schedules() {
	register(a, huma.Operation{
		OperationID: "preview-schedule", Method: http.MethodPost, Path: "/v1/schedule/preview", Tags: []string{"schedules"},
		Summary: "Say when a schedule would fire, without keeping it",
	}, rule{permission: "task:read", source: fromGrants},
		func(_ context.Context, in *struct{ Body PreviewRequest }) (*struct{ Body PreviewAnswer }, error) {
			b := in.Body
			from := time.Now()
			if b.From != nil {
				from = *b.From
			}
			preview, err := a.opts.Schedules.Preview(core.Schedule{
				Spec: b.Spec, Dialect: b.Dialect, Zone: b.Zone, OnGap: b.OnGap, OnOverlap: b.OnOverlap, Anchor: from,
			}, from, b.Count)
			if err != nil {
				return nil, moved(err, func(path string) string { return strings.TrimPrefix(path, "schedule.") })
			}
			out := &struct{ Body PreviewAnswer }{PreviewAnswer{Words: text(preview.Words), Fires: []PreviewItem{}}}
			for _, f := range preview.Fires {
				out.Body.Fires = append(out.Body.Fires, PreviewItem{instant(f.At), f.At.Format(time.RFC3339Nano), string(f.Skip)})
			}
			return out, nil
		})
}
