-- The statements of the writer's merged transactions: each is prepared once and run for many rows. What they return is
-- integers only. States are compared one by one: for IN with three of them SQLite makes a table in each statement (sqlite3FindInIndex).

-- ClaimFire moves a task's mark and counts the runs that start; they are queued if the task had more live runs than
-- queue_above.
-- name: ClaimFire :one
UPDATE task_state
SET next_fire = sqlc.arg(then_fire),
    live      = live + CAST(sqlc.arg(starts) AS BIGINT),
    queued    = queued + CASE WHEN live > CAST(sqlc.arg(queue_above) AS BIGINT) THEN CAST(sqlc.arg(starts) AS BIGINT) ELSE 0 END,
    token     = token + CAST(sqlc.arg(starts) AS BIGINT),
    fired     = fired + CAST(sqlc.arg(starts) AS BIGINT)
WHERE task_id = sqlc.arg(task_id) AND version = sqlc.arg(version) AND next_fire = sqlc.arg(seen_fire)
RETURNING live, token, last_success, fired;

-- ClaimMark moves a task's mark over fires that are all skipped.
-- name: ClaimMark :one
UPDATE task_state
SET next_fire = sqlc.arg(then_fire)
WHERE task_id = sqlc.arg(task_id) AND version = sqlc.arg(version) AND next_fire = sqlc.arg(seen_fire)
RETURNING live, token, last_success, fired;

-- InsertRun keeps the decision a fire already has.
-- name: InsertRun :execrows
INSERT INTO runs (id, task_id, task_version, namespace, task_name, task_type, trigger_kind, fire_at, fire_through,
                  fire_count, params, state, owner, start_at, attempt, token, decided_at, reason, facts, created_by,
                  ended_at, verdict)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
ON CONFLICT DO NOTHING;

-- InsertRunOf is InsertRun for a run that is more than a fire of a plain schedule; the others are spared its values.
-- name: InsertRunOf :execrows
INSERT INTO runs (id, task_id, task_version, namespace, task_name, task_type, trigger_kind, fire_at, fire_through,
                  fire_count, params, state, owner, start_at, attempt, token, decided_at, reason, facts, created_by,
                  ended_at, verdict, series, moved_from, priority, overlap, workflow_id, step, caused_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
        $26, $27, $28, $29)
ON CONFLICT DO NOTHING;

-- ReleaseRun takes a run out of its task's counters; what its schedule has not fired after all is fired no more.
-- name: ReleaseRun :execrows
UPDATE task_state
SET live = live - 1, queued = queued - CAST(sqlc.arg(was_queued) AS BIGINT), fired = fired - CAST(sqlc.arg(not_fired) AS BIGINT)
WHERE task_id = sqlc.arg(task_id);

-- EndRun ends the attempt of the token given, and its run. A run that is cancelled before it began has no started_at.
-- name: EndRun :execrows
UPDATE runs
SET state = 'ended', verdict = $3, message = $4, output = $5, usage = $6, checkpoint = $7,
    started_at = CASE WHEN CAST($8 AS BIGINT) > 0 THEN $8 ELSE started_at END, ended_at = $9
WHERE id = $1 AND token = $2 AND (state = 'claimed' OR state = 'running' OR state = 'retrying');

-- EndQueued is EndRun for a run that ends while it is queued or waits.
-- name: EndQueued :execrows
UPDATE runs
SET state = 'ended', verdict = $3, message = $4, ended_at = $5, wait_until = 0
WHERE id = $1 AND token = $2 AND state IN ('queued', 'waiting');

-- CountEnd takes an ended run out of its task's counters and keeps what happened last.
-- name: CountEnd :execrows
UPDATE task_state
SET live         = live - 1,
    queued       = queued - CAST(sqlc.arg(was_queued) AS BIGINT),
    last_start   = CASE WHEN last_start < sqlc.arg(started_at) THEN sqlc.arg(started_at) ELSE last_start END,
    last_end     = CASE WHEN last_end < sqlc.arg(ended_at) THEN sqlc.arg(ended_at) ELSE last_end END,
    last_success = CASE WHEN last_success < sqlc.arg(success_at) THEN sqlc.arg(success_at) ELSE last_success END,
    last_outcome = sqlc.arg(outcome),
    failures     = CASE WHEN sqlc.arg(success_at) > 0 THEN 0 ELSE failures + CAST(sqlc.arg(more_failures) AS BIGINT) END
WHERE task_id = sqlc.arg(task_id);

-- RetryRun ends the attempt of the token given and plans the next, with the task's next token, by the server that says
-- so. What the old attempt waited for is over, and that another run was to take its place; a request to stop stays until the run ends.
-- name: RetryRun :one
UPDATE runs
SET state = 'retrying', attempt = attempt + 1, message = $3, output = $4, usage = $5, checkpoint = $6, started_at = $7,
    start_at = $8, owner = CASE WHEN CAST($9 AS TEXT) = '' THEN owner ELSE $9 END,
    gate = '', gate_key = '', wait_since = 0, wait_until = 0,
    stop = CASE WHEN stop = 'supersede' THEN '' ELSE stop END, stop_by = CASE WHEN stop = 'supersede' THEN '' ELSE stop_by END,
    token = COALESCE((SELECT s.token FROM task_state s WHERE s.task_id = runs.task_id), runs.token) + 1
WHERE runs.id = $1 AND runs.token = $2 AND (runs.state = 'claimed' OR runs.state = 'running' OR runs.state = 'retrying')
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

-- SkipRun ends a run that has not started, if it is in one of the states given, and names the server that has decided so.
-- It gives 1 if the schedule had counted it as fired.
-- name: SkipRun :one
UPDATE runs
SET state = 'ended', verdict = 'skipped', reason = $5, facts = $6, decided_at = $7, ended_at = $7, wait_until = 0,
    owner = CASE WHEN CAST($8 AS TEXT) = '' THEN owner ELSE $8 END
WHERE id = $1 AND token = $2 AND state IN ($3, $4)
RETURNING CASE WHEN trigger_kind IN ('schedule', 'catch_up') AND started_at = 0 THEN 1 ELSE 0 END AS was_fired;

-- RunStarted says that the attempt of the token given is known to be executing, and since when.
-- name: RunStarted :execrows
UPDATE runs SET state = 'running', started_at = $3 WHERE id = $1 AND token = $2 AND state = 'claimed';

-- ShippedRun forgets an ended run that history has.
-- name: ShippedRun :execrows
DELETE FROM runs WHERE id = $1 AND state = 'ended';

-- HoldRun has a run wait at a gate, or wait on, and notes how that stands. One that is retried stays so.
-- name: HoldRun :execrows
UPDATE runs
SET state = CASE WHEN state = 'retrying' THEN state ELSE 'waiting' END, gate = $3, gate_key = $4,
    wait_since = CASE WHEN wait_since = 0 THEN CAST($5 AS BIGINT) ELSE wait_since END, wait_until = $6,
    facts = $7
WHERE id = $1 AND token = $2 AND (state = 'queued' OR state = 'waiting' OR state = 'retrying');

-- AdmitRun makes a run claimed. A queued or waiting one is decided by this, a retrying one was decided before.
-- name: AdmitRun :execrows
UPDATE runs
SET state = 'claimed', owner = $3, start_at = $4, token = $5, wait_until = 0,
    decided_at = CASE WHEN state = 'retrying' THEN decided_at ELSE CAST($4 AS BIGINT) END
WHERE id = $1 AND token = $2 AND (state = 'queued' OR state = 'waiting' OR state = 'retrying');

-- CountAdmit keeps the token that an admission gave out.
-- name: CountAdmit :execrows
UPDATE task_state SET token = $2, queued = queued - CAST(sqlc.arg(was_queued) AS BIGINT) WHERE task_id = $1;

-- TakeSlots is what a run holds of a limit while it executes; a limit that it names twice is held for both.
-- name: TakeSlots :execrows
INSERT INTO holds (limit_key, run_id, slots) VALUES ($1, $2, $3)
ON CONFLICT (limit_key, run_id) DO UPDATE SET slots = holds.slots + excluded.slots;

-- FreeSlots gives back what a run holds.
-- name: FreeSlots :execrows
DELETE FROM holds WHERE run_id = $1;

-- name: PutBreaker :execrows
INSERT INTO breakers (name, state, failures, successes, opened_at, probe_at, probe_run, because, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (name) DO UPDATE SET state = excluded.state, failures = excluded.failures, successes = excluded.successes,
    opened_at = excluded.opened_at, probe_at = excluded.probe_at, probe_run = excluded.probe_run, because = excluded.because,
    updated_at = excluded.updated_at;

-- CountCaused counts a queued run that the end of another causes, if its task is there and enabled: an edit since the causer
-- saw it does not lose the run.
-- name: CountCaused :one
UPDATE task_state
SET live = live + 1, queued = queued + 1, token = token + 1
WHERE task_state.task_id = $1
  AND EXISTS (SELECT 1 FROM tasks t WHERE t.id = task_state.task_id AND t.enabled)
RETURNING token, last_success;

-- Intervene puts an ended run before a person.
-- name: Intervene :execrows
INSERT INTO interventions (run_id, task_id, namespace, task_name, task_type, fire_at, params, verdict, message, attempts,
                           workflow_id, step, created_at, resolved_at, action, note, resolved_by, new_run)
SELECT id, task_id, namespace, task_name, task_type, fire_at, params, verdict, message, attempt,
       workflow_id, step, ended_at, 0, '', '', '', ''
FROM runs WHERE id = $1
ON CONFLICT DO NOTHING;

-- InsertTaskRef says that a task names something.
-- name: InsertTaskRef :execrows
INSERT INTO task_refs (task_id, kind, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- InsertTask is used for one task and for a million.
-- name: InsertTask :execrows
INSERT INTO tasks (id, namespace, name, type, enabled, disabled_reason, version, search, doc, created_at, updated_at, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT DO NOTHING;

-- name: InsertTaskState :execrows
INSERT INTO task_state (task_id, version, next_fire, live, queued, token, last_start, last_end, last_success, last_outcome,
                        fired, failures)
VALUES ($1, $2, $3, 0, 0, 0, 0, 0, 0, '', 0, 0)
ON CONFLICT DO NOTHING;
