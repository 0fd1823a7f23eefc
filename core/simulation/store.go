package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// store is what the real store promises, without its durability: each method is one transaction.
type store struct {
	tasks  map[string]*taskRow
	order  []string
	runs   map[string]*core.Run
	fires  map[string]string // "task|instant" -> run id: the unique key
	live   []string          // ids of runs that have not ended, in the order of their claims
	leases map[string]time.Time
}

type taskRow struct {
	task     *core.Task
	nextFire time.Time
	live     int
	token    int64
}

func newStore() *store {
	return &store{tasks: make(map[string]*taskRow), runs: make(map[string]*core.Run), fires: make(map[string]string), leases: make(map[string]time.Time)}
}

func runID(serial int) string { return fmt.Sprintf("run-%08d", serial) }

func (s *store) addTask(task *core.Task, nextFire time.Time) {
	s.tasks[task.ID] = &taskRow{task: task, nextFire: nextFire}
	s.order = append(s.order, task.ID)
}

func (s *store) due(until time.Time) []core.Due {
	var list []core.Due
	for _, id := range s.order {
		if t := s.tasks[id]; !t.nextFire.IsZero() && !t.nextFire.After(until) {
			list = append(list, core.Due{TaskID: id, Version: t.task.Version, NextFire: t.nextFire})
		}
	}
	return list
}

func (s *store) claim(c core.Claim) core.Claimed {
	t := s.tasks[c.TaskID]
	if t.task.Version != c.Version || !t.nextFire.Equal(c.NextFire) {
		return core.Claimed{}
	}
	t.nextFire = c.Then
	answer := core.Claimed{Won: true, Live: t.live}
	for _, run := range c.Runs {
		key := c.TaskID + "|" + run.FireAt.UTC().String()
		if _, taken := s.fires[key]; taken {
			answer.Decided = answer.Decided || run.State != core.RunEnded
			continue
		}
		s.fires[key] = run.ID
		row := run
		s.runs[run.ID] = &row
		if run.State == core.RunEnded {
			continue
		}
		t.token++
		row.Token = t.token
		if c.Overlap == core.OverlapSkip && t.live > 0 {
			row.State, answer.Queued = core.RunQueued, true
		}
		s.runs[run.ID].Token, s.runs[run.ID].State = row.Token, row.State
		answer.Token = t.token
		t.live++
		s.live = append(s.live, run.ID)
	}
	return answer
}

func (s *store) start(c core.Start) core.Claimed {
	run, t := s.runs[c.RunID], s.tasks[c.TaskID]
	answer := core.Claimed{Live: t.live - 1}
	if run.State != core.RunQueued && run.State != core.RunRetrying || run.Token != c.Token || c.OnlyAlone && s.busy(c.TaskID) {
		return answer
	}
	t.token++
	run.State, run.Token, run.Owner, run.StartAt = core.RunClaimed, t.token, c.Owner, c.At
	answer.Won, answer.Token = true, t.token
	return answer
}

// busy tells whether a run of the task is live in any state but queued.
func (s *store) busy(taskID string) bool {
	return slices.ContainsFunc(s.live, func(id string) bool { return s.runs[id].TaskID == taskID && s.runs[id].State != core.RunQueued })
}

func (s *store) end(run *core.Run) {
	run.State = core.RunEnded
	s.tasks[run.TaskID].live--
	s.live = slices.DeleteFunc(s.live, func(id string) bool { return id == run.ID })
}

func (s *store) skip(runID string, token int64, reason core.Reason, at, nextFire time.Time) {
	run := s.runs[runID]
	if run.State != core.RunQueued && run.State != core.RunClaimed || run.Token != token {
		return
	}
	run.Verdict, run.Reason, run.EndedAt = core.Skipped, reason, at
	s.end(run)
	if !nextFire.IsZero() {
		s.tasks[run.TaskID].nextFire = nextFire
	}
}

func (s *store) finish(f core.Finish) core.Finished {
	run := s.runs[f.RunID]
	if run.State == core.RunEnded || run.Token != f.Token {
		return core.Finished{Stale: true}
	}
	t := s.tasks[run.TaskID]
	if !f.RetryAt.IsZero() {
		t.token++
		run.State, run.StartAt, run.Attempt, run.Token, run.Owner = core.RunRetrying, f.RetryAt, run.Attempt+1, t.token, f.Owner
		return core.Finished{Token: t.token}
	}
	run.Verdict, run.EndedAt = f.Outcome.Verdict, f.EndedAt
	s.end(run)
	if !f.NextFire.IsZero() {
		t.nextFire = f.NextFire
	}
	return core.Finished{}
}

// orphans gives the live runs of owners whose lease has ended, and those of the asker that it does not hold in memory
// and that should have begun before stale.
func (s *store) orphans(now time.Time, asker string, held map[string]bool, stale time.Time) []core.Run {
	var list []core.Run
	for _, id := range s.live {
		run := s.runs[id]
		own := run.Owner == asker && !held[id] && run.StartAt.Before(stale)
		if own || run.Owner != asker && !s.leases[run.Owner].After(now) {
			list = append(list, *run)
		}
	}
	return list
}

func (s *store) adopt(runID string, token int64, owner string) (int64, bool) {
	run := s.runs[runID]
	if run.State == core.RunEnded || run.Token != token {
		return 0, false
	}
	t := s.tasks[run.TaskID]
	t.token++
	run.Token, run.Owner = t.token, owner
	return t.token, true
}

func (s *store) valid(runID string, token int64) bool {
	run := s.runs[runID]
	return run.State != core.RunEnded && run.Token == token
}
