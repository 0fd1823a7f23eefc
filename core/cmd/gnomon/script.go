package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/luavm"
)

func newScriptCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "script", Short: "Work with Lua task types, without a server"}
	var dir string
	var schemas map[string]string
	test := &cobra.Command{
		Use: "test [TYPE]", Short: "Run the tests beside the scripts", Args: cobra.MaximumNArgs(1),
		Long: "Runs <Namespace>/<Type>_test.lua, each test with fresh databases of its own. The folder's README says what a test has.",
		Example: `  gnomon script test --schema business=deploy/demo/hospital/schema.sql
  gnomon script test --scripts ./scripts --schema business=schema.sql Common.SMSFailRetry`,
		RunE: func(cmd *cobra.Command, args []string) error {
			config := Config{Scripts: dir}
			if err := config.complete(); err != nil {
				return err
			}
			o := luavm.TestOptions{Dir: config.Scripts, Schemas: make(map[string]string, len(schemas))}
			if len(args) == 1 {
				o.Only = args[0]
			}
			for _, name := range slices.Sorted(maps.Keys(schemas)) {
				text, err := os.ReadFile(schemas[name])
				if err != nil {
					return &usageError{fmt.Errorf("--schema %s: %w", name, err)}
				}
				o.Schemas[name] = string(text)
			}
			scratch, err := os.MkdirTemp("", "gnomon-script-test-")
			if err != nil {
				return err
			}
			defer func() { _ = os.RemoveAll(scratch) }()
			o.Scratch = scratch
			results, err := luavm.Test(cmd.Context(), o)
			if err == nil && len(results) == 0 {
				err = core.Errorf(core.KindNotFound, "", "there is no test of %s in %s", cmp.Or(o.Only, "any type"), config.Scripts)
			}
			return errors.Join(s.tested(results), err)
		},
	}
	test.Flags().StringVar(&dir, "scripts", "", "folder that holds <Namespace>/<Type>_test.lua (GNOMON_SCRIPTS; default beside the program)")
	test.Flags().StringToStringVar(&schemas, "schema", nil, "SQL that makes the database of the grant sql:<name>: name=file")
	cmd.AddCommand(test)
	return cmd
}

// tested prints how each test ended, and for one that failed what the script had logged.
func (s *session) tested(results []luavm.TestResult) error {
	var text strings.Builder
	failed := 0
	for _, r := range results {
		verdict := s.say("通过", "ok  ")
		if r.Problem != "" {
			failed++
			verdict = s.say("失败", "FAIL")
		}
		fmt.Fprintf(&text, "%s  %s: %s (%s)\n", verdict, r.Type, r.Name, r.Took.Round(time.Millisecond))
		if r.Problem == "" {
			continue
		}
		for _, line := range append(strings.Split(strings.TrimSpace(r.Problem), "\n"), r.Log...) {
			fmt.Fprintf(&text, "      %s\n", line)
		}
	}
	if _, err := fmt.Fprint(s.out, harmless.Replace(text.String())); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf(s.say("%d 个测试中 %d 个失败", "of %d tests %d failed"), len(results), failed)
	}
	return nil
}
