-- How each task's runs ended on each day, and what became of its fires.
-- 每个任务每天的运行结果、成功率，以及触发的去向。
-- Read by: analysts, the overview, alerts on success rates.
-- From: runs_day, the roll-up of fires, runs and attempts.
-- Fresh: made anew as runs end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule. Runs that end late, and backfills of past years, are in as soon.
-- Example:
--   SELECT namespace, task, sum(s.runs) AS runs, sum(s.succeeded) / sum(s.runs - s.cancelled) AS success_rate
--   FROM v_success_by_day AS s WHERE day >= today() - 30
--   GROUP BY namespace, task HAVING sum(s.runs - s.cancelled) >= 10 ORDER BY success_rate, runs DESC LIMIT 20
CREATE OR REPLACE VIEW v_success_by_day
(
    day           Date COMMENT 'day of the nominal instant, UTC',
    namespace     LowCardinality(String) COMMENT 'business system; from the task',
    task          LowCardinality(String) COMMENT 'name of the task when it fired; unique in its namespace',
    task_type     LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    runs          UInt64 COMMENT 'runs that have ended; from runs',
    succeeded     UInt64 COMMENT 'of them succeeded; from runs',
    failures      UInt64 COMMENT 'of them failed, timed out, crashed or lost; from runs',
    failed        UInt64 COMMENT 'of them failed: the task said so; from runs',
    timed_out     UInt64 COMMENT 'of them timed out; from runs',
    crashed       UInt64 COMMENT 'of them crashed; from runs',
    lost          UInt64 COMMENT 'of them lost with their server; from runs',
    cancelled     UInt64 COMMENT 'of them cancelled; they count neither as success nor as failure; from runs',
    retried       UInt64 COMMENT 'of them tried more than once; from runs',
    attempts      UInt64 COMMENT 'attempts of these runs; from runs',
    success_rate  Nullable(Float64) COMMENT 'succeeded of those not cancelled, 0 to 1; NULL: there are none',
    fires_started UInt64 COMMENT 'nominal instants that started a run; from fires',
    fires_skipped UInt64 COMMENT 'nominal instants that were skipped; a range counts on the day it begins; from fires',
    skip_reasons  Map(String, UInt64) COMMENT 'nominal instants that were skipped, by reason; from fires'
)
AS SELECT day, namespace, task, task_type, runs, succeeded, failed + timed_out + crashed + lost AS failures, failed, timed_out, crashed, lost, cancelled, retried, attempts,
    if(runs = cancelled, NULL, succeeded / (runs - cancelled)) AS success_rate, fires_started, fires_skipped, skip_reasons
FROM runs_day FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'how the runs of each task ended on each day'
