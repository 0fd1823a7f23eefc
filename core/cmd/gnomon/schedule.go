package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/calendar"
	"github.com/gnomon-scheduler/gnomon/core/definition"
	"github.com/spf13/cobra"
)

// previewOf gives the next count fires after from, with the calendars that every installation has, without a server.
func previewOf(s core.Schedule, name string, from time.Time, count int) (api.Preview, error) {
	return previews{definition.New(definition.Options{Clock: core.SystemClock{}})}.Preview(s, name, from, count)
}

// everywhere are the calendars that every installation has.
var everywhere = []string{calendar.Workdays, calendar.Holidays, calendar.Weekdays, calendar.Weekends}

// look gives the next count fires after from. A schedule needs no server, unless it names calendars of one: an installation's
// own, or those made of public holidays in a year that only a server may know.
func (s *session) look(ctx context.Context, in core.Schedule, name string, from time.Time, count int) (api.Preview, error) {
	var own []string
	for _, c := range slices.Concat(in.OnlyOn, in.NotOn) {
		if !slices.Contains(everywhere, c) {
			own = append(own, c)
		}
	}
	var preview api.Preview
	if len(own) == 0 {
		var err error
		if preview, err = previewOf(in, name, from, count); err != nil || len(preview.Warnings) == 0 {
			return preview, err
		}
	}
	said, err := s.lookThere(ctx, in, name, from, count)
	var away *unreachableError
	switch {
	case err == nil:
		return said, nil
	case len(own) == 0:
		return preview, nil
	case errors.As(err, &away):
		return preview, &unreachableError{server: away.server, why: fmt.Sprintf(s.say(
			"日历 %s 不是内置日历（%s），只有服务器知道它，而没有服务器应答：%s",
			"calendar %s is not one that every installation has (%s), so only a server knows it, and none answered: %s"),
			strings.Join(own, ", "), strings.Join(everywhere, ", "), away.why)}
	}
	return preview, err
}

// lookThere has a server look ahead, with its calendars.
func (s *session) lookThere(ctx context.Context, in core.Schedule, name string, from time.Time, count int) (all api.Preview, err error) {
	var zone *time.Location
	if in.Zone != "" {
		zone = zoneOf(in.Zone)
	}
	for starts := 0; starts < count; {
		const most = 1000 // of one answer
		ask := api.PreviewRequest{
			Spec: in.Spec, Dialect: in.Dialect, Zone: in.Zone, OnGap: in.OnGap, OnOverlap: in.OnOverlap, OnlyOn: in.OnlyOn, NotOn: in.NotOn,
			OnDayOff: in.OnDayOff, TaskName: name, From: &from, Count: min(count-starts, most),
		}
		var answer api.PreviewAnswer
		if _, err := s.call(ctx, request{method: http.MethodPost, path: "/v1/schedule/preview", body: ask}, &answer); err != nil {
			return all, err
		}
		all.Words = core.Text{Zh: answer.Words.Zh, En: answer.Words.En}
		if starts == 0 {
			for _, w := range answer.Warnings {
				all.Warnings = append(all.Warnings, core.Text{Zh: w.Zh, En: w.En})
			}
		}
		got := 0
		for _, item := range answer.Fires {
			at, err := time.Parse(time.RFC3339Nano, item.Local) // in the schedule's zone, which the expression itself may name
			if err != nil {
				return all, fmt.Errorf("read the answer: %w", err)
			}
			fire := api.PreviewFire{At: at, Skip: core.Reason(item.Skip), Merged: item.Merged, Calendar: item.Calendar}
			if item.MovedFrom != nil {
				fire.MovedFrom = item.MovedFrom.In(cmp.Or(zone, at.Location()))
			}
			if item.Why != nil {
				fire.Why = core.Text{Zh: item.Why.Zh, En: item.Why.En}
			}
			if fire.Skip == "" {
				got++
			}
			all.Fires = append(all.Fires, fire)
			from = fire.At
		}
		if starts += got; got < ask.Count {
			break
		}
	}
	return all, nil
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
	cmd := &cobra.Command{Use: "schedule", Short: "Look ahead with a schedule; a server is needed only for calendars of its own"}
	s.flags(cmd)
	var in core.Schedule
	var from, name string
	var count int
	next := &cobra.Command{
		Use: "next SPEC", Short: "Say when a schedule fires", Args: cobra.ExactArgs(1),
		Example: `  gnomon schedule next "30 8 * * 1-5" --zone Asia/Shanghai --count 3
  gnomon schedule next "0 0 12 ? * 2#1" --dialect quartz -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			at := time.Now()
			if from != "" {
				var err error
				if at, err = s.readInstant("--from", from, in.Zone); err != nil {
					return err
				}
			}
			if count < 1 || count > 100000 {
				return &usageError{fmt.Errorf(s.say("--count %d：须在 1 与 100000 之间", "--count %d: must be between 1 and 100000"), count)}
			}
			in.Spec, in.Anchor = args[0], at
			preview, err := s.look(cmd.Context(), in, name, at, count)
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
	next.Flags().StringSliceVar(&in.OnlyOn, "only-on", nil, "calendars that must all hold the instant: cn-workdays, cn-holidays, weekdays, weekends, or the server's own")
	next.Flags().StringSliceVar(&in.NotOn, "not-on", nil, "calendars that must not hold it")
	next.Flags().StringVar(&in.OnDayOff, "on-day-off", "", "what the calendars refuse: skip (default), or move to the next or previous day they allow")
	next.Flags().StringVar(&in.Dialect, "dialect", "", "unix (default) or quartz")
	next.Flags().StringVar(&in.Zone, "zone", "", "IANA time zone (default UTC)")
	next.Flags().StringVar(&in.OnGap, "on-gap", "", "a local time that does not exist: run_after (default) or skip")
	next.Flags().StringVar(&in.OnOverlap, "on-overlap", "", "a local time that comes twice: first (default), second or both")
	next.Flags().StringVar(&name, "name", "", "name of the task, by which H is spread")
	next.Flags().StringVar(&from, "from", "", "look for instants after this instant, local time or day (default now)")
	next.Flags().IntVar(&count, "count", 5, "how many")
	s.outputFlag(next, "table", "json", "yaml")
	cmd.AddCommand(next)
	return cmd
}
