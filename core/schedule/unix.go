package schedule

import (
	"fmt"
	"slices"
	"strings"

	robfig "github.com/robfig/cron/v3"
)

var unixParser = robfig.NewParser(robfig.Second | robfig.Minute | robfig.Hour | robfig.Dom | robfig.Month | robfig.Dow)

// parseUnix reads five fields, or six with the seconds first.
func (p *parser) parseUnix(f *fields, parts []string) bool {
	if !p.looksUnix(parts) {
		return false
	}
	shift := 6 - len(parts) // how far the written number of a field is behind its place
	if shift == 1 {
		parts = append([]string{"0"}, parts...)
	}
	f.star(parts[1], parts[2], parts[3], parts[5])
	plain := make([]string, 6)
	good := true
	for i, at := range unixPlaces {
		field, why, ok := p.spreadField(at, parts[i])
		if ok {
			why.Zh, why.En, ok = plainField(field)
		}
		if !ok {
			p.refuseField(i+1-shift, at, parts[i], why.Zh, why.En)
			good = false
		}
		plain[i] = field
	}
	if !good {
		return false
	}
	plain[5] = unixSundays(plain[5])
	spec, err := robfigParse(strings.Join(plain, " "))
	if err != nil {
		p.blame(plain, parts, shift)
		return false
	}
	const values = 1<<60 - 1 // robfig keeps a mark for * in the top bit
	f.sec, f.min, f.hour = spec.Second&values, spec.Minute&values, spec.Hour&values
	f.dom, f.month, f.dow = uint32(spec.Dom&values), uint16(spec.Month&values), uint8(spec.Dow&values)
	f.anyYear = true
	return true
}

func isQuartzOnly(field string) bool {
	return strings.ContainsAny(field, "?#LWlw") && quartzOnly.MatchString(field)
}

// looksUnix refuses what is, or may be, meant in another way.
func (p *parser) looksUnix(parts []string) bool {
	if i := slices.IndexFunc(parts, isQuartzOnly); i >= 0 {
		p.refuse("spec", "第 %d 个字段 %q 是 quartz 方言的写法；请设 dialect: quartz（秒在最前，1 是周日），或改写成 unix",
			"field %d, %q, is of the quartz dialect; set dialect: quartz (seconds first, 1 is Sunday), or write it as unix", i+1, parts[i])
		return false
	}
	last := parts[len(parts)-1]
	switch n := len(parts); {
	case n == 6 && yearLike.MatchString(last):
		p.refuse("spec", "最后的 %[1]q 有两种读法：(1) 六个 unix 字段（秒在最前）的星期，而星期只有 0–7；(2) 年份，而 unix 没有年字段。要指定年份请设 dialect: quartz：若第一个字段是秒，写 \"%[2]s ? %[1]s\"；若是分，写 \"0 %[2]s %[1]s\"（quartz 的星期 1 是周日）。只跑一次请用 @at",
			"the last field, %[1]q, can be read in two ways: (1) the day of week of six unix fields (seconds first), which takes only 0–7; (2) a year, which unix does not have. For a year set dialect: quartz; write \"%[2]s ? %[1]s\" if the first field is seconds, or \"0 %[2]s %[1]s\" if it is minutes (in quartz weekday 1 is Sunday). For a single time use @at",
			last, strings.Join(parts[:5], " "))
		return false
	case n == 7:
		p.refuse("spec", "有 7 个字段，带年份的 7 个字段是 quartz 方言；请设 dialect: quartz，或只写 5 个（分 时 日 月 星期）",
			"has 7 fields, which is the quartz dialect with a year; set dialect: quartz, or write 5 (minute hour day month weekday)")
		return false
	case n != 5 && n != 6:
		p.refuse("spec", "有 %d 个字段；unix 方言要 5 个（分 时 日 月 星期），或 6 个（秒在最前）",
			"the number of fields is %d; the unix dialect takes 5 (minute hour day month weekday), or 6 (seconds first)", n)
		return false
	}
	return true
}

// robfigParse is the one door to the library. It is old and has panicked on input before, hence the recover.
func robfigParse(spec string) (schedule *robfig.SpecSchedule, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the parser panicked: %v", r)
		}
	}()
	parsed, err := unixParser.Parse(spec)
	if err != nil {
		return nil, err
	}
	schedule, ok := parsed.(*robfig.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("the parser gave a %T", parsed)
	}
	return schedule, nil
}

// blame finds the fields that robfig refuses, by trying each alone.
func (p *parser) blame(plain, parts []string, shift int) {
	found := false
	for i, at := range unixPlaces {
		alone := []string{"*", "*", "*", "*", "*", "*"}
		alone[i] = plain[i]
		if _, err := robfigParse(strings.Join(alone, " ")); err != nil {
			p.refuseField(i+1-shift, at, parts[i], "值、范围或步长无效", "not a valid value, range or step")
			found = true
		}
	}
	if !found {
		p.refuse("spec", "读不懂", "cannot be read")
	}
}

// plainField refuses what robfig would take without a word: empty items, *-5 (read as *), signs.
func plainField(field string) (zh, en string, ok bool) {
	for token := range strings.SplitSeq(field, ",") {
		value, step, stepped := strings.Cut(token, "/")
		low, high, ranged := strings.Cut(value, "-")
		switch {
		case token == "":
			return "逗号之间是空的", "there is nothing between two commas", false
		case stepped && !digits(step):
			return "步长不是数字", "the step is not a number", false
		case low == "*" && ranged:
			return "* 不能作范围的一端", "* cannot be an end of a range", false
		case low != "*" && !wordOrDigits(low), ranged && !wordOrDigits(high):
			return "不是数字、名称或范围", "not a number, a name or a range", false
		}
	}
	return "", "", true
}

func digits(s string) bool {
	return s != "" && len(s) <= 4 && strings.Trim(s, "0123456789") == ""
}

func wordOrDigits(s string) bool {
	return digits(s) || len(s) == 3 && strings.IndexFunc(s, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }) < 0
}

// unixSundays rewrites a day-of-week field so that 7, and sun at the end of a range, mean Sunday too: robfig knows only
// 0 to 6. What it does not understand it leaves for robfig to refuse.
func unixSundays(field string) string {
	tokens := strings.Split(field, ",")
	for i, token := range tokens {
		value, step, stepped := strings.Cut(token, "/")
		low, high, ranged := strings.Cut(value, "-")
		from, fromOK := weekdayValue(low)
		to, toOK := from, fromOK
		if ranged {
			if to, toOK = weekdayValue(high); to == 0 && strings.EqualFold(high, "sun") && from > 0 {
				to = 7
			}
		}
		by := 1
		if stepped {
			by = number(step)
		}
		if !fromOK || !toOK || from != 7 && to != 7 || from > to || by == 0 {
			continue
		}
		var list []string
		for d := from; d <= to; d += by {
			list = append(list, fmt.Sprint(d%7))
		}
		tokens[i] = strings.Join(list, ",")
	}
	return strings.Join(tokens, ",")
}

func weekdayValue(s string) (int, bool) {
	if n, ok := unixDays.names[strings.ToLower(s)]; ok {
		return n, true
	}
	return number(s), digits(s) && number(s) <= 7
}
