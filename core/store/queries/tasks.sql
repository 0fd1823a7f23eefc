-- name: PutNamespace :exec
INSERT INTO namespaces (name, title, description, created_at, doc) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET title = excluded.title, description = excluded.description, doc = excluded.doc;

-- name: ReadNamespace :one
SELECT name, title, description, created_at, doc FROM namespaces WHERE name = $1;

-- name: Namespaces :many
SELECT name, title, description, created_at, doc FROM namespaces ORDER BY name;

-- name: DeleteNamespace :execrows
DELETE FROM namespaces WHERE name = $1;

-- name: TaskOfNamespace :one
SELECT name FROM tasks WHERE namespace = $1 ORDER BY name LIMIT 1;

-- name: TaskIDByName :one
SELECT id FROM tasks WHERE namespace = $1 AND name = $2;

-- name: StoredTask :one
SELECT t.version, t.type, t.enabled, t.doc, s.next_fire FROM tasks t JOIN task_state s ON s.task_id = t.id WHERE t.id = $1;

-- name: UpdateTask :execrows
UPDATE tasks
SET namespace = $3, name = $4, type = $5, enabled = $6, disabled_reason = $7, version = version + 1, search = $8, doc = $9,
    updated_at = $10, updated_by = $11
WHERE id = $1 AND version = $2;

-- name: DisableTask :execrows
UPDATE tasks
SET enabled = FALSE, disabled_reason = $2, version = version + 1, updated_at = $3, updated_by = 'gnomon'
WHERE id = $1 AND enabled;

-- KeepVersion copies the current version before it is changed or deleted.
-- name: KeepVersion :exec
INSERT INTO task_versions (task_id, version, namespace, name, type, enabled, disabled_reason, doc, created_at, updated_at, updated_by)
SELECT id, version, namespace, name, type, enabled, disabled_reason, doc, created_at, updated_at, updated_by
FROM tasks WHERE id = $1
ON CONFLICT DO NOTHING;

-- FollowVersion brings the state of a changed task to its version and sets the mark anew. A task that is enabled again
-- has its failures behind it.
-- name: FollowVersion :exec
UPDATE task_state
SET version = (SELECT t.version FROM tasks t WHERE t.id = task_state.task_id), next_fire = sqlc.arg(next_fire),
    failures = failures * CAST(sqlc.arg(keep_failures) AS BIGINT)
WHERE task_state.task_id = sqlc.arg(task_id);

-- name: DeleteTask :execrows
DELETE FROM tasks WHERE id = $1;

-- name: DeleteTaskState :execrows
DELETE FROM task_state WHERE task_id = $1;

-- name: TaskVersions :many
SELECT task_id, version, namespace, name, type, enabled, disabled_reason, doc, created_at, updated_at, updated_by
FROM task_versions WHERE task_id = $1 ORDER BY version DESC;

-- Due is answered by the index task_state_due alone; next_fire <> 0 is what names that index.
-- name: Due :many
SELECT task_id, version, next_fire FROM task_state
WHERE next_fire <> 0 AND next_fire >= sqlc.arg(after_fire) AND next_fire <= sqlc.arg(until)
  AND (next_fire > sqlc.arg(after_fire) OR task_id > sqlc.arg(after_id))
ORDER BY next_fire, task_id
LIMIT sqlc.arg(max_rows);

-- name: TaskCounters :one
SELECT live, queued, token, last_success FROM task_state WHERE task_id = $1;

-- name: DeleteTaskRefs :exec
DELETE FROM task_refs WHERE task_id = $1;

-- DeleteOtherTaskRefs leaves the references to steps and those of preconditions.
-- name: DeleteOtherTaskRefs :exec
DELETE FROM task_refs WHERE task_id = $1 AND kind NOT IN ('step', 'asked_task', 'asked_calendar');
