package store

import (
	"context"
	"fmt"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Violation is one thing that must never be, and is.
type Violation struct {
	Rule   string // counters, owner, token, version, mark, verdict, hold, gate, breaker or reference: see CheckInvariants
	TaskID string
	RunID  string // "" if it is not about one run
	Detail string // for a person
}

// violationLimit is how many violations of one rule are given.
const violationLimit = 100

// CheckInvariants looks for what must never be between two transactions. The rules: "counters": a task's live and queued
// counters are those of its rows (waiting ones count as queued), and none is negative; "token": no run has a token its
// task has not given; "owner": a run that has not ended belongs to a living server (just after a server's death this is
// news, not a fault); "version": a task and its state are a pair of one version; "mark": a disabled task has no next fire;
// "verdict": a run has a verdict exactly if it has ended; "hold": only claimed and running runs hold slots; "gate": a
// waiting run waits at a gate; "breaker": a half-open breaker's probe executes; "reference": what names something is a task.
func (s *Store) CheckInvariants(ctx context.Context) ([]Violation, error) {
	var found []Violation
	err := s.look(ctx, "check the store's invariants", func(ctx context.Context) (err error) {
		found, err = s.violations(ctx)
		return err
	})
	return found, err
}

func (s *Store) violations(ctx context.Context) (found []Violation, err error) {
	drifted, err := s.q.DriftedCounters(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, d := range drifted {
		rule := "counters"
		if d.Live == d.LiveRows && d.Queued == d.QueuedRows {
			rule = "token"
		}
		found = append(found, Violation{rule, d.TaskID, "", fmt.Sprintf("live %d, rows %d; queued %d, rows %d; token %d, newest run's %d",
			d.Live, d.LiveRows, d.Queued, d.QueuedRows, d.Token, d.NewestToken)})
	}
	unowned, err := s.q.UnownedRuns(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, r := range unowned {
		found = append(found, Violation{"owner", r.TaskID, r.ID, fmt.Sprintf("%s, owned by %q, which is not alive", r.State, r.Owner)})
	}
	unpaired, err := s.q.UnpairedTasks(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, t := range unpaired {
		found = append(found, Violation{"version", t.ID, "", fmt.Sprintf("task has version %d, its state %d", t.Version, t.StateVersion)})
	}
	alone, err := s.q.UnpairedStates(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, id := range alone {
		found = append(found, Violation{"version", id, "", "state without a task"})
	}
	marked, err := s.q.MarkedDisabled(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, id := range marked {
		found = append(found, Violation{"mark", id, "", "disabled, but it has a next fire"})
	}
	unsaid, err := s.q.UnsaidEnds(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, r := range unsaid {
		found = append(found, Violation{"verdict", r.TaskID, r.ID, fmt.Sprintf("state %s, verdict %q", core.RunState(r.State), r.Verdict)})
	}
	more, err := s.gateViolations(ctx)
	return append(found, more...), err
}

// gateViolations are those of gates and what they keep count of.
func (s *Store) gateViolations(ctx context.Context) (found []Violation, err error) {
	misheld, err := s.q.MisheldSlots(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, h := range misheld {
		found = append(found, Violation{"hold", h.TaskID, h.RunID, fmt.Sprintf("%d slots of %s, held by a run whose state is %q", h.Slots, h.LimitKey, h.State)})
	}
	waiters, err := s.q.GatelessWaiters(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, r := range waiters {
		found = append(found, Violation{"gate", r.TaskID, r.ID, "waits at no gate"})
	}
	stuck, err := s.q.StuckBreakers(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, b := range stuck {
		found = append(found, Violation{"breaker", "", b.ProbeRun, fmt.Sprintf("%s is half open, and its probe does not execute", b.Name)})
	}
	bad, err := s.q.BadCounts(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, c := range bad {
		found = append(found, Violation{"counters", c.TaskID, "", fmt.Sprintf("fired %d, failures %d", c.Fired, c.Failures)})
	}
	stray, err := s.q.StrayTaskRefs(ctx, violationLimit)
	if err != nil {
		return nil, err
	}
	for _, r := range stray {
		found = append(found, Violation{"reference", r.TaskID, "", fmt.Sprintf("%s %q, named by a task that is gone", r.Kind, r.Name)})
	}
	return found, nil
}
