//go:build linux && chaos

package main_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stint is one attempt as the witness saw it.
type stint struct {
	of      *subject
	run     string
	fire    time.Time
	attempt int
	token   int64
	pid     int
	from    int64 // CLOCK_MONOTONIC, as all times here
	to      int64 // its end, or the death of its process
	ended   bool  // by itself: it left a line
	valid   int64 // its token may be stale after this: its server was stopped for so long that another may take over
}

func (s stint) String() string {
	return fmt.Sprintf("%s attempt %d of run %s for %s, token %d, process %d, %.3f s to %.3f s", s.of.name, s.attempt, s.run,
		s.fire.Format(time.RFC3339Nano), s.token, s.pid, float64(s.from)/1e9, float64(s.to)/1e9)
}

// succeeded says whether it did: the same hash that Bench.Work goes by.
func (s stint) succeeded() bool {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", s.run, s.attempt))
	return s.ended && float64(binary.BigEndian.Uint64(sum[:])>>11)/(1<<53) >= s.of.rate
}

// deathSeen is how much later than a plugin's end its death may be noted.
const deathSeen = 150 * time.Millisecond

// stints reads a subject's evidence, in the order of the starts.
func (c *chaos) stints(s *subject) []stint {
	c.t.Helper()
	if s.path == "" {
		return nil
	}
	text, err := os.ReadFile(s.path)
	if err != nil && !s.yearly && s.step < time.Minute {
		c.t.Errorf("%s left no evidence: %v", s.name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []stint
	open := map[string]int{}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) != 7 {
			c.t.Fatalf("%s: torn evidence %q", s.name, line)
		}
		st := stint{of: s, run: f[6]}
		_, process, _ := strings.Cut(f[4], "/")
		var errs [5]error
		st.fire, errs[0] = time.Parse(time.RFC3339Nano, f[1])
		st.attempt, errs[1] = strconv.Atoi(f[2])
		st.token, errs[2] = strconv.ParseInt(f[3], 10, 64)
		st.from, errs[3] = strconv.ParseInt(f[5], 10, 64)
		st.pid, errs[4] = strconv.Atoi(process)
		for _, err := range errs {
			if err != nil {
				c.t.Fatalf("%s: evidence %q: %v", s.name, line, err)
			}
		}
		id := fmt.Sprintf("%s/%d/%d/%d", st.run, st.attempt, st.token, st.pid)
		i, began := open[id]
		switch {
		case f[0] == "start" && !began:
			open[id] = len(all)
			all = append(all, st)
		case f[0] == "end" && began && !all[i].ended:
			all[i].to, all[i].ended = st.from, true
		default:
			c.t.Errorf("%s: evidence out of order: %q", s.name, line)
		}
	}
	now := instantNow()
	for i := range all {
		st := &all[i]
		if !st.ended {
			switch death, seen := c.deaths[st.pid]; {
			case !seen: // it lived too short to be noticed
				st.to = st.from
			case death == 0:
				c.t.Errorf("%s has not ended, and its process lives", st)
				st.to = now
			default:
				st.to = max(st.from, death-int64(deathSeen))
			}
		}
		st.valid = st.to
		if n := c.servers[st.pid]; n != nil && len(c.nodes) > 1 {
			for _, stop := range n.stopped {
				// The lease was renewed at most a third of its length before.
				lost := max(stop.from, st.from) + int64(c.lease*2/3-500*time.Millisecond)
				if stop.from < st.to && st.from < stop.to && lost < stop.to {
					st.valid = max(st.from, min(st.valid, lost))
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b stint) int { return cmp.Compare(a.from, b.from) })
	return all
}

// crowd fails if more is used side by side than may: each stint weighs something.
func (c *chaos) crowd(what string, all []stint, most int, weight func(stint) int) {
	c.t.Helper()
	var now []stint
	for _, st := range all { // in the order of their starts
		now = slices.DeleteFunc(now, func(o stint) bool { return o.valid <= st.from })
		now = append(now, st)
		used := 0
		for _, o := range now {
			used += weight(o)
		}
		if used > most {
			c.t.Errorf("%s: %d side by side, at most %d may be: %s", what, used, most, now)
		}
	}
}

// verdict is everything that is known after the calm, from inside and outside.
type verdict struct {
	*chaos
	account *account
	stints  map[*subject][]stint
	all     []stint
	ends    map[*subject]ending
	begun   map[string]int64 // by run: when its first attempt began
	longest time.Duration    // for how long a fire lay due at a server at work, at most
	decided int64
	reasons map[string]int64
}

// ending is when a subject's schedule was given an end, and that end, by the servers' wall clock; and by which version.
type ending struct {
	edited, until time.Time
	version       int64
}

func (c *chaos) judge(a *account, ends map[*subject]ending) *verdict {
	v := &verdict{chaos: c, account: a, stints: map[*subject][]stint{}, ends: ends, begun: map[string]int64{}, reasons: map[string]int64{}}
	for _, n := range c.nodes {
		n.halt()
	}
	for _, s := range c.subjects {
		v.stints[s] = c.stints(s)
		v.all = append(v.all, v.stints[s]...)
	}
	slices.SortStableFunc(v.all, func(a, b stint) int { return cmp.Compare(a.from, b.from) })
	for _, st := range v.all {
		if _, before := v.begun[st.run]; !before {
			v.begun[st.run] = st.from
		}
	}
	return v
}

func (v *verdict) check() {
	v.t.Helper()
	for _, s := range v.subjects {
		v.checkOnce(s)
		v.checkLedger(s)
		v.checkClocks(s)
		if s.side > 0 {
			v.crowd(s.name, v.stints[s], s.side, func(stint) int { return 1 })
		}
		if s.clean {
			v.checkCatchUp(s)
		}
		if s.after != nil {
			v.checkDependents(s)
		}
		if s.steps != nil {
			v.checkWorkflow(s)
		}
		if s.follows != nil {
			v.checkStep(s)
		}
	}
	v.crowd("the pool", slices.DeleteFunc(slices.Clone(v.all), func(st stint) bool { return st.of.slots == 0 }), poolSlots, func(st stint) int { return st.of.slots })
	v.checkBreaker()
	runs := map[string]bool{}
	for _, st := range v.all {
		runs[st.run] = true
	}
	v.t.Logf("%d starts of %d runs witnessed, %d instants decided, skipped %v; due at a server at work for %s at most",
		len(v.all), len(runs), v.decided, sorted(v.reasons), v.longest.Round(time.Millisecond))
}

func sorted[V any](m map[string]V) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %v", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

// checkOnce: no attempt of a fire began twice, tokens rise, nothing began before its instant or without a decision.
func (v *verdict) checkOnce(s *subject) {
	t := v.t
	t.Helper()
	started := map[string]decision{}
	for _, d := range v.account.decisions[s.name] {
		if d.Decision == "started" {
			started[d.RunID] = d
		}
	}
	fires, tokens, runs, last := map[string]string{}, map[int64]stint{}, map[string]stint{}, stint{}
	for _, st := range v.stints[s] {
		fire := fmt.Sprintf("%s/%d", st.fire.Format(time.RFC3339Nano), st.attempt)
		if s.step == 0 && !s.yearly && s.follows == nil { // two upstream runs may end at once
			fire = fmt.Sprintf("%s/%d", st.run, st.attempt)
		}
		if run, twice := fires[fire]; twice {
			t.Errorf("%s began twice, as run %s before", st, run)
		}
		if other, twice := tokens[st.token]; twice {
			t.Errorf("%s has the token of %s", st, other)
		}
		if before, again := runs[st.run]; again && (st.token <= before.token || st.attempt <= before.attempt) {
			t.Errorf("%s came after %s", st, before)
		}
		if s.serial && st.token <= last.token {
			t.Errorf("%s came after %s", st, last)
		}
		if s.grid() != (grid{}) && st.fire.After(v.highest(st.from).Add(300*time.Millisecond)) {
			t.Errorf("%s began before its instant: no clock had shown more than %s", st, v.highest(st.from))
		}
		if d, ok := started[st.run]; !ok || !d.At.Equal(st.fire) {
			t.Errorf("%s began, and no decision says so: %+v", st, d)
		}
		// An attempt that began has one token for good, whoever takes its run over: it began as claimed or running, in which
		// neither an adoption nor an admission gives another (store.AdoptRun, AdmitRun); a retry does, and counts it as the
		// next attempt. Resumption alone gives an attempt a second token, and no subject's type is resumed but workflows',
		// which leave no evidence. Two servers may both record its end, under that one token.
		if a, ok := v.account.attempts[key{st.run, st.attempt}]; !ok || a.Token != st.token {
			t.Errorf("%s began, and history has of it %+v", st, a)
		}
		fires[fire], tokens[st.token], runs[st.run], last = st.run, st, st, st
	}
	if s.most > 0 && len(runs) > s.most {
		t.Errorf("%s: %d runs began, at most %d may", s.name, len(runs), s.most)
	}
	for k, a := range v.account.attempts {
		if _, seen := runs[k.run]; s.path != "" && a.Task == s.name && a.Outcome == "succeeded" && !seen {
			t.Errorf("%s: attempt %d of run %s succeeded, and nobody saw it begin", s.name, k.attempt, k.run)
		}
	}
}

// reach is the instants of a schedule that a decision covers, by their numbers.
type reach struct {
	first, last int64
	decision
}

// reaches gives the decisions about a subject's own instants, in their order.
func (v *verdict) reaches(s *subject) []reach {
	v.t.Helper()
	g := s.grid()
	var all []reach
	for _, d := range v.account.decisions[s.name] {
		if d.Series != "" {
			continue
		}
		first, nominal := g.index(d.At)
		last, too := g.index(d.Through)
		if !nominal || !too || last-first+1 != int64(d.Count) {
			v.t.Errorf("%s: the decision about %s to %s (%d instants, %s %s) is not one about its schedule", s.name, d.At, d.Through, d.Count, d.Decision, d.Reason)
			continue
		}
		all = append(all, reach{first, last, d})
	}
	slices.SortFunc(all, func(a, b reach) int { return cmp.Compare(a.first, b.first) })
	return all
}

// checkLedger: each instant of the schedule has exactly one decision, from the first to the last, and runs end.
func (v *verdict) checkLedger(s *subject) {
	t := v.t
	t.Helper()
	starts := 0
	for _, d := range v.account.decisions[s.name] {
		run, ran := v.account.runs[d.RunID]
		switch {
		case d.Decision == "started" && (!ran || d.Reason != "" || run.Task != s.name):
			t.Errorf("%s: the fire at %s was started, and history has no end of it: %+v", s.name, d.At, run)
		case d.Decision == "skipped" && (ran || d.Reason == ""):
			t.Errorf("%s: the fire at %s was skipped for %q, and history has a run of it: %+v", s.name, d.At, d.Reason, run)
		}
		v.reasons[d.Reason] += int64(d.Count)
		if d.Decision == "started" {
			starts++
		}
	}
	if s.most > 0 && starts > s.most {
		t.Errorf("%s: %d fires were started, at most %d may", s.name, starts, s.most)
	}
	if s.step == 0 && !s.yearly {
		return
	}
	g, edited, until := s.grid(), v.ends[s].edited, v.ends[s].until
	near := func(at time.Time) bool {
		return at.After(edited.Add(-3*time.Second)) && !at.After(edited.Add(time.Second))
	}
	// Once it has had its number of runs, nothing more is decided before its next change.
	next, over := int64(0), false
	for _, r := range v.reaches(s) {
		if r.first < next {
			t.Errorf("%s: %s to %s was decided (%s %s), and a part of it before", s.name, r.At, r.Through, r.Decision, r.Reason)
		}
		for i := next; i < r.first; i++ {
			if !near(g.at(i)) && !over {
				t.Errorf("%s: nothing was decided about %d instants from %s", s.name, r.first-i, g.at(i))
				break
			}
		}
		over = r.Reason == "max_runs"
		// A fire is claimed ahead of its instant: the version before may have had this one already as it was changed.
		ahead := r.Version < v.ends[s].version && !r.Through.After(edited.Add(claimAhead))
		if !r.Through.Before(until) && !ahead {
			t.Errorf("%s: %s was decided, and its schedule ended at %s", s.name, r.Through, until)
		}
		next = max(next, r.last+1)
		v.decided += r.last - r.first + 1
	}
	for i := next; g.at(i).Before(until) && !over; i++ {
		if !near(g.at(i)) {
			t.Errorf("%s: nothing was decided about the instants from %s to the end at %s", s.name, g.at(i), until)
			break
		}
	}
}

// checkDependents: each end that is meant starts one run, no other does, and it starts after that end.
func (v *verdict) checkDependents(s *subject) {
	t := v.t
	t.Helper()
	caused := map[string]string{}
	for _, d := range v.account.decisions[s.name] {
		if other, twice := caused[d.CausedBy]; twice {
			t.Errorf("%s: run %s of %s started %s and %s", s.name, d.CausedBy, s.after.name, other, d.RunID)
		}
		if d.Series != "upstream:"+d.CausedBy || d.Decision != "started" {
			t.Errorf("%s: %+v", s.name, d)
		}
		caused[d.CausedBy] = d.RunID
	}
	for id, run := range v.account.runs {
		if run.Task != s.after.name {
			continue
		}
		meant := s.on == "always" || s.on == "success" == (run.Outcome == "succeeded") && run.Outcome != "cancelled"
		if _, did := caused[id]; did != meant {
			t.Errorf("%s: run %s of %s ended as %s, and started %t", s.name, id, s.after.name, run.Outcome, did)
		}
	}
	ends := map[string]stint{} // by run: the last attempt
	for _, st := range v.stints[s.after] {
		ends[st.run] = st
	}
	began := map[string]stint{}
	for _, st := range v.stints[s] {
		if _, again := began[st.run]; !again {
			began[st.run] = st
		}
	}
	for upstream, id := range caused {
		end, ended := ends[upstream]
		start, started := began[id]
		outcome := v.account.runs[upstream].Outcome
		switch {
		case outcome == "succeeded" && (!ended || !end.succeeded()), outcome == "failed" && (!ended || !end.ended || end.succeeded()):
			t.Errorf("%s: run %s %s, and the witness saw %s", s.after.name, upstream, outcome, end)
		case started && ended && start.from < end.to:
			t.Errorf("%s began before %s had ended", start, end)
		}
	}
}

// checkWorkflow: a workflow that succeeded had each of its steps carried out.
func (v *verdict) checkWorkflow(s *subject) {
	t := v.t
	t.Helper()
	done := map[string]map[string]bool{} // step -> instants
	for _, name := range s.steps {
		done[name] = map[string]bool{}
		for _, other := range v.subjects {
			if other.name == name {
				for _, st := range v.stints[other] {
					done[name][st.fire.Format(time.RFC3339Nano)] = true
				}
			}
		}
	}
	ended := map[string]int{}
	for _, d := range v.account.decisions[s.name] {
		run := v.account.runs[d.RunID]
		if d.Decision == "started" {
			ended[run.Outcome]++
		}
		for _, name := range s.steps {
			if run.Outcome == "succeeded" && !done[name][d.At.UTC().Format(time.RFC3339Nano)] {
				t.Errorf("%s: the run for %s succeeded, and nobody saw its step %s begin", s.name, d.At, name)
			}
		}
	}
	t.Logf("%s: %s", s.name, sorted(ended))
	if ended["succeeded"] == 0 || ended["lost"] > 0 {
		t.Errorf("%s: its runs ended as %s", s.name, sorted(ended))
	}
}

// checkStep: a step has one run for each run of its workflow, which begins after all it needs has ended.
func (v *verdict) checkStep(s *subject) {
	t := v.t
	t.Helper()
	runs := map[string]string{}
	for _, st := range v.stints[s] {
		fire := st.fire.Format(time.RFC3339Nano)
		if run, ok := runs[fire]; ok && run != st.run {
			t.Errorf("%s: the step began as run %s too", st, run)
		}
		runs[fire] = st.run
		for _, need := range s.needs {
			succeeded := false
			for _, n := range v.stints[need] {
				if !n.fire.Equal(st.fire) {
					continue
				}
				if n.valid > st.from {
					t.Errorf("%s began before %s had ended", st, n)
				}
				succeeded = succeeded || n.succeeded()
			}
			if !succeeded && len(s.needs) > 1 { // the other one begins whatever has become of what it needs
				t.Errorf("%s began, and %s had not succeeded", st, need.name)
			}
		}
	}
	series := map[string]bool{}
	for _, d := range v.account.decisions[s.name] {
		if series[d.Series] || !strings.HasSuffix(d.Series, "#1") {
			t.Errorf("%s: %s more than once", s.name, d.Series)
		}
		series[d.Series] = true
	}
}

// inOrder is how far apart attempts end whose outcomes are certainly written in that order.
const inOrder = int64(200 * time.Millisecond)

// checkBreaker: as many failures in a row as open the breaker are followed by nobody until its cooldown is over. Only
// moments are judged in which no fault happened, and the breaker was certainly closed before: none of its runs has failed
// since the one that succeeded began, and none that succeeded can have been written among the failures.
func (v *verdict) checkBreaker() {
	t := v.t
	t.Helper()
	shaky := slices.DeleteFunc(slices.Clone(v.all), func(st stint) bool { return !st.of.shaky })
	ends := slices.Clone(shaky)
	slices.SortFunc(ends, func(a, b stint) int { return cmp.Compare(a.to, b.to) })
	quiet := func(from, to int64) bool {
		return !slices.ContainsFunc(v.faults, func(f span) bool { return f.from-int64(2*time.Second) < to && from < f.to+int64(5*time.Second) })
	}
	judged := 0
	for i := breakerFailures; i < len(ends); i++ {
		row := ends[i-breakerFailures : i+1] // a success and the failures after it
		good := row[0].succeeded()
		for j, st := range row {
			good = good && st.ended && (j == 0 || !st.succeeded()) && (j != 1 || st.to-row[0].to > inOrder)
		}
		since := row[0].from - int64(500*time.Millisecond) // it was let through: the breaker was closed, or this was its probe
		opened := row[breakerFailures].to
		for _, st := range ends[:i-breakerFailures] {
			good = good && (st.to < since || st.succeeded())
		}
		for _, st := range ends[i+1:] {
			good = good && (!st.succeeded() || st.to-opened > inOrder)
		}
		from, to := opened+int64(time.Second), opened+int64(breakerCooldown-500*time.Millisecond)
		if !good || !quiet(since, to) {
			continue
		}
		judged++
		for _, st := range shaky {
			if st.from > from && st.from < to {
				t.Errorf("%s began while the breaker must have been open, since %.3f s", st, float64(opened)/1e9)
			}
		}
	}
	t.Logf("%d openings of the breaker judged", judged)
}
