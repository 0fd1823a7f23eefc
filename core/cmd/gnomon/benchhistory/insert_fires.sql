INSERT INTO fires (namespace, task, task_type, task_id, task_version, run_id, fire_at, fire_through, fire_count, trigger, decision, reason, facts, decided_at, server, created_by)
SELECT namespace, task, task_type, task_id, 1 + (s >= changed_at), $RUN_ID$, fromUnixTimestamp64Micro(us, 'UTC'), fromUnixTimestamp64Micro(us, 'UTC'), 1, 'schedule',
    if(started, 'started', 'skipped'), reason, '', fromUnixTimestamp64Micro(us - 1000000 + h % 900000, 'UTC'), server, 'gnomon'
FROM ($FACTS$)
