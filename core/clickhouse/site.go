package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// site is where a ClickHouse is, and what is to be done if it is not there, in an operator's words.
type site struct {
	name, remedy string
	patience     time.Duration // how long a connection is waited for
	grace        time.Duration // and how long an answer, see deadline.go
	inserting    time.Duration
}

func siteOf(o Options, options *ch.Options) *site {
	at := &site{"ClickHouse at " + strings.Join(options.Addr, ", "), "look whether it runs and how busy it is", options.DialTimeout, graceTime, insertTime}
	if o.Socket != "" {
		at.name, at.remedy = "the embedded engine", "it is started again by itself if it has ended or hangs; gnomon doctor says how it stands"
	}
	if o.GraceTime > 0 {
		at.grace = o.GraceTime
	}
	if o.InsertTime > 0 {
		at.inserting = o.InsertTime
	}
	return at
}

// located is clickhouse-go's connection, whose errors know where the server is.
type located struct {
	driver.Conn
	at *site
}

// away is an error on the way to ClickHouse, or back.
type away struct {
	at    *site
	err   error
	ended bool // so had the caller's context: the error need not be the server's
}

// Error gives what went wrong and where. What clickhouse-go was about to ask is left out: its settings make a long URL.
func (e *away) Error() string {
	if e.err == ch.ErrAcquireConnTimeout { //nolint:errorlint // of a connection that was to be made it is wrapped
		return fmt.Sprintf("%s is busy: all connections to it were in use for %s; try again when a statement has ended (GET /v1/queries lists them, DELETE /v1/queries/{id} cancels)", e.at.name, e.at.patience)
	}
	if errors.Is(e.err, ch.ErrAcquireConnTimeout) || withoutURL(e.err) == context.DeadlineExceeded { //nolint:errorlint // others say what they have waited for
		return fmt.Sprintf("%s gave no connection within %s; %s", e.at.name, e.at.patience, e.at.remedy)
	}
	return fmt.Sprintf("%s does not answer (%s); %s", e.at.name, withoutURL(e.err), e.at.remedy)
}

// Unwrap gives what went wrong.
func (e *away) Unwrap() error { return e.err }

// withoutURL gives an error of net/http without the method and URL it begins with.
func withoutURL(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		return request.Err
	}
	return err
}

// locate says of an error where it happened; ended: the caller's own context had ended when it did.
func (at *site) locate(ended bool, err error) error {
	if err == nil {
		return nil
	}
	if _, said := errors.AsType[*ch.Exception](err); said {
		return err // the server has answered
	}
	return &away{at, err, ended}
}

// ServerVersion gives the server's version.
func (l *located) ServerVersion() (*driver.ServerVersion, error) {
	v, err := l.Conn.ServerVersion()
	if err != nil {
		return nil, &away{at: l.at, err: err} // it takes no context: whatever ended was the driver's own
	}
	return v, nil
}

// Exec runs a statement without an answer.
func (l *located) Exec(ctx context.Context, query string, args ...any) error {
	ctx, w := l.at.statement(ctx)
	defer w.end()
	return w.locate(l.Conn.Exec(ctx, query, args...))
}

// Query runs a statement with rows.
func (l *located) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	ctx, w := l.at.statement(ctx)
	rows, err := l.Conn.Query(ctx, query, args...)
	if err != nil {
		defer w.end()
		return nil, w.locate(err)
	}
	w.pause()
	return &awaitedRows{rows, w}, nil
}

// QueryRow runs a statement with one row.
func (l *located) QueryRow(ctx context.Context, query string, args ...any) driver.Row {
	ctx, w := l.at.statement(ctx)
	row := l.Conn.QueryRow(ctx, query, args...)
	if err := row.Err(); err != nil {
		defer w.end()
		return noRow{w.locate(err)}
	}
	return &awaitedRow{row, w}
}

// QueryFormat runs a statement whose answer is a file in a form of ClickHouse's.
func (l *located) QueryFormat(ctx context.Context, format, query string, args ...any) (io.ReadCloser, error) {
	ctx, w := l.at.statement(ctx)
	file, err := l.Conn.QueryFormat(ctx, format, query, args...)
	if err != nil {
		defer w.end()
		return nil, w.locate(err)
	}
	w.pause()
	return &awaitedFile{file, w}, nil
}

// InsertFormat sends rows in a form of ClickHouse's.
func (l *located) InsertFormat(ctx context.Context, format, query string, rows io.Reader) error {
	ctx, w := l.at.wait(ctx, l.at.inserting)
	defer w.end()
	return w.locate(l.Conn.InsertFormat(ctx, format, query, rows))
}

// PrepareBatch begins an insert over ClickHouse's native protocol.
func (l *located) PrepareBatch(ctx context.Context, query string, options ...driver.PrepareBatchOption) (driver.Batch, error) {
	ctx, w := l.at.wait(ctx, l.at.inserting)
	batch, err := l.Conn.PrepareBatch(ctx, query, options...)
	if err != nil {
		defer w.end()
		return nil, w.locate(err)
	}
	w.pause()
	return &awaitedBatch{batch, w}, nil
}
