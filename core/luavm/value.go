package luavm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
)

const (
	maxExact     = 1 << 53 // integers up to here are exact in a Lua number
	maxJSONDepth = 100
	maxJSONBytes = 32 << 20 // of one text made by encode
)

// null stands for JSON's null and SQL's NULL where nil would make a key or an item vanish. It and the array metatable
// are shared by all states, so both are protected against change by a script.
var null = &lua.LUserData{Value: "null", Metatable: protectedTable("null", map[string]lua.LValue{
	"__tostring": goFunction(func(L *lua.LState) int {
		L.Push(lua.LString("null"))
		return 1
	}),
})}

// arrayMark is the metatable of tables that are JSON arrays even when empty.
var arrayMark = protectedTable("json.array", nil)

func protectedTable(name string, fields map[string]lua.LValue) *lua.LTable {
	t := &lua.LTable{Metatable: lua.LNil}
	t.RawSetString("__metatable", lua.LString(name))
	for k, v := range fields {
		t.RawSetString(k, v)
	}
	return t
}

func goFunction(f lua.LGFunction) *lua.LFunction { return &lua.LFunction{IsG: true, GFunction: f} }

// newTable makes a table with room for items and keys. Without a hint gopher-lua gives each table that gets a key a map
// for 32: a hundred thousand rows then take 300 MB instead of 70.
func newTable(items, keys int) *lua.LTable {
	var none *lua.LState // CreateTable does not look at it
	return none.CreateTable(items, keys)
}

// toJSON gives v as JSON text. A table is an array if json.array made it or if its keys are exactly 1 to n with n > 0;
// every other table, an empty one too, is an object, whose keys must be strings and come out sorted. tick, unless nil, is
// called for each value: a few tables that hold each other can stand for a great many.
func toJSON(v lua.LValue, tick func()) ([]byte, error) {
	e := encoder{tick: tick}
	err := e.value(v)
	return e.out, err
}

type encoder struct {
	out  []byte
	tick func()
	path []step // from the top to the value being written
}

// step is a key, or an item's number where key is "".
type step struct {
	key  string
	item int
}

func (e *encoder) fail(format string, args ...any) error {
	where := ""
	for _, s := range e.path {
		switch {
		case s.key == "":
			where += "[" + strconv.Itoa(s.item) + "]"
		case where == "":
			where = s.key
		default:
			where += "." + s.key
		}
	}
	if where == "" {
		where = "the value"
	}
	if len(where) > 200 {
		where = where[:200] + "…"
	}
	return fmt.Errorf(where+": "+format, args...)
}

func (e *encoder) value(v lua.LValue) error {
	if e.tick != nil {
		e.tick()
	}
	if len(e.path) > maxJSONDepth {
		return e.fail("more than %d tables inside each other, or a table that contains itself", maxJSONDepth)
	}
	if len(e.out) > maxJSONBytes {
		return fmt.Errorf("the JSON text is longer than %d MiB", maxJSONBytes>>20)
	}
	switch v := v.(type) {
	case *lua.LNilType:
		e.out = append(e.out, "null"...)
		return nil
	case lua.LBool:
		e.out = strconv.AppendBool(e.out, bool(v))
		return nil
	case lua.LString:
		e.out = appendJSONString(e.out, string(v))
		return nil
	case lua.LNumber:
		f := float64(v)
		switch {
		case math.IsNaN(f) || math.IsInf(f, 0):
			return e.fail("%v has no JSON form", f)
		case f == math.Trunc(f) && math.Abs(f) <= maxExact:
			e.out = strconv.AppendInt(e.out, int64(f), 10)
		default:
			e.out = strconv.AppendFloat(e.out, f, 'g', -1, 64)
		}
		return nil
	case *lua.LUserData:
		if v == null {
			e.out = append(e.out, "null"...)
			return nil
		}
	case *lua.LTable:
		return e.table(v)
	}
	return e.fail("%s has no JSON form", typeName(v))
}

func (e *encoder) table(t *lua.LTable) error {
	n := t.Len()
	var keys []string
	entries := 0
	var bad lua.LValue
	for k, _ := t.Next(lua.LNil); k != lua.LNil; k, _ = t.Next(k) {
		entries++
		switch k := k.(type) {
		case lua.LString:
			keys = append(keys, string(k))
		case lua.LNumber:
			if f := float64(k); f < 1 || f > float64(n) || f != math.Trunc(f) {
				bad = k
			}
		default:
			bad = k
		}
	}
	isArray := t.Metatable == arrayMark || n > 0
	switch {
	case bad != nil:
		return e.fail("the key %s has no JSON form; use string keys, or items 1 to n", bad)
	case isArray && len(keys) > 0:
		return e.fail("the table has both items and the key %q; JSON has arrays and objects, not both", keys[0])
	case isArray && entries != n:
		return e.fail("an array of %d has holes; put json.null there", n)
	}
	at := len(e.path)
	e.path = append(e.path, step{})
	if isArray {
		e.out = append(e.out, '[')
		for i := 1; i <= n; i++ {
			if i > 1 {
				e.out = append(e.out, ',')
			}
			e.path[at] = step{item: i}
			if err := e.value(t.RawGetInt(i)); err != nil {
				return err
			}
		}
		e.out = append(e.out, ']')
	} else {
		slices.Sort(keys)
		e.out = append(e.out, '{')
		for i, k := range keys {
			if i > 0 {
				e.out = append(e.out, ',')
			}
			e.out = append(appendJSONString(e.out, k), ':')
			e.path[at] = step{key: k}
			if err := e.value(t.RawGetString(k)); err != nil {
				return err
			}
		}
		e.out = append(e.out, '}')
	}
	e.path = e.path[:at]
	return nil
}

func appendJSONString(out []byte, s string) []byte {
	const hex = "0123456789abcdef"
	out = append(out, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				out = append(out, '\\', c)
			case c == '\n':
				out = append(out, '\\', 'n')
			case c == '\r':
				out = append(out, '\\', 'r')
			case c == '\t':
				out = append(out, '\\', 't')
			case c < 0x20 || c == 0x7f:
				out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			default:
				out = append(out, c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			out = append(out, "\uFFFD"...)
		} else {
			out = append(out, s[i:i+size]...)
		}
		i += size
	}
	return append(out, '"')
}

// fromJSON gives the Lua value of a JSON text. null becomes the null value, an array a table marked as array, and an
// integer beyond 2^53 a string of its digits, because a Lua number would change it.
//
// tick, unless nil, is called for each value made: a short text can stand for a great many tables.
func fromJSON(text []byte, tick func()) (lua.LValue, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := decodeValue(d, tick, 0)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the JSON text ends too early")
		}
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the JSON text goes on after its value, at byte %d", d.InputOffset())
	}
	return v, nil
}

func decodeValue(d *json.Decoder, tick func(), depth int) (lua.LValue, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("more than %d arrays and objects inside each other", maxJSONDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	if tick != nil {
		tick()
	}
	switch v := token.(type) {
	case nil:
		return null, nil
	case bool:
		return lua.LBool(v), nil
	case string:
		return lua.LString(v), nil
	case json.Number:
		return numberOf(string(v)), nil
	case json.Delim:
		if v == '[' {
			t := newTable(4, 0)
			t.Metatable = arrayMark
			for d.More() {
				item, err := decodeValue(d, tick, depth+1)
				if err != nil {
					return nil, err
				}
				t.Append(item)
			}
			_, err := d.Token()
			return t, err
		}
		t := newTable(0, 4)
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			item, err := decodeValue(d, tick, depth+1)
			if err != nil {
				return nil, err
			}
			t.RawSetString(key.(string), item) // the decoder allows nothing but a string here
		}
		_, err := d.Token()
		return t, err
	}
	return nil, fmt.Errorf("unexpected %v", token)
}

// numberOf gives a number, or the text itself where a float64 would not hold an integer exactly.
func numberOf(text string) lua.LValue {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return integerOf(n)
	}
	isInteger := true
	for i := range len(text) {
		if c := text[i]; c != '-' && (c < '0' || c > '9') {
			isInteger = false
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if isInteger || err != nil {
		return lua.LString(text)
	}
	return lua.LNumber(f)
}

func integerOf(n int64) lua.LValue {
	if -maxExact <= n && n <= maxExact {
		return lua.LNumber(n)
	}
	return lua.LString(strconv.FormatInt(n, 10))
}
