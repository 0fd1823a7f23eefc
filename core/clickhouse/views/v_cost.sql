-- What everything cost, by day: CPU, memory and storage of each task, and of Gnomon beside them, so that the sum over all rows is what a machine spent on Gnomon.
-- 每天的成本：每个任务的 CPU、内存与读写，以及 Gnomon 自身的开销；所有行之和即整台机器花在 Gnomon 上的总量。
-- Read by: analysts, whoever pays for the machines, the page of a namespace. Who may not see all namespaces sees those rows of it that have a namespace of theirs.
-- From: costs, the roll-up of process_hours (what process trees used, exited children too) and attempts. A task's CPU is what its attempts
--   measured. Attempts that shared a process measured their own thread only: of what the process used beyond that in an hour
--   while anything ran they are given a part, in proportion (cpu_apportioned_s). What is left is the overhead of the process.
--   Memory is resident bytes times seconds: an attempt's highest memory times its time, no more than the process held.
-- Fresh: made anew as attempts end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule. What an attempt used is in it once it has ended, on the days on which it ran; until then it is its process's.
-- Example:
--   SELECT namespace, task, plugin_version, round(sum(cpu_s), 1) AS cpu, round(sum(rss_byte_s) / exp2(30) / 3600, 3) AS gib_hours
--   FROM v_cost
--   WHERE day >= today() - 1
--   GROUP BY namespace, task, plugin_version
--   ORDER BY cpu DESC LIMIT 20
CREATE OR REPLACE VIEW v_cost
(
    day               Date COMMENT 'day in which it was spent, UTC',
    host              LowCardinality(String) COMMENT 'name of the machine, from servers; empty: not known, or not for you to see',
    server            LowCardinality(String) COMMENT 'id of the server, see servers',
    kind              LowCardinality(String) COMMENT 'run: a task''s attempts; plugin, lua_worker: what their processes used beyond attempts; server, engine: Gnomon itself',
    namespace         LowCardinality(String) COMMENT 'business system of the task; of a lua_worker that of its scripts; empty for what serves several',
    task_type         LowCardinality(String) COMMENT 'Namespace.Type; empty for what is no run',
    task              LowCardinality(String) COMMENT 'name of the task when it fired; empty for what is no run',
    plugin            LowCardinality(String) COMMENT 'plugin whose processes they are, lua-worker, server or engine; empty: a run the server itself carried out',
    plugin_version    LowCardinality(String) COMMENT 'version of that plugin; of a Lua worker and the server that of gnomon, of the engine that of ClickHouse',
    attempts          UInt64 COMMENT 'attempts that ended in the day; from attempts',
    run_s             Float64 COMMENT 'time attempts took in the day, seconds; from attempts',
    cpu_s             Float64 COMMENT 'user plus system time in the day, seconds: the sum of the next three for a run. Sums over rows are what was spent',
    cpu_measured_s    Float64 COMMENT 'of it measured for attempts that had their process to themselves, seconds',
    cpu_shared_s      Float64 COMMENT 'of it measured on the threads of attempts that shared a process, seconds',
    cpu_apportioned_s Float64 COMMENT 'of it what their process used beyond their threads while something ran, in proportion, seconds',
    cpu_source        LowCardinality(String) COMMENT 'how cpu_s was obtained: measured, shared (a part is apportioned), unknown (no figure: counted with its process), process (what is no run)',
    rss_byte_s        Float64 COMMENT 'resident memory times time in the day, byte-seconds',
    read_bytes        Float64 COMMENT 'fetched from storage in the day, bytes',
    write_bytes       Float64 COMMENT 'sent to storage in the day, bytes'
)
AS SELECT
    c.day AS day, m.host AS host, c.server AS server, kind, namespace, task_type, task, plugin, plugin_version, attempts, run_us / 1e6 AS run_s,
    (measured_us + shared_us + apportioned_us + beyond_us) / 1e6 AS cpu_s, measured_us / 1e6 AS cpu_measured_s, shared_us / 1e6 AS cpu_shared_s, apportioned_us / 1e6 AS cpu_apportioned_s,
    cpu_source, toFloat64(c.rss_byte_s) AS rss_byte_s, toFloat64(c.read_bytes) AS read_bytes, toFloat64(c.write_bytes) AS write_bytes
FROM costs AS c FINAL
LEFT JOIN (SELECT server, any(host) AS host FROM servers FINAL GROUP BY server) AS m ON m.server = c.server
WHERE span = 'day'
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'what everything cost, by day, so that the sum over all rows is what a machine spent on Gnomon'
