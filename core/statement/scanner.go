// Package statement reads ClickHouse's SQL closely enough to refuse what must not be asked: it cuts a text into tokens and holds
// what is out of bounds for every reader, and what more is for one who may see some namespaces only. It is pure.
package statement

import "strings"

// Kind is what a token of SQL is. Comments and white space are no tokens.
type Kind uint8

// The kinds of tokens.
const (
	Word   Kind = iota // an identifier or keyword, bare or quoted; its text is decoded
	Text               // a string, a number, a heredoc
	Symbol             // one byte of punctuation
)

// Token is one token of a statement.
type Token struct {
	Kind    Kind
	Text    string
	Quoted  bool
	Escaped bool // there is a backslash between its quotes
	Start   int  // offset of the token, bytes
	End     int  // offset behind it
}

// Scanner cuts ClickHouse SQL into tokens (src/Parsers/Lexer.cpp), only as finely as is needed here. It never fails:
// what ClickHouse would not accept either is cut somehow.
type Scanner struct {
	sql string
	at  int
}

// Scan begins to cut a text.
func Scan(sql string) *Scanner { return &Scanner{sql: sql} }

// Next gives the next token; false at the end.
func (s *Scanner) Next() (Token, bool) {
	for s.at < len(s.sql) {
		start, c := s.at, s.sql[s.at]
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
		case c == '\'':
			text, escaped := s.quoted('\'')
			return Token{Kind: Text, Text: text, Escaped: escaped, Start: start, End: s.at}, true
		case c == '`' || c == '"':
			text, escaped := s.quoted(c)
			return Token{Kind: Word, Text: text, Quoted: true, Escaped: escaped, Start: start, End: s.at}, true
		case strings.HasPrefix(rest, "“"), strings.HasPrefix(rest, "‘"):
			t := s.typographic(rest)
			t.Start = start
			return t, true
		case c >= 0x80:
			s.at++ // Unicode's white space, of which ClickHouse knows two dozen kinds; outside quotes it takes nothing else
		case c == '$':
			if body, ok := heredoc(rest); ok {
				s.at += body
				return Token{Kind: Text, Start: start, End: s.at}, true
			}
			s.at++
			return Token{Kind: Symbol, Text: "$", Start: start, End: s.at}, true
		case isWordByte(c):
			for s.at < len(s.sql) && (isWordByte(s.sql[s.at]) || s.sql[s.at] == '$') {
				s.at++
			}
			kind := Word
			if c >= '0' && c <= '9' {
				kind = Text
			}
			return Token{Kind: kind, Text: s.sql[start:s.at], Start: start, End: s.at}, true
		default:
			s.at++
			return Token{Kind: Symbol, Text: s.sql[s.at-1 : s.at], Start: start, End: s.at}, true
		}
	}
	return Token{}, false
}

// comment skips a block comment; they nest.
func (s *Scanner) comment() {
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

// quoted reads up to the closing quote and decodes escapes as ClickHouse does (parseComplexEscapeSequence of src/IO/ReadHelpers.cpp),
// so that `fi\x6ce` and `fi\Nle` are read as file.
func (s *Scanner) quoted(quote byte) (text string, escaped bool) {
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
			return b.String(), escaped
		case c == '\\' && s.at < len(s.sql):
			escaped = true
			s.escape(&b)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), escaped
}

// escape decodes what follows a backslash.
func (s *Scanner) escape(b *strings.Builder) {
	e := s.sql[s.at]
	s.at++
	switch i := strings.IndexByte("bfrntave0", e); {
	case e == 'x' && s.at+1 < len(s.sql):
		b.WriteByte(unhex(s.sql[s.at])<<4 | unhex(s.sql[s.at+1]))
		s.at += 2
	case e == 'N': // NULL in ClickHouse's own formats, and nothing here
	case i >= 0:
		b.WriteByte("\b\f\r\n\t\a\v\x1b\x00"[i])
	case e < ' ' || strings.IndexByte("\\`\"'/=", e) >= 0:
		b.WriteByte(e)
	default: // it stays, for LIKE and regular expressions
		b.WriteByte('\\')
		b.WriteByte(e)
	}
}

// typographic reads a word or text in curly quotes, which ClickHouse accepts.
func (s *Scanner) typographic(rest string) Token {
	open, shut, kind := "“", "”", Word
	if strings.HasPrefix(rest, "‘") {
		open, shut, kind = "‘", "’", Text
	}
	body := rest[len(open):]
	i := strings.Index(body, shut)
	if i < 0 {
		s.at = len(s.sql)
		return Token{Kind: kind, Text: body, Quoted: true, End: s.at}
	}
	s.at += len(open) + i + len(shut)
	return Token{Kind: kind, Text: body[:i], Quoted: true, End: s.at}
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

// Is reports whether the token is the keyword, in any case, not quoted.
func (t Token) Is(keyword string) bool {
	return t.Kind == Word && !t.Quoted && strings.EqualFold(t.Text, keyword)
}

// OutputFormat gives the format named by a FORMAT clause at the end of a statement, before SETTINGS at most, or "".
func OutputFormat(sql string) string {
	s := Scan(sql)
	depth, format := 0, ""
	var previous Token
	for {
		t, some := s.Next()
		switch {
		case !some, format != "" && t.Is("SETTINGS"):
			return format
		case t.Kind == Symbol && t.Text == "(":
			depth++
		case t.Kind == Symbol && t.Text == ")":
			depth--
		}
		switch {
		case depth == 0 && previous.Is("FORMAT") && t.Kind == Word:
			format = t.Text
		case t.Kind != Symbol || t.Text != ";":
			format = "" // what was taken for a format was something else
		}
		previous = t
	}
}
