package main

import (
	"context"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/definition"
)

// settings is what all namespaces share, as the API wants it.
type settings struct{ *definition.Definitions }

// Days says of each day whether a calendar holds it.
func (s settings) Days(ctx context.Context, name, zone, from, to string) ([]api.Day, error) {
	days, err := s.Definitions.Days(ctx, name, zone, from, to)
	list := make([]api.Day, len(days))
	for i, d := range days {
		list[i] = api.Day{Date: d.Date, Holds: d.Holds, Whole: d.Whole, Why: textOf(d.Why)}
		for _, part := range d.Parts {
			list[i].Parts = append(list[i].Parts, api.DayTime(part))
		}
	}
	return list, err
}

// rehearse gives definitions in which nothing that is put is kept.
func (a *app) rehearse(ctx context.Context) (api.Rehearsal, error) {
	trial, err := a.definitions.Rehearsal(ctx)
	return settings{trial}, err
}

// previews gives meaning to schedules with the calendars of this server.
type previews struct{ *definition.Definitions }

// Preview gives the next fires and the words.
func (p previews) Preview(s core.Schedule, taskName string, from time.Time, count int) (api.Preview, error) {
	preview, err := p.Definitions.Preview(s, taskName, from, count)
	out := api.Preview{Words: preview.Words, Warnings: preview.Warnings}
	for _, fire := range preview.Fires {
		out.Fires = append(out.Fires, api.PreviewFire(fire))
	}
	return out, err
}
