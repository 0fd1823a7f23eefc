package luavm

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const (
	maxString = 64 << 20 // bytes of one string
	maxValues = 100_000  // values string.byte and unpack give at once
)

// The string library. gopher-lua's own takes unbounded memory (rep, format, gsub) and time (find, match, gmatch, gsub).
var stringFuncs = functions{
	"byte": stringByte, "char": stringChar, "find": stringFind, "format": stringFormat, "gmatch": stringGmatch,
	"gsub": stringGsub, "len": stringLen, "lower": stringLower, "match": stringMatch, "rep": stringRep,
	"reverse": stringReverse, "sub": stringSub, "upper": stringUpper,
}

// concat is what ".." became: see concatName.
func concat(L *lua.LState) int {
	n := L.GetTop()
	total := 0
	plain := true
	for i := 1; i <= n; i++ {
		switch v := L.Get(i).(type) {
		case lua.LString:
			total += len(v)
		case lua.LNumber:
			total += 24
		default:
			plain = false
			if L.GetMetaField(v, "__concat") == lua.LNil && !hasConcat(L, i, n) {
				L.RaiseError("cannot join with .. : value %d of %d is %s; use tostring(v), or test for nil first", i, n, typeName(v))
			}
		}
	}
	b := budgetOf(L)
	b.give(L, total)
	if !plain {
		values := make([]lua.LValue, n)
		for i := range values {
			values[i] = L.Get(i + 1)
		}
		L.Push(concatMeta(L, values))
		return 1
	}
	if n == 2 { // by far the most frequent
		L.Push(lua.LString(lua.LVAsString(L.Get(1)) + lua.LVAsString(L.Get(2))))
		return 1
	}
	var s strings.Builder
	s.Grow(total)
	for i := 1; i <= n; i++ {
		s.WriteString(lua.LVAsString(L.Get(i)))
	}
	L.Push(lua.LString(s.String()))
	return 1
}

// hasConcat says whether a neighbour of operand i brings __concat along.
func hasConcat(L *lua.LState, i, n int) bool {
	return i > 1 && L.GetMetaField(L.Get(i-1), "__concat") != lua.LNil || i < n && L.GetMetaField(L.Get(i+1), "__concat") != lua.LNil
}

// concatMeta joins from the right, as Lua does, calling __concat where an operand is neither string nor number.
func concatMeta(L *lua.LState, values []lua.LValue) lua.LValue {
	acc := values[len(values)-1]
	for i := len(values) - 2; i >= 0; i-- {
		left := values[i]
		if lua.LVCanConvToString(left) && lua.LVCanConvToString(acc) {
			a, b := lua.LVAsString(left), lua.LVAsString(acc)
			budgetOf(L).give(L, len(a)+len(b))
			acc = lua.LString(a + b)
			continue
		}
		op := L.GetMetaField(left, "__concat")
		if op == lua.LNil {
			op = L.GetMetaField(acc, "__concat")
		}
		if op == lua.LNil {
			L.RaiseError("cannot join %s and %s with ..", typeName(left), typeName(acc))
		}
		L.Push(op)
		L.Push(left)
		L.Push(acc)
		L.Call(2, 1)
		acc = L.Get(-1)
		L.Pop(1)
	}
	return acc
}

func typeName(v lua.LValue) string {
	if v == lua.LNil {
		return "nil"
	}
	return "a " + v.Type().String()
}

// span turns Lua's 1-based, possibly negative from and to into Go's half-open range.
func span(n, from, to int) (int, int) {
	if from < 0 {
		from = max(n+from+1, 1)
	} else if from == 0 {
		from = 1
	}
	if to < 0 {
		to = n + to + 1
	}
	to = min(to, n)
	if from > to {
		return 0, 0
	}
	return from - 1, to
}

func stringByte(L *lua.LState) int {
	s := L.CheckString(1)
	i := L.OptInt(2, 1)
	from, to := span(len(s), i, L.OptInt(3, i))
	if to-from > maxValues {
		L.RaiseError("string.byte gives at most %d values at once", maxValues)
	}
	for _, c := range []byte(s[from:to]) {
		L.Push(lua.LNumber(c))
	}
	return to - from
}

func stringChar(L *lua.LState) int {
	out := make([]byte, L.GetTop())
	for i := range out {
		n := L.CheckInt(i + 1)
		if n < 0 || n > 255 {
			L.ArgError(i+1, "must be 0 to 255")
		}
		out[i] = byte(n)
	}
	L.Push(lua.LString(out))
	return 1
}

func stringLen(L *lua.LState) int {
	L.Push(lua.LNumber(len(L.CheckString(1))))
	return 1
}

func stringLower(L *lua.LState) int {
	s := L.CheckString(1)
	budgetOf(L).give(L, len(s))
	L.Push(lua.LString(strings.ToLower(s)))
	return 1
}

func stringUpper(L *lua.LState) int {
	s := L.CheckString(1)
	budgetOf(L).give(L, len(s))
	L.Push(lua.LString(strings.ToUpper(s)))
	return 1
}

func stringReverse(L *lua.LState) int {
	s := L.CheckString(1)
	budgetOf(L).give(L, len(s))
	out := make([]byte, len(s))
	for i := range out {
		out[i] = s[len(s)-1-i]
	}
	L.Push(lua.LString(out))
	return 1
}

func stringSub(L *lua.LState) int {
	s := L.CheckString(1)
	from, to := span(len(s), L.CheckInt(2), L.OptInt(3, -1))
	L.Push(lua.LString(s[from:to]))
	return 1
}

func stringRep(L *lua.LState) int {
	s, n := L.CheckString(1), L.CheckInt(2)
	if n <= 0 || s == "" {
		L.Push(lua.LString(""))
		return 1
	}
	if n > maxString { // before the product overflows
		n = maxString + 1
	}
	budgetOf(L).give(L, len(s)*n)
	L.Push(lua.LString(strings.Repeat(s, n)))
	return 1
}

// stringFormat knows Lua's directives: d i u c x X o e E f g G q s %, with flags, width and precision up to 99.
func stringFormat(L *lua.LState) int {
	format := L.CheckString(1)
	b := budgetOf(L)
	var out []byte
	arg := 1
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			out = append(out, format[i])
			continue
		}
		i++
		if i < len(format) && format[i] == '%' {
			out = append(out, '%')
			continue
		}
		start := i
		for i < len(format) && strings.IndexByte("-+ #0", format[i]) >= 0 {
			i++
		}
		flagsEnd := i
		for i < len(format) && (format[i] == '.' || '0' <= format[i] && format[i] <= '9') {
			i++
		}
		width, precision, _ := strings.Cut(format[flagsEnd:i], ".")
		if i >= len(format) || i-start > 12 || len(width) > 2 || len(precision) > 2 {
			L.ArgError(1, "a % in the format is not followed by a directive such as %d, %s, %5.2f or %%")
		}
		spec := "%" + format[start:i]
		arg++
		switch c := format[i]; c {
		case 'd', 'i', 'u':
			n := float64(L.CheckNumber(arg))
			if n != math.Trunc(n) || math.Abs(n) >= 1<<63 {
				out = fmt.Appendf(out, spec+".0f", math.Trunc(n))
				break
			}
			out = fmt.Appendf(out, spec+"d", int64(n))
		case 'c':
			out = append(out, byte(L.CheckInt(arg)))
		case 'x', 'X', 'o':
			out = fmt.Appendf(out, spec+string(c), L.CheckInt64(arg))
		case 'e', 'E', 'f', 'g', 'G':
			out = fmt.Appendf(out, spec+string(c), float64(L.CheckNumber(arg)))
		case 'q':
			out = appendQuoted(out, L.CheckString(arg))
		case 's':
			text := lua.LVAsString(L.ToStringMeta(L.CheckAny(arg)))
			b.give(L, len(out)+len(text))
			out = fmt.Appendf(out, spec+"s", text)
		default:
			L.ArgError(1, fmt.Sprintf("%%%c is not a directive of string.format", c))
		}
	}
	b.give(L, len(out))
	L.Push(lua.LString(out))
	return 1
}

func appendQuoted(out []byte, s string) []byte {
	out = append(out, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			out = append(out, '\\', c)
		case '\r':
			out = append(out, `\r`...)
		case 0:
			out = append(out, `\000`...)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}

func newMatcher(L *lua.LState, src, pat string) *matcher {
	b := budgetOf(L)
	return &matcher{src: src, pat: pat, charge: func(steps int) { b.charge(L, steps) }}
}

// guarded runs f and raises a patternError in Lua.
func guarded[T any](L *lua.LState, pat string, f func() T) T {
	defer func() {
		if r := recover(); r != nil {
			if pe, ok := r.(patternError); ok {
				if len(pat) > 60 {
					pat = pat[:60] + "…"
				}
				L.RaiseError("pattern %s: %s", strconv.Quote(pat), pe.Error())
			}
			panic(r)
		}
	}()
	return f()
}

// value gives capture i, or the whole match if the pattern has none.
func (m *matcher) value(i, start, end int) lua.LValue {
	if i >= m.level {
		if i == 0 {
			return lua.LString(m.src[start:end])
		}
		m.fail("%%%d names no capture of the pattern", i+1)
	}
	c := m.captures[i]
	switch c.length {
	case capturePosition:
		return lua.LNumber(c.start + 1)
	case captureOpen:
		m.fail("a ( in the pattern is never closed; write %%( for a bracket itself")
	}
	return lua.LString(m.src[c.start : c.start+c.length])
}

func (m *matcher) pushAll(L *lua.LState, start, end int, whole bool) int {
	n := m.level
	if n == 0 && whole {
		n = 1
	}
	for i := range n {
		L.Push(m.value(i, start, end))
	}
	return n
}

func stringFind(L *lua.LState) int  { return findOrMatch(L, true) }
func stringMatch(L *lua.LState) int { return findOrMatch(L, false) }

func findOrMatch(L *lua.LState, find bool) int {
	src, pat := L.CheckString(1), L.CheckString(2)
	init := L.OptInt(3, 1)
	if init < 0 {
		init = max(len(src)+init+1, 1)
	}
	init = max(init, 1) - 1
	if init > len(src) {
		L.Push(lua.LNil)
		return 1
	}
	if find && (L.ToBool(4) || !strings.ContainsAny(pat, "^$*+?.([%-")) {
		budgetOf(L).charge(L, len(src)/64)
		at := strings.Index(src[init:], pat)
		if at < 0 {
			L.Push(lua.LNil)
			return 1
		}
		L.Push(lua.LNumber(init + at + 1))
		L.Push(lua.LNumber(init + at + len(pat)))
		return 2
	}
	m := newMatcher(L, src, pat)
	return guarded(L, pat, func() int {
		start, end := m.next(init)
		if end < 0 {
			L.Push(lua.LNil)
			return 1
		}
		if find {
			L.Push(lua.LNumber(start + 1))
			L.Push(lua.LNumber(end))
			return 2 + m.pushAll(L, start, end, false)
		}
		return m.pushAll(L, start, end, true)
	})
}

// next finds the first match at or after s; end is -1 if there is none.
func (m *matcher) next(s int) (start, end int) {
	p := 0
	anchored := strings.HasPrefix(m.pat, "^")
	if anchored {
		p = 1
	}
	for ; s <= len(m.src); s++ {
		if end := m.try(s, p); end >= 0 {
			return s, end
		}
		if anchored {
			break
		}
	}
	return 0, -1
}

func stringGmatch(L *lua.LState) int {
	src, pat := L.CheckString(1), L.CheckString(2)
	at := 0
	L.Push(L.NewFunction(func(L *lua.LState) int {
		m := newMatcher(L, src, pat)
		return guarded(L, pat, func() int {
			if at > len(src) {
				return 0
			}
			start, end := m.next(at)
			if end < 0 {
				at = len(src) + 1
				return 0
			}
			at = end
			if end == start {
				at++
			}
			return m.pushAll(L, start, end, true)
		})
	}))
	return 1
}

func stringGsub(L *lua.LState) int {
	src, pat := L.CheckString(1), L.CheckString(2)
	repl := L.Get(3)
	switch repl.Type() {
	case lua.LTString, lua.LTNumber, lua.LTTable, lua.LTFunction:
	default:
		L.ArgError(3, "a string, table or function is expected as replacement")
	}
	limit := L.OptInt(4, math.MaxInt)
	b := budgetOf(L)
	m := newMatcher(L, src, pat)
	p := 0
	if strings.HasPrefix(pat, "^") {
		p = 1
	}
	count := 0
	out := guarded(L, pat, func() []byte {
		var out []byte
		for s := 0; s <= len(src); {
			end := -1
			if count < limit {
				end = m.try(s, p)
			}
			if end < 0 && (p == 1 || count >= limit) {
				return append(out, src[s:]...)
			}
			if end >= 0 {
				count++
				out = m.replace(L, out, repl, s, end)
				if len(out) > maxString {
					b.give(L, len(out))
				}
				b.charge(L, 1)
			}
			switch {
			case end > s:
				s = end
			case s < len(src):
				out = append(out, src[s])
				s++
			default:
				return out
			}
			if p == 1 {
				return append(out, src[s:]...)
			}
		}
		return out
	})
	b.give(L, len(out))
	L.Push(lua.LString(out))
	L.Push(lua.LNumber(count))
	return 2
}

// replace appends what stands for the match src[start:end].
func (m *matcher) replace(L *lua.LState, out []byte, repl lua.LValue, start, end int) []byte {
	var v lua.LValue
	switch r := repl.(type) {
	case *lua.LTable:
		v = L.GetTable(r, m.value(0, start, end))
	case *lua.LFunction:
		L.Push(r)
		L.Call(m.pushAll(L, start, end, true), 1)
		v = L.Get(-1)
		L.Pop(1)
	default:
		text := lua.LVAsString(repl)
		for i := 0; i < len(text); i++ {
			if text[i] != '%' || i+1 == len(text) {
				out = append(out, text[i])
				continue
			}
			i++
			switch c := text[i]; {
			case c == '0':
				out = append(out, m.src[start:end]...)
			case '1' <= c && c <= '9':
				out = append(out, lua.LVAsString(m.value(int(c-'1'), start, end))...)
			default:
				out = append(out, c)
			}
			if len(out) > maxString {
				budgetOf(L).give(L, len(out))
			}
		}
		return out
	}
	switch {
	case lua.LVIsFalse(v):
		return append(out, m.src[start:end]...)
	case !lua.LVCanConvToString(v):
		L.RaiseError("string.gsub: the replacement is %s; give a string or number", typeName(v))
	}
	return append(out, lua.LVAsString(v)...)
}
