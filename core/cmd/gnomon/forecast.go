package main

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

const (
	forecastTasks = 20 // lines of the table of tasks, unless all are asked for
	forecastFires = 50 // of a task's fires, unless another number is asked for
)

func newForecastCommand(s *session) *cobra.Command {
	var namespace, task, from, to, bucket string
	var days, fires int
	var all bool
	cmd := &cobra.Command{
		Use: "forecast", Short: "Say what will fire in the next days, how long it takes, and what runs into what", Args: cobra.NoArgs,
		Long: "Shows the load by hour, each task with its fires and the duration that its history lets one expect, what starts together\n" +
			"and what has to wait. Chains and the steps of workflows are followed, as if each run succeeded and none waited.\n" +
			"With --task or --fires it lists the fires themselves, with expected start and end.",
		Example: "  gnomon forecast -n Manufacturing --days 7\n  gnomon forecast --task Manufacturing/daily-kit-check\n" +
			"  gnomon forecast --from 2026-12-01T08:00 --to 2026-12-01T09:00 --fires 200\n  gnomon forecast spread Manufacturing --within 30m --apply",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"days": {strconv.Itoa(days)}, "bucket": {bucket}}
			if namespace != "" {
				query.Set("namespace", namespace)
			}
			for name, said := range map[string]string{"from": from, "to": to} {
				if said == "" {
					continue
				}
				at, err := s.readInstant("--"+name, said, "Local") // as it is shown
				if err != nil {
					return err
				}
				query.Set(name, at.Format(time.RFC3339))
			}
			var of api.Task
			if task != "" {
				var err error
				if of, _, err = s.task(cmd, task); err != nil {
					return err
				}
				query.Set("task_id", of.ID)
				if !cmd.Flags().Changed("fires") {
					fires = forecastFires
				}
			}
			if fires != 0 {
				query.Set("fires", strconv.Itoa(fires))
			}
			var f api.Forecast
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: "/v1/forecast", query: query}, &f)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				switch {
				case task != "" && len(f.Tasks) == 0:
					return s.nothingForeseen(f, of)
				case task != "" || fires > 0:
					return s.firesForPeople(f, task != "")
				}
				return s.forecastForPeople(f, all)
			})
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only of this namespace")
	cmd.Flags().StringVar(&task, "task", "", "this task and its fires one by one: NAMESPACE/NAME or id")
	cmd.Flags().StringVar(&from, "from", "", "from this instant, local time or day (default now)")
	cmd.Flags().StringVar(&to, "to", "", "up to this instant, local time or day, at most 31 days later (default: --days say it)")
	cmd.Flags().StringVar(&bucket, "bucket", "1m", "how long one bucket of the answer is")
	cmd.Flags().IntVar(&days, "days", 7, "how many days ahead, 1 to 31")
	cmd.Flags().IntVar(&fires, "fires", 0, "list so many fires one by one, at most 10000 (with --task: 50)")
	cmd.Flags().BoolVar(&all, "all", false, "every task in the table, not only the 20 that run most")
	_ = cmd.RegisterFlagCompletionFunc("task", s.names("/v1/tasks", 0))
	s.outputFlag(cmd, "table", "json", "yaml")
	s.flags(cmd)
	cmd.AddCommand(s.forecastSpread())
	return cmd
}

// nothingForeseen says why a task has no line in a forecast.
func (s *session) nothingForeseen(f api.Forecast, t api.Task) error {
	why := s.say("在这段时间内没有触发", "it does not fire in this time")
	switch {
	case !t.Enabled:
		why = s.say("任务已停用；用 gnomon task enable 启用", "it is disabled; gnomon task enable puts it back")
	case t.Effective != nil && t.Effective.MaxRuns != nil && *t.Effective.MaxRuns > 0 && t.Fired >= int64(*t.Effective.MaxRuns):
		why = fmt.Sprintf(s.say("计划已启动 %d 次，达到 max_runs；要再触发须调高 max_runs", "its schedule has started %d runs, which is max_runs; raise max_runs to have more"), t.Fired)
	case t.Schedule.Spec == "@manual":
		why = s.say("计划是 @manual，在这段时间内预计没有任务或工作流引起它", "its schedule is @manual, and no task or workflow is expected to bring it in this time")
	}
	_, err := fmt.Fprintf(s.out, s.say("%s 到 %s：%s/%s：%s\n", "%s to %s: %s/%s: %s\n"), clock(f.From), clock(f.To), t.Namespace, t.Name, why)
	return err
}

// firesForPeople prints fires one by one; of one task with its line above them.
func (s *session) firesForPeople(f api.Forecast, one bool) error {
	if _, err := fmt.Fprintf(s.out, s.say("%s 到 %s（不计等待）\n\n", "%s to %s (no waiting counted in)\n\n"), clock(f.From), clock(f.To)); err != nil {
		return err
	}
	if one {
		if err := s.forecastTaskTable(f.Tasks); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(s.out); err != nil {
			return err
		}
	}
	rows := make([][]string, 0, len(f.FireList))
	for _, fire := range f.FireList {
		end := clock(fire.End)
		if fire.Assumed {
			end = s.say("不详", "not known")
		}
		by := map[string]string{
			"schedule": s.say("计划", "schedule"), "upstream": s.say("接在 "+fire.Of+" 之后", "after "+fire.Of),
			"workflow": s.say("工作流 "+fire.Of+" 的步骤", "step of "+fire.Of),
		}[fire.Cause]
		rows = append(rows, []string{clock(fire.At), end, clock(fire.Late), fire.Namespace + "/" + fire.TaskName, by})
	}
	if f.FiresLeft > 0 {
		s.note(fmt.Sprintf(s.say("后面还有 %d 次触发未列出；可用 --fires 要更多，或用 --from、--to 换一段时间", "%d more fires come after these; ask for more with --fires, or for another time with --from and --to"), f.FiresLeft))
	}
	return s.table([]string{
		s.say("预计开始", "START"), s.say("预计结束", "END"), s.say("最迟（p95）", "LATE END (P95)"), s.say("任务", "TASK"), s.say("由来", "BY"),
	}, rows)
}

func (s *session) forecastTaskTable(tasks []api.TaskForecast) error {
	rows := make([][]string, 0, len(tasks))
	for _, t := range tasks {
		next, others := "", ""
		if len(t.Next) > 0 {
			next = clock(t.Next[0])
		}
		if t.Caused > 0 {
			others = strconv.FormatInt(t.Caused, 10)
		}
		runs := s.say(" 次运行", " runs")
		if t.Measured == 1 {
			runs = s.say(" 次运行", " run")
		}
		known := map[string]string{
			"history": strconv.FormatUint(t.Measured, 10) + runs, "steps": s.say("按步骤推算", "its steps"), "assumed": s.say("未知，假定", "assumed"),
		}[t.Basis]
		rows = append(rows, []string{
			t.Namespace + "/" + t.TaskName, strconv.FormatInt(t.Fires, 10), others, next, t.Expected, t.P95, known, percent(t.Busy),
		})
	}
	return s.table([]string{
		s.say("任务", "TASK"), s.say("触发", "FIRES"), s.say("其中由他者引起", "BY OTHERS"), s.say("下一次", "NEXT"), s.say("预计时长", "EXPECTED"), s.say("p95", "P95"),
		s.say("依据", "KNOWN FROM"), s.say("运行占比", "RUNNING"),
	}, rows)
}

// percent prints a share of the time.
func percent(share float64) string {
	switch p := 100 * share; {
	case p == 0:
		return "0 %"
	case p < 0.1:
		return "<0.1 %"
	case p < 10:
		return fmt.Sprintf("%.1f %%", p)
	default:
		return fmt.Sprintf("%.0f %%", p)
	}
}

// loadPicture draws how full each hour is, a line for each day; nothing if buckets are longer than an hour.
func (s *session) loadPicture(f api.Forecast) error {
	bucket, err := time.ParseDuration(f.Bucket)
	if err != nil || bucket <= 0 || bucket > time.Hour || len(f.Buckets) == 0 {
		return nil
	}
	type day struct {
		load  [24]float64
		fires int64
	}
	days, full := map[string]*day{}, 0.0
	for _, b := range f.Buckets {
		at := b.At.Local()
		d := days[at.Format(time.DateOnly)]
		if d == nil {
			d = &day{}
			days[at.Format(time.DateOnly)] = d
		}
		d.fires += b.Fires
		d.load[at.Hour()] += b.Busy * bucket.Hours()
		full = max(full, d.load[at.Hour()])
	}
	if full == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(s.out, s.say("每小时负载（平均同时运行数；█ = %.2g）\n%-10s  %-48s  触发\n", "load by hour (runs side by side on average; █ = %.2g)\n%-9s  %-48s  FIRES\n"),
		full, "", "00    03    06    09    12    15    18    21"); err != nil {
		return err
	}
	const bars = "·▁▂▃▄▅▆▇█"
	from, to := f.From.Local(), f.To.Local()
	for date := time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, time.Local); date.Before(to); date = date.AddDate(0, 0, 1) {
		d := days[date.Format(time.DateOnly)]
		if d == nil {
			d = &day{}
		}
		line := ""
		for hour, load := range d.load {
			begin := time.Date(date.Year(), date.Month(), date.Day(), hour, 0, 0, 0, time.Local)
			bar := "  "
			if begin.Add(time.Hour).After(from) && begin.Before(to) {
				bar = strings.Repeat(string([]rune(bars)[int(math.Ceil(8*load/full))]), 2)
			}
			line += bar
		}
		if _, err := fmt.Fprintf(s.out, "%s %s  %s  %d\n", date.Format("01-02"), s.weekday(date.Format(time.DateOnly)), line, d.fires); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(s.out)
	return err
}

func (s *session) forecastForPeople(f api.Forecast, all bool) error {
	if f.Fires == 0 {
		_, err := fmt.Fprintf(s.out, s.say("%s 到 %s：没有触发\n", "%s to %s: nothing fires\n"), clock(f.From), clock(f.To))
		return err
	}
	if _, err := fmt.Fprintf(s.out, s.say("%s 到 %s：触发 %d 次，最多 %d 个同时运行（%s）\n\n", "%s to %s: %d fires, at most %d runs side by side (%s)\n\n"),
		clock(f.From), clock(f.To), f.Fires, f.Peak, clock(f.PeakAt)); err != nil {
		return err
	}
	if err := s.loadPicture(f); err != nil {
		return err
	}
	shown := f.Tasks
	if !all {
		shown = shown[:min(forecastTasks, len(shown))]
	}
	if err := s.forecastTaskTable(shown); err != nil {
		return err
	}
	if left := len(f.Tasks) - len(shown); left > 0 {
		if _, err := fmt.Fprintf(s.out, s.say("… 另有 %d 个任务，运行得更少；用 --all 全部列出\n", "… %d more tasks run less; --all lists them\n"), left); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(s.out); err != nil {
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
		peak, limit, use, waiting := strconv.Itoa(g.Peak), "", "", ""
		if g.Limit > 0 {
			limit, use = strconv.Itoa(g.Limit), percent(g.Use)
		}
		if g.Rough && g.Peak == 0 {
			peak = "" // nobody has looked
		}
		if g.Use > 1 {
			s.note(fmt.Sprintf(s.say("%s 需要的名额是现有的 %s：等待会越来越长，或触发被跳过；请增加名额，或让任务少触发、缩短时长", "%s: %s of its slots are wanted, so runs wait ever longer or are skipped; give it more slots, or let its tasks run less"), g.Name, use))
		}
		if g.Waiting > 0 {
			waiting = fmt.Sprintf(s.say("%d 次，最长 %s", "%d, up to %s"), g.Waiting, g.LongestWait)
		}
		rows = append(rows, []string{g.Kind, g.Name, strconv.FormatInt(g.Fires, 10), peak, limit, use, clock(g.PeakAt), waiting})
	}
	if f.Counted > 0 {
		s.note(fmt.Sprintf(s.say("有 %d 个任务触发得太密，没有逐次展开：计入次数，不计入峰值", "tasks that fire too often to be looked at fire by fire: %d; they are in the numbers, and in no peak"), f.Counted))
	}
	if f.UsedUp > 0 {
		s.note(fmt.Sprintf(s.say("有 %d 个任务的 max_runs 已用完或将在这段时间内用完，此后计划不再启动它们", "tasks whose max_runs are used up, or will be in this time: %d; their schedules start nothing more then"), f.UsedUp))
	}
	if f.Unforeseen > 0 {
		s.note(fmt.Sprintf(s.say("有 %d 个任务在这段时间内只由人启动，不在预测之中", "tasks that only people start in this time: %d; they are not foreseen"), f.Unforeseen))
	}
	if f.Unfollowed > 0 {
		s.note(fmt.Sprintf(s.say("链条和工作流的路径太多，有 %d 处没有继续推算", "there are too many ways through chains and workflows: %d links are not followed"), f.Unfollowed))
	}
	if f.Unmeasured > 0 {
		s.note(fmt.Sprintf(s.say("有 %d 个任务还没有运行时长的历史，按一秒计", "tasks without a history of how long they take: %d; one second stands for them"), f.Unmeasured))
	}
	return s.table([]string{
		s.say("范围", "UPON"), s.say("名称", "NAME"), s.say("触发", "FIRES"), s.say("最高", "PEAK"), s.say("上限", "LIMIT"), s.say("占用", "USE"), s.say("时刻", "AT"), s.say("等待", "WAITING"),
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
