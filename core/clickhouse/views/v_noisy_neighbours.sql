-- Who takes a machine's cores, memory and disks, five minutes by five minutes of the last seven days, and whose attempts were slow meanwhile.
-- 最近七天内每台机器每五分钟由谁占用 CPU、内存与磁盘，以及同一时段哪些任务变慢。
-- Read by: whoever may see all namespaces (others get no rows: a machine is everybody's), the host page.
-- From: attempts (what each measured), host_samples (what the machine has and did) and servers (which machine).
-- Fresh: seconds after an attempt has ended; one that runs on is not in it yet.
-- Example:
--   SELECT period, host, namespace, task, round(cpu_share, 3) AS cpu, round(rss_share, 3) AS memory, round(io_share, 3) AS io, slowed
--   FROM v_noisy_neighbours
--   WHERE period >= now() - INTERVAL 1 DAY
--   ORDER BY noise DESC LIMIT 20
CREATE OR REPLACE VIEW v_noisy_neighbours
(
    period         DateTime('UTC') COMMENT 'beginning of the five minutes, UTC',
    host           LowCardinality(String) COMMENT 'name of the machine; from servers',
    namespace      LowCardinality(String) COMMENT 'business system of the task',
    task_type      LowCardinality(String) COMMENT 'Namespace.Type',
    task           LowCardinality(String) COMMENT 'name of the task when it fired',
    plugin         LowCardinality(String) COMMENT 'plugin whose process carried it, or lua-worker',
    attempts       UInt64 COMMENT 'attempts that were in progress in the period; from attempts',
    cpu_s          Float64 COMMENT 'CPU time they used in the period, seconds; an attempt''s is spread evenly over its time',
    cpu_share      Float64 COMMENT 'of all CPU time the machine had in the period, 0 to 1',
    rss_avg_bytes  Float64 COMMENT 'memory they held on average over the period, bytes: highest memory of each times its time',
    rss_peak_bytes UInt64 COMMENT 'highest memory of one of them, bytes',
    rss_share      Float64 COMMENT 'rss_avg_bytes of the machine''s memory, 0 to 1',
    rss_source     LowCardinality(String) COMMENT 'measured: their process ran nothing else; shared: the memory was also others''; unknown',
    io_bytes       Float64 COMMENT 'read from and written to storage in the period, bytes',
    io_share       Float64 COMMENT 'of all the machine''s disks did in the period, 0 to 1; 0 if that is not known',
    noise          Float64 COMMENT 'the greatest of the three shares: the noisiest neighbour has the greatest noise',
    host_cpu_share Float64 COMMENT 'busy CPU time of the whole machine in the period, Gnomon or not, 0 to 1; from host_samples',
    slowed         Array(String) COMMENT 'other tasks of the machine that took at least half as long again as usual in the period, the slowest first, at most 10: namespace/task',
    worst_slowdown Float64 COMMENT 'how many times as long as usual the slowest of them took; 0: none was slow'
)
AS WITH
    300 AS seconds,
    spread AS
    (
        SELECT
            p AS period, server, namespace, task_type, task, plugin, cpu_source, rss_source, io_source, cpu_us, peak_rss_bytes, read_bytes + write_bytes AS io_bytes,
            greatest(1e-6, dateDiff('microsecond', started_at, ended_at) / 1e6) AS took,
            greatest(1e-6, dateDiff('microsecond', greatest(started_at, toDateTime64(p, 6, 'UTC')), least(ended_at, toDateTime64(p + toIntervalSecond(seconds), 6, 'UTC'))) / 1e6) AS part
        FROM attempts FINAL
        ARRAY JOIN arrayMap(n -> toStartOfFiveMinutes(started_at) + toIntervalSecond(n * seconds), range(toUInt32(greatest(0, intDiv(toUnixTimestamp(toStartOfFiveMinutes(ended_at)) - toUnixTimestamp(toStartOfFiveMinutes(started_at)), seconds))) + 1)) AS p
        WHERE ended_at >= now() - INTERVAL 7 DAY
    ),
    usual AS
    (
        SELECT namespace, task, quantile(0.5)(took) AS usual_s, count() AS known
        FROM (SELECT namespace, task, dateDiff('microsecond', started_at, ended_at) / 1e6 AS took FROM attempts FINAL WHERE ended_at >= now() - INTERVAL 7 DAY AND outcome = 'succeeded')
        GROUP BY namespace, task
    ),
    machine AS
    (
        SELECT
            toStartOfFiveMinutes(at) AS period, host, max(cores) AS cores, max(mem_total_bytes) AS mem_total,
            (max(cpu_us) - min(cpu_us)) / greatest(1, (max(cpu_us) - min(cpu_us)) + (max(cpu_idle_us) - min(cpu_idle_us))) AS busy,
            (max(disk_read_bytes) - min(disk_read_bytes)) + (max(disk_write_bytes) - min(disk_write_bytes)) AS disk
        FROM host_samples FINAL
        WHERE at >= now() - INTERVAL 7 DAY
        GROUP BY period, host
    ),
    place AS (SELECT server, any(host) AS host FROM servers FINAL GROUP BY server),
    slow AS
    (
        SELECT
            period, host,
            arraySlice(arrayReverseSort(x -> x.1, groupArrayIf((times, name), times >= 1.5 AND lost >= 0.05)), 1, 50) AS list
        FROM
        (
            SELECT s.period AS period, m.host AS host, concat(s.namespace, '/', s.task) AS name, avg(s.took) / greatest(any(u.usual_s), 1e-3) AS times, avg(s.took) - any(u.usual_s) AS lost
            FROM spread AS s
            INNER JOIN place AS m ON m.server = s.server
            INNER JOIN usual AS u ON u.namespace = s.namespace AND u.task = s.task
            WHERE u.known >= 5
            GROUP BY period, host, name
        )
        GROUP BY period, host
    ),
    taken AS
    (
        SELECT
            s.period AS period, m.host AS host, s.namespace AS namespace, s.task_type AS task_type, s.task AS task, any(s.plugin) AS plugin, count() AS attempts,
            sumIf(s.cpu_us * s.part / s.took, s.cpu_source != 'unknown') / 1e6 AS cpu_s,
            sumIf(s.peak_rss_bytes * s.part, s.rss_source != 'unknown') / any(seconds) AS rss_avg_bytes,
            maxIf(s.peak_rss_bytes, s.rss_source != 'unknown') AS rss_peak_bytes,
            multiIf(countIf(s.rss_source = 'shared') > 0, 'shared', countIf(s.rss_source = 'measured') > 0, 'measured', 'unknown') AS rss_source,
            sumIf(s.io_bytes * s.part / s.took, s.io_source != 'unknown') AS io_bytes
        FROM spread AS s
        INNER JOIN place AS m ON m.server = s.server
        GROUP BY period, host, namespace, task_type, task
    )
SELECT
    t.period AS period, t.host AS host, t.namespace AS namespace, t.task_type AS task_type, t.task AS task, t.plugin AS plugin, t.attempts AS attempts,
    t.cpu_s AS cpu_s, t.cpu_s / greatest(1, h.cores * seconds) AS cpu_share,
    t.rss_avg_bytes AS rss_avg_bytes, t.rss_peak_bytes AS rss_peak_bytes, if(h.mem_total = 0, 0, t.rss_avg_bytes / h.mem_total) AS rss_share, t.rss_source AS rss_source,
    t.io_bytes AS io_bytes, if(h.disk = 0, 0, least(1, t.io_bytes / h.disk)) AS io_share,
    greatest(cpu_share, rss_share, io_share) AS noise, h.busy AS host_cpu_share,
    arraySlice(arrayFilter(x -> x.2 != concat(t.namespace, '/', t.task), w.list), 1, 10).2 AS slowed,
    if(empty(arrayFilter(x -> x.2 != concat(t.namespace, '/', t.task), w.list)), 0, arrayFilter(x -> x.2 != concat(t.namespace, '/', t.task), w.list)[1].1) AS worst_slowdown
FROM taken AS t
LEFT JOIN machine AS h ON h.period = t.period AND h.host = t.host
LEFT JOIN slow AS w ON w.period = t.period AND w.host = t.host
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'who takes a machine''s cores, memory and disks, and whose attempts were slow meanwhile'
