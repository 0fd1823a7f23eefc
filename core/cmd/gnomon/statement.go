package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// statementError is what was said about a statement, so that its place can be shown.
type statementError struct {
	statement string
	err       error
}

// Error gives the words.
func (e *statementError) Error() string { return e.err.Error() }

// Unwrap gives what was said.
func (e *statementError) Unwrap() error { return e.err }

// position is how ClickHouse says where it stopped reading: a byte, from 1.
var position = regexp.MustCompile(`failed at position (\d+)`)

// quotedName is a name that a message of ClickHouse is about.
var quotedName = regexp.MustCompile("[`'\"]([^`'\"\\s]+)[`'\"]")

// excerpt prints the line of the statement that a message is about with a mark under the place, if the message names one.
func (e *statementError) excerpt(out io.Writer) {
	var remote *remoteError
	if !errors.As(e.err, &remote) || len(remote.problem.Errors) == 0 {
		return
	}
	at, length := placeIn(e.statement, remote.problem.Errors[0].MessageEn)
	if at < 0 {
		return
	}
	start := strings.LastIndexByte(e.statement[:at], '\n') + 1
	end := len(e.statement)
	if i := strings.IndexByte(e.statement[at:], '\n'); i >= 0 {
		end = at + i
	}
	line, before := e.statement[start:end], e.statement[start:at]
	const around = 60 // letters of a long line that are shown on each side
	if cut := []rune(before); len(cut) > around {
		kept := string(cut[len(cut)-around:])
		line, before = "…"+kept+line[len(before):], "…"+kept
	}
	if rest := []rune(line[len(before):]); len(rest) > around {
		line = before + string(rest[:around]) + "…"
	}
	show := strings.NewReplacer("\t", " ")
	before = show.Replace(harmless.Replace(before))
	number := ""
	if n := strings.Count(e.statement[:start], "\n"); strings.Contains(strings.TrimSpace(e.statement), "\n") {
		number = strconv.Itoa(n+1) + ": "
	}
	fmt.Fprintf(out, "  %s%s\n", number, show.Replace(harmless.Replace(line)))
	fmt.Fprintf(out, "  %s^%s\n", strings.Repeat(" ", len(number)+text.StringWidthWithoutEscSequences(before)), strings.Repeat("~", max(0, length-1)))
}

// placeIn finds the byte of a statement that a message is about, and how many letters from there; -1: it names none.
func placeIn(sql, message string) (at, length int) {
	if m := position.FindStringSubmatch(message); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n < 1 || n > len(sql)+1 {
			return -1, 0
		}
		at = n - 1
		for at > 0 && at < len(sql) && !utf8.RuneStart(sql[at]) {
			at--
		}
		return at, 1
	}
	words, texts := partsOf(sql)
	for _, m := range quotedName.FindAllStringSubmatch(message, -1) {
		name := m[1]
		if at, ok := texts[name]; ok && !strings.Contains(words, name) {
			return at, utf8.RuneCountInString(name)
		}
		for from := 0; ; {
			i := strings.Index(words[from:], name)
			if i < 0 {
				break
			}
			at, from = from+i, from+i+len(name)
			if !wordAt(sql, at-1) && !wordAt(sql, from) {
				return at, utf8.RuneCountInString(name)
			}
		}
	}
	return -1, 0
}

// partsOf gives a statement with blanks for all but its words and signs, and where its texts stand, inside their quotes: what
// a message names is not looked for in comments and in the middle of texts.
func partsOf(sql string) (words string, texts map[string]int) {
	left, texts := bytes.Repeat([]byte{' '}, len(sql)), map[string]int{}
	for scan := statement.Scan(sql); ; {
		t, ok := scan.Next()
		switch {
		case !ok:
			return string(left), texts
		case t.Kind != statement.Text:
			copy(left[t.Start:t.End], sql[t.Start:t.End])
		case sql[t.Start] == '\'' && !t.Escaped:
			if _, ok := texts[t.Text]; !ok {
				texts[t.Text] = t.Start + 1
			}
		}
	}
}

// wordAt tells whether a byte belongs to a word.
func wordAt(text string, i int) bool {
	if i < 0 || i >= len(text) {
		return false
	}
	c := text[i]
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}
