package luavm

import (
	"fmt"
	"strings"
)

// Bounds on source text. The parser and the compiler recurse and allocate by what they read, and nothing can stop them
// half way: a million nested brackets ended the process, 75,000 empty functions take half a gigabyte. So the
// source is measured first, by one pass that allocates almost nothing.
const (
	maxSource    = 1 << 20 // bytes
	maxNesting   = 200     // open brackets and blocks
	maxFunctions = 5000
	maxChain     = 2000 // operators of one expression that the parser must keep open: .. ^ - not #
)

type sourceProblem struct {
	line    int
	message string
}

// opens says which keywords open a block of their own. "for" and "while" open theirs with their "do".
var opens = map[string]bool{"do": true, "then": true, "function": true, "repeat": true}

// separators end an expression, so that the count of open operators starts again.
var separators = map[string]bool{
	"local": true, "return": true, "if": true, "while": true, "for": true, "in": true, "break": true, "goto": true,
}

// prescan measures src and refuses what would harm the parser. It knows just enough of Lua's words to skip strings and
// comments; whether the source is right is the parser's business.
func prescan(src string) *sourceProblem {
	if len(src) > maxSource {
		return &sourceProblem{1, fmt.Sprintf("the script has %d bytes; at most %d (1 MiB) are allowed", len(src), maxSource)}
	}
	line, functions, chain := 1, 0, 0
	var stack [maxNesting]int
	depth := 0
	push := func() bool {
		if depth == maxNesting {
			return false
		}
		stack[depth] = chain
		depth++
		return true
	}
	pop := func() {
		if depth > 0 {
			depth--
			chain = stack[depth]
		}
	}
	floor := func() {
		chain = 0
		if depth > 0 {
			chain = stack[depth-1]
		}
	}
	tooDeep := func() *sourceProblem {
		return &sourceProblem{line, fmt.Sprintf("more than %d brackets and blocks are nested here; flatten the table or the code", maxNesting)}
	}
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == '\n':
			line++
			i++
		case c == '-' && strings.HasPrefix(src[i:], "--"):
			i += 2
			if end, lines, ok := longBracket(src, i); ok {
				i, line = end, line+lines
				break
			}
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case c == '"' || c == '\'':
			i++
			for i < len(src) && src[i] != c && src[i] != '\n' {
				if src[i] == '\\' && i+1 < len(src) {
					i++
					if src[i] == '\n' {
						line++
					}
				}
				i++
			}
			i++
		case c == '[':
			if end, lines, ok := longBracket(src, i); ok {
				i, line = end, line+lines
				break
			}
			fallthrough
		case c == '(' || c == '{':
			i++
			if !push() {
				return tooDeep()
			}
		case c == ')' || c == ']' || c == '}':
			i++
			pop()
		case isWord(c):
			start := i
			for i < len(src) && (isWord(src[i]) || src[i] >= '0' && src[i] <= '9') {
				i++
			}
			word := src[start:i]
			switch {
			case opens[word]:
				if word == "function" {
					functions++
				}
				if word != "function" { // a function may stand inside an expression; the others begin a statement
					floor()
				}
				if !push() {
					return tooDeep()
				}
			case word == "end" || word == "until" || word == "elseif" || word == "else":
				pop()
				if word == "else" && !push() {
					return tooDeep()
				}
			case word == "not":
				chain++
			case separators[word]:
				floor()
			}
		case c == ',' || c == ';' || c == '=':
			i++
			floor()
		case c == '^' || c == '-' || c == '#':
			i++
			chain++
		case c == '.' && strings.HasPrefix(src[i:], ".."):
			i += 2
			chain++
		default:
			i++
		}
		if functions > maxFunctions {
			return &sourceProblem{line, fmt.Sprintf("the script has more than %d functions", maxFunctions)}
		}
		if chain > maxChain {
			return &sourceProblem{line, fmt.Sprintf("more than %d operators in one expression; build the value in steps (table.concat joins many strings)", maxChain)}
		}
	}
	return nil
}

func isWord(c byte) bool { return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// longBracket skips [[…]] or [=[…]=] at i. end is where the text goes on; an unclosed one reaches to the end.
func longBracket(src string, i int) (end, lines int, ok bool) {
	if i >= len(src) || src[i] != '[' {
		return 0, 0, false
	}
	level := 0
	for i+1+level < len(src) && src[i+1+level] == '=' {
		level++
	}
	if i+1+level >= len(src) || src[i+1+level] != '[' {
		return 0, 0, false
	}
	body := i + 2 + level
	closing := "]" + strings.Repeat("=", level) + "]"
	n := strings.Index(src[body:], closing)
	if n < 0 {
		return len(src), strings.Count(src[body:], "\n"), true
	}
	return body + n + len(closing), strings.Count(src[body:body+n], "\n"), true
}
