package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine"
)

// readables is what analysts may read, as the engine wants it.
func readables() []engine.Readable {
	all := clickhouse.Readables()
	list := make([]engine.Readable, len(all))
	for i, r := range all {
		list[i] = engine.Readable(r)
	}
	return list
}

func newEngineCommand() *cobra.Command {
	var o engine.Options
	cmd := &cobra.Command{
		Use: "engine", Short: "Run the embedded ClickHouse engine (the server starts it by itself)", Args: cobra.NoArgs,
		Long: "Opens a data folder with the embedded ClickHouse engine and answers ClickHouse's HTTP protocol on a unix socket.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Readable = readables()
			o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return engine.Serve(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "data folder")
	cmd.Flags().StringVar(&o.Socket, "socket", "", "path of the unix socket to answer on")
	cmd.Flags().StringVar(&o.Library, "library", "", "path of libchdb (default GNOMON_LIBCHDB, else beside the program)")
	cmd.Flags().IntVar(&o.MaxThreads, "max-threads", 0, "threads of one query (default 2)")
	cmd.Flags().Uint64Var(&o.MemoryBytes, "memory-bytes", 0, "limit of all queries and merges together, bytes (default 2 GiB)")
	cmd.Flags().StringVar(&o.Backups, "backups", "", "folder that backups may be written to and restored from, absolute (default none)")
	_ = cmd.MarkFlagRequired("dir")
	_ = cmd.MarkFlagRequired("socket")
	return cmd
}
