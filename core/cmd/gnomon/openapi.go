package main

import (
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

func newOpenAPICommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "openapi", Short: "Print the OpenAPI document of the REST API", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return s.print(api.Document(access.Permissions())) },
	}
}

func newSchemaCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of definition files, by which editors complete and check them", Args: cobra.NoArgs,
		Long: "An editor that knows YAML (VS Code, IntelliJ, Neovim with yaml-language-server) completes what the files of gnomon apply\n" +
			"may say and underlines what they may not, if their first line names the schema:\n\n" +
			"  # yaml-language-server: $schema=gnomon.schema.json\n\n" +
			"What only the server knows (task types and their parameters, names of others) gnomon apply --dry-run checks.",
		Example: "  gnomon schema > deploy/tasks/gnomon.schema.json",
		RunE:    func(*cobra.Command, []string) error { return s.print(api.DefinitionSchema(access.Permissions())) },
	}
}

// print writes a document that was made without a server.
func (s *session) print(document []byte, err error) error {
	if err != nil {
		return err
	}
	_, err = s.out.Write(document)
	return err
}
