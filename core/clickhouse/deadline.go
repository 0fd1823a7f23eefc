package clickhouse

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// How long ClickHouse is waited for, by our own clock: max_execution_time is the clock of a server that may be stopped. What
// has begun to answer is waited for so long again for each piece; how fast the pieces are taken is the reader's business.
const (
	// graceTime comes on top of a statement's max_execution_time, for the way there and back and a place in the engine.
	graceTime = 10 * time.Second
	// insertTime is for rows that are sent: a segment takes tenths of a second, on a bad day seconds.
	insertTime = 2 * time.Minute
	// lookTime is the max_execution_time of what asks how things stand.
	lookTime = 10 * time.Second
	// workTime is for what has no max_execution_time: changes of the schema and of parts.
	workTime = 10 * time.Minute
)

// limitKey is under what a context carries the max_execution_time of the statements that are made with it.
type limitKey struct{}

// noting notes the max_execution_time among settings, so that deadlines go by it.
func noting(ctx context.Context, s ch.Settings) context.Context {
	var limit time.Duration
	if seconds, err := strconv.ParseFloat(fmt.Sprint(s["max_execution_time"]), 64); err == nil {
		limit = time.Duration(math.Ceil(seconds * float64(time.Second)))
	}
	return context.WithValue(ctx, limitKey{}, limit)
}

// look are the settings of what asks how things stand.
func look() ch.Settings { return ch.Settings{"max_execution_time": int(lookTime.Seconds())} }

// late is the error of what ClickHouse was waited for in vain. It is a net.Error.
type late time.Duration

// Error says how long.
func (l late) Error() string { return "no answer within " + time.Duration(l).String() }

// Timeout is true: it was.
func (l late) Timeout() bool { return true }

// Temporary is true: another time there may be an answer.
func (l late) Temporary() bool { return true }

// wait ends the context of one statement when ClickHouse has been waited for too long. It runs from its making on.
type wait struct {
	at     *site
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelFunc
	caller func() error // why the caller's own context has ended; nil: it has not
	vain   atomic.Bool  // the limit is over
}

func (at *site) wait(ctx context.Context, limit time.Duration) (context.Context, *wait) {
	w := &wait{at: at, limit: limit, caller: ctx.Err}
	ctx, w.cancel = context.WithCancel(ctx)
	w.timer = time.AfterFunc(limit, func() {
		w.vain.Store(true)
		w.cancel()
	})
	return ctx, w
}

// statement waits for a statement: as long as its max_execution_time and a little.
func (at *site) statement(ctx context.Context) (context.Context, *wait) {
	if limit, ok := ctx.Value(limitKey{}).(time.Duration); ok && limit > 0 {
		return at.wait(ctx, limit+at.grace)
	}
	return at.wait(ctx, workTime)
}

// again begins to wait for the next piece.
func (w *wait) again() { w.timer.Reset(w.limit) }

// pause waits for nobody: what there was has come.
func (w *wait) pause() { w.timer.Stop() }

// end is for a statement that is over.
func (w *wait) end() {
	w.timer.Stop()
	w.cancel()
}

// locate says of an error of the statement where it happened.
func (w *wait) locate(err error) error {
	if err != nil && w.vain.Load() {
		return &away{at: w.at, err: late(w.limit)}
	}
	return w.at.locate(w.caller() != nil, err)
}

// awaitedRows are rows of which each block is waited for.
type awaitedRows struct {
	driver.Rows
	w *wait
}

// Next moves to the next row.
func (r *awaitedRows) Next() bool {
	r.w.again()
	defer r.w.pause()
	return r.Rows.Next()
}

// Err is why there is no next row.
func (r *awaitedRows) Err() error {
	return r.w.locate(r.Rows.Err())
}

// Close ends the statement.
func (r *awaitedRows) Close() error {
	r.w.again()
	defer r.w.end()
	return r.Rows.Close()
}

// awaitedRow is one row that is waited for.
type awaitedRow struct {
	driver.Row
	w *wait
}

// Scan takes its values.
func (r *awaitedRow) Scan(into ...any) error {
	r.w.again()
	defer r.w.end()
	err := r.Row.Scan(into...)
	if r.w.vain.Load() {
		return r.w.locate(err)
	}
	return err // of its values, most likely
}

// awaitedFile is an answer of which each piece is waited for.
type awaitedFile struct {
	io.ReadCloser
	w *wait
}

// Read takes a piece.
func (f *awaitedFile) Read(p []byte) (int, error) {
	f.w.again()
	defer f.w.pause()
	n, err := f.ReadCloser.Read(p)
	if err != io.EOF { //nolint:errorlint // only a plain EOF is the end
		err = f.w.locate(err)
	}
	return n, err
}

// Close ends the statement.
func (f *awaitedFile) Close() error {
	f.w.again()
	defer f.w.end()
	return f.ReadCloser.Close()
}

// awaitedBatch is a batch whose sending is waited for.
type awaitedBatch struct {
	driver.Batch
	w *wait
}

// Send sends it.
func (b *awaitedBatch) Send() error {
	b.w.again()
	defer b.w.pause()
	return b.w.locate(b.Batch.Send())
}

// Close gives up what was not sent.
func (b *awaitedBatch) Close() error {
	defer b.w.end()
	return b.Batch.Close()
}

// patient is the way over HTTP of statements whose answers are waited for.
type patient struct {
	http.Transport
	at *site
}

// RoundTrip begins a statement. Its max_execution_time is a parameter of the URL.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := noting(req.Context(), ch.Settings{"max_execution_time": req.URL.Query().Get("max_execution_time")})
	ctx, w := p.at.statement(ctx)
	resp, err := p.Transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		defer w.end()
		return nil, w.locate(err)
	}
	w.pause()
	resp.Body = &awaitedFile{resp.Body, w}
	return resp, nil
}
