-- What policies, capacity, breakers, chains and interventions need. The same tables and columns as migrations/sqlite.

-- Runs of one task and instant may differ in their series.
ALTER TABLE runs
    ADD COLUMN series      TEXT COLLATE "C" NOT NULL DEFAULT '', -- '': the schedule's own fires; else the backfill, upstream run, step … it belongs to
    ADD COLUMN moved_from  BIGINT NOT NULL DEFAULT 0,  -- the instant that the calendars moved
    ADD COLUMN priority    BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN gate        TEXT COLLATE "C" NOT NULL DEFAULT '', -- what it waits at, or last waited at
    ADD COLUMN gate_key    TEXT COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN wait_since  BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN wait_until  BIGINT NOT NULL DEFAULT 0,  -- 0: it does not wait; -1: it waits until something changes
    ADD COLUMN overlap     TEXT   NOT NULL DEFAULT '', -- of a backfill; '': the task's
    ADD COLUMN stop        TEXT   NOT NULL DEFAULT '', -- how it was asked to stop
    ADD COLUMN stop_by     TEXT   NOT NULL DEFAULT '',
    ADD COLUMN workflow_id TEXT COLLATE "C" NOT NULL DEFAULT '', -- the workflow run it is a step of
    ADD COLUMN step        TEXT   NOT NULL DEFAULT '',
    ADD COLUMN caused_by   TEXT COLLATE "C" NOT NULL DEFAULT '', -- the run that caused it
    ADD COLUMN breaches    TEXT   NOT NULL DEFAULT ''; -- JSON: service levels it has missed

ALTER TABLE runs DROP CONSTRAINT runs_task_id_fire_at_key;
ALTER TABLE runs ADD CONSTRAINT runs_task_id_fire_at_series_key UNIQUE (task_id, fire_at, series);

-- Live runs, by task: an admission reads those of its task. All live ones together are few.
DROP INDEX runs_live;
CREATE INDEX runs_live ON runs (task_id, id) WHERE state <> 'ended';
-- What waits, and for what; and what somebody asked to stop. That state is not in these conditions spares every end a
-- look at them.
CREATE INDEX runs_waiting ON runs (gate, gate_key, priority) WHERE wait_until <> 0;
CREATE INDEX runs_stopping ON runs (owner, id) WHERE stop <> '';
CREATE INDEX runs_of_workflow ON runs (workflow_id, id) WHERE workflow_id <> '';

ALTER TABLE task_state
    ADD COLUMN fired    BIGINT NOT NULL DEFAULT 0, -- runs that the schedule has started, or is about to
    ADD COLUMN failures BIGINT NOT NULL DEFAULT 0; -- runs in a row that failed; from now on, queued counts the waiting too

ALTER TABLE namespaces ADD COLUMN doc TEXT NOT NULL DEFAULT ''; -- JSON: default policies and limits

-- Slots that executing runs have of a limit. By key, so that counting what is used reads those rows only.
CREATE TABLE holds (
    limit_key TEXT COLLATE "C" NOT NULL, -- pool:erp, namespace:Common, type:Common/Common.KeepAlive
    run_id    TEXT COLLATE "C" NOT NULL,
    slots     BIGINT NOT NULL,
    PRIMARY KEY (limit_key, run_id)
);

CREATE INDEX holds_of_run ON holds (run_id);

-- Circuit breakers that have ever moved; one without a row is closed.
CREATE TABLE breakers (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- downstream:his, task:<id>
    state      TEXT   NOT NULL,
    failures   BIGINT NOT NULL,
    successes  BIGINT NOT NULL,
    opened_at  BIGINT NOT NULL,
    probe_at   BIGINT NOT NULL,
    probe_run  TEXT COLLATE "C" NOT NULL,
    because    TEXT   NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX breakers_probed ON breakers (probe_run) WHERE probe_run <> '';

-- Definitions that are no tasks: calendars, holidays, pools, downstreams.
CREATE TABLE resources (
    kind       TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    doc        TEXT   NOT NULL, -- JSON
    updated_at BIGINT NOT NULL,
    updated_by TEXT   NOT NULL,
    PRIMARY KEY (kind, name)
);

-- What tasks name: changed with the task, read when the named thing changes.
CREATE TABLE task_refs (
    task_id TEXT COLLATE "C" NOT NULL,
    kind    TEXT COLLATE "C" NOT NULL, -- upstream, step, calendar, pool or downstream
    name    TEXT COLLATE "C" NOT NULL, -- of a task: its name in the same namespace
    PRIMARY KEY (task_id, kind, name)
);

CREATE INDEX task_refs_to ON task_refs (kind, name, task_id);

-- Runs put before a person. Kept after they are resolved.
CREATE TABLE interventions (
    run_id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    task_id     TEXT COLLATE "C" NOT NULL,
    namespace   TEXT COLLATE "C" NOT NULL,
    task_name   TEXT   NOT NULL,
    task_type   TEXT   NOT NULL,
    fire_at     BIGINT NOT NULL,
    params      TEXT   NOT NULL,
    verdict     TEXT   NOT NULL,
    message     TEXT   NOT NULL,
    attempts    BIGINT NOT NULL,
    workflow_id TEXT COLLATE "C" NOT NULL,
    step        TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    resolved_at BIGINT NOT NULL, -- 0: open
    action      TEXT   NOT NULL, -- retry, skip or done
    note        TEXT   NOT NULL,
    resolved_by TEXT   NOT NULL,
    new_run     TEXT COLLATE "C" NOT NULL -- retry: the run that tries again
);

CREATE INDEX interventions_open ON interventions (run_id) WHERE resolved_at = 0;
