package schedule

import (
	"fmt"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Words says in Chinese and English when the schedule fires, with its calendars, window and jitter. It is made anew by
// each call.
func (s *Schedule) Words() core.Text {
	t := s.sayTimes()
	add := func(more core.Text) {
		t.Zh += "；" + more.Zh
		t.En += "; " + more.En
	}
	var only, not []string
	for _, r := range s.rules {
		if r.not {
			not = append(not, r.name)
		} else {
			only = append(only, r.name)
		}
	}
	if len(only) > 0 {
		add(text("仅在 %[1]s 的日子", "only on %[2]s", strings.Join(only, "、"), joinEn(only)))
	}
	if len(not) > 0 {
		add(text("不在 %[1]s 的日子", "not on %[2]s", strings.Join(not, "、"), joinEn(not)))
	}
	switch {
	case s.move == onDayOffNext:
		add(text("遇休息日顺延到下一个允许的日子", "what falls on a day off moves to the next day allowed"))
	case s.move == onDayOffPrevious:
		add(text("遇休息日提前到上一个允许的日子", "what falls on a day off moves to the last day allowed before it"))
	case len(s.rules) > 0:
		add(text("遇休息日跳过", "what falls on a day off is skipped"))
	}
	if from := s.window[0]; !from.IsZero() {
		add(text("自 %[1]s 起（%[2]s）", "from %[1]s on (%[2]s)", s.sayInstant(from), s.zone.name))
	}
	if until := s.window[1]; !until.IsZero() {
		add(text("到 %[1]s 为止（%[2]s）", "until %[1]s (%[2]s)", s.sayInstant(until), s.zone.name))
	}
	if s.jitter > 0 {
		d := sayDuration(s.jitter)
		if s.jitter < time.Millisecond {
			d = core.Text{Zh: s.jitter.String(), En: s.jitter.String()}
		}
		add(text("开始时间最多推迟 %[1]s", "each starts up to %[2]s later", d.Zh, d.En))
	}
	return t
}

// Explain says why a fire is skipped or was moved, with what its calendar knows about the day; empty if it is neither.
func (s *Schedule) Explain(fire Fire) core.Text {
	at := fire.At
	if !fire.MovedFrom.IsZero() {
		at = fire.MovedFrom
	}
	var note core.Text
	for _, r := range s.rules {
		name, field := r.told()
		if name != fire.Calendar || field != fire.Rule {
			continue
		}
		if days, ok := r.days.(interface{ Note(at time.Time) core.Text }); ok {
			if note = days.Note(at); note.En != "" {
				note = core.Text{Zh: "（" + note.Zh + "）", En: " (" + note.En + ")"}
			}
		}
	}
	var t core.Text
	switch {
	case fire.Skip == core.ReasonNonexistent:
		return text("这一天的当地时间没有该时刻（时钟调整）", "the local time does not exist on that date, because the clock was changed")
	case fire.Rule == OnlyOn:
		t = text("%[1]s 不在日历 %[2]s 之内%[3]s", "%[1]s is not in the calendar %[2]s%[4]s", s.sayInstant(at), fire.Calendar, note.Zh, note.En)
	case fire.Rule == NotOn:
		t = text("%[1]s 在日历 %[2]s 之内%[3]s", "%[1]s is in the calendar %[2]s%[4]s", s.sayInstant(at), fire.Calendar, note.Zh, note.En)
	default:
		return core.Text{}
	}
	switch {
	case fire.Skip == "" && s.move == onDayOffPrevious:
		t.Zh += "，提前到 " + s.sayInstant(fire.At)
		t.En += "; moved back to " + s.sayInstant(fire.At)
	case fire.Skip == "":
		t.Zh += "，顺延到 " + s.sayInstant(fire.At)
		t.En += "; moved on to " + s.sayInstant(fire.At)
	case s.move != "":
		t.Zh += "，366 天内没有可挪到的日子，跳过"
		t.En += "; no day within 366 is allowed, so it is skipped"
	default:
		t.Zh += "，跳过"
		t.En += "; it is skipped"
	}
	if fire.Merged > 0 {
		t.Zh += fmt.Sprintf("（另有 %d 次并入）", fire.Merged)
		t.En += fmt.Sprintf(" (with %d more)", fire.Merged)
	}
	return t
}

// sayTimes says when the schedule fires by its spec alone.
func (s *Schedule) sayTimes() core.Text {
	switch s.kind {
	case Cron:
		return s.cron.say()
	case Every:
		d := sayDuration(s.interval)
		if s.anchor.IsZero() {
			return text("每 %[1]s（固定频率）", "every %[2]s (fixed rate)", d.Zh, d.En)
		}
		return text("每 %[1]s（固定频率，自 %[3]s 起算，%[4]s）", "every %[2]s (fixed rate, counted from %[3]s, %[4]s)",
			d.Zh, d.En, s.sayInstant(s.anchor), s.zone.name)
	case After:
		d := sayDuration(s.interval)
		return text("上次运行结束 %[1]s后", "%[2]s after the last run has ended", spaced(d.Zh), d.En)
	case At:
		return text("一次：%s（%s）", "once, at %s (%s)", s.sayInstant(s.instants[0]), s.zone.name)
	case List:
		var shown []string
		for _, t := range s.instants[:min(3, len(s.instants))] {
			shown = append(shown, s.sayInstant(t))
		}
		zh, en := strings.Join(shown, "、"), joinEn(shown)
		if more := len(s.instants) - len(shown); more > 0 {
			zh += " 等"
			en = fmt.Sprintf("%s and %d more", strings.Join(shown, ", "), more)
		}
		if len(s.instants) == 1 {
			return text("一次：%s（%s）", "once, at %s (%s)", zh, s.zone.name)
		}
		return text("共 %[1]d 次：%[2]s（%[4]s）", "%[1]d times: %[3]s (%[4]s)", len(s.instants), zh, en, s.zone.name)
	default:
		return text("仅手动运行", "only when started by hand")
	}
}

func (s *Schedule) sayInstant(t time.Time) string {
	return t.In(s.zone.loc).Format("2006-01-02 15:04:05.999999")
}

// spaced keeps a space between Chinese and a digit, and none between Chinese and Chinese.
func spaced(s string) string {
	if s != "" && s[len(s)-1] < 0x80 {
		return s + " "
	}
	return s
}

// sayDuration says a duration in whole units: "1 分 30 秒", "1 minute 30 seconds". A single one of a unit loses its
// number where English does: "every minute" is said by cron, "every 1 minute 30 seconds" here.
func sayDuration(d time.Duration) core.Text {
	units := []struct {
		size   time.Duration
		zh, en string
	}{
		{time.Hour, "小时", "hour"},
		{time.Minute, "分", "minute"},
		{time.Second, "秒", "second"},
		{time.Millisecond, "毫秒", "millisecond"},
	}
	var zh, en []string
	for _, u := range units {
		n := d / u.size
		d %= u.size
		if n == 0 {
			continue
		}
		name := u.zh
		if u.zh == "分" && d == 0 && len(zh) == 0 {
			name = "分钟"
		}
		zh = append(zh, fmt.Sprintf("%d %s", n, name))
		en = append(en, count(int(n), u.en))
	}
	return core.Text{Zh: strings.Join(zh, " "), En: strings.Join(en, " ")}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func joinEn(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}
