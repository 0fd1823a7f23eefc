package luavm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/luavm"
	"github.com/gnomon-scheduler/gnomon/sdk"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

const full = `
return task {
  title = { zh = "全部", en = "Everything" },
  description = { zh = "描述", en = "Description" },
  params = {
    batch = { type = "integer", default = 100, minimum = 1, maximum = 1000, description = { zh = "条数", en = "how many" } },
    name  = { type = "string", required = true, pattern = "^[a-z]+$" },
    kind  = { type = "string", enum = { "a", "b" }, default = "a" },
    tags  = { type = "array", items = { type = "string" }, default = {} },
    deep  = { type = "object", default = {}, properties = { on = { type = "boolean", default = true } } },
  },
  needs = { "sql:business", "http" },
  timeout = "90s",
  output = { n = { type = "integer" } },
  run = function(ctx) return { n = ctx.params.batch, p = ctx.params } end,
}`

func TestDescribeGivesWhatTheTaskTableSays(t *testing.T) {
	t.Parallel()
	h := host(t, scriptFolder(t, map[string]string{"All.lua": full, "module.lua": "return 1", "All_test.lua": "return 1"}))
	all := h.Describe(t.Context())
	if len(all.GetTaskTypes()) != 1 {
		t.Fatalf("%d types, want All alone: %v", len(all.GetTaskTypes()), all)
	}
	d := all.GetTaskTypes()[0]
	if d.GetName() != "Ns.All" || d.GetTitle().GetZh() != "全部" || d.GetDescription().GetEn() != "Description" ||
		d.GetTimeout().AsDuration() != 90*time.Second || strings.Join(d.GetNeeds(), " ") != "sql:business http" ||
		len(d.GetVersion()) != 12 || d.GetProblem() != "" {
		t.Errorf("described as %v", d)
	}
	const want = `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{` +
		`"batch":{"type":"integer","description":"how many","x-description-zh":"条数","default":100,"minimum":1,"maximum":1000},` +
		`"deep":{"type":"object","default":{},"properties":{"on":{"type":"boolean","default":true}},"additionalProperties":false},` +
		`"kind":{"type":"string","default":"a","enum":["a","b"]},` +
		`"name":{"type":"string","pattern":"^[a-z]+$"},` +
		`"tags":{"type":"array","default":[],"items":{"type":"string"}}},"required":["name"],"additionalProperties":false}`
	if got := string(d.GetParamsSchema()); got != want {
		t.Errorf("parameters\n got %s\nwant %s", got, want)
	}
	r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.All", Params: `{"name":"x"}`})
	if got := string(r.Output); got != `{"n":100,"p":{"batch":100,"deep":{"on":true},"kind":"a","name":"x","tags":[]}}` {
		t.Errorf("with defaults: %s %s", got, r.Message)
	}
	if f := h.Validate(t.Context(), "Ns.All", `{"batch":0,"naem":"x"}`); len(f) < 2 {
		t.Errorf("wrong parameters gave %v", f)
	}
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.All", Params: `{}`}); len(r.Findings) == 0 || r.Findings[0].Message.Zh == "" {
		t.Errorf("a run without a required parameter ended %+v", r)
	}
}

func TestMistakesAreSaidWithFileLineAndMending(t *testing.T) {
	t.Parallel()
	const head = "-- a comment\nreturn task { title = {zh='a', en='b'}, "
	for name, c := range map[string]struct{ source, says string }{
		"MissingEnd":    {head + "run = function() ", "Ns/MissingEnd.lua:2: "},
		"NotEqual":      {"x = 1\ny = x != 2", "Ns/NotEqual.lua:2: "},
		"NoTask":        {"return {}", "write return task {"},
		"Nothing":       {"", "write return task {"},
		"NoRun":         {head + "}", "Ns/NoRun.lua:2: run is missing"},
		"OneLanguage":   {"return task { title = 'x', run = function() end }", "needs both languages"},
		"Spelling":      {head + "prams = {}, run = function() end }", `unknown key "prams"`},
		"ParamSpelling": {head + "params = { n = { type = 'integer', defualt = 1 } }, run = function() end }", `params.n has the unknown key "defualt"`},
		"ParamType":     {head + "params = { n = { type = 'int' } }, run = function() end }", `params.n: type is "int"`},
		"DefaultType":   {head + "params = { n = { type = 'integer', default = 'x' } }, run = function() end }", "not of type integer"},
		"BadPattern":    {head + "params = { n = { type = 'string', pattern = '(' } }, run = function() end }", "params: "},
		"Timeout":       {head + "timeout = 30, run = function() end }", "write a span"},
		"TopLevelSQL":   {"local x = sql.query('business', 'select 1')\n" + head + "run = function() end }", "Ns/TopLevelSQL.lua:1: sql can be used inside run"},
		"TopLevelOS":    {head + "run = function() end, description = os.date() }", "os is not available"},
		"TopLevelLoop":  {"while true do end", "instruction budget"},
		"TopLevelError": {"error('no')", "Ns/TopLevelError.lua:1: no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := host(t, scriptFolder(t, map[string]string{name + ".lua": c.source, "Good.lua": script("")}))
			types := h.Describe(t.Context()).GetTaskTypes()
			if len(types) != 2 {
				t.Fatalf("%d types, want the broken one and the good one", len(types))
			}
			for _, d := range types {
				switch {
				case d.GetName() == "Ns.Good" && d.GetProblem() != "":
					t.Errorf("the good script: %s", d.GetProblem())
				case d.GetName() != "Ns.Good" && !strings.Contains(d.GetProblem(), c.says):
					t.Errorf("problem %q, want %q in it", d.GetProblem(), c.says)
				}
			}
			r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns." + name})
			if r.Verdict != sdktest.Failed || !r.Permanent || !strings.Contains(r.Message, c.says) {
				t.Errorf("a run of it ended %s permanent=%v: %s", r.Verdict, r.Permanent, r.Message)
			}
		})
	}
}

func TestOnlyOneTypeIsServedWhenAskedFor(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t, map[string]string{"A.lua": script(""), "B.lua": "broken ("})
	for _, only := range []string{"A", "Ns.A"} {
		h := host(t, dir, func(o *luavm.Options) { o.Only = only })
		if types := h.Describe(t.Context()).GetTaskTypes(); len(types) != 1 || types[0].GetName() != "Ns.A" || types[0].GetProblem() != "" {
			t.Errorf("only %s gives %v", only, types)
		}
		if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.B"}); r.Err == nil {
			t.Errorf("only %s also runs B", only)
		}
	}
	if _, err := luavm.New(luavm.Options{Dir: dir, Namespace: "../Ns"}); err == nil {
		t.Error("a namespace that is a path was taken")
	}
	if _, err := luavm.New(luavm.Options{Dir: dir, Namespace: "Other"}); err == nil {
		t.Error("a namespace without a folder was taken")
	}
}

func TestAnEditIsTakenUpByTheNextRun(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t, map[string]string{"T.lua": script("return 1")})
	h := host(t, dir)
	version := func() string { return h.Describe(t.Context()).GetTaskTypes()[0].GetVersion() }
	before := version()
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T"}); string(r.Output) != "1" {
		t.Fatalf("%+v", r)
	}
	write(t, dir, "T.lua", script("return 1 + 1"))
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T"}); string(r.Output) != "2" || version() == before {
		t.Errorf("after the edit: %+v, version %s then %s", r, before, version())
	}
	write(t, dir, "T.lua", "broken (")
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T"}); !r.Permanent {
		t.Errorf("after a broken edit: %+v", r)
	}
	write(t, dir, "T.lua", script("return 1"))
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T"}); string(r.Output) != "1" || version() != before {
		t.Errorf("after the edit was taken back: %+v", r)
	}
}

func TestRunsShareNothing(t *testing.T) {
	t.Parallel()
	h := host(t, scriptFolder(t, map[string]string{"T.lua": script(`
		local found = 0
		local function must_be_nil(v) if v then found = found + 1 end end
		must_be_nil(leak) must_be_nil(string.leak) must_be_nil(json.leak) must_be_nil(("x").leak)
		must_be_nil(getmetatable(json.null) ~= "null")
		must_be_nil((pcall(setmetatable, json.null, {})))
		must_be_nil((pcall(setmetatable, _G, {})))
		must_be_nil((pcall(setmetatable, json.array(), {})))
		leak, string.leak, json.leak = 1, 1, 1
		function string.double(s) return s .. s end
		return { n = found, double = ("a"):double() }`)}))
	for range 3 {
		if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T"}); string(r.Output) != `{"double":"aa","n":0}` {
			t.Fatalf("%s %s", r.Output, r.Message)
		}
	}
}

func TestContextHasEverythingOfTheAttempt(t *testing.T) {
	t.Parallel()
	h := host(t, scriptFolder(t, map[string]string{"T.lua": script(`
		ctx.progress(1, 3, "first") ctx:progress(3, 3)
		ctx.checkpoint { at = (ctx.last_checkpoint or { at = 0 }).at + 1 }
		log.warn("said", { n = 1, list = { 1, 2 }, flag = true })
		print("a", 1, nil)
		return { ctx.run_id, ctx.attempt, ctx.token, ctx.fire_at, ctx.zone, ctx.previous_success or "none", time.fire_at(), time.zone() }`)}))
	at := time.UnixMilli(1_764_000_000_123)
	r := h.Run(t.Context(), sdktest.Attempt{
		Type: "Ns.T", RunID: "r-1", Number: 2, Token: 7, FireAt: at, PreviousSuccess: at.Add(-time.Hour), Zone: "Asia/Shanghai",
		Checkpoint: `{"at":4}`,
	})
	if got := string(r.Output); got != `["r-1",2,7,1764000000123,"Asia/Shanghai",1763996400123,1764000000123,"Asia/Shanghai"]` {
		t.Errorf("%s %s", got, r.Message)
	}
	if string(r.Checkpoint) != `{"at":5}` {
		t.Errorf("checkpoint %s", r.Checkpoint)
	}
	if n := len(r.Progress); n == 0 || r.Progress[n-1] != (sdktest.Progress{Done: 3, Total: 3}) {
		t.Errorf("progress %v", r.Progress)
	}
	if len(r.Lines) != 2 || r.Lines[0].Message != "said" || r.Lines[0].Attrs["list"] != "[1,2]" || r.Lines[0].Attrs["flag"] != "true" ||
		r.Lines[1].Message != "a\t1\tnil" {
		t.Errorf("lines %+v", r.Lines)
	}
	r = h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T", FireAt: at})
	if string(r.Checkpoint) != `{"at":1}` || !strings.Contains(string(r.Output), `"none"`) {
		t.Errorf("a first run: %s %s", r.Output, r.Checkpoint)
	}
}

func TestFailuresAreTyped(t *testing.T) {
	t.Parallel()
	plain := run(t, `local function inner() error("it broke") end
		inner()`, nil)
	if plain.Message != "Ns/T.lua:2: it broke" || plain.Permanent || plain.RetryAfter != 0 {
		t.Errorf("plain: %+v", plain)
	}
	if len(plain.Lines) != 1 || !strings.Contains(plain.Lines[0].Attrs["traceback"], "Ns/T.lua:3:") {
		t.Errorf("no traceback with the caller's line: %+v", plain.Lines)
	}
	if r := run(t, `error{message = "gone", permanent = true}`, nil); r.Message != "gone" || !r.Permanent {
		t.Errorf("permanent: %+v", r)
	}
	if r := run(t, `error{message = "later", retry_after = "1m30s"}`, nil); r.RetryAfter != 90*time.Second || r.Message != "later" {
		t.Errorf("retry_after: %+v", r)
	}
	if r := run(t, `error{message = "later", retry_after = 500}`, nil); r.RetryAfter != 500*time.Millisecond {
		t.Errorf("retry_after in milliseconds: %+v", r)
	}
	if r := run(t, `return { f = function() end }`, nil); !r.Permanent || !strings.Contains(r.Message, "f: a function has no JSON form") {
		t.Errorf("output without a JSON form: %+v", r)
	}
}

func TestMistakesAtRunTimeAreExplained(t *testing.T) {
	t.Parallel()
	for body, says := range map[string]string{
		`local n = nil + 1`:                  "Ns/T.lua:2: ",
		`os.time()`:                          "Ns/T.lua:2: os is not available in a Gnomon script: see time",
		`io.open("/etc/passwd")`:             "io is not available",
		`loadstring("return 1")()`:           "loadstring is not available",
		`require "io"`:                       "there is no file Ns/io.lua",
		`sendd("x")`:                         `"sendd" is not defined`,
		`locl.x = 1`:                         `"locl" is not defined`,
		`return "a" .. nil`:                  "value 2 of 2 is nil",
		`http.get("http://example.com")`:     "http is not granted to this run",
		`sql.query("business", "select 1")`:  "not granted to this run",
		`log.info("x", "y")`:                 "the attributes are a table",
		`return json.decode("{")`:            "ends too early",
		`return json.encode({1, a = 2})`:     "both items and the key",
		`return ("x"):rep(10):bad()`:         "attempt to call a non-function object",
		`return ("a"):find("(")`:             "never closed",
		`return ("a"):find("[a")`:            "] is missing",
		`time.sleep("1h")`:                   "at most 10 minutes",
		`return time.format(0, nil, "Mars")`: `"Mars" is no time zone`,
	} {
		if got := failure(t, body, nil); !strings.Contains(got, says) {
			t.Errorf("%s\n gave %q, want %q in it", body, got, says)
		}
	}
}

func TestRequireLoadsModulesOfTheOwnFolderOnly(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t, map[string]string{
		"T.lua":     script(`local m = require "maths" return { m.double(4), m == require "maths" }`),
		"maths.lua": `local m = {} function m.double(n) return 2 * n end return m`,
		"Loop.lua":  script(`require "a"`), "a.lua": `require "b"`, "b.lua": `require "a"`,
		"Bad.lua": script(`require "broken"`), "broken.lua": `return (`,
		"Task.lua": script(`require "T"`), "Up.lua": script(`require "../secret"`), "Link.lua": script(`require "link"`),
	})
	if err := os.WriteFile(filepath.Join(dir, "secret.lua"), []byte(`return "secret"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../secret.lua", filepath.Join(dir, "Ns", "link.lua")); err != nil {
		t.Fatal(err)
	}
	h := host(t, dir)
	if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T"}); string(r.Output) != "[8,true]" {
		t.Errorf("%s %s", r.Output, r.Message)
	}
	for name, says := range map[string]string{
		"Loop": "goes round in a circle", "Bad": "Ns/broken.lua:1", "Task": "lower-case letter", "Up": "own folder", "Link": "escapes",
	} {
		if r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns." + name}); r.Verdict != sdktest.Failed || !strings.Contains(r.Message, says) {
			t.Errorf("%s ended %s %q %s, want %q", name, r.Verdict, r.Message, r.Output, says)
		}
	}
}

func TestACancelledRunStopsAndSaysSo(t *testing.T) {
	t.Parallel()
	h := host(t, scriptFolder(t, map[string]string{"Loop.lua": script(`while true do end`), "Sleep.lua": script(`time.sleep("5m")`)}))
	for _, typ := range []string{"Ns.Loop", "Ns.Sleep"} {
		r := h.Run(t.Context(), sdktest.Attempt{Type: typ, TimeLimit: 50 * time.Millisecond})
		if r.Verdict != sdktest.Cancelled || r.Message != sdk.ErrTimeLimit.Error() {
			t.Errorf("%s ended %s %q", typ, r.Verdict, r.Message)
		}
	}
}

func TestInstructionsAndMemoryAreBounded(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t, map[string]string{
		"Loop.lua":   script(`for i = 1, 1e9 do end`),
		"Pcall.lua":  script(`pcall(function() for i = 1, 1e9 do end end) return "swallowed"`),
		"Memory.lua": script(`local t = {} for i = 1, 1e9 do t[i] = {i} end`),
	})
	few := host(t, dir, func(o *luavm.Options) { o.Instructions = 100_000 })
	for _, typ := range []string{"Ns.Loop", "Ns.Pcall"} {
		if r := few.Run(t.Context(), sdktest.Attempt{Type: typ}); r.Verdict != sdktest.Failed || !strings.Contains(r.Message, "instruction budget") {
			t.Errorf("%s ended %s %q %s", typ, r.Verdict, r.Message, r.Output)
		}
	}
	small := host(t, dir, func(o *luavm.Options) { o.MemoryMB = 128 })
	if r := small.Run(t.Context(), sdktest.Attempt{Type: "Ns.Memory"}); r.Verdict != sdktest.Failed || !strings.Contains(r.Message, "more memory") {
		t.Errorf("the memory bomb ended %s %q", r.Verdict, r.Message)
	}
}

func TestAWorkerProcessServesTheContract(t *testing.T) {
	t.Parallel()
	p := startProcess(t, scriptFolder(t, map[string]string{"T.lua": script(`log.info("hi") return {ok = true}`)}), "Ns.T")
	d, err := p.api.Describe(t.Context(), &pluginv1.DescribeRequest{})
	if err != nil || len(d.GetTaskTypes()) != 1 || d.GetName() != "lua-ns" {
		t.Fatalf("%v %v", d, err)
	}
	v, err := p.api.Validate(t.Context(), &pluginv1.ValidateRequest{TaskType: "Ns.T", Params: []byte(`{"x":1}`)})
	if err != nil || len(v.GetFindings()) != 1 {
		t.Errorf("an unknown parameter gave %v %v", v, err)
	}
	o, err := p.run(t.Context(), "Ns.T", time.Minute, nil)
	if err != nil || string(o.GetSuccess().GetOutput()) != `{"ok":true}` || o.GetUsage().GetCpuSource() != pluginv1.UsageSource_USAGE_SOURCE_MEASURED {
		t.Errorf("%v %v", o, err)
	}
}

// BenchmarkTwoWorkers is the price of a no-op run, gRPC included, with two worker processes that each run one attempt at
// a time, as a pool of two does.
func BenchmarkTwoWorkers(b *testing.B) {
	dir := scriptFolder(b, map[string]string{"T.lua": script("")})
	idle := make(chan *process, 2)
	idle <- startProcess(b, dir, "Ns.T")
	idle <- startProcess(b, dir, "Ns.T")
	b.SetParallelism(2)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p := <-idle
			if o, err := p.run(b.Context(), "Ns.T", time.Minute, nil); err != nil || o.GetSuccess() == nil {
				b.Error(o, err)
				return
			}
			idle <- p
		}
	})
}

// BenchmarkHandler is the price of a no-op run inside a worker: state, chunk, run, output.
func BenchmarkHandler(b *testing.B) {
	w, err := luavm.New(luavm.Options{Dir: scriptFolder(b, map[string]string{"T.lua": script("")}), Namespace: "Ns"})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	typ, err := w.Lookup(b.Context(), "Ns.T")
	if err != nil {
		b.Fatal(err)
	}
	run := &sdk.Run{ID: "r"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := typ.Run(b.Context(), run, nil); err != nil {
			b.Fatal(err)
		}
	}
}
