package metrics

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Figures are how a server is. A part that is nil is not known at present: it is left out of the answer.
type Figures struct {
	Scheduler      *Scheduler
	Queue          *Queue
	Breakers       map[core.BreakerState]int // how many breakers are in each state, over all servers
	Interventions  *int                      // open ones
	Invariants     *Invariants
	Reconciliation *Reconciliation
	Spool          *Spool
	Store          *Store
	LeaseHeld      *bool // this server may act: its lease holds by its own clock
	History        *bool // history answers
	Executing      *int  // attempts in progress on this server
	Traces         *Traces
	Kept           *Kept
	Rollups        *Rollups
	DataDisk       *DataDisk
}

// Rollups are how far what the views v_* are made of is.
type Rollups struct {
	Complete bool          // false: they are being made for the first time
	Behind   time.Duration // how long ago everything that history has was in them; if Complete
	LastPass time.Duration // how long the last pass that left nothing took; if Complete
}

// DataDisk is the disk of the data folder: spool and store lie on it, and the embedded engine's history.
type DataDisk struct {
	FreeBytes, TotalBytes uint64
}

// Traces are what has become of spans since the server started; absent where runs are not traced.
type Traces struct {
	Sent    uint64 // the collector has taken them
	Dropped uint64 // it was slow or away
}

// Kept is how history lies on disk.
type Kept struct {
	Tables      map[string]KeptTable
	FreeBytes   uint64 // of the disk it lies on
	MemoryBytes uint64 // that ClickHouse takes
	Merges      int    // running
	OldestMerge time.Duration
	Mutations   int // that fail
	ReadOnly    int // replicated tables that take no rows
	DownSeconds float64
}

// KeptTable is how large one table of history is.
type KeptTable struct {
	Rows, Bytes, Parts, MostParts, Broken uint64
}

// Scheduler is what the timer loop of this server has done since it started.
type Scheduler struct {
	Decided    int64 // fires decided
	Window     int64 // upcoming fires held in memory
	ClockSteps int64 // steps of the wall clock noticed
}

// Queue is what has not ended, over all servers.
type Queue struct {
	Runs    map[core.RunState]int // live runs by state
	Waiting map[core.Gate]int     // waiting and retrying runs by the gate they wait at
	Limits  map[string]Limit      // by key: "pool:erp"; the busiest MaxLimits are shown, the others together as "other"
}

// MaxLimits bounds how many limits are shown by name.
const MaxLimits = 100

// Limit is how a limit stands.
type Limit struct {
	Slots   int // in use at most
	Used    int // in use
	Waiting int // runs that wait for it
}

// Invariants are what the last check of them found.
type Invariants struct {
	CheckedAt time.Time
	Broken    map[string]int // rows that break it, by the invariant's name; 0 for one that holds
}

// Reconciliation is what the last daily check of should-run against did-run found, over all tasks.
type Reconciliation struct {
	Day     time.Time // the day that was checked
	Missing int       // nominal instants without a decision
	Doubled int       // nominal instants decided more than once
	Odd     int       // rows that are unexpected or miscounted
}

// Spool is what is not in history yet.
type Spool struct {
	Bytes             int64 // taken
	LimitBytes        int64
	UnshippedSegments int
	UnshippedBytes    int64
	ShipLag           time.Duration // age of the oldest record not in history
	OldestUnshippedAt time.Time     // when that record was said; zero: there is none
	Quarantined       int64         // segments set aside because history refuses them or they are damaged
	WriteFails        bool          // its disk takes nothing
	ShipFails         bool          // history did not take what it was last given
	LinesDropped      uint64        // because it was full, since the server started
	SamplesDropped    uint64
	LinesShipped      uint64 // that history has taken, since the server started
	Full              bool   // writers find no room
}

// Store is what the store has done since this server started.
type Store struct {
	Commits  int64 // transactions
	Requests int64 // calls they carried
	Retries  int64 // transactions tried anew
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("gnomon_"+name, help, labels, nil)
}

var (
	firesDecided = desc("scheduler_fires_decided_total", "Fires this server has decided: started or skipped.")
	firesWindow  = desc("scheduler_window_fires", "Upcoming fires that this server holds in memory.")
	clockSteps   = desc("scheduler_clock_steps_total", "Steps of the wall clock that this server has noticed.")

	runsLive     = desc("runs_live", "Runs that have not ended, by state, over all servers.", "state")
	runsWaiting  = desc("runs_waiting", "Runs that wait to be admitted, by the gate they wait at, over all servers.", "gate")
	limitWaiting = desc("limit_waiting_runs", "Runs that wait for a limit: a pool, a namespace or a task type.", "limit")
	limitUsed    = desc("limit_used_slots", "Slots of a limit that are in use.", "limit")
	limitSlots   = desc("limit_slots", "Slots that a limit has.", "limit")
	executing    = desc("attempts_executing", "Attempts in progress on this server.")

	breakers      = desc("breakers", "Circuit breakers by state, over all servers.", "state")
	interventions = desc("interventions_open", "Runs whose attempts are used up and which wait for a person.")

	broken  = desc("invariant_broken_rows", "Rows that broke an invariant of the store when it was last checked.", "invariant")
	checked = desc("invariants_checked_timestamp_seconds", "When the invariants were last checked.")

	missing       = desc("reconciliation_missing_fires", "Nominal instants of the last day checked that were never decided.")
	doubled       = desc("reconciliation_doubled_fires", "Nominal instants of the last day checked that were decided more than once.")
	odd           = desc("reconciliation_odd_fires", "Rows of the last day checked at instants no schedule has, or that name a wrong number of them.")
	reconciledDay = desc("reconciliation_day_timestamp_seconds", "Midnight, UTC, of the last day checked.")

	spoolBytes     = desc("spool_bytes", "Size of the spool on disk.")
	spoolLimit     = desc("spool_limit_bytes", "Size the spool may have.")
	spoolSegments  = desc("spool_unshipped_segments", "Segments of the spool that are not in history.")
	spoolUnshipped = desc("spool_unshipped_bytes", "Size of the segments that are not in history.")
	spoolLag       = desc("spool_ship_lag_seconds", "Age of the oldest record that is not in history.")
	spoolOldest    = desc("spool_oldest_unshipped_timestamp_seconds", "When the oldest record that is not in history was said; absent if there is none.")
	spoolAside     = desc("spool_quarantined_segments", "Segments of the spool that were set aside: damaged, or refused by history.")
	spoolNoWrite   = desc("spool_write_failing", "1 while the spool's disk takes nothing.")
	spoolNoShip    = desc("spool_ship_failing", "1 while history does not take what the spool gives it.")
	spoolShipped   = desc("spool_shipped_lines_total", "Log lines that history has taken.")
	spoolFull      = desc("spool_full", "1 while writers find no room in the spool.")
	spoolLines     = desc("spool_dropped_lines_total", "Log lines not kept because the spool was full.")
	spoolSamples   = desc("spool_dropped_samples_total", "Samples not kept because the spool was full.")

	leaseHeld = desc("lease_held", "1 while this server may act: its lease holds.")
	history   = desc("history_reachable", "1 while history answers.")

	spansSent        = desc("trace_spans_sent_total", "Spans that the collector has taken.")
	spansDropped     = desc("trace_spans_dropped_total", "Spans that the collector was too slow for, or did not take.")
	historyDown      = desc("history_down_seconds", "For how long history has not answered.")
	historyBytes     = desc("history_table_bytes", "Size of a table of history on disk, compressed.", "table")
	historyRows      = desc("history_table_rows", "Rows of a table of history, repeats not merged away yet included.", "table")
	historyParts     = desc("history_table_parts", "Active parts of a table of history.", "table")
	historyMost      = desc("history_partition_parts", "Active parts of the partition that has the most, by table of history; from 1,000 on ClickHouse slows writers.", "table")
	historyBroken    = desc("history_broken_parts", "Parts of a table of history that ClickHouse has set aside because it cannot read them.", "table")
	historyFree      = desc("history_disk_free_bytes", "Free room of the disk that history lies on.")
	historyMemory    = desc("history_memory_bytes", "Memory that ClickHouse takes: resident, of the embedded engine; as it counts itself, of a server.")
	historyMerges    = desc("history_merges", "Merges that run.")
	historyLongest   = desc("history_oldest_merge_seconds", "For how long the oldest merge that runs has been running.")
	historyMutations = desc("history_failing_mutations", "Mutations of history that fail.")
	historyReadOnly  = desc("history_read_only_tables", "Replicated tables of history that take no rows.")

	rollupsComplete = desc("rollups_complete", "0 while the roll-ups are being made for the first time, so that the views v_* are not complete.")
	rollupsBehind   = desc("rollups_behind_seconds", "How long ago everything that history has was in the roll-ups of which the views v_* are made.")
	rollupsPass     = desc("rollups_last_pass_seconds", "How long the last pass over the roll-ups that left nothing took.")

	dataFree  = desc("data_disk_free_bytes", "Free room of the disk that the data folder lies on.")
	dataTotal = desc("data_disk_total_bytes", "Size of the disk that the data folder lies on.")

	storeCommits  = desc("store_commits_total", "Transactions that this server has committed.")
	storeRequests = desc("store_requests_total", "Calls that those transactions carried.")
	storeRetries  = desc("store_retries_total", "Transactions that were tried anew.")
)

// snapshot is the figures of one scrape.
type snapshot struct{ figures Figures }

// Describe gives nothing: which metrics there are depends on what is known.
func (snapshot) Describe(chan<- *prometheus.Desc) {}

// Collect sends what is known.
func (s snapshot) Collect(out chan<- prometheus.Metric) {
	f := &s.figures
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value)
	}
	if v := f.Scheduler; v != nil {
		counter(firesDecided, float64(v.Decided))
		gauge(firesWindow, float64(v.Window))
		counter(clockSteps, float64(v.ClockSteps))
	}
	if v := f.Queue; v != nil {
		for _, state := range []core.RunState{core.RunClaimed, core.RunQueued, core.RunWaiting, core.RunRunning, core.RunRetrying} {
			gauge(runsLive, float64(v.Runs[state]), string(state))
		}
		for _, gate := range []core.Gate{core.GateOverlap, core.GatePrecondition, core.GateBreaker, core.GateCapacity} {
			gauge(runsWaiting, float64(v.Waiting[gate]), string(gate))
		}
		for _, one := range busiest(v.Limits) {
			gauge(limitWaiting, float64(one.Waiting), one.key)
			gauge(limitUsed, float64(one.Used), one.key)
			gauge(limitSlots, float64(one.Slots), one.key)
		}
	}
	if f.Breakers != nil {
		for _, state := range []core.BreakerState{core.BreakerClosed, core.BreakerOpen, core.BreakerHalfOpen} {
			gauge(breakers, float64(f.Breakers[state]), string(state))
		}
	}
	if v := f.Invariants; v != nil {
		gauge(checked, seconds(v.CheckedAt))
		for name, rows := range v.Broken {
			gauge(broken, float64(rows), valid(name))
		}
	}
	if v := f.Reconciliation; v != nil {
		gauge(missing, float64(v.Missing))
		gauge(doubled, float64(v.Doubled))
		gauge(odd, float64(v.Odd))
		gauge(reconciledDay, seconds(v.Day))
	}
	if v := f.Spool; v != nil {
		gauge(spoolBytes, float64(v.Bytes))
		gauge(spoolLimit, float64(v.LimitBytes))
		gauge(spoolSegments, float64(v.UnshippedSegments))
		gauge(spoolUnshipped, float64(v.UnshippedBytes))
		gauge(spoolLag, v.ShipLag.Seconds())
		if !v.OldestUnshippedAt.IsZero() {
			gauge(spoolOldest, seconds(v.OldestUnshippedAt))
		}
		gauge(spoolAside, float64(v.Quarantined))
		gauge(spoolNoWrite, one(v.WriteFails))
		gauge(spoolNoShip, one(v.ShipFails))
		gauge(spoolFull, one(v.Full))
		counter(spoolShipped, float64(v.LinesShipped))
		counter(spoolLines, float64(v.LinesDropped))
		counter(spoolSamples, float64(v.SamplesDropped))
	}
	if v := f.Kept; v != nil {
		gauge(historyDown, v.DownSeconds)
		gauge(historyFree, float64(v.FreeBytes))
		gauge(historyMemory, float64(v.MemoryBytes))
		gauge(historyMerges, float64(v.Merges))
		gauge(historyLongest, v.OldestMerge.Seconds())
		gauge(historyMutations, float64(v.Mutations))
		gauge(historyReadOnly, float64(v.ReadOnly))
		for name, t := range v.Tables {
			gauge(historyBytes, float64(t.Bytes), name)
			gauge(historyRows, float64(t.Rows), name)
			gauge(historyParts, float64(t.Parts), name)
			gauge(historyMost, float64(t.MostParts), name)
			gauge(historyBroken, float64(t.Broken), name)
		}
	}
	if v := f.Rollups; v != nil {
		gauge(rollupsComplete, one(v.Complete))
		if v.Complete {
			gauge(rollupsBehind, v.Behind.Seconds())
			gauge(rollupsPass, v.LastPass.Seconds())
		}
	}
	if v := f.DataDisk; v != nil {
		gauge(dataFree, float64(v.FreeBytes))
		gauge(dataTotal, float64(v.TotalBytes))
	}
	if v := f.Store; v != nil {
		counter(storeCommits, float64(v.Commits))
		counter(storeRequests, float64(v.Requests))
		counter(storeRetries, float64(v.Retries))
	}
	if v := f.Traces; v != nil {
		counter(spansSent, float64(v.Sent))
		counter(spansDropped, float64(v.Dropped))
	}
	if f.Interventions != nil {
		gauge(interventions, float64(*f.Interventions))
	}
	if f.Executing != nil {
		gauge(executing, float64(*f.Executing))
	}
	if f.LeaseHeld != nil {
		gauge(leaseHeld, one(*f.LeaseHeld))
	}
	if f.History != nil {
		gauge(history, one(*f.History))
	}
}

type namedLimit struct {
	key string
	Limit
}

// busiest gives the limits that most wait for, MaxLimits of them, and the others as one.
func busiest(limits map[string]Limit) []namedLimit {
	all := make([]namedLimit, 0, len(limits))
	for key, l := range limits {
		all = append(all, namedLimit{valid(key), l})
	}
	slices.SortFunc(all, func(a, b namedLimit) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.Used, a.Used), cmp.Compare(a.key, b.key))
	})
	if len(all) <= MaxLimits {
		return all
	}
	others := namedLimit{key: "other"}
	for _, l := range all[MaxLimits:] {
		others.Slots += l.Slots
		others.Used += l.Used
		others.Waiting += l.Waiting
	}
	return append(all[:MaxLimits:MaxLimits], others)
}

// valid makes a text one that Prometheus takes as a label's value.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }

func one(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
