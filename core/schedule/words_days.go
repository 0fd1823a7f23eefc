package schedule

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

const (
	everyMonthDay = 1<<32 - 2
	everyWeekday  = 0x7f
)

// sayDays says on which days; plain is true if it is every day there is.
func (c *cron) sayDays() (t core.Text, plain bool) {
	of, in := c.sayPeriod()
	freeDom, freeDow := c.dom == everyMonthDay, c.dow == everyWeekday
	either := !c.anyDom && !c.anyDow
	switch {
	case freeDom && freeDow || either && (freeDom || freeDow):
		if of.Zh == "每月" && in.En == "" {
			return text("每天", "every day"), true
		}
		return core.Text{Zh: in.Zh + "每天", En: "every day" + in.En}, false
	case freeDow:
		return c.sayMonthDays(of, in), false
	case freeDom:
		return c.sayWeekdays(of, in), false
	case either:
		dom, dow := c.sayMonthDays(of, in), c.sayWeekdays(of, in)
		return text("%[1]s或%[2]s", "%[3]s or %[4]s", dom.Zh, dow.Zh, dom.En, dow.En), false
	default:
		dom, dow := c.sayMonthDays(of, in), c.sayWeekdays(of, in)
		return text("%[2]s，但仅限%[1]s，", "%[4]s, but only %[3]s,", dom.Zh, dow.Zh, dom.En, dow.En), false
	}
}

// sayPeriod says the months and years: as what a day is of ("每年 1 月", "of January") and as what it lies in
// ("每年 1 月的", " in January", both empty if it is all of them).
func (c *cron) sayPeriod() (of, in core.Text) {
	m := look(uint64(c.month), 1, 12)
	zh, _ := m.numbers()
	var en []string
	for _, n := range m.list {
		en = append(en, monthEn[n])
	}
	var year string
	if !c.anyYear {
		year = c.sayYears()
	}
	switch {
	case m.all && year == "":
		return text("每月", "of every month"), core.Text{}
	case m.all:
		return core.Text{Zh: year + " 年每月", En: "of every month of " + year}, core.Text{Zh: year + " 年", En: " in " + year}
	}
	of = core.Text{Zh: "每年 " + zh + " 月", En: "of " + joinEn(en)}
	if n := len(m.list); m.inARow && n > 2 {
		of.En = "of " + en[0] + " to " + en[n-1]
	}
	if year != "" {
		of.Zh = year + " 年 " + zh + " 月"
		of.En += " " + year
	}
	return of, core.Text{Zh: of.Zh + "的", En: " in " + strings.TrimPrefix(of.En, "of ")}
}

// sayYears gives the years, ranges drawn together: "2027", "2027–2030, 2035".
func (c *cron) sayYears() string {
	var parts []string
	for y := int64(firstYear); y <= lastYear; y++ {
		if !c.yearMatches(y) {
			continue
		}
		from := y
		for y < lastYear && c.yearMatches(y+1) {
			y++
		}
		if from == y {
			parts = append(parts, fmt.Sprint(y))
		} else {
			parts = append(parts, fmt.Sprintf("%d–%d", from, y))
		}
	}
	if n := len(parts); n > clockTimes {
		return parts[0] + ", " + parts[1] + " … " + parts[n-1]
	}
	return strings.Join(parts, ", ")
}

// sayMonthDays says the days of the month.
func (c *cron) sayMonthDays(of, _ core.Text) core.Text {
	var zh, en []string
	add := func(t core.Text) { zh, en = append(zh, t.Zh), append(en, t.En) }
	days := look(uint64(c.dom), 1, 31)
	daysZh, daysEn := days.numbers()
	switch n := len(days.list); {
	case n == 0:
	case days.step > 1 && n > clockTimes:
		first, second, last := days.list[0], days.list[1], days.list[n-1]
		add(text("%[1]d、%[2]d…%[3]d 日", "days %[1]d, %[2]d … %[3]d", first, second, last))
	case n == 1 && bits.OnesCount16(c.month) == 1 && c.plainDom():
		word := "on "
		if c.anyYear {
			word = "every "
		}
		return core.Text{Zh: joinZh(of.Zh, daysZh+" 日"), En: word + daysEn + " " + strings.TrimPrefix(of.En, "of ")}
	default:
		add(core.Text{Zh: daysZh + " 日", En: "day" + days.plural() + " " + daysEn})
	}
	for _, n := range look(uint64(c.domNear), 1, 31).list {
		add(text("离 %d 日最近的周一至周五", "the weekday (Monday to Friday) nearest to day %d", n))
	}
	for _, n := range look(uint64(c.domLast), 0, 30).list {
		if n == 0 {
			add(text("最后一天", "the last day"))
		} else {
			add(text("倒数第 %[1]d 天", "the last day but %[2]d", n+1, n))
		}
	}
	for _, n := range look(uint64(c.domLastNear), 0, 30).list {
		if n == 0 {
			add(text("最后一个周一至周五", "the last weekday (Monday to Friday)"))
		} else {
			add(text("离倒数第 %[1]d 天最近的周一至周五", "the weekday (Monday to Friday) nearest to the last day but %[2]d", n+1, n))
		}
	}
	return core.Text{Zh: joinZh(of.Zh, strings.Join(zh, "、")), En: "on " + joinEn(en) + " " + of.En}
}

func (c *cron) plainDom() bool { return c.domNear|c.domLast|c.domLastNear == 0 }

// sayWeekdays says the days of the week.
func (c *cron) sayWeekdays(of, in core.Text) core.Text {
	var nthZh, nthEn []string
	for n := 1; n <= 5; n++ {
		for _, d := range look(uint64(c.dowNth[n]), 0, 6).list {
			nthZh = append(nthZh, ordinalZh[n]+weekZh[d])
			nthEn = append(nthEn, "the "+ordinalEn[n]+" "+weekEn[d])
		}
	}
	for _, d := range look(uint64(c.dowLast), 0, 6).list {
		nthZh = append(nthZh, "最后一个"+weekZh[d])
		nthEn = append(nthEn, "the last "+weekEn[d])
	}
	nth := core.Text{Zh: of.Zh + strings.Join(nthZh, "、"), En: "on " + joinEn(nthEn) + " " + of.En}

	var zh, en []string
	days := look(uint64(c.dow), 0, 6)
	if c.dow&1 == 1 { // a week begins on Monday, so that Saturday and Sunday stand together
		days = look(uint64(c.dow>>1|1<<6), 0, 6)
		for i := range days.list {
			days.list[i]++
		}
	}
	for _, d := range days.list {
		zh, en = append(zh, weekZh[d%7]), append(en, weekEn[d%7])
	}
	plain := core.Text{Zh: in.Zh + "每" + strings.Join(zh, "、"), En: "every " + joinEn(en) + in.En}
	if n := len(zh); days.inARow && n > 2 {
		plain = core.Text{Zh: in.Zh + zh[0] + "至" + zh[n-1], En: en[0] + " to " + en[n-1] + in.En}
	}
	switch {
	case len(nthZh) == 0:
		return plain
	case len(zh) == 0:
		return nth
	}
	return text("%[1]s和%[2]s", "%[3]s and %[4]s", plain.Zh, nth.Zh, plain.En, nth.En)
}
