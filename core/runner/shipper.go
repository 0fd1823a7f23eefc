package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Outbox holds the rows of fires that are over and not yet in history.
type Outbox interface {
	Ended(ctx context.Context, afterID string, limit int) ([]core.Run, error)
	Shipped(ctx context.Context, ids []string) error
}

// History takes such rows; taking the same ones twice leaves them there once.
type History interface {
	WriteRuns(ctx context.Context, batchID string, runs []core.Run) error
}

// ShipperOptions configure a Shipper.
type ShipperOptions struct {
	Outbox  Outbox
	History History
	Clock   core.Clock
	Log     *slog.Logger
	Every   time.Duration // least pause between two batches that are not full; 500 ms
	Batch   int           // rows of one insert at most; 8,192
}

// Shipper moves the rows of ended runs and skipped fires from the store to history: insert, wait for the
// acknowledgement, then delete. So each is always in one of the two, and perhaps in both.
type Shipper struct {
	opts    ShipperOptions
	cancel  context.CancelFunc
	done    chan struct{}
	shipped atomic.Int64
}

// NewShipper fills in defaults.
func NewShipper(opts ShipperOptions) *Shipper {
	if opts.Every == 0 {
		opts.Every = 500 * time.Millisecond
	}
	if opts.Batch == 0 {
		opts.Batch = 8192 // a list that grows by doubling is full then
	}
	return &Shipper{opts: opts, done: make(chan struct{})}
}

// Start begins shipping.
func (s *Shipper) Start(ctx context.Context) error {
	ctx, s.cancel = context.WithCancel(ctx)
	go s.loop(ctx) // ends when Stop cancels ctx
	return nil
}

// Stop ships what there is, as far as ctx and history allow, and ends.
func (s *Shipper) Stop(ctx context.Context) error {
	if s.cancel == nil {
		return nil
	}
	s.cancel()
	<-s.done
	s.cancel = nil
	for {
		n, err := s.ship(ctx)
		if err != nil || n == 0 {
			return err
		}
	}
}

// Shipped gives the number of rows shipped since start.
func (s *Shipper) Shipped() int64 { return s.shipped.Load() }

func (s *Shipper) loop(ctx context.Context) {
	defer close(s.done)
	backoff := time.Duration(0)
	for ctx.Err() == nil {
		began := s.opts.Clock.Now()
		n, err := s.ship(ctx)
		// Ten times as long as it took, within bounds: what each insert costs however little is in it leaves the machine to
		// the scheduler when it is busy.
		wait := min(max(10*s.opts.Clock.Now().Sub(began), s.opts.Every), 4*s.opts.Every)
		switch {
		case err != nil && ctx.Err() == nil:
			backoff = min(max(2*backoff, time.Second), 30*time.Second)
			wait = backoff
			s.opts.Log.Warn("ended runs not shipped", "retry_in_ms", wait.Milliseconds(), "err", err)
		case n == s.opts.Batch:
			backoff, wait = 0, 0
		default:
			backoff = 0
		}
		wake := make(chan struct{})
		stop := s.opts.Clock.AfterFunc(wait, func() { close(wake) })
		select {
		case <-ctx.Done():
		case <-wake:
		}
		stop()
	}
}

func (s *Shipper) ship(ctx context.Context) (int, error) {
	runs, err := s.opts.Outbox.Ended(ctx, "", s.opts.Batch)
	if err != nil || len(runs) == 0 {
		return 0, err
	}
	ids := make([]string, len(runs))
	for i, run := range runs {
		ids[i] = run.ID
	}
	if err := s.opts.History.WriteRuns(ctx, batchID(ids), runs); err != nil {
		return 0, err
	}
	if err := s.opts.Outbox.Shipped(ctx, ids); err != nil {
		return 0, err
	}
	s.shipped.Add(int64(len(runs)))
	return len(runs), nil
}

// batchID names a batch by all that is in it. Its first and last row would not do: after an insert whose answer was lost, or
// beside another server, a run between the two may have ended meanwhile, and history would take the batch for one it has.
func batchID(ids []string) string {
	sum := sha256.Sum256([]byte(strings.Join(ids, " ")))
	return "runs-" + ids[0] + "-" + hex.EncodeToString(sum[:16])
}
