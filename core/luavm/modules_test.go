package luavm_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/luavm"
	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

func TestStringLibraryIsLuas(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{("hello world"):find("o w"), 0}`:                                                                       `[5,0]`,
		`{select("#", ("hello"):find("l+")), (select(2, ("hello"):find("l+")))}`:                                 `[2,4]`,
		`{("a.b"):find(".", 1, true)}`:                                                                           `[2,2]`,
		`{("key = value"):match("^(%w+)%s*=%s*(%w+)$")}`:                                                         `["key","value"]`,
		`{("THE (quick) fox"):find("%((%a+)%)")}`:                                                                `[5,11,"quick"]`,
		`{("x"):match("()x()")}`:                                                                                 `[1,2]`,
		`{("f(a(b)c)d"):match("%b()")}`:                                                                          `["(a(b)c)"]`,
		`{("THE (quick) fox"):gsub("%f[%a]%a+", string.lower)}`:                                                  `["the (quick) fox",3]`,
		`{("hello"):gsub("", "-")}`:                                                                              `["-h-e-l-l-o-",6]`,
		`{("abc"):gsub("%w", "%0%0", 2)}`:                                                                        `["aabbc",2]`,
		`{("$name is $age"):gsub("%$(%w+)", {name = "Bob"})}`:                                                    `["Bob is $age",2]`,
		`{("  trim  "):match("^%s*(.-)%s*$")}`:                                                                   `["trim"]`,
		`{("2026-11-20"):match("(%d+)-(%d+)-(%d+)")}`:                                                            `["2026","11","20"]`,
		`{("abc"):sub(-2), ("abc"):sub(2, 2), ("abc"):sub(0), ("abc"):sub(5)}`:                                   `["bc","b","abc",""]`,
		`{("abc"):byte(1, -1)}`:                                                                                  `[97,98,99]`,
		`{string.char(104, 105), ("ab"):rep(3), ("abc"):reverse(), ("aB"):upper(), #("医院")}`:                     `["hi","ababab","cba","AB",6]`,
		`{string.format("%5.2f|%-4s|%04d|%x|%q|%%|%s|%g", 1.005, "a", 7, 255, 'a"b', nil, 0.1)}`:                 `[" 1.00|a   |0007|ff|\"a\\\"b\"|%|nil|0.1"]`,
		`(function() local t = {} for k, v in ("a=1,b=2"):gmatch("(%w+)=(%w+)") do t[k] = v end return t end)()`: `{"a":"1","b":"2"}`,
		`{"a" .. 1 .. 2.5 .. "b", 1 .. ""}`:                                                                      `["a12.5b","1"]`,
		`{table.concat({1, "b", 3}, "-"), table.concat({}), table.concat({"a", "b", "c"}, ",", 2, 3)}`:           `["1-b-3","","b,c"]`,
		`(function() local t = {5, 2, 9} table.sort(t, function(a, b) return a > b end) table.insert(t, 1, 0) table.insert(t, 7) return {t, table.remove(t, 1), table.remove(t)} end)()`: `[[9,5,2],0,7]`,
		`(function() local s = {} for i = 1, 120 do s[i] = "x" end return #(` + strings.Repeat(`"ab" .. `, 119) + `"ab") end)()`:                                                         `240`,
		`{tostring(1e15), tostring(2^53), 7 % 3, -7 % 3, math.floor(3.7), 10 / 4}`:                                                                                                       `["1000000000000000","9007199254740992",1,2,3,2.5]`,
		`{(function(...) return select("#", ...) end)(unpack({1, nil, 3}, 1, 3))}`:                                                                                                       `[3]`,
		`{pcall(error, {message = "m"})}`:                                                                                     `[false,{"message":"m"}]`,
		`{coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b end)(1)}`:                                      `[2]`,
		`(function() local function sum(n) if n == 0 then return 0 end return n + sum(n - 1) end return sum(150) end)()`:      `11325`,
		`(function() local function f(a, ...) if a == 0 then return ... end return f(a - 1, a, ...) end return {f(3)} end)()`: `[1,2,3]`,
	} {
		if got := output(t, "return "+body, nil); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
}

func TestJSONKeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`json.decode('{"a":null,"b":[],"c":{},"d":[1,null,"x"],"e":1.5,"f":true}')`:                              `{"a":null,"b":[],"c":{},"d":[1,null,"x"],"e":1.5,"f":true}`,
		`json.decode('[9007199254740992,9007199254740993,-9007199254740993,123456789012345678901]')`:             `[9007199254740992,"9007199254740993","-9007199254740993","123456789012345678901"]`,
		`{json.encode({}), json.encode(json.array()), json.encode(json.array{1}), json.encode({x = json.null})}`: `["{}","[]","[1]","{\"x\":null}"]`,
		`json.encode("\1\"\\\n\195\169\255")`:                                                                    `"\"\\u0001\\\"\\\\\\né�\""`,
		`{json.null == json.null, json.null == nil, tostring(json.null), json.null == sql.null}`:                 `[true,false,"null",true]`,
		`{json.encode(0.1), json.encode(1e300), json.encode(-0.5), json.encode(2^53)}`:                           `["0.1","1e+300","-0.5","9007199254740992"]`,
	} {
		if got := output(t, "return "+body, business(t)); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
	for body, says := range map[string]string{
		`json.encode(0/0)`: "no JSON form", `json.encode({[1] = 1, [3] = 3})`: "holes", `json.encode({[1.5] = 1})`: "key 1.5",
		`json.decode("{} x")`: "json.decode", `json.decode("")`: "ends too early", `json.encode({a = {b = print}})`: "a.b: a function",
	} {
		if got := failure(t, "return "+body, nil); !strings.Contains(got, says) {
			t.Errorf("%s gave %q, want %q", body, got, says)
		}
	}
}

func TestTimeIsMillisecondsAndKnowsZones(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{time.format(0), time.format(0, nil, "UTC"), time.format(1500, "%F %T.%L", "UTC")}`:                                                                `["1970-01-01T08:00:00+08:00","1970-01-01T00:00:00Z","1970-01-01 00:00:01.500"]`,
		`{time.parse("2026-11-20T08:00:00+08:00"), time.parse("2026-11-20 08:00:00"), time.parse("2026-11-20", nil, "UTC")}`:                                `[1795132800000,1795132800000,1795132800000]`,
		`{time.parse("20/11/2026 08:05", "%d/%m/%Y %H:%M", "UTC")}`:                                                                                         `[1795161900000]`,
		`(function() local t, why = time.parse("nonsense") return {t == nil, type(why)} end)()`:                                                             `[true,"string"]`,
		`{time.add(0, "1d2h"), time.add(0, 250), time.add(0, "-90s"), time.ms("1m30s")}`:                                                                    `[93600000,250,-90000,90000]`,
		`time.format(time.add(time.parse("2026-03-07 12:30:00", nil, "America/New_York"), {days = 1}, "America/New_York"), "%F %T %z", "America/New_York")`: `"2026-03-08 12:30:00 -0400"`,
		`time.format(time.add(time.parse("2024-01-31", nil, "UTC"), {months = 1}, "UTC"), "%F", "UTC")`:                                                     `"2024-03-02"`,
		`{time.now() == math.floor(time.now()), time.now() > 1700000000000, time.zone()}`:                                                                   `[true,true,"Asia/Shanghai"]`,
		`(function() local a = time.now() time.sleep("20ms") return time.now() - a >= 20 end)()`:                                                            `true`,
	} {
		if got := output(t, "return "+body, nil); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
}

func TestRegexpIsRE2(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{regexp.match("abc", "b"), regexp.match("abc", "^b")}`:                  `[true,false]`,
		`{regexp.find("id=42;", "id=(\\d+)(x)?"), regexp.find("a", "b") == nil}`: `[["id=42","42",""],true]`,
		`regexp.find_all("a1b2", "[a-z](\\d)")`:                                  `[["a1","1"],["b2","2"]]`,
		`regexp.replace("2026-11-20", "(\\d+)-(\\d+)-(\\d+)", "$3.$2.$1")`:       `"20.11.2026"`,
	} {
		if got := output(t, "return "+body, nil); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
	if got := failure(t, `return regexp.match("a", "(")`, nil); !strings.Contains(got, "missing closing") {
		t.Error(got)
	}
}

func business(t testing.TB) map[string]string {
	t.Helper()
	return map[string]string{"sql:business": "sqlite:" + filepath.Join(t.TempDir(), "business #1?.db")}
}

func TestSQLBindsTypesAndTransactions(t *testing.T) {
	t.Parallel()
	got := output(t, `
		sql.exec("business", "create table x (id integer primary key, a, b, c, d)")
		local r = sql.exec("business", "insert into x (a, b, c, d) values (?, ?, ?, ?), (?, ?, ?, ?)",
			1, 1.5, "o'x", nil, 2^53, true, sql.null, "9007199254740993")
		sql.exec("business", "insert into x (a) values (9007199254740993)")
		local rows = sql.query("business", "select * from x where id <= ? order by id", 3)
		local ok, why = pcall(sql.tx, "business", function(tx)
			tx.exec("delete from x")
			error("changed my mind")
		end)
		local left = sql.tx("business", function(tx)
			tx:exec("insert into x (a) values (?)", 4)
			return tx.query("select count(*) as n from x")[1].n, "second"
		end)
		local inside, nested = pcall(sql.tx, "business", function() sql.query("business", "select 1") end)
		return { affected = r.affected, last = r.last_id, rows = rows, rolled = { ok, why }, left = left,
		         empty = sql.query("business", "select 1 where 1 = 0"), nested = nested }`, business(t))
	const want = `{"affected":2,"empty":[],"last":2,"left":4,"nested":"Ns/T.lua:16: sql \"business\": a transaction is open; use tx.query and tx.exec inside sql.tx",` +
		`"rolled":[false,"Ns/T.lua:10: changed my mind"],"rows":[{"a":1,"b":1.5,"c":"o'x","id":1},` +
		`{"a":9007199254740992,"b":1,"d":"9007199254740993","id":2},{"a":"9007199254740993","id":3}]}`
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestSQLReachesNothingButItsGrant(t *testing.T) {
	t.Parallel()
	other := filepath.Join(t.TempDir(), "other.db")
	for body, says := range map[string]string{
		fmt.Sprintf(`sql.exec("business", "attach database '%s' as o")`, other):                 "too many attached",
		fmt.Sprintf(`sql.exec("business", "vacuum into '%s'")`, other):                          "too many attached",
		`sql.query("other", "select 1")`:                                                        "sql:other is not granted",
		`sql.query("business", "select load_extension('x')")`:                                   "",
		`sql.query("business", "select readfile('/etc/passwd')")`:                               "no such function",
		`sql.query("business", "selec 1")`:                                                      "in: selec 1",
		`local keep sql.tx("business", function(tx) keep = tx end) keep.query("select 1")`:      "transaction has ended",
		`sql.query("business", "select ?", {})`:                                                 "argument 1 is a table",
		`coroutine.wrap(function() sql.tx("business", function() coroutine.yield() end) end)()`: "cannot leave sql.tx",
	} {
		if got := failure(t, body, business(t)); !strings.Contains(got, says) {
			t.Errorf("%s gave %q, want %q", body, got, says)
		}
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("another file was made")
	}
	// A grant the script does not declare is not its own.
	h := host(t, scriptFolder(t, map[string]string{"T.lua": script(`sql.query("business", "select 1")`)}))
	r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T", Grants: business(t)})
	if r.Verdict != sdktest.Failed || !strings.Contains(r.Message, "needs = {") {
		t.Errorf("an undeclared grant: %+v", r)
	}
}

func TestSQLHandlesAreKeptBetweenRuns(t *testing.T) {
	t.Parallel()
	grants := map[string]string{"sql:m": "sqlite::memory:"} // lives as long as a connection does
	h := host(t, scriptFolder(t, map[string]string{"T.lua": script(`
		sql.exec("m", "create table if not exists n (i)")
		sql.exec("m", "insert into n values (1)")
		return sql.query("m", "select count(*) as n from n")[1].n`, `needs = {"sql:m"}`)}))
	for want := 1; want <= 3; want++ {
		r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T", Grants: grants})
		if string(r.Output) != fmt.Sprint(want) {
			t.Fatalf("run %d: %s %s", want, r.Output, r.Message)
		}
	}
}

func TestParametersOfAnyDatabaseAreQuestionMarks(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`select ?, ?`: `select $1, $2`,
		`select '?', "?", ? -- why?` + "\n" + `/* ? */ , ?`: `select '?', "?", $1 -- why?` + "\n" + `/* ? */ , $2`,
		`select $1, ?`: `select $1, ?`, `select $$?$$, ?`: `select $$?$$, $1`, `select '?`: `select '?`, `select 1`: `select 1`,
	} {
		if got := luavm.Numbered(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// TestRequestsBelongToTheTraceOfTheirAttempt: what a script asks carries the attempt's trace context, unless it says otherwise.
func TestRequestsBelongToTheTraceOfTheirAttempt(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		fmt.Fprint(w, strings.Join(r.Header.Values("traceparent"), "+"))
	}))
	t.Cleanup(server.Close)
	body := fmt.Sprintf(`
		local function said(headers) return http.get("%[1]s/", { headers = headers }).body end
		return { ctx.traceparent or "none", said(), http.post("%[1]s/", { json = {} }).body, http.get("%[1]s/moved").body,
			said { Traceparent = "own" }, said { TRACEPARENT = "own" }, said { traceparent = "" } }`, server.URL)
	h := host(t, scriptFolder(t, map[string]string{"T.lua": script(body, "needs = {'http'}")}))
	const parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	for traceparent, want := range map[string]string{
		parent:                    fmt.Sprintf(`["%[1]s","%[1]s","%[1]s","%[1]s","own","own",""]`, parent),
		"":                        `["none","","","","own","own",""]`, // the run is not traced
		parent + "\r\nHost: evil": `["none","","","","own","own",""]`, // what is no trace context is not passed on
		"00-abc-def-01":           `["none","","","","own","own",""]`,
	} {
		r := h.Run(t.Context(), sdktest.Attempt{Type: "Ns.T", Traceparent: traceparent, Grants: map[string]string{"http": strings.TrimPrefix(server.URL, "http://")}})
		if r.Err != nil || string(r.Output) != want {
			t.Errorf("with %q: %s %s %v", traceparent, r.Output, r.Message, r.Err)
		}
	}
}

func TestHTTPGoesToTheAllowListOnly(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			w.Header().Set("X-Method", r.Method)
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, `{"type":%q,"auth":%q,"length":%d}`, r.Header.Get("Content-Type"), r.Header.Get("Authorization"), r.ContentLength)
		case "/away":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
		case "/huge":
			for range 9 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		case "/slow":
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	grants := map[string]string{"http": strings.TrimPrefix(server.URL, "http://")}
	got := output(t, fmt.Sprintf(`
		local r = http.post("%[1]s/echo", { json = { a = 1 }, headers = { Authorization = "Bearer x" } })
		local g = http.get("%[1]s/echo")
		local p = http.request { method = "put", url = "%[1]s/echo", body = "12345", timeout = "5s" }
		return { r.status, r.headers["x-method"], r.json(), g.headers["x-method"], p.headers["x-method"], p:json().length }`, server.URL), grants)
	if got != `[202,"POST",{"auth":"Bearer x","length":7,"type":"application/json"},"GET","PUT",5]` {
		t.Error(got)
	}
	for body, says := range map[string]string{
		`http.get("http://127.0.0.1:1/")`:                         "refused",
		`http.get("http://localhost:1/")`:                         "refused",
		`http.get("http://169.254.169.254/")`:                     "refused",
		`http.get("` + server.URL + `/away")`:                     "refused",
		`http.get("` + server.URL + `/huge")`:                     "longer than 8 MiB",
		`http.get("file:///etc/passwd")`:                          "unsupported protocol",
		`http.get("` + server.URL + `/slow", {timeout = "50ms"})`: "no answer within 50ms",
		`http.get("` + server.URL + `/echo", {tiemout = "1s"})`:   `"tiemout"`,
		`http.get("` + server.URL + `/huge", {json = print})`:     "no JSON form",
	} {
		if got := failure(t, body, grants); !strings.Contains(got, says) {
			t.Errorf("%s gave %q, want %q", body, got, says)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestScriptsOfTheRepositoryKeepTheirPromises(t *testing.T) {
	t.Parallel()
	schema, err := os.ReadFile("../../deploy/demo/hospital/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	results, err := luavm.Test(t.Context(), luavm.TestOptions{
		Dir: "../../scripts", Schemas: map[string]string{"business": string(schema)}, Scratch: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for _, r := range results {
		tested[r.Type] = true
		if r.Problem != "" {
			t.Errorf("%s: %s: %s\n%s", r.Type, r.Name, r.Problem, strings.Join(r.Log, "\n"))
		}
	}
	files, err := filepath.Glob("../../scripts/*/[A-Z]*.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		typ := filepath.Base(filepath.Dir(path)) + "." + strings.TrimSuffix(filepath.Base(path), ".lua")
		if !strings.HasSuffix(typ, "_test") && !tested[typ] {
			t.Errorf("%s has no test", typ)
		}
	}
}

func TestATestThatFailsSaysWhere(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t, map[string]string{
		"T.lua": script(`return { n = 1 }`), "T_test.lua": "return test {\n a = function(t) t.equal(t.run().n, 2, 'the count') end,\n b = function(t) t.equal(t.run(), {n = 1}) end }",
		"U.lua": script(""), "U_test.lua": "return (", "V_test.lua": "return 1",
	})
	results, err := luavm.Test(t.Context(), luavm.TestOptions{Dir: dir, Scratch: t.TempDir()})
	if err != nil || len(results) != 4 {
		t.Fatalf("%v %v", results, err)
	}
	for i, says := range []string{"Ns/T_test.lua:2: the count: got 1, want 2", "", "Ns/U_test.lua:1:", "return test {"} {
		if p := results[i].Problem; says == "" && p != "" || !strings.Contains(p, says) {
			t.Errorf("%s %s: %q, want %q", results[i].Type, results[i].Name, p, says)
		}
	}
}
