package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

func newWhyCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "why NAMESPACE/NAME [INSTANT]", Short: "Say why a task did, or did not, run", Args: cobra.RangeArgs(1, 2),
		Long: "Answers in a sentence, with the evidence: what became of the task's fire at an instant (RFC 3339, or a local time\n" +
			"like 2026-10-01T08:00), or of the last one that should have been.",
		Example: "  gnomon why Common/keep-alive\n  gnomon why Manufacturing/daily-kit-check 2026-10-01T06:00 --lang zh",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, _, err := s.task(cmd, args[0])
			if err != nil {
				return err
			}
			query := url.Values{}
			if len(args) == 2 {
				at, err := readInstant(args[1], t.Schedule.Zone)
				if err != nil {
					return err
				}
				query.Set("at", at.Format(time.RFC3339Nano))
			}
			var why api.Why
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: "/v1/tasks/" + t.ID + "/why", query: query}, &why)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				if _, err := fmt.Fprintln(s.out, harmless.Replace(s.say(why.Answer.Zh, why.Answer.En))); err != nil {
					return err
				}
				var rows [][]string
				where := zoneOf(t.Schedule.Zone) // the sentences name times of that zone
				for _, e := range why.Evidence {
					at := ""
					if e.At != nil {
						at = e.At.In(where).Format("2006-01-02 15:04:05")
					}
					rows = append(rows, []string{"  " + at, e.Kind, s.say(e.Text.Zh, e.Text.En)})
				}
				if _, err := fmt.Fprintln(s.out); err != nil {
					return err
				}
				if err := s.table([]string{"  " + s.say("时间", "AT"), s.say("依据", "EVIDENCE"), ""}, rows); err != nil {
					return err
				}
				if why.Next == nil {
					return nil
				}
				_, err := fmt.Fprintf(s.out, s.say("\n下次触发：%s（%s）\n", "\nnext fire: %s (%s)\n"), why.Next.In(where).Format("2006-01-02 15:04:05"), where)
				return err
			})
		},
	}
	s.flags(cmd)
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

// readInstant reads an instant as a person writes it: RFC 3339, or a local time of a zone.
func readInstant(text, zone string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	where := zoneOf(zone)
	for _, form := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(form, text, where); err == nil {
			return at, nil
		}
	}
	return time.Time{}, &usageError{fmt.Errorf("%q is no instant; write 2026-10-01T08:00:00+08:00, or the local time 2026-10-01T08:00 (%s)", text, where)}
}

// zoneOf gives the zone of a schedule; none is UTC.
func zoneOf(name string) *time.Location {
	where, err := time.LoadLocation(name)
	if err != nil {
		where = time.UTC
	}
	return where
}

func newForecastCommand(s *session) *cobra.Command {
	var namespace, from, bucket string
	var days int
	cmd := &cobra.Command{
		Use: "forecast", Short: "Say what will fire in the next days, and what runs into what", Args: cobra.NoArgs,
		Example: "  gnomon forecast -n Manufacturing --days 7 --bucket 1m\n  gnomon forecast spread Manufacturing --within 30m --apply",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"days": {strconv.Itoa(days)}, "bucket": {bucket}}
			if namespace != "" {
				query.Set("namespace", namespace)
			}
			if from != "" {
				at, err := readInstant(from, "")
				if err != nil {
					return err
				}
				query.Set("from", at.Format(time.RFC3339))
			}
			var f api.Forecast
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: "/v1/forecast", query: query}, &f)
			if err != nil {
				return err
			}
			return s.show(raw, func() error { return s.forecastForPeople(f) })
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only of this namespace")
	cmd.Flags().StringVar(&from, "from", "", "from this instant (default now)")
	cmd.Flags().StringVar(&bucket, "bucket", "1m", "how long one bucket is")
	cmd.Flags().IntVar(&days, "days", 7, "how many days ahead, 1 to 31")
	s.outputFlag(cmd, "table", "json", "yaml")
	s.flags(cmd)
	cmd.AddCommand(s.forecastSpread())
	return cmd
}

func (s *session) forecastForPeople(f api.Forecast) error {
	if f.Fires == 0 {
		_, err := fmt.Fprintf(s.out, s.say("%s 到 %s：没有触发\n", "%s to %s: nothing fires\n"), clock(f.From), clock(f.To))
		return err
	}
	if _, err := fmt.Fprintf(s.out, s.say("%s 到 %s：触发 %d 次，最多 %d 个同时运行（%s）\n\n", "%s to %s: %d fires, at most %d runs side by side (%s)\n\n"),
		clock(f.From), clock(f.To), f.Fires, f.Peak, clock(f.PeakAt)); err != nil {
		return err
	}
	var rows [][]string
	most := 1
	for _, c := range f.Collisions {
		most = max(most, c.Starts)
	}
	for _, c := range f.Collisions {
		names := make([]string, 0, len(c.Tasks))
		for _, t := range c.Tasks {
			names = append(names, t.TaskName)
		}
		if c.More > 0 {
			names = append(names, fmt.Sprintf("+%d", c.More))
		}
		rows = append(rows, []string{
			clock(c.At), strconv.Itoa(c.Times), strconv.Itoa(c.Starts), strings.Repeat("█", max(1, c.Starts*12/most)), strings.Join(names, " "),
		})
	}
	if len(rows) == 0 {
		if _, err := fmt.Fprintln(s.out, s.say("没有任务在同一分钟启动。", "No tasks start in the same minute.")); err != nil {
			return err
		}
	} else if err := s.table([]string{s.say("同一分钟启动", "COLLISION"), s.say("次数", "TIMES"), s.say("启动", "STARTS"), "", s.say("任务", "TASKS")}, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(s.out); err != nil {
		return err
	}
	rows = nil
	for _, g := range f.Groups {
		limit, waiting := "", ""
		if g.Limit > 0 {
			limit = strconv.Itoa(g.Limit)
		}
		if g.Waiting > 0 {
			waiting = fmt.Sprintf(s.say("%d 次，最长 %s", "%d, up to %s"), g.Waiting, g.LongestWait)
		}
		rows = append(rows, []string{g.Kind, g.Name, strconv.FormatInt(g.Fires, 10), strconv.Itoa(g.Peak), limit, clock(g.PeakAt), waiting})
	}
	if f.Counted > 0 {
		s.note(fmt.Sprintf(s.say("有 %d 个任务触发得太密，没有逐次展开：计入次数，不计入峰值", "tasks that fire too often to be looked at fire by fire: %d; they are in the numbers, and in no peak"), f.Counted))
	}
	if f.Unmeasured > 0 {
		s.note(fmt.Sprintf(s.say("有 %d 个任务还没有运行时长的历史，按一秒计", "tasks without a history of how long they take: %d; one second stands for them"), f.Unmeasured))
	}
	return s.table([]string{
		s.say("范围", "UPON"), s.say("名称", "NAME"), s.say("触发", "FIRES"), s.say("最高", "PEAK"), s.say("上限", "LIMIT"), s.say("时刻", "AT"), s.say("等待", "WAITING"),
	}, rows)
}

func (s *session) forecastSpread() *cobra.Command {
	var ask api.SpreadRequest
	cmd := &cobra.Command{
		Use: "spread NAMESPACE", Short: "Propose schedules that move a namespace's fires apart; --apply puts them in force", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var spread api.Spread
			raw, err := s.call(cmd.Context(), request{
				method: http.MethodPost, path: "/v1/namespaces/" + url.PathEscape(args[0]) + "/forecast/spread", body: ask,
			}, &spread)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				var rows [][]string
				for _, p := range spread.Proposals {
					note := s.say(p.Why.Zh, p.Why.En)
					if p.Problem != "" {
						note = s.say("未能修改：", "not changed: ") + p.Problem
					}
					rows = append(rows, []string{p.TaskName, p.FromSpec, p.ToSpec, p.MovedBy, note})
				}
				if len(rows) == 0 {
					return s.nothing("没有需要移动的任务", "no task needs to be moved")
				}
				if err := s.table([]string{s.say("任务", "TASK"), s.say("现在", "FROM"), s.say("改为", "TO"), s.say("移动", "BY"), s.say("原因", "WHY")}, rows); err != nil {
					return err
				}
				_, err := fmt.Fprintf(s.out, s.say("\n同一分钟最多启动：%d → %d；有碰撞的分钟：%d → %d%s\n", "\nmost starts in one minute: %d → %d; minutes with a collision: %d → %d%s\n"),
					spread.Before.PeakFires, spread.After.PeakFires, spread.Before.Colliding, spread.After.Colliding,
					map[bool]string{true: s.say("；已生效", "; applied"), false: s.say("；加 --apply 生效", "; --apply puts it in force")}[spread.Applied])
				return err
			})
		},
	}
	cmd.Flags().StringVar(&ask.Within, "within", "30m", "no fire is moved by more, 1m to 59m")
	cmd.Flags().BoolVar(&ask.Apply, "apply", false, "change the schedules")
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

func newDoctorCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Examine the server and what it keeps; exit code 1 if something is wrong", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var d api.Diagnosis
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: "/v1/doctor"}, &d)
			if err != nil {
				return err
			}
			err = s.show(raw, func() error {
				var rows [][]string
				for _, c := range d.Checks {
					mark := "✓"
					if !c.OK {
						mark = map[string]string{"error": "✗", "warning": "!"}[c.Severity]
					}
					rows = append(rows, []string{mark, c.Name, s.say(c.Text.Zh, c.Text.En)})
				}
				return s.table([]string{"", s.say("检查", "CHECK"), s.say("结果", "FINDING")}, rows)
			})
			if err == nil && !d.OK {
				err = fmt.Errorf("%s", s.say("有检查项不正常", "something is not as it should be"))
			}
			return err
		},
	}
	s.flags(cmd)
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

func newReconcileCommand(s *session) *cobra.Command {
	var namespace, from, to string
	cmd := &cobra.Command{
		Use: "reconcile", Short: "Hold what should have run against what did; exit code 1 if anything is missing or doubled", Args: cobra.NoArgs,
		Long: "Enumerates every instant that each task should have had, from the versions of the task alone, and compares it with the\n" +
			"ledger of decisions. Without --from and --to: the last whole day (UTC).",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if namespace != "" {
				query.Set("namespace", namespace)
			}
			for name, text := range map[string]string{"from": from, "to": to} {
				if text == "" {
					continue
				}
				at, err := readInstant(text, "")
				if err != nil {
					return err
				}
				query.Set(name, at.Format(time.RFC3339))
			}
			var r api.Reconciliation
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: "/v1/reconciliation", query: query}, &r)
			if err != nil {
				return err
			}
			err = s.show(raw, func() error {
				var rows [][]string
				for _, i := range r.Items {
					skipped := int64(0)
					for _, n := range i.Skipped {
						skipped += n
					}
					row := []string{i.Namespace + "/" + i.TaskName}
					for _, n := range []int64{i.Expected, i.Decided, i.Started, skipped, i.Missing, i.Doubled + i.Unexpected + i.Miscounted} {
						row = append(row, strconv.FormatInt(n, 10))
					}
					rows = append(rows, row)
				}
				if len(rows) == 0 {
					if err := s.nothing("这段时间没有应有的触发", "nothing should have fired in that time"); err != nil {
						return err
					}
				} else if err := s.table([]string{
					s.say("任务", "TASK"), s.say("应有", "EXPECTED"), s.say("已决定", "DECIDED"), s.say("已启动", "STARTED"), s.say("跳过", "SKIPPED"),
					s.say("缺失", "MISSING"), s.say("重复", "DOUBLED"),
				}, rows); err != nil {
					return err
				}
				if r.Partial != "" {
					_, err := fmt.Fprintln(s.err, r.Partial)
					return err
				}
				return nil
			})
			if err == nil && !r.Sound {
				err = fmt.Errorf("%s", s.say("账目有缺失或重复", "the ledger has holes or doubles"))
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only of this namespace")
	cmd.Flags().StringVar(&from, "from", "", "from this instant")
	cmd.Flags().StringVar(&to, "to", "", "to this one, which is not in it")
	s.flags(cmd)
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}
