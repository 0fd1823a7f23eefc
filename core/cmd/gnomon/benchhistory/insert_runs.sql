INSERT INTO runs (namespace, task, task_type, task_id, task_version, run_id, trigger, outcome, message, fire_at, decided_at, started_at, ended_at, attempts, token, params, output,
    cpu_us, cpu_source, peak_rss_bytes, rss_source, read_bytes, write_bytes, io_source, server, created_by)
SELECT namespace, task, task_type, task_id, 1 + (s >= changed_at), $RUN_ID$, 'schedule', outcome, message, fromUnixTimestamp64Micro(us, 'UTC'),
    fromUnixTimestamp64Micro(us - 1000000 + h % 900000, 'UTC'), fromUnixTimestamp64Micro(started_us, 'UTC'), fromUnixTimestamp64Micro(started_us + duration_us, 'UTC'), tries,
    intDiv(s - first_at, 60) + tries, params, if(has_output AND outcome = 'succeeded', concat('{"rows":', toString(id_low % 5000), '}'), ''),
    used_cpu_us, cpu_source, used_rss_bytes, cpu_source, used_read_bytes, used_write_bytes, cpu_source, server, 'gnomon'
FROM ($ATTEMPTS$)
WHERE is_last
