-- How reliable each task was in the last 30 days: failures in a row now and at worst, MTBF, MTTR, flakiness.
-- 每个任务近 30 天的可靠性：当前与最长的连续失败、MTBF、MTTR、抖动（版本未变而结果反复）。
-- Read by: analysts, the overview (what is broken now), alerts.
-- From: runs_day, the roll-up, which holds the changes of each task's results, not its runs. A failure is a run that failed,
-- timed out, crashed or was lost; cancelled runs are left out. An incident is failures in a row: it begins when the first
-- of them ended and is repaired when the next success ended. One that was open when the 30 days began counts from its first run in them.
-- Fresh: made anew as runs end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule.
-- Example:
--   SELECT namespace, task, failures_in_row, failing_since, worst_in_row, incidents, mtbf_s, mttr_s, flakiness
--   FROM v_reliability_30d WHERE failures_in_row > 0 ORDER BY failures_in_row DESC LIMIT 20
CREATE OR REPLACE VIEW v_reliability_30d
(
    namespace       LowCardinality(String) COMMENT 'business system; from the task',
    task            LowCardinality(String) COMMENT 'name of the task when it fired; unique in its namespace',
    task_type       LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    results         UInt64 COMMENT 'runs that have ended and were not cancelled; from runs',
    failures        UInt64 COMMENT 'of them failed, timed out, crashed or lost; from runs',
    success_rate    Nullable(Float64) COMMENT 'succeeded of the results, 0 to 1; NULL: there are none',
    failures_in_row UInt64 COMMENT 'failures in a row now; 0: the last result was a success',
    failing_since   Nullable(DateTime64(3, 'UTC')) COMMENT 'when the first of them ended; NULL: the last result was a success',
    worst_in_row    UInt64 COMMENT 'most failures in a row',
    incidents       UInt64 COMMENT 'stretches of failures in a row, the open one included',
    down_s          Float64 COMMENT 'length of all incidents, the open one up to now, seconds',
    mtbf_s          Nullable(Float64) COMMENT 'mean time between failures: time outside incidents by incidents, seconds; NULL: there was no incident',
    mttr_s          Nullable(Float64) COMMENT 'mean time to repair: mean length of the incidents that were repaired, seconds; NULL: none was',
    flips           UInt64 COMMENT 'changes between success and failure, from a run to the next, without a change of the version of the task',
    flakiness       Nullable(Float64) COMMENT 'flips by pairs of results that follow one another, 0 to 1; NULL: fewer than two results'
)
AS WITH
    arrayPushFront(arrayPopBack(stretches), (stretches[1].1, NOT stretches[1].2, stretches[1].3, toUInt32(0))) AS before,
    arrayCumSum(arrayMap(s -> toUInt64(s.4), stretches)) AS through,
    -- Stretches of one result, whatever the version: when each began, whether it went well, how many runs lie before it.
    arrayFilter((x, s, b) -> s.2 != b.2, arrayMap((s, n) -> (s.1, s.2, n - s.4), stretches, through), stretches, before) AS spans,
    arrayPushBack(arrayPopFront(spans), (now64(3, 'UTC'), false, results)) AS nexts,
    -- How each stretch went, its runs and its milliseconds: whole numbers add up the same in any order.
    arrayMap((x, y) -> (x.2, y.3 - x.3, greatest(0, dateDiff('millisecond', x.1, y.1))), spans, nexts) AS lengths,
    arraySum(arrayMap(l -> if(l.1, 0, l.3), lengths)) AS down_ms
SELECT
    namespace, task, task_type, results, results - succeeded AS failures, if(results = 0, NULL, succeeded / results) AS success_rate,
    if(spans[-1].2, 0, lengths[-1].2) AS failures_in_row, if(results = 0 OR spans[-1].2, NULL, spans[-1].1) AS failing_since,
    arrayMax(arrayMap(l -> if(l.1, 0, l.2), lengths)) AS worst_in_row, countEqual(lengths.1, false) AS incidents,
    down_ms / 1000 AS down_s,
    if(incidents = 0, NULL, arraySum(arrayMap(l -> if(l.1, l.3, 0), lengths)) / 1000 / incidents) AS mtbf_s,
    incidents - (failures_in_row > 0) AS repaired,
    if(repaired = 0, NULL, (down_ms - if(failures_in_row > 0, lengths[-1].3, 0)) / 1000 / repaired) AS mttr_s,
    arrayCount((s, b) -> s.2 != b.2 AND s.3 = b.3, arrayPopFront(stretches), arrayPopBack(stretches)) AS flips,
    if(results < 2, NULL, flips / (results - 1)) AS flakiness
FROM
(
    SELECT namespace, task, argMax(r.task_type, day) AS task_type, sum(runs - cancelled) AS results, sum(r.succeeded) AS succeeded,
        arrayFlatten(arrayMap(x -> x.2, arraySort(x -> x.1, groupArray((day, changes))))) AS stretches
    FROM runs_day AS r FINAL WHERE day >= toDate(now('UTC')) - 30 AND runs > cancelled GROUP BY namespace, task
)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'how reliable each task was in the last 30 days'
