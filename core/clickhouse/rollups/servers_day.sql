-- Makes what servers did on some days of some namespaces anew: what runs say, each row once.
INSERT INTO servers_day
(
    namespace, task_type, day, server, runs, failures, cpu_us, cpu_shared_us, peak_rss_bytes, read_bytes, write_bytes, rows_seen, computed_at
)
SELECT
    namespace, task_type, toDate(fire_at) AS day, server, count() AS runs, countIf(outcome NOT IN ('succeeded', 'cancelled')) AS failures,
    sumIf(r.cpu_us, cpu_source != 'unknown') AS cpu_us, sumIf(r.cpu_us, cpu_source = 'shared') AS cpu_shared_us,
    maxIf(r.peak_rss_bytes, rss_source != 'unknown') AS peak_rss_bytes,
    sumIf(r.read_bytes, io_source != 'unknown') AS read_bytes, sumIf(r.write_bytes, io_source != 'unknown') AS write_bytes,
    count() AS rows_seen, now64(6, 'UTC') AS computed_at
FROM runs AS r FINAL
PREWHERE namespace IN {namespaces:Array(String)} AND fire_at >= {from:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} AND toDate(fire_at) IN {days:Array(Date)}
GROUP BY namespace, task_type, day, server
SETTINGS do_not_merge_across_partitions_select_final = 1, use_skip_indexes_if_final = 1
