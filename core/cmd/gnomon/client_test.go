package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	taskID = "01942f00-0000-7000-8000-000000000001"
	runID  = "01942f00-0000-7000-8000-0000000000aa"
	// A token of the right form that opens nothing.
	noToken = "gnomon_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// remote is a server that answers as the API does, with what a test put there, and remembers what it was asked.
type remote struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string]func(w http.ResponseWriter, r *http.Request)
	asked   []string
	bodies  map[string]string
	headers http.Header
}

func newRemote(t *testing.T) *remote {
	t.Helper()
	m := &remote{answers: map[string]func(http.ResponseWriter, *http.Request){}, bodies: map[string]string{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Method + " " + r.URL.RequestURI()
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		m.mu.Lock()
		m.asked = append(m.asked, key)
		m.bodies[key] = body.String()
		m.headers = r.Header.Clone()
		answer := m.answers[key]
		m.mu.Unlock()
		if answer == nil {
			refuse(w, 404, "not_found", "not found: "+key)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *remote) on(key string, body any) {
	m.answers[key] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body)
	}
}

func refuse(w http.ResponseWriter, status int, kind, detail string, errs ...api.ProblemError) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Problem{Title: kind, Status: status, Kind: kind, Detail: detail, Errors: errs})
}

// gnomon runs a command line in a world of its own: no environment but a context file for the server, if there is one.
func gnomon(t *testing.T, m *remote, stdin string, args ...string) (out, errOut string, code int) {
	t.Helper()
	for _, name := range []string{"GNOMON_SERVER", "GNOMON_TOKEN", "LC_ALL", "LC_MESSAGES", "LANG"} {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	t.Setenv("GNOMON_CONTEXT", filepath.Join(dir, "sub", "context.json"))
	if m != nil {
		token := filepath.Join(dir, "token")
		if err := os.WriteFile(token, []byte(noToken+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := WriteContext(os.Getenv("GNOMON_CONTEXT"), ServerContext{Server: m.URL, TokenFile: token}); err != nil {
			t.Fatal(err)
		}
	}
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &o, &e)
	return o.String(), e.String(), code
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\ninstead of\n%s", name, got, want)
	}
}

func at(second int) *api.Time {
	return &api.Time{Time: time.Date(2026, 12, 1, 8, 0, second, 250_000_000, time.UTC)}
}

func someTask() api.Task {
	return api.Task{
		ID: taskID, Name: "心跳", Namespace: "Common", Type: "Common.KeepAlive", Params: api.Object(`{"urls":["http://a"]}`),
		Schedule: api.Schedule{Spec: "*/5 * * * *", Zone: "Asia/Shanghai", Anchor: at(0)}, Enabled: true, Owner: "wang",
		Labels: map[string]string{"team": "pacs"}, Policies: api.Policies{Timeout: "30s", Overlap: "skip", CatchUp: "latest"}, Version: 3,
		CreatedAt: at(0), UpdatedAt: at(0), UpdatedBy: "bootstrap", LastStart: at(1), LastEnd: at(2), LastSuccess: at(2),
		LastOutcome: "succeeded", NextFire: at(30), After: []api.Upstream{}, Warnings: []api.Text{},
	}
}

func someRun() api.Run {
	return api.Run{
		ID: runID, TaskID: taskID, Namespace: "Common", TaskName: "心跳", TaskType: "Common.KeepAlive", Trigger: "manual", FireAt: at(1),
		FireCount: 1, State: "ended", StartedAt: at(1), EndedAt: at(3), Outcome: "failed", Message: "a\x1b[31m: no route", Attempt: 2,
		Params: api.Object(`{}`), Output: api.Any(`{"ok":1}`), CreatedBy: "bootstrap",
		Usage: api.Usage{CPU: "12ms", CPUSource: "measured", PeakRSSBytes: 30 << 20, RSSSource: "shared", IOSource: "unknown"},
	}
}

func TestOutputIsAsReviewed(t *testing.T) { // not parallel: the zone and the environment are the process's
	old := time.Local
	time.Local = time.FixedZone("", 8*3600)
	t.Cleanup(func() { time.Local = old })
	m := newRemote(t)
	off := someTask()
	off.Name, off.Enabled, off.NextFire, off.LastOutcome = "nightly", false, nil, ""
	items := func(list ...any) map[string]any { return map[string]any{"items": list} }
	m.on("GET /v1/tasks?limit=1000", items(someTask(), off))
	m.on("GET /v1/namespaces/Common/tasks/hb", someTask())
	m.on("GET /v1/runs?limit=50", items(someRun()))
	m.on("GET /v1/runs/"+runID, someRun())
	m.on("GET /v1/namespaces", items(api.Namespace{Name: "Common", Title: api.Text{Zh: "公共", En: "Common"}, Description: "d"}))
	m.on("GET /v1/task-types", items(api.TaskType{Name: "Common.KeepAlive", Version: "1.0.0", Provider: "plugin:common", Title: api.Text{Zh: "保活", En: "Keep alive"}}))
	m.on("GET /v1/task-types/Common.KeepAlive", api.TaskType{Name: "Common.KeepAlive", Version: "1.0.0", ParamsSchema: api.Object(`{"type":"object"}`)})
	m.on("GET /v1/runs/"+runID+"/logs?limit=10000", items(
		api.Line{Attempt: 1, Seq: 1, At: at(1), Level: "info", Stream: "log", Message: "asked", Attrs: map[string]string{"url": "http://a", "ms": "12"}},
		api.Line{Attempt: 2, Seq: 1, At: at(2), Level: "error", Stream: "system", Message: "killed\x1b[2J\nafter 30s"}))
	m.on("POST /v1/query", api.QueryAnswer{
		Columns: []api.Column{{Name: "task_type", Type: "String"}, {Name: "count()", Type: "UInt64"}},
		Rows:    [][]api.Any{{api.Any(`"Common.KeepAlive"`), api.Any(`12`)}, {api.Any(`"影像"`), api.Any(`null`)}},
	})
	for name, args := range map[string][]string{
		"task-list":     {"task", "list"},
		"task-list-zh":  {"task", "list", "--lang", "zh"},
		"task-get":      {"task", "get", "Common/hb"},
		"task-get-yaml": {"task", "get", "Common/hb", "-o", "yaml"},
		"task-get-json": {"task", "get", "Common/hb", "-o", "json"},
		"run-list":      {"run", "list"},
		"run-get":       {"run", "get", runID},
		"run-logs":      {"run", "logs", runID},
		"namespaces":    {"namespace", "list"},
		"types":         {"type", "list", "--lang", "zh"},
		"type":          {"type", "get", "Common.KeepAlive"},
		"sql":           {"sql", "SELECT task_type, count() FROM runs GROUP BY 1"},
		"schedule-next": {"schedule", "next", "30 2 * * *", "--zone", "America/New_York", "--from", "2026-03-07T12:00", "--count", "3"},
		"schedule-json": {"schedule", "next", "0 0 12 ? * 2#1", "--dialect", "quartz", "--from", "2026-01-01T00:00:00Z", "--count", "2", "-o", "json"},
	} {
		out, errOut, code := gnomon(t, m, "", args...)
		if code != exitOK || errOut != "" && (name != "sql" || !strings.HasPrefix(errOut, "2 rows in ")) {
			t.Errorf("%s: %d %s", name, code, errOut)
		}
		golden(t, name, out)
	}
	if got := m.headers.Get("Authorization"); got != "Bearer "+noToken {
		t.Error("the token of the context file was not sent")
	}
}

// TestPolicyOutputIsAsReviewed: what policies, calendars, chains and the ledger show to a person.
func TestPolicyOutputIsAsReviewed(t *testing.T) { // not parallel: the zone and the environment are the process's
	old := time.Local
	time.Local = time.FixedZone("", 8*3600)
	t.Cleanup(func() { time.Local = old })
	m := newRemote(t)
	items := func(list ...any) map[string]any { return map[string]any{"items": list} }
	both := func(zh, en string) api.Text { return api.Text{Zh: zh, En: en} }
	missing := both("缺 2027 年", "2027 is missing")
	full := someTask()
	full.Schedule.OnlyOn, full.Schedule.OnDayOff, full.Schedule.Jitter = []string{"cn-workdays"}, "next", "30s"
	full.Policies = api.Policies{Overlap: "queue(3)"}
	full.Effective = &api.Policies{
		Overlap: "queue(3)", MaxAttempts: new(3), Pools: []api.PoolUse{{Pool: "erp", Slots: 2}},
		Preconditions: []api.Precondition{{Name: "statistics are there", Expression: `last("statistics") == "succeeded"`, Deadline: "10m"}},
	}
	full.After, full.Pause = []api.Upstream{{Task: "statistics"}}, &api.Pause{Since: at(5), Until: at(50), Note: "ERP upgrade", By: "wang"}
	full.Fired, full.Failures, full.LiveRuns, full.Warnings = 12, 2, 1, []api.Text{both("缺 2027 年的节假日", "the holidays of 2027 are not known")}
	m.on("GET /v1/tasks/"+taskID, full)
	waiting := someRun()
	waiting.State, waiting.Outcome, waiting.Gate, waiting.GateKey, waiting.WaitSince, waiting.StartedAt, waiting.EndedAt = "waiting", "", "capacity", "pool:erp", at(2), nil, nil
	waiting.WorkflowID, waiting.Step = taskID, "load"
	waiting.Breaches = []api.Breach{{Kind: "not_started_in_time", At: at(9), Limit: "start within 8s"}}
	m.on("GET /v1/runs/"+runID, waiting)
	ended := func(n string, change func(*api.Run)) string {
		r, id := someRun(), runID[:len(runID)-1]+n
		r.ID, r.Output = id, nil
		change(&r)
		m.on("GET /v1/runs/"+id, r)
		return id
	}
	lost := ended("1", func(r *api.Run) {
		r.Outcome, r.Message = "lost", "the server died while the attempt ran, or may have run"
		r.Intervention = &api.Intervention{CreatedAt: at(7)}
	})
	retried := ended("2", func(r *api.Run) {
		r.Outcome, r.Message = "timed_out", "soft timeout reached"
		r.Intervention = &api.Intervention{CreatedAt: at(7), ResolvedAt: at(9), Action: "retry", By: "wang", Note: "the disk is free", NewRun: runID}
	})
	skip := func(r *api.Run) {
		r.State, r.Outcome, r.Reason, r.StartedAt, r.EndedAt, r.FireAt = "ended", "skipped", "capacity", nil, nil, at(1)
		r.Facts = api.Any(`{"gate":"capacity","key":"pool:erp","detail":"2 of 2 slots of pool:erp in use, 1 wanted, and 1 run waits for it already: as many wait as may"}`)
	}
	skipped := ended("3", skip)
	m.on("GET /v1/tasks/"+taskID+"/why?at="+url.QueryEscape(at(1).Format(time.RFC3339Nano)), api.Why{RunID: skipped, Answer: both("被跳过：额度 pool:erp 已用完。", "Was skipped: limit pool:erp was used up.")})
	besides := ended("4", skip) // the instant is that of another row
	m.on("GET /v1/runs/"+taskID+"/workflow", api.Workflow{Run: someRun(), State: "running", Steps: []api.Step{
		{Name: "a", State: "succeeded", When: "success", RunID: runID, StartedAt: at(1), EndedAt: at(3)},
		{Name: "b1", Needs: []string{"a"}, State: "failed", When: "success", Message: "no\x1b[2J route", RunID: runID, StartedAt: at(3), EndedAt: at(4)},
		{Name: "c", Needs: []string{"a", "b1"}, State: "pending", When: "always"},
	}})
	m.on("GET /v1/tasks/"+taskID+"/why?at=2026-12-01T08%3A00%3A00%2B08%3A00", api.Why{
		TaskID: taskID, Instant: at(0), Code: "paused", Answer: both("Common/心跳 被跳过：任务已由 wang 暂停。", "The fire of Common/心跳 was skipped: the task was paused by wang."),
		Evidence: []api.Evidence{{Kind: "pause", Text: both("任务已由 wang 暂停", "paused by wang\x1b[31m"), At: at(5)}, {Kind: "version", Text: both("版本 3", "version 3")}}, Next: at(30),
	})
	m.on("GET /v1/queue?limit=1000", items(
		api.Waiting{Order: 1, RunID: runID, TaskID: taskID, Namespace: "Common", TaskName: "hb", FireAt: at(1), Gate: "capacity", Key: "pool:erp", Priority: 10, Detail: "2 of 2 slots of pool:erp in use, 1 wanted"},
		api.Waiting{Order: 2, RunID: runID, TaskID: taskID, Namespace: "Common", TaskName: "hb", FireAt: at(1), Gate: "capacity", Key: "pool:erp", Detail: "others wait for pool:erp and come before it"},
		api.Waiting{Order: 1, RunID: runID, TaskID: taskID, Namespace: "Common", TaskName: "hb", FireAt: at(1), Gate: "breaker", Key: "downstream:erp", Detail: "open after 2 failures: " + strings.Repeat("连接被拒绝 ", 60)},
		api.Waiting{Order: 1, RunID: runID, TaskID: taskID, Namespace: "Common", TaskName: "hb", FireAt: at(2), Gate: "breaker", Key: "task:" + taskID, Detail: "open after 1 failure: refused"},
		api.Waiting{Order: 1, RunID: runID, TaskID: taskID, Namespace: "Common", TaskName: "hb", FireAt: at(3), Gate: "precondition", Key: "0", Detail: "big enough: params.lines == 1"},
		api.Waiting{Order: 1, RunID: runID, TaskID: taskID, Namespace: "Common", TaskName: "hb", FireAt: at(4), Gate: "overlap", Detail: "1 earlier run is live"}))
	m.on("GET /v1/interventions?resolved=false", items(api.Intervention{RunID: runID, Namespace: "Common", TaskName: "hb", FireAt: at(1), Outcome: "failed", Attempts: 3, Message: "refused"}))
	m.on("GET /v1/interventions?resolved=true", items(
		api.Intervention{RunID: runID, Namespace: "Common", TaskName: "hb", FireAt: at(1), Outcome: "failed", Attempts: 3, Message: "refused", ResolvedAt: at(40), Action: "retry", By: "wang", Note: "the disk is free again", NewRun: taskID},
		api.Intervention{RunID: runID, Namespace: "Common", TaskName: "hb", FireAt: at(2), Outcome: "failed", Attempts: 3, ResolvedAt: at(41), Action: "skip", By: "li"}))
	later := someTask()
	later.NextStart, later.NextSkip = &api.Time{Time: at(0).AddDate(0, 0, 6)}, &api.Text{Zh: "被日历 mondays 跳过", En: "skipped by calendar mondays"}
	m.on("GET /v1/tasks?limit=1000", items(later))
	m.on("POST /v1/tasks/"+taskID+"/enable", later)
	m.on("POST /v1/schedule/preview", api.PreviewAnswer{Words: both("每天 09:00", "every day at 09:00"), Fires: []api.PreviewItem{
		{At: at(0), Local: "2026-12-01T16:00:00+08:00", Skip: "calendar", Calendar: "mine", Why: &api.Text{Zh: "盘点", En: "stocktaking"}},
		{At: at(0), Local: "2026-12-03T16:00:00+08:00", MovedFrom: at(0), Calendar: "mine"},
		{At: at(0), Local: "2026-12-04T16:00:00+08:00"},
	}, Warnings: []api.Text{missing}})
	m.on("GET /v1/breakers", items(api.Breaker{Name: "downstream:erp", State: "closed"}, api.Breaker{Name: "task:" + taskID, State: "open", Failures: 3, OpenedAt: at(1), ProbeAt: at(31), Because: "refused"}))
	m.on("GET /v1/pools", items(api.Pool{Name: "erp", PoolInput: api.PoolInput{Slots: 2, Description: "licences"}, Used: 2, Waiting: 1}))
	m.on("GET /v1/pools/erp", api.Pool{Name: "erp", PoolInput: api.PoolInput{Slots: 2}})
	m.on("GET /v1/downstreams", items(api.Downstream{Name: "erp", Breaker: api.Breaker{State: "open", Failures: 3, ProbeAt: at(31)}}))
	workdays := api.Calendar{Name: "cn-workdays", CalendarInput: api.CalendarInput{Title: &api.Text{Zh: "工作日", En: "Working days"}}, Builtin: true, HolidayYears: []int{2025, 2026}, Warnings: []api.Text{missing}}
	m.on("GET /v1/calendars", items(workdays))
	m.on("GET /v1/calendars/cn-workdays", workdays)
	m.on("GET /v1/calendars/cn-workdays/days?from=2026-12-31&to=2027-01-02", items(
		api.Day{Date: "2026-12-31", Holds: true, Whole: true}, api.Day{Date: "2027-01-01", Holds: true, Parts: []api.DayTime{{From: "08:00", To: "12:00"}}}, api.Day{Date: "2027-01-02", Why: both("元旦", "New Year")}))
	m.on("GET /v1/doctor", api.Diagnosis{OK: true, Checks: []api.Check{{Name: "store", OK: true, Severity: "error", Text: both("正常", "fine")}, {Name: "breakers", Severity: "warning", Text: both("断开", "open")}}})
	m.on("GET /v1/reconciliation", api.Reconciliation{Sound: true, Items: []api.Reconciled{{Namespace: "Common", TaskName: "hb", Expected: 10, Decided: 10, Started: 7, Skipped: map[string]int64{"overlap": 3}}}})
	var tasks []api.TaskForecast
	for i := range 22 {
		tasks = append(tasks, api.TaskForecast{Namespace: "Common", TaskName: fmt.Sprintf("task-%02d", i), Fires: 168, Expected: "12s", Basis: "assumed", Busy: 0.0001})
	}
	tasks[0] = api.TaskForecast{Namespace: "Common", TaskName: "load", Fires: 168, Caused: 7, Next: []*api.Time{at(5), at(6)}, Expected: "12m0s", P95: "40m0s", Basis: "history", Measured: 412, Busy: 0.2}
	tasks[1] = api.TaskForecast{Namespace: "Common", TaskName: "flow", Fires: 7, Next: []*api.Time{at(9)}, Expected: "9m0s", Basis: "steps", Busy: 0.0063}
	hour := func(h int) *api.Time { return &api.Time{Time: at(0).Add(time.Duration(h) * time.Hour)} }
	m.on("GET /v1/forecast?bucket=1m&days=7", api.Forecast{
		From: at(0), To: hour(27), Fires: 40, Peak: 3, PeakAt: at(30), Unmeasured: 1, Bucket: "30m0s", Tasks: tasks, Unforeseen: 3, Counted: 1, UsedUp: 2,
		Buckets:    []api.Bucket{{At: at(0), Fires: 9, Busy: 2}, {At: at(30 * 60), Fires: 11, Busy: 1}, {At: hour(2), Fires: 3, Busy: 0.01}, {At: hour(9), Fires: 17, Busy: 1.5}},
		Collisions: []api.Collision{{At: at(0), Times: 168, Starts: 3, Tasks: []api.ForecastTask{{TaskName: "hb"}, {TaskName: "load"}}, More: 1}},
		Groups: []api.Load{{Kind: "limit", Name: "pool:erp", Fires: 40, Peak: 3, PeakAt: at(30), Limit: 2, Use: 0.183, Waiting: 4, LongestWait: "40s"},
			{Kind: "limit", Name: "pool:p1", Fires: 181449, Limit: 1, Use: 2.4, Rough: true}},
	})
	spent := someTask()
	spent.ID, spent.Fired, spent.Effective = lost, 2, &api.Policies{MaxRuns: new(2)}
	m.on("GET /v1/tasks/"+lost, spent)
	m.on("GET /v1/forecast?bucket=1m&days=7&fires=50&task_id="+lost, api.Forecast{From: at(0), To: hour(168)})
	m.on("GET /v1/forecast?bucket=1m&days=7&fires=3&from=2026-12-01T16%3A00%3A00%2B08%3A00&to=2026-12-01T17%3A00%3A00%2B08%3A00", api.Forecast{
		From: at(0), To: hour(1), Fires: 40, FiresLeft: 37, FireList: []api.ForecastFire{
			{Namespace: "Common", TaskName: "load", At: at(5), End: at(17), Late: at(45), Cause: "schedule"},
			{Namespace: "Common", TaskName: "report", At: at(17), End: at(18), Cause: "upstream", Of: "load", Assumed: true},
			{Namespace: "Common", TaskName: "mail", At: at(20), End: at(21), Cause: "workflow", Of: "flow"},
		},
	})
	m.on("GET /v1/forecast?bucket=1m&days=7&fires=50&task_id="+taskID, api.Forecast{
		From: at(0), To: hour(168), Fires: 40, Tasks: tasks[:1], FireList: []api.ForecastFire{{Namespace: "Common", TaskName: "load", At: at(5), End: at(17), Late: at(45), Cause: "schedule"}},
	})
	m.on("GET /v1/forecast?bucket=1m&days=1&fires=50&task_id="+taskID, api.Forecast{From: at(0), To: hour(24)})
	m.on("POST /v1/namespaces/Common/forecast/spread", api.Spread{
		Proposals: []api.Proposal{{TaskName: "hb", FromSpec: "0 * * * *", ToSpec: "4 * * * *", MovedBy: "4m", Why: both("撞", "collides")}},
		Before:    api.SpreadForecast{PeakFires: 3, Colliding: 168}, After: api.SpreadForecast{PeakFires: 1},
	})
	var instants []api.Time
	for second := range 23 {
		instants = append(instants, *at(second))
	}
	m.on("POST /v1/tasks/"+taskID+"/backfill", api.BackfillAnswer{
		DryRun: true, Count: 23, More: true, First: at(0), Last: at(22), Instants: instants, AlreadyDecided: 2, AlreadyBackfilled: 4,
		Refused: 3, RefusedBy: []string{"factory-days"},
		Earlier: []api.EarlierBackfill{{Series: "backfill:2", At: at(50), Instants: 4}, {Series: "backfill:1", At: at(40), Instants: 1}},
	})
	for name, args := range map[string][]string{
		"why":               {"why", taskID, "2026-12-01T08:00"},
		"why-zh":            {"why", taskID, "2026-12-01 08:00", "--lang", "zh"},
		"task-get-full":     {"task", "get", taskID},
		"run-get-waiting":   {"run", "get", runID},
		"run-get-lost":      {"run", "get", lost},
		"run-get-retried":   {"run", "get", retried, "--lang", "zh"},
		"run-get-skipped":   {"run", "get", skipped},
		"run-get-besides":   {"run", "get", besides, "--lang", "zh"},
		"run-workflow":      {"run", "workflow", taskID},
		"queue":             {"queue"},
		"queue-zh":          {"queue", "--lang", "zh"},
		"interventions":     {"intervention", "list"},
		"breakers":          {"breaker", "list"},
		"pools":             {"pool", "list"},
		"pool-get":          {"pool", "get", "erp"},
		"downstreams":       {"downstream", "list", "--lang", "zh"},
		"calendars":         {"calendar", "list"},
		"calendar-days":     {"calendar", "days", "cn-workdays", "--from", "2026-12-31", "--to", "2027-01-02"},
		"doctor":            {"doctor", "--lang", "zh"},
		"reconcile":         {"reconcile"},
		"forecast":          {"forecast"},
		"forecast-zh":       {"forecast", "--all", "--lang", "zh"},
		"forecast-fires":    {"forecast", "--fires", "3", "--from", "2026-12-01T16:00", "--to", "2026-12-01T17:00"},
		"forecast-task":     {"forecast", "--task", taskID, "--lang", "zh"},
		"forecast-nothing":  {"forecast", "--task", taskID, "--days", "1"},
		"forecast-used-up":  {"forecast", "--task", lost},
		"forecast-spread":   {"forecast", "spread", "Common", "--lang", "zh"},
		"backfill":          {"task", "backfill", taskID, "--from", "2026-12-01", "--to", "2026-12-01T08:00", "--dry-run"},
		"backfill-zh":       {"task", "backfill", taskID, "--from", "2026-12-01", "--to", "2026-12-01T08:00", "--dry-run", "--lang", "zh"},
		"resolved":          {"intervention", "list", "--resolved"},
		"task-list-skipped": {"task", "list"},
		"task-enabled":      {"task", "enable", taskID},
		"task-enabled-zh":   {"task", "enable", taskID, "--lang", "zh"},
		"schedule-own":      {"schedule", "next", "0 16 * * *", "--only-on", "mine", "--zone", "Asia/Shanghai", "--from", "2026-11-30T00:00:00+08:00", "--count", "2"},
		"schedule-moved":    {"schedule", "next", "0 9 * * *", "--only-on", "cn-workdays", "--on-day-off", "next", "--zone", "Asia/Shanghai", "--from", "2025-09-30T00:00:00+08:00"},
		"schedule-moved-zh": {"schedule", "next", "0 9 * * *", "--only-on", "cn-workdays", "--on-day-off", "next", "--zone", "Asia/Shanghai", "--from", "2025-09-30T00:00:00+08:00", "--lang", "zh"},
		"schedule-skipped":  {"schedule", "next", "0 9 * * *", "--only-on", "cn-workdays", "--zone", "Asia/Shanghai", "--from", "2025-10-07", "--count", "2"},
	} {
		out, errOut, code := gnomon(t, m, "", args...)
		if code != exitOK || strings.Contains(errOut, "gnomon: ") {
			t.Errorf("%s: %d %s", name, code, errOut)
		}
		if errOut != "" {
			out += "-- beside it:\n" + errOut
		}
		golden(t, name, out)
	}
}

// TestNothingIsSaidBesideTheOutput: an empty list prints no heading, and says so where no program reads it.
func TestNothingIsSaidBesideTheOutput(t *testing.T) {
	m := newRemote(t)
	for _, path := range []string{"queue?limit=1000", "interventions?resolved=false", "breakers", "pools", "downstreams", "tasks?limit=1000", "runs?limit=50", "reconciliation"} {
		m.on("GET /v1/"+path, map[string]any{"items": []any{}, "sound": true})
	}
	for command, says := range map[string]string{
		"queue": "no run waits", "intervention list": "no run waits for a person", "breaker list": "no breaker has ever moved", "pool list": "gnomon pool put",
		"downstream list": "gnomon downstream put", "task list": "there are none", "run list": "there are none", "reconcile": "nothing should have fired",
	} {
		out, errOut, code := gnomon(t, m, "", strings.Fields(command)...)
		if code != exitOK || out != "" || !strings.HasPrefix(errOut, "(") || !strings.Contains(errOut, says) {
			t.Errorf("%s: %d %q %q", command, code, out, errOut)
		}
		if out, errOut, code = gnomon(t, m, "", append(strings.Fields(command), "-o", "json")...); code != exitOK || errOut != "" || !json.Valid([]byte(out)) {
			t.Errorf("%s -o json: %d %q %q", command, code, out, errOut)
		}
	}
}

func TestNamesAreCompletedByTheServer(t *testing.T) {
	m := newRemote(t)
	off := someTask()
	off.Namespace = "Erp"
	m.on("GET /v1/tasks", map[string]any{"items": []any{someTask(), off}})
	m.on("GET /v1/tasks/"+taskID, off)
	m.on("GET /v1/namespaces", map[string]any{"items": []any{api.Namespace{Name: "Common"}, api.Namespace{Name: "Erp"}}})
	m.on("GET /v1/pools", map[string]any{"items": []any{api.Pool{Name: "erp"}, api.Pool{Name: "pacs"}}})
	m.on("GET /v1/breakers", map[string]any{"items": []any{api.Breaker{Name: "downstream:erp"}, api.Breaker{Name: "task:" + taskID}}})
	for line, want := range map[string]string{
		"why E": "Erp/心跳", "task pause ": "Common/心跳 Erp/心跳", "task pause Common/心跳 ": "", "pool get p": "pacs", "pool delete ": "erp pacs",
		"breaker reset task": "task:Erp/心跳", "queue --namespace C": "Common", "forecast spread ": "Common Erp", "run get ": "",
	} {
		args := strings.Split(line, " ")
		out, _, code := gnomon(t, m, "", append([]string{"__complete"}, args...)...)
		words, _, _ := strings.Cut(out, ":")
		if !strings.Contains(out, "task:") {
			words = strings.Join(strings.Fields(words), " ")
		} else {
			words = strings.Fields(out)[0]
		}
		if code != exitOK || words != want {
			t.Errorf("%s: %d %q", line, code, out)
		}
	}
}

func TestRefusalsAreOneReadableLineAndACode(t *testing.T) {
	m := newRemote(t)
	m.answers["POST /v1/namespaces/Common/tasks"] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 422, "invalid", "task Common/x",
			api.ProblemError{Location: "body.schedule.spec", MessageZh: "永远不会触发", MessageEn: "never fires"},
			api.ProblemError{Location: "body.params.count", MessageZh: "须为整数", MessageEn: "must be an integer"})
	}
	m.answers["GET /v1/tasks?limit=1000"] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 401, "unauthenticated", "the token is not known here, or has expired")
	}
	m.answers["GET /v1/namespaces"] = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(502)
		fmt.Fprint(w, "<html>bad gateway</html>")
	}
	m.on("GET /v1/tasks/"+taskID, someTask())
	m.answers["POST /v1/schedule/preview"] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 422, "invalid", "", api.ProblemError{Location: "body.only_on[0]", MessageZh: "没有这个日历", MessageEn: "there is no calendar"})
	}
	gone := newRemote(t)
	gone.Close()
	folder := t.TempDir()
	written := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file, twice := written("bad.yaml", "name: x\n  type: y\n"), written("twice.yaml", "name: x\nname: y\n")
	list, none, unnamed := written("list.yaml", "- x\n"), written("none.yaml", "# nothing\n"), written("unnamed.yaml", "type: x\n")
	named := written("named.yaml", "name: b\n")
	create := []string{"task", "create", "-n", "Common", "--name", "x", "--type", "Common.Echo", "--schedule", "0 0 30 2 *"}
	for _, c := range []struct {
		m    *remote
		args []string
		code int
		says string
	}{
		{m, create, exitRefused, "gnomon: task create: schedule.spec: never fires\ngnomon: task create: params.count: must be an integer\n"},
		{m, append(create, "--lang", "zh"), exitRefused, "gnomon: task create: schedule.spec: 永远不会触发\ngnomon: task create: params.count: 须为整数\n"},
		{m, []string{"task", "get", "Common/none"}, exitNotFound, "gnomon: task get: not_found: not found: GET /v1/namespaces/Common/tasks/none\n"},
		{m, []string{"task", "list"}, exitFailed, "gnomon: task list: unauthenticated: the token is not known here, or has expired\n"},
		{m, []string{"namespace", "list"}, exitFailed, "which is not how a gnomon server answers\n"},
		{gone, []string{"task", "list"}, exitUnreachable, "is it running? Start it with `gnomon server`"},
		{gone, []string{"task", "list", "--lang", "zh"}, exitUnreachable, "它在运行吗？用 gnomon server 启动"},
		{nil, []string{"run", "list"}, exitUnreachable, "no server has left its context file here yet"},
		{m, []string{"task", "get", "x"}, exitUsage, `gnomon: task get: "x" is neither NAMESPACE/NAME nor the id of a task`},
		{m, []string{"task", "frobnicate"}, exitUsage, "unknown command"},
		{m, []string{"frobnicate"}, exitUsage, `gnomon: unknown command "frobnicate"`},
		{m, []string{"task", "list", "--nope"}, exitUsage, "unknown flag: --nope"},
		{m, []string{"task", "list", "-o", "xml"}, exitUsage, "-o xml: must be one of table, json, yaml"},
		{m, []string{"task", "get"}, exitUsage, "accepts 1 arg(s), received 0"},
		{m, []string{"task", "run", "Common/none", "--params", "{"}, exitNotFound, "not_found"},
		{m, []string{"task", "create", "-f", file}, exitRefused, "bad.yaml: [1:7] mapping value is not allowed"},
		{m, []string{"task", "create", "-f", file, "--lang", "zh"}, exitRefused, "bad.yaml: [1:7] 这里不能写“名称: 值”；请检查缩进"},
		{m, []string{"task", "apply", "-f", twice}, exitRefused, `twice.yaml: [2:1] mapping key "name" already defined at [1:1]`},
		{m, []string{"task", "apply", "-f", twice, "--lang", "zh"}, exitRefused, `twice.yaml: [2:1] 字段 "name" 在 [1:1] 已经写过`},
		{m, []string{"task", "apply", "-f", written("tab.yaml", "name: x\n\ttype: y\n"), "--lang", "zh"}, exitRefused, "tab.yaml: [2:1] 缩进不能用制表符，请用空格"},
		{m, []string{"task", "apply", "-f", list, "--lang", "zh"}, exitRefused, "list.yaml: [1:1] 这里须是字段（名称: 值）"},
		{m, []string{"pool", "put", "erp", "-f", list}, exitRefused, "list.yaml: [1:1] a mapping (name: value) belongs here"},
		{m, []string{"calendar", "put", "a", "-f", named}, exitRefused, "named.yaml: its name is b, the command line says a; make them the same, or leave name out of the file"},
		{m, []string{"namespace", "put", "a", "-f", named, "--lang", "zh"}, exitRefused, "named.yaml: 其中 name 是 b，命令行写的是 a；请改成一致"},
		{m, []string{"pool", "put", "erp", "-f", none}, exitRefused, "none.yaml: it is empty"},
		{m, []string{"task", "apply", "-f", none, "--lang", "zh"}, exitRefused, "none.yaml: 文件中没有任务"},
		{m, []string{"task", "apply", "-f", unnamed}, exitRefused, "unnamed.yaml: every task needs a namespace and a name"},
		{m, []string{"task", "create", "-f", filepath.Join(t.TempDir(), "none")}, exitUsage, "no such file"},
		{m, []string{"task", "create", "--type", "x"}, exitUsage, "needs a namespace and a name"},
		{m, []string{"run", "get", "7"}, exitUsage, "is not the id of a run"},
		{m, []string{"task", "list", "--server", "ftp://x"}, exitUsage, "is not a URL"},
		{m, []string{"task", "list", "--server", "http://127.0.0.1:1"}, exitUsage, "give the token of http://127.0.0.1:1"},
		{m, []string{"schedule", "next", "0 0 30 2 *"}, exitRefused, "gnomon: schedule next: schedule.spec: "},
		{m, []string{"schedule", "next", "0 0 1 1 * 2030"}, exitRefused, "quartz"},
		{m, []string{"schedule", "next", "@hourly", "--zone", "Mars/Olympus"}, exitRefused, "gnomon: schedule next: schedule.zone: "},
		{m, []string{"schedule", "next", "@hourly", "--from", "noon"}, exitUsage, `--from "noon" is no instant`},
		{m, []string{"schedule", "next", "@hourly", "--only-on", "cn-workday"}, exitRefused, "gnomon: schedule next: only_on[0]: there is no calendar"},
		{gone, []string{"schedule", "next", "@hourly", "--only-on", "mine"}, exitUnreachable, "gnomon: schedule next: calendar mine is not one that every installation has (cn-workdays, cn-holidays, weekdays, weekends), so only a server knows it, and none answered: cannot reach"},
		{nil, []string{"schedule", "next", "@hourly", "--not-on", "mine,weekends", "--lang", "zh"}, exitUnreachable, "日历 mine 不是内置日历"},
		{m, []string{"task", "backfill", taskID, "--from", "2026-11-01", "--to", "2026-12-01", "--limit", "0"}, exitUsage, "--limit 0: must be between 1 and 1000"},
		{m, []string{"task", "backfill", taskID, "--from", "2026-11-01", "--to", "2026-12-01", "--limit", "0", "--lang", "zh"}, exitUsage, "--limit 0：须在 1 与 1000 之间"},
		{m, []string{"task", "backfill", taskID, "--from", "yesterday", "--to", "2026-12-01"}, exitUsage, `--from "yesterday" is no instant; write 2026-10-01T08:00:00+08:00, the local time 2026-10-01T08:00, or the day 2026-10-01 (Asia/Shanghai)`},
		{m, []string{"schedule", "next", "@daily", "--only-on", "weekdays", "--not-on", "weekdays"}, exitRefused, "gnomon: schedule next: schedule."},
		{m, []string{"pool", "put", "erp"}, exitUsage, `required flag(s) "file" not set`},
		{m, []string{"pool", "put", "erp", "-f", file}, exitRefused, "bad.yaml: [1:7] mapping value is not allowed"},
		{m, []string{"pool", "get", "none"}, exitNotFound, "not_found"},
		{m, []string{"calendar", "days", "none"}, exitUsage, `required flag(s) "from" not set`},
		{m, []string{"breaker", "reset", "erp"}, exitUsage, "write downstream:NAME or task:NAMESPACE/NAME"},
		{m, []string{"intervention", "retry", "7"}, exitUsage, "is not the id of a run"},
		{m, []string{"intervention", "retry", runID, "--params", "{"}, exitUsage, "--params is not valid JSON"},
		{m, []string{"intervention", "retry", runID, "--params", "{", "--lang", "zh"}, exitUsage, "--params 不是合法的 JSON"},
		{m, []string{"intervention", "skip", "7", "--lang", "zh"}, exitUsage, `"7" 不是运行的 id`},
		{m, []string{"run", "get", "7", "--lang", "zh"}, exitUsage, `"7" 不是运行的 id`},
		{m, []string{"run", "list", "--limit", "0", "--lang", "zh"}, exitUsage, "--limit 0：须为 1 或更大"},
		{m, []string{"breaker", "reset", "erp", "--lang", "zh"}, exitUsage, `"erp" 不是熔断器`},
		{m, []string{"why", "x", "--lang", "zh"}, exitUsage, `"x" 既不是 命名空间/名称，也不是任务的 id`},
		{m, []string{"run", "workflow", "7"}, exitUsage, "is not the id of a run"},
		{m, []string{"why", "x"}, exitUsage, "neither NAMESPACE/NAME"},
		{m, []string{"forecast", "--from", "noon"}, exitUsage, `--from "noon" is no instant`},
		{gone, []string{"why", "Common/hb"}, exitUnreachable, "is it running?"},
	} {
		out, errOut, code := gnomon(t, c.m, "", c.args...)
		if code != c.code || !strings.Contains(errOut, c.says) || out != "" {
			t.Errorf("%v: code %d instead of %d\n%s%s", c.args, code, c.code, out, errOut)
		}
		for line := range strings.Lines(errOut) {
			if !strings.HasPrefix(line, "gnomon: ") || strings.Contains(line, noToken) {
				t.Errorf("%v: %q", c.args, line)
			}
		}
	}
}

func TestWhatGetPrintsCreateTakes(t *testing.T) {
	m := newRemote(t)
	full := someTask()
	full.Effective, full.Pause, full.Problem, full.Warnings = &full.Policies, &api.Pause{Since: at(0), By: "wang"}, "p", []api.Text{{Zh: "警", En: "w"}}
	m.on("GET /v1/tasks/"+taskID, full)
	m.on("POST /v1/namespaces/Common/tasks", someTask())
	m.on("PUT /v1/namespaces/Common/tasks/%E5%BF%83%E8%B7%B3", someTask())
	for _, form := range []string{"yaml", "json"} {
		text, _, code := gnomon(t, m, "", "task", "get", taskID, "-o", form)
		if code != exitOK {
			t.Fatal(text)
		}
		for command, key := range map[string]string{
			"create": "POST /v1/namespaces/Common/tasks", "apply": "PUT /v1/namespaces/Common/tasks/%E5%BF%83%E8%B7%B3",
		} {
			if _, errOut, code := gnomon(t, m, text, "task", command, "-f", "-"); code != exitOK {
				t.Fatalf("%s %s: %s", command, form, errOut)
			}
			var sent map[string]any
			if err := json.Unmarshal([]byte(m.bodies[key]), &sent); err != nil {
				t.Fatal(err)
			}
			for _, field := range append(decidedByServer, "namespace") { // what the server refuses
				if _, ok := sent[field]; ok {
					t.Errorf("%s %s sends %s", command, form, field)
				}
			}
			if s, _ := sent["schedule"].(map[string]any); s["spec"] != "*/5 * * * *" || s["anchor"] != nil || sent["type"] != "Common.KeepAlive" {
				t.Errorf("%s %s: %v", command, form, sent)
			}
		}
	}
}

func TestDisablingForgetsTheNextFire(t *testing.T) {
	m := newRemote(t)
	m.on("GET /v1/tasks/"+taskID, someTask())
	off := someTask()
	off.Enabled, off.NextFire = false, nil
	m.on("POST /v1/tasks/"+taskID+"/disable", off)
	if out, _, code := gnomon(t, m, "", "task", "disable", taskID); code != exitOK || out != "disabled Common/心跳\n" {
		t.Errorf("%d %q", code, out)
	}
}

func TestRunAndWaitTellsHowItEnded(t *testing.T) {
	m := newRemote(t)
	m.on("GET /v1/tasks/"+taskID, someTask())
	live := someRun()
	live.State, live.Outcome = "running", ""
	m.on("POST /v1/tasks/"+taskID+"/run", live)
	looks := 0
	m.answers["GET /v1/runs/"+runID] = func(w http.ResponseWriter, _ *http.Request) {
		r := live
		if looks++; looks > 1 {
			r = someRun()
		}
		_ = json.NewEncoder(w).Encode(r)
	}
	out, errOut, code := gnomon(t, m, "", "task", "run", taskID, "--params", `{"count":2}`, "--wait")
	if code != exitFailed || !strings.Contains(out, "failed") || !strings.Contains(errOut, "did not succeed: failed") {
		t.Errorf("%d %s %s", code, out, errOut)
	}
	if got := m.bodies["POST /v1/tasks/"+taskID+"/run"]; got != `{"params":{"count":2}}` {
		t.Error(got)
	}
}

func TestFollowTakesUpWhereItWas(t *testing.T) {
	m := newRemote(t)
	var lastIDs []string
	m.answers["GET /v1/runs/"+runID+"/logs/live"] = func(w http.ResponseWriter, r *http.Request) {
		lastIDs = append(lastIDs, r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		n := len(lastIDs)
		line, _ := json.Marshal(api.Line{Attempt: 1, Seq: uint64(n), At: at(n), Level: "info", Stream: "log", Message: fmt.Sprint("line ", n)})
		fmt.Fprintf(w, ": following\nretry: 2000\n\nid: 1-%d\nevent: line\ndata: %s\n\n", n, line)
		if n == 2 {
			fmt.Fprintf(w, ": still here\n\nevent: end\ndata: {\"run_id\":%q,\"outcome\":\"succeeded\"}\n\n", runID)
		}
	}
	out, errOut, code := gnomon(t, m, "", "run", "logs", "-f", runID)
	if code != exitOK || strings.Count(out, "line 1") != 1 || strings.Count(out, "line 2") != 1 || errOut != "the run ended: succeeded\n" {
		t.Errorf("%d %q %q", code, out, errOut)
	}
	if fmt.Sprint(lastIDs) != "[ 1-1]" {
		t.Errorf("%q", lastIDs)
	}
}

// Lines are printed with their attributes, in which --grep does not look.
func TestGrepSaysWhereItLooks(t *testing.T) {
	for _, of := range []string{"run", "task"} {
		if out, _, code := gnomon(t, newRemote(t), "", of, "logs", "--help"); code != exitOK || !strings.Contains(out, "whose message contains this, in whatever case; attributes are not searched") {
			t.Errorf("%d %s", code, out)
		}
	}
}

func TestSQLForms(t *testing.T) {
	m := newRemote(t)
	m.answers["POST /v1/query"] = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Gnomon-More")
		w.WriteHeader(200)
		switch r.Header.Get("Accept") {
		case "application/x-ndjson":
			fmt.Fprint(w, "{\"n\":1}\n{\"n\":2}\n")
		default:
			fmt.Fprint(w, r.Header.Get("Accept")+"\n")
		}
		w.Header().Set("X-Gnomon-More", "true")
	}
	for form, want := range map[string]string{
		"json": "[\n  {\"n\":1},\n  {\"n\":2}\n]\n", "ndjson": "{\"n\":1}\n{\"n\":2}\n", "csv": "text/csv\n", "tsv": "text/tab-separated-values\n",
	} {
		out, errOut, code := gnomon(t, m, "SELECT 1", "sql", "-", "-o", form, "-p", "ns=Common", "--max-rows", "2")
		if code != exitOK || out != want || !strings.Contains(errOut, "the answer was cut at 2 rows") {
			t.Errorf("%s: %d %q %q", form, code, out, errOut)
		}
	}
	if got := m.bodies["POST /v1/query"]; !strings.HasPrefix(got, `{"sql":"SELECT 1","params":{"ns":"Common"},"max_rows":2,"id":"`) {
		t.Error(got)
	}
}

// More rows than a sheet holds cannot be had by asking for more.
func TestAFullSheetSaysWhatHelps(t *testing.T) {
	m := newRemote(t)
	m.answers["POST /v1/query"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Gnomon-More")
		fmt.Fprint(w, "PK")
		w.Header().Set("X-Gnomon-More", "true")
	}
	for _, c := range []struct{ lang, rows, want string }{
		{"en", "1048575", "there is more: a sheet of Excel holds 1048575 rows; ask for less, or write a .csv or .parquet file"},
		{"zh", "5000000", "还有更多：Excel 的一张工作表最多 1048575 行；请缩小查询，或用 --file 写成 .csv 或 .parquet"},
		{"en", "10", "the answer was cut at 10 rows or sooner; ask for more with --max-rows"},
	} {
		path := filepath.Join(t.TempDir(), "a.xlsx")
		if _, errOut, code := gnomon(t, m, "", "--lang", c.lang, "sql", "SELECT 1", "--file", path, "--max-rows", c.rows); code != exitOK || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: %d %q", c, code, errOut)
		}
	}
}

// NULL is for parameters that are declared to take it.
func TestAParameterMayBeNull(t *testing.T) {
	t.Parallel()
	text := "1"
	got, err := given(api.Query{SQL: "SELECT {a:Nullable(UInt8)}, {b : LowCardinality(Nullable(String))}, {c:String}", Params: map[string]*string{"a": nil, "b": nil, "c": &text}})
	if err != nil || fmt.Sprint(got) != `map[a:\N b:\N c:1]` {
		t.Errorf("%q %v", got, err)
	}
	_, err = given(api.Query{SQL: "SELECT {a:Nullable(UInt8)}, {c:String}", Params: map[string]*string{"c": nil}})
	if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.KindInvalid || e.Findings[0].Path != "params.c" {
		t.Error(err)
	}
}

func TestASQLTableIsAlignedAndCounted(t *testing.T) {
	m := newRemote(t)
	m.on("POST /v1/query", map[string]any{
		"columns": []api.Column{{Name: "task", Type: "LowCardinality(String)"}, {Name: "n", Type: "UInt64"}, {Name: "说明", Type: "Nullable(String)"}, {Name: "p", Type: "Nullable(Float64)"}},
		"rows":    [][]any{{"a", 5, "一\n行\x1b[31m", 1.5}, {"longer", 12345, nil, nil}}, "more": false,
	})
	out, errOut, code := gnomon(t, m, "", "sql", "SELECT 1")
	if want := "task        n  说明           p\na           5  一⏎行␛[31m   1.5\nlonger  12345  NULL        NULL\n"; code != exitOK || out != want || !strings.HasPrefix(errOut, "2 rows in ") {
		t.Errorf("%d\n%s\ninstead of\n%s\n%q", code, out, want, errOut)
	}
	if _, errOut, _ = gnomon(t, m, "", "--lang", "zh", "sql", "SELECT 1"); !strings.HasPrefix(errOut, "2 行，用时 ") {
		t.Errorf("%q", errOut)
	}
}

func TestAWideTableIsCutToTheTerminal(t *testing.T) {
	cells := [][]string{{"n", "message", "名称", "x", "last"}, {"1", strings.Repeat("m", 200), strings.Repeat("名", 50), "12", strings.Repeat("y", 30)}}
	if shown := fit(cells, 40); shown != 5 {
		t.Errorf("%d columns are shown", shown)
	}
	for _, line := range cells {
		total := 0
		for _, cell := range line {
			total += text.StringWidthWithoutEscSequences(cell) + 2
		}
		if total > 40 || line[0] == "…" || line[3] == "…" {
			t.Errorf("%d wide: %q", total, line)
		}
	}
	if shown := fit([][]string{{strings.Repeat("a", 20), strings.Repeat("b", 20), strings.Repeat("c", 20)}}, 20); shown != 2 {
		t.Errorf("%d columns are shown", shown)
	}
}

func TestSQLErrorsShowTheirPlace(t *testing.T) {
	for _, c := range []struct{ statement, message, want string }{
		{"SELEC 1", "Syntax error: failed at position 1 (SELEC): SELEC 1.", "  SELEC 1\n  ^\n"},
		{"SELECT '中文',\n\tcount( FROM runs", "Syntax error: failed at position 26 (FROM) (line 2, col 9): FROM runs.", "  2:  count( FROM runs\n             ^\n"},
		{"SELECT nope_, 中 nope FROM runs", "Unknown expression identifier `nope` in scope SELECT", "  SELECT nope_, 中 nope FROM runs\n                   ^~~~\n"},
		{"-- nope\nSELECT 'nope', '中 nope''s' /* nope */, nope", "Unknown expression identifier `nope` in scope SELECT", "  2: SELECT 'nope', '中 nope''s' /* nope */, nope\n                                             ^~~~\n"},
		{"SELECT 1 -- nope", "Unknown expression identifier `nope` in scope SELECT", ""},
		{"SELECT 'so abc', 'abc'::UInt8", "Cannot parse string 'abc' as UInt8", "  SELECT 'so abc', 'abc'::UInt8\n                    ^~~\n"},
		{"SELECT 1", "Memory limit exceeded", ""},
		{"SELECT 1", "Syntax error: failed at position 9 (end of query)", "  SELECT 1\n          ^\n"},
		{"SELECT 1", "Syntax error: failed at position 900 (x)", ""},
		{strings.Repeat("x, ", 60) + "bad", "Syntax error: failed at position 181 (bad)", "  …" + strings.Repeat("x, ", 20) + "bad\n   " + strings.Repeat(" ", 60) + "^\n"},
	} {
		m := newRemote(t)
		m.answers["POST /v1/query"] = func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, 422, "invalid", "", api.ProblemError{Location: "body.sql", MessageEn: c.message})
		}
		out, errOut, code := gnomon(t, m, c.statement, "sql")
		if said := "gnomon: sql: " + c.message + "\n"; code != exitRefused || out != "" || errOut != said+c.want {
			t.Errorf("%d %q\n%s\ninstead of\n%s", code, out, errOut, said+c.want)
		}
	}
}

func TestSQLFilesAppearWholeOrNotAtAll(t *testing.T) {
	m := newRemote(t)
	whole := true
	m.answers["POST /v1/query"] = func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Accept"))
		if !whole {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	dir := t.TempDir()
	statement := filepath.Join(dir, "monthly.sql")
	if err := os.WriteFile(statement, []byte("SELECT 1 -- 月报"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, accept := range map[string]string{
		"a.xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "a.parquet": "application/vnd.apache.parquet", "a.csv": "text/csv", "a.ndjson": "application/x-ndjson",
	} {
		path := filepath.Join(dir, name)
		out, errOut, code := gnomon(t, m, "", "sql", "--from", statement, "--file", path)
		got, err := os.ReadFile(path)
		if code != exitOK || out != "" || err != nil || string(got) != accept || !strings.HasPrefix(errOut, "wrote "+path+": ") {
			t.Errorf("%s: %d %q %q %q %v", name, code, out, errOut, got, err)
		}
	}
	if got := m.bodies["POST /v1/query"]; !strings.HasPrefix(got, `{"sql":"SELECT 1 -- 月报","max_rows":1048575,"id":"`) {
		t.Error(got)
	}
	whole = false
	path := filepath.Join(dir, "broken.csv")
	if _, errOut, code := gnomon(t, m, "SELECT 1", "sql", "--file", path); code != exitFailed || !strings.Contains(errOut, "the answer is not complete") {
		t.Errorf("%d %q", code, errOut)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	for _, args := range [][]string{{"sql", "SELECT 1", "--from", statement}, {"sql", "--from", filepath.Join(dir, "none.sql")}, {"sql", "-"}, {"sql", "SELECT 1", "-o", "pdf"}} {
		if _, errOut, code := gnomon(t, m, " ", args...); code != exitUsage || errOut == "" {
			t.Errorf("%v: %d %q", args, code, errOut)
		}
	}
	// What cannot be is said before anything is asked, in both languages.
	delete(m.bodies, "POST /v1/query")
	for _, c := range []struct {
		args   []string
		en, zh string
	}{
		{[]string{"SELECT 1", "--file", filepath.Join(dir, "o.foo")}, "o.foo: its ending must be .table, .json, .ndjson, .csv, .tsv, .xlsx, .parquet, or give the form with -o", "后缀须为 .table, .json, .ndjson, .csv, .tsv, .xlsx, .parquet，或用 -o 指定格式"},
		{[]string{"SELECT 1", "--file", filepath.Join(dir, "none", "x.csv")}, "cannot write " + filepath.Join(dir, "none", "x.csv") + ": no such file or directory; ", "请换一个已存在且可写的目录"},
		{[]string{" "}, "the statement is empty", "语句为空"},
		{[]string{""}, "the statement is empty", "语句为空"},
		{[]string{"SELECT 1", "-p", "a"}, "--param a: write name=value", "--param a：应写作 名称=值"},
		{[]string{"SELECT 1", "-p", "a=1", "-p", "b=1", "-p", "a=2"}, "--param a is given twice: a parameter has one value", "--param a 给出了两次：每个参数只能给一个值"},
		{[]string{"SELECT 1", "-o", "pdf"}, "-o pdf: must be one of table, json, ", "-o pdf：只能是 table, json, "},
		{[]string{"SELECT 1", "--from", statement}, "give the statement or --from, not both", "语句与 --from 只能给出一个"},
	} {
		for lang, want := range map[string]string{"en": c.en, "zh": c.zh} {
			if _, errOut, code := gnomon(t, m, "", append([]string{"--lang", lang, "sql"}, c.args...)...); code != exitUsage || !strings.Contains(errOut, want) {
				t.Errorf("%v: %d %q", c.args, code, errOut)
			}
		}
	}
	if asked := m.bodies["POST /v1/query"]; asked != "" {
		t.Errorf("asked: %s", asked)
	}
	whole = true
	path = filepath.Join(dir, "array.json") // longer than what came
	if _, errOut, code := gnomon(t, m, "SELECT 1", "sql", "--file", path); code != exitOK || !strings.Contains(errOut, ": 27 B in ") {
		t.Errorf("%d %q", code, errOut)
	}
	if _, errOut, code := gnomon(t, m, "SELECT 1", "sql", "--file", filepath.Join(dir, "plain"), "-o", "csv"); code != exitOK {
		t.Errorf("%d %q", code, errOut)
	}
}

// An answer that breaks off says why, in the reader's language, and what says it is no part of the answer.
func TestASQLAnswerThatBreaksOffSaysWhy(t *testing.T) {
	m := newRemote(t)
	m.answers["POST /v1/query"] = func(w http.ResponseWriter, r *http.Request) {
		var asked api.QueryRequest
		if err := json.Unmarshal([]byte(m.bodies["POST /v1/query"]), &asked); err != nil {
			t.Error(err)
		}
		rows := map[string]string{"text/csv": "n\n1\n{\"gnomon_query\":\"another\"}\n", "application/json": `{"columns":[{"name":"n","type":"UInt8"}],"rows":[[1]` + "\n"}[r.Header.Get("Accept")]
		raw, err := json.Marshal(api.QueryEnd{ID: asked.ID, Error: api.Problem{Status: 429, Kind: "exhausted", Errors: []api.ProblemError{{Location: "body.sql", MessageEn: "takes longer than 30s", MessageZh: "执行时间超过 30s"}}}})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte(rows + string(raw) + "\n"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for form, want := range map[string]string{"csv": "n\n1\n{\"gnomon_query\":\"another\"}\n", "table": ""} {
		for lang, said := range map[string]string{"en": "gnomon: sql: the answer is not complete: takes longer than 30s\n", "zh": "gnomon: sql: 结果不完整: 执行时间超过 30s\n"} {
			out, errOut, code := gnomon(t, m, "", "--lang", lang, "sql", "SELECT 1", "-o", form)
			if code != exitFailed || out != want || errOut != said {
				t.Errorf("%s: %d %q %q", form, code, out, errOut)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "a.csv")
	if _, errOut, code := gnomon(t, m, "", "sql", "SELECT 1", "--file", path); code != exitFailed || !strings.Contains(errOut, "takes longer than 30s") {
		t.Errorf("%d %q", code, errOut)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAnInterruptedQueryIsCancelled(t *testing.T) {
	m := newRemote(t)
	ctx, interrupt := context.WithCancel(t.Context())
	var cancelled []string
	m.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			cancelled = append(cancelled, r.URL.Path)
			fmt.Fprint(w, `{"cancelled":true}`)
			return
		}
		var q api.QueryRequest
		_ = json.NewDecoder(r.Body).Decode(&q)
		cancelled = append(cancelled, q.ID)
		interrupt()
		<-r.Context().Done()
	})
	var errOut bytes.Buffer
	t.Setenv("GNOMON_SERVER", m.URL)
	t.Setenv("GNOMON_TOKEN", noToken)
	t.Setenv("GNOMON_CONTEXT", filepath.Join(t.TempDir(), "none"))
	code := run(ctx, []string{"sql", "SELECT 1"}, strings.NewReader(""), io.Discard, &errOut)
	if code != exitInterrupted || errOut.String() != "gnomon: sql: interrupted\n" {
		t.Errorf("%d %q", code, errOut.String())
	}
	if len(cancelled) != 2 || cancelled[1] != "/v1/queries/"+cancelled[0] {
		t.Errorf("%q", cancelled)
	}
}

func TestContextFileIsPrivateAndWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "context.json")
	t.Setenv("GNOMON_CONTEXT", path)
	if got, err := ContextPath(); err != nil || got != path {
		t.Fatal(got, err)
	}
	want := ServerContext{Server: "http://127.0.0.1:8080", TokenFile: "/data/bootstrap-token"}
	for range 2 {
		if err := WriteContext(path, want); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	if got, ok, err := ReadContext(path); err != nil || !ok || got != want {
		t.Fatal(got, ok, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Error(entries)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadContext(path); err == nil {
		t.Error("half a file was read")
	}
}
