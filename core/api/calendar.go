package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// CalendarInput is what can be said about a calendar: a set of days, or of parts of days. It holds what weekdays, dates,
// spans and any_of hold together, without except and none_of, and of that only what all of all_of hold, and only the
// times of day named by times.
type CalendarInput struct {
	Title       *Text       `json:"title,omitempty" doc:"Shown to people"`
	Description string      `json:"description,omitempty" doc:"What it is for" maxLength:"16384"`
	Zone        string      `json:"zone,omitempty" doc:"IANA time zone: whose days they are; absent: those of the schedule that asks" example:"Asia/Shanghai" maxLength:"64"`
	Weekdays    []string    `json:"weekdays,omitempty" enum:"mon,tue,wed,thu,fri,sat,sun" maxItems:"7" doc:"Days of every week" example:"[\"mon\",\"fri\"]"`
	Dates       []DateRange `json:"dates,omitempty" maxItems:"10000" doc:"Days it holds"`
	Except      []DateRange `json:"except,omitempty" maxItems:"10000" doc:"Days it does not hold"`
	Spans       []TimeSpan  `json:"spans,omitempty" maxItems:"10000" doc:"What lies between two instants: a shutdown, a change-over"`
	Times       []DayTime   `json:"times,omitempty" maxItems:"100" doc:"Only these times of its days; absent: whole days"`
	AllOf       []string    `json:"all_of,omitempty" maxItems:"50" doc:"Calendars that must all hold it too" example:"[\"cn-workdays\"]"`
	AnyOf       []string    `json:"any_of,omitempty" maxItems:"50" doc:"Calendars whose days it holds too" example:"[\"weekends\"]"`
	NoneOf      []string    `json:"none_of,omitempty" maxItems:"50" doc:"Calendars whose days it does not hold" example:"[\"cn-holidays\"]"`
}

// DateRange is one day or several.
type DateRange struct {
	From string `json:"from" doc:"A day; --10-01 is 1 October of every year" example:"2026-10-01" pattern:"^([0-9]{4}|-)-[0-9]{2}-[0-9]{2}$" patternDescription:"a day: 2026-10-01, or --10-01 for 1 October of every year"`
	To   string `json:"to,omitempty" doc:"The last day, of the same form; absent: the same day" example:"2026-10-07" pattern:"^([0-9]{4}|-)-[0-9]{2}-[0-9]{2}$" patternDescription:"a day: 2026-10-01, or --10-01 for 1 October of every year"`
	Note string `json:"note,omitempty" doc:"Why; said when a fire is moved or skipped for it" example:"stocktaking" maxLength:"1024"`
}

// TimeSpan is the time between two instants.
type TimeSpan struct {
	From Time   `json:"from" doc:"From this instant"`
	To   Time   `json:"to" doc:"To this one, which is not in it"`
	Note string `json:"note,omitempty" doc:"Why" example:"change-over of the billing system" maxLength:"1024"`
}

// DayTime is a part of each day.
type DayTime struct {
	From string `json:"from" doc:"Local time, which is in it" example:"22:00" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$" patternDescription:"a time of day: 00:00 to 23:59, with seconds if need be"`
	To   string `json:"to" doc:"Local time, which is not in it; past midnight if it is not after from; 24:00 is the end of the day" example:"06:00" pattern:"^(([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?|24:00)$" patternDescription:"a time of day or the end of it: 00:00 to 24:00, with seconds if need be"`
}

// Calendar is a set of days, or of parts of days, that schedules of any namespace name.
type Calendar struct {
	Name string `json:"name" doc:"Unique; cn-workdays, cn-holidays, weekdays and weekends are there from the start" example:"month-end-freeze"`
	CalendarInput
	Builtin      bool   `json:"builtin" doc:"Every installation has it; it cannot be changed"`
	HolidayYears []int  `json:"holiday_years,omitempty" doc:"Of a calendar made of public holidays: the years they are known for"`
	Warnings     []Text `json:"warnings" doc:"What it lacks: a year whose holidays are not known"`
	Kept
}

// Day says whether a calendar holds a day.
type Day struct {
	Date  string    `json:"date" doc:"The day" example:"2026-10-01"`
	Holds bool      `json:"holds" doc:"It holds the day, or a part of it"`
	Whole bool      `json:"whole" doc:"It holds all of it"`
	Parts []DayTime `json:"parts,omitempty" doc:"Which parts, if not all of it"`
	Why   Text      `json:"why" doc:"What decided it: the holiday's name, the weekday, a note"`
}

func rangesOut(list []core.DateRange) []DateRange {
	var out []DateRange
	for _, r := range list {
		out = append(out, DateRange(r))
	}
	return out
}

func ranges(list []DateRange) []core.DateRange {
	var out []core.DateRange
	for _, r := range list {
		out = append(out, core.DateRange(r))
	}
	return out
}

func calendarOut(h core.Held[core.Calendar]) Calendar {
	c := h.Value
	out := Calendar{
		Name: c.Name, Builtin: h.Version == 0, Kept: kept(h), Warnings: []Text{},
		CalendarInput: CalendarInput{
			Description: c.Description, Zone: c.Zone, Weekdays: c.Weekdays, Dates: rangesOut(c.Dates), Except: rangesOut(c.Except),
			AllOf: c.AllOf, AnyOf: c.AnyOf, NoneOf: c.NoneOf,
		},
	}
	if c.Title != (core.Text{}) {
		title := text(c.Title)
		out.Title = &title
	}
	for _, s := range c.Spans {
		out.Spans = append(out.Spans, TimeSpan{Time{s.From}, Time{s.To}, s.Note})
	}
	for _, t := range c.Times {
		out.Times = append(out.Times, DayTime(t))
	}
	return out
}

func (in CalendarInput) calendar(name string) core.Calendar {
	c := core.Calendar{
		Name: name, Description: in.Description, Zone: in.Zone, Weekdays: in.Weekdays, Dates: ranges(in.Dates), Except: ranges(in.Except),
		AllOf: in.AllOf, AnyOf: in.AnyOf, NoneOf: in.NoneOf,
	}
	if in.Title != nil {
		c.Title = core.Text{Zh: in.Title.Zh, En: in.Title.En}
	}
	for _, s := range in.Spans {
		c.Spans = append(c.Spans, core.TimeSpan{From: s.From.UTC(), To: s.To.UTC(), Note: s.Note})
	}
	for _, t := range in.Times {
		c.Times = append(c.Times, core.DayTime(t))
	}
	return c
}

// maxDays is how many days of a calendar are said at once.
const maxDays = 400

// calendarSetting says how calendars are kept.
func (a *API) calendarSetting() setting[core.Calendar, CalendarInput, Calendar] {
	return setting[core.Calendar, CalendarInput, Calendar]{
		one: "calendar", many: "calendars", what: "calendars",
		list: func(ctx context.Context) ([]core.Held[core.Calendar], error) { return a.opts.Settings.Calendars(ctx) },
		get: func(ctx context.Context, name string) (core.Held[core.Calendar], error) {
			return a.opts.Settings.Calendar(ctx, name)
		},
		put: func(ctx context.Context, c core.Calendar, version int64, by string) (core.Held[core.Calendar], error) {
			return a.opts.Settings.PutCalendar(ctx, c, version, by)
		},
		remove: func(ctx context.Context, name string, version int64, by string) error {
			return a.opts.Settings.DeleteCalendar(ctx, name, version, by)
		},
		in: func(name string, in CalendarInput, _ *[]core.Finding) core.Calendar { return in.calendar(name) },
		said: func(c core.Calendar) CalendarInput {
			return calendarOut(core.Held[core.Calendar]{Value: c}).CalendarInput
		},
		out: func(_ context.Context, held []core.Held[core.Calendar]) ([]Calendar, error) {
			list := make([]Calendar, 0, len(held))
			for _, h := range held {
				out := calendarOut(h)
				out.HolidayYears, out.Warnings = a.opts.Settings.HolidayYears(h.Value.Name), textsOut(a.opts.Settings.CalendarWarnings(h.Value.Name))
				list = append(list, out)
			}
			return list, nil
		},
	}
}

func (a *API) calendars() {
	settings(a, a.calendarSetting())
	register(a, huma.Operation{
		OperationID: "list-calendar-days", Method: http.MethodGet, Path: "/v1/calendars/{name}/days", Tags: []string{"calendars"},
		Summary: "Say of each day whether a calendar holds it, and why",
	}, rule{permission: "settings:read", source: fromGrants},
		func(ctx context.Context, in *struct {
			NamePath
			From string `query:"from" required:"true" format:"date" doc:"The first day" example:"2026-10-01"`
			To   string `query:"to" format:"date" doc:"The last day, at most 400 days in all; absent: 30 days after the first" example:"2026-10-31"`
			Zone string `query:"zone" doc:"Whose days, if the calendar has none of its own; default UTC" example:"Asia/Shanghai" maxLength:"64"`
		}) (*listed[Day], error) {
			from, err := time.Parse(time.DateOnly, in.From)
			if err != nil {
				return nil, wrong(ctx, "query.from", core.Text{Zh: "须为日期，例如 2026-10-01", En: "must be a date: 2026-10-01"})
			}
			to := from.AddDate(0, 0, 30)
			if in.To != "" {
				if to, err = time.Parse(time.DateOnly, in.To); err != nil {
					return nil, wrong(ctx, "query.to", core.Text{Zh: "须为日期，例如 2026-10-31", En: "must be a date: 2026-10-31"})
				}
			}
			if to.Before(from) || to.Sub(from) >= maxDays*24*time.Hour {
				return nil, wrong(ctx, "query.to", core.Text{Zh: "不能早于 from，且至多 400 天", En: "must not be before from, and at most 400 days in all"})
			}
			if _, err := time.LoadLocation(in.Zone); err != nil || in.Zone == "Local" {
				return nil, wrong(ctx, "query.zone", core.Text{Zh: "不认识这个时区；请写 Asia/Shanghai 这样的名称", En: "there is no such time zone; write one like Asia/Shanghai"})
			}
			days, err := a.opts.Settings.Days(ctx, in.Name, in.Zone, from.Format(time.DateOnly), to.Format(time.DateOnly))
			if err != nil {
				return nil, err
			}
			return list(days), nil
		})
}
