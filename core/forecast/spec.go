package forecast

import (
	"strconv"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// descriptors are the short names of cron expressions whose minute can be moved.
var descriptors = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
	"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}

// spec is a cron expression with one minute in it.
type spec struct {
	zone   string // "CRON_TZ=Asia/Shanghai", or ""
	fields []string
	at     int // which field the minute is
	minute int
	wraps  bool // every hour of every day: a minute below 0 is one of the hour before
}

// readSpec finds the one minute of a schedule, or says why it has none that can be moved.
func readSpec(s core.Schedule) (spec, core.Text) {
	fields := strings.Fields(s.Spec)
	var found spec
	if len(fields) > 0 && strings.Contains(fields[0], "TZ=") {
		found.zone, fields = fields[0], fields[1:]
	}
	if len(fields) == 0 {
		return spec{}, core.Text{Zh: "没有计划", En: "it has no schedule"}
	}
	if word := strings.ToLower(fields[0]); strings.HasPrefix(word, "@") {
		cron, ok := descriptors[word]
		switch {
		case ok:
			fields, s.Dialect = strings.Fields(cron), ""
		case word == "@every":
			return spec{}, core.Text{Zh: "固定频率从保存时起算，没有可移动的分钟；需要错开时请用 jitter", En: "a fixed rate counts from when it was saved and has no minute to move; give it a jitter to spread it"}
		default:
			return spec{}, core.Text{Zh: word + " 没有可移动的分钟", En: word + " has no minute to move"}
		}
	}
	found.fields = fields
	if len(fields) > 5 || s.Dialect == "quartz" {
		found.at = 1
	}
	if len(fields) < found.at+5 || len(fields) > 7 {
		return spec{}, core.Text{Zh: "读不懂的计划", En: "its schedule cannot be read"}
	}
	minute := fields[found.at]
	n, err := strconv.Atoi(minute)
	switch {
	case strings.Contains(minute, "H"):
		return spec{}, core.Text{Zh: "已用 H 按任务名分散", En: "H spreads it by its name already"}
	case err != nil:
		return spec{}, core.Text{Zh: "每小时不止一个分钟（" + minute + "）", En: "it has more than one minute in the hour (" + minute + ")"}
	case n < 0 || n > 59:
		return spec{}, core.Text{Zh: "读不懂的计划", En: "its schedule cannot be read"}
	}
	found.minute, found.wraps = n, true
	for _, f := range fields[found.at+1:] {
		found.wraps = found.wraps && (f == "*" || f == "?")
	}
	return found, core.Text{}
}

// moved gives the expression with its minute moved; ok is false if that would be in another hour.
func (s spec) moved(by int) (string, bool) {
	minute := s.minute + by
	if s.wraps {
		minute = (minute%60 + 60) % 60
	}
	if minute < 0 || minute > 59 {
		return "", false
	}
	fields := append([]string{}, s.fields...)
	fields[s.at] = strconv.Itoa(minute)
	if s.zone != "" {
		fields = append([]string{s.zone}, fields...)
	}
	return strings.Join(fields, " "), true
}
