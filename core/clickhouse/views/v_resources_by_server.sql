-- What each server did for each task type on each day: runs, failures, attempts, CPU seconds, peak memory, reads and writes.
-- 每台服务器每天为每种任务类型所做的工作：运行数、失败数、尝试数、CPU 秒、内存峰值、读写字节。
-- Read by: analysts, capacity planning; is one server worse than the others?
-- From: servers_day, the roll-up of runs and attempts: all attempts, each where it was made. A run is its last attempt's server's.
-- Fresh: made anew as runs end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule.
-- Example:
--   SELECT server, sum(r.runs) AS runs, sum(r.failures) / sum(r.runs) AS failure_rate, sum(r.attempts) AS attempts, sum(r.cpu_s) AS cpu_s
--   FROM v_resources_by_server AS r WHERE day >= today() - 7
--   GROUP BY server ORDER BY cpu_s DESC
CREATE OR REPLACE VIEW v_resources_by_server
(
    day            Date COMMENT 'day of the nominal instant, UTC',
    server         LowCardinality(String) COMMENT 'id of the server that made the attempts, see servers; empty: written before attempts said so',
    namespace      LowCardinality(String) COMMENT 'business system; from the task',
    task_type      LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    runs           UInt64 COMMENT 'runs that have ended, the last attempt of which it made; from runs',
    failures       UInt64 COMMENT 'of them failed, timed out, crashed or lost; from runs',
    attempts       UInt64 COMMENT 'attempts it made; from runs and attempts',
    cpu_s          Float64 COMMENT 'user plus system time of these attempts, seconds, where it is known',
    cpu_shared_s   Float64 COMMENT 'of it in processes that ran other attempts too, seconds: the share of each is an estimate',
    peak_rss_bytes UInt64 COMMENT 'highest resident memory of a process during an attempt, bytes; 0: not known',
    read_bytes     UInt64 COMMENT 'fetched from storage by these attempts, bytes, where it is known',
    write_bytes    UInt64 COMMENT 'sent to storage by these attempts, bytes, where it is known'
)
AS SELECT day, server, namespace, task_type, runs, failures, attempts, cpu_us / 1e6 AS cpu_s, cpu_shared_us / 1e6 AS cpu_shared_s, peak_rss_bytes, read_bytes, write_bytes
FROM servers_day FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'what each server did for each task type on each day'
