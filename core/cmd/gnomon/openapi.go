package main

import (
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

func newOpenAPICommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "openapi", Short: "Print the OpenAPI document of the REST API", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			document, err := api.Document(access.Permissions())
			if err != nil {
				return err
			}
			_, err = s.out.Write(document)
			return err
		},
	}
}
