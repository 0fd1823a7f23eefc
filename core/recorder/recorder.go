// Package recorder is the durable local spool between tasks and history. It takes log lines, samples and finished
// attempts, acknowledges them once they are on disk, and hands whole sealed segments to a Shipper for as long as it
// takes. It never drops in silence. DESIGN.md, beside this file, has the data flow, the guarantees and the failures.
package recorder

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Shipper writes a segment to history. Writing a segment again must leave its records there once: by the segment's ID
// or by the keys of its records. An error means the segment may or may not be there; it will be given again, byte for
// byte the same. An error of core.KindInvalid means that it can never be written: the segment is then set aside.
// The segment is the Shipper's to keep; nobody changes it.
type Shipper interface {
	WriteSegment(ctx context.Context, segment core.Segment) error
}

// Options is what New needs. Dir, Log and Shipper are required; zero values of the rest give the defaults.
type Options struct {
	Dir          string // the spool's own folder, created with mode 0700; one recorder at a time
	Log          *slog.Logger
	Shipper      Shipper
	SyncEvery    time.Duration // least time between two group commits, at most 20 ms; default 5 ms
	SegmentBytes int64         // a segment is sealed at this size; default DefaultSegmentBytes
	SegmentAge   time.Duration // or at this age, unless the Shipper is behind or slow (sealAge); default 1 s
	MaxBytes     int64         // bound of the spool on disk; default 4 GiB; a sixteenth more for ends of attempts and gap markers
	KeepShipped  time.Duration // a shipped segment is kept this long, or less if its room is needed; default 5 min
	MaxLineBytes int           // a longer message is cut; default 1 MiB
	Clock        core.Clock    // default core.SystemClock
}

// DefaultSegmentBytes is 8 MiB.
const DefaultSegmentBytes = 8 << 20

const (
	maxGaps      = 1 << 16                // closed attempts whose gap marker waits for room
	reserve      = 16                     // a full spool has this part of its limit left for what must not wait for room: that attempts ended, and gaps
	dropAfter    = 100 * time.Millisecond // how long policy Drop waits for room before it drops
	batchLimit   = 4 << 20                // bytes a batch may hold before writers wait
	lockFile     = "lock"
	checkpointAt = "checkpoint"
	quarantineAt = "quarantine"
)

var (
	errDropped = errors.New("dropped")
	errStopped = core.Errorf(core.KindUnavailable, "record", "the recorder does not run")
)

// Recorder is the spool. Lock order: Recorder.mu and segMu are never held together; tailMu is innermost.
type Recorder struct {
	dir          string
	log          *slog.Logger
	shipper      Shipper
	syncEvery    time.Duration
	segmentBytes int64
	segmentAge   time.Duration
	maxBytes     int64
	keepShipped  time.Duration
	maxLine      int
	batchMax     int
	clock        core.Clock
	create       func(path string) (segmentFile, error)

	incarnation [16]byte
	nextNumber  uint64 // of the next segment; the committer's
	lockFD      *os.File
	bootID      string

	mu             sync.Mutex
	accepting      bool
	fill           *batch
	spare          *batch
	nextBlock      uint64
	nextGen        uint64
	lastDone       chan struct{} // of the newest batch that holds anything
	freed          chan struct{} // closed and replaced when there may be room again
	open           map[*Attempt]struct{}
	gaps           []*Attempt
	waiting        int
	linesDropped   uint64
	samplesDropped uint64
	gapsLost       uint64

	bytes    atomic.Int64 // of the spool on disk
	shipTook atomic.Int64 // by the last segment that history took, nanoseconds

	segMu    sync.Mutex
	segs     []*segment // by number
	active   *segment   // the last of segs while it is open for writing
	counters counters
	recent   []delivery // of the last minute

	tailMu sync.Mutex
	tails  map[uint64]map[*Tail]struct{}

	wake     chan struct{} // a record came
	hurry    chan struct{} // the batch is half full
	sealed   chan struct{} // there is something to ship
	crowded  chan struct{} // room is needed
	stopping chan struct{} // no more records come
	abandon  chan struct{} // stop even though not everything is on disk
	gone     chan struct{} // the committer has ended
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	stopOnce sync.Once
}

// counters are what Stats tells beyond the state itself. Guarded by segMu.
type counters struct {
	linesAcked, recordsAcked             uint64
	segmentsShipped, linesShipped        uint64
	halfSegments, tornBytes              int64
	damagedPlaces, damagedBytes, damaged int64
	quarantined                          int64
	retiredEarly                         int64
	commits                              uint64
	lastCommit                           time.Duration
	lastShipped                          time.Time
	writeErr, shipErr                    error
	writeErrSince, shipErrSince          time.Time
}

// New checks the options.
func New(opts Options) (*Recorder, error) {
	r := &Recorder{dir: opts.Dir, log: opts.Log, shipper: opts.Shipper, syncEvery: opts.SyncEvery, segmentBytes: opts.SegmentBytes,
		segmentAge: opts.SegmentAge, maxBytes: opts.MaxBytes, keepShipped: opts.KeepShipped, maxLine: opts.MaxLineBytes, clock: opts.Clock,
		create: createFile, fill: &batch{}, spare: &batch{}, freed: make(chan struct{}), open: map[*Attempt]struct{}{},
		tails: map[uint64]map[*Tail]struct{}{}, wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		sealed: make(chan struct{}, 1), crowded: make(chan struct{}, 1),
		stopping: make(chan struct{}), abandon: make(chan struct{}), gone: make(chan struct{})}
	r.syncEvery = orDefault(r.syncEvery, 5*time.Millisecond)
	r.segmentBytes = orDefault(r.segmentBytes, DefaultSegmentBytes)
	r.segmentAge = orDefault(r.segmentAge, time.Second)
	r.maxBytes = orDefault(r.maxBytes, 4<<30)
	r.keepShipped = orDefault(r.keepShipped, 5*time.Minute)
	r.maxLine = orDefault(r.maxLine, 1<<20)
	if r.clock == nil {
		r.clock = core.SystemClock{}
	}
	const op = "set up the log spool"
	switch {
	case r.dir == "" || r.log == nil || r.shipper == nil:
		return nil, core.Errorf(core.KindInvalid, op, "Dir, Log and Shipper are required")
	case r.syncEvery < 0 || r.syncEvery > 20*time.Millisecond:
		return nil, core.Errorf(core.KindInvalid, op, "SyncEvery is %s; give at most 20ms", r.syncEvery)
	case r.segmentBytes < 4<<10 || r.segmentBytes > maxFile/4:
		return nil, core.Errorf(core.KindInvalid, op, "SegmentBytes is %d; give 4 KiB to 256 MiB", r.segmentBytes)
	case r.maxBytes < 2*r.segmentBytes:
		return nil, core.Errorf(core.KindInvalid, op, "MaxBytes is %d; give at least two segments of %d", r.maxBytes, r.segmentBytes)
	case r.maxLine < 64 || r.maxLine > 64<<20:
		return nil, core.Errorf(core.KindInvalid, op, "MaxLineBytes is %d; give 64 bytes to 64 MiB", r.maxLine)
	case r.segmentAge < 0 || r.keepShipped < 0:
		return nil, core.Errorf(core.KindInvalid, op, "SegmentAge and KeepShipped must not be negative")
	}
	r.batchMax = int(min(batchLimit, r.segmentBytes))
	return r, nil
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Start takes the spool folder for this process alone, recovers what an earlier one left and begins. It fails with
// KindConflict if another process has the folder and with KindDamaged if a file in it is foreign or cannot be used; the
// message says what to do. Nothing is ever recreated in silence.
func (r *Recorder) Start(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(r.dir, quarantineAt), 0o700); err != nil {
		return core.Errorf(core.KindUnavailable, "open the log spool "+r.dir, "%w", err)
	}
	if err := r.takeFolder(); err != nil {
		return err
	}
	if _, err := rand.Read(r.incarnation[:]); err != nil {
		return err
	}
	if err := r.recover(ctx); err != nil {
		r.releaseFolder()
		return err
	}
	r.mu.Lock()
	r.nextGen = 1
	r.fill.reset(r.nextGen)
	r.accepting = true
	r.mu.Unlock()
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.workers.Go(func() { r.commitLoop() })        // ends after stopping, or at once on abandon
	r.workers.Go(func() { r.shipLoop(running) })   // ends with running
	r.workers.Go(func() { r.retireLoop(running) }) // ends with running
	return nil
}

// Stop takes no more records, puts what it has on disk and ends. What is not shipped stays there for the next start.
// If ctx ends before the disk took everything, Stop gives up and says how many records are lost.
func (r *Recorder) Stop(ctx context.Context) error {
	if r.cancel == nil {
		return nil
	}
	var err error
	r.stopOnce.Do(func() {
		r.mu.Lock()
		r.accepting = false
		r.mu.Unlock()
		close(r.stopping)
		select {
		case <-r.gone:
		case <-ctx.Done():
			close(r.abandon)
			<-r.gone
		}
		r.cancel()
		r.workers.Wait()
		r.releaseFolder()
		if n := r.unwritten(); n > 0 {
			err = core.Errorf(core.KindUnavailable, "stop the log spool", "%d records could not be put on disk in time", n)
		}
	})
	r.workers.Wait()
	return err
}

// unwritten counts what is still only in memory.
func (r *Recorder) unwritten() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fill.records + int(r.fill.inBlock.records) + r.spare.records
}

// lock takes r.mu once there is room for a record. On an error r.mu is not held. An attempt that drops waits only for
// the first line of a gap, so that the others cost it nothing. What is vital finds room in the reserve of a full spool.
func (r *Recorder) lock(ctx context.Context, policy Full, dropped *uint64, vital bool) error {
	r.mu.Lock()
	if !r.accepting {
		r.mu.Unlock()
		return errStopped
	}
	if r.hasRoom(vital) {
		return nil
	}
	var tooLong <-chan struct{}
	if policy == Drop {
		if *dropped > 0 {
			r.mu.Unlock()
			return errDropped
		}
		var stop func() bool
		tooLong, stop = r.after(dropAfter)
		defer stop()
	}
	for {
		freed := r.freed
		r.waiting++
		r.mu.Unlock()
		r.poke(r.crowded)
		var err error
		select {
		case <-freed:
		case <-tooLong:
			err = errDropped
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-r.stopping:
			err = errStopped
		}
		r.mu.Lock()
		r.waiting--
		if err == nil && r.accepting && r.hasRoom(vital) {
			return nil
		}
		if err != nil {
			r.mu.Unlock()
			return err
		}
	}
}

// hasRoom requires r.mu.
func (r *Recorder) hasRoom(vital bool) bool {
	limit := r.maxBytes
	if vital {
		limit += r.maxBytes / reserve
	}
	return len(r.fill.buf) < r.batchMax && r.bytes.Load()+int64(len(r.fill.buf)) < limit
}

// begin opens a block in the batch being filled. Requires r.mu.
func (r *Recorder) begin() *batch {
	r.fill.begin(&r.nextBlock, r.clock.Now)
	return r.fill
}

// filled tells the committer about a record just put into b. Requires r.mu.
func (r *Recorder) filled(b *batch) {
	if r.lastDone != b.done {
		r.lastDone = b.done
		r.poke(r.wake)
	}
	if len(b.buf) >= r.batchMax/2 {
		r.poke(r.hurry)
	}
}

// makeRoom wakes every writer that waits. Requires r.mu.
func (r *Recorder) makeRoom() {
	if r.waiting > 0 {
		close(r.freed)
		r.freed = make(chan struct{})
	}
}

func (*Recorder) poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// after gives a channel that is closed once d has passed.
func (r *Recorder) after(d time.Duration) (<-chan struct{}, func() bool) {
	c := make(chan struct{})
	return c, r.clock.AfterFunc(d, func() { close(c) })
}

// put queues a record that belongs to no open attempt, waiting while the spool is full.
func (r *Recorder) put(ctx context.Context, vital bool, encode func(b *batch)) error {
	if err := r.lock(ctx, Wait, nil, vital); err != nil {
		return err
	}
	defer r.mu.Unlock()
	b := r.begin()
	encode(b)
	b.inBlock.records++
	r.filled(b)
	return nil
}

// origin writes an origin into the open block and gives its number there.
func (b *batch) origin(o *core.Origin) uint32 {
	b.buf = appendOrigin(b.buf, o)
	b.inBlock.records++
	b.origins++
	return b.origins - 1
}

// RecordAttempt queues a finished attempt; it is on disk with the next group commit (FlushAll waits for that).
// Like the other Record methods it waits while the spool is full, until ctx ends; but it has the reserve, so that a run which
// has nothing more to say comes to its end while others fill the spool.
func (r *Recorder) RecordAttempt(ctx context.Context, a core.AttemptRecord) error {
	o := cleanOrigin(a.Origin)
	a.Message, a.Verdict = cleanText(a.Message), core.Verdict(cleanText(string(a.Verdict)))
	a.Place.Plugin, a.Place.Version = cleanText(a.Place.Plugin), cleanText(a.Place.Version)
	return r.put(ctx, true, func(b *batch) { b.buf = appendAttempt(b.buf, b.origin(&o), &a) })
}

// RecordRun queues a sample of an attempt, whose origin it carries.
func (r *Recorder) RecordRun(ctx context.Context, s core.RunSample) error {
	o := cleanOrigin(s.Origin)
	return r.put(ctx, false, func(b *batch) { b.buf = appendRunSample(b.buf, b.origin(&o), &s) })
}

// RecordPlugin queues a sample of a plugin's process tree.
func (r *Recorder) RecordPlugin(ctx context.Context, s core.PluginSample) error {
	s.Plugin, s.Version, s.Namespace = cleanText(s.Plugin), cleanText(s.Version), cleanText(s.Namespace)
	return r.put(ctx, false, func(b *batch) { b.buf = appendPluginSample(b.buf, &s) })
}

// RecordHost queues a sample of the machine.
func (r *Recorder) RecordHost(ctx context.Context, s core.HostSample) error {
	s.Host = cleanText(s.Host)
	if s.Detail != nil { // others read the same one
		d := *s.Detail
		d.FileSystems = slices.Clone(d.FileSystems)
		for i := range d.FileSystems {
			d.FileSystems[i].Mount = cleanText(d.FileSystems[i].Mount)
		}
		s.Detail = &d
	}
	return r.put(ctx, false, func(b *batch) { b.buf = appendHostSample(b.buf, &s) })
}

// RecordServer queues what is known of a server's life. The last record of a server is the one that counts.
func (r *Recorder) RecordServer(ctx context.Context, s core.ServerRecord) error {
	s.Host = cleanText(s.Host)
	return r.put(ctx, true, func(b *batch) { b.buf = appendServer(b.buf, &s) })
}

// FlushAll returns once everything queued so far, by anyone, is on disk. It fails like Attempt.Flush.
func (r *Recorder) FlushAll(ctx context.Context) error {
	r.mu.Lock()
	pending := r.lastDone
	r.mu.Unlock()
	return r.await(ctx, pending)
}

func (r *Recorder) await(ctx context.Context, done chan struct{}) error {
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	default:
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.gone:
	}
	select {
	case <-done:
		return nil
	default:
		return errStopped
	}
}
