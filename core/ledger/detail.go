package ledger

import (
	"regexp"

	"github.com/gnomon-scheduler/gnomon/core"
)

// details are the forms in which an admission says how things stood, with how the same is said in Chinese.
var details = []struct {
	form *regexp.Regexp
	zh   string
}{
	{regexp.MustCompile(`^(\d+) earlier runs? (?:is|are) live$`), "本任务先前有 $1 次运行尚未结束"},
	{regexp.MustCompile(`^earlier fires of the task wait$`), "本任务更早的触发在等待"},
	{regexp.MustCompile(`^(\d+) runs? waits? already$`), "已有 $1 次在等待"},
	{regexp.MustCompile(`^a later fire has taken its place$`), "后一次触发取代了它"},
	{regexp.MustCompile(`^(\d+) later fires wait at (\S+)$`), "有 $1 次更晚的触发在等 $2"},
	{regexp.MustCompile(`^open after (\d+) failures?$`), "连续失败 $1 次后断开"},
	{regexp.MustCompile(`^open after (\d+) failures?: (.*)$`), "连续失败 $1 次后断开：$2"},
	{regexp.MustCompile(`^half_open after (\d+) failures?$`), "连续失败 $1 次后断开，正在试探"},
	{regexp.MustCompile(`^half_open after (\d+) failures?: (.*)$`), "连续失败 $1 次后断开，正在试探：$2"},
	{regexp.MustCompile(`^(\d+) of (\d+) slots of (\S+) in use, (\d+) wanted$`), "$3 共 $2 个名额，已用 $1，需要 $4"},
	{regexp.MustCompile(`^(\d+) of (\d+) slots of (\S+) in use, (\d+) wanted, and (\d+) runs wait for it already$`), "$3 共 $2 个名额，已用 $1，需要 $4，已有 $5 次在等"},
	{regexp.MustCompile(`^(\d+) of (\d+) slots of (\S+) in use, (\d+) wanted, and (\d+) runs wait for it already: as many wait as may$`), "$3 共 $2 个名额，已用 $1，需要 $4，已有 $5 次在等，达到上限"},
	{regexp.MustCompile(`^(\d+) runs wait for (\S+)$`), "已有 $1 次在等 $2"},
	{regexp.MustCompile(`^not looked at yet$`), "还没有检查"},
}

// Detail says how a gate stood, which a row's facts keep in English, in both languages. What it does not know (the values
// of an expression, a task's own words) is the same in both.
func Detail(said string) core.Text {
	for _, d := range details {
		if d.form.MatchString(said) {
			return say(d.form.ReplaceAllString(said, d.zh), said)
		}
	}
	return say(said, said)
}
