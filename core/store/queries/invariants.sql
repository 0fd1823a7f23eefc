-- What must hold between two transactions. Each query gives what breaks it.

-- name: DriftedCounters :many
SELECT s.task_id, s.live, s.queued, s.token, CAST(COALESCE(r.live, 0) AS BIGINT) AS live_rows,
       CAST(COALESCE(r.queued, 0) AS BIGINT) AS queued_rows, CAST(COALESCE(r.token, 0) AS BIGINT) AS newest_token
FROM task_state s
LEFT JOIN (
    SELECT task_id, COUNT(*) AS live, SUM(CASE WHEN state IN ('queued', 'waiting') THEN 1 ELSE 0 END) AS queued, MAX(token) AS token
    FROM runs WHERE state <> 'ended' GROUP BY task_id
) r ON r.task_id = s.task_id
WHERE s.live <> COALESCE(r.live, 0) OR s.queued <> COALESCE(r.queued, 0) OR s.token < COALESCE(r.token, 0)
ORDER BY s.task_id LIMIT $1;

-- name: UnownedRuns :many
SELECT runs.id, task_id, state, owner FROM runs
WHERE state <> 'ended' AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = runs.owner)
ORDER BY runs.id || '' LIMIT $1;

-- name: UnpairedTasks :many
SELECT t.id, t.version, CAST(COALESCE(s.version, 0) AS BIGINT) AS state_version
FROM tasks t LEFT JOIN task_state s ON s.task_id = t.id
WHERE s.version IS NULL OR s.version <> t.version
ORDER BY t.id LIMIT $1;

-- name: UnpairedStates :many
SELECT s.task_id FROM task_state s LEFT JOIN tasks t ON t.id = s.task_id
WHERE t.id IS NULL ORDER BY s.task_id LIMIT $1;

-- name: MarkedDisabled :many
SELECT t.id FROM tasks t JOIN task_state s ON s.task_id = t.id
WHERE s.next_fire <> 0 AND NOT t.enabled ORDER BY t.id LIMIT $1;

-- name: UnsaidEnds :many
SELECT id, task_id, state, verdict FROM runs
WHERE (state = 'ended' AND verdict = '') OR (state <> 'ended' AND verdict <> '')
ORDER BY id LIMIT $1;

-- name: MisheldSlots :many
SELECT h.limit_key, h.run_id, h.slots, COALESCE(r.task_id, '') AS task_id, COALESCE(r.state, '') AS state
FROM holds h LEFT JOIN runs r ON r.id = h.run_id
WHERE r.id IS NULL OR r.state NOT IN ('claimed', 'running') OR h.slots <= 0
ORDER BY h.limit_key, h.run_id LIMIT $1;

-- name: GatelessWaiters :many
SELECT id, task_id FROM runs WHERE state = 'waiting' AND gate = '' ORDER BY id LIMIT $1;

-- name: StuckBreakers :many
SELECT b.name, b.probe_run FROM breakers b
WHERE b.state = 'half_open' AND b.probe_run <> ''
  AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = b.probe_run AND r.state IN ('claimed', 'running'))
ORDER BY b.name LIMIT $1;

-- name: BadCounts :many
SELECT task_id, fired, failures FROM task_state WHERE fired < 0 OR failures < 0 ORDER BY task_id LIMIT $1;

-- name: StrayTaskRefs :many
SELECT r.task_id, r.kind, r.name FROM task_refs r
WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = r.task_id)
ORDER BY r.task_id, r.kind, r.name LIMIT $1;
