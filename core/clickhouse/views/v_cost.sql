-- What everything costs, by hour: CPU, memory and storage of each task, and of Gnomon beside them, so that the sum over all rows is what a machine spent on Gnomon.
-- 每小时的成本：每个任务的 CPU、内存与读写，以及 Gnomon 自身的开销；所有行之和即整台机器花在 Gnomon 上的总量。
-- Read by: analysts, whoever pays for the machines, the page of a namespace. Who may not see all namespaces sees its runs as measured.
-- From: process_hours (what process trees used, exited children too) and attempts. A task's CPU is what its attempts
--   measured. Attempts that shared a process measured their own thread only: of what the process used beyond that while
--   anything ran they are given a part, in proportion (cpu_apportioned_s). What is left is the overhead of the process.
--   Memory is resident bytes times seconds: an attempt's highest memory times its time, no more than the process held.
-- Fresh: seconds; an hour is complete once it is over and its attempts have ended.
-- Example:
--   SELECT namespace, task, plugin_version, round(sum(cpu_s), 1) AS cpu, round(sum(rss_byte_s) / exp2(30) / 3600, 3) AS gib_hours
--   FROM v_cost
--   WHERE hour >= toStartOfHour(now() - INTERVAL 1 DAY)
--   GROUP BY namespace, task, plugin_version
--   ORDER BY cpu DESC LIMIT 20
CREATE OR REPLACE VIEW v_cost
(
    hour              DateTime('UTC') COMMENT 'beginning of the hour, UTC',
    day               Date COMMENT 'the day of the hour, UTC',
    host              LowCardinality(String) COMMENT 'name of the machine; empty: not known, of an older version',
    server            LowCardinality(String) COMMENT 'id of the server, see servers',
    kind              LowCardinality(String) COMMENT 'run: a task''s attempts; plugin, lua_worker: what their processes used beyond attempts; server, engine: Gnomon itself',
    namespace         LowCardinality(String) COMMENT 'business system of the task; of a lua_worker that of its scripts; empty for what serves several',
    task_type         LowCardinality(String) COMMENT 'Namespace.Type; empty for what is no run',
    task              LowCardinality(String) COMMENT 'name of the task when it fired; empty for what is no run',
    plugin            LowCardinality(String) COMMENT 'plugin whose processes they are, lua-worker, server or engine; empty: a run the server itself carried out',
    plugin_version    LowCardinality(String) COMMENT 'version of that plugin; of a Lua worker and the server that of gnomon, of the engine that of ClickHouse',
    attempts          UInt64 COMMENT 'attempts that ended in the hour; from attempts',
    run_s             Float64 COMMENT 'time attempts took in the hour, seconds; from attempts',
    cpu_s             Float64 COMMENT 'user plus system time in the hour, seconds: the sum of the next three for a run. Sums over rows are what was spent',
    cpu_measured_s    Float64 COMMENT 'of it measured for attempts that had their process to themselves, seconds',
    cpu_shared_s      Float64 COMMENT 'of it measured on the threads of attempts that shared a process, seconds',
    cpu_apportioned_s Float64 COMMENT 'of it what their process used beyond their threads while something ran, in proportion, seconds',
    cpu_source        LowCardinality(String) COMMENT 'how cpu_s was obtained: measured, shared (a part is apportioned), unknown (no figure: counted with its process), process (what is no run)',
    rss_byte_s        Float64 COMMENT 'resident memory times time in the hour, byte-seconds',
    read_bytes        Float64 COMMENT 'fetched from storage in the hour, bytes',
    write_bytes       Float64 COMMENT 'sent to storage in the hour, bytes'
)
AS SELECT
    hour, toDate(hour) AS day, tree_host AS host, server, kind, namespace, task_type, task, plugin, version AS plugin_version, attempts, run_s,
    if(kind = 'run', measured_s * fit + shared_s * fit + apportioned_s, greatest(0, cpu_s - part * runs_s)) AS cpu_s,
    measured_s * fit AS cpu_measured_s, shared_s * fit AS cpu_shared_s, apportioned_s AS cpu_apportioned_s,
    multiIf(kind != 'run', 'process', shared_s > 0, 'shared', measured > 0, 'measured', 'unknown') AS cpu_source,
    if(kind = 'run', rss * rss_fit, greatest(0, rss - part * rss_fit * runs_rss)) AS rss_byte_s,
    if(kind = 'run', read * read_fit, greatest(0, read - part * read_fit * runs_read)) AS read_bytes,
    if(kind = 'run', written * write_fit, greatest(0, written - part * write_fit * runs_written)) AS write_bytes
FROM
(
    SELECT
        *,
        if(tree_cpu > 0, least(1, tree_cpu / greatest(own_s, 1e-9)), 1) AS fit,
        if(own_s > 0, greatest(0, tree_busy - own_s) / own_s, 0) AS beyond,
        shared_s * beyond AS apportioned_s,
        least(tree_cpu, own_s) + own_shared_s * beyond AS runs_s,
        if(tree_busy_rss > 0, least(1, tree_busy_rss / greatest(runs_rss, 1e-9)), 1) AS rss_fit,
        if(tree_read > 0, least(1, tree_read / greatest(runs_read, 1e-9)), 0) AS read_fit,
        if(tree_written > 0, least(1, tree_written / greatest(runs_written, 1e-9)), 0) AS write_fit,
        if(kind != 'run' AND tree_cpu > 0, cpu_s / tree_cpu, 0) AS part
    FROM
    (
        SELECT
            *,
            max(host) OVER g AS tree_host,
            sum(cpu_s) OVER g AS tree_cpu, sum(busy_s) OVER g AS tree_busy, sum(busy_rss) OVER g AS tree_busy_rss,
            sum(measured_s + shared_s) OVER g AS own_s, sum(shared_s) OVER g AS own_shared_s,
            sumIf(rss, kind = 'run') OVER g AS runs_rss,
            sumIf(read, kind = 'run') OVER g AS runs_read, sumIf(read, kind != 'run') OVER g AS tree_read,
            sumIf(written, kind = 'run') OVER g AS runs_written, sumIf(written, kind != 'run') OVER g AS tree_written
        FROM
        (
            SELECT
                hour, server, plugin, version, worker, '' AS host, 'run' AS kind, namespace, task_type, task, sum(ended) AS attempts, sum(took) AS run_s,
                sumIf(cpu * share, cpu_source = 'measured') AS measured_s, sumIf(cpu * share, cpu_source = 'shared') AS shared_s,
                countIf(cpu_source = 'measured') AS measured,
                sumIf(peak * took, rss_source != 'unknown') AS rss, sumIf(r * share, io_source != 'unknown') AS read, sumIf(w * share, io_source != 'unknown') AS written,
                0. AS cpu_s, 0. AS busy_s, 0. AS busy_rss
            FROM
            (
                SELECT
                    toStartOfHour(ended_at) AS hour, server, plugin, plugin_version AS version, if(plugin = 'lua-worker', namespace, '') AS worker, namespace, task_type,
                    task, 1 AS ended, 1. AS share, greatest(0, dateDiff('microsecond', started_at, ended_at)) / 1e6 AS took, cpu_us / 1e6 AS cpu, cpu_source,
                    toFloat64(peak_rss_bytes) AS peak, rss_source, toFloat64(read_bytes) AS r, toFloat64(write_bytes) AS w, io_source
                FROM attempts FINAL
                WHERE NOT (toStartOfHour(started_at) != toStartOfHour(ended_at))
                UNION ALL
                SELECT
                    h AS hour, server, plugin, plugin_version AS version, if(plugin = 'lua-worker', namespace, '') AS worker, namespace, task_type,
                    task, h = toStartOfHour(ended_at) AS ended, took / greatest(1e-6, dateDiff('microsecond', started_at, ended_at) / 1e6) AS share,
                    dateDiff('microsecond', greatest(started_at, toDateTime64(h, 6, 'UTC')), least(ended_at, toDateTime64(h + INTERVAL 1 HOUR, 6, 'UTC'))) / 1e6 AS took,
                    cpu_us / 1e6 AS cpu, cpu_source, toFloat64(peak_rss_bytes) AS peak, rss_source, toFloat64(read_bytes) AS r, toFloat64(write_bytes) AS w, io_source
                FROM attempts FINAL
                ARRAY JOIN arrayMap(n -> toStartOfHour(started_at) + toIntervalHour(n), range(toUInt32(greatest(0, dateDiff('hour', toStartOfHour(started_at), toStartOfHour(ended_at)))) + 1)) AS h
                WHERE toStartOfHour(started_at) != toStartOfHour(ended_at)
            )
            GROUP BY hour, server, plugin, version, worker, namespace, task_type, task
            UNION ALL
            SELECT
                hour, server, plugin, version, namespace AS worker, host, kind, namespace, '' AS task_type, '' AS task, 0 AS attempts, 0. AS run_s, 0. AS measured_s,
                0. AS shared_s, 0 AS measured, sum(rss) AS rss, sum(r) AS read, sum(w) AS written, sum(cpu) AS cpu_s, sum(busy) AS busy_s, sum(held) AS busy_rss
            FROM
            (
                SELECT
                    hour, server, plugin, version, namespace, host, kind, pid, start_ticks, (max(cpu_us_to) - min(cpu_us_from)) / 1e6 AS cpu,
                    (max(busy_cpu_us_to) - min(busy_cpu_us_from)) / 1e6 AS busy, toFloat64(max(rss_byte_s_to) - min(rss_byte_s_from)) AS rss,
                    toFloat64(max(busy_rss_byte_s_to) - min(busy_rss_byte_s_from)) AS held, toFloat64(max(read_bytes_to) - min(read_bytes_from)) AS r,
                    toFloat64(max(write_bytes_to) - min(write_bytes_from)) AS w
                FROM process_hours
                GROUP BY hour, server, plugin, version, namespace, host, kind, pid, start_ticks
            )
            GROUP BY hour, server, plugin, version, worker, host, kind
        )
        WINDOW g AS (PARTITION BY hour, server, plugin, version, worker)
    )
)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'what everything costs, by hour, so that the sum over all rows is what a machine spent on Gnomon'
