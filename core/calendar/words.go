package calendar

import (
	"fmt"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// MissingText warns that public holidays are not known for some years, as Missing gives them; empty if there are none.
func MissingText(name string, years []int) core.Text {
	if len(years) == 0 {
		return core.Text{}
	}
	said := sayYears(years)
	return text("日历 %[1]s 需要 %[2]s 年的法定节假日安排，但还没有这些数据，暂按周一至周五上班、没有调休计算；国务院办公厅公布后请导入",
		"calendar %[1]s needs the public holidays of %[2]s, which are not known yet: Monday to Friday are taken for working days, without make-up days; import them once the State Council has published them",
		name, said)
}

// sayYears draws years in a row together: "2027–2030, 2035".
func sayYears(years []int) string {
	var parts []string
	for i := 0; i < len(years); i++ {
		from := years[i]
		for i+1 < len(years) && years[i+1] == years[i]+1 {
			i++
		}
		if years[i] == from {
			parts = append(parts, fmt.Sprint(from))
		} else {
			parts = append(parts, fmt.Sprintf("%d–%d", from, years[i]))
		}
	}
	return strings.Join(parts, ", ")
}

// note is what a definition says about some of its days or a span.
type note struct {
	dates dates
	span  span // microseconds; if dates are empty
	said  string
}

func notesOf(def *core.Calendar) (notes []note) {
	var quiet resolver // what is wrong with the dates is told elsewhere
	for _, list := range [][]core.DateRange{def.Dates, def.Except} {
		for _, given := range list {
			if given.Note != "" {
				notes = append(notes, note{dates: quiet.dates("", "", []core.DateRange{given}), said: given.Note})
			}
		}
	}
	for _, given := range def.Spans {
		if spans := quiet.spans("", []core.TimeSpan{given}); given.Note != "" && len(spans) == 1 {
			notes = append(notes, note{span: spans[0], said: given.Note})
		}
	}
	return notes
}

// Note says what is special about an instant, as far as the calendar or one it refers to knows: the name of the holiday,
// the holiday a working day makes up for, the note of a date or span; empty if nothing is said.
func (d *days) Note(at time.Time) core.Text {
	local := at.In(d.loc)
	_, seconds := local.Zone()
	day := floorDiv(at.Unix()+int64(seconds), daySeconds)
	for _, n := range d.notes {
		if !n.dates.empty() && n.dates.find(day).in || n.span.from <= at.UnixMicro() && at.UnixMicro() < n.span.to {
			return core.Text{Zh: n.said, En: n.said}
		}
	}
	if d.name == Workdays || d.name == Holidays {
		said, _ := d.table.note(day)
		return said
	}
	for _, list := range [][]*days{d.any, d.none, d.all} {
		for _, other := range list {
			if said := other.Note(at); said != (core.Text{}) {
				return said
			}
		}
	}
	return core.Text{}
}
