package recorder

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/gnomon-scheduler/gnomon/core"
)

// takeFolder locks the spool for this process. The kernel gives the lock back when the process ends, however it ends.
func (r *Recorder) takeFolder() error {
	name := filepath.Join(r.dir, lockFile)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return core.Errorf(core.KindUnavailable, "open the log spool "+r.dir, "%w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(name)
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return core.Errorf(core.KindUnavailable, "lock the log spool "+r.dir, "%w", err)
		}
		return core.Errorf(core.KindConflict, "open the log spool "+r.dir,
			"another process has it (pid %s); stop that one, or give this server a data folder of its own", strings.TrimSpace(string(holder)))
	}
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	r.lockFD = f
	return nil
}

func (r *Recorder) releaseFolder() {
	if r.lockFD != nil {
		// Closing alone is not enough: a child being started this moment has the descriptor too, until its exec.
		_ = syscall.Flock(int(r.lockFD.Fd()), syscall.LOCK_UN)
		_ = r.lockFD.Close()
		r.lockFD = nil
	}
}

// recover reads what an earlier process left. Of sealed segments it reads head and foot, of open ones all, one at a
// time: time and memory do not grow with what a segment holds in the spool's sealed part.
func (r *Recorder) recover(ctx context.Context) error {
	files, err := r.list()
	if err != nil {
		return err
	}
	through, highest := r.readCheckpoint()
	r.nextNumber = highest + 1
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		s, err := r.recoverFile(f)
		if err != nil {
			return err
		}
		r.nextNumber = max(r.nextNumber, f.number+1)
		if s == nil {
			continue
		}
		if s.number <= through {
			s.shipped, s.shippedAt = true, r.clock.Now()
		}
		r.segs = append(r.segs, s)
		r.bytes.Add(s.size)
	}
	if c := r.counters; c.halfSegments > 0 || c.tornBytes > 0 {
		r.log.Warn("log spool recovered after a crash", "half_segments", c.halfSegments, "torn_bytes", c.tornBytes)
	}
	return nil
}

type spoolFile struct {
	name   string
	number uint64
	open   bool
}

func (r *Recorder) list() ([]spoolFile, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, "open the log spool "+r.dir, "%w", err)
	}
	var files []spoolFile
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || name == lockFile || name == checkpointAt || name == checkpointAt+".tmp" {
			continue
		}
		digits, open := strings.CutSuffix(name, openSuffix)
		if !open {
			var sealed bool
			if digits, sealed = strings.CutSuffix(name, sealedSuffix); !sealed {
				return nil, r.refuse(name, errNotOurs)
			}
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || len(digits) != 12 {
			return nil, r.refuse(name, errNotOurs)
		}
		files = append(files, spoolFile{name: name, number: n, open: open})
	}
	slices.SortFunc(files, func(a, b spoolFile) int { return int(int64(a.number) - int64(b.number)) })
	for i := 1; i < len(files); i++ {
		if files[i].number == files[i-1].number {
			return nil, r.refuse(files[i].name, fmt.Errorf("%s has the same number", files[i-1].name))
		}
	}
	return files, nil
}

// refuse is the error for a file that must not be touched: it names the file and the way out.
func (r *Recorder) refuse(name string, why error) error {
	return core.Errorf(core.KindDamaged, "open the log spool "+r.dir,
		"file %s: %w; nothing was changed. Move this file out of the folder and keep it (what it holds is then missing from history), and start again",
		filepath.Join(r.dir, name), why)
}

func (r *Recorder) recoverFile(f spoolFile) (*segment, error) {
	path := filepath.Join(r.dir, f.name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, "open the log spool "+r.dir, "%w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, r.refuse(f.name, errNotOurs)
	}
	if !f.open {
		return r.recoverSealed(f, path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, "open the log spool "+r.dir, "%w", err)
	}
	return r.recoverOpen(f, path, data)
}

// recoverSealed reads head and foot. A segment without a good foot is scanned and kept as it is: the shipper will say
// what is missing, send the rest, and put the file in quarantine.
func (r *Recorder) recoverSealed(f spoolFile, path string, size int64) (*segment, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, "open the log spool "+r.dir, "%w", err)
	}
	defer file.Close()
	b := make([]byte, headSize)
	n, err := file.ReadAt(b, 0)
	if n < headSize && err != nil && size >= headSize {
		return nil, core.Errorf(core.KindUnavailable, "read the log spool "+path, "%w", err)
	}
	h, err := r.checkHead(f, b[:n])
	if err != nil {
		return nil, err
	}
	s := &segment{head: h, path: path, size: size, sealed: true}
	if ft, n, err := readFoot(file, size, h.marker); err == nil {
		s.setFoot(ft, n)
		return s, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, "open the log spool "+r.dir, "%w", err)
	}
	s.index(data)
	s.prints, s.footLost = fingerprints(s.entries), true
	r.log.Error("sealed spool segment is damaged; what can be read will be shipped", "file", path)
	return s, nil
}

func (r *Recorder) checkHead(f spoolFile, b []byte) (head, error) {
	h, err := parseHead(b)
	if err == nil && h.number != f.number {
		err = fmt.Errorf("it is segment %d by its content", h.number)
	}
	if err != nil {
		return head{}, r.refuse(f.name, err)
	}
	return h, nil
}

// recoverOpen ends a segment a crash left open: what lies behind the last good block was never acknowledged.
func (r *Recorder) recoverOpen(f spoolFile, path string, data []byte) (*segment, error) {
	start := data[:min(len(data), headSize)]
	half := len(data) < headSize && string(start[:min(len(start), len(magic))]) == string(magic[:min(len(start), len(magic))])
	if half || allZero(start) { // the crash came before the head was on disk, so before anything was acknowledged
		r.counters.halfSegments++
		r.counters.tornBytes += int64(len(data))
		return nil, r.discard(path, data)
	}
	h, err := r.checkHead(f, start)
	if err != nil {
		return nil, err
	}
	s := &segment{head: h, path: path, sealed: true}
	found := s.index(data)
	if found.badPlaces > 0 {
		r.log.Error("open spool segment is damaged inside; what can be read will be shipped", "file", path, "bytes", found.badBytes)
	}
	r.counters.tornBytes += int64(found.tail)
	if s.blocks == 0 {
		r.counters.halfSegments++
		return nil, r.discard(path, data[headSize:])
	}
	s.size = int64(found.end)
	entries := s.entries
	s.prints = fingerprints(entries)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, "open the log spool "+r.dir, "%w", err)
	}
	if err := file.Truncate(s.size); err != nil {
		_ = file.Close()
		return nil, core.Errorf(core.KindUnavailable, "cut the torn end off "+path, "%w", err)
	}
	if found.sealed { // only the renaming was missing
		_ = file.Close()
		sealedPath := r.path(s.number, sealedSuffix)
		if err := os.Rename(path, sealedPath); err != nil {
			return nil, core.Errorf(core.KindUnavailable, "recover "+path, "%w", err)
		}
		s.path, s.entries = sealedPath, nil
		s.setFoot(found.foot, found.foot.size())
		return s, nil
	}
	s.file = file
	sealedPath, n, err := r.writeFoot(s, entries)
	s.file = nil
	if err != nil { // a full disk must not keep the server down: the index stays in memory
		r.log.Warn("spool segment has no foot", "segment", s.id(), "err", err)
		return s, nil
	}
	s.path, s.size, s.footLen, s.entries = sealedPath, s.size+n, n, nil
	return s, nil
}

// discard removes a segment that holds nothing; if it holds bytes nobody can read, it is kept in quarantine.
func (r *Recorder) discard(path string, data []byte) error {
	var err error
	if len(data) < headSize || allZero(data) {
		err = os.Remove(path)
	} else {
		to := filepath.Join(r.dir, quarantineAt, fmt.Sprintf("%x-%s", r.incarnation, filepath.Base(path)))
		r.log.Warn("spool segment without a readable block put in quarantine", "file", to)
		err = os.Rename(path, to)
		r.pruneQuarantine()
	}
	if err != nil {
		return core.Errorf(core.KindUnavailable, "recover the log spool "+r.dir, "%w", err)
	}
	return nil
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// index rebuilds from the blocks what a foot would say.
func (s *segment) index(data []byte) scanned {
	found, _ := scan(data, s.marker, func(at int, b []byte) error {
		var d decoder
		_ = d.block(text(b[blockHead:])) // a malformed record is counted when the segment is shipped
		s.blocks++
		s.records += uint64(blockRecords(b))
		s.lines += uint64(blockLines(b))
		type key struct {
			run     string
			attempt int
		}
		seen := map[key]bool{}
		note := func(o *core.Origin, seq uint64) {
			if k := (key{o.RunID, o.Attempt}); !seen[k] {
				seen[k] = true
				s.entries = append(s.entries, entry{run: hashRun(o.RunID), block: uint32(at), attempt: int32(o.Attempt), firstSeq: seq})
			}
		}
		for i := range d.seg.Logs {
			l := &d.seg.Logs[i]
			if s.oldest.IsZero() {
				s.oldest = l.At
			}
			note(l.Origin, l.Seq)
		}
		for _, m := range d.marks {
			note(m.origin, m.seq+1)
		}
		return nil
	})
	if s.oldest.IsZero() {
		s.oldest = s.created
	}
	return found
}

func (s *segment) setFoot(f foot, n int64) {
	s.blocks, s.records, s.lines, s.oldest, s.footLen = f.blocks, f.records, f.lines, f.oldest, n
	s.prints = fingerprints(f.entries)
}

// readCheckpoint says through which number segments are shipped, and the highest number known. It may be stale or
// missing: segments are then shipped again, which leaves their records in history once. After a restart of the machine
// nothing counts as shipped: ClickHouse does not sync new parts, so the machine may have taken them with it.
func (r *Recorder) readCheckpoint() (through, highest uint64) {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	r.bootID = strings.TrimSpace(string(boot))
	if r.bootID == "" {
		r.bootID = "unknown"
	}
	b, err := os.ReadFile(filepath.Join(r.dir, checkpointAt))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0
	}
	line, sum, ok := strings.Cut(strings.TrimSuffix(string(b), "\n"), " crc ")
	var bootID string
	if err == nil && ok && sum == fmt.Sprintf("%08x", crc32.Checksum([]byte(line), castagnoli)) {
		if _, err = fmt.Sscanf(line, "gnomon-spool 1 shipped %d boot %s", &through, &bootID); err == nil {
			if bootID != r.bootID {
				r.log.Info("the machine was restarted: shipped segments still kept are shipped again", "dir", r.dir)
				return 0, through
			}
			return through, through
		}
	}
	r.log.Warn("spool checkpoint is unreadable: all segments are shipped again", "dir", r.dir)
	return 0, 0
}

func (r *Recorder) writeCheckpoint(through uint64) error {
	line := fmt.Sprintf("gnomon-spool 1 shipped %d boot %s", through, r.bootID)
	line = fmt.Sprintf("%s crc %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
	path := filepath.Join(r.dir, checkpointAt)
	if err := os.WriteFile(path+".tmp", []byte(line), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
