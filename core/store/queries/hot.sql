-- The statements of the writer's merged transactions: each is prepared once and run for many rows. What they return is
-- integers only.

-- ClaimFire moves a task's mark and counts the run that starts.
-- name: ClaimFire :one
UPDATE task_state
SET next_fire = sqlc.arg(then_fire),
    live      = live + 1,
    queued    = queued + CASE WHEN live > 0 THEN CAST(sqlc.arg(queue_beside) AS BIGINT) ELSE 0 END,
    token     = token + 1
WHERE task_id = sqlc.arg(task_id) AND version = sqlc.arg(version) AND next_fire = sqlc.arg(seen_fire)
RETURNING live, token, last_success;

-- ClaimMark moves a task's mark over fires that are all skipped.
-- name: ClaimMark :one
UPDATE task_state
SET next_fire = sqlc.arg(then_fire)
WHERE task_id = sqlc.arg(task_id) AND version = sqlc.arg(version) AND next_fire = sqlc.arg(seen_fire)
RETURNING live, token, last_success;

-- InsertRun keeps the decision a fire already has.
-- name: InsertRun :execrows
INSERT INTO runs (id, task_id, task_version, namespace, task_name, task_type, trigger_kind, fire_at, fire_through,
                  fire_count, params, state, owner, start_at, attempt, token, decided_at, reason, facts, created_by,
                  ended_at, verdict)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
ON CONFLICT DO NOTHING;

-- ReleaseRun takes a run out of its task's counters.
-- name: ReleaseRun :execrows
UPDATE task_state
SET live = live - 1, queued = queued - CAST(sqlc.arg(was_queued) AS BIGINT)
WHERE task_id = sqlc.arg(task_id);

-- EndRun ends the attempt of the token given, and its run. A run that is cancelled before it began has no started_at.
-- name: EndRun :execrows
UPDATE runs
SET state = 'ended', verdict = $3, message = $4, output = $5, usage = $6, checkpoint = $7,
    started_at = CASE WHEN CAST($8 AS BIGINT) > 0 THEN $8 ELSE started_at END, ended_at = $9
WHERE id = $1 AND token = $2 AND state IN ('claimed', 'running', 'retrying');

-- EndQueued is EndRun for a run that is cancelled while it is queued.
-- name: EndQueued :execrows
UPDATE runs
SET state = 'ended', verdict = $3, message = $4, ended_at = $5
WHERE id = $1 AND token = $2 AND state = 'queued';

-- CountEnd takes an ended run out of its task's counters and keeps what happened last.
-- name: CountEnd :execrows
UPDATE task_state
SET live         = live - 1,
    queued       = queued - CAST(sqlc.arg(was_queued) AS BIGINT),
    last_start   = CASE WHEN last_start < sqlc.arg(started_at) THEN sqlc.arg(started_at) ELSE last_start END,
    last_end     = CASE WHEN last_end < sqlc.arg(ended_at) THEN sqlc.arg(ended_at) ELSE last_end END,
    last_success = CASE WHEN last_success < sqlc.arg(success_at) THEN sqlc.arg(success_at) ELSE last_success END,
    last_outcome = sqlc.arg(outcome)
WHERE task_id = sqlc.arg(task_id);

-- RetryRun ends the attempt of the token given and plans the next, with the task's next token, by the server that says so.
-- name: RetryRun :one
UPDATE runs
SET state = 'retrying', attempt = attempt + 1, message = $3, output = $4, usage = $5, checkpoint = $6, started_at = $7,
    start_at = $8, owner = CASE WHEN CAST($9 AS TEXT) = '' THEN owner ELSE $9 END,
    token = COALESCE((SELECT s.token FROM task_state s WHERE s.task_id = runs.task_id), runs.token) + 1
WHERE runs.id = $1 AND runs.token = $2 AND runs.state IN ('claimed', 'running', 'retrying')
RETURNING runs.token;

-- CountRetry keeps the token that RetryRun gave out.
-- name: CountRetry :execrows
UPDATE task_state
SET token      = token + 1,
    last_start = CASE WHEN last_start < sqlc.arg(started_at) THEN sqlc.arg(started_at) ELSE last_start END
WHERE task_id = sqlc.arg(task_id);

-- MoveMark sets the mark of an @after task, whose next fire is known only when a run has ended.
-- name: MoveMark :execrows
UPDATE task_state SET next_fire = $1 WHERE task_id = $2 AND version = $3;

-- SkipRun ends a run that has not started, if it is in the state given.
-- name: SkipRun :execrows
UPDATE runs
SET state = 'ended', verdict = 'skipped', reason = $4, facts = $5, decided_at = $6, ended_at = $6
WHERE id = $1 AND token = $2 AND state = $3;

-- RunStarted says that an attempt is known to be executing.
-- name: RunStarted :execrows
UPDATE runs SET state = 'running' WHERE id = $1 AND state = 'claimed';

-- ShippedRun forgets an ended run that history has.
-- name: ShippedRun :execrows
DELETE FROM runs WHERE id = $1 AND state = 'ended';

-- InsertTask is used for one task and for a million.
-- name: InsertTask :execrows
INSERT INTO tasks (id, namespace, name, type, enabled, disabled_reason, version, search, doc, created_at, updated_at, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT DO NOTHING;

-- name: InsertTaskState :execrows
INSERT INTO task_state (task_id, version, next_fire, live, queued, token, last_start, last_end, last_success, last_outcome)
VALUES ($1, $2, $3, 0, 0, 0, 0, 0, 0, '')
ON CONFLICT DO NOTHING;
