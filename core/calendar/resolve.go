package calendar

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func text(zh, en string, args ...any) core.Text {
	if len(args) == 0 {
		return core.Text{Zh: zh, En: en}
	}
	return core.Text{Zh: fmt.Sprintf(zh, args...), En: fmt.Sprintf(en, args...)}
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)

const (
	maxParts = 100    // calendars that one leads to, itself among them, each as often as it is named: what a Stretch may cost
	maxTimes = 48     // times of day of one calendar
	maxSteps = 50_000 // stretches looked at before a calendar is said to hold nothing
)

// resolver turns definitions into calendars and gathers what is wrong with them.
type resolver struct {
	set      *Set
	defs     map[string]*core.Calendar
	state    map[string]int // 0: not begun; else resolving, usable, unusable
	parts    map[string]int
	path     []string // what is being resolved, outermost first
	findings []core.Finding
}

const (
	resolving = iota + 1
	usable
	unusable
)

// refuse notes one thing wrong with a field of a calendar.
func (r *resolver) refuse(name, field, zh, en string, args ...any) {
	path := "calendars." + name
	if field != "" {
		path += "." + field
	}
	r.findings = append(r.findings, core.Finding{Path: path, Message: text(zh, en, args...)})
}

func (r *resolver) resolve(defs []core.Calendar) {
	r.state, r.parts = make(map[string]int), make(map[string]int)
	for _, name := range builtIn {
		r.state[name], r.parts[name] = usable, 1
		if _, taken := r.defs[name]; taken {
			r.refuse(name, "name", "%q 是内置日历的名称；请换一个", "%q is the name of a built-in calendar; take another", name)
		}
	}
	for i := range defs {
		if r.state[defs[i].Name] == 0 {
			r.calendar(r.defs[defs[i].Name])
		}
	}
}

// calendar resolves one definition, after those it refers to.
func (r *resolver) calendar(def *core.Calendar) {
	name, before := def.Name, len(r.findings)
	r.state[name] = resolving
	r.path = append(r.path, name)
	c := &calendar{name: name, table: r.set.holidays}
	r.parts[name] = 1
	if !namePattern.MatchString(name) {
		r.refuse(name, "name", "名称 %q 无效；请用小写字母、数字、-、_ 和 .，以字母或数字开头，最多 64 个字符",
			"the name %q is not valid; use lower-case letters, digits, -, _ and ., beginning with a letter or digit, at most 64", name)
	}
	if def.Zone != "" {
		zone, err := time.LoadLocation(def.Zone)
		if err != nil || def.Zone == "Local" {
			r.refuse(name, "zone", "没有时区 %q；请写 IANA 名称，如 Asia/Shanghai", "there is no zone %q; write an IANA name such as Asia/Shanghai", def.Zone)
		}
		c.zone = zone
	}
	for i, day := range def.Weekdays {
		n := slices.Index(weekdayNames, strings.ToLower(day))
		if n < 0 {
			r.refuseWeekday(name, i, day)
			continue
		}
		c.weekdays |= 1 << n
	}
	c.dates = r.dates(name, "dates", def.Dates)
	c.except = r.dates(name, "except", def.Except)
	c.spans = r.spans(name, def.Spans)
	c.times = r.times(name, def.Times)
	c.notes = notesOf(def)
	c.all = r.references(name, "all_of", def.AllOf)
	c.any = r.references(name, "any_of", def.AnyOf)
	c.none = r.references(name, "none_of", def.NoneOf)
	if n := r.parts[name]; n > maxParts {
		r.refuse(name, "", "引用的日历太多（展开后 %d 个，最多 %d 个）；请合并一些", "leads to too many calendars (%d, the most is %d); merge some of them", n, maxParts)
	}
	if len(r.findings) == before {
		r.requireSome(def, c)
	}
	r.path = r.path[:len(r.path)-1]
	r.state[name] = unusable
	if len(r.findings) == before {
		r.state[name] = usable
		r.set.calendars[name] = c
	}
}

// references resolves what a calendar refers to.
func (r *resolver) references(name, field string, names []string) (found []*calendar) {
	for i, other := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		if slices.Contains(names[:i], other) {
			r.refuse(name, at, "%q 写了两次；请去掉一个", "names %q twice; remove one", other)
			continue
		}
		def, own := r.defs[other]
		if own && r.state[other] == 0 {
			r.calendar(def)
		}
		switch r.state[other] {
		case usable:
			found = append(found, r.set.calendars[other])
			r.parts[name] = min(r.parts[name]+r.parts[other], 1_000_000)
		case unusable:
			r.refuse(name, at, "引用的日历 %q 本身有错，不能使用", "refers to %q, which is not usable itself", other)
		case resolving:
			from := slices.Index(r.path, other)
			circle := strings.Join(append(slices.Clone(r.path[from:]), other), " → ")
			r.refuse(name, at, "循环引用：%s；请断开其中一处", "is part of a circle: %s; break it somewhere", circle)
		default:
			r.refuseUnknown(name, at, other)
		}
	}
	return found
}

func (r *resolver) refuseUnknown(name, at, other string) {
	var like []string
	known := slices.Clone(builtIn)
	for defined := range r.defs {
		known = append(known, defined)
	}
	slices.Sort(known)
	for _, k := range known {
		if k != name && near(other, k) {
			like = append(like, k)
		}
	}
	if len(like) == 0 {
		r.refuse(name, at, "没有日历 %q；请先定义它", "there is no calendar %q; define it first", other)
		return
	}
	r.refuse(name, at, "没有日历 %q；是否指 %s？", "there is no calendar %q; did you mean %s?", other, strings.Join(like[:min(3, len(like))], ", "))
}

var weekdayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (r *resolver) refuseWeekday(name string, i int, day string) {
	at := fmt.Sprintf("weekdays[%d]", i)
	low := strings.ToLower(day)
	for _, known := range weekdayNames {
		if strings.HasPrefix(low, known) || near(low, known) && len(low) <= 4 {
			r.refuse(name, at, "没有星期 %q；是否指 %s？", "there is no weekday %q; did you mean %s?", day, known)
			return
		}
	}
	r.refuse(name, at, "没有星期 %q；请写 mon、tue、wed、thu、fri、sat、sun", "there is no weekday %q; write mon, tue, wed, thu, fri, sat or sun", day)
}

// dates reads days and ranges of days.
func (r *resolver) dates(name, field string, ranges []core.DateRange) (d dates) {
	for i, given := range ranges {
		at := fmt.Sprintf("%s[%d].", field, i)
		end, endAt := given.To, at+"to"
		if end == "" {
			end, endAt = given.From, at+"from"
		}
		from, everyYear, ok := r.date(name, at+"from", given.From)
		if !ok {
			continue
		}
		to, endEveryYear, ok := r.date(name, endAt, end)
		switch {
		case !ok:
		case everyYear != endEveryYear:
			r.refuse(name, endAt, "%s 和 %s 必须都带年份，或都写成 --月-日（每年）", "%[2]s must have a year if %[1]s has one, and be written --MM-DD if that is", given.From, end)
		case everyYear && from <= to:
			d.yearly = append(d.yearly, yearly{int(from), int(to)})
		case everyYear: // over the turn of the year
			d.yearly = append(d.yearly, yearly{int(from), 1231}, yearly{101, int(to)})
		case to < from:
			r.refuse(name, endAt, "%s 早于 from（%s）", "%s lies before from (%s)", end, given.From)
		default:
			d.ranges = append(d.ranges, span{from, to + 1})
		}
	}
	d.ranges = merged(d.ranges)
	slices.SortFunc(d.yearly, func(a, b yearly) int { return a.from - b.from })
	var apart []yearly
	for _, y := range d.yearly {
		if n := len(apart); n > 0 && y.from <= apart[n-1].to {
			apart[n-1].to = max(apart[n-1].to, y.to)
			continue
		}
		apart = append(apart, y)
	}
	d.yearly = apart
	return d
}

// date reads 2026-10-01, as a day number, or --10-01, as month*100+day.
func (r *resolver) date(name, at, s string) (n int64, everyYear, ok bool) {
	if rest, every := strings.CutPrefix(s, "--"); every {
		t, err := time.Parse(time.DateOnly, "2024-"+rest) // a leap year
		if err == nil {
			return int64(t.Month())*100 + int64(t.Day()), true, true
		}
	} else if day, ok := readDate(s); ok {
		return day, false, true
	}
	r.refuse(name, at, "%q 不是日期；请写成 2026-10-01，或 --10-01（每年）", "%q is not a date; write it as 2026-10-01, or --10-01 for every year", s)
	return 0, false, false
}

// spans reads spans. Instants are whole microseconds, so an end that is finer is rounded up.
func (r *resolver) spans(name string, given []core.TimeSpan) (spans []span) {
	for i, s := range given {
		at := fmt.Sprintf("spans[%d].", i)
		switch {
		case s.From.IsZero():
			r.refuse(name, at+"from", "缺少起点", "is missing")
		case s.To.IsZero():
			r.refuse(name, at+"to", "缺少终点", "is missing")
		case s.From.UnixMicro() < earliest || s.To.UnixMicro() > latest:
			r.refuse(name, at+"to", "年份须在 1 到 9999 之间", "must lie between the years 1 and 9999")
		case !s.To.After(s.From):
			r.refuse(name, at+"to", "%s 不晚于 from（%s）", "%s is not after from (%s)", s.To.Format(time.RFC3339), s.From.Format(time.RFC3339))
		default:
			spans = append(spans, span{s.From.Add(time.Microsecond - 1).UnixMicro(), s.To.Add(time.Microsecond - 1).UnixMicro()})
		}
	}
	return merged(spans)
}

// merged gives spans in rising order, apart from each other.
func merged(spans []span) (apart []span) {
	slices.SortFunc(spans, func(a, b span) int { return int(max(-1, min(1, a.from-b.from))) })
	for _, s := range spans {
		if n := len(apart); n > 0 && s.from <= apart[n-1].to {
			apart[n-1].to = max(apart[n-1].to, s.to)
			continue
		}
		apart = append(apart, s)
	}
	return apart
}

// times reads parts of the day.
func (r *resolver) times(name string, given []core.DayTime) (times []dayTime) {
	if len(given) > maxTimes {
		r.refuse(name, "times", "有 %d 段，最多 %d 段", "has %d parts, the most is %d", len(given), maxTimes)
		return nil
	}
	for i, t := range given {
		at := fmt.Sprintf("times[%d].", i)
		from, okFrom := r.time(name, at+"from", t.From, false)
		to, okTo := r.time(name, at+"to", t.To, true)
		if okFrom && okTo {
			times = append(times, dayTime{from, to})
		}
	}
	return times
}

// time reads 22:00 or 22:00:30, in seconds since midnight; 24:00 only as an end.
func (r *resolver) time(name, at, s string, end bool) (seconds int64, ok bool) {
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil && len(s) == len(layout) {
			return int64(t.Hour()*3600 + t.Minute()*60 + t.Second()), true
		}
	}
	if end && (s == "24:00" || s == "24:00:00") {
		return daySeconds, true
	}
	r.refuse(name, at, "%q 不是一天中的时刻；请写成 22:00 或 22:00:30", "%q is not a time of day; write it as 22:00 or 22:00:30", s)
	return 0, false
}

// requireSome refuses a calendar that holds nothing.
func (r *resolver) requireSome(def *core.Calendar, c *calendar) {
	if c.everything() && c.except.empty() && len(c.times)+len(c.all)+len(c.none) == 0 {
		r.refuse(def.Name, "", "什么都没有写；请至少写 weekdays、dates、spans、times、any_of、all_of、none_of 之一",
			"says nothing; give at least one of weekdays, dates, spans, times, any_of, all_of, none_of")
		return
	}
	days := c.in(time.UTC)
	at, end := time.Unix(0, 0), time.Unix(0, 0).AddDate(400, 0, 0)
	if len(c.dates.ranges)+len(c.spans) > 0 { // they may lie in the past
		at = time.Time{}
	}
	for range maxSteps {
		in, _, to := days.Stretch(at)
		if in {
			return
		}
		if at = to; at.After(end) {
			break
		}
	}
	r.refuse(def.Name, "", "各部分合在一起不包含任何一天；请检查 all_of、except、none_of",
		"holds no day at all once everything is put together; check all_of, except and none_of")
}

// near says whether somebody may have meant one name by another: at most two letters differ.
func near(a, b string) bool {
	if a = strings.ToLower(a); len(a) > len(b)+2 || len(b) > len(a)+2 {
		return false
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)] <= 2
}

// below gives the findings whose path begins with a prefix (or is it, the dot apart), without the prefix.
func below(findings []core.Finding, prefix string) []core.Finding {
	var kept []core.Finding
	for _, f := range findings {
		if rest, ok := strings.CutPrefix(f.Path+".", prefix); ok {
			f.Path = strings.TrimSuffix(rest, ".")
			kept = append(kept, f)
		}
	}
	return kept
}
