package luavm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// TestOptions say which tests of scripts to run.
type TestOptions struct {
	Dir     string            // folder of scripts: Dir/<Namespace>/<Type>_test.lua
	Only    string            // full name of one task type; empty: all
	Schemas map[string]string // SQL that makes the database of the grant "sql:<name>", by name
	Scratch string            // an empty folder for the databases; the caller removes it
}

// TestResult is how one test of a script ended.
type TestResult struct {
	Type    string        // full name of the task type
	Name    string        // what the test is called
	Problem string        // why it failed; empty: it passed
	Log     []string      // what the script logged
	Took    time.Duration // wall time
}

// Test runs the tests beside the scripts of a folder, each with fresh databases, in this process. A script under test
// gets every "sql:<name>" of Schemas and "http"; its requests are answered by the test. The error means that tests could
// not be run at all; how they ended is in the results.
func Test(ctx context.Context, opts TestOptions) ([]TestResult, error) {
	files, err := filepath.Glob(filepath.Join(opts.Dir, "*", "*_test.lua"))
	if err != nil {
		return nil, fmt.Errorf("list tests: %w", err)
	}
	slices.Sort(files)
	var results []TestResult
	for _, path := range files {
		namespace := filepath.Base(filepath.Dir(path))
		typ := strings.TrimSuffix(filepath.Base(path), "_test.lua")
		if opts.Only != "" && opts.Only != namespace+"."+typ {
			continue
		}
		done, err := testFile(ctx, opts, namespace, typ, len(results))
		if err != nil {
			return results, err
		}
		results = append(results, done...)
	}
	return results, nil
}

// fixture is the world of one test.
type fixture struct {
	in     *interpreter
	typ    string
	table  *lua.LTable // the tests
	grants map[string]string
	said   []string
	reply  *lua.LFunction // answers HTTP requests
	state  *lua.LState
	runs   int
}

func testFile(ctx context.Context, opts TestOptions, namespace, typ string, first int) ([]TestResult, error) {
	folder, err := openFolder(opts.Dir, namespace)
	if err != nil {
		return nil, err
	}
	defer folder.close()
	full := namespace + "." + typ
	f, err := folder.load(typ + "_test")
	if err != nil {
		return nil, err
	}
	if f.problem != nil {
		return []TestResult{{Type: full, Name: "compiles", Problem: f.problem.Error()}}, nil
	}
	var results []TestResult
	var names []string
	for i := 0; i == 0 || i < len(names); i++ {
		fx := &fixture{typ: typ, grants: map[string]string{"http": "the test"}}
		fx.in = &interpreter{folder: folder, db: &databases{}, instructions: defaultInstructions, turn: make(chan struct{}, 1)}
		fx.in.client = func(string) (doer, error) { return fx, nil }
		result, found, err := fx.one(ctx, opts, f, names, i, filepath.Join(opts.Scratch, fmt.Sprintf("test-%d", first+i)))
		err = errors.Join(err, fx.in.db.close())
		if err != nil {
			return nil, err
		}
		names = found
		result.Type = full
		results = append(results, result)
	}
	return results, nil
}

// one runs test i. The names of all tests come from the first call.
func (fx *fixture) one(ctx context.Context, opts TestOptions, f *file, names []string, i int, scratch string) (TestResult, []string, error) {
	began := time.Now()
	if err := fx.databases(ctx, opts.Schemas, scratch); err != nil {
		return TestResult{}, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the test took longer than a minute"))
	defer cancel()
	s := &session{folder: fx.in.folder, location: time.UTC, granted: fx.grants, db: fx.in.db, client: fx.in.client, teller: fx}
	s.grant = fx.grant
	L := newState(newBudget(ctx, s, defaultInstructions, 0))
	defer L.Close()
	fx.state = L
	L.SetGlobal("test", L.NewFunction(func(L *lua.LState) int {
		fx.table = L.CheckTable(1)
		L.SetTop(1)
		return 1
	}))
	L.Push(L.NewFunctionFromProto(f.proto))
	if err := protect(func() error { return L.PCall(0, 0, nil) }); err != nil {
		return TestResult{Name: "loads", Problem: failureOf(L, err).message}, names, nil
	}
	if fx.table == nil {
		return TestResult{Name: "loads", Problem: f.proto.SourceName + `: return test { ["what is promised"] = function(t) … end }`}, names, nil
	}
	if names == nil {
		for k, _ := fx.table.Next(lua.LNil); k != lua.LNil; k, _ = fx.table.Next(k) {
			names = append(names, k.String())
		}
		slices.Sort(names)
		if len(names) == 0 {
			return TestResult{Name: "loads", Problem: f.proto.SourceName + ": there is no test in it"}, []string{""}, nil
		}
	}
	result := TestResult{Name: names[i]}
	L.Push(fx.table.RawGetString(names[i]))
	L.Push(fx.tools(L))
	if err := protect(func() error { return L.PCall(1, 0, nil) }); err != nil {
		failed := failureOf(L, err)
		result.Problem = failed.message + "\n" + failed.trace
	}
	result.Log, result.Took = fx.said, time.Since(began)
	return result, names, nil
}

func (fx *fixture) databases(ctx context.Context, schemas map[string]string, scratch string) error {
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return fmt.Errorf("make the folder of a test: %w", err)
	}
	for name, schema := range schemas {
		dsn := "sqlite:" + filepath.Join(scratch, name+".db")
		fx.grants["sql:"+name] = dsn
		db, err := fx.in.db.get(dsn)
		if err != nil {
			return err
		}
		if _, err := db.ExecContext(ctx, schema); err != nil {
			return fmt.Errorf("make the test database %q: %w", name, err)
		}
	}
	return nil
}

// tools is what a test gets: t.run, t.fails, t.equal, t.ok, t.answer, t.logs.
func (fx *fixture) tools(L *lua.LState) *lua.LTable {
	t := newTable(0, 0)
	for name, f := range (functions{
		// t.run([params [, options]]) runs the script and gives its output; options: run_id, attempt, checkpoint, zone.
		"run": func(L *lua.LState) int {
			output, failed := fx.run(L)
			if failed != nil {
				L.RaiseError("the run failed: %s", failed.Error())
			}
			v, err := fromJSON(append(output, ifEmpty(output)...), nil)
			if err != nil {
				L.RaiseError("the output: %s", err.Error())
			}
			L.Push(v)
			return 1
		},
		// t.fails([params [, options]]) runs the script, which must fail, and gives {message, permanent, retry_after}.
		"fails": func(L *lua.LState) int {
			_, err := fx.run(L)
			if err == nil {
				L.RaiseError("the run should have failed, and succeeded")
			}
			out := newTable(0, 0)
			out.RawSetString("message", lua.LString(err.Error()))
			if failed, ok := errors.AsType[*failure](err); ok {
				out.RawSetString("permanent", lua.LBool(failed.permanent))
				out.RawSetString("retry_after", lua.LNumber(failed.retryAfter.Milliseconds()))
			}
			L.Push(out)
			return 1
		},
		"equal": func(L *lua.LState) int {
			got, err1 := toJSON(L.Get(1), nil)
			want, err2 := toJSON(L.Get(2), nil)
			if err := errors.Join(err1, err2); err != nil {
				L.RaiseError("equal: %s", err.Error())
			}
			if !bytes.Equal(got, want) {
				L.RaiseError("%s: got %s, want %s", L.OptString(3, "not equal"), got, want)
			}
			return 0
		},
		"ok": func(L *lua.LState) int {
			if !L.ToBool(1) {
				L.RaiseError("%s", L.OptString(2, "not true"))
			}
			return 0
		},
		// t.answer(function(request) return {status=, headers=, body=} end) answers HTTP requests; returning nil stands for
		// a server that cannot be reached. A request has method, url, headers and body.
		"answer": func(L *lua.LState) int {
			fx.reply = L.CheckFunction(1)
			return 0
		},
		"logs": func(L *lua.LState) int {
			L.Push(stringsTable(fx.said))
			return 1
		},
	}) {
		t.RawSetString(name, L.NewFunction(f))
	}
	return t
}

func ifEmpty(output []byte) []byte {
	if len(output) == 0 {
		return []byte("null")
	}
	return nil
}

func (fx *fixture) run(L *lua.LState) ([]byte, error) {
	params, err := toJSON(L.OptTable(1, newTable(0, 0)), nil)
	if err != nil {
		L.RaiseError("the parameters: %s", err.Error())
	}
	options := L.OptTable(2, newTable(0, 0))
	fx.runs++
	a := attempt{
		runID: fmt.Sprintf("test-run-%d", fx.runs), number: 1, token: int64(fx.runs), fireAt: time.Now(),
		params: params, grant: fx.grant, zone: lua.LVAsString(options.RawGetString("zone")),
	}
	if id := lua.LVAsString(options.RawGetString("run_id")); id != "" {
		a.runID = id
	}
	if n, ok := options.RawGetString("attempt").(lua.LNumber); ok {
		a.number = int(n)
	}
	if c := options.RawGetString("checkpoint"); c != lua.LNil {
		if a.checkpoint, err = toJSON(c, nil); err != nil {
			L.RaiseError("the checkpoint: %s", err.Error())
		}
	}
	return fx.in.run(ctxOf(L), fx.typ, a, fx)
}

func (fx *fixture) grant(need string) (string, bool) {
	value, ok := fx.grants[need]
	return value, ok
}

// Do answers the script's HTTP request by the test's function.
func (fx *fixture) Do(r *http.Request) (*http.Response, error) {
	if fx.reply == nil {
		return nil, fmt.Errorf("the test answers no HTTP request; call t.answer first: %w", fs.ErrNotExist)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	request, headers := newTable(0, 0), newTable(0, 0)
	for name := range r.Header {
		headers.RawSetString(strings.ToLower(name), lua.LString(r.Header.Get(name)))
	}
	request.RawSetString("method", lua.LString(r.Method))
	request.RawSetString("url", lua.LString(r.URL.String()))
	request.RawSetString("headers", headers)
	request.RawSetString("body", lua.LString(body))
	L := fx.state
	L.Push(fx.reply)
	L.Push(request)
	if err := L.PCall(1, 1, nil); err != nil {
		return nil, err
	}
	answer, ok := L.Get(-1).(*lua.LTable)
	L.Pop(1)
	if !ok {
		return nil, errors.New("connection refused")
	}
	response := &http.Response{StatusCode: 200, Header: http.Header{}, Request: r}
	if n, ok := answer.RawGetString("status").(lua.LNumber); ok {
		response.StatusCode = int(n)
	}
	if t, ok := answer.RawGetString("headers").(*lua.LTable); ok {
		t.ForEach(func(k, v lua.LValue) { response.Header.Set(k.String(), v.String()) })
	}
	response.Body = io.NopCloser(strings.NewReader(lua.LVAsString(answer.RawGetString("body"))))
	return response, nil
}

func (fx *fixture) log(_ time.Time, level severity, message string, attrs []attr) {
	var line strings.Builder
	fmt.Fprintf(&line, "%s %s", [...]string{"", "debug", "info", "warn", "error"}[level], message)
	for _, a := range attrs {
		fmt.Fprintf(&line, " %s=%s", a.key, a.value)
	}
	fx.said = append(fx.said, line.String())
}

func (fx *fixture) progress(int64, int64, string) {}

func (fx *fixture) checkpoint([]byte) error { return nil }
