-- Who takes a machine's cores, memory and disks, five minutes by five minutes of the last seven days, and whose attempts were slow meanwhile.
-- 最近七天内每台机器每五分钟由谁占用 CPU、内存与磁盘，以及同一时段哪些任务变慢。
-- Read by: whoever may see all namespaces (others get no rows: a machine is everybody's), the host page.
-- From: neighbours, the roll-up of attempts (what each measured), host_samples (what the machine has and did) and servers (which machine). The twenty
--   noisiest of a machine are in it; usual is the median of the day's runs and those of the seven days before.
-- Fresh: made anew as attempts end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule. An attempt that runs on is not in it yet.
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
AS SELECT
    period, host, namespace, task_type, task, plugin, attempts, cpu_s, cpu_share, rss_avg_bytes, rss_peak_bytes, rss_share, rss_source, io_bytes, io_share,
    greatest(cpu_share, rss_share, io_share) AS noise, host_cpu_share,
    arraySlice(arrayFilter(x -> x != concat(namespace, '/', task), slow_names), 1, 10) AS slowed,
    arrayFirst((t, x) -> x != concat(namespace, '/', task), slow_times, slow_names) AS worst_slowdown
FROM neighbours
WHERE day >= toDate(now('UTC') - INTERVAL 7 DAY) AND period >= now() - INTERVAL 7 DAY
    AND (day, computed_at) IN (SELECT day, max(computed_at) FROM neighbours WHERE day >= toDate(now('UTC') - INTERVAL 7 DAY) GROUP BY day)
COMMENT 'who takes a machine''s cores, memory and disks, and whose attempts were slow meanwhile'
