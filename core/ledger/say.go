package ledger

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func say(zh, en string) core.Text { return core.Text{Zh: zh, En: en} }

// both fills the same values into both texts.
func both(zh, en string, args ...any) core.Text {
	return core.Text{Zh: fmt.Sprintf(zh, args...), En: fmt.Sprintf(en, args...)}
}

// join puts sentences behind one another.
func join(texts ...core.Text) core.Text {
	var zh, en []string
	for _, t := range texts {
		if t.Zh != "" {
			zh = append(zh, t.Zh)
		}
		if t.En != "" {
			en = append(en, t.En)
		}
	}
	return core.Text{Zh: strings.Join(zh, ""), En: strings.Join(en, " ")}
}

// when writes an instant in the schedule's zone, without naming it.
func (a *asker) when(t time.Time) string {
	return t.In(a.zone).Format("2006-01-02 15:04:05.999999")
}

// here writes the instant asked about, with the zone.
func (a *asker) here() string { return a.when(a.at) + " (" + a.zone.String() + ")" }

// lasted writes a duration the way people say it, in both languages.
func lasted(d time.Duration) core.Text {
	units := []struct {
		size   time.Duration
		zh, en string
	}{{24 * time.Hour, "天", "d"}, {time.Hour, "小时", "h"}, {time.Minute, "分", "min"}, {time.Second, "秒", "s"}}
	if d < 0 {
		d = 0
	}
	switch {
	case d < time.Second:
		ms := strconv.FormatInt(d.Milliseconds(), 10)
		return say(ms+" 毫秒", ms+" ms")
	case d < time.Minute:
		s := strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64)
		return say(s+" 秒", s+" s")
	}
	d = d.Round(time.Second)
	var zh, en []string
	for _, u := range units {
		if n := d / u.size; n > 0 && len(zh) < 2 {
			zh = append(zh, strconv.FormatInt(int64(n), 10)+" "+u.zh)
			en = append(en, strconv.FormatInt(int64(n), 10)+" "+u.en)
		} else if len(zh) > 0 {
			break // "1 d 3 s" says more than is meant
		}
		d %= u.size
	}
	if len(zh) == 1 && strings.HasSuffix(zh[0], " 分") {
		zh[0] += "钟"
	}
	return say(strings.Join(zh, " "), strings.Join(en, " "))
}

// sentence has a text begin like one.
func sentence(t core.Text) core.Text {
	if t.En != "" {
		t.En = strings.ToUpper(t.En[:1]) + t.En[1:]
	}
	return t
}

var verdictZh = map[core.Verdict]string{
	core.Succeeded: "成功", core.Failed: "失败", core.TimedOut: "超时", core.Cancelled: "已取消", core.Crashed: "进程崩溃",
	core.Lost: "随服务器丢失",
}

func verdict(v core.Verdict) core.Text {
	zh, ok := verdictZh[v]
	if !ok {
		zh = string(v)
	}
	return say(zh, strings.ReplaceAll(string(v), "_", " "))
}

// gate names what a run waits, or waited, for.
func (a *asker) gate(run *core.Run) core.Text {
	key := run.GateKey
	switch run.Gate {
	case core.GateOverlap:
		return say("本任务先前的运行", "earlier runs of the task")
	case core.GatePrecondition:
		if p, ok := a.precondition(run, key); ok {
			return say("前置条件“"+label(p)+"”", "a precondition (\""+label(p)+"\")")
		}
		return say("前置条件", "a precondition")
	case core.GateBreaker:
		if a.own(key) {
			return say("任务自身的熔断器", "its own breaker")
		}
		return say("熔断器 "+key, "breaker "+key)
	case core.GateCapacity:
		return say("并发额度 "+key, "limit "+key)
	}
	return core.Text{}
}

// runs counts runs in English: "1 run", "3 runs".
func runs(n string) string {
	if n == "1" {
		return "1 run"
	}
	return n + " runs"
}

// facts are what a decision was made on, as far as they can be read.
type facts map[string]any

func factsOf(run *core.Run) facts {
	f := facts{}
	if len(run.Facts) > 0 && json.Unmarshal(run.Facts, &f) != nil {
		return facts{}
	}
	return f
}

// text gives a fact as it would be shown, or "".
func (f facts) text(key string) string {
	switch v := f[key].(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	default:
		written, _ := json.Marshal(v) // it came out of JSON
		return string(written)
	}
}

// number gives a fact as a number, also one written as text; 0: there is none.
func (f facts) number(key string) float64 {
	switch v := f[key].(type) {
	case float64:
		return v
	case string:
		n, err := strconv.ParseFloat(v, 64)
		if err == nil {
			return n
		}
	}
	return 0
}

// time gives a fact as an instant; zero: there is none.
func (f facts) time(key string) time.Time {
	s, _ := f[key].(string)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// tail puts more behind a text if there is anything: "：note", ": note".
func tail(s string) core.Text {
	if s = strings.TrimSpace(s); s == "" {
		return core.Text{}
	}
	t := Detail(s)
	return say("："+t.Zh, ": "+t.En)
}

// by names who did something.
func by(principal string) core.Text {
	if principal == "" {
		return say("某人", "somebody")
	}
	return say(principal, principal)
}

func plus(texts ...core.Text) core.Text {
	var t core.Text
	for _, p := range texts {
		t.Zh += p.Zh
		t.En += p.En
	}
	return t
}
