-- Gnomon's store on SQLite: definitions and live state. The same tables and columns as migrations/postgres.
-- Times are unix microseconds, UTC; 0 means none. Ids are UUIDv7 in lower case. JSON is TEXT; '' means none.

CREATE TABLE namespaces (
    name        TEXT    NOT NULL PRIMARY KEY,
    title       TEXT    NOT NULL, -- JSON: {"zh": …, "en": …}
    description TEXT    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The current version of every task. What lists filter by has its own column; the rest is in doc.
CREATE TABLE tasks (
    id              TEXT    NOT NULL PRIMARY KEY,
    namespace       TEXT    NOT NULL REFERENCES namespaces (name),
    name            TEXT    NOT NULL,
    type            TEXT    NOT NULL,
    enabled         INTEGER NOT NULL,
    disabled_reason TEXT    NOT NULL,
    version         INTEGER NOT NULL,
    search          TEXT    NOT NULL, -- name and description in lower case
    doc             TEXT    NOT NULL, -- JSON: parameters, schedule, policies and what else a person wrote
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    updated_by      TEXT    NOT NULL,
    UNIQUE (namespace, name)
) STRICT, WITHOUT ROWID;

-- Lists of one namespace go by id.
CREATE INDEX tasks_of_namespace ON tasks (namespace, id);

-- The versions that are current no more, and the last version of deleted tasks.
CREATE TABLE task_versions (
    task_id         TEXT    NOT NULL,
    version         INTEGER NOT NULL,
    namespace       TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    type            TEXT    NOT NULL,
    enabled         INTEGER NOT NULL,
    disabled_reason TEXT    NOT NULL,
    doc             TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    updated_by      TEXT    NOT NULL,
    PRIMARY KEY (task_id, version)
) STRICT, WITHOUT ROWID;

-- What changes with every fire, apart from tasks so that the row is small.
CREATE TABLE task_state (
    task_id      TEXT    NOT NULL PRIMARY KEY,
    version      INTEGER NOT NULL, -- always that of tasks
    next_fire    INTEGER NOT NULL, -- the mark: next nominal instant; 0: none
    live         INTEGER NOT NULL, -- runs not ended
    queued       INTEGER NOT NULL, -- those of live that are queued
    token        INTEGER NOT NULL, -- the newest fencing token given
    last_start   INTEGER NOT NULL,
    last_end     INTEGER NOT NULL,
    last_success INTEGER NOT NULL,
    last_outcome TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX task_state_due ON task_state (next_fire, task_id, version) WHERE next_fire <> 0;

-- One row per fire. An ended row is its own outbox: it stays until history has it.
CREATE TABLE runs (
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
    UNIQUE (task_id, fire_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_live ON runs (id) WHERE state <> 'ended';

-- The servers that are alive. A server whose row is gone has lost its lease, and every write it tries is refused.
CREATE TABLE servers (
    id          TEXT    NOT NULL PRIMARY KEY,
    epoch       INTEGER NOT NULL, -- tells two registrations of one id apart
    host        TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    batch       INTEGER NOT NULL -- number of its last transaction: tells whether a commit without answer was made
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    hash       TEXT    NOT NULL PRIMARY KEY, -- SHA-256 of the token, lower-case hex
    principal  TEXT    NOT NULL,
    grants     TEXT    NOT NULL, -- JSON: namespace -> role
    purpose    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
