-- Puts together what process trees were using, a period at a time. What a reading tells apart stays apart, busy spans from
-- others and a tree's end from its life: sums of what was spent, by any of it, are what they were.
INSERT INTO $INTO$
(
    plugin, version, namespace, pid, at, cpu_us, rss_bytes, read_bytes, write_bytes, threads, fds, processes, running, kind, server, host, cpu_from, final, busy, start_ticks,
    span_us, attempts, spent_cpu_us, spent_read_bytes, spent_write_bytes, spent_rss_byte_s, total_rss_byte_s, busy_cpu_us, busy_rss_byte_s, thinned_s, readings
)
SELECT
    s.plugin, s.version, s.namespace, s.pid, s.at, s.cpu_us, s.rss_bytes, s.read_bytes, s.write_bytes, s.threads, s.fds, s.processes, s.running, s.kind, s.server, s.host, s.cpu_from, s.final, s.busy, s.start_ticks,
    s.span_us, s.attempts, s.spent_cpu_us, s.spent_read_bytes, s.spent_write_bytes, s.spent_rss_byte_s, s.total_rss_byte_s, s.busy_cpu_us, s.busy_rss_byte_s, s.thinned_s, s.readings
FROM plugin_samples AS s FINAL
WHERE s.at >= {from:DateTime64(6, 'UTC')} AND s.at < {to:DateTime64(6, 'UTC')} AND NOT has({over:Array(String)}, s.namespace)
UNION ALL
SELECT
    s.plugin, s.version, s.namespace, s.pid, max(s.at), argMax(s.cpu_us, s.at), max(s.rss_bytes), argMax(s.read_bytes, s.at), argMax(s.write_bytes, s.at),
    max(s.threads), max(s.fds), max(s.processes), max(s.running), s.kind, s.server, s.host, s.cpu_from, s.final, s.busy, s.start_ticks,
    sum(s.span_us), argMax(s.attempts, s.at), sum(s.spent_cpu_us), sum(s.spent_read_bytes), sum(s.spent_write_bytes), sum(s.spent_rss_byte_s),
    argMax(s.total_rss_byte_s, s.at), argMax(s.busy_cpu_us, s.at), argMax(s.busy_rss_byte_s, s.at), {period:UInt32}, sum(s.readings)
FROM plugin_samples AS s FINAL
WHERE s.at >= {from:DateTime64(6, 'UTC')} AND s.at < {to:DateTime64(6, 'UTC')} AND has({over:Array(String)}, s.namespace)
GROUP BY s.plugin, s.namespace, s.version, s.pid, toStartOfInterval(s.at, toIntervalSecond({period:UInt32})), s.kind, s.server, s.host, s.cpu_from, s.final, s.busy, s.start_ticks
