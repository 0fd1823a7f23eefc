package definition

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// path says where in a JSON document a value stands: "$", then any number of .key, ["key"] and [n].
type path []step

type step struct {
	key   string
	index int // of an element; -1: it is a key
}

const (
	maxPathBytes = 512
	maxPathSteps = 32
)

var (
	plainKey  = regexp.MustCompile(`^\.[\pL_][\pL\pN_-]*`)
	quotedKey = regexp.MustCompile(`^\["(?:[^"\\]|\\.)*"\]`)
	element   = regexp.MustCompile(`^\[(?:0|[1-9][0-9]{0,8})\]`)
)

// parsePath reads a path; ok is false if it breaks the grammar.
func parsePath(text string) (p path, ok bool) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok || len(text) > maxPathBytes {
		return nil, false
	}
	for rest != "" {
		s := step{index: -1}
		var token string
		if token = plainKey.FindString(rest); token != "" {
			s.key = token[1:]
		} else if token = quotedKey.FindString(rest); token != "" {
			if json.Unmarshal([]byte(token[1:len(token)-1]), &s.key) != nil {
				return nil, false
			}
		} else if token = element.FindString(rest); token != "" {
			s.index, _ = strconv.Atoi(token[1 : len(token)-1])
		} else {
			return nil, false
		}
		if p = append(p, s); len(p) > maxPathSteps {
			return nil, false
		}
		rest = rest[len(token):]
	}
	return p, true
}

// in gives the value at the path, as it is written in the document; ok is false if there is none.
func (p path) in(doc json.RawMessage) (value json.RawMessage, ok bool) {
	for _, s := range p {
		if s.index >= 0 {
			var list []json.RawMessage
			if json.Unmarshal(doc, &list) != nil || s.index >= len(list) {
				return nil, false
			}
			doc = list[s.index]
			continue
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(doc, &object) != nil {
			return nil, false
		}
		if doc, ok = object[s.key]; !ok {
			return nil, false
		}
	}
	return doc, len(doc) > 0
}
