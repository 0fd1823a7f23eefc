package api

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Line is one line an attempt said.
type Line struct {
	Attempt int               `json:"attempt" doc:"Whose it is, from 1"`
	Seq     uint64            `json:"seq" doc:"From 1 without holes, per attempt"`
	At      *Time             `json:"at" doc:"By the clock of the process that said it"`
	Level   string            `json:"level" doc:"debug, info, warn or error"`
	Stream  string            `json:"stream" doc:"log, stdout, stderr or system (said by Gnomon)"`
	Message string            `json:"message" doc:"What was said"`
	Attrs   map[string]string `json:"attrs,omitempty" doc:"Structured attributes"`
}

func lineOut(l core.LoggedLine) Line {
	out := Line{
		Seq: l.Seq, At: instant(l.At), Level: l.Level.String(), Stream: l.Stream.String(), Message: l.Message,
	}
	if l.Origin != nil {
		out.Attempt = l.Origin.Attempt
	}
	if len(l.Attrs) > 0 {
		out.Attrs = make(map[string]string, len(l.Attrs))
		for _, a := range l.Attrs {
			out.Attrs[a.Key] = a.Value
		}
	}
	return out
}

// appendLine appends what json.Marshal gives of lineOut(l), without reflection: a live log has a hundred thousand of them in a
// second.
func appendLine(b []byte, l *core.LoggedLine) []byte {
	b = strconv.AppendInt(append(b, `{"attempt":`...), int64(placeOf(*l).attempt), 10)
	b = strconv.AppendUint(append(b, `,"seq":`...), l.Seq, 10)
	if b = append(b, `,"at":`...); l.At.IsZero() {
		b = append(b, "null"...)
	} else {
		b = append(l.At.UTC().AppendFormat(append(b, '"'), timeLayout), '"')
	}
	b = append(append(b, `,"level":"`...), l.Level.String()...)
	b = append(append(b, `","stream":"`...), l.Stream.String()...)
	b = appendText(append(b, `","message":`...), l.Message)
	if len(l.Attrs) > 0 {
		b = appendAttrs(append(b, `,"attrs":`...), l)
	}
	return append(b, '}')
}

// appendAttrs appends the attributes in the order of their keys; of those with the same key, the last.
func appendAttrs(b []byte, l *core.LoggedLine) []byte {
	for i, a := range l.Attrs {
		if i > 0 && l.Attrs[i-1].Key >= a.Key || !utf8.ValidString(a.Key) {
			return marshalled(b, lineOut(*l).Attrs)
		}
	}
	b = append(b, '{')
	for i, a := range l.Attrs {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(append(appendText(b, a.Key), ':'), a.Value)
	}
	return append(b, '}')
}

// appendText appends a JSON string as json.Marshal writes it.
func appendText(b []byte, s string) []byte {
	if strings.IndexFunc(s, escaped) < 0 {
		return append(append(append(b, '"'), s...), '"')
	}
	return marshalled(b, s)
}

// marshalled appends texts as json.Marshal writes them.
func marshalled(b []byte, texts any) []byte {
	text, err := json.Marshal(texts)
	if err != nil { // texts always can be
		panic(err)
	}
	return append(b, text...)
}

// escaped says that json.Marshal writes a character otherwise than it is, or may do so.
func escaped(r rune) bool {
	switch r {
	case '"', '\\', '<', '>', '&', '\u2028', '\u2029', utf8.RuneError:
		return true
	}
	return r < ' '
}
