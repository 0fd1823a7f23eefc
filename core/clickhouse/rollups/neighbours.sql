-- Makes a day's neighbours anew: the twenty tasks that took most of a machine in each five minutes, and which tasks took at least
-- half as long again as usual meanwhile, if that is by 50 ms or more. Usual is the median of the days' medians of runs, of this
-- day and the seven before, and needs five runs. An attempt's CPU and storage are spread evenly over its time. PREWHERE may
-- come before FINAL because a row that was sent twice has the values of the first.
INSERT INTO neighbours
(
    day, period, host, namespace, task_type, task, plugin, attempts, cpu_s, cpu_share, rss_avg_bytes, rss_peak_bytes, rss_share, rss_source, io_bytes, io_share,
    host_cpu_share, slow_names, slow_times, computed_at
)
SELECT
    toDate(period) AS day, period, host, one.2 AS namespace, one.3 AS task_type, one.4 AS task, one.5 AS plugin, one.6 AS attempts, one.7 AS cpu_s, one.8 AS cpu_share, one.9 AS rss_avg_bytes,
    one.10 AS rss_peak_bytes, one.11 AS rss_share, one.12 AS rss_source, one.13 AS io_bytes, one.14 AS io_share, host_cpu_share, slow.2 AS slow_names, arrayMap(x -> -x, slow.1) AS slow_times, now64(6, 'UTC') AS computed_at
FROM
(
    SELECT
        period, host, any(busy) AS host_cpu_share,
        groupArraySorted(20)((-greatest(cpu_share, rss_share, io_share), namespace, task_type, task, plugin, attempts, cpu_s, cpu_share, rss_avg_bytes, rss_peak_bytes, rss_share, rss_source, io_bytes, io_share)) AS noisy,
        groupArraySortedIf(11)((-took / greatest(usual_s, 1e-3), concat(namespace, '/', task)), known >= 5 AND took >= usual_s + 0.05 AND took >= 1.5 * usual_s) AS slow
    FROM
    (
        SELECT
            t.period AS period, t.host AS host, t.namespace AS namespace, t.task_type AS task_type, t.task AS task, t.plugin AS plugin, t.attempts AS attempts, t.cpu_s AS cpu_s,
            t.cpu_s / greatest(1, h.cores * 300) AS cpu_share, t.rss_avg_bytes AS rss_avg_bytes, t.rss_peak_bytes AS rss_peak_bytes, if(h.mem_total = 0, 0, t.rss_avg_bytes / h.mem_total) AS rss_share,
            t.rss_source AS rss_source, t.io_bytes AS io_bytes, if(h.disk = 0, 0, least(1, t.io_bytes / h.disk)) AS io_share, h.busy AS busy, t.took AS took, u.usual_s AS usual_s, u.known AS known
        FROM
        (
            SELECT
                s.period AS period, m.host AS host, s.namespace AS namespace, s.task_type AS task_type, s.task AS task, any(s.plugin) AS plugin, count() AS attempts, avg(s.took) AS took,
                sumIf(s.cpu_us * s.part / s.took, s.cpu_source != 'unknown') / 1e6 AS cpu_s,
                sumIf(s.peak_rss_bytes * s.part, s.rss_source != 'unknown') / 300 AS rss_avg_bytes,
                maxIf(s.peak_rss_bytes, s.rss_source != 'unknown') AS rss_peak_bytes,
                multiIf(countIf(s.rss_source = 'shared') > 0, 'shared', countIf(s.rss_source = 'measured') > 0, 'measured', 'unknown') AS rss_source,
                sumIf(s.io_bytes * s.part / s.took, s.io_source != 'unknown') AS io_bytes
            FROM
            (
                SELECT
                    p AS period, server, namespace, task_type, task, plugin, cpu_source, rss_source, io_source, cpu_us, peak_rss_bytes, read_bytes + write_bytes AS io_bytes,
                    greatest(1e-6, dateDiff('microsecond', started_at, ended_at) / 1e6) AS took,
                    greatest(1e-6, dateDiff('microsecond', greatest(started_at, toDateTime64(p, 6, 'UTC')), least(ended_at, toDateTime64(p + INTERVAL 5 MINUTE, 6, 'UTC'))) / 1e6) AS part
                FROM attempts FINAL
                ARRAY JOIN arrayFilter(x -> has({days:Array(Date)}, toDate(x)), arrayMap(n -> toStartOfFiveMinutes(ended_at) - toIntervalMinute(5 * n), range(toUInt32(greatest(0, intDiv(toUnixTimestamp(toStartOfFiveMinutes(ended_at)) - toUnixTimestamp(toStartOfFiveMinutes(started_at)), 300))) + 1))) AS p
                PREWHERE ended_at >= {from:DateTime64(6, 'UTC')} AND started_at < {to:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} + INTERVAL 1 DAY
            ) AS s
            INNER JOIN (SELECT server, any(host) AS host FROM servers FINAL GROUP BY server) AS m ON m.server = s.server
            GROUP BY period, host, namespace, task_type, task
        ) AS t
        LEFT JOIN
        (
            SELECT
                toStartOfFiveMinutes(at) AS period, host, max(cores) AS cores, max(mem_total_bytes) AS mem_total,
                (max(cpu_us) - min(cpu_us)) / greatest(1, (max(cpu_us) - min(cpu_us)) + (max(cpu_idle_us) - min(cpu_idle_us))) AS busy,
                (max(disk_read_bytes) - min(disk_read_bytes)) + (max(disk_write_bytes) - min(disk_write_bytes)) AS disk
            FROM host_samples
            WHERE at >= {from:DateTime64(6, 'UTC')} AND at < {to:DateTime64(6, 'UTC')} AND toDate(at) IN {days:Array(Date)}
            GROUP BY period, host
        ) AS h ON h.period = t.period AND h.host = t.host
        LEFT JOIN
        (
            SELECT namespace, task, quantileExactWeighted(0.5)(assumeNotNull(duration_p50_us), runs) / 1e6 AS usual_s, sum(runs) AS known
            FROM runs_day FINAL
            WHERE day >= toDate({from:DateTime64(6, 'UTC')}) - 7 AND day < toDate({to:DateTime64(6, 'UTC')}) AND isNotNull(duration_p50_us)
            GROUP BY namespace, task
        ) AS u ON u.namespace = t.namespace AND u.task = t.task
    )
    GROUP BY period, host
)
ARRAY JOIN noisy AS one
SETTINGS do_not_merge_across_partitions_select_final = 1, use_skip_indexes_if_final = 1
