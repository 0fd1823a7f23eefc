-- Every nominal instant of every task and what was decided about it: the answer to "why did it not run?".
-- Read by: the run list (skipped fires), `gnomon why`, should-run against did-run.
-- ORDER BY: one task's fires of one period are asked for together. run_id ends the key because it is the row's
-- identity: a fire that is sent twice is merged into one.
CREATE TABLE IF NOT EXISTS fires
(
    namespace    LowCardinality(String) COMMENT 'business system; from the task',
    task         LowCardinality(String) COMMENT 'name of the task when it fired; unique in its namespace',
    task_type    LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    task_id      LowCardinality(String) COMMENT 'UUID of the task; stays when it is renamed',
    task_version Int64 COMMENT 'version of the task that was decided about' CODEC(ZSTD(1)),
    run_id       String COMMENT 'UUIDv7 of the run the fire became, or of this row if it was skipped' CODEC(ZSTD(1)),
    fire_at      DateTime64(6, 'UTC') COMMENT 'nominal instant, by the schedule' CODEC(Delta, ZSTD(1)),
    fire_through DateTime64(6, 'UTC') COMMENT 'last nominal instant covered; equals fire_at unless fire_count > 1' CODEC(Delta, ZSTD(1)),
    fire_count   UInt32 COMMENT 'nominal instants covered; more than 1 for a range of skipped fires' CODEC(ZSTD(1)),
    trigger      LowCardinality(String) COMMENT 'schedule, manual or catch_up',
    decision     LowCardinality(String) COMMENT 'started or skipped',
    reason       LowCardinality(String) COMMENT 'why it was skipped: overlap, catch_up, disabled, …; empty if started',
    facts        String COMMENT 'JSON: what the decision was made on; may be empty' CODEC(ZSTD(1)),
    decided_at   DateTime64(6, 'UTC') COMMENT 'when it was decided; clock of the server' CODEC(Delta, ZSTD(1)),
    server       LowCardinality(String) COMMENT 'id of the server that decided',
    created_by   LowCardinality(String) COMMENT 'principal of a manual run, else gnomon',
    INDEX run_id_range run_id TYPE minmax GRANULARITY 1,
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX task_id_bloom task_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(fire_at)
ORDER BY (namespace, task, fire_at, run_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'every nominal instant of every task and what was decided about it'
