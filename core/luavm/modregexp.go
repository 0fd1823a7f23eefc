package luavm

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"

	lua "github.com/yuin/gopher-lua"
)

// Regular expressions of Go's regexp package (RE2): their time is linear in the text, whatever the expression.
var regexpFuncs = functions{
	"match": regexpMatch, "find": regexpFind, "find_all": regexpFindAll, "replace": regexpReplace,
}

const (
	maxExpression  = 1000 // bytes
	maxExpressions = 100  // compiled ones kept
	maxSearch      = 1e8  // bytes of text times states of the expression: the worst search takes about a second
)

// expression is a compiled expression; states is the length of its program.
type expression struct {
	*regexp.Regexp
	states int
}

var expressions = struct {
	sync.Mutex
	compiled map[string]*expression
}{compiled: map[string]*expression{}}

func expressionOf(L *lua.LState, n int) *expression {
	text := L.CheckString(n)
	if len(text) > maxExpression {
		L.ArgError(n, "the expression is longer than 1000 bytes")
	}
	expressions.Lock()
	defer expressions.Unlock()
	if re, ok := expressions.compiled[text]; ok {
		return re
	}
	compiled, err := regexp.Compile(text)
	if err != nil {
		L.ArgError(n, err.Error())
	}
	re := &expression{compiled, len(text)}
	if tree, err := syntax.Parse(text, syntax.Perl); err == nil {
		if program, err := syntax.Compile(tree.Simplify()); err == nil {
			re.states = len(program.Inst)
		}
	}
	if len(expressions.compiled) >= maxExpressions {
		clear(expressions.compiled)
	}
	expressions.compiled[text] = re
	return re
}

// textFor checks the text of a search and pays for it: a search is linear in the text, but cannot be interrupted.
func textFor(L *lua.LState, n int, re *expression) string {
	text := L.CheckString(n)
	if len(text)*re.states > maxSearch {
		L.ArgError(n, fmt.Sprintf("the text of %d bytes is too long for an expression of %d states; search it in parts", len(text), re.states))
	}
	budgetOf(L).charge(L, len(text)*re.states/10)
	return text
}

// regexpMatch is regexp.match(text, expression): whether it occurs.
func regexpMatch(L *lua.LState) int {
	re := expressionOf(L, 2)
	L.Push(lua.LBool(re.MatchString(textFor(L, 1, re))))
	return 1
}

// regexpFind is regexp.find(text, expression): the first match as a table {text, group 1, …}, or nil. A group that did
// not take part is "".
func regexpFind(L *lua.LState) int {
	re := expressionOf(L, 2)
	groups := re.FindStringSubmatch(textFor(L, 1, re))
	if groups == nil {
		L.Push(lua.LNil)
		return 1
	}
	L.Push(stringsTable(groups))
	return 1
}

// regexpFindAll is regexp.find_all(text, expression [, limit]): all matches, each as regexp.find gives it.
func regexpFindAll(L *lua.LState) int {
	re := expressionOf(L, 2)
	out := newTable(4, 0)
	out.Metatable = arrayMark
	limit := L.OptInt(3, 10_000)
	if limit < 1 || limit > 100_000 {
		L.ArgError(3, "1 to 100000 matches")
	}
	for _, groups := range re.FindAllStringSubmatch(textFor(L, 1, re), limit) {
		out.Append(stringsTable(groups))
	}
	L.Push(out)
	return 1
}

func stringsTable(values []string) *lua.LTable {
	t := newTable(len(values), 0)
	for _, v := range values {
		t.Append(lua.LString(v))
	}
	return t
}

// regexpReplace is regexp.replace(text, expression, replacement): $1 or ${name} in the replacement are groups.
func regexpReplace(L *lua.LState) int {
	re := expressionOf(L, 2)
	text, replacement := textFor(L, 1, re), L.CheckString(3)
	if len(replacement) > 10_000 {
		L.ArgError(3, "the replacement is longer than 10000 bytes")
	}
	// Matches do not overlap, so each $group adds at most the whole text once.
	worst := len(text) * (1 + strings.Count(replacement, "$"))
	if (len(text)+1)*len(replacement) > maxString/2 {
		worst += len(re.FindAllStringIndex(text, -1)) * len(replacement)
	}
	budgetOf(L).give(L, worst)
	out := re.ReplaceAllString(text, replacement)
	L.Push(lua.LString(out))
	return 1
}
