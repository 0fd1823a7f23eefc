-- How long each task's runs took, how late they began and what they waited for, on each day.
-- 每个任务每天的运行时长、延迟、等待与排队（p50、p95、p99）。
-- Read by: analysts, a task's page, capacity planning.
-- From: runs_day, the roll-up of fires, runs and attempts. Quantiles are exact for the day of a task, to the seven digits of a Float32; do not average them, ask v_namespace_by_day.
-- Fresh: made anew as runs end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule. Runs that end late, and backfills of past years, are in as soon.
-- Example:
--   SELECT day, runs, duration_p50_ms, duration_p95_ms, duration_p99_ms, lateness_p99_ms, queue_p99_ms
--   FROM v_timing_by_day WHERE namespace = 'Telemedicine' AND task = 'ecg-timeout-fallback' AND day >= today() - 30
--   ORDER BY day
CREATE OR REPLACE VIEW v_timing_by_day
(
    day             Date COMMENT 'day of the nominal instant, UTC',
    namespace       LowCardinality(String) COMMENT 'business system; from the task',
    task            LowCardinality(String) COMMENT 'name of the task when it fired; unique in its namespace',
    task_type       LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    runs            UInt64 COMMENT 'runs that have ended; from runs',
    duration_avg_ms Nullable(Float64) COMMENT 'from the start of the last attempt to the end of the run: mean, milliseconds; NULL: no figure; from runs',
    duration_p50_ms Nullable(Float64) COMMENT 'from the start of the last attempt to the end of the run: median, exact, milliseconds; NULL: no figure; from runs',
    duration_p95_ms Nullable(Float64) COMMENT 'from the start of the last attempt to the end of the run: 95 % are below it, exact, milliseconds; NULL: no figure; from runs',
    duration_p99_ms Nullable(Float64) COMMENT 'from the start of the last attempt to the end of the run: 99 % are below it, exact, milliseconds; NULL: no figure; from runs',
    duration_max_ms Nullable(Float64) COMMENT 'from the start of the last attempt to the end of the run: longest, milliseconds; NULL: no figure; from runs',
    lateness_avg_ms Nullable(Float64) COMMENT 'from the nominal instant to the start, of runs tried once that are no backfill or retry: mean, milliseconds; NULL: no figure; from runs',
    lateness_p50_ms Nullable(Float64) COMMENT 'from the nominal instant to the start, of runs tried once that are no backfill or retry: median, exact, milliseconds; NULL: no figure; from runs',
    lateness_p95_ms Nullable(Float64) COMMENT 'from the nominal instant to the start, of runs tried once that are no backfill or retry: 95 % are below it, exact, milliseconds; NULL: no figure; from runs',
    lateness_p99_ms Nullable(Float64) COMMENT 'from the nominal instant to the start, of runs tried once that are no backfill or retry: 99 % are below it, exact, milliseconds; NULL: no figure; from runs',
    lateness_max_ms Nullable(Float64) COMMENT 'from the nominal instant to the start, of runs tried once that are no backfill or retry: longest, milliseconds; NULL: no figure; from runs',
    waited_avg_ms   Nullable(Float64) COMMENT 'from the first gate (overlap, capacity, precondition, breaker) to the start, of runs that waited and were tried once: mean, milliseconds; NULL: no figure; from runs',
    waited_p50_ms   Nullable(Float64) COMMENT 'from the first gate (overlap, capacity, precondition, breaker) to the start, of runs that waited and were tried once: median, exact, milliseconds; NULL: no figure; from runs',
    waited_p95_ms   Nullable(Float64) COMMENT 'from the first gate (overlap, capacity, precondition, breaker) to the start, of runs that waited and were tried once: 95 % are below it, exact, milliseconds; NULL: no figure; from runs',
    waited_p99_ms   Nullable(Float64) COMMENT 'from the first gate (overlap, capacity, precondition, breaker) to the start, of runs that waited and were tried once: 99 % are below it, exact, milliseconds; NULL: no figure; from runs',
    waited_max_ms   Nullable(Float64) COMMENT 'from the first gate (overlap, capacity, precondition, breaker) to the start, of runs that waited and were tried once: longest, milliseconds; NULL: no figure; from runs',
    queue_avg_ms    Nullable(Float64) COMMENT 'from hand-over to the beginning of the handler, of attempts: mean, milliseconds; NULL: no figure; from attempts',
    queue_p50_ms    Nullable(Float64) COMMENT 'from hand-over to the beginning of the handler, of attempts: median, exact, milliseconds; NULL: no figure; from attempts',
    queue_p95_ms    Nullable(Float64) COMMENT 'from hand-over to the beginning of the handler, of attempts: 95 % are below it, exact, milliseconds; NULL: no figure; from attempts',
    queue_p99_ms    Nullable(Float64) COMMENT 'from hand-over to the beginning of the handler, of attempts: 99 % are below it, exact, milliseconds; NULL: no figure; from attempts',
    queue_max_ms    Nullable(Float64) COMMENT 'from hand-over to the beginning of the handler, of attempts: longest, milliseconds; NULL: no figure; from attempts'
)
AS WITH
    (us, most) -> if(us > most, toFloat64(most), us) / 1000 AS ms -- a Float32 may be rounded to beyond the greatest value
SELECT day, namespace, task, task_type, runs,
    if(duration_count = 0, NULL, duration_sum_us / duration_count / 1000) AS duration_avg_ms, ms(duration_p50_us, duration_max_us) AS duration_p50_ms, ms(duration_p95_us, duration_max_us) AS duration_p95_ms, ms(duration_p99_us, duration_max_us) AS duration_p99_ms,
    if(duration_count = 0, NULL, duration_max_us / 1000) AS duration_max_ms,
    if(lateness_count = 0, NULL, lateness_sum_us / lateness_count / 1000) AS lateness_avg_ms, ms(lateness_p50_us, lateness_max_us) AS lateness_p50_ms, ms(lateness_p95_us, lateness_max_us) AS lateness_p95_ms, ms(lateness_p99_us, lateness_max_us) AS lateness_p99_ms,
    if(lateness_count = 0, NULL, lateness_max_us / 1000) AS lateness_max_ms,
    if(waited_count = 0, NULL, waited_sum_us / waited_count / 1000) AS waited_avg_ms, ms(waited_p50_us, waited_max_us) AS waited_p50_ms, ms(waited_p95_us, waited_max_us) AS waited_p95_ms, ms(waited_p99_us, waited_max_us) AS waited_p99_ms,
    if(waited_count = 0, NULL, waited_max_us / 1000) AS waited_max_ms,
    if(queue_count = 0, NULL, queue_sum_us / queue_count / 1000) AS queue_avg_ms, ms(queue_p50_us, queue_max_us) AS queue_p50_ms, ms(queue_p95_us, queue_max_us) AS queue_p95_ms, ms(queue_p99_us, queue_max_us) AS queue_p99_ms,
    if(queue_count = 0, NULL, queue_max_us / 1000) AS queue_max_ms
FROM runs_day FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'how long the runs of each task took, how late they began and what they waited, on each day'
