package schedule

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

var (
	weekZh  = [7]string{"周日", "周一", "周二", "周三", "周四", "周五", "周六"}
	weekEn  = [7]string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}
	monthEn = [13]string{
		"", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
		"December",
	}
	ordinalZh = [6]string{"", "第一个", "第二个", "第三个", "第四个", "第五个"}
	ordinalEn = [6]string{"", "first", "second", "third", "fourth", "fifth"}
)

// values is a set of numbers, read for its pattern.
type values struct {
	list   []int
	all    bool // every value of the field
	inARow bool // from the first to the last without a hole
	step   int  // > 1: evenly spaced up to the end of the field; else 0
	even   bool // step, and the rhythm holds over the end of the field
}

func look(mask uint64, lo, hi int) values {
	var v values
	for n := lo; n <= hi; n++ {
		if mask>>n&1 == 1 {
			v.list = append(v.list, n)
		}
	}
	n, width := len(v.list), hi-lo+1
	v.all = n == width
	v.inARow = n > 0 && v.list[n-1]-v.list[0] == n-1
	if n < 2 || v.inARow {
		return v
	}
	step := v.list[1] - v.list[0]
	for i := 2; i < n; i++ {
		if v.list[i]-v.list[i-1] != step {
			return v
		}
	}
	if v.list[n-1]+step > hi {
		v.step, v.even = step, n*step == width
	}
	return v
}

// numbers gives the values as text: "0–29", or one by one.
func (v values) numbers() (zh, en string) {
	if n := len(v.list); v.inARow && n > 2 {
		both := fmt.Sprintf("%d–%d", v.list[0], v.list[n-1])
		return both, both
	}
	var each []string
	for _, n := range v.list {
		each = append(each, strconv.Itoa(n))
	}
	return strings.Join(each, "、"), joinEn(each)
}

func (v values) plural() string {
	if len(v.list) == 1 {
		return ""
	}
	return "s"
}

// say says a cron expression: on which days, when in the day, in which zone.
func (c *cron) say() core.Text {
	day, everyDay := c.sayDays()
	when, clock := c.sayTimes()
	var t core.Text
	switch {
	case clock:
		t = core.Text{Zh: joinZh(day.Zh, when.Zh), En: day.En + " at " + when.En}
	case everyDay:
		t = when
	default:
		t = core.Text{Zh: joinZh(day.Zh, when.Zh), En: when.En + ", " + day.En}
	}
	if !c.realTime {
		if c.skipGap {
			t.Zh += "；时钟跳过的时刻不补跑"
			t.En += "; a time the clock leaves out is not made up for"
		}
		switch c.onOverlap {
		case onOverlapSecond:
			t.Zh += "；重复的时刻取第二次"
			t.En += "; the second of a time that comes twice"
		case onOverlapBoth:
			t.Zh += "；重复的时刻两次都跑"
			t.En += "; both of a time that comes twice"
		}
	}
	return core.Text{Zh: t.Zh + "（" + c.zone.name + "）", En: t.En + " (" + c.zone.name + ")"}
}

// joinZh sets a space between Chinese and a digit, and none between Chinese and Chinese.
func joinZh(left, right string) string {
	if left != "" && right != "" && !strings.HasSuffix(left, "，") && (left[len(left)-1] < 0x80) != (right[0] < 0x80) {
		return left + " " + right
	}
	return left + right
}

const clockTimes = 6 // up to so many times of day are listed one by one

// sayTimes says the times of day; clock is true if they are clock times rather than a rhythm.
func (c *cron) sayTimes() (t core.Text, clock bool) {
	if c.perDay() <= clockTimes {
		var times []string
		for tod, ok := c.timeFrom(0); ok; tod, ok = c.timeFrom(tod + 1) {
			if times = append(times, c.clock(tod)); tod == daySeconds-1 {
				break
			}
		}
		return core.Text{Zh: strings.Join(times, "、"), En: joinEn(times)}, true
	}
	s, m, h := look(c.sec, 0, 59), look(c.min, 0, 59), look(c.hour, 0, 23)
	switch {
	case c.sec == 1 && (m.all || m.even):
		return c.sayRhythm(sayStep(m, "分钟", "minute", h.all), h), false
	case m.all && (s.all || s.even):
		return c.sayRhythm(sayStep(s, "秒", "second", true), h), false
	case c.sec == 1:
		return c.sayMinutes(m, h), false
	}
	// Rare: field by field.
	sec, minute, hour := sayPlaces(s, "秒", "second"), sayPlaces(m, "分", "minute"), sayPlaces(h, "时", "hour")
	if h.all {
		hour = text("每小时", "every hour")
	}
	return text("%[1]s，%[2]s，%[3]s", "%[6]s, %[5]s, %[4]s", hour.Zh, minute.Zh, sec.Zh, hour.En, minute.En, sec.En), false
}

// sayStep says an even rhythm: "every 15 minutes", with its beginning if that is asked for and not zero.
func sayStep(v values, zh, en string, beginning bool) core.Text {
	switch {
	case v.all:
		return text("每%[1]s", "every %[2]s", zh, en)
	case v.list[0] == 0 || !beginning:
		return text("每 %[1]d %[2]s", "every %[1]d %[3]ss", v.step, zh, en)
	}
	return text("每 %[1]d %[2]s，从第 %[3]d %[4]s起", "every %[1]d %[5]ss from %[5]s %[3]d",
		v.step, zh, v.list[0], strings.TrimSuffix(zh, "钟"), en)
}

// sayRhythm says a rhythm of minutes or seconds in some hours of the day.
func (c *cron) sayRhythm(rhythm core.Text, h values) core.Text {
	switch zh, en := h.numbers(); {
	case h.all:
		return rhythm
	case h.inARow:
		first, last := c.bounds()
		return text("%[1]s–%[2]s %[3]s", "%[4]s from %[1]s to %[2]s", first, last, rhythm.Zh, rhythm.En)
	default:
		return text("%[1]s 时内%[3]s", "%[4]s in the hours %[2]s", zh, en, rhythm.Zh, rhythm.En)
	}
}

// sayMinutes says some minutes of some hours.
func (c *cron) sayMinutes(m, h values) core.Text {
	zh, en := m.numbers()
	minute := text("第 %[1]s 分", "at minute%[3]s %[2]s", zh, en, m.plural())
	if c.min == 1 {
		minute = text("整点", "on the hour")
	}
	switch hoursZh, hoursEn := h.numbers(); {
	case h.all:
		return text("每小时%[1]s", "every hour %[2]s", minute.Zh, minute.En)
	case h.even && h.list[0] == 0:
		return text("每 %[1]d 小时%[2]s", "every %[1]d hours %[3]s", h.step, minute.Zh, minute.En)
	case h.even:
		first, _ := c.bounds()
		return text("从 %[4]s 起每 %[1]d 小时%[2]s", "every %[1]d hours %[3]s from %[4]s", h.step, minute.Zh, minute.En, first)
	case h.inARow:
		first, last := c.bounds()
		return text("%[1]s–%[2]s 每小时%[3]s", "every hour %[4]s from %[1]s to %[2]s", first, last, minute.Zh, minute.En)
	default:
		return text("%[1]s 时的%[3]s", "%[4]s in the hours %[2]s", hoursZh, hoursEn, minute.Zh, minute.En)
	}
}

// sayPlaces says the values of one unit, as the fallback needs it.
func sayPlaces(v values, zh, en string) core.Text {
	if v.all {
		return text("每%[1]s", "every %[2]s", strings.Replace(zh, "分", "分钟", 1), en)
	}
	numbersZh, numbersEn := v.numbers()
	if zh == "时" {
		return text("%[1]s 时", "in the hour%[2]s %[3]s", numbersZh, v.plural(), numbersEn)
	}
	return text("第 %[1]s %[2]s", "at %[3]s%[4]s %[5]s", numbersZh, zh, en, v.plural(), numbersEn)
}

// bounds gives the first and the last time of day as clock times.
func (c *cron) bounds() (first, last string) {
	from, _ := c.timeFrom(0)
	to, _ := c.timeUpTo(daySeconds - 1)
	return c.clock(from), c.clock(to)
}

// clock writes a second of the day, with seconds only if the schedule has any.
func (c *cron) clock(tod int) string {
	if c.sec == 1 {
		return fmt.Sprintf("%02d:%02d", tod/3600, tod/60%60)
	}
	return fmt.Sprintf("%02d:%02d:%02d", tod/3600, tod/60%60, tod%60)
}
