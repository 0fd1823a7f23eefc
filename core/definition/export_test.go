package definition

import "encoding/json"

// At gives what stands at a JSON path in a document, for tests; sound is false if the path breaks the grammar.
func At(text string, doc json.RawMessage) (value json.RawMessage, there, sound bool) {
	p, ok := parsePath(text)
	if !ok {
		return nil, false, false
	}
	value, there = p.in(doc)
	return value, there, true
}
