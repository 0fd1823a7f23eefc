package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

func (s *session) taskPause() *cobra.Command {
	var note, until string
	cmd := &cobra.Command{
		Use: "pause NAMESPACE/NAME", Short: "Skip a task's fires for a while; a run that is live goes on", Args: cobra.ExactArgs(1),
		Example: "  gnomon task pause Manufacturing/daily-kit-check --note 'ERP upgrade' --until 2026-12-01T06:00",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, _, err := s.task(cmd, args[0])
			if err != nil {
				return err
			}
			body := api.PauseRequest{Note: note}
			if until != "" {
				at, err := s.readUntil(until, t.Schedule.Zone)
				if err != nil {
					return err
				}
				body.Until = &api.Time{Time: at}
			}
			var now api.Task
			raw, err := s.call(cmd.Context(), request{method: http.MethodPost, path: "/v1/tasks/" + t.ID + "/pause", body: body}, &now)
			if err != nil {
				return err
			}
			return s.show(raw, func() error { return s.saved(s.say("已暂停", "paused"), now) })
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "why, for those who wonder")
	cmd.Flags().StringVar(&until, "until", "", "when it goes on by itself: an instant, a day, or a duration from now like 2h (default: when somebody resumes it)")
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

// readUntil reads an instant, a day, or a duration from now.
func (s *session) readUntil(text, zone string) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(d), nil
	}
	return s.readInstant("--until", text, zone)
}

func (s *session) taskBackfill() *cobra.Command {
	var ask api.BackfillRequest
	var from, to string
	cmd := &cobra.Command{
		Use: "backfill NAMESPACE/NAME --from INSTANT --to INSTANT", Short: "Run a task for the instants of a past time", Args: cobra.ExactArgs(1),
		Long: "Run a task for the instants of a past time.\n\n" +
			"What it leaves in history is kept from the day it runs. A day whose runs have been removed by age keeps its figures in the v_* views until as\n" +
			"many are backfilled into it; single runs are in the tables all the same.",
		Example: "  gnomon task backfill Manufacturing/daily-health-snapshot --from 2026-11-01 --to 2026-11-08 --dry-run\n" +
			"  gnomon task backfill Manufacturing/daily-health-snapshot --from 2026-11-01T06:00 --to 2026-11-01T18:00 --overlap 'allow(3)'",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, _, err := s.task(cmd, args[0])
			if err != nil {
				return err
			}
			if ask.Limit < 1 || ask.Limit > 1000 { // 0 is left out of what is sent
				return &usageError{fmt.Errorf(s.say("--limit %d：须在 1 与 1000 之间", "--limit %d: must be between 1 and 1000"), ask.Limit)}
			}
			if ask.From.Time, err = s.readInstant("--from", from, t.Schedule.Zone); err != nil {
				return err
			}
			if ask.To.Time, err = s.readInstant("--to", to, t.Schedule.Zone); err != nil {
				return err
			}
			var done api.BackfillAnswer
			raw, err := s.call(cmd.Context(), request{method: http.MethodPost, path: "/v1/tasks/" + t.ID + "/backfill", body: ask}, &done)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				if done.Count == 0 && done.Refused > 0 {
					why := refusedInstants(done)
					return s.nothing(why.Zh, why.En)
				}
				if done.Count == 0 {
					return s.nothing("这段时间里计划没有任何时刻", "the schedule has no instant in that time")
				}
				return s.backfillForPeople(done, zoneOf(t.Schedule.Zone))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "from this instant, or from the beginning of this day in the task's zone")
	f.StringVar(&to, "to", "", "to this one, which is not in it")
	f.StringVar(&ask.Overlap, "overlap", "", "how its runs take turns: skip, queue(3), cancel_previous, terminate_previous or allow(2) (default: the task's own)")
	f.IntVar(&ask.Limit, "limit", 1000, "how many at most, the earliest")
	f.StringVar(&ask.Spread, "spread", "1s", "between two starts")
	f.BoolVar(&ask.DryRun, "dry-run", false, "only say which instants would run")
	_ = cmd.MarkFlagRequired("from")
	_ = cmd.MarkFlagRequired("to")
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

// refusedInstants says which instants of the schedule a backfill leaves out, and why.
func refusedInstants(done api.BackfillAnswer) core.Text {
	n := strconv.Itoa(done.Refused)
	instants := count(done.Refused, "instant", "instants")
	switch names := strings.Join(done.RefusedBy, ", "); len(done.RefusedBy) {
	case 0:
		return core.Text{Zh: "这段时间里计划有 " + n + " 个时刻的当地时间不存在，不会运行", En: instants + " of the schedule in that time never run: no such local time"}
	case 1:
		return core.Text{Zh: "这段时间里计划有 " + n + " 个时刻是日历 " + names + " 不允许的，不会运行", En: "calendar " + names + " refuses " + instants + " of the schedule in that time"}
	default:
		return core.Text{Zh: "这段时间里计划有 " + n + " 个时刻是日历 " + names + " 不允许的，不会运行", En: "calendars " + names + " refuse " + instants + " of the schedule in that time"}
	}
}

// shownInstants is how many instants of a backfill are shown to a person.
const shownInstants = 20

// backfillForPeople says which instants a backfill runs, and what became of them before; times are those of the task's zone.
func (s *session) backfillForPeople(done api.BackfillAnswer, where *time.Location) error {
	const form = "2006-01-02 15:04:05"
	said := s.say("已开始 %s次运行，%s 到 %s（%s）", "started %s, %s to %s (%s)")
	if done.DryRun {
		said = s.say("将运行 %s次，%s 到 %s（%s）", "would start %s, %s to %s (%s)")
	}
	lines := []string{fmt.Sprintf(said, s.say(strconv.Itoa(done.Count)+" ", count(done.Count, "run", "runs")), done.First.In(where).Format(form), done.Last.In(where).Format(form), where)}
	if done.DryRun {
		for i, at := range done.Instants {
			if i == shownInstants {
				lines = append(lines, fmt.Sprintf(s.say("  还有 %d 个；-o json 全部列出", "  and %d more; -o json has them all"), done.Count-i))
				break
			}
			lines = append(lines, "  "+at.In(where).Format(form))
		}
	}
	if done.More {
		lines = append(lines, s.say("之后还有更多时刻：从最后一个之后继续", "there are more instants: go on after the last of these"))
	}
	if done.AlreadyDecided > 0 {
		lines = append(lines, fmt.Sprintf(s.say("其中 %d 个时刻计划本身已作过决定", "of these instants the schedule had decided %d itself"), done.AlreadyDecided))
	}
	if done.AlreadyBackfilled > 0 {
		again := s.say("其中 %d 个时刻已补跑过，这次又跑一遍：", "of these instants %d had been backfilled before, and run again:")
		if done.DryRun {
			again = s.say("其中 %d 个时刻已补跑过，将再跑一遍：", "of these instants %d have been backfilled before, and would run again:")
		}
		lines = append(lines, fmt.Sprintf(again, done.AlreadyBackfilled))
		for _, e := range done.Earlier {
			lines = append(lines, fmt.Sprintf(s.say("  %d 个，%s（%s）", "  %d, %s (%s)"), e.Instants, e.At.In(where).Format(form), e.Series))
		}
	}
	if done.Refused > 0 {
		why := refusedInstants(done)
		lines = append(lines, s.say("此外，"+why.Zh, "besides, "+why.En))
	}
	_, err := fmt.Fprintln(s.out, strings.Join(lines, "\n"))
	return err
}

func (s *session) runTerminate() *cobra.Command {
	return &cobra.Command{
		Use: "terminate RUN", Short: "Kill a live run, without the grace that cancel gives", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := s.runPath(args[0])
			if err != nil {
				return err
			}
			if _, err := s.call(cmd.Context(), request{method: http.MethodPost, path: path + "/terminate"}, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, s.say("已要求终止", "asked to terminate"))
			return err
		},
	}
}

func (s *session) runWorkflow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "workflow RUN", Short: "Show the graph of a workflow run with the state of its steps", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := s.runPath(args[0])
			if err != nil {
				return err
			}
			var w api.Workflow
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: path + "/workflow"}, &w)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				if _, err := fmt.Fprintf(s.out, "%s/%s  %s\n\n", w.Run.Namespace, w.Run.TaskName, w.State); err != nil {
					return err
				}
				var rows [][]string
				depth := map[string]int{}
				for _, step := range w.Steps {
					for _, need := range step.Needs {
						depth[step.Name] = max(depth[step.Name], depth[need]+1)
					}
					needs := ""
					for i, need := range step.Needs {
						if i > 0 {
							needs += " "
						}
						needs += need
					}
					rows = append(rows, []string{
						fmt.Sprintf("%*s%s", 2*depth[step.Name], "", step.Name), step.State, needs, step.When, took(step.StartedAt, step.EndedAt), step.Message, step.RunID,
					})
				}
				return s.table([]string{
					s.say("步骤", "STEP"), s.say("状态", "STATE"), s.say("需要", "NEEDS"), s.say("条件", "WHEN"), s.say("用时", "TOOK"), s.say("消息", "MESSAGE"), s.say("运行", "RUN"),
				}, rows)
			})
		},
	}
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

func (s *session) runRerun() *cobra.Command {
	var ask api.RerunRequest
	cmd := &cobra.Command{
		Use: "rerun RUN", Short: "Run an ended workflow run again from the steps that did not succeed", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := s.runPath(args[0])
			if err != nil {
				return err
			}
			var r api.Run
			if _, err := s.call(cmd.Context(), request{method: http.MethodPost, path: path + "/rerun", body: ask}, &r); err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, s.say("已开始运行 ", "started run ")+r.ID)
			return err
		},
	}
	cmd.Flags().StringSliceVar(&ask.From, "from", nil, "steps to run again, with all that need them (default: those that did not succeed)")
	cmd.Flags().StringVar(&ask.Note, "note", "", "why; kept with the run")
	return cmd
}

// count writes a number of things: 1 task, 2 tasks.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
