package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// Options say where history is kept. Exactly one of DSN and Socket is given.
type Options struct {
	DSN    string       // clickhouse://user:password@host:9000/database or http(s)://…; the database must exist; ?cluster=NAME, see ADR 021
	Socket string       // unix socket of the embedded engine
	Log    *slog.Logger // required
	// Database holds the tables. Empty: the DSN's, else "default"; on the engine's socket "gnomon".
	Database string
	// Connections bounds the requests under way at once; 0: 8.
	Connections int
	// GraceTime is how much longer than its max_execution_time the answer to a statement is waited for, by our own clock; 0: 10 s.
	GraceTime time.Duration
	// InsertTime is how long the answer to an insert is waited for; then it is to be sent again. 0: two minutes.
	InsertTime time.Duration
	// Patient opens a history that does not answer, too: it is looked for by whoever uses it, and until it is there calls
	// fail with KindUnavailable.
	Patient bool
}

// Client is a connection to history. It is safe for concurrent use. A server that goes away makes calls fail with
// KindUnavailable until it is back; nothing needs to be opened again.
type Client struct {
	conn          *connection // for reading
	writes        *connection // for rows: however many readers wait for an answer, they do not wait
	log           *slog.Logger
	version       atomic.Pointer[string]
	defersIndexes bool      // see deferWordIndexes
	cluster       *cluster  // nil: one server
	http          bool      // ClickHouse's HTTP protocol; else its native one
	scratches     sync.Pool // of *scratch

	asker    driver.Conn // for analysts' statements, unless askerErr says why not
	askerErr error       // written before conn is good, read when it is
	owner    ch.Auth
	door     Door
	scopeKey string // seals what analysts may see; empty: the embedded engine does it
	guardMu  sync.Mutex
	guard    *statement.Guard // nil until the first statement

	placesMu sync.Mutex
	places   map[string]place // by run id; see placeOf

	thinMu    sync.Mutex
	thinParts map[string][]string // by table and partition, its parts when nothing in them was left to thin
	onThin    func(step string)   // for tests: called between the steps of a thinning; nil: nobody
}

// oldest is the oldest ClickHouse whose settings and functions are all that is used here (a long-term release).
var oldest = [2]uint64{25, 8}

// writeConnections bounds the writers at once: spool, ended runs, what was found about a day, changes of breakers.
const writeConnections = 4

// Open connects, refuses a server that is too old, and brings the schema up to date. It fails with KindUnavailable if
// the server does not answer and Patient is not set, KindInvalid if the DSN is wrong or the server too old, KindDamaged if
// the schema is not ours or newer than this program.
func Open(ctx context.Context, o Options) (*Client, error) {
	const op = "open history"
	if o.Log == nil {
		return nil, errors.New("clickhouse: Log is required")
	}
	name, dsn, err := takeCluster(o.DSN)
	if err != nil {
		return nil, err
	}
	o.DSN = dsn
	options, err := driverOptions(o)
	if err != nil {
		return nil, err
	}
	at := siteOf(o, options)
	driven, err := ch.Open(options)
	if err != nil {
		return nil, core.Errorf(core.KindInvalid, op, "%w", err)
	}
	conn := &located{driven, at}
	few := *options
	few.MaxOpenConns, few.MaxIdleConns = writeConnections, writeConnections
	written, err := ch.Open(&few)
	if err != nil {
		_ = conn.Close()
		return nil, core.Errorf(core.KindInvalid, op, "%w", err)
	}
	writes := &located{written, at}
	c := &Client{log: o.Log, http: options.Protocol == ch.HTTP, places: make(map[string]place)}
	if name != "" {
		c.cluster = &cluster{name: name, database: options.Auth.Database}
	}
	gate := newGate(o.Log, func(ctx context.Context) error { return c.start(ctx, conn) })
	c.conn, c.writes = &connection{gate, conn}, &connection{gate, writes}
	if err := c.openAsker(o, options, at); err != nil {
		_ = errors.Join(conn.Close(), writes.Close())
		return nil, err
	}
	if err := c.conn.look(ctx); err != nil && (!o.Patient || core.KindOf(err) != core.KindUnavailable) {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) start(ctx context.Context, conn driver.Conn) error {
	const op = "open history"
	server, err := conn.ServerVersion()
	if err != nil && c.http && strings.Contains(err.Error(), "Unknown setting client_protocol_version") {
		return tooOld(core.Text{Zh: "（21.12 之前的版本）", En: " before 21.12"}) // it knows no word of what clickhouse-go says over HTTP
	}
	if err != nil {
		return serverError(op, stranger(op, err))
	}
	v := server.Version
	version := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.Major < oldest[0] || v.Major == oldest[0] && v.Minor < oldest[1] {
		return tooOld(core.Text{Zh: " " + version, En: " " + version})
	}
	if err := c.cluster.check(ctx, conn); err != nil {
		return err
	}
	if err := c.migrate(ctx, conn); err != nil {
		return err
	}
	if err := c.replaceViews(ctx, conn); err != nil {
		return err
	}
	if err := c.deferWordIndexes(ctx, conn); err != nil {
		return serverError(op, err)
	}
	if err := c.cluster.welcome(ctx, conn, c.log); err != nil {
		return serverError(op, err)
	}
	if err := c.settleAll(ctx, conn); err != nil { // Thin says it again
		c.log.Warn("thinning that was broken off is not settled", "err", serverError(op, err))
	}
	c.protect(ctx, conn)
	c.version.Store(&version)
	c.log.Info("history open", "clickhouse", version)
	return nil
}

func tooOld(version core.Text) error {
	return core.Invalid("open history", core.Finding{Message: core.Text{
		Zh: fmt.Sprintf("服务器是 ClickHouse%s，版本过旧：至少需要 %d.%d；请升级，或不设置 GNOMON_CLICKHOUSE_DSN 以使用内置引擎", version.Zh, oldest[0], oldest[1]),
		En: fmt.Sprintf("the server is ClickHouse%s, and at least %d.%d is needed; upgrade it, or leave GNOMON_CLICKHOUSE_DSN out to use the embedded engine", version.En, oldest[0], oldest[1]),
	}})
}

// driverOptions turns Options into clickhouse-go's.
func driverOptions(o Options) (*ch.Options, error) {
	const op = "open history"
	var options *ch.Options
	switch {
	case (o.DSN == "") == (o.Socket == ""):
		return nil, core.Errorf(core.KindInvalid, op, "exactly one of DSN and socket is needed")
	case o.Socket != "":
		options = &ch.Options{
			Protocol: ch.HTTP,
			Addr:     []string{"engine"},
			Auth:     ch.Auth{Database: "gnomon"},
			// The name "engine" is never resolved.
			DialContext: func(ctx context.Context, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", o.Socket)
			},
		}
	default:
		parsed, err := parseDSN(o.DSN)
		if err != nil {
			return nil, err
		}
		options = parsed
	}
	if o.Database != "" {
		options.Auth.Database = o.Database
	}
	if options.Auth.Database == "" {
		options.Auth.Database = "default"
	}
	connections := o.Connections
	if connections <= 0 {
		connections = 8
	}
	options.MaxOpenConns, options.MaxIdleConns = connections, connections
	if options.DialTimeout <= 0 { // the DSN's dial_timeout
		options.DialTimeout = 10 * time.Second
	}
	options.ReadTimeout = time.Hour // longer than any deadline of a statement, see deadline.go
	return options, nil
}

// Close ends the connections. Calls under way fail.
func (c *Client) Close() error {
	if t, ok := c.door.Transport.(*patient); ok {
		t.CloseIdleConnections()
	}
	return errors.Join(c.asker.Close(), c.conn.Close(), c.writes.Close())
}

// Version is the server's version, "26.7.2"; "" while it has not been found good.
func (c *Client) Version() string {
	if version := c.version.Load(); version != nil {
		return *version
	}
	return ""
}

// Health is nil if the server answers a query now; else KindUnavailable.
func (c *Client) Health(ctx context.Context) error {
	if err := c.writes.Exec(settings(ctx, look()), "SELECT 1 FORMAT Null"); err != nil {
		return serverError("ask history", err)
	}
	return nil
}

// serverError gives an error of the server or of the way to it a Kind. ClickHouse's own words are kept.
func serverError(op string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*core.Error](err); ok {
		return e
	}
	exception, ok := errors.AsType[*ch.Exception](err)
	if !ok {
		lost, located := errors.AsType[*away](err)
		if located {
			err = lost.err
		}
		unreached := onTheWay(err)
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			if !located || lost.ended {
				return fmt.Errorf("%s: %w", op, withoutURL(err))
			}
			unreached = true // it was not the caller whose patience ended
		}
		switch {
		case !unreached:
			return core.Errorf(core.KindInternal, op, "%w", withoutURL(err))
		case located:
			return core.Errorf(core.KindUnavailable, op, "%w", lost)
		}
		return core.Errorf(core.KindUnavailable, op, "ClickHouse does not answer: %w", withoutURL(err))
	}
	return &core.Error{Kind: kindOf(exception.Code), Op: op, Err: &ServerError{Code: int(exception.Code), Text: wordsOf(exception)}}
}

// onTheWay tells whether an error is of the way to a server, rather than of what it answers.
func onTheWay(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ch.ErrAcquireConnTimeout) || errors.Is(err, ch.ErrAcquireConnNoAddress) || errors.Is(err, ch.ErrConnectionClosed)
}

// ServerError is an error in ClickHouse's own words.
type ServerError struct {
	Code int    // ClickHouse's error number, 62 for a syntax error
	Text string // "Code: 62. DB::Exception: Syntax error: failed at position 8 …"
}

func (e *ServerError) Error() string { return e.Text }

func wordsOf(e *ch.Exception) string {
	name := e.Name
	if name == "" {
		name = "DB::Exception"
	}
	return fmt.Sprintf("Code: %d. %s: %s", e.Code, name, strings.TrimSpace(e.Message))
}

// kindOf gives ClickHouse's error number (src/Common/ErrorCodes.cpp) a Kind.
func kindOf(code int32) core.Kind {
	switch code {
	case 159, 160, 158, 241, 307, 396, 394, 201, 290: // time, rows, memory, bytes, result, cancelled, quota
		return core.KindExhausted
	case 202, 209, 210, 279, 3, 999, 242, 439, 252, 243, 203, 517: // too many, network, read-only table, no threads, too many parts, no space, another ALTER under way
		return core.KindUnavailable
	case 516, 192, 193, 194:
		return core.KindUnauthenticated
	case 49, 1002, 1001, 1000, 40, 246, 271, 33, 32: // logical errors and broken data
		return core.KindInternal
	default:
		return core.KindInvalid
	}
}

// refusedForEver tells whether an insert failed because of what is in it, so that sending it again is of no use: ClickHouse
// cannot read or convert it (src/Common/ErrorCodes.cpp). Whatever else a server says (read-only, no rights, a table that is
// missing, out of memory) may be mended there, and until then what it should have taken is kept.
func refusedForEver(err error) bool {
	said, ok := errors.AsType[*ServerError](err)
	return ok && slices.Contains([]int{6, 26, 27, 32, 33, 38, 41, 53, 69, 70, 72, 117, 131, 349, 691}, said.Code)
}

// writeError is serverError for what was to be kept: KindInvalid only if it can never be.
func writeError(op string, err error) error {
	err = serverError(op, err)
	e, ok := errors.AsType[*core.Error](err)
	switch {
	case !ok || e.Kind == core.KindUnavailable:
		return err
	case refusedForEver(err):
		return core.Errorf(core.KindInvalid, "", "%w", err)
	case e.Kind == core.KindInvalid:
		return core.Errorf(core.KindUnavailable, "", "%w", err)
	}
	return err
}

// settings is shorthand for a context with clickhouse-go's query settings.
func settings(ctx context.Context, s ch.Settings, more ...ch.QueryOption) context.Context {
	return ch.Context(noting(ctx, s), append([]ch.QueryOption{ch.WithSettings(s)}, more...)...)
}

// exact makes every table be read without repeats. A repeat has the key of the first, hence its partition, so
// partitions need not be compared with one another; and it has the values of the first, so the skip indexes hold.
func exact(s ch.Settings) ch.Settings {
	s["final"] = 1
	s["do_not_merge_across_partitions_select_final"] = 1
	s["use_skip_indexes_if_final"] = 1
	s["use_skip_indexes_if_final_exact_mode"] = 0 // else every granule that might hold a repeat is read again
	s["distributed_product_mode"] = "global"      // on a cluster a join or IN with rows of all shards is right whatever it is over
	return s
}

// reading are the settings of our own queries.
func reading() ch.Settings {
	return exact(ch.Settings{"readonly": 1, "max_execution_time": 30})
}

// Number is ClickHouse's error number.
func (e *ServerError) Number() int { return e.Code }
