-- The business database of a small hospital group, as far as Gnomon's sample tasks touch it.
--
-- Read and written by the scripts in scripts/ (grant "sql:business") and by the bundled plugins (mail_outbox, document).
-- The sample is a SQLite file; the text keeps to SQL that PostgreSQL takes too: no automatic ids, no triggers.
--
-- Conventions
--   * Every instant is a BIGINT: milliseconds since 1970-01-01 UTC, in a column whose name ends in _at (or _until,
--     _deadline). NULL means: not yet.
--   * A calendar day without a time is TEXT 'YYYY-MM-DD', in the hospital's own zone.
--   * States are TEXT from a closed list (CHECK).
--   * A table named *_event or *_change is a record of changes: rows are only added. run_id is the Gnomon run that did it.

CREATE TABLE IF NOT EXISTS organisation (              -- a hospital or clinic of the group
    org_id      INTEGER PRIMARY KEY,
    name        TEXT NOT NULL                          -- '第一人民医院'
);

-- ---------------------------------------------------------------------------------------------------------------------
-- Telemedicine: remote ECG reading. Telemedicine.ECGTimeoutFallbackTask

CREATE TABLE IF NOT EXISTS duty_doctor (               -- who takes over when a writing doctor is too slow
    service_center TEXT NOT NULL,                      -- 'ECG-CENTER-1'
    doctor_id      TEXT NOT NULL,
    on_duty        INTEGER NOT NULL DEFAULT 1,         -- 1: on duty now
    PRIMARY KEY (service_center, doctor_id)
);

CREATE TABLE IF NOT EXISTS ecg_task (                  -- one ECG to be read
    id             INTEGER PRIMARY KEY,
    patient_id     TEXT NOT NULL,
    service_center TEXT NOT NULL,
    state          TEXT NOT NULL DEFAULT 'waiting'
                   CHECK (state IN ('waiting', 'claimed', 'writing', 'assigned', 'done')),
    created_at     BIGINT NOT NULL,
    claimed_by     TEXT,                               -- doctor who took it from the pool
    claimed_at     BIGINT,
    write_deadline BIGINT,                             -- until when the report must be written; set with 'writing'
    assigned_to    TEXT,                               -- duty doctor it was given to
    assigned_at    BIGINT,
    fallback_count INTEGER NOT NULL DEFAULT 0,         -- how often it fell back to the pool
    done_at        BIGINT,
    updated_at     BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS ecg_task_by_state ON ecg_task (state, id);

CREATE TABLE IF NOT EXISTS ecg_task_event (            -- change record of ecg_task
    ecg_task_id INTEGER NOT NULL,
    at          BIGINT NOT NULL,
    event       TEXT NOT NULL
                CHECK (event IN ('claim_timeout', 'write_timeout', 'assign_timeout')),
    from_state  TEXT NOT NULL,
    to_state    TEXT NOT NULL,
    from_doctor TEXT,
    to_doctor   TEXT,
    run_id      TEXT NOT NULL,
    PRIMARY KEY (ecg_task_id, at, event)
);

-- ---------------------------------------------------------------------------------------------------------------------
-- OperationManage: appointment slots (号源). OperationManage.ReserveNumberSourceRecycling

CREATE TABLE IF NOT EXISTS number_source (             -- one slot with one doctor
    id             INTEGER PRIMARY KEY,
    org_id         INTEGER NOT NULL,
    department     TEXT NOT NULL,
    doctor         TEXT NOT NULL,
    clinic_date    TEXT NOT NULL,                      -- 'YYYY-MM-DD'
    slot           TEXT NOT NULL,                      -- '09:00-09:30'
    starts_at      BIGINT NOT NULL,                    -- the instant the slot begins
    state          TEXT NOT NULL DEFAULT 'free'
                   CHECK (state IN ('free', 'reserved', 'used', 'recycled')),
    reserved_by    TEXT,                               -- patient
    reserved_at    BIGINT,
    reserved_until BIGINT,                             -- a reservation not confirmed by then lapses
    recycle_count  INTEGER NOT NULL DEFAULT 0,
    updated_at     BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS number_source_by_state ON number_source (state, reserved_until);

CREATE TABLE IF NOT EXISTS number_source_change (      -- change record of number_source
    number_source_id INTEGER NOT NULL,
    at               BIGINT NOT NULL,
    from_state       TEXT NOT NULL,
    to_state         TEXT NOT NULL,                    -- free: can be booked again; recycled: its time has passed
    reserved_by      TEXT,                             -- whose reservation lapsed
    run_id           TEXT NOT NULL,
    PRIMARY KEY (number_source_id, at)
);

-- ---------------------------------------------------------------------------------------------------------------------
-- Common: messages. Common.SMSFailRetry (Lua), Common.Email (Go plugin)

CREATE TABLE IF NOT EXISTS sms_outbox (
    id          INTEGER PRIMARY KEY,
    phone       TEXT NOT NULL,
    text        TEXT NOT NULL,
    state       TEXT NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'sent', 'failed', 'dead')), -- dead: given up
    attempts    INTEGER NOT NULL DEFAULT 0,
    last_error  TEXT,
    next_try_at BIGINT,                                -- not before; NULL: at once
    created_at  BIGINT NOT NULL,
    sent_at     BIGINT,
    updated_at  BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS sms_outbox_by_state ON sms_outbox (state, next_try_at);

CREATE TABLE IF NOT EXISTS mail_outbox (
    id          INTEGER PRIMARY KEY,
    recipient   TEXT NOT NULL,
    subject     TEXT NOT NULL,
    body        TEXT NOT NULL,
    state       TEXT NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'sent', 'failed', 'dead')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    last_error  TEXT,
    next_try_at BIGINT,
    created_at  BIGINT NOT NULL,
    sent_at     BIGINT,
    updated_at  BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS mail_outbox_by_state ON mail_outbox (state, next_try_at);

-- ---------------------------------------------------------------------------------------------------------------------
-- ImageArchive: examinations. ImageArchive.DataVerifyService

CREATE TABLE IF NOT EXISTS observation_request (       -- 检查表: what was ordered and done
    id           INTEGER PRIMARY KEY,
    org_id       INTEGER NOT NULL,
    accession_no TEXT NOT NULL,
    patient_id   TEXT NOT NULL,
    modality     TEXT NOT NULL,                        -- 'CT', 'MR', 'DX', 'US', 'ECG'
    image_count  INTEGER NOT NULL,
    examined_at  BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    verified_at  BIGINT                                -- last comparison; due again when older than updated_at
);
CREATE INDEX IF NOT EXISTS observation_request_by_verified ON observation_request (verified_at, id);

CREATE TABLE IF NOT EXISTS exam_check_data (           -- 校验信息表: what the archive received
    observation_request_id INTEGER PRIMARY KEY,
    accession_no           TEXT NOT NULL,
    patient_id             TEXT NOT NULL,
    modality               TEXT NOT NULL,
    image_count            INTEGER NOT NULL,
    updated_at             BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS data_verify_issue (         -- where the two differ
    observation_request_id INTEGER NOT NULL,
    field                  TEXT NOT NULL,              -- 'accession_no', 'patient_id', 'modality', 'image_count'; 'missing': no check data
    expected               TEXT,                       -- as in observation_request
    actual                 TEXT,                       -- as in exam_check_data
    first_seen_at          BIGINT NOT NULL,
    last_seen_at           BIGINT NOT NULL,
    resolved_at            BIGINT,                     -- when a later comparison found them equal; NULL: open
    run_id                 TEXT NOT NULL,              -- of the run that wrote the row last
    PRIMARY KEY (observation_request_id, field)
);

-- ---------------------------------------------------------------------------------------------------------------------
-- ImageArchive: stored files. ImageArchive.StorageDeletionService (Lua) marks, ImageArchive.DocumentDeletionService
-- (Go plugin) deletes the file, then sets 'deleted' and removes the document_storage row.

CREATE TABLE IF NOT EXISTS org_storage_policy (        -- how long an organisation keeps its documents
    org_id    INTEGER PRIMARY KEY,
    keep_days INTEGER NOT NULL CHECK (keep_days > 0),
    enabled   INTEGER NOT NULL DEFAULT 1
);

CREATE TABLE IF NOT EXISTS document (
    id         INTEGER PRIMARY KEY,
    org_id     INTEGER NOT NULL,
    path       TEXT NOT NULL,                          -- relative to the archive's folder
    size_bytes BIGINT NOT NULL,
    state      TEXT NOT NULL DEFAULT 'stored'
               CHECK (state IN ('stored', 'marked', 'deleted')),
    created_at BIGINT NOT NULL,
    marked_at  BIGINT,
    deleted_at BIGINT
);
CREATE INDEX IF NOT EXISTS document_by_state ON document (state, org_id, created_at);

CREATE TABLE IF NOT EXISTS document_storage (          -- where a document's bytes lie (文件存储信息)
    document_id INTEGER PRIMARY KEY,
    volume      TEXT NOT NULL,                         -- 'archive-1'
    sha256      TEXT,
    stored_at   BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS document_change (           -- change record of document, kept for ever
    document_id INTEGER NOT NULL,
    at          BIGINT NOT NULL,
    change      TEXT NOT NULL CHECK (change IN ('marked', 'deleted')),
    path        TEXT NOT NULL,
    size_bytes  BIGINT NOT NULL,
    reason      TEXT NOT NULL,                         -- 'policy: keep 30 days'
    run_id      TEXT NOT NULL,
    PRIMARY KEY (document_id, at, change)
);
