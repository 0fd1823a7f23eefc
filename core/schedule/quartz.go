package schedule

import (
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// parseQuartz reads six fields (seconds first) or seven (year last), as Quartz's CronExpression does.
func (p *parser) parseQuartz(f *fields, parts []string) bool {
	if n := len(parts); n != 6 && n != 7 {
		p.refuse("spec", "有 %d 个字段；quartz 方言要 6 个（秒 分 时 日 月 星期）或 7 个（再加年）；五个字段的写法请设 dialect: unix",
			"the number of fields is %d; the quartz dialect takes 6 (second minute hour day month weekday) or 7 (and year); for five fields set dialect: unix", n)
		return false
	}
	if len(parts) == 6 && yearLike.MatchString(parts[5]) {
		p.refuse("spec", "有两种读法：(1) 六个字段，则最后的 %[1]q 是星期，而星期只有 1–7；(2) 缺少一个字段的年份写法，年份是第 7 个字段。请写成 \"%[2]s ? %[1]s\"",
			"can be read in two ways: (1) six fields, where %[1]q is the day of week, which takes only 1–7; (2) a year, which is the 7th field, with one field left out. Write \"%[2]s ? %[1]s\"",
			parts[5], strings.Join(parts[:5], " "))
		return false
	}
	if parts[3] == "?" && parts[5] == "?" {
		p.refuse("spec", "日和星期不能都写 ?；请把其中一个写成 * 或具体的值", "has ? for both day of month and day of week; write * or a value for one of them")
		return false
	}
	f.star(parts[1], parts[2], parts[3], parts[5])
	f.anyYear = len(parts) == 6 || parts[6] == "*"
	good := true
	for i, at := range quartzPlaces[:len(parts)] {
		if at.key == years.key && f.anyYear {
			continue
		}
		field, why, ok := p.spreadField(at, parts[i])
		for token := range strings.SplitSeq(field, ",") {
			if !ok {
				break
			}
			why, ok = f.quartzToken(at, strings.ToUpper(token))
		}
		if !ok {
			p.refuseField(i+1, at, parts[i], why.Zh, why.En)
			good = false
		}
	}
	return good
}

// quartzToken adds one item of a list to the field it stands in.
func (f *fields) quartzToken(at *place, token string) (core.Text, bool) {
	var special core.Text
	var done bool
	switch at.key {
	case monthDays.key:
		special, done = f.quartzMonthDay(token)
	case unixDays.key:
		special, done = f.quartzWeekday(token)
	}
	if done {
		return special, special.En == ""
	}
	values, why := quartzRange(at, token)
	for _, v := range values {
		switch at.key {
		case seconds.key:
			f.sec |= 1 << v
		case minutes.key:
			f.min |= 1 << v
		case hours.key:
			f.hour |= 1 << v
		case monthDays.key:
			f.dom |= 1 << v
		case months.key:
			f.month |= 1 << v
		case unixDays.key:
			f.dow |= 1 << (v - 1)
		case years.key:
			f.years[(v-firstYear)/64] |= 1 << ((v - firstYear) % 64)
		}
	}
	return why, why.En == ""
}

// quartzMonthDay reads ?, L, L-3, LW, L-3W and 15W; done is false if token is none of those.
func (f *fields) quartzMonthDay(token string) (why core.Text, done bool) {
	rest, nearest := strings.CutSuffix(token, "W")
	switch {
	case token == "?":
		f.dom |= 1<<32 - 2
	case strings.HasPrefix(token, "L"):
		before := 0
		if back, ok := strings.CutPrefix(rest, "L-"); ok {
			if before = number(back); !digits(back) || before > 30 {
				return text("L- 后面要写 0–30", "L- takes 0–30"), true
			}
		} else if rest != "L" {
			return text("L 只能写成 L、L-3、LW、L-3W", "L is written L, L-3, LW or L-3W"), true
		}
		if nearest {
			f.domLastNear |= 1 << before
		} else {
			f.domLast |= 1 << before
		}
	case nearest:
		day := number(rest)
		if !digits(rest) || day < 1 || day > 31 {
			return text("W 前面要写 1–31", "W follows a day from 1 to 31"), true
		}
		f.domNear |= 1 << day
	default:
		return core.Text{}, false
	}
	return core.Text{}, true
}

// quartzWeekday reads ?, L, 6L and 6#3; done is false if token is none of those.
func (f *fields) quartzWeekday(token string) (why core.Text, done bool) {
	day, nth, numbered := strings.Cut(token, "#")
	last, isLast := strings.CutSuffix(token, "L")
	switch {
	case token == "?":
		f.dow = 0x7f
	case token == "L": // Quartz: by itself it is Saturday, not the last day of anything
		f.dow |= 1 << 6
	case numbered:
		d, ok := quartzDays.value(day)
		if !ok || len(nth) != 1 || nth[0] < '1' || nth[0] > '5' {
			return text("# 写成 星期#第几个，如 6#3（第三个周五），第几个是 1–5", "# is written weekday#number, as 6#3 (third Friday), number 1–5"), true
		}
		f.dowNth[nth[0]-'0'] |= 1 << (d - 1)
	case isLast:
		d, ok := quartzDays.value(last)
		if !ok {
			return text("L 前面要写星期，如 6L（最后一个周五）", "L follows a weekday, as 6L (last Friday)"), true
		}
		f.dowLast |= 1 << (d - 1)
	default:
		return core.Text{}, false
	}
	return core.Text{}, true
}

// value reads a number or a name within the limits of the place.
func (at *place) value(s string) (int, bool) {
	if n, ok := at.names[strings.ToLower(s)]; ok {
		return n, true
	}
	n := number(s)
	return n, digits(s) && n >= at.lo && n <= at.hi
}

// quartzRange gives the values of *, a, a-b, a/n, */n, /n and a-b/n. As in Quartz a range may run over the end
// (22-2, FRI-MON), except of years.
func quartzRange(at *place, token string) ([]int, core.Text) {
	value, step, stepped := strings.Cut(token, "/")
	low, high, ranged := strings.Cut(value, "-")
	by := 1
	if stepped {
		if by = number(step); !digits(step) || by < 1 || by > at.hi-at.lo+1 {
			return nil, text("步长须是 1 到 %d", "the step must be 1 to %d", at.hi-at.lo+1)
		}
	}
	from, to := at.lo, at.hi
	ok := true
	switch {
	case low == "*", low == "" && stepped:
		if ranged {
			return nil, text("* 不能作范围的一端", "* cannot be an end of a range")
		}
	case ranged:
		var okTo bool
		from, ok = at.value(low)
		to, okTo = at.value(high)
		ok = ok && okTo
	default:
		if from, ok = at.value(low); !stepped {
			to = from
		}
	}
	if !ok {
		return nil, text("不是其中的值", "not a value of this field")
	}
	if to < from {
		if at.key == years.key {
			return nil, text("范围的起点在终点之后", "the range begins after its end")
		}
		to += at.hi - at.lo + 1
	}
	var values []int
	for v := from; v <= to; v += by {
		values = append(values, (v-at.lo)%(at.hi-at.lo+1)+at.lo)
	}
	return values, core.Text{}
}
