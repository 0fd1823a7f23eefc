-- Gnomon's store on PostgreSQL: definitions and live state. The same tables and columns as migrations/sqlite.
-- Times are unix microseconds, UTC; 0 means none. Ids are UUIDv7 in lower case. JSON is TEXT; '' means none.
-- Ids and names compare byte by byte, as SQLite compares them.

CREATE TABLE namespaces (
    name        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    title       TEXT    NOT NULL, -- JSON: {"zh": …, "en": …}
    description TEXT    NOT NULL,
    created_at  BIGINT  NOT NULL
);

-- The current version of every task. What lists filter by has its own column; the rest is in doc.
CREATE TABLE tasks (
    id              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    namespace       TEXT COLLATE "C" NOT NULL REFERENCES namespaces (name),
    name            TEXT COLLATE "C" NOT NULL,
    type            TEXT    NOT NULL,
    enabled         BOOLEAN NOT NULL,
    disabled_reason TEXT    NOT NULL,
    version         BIGINT  NOT NULL,
    search          TEXT    NOT NULL, -- name and description in lower case
    doc             TEXT    NOT NULL, -- JSON: parameters, schedule, policies and what else a person wrote
    created_at      BIGINT  NOT NULL,
    updated_at      BIGINT  NOT NULL,
    updated_by      TEXT    NOT NULL,
    UNIQUE (namespace, name)
);

-- Lists of one namespace go by id.
CREATE INDEX tasks_of_namespace ON tasks (namespace, id);

-- The versions that are current no more, and the last version of deleted tasks.
CREATE TABLE task_versions (
    task_id         TEXT COLLATE "C" NOT NULL,
    version         BIGINT  NOT NULL,
    namespace       TEXT COLLATE "C" NOT NULL,
    name            TEXT COLLATE "C" NOT NULL,
    type            TEXT    NOT NULL,
    enabled         BOOLEAN NOT NULL,
    disabled_reason TEXT    NOT NULL,
    doc             TEXT    NOT NULL,
    created_at      BIGINT  NOT NULL,
    updated_at      BIGINT  NOT NULL,
    updated_by      TEXT    NOT NULL,
    PRIMARY KEY (task_id, version)
);

-- What changes with every fire, apart from tasks so that the row is small. The fill factor leaves room for
-- updates to stay on their page.
CREATE TABLE task_state (
    task_id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version      BIGINT  NOT NULL, -- always that of tasks
    next_fire    BIGINT  NOT NULL, -- the mark: next nominal instant; 0: none
    live         BIGINT  NOT NULL, -- runs not ended
    queued       BIGINT  NOT NULL, -- those of live that are queued
    token        BIGINT  NOT NULL, -- the newest fencing token given
    last_start   BIGINT  NOT NULL,
    last_end     BIGINT  NOT NULL,
    last_success BIGINT  NOT NULL,
    last_outcome TEXT    NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX task_state_due ON task_state (next_fire, task_id, version) WHERE next_fire <> 0;

-- One row per fire. An ended row is its own outbox: it stays until history has it.
CREATE TABLE runs (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    task_id      TEXT COLLATE "C" NOT NULL,
    task_version BIGINT  NOT NULL,
    namespace    TEXT COLLATE "C" NOT NULL,
    task_name    TEXT    NOT NULL,
    task_type    TEXT    NOT NULL,
    trigger_kind TEXT    NOT NULL,
    fire_at      BIGINT  NOT NULL,
    fire_through BIGINT  NOT NULL,
    fire_count   BIGINT  NOT NULL,
    params       TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    owner        TEXT COLLATE "C" NOT NULL,
    start_at     BIGINT  NOT NULL,
    attempt      BIGINT  NOT NULL,
    token        BIGINT  NOT NULL,
    decided_at   BIGINT  NOT NULL,
    reason       TEXT    NOT NULL,
    facts        TEXT    NOT NULL,
    created_by   TEXT    NOT NULL,
    ended_at     BIGINT  NOT NULL,
    verdict      TEXT    NOT NULL,
    started_at   BIGINT  NOT NULL DEFAULT 0,
    message      TEXT    NOT NULL DEFAULT '',
    output       TEXT    NOT NULL DEFAULT '',
    usage        TEXT    NOT NULL DEFAULT '',
    checkpoint   BYTEA   NOT NULL DEFAULT '',
    UNIQUE (task_id, fire_at)
) WITH (fillfactor = 70);

CREATE INDEX runs_live ON runs (id) WHERE state <> 'ended';

-- The servers that are alive. A server whose row is gone has lost its lease, and every write it tries is refused.
CREATE TABLE servers (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    epoch       BIGINT  NOT NULL, -- tells two registrations of one id apart
    host        TEXT    NOT NULL,
    started_at  BIGINT  NOT NULL,
    lease_until BIGINT  NOT NULL,
    batch       BIGINT  NOT NULL -- number of its last transaction: tells whether a commit without answer was made
);

CREATE TABLE tokens (
    hash       TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- SHA-256 of the token, lower-case hex
    principal  TEXT    NOT NULL,
    grants     TEXT    NOT NULL, -- JSON: namespace -> role
    purpose    TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    revoked_at BIGINT  NOT NULL
);

CREATE TABLE settings (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
