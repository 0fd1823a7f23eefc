package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

// request is one caller's change. One of the slices, or do, is set.
type request struct {
	claims     []core.Claim
	claimed    []core.Claimed
	skips      []core.Skip
	finishes   []core.Finish
	holds      []core.Hold
	finished   []core.Finished // answers to skips, finishes or holds
	admissions []core.Admission
	admitted   []core.Admitted
	running    []core.Running
	shipped    []string
	// do is any other change. When it gives an error of kind conflict, stale or not found it has written nothing: that
	// is an answer, and the transaction goes on.
	do    func(ctx context.Context, s session) error
	tasks []string // the tasks that do changes
	keys  []int64  // of the breakers that do changes
	bulk  bool     // do is long: it has a transaction of its own

	answer error // of do
	taken  atomic.Int32
	gone   atomic.Bool // the caller's context has ended
	done   chan error  // of one
}

// The values of request.taken.
const (
	waiting int32 = iota
	takenUp
	withdrawn
)

func (r *request) weight() int {
	return len(r.claims) + len(r.skips) + len(r.finishes) + len(r.holds) + len(r.admissions) + len(r.running) + len(r.shipped) + 1
}

// enough rows make a transaction worth its sync: the writer does not wait for more.
const enough = 100

// Errors of a session.
var (
	errUnknown = errors.New("no answer to commit")
	errClosed  = errors.New("the store is closed")
)

// registration is this server's row: every transaction checks that it is still there.
type registration struct {
	id    string
	epoch int64
	batch int64 // of the last transaction; only the writer's goroutine uses it
}

// writer is the one goroutine that writes. It gathers requests, puts them into one transaction, and answers each after
// the commit.
type writer struct {
	dialect dialect
	log     *slog.Logger
	clock   core.Clock
	wait    time.Duration
	max     int
	server  *atomic.Pointer[registration]

	queue  chan *request
	quit   chan struct{} // closed: take nothing more
	ended  chan struct{} // closed: the goroutine has ended
	conn   session       // nil: none is open
	claims []claimItem   // scratch of apply, kept between transactions
	ends   []finishItem
	skips  []skipItem
	asks   []askItem
	rows   []runItem
	others []runItem
	texts  []string

	commits, taken, retries atomic.Int64
}

func newWriter(ctx context.Context, d dialect, opts Options, server *atomic.Pointer[registration]) *writer {
	w := &writer{dialect: d, log: opts.Log, clock: opts.Clock, wait: opts.GroupWait, max: opts.MaxBatch, server: server,
		queue: make(chan *request, 4096), quit: make(chan struct{}), ended: make(chan struct{})}
	go w.run(ctx) // stop ends it
	return w
}

// stop commits what is queued and ends the goroutine.
func (w *writer) stop() {
	close(w.quit)
	<-w.ended
}

// submit has a request carried out, and returns when it is durable or has failed.
func (w *writer) submit(ctx context.Context, r *request) error {
	r.done = make(chan error, 1)
	select {
	case <-w.quit:
		return core.Errorf(core.KindUnavailable, "write to store", "%w", errClosed)
	default:
	}
	select {
	case w.queue <- r:
	case <-ctx.Done():
		return core.Errorf(core.KindUnavailable, "write to store", "%w", context.Cause(ctx))
	case <-w.quit:
		return core.Errorf(core.KindUnavailable, "write to store", "%w", errClosed)
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.taken.CompareAndSwap(waiting, withdrawn) {
			return core.Errorf(core.KindUnavailable, "write to store", "%w", context.Cause(ctx))
		}
		r.gone.Store(true) // the writer has it: its answer comes soon, and only it knows what became of the change
	case <-w.ended:
		if r.taken.CompareAndSwap(waiting, withdrawn) {
			return core.Errorf(core.KindUnavailable, "write to store", "%w", errClosed)
		}
	}
	return <-r.done
}

func (w *writer) run(ctx context.Context) {
	defer close(w.ended)
	defer func() {
		if w.conn != nil {
			w.conn.close()
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var batch []*request
	for {
		select {
		case first := <-w.queue:
			batch = w.gather(append(batch[:0], first), timer)
			w.carryOut(ctx, batch)
			clear(batch)
		case <-w.quit:
			for { // what was queued before quit
				select {
				case first := <-w.queue:
					w.carryOut(ctx, []*request{first})
				default:
					return
				}
			}
		}
	}
}

func (w *writer) gather(batch []*request, timer *time.Timer) []*request {
	weight := batch[0].weight()
	timed := false
	for weight < w.max {
		select {
		case r := <-w.queue:
			batch = append(batch, r)
			weight += r.weight()
			continue
		default:
		}
		if w.wait == 0 || weight >= enough {
			break
		}
		if !timed {
			timer.Reset(w.wait)
			timed = true
		}
		select {
		case r := <-w.queue:
			batch = append(batch, r)
			weight += r.weight()
			continue
		case <-timer.C:
		case <-w.quit:
		}
		break
	}
	return batch
}

// carryOut takes requests up and answers all of them.
func (w *writer) carryOut(ctx context.Context, batch []*request) {
	merged := make([]*request, 0, len(batch))
	var bulk []*request
	for _, r := range batch {
		switch {
		case !r.taken.CompareAndSwap(waiting, takenUp):
		case r.bulk:
			bulk = append(bulk, r)
		default:
			merged = append(merged, r)
		}
	}
	w.taken.Add(int64(len(merged) + len(bulk)))
	if len(merged) > 0 {
		w.insist(ctx, merged)
	}
	for _, r := range bulk {
		w.insist(ctx, []*request{r})
	}
}

// insist tries a transaction until it is committed or there is nothing more to try.
func (w *writer) insist(ctx context.Context, reqs []*request) {
	giveUpAt := time.Now().Add(retryTimeout)
	pause := 5 * time.Millisecond
	for {
		err := w.transact(ctx, reqs, giveUpAt)
		if err == nil {
			for _, r := range reqs {
				r.done <- r.answer
			}
			return
		}
		what := w.dialect.weigh(err)
		if what == isolate && len(reqs) == 1 {
			what = giveUp
		}
		if what == again && time.Now().After(giveUpAt) {
			what = giveUp
		}
		if what == giveUp {
			err = w.dialect.fault("write to store", err)
			for _, r := range reqs {
				r.done <- err
			}
			return
		}
		w.retries.Add(1)
		w.log.Warn("store transaction tried anew", "err", err, "requests", len(reqs), "each_alone", what == isolate)
		if what == isolate {
			for _, r := range reqs {
				w.insist(ctx, []*request{r})
			}
			return
		}
		w.drop()
		if reqs = w.stillWanted(reqs, err); len(reqs) == 0 {
			return
		}
		select {
		case <-time.After(pause):
		case <-w.quit: // no more patience, but one try is left
			giveUpAt = time.Time{}
		}
		pause = min(2*pause, time.Second)
	}
}

// stillWanted answers the requests whose callers have gone: nothing of them was written.
func (w *writer) stillWanted(reqs []*request, err error) []*request {
	wanted := reqs[:0]
	for _, r := range reqs {
		if r.gone.Load() {
			r.done <- core.Errorf(core.KindUnavailable, "write to store", "%w", err)
			continue
		}
		wanted = append(wanted, r)
	}
	return wanted
}

// drop closes a connection that may be of no use any more.
func (w *writer) drop() {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
	}
}

// transact tries one transaction once.
func (w *writer) transact(ctx context.Context, reqs []*request, giveUpAt time.Time) error {
	limit := writeTimeout
	if reqs[0].bulk {
		limit = bulkTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if w.conn == nil {
		conn, err := w.dialect.session(ctx)
		if err != nil {
			return err
		}
		w.conn = conn
	}
	if err := w.conn.begin(ctx); err != nil {
		return err
	}
	reg := w.server.Load()
	if w.dialect.alone() {
		reg = nil // the folder's lock is the lease, and a commit here always has an answer
	}
	err := w.fill(ctx, reqs, reg)
	if err == nil {
		err = w.conn.commit(ctx)
	}
	switch {
	case err == nil:
		w.commits.Add(1)
		return nil
	case errors.Is(err, errUnknown):
		cancel()
		return w.resolve(context.WithoutCancel(ctx), reg, giveUpAt)
	}
	if rollbackErr := w.conn.rollback(ctx); rollbackErr != nil {
		w.drop()
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}

// fill puts everything into the open transaction.
func (w *writer) fill(ctx context.Context, reqs []*request, reg *registration) error {
	if reg != nil {
		reg.batch++
		held, err := w.conn.queries().MarkBatch(ctx, sqlcgen.MarkBatchParams{ID: reg.id, Epoch: reg.epoch, Batch: reg.batch})
		if err != nil {
			return err
		}
		if held == 0 {
			return errFenced(reg.id)
		}
	}
	return w.apply(ctx, reqs)
}

// resolve finds out whether a transaction whose commit had no answer was made: it reads the number that the transaction
// wrote into this server's row, and waits for the row's lock, which an unfinished transaction still holds.
func (w *writer) resolve(ctx context.Context, reg *registration, giveUpAt time.Time) error {
	w.drop()
	if reg == nil {
		return core.Errorf(core.KindUnavailable, "write to store",
			"%w; the change may have been made or not: read before you try again", errUnknown)
	}
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		made, err := w.wasMade(ctx, reg)
		switch {
		case err == nil && made:
			w.commits.Add(1)
			return nil
		case err == nil:
			return errLost
		case core.KindOf(err) == core.KindStale:
			return err
		case time.Now().After(giveUpAt):
			return core.Errorf(core.KindUnavailable, "write to store",
				"%w, and the database cannot be asked (%w); the change may have been made or not", errUnknown, err)
		}
		w.log.Warn("store commit without answer", "err", err)
		select {
		case <-time.After(pause):
		case <-w.quit:
			giveUpAt = time.Time{}
		}
	}
}

// errLost says that a transaction was certainly not made; it may be tried anew.
var errLost = errors.New("the connection was lost before the commit")

func errFenced(id string) error {
	return core.Errorf(core.KindStale, "write to store", "server %q has lost its lease: its registration is gone", id)
}

func (w *writer) wasMade(ctx context.Context, reg *registration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	conn, err := w.dialect.session(ctx)
	if err != nil {
		return false, err
	}
	defer conn.close()
	if err := conn.begin(ctx); err != nil {
		return false, err
	}
	// An update that changes nothing waits for the row's lock as every transaction of this server does.
	held, err := conn.queries().HoldServer(ctx, reg.id, reg.epoch)
	if err != nil {
		return false, err
	}
	if held == 0 {
		return false, errFenced(reg.id)
	}
	row, err := conn.queries().ServerBatch(ctx, reg.id)
	if err != nil {
		return false, err
	}
	return row == reg.batch, conn.rollback(ctx)
}

// change has do carried out in a transaction, merged with others.
func (s *Store) change(ctx context.Context, op string, tasks []string, do func(ctx context.Context, q *sqlcgen.Queries) error) error {
	return s.alter(ctx, op, tasks, func(ctx context.Context, t session) error { return do(ctx, t.queries()) })
}

// alter is change for what needs more than queries.
func (s *Store) alter(ctx context.Context, op string, tasks []string, do func(ctx context.Context, t session) error) error {
	return s.fault(op, s.w.submit(ctx, &request{tasks: tasks, do: do}))
}
