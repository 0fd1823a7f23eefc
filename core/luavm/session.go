package luavm

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// severity is the level of a log line.
type severity int

const (
	levelDebug severity = iota + 1
	levelInfo
	levelWarn
	levelError
)

// attr is one structured attribute of a log line.
type attr struct{ key, value string }

// attempt is what a script's run function can ask for.
type attempt struct {
	runID           string
	number          int
	token           int64
	fireAt          time.Time
	previousSuccess time.Time // zero: none
	zone            string
	checkpoint      []byte
	params          json.RawMessage
	traceparent     string                           // W3C trace context; empty: the run is not traced
	grant           func(need string) (string, bool) // "sql:business" -> DSN, "http" -> allow-list
}

// teller takes what a script says while it runs.
type teller interface {
	log(at time.Time, level severity, message string, attrs []attr)
	progress(done, total int64, note string)
	checkpoint(state []byte) error
}

// doer carries out an HTTP request; the real one refuses addresses the allow-list does not name.
type doer interface {
	Do(*http.Request) (*http.Response, error)
}

// session is everything one run of a script holds. It belongs to the interpreter's goroutine.
type session struct {
	attempt
	teller
	folder   *folder
	location *time.Location
	granted  map[string]string // grants the script also declares in needs
	db       *databases
	client   func(allowList string) (doer, error)

	describing bool // only the task table is wanted: nothing may be touched
	task       *lua.LTable
	required   map[string]lua.LValue
	undefined  string // the last global that was asked for and is not there
	coroutines int
	inTx       map[string]bool // databases with an open transaction
	txThread   *lua.LState     // the coroutine whose Go stack holds the innermost transaction
}

// denied says why a library may not be used in this run, or "".
func (s *session) denied(library string) string {
	switch library {
	case "http":
		if s.describing {
			return "http can be used inside run = function(ctx) … end only"
		}
		if _, ok := s.granted["http"]; !ok {
			return s.notGranted("http")
		}
	case "sql":
		if s.describing {
			return "sql can be used inside run = function(ctx) … end only"
		}
		for need := range s.granted {
			if strings.HasPrefix(need, "sql:") {
				return ""
			}
		}
		return s.notGranted("sql:<name>")
	}
	return ""
}

func (s *session) notGranted(need string) string {
	if _, ok := s.grant(need); ok {
		return need + " is not declared: add \"" + need + "\" to needs = { … } of the script"
	}
	return need + " is not granted to this run: declare it in needs = { … }, and have it granted to the namespace"
}

func (s *session) say(L *lua.LState, level severity, message string, attrs []attr) {
	b := budgetOf(L)
	b.give(L, len(message))
	b.charge(L, 50)
	if s.teller != nil {
		s.teller.log(time.Now(), level, message, attrs)
	}
}

// ctxOf gives the plain context of the run, for what leaves the interpreter.
func ctxOf(L *lua.LState) context.Context { return budgetOf(L).Context }

func sessionOf(L *lua.LState) *session { return budgetOf(L).session }
