-- Makes the hours of some days of some namespaces anew: what their runs and attempts say, each row once. PREWHERE may
-- come before FINAL because a row that was sent twice has the values of the first.
INSERT INTO runs_hour
(
    namespace, task_type, hour, runs, succeeded, failed, timed_out, crashed, lost, cancelled, retried, attempts, duration_sum_us,
    duration_max_us, duration_p50_us, duration_p95_us, duration_p99_us, duration_hist, lateness_sum_us, lateness_max_us, lateness_p50_us,
    lateness_p95_us, lateness_p99_us, lateness_hist, waited_sum_us, waited_max_us, waited_p50_us, waited_p95_us, waited_p99_us, waited_hist,
    queue_sum_us, queue_max_us, queue_p50_us, queue_p95_us, queue_p99_us, queue_hist, cpu_us, cpu_shared_us, cpu_unknown, peak_rss_bytes,
    read_bytes, write_bytes, rows_seen, computed_at
)
SELECT * EXCEPT (duration_q, lateness_q, waited_q, queue_q)
FROM
(
    SELECT
        namespace, task_type, hour,
        countIf(outcome != '') AS runs, countIf(outcome = 'succeeded') AS succeeded, countIf(outcome = 'failed') AS failed, countIf(outcome = 'timed_out') AS timed_out,
        countIf(outcome = 'crashed') AS crashed, countIf(outcome = 'lost') AS lost, countIf(outcome = 'cancelled') AS cancelled, countIf(tries > 1) AS retried, sum(tries) AS attempts,
        -- duration
        sum(toUInt64(greatest(ifNull(duration, 0), 0))) AS duration_sum_us, max(toUInt64(greatest(ifNull(duration, 0), 0))) AS duration_max_us,
        if(count(duration) = 0, [NULL, NULL, NULL], quantilesExact(0.5, 0.95, 0.99)(toFloat32(duration))) AS duration_q, duration_q[1] AS duration_p50_us, duration_q[2] AS duration_p95_us, duration_q[3] AS duration_p99_us,
        CAST(sumMapIf([toUInt16(floor(log2(greatest(ifNull(duration, 1), 1)) * 16))], [toUInt32(1)], duration IS NOT NULL), 'Map(UInt16, UInt32)') AS duration_hist,
        -- lateness
        sum(toUInt64(greatest(ifNull(lateness, 0), 0))) AS lateness_sum_us, max(toUInt64(greatest(ifNull(lateness, 0), 0))) AS lateness_max_us,
        if(count(lateness) = 0, [NULL, NULL, NULL], quantilesExact(0.5, 0.95, 0.99)(toFloat32(lateness))) AS lateness_q, lateness_q[1] AS lateness_p50_us, lateness_q[2] AS lateness_p95_us, lateness_q[3] AS lateness_p99_us,
        CAST(sumMapIf([toUInt16(floor(log2(greatest(ifNull(lateness, 1), 1)) * 16))], [toUInt32(1)], lateness IS NOT NULL), 'Map(UInt16, UInt32)') AS lateness_hist,
        -- waited
        sum(toUInt64(greatest(ifNull(waited, 0), 0))) AS waited_sum_us, max(toUInt64(greatest(ifNull(waited, 0), 0))) AS waited_max_us,
        if(count(waited) = 0, [NULL, NULL, NULL], quantilesExact(0.5, 0.95, 0.99)(toFloat32(waited))) AS waited_q, waited_q[1] AS waited_p50_us, waited_q[2] AS waited_p95_us, waited_q[3] AS waited_p99_us,
        CAST(sumMapIf([toUInt16(floor(log2(greatest(ifNull(waited, 1), 1)) * 16))], [toUInt32(1)], waited IS NOT NULL), 'Map(UInt16, UInt32)') AS waited_hist,
        -- queue
        sum(toUInt64(greatest(ifNull(queue, 0), 0))) AS queue_sum_us, max(toUInt64(greatest(ifNull(queue, 0), 0))) AS queue_max_us,
        if(count(queue) = 0, [NULL, NULL, NULL], quantilesExact(0.5, 0.95, 0.99)(toFloat32(queue))) AS queue_q, queue_q[1] AS queue_p50_us, queue_q[2] AS queue_p95_us, queue_q[3] AS queue_p99_us,
        CAST(sumMapIf([toUInt16(floor(log2(greatest(ifNull(queue, 1), 1)) * 16))], [toUInt32(1)], queue IS NOT NULL), 'Map(UInt16, UInt32)') AS queue_hist,
        sumIf(t.cpu_us, cpu_source != 'unknown') AS cpu_us, sumIf(t.cpu_us, cpu_source = 'shared') AS cpu_shared_us, countIf(cpu_source = 'unknown') AS cpu_unknown,
        maxIf(t.peak_rss_bytes, rss_source != 'unknown') AS peak_rss_bytes, sumIf(t.read_bytes, io_source != 'unknown') AS read_bytes, sumIf(t.write_bytes, io_source != 'unknown') AS write_bytes,
        count() AS rows_seen, now64(6, 'UTC') AS computed_at
    FROM
    (
        SELECT namespace, task_type, toStartOfHour(fire_at) AS hour, fire_at, run_id, task_version, toString(outcome) AS outcome, ended_at, toUInt64(attempts) AS tries,
            dateDiff('microsecond', started_at, ended_at) AS duration,
            if(attempts <= 1 AND trigger NOT IN ('backfill', 'retry'), dateDiff('microsecond', fire_at, started_at), NULL) AS lateness,
            if(attempts <= 1, dateDiff('microsecond', wait_since, coalesce(started_at, ended_at)), NULL) AS waited,
            NULL AS queue, cpu_us, cpu_source, peak_rss_bytes, rss_source, read_bytes, write_bytes, io_source, '' AS decision, '' AS reason, toUInt64(0) AS fire_count
        FROM runs FINAL
        PREWHERE namespace IN {namespaces:Array(String)} AND fire_at >= {from:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} AND toDate(fire_at) IN {days:Array(Date)}
        UNION ALL
        -- The last attempt's usage is in its run; one with a planned retry may be the last all the same, if the run was stopped meanwhile.
        SELECT namespace, task_type, toStartOfHour(fire_at) AS hour, fire_at, run_id, 0, '', ended_at, 0, NULL, NULL, NULL, dateDiff('microsecond', started_at, began_at),
            if(earlier, cpu_us, 0), if(earlier, cpu_source, ''), if(earlier, peak_rss_bytes, 0), rss_source, if(earlier, read_bytes, 0), if(earlier, write_bytes, 0), io_source, '', '', 0
        FROM
        (
            SELECT *, retry_at IS NOT NULL AND (run_id, attempt) NOT IN
            (
                SELECT run_id, attempts FROM runs FINAL
                PREWHERE namespace IN {namespaces:Array(String)} AND fire_at >= {from:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} AND toDate(fire_at) IN {days:Array(Date)}
                    AND (outcome != 'succeeded' OR attempts > 1)
            ) AS earlier
            FROM attempts FINAL
            PREWHERE namespace IN {namespaces:Array(String)} AND fire_at >= {from:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} AND toDate(fire_at) IN {days:Array(Date)}
        )
    ) AS t
    GROUP BY namespace, task_type, hour
)
SETTINGS do_not_merge_across_partitions_select_final = 1, use_skip_indexes_if_final = 1
