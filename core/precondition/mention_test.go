package precondition_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/precondition"
)

func TestMentionsAreTheNamesThatAreWrittenOut(t *testing.T) {
	t.Parallel()
	c := setup(stats())
	task, calendar, parameter := core.MentionTask, core.MentionCalendar, core.MentionParameter
	for text, want := range map[string][]core.Mention{
		`true`: nil,
		`task("stats").live == 0 && task('stats')?.failures < task("new").failures`: {{Kind: task, Name: "stats", Line: 1, Column: 6}, {Kind: task, Name: "new", Line: 1, Column: 59}},
		"workday(now) &&\n  day(fire_at, \"month-end\")":                            {{Kind: calendar, Name: "month-end", Line: 2, Column: 16}},
		`params.区 == 1 && params?.a.b == params["c d"] && host.load1 < 1`:           {{Kind: parameter, Name: "区", Line: 1, Column: 8}, {Kind: parameter, Name: "a", Line: 1, Column: 26}, {Kind: parameter, Name: "c d", Line: 1, Column: 40}},
		`any(["a", "b"], task(#).live > 0) || task("sta" + "ts").live > 0`:          nil,
		`day(now, params.calendar) && params[params.key]`:                           {{Kind: parameter, Name: "calendar", Line: 1, Column: 17}, {Kind: parameter, Name: "key", Line: 1, Column: 44}},
		`task("x").colour == 1`: nil, // it does not compile
	} {
		if got := c.Mentions(expression(text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
	if got := c.Mentions(core.Precondition{SQL: &core.SQLCheck{Connection: "b", Query: "select 1"}}); got != nil {
		t.Errorf("a query mentions %+v", got)
	}
}

// TestAnOutcomeThatNeverIsIsRefusedAndStillJudged: tasks that were stored before go on as they did.
func TestAnOutcomeThatNeverIsIsRefusedAndStillJudged(t *testing.T) {
	t.Parallel()
	c := setup(stats())
	for text, column := range map[string]string{
		`task("stats").last_outcome == "success"`:           "column 31",
		`"Failed" != task("stats").last_outcome`:            "column 1:",
		`task("stats").last_outcome in ["failed", "error"]`: "column 42",
		`task("stats")?.last_outcome not in ["skipped"]`:    "column 37",
	} {
		found := c.Check(expression(text))
		if len(found) != 1 || found[0].Path != "expression" || !strings.Contains(found[0].Message.En, column) ||
			!strings.Contains(found[0].Message.En, "succeeded, failed, timed_out, cancelled, crashed, lost") || !strings.Contains(found[0].Message.Zh, "succeeded、failed") {
			t.Errorf("%s: %+v", text, found)
		}
		if _, err := c.Evaluate(t.Context(), expression(text), facts(`{}`)); err != nil {
			t.Errorf("%s is not judged any more: %v", text, err)
		}
	}
	for _, text := range []string{
		`task("stats").last_outcome in ["", "lost", "crashed", "cancelled", "timed_out", "succeeded", "failed"]`, `task("stats").last_outcome == params.wanted`,
		`params.wanted == "success"`, `task("stats").last_outcome == ""`, `task("stats").last_outcome startsWith "succ"`,
	} {
		mustCheck(t, c, expression(text))
	}
}

func TestWhatWasNotGrantedIsFoundWithoutAsking(t *testing.T) {
	t.Parallel()
	w := stats()
	w.grants = map[string]string{"sql:business": "sqlite:/nowhere", "http": "ready.example, 10.0.0.0/8:8080, !10.0.0.5"}
	options := precondition.Options{Grants: w.granted, Needs: func(string) []string { return []string{"http", "sql:business"} }}
	c := precondition.New(options)
	sql := func(connection string) core.Precondition {
		return core.Precondition{SQL: &core.SQLCheck{Connection: connection, Query: "select 1"}}
	}
	for _, test := range []struct {
		namespace  string
		p          core.Precondition
		path, says string
	}{
		{"Lab", sql("business"), "", ""},
		{"Lab", sql("busyness"), "sql.connection", "did you mean business?"},
		{"Lab", sql("archive"), "sql.connection", "has not been granted the connection archive; it has been granted business"},
		{"Lab", sql("not a name"), "", ""}, // Check says so
		{"Lab", get("https://ready.example/x", 0, ""), "", ""},
		{"Lab", get("https://other.example/x", 0, ""), "http.url", "other.example:443: it is not on the allow-list"},
		{"Lab", get("http://other.example:8080/x", 0, ""), "", ""}, // its address may be one that is listed
		{"Lab", get("http://10.1.2.3:8080/x", 0, ""), "", ""},
		{"Lab", get("http://10.1.2.3/x", 0, ""), "http.url", "10.1.2.3:80"},
		{"Lab", get("http://10.0.0.5:8080/x", 0, ""), "http.url", "excludes it"},
		{"Other", get("http://ready.example/x", 0, ""), "http.url", "namespace Other has not been granted http"},
		{"Other", expression("true"), "", ""},
	} {
		found := c.CheckGrants(test.namespace, "Lab.Report", test.p)
		switch {
		case test.path == "" && len(found) > 0:
			t.Errorf("%+v: %+v", test.p, found)
		case test.path != "" && (len(found) != 1 || found[0].Path != test.path || !strings.Contains(found[0].Message.En, test.says) || !strings.Contains(found[0].Message.Zh, "授权")):
			t.Errorf("%+v: %+v, want %s %q", test.p, found, test.path, test.says)
		}
	}
	for address, zh := range map[string]string{
		"https://other.example/x":  "不允许访问 other.example:443：允许列表中没有它",
		"http://10.1.2.3/x":        "不允许访问 10.1.2.3:80：允许列表中没有它",
		"http://10.0.0.5:8080/x":   "不允许访问 10.0.0.5:8080：允许列表排除了它",
		"http://127.0.0.1:8080/x":  "须在允许列表中按地址写明：127.0.0.1:8080",
		"http://169.254.169.254/x": "须在允许列表中按地址写明：169.254.169.254:80",
	} {
		if found := c.CheckGrants("Lab", "Lab.Report", get(address, 0, "")); len(found) != 1 || !strings.HasSuffix(found[0].Message.Zh, zh) {
			t.Errorf("%s: %+v, want %q", address, found, zh)
		}
	}
	options.Needs, options.Grants = nil, nil
	if found := precondition.New(options).CheckGrants("Lab", "Lab.Report", sql("x")); len(found) > 0 {
		t.Errorf("nobody can tell what is granted, and it is said: %+v", found)
	}
}
