package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

func newTypeCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "type", Short: "List task types and show their parameters"}
	s.flags(cmd)

	var namespace string
	list := &cobra.Command{
		Use: "list", Short: "List task types", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if namespace != "" {
				query.Set("namespace", namespace)
			}
			items, err := s.list(cmd.Context(), "/v1/task-types", query, 0)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				all, err := each[api.TaskType](items)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, t := range all {
					rows = append(rows, []string{t.Name, t.Version, t.Provider, s.say(t.Title.Zh, t.Title.En), t.Problem})
				}
				return s.table([]string{
					s.say("任务类型", "TYPE"), s.say("版本", "VERSION"), s.say("来源", "PROVIDER"), s.say("名称", "TITLE"), s.say("问题", "PROBLEM"),
				}, rows)
			})
		},
	}
	list.Flags().StringVarP(&namespace, "namespace", "n", "", "only what tasks of this namespace may use")
	s.outputFlag(list, "table", "json", "yaml")

	get := &cobra.Command{
		Use: "get TYPE", Short: "Show a task type and the schema of its parameters", Args: cobra.ExactArgs(1),
		Example: "  gnomon type get Common.KeepAlive",
		RunE: func(cmd *cobra.Command, args []string) error {
			var t api.TaskType
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: "/v1/task-types/" + url.PathEscape(args[0])}, &t)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				var schema bytes.Buffer
				if err := json.Indent(&schema, t.ParamsSchema, "", "  "); err != nil {
					return err
				}
				return s.pairs("type", t.Name, "title", s.say(t.Title.Zh, t.Title.En), "description", s.say(t.Description.Zh, t.Description.En),
					"provider", t.Provider, "version", t.Version, "timeout", t.Timeout, "needs", strings.Join(t.Needs, ", "),
					"problem", t.Problem, "params", schema.String())
			})
		},
	}
	s.outputFlag(get, "table", "json", "yaml")

	cmd.AddCommand(list, get)
	return cmd
}
