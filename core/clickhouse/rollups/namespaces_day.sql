-- Makes some days of some namespaces anew: what runs_day says of their tasks, added up. PREWHERE may come before FINAL
-- because it asks for columns of the key.
INSERT INTO namespaces_day
(
    namespace, day, tasks, fires_started, fires_skipped, skip_reasons, runs, succeeded, failed, timed_out, crashed, lost, cancelled,
    retried, attempts, duration_count, duration_sum_us, duration_max_us, duration_p50_us, duration_p95_us, duration_p99_us,
    duration_hist, lateness_count, lateness_sum_us, lateness_max_us, lateness_p50_us, lateness_p95_us, lateness_p99_us, lateness_hist,
    waited_count, waited_sum_us, waited_max_us, waited_p50_us, waited_p95_us, waited_p99_us, waited_hist, queue_count, queue_sum_us,
    queue_max_us, queue_p50_us, queue_p95_us, queue_p99_us, queue_hist, cpu_us, cpu_shared_us, cpu_unknown, peak_rss_bytes, read_bytes,
    write_bytes, rows_seen, computed_at
)
SELECT * EXCEPT (duration_q, lateness_q, waited_q, queue_q)
FROM
(
    WITH
        -- The middle of the bucket that a share lies in; that may lie beyond the greatest value.
        (hist, most) -> if(empty(hist), [NULL, NULL, NULL], arrayMap(p -> toFloat32(least(pow(2, (mapKeys(hist)[arrayFirstIndex(n -> n > floor(p * arraySum(mapValues(hist))), arrayCumSum(mapValues(hist)))] + 0.5) / 16), toFloat64(most))), [0.5, 0.95, 0.99])) AS q
    SELECT
        namespace, day, count() AS tasks, sum(r.fires_started) AS fires_started, sum(r.fires_skipped) AS fires_skipped, sumMap(r.skip_reasons) AS skip_reasons,
        sum(r.runs) AS runs, sum(r.succeeded) AS succeeded, sum(r.failed) AS failed, sum(r.timed_out) AS timed_out, sum(r.crashed) AS crashed, sum(r.lost) AS lost, sum(r.cancelled) AS cancelled, sum(r.retried) AS retried, sum(r.attempts) AS attempts,
        sum(r.duration_count) AS duration_count, sum(r.duration_sum_us) AS duration_sum_us, max(r.duration_max_us) AS duration_max_us, q(duration_hist, duration_max_us) AS duration_q, duration_q[1] AS duration_p50_us, duration_q[2] AS duration_p95_us, duration_q[3] AS duration_p99_us, sumMap(r.duration_hist) AS duration_hist,
        sum(r.lateness_count) AS lateness_count, sum(r.lateness_sum_us) AS lateness_sum_us, max(r.lateness_max_us) AS lateness_max_us, q(lateness_hist, lateness_max_us) AS lateness_q, lateness_q[1] AS lateness_p50_us, lateness_q[2] AS lateness_p95_us, lateness_q[3] AS lateness_p99_us, sumMap(r.lateness_hist) AS lateness_hist,
        sum(r.waited_count) AS waited_count, sum(r.waited_sum_us) AS waited_sum_us, max(r.waited_max_us) AS waited_max_us, q(waited_hist, waited_max_us) AS waited_q, waited_q[1] AS waited_p50_us, waited_q[2] AS waited_p95_us, waited_q[3] AS waited_p99_us, sumMap(r.waited_hist) AS waited_hist,
        sum(r.queue_count) AS queue_count, sum(r.queue_sum_us) AS queue_sum_us, max(r.queue_max_us) AS queue_max_us, q(queue_hist, queue_max_us) AS queue_q, queue_q[1] AS queue_p50_us, queue_q[2] AS queue_p95_us, queue_q[3] AS queue_p99_us, sumMap(r.queue_hist) AS queue_hist,
        sum(r.cpu_us) AS cpu_us, sum(r.cpu_shared_us) AS cpu_shared_us, sum(r.cpu_unknown) AS cpu_unknown, max(r.peak_rss_bytes) AS peak_rss_bytes, sum(r.read_bytes) AS read_bytes, sum(r.write_bytes) AS write_bytes,
        sum(r.rows_seen) AS rows_seen, now64(6, 'UTC') AS computed_at
    FROM runs_day AS r FINAL
    PREWHERE namespace IN {namespaces:Array(String)} AND day IN {days:Array(Date)}
    GROUP BY namespace, day
)
SETTINGS do_not_merge_across_partitions_select_final = 1
