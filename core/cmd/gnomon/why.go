package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
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
				at, err := s.readInstant("INSTANT", args[1], t.Schedule.Zone)
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

// readInstant reads an instant as a person writes it: RFC 3339, a local time of a zone, or a day, which is where it begins there.
// named says where the text stood.
func (s *session) readInstant(named, text, zone string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	where := zoneOf(zone)
	for _, form := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(form, text, where); err == nil {
			return at, nil
		}
	}
	return time.Time{}, &usageError{fmt.Errorf(s.say(
		"%s %q 不是时刻；请写 2026-10-01T08:00:00+08:00、当地时间 2026-10-01T08:00，或日期 2026-10-01（%s）",
		"%s %q is no instant; write 2026-10-01T08:00:00+08:00, the local time 2026-10-01T08:00, or the day 2026-10-01 (%s)"), named, text, where)}
}

// zoneOf gives the zone of a schedule; none is UTC.
func zoneOf(name string) *time.Location {
	where, err := time.LoadLocation(name)
	if err != nil {
		where = time.UTC
	}
	return where
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
				at, err := s.readInstant("--"+name, text, "")
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
