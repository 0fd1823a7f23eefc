package workflow

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// The states of a step as it is shown, beside those of a live run (core.RunState) and the verdicts.
const (
	ShownPending   = "pending"    // what it needs is not over
	ShownSkipped   = "skipped"    // its condition did not hold, its run was skipped, or the workflow ended before it
	ShownTakenOver = "taken_over" // its output is that of an earlier workflow run
)

// StepView is a step as it is shown.
type StepView struct {
	Step
	State     string       // one of those above, of core.RunState or of core.Verdict
	RunID     string       // its last run; of a step taken over: the earlier one
	Attempt   int          // the run's next or current attempt
	Gate      core.Gate    // what its run waits at
	GateKey   string       // which one
	StartedAt time.Time    // zero: not yet
	EndedAt   time.Time    // zero: not yet
	Verdict   core.Verdict // "" while it is not over, or has no run
	Message   string
	Output    json.RawMessage
}

// View shows how the steps of a workflow run stand, from its runs, in an order in which each comes after what it needs. It is pure.
// What the run took over from an earlier one is not known to it: see Executor.View.
func View(g Graph, runs []core.Run) []StepView {
	return view(g, g.replay(nil, runs, lastRound(runs)))
}

func view(g Graph, states map[string]StepState) []StepView {
	_, leave, _, _, _ := Advance(g, states)
	for _, name := range leave {
		states[name] = StepState{Status: LeftOut, Message: g.why(name, states)}
	}
	list := make([]StepView, 0, len(g.Steps))
	for _, i := range g.order {
		st := states[g.Steps[i].Name]
		v := StepView{Step: g.Steps[i], RunID: st.RunID, Verdict: st.Verdict, Message: st.Message, Output: st.Output}
		if r := st.run; r != nil {
			v.Attempt, v.StartedAt, v.EndedAt = r.Attempt, r.StartedAt, r.EndedAt
		}
		switch {
		case st.Taken:
			v.State = ShownTakenOver
		case st.Status == Pending:
			v.State = ShownPending
		case st.Status == LeftOut:
			v.State = ShownSkipped
		case st.Status == Running:
			v.State, v.Gate, v.GateKey = string(st.run.State), st.run.Gate, st.run.GateKey
		case st.Verdict == "":
			v.State = string(core.Failed) // it could not be started
		default:
			v.State = string(st.Verdict)
		}
		list = append(list, v)
	}
	return list
}

// View shows how the steps of a workflow run stand, what it took over included. It fails with KindInvalid if the run's
// parameters are no graph, and with KindConflict if it is no workflow's.
func (e *Executor) View(ctx context.Context, run core.Run) ([]StepView, error) {
	op := "show workflow run " + run.ID
	if run.TaskType != TypeName {
		return nil, core.Refuse(core.KindConflict, op, core.Text{Zh: "运行 " + run.ID + " 属于 " + run.TaskType + "，不是工作流", En: "it is a run of " + run.TaskType + ", not of a workflow"})
	}
	g, found := Parse(run.Params)
	if len(found) > 0 {
		return nil, core.Invalid(op, found...)
	}
	states, err := e.stood(ctx, run, g, 0)
	if core.KindOf(err) == core.KindNotFound && g.Resume != nil { // history does not reach back to it: what it took over is not shown
		g.Resume = nil
		states, err = e.stood(ctx, run, g, 0)
	}
	if err != nil {
		return nil, err
	}
	list := view(g, states)
	if run.State != core.RunEnded {
		return list, nil
	}
	var said results
	_ = json.Unmarshal(run.Output, &said) // a run that was killed has no output
	for i := range list {
		v := &list[i]
		if r, ok := said.Steps[v.Name]; ok && v.RunID == "" && r.Verdict != "" {
			v.State, v.Verdict, v.Message = string(r.Verdict), r.Verdict, r.Message
		} else if v.State == ShownPending {
			v.State, v.Message = ShownSkipped, "the workflow ended before it"
		}
	}
	return list, nil
}
