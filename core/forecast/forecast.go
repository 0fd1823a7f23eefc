// Package forecast looks at the days to come: which fires there will be, how many run side by side by the durations that
// history lets one expect, what collides and waits, and how fires could be moved apart. It is pure: no I/O, no clock, no
// goroutines. Its answers are bounded in time and memory, whatever the number of tasks and fires. DESIGN.md says how.
package forecast

import (
	"cmp"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// MaxSpan is how far a forecast looks at most; Report.To says how far it did.
const MaxSpan = 31 * 24 * time.Hour

// Bounds of what is looked at fire by fire. Tasks beyond them are counted instead.
const (
	maxDrawn   = 4_000_000  // instants of different schedules that are held, 4 bytes each
	maxFires   = 12_000_000 // fires of all tasks that are laid side by side
	mostOften  = 30         // seconds: a task that fires more often is only counted
	maxListed  = 100        // tasks named in one collision
	defaultTop = 20
)

// Task is an enabled task as the forecast sees it.
type Task struct {
	ID        string
	Namespace string
	Name      string
	Schedule  core.Schedule      // as it is stored: what Spread changes
	Plan      *schedule.Schedule // what it means; nil: it cannot be read
	Pause     core.Pause
	Next      time.Time    // its mark: the first instant not yet decided; zero: not known
	MaxRuns   int          // how many runs its schedule starts in all; 0: no limit
	Fired     int64        // how many of these it has started before Next
	Usual     core.Usual   // how long its runs took lately; Count 0: nothing is known
	Limits    []core.Limit // what a run takes of what others want too: pools, its namespace, its type
	Priority  int
	FinishBy  string   // the local time of its zone by which a run is to have ended, the first at or after its instant; "": none
	Host      string   // where it runs; "": not known
	After     []string // ids of the tasks whose runs start it when they end as they should, each once
	Steps     []Step   // of a workflow
}

// start gives when a fire of the task's schedule starts, as the scheduler has it.
func (t *Task) start(instant time.Time) time.Time {
	return instant.Add(schedule.Jitter(t.ID, instant, t.Schedule.Jitter))
}

// Input is what a forecast is made of.
type Input struct {
	Tasks    []Task
	From, To time.Time      // From <= instant < To, from the minute of From on
	Bucket   time.Duration  // at least a minute; 0: an hour
	Assume   time.Duration  // how long runs take of which nothing is known; 0: one second
	Top      int            // how many collisions are listed; 0: 20
	Zone     *time.Location // of times in texts; nil: UTC
	Order    []Order        // what Spread must not turn around
	List     int            // how many fires Forecast lists one by one; 0: none
	Of       string         // id of the only task whose fires are listed; "": those of all
}

// Order says that fires of task After come at least Gap after those of task Before (ids).
type Order struct {
	Before, After string
	Gap           time.Duration
}

// Ref names a task.
type Ref struct {
	ID, Namespace, Name string
}

// Report is what is to come.
type Report struct {
	From, To time.Time
	Bucket   time.Duration
	Tasks    int // that fire at all
	Group        // of all tasks; its name is empty
	Buckets  []Bucket
	ByTask   []TaskForecast // those that fire, or would but for calendars; the busiest first
	Listed   []Fire         // the first Input.List fires, in time
	More     int64          // fires that are left off after these

	Namespaces []Group
	Hosts      []Group // without the tasks whose host is not known
	Limits     []LimitForecast

	Skipped    int64 // fires that the calendars or the clock refuse
	Paused     int64 // fires that a pause covers
	Counted    int   // tasks that fire too often to be looked at fire by fire: they are in the numbers, and in no peak
	Unmeasured int   // tasks whose durations are not known: Input.Assume stands for them
	UsedUp     int   // tasks whose schedule ends in this time, or has ended, because it has had its MaxRuns
	Unforeseen int   // tasks that nothing starts in this time but people: @manual ones that neither follow others nor are steps
	Unreadable int   // tasks whose schedule cannot be read
	Unfollowed int   // links of chains and workflows that are not followed: there are too many ways through them
}

// Group is what tasks together bring.
type Group struct {
	Name        string
	Fires       int64   // of schedules, and what they bring: ends of runs others, workflows their steps
	Busy        float64 // how many run side by side on average
	Peak        int     // most that run side by side
	PeakAt      time.Time
	PeakStarts  int // most that start in one minute
	PeakStartAt time.Time
	PeakSecond  int // most that start in one second
	Collisions  []Collision
}

// Bucket is a piece of the time looked at.
type Bucket struct {
	At      time.Time
	Fires   int64
	Skipped int64
	Busy    float64 // how many run side by side on average
	Peak    int     // most that run side by side
	Starts  int     // most that start in one minute
}

// Collision is a set of tasks that start in the same minute, once or again and again. What one fire brings (a workflow its
// steps, an end the next of the chain) does not collide with itself.
type Collision struct {
	At     time.Time // the first such minute
	Times  int       // how many there are
	Starts int       // fires in it
	Same   int       // most of them in one second
	Load   time.Duration
	Tasks  []Colliding // at most 100, the longest first
	More   int         // others
}

// Colliding is a task in a collision.
type Colliding struct {
	Ref
	Fires    int           // in the minute
	Expected time.Duration // of a run; 0: not known
}

// drawn is a task with its fires, or with their number only: those of its schedule, or those that fires of a schedule bring
// in one way.
type drawn struct {
	*Task
	index   int
	rest    rest          // of the root: which of its schedule's fires MaxRuns lets come
	root    *drawn        // whose schedule it is: itself, or that of the first of the chain
	cause   *drawn        // what brings its fires; nil: its own schedule
	after   time.Duration // since the root's start
	step    bool          // its runs are steps of a workflow
	early   []int32       // of what brings others: seconds before the beginning, below 0, rising
	offs    []int32       // seconds from the beginning, rising; nil if it is counted
	fires   int64
	skipped int64
	counted bool
	took    time.Duration // expected of one run
	mix     uint64
}

// canvas is what all parts of a forecast share.
type canvas struct {
	in      Input
	from    time.Time
	seconds int
	minutes int
	report  Report
	tasks   []*drawn // what one schedule brings stands together
	sheet   sheet

	byID       map[string]int
	dependents map[int][]int
	expected   []expectation
	caused     int
	held, laid int64 // instants that are kept, and fires
}

// Forecast looks ahead. It takes well under a second for 10,000 tasks and a week.
func Forecast(in Input) Report {
	c := draw(in)
	c.sheet = newSheet(c.minutes)
	c.report.Group = c.group("", c.tasks, c.buckets)
	c.report.Namespaces = c.groups(func(d *drawn) string { return d.Namespace })
	c.report.Hosts = c.groups(func(d *drawn) string { return d.Host })
	c.limits()
	c.byTask()
	c.list()
	return c.report
}

// draw settles what is looked at, and lays out the fires.
func draw(in Input) *canvas {
	in.Assume = cmp.Or(in.Assume, time.Second)
	in.Top = cmp.Or(in.Top, defaultTop)
	in.Bucket = max(cmp.Or(in.Bucket, time.Hour), time.Minute)
	if in.Zone == nil {
		in.Zone = time.UTC
	}
	c := &canvas{in: in, from: in.From.UTC().Truncate(time.Minute)}
	to := in.To.UTC()
	if most := c.from.Add(MaxSpan); to.After(most) {
		to = most
	}
	span := max(0, to.Sub(c.from))
	c.minutes = int((span + time.Minute - 1) / time.Minute)
	c.seconds = c.minutes * 60
	c.report.From, c.report.To, c.report.Bucket = c.from, c.from.Add(span), in.Bucket
	for at := c.from; at.Before(to); at = at.Add(in.Bucket) {
		c.report.Buckets = append(c.report.Buckets, Bucket{At: at})
	}
	c.links()
	c.lay(to)
	return c
}

// key gives tasks with the same fires the same key.
func (d *drawn) key() string {
	t, s := d.Task, d.Schedule
	name := ""
	if s.Spec == "" || slices.ContainsFunc([]byte(s.Spec), func(b byte) bool { return b == 'H' }) {
		name = t.ID + "/" + t.Name // H is spread by the name; without a spec nothing says what the plan is
	}
	written := name + "|" + s.Spec + "|" + s.Dialect + "|" + s.Zone + "|" + s.OnGap + "|" + s.OnOverlap + "|" + s.OnDayOff
	if d.rest.ends {
		written += "|" + d.rest.first.Format(time.RFC3339Nano) + "|" + d.rest.last.Format(time.RFC3339Nano)
	}
	for _, t := range []time.Time{s.From, s.Until} {
		written += "|" + t.UTC().Format(time.RFC3339Nano)
	}
	if t.Plan.Kind() == schedule.Every {
		written += "|" + s.Anchor.UTC().Format(time.RFC3339Nano)
	}
	for _, list := range [][]string{s.OnlyOn, s.NotOn} {
		written += "|"
		for _, calendar := range list {
			written += calendar + ","
		}
	}
	return written
}

// pattern is the fires of one schedule.
type pattern struct {
	plan    *schedule.Schedule
	rest    rest
	fires   int64 // skipped ones among them
	offs    []int32
	skipped int64
	drawn   bool
	refused bool // too many
}

// lay finds every task's fires. Sparse schedules are looked at first, so that what does not fit is what fires most.
func (c *canvas) lay(to time.Time) {
	patterns := map[string]*pattern{}
	type pair struct {
		d *drawn
		p *pattern
	}
	var pairs []pair
	var roots []*drawn // with what they bring
	for i := range c.in.Tasks {
		t := &c.in.Tasks[i]
		switch {
		case t.Plan == nil:
			c.report.Unreadable++
			continue
		case t.Plan.Kind() == schedule.Manual:
			continue
		}
		d := c.drawn(i)
		if d.rest = c.rest(d); d.rest.ends {
			c.report.UsedUp++
		}
		if c.brings(i) {
			roots = append(roots, d)
		}
		if t.Plan.Kind() == schedule.After {
			c.layAfter(d, to)
			continue
		}
		k := d.key()
		p := patterns[k]
		if p == nil {
			p = &pattern{plan: t.Plan, rest: d.rest, fires: t.Plan.Count(d.rest.within(c.edges()))}
			patterns[k] = p
		}
		if p.fires > 0 {
			pairs = append(pairs, pair{d, p})
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.p.fires, b.p.fires) })
	for _, x := range pairs {
		p := x.p
		if !p.drawn && !p.refused {
			if p.refused = p.fires > int64(c.seconds/mostOften) || c.held+p.fires > maxDrawn; !p.refused {
				c.draw(p, to)
				c.held += p.fires
			}
		}
		if p.refused || c.laid+p.fires > maxFires {
			x.d.counted, x.d.fires = true, p.fires
			c.pauseCounted(x.d, p.plan)
		} else {
			c.laid += p.fires
			x.d.offs, x.d.skipped = p.offs, p.skipped
			c.pause(x.d)
			c.jitter(x.d, to)
			x.d.fires = int64(len(x.d.offs))
		}
		c.add(x.d)
	}
	for _, d := range roots {
		c.follow(d)
	}
	slices.SortStableFunc(c.tasks, func(a, b *drawn) int {
		return cmp.Or(cmp.Compare(a.root.index, b.root.index), cmp.Compare(a.index, b.index))
	})
}

func (c *canvas) drawn(i int) *drawn {
	d := &drawn{Task: &c.in.Tasks[i], index: i, took: c.expect(i).took, mix: mix(uint64(i) + 1)}
	d.root = d
	return d
}

// edges gives the time looked at as the schedules want it: (from, to].
func (c *canvas) edges() (from, to time.Time) {
	return c.from.Add(-time.Microsecond), c.report.To.Add(-time.Microsecond)
}

func (c *canvas) add(d *drawn) {
	c.report.Skipped += d.skipped
	if d.fires > 0 || d.skipped > 0 {
		c.tasks = append(c.tasks, d)
	}
}

// draw walks over the fires of a schedule.
func (c *canvas) draw(p *pattern, to time.Time) {
	p.drawn = true
	p.offs = make([]int32, 0, p.fires)
	for at, end := p.rest.within(c.from.Add(-time.Microsecond), to.Add(-time.Microsecond)); ; {
		fire, ok := p.plan.Next(at)
		if !ok || fire.At.After(end) {
			return
		}
		at = fire.At
		off := at.Sub(c.from)
		if fire.Skip != "" {
			p.skipped++
			if i := int(off / c.in.Bucket); i < len(c.report.Buckets) {
				c.report.Buckets[i].Skipped++
			}
			continue
		}
		p.offs = append(p.offs, int32(off/time.Second))
	}
}

// layAfter lays out a task of fixed delay as if each run took as long as it usually does.
func (c *canvas) layAfter(d *drawn, to time.Time) {
	step := d.Plan.After() + d.took
	at := d.Next
	if at.Before(c.from) {
		at = c.from
	}
	if d.rest.ends && d.rest.last.Before(to) {
		to = d.rest.last.Add(time.Microsecond)
	}
	if n := int64((max(0, to.Sub(at)) + step - 1) / step); n > int64(c.seconds/mostOften) {
		d.counted, d.fires = true, n
		c.add(d)
		return
	}
	for ; at.Before(to); at = at.Add(step) {
		d.offs = append(d.offs, int32(at.Sub(c.from)/time.Second))
	}
	c.pause(d)
	d.fires = int64(len(d.offs))
	c.add(d)
}

// jitter puts in place of the fires of a task with jitter their starts before to. It walks over the fires anew: the jitter goes
// by the very instant, which offs have only to the second, and what fires before the beginning may start after it.
func (c *canvas) jitter(d *drawn, to time.Time) {
	if d.Schedule.Jitter <= 0 {
		return
	}
	starts := make([]int32, 0, len(d.offs))
	for at := c.from.Add(-d.Schedule.Jitter - time.Microsecond); ; {
		fire, ok := d.Plan.NextStart(at)
		if !ok || !fire.At.Before(to) || d.rest.over(fire.At) {
			break
		}
		at = fire.At
		if start := d.start(at); !d.Pause.Holds(at) && !start.Before(c.from) && start.Before(to) {
			starts = append(starts, int32(start.Sub(c.from)/time.Second))
		}
	}
	slices.Sort(starts)
	d.offs = starts
}

// pause takes away the fires that the task's pause covers.
func (c *canvas) pause(d *drawn) {
	if d.Pause.Since.IsZero() {
		return
	}
	holds := func(off int32) bool { return d.Pause.Holds(c.from.Add(time.Duration(off) * time.Second)) }
	kept := make([]int32, 0, len(d.offs))
	for _, off := range d.offs {
		if holds(off) {
			c.report.Paused++
		} else {
			kept = append(kept, off)
		}
	}
	d.offs, d.early = kept, slices.DeleteFunc(d.early, holds)
}

func (c *canvas) pauseCounted(d *drawn, plan *schedule.Schedule) {
	if d.Pause.Since.IsZero() || !d.Pause.Until.IsZero() && d.Pause.Until.Before(c.from) {
		return
	}
	from, to := d.root.rest.within(c.edges())
	if d.Pause.Since.After(from) {
		from = d.Pause.Since.Add(-time.Microsecond)
	}
	if u := d.Pause.Until; !u.IsZero() && u.Before(to) {
		to = u.Add(-time.Microsecond)
	}
	n := plan.Count(from, to)
	c.report.Paused += n
	d.fires -= n
}

func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
