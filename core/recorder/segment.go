package recorder

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// segmentFile is what the committer does with a file. The tests put a failing disk behind it.
type segmentFile interface {
	Write(b []byte) (int, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

func createFile(path string) (segmentFile, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
}

const (
	openSuffix   = ".open" // being written, or left so by a crash
	sealedSuffix = ".seg"  // complete, with its foot
)

// segment is one file of the spool. What changes after it joined Recorder.segs is guarded by Recorder.segMu.
type segment struct {
	head
	path    string
	file    segmentFile // the committer's, while the segment is open
	size    int64       // bytes that are on disk and count; what lies behind them does not
	blocks  uint32
	records uint64
	lines   uint64
	oldest  time.Time // when its oldest record was said
	began   time.Time // when its first batch was on disk
	lastGen uint64    // its newest batch; 0 if an earlier process wrote it

	sealed    bool
	shipped   bool
	shippedAt time.Time
	entries   []entry  // its whole index, while the file has no foot
	prints    []uint32 // else only this
	footLen   int64    // 0: it has none
	footLost  bool     // it was sealed with one, which cannot be read
}

func (r *Recorder) path(number uint64, suffix string) string {
	return filepath.Join(r.dir, fmt.Sprintf("%012d%s", number, suffix))
}

// newSegment makes the next file; it holds nothing but its head, which is not yet on disk.
func (r *Recorder) newSegment() (*segment, error) {
	s := &segment{head: head{incarnation: r.incarnation, number: r.nextNumber, created: r.clock.Now().UTC(), marker: rand.Uint64() | 1}}
	r.nextNumber++
	s.path = r.path(s.number, openSuffix)
	f, err := r.create(s.path)
	if err != nil {
		return nil, err
	}
	s.file = f
	if _, err := f.Write(s.head.bytes()); err != nil {
		_ = f.Close()
		_ = os.Remove(s.path)
		return nil, err
	}
	s.size = headSize
	return s, nil
}

// appendBatch puts a batch on disk, or fails and has given up the segment it tried: after a failed write or sync
// nobody knows what of the file's tail is on disk, so the batch goes whole into a new one.
func (r *Recorder) appendBatch(b *batch) error {
	s := r.active
	fresh := s == nil
	if fresh {
		var err error
		if s, err = r.newSegment(); err != nil {
			return err
		}
	}
	blocks := b.stamp(s.marker)
	_, err := s.file.Write(b.buf)
	if err == nil {
		err = s.file.Sync()
	}
	if err == nil && fresh {
		err = syncDir(r.dir)
	}
	if err != nil {
		if fresh {
			_ = s.file.Close()
			_ = os.Remove(s.path)
			return err
		}
		if terr := s.file.Truncate(s.size); terr != nil {
			r.log.Warn("spool segment given up with a torn tail", "segment", s.id(), "err", terr)
		}
		r.seal(s)
		return err
	}
	r.segMu.Lock()
	defer r.segMu.Unlock()
	for i := range b.entries {
		b.entries[i].block += uint32(s.size)
	}
	s.entries = append(s.entries, b.entries...)
	s.size += int64(len(b.buf))
	s.blocks += uint32(blocks)
	s.records += uint64(b.records)
	s.lines += uint64(b.lines)
	s.lastGen = b.gen
	if fresh {
		s.oldest, s.began = b.since, r.clock.Now()
		r.active = s
		r.segs = append(r.segs, s)
		r.bytes.Add(headSize)
	}
	return nil
}

// seal ends a segment. If the foot cannot be written (the disk is full), the segment is sealed all the same: it is
// shipped and found from what is in memory, and a restart would scan it.
func (r *Recorder) seal(s *segment) {
	r.segMu.Lock()
	entries := slices.Clone(s.entries) // readers may walk the original meanwhile
	r.segMu.Unlock()
	path, n, err := r.writeFoot(s, entries)
	prints := fingerprints(entries)
	r.segMu.Lock()
	if err == nil {
		s.path, s.size, s.footLen, s.entries = path, s.size+n, n, nil
		r.bytes.Add(n)
	}
	s.prints, s.sealed, s.file = prints, true, nil
	if r.active == s {
		r.active = nil
	}
	r.segMu.Unlock()
	if err != nil {
		r.log.Warn("spool segment has no foot", "segment", s.id(), "err", err)
	}
	r.poke(r.sealed)
}

func (r *Recorder) writeFoot(s *segment, entries []entry) (path string, n int64, err error) {
	slices.SortFunc(entries, compareEntries)
	f := foot{blocks: s.blocks, records: s.records, lines: s.lines, oldest: s.oldest, entries: entries}
	b := f.bytes(s.marker)
	_, err = s.file.Write(b)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		_ = s.file.Truncate(s.size)
	}
	if cerr := s.file.Close(); err == nil {
		err = cerr
	}
	path = r.path(s.number, sealedSuffix)
	if err == nil {
		err = os.Rename(s.path, path)
	}
	return path, int64(len(b)), err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
