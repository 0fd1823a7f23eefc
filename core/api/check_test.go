package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

// checkedItem is one item of an answer, as a test compares it.
type checkedItem struct {
	what   string // kind and index
	action string
	fields string
	errors map[string]string // by location
}

func (w *world) checks(token, body string) (ok bool, items []checkedItem) {
	w.t.Helper()
	a := w.must(200, w.do(token, "POST", "/v1/definitions/check", body))
	list, _ := a.body["items"].([]any)
	for _, one := range list {
		m, _ := one.(map[string]any)
		item := checkedItem{what: fmt.Sprint(m["kind"], m["index"]), fields: fmt.Sprint(m["fields"]), errors: map[string]string{}}
		item.action, _ = m["action"].(string)
		errs, _ := m["errors"].([]any)
		for _, e := range errs {
			e, _ := e.(map[string]any)
			item.errors[e["location"].(string)], _ = e["message_en"].(string)
			if e["message_zh"] == "" || e["message"] == "" {
				w.t.Errorf("%s is not said in both languages: %v", item.what, e)
			}
		}
		items = append(items, item)
	}
	ok, _ = a.body["ok"].(bool)
	return ok, items
}

const echoOn = `"type":"Common.Echo","params":{"count":3},"schedule":{"spec":"*/5 * * * *","zone":"Asia/Shanghai"}`

// TestDefinitionsAreCheckedTogether: what names another of them is accepted wherever that stands, the items come in an order
// in which they can be put, and nothing is kept.
func TestDefinitionsAreCheckedTogether(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.task("Common", "there")
	w.task("Common", "kept")
	w.must(201, w.do(w.admin, "PUT", "/v1/pools/erp", `{"slots":1}`))
	ok, items := w.checks(w.admin, `{
		"calendars":[{"name":"both","all_of":["one"]},{"name":"one","weekdays":["mon"]}],
		"pools":[{"name":"erp","slots":3}],
		"downstreams":[{"name":"his","failures":3,"cooldown":"60s"}],
		"namespaces":[{"name":"Factory"},{"name":"Common"}],
		"tasks":[
			{"namespace":"Common","name":"last",`+echoOn+`,"after":[{"task":"first"}]},
			{"namespace":"Common","name":"first","type":"Common.Echo","schedule":{"spec":"@daily","only_on":["both"]},"policies":{"pools":[{"pool":"erp","slots":3}],"downstreams":["his"]}},
			{"namespace":"Common","name":"there","type":"Common.Echo","params":{"count":4},"schedule":{"spec":"*/6 * * * *","zone":"Asia/Shanghai"}},
			{"namespace":"Common","name":"kept",`+echoOn+`}]}`)
	var said []string
	for _, item := range items {
		said = append(said, item.what+" "+item.action+" "+item.fields)
		if len(item.errors) > 0 {
			t.Errorf("%s: %v", item.what, item.errors)
		}
	}
	want := []string{
		"calendar1 create []", "calendar0 create []", "pool0 change [slots]", "downstream0 create []", "namespace0 create []", "namespace1 keep []",
		"task1 create []", "task2 change [params.count schedule.spec]", "task3 keep []", "task0 create []",
	}
	if !ok || !slices.Equal(said, want) {
		t.Errorf("%v:\n%s\ninstead of\n%s", ok, strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
	for _, path := range []string{"/v1/calendars/one", "/v1/downstreams/his", "/v1/namespaces/Factory", "/v1/namespaces/Common/tasks/first"} {
		w.must(404, w.do(w.admin, "GET", path, ""))
	}
	if a := w.do(w.admin, "GET", "/v1/namespaces/Common/tasks/there", ""); a.body["version"] != 1.0 {
		t.Errorf("the check has changed a task: %s", a.raw)
	}
	if len(w.acts.all) == 0 || slices.ContainsFunc(w.acts.all, func(act api.Act) bool { return act.Operation == "check-definitions" }) {
		t.Error("a check is in the audit")
	}
}

// TestACheckBlamesWhatIsWrongAndNothingElse: all of it at once, with the field, and not who only names it.
func TestACheckBlamesWhatIsWrongAndNothingElse(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ok, items := w.checks(w.admin, `{
		"calendars":[{"name":"one","weekdays":["someday"]},{"name":"cn-workdays","weekdays":["mon"]}],
		"pools":[{"name":"erp","slots":0},{"slots":1}],
		"namespaces":[{"name":"factory"}],
		"tasks":[
			{"namespace":"Common","name":"bad","type":"Common.Echo","params":{"count":"x"},"schedule":{"spec":"0 0 30 2 *"},"polices":{}},
			{"namespace":"Common","name":"after-bad",`+echoOn+`,"after":[{"task":"bad"}],"policies":{"pools":[{"pool":"erp","slots":7}]}},
			{"namespace":"Common","name":"a",`+echoOn+`,"after":[{"task":"b"}]},
			{"namespace":"Common","name":"b",`+echoOn+`,"after":[{"task":"a"}]},
			{"namespace":"Common","name":"a",`+echoOn+`},
			{"namespace":"Common","name":"dated","schedule":{"spec":"@daily","only_on":["one"]},"type":"Common.Echo"},
			{"namespace":"Nowhere","name":"lost",`+echoOn+`}]}`)
	got := map[string]map[string]string{}
	for _, item := range items {
		got[item.what] = item.errors
		if len(item.errors) > 0 && (item.action != "" || item.fields != "[]") {
			t.Errorf("%s would be refused and %s %s", item.what, item.action, item.fields)
		}
	}
	cycle := "task2"
	if len(got["task2"]) == 0 {
		cycle = "task3"
	}
	for what, wanted := range map[string]map[string]string{
		"calendar0": {"weekdays[0]": ""}, "calendar1": {"": "cannot be changed"}, "pool0": {"slots": ""}, "pool1": {"name": "missing"}, "namespace0": {"name": "upper-case"},
		"task0": {"params.count": "integer", "schedule.spec": "never fires", "polices": "no such field"}, "task1": {}, cycle: {"after[0].task": "makes a cycle"},
		"task4": {"name": "defined twice"}, "task5": {}, "task6": {"namespace": "there is no namespace Nowhere"},
	} {
		if len(got[what]) != len(wanted) {
			t.Errorf("%s: %v instead of %v", what, got[what], wanted)
		}
		for location, says := range wanted {
			if message, there := got[what][location]; !there || !strings.Contains(message, says) {
				t.Errorf("%s %s: %q instead of %q", what, location, message, says)
			}
		}
	}
	if ok || len(items) != 12 {
		t.Errorf("%v, %d items", ok, len(items))
	}
	w.must(422, w.do(w.admin, "POST", "/v1/definitions/check", `{"task":[]}`))
	w.must(422, w.do(w.admin, "POST", "/v1/definitions/check", `{"tasks":["x"]}`))
	large := strings.Repeat(" ", 2<<20) // more than other requests may bring
	if ok, items := w.checks(w.admin, large+`{}`); !ok || len(items) != 0 {
		t.Errorf("%v %v", ok, items)
	}
	w.must(413, w.do(w.admin, "POST", "/v1/definitions/check", strings.Repeat(" ", 9<<20)+`{}`))
}

// TestACheckSaysNothingOfWhatIsNotOnesOwn: each definition needs the right that putting it needs.
func TestACheckSaysNothingOfWhatIsNotOnesOwn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.task("Foreign", "secret")
	ok, items := w.checks(w.token(access.Admin, "Common"), `{"pools":[{"name":"erp","slots":1}],"namespaces":[{"name":"Foreign","description":"mine"}],
		"tasks":[{"namespace":"Common","name":"a",`+echoOn+`},{"namespace":"Foreign","name":"secret",`+echoOn+`},{"namespace":"Nowhere","name":"secret",`+echoOn+`}]}`)
	if ok || len(items) != 5 {
		t.Fatalf("%v %v", ok, items)
	}
	for _, item := range items {
		if item.what == "task0" {
			if item.action != "create" || len(item.errors) > 0 {
				t.Errorf("%+v", item)
			}
			continue
		}
		if item.action != "" || !strings.Contains(item.errors[""], "lacks the permission") {
			t.Errorf("%+v", item)
		}
	}
}
