package api

import (
	"encoding/json"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// timeLayout is RFC 3339 in UTC, always with six decimals, so that instants compare as text.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Time is an instant in JSON: RFC 3339, UTC, microseconds.
type Time struct{ time.Time }

// MarshalJSON writes the instant.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.UTC().Format(timeLayout) + `"`), nil
}

// Schema describes a Time.
func (Time) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Format: "date-time", Description: "RFC 3339, UTC, microseconds",
		Examples: []any{"2026-12-01T00:00:00.000000Z"},
	}
}

// instant gives a time for JSON, or nil for the zero time: not yet, or never.
func instant(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return &Time{t}
}

// time gives the instant, or the zero time if there is none.
func (t *Time) time() time.Time {
	if t == nil {
		return time.Time{}
	}
	return utc(t.Time)
}

// utc gives an instant in UTC; the zero time stays zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// duration gives a span as "90s" is written: Go's form without trailing zero units. Zero is the empty string.
func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// durations is the form of a duration, whatever its size.
var durations = regexp.MustCompile(`^[-+]?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`)

// span reads a duration; a mistake is added to the findings under path. One that is too long to be held is the longest there is,
// so that the limit of the field is what is said about it.
func span(text, path string, findings *[]core.Finding) time.Duration {
	if text == "" || text == "0" {
		return 0
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil && durations.MatchString(text):
		if d = math.MaxInt64; text[0] == '-' {
			d = math.MinInt64
		}
	case err != nil:
		*findings = append(*findings, core.Finding{Path: path, Message: core.Text{
			Zh: "“" + text + "”不是时长；请写成 30s、10m 或 1h30m 的形式",
			En: `"` + text + `" is not a duration; write it like 30s, 10m or 1h30m`,
		}})
	}
	return d
}

// Object is any JSON object, kept as it was written.
type Object json.RawMessage

// MarshalJSON writes the object as it is.
func (o Object) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("{}"), nil
	}
	return o, nil
}

// UnmarshalJSON keeps the object as it is.
func (o *Object) UnmarshalJSON(raw []byte) error {
	*o = append((*o)[:0], raw...)
	return nil
}

// Schema describes an Object.
func (Object) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// Any is any JSON value, kept as it was written.
type Any json.RawMessage

// MarshalJSON writes the value as it is.
func (v Any) MarshalJSON() ([]byte, error) {
	if len(v) == 0 {
		return []byte("null"), nil
	}
	return v, nil
}

// UnmarshalJSON keeps the value as it is.
func (v *Any) UnmarshalJSON(raw []byte) error {
	*v = append((*v)[:0], raw...)
	return nil
}

// Schema describes an Any.
func (Any) Schema(huma.Registry) *huma.Schema { return &huma.Schema{} }

// Text is what a person reads, in both languages.
type Text struct {
	Zh string `json:"zh" doc:"Chinese"`
	En string `json:"en" doc:"English"`
}

func text(t core.Text) Text { return Text{Zh: t.Zh, En: t.En} }

// List is all there is, in the order that the operation's summary names.
type List[T any] struct {
	Items []T `json:"items" doc:"All there are"`
}

// Page is a part of a list, in the order that the operation's summary names.
type Page[T any] struct {
	Items      []T    `json:"items" doc:"At most limit of them"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Give it as cursor to go on; absent: this was the end for now"`
}

type listed[T any] struct{ Body List[T] }

type paged[T any] struct{ Body Page[T] }

// list gives a list that is one in JSON, even if it is empty.
func list[T any](items []T) *listed[T] { return &listed[T]{List[T]{append([]T{}, items...)}} }

func page[T any]() *paged[T] { return &paged[T]{Page[T]{Items: []T{}}} }
