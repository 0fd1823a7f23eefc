//go:build linux || darwin

package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// maxStatements bounds the requests that run at once. Readers cannot take the places of writers: a slow analyst
// must not keep log lines from arriving.
const (
	maxReaders = 6
	maxWriters = 4
)

// threadMemory is how much of the engine's memory must be free for each thread of a statement, bytes; one it always has. ClickHouse's
// own gibibyte would leave it that one, because all of the engine's memory is two.
const threadMemory = 128 << 20

// patience is how long a request waits for a free place.
const patience = 30 * time.Second

// handler answers HTTP requests with sessions of libchdb. Every request gets a session of its own (open, set up and
// close together cost 0.9 ms), so that nothing one request sets can reach another.
type handler struct {
	lib        *library
	args       []string
	log        *slog.Logger
	guard      *statement.Guard
	clickhouse string // ClickHouse's version, "26.7.2.1"
	timezone   string
	scopeKey   string // seals what an asker may see: new with each start, and known to nobody else

	readers chan struct{}
	writers chan struct{}
	serial  atomic.Uint64
	running sync.WaitGroup

	// keeper is the session that keeps the engine up; it also carries KILL QUERY.
	keeperMu sync.Mutex
	keeper   *session

	cancelMu sync.Mutex
	cancels  map[string]context.CancelFunc
}

func newHandler(lib *library, o Options) (*handler, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	scopeKey := rand.Text()
	access, err := writeAccess(dir, scopeKey, o.Readable)
	if err != nil {
		return nil, err
	}
	args := append(append(serverArgs(dir, o), sessionArgs(o, scopeKey)...), "--config-file="+access)
	keeper, err := lib.open(args...)
	if err != nil {
		return nil, err
	}
	h := &handler{
		lib: lib, args: []string{"--path=" + dir}, log: o.Log, keeper: keeper, scopeKey: scopeKey,
		readers: make(chan struct{}, maxReaders), writers: make(chan struct{}, maxWriters),
		cancels: make(map[string]context.CancelFunc),
	}
	h.args = append(h.args, sessionArgs(o, scopeKey)...)
	if err := h.prepare(); err != nil {
		keeper.close()
		return nil, err
	}
	return h, nil
}

func (h *handler) prepare() (err error) {
	if err = h.keeper.exec("CREATE DATABASE IF NOT EXISTS " + database + " ENGINE = Atomic"); err != nil {
		return err
	}
	if h.clickhouse, err = h.keeper.text("SELECT version()"); err != nil {
		return err
	}
	if h.timezone, err = h.keeper.text("SELECT timezone()"); err != nil {
		return err
	}
	functions, err := h.keeper.text("SELECT name FROM system.table_functions")
	if err != nil {
		return err
	}
	rare, err := h.keeper.text(statement.RareFunctions)
	if err != nil {
		return err
	}
	h.guard = statement.New(strings.Split(functions, "\n"), strings.Split(rare, "\n"), nil)
	return nil
}

// serverArgs are ClickHouse's server settings: small caches and few threads, because the scheduler lives on the same
// cores. Defaults would allow 5 GiB for each of several caches.
func serverArgs(dir string, o Options) []string {
	args := []string{
		"--path=" + dir,
		"--max_server_memory_usage=" + strconv.FormatUint(o.MemoryBytes, 10),
		"--max_thread_pool_size=256",
		"--max_thread_pool_free_size=16",
		"--background_pool_size=" + strconv.Itoa(max(2, o.MaxThreads)),
		"--max_active_parts_loading_thread_pool_size=2",
		"--max_outdated_parts_loading_thread_pool_size=1",
		"--max_parts_cleaning_thread_pool_size=1",
		"--max_io_thread_pool_size=16",
		"--max_prefixes_deserialization_thread_pool_size=4",
		"--mmap_cache_size=0",
	}
	for name, bytes := range map[string]uint64{
		"mark_cache_size": 64 << 20, "primary_index_cache_size": 64 << 20, "index_mark_cache_size": 32 << 20,
		"query_condition_cache_size": 16 << 20, "compiled_expression_cache_size": 16 << 20,
		"text_index_tokens_cache_size": 32 << 20, "text_index_header_cache_size": 32 << 20,
		"text_index_postings_cache_size": 32 << 20, "vector_similarity_index_cache_size": 1 << 20,
		"iceberg_metadata_files_cache_size": 1 << 20, "parquet_metadata_cache_size": 1 << 20,
		"uncompressed_cache_size": 0,
	} {
		args = append(args, fmt.Sprintf("--%s=%d", name, bytes))
	}
	if o.Backups != "" {
		// Four threads are enough for one disk; ClickHouse would start sixteen.
		args = append(args, "--backups.allowed_path="+o.Backups, "--backup_threads=4", "--restore_threads=4")
	}
	return args
}

// sessionArgs are the settings every session starts with.
func sessionArgs(o Options, scopeKey string) []string {
	return []string{
		"--max_threads=" + strconv.Itoa(o.MaxThreads),
		"--max_insert_threads=1",
		"--max_threads_min_free_memory_per_thread=" + strconv.Itoa(threadMemory),
		"--implicit_select=0",
		"--" + statement.ScopeSetting + "=" + statement.Seal(scopeKey, statement.Everything), // the server's own see all
		"--session_timezone=UTC",
		"--allow_introspection_functions=0",
		"--compile_expressions=0",
		"--log_queries=0",
		"--query_profiler_real_time_period_ns=0",
		"--query_profiler_cpu_time_period_ns=0",
	}
}

// close ends the engine. No request may be running.
func (h *handler) close() {
	h.keeperMu.Lock()
	defer h.keeperMu.Unlock()
	if h.keeper == nil {
		return
	}
	h.keeper.close()
	h.keeper = nil
	if h.lib.shutdown() != 0 {
		h.log.Warn("engine threads did not stop")
	}
}

func (h *handler) wait() { h.running.Wait() }

// alive has ClickHouse itself answer, on the session that waits for no place. It is nil if it could; whoever gets any answer
// knows that the engine does not hang.
func (h *handler) alive() error {
	h.keeperMu.Lock()
	defer h.keeperMu.Unlock()
	if h.keeper == nil {
		return errors.New("the engine has ended")
	}
	return h.keeper.exec("SELECT 1")
}

func (h *handler) cancelAll() {
	h.cancelMu.Lock()
	defer h.cancelMu.Unlock()
	for _, cancel := range h.cancels {
		cancel()
	}
}

// errBusy says that no place became free in time.
var errBusy = &exception{code: codeTooManyQueries, text: fmt.Sprintf("Code: %d. DB::Exception: Too many simultaneous queries. Maximum: %d readers and %d writers. (TOO_MANY_SIMULTANEOUS_QUERIES)", codeTooManyQueries, maxReaders, maxWriters)}

// work is one request's hold on the engine.
type work struct {
	*session
	name string // in log_comment, so that the request's query can be found and killed
	free func()
}

// begin waits for a place and opens a session. When ctx ends, the session's query is killed. The caller calls free. id is
// the client's query_id: libchdb has no way to set it, so it stands in log_comment, where system.processes shows it.
func (h *handler) begin(ctx context.Context, readOnly bool, id string) (*work, context.Context, error) {
	places := h.writers
	if readOnly {
		places = h.readers
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	case <-timer.C:
		return nil, nil, errBusy
	}
	s, err := h.lib.open(h.args...)
	if err != nil {
		<-places
		return nil, nil, err
	}
	h.running.Add(1)
	name := "gnomon-request-" + strconv.FormatUint(h.serial.Add(1), 10) + " " + id
	ctx, cancel := context.WithCancel(ctx)
	h.cancelMu.Lock()
	h.cancels[name] = cancel
	h.cancelMu.Unlock()
	ended, killed := make(chan struct{}), make(chan struct{})
	// Ends with the request.
	go func() {
		defer close(killed)
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		h.kill(name, ended)
	}()
	return &work{session: s, name: name, free: func() {
		close(ended)
		<-killed
		cancel()
		h.cancelMu.Lock()
		delete(h.cancels, name)
		h.cancelMu.Unlock()
		s.close()
		<-places
		h.running.Done()
	}}, ctx, nil
}

// kill stops the query of a request, again and again until the request has ended: libchdb has no way to cancel a
// query before its first rows, and the query may not have begun yet.
func (h *handler) kill(name string, ended <-chan struct{}) {
	const sql = "KILL QUERY WHERE Settings['log_comment'] = %s ASYNC FORMAT Null"
	wait := 10 * time.Millisecond
	for {
		h.keeperMu.Lock()
		var err error
		if h.keeper != nil {
			err = h.keeper.exec(fmt.Sprintf(sql, quoteText(name)))
		}
		h.keeperMu.Unlock()
		if err != nil && !errors.Is(err, context.Canceled) {
			h.log.Debug("query not killed", "query", name, "err", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ended:
			timer.Stop()
			return
		case <-timer.C:
		}
		wait = min(2*wait, time.Second)
	}
}
