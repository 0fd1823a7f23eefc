package main

import (
	"github.com/spf13/cobra"

	"github.com/gnomon-scheduler/gnomon/core/luavm"
)

func newLuaWorkerCommand() *cobra.Command {
	var o luavm.Options
	cmd := &cobra.Command{
		Use: "lua-worker", Short: "Run one namespace's scripts (the server starts it by itself)", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return luavm.Serve(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.Namespace, "namespace", "", "whose scripts")
	f.StringVar(&o.Dir, "scripts", "", "folder of scripts")
	f.StringVar(&o.Only, "only", "", "serve this one task type")
	f.IntVar(&o.MemoryMB, "memory-mb", 0, "memory of a run, MiB")
	f.Int64Var(&o.Instructions, "instructions", 0, "Lua instructions of a run")
	return cmd
}
