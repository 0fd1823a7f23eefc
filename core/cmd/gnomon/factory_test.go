package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
)

// month is a month of the factory: what was done to it, and what it left behind.
type month struct {
	*factory
	from, to       time.Time // what is held against the ledger
	pausedFrom     time.Time
	pausedTo       time.Time
	downFrom       time.Time // of what the jobs call
	downTo         time.Time
	stopped, again time.Time // the server
	edited         time.Time
	duties         []duty
	rows           map[string][]core.Run // by task
	byID           map[string]core.Run
	calls          map[string][]*call // by run
}

// TestAMonthOfTheFactory lives through 31 days with the Mid-Autumn Festival and National Day: the factory's system is down
// for five hours, the server for a day, a task is paused and another one edited.
func TestAMonthOfTheFactory(t *testing.T) {
	t.Parallel()
	began := time.Now()
	m := &month{
		factory: newFactory(t), from: local("09-15 00:00"), to: local("10-16 00:00"),
		pausedFrom: local("09-17 09:00"), pausedTo: local("09-21 10:00"), downFrom: local("09-22 10:20"), downTo: local("09-22 15:40"),
		stopped: local("09-23 14:01"), again: local("09-24 14:37"), edited: local("10-12 10:30"),
	}
	if underRace { // four days of it, with both outages
		m.from, m.to = local("09-21 00:00"), local("09-25 00:00")
	}
	synctest.Test(t, func(t *testing.T) {
		defer m.close(t) // nothing may be left in the bubble
		m.live(t)
		m.balance(t)
		m.chains(t)
		m.capacity(t)
		m.outage(t)
		m.answers(t)
	})
	m.tell(t, time.Since(began))
}

// within says whether an instant lies in the time looked at.
func (m *month) within(at time.Time) bool { return !at.Before(m.from) && at.Before(m.to) }

func (m *month) days() int { return int(m.to.Sub(m.from) / wholeDay) }

func (m *month) live(t *testing.T) {
	ctx := t.Context()
	m.plant.down = [][2]time.Time{{m.downFrom, m.downTo}}
	waitUntil(ctx, m.from.Add(-30*time.Minute))
	m.open(t)
	m.duties = duties(t, m.apply(t))

	if m.within(m.pausedFrom) {
		paused := m.task(t, "check-delivery-delay")
		waitUntil(ctx, m.pausedFrom)
		m.ask(t, http.MethodPost, "/v1/tasks/"+paused.ID+"/pause", nil, map[string]any{"note": "the suppliers' portal is being moved"}, nil)
		waitUntil(ctx, m.pausedTo)
		m.ask(t, http.MethodPost, "/v1/tasks/"+paused.ID+"/resume", nil, nil, nil)
	}

	waitUntil(ctx, m.stopped)
	m.close(t)
	waitUntil(ctx, m.again)
	m.open(t)

	if m.within(m.edited) {
		waitUntil(ctx, m.edited)
		m.ask(t, http.MethodPatch, "/v1/tasks/"+m.task(t, "generate-job-duty-tasks").ID, nil,
			map[string]any{"schedule": map[string]any{"spec": "30 4 * * *", "zone": "Asia/Shanghai", "only_on": []string{"factory-days"}}}, nil)
	}

	waitUntil(ctx, m.to.Add(55*time.Minute)) // what began last has ended
	m.rows, m.byID, m.calls = map[string][]core.Run{}, map[string]core.Run{}, m.plant.callsOf()
	for _, r := range m.factory.rows(t) {
		if r.FireAt.Before(m.to) {
			m.rows[r.TaskName] = append(m.rows[r.TaskName], r)
		}
		m.byID[r.ID] = r
		if r.State != core.RunEnded {
			t.Errorf("%s at %s has not ended: %s at %s %s", r.TaskName, r.FireAt.In(shanghai), r.State, r.Gate, r.GateKey)
		}
	}
	broken, err := m.store.CheckInvariants(ctx)
	if err != nil || len(broken) > 0 {
		t.Errorf("the store breaks its invariants: %+v, %v", broken, err)
	}
}

// timeOf is when a duty's job was due at a time: one was edited.
func (m *month) timeOf(d *duty) func(time.Time) (int, int) {
	if d.name != "generate-job-duty-tasks" {
		return nil
	}
	return func(at time.Time) (int, int) {
		if at.Before(m.edited) {
			return 4, 0
		}
		return 4, 30
	}
}

// balance holds the ledger against the schedules, and both against the reckoning and the calls that the plant saw.
func (m *month) balance(t *testing.T) {
	results := map[string]ledger.Result{}
	err := insight{m.app}.reconcile(t.Context(), []string{"Manufacturing"}, m.from, m.to, func(task core.Task, r ledger.Result) error {
		results[task.Name] = r
		if !r.Balanced() || r.Tolerated > 0 || r.Unjudged > 0 || len(r.Unreadable) > 0 {
			t.Errorf("%s: the ledger does not balance: %+v", task.Name, r)
		}
		return nil
	})
	if err != nil || len(results) != len(m.duties) {
		t.Fatalf("%d tasks reconciled, %v", len(results), err)
	}
	for i := range m.duties {
		m.hold(t, &m.duties[i], results[m.duties[i].name])
	}
}

// hold holds one task's rows and calls against its duty.
func (m *month) hold(t *testing.T, d *duty, r ledger.Result) {
	t.Helper()
	due := d.instants(m.from, m.to, m.timeOf(d))
	want := map[core.Reason]int64{}
	var missed []time.Time
	start := map[time.Time]bool{}
	for _, n := range due {
		switch {
		case n.off:
			want[core.ReasonCalendar]++
		case d.name == "check-delivery-delay" && m.within(m.pausedFrom) && n.at.After(m.pausedFrom) && n.at.Before(m.pausedTo):
			want[core.ReasonPaused]++
		default:
			start[n.at.UTC()] = true
			if n.at.After(m.stopped) && n.at.Before(m.again) {
				missed = append(missed, n.at.UTC())
			}
		}
	}
	for _, at := range missed[:max(0, len(missed)-max(1, d.catchAll))] {
		delete(start, at)
		want[core.ReasonCatchUp]++
	}
	// What else was skipped has its reason in the rows and calls around it.
	for _, row := range m.rows[d.name] {
		if row.Series != "" || row.Verdict != core.Skipped {
			continue
		}
		switch row.Reason {
		case core.ReasonCalendar, core.ReasonPaused, core.ReasonCatchUp:
			continue
		}
		if why := m.unfounded(row); why != "" {
			t.Errorf("%s at %s was skipped (%s, %s), but %s", d.name, row.FireAt.In(shanghai), row.Reason, row.Facts, why)
		}
		delete(start, row.FireAt)
		want[row.Reason]++
	}
	if r.Expected != int64(len(due)) || r.Started != int64(len(start)) || !maps.Equal(r.Skipped, want) {
		t.Errorf("%s: by the ledger %d instants, %d starts, skipped %v; by the inventory %d, %d and %v", d.name, r.Expected, r.Started, r.Skipped, len(due), len(start), want)
	}
	ran := map[time.Time]string{}
	for _, row := range m.rows[d.name] {
		if row.Series != "" || row.Verdict == core.Skipped {
			continue
		}
		if !start[row.FireAt] || ran[row.FireAt] != "" {
			t.Errorf("%s ran at %s, when it had nothing to do, or had done it", d.name, row.FireAt.In(shanghai))
		}
		ran[row.FireAt] = row.ID
		if calls := m.calls[row.ID]; !d.workflow && len(calls) == 0 {
			t.Errorf("%s at %s has %s, and the plant was never called", d.name, row.FireAt.In(shanghai), row.Verdict)
		}
	}
	if len(ran) != len(start) {
		t.Errorf("%s has runs at %d instants and should at %d", d.name, len(ran), len(start))
	}
}

// unfounded says why a skipped fire should not have been; "" if it should.
func (m *month) unfounded(row core.Run) string {
	switch row.Reason {
	case core.ReasonOverlap:
		for _, other := range m.rows[row.TaskName] {
			if other.Verdict != core.Skipped && other.FireAt.Before(row.FireAt) && other.EndedAt.After(row.FireAt) {
				return ""
			}
		}
		return "no earlier run was live"
	case core.ReasonSuperseded:
		if row.FireAt.Before(m.downFrom.Add(-time.Hour)) || row.FireAt.After(m.downTo) {
			return "nothing held it up"
		}
		for _, other := range m.rows[row.TaskName] {
			if other.FireAt.After(row.FireAt) && !other.FireAt.After(m.downTo.Add(time.Hour)) && other.Verdict != core.Skipped {
				return ""
			}
		}
		return "no later fire took its place"
	case core.ReasonPrecondition:
		for _, other := range m.rows["check-timeout-issues"] {
			if other.Verdict == core.Succeeded && !other.EndedAt.Before(row.FireAt.Add(-2*time.Hour)) && other.EndedAt.Before(row.FireAt) {
				return "the first escalation had succeeded"
			}
		}
		return ""
	}
	return "that reason has no place here"
}

// chains looks at the order of what depends on one another, and at what was handed on.
func (m *month) chains(t *testing.T) {
	steps := map[string]map[string]core.Run{} // workflow run -> step -> its last run
	for _, run := range m.byID {
		if run.WorkflowID != "" {
			if steps[run.WorkflowID] == nil {
				steps[run.WorkflowID] = map[string]core.Run{}
			}
			if was, ok := steps[run.WorkflowID][run.Step]; !ok || was.ID < run.ID {
				steps[run.WorkflowID][run.Step] = run
			}
		}
	}
	reports, deliveries, waited := 0, 0, 0
	for _, run := range m.rows["production-daily"] {
		of := steps[run.ID]
		stats := of["stats"]
		for _, name := range []string{"production-report", "shortage-report"} {
			report, ok := of[name]
			if !ok {
				if stats.Verdict == core.Succeeded {
					t.Errorf("production-daily at %s has no %s", run.FireAt.In(shanghai), name)
				}
				continue
			}
			var said struct{ Batch string }
			if err := json.Unmarshal(stats.Output, &said); err != nil {
				t.Fatal(err)
			}
			for _, c := range m.calls[report.ID] {
				if c.began.Before(stats.EndedAt) || c.input["batch"] != said.Batch || said.Batch == "" {
					t.Errorf("production-daily at %s: %s began at %s with %v; the statistics ended at %s with batch %q",
						run.FireAt.In(shanghai), name, c.began, c.input, stats.EndedAt, said.Batch)
				}
				reports++
			}
		}
	}
	for _, run := range m.rows["alert-delivery"] {
		if run.Verdict == core.Skipped {
			continue
		}
		escalate, send := steps[run.ID]["escalate"], steps[run.ID]["send"]
		if escalate.ID == "" || send.ID == "" {
			if run.Verdict == core.Succeeded {
				t.Errorf("alert-delivery at %s succeeded without its steps", run.FireAt.In(shanghai))
			}
			continue
		}
		deliveries++
		for _, c := range m.calls[send.ID] {
			if c.began.Before(escalate.EndedAt) {
				t.Errorf("alert-delivery at %s sends before it has escalated", run.FireAt.In(shanghai))
			}
		}
		if run.StartedAt.Sub(run.FireAt) >= 20*time.Minute { // the deadline of its precondition
			waited++
			continue
		}
		for _, name := range waitsFor["alert-delivery"] {
			for _, check := range m.rows[name] {
				if check.Verdict != core.Skipped && check.FireAt.Before(run.FireAt) && run.FireAt.Sub(check.FireAt) < time.Hour && check.EndedAt.After(run.StartedAt) {
					t.Errorf("alert-delivery at %s began at %s, before %s ended", run.FireAt.In(shanghai), run.StartedAt.In(shanghai), name)
				}
			}
		}
	}
	if reports < 2*m.days()-7 || deliveries < 24*m.days()-94 { // the outages take some
		t.Errorf("%d reports and %d deliveries in %d days", reports, deliveries, m.days())
	}
	t.Logf("%d reports followed their statistics, %d deliveries their checks; %d went after twenty minutes of waiting", reports, deliveries, waited)
	// The costs of October are reckoned once, on the first working day after the holidays.
	costs := m.rows["calculate-monthly-labor-cost"]
	if !m.within(local("10-08 02:00")) {
		return
	}
	if len(costs) != 1 || !costs[0].FireAt.Equal(local("10-08 02:00")) || !costs[0].MovedFrom.Equal(local("10-01 02:00")) || costs[0].Verdict == core.Skipped {
		t.Errorf("the monthly labour cost: %+v", costs)
	}
}

// capacity looks at how many calls there were at once, in all and of one task, and at the attempts of each run.
func (m *month) capacity(t *testing.T) {
	type edge struct {
		at   time.Time
		by   int
		task string
	}
	var edges []edge
	for id, calls := range m.calls {
		for i, c := range calls {
			if c.number != i+1 || i > 0 && (c.token <= calls[i-1].token || c.began.Before(calls[i-1].ended)) {
				t.Errorf("the attempts of run %s of %s are not one after the other", id, c.task)
			}
			if c.ended.IsZero() {
				t.Errorf("%s is still being called", c.job)
			}
			edges = append(edges, edge{c.began, 1, c.task}, edge{c.ended, -1, c.task})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if order := a.at.Compare(b.at); order != 0 {
			return order
		}
		return a.by - b.by
	})
	now, most, of := 0, 0, map[string]int{}
	for _, e := range edges {
		now += e.by
		of[e.task] += e.by
		if most = max(most, now); now > 4 {
			t.Fatalf("%d calls at %s, and the pool has 4 slots", now, e.at)
		}
		if of[e.task] > 1 {
			t.Fatalf("two calls of %s at %s", e.task, e.at)
		}
	}
	if most != 4 {
		t.Errorf("never more than %d calls at once: the pool was not needed", most)
	}
}

// outage looks at what the breaker did while the plant was down.
func (m *month) outage(t *testing.T) {
	during, states := 0, map[core.BreakerState]int{}
	for _, calls := range m.calls {
		for _, c := range calls {
			if m.plant.isDown(c.began) {
				during++
			}
		}
	}
	m.archive.mu.Lock()
	for _, c := range m.archive.moved {
		if c.Name == "downstream:erp" {
			states[c.State]++
		}
	}
	m.archive.mu.Unlock()
	b, err := m.store.Breaker(t.Context(), "downstream:erp")
	if err != nil || b.State != core.BreakerClosed && b.State != "" {
		t.Errorf("the breaker is %s at the end, %v", b.State, err)
	}
	// Five failures open it, and then one run tries every five minutes of five hours and twenty minutes.
	if during < 6 || during > 75 || states[core.BreakerOpen] == 0 || states[core.BreakerClosed] == 0 {
		t.Errorf("%d calls while the plant was down; the breaker moved: %v", during, states)
	}
	t.Logf("the plant was called %d times while it was down", during)
}

// answers asks the server itself: why something did not run, for one fire of each reason, and whether the accounts of the
// month are in order.
func (m *month) answers(t *testing.T) {
	type question struct {
		task string
		at   time.Time
		code core.Reason
		says string
	}
	questions := []question{
		{"check-delivery-delay", local("09-18 14:00"), core.ReasonPaused, "portal is being moved"},
		{"check-payment-reminder", local("10-05 09:30"), core.ReasonCalendar, "National Day"},
		{"check-overdue-issues", local("09-24 03:00"), core.ReasonCatchUp, ""},
		{"alert-delivery", local("09-30 20:10"), core.ReasonCalendar, "stocktaking"},
	}
	seen := map[core.Reason]bool{}
	for name, rows := range m.rows {
		for _, r := range rows {
			if r.Verdict == core.Skipped && r.Series == "" && !seen[r.Reason] {
				seen[r.Reason] = true
				questions = append(questions, question{name, r.FireAt, r.Reason, ""})
			}
		}
	}
	for _, q := range questions {
		if !m.within(q.at) {
			continue
		}
		var why api.Why
		m.ask(t, http.MethodGet, "/v1/tasks/"+m.task(t, q.task).ID+"/why", url.Values{"at": {q.at.UTC().Format(time.RFC3339)}}, nil, &why)
		text, err := json.Marshal(why)
		if err != nil || !strings.Contains(why.Code, string(q.code)) || !strings.Contains(string(text), q.says) || why.Answer.Zh == "" || why.Answer.En == "" {
			t.Errorf("why %s at %s: %s", q.task, q.at.In(shanghai), text)
		}
	}
	var accounts api.Reconciliation
	m.ask(t, http.MethodGet, "/v1/reconciliation", url.Values{
		"namespace": {"Manufacturing"}, "from": {m.from.UTC().Format(time.RFC3339)}, "to": {m.to.UTC().Format(time.RFC3339)},
	}, nil, &accounts)
	if !accounts.Sound || accounts.Partial != "" {
		t.Errorf("the accounts of the month: %+v", accounts)
	}
}

// tell says in one line what the month was.
func (m *month) tell(t *testing.T, took time.Duration) {
	fires, starts, attempts, breaches := 0, 0, 0, 0
	skips, verdicts := map[core.Reason]int{}, map[core.Verdict]int{}
	for _, rows := range m.rows {
		for _, r := range rows {
			fires += r.FireCount
			if r.Verdict == core.Skipped {
				skips[r.Reason] += r.FireCount
				continue
			}
			starts++
			verdicts[r.Verdict]++
			breaches += len(r.Breaches)
		}
	}
	for _, calls := range m.calls {
		attempts += len(calls)
	}
	var text []string
	for _, reason := range slices.Sorted(maps.Keys(skips)) {
		text = append(text, fmt.Sprintf("%s %d", reason, skips[reason]))
	}
	t.Logf("%d days in %.0f s: %d fires, %d starts (%v), %d calls, %d service levels missed; skipped: %s",
		m.days(), took.Seconds(), fires, starts, verdicts, attempts, breaches, strings.Join(text, ", "))
}
