package clickhouse

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	chcolumn "github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"github.com/gnomon-scheduler/gnomon/core"
)

// originOf are the columns that say whose a record is.
func originOf[T any](of func(*T) *core.Origin) []column[T] {
	return []column[T]{
		nameOf("namespace", func(r *T) string { return of(r).Namespace }),
		nameOf("task", func(r *T) string { return of(r).TaskName }),
		nameOf("task_type", func(r *T) string { return of(r).TaskType }),
		nameOf("task_id", func(r *T) string { return of(r).TaskID }),
		nameOf("run_id", func(r *T) string { return of(r).RunID }),
		u16Of("attempt", func(r *T) int { return of(r).Attempt }),
		timeOf("fire_at", func(r *T) time.Time { return of(r).FireAt }),
	}
}

func usageOf[T any](of func(*T) *core.Usage) []column[T] {
	return []column[T]{
		microsOf("cpu_us", func(r *T) time.Duration { return of(r).CPU }),
		nameOf("cpu_source", func(r *T) string { return source(of(r).CPUSource) }),
		u64Of("peak_rss_bytes", func(r *T) uint64 { return of(r).PeakRSSBytes }),
		nameOf("rss_source", func(r *T) string { return source(of(r).RSSSource) }),
		u64Of("read_bytes", func(r *T) uint64 { return of(r).ReadBytes }),
		u64Of("write_bytes", func(r *T) uint64 { return of(r).WriteBytes }),
		nameOf("io_source", func(r *T) string { return source(of(r).IOSource) }),
	}
}

// source writes a figure whose origin was not said as unknown.
func source(s core.Source) string {
	if s == "" {
		return string(core.SourceUnknown)
	}
	return string(s)
}

var lineColumns = append(originOf(func(l *core.LoggedLine) *core.Origin { return l.Origin }),
	u64Of("seq", func(l *core.LoggedLine) uint64 { return l.Seq }),
	timeOf("at", func(l *core.LoggedLine) time.Time { return l.At }),
	enumOf("level", func(l *core.LoggedLine) uint8 { return uint8(l.Level) }, uint8(core.LevelError)),
	enumOf("stream", func(l *core.LoggedLine) uint8 { return uint8(l.Stream) }, uint8(core.StreamSystem)),
	textOf("message", func(l *core.LoggedLine) string { return l.Message }),
)

// Lines are written with or without their attributes: most segments have none, and a Map column costs as much as all
// others together.
var (
	plainLines = newTable("run_logs", lineColumns...)
	richLines  = newTable("run_logs", append(slices.Clone(lineColumns), attrsColumn)...)
)

var attrsColumn = attrsOf("attrs", func(l *core.LoggedLine) []core.Attr { return l.Attrs })

// attrsOf is a Map of texts, which come as attributes.
func attrsOf[T any](name string, value func(*T) []core.Attr) column[T] {
	return column[T]{name: name, kind: "Map(String, String)", values: func(rows []T, s *scratch) any {
		s.spare = slices.Grow(s.spare[:0], len(rows))[:len(rows)]
		at := -1
		return fill(&s.maps, rows, func(r *T) *attrMap {
			at++
			s.spare[at].attrs = value(r)
			return &s.spare[at]
		})
	}}
}

var _ chcolumn.IterableOrderedMap = (*attrMap)(nil)

var runSamples = newTable("run_samples", append(originOf(func(r *core.RunSample) *core.Origin { return &r.Origin }),
	timeOf("at", func(r *core.RunSample) time.Time { return r.At }),
	microsOf("cpu_us", func(r *core.RunSample) time.Duration { return r.CPU }),
	nameOf("cpu_source", func(r *core.RunSample) string { return source(r.CPUSource) }),
	u64Of("rss_bytes", func(r *core.RunSample) uint64 { return r.RSSBytes }),
	nameOf("rss_source", func(r *core.RunSample) string { return source(r.RSSSource) }),
	u64Of("read_bytes", func(r *core.RunSample) uint64 { return r.ReadBytes }),
	u64Of("write_bytes", func(r *core.RunSample) uint64 { return r.WriteBytes }),
	nameOf("io_source", func(r *core.RunSample) string { return source(r.IOSource) }),
	boolOf("final", func(r *core.RunSample) bool { return r.Final }),
)...)

var pluginSamples = newTable("plugin_samples",
	nameOf("plugin", func(r *core.PluginSample) string { return r.Plugin }),
	nameOf("version", func(r *core.PluginSample) string { return r.Version }),
	nameOf("namespace", func(r *core.PluginSample) string { return r.Namespace }),
	u32Of("pid", func(r *core.PluginSample) int { return r.PID }),
	timeOf("at", func(r *core.PluginSample) time.Time { return r.At }),
	microsOf("cpu_us", func(r *core.PluginSample) time.Duration { return r.CPU }),
	u64Of("rss_bytes", func(r *core.PluginSample) uint64 { return r.RSSBytes }),
	u64Of("read_bytes", func(r *core.PluginSample) uint64 { return r.ReadBytes }),
	u64Of("write_bytes", func(r *core.PluginSample) uint64 { return r.WriteBytes }),
	u32Of("threads", func(r *core.PluginSample) int { return r.Threads }),
	i32Of("fds", func(r *core.PluginSample) int { return r.FDs }),
	u32Of("processes", func(r *core.PluginSample) int { return r.Processes }),
	u32Of("running", func(r *core.PluginSample) int { return r.Running }),
)

var hostSamples = newTable("host_samples",
	nameOf("host", func(r *core.HostSample) string { return r.Host }),
	timeOf("at", func(r *core.HostSample) time.Time { return r.At }),
	microsOf("cpu_us", func(r *core.HostSample) time.Duration { return r.CPU }),
	microsOf("cpu_idle_us", func(r *core.HostSample) time.Duration { return r.CPUIdle }),
	u16Of("cores", func(r *core.HostSample) int { return r.Cores }),
	f64Of("load1", func(r *core.HostSample) float64 { return r.Load1 }),
	u64Of("mem_total_bytes", func(r *core.HostSample) uint64 { return r.MemTotalBytes }),
	u64Of("mem_used_bytes", func(r *core.HostSample) uint64 { return r.MemUsedBytes }),
	u64Of("swap_used_bytes", func(r *core.HostSample) uint64 { return r.SwapUsedBytes }),
	u64Of("disk_read_bytes", func(r *core.HostSample) uint64 { return r.DiskReadBytes }),
	u64Of("disk_write_bytes", func(r *core.HostSample) uint64 { return r.DiskWriteBytes }),
	u64Of("net_recv_bytes", func(r *core.HostSample) uint64 { return r.NetRecvBytes }),
	u64Of("net_sent_bytes", func(r *core.HostSample) uint64 { return r.NetSentBytes }),
	u64Of("data_total_bytes", func(r *core.HostSample) uint64 { return r.DataTotalBytes }),
	u64Of("data_free_bytes", func(r *core.HostSample) uint64 { return r.DataFreeBytes }),
)

var attempts = newTable("attempts", slices.Concat(originOf(func(r *core.AttemptRecord) *core.Origin { return &r.Origin }), []column[core.AttemptRecord]{
	i64Of("token", func(r *core.AttemptRecord) int64 { return r.Token }),
	timeOf("started_at", func(r *core.AttemptRecord) time.Time { return r.StartedAt }),
	maybeTimeOf("began_at", func(r *core.AttemptRecord) *time.Time { return &r.Began }),
	timeOf("ended_at", func(r *core.AttemptRecord) time.Time { return r.EndedAt }),
	maybeTimeOf("retry_at", func(r *core.AttemptRecord) *time.Time { return &r.RetryAt }),
	nameOf("outcome", func(r *core.AttemptRecord) string { return string(r.Verdict) }),
	textOf("message", func(r *core.AttemptRecord) string { return r.Message }),
}, usageOf(func(r *core.AttemptRecord) *core.Usage { return &r.Usage }))...)

// fireColumns are those that a run has as a fire and as a run.
var fireColumns = []column[core.Run]{
	nameOf("namespace", func(r *core.Run) string { return r.Namespace }),
	nameOf("task", func(r *core.Run) string { return r.TaskName }),
	nameOf("task_type", func(r *core.Run) string { return r.TaskType }),
	nameOf("task_id", func(r *core.Run) string { return r.TaskID }),
	i64Of("task_version", func(r *core.Run) int64 { return r.TaskVersion }),
	textOf("run_id", func(r *core.Run) string { return r.ID }),
	timeOf("fire_at", func(r *core.Run) time.Time { return r.FireAt }),
	nameOf("trigger", func(r *core.Run) string { return string(r.Trigger) }),
	timeOf("decided_at", func(r *core.Run) time.Time { return r.DecidedAt }),
	nameOf("server", func(r *core.Run) string { return r.Owner }),
	nameOf("created_by", func(r *core.Run) string { return r.CreatedBy }),
}

var onlyFire = slices.Concat(fireColumns, []column[core.Run]{
	timeOf("fire_through", func(r *core.Run) time.Time {
		if r.FireThrough.IsZero() {
			return r.FireAt
		}
		return r.FireThrough
	}),
	u32Of("fire_count", func(r *core.Run) int { return max(1, r.FireCount) }),
	nameOf("decision", func(r *core.Run) string {
		if r.Verdict == core.Skipped {
			return "skipped"
		}
		return "started"
	}),
	nameOf("reason", func(r *core.Run) string { return string(r.Reason) }),
	textOf("facts", func(r *core.Run) string { return string(r.Facts) }),
})

var onlyRun = slices.Concat(fireColumns, []column[core.Run]{
	nameOf("outcome", func(r *core.Run) string { return string(r.Verdict) }),
	textOf("message", func(r *core.Run) string { return r.Message }),
	maybeTimeOf("started_at", func(r *core.Run) *time.Time { return &r.StartedAt }),
	timeOf("ended_at", func(r *core.Run) time.Time { return r.EndedAt }),
	u16Of("attempts", func(r *core.Run) int { return r.Attempt }),
	i64Of("token", func(r *core.Run) int64 { return r.Token }),
	textOf("params", func(r *core.Run) string { return string(r.Params) }),
	textOf("output", func(r *core.Run) string { return string(r.Output) }),
}, usageOf(func(r *core.Run) *core.Usage { return &r.Usage }))

// policyColumns are those that only policies, calendars, chains and gates fill.
var policyColumns = []column[core.Run]{
	textOf("series", func(r *core.Run) string { return r.Series }),
	maybeTimeOf("moved_from", func(r *core.Run) *time.Time { return &r.MovedFrom }),
	textOf("workflow_id", func(r *core.Run) string { return r.WorkflowID }),
	nameOf("step", func(r *core.Run) string { return r.Step }),
	textOf("caused_by", func(r *core.Run) string { return r.CausedBy }),
	i16Of("priority", func(r *core.Run) int { return r.Priority }),
	nameOf("gate", func(r *core.Run) string { return string(r.Gate) }),
	nameOf("gate_key", func(r *core.Run) string { return r.GateKey }),
	maybeTimeOf("wait_since", func(r *core.Run) *time.Time { return &r.WaitSince }),
	nameOf("stop", func(r *core.Run) string { return string(r.Stop) }),
	nameOf("stop_by", func(r *core.Run) string { return r.StopBy }),
	textOf("breaches_json", func(r *core.Run) string {
		if len(r.Breaches) == 0 {
			return ""
		}
		text, _ := json.Marshal(r.Breaches) // texts and a time of this age: it cannot fail
		return string(text)
	}),
}

// hasPolicies says whether any of policyColumns has something to say about a run.
func hasPolicies(r core.Run) bool {
	return r.Series != "" || !r.MovedFrom.IsZero() || r.WorkflowID != "" || r.Step != "" || r.CausedBy != "" || r.Priority != 0 ||
		r.Gate != "" || !r.WaitSince.IsZero() || r.Stop != "" || r.StopBy != "" || len(r.Breaches) > 0
}

// Fires and runs are written with or without what policies have to say: most batches have nothing of it, and the server
// fills a column that is left out at less cost than one that is sent.
var (
	plainFires = newTable("fires", onlyFire...)
	richFires  = newTable("fires", slices.Concat(onlyFire, policyColumns)...)
	plainRuns  = newTable("runs", onlyRun...)
	richRuns   = newTable("runs", slices.Concat(onlyRun, policyColumns)...)
)

var reconciliations = newTable("reconciliations",
	timeOf("day", func(r *core.Reconciliation) time.Time { return r.Day.UTC().Truncate(24 * time.Hour) }),
	nameOf("namespace", func(r *core.Reconciliation) string { return r.Namespace }),
	nameOf("task", func(r *core.Reconciliation) string { return r.TaskName }),
	nameOf("task_id", func(r *core.Reconciliation) string { return r.TaskID }),
	u32Of("expected", func(r *core.Reconciliation) int { return r.Expected }),
	u32Of("decided", func(r *core.Reconciliation) int { return r.Decided }),
	u32Of("started", func(r *core.Reconciliation) int { return r.Started }),
	u32Of("skipped", func(r *core.Reconciliation) int { return r.Skipped }),
	u32Of("missing", func(r *core.Reconciliation) int { return r.Missing }),
	u32Of("doubled", func(r *core.Reconciliation) int { return r.Doubled }),
	u32Of("unexpected", func(r *core.Reconciliation) int { return r.Unexpected }),
	u32Of("miscounted", func(r *core.Reconciliation) int { return r.Miscounted }),
	u32Of("unjudged", func(r *core.Reconciliation) int { return r.Unjudged }),
	timesOf("missing_list", func(r *core.Reconciliation) []time.Time {
		return r.MissingList[:min(len(r.MissingList), core.MaxMissingListed)]
	}),
	timeOf("checked_at", func(r *core.Reconciliation) time.Time { return r.CheckedAt }),
	nameOf("server", func(r *core.Reconciliation) string { return r.Server }),
)

var breakerChanges = newTable("breaker_changes",
	nameOf("name", func(b *core.BreakerChange) string { return b.Name }),
	timeOf("at", func(b *core.BreakerChange) time.Time { return b.UpdatedAt }),
	nameOf("state", func(b *core.BreakerChange) string {
		if b.State == "" {
			return string(core.BreakerClosed)
		}
		return string(b.State)
	}),
	u32Of("failures", func(b *core.BreakerChange) int { return b.Failures }),
	maybeTimeOf("opened_at", func(b *core.BreakerChange) *time.Time { return &b.OpenedAt }),
	maybeTimeOf("probe_at", func(b *core.BreakerChange) *time.Time { return &b.ProbeAt }),
	textOf("because", func(b *core.BreakerChange) string { return b.Because }),
	nameOf("namespace", func(b *core.BreakerChange) string { return b.Namespace }),
	nameOf("task", func(b *core.BreakerChange) string { return b.TaskName }),
	textOf("run_id", func(b *core.BreakerChange) string { return b.RunID }),
)

// WriteSegment writes all records of a segment and returns once the server has them. Writing a segment again, after
// an error or a crash, leaves each record readable once.
func (c *Client) WriteSegment(ctx context.Context, segment core.Segment) error {
	lines := plainLines
	for i := range segment.Logs {
		if len(segment.Logs[i].Attrs) > 0 {
			lines = richLines
			break
		}
	}
	if err := lines.write(ctx, c, segment.ID, segment.Logs); err != nil {
		return err
	}
	if err := attempts.write(ctx, c, segment.ID, segment.Attempts); err != nil {
		return err
	}
	if err := runSamples.write(ctx, c, segment.ID, segment.RunSamples); err != nil {
		return err
	}
	if err := pluginSamples.write(ctx, c, segment.ID, segment.PluginSamples); err != nil {
		return err
	}
	return hostSamples.write(ctx, c, segment.ID, segment.HostSamples)
}

// WriteRuns writes ended runs and skipped fires. The same batchID always carries the same runs in the same order.
// Writing a batch again leaves each run readable once, and so does writing a run again in another batch.
func (c *Client) WriteRuns(ctx context.Context, batchID string, ended []core.Run) error {
	fires, runs := plainFires, plainRuns
	if slices.ContainsFunc(ended, hasPolicies) {
		fires, runs = richFires, richRuns
	}
	if err := fires.write(ctx, c, batchID, ended); err != nil {
		return err
	}
	started := ended
	if slices.ContainsFunc(ended, isSkipped) {
		started = slices.DeleteFunc(slices.Clone(ended), isSkipped)
	}
	return runs.write(ctx, c, batchID, started)
}

// WriteReconciliations writes what was found about a day. A day that is written again, under another batchID, replaces
// what stood there. The same batchID always carries the same rows in the same order.
func (c *Client) WriteReconciliations(ctx context.Context, batchID string, found []core.Reconciliation) error {
	return reconciliations.write(ctx, c, batchID, found)
}

// WriteBreakerChanges writes changes of breakers; each is readable once however often it is written. The same batchID
// always carries the same changes in the same order.
func (c *Client) WriteBreakerChanges(ctx context.Context, batchID string, changes []core.BreakerChange) error {
	return breakerChanges.write(ctx, c, batchID, changes)
}

func isSkipped(r core.Run) bool { return r.Verdict == core.Skipped }
