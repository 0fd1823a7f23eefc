package luavm

import (
	"sort"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Functions of table that gopher-lua leaves without a bound in time or memory.
var tableFuncs = functions{
	"concat": tableConcat, "insert": tableInsert, "remove": tableRemove, "sort": tableSort,
}

func tableConcat(L *lua.LState) int {
	t, sep := L.CheckTable(1), L.OptString(2, "")
	from, to := L.OptInt(3, 1), L.OptInt(4, t.Len())
	b := budgetOf(L)
	total := 0
	for i := from; i <= to; i++ {
		switch v := t.RawGetInt(i).(type) {
		case lua.LString:
			total += len(v)
		case lua.LNumber:
			total += 24
		default:
			L.RaiseError("table.concat: item %d is %s, not a string or number; use tostring", i, typeName(v))
		}
		if i != to {
			total += len(sep)
		}
		if total > maxString {
			break
		}
	}
	b.give(L, total)
	b.charge(L, max(to-from, 0))
	var s strings.Builder
	s.Grow(total)
	for i := from; i <= to; i++ {
		s.WriteString(lua.LVAsString(t.RawGetInt(i)))
		if i != to {
			s.WriteString(sep)
		}
	}
	L.Push(lua.LString(s.String()))
	return 1
}

func tableInsert(L *lua.LState) int {
	t := L.CheckTable(1)
	switch L.GetTop() {
	case 2:
		t.Append(L.Get(2))
	case 3:
		at := L.CheckInt(2)
		n := t.Len()
		if at > n+1 || at < 1 {
			L.ArgError(2, "position out of bounds")
		}
		budgetOf(L).charge(L, (n-at)/32) // the items after it move
		t.Insert(at, L.Get(3))
	default:
		L.RaiseError("table.insert takes a table, an optional position and a value")
	}
	return 0
}

func tableRemove(L *lua.LState) int {
	t := L.CheckTable(1)
	n := t.Len()
	at := L.OptInt(2, n)
	if n == 0 || at < 1 || at > n {
		L.Push(lua.LNil)
		return 1
	}
	budgetOf(L).charge(L, (n-at)/32)
	L.Push(t.Remove(at))
	return 1
}

// tableSort sorts in place, with every comparison taken from the budget.
func tableSort(L *lua.LState) int {
	t := L.CheckTable(1)
	var less *lua.LFunction
	if L.GetTop() > 1 {
		less = L.CheckFunction(2)
	}
	s := &sorter{L: L, b: budgetOf(L), less: less, values: make([]lua.LValue, t.Len())}
	s.b.give(L, 16*min(len(s.values), maxString/16))
	for i := range s.values {
		s.values[i] = t.RawGetInt(i + 1)
	}
	sort.Sort(s)
	for i, v := range s.values {
		t.RawSetInt(i+1, v)
	}
	return 0
}

type sorter struct {
	L      *lua.LState
	b      *budget
	less   *lua.LFunction
	values []lua.LValue
}

func (s *sorter) Len() int      { return len(s.values) }
func (s *sorter) Swap(i, j int) { s.values[i], s.values[j] = s.values[j], s.values[i] }
func (s *sorter) Less(i, j int) bool {
	a, b := s.values[i], s.values[j]
	steps := 1
	if text, ok := a.(lua.LString); ok {
		steps += len(text) / 64
	}
	s.b.charge(s.L, steps)
	if s.less == nil {
		return s.L.LessThan(a, b)
	}
	s.L.Push(s.less)
	s.L.Push(a)
	s.L.Push(b)
	s.L.Call(2, 1)
	v := s.L.ToBool(-1)
	s.L.Pop(1)
	return v
}

// maxCoroutines bounds the coroutines of one run that have not ended; each takes about 45 KB.
const maxCoroutines = 1000

// coroutineFuncs wraps gopher-lua's functions. Its own create derives a context for each coroutine, which our budget
// cannot be the parent of: the coroutine would not be counted, and each would start a goroutine.
func coroutineFuncs(original map[string]lua.LValue) functions {
	create := original["create"].(*lua.LFunction).GFunction
	wrapFunc := original["wrap"].(*lua.LFunction).GFunction
	resume := original["resume"].(*lua.LFunction).GFunction
	yield := original["yield"].(*lua.LFunction).GFunction
	make := func(L *lua.LState, f lua.LGFunction) {
		L.CheckFunction(1)
		b := budgetOf(L)
		if b.session.coroutines >= maxCoroutines {
			L.RaiseError("the run has %d coroutines that have not ended; let some end first", maxCoroutines)
		}
		b.session.coroutines++
		b.give(L, 45<<10)
		L.RemoveContext()
		defer L.SetContext(b)
		f(L)
	}
	ended := func(L *lua.LState, thread *lua.LState, wasDead bool) {
		if thread.Dead && !wasDead {
			budgetOf(L).session.coroutines--
		}
	}
	return functions{
		"create": func(L *lua.LState) int {
			make(L, create)
			L.CheckThread(-1).SetContext(budgetOf(L))
			return 1
		},
		"resume": func(L *lua.LState) int {
			thread := L.CheckThread(1)
			dead := thread.Dead
			defer func() { ended(L, thread, dead) }()
			return resume(L)
		},
		"yield": func(L *lua.LState) int {
			if budgetOf(L).session.txThread == L { // gopher-lua would take the yield for the end of the transaction
				L.RaiseError("coroutine.yield cannot leave sql.tx; end the transaction first")
			}
			return yield(L)
		},
		"wrap": func(L *lua.LState) int {
			make(L, wrapFunc)
			call := L.CheckFunction(-1)
			thread := call.Upvalues[0].Value().(*lua.LState)
			thread.SetContext(budgetOf(L))
			inner := call.GFunction
			call.GFunction = func(L *lua.LState) int {
				dead := thread.Dead
				defer func() { ended(L, thread, dead) }()
				return inner(L)
			}
			return 1
		},
	}
}
