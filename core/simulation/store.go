package simulation

import (
	"slices"
	"strconv"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// store is what the real store promises, without its durability: each method is one transaction.
type store struct {
	mutant   Mutant
	now      *time.Time // the true time, for the observer
	tasks    []*taskRow
	byID     map[string]*taskRow
	runs     map[string]*core.Run
	fires    map[fireKey]string // the unique key
	leases   map[string]time.Time
	holds    map[string][]core.Limit // by run
	used     map[string]int          // slots, by limit
	breakers map[string]core.Breaker
	stops    int // runs that were asked to stop
	admits   func(core.Admission, core.Standings) core.Ruling
}

type fireKey struct {
	task, series string
	at           int64
}

// version is a task as it stood for a while. It does not change.
type version struct {
	task  *core.Task
	sched *schedule.Schedule
	since time.Time // true time of the change that made it
	mark  time.Time // the first fire it decides about
}

type taskRow struct {
	*version
	nextFire time.Time
	marked   time.Time // true time when nextFire was set
	token    int64
	fired    int64
	failures int
	live     []*core.Run // in the order of their insertion
}

func newStore(mutant Mutant, now *time.Time) *store {
	return &store{
		mutant: mutant, now: now, byID: make(map[string]*taskRow), runs: make(map[string]*core.Run), fires: make(map[fireKey]string),
		leases: make(map[string]time.Time), holds: make(map[string][]core.Limit), used: make(map[string]int), breakers: make(map[string]core.Breaker),
	}
}

func runID(serial int) string {
	digits := strconv.Itoa(serial)
	return "run-00000000"[:12-len(digits)] + digits
}

func keyOf(run *core.Run) fireKey { return fireKey{run.TaskID, run.Series, run.FireAt.UnixMicro()} }

// put stores a new version of a task, with its mark.
func (s *store) put(v *version) {
	t := s.byID[v.task.ID]
	if t == nil {
		t = &taskRow{}
		s.byID[v.task.ID] = t
		s.tasks = append(s.tasks, t)
	}
	t.version = v
	s.mark(t, v.mark)
}

func (s *store) mark(t *taskRow, next time.Time) { t.nextFire, t.marked = next, *s.now }

// seal ends a task's fires.
func (s *store) seal(t *taskRow) {
	task := *t.task
	task.Enabled = false
	task.Version++
	s.put(&version{task: &task, sched: t.sched})
}

func (s *store) live() (n int) {
	for _, t := range s.tasks {
		n += len(t.live)
	}
	return n
}

func (s *store) due(until time.Time) (list []core.Due, first time.Time) {
	for _, t := range s.tasks {
		switch {
		case t.nextFire.IsZero():
		case !t.nextFire.After(until):
			list = append(list, core.Due{TaskID: t.task.ID, Version: t.task.Version, NextFire: t.nextFire})
		case first.IsZero() || t.nextFire.Before(first):
			first = t.nextFire
		}
	}
	return list, first
}

func (s *store) claim(c core.Claim) core.Claimed {
	t := s.byID[c.TaskID]
	if t.task.Version != c.Version || !t.nextFire.Equal(c.NextFire) {
		return core.Claimed{}
	}
	s.mark(t, c.Then)
	answer := core.Claimed{Won: true, Live: len(t.live), Token: t.token + 1}
	answer.Queued = c.Gated || c.Overlap != core.OverlapAllow && answer.Live > 0
	for i := range c.Runs {
		run := c.Runs[i]
		starts := run.State != core.RunEnded
		if starts {
			t.token++ // a fire that has its decision already leaves a gap
			run.Token = t.token
			if answer.Queued {
				run.State = core.RunQueued
			}
		}
		for rest := false; ; rest = true {
			if _, taken := s.fires[keyOf(&run)]; !taken {
				s.insert(t, &run)
				if starts {
					t.fired++
				}
				break
			}
			if starts {
				answer.Decided = append(answer.Decided, i)
				break
			}
			if !rest {
				if run.FireCount == 1 { // it has its decision
					break
				}
				run.FireCount-- // the rest of a range has not
			}
			run.FireAt = run.FireAt.Add(time.Microsecond) // where the rest of an older version's range may stand
		}
	}
	answer.Fired = t.fired
	return answer
}

func (s *store) insert(t *taskRow, run *core.Run) {
	s.fires[keyOf(run)] = run.ID
	s.runs[run.ID] = run
	if run.State != core.RunEnded {
		t.live = append(t.live, run)
	}
}

// enqueue inserts runs that no schedule asked for. What is there already stays as it is. onlyAlone refuses one while another
// live run is in its way.
func (s *store) enqueue(runs []core.Run, onlyAlone bool) (inserted []core.Run) {
	for i := range runs {
		run := runs[i]
		t := s.byID[run.TaskID]
		if onlyAlone && slices.ContainsFunc(t.live, func(p *core.Run) bool { return s.inTheWay(p, &run) }) {
			continue
		}
		if _, taken := s.fires[keyOf(&run)]; taken && run.Series == "" {
			run.FireAt = run.FireAt.Add(time.Microsecond)
			run.FireThrough = run.FireAt
		}
		if _, taken := s.fires[keyOf(&run)]; taken {
			continue
		}
		t.token++
		run.Token = t.token
		s.insert(t, &run)
		inserted = append(inserted, run)
	}
	return inserted
}

// inTheWay says whether a run that is asked for now would have to wait for a peer.
func (s *store) inTheWay(p, run *core.Run) bool {
	ask := core.Admission{RunID: run.ID, At: run.StartAt, Overlap: core.OverlapSkip, Patient: true}
	st := core.Standings{Run: s.standing(run), Peers: []core.Standing{s.standing(p)}}
	st.Run.State = core.RunQueued
	if p.Gate == core.GateBreaker {
		ask.Breakers, st.Breakers = []core.BreakerRule{{Name: p.GateKey}}, []core.Breaker{s.breaker(p.GateKey)}
	}
	return core.Admit(ask, st).Gate == core.GateOverlap
}

func (s *store) standing(run *core.Run) core.Standing {
	return core.Standing{RunID: run.ID, State: run.State, Gate: run.Gate, FireAt: run.FireAt, StartAt: run.StartAt, Trigger: run.Trigger}
}

// breaker gives a breaker; one whose probe has come to nothing may be tried.
func (s *store) breaker(name string) core.Breaker {
	b := s.breakers[name]
	b.Name = name
	if b.State == core.BreakerHalfOpen && s.mutant != probesStay {
		if run := s.runs[b.ProbeRun]; run.State != core.RunClaimed && run.State != core.RunRunning {
			b.State, b.ProbeRun = core.BreakerOpen, ""
		}
	}
	return b
}

func (s *store) admit(a core.Admission) core.Admitted {
	run, t := s.runs[a.RunID], s.byID[a.TaskID]
	if run.State != core.RunQueued && run.State != core.RunWaiting && run.State != core.RunRetrying || run.Token != a.Token {
		return core.Admitted{Stale: true}
	}
	st := core.Standings{Run: s.standing(run)}
	for _, p := range t.live {
		if p != run {
			st.Peers = append(st.Peers, s.standing(p))
		}
	}
	for _, rule := range a.Breakers {
		st.Breakers = append(st.Breakers, s.breaker(rule.Name))
	}
	for _, l := range a.Limits {
		room := core.Room{Used: s.used[l.Key]}
		for _, p := range s.queued(l.Key) {
			if p == run {
				continue
			}
			room.Waiting++
			if p.Priority >= run.Priority {
				room.Ahead++
			}
		}
		st.Rooms = append(st.Rooms, room)
	}
	answer := core.Admitted{Ruling: s.admits(a, st)}
	switch {
	case answer.Start:
		t.token++
		run.State, run.Owner, run.StartAt, run.Token, run.WaitUntil = core.RunClaimed, a.Owner, a.At, t.token, time.Time{}
		answer.Token = t.token
		if len(a.Limits) > 0 {
			s.holds[run.ID] = a.Limits
		}
		for _, l := range a.Limits {
			s.used[l.Key] += l.Need
		}
		for _, name := range answer.Probe {
			b := s.breaker(name)
			b.State, b.ProbeRun, b.UpdatedAt = core.BreakerHalfOpen, run.ID, a.At
			s.breakers[name] = b
		}
	case answer.Gate != core.GateNone:
		s.wait(run, answer.Gate, answer.Key, a.At, answer.Until)
	}
	return answer
}

// queued gives the runs that wait for a limit.
func (s *store) queued(limit string) (list []*core.Run) {
	for _, t := range s.tasks {
		for _, p := range t.live {
			if p.State == core.RunWaiting && p.Gate == core.GateCapacity && p.GateKey == limit {
				list = append(list, p)
			}
		}
	}
	return list
}

func (s *store) wait(run *core.Run, gate core.Gate, key string, at, until time.Time) {
	if run.State == core.RunQueued {
		run.State = core.RunWaiting
	}
	if run.WaitSince.IsZero() {
		run.WaitSince = at
	}
	run.Gate, run.GateKey, run.WaitUntil = gate, key, until
}

// free gives back what an attempt held, and lets another run try a breaker it was the probe of.
func (s *store) free(run *core.Run) {
	if s.mutant == holdsStay {
		return
	}
	for _, l := range s.holds[run.ID] {
		s.used[l.Key] -= l.Need
	}
	delete(s.holds, run.ID)
	if s.mutant == probesStay {
		return
	}
	for name, b := range s.breakers { // the order does not matter: each is changed by itself
		if b.State == core.BreakerHalfOpen && b.ProbeRun == run.ID {
			b.State, b.ProbeRun = core.BreakerOpen, ""
			s.breakers[name] = b
		}
	}
}

func (s *store) end(t *taskRow, run *core.Run) {
	run.State, run.WaitUntil = core.RunEnded, time.Time{}
	t.live = slices.DeleteFunc(t.live, func(r *core.Run) bool { return r == run })
}

func (s *store) skip(k core.Skip) core.Finished {
	run, t := s.runs[k.RunID], s.byID[k.TaskID]
	if run.State != core.RunQueued && run.State != core.RunWaiting && run.State != core.RunClaimed || run.Token != k.Token {
		return core.Finished{Stale: true}
	}
	if run.StartedAt.IsZero() && (run.Trigger == core.TriggerSchedule || run.Trigger == core.TriggerCatchUp) {
		t.fired--
	}
	run.Verdict, run.Reason, run.EndedAt = core.Skipped, k.Reason, k.DecidedAt
	s.free(run)
	s.end(t, run)
	s.move(t, k.NextFire, k.Version)
	return core.Finished{}
}

// move sets the mark of an @after task, if it is still as whoever sets it saw it.
func (s *store) move(t *taskRow, nextFire time.Time, version int64) {
	if !nextFire.IsZero() && t.task.Version == version {
		s.mark(t, nextFire)
	}
}

func (s *store) finish(f core.Finish) core.Finished {
	run, t := s.runs[f.RunID], s.byID[f.TaskID]
	if run.State == core.RunEnded || run.Token != f.Token && s.mutant != tokensIgnored {
		return core.Finished{Stale: true}
	}
	var answer core.Finished
	for _, rule := range f.Breakers {
		before := s.breakers[rule.Name]
		if after, moved := before.After(rule, run.ID, f.Outcome, f.EndedAt); moved {
			s.breakers[rule.Name] = after
			if after.State != before.State {
				answer.Breakers = append(answer.Breakers, after)
			}
		}
	}
	s.free(run)
	run.StartedAt = f.StartedAt
	if !f.RetryAt.IsZero() {
		t.token++
		run.State, run.StartAt, run.Attempt, run.Token, run.Owner = core.RunRetrying, f.RetryAt, run.Attempt+1, t.token, f.Owner
		run.Gate, run.GateKey, run.WaitSince, run.WaitUntil = "", "", time.Time{}, time.Time{}
		if run.Stop == core.StopSupersede {
			run.Stop = ""
		}
		answer.Token = t.token
		return answer
	}
	run.Verdict, run.EndedAt = f.Outcome.Verdict, f.EndedAt
	s.end(t, run)
	switch {
	case run.Verdict == core.Succeeded:
		t.failures = 0
	case run.Verdict.Failure():
		t.failures++
	}
	s.move(t, f.NextFire, f.Version)
	if f.StopAfter > 0 && run.Verdict.Failure() && t.failures >= f.StopAfter && t.task.Enabled && s.mutant != neverStops {
		task := *t.task
		task.Enabled, task.DisabledReason = false, "stop_on_error: run "+run.ID
		task.Version++
		answer.Disabled = task.DisabledReason
		s.put(&version{task: &task, sched: t.sched})
	}
	times := 1
	if s.mutant == causedTwice {
		times = 2
	}
	for range times {
		for _, then := range f.Then {
			if s.mutant == causedTwice {
				then.ID += "'" + strconv.Itoa(len(s.runs))
				then.FireAt = then.FireAt.Add(time.Duration(len(s.runs)) * time.Microsecond)
			}
			if then.State == core.RunEnded {
				if s.mutant != skippedUnsaid {
					s.insert(s.byID[then.TaskID], &then)
				}
				continue
			}
			answer.Then = append(answer.Then, s.enqueue([]core.Run{then}, false)...)
		}
	}
	return answer
}

// owned gives the live runs of an owner.
func (s *store) owned(owner string) (list []core.Run) {
	for _, t := range s.tasks {
		for _, run := range t.live {
			if run.Owner == owner {
				list = append(list, *run)
			}
		}
	}
	return list
}

// orphans fences the servers whose lease has ended, and gives the live runs of servers that are not registered.
func (s *store) orphans(now time.Time, asker string) (list []core.Run) {
	for id, until := range s.leases {
		if id != asker && !until.After(now) {
			delete(s.leases, id)
		}
	}
	for _, t := range s.tasks {
		for _, run := range t.live {
			if _, alive := s.leases[run.Owner]; !alive && (s.mutant != waitersForgotten || run.State != core.RunWaiting) {
				list = append(list, *run)
			}
		}
	}
	return list
}

func (s *store) adopt(runID string, token int64, owner string, resume bool) (int64, bool) {
	run := s.runs[runID]
	if run.State == core.RunEnded || run.Token != token {
		return 0, false
	}
	t := s.byID[run.TaskID]
	if resume {
		s.free(run)
		run.State = core.RunRetrying
	}
	run.Owner = owner
	if s.mutant != tokensKept {
		t.token++
		run.Token = t.token
	}
	return run.Token, true
}

func (s *store) stop(runID string, how core.Stop) {
	strength := func(h core.Stop) int {
		return slices.Index([]core.Stop{"", core.StopSupersede, core.StopCancel, core.StopTerminate}, h)
	}
	if run := s.runs[runID]; run.State != core.RunEnded && strength(how) > strength(run.Stop) {
		run.Stop = how
		s.stops++
	}
}
