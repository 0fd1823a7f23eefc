-- Every fire of a stretch of time and all that becomes of it, drawn from hashes of (seed, task, instant): the same in
-- whichever table it is asked for. $…$ are set by benchhistory.go.
SELECT *,
    multiIf(NOT ok, multiIf(u_kind < 0.72, 'failed', u_kind < 0.90, 'timed_out', u_kind < 0.95, 'crashed', u_kind < 0.98, 'cancelled', 'lost'), 'succeeded') AS end_as,
    started_first_us + (tries - 1) * retry_us AS started_last_us
FROM
(
    SELECT *,
        reason = '' AS started,
        u_fail >= p_fail AS first_ok,
        -- the first attempt that succeeds, by one draw: attempts succeed independently with the probability p_mend
        multiIf(first_ok, 1, max_attempts = 1, 1, least(max_attempts, 2 + floor(log(greatest(u_mend, 1e-9)) / log(1 - p_mend)))) :: UInt16 AS tries,
        first_ok OR (max_attempts > 1 AND 2 + floor(log(greatest(u_mend, 1e-9)) / log(1 - p_mend)) <= max_attempts) AS ok,
        (median_us * exp(sigma * sqrt(-2 * log(greatest(u_z1, 1e-9))) * cos(6.283185307 * u_z2)) * slowed) :: Int64 AS last_us,
        (least(median_us * slowed * 0.6, 3e8) + 3e7) :: Int64 AS retry_us,
        us + lateness_us AS started_first_us
    FROM
    (
        SELECT *,
            toInt64(s) * 1000000 AS us,
            intHash64(h + 1) / 18446744073709551616. AS u_fail, intHash64(h + 2) / 18446744073709551616. AS u_mend, intHash64(h + 3) / 18446744073709551616. AS u_z1,
            intHash64(h + 4) / 18446744073709551616. AS u_z2, intHash64(h + 5) / 18446744073709551616. AS u_kind, intHash64(h + 6) / 18446744073709551616. AS u_skip,
            intHash64(h + 7) / 18446744073709551616. AS u_late, intHash64(h + 8) / 18446744073709551616. AS u_use,
            intHash64(h + 9) AS id_high, intHash64(h + 10) AS id_low,
            $OUTAGE$ AS in_outage,
            if(in_outage, 0.9, fail_p) AS p_fail,
            if(in_outage, 0.15, 0.7) AS p_mend,
            if(s >= regressed_at, regressed_by, 1) * if(toHour(toDateTime(s, 'Asia/Shanghai')) BETWEEN 8 AND 18, 1.25, 1) AS slowed,
            multiIf($DOWN$, 'catch_up', workdays AND toDayOfWeek(toDateTime(s, 'Asia/Shanghai')) >= 6, 'calendar', in_outage AND u_skip < 0.5, 'breaker', u_skip > 1 - overlap_p, 'overlap', '') AS reason,
            -- 0.3 ms in the middle, 3 ms at the 99th percentile, seconds for one in ten thousand
            (200 + 100 / pow(greatest(1 - u_late, 1e-6), 0.75)) :: Int64 AS lateness_us
        FROM
        (
            SELECT *, s, cityHash64($SEED$, number, s) AS h
            FROM
            (
                SELECT *, if(months = 0,
                    arrayMap(k -> first_at + toUInt32(k * period_s), range(toUInt64(greatest(0, intDiv(toInt64($FROM$) - first_at + period_s - 1, period_s))), toUInt64(greatest(0, intDiv(toInt64($TO$) - first_at + period_s - 1, period_s))))),
                    arrayFilter(x -> x >= $FROM$ AND x < $TO$, arrayMap(m -> toUnixTimestamp(addMonths(toDateTime(first_at, 'UTC'), m * months)), range(36)))) AS instants
                FROM bench.tasks
                ORDER BY namespace, task
            )
            ARRAY JOIN instants AS s
        )
    )
)
