-- Makes the costs of some days anew: what attempts and process trees used in each hour, apportioned hour by hour, then added
-- up by day and task and by hour and task type. PREWHERE may come before FINAL because a row that was sent twice has the
-- values of the first; an attempt never starts before its instant, but for another server's clock. All in one pass: attempts
-- and trees are rows of one set, with windows per process and hour.
INSERT INTO costs
(
    span, namespace, task_type, task, day, hour, kind, server, plugin, plugin_version, attempts, run_us, measured_us, shared_us, apportioned_us,
    beyond_us, cpu_source, rss_byte_s, read_bytes, write_bytes, rows_seen, computed_at
)
SELECT
    span, namespace, task_type, if(span = 'day', c.task, '') AS task, day, if(span = 'day', toDateTime(day, 'UTC'), c.hour) AS hour, kind, server, plugin, plugin_version,
    sum(ended) AS attempts, toUInt64(round(sum(run_s) * 1e6)) AS run_us, toUInt64(round(sum(measured_s * fit) * 1e6)) AS measured_us, toUInt64(round(sum(shared_s * fit) * 1e6)) AS shared_us,
    toUInt64(round(sum(shared_s * beyond) * 1e6)) AS apportioned_us, toUInt64(round(sum(if(kind = 'run', 0, greatest(0, cpu_s - part * runs_s))) * 1e6)) AS beyond_us,
    multiIf(kind != 'run', 'process', sum(shared_s) > 0, 'shared', sum(measured) > 0, 'measured', 'unknown') AS cpu_source,
    toUInt64(round(sum(if(kind = 'run', rss * rss_fit, greatest(0, rss - part * rss_fit * runs_rss))))) AS rss_byte_s,
    toUInt64(round(sum(if(kind = 'run', read * read_fit, greatest(0, read - part * read_fit * runs_read))))) AS read_bytes,
    toUInt64(round(sum(if(kind = 'run', written * write_fit, greatest(0, written - part * write_fit * runs_written))))) AS write_bytes,
    max(day_rows) AS rows_seen, now64(6, 'UTC') AS computed_at
FROM
(
    SELECT
        *,
        if(tree_cpu > 0, least(1, tree_cpu / greatest(own_s, 1e-9)), 1) AS fit,
        if(own_s > 0, greatest(0, tree_busy - own_s) / own_s, 0) AS beyond,
        least(tree_cpu, own_s) + own_shared_s * beyond AS runs_s,
        if(tree_busy_rss > 0, least(1, tree_busy_rss / greatest(runs_rss, 1e-9)), 1) AS rss_fit,
        if(tree_read > 0, least(1, tree_read / greatest(runs_read, 1e-9)), 0) AS read_fit,
        if(tree_written > 0, least(1, tree_written / greatest(runs_written, 1e-9)), 0) AS write_fit,
        if(kind != 'run' AND tree_cpu > 0, cpu_s / tree_cpu, 0) AS part
    FROM
    (
        SELECT
            *, toDate(hour) AS day, sum(pieces) OVER (PARTITION BY toDate(hour)) AS day_rows,
            sum(cpu_s) OVER g AS tree_cpu, sum(busy_s) OVER g AS tree_busy, sum(busy_rss) OVER g AS tree_busy_rss,
            sum(measured_s + shared_s) OVER g AS own_s, sum(shared_s) OVER g AS own_shared_s,
            sumIf(rss, kind = 'run') OVER g AS runs_rss,
            sumIf(read, kind = 'run') OVER g AS runs_read, sumIf(read, kind != 'run') OVER g AS tree_read,
            sumIf(written, kind = 'run') OVER g AS runs_written, sumIf(written, kind != 'run') OVER g AS tree_written
        FROM
        (
            SELECT
                hour, server, plugin, plugin_version, if(plugin = 'lua-worker', namespace, '') AS worker, 'run' AS kind, namespace, task_type, task,
                sum(here) AS ended, sum(took) AS run_s, count() AS pieces,
                sumIf(cpu_us * share, cpu_source = 'measured') / 1e6 AS measured_s, sumIf(cpu_us * share, cpu_source = 'shared') / 1e6 AS shared_s, countIf(cpu_source = 'measured') AS measured,
                sumIf(peak_rss_bytes * took, rss_source != 'unknown') AS rss, sumIf(read_bytes * share, io_source != 'unknown') AS read, sumIf(write_bytes * share, io_source != 'unknown') AS written,
                0. AS cpu_s, 0. AS busy_s, 0. AS busy_rss
            FROM
            (
                SELECT
                    h AS hour, server, plugin, plugin_version, namespace, task_type, task, h = toStartOfHour(ended_at) AS here, cpu_us, cpu_source, peak_rss_bytes, rss_source, read_bytes, write_bytes, io_source,
                    greatest(0, dateDiff('microsecond', greatest(started_at, toDateTime64(h, 6, 'UTC')), least(ended_at, toDateTime64(h + INTERVAL 1 HOUR, 6, 'UTC')))) / 1e6 AS took,
                    if(toStartOfHour(started_at) >= toStartOfHour(ended_at), 1., took / (dateDiff('microsecond', started_at, ended_at) / 1e6)) AS share
                FROM attempts FINAL
                ARRAY JOIN arrayFilter(x -> has({days:Array(Date)}, toDate(x)), arrayMap(n -> toStartOfHour(ended_at) - toIntervalHour(n), range(toUInt32(greatest(0, dateDiff('hour', started_at, ended_at))) + 1))) AS h
                PREWHERE ended_at >= {from:DateTime64(6, 'UTC')} AND started_at < {to:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} + INTERVAL 1 DAY
            )
            GROUP BY hour, server, plugin, plugin_version, worker, namespace, task_type, task
            UNION ALL
            SELECT
                hour, server, plugin, version AS plugin_version, namespace AS worker, kind, namespace, '' AS task_type, '' AS task, 0 AS ended, 0. AS run_s, count() AS pieces, 0. AS measured_s,
                0. AS shared_s, 0 AS measured, sum(rss) AS rss, sum(r) AS read, sum(w) AS written, sum(cpu) AS cpu_s, sum(busy) AS busy_s, sum(held) AS busy_rss
            FROM
            (
                SELECT
                    hour, server, plugin, version, namespace, kind, pid, start_ticks, (max(cpu_us_to) - min(cpu_us_from)) / 1e6 AS cpu,
                    (max(busy_cpu_us_to) - min(busy_cpu_us_from)) / 1e6 AS busy, toFloat64(max(rss_byte_s_to) - min(rss_byte_s_from)) AS rss,
                    toFloat64(max(busy_rss_byte_s_to) - min(busy_rss_byte_s_from)) AS held, toFloat64(max(read_bytes_to) - min(read_bytes_from)) AS r,
                    toFloat64(max(write_bytes_to) - min(write_bytes_from)) AS w
                FROM process_hours
                WHERE hour >= toDateTime({from:DateTime64(6, 'UTC')}, 'UTC') AND hour < toDateTime({to:DateTime64(6, 'UTC')}, 'UTC') AND toDate(hour) IN {days:Array(Date)}
                GROUP BY hour, host, server, plugin, version, namespace, kind, pid, start_ticks
            )
            GROUP BY hour, server, plugin, plugin_version, worker, kind
        )
        WINDOW g AS (PARTITION BY hour, server, plugin, plugin_version, worker)
    )
) AS c
ARRAY JOIN ['day', 'hour'] AS span
GROUP BY span, namespace, task_type, task, day, hour, kind, server, plugin, plugin_version
SETTINGS do_not_merge_across_partitions_select_final = 1, use_skip_indexes_if_final = 1
