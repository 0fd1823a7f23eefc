-- How each namespace fared on each day: outcomes, duration, lateness and waiting of all its runs together.
-- 每个命名空间每天的整体情况：结果、成功率、时长、延迟与等待。
-- Read by: analysts, the overview, a namespace's page.
-- From: namespaces_day, the roll-up of runs_day; its histograms are added up, so quantiles are those of all runs together, within 2.2 %.
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
    (us, most) -> if(us > most, toFloat64(most), us) / 1000 AS ms -- a Float32 may be rounded to beyond the greatest value
SELECT day, namespace, tasks, runs, succeeded, failed + timed_out + crashed + lost AS failures, failed, timed_out, crashed, lost, cancelled, retried, attempts,
    if(runs = cancelled, NULL, succeeded / (runs - cancelled)) AS success_rate,
    ms(duration_p50_us, duration_max_us) AS duration_p50_ms, ms(duration_p95_us, duration_max_us) AS duration_p95_ms, ms(duration_p99_us, duration_max_us) AS duration_p99_ms, if(duration_count = 0, NULL, duration_max_us / 1000) AS duration_max_ms,
    ms(lateness_p50_us, lateness_max_us) AS lateness_p50_ms, ms(lateness_p95_us, lateness_max_us) AS lateness_p95_ms, ms(lateness_p99_us, lateness_max_us) AS lateness_p99_ms, if(lateness_count = 0, NULL, lateness_max_us / 1000) AS lateness_max_ms,
    ms(waited_p50_us, waited_max_us) AS waited_p50_ms, ms(waited_p95_us, waited_max_us) AS waited_p95_ms, ms(waited_p99_us, waited_max_us) AS waited_p99_ms, if(waited_count = 0, NULL, waited_max_us / 1000) AS waited_max_ms,
    ms(queue_p50_us, queue_max_us) AS queue_p50_ms, ms(queue_p95_us, queue_max_us) AS queue_p95_ms, ms(queue_p99_us, queue_max_us) AS queue_p99_ms, if(queue_count = 0, NULL, queue_max_us / 1000) AS queue_max_ms
FROM namespaces_day FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'how each namespace fared on each day'
