package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
)

// detailWidth is how wide a row of a table tells what a run waits for: an error of a breaker may be long. -o json has all of it.
const detailWidth = 100

func newQueueCommand(s *session) *cobra.Command {
	var namespace, gate string
	cmd := &cobra.Command{
		Use: "queue", Short: "List the runs that wait, for what, and in which order", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {"1000"}}
			if namespace != "" {
				query.Set("namespace", namespace)
			}
			if gate != "" {
				query.Set("gate", gate)
			}
			items, err := s.list(cmd.Context(), "/v1/queue", query, 0)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				all, err := each[api.Waiting](items)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, w := range all {
					since, detail := "", ledger.Detail(w.Detail)
					if w.Since != nil {
						since = max(0, time.Since(w.Since.Time)).Round(time.Second).String()
					}
					rows = append(rows, []string{
						strconv.Itoa(w.Order), w.Namespace + "/" + w.TaskName, clock(w.FireAt), s.waitsFor(w) + s.ahead(w), since, strconv.Itoa(w.Priority),
						text.Snip(s.say(detail.Zh, detail.En), detailWidth, "…"), w.RunID,
					})
				}
				if len(rows) == 0 {
					return s.nothing("没有运行在等待", "no run waits")
				}
				return s.table([]string{
					"#", s.say("任务", "TASK"), s.say("触发时刻", "FIRE"), s.say("在等", "WAITS FOR"), s.say("已等", "SINCE"),
					s.say("优先级", "PRIORITY"), s.say("上次查看时", "WHEN LAST LOOKED AT"), s.say("运行", "RUN"),
				}, rows)
			})
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only of this namespace")
	cmd.Flags().StringVar(&gate, "gate", "", "only what waits for this: overlap, precondition, breaker or capacity")
	s.flags(cmd)
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

// ahead says how many wait for the same and come before a run. That is true now, whatever was true when it asked.
func (s *session) ahead(w api.Waiting) string {
	if w.Order <= 1 {
		return ""
	}
	n := strconv.Itoa(w.Order - 1)
	return s.say("，前面有 "+n+" 次", ", "+n+" ahead")
}

// waitsFor names what a run waits for.
func (s *session) waitsFor(w api.Waiting) string {
	switch {
	case w.Gate == "capacity":
		return w.Key
	case w.Gate == "breaker" && w.Key == "task:"+w.TaskID:
		return s.say("自身的熔断器", "its own breaker")
	case w.Gate == "breaker":
		return s.say("熔断器 ", "breaker ") + w.Key
	case w.Gate == "precondition":
		return s.say("前置条件", "precondition")
	case w.Gate == "overlap":
		return s.say("先前的运行", "earlier runs")
	}
	return strings.TrimSpace(w.Gate + " " + w.Key)
}

func newInterventionCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "intervention", Aliases: []string{"interventions"}, Short: "Runs whose attempts are used up: try again, skip, or mark as done"}
	s.flags(cmd)
	var namespace string
	var resolved bool
	list := &cobra.Command{
		Use: "list", Short: "List the runs that wait for a person", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"resolved": {strconv.FormatBool(resolved)}}
			if namespace != "" {
				query.Set("namespace", namespace)
			}
			items, err := s.list(cmd.Context(), "/v1/interventions", query, 1000)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				all, err := each[api.Intervention](items)
				if err != nil {
					return err
				}
				if len(all) == 0 {
					if resolved {
						return s.nothing("还没有处理过的", "none has been resolved yet")
					}
					return s.nothing("没有等待人工处理的运行", "no run waits for a person")
				}
				headings := []string{s.say("运行", "RUN"), s.say("任务", "TASK"), s.say("触发时刻", "FIRE"), s.say("结果", "OUTCOME"), s.say("次数", "ATTEMPTS")}
				if resolved {
					headings = append(headings, s.say("处理", "ACTION"), s.say("处理人", "BY"), s.say("处理时间", "RESOLVED"), s.say("备注", "NOTE"), s.say("新的运行", "NEW RUN"))
				}
				headings = append(headings, s.say("消息", "MESSAGE"))
				var rows [][]string
				for _, i := range all {
					row := []string{i.RunID, i.Namespace + "/" + i.TaskName, clock(i.FireAt), i.Outcome, strconv.Itoa(i.Attempts)}
					if resolved {
						row = append(row, i.Action, i.By, clock(i.ResolvedAt), i.Note, i.NewRun)
					}
					rows = append(rows, append(row, i.Message))
				}
				return s.table(headings, rows)
			})
		},
	}
	list.Flags().StringVarP(&namespace, "namespace", "n", "", "only of this namespace")
	list.Flags().BoolVar(&resolved, "resolved", false, "those that are resolved instead of the open ones")
	s.outputFlag(list, "table", "json", "yaml")
	cmd.AddCommand(list)
	for _, act := range []struct{ verb, short string }{
		{"retry", "Try the run again, with other parameters if need be"},
		{"skip", "Leave it at that"},
		{"done", "Say that it was done by hand"},
	} {
		var note, params string
		one := &cobra.Command{
			Use: act.verb + " RUN", Short: act.short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				if !uuidForm.MatchString(args[0]) {
					return &usageError{fmt.Errorf(s.say("%q 不是运行的 id；gnomon intervention list 会列出", "%q is not the id of a run; `gnomon intervention list` shows them"), args[0])}
				}
				var body any = api.NoteRequest{Note: note}
				if act.verb == "retry" {
					retry := api.RetryRequest{Note: note}
					if params != "" {
						var err error
						if retry.Params, err = s.params(params); err != nil {
							return err
						}
					}
					body = retry
				}
				var answer struct {
					ID string `json:"id"`
				}
				_, err := s.call(cmd.Context(), request{method: http.MethodPost, path: "/v1/interventions/" + args[0] + "/" + act.verb, body: body}, &answer)
				if err != nil {
					return err
				}
				if act.verb == "retry" {
					_, err = fmt.Fprintln(s.out, s.say("已重新运行 ", "tried again as run ")+answer.ID)
					return err
				}
				_, err = fmt.Fprintln(s.out, s.say("已处理 ", "resolved ")+args[0])
				return err
			},
		}
		one.Flags().StringVar(&note, "note", "", "why; kept with it")
		if act.verb == "retry" {
			one.Flags().StringVar(&params, "params", "", "laid over the run's parameters: a JSON object")
		}
		cmd.AddCommand(one)
	}
	return cmd
}
