-- How the runs of each task type ended in each hour.
-- 每种任务类型每小时的运行结果与成功率。
-- Read by: analysts, dashboards of a day or a week. One task's hours: group runs by toStartOfHour(fire_at), which is quick for one task.
-- From: runs_hour, the roll-up of runs and attempts.
-- Fresh: made anew as runs end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule. Runs that end late, and backfills of past years, are in as soon.
-- Example:
--   SELECT hour, sum(runs) AS runs, sum(failures) AS failures
--   FROM v_success_by_hour WHERE namespace = 'Telemedicine' AND hour >= now() - INTERVAL 7 DAY
--   GROUP BY hour ORDER BY hour
CREATE OR REPLACE VIEW v_success_by_hour
(
    hour         DateTime('UTC') COMMENT 'beginning of the hour of the nominal instant, UTC',
    namespace    LowCardinality(String) COMMENT 'business system; from the task',
    task_type    LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    runs         UInt64 COMMENT 'runs that have ended; from runs',
    succeeded    UInt64 COMMENT 'of them succeeded; from runs',
    failures     UInt64 COMMENT 'of them failed, timed out, crashed or lost; from runs',
    failed       UInt64 COMMENT 'of them failed: the task said so; from runs',
    timed_out    UInt64 COMMENT 'of them timed out; from runs',
    crashed      UInt64 COMMENT 'of them crashed; from runs',
    lost         UInt64 COMMENT 'of them lost with their server; from runs',
    cancelled    UInt64 COMMENT 'of them cancelled; they count neither as success nor as failure; from runs',
    retried      UInt64 COMMENT 'of them tried more than once; from runs',
    attempts     UInt64 COMMENT 'attempts of these runs; from runs',
    success_rate Nullable(Float64) COMMENT 'succeeded of those not cancelled, 0 to 1; NULL: there are none'
)
AS SELECT hour, namespace, task_type, runs, succeeded, failed + timed_out + crashed + lost AS failures, failed, timed_out, crashed, lost, cancelled, retried, attempts,
    if(runs = cancelled, NULL, succeeded / (runs - cancelled)) AS success_rate
FROM runs_hour FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'how the runs of each task type ended in each hour'
