package luavm

import (
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const maxAttrs = 64

var logFuncs = functions{
	"debug": logAt(levelDebug), "info": logAt(levelInfo), "warn": logAt(levelWarn), "error": logAt(levelError),
}

// logAt is log.info(message [, {key = value, …}]). A table as a value is written as JSON.
func logAt(level severity) lua.LGFunction {
	return func(L *lua.LState) int {
		message := L.ToStringMeta(L.CheckAny(1)).String()
		var attrs []attr
		if t, ok := L.Get(2).(*lua.LTable); ok {
			for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
				if len(attrs) == maxAttrs {
					L.ArgError(2, "a log line may have at most 64 attributes")
				}
				text := ""
				if inner, ok := v.(*lua.LTable); ok {
					encoded, err := toJSON(inner, ticker(L, 10))
					if err != nil {
						L.ArgError(2, err.Error())
					}
					text = string(encoded)
				} else {
					text = L.ToStringMeta(v).String()
				}
				attrs = append(attrs, attr{k.String(), text})
			}
			slices.SortFunc(attrs, func(a, b attr) int { return strings.Compare(a.key, b.key) })
		} else if L.GetTop() > 1 {
			L.ArgError(2, "the attributes are a table: log.info(\"sent\", { count = n })")
		}
		sessionOf(L).say(L, level, message, attrs)
		return 0
	}
}

var jsonFuncs = functions{"encode": jsonEncode, "decode": jsonDecode, "array": jsonArray}

func jsonEncode(L *lua.LState) int {
	text, err := toJSON(L.CheckAny(1), ticker(L, 10))
	if err != nil {
		L.RaiseError("json.encode: %s", err.Error())
	}
	budgetOf(L).give(L, len(text))
	L.Push(lua.LString(text))
	return 1
}

func jsonDecode(L *lua.LState) int {
	text := L.CheckString(1)
	b := budgetOf(L)
	b.give(L, len(text))
	v, err := fromJSON([]byte(text), ticker(L, 50))
	if err != nil {
		L.RaiseError("json.decode: %s", err.Error())
	}
	L.Push(v)
	return 1
}

// jsonArray is json.array([table]): marks a table as an array, so that an empty one is [] and not {}.
func jsonArray(L *lua.LState) int {
	t := L.OptTable(1, newTable(0, 0))
	t.Metatable = arrayMark
	L.Push(t)
	return 1
}
