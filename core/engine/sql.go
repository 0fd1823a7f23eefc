package engine

import "strings"

// tokenKind is what a token of SQL is. Comments and white space are no tokens.
type tokenKind uint8

const (
	tokenWord   tokenKind = iota // an identifier or keyword, bare or quoted; text is decoded
	tokenText                    // a string, a number, a heredoc
	tokenSymbol                  // one byte of punctuation
)

type token struct {
	kind   tokenKind
	text   string
	quoted bool
	end    int // offset behind the token
}

// scanner cuts ClickHouse SQL into tokens (src/Parsers/Lexer.cpp), only as finely as is needed here. It never fails:
// what ClickHouse would not accept either is cut somehow.
type scanner struct {
	sql string
	at  int
}

func (s *scanner) next() (token, bool) {
	for s.at < len(s.sql) {
		c := s.sql[s.at]
		rest := s.sql[s.at:]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v' || c == 0:
			s.at++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "#!"), strings.HasPrefix(rest, "# "):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				s.at += i + 1
			} else {
				s.at = len(s.sql)
			}
		case strings.HasPrefix(rest, "/*"):
			s.comment()
		case strings.HasPrefix(rest, "\u00a0"):
			s.at += len("\u00a0")
		case c == '\'':
			return token{kind: tokenText, text: s.quoted('\''), end: s.at}, true
		case c == '`' || c == '"':
			return token{kind: tokenWord, text: s.quoted(c), quoted: true, end: s.at}, true
		case strings.HasPrefix(rest, "“"), strings.HasPrefix(rest, "‘"):
			return s.typographic(rest), true
		case c == '$':
			if body, ok := heredoc(rest); ok {
				s.at += body
				return token{kind: tokenText, end: s.at}, true
			}
			s.at++
			return token{kind: tokenSymbol, text: "$", end: s.at}, true
		case isWordByte(c):
			start := s.at
			for s.at < len(s.sql) && (isWordByte(s.sql[s.at]) || s.sql[s.at] == '$') {
				s.at++
			}
			kind := tokenWord
			if c >= '0' && c <= '9' {
				kind = tokenText
			}
			return token{kind: kind, text: s.sql[start:s.at], end: s.at}, true
		default:
			s.at++
			return token{kind: tokenSymbol, text: s.sql[s.at-1 : s.at], end: s.at}, true
		}
	}
	return token{}, false
}

// comment skips a block comment; they nest.
func (s *scanner) comment() {
	depth := 0
	for s.at < len(s.sql) {
		switch {
		case strings.HasPrefix(s.sql[s.at:], "/*"):
			depth++
			s.at += 2
		case strings.HasPrefix(s.sql[s.at:], "*/"):
			depth--
			s.at += 2
			if depth == 0 {
				return
			}
		default:
			s.at++
		}
	}
}

// quoted reads up to the closing quote and decodes escapes as ClickHouse does, so that `fi\x6ce` is read as file.
func (s *scanner) quoted(quote byte) string {
	var b strings.Builder
	s.at++
	for s.at < len(s.sql) {
		c := s.sql[s.at]
		s.at++
		switch {
		case c == quote && s.at < len(s.sql) && s.sql[s.at] == quote:
			s.at++
			b.WriteByte(quote)
		case c == quote:
			return b.String()
		case c == '\\' && s.at < len(s.sql):
			e := s.sql[s.at]
			s.at++
			if e == 'x' && s.at+1 < len(s.sql) {
				b.WriteByte(unhex(s.sql[s.at])<<4 | unhex(s.sql[s.at+1]))
				s.at += 2
				continue
			}
			if i := strings.IndexByte("bfrntave0", e); i >= 0 {
				b.WriteByte("\b\f\r\n\t\a\v\x1b\x00"[i])
				continue
			}
			b.WriteByte(e)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// typographic reads a word or text in curly quotes, which ClickHouse accepts.
func (s *scanner) typographic(rest string) token {
	open, shut, kind := "“", "”", tokenWord
	if strings.HasPrefix(rest, "‘") {
		open, shut, kind = "‘", "’", tokenText
	}
	body := rest[len(open):]
	i := strings.Index(body, shut)
	if i < 0 {
		s.at = len(s.sql)
		return token{kind: kind, text: body, quoted: true, end: s.at}
	}
	s.at += len(open) + i + len(shut)
	return token{kind: kind, text: body[:i], quoted: true, end: s.at}
}

// heredoc gives the length of $tag$ … $tag$ at the start of rest.
func heredoc(rest string) (int, bool) {
	i := 1
	for i < len(rest) && isWordByte(rest[i]) {
		i++
	}
	if i >= len(rest) || rest[i] != '$' {
		return 0, false
	}
	tag := rest[:i+1]
	j := strings.Index(rest[i+1:], tag)
	if j < 0 {
		return 0, false
	}
	return i + 1 + j + len(tag), true
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0
}

func (t token) is(keyword string) bool {
	return t.kind == tokenWord && !t.quoted && strings.EqualFold(t.text, keyword)
}

// insertHead recognises an INSERT whose data follows the statement. head is the statement without its FORMAT clause
// and data the offset in sql at which data begins. ok is false for every other statement.
func insertHead(sql string) (head, format string, data int, ok bool) {
	s := scanner{sql: sql}
	first, some := s.next()
	if !some || !first.is("INSERT") {
		return "", "", 0, false
	}
	depth, before := 0, first.end
	for {
		t, some := s.next()
		if !some {
			return "", "", 0, false
		}
		switch {
		case t.text == "(" && t.kind == tokenSymbol:
			depth++
		case t.text == ")" && t.kind == tokenSymbol:
			depth--
		case depth > 0:
		case t.is("SELECT"), t.is("WITH"), t.is("WATCH"), t.is("INFILE"):
			return "", "", 0, false
		case t.is("VALUES"):
			return sql[:before], "Values", t.end, true
		case t.is("FORMAT"):
			name, some := s.next()
			if !some || name.kind != tokenWord {
				return "", "", 0, false
			}
			data = name.end
			for data < len(sql) && (sql[data] == ' ' || sql[data] == '\t' || sql[data] == '\r' || sql[data] == ';') {
				data++
			}
			if data < len(sql) && sql[data] == '\n' {
				data++
			}
			return sql[:before], name.text, data, true
		}
		before = t.end
	}
}

// outputFormat gives the format named by a FORMAT clause outside parentheses, or "".
func outputFormat(sql string) string {
	s := scanner{sql: sql}
	depth, format := 0, ""
	for {
		t, some := s.next()
		if !some {
			return format
		}
		switch {
		case t.kind == tokenSymbol && t.text == "(":
			depth++
		case t.kind == tokenSymbol && t.text == ")":
			depth--
		case depth == 0 && t.is("FORMAT"):
			save := s.at
			if name, some := s.next(); some && name.kind == tokenWord {
				format = name.text
			} else {
				s.at = save
			}
		}
	}
}
