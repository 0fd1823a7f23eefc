package gateway

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// awaited is the answer to a statement. Its beginning and each piece of it are waited for no longer than a limit by our own clock:
// max_execution_time is the clock of a ClickHouse that may be stopped, and meanwhile the statement holds its place. The
// reader's own pace does not count.
type awaited struct {
	io.ReadCloser // nil until it has begun
	limit         time.Duration
	timer         *time.Timer
	end           context.CancelFunc
	why           func() error // why the statement has ended; nil: it has not
}

// await begins to wait for the answer to q. The context ends when that was in vain, and with end.
func (g *Gateway) await(ctx context.Context, q *question) (context.Context, *awaited) {
	seconds, _ := strconv.ParseFloat(q.settings["max_execution_time"], 64) // set has read it
	a := &awaited{limit: time.Duration(seconds*float64(time.Second)) + g.o.Limits.Grace}
	ctx, cancel := context.WithCancelCause(ctx)
	a.timer = time.AfterFunc(a.limit, func() {
		cancel(core.Errorf(core.KindUnavailable, "ask ClickHouse", "no answer within %s", a.limit))
	})
	a.why = func() error { return context.Cause(ctx) }
	a.end = func() {
		a.timer.Stop()
		cancel(nil)
	}
	return ctx, a
}

// Read takes a piece.
func (a *awaited) Read(p []byte) (int, error) {
	a.timer.Reset(a.limit)
	defer a.timer.Stop()
	n, err := a.ReadCloser.Read(p)
	if why := a.why(); why != nil && err != nil && !errors.Is(err, io.EOF) {
		err = why
	}
	return n, err
}

// Close ends the statement.
func (a *awaited) Close() error {
	defer a.end()
	return a.ReadCloser.Close()
}
