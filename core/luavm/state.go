package luavm

import (
	"fmt"
	"strings"
	"sync"

	lua "github.com/yuin/gopher-lua"
)

// functions is a library: name to function.
type functions map[string]lua.LGFunction

// Settings of a state, measured (libraries.md note C): growth by 1<<14 registers turns a table.concat of 200,000
// strings from 24 s into 0.3 s.
var stateOptions = lua.Options{
	SkipOpenLibs: true, CallStackSize: 200, RegistrySize: 1024, RegistryMaxSize: 1 << 20, RegistryGrowStep: 1 << 14,
}

// maxArrayIndex bounds the memory one assignment such as t[60000000] = 1 takes at once: 64 MiB instead of 1 GiB.
const maxArrayIndex = 1 << 22

// builtins are the function objects every state uses. They are made once and shared, because nothing in Lua can change
// a Go function; the tables that hold them are made anew for each state.
type builtins struct {
	base      map[string]lua.LValue
	strings   *lua.LTable                      // metatable of strings, until a script names string itself
	libraries map[string]map[string]lua.LValue // made when first named
	globals   *lua.LTable                      // metatable of the globals
}

var (
	buildOnce sync.Once
	built     *builtins
)

func shared() *builtins {
	buildOnce.Do(func() { built = build() })
	return built
}

func build() *builtins {
	lua.MaxArrayIndex = maxArrayIndex
	L := lua.NewState(stateOptions)
	defer L.Close()
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenMath, lua.OpenCoroutine} {
		L.Push(L.NewFunction(open))
		L.Call(0, 0)
	}
	b := &builtins{base: map[string]lua.LValue{}, libraries: map[string]map[string]lua.LValue{}}
	for _, name := range []string{
		"error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawset", "select",
		"tonumber", "tostring", "type", "xpcall", "_VERSION",
	} {
		b.base[name] = L.GetGlobal(name)
	}
	for name, f := range (functions{
		"assert": baseAssert, "print": basePrint, "setmetatable": baseSetMetatable, "require": baseRequire,
		"task": baseTask, "unpack": baseUnpack, concatName: concat,
	}) {
		b.base[name] = goFunction(f)
	}
	from := func(lib string, names ...string) map[string]lua.LValue {
		out := map[string]lua.LValue{}
		L.GetGlobal(lib).(*lua.LTable).ForEach(func(k, v lua.LValue) { out[k.String()] = v })
		for _, name := range names {
			delete(out, name)
		}
		return out
	}
	b.libraries["math"] = from("math", "randomseed")
	b.libraries["table"] = from("table")
	for name, f := range wrap(tableFuncs) {
		b.libraries["table"][name] = f
	}
	b.libraries["coroutine"] = from("coroutine")
	for name, f := range wrap(coroutineFuncs(b.libraries["coroutine"])) {
		b.libraries["coroutine"][name] = f
	}
	for name, lib := range map[string]functions{
		"log": logFuncs, "json": jsonFuncs, "time": timeFuncs, "http": httpFuncs, "sql": sqlFuncs, "regexp": regexpFuncs,
	} {
		b.libraries[name] = wrap(lib)
	}
	b.libraries["string"] = wrap(stringFuncs)
	methods := newTable(0, 16)
	for name, f := range b.libraries["string"] {
		methods.RawSetString(name, f)
	}
	b.strings = protectedTable("string", map[string]lua.LValue{"__index": methods})
	b.libraries["json"]["null"] = null
	b.libraries["sql"]["null"] = null
	b.globals = protectedTable("globals", map[string]lua.LValue{"__index": goFunction(globalIndex)})
	return b
}

func wrap(lib functions) map[string]lua.LValue {
	out := make(map[string]lua.LValue, len(lib))
	for name, f := range lib {
		out[name] = goFunction(f)
	}
	return out
}

// newState makes a state for one run: Only the base functions are put in; a library comes when it is first named.
func newState(b *budget) *lua.LState {
	s := shared()
	L := lua.NewState(stateOptions)
	L.SetContext(b)
	globals := L.G.Global
	for name, f := range s.base {
		globals.RawSetString(name, f)
	}
	globals.RawSetString("_G", globals)
	L.SetMetatable(lua.LString(""), s.strings)
	globals.Metatable = s.globals
	return L
}

// absent says what to use instead of what other Luas have.
var absent = map[string]string{
	"os":             "see time, log and ctx.params",
	"io":             "scripts have no files; see sql and http",
	"debug":          "use log.debug",
	"package":        "require loads files of the namespace's own folder",
	"load":           "write the code into the script",
	"loadstring":     "write the code into the script",
	"loadfile":       "require loads files of the namespace's own folder",
	"dofile":         "require loads files of the namespace's own folder",
	"module":         "return a table from the file and require it",
	"newproxy":       "use setmetatable",
	"collectgarbage": "memory is freed by itself",
	"setfenv":        "pass values as arguments",
	"getfenv":        "pass values as arguments",
	"channel":        "a run is one thread; see coroutine",
}

// globalIndex is called for a global that is not there yet: it makes a library, or says why there is none.
func globalIndex(L *lua.LState) int {
	globals := L.CheckTable(1)
	name, ok := L.Get(2).(lua.LString)
	if !ok {
		return 0
	}
	if lib, ok := shared().libraries[string(name)]; ok {
		s := budgetOf(L).session
		if why := s.denied(string(name)); why != "" {
			L.RaiseError("%s", why)
		}
		t := newTable(0, len(lib))
		for k, f := range lib {
			t.RawSetString(k, f)
		}
		if name == "string" { // function string.trim(s) … then also makes ("x"):trim() work
			t.RawSetString("__index", t)
			L.SetMetatable(lua.LString(""), t)
		}
		globals.RawSetString(string(name), t)
		L.Push(t)
		return 1
	}
	if instead, ok := absent[string(name)]; ok {
		L.RaiseError("%s is not available in a Gnomon script: %s", string(name), instead)
	}
	budgetOf(L).session.undefined = string(name)
	return 0
}

func baseAssert(L *lua.LState) int {
	if L.GetTop() == 0 {
		L.ArgError(1, "value expected")
	}
	if L.ToBool(1) {
		return L.GetTop()
	}
	switch v := L.Get(2).(type) {
	case *lua.LNilType:
		L.RaiseError("assertion failed")
	case lua.LString:
		L.RaiseError("%s", string(v))
	default:
		L.Error(v, 1)
	}
	return 0
}

// basePrint writes a line to the run's log at level info.
func basePrint(L *lua.LState) int {
	parts := make([]string, L.GetTop())
	for i := range parts {
		parts[i] = L.ToStringMeta(L.Get(i + 1)).String()
	}
	budgetOf(L).session.say(L, levelInfo, strings.Join(parts, "\t"), nil)
	return 0
}

// baseUnpack gives at most maxValues values: the registry grows by small steps, and a million of them take seconds.
func baseUnpack(L *lua.LState) int {
	t := L.CheckTable(1)
	from, to := L.OptInt(2, 1), L.OptInt(3, t.Len())
	if from > to {
		return 0
	}
	if from < -maxExact || to > maxExact || to-from >= maxValues {
		L.RaiseError("unpack gives at most %d values at once", maxValues)
	}
	budgetOf(L).charge(L, to-from)
	for i := from; i <= to; i++ {
		L.Push(t.RawGetInt(i))
	}
	return to - from + 1
}

// baseSetMetatable sets the metatable of a table, and of nothing else: the null value is shared by all runs.
func baseSetMetatable(L *lua.LState) int {
	t := L.CheckTable(1)
	L.CheckTypes(2, lua.LTNil, lua.LTTable)
	if mt, ok := t.Metatable.(*lua.LTable); ok && mt.RawGetString("__metatable") != lua.LNil {
		L.RaiseError("cannot change a protected metatable")
	}
	t.Metatable = L.Get(2)
	L.SetTop(1)
	return 1
}

// baseRequire loads a file of the namespace's own folder, once per run. Only files whose name begins with a lower-case
// letter can be required: the others are task types.
func baseRequire(L *lua.LState) int {
	name := L.CheckString(1)
	s := budgetOf(L).session
	if v, ok := s.required[name]; ok {
		if v == nil {
			L.RaiseError("require %q goes round in a circle", name)
		}
		L.Push(v)
		return 1
	}
	if !moduleName.MatchString(name) {
		L.RaiseError("require %q: name a file of the namespace's own folder that begins with a lower-case letter, without .lua", name)
	}
	src, err := s.folder.module(name)
	if err != nil {
		L.RaiseError("require %q: %s", name, err.Error())
	}
	if s.required == nil {
		s.required = map[string]lua.LValue{}
	}
	s.required[name] = nil
	L.Push(L.NewFunctionFromProto(src))
	L.Push(lua.LString(name))
	L.Call(1, 1)
	v := L.Get(-1)
	if v == lua.LNil {
		v = lua.LTrue
	}
	s.required[name] = v
	return 1
}

// baseTask marks the table a script returns.
func baseTask(L *lua.LState) int {
	t := L.CheckTable(1)
	budgetOf(L).session.task = t
	L.SetTop(1)
	return 1
}

// explain adds the usual way to mend a run-time error to its message.
func explain(message, undefined string) string {
	switch {
	case strings.Contains(message, "attempt to call a non-function object"):
		if undefined != "" {
			return message + fmt.Sprintf(" (%q is not defined: a spelling mistake, or a function that stands further down?)", undefined)
		}
		return message + " (what stands before the bracket is no function: nil, or a spelling mistake?)"
	case strings.Contains(message, "attempt to index a non-table object(nil)"):
		if undefined != "" {
			return message + fmt.Sprintf(" (%q is not defined, or a query gave no row)", undefined)
		}
		return message + " (the value before the dot is nil: no row, no such key, or a spelling mistake?)"
	case strings.Contains(message, "stack overflow"):
		return message + " (functions call each other more than 200 deep; use a loop)"
	case strings.Contains(message, "registry overflow"):
		return message + " (too many values at once in one call; use fewer arguments, or a table)"
	}
	return message
}
