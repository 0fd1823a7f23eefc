package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Start is the wish to have a step carried out.
type Start struct {
	WorkflowRunID string
	Step          string
	Namespace     string
	TaskName      string
	Params        json.RawMessage // laid over the task's own; nil: none
	FireAt        time.Time       // the workflow's instant
	Round         int             // attempt of the workflow's run; see Series
	By            string
}

// Steps starts and finds the runs of steps. It is safe for concurrent use.
type Steps interface {
	// StartStep starts the run of a step, or gives the run that there is for the same workflow run, step and round. It fails with
	// KindNotFound if there is no such task and with KindConflict if it is disabled. KindUnavailable and KindInternal
	// are tried again.
	StartStep(ctx context.Context, start Start) (core.Run, error)
	// StepRuns gives all runs that are steps of a workflow run, live and ended, each once, in any order.
	StepRuns(ctx context.Context, namespace, workflowRunID string) ([]core.Run, error)
	// WorkflowRun gives an earlier workflow run, or KindNotFound if the namespace has none of this id.
	WorkflowRun(ctx context.Context, namespace, runID string) (core.Run, error)
	// StopRun asks a live run to stop and does not wait for it. It fails with KindNotFound if it is live no more.
	StopRun(ctx context.Context, runID string, how core.Stop, by string) error
	// Changed gives a channel that holds something once a step's run may have ended; stop is called when nobody reads it
	// any more. It is a hint: the runs are looked at every two seconds too.
	Changed(workflowRunID string) (changed <-chan struct{}, stop func())
}

// Options are what an Executor needs. Steps and Clock are required.
type Options struct {
	Steps Steps
	Clock core.Clock
	Grace time.Duration // how long steps may take to stop where an attempt does not say; 0: 10 s
	// Recent gives those runs of StepRuns that have not been moved to history; nil: StepRuns is asked each time. With it history
	// is asked once and for what has moved meanwhile, and a history that does not answer holds no workflow up.
	Recent func(ctx context.Context, namespace, workflowRunID string) ([]core.Run, error)
}

const (
	poll         = 2 * time.Second // how often the runs are looked at
	stoppingPoll = 200 * time.Millisecond
	startLimit   = 30 * time.Second // for one call of StartStep
	maxTries     = 10               // of a start that fails as it should not
	maxChain     = 50               // workflow runs that go on with one another
	maxOutput    = 1 << 20          // bytes of the output
)

// Executor carries out workflows. It implements core.Provider for TypeName and is safe for concurrent use.
type Executor struct{ opts Options }

var _ core.Provider = (*Executor)(nil)

// New gives an executor.
func New(opts Options) *Executor {
	if opts.Grace == 0 {
		opts.Grace = 10 * time.Second
	}
	return &Executor{opts}
}

// Validate gives what is wrong with a graph, with paths that begin below the parameters. It looks at nothing else.
func (e *Executor) Validate(_ context.Context, taskType string, params json.RawMessage) ([]core.Finding, error) {
	if taskType != TypeName {
		return nil, core.Errorf(core.KindNotFound, "validate parameters of "+taskType, "only %s is offered here", TypeName)
	}
	_, found := Parse(params)
	for i := range found {
		found[i].Path = strings.TrimPrefix(strings.TrimPrefix(found[i].Path, "params"), ".")
	}
	return found, nil
}

// conduct is one attempt of a workflow. It is used by one goroutine.
type conduct struct {
	*Executor
	graph   Graph
	attempt core.Attempt
	sink    core.Sink
	changed <-chan struct{}

	taken  map[string]StepState // from an earlier workflow run
	runs   map[string]core.Run  // of this one, by id
	cannot map[string]string    // steps that cannot be started, and why
	said   map[string]Status    // what has been logged
	tries  map[string]int       // of starts that failed as they should not
	warned bool
	looked bool // all runs have been read once
	news   bool // something is known that nothing has followed from yet, or a start is to be tried again
	unsure bool // a start failed, and may have been written
}

// Execute carries out a workflow: it starts each step once it is decided, and waits for all of them. Executed again for
// the same attempt it finds the steps that there are and goes on; in a later attempt what failed, and what comes after it, is done
// anew. When ctx ends because the server is shutting down it leaves the steps alone, so that the next server goes on
// with them; otherwise it stops them and waits for them as long as the grace period.
func (e *Executor) Execute(ctx context.Context, attempt core.Attempt, sink core.Sink) (core.Outcome, error) {
	if attempt.TaskType != TypeName {
		return core.Outcome{}, core.Errorf(core.KindNotFound, fmt.Sprintf("run %q", attempt.TaskType), "only %s is offered here", TypeName)
	}
	began := e.opts.Clock.Now()
	changed, stop := e.opts.Steps.Changed(attempt.RunID)
	defer stop()
	c := &conduct{
		Executor: e, attempt: attempt, sink: sink, changed: changed,
		news: true, runs: map[string]core.Run{}, cannot: map[string]string{}, said: map[string]Status{}, tries: map[string]int{},
	}
	outcome := c.carryOut(ctx)
	outcome.Began = began
	outcome.Usage = core.Usage{CPUSource: core.SourceUnknown, RSSSource: core.SourceUnknown, IOSource: core.SourceUnknown}
	return outcome, nil
}

func (c *conduct) carryOut(ctx context.Context) core.Outcome {
	graph, found := Parse(c.attempt.Params)
	if len(found) > 0 {
		return core.Outcome{Verdict: core.Failed, Message: core.Invalid("read the graph", found...).Error(), Permanent: true}
	}
	c.graph = graph
	if graph.Resume != nil {
		err := c.patiently(ctx, "earlier workflow run not read", func(ctx context.Context) (err error) {
			c.taken, err = c.earlier(ctx, c.attempt.Namespace, graph, 0)
			return err
		})
		if err != nil && ctx.Err() == nil {
			return core.Outcome{Verdict: core.Failed, Message: err.Error(), Permanent: true}
		}
	}
	for ctx.Err() == nil {
		if err := c.patiently(ctx, "runs of the steps not read", c.look); err != nil && ctx.Err() == nil {
			return core.Outcome{Verdict: core.Failed, Message: err.Error()}
		}
		if ctx.Err() != nil {
			break
		}
		if c.news {
			c.news = false
			states, over, verdict, message := c.advance(ctx)
			if ctx.Err() != nil {
				break
			}
			if over {
				return core.Outcome{Verdict: verdict, Message: message, Output: c.output(states)}
			}
		}
		c.wait(ctx, poll)
	}
	return c.stop(ctx)
}

// look reads the runs of the steps. A run that was seen to have ended stays so, whatever is read later.
func (c *conduct) look(ctx context.Context) error {
	if c.opts.Recent != nil && c.looked && !c.unsure {
		runs, err := c.opts.Recent(ctx, c.attempt.Namespace, c.attempt.RunID)
		if err != nil {
			return err
		}
		c.learn(runs)
		moved := false
		for _, r := range c.runs {
			moved = moved || r.State != core.RunEnded && !slices.ContainsFunc(runs, func(o core.Run) bool { return o.ID == r.ID })
		}
		if !moved {
			return nil
		}
	}
	runs, err := c.opts.Steps.StepRuns(ctx, c.attempt.Namespace, c.attempt.RunID)
	if err != nil {
		return err
	}
	c.looked = true
	c.learn(runs)
	return nil
}

func (c *conduct) learn(runs []core.Run) {
	for _, r := range runs {
		if had, ok := c.runs[r.ID]; !ok || had.State != core.RunEnded {
			c.runs[r.ID] = r
			c.news = c.news || !ok || r.State == core.RunEnded
		}
	}
}

// states gives how the steps stand by what is known.
func (c *conduct) states() map[string]StepState {
	runs := make([]core.Run, 0, len(c.runs))
	for _, r := range c.runs {
		runs = append(runs, r)
	}
	states := c.graph.replay(c.taken, runs, max(1, c.attempt.Number))
	for name, why := range c.cannot {
		if st := states[name]; st.Status == Pending || st.Status == Failed && st.run == nil {
			states[name] = StepState{Status: Failed, Message: why}
		}
	}
	return states
}

// advance starts what is to be started, and says what has changed, until nothing more follows from what is known.
func (c *conduct) advance(ctx context.Context) (states map[string]StepState, over bool, verdict core.Verdict, message string) {
	for {
		states = c.states()
		start, leave, over, verdict, message := Advance(c.graph, states)
		for _, name := range leave {
			states[name] = StepState{Status: LeftOut, Message: c.graph.why(name, states)}
		}
		c.report(ctx, states)
		known, failed := len(c.runs), len(c.cannot)
		for _, name := range start {
			if ctx.Err() != nil {
				return states, false, "", ""
			}
			c.start(ctx, c.graph.Steps[c.graph.index[name]], states)
		}
		if over || len(c.runs) == known && len(c.cannot) == failed {
			return states, over, verdict, message
		}
	}
}

// start starts a step. A start that fails is tried again later, or the step has failed.
func (c *conduct) start(ctx context.Context, s Step, states map[string]StepState) {
	params, err := handed{c.graph, states, c.attempt.RunID, c.attempt.FireAt}.params(s)
	if err != nil {
		c.cannot[s.Name] = err.Error()
		return
	}
	// Half a start is worse than a late cancel: it is not interrupted.
	starting, cancel := c.within(context.WithoutCancel(ctx), startLimit)
	defer cancel()
	run, err := c.opts.Steps.StartStep(starting, Start{
		WorkflowRunID: c.attempt.RunID, Step: s.Name, Namespace: c.attempt.Namespace, TaskName: s.Task, Params: params,
		FireAt: c.attempt.FireAt, Round: max(1, c.attempt.Number), By: "gnomon",
	})
	switch kind := core.KindOf(err); {
	case err == nil:
		c.runs[run.ID] = run
		attrs := []core.Attr{{Key: "step", Value: s.Name}, {Key: "task", Value: s.Task}, {Key: "step_run_id", Value: run.ID}}
		if from := handedFrom(s); from != "" {
			attrs = append(attrs, core.Attr{Key: "handed_on", Value: from})
		}
		c.log(ctx, core.LevelInfo, "step started", attrs...)
		c.said[s.Name] = Running
	case kind == core.KindUnavailable || kind == core.KindInternal:
		c.unsure, c.news = true, true
		c.tries[s.Name]++
		if kind == core.KindInternal && c.tries[s.Name] >= maxTries {
			c.cannot[s.Name] = "task " + s.Task + " cannot be started: " + err.Error()
		} else if c.tries[s.Name] == 1 {
			c.log(ctx, core.LevelWarn, "step not started, it is tried again", core.Attr{Key: "step", Value: s.Name}, core.Attr{Key: "err", Value: err.Error()})
		}
	default:
		c.cannot[s.Name] = "task " + s.Task + " cannot be started: " + err.Error()
	}
}

// handedFrom names the parameters of a step that come from elsewhere, and where from: "rows=$.steps.load.output.rows".
func handedFrom(s Step) string {
	var parts []string
	for _, name := range sortedKeys(s.Params) {
		_ = eachPath(s.Params[name], func(text string) { parts = append(parts, name+"="+text) }) // it was parsed
	}
	return strings.Join(parts, " ")
}

// report logs what has changed since it was last called, and says how far the workflow is.
func (c *conduct) report(ctx context.Context, states map[string]StepState) {
	var done int64
	var running []string
	for _, i := range c.graph.order {
		name := c.graph.Steps[i].Name
		st := states[name]
		if st.over() {
			done++
		} else if st.Status == Running {
			running = append(running, name)
		}
		if st.Status == c.said[name] {
			continue
		}
		c.said[name] = st.Status
		attrs := []core.Attr{{Key: "step", Value: name}}
		for _, a := range []core.Attr{{Key: "step_run_id", Value: st.RunID}, {Key: "verdict", Value: string(st.Verdict)}, {Key: "because", Value: st.Message}} {
			if a.Value != "" {
				attrs = append(attrs, a)
			}
		}
		switch {
		case st.Taken:
			c.log(ctx, core.LevelInfo, "step taken over from the earlier run", attrs...)
		case st.Status == Running:
			c.log(ctx, core.LevelInfo, "step found running", attrs...)
		case st.Status == Succeeded:
			c.log(ctx, core.LevelInfo, "step ended", attrs...)
		case st.Status == Failed:
			c.log(ctx, core.LevelWarn, "step failed", attrs...)
		case st.Status == LeftOut:
			c.log(ctx, core.LevelInfo, "step left out", attrs...)
		}
	}
	const most = 5
	if len(running) > most {
		running = append(running[:most], "…")
	}
	c.sink.Progress(done, int64(len(c.graph.Steps)), strings.Join(running, ", "))
}

func (c *conduct) log(ctx context.Context, level core.Level, message string, attrs ...core.Attr) {
	if level < c.attempt.LogLevel {
		return
	}
	// A line that is not taken means that ctx has ended or the recorder has stopped: nobody would read of it.
	_ = c.sink.Log(ctx, core.LogLine{At: c.opts.Clock.Now().UTC(), Level: level, Stream: core.StreamLog, Message: message, Attrs: attrs})
}

// within gives a context that ends after d by the executor's clock.
func (c *conduct) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := c.opts.Clock.AfterFunc(d, func() { cancel(context.DeadlineExceeded) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// wait waits for a change, but not longer than d.
func (c *conduct) wait(ctx context.Context, d time.Duration) {
	passed := make(chan struct{})
	stop := c.opts.Clock.AfterFunc(d, func() { close(passed) })
	defer stop()
	select {
	case <-ctx.Done():
	case <-c.changed:
	case <-passed:
	}
}

// patiently calls f until it succeeds, fails for good, or ctx ends.
func (c *conduct) patiently(ctx context.Context, what string, f func(ctx context.Context) error) error {
	for {
		err := f(ctx)
		kind := core.KindOf(err)
		if err == nil || kind != core.KindUnavailable && kind != core.KindInternal {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !c.warned {
			c.warned = true
			c.log(ctx, core.LevelWarn, what, core.Attr{Key: "err", Value: err.Error()})
		}
		c.wait(ctx, poll)
	}
}

// stop stops the steps because ctx has ended, and gives the outcome.
func (c *conduct) stop(ctx context.Context) core.Outcome {
	cause := context.Cause(ctx)
	out := core.Outcome{Verdict: core.Cancelled, Message: cause.Error()}
	switch {
	case errors.Is(cause, core.ErrRunTimeout):
		out.Verdict = core.TimedOut
	case errors.Is(cause, context.DeadlineExceeded):
		out.Verdict, out.Message = core.TimedOut, core.ErrRunTimeout.Error()
	}
	if errors.Is(cause, core.ErrShuttingDown) {
		out.Message += "; its steps are left to themselves"
		return out
	}
	how := core.StopCancel
	if errors.Is(cause, core.ErrRunTerminated) {
		how = core.StopTerminate
	}
	grace := c.attempt.Grace
	if grace <= 0 {
		grace = c.opts.Grace
	}
	limited, cancel := c.within(context.WithoutCancel(ctx), grace)
	defer cancel()
	asked := map[string]bool{}
	quiet := 0 // looks in a row that found nothing live
	for limited.Err() == nil {
		if c.look(limited) == nil {
			live := 0
			for _, r := range c.runs {
				if r.State == core.RunEnded {
					continue
				}
				live++
				if !asked[r.ID] && c.ask(limited, r, how) {
					asked[r.ID] = true
				}
			}
			if quiet++; live > 0 {
				quiet = 0
			}
			if quiet > 1 || quiet == 1 && !c.unsure {
				break
			}
		}
		c.wait(limited, stoppingPoll)
	}
	states := c.states()
	c.report(context.WithoutCancel(ctx), states)
	var left []string
	for _, s := range c.graph.Steps {
		if states[s.Name].Status == Running {
			left = append(left, s.Name)
		}
	}
	if len(left) > 0 {
		out.Message += "; these steps had not stopped within " + grace.String() + ": " + strings.Join(left[:min(len(left), 10)], ", ")
	}
	out.Output = c.output(states)
	return out
}

// ask asks a step's run to stop; false: it is asked again.
func (c *conduct) ask(ctx context.Context, r core.Run, how core.Stop) bool {
	err := c.opts.Steps.StopRun(ctx, r.ID, how, "workflow "+c.attempt.RunID)
	if kind := core.KindOf(err); err != nil && kind != core.KindNotFound {
		return false
	}
	c.log(ctx, core.LevelInfo, "step asked to stop", core.Attr{Key: "step", Value: r.Step}, core.Attr{Key: "step_run_id", Value: r.ID}, core.Attr{Key: "how", Value: string(how)})
	return true
}

// earlier gives what a graph takes over of the workflow run it goes on with.
func (e *Executor) earlier(ctx context.Context, namespace string, g Graph, depth int) (map[string]StepState, error) {
	op := "go on with workflow run " + g.Resume.Run
	if depth >= maxChain {
		return nil, core.Errorf(core.KindInvalid, op, "more than %d workflow runs go on with one another; run the workflow from the beginning", maxChain)
	}
	run, err := e.opts.Steps.WorkflowRun(ctx, namespace, g.Resume.Run)
	if err != nil {
		return nil, core.Errorf(core.KindOf(err), op, "%w", err)
	}
	switch {
	case run.Namespace != namespace:
		return nil, core.Refuse(core.KindNotFound, op, core.Text{Zh: "命名空间 " + namespace + " 中没有运行 " + g.Resume.Run, En: "namespace " + namespace + " has no such run"})
	case run.TaskType != TypeName:
		return nil, core.Refuse(core.KindInvalid, op, core.Text{Zh: "运行 " + run.ID + " 属于 " + run.TaskType + "，不是工作流", En: "it is a run of " + run.TaskType + ", not of a workflow"})
	case run.State != core.RunEnded:
		return nil, core.Refuse(core.KindConflict, op, core.Text{Zh: "运行 " + run.ID + " 尚未结束；请先取消它", En: "it has not ended; cancel it first"})
	}
	old, found := Parse(run.Params)
	if len(found) > 0 {
		return nil, core.Invalid(op, found...)
	}
	states, err := e.stood(ctx, run, old, depth)
	if err != nil {
		return nil, err
	}
	came := map[string]StepState{} // of the steps that both graphs have
	for _, s := range g.Steps {
		i, ok := old.index[s.Name]
		if st := states[s.Name]; ok && old.Steps[i].Task == s.Task && st.run != nil {
			switch {
			case st.Status == Failed && slices.Contains(g.Resume.Done, s.Name):
				st.Status, st.Message = Succeeded, "done by hand"
			case st.Status == Running: // not ours to wait for
				st.Status = Failed
			}
			came[s.Name] = st
		}
	}
	kept := g.keep(came, g.Resume.From)
	for name, st := range kept {
		st.Taken = true
		kept[name] = st
	}
	return kept, nil
}

// stood gives how the steps of a workflow run stand, or stood when it ended.
func (e *Executor) stood(ctx context.Context, run core.Run, g Graph, depth int) (map[string]StepState, error) {
	var taken map[string]StepState
	var err error
	if g.Resume != nil {
		if taken, err = e.earlier(ctx, run.Namespace, g, depth+1); err != nil {
			return nil, err
		}
	}
	runs, err := e.opts.Steps.StepRuns(ctx, run.Namespace, run.ID)
	if err != nil {
		return nil, core.Errorf(core.KindOf(err), "read the steps of workflow run "+run.ID, "%w", err)
	}
	return g.replay(taken, runs, lastRound(runs)), nil
}

func lastRound(runs []core.Run) int {
	last := 1
	for _, r := range runs {
		last = max(last, roundOf(r))
	}
	return last
}

// result is a step in a workflow's output.
type result struct {
	RunID        string          `json:"run_id,omitempty"`
	Verdict      core.Verdict    `json:"verdict,omitempty"`
	Message      string          `json:"message,omitempty"`
	Output       json.RawMessage `json:"output,omitempty"`
	OmittedBytes int             `json:"output_omitted_bytes,omitempty"`
}

type results struct {
	Steps map[string]result `json:"steps"`
}

// output gives the workflow's output: what came of each step that was come to. The largest outputs are left out where all
// together are too large.
func (c *conduct) output(states map[string]StepState) json.RawMessage {
	out := results{Steps: map[string]result{}}
	size := 0
	for name, st := range states {
		r := result{RunID: st.RunID, Verdict: st.Verdict, Message: cut(st.Message, 500), Output: st.Output}
		switch {
		case st.Status == Pending:
			continue
		case st.Status == LeftOut:
			r.Verdict = core.Skipped
		case st.Status == Failed && r.Verdict == "":
			r.Verdict = core.Failed
		}
		out.Steps[name] = r
		size += len(name) + 6*len(r.Message) + len(r.Output) + 250
	}
	for size > maxOutput {
		largest, most := "", 0
		for name, r := range out.Steps {
			if len(r.Output) > most || len(r.Output) == most && name < largest {
				largest, most = name, len(r.Output)
			}
		}
		if most == 0 {
			break
		}
		r := out.Steps[largest]
		r.Output, r.OmittedBytes = nil, most
		out.Steps[largest] = r
		size -= most
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil // an output that is no JSON, which no run may have
	}
	return text
}

// cut shortens a text to so many bytes, at the end of a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && text[most]&0xC0 == 0x80 {
		most--
	}
	return text[:most] + "…"
}
