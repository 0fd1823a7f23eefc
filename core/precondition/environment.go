package precondition

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// environment is what an expression sees. Names that end in "_" are put in by guard and cannot be written.
type environment struct {
	Params map[string]any `expr:"params"`
	FireAt time.Time      `expr:"fire_at"`
	Now    time.Time      `expr:"now"`
	Zone   string         `expr:"zone"`
	Host   hostFacts      `expr:"host"`

	Workday func(time.Time) (bool, error)         `expr:"workday"`
	Day     func(time.Time, string) (bool, error) `expr:"day"`
	Task    func(string) (taskFacts, error)       `expr:"task"`

	Step     func() (bool, error)            `expr:"step_"`
	Matches  func(any, string) (bool, error) `expr:"matches_"`
	Location *time.Location                  `expr:"zone_"`
}

// taskFacts are how another task stands; times are in the zone of the asking task's schedule, zero for never.
type taskFacts struct {
	Enabled     bool      `expr:"enabled"`
	Paused      bool      `expr:"paused"`
	Live        int       `expr:"live"` // runs that have not ended, but for the one that asks
	Failures    int       `expr:"failures"`
	LastOutcome string    `expr:"last_outcome"` // "" if no run has ended
	LastStart   time.Time `expr:"last_start"`
	LastEnd     time.Time `expr:"last_end"`
	LastSuccess time.Time `expr:"last_success"`
	NextFire    time.Time `expr:"next_fire"`
}

// outcomes are what last_outcome may be, once a run has ended.
var outcomes = []core.Verdict{core.Succeeded, core.Failed, core.TimedOut, core.Cancelled, core.Crashed, core.Lost}

var taskFields = []string{"enabled", "failures", "last_end", "last_outcome", "last_start", "last_success", "live", "next_fire", "paused"}

// hostFacts are how the machine stands.
type hostFacts struct {
	Load1         float64 `expr:"load1"`
	Cores         int     `expr:"cores"`
	LoadPerCore   float64 `expr:"load_per_core"`
	MemUsedRatio  float64 `expr:"mem_used_ratio"`
	DiskFreeBytes float64 `expr:"disk_free_bytes"` // of the file system that holds the data folder
	DiskUsedRatio float64 `expr:"disk_used_ratio"`
}

var hostFields = []string{"cores", "disk_free_bytes", "disk_used_ratio", "load1", "load_per_core", "mem_used_ratio"}

func ratio(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return part / whole
}

// evaluation is one judgement of an expression. It is used by one goroutine; its context is that of the call it lives for.
type evaluation struct {
	of      *Preconditions
	program *program
	facts   Facts
	zone    *time.Location
	err     func() error // of the call's context

	task   func(name string) (core.Task, error)
	holds  func(calendar string, at time.Time) (bool, error)
	tasks  map[string]taskFacts
	days   map[dayKey]bool
	steps  int
	replay bool // the parts are read again to be shown: nothing is asked for that was not asked before
}

type dayKey struct {
	calendar string
	at       int64 // nanoseconds; Unix
}

// errNotAsked ends the reading of a part that the expression did not come to.
var errNotAsked = errors.New("not asked")

func (c *Preconditions) newEvaluation(ctx context.Context, p *program, facts Facts) *evaluation {
	e := &evaluation{of: c, program: p, facts: facts, tasks: map[string]taskFacts{}, days: map[dayKey]bool{}}
	e.err = func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	e.task = func(name string) (core.Task, error) {
		if c.opts.Tasks == nil {
			return core.Task{}, core.Errorf(core.KindUnavailable, "ask about task "+name, "tasks cannot be asked about here")
		}
		return c.opts.Tasks.TaskByName(ctx, facts.Namespace, name)
	}
	e.holds = func(calendar string, at time.Time) (bool, error) {
		if c.opts.Calendars == nil {
			return false, core.Errorf(core.KindUnavailable, "ask calendar "+calendar, "calendars cannot be asked here")
		}
		return c.opts.Calendars.Holds(ctx, calendar, at, e.zone)
	}
	return e
}

// environment gives what the expression sees.
func (e *evaluation) environment() (*environment, error) {
	name := e.facts.Zone
	if name == "" {
		name = "UTC"
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, core.Errorf(core.KindInvalid, fmt.Sprintf("zone %q", name), "%w", err)
	}
	e.zone = zone
	env := &environment{
		FireAt: e.facts.FireAt.In(zone), Now: e.facts.Now.In(zone), Zone: name, Location: zone,
		Task: e.askTask, Day: e.askDay, Step: e.step, Matches: e.matches,
		Workday: func(at time.Time) (bool, error) { return e.askDay(at, WorkdayCalendar) },
	}
	if len(e.facts.Params) > 0 {
		if err := json.Unmarshal(e.facts.Params, &env.Params); err != nil {
			return nil, core.Errorf(core.KindInvalid, "", "the parameters are no JSON object: %w", err)
		}
	}
	if e.program.host {
		if env.Host, err = e.host(); err != nil {
			return nil, err
		}
	}
	return env, nil
}

func (e *evaluation) host() (hostFacts, error) {
	if e.of.opts.Host == nil {
		return hostFacts{}, core.Errorf(core.KindUnavailable, "read the host", "its readings cannot be had here")
	}
	s, ok := e.of.opts.Host.HostSample()
	if !ok {
		return hostFacts{}, core.Errorf(core.KindUnavailable, "read the host", "there is no reading of it yet")
	}
	if age := e.facts.Now.Sub(s.At); age > staleHost {
		return hostFacts{}, core.Errorf(core.KindUnavailable, "read the host", "the last reading is %v old", age.Round(time.Second))
	}
	return hostFacts{
		Load1: s.Load1, Cores: s.Cores, LoadPerCore: ratio(s.Load1, float64(s.Cores)),
		MemUsedRatio:  ratio(float64(s.MemUsedBytes), float64(s.MemTotalBytes)),
		DiskFreeBytes: float64(s.DataFreeBytes),
		DiskUsedRatio: ratio(float64(s.DataTotalBytes)-float64(s.DataFreeBytes), float64(s.DataTotalBytes)),
	}, nil
}

// askTask is task("name").
func (e *evaluation) askTask(name string) (taskFacts, error) {
	if f, ok := e.tasks[name]; ok {
		return f, nil
	}
	if e.replay {
		return taskFacts{}, errNotAsked
	}
	if err := e.err(); err != nil {
		return taskFacts{}, err
	}
	t, err := e.task(name)
	if core.KindOf(err) == core.KindNotFound {
		return taskFacts{}, core.Errorf(core.KindNotFound, fmt.Sprintf("task(%q)", name), "namespace %s has no task of this name", e.facts.Namespace)
	}
	if err != nil {
		return taskFacts{}, err
	}
	s := t.State
	if t.ID == e.facts.TaskID && t.ID != "" && s.Live > 0 { // else a task could never wait until none of its own is live
		s.Live--
	}
	f := taskFacts{
		Enabled: t.Enabled, Paused: t.Pause.Holds(e.facts.Now), Live: s.Live, Failures: s.Failures, LastOutcome: string(s.LastOutcome),
		LastStart: e.local(s.LastStart), LastEnd: e.local(s.LastEnd), LastSuccess: e.local(s.LastSuccess), NextFire: e.local(s.NextFire),
	}
	e.tasks[name] = f
	return f, nil
}

// local leaves the zero time as it is: it means never.
func (e *evaluation) local(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.In(e.zone)
}

// askDay is day(t, "calendar").
func (e *evaluation) askDay(at time.Time, calendar string) (bool, error) {
	key := dayKey{calendar, at.UnixNano()}
	if held, ok := e.days[key]; ok {
		return held, nil
	}
	if e.replay {
		return false, errNotAsked
	}
	if err := e.err(); err != nil {
		return false, err
	}
	held, err := e.holds(calendar, at)
	if err == nil {
		e.days[key] = held
	}
	return held, err
}

// step counts one round of a loop.
func (e *evaluation) step() (bool, error) {
	if e.steps++; e.steps > maxSteps {
		return false, fmt.Errorf("its loops take more than %d rounds", maxSteps)
	}
	return true, e.err()
}

// matches is the operator of this name.
func (e *evaluation) matches(value any, pattern string) (bool, error) {
	if err := e.err(); err != nil {
		return false, err
	}
	text, ok := value.(string)
	if !ok {
		return false, fmt.Errorf("on the left of matches stands %s, which is no text", show(value))
	}
	if len(text) > maxPatternText {
		return false, fmt.Errorf("on the left of matches stands a text of %d bytes; at most %d are looked at", len(text), maxPatternText)
	}
	return e.program.patterns[pattern].MatchString(text), nil
}
