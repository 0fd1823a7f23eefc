package ledger_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

const nine = "2026-11-20 09:00"

func TestWhyAnswersEverySituation(t *testing.T) {
	t.Parallel()
	rows := func(r ...core.Run) []core.Run { return r }
	over := func(from, to string, n int) func(*core.Run) {
		return func(r *core.Run) {
			r.FireAt, r.FireThrough, r.FireCount, r.DecidedAt = at(from), at(to), n, at("2026-11-20 11:59")
		}
	}
	policies := func(p core.Policies) func(*core.Task) { return func(t *core.Task) { t.Policies = p } }
	off := func(reason string) func(*core.Task) {
		return func(t *core.Task) {
			t.Enabled, t.DisabledReason = false, reason
			t.State.NextFire = time.Time{}
		}
	}
	spec := func(s string) func(*core.Task) { return func(t *core.Task) { t.Schedule.Spec = s } }
	v1 := report()
	newYork := report(func(t *core.Task) {
		t.Schedule = core.Schedule{Spec: "30 2 * * *", Zone: "America/New_York"}
		t.CreatedAt, t.UpdatedAt = at("2026-01-01 00:00"), at("2026-01-01 00:00")
	})
	utc := func(s string) time.Time { parsed, _ := time.Parse(time.RFC3339, s); return parsed }
	workdays := func(onDayOff string) func(*core.Task) {
		return func(t *core.Task) { t.Schedule.OnlyOn, t.Schedule.OnDayOff = []string{"cn-workdays"}, onDayOff }
	}
	// A task that runs after "load", and the last end of that.
	chained := report(spec("@manual"), func(t *core.Task) { t.After = []core.Upstream{{Task: "load"}, {Task: "check", On: core.OnAlways}} })
	const upstreamID = "0190cccc-0000-7000-8000-000000000003"
	load := func(v core.Verdict, change ...func(*core.Run)) []core.Run {
		return rows(row("2026-11-20 08:59", append(change, func(r *core.Run) { r.ID, r.TaskID, r.TaskName, r.Verdict = upstreamID, "load", "load", v })...))
	}
	caused := func(r *core.Run) {
		r.Trigger, r.Series, r.CausedBy, r.Facts = core.TriggerUpstream, "upstream:"+upstreamID, upstreamID, json.RawMessage(`{"upstream":"load"}`)
	}
	outage := map[string]any{"policy": "all", "late_seconds": 10800, "server_started": "2026-11-20T03:59:00Z"}

	cases := map[string]struct {
		q    ledger.Question
		code ledger.Code
		en   []string // what the sentence must say
		zh   []string
		data map[string]any
		last bool // no instant is named
	}{
		"Started": {
			q:    ledger.Question{Rows: rows(row(nine))},
			code: ledger.CodeStarted, en: []string{"Erp/report at 2026-11-20 09:00:00 (Asia/Shanghai)", "3 ms late", "took 2 s", "succeeded"},
			zh: []string{"晚 3 毫秒", "历时 2 秒", "成功"}, data: map[string]any{"verdict": "succeeded", "late_seconds": 0.003},
		},
		"StartedAndFailedAfterThreeAttempts": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Attempt, r.Verdict, r.Message, r.StartedAt = 3, core.TimedOut, "no answer", r.FireAt.Add(time.Minute)
				r.EndedAt = r.FireAt.Add(2 * time.Minute)
			}))},
			code: ledger.CodeStarted, en: []string{"attempt 3", "timed out: no answer"}, zh: []string{"第 3 次尝试", "超时：no answer"},
		},
		"StartedAfterWaiting": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Gate, r.GateKey, r.WaitSince, r.StartedAt = core.GateCapacity, "pool:erp", r.FireAt, r.FireAt.Add(40*time.Second)
				r.EndedAt = r.FireAt.Add(50 * time.Second)
				r.Breaches = []core.Breach{{Kind: core.BreachStart, At: r.FireAt.Add(30 * time.Second), Limit: "start within 30s"}}
			}))},
			code: ledger.CodeStarted, en: []string{"40 s late", "after it had waited for limit pool:erp for 40 s"}, zh: []string{"等待并发额度 pool:erp 40 秒"},
		},
		"StartedLateAfterAnOutage": {
			q: ledger.Question{Rows: rows(row("2026-11-19 09:00", func(r *core.Run) { r.ID = "before" }), row(nine, func(r *core.Run) {
				r.Trigger, r.DecidedAt, r.StartedAt, r.EndedAt = core.TriggerCatchUp, at("2026-11-20 11:59:01"), at("2026-11-20 11:59:02"), at("2026-11-20 11:59:03")
				r.Facts, _ = json.Marshal(outage)
			}))},
			code: ledger.CodeStarted, en: []string{"2 h 59 min late, because no server decided", "last decision before was made at 2026-11-19 08:59:59.8", "server has worked since 2026-11-20 11:59:00"},
			zh: []string{"晚 2 小时 59 分", "此前最后一次决定在 2026-11-19"}, data: map[string]any{"policy": "all"},
		},
		"Running": {
			q:    ledger.Question{Rows: rows(row(nine, live(core.RunRunning)))},
			code: ledger.CodeRunning, en: []string{"has run for 3 h", "server-1", "it has not ended"}, zh: []string{"已运行 3 小时"},
		},
		"Claimed": {
			q:    ledger.Question{Now: at("2026-11-20 08:59:59.9"), Rows: rows(row(nine, live(core.RunClaimed)))},
			code: ledger.CodeClaimed, en: []string{"claimed by server server-1 and starts at 2026-11-20 09:00:00"}, zh: []string{"已由服务器 server-1 认领"},
		},
		"WaitingForCapacity": {
			q: ledger.Question{Rows: rows(row(nine, live(core.RunWaiting), func(r *core.Run) {
				r.Gate, r.GateKey, r.WaitSince = core.GateCapacity, "pool:erp", at("2026-11-20 11:30")
				r.Facts = json.RawMessage(`{"detail":"2 of 2 slots of pool:erp in use, 1 wanted"}`)
			}))},
			code: ledger.CodeWaiting, en: []string{"still waits for limit pool:erp", "since 2026-11-20 11:30:00 (30 min); when it was last looked at: 2 of 2 slots"},
			zh: []string{"仍在等待并发额度 pool:erp", "已 30 分钟；上次查看时：pool:erp 共 2 个名额，已用 2"}, data: map[string]any{"gate": "capacity", "key": "pool:erp"},
		},
		"WaitingForAPrecondition": {
			q: ledger.Question{
				Task: report(policies(core.Policies{Preconditions: []core.Precondition{{Name: "statistics are there", Deadline: 4 * time.Hour}}})),
				Rows: rows(row(nine, live(core.RunWaiting), func(r *core.Run) {
					r.Gate, r.GateKey, r.WaitSince = core.GatePrecondition, "0", r.FireAt
				})),
			},
			code: ledger.CodeWaiting, en: []string{`a precondition ("statistics are there")`, "until 2026-11-20 13:00:00 at the latest"}, zh: []string{"前置条件“statistics are there”"},
		},
		"WaitingForABreaker": {
			q: ledger.Question{
				Breakers: []core.Breaker{{Name: "downstream:his", State: core.BreakerOpen, Failures: 3, OpenedAt: at("2026-11-20 08:00"), Because: "connection refused"}},
				Rows: rows(row(nine, live(core.RunWaiting), func(r *core.Run) {
					r.Gate, r.GateKey, r.WaitSince = core.GateBreaker, "downstream:his", r.FireAt
				})),
			},
			code: ledger.CodeWaiting, en: []string{"waits for breaker downstream:his"}, zh: []string{"等待熔断器 downstream:his"},
			data: map[string]any{"breaker_state": "open", "breaker_error": "connection refused"},
		},
		"Retrying": {
			q: ledger.Question{Rows: rows(row(nine, live(core.RunRetrying), func(r *core.Run) {
				r.Attempt, r.StartAt, r.Message = 2, at("2026-11-20 12:01"), "exit 1"
			}))},
			code: ledger.CodeRetrying, en: []string{"attempt 2 is due at 2026-11-20 12:01:00: exit 1"}, zh: []string{"第 2 次尝试定于"},
		},
		"CancelledBeforeItBegan": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Verdict, r.StartedAt, r.StopBy, r.Message = core.Cancelled, time.Time{}, "wang", "cancelled while it waited"
			}))},
			code: ledger.CodeNotStarted, en: []string{"without having begun: cancelled", "stopped by wang"}, zh: []string{"由 wang 停止"},
		},
		"SoftTimeout": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Verdict, r.Message = core.TimedOut, "soft timeout reached; it said: half of it is there"
			}))},
			code: ledger.CodeStarted, en: []string{"ended: timed out: soft timeout reached; it said: half"}, zh: []string{"超时：达到软性超时；它说：half of it is there"},
		},
		"KilledAtTheHardTimeout": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Verdict, r.Message = core.TimedOut, "hard timeout reached; it had not stopped since its soft timeout, so its process was killed"
			}))},
			code: ledger.CodeStarted, en: []string{"timed out: hard timeout reached; it had not stopped since its soft timeout"}, zh: []string{"超时：达到硬性超时；软性超时之后它一直没有停止，进程已被强行结束。"},
		},
		"StoppedByAPerson": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Verdict, r.Message = core.Cancelled, "terminated on request by wang; its process was killed"
			}))},
			code: ledger.CodeStarted, en: []string{"cancelled: terminated on request by wang; its process was killed"}, zh: []string{"应 wang 的要求强行结束；进程已被强行结束"},
		},
		"StoppedByALaterFire": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Verdict, r.Message = core.Cancelled, "cancelled by overlap policy cancel_previous (the fire of 2026-11-20T01:05:00Z, run later)"
			}))},
			code: ledger.CodeStarted, en: []string{"cancelled: cancelled by overlap policy cancel_previous (the fire of 2026-11-20 09:05:00, run later)."},
			zh:   []string{"由重叠策略 cancel_previous 取消（因 2026-11-20 09:05:00 那一次，运行 later）"},
			data: map[string]any{"overlap": "cancel_previous", "later_fire": "2026-11-20T01:05:00Z", "later_run_id": "later"},
		},
		"KilledForALaterFire": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Verdict, r.Message = core.Cancelled, "terminated by overlap policy terminate_previous (the fire of 2026-11-20T01:05:00Z, run later); its process was killed"
			}))},
			code: ledger.CodeStarted, en: []string{"terminated by overlap policy terminate_previous (the fire of 2026-11-20 09:05:00, run later); its process was killed."},
			zh: []string{"由重叠策略 terminate_previous 强行结束（因 2026-11-20 09:05:00 那一次，运行 later）；进程已被强行结束"},
		},
		"CancelledForALaterFireBeforeItBegan": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Verdict, r.StartedAt, r.StopBy = core.Cancelled, time.Time{}, "overlap policy cancel_previous (the fire of 2026-11-20T01:05:00Z, run later)"
				r.Message = "cancelled by " + r.StopBy + " before it began"
			}))},
			code: ledger.CodeNotStarted, en: []string{"without having begun: cancelled: cancelled by overlap policy cancel_previous (the fire of 2026-11-20 09:05:00, run later) before it began."},
			zh: []string{"已取消：开始之前由重叠策略 cancel_previous 取消（因 2026-11-20 09:05:00 那一次，运行 later）。"},
		},
		"Lost": {
			q: ledger.Question{Rows: rows(row(nine, func(r *core.Run) {
				r.Verdict, r.EndedAt, r.Message = core.Lost, at("2026-11-20 11:30"), "the server died while the attempt ran, or may have run"
			}))},
			code: ledger.CodeStarted, en: []string{"3 ms late and was lost (which was found at 2026-11-20 11:30:00; how long it ran is not known): the server died"},
			zh:   []string{"随服务器丢失（2026-11-20 11:30:00 才发现，运行了多久不得而知）：服务器在这次尝试运行时（或可能在运行时）中断。"},
			data: map[string]any{"found_at": "2026-11-20T03:30:00Z", "duration_seconds": nil, "ended_at": nil},
		},
		"BeforeAPerson": {
			q: ledger.Question{
				Rows:         rows(row(nine, func(r *core.Run) { r.Attempt, r.Verdict, r.Message = 3, core.Failed, "no paper" })),
				Intervention: asked(core.Intervention{CreatedAt: at("2026-11-20 09:00:05")}),
			},
			code: ledger.CodeStarted, en: []string{"failed: no paper. Its attempts are used up, and since 2026-11-20 09:00:05 it waits for a person."},
			zh: []string{"它的尝试已用完，自 2026-11-20 09:00:05 起等待人工处理。"}, data: map[string]any{"intervention": "open"},
		},
		"RetriedByAPerson": {
			q: ledger.Question{
				Rows: rows(row(nine, func(r *core.Run) { r.Verdict = core.Failed })),
				Intervention: asked(core.Intervention{CreatedAt: at("2026-11-20 09:00:05"), ResolvedAt: at("2026-11-20 10:00"), Action: "retry", By: "wang",
					Note: "paper is there", NewRun: "again"}),
			},
			code: ledger.CodeStarted, en: []string{"put before a person, and wang decided at 2026-11-20 10:00:00: it is tried again as run again, with the note \"paper is there\"."},
			zh:   []string{"经 wang 于 2026-11-20 10:00:00 人工处理：作为运行 again 再试，说明：“paper is there”。"},
			data: map[string]any{"intervention": "retry", "intervention_by": "wang", "intervention_run_id": "again", "intervention_note": "paper is there"},
		},
		"LeftAtThatByAPerson": {
			q: ledger.Question{
				Rows:         rows(row(nine, func(r *core.Run) { r.Verdict = core.TimedOut })),
				Intervention: asked(core.Intervention{ResolvedAt: at("2026-11-20 10:00"), Action: "skip", By: "wang"}),
			},
			code: ledger.CodeStarted, en: []string{"wang decided at 2026-11-20 10:00:00: it is left at that (skip)."}, zh: []string{"人工处理：到此为止（skip）。"},
		},
		"DoneByHand": {
			q: ledger.Question{
				Rows:         rows(row(nine, func(r *core.Run) { r.Verdict, r.StartedAt = core.Failed, time.Time{} })),
				Intervention: asked(core.Intervention{ResolvedAt: at("2026-11-20 10:00"), Action: "done", By: "wang"}),
			},
			code: ledger.CodeNotStarted, en: []string{"wang decided at 2026-11-20 10:00:00: it was done by hand (done)."}, zh: []string{"人工处理：已由人工完成（done）。"},
		},
		"StartedAlthoughAPreconditionWasNotTrue": {
			q: ledger.Question{
				Task: report(policies(core.Policies{Preconditions: []core.Precondition{{Name: "load low", Deadline: 3 * time.Second, Otherwise: core.OtherwiseRun}}})),
				Rows: rows(row(nine, func(r *core.Run) {
					r.Gate, r.GateKey, r.WaitSince, r.StartedAt = core.GatePrecondition, "0", r.FireAt, r.FireAt.Add(3*time.Second)
					r.EndedAt = r.FireAt.Add(4 * time.Second)
					r.Facts, _ = json.Marshal(map[string]string{"detail": "load low: host.load == 3" + core.NotTrueInTime})
				})),
			},
			code: ledger.CodeStarted, en: []string{`waited for a precondition ("load low") for 3 s, which had not come true by its deadline: it was started all the same, as otherwise: run says, took 1 s`},
			zh: []string{"等待前置条件“load low” 3 秒，到期限仍未成立，按 otherwise: run 照常启动，历时 1 秒"}, data: map[string]any{"otherwise": "run"},
		},
		"StartedWhenAPreconditionCameTrue": {
			q: ledger.Question{
				Task: report(policies(core.Policies{Preconditions: []core.Precondition{{Name: "load low", Deadline: 3 * time.Second, Otherwise: core.OtherwiseRun}}})),
				Rows: rows(row(nine, func(r *core.Run) {
					r.Gate, r.GateKey, r.WaitSince, r.StartedAt = core.GatePrecondition, "0", r.FireAt, r.FireAt.Add(3*time.Second)
					r.EndedAt = r.FireAt.Add(4 * time.Second)
					r.Facts, _ = json.Marshal(map[string]string{"detail": "load low: host.load == 3"})
				})),
			},
			code: ledger.CodeStarted, en: []string{`waited for a precondition ("load low") for 3 s, took 1 s`}, zh: []string{"等待前置条件“load low” 3 秒，历时"},
			data: map[string]any{"otherwise": nil},
		},
		"ByHand": {
			q: ledger.Question{At: at("2026-11-20 10:15:07"), Rows: rows(row("2026-11-20 10:15:07.123456", func(r *core.Run) {
				r.Trigger, r.CreatedBy = core.TriggerManual, "zhao"
			}))},
			code: ledger.CodeStarted, en: []string{"started by hand by zhao"}, zh: []string{"由 zhao 手动启动"},
		},
		"Overlap": {
			q: ledger.Question{Rows: rows(
				row("2026-11-19 09:00", live(core.RunRunning), func(r *core.Run) { r.ID = "long" }),
				row(nine, skipped(core.ReasonOverlap, map[string]any{"gate": "overlap", "key": "", "detail": "1 earlier runs are live"})))},
			code: ledger.CodeOverlap, en: []string{"run long of 2026-11-19 09:00:00", "had not ended", "policy skip"}, zh: []string{"运行 long", "重叠策略 skip"},
			data: map[string]any{"live_run_id": "long"},
		},
		"OverlapOfAsManyAsMayRun": {
			q: ledger.Question{
				Task: report(policies(core.Policies{Overlap: core.OverlapAllow, OverlapLimit: 2})),
				Rows: rows(row("2026-11-19 09:00", live(core.RunRunning), func(r *core.Run) { r.ID = "long" }),
					row(nine, skipped(core.ReasonOverlap, map[string]any{"gate": "overlap", "detail": "2 earlier runs are live"}))),
			},
			code: ledger.CodeOverlap, en: []string{"2 earlier runs had not ended, among them run long of 2026-11-19 09:00:00, begun at 2026-11-19 09:00:00.003 (overlap policy allow(2))."},
			zh: []string{"先前有 2 次运行尚未结束，其中有 2026-11-19 09:00:00 那一次的运行 long", "（重叠策略 allow(2)）"}, data: map[string]any{"live_runs": 2, "overlap_limit": 2, "overlap": "allow"},
		},
		"OverlapOfAFullQueue": {
			q: ledger.Question{
				Task: report(policies(core.Policies{Overlap: core.OverlapQueue, OverlapLimit: 3})),
				Rows: rows(row("2026-11-19 09:00", live(core.RunRunning), func(r *core.Run) { r.ID = "long" }),
					row(nine, skipped(core.ReasonOverlap, map[string]any{"gate": "overlap", "detail": "3 runs wait already"}))),
			},
			code: ledger.CodeOverlap, en: []string{"(overlap policy queue(3)): 3 runs wait already"}, zh: []string{"（重叠策略 queue(3)）：已有 3 次在等待"},
		},
		"InTheSecondThatWasAskedAbout": {
			q: ledger.Question{
				At: at("2026-11-20 09:00:01"), Task: report(func(t *core.Task) {
					t.Schedule = core.Schedule{Spec: "@every 1m", Anchor: at("2026-11-20 08:00:01.25")}
				}),
				Rows: rows(row("2026-11-20 08:59:01.25", over("2026-11-20 08:59:01.25", "2026-11-20 09:30:01.25", 32), skipped(core.ReasonPaused, nil))),
			},
			code: ledger.CodePaused, en: []string{"at 2026-11-20 01:00:01.25 (UTC)"}, zh: []string{"暂停"},
		},
		"OverlapOfARunThatExecutes": { // of which only when it was to begin is on record
			q: ledger.Question{Rows: rows(
				row("2026-11-19 09:00", live(core.RunRunning), func(r *core.Run) { r.ID, r.StartedAt, r.StartAt = "long", time.Time{}, r.FireAt }),
				row(nine, skipped(core.ReasonOverlap, map[string]any{"gate": "overlap", "key": "", "detail": "1 earlier run is live"})))},
			code: ledger.CodeOverlap, en: []string{"run long of 2026-11-19 09:00:00, begun at 2026-11-19 09:00:00, had not ended (overlap policy skip)."}, zh: []string{"运行 long"},
			data: map[string]any{"live_run_id": "long"},
		},
		"OverlapWithoutFacts": {
			q:    ledger.Question{Rows: rows(row(nine, skipped(core.ReasonOverlap, nil)))},
			code: ledger.CodeOverlap, en: []string{"an earlier run had not ended"}, zh: []string{"先前的运行尚未结束"},
		},
		"CatchUpNone": {
			q:    ledger.Question{Rows: rows(row(nine, over("2026-11-18 09:00", nine, 3), skipped(core.ReasonCatchUp, map[string]any{"policy": "none"})))},
			code: ledger.CodeCatchUp, en: []string{"2 h 59 min late", "policy none"}, zh: []string{"补跑策略 none"}, data: map[string]any{"cause": "none", "range_count": 3},
		},
		"CatchUpLatest": {
			q: ledger.Question{At: at("2026-11-19 09:00"), Rows: rows(row(nine, over("2026-11-18 09:00", "2026-11-19 09:00", 2),
				skipped(core.ReasonCatchUp, map[string]any{"policy": "latest"})))},
			code: ledger.CodeCatchUp, en: []string{"1 d 2 h late", "only the last one"}, zh: []string{"只补最近一次"}, data: map[string]any{"cause": "latest"},
		},
		"CatchUpWindowPassed": {
			q: ledger.Question{
				At: at("2026-11-18 09:00"), Task: report(policies(core.Policies{CatchUp: core.CatchUpAll, CatchUpWindow: 24 * time.Hour})),
				Rows: rows(row("2026-11-17 09:00", func(r *core.Run) { r.ID = "before" }), row(nine, over("2026-11-18 09:00", "2026-11-19 09:00", 2), skipped(core.ReasonCatchUp, outage))),
			},
			code: ledger.CodeCatchUp, en: []string{"window (1 d) had passed", "last decision before was made at 2026-11-17", "worked since 2026-11-20 11:59:00"}, zh: []string{"补跑窗口（1 天）已过"},
			data: map[string]any{"cause": "window"},
		},
		"CatchUpAfterAnOutageOfKnownLength": {
			q: ledger.Question{
				At: at("2026-11-18 09:00"), Task: report(policies(core.Policies{CatchUp: core.CatchUpNone})),
				Seen: func(before time.Time) time.Time { return at("2026-11-17 23:30") },
				Rows: rows(row("2026-11-17 09:00", func(r *core.Run) { r.ID = "before" }),
					row(nine, over("2026-11-18 09:00", "2026-11-19 09:00", 2), skipped(core.ReasonCatchUp, map[string]any{"policy": "none", "server_started": "2026-11-20T03:59:00Z"}))),
			},
			code: ledger.CodeCatchUp, en: []string{"no server decided anything between 2026-11-17 23:30:00 and 2026-11-20 11:59:00", "policy none"},
			zh: []string{"自 2026-11-17 23:30:00 至 2026-11-20 11:59:00 没有服务器做决定"}, data: map[string]any{"cause": "none"},
		},
		"CatchUpByAServerThatStoodStill": {
			q: ledger.Question{
				At: at("2026-11-18 09:00"), Task: report(policies(core.Policies{CatchUp: core.CatchUpNone})),
				Seen: func(before time.Time) time.Time { return at("2026-11-17 23:30") },
				Rows: rows(row(nine, over("2026-11-18 09:00", "2026-11-19 09:00", 2), skipped(core.ReasonCatchUp, map[string]any{"policy": "none", "server_started": "2026-11-16T04:00:00Z"}),
					func(r *core.Run) { r.DecidedAt = at("2026-11-20 12:30") })),
			},
			code: ledger.CodeCatchUp, en: []string{"no server decided anything between 2026-11-17 23:30:00 and 2026-11-20 12:30:00", "policy none"},
			zh: []string{"自 2026-11-17 23:30:00 至 2026-11-20 12:30:00 没有服务器做决定"}, data: map[string]any{"cause": "none"},
		},
		"CatchUpLimit": {
			q: ledger.Question{
				At: at("2026-11-18 09:00"), Task: report(policies(core.Policies{CatchUp: core.CatchUpAll, CatchUpWindow: 999 * time.Hour, CatchUpLimit: 2})),
				Rows: rows(row(nine, over("2026-11-18 09:00", "2026-11-19 09:00", 2), skipped(core.ReasonCatchUp, outage))),
			},
			code: ledger.CodeCatchUp, en: []string{"newest 2"}, zh: []string{"最近的 2 次"}, data: map[string]any{"cause": "limit"},
		},
		"Calendar": {
			q: ledger.Question{
				At: at("2026-10-02 09:00"), Task: report(workdays(""), func(t *core.Task) { t.CreatedAt, t.UpdatedAt = at("2026-09-01 00:00"), at("2026-09-01 00:00") }),
				Rows: rows(row("2026-10-02 09:00", skipped(core.ReasonCalendar, map[string]any{"calendar": "cn-workdays"}))),
			},
			code: ledger.CodeCalendar, en: []string{`calendar "cn-workdays" refuses 2026-10-02 (Friday), by only_on`}, zh: []string{"日历“cn-workdays”不允许 2026-10-02（周五）"},
			data: map[string]any{"calendar": "cn-workdays", "day": "2026-10-02"},
		},
		"CalendarWithTheNameOfTheHoliday": {
			q: ledger.Question{
				At: at("2026-10-02 09:00"), Task: report(workdays(""), func(t *core.Task) { t.CreatedAt, t.UpdatedAt = at("2026-09-01 00:00"), at("2026-09-01 00:00") }),
				Note: func(string, time.Time) core.Text { return core.Text{Zh: "国庆节", En: "National Day"} },
				Rows: rows(row("2026-10-02 09:00", skipped(core.ReasonCalendar, map[string]any{"calendar": "cn-workdays"}))),
			},
			code: ledger.CodeCalendar, en: []string{"refuses 2026-10-02 (Friday, National Day)"}, zh: []string{"（周五，国庆节）"}, data: map[string]any{"note": "National Day"},
		},
		"MovedToTheNextWorkingDay": {
			q: ledger.Question{
				At: at("2026-11-14 09:00"), Task: report(workdays("next"), spec("0 9 14 * *")),
				Rows: rows(row("2026-11-16 09:00", func(r *core.Run) { r.MovedFrom = at("2026-11-14 09:00") })),
			},
			code: ledger.CodeStarted, en: []string{`Calendar "cn-workdays" moved it from 2026-11-14 09:00:00 (Saturday) to 2026-11-16 09:00:00`}, zh: []string{"从 2026-11-14 09:00:00（周六）移到 2026-11-16 09:00:00"},
		},
		"MovedAndMerged": {
			q: ledger.Question{
				At: at("2026-11-15 09:00"), Task: report(workdays("next")),
				Rows: rows(row("2026-11-16 09:00", func(r *core.Run) { r.MovedFrom = at("2026-11-14 09:00") })),
			},
			code: ledger.CodeMoved, en: []string{`was moved by calendar "cn-workdays" to 2026-11-16 09:00:00`, "succeeded"}, zh: []string{"由日历“cn-workdays”移到 2026-11-16 09:00:00"},
		},
		"MovedToThePreviousWorkingDay": {
			q:    ledger.Question{At: at("2026-11-15 09:00"), Task: report(workdays("previous"))},
			code: ledger.CodeMoved, en: []string{"to 2026-11-13 09:00:00"}, zh: []string{"移到 2026-11-13"},
		},
		"Paused": {
			q: ledger.Question{Rows: rows(row(nine, skipped(core.ReasonPaused, map[string]any{
				"by": "wang", "note": "year-end closing", "since": "2026-11-19T02:00:00Z", "until": "2026-11-20T10:00:00Z",
			})))},
			code: ledger.CodePaused, en: []string{"paused by wang at 2026-11-19 10:00:00, until 2026-11-20 18:00:00", `"year-end closing"`},
			zh: []string{"由 wang 于 2026-11-19 10:00:00 暂停", "“year-end closing”"}, data: map[string]any{"by": "wang", "note": "year-end closing"},
		},
		"PausedWithoutFacts": {
			q: ledger.Question{
				Task: report(func(t *core.Task) { t.Pause = core.Pause{Since: at("2026-11-19 10:00"), By: "wang"} }),
				Rows: rows(row(nine, skipped(core.ReasonPaused, nil))),
			},
			code: ledger.CodePaused, en: []string{"paused by wang", "until somebody resumes it"}, zh: []string{"直到有人恢复"},
		},
		"MaxRuns": {
			q:    ledger.Question{Rows: rows(row(nine, skipped(core.ReasonMaxRuns, map[string]any{"max_runs": 5, "fired": 5})))},
			code: ledger.CodeMaxRuns, en: []string{"starts 5 runs at most"}, zh: []string{"最多运行 5 次"},
		},
		"MaxRunsBefore": {
			q: ledger.Question{
				Task: report(policies(core.Policies{MaxRuns: 5}), func(t *core.Task) { t.State.NextFire = time.Time{} }),
				Rows: rows(row("2026-11-18 09:00", skipped(core.ReasonMaxRuns, map[string]any{"max_runs": 5, "fired": 5}))),
			},
			code: ledger.CodeMaxRuns, en: []string{"since the fire of 2026-11-18 09:00:00 its schedule starts nothing more (5 runs at most)"}, zh: []string{"计划不再触发（最多运行 5 次）"},
		},
		"MaxRunsOfOne": {
			q: ledger.Question{
				Task: report(policies(core.Policies{MaxRuns: 1}), func(t *core.Task) { t.State.NextFire = time.Time{} }),
				Rows: rows(row("2026-11-18 09:00", skipped(core.ReasonMaxRuns, map[string]any{"max_runs": 1, "fired": 1}))),
			},
			code: ledger.CodeMaxRuns, en: []string{"(1 run at most)"}, zh: []string{"最多运行 1 次"},
		},
		"NotDueAndUsedUp": {
			q: ledger.Question{
				At: at("2026-12-25 09:00"), Task: report(policies(core.Policies{MaxRuns: 3}), func(t *core.Task) { t.State.NextFire, t.State.Fired = time.Time{}, 3 }),
			},
			code: ledger.CodeMaxRuns, en: []string{"will not come: its schedule starts 3 runs at most, and has started 3; nothing more comes until the task is changed."},
			zh: []string{"不会触发：任务按计划最多运行 3 次，已运行 3 次"}, data: map[string]any{"max_runs": 3, "fired": int64(3)},
		},
		"NotDueAndUsedUpButNotYetSaid": {
			q: ledger.Question{
				At: at("2026-11-21 09:00"), Task: report(policies(core.Policies{MaxRuns: 1}), func(t *core.Task) { t.State.Fired = 1 }),
			},
			code: ledger.CodeMaxRuns, en: []string{"will be skipped: its schedule starts 1 run at most, and has started 1"}, zh: []string{"届时会被跳过"},
		},
		"NotDueAndUsedUpByThen": {
			q: ledger.Question{
				At: at("2026-12-25 09:00"), Task: report(policies(core.Policies{MaxRuns: 3}), func(t *core.Task) { t.State.Fired = 1 }),
			},
			code: ledger.CodeMaxRuns, en: []string{"is not expected to come: its schedule starts 3 runs at most, and has started 1; the last will be that of 2026-11-22 09:00:00"},
			zh: []string{"预计不会触发", "若无跳过，2026-11-22 09:00:00 就是最后一次"}, data: map[string]any{"last": "2026-11-22T01:00:00Z"},
		},
		"NotDueAndTheLast": {
			q: ledger.Question{
				At: at("2026-11-22 09:00"), Task: report(policies(core.Policies{MaxRuns: 3}), func(t *core.Task) { t.State.Fired = 1 }),
			},
			code: ledger.CodeNotDue, en: []string{"has not come yet: it is due in 1 d 21 h (1 of at most 3 runs started so far)"}, zh: []string{"最多 3 次，已运行 1 次"},
		},
		"AfterTheActiveWindow": {
			q: ledger.Question{
				At: at("2026-11-25 09:00"), Task: report(func(t *core.Task) { t.Schedule.Until, t.State.NextFire = at("2026-11-19 12:00"), time.Time{} }),
			},
			code: ledger.CodeNoSuchFire, en: []string{"has no instant at 2026-11-25 09:00:00 (Asia/Shanghai): its active window ended at 2026-11-19 12:00:00 (until), and nothing fires after that; the nearest before is 2026-11-19 09:00:00."},
			zh: []string{"它的有效期到 2026-11-19 12:00:00 为止（until）"}, data: map[string]any{"until": "2026-11-19T04:00:00Z"},
		},
		"BeforeTheActiveWindow": {
			q: ledger.Question{
				At: at("2026-11-25 09:00"), Task: report(func(t *core.Task) { t.Schedule.From = at("2026-12-01 00:00") }),
			},
			code: ledger.CodeNoSuchFire, en: []string{"its active window begins only at 2026-12-01 00:00:00 (from), and nothing fires before that, the nearest after is 2026-12-01 09:00:00."},
			zh: []string{"它的有效期自 2026-12-01 00:00:00 才开始（from）"}, data: map[string]any{"from": "2026-11-30T16:00:00Z"},
		},
		"PreconditionOfADatabase": {
			q: ledger.Question{
				Task: report(policies(core.Policies{Preconditions: []core.Precondition{{Name: "loaded", SQL: &core.SQLCheck{Connection: "business"}}}})),
				Rows: rows(row(nine, skipped(core.ReasonPrecondition, map[string]any{"gate": "precondition", "key": "0", "detail": "loaded: sql business gave 0"}))),
			},
			code: ledger.CodePrecondition, en: []string{"had not come true by 2026-11-20 09:00:00: sql business gave 0."}, zh: []string{"仍未成立：SQL 连接 business 返回 0。"},
		},
		"PreconditionThatCannotBeJudged": {
			q: ledger.Question{
				Task: report(policies(core.Policies{Preconditions: []core.Precondition{{Name: "loaded", Expression: "1"}}})),
				Rows: rows(row(nine, skipped(core.ReasonPrecondition, map[string]any{"gate": "precondition", "key": "0", "detail": "loaded: evaluate expression: line 1, column 2: it took longer than 1s"}))),
			},
			code: ledger.CodePrecondition, en: []string{": evaluate expression: line 1, column 2: it took longer than 1s."}, zh: []string{"：计算表达式：第 1 行第 2 列：用时超过 1s。"},
		},
		"Precondition": {
			q: ledger.Question{
				Task: report(policies(core.Policies{Preconditions: []core.Precondition{{Name: "statistics are there", Deadline: time.Hour}}})),
				Rows: rows(row(nine, skipped(core.ReasonPrecondition, map[string]any{"gate": "precondition", "key": "0", "detail": "statistics are there: is false"}))),
			},
			code: ledger.CodePrecondition, en: []string{`"statistics are there" had not come true by 2026-11-20 10:00:00: is false`}, zh: []string{"直到 2026-11-20 10:00:00 仍未成立：is false"},
		},
		"PreconditionOfABackfill": { // asked for hours after its instant; history does not say when it could start
			q: ledger.Question{
				Task: report(policies(core.Policies{Preconditions: []core.Precondition{{Name: "statistics are there", Deadline: 20 * time.Second}}})),
				Rows: rows(row(nine, skipped(core.ReasonPrecondition, map[string]any{"gate": "precondition", "key": "0", "detail": "statistics are there: is false"}), func(r *core.Run) {
					r.Trigger, r.Series, r.StartAt = core.TriggerBackfill, "backfill:1", time.Time{}
					r.WaitSince = at("2026-11-20 11:45").Add(47 * time.Second)
					r.DecidedAt = r.WaitSince.Add(20 * time.Second)
				})),
			},
			code: ledger.CodePrecondition, en: []string{`had not come true by 2026-11-20 11:46:07: is false`}, zh: []string{"直到 2026-11-20 11:46:07 仍未成立"},
			data: map[string]any{"deadline": "2026-11-20T03:46:07Z"},
		},
		"PreconditionOfACatchUpThatWasSlowToLookAt": { // it came to the gate when the first look had taken three seconds
			q: ledger.Question{
				Task: report(policies(core.Policies{Preconditions: []core.Precondition{{Name: "statistics are there", Deadline: 20 * time.Second}}})),
				Rows: rows(row(nine, skipped(core.ReasonPrecondition, map[string]any{"gate": "precondition", "key": "0", "detail": "statistics are there: is false"}), func(r *core.Run) {
					r.Trigger, r.StartAt = core.TriggerCatchUp, time.Time{}
					r.WaitSince, r.DecidedAt = at("2026-11-20 11:45").Add(3*time.Second), at("2026-11-20 11:45").Add(20*time.Second)
				})),
			},
			code: ledger.CodePrecondition, en: []string{`had not come true by 2026-11-20 11:45:20: is false`}, zh: []string{"直到 2026-11-20 11:45:20 仍未成立"},
		},
		"PreconditionOfAFireThatHistoryHas": {
			q: ledger.Question{
				Task: report(policies(core.Policies{Preconditions: []core.Precondition{{Name: "statistics are there", Deadline: time.Hour}}})),
				Rows: rows(row(nine, skipped(core.ReasonPrecondition, map[string]any{"gate": "precondition", "key": "0", "detail": "statistics are there: is false"}), func(r *core.Run) {
					r.StartAt, r.DecidedAt = time.Time{}, r.FireAt.Add(2*time.Hour) // no server ran when it came
				})),
			},
			code: ledger.CodePrecondition, en: []string{`had not come true by 2026-11-20 10:00:00: is false`}, zh: []string{"直到 2026-11-20 10:00:00 仍未成立"},
		},
		"BreakerOpen": {
			q: ledger.Question{
				Breakers: []core.Breaker{{Name: "downstream:his", State: core.BreakerOpen, Failures: 7, OpenedAt: at("2026-11-20 08:30"), Because: "refused"}},
				Rows:     rows(row(nine, skipped(core.ReasonBreaker, map[string]any{"gate": "breaker", "key": "downstream:his", "detail": "open after 5 failures: connection refused"}))),
			},
			code: ledger.CodeBreaker, en: []string{"breaker downstream:his was open after 5 failures in a row", "connection refused", "since 2026-11-20 08:30:00"}, zh: []string{"熔断器 downstream:his"},
			data: map[string]any{"last_error": "connection refused", "failures": 5},
		},
		"Capacity": {
			q:    ledger.Question{Rows: rows(row(nine, skipped(core.ReasonCapacity, map[string]any{"key": "pool:erp", "detail": "2 of 2 slots of pool:erp in use, 1 wanted, and 1000 runs wait for it already"})))},
			code: ledger.CodeCapacity, en: []string{"pool:erp was used up (2 of 2)"}, zh: []string{"额度 pool:erp 共 2，已用 2"}, data: map[string]any{"used": 2, "limit": 2},
		},
		"Superseded": {
			q:    ledger.Question{Rows: rows(row(nine, skipped(core.ReasonSuperseded, map[string]any{"detail": "a later fire waits at the breaker"})))},
			code: ledger.CodeSuperseded, en: []string{"a later fire took its place"}, zh: []string{"被后一次取代"},
		},
		"SupersededByPolicy": {
			q:    ledger.Question{Rows: rows(row(nine, skipped(core.ReasonSuperseded, map[string]any{"by": "overlap policy cancel_previous (the fire of 2026-11-20T01:05:00Z, run later)"})))},
			code: ledger.CodeSuperseded, en: []string{"took its place while it waited: overlap policy cancel_previous (the fire of 2026-11-20 09:05:00, run later)."},
			zh: []string{"取代：重叠策略 cancel_previous（因 2026-11-20 09:05:00 那一次，运行 later）。"}, data: map[string]any{"later_run_id": "later"},
		},
		"Shutdown": {
			q:    ledger.Question{Rows: rows(row(nine, skipped(core.ReasonShutdown, nil)))},
			code: ledger.CodeShutdown, en: []string{"server server-1 was stopping"}, zh: []string{"正在停止"},
		},
		"UnknownType": {
			q:    ledger.Question{Rows: rows(row(nine, skipped(core.ReasonUnknownType, nil)))},
			code: ledger.CodeUnknownType, en: []string{"offers the task type Common.Http"}, zh: []string{"任务类型 Common.Http"},
		},
		"Poisoned": {
			q:    ledger.Question{Rows: rows(row(nine, skipped(core.ReasonPoisoned, map[string]any{"problem": "no zone Mars/Base"})))},
			code: ledger.CodePoisoned, en: []string{"cannot be read: no zone Mars/Base"}, zh: []string{"无法读取：no zone Mars/Base"},
		},
		"NonexistentLocalTime": {
			q: ledger.Question{
				At: utc("2026-03-08T07:00:00Z"), Task: func() core.Task { t := newYork; t.Schedule.OnGap = "skip"; return t }(),
				Rows: rows(row(nine, skipped(core.ReasonNonexistent, nil), func(r *core.Run) { r.FireAt = utc("2026-03-08T07:00:00Z") })),
			},
			code: ledger.CodeNonexistent, en: []string{"does not exist on that date"}, zh: []string{"时钟拨快"},
		},
		"NonexistentLocalTimeAsked": {
			q:    ledger.Question{At: utc("2026-03-08T07:30:00Z"), Task: func() core.Task { t := newYork; t.Schedule.OnGap = "skip"; return t }()},
			code: ledger.CodeNonexistent, en: []string{"local time 2026-03-08 02:30:00 (America/New_York) does not exist"}, zh: []string{"当地时间 2026-03-08 02:30:00"},
		},
		"MergedByTheGapRule": {
			q: ledger.Question{At: utc("2026-03-08T07:30:00Z"), Task: newYork, Rows: rows(row(nine, func(r *core.Run) {
				r.FireAt, r.FireThrough = utc("2026-03-08T07:00:00Z"), utc("2026-03-08T07:00:00Z")
				r.StartedAt, r.EndedAt = utc("2026-03-08T07:00:00Z"), utc("2026-03-08T07:00:01Z")
			}))},
			code: ledger.CodeMerged, en: []string{"clock went forward to 2026-03-08 03:00:00", "succeeded"}, zh: []string{"时钟在 2026-03-08 03:00:00 拨快"},
		},
		"StandsForALocalTime": {
			q: ledger.Question{At: utc("2026-03-08T07:00:00Z"), Task: newYork, Rows: rows(row(nine, func(r *core.Run) {
				r.FireAt, r.FireThrough = utc("2026-03-08T07:00:00Z"), utc("2026-03-08T07:00:00Z")
			}))},
			code: ledger.CodeStarted, en: []string{"stands for the local time 2026-03-08 02:30:00"}, zh: []string{"代替当地时间 2026-03-08 02:30:00"},
		},
		"StopOnError": {
			q: ledger.Question{
				Task:     edited(edited(v1, "2026-11-19 09:01", off("stop_on_error: run "+runID+" failed")), "2026-11-19 10:00", func(t *core.Task) { t.Owner = "li" }),
				Versions: []core.Task{edited(v1, "2026-11-19 09:01", off("stop_on_error: run "+runID+" failed")), v1},
				Rows:     rows(row("2026-11-19 09:00", func(r *core.Run) { r.Verdict, r.Message = core.Failed, "no paper" })),
			},
			code: ledger.CodeStopOnError, en: []string{"disabled the task at 2026-11-19 09:01:00 (version 2)", "which was the fire of 2026-11-19 09:00:00: no paper"},
			zh: []string{"在 2026-11-19 09:01:00 被 Gnomon 停用"}, data: map[string]any{"run_id": runID},
		},
		"StopAfterSeveralInARow": {
			q: ledger.Question{
				Task: edited(v1, "2026-11-19 09:01", off("stop_on_error: 3 runs in a row failed, the last was "+runID+" (timed_out)")), Versions: []core.Task{v1},
			},
			code: ledger.CodeStopOnError, en: []string{"stop_on_error: 3 runs in a row failed, the last was " + runID + " (timed_out)"},
			zh: []string{"stop_on_error：连续 3 次运行失败，最后一次是 " + runID + "（超时）"},
		},
		"DisabledByAPerson": {
			q:    ledger.Question{Task: edited(v1, "2026-11-19 10:00", off("")), Versions: []core.Task{v1}},
			code: ledger.CodeDisabled, en: []string{"did not come: the task was disabled by wang at 2026-11-19 10:00:00 (version 2)"}, zh: []string{"由 wang 于 2026-11-19 10:00:00 停用"},
		},
		"DisabledAfterTheClaim": {
			q: ledger.Question{
				Task: edited(v1, "2026-11-20 08:59:59.9", off("")), Versions: []core.Task{v1},
				Rows: rows(row(nine, skipped(core.ReasonDisabled, nil))),
			},
			code: ledger.CodeDisabled, en: []string{"was skipped: the task was disabled by wang"}, zh: []string{"被跳过：任务已由 wang"},
		},
		"EditedAfterTheClaim": {
			q: ledger.Question{
				Task: edited(v1, "2026-11-20 08:59:59.9", spec("0 10 * * *")), Versions: []core.Task{v1},
				Rows: rows(row(nine, skipped(core.ReasonEdited, nil))),
			},
			code: ledger.CodeEdited, en: []string{"changed by wang at 2026-11-20 08:59:59.9 (version 2)"}, zh: []string{"被 wang 于"},
		},
		"EditedAwayMeanwhile": {
			q:    ledger.Question{Task: edited(v1, "2026-11-19 15:00", spec("0 10 * * *")), Versions: []core.Task{v1}},
			code: ledger.CodeEdited, en: []string{`belongs to version 1 (schedule "0 9 * * *"), which was replaced at 2026-11-19 15:00:00 by wang (version 2)`}, zh: []string{"属于版本 1"},
		},
		"EditedInTooLate": {
			q:    ledger.Question{Task: edited(report(spec("0 10 * * *")), "2026-11-20 11:00", spec("0 9 * * *")), Versions: []core.Task{report(spec("0 10 * * *"))}},
			code: ledger.CodeEdited, en: []string{`came only at 2026-11-20 11:00:00 by wang (version 2), and an edit fires nothing retroactively`}, zh: []string{"修改不追溯触发"},
		},
		"EditedAtThatMoment": {
			q: ledger.Question{
				Task:     edited(v1, "2026-11-20 09:00:00.3", func(t *core.Task) { t.Owner = "li"; t.State.NextFire = at("2026-11-21 09:00") }),
				Versions: []core.Task{v1},
			},
			code: ledger.CodeEdited, en: []string{"at that very moment the task was changed by wang"}, zh: []string{"就在那一刻由 wang 修改"},
		},
		"EditedWhileNobodyDecided": {
			q: ledger.Question{
				Task:     edited(v1, "2026-11-20 11:00", func(t *core.Task) { t.Owner = "li" }),
				Versions: []core.Task{v1}, Rows: rows(row("2026-11-19 09:00")),
			},
			code: ledger.CodeEdited, en: []string{"no server decided anything then", "at 2026-11-20 11:00:00 the task was changed by wang (version 2)"}, zh: []string{"未决定的时刻不再触发"},
		},
		"NotCreatedYet": {
			q:    ledger.Question{At: at("2026-10-20 09:00")},
			code: ledger.CodeNotCreated, en: []string{"only created at 2026-11-01 00:00:00 by li"}, zh: []string{"才由 li 创建"},
		},
		"OlderThanWhatIsKept": {
			q:    ledger.Question{At: at("2026-10-20 09:00"), Task: report(func(t *core.Task) { t.Version = 7 })},
			code: ledger.CodeNoRecord, en: []string{"oldest version that is kept, 7"}, zh: []string{"最早保留的版本 7"},
		},
		"Deleted": {
			q:    ledger.Question{Deleted: at("2026-11-19 12:00"), DeletedBy: "wang"},
			code: ledger.CodeDeleted, en: []string{"deleted by wang at 2026-11-19 12:00:00"}, zh: []string{"由 wang 于 2026-11-19 12:00:00 删除"},
		},
		"Undecided": {
			q:    ledger.Question{Task: report(func(t *core.Task) { t.State.NextFire = at("2026-11-19 09:00") }), Rows: rows(row("2026-11-18 09:00"))},
			code: ledger.CodeUndecided, en: []string{"was due 3 h ago, and no server has decided it yet", "every instant since 2026-11-19 09:00:00 is undecided"}, zh: []string{"已到点 3 小时"},
		},
		"BeingDecided": {
			q:    ledger.Question{Now: at("2026-11-20 09:00:00.5"), Task: report(func(t *core.Task) { t.State.NextFire = at(nine) })},
			code: ledger.CodeUndecided, en: []string{"is being decided"}, zh: []string{"正在作出决定"},
		},
		"ServerDown": {
			q:    ledger.Question{Serving: at("2026-11-20 08:00"), Task: report(func(t *core.Task) { t.State.NextFire = at(nine) })},
			code: ledger.CodeServerDown, en: []string{"no server has worked since 2026-11-20 08:00:00"}, zh: []string{"自 2026-11-20 08:00:00 起没有服务器在工作"},
		},
		"NoSuchFire": {
			q:    ledger.Question{At: at("2026-11-20 09:30")},
			code: ledger.CodeNoSuchFire, en: []string{"no instant at 2026-11-20 09:30:00", "before is 2026-11-20 09:00:00", "after is 2026-11-21 09:00:00"}, zh: []string{"没有 2026-11-20 09:30:00"},
		},
		"NoSuchFireInARange": {
			q: ledger.Question{
				At:   at("2026-11-18 17:00"),
				Rows: rows(row(nine, over("2026-11-18 09:00", nine, 3), skipped(core.ReasonCatchUp, nil))),
			},
			code: ledger.CodeNoSuchFire, en: []string{"before is 2026-11-18 09:00:00"}, zh: []string{"之前最近的是"},
		},
		"Manual": {
			q:    ledger.Question{Task: report(spec("@manual"))},
			code: ledger.CodeNoSuchFire, en: []string{"has no schedule (@manual)"}, zh: []string{"@manual"},
		},
		"ChainStarted": {
			q: ledger.Question{Task: chained, Ends: load(core.Succeeded), Rows: rows(row(nine, caused))}, last: true,
			code: ledger.CodeStarted, en: []string{"Erp/report has no schedule and runs when load succeeds or check ends. The last end was that of run " + upstreamID + " of load",
				"succeeded. The run of Erp/report at 2026-11-20 09:00:00 (Asia/Shanghai)", "caused by the upstream run " + upstreamID + " (load),", "ended: succeeded"},
			zh:   []string{"没有计划，在 load 成功、check 结束后运行。最近一次结束的是 load 的运行 " + upstreamID, "由上游运行 " + upstreamID + " (load) 触发的一次于"},
			data: map[string]any{"upstream": "load", "upstream_run_id": upstreamID, "upstream_outcome": "succeeded"},
		},
		"ChainDisabled": {
			q: ledger.Question{Task: edited(chained, "2026-11-19 10:00", off("")), Versions: []core.Task{chained}, Ends: load(core.Succeeded),
				Rows: rows(row(nine, caused, skipped(core.ReasonDisabled, nil), func(r *core.Run) { r.TaskVersion = 2 }))}, last: true,
			code: ledger.CodeDisabled, en: []string{"was skipped: the task was disabled by wang at 2026-11-19 10:00:00 (version 2)"}, zh: []string{"被跳过：任务已由 wang"},
		},
		"ChainStopped": {
			q: ledger.Question{Task: edited(chained, "2026-11-19 10:00", off("stop_on_error: run "+runID+" failed")), Versions: []core.Task{chained},
				Rows: rows(row(nine, caused, skipped(core.ReasonDisabled, nil), func(r *core.Run) { r.ID, r.TaskVersion = "later", 2 }))},
			code: ledger.CodeStopOnError, en: []string{"was skipped: Gnomon had disabled the task"}, zh: []string{"被 Gnomon 停用"},
		},
		"ChainPaused": {
			q: ledger.Question{Task: chained, Ends: load(core.Succeeded), Rows: rows(row(nine, caused, skipped(core.ReasonPaused,
				map[string]any{"upstream": "load", "by": "wang", "since": "2026-11-19T02:00:00Z", "note": "stocktaking"})))}, last: true,
			code: ledger.CodePaused, en: []string{"was skipped: the task was paused by wang at 2026-11-19 10:00:00", "stocktaking"}, zh: []string{"任务已由 wang 于"},
		},
		"ChainWithoutParameters": {
			q: ledger.Question{Task: chained, Ends: load(core.Succeeded), Rows: rows(row(nine, caused, skipped(core.ReasonParams,
				map[string]any{"upstream": "load", "problem": "x", "findings": []core.Finding{{Path: "params.batch", Message: core.Text{Zh: "没有 $.n", En: "nothing at $.n"}}}})))}, last: true,
			code: ledger.CodeParams, en: []string{"was skipped: the output of its upstream load does not give parameters that fit: params.batch: nothing at $.n."},
			zh: []string{"被跳过：上游 load 的输出给不出合用的参数：params.batch：没有 $.n。"},
		},
		"ChainWithoutParametersUnsaid": {
			q:    ledger.Question{Task: chained, Rows: rows(row(nine, caused, skipped(core.ReasonParams, map[string]any{"upstream": "load", "problem": "no object"})))},
			code: ledger.CodeParams, en: []string{"parameters that fit: no object."}, zh: []string{"合用的参数：no object。"},
		},
		"ChainOtherOutcome": {
			q: ledger.Question{Task: chained, Ends: load(core.TimedOut), Rows: rows(row("2026-11-19 09:00", caused, func(r *core.Run) { r.CausedBy = "an older one" }))}, last: true,
			code: ledger.CodeUpstreamOutcome, en: []string{"The last end was that of run " + upstreamID + " of load, at 2026-11-20 08:59:02.003: timed out, but it runs only when load succeeds."},
			zh: []string{"结果：超时；而它只在 load 成功后运行。"}, data: map[string]any{"upstream_outcome": "timed_out"},
		},
		"ChainOfAStep": {
			q: ledger.Question{Task: chained, Ends: load(core.Succeeded, func(r *core.Run) { r.WorkflowID = "w1" })}, last: true,
			code: ledger.CodeUpstreamOutcome, en: []string{"a step of workflow run w1, and the end of a step starts nothing"}, zh: []string{"步骤结束不触发下游"},
		},
		"ChainNotEnded": {
			q: ledger.Question{Task: edited(chained, "2026-11-19 10:00", func(t *core.Task) { t.Pause = core.Pause{Since: t.UpdatedAt, By: "wang"} }), Versions: []core.Task{chained}}, last: true,
			code: ledger.CodeUpstreamPending, en: []string{"No run of load or check has ended yet; they have been linked since 2026-11-01 00:00:00 (version 1).", "An end would not start it now: the task was paused by wang"},
			zh: []string{"load、check 还没有运行结束过（关联始于 2026-11-01 00:00:00，版本 1）", "目前结束也不会启动它：任务已由 wang"}, data: map[string]any{"version": int64(1)},
		},
		"ChainNotEndedSinceItIsOne": {
			q: ledger.Question{Ends: load(core.Succeeded), Versions: []core.Task{report(spec("@manual"))},
				Task: edited(report(spec("@manual")), "2026-11-20 10:00", func(t *core.Task) { t.After, t.Enabled = chained.After, false })}, last: true,
			code: ledger.CodeUpstreamPending, en: []string{"No run of load or check has ended since they were linked, at 2026-11-20 10:00:00 (version 2).", "An end would not start it now: the task was disabled by wang"},
			zh: []string{"自建立关联以来 load、check 没有运行结束过（2026-11-20 10:00:00，版本 2）"},
		},
		"ChainWithoutARow": {
			q: ledger.Question{Task: chained, Ends: load(core.Succeeded)}, last: true,
			code: ledger.CodeNoRecord, en: []string{"It should have caused a fire, and there is no row"}, zh: []string{"却没有记录"},
		},
		"ChainAtAnInstant": {
			q:    ledger.Question{Task: chained, Ends: load(core.Succeeded), Rows: rows(row("2026-11-20 08:59:02", caused))},
			code: ledger.CodeNoSuchFire, en: []string{"did not fire at 2026-11-20 09:00:00 (Asia/Shanghai): it has no schedule and runs when load succeeds or check ends.", "it started run " + runID + " at 2026-11-20 08:59:02"},
			zh: []string{"没有触发：它没有计划，在 load 成功、check 结束后运行。", "由它触发的是"},
		},
		"ChainAtAnInstantAfterASkippedFire": {
			q:    ledger.Question{Task: chained, Ends: load(core.Succeeded), Rows: rows(row("2026-11-20 08:59:02", caused, skipped(core.ReasonPaused, nil)))},
			code: ledger.CodeNoSuchFire, en: []string{"the fire it caused at 2026-11-20 08:59:02 was skipped (paused)"}, zh: []string{"那一次被跳过（paused）"},
		},
		"ChainAtAnInstantAfterAnotherOutcome": {
			q:    ledger.Question{Task: chained, Ends: load(core.Failed)},
			code: ledger.CodeNoSuchFire, en: []string{"failed, but it runs only when load succeeds"}, zh: []string{"而它只在 load 成功后运行"},
		},
		"ChainBeforeAnyEnd": {
			q:    ledger.Question{Task: chained},
			code: ledger.CodeNoSuchFire, en: []string{"No run of load or check had ended by then."}, zh: []string{"此前 load、check 没有运行结束过"},
		},
		"AfterTheLastRun": {
			q: ledger.Question{
				Task: report(spec("@after 10m"), func(t *core.Task) { t.State.NextFire = time.Time{} }),
				Rows: rows(row("2026-11-20 08:00", live(core.RunRunning))),
			},
			code: ledger.CodeNoSuchFire, en: []string{"fires 10 min after its last run has ended", "run " + runID + " had not ended then"}, zh: []string{"上次运行结束后 10 分钟触发"},
		},
		"NotDueYet": {
			q:    ledger.Question{At: at("2026-11-21 09:00")},
			code: ledger.CodeNotDue, en: []string{"due in 21 h"}, zh: []string{"还有 21 小时"},
		},
		"NotDueAndPaused": {
			q: ledger.Question{At: at("2026-11-21 09:00"), Task: report(func(t *core.Task) {
				t.Pause = core.Pause{Since: at("2026-11-20 10:00"), Until: at("2026-11-22 00:00"), By: "wang"}
			})},
			code: ledger.CodePaused, en: []string{"comes in 21 h and will be skipped", "until 2026-11-22 00:00:00"}, zh: []string{"届时会被跳过"},
		},
		"NotDueAndRefusedByACalendar": {
			q:    ledger.Question{At: at("2026-11-21 09:00"), Task: report(workdays(""))},
			code: ledger.CodeCalendar, en: []string{"will be skipped", "2026-11-21 (Saturday)"}, zh: []string{"2026-11-21（周六）"},
		},
		"NotDueAndDisabled": {
			q:    ledger.Question{At: at("2026-11-21 09:00"), Task: edited(v1, "2026-11-19 10:00", off("")), Versions: []core.Task{v1}},
			code: ledger.CodeDisabled, en: []string{"will not come"}, zh: []string{"不会触发"},
		},
		"NoRecordOfOlderCalendars": {
			q:    ledger.Question{At: at("2026-11-05 09:00"), Recalendared: at("2026-11-10 00:00"), Task: report(workdays(""))},
			code: ledger.CodeNoRecord, en: []string{"calendars have changed since, at 2026-11-10 00:00:00"}, zh: []string{"日历在 2026-11-10 00:00:00 之后改过"},
		},
		"NoRecord": {
			q:    ledger.Question{At: at("2026-11-05 09:00")},
			code: ledger.CodeNoRecord, en: []string{"should have a row and has none"}, zh: []string{"应当有一条记录"},
		},
	}
	seen := map[ledger.Code]bool{}
	for name, c := range cases {
		if c.q.At.IsZero() && !c.last {
			c.q.At = at(nine)
		}
		t.Run(name, func(t *testing.T) {
			a := why(t, c.q)
			seen[a.Code] = true
			if a.Code != c.code {
				t.Errorf("code %q, want %q", a.Code, c.code)
			}
			said(t, a.Text.En, c.en)
			said(t, a.Text.Zh, c.zh)
			for key, want := range c.data {
				if got := a.Data[key]; got != want {
					t.Errorf("data %s = %v, want %v (all: %v)", key, got, want, a.Data)
				}
			}
			for _, text := range []string{a.Text.Zh, a.Text.En} {
				if strings.Contains(text, "%!") || strings.Contains(text, "0001-") || !utf8.ValidString(text) || text == "" {
					t.Errorf("not fit for people: %q", text)
				}
			}
			if len(a.Evidence) == 0 {
				t.Errorf("no evidence for %q", a.Text.En)
			}
			for _, e := range a.Evidence {
				if strings.Contains(e.Text.En+e.Text.Zh, "%!") || strings.Contains(e.Text.En, "0001-") {
					t.Errorf("not fit for people: %q", e.Text)
				}
			}
			if _, err := json.Marshal(a); err != nil {
				t.Error(err)
			}
			t.Logf("%s\n%s", a.Text.Zh, a.Text.En)
		})
	}
	for _, code := range ledger.Codes() {
		if !seen[code] {
			t.Errorf("no situation for the code %q", code)
		}
	}
}

// asked answers that a person was asked about the one run there is.
func asked(i core.Intervention) func(string) (core.Intervention, bool) {
	return func(id string) (core.Intervention, bool) {
		i.RunID = id
		return i, id == runID
	}
}

func said(t *testing.T, text string, parts []string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// TestWhyEveryReasonHasItsCode: a reason that is added to core must be answered for.
func TestWhyEveryReasonHasItsCode(t *testing.T) {
	t.Parallel()
	for _, reason := range []core.Reason{core.ReasonOverlap, core.ReasonCatchUp, core.ReasonNonexistent, core.ReasonCalendar, core.ReasonPaused,
		core.ReasonMaxRuns, core.ReasonPrecondition, core.ReasonBreaker, core.ReasonCapacity, core.ReasonSuperseded, core.ReasonDisabled,
		core.ReasonEdited, core.ReasonShutdown, core.ReasonUnknownType, core.ReasonPoisoned, core.ReasonParams} {
		for _, facts := range []json.RawMessage{nil, []byte(`{}`), []byte(`not json`), []byte(`{"detail":[1],"key":{"a":1},"policy":7,"late_seconds":"x","max_runs":null,"since":12}`)} {
			a := why(t, ledger.Question{At: at(nine), Rows: []core.Run{row(nine, skipped(reason, nil), func(r *core.Run) { r.Facts = facts })}})
			known := false
			for _, code := range ledger.Codes() {
				known = known || code == a.Code
			}
			if !known || a.Text.En == "" || a.Text.Zh == "" || a.RunID != runID {
				t.Errorf("%s with facts %s: %+v", reason, facts, a)
			}
		}
	}
}

func TestWhyWithoutAnInstantAnswersForTheLastOne(t *testing.T) {
	t.Parallel()
	v1 := report()
	cases := map[string]struct {
		q    ledger.Question
		want string
		code ledger.Code
	}{
		"TheLastThatShouldHaveBeen": {ledger.Question{Rows: []core.Run{row(nine)}}, nine, ledger.CodeStarted},
		"BeforeAnEditOfNow":         {ledger.Question{Task: edited(v1, "2026-11-20 11:59", func(t *core.Task) { t.Schedule.Spec = "0 23 * * *" }), Versions: []core.Task{v1}, Rows: []core.Run{row(nine)}}, nine, ledger.CodeStarted},
		"OfADisabledTask":           {ledger.Question{Task: edited(v1, "2026-11-18 10:00", func(t *core.Task) { t.Enabled = false }), Versions: []core.Task{v1}}, nine, ledger.CodeDisabled},
		"TheNextOfANewTask":         {ledger.Question{Task: report(func(t *core.Task) { t.CreatedAt, t.UpdatedAt = at("2026-11-20 11:00"), at("2026-11-20 11:00") })}, "2026-11-21 09:00", ledger.CodeNotDue},
		"OfADeletedTask":            {ledger.Question{Deleted: at("2026-11-18 12:00"), Rows: []core.Run{row("2026-11-18 09:00")}}, "2026-11-18 09:00", ledger.CodeStarted},
		"ByHandOnly":                {ledger.Question{Task: report(func(t *core.Task) { t.Schedule.Spec = "@manual" }), Rows: []core.Run{row("2026-11-17 10:00", func(r *core.Run) { r.Trigger = core.TriggerManual })}}, "2026-11-17 10:00", ledger.CodeStarted},
		"AfterARun":                 {ledger.Question{Task: report(func(t *core.Task) { t.Schedule.Spec, t.State.NextFire = "@after 1h", at("2026-11-20 11:00") })}, "2026-11-20 11:00", ledger.CodeUndecided},
		"NothingAtAll":              {ledger.Question{Task: report(func(t *core.Task) { t.Schedule.Spec = "@manual" })}, "", ledger.CodeNoSuchFire},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := why(t, c.q)
			want := time.Time{}
			if c.want != "" {
				want = at(c.want)
			}
			if !a.Instant.Equal(want) || a.Code != c.code {
				t.Errorf("answered for %v with %s (%s), want %v with %s", a.Instant, a.Code, a.Text.En, want, c.code)
			}
		})
	}
}

// TestWhyOfASecondTaskIsFast: the last instant is found without walking over those before.
func TestWhyOfASecondTaskIsFast(t *testing.T) {
	t.Parallel()
	task := report(func(t *core.Task) {
		t.Schedule.Spec, t.CreatedAt, t.UpdatedAt = "* * * * * *", at("2020-01-01 00:00"), at("2020-01-01 00:00")
	})
	began := time.Now()
	a := why(t, ledger.Question{Task: task})
	if !a.Instant.Equal(at("2026-11-20 12:00")) || time.Since(began) > time.Second {
		t.Errorf("%v after %v", a.Instant, time.Since(began))
	}
}

func TestWhyWithAScheduleThatCannotBeRead(t *testing.T) {
	t.Parallel()
	q := ledger.Question{Task: report(), At: at(nine), Now: at("2026-11-20 12:00"), Plan: func(core.Task) (*schedule.Schedule, error) { return nil, errors.New("no zone Mars/Base") }}
	if a := ledger.Why(q); a.Code != ledger.CodePoisoned || !strings.Contains(a.Text.En, "Mars/Base") {
		t.Errorf("%+v", a)
	}
	q.At = time.Time{}
	if a := ledger.Why(q); a.Code != ledger.CodePoisoned {
		t.Errorf("%+v", a)
	}
}
