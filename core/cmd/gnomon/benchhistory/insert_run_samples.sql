INSERT INTO run_samples (namespace, task, task_type, task_id, run_id, attempt, fire_at, at, cpu_us, cpu_source, rss_bytes, rss_source, read_bytes, write_bytes, io_source, final)
SELECT namespace, task, task_type, task_id, $RUN_ID$, attempt, fromUnixTimestamp64Micro(us, 'UTC'), fromUnixTimestamp64Micro(started_us + taken_us, 'UTC'),
    (used_cpu_us * part) :: UInt64, cpu_source, (used_rss_bytes * if(final, 1, 0.6 + 0.4 * part)) :: UInt64, cpu_source, (used_read_bytes * part) :: UInt64, (used_write_bytes * part) :: UInt64, cpu_source, final
FROM
(
    SELECT *, reading = readings AS final, if(final, duration_us, reading * every_us) AS taken_us, taken_us / greatest(1, duration_us) AS part
    FROM
    (
        -- one a second; of an attempt longer than a minute sixty, evenly
        SELECT *, greatest(1000000, intDiv(duration_us, 60)) AS every_us, intDiv(duration_us, every_us) + 1 AS readings
        FROM ($ATTEMPTS$)
    )
    ARRAY JOIN range(1, readings + 1) AS reading
)
