package precondition_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/precondition"
)

// TestARunDoesNotWaitForItself: a task may ask about its own live runs; the one that asks is none of them.
func TestARunDoesNotWaitForItself(t *testing.T) {
	t.Parallel()
	w := stats()
	w.tasks["Lab/own"] = core.Task{ID: "own", State: core.TaskState{Live: 1}}
	w.tasks["Lab/other"] = core.Task{ID: "other", State: core.TaskState{Live: 1}}
	asks := facts(``)
	asks.TaskID = "own"
	for text, wanted := range map[string]bool{
		`task("own").live == 0`:   true,
		`task("other").live == 0`: false,
	} {
		r, err := setup(w).Evaluate(t.Context(), expression(text), asks)
		if err != nil || r.True != wanted {
			t.Errorf("%s: %+v %v, want %v", text, r, err, wanted)
		}
	}
	w.tasks["Lab/own"] = core.Task{ID: "own", State: core.TaskState{Live: 2}}
	if r, err := setup(w).Evaluate(t.Context(), expression(`task("own").live == 0`), asks); err != nil || r.True || r.Detail != `task("own").live == 1` {
		t.Errorf("another run of the task is live: %+v %v", r, err)
	}
}

func TestExpressionsSeeParametersTimeCalendarsTasksAndHost(t *testing.T) {
	t.Parallel()
	const params = `{"region": "east", "limit": 5, "list": ["a", "b"], "when": "2026-11-20", "flag": true, "gone": null}`
	for text, want := range map[string]bool{
		`params.region == "east" && params.limit < 6`:                                true,
		`params.region in ["west", "north"]`:                                         false,
		`"b" in params.list`:                                                         true,
		`params.flag`:                                                                true,
		`params.absent == nil && params.gone == nil`:                                 true,
		`(params.absent ?? 3) == 3`:                                                  true,
		`any(params.list, # == "b") and not all(params.list, {# == "b"})`:            true,
		`count(params.list, # != "x") == 2 && sum([1, 2, 3]) == 6`:                   true,
		`len(filter(1..10, # % 2 == 0)) == 5`:                                        true,
		`params.region matches "^e.s[a-z]$"`:                                         true,
		`params.region not matches "^e"`:                                             false,
		`fire_at.Hour() == 12 && zone == "Asia/Shanghai"`:                            true,
		`now - fire_at == duration("1m") && now() == now`:                            true,
		`fire_at >= date("2026-11-20") && fire_at < date("2026-11-21")`:              true,
		`date("2026-11-20 12:00:00") == fire_at`:                                     true,
		`date("2026-11-20 04:00:00", "2006-01-02 15:04:05", "UTC") == fire_at`:       true,
		`date(timezone("UTC"), "2026-11-20 04:00:00") == fire_at`:                    true,
		`fire_at.Weekday().String() == "Friday"`:                                     true,
		`workday(fire_at) && !workday(fire_at + duration("24h"))`:                    true,
		`day(fire_at, "month-end")`:                                                  false,
		`task("stats").last_outcome == "failed" && task("stats").live > 1`:           true,
		`task("stats").paused and task("stats").enabled`:                             true,
		`now - task("stats").last_success < duration("2h")`:                          false,
		`task("new").last_success.IsZero() && task("new").last_outcome == ""`:        true,
		`host.load_per_core > 1.4 && host.load1 == 6 && host.cores == 4`:             true,
		`host.mem_used_ratio < 0.7 and host.disk_used_ratio > 0.9`:                   true,
		`host.disk_free_bytes >= 50`:                                                 true,
		`upper(trim(" x ")) == "X" && max(1, 2) == 2 && string(params.limit) == "5"`: true,
		`params.region startsWith "ea" ? params.limit == 5 : false`:                  true,
		`task("sta" + "ts").failures == 1`:                                           true,
		`if params.limit > 3 { true } else { false }`:                                true,
		`params["region"] == "east" && params?.absent?.deeper == nil`:                true,
		`true`: true,
	} {
		c := setup(stats())
		mustCheck(t, c, expression(text))
		got, err := c.Evaluate(t.Context(), expression(text), facts(params))
		if err != nil || got.True != want {
			t.Errorf("%s: %v %v, want %v", text, got, err, want)
		}
	}
}

func TestResultShowsWhatWasLookedAt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`task("stats").last_outcome == "succeeded"`:                `task("stats").last_outcome == "failed"`,
		`params.n > 1 || task("stats").live == 0`:                  `params.n == 2`,
		`params.n > 2 || task("new").live == 0`:                    `params.n == 2; task("new").live == 0`,
		`workday(fire_at) && host.load1 < 1 && fire_at.Hour() > 1`: `workday(fire_at) == true; host.load1 == 6; fire_at.Hour() == 12`,
		`task("new").last_success > fire_at`:                       `task("new").last_success == never; fire_at == 2026-11-20T12:00:00+08:00`,
		`any(params.list, # == params.n)`:                          `params.list == a list of 2; params.n == 2`,
		`now() - fire_at > duration("1h")`:                         `now() == 2026-11-20T12:01:00+08:00; fire_at == 2026-11-20T12:00:00+08:00`,
		`task("stats").last_outcome == task("stats").last_outcome`: `task("stats").last_outcome == "failed"`,
		`params.text == ""`:                                        `params.text == "` + strings.Repeat("字", 25) + `…"`,
		`true`:                                                     ``,
	} {
		c := setup(stats())
		mustCheck(t, c, expression(text))
		got, err := c.Evaluate(t.Context(), expression(text), facts(`{"n": 2, "list": [1, 2], "text": "`+strings.Repeat("字", 1000)+`"}`))
		if err != nil || got.Detail != want {
			t.Errorf("%s: %q, want %q (%v)", text, got.Detail, want, err)
		}
	}
	long := expression(strings.Repeat(`params.abcdefghijklmnopqrstuvwxyz_`, 1) + `1 == 1`)
	if got, err := setup(stats()).Evaluate(t.Context(), long, facts(`{}`)); err != nil || len(got.Detail) > 512 {
		t.Errorf("%d bytes, %v", len(got.Detail), err)
	}
}

func TestCheckSaysWhatIsWrongAndWhatThereIs(t *testing.T) {
	t.Parallel()
	for text, words := range map[string][]string{
		`task("x").lats_success > now`:           {"line 1, column 11: unknown field of a task lats_success; did you mean last_success?"},
		`task("x").colour == 1`:                  {"unknown field of a task colour; there are enabled, failures", "next_fire"},
		"true &&\n  parms.x == 1":                {"line 2, column 3", "did you mean params?"},
		`zzzzzzzz`:                               {"unknown name zzzzzzzz; there are fire_at, host, now, params, zone, day, task, workday"},
		`host.load > 1`:                          {"unknown reading of the host load; did you mean load1?"},
		`host.nonsense > 1`:                      {"cores, disk_free_bytes"},
		`workdy(fire_at)`:                        {"did you mean workday?"},
		`params.x`:                               nil,
		`params.x + 1`:                           {`line 1, column 10: "+" gives neither true nor false; write a comparison`},
		`-params.x`:                              {`"-" gives neither true nor false`},
		`params.x + 1 > 3`:                       nil,
		`1 + 1`:                                  {"must give true or false, and this gives int"},
		`"yes"`:                                  {"this gives text"},
		`task("x")`:                              {"must give true or false"},
		`task("x").last_outcome == 1`:            {"line 1", "mismatched types"},
		`task(5).live == 1`:                      {"cannot use int"},
		`task("x", "y").live == 1`:               {"too many arguments"},
		`fire_at > 5`:                            {"mismatched types"},
		`params.x ==`:                            {"line 1, column 11: unexpected"},
		`((`:                                     {"unexpected token"},
		`'open`:                                  {"line 1"},
		`repeat("x", 5) == ""`:                   {"the function repeat cannot be used here", "upper"},
		`let a = 1; a == 1`:                      {"let cannot be used"},
		`1 == 1; 2 == 2`:                         {"one expression only"},
		`any(1..3, {1; true})`:                   {"one expression only"},
		`params.x matches params.y`:              {"written out"},
		`params.x matches "("`:                   {"missing closing )"},
		`params.x matches "(a{500}b){2}"`:        {"too large"},
		`step_()`:                                {"unknown name step_"},
		`$env["step_"] == 1`:                     {"unknown name $env"},
		``:                                       {"give exactly one"},
		`  `:                                     {"empty"},
		strings.Repeat("a", 4097):                {"longer than 4 KiB"},
		"true" + strings.Repeat(" && true", 400): {"maximum allowed nodes"},
		"\xff":                                   {"UTF-8"},
		`map(1..3, #) == nil`:                    {"the function map cannot be used here"},
		`reduce(1..3, #acc + #) == 6`:            {"reduce"},
		`duration("x") > now`:                    {"mismatched types"},
	} {
		findings := setup(stats()).Check(expression(text))
		if words == nil {
			if text == `params.x` && len(findings) > 0 {
				t.Errorf("%s: %v", text, findings)
			}
			continue
		}
		if len(findings) == 0 {
			t.Errorf("%s: nothing is said", text)
			continue
		}
		for _, f := range findings {
			if f.Path != "expression" && text != "" || f.Message.Zh == "" || strings.Contains(f.Message.En, "\n") {
				t.Errorf("%s: %q %+v", text, f.Path, f.Message)
			}
		}
		for _, w := range words {
			if !strings.Contains(findings[0].Message.En, w) {
				t.Errorf("%s: it says %q, not %q", text, findings[0].Message.En, w)
			}
		}
	}
}

func TestWhatCannotBeJudgedIsAnErrorAndNotTrue(t *testing.T) {
	t.Parallel()
	w := stats()
	w.host = nil
	c := setup(w)
	for text, words := range map[string][]string{
		`task("missing").live == 0`: {`task("missing")`, "namespace Lab has no task of this name"},
		`host.load1 < 100`:          {"no reading"},
		`day(fire_at, "nope")`:      {"no calendar nope"},
		`params.text`:               {`it gave "x", not true or false`},
		`params.n > 1`:              {"<nil> > int"},
		`params.text matches "x" && params.list matches "x"`: {"a list of 1, which is no text"},
		`date(params.text) > now`:                            {"invalid date x"},
		`duration(params.text) > duration("1s")`:             {"invalid duration"},
	} {
		mustCheck(t, c, expression(text))
		got, err := c.Evaluate(t.Context(), expression(text), facts(`{"text": "x", "list": [1]}`))
		if err == nil || got.True || got.Detail == "" || !strings.HasPrefix(err.Error(), strings.TrimSuffix(got.Detail, "…")) {
			t.Errorf("%s: %+v %v", text, got, err)
			continue
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: it says %q, not %q", text, err, word)
			}
		}
	}
	_, err := c.Evaluate(t.Context(), expression(`params.x > now > 1`), facts(`{}`))
	is(t, err, core.KindInvalid)
	_, err = c.Evaluate(t.Context(), expression(`true`), facts(`[1]`))
	is(t, err, core.KindInvalid, "no JSON object")
	f := facts(`{}`)
	f.Zone = "Mars/Olympus"
	_, err = c.Evaluate(t.Context(), expression(`true`), f)
	is(t, err, core.KindInvalid, "Mars/Olympus")
	bare := precondition.New(precondition.Options{})
	for _, text := range []string{`task("x").live == 0`, `workday(now)`, `host.load1 == 0`} {
		_, err = bare.Evaluate(t.Context(), expression(text), facts(``))
		is(t, err, core.KindUnavailable)
	}
}

func TestAnOldReadingOfTheHostSaysNothing(t *testing.T) {
	t.Parallel()
	w := stats()
	w.host.At = noon.Add(-time.Hour)
	_, err := setup(w).Evaluate(t.Context(), expression(`host.load1 > 0`), facts(``))
	is(t, err, core.KindUnavailable, "1h1m0s old")
}

func TestTasksOfOtherNamespacesAreNotSeen(t *testing.T) {
	t.Parallel()
	w := stats()
	c := setup(w)
	if got, err := c.Evaluate(t.Context(), expression(`task("stats").last_outcome == "failed"`), facts(``)); err != nil || !got.True {
		t.Errorf("%+v %v", got, err)
	}
	_, err := c.Evaluate(t.Context(), expression(`task("Other/stats").live == 0`), facts(``))
	is(t, err, core.KindNotFound)
	for _, name := range w.asked {
		if !strings.HasPrefix(name, "Lab/") {
			t.Errorf("asked for %s", name)
		}
	}
}

type broken struct{}

func (broken) TaskByName(context.Context, string, string) (core.Task, error) {
	return core.Task{}, core.Errorf(core.KindUnavailable, "find task", "%w", errOutage)
}

type hanging struct{}

func (hanging) TaskByName(ctx context.Context, _, _ string) (core.Task, error) {
	<-ctx.Done()
	return core.Task{}, ctx.Err()
}

func TestAStoreThatFailsOrHangsIsAnErrorInTime(t *testing.T) {
	t.Parallel()
	_, err := precondition.New(precondition.Options{Tasks: broken{}}).Evaluate(t.Context(), expression(`task("x").live == 0`), facts(``))
	is(t, err, core.KindUnavailable, errOutage.Error())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = precondition.New(precondition.Options{Tasks: hanging{}}).Evaluate(ctx, expression(`task("x").live == 0`), facts(``))
	if err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// Bombs either do not compile or end, and neither takes long nor much memory.
func TestBombsEnd(t *testing.T) {
	big := `{"s": "` + strings.Repeat("x", 200<<10) + `", "l": [` + strings.Repeat("1,", 20<<10) + `1]}`
	bombs := []string{
		`len(repeat("xxxxxxxxxx", 100000000)) > 0`,
		`repeat(repeat("xxxxxxxxxx", 1000), 1000000) == ""`,
		`len(map(1..1000, map(1..1000, map(1..1000, #)))) > 0`,
		`len(1..100000000) > 0`,
		`1 in 1..100000000 && len(filter(1..99999999, true)) > 0`,
		`sum(1..1000000000) > 0`,
		`all(1..900, all(1..90, all(1..90, all(1..90, true))))`,
		`all(params.l, all(params.l, all(params.l, all(params.l, # == 1))))`,
		`all(params.l, # in params.l && params.l == params.l && params.s == params.s && params.s contains "xy" == false)`,
		`none(params.l, {count(params.l, # == 2) > 0})`,
		`let a = "x"; let b = a + a; let c = b + b; len(c) > 0`,
		`len(` + strings.Repeat(`params.s + `, 140) + `params.s) > 0`,
		`len(` + strings.Repeat(`upper(`, 140) + `params.s` + strings.Repeat(`)`, 140) + `) > 0`,
		`params.s matches "(x+x+)+y"`,
		`all(params.l, params.l matches "x")`,
		`len(split(params.s, "")) > 0`,
		`sum(params.l, sum(params.l, sum(params.l))) > 0`,
		`2 ** 1000000000 > 0`,
		`min(params.l) == max(params.l) && median(params.l) > 0`,
		strings.Repeat("(", 4000),
		strings.Repeat("!", 4000) + "true",
		strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + " == nil",
		`any(1..` + strings.Repeat("9", 3000) + `, true)`,
		`reduce(1..1000, #acc + #acc, "x") == ""`,
		`flatten([[[1]]]) == nil`,
		`all(-9223372036854775807..9223372036854775807, true)`,
		`all(0..9223372036854775807, true)`,
		`find(params.l, find(params.l, # == 2) == 3) == nil`,
		`all(params.l, string(params.l) == "")`,
	}
	c := setup(stats())
	for _, text := range bombs {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		findings := c.Check(expression(text))
		got, err := c.Evaluate(t.Context(), expression(text), facts(big))
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if took > 7*time.Second {
			t.Errorf("%.60s took %v", text, took)
		}
		if held := int64(after.HeapSys) - int64(before.HeapSys); held > 512<<20 {
			t.Errorf("%.60s took %d MiB", text, held>>20)
		}
		t.Logf("%-60.60s %8v %d findings, %v, %.80v", text, took.Round(time.Millisecond), len(findings), got.True, err)
	}
}

func TestManyDifferentExpressionsAreKeptInBounds(t *testing.T) {
	t.Parallel()
	c := setup(stats())
	for i := range 2000 {
		if got, err := c.Evaluate(t.Context(), expression(fmt.Sprintf("params.n == %d", i)), facts(`{"n": 7}`)); err != nil || got.True != (i == 7) {
			t.Fatalf("%d: %v %v", i, got, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		`task("x").live == 0`, `any(params.list, # in [1, 2]) && now > date("2026-01-01")`, `host.load1 matches "a{3}"`, `if true { false } else { true }`,
		`params?.a?.b ?? 1..3`, `filter(params.l, .x > 1)[0].y`, "1 ? 2 : `x`", `"a" | upper() == "A"`, `{"a": 1}.a == 1`, `$env`, `#`, `b"x"`, `timezone("UTC")`,
	} {
		f.Add(seed, `{"list": [1, "x"]}`)
	}
	c := setup(stats())
	f.Fuzz(func(t *testing.T, text, params string) {
		findings := c.Check(expression(text))
		for _, f := range findings {
			if f.Message.En == "" || f.Message.Zh == "" {
				t.Errorf("%q: a finding says nothing", text)
			}
		}
		began := time.Now()
		got, err := c.Evaluate(t.Context(), expression(text), facts(params))
		if err != nil && got.True || len(findings) > 0 && err == nil || len(got.Detail) > 512 {
			t.Errorf("%q: %+v %v %v", text, findings, got, err)
		}
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("%q took %v", text, took)
		}
	})
}
