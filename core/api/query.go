package api

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/gnomon-scheduler/gnomon/core"
)

// QueryRequest is a reading statement over history.
type QueryRequest struct {
	SQL     string             `json:"sql" doc:"One SELECT in ClickHouse's SQL" example:"SELECT task_type, count() FROM runs GROUP BY 1" maxLength:"200000" minLength:"1"`
	Params  map[string]*string `json:"params,omitempty" doc:"Values of {name:Type} in the statement: a text as it is, a list as ClickHouse writes one: ['a', 'b']; null, or the text \\N, for the NULL of a Nullable"`
	MaxRows int                `json:"max_rows,omitempty" minimum:"1" maximum:"10000000" default:"10000" doc:"How many rows at most; a sheet of Excel holds 1048575"`
	ID      string             `json:"id,omitempty" format:"uuid" doc:"Names the query in /v1/queries while it runs; absent: the server chooses one and says it in X-Gnomon-Query-Id"`
	File    string             `json:"file,omitempty" maxLength:"200" doc:"Offer the answer as a file of this name (Content-Disposition)" example:"runs.xlsx"`
}

// QueryAnswer is the answer as JSON. It is written while it is read: if something goes wrong after the first row, the
// answer is cut off and so is not valid JSON. Why is in its last line.
type QueryAnswer struct {
	Columns []Column `json:"columns" doc:"In the order of the statement"`
	Rows    [][]Any  `json:"rows" doc:"In the order of columns; 64-bit integers are numbers, larger ones and decimals are strings, and so are nan, inf and -inf; times are RFC 3339, with the offset of the column's zone"`
	More    bool     `json:"more" doc:"There were more rows than max_rows"`
}

func (a *API) queries() {
	op := huma.Operation{
		OperationID: "query", Method: http.MethodPost, Path: "/v1/query", Tags: []string{"history"},
		Summary:      "Ask history by SQL; the answer's form follows Accept, its rows are those of the caller's namespaces",
		MaxBodyBytes: maxQuery,
	}
	schemas := a.huma.OpenAPI().Components.Schemas
	op.Responses = map[string]*huma.Response{"200": {Description: `The answer. If it is cut off after its first rows, its last line, in any form, says why: {"gnomon_query":"<X-Gnomon-Query-Id>","error":<a problem>}; then the connection breaks`, Content: map[string]*huma.MediaType{
		"application/json": {Schema: schemas.Schema(reflect.TypeFor[QueryAnswer](), true, "QueryAnswer")},
		ndjson:             {Schema: &huma.Schema{Type: huma.TypeString, Description: "One object a line"}},
		"text/csv":         {Schema: &huma.Schema{Type: huma.TypeString, Description: "With a line of names; values as they are, also text that a spreadsheet could take for a formula"}},
		tsv:                {Schema: &huma.Schema{Type: huma.TypeString, Description: "With a line of names; values as they are, likewise"}},
		xlsx: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary",
			Description: "A workbook of Excel: numbers and times as such, times as the clocks of the column's zone show them; text that Excel could take for a formula begins with an apostrophe"}},
		parquet: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "Made by ClickHouse, with its types"}},
	}}}
	register(a, op, rule{permission: "history:query", source: fromGrants, changes: true},
		func(ctx context.Context, in *struct {
			Accept string `header:"Accept" doc:"Form of the answer; absent: JSON" example:"text/csv"`
			Body   QueryRequest
		}) (*huma.StreamResponse, error) {
			q := Query{ID: cmp.Or(in.Body.ID, uuid.Must(uuid.NewV7()).String()), SQL: in.Body.SQL, Params: in.Body.Params, MaxRows: in.Body.MaxRows}
			q.All, q.Namespaces = requestOf(ctx).principal.Scope("history:query")
			ctx, running, err := a.running.begin(ctx, AskedQuery{q.ID, q.SQL, requestOf(ctx).principal.String()}, queryDoor)
			if err != nil {
				return nil, err
			}
			free, err := a.takePlace(ctx, q.ID)
			if err != nil {
				running.end()
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hctx huma.Context) {
				defer running.end()
				ended := false
				defer func() { free(ended) }()
				w, ok := hctx.BodyWriter().(http.ResponseWriter)
				if !ok {
					return
				}
				late := &lateWriter{w: w, control: http.NewResponseController(w), id: q.ID, file: in.Body.File}
				out := newAnswer(in.Accept, bufio.NewWriterSize(late, 64<<10))
				defer out.close()
				late.mediaType = out.mediaType
				rest := out.keepMoving(late)
				more, err := a.query(ctx, q, out, running)
				rest()
				ended = err == nil && !more // rows that are left are not read to their end
				if err == nil {
					err = out.end()
				}
				switch {
				case err == nil:
					late.begin()
					w.Header().Set(moreTrailer, strconv.FormatBool(more))
					if err := out.finish(more); err != nil && ctx.Err() == nil {
						requestOf(ctx).log.Debug("query answer not delivered", "request_id", requestOf(ctx).id, "err", err)
						panic(http.ErrAbortHandler) // what is missing must not look as if it had never been
					}
				case !late.begun:
					a.answer(hctx, aboutStatement(stoppedOr(ctx, err)))
				default:
					requestOf(ctx).log.Warn("query cut off", "request_id", requestOf(ctx).id, "err", err)
					out.breakOff(late, problem(ctx, aboutStatement(stoppedOr(ctx, err))))
					panic(http.ErrAbortHandler) // the caller must not take half an answer for a whole one
				}
			}}, nil
		})
}

// QueryEnd is the last line of an answer that is cut off, in any form; then the connection breaks, so that nobody who does not look
// for it takes half an answer for a whole one. As it begins with the query's id, no row can be made to look like it.
type QueryEnd struct {
	ID    string  `json:"gnomon_query" doc:"X-Gnomon-Query-Id"`
	Error Problem `json:"error" doc:"Why there are no more rows"`
}

// QueryEndMark is what the line of QueryEnd begins with.
func QueryEndMark(id string) string { return `{"gnomon_query":"` + id + `"` }

// breakOff says why no more comes. What can still not be sent is lost: the connection breaks anyway.
func (o *answer) breakOff(late *lateWriter, why *Problem) {
	line, err := json.Marshal(QueryEnd{late.id, *why})
	if err != nil {
		return
	}
	if o.table != nil {
		o.table.Flush()
	}
	if o.mediaType == "application/json" || o.mediaType == parquet {
		_ = o.w.WriteByte('\n') // the other forms end each row with one
	}
	_, _ = o.w.Write(append(line, '\n'))
	o.send(late)
}

// takePlace waits for the caller's place among the statements that are under way.
func (a *API) takePlace(ctx context.Context, id string) (free func(ended bool), err error) {
	req := requestOf(ctx)
	free, err = a.opts.Place(ctx, req.principal.String(), id)
	if stopped, ok := errors.AsType[*stoppedError](err); ok {
		return nil, stopped.problem(ctx)
	}
	if e, ok := errors.AsType[*core.Error](err); ok && e.Kind == core.KindExhausted && len(e.Findings) > 0 {
		p := req.refuse(http.StatusTooManyRequests, e.Kind, e.Findings[0].Message)
		return nil, huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"5"}})
	}
	return free, err
}

// query asks in the way the form of the answer needs it.
func (a *API) query(ctx context.Context, q Query, out *answer, running *runningQuery) (more bool, err error) {
	q.Export = out.mediaType != "application/json"
	switch out.mediaType {
	case parquet:
		q.Format, q.Into = "Parquet", out.w
	case xlsx:
		q.MaxRows = min(q.MaxRows, sheetRows)
	}
	return a.opts.Query(ctx, q, out.head, func(row Row) error {
		running.given.Add(1)
		out.mu.Lock()
		defer out.mu.Unlock()
		return out.row(row)
	})
}

// longestWait is how long a row waits for others to leave with it.
const longestWait = 150 * time.Millisecond

// keepMoving sends rows that have waited, until it is told to rest. What comes before the first row waits: as long as nothing
// has left, a statement that fails is answered with a problem.
func (o *answer) keepMoving(late *lateWriter) (rest func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends when stop is closed
		defer close(stopped)
		tick := time.NewTicker(longestWait)
		defer tick.Stop()
		sent := 0
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			o.mu.Lock()
			if o.rows > sent && o.sheet == nil {
				sent = o.rows
				o.send(late)
			}
			o.mu.Unlock()
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// send has what was written leave. Whether it could is told to whoever writes next.
func (o *answer) send(late *lateWriter) {
	if o.table != nil {
		o.table.Flush()
	}
	if o.w.Flush() == nil {
		_ = late.control.Flush() // a connection that broke is noticed by the next write
	}
}

// The forms of an answer beside JSON and CSV.
const (
	ndjson  = "application/x-ndjson"
	tsv     = "text/tab-separated-values"
	xlsx    = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	parquet = "application/vnd.apache.parquet"
)

// aboutStatement gives a refusal of ClickHouse the place it is about, in as many words as a person reads: a syntax error
// goes on to list everything that would have been right.
func aboutStatement(err error) error {
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Kind != core.KindInvalid || len(e.Findings) > 0 || e.Err == nil {
		return err
	}
	said := clickhouseCode.ReplaceAllString(e.Err.Error(), "$1")
	said = repeatedCode.ReplaceAllString(said, " ($1)")
	if before, after, ok := strings.Cut(said, ". Expected one of: "); ok {
		likely := strings.SplitN(after, ", ", 7)
		said = before + ". Expected one of: " + strings.Join(likely[:min(len(likely), 6)], ", ")
		if len(likely) > 6 {
			said += ", …"
		}
	}
	return core.Invalid(e.Op, core.Finding{Path: "sql", Message: core.Text{Zh: said, En: said}})
}

// clickhouseCode is how ClickHouse begins and ends what it says; the name of the code at the end is kept.
var clickhouseCode = regexp.MustCompile(`^Code: \d+\. (?:DB::Exception: )?((?s:.*?))\s*$`)

// repeatedCode is what stands at the end of an error that has come through several hands: code and version, each time again.
var repeatedCode = regexp.MustCompile(`(?: \(([A-Z_]+)\)(?: \(version [^)]*\)\.)?)+$`)

// moreTrailer says, after the rows, whether there were more than max_rows: not every form has a place for it.
const moreTrailer = "X-Gnomon-More"

// queryDeadline is how long one write of an answer may take; a slower reader is cut off, so that it holds no query open.
const queryDeadline = 30 * time.Second

// lateWriter sends status and headers with the first bytes that leave the buffer: a statement that fails before is
// answered with a problem, although its columns were known.
type lateWriter struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	mediaType string
	id        string // of the query
	file      string // to be offered as; "": as none
	begun     bool
}

func (l *lateWriter) begin() {
	if l.begun {
		return
	}
	l.begun = true
	l.w.Header().Set("Content-Type", l.mediaType)
	l.w.Header().Set("X-Gnomon-Query-Id", l.id)
	if l.file != "" {
		l.w.Header().Set("Content-Disposition", offered(l.file))
	}
	l.w.Header().Set("Trailer", moreTrailer)
	l.w.WriteHeader(http.StatusOK)
}

func (l *lateWriter) Write(b []byte) (int, error) {
	l.begin()
	if err := l.control.SetWriteDeadline(time.Now().Add(queryDeadline)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return l.w.Write(b)
}

// offered gives the header that has a browser keep an answer as a file (RFC 6266); of a path only its last part is kept.
func offered(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, name[strings.LastIndexAny(name, `/\`)+1:])
	return mime.FormatMediaType("attachment", map[string]string{"filename": cmp.Or(name, "answer")})
}

// answer writes rows in the form that was asked for, as they come; a workbook is written when all rows are there.
type answer struct {
	mu        sync.Mutex // while rows come: over all that writes
	mediaType string
	w         *bufio.Writer
	table     *csv.Writer // csv and tsv
	sheet     *sheet      // xlsx
	names     [][]byte    // ndjson: as they stand before each value
	begun     bool
	rows      int
	cells     []string
}

func newAnswer(accept string, w *bufio.Writer) *answer {
	for part := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		switch kind {
		case ndjson, "text/csv", tsv, xlsx, parquet:
			return &answer{mediaType: kind, w: w}
		case "application/json", "*/*":
			return &answer{mediaType: "application/json", w: w}
		}
	}
	return &answer{mediaType: "application/json", w: w}
}

func (o *answer) head(columns []Column) error {
	o.begun = true
	switch o.mediaType {
	case "application/json":
		raw, err := json.Marshal(columns)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(o.w, `{"columns":%s,"rows":[`, raw)
		return err
	case ndjson:
		for _, c := range columns {
			name, err := json.Marshal(c.Name)
			if err != nil {
				return err
			}
			o.names = append(o.names, append(name, ':'))
		}
		return nil
	case xlsx:
		var err error
		o.sheet, err = newSheet(columns)
		return err
	}
	o.table = csv.NewWriter(o.w)
	if o.mediaType == tsv {
		o.table.Comma = '\t'
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return o.table.Write(names)
}

func (o *answer) row(row Row) error {
	o.rows++
	if o.sheet != nil {
		return o.sheet.row(row.Values())
	}
	if o.table != nil {
		o.cells = o.cells[:0]
		for _, v := range row.Values() {
			cell, err := cellText(v)
			if err != nil {
				return err
			}
			o.cells = append(o.cells, cell)
		}
		return o.table.Write(o.cells)
	}
	lines := o.mediaType == ndjson
	if !lines && o.rows > 1 {
		_ = o.w.WriteByte(',') // a bufio.Writer keeps its first error and gives it at Flush
	}
	open, closing := byte('['), byte(']')
	if lines {
		open, closing = '{', '}'
	}
	_ = o.w.WriteByte(open)
	for i, cell := range row.Cells() {
		if i > 0 {
			_ = o.w.WriteByte(',')
		}
		if lines {
			_, _ = o.w.Write(o.names[i])
		}
		_, _ = o.w.Write(cell)
	}
	err := o.w.WriteByte(closing)
	if lines {
		err = o.w.WriteByte('\n')
	}
	return err
}

// end checks that everything is written but for what finish adds.
func (o *answer) end() error {
	if o.mediaType == parquet {
		return nil
	}
	if o.sheet != nil {
		return o.sheet.end()
	}
	if !o.begun {
		return core.Errorf(core.KindInternal, "query history", "the answer has no columns")
	}
	if o.table != nil {
		o.table.Flush()
		return o.table.Error()
	}
	return nil
}

func (o *answer) finish(more bool) error {
	if o.mediaType == "application/json" {
		_, _ = fmt.Fprintf(o.w, `],"more":%t}`+"\n", more) // a bufio.Writer keeps its first error and gives it at Flush
	}
	if o.sheet != nil {
		if err := o.sheet.write(o.w); err != nil {
			return err
		}
	}
	return o.w.Flush()
}

// close lets go of what a form has kept outside memory.
func (o *answer) close() {
	if o.sheet != nil {
		o.sheet.close()
	}
}

// cellText writes a value for csv and tsv: text bare, NULL empty, anything composed as JSON.
func cellText(v any) (string, error) {
	switch x := v.(type) {
	case nil:
		return "", nil
	case string:
		return x, nil
	case json.RawMessage:
		return string(x), nil
	default:
		raw, err := json.Marshal(x)
		return string(raw), err
	}
}
