//go:build linux

package main_test

import (
	"context"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/store/storetest"
)

// whyCase is a question and what its answer must say, by REST and on the command line, in both languages.
type whyCase struct {
	name   string
	task   string    // of the namespace Bench
	at     time.Time // zero: none is named
	code   string
	en, zh []string
	data   string // a part of the facts for programs
	last   bool   // nor does the command line name one: the answer to that says more
}

// answers asks until the answer is the one wanted, and holds what the command line prints against it.
func (c whyCase) answers(t *testing.T, w *world) {
	t.Helper()
	var task api.Task
	w.must("GET", "/v1/namespaces/Bench/tasks/"+c.task, nil, &task)
	path := "/v1/tasks/" + task.ID + "/why"
	if !c.at.IsZero() {
		path += "?at=" + url.QueryEscape(c.at.Format(time.RFC3339Nano))
	}
	var why api.Why
	lacking := ""
	for end := time.Now().Add(time.Minute); ; pause(t.Context(), 100*time.Millisecond) {
		why = api.Why{}
		w.must("GET", path, nil, &why)
		if lacking = c.lacking(why); lacking == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is %s, %s\n%s\n%s\n%s", why.Code, lacking, why.Answer.En, why.Answer.Zh, why.Data)
		}
	}
	t.Logf("%s\n%s", why.Answer.En, why.Answer.Zh)
	if len(why.Evidence) == 0 || why.TaskID != task.ID {
		t.Errorf("it rests on nothing: %+v", why)
	}
	args := []string{"why", "Bench/" + c.task}
	if why.Instant != nil && !c.last {
		args = append(args, why.Instant.Format(time.RFC3339Nano))
	}
	for lang, words := range map[string][]string{"en": c.en, "zh": c.zh} {
		out, errOut, code := w.line(append(args, "--lang", lang)...)
		first, rest, _ := strings.Cut(out, "\n")
		for _, word := range words {
			if !strings.Contains(first, word) {
				t.Errorf("--lang %s: %q does not say %q", lang, first, word)
			}
		}
		if code != 0 || errOut != "" || !strings.Contains(rest, map[string]string{"en": "EVIDENCE", "zh": "依据"}[lang]) {
			t.Errorf("--lang %s: %d %q %q", lang, code, out, errOut)
		}
	}
}

// lacking says what an answer does not have.
func (c whyCase) lacking(why api.Why) string {
	if why.Code != c.code {
		return "not " + c.code
	}
	for _, word := range c.en {
		if !strings.Contains(why.Answer.En, word) {
			return "and does not say " + word
		}
	}
	for _, word := range c.zh {
		if !strings.Contains(why.Answer.Zh, word) {
			return "and does not say " + word
		}
	}
	if !strings.Contains(string(why.Data), c.data) {
		return "and its data has no " + c.data
	}
	return ""
}

// TestWhyAnswersEverything: a server whose clock says that it is the National Day of 2026, half past eight in Shanghai, with a task for
// each thing that keeps a fire from starting; then an outage of a week.
func TestWhyAnswersEverything(t *testing.T) {
	t.Run("AServerThatStands", func(t *testing.T) { t.Parallel(); whyOfDecisions(t) })
	t.Run("AServerThatLostItsLease", func(t *testing.T) { t.Parallel(); whyWhileNobodyActs(t) })
}

var shanghai = time.FixedZone("CST", 8*3600)

func whyOfDecisions(t *testing.T) {
	w := newWorld(t)
	clock := filepath.Join(w.dir, "clock")
	set := func(now time.Time) { write(t, clock, time.Until(now).Round(time.Second).String()) }
	holiday := time.Date(2026, 10, 1, 8, 59, 0, 0, shanghai)
	set(holiday.Add(-30 * time.Minute)) // so that it is before nine until the last case, however slow the machine is
	w.env = []string{"GNOMON_FAULT_CLOCK=" + clock}
	w.start()
	w.namespace("Bench")
	w.must("PUT", "/v1/pools/one", map[string]any{"slots": 1, "max_waiting": 1}, nil)
	w.must("PUT", "/v1/downstreams/erp", map[string]any{"failures": 2, "cooldown": "1h"}, nil)
	const second = "* * * * * *"
	create := func(name, spec string, p map[string]any, policies api.Policies, change func(*api.TaskInput)) api.Task {
		in := api.TaskInput{Type: "Bench.Work", Schedule: api.Schedule{Spec: spec, Dialect: "quartz", Zone: "Asia/Shanghai"}, Params: params(p), Policies: &policies}
		if len(strings.Fields(spec)) == 5 {
			in.Schedule.Dialect = ""
		}
		if change != nil {
			change(&in)
		}
		return w.task("Bench", name, in)
	}
	work := map[string]any{"millis": 1}
	long := map[string]any{"millis": 600_000}
	fails := map[string]any{"fail_rate": 1}
	workdays := func(onDayOff string) func(*api.TaskInput) {
		return func(in *api.TaskInput) {
			in.Schedule.OnlyOn, in.Schedule.OnDayOff = []string{"cn-workdays"}, onDayOff
		}
	}
	create("runs", second, work, api.Policies{}, nil)
	paused := create("paused", second, work, api.Policies{}, nil)
	until := holiday.AddDate(0, 1, 0)
	w.must("POST", "/v1/tasks/"+paused.ID+"/pause", map[string]any{"note": "ERP is being moved", "until": until.Format(time.RFC3339)}, nil)
	create("holiday", second, work, api.Policies{}, workdays(""))
	create("moved", "0 9 * * *", work, api.Policies{}, workdays("next"))
	create("overlap", second, long, api.Policies{}, nil)
	create("condition", second, map[string]any{"millis": 3}, api.Policies{Preconditions: []api.Precondition{{Name: "long enough", Expression: "params.millis > 5"}}}, nil)
	create("patient", "0 * * * *", map[string]any{"millis": 3}, api.Policies{Preconditions: []api.Precondition{{Expression: "params.millis > 5", Every: "1s", Deadline: "5m"}}}, nil)
	create("broken", second, fails, api.Policies{CatchUp: "none", Downstreams: []string{"erp"}}, nil)
	pooled := create("pooled", second, long, api.Policies{Overlap: "allow", Pools: []api.PoolUse{{Pool: "one"}}}, nil)
	create("stopped", second, fails, api.Policies{}, func(in *api.TaskInput) { in.StopOnError = new(true) })
	create("counted", second, work, api.Policies{MaxRuns: new(1)}, nil)
	create("window", "0/10 * * * * *", work, api.Policies{CatchUp: "all", CatchUpWindow: "1m", CatchUpSpread: "100ms"}, nil)
	create("none", "0/10 * * * * *", work, api.Policies{CatchUp: "none"}, nil)
	off := create("off", second, work, api.Policies{}, nil)
	w.must("POST", "/v1/tasks/"+off.ID+"/disable", nil, nil)
	create("by-hand", "@manual", work, api.Policies{}, nil)
	edited := create("edited", "0 * * * * *", work, api.Policies{}, nil)
	change := api.TaskInput{Type: "Bench.Work", Schedule: api.Schedule{Spec: "0 0 1 1 *", Zone: "Asia/Shanghai"}}
	w.must("PUT", "/v1/namespaces/Bench/tasks/edited", change, &edited)

	waiting := w.waiting(pooled.ID)
	day := func(d, hour, minute int) time.Time { return time.Date(2026, 10, d, hour, minute, 0, 0, shanghai) }
	for _, c := range []whyCase{
		{name: "Started", task: "runs", code: "started", en: []string{"The fire of Bench/runs at 2026-10-01 ", "was started at", "ended: succeeded"}, zh: []string{"Bench/runs 在 2026-10-01 ", "结果：成功"}, data: `"verdict":"succeeded"`},
		{name: "Paused", task: "paused", code: "paused", en: []string{"paused by bootstrap at 2026-10-01 ", "until 2026-11-01 08:59:00", `note "ERP is being moved"`}, zh: []string{"由 bootstrap", "至 2026-11-01 08:59:00", "“ERP is being moved”"}},
		{name: "Holiday", task: "holiday", code: "calendar", en: []string{`calendar "cn-workdays" refuses 2026-10-01 (Thursday, National Day)`}, zh: []string{"日历“cn-workdays”不允许 2026-10-01（周四，国庆节）"}},
		{name: "MovedToAWorkingDay", task: "moved", at: day(2, 9, 0), code: "moved", en: []string{`(Friday, National Day) was moved by calendar "cn-workdays" to 2026-10-08 09:00:00`}, zh: []string{"（周五，国庆节）由日历“cn-workdays”移到 2026-10-08 09:00:00"}},
		{name: "Overlap", task: "overlap", code: "overlap", en: []string{"was skipped: run 01", "begun at 2026-10-01 ", "had not ended (overlap policy skip)"}, zh: []string{"被跳过", "尚未结束（重叠策略 skip）"}, data: `"live_run_id"`},
		{name: "Precondition", task: "condition", code: "precondition", en: []string{`the precondition "long enough" had not come true`, "params.millis == 3"}, zh: []string{"前置条件“long enough”", "params.millis == 3"}},
		{name: "BreakerOpen", task: "broken", code: "breaker", en: []string{"breaker downstream:erp was open after 2 failures in a row", "out of luck", "since 2026-10-01 "}, zh: []string{"熔断器 downstream:erp 处于断开状态（连续失败 2 次）", "out of luck"}, data: `"breaker":"downstream:erp"`},
		{name: "Capacity", task: "pooled", code: "capacity", en: []string{"limit pool:one was used up (1 of 1)", "as many runs as may waited"}, zh: []string{"额度 pool:one 共 1，已用 1"}},
		{name: "WaitingNow", task: "pooled", at: waiting, code: "waiting", en: []string{"still waits for limit pool:one, since 2026-10-01 ", "1 of 1 slots of pool:one in use"}, zh: []string{"仍在等待并发额度 pool:one", "pool:one 共 1 个名额，已用 1"}},
		{name: "StoppedOnError", task: "stopped", code: "stop_on_error", en: []string{"Gnomon had disabled the task at 2026-10-01 ", "stop_on_error: run 01", "out of luck"}, zh: []string{"被 Gnomon 停用", "out of luck"}, data: `"run_id":"01`},
		{name: "MaxRuns", task: "counted", code: "max_runs", en: []string{"1 run at most"}, zh: []string{"最多运行 1 次"}},
		{name: "Disabled", task: "off", at: holiday.AddDate(0, 0, 1), code: "disabled", en: []string{"will not come: the task was disabled by bootstrap at 2026-10-01 "}, zh: []string{"不会触发：任务已由 bootstrap"}},
		{name: "ByHandOnly", task: "by-hand", code: "no_such_fire", en: []string{"has no schedule (@manual)"}, zh: []string{"没有计划（@manual）"}},
		{name: "EditedMeanwhile", task: "edited", at: day(1, 10, 0), code: "edited", en: []string{`belongs to version 1 (schedule "0 * * * * *")`, "replaced at 2026-10-01 ", "by bootstrap (version 2)"}, zh: []string{"属于版本 1（计划“0 * * * * *”）", "由 bootstrap 改为版本 2"}},
		{name: "NotCreatedYet", task: "runs", at: day(1, 6, 0), code: "not_created", en: []string{"was only created at 2026-10-01 ", "fires nothing retroactively"}, zh: []string{"不追溯触发"}},
		{name: "NoSuchFire", task: "moved", at: day(12, 9, 30), code: "no_such_fire", en: []string{"has no instant at 2026-10-12 09:30:00", "the nearest before is 2026-10-12 09:00:00", "the nearest after is 2026-10-13 09:00:00"}, zh: []string{"没有 2026-10-12 09:30:00", "之前最近的是 2026-10-12 09:00:00"}},
		{name: "NotDueYet", task: "moved", at: day(9, 9, 0), code: "not_due", en: []string{"has not come yet: it is due in 8 d"}, zh: []string{"还没有到，还有 8 天"}},
		{name: "WaitingForAPrecondition", task: "patient", at: day(1, 9, 0), code: "waiting", en: []string{`still waits for a precondition ("params.millis > 5")`, "params.millis == 3", "it waits until 2026-10-01 09:05:00 at the latest"}, zh: []string{"仍在等待前置条件“params.millis > 5”", "最迟等到 2026-10-01 09:05:00"}},
	} {
		if c.name == "WaitingForAPrecondition" {
			set(day(1, 9, 0).Add(-3 * time.Second)) // what is before is not waited for
		}
		t.Run(c.name, func(t *testing.T) { c.answers(t, w) })
	}
	t.Run("ForPrograms", func(t *testing.T) {
		for form, says := range map[string]string{"json": `"code": "calendar"`, "yaml": "code: calendar"} {
			if out, errOut, code := w.line("why", "Bench/holiday", "-o", form); code != 0 || errOut != "" || !strings.Contains(out, says) {
				t.Errorf("-o %s: %d %s%s", form, code, out, errOut)
			}
		}
		out, errOut, code := w.line("why", "Bench/holiday", "noon")
		refused(t, out, errOut, code, 2, `INSTANT "noon" is no instant`, "(Asia/Shanghai)")
	})
	w.kill()
	set(day(8, 8, 50))
	w.start()
	for _, c := range []whyCase{
		{name: "CatchUpWindowPassed", task: "window", at: day(5, 12, 0), code: "catch_up", en: []string{"no server decided anything between 2026-10-01 ", " and 2026-10-08 08:5", "the catch-up window (1 min) had passed"}, zh: []string{"自 2026-10-01 ", "没有服务器做决定", "补跑窗口（1 分钟）已过"}, data: `"cause":"window"`},
		{name: "ServerDown", task: "none", at: day(5, 12, 0), code: "catch_up", en: []string{"no server decided anything between 2026-10-01 ", " and 2026-10-08 08:5", "it was decided 2 d 20 h late", "catch-up policy none"}, zh: []string{"没有服务器做决定", "补跑策略 none"}, data: `"server_started":"2026-10-08T00:5`},
		{name: "CaughtUp", task: "runs", at: day(8, 8, 48), code: "catch_up", en: []string{"no server decided", "only the last one"}, zh: []string{"只补最近一次"}},
		{name: "MovedHere", task: "moved", at: day(8, 9, 0), code: "started", en: []string{`Calendar "cn-workdays" moved it from 2026-10-01 09:00:00 (Thursday, National Day) to 2026-10-08 09:00:00`}, zh: []string{"由日历“cn-workdays”从 2026-10-01 09:00:00（周四，国庆节）移到 2026-10-08 09:00:00"}},
		{name: "MovedThere", task: "moved", at: day(3, 9, 0), code: "moved", en: []string{"to 2026-10-08 09:00:00", "was started at 2026-10-08 09:00:"}, zh: []string{"移到 2026-10-08 09:00:00", "结果：成功"}},
	} {
		if c.name == "MovedHere" {
			set(day(8, 9, 0).Add(-3 * time.Second)) // of the minutes that its start may take, the rest is not waited for
		}
		t.Run(c.name, func(t *testing.T) { c.answers(t, w) })
	}
	t.Run("TheLedgerHasNoHole", func(t *testing.T) {
		out, errOut, code := w.line("reconcile", "--from", "2026-10-01T00:00", "--to", "2026-10-08T00:59:30")
		if code != 0 || !strings.Contains(out, "Bench/runs") {
			t.Errorf("%d\n%s%s", code, out, errOut)
		}
	})
	w.interrupt()
}

// waiting gives the instant of a task's run that waits.
func (w *world) waiting(taskID string) (at time.Time) {
	w.t.Helper()
	w.until(30*time.Second, "a run waits", func() bool {
		var queue struct{ Items []api.Waiting }
		w.must("GET", "/v1/queue", nil, &queue)
		i := slices.IndexFunc(queue.Items, func(q api.Waiting) bool { return q.TaskID == taskID })
		if i >= 0 {
			at = queue.Items[i].FireAt.Time
		}
		return i >= 0
	})
	return at
}

// whyWhileNobodyActs: a server that cannot renew its lease stops acting, and says so.
func whyWhileNobodyActs(t *testing.T) {
	pg, err := storetest.Start(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t)
	w.env = []string{"GNOMON_STORE_DSN=" + pg.DSN("postgres")}
	w.start("--no-context")
	w.namespace("Bench")
	task := w.task("Bench", "beat", api.TaskInput{Type: "Bench.NoOp", Schedule: api.Schedule{Spec: "@every 1s"}})
	w.until(30*time.Second, "it fires", func() bool {
		w.must("GET", "/v1/tasks/"+task.ID, nil, &task)
		return task.LastStart != nil
	})
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Fatal(err)
	}
	sql := func(text string) *exec.Cmd {
		return exec.Command(psql, "-q", "-h", pg.Dir, "-U", "gnomon", "-d", "postgres", "-c", text)
	}
	lock := sql("BEGIN; SELECT id FROM servers FOR UPDATE; SELECT pg_sleep(300)")
	if err := lock.Start(); err != nil {
		t.Fatal(err)
	}
	var why api.Why
	w.until(40*time.Second, "the answer is that no server works", func() bool {
		w.must("GET", "/v1/tasks/"+task.ID+"/why", nil, &why)
		return why.Code == "server_down"
	})
	t.Logf("%s\n%s", why.Answer.En, why.Answer.Zh)
	if !strings.Contains(why.Answer.En, "no server has worked since ") || !strings.Contains(why.Answer.En, "When one does, the catch-up policy decides") || !strings.Contains(why.Answer.Zh, "没有服务器在工作") {
		t.Errorf("the answer is %+v", why.Answer)
	}
	var d api.Diagnosis
	w.must("GET", "/v1/doctor", nil, &d)
	if i := slices.IndexFunc(d.Checks, func(c api.Check) bool { return c.Name == "lease" }); d.OK || i < 0 || d.Checks[i].OK {
		t.Errorf("the doctor says %+v", d)
	}
	at := why.Instant.Time
	if out, err := sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%' AND pid <> pg_backend_pid()").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	_ = lock.Wait() // it was ended
	w.until(30*time.Second, "it is decided in the end", func() bool {
		w.must("GET", "/v1/tasks/"+task.ID+"/why?at="+url.QueryEscape(at.Format(time.RFC3339Nano)), nil, &why)
		return why.Code == "catch_up" || why.Code == "started"
	})
	t.Logf("%s\n%s", why.Answer.En, why.Answer.Zh)
	w.interrupt()
}
