//go:build linux || darwin

package engine

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// maxStatement is the longest statement accepted, without the data of an INSERT. ClickHouse's own limit for what it
// parses (max_query_size) is 256 KiB by default.
const maxStatement = 1 << 20

// insertChunk is how much of an INSERT's data is handed to ClickHouse at once.
const insertChunk = 256 << 10

// streamed are the formats in which a chunk of rows needs nothing before or behind it but what headLines says, so that
// the chunks of a streamed query are the answer. Other formats are made whole in the engine, within the memory limit.
var streamed = map[string]bool{
	"Native": true, "RowBinary": true, "TabSeparated": true, "TSV": true, "TabSeparatedRaw": true, "TSVRaw": true,
	"Raw": true, "CSV": true, "JSONEachRow": true, "JSONLines": true, "NDJSON": true, "JSONCompactEachRow": true,
	"JSONStringsEachRow": true, "JSONCompactEachRowWithNamesAndTypes": true, "LineAsString": true, "RawBLOB": true, "Null": true,
}

// headLines says how many lines each chunk of a streamed format begins with that belong at the beginning of the answer only.
var headLines = map[string]int{"JSONCompactEachRowWithNamesAndTypes": 2}

// protocolParams are URL parameters of the HTTP protocol itself; all others are settings.
var protocolParams = map[string]bool{
	"query": true, "database": true, "default_format": true, "query_id": true, "user": true, "password": true,
	"client_protocol_version": true, "wait_end_of_query": true, "buffer_size": true, "quota_key": true, "stacktrace": true,
	"session_id": true, "session_timeout": true, "session_check": true, "compress": true, "decompress": true, "role": true,
	"enable_http_compression": true, "http_zlib_compression_level": true, "send_progress_in_http_headers": true,
	"http_headers_progress_interval_ms": true, "http_write_exception_in_output_format": true, "log_comment": true,
	"cancel_http_readonly_queries_on_client_close": true, "add_http_cors_header": true, "close_session": true,
	"network_compression_method": true, "network_zstd_compression_level": true, "readonly": true,
}

// request is one statement to run, understood.
type request struct {
	sql      string
	format   string
	database string
	id       string
	settings []string // "name = 'value'"
	asker    bool     // of an analyst: see access.go
	scope    string   // what the analyst may see, as statement.Seal takes it
	readOnly string   // "0", "1" or "2"
	params   params
	insert   bool
	data     io.Reader // of an INSERT
	revision uint64    // client_protocol_version
}

// ServeHTTP answers like the HTTP interface of a ClickHouse server (clickhouse.com/docs/interfaces/http).
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ping" || r.URL.Path == "/replicas_status" || (r.URL.Path == "/" && r.Method == http.MethodGet && r.URL.RawQuery == "") {
		if err := h.alive(); err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		_, _ = io.WriteString(w, "Ok.\n")
		return
	}
	id := r.URL.Query().Get("query_id")
	if id == "" {
		id = newQueryID()
	}
	w.Header().Set("X-ClickHouse-Server-Display-Name", "gnomon")
	w.Header().Set("X-ClickHouse-Query-Id", id)
	w.Header().Set("X-ClickHouse-Timezone", h.timezone)
	req, err := parseRequest(r)
	if err != nil {
		fail(w, err)
		return
	}
	req.id = id
	if isHello(req.sql) && req.format == "Native" {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("X-ClickHouse-Format", "Native")
		_, _ = w.Write(helloBlock(req.revision, "gnomon", h.clickhouse, h.timezone))
		return
	}
	if err := h.run(w, r, req); err != nil {
		h.log.Debug("query failed", "query_id", id, "err", err)
		fail(w, err)
	}
}

// parseRequest reads the statement, its parameters and its settings; of the body no more than it needs.
func parseRequest(r *http.Request) (request, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead {
		return request{}, wrong(codeNotImplemented, "NOT_IMPLEMENTED", "Method %s is not supported", r.Method)
	}
	values := r.URL.Query()
	req := request{database: values.Get("database"), format: values.Get("default_format"), readOnly: "0"}
	if v := r.Header.Get("X-ClickHouse-Database"); req.database == "" && v != "" {
		req.database = v
	}
	if v := r.Header.Get("X-ClickHouse-Format"); req.format == "" && v != "" {
		req.format = v
	}
	if req.database == "" {
		req.database = database
	}
	if req.format == "" {
		req.format = "TabSeparated"
	}
	if req.asker = userOf(r) == Asker; req.asker && values.Get("readonly") != "1" {
		return request{}, wrong(codeReadonly, "READONLY", "A request for an analyst has readonly=1")
	}
	if req.asker {
		req.scope = values.Get(statement.ScopeSetting)
		values.Del(statement.ScopeSetting)
	}
	req.revision, _ = strconv.ParseUint(values.Get("client_protocol_version"), 10, 32)
	if values.Get("session_id") != "" {
		return request{}, wrong(codeNotImplemented, "NOT_IMPLEMENTED", "Sessions are not supported by the embedded engine; leave session_id out")
	}
	if isOn(values.Get("compress")) || isOn(values.Get("decompress")) {
		return request{}, wrong(codeNotImplemented, "NOT_IMPLEMENTED", "ClickHouse's own compression is not supported by the embedded engine; leave compress and decompress out, or use Content-Encoding: gzip")
	}
	switch v := values.Get("readonly"); v {
	case "", "0":
		if r.Method != http.MethodPost {
			req.readOnly = "2" // as ClickHouse does: GET only reads
		}
	case "1", "2":
		req.readOnly = v
	default:
		return request{}, wrong(codeBadArguments, "BAD_ARGUMENTS", "readonly must be 0, 1 or 2, not %q", v)
	}
	var err error
	if req.settings, req.params, err = settingsOf(values); err != nil {
		return request{}, err
	}
	return req, req.readStatement(values.Get("query"), r)
}

// settingsOf takes settings and {name:Type} parameters from the URL, in a fixed order.
func settingsOf(values url.Values) (settings []string, p params, err error) {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := values.Get(name)
		if param, ok := strings.CutPrefix(name, "param_"); ok {
			p.names, p.values = append(p.names, param), append(p.values, value)
			continue
		}
		if protocolParams[name] || name == "" {
			continue
		}
		for i := range len(name) {
			if !isSettingByte(name[i]) {
				return nil, p, wrong(115, "UNKNOWN_SETTING", "Setting %q is neither a builtin setting nor started with the prefix 'SQL_'", name)
			}
		}
		settings = append(settings, name+" = "+quoteText(value))
	}
	return settings, p, nil
}

func isSettingByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// readStatement finds the statement in the URL or the body, and the data of an INSERT in what is left.
func (req *request) readStatement(query string, r *http.Request) error {
	body := io.Reader(r.Body)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return wrong(codeCannotParseInput, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", "The body is not gzip: %v", err)
		}
		body = unzipped
	default:
		return wrong(codeNotImplemented, "NOT_IMPLEMENTED", "Content-Encoding %q is not supported by the embedded engine; use gzip or none", encoding)
	}
	if head, format, data, ok := insertHead(query); ok {
		req.sql, req.format, req.insert = head, format, true
		req.data = io.MultiReader(strings.NewReader(query[data:]), body)
		return nil
	}
	// Short bodies are the rule: grow to what is there instead of taking the largest buffer at once.
	buffered := bufio.NewReaderSize(body, 4096)
	start, err := buffered.Peek(4096)
	if err == nil {
		buffered = bufio.NewReaderSize(buffered, maxStatement)
		start, err = buffered.Peek(maxStatement)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the request: %w", err)
	}
	if query == "" {
		if head, format, data, ok := insertHead(string(start)); ok {
			req.sql, req.format, req.insert = strings.Clone(head), strings.Clone(format), true
			if _, err := buffered.Discard(data); err != nil {
				return fmt.Errorf("read the request: %w", err)
			}
			req.data = buffered
			return nil
		}
	}
	if len(start) == maxStatement {
		return wrong(codeQueryIsTooLarge, "QUERY_IS_TOO_LARGE", "The statement is longer than %d bytes", maxStatement)
	}
	req.sql = query
	if len(start) > 0 {
		req.sql += "\n" + string(start)
	}
	if query == "" {
		req.sql = string(start)
	}
	if strings.TrimSpace(req.sql) == "" {
		return wrong(62, "SYNTAX_ERROR", "Empty query")
	}
	if named := statement.OutputFormat(req.sql); named != "" {
		req.format = named
	}
	return nil
}

// run carries out the request and answers. An error means that nothing has been answered yet.
func (h *handler) run(w http.ResponseWriter, r *http.Request, req request) error {
	if statement.WritesFile(req.sql) {
		return wrong(codeNotImplemented, "NOT_IMPLEMENTED", "INTO OUTFILE and FROM INFILE are not allowed over HTTP")
	}
	job, ctx, err := h.begin(r.Context(), req.readOnly != "0", req.id)
	if err != nil {
		return err
	}
	defer job.free()
	if err := h.setUp(job, req); err != nil {
		return err
	}
	if req.insert {
		if req.readOnly != "0" {
			return wrong(codeReadonly, "READONLY", "Cannot execute query in readonly mode")
		}
		return runInsert(ctx, w, job, req)
	}
	count, class, err := job.classify(req.sql)
	if err != nil {
		return err
	}
	if count > 1 {
		return wrong(62, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed)")
	}
	onlySelect := false
	if req.readOnly != "0" {
		if refused := h.guard.Reader(req.sql); refused != nil {
			return parseException(refused.Error())
		}
		switch class {
		case classReads:
		case classUnknown:
			// Either wrong, and then ClickHouse says where; or not understood, and then it must be a SELECT.
			onlySelect = true
		default:
			return wrong(codeReadonly, "READONLY", "Cannot execute query in readonly mode")
		}
	}
	if ctx.Err() != nil { // whoever asked is gone: what is not begun need not be killed
		return context.Cause(ctx)
	}
	if streamed[req.format] || onlySelect {
		err := runStream(ctx, w, job, req)
		if e := (*exception)(nil); !errors.As(err, &e) || e.code != codeBadArguments || !strings.Contains(e.text, "Streaming query is not supported") {
			return err
		}
		if onlySelect {
			return wrong(codeReadonly, "READONLY", "Cannot execute query in readonly mode")
		}
	}
	return runWhole(w, job, req)
}

// setUp gives the session the request's database and settings. readonly comes last, and then holds for the session.
func (h *handler) setUp(job *work, req request) error {
	if err := job.exec("USE " + quoteName(req.database)); err != nil {
		return err
	}
	var settings []string
	if req.asker {
		settings = append(settings, statement.ScopeSetting+" = "+quoteText(statement.Seal(h.scopeKey, req.scope)))
	}
	settings = append(append(settings, req.settings...), "log_comment = "+quoteText(job.name))
	if err := job.exec("SET " + strings.Join(settings, ", ")); err != nil {
		return err
	}
	if req.asker {
		if err := job.exec("SET ROLE " + Asker); err != nil {
			return err
		}
	}
	if req.readOnly != "0" {
		return job.exec("SET readonly = " + req.readOnly)
	}
	return nil
}

// runInsert pushes the body into the table.
func runInsert(ctx context.Context, w http.ResponseWriter, job *work, req request) error {
	began := time.Now()
	in, err := job.insert(req.sql, req.format, req.params)
	if err != nil {
		return err
	}
	defer in.close()
	// A body that breaks off is not committed; but of more rows than one block (about a million) the earlier blocks
	// may stay, as in every ClickHouse: rows carry their identity for that.
	buffer := make([]byte, insertChunk)
	var size uint64
	for ended := false; !ended; {
		n := 0
		for n < len(buffer) && !ended {
			more, err := req.data.Read(buffer[n:])
			n += more
			// Only a plain EOF is the end: ErrUnexpectedEOF is a client that has gone in the middle.
			ended = err == io.EOF
			if err != nil && !ended {
				in.cancel()
				return fmt.Errorf("read the data to insert: %w", err)
			}
		}
		size += uint64(n)
		if _, err := in.Write(buffer[:n]); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		in.cancel()
		return err
	}
	rows, bytes, err := in.commit()
	if err != nil {
		return err
	}
	summary(w, map[string]uint64{"read_rows": rows, "read_bytes": size, "written_rows": rows, "written_bytes": bytes, "elapsed_ns": uint64(time.Since(began))})
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(http.StatusOK)
	return nil
}

// runStream sends the rows of a SELECT as they come. The client's pace is the query's pace.
func runStream(ctx context.Context, w http.ResponseWriter, job *work, req request) error {
	rows, err := job.stream(req.sql, req.format, req.params)
	if err != nil {
		return err
	}
	defer rows.close()
	answered := false
	for {
		chunk, err := rows.next()
		if err == nil && ctx.Err() != nil {
			chunk.close()
			err = context.Cause(ctx)
		}
		if err != nil {
			if !answered {
				return err
			}
			midStream(w, err)
			return nil
		}
		data := chunk.bytes()
		ended := len(data) == 0
		if !answered {
			answered = true
			startAnswer(w, req)
		} else {
			for range headLines[req.format] {
				_, data, _ = bytes.Cut(data, []byte{'\n'})
			}
		}
		if ended {
			chunk.close()
			return nil
		}
		_, err = w.Write(data)
		chunk.close()
		if err != nil {
			return nil // the client is gone; rows.close cancels the query
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
}

// runWhole runs a statement to its end and sends its answer.
func runWhole(w http.ResponseWriter, job *work, req request) error {
	began := time.Now()
	answer, err := job.query(req.sql, req.format, req.params)
	if err != nil {
		return err
	}
	defer answer.close()
	summary(w, map[string]uint64{
		"read_rows": job.lib.rowsRead(answer.at), "read_bytes": job.lib.bytesRead(answer.at),
		"written_rows": job.lib.rowsWritten(answer.at), "written_bytes": job.lib.bytesOut(answer.at),
		"elapsed_ns": uint64(time.Since(began)),
	})
	startAnswer(w, req)
	_, _ = w.Write(answer.bytes())
	return nil
}

// startAnswer writes the head. The exception tag announced there is repeated around an error that comes after the
// first rows; it is random, so that no row can look like an error.
func startAnswer(w http.ResponseWriter, req request) {
	w.Header().Set("X-ClickHouse-Format", req.format)
	w.Header().Set("X-ClickHouse-Exception-Tag", strings.ReplaceAll(newQueryID(), "-", "")[16:])
	w.Header().Set("Content-Type", contentType(req.format))
	w.WriteHeader(http.StatusOK)
}

// midStream tells the client about an error after the status line has gone: ClickHouse's frame since 25.11
// (src/Server/HTTP/WriteBufferFromHTTPServerResponse.cpp), then the connection breaks.
func midStream(w http.ResponseWriter, err error) {
	text, tag := asException(err).text, w.Header().Get("X-ClickHouse-Exception-Tag")
	_, _ = fmt.Fprintf(w, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", tag, text, len(text)+1, tag)
}

// fail answers with ClickHouse's status, code and words.
func fail(w http.ResponseWriter, err error) {
	e := asException(err)
	w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(e.code))
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(e.status())
	_, _ = io.WriteString(w, e.text+"\n")
}

func asException(err error) *exception {
	if e := (*exception)(nil); errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.Canceled) {
		return wrong(codeQueryWasCancelled, "QUERY_WAS_CANCELLED", "Query was cancelled")
	}
	return wrong(codeUnknown, "UNKNOWN_EXCEPTION", "%v", err)
}

func wrong(code int, name, format string, args ...any) *exception {
	return &exception{code: code, text: fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", code, fmt.Sprintf(format, args...), name)}
}

// summary sets ClickHouse's X-ClickHouse-Summary, in which every number is a string.
func summary(w http.ResponseWriter, figures map[string]uint64) {
	texts := make(map[string]string, len(figures))
	for name, n := range figures {
		texts[name] = strconv.FormatUint(n, 10)
	}
	if line, err := json.Marshal(texts); err == nil {
		w.Header().Set("X-ClickHouse-Summary", string(line))
	}
}

func contentType(format string) string {
	switch {
	case strings.HasPrefix(format, "JSONEachRow"), strings.HasPrefix(format, "JSONCompactEachRow"):
		return "application/x-ndjson; charset=UTF-8"
	case strings.HasPrefix(format, "JSON"):
		return "application/json; charset=UTF-8"
	case strings.HasPrefix(format, "CSV"):
		return "text/csv; charset=UTF-8; header=" + map[bool]string{true: "present", false: "absent"}[strings.Contains(format, "WithNames")]
	case strings.HasPrefix(format, "TabSeparated"), strings.HasPrefix(format, "TSV"):
		return "text/tab-separated-values; charset=UTF-8"
	case format == "Native", format == "RowBinary", format == "Parquet", strings.HasPrefix(format, "Arrow"):
		return "application/octet-stream"
	default:
		return "text/plain; charset=UTF-8"
	}
}

// userOf gives the user's name as ClickHouse takes it from a request.
func userOf(r *http.Request) string {
	if name := r.Header.Get("X-ClickHouse-User"); name != "" {
		return name
	}
	if name, _, ok := r.BasicAuth(); ok {
		return name
	}
	return r.URL.Query().Get("user")
}

func isOn(v string) bool { return v != "" && v != "0" && v != "false" }

// quoteText gives a string literal of ClickHouse.
func quoteText(s string) string {
	var b bytes.Buffer
	b.WriteByte('\'')
	for i := range len(s) {
		if s[i] == '\'' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('\'')
	return b.String()
}

// quoteName gives an identifier of ClickHouse.
func quoteName(s string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(s) + "`"
}

// newQueryID makes a random UUID.
func newQueryID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
