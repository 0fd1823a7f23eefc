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

	Defaults   Policies       // what tasks of the namespace that say nothing else follow
	MaxRunning int            // runs of the namespace at once; 0: no limit
	TypeLimits map[string]int // runs of one task type at once, by the type's name

	Retention Retention // how long its history is kept
}

// Retention is how long history is kept, in whole days after the nominal instant, or after it happened if that is later, as in
// a backfill (of samples of plugins: after they were taken). 0: the default; KeepForever: for ever.
type Retention struct {
	RunsDays    int // fires, runs and attempts, and what has messages of theirs
	LinesDays   int // log lines
	SamplesDays int // samples of runs, plugins and Lua workers
	FineDays    int // of those days, for how many samples stay as they were measured; later one row stands for five minutes
}

// KeepForever is a number of days.
const KeepForever = -1

// DefaultRetention holds for namespaces that say nothing else, and for what belongs to none.
var DefaultRetention = Retention{RunsDays: KeepForever, LinesDays: 90, SamplesDays: 30, FineDays: 14}

// HostSamplesDays is how long samples of hosts are kept, which belong to no namespace.
const HostSamplesDays = 400

// OrDefault fills in what is not said. By default nothing is kept longer than the runs it belongs to.
func (r Retention) OrDefault() Retention {
	for _, f := range []struct {
		days *int
		rest int
	}{{&r.RunsDays, DefaultRetention.RunsDays}, {&r.LinesDays, DefaultRetention.LinesDays}, {&r.SamplesDays, DefaultRetention.SamplesDays}} {
		if *f.days == 0 {
			if *f.days = f.rest; r.RunsDays > 0 {
				*f.days = min(f.rest, r.RunsDays)
			}
		}
	}
	if r.FineDays == 0 {
		r.FineDays = DefaultRetention.FineDays
	}
	return r
}

// LeastFineDays is for how many days samples stay fine at least: roll-ups are made of them meanwhile.
const LeastFineDays = 8

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
	Resumable    bool            // an attempt whose server died may be executed again: it goes on where it was, and does nothing twice
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

	From     time.Time     `json:"from,omitzero" yaml:"from,omitempty"`              // nothing fires before it; zero: no such limit
	Until    time.Time     `json:"until,omitzero" yaml:"until,omitempty"`            // nothing fires at it or after; zero: no such limit
	Jitter   time.Duration `json:"jitter_ns,omitempty" yaml:"jitter,omitempty"`      // a start comes up to this much after its instant, by a hash of task and instant
	OnlyOn   []string      `json:"only_on,omitempty" yaml:"only_on,omitempty"`       // calendars that must all contain the instant
	NotOn    []string      `json:"not_on,omitempty" yaml:"not_on,omitempty"`         // calendars that must not contain it
	OnDayOff string        `json:"on_day_off,omitempty" yaml:"on_day_off,omitempty"` // what the calendars refuse: skip (default), next or previous day they allow
}

// HasCalendars says whether calendars have a say in when it fires.
func (s Schedule) HasCalendars() bool { return len(s.OnlyOn) > 0 || len(s.NotOn) > 0 }

// Pause says that a task's fires are skipped for a while. The zero Pause holds at no time.
type Pause struct {
	Since time.Time `json:"since"`          // when it was paused, UTC
	Until time.Time `json:"until,omitzero"` // when it goes on by itself, UTC; zero: when somebody resumes it
	Note  string    `json:"note,omitempty"` // why, for those who wonder
	By    string    `json:"by"`             // the principal
}

// Holds says whether the pause covers an instant.
func (p Pause) Holds(at time.Time) bool {
	return !p.Since.IsZero() && !at.Before(p.Since) && (p.Until.IsZero() || at.Before(p.Until))
}

// Facts gives what a decision that rests on the pause keeps of it.
func (p Pause) Facts() map[string]any {
	facts := map[string]any{"by": p.By, "since": p.Since.UTC().Format(time.RFC3339Nano)}
	if p.Note != "" {
		facts["note"] = p.Note
	}
	if !p.Until.IsZero() {
		facts["until"] = p.Until.UTC().Format(time.RFC3339Nano)
	}
	return facts
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
	StopOnError *bool // short for Policies.StopAfter, where that says nothing: true for 1, false for 0; nil: not said
	Owner       string
	Category    string
	Description string
	Labels      map[string]string
	Policies    Policies
	After       []Upstream // other tasks of the namespace whose ends start this one
	Steps       []string   // names of the tasks that it starts as a workflow; set as it is saved, kept as references only and not read back
	Mentions    []Mention  // what its preconditions name; as Steps
	Pause       Pause

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
	Live        int       // runs that have not ended
	Fired       int64     // runs that its schedule has started, or is about to, since it was created
	Failures    int       // runs in a row, up to the last, that ended otherwise than succeeded; cancelled ones do not count
}
