package ledger_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
)

// TestDetailKnowsWhatAdmissionsSay: the words of core.Admit, and of no others, have a translation.
func TestDetailKnowsWhatAdmissionsSay(t *testing.T) {
	t.Parallel()
	run := core.Standing{RunID: "b", State: core.RunQueued, FireAt: at(nine)}
	live := core.Standing{RunID: "a", State: core.RunRunning, FireAt: at("2026-11-20 08:00")}
	wait := core.Standing{RunID: "c", State: core.RunWaiting, Gate: core.GateOverlap, FireAt: at("2026-11-20 08:30")}
	erp := core.Admission{Limits: []core.Limit{{Key: "pool:erp", Slots: 2, Need: 1, MaxWaiting: 1}}}
	breaker := core.Admission{At: at(nine), CatchUp: core.CatchUpNone, Breakers: []core.BreakerRule{{Name: "downstream:his", Failures: 1}}}
	open := func(failures int, because string) core.Standings {
		return core.Standings{Run: run, Breakers: []core.Breaker{{State: core.BreakerOpen, Failures: failures, Because: because, ProbeAt: at(nine).Add(time.Hour)}}}
	}
	for _, c := range []struct {
		a core.Admission
		s core.Standings
	}{
		{core.Admission{}, core.Standings{Run: run, Peers: []core.Standing{live}}},
		{core.Admission{}, core.Standings{Run: run, Peers: []core.Standing{live, wait}}},
		{core.Admission{Overlap: core.OverlapQueue}, core.Standings{Run: run, Peers: []core.Standing{live, wait}}},
		{breaker, open(1, "")}, {breaker, open(5, "")}, {breaker, open(1, "refused")}, {breaker, open(5, "refused")},
		{core.Admission{At: at(nine), Breakers: breaker.Breakers}, core.Standings{Run: run, Breakers: open(5, "").Breakers, Peers: []core.Standing{
			{RunID: "d", State: core.RunWaiting, Gate: core.GateBreaker, FireAt: at("2026-11-20 10:00")}}}},
		{erp, core.Standings{Run: run, Rooms: []core.Room{{Used: 2}}}},
		{core.Admission{Limits: []core.Limit{{Key: "pool:erp", Slots: 2, Need: 1}}}, core.Standings{Run: run, Rooms: []core.Room{{Used: 2}}}},
		{core.Admission{Limits: []core.Limit{{Key: "pool:erp", Slots: 2, Need: 1, MaxWaiting: 5}}}, core.Standings{Run: run, Rooms: []core.Room{{Used: 2, Waiting: 5}}}},
		{erp, core.Standings{Run: run, Rooms: []core.Room{{Used: 2, Waiting: 1}}}},
	} {
		ruling := core.Admit(c.a, c.s)
		if said := ledger.Detail(ruling.Detail); ruling.Detail == "" || said.En != ruling.Detail || said.Zh == said.En || strings.Contains(said.Zh, "$") {
			t.Errorf("%+v is said as %+v", ruling, said)
		}
	}
	if said := ledger.Detail("params.lines == 1"); said.Zh != "params.lines == 1" || said.En != said.Zh {
		t.Errorf("%+v", said)
	}
}

// TestDetailSaysInChineseWhatGnomonSays: what preconditions and ends say, and what rows of before say, leaves no English tail.
func TestDetailSaysInChineseWhatGnomonSays(t *testing.T) {
	t.Parallel()
	for en, zh := range map[string]string{
		"stop_on_error: run 01 failed":                                                                                 "stop_on_error：运行 01 失败",
		"loaded: sql business gave no row":                                                                             "loaded: SQL 连接 business 没有返回行",
		"loaded: sql business gave \"x\"":                                                                              `loaded: SQL 连接 business 返回 "x"`,
		"up: GET http://erp/ready answered 503, wanted 200 to 299":                                                     "up: GET http://erp/ready 返回 503，应为 200 至 299",
		"GET http://erp/ready answered 200 without \"ok\"":                                                             `GET http://erp/ready 返回 200，其中没有 "ok"`,
		"evaluate expression: it gave 3, not true or false":                                                            "计算表达式：得到 3，不是真或假",
		"query business: no answer within 10s":                                                                         "查询 business：10s 内没有回应",
		"2 of 2 slots of pool:erp in use, 1 wanted, and 1 runs wait for it already":                                    "pool:erp 共 2 个名额，已用 2，需要 1，已有 1 次在等",
		"others wait for pool:erp and come before it":                                                                  "有其他运行在等 pool:erp，排在它前面",
		"cancelled on request by ann while it waited: 1 earlier run is live":                                           "应 ann 的要求取消，当时在等待：本任务先前有 1 次运行尚未结束",
		"terminated on request by workflow 01; its process was killed":                                                 "应 工作流 01 的要求强行结束；进程已被强行结束",
		"cancelled by ann before it began":                                                                             "开始之前由 ann 取消",
		"load low: host.load == 3; disk == 1" + core.NotTrueInTime:                                                     "load low: host.load == 3；disk == 1；到期限仍未成立，按 otherwise: run 照常启动",
		"precondition loaded had not come true by its deadline: sql business gave 0":                                   "前置条件“loaded”到期限仍未成立：SQL 连接 business 返回 0",
		"the server lost track of the attempt, which may have run: the store did not answer, or the lease had run out": "服务器失去了这次尝试的下落，它可能运行过：存储没有应答，或租约已过期",
		"closed again, and its fires are caught up 10s apart":                                                          "已恢复接通，错过的触发每隔 10s 补跑一次",
		"it has waited for longer than catch_up_window":                                                                "它等待的时间超过了 catch_up_window",
		"params.a == 1; params.b == 2":                                                                                 "params.a == 1; params.b == 2",
		"query failed: no such table":                                                                                  "query failed: no such table",
		"start within 5m0s":                                                                                            "应在 5m0s 内开始",
		"finish within 6s":                                                                                             "应在 6s 内结束",
		"finish by 07:00":                                                                                              "应在 07:00 之前结束",
		"take at most 5s":                                                                                              "历时应不超过 5s",
		"take at most 1.5 times the usual 1.02s":                                                                       "历时应不超过平常（1.02s）的 1.5 倍",
	} {
		if said := ledger.Detail(en); said.Zh != zh || said.En != en {
			t.Errorf("%q is said as %q, want %q", en, said.Zh, zh)
		}
	}
}
