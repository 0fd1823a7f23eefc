package schedule

import (
	"fmt"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Words says in Chinese and English when the schedule fires. It is made anew by each call.
func (s *Schedule) Words() core.Text {
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
