-- Every run that has ended. Skipped fires are in fires only.
-- Read by: the run list and a task's page, all success, duration, lateness and cost figures.
-- ORDER BY: one task's runs of one period are asked for together, and a namespace is a prefix, because rights are per
-- namespace. run_id ends the key because it is the row's identity. Runs without a task are found by the skip indexes:
-- a run_id begins with its time of creation, so a range of ids is a range of time.
CREATE TABLE IF NOT EXISTS runs
(
    namespace      LowCardinality(String) COMMENT 'business system; from the task',
    task           LowCardinality(String) COMMENT 'name of the task when it fired; unique in its namespace',
    task_type      LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    task_id        LowCardinality(String) COMMENT 'UUID of the task; stays when it is renamed',
    task_version   Int64 COMMENT 'version of the task that ran' CODEC(ZSTD(1)),
    run_id         String COMMENT 'UUIDv7; the idempotency key the task was given' CODEC(ZSTD(1)),
    trigger        LowCardinality(String) COMMENT 'schedule, manual or catch_up',
    outcome        LowCardinality(String) COMMENT 'succeeded, failed, timed_out, cancelled, crashed or lost',
    message        String COMMENT 'one line for a person; empty on success, at most 4 KiB' CODEC(ZSTD(1)),
    fire_at        DateTime64(6, 'UTC') COMMENT 'nominal instant, by the schedule' CODEC(Delta, ZSTD(1)),
    decided_at     DateTime64(6, 'UTC') COMMENT 'when the start was decided; may be before fire_at; clock of the server' CODEC(Delta, ZSTD(1)),
    started_at     Nullable(DateTime64(6, 'UTC')) COMMENT 'when the last attempt was handed to its executor; NULL: none was; clock of the server' CODEC(Delta, ZSTD(1)),
    ended_at       DateTime64(6, 'UTC') COMMENT 'when the run ended; clock of the server' CODEC(Delta, ZSTD(1)),
    attempts       UInt16 COMMENT 'number of the last attempt, from 1' CODEC(ZSTD(1)),
    token          Int64 COMMENT 'fencing token of the last attempt' CODEC(Delta, ZSTD(1)),
    params         String COMMENT 'JSON: the parameters it ran with' CODEC(ZSTD(1)),
    output         String COMMENT 'JSON: what it handed on; may be empty' CODEC(ZSTD(1)),
    cpu_us         UInt64 COMMENT 'user plus system time of the last attempt, microseconds; see cpu_source' CODEC(ZSTD(1)),
    cpu_source     LowCardinality(String) COMMENT 'how cpu was obtained: measured (this attempt alone), shared (its process ran others too), unknown',
    peak_rss_bytes UInt64 COMMENT 'highest resident memory of the process during the last attempt, bytes; see rss_source' CODEC(ZSTD(1)),
    rss_source     LowCardinality(String) COMMENT 'how peak_rss_bytes was obtained: measured, shared, unknown',
    read_bytes     UInt64 COMMENT 'bytes fetched from storage by the last attempt, from /proc/<pid>/io; see io_source' CODEC(ZSTD(1)),
    write_bytes    UInt64 COMMENT 'bytes sent to storage by the last attempt, from /proc/<pid>/io; see io_source' CODEC(ZSTD(1)),
    io_source      LowCardinality(String) COMMENT 'how read_bytes and write_bytes were obtained: measured, shared, unknown',
    server         LowCardinality(String) COMMENT 'id of the server that ran it',
    created_by     LowCardinality(String) COMMENT 'principal of a manual run, else gnomon',
    duration_ms    Nullable(Float64) ALIAS dateDiff('microsecond', started_at, ended_at) / 1000 COMMENT 'from the start of the last attempt to the end, milliseconds; NULL: never started',
    lateness_ms    Nullable(Float64) ALIAS if(attempts <= 1, dateDiff('microsecond', fire_at, started_at) / 1000, NULL) COMMENT 'from the nominal instant to the start, milliseconds; NULL: never started, or tried more than once (see attempts)',
    cpu_ms         Nullable(Float64) ALIAS if(cpu_source IN ('measured', 'shared'), cpu_us / 1000, NULL) COMMENT 'user plus system time of the last attempt, milliseconds; NULL: unknown',
    INDEX run_id_range run_id TYPE minmax GRANULARITY 1,
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX task_id_bloom task_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(fire_at)
ORDER BY (namespace, task, fire_at, run_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'every run that has ended'
