package luavm

import (
	"errors"
	"fmt"
)

// Lua patterns, matched by the recursive descent the Lua 5.1 manual describes (section 5.4.1), with every step counted.
// gopher-lua's own matcher cannot be stopped: a hostile pattern ran 15 s past a 1 s deadline.
const (
	maxCaptures     = 32
	maxMatchDepth   = 200         // nested calls of match
	maxMatchSteps   = 100_000_000 // single characters compared by one call of a string function: about a second
	stepsPerCharge  = 1 << 14
	captureOpen     = -1 // length of a capture whose ')' has not come
	capturePosition = -2 // length of a "()" capture
)

var errPattern = fmt.Errorf("the pattern is too costly for this text: %d steps without an end; anchor it with ^, use fewer .- and .*, or use regexp", maxMatchSteps)

type capture struct{ start, length int }

// matcher matches one pattern against one text. charge is told of steps taken and may panic to end the run.
type matcher struct {
	src, pat string
	level    int
	captures [maxCaptures]capture
	depth    int
	steps    int
	charged  int // steps already told to charge
	charge   func(steps int)
}

// patternError is what match panics with; the string functions turn it into a Lua error.
type patternError struct{ error }

func (m *matcher) fail(format string, args ...any) {
	panic(patternError{fmt.Errorf(format, args...)})
}

func (m *matcher) step() {
	m.steps++
	if m.steps-m.charged >= stepsPerCharge {
		m.charge(m.steps - m.charged)
		m.charged = m.steps
		if m.steps > maxMatchSteps {
			panic(patternError{errPattern})
		}
	}
}

// try matches the pattern from index p of the pattern at index s of the text, from scratch. It gives the end of the
// match, or -1.
func (m *matcher) try(s, p int) int {
	m.level, m.depth = 0, 0
	m.step()
	return m.match(s, p)
}

func (m *matcher) match(s, p int) int {
	m.depth++
	if m.depth > maxMatchDepth {
		panic(patternError{errors.New("the pattern has too many parts")})
	}
	end := m.matchHere(s, p)
	m.depth--
	return end
}

func (m *matcher) matchHere(s, p int) int {
	for p < len(m.pat) {
		switch m.pat[p] {
		case '(':
			if p+1 < len(m.pat) && m.pat[p+1] == ')' {
				return m.open(s, p+2, capturePosition)
			}
			return m.open(s, p+1, captureOpen)
		case ')':
			return m.close(s, p+1)
		case '$':
			if p+1 == len(m.pat) {
				if s == len(m.src) {
					return s
				}
				return -1
			}
		case '%':
			if p+1 < len(m.pat) {
				switch c := m.pat[p+1]; {
				case c == 'b':
					if s = m.balance(s, p+2); s < 0 {
						return -1
					}
					p += 4
					continue
				case c == 'f':
					p += 2
					if p >= len(m.pat) || m.pat[p] != '[' {
						m.fail("%s", "a [set] is missing after %f in the pattern")
					}
					end := m.classEnd(p)
					var before, here byte
					if s > 0 {
						before = m.src[s-1]
					}
					if s < len(m.src) {
						here = m.src[s]
					}
					if m.inSet(before, p, end-1) || !m.inSet(here, p, end-1) {
						return -1
					}
					p = end
					continue
				case '0' <= c && c <= '9':
					if s = m.again(s, c); s < 0 {
						return -1
					}
					p += 2
					continue
				}
			}
		}
		end := m.classEnd(p)
		var suffix byte
		if end < len(m.pat) {
			suffix = m.pat[end]
		}
		switch suffix {
		case '?':
			if m.single(s, p, end) {
				if r := m.match(s+1, end+1); r >= 0 {
					return r
				}
			}
			p = end + 1
		case '+':
			if !m.single(s, p, end) {
				return -1
			}
			return m.longest(s+1, p, end)
		case '*':
			return m.longest(s, p, end)
		case '-':
			for {
				if r := m.match(s, end+1); r >= 0 {
					return r
				}
				if !m.single(s, p, end) {
					return -1
				}
				s++
			}
		default:
			if !m.single(s, p, end) {
				return -1
			}
			s++
			p = end
		}
	}
	return s
}

func (m *matcher) longest(s, p, end int) int {
	n := 0
	for m.single(s+n, p, end) {
		n++
	}
	for ; n >= 0; n-- {
		if r := m.match(s+n, end+1); r >= 0 {
			return r
		}
		m.step()
	}
	return -1
}

func (m *matcher) open(s, p, kind int) int {
	if m.level == maxCaptures {
		m.fail("the pattern has more than %d captures", maxCaptures)
	}
	m.captures[m.level] = capture{s, kind}
	m.level++
	r := m.match(s, p)
	if r < 0 {
		m.level--
	}
	return r
}

func (m *matcher) close(s, p int) int {
	for i := m.level - 1; i >= 0; i-- {
		if m.captures[i].length == captureOpen {
			m.captures[i].length = s - m.captures[i].start
			r := m.match(s, p)
			if r < 0 {
				m.captures[i].length = captureOpen
			}
			return r
		}
	}
	m.fail("a ) in the pattern closes nothing; write %%) for a bracket itself")
	return -1
}

func (m *matcher) balance(s, p int) int {
	if p+1 >= len(m.pat) {
		m.fail("two characters are missing after %%b in the pattern")
	}
	if s >= len(m.src) || m.src[s] != m.pat[p] {
		return -1
	}
	open, shut, depth := m.pat[p], m.pat[p+1], 1
	for i := s + 1; i < len(m.src); i++ {
		m.step()
		switch m.src[i] {
		case shut:
			depth--
			if depth == 0 {
				return i + 1
			}
		case open:
			depth++
		}
	}
	return -1
}

// again matches %1 … %9: the text of an earlier capture.
func (m *matcher) again(s int, c byte) int {
	i := int(c - '1')
	if i < 0 || i >= m.level || m.captures[i].length < 0 {
		m.fail("%%%c in the pattern names no finished capture", c)
	}
	text := m.src[m.captures[i].start : m.captures[i].start+m.captures[i].length]
	m.steps += len(text) / 16
	m.step()
	if len(m.src)-s < len(text) || m.src[s:s+len(text)] != text {
		return -1
	}
	return s + len(text)
}

// classEnd gives the index after the single-character class that begins at p.
func (m *matcher) classEnd(p int) int {
	c := m.pat[p]
	p++
	switch c {
	case '%':
		if p >= len(m.pat) {
			m.fail("the pattern ends with %%; write %%%% for the character itself")
		}
		return p + 1
	case '[':
		if p < len(m.pat) && m.pat[p] == '^' {
			p++
		}
		for first := true; first || p >= len(m.pat) || m.pat[p] != ']'; first = false {
			if p >= len(m.pat) {
				m.fail("a ] is missing in the pattern; write %%[ for a bracket itself")
			}
			if m.pat[p] == '%' {
				p++
			}
			p++
		}
		return p + 1
	}
	return p
}

func (m *matcher) single(s, p, end int) bool {
	if s >= len(m.src) {
		return false
	}
	m.step()
	c := m.src[s]
	switch m.pat[p] {
	case '.':
		return true
	case '%':
		return inClass(c, m.pat[p+1])
	case '[':
		m.steps += (end - p) / 8
		return m.inSet(c, p, end-1)
	}
	return m.pat[p] == c
}

// inSet matches c against the set whose '[' is at p and whose ']' is at end.
func (m *matcher) inSet(c byte, p, end int) bool {
	found := true
	p++
	if m.pat[p] == '^' {
		found = false
		p++
	}
	for ; p < end; p++ {
		switch {
		case m.pat[p] == '%':
			p++
			if inClass(c, m.pat[p]) {
				return found
			}
		case p+2 < end && m.pat[p+1] == '-':
			if m.pat[p] <= c && c <= m.pat[p+2] {
				return found
			}
			p += 2
		case m.pat[p] == c:
			return found
		}
	}
	return !found
}

func inClass(c, class byte) bool {
	var in bool
	switch class | 0x20 {
	case 'a':
		in = isLetter(c)
	case 'c':
		in = c < 0x20 || c == 0x7f
	case 'd':
		in = '0' <= c && c <= '9'
	case 'l':
		in = 'a' <= c && c <= 'z'
	case 'p':
		in = c > 0x20 && c < 0x7f && !isLetter(c) && (c < '0' || c > '9')
	case 's':
		in = c == ' ' || '\t' <= c && c <= '\r'
	case 'u':
		in = 'A' <= c && c <= 'Z'
	case 'w':
		in = isLetter(c) || '0' <= c && c <= '9'
	case 'x':
		in = '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
	case 'z':
		in = c == 0
	default:
		return class == c
	}
	if 'A' <= class && class <= 'Z' {
		return !in
	}
	return in
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
