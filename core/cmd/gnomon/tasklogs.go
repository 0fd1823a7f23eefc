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

func (s *session) taskLogs() *cobra.Command {
	var search, from, to, level string
	var limit int
	var words bool
	cmd := &cobra.Command{
		Use: "logs NAMESPACE/NAME", Short: "Search what a task's runs said, the newest first", Args: cobra.ExactArgs(1),
		Example: "  gnomon task logs ImageArchive/verify-nightly --grep 校验失败 --from 2026-11-01T00:00\n  gnomon task logs Common/keep-alive --level error --from 7d",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, _, err := s.task(cmd, args[0])
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, text := range map[string]string{"from": from, "to": to} {
				if text == "" {
					continue
				}
				at, err := s.readSince("--"+name, text, t.Schedule.Zone)
				if err != nil {
					return err
				}
				query.Set(name, at.UTC().Format(time.RFC3339Nano))
			}
			if search != "" {
				query.Set("search", search)
			}
			if words {
				query.Set("whole_words", "true")
			}
			if level != "" {
				query.Set("level", level)
			}
			return s.taskLines(cmd.Context(), "/v1/tasks/"+t.ID+"/logs", query, limit)
		},
	}
	f := cmd.Flags()
	f.StringVar(&search, "grep", "", "only lines whose message contains this, in whatever case; attributes are not searched")
	f.BoolVarP(&words, "word", "w", false, "letters and digits of --grep must be whole words: ten times as fast where there are very many lines")
	f.StringVar(&from, "from", "", "only runs from this instant on, or from so long ago: 12h, 7d (default 31 days ago)")
	f.StringVar(&to, "to", "", "only runs before this instant, or so long ago (default now)")
	f.StringVar(&level, "level", "", "only this severe or more: debug, info, warn, error")
	f.IntVarP(&limit, "limit", "n", 100, "lines at most")
	s.outputFlag(cmd, "table", "json")
	return cmd
}

// readSince reads an instant, a day, or how long ago it was.
func (s *session) readSince(flag, text, zone string) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil {
			return time.Now().AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	return s.readInstant(flag, text, zone)
}

// taskLines prints lines page by page, with the run that said them.
func (s *session) taskLines(ctx context.Context, path string, query url.Values, limit int) error {
	shown := 0
	for shown < limit {
		query.Set("limit", strconv.Itoa(min(limit-shown, 10_000)))
		var p page
		if _, err := s.call(ctx, request{method: http.MethodGet, path: path, query: query}, &p); err != nil {
			return err
		}
		for _, item := range p.Items {
			if s.output != "json" {
				var l api.TaskLine
				if err := json.Unmarshal(item, &l); err != nil {
					return fmt.Errorf("read the answer: %w", err)
				}
				if _, err := fmt.Fprint(s.out, l.RunID+" "); err != nil {
					return err
				}
			}
			if err := s.line(item); err != nil {
				return err
			}
		}
		shown += len(p.Items)
		cursor := strings.Trim(string(p.NextCursor), `"`)
		if cursor == "" || cursor == "null" {
			break
		}
		query.Set("cursor", cursor)
	}
	if shown == 0 {
		return s.nothing("没有符合的日志行", "no line matches")
	}
	return nil
}
