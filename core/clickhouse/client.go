package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Options say where history is kept. Exactly one of DSN and Socket is given.
type Options struct {
	DSN    string       // clickhouse://user:password@host:9000/database or http(s)://…; the database must exist
	Socket string       // unix socket of the embedded engine
	Log    *slog.Logger // required
	// Database holds the tables. Empty: the DSN's, else "default"; on the engine's socket "gnomon".
	Database string
	// Connections bounds the requests under way at once; 0: 8.
	Connections int
}

// Client is a connection to history. It is safe for concurrent use. A server that goes away makes calls fail with
// KindUnavailable until it is back; nothing needs to be opened again.
type Client struct {
	conn          driver.Conn
	log           *slog.Logger
	version       string
	defersIndexes bool      // see deferWordIndexes
	http          bool      // ClickHouse's HTTP protocol; else its native one
	scratches     sync.Pool // of *scratch

	placesMu sync.Mutex
	places   map[string]place // by run id; see placeOf
}

// oldest is the oldest ClickHouse whose settings and functions are all that is used here (a long-term release).
var oldest = [2]uint64{25, 3}

// Open connects, refuses a server that is too old, and brings the schema up to date. It fails with KindUnavailable if
// the server does not answer, KindInvalid if the DSN is wrong or the server too old, KindDamaged if the schema is not
// ours or newer than this program.
func Open(ctx context.Context, o Options) (*Client, error) {
	const op = "open history"
	if o.Log == nil {
		return nil, errors.New("clickhouse: Log is required")
	}
	options, err := driverOptions(o)
	if err != nil {
		return nil, err
	}
	conn, err := ch.Open(options)
	if err != nil {
		return nil, core.Errorf(core.KindInvalid, op, "%w", err)
	}
	c := &Client{conn: conn, log: o.Log, http: options.Protocol == ch.HTTP, places: make(map[string]place)}
	if err := c.start(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	o.Log.Info("history open", "clickhouse", c.version)
	return c, nil
}

func (c *Client) start(ctx context.Context) error {
	const op = "open history"
	server, err := c.conn.ServerVersion()
	if err != nil {
		return serverError(op, err)
	}
	v := server.Version
	c.version = fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.Major < oldest[0] || v.Major == oldest[0] && v.Minor < oldest[1] {
		return &core.Error{Kind: core.KindInvalid, Op: op, Err: fmt.Errorf("the server is ClickHouse %s", c.version), Findings: []core.Finding{{Message: core.Text{
			Zh: fmt.Sprintf("ClickHouse 版本过旧：至少需要 %d.%d；请升级服务器，或不设置 GNOMON_CLICKHOUSE_DSN 以使用内置引擎", oldest[0], oldest[1]),
			En: fmt.Sprintf("at least %d.%d is needed; upgrade the server, or leave GNOMON_CLICKHOUSE_DSN out to use the embedded engine", oldest[0], oldest[1]),
		}}}}
	}
	if err := c.migrate(ctx); err != nil {
		return err
	}
	return serverError(op, c.deferWordIndexes(ctx))
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
		parsed, err := ch.ParseDSN(o.DSN)
		if err != nil {
			// The error may quote the DSN, and the DSN may hold a password.
			return nil, core.Errorf(core.KindInvalid, op, "the ClickHouse DSN cannot be read; it looks like clickhouse://user:password@host:9000/database or https://user:password@host:8443/database")
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
	options.DialTimeout = 10 * time.Second
	options.ReadTimeout = 10 * time.Minute // the answer's head of a long query; the caller's ctx is the real limit
	return options, nil
}

// Close ends the connections. Calls under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// Version is the server's version, "26.7.2".
func (c *Client) Version() string { return c.version }

// Health is nil if the server answers a query now; else KindUnavailable.
func (c *Client) Health(ctx context.Context) error {
	if err := c.conn.Exec(ctx, "SELECT 1 FORMAT Null"); err != nil {
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
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s: %w", op, err)
		}
		_, network := errors.AsType[net.Error](err)
		if network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ch.ErrAcquireConnTimeout) || errors.Is(err, ch.ErrAcquireConnNoAddress) || errors.Is(err, ch.ErrConnectionClosed) {
			return core.Errorf(core.KindUnavailable, op, "%w", err)
		}
		return core.Errorf(core.KindInternal, op, "%w", err)
	}
	return &core.Error{Kind: kindOf(exception.Code), Op: op, Err: &ServerError{Code: int(exception.Code), Text: wordsOf(exception)}}
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
	case 202, 209, 210, 279, 3, 999, 242, 439, 252, 243, 203: // too many, network, read-only table, no threads, too many parts, no space
		return core.KindUnavailable
	case 516, 192, 193, 194:
		return core.KindUnauthenticated
	case 49, 1002, 1001, 1000, 40, 246, 271, 33, 32: // logical errors and broken data
		return core.KindInternal
	default:
		return core.KindInvalid
	}
}

// settings is shorthand for a context with clickhouse-go's query settings.
func settings(ctx context.Context, s ch.Settings, more ...ch.QueryOption) context.Context {
	return ch.Context(ctx, append([]ch.QueryOption{ch.WithSettings(s)}, more...)...)
}

// exact makes every table be read without repeats. A repeat has the key of the first, hence its partition, so
// partitions need not be compared with one another; and it has the values of the first, so the skip indexes hold.
func exact(s ch.Settings) ch.Settings {
	s["final"] = 1
	s["do_not_merge_across_partitions_select_final"] = 1
	s["use_skip_indexes_if_final"] = 1
	return s
}

// reading are the settings of our own queries.
func reading() ch.Settings {
	return exact(ch.Settings{"readonly": 1, "max_execution_time": 30})
}
