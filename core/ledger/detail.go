package ledger

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// details are the forms in which admissions, preconditions and ends say how things stood, with how the same is said in
// Chinese.
var details = []struct {
	form *regexp.Regexp
	zh   string
}{
	{regexp.MustCompile(`^(\d+) earlier runs? (?:is|are) live$`), "本任务先前有 $1 次运行尚未结束"},
	{regexp.MustCompile(`^earlier fires of the task wait$`), "本任务更早的触发在等待"},
	{regexp.MustCompile(`^(\d+) runs? waits? already$`), "已有 $1 次在等待"},
	{regexp.MustCompile(`^a later fire has taken its place$`), "后一次触发取代了它"},
	{regexp.MustCompile(`^(\d+) later fires? waits? at (\S+)$`), "有 $1 次更晚的触发在等 $2"},
	{regexp.MustCompile(`^open after (\d+) failures?$`), "连续失败 $1 次后断开"},
	{regexp.MustCompile(`^open after (\d+) failures?: (.*)$`), "连续失败 $1 次后断开：$2"},
	{regexp.MustCompile(`^half_open after (\d+) failures?$`), "连续失败 $1 次后断开，正在试探"},
	{regexp.MustCompile(`^half_open after (\d+) failures?: (.*)$`), "连续失败 $1 次后断开，正在试探：$2"},
	{regexp.MustCompile(`^closed again, and its fires are caught up (\S+) apart$`), "已恢复接通，错过的触发每隔 $1 补跑一次"},
	{regexp.MustCompile(`^it has waited for longer than catch_up_window$`), "它等待的时间超过了 catch_up_window"},
	{regexp.MustCompile(`^(\d+) of (\d+) slots of (\S+) in use, (\d+) wanted$`), "$3 共 $2 个名额，已用 $1，需要 $4"},
	{regexp.MustCompile(`^(\d+) of (\d+) slots of (\S+) in use, (\d+) wanted: as many wait as may$`), "$3 共 $2 个名额，已用 $1，需要 $4，在等的已达上限"},
	{regexp.MustCompile(`^(\d+) of (\d+) slots of (\S+) in use, (\d+) wanted, and (\d+) runs? waits? for it already$`), "$3 共 $2 个名额，已用 $1，需要 $4，已有 $5 次在等"},
	{regexp.MustCompile(`^(\d+) of (\d+) slots of (\S+) in use, (\d+) wanted, and (\d+) runs? waits? for it already: as many wait as may$`), "$3 共 $2 个名额，已用 $1，需要 $4，已有 $5 次在等，达到上限"},
	{regexp.MustCompile(`^others wait for (\S+) and come before it$`), "有其他运行在等 $1，排在它前面"},
	{regexp.MustCompile(`^not looked at yet$`), "还没有检查"},

	// What a precondition saw; in a queue its name stands before it.
	{regexp.MustCompile(`^((?:.*: )?)sql (\S+) gave no row$`), "$1SQL 连接 $2 没有返回行"},
	{regexp.MustCompile(`^((?:.*: )?)sql (\S+) gave (.*)$`), "$1SQL 连接 $2 返回 $3"},
	{regexp.MustCompile(`^((?:.*: )?)GET (\S+) answered (\d+)$`), "$1GET $2 返回 $3"},
	{regexp.MustCompile(`^((?:.*: )?)GET (\S+) answered (\d+), wanted 200 to 299$`), "$1GET $2 返回 $3，应为 200 至 299"},
	{regexp.MustCompile(`^((?:.*: )?)GET (\S+) answered (\d+), wanted (\d+)$`), "$1GET $2 返回 $3，应为 $4"},
	{regexp.MustCompile(`^((?:.*: )?)GET (\S+) answered (\d+) without (.*)$`), "$1GET $2 返回 $3，其中没有 $4"},
	{regexp.MustCompile(`^((?:.*: )?)GET (\S+) answered (\d+) with (.*)$`), "$1GET $2 返回 $3，其中有 $4"},
	{regexp.MustCompile(`^((?:.*: )?)evaluate expression: (.*)$`), "$1计算表达式：$2"},
	{regexp.MustCompile(`^((?:.*: )?)query (\S+): (no answer within \S+)$`), "$1查询 $2：$3"},
	{regexp.MustCompile(`^it took longer than (\S+)$`), "用时超过 $1"},
	{regexp.MustCompile(`^no answer within (\S+)$`), "$1 内没有回应"},
	{regexp.MustCompile(`^it gave (.*), not true or false$`), "得到 $1，不是真或假"},
	{regexp.MustCompile(`^line (\d+), column (\d+): (.*)$`), "第 $1 行第 $2 列：$3"},
	{regexp.MustCompile(`^it had not come true by its deadline, and otherwise: run starts it all the same$`), "到期限仍未成立，按 otherwise: run 照常启动"},
	{regexp.MustCompile(`^precondition (.*) had not come true by its deadline: (.*)$`), "前置条件“$1”到期限仍未成立：$2"},

	// Why a run was ended, or came to nothing.
	{regexp.MustCompile(`^hard timeout reached$`), "达到硬性超时"},
	{regexp.MustCompile(`^soft timeout reached$`), "达到软性超时"},
	{regexp.MustCompile(`^it did not stop in time, so its process was killed$`), "它没有及时停止，进程已被强行结束"},
	{regexp.MustCompile(`^it had not stopped since its soft timeout, so its process was killed$`), "软性超时之后它一直没有停止，进程已被强行结束"},
	{regexp.MustCompile(`^its process was killed$`), "进程已被强行结束"},
	{regexp.MustCompile(`^it said: (.*)$`), "它说：$1"},
	{regexp.MustCompile(`^cancelled on request$`), "应要求取消"},
	{regexp.MustCompile(`^terminated on request$`), "应要求强行结束"},
	{regexp.MustCompile(`^cancelled on request by ((?:workflow )?\S+)$`), "应 $1 的要求取消"},
	{regexp.MustCompile(`^terminated on request by ((?:workflow )?\S+)$`), "应 $1 的要求强行结束"},
	{regexp.MustCompile(`^cancelled by ((?:workflow )?\S+) before it began$`), "开始之前由 $1 取消"},
	{regexp.MustCompile(`^workflow (\S+)$`), "工作流 $1"},
	{regexp.MustCompile(`^overlap policy (\S+) \(the fire of (.+), run (\S+)\)$`), "重叠策略 $1（因 $2 那一次，运行 $3）"},
	{regexp.MustCompile(`^cancelled by overlap policy (\S+) \(the fire of (.+), run (\S+)\)$`), "由重叠策略 $1 取消（因 $2 那一次，运行 $3）"},
	{regexp.MustCompile(`^cancelled by overlap policy (\S+) \(the fire of (.+), run (\S+)\) before it began$`), "开始之前由重叠策略 $1 取消（因 $2 那一次，运行 $3）"},
	{regexp.MustCompile(`^terminated by overlap policy (\S+) \(the fire of (.+), run (\S+)\)$`), "由重叠策略 $1 强行结束（因 $2 那一次，运行 $3）"},
	{regexp.MustCompile(`^(cancelled .*) while it waited: (.*)$`), "$1，当时在等待：$2"},
	{regexp.MustCompile(`^the server died while the attempt ran, or may have run$`), "服务器在这次尝试运行时（或可能在运行时）中断"},
	{regexp.MustCompile(`^the server lost track of the attempt, which may have run: the store did not answer, or the lease had run out$`), "服务器失去了这次尝试的下落，它可能运行过：存储没有应答，或租约已过期"},
	// What a service level wants, as runs note it that miss it.
	{regexp.MustCompile(`^start within (\S+)$`), "应在 $1 内开始"},
	{regexp.MustCompile(`^finish within (\S+)$`), "应在 $1 内结束"},
	{regexp.MustCompile(`^finish by (\d\d:\d\d)$`), "应在 $1 之前结束"},
	{regexp.MustCompile(`^take at most (\S+)$`), "历时应不超过 $1"},
	{regexp.MustCompile(`^take at most (\S+) times the usual (\S+)$`), "历时应不超过平常（$2）的 $1 倍"},

	// Why a task was disabled.
	{regexp.MustCompile(`^stop_on_error: run (\S+) (failed|timed_out|crashed|lost)$`), "stop_on_error：运行 $1 $2"},
	{regexp.MustCompile(`^stop_on_error: (\d+) runs in a row failed, the last was (\S+) \((failed|timed_out|crashed|lost)\)$`), "stop_on_error：连续 $1 次运行失败，最后一次是 $2（$3）"},
}

// Detail says in both languages what a row keeps in English: how a gate stood, or why the run ended. What it does not know
// (the values of an expression, a task's own words) is the same in both.
func Detail(said string) core.Text {
	for _, d := range details {
		m := d.form.FindStringSubmatch(said)
		if m == nil {
			continue
		}
		parts := make([]string, 0, 2*len(m))
		for i, part := range m[1:] {
			parts = append(parts, "$"+strconv.Itoa(i+1), inChinese(part))
		}
		return say(strings.NewReplacer(parts...).Replace(d.zh), said)
	}
	if head, rest, more := strings.Cut(said, "; "); more { // each part has a form of its own, or none
		if zh, tail := Detail(head), Detail(rest); zh.Zh != head || tail.Zh != rest {
			return say(zh.Zh+"；"+tail.Zh, said)
		}
	}
	return say(said, said)
}

// inChinese says a part of a detail: a verdict, or a detail of its own.
func inChinese(part string) string {
	if zh, ok := verdictZh[core.Verdict(part)]; ok {
		return zh
	}
	return Detail(part).Zh
}
