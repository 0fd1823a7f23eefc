package api_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// everyPolicy says something for each field there is.
const everyPolicy = `{"timeout":"1h30m","soft_timeout":"1h","overlap":"queue(3)","catch_up":"all","catch_up_window":"48h","catch_up_limit":50,` +
	`"catch_up_spread":"2s","max_runs":12,"max_attempts":5,"retry_delay":"10s","retry_backoff":"fixed","retry_max_delay":"20m","retry_jitter":0.25,` +
	`"retry_on":["failed","lost"],"stop_after":4,"intervene":true,"priority":-7,"pools":[{"pool":"erp","slots":2}],"downstreams":["his"],` +
	`"breaker":{"failures":3,"cooldown":"5m","probes":2},"preconditions":[{"name":"quiet","expression":"host.load1 < 4","every":"1m","deadline":"10m","otherwise":"run"},` +
	`{"sql":{"connection":"business","query":"SELECT 1"}},{"http":{"url":"https://his.example/ready","status":204,"contains":"ok"}}],` +
	`"sla":{"start_within":"1m","finish_within":"15m","finish_by":"06:00","max_duration":"10m","p95_factor":2.5},"log_level":"warn","log_full":"drop"}`

// wholly puts the things policies name.
func (w *world) wholly() {
	w.t.Helper()
	w.must(201, w.do(w.admin, "PUT", "/v1/pools/erp", `{"slots":4}`))
	w.must(201, w.do(w.admin, "PUT", "/v1/downstreams/his", `{"failures":5,"cooldown":"1m"}`))
	w.must(201, w.do(w.admin, "PUT", "/v1/calendars/month-end", `{"weekdays":["mon","tue","wed","thu","fri"]}`))
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryPolicyComesBackAsItWasSaid(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.wholly()
	w.task("Common", "first")
	body := `{"type":"Common.Echo","params":{"count":2},"schedule":{"spec":"0 8 * * *","zone":"Asia/Shanghai","from":"2026-01-01T00:00:00.000000Z",` +
		`"until":"2036-01-01T00:00:00.000000Z","jitter":"30s","only_on":["cn-workdays"],"not_on":["weekends"],"on_day_off":"next"},` +
		`"after":[{"task":"first","on":"always","params":{"count":"$.count"}}],"policies":` + everyPolicy + `}`
	w.must(201, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/all", body))
	got := w.must(200, w.do(w.admin, "GET", "/v1/namespaces/Common/tasks/all", ""))
	for field, want := range object(t, body) {
		have := got.body[field]
		if m, ok := have.(map[string]any); ok {
			delete(m, "anchor")
		}
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s:\n%v instead of\n%v", field, have, want)
		}
	}
	again := w.must(200, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/all", body))
	if again.body["version"] != got.body["version"] {
		t.Errorf("saying the same made version %v", again.body["version"])
	}
	id := fmt.Sprint(got.body["id"])
	patched := w.must(200, w.do(w.admin, "PATCH", "/v1/tasks/"+id, `{"policies":{"overlap":"allow(2)","sla":{"p95_factor":null}},"schedule":{"until":null}}`))
	for _, want := range []string{`"overlap":"allow(2)"`, `"finish_by":"06:00"`, `"queue":`} {
		if strings.Contains(patched.raw, want) == (want == `"queue":`) {
			t.Errorf("%s: %s", want, patched.raw)
		}
	}
	if strings.Contains(patched.raw, "p95_factor") && strings.Contains(patched.raw, `"until":"2036`) {
		t.Error(patched.raw)
	}
}

// leaf is one policy of everyPolicy, with how nothing or none of it is written. A word has another word instead.
type leaf struct {
	block, name string // block is "" but for a breaker's and the service levels'
	said, none  any
}

func leaves(t *testing.T) (all []leaf) {
	t.Helper()
	none := func(name string, said any) any {
		switch said := said.(type) {
		case string:
			word, ok := map[string]string{"overlap": "skip", "catch_up": "latest", "retry_backoff": "exponential", "log_level": "debug", "log_full": "wait", "finish_by": ""}[name]
			if ok {
				return word
			}
			return "0s"
		case float64:
			return 0.0
		case bool:
			return false
		case []any:
			return []any{}
		default:
			t.Fatalf("%s: nothing is known of %T", name, said)
			return nil
		}
	}
	for name, said := range object(t, everyPolicy) {
		block, ok := said.(map[string]any)
		if !ok {
			all = append(all, leaf{name: name, said: said, none: none(name, said)})
		}
		for inner, said := range block {
			all = append(all, leaf{name, inner, said, none(inner, said)})
		}
	}
	slices.SortFunc(all, func(a, b leaf) int { return cmp.Compare(a.block+"."+a.name, b.block+"."+b.name) })
	return all
}

// into writes a policy where it belongs.
func (l leaf) into(policies map[string]any, value any) map[string]any {
	if l.block == "" {
		policies[l.name] = value
		return policies
	}
	if policies[l.block] == nil {
		policies[l.block] = map[string]any{}
	}
	policies[l.block].(map[string]any)[l.name] = value
	return policies
}

// TestEachPolicyCanBeTakenAway: default says x, the task says none: none holds, is shown, and is kept in its version. What the
// task leaves out is as the default has it.
func TestEachPolicyCanBeTakenAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.wholly()
	w.must(200, w.do(w.admin, "PUT", "/v1/namespaces/Common", `{"defaults":`+everyPolicy+`}`))
	const task = `/v1/namespaces/Common/tasks/t`
	body := func(policies any) string {
		raw, _ := json.Marshal(map[string]any{"type": "Common.Echo", "schedule": map[string]any{"spec": "@hourly"}, "policies": policies})
		return string(raw)
	}
	a := w.must(201, w.do(w.admin, "PUT", task, body(map[string]any{})))
	if !reflect.DeepEqual(a.body["effective_policies"], any(object(t, everyPolicy))) || len(a.body["policies"].(map[string]any)) != 0 {
		t.Errorf("nothing said: %s", a.raw)
	}
	gone := map[string][]string{ // with it goes what has no meaning without it
		"catch_up": {"catch_up_window", "catch_up_limit", "catch_up_spread"}, "breaker.failures": {"breaker.cooldown", "breaker.probes"},
	}
	for _, l := range leaves(t) {
		at := strings.TrimPrefix(l.block+"."+l.name, ".")
		own := l.into(map[string]any{}, l.none)
		if at == "breaker.cooldown" { // the default's failures would open a breaker that is never tried again
			if a := w.must(422, w.do(w.admin, "PUT", task, body(own))); !strings.Contains(a.problem()["body.policies.breaker.cooldown"], "no cooldown") {
				t.Error(a.raw)
			}
			continue
		}
		want := l.into(object(t, everyPolicy), l.none)
		for _, other := range gone[at] {
			if block, name, ok := strings.Cut(other, "."); ok {
				delete(want[block].(map[string]any), name)
			} else {
				delete(want, other)
			}
		}
		a := w.must(200, w.do(w.admin, "PUT", task, body(own)))
		again := w.must(200, w.do(w.admin, "GET", task, ""))
		if !reflect.DeepEqual(again.body["policies"], any(own)) || !reflect.DeepEqual(again.body["effective_policies"], any(want)) {
			t.Errorf("%s:\nsaid      %v\nshown     %v\neffective %v\nwant      %v", at, own, again.body["policies"], again.body["effective_policies"], want)
		}
		if same := w.must(200, w.do(w.admin, "PUT", task, body(again.body["policies"]))); same.body["version"] != a.body["version"] {
			t.Errorf("%s: what was shown made another version", at)
		}
		id := fmt.Sprint(a.body["id"])
		if patched := w.must(200, w.do(w.admin, "PATCH", "/v1/tasks/"+id, `{"owner":"`+at+`"}`)); !reflect.DeepEqual(patched.body["policies"], any(own)) {
			t.Errorf("%s: a patch of something else left %v", at, patched.body["policies"])
		}
		versions := w.must(200, w.do(w.admin, "GET", "/v1/tasks/"+id+"/versions?limit=2", "")).body["items"].([]any)
		if old := versions[1].(map[string]any)["policies"]; !reflect.DeepEqual(old, any(own)) {
			t.Errorf("%s: the version has %v", at, old)
		}
	}
}

func TestStopOnErrorIsShortForStopAfter(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.must(200, w.do(w.admin, "PUT", "/v1/namespaces/Common", `{"defaults":{"stop_after":2}}`))
	for said, want := range map[string]any{
		``:                             2.0,
		`"stop_on_error":true,`:        1.0,
		`"stop_on_error":false,`:       0.0,
		`"policies":{"stop_after":0},`: 0.0,
		`"stop_on_error":false,"policies":{"stop_after":3},`: 3.0,
		`"stop_on_error":true,"policies":{"stop_after":1},`:  1.0,
	} {
		w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/t", `{"type":"Common.Echo",`+said+`"schedule":{"spec":"@hourly"}}`)
		a := w.must(200, w.do(w.admin, "GET", "/v1/namespaces/Common/tasks/t", ""))
		if got := a.body["effective_policies"].(map[string]any)["stop_after"]; got != want {
			t.Errorf("%s: stop_after is %v", said, got)
		}
		for field, value := range object(t, "{"+strings.TrimSuffix(said, ",")+"}") {
			if !reflect.DeepEqual(a.body[field], value) {
				t.Errorf("%s: shown as %v", said, a.body[field])
			}
		}
		if _, shown := a.body["stop_on_error"]; shown != strings.Contains(said, "stop_on_error") {
			t.Errorf("%s: %s", said, a.raw)
		}
	}
	w.must(422, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/t", `{"type":"Common.Echo","stop_on_error":true,"policies":{"stop_after":0},"schedule":{"spec":"@hourly"}}`))
}

// FuzzPoliciesKeepWhatWasSaid: each policy is absent, none of it or some of it, as two bits say; JSON and core keep which.
func FuzzPoliciesKeepWhatWasSaid(f *testing.F) {
	for _, seed := range []uint64{0, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x123456789abcdef0, 0xfedcba9876543210} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, bits uint64) {
		want := map[string]any{}
		for i, l := range leaves(t) {
			switch bits >> (2 * i % 64) & 3 {
			case 1:
				l.into(want, l.none)
			case 2:
				l.into(want, l.said)
			}
		}
		raw, _ := json.Marshal(want)
		var said api.Policies
		if err := json.Unmarshal(raw, &said); err != nil {
			t.Fatal(err)
		}
		again, wrong := api.ThroughCore(said)
		text, err := json.Marshal(again)
		if err != nil || len(wrong) > 0 {
			t.Fatal(err, wrong)
		}
		if got := object(t, string(text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s became %s", raw, text)
		}
	})
}

// TestALimitOfATypeThatNobodyOffersIsSaid: it is kept, for the type may come, and seen wherever the namespace is.
func TestALimitOfATypeThatNobodyOffersIsSaid(t *testing.T) {
	t.Parallel()
	w := setup(t)
	put := w.must(200, w.do(w.admin, "PUT", "/v1/namespaces/Common", `{"type_limits":{"Common.Ecko":3,"Common.Echo":2}}`))
	get := w.must(200, w.do(w.admin, "GET", "/v1/namespaces/Common", ""))
	for _, a := range []answer{put, get} {
		said, _ := a.body["warnings"].([]any)
		if len(said) != 1 || said[0].(map[string]any)["en"] != "type_limits.Common.Ecko: has no effect at present: there is no task type Common.Ecko; did you mean Common.Echo?" ||
			!strings.Contains(fmt.Sprint(said[0].(map[string]any)["zh"]), "没有任务类型 Common.Ecko；是否指 Common.Echo？") {
			t.Errorf("warnings %v", said)
		}
	}
	if put.header.Get("ETag") != get.header.Get("ETag") {
		t.Error("the tag changed")
	}
}

func TestNamespaceDefaultsHoldWhereATaskSaysNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.wholly()
	a := w.must(200, w.do(w.admin, "PUT", "/v1/namespaces/Common", `{"defaults":`+everyPolicy+`,"max_running":7,"type_limits":{"Common.Echo":2}}`))
	if !reflect.DeepEqual(a.body["defaults"], any(object(t, everyPolicy))) || a.body["max_running"] != 7.0 ||
		!reflect.DeepEqual(a.body["type_limits"], map[string]any{"Common.Echo": 2.0}) {
		t.Error(a.raw)
	}
	tag := a.header.Get("ETag")
	w.must(201, w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/t", `{"type":"Common.Echo","schedule":{"spec":"@hourly"},"policies":{"overlap":"skip"}}`))
	task := w.must(200, w.do(w.admin, "GET", "/v1/namespaces/Common/tasks/t", ""))
	effective, _ := task.body["effective_policies"].(map[string]any)
	if effective["overlap"] != "skip" || effective["max_attempts"] != 5.0 || effective["breaker"] == nil {
		t.Errorf("effective: %v", effective)
	}
	if own, _ := task.body["policies"].(map[string]any); !maps.Equal(own, map[string]any{"overlap": "skip"}) {
		t.Errorf("own: %v", own)
	}
	w.must(412, w.do(w.admin, "PUT", "/v1/namespaces/Common", `{}`, "If-Match", `"other"`))
	w.must(412, w.do(w.admin, "PUT", "/v1/namespaces/Nowhere", `{}`, "If-Match", tag))
	a = w.must(200, w.do(w.admin, "PUT", "/v1/namespaces/Common", `{}`, "If-Match", tag))
	if a.header.Get("ETag") == tag || a.body["max_running"] != 0.0 {
		t.Error(a.raw)
	}
	a = w.must(422, w.do(w.admin, "PUT", "/v1/namespaces/Common", `{"defaults":{"timeout":"soon","overlap":"pile"},"max_running":-1}`))
	if a.problem()["body.max_running"] == "" {
		t.Error(a.raw)
	}
	a = w.must(422, w.do(w.admin, "PUT", "/v1/namespaces/Common", `{"defaults":{"timeout":"soon","overlap":"pile"}}`))
	if p := a.problem(); p["body.defaults.timeout"] == "" || p["body.defaults.overlap"] == "" {
		t.Error(a.raw)
	}
}

// Each wrong word is refused at its own field, in both languages, and never with 500.
func TestAWrongPolicyIsRefusedAtItsField(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.wholly()
	for policy, field := range map[string]string{
		`"overlap":"queue(0)"`:                                       "overlap",
		`"overlap":"queue(-1)"`:                                      "overlap",
		`"overlap":"queue(99999999999)"`:                             "overlap",
		`"overlap":"queue(5000)"`:                                    "overlap",
		`"overlap":"skip(2)"`:                                        "overlap",
		`"overlap":"Queue"`:                                          "overlap",
		`"overlap":"queue( 3 )"`:                                     "overlap",
		`"overlap":7`:                                                "overlap",
		`"catch_up":"some"`:                                          "catch_up",
		`"catch_up_limit":-1`:                                        "catch_up_limit",
		`"catch_up_limit":1001`:                                      "catch_up_limit",
		`"catch_up":"all","catch_up_window":"-1h"`:                   "catch_up_window",
		`"catch_up_limit":5`:                                         "catch_up_limit",
		`"max_runs":-1`:                                              "max_runs",
		`"max_runs":9007199254740993`:                                "max_runs",
		`"max_attempts":101`:                                         "max_attempts",
		`"max_attempts":1.5`:                                         "max_attempts",
		`"max_attempts":2,"retry_backoff":"linear"`:                  "retry_backoff",
		`"max_attempts":2,"retry_jitter":1.5`:                        "retry_jitter",
		`"max_attempts":2,"retry_jitter":-0.5`:                       "retry_jitter",
		`"max_attempts":2,"retry_on":["skipped"]`:                    "retry_on[0]",
		`"timeout":"10s","soft_timeout":"10s"`:                       "soft_timeout",
		`"timeout":""`:                                               "timeout",
		`"overlap":""`:                                               "overlap",
		`"log_level":""`:                                             "log_level",
		`"breaker":{"failures":0,"cooldown":"1m"}`:                   "breaker.failures",
		`"timeout":"-5s"`:                                            "timeout",
		`"timeout":"1d"`:                                             "timeout",
		`"timeout":"9999999999h"`:                                    "timeout",
		`"stop_after":-1`:                                            "stop_after",
		`"intervene":"yes"`:                                          "intervene",
		`"priority":101`:                                             "priority",
		`"priority":-101`:                                            "priority",
		`"pools":[{"pool":"nope"}]`:                                  "pools[0].pool",
		`"pools":[{"pool":""}]`:                                      "pools[0].pool",
		`"pools":[{"slots":1}]`:                                      "pools[0].pool",
		`"pools":[{"pool":"erp","slots":9}]`:                         "pools[0].slots",
		`"pools":[{"pool":"erp","slots":-9}]`:                        "pools[0].slots",
		`"downstreams":["nope"]`:                                     "downstreams[0]",
		`"breaker":{"failures":3}`:                                   "breaker.cooldown",
		`"breaker":{"failures":3,"cooldown":"soon"}`:                 "breaker.cooldown",
		`"breaker":{"name":"x","failures":3}`:                        "breaker.name",
		`"preconditions":[{"expression":"1","http":{}}]`:             "preconditions[0].http.url",
		`"preconditions":[{}]`:                                       "preconditions[0]",
		`"preconditions":[{"expression":"true","every":"x"}]`:        "preconditions[0].every",
		`"preconditions":[{"expression":"true","otherwise":"wait"}]`: "preconditions[0].otherwise",
		`"preconditions":[{"sql":{"connection":"b"}}]`:               "preconditions[0].sql.query",
		`"preconditions":[{"http":{"url":"https://x.example","status":700}}]`: "preconditions[0].http.status",
		`"sla":{"finish_by":"25:00"}`:                                         "sla.finish_by",
		`"sla":{"p95_factor":0.5}`:                                            "sla.p95_factor",
		`"sla":{"p95_factor":-3}`:                                             "sla.p95_factor",
		`"sla":{"start_within":"soon"}`:                                       "sla.start_within",
		`"log_full":"burn"`:                                                   "log_full",
		`"log_level":"loud"`:                                                  "log_level",
		`"nope":1`:                                                            "nope",
	} {
		body := `{"type":"Common.Echo","schedule":{"spec":"@hourly"},"policies":{` + policy + `}}`
		a := w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/x", body)
		zh := w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/x", body, "Accept-Language", "zh")
		at := "body.policies." + field
		if a.status != 422 || a.problem()[at] == "" || zh.problem()[at] == a.problem()[at] {
			t.Errorf("%s: %d %s", policy, a.status, a.raw)
		}
	}
}

func TestAWrongScheduleOrLinkIsRefusedAtItsField(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.task("Common", "first")
	for said, at := range map[string]string{
		`"schedule":{"spec":"@hourly","jitter":"soon"}`:                                                       "body.schedule.jitter",
		`"schedule":{"spec":"@hourly","from":"tomorrow"}`:                                                     "body.schedule.from",
		`"schedule":{"spec":"@hourly","from":"2036-01-01T00:00:00Z","until":"2035-01-01T00:00:00Z"}`:          "body.schedule.until",
		`"schedule":{"spec":"@hourly","only_on":["nope"]}`:                                                    "body.schedule.only_on[0]",
		`"schedule":{"spec":"@hourly","only_on":"nope"}`:                                                      "body.schedule.only_on",
		`"schedule":{"spec":"@hourly","on_day_off":"later"}`:                                                  "body.schedule.on_day_off",
		`"schedule":{"spec":"@hourly","on_gap":"later"}`:                                                      "body.schedule.on_gap",
		`"schedule":{"spec":"@manual"},"after":[{"task":"nope"}]`:                                             "body.after[0].task",
		`"schedule":{"spec":"@manual"},"after":[{"task":"x"}]`:                                                "body.after[0].task",
		`"schedule":{"spec":"@manual"},"after":[{"on":"success"}]`:                                            "body.after[0].task",
		`"schedule":{"spec":"@manual"},"after":[{"task":"first","on":"sometimes"}]`:                           "body.after[0].on",
		`"schedule":{"spec":"@manual"},"after":[{"task":"first","params":{"count":1}}]`:                       "body.after[0].params.count",
		`"schedule":{"spec":"@manual"},"pause":{"note":"x"}`:                                                  "body.pause",
		`"schedule":{"spec":"@manual"},"effective_policies":{}`:                                               "body.effective_policies",
		`"schedule":{"spec":"@manual"},"after":[` + strings.Repeat(`{"task":"first"},`, 60) + `{"task":"a"}]`: "body.after",
	} {
		a := w.do(w.admin, "PUT", "/v1/namespaces/Common/tasks/x", `{"type":"Common.Echo",`+said+`}`)
		if a.status != 422 || a.problem()[at] == "" {
			t.Errorf("%.100s: %d %s", said, a.status, a.raw)
		}
	}
}
