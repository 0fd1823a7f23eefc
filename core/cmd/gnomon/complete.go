package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// complete has a shell complete names by asking the server: tasks and namespaces wherever a command takes one, and the
// things that all namespaces share.
func (s *session) complete(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		s.complete(sub)
	}
	if cmd.Flags().Lookup("namespace") != nil {
		_ = cmd.RegisterFlagCompletionFunc("namespace", s.names("/v1/namespaces", 0))
	}
	_, takes, _ := strings.Cut(cmd.Use, " ")
	switch {
	case cmd.ValidArgsFunction != nil:
	case strings.HasPrefix(takes, "NAMESPACE/NAME"):
		cmd.ValidArgsFunction = s.names("/v1/tasks", 1)
	case cmd.Name() == "spread":
		cmd.ValidArgsFunction = s.names("/v1/namespaces", 1)
	case cmd.Parent() == nil || !strings.HasPrefix(takes, "NAME"):
	case cmd.Parent().Name() == "namespace":
		cmd.ValidArgsFunction = s.names("/v1/namespaces", 1)
	case cmd.Parent().Name() == "breaker":
		cmd.ValidArgsFunction = s.names("/v1/breakers", 1)
	case cmd.Parent().Name() == "pool", cmd.Parent().Name() == "downstream", cmd.Parent().Name() == "calendar":
		cmd.ValidArgsFunction = s.names("/v1/"+cmd.Parent().Name()+"s", 1)
	}
}

// names completes names of a list of the API, for as many arguments as may be given; 0: of a flag.
func (s *session) names(path string, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second) // somebody holds the tab key
		defer cancel()
		items, err := s.list(ctx, path, nil, 10_000)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []cobra.Completion
		for _, item := range items {
			var one struct{ Namespace, Name string }
			if json.Unmarshal(item, &one) != nil {
				continue
			}
			name := one.Name
			switch {
			case one.Namespace != "":
				name = one.Namespace + "/" + name
			case strings.HasPrefix(name, ofTask):
				name = s.breakerName(ctx, name)
			}
			if strings.HasPrefix(name, begun) {
				found = append(found, name)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}
