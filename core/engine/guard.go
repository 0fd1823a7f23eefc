//go:build linux || darwin

package engine

import (
	"fmt"
	"strings"
)

// guard refuses what a reader's statement must not contain. readonly=1 alone is not enough in an embedded ClickHouse
// (measured with 26.7.3): the scalar function file() reads any file, DESCRIBE url(…) connects, INTO OUTFILE writes,
// KILL QUERY and BACKUP run, USE sticks. So a reader's statement must also be one statement that ClickHouse's own
// parser calls a read, call no table function but those that only make rows, and name none of the functions below.
type guard struct {
	tableFunctions map[string]bool // all of this library, in lower case
}

// rowMakers are the table functions that touch nothing but their arguments. Anything new is refused until listed.
var rowMakers = map[string]bool{
	"numbers": true, "numbers_mt": true, "zeros": true, "zeros_mt": true, "primes": true, "null": true, "values": true,
	"sqlstandardvalues": true, "generateseries": true, "generate_series": true, "generaterandom": true, "view": true,
	"format": true,
}

// deniedFunctions reach files, the network, or the inside of the process; in lower case. They are refused as bare
// words too: APPLY and the higher-order functions call a function by its name alone.
var deniedFunctions = map[string]bool{
	"file": true, "catboostevaluate": true, "modelevaluate": true, "addresstoline": true, "addresstolinewithinlines": true,
	"addresstosymbol": true, "demangle": true, "getclienthttpheader": true, "sleep": true, "sleepeachrow": true,
	"aiclassify": true, "aiextract": true, "aigenerate": true, "aitranslate": true, "aiembed": true,
	"getmacro": true, "getserversetting": true, "showcertificate": true, "fuzzquery": true,
}

// newGuard asks the library which table functions it has.
func newGuard(s *session) (*guard, error) {
	names, err := s.text("SELECT lower(name) FROM system.table_functions")
	if err != nil {
		return nil, err
	}
	g := &guard{tableFunctions: make(map[string]bool)}
	for name := range strings.SplitSeq(names, "\n") {
		g.tableFunctions[name] = true
	}
	return g, nil
}

// forReader gives the reason to refuse sql to a reader, or nil.
func (g *guard) forReader(sql string) *exception {
	s := scanner{sql: sql}
	first, _ := s.next()
	looksUp := first.is("EXISTS") || first.is("SHOW") || first.is("DESCRIBE") || first.is("DESC")
	s = scanner{sql: sql}
	var previous token
	for {
		t, some := s.next()
		if !some {
			return nil
		}
		if t.kind == tokenSymbol && t.text == "(" && previous.kind == tokenWord {
			name := strings.ToLower(previous.text)
			if g.tableFunctions[name] && !rowMakers[name] {
				return refuse("table function %s", previous.text)
			}
		}
		if t.kind == tokenWord {
			name := strings.ToLower(t.text)
			if deniedFunctions[name] || strings.HasPrefix(name, "ai_") {
				return refuse("function %s", t.text)
			}
			// libchdb's database `default` has a table for every path of the machine. ClickHouse refuses to read them,
			// but EXISTS would tell which there are.
			qualified := previous.kind == tokenSymbol && previous.text == "."
			if t.quoted && (qualified || looksUp) && strings.Contains(t.text, "/") {
				return refuse("name %q", t.text)
			}
		}
		previous = t
	}
}

// refuse is an exception of ClickHouse's kind for what a reader may not use.
func refuse(format string, args ...any) *exception {
	return &exception{code: codeReadonly, text: fmt.Sprintf("Code: %d. DB::Exception: The %s is not available in read-only queries. (READONLY)", codeReadonly, fmt.Sprintf(format, args...))}
}

// writesFile tells whether a statement reads or writes a file of the engine's own machine, which libchdb would do
// even in a read-only session. Nobody may.
func writesFile(sql string) bool {
	s := scanner{sql: sql}
	var previous token
	for {
		t, some := s.next()
		if !some {
			return false
		}
		if t.is("OUTFILE") && previous.is("INTO") || t.is("INFILE") && previous.is("FROM") {
			return true
		}
		previous = t
	}
}
