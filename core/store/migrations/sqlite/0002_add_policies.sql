-- What policies, capacity, breakers, chains and interventions need. The same tables and columns as migrations/postgres.

-- Runs of one task and instant may differ in their series: SQLite changes a unique key by building the table anew.
CREATE TABLE runs_anew (
    id           TEXT    NOT NULL PRIMARY KEY,
    task_id      TEXT    NOT NULL,
    task_version INTEGER NOT NULL,
    namespace    TEXT    NOT NULL,
    task_name    TEXT    NOT NULL,
    task_type    TEXT    NOT NULL,
    trigger_kind TEXT    NOT NULL,
    fire_at      INTEGER NOT NULL,
    fire_through INTEGER NOT NULL,
    fire_count   INTEGER NOT NULL,
    params       TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    owner        TEXT    NOT NULL,
    start_at     INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    token        INTEGER NOT NULL,
    decided_at   INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    facts        TEXT    NOT NULL,
    created_by   TEXT    NOT NULL,
    ended_at     INTEGER NOT NULL,
    verdict      TEXT    NOT NULL,
    started_at   INTEGER NOT NULL DEFAULT 0,
    message      TEXT    NOT NULL DEFAULT '',
    output       TEXT    NOT NULL DEFAULT '',
    usage        TEXT    NOT NULL DEFAULT '',
    checkpoint   BLOB    NOT NULL DEFAULT x'',
    series       TEXT    NOT NULL DEFAULT '', -- '': the schedule's own fires; else the backfill, upstream run, step … it belongs to
    moved_from   INTEGER NOT NULL DEFAULT 0,  -- the instant that the calendars moved
    priority     INTEGER NOT NULL DEFAULT 0,
    gate         TEXT    NOT NULL DEFAULT '', -- what it waits at, or last waited at
    gate_key     TEXT    NOT NULL DEFAULT '',
    wait_since   INTEGER NOT NULL DEFAULT 0,
    wait_until   INTEGER NOT NULL DEFAULT 0,  -- 0: it does not wait; -1: it waits until something changes
    overlap      TEXT    NOT NULL DEFAULT '', -- of a backfill; '': the task's
    stop         TEXT    NOT NULL DEFAULT '', -- how it was asked to stop
    stop_by      TEXT    NOT NULL DEFAULT '',
    workflow_id  TEXT    NOT NULL DEFAULT '', -- the workflow run it is a step of
    step         TEXT    NOT NULL DEFAULT '',
    caused_by    TEXT    NOT NULL DEFAULT '', -- the run that caused it
    breaches     TEXT    NOT NULL DEFAULT '', -- JSON: service levels it has missed
    UNIQUE (task_id, fire_at, series)
) STRICT, WITHOUT ROWID;

INSERT INTO runs_anew (id, task_id, task_version, namespace, task_name, task_type, trigger_kind, fire_at, fire_through,
                       fire_count, params, state, owner, start_at, attempt, token, decided_at, reason, facts, created_by,
                       ended_at, verdict, started_at, message, output, usage, checkpoint)
SELECT id, task_id, task_version, namespace, task_name, task_type, trigger_kind, fire_at, fire_through,
       fire_count, params, state, owner, start_at, attempt, token, decided_at, reason, facts, created_by,
       ended_at, verdict, started_at, message, output, usage, checkpoint
FROM runs;

DROP TABLE runs;
ALTER TABLE runs_anew RENAME TO runs;

-- Live runs, by task: an admission reads those of its task. All live ones together are few.
CREATE INDEX runs_live ON runs (task_id, id) WHERE state <> 'ended';
-- What waits, and for what; and what somebody asked to stop. That state is not in these conditions spares every end a
-- look at them.
CREATE INDEX runs_waiting ON runs (gate, gate_key, priority) WHERE wait_until <> 0;
CREATE INDEX runs_stopping ON runs (owner, id) WHERE stop <> '';
CREATE INDEX runs_of_workflow ON runs (workflow_id, id) WHERE workflow_id <> '';

ALTER TABLE task_state ADD COLUMN fired    INTEGER NOT NULL DEFAULT 0; -- runs that the schedule has started, or is about to
ALTER TABLE task_state ADD COLUMN failures INTEGER NOT NULL DEFAULT 0; -- runs in a row that failed; from now on, queued counts the waiting too

ALTER TABLE namespaces ADD COLUMN doc TEXT NOT NULL DEFAULT ''; -- JSON: default policies and limits

-- Slots that executing runs have of a limit. By key, so that counting what is used reads those rows only.
CREATE TABLE holds (
    limit_key TEXT    NOT NULL, -- pool:erp, namespace:Common, type:Common/Common.KeepAlive
    run_id    TEXT    NOT NULL,
    slots     INTEGER NOT NULL,
    PRIMARY KEY (limit_key, run_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX holds_of_run ON holds (run_id);

-- Circuit breakers that have ever moved; one without a row is closed.
CREATE TABLE breakers (
    name       TEXT    NOT NULL PRIMARY KEY, -- downstream:his, task:<id>
    state      TEXT    NOT NULL,
    failures   INTEGER NOT NULL,
    successes  INTEGER NOT NULL,
    opened_at  INTEGER NOT NULL,
    probe_at   INTEGER NOT NULL,
    probe_run  TEXT    NOT NULL,
    because    TEXT    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX breakers_probed ON breakers (probe_run) WHERE probe_run <> '';

-- Definitions that are no tasks: calendars, holidays, pools, downstreams.
CREATE TABLE resources (
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    doc        TEXT    NOT NULL, -- JSON
    updated_at INTEGER NOT NULL,
    updated_by TEXT    NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- What tasks name: changed with the task, read when the named thing changes.
CREATE TABLE task_refs (
    task_id TEXT NOT NULL,
    kind    TEXT NOT NULL, -- upstream, step, calendar, pool or downstream
    name    TEXT NOT NULL, -- of a task: its name in the same namespace
    PRIMARY KEY (task_id, kind, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX task_refs_to ON task_refs (kind, name, task_id);

-- Runs put before a person. Kept after they are resolved.
CREATE TABLE interventions (
    run_id      TEXT    NOT NULL PRIMARY KEY,
    task_id     TEXT    NOT NULL,
    namespace   TEXT    NOT NULL,
    task_name   TEXT    NOT NULL,
    task_type   TEXT    NOT NULL,
    fire_at     INTEGER NOT NULL,
    params      TEXT    NOT NULL,
    verdict     TEXT    NOT NULL,
    message     TEXT    NOT NULL,
    attempts    INTEGER NOT NULL,
    workflow_id TEXT    NOT NULL,
    step        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    resolved_at INTEGER NOT NULL, -- 0: open
    action      TEXT    NOT NULL, -- retry, skip or done
    note        TEXT    NOT NULL,
    resolved_by TEXT    NOT NULL,
    new_run     TEXT    NOT NULL  -- retry: the run that tries again
) STRICT, WITHOUT ROWID;

CREATE INDEX interventions_open ON interventions (run_id) WHERE resolved_at = 0;
