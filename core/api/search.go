package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// TaskLine is a line some run of a task said.
type TaskLine struct {
	RunID  string `json:"run_id" doc:"Who said it"`
	FireAt *Time  `json:"fire_at" doc:"Nominal instant of that run"`
	Line
}

// searchedDays is how far back a search goes that does not say.
const searchedDays = 31

// formatLinePlace writes a place as a cursor; parseLinePlace reads it.
func formatLinePlace(l core.LoggedLine) string {
	return strings.Join([]string{strconv.FormatInt(l.Origin.FireAt.UnixMicro(), 10), l.Origin.RunID, strconv.Itoa(l.Origin.Attempt), strconv.FormatUint(l.Seq, 10)}, "_")
}

func parseLinePlace(text string) (*core.LinePlace, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, "_")
	if len(parts) == 4 {
		at, err1 := strconv.ParseInt(parts[0], 10, 64)
		attempt, err2 := strconv.ParseUint(parts[2], 10, 16)
		seq, err3 := strconv.ParseUint(parts[3], 10, 63)
		if err1 == nil && err2 == nil && err3 == nil {
			return &core.LinePlace{FireAt: time.UnixMicro(at).UTC(), RunID: parts[1], Attempt: int(attempt), Seq: seq}, nil
		}
	}
	return nil, core.Invalid("search a task's log", core.Finding{Path: "query.cursor", Message: core.Text{
		Zh: "须为上一页的 next_cursor", En: "must be the next_cursor of the page before",
	}})
}

func (a *API) searchLogs() {
	register(a, huma.Operation{
		OperationID: "search-task-logs", Method: http.MethodGet, Path: "/v1/tasks/{task_id}/logs", Tags: []string{"tasks"},
		Summary:     "Search what a task's runs said: the newest run first and in it the last line first",
		Description: "Lines reach history a second or two after they were said; for a run that is live, ask for the run's own log.",
	}, rule{permission: "run:read", source: fromTask},
		func(ctx context.Context, in *struct {
			TaskPath
			Search string    `query:"search" maxLength:"1000" doc:"Only lines whose message contains this, in whatever case" example:"connection refused"`
			Words  bool      `query:"whole_words" doc:"Letters and digits of search must be whole words; ten times as fast where there are very many lines"`
			From   time.Time `query:"from" doc:"Only runs whose nominal instant is this or later; default 31 days before to"`
			To     time.Time `query:"to" doc:"Only runs whose nominal instant is earlier; default now"`
			Level  string    `query:"level" enum:"debug,info,warn,error" doc:"Only this severe or more"`
			Cursor string    `query:"cursor" doc:"next_cursor of the page before" maxLength:"100"`
			Limit  int       `query:"limit" minimum:"1" maximum:"10000" default:"100" doc:"How many at most"`
		}) (*paged[TaskLine], error) {
			before, err := parseLinePlace(in.Cursor)
			if err != nil {
				return nil, err
			}
			task := requestOf(ctx).task
			search := core.LineSearch{
				Namespace: task.Namespace, TaskName: task.Name, TaskID: task.ID, From: in.From.UTC(), To: in.To.UTC(), Text: in.Search, WholeWords: in.Words, Before: before, Limit: in.Limit,
			}
			if in.To.IsZero() {
				search.To = a.opts.Clock.Now().UTC().Add(time.Minute) // a fire is claimed a little ahead
			}
			if in.From.IsZero() {
				search.From = search.To.AddDate(0, 0, -searchedDays)
			}
			if !search.From.Before(search.To) {
				return nil, core.Invalid("search a task's log", core.Finding{Path: "query.from", Message: core.Text{Zh: "须早于 to", En: "must be before to"}})
			}
			search.MinLevel, _ = core.ParseLevel(in.Level)
			lines, err := a.opts.History.SearchLines(ctx, search)
			if err != nil {
				return nil, err
			}
			out := page[TaskLine]()
			for _, l := range lines {
				out.Body.Items = append(out.Body.Items, TaskLine{RunID: l.Origin.RunID, FireAt: instant(l.Origin.FireAt), Line: lineOut(l)})
			}
			if len(lines) == in.Limit {
				out.Body.NextCursor = formatLinePlace(lines[len(lines)-1])
			}
			return out, nil
		})
}
