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
	last := core.LoggedLine{Origin: &core.Origin{Attempt: f.AfterAttempt}, LogLine: core.LogLine{Seq: f.AfterSeq}}
	var rd blockReader
	defer rd.close()
	for i, x := range refs {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if i+1 < len(refs) && refs[i+1].attempt == x.attempt && int(x.attempt) == last.Origin.Attempt && refs[i+1].firstSeq <= last.Seq+1 {
			continue // all it holds was seen
		}
		lines, err := rd.lines(r, x, f.RunID)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile: history has it
		}
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if l.Origin.Attempt != int(x.attempt) || compareLines(l, last) <= 0 {
				continue
			}
			last = l
			if !f.Wants(l.LogLine) {
				continue
			}
			if out = append(out, l); len(out) == f.Limit {
				return out, nil
			}
		}
	}
	return out, nil
}

func compareLines(a, b core.LoggedLine) int {
	return cmp.Or(cmp.Compare(a.Origin.Attempt, b.Origin.Attempt), cmp.Compare(a.Seq, b.Seq))
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
		d, err := rd.read(r, refs[i], runID)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		if d == nil {
			continue
		}
		last, found := uint64(0), false
		for _, l := range d.seg.Logs {
			if l.Origin.Attempt == attempt {
				last, found = max(last, l.Seq), true
			}
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
	buf  []byte
}

func (rd *blockReader) close() {
	if rd.file != nil {
		_ = rd.file.Close()
		rd.file = nil
	}
}

// read decodes what a block holds of one run. A segment that is gone gives fs.ErrNotExist.
func (rd *blockReader) read(r *Recorder, x ref, runID string) (*decoder, error) {
	if rd.file == nil || rd.seg.number != x.number {
		rd.close()
		if err := rd.open(r, x.number); err != nil {
			return nil, err
		}
	}
	if rd.buf == nil {
		rd.buf = make([]byte, blockHead+blockBytes+4096)
	}
	b := rd.buf
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
	d := &decoder{only: runID}
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

// lines gives the lines of a run in a block; nothing of them points into the reader's buffer.
func (rd *blockReader) lines(r *Recorder, x ref, runID string) ([]core.LoggedLine, error) {
	d, err := rd.read(r, x, runID)
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

// Tail tells when a run has said something. What that is each reader reads with Lines at its own pace: a slow one costs a
// run nothing, and two hundred cost no more than what they read.
type Tail struct {
	r    *Recorder
	run  uint64
	news chan struct{}
	end  sync.Once
}

// Tail watches a run until Close or until ctx ends. To miss no line, open the Tail first and read Lines and history then.
func (r *Recorder) Tail(ctx context.Context, runID string) *Tail {
	t := &Tail{r: r, run: hashRun(runID), news: make(chan struct{}, 1)}
	r.tailMu.Lock()
	if r.tails[t.run] == nil {
		r.tails[t.run] = map[*Tail]struct{}{}
	}
	r.tails[t.run][t] = struct{}{}
	r.tailMu.Unlock()
	context.AfterFunc(ctx, t.Close)
	return t
}

// News gives a value when lines of the run have become durable since the last one, and now and then when none have.
func (t *Tail) News() <-chan struct{} { return t.news }

// Close ends the Tail: no more news comes. Closing twice is allowed.
func (t *Tail) Close() {
	t.end.Do(func() {
		t.r.tailMu.Lock()
		defer t.r.tailMu.Unlock()
		delete(t.r.tails[t.run], t)
		if len(t.r.tails[t.run]) == 0 {
			delete(t.r.tails, t.run)
		}
	})
}

// publish tells the Tails of the runs that have lines in a batch.
func (r *Recorder) publish(b *batch) {
	r.tailMu.Lock()
	defer r.tailMu.Unlock()
	if len(r.tails) == 0 {
		return
	}
	for _, e := range b.entries {
		for t := range r.tails[e.run] {
			r.poke(t.news)
		}
	}
}
