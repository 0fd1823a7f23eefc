package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/access"
)

func TestBadInputIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, location, says string }{
		"a schedule that never fires":     {`{"type":"Common.Echo","schedule":{"spec":"0 0 30 2 *"}}`, "body.schedule.spec", "never fires"},
		"an unknown zone":                 {`{"type":"Common.Echo","schedule":{"spec":"0 0 * * *","zone":"Mars/Olympus"}}`, "body.schedule.zone", "Mars/Olympus"},
		"six fields that end like a year": {`{"type":"Common.Echo","schedule":{"spec":"0 0 1 1 * 2030"}}`, "body.schedule.spec", "quartz"},
		"parameters of the wrong type":    {`{"type":"Common.Echo","params":{"count":"three"},"schedule":{"spec":"@hourly"}}`, "body.params.count", "integer"},
		"a parameter too small":           {`{"type":"Common.Echo","params":{"count":0},"schedule":{"spec":"@hourly"}}`, "body.params.count", "1"},
		"an item of the wrong type":       {`{"type":"Common.Echo","params":{"urls":["a",7]},"schedule":{"spec":"@hourly"}}`, "body.params.urls[1]", "string"},
		"a parameter nobody knows":        {`{"type":"Common.Echo","params":{"cuont":3},"schedule":{"spec":"@hourly"}}`, "body.params.cuont", "unknown parameter"},
		"an unknown task type":            {`{"type":"Common.Nope","schedule":{"spec":"@hourly"}}`, "body.type", "Common.Nope"},
		"a script that does not compile":  {`{"type":"Common.Broken","schedule":{"spec":"@hourly"}}`, "body.type", "unexpected symbol"},
		"a field nobody knows":            {`{"type":"Common.Echo","schedul":{},"schedule":{"spec":"@hourly"}}`, "body.schedul", "no such field"},
		"a field in the wrong case":       {`{"type":"Common.Echo","Owner":"x","schedule":{"spec":"@hourly"}}`, "body.Owner", "no such field"},
		"a field only the server sets":    {`{"type":"Common.Echo","version":7,"schedule":{"spec":"@hourly"}}`, "body.version", "no such field"},
		"a namespace in the body":         {`{"type":"Common.Echo","namespace":"Foreign","schedule":{"spec":"@hourly"}}`, "body.namespace", "no such field"},
		"a field that is missing":         {`{"schedule":{"spec":"@hourly"}}`, "body.type", "missing"},
		"a spec that is missing":          {`{"type":"Common.Echo","schedule":{}}`, "body.schedule.spec", "missing"},
		"a duration without unit":         {`{"type":"Common.Echo","schedule":{"spec":"@hourly"},"policies":{"timeout":"30"}}`, "body.policies.timeout", "30s"},
		"a level nobody knows":            {`{"type":"Common.Echo","schedule":{"spec":"@hourly"},"policies":{"log_level":"loud"}}`, "body.policies.log_level", "debug"},
		"a policy nobody knows":           {`{"type":"Common.Echo","schedule":{"spec":"@hourly"},"policies":{"overlap":"wait"}}`, "body.policies.overlap", "queue(3)"},
		"a duration that is a number":     {`{"type":"Common.Echo","schedule":{"spec":"@hourly"},"policies":{"timeout":5}}`, "body.policies.timeout", `"30s"`},
		"a duration without end":          {`{"type":"Common.Echo","schedule":{"spec":"@hourly"},"policies":{"timeout":"99999999h"}}`, "body.policies.timeout", "between 0 and 720h"},
		"a jitter without end":            {`{"type":"Common.Echo","schedule":{"spec":"@hourly","jitter":"99999999h"}}`, "body.schedule.jitter", "the most is 24h"},
		"an interval without end":         {`{"type":"Common.Echo","schedule":{"spec":"@every 99999999h"}}`, "body.schedule.spec", "is too long; the longest is 2562047h"},
		"a time of day there is not":      {`{"type":"Common.Echo","schedule":{"spec":"@hourly"},"policies":{"sla":{"finish_by":"25:00"}}}`, "body.policies.sla.finish_by", "must be a time of day: 00:00 to 23:59"},
		"a number for a text":             {`{"type":"Common.Echo","schedule":{"spec":5}}`, "body.schedule.spec", "string"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			a := w.must(422, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/x", c.body))
			message, ok := a.problem()[c.location]
			if !ok || !strings.Contains(message, c.says) {
				t.Errorf("at %s: %q; all: %v", c.location, message, a.raw)
			}
			if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type %s", ct)
			}
			zh := w.must(422, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/x", c.body, "Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8"))
			if m := zh.problem()[c.location]; m == message || m == "" || zh.body["title"] != "输入有误" {
				t.Errorf("in Chinese: %q %v", m, zh.body["title"])
			}
			if zh.body["request_id"] != zh.header.Get("X-Request-Id") || zh.header.Get("X-Request-Id") == "" {
				t.Error("the request id is not in both places")
			}
		})
	}
}

// TestAMissingBodyIsSaid: where nothing has a place, the detail says what is wrong.
func TestAMissingBodyIsSaid(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for lang, says := range map[string]string{"en": "a request body is needed", "zh": "缺少请求正文"} {
		a := w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/zz", "", "Accept-Language", lang)
		if a.body["detail"] != says || a.body["errors"] != nil {
			t.Error(a.raw)
		}
	}
}

func TestBodyThatIsNoJSON(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const secret = "hunter2-do-not-repeat"
	for _, body := range []string{`{"type":`, `{"type":"` + secret + `"`, secret, `[1,2]`, `null`} {
		a := w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/x", body)
		if a.status != 400 && a.status != 422 || len(a.problem()) == 0 {
			t.Errorf("%s: %d %s", body, a.status, a.raw)
		}
		if strings.Contains(a.raw, secret) {
			t.Errorf("the answer repeats what was sent: %s", a.raw)
		}
	}
	w.must(415, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/x", echo, "Content-Type", "text/plain"))
	w.must(400, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/x", ""))
}

func TestEditNamesTheVersionItSaw(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.task("Common", "there")
	path := "/v1/tasks/" + id
	a := w.must(200, w.do(w.admin, "GET", path, ""))
	first := a.header.Get("ETag")
	if first != `"1"` {
		t.Fatalf("ETag %s", first)
	}
	a = w.must(200, w.do(w.admin, "PATCH", path, `{"owner":"wang","labels":{"team":"pacs"}}`, "If-Match", first))
	if a.header.Get("ETag") != `"2"` || a.body["owner"] != "wang" {
		t.Errorf("%s %s", a.header.Get("ETag"), a.raw)
	}
	for _, method := range []string{"PATCH", "PUT", "DELETE"} {
		body := map[string]string{"PATCH": `{"owner":"li"}`, "PUT": echo}[method]
		if a := w.must(412, w.do(w.admin, method, path, body, "If-Match", first)); a.body["kind"] != "stale" {
			t.Errorf("%s: %s", method, a.raw)
		}
	}
	w.must(412, w.do(w.admin, "POST", path+"/disable", "", "If-Match", first))
	w.must(412, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/there", echo, "If-Match", first))
	w.must(412, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/there", echo, "If-None-Match", "*"))
	a = w.must(200, w.do(w.admin, "POST", path+"/disable", "", "If-Match", `"2"`))
	if a.body["enabled"] != false || a.body["next_fire"] != nil {
		t.Error(a.raw)
	}
	versions := w.must(200, w.do(w.admin, "GET", path+"/versions?limit=2", ""))
	if items, _ := versions.body["items"].([]any); len(items) != 2 || versions.body["next_cursor"] != 2.0 {
		t.Error(versions.raw)
	}
	w.must(204, w.do(w.admin, "DELETE", path, "", "If-Match", `"3"`))
	w.must(404, w.do(w.admin, "GET", path, ""))
}

func TestMergePatch(t *testing.T) {
	t.Parallel()
	w := setup(t)
	path := "/v1/tasks/" + w.task("Common", "there")
	a := w.must(200, w.do(w.admin, "PATCH", path,
		`{"params":{"count":9007199254740993},"policies":{"timeout":"90s","max_attempts":3,"retry_on":["failed"]},"description":"x"}`,
		"Content-Type", "application/merge-patch+json"))
	if !strings.Contains(a.raw, `"count":9007199254740993`) || !strings.Contains(a.raw, `"timeout":"1m30s"`) {
		t.Error(a.raw)
	}
	a = w.must(200, w.do(w.admin, "PATCH", path, `{"description":null,"policies":{"timeout":null}}`))
	if a.body["description"] != "" || strings.Contains(a.raw, "timeout") || !strings.Contains(a.raw, `"max_attempts":3`) {
		t.Error(a.raw)
	}
	for body, location := range map[string]string{
		`{"nope":1}`: "body.nope", `{"schedule":{"zone":"x/y"}}`: "body.schedule.zone", `{"type":null}`: "body.type",
		`{"policies":{"max_attempts":"many"}}`: "body.policies.max_attempts", `{"version":9}`: "body.version",
	} {
		if a := w.must(422, w.do(w.admin, "PATCH", path, body)); a.problem()[location] == "" {
			t.Errorf("%s: %s", body, a.raw)
		}
	}
}

func TestPutByNameIsIdempotent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const path = "/v1/namespaces/Common/tasks/nightly"
	a := w.must(201, w.do(w.admin, "PUT", path, echo))
	id := a.body["id"]
	if a.header.Get("Location") != fmt.Sprint("/v1/tasks/", id) {
		t.Error(a.header.Get("Location"))
	}
	for range 3 {
		a = w.must(200, w.do(w.admin, "PUT", path, echo))
		if a.body["id"] != id || a.body["version"] != 1.0 {
			t.Fatalf("it changed: %s", a.raw)
		}
	}
	a = w.must(200, w.do(w.admin, "PUT", path, strings.Replace(echo, `"count":3`, `"count":4`, 1)))
	if a.body["version"] != 2.0 {
		t.Error(a.raw)
	}
	w.must(409, w.do(w.admin, "POST", "/v1/namespaces/Common/tasks", `{"name":"nightly",`+echo[1:]))
	a = w.must(422, w.do(w.admin, "PUT", "/v1/namespaces/Nowhere/tasks/x", echo))
	if a.problem()["path.namespace"] == "" {
		t.Error(a.raw)
	}
	a = w.must(422, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/a%20b", echo))
	if a.problem()["path.name"] == "" {
		t.Error(a.raw)
	}
	if a = w.must(422, w.do(w.admin, "PUT", "/v1/namespaces/lower", `{}`)); a.problem()["path.namespace"] == "" {
		t.Error(a.raw)
	}
}

func TestWhatIsSaidComesBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	body := `{"type":"Common.Echo","params":{"count":2},"schedule":{"spec":"30 2 * * *","dialect":"unix","zone":"Asia/Shanghai","on_gap":"skip","on_overlap":"both"},` +
		`"enabled":false,"stop_on_error":true,"owner":"wang","category":"archive","description":"d","labels":{"a":"b"},` +
		`"policies":{"timeout":"1h30m","overlap":"allow","catch_up":"none","max_attempts":5,"retry_delay":"10s","retry_on":["failed","lost"],"log_level":"warn"}}`
	w.must(201, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/all", body))
	got := w.must(200, w.do(w.admin, "GET", "/v1/namespaces/Common/tasks/all", ""))
	var said map[string]any
	if err := json.Unmarshal([]byte(body), &said); err != nil {
		t.Fatal(err)
	}
	for field, want := range said {
		have := got.body[field]
		if m, ok := have.(map[string]any); ok {
			delete(m, "anchor")
		}
		if fmt.Sprint(have) != fmt.Sprint(want) {
			t.Errorf("%s: %v instead of %v", field, have, want)
		}
	}
	if at, _ := got.body["created_at"].(string); len(at) != len("2026-12-01T00:00:00.000000Z") || at[19] != '.' || at[26] != 'Z' {
		t.Errorf("created_at %q", at)
	}
}

func TestListsArePagedAndFiltered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i := range 7 {
		w.task("Common", fmt.Sprint("t", i))
	}
	w.task("Foreign", "hidden")
	viewer := w.token(access.Viewer, "Common")
	var seen []any
	cursor := ""
	for {
		a := w.must(200, w.do(viewer, "GET", "/v1/tasks?limit=3&cursor="+cursor, ""))
		items, _ := a.body["items"].([]any)
		seen = append(seen, items...)
		next, ok := a.body["next_cursor"].(string)
		if !ok {
			break
		}
		cursor = next
	}
	if len(seen) != 7 {
		t.Errorf("%d tasks instead of 7", len(seen))
	}
	for query, n := range map[string]int{"namespace=Common": 7, "search=t3": 1, "enabled=false": 0, "type=Common.Nope": 0} {
		a := w.must(200, w.do(viewer, "GET", "/v1/tasks?"+query, ""))
		if items, _ := a.body["items"].([]any); len(items) != n {
			t.Errorf("%s: %d instead of %d", query, len(items), n)
		}
	}
	for query, location := range map[string]string{"limit=0": "query.limit", "limit=x": "query.limit", "nope=1": "query.nope", "enabled=maybe": "query.enabled"} {
		if a := w.must(422, w.do(viewer, "GET", "/v1/tasks?"+query, "")); a.problem()[location] == "" {
			t.Errorf("%s: %s", query, a.raw)
		}
	}
}

func TestRunNowWithParameters(t *testing.T) {
	t.Parallel()
	w := setup(t)
	path := "/v1/tasks/" + w.task("Common", "there") + "/run"
	a := w.must(202, w.do(w.admin, "POST", path, `{"params":{"count":9}}`))
	if !strings.Contains(a.raw, `"count":9`) || a.header.Get("Location") != "/v1/runs/run-there" || a.body["created_by"] != "admin" {
		t.Error(a.raw)
	}
	w.must(202, w.do(w.admin, "POST", path, ""))
	if a = w.must(422, w.do(w.admin, "POST", path, `{"params":{"count":"x"}}`)); a.problem()["body.params.count"] == "" {
		t.Error(a.raw)
	}
	w.must(202, w.do(w.admin, "POST", "/v1/runs/run-there/cancel", ""))
	w.must(409, w.do(w.admin, "POST", "/v1/runs/run-there/cancel", ""))
}

func TestSchedulePreview(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.must(200, w.do(w.admin, "POST", "/v1/schedule/preview",
		`{"spec":"30 2 * * *","zone":"America/New_York","from":"2026-03-07T12:00:00-05:00","count":2}`))
	for _, want := range []string{
		`"at":"2026-03-08T07:00:00.000000Z"`, `"local":"2026-03-08T03:00:00-04:00"`, `"local":"2026-03-09T02:30:00-04:00"`, `"zh":"每天`,
	} {
		if !strings.Contains(a.raw, want) {
			t.Errorf("%s is not in %s", want, a.raw)
		}
	}
	if a = w.must(422, w.do(w.admin, "POST", "/v1/schedule/preview", `{"spec":"0 0 30 2 *"}`)); a.problem()["body.spec"] == "" {
		t.Error(a.raw)
	}
}
