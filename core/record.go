package core

import (
	"strings"
	"time"
)

// Level is the severity of a log line. The zero value is below LevelDebug.
type Level uint8

// The levels.
const (
	LevelDebug Level = 1
	LevelInfo  Level = 2
	LevelWarn  Level = 3
	LevelError Level = 4
)

var levelNames = [...]string{"", "debug", "info", "warn", "error"}

// String gives debug, info, warn or error; "" for any other value.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return ""
}

// ParseLevel gives the level of a name as String writes it; ok is false for an unknown name.
func ParseLevel(name string) (level Level, ok bool) {
	for i, n := range levelNames {
		if i > 0 && n == name {
			return Level(i), true
		}
	}
	return 0, false
}

// Stream is where a log line came from.
type Stream uint8

// The streams.
const (
	StreamLog    Stream = 1 // said through the SDK's logger
	StreamStdout Stream = 2 // written by a child process of the task
	StreamStderr Stream = 3
	StreamSystem Stream = 4 // said by Gnomon about the attempt: started, crashed, killed, gap
)

var streamNames = [...]string{"", "log", "stdout", "stderr", "system"}

// String gives log, stdout, stderr or system; "" for any other value.
func (s Stream) String() string {
	if int(s) < len(streamNames) {
		return streamNames[s]
	}
	return ""
}

// Origin is whose attempt a log line or a sample belongs to.
type Origin struct {
	RunID     string
	Attempt   int
	TaskID    string
	Namespace string
	TaskName  string
	TaskType  string
	FireAt    time.Time // the run's nominal instant: history is partitioned by its day
}

// Attr is one structured attribute of a log line.
type Attr struct{ Key, Value string }

// LogLine is one line an attempt said. (RunID, Attempt, Seq) is its identity for ever.
type LogLine struct {
	At      time.Time // by the clock of the process that said it, UTC
	Level   Level
	Stream  Stream
	Seq     uint64 // from 1 without holes, per attempt, over all its streams; the recorder assigns it
	Message string // UTF-8; longer than the recorder's limit is cut and says so in the attribute gnomon.cut_bytes
	Attrs   []Attr
}

// ProcSample is one reading of a process tree.
type ProcSample struct {
	At         time.Time     // when the reading was taken, UTC
	CPU        time.Duration // user plus system time since the tree's root process began
	RSSBytes   uint64        // resident memory of the tree now
	ReadBytes  uint64        // fetched from storage since the root began
	WriteBytes uint64
	Threads    int
	FDs        int // open descriptors; -1 if unreadable
	Processes  int
}

// RunSample is what one attempt was using.
type RunSample struct {
	Origin
	At         time.Time
	CPU        time.Duration // since the attempt began
	CPUSource  Source
	RSSBytes   uint64
	RSSSource  Source
	ReadBytes  uint64
	WriteBytes uint64
	IOSource   Source
	Final      bool // the reading taken as the attempt ended
}

// TreeKind says what a process tree is to Gnomon.
type TreeKind string

// The kinds. Each process of Gnomon on a machine belongs to exactly one tree, so that their sum counts nothing twice.
const (
	TreeServer    TreeKind = "server" // the server's own process, without its children
	TreeEngine    TreeKind = "engine" // the embedded ClickHouse
	TreePlugin    TreeKind = "plugin"
	TreeLuaWorker TreeKind = "lua_worker"
)

// PluginSample is what a process tree was using: that of a plugin, a Lua worker, the server or the engine.
type PluginSample struct {
	ProcSample
	Plugin    string // "common", "lua-worker", "server" or "engine"
	Version   string
	Namespace string // of a Lua worker; "" for what serves several
	PID       int
	Running   int   // attempts in progress
	Tree      *Tree // nil: a reading of a version that did not take it
}

// Tree is what a reading of a process tree says beside what it uses now. What was spent is counted from the tree's
// previous reading that was recorded, or from its beginning, so that the sum over all readings is what the tree used.
type Tree struct {
	Kind       TreeKind
	Server     string        // id of the server it belongs to
	Host       string        // name of the machine
	StartTicks uint64        // of its root: with the PID it names the tree for ever; clock ticks since boot
	CPUFrom    string        // where CPU was read: "cgroup" (all that ever ran in it), "proc" (living and waited for), "rusage"
	Final      bool          // read as the tree ended
	Span       time.Duration // time since the previous reading, or since the tree began
	Busy       bool          // an attempt was in progress at some time of the span
	Attempts   uint64        // begun since the tree began

	SpentCPU        time.Duration
	SpentReadBytes  uint64
	SpentWriteBytes uint64
	SpentRSS        uint64 // byte-seconds: resident memory times span

	// The same since the tree began; of CPU and RSS also what was spent in busy spans.
	TotalRSS uint64 // byte-seconds
	BusyCPU  time.Duration
	BusyRSS  uint64 // byte-seconds
}

// HostSample is what the whole machine was using.
type HostSample struct {
	At             time.Time
	Host           string
	CPU            time.Duration // busy time of all cores since boot
	CPUIdle        time.Duration // idle and iowait time of all cores since boot
	Cores          int
	Load1          float64
	MemTotalBytes  uint64
	MemUsedBytes   uint64 // total minus available
	SwapUsedBytes  uint64
	DiskReadBytes  uint64 // all whole disks, since boot
	DiskWriteBytes uint64
	NetRecvBytes   uint64 // all interfaces but loopback, since boot
	NetSentBytes   uint64
	DataTotalBytes uint64 // the file system that holds the data folder
	DataFreeBytes  uint64
	Detail         *HostDetail // nil: a reading of a version that did not take it
}

// HostDetail is what a reading of the machine says beside.
type HostDetail struct {
	Load5, Load15   float64
	IOWait          time.Duration // of CPUIdle: waiting for storage, all cores since boot
	Steal           time.Duration // of CPU: taken by the hypervisor, all cores since boot
	SwapTotalBytes  uint64
	OpenFiles       uint64 // open file handles of the machine
	OpenFilesMax    uint64 // most there may be
	Threads         int    // of all processes
	Runnable        int    // threads that run or could
	Blocked         int    // processes that wait for storage
	ContextSwitches uint64 // since boot
	Forks           uint64 // processes and threads begun since boot
	Pressure        *Pressure
	FileSystems     []FileSystem // on block devices, and that of the data folder; by mount point
}

// Pressure is how long work has stood still for want of something, since boot; see proc_pressure(5). Some: at least one
// thread; full: all of them.
type Pressure struct {
	CPUSome                time.Duration
	MemorySome, MemoryFull time.Duration
	IOSome, IOFull         time.Duration
}

// FileSystem is the room of one file system.
type FileSystem struct {
	Mount                 string
	TotalBytes, FreeBytes uint64 // free: what an ordinary user may still take
}

// ServerRecord is the life of one server process, for history: what names it in other rows, and where it ran.
type ServerRecord struct {
	ID         string
	Host       string
	Version    string
	PID        int
	StartedAt  time.Time
	EndedAt    time.Time // zero: it runs, or was killed
	Cores      int
	CPULimit   float64 // cores its control group may use; 0: no limit
	MemBytes   uint64  // of the machine
	MemLimit   uint64  // of its control group, bytes; 0: no limit
	RecordedAt time.Time
}

// Place is which process carried an attempt.
type Place struct {
	Server  string // id of the server; "": not known
	Plugin  string // "common", or "lua-worker"; "": none, the server itself did
	Version string
	PID     int
}

// AttemptRecord is one finished attempt, for history.
type AttemptRecord struct {
	Origin
	Token     int64
	StartedAt time.Time // handed to the executor
	Began     time.Time // the handler began; zero: it never did
	EndedAt   time.Time
	Verdict   Verdict
	Message   string
	RetryAt   time.Time // when the next attempt was planned; zero: none
	Usage     Usage
	Place     Place
}

// LoggedLine is a log line with whose it is. Many lines share one Origin; nobody changes it.
type LoggedLine struct {
	Origin *Origin
	LogLine
}

// Segment is one sealed part of the recorder's spool. The same ID always carries the same records in the same order,
// so that writing a segment to history twice leaves it there once.
type Segment struct {
	ID            string // unique for ever: spool incarnation and segment number
	Logs          []LoggedLine
	RunSamples    []RunSample
	PluginSamples []PluginSample
	HostSamples   []HostSample
	Attempts      []AttemptRecord
	Servers       []ServerRecord
}

// LineFilter selects log lines of one run, in the order (Attempt, Seq).
type LineFilter struct {
	RunID        string
	Attempt      int   // 0: all attempts
	MinLevel     Level // 0: all
	AfterAttempt int   // cursor: only lines after (AfterAttempt, AfterSeq)
	AfterSeq     uint64
	Text         string // only lines whose message contains it, in whatever case; empty: all
	Limit        int    // 1 to 10000
}

// Wants says whether the filter lets a line through by its level and message.
func (f LineFilter) Wants(l LogLine) bool {
	return l.Level >= f.MinLevel && (f.Text == "" || strings.Contains(strings.ToLower(l.Message), strings.ToLower(f.Text)))
}

// LineSearch selects lines of one task by what they say.
type LineSearch struct {
	Namespace string // the task's; required, like the next two
	TaskName  string // the name it has now; lines under earlier names of its versions are found too
	TaskID    string
	From, To  time.Time // nominal instants of the runs: From <= FireAt < To; required
	Text      string    // in the message, in whatever case; empty: every line
	// WholeWords: letters and digits of Text must be whole words in the message, which is found ten times as fast.
	WholeWords bool
	MinLevel   Level // 0: all
	Before     *LinePlace
	Limit      int // 1 to 10000
}

// LinePlace is a line's place among all lines of a task.
type LinePlace struct {
	FireAt  time.Time
	RunID   string
	Attempt int
	Seq     uint64
}

// Usual is how long the successful runs of a task took lately.
type Usual struct {
	Count uint64        // how many there were
	P50   time.Duration // half of them took no longer
	P95   time.Duration // 95 in 100 took no longer
	Max   time.Duration // the longest
}

// FireFilter selects the rows of fires, ranges of skipped ones included, that overlap a time; zero fields select all.
type FireFilter struct {
	Namespaces []string // nil: all
	TaskID     string
	From, To   time.Time // FireThrough >= From, FireAt <= To
	Reasons    []Reason  // nil: all, started ones too
	AfterAt    time.Time // cursor, with AfterID: only rows after (FireAt, ID)
	AfterID    string
	Limit      int // 1 to 10,000
}

// Reconciliation holds the fires that a task should have had on one day against those that were decided.
type Reconciliation struct {
	Day       time.Time // its midnight, UTC
	Namespace string
	TaskName  string
	TaskID    string
	Expected  int // nominal instants by the schedule, computed anew
	Decided   int // of them covered by rows of fires
	Started   int // of the decided ones started
	Skipped   int // of the decided ones skipped, with a reason
	Missing   int // expected and not decided

	Doubled    int // nominal instants decided more than once
	Unexpected int // rows at an instant that the schedule does not have
	Miscounted int // rows over several instants that name another number than there are
	Unjudged   int // of calendars that have changed since, so that nothing can be said of them
	// MissingList are the first of the missing instants, at most MaxMissingListed, UTC.
	MissingList []time.Time
	CheckedAt   time.Time // when it was checked, UTC
	Server      string    // id of the server that checked
}

// MaxMissingListed bounds Reconciliation.MissingList.
const MaxMissingListed = 100

// ReconciliationFilter selects reconciliations, newest day first; zero fields select all.
type ReconciliationFilter struct {
	Namespaces []string // nil: all
	TaskID     string
	From, To   time.Time // of Day: From <= Day < To
	Wrong      bool      // only those with missing, doubled, unexpected or miscounted fires
	Limit      int       // 1 to 10,000
}

// BreakerChange is a breaker as an attempt's end has left it, and whose attempt that was.
type BreakerChange struct {
	Breaker          // UpdatedAt is when it changed
	Namespace string // of the run
	TaskName  string // likewise
	RunID     string
}

// TaskSnapshot is one version of a task as history keeps it.
type TaskSnapshot struct {
	Task     Task
	Policies string // JSON: what the task itself says, in the words of the REST API
	Deleted  bool   // the task was deleted in this version
}

// TypeSnapshot is what a task type has been since a time.
type TypeSnapshot struct {
	Type      TaskType
	ValidFrom time.Time // when a server offered it so
	SHA256    string    // of the plugin's executable, hexadecimal; empty: unknown, or no plugin
	Server    string
}

// KnownTask is how much of a task history has.
type KnownTask struct {
	TaskID  string
	Version int64 // the latest
	Deleted bool
}
