-- name: ReadRun :one
SELECT * FROM runs WHERE id = $1;

-- name: RunOfFire :one
SELECT * FROM runs WHERE task_id = $1 AND fire_at = $2 AND series = $3;

-- name: EndedRuns :many
SELECT * FROM runs WHERE state = 'ended' AND id > sqlc.arg(after_id) ORDER BY id LIMIT sqlc.arg(max_rows);

-- LiveRuns, as all lists of live runs, goes by an expression, so that the index runs_live is read and not the whole table.
-- name: LiveRuns :many
SELECT * FROM runs WHERE state <> 'ended' AND owner = $1 ORDER BY id || '';

-- name: LiveRunsOfTask :many
SELECT id, state, gate, gate_key, fire_at, start_at, trigger_kind FROM runs WHERE state <> 'ended' AND task_id = $1 ORDER BY id;

-- name: OwnsLiveRuns :one
SELECT EXISTS (SELECT 1 FROM runs WHERE state <> 'ended' AND owner = $1);

-- OrphanRuns are live runs of servers that are not alive.
-- name: OrphanRuns :many
SELECT * FROM runs
WHERE runs.state <> 'ended' AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = runs.owner)
ORDER BY runs.id || '' LIMIT sqlc.arg(max_rows);

-- AdoptRun takes a run that has certainly not started from an owner that is not alive.
-- name: AdoptRun :execrows
UPDATE runs SET owner = sqlc.arg(new_owner), token = sqlc.arg(new_token)
WHERE runs.id = sqlc.arg(id) AND runs.token = sqlc.arg(token) AND runs.state IN ('queued', 'waiting', 'retrying')
  AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = runs.owner);

-- ResumeRun takes a run whose attempt may have started: the same attempt is due again.
-- name: ResumeRun :execrows
UPDATE runs
SET state = 'retrying', owner = sqlc.arg(new_owner), token = sqlc.arg(new_token), gate = '', gate_key = '', wait_since = 0, wait_until = 0
WHERE runs.id = sqlc.arg(id) AND runs.token = sqlc.arg(token) AND runs.state IN ('claimed', 'running')
  AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = runs.owner);

-- name: RaiseToken :execrows
UPDATE task_state SET token = $2 WHERE task_id = $1;

-- CountRuns counts new runs, and keeps the newest token they have.
-- name: CountRuns :exec
UPDATE task_state
SET token = $2, live = live + CAST(sqlc.arg(more) AS BIGINT), queued = queued + CAST(sqlc.arg(more_queued) AS BIGINT)
WHERE task_id = $1;

-- StopRun asks a live run to stop, unless it was asked as strongly before.
-- name: StopRun :execrows
UPDATE runs SET stop = sqlc.arg(how), stop_by = sqlc.arg(stop_by)
WHERE id = sqlc.arg(id) AND state <> 'ended'
  AND CASE stop WHEN '' THEN 0 WHEN 'supersede' THEN 1 WHEN 'cancel' THEN 2 ELSE 3 END < CAST(sqlc.arg(strength) AS BIGINT);

-- name: StopRequests :many
SELECT id, stop, stop_by FROM runs WHERE stop <> '' AND state <> 'ended' AND owner = $1 ORDER BY id;

-- name: BreachesOfRun :one
SELECT state, breaches FROM runs WHERE id = $1;

-- name: SetBreaches :exec
UPDATE runs SET breaches = $2 WHERE id = $1;

-- AnythingHeld says whether there is anything at all that the end of a run could free.
-- name: AnythingHeld :one
SELECT EXISTS (SELECT 1 FROM holds) OR EXISTS (SELECT 1 FROM breakers WHERE probe_run <> '');
