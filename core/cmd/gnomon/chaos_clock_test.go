//go:build linux && chaos

package main_test

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// The rule of fires and clocks, for one server and for several. A fire is decided once: by the server whose transaction
// moves the task's mark first, and by that server's own wall clock, which it read before (scheduler.pass, decide). It was
// missed if that clock showed more than missedAfter past it, whatever any other clock showed. A server whose clock is ahead
// has everything due earlier and so decides before the others; a server that is at work never leaves a fire that its clock
// has due undecided for longer than it needs, and so no fire waits for a clock that is behind.
//
// The ledger says of each decision which server took it and what its clock showed. Where that clock really stood at any
// moment is known here without Gnomon, for this test sets it.

const (
	// claimAhead is how long before its instant a fire is decided: scheduler.Options.Ahead.
	claimAhead = 200 * time.Millisecond
	// noticing is how long a server that runs may take to read the file that sets its clock: it looks each 50 ms, if the
	// machine lets it.
	noticing = 500 * time.Millisecond
	// drift is what the machine's wall clock and its monotonic one may differ by in the time of a test, and what lies between
	// an act of the test and the reading of the time beside it.
	drift = 50 * time.Millisecond
	// settling is how long after the start of a span of work a server may not have looked at what is due yet: it notices a
	// step of its clock within a second (scheduler.notice) and reads its window anew.
	settling = 2 * time.Second
	// deciding is how long a server at work may have a fire due before it has decided: a pass that failed is tried again
	// after a second, and the rest is what a loaded machine takes. It is half of missedAfter, so that no fire is missed by it.
	deciding = missedAfter / 2
	// holding is how much longer it may be if another server was stopped in the midst of a transaction: PostgreSQL ends that
	// after 5 s (idle_in_transaction_session_timeout), and until then the rows of its tasks are locked.
	holding = 5 * time.Second
	// certainly is how much later than missedAfter a server must have seen a fire for the test to be sure that it was missed: it
	// works for a while before it says that it is ready.
	certainly = missedAfter + 4*time.Second
	// looking is how long another server may not know of a task that was made on this one: the time between two scans of the
	// store (scheduler.Options.Scan), and that of one.
	looking = 11 * time.Second
	// leaving is how long a server takes to end, once it has learnt that its lease was taken away, or before it has.
	leaving = 15 * time.Second
)

// overlap gives how long a life's process ran between two moments.
func (l *life) overlap(from, to int64) (sum time.Duration) {
	for _, r := range l.ran {
		sum += time.Duration(max(0, min(to, r.to)-max(from, r.from)))
	}
	return sum
}

// moments gives when a life's clock may have shown a wall time while its process ran. By each setting there is one such
// moment, which counts if the setting held then, or had held until so lately that the process need not have noticed.
func (c *faultClock) moments(l *life, wall time.Time) (list []int64) {
	for i, m := range c.moves {
		at := c.at + int64(wall.Sub(c.base)-m.offset)
		until := int64(math.MaxInt64)
		if i+1 < len(c.moves) {
			until = c.moves[i+1].at
		}
		switch {
		case at < m.at-int64(drift):
		case at > until && (l.from > until || l.overlap(until, at) > noticing):
		case l.overlap(at-int64(drift), at+int64(drift)) > 0:
			list = append(list, at)
		}
	}
	return list
}

// surely gives the spans in which a life was certainly at work: ready, and with its lease. One that ended by itself had lost
// it a while before; one that was stopped may have, and if it was killed soon after, nobody knows.
func (l *life) surely() []span {
	until := int64(math.MaxInt64)
	if l.fenced {
		until = l.to - int64(leaving)
		if l.gone != 0 {
			until = min(until, l.gone-int64(leaving))
		}
	}
	for _, woken := range l.woken {
		if l.to != 0 && l.to-woken < int64(leaving) {
			until = min(until, woken)
		}
	}
	var spans []span
	for _, r := range l.ready {
		if r.to = min(r.to, until); r.from < r.to {
			spans = append(spans, r)
		}
	}
	return spans
}

// whose gives the life of a server by its id. One that was killed before it could be asked is found by when the id was
// made: a UUIDv7 begins with the milliseconds of the machine's own clock, and no two processes start at once.
func (v *verdict) whose(server string) *life {
	for _, n := range v.nodes {
		for _, l := range n.lives {
			if l.id == server {
				return l
			}
		}
	}
	digits := strings.ReplaceAll(server, "-", "")
	if len(digits) != 32 {
		return nil
	}
	millis, err := strconv.ParseInt(digits[:12], 16, 64)
	if err != nil {
		return nil
	}
	var found *life
	for _, n := range v.nodes {
		made := n.clock.at + int64(time.UnixMilli(millis+1).Sub(n.clock.base))
		for _, l := range n.lives {
			if l.from <= made && (l.to == 0 || made <= l.to+int64(drift)) && (found == nil || l.from > found.from) {
				found = l
			}
		}
	}
	if found == nil || found.id != "" {
		return nil
	}
	return found
}

// deciders gives the moments at which a decision may have been taken: its server ran, its clock showed what the ledger
// says, and no attempt of the run had begun. A run that was tried again or resumed may have another server than the one that
// decided: the ledger names the last.
func (v *verdict) deciders(s *subject, d decision) (list []int64) {
	by := v.whose(d.Server)
	if by == nil {
		return nil
	}
	begun, started := v.begun[d.RunID]
	// What waited, was adopted from a dead server and was cancelled before it was admitted: its claim is dated by the one, and
	// names the other.
	_, tried := v.account.attempts[key{d.RunID, 1}]
	handedOn := v.account.runs[d.RunID].Attempts > 1 || s.steps != nil || d.Decision == "started" && !tried && !started
	for _, n := range v.nodes {
		for _, l := range n.lives {
			if l != by && !handedOn {
				continue
			}
			for _, at := range n.clock.moments(l, d.Decided) {
				if !started || at <= begun+int64(drift) {
					list = append(list, at)
				}
			}
		}
	}
	return list
}

// sight gives how late an instant was when a node's clock first showed it, or more, while a process of it ran.
func (n *node) sight(instant time.Time) time.Duration {
	best, late := int64(math.MaxInt64), time.Duration(0)
	for i, m := range n.clock.moves {
		until := int64(math.MaxInt64)
		if i+1 < len(n.clock.moves) {
			until = n.clock.moves[i+1].at
		}
		at := n.clock.at + int64(instant.Sub(n.clock.base)-m.offset) // when it shows the instant
		for _, l := range n.lives {
			for _, r := range l.ran {
				from, to := max(r.from, m.at), min(r.to, until)
				if again := max(r.from, until); r.to > until && l.from <= until { // it has yet to notice, as it goes on after a stop
					to = min(r.to, again+max(0, int64(noticing-l.overlap(until, again))))
				}
				first := min(max(from, at), to) // a fire is claimed ahead: it may have been as the setting ended
				if from < to && at-int64(noticing) <= to && first < best {
					best, late = first, time.Duration(max(0, first-at))
				}
			}
		}
	}
	return late
}

// lay gives for how long, up to a moment, a server was certainly at work and had an instant of a subject due, beyond what
// another that was stopped may have held it up.
func (v *verdict) lay(s *subject, instant time.Time, moment int64) (longest time.Duration, where *node) {
	for i, n := range v.nodes {
		for _, l := range n.lives {
			for _, sp := range l.surely() {
				since := max(sp.from+int64(settling), sp.from+int64(instant.Sub(n.clock.wall(sp.from))))
				if i > 0 { // the subjects are made on the first
					since = max(since, s.made+int64(looking))
				}
				until := min(sp.to, moment)
				lay := time.Duration(until - since)
				for j, other := range v.nodes {
					for _, stop := range other.stopped {
						if j != i && stop.from < until && since < stop.to {
							lay -= min(holding, time.Duration(min(until, stop.to)-max(since, stop.from)))
						}
					}
				}
				if lay > longest {
					longest, where = lay, n
				}
			}
		}
	}
	return longest, where
}

// checkClocks: each decision was taken by a server that ran, when its own clock showed what the ledger says; what it calls
// missed was missed by that clock; and no server had it due before for longer than it needs to decide.
func (v *verdict) checkClocks(s *subject) {
	t := v.t
	t.Helper()
	for _, d := range v.account.decisions[s.name] {
		moments := v.deciders(s, d)
		if len(moments) == 0 {
			t.Errorf("%s: %s was decided (%s %s) by server %s at %s, and at no moment in which it ran did its clock show that, and the run had not begun",
				s.name, d.At, d.Decision, d.Reason, d.Server, d.Decided)
			continue
		}
		if s.grid() == (grid{}) || d.Series != "" {
			continue
		}
		late := d.Decided.Sub(d.At)
		if d.Reason == "catch_up" && late <= missedAfter {
			t.Errorf("%s: %s was skipped as missed %s late by the clock of its server", s.name, d.At, late)
		}
		if !s.clean { // decided again as it is admitted, when its timer has run, whatever the clock shows by then
			continue
		}
		if d.Decision == "started" && d.Trigger == "schedule" {
			if late < -claimAhead {
				t.Errorf("%s: %s was decided %s before it by the clock of its server", s.name, d.At, -late)
			}
			if late > missedAfter {
				t.Errorf("%s: %s was started as if in time %s late by the clock of its server", s.name, d.At, late)
			}
			if seen := v.whose(d.Server).node.sight(d.At); seen > certainly {
				t.Errorf("%s: %s was started as if in time, and the clock of its server had shown %s more before", s.name, d.At, seen)
			}
		}
		if d.Trigger == "catch_up" && s.input.Policies.CatchUp == "all" { // decided with what was skipped before it, and admitted at its own time
			continue
		}
		lay, where := v.lay(s, d.At, moments[0])
		for _, at := range moments[1:] {
			if other, there := v.lay(s, d.At, at); other < lay {
				lay, where = other, there
			}
		}
		if v.longest = max(v.longest, lay); lay > deciding {
			t.Errorf("%s: %s was decided (%s %s) by server %s at %s, and %s was at work and had it due for %s before",
				s.name, d.At, d.Decision, d.Reason, d.Server, d.Decided, where.name, lay)
		}
	}
}

// checkCatchUp: what was missed starts as the policy says, and nothing else is taken for missed.
func (v *verdict) checkCatchUp(s *subject) {
	t := v.t
	t.Helper()
	g, policy := s.grid(), s.input.Policies.CatchUp
	all := v.reaches(s)
	gaps := 0
	first, claimed := time.Time{}, time.Time{} // of the missed ones that were decided together: the first, and the clock then
	for i, r := range all {
		switch {
		case r.Reason == "catch_up":
			gaps++
			first, claimed = r.At, r.Decided
			caught := 0
			for _, n := range all[i+1:] {
				if n.Trigger != "catch_up" || n.Decision != "started" {
					break
				}
				caught++
			}
			if want := map[string]int{"none": 0, "latest": 1, "all": catchUpLimit}[policy]; caught < want {
				t.Errorf("%s: after what was missed from %s to %s %d started, at least %d should have", s.name, r.At, r.Through, caught, want)
			}
		case r.Decision == "skipped":
			t.Errorf("%s: %s was skipped for %s", s.name, r.At, r.Reason)
		case r.Trigger == "catch_up":
			if claimed.IsZero() { // nothing was skipped with it
				first, claimed = r.At, r.Decided
			}
			late, after := claimed.Sub(r.At), g.through(claimed)-r.last-1
			switch {
			case claimed.Sub(first) <= missedAfter:
				t.Errorf("%s: %s was caught up, and by the clock of its server nothing was missed: it was %s late", s.name, r.At, claimed.Sub(first))
			case policy == "none":
				t.Errorf("%s: %s was started %s late", s.name, r.At, late)
			case policy == "latest" && after > 0:
				t.Errorf("%s: %s was started %s late, and it was not the latest: %d were later", s.name, r.At, late, after)
			case policy == "all" && (late < 0 || late > catchUpWindow || after >= catchUpLimit):
				t.Errorf("%s: %s was started %s late, and %d were later", s.name, r.At, late, after)
			}
			continue
		}
		if r.Reason != "catch_up" {
			first, claimed = time.Time{}, time.Time{}
		}
	}
	if policy == "none" && s.step == time.Second {
		t.Logf("%s: %d gaps", s.name, gaps)
	}
}
