package api

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Waiting is a run that waits, and for what.
type Waiting struct {
	Order     int    `json:"order" doc:"Its place among the runs of all namespaces that wait for the same, from 1: by priority; at a limit, of equal ones, the namespace that has the least of it; then the earlier"`
	RunID     string `json:"run_id" doc:"The run"`
	TaskID    string `json:"task_id" doc:"Its task"`
	Namespace string `json:"namespace" doc:"The task's" example:"Common"`
	TaskName  string `json:"task_name" doc:"The task's" example:"nightly-load"`
	TaskType  string `json:"task_type" doc:"The task's" example:"Common.HTTPRequest"`
	FireAt    *Time  `json:"fire_at" doc:"Its nominal instant"`
	Trigger   string `json:"trigger" doc:"What made it; see runs" example:"schedule"`
	State     string `json:"state" enum:"waiting,retrying" doc:"It has not started, or waits with its next attempt"`
	Attempt   int    `json:"attempt" doc:"The next attempt, from 1"`
	Gate      string `json:"gate" enum:"overlap,precondition,breaker,capacity" doc:"What it waits at: earlier runs of its task, a precondition, a breaker, a limit"`
	Key       string `json:"key" doc:"Which one: name of the limit or breaker, index of the precondition; empty for overlap" example:"pool:erp"`
	Detail    string `json:"detail,omitempty" doc:"How that stood when it was last looked at" example:"2 of 2 slots of pool:erp in use, 1 wanted"`
	Since     *Time  `json:"since,omitempty" doc:"Since when it waits"`
	Until     *Time  `json:"until,omitempty" doc:"When it is looked at again at the latest; absent: when something changes"`
	Priority  int    `json:"priority" doc:"The higher is admitted first"`
}

// lane is what runs wait for together. Those at overlap and precondition wait for what is their task's alone.
type lane struct {
	gate core.Gate
	key  string
}

// gates are in the order in which a run passes them.
var gates = []core.Gate{core.GateOverlap, core.GatePrecondition, core.GateBreaker, core.GateCapacity}

func (l lane) compare(m lane) int {
	return cmp.Or(cmp.Compare(slices.Index(gates, l.gate), slices.Index(gates, m.gate)), cmp.Compare(l.key, m.key))
}

func laneOf(r core.Run) lane {
	if r.Gate == core.GateOverlap || r.Gate == core.GatePrecondition {
		return lane{r.Gate, r.TaskID + " " + r.GateKey}
	}
	return lane{r.Gate, r.GateKey}
}

// maxWaiting is how many waiting runs are looked at.
const maxWaiting = 100_000

// waiting gives the runs of all namespaces that wait, in no order.
func (a *API) waiting(ctx context.Context) (waiting []core.Run, err error) {
	now := a.opts.Clock.Now()
	filter := core.RunFilter{LiveOnly: true, States: []core.RunState{core.RunWaiting, core.RunRetrying}, Limit: 1000}
	for looked := 0; looked < maxWaiting; looked += filter.Limit {
		some, err := a.opts.Live.Runs(ctx, filter)
		if err != nil {
			return nil, err
		}
		for i := range some {
			// A run that is retried keeps the gate of the attempt before until its next one is due.
			if r := &some[i]; r.Gate != core.GateNone && (r.State == core.RunWaiting || !now.Before(r.StartAt)) {
				waiting = append(waiting, *r)
			}
		}
		if len(some) < filter.Limit {
			break
		}
		filter.BeforeID = some[len(some)-1].ID
	}
	return waiting, nil
}

// inOrder sorts runs by what they wait for, and those that wait for the same in the order in which the runner admits them:
// by priority; at a limit, of equal ones, the namespace that has the least of it; then the earlier one. What is admitted
// counts for its namespace from then on.
func inOrder(runs []core.Run, holdings []core.Holding) {
	instant := func(r *core.Run) time.Time {
		if r.Gate == core.GateOverlap {
			return r.FireAt
		}
		return r.StartAt
	}
	slices.SortFunc(runs, func(x, y core.Run) int {
		return cmp.Or(laneOf(x).compare(laneOf(y)), cmp.Compare(y.Priority, x.Priority), instant(&x).Compare(instant(&y)), cmp.Compare(x.ID, y.ID))
	})
	shares := map[[2]string]int{}
	for _, h := range holdings {
		shares[[2]string{h.Limit, h.Namespace}] += h.Slots
	}
	for from, to := 0, 0; from < len(runs); from = to {
		here := &runs[from]
		for to = from + 1; to < len(runs) && laneOf(runs[to]) == laneOf(*here) && runs[to].Priority == here.Priority; to++ {
		}
		if here.Gate == core.GateCapacity {
			takeTurns(runs[from:to], shares)
		}
	}
}

// takeTurns orders runs of one limit and priority, which are in time, by what their namespaces have of it.
func takeTurns(runs []core.Run, shares map[[2]string]int) {
	lines := map[string][]core.Run{}
	for _, r := range runs {
		lines[r.Namespace] = append(lines[r.Namespace], r)
	}
	names := slices.Sorted(maps.Keys(lines))
	for i := range runs {
		best := ""
		for _, name := range names {
			if len(lines[name]) == 0 {
				continue
			}
			x, y := shares[[2]string{runs[i].GateKey, name}], shares[[2]string{runs[i].GateKey, best}]
			if best == "" || x < y || x == y && lines[name][0].StartAt.Before(lines[best][0].StartAt) {
				best = name
			}
		}
		shares[[2]string{runs[i].GateKey, best}]++
		runs[i], lines[best] = lines[best][0], lines[best][1:]
	}
}

func waitingOut(r core.Run, order int) Waiting {
	var facts struct {
		Detail string `json:"detail"`
	}
	_ = json.Unmarshal(r.Facts, &facts) // facts without a detail are none
	return Waiting{
		Order: order, RunID: r.ID, TaskID: r.TaskID, Namespace: r.Namespace, TaskName: r.TaskName, TaskType: r.TaskType,
		FireAt: instant(r.FireAt), Trigger: string(r.Trigger), State: string(r.State), Attempt: r.Attempt, Gate: string(r.Gate),
		Key: r.GateKey, Detail: facts.Detail, Since: instant(r.WaitSince), Until: instant(r.WaitUntil), Priority: r.Priority,
	}
}

func (a *API) queue() {
	register(a, huma.Operation{
		OperationID: "list-queue", Method: http.MethodGet, Path: "/v1/queue", Tags: []string{"queue"},
		Summary: "List the runs that wait, for what, and in which order they go on",
	}, rule{permission: "run:read", source: fromGrants},
		func(ctx context.Context, in *struct {
			Namespace string `query:"namespace" doc:"Only of this namespace"`
			Gate      string `query:"gate" enum:"overlap,precondition,breaker,capacity" doc:"Only what waits at this kind of gate"`
			Key       string `query:"key" doc:"Only what waits for this limit or breaker" example:"pool:erp" maxLength:"256"`
			Cursor    int    `query:"cursor" minimum:"0" doc:"next_cursor of the page before; a queue moves, so that a run may be on both pages or on none"`
			Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most"`
		}) (*paged[Waiting], error) {
			out := page[Waiting]()
			namespaces, err := a.visible(ctx, "run:read", in.Namespace)
			if err != nil {
				return nil, err
			}
			list, err := a.waiting(ctx)
			if err != nil {
				return nil, err
			}
			holdings, err := a.opts.Live.Holdings(ctx)
			if err != nil {
				return nil, err
			}
			inOrder(list, holdings)
			places, seen := map[lane]int{}, 0
			for _, r := range list {
				places[laneOf(r)]++
				if namespaces != nil && !slices.Contains(namespaces, r.Namespace) ||
					in.Gate != "" && in.Gate != string(r.Gate) || in.Key != "" && in.Key != r.GateKey {
					continue
				}
				if seen++; seen <= in.Cursor {
					continue
				}
				if len(out.Body.Items) == in.Limit {
					out.Body.NextCursor = strconv.Itoa(in.Cursor + in.Limit)
					break
				}
				out.Body.Items = append(out.Body.Items, waitingOut(r, places[laneOf(r)]))
			}
			return out, nil
		})
}
