-- What everything cost, by hour: as v_cost, but by task type instead of task, because tasks that fire each hour or less often make an hour's rows as many as its attempts.
-- 每小时的成本：与 v_cost 相同，但按任务类型而非任务汇总。
-- Read by: analysts, whoever pays for the machines, the page of a namespace. Who may not see all namespaces sees those rows of it that have a namespace of theirs.
-- From: costs, like v_cost. For one task's hours: SELECT toStartOfHour(ended_at) AS hour, sum(cpu_us) / 1e6 FROM attempts WHERE namespace = … AND task = … GROUP BY hour.
-- Fresh: made anew as attempts end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule. What an attempt used is in it once it has ended, in the hours in which it ran; until then it is its process's.
-- Example:
--   SELECT hour, kind, namespace, round(sum(cpu_s), 1) AS cpu
--   FROM v_cost_by_hour
--   WHERE hour >= now() - INTERVAL 1 DAY
--   GROUP BY hour, kind, namespace
--   ORDER BY hour, cpu DESC
CREATE OR REPLACE VIEW v_cost_by_hour
(
    hour              DateTime('UTC') COMMENT 'beginning of the hour in which it was spent, UTC',
    day               Date COMMENT 'the day of the hour, UTC',
    host              LowCardinality(String) COMMENT 'name of the machine, from servers; empty: not known, or not for you to see',
    server            LowCardinality(String) COMMENT 'id of the server, see servers',
    kind              LowCardinality(String) COMMENT 'run: a task''s attempts; plugin, lua_worker: what their processes used beyond attempts; server, engine: Gnomon itself',
    namespace         LowCardinality(String) COMMENT 'business system of the task; of a lua_worker that of its scripts; empty for what serves several',
    task_type         LowCardinality(String) COMMENT 'Namespace.Type; empty for what is no run',
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
    c.hour AS hour, c.day AS day, m.host AS host, c.server AS server, kind, namespace, task_type, plugin, plugin_version, attempts, run_us / 1e6 AS run_s,
    (measured_us + shared_us + apportioned_us + beyond_us) / 1e6 AS cpu_s, measured_us / 1e6 AS cpu_measured_s, shared_us / 1e6 AS cpu_shared_s, apportioned_us / 1e6 AS cpu_apportioned_s,
    cpu_source, toFloat64(c.rss_byte_s) AS rss_byte_s, toFloat64(c.read_bytes) AS read_bytes, toFloat64(c.write_bytes) AS write_bytes
FROM costs AS c FINAL
LEFT JOIN (SELECT server, any(host) AS host FROM servers FINAL GROUP BY server) AS m ON m.server = c.server
WHERE span = 'hour'
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'what everything cost, by hour and task type, so that the sum over all rows is what a machine spent on Gnomon'
