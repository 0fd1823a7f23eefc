package workflow_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

func TestAdvance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, graph, states string // "a+ b- c~ d0": succeeded, failed, running, left out
		start, leave        string
		verdict             core.Verdict
		message             string
	}{
		{"RootsStartTogether", "a|b|c: a b", "", "a b", "", "", ""},
		{"FanIn waits for all", "a|b|c: a b", "a+ b~", "", "", "", ""},
		{"FanIn starts when all succeeded", "a|b|c: a b", "a+ b+", "c", "", "", ""},
		{"FanOut", "a|b: a|c: a|d: a", "a+", "b c d", "", "", ""},
		{"Success is left out after a failure, and what follows too", "a|b: a|c: b|d* c", "a-", "d", "b c", "", ""},
		{"Failure starts after one", "a|b|c! a b", "a+ b-", "c", "", "", ""},
		{"Failure waits for the others", "a|b|c! a b", "a- b~", "", "", "", ""},
		{"Failure is left out after success", "a|b! a", "a+", "", "b", core.Succeeded, ""},
		{"Left out is no failure", "a|b: a|c! b|x! a", "a- x+", "", "b c", core.Succeeded, ""},
		{"Always starts after anything", "a|b: a|c* a b", "a-", "c", "b", "", ""},
		{"All succeeded", "a|b: a", "a+ b+", "", "", core.Succeeded, ""},
		{"A failure fails the workflow", "a|b: a", "a-", "", "b", core.Failed, "step a failed: bad luck"},
		{"A failure that is handled does not", "a|b! a", "a- b+", "", "", core.Succeeded, ""},
		{"Always handles nothing", "a|b* a", "a- b+", "", "", core.Failed, "step a failed: bad luck"},
		{"A handler that fails handles nothing", "a|b! a", "a- b-", "", "", core.Failed, "step a failed: bad luck; step b failed: bad luck"},
		{"Only the steps it needs are handled", "a|b|c! a", "a- b- c+", "", "", core.Failed, "step b failed: bad luck"},
		{"Many failures", "a|b|c|d|e", "a- b- c- d- e-", "", "", core.Failed, "step a failed: bad luck; step b failed: bad luck; step c failed: bad luck; 2 more failed"},
		{"While something runs it is not over", "a|b", "a- b~", "", "", "", ""},
		{"Listed in any order", "c: b|b: a|a", "a+", "b", "", "", ""},
	} {
		g := parse(t, graph(strings.Split(test.graph, "|")...))
		states := map[string]workflow.StepState{}
		for _, s := range strings.Fields(test.states) {
			st := workflow.StepState{Status: map[byte]workflow.Status{'+': workflow.Succeeded, '-': workflow.Failed, '~': workflow.Running, '0': workflow.LeftOut}[s[1]]}
			if st.Status == workflow.Failed {
				st.Message = "bad luck"
			}
			states[s[:1]] = st
		}
		start, leave, over, verdict, message := workflow.Advance(g, states)
		if strings.Join(start, " ") != test.start || strings.Join(leave, " ") != test.leave || over != (test.verdict != "") || verdict != test.verdict || message != test.message {
			t.Errorf("%s: start %v leave %v over %v %s %q", test.name, start, leave, over, verdict, message)
		}
	}
}

// randomGraph makes a graph of a few steps, in any order.
func randomGraph(rnd *rand.Rand) []string {
	n := 1 + rnd.IntN(10)
	lines := make([]string, n)
	for i := range lines {
		mark, needs := ":", []string{}
		for k := range i {
			if rnd.IntN(max(2, i)) == 0 {
				needs = append(needs, fmt.Sprintf("s%d", k))
			}
		}
		if len(needs) > 0 {
			mark = []string{":", ":", "!", "*"}[rnd.IntN(4)]
		}
		lines[i] = strings.TrimSpace(fmt.Sprintf("s%d%s %s", i, mark, strings.Join(needs, " ")))
	}
	rnd.Shuffle(n, func(i, k int) { lines[i], lines[k] = lines[k], lines[i] })
	return lines
}

// TestAdvanceAlwaysComesToAnEnd: whatever the steps come to, each is decided once, after all it needs, and the workflow ends.
func TestAdvanceAlwaysComesToAnEnd(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		lines := randomGraph(rnd)
		g := parse(t, graph(lines...))
		states := map[string]workflow.StepState{}
		decided := map[string]bool{}
		for range 200 {
			start, leave, over, verdict, _ := workflow.Advance(g, states)
			for _, name := range slices.Concat(start, leave) {
				if decided[name] || states[name].Status != workflow.Pending {
					t.Fatalf("seed %d: %s was decided twice", seed, name)
				}
				decided[name] = true
			}
			for _, name := range leave {
				states[name] = workflow.StepState{Status: workflow.LeftOut}
			}
			for _, name := range start {
				for _, s := range g.Steps {
					for _, need := range s.Needs {
						if st := states[need].Status; s.Name == name && (st == workflow.Pending || st == workflow.Running) {
							t.Fatalf("seed %d: %s starts before %s is over", seed, name, need)
						}
					}
				}
				states[name] = workflow.StepState{Status: workflow.Running}
			}
			if over {
				if len(states) != len(g.Steps) || verdict == "" {
					t.Fatalf("seed %d: over with %d of %d steps, %q", seed, len(states), len(g.Steps), verdict)
				}
				break
			}
			running := []string{}
			for name, st := range states {
				if st.Status == workflow.Running {
					running = append(running, name)
				}
			}
			if len(running) == 0 {
				t.Fatalf("seed %d: not over, and nothing runs: %v", seed, lines)
			}
			slices.Sort(running)
			ends := running[rnd.IntN(len(running))]
			states[ends] = workflow.StepState{Status: []workflow.Status{workflow.Succeeded, workflow.Failed}[rnd.IntN(2)]}
		}
		if _, _, over, _, _ := workflow.Advance(g, states); !over {
			t.Fatalf("seed %d: it does not end", seed)
		}
	}
}
