package engine

import (
	"log/slog"
	"time"
)

// Options say how the engine process works.
type Options struct {
	Dir         string       // data folder; made if missing; one process at a time
	Socket      string       // unix socket to answer on, mode 0600; at most 104 bytes long
	Library     string       // path of libchdb; empty: see FindLibrary
	Log         *slog.Logger // required
	MaxThreads  int          // threads of one query; 0: 2, because the scheduler shares the cores
	MemoryBytes uint64       // limit of all queries and merges together; 0: 2 GiB
	Backups     string       // folder in and out of which writers may BACKUP and RESTORE, absolute; empty: none
	Readable    []Readable   // what analysts may read; nothing else
}

// SupervisorOptions say which engine process to keep alive.
type SupervisorOptions struct {
	Executable  string   // the program; empty: this one
	Args        []string // before the flags; nil: "engine"
	Env         []string // in addition to the minimum the engine needs
	Dir         string   // see Options
	Socket      string
	Library     string
	MaxThreads  int
	MemoryBytes uint64
	Backups     string
	Log         *slog.Logger  // required
	StartTime   time.Duration // how long a start may take; 0: 60 s (a large history is opened in seconds)
	StopTime    time.Duration // how long a graceful stop may take; 0: 10 s
	LookEvery   time.Duration // how often the engine is asked whether ClickHouse answers, and how long an answer may take; 0: 5 s
	// HangTime is how long no answer may come from an engine that uses no processor until it is ended and started again;
	// one that uses it has five times as long, because it may be busy. 0: 60 s.
	HangTime time.Duration
}
