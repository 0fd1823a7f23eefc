package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

// ofNamespace is what get prints of a namespace and the server alone decides: it may stand in a file.
var ofNamespace = []string{"name", "created_at", "effective_retention", "warnings"}

func newNamespaceCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "namespace", Aliases: []string{"ns"}, Short: "Namespaces: business systems, with the defaults and limits of their tasks"}
	s.flags(cmd)

	list := &cobra.Command{
		Use: "list", Short: "List the namespaces you may see", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := s.list(cmd.Context(), "/v1/namespaces", nil, 0)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				all, err := each[api.Namespace](items)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, n := range all {
					rows = append(rows, []string{n.Name, s.say(n.Title.Zh, n.Title.En), n.Description})
				}
				return s.table([]string{s.say("命名空间", "NAMESPACE"), s.say("名称", "TITLE"), s.say("说明", "DESCRIPTION")}, rows)
			})
		},
	}
	s.outputFlag(list, "table", "json", "yaml")

	var description string
	var title api.Text
	var keep api.Retention
	create := &cobra.Command{
		Use: "create NAME", Short: "Create a namespace, or change its title, description and retention", Args: cobra.ExactArgs(1),
		Long: "Create a namespace, or change its title, description and retention.\n\n" +
			"Days of retention are counted from the nominal instant or from when it happened, whichever is later: what a backfill of last year leaves\n" +
			"is kept as long as what runs today. With the runs of a namespace goes all that has their messages; figures that were added up stay for ever.",
		Example: "  gnomon namespace create ImageArchive --title-zh 影像归档 --title-en 'Image archive'",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/namespaces/" + url.PathEscape(args[0])
			var input api.NamespaceInput // what is not said stays as it is
			var remote *remoteError
			_, err := s.call(cmd.Context(), request{method: http.MethodGet, path: path}, &input)
			if err != nil && (!errors.As(err, &remote) || remote.problem.Status != http.StatusNotFound) {
				return err
			}
			if title != (api.Text{}) {
				input.Title = &title
			}
			if cmd.Flags().Changed("description") {
				input.Description = description
			}
			for _, kept := range []struct {
				said string
				into func(*api.Retention) *string
			}{
				{keep.Runs, func(r *api.Retention) *string { return &r.Runs }}, {keep.Lines, func(r *api.Retention) *string { return &r.Lines }},
				{keep.Samples, func(r *api.Retention) *string { return &r.Samples }}, {keep.Fine, func(r *api.Retention) *string { return &r.Fine }},
			} {
				if kept.said == "" {
					continue
				}
				if input.Retention == nil {
					input.Retention = &api.Retention{}
				}
				*kept.into(input.Retention) = kept.said
			}
			raw, err := s.call(cmd.Context(), request{method: http.MethodPut, path: path, body: input}, nil)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				_, err := fmt.Fprintln(s.out, s.say("已保存命名空间 ", "saved namespace ")+args[0])
				return err
			})
		},
	}
	create.Flags().StringVar(&title.Zh, "title-zh", "", "title in Chinese")
	create.Flags().StringVar(&title.En, "title-en", "", "title in English")
	create.Flags().StringVar(&description, "description", "", "what it is")
	create.Flags().StringVar(&keep.Runs, "keep-runs", "", "how long fires, runs, attempts and messages of errors are kept: 730d, or forever (default forever)")
	create.Flags().StringVar(&keep.Lines, "keep-lines", "", "how long log lines are kept (default 90d)")
	create.Flags().StringVar(&keep.Samples, "keep-samples", "", "how long samples are kept (default 30d)")
	create.Flags().StringVar(&keep.Fine, "keep-fine", "", "of these, how long as measured; then one row for five minutes: 8d or more, or forever (default 14d)")
	s.outputFlag(create, "table", "json", "yaml")

	get := &cobra.Command{
		Use: "get NAME", Short: "Show a namespace: its defaults and limits", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: "/v1/namespaces/" + url.PathEscape(args[0])}, nil)
			if err != nil {
				return err
			}
			return s.show(raw, nil)
		},
	}
	s.outputFlag(get, "yaml", "json")

	var file string
	put := &cobra.Command{
		Use: "put NAME -f FILE", Short: "Create a namespace, or make it what a YAML or JSON file says: title, defaults, limits, retention", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := s.readNamed(file, args[0])
			if err != nil {
				return err
			}
			for _, key := range ofNamespace {
				delete(body, key)
			}
			var n api.Namespace
			raw, err := s.call(cmd.Context(), request{method: http.MethodPut, path: "/v1/namespaces/" + url.PathEscape(args[0]), body: body}, &n)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				s.notes(n.Warnings)
				_, err := fmt.Fprintln(s.out, s.say("已保存命名空间 ", "saved namespace ")+args[0])
				return err
			})
		},
	}
	put.Flags().StringVarP(&file, "file", "f", "", "YAML or JSON file; - is standard input")
	_ = put.MarkFlagRequired("file")
	s.outputFlag(put, "table", "json", "yaml")

	cmd.AddCommand(list, get, create, put)
	return cmd
}
