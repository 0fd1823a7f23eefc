package calendar

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Public holidays in China from 2004 on, made by .ci/tools/holidays.mjs from npm chinese-days 1.5.7 (MIT; see README.md).
//
//go:embed holidays.json
var embedded []byte

var published = sync.OnceValue(func() []core.Holidays {
	var years []core.Holidays
	if err := json.Unmarshal(embedded, &years); err != nil {
		panic("calendar: the embedded holidays cannot be read: " + err.Error())
	}
	return years
})

var china = sync.OnceValue(func() *time.Location {
	loc, err := time.LoadLocation(chinaZone)
	if err != nil {
		panic("calendar: " + err.Error()) // time/tzdata holds it
	}
	return loc
})

// Region is the only one whose public holidays are known.
const Region = "CN"

// The years that holidays may be given for.
const (
	firstYear = 1950
	lastYear  = 2199
)

// entry is what was published about a day.
type entry struct {
	owner int    // the year it was published with: make-up days may lie in December before or January after
	name  string // of the holiday
	work  bool   // a make-up working day
}

// holidays are the days off and the make-up days of all years that are known.
type holidays struct {
	entries map[int64]entry // by day number
	list    []*year         // from firstYear on; nil: not known
}

// year holds a bit for each day, counted from 1 January.
type year struct {
	start, length int64
	work, off     [6]uint64
}

// newHolidays lays what was published over what is embedded. Findings have paths that begin with "holidays." and the year.
func newHolidays(own []core.Holidays) (*holidays, []core.Finding) {
	if len(own) == 0 {
		return embeddedHolidays(), nil
	}
	var findings []core.Finding
	h := &holidays{entries: maps.Clone(embeddedHolidays().entries)}
	known := map[int]bool{}
	for _, y := range embeddedHolidays().years() {
		known[y] = true
	}
	for i := range own {
		wrong := CheckHolidays(own[i])
		for _, f := range wrong {
			f.Path = fmt.Sprintf("holidays.%d.%s", own[i].Year, f.Path)
			findings = append(findings, f)
		}
		if len(wrong) == 0 {
			h.add(own[i])
			known[own[i].Year] = true
		}
	}
	h.build(known)
	return h, findings
}

var embeddedHolidays = sync.OnceValue(func() *holidays {
	h := &holidays{entries: make(map[int64]entry)}
	known := map[int]bool{}
	for _, y := range published() {
		h.add(y)
		known[y.Year] = true
	}
	h.build(known)
	return h
})

// add puts a year in place of what was known of it. The dates have been checked.
func (h *holidays) add(y core.Holidays) {
	maps.DeleteFunc(h.entries, func(_ int64, e entry) bool { return e.owner == y.Year })
	for date, name := range y.Holidays {
		h.entries[mustDay(date)] = entry{owner: y.Year, name: name}
	}
	for date, name := range y.Workdays {
		h.entries[mustDay(date)] = entry{owner: y.Year, name: name, work: true}
	}
}

func mustDay(date string) int64 {
	day, _ := readDate(date)
	return day
}

// build makes the bits of the known years out of the entries.
func (h *holidays) build(known map[int]bool) {
	h.list = make([]*year, lastYear-firstYear+1)
	for n := range known {
		y := &year{start: dayNumber(int64(n), 1, 1)}
		y.length = dayNumber(int64(n)+1, 1, 1) - y.start
		for i := range y.length {
			if mondayToFriday>>weekday(y.start+i)&1 == 1 {
				y.work[i/64] |= 1 << (i % 64)
			}
		}
		h.list[n-firstYear] = y
	}
	for day, e := range h.entries {
		y := h.of(day)
		if y == nil {
			continue
		}
		i := day - y.start
		if e.work {
			y.work[i/64] |= 1 << (i % 64)
		} else {
			y.work[i/64] &^= 1 << (i % 64)
			y.off[i/64] |= 1 << (i % 64)
		}
	}
}

// of gives the year a day lies in; nil if it is not known.
func (h *holidays) of(day int64) *year {
	n, _, _ := civil(day)
	return h.year(n)
}

func (h *holidays) year(n int64) *year {
	if n < firstYear || n > lastYear {
		return nil
	}
	return h.list[n-firstYear]
}

func (h *holidays) known(n int) bool { return h.year(int64(n)) != nil }

func (h *holidays) years() []int {
	var years []int
	for i, y := range h.list {
		if y != nil {
			years = append(years, firstYear+i)
		}
	}
	slices.Sort(years)
	return years
}

// workday says whether a day is worked on in China. In a year that is not known Monday to Friday are.
func (h *holidays) workday(day int64) stretch {
	if y := h.of(day); y != nil {
		return y.run(&y.work, day)
	}
	return unknown(day).and(ofWeek(mondayToFriday, day))
}

// holiday says whether a day is a public holiday in China; none is in a year that is not known.
func (h *holidays) holiday(day int64) stretch {
	if y := h.of(day); y != nil {
		return y.run(&y.off, day)
	}
	return unknown(day).not()
}

// unknown gives the year of a day as a stretch.
func unknown(day int64) stretch {
	n, _, _ := civil(day)
	return stretch{true, dayNumber(n, 1, 1), dayNumber(n+1, 1, 1)}
}

// run gives the days around a day that have the same bit, within the year.
func (y *year) run(mask *[6]uint64, day int64) stretch {
	i := day - y.start
	in := mask[i/64]>>(i%64)&1 == 1
	same := func(w int64) uint64 { // the bits of a word that are as that of the day
		if in {
			return mask[w]
		}
		return ^mask[w]
	}
	from, to := i, i+1
	for w, shift := i/64, 63-i%64; ; w, shift = w-1, 0 { // ones above bit i, down from it
		n := int64(bits.LeadingZeros64(^(same(w) << shift)))
		if w == i/64 {
			n = min(n, i%64+1)
			from = i - n + 1
		} else {
			from -= n
		}
		if n < 64-shift || w == 0 {
			break
		}
	}
	for w, shift := i/64, i%64; ; w, shift = w+1, 0 {
		n := min(int64(bits.TrailingZeros64(^(same(w) >> shift))), 64-shift)
		if w == i/64 {
			to = i + n
		} else {
			to += n
		}
		if n < 64-shift || w == 5 {
			break
		}
	}
	return stretch{in, y.start + max(from, 0), y.start + min(to, y.length)}
}

// english are the names of the seven public holidays.
var english = map[string]string{
	"元旦": "New Year's Day", "春节": "Spring Festival", "清明": "Tomb-sweeping Day", "清明节": "Tomb-sweeping Day",
	"劳动节": "Labour Day", "端午": "Dragon Boat Festival", "端午节": "Dragon Boat Festival",
	"中秋": "Mid-autumn Festival", "中秋节": "Mid-autumn Festival", "国庆": "National Day", "国庆节": "National Day",
}

// note says what was published about a day.
func (h *holidays) note(day int64) (core.Text, bool) {
	e, ok := h.entries[day]
	if !ok {
		return core.Text{}, false
	}
	name := core.Text{Zh: e.name, En: e.name}
	if en, ok := english[e.name]; ok {
		name.En = en
	}
	if e.work {
		return core.Text{Zh: name.Zh + "调休上班", En: "working day to make up for " + name.En}, true
	}
	return name, true
}

// CheckHolidays gives what is wrong with the holidays of a year. Paths begin with the field: "holidays.2026-02-30".
func CheckHolidays(y core.Holidays) []core.Finding {
	var findings []core.Finding
	refuse := func(path, zh, en string, args ...any) {
		findings = append(findings, core.Finding{Path: path, Message: text(zh, en, args...)})
	}
	if y.Region != "" && y.Region != Region {
		refuse("region", "没有地区 %q 的节假日；目前只有 CN，其他地区请用自定义日历的 dates",
			"there are no public holidays for region %q, only for CN; for another region define a calendar with dates", y.Region)
	}
	if y.Year < firstYear || y.Year > lastYear {
		refuse("year", "%d 不在 %d–%d 之内", "%d does not lie between %d and %d", y.Year, firstYear, lastYear)
		return findings
	}
	if len(y.Holidays) == 0 {
		refuse("holidays", "没有任何假日；这些数据会替换整个 %d 年，请给出全年的假日",
			"names no day; what is given replaces the whole of %d, so give all of its holidays", y.Year)
	}
	for _, list := range []struct {
		field string
		days  map[string]string
	}{{"holidays", y.Holidays}, {"workdays", y.Workdays}} {
		for _, date := range slices.Sorted(maps.Keys(list.days)) {
			path := list.field + "." + date
			day, ok := readDate(date)
			if !ok {
				refuse(path, "%q 不是日期；请写成 2026-10-01", "%q is not a date; write it as 2026-10-01", date)
				continue
			}
			if day < dayNumber(int64(y.Year)-1, 12, 1) || day >= dayNumber(int64(y.Year)+1, 2, 1) {
				refuse(path, "%s 不属于 %d 年", "%s does not belong to %d", date, y.Year)
			}
			if _, both := y.Holidays[date]; both && list.field == "workdays" {
				refuse(path, "%s 同时是假日和调休上班日；请去掉一个", "%s is a day off and a working day at once; remove one", date)
			}
		}
	}
	return findings
}

// readDate reads 2026-10-01.
func readDate(s string) (day int64, ok bool) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, false
	}
	return floorDiv(t.Unix(), daySeconds), true
}
