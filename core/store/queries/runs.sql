-- name: ReadRun :one
SELECT * FROM runs WHERE id = $1;

-- name: EndedRuns :many
SELECT * FROM runs WHERE state = 'ended' AND id > sqlc.arg(after_id) ORDER BY id LIMIT sqlc.arg(max_rows);

-- name: LiveRuns :many
SELECT * FROM runs WHERE state <> 'ended' AND owner = $1 ORDER BY id;

-- name: LiveRunOfTask :one
SELECT id FROM runs WHERE state <> 'ended' AND task_id = $1 ORDER BY id LIMIT 1;

-- name: OwnsLiveRuns :one
SELECT EXISTS (SELECT 1 FROM runs WHERE state <> 'ended' AND owner = $1);

-- OrphanRuns are live runs of servers that are not alive.
-- name: OrphanRuns :many
SELECT * FROM runs
WHERE runs.state <> 'ended' AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = runs.owner)
ORDER BY runs.id LIMIT sqlc.arg(max_rows);

-- name: Standing :one
SELECT state, token FROM runs WHERE id = $1;

-- StartRun: a queued run is decided by its start, a retrying one was decided before.
-- name: StartRun :execrows
UPDATE runs
SET state = 'claimed', owner = sqlc.arg(owner), start_at = sqlc.arg(start_at), token = sqlc.arg(new_token),
    decided_at = CASE WHEN state = 'queued' THEN sqlc.arg(start_at) ELSE decided_at END
WHERE id = sqlc.arg(id) AND token = sqlc.arg(token) AND state IN ('queued', 'retrying');

-- name: CountStart :exec
UPDATE task_state SET token = $2, queued = queued - CAST(sqlc.arg(was_queued) AS BIGINT) WHERE task_id = $1;

-- AdoptRun takes a run that has certainly not started from an owner that is not alive.
-- name: AdoptRun :execrows
UPDATE runs SET owner = sqlc.arg(new_owner), token = sqlc.arg(new_token)
WHERE runs.id = sqlc.arg(id) AND runs.token = sqlc.arg(token) AND runs.state IN ('queued', 'retrying')
  AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = runs.owner);

-- name: RunTask :one
SELECT task_id FROM runs WHERE id = $1;

-- name: RaiseToken :execrows
UPDATE task_state SET token = $2 WHERE task_id = $1;

-- name: CountManual :exec
UPDATE task_state SET token = $2, live = live + 1, queued = queued + CAST(sqlc.arg(queue) AS BIGINT) WHERE task_id = $1;
