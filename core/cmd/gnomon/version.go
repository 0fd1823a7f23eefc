package main

import (
	"encoding/json"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

func newVersionCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Say which version this is, and by which tz database it reckons", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			document, err := json.Marshal(map[string]string{
				"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH, "tz_database": schedule.TZVersion(),
			})
			if err != nil {
				return err
			}
			return s.show(document, func() error {
				return s.pairs("gnomon", version, "go", runtime.Version(), "platform", runtime.GOOS+"/"+runtime.GOARCH, "tz database", schedule.TZVersion())
			})
		},
	}
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}
