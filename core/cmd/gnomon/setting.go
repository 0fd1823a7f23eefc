package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

// settingCommand groups what is done with one kind of thing that all namespaces share.
func (s *session) settingCommand(one, many, short string, headings func() []string, row func(raw json.RawMessage) ([]string, error)) *cobra.Command {
	cmd := &cobra.Command{Use: one, Aliases: []string{many}, Short: short}
	s.flags(cmd)
	path := func(name string) string { return "/v1/" + many + "/" + url.PathEscape(name) }
	list := &cobra.Command{
		Use: "list", Short: "List them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := s.list(cmd.Context(), "/v1/"+many, nil, 0)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				var rows [][]string
				for _, item := range items {
					cells, err := row(item)
					if err != nil {
						return err
					}
					rows = append(rows, cells)
				}
				if len(rows) == 0 {
					return s.nothing("还没有；用 gnomon "+one+" put NAME -f FILE 创建", "there are none; gnomon "+one+" put NAME -f FILE makes one")
				}
				return s.table(headings(), rows)
			})
		},
	}
	s.outputFlag(list, "table", "json", "yaml")
	get := &cobra.Command{
		Use: "get NAME", Short: "Show one", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: path(args[0])}, nil)
			if err != nil {
				return err
			}
			return s.show(raw, nil)
		},
	}
	s.outputFlag(get, "yaml", "json")
	var file string
	put := &cobra.Command{
		Use: "put NAME -f FILE", Short: "Create one, or make it what a YAML or JSON file says", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := s.readNamed(file, args[0])
			if err != nil {
				return err
			}
			for _, key := range keptByServer {
				delete(body, key)
			}
			raw, err := s.call(cmd.Context(), request{method: http.MethodPut, path: path(args[0]), body: body}, nil)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				_, err := fmt.Fprintln(s.out, s.say("已保存 ", "saved ")+one+" "+args[0])
				return err
			})
		},
	}
	put.Flags().StringVarP(&file, "file", "f", "", "YAML or JSON file; - is standard input")
	_ = put.MarkFlagRequired("file")
	s.outputFlag(put, "table", "json", "yaml")
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Delete one that nothing names", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := s.call(cmd.Context(), request{method: http.MethodDelete, path: path(args[0])}, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(s.out, s.say("已删除 ", "deleted ")+one+" "+args[0])
			return err
		},
	}
	cmd.AddCommand(list, get, put, remove)
	return cmd
}

// keptByServer is what the server adds to what was said about a thing all namespaces share.
var keptByServer = []string{"name", "version", "used", "waiting", "breaker", "builtin", "holiday_years", "warnings", "updated_at", "updated_by"}

func newPoolCommand(s *session) *cobra.Command {
	return s.settingCommand("pool", "pools", "Capacity that runs of any namespace share",
		func() []string {
			return []string{s.say("池", "POOL"), s.say("在用", "USED"), s.say("总数", "SLOTS"), s.say("等待", "WAITING"), s.say("说明", "DESCRIPTION")}
		}, func(raw json.RawMessage) ([]string, error) {
			var p api.Pool
			err := json.Unmarshal(raw, &p)
			return []string{p.Name, strconv.Itoa(p.Used), strconv.Itoa(p.Slots), strconv.Itoa(p.Waiting), p.Description}, err
		})
}

func newDownstreamCommand(s *session) *cobra.Command {
	return s.settingCommand("downstream", "downstreams", "What tasks touch, with one circuit breaker for all that do",
		func() []string {
			return []string{s.say("下游", "DOWNSTREAM"), s.say("熔断器", "BREAKER"), s.say("连续失败", "FAILURES"), s.say("下次试探", "PROBE AT"), s.say("说明", "DESCRIPTION")}
		}, func(raw json.RawMessage) ([]string, error) {
			var d api.Downstream
			err := json.Unmarshal(raw, &d)
			return []string{d.Name, d.Breaker.State, strconv.Itoa(d.Breaker.Failures), clock(d.Breaker.ProbeAt), d.Description}, err
		})
}

func newCalendarCommand(s *session) *cobra.Command {
	cmd := s.settingCommand("calendar", "calendars", "Sets of days that schedules name: working days, holidays, your own",
		func() []string {
			return []string{s.say("日历", "CALENDAR"), s.say("名称", "TITLE"), s.say("内置", "BUILT IN"), s.say("节假日数据", "HOLIDAYS KNOWN")}
		}, func(raw json.RawMessage) ([]string, error) {
			var c api.Calendar
			err := json.Unmarshal(raw, &c)
			var title api.Text
			if c.Title != nil {
				title = *c.Title
			}
			for _, w := range c.Warnings {
				s.note(s.say(w.Zh, w.En))
			}
			years := ""
			if n := len(c.HolidayYears); n > 0 {
				years = strconv.Itoa(c.HolidayYears[0]) + "–" + strconv.Itoa(c.HolidayYears[n-1])
			}
			return []string{c.Name, s.say(title.Zh, title.En), map[bool]string{true: "✓"}[c.Builtin], years}, err
		})
	var from, to, zone string
	days := &cobra.Command{
		Use: "days NAME", Short: "Say of each day whether a calendar holds it, and why", Args: cobra.ExactArgs(1),
		Example: "  gnomon calendar days cn-workdays --from 2026-10-01 --to 2026-10-12",
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"from": {from}}
			if to != "" {
				query.Set("to", to)
			}
			if zone != "" {
				query.Set("zone", zone)
			}
			items, err := s.list(cmd.Context(), "/v1/calendars/"+url.PathEscape(args[0])+"/days", query, 0)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				all, err := each[api.Day](items)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, d := range all {
					mark := map[bool]string{true: "✓"}[d.Holds]
					for _, p := range d.Parts {
						mark += " " + p.From + "–" + p.To
					}
					rows = append(rows, []string{d.Date, s.weekday(d.Date), mark, s.say(d.Why.Zh, d.Why.En)})
				}
				if err := s.table([]string{s.say("日期", "DAY"), "", s.say("在内", "HOLDS"), s.say("原因", "WHY")}, rows); err != nil || len(all) == 0 {
					return err
				}
				var c api.Calendar
				if _, err := s.call(cmd.Context(), request{method: http.MethodGet, path: "/v1/calendars/" + url.PathEscape(args[0])}, &c); err != nil {
					return err
				}
				last, _ := strconv.Atoi(all[len(all)-1].Date[:4])
				if n := len(c.HolidayYears); n > 0 && last > c.HolidayYears[n-1] {
					for _, w := range c.Warnings {
						s.note(s.say(w.Zh, w.En))
					}
				}
				return nil
			})
		},
	}
	days.Flags().StringVar(&from, "from", "", "the first day: 2026-10-01")
	days.Flags().StringVar(&to, "to", "", "the last day (default 30 days later)")
	days.Flags().StringVar(&zone, "zone", "", "whose days, if the calendar has none of its own (default UTC)")
	_ = days.MarkFlagRequired("from")
	s.outputFlag(days, "table", "json", "yaml")
	var file string
	refresh := &cobra.Command{
		Use: "holidays -f FILE", Short: "Take over the public holidays of a year from a file", Args: cobra.NoArgs,
		Long: "The file is JSON or YAML: {region: CN, year: 2027, holidays: {\"2027-01-01\": 元旦}, workdays: {}}, a list of such, or the\n" +
			"file that the chinese-days project publishes. No network is needed.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := s.readAny(file)
			if err != nil {
				return err
			}
			var list struct{ Items []api.Holidays }
			answer, err := s.call(cmd.Context(), request{method: http.MethodPut, path: "/v1/holidays", body: raw}, &list)
			if err != nil {
				return err
			}
			return s.show(answer, func() error {
				var rows [][]string
				for _, h := range list.Items {
					rows = append(rows, []string{h.Region, strconv.Itoa(h.Year), strconv.Itoa(len(h.Holidays)), strconv.Itoa(len(h.Workdays))})
				}
				return s.table([]string{s.say("地区", "REGION"), s.say("年", "YEAR"), s.say("放假", "DAYS OFF"), s.say("补班", "MAKE-UP DAYS")}, rows)
			})
		},
	}
	refresh.Flags().StringVarP(&file, "file", "f", "", "JSON or YAML file; - is standard input")
	_ = refresh.MarkFlagRequired("file")
	s.outputFlag(refresh, "table", "json", "yaml")
	cmd.AddCommand(days, refresh)
	return cmd
}

// note says something beside the output.
func (s *session) note(text string) {
	_, _ = fmt.Fprintln(s.err, s.say("注意：", "note: ")+harmless.Replace(text))
}

// weekday names the day of the week of a date: Sun, 周日.
func (s *session) weekday(date string) string {
	at, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return ""
	}
	return s.say([]string{"周日", "周一", "周二", "周三", "周四", "周五", "周六"}[at.Weekday()], at.Format("Mon"))
}

// ofTask is what the name of a breaker of one task begins with; the task's id follows.
const ofTask = "task:"

// breakerName gives the name of a breaker with the task's name in place of its id, if it can be read.
func (s *session) breakerName(ctx context.Context, name string) string {
	id, own := strings.CutPrefix(name, ofTask)
	if !own {
		return name
	}
	var t api.Task
	if _, err := s.call(ctx, request{method: http.MethodGet, path: "/v1/tasks/" + url.PathEscape(id)}, &t); err != nil {
		return name // it may be deleted
	}
	return ofTask + t.Namespace + "/" + t.Name
}

func newBreakerCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "breaker", Short: "List circuit breakers, close one by hand"}
	s.flags(cmd)
	list := &cobra.Command{
		Use: "list", Short: "List the breakers that ever moved", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := s.list(cmd.Context(), "/v1/breakers", nil, 0)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				all, err := each[api.Breaker](items)
				if err != nil {
					return err
				}
				var rows [][]string
				if len(all) == 0 {
					return s.nothing("没有熔断器动作过", "no breaker has ever moved")
				}
				for _, b := range all {
					rows = append(rows, []string{s.breakerName(cmd.Context(), b.Name), b.State, strconv.Itoa(b.Failures), clock(b.OpenedAt), clock(b.ProbeAt), b.Because})
				}
				return s.table([]string{s.say("熔断器", "BREAKER"), s.say("状态", "STATE"), s.say("失败", "FAILURES"), s.say("断开于", "OPENED"), s.say("下次试探", "PROBE AT"), s.say("原因", "BECAUSE")}, rows)
			})
		},
	}
	s.outputFlag(list, "table", "json", "yaml")
	reset := &cobra.Command{
		Use: "reset NAME", Short: "Close a breaker by hand: what waits at it goes on", Args: cobra.ExactArgs(1),
		Long:    "NAME is downstream:NAME, or task:NAMESPACE/NAME for the breaker of a task alone.",
		Example: "  gnomon breaker reset downstream:erp\n  gnomon breaker reset task:Manufacturing/daily-kit-check",
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if ref, own := strings.CutPrefix(name, ofTask); own {
				t, _, err := s.task(cmd, ref)
				if err != nil {
					return err
				}
				name = ofTask + t.ID
			} else if !strings.HasPrefix(name, "downstream:") {
				return &usageError{fmt.Errorf(s.say("%q 不是熔断器；请写 downstream:名称 或 task:命名空间/名称", "%q is no breaker; write downstream:NAME or task:NAMESPACE/NAME"), name)}
			}
			_, err := s.call(cmd.Context(), request{method: http.MethodPost, path: "/v1/breakers/" + url.PathEscape(name) + "/reset"}, nil)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, s.say("已闭合 ", "closed ")+args[0])
			return err
		},
	}
	cmd.AddCommand(list, reset)
	return cmd
}
