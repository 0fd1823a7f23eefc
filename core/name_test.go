package core

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzIsName holds it to its grammar; as a regular expression it takes megabytes, of which every process would pay.
func FuzzIsName(f *testing.F) {
	grammar := regexp.MustCompile(`^[\pL\pN][\pL\pN._-]{0,15}$`)
	for _, s := range []string{"", "a", "日终对账", "его-задача", "9_lives.v2", ".hidden", "-x", "a b", "a\n", "Ⅷ½", "e\u0301", "a\xff", "\xff", strings.Repeat("级", 16), strings.Repeat("级", 17)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := IsName(s, 16), grammar.MatchString(s); got != want {
			t.Errorf("IsName(%q) = %t, the grammar says %t", s, got, want)
		}
	})
}
