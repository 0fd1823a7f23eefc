package forecast

import (
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// maxCaused bounds the ways that lead from a schedule to what it brings: where chains part and meet again they double.
const maxCaused = 100_000

// Step is a step of a workflow: a run of another task.
type Step struct {
	Task  string    // id; a task that is not in the input cannot be started
	Needs []int     // the steps that must be over before it is decided, by index
	When  core.When // after which ends of these; "" is OnSuccess
}

// Basis is where an expected duration comes from.
type Basis string

// The bases.
const (
	FromHistory Basis = "history" // the p50 of the task's successful runs
	FromSteps   Basis = "steps"   // of a workflow that has no history: the longest way through its graph
	Assumed     Basis = "assumed" // Input.Assume: nothing is known
)

// expectation is what is expected of one run of a task.
type expectation struct {
	basis  Basis // "": not looked at yet
	took   time.Duration
	starts []time.Duration // of a workflow's steps, after its own start; below 0: it is not expected to start
}

// links finds which tasks the ends of others start.
func (c *canvas) links() {
	c.expected = make([]expectation, len(c.in.Tasks))
	c.byID = make(map[string]int, len(c.in.Tasks))
	for i := range c.in.Tasks {
		if c.in.Tasks[i].Plan != nil {
			c.byID[c.in.Tasks[i].ID] = i
		}
	}
	c.dependents = map[int][]int{}
	for i := range c.in.Tasks {
		for _, id := range c.in.Tasks[i].After {
			if upstream, ok := c.byID[id]; ok {
				c.dependents[upstream] = append(c.dependents[upstream], i)
			}
		}
	}
}

// brings says whether a run of a task is expected to bring runs of others.
func (c *canvas) brings(i int) bool { return len(c.dependents[i]) > 0 || len(c.in.Tasks[i].Steps) > 0 }

// expect says how long a run of a task is expected to take, and when its steps start.
func (c *canvas) expect(i int) *expectation {
	e, t := &c.expected[i], &c.in.Tasks[i]
	if e.basis != "" {
		return e
	}
	e.basis, e.took = Assumed, c.in.Assume // what a cycle would meet, were there one
	if len(t.Steps) > 0 {
		c.steps(e, t.Steps)
	}
	if t.Usual.Count > 0 {
		e.basis, e.took = FromHistory, t.Usual.P50
	}
	return e
}

// steps lays the steps of a workflow out, as package workflow decides them, if each run succeeds.
func (c *canvas) steps(e *expectation, list []Step) {
	type state struct {
		seen, ok, failed bool
		over             time.Duration // when it has ended, or was left out
	}
	states := make([]state, len(list))
	e.starts = make([]time.Duration, len(list))
	var visit func(k int) state
	visit = func(k int) state {
		s := &states[k]
		if s.seen {
			return *s
		}
		s.seen = true
		begin, all, failed := time.Duration(0), true, false
		for _, need := range list[k].Needs {
			n := visit(need)
			begin, all, failed = max(begin, n.over), all && n.ok, failed || n.failed
		}
		s.over, e.starts[k] = begin, -1
		starts := all
		switch list[k].When {
		case core.OnFailure:
			starts = failed
		case core.OnAlways:
			starts = true
		}
		task, known := c.byID[list[k].Task]
		if s.failed = starts && !known; starts && known {
			of := c.expect(task)
			s.ok, s.over, e.starts[k] = true, begin+of.took, begin
			if of.basis != Assumed {
				e.basis = FromSteps
			}
		}
		return *s
	}
	e.took = 0
	for k := range list {
		e.took = max(e.took, visit(k).over)
	}
}

// follow lays out what the fires of a schedule bring: the steps of workflows, and the tasks that ends of runs start, and so
// on. As the scheduler has it, a run that is a step starts no dependents. Nothing is taken to wait or to fail.
func (c *canvas) follow(root *drawn) {
	family, reach := []*drawn{root}, time.Duration(0)
	for n := 0; n < len(family); n++ {
		d := family[n]
		bring := func(i int, after time.Duration, step bool) {
			switch {
			case after > MaxSpan:
			case c.caused == maxCaused:
				c.report.Unfollowed++
			default:
				c.caused++
				reach = max(reach, after)
				next := c.drawn(i)
				next.root, next.cause, next.after, next.step = root, d, after, step
				family = append(family, next)
			}
		}
		for k, start := range c.expected[d.index].starts {
			if start >= 0 {
				bring(c.byID[d.Steps[k].Task], d.after+start, true)
			}
		}
		if !d.step {
			for _, i := range c.dependents[d.index] {
				bring(i, d.after+d.took, false)
			}
		}
	}
	if len(family) == 1 {
		return
	}
	c.before(root, reach)
	for _, d := range family[1:] {
		c.caught(d)
		c.add(d)
	}
}

// before finds the fires of a schedule before the beginning: what they bring may come after it.
func (c *canvas) before(root *drawn, reach time.Duration) {
	if root.counted || root.Plan.Kind() == schedule.After {
		return
	}
	reach = (reach + time.Second - 1).Truncate(time.Second)
	past := pattern{plan: root.Plan, rest: rest{ends: root.rest.ends, last: root.rest.last}}
	edge := canvas{in: c.in, from: c.from.Add(-reach), seconds: int(reach / time.Second)}
	edge.draw(&past, c.from)
	early := &drawn{Task: root.Task, rest: past.rest, offs: past.offs}
	edge.pause(early)
	edge.jitter(early, c.from)
	for _, off := range early.offs {
		root.early = append(root.early, off-int32(edge.seconds))
	}
	c.held += int64(len(root.early))
}

// caught gives a task the fires that its cause brings.
func (c *canvas) caught(d *drawn) {
	if d.cause.counted {
		d.counted, d.fires = true, d.cause.fires
		if !d.step && d.root.Plan.Kind() != schedule.After {
			c.pauseCounted(d, d.root.Plan)
		}
		return
	}
	by := int32(d.after/time.Second) - int32(d.cause.after/time.Second)
	n := int64(len(d.cause.early) + len(d.cause.offs))
	if c.held+n > maxDrawn || c.laid+n > maxFires {
		d.counted, d.fires = true, d.cause.fires
		return
	}
	moved := make([]int32, 0, n)
	end := int32((c.report.To.Sub(c.from) + time.Second - 1) / time.Second)
	for _, list := range [][]int32{d.cause.early, d.cause.offs} {
		for _, off := range list {
			if off+by < end {
				moved = append(moved, off+by)
			}
		}
	}
	now, _ := slices.BinarySearch(moved, 0)
	d.early, d.offs = moved[:now:now], moved[now:]
	if !d.step { // a workflow asks for its steps itself
		c.pause(d)
	}
	d.fires = int64(len(d.offs))
	c.held, c.laid = c.held+n, c.laid+d.fires
}
