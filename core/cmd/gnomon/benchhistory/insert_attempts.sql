INSERT INTO attempts (namespace, task, task_type, task_id, run_id, attempt, token, fire_at, started_at, began_at, ended_at, retry_at, outcome, message,
    cpu_us, cpu_source, peak_rss_bytes, rss_source, read_bytes, write_bytes, io_source, server, plugin, plugin_version, pid)
SELECT namespace, task, task_type, task_id, $RUN_ID$, attempt, intDiv(s - first_at, 60) + attempt, fromUnixTimestamp64Micro(us, 'UTC'), fromUnixTimestamp64Micro(started_us, 'UTC'),
    fromUnixTimestamp64Micro(started_us + 200 + id_high % 500, 'UTC'), fromUnixTimestamp64Micro(started_us + duration_us, 'UTC'),
    if(is_last, NULL, fromUnixTimestamp64Micro(started_us + retry_us, 'UTC')), outcome, message,
    used_cpu_us, cpu_source, used_rss_bytes, cpu_source, used_read_bytes, used_write_bytes, cpu_source, server, plugin, plugin_version, pid
FROM ($ATTEMPTS$)
