package ledger

import (
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// jump is where a zone's clock goes forward: local times from "from" up to, not including, "to" do not exist. They are
// civil times, written as if they were UTC.
type jump struct {
	at       time.Time
	from, to time.Time
}

// widest is the largest step forward a zone ever made (a whole day, where the date line was moved).
const widest = 25 * time.Hour

// jumpAt gives the step forward that ends at t, or ended so little before that t's local time, by the old offset, does
// not exist.
func jumpAt(t time.Time, zone *time.Location) (jump, bool) {
	start, _ := t.In(zone).ZoneBounds()
	if start.IsZero() || t.Sub(start) > widest {
		return jump{}, false
	}
	_, now := start.In(zone).Zone()
	_, then := start.Add(-time.Second).In(zone).Zone()
	if now <= then {
		return jump{}, false
	}
	civil := func(offset int) time.Time { return start.UTC().Add(time.Duration(offset) * time.Second) }
	return jump{at: start, from: civil(then), to: civil(now)}, true
}

// missingTimes gives the first of a cron schedule's local times in a jump, or false if it has none there or follows real
// time. The schedule is read in a zone without jumps, where its local times are instants.
func (a *asker) missingTimes(r *reign, j jump) (time.Time, bool) {
	plan := a.h.schedule(r)
	if plan == nil || plan.Kind() != schedule.Cron {
		return time.Time{}, false
	}
	fields := strings.Fields(r.task.Schedule.Spec)
	if len(fields) > 0 && strings.Contains(fields[0], "TZ=") {
		fields = fields[1:]
	}
	if len(fields) == 0 || realTime(fields, r.task.Schedule.Dialect) {
		return time.Time{}, false
	}
	flat := r.task
	flat.Schedule.Spec, flat.Schedule.Zone = strings.Join(fields, " "), ""
	flat.Schedule.OnlyOn, flat.Schedule.NotOn, flat.Schedule.OnDayOff = nil, nil, ""
	flat.Schedule.From, flat.Schedule.Until = time.Time{}, time.Time{}
	civil, err := a.h.planOf(flat, r.from)
	if err != nil {
		return time.Time{}, false
	}
	fire, ok := civil.Next(j.from.Add(-tick))
	return fire.At.UTC(), ok && fire.At.Before(j.to)
}

// realTime says whether a cron expression follows real time: its minute or hour begins with a star.
func realTime(fields []string, dialect string) bool {
	if fields[0] == "@hourly" {
		return true
	}
	if strings.HasPrefix(fields[0], "@") {
		return false
	}
	if len(fields) > 5 || dialect == "quartz" {
		fields = fields[1:]
	}
	return len(fields) < 2 || strings.HasPrefix(fields[0], "*") || strings.HasPrefix(fields[1], "*")
}

// wasMerged answers if what is asked about is a local time that does not exist.
func (a *asker) wasMerged(r *reign) bool {
	j, ok := jumpAt(a.at, a.zone)
	if !ok {
		return false
	}
	before := j.at.Add(-time.Second)
	_, offset := before.In(a.zone).Zone()
	asked := a.at.UTC().Add(time.Duration(offset) * time.Second)
	missing, ok := a.missingTimes(r, j)
	if !ok || !asked.Before(j.to) {
		return false
	}
	for missing.Before(asked) { // is it one of the schedule's own times?
		next, more := a.missingTimes(r, jump{at: j.at, from: missing.Add(tick), to: j.to})
		if !more {
			return false
		}
		missing = next
	}
	if !missing.Equal(asked) {
		return false
	}
	local := asked.Format("2006-01-02 15:04:05")
	a.put("local_time", local)
	a.gap(j.at)
	if fire, ok := fireAt(a.h.schedule(r), j.at); ok && fire.Skip == "" {
		a.Code = CodeMerged
		a.put("merged_into", j.at)
		a.Text = both("当地时间 %s（%s）不存在，时钟在 %s 拨快；%s 改在这一刻触发。", "the local time %s (%s) does not exist, because the clock went forward to %s; %s fires at that moment instead.",
			local, a.zone.String(), a.when(j.at), a.name)
		a.andThere(j.at)
		return true
	}
	a.Code = CodeNonexistent
	a.Text = both("当地时间 %s（%s）不存在，时钟在 %s 拨快；%s 的计划不要求补跑。", "the local time %s (%s) does not exist, because the clock went forward to %s; the schedule of %s does not make up for it.",
		local, a.zone.String(), a.when(j.at), a.name)
	return true
}

// standsFor says which local times a fire at the end of a jump stands for.
func (a *asker) standsFor(at time.Time) core.Text {
	r := a.heldAt(at)
	j, ok := jumpAt(at, a.zone)
	if r == nil || !ok || !j.at.Equal(at) {
		return core.Text{}
	}
	missing, ok := a.missingTimes(r, j)
	if !ok {
		return core.Text{}
	}
	a.gap(at)
	a.put("local_time", missing.Format("2006-01-02 15:04:05"))
	return both("它代替当地时间 %s，该时间因时钟拨快而不存在。", "It stands for the local time %s, which does not exist because the clock went forward.", missing.Format("2006-01-02 15:04:05"))
}

// gap puts a jump of the clock in evidence.
func (a *asker) gap(at time.Time) {
	j, ok := jumpAt(at.Add(tick), a.zone)
	if !ok {
		return
	}
	a.evidence("gap", j.at, both("%s 的时钟从 %s 拨到 %s", "the clock of %s went from %s to %s", a.zone.String(), j.from.Format("2006-01-02 15:04:05"), j.to.Format("15:04:05")), nil)
}
