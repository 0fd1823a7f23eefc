-- Makes what servers did on some days of some namespaces anew: what runs and earlier attempts say, each row once. A run's last
-- attempt is in its row, with the server that made it; an earlier one has a planned retry, and was made wherever it was. One with a
-- planned retry is the last all the same if the run was stopped meanwhile. PREWHERE may come before FINAL because a row that
-- was sent twice has the values of the first.
INSERT INTO servers_day
(
    namespace, task_type, day, server, runs, failures, attempts, cpu_us, cpu_shared_us, peak_rss_bytes, read_bytes, write_bytes, rows_seen, computed_at
)
SELECT
    namespace, task_type, toDate(fire_at) AS day, server, countIf(outcome != '') AS runs, countIf(outcome NOT IN ('', 'succeeded', 'cancelled')) AS failures,
    sum(tries) AS attempts,
    sumIf(t.cpu_us, cpu_source != 'unknown') AS cpu_us, sumIf(t.cpu_us, cpu_source = 'shared') AS cpu_shared_us,
    maxIf(t.peak_rss_bytes, rss_source != 'unknown') AS peak_rss_bytes,
    sumIf(t.read_bytes, io_source != 'unknown') AS read_bytes, sumIf(t.write_bytes, io_source != 'unknown') AS write_bytes,
    count() AS rows_seen, now64(6, 'UTC') AS computed_at
FROM
(
    SELECT namespace, task_type, fire_at, server, toString(outcome) AS outcome, toUInt64(attempts > 0) AS tries, cpu_us, cpu_source, peak_rss_bytes, rss_source,
        read_bytes, write_bytes, io_source
    FROM runs FINAL
    PREWHERE namespace IN {namespaces:Array(String)} AND fire_at >= {from:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} AND toDate(fire_at) IN {days:Array(Date)}
    UNION ALL
    SELECT namespace, task_type, fire_at, server, '', 1, cpu_us, cpu_source, peak_rss_bytes, rss_source, read_bytes, write_bytes, io_source
    FROM attempts FINAL
    PREWHERE namespace IN {namespaces:Array(String)} AND fire_at >= {from:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} AND toDate(fire_at) IN {days:Array(Date)}
        AND retry_at IS NOT NULL
    WHERE (run_id, attempt) NOT IN
    (
        SELECT run_id, attempts FROM runs FINAL
        PREWHERE namespace IN {namespaces:Array(String)} AND fire_at >= {from:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} AND toDate(fire_at) IN {days:Array(Date)}
            AND (outcome != 'succeeded' OR attempts > 1)
    )
) AS t
GROUP BY namespace, task_type, day, server
SETTINGS do_not_merge_across_partitions_select_final = 1, use_skip_indexes_if_final = 1
