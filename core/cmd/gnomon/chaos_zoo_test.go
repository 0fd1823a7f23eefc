//go:build linux && chaos

package main_test

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// subject is a task under observation: what its attempts must keep to, and where they leave their evidence.
type subject struct {
	name    string
	input   api.TaskInput
	task    api.Task
	made    int64         // when the task was there, by CLOCK_MONOTONIC
	path    string        // of its evidence; "": it is a workflow, and its steps leave some
	step    time.Duration // between its instants; 0: it has none of its own
	offset  time.Duration // cron: of its instants from whole steps since 1970
	yearly  bool          // its instants are the first moments of the years
	side    int           // attempts side by side at most; 0: any number
	serial  bool          // its tokens come in the order of its starts: one attempt at a time
	slots   int           // of the pool, while an attempt works
	shaky   bool          // it touches the downstream that fails at times
	rate    float64       // share of its attempts that fail
	most    int           // runs that its schedule starts at most
	clean   bool          // nothing but time decides about its fires
	after   *subject      // whose ends start it
	on      string        // which ends
	steps   []string      // workflow: names of the tasks of its steps
	needs   []*subject    // step: those that must have ended before
	follows *subject      // step: of this workflow
}

const (
	poolSlots = 2
	// What opens the breaker of the downstream, and for how long.
	breakerFailures = 3
	breakerCooldown = 3 * time.Second
	// What catch-up all takes.
	catchUpLimit  = 5
	catchUpWindow = 30 * time.Second
)

// work makes a subject of Bench.Work.
func work(dir, name, spec string, millis int, policies api.Policies) *subject {
	s := &subject{name: name, path: filepath.Join(dir, name+".csv")}
	s.input = api.TaskInput{
		Type: "Bench.Work", Schedule: api.Schedule{Spec: spec}, Policies: &policies,
		Params: params(map[string]any{"path": s.path, "millis": millis, "output": map[string]any{"by": name}}),
	}
	return s
}

func (s *subject) every(step time.Duration) *subject { s.step = step; return s }

func (s *subject) alone() *subject { s.side, s.serial = 1, true; return s }

// failing lets a share of the attempts fail, in the way given.
func (s *subject) failing(rate float64, how string, millis int) *subject {
	s.rate = rate
	s.input.Params = params(map[string]any{"path": s.path, "millis": millis, "output": map[string]any{"by": s.name}, "fail_rate": rate, "fails": how})
	return s
}

// pooled lets it take slots of the pool.
func (s *subject) pooled(slots int) *subject {
	s.slots = slots
	s.input.Policies.Pools = []api.PoolUse{{Pool: "chaos", Slots: slots}}
	return s
}

// startedBy lets it start when another ends.
func (s *subject) startedBy(other *subject, on string) *subject {
	s.after, s.on = other, on
	s.input.After = []api.Upstream{{Task: other.name, On: on}}
	return s
}

// zoo is every policy at once, each task with its evidence apart.
func zoo(dir string) []*subject {
	second := time.Second
	var all []*subject
	add := func(s *subject) *subject { all = append(all, s); return s }

	// Overlap.
	add(work(dir, "skip", "@every 1s", 1300, api.Policies{Overlap: "skip", MaxAttempts: new(2), RetryDelay: "300ms"}).every(second).alone().failing(0.1, "failed", 1300))
	add(work(dir, "queue", "@every 1s", 700, api.Policies{Overlap: "queue(3)", MaxAttempts: new(3), RetryDelay: "200ms", RetryBackoff: "exponential", RetryJitter: new(0.3)}).
		every(second).alone().failing(0.15, "failed", 700))
	add(work(dir, "cancel", "*/2 * * * * *", 2500, api.Policies{Overlap: "cancel_previous"}).every(2 * second).alone())
	add(work(dir, "terminate", "*/2 * * * * *", 2500, api.Policies{Overlap: "terminate_previous"}).every(2 * second).alone())
	allow := add(work(dir, "allow-2", "@every 1s", 2600, api.Policies{Overlap: "allow(2)"}).every(second))
	allow.side = 2
	add(work(dir, "allow", "* * * * * *", 1600, api.Policies{Overlap: "allow", MaxAttempts: new(2), RetryDelay: "500ms"}).every(second)).failing(0.1, "failed", 1600)

	// A shared pool of two slots, with priorities.
	for i, name := range []string{"low", "middle", "high"} {
		add(work(dir, "pool-"+name, "@every 2s", 600, api.Policies{Overlap: "queue(2)", Priority: new(10 * i), MaxAttempts: new(2), RetryDelay: "200ms"}).
			every(2*second).alone().pooled(1).failing(0.1, "failed", 600))
	}
	add(work(dir, "pool-both", "@every 7s", 400, api.Policies{Overlap: "skip", Priority: new(5)}).every(7 * second).alone().pooled(2))

	// A downstream that fails at times, and what each catch-up policy makes of its breaker.
	for i, catchUp := range []string{"latest", "none", "all"} {
		s := add(work(dir, "shaky-"+catchUp, "@every 1s", 300, api.Policies{
			Overlap: "queue(2)", CatchUp: catchUp, CatchUpLimit: new([]int{0, 0, 3}[i]), MaxAttempts: new(2), RetryDelay: "400ms", Downstreams: []string{"shaky"},
		}).every(second).alone().failing(0.45, []string{"failed", "permanent", "later"}[i], 300))
		s.shaky = true
	}

	// Catch-up, undisturbed by anything else.
	for i, catchUp := range []string{"none", "latest", "all"} {
		p := api.Policies{Overlap: "allow", CatchUp: catchUp}
		if catchUp == "all" {
			p.CatchUpLimit, p.CatchUpWindow, p.CatchUpSpread = new(catchUpLimit), catchUpWindow.String(), "200ms"
		}
		s := add(work(dir, "catch-"+catchUp, []string{"@every 1s", "* * * * * *", "@every 1s"}[i], 50, p).every(second))
		s.clean = true
	}
	minute := add(work(dir, "minutely", "* * * * *", 50, api.Policies{Overlap: "allow", CatchUp: "latest"}).every(time.Minute))
	minute.clean = true
	daily := add(work(dir, "daily", "0 3 * * *", 50, api.Policies{Overlap: "queue(5)", CatchUp: "all"}).every(24 * time.Hour).alone())
	daily.offset = 3 * time.Hour
	yearly := add(work(dir, "yearly", "0 0 1 1 *", 50, api.Policies{CatchUp: "latest"}).alone())
	yearly.yearly = true

	// Jitter, and a limited number of runs.
	add(work(dir, "jitter", "@every 2s", 500, api.Policies{Overlap: "queue(2)"}).every(2 * second).alone()).input.Schedule.Jitter = "900ms"
	limited := add(work(dir, "limited", "@every 1s", 100, api.Policies{Overlap: "queue(5)", CatchUp: "all", CatchUpLimit: new(10), CatchUpSpread: "100ms", MaxRuns: new(25)}).
		every(second).alone())
	limited.most = 25

	// A chain: each end of the first starts exactly one run of each that waits for it.
	first := add(work(dir, "chain-first", "@every 2s", 300, api.Policies{Overlap: "queue(2)"}).every(2*second).alone().failing(0.3, "failed", 300))
	then := add(work(dir, "chain-then", "@manual", 200, api.Policies{Overlap: "allow"}).failing(0.2, "failed", 200).startedBy(first, "success"))
	add(work(dir, "chain-else", "@manual", 100, api.Policies{Overlap: "allow"}).startedBy(first, "failure"))
	add(work(dir, "chain-last", "@manual", 100, api.Policies{Overlap: "allow"}).startedBy(then, "always"))

	// A workflow that fans out and in.
	left := add(work(dir, "step-left", "@manual", 400, api.Policies{Overlap: "queue(5)", MaxAttempts: new(3), RetryDelay: "200ms"}).failing(0.2, "failed", 400).alone())
	right := add(work(dir, "step-right", "@manual", 700, api.Policies{Overlap: "queue(5)", MaxAttempts: new(3), RetryDelay: "200ms"}).failing(0.1, "failed", 700).alone().pooled(1))
	join := add(work(dir, "step-join", "@manual", 100, api.Policies{Overlap: "queue(5)"}).alone())
	last := add(work(dir, "step-last", "@manual", 100, api.Policies{Overlap: "queue(5)"}).alone())
	flow := add(&subject{name: "flow", steps: []string{"step-left", "step-right", "step-join", "step-last"}}).every(4 * second)
	flow.input = api.TaskInput{
		Type: "Common.Workflow", Schedule: api.Schedule{Spec: "@every 4s"}, Policies: &api.Policies{Overlap: "skip"},
		Params: params(map[string]any{"steps": []map[string]any{
			{"name": "left", "task": left.name},
			{"name": "right", "task": right.name},
			{"name": "join", "task": join.name, "needs": []string{"left", "right"}, "params": map[string]any{"output": map[string]any{"left": "$.steps.left.output.by"}}},
			{"name": "last", "task": last.name, "needs": []string{"join"}, "when": "always"},
		}}),
	}
	for _, s := range []*subject{left, right, join, last} {
		s.follows = flow
	}
	join.needs, last.needs = []*subject{left, right}, []*subject{join}
	return all
}

// settle creates what the subjects use, and then them.
func populate(w *world, subjects []*subject) {
	w.t.Helper()
	w.namespace("Bench")
	w.must("PUT", "/v1/pools/chaos", map[string]any{"slots": poolSlots, "max_waiting": 50}, nil)
	w.must("PUT", "/v1/downstreams/shaky", map[string]any{"failures": breakerFailures, "cooldown": breakerCooldown.String()}, nil)
	for _, s := range subjects {
		s.task = w.task("Bench", s.name, s.input)
		s.made = instantNow()
	}
}

// grid is the instants of a subject's schedule, computed without Gnomon's help.
type grid struct {
	first  time.Time
	step   time.Duration
	yearly bool
}

func (s *subject) grid() grid {
	created := s.task.CreatedAt.UTC()
	switch {
	case s.yearly:
		return grid{first: time.Date(created.Year()+1, 1, 1, 0, 0, 0, 0, time.UTC), yearly: true}
	case s.step > 0 && s.task.Schedule.Spec[0] == '@':
		return grid{first: s.task.Schedule.Anchor.UTC().Add(s.step), step: s.step}
	default: // the epoch was a whole second, minute and day
		unix := time.Duration(created.UnixMicro()) * time.Microsecond
		whole := (unix - s.offset).Truncate(s.step) + s.offset
		return grid{first: time.UnixMicro((whole + s.step).Microseconds()).UTC(), step: s.step}
	}
}

// index gives the number of an instant, from 0; ok is false if the schedule does not name it.
func (g grid) index(at time.Time) (i int64, ok bool) {
	if at.Before(g.first) {
		return 0, false
	}
	if g.yearly {
		return int64(at.Year() - g.first.Year()), at.Equal(time.Date(at.Year(), 1, 1, 0, 0, 0, 0, time.UTC))
	}
	micros, step := at.UnixMicro()-g.first.UnixMicro(), g.step.Microseconds()
	return micros / step, micros%step == 0
}

// at gives the instant of a number.
func (g grid) at(i int64) time.Time {
	if g.yearly {
		return g.first.AddDate(int(i), 0, 0)
	}
	return time.UnixMicro(g.first.UnixMicro() + i*g.step.Microseconds()).UTC()
}

// through gives how many instants there are up to one, with it.
func (g grid) through(at time.Time) int64 {
	if at.Before(g.first) {
		return 0
	}
	if g.yearly {
		return int64(at.Year()-g.first.Year()) + 1
	}
	return (at.UnixMicro()-g.first.UnixMicro())/g.step.Microseconds() + 1
}

func (s *subject) String() string { return fmt.Sprintf("%s (%s)", s.name, s.input.Schedule.Spec) }
