package gateway

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// maxStatement is the longest statement, bytes: ClickHouse's own limit for what it parses (max_query_size).
const maxStatement = 256 << 10

// question is one statement, understood.
type question struct {
	id       string
	sql      string
	params   map[string]string
	settings map[string]string
	format   string // unless the statement names one
	revision string // client_protocol_version
}

// ignored are URL parameters that clients send and that mean nothing here: there is one database and one user, a session keeps
// nothing because nothing can be set, and every statement only reads.
var ignored = map[string]bool{
	"query": true, "database": true, "default_format": true, "query_id": true, "user": true, "password": true, "quota_key": true,
	"client_protocol_version": true, "wait_end_of_query": true, "buffer_size": true, "stacktrace": true, "readonly": true,
	"session_id": true, "session_timeout": true, "session_check": true, "close_session": true, "compress": true, "decompress": true,
	"enable_http_compression": true, "http_zlib_compression_level": true, "network_compression_method": true,
	"network_zstd_compression_level": true, "send_progress_in_http_headers": true, "http_headers_progress_interval_ms": true,
	"http_write_exception_in_output_format": true, "log_comment": true, "cancel_http_readonly_queries_on_client_close": true,
	"add_http_cors_header": true, "log_queries": true, "use_query_cache": true, "async_insert": true, "wait_for_async_insert": true,
	"insert_deduplicate": true, "date_time_input_format": true, "allow_experimental_analyzer": true,
}

// passing are settings that change the form of an answer, or how rows are joined and grouped, and nothing else.
// Those named output_format_… pass too, but for the ones that name a file, or how long Pretty waits for more rows.
var passing = map[string]bool{
	"date_time_output_format": true, "extremes": true, "session_timezone": true, "format_csv_delimiter": true,
	"join_use_nulls": true, "group_by_use_nulls": true, "transform_null_in": true, "totals_mode": true, "limit": true, "offset": true,
	"prefer_column_name_to_alias": true, "any_join_distinct_right_table_keys": true, "join_algorithm": true,
	"allow_experimental_variant_type": true, "allow_experimental_dynamic_type": true, "allow_experimental_json_type": true,
	"optimize_read_in_order": true,
}

// read understands a request. What it does not know it refuses, as a read-only ClickHouse does.
func (g *Gateway) read(w http.ResponseWriter, r *http.Request, scope statement.Scope) (*question, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead {
		return nil, &Error{Code: 48, Status: http.StatusNotImplemented, Name: "NOT_IMPLEMENTED", Text: "Method " + r.Method + " is not supported"}
	}
	values := r.URL.Query()
	q := &question{params: make(map[string]string), settings: make(map[string]string), format: values.Get("default_format"), revision: values.Get("client_protocol_version")}
	if q.format == "" {
		q.format = r.Header.Get("X-ClickHouse-Format")
	}
	if q.format == "" {
		q.format = "TabSeparated"
	}
	if _, err := strconv.ParseUint(q.revision, 10, 32); q.revision != "" && err != nil {
		return nil, wrong("client_protocol_version must be a number")
	}
	up, err := g.o.Upstream(scope)
	if err != nil {
		return nil, err
	}
	database := values.Get("database")
	if database == "" {
		database = r.Header.Get("X-ClickHouse-Database")
	}
	if !slices.Contains([]string{"", "default", "__default__", "gnomon", up.Database}, database) {
		return nil, &Error{Code: 81, Status: http.StatusNotFound, Name: "UNKNOWN_DATABASE", Text: "Database " + database + " does not exist: history is in " + up.Database + ", which is the default"}
	}
	if err := q.set(values, g.o.Limits, scope); err != nil {
		return nil, err
	}
	fixed, err := g.o.Settings(scope)
	if err != nil {
		return nil, err
	}
	for name, value := range fixed {
		q.settings[name] = value
	}
	if q.sql, err = text(w, r, values); err != nil {
		return nil, err
	}
	if strings.TrimSpace(q.sql) == "" {
		return nil, &Error{Code: 62, Status: http.StatusBadRequest, Name: "SYNTAX_ERROR", Text: "Empty query"}
	}
	if !scope.All && strings.HasSuffix(strings.ToLower(q.format), "withprogress") {
		return nil, &Error{Code: 164, Status: http.StatusForbidden, Name: "READONLY", Text: "The format " + q.format + " tells how many rows were read, others' included; leave Progress out"}
	}
	return q, nil
}

// set takes parameters and settings from the URL. Limits may be lowered; a higher one is brought down to what is allowed.
func (q *question) set(values url.Values, limits Limits, scope statement.Scope) error {
	bounds := map[string]uint64{
		"max_execution_time": uint64(limits.MaxDuration.Seconds()), "max_memory_usage": limits.MaxMemory,
		"max_result_rows": limits.MaxRows, "max_result_bytes": limits.MaxBytes, "max_threads": 2,
		"max_block_size": 65_409, // ClickHouse's own default: between blocks it looks whether a statement was cancelled
	}
	for name, bound := range bounds {
		q.settings[name] = strconv.FormatUint(bound, 10)
	}
	q.settings["result_overflow_mode"] = "throw"
	if scope.All { // else the error would tell how many rows others have
		bounds["max_rows_to_read"], bounds["max_bytes_to_read"] = 1<<62, 1<<62
	}
	for name, all := range values {
		value := all[0]
		if param, ok := strings.CutPrefix(name, "param_"); ok {
			q.params[param] = value
			continue
		}
		bound, limit := bounds[name]
		switch {
		case limit:
			n, err := strconv.ParseFloat(value, 64)
			if err != nil || !(n >= 0) { // NaN is not
				return wrong(fmt.Sprintf("%s must be a number, not %q", name, value))
			}
			switch { // written by us: to ClickHouse less than its unit is nothing, and nothing is no limit
			case n == 0 || n >= float64(bound):
			case name == "max_execution_time":
				q.settings[name] = strconv.FormatFloat(max(n, 0.001), 'f', 3, 64)
			default:
				q.settings[name] = strconv.FormatUint(uint64(max(n, 1)), 10)
			}
		case name == "result_overflow_mode" && (value == "throw" || value == "break"):
			q.settings[name] = value
		case ignored[name]:
		case passing[name], strings.HasPrefix(name, "output_format_") && !strings.Contains(name, "schema") && !strings.Contains(name, "registry") && !strings.Contains(name, "squash"):
			q.settings[name] = value
		default:
			return &Error{Code: 164, Status: http.StatusForbidden, Name: "READONLY", Text: "Cannot modify '" + name + "' setting in readonly mode"}
		}
	}
	return nil
}

// text reads the statement: the URL's, the body's, or one after the other, as ClickHouse does.
func text(w http.ResponseWriter, r *http.Request, values url.Values) (string, error) {
	query := values.Get("query")
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "multipart/form-data" {
		return "", &Error{Code: 48, Status: http.StatusNotImplemented, Name: "NOT_IMPLEMENTED", Text: "External data is not supported: a statement asks history only"}
	}
	var body io.Reader = http.MaxBytesReader(w, r.Body, maxStatement+1)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return "", wrong("The body is not gzip")
		}
		body = unzipped
	case "zstd":
		unzipped, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20))
		if err != nil {
			return "", wrong("The body is not zstd")
		}
		defer unzipped.Close()
		body = unzipped
	default:
		return "", &Error{Code: 48, Status: http.StatusNotImplemented, Name: "NOT_IMPLEMENTED", Text: "Content-Encoding " + encoding + " is not supported; use gzip, zstd or none"}
	}
	said, err := io.ReadAll(io.LimitReader(body, maxStatement+1))
	if err == nil && len(said) <= maxStatement && isOn(values.Get("decompress")) {
		if said, err = unframed(said); err != nil {
			return "", err
		}
	}
	if _, long := errors.AsType[*http.MaxBytesError](err); long || len(said)+len(query) > maxStatement {
		return "", &Error{Code: 168, Status: http.StatusRequestEntityTooLarge, Name: "QUERY_IS_TOO_LARGE", Text: fmt.Sprintf("The statement is longer than %d bytes", maxStatement)}
	}
	if err != nil {
		return "", wrong("The body cannot be read: " + err.Error())
	}
	if query != "" && len(said) > 0 {
		return query + "\n" + string(said), nil
	}
	return query + string(said), nil
}

func wrong(text string) *Error {
	return &Error{Code: 36, Status: http.StatusBadRequest, Name: "BAD_ARGUMENTS", Text: text}
}

func isOn(v string) bool { return v != "" && v != "0" && v != "false" }
