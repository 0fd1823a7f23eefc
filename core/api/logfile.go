package api

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// How much of a log is in memory at once: pages begin small and grow while their lines are short. A line may be 1 MiB.
const (
	firstOfLog  = 100
	mostOfLog   = 10_000
	pageIsLarge = 4 << 20
)

func (a *API) logFile() {
	op := huma.Operation{
		OperationID: "get-log", Method: http.MethodGet, Path: "/v1/runs/{run_id}/log", Tags: []string{"runs"},
		Summary: "Get the whole log of a run, as far as it has been said, as text or as JSON lines; the form follows Accept",
	}
	schemas := a.huma.OpenAPI().Components.Schemas
	schemas.Schema(reflect.TypeFor[Line](), true, "Line")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The log, streamed; gzip if Accept-Encoding allows it. If it breaks off, so does the connection. The trailer X-Gnomon-Lines says how many lines there were.",
		Content: map[string]*huma.MediaType{
			"text/plain": {Schema: &huma.Schema{Type: huma.TypeString, Description: "Time (UTC), level, attempt from the second on, stream if it is not the log, message, attributes; further lines of a message begin with four blanks"}},
			ndjson:       {Schema: &huma.Schema{Type: huma.TypeString, Description: "A Line on each line"}},
		},
	}}
	register(a, op, rule{permission: "run:read", source: fromRun},
		func(ctx context.Context, in *struct {
			RunPath
			Accept         string `header:"Accept" doc:"Form of the log; absent: text/plain" example:"application/x-ndjson"`
			AcceptEncoding string `header:"Accept-Encoding" doc:"gzip packs it" example:"gzip"`
			Attempt        int    `query:"attempt" minimum:"0" doc:"Only of this attempt"`
			Level          string `query:"level" enum:"debug,info,warn,error" doc:"Only this severe or more"`
			File           string `query:"file" maxLength:"200" doc:"Offer the log as a file of this name (Content-Disposition)" example:"run.log"`
		}) (*huma.StreamResponse, error) {
			filter := core.LineFilter{RunID: in.RunID, Attempt: in.Attempt, Limit: firstOfLog}
			filter.MinLevel, _ = core.ParseLevel(in.Level)
			// The first page before the answer begins: what fails now is answered with a problem.
			first, err := a.lines(ctx, filter)
			if err != nil {
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hctx huma.Context) {
				w, ok := hctx.BodyWriter().(http.ResponseWriter)
				if !ok {
					return
				}
				e := logExport{api: a, filter: filter, asJSON: strings.Contains(in.Accept, ndjson)}
				h := w.Header()
				h.Set("Content-Type", "text/plain; charset=utf-8")
				if e.asJSON {
					h.Set("Content-Type", ndjson)
				}
				if in.File != "" {
					h.Set("Content-Disposition", offered(in.File))
				}
				h.Set("Vary", "Accept, Accept-Encoding")
				h.Set("Trailer", linesTrailer)
				slow := &patient{w: w, control: http.NewResponseController(w)}
				e.out = bufio.NewWriterSize(slow, 64<<10)
				var packed *gzip.Writer
				if packs(in.AcceptEncoding) {
					h.Set("Content-Encoding", "gzip")
					packed, _ = gzip.NewWriterLevel(slow, gzip.BestSpeed) // the level is a valid one
					e.out = bufio.NewWriterSize(packed, 64<<10)
				}
				w.WriteHeader(http.StatusOK)
				err := e.run(ctx, first)
				if err == nil {
					err = e.out.Flush()
				}
				if err == nil && packed != nil {
					err = packed.Close()
				}
				if err != nil {
					requestOf(ctx).log.Debug("log cut off", "request_id", requestOf(ctx).id, "run_id", in.RunID, "err", err)
					panic(http.ErrAbortHandler) // the caller must not take half a log for a whole one
				}
				h.Set(linesTrailer, strconv.Itoa(e.lines))
			}}, nil
		})
}

// linesTrailer says, behind a log, how many lines it had.
const linesTrailer = "X-Gnomon-Lines"

// packs tells whether an Accept-Encoding allows gzip (RFC 9110, section 12.5.3).
func packs(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(part, ";")
		if name = strings.TrimSpace(name); name == "gzip" || name == "*" {
			q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
			return err != nil || q > 0
		}
	}
	return false
}

// patient gives each write a deadline: who reads more slowly is cut off.
type patient struct {
	w       io.Writer
	control *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(queryDeadline)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.w.Write(b)
}

// logExport writes the log of one run from its beginning to what has been said when it gets there.
type logExport struct {
	api    *API
	filter core.LineFilter
	asJSON bool
	out    *bufio.Writer
	lines  int
	text   []byte // of a line
}

func (e *logExport) run(ctx context.Context, page []core.LoggedLine) error {
	for {
		size := 0
		for i := range page {
			n, err := e.line(&page[i])
			if err != nil {
				return err
			}
			size += n
		}
		if e.lines += len(page); len(page) < e.filter.Limit {
			return nil
		}
		last := placeOf(page[len(page)-1])
		e.filter.AfterAttempt, e.filter.AfterSeq = last.attempt, last.seq
		switch {
		case size > pageIsLarge:
			e.filter.Limit = max(e.filter.Limit/4, firstOfLog)
		case size < pageIsLarge/4:
			e.filter.Limit = min(4*e.filter.Limit, mostOfLog)
		}
		var err error
		if page, err = e.api.lines(ctx, e.filter); err != nil {
			return err
		}
	}
}

// line writes one line, and gives about how large it is.
func (e *logExport) line(l *core.LoggedLine) (int, error) {
	if e.asJSON {
		e.text = append(appendLine(e.text[:0], l), '\n')
		return e.out.Write(e.text)
	}
	text := textOfLine(lineOut(*l))
	_, err := e.out.WriteString(text)
	return len(text), err
}

// textOfLine gives a line as a person reads it, with the end of the line. What would steer a terminal is made visible, and
// further lines of a message stand below the first, four blanks in.
func textOfLine(l Line) string {
	var b strings.Builder
	if l.At != nil {
		b.WriteString(l.At.UTC().Format("2006-01-02T15:04:05.000000Z"))
		b.WriteByte(' ')
	}
	b.WriteString(l.Level)
	b.WriteString(strings.Repeat(" ", max(1, 6-len(l.Level))))
	if l.Attempt > 1 {
		b.WriteString("#" + strconv.Itoa(l.Attempt) + " ")
	}
	if l.Stream != "log" {
		b.WriteString(l.Stream + ": ")
	}
	b.WriteString(tame.Replace(l.Message))
	for _, key := range slices.Sorted(maps.Keys(l.Attrs)) {
		b.WriteString(" " + tame.Replace(key) + "=" + strconv.Quote(l.Attrs[key]))
	}
	b.WriteByte('\n')
	return b.String()
}

// tame takes from text what would steer a terminal, as much of it was said by tasks.
var tame = strings.NewReplacer("\x1b", "␛", "\r", "␍", "\x07", "␇", "\u009b", "␛[", "\n", "\n    ")
