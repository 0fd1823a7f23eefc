package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/metrics"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// Doctor examines the server and what it keeps: the promises that can be checked while it runs.
func (i insight) Doctor(ctx context.Context) ([]api.Check, error) {
	var checks []api.Check
	say := func(name, severity string, ok bool, data any, zh, en string) {
		checks = append(checks, api.Check{Name: name, OK: ok, Severity: severity, Text: api.Text{Zh: zh, En: en}, Data: anyOf(data)})
	}
	// History comes before what reads it: if it does not answer, the rest does not wait for it.
	for _, examine := range []func(context.Context, sayFunc){i.examineStore, i.examineHistory, i.examineLedger, i.examineTasks, i.examineRuns} {
		limit := 20 * time.Second
		if _, _, _, down := i.a.watch.last(); down != nil {
			limit = healthEvery + time.Second
		}
		i.within(ctx, limit, say, examine)
	}
	return checks, nil
}

func (insight) within(ctx context.Context, limit time.Duration, say sayFunc, examine func(context.Context, sayFunc)) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, core.Errorf(core.KindUnavailable, "examine the server", "no answer within %s", limit))
	defer cancel()
	examine(ctx, say)
}

type sayFunc func(name, severity string, ok bool, data any, zh, en string)

func (i insight) examineStore(ctx context.Context, say sayFunc) {
	found, err := i.a.store.CheckInvariants(ctx)
	switch {
	case err != nil:
		say("store", "error", false, nil, "存储没有应答："+err.Error(), "the store does not answer: "+err.Error())
		return
	case len(found) > 0:
		say("invariants", "error", false, found, fmt.Sprintf("存储中有 %d 处不该有的状态，例如：%s；请保留数据目录并报告", len(found), found[0].Detail),
			fmt.Sprintf("%d things in the store that must never be, for example: %s; keep the data folder and report it", len(found), found[0].Detail))
	default:
		say("invariants", "error", true, nil, "存储中的运行、计数、令牌和占用全部相符", "runs, counters, tokens and holdings in the store all agree")
	}
	say("lease", "error", i.a.lease.MayAct(), nil, map[bool]string{true: "本服务器持有租约", false: "本服务器未持有租约，不会启动任何运行；存储可能没有应答"}[i.a.lease.MayAct()],
		map[bool]string{true: "this server holds its lease", false: "this server does not hold its lease and starts nothing; the store may not answer"}[i.a.lease.MayAct()])
	steps := i.a.scheduler.Stats().ClockSteps
	say("clock", "warning", steps == 0, steps, map[bool]string{true: "系统时钟没有跳变", false: fmt.Sprintf("启动以来系统时钟跳变 %d 次；请检查时间同步", steps)}[steps == 0],
		map[bool]string{true: "the wall clock has not stepped", false: fmt.Sprintf("the wall clock has stepped %d times since the start; look at the time service", steps)}[steps == 0])
}

// examineLedger reconciles the last hour at once, and says what the last day came to.
func (i insight) examineLedger(ctx context.Context, say sayFunc) {
	now := i.a.clock.Now()
	r, err := i.Reconcile(ctx, nil, now.Add(-time.Hour).UTC(), now.UTC())
	switch {
	case err != nil:
		say("ledger", "error", false, nil, "账目未能核对："+err.Error(), "the ledger could not be reconciled: "+err.Error())
	case !r.Sound:
		wrong := slices.DeleteFunc(r.Items, func(i api.Reconciled) bool { return i.Missing+i.Doubled+i.Unexpected+i.Miscounted == 0 })
		say("ledger", "error", false, wrong, fmt.Sprintf("最近一小时有 %d 个任务的账目缺失或重复；用 gnomon reconcile 查看", len(wrong)),
			fmt.Sprintf("the ledger of %d tasks has holes or doubles in the last hour; gnomon reconcile shows them", len(wrong)))
	default:
		expected := int64(0)
		for _, item := range r.Items {
			expected += item.Expected
		}
		say("ledger", "error", true, expected, fmt.Sprintf("最近一小时应有的 %d 次触发各有一个决定", expected), fmt.Sprintf("each of the %d fires that the last hour should have had has one decision", expected))
	}
	if last, ok := i.a.accountant.latest(); ok {
		good := last.missing == 0 && last.doubled == 0 && last.odd == 0
		say("ledger_of_the_day", "error", good, map[string]any{"day": last.day.Format(time.DateOnly), "missing": last.missing, "doubled": last.doubled, "odd": last.odd},
			fmt.Sprintf("%s：%d 个任务，缺失 %d，重复 %d，异常 %d", last.day.Format(time.DateOnly), last.tasks, last.missing, last.doubled, last.odd),
			fmt.Sprintf("%s: %d tasks, %d missing, %d doubled, %d odd", last.day.Format(time.DateOnly), last.tasks, last.missing, last.doubled, last.odd))
	}
}

// examineTasks looks for tasks that cannot run, and for calendars that lack a year.
func (i insight) examineTasks(ctx context.Context, say sayFunc) {
	var broken, warned []string
	filter := core.TaskFilter{Limit: 1000}
	for {
		page, err := i.a.definitions.Tasks(ctx, filter)
		if err != nil {
			say("tasks", "error", false, nil, "任务未能读取："+err.Error(), "tasks cannot be read: "+err.Error())
			return
		}
		for _, t := range page {
			name := t.Namespace + "/" + t.Name
			if t.Problem != "" {
				broken = append(broken, name+": "+t.Problem)
			} else if _, _, err := i.a.catalog.Lookup(t.Namespace, t.Type); t.Enabled && err != nil {
				broken = append(broken, name+": "+err.Error())
			}
			if t.Enabled && len(i.a.definitions.Warnings(ctx, t)) > 0 {
				warned = append(warned, name)
			}
		}
		if len(page) < filter.Limit {
			break
		}
		filter.AfterID = page[len(page)-1].ID
	}
	say("tasks", "error", len(broken) == 0, first(broken, 100), fmt.Sprintf("%d 个任务无法运行%s", len(broken), sample("：", broken)), fmt.Sprintf("tasks that cannot run: %d%s", len(broken), sample(": ", broken)))
	say("calendars", "warning", len(warned) == 0, first(warned, 100),
		fmt.Sprintf("%d 个任务的日历缺少年份等提醒%s", len(warned), sample("：", warned)), fmt.Sprintf("tasks with warnings, such as a year whose holidays are not known: %d%s", len(warned), sample(": ", warned)))
	say("time_zones", "info", true, schedule.TZVersion(), "时区数据库 "+schedule.TZVersion(), "time zone database "+schedule.TZVersion())
}

// examineRuns looks for runs that need somebody.
func (i insight) examineRuns(ctx context.Context, say sayFunc) {
	breakers, err := i.a.store.Breakers(ctx)
	if err != nil {
		say("breakers", "error", false, nil, "熔断器未能读取："+err.Error(), "breakers cannot be read: "+err.Error())
		return
	}
	var open []string
	for _, b := range breakers {
		if b.State == core.BreakerOpen || b.State == core.BreakerHalfOpen {
			name := b.Name
			if id, own := strings.CutPrefix(name, ofTask); own {
				if task, err := i.a.definitions.Task(ctx, id); err == nil {
					name = ofTask + task.Namespace + "/" + task.Name
				}
			}
			open = append(open, name)
		}
	}
	say("breakers", "warning", len(open) == 0, open, fmt.Sprintf("%d 个熔断器断开%s", len(open), sample("：", open)), fmt.Sprintf("open breakers: %d%s", len(open), sample(": ", open)))
	waiting, err := i.a.store.Interventions(ctx, core.InterventionFilter{Limit: 1000})
	if err != nil {
		say("interventions", "error", false, nil, "待人工处理的运行未能读取："+err.Error(), "interventions cannot be read: "+err.Error())
		return
	}
	say("interventions", "warning", len(waiting) == 0, len(waiting), fmt.Sprintf("%d 次运行等待人工处理", len(waiting)), fmt.Sprintf("runs that wait for a person: %d", len(waiting)))
}

func first(list []string, n int) []string { return list[:min(n, len(list))] }

// sample names the first few of a list.
func sample(before string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	text := before + strings.Join(first(list, 3), ", ")
	if len(list) > 3 {
		text += ", …"
	}
	return text
}

// anyOf writes a value for programs; nil is absent.
func anyOf(value any) api.Any {
	if value == nil {
		return nil
	}
	text, err := json.Marshal(value)
	if err != nil || string(text) == "null" {
		return nil
	}
	return text
}

// figures is how the server is, for Prometheus.
func (a *app) figures(ctx context.Context) metrics.Figures {
	stats, spool, kept := a.scheduler.Stats(), a.spool.Stats(), a.store.Stats()
	executing, held := a.runner.Executing(), a.lease.MayAct()
	storage, known, since, down := a.watch.last()
	reachable := down == nil
	f := metrics.Figures{
		Scheduler: &metrics.Scheduler{Decided: stats.Decided, Window: stats.Window, ClockSteps: stats.ClockSteps},
		Spool: &metrics.Spool{
			Bytes: spool.SpoolBytes, LimitBytes: spool.MaxBytes, UnshippedSegments: spool.Unshipped,
			UnshippedBytes: spool.UnshippedBytes, ShipLag: spool.OldestUnshipped, LinesDropped: spool.LinesDropped, SamplesDropped: spool.SamplesDropped,
			LinesShipped: spool.LinesShipped, Full: spool.Full, OldestUnshippedAt: spool.OldestUnshippedAt, Quarantined: spool.Quarantined,
			WriteFails: spool.WriteError != nil, ShipFails: spool.ShipError != nil,
		},
		Store:     &metrics.Store{Commits: kept.Commits, Requests: kept.Requests, Retries: kept.Retries},
		LeaseHeld: &held, History: &reachable, Executing: &executing,
	}
	if a.tracer != nil {
		sent := a.tracer.Stats()
		f.Traces = &metrics.Traces{Sent: sent.Sent, Dropped: sent.Dropped}
	}
	if known {
		f.Kept = &metrics.Kept{Tables: map[string]metrics.KeptTable{}, FreeBytes: storage.FreeBytes, MemoryBytes: a.engineMemory(storage), Merges: storage.Merges,
			OldestMerge: storage.OldestMerge, Mutations: len(storage.Mutations), ReadOnly: len(storage.ReadOnly)}
		if down != nil {
			f.Kept.DownSeconds = time.Since(since).Seconds()
		}
		for _, t := range storage.Tables {
			f.Kept.Tables[t.Name] = metrics.KeptTable{Rows: t.Rows, Bytes: t.Bytes, Parts: t.Parts, MostParts: t.MostParts, Broken: t.Broken}
		}
	}
	if r, at := a.watch.rolledUp(); !at.IsZero() && down == nil {
		f.Rollups = &metrics.Rollups{Complete: !r.Through.IsZero(), Behind: r.Behind + time.Since(at), LastPass: r.Took}
	}
	if host, ok := a.sampler.HostSample(); ok && host.DataTotalBytes > 0 {
		f.DataDisk = &metrics.DataDisk{FreeBytes: host.DataFreeBytes, TotalBytes: host.DataTotalBytes}
	}
	if breakers, err := a.store.Breakers(ctx); err == nil {
		f.Breakers = map[core.BreakerState]int{core.BreakerClosed: 0, core.BreakerOpen: 0, core.BreakerHalfOpen: 0}
		for _, b := range breakers {
			if b.State == "" {
				b.State = core.BreakerClosed
			}
			f.Breakers[b.State]++
		}
	}
	if open, err := a.store.Interventions(ctx, core.InterventionFilter{Limit: 1000}); err == nil {
		n := len(open)
		f.Interventions = &n
	}
	f.Invariants = a.accountant.invariants()
	if last, ok := a.accountant.latest(); ok {
		f.Reconciliation = &metrics.Reconciliation{Day: last.day, Missing: last.missing, Doubled: last.doubled, Odd: last.odd}
	}
	f.Queue = a.queueFigures(ctx)
	return f
}

func (a *app) queueFigures(ctx context.Context) *metrics.Queue {
	live, err := pages(ctx, core.RunFilter{LiveOnly: true, Limit: 1000}, a.store.Runs)
	if err != nil {
		return nil
	}
	q := &metrics.Queue{Runs: map[core.RunState]int{}, Waiting: map[core.Gate]int{}, Limits: map[string]metrics.Limit{}}
	for _, run := range live {
		q.Runs[run.State]++
		waits := run.State == core.RunWaiting || run.State == core.RunRetrying && !run.WaitSince.IsZero()
		if !waits || run.Gate == core.GateNone {
			continue
		}
		q.Waiting[run.Gate]++
		if run.Gate == core.GateCapacity {
			limit := q.Limits[run.GateKey]
			limit.Waiting++
			q.Limits[run.GateKey] = limit
		}
	}
	held, err := a.store.Holdings(ctx)
	if err != nil {
		return q
	}
	for _, h := range held {
		limit := q.Limits[h.Limit]
		limit.Used += h.Slots
		q.Limits[h.Limit] = limit
	}
	pools, err := a.definitions.Pools(ctx)
	if err != nil {
		return q
	}
	for _, p := range pools {
		limit := q.Limits["pool:"+p.Value.Name]
		limit.Slots = p.Value.Slots
		q.Limits["pool:"+p.Value.Name] = limit
	}
	return q
}

// metricsHandler answers scrapes from whoever may read how the server is: limits name namespaces.
func (a *app) metricsHandler() http.Handler {
	scrape := a.metrics.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !found {
			w.Header().Set("WWW-Authenticate", `Bearer realm="gnomon"`)
			http.Error(w, "send a token: Authorization: Bearer …", http.StatusUnauthorized)
			return
		}
		who, err := a.access.Authenticate(r.Context(), token)
		switch {
		case err != nil && core.KindOf(err) != core.KindUnauthenticated:
			http.Error(w, "the token cannot be checked now", http.StatusServiceUnavailable)
		case err != nil:
			w.Header().Set("WWW-Authenticate", `Bearer realm="gnomon", error="invalid_token"`)
			http.Error(w, "the token is not valid", http.StatusUnauthorized)
		case !who.Can("server:read", "*"):
			http.Error(w, "the token does not allow server:read in all namespaces", http.StatusForbidden)
		default:
			scrape.ServeHTTP(w, r)
		}
	})
}
