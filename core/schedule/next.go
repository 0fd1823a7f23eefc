package schedule

import (
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

const (
	horizon = period              // how far Next looks ahead: after 400 years the calendar repeats
	maxGap  = 3 * 60 * 60         // the longest gap whose missing times are made up for
	reach   = 2 * daySeconds      // how far apart two instants with the same local time can be; the largest step ever was 24 h
	endSec  = int64(253402300799) // 9999-12-31T23:59:59Z, the last second RFC 3339 can write
)

// cron is a cron expression in a zone. Its methods read the line of time as segments of constant offset: within one,
// local time is plain arithmetic; where two meet, local times are missing or doubled, and the policies say what follows.
type cron struct {
	*fields
	zone      *zone
	skipGap   bool // on_gap: skip
	onOverlap string
}

// next gives the first fire strictly after a time.
func (c *cron) next(after time.Time) (Fire, bool) {
	t := after.Unix() + 1
	limit := min(t+horizon, endSec)
	if t > limit {
		return Fire{}, false
	}
	look := search{f: c.fields, limit: limit + reach}
	var buf [4]span
	for g := c.zone.at(t); ; g = g.next() {
		if t == g.start {
			if fire, ok := c.gapFire(g, &look); ok && fire.At.After(after) {
				return fire, true
			}
		}
		for _, s := range c.allowed(g, buf[:0]) {
			if at := look.next(max(s.from, t+g.offset)); at < s.to {
				if at -= g.offset; at > limit {
					return Fire{}, false
				}
				return c.fire(at), true
			}
		}
		if t = g.end; t > limit { // also where the zone never changes again
			return Fire{}, false
		}
	}
}

// prev gives the last fire in (from, to], skipped or not.
func (c *cron) prev(from, to time.Time) (Fire, bool) {
	lo, hi := from.Unix()+1, min(to.Unix(), endSec)+1 // whole seconds in [lo, hi)
	look := search{f: c.fields, limit: hi + reach}
	var buf [4]span
	for g, ok := c.zone.at(hi), true; ok; g, ok = g.prev() {
		spans := c.allowed(g, buf[:0])
		for i := len(spans) - 1; i >= 0; i-- {
			s := span{max(spans[i].from, lo+g.offset), min(spans[i].to, hi+g.offset)}
			if s.from >= s.to {
				continue
			}
			if at, ok := c.lastMatch(s); ok {
				return c.fire(at - g.offset), true
			}
		}
		if g.start < lo {
			break
		}
		if fire, ok := c.gapFire(g, &look); ok && fire.At.After(from) && !fire.At.After(to) {
			return fire, true
		}
	}
	return Fire{}, false
}

// tally gives how many fires in (from, to] can start, and how many are skipped.
func (c *cron) tally(from, to time.Time) (starts, skips int64) {
	lo, hi := from.Unix()+1, min(to.Unix(), endSec)+1 // whole seconds in [lo, hi)
	look := search{f: c.fields, limit: hi + reach}
	var buf [4]span
	for g := c.zone.at(lo); lo <= hi; g = g.next() {
		made := int64(never) // the first instant of the segment, if the fire of its gap is counted already
		if lo == g.start {
			if fire, hit := c.gapFire(g, &look); hit && fire.At.After(from) && !fire.At.After(to) {
				if fire.Skip == "" {
					starts++
					made = g.start
				} else {
					skips++
				}
			}
		}
		for _, s := range c.allowed(g, buf[:0]) {
			s = span{max(s.from, lo+g.offset), min(s.to, hi+g.offset)}
			if s.from-g.offset == made {
				s.from++
			}
			starts += c.count(s)
		}
		if lo = g.end; lo == never {
			break
		}
	}
	return starts, skips
}

// gaps gives the first instants after the gaps of the clock around (from, to], and the skipped fires in (from, to] that
// stand for them; where there is none, one that is not skipped.
func (c *cron) gaps(from, to time.Time, yield func(at time.Time, skipped Fire) bool) {
	if c.realTime {
		return
	}
	lo, hi := from.Unix()+1, min(to.Unix(), endSec)+1
	look := search{f: c.fields, limit: hi + reach}
	for g := c.zone.at(lo); g.start <= hi; g = g.next() {
		if before, ok := g.prev(); ok && g.start >= lo && g.offset > before.offset {
			fire, hit := c.gapFire(g, &look)
			if !hit || !fire.At.After(from) || fire.At.After(to) {
				fire.Skip = ""
			}
			if !yield(time.Unix(g.start, 0), fire) {
				return
			}
		}
		if g.end == never {
			return
		}
	}
}

func (c *cron) fire(u int64) Fire { return Fire{At: time.Unix(u, 0).In(c.zone.loc)} }

// gapFire gives what becomes of the local times that are missing where g begins: one fire at its first instant, or one
// skipped fire. Where the first instant after the gap fires in its own right, a skipped one stands a microsecond before
// it, because every instant has exactly one decision.
func (c *cron) gapFire(g segment, look *search) (Fire, bool) {
	before, ok := g.prev()
	if !ok || g.offset <= before.offset || c.realTime {
		return Fire{}, false
	}
	gap := span{g.start + before.offset, g.start + g.offset}
	missing := false
	for at := look.next(gap.from); at < gap.to; at = look.next(at + 1) {
		if missing = !c.exists(g, at); missing {
			break
		}
	}
	if !missing {
		return Fire{}, false
	}
	if !c.skipGap && gap.to-gap.from <= maxGap {
		return c.fire(g.start), true
	}
	fire := c.fire(g.start)
	fire.Skip = core.ReasonNonexistent
	var buf [4]span
	for _, s := range c.allowed(g, buf[:0]) {
		if s.from == gap.to && look.next(s.from) == s.from {
			fire.At = fire.At.Add(-time.Microsecond)
		}
	}
	return fire, true
}

// exists says whether a local time around the start of g comes about at all.
func (c *cron) exists(g segment, at int64) bool {
	for h := g; h.start < g.start+reach; h = h.next() {
		if s := h.local(); s.from <= at && at < s.to {
			return true
		}
		if h.end == never {
			break
		}
	}
	for h, ok := g.prev(); ok && h.end > g.start-reach; h, ok = h.prev() {
		if s := h.local(); s.from <= at && at < s.to {
			return true
		}
	}
	return false
}

// allowed gives the stretches of g's local time in which a match fires: all of it, or without what an earlier segment
// (on_overlap first) or a later one (second) has too. into is where the answer is built.
func (c *cron) allowed(g segment, into []span) []span {
	spans := append(into, g.local())
	if c.realTime || c.onOverlap == onOverlapBoth {
		return spans
	}
	if c.onOverlap == onOverlapSecond {
		for h := g; h.end < g.end+reach && h.end != never; {
			h = h.next()
			spans = without(spans, h.local())
		}
		return spans
	}
	for h, ok := g.prev(); ok && h.end > g.start-reach; h, ok = h.prev() {
		spans = without(spans, h.local())
	}
	return spans
}

// without gives spans less cut, in rising order.
func without(spans []span, cut span) []span {
	if !slices.ContainsFunc(spans, func(s span) bool { return s.from < cut.to && cut.from < s.to }) {
		return spans
	}
	kept := make([]span, 0, len(spans)+1)
	for _, s := range spans {
		for _, part := range [2]span{{s.from, min(s.to, cut.from)}, {max(s.from, cut.to), s.to}} {
			if part.from < part.to {
				kept = append(kept, part)
			}
		}
	}
	return kept
}
