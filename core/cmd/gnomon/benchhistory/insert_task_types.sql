INSERT INTO task_types (task_type, valid_from, namespace, provider, plugin, provider_version, title_zh, title_en, params_schema, server)
SELECT task_type, toDateTime($EPOCH$, 'UTC'), any(namespace), if(any(worker) != '', concat('lua:', replaceAll(task_type, '.', '/'), '.lua'), concat('plugin:', any(plugin))),
    if(any(worker) != '', '', any(plugin)), if(any(worker) != '', substring(lower(hex(cityHash64(task_type))), 1, 12), any(plugin_version)), any(title), extract(task_type, '[^.]+$'), '{"type":"object"}',
    any(server)
FROM bench.tasks
GROUP BY task_type
