-- Puts together what attempts were using, a period at a time. What a reading tells apart stays apart: sums and peaks by any of
-- it are what they were. Counters count from the attempt's beginning, so that the last of a period says them all.
INSERT INTO $INTO$
(
    namespace, task, task_type, task_id, run_id, attempt, fire_at, at, cpu_us, cpu_source, rss_bytes, rss_source, read_bytes, write_bytes, io_source, final,
    thinned_s, readings, rss_mean_bytes
)
SELECT
    s.namespace, s.task, s.task_type, s.task_id, s.run_id, s.attempt, s.fire_at, s.at, s.cpu_us, s.cpu_source, s.rss_bytes, s.rss_source, s.read_bytes, s.write_bytes, s.io_source, s.final,
    s.thinned_s, s.readings, s.rss_mean_bytes
FROM run_samples AS s FINAL
WHERE s.fire_at >= {from:DateTime64(6, 'UTC')} AND s.fire_at < {to:DateTime64(6, 'UTC')} AND NOT has({over:Array(String)}, s.namespace)
UNION ALL
SELECT
    s.namespace, s.task, s.task_type, s.task_id, s.run_id, s.attempt, s.fire_at, max(s.at), argMax(s.cpu_us, s.at), s.cpu_source, max(s.rss_bytes), s.rss_source,
    argMax(s.read_bytes, s.at), argMax(s.write_bytes, s.at), s.io_source, s.final,
    {period:UInt32}, sum(s.readings), sum(ifNull(s.rss_mean_bytes, toFloat64(s.rss_bytes)) * s.readings) / sum(s.readings)
FROM run_samples AS s FINAL
WHERE s.fire_at >= {from:DateTime64(6, 'UTC')} AND s.fire_at < {to:DateTime64(6, 'UTC')} AND has({over:Array(String)}, s.namespace)
GROUP BY s.namespace, s.task, s.fire_at, s.run_id, s.attempt, toStartOfInterval(s.at, toIntervalSecond({period:UInt32})), s.task_type, s.task_id, s.cpu_source, s.rss_source, s.io_source, s.final
