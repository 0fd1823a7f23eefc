package core

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

var overlaps = []Overlap{OverlapSkip, OverlapQueue, OverlapCancel, OverlapTerminate, OverlapAllow}

// With writes an overlap policy with its number, as people do: queue(3); 0 is no number.
func (o Overlap) With(limit int) string {
	if o == "" || limit <= 0 {
		return string(o)
	}
	return string(o) + "(" + strconv.Itoa(limit) + ")"
}

// ParseOverlap reads what With writes; "" is no policy. ok is false if the text is neither a policy nor one with a number
// from 1 up. Whether that policy takes a number is not asked.
func ParseOverlap(text string) (o Overlap, limit int, ok bool) {
	name, number, numbered := strings.Cut(text, "(")
	if numbered {
		digits, closed := strings.CutSuffix(number, ")")
		n, err := strconv.ParseUint(digits, 10, 31)
		if !closed || err != nil || n == 0 || digits[0] == '0' {
			return "", 0, false
		}
		limit = int(n)
	}
	if o = Overlap(name); !slices.Contains(overlaps, o) && (o != "" || numbered) {
		return "", 0, false
	}
	return o, limit, true
}

// OverlapUnder gives the overlap policy of a run of a task whose effective policies are p, and its number: a backfill's own
// policy comes with its own number, and never with the task's.
func (r *Run) OverlapUnder(p Policies) (Overlap, int) {
	if r.Overlap != "" {
		return r.Overlap, r.OverlapLimit
	}
	return cmp.Or(p.Overlap, OverlapSkip), p.OverlapLimit
}
