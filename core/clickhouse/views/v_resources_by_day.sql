-- What each task used on each day: CPU seconds, peak memory, reads and writes.
-- 每个任务每天的资源用量：CPU 秒、内存峰值、读写字节。
-- Read by: analysts, capacity planning, the cost page. By type or namespace: sum it; by server: v_resources_by_server.
-- From: runs_day, the roll-up of fires, runs and attempts: all attempts, of earlier ones too.
-- Fresh: made anew as runs end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule. Runs that end late, and backfills of past years, are in as soon.
-- Example:
--   SELECT namespace, task_type, sum(cpu_s) AS cpu_s, max(peak_rss_bytes) AS peak_rss_bytes, sum(read_bytes + write_bytes) AS io_bytes
--   FROM v_resources_by_day WHERE day >= today() - 30
--   GROUP BY namespace, task_type ORDER BY cpu_s DESC LIMIT 20
CREATE OR REPLACE VIEW v_resources_by_day
(
    day            Date COMMENT 'day of the nominal instant, UTC',
    namespace      LowCardinality(String) COMMENT 'business system; from the task',
    task           LowCardinality(String) COMMENT 'name of the task when it fired; unique in its namespace',
    task_type      LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    runs           UInt64 COMMENT 'runs that have ended; from runs',
    attempts       UInt64 COMMENT 'attempts of these runs; from runs',
    cpu_s          Float64 COMMENT 'user plus system time of all attempts, seconds, where it is known',
    cpu_shared_s   Float64 COMMENT 'of it in processes that ran other attempts too, seconds: the share of each is an estimate',
    cpu_unknown    UInt64 COMMENT 'attempts whose CPU time is not known',
    peak_rss_bytes UInt64 COMMENT 'highest resident memory of a process during an attempt, bytes; 0: not known',
    read_bytes     UInt64 COMMENT 'fetched from storage by all attempts, bytes, where it is known',
    write_bytes    UInt64 COMMENT 'sent to storage by all attempts, bytes, where it is known'
)
AS SELECT day, namespace, task, task_type, runs, attempts, cpu_us / 1e6 AS cpu_s, cpu_shared_us / 1e6 AS cpu_shared_s, cpu_unknown, peak_rss_bytes, read_bytes, write_bytes
FROM runs_day FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'what each task used on each day'
