package core

import "time"

// Calendar is a set of days, or of parts of days. It holds what Weekdays, Dates, Spans and AnyOf hold together, without
// Except and NoneOf, and of that only what all of AllOf hold, and only the times of day named by Times. Calendars that
// every installation has: cn-workdays and cn-holidays (Chinese public holidays with make-up days), weekdays, weekends.
type Calendar struct {
	Name        string      `json:"name"`
	Title       Text        `json:"title,omitzero"`
	Description string      `json:"description,omitempty"`
	Zone        string      `json:"zone,omitempty"`     // whose days they are; "": those of the schedule that asks
	Weekdays    []string    `json:"weekdays,omitempty"` // mon, tue, … sun
	Dates       []DateRange `json:"dates,omitempty"`
	Except      []DateRange `json:"except,omitempty"`
	Spans       []TimeSpan  `json:"spans,omitempty"` // between two instants: a shutdown, a change-over
	Times       []DayTime   `json:"times,omitempty"` // only these times of the days; empty: whole days
	AllOf       []string    `json:"all_of,omitempty"`
	AnyOf       []string    `json:"any_of,omitempty"`
	NoneOf      []string    `json:"none_of,omitempty"`
}

// DateRange is one day or several.
type DateRange struct {
	From string `json:"from"`         // 2026-10-01; --10-01 for every year
	To   string `json:"to,omitempty"` // the last day; "": From
	Note string `json:"note,omitempty"`
}

// TimeSpan is the time between two instants: From <= t < To.
type TimeSpan struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Note string    `json:"note,omitempty"`
}

// DayTime is a part of each day: From <= local time < To, past midnight if To is not after From.
type DayTime struct {
	From string `json:"from"` // 22:00
	To   string `json:"to"`   // 06:00
}

// Holidays are the public holidays of one year, as published.
type Holidays struct {
	Region   string            `json:"region"`   // CN
	Year     int               `json:"year"`     // 2026
	Holidays map[string]string `json:"holidays"` // day off -> name of the holiday: "2026-10-01": "国庆节"
	Workdays map[string]string `json:"workdays"` // make-up working day -> the holiday it makes up for
}
