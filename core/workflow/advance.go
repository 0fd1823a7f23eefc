package workflow

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Status is how a step stands.
type Status string

// The states of a step.
const (
	Pending   Status = ""          // not decided yet
	Running   Status = "running"   // it has a run that has not ended
	Succeeded Status = "succeeded" // its run has succeeded
	Failed    Status = "failed"    // its run has ended otherwise, was skipped, or could not be started
	LeftOut   Status = "left_out"  // its condition did not hold
)

// StepState is how a step stands, and what came of it.
type StepState struct {
	Status  Status
	RunID   string       // "" if it has no run
	Verdict core.Verdict // of its run
	Message string       // why it failed or was left out
	Output  json.RawMessage
	Taken   bool // its run is one of an earlier workflow run

	run *core.Run // nil: it has none, or none that is known here
}

// over says whether nothing more comes of the step.
func (s StepState) over() bool { return s.Status != Pending && s.Status != Running }

// Advance says what follows from how the steps stand: which are to be started now, and which are left out. over says that nothing
// is left to wait for; then verdict and message are the workflow's. It is pure.
//
// A step is decided once all it needs are over. With OnSuccess it starts if all of them succeeded: one that was left out did
// not. With OnFailure it starts if at least one failed: one that was left out did not. With OnAlways it starts. Otherwise it
// is left out.
//
// The workflow failed if a step failed, unless a step with OnFailure that needs that step succeeded: then the failure is
// handled. Otherwise it succeeded, however much was left out.
func Advance(g Graph, states map[string]StepState) (start, leave []string, over bool, verdict core.Verdict, message string) {
	status := make(map[string]Status, len(g.Steps))
	over = true
	for _, i := range g.order {
		s := g.Steps[i]
		now := states[s.Name].Status
		if now == Pending {
			switch decide(s, status) {
			case Running:
				start = append(start, s.Name)
				now = Running
			case LeftOut:
				leave = append(leave, s.Name)
				now = LeftOut
			}
		}
		status[s.Name] = now
		over = over && now != Pending && now != Running
	}
	if !over {
		return start, leave, false, "", ""
	}
	var failed []string
	for _, s := range g.Steps {
		if status[s.Name] == Failed && !g.handled(s.Name, status) {
			failed = append(failed, s.Name)
		}
	}
	if len(failed) == 0 {
		return nil, leave, true, core.Succeeded, ""
	}
	const most = 3
	var said []string
	for _, name := range failed[:min(most, len(failed))] {
		text := "step " + name + " failed"
		if why := states[name].Message; why != "" {
			text += ": " + why
		}
		said = append(said, text)
	}
	if more := len(failed) - most; more > 0 {
		said = append(said, strconv.Itoa(more)+" more failed")
	}
	return nil, leave, true, core.Failed, strings.Join(said, "; ")
}

// decide gives Running if a step starts, LeftOut if it does not, and Pending while something it needs is not over.
func decide(s Step, status map[string]Status) Status {
	succeeded, failed := 0, 0
	for _, need := range s.Needs {
		switch status[need] {
		case Pending, Running:
			return Pending
		case Succeeded:
			succeeded++
		case Failed:
			failed++
		}
	}
	if s.When == core.OnAlways || s.When == core.OnFailure && failed > 0 || s.When != core.OnFailure && succeeded == len(s.Needs) {
		return Running
	}
	return LeftOut
}

// handled says whether a step that is there for a failure has succeeded.
func (g Graph) handled(name string, status map[string]Status) bool {
	return slices.ContainsFunc(g.Steps, func(s Step) bool {
		return s.When == core.OnFailure && status[s.Name] == Succeeded && slices.Contains(s.Needs, name)
	})
}

// why says in a few words why a step is left out.
func (g Graph) why(name string, states map[string]StepState) string {
	s := g.Steps[g.index[name]]
	if s.When == core.OnFailure {
		return "none of the steps it needs failed"
	}
	for _, need := range s.Needs {
		switch states[need].Status {
		case Failed:
			return "step " + need + " failed"
		case LeftOut:
			return "step " + need + " was left out"
		}
	}
	return "the steps it needs did not all succeed"
}

const seriesPrefix = "workflow:"

// Series is the series of the run of a step: each (step, round) has one run at most. A round is one attempt of the workflow's run.
func Series(workflowRunID, step string, round int) string {
	return fmt.Sprintf("%s%s/%s#%d", seriesPrefix, workflowRunID, step, round)
}

// roundOf gives the round that a step's run was started for; 0: a person had it tried again.
func roundOf(r core.Run) int {
	if !strings.HasPrefix(r.Series, seriesPrefix) {
		return 0
	}
	n, _ := strconv.Atoi(r.Series[strings.LastIndexByte(r.Series, '#')+1:]) // Series put a number there
	return max(1, n)
}

// standing gives what stands for each step in each round that it has runs in: the one that succeeded, else the one that is live,
// else the one that failed, and of several the newest. A run that a person had tried again belongs to the last round that its
// step had come to by then, whichever run it was made from.
func (g Graph) standing(runs []core.Run, round int) map[string]map[int]StepState {
	rank := func(st StepState) int { return slices.Index([]Status{Failed, Running, Succeeded}, st.Status) }
	byStep := map[string]map[int]StepState{}
	last := map[string]int{} // round, by step
	for _, r := range slices.SortedFunc(slices.Values(runs), func(a, b core.Run) int { return strings.Compare(a.ID, b.ID) }) {
		if _, ok := g.index[r.Step]; !ok {
			continue
		}
		n := min(cmp.Or(roundOf(r), last[r.Step], 1), round)
		last[r.Step] = max(last[r.Step], n)
		if byStep[r.Step] == nil {
			byStep[r.Step] = map[int]StepState{}
		}
		st := stateOf(r)
		if had, ok := byStep[r.Step][n]; !ok || rank(st) >= rank(had) {
			byStep[r.Step][n] = st
		}
	}
	return byStep
}

// stateOf turns a step's run into how the step stands.
func stateOf(r core.Run) StepState {
	st := StepState{Status: Running, RunID: r.ID, run: &r}
	if r.State != core.RunEnded {
		return st
	}
	st.Verdict, st.Message = r.Verdict, r.Message
	switch r.Verdict {
	case core.Succeeded:
		st.Status, st.Output = Succeeded, r.Output
		return st
	case core.Skipped:
		st.Message = "its run was skipped (" + string(r.Reason) + ")"
		if r.Message != "" {
			st.Message += ": " + r.Message
		}
	case core.Failed:
	default:
		st.Message = strings.TrimSuffix(string(r.Verdict)+": "+r.Message, ": ")
	}
	st.Status = Failed
	return st
}

// replay gives how the steps stand in a round, from the runs of a workflow run. taken are the steps that it took over from an
// earlier workflow run. In each round after the first what succeeded before is kept, but for what is at or below a step
// that did not. A step that failed here, and has been tried again by hand with success in the earlier workflow run since, has
// succeeded.
func (g Graph) replay(taken map[string]StepState, runs []core.Run, round int) map[string]StepState {
	standing := g.standing(runs, round)
	states := taken
	for n := 1; n <= round; n++ {
		if n > 1 {
			states = g.keep(states, nil)
		}
		next := make(map[string]StepState, len(g.Steps))
		for name, st := range states {
			next[name] = st
		}
		begun := map[string]bool{}
		for name, byRound := range standing {
			st, ok := byRound[n]
			if !ok {
				continue
			}
			begun[name] = true
			if had := next[name]; st.Status != Failed || had.Status != Succeeded || had.RunID < st.RunID {
				next[name] = st
			}
		}
		g.infer(next, begun)
		states = next
	}
	return states
}

// infer finds what has no run to tell of it: a step that must be over, as one that needs it has begun, and has no run was left
// out, or could not be started.
func (g Graph) infer(states map[string]StepState, begun map[string]bool) {
	passed := map[string]bool{}
	for _, i := range slices.Backward(g.order) {
		s := g.Steps[i]
		if begun[s.Name] || passed[s.Name] {
			for _, need := range s.Needs {
				passed[need] = true
			}
		}
	}
	status := make(map[string]Status, len(g.Steps))
	for _, i := range g.order {
		s := g.Steps[i]
		st := states[s.Name]
		if st.Status == Pending && passed[s.Name] {
			switch decide(s, status) {
			case LeftOut:
				st = StepState{Status: LeftOut, Message: g.why(s.Name, states)}
			case Running:
				st = StepState{Status: Failed, Message: "it could not be started"}
			}
			states[s.Name] = st
		}
		status[s.Name] = st.Status
	}
}

// keep gives what may be taken over of how the steps stood: those that succeeded, or still run, and neither stand in from nor
// need a step that stands there or did not succeed.
func (g Graph) keep(states map[string]StepState, from []string) map[string]StepState {
	_, leave, _, _, _ := Advance(g, states) // what was to be left out, and was not come to
	kept := map[string]StepState{}
	again := map[string]bool{}
	for _, i := range g.order {
		s := g.Steps[i]
		st := states[s.Name]
		if st.Status == Pending && slices.Contains(leave, s.Name) {
			st.Status = LeftOut
		}
		if slices.Contains(from, s.Name) || st.Status == Failed || st.Status == Pending || slices.ContainsFunc(s.Needs, func(n string) bool { return again[n] }) {
			again[s.Name] = true
			continue
		}
		if st.Status != LeftOut {
			kept[s.Name] = st
		}
	}
	return kept
}
