package core

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxTaskName is how many characters a task's name has at most.
const MaxTaskName = 128

// IsName reports whether s can name a task, pool or downstream: a letter or digit of any script, then letters,
// digits, ".", "_" and "-"; at most limit characters.
func IsName(s string, limit int) bool {
	for i, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && (i == 0 || !strings.ContainsRune("._-", r)) {
			return false
		}
	}
	return s != "" && utf8.RuneCountInString(s) <= limit
}
