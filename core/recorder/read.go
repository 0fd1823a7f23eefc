package recorder

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/gnomon-scheduler/gnomon/core"
)

// ErrBehind tells the reader of a Tail that it was too slow: lines are missing from what Next gives. Read them with
// Lines and from history, from the last line seen, and go on with Next.
var ErrBehind error = core.Errorf(core.KindStale, "follow a run's log", "the reader fell behind; read again from the last line seen")

// maxBehind is how many blocks may wait for a reader of a Tail; they wait on disk, not in memory.
const maxBehind = 8192

// ref is a block of the spool.
type ref struct {
	number uint64 // of the segment
	entry
}

// Lines gives the lines of a run that are on disk in the spool, shipped ones included while they are kept, in the order
// (Attempt, Seq), each once. Merge them with history by that key. It reads only blocks that hold lines of the run, and
// no more of them than the limit needs. A line that is not yet acknowledged is not given.
func (r *Recorder) Lines(ctx context.Context, f core.LineFilter) ([]core.LoggedLine, error) {
	if f.Limit < 1 || f.Limit > 10000 {
		return nil, core.Invalid("read log lines", core.Finding{Path: "limit", Message: core.Text{
			Zh: "请给出 1 到 10000 之间的数", En: "give a number from 1 to 10000"}})
	}
	refs, err := r.find(f.RunID)
	if err != nil {
		return nil, err
	}
	refs = slices.DeleteFunc(refs, func(x ref) bool {
		return f.Attempt != 0 && int(x.attempt) != f.Attempt || int(x.attempt) < f.AfterAttempt
	})
	var out []core.LoggedLine
	var rd blockReader
	defer rd.close()
	for i, x := range refs {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if i+1 < len(refs) && refs[i+1].attempt == x.attempt && int(x.attempt) == f.AfterAttempt && refs[i+1].firstSeq <= f.AfterSeq+1 {
			continue // all it holds was seen
		}
		lines, err := rd.after(r, x, f)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile: history has it
		}
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
		if f.Limit -= len(lines); f.Limit == 0 {
			break
		}
		if len(lines) > 0 {
			f.AfterAttempt, f.AfterSeq = int(x.attempt), lines[len(lines)-1].Seq
		}
	}
	return out, nil
}

// find gives the blocks that may hold lines of a run, in the order (attempt, firstSeq).
func (r *Recorder) find(runID string) ([]ref, error) {
	run := hashRun(runID)
	var refs []ref
	var footed []*segment
	add := func(s *segment, e entry) {
		if e.run == run {
			refs = append(refs, ref{number: s.number, entry: e})
		}
	}
	r.segMu.Lock()
	for _, s := range r.segs {
		if s.sealed && s.footLen > 0 {
			if _, hit := slices.BinarySearch(s.prints, uint32(run>>32)); hit {
				footed = append(footed, s)
			}
			continue
		}
		if s.sealed {
			if _, hit := slices.BinarySearch(s.prints, uint32(run>>32)); !hit {
				continue
			}
		}
		for _, e := range s.entries {
			add(s, e)
		}
	}
	r.segMu.Unlock()
	for _, s := range footed {
		f, err := os.Open(s.path)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, core.Errorf(core.KindUnavailable, "read the log spool", "%w", err)
		}
		ft, _, err := readFoot(f, s.size, s.marker)
		_ = f.Close()
		if err != nil { // its lines come with the segment, from history
			r.log.Error("foot of a spool segment is unreadable", "segment", s.id(), "err", err)
			continue
		}
		for _, e := range ft.entries {
			add(s, e)
		}
	}
	slices.SortStableFunc(refs, func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.attempt, b.attempt), cmp.Compare(a.firstSeq, b.firstSeq), cmp.Compare(a.number, b.number),
			cmp.Compare(a.block, b.block))
	})
	return refs, nil
}

// readFoot reads the foot at the end of a sealed file and gives its length too.
func readFoot(f *os.File, size int64, marker uint64) (foot, int64, error) {
	var last [4]byte
	if size < headSize+blockHead+footFixed {
		return foot{}, 0, errNoFoot
	}
	if _, err := f.ReadAt(last[:], size-4); err != nil {
		return foot{}, 0, err
	}
	n := int64(binary.LittleEndian.Uint32(last[:]))
	if n < blockHead+footFixed || n > size-headSize {
		return foot{}, 0, errNoFoot
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, size-n); err != nil {
		return foot{}, 0, err
	}
	if b = blockAt(b, marker); b == nil || int64(len(b)) != n {
		return foot{}, 0, errNoFoot
	}
	ft, err := parseFoot(b)
	return ft, n, err
}

// lastSeq gives the highest number a line of an attempt has in the spool; 0 if there is none.
func (r *Recorder) lastSeq(ctx context.Context, runID string, attempt int) (uint64, error) {
	refs, err := r.find(runID)
	if err != nil {
		return 0, err
	}
	var rd blockReader
	defer rd.close()
	for i := len(refs) - 1; i >= 0; i-- { // lines are numbered in order, so the last block has the last line
		if int(refs[i].attempt) != attempt {
			continue
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		d, err := rd.read(r, refs[i], core.LineFilter{RunID: runID, Attempt: attempt})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		if d == nil {
			continue
		}
		last, found := uint64(0), false
		for _, l := range d.seg.Logs {
			last, found = max(last, l.Seq), true
		}
		for _, m := range d.marks {
			if m.origin.RunID == runID && m.origin.Attempt == attempt {
				last, found = max(last, m.seq), true
			}
		}
		if found { // else another run with the same hash
			return last, nil
		}
	}
	return 0, nil
}

// blockReader reads blocks, keeping the file of the last one open.
type blockReader struct {
	seg  *segment
	file *os.File
	buf  *[blockRoom]byte
}

// blockRoom is the size of all blocks but those with a line so long that it has one to itself.
const blockRoom = blockHead + blockBytes + 4096

// blockRooms are for those who read little at a time, and often.
var blockRooms = sync.Pool{New: func() any { return new([blockRoom]byte) }}

func (rd *blockReader) close() {
	if rd.buf != nil {
		blockRooms.Put(rd.buf)
		rd.buf = nil
	}
	if rd.file != nil {
		_ = rd.file.Close()
		rd.file = nil
	}
}

// read decodes what a block holds for a filter. A segment that is gone gives fs.ErrNotExist.
func (rd *blockReader) read(r *Recorder, x ref, want core.LineFilter) (*decoder, error) {
	if rd.file == nil || rd.seg.number != x.number {
		rd.close()
		if err := rd.open(r, x.number); err != nil {
			return nil, err
		}
	}
	if rd.buf == nil {
		rd.buf, _ = blockRooms.Get().(*[blockRoom]byte)
	}
	b := rd.buf[:]
	n, err := rd.file.ReadAt(b, int64(x.block))
	if n < blockHead {
		return nil, core.Errorf(core.KindUnavailable, "read the log spool", "segment %s at %d: %w", rd.seg.id(), x.block, err)
	}
	if whole := blockHead + int64(binary.LittleEndian.Uint32(b[8:])); whole > int64(n) && whole < maxFile {
		b = make([]byte, whole)
		if n, err = rd.file.ReadAt(b, int64(x.block)); int64(n) < whole {
			return nil, core.Errorf(core.KindDamaged, "read the log spool", "segment %s ends inside its block at %d: %w", rd.seg.id(), x.block, err)
		}
	}
	d := &decoder{only: &want}
	if b = blockAt(b[:n], rd.seg.marker); b == nil || d.block(text(b[blockHead:])) != nil {
		r.log.Error("block of a spool segment is damaged", "segment", rd.seg.id(), "at", x.block)
		return d, nil // the shipper will count it and say so
	}
	return d, nil
}

// open finds the file of a segment, whose name changes once: when it is sealed.
func (rd *blockReader) open(r *Recorder, number uint64) error {
	for range 2 {
		r.segMu.Lock()
		i, ok := slices.BinarySearchFunc(r.segs, number, func(s *segment, n uint64) int { return cmp.Compare(s.number, n) })
		if !ok {
			r.segMu.Unlock()
			return fs.ErrNotExist
		}
		rd.seg = r.segs[i]
		path := rd.seg.path
		r.segMu.Unlock()
		f, err := os.Open(path)
		if err == nil {
			rd.file = f
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return core.Errorf(core.KindUnavailable, "read the log spool", "%w", err)
		}
	}
	return fs.ErrNotExist
}

// after gives the lines of a block's attempt that a filter wants, in order, each once.
func (rd *blockReader) after(r *Recorder, x ref, f core.LineFilter) (out []core.LoggedLine, err error) {
	if f.Attempt = int(x.attempt); f.Attempt != f.AfterAttempt {
		f.AfterSeq = 0
	}
	for more := true; more && f.Limit > 0; {
		lines, err := rd.lines(r, x, f)
		if err != nil {
			return nil, err
		}
		more = len(lines) == f.Limit
		for _, l := range lines {
			if l.Seq > f.AfterSeq { // else it is there twice
				out = append(out, l)
				f.AfterSeq, f.Limit = l.Seq, f.Limit-1
			}
		}
	}
	return out, nil
}

// lines gives the lines of a block that a filter wants; nothing of them points into the reader's buffer.
func (rd *blockReader) lines(r *Recorder, x ref, want core.LineFilter) ([]core.LoggedLine, error) {
	d, err := rd.read(r, x, want)
	if err != nil {
		return nil, err
	}
	origins := map[*core.Origin]*core.Origin{}
	for i := range d.seg.Logs {
		l := &d.seg.Logs[i]
		l.Message = strings.Clone(l.Message)
		for j := range l.Attrs {
			l.Attrs[j] = core.Attr{Key: strings.Clone(l.Attrs[j].Key), Value: strings.Clone(l.Attrs[j].Value)}
		}
		o, ok := origins[l.Origin]
		if !ok {
			c := *l.Origin
			c.RunID, c.TaskID, c.Namespace = strings.Clone(c.RunID), strings.Clone(c.TaskID), strings.Clone(c.Namespace)
			c.TaskName, c.TaskType = strings.Clone(c.TaskName), strings.Clone(c.TaskType)
			o = &c
			origins[l.Origin] = o
		}
		l.Origin = o
	}
	return d.seg.Logs, nil
}

// Tail follows one run. It holds no lines, only where on disk they are: a slow reader costs a run nothing.
type Tail struct {
	r   *Recorder
	run string

	// Guarded by r.tailMu.
	refs   []ref
	behind bool

	news chan struct{}
	end  sync.Once
	over chan struct{}
}

// Tail follows the lines of a run that become durable from now on, until Close or until ctx ends. To miss none, open
// the Tail first and read Lines and history afterwards.
func (r *Recorder) Tail(ctx context.Context, runID string) *Tail {
	t := &Tail{r: r, run: runID, news: make(chan struct{}, 1), over: make(chan struct{})}
	run := hashRun(runID)
	r.tailMu.Lock()
	if r.tails[run] == nil {
		r.tails[run] = map[*Tail]struct{}{}
	}
	r.tails[run][t] = struct{}{}
	r.tailMu.Unlock()
	context.AfterFunc(ctx, t.Close)
	return t
}

// Close ends the Tail; Next then fails. Closing twice is allowed.
func (t *Tail) Close() {
	t.end.Do(func() {
		run := hashRun(t.run)
		t.r.tailMu.Lock()
		delete(t.r.tails[run], t)
		if len(t.r.tails[run]) == 0 {
			delete(t.r.tails, run)
		}
		t.r.tailMu.Unlock()
		close(t.over)
	})
}

// Next waits for lines and gives those of one group commit or less, in the order they were said. It fails with
// ErrBehind if lines were passed over, with the cause of ctx, or with KindUnavailable once the Tail is closed or the
// recorder has stopped and everything was given.
func (t *Tail) Next(ctx context.Context) ([]core.LoggedLine, error) {
	var rd blockReader
	defer rd.close()
	for {
		t.r.tailMu.Lock()
		behind, refs := t.behind, t.refs
		if behind {
			t.behind, t.refs = false, nil
		} else if len(refs) > 0 {
			t.refs = refs[1:]
		}
		t.r.tailMu.Unlock()
		if behind {
			return nil, ErrBehind
		}
		if len(refs) > 0 {
			lines, err := rd.lines(t.r, refs[0], core.LineFilter{RunID: t.run, Attempt: int(refs[0].attempt)})
			if errors.Is(err, fs.ErrNotExist) {
				return nil, ErrBehind
			}
			if err != nil {
				return nil, err
			}
			if len(lines) > 0 {
				return lines, nil
			}
			continue
		}
		select {
		case <-t.news:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-t.over:
			return nil, errStopped
		case <-t.r.gone:
			select {
			case <-t.news: // the last commit
			default:
				return nil, errStopped
			}
		}
	}
}

// publish tells the Tails which blocks of a batch hold lines of their runs.
func (r *Recorder) publish(b *batch) {
	r.tailMu.Lock()
	defer r.tailMu.Unlock()
	if len(r.tails) == 0 {
		return
	}
	number := r.active.number
	for _, e := range b.entries {
		for t := range r.tails[e.run] {
			if len(t.refs) >= maxBehind {
				t.behind, t.refs = true, nil
			}
			if !t.behind {
				t.refs = append(t.refs, ref{number: number, entry: e})
			}
			r.poke(t.news)
		}
	}
}
