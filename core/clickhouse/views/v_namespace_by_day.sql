-- How each namespace fared on each day: outcomes, duration, lateness and waiting of all its runs together.
-- 每个命名空间每天的整体情况：结果、成功率、时长、延迟与等待。
-- Read by: analysts, the overview, a namespace's page.
-- From: runs_day, the roll-up of fires, runs and attempts; its histograms are added up, so quantiles are those of all runs together, within 2.2 %.
-- Fresh: made anew as runs end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule. Runs that end late, and backfills of past years, are in as soon.
-- Example:
--   SELECT namespace, day, runs, success_rate, duration_p95_ms, lateness_p99_ms, queue_p99_ms
--   FROM v_namespace_by_day WHERE day >= today() - 30 ORDER BY namespace, day
CREATE OR REPLACE VIEW v_namespace_by_day
(
    day             Date COMMENT 'day of the nominal instant, UTC',
    namespace       LowCardinality(String) COMMENT 'business system; from the task',
    tasks           UInt64 COMMENT 'tasks that ran or were skipped',
    runs            UInt64 COMMENT 'runs that have ended; from runs',
    succeeded       UInt64 COMMENT 'of them succeeded; from runs',
    failures        UInt64 COMMENT 'of them failed, timed out, crashed or lost; from runs',
    failed          UInt64 COMMENT 'of them failed: the task said so; from runs',
    timed_out       UInt64 COMMENT 'of them timed out; from runs',
    crashed         UInt64 COMMENT 'of them crashed; from runs',
    lost            UInt64 COMMENT 'of them lost with their server; from runs',
    cancelled       UInt64 COMMENT 'of them cancelled; they count neither as success nor as failure; from runs',
    retried         UInt64 COMMENT 'of them tried more than once; from runs',
    attempts        UInt64 COMMENT 'attempts of these runs; from runs',
    success_rate    Nullable(Float64) COMMENT 'succeeded of those not cancelled, 0 to 1; NULL: there are none',
    duration_p50_ms Nullable(Float64) COMMENT 'from the start of the last attempt to the end of the run: median, within 2.2 %, milliseconds; NULL: no figure; from runs',
    duration_p95_ms Nullable(Float64) COMMENT 'from the start of the last attempt to the end of the run: 95 % are below it, within 2.2 %, milliseconds; NULL: no figure; from runs',
    duration_p99_ms Nullable(Float64) COMMENT 'from the start of the last attempt to the end of the run: 99 % are below it, within 2.2 %, milliseconds; NULL: no figure; from runs',
    duration_max_ms Nullable(Float64) COMMENT 'from the start of the last attempt to the end of the run: longest, milliseconds; NULL: no figure; from runs',
    lateness_p50_ms Nullable(Float64) COMMENT 'from the nominal instant to the start, of runs tried once that are no backfill or retry: median, within 2.2 %, milliseconds; NULL: no figure; from runs',
    lateness_p95_ms Nullable(Float64) COMMENT 'from the nominal instant to the start, of runs tried once that are no backfill or retry: 95 % are below it, within 2.2 %, milliseconds; NULL: no figure; from runs',
    lateness_p99_ms Nullable(Float64) COMMENT 'from the nominal instant to the start, of runs tried once that are no backfill or retry: 99 % are below it, within 2.2 %, milliseconds; NULL: no figure; from runs',
    lateness_max_ms Nullable(Float64) COMMENT 'from the nominal instant to the start, of runs tried once that are no backfill or retry: longest, milliseconds; NULL: no figure; from runs',
    waited_p50_ms   Nullable(Float64) COMMENT 'from the first gate (overlap, capacity, precondition, breaker) to the start, of runs that waited and were tried once: median, within 2.2 %, milliseconds; NULL: no figure; from runs',
    waited_p95_ms   Nullable(Float64) COMMENT 'from the first gate (overlap, capacity, precondition, breaker) to the start, of runs that waited and were tried once: 95 % are below it, within 2.2 %, milliseconds; NULL: no figure; from runs',
    waited_p99_ms   Nullable(Float64) COMMENT 'from the first gate (overlap, capacity, precondition, breaker) to the start, of runs that waited and were tried once: 99 % are below it, within 2.2 %, milliseconds; NULL: no figure; from runs',
    waited_max_ms   Nullable(Float64) COMMENT 'from the first gate (overlap, capacity, precondition, breaker) to the start, of runs that waited and were tried once: longest, milliseconds; NULL: no figure; from runs',
    queue_p50_ms    Nullable(Float64) COMMENT 'from hand-over to the beginning of the handler, of attempts: median, within 2.2 %, milliseconds; NULL: no figure; from attempts',
    queue_p95_ms    Nullable(Float64) COMMENT 'from hand-over to the beginning of the handler, of attempts: 95 % are below it, within 2.2 %, milliseconds; NULL: no figure; from attempts',
    queue_p99_ms    Nullable(Float64) COMMENT 'from hand-over to the beginning of the handler, of attempts: 99 % are below it, within 2.2 %, milliseconds; NULL: no figure; from attempts',
    queue_max_ms    Nullable(Float64) COMMENT 'from hand-over to the beginning of the handler, of attempts: longest, milliseconds; NULL: no figure; from attempts'
)
AS WITH
    (hist, p, most) -> if(empty(hist), NULL, least(pow(2, (mapKeys(hist)[arrayFirstIndex(n -> n > floor(p * arraySum(mapValues(hist))), arrayCumSum(mapValues(hist)))] + 0.5) / 16), toFloat64(most)) / 1000) AS q -- the middle of a bucket may lie beyond the greatest value
SELECT day, namespace, tasks, runs, succeeded, failed + timed_out + crashed + lost AS failures, failed, timed_out, crashed, lost, cancelled, retried, attempts,
    if(runs = cancelled, NULL, succeeded / (runs - cancelled)) AS success_rate,
    q(duration_hist, 0.5, duration_max_us) AS duration_p50_ms, q(duration_hist, 0.95, duration_max_us) AS duration_p95_ms, q(duration_hist, 0.99, duration_max_us) AS duration_p99_ms, if(empty(duration_hist), NULL, duration_max_us / 1000) AS duration_max_ms,
    q(lateness_hist, 0.5, lateness_max_us) AS lateness_p50_ms, q(lateness_hist, 0.95, lateness_max_us) AS lateness_p95_ms, q(lateness_hist, 0.99, lateness_max_us) AS lateness_p99_ms, if(empty(lateness_hist), NULL, lateness_max_us / 1000) AS lateness_max_ms,
    q(waited_hist, 0.5, waited_max_us) AS waited_p50_ms, q(waited_hist, 0.95, waited_max_us) AS waited_p95_ms, q(waited_hist, 0.99, waited_max_us) AS waited_p99_ms, if(empty(waited_hist), NULL, waited_max_us / 1000) AS waited_max_ms,
    q(queue_hist, 0.5, queue_max_us) AS queue_p50_ms, q(queue_hist, 0.95, queue_max_us) AS queue_p95_ms, q(queue_hist, 0.99, queue_max_us) AS queue_p99_ms, if(empty(queue_hist), NULL, queue_max_us / 1000) AS queue_max_ms
FROM
(
    SELECT day, namespace, count() AS tasks, sum(r.runs) AS runs, sum(r.succeeded) AS succeeded, sum(r.failed) AS failed, sum(r.timed_out) AS timed_out, sum(r.crashed) AS crashed, sum(r.lost) AS lost, sum(r.cancelled) AS cancelled, sum(r.retried) AS retried, sum(r.attempts) AS attempts,
        sumMap(r.duration_hist) AS duration_hist, max(r.duration_max_us) AS duration_max_us,
        sumMap(r.lateness_hist) AS lateness_hist, max(r.lateness_max_us) AS lateness_max_us,
        sumMap(r.waited_hist) AS waited_hist, max(r.waited_max_us) AS waited_max_us,
        sumMap(r.queue_hist) AS queue_hist, max(r.queue_max_us) AS queue_max_us
    FROM (SELECT * FROM runs_day FINAL) AS r GROUP BY day, namespace
)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'how each namespace fared on each day'
