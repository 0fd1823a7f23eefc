package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/definition"
	"github.com/spf13/cobra"
)

// previewOf gives the next count fires after from, with the calendars that every installation has, without a server.
func previewOf(s core.Schedule, name string, from time.Time, count int) (api.Preview, error) {
	return previews{definition.New(definition.Options{Clock: core.SystemClock{}})}.Preview(s, name, from, count)
}

// fireForPeople writes one instant of a preview: when, and what the calendars or the clock made of it.
func (s *session) fireForPeople(f api.PreviewFire) string {
	line := f.At.Format(time.RFC3339Nano)
	why := strings.TrimSpace(f.Calendar + " " + f.Why.In(s.language()))
	switch {
	case !f.MovedFrom.IsZero():
		line += s.say("  移自 ", "  moved from ") + f.MovedFrom.Format("2006-01-02 15:04:05") + s.say("（"+s.weekday(f.MovedFrom.Format(time.DateOnly)), " ("+s.weekday(f.MovedFrom.Format(time.DateOnly)))
		if why != "" {
			line += s.say("，", ", ") + why
		}
		line += s.say("）", ")")
	case f.Skip != "":
		reason := string(f.Skip)
		switch f.Skip {
		case core.ReasonCalendar:
			reason = s.weekday(f.At.Format(time.DateOnly))
		case core.ReasonNonexistent:
			reason = s.say("时钟拨快，这个当地时间不存在", "the clock goes forward, so that the local time does not exist")
		}
		line += s.say("  跳过：", "  skipped: ") + reason
		if why != "" {
			line += s.say("，", ", ") + why
		}
	}
	if f.Merged > 0 {
		more := fmt.Sprintf(", with %d more instants that fall together with it", f.Merged)
		if f.Merged == 1 {
			more = ", with one more instant that falls together with it"
		}
		line += s.say(fmt.Sprintf("，合并了另外 %d 个时刻", f.Merged), more)
	}
	return line
}

func newScheduleCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "schedule", Short: "Look ahead with a schedule, without a server"}
	var in core.Schedule
	var from, name string
	var count int
	next := &cobra.Command{
		Use: "next SPEC", Short: "Say when a schedule fires", Args: cobra.ExactArgs(1),
		Example: `  gnomon schedule next "30 8 * * 1-5" --zone Asia/Shanghai --count 3
  gnomon schedule next "0 0 12 ? * 2#1" --dialect quartz -o json`,
		RunE: func(_ *cobra.Command, args []string) error {
			at := time.Now()
			if from != "" {
				var err error
				if at, err = time.Parse(time.RFC3339, from); err != nil {
					return &usageError{fmt.Errorf("--from %q is not an RFC 3339 time like 2026-12-01T08:00:00+08:00", from)}
				}
			}
			if count < 1 || count > 100000 {
				return &usageError{fmt.Errorf("--count %d: must be between 1 and 100000", count)}
			}
			in.Spec, in.Anchor = args[0], at
			preview, err := previewOf(in, name, at, count)
			if err != nil {
				return err
			}
			instants := make([]string, 0, len(preview.Fires))
			for _, f := range preview.Fires {
				if f.Skip == "" {
					instants = append(instants, f.At.Format(time.RFC3339Nano))
				}
			}
			document, err := json.Marshal(instants)
			if err != nil {
				return err
			}
			return s.show(document, func() error {
				if _, err := fmt.Fprintf(s.out, "zh: %s\nen: %s\n", preview.Words.Zh, preview.Words.En); err != nil {
					return err
				}
				for _, f := range preview.Fires {
					if _, err := fmt.Fprintln(s.out, s.fireForPeople(f)); err != nil {
						return err
					}
				}
				for _, w := range preview.Warnings {
					if _, err := fmt.Fprintln(s.err, s.say("注意：", "note: ")+w.In(s.language())); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	next.Flags().StringSliceVar(&in.OnlyOn, "only-on", nil, "calendars that must all hold the instant: cn-workdays, cn-holidays, weekdays, weekends")
	next.Flags().StringSliceVar(&in.NotOn, "not-on", nil, "calendars that must not hold it")
	next.Flags().StringVar(&in.OnDayOff, "on-day-off", "", "what the calendars refuse: skip (default), or move to the next or previous day they allow")
	next.Flags().StringVar(&in.Dialect, "dialect", "", "unix (default) or quartz")
	next.Flags().StringVar(&in.Zone, "zone", "", "IANA time zone (default UTC)")
	next.Flags().StringVar(&in.OnGap, "on-gap", "", "a local time that does not exist: run_after (default) or skip")
	next.Flags().StringVar(&in.OnOverlap, "on-overlap", "", "a local time that comes twice: first (default), second or both")
	next.Flags().StringVar(&name, "name", "", "name of the task, by which H is spread")
	next.Flags().StringVar(&from, "from", "", "look for instants after this (RFC 3339; default now)")
	next.Flags().IntVar(&count, "count", 5, "how many")
	s.outputFlag(next, "table", "json", "yaml")
	cmd.AddCommand(next)
	return cmd
}
