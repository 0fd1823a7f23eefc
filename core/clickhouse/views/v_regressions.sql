-- Tasks whose runs take longer (or shorter) than they used to, and since which day: against each task's own past.
-- 与自身历史相比运行变慢（或变快）的任务，以及从哪一天开始。
-- Read by: analysts, the weekly report, alerts.
-- From: runs_day, the roll-up: the medians of the last 56 days with runs, at least 14 of them. The day of the change is where
-- the rank sum (Wilcoxon, Mann and Whitney) of the days before differs most from chance, with at least 7 days before and 3
-- after; the probability of so large a maximum by chance is Miller and Siegmund's (Lausen and Schumacher, "Maximally selected
-- rank statistics", Biometrics 48, 1992). A row is given if it is below 1 % and the medians of the two sides differ by more
-- than three times the task's own spread (the median deviation from them, times 1.4826). No threshold is in milliseconds.
-- Fresh: made anew as runs end. A change is seen about 5 days later: fewer days cannot be told from chance.
-- Example:
--   SELECT namespace, task, changed_on, before_ms, after_ms, ratio, chance
--   FROM v_regressions WHERE ratio > 1 ORDER BY changed_on DESC, ratio DESC LIMIT 20
CREATE OR REPLACE VIEW v_regressions
(
    namespace   LowCardinality(String) COMMENT 'business system; from the task',
    task        LowCardinality(String) COMMENT 'name of the task when it fired; unique in its namespace',
    task_type   LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    changed_on  Date COMMENT 'first day of the new duration, UTC',
    before_ms   Float64 COMMENT 'median of the daily medians of the duration before it, milliseconds; from runs',
    after_ms    Float64 COMMENT 'median of the daily medians of the duration since, milliseconds; from runs',
    ratio       Float64 COMMENT 'after_ms by before_ms; above 1: slower',
    days_before UInt64 COMMENT 'days with runs before the change, among the last 56',
    days_after  UInt64 COMMENT 'days with runs since',
    spread      Float64 COMMENT 'how much the daily medians stray from the two levels, as a factor: 1.1 is 10 %',
    chance      Float64 COMMENT 'probability of so clear a change by chance, 0 to 1'
)
AS WITH
    arrayMap(m -> m.2, medians) AS logs, length(logs) AS n,
    -- Rank of each day among all; days alike are put in an order that has nothing to do with time.
    arraySort((i, m) -> (m, cityHash64(i)), arrayEnumerate(logs), logs) AS sorted,
    arraySort((rank, i) -> i, arrayEnumerate(sorted), sorted) AS ranks,
    arrayMap((sum, t) -> if(t < 7 OR t > n - 3, 0, abs(sum - t * (n + 1) / 2) / sqrt(t * (n - t) * (n + 1) / 12)), arrayCumSum(ranks), arrayEnumerate(ranks)) AS scores,
    arrayMax(scores) AS score, indexOf(scores, score) AS t,
    arrayReduce('median', arraySlice(logs, 1, t)) AS low, arrayReduce('median', arraySlice(logs, t + 1)) AS high,
    1.4826 * arrayReduce('median', arrayMap((m, i) -> abs(m - if(i <= t, low, high)), logs, arrayEnumerate(logs))) AS stray,
    exp(-score * score / 2) / sqrt(2 * pi()) AS density
SELECT
    namespace, task, task_type, medians[t + 1].1 AS changed_on, exp(low) / 1000 AS before_ms, exp(high) / 1000 AS after_ms, exp(high - low) AS ratio,
    t AS days_before, n - t AS days_after, exp(stray) AS spread,
    least(1, 4 * density / score + density * (score - 1 / score) * log((n - 3) * (n - 7) / (3 * 7))) AS chance
FROM
(
    SELECT namespace, task, argMax(r.task_type, day) AS task_type, arraySort(groupArray((day, log(greatest(toFloat64(assumeNotNull(duration_p50_us)), 1))))) AS medians
    FROM runs_day AS r FINAL WHERE day >= toDate(now('UTC')) - 56 AND duration_p50_us IS NOT NULL GROUP BY namespace, task HAVING count() >= 14
)
WHERE score > 2 AND chance < 0.01 AND abs(high - low) > 3 * stray AND high != low
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'tasks whose runs take longer or shorter than they used to, and since when'
