//go:build linux || darwin

package engine

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is libchdb, loaded. Names and signatures are those of chdb.h 26.7.3 (github.com/chdb-io/chdb-core). Handles
// are C pointers that Go neither follows nor frees. All functions may be called from any thread; one connection
// carries one statement at a time.
type library struct {
	version func() string

	setSignalHandlers func(enabled int32)
	connect           func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConn         func(conn unsafe.Pointer)
	shutdown          func() int32

	query       func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	streamQuery func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	streamFetch func(conn, stream unsafe.Pointer) unsafe.Pointer
	streamStop  func(conn, stream unsafe.Pointer)
	destroy     func(result unsafe.Pointer)

	insertOpen    func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	insertAppend  func(stream, data unsafe.Pointer, size uintptr) int32
	insertDone    func(stream unsafe.Pointer) unsafe.Pointer
	insertCancel  func(stream unsafe.Pointer)
	insertError   func(stream unsafe.Pointer) string
	insertDestroy func(stream unsafe.Pointer)

	classify func(conn, sql unsafe.Pointer, sqlLen uintptr, database unsafe.Pointer, databaseLen uintptr, analysis unsafe.Pointer) int32

	buffer      func(result unsafe.Pointer) unsafe.Pointer
	length      func(result unsafe.Pointer) uintptr
	resultError func(result unsafe.Pointer) string
	rowsRead    func(result unsafe.Pointer) uint64
	bytesRead   func(result unsafe.Pointer) uint64
	rowsWritten func(result unsafe.Pointer) uint64
	bytesOut    func(result unsafe.Pointer) uint64
}

// load opens the shared library at path and binds what is used of it.
func load(path string) (lib *library, err error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	lib = &library{}
	for name, fn := range map[string]any{
		"chdb_version":                     &lib.version,
		"chdb_set_signal_handlers_enabled": &lib.setSignalHandlers,
		"chdb_connect":                     &lib.connect,
		"chdb_close_conn":                  &lib.closeConn,
		"chdb_shutdown":                    &lib.shutdown,
		"chdb_query_with_params_n":         &lib.query,
		"chdb_stream_query_with_params_n":  &lib.streamQuery,
		"chdb_stream_fetch_result":         &lib.streamFetch,
		"chdb_stream_cancel_query":         &lib.streamStop,
		"chdb_destroy_query_result":        &lib.destroy,
		"chdb_stream_insert_with_params_n": &lib.insertOpen,
		"chdb_stream_append":               &lib.insertAppend,
		"chdb_stream_done":                 &lib.insertDone,
		"chdb_stream_cancel_insert":        &lib.insertCancel,
		"chdb_stream_insert_error":         &lib.insertError,
		"chdb_destroy_insert_stream":       &lib.insertDestroy,
		"chdb_classify_query_n":            &lib.classify,
		"chdb_result_buffer":               &lib.buffer,
		"chdb_result_length":               &lib.length,
		"chdb_result_error":                &lib.resultError,
		"chdb_result_rows_read":            &lib.rowsRead,
		"chdb_result_bytes_read":           &lib.bytesRead,
		"chdb_result_rows_written":         &lib.rowsWritten,
		"chdb_result_bytes_written":        &lib.bytesOut,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("%s has no %s (26.7.2 or newer is needed): %w", path, name, err)
		}
		purego.RegisterFunc(fn, symbol)
	}
	// ClickHouse would otherwise take SIGSEGV, SIGABRT and others away from the Go runtime.
	lib.setSignalHandlers(0)
	return lib, nil
}

// session is one connection of libchdb. It is not safe for concurrent use.
type session struct {
	lib    *library
	holder unsafe.Pointer // chdb_connection*
	conn   unsafe.Pointer // chdb_connection
}

// open connects. The first connection of the process starts the engine on the --path among args.
func (lib *library) open(args ...string) (*session, error) {
	argv := make([]*byte, 0, len(args)+1)
	var pin runtime.Pinner
	defer pin.Unpin()
	for _, a := range append([]string{"clickhouse"}, args...) {
		b := append([]byte(a), 0)
		pin.Pin(&b[0])
		argv = append(argv, &b[0])
	}
	holder := lib.connect(int32(len(argv)), unsafe.Pointer(&argv[0]))
	if holder == nil {
		return nil, errors.New("the engine refused the connection")
	}
	conn := *(*unsafe.Pointer)(holder)
	if conn == nil {
		return nil, errors.New("the engine gave no connection")
	}
	return &session{lib: lib, holder: holder, conn: conn}, nil
}

func (s *session) close() {
	if s.holder != nil {
		s.lib.closeConn(s.holder)
		s.holder, s.conn = nil, nil
	}
}

// params are values for {name:Type} placeholders, as escaped text (ClickHouse's own HTTP convention).
type params struct{ names, values []string }

// bind calls f with params in C's form; they are valid until f returns.
func (p params) bind(f func(names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer) unsafe.Pointer {
	if len(p.names) == 0 {
		return f(nil, nil, nil, nil, 0)
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	pointers := func(texts []string) ([]unsafe.Pointer, []uintptr) {
		at, size := make([]unsafe.Pointer, len(texts)), make([]uintptr, len(texts))
		for i, s := range texts {
			b := append([]byte(s), 0)
			pin.Pin(&b[0])
			at[i], size[i] = unsafe.Pointer(&b[0]), uintptr(len(s))
		}
		return at, size
	}
	names, nameLens := pointers(p.names)
	values, valueLens := pointers(p.values)
	return f(unsafe.Pointer(&names[0]), unsafe.Pointer(&nameLens[0]), unsafe.Pointer(&values[0]), unsafe.Pointer(&valueLens[0]), uintptr(len(names)))
}

// class says what a statement does to state that outlives it (chdb_query_class).
type class uint32

const (
	classReads    class = 0
	classMutates  class = 1
	classGlobal   class = 2
	classControls class = 3 // USE, SET, KILL, SYSTEM, BACKUP, INTO OUTFILE, …
	classUnknown  class = 4 // does not parse
)

// classify asks ClickHouse's own parser how many statements sql holds and what the worst of them does; nothing runs.
func (s *session) classify(sql string) (count int, c class, err error) {
	analysis := struct{ size, count, flags, class uint32 }{size: 16}
	q := cstring(sql)
	state := s.lib.classify(s.conn, unsafe.Pointer(&q[0]), uintptr(len(sql)), nil, 0, unsafe.Pointer(&analysis))
	runtime.KeepAlive(q)
	if state != 0 {
		return 0, classUnknown, errors.New("the engine did not classify the statement")
	}
	return int(analysis.count), class(analysis.class), nil
}

// result is a whole answer, or one chunk of a stream. Close it.
type result struct {
	lib *library
	at  unsafe.Pointer
}

// bytes gives the formatted rows; they live until close.
func (r result) bytes() []byte {
	n := r.lib.length(r.at)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(r.lib.buffer(r.at)), n)
}

func (r result) err() error {
	if r.at == nil {
		return errors.New("the engine gave no answer")
	}
	if text := r.lib.resultError(r.at); text != "" {
		return parseException(text)
	}
	return nil
}

func (r result) close() {
	if r.at != nil {
		r.lib.destroy(r.at)
	}
}

// query runs one statement to its end and gives its whole answer.
func (s *session) query(sql, format string, p params) (result, error) {
	q, f := cstring(sql), cstring(format)
	at := p.bind(func(names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer {
		return s.lib.query(s.conn, unsafe.Pointer(&q[0]), uintptr(len(sql)), unsafe.Pointer(&f[0]), uintptr(len(format)), names, nameLens, values, valueLens, count)
	})
	runtime.KeepAlive(q)
	runtime.KeepAlive(f)
	r := result{s.lib, at}
	if err := r.err(); err != nil {
		r.close()
		return result{}, err
	}
	return r, nil
}

// exec runs one statement and forgets its answer.
func (s *session) exec(sql string) error {
	r, err := s.query(sql, "Null", params{})
	if err == nil {
		r.close()
	}
	return err
}

// text runs one statement and gives its answer as text.
func (s *session) text(sql string) (string, error) {
	r, err := s.query(sql, "TSVRaw", params{})
	if err != nil {
		return "", err
	}
	defer r.close()
	return strings.TrimSuffix(string(r.bytes()), "\n"), nil
}

// stream is a SELECT whose answer arrives in chunks. No other statement may run on the session until it is closed.
type stream struct {
	s    *session
	head result
	done bool
}

// stream starts a SELECT. Only SELECT can stream; others fail with isNotStreamable, before anything has run.
func (s *session) stream(sql, format string, p params) (*stream, error) {
	q, f := cstring(sql), cstring(format)
	at := p.bind(func(names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer {
		return s.lib.streamQuery(s.conn, unsafe.Pointer(&q[0]), uintptr(len(sql)), unsafe.Pointer(&f[0]), uintptr(len(format)), names, nameLens, values, valueLens, count)
	})
	runtime.KeepAlive(q)
	runtime.KeepAlive(f)
	r := result{s.lib, at}
	if err := r.err(); err != nil {
		r.close()
		return nil, err
	}
	return &stream{s: s, head: r}, nil
}

// next gives the next chunk, or one without bytes at the end. The caller closes it.
func (st *stream) next() (result, error) {
	r := result{st.s.lib, st.s.lib.streamFetch(st.s.conn, st.head.at)}
	if err := r.err(); err != nil {
		st.done = true
		r.close()
		return result{}, err
	}
	if r.lib.length(r.at) == 0 {
		st.done = true
	}
	return r, nil
}

// close ends the stream, cancelling the query if it has not ended.
func (st *stream) close() {
	if !st.done {
		st.s.lib.streamStop(st.s.conn, st.head.at)
	}
	st.head.close()
}

// insert is an INSERT whose data is pushed in chunks. No other statement may run on the session until it is closed.
type insert struct {
	s  *session
	at unsafe.Pointer
}

// insert starts an INSERT without its FORMAT clause.
func (s *session) insert(sql, format string, p params) (*insert, error) {
	q, f := cstring(sql), cstring(format)
	at := p.bind(func(names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer {
		return s.lib.insertOpen(s.conn, unsafe.Pointer(&q[0]), uintptr(len(sql)), unsafe.Pointer(&f[0]), uintptr(len(format)), names, nameLens, values, valueLens, count)
	})
	runtime.KeepAlive(q)
	runtime.KeepAlive(f)
	in := &insert{s: s, at: at}
	if err := in.err(); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

func (in *insert) err() error {
	if in.at == nil {
		return errors.New("the engine gave no insert stream")
	}
	if text := in.s.lib.insertError(in.at); text != "" {
		return parseException(text)
	}
	return nil
}

// Write pushes data; the engine copies it and may make the caller wait.
func (in *insert) Write(data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	if in.s.lib.insertAppend(in.at, unsafe.Pointer(&data[0]), uintptr(len(data))) != 0 {
		if err := in.err(); err != nil {
			return 0, err
		}
		return 0, errors.New("the engine refused the data without saying why")
	}
	return len(data), nil
}

// commit ends the data and gives what was written.
func (in *insert) commit() (rows, bytes uint64, err error) {
	r := result{in.s.lib, in.s.lib.insertDone(in.at)}
	defer r.close()
	if err := r.err(); err != nil {
		return 0, 0, err
	}
	return r.lib.rowsWritten(r.at), r.lib.bytesOut(r.at), nil
}

func (in *insert) cancel() { in.s.lib.insertCancel(in.at) }

func (in *insert) close() {
	if in.at != nil {
		in.s.lib.insertDestroy(in.at)
		in.at = nil
	}
}

func cstring(s string) []byte { return append([]byte(s), 0) }
