package api_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/access"
)

func TestWhatAllNamespacesShareIsEditedByVersion(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for path, bodies := range map[string][2]string{
		"/v1/pools/erp":           {`{"slots":2}`, `{"slots":3,"max_waiting":10,"description":"connections"}`},
		"/v1/downstreams/his":     {`{"failures":5,"cooldown":"5m"}`, `{"failures":5,"cooldown":"1m30s","probes":2}`},
		"/v1/calendars/month-end": {`{"weekdays":["mon"]}`, `{"title":{"zh":"月末","en":"Month end"},"zone":"Asia/Shanghai","dates":[{"from":"2026-10-01","to":"2026-10-07","note":"break"}],"except":[{"from":"--12-31"}],"spans":[{"from":"2026-10-01T00:00:00.000000Z","to":"2026-10-02T00:00:00.000000Z","note":"move"}],"times":[{"from":"22:00","to":"06:00"}],"all_of":["cn-workdays"],"any_of":["weekdays"],"none_of":["weekends"]}`},
	} {
		a := w.must(201, w.do(w.admin, "PUT", path, bodies[0], "If-None-Match", "*"))
		if a.header.Get("ETag") != `"1"` || a.header.Get("Location") != path || a.body["updated_by"] != "admin" {
			t.Errorf("%s: %v %s", path, a.header, a.raw)
		}
		w.must(412, w.do(w.admin, "PUT", path, bodies[1], "If-None-Match", "*"))
		w.must(412, w.do(w.admin, "PUT", path, bodies[1], "If-Match", `"7"`))
		if a = w.must(200, w.do(w.admin, "PUT", path, bodies[0])); a.header.Get("ETag") != `"1"` {
			t.Errorf("%s: saying the same made a version: %s", path, a.raw)
		}
		a = w.must(200, w.do(w.admin, "PUT", path, bodies[1], "If-Match", `"1"`))
		if a.header.Get("ETag") != `"2"` || a.body["version"] != 2.0 {
			t.Errorf("%s: %s", path, a.raw)
		}
		got := w.must(200, w.do(w.admin, "GET", path, ""))
		for field, want := range object(t, bodies[1]) {
			if !reflect.DeepEqual(got.body[field], want) {
				t.Errorf("%s %s: %v instead of %v", path, field, got.body[field], want)
			}
		}
		w.must(412, w.do(w.admin, "DELETE", path, "", "If-Match", `"1"`))
		w.must(204, w.do(w.admin, "DELETE", path, "", "If-Match", `"2"`))
		w.must(404, w.do(w.admin, "GET", path, ""))
		w.must(404, w.do(w.admin, "DELETE", path, ""))
		w.must(412, w.do(w.admin, "PUT", path, bodies[0], "If-Match", `"2"`))
	}
}

func TestWhatIsInUseIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.wholly()
	w.must(201, w.do(w.admin, "PUT", "/v1/namespaces/Foreign/tasks/uses", `{"type":"Common.Echo","schedule":{"spec":"@hourly","only_on":["month-end"]},"policies":{"pools":[{"pool":"erp"}],"downstreams":["his"]}}`))
	for _, path := range []string{"/v1/pools/erp", "/v1/downstreams/his", "/v1/calendars/month-end"} {
		if a := w.must(409, w.do(w.admin, "DELETE", path, "")); !strings.Contains(a.raw, "uses") {
			t.Errorf("%s: %s", path, a.raw)
		}
	}
	// A grant for one namespace reads what all share, and changes nothing of it.
	editor := w.token(access.Admin, "Common")
	w.must(200, w.do(editor, "GET", "/v1/pools/erp", ""))
	w.must(403, w.do(editor, "PUT", "/v1/pools/erp", `{"slots":1}`))
	w.must(403, w.do(editor, "DELETE", "/v1/calendars/month-end", ""))
}

func TestAWrongSettingIsRefusedAtItsField(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for said, at := range map[string]string{
		`pools/erp {}`:                                                             "body.slots",
		`pools/erp {"slots":0}`:                                                    "body.slots",
		`pools/erp {"slots":-5}`:                                                   "body.slots",
		`pools/erp {"slots":1e18}`:                                                 "body.slots",
		`pools/erp {"slots":"many"}`:                                               "body.slots",
		`pools/a%20b {"slots":1}`:                                                  "path.name",
		`pools/erp {"slots":1,"x":1}`:                                              "body.x",
		`pools/erp {"slots":1,"max_waiting":-1}`:                                   "body.max_waiting",
		`downstreams/his {"failures":0,"cooldown":"5m"}`:                           "body.failures",
		`downstreams/his {"failures":5}`:                                           "body.cooldown",
		`downstreams/his {"failures":5,"cooldown":"soon"}`:                         "body.cooldown",
		`downstreams/his {"failures":5,"cooldown":"-1m"}`:                          "body.cooldown",
		`downstreams/his {"failures":5,"cooldown":"5m","probes":101}`:              "body.probes",
		`calendars/c {"weekdays":["monday"]}`:                                      "body.weekdays[0]",
		`calendars/c {"dates":[{"from":"1 October"}]}`:                             "body.dates[0].from",
		`calendars/c {"dates":[{"from":"2026-02-30"}]}`:                            "body.dates[0].from",
		`calendars/c {"dates":[{}]}`:                                               "body.dates[0].from",
		`calendars/c {"weekdays":["mon"],"times":[{"from":"25:00","to":"26:00"}]}`: "body.times[0].from",
		`calendars/c {"weekdays":["mon"],"zone":"Mars/Olympus"}`:                   "body.zone",
		`calendars/c {"any_of":["nope"]}`:                                          "body.any_of[0]",
		`calendars/c {"spans":[{"from":"2026-10-01T00:00:00Z","to":"yesterday"}]}`: "body.spans[0].to",
		`calendars/c {"name":"d"}`:                                                 "body.name",
	} {
		path, body, _ := strings.Cut(said, " ")
		a := w.do(w.admin, "PUT", "/v1/"+path, body)
		if a.status != 422 || a.problem()[at] == "" {
			t.Errorf("%s: %d %s", said, a.status, a.raw)
		}
	}
	w.must(409, w.do(w.admin, "PUT", "/v1/calendars/cn-workdays", `{"weekdays":["mon"]}`))
	w.must(409, w.do(w.admin, "DELETE", "/v1/calendars/weekends", ""))
}

func TestCalendarsSayWhatTheyHoldAndLack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.must(200, w.do(w.admin, "GET", "/v1/calendars", ""))
	items, _ := a.body["items"].([]any)
	if len(items) != 4 {
		t.Fatal(a.raw)
	}
	work := w.must(200, w.do(w.admin, "GET", "/v1/calendars/cn-workdays", ""))
	if work.body["builtin"] != true || work.body["version"] != 0.0 || fmt.Sprint(work.body["holiday_years"]) != "[2025 2026]" {
		t.Error(work.raw)
	}
	days := w.must(200, w.do(w.admin, "GET", "/v1/calendars/cn-workdays/days?from=2026-10-01&zone=Asia/Shanghai", ""))
	if !strings.Contains(days.raw, `{"date":"2026-10-01","holds":false,"whole":false,"why":{"zh":"国庆节`) || !strings.Contains(days.raw, `{"date":"2026-10-30","holds":true,"whole":true`) ||
		!strings.Contains(days.raw, `"2026-10-31"`) {
		t.Error(days.raw)
	}
	w.must(404, w.do(w.admin, "GET", "/v1/calendars/nope/days?from=2026-10-01", ""))
	for query, at := range map[string]string{
		"": "query.from", "from=soon": "query.from", "from=2026-02-30": "query.from", "from=2026-10-02&to=2026-10-01": "query.to", "from=2026-01-01&to=2036-01-01": "query.to",
		"from=2026-01-01&to=x": "query.to", "from=2026-01-01&zone=Local": "query.zone", "from=2026-01-01&zone=../etc/passwd": "query.zone", "from=2026-01-01&nope=1": "query.nope",
	} {
		if a := w.do(w.admin, "GET", "/v1/calendars/weekdays/days?"+query, ""); a.status != 422 || a.problem()[at] == "" {
			t.Errorf("%s: %d %s", query, a.status, a.raw)
		}
	}
}

func TestHolidaysAreTakenInThreeForms(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for said, years := range map[string]string{
		`{"region":"CN","year":2031,"holidays":{"2031-10-01":"国庆节"},"workdays":{"2031-10-11":"国庆节"}}`:   "2031",
		`[{"year":2032,"holidays":{"2032-10-01":"国庆节"}},{"year":2033,"holidays":{"2033-10-01":"国庆节"}}]`: "2032 2033",
		`{"holidays":{"2034-10-01":"National Day,国庆节,3","2035-01-01":"New Year's Day,元旦,1"},"workdays":{"2034-10-14":"National Day,国庆节,3"},` +
			`"inLieuDays":{"2034-10-06":"National Day,国庆节,3"}}`: "2034 2035",
	} {
		a := w.must(200, w.do(w.admin, "PUT", "/v1/holidays", said))
		var got []string
		items, _ := a.body["items"].([]any)
		for _, item := range items {
			m, _ := item.(map[string]any)
			got = append(got, fmt.Sprint(m["year"]))
		}
		if strings.Join(got, " ") != years || strings.Contains(a.raw, "National Day") {
			t.Errorf("%s: %s", said, a.raw)
		}
	}
	if a := w.must(200, w.do(w.admin, "GET", "/v1/holidays", "")); strings.Count(a.raw, `"region"`) < 5 {
		t.Error(a.raw)
	}
	for said, at := range map[string]string{
		`{}`:                              "body",
		`[]`:                              "body",
		`{"holidays":{"1 October":"x"}}`:  "body.holidays.1 October",
		`{"holidays":{"2026-02-30":"x"}}`: "body.holidays.2026-02-30",
		`{"year":2026,"holidays":{"2027-10-01":"x"}}`:                               "body.holidays.2027-10-01",
		`[{"year":2026,"holidays":{"2026-10-01":"x"}},{"year":2027}]`:               "body[1].holidays",
		`{"year":2026,"holidays":{"2026-10-01":"x"},"workdays":{"2026-10-01":"x"}}`: "body.workdays.2026-10-01",
		`7`:   "body.line 1, column 1",
		`[7]`: "body.line 1, column 3",
		`{"year":2026,"holidays":["2026-10-01"]}`: "body.line 1, column 26",
	} {
		a := w.do(w.admin, "PUT", "/v1/holidays", said)
		if a.status != 422 || a.problem()[at] == "" {
			t.Errorf("%s: %d %s", said, a.status, a.raw)
		}
	}
}

func TestPoolsAndBreakersShowHowTheyStand(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.reset("Common")
	viewer := w.token(access.Viewer, "Common")
	a := w.must(200, w.do(viewer, "GET", "/v1/pools/erp", ""))
	if a.body["used"] != 2.0 || a.body["waiting"] != 2.0 || a.body["slots"] != 2.0 {
		t.Error(a.raw)
	}
	a = w.must(200, w.do(viewer, "GET", "/v1/downstreams/his", ""))
	if b, _ := a.body["breaker"].(map[string]any); b["state"] != "open" || b["failures"] != 5.0 || b["because"] != nil {
		t.Error(a.raw)
	}
	// Whose failure opened it is said to those who may see every namespace.
	if a = w.must(200, w.do(w.admin, "GET", "/v1/downstreams/his", "")); !strings.Contains(a.raw, "Foreign could not log on") {
		t.Error(a.raw)
	}
	a = w.must(200, w.do(viewer, "GET", "/v1/breakers?state=open", ""))
	if items, _ := a.body["items"].([]any); len(items) != 2 || !strings.Contains(a.raw, "Common is broken") {
		t.Error(a.raw)
	}
	w.must(422, w.do(viewer, "GET", "/v1/breakers?state=ajar", ""))
	operator := w.token(access.Operator, "Common")
	w.must(200, w.do(operator, "POST", "/v1/breakers/task:"+w.tables.named("Common")+"/reset", ""))
	w.must(404, w.do(operator, "POST", "/v1/breakers/task:gone/reset", ""))
	w.must(404, w.do(operator, "POST", "/v1/breakers/task:/reset", ""))
	w.must(403, w.do(operator, "POST", "/v1/breakers/downstream:his/reset", ""))
	if a = w.must(200, w.do(w.admin, "POST", "/v1/breakers/downstream:his/reset", "")); a.body["state"] != "closed" {
		t.Error(a.raw)
	}
	w.must(200, w.do(w.token(access.Operator, access.Everywhere), "POST", "/v1/breakers/downstream:his/reset", ""))
}

func TestPreviewShowsWhatCalendarsDo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.must(200, w.do(w.admin, "POST", "/v1/schedule/preview",
		`{"spec":"0 8 * * *","zone":"Asia/Shanghai","only_on":["cn-workdays"],"on_day_off":"next","from":"2026-09-30T00:00:00Z","count":2,"active_until":"2026-12-01T00:00:00Z"}`))
	if !strings.Contains(a.raw, `"moved_from":"2026-10-0`) || !strings.Contains(a.raw, `"calendar":"cn-workdays"`) || !strings.Contains(a.raw, `国庆`) {
		t.Error(a.raw)
	}
	for said, at := range map[string]string{
		`{"spec":"@hourly","only_on":["nope"]}`:                                                         "body.only_on[0]",
		`{"spec":"@hourly","active_from":"2036-01-01T00:00:00Z","active_until":"2035-01-01T00:00:00Z"}`: "body.active_until",
		`{"spec":"@hourly","count":0}`:                                                                  "body.count",
		`{"spec":"@hourly","count":100000}`:                                                             "body.count",
		`{"spec":"@hourly","on_day_off":"never"}`:                                                       "body.on_day_off",
		`{"spec":"@hourly","schedule":{}}`:                                                              "body.schedule",
	} {
		if a := w.do(w.admin, "POST", "/v1/schedule/preview", said); a.status != 422 || a.problem()[at] == "" {
			t.Errorf("%s: %d %s", said, a.status, a.raw)
		}
	}
}
