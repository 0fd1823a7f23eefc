package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
)

func TestTheQueueSaysWhoWaitsForWhatInWhichOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	since := time.Date(2026, 10, 1, 8, 0, 0, 0, time.UTC)
	at := func(minute int) time.Time { return since.Add(time.Duration(minute) * time.Minute) }
	for i, ns := range []string{"Common", "Common", "Common", "Foreign", "Foreign", "Common"} {
		w.tables.put(core.Run{
			ID: fmt.Sprint("r", i), TaskID: "t", Namespace: ns, State: core.RunWaiting, Gate: core.GateCapacity, GateKey: "pool:erp",
			Priority: map[bool]int{true: 9}[i == 5], StartAt: at(i), WaitSince: since,
			Facts: json.RawMessage(`{"gate":"capacity","detail":"2 of 2 slots of pool:erp in use"}`),
		})
	}
	w.tables.put(core.Run{ID: "o1", TaskID: "t", Namespace: "Common", State: core.RunWaiting, Gate: core.GateOverlap, FireAt: at(2)})
	w.tables.put(core.Run{ID: "o0", TaskID: "t", Namespace: "Common", State: core.RunWaiting, Gate: core.GateOverlap, FireAt: at(1)})
	w.tables.put(core.Run{ID: "o2", TaskID: "u", Namespace: "Common", State: core.RunWaiting, Gate: core.GateOverlap, Facts: json.RawMessage(`7`)})
	w.tables.put(core.Run{ID: "b1", TaskID: "u", Namespace: "Common", State: core.RunRetrying, Gate: core.GateBreaker, GateKey: "downstream:his"})
	// Neither waits: the one has not come to its next attempt yet, the other runs.
	w.tables.put(core.Run{ID: "n1", Namespace: "Common", State: core.RunRetrying, Gate: core.GateBreaker, StartAt: time.Now().Add(time.Hour)})
	w.tables.put(core.Run{ID: "n2", Namespace: "Common", State: core.RunRunning, Gate: core.GateCapacity, GateKey: "pool:erp"})
	w.tables.holdings = []core.Holding{{Limit: "pool:erp", Namespace: "Common", Slots: 1}}
	viewer := w.token(access.Viewer, "Common")
	list := func(query string) (out []string, next any) {
		a := w.must(200, w.do(viewer, "GET", "/v1/queue?"+query, ""))
		items, _ := a.body["items"].([]any)
		for _, item := range items {
			m, _ := item.(map[string]any)
			out = append(out, fmt.Sprint(m["run_id"], ":", m["order"]))
		}
		return out, a.body["next_cursor"]
	}
	for query, want := range map[string]string{
		"":                            "o0:1 o1:2 o2:1 b1:1 r5:1 r0:4 r1:5 r2:6",
		"gate=capacity":               "r5:1 r0:4 r1:5 r2:6",
		"key=pool:erp":                "r5:1 r0:4 r1:5 r2:6",
		"gate=breaker":                "b1:1",
		"gate=overlap&key=pool:erp":   "",
		"namespace=Common&limit=1000": "o0:1 o1:2 o2:1 b1:1 r5:1 r0:4 r1:5 r2:6",
		"cursor=7":                    "r2:6",
		"cursor=600":                  "",
	} {
		if got, _ := list(query); strings.Join(got, " ") != want {
			t.Errorf("%s: %v instead of %s", query, got, want)
		}
	}
	first, next := list("limit=5")
	rest, end := list(fmt.Sprint("limit=5&cursor=", next))
	if len(first) != 5 || len(rest) != 3 || end != nil {
		t.Errorf("%v %v, then %v %v", first, next, rest, end)
	}
	a := w.must(200, w.do(w.admin, "GET", "/v1/queue?limit=1&gate=capacity", ""))
	for _, want := range []string{`"detail":"2 of 2 slots of pool:erp in use"`, `"since":"2026-10-01T08:00:00.000000Z"`, `"priority":9`, `"gate":"capacity"`, `"state":"waiting"`} {
		if !strings.Contains(a.raw, want) {
			t.Errorf("%s is not in %s", want, a.raw)
		}
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=-1", "limit=99999999999999999999", "cursor=-1", "cursor=x", "gate=door", "nope=1"} {
		if a := w.must(422, w.do(viewer, "GET", "/v1/queue?"+query, "")); len(a.problem()) == 0 {
			t.Errorf("%s: %s", query, a.raw)
		}
	}
}

func TestALongQueueIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i := range 2500 {
		w.tables.put(core.Run{
			ID: fmt.Sprintf("r%04d", i), Namespace: []string{"Common", "Foreign"}[i%2], State: core.RunWaiting, Gate: core.GateCapacity,
			GateKey: "pool:erp", StartAt: time.Unix(int64(i), 0),
		})
	}
	w.tables.resources["pool erp"] = core.Resource{Kind: "pool", Name: "erp", Version: 1, Doc: []byte(`{"name":"erp","slots":1}`)}
	if a := w.must(200, w.do(w.admin, "GET", "/v1/pools/erp", "")); a.body["waiting"] != 2500.0 {
		t.Error(a.raw)
	}
	viewer, seen, cursor := w.token(access.Viewer, "Common"), map[any]bool{}, any(0)
	for range 10 {
		a := w.must(200, w.do(viewer, "GET", fmt.Sprint("/v1/queue?limit=400&cursor=", cursor), ""))
		items, _ := a.body["items"].([]any)
		for _, item := range items {
			m, _ := item.(map[string]any)
			seen[m["run_id"]] = true
		}
		if cursor = a.body["next_cursor"]; cursor == nil {
			break
		}
	}
	if len(seen) != 1250 || cursor != nil {
		t.Errorf("%d runs seen, cursor %v", len(seen), cursor)
	}
}

func TestAPersonDecidesAboutAnInterventionOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i := range 5 {
		id := fmt.Sprint("i", i)
		w.tables.interventions[id] = core.Intervention{RunID: id, TaskID: "t", Namespace: "Common", Verdict: core.TimedOut, Attempts: 3, Message: "no answer"}
	}
	w.tables.interventions["f"] = core.Intervention{RunID: "f", Namespace: "Foreign"}
	operator := w.token(access.Operator, "Common")
	a := w.must(202, w.do(operator, "POST", "/v1/interventions/i0/retry", `{"params":{"count":4},"note":"the disk is free"}`))
	if a.header.Get("Location") != "/v1/runs/again-i0" || a.body["caused_by"] != "i0" || a.body["trigger"] != "retry" {
		t.Error(a.raw)
	}
	w.must(202, w.do(operator, "POST", "/v1/interventions/i1/retry", ""))
	a = w.must(200, w.do(operator, "POST", "/v1/interventions/i2/skip", `{"note":"of no use any more"}`))
	if a.body["action"] != "skip" || a.body["note"] != "of no use any more" || a.body["by"] != "operator" || a.body["resolved_at"] == nil {
		t.Error(a.raw)
	}
	w.must(200, w.do(operator, "POST", "/v1/interventions/i3/done", ""))
	for _, action := range []string{"retry", "skip", "done"} {
		w.must(409, w.do(operator, "POST", "/v1/interventions/i3/"+action, ""))
		w.must(404, w.do(operator, "POST", "/v1/interventions/f/"+action, ""))
		w.must(404, w.do(operator, "POST", "/v1/interventions/nope/"+action, ""))
	}
	w.must(404, w.do(operator, "POST", "/v1/interventions/i4/forget", ""))
	a = w.must(422, w.do(operator, "POST", "/v1/interventions/i4/retry", `{"params":{"count":"wrong"}}`))
	if a.problem()["body.params.count"] == "" {
		t.Error(a.raw)
	}
	a = w.must(422, w.do(operator, "POST", "/v1/interventions/i4/skip", `{"note":"`+strings.Repeat("x", 2000)+`"}`))
	if a.problem()["body.note"] == "" {
		t.Error(a.raw)
	}
	count := func(query string) int {
		items, _ := w.must(200, w.do(operator, "GET", "/v1/interventions?"+query, "")).body["items"].([]any)
		return len(items)
	}
	if open, resolved := count("task_id=t"), count("resolved=true"); open+resolved != 5 || resolved < 4 {
		t.Errorf("%d open and %d resolved", open, resolved)
	}
	if count("resolved=true&limit=2") != 2 {
		t.Error("the list is not filtered")
	}
	for _, query := range []string{"limit=0", "limit=5000", "resolved=perhaps"} {
		w.must(422, w.do(operator, "GET", "/v1/interventions?"+query, ""))
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	w := setup(t)
	path := "/v1/tasks/" + w.task("Common", "there")
	a := w.must(200, w.do(w.admin, "POST", path+"/pause", `{"note":"the PACS is being moved","until":"2036-01-01T08:00:00+08:00"}`))
	pause, _ := a.body["pause"].(map[string]any)
	if pause["note"] != "the PACS is being moved" || pause["until"] != "2036-01-01T00:00:00.000000Z" || pause["by"] != "admin" || pause["since"] == nil {
		t.Error(a.raw)
	}
	if a.header.Get("ETag") != `"2"` {
		t.Error(a.header.Get("ETag"))
	}
	w.must(412, w.do(w.admin, "POST", path+"/pause", ``, "If-Match", `"1"`))
	w.must(412, w.do(w.admin, "POST", path+"/resume", ``, "If-Match", `"1"`))
	// An edit neither ends a pause nor makes one.
	if a = w.must(200, w.do(w.admin, "PATCH", path, `{"owner":"li"}`)); a.body["pause"] == nil {
		t.Error(a.raw)
	}
	if a = w.must(200, w.do(w.admin, "POST", path+"/resume", "")); a.body["pause"] != nil {
		t.Error(a.raw)
	}
	w.must(200, w.do(w.admin, "POST", path+"/pause", ""))
	for said, at := range map[string]string{`{"until":"2001-01-01T00:00:00Z"}`: "body.until", `{"until":"soon"}`: "body.until", `{"notes":"x"}`: "body.notes", `{"note":7}`: "body.note"} {
		if a := w.do(w.admin, "POST", path+"/pause", said); a.status != 422 || a.problem()[at] == "" {
			t.Errorf("%s: %d %s", said, a.status, a.raw)
		}
	}
}

func TestBackfillIsAskedForWithinBounds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	path := "/v1/tasks/" + w.task("Common", "there") + "/backfill"
	const day = `"from":"2026-01-01T08:00:00+08:00","to":"2026-01-02T00:00:00Z"`
	a := w.must(200, w.do(w.admin, "POST", path, `{`+day+`,"dry_run":true}`))
	if a.body["count"] != 24.0 || a.body["series"] != nil || a.body["dry_run"] != true || a.body["first"] != "2026-01-01T00:00:00.000000Z" || a.body["already_decided"] != 1.0 {
		t.Error(a.raw)
	}
	if b := w.starter.asked; !b.DryRun || b.Limit != 1000 || b.Spread != time.Second || b.Overlap != "" || b.By != "admin" || b.From.Location() != time.UTC {
		t.Errorf("%+v", b)
	}
	a = w.must(202, w.do(w.admin, "POST", path, `{`+day+`,"overlap":"queue","limit":2,"spread":"0s"}`))
	if a.body["count"] != 2.0 || a.body["more"] != true || a.body["series"] != "backfill:1" || fmt.Sprint(a.body["runs"]) != "[run run]" {
		t.Error(a.raw)
	}
	if b := w.starter.asked; b.DryRun || b.Overlap != core.OverlapQueue || b.Spread != 0 {
		t.Errorf("%+v", b)
	}
	w.must(202, w.do(w.admin, "POST", path, `{`+day+`,"overlap":"allow(3)"}`))
	if b := w.starter.asked; b.Overlap != core.OverlapAllow || b.OverlapLimit != 3 {
		t.Errorf("%+v", b)
	}
	a = w.must(202, w.do(w.admin, "POST", path, `{"from":"2026-01-01T00:00:00Z","to":"2026-12-01T00:00:00Z","limit":1000}`))
	if earlier, _ := a.body["earlier_backfills"].([]any); a.body["already_backfilled"] != 2.0 || len(earlier) != 1 || earlier[0].(map[string]any)["series"] != "backfill:0" {
		t.Error(a.body["already_backfilled"], a.body["earlier_backfills"])
	}
	instants, _ := a.body["instants"].([]any)
	if runs, _ := a.body["runs"].([]any); len(instants) != 1000 || len(runs) != 1000 || a.body["count"] != 1000.0 {
		t.Errorf("%d instants, %d runs", len(instants), len(runs))
	}
	for said, at := range map[string]string{
		`{}`:                              "body.from",
		`{"from":"2026-01-01T00:00:00Z"}`: "body.to",
		`{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}`: "body.to",
		`{"from":"2026-01-02T00:00:00Z","to":"2026-01-02T00:00:00Z"}`: "body.to",
		`{"from":"1 January","to":"2026-01-02T00:00:00Z"}`:            "body.from",
		`{` + day + `,"overlap":"queue(0)"}`:                          "body.overlap",
		`{` + day + `,"overlap":"sometimes"}`:                         "body.overlap",
		`{` + day + `,"limit":0}`:                                     "body.limit",
		`{` + day + `,"limit":10001}`:                                 "body.limit",
		`{` + day + `,"limit":-1}`:                                    "body.limit",
		`{` + day + `,"spread":"2h"}`:                                 "body.spread",
		`{` + day + `,"spread":"-1s"}`:                                "body.spread",
		`{` + day + `,"spread":"quick"}`:                              "body.spread",
		`{` + day + `,"params":{}}`:                                   "body.params",
	} {
		if a := w.do(w.admin, "POST", path, said); a.status != 422 || a.problem()[at] == "" {
			t.Errorf("%s: %d %s", said, a.status, a.raw)
		}
	}
	w.must(400, w.do(w.admin, "POST", path, ""))
}

func TestRunsShowTheirGatesAndAreFoundByThem(t *testing.T) {
	t.Parallel()
	w := setup(t)
	at := time.Date(2026, 10, 9, 0, 0, 0, 0, time.UTC)
	w.tables.put(core.Run{
		ID: "run-w", Namespace: "Common", Series: "upstream:u", Trigger: core.TriggerUpstream, State: core.RunWaiting, FireAt: at, MovedFrom: at.Add(-24 * time.Hour),
		Gate: core.GateBreaker, GateKey: "downstream:his", WaitSince: at, WaitUntil: at.Add(time.Minute), Priority: 5, Stop: core.StopCancel, StopBy: "wang",
		WorkflowID: "wf", Step: "load", CausedBy: "u", FireCount: 1,
		Breaches: []core.Breach{{Kind: core.BreachStart, At: at, Limit: "start within 5m0s"}},
	})
	w.tables.put(core.Run{ID: "run-r", Namespace: "Common", State: core.RunRunning, FireCount: 1})
	w.history.runs = []core.Run{{ID: "run-old", Namespace: "Common", State: core.RunEnded, Verdict: core.Failed, WorkflowID: "wf", FireCount: 1}}
	a := w.must(200, w.do(w.admin, "GET", "/v1/runs/run-w", ""))
	for _, want := range []string{
		`"series":"upstream:u"`, `"trigger":"upstream"`, `"moved_from":"2026-10-08T00:00:00.000000Z"`, `"gate":"breaker"`, `"gate_key":"downstream:his"`,
		`"wait_since":"2026-10-09T00:00:00.000000Z"`, `"wait_until":"2026-10-09T00:01:00.000000Z"`, `"priority":5`, `"stop":"cancel"`, `"stop_by":"wang"`,
		`"workflow_id":"wf"`, `"step":"load"`, `"caused_by":"u"`, `"breaches":[{"kind":"not_started_in_time"`,
	} {
		if !strings.Contains(a.raw, want) {
			t.Errorf("%s is not in %s", want, a.raw)
		}
	}
	if strings.Contains(a.raw, `"intervention"`) {
		t.Errorf("nobody was asked about it: %s", a.raw)
	}
	w.tables.interventions["run-old"] = core.Intervention{RunID: "run-old", Namespace: "Common", Action: "done", By: "wang", Note: "by hand", ResolvedAt: at}
	a = w.must(200, w.do(w.admin, "GET", "/v1/runs/run-old", ""))
	if asked, _ := a.body["intervention"].(map[string]any); asked["action"] != "done" || asked["by"] != "wang" || asked["note"] != "by hand" {
		t.Errorf("what became of its intervention: %s", a.raw)
	}
	for query, want := range map[string]string{
		"state=waiting": "run-w", "state=running": "run-r", "state=waiting,running": "run-w run-r", "state=ended": "run-old", "workflow_id=wf": "run-w run-old",
		"caused_by=u": "run-w", "state=retrying": "", "state=ended,waiting": "run-w run-old",
	} {
		a := w.must(200, w.do(w.admin, "GET", "/v1/runs?"+query, ""))
		var got []string
		items, _ := a.body["items"].([]any)
		for _, item := range items {
			m, _ := item.(map[string]any)
			got = append(got, fmt.Sprint(m["id"]))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v instead of %s", query, got, want)
		}
	}
	w.must(422, w.do(w.admin, "GET", "/v1/runs?state=lost", ""))
	a = w.must(202, w.do(w.admin, "POST", "/v1/runs/run-r/terminate", ""))
	if a.body["stop"] != "terminate" || a.body["outcome"] != "cancelled" {
		t.Error(a.raw)
	}
	w.must(409, w.do(w.admin, "POST", "/v1/runs/run-r/terminate", ""))
	w.must(409, w.do(w.admin, "POST", "/v1/runs/run-old/terminate", ""))
}

func TestWorkflowRunsShowTheirGraphAndRunAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.tables.put(core.Run{ID: "run-wf", Namespace: "Common", Verdict: core.Failed, FireCount: 1})
	w.tables.put(core.Run{ID: "plain", Namespace: "Common", FireCount: 1})
	a := w.must(200, w.do(w.admin, "GET", "/v1/runs/run-wf/workflow", ""))
	if a.body["state"] != "failed" || !strings.Contains(a.raw, `"needs":[]`) {
		t.Error(a.raw)
	}
	w.must(409, w.do(w.admin, "GET", "/v1/runs/plain/workflow", ""))
	a = w.must(202, w.do(w.admin, "POST", "/v1/runs/run-wf/rerun", `{"from":["load"],"note":"again"}`))
	if a.header.Get("Location") != "/v1/runs/rerun" || a.body["caused_by"] != "run-wf" || a.body["created_by"] != "admin" {
		t.Error(a.raw)
	}
	w.must(202, w.do(w.admin, "POST", "/v1/runs/run-wf/rerun", ""))
	if a = w.must(422, w.do(w.admin, "POST", "/v1/runs/run-wf/rerun", `{"from":["nope"]}`)); a.problem()["body.from[0]"] == "" {
		t.Error(a.raw)
	}
	if a = w.must(422, w.do(w.admin, "POST", "/v1/runs/run-wf/rerun", `{"from":"load"}`)); a.problem()["body.from"] == "" {
		t.Error(a.raw)
	}
}
