INSERT INTO task_types (task_type, valid_from, namespace, provider, plugin, provider_version, title_zh, title_en, params_schema, server)
SELECT task_type, toDateTime($EPOCH$, 'UTC'), any(namespace), if(cityHash64(task_type) % 3 = 0, concat('lua:', replaceAll(task_type, '.', '/'), '.lua'), concat('plugin:', lower(any(namespace)))),
    if(cityHash64(task_type) % 3 = 0, '', lower(any(namespace))), if(cityHash64(task_type) % 3 = 0, substring(lower(hex(cityHash64(task_type))), 1, 12), '1.4.0'), any(title), extract(task_type, '[^.]+$'), '{"type":"object"}',
    '0198c0de-1111-7000-8000-000000000001'
FROM bench.tasks
GROUP BY task_type
