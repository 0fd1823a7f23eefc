package recorder

import "time"

// commitLoop is the one writer of the spool: it takes what has gathered, puts it on disk and only then acknowledges it.
// A commit begins at once if the last one began SyncEvery ago or earlier, else when that time has passed: an idle spool
// answers fast, a busy one gathers.
func (r *Recorder) commitLoop() {
	defer close(r.gone)
	var last time.Time
	for {
		age, stopAge := r.untilSeal()
		stopping := false
		select {
		case <-r.wake:
		case <-age:
		case <-r.stopping:
			stopping = true
		}
		stopAge()
		if wait := r.syncEvery - r.clock.Now().Sub(last); wait > 0 && !stopping {
			due, stop := r.after(wait)
			select {
			case <-due:
			case <-r.hurry:
			case <-r.stopping:
			}
			stop()
		}
		last = r.clock.Now()
		if !r.commit() {
			return
		}
		if stopping {
			r.commit() // what gap markers of closed attempts may have added
			if r.active != nil {
				r.seal(r.active)
			}
			return
		}
		r.sealIfDue()
	}
}

// untilSeal gives a channel that tells when the open segment may be due, or nil if none is open.
func (r *Recorder) untilSeal() (<-chan struct{}, func() bool) {
	if r.active == nil {
		return nil, func() bool { return false }
	}
	wait := r.active.began.Add(r.sealAge()).Sub(r.clock.Now())
	if wait <= 0 { // it was due but the shipper is behind: look again later
		wait = r.segmentAge
	}
	return r.after(wait)
}

// sealAge is how old an open segment becomes: ten times as long as history took for the last, so that what each insert costs
// however little is in it (files, fsyncs) leaves the machine to the scheduler when it is busy, and never over four times as
// long as when it is not.
func (r *Recorder) sealAge() time.Duration {
	return min(max(10*time.Duration(r.shipTook.Load()), r.segmentAge), 4*r.segmentAge)
}

// sealIfDue seals by size, and by age unless segments wait to be shipped already: many small ones help nobody.
func (r *Recorder) sealIfDue() {
	s := r.active
	if s == nil {
		return
	}
	age := r.clock.Now().Sub(s.began)
	if s.size >= r.segmentBytes || age >= 60*r.segmentAge || age >= r.sealAge() && r.backlog() <= 2 {
		r.seal(s)
	}
}

// backlog counts the sealed segments that are not shipped.
func (r *Recorder) backlog() int {
	r.segMu.Lock()
	defer r.segMu.Unlock()
	n := 0
	for _, s := range r.segs {
		if s.sealed && !s.shipped {
			n++
		}
	}
	return n
}

// commit writes one batch and acknowledges it. It gives false if it was told to give up.
func (r *Recorder) commit() bool {
	r.mu.Lock()
	r.sayGaps()
	b := r.fill
	if len(b.buf) == 0 {
		r.mu.Unlock()
		return true
	}
	b.end()
	r.fill, r.spare = r.spare, b
	r.nextGen++
	r.fill.reset(r.nextGen)
	r.bytes.Add(int64(len(b.buf)))
	r.makeRoom()
	r.mu.Unlock()
	select { // whatever asked to hurry meant this batch
	case <-r.hurry:
	default:
	}
	began := r.clock.Now()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := r.appendBatch(b)
		if err == nil {
			break
		}
		r.writeFailed(err)
		again, stop := r.after(wait)
		select {
		case <-again:
		case <-r.abandon:
			stop()
			return false
		}
	}
	r.written(b, began)
	r.publish(b)
	close(b.done)
	r.mu.Lock()
	b.records = 0
	r.mu.Unlock()
	return true
}

// sayGaps writes the gap markers of closed attempts once there is room, or at the end without. Requires r.mu.
func (r *Recorder) sayGaps() {
	n := 0
	for ; n < len(r.gaps) && (r.hasRoom(true) || !r.accepting); n++ {
		r.gaps[n].gap()
	}
	r.gaps = r.gaps[n:]
	if len(r.gaps) == 0 {
		r.gaps = nil
	}
}

func (r *Recorder) writeFailed(err error) {
	r.segMu.Lock()
	first := r.counters.writeErr == nil
	r.counters.writeErr = err
	if first {
		r.counters.writeErrSince = r.clock.Now()
	}
	r.segMu.Unlock()
	if first {
		r.log.Error("log spool cannot be written; nothing is acknowledged until it can", "dir", r.dir, "err", err)
	}
	r.poke(r.crowded)
}

func (r *Recorder) written(b *batch, began time.Time) {
	now := r.clock.Now()
	r.segMu.Lock()
	c := &r.counters
	c.linesAcked += uint64(b.lines)
	c.recordsAcked += uint64(b.records)
	c.commits++
	c.lastCommit = now.Sub(began)
	failed := c.writeErr != nil
	c.writeErr = nil
	r.segMu.Unlock()
	if failed {
		r.log.Info("log spool can be written again", "dir", r.dir)
	}
}
