// Package jsonpath says where in a JSON document a value stands: "$", then any number of .key, ["key"] and [n]. It is the
// part of RFC 9535 that names one value; unlike there, a key that begins with a digit, or has a "-", needs no quotes.
package jsonpath

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Key is one step down: a name in an object, or the index of an element.
type Key struct {
	Name  string
	Index int // -1: Name counts
}

// Path is the way from a document's root to a value.
type Path []Key

// maxKeys bounds what reading a document along a path costs.
const maxKeys = 64

var (
	plainKey  = regexp.MustCompile(`^\.[\pL\pN_-]+`)
	quotedKey = regexp.MustCompile(`^\["(?:[^"\\]|\\.)*"\]`)
	element   = regexp.MustCompile(`^\[(?:0|[1-9][0-9]{0,8})\]`)
)

// Parse reads a path of at most 64 keys; ok is false if it breaks the grammar.
func Parse(text string) (p Path, ok bool) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return nil, false
	}
	for rest != "" {
		k := Key{Index: -1}
		var token string
		if token = plainKey.FindString(rest); token != "" {
			k.Name = token[1:]
		} else if token = quotedKey.FindString(rest); token != "" {
			if json.Unmarshal([]byte(token[1:len(token)-1]), &k.Name) != nil {
				return nil, false
			}
		} else if token = element.FindString(rest); token != "" {
			k.Index, _ = strconv.Atoi(token[1 : len(token)-1])
		} else {
			return nil, false
		}
		if p = append(p, k); len(p) > maxKeys {
			return nil, false
		}
		rest = rest[len(token):]
	}
	return p, true
}

// String gives the path as Parse reads it.
func (p Path) String() string {
	var b strings.Builder
	b.WriteByte('$')
	for _, k := range p {
		switch {
		case k.Index >= 0:
			fmt.Fprintf(&b, "[%d]", k.Index)
		case plainKey.FindString("."+k.Name) == "."+k.Name:
			b.WriteString("." + k.Name)
		default:
			quoted, _ := json.Marshal(k.Name) // a string can always be written
			fmt.Fprintf(&b, "[%s]", quoted)
		}
	}
	return b.String()
}

// In gives the value at the path, as it is written in the document. The error says how far the document reaches: "nothing
// at $.rows[2]".
func (p Path) In(doc json.RawMessage) (json.RawMessage, error) {
	for i, k := range p {
		var list []json.RawMessage
		var object map[string]json.RawMessage
		var there bool
		switch {
		case k.Index < 0 && json.Unmarshal(doc, &object) == nil:
			doc, there = object[k.Name]
		case k.Index >= 0 && json.Unmarshal(doc, &list) == nil && k.Index < len(list):
			doc, there = list[k.Index], true
		}
		if !there {
			return nil, fmt.Errorf("nothing at %s", p[:i+1])
		}
	}
	if len(doc) == 0 {
		return nil, fmt.Errorf("nothing at %s", p)
	}
	return doc, nil
}
