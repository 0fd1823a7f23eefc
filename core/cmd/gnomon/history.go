package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

func newHistoryCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "history", Short: "Back up and restore history"}
	cmd.AddCommand(s.historyBackup(), s.historyRestore())
	return cmd
}

func (s *session) historyBackup() *cobra.Command {
	var base string
	cmd := &cobra.Command{
		Use: "backup FOLDER", Short: "Back up history while the server runs", Args: cobra.ExactArgs(1),
		Long: "Back up history of one instant into FOLDER, below the server's folder of backups (<data>/backups, or `backups` in its\n" +
			"configuration). Runs go on; what they say waits in the spool meanwhile. Keep the store and audit.log as well: history\n" +
			"is not all that a server has.",
		Example: "  gnomon history backup sunday\n  gnomon history backup monday --base sunday",
		RunE: func(cmd *cobra.Command, args []string) error {
			var made api.Backup
			began := time.Now()
			stop := s.each500ms(cmd.Context(), func(context.Context) {
				progress(s.err, s.say("  正在备份，%.1f 秒", "  backing up, %.1f s"), time.Since(began).Seconds())
			})
			raw, err := s.call(cmd.Context(), request{method: http.MethodPost, path: "/v1/history/backups", body: api.BackupRequest{Folder: args[0], Base: base}}, &made)
			stop()
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				rows := make([][]string, 0, len(made.Tables))
				for _, t := range made.Tables {
					rows = append(rows, []string{t.Name, strconv.FormatUint(t.Rows, 10)})
				}
				if err := s.table([]string{s.say("表", "TABLE"), s.say("行数", "ROWS")}, rows); err != nil {
					return err
				}
				fmt.Fprintf(s.err, s.say("已备份到 %s：%s，用时 %.1f 秒\n", "backed up to %s: %s in %.1f s\n"), made.Folder, sizeText(made.Bytes), made.Seconds)
				return nil
			})
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&base, "base", "", "a full backup in the same folder: write only what it lacks")
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

func (s *session) historyRestore() *cobra.Command {
	var file string
	var flags Config
	cmd := &cobra.Command{
		Use: "restore FOLDER", Short: "Fill an empty history from a backup; the server must not run", Args: cobra.ExactArgs(1),
		Long: "Fill the empty history of a data folder from a backup, and check that every row is there. The server must not run. What\n" +
			"is in the spool and not in history yet is shipped when it starts again, each record once.",
		Example: "  gnomon history restore ~/.local/share/gnomon/backups/sunday",
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := readConfig(file)
			if err != nil {
				return err
			}
			overlay(&config.Data, flags.Data)
			if err := config.complete(); err != nil {
				return err
			}
			began := time.Now()
			m, err := restore(cmd.Context(), config, args[0], slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelError})))
			if err != nil {
				return err
			}
			rows := uint64(0)
			for _, t := range m.Tables {
				rows += t.Rows
			}
			_, err = fmt.Fprintf(s.out, s.say("已恢复 %s 的备份：%d 个表，%s 行，与备份逐表核对相符，用时 %s\n", "restored the backup of %s: %d tables, %s rows, each table compared with the backup, in %s\n"),
				localTime(m.MadeAt), len(m.Tables), thousands(rows), time.Since(began).Round(time.Millisecond))
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", os.Getenv("GNOMON_CONFIG"), "configuration file of the server (YAML)")
	cmd.Flags().StringVar(&flags.Data, "data", "", "data folder (default ~/.local/share/gnomon)")
	return cmd
}
