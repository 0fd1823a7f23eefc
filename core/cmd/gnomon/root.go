package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// execute carries out one command line and gives the exit code.
func execute(ctx context.Context, args []string) int {
	return run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	s := &session{in: in, out: out, err: errOut}
	var begun *cobra.Command // the command whose work has begun: errors from then on are no mistakes of usage
	root := &cobra.Command{
		Use: "gnomon", Short: "Runs an organisation's background work", Version: version,
		Long: "Gnomon (圭表) runs an organisation's background work on time, and keeps everything about it.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 input refused, 5 server out of reach, 130 interrupted.",
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil { // else cobra looks later
				return err
			}
			begun = cmd
			return nil
		},
	}
	root.PersistentFlags().StringVar(&s.lang, "lang", "", "language of messages: zh or en (default from LANG)")
	root.AddCommand(
		newServerCommand(), newEngineCommand(), newLuaWorkerCommand(), newApplyCommand(s), newBenchCommand(s),
		newTaskCommand(s), newRunCommand(s), newNamespaceCommand(s), newTypeCommand(s), newSQLCommand(s), newHistoryCommand(s),
		newScheduleCommand(s), newScriptCommand(s), newOpenAPICommand(s), newSchemaCommand(s), newVersionCommand(s),
		newWhyCommand(s), newForecastCommand(s), newDoctorCommand(s), newReconcileCommand(s), newCalendarCommand(s), newPoolCommand(s),
		newDownstreamCommand(s), newBreakerCommand(s), newQueueCommand(s), newInterventionCommand(s), newTokenCommand(s),
	)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	insist(root)
	s.complete(root)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case begun == nil:
		err = &usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	}
	return s.report(strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), "gnomon")), err)
}

// insist makes a command that only groups others refuse a name it does not know, instead of printing its help as if all
// were well.
func insist(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		insist(sub)
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.NoArgs
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}
