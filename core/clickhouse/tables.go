package clickhouse

import (
	"context"
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

var attrsColumn = column[core.LoggedLine]{name: "attrs", kind: "Map(String, String)", values: func(rows []core.LoggedLine, s *scratch) any {
	s.spare = slices.Grow(s.spare[:0], len(rows))[:len(rows)]
	return fill(&s.maps, rows, func() func(*core.LoggedLine) *attrMap {
		at := -1
		return func(l *core.LoggedLine) *attrMap {
			at++
			s.spare[at].attrs = l.Attrs
			return &s.spare[at]
		}
	}())
}}

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

var fires = newTable("fires", slices.Concat(fireColumns, []column[core.Run]{
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
})...)

var runs = newTable("runs", slices.Concat(fireColumns, []column[core.Run]{
	nameOf("outcome", func(r *core.Run) string { return string(r.Verdict) }),
	textOf("message", func(r *core.Run) string { return r.Message }),
	maybeTimeOf("started_at", func(r *core.Run) *time.Time { return &r.StartedAt }),
	timeOf("ended_at", func(r *core.Run) time.Time { return r.EndedAt }),
	u16Of("attempts", func(r *core.Run) int { return r.Attempt }),
	i64Of("token", func(r *core.Run) int64 { return r.Token }),
	textOf("params", func(r *core.Run) string { return string(r.Params) }),
	textOf("output", func(r *core.Run) string { return string(r.Output) }),
}, usageOf(func(r *core.Run) *core.Usage { return &r.Usage }))...)

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
	if err := fires.write(ctx, c, batchID, ended); err != nil {
		return err
	}
	started := ended
	if slices.ContainsFunc(ended, isSkipped) {
		started = slices.DeleteFunc(slices.Clone(ended), isSkipped)
	}
	return runs.write(ctx, c, batchID, started)
}

func isSkipped(r core.Run) bool { return r.Verdict == core.Skipped }
