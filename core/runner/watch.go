package runner

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Breaches says which of a task's service levels a run has missed at a moment, in the order of core.SLA. startedAt, of its
// current attempt, and endedAt are zero while it has not; over says that it will neither start nor end later. usual is the p95 of the task's
// durations, 0 if it is not known. It is pure.
func Breaches(sla core.SLA, run core.Run, startedAt, endedAt, now time.Time, over bool, usual time.Duration, zone *time.Location) []core.Breach {
	var list []core.Breach
	missed := func(kind core.BreachKind, limit time.Time, words string) {
		list = append(list, core.Breach{Kind: kind, At: limit.UTC(), Limit: words})
	}
	until := func(at time.Time) time.Time { // when something happened, or now if it has not yet
		if at.IsZero() {
			return now
		}
		return at
	}
	late := !run.Trigger.OfThePast()
	if d := sla.StartWithin; d > 0 && late && run.Attempt <= 1 { // with the first attempt it has started
		if limit := run.FireAt.Add(d); until(startedAt).After(limit) || over && startedAt.IsZero() {
			missed(core.BreachStart, limit, "start within "+d.String())
		}
	}
	if d := sla.FinishWithin; d > 0 && late {
		if limit := run.FireAt.Add(d); until(endedAt).After(limit) {
			missed(core.BreachFinish, limit, "finish within "+d.String())
		}
	}
	if sla.FinishBy != "" && late {
		if limit, ok := nextLocal(run.FireAt, sla.FinishBy, zone); ok && until(endedAt).After(limit) {
			missed(core.BreachFinish, limit, "finish by "+sla.FinishBy)
		}
	}
	if startedAt.IsZero() {
		return list
	}
	if d := sla.MaxDuration; d > 0 && until(endedAt).Sub(startedAt) > d {
		missed(core.BreachLong, startedAt.Add(d), "take at most "+d.String())
	}
	if sla.P95Factor > 0 && usual > 0 {
		if d := time.Duration(sla.P95Factor * float64(usual)); until(endedAt).Sub(startedAt) > d {
			missed(core.BreachSlow, startedAt.Add(d), fmt.Sprintf("take at most %g times the usual %s", sla.P95Factor, usual.Round(time.Millisecond)))
		}
	}
	return list
}

// nextLocal gives the first instant at or after at whose local time of day is the one given as 15:04.
func nextLocal(at time.Time, clock string, zone *time.Location) (time.Time, bool) {
	t, err := time.Parse("15:04", clock)
	if err != nil {
		return time.Time{}, false
	}
	local := at.In(zone)
	for day := range 2 {
		limit := time.Date(local.Year(), local.Month(), local.Day()+day, t.Hour(), t.Minute(), 0, 0, zone)
		if !limit.Before(at) {
			return limit, true
		}
	}
	return time.Time{}, false
}

// breaches gives what a run has missed so far.
func (r *Runner) breaches(l *liveRun, now time.Time, ended bool) []core.Breach {
	sla := l.task.Policies.SLA
	if sla == (core.SLA{}) {
		return nil
	}
	var endedAt time.Time
	if ended {
		endedAt = now
	}
	var usual time.Duration
	if sla.P95Factor > 0 {
		usual = r.opts.Usual(l.run.TaskID)
	}
	return Breaches(sla, l.run, cmp.Or(l.startedAt, l.began), endedAt, now, ended, usual, r.opts.Zone(l.task))
}

// watch tells the store which live runs have missed a service level since it last looked.
func (r *Runner) watch(ctx context.Context) {
	type late struct {
		id       string
		breaches []core.Breach
	}
	var list []late
	r.mu.Lock()
	now := r.opts.Clock.Now()
	for id, l := range r.live {
		if l.task.Policies.SLA == (core.SLA{}) || l.over {
			continue
		}
		missed := slices.DeleteFunc(r.breaches(l, now, false), func(b core.Breach) bool {
			return slices.ContainsFunc(l.run.Breaches, b.Same) || slices.ContainsFunc(l.told, b.Same)
		})
		if len(missed) > 0 {
			l.told = append(l.told, missed...)
			list = append(list, late{id, missed})
		}
	}
	r.mu.Unlock()
	for _, l := range list {
		for _, b := range l.breaches {
			r.opts.Log.Warn("service level missed", "run_id", l.id, "kind", b.Kind, "limit", b.Limit)
		}
		if err := r.opts.Store.Breach(ctx, l.id, l.breaches); err != nil && ctx.Err() == nil {
			r.opts.Log.Warn("missed service level not written", "run_id", l.id, "err", err)
		}
	}
}
