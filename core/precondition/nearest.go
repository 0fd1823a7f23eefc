package precondition

// nearest gives the name that is most like another, or "" if none is much like it.
func nearest(name string, there []string) string {
	best, least := "", max(1, len(name)/3)+1
	if len(name) > 64 {
		return ""
	}
	for _, t := range there {
		if d := distance(name, t); d < least {
			best, least = t, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out, changed or swapped with the next to make b of a.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
