package core

import (
	"slices"
	"strconv"
	"time"
)

// Gate is something a run may have to wait at before it is admitted. A run passes them in the order below; what holds a
// place (capacity) comes last, so that nobody holds one while waiting for something else.
type Gate string

// The gates.
const (
	GateNone         Gate = ""
	GateOverlap      Gate = "overlap"      // earlier runs of the task; key: ""
	GatePrecondition Gate = "precondition" // a precondition that is not true yet; key: its index in the policies
	GateBreaker      Gate = "breaker"      // an open breaker; key: its name
	GateCapacity     Gate = "capacity"     // a limit that is reached; key: its name
)

// PoolUse is what a run takes of a named pool while it executes.
type PoolUse struct {
	Pool  string `json:"pool"`
	Slots int    `json:"slots,omitempty"` // 0: 1
}

// Pool is capacity that runs of any namespace share: connections of a database, licences of a program.
type Pool struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Slots       int    `json:"slots"`                 // how many are in use at most, over all servers
	MaxWaiting  int    `json:"max_waiting,omitempty"` // how many runs may wait for it; 0: 1,000
}

// DefaultMaxWaiting is how many runs may wait for one limit.
const DefaultMaxWaiting = 1000

// Limit is a number of slots that runs share, as an admission sees it: a pool, a namespace or a task type.
type Limit struct {
	Key        string // "pool:erp", "namespace:Common", "type:Common.KeepAlive"
	Slots      int    // in use at most
	Need       int    // what this run takes
	MaxWaiting int    // runs that may wait for it
}

// Holding is what the runs of a namespace hold of a limit while they execute.
type Holding struct {
	Limit     string // its key: "pool:erp"
	Namespace string
	Slots     int
}

// Downstream is something that tasks of any namespace touch, with one breaker for all of them.
type Downstream struct {
	Name        string        `json:"name"`
	Description string        `json:"description,omitempty"`
	Failures    int           `json:"failures"`         // so many failed attempts in a row, of any task, open the breaker
	Cooldown    time.Duration `json:"cooldown_ns"`      // how long it stays open before one run may try
	Probes      int           `json:"probes,omitempty"` // so many tries in a row must succeed to close it; 0: 1
}

// BreakerRule says when a breaker opens and closes.
type BreakerRule struct {
	Name     string        `json:"name,omitempty"` // "downstream:his" or "task:<id>"; empty in a definition
	Failures int           `json:"failures,omitempty"`
	Cooldown time.Duration `json:"cooldown_ns,omitempty"`
	Probes   int           `json:"probes,omitempty"` // 0: 1
}

// BreakerState is how a breaker stands.
type BreakerState string

// The states of a breaker.
const (
	BreakerClosed   BreakerState = "closed"    // runs pass
	BreakerOpen     BreakerState = "open"      // none passes before ProbeAt, then one
	BreakerHalfOpen BreakerState = "half_open" // ProbeRun tries; the others wait for what comes of it
)

// Breaker is a circuit breaker as it stands. The zero State is BreakerClosed.
type Breaker struct {
	Name      string
	State     BreakerState
	Failures  int       // attempts in a row that failed
	Successes int       // probes in a row that succeeded
	OpenedAt  time.Time // when it last opened
	ProbeAt   time.Time // open: when a run may try
	// ProbeRun is, half open, the run that tries. However that run leaves its attempt (also by a skip, or under rules that
	// name the breaker no more), the store gives After the end, as Skipped if there was none: a breaker whose probe is
	// gone would stay half open for ever.
	ProbeRun  string
	Because   string // the message of the last failure
	UpdatedAt time.Time
}

// After gives the breaker after an attempt of a run ended; moved is false if the end does not count: cancelled, lost and
// skipped attempts say nothing about what they touch, except that a probe that says nothing must be tried again. It is pure.
func (b Breaker) After(rule BreakerRule, runID string, outcome Outcome, now time.Time) (after Breaker, moved bool) {
	probe := b.State == BreakerHalfOpen && b.ProbeRun == runID
	b.Name = rule.Name
	switch v := outcome.Verdict; {
	case v == Succeeded && b.State == BreakerOpen: // it began before the breaker opened
		return b, false
	case v == Succeeded && probe:
		b.Successes++
		b.ProbeRun, b.UpdatedAt = "", now
		if b.Successes >= max(1, rule.Probes) {
			return Breaker{Name: b.Name, State: BreakerClosed, OpenedAt: b.OpenedAt, UpdatedAt: now}, true
		}
		b.State, b.ProbeAt = BreakerOpen, now
		return b, true
	case v == Succeeded && b.State == BreakerHalfOpen, v == Succeeded && b.Failures == 0:
		return b, false
	case v == Succeeded:
		b.Failures, b.UpdatedAt = 0, now
		return b, true
	case probe && (v == Cancelled || v == Lost || v == Skipped):
		b.State, b.ProbeRun, b.ProbeAt, b.UpdatedAt = BreakerOpen, "", now, now
		return b, true
	case v != Failed && v != TimedOut && v != Crashed:
		return b, false
	}
	b.Failures++
	b.Because, b.UpdatedAt = outcome.Message, now
	switch {
	case probe:
		b.State, b.ProbeRun, b.Successes, b.ProbeAt = BreakerOpen, "", 0, now.Add(rule.Cooldown)
	case b.State != BreakerOpen && b.State != BreakerHalfOpen && b.Failures >= max(1, rule.Failures):
		b.State, b.OpenedAt, b.Successes, b.ProbeAt = BreakerOpen, now, 0, now.Add(rule.Cooldown)
	}
	return b, true
}

// Admission asks whether a queued, waiting or retrying run may start now.
type Admission struct {
	RunID  string
	TaskID string
	Token  int64  // the current one
	Owner  string // the server that asks, and will execute it
	At     time.Time

	Overlap      Overlap // OverlapAllow without limit for a run that is part of the overlap already: a retry
	OverlapLimit int
	Patient      bool          // it waits where its policy would have it skipped for an overlap: see Trigger.Patient
	CatchUp      CatchUp       // whether it waits at an open breaker, and in place of whom
	CatchUpLimit int           // CatchUpAll: how many runs of the task may wait there
	CatchUpSince time.Time     // CatchUpAll: a fire before it that has waited there is caught up no more
	Apart        Ruling        // keeps a fire that a breaker lets go apart from the task's others, unless it is the breaker's probe; zero: nothing
	Breakers     []BreakerRule // all it must pass
	Limits       []Limit       // all it must fit in
	Held         Ruling        // what keeps it from starting by what the server knows, unless earlier runs do: a precondition, those who come before it in line; zero: nothing
}

// Standing is a live run of the same task, as an admission sees it.
type Standing struct {
	RunID   string
	State   RunState
	Gate    Gate
	FireAt  time.Time
	StartAt time.Time
	Trigger Trigger
}

// before is the order of a task's runs. It is total, so that of two runs exactly one makes way.
func (s Standing) before(other Standing) bool {
	if !s.FireAt.Equal(other.FireAt) {
		return s.FireAt.Before(other.FireAt)
	}
	return s.RunID < other.RunID
}

// ofSchedule says whether a later fire makes it needless. A backfilled instant, a workflow's step or what somebody asked
// for is wanted for itself.
func (s Standing) ofSchedule() bool {
	return s.Trigger == TriggerSchedule || s.Trigger == TriggerCatchUp || s.Trigger == TriggerUpstream || s.Trigger == ""
}

// wanted says that no other run makes it needless, whatever the policy, and none stops it: it is wanted for itself, and its instant is not
// that of its wish. Of runs that a person starts now the latest replaces the others, as of fires.
func (s Standing) wanted() bool { return !s.ofSchedule() && s.Trigger != TriggerManual }

// Room is how a limit stands.
type Room struct {
	Used    int // slots in use
	Waiting int // runs that wait for it, the asking one not among them
	Ahead   int // those of them with the same or a higher priority: who comes anew does not pass them
}

// Standings are what an admission is decided on, read in the transaction that writes the ruling.
type Standings struct {
	Run      Standing   // the one that asks
	Peers    []Standing // the other live runs of the task
	Breakers []Breaker  // one for each of Admission.Breakers
	Rooms    []Room     // one for each of Admission.Limits
}

// many counts things in words.
func many(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}

// Ruling answers an Admission. One of three: it starts (Start), it waits (Gate is set), or it is skipped (Reason is set).
type Ruling struct {
	Start  bool
	Probe  []string  // breakers it is the probe of
	Gate   Gate      // what it waits at
	Key    string    // which one; of a skip by a breaker or a limit: that
	Until  time.Time // when it is looked at again at the latest; zero: only when something changes
	Timed  bool      // it waits for Until, and for nobody
	Reason Reason    // why it is skipped
	Detail string    // Reason or Gate in a few English words, for the facts: "2 of 2 slots of pool:erp in use"

	Stop      []string // runs of the task that are in its way and must be stopped: cancelled or terminated by its policy
	Supersede []string // runs of the task that wait and whose place it takes
}

// Admit decides an admission. It is pure. The store calls it inside the transaction in which it read the standings and
// writes the ruling, the simulator in its model of the store.
func Admit(a Admission, s Standings) Ruling {
	probe, shut := a.breakers(s)
	if r, stays := a.overlap(s, shut >= 0); stays {
		return r
	}
	if a.Held.Gate != GateNone || a.Held.Reason != "" {
		return a.Held
	}
	if r, late := a.tooLate(s, shut); late {
		return r
	}
	if shut >= 0 {
		return a.atBreaker(s, a.Breakers[shut].Name, s.Breakers[shut])
	}
	if a.Apart.Gate != GateNone && len(probe) == 0 {
		return a.Apart
	}
	for i, l := range a.Limits {
		if r, stays := a.atLimit(s, l, s.Rooms[i]); stays {
			return r
		}
	}
	return Ruling{Start: true, Probe: probe}
}

// breakers gives the breakers that the run would be the probe of, and the index of the first that lets nobody pass, or -1.
func (a Admission) breakers(s Standings) (probe []string, shut int) {
	for i, rule := range a.Breakers {
		b := s.Breakers[i]
		switch {
		case b.State == BreakerOpen && !a.At.Before(b.ProbeAt), b.State == BreakerHalfOpen && b.ProbeRun == a.RunID:
			probe = append(probe, rule.Name)
		case b.State == BreakerOpen, b.State == BreakerHalfOpen:
			return nil, i
		}
	}
	return probe, -1
}

// overlap holds the run against the other runs of its task; stays is true if it does not pass. shut says that a breaker
// stops it anyway: then those who wait there are not in its way, and the catch-up policy decides about all of them.
func (a Admission) overlap(s Standings, shut bool) (r Ruling, stays bool) {
	if s.Run.State == RunRetrying {
		return Ruling{}, false
	}
	replaces := (a.Overlap == OverlapCancel || a.Overlap == OverlapTerminate) && !s.Run.wanted()
	inLine := a.Overlap == OverlapQueue || a.Patient && !replaces
	var ahead []Standing // what it must not start beside: all that has been admitted, and what waits and comes before it
	waiting, replaced := 0, false
	for _, p := range s.Peers {
		before := p.before(s.Run)
		switch {
		case p.State == RunQueued: // its instant has come, and it is about to ask: who stands in line lets it go first
			if inLine && before && !p.StartAt.After(a.At) {
				ahead = append(ahead, p)
				waiting++
			}
		case p.State != RunWaiting:
			ahead = append(ahead, p)
			replaced = replaced || !before && !p.wanted()
		case p.Gate == GateBreaker && shut:
		case before:
			ahead = append(ahead, p)
			waiting++
		default:
			waiting++
			replaced = replaced || p.Gate != GatePrecondition && !p.wanted() // what waits for that does not want to start yet
		}
	}
	detail := many(len(ahead), "earlier run is", "earlier runs are") + " live"
	wait := Ruling{Gate: GateOverlap, Detail: detail}
	switch {
	case replaces && replaced:
		return Ruling{Reason: ReasonSuperseded, Detail: "a later fire has taken its place"}, true
	case len(ahead) == 0, a.Overlap == OverlapAllow && (a.OverlapLimit == 0 || len(ahead) < a.OverlapLimit):
		return Ruling{}, false
	case replaces:
		for _, p := range ahead {
			switch {
			case p.wanted(): // it is waited for
			case p.State == RunWaiting:
				wait.Supersede = append(wait.Supersede, p.RunID)
			default:
				wait.Stop = append(wait.Stop, p.RunID)
			}
		}
		return wait, true
	case s.Run.State == RunWaiting, a.Patient, a.Overlap == OverlapQueue && waiting < max(1, a.OverlapLimit):
		return wait, true
	case a.Overlap == OverlapQueue:
		detail = many(waiting, "run waits", "runs wait") + " already"
	}
	return Ruling{Reason: ReasonOverlap, Detail: detail}, true
}

// tooLate is the ruling about a fire that has waited at a breaker for longer than its catch-up policy looks back.
func (a Admission) tooLate(s Standings, shut int) (r Ruling, late bool) {
	if s.Run.State != RunWaiting || s.Run.Gate != GateBreaker || !s.Run.ofSchedule() || len(a.Breakers) == 0 ||
		a.CatchUp != CatchUpAll || !s.Run.FireAt.Before(a.CatchUpSince) {
		return Ruling{}, false
	}
	return Ruling{Reason: ReasonBreaker, Key: a.Breakers[max(0, shut)].Name, Detail: "it has waited for longer than catch_up_window"}, true
}

// atBreaker is the ruling about a run that does not pass a breaker: by its catch-up policy it is skipped, or waits in
// place of the task's earlier ones, or with them. The newest stay, as many as may.
func (a Admission) atBreaker(s Standings, name string, b Breaker) Ruling {
	r := Ruling{Gate: GateBreaker, Key: name, Until: b.ProbeAt, Detail: string(b.State) + " after " + many(b.Failures, "failure", "failures")}
	if b.Because != "" {
		r.Detail += ": " + b.Because
	}
	if b.State == BreakerHalfOpen {
		r.Until = time.Time{}
	}
	if s.Run.State == RunRetrying || s.Run.wanted() {
		return r
	}
	most := 1
	switch a.CatchUp {
	case CatchUpNone:
		return Ruling{Reason: ReasonBreaker, Key: name, Detail: r.Detail}
	case CatchUpAll:
		if most = a.CatchUpLimit; most == 0 {
			most = DefaultCatchUpLimit
		}
	}
	if !s.Run.ofSchedule() {
		return r
	}
	var there []Standing
	later := 0
	for _, p := range s.Peers {
		if p.State == RunWaiting && p.Gate == GateBreaker && p.ofSchedule() {
			there = append(there, p)
			if s.Run.before(p) {
				later++
			}
		}
	}
	if later >= most {
		return Ruling{Reason: ReasonSuperseded, Detail: many(later, "later fire waits", "later fires wait") + " at " + name}
	}
	slices.SortFunc(there, func(x, y Standing) int {
		if x.before(y) {
			return -1
		}
		return 1
	})
	for _, p := range there[:max(0, len(there)+1-most)] {
		r.Supersede = append(r.Supersede, p.RunID)
	}
	return r
}

// atLimit is the ruling about a limit; stays is true if the run does not fit. Who comes anew waits behind those who do
// already, so that a run that needs much is not passed for ever by runs that need little; who waits passes as soon as it
// fits.
func (a Admission) atLimit(s Standings, l Limit, room Room) (r Ruling, stays bool) {
	fits, behind := room.Used+l.Need <= l.Slots, s.Run.Gate != GateCapacity && room.Ahead > 0
	if fits && !behind {
		return Ruling{}, false
	}
	detail := strconv.Itoa(room.Used) + " of " + strconv.Itoa(l.Slots) + " slots of " + l.Key + " in use, " + strconv.Itoa(l.Need) + " wanted"
	if s.Run.State == RunQueued && room.Waiting >= l.MaxWaiting {
		if room.Waiting > 0 {
			detail += ", and " + many(room.Waiting, "run waits", "runs wait") + " for it already"
		}
		return Ruling{Reason: ReasonCapacity, Key: l.Key, Detail: detail + ": as many wait as may"}, true
	}
	// How many are ahead is not said: that is true for a moment only, and the order of the queue says it at any time.
	return Ruling{Gate: GateCapacity, Key: l.Key, Detail: detail}, true
}
