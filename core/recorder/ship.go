package recorder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

const (
	maxBackoff     = 5 * time.Second
	readTries      = 3  // a sealed file that cannot be read this often goes to quarantine, so that the rest goes on
	maxQuarantined = 16 // files kept in quarantine
	markWait       = 2 * time.Second
)

// Damage is what could not be read of a segment.
type Damage struct {
	Places  int   // damaged places
	Bytes   int64 // their length
	Records int64 // records the foot promises and the blocks do not hold; -1 if the foot is lost too
	NoFoot  bool  // the end of the segment is missing
}

// Any says whether anything is damaged.
func (d Damage) Any() bool { return d != Damage{} }

// Decode reads a whole segment file. The same bytes always give the same segment. What is damaged is left out and
// reported; an error means that the file is no segment at all. The segment's strings point into file, which must not be
// changed afterwards. Safe on any input.
func Decode(file []byte) (core.Segment, Damage, error) {
	h, err := parseHead(file[:min(len(file), headSize)])
	if err != nil {
		return core.Segment{}, Damage{}, core.Errorf(core.KindDamaged, "read a spool segment", "%w", err)
	}
	d, found := decode(&h, file, 0)
	damage := Damage{Places: found.badPlaces, Bytes: int64(found.badBytes + found.tail)}
	if !found.sealed {
		damage.NoFoot, damage.Records = true, -1
	} else if lost := int64(found.foot.records) - int64(d.records); lost > 0 {
		damage.Records = lost
		damage.Places = max(damage.Places, 1)
	}
	return d.seg, damage, nil
}

func decode(h *head, file []byte, lines uint64) (*decoder, scanned) {
	d := &decoder{seg: core.Segment{ID: h.id()}}
	if lines > 0 && lines <= uint64(len(file))/16 { // a line takes more than 16 bytes
		d.seg.Logs = make([]core.LoggedLine, 0, lines)
	}
	malformed := 0
	found, _ := scan(file, h.marker, func(_ int, b []byte) error {
		if err := d.block(text(b[blockHead:])); err != nil {
			malformed++
		}
		return nil
	})
	found.badPlaces += malformed
	return d, found
}

// loading is a segment being decoded ahead of its turn.
type loading struct {
	seg     *segment
	done    chan struct{}
	segment core.Segment
	damage  Damage
	err     error
}

// load begins to decode a segment. The goroutine ends when the file is read.
func (r *Recorder) load(s *segment) *loading {
	l := &loading{seg: s, done: make(chan struct{})}
	r.segMu.Lock()
	path, size, lines, records, footed, footLost := s.path, s.size, s.lines, s.records, s.footLen > 0, s.footLost
	r.segMu.Unlock()
	r.workers.Go(func() {
		defer close(l.done)
		data := make([]byte, size)
		f, err := os.Open(path)
		if err == nil {
			_, err = io.ReadFull(f, data)
			_ = f.Close()
		}
		if err != nil {
			l.err = err
			return
		}
		if h, err := parseHead(data); err != nil || h.marker != s.marker {
			// The head went bad after it was read; what it said is still known.
			l.damage = Damage{Places: 1, Bytes: headSize}
		}
		d, found := decode(&s.head, data, lines)
		l.segment = d.seg
		l.damage.Places += found.badPlaces
		l.damage.Bytes += int64(found.badBytes + found.tail)
		if lost := int64(records) - int64(d.records); lost > 0 {
			l.damage.Records = lost
		}
		if footLost || footed && !found.sealed {
			l.damage.NoFoot = true
		}
	})
	return l
}

// nextToShip gives the first sealed segment that is not shipped, behind the given one if it is not nil.
func (r *Recorder) nextToShip(behind *segment) *segment {
	r.segMu.Lock()
	defer r.segMu.Unlock()
	for _, s := range r.segs {
		if s.sealed && !s.shipped && (behind == nil || s.number > behind.number) {
			return s
		}
	}
	return nil
}

// shipLoop hands sealed segments to the Shipper in order, one at a time, and decodes the next one meanwhile: at most
// two decoded segments are in memory.
func (r *Recorder) shipLoop(ctx context.Context) {
	var ahead *loading
	defer func() {
		if ahead != nil {
			<-ahead.done
		}
	}()
	for ctx.Err() == nil {
		s := r.nextToShip(nil)
		if s == nil {
			select {
			case <-r.sealed:
			case <-ctx.Done():
			}
			continue
		}
		l := ahead
		ahead = nil
		if l != nil && l.seg != s { // the one looked ahead to was set aside
			<-l.done
			l = nil
		}
		if l == nil {
			l = r.load(s)
		}
		<-l.done
		if next := r.nextToShip(s); next != nil {
			ahead = r.load(next)
		}
		r.ship(ctx, l)
	}
}

// ship writes one segment to history, for as long as it takes.
func (r *Recorder) ship(ctx context.Context, l *loading) {
	s := l.seg
	for try := 1; l.err != nil; try++ {
		if try == readTries {
			r.quarantine(s, "it cannot be read", l.err)
			return
		}
		if !r.pause(ctx, time.Duration(try)*200*time.Millisecond) {
			return
		}
		l = r.load(s)
		<-l.done
	}
	if l.damage.Any() {
		r.log.Error("spool segment is damaged; the rest of it is shipped", "segment", s.id(), "places", l.damage.Places,
			"bytes", l.damage.Bytes, "records", l.damage.Records, "no_foot", l.damage.NoFoot)
	}
	empty := len(l.segment.Logs)+len(l.segment.RunSamples)+len(l.segment.PluginSamples)+len(l.segment.HostSamples)+len(l.segment.Attempts)+len(l.segment.Servers) == 0
	for wait := 50 * time.Millisecond; !empty; wait = min(2*wait, maxBackoff) {
		began := r.clock.Now()
		err := r.shipper.WriteSegment(ctx, l.segment)
		if err == nil {
			r.shipTook.Store(int64(r.clock.Now().Sub(began)))
			break
		}
		if ctx.Err() != nil {
			return
		}
		if core.KindOf(err) == core.KindInvalid {
			r.quarantine(s, "history refuses it for ever", err)
			return
		}
		r.shipFailed(err)
		if !r.pause(ctx, wait) {
			return
		}
	}
	r.markShipped(s, empty, len(l.segment.Logs))
	if l.damage.Any() {
		r.segMu.Lock()
		r.counters.damaged++
		r.counters.damagedPlaces += int64(l.damage.Places)
		r.counters.damagedBytes += l.damage.Bytes
		r.segMu.Unlock()
		r.quarantine(s, "it is damaged", nil)
	}
}

// pause waits d and gives false if ctx ended.
func (r *Recorder) pause(ctx context.Context, d time.Duration) bool {
	over, stop := r.after(d)
	defer stop()
	select {
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *Recorder) shipFailed(err error) {
	r.segMu.Lock()
	first := r.counters.shipErr == nil
	r.counters.shipErr = err
	if first {
		r.counters.shipErrSince = r.clock.Now()
	}
	r.segMu.Unlock()
	if first {
		r.log.Warn("history does not take segments; the spool keeps them", "err", err)
	}
}

func (r *Recorder) markShipped(s *segment, empty bool, lines int) {
	now := r.clock.Now()
	r.segMu.Lock()
	s.shipped, s.shippedAt = true, now
	c := &r.counters
	if !empty {
		c.segmentsShipped++
		c.lastShipped = now
		r.delivered(now, uint64(lines))
	}
	failed := c.shipErr != nil
	c.shipErr = nil
	r.segMu.Unlock()
	if failed {
		r.log.Info("history takes segments again")
	}
	r.saveCheckpoint(s.number)
	if r.bytes.Load() > r.maxBytes/4*3 {
		r.poke(r.crowded)
	}
}

// saveCheckpoint writes how far everything is shipped without a hole; known is a number that is shipped. A checkpoint
// that cannot be written stays stale, which is safe.
func (r *Recorder) saveCheckpoint(known uint64) {
	r.segMu.Lock()
	through := known
	for _, s := range r.segs {
		if !s.shipped {
			through = s.number - 1
			break
		}
		through = max(through, s.number)
	}
	r.segMu.Unlock()
	if err := r.writeCheckpoint(through); err != nil {
		r.log.Warn("spool checkpoint cannot be written", "err", err)
	}
}

// quarantine takes a segment out of the road and keeps its file.
func (r *Recorder) quarantine(s *segment, why string, cause error) {
	r.segMu.Lock()
	r.segs = slices.DeleteFunc(r.segs, func(o *segment) bool { return o == s })
	r.counters.quarantined++
	path := s.path
	r.segMu.Unlock()
	to := filepath.Join(r.dir, quarantineAt, s.id()+filepath.Ext(path))
	err := os.Rename(path, to)
	if err != nil {
		to = path
	}
	r.log.Error("spool segment put in quarantine", "segment", s.id(), "why", why, "file", to, "err", fmt.Sprint(cause), "move_err", fmt.Sprint(err))
	r.release(s.size)
	r.saveCheckpoint(s.number)
	r.pruneQuarantine()
}

func (r *Recorder) pruneQuarantine() {
	dir := filepath.Join(r.dir, quarantineAt)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= maxQuarantined {
		return
	}
	type kept struct {
		name string
		at   time.Time
	}
	var files []kept
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files = append(files, kept{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b kept) int { return a.at.Compare(b.at) })
	for _, f := range files[:max(0, len(files)-maxQuarantined)] {
		r.log.Warn("oldest file removed from spool quarantine", "file", f.name)
		_ = os.Remove(filepath.Join(dir, f.name))
	}
}

// release gives room back to writers.
func (r *Recorder) release(n int64) {
	r.bytes.Add(-n)
	r.mu.Lock()
	r.makeRoom()
	if len(r.gaps) > 0 {
		r.poke(r.wake)
	}
	r.mu.Unlock()
}

// retireLoop deletes shipped segments once they were kept long enough, or sooner if their room is needed.
func (r *Recorder) retireLoop(ctx context.Context) {
	every := min(max(r.keepShipped/20, 50*time.Millisecond), time.Second)
	for ctx.Err() == nil {
		tick, stop := r.after(every)
		select {
		case <-tick:
		case <-r.crowded:
		case <-ctx.Done():
		}
		stop()
		r.retire(ctx)
	}
}

func (r *Recorder) retire(ctx context.Context) {
	r.mu.Lock()
	waiting := r.waiting > 0 || len(r.gaps) > 0
	r.mu.Unlock()
	now := r.clock.Now()
	r.segMu.Lock()
	excess := int64(0) // bytes to free before their time
	switch held := r.bytes.Load(); {
	case errors.Is(r.counters.writeErr, syscall.ENOSPC), errors.Is(r.counters.writeErr, syscall.EDQUOT):
		excess = held
	case waiting && held > r.maxBytes/2 || held > r.maxBytes/4*3:
		excess = held - r.maxBytes/2
	}
	var old []*segment
	var lastGen uint64
	for _, s := range r.segs {
		if !s.shipped {
			continue
		}
		due := now.Sub(s.shippedAt) >= r.keepShipped
		if !due && excess <= 0 {
			continue
		}
		if !due {
			r.counters.retiredEarly++
		}
		excess -= s.size
		old = append(old, s)
		lastGen = max(lastGen, s.lastGen)
	}
	r.segMu.Unlock()
	if len(old) == 0 {
		return
	}
	if !r.carry(ctx, lastGen) {
		return
	}
	r.segMu.Lock()
	r.segs = slices.DeleteFunc(r.segs, func(s *segment) bool { return slices.Contains(old, s) })
	var freed int64
	var paths []string
	for _, s := range old {
		freed += s.size
		paths = append(paths, s.path)
	}
	r.segMu.Unlock()
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			r.log.Warn("shipped spool segment cannot be removed", "file", path, "err", err)
		}
	}
	r.release(freed)
}

// carry repeats, in the newest segment, how many lines each open attempt has said, if the segments up to lastGen are
// all that says it: a Resume after a crash must number on. It gives false once no more records are taken.
func (r *Recorder) carry(ctx context.Context, lastGen uint64) bool {
	r.mu.Lock()
	if !r.accepting {
		r.mu.Unlock()
		return false
	}
	marked := false
	for a := range r.open {
		if a.lastGen <= lastGen {
			a.mark()
			marked = true
		}
	}
	r.mu.Unlock()
	if !marked {
		return true
	}
	// A disk that is full may need the very room this would free: do not wait for ever.
	limited, cancel := context.WithTimeout(ctx, markWait)
	defer cancel()
	if err := r.FlushAll(limited); err != nil {
		r.log.Warn("line counts of open attempts are not on disk before their segment goes", "err", err)
	}
	return true
}
