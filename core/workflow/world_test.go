package workflow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/coretest"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// conduct is how the run of a step goes, in one round.
type conduct struct {
	takes    time.Duration
	verdict  core.Verdict // "": succeeded
	reason   core.Reason  // of a skipped one
	message  string
	output   string
	disabled bool // it cannot be started
	stubborn bool // it does not stop when asked to
}

// world is runner, store and history in one, as far as workflows see them. Runs take their time by the bubble's clock.
type world struct {
	mu       sync.Mutex
	t        *testing.T
	plan     func(step string, round int) conduct
	runs     map[string]*core.Run // by id
	bySeries map[string]string    // id
	starts   []workflow.Start     // that made a run
	stops    map[string]core.Stop // by run
	watchers map[chan struct{}]bool
	serial   int
	fail     func(call string) error // before an effect
	failLate func(call string) error // after it
	deaf     bool                    // no hints are given
	ships    time.Duration           // ended runs are moved to history after so long; 0: never
	moved    map[string]bool         // by id
	asked    int                     // how often history was asked
	params   map[string]string       // of the last start, by step
}

func newWorld(t *testing.T, plan map[string]conduct) *world {
	return &world{
		t: t, plan: func(step string, _ int) conduct { return plan[step] }, runs: map[string]*core.Run{}, bySeries: map[string]string{},
		moved: map[string]bool{}, stops: map[string]core.Stop{}, watchers: map[chan struct{}]bool{}, params: map[string]string{},
	}
}

func (w *world) before(call string) error {
	if w.fail != nil {
		return w.fail(call)
	}
	return nil
}

func (w *world) after(call string) error {
	if w.failLate != nil {
		return w.failLate(call)
	}
	return nil
}

func (w *world) StartStep(ctx context.Context, s workflow.Start) (core.Run, error) {
	if err := w.before("start"); err != nil {
		return core.Run{}, err
	}
	w.mu.Lock()
	series := workflow.Series(s.WorkflowRunID, s.Step, s.Round)
	if id, ok := w.bySeries[series]; ok {
		r := *w.runs[id]
		w.mu.Unlock()
		return r, w.after("start")
	}
	how := w.plan(s.Step, s.Round)
	if how.disabled {
		w.mu.Unlock()
		return core.Run{}, core.Errorf(core.KindConflict, "start step "+s.Step, "task %s is disabled", s.TaskName)
	}
	w.serial++
	r := &core.Run{
		ID: fmt.Sprintf("r%05d", w.serial), Namespace: s.Namespace, TaskName: s.TaskName, Series: series, WorkflowID: s.WorkflowRunID, Step: s.Step,
		State: core.RunRunning, StartedAt: time.Now(), Params: s.Params, FireAt: s.FireAt, Attempt: 1,
	}
	w.runs[r.ID], w.bySeries[series] = r, r.ID
	w.starts = append(w.starts, s)
	w.params[s.Step] = string(s.Params)
	time.AfterFunc(how.takes, func() { w.end(r.ID, how) })
	answer := *r
	w.mu.Unlock()
	return answer, w.after("start")
}

// again has a run tried again by hand, as an intervention does.
func (w *world) again(id string, how conduct) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	old := w.runs[id]
	r := &core.Run{
		ID: fmt.Sprintf("r%05d", w.serial), Namespace: old.Namespace, TaskName: old.TaskName, WorkflowID: old.WorkflowID, Step: old.Step, CausedBy: old.ID,
		State: core.RunRunning, StartedAt: time.Now(), Params: old.Params, FireAt: old.FireAt, Attempt: 1,
	}
	r.Series = fmt.Sprintf("retry:%s#%s", old.ID, r.ID)
	w.runs[r.ID] = r
	time.AfterFunc(how.takes, func() { w.end(r.ID, how) })
	w.hint()
	return r.ID
}

func (w *world) end(id string, how conduct) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.runs[id]
	if r.State == core.RunEnded {
		return
	}
	r.State, r.EndedAt, r.Verdict, r.Reason, r.Message = core.RunEnded, time.Now(), how.verdict, how.reason, how.message
	if r.Verdict == "" {
		r.Verdict, r.Output = core.Succeeded, json.RawMessage(how.output)
	}
	if w.ships > 0 {
		time.AfterFunc(w.ships, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.moved[id] = true
		})
	}
	w.hint()
}

// recent gives what has not been moved to history.
func (w *world) recent(_ context.Context, namespace, id string) ([]core.Run, error) {
	if err := w.before("recent"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []core.Run
	for _, r := range w.runs {
		if r.WorkflowID == id && r.Namespace == namespace && !w.moved[r.ID] {
			list = append(list, *r)
		}
	}
	return list, w.after("recent")
}

func (w *world) hint() {
	for ch := range w.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (w *world) StepRuns(_ context.Context, namespace, id string) ([]core.Run, error) {
	if err := w.before("list"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	var list []core.Run
	for _, r := range w.runs {
		if r.WorkflowID == id && r.Namespace == namespace {
			list = append(list, *r)
		}
	}
	return list, w.after("list")
}

func (w *world) WorkflowRun(_ context.Context, namespace, id string) (core.Run, error) {
	if err := w.before("read"); err != nil {
		return core.Run{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.runs[id]
	if !ok || r.Namespace != namespace {
		return core.Run{}, core.Errorf(core.KindNotFound, "find run "+id, "there is no such run")
	}
	return *r, nil
}

func (w *world) StopRun(_ context.Context, id string, how core.Stop, by string) error {
	if err := w.before("stop"); err != nil {
		return err
	}
	w.mu.Lock()
	r, ok := w.runs[id]
	if !ok || r.State == core.RunEnded {
		w.mu.Unlock()
		return core.Errorf(core.KindNotFound, "stop run "+id, "it is not live")
	}
	w.stops[id] = how
	_, round, _ := strings.Cut(r.Series, "#")
	n := 1
	_, _ = fmt.Sscan(round, &n)
	stubborn := w.plan(r.Step, n).stubborn
	w.mu.Unlock()
	if !stubborn {
		time.AfterFunc(100*time.Millisecond, func() { w.end(id, conduct{verdict: core.Cancelled, message: "stopped by " + by}) })
	}
	return nil
}

func (w *world) Changed(string) (<-chan struct{}, func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := make(chan struct{}, 1)
	if !w.deaf {
		w.watchers[ch] = true
	}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watchers, ch)
	}
}

// live gives the steps whose runs have not ended.
func (w *world) live() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, r := range w.runs {
		if r.State != core.RunEnded {
			list = append(list, r.Step)
		}
	}
	slices.Sort(list)
	return list
}

// started gives the steps in the order in which they were started.
func (w *world) started() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, s := range w.starts {
		list = append(list, s.Step)
	}
	return list
}

// keep puts a workflow run that has ended among the runs, as history has it.
func (w *world) keep(id string, params json.RawMessage, out core.Outcome) core.Run {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &core.Run{ID: id, Namespace: "Lab", TaskName: "flow", TaskType: workflow.TypeName, Params: params, State: core.RunEnded, Verdict: out.Verdict, Message: out.Message, Output: out.Output}
	w.runs[id] = r
	return *r
}

var fireAt = time.Date(2026, 11, 20, 4, 0, 0, 0, time.UTC)

func attempt(runID string, number int, params string) core.Attempt {
	return core.Attempt{
		RunID: runID, TaskID: "t", Namespace: "Lab", TaskName: "flow", TaskType: workflow.TypeName, Number: number, Token: 1,
		FireAt: fireAt, Params: json.RawMessage(params), Zone: "UTC", Grace: 5 * time.Second,
	}
}

// execute carries a workflow out to its end.
func (w *world) execute(ctx context.Context, a core.Attempt) (core.Outcome, *coretest.Sink) {
	w.t.Helper()
	sink := &coretest.Sink{}
	out, err := workflow.New(workflow.Options{Steps: w, Clock: core.SystemClock{}, Recent: w.recent}).Execute(ctx, a, sink)
	if err != nil {
		w.t.Fatalf("Execute: %v", err)
	}
	return out, sink
}

// dying is a server that ends at a call: the calls after it are never made.
type dying struct {
	*world
	left  int  // calls until then
	after bool // its last call takes effect
	done  bool
}

func (d *dying) tick(effect func()) {
	d.left--
	if d.left > 0 {
		effect()
		return
	}
	d.done = true
	if d.after {
		effect()
	}
	runtime.Goexit()
}

func (d *dying) StartStep(ctx context.Context, s workflow.Start) (r core.Run, err error) {
	d.tick(func() { r, err = d.world.StartStep(ctx, s) })
	return r, err
}

func (d *dying) StepRuns(ctx context.Context, namespace, id string) (list []core.Run, err error) {
	d.tick(func() { list, err = d.world.StepRuns(ctx, namespace, id) })
	return list, err
}

func (d *dying) WorkflowRun(ctx context.Context, namespace, id string) (r core.Run, err error) {
	d.tick(func() { r, err = d.world.WorkflowRun(ctx, namespace, id) })
	return r, err
}

func (d *dying) recent() func(context.Context, string, string) ([]core.Run, error) {
	if d.serial%2 == 0 {
		return nil
	}
	return func(ctx context.Context, namespace, id string) (list []core.Run, err error) {
		d.tick(func() { list, err = d.world.recent(ctx, namespace, id) })
		return list, err
	}
}

// dies executes an attempt until the server dies; survived is true if it ended before.
func (w *world) dies(a core.Attempt, calls int, after bool) (out core.Outcome, survived bool) {
	d := &dying{world: w, left: calls, after: after}
	ended := make(chan struct{})
	go func() { // ends with the attempt or the server
		defer close(ended)
		o, err := workflow.New(workflow.Options{Steps: d, Clock: core.SystemClock{}, Recent: d.recent()}).Execute(context.Background(), a, &coretest.Sink{})
		if err != nil {
			w.t.Errorf("Execute: %v", err)
		}
		out, survived = o, true
	}()
	<-ended
	return out, survived
}

// graph writes parameters: "b: a c" is the step b that needs a and c, "b! a" if a failed, "b* a" always. The task of x is task-x.
func graph(lines ...string) string {
	var steps []map[string]any
	for _, line := range lines {
		name, needs, _ := strings.Cut(line, " ")
		s := map[string]any{}
		switch name[len(name)-1] {
		case '!':
			s["when"] = "failure"
		case '*':
			s["when"] = "always"
		}
		name = strings.TrimRight(name, ":!*")
		s["name"], s["task"] = name, "task-"+name
		if needs != "" {
			s["needs"] = strings.Fields(needs)
		}
		steps = append(steps, s)
	}
	text, err := json.Marshal(map[string]any{"steps": steps})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func parse(t *testing.T, params string) workflow.Graph {
	t.Helper()
	g, found := workflow.Parse(json.RawMessage(params))
	if len(found) > 0 {
		t.Fatalf("%s: %+v", params, found)
	}
	return g
}
