INSERT INTO tasks (task_id, task_version, namespace, task, task_type, schedule, zone, enabled, owner, category, description, labels, params, policies, created_at, valid_from, changed_by)
SELECT task_id, version, namespace, task, task_type, spec, 'Asia/Shanghai', true, ['wang', 'li', 'zhao', 'chen'][1 + (number + version) % 4], ['sync', 'message', 'check', 'report'][1 + number % 4], title,
    map('site', toString(number % 300)), params, concat('{"max_attempts":', toString(max_attempts), '}'), toDateTime($EPOCH$, 'UTC'), if(version = 1, toDateTime($EPOCH$, 'UTC'), toDateTime(changed_at, 'UTC')), 'admin'
FROM bench.tasks
ARRAY JOIN if(changed_at < $TO$, [1, 2], [1]) AS version
