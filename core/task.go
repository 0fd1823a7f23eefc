package core

import (
	"encoding/json"
	"time"
)

// Namespace is one business system.
type Namespace struct {
	Name        string    // starts with an upper-case letter, then letters and digits: "ImageArchive"
	Title       Text      // shown to people; may be empty
	Description string    // free text
	CreatedAt   time.Time // UTC
}

// TaskType is something that can be run. Its provider describes it; nobody edits it.
type TaskType struct {
	Name         string          // Namespace.Type: "Common.KeepAlive"
	Provider     string          // who offers it: "plugin:common" or "lua:scripts/Telemedicine/ECGTimeoutFallbackTask.lua"
	Version      string          // the provider's version: semantic version of a plugin, short content hash of a script
	Title        Text            // shown to people
	Description  Text            // what it does, in a sentence or two
	ParamsSchema json.RawMessage // JSON Schema 2020-12 of the parameters; never empty
	OutputSchema json.RawMessage // JSON Schema 2020-12 of the output; may be empty: anything
	Needs        []string        // what must be granted for it to run: "sql:business", "http"
	Timeout      time.Duration   // default hard timeout; 0: the server's default
	Problem      string          // why the type cannot be run at present (script does not compile, plugin refused); empty: it can
}

// Namespace gives the part of the type's name before the first dot.
func (t TaskType) Namespace() string { return NamespaceOf(t.Name) }

// NamespaceOf gives the namespace part of a task type's name, or "" if the name has no dot.
func NamespaceOf(taskType string) string {
	for i := range len(taskType) {
		if taskType[i] == '.' {
			return taskType[:i]
		}
	}
	return ""
}

// Schedule says when a task fires, as text; package schedule gives it meaning.
type Schedule struct {
	// Spec is a cron expression, a descriptor (@hourly), "@every 90s" (fixed rate), "@after 10m" (fixed delay after
	// the last run's end), "@at 2026-12-01T08:00:00+08:00" (once), "@list T1 T2 …" (irregular instants) or "@manual".
	Spec      string    `json:"spec" yaml:"spec"`
	Dialect   string    `json:"dialect,omitempty" yaml:"dialect,omitempty"`       // unix (default) or quartz; cron only
	Zone      string    `json:"zone,omitempty" yaml:"zone,omitempty"`             // IANA name; default UTC
	OnGap     string    `json:"on_gap,omitempty" yaml:"on_gap,omitempty"`         // run_after (default) or skip
	OnOverlap string    `json:"on_overlap,omitempty" yaml:"on_overlap,omitempty"` // first (default), second or both
	Anchor    time.Time `json:"anchor,omitzero" yaml:"anchor,omitempty"`          // where @every counts from; set when the schedule is saved
}

// Overlap says what happens to a fire while an earlier run of the same task is still live.
type Overlap string

// The overlap policies.
const (
	OverlapSkip  Overlap = "skip"  // default: the fire is skipped with the reason overlap
	OverlapAllow Overlap = "allow" // both run side by side
)

// CatchUp says what happens to fires that were missed while no server ran.
type CatchUp string

// The catch-up policies.
const (
	CatchUpLatest CatchUp = "latest" // default: the latest missed fire starts, the others are skipped
	CatchUpNone   CatchUp = "none"   // all are skipped
)

// Policies say how a task's runs are carried out.
type Policies struct {
	Timeout     time.Duration // hard limit of one attempt; 0: the type's default, else the server's
	Overlap     Overlap       // "" is OverlapSkip
	CatchUp     CatchUp       // "" is CatchUpLatest
	MaxAttempts int           // how often a run is tried in all; 0 and 1: no retry
	RetryDelay  time.Duration // wait before the second attempt; doubled for each later one, at most one hour
	RetryOn     []Verdict     // which verdicts are retried; empty: failed, timed_out, crashed and lost
	LogLevel    Level         // lines below this level are not kept; zero: all
}

// Task is a record: a task type plus parameters plus a schedule plus policies.
type Task struct {
	ID          string // UUIDv7
	Namespace   string
	Name        string // unique in its namespace; letters, digits, ".", "_" and "-", at most 128
	Type        string // task type
	Params      json.RawMessage
	Schedule    Schedule
	Enabled     bool
	StopOnError bool // a run that ends in anything but succeeded or cancelled disables the task
	Owner       string
	Category    string
	Description string
	Labels      map[string]string
	Policies    Policies

	Version        int64     // rises with every change; an edit names the version it saw
	DisabledReason string    // why Enabled is false, if Gnomon did it: "stop_on_error: run … failed"
	CreatedAt      time.Time // UTC
	UpdatedAt      time.Time // UTC
	UpdatedBy      string    // the principal, or "gnomon"
	Problem        string    // why the stored definition cannot be read; empty: it can. Set by the store, never stored

	State TaskState
}

// TaskState is what happened last and what comes next. Zero times mean: not yet, or never.
type TaskState struct {
	LastStart   time.Time // when the last attempt began, UTC
	LastEnd     time.Time // when the last run ended, UTC
	LastSuccess time.Time // when the last successful run ended, UTC
	LastOutcome Verdict   // of the last run that ended
	NextFire    time.Time // the next nominal instant, UTC; zero: none
	Live        int       // runs claimed, queued or running now
}
