package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// End is the last event of a live log.
type End struct {
	RunID   string `json:"run_id" doc:"The run"`
	Outcome string `json:"outcome" doc:"How it ended"`
	Message string `json:"message,omitempty" doc:"What was said about it"`
	EndedAt *Time  `json:"ended_at,omitempty" doc:"When it ended"`
}

// place is where a reader stands in the log of a run: behind line seq of an attempt. Written attempt-seq, it is the
// cursor of a page and the id of an event.
type place struct {
	attempt int
	seq     uint64
}

func (p place) String() string { return string(p.append(nil)) }

func (p place) append(b []byte) []byte {
	return strconv.AppendUint(append(strconv.AppendInt(b, int64(p.attempt), 10), '-'), p.seq, 10)
}

func parsePlace(text, field string) (place, error) {
	if text == "" {
		return place{}, nil
	}
	attempt, seq, _ := strings.Cut(text, "-")
	a, err1 := strconv.ParseUint(attempt, 10, 31)
	s, err2 := strconv.ParseUint(seq, 10, 63)
	if err1 != nil || err2 != nil {
		return place{}, &Problem{
			Type: "urn:gnomon:problem:invalid", Status: http.StatusUnprocessableEntity, Kind: string(core.KindInvalid),
			Title: titles[core.KindInvalid].En, Errors: []ProblemError{{
				Location: field, Message: "must be an attempt and a line, like 1-42", MessageEn: "must be an attempt and a line, like 1-42",
				MessageZh: "须为“尝试号-行号”，例如 1-42",
			}},
		}
	}
	return place{int(a), s}, nil
}

func placeOf(l core.LoggedLine) place {
	if l.Origin == nil {
		return place{seq: l.Seq}
	}
	return place{l.Origin.Attempt, l.Seq}
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.attempt, q.attempt), cmp.Compare(p.seq, q.seq))
}

func (p place) follows(q place) bool {
	return p.attempt == q.attempt && p.seq == q.seq+1 || q == place{} && p == place{1, 1}
}

// Lines that a live log reads at once: first, so that little is read for one who turns out to be slow, and at most, by one that
// is behind.
const (
	pageAtFirst = 64
	pageAtMost  = 4000
)

func (a *API) logs() {
	tags := []string{"runs"}
	register(a, huma.Operation{
		OperationID: "list-log-lines", Method: http.MethodGet, Path: "/v1/runs/{run_id}/logs", Tags: tags,
		Summary: "List the log lines of a run in order, each once",
	}, rule{permission: "run:read", source: fromRun},
		func(ctx context.Context, in *struct {
			RunPath
			Attempt int    `query:"attempt" minimum:"0" doc:"Only of this attempt"`
			Level   string `query:"level" enum:"debug,info,warn,error" doc:"Only this severe or more"`
			Search  string `query:"search" maxLength:"1000" doc:"Only lines whose message contains this, in whatever case"`
			Cursor  string `query:"cursor" doc:"next_cursor of the page before, or the id of an event of the live log" maxLength:"40"`
			Limit   int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"How many at most"`
		}) (*paged[Line], error) {
			after, err := parsePlace(in.Cursor, "query.cursor")
			if err != nil {
				return nil, err
			}
			filter := core.LineFilter{
				RunID: in.RunID, Attempt: in.Attempt, AfterAttempt: after.attempt, AfterSeq: after.seq, Text: in.Search, Limit: in.Limit,
			}
			filter.MinLevel, _ = core.ParseLevel(in.Level)
			lines, err := a.lines(ctx, filter)
			if err != nil {
				return nil, err
			}
			out := page[Line]()
			for _, l := range lines {
				out.Body.Items = append(out.Body.Items, lineOut(l))
			}
			if len(lines) == in.Limit {
				out.Body.NextCursor = placeOf(lines[len(lines)-1]).String()
			}
			return out, nil
		})

	a.searchLogs()
	op := huma.Operation{
		OperationID: "follow-log", Method: http.MethodGet, Path: "/v1/runs/{run_id}/logs/live", Tags: tags,
		Summary: "Follow the log of a run by server-sent events: line for each line, then end once",
	}
	schemas := a.huma.OpenAPI().Components.Schemas
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Events: `line` with a Line and the id attempt-seq; `end` with an End when the run has ended and all " +
			"was said. A comment comes when nothing else does. Reconnect with Last-Event-ID to go on without a gap.",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{OneOf: []*huma.Schema{
			schemas.Schema(reflect.TypeFor[Line](), true, "Line"), schemas.Schema(reflect.TypeFor[End](), true, "End"),
		}}}},
	}}
	register(a, op, rule{permission: "run:read", source: fromRun},
		func(ctx context.Context, in *struct {
			RunPath
			Attempt     int    `query:"attempt" minimum:"0" doc:"Only of this attempt"`
			Level       string `query:"level" enum:"debug,info,warn,error" doc:"Only this severe or more"`
			Cursor      string `query:"cursor" doc:"Where to begin, as Last-Event-ID, for a first connection" maxLength:"40"`
			LastEventID string `header:"Last-Event-ID" doc:"The id of the last event that arrived" maxLength:"40"`
		}) (*huma.StreamResponse, error) {
			after, err := parsePlace(cmp.Or(in.LastEventID, in.Cursor), "header.Last-Event-ID")
			if err != nil {
				return nil, err
			}
			f := follower{api: a, atOnce: sentAtFirst, patience: writeDeadline + rand.N(writeDeadline), filter: core.LineFilter{
				RunID: in.RunID, Attempt: in.Attempt, AfterAttempt: after.attempt, AfterSeq: after.seq, Limit: pageAtFirst,
			}}
			f.filter.MinLevel, _ = core.ParseLevel(in.Level)
			return &huma.StreamResponse{Body: func(hctx huma.Context) {
				hctx.SetHeader("Content-Type", "text/event-stream")
				hctx.SetHeader("X-Accel-Buffering", "no")
				hctx.SetStatus(http.StatusOK)
				w, ok := hctx.BodyWriter().(http.ResponseWriter)
				if !ok {
					return
				}
				f.out, f.control = w, http.NewResponseController(w)
				// An error here means that the reader went away or reads too slowly; it comes back with Last-Event-ID.
				if err := f.run(ctx); err != nil && ctx.Err() == nil {
					requestOf(ctx).log.Debug("live log ended early", "request_id", requestOf(ctx).id, "run_id", in.RunID, "err", err)
				}
			}}, nil
		})
}

// lines merges spool and history. The spool is asked first: a line that is shipped between the two questions is then
// seen twice and not missed.
func (a *API) lines(ctx context.Context, filter core.LineFilter) ([]core.LoggedLine, error) {
	lines, err := a.opts.Logs.Lines(ctx, filter)
	if err != nil {
		return nil, err
	}
	past, err := a.opts.History.Lines(ctx, filter)
	if err != nil {
		return nil, err
	}
	lines = append(slices.Clone(lines), past...)
	slices.SortStableFunc(lines, func(x, y core.LoggedLine) int { return placeOf(x).compare(placeOf(y)) })
	lines = slices.CompactFunc(lines, func(x, y core.LoggedLine) bool { return placeOf(x) == placeOf(y) })
	return lines[:min(len(lines), filter.Limit)], nil
}

// linesTogether is lines for many who ask the same at once, as those do who follow a run from its beginning: one asks for all.
// The answer is nobody's to change. What has come since it was asked for is behind its last line, where each looks next.
func (a *API) linesTogether(ctx context.Context, filter core.LineFilter) ([]core.LoggedLine, error) {
	answer := a.asking.DoChan(fmt.Sprint(filter), func() (any, error) {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second) // who asked first may go
		defer cancel()
		return a.lines(limited, filter)
	})
	select {
	case r := <-answer:
		lines, _ := r.Val.([]core.LoggedLine)
		return lines, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// writeDeadline is how long one write to a reader may take, and up to as long again; a slower one is cut off and never slows the
// run. A browser is asked to come back after comeBack, and up to as long again. It is drawn for each reader, or all who began
// together would be cut off and come back together, each time at the cost of who reads along.
const (
	writeDeadline = 5 * time.Second
	comeBack      = 2 * time.Second
)

// follower is one live log.
type follower struct {
	api      *API
	filter   core.LineFilter
	out      io.Writer
	control  *http.ResponseController
	patience time.Duration // that one write may take
	caught   bool          // everything history has is behind us: new lines come through the spool
	text     []byte
	atOnce   int // about how many bytes are sent at once: more from time to time, up to sentAtOnce
}

func (f *follower) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	// Ends with ctx, at the latest when run returns.
	waiting.Go(func() {
		select {
		case <-f.api.done:
			cancel()
		case <-ctx.Done():
		}
	})
	tail := f.api.opts.Logs.Tail(ctx, f.filter.RunID)
	defer tail.Close()
	quiet, polled := time.Now(), time.Time{}
	if err := f.say(fmt.Sprintf(": following\nretry: %d\n\n", (comeBack + rand.N(comeBack)).Milliseconds())); err != nil {
		return err
	}
	ended := 0 // polls since the run was seen ended
	var fresh []core.LoggedLine
	for {
		sent, err := f.forward(fresh)
		if err != nil {
			return err
		}
		if sent == 0 || time.Since(polled) >= f.api.opts.Poll {
			// The run is looked up at each poll, not for each batch of lines.
			if time.Since(polled) >= f.api.opts.Poll {
				run, err := f.api.findRun(ctx, f.filter.RunID)
				if err == nil && run.Verdict != "" {
					ended++
				} else if err != nil && core.KindOf(err) == core.KindNotFound {
					return err
				}
				polled = time.Now()
			}
			more, err := f.catchUp(ctx)
			if err != nil {
				return err
			}
			sent += more
		}
		if sent > 0 {
			quiet = time.Now()
		}
		// The last lines reach the disk some milliseconds after they were said; one silent poll more, and all was read.
		if sent == 0 && ended > 1 && f.caught {
			return f.end(ctx)
		}
		if time.Since(quiet) >= f.api.opts.Heartbeat {
			if err := f.say(": still here\n\n"); err != nil {
				return err
			}
			quiet = time.Now()
		}
		if fresh, err = f.wait(ctx, tail, polled); err != nil {
			if f.api.stopped() {
				return nil
			}
			return err
		}
	}
}

// wait gives the next lines that reach the disk, or none when it is time for a poll. A reader that is busy being written to
// does not come here, and so has nothing read for it.
func (f *follower) wait(ctx context.Context, tail Tail, polled time.Time) ([]core.LoggedLine, error) {
	limited, cancel := context.WithDeadline(ctx, polled.Add(f.api.opts.Poll))
	defer cancel()
	lines, err := tail.Next(limited)
	if err != nil && limited.Err() == nil {
		<-limited.Done() // behind, or stopped: the poll finds what there is
	}
	return lines, ctx.Err()
}

// forward sends lines that the Tail gave, if they are the next ones; sent is 0 if it is for catchUp to find out.
func (f *follower) forward(lines []core.LoggedLine) (sent int, err error) {
	if !f.caught || f.filter.MinLevel > core.LevelDebug || f.filter.Attempt != 0 {
		return 0, nil
	}
	last := place{f.filter.AfterAttempt, f.filter.AfterSeq}
	for len(lines) > 0 && placeOf(lines[0]).compare(last) <= 0 {
		lines = lines[1:]
	}
	if len(lines) == 0 || !placeOf(lines[0]).follows(last) {
		return 0, nil
	}
	return len(lines), f.deliver(lines)
}

// deliver sends lines, some at a time, and notes how far the reader is: who reads slowly holds little of it in memory.
func (f *follower) deliver(lines []core.LoggedLine) error {
	for i := range lines {
		last := placeOf(lines[i])
		f.filter.AfterAttempt, f.filter.AfterSeq = last.attempt, last.seq
		f.text = append(last.append(append(f.text, "id: "...)), "\nevent: line\ndata: "...)
		f.text = append(appendLine(f.text, &lines[i]), "\n\n"...)
		if len(f.text) < f.atOnce && i < len(lines)-1 {
			continue
		}
		f.atOnce = min(2*f.atOnce, sentAtOnce)
		err := f.send(f.text)
		if f.text = f.text[:0]; err != nil {
			return err
		}
	}
	return nil
}

// Events are sent sentAtOnce bytes at once, or so; first sentAtFirst, so that little is made for one who turns out to be slow.
const (
	sentAtFirst = 4 << 10
	sentAtOnce  = 64 << 10
)

// catchUp sends what there is. History is asked only where the spool alone could leave a hole: at the beginning if the
// spool has nothing, when lines are filtered by level (their numbers have holes then), and when the spool's next line is
// not the next one. While history does not answer, nothing behind such a hole is sent. Who is behind gets larger pages.
func (f *follower) catchUp(ctx context.Context) (sent int, err error) {
	for {
		lines, err := f.api.opts.Logs.Lines(ctx, f.filter)
		if err != nil {
			return sent, err
		}
		last := place{f.filter.AfterAttempt, f.filter.AfterSeq}
		if len(lines) == 0 && !f.caught || len(lines) > 0 && (f.filter.MinLevel > core.LevelDebug || !placeOf(lines[0]).follows(last)) {
			lines, err = f.api.linesTogether(ctx, f.filter)
			if err != nil {
				if ctx.Err() != nil {
					return sent, ctx.Err()
				}
				return sent, f.say(": history does not answer, waiting\n\n")
			}
		}
		if len(lines) > 0 {
			if err := f.deliver(lines); err != nil {
				return sent, err
			}
		}
		sent += len(lines)
		if full := len(lines) == f.filter.Limit; full {
			f.filter.Limit = min(2*f.filter.Limit, pageAtMost)
		} else {
			f.filter.Limit, f.caught = pageAtFirst, true
			return sent, nil
		}
	}
}

func (f *follower) end(ctx context.Context) error {
	run, err := f.api.findRun(ctx, f.filter.RunID)
	if err != nil {
		return err
	}
	event, err := json.Marshal(End{RunID: run.ID, Outcome: string(run.Verdict), Message: run.Message, EndedAt: instant(run.EndedAt)})
	if err != nil {
		return err
	}
	return f.say(fmt.Sprintf("event: end\ndata: %s\n\n", event))
}

func (f *follower) say(text string) error { return f.send([]byte(text)) }

func (f *follower) send(text []byte) error {
	if err := f.control.SetWriteDeadline(time.Now().Add(f.patience)); err != nil {
		return err
	}
	if _, err := f.out.Write(text); err != nil {
		return err
	}
	return f.control.Flush()
}
