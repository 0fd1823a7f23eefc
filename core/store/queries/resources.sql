-- name: ReadResource :one
SELECT * FROM resources WHERE kind = $1 AND name = $2;

-- name: ResourcesOfKind :many
SELECT * FROM resources WHERE kind = $1 ORDER BY name;

-- HoldResource gives a resource's version and waits for the row's lock; it changes nothing.
-- name: HoldResource :one
UPDATE resources SET version = version WHERE kind = $1 AND name = $2 RETURNING version;

-- name: PutResource :one
INSERT INTO resources (kind, name, version, doc, updated_at, updated_by) VALUES ($1, $2, 1, $3, $4, $5)
ON CONFLICT (kind, name) DO UPDATE SET version = resources.version + 1, doc = excluded.doc, updated_at = excluded.updated_at,
    updated_by = excluded.updated_by
RETURNING version;

-- name: DeleteResource :execrows
DELETE FROM resources WHERE kind = $1 AND name = $2;

-- name: References :many
SELECT r.task_id, t.namespace, t.name AS task_name, r.kind, r.name
FROM task_refs r JOIN tasks t ON t.id = r.task_id
WHERE r.kind = $1 AND r.name = $2 ORDER BY t.namespace, t.name;

-- name: ReferencesOfKind :many
SELECT r.task_id, t.namespace, t.name AS task_name, r.kind, r.name
FROM task_refs r JOIN tasks t ON t.id = r.task_id
WHERE r.kind = $1 ORDER BY r.name, t.namespace, t.name;

-- name: Breakers :many
SELECT * FROM breakers ORDER BY name;

-- name: ProbedBreakers :many
SELECT name, probe_run FROM breakers WHERE probe_run <> '';

-- name: ReadBreaker :one
SELECT * FROM breakers WHERE name = $1;

-- name: ResetBreaker :execrows
UPDATE breakers SET state = 'closed', failures = 0, successes = 0, probe_at = 0, probe_run = '', because = '', updated_at = $2
WHERE name = $1;

-- name: DeleteBreaker :exec
DELETE FROM breakers WHERE name = $1;

-- name: Holdings :many
SELECT h.limit_key, r.namespace, CAST(SUM(h.slots) AS BIGINT) AS slots
FROM holds h JOIN runs r ON r.id = h.run_id
GROUP BY h.limit_key, r.namespace ORDER BY h.limit_key, r.namespace;

-- name: ReadIntervention :one
SELECT * FROM interventions WHERE run_id = $1;

-- name: ResolveIntervention :execrows
UPDATE interventions SET resolved_at = $2, action = $3, note = $4, resolved_by = $5 WHERE run_id = $1 AND resolved_at = 0;

-- name: SetNewRun :exec
UPDATE interventions SET new_run = $2 WHERE run_id = $1;
