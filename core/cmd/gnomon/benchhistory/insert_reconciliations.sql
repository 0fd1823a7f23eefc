INSERT INTO reconciliations (day, namespace, task, task_id, expected, decided, started, skipped, checked_at, server)
SELECT day, namespace, task, task_id, fires_started + fires_skipped AS expected, expected AS decided, fires_started, fires_skipped, toDateTime64(day + 1, 6, 'UTC') + INTERVAL 1 HOUR, (SELECT min(server) FROM servers)
FROM runs_day FINAL
WHERE (day, namespace, task_id) NOT IN (SELECT day, namespace, task_id FROM reconciliations)
