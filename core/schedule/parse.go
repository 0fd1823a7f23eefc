package schedule

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/gnomon-scheduler/gnomon/core"
)

func text(zh, en string, args ...any) core.Text {
	if len(args) == 0 {
		return core.Text{Zh: zh, En: en}
	}
	return core.Text{Zh: fmt.Sprintf(zh, args...), En: fmt.Sprintf(en, args...)}
}

// place is one field of a cron expression.
type place struct {
	key    string // what H is salted with; never changes
	zh, en string
	lo, hi int
	names  map[string]int
	takes  core.Text // what may stand there
}

var monthNames = names(1, "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

var (
	seconds   = place{"second", "秒", "second", 0, 59, nil, text("0–59", "0–59")}
	minutes   = place{"minute", "分", "minute", 0, 59, nil, text("0–59", "0–59")}
	hours     = place{"hour", "时", "hour", 0, 23, nil, text("0–23", "0–23")}
	monthDays = place{"dom", "日", "day of month", 1, 31, nil, text("1–31", "1–31")}
	months    = place{"month", "月", "month", 1, 12, monthNames, text("1–12 或 JAN–DEC", "1–12 or JAN–DEC")}
	unixDays  = place{
		"dow", "星期", "day of week", 0, 6, names(0, "sun", "mon", "tue", "wed", "thu", "fri", "sat"),
		text("0–7（0 和 7 都是周日）或 SUN–SAT", "0–7 (0 and 7 are Sunday) or SUN–SAT"),
	}
	quartzMonthDays = place{
		"dom", "日", "day of month", 1, 31, nil,
		text("1–31、?、L、L-3、LW、15W", "1–31, ?, L, L-3, LW, 15W"),
	}
	quartzDays = place{
		"dow", "星期", "day of week", 1, 7, names(1, "sun", "mon", "tue", "wed", "thu", "fri", "sat"),
		text("1–7（1 是周日）或 SUN–SAT、?、L、6L、6#3", "1–7 (1 is Sunday) or SUN–SAT, ?, L, 6L, 6#3"),
	}
	years = place{"year", "年", "year", firstYear, lastYear, nil, text("1970–2199", "1970–2199")}

	unixPlaces   = []*place{&seconds, &minutes, &hours, &monthDays, &months, &unixDays}
	quartzPlaces = []*place{&seconds, &minutes, &hours, &quartzMonthDays, &months, &quartzDays, &years}
)

func names(first int, words ...string) map[string]int {
	m := make(map[string]int, len(words))
	for i, w := range words {
		m[w] = first + i
	}
	return m
}

// refuseField says that a field of the spec cannot be read.
func (p *parser) refuseField(number int, at *place, field, whyZh, whyEn string) {
	p.findings = append(p.findings, core.Finding{Path: "schedule.spec", Message: core.Text{
		Zh: fmt.Sprintf("第 %d 个字段（%s）%q：%s；可写 %s，以及 *、a-b、*/n、逗号列表", number, at.zh, field, whyZh, at.takes.Zh),
		En: fmt.Sprintf("field %d (%s) %q: %s; it takes %s, and *, a-b, */n, lists with commas", number, at.en, field, whyEn, at.takes.En),
	}})
}

var (
	yearLike    = regexp.MustCompile(`^([^/]*[-,])?(19[7-9]\d|20\d\d|21\d\d)([-,/].*)?$`)
	quartzOnly  = regexp.MustCompile(`[?#]|(?i:^L(-\d+)?W?$|^LW$|\dW|\dL|(SUN|MON|TUE|WED|THU|FRI|SAT)L)`)
	spreadToken = regexp.MustCompile(`^H(?:\((\d{1,4})-(\d{1,4})\))?(?:/(\d{1,4}))?$`)
)

// parseCron reads a cron expression in the dialect of s.
func (p *parser) parseCron(s core.Schedule, spec string) {
	for _, r := range spec {
		if r > unicode.MaxASCII || unicode.IsControl(r) && r != '\t' {
			p.refuse("spec", "含有字符 %q（U+%04X），cron 表达式只能用半角字符；请改成半角后重写",
				"contains the character %q (U+%04X); a cron expression is plain ASCII on one line", r, r)
			return
		}
	}
	parts := strings.Fields(spec)
	f := &fields{}
	var ok bool
	if s.Dialect == dialectQuartz {
		ok = p.parseQuartz(f, parts)
	} else {
		ok = p.parseUnix(f, parts)
	}
	if !ok {
		return
	}
	p.schedule.kind = Cron
	p.schedule.cron = &cron{fields: f, zone: p.schedule.zone, skipGap: s.OnGap == onGapSkip, onOverlap: s.OnOverlap}
	if len(p.findings) == 0 && !p.schedule.cron.fires() {
		p.refuse("spec", "%q 永远不会触发；请检查日、月、星期（和年）是否可能同时成立",
			"%q never fires; check day of month, month, day of week (and year) against each other", spec)
	}
}

var beginning = time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC).Add(-reach * time.Second)

// fires says whether any instant in 400 years from 1970 on starts a run.
func (c *cron) fires() bool {
	for t := beginning; t.Unix() < beginning.Unix()+horizon; {
		fire, ok := c.next(t)
		if !ok || fire.Skip == "" {
			return ok
		}
		t = fire.At
	}
	return false
}

// star notes what follows from fields that begin with *: real time, and how the two day fields are joined.
func (f *fields) star(minute, hour, dom, dow string) {
	begins := func(s string) bool { return s[0] == '*' || s[0] == '?' }
	f.realTime = begins(minute) || begins(hour)
	f.anyDom, f.anyDow = begins(dom), begins(dow)
}

// spreadField replaces H by values chosen by the task's name: H, H/15, H(0-29), H(0-29)/10. A day of the month is at
// most 28 unless a range says otherwise, so that H fires every month.
func (p *parser) spreadField(at *place, field string) (string, core.Text, bool) {
	if !strings.Contains(field, "H") {
		return field, core.Text{}, true
	}
	tokens := strings.Split(field, ",")
	for i, token := range tokens {
		m := spreadToken.FindStringSubmatch(token)
		if m == nil {
			if strings.HasPrefix(token, "H") {
				return "", text("H 只能写成 H、H/15、H(0-29) 或 H(0-29)/10", "H is written H, H/15, H(0-29) or H(0-29)/10"), false
			}
			continue
		}
		if at.key == years.key {
			return "", text("年字段不能用 H", "H cannot stand for a year"), false
		}
		lo, hi, step := at.lo, at.hi, 0
		if at.key == monthDays.key {
			hi = 28
		}
		if m[1] != "" {
			lo, hi = number(m[1]), number(m[2])
		}
		if lo > hi || lo < at.lo || hi > at.hi {
			return "", text("H 的范围无效", "the range of H is not valid"), false
		}
		width := hi - lo + 1
		if m[3] != "" {
			if step = number(m[3]); step == 0 || step > width {
				return "", text("H 的步长须在 1 与范围宽度之间", "the step of H must lie between 1 and the width of its range"), false
			}
			width = step
		}
		tokens[i] = fmt.Sprint(lo + int(spreadHash(p.name, at.key)%uint64(width)))
		if step != 0 {
			tokens[i] += fmt.Sprintf("-%d/%d", hi, step)
		}
	}
	return strings.Join(tokens, ","), core.Text{}, true
}

func number(s string) int {
	n := 0
	for _, r := range s {
		n = n*10 + int(r-'0')
	}
	return n
}

// spreadHash must never change: the times of every task that uses H hang on it. FNV-1a, then the finisher of
// MurmurHash3, because the low bits of FNV alone are poorly mixed.
func spreadHash(name, salt string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range [2]string{name, "\x00" + salt} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Jitter gives how long after its nominal instant a fire of a task starts, from 0 up to but not including most, in
// whole microseconds. It is a hash of (task, instant): a restart or another server does not move it.
func Jitter(task string, instant time.Time, most time.Duration) time.Duration {
	width := uint64(max(0, most.Microseconds()))
	if width == 0 {
		return 0
	}
	return time.Duration(spreadHash(task, strconv.FormatInt(instant.UnixMicro(), 10))%width) * time.Microsecond
}
