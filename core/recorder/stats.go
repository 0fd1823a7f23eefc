package recorder

import (
	"slices"
	"time"
)

// Stats is how the spool stands, for doctor and metrics. Counters count since Start.
type Stats struct {
	SpoolBytes        int64
	MaxBytes          int64
	Segments          int           // on disk, the open one included
	Unshipped         int           // of them not in history
	UnshippedBytes    int64         // their size
	OldestUnshippedAt time.Time     // when that record was said; zero if there is none
	OldestUnshipped   time.Duration // age of the oldest record not in history: the ship lag; 0 if there is none
	LastShipped       time.Time     // zero: nothing was shipped
	SegmentsShipped   uint64        // repeats included
	LinesShipped      uint64        // log lines that history has taken
	ShipRate          float64       // of them a second, over the last minute
	LinesAcked        uint64        // on disk
	RecordsAcked      uint64        // lines, samples, attempts and origins on disk
	LinesDropped      uint64        // by policy Drop
	SamplesDropped    uint64        // likewise
	GapsLost          uint64        // of LinesDropped: not said by a gap marker, because too many attempts waited for one
	Commits           uint64        // group commits
	LastCommit        time.Duration // how long the last one took
	Full              bool          // writers find no room now
	Waiting           int           // writers that wait for room
	Tails             int           // live readers
	WriteError        error         // nil: the disk takes what it is given
	WriteErrorSince   time.Time
	ShipError         error // nil: the last attempt to ship succeeded
	ShipErrorSince    time.Time
	HalfSegments      int64 // found at Start: begun, nothing acknowledged in them
	TornBytes         int64 // found at Start: cut off the end, never acknowledged
	DamagedSegments   int64 // damaged inside
	DamagedPlaces     int64
	DamagedBytes      int64
	Quarantined       int64 // segments set aside
	RetiredEarly      int64 // shipped segments that were not kept as long as asked, for want of room
	OpenAttempts      int   // attempts that have said something and are not closed
	PendingGaps       int   // closed attempts whose gap marker waits for room
	PendingBatchSize  int   // bytes gathered for the next group commit
}

// rateOver is the time over which a rate is taken.
const rateOver = time.Minute

// delivery is what history took at one time.
type delivery struct {
	at    time.Time
	lines uint64
}

// delivered notes lines that history has taken. segMu is held.
func (r *Recorder) delivered(now time.Time, lines uint64) {
	r.counters.linesShipped += lines
	r.recent = slices.DeleteFunc(r.recent, func(d delivery) bool { return now.Sub(d.at) >= rateOver })
	if n := len(r.recent); n > 0 && now.Sub(r.recent[n-1].at) < time.Second {
		r.recent[n-1].lines += lines
		return
	}
	r.recent = append(r.recent, delivery{now, lines})
}

// Stats gives how the spool stands.
func (r *Recorder) Stats() Stats {
	now := r.clock.Now()
	r.segMu.Lock()
	c := r.counters
	st := Stats{MaxBytes: r.maxBytes, Segments: len(r.segs), LastShipped: c.lastShipped, SegmentsShipped: c.segmentsShipped,
		LinesAcked: c.linesAcked, RecordsAcked: c.recordsAcked, Commits: c.commits, LastCommit: c.lastCommit,
		WriteError: c.writeErr, ShipError: c.shipErr, HalfSegments: c.halfSegments, TornBytes: c.tornBytes,
		DamagedSegments: c.damaged, DamagedPlaces: c.damagedPlaces, DamagedBytes: c.damagedBytes,
		Quarantined: c.quarantined, RetiredEarly: c.retiredEarly}
	if c.writeErr != nil {
		st.WriteErrorSince = c.writeErrSince
	}
	if c.shipErr != nil {
		st.ShipErrorSince = c.shipErrSince
	}
	for _, s := range r.segs {
		if s.shipped {
			continue
		}
		st.Unshipped++
		st.UnshippedBytes += s.size
		if st.OldestUnshippedAt.IsZero() || s.oldest.Before(st.OldestUnshippedAt) {
			st.OldestUnshippedAt = s.oldest
		}
		st.OldestUnshipped = max(st.OldestUnshipped, now.Sub(s.oldest))
	}
	st.LinesShipped = c.linesShipped
	for _, d := range r.recent {
		if now.Sub(d.at) < rateOver {
			st.ShipRate += float64(d.lines) / rateOver.Seconds()
		}
	}
	r.segMu.Unlock()
	st.SpoolBytes = r.bytes.Load()
	r.mu.Lock()
	st.LinesDropped, st.SamplesDropped, st.GapsLost = r.linesDropped, r.samplesDropped, r.gapsLost
	st.Full, st.Waiting, st.OpenAttempts = !r.hasRoom(false), r.waiting, len(r.open)
	st.PendingGaps, st.PendingBatchSize = len(r.gaps), len(r.fill.buf)
	r.mu.Unlock()
	r.tailMu.Lock()
	for _, ts := range r.tails {
		st.Tails += len(ts)
	}
	r.tailMu.Unlock()
	return st
}
