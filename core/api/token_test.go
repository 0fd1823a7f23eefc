package api_test

import (
	"strings"
	"testing"
)

func TestATokenIsShownOnceAndOpensWhatItSays(t *testing.T) {
	t.Parallel()
	w := setup(t)
	made := w.must(201, w.do(w.admin, "POST", "/v1/tokens", `{"principal":"li","grants":{"Common":"analyst"},"purpose":"Grafana","expires_in":"720h"}`))
	value, _ := made.body["value"].(string)
	id, _ := made.body["id"].(string)
	w.must(200, w.do(value, "POST", "/v1/query", `{"sql":"SELECT 1"}`))
	w.must(403, w.do(value, "GET", "/v1/tokens", ""))
	if a := w.must(200, w.do(w.admin, "GET", "/v1/tokens", "")); !strings.Contains(a.raw, id) || strings.Contains(a.raw, value) {
		t.Error(a.raw)
	}
	if strings.Contains(w.log.String(), value) {
		t.Error("the value is in the log")
	}
	w.must(204, w.do(w.admin, "DELETE", "/v1/tokens/"+id, ""))
	w.must(401, w.do(value, "POST", "/v1/query", `{"sql":"SELECT 1"}`))
	w.must(404, w.do(w.admin, "DELETE", "/v1/tokens/"+id, ""))
}

func TestATokenWithASlipOfThePenIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for body, place := range map[string]string{
		`{"principal":"li","grants":{}}`:                                           "body.grants",
		`{"principal":"li","grants":{"Comon":"analyst"}}`:                          "body.grants.Comon",
		`{"principal":"li","grants":{"Common":"analist"}}`:                         "body.grants.Common",
		`{"principal":"li","grants":{"Common":"analyst"},"expires_in":"30 days"}`:  "body.expires_in",
		`{"principal":"li","grants":{"Common":"analyst"},"expires_in":"-1h"}`:      "body.expires_in",
		`{"principal":"li","grants":{"Common":"analyst"},"expires_in":"9999999h"}`: "body.expires_in",
	} {
		if a := w.must(422, w.do(w.admin, "POST", "/v1/tokens", body)); a.problem()[place] == "" {
			t.Errorf("%s: %s", body, a.raw)
		}
	}
}
