package definition

import (
	"maps"
	"slices"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// names gives the keys of a map in order.
func names[T any](of map[string]T) []string { return slices.Sorted(maps.Keys(of)) }

// noSuch says that there is no thing of a name, which may have been meant, and which there are.
func noSuch(zh, en, several, name string, there []string) core.Text {
	said := core.Text{Zh: "没有" + zh + " " + name, En: "there is no " + en + " " + name}
	if name == "" {
		said = core.Text{Zh: "没有写" + zh + "的名称", En: "the name of the " + en + " is missing"}
	}
	if like := nearest(name, there); like != "" {
		return core.Text{Zh: said.Zh + "；是否指 " + like + "？", En: said.En + "; did you mean " + like + "?"}
	}
	if len(there) == 0 {
		return core.Text{Zh: said.Zh + "；目前一个也没有，请先创建", En: said.En + "; there are none at all, create it first"}
	}
	const shown = 10
	list := strings.Join(there[:min(shown, len(there))], ", ")
	if len(there) > shown {
		list += ", …"
	}
	return core.Text{Zh: said.Zh + "；现有：" + list, En: said.En + "; " + several + ": " + list}
}

// nearest gives the name that is most like another, or "" if none is much like it.
func nearest(name string, there []string) string {
	best, least := "", max(1, len(name)/3)+1
	for _, t := range there {
		if d := distance(strings.ToLower(name), strings.ToLower(t), least); d < least {
			best, least = t, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out, changed or swapped with the next to make b of a; or some number
// that is not below most.
func distance(a, b string, most int) int {
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) >= most || len(y)-len(x) >= most {
		return most
	}
	before, row := make([]int, len(y)+1), make([]int, len(y)+1)
	for i := range row {
		row[i] = i
	}
	for i := range x {
		next := make([]int, len(y)+1)
		next[0] = i + 1
		for k := range y {
			change := row[k]
			if x[i] != y[k] {
				change++
			}
			next[k+1] = min(change, next[k]+1, row[k+1]+1)
			if i > 0 && k > 0 && x[i] == y[k-1] && x[i-1] == y[k] {
				next[k+1] = min(next[k+1], before[k-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(y)]
}
