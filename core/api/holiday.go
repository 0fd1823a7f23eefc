package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Holidays are the public holidays of one year, as published.
type Holidays struct {
	Region   string            `json:"region" doc:"Whose" example:"CN"`
	Year     int               `json:"year" doc:"Of which year" example:"2026"`
	Holidays map[string]string `json:"holidays" doc:"Day off to name of the holiday" example:"{\"2026-10-01\":\"国庆节\"}"`
	Workdays map[string]string `json:"workdays" doc:"Make-up working day to name of the holiday it makes up for" example:"{\"2026-10-10\":\"国庆节\"}"`
	Kept
}

// HolidaysInput is what is said about public holidays, in one of three forms.
type HolidaysInput json.RawMessage

// UnmarshalJSON keeps what was written.
func (in *HolidaysInput) UnmarshalJSON(raw []byte) error {
	*in = append((*in)[:0], raw...)
	return nil
}

// MarshalJSON writes it as it was.
func (in HolidaysInput) MarshalJSON() ([]byte, error) { return Any(in).MarshalJSON() }

// Schema describes the three forms.
func (HolidaysInput) Schema(huma.Registry) *huma.Schema {
	days := func(doc string, example map[string]any) *huma.Schema {
		return &huma.Schema{
			Type: huma.TypeObject, Description: doc, AdditionalProperties: &huma.Schema{Type: huma.TypeString}, Examples: []any{example},
		}
	}
	year := &huma.Schema{
		Type: huma.TypeObject, Description: "One year", Required: []string{"year", "holidays"}, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{
			"region":   {Type: huma.TypeString, Description: "Whose; absent: CN", Examples: []any{"CN"}},
			"year":     {Type: huma.TypeInteger, Description: "Of which year", Examples: []any{2026}},
			"holidays": days("Day off to name of the holiday", map[string]any{"2026-10-01": "国庆节"}),
			"workdays": days("Make-up working day to name of the holiday it makes up for", map[string]any{"2026-10-10": "国庆节"}),
		},
	}
	published := &huma.Schema{
		Type: huma.TypeObject, Description: "Several years as the chinese-days project publishes them", Required: []string{"holidays"},
		Properties: map[string]*huma.Schema{
			"holidays":   days("Days off", map[string]any{"2026-10-01": "National Day,国庆节,3"}),
			"workdays":   days("Make-up working days", map[string]any{"2026-10-10": "National Day,国庆节,3"}),
			"inLieuDays": days("Days off that are made up for; among holidays too", map[string]any{"2026-10-07": "National Day,国庆节,3"}),
		},
	}
	return &huma.Schema{
		Description: "One year, several years, or the file of the chinese-days project",
		AnyOf:       []*huma.Schema{year, {Type: huma.TypeArray, Items: year, Description: "Several years"}, published},
	}
}

func holidaysOut(held []core.Held[core.Holidays]) *listed[Holidays] {
	var years []Holidays
	for _, h := range held {
		y := Holidays{Region: h.Value.Region, Year: h.Value.Year, Holidays: h.Value.Holidays, Workdays: h.Value.Workdays, Kept: kept(h)}
		if y.Holidays == nil {
			y.Holidays = map[string]string{}
		}
		if y.Workdays == nil {
			y.Workdays = map[string]string{}
		}
		years = append(years, y)
	}
	return list(years)
}

func (a *API) holidays() {
	tags := []string{"calendars"}
	register(a, huma.Operation{
		OperationID: "list-holidays", Method: http.MethodGet, Path: "/v1/holidays", Tags: tags,
		Summary: "List the public holidays that are known, by year",
	}, rule{permission: "settings:read", source: fromGrants},
		func(ctx context.Context, _ *struct{}) (*listed[Holidays], error) {
			held, err := a.opts.Settings.Holidays(ctx)
			if err != nil {
				return nil, err
			}
			return holidaysOut(held), nil
		})
	register(a, huma.Operation{
		OperationID: "put-holidays", Method: http.MethodPut, Path: "/v1/holidays", Tags: tags,
		Summary:          "Make known the public holidays of years, in place of what was known of them; other years stay",
		SkipValidateBody: true, // ReadHolidays says what is wrong with the form that was meant
	}, rule{permission: "settings:write", source: fromServer, changes: true},
		func(ctx context.Context, in *struct{ Body HolidaysInput }) (*listed[Holidays], error) {
			years, err := a.opts.Settings.ReadHolidays(in.Body)
			if err != nil {
				return nil, err
			}
			held, err := a.opts.Settings.PutHolidays(ctx, years, requestOf(ctx).principal.String())
			if err != nil {
				return nil, err
			}
			return holidaysOut(held), nil
		})
}
