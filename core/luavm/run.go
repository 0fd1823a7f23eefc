package luavm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

const (
	describeInstructions = 10_000_000
	describeTimeout      = 2 * time.Second
	maxOutput            = 1 << 20
	maxCheckpoint        = 1 << 20
)

var errNoScript = errors.New("there is no such script")

// failure is how a script ended that did not do its work.
type failure struct {
	message    string
	trace      string
	permanent  bool
	retryAfter time.Duration
	cause      error // why the interpreter stopped it; nil: the script raised
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.cause }

// interpreter runs the scripts of one namespace.
type interpreter struct {
	folder       *folder
	db           *databases
	client       func(allowList string) (doer, error)
	instructions int64
	heapLimit    uint64
	turn         chan struct{} // one run at a time: its CPU and memory are the process's

	describing sync.Mutex // held while a script is asked what it is
}

// take waits for the turn; give gives it back.
func (in *interpreter) take(ctx context.Context) error {
	select {
	case in.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (in *interpreter) give() { <-in.turn }

// describe gives the file of a type and what its task table says. What is wrong with the script is in the file's
// problem; the error is errNoScript, or a fault of ours.
func (in *interpreter) describe(ctx context.Context, name string) (*file, error) {
	if !typeFile.MatchString(name) {
		return nil, errNoScript
	}
	in.describing.Lock()
	defer in.describing.Unlock()
	f, err := in.folder.load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoScript
	}
	if err != nil || f.problem != nil || f.about != nil {
		return f, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, describeTimeout, errors.New("the part outside run = function … end took longer than 2 s; move work into run"))
	defer cancel()
	s := &session{folder: in.folder, location: time.UTC, describing: true}
	s.grant = func(string) (string, bool) { return "", false }
	L := newState(newBudget(ctx, s, describeInstructions, in.heapLimit))
	defer L.Close()
	table, failed := in.load(L, s, f)
	if failed != nil {
		f.problem = failed
		return f, nil
	}
	if f.about, err = readDefinition(table); err != nil {
		f.problem = fmt.Errorf("%s/%s.lua:%d: %w", in.folder.namespace, name, taskLine(f.source), err)
	}
	return f, nil
}

// taskLine is the line the task table begins at.
func taskLine(source string) int {
	i := strings.Index(source, "task")
	for i >= 0 {
		rest := strings.TrimLeft(source[i+len("task"):], " \t({")
		if len(rest) < len(source)-i-len("task") {
			break
		}
		next := strings.Index(source[i+1:], "task")
		if next < 0 {
			return 1
		}
		i += 1 + next
	}
	return 1 + strings.Count(source[:max(i, 0)], "\n")
}

// load runs the script's chunk, which gives the task table.
func (in *interpreter) load(L *lua.LState, s *session, f *file) (*lua.LTable, *failure) {
	L.Push(L.NewFunctionFromProto(f.proto))
	if err := protect(func() error { return L.PCall(0, 1, nil) }); err != nil {
		return nil, failureOf(L, err)
	}
	table, ok := L.Get(-1).(*lua.LTable)
	L.SetTop(0)
	if !ok || table != s.task {
		return nil, &failure{message: f.proto.SourceName + ":1: the script returns no task; write return task { title = …, run = function(ctx) … end }", permanent: true}
	}
	return table, nil
}

// protect turns a panic that gopher-lua lets through into an error.
func protect(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if e, ok := r.(*lua.ApiError); ok {
				err = e
				return
			}
			err = fmt.Errorf("the interpreter failed: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// run carries out one attempt of a script and gives its output as JSON, or a *failure.
func (in *interpreter) run(ctx context.Context, name string, a attempt, t teller) (json.RawMessage, error) {
	if err := in.take(ctx); err != nil {
		return nil, err
	}
	defer in.give()
	f, err := in.describe(ctx, name)
	switch {
	case errors.Is(err, errNoScript):
		return nil, &failure{message: fmt.Sprintf("there is no script %s/%s.lua", in.folder.namespace, name), permanent: true}
	case err != nil:
		return nil, err
	case f.problem != nil:
		return nil, &failure{message: f.problem.Error(), permanent: true}
	}
	s := &session{attempt: a, teller: t, folder: in.folder, db: in.db, client: in.client, granted: map[string]string{}}
	for _, need := range f.about.needs {
		if grant, ok := a.grant(need); ok {
			s.granted[need] = grant
		}
	}
	if s.location, err = location(a.zone); err != nil { // "" is UTC
		return nil, &failure{message: fmt.Sprintf("the zone %q of the schedule is not known", a.zone), permanent: true}
	}
	full, findings := f.about.schema.Apply(a.params)
	if len(findings) > 0 {
		return nil, sdk.InvalidParameters(findings...)
	}
	s.params = full
	L := newState(newBudget(ctx, s, in.instructions, in.heapLimit))
	defer L.Close()
	table, failed := in.load(L, s, f)
	if failed == nil {
		var output json.RawMessage
		if output, failed = call(L, s, f, table); failed == nil {
			return output, nil
		}
	}
	if t != nil && failed.trace != "" {
		t.log(time.Now(), levelError, failed.message, []attr{{"traceback", failed.trace}})
	}
	return nil, failed
}

func call(L *lua.LState, s *session, f *file, table *lua.LTable) (json.RawMessage, *failure) {
	ctxTable, err := contextTable(s)
	if err != nil {
		return nil, &failure{message: err.Error(), permanent: true}
	}
	L.Push(table.RawGetString("run"))
	L.Push(ctxTable)
	if err := protect(func() error { return L.PCall(1, 1, nil) }); err != nil {
		return nil, failureOf(L, err)
	}
	result := L.Get(-1)
	if result == lua.LNil {
		return nil, nil
	}
	var output json.RawMessage
	err = protect(func() (err error) { // the ticker raises when the time is over
		output, err = toJSON(result, ticker(L, 10))
		return err
	})
	if raised, ok := errors.AsType[*lua.ApiError](err); ok {
		return nil, failureOf(L, raised)
	}
	if err == nil && len(output) > maxOutput {
		err = fmt.Errorf("it has %d bytes; at most 1 MiB is kept: return counts and a few ids", len(output))
	}
	if err != nil {
		return nil, &failure{message: fmt.Sprintf("%s: what run returned cannot be kept: %v", f.proto.SourceName, err), permanent: true}
	}
	return output, nil
}

// contextTable is the ctx a script's run function gets.
func contextTable(s *session) (*lua.LTable, error) {
	params := lua.LValue(newTable(0, 0))
	var err error
	if len(s.params) > 0 {
		if params, err = fromJSON(s.params, nil); err != nil {
			return nil, fmt.Errorf("parameters: %w", err)
		}
	}
	t, ok := params.(*lua.LTable)
	if !ok {
		return nil, errors.New("the parameters are not a JSON object")
	}
	ctx := newTable(0, 11)
	ctx.RawSetString("params", t)
	ctx.RawSetString("run_id", lua.LString(s.runID))
	ctx.RawSetString("attempt", lua.LNumber(s.number))
	ctx.RawSetString("token", integerOf(s.token))
	ctx.RawSetString("fire_at", lua.LNumber(s.fireAt.UnixMilli()))
	ctx.RawSetString("zone", lua.LString(s.location.String()))
	if !s.previousSuccess.IsZero() {
		ctx.RawSetString("previous_success", lua.LNumber(s.previousSuccess.UnixMilli()))
	}
	if s.traceparent != "" {
		ctx.RawSetString("traceparent", lua.LString(s.traceparent))
	}
	if len(s.attempt.checkpoint) > 0 {
		last, err := fromJSON(s.attempt.checkpoint, nil)
		if err != nil {
			return nil, fmt.Errorf("the last checkpoint is not JSON: %w", err)
		}
		ctx.RawSetString("last_checkpoint", last)
	}
	ctx.RawSetString("progress", progressFunction)
	ctx.RawSetString("checkpoint", checkpointFunction)
	return ctx, nil
}

var progressFunction = goFunction(func(L *lua.LState) int {
	if _, ok := L.Get(1).(*lua.LTable); ok { // ctx:progress(…)
		L.Remove(1)
	}
	done, total, note := L.CheckInt64(1), L.OptInt64(2, 0), L.OptString(3, "")
	if done < 0 || total < 0 {
		L.ArgError(1, "progress is not negative")
	}
	budgetOf(L).charge(L, 20)
	if t := sessionOf(L).teller; t != nil {
		t.progress(done, total, note[:min(len(note), 1000)])
	}
	return 0
})

var checkpointFunction = goFunction(func(L *lua.LState) int {
	state, err := toJSON(L.CheckTable(1), ticker(L, 10))
	if err == nil && len(state) > maxCheckpoint {
		err = fmt.Errorf("it has %d bytes; at most 1 MiB is kept", len(state))
	}
	if err == nil {
		if t := sessionOf(L).teller; t != nil {
			err = t.checkpoint(state)
		}
	}
	if err != nil {
		L.RaiseError("ctx.checkpoint: %s", err.Error())
	}
	budgetOf(L).charge(L, 100)
	return 0
})

// failureOf says what a script raised: error("…"), error{message=, permanent=true}, error{message=, retry_after="30s"},
// or a mistake the interpreter found.
func failureOf(L *lua.LState, err error) *failure {
	b := budgetOf(L)
	f := &failure{}
	raised, ok := errors.AsType[*lua.ApiError](err)
	if !ok {
		f.message = err.Error()
		return f
	}
	f.trace = strings.TrimSpace(raised.StackTrace)
	switch v := raised.Object.(type) {
	case *lua.LTable:
		f.message = lua.LVAsString(v.RawGetString("message"))
		f.permanent = lua.LVAsBool(v.RawGetString("permanent"))
		if wait := v.RawGetString("retry_after"); wait != lua.LNil {
			switch d, err := parseSpan(lua.LVAsString(wait)); {
			case wait.Type() == lua.LTNumber:
				f.retryAfter = time.Duration(float64(wait.(lua.LNumber)) * float64(time.Millisecond))
			case err != nil:
				f.message += fmt.Sprintf(" (retry_after is %s; write a span such as \"30s\")", wait)
			default:
				f.retryAfter = d
			}
		}
		if f.message == "" {
			f.message = "the script raised an error without a message"
		}
	case lua.LString:
		f.message = explain(string(v), b.session.undefined)
	default:
		f.message = "the script raised " + typeName(v) + ": " + v.String()
	}
	if b.err != nil { // stopped, whatever the script then raised
		f.cause, f.permanent, f.retryAfter = b.err, false, 0
	}
	return f
}
