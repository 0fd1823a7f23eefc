package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/spf13/cobra"
)

// previewOf gives the next count fires after from, and the skipped ones between them. name spreads H in a cron expression.
func previewOf(s core.Schedule, name string, from time.Time, count int) (api.Preview, error) {
	parsed, err := schedule.Parse(s, name)
	if err != nil {
		return api.Preview{}, err
	}
	preview := api.Preview{Words: parsed.Words()}
	if parsed.Kind() == schedule.After || parsed.Kind() == schedule.Manual {
		return preview, nil // it depends on what happens
	}
	for fires := 0; fires < count && len(preview.Fires) < 2*count; { // skipped ones are shown beside those that count
		fire, ok := parsed.Next(from)
		if !ok {
			break
		}
		if fire.Skip == "" {
			fires++
		}
		preview.Fires = append(preview.Fires, api.PreviewFire{At: fire.At, Skip: fire.Skip})
		from = fire.At
	}
	return preview, nil
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
					line := f.At.Format(time.RFC3339Nano)
					if f.Skip != "" {
						line += "  " + s.say("跳过：", "skipped: ") + string(f.Skip)
					}
					if _, err := fmt.Fprintln(s.out, line); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
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
