package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

func TestWhyIsAskedForAnInstant(t *testing.T) {
	t.Parallel()
	w := setup(t)
	path := "/v1/tasks/" + w.task("Common", "there") + "/why"
	a := w.must(200, w.do(w.admin, "GET", path, ""))
	if a.body["code"] != "no_such_fire" || !w.insight.at.IsZero() || !strings.Contains(a.raw, `"evidence":[]`) {
		t.Error(a.raw)
	}
	w.must(200, w.do(w.admin, "GET", path+"?at=2026-10-01T08:00:00%2B08:00", ""))
	if want := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC); !w.insight.at.Equal(want) {
		t.Error(w.insight.at)
	}
	for _, query := range []string{"at=yesterday", "at=2026-13-01T00:00:00Z", "instant=x"} {
		w.must(422, w.do(w.admin, "GET", path+"?"+query, ""))
	}
	w.must(404, w.do(w.admin, "GET", "/v1/tasks/none/why", ""))
	w.insight.err = core.Errorf(core.KindUnavailable, "why", "history does not answer")
	w.must(503, w.do(w.admin, "GET", path, ""))
}

func TestForecastIsAskedForWithinBounds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	viewer := w.token(access.Viewer, "Common")
	a := w.must(200, w.do(viewer, "GET", "/v1/forecast", ""))
	if f := w.insight.forecast; fmt.Sprint(f.Namespaces) != "[Common]" || f.Days != 7 || f.Bucket != 5*time.Minute || !f.From.IsZero() {
		t.Errorf("%+v", f)
	}
	for _, want := range []string{`"buckets":[]`, `"groups":[]`, `"tasks":[]}],"groups"`, `"groups":[],"tasks":[]`} {
		if !strings.Contains(a.raw, want) {
			t.Errorf("%s is not in %s", want, a.raw)
		}
	}
	w.must(200, w.do(w.admin, "GET", "/v1/forecast?namespace=Foreign&from=2026-10-01T00:00:00Z&days=31&bucket=1h", ""))
	if f := w.insight.forecast; fmt.Sprint(f.Namespaces) != "[Foreign]" || f.Days != 31 || f.Bucket != time.Hour {
		t.Errorf("%+v", f)
	}
	w.must(200, w.do(w.admin, "GET", "/v1/forecast?from=2026-10-01T00:00:00Z&to=2026-10-01T02:00:00%2B01:00&task_id=x&fires=10000", ""))
	if f := w.insight.forecast; f.TaskID != "x" || f.Fires != 10000 || f.To.Format(time.RFC3339) != "2026-10-01T01:00:00Z" {
		t.Errorf("%+v", f)
	}
	w.insight.forecast = api.ForecastQuery{}
	w.must(404, w.do(viewer, "GET", "/v1/forecast?namespace=Foreign", ""))
	if w.insight.forecast.Days != 0 {
		t.Error("it was looked at although nothing may be seen")
	}
	for query, at := range map[string]string{
		"days=0": "query.days", "days=32": "query.days", "days=-7": "query.days", "days=x": "query.days", "bucket=1s": "query.bucket", "bucket=25h": "query.bucket",
		"bucket=-5m": "query.bucket", "bucket=hour": "query.bucket", "from=x": "query.from", "to=x": "query.to", "to=2020-01-01T00:00:00Z": "query.to", "to=2999-01-01T00:00:00Z": "query.to",
		"from=2026-10-01T00:00:00Z&to=2026-10-01T00:00:00Z": "query.to", "from=2026-10-01T00:00:00Z&to=2026-11-02T00:00:00Z": "query.to",
		"fires=-1": "query.fires", "fires=10001": "query.fires",
	} {
		if a := w.do(viewer, "GET", "/v1/forecast?"+query, ""); a.status != 422 || a.problem()[at] == "" {
			t.Errorf("%s: %d %s", query, a.status, a.raw)
		}
	}
}

func TestSpreadIsProposedAndAppliedOnlyIfAsked(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const path = "/v1/namespaces/Common/forecast/spread"
	a := w.must(200, w.do(w.admin, "POST", path, `{}`))
	if s := w.insight.spread; s.Apply || s.Within != 30*time.Minute || s.Namespace != "Common" || s.By != "admin" || a.body["applied"] != false {
		t.Errorf("%+v %s", s, a.raw)
	}
	w.must(200, w.do(w.admin, "POST", path, `{"apply":true,"within":"20m"}`))
	if s := w.insight.spread; !s.Apply || s.Within != 20*time.Minute {
		t.Errorf("%+v", s)
	}
	w.must(404, w.do(w.admin, "POST", "/v1/namespaces/Nowhere/forecast/spread", `{}`))
	for said, at := range map[string]string{
		`{"within":"2h"}`: "body.within", `{"within":"10s"}`: "body.within", `{"within":"-5m"}`: "body.within", `{"within":"some"}`: "body.within",
		`{"apply":"yes"}`: "body.apply", `{"namespace":"Foreign"}`: "body.namespace",
	} {
		if a := w.do(w.admin, "POST", path, said); a.status != 422 || a.problem()[at] == "" {
			t.Errorf("%s: %d %s", said, a.status, a.raw)
		}
	}
}

func TestReconciliationIsAskedForWithinBounds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.must(200, w.do(w.admin, "GET", "/v1/reconciliation", ""))
	if !w.insight.from.IsZero() || !w.insight.to.IsZero() || w.insight.namespaces != nil || !strings.Contains(a.raw, `"missing_at":[],`) || !strings.Contains(a.raw, `"skipped":{}`) {
		t.Error(a.raw)
	}
	for query, span := range map[string]time.Duration{
		"from=2026-10-01T00:00:00Z": 24 * time.Hour, "to=2026-10-01T00:00:00Z": 24 * time.Hour,
		"from=2026-10-01T00:00:00Z&to=2026-10-08T00:00:00Z": 7 * 24 * time.Hour,
	} {
		w.must(200, w.do(w.admin, "GET", "/v1/reconciliation?"+query, ""))
		if got := w.insight.to.Sub(w.insight.from); got != span {
			t.Errorf("%s: %s instead of %s", query, got, span)
		}
	}
	for _, query := range []string{
		"from=2026-10-02T00:00:00Z&to=2026-10-01T00:00:00Z", "from=2026-10-01T00:00:00Z&to=2026-10-01T00:00:00Z", "from=2020-01-01T00:00:00Z&to=2026-10-01T00:00:00Z",
	} {
		if a := w.must(422, w.do(w.admin, "GET", "/v1/reconciliation?"+query, "")); a.problem()["query.to"] == "" {
			t.Errorf("%s: %s", query, a.raw)
		}
	}
	viewer := w.token(access.Viewer, "Common")
	w.insight.from = time.Time{}
	if w.must(404, w.do(viewer, "GET", "/v1/reconciliation?namespace=Foreign&from=2026-10-01T00:00:00Z", "")); !w.insight.from.IsZero() {
		t.Error("it was looked at although nothing may be seen")
	}
}

func TestTheDoctorIsWellUnlessACheckFoundAnError(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for want, checks := range map[string][]api.Check{
		"true":  {{Name: "a", OK: true, Severity: "error"}, {Name: "b", Severity: "warning"}},
		"false": {{Name: "a", OK: true, Severity: "error"}, {Name: "b", Severity: "error"}},
	} {
		w.insight.checks = checks
		if a := w.must(200, w.do(w.admin, "GET", "/v1/doctor", "")); fmt.Sprint(a.body["ok"]) != want {
			t.Errorf("%s: %s", want, a.raw)
		}
	}
	w.insight.checks = nil
	if a := w.must(200, w.do(w.admin, "GET", "/v1/doctor", "")); a.body["ok"] != true || !strings.Contains(a.raw, `"checks":[]`) {
		t.Error(a.raw)
	}
}
