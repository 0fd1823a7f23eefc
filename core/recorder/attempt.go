package recorder

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Full says what becomes of a line when the spool is full or its disk does not take it.
type Full uint8

// The policies.
const (
	Wait Full = iota // the task waits: the back-pressure of the road
	Drop             // after a short wait the line is dropped and counted, and one gap marker per gap says how many
)

// Progress is the newest thing an attempt said about how far it is.
type Progress struct {
	Done  int64
	Total int64 // 0: unknown
	Note  string
}

// Attempt takes what one attempt says and numbers its lines. It implements core.Sink. One that says nothing costs one
// allocation. Safe for concurrent use, though the order of lines is then the order of the calls.
type Attempt struct {
	r      *Recorder
	origin core.Origin
	run    uint64
	level  core.Level
	policy Full

	// Guarded by r.mu.
	seq      uint64
	dropped  uint64        // lines dropped since the last gap marker
	block    uint64        // the block that holds originAt
	originAt uint32        // number of the origin in that block
	indexed  uint64        // the block whose index entry exists
	lastGen  uint64        // the batch that holds the last line
	pending  chan struct{} // closed once everything said so far is on disk; nil: nothing was said
	closed   bool

	progressMu sync.Mutex
	progress   Progress
}

var _ core.Sink = (*Attempt)(nil)

// Attempt opens an attempt that has never been opened before; its lines are numbered from 1. Lines below level are
// not recorded, except those in stream system; level 0 records all. An attempt that may have been opened before,
// by a server that died, is opened with Resume.
func (r *Recorder) Attempt(origin core.Origin, level core.Level, policy Full) *Attempt {
	origin = cleanOrigin(origin)
	return &Attempt{r: r, origin: origin, run: hashRun(origin.RunID), level: level, policy: policy}
}

// Resume opens an attempt again, for instance to say that the server died while it ran; its lines are numbered on from
// the last one on disk.
func (r *Recorder) Resume(ctx context.Context, origin core.Origin, level core.Level, policy Full) (*Attempt, error) {
	a := r.Attempt(origin, level, policy)
	if r.gathered(a.run) {
		if err := r.FlushAll(ctx); err != nil {
			return nil, err
		}
	}
	seq, err := r.lastSeq(ctx, a.origin.RunID, a.origin.Attempt)
	if err != nil {
		return nil, err
	}
	a.seq = seq
	return a, nil
}

// gathered says whether lines of a run may not be on disk yet.
func (r *Recorder) gathered(run uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, entries := range [...][]entry{r.fill.entries, r.spare.entries} {
		for i := range entries {
			if entries[i].run == run { // only this field: the committer may be setting another
				return true
			}
		}
	}
	return false
}

// Log queues a line; its Seq is assigned here, and an At that is zero becomes now. It returns before the line is on
// disk. It waits while the spool is full (see Full) and fails only if ctx ends while it waits, or the recorder does
// not run, or the attempt is closed. A dropped line is not an error: it is counted.
func (a *Attempt) Log(ctx context.Context, line core.LogLine) error {
	if line.Level < a.level && line.Stream != core.StreamSystem {
		return nil
	}
	cleanLine(&line, a.r.maxLine)
	if line.At.IsZero() {
		line.At = a.r.clock.Now()
	}
	r := a.r
	if err := r.lock(ctx, a.policy, &a.dropped, false); err != nil {
		if errors.Is(err, errDropped) {
			r.mu.Lock()
			a.dropped++
			r.linesDropped++
			r.mu.Unlock()
			return nil
		}
		return err
	}
	defer r.mu.Unlock()
	if a.closed {
		return core.Errorf(core.KindConflict, "record a line", "attempt %d of run %s is closed", a.origin.Attempt, a.origin.RunID)
	}
	a.gap()
	a.line(&line)
	return nil
}

// gap says in one line how many were dropped. Requires r.mu.
func (a *Attempt) gap() {
	if a.dropped == 0 {
		return
	}
	n := strconv.FormatUint(a.dropped, 10)
	a.dropped = 0
	a.line(&core.LogLine{At: a.r.clock.Now(), Level: core.LevelWarn, Stream: core.StreamSystem,
		Message: n + " lines were dropped here because the log spool was full", Attrs: []core.Attr{{Key: AttrDropped, Value: n}}})
}

// line puts a line into the batch being filled. Requires r.mu.
func (a *Attempt) line(l *core.LogLine) {
	b := a.begin()
	if a.indexed != b.block {
		a.indexed = b.block
		b.entries = append(b.entries, entry{run: a.run, block: uint32(b.open), attempt: int32(a.origin.Attempt), firstSeq: a.seq + 1})
	}
	if a.lastGen == 0 && !a.closed {
		a.r.open[a] = struct{}{}
	}
	a.seq++
	b.buf = appendLine(b.buf, a.originAt, a.seq, l)
	b.inBlock.lines++
	a.lastGen = b.gen
	a.end(b)
}

// mark repeats, in the newest segment, how many lines the attempt has said. Requires r.mu.
func (a *Attempt) mark() {
	b := a.begin()
	b.entries = append(b.entries, entry{run: a.run, block: uint32(b.open), attempt: int32(a.origin.Attempt), firstSeq: a.seq + 1})
	b.buf = appendMark(b.buf, a.originAt, a.seq)
	a.lastGen = b.gen
	a.end(b)
}

// begin opens a block that holds the attempt's origin. Requires r.mu.
func (a *Attempt) begin() *batch {
	b := a.r.begin()
	if a.block != b.block {
		a.originAt = b.origin(&a.origin)
		a.block = b.block
	}
	return b
}

func (a *Attempt) end(b *batch) {
	b.inBlock.records++
	a.pending = b.done
	a.r.filled(b)
}

// Sample queues a reading of what the attempt uses; the sample's origin is the attempt's. Its last one has the reserve.
func (a *Attempt) Sample(ctx context.Context, sample core.RunSample) error {
	r := a.r
	if err := r.lock(ctx, a.policy, &a.dropped, sample.Final); err != nil {
		if errors.Is(err, errDropped) {
			r.mu.Lock()
			r.samplesDropped++
			r.mu.Unlock()
			return nil
		}
		return err
	}
	defer r.mu.Unlock()
	b := a.begin()
	b.buf = appendRunSample(b.buf, a.originAt, &sample)
	a.end(b)
	return nil
}

// Progress keeps the newest progress in memory.
func (a *Attempt) Progress(done, total int64, note string) {
	note, _, _ = clean(note, 4<<10)
	a.progressMu.Lock()
	a.progress = Progress{Done: done, Total: total, Note: note}
	a.progressMu.Unlock()
}

// ProgressNow gives the newest progress.
func (a *Attempt) ProgressNow() Progress {
	a.progressMu.Lock()
	defer a.progressMu.Unlock()
	return a.progress
}

// Lines gives how many lines the attempt has, gap markers and lines before a Resume included.
func (a *Attempt) Lines() uint64 {
	a.r.mu.Lock()
	defer a.r.mu.Unlock()
	return a.seq
}

// Flush returns once everything said so far is on disk: acknowledged. It returns at once if nothing was said. It fails
// if ctx ends first, or if the recorder was stopped before the disk took it.
func (a *Attempt) Flush(ctx context.Context) error {
	r := a.r
	r.mu.Lock()
	if a.dropped > 0 && !a.closed {
		r.mu.Unlock()
		if err := r.lock(ctx, Wait, nil, true); err != nil {
			return err
		}
		a.gap()
	}
	pending := a.pending
	r.mu.Unlock()
	return r.await(ctx, pending)
}

// Close says that the attempt says no more. It neither waits nor loses anything: what is queued is written all the
// same, and so is the gap marker of lines that were dropped last. Closing twice is allowed.
func (a *Attempt) Close() {
	r := a.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.closed {
		return
	}
	a.closed = true
	delete(r.open, a)
	if a.dropped == 0 {
		return
	}
	if len(r.gaps) < maxGaps {
		r.gaps = append(r.gaps, a)
		r.poke(r.wake)
		return
	}
	r.gapsLost += a.dropped // still in LinesDropped, but no line will say it
}
