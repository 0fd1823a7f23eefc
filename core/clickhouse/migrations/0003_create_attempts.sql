-- Every attempt that has ended; a run has one for each try.
-- Read by: a run's page, retry and lateness figures, cost.
-- ORDER BY: like runs, so that both are read in the same order; (run_id, attempt) is the row's identity.
CREATE TABLE IF NOT EXISTS attempts
(
    namespace      LowCardinality(String) COMMENT 'business system; from the task',
    task           LowCardinality(String) COMMENT 'name of the task when it fired',
    task_type      LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    task_id        LowCardinality(String) COMMENT 'UUID of the task',
    run_id         String COMMENT 'UUIDv7 of the run' CODEC(ZSTD(1)),
    attempt        UInt16 COMMENT 'number of the attempt, from 1' CODEC(ZSTD(1)),
    token          Int64 COMMENT 'fencing token of the attempt' CODEC(Delta, ZSTD(1)),
    fire_at        DateTime64(6, 'UTC') COMMENT 'nominal instant of the run' CODEC(Delta, ZSTD(1)),
    started_at     DateTime64(6, 'UTC') COMMENT 'when it was handed to the executor; clock of the server' CODEC(Delta, ZSTD(1)),
    began_at       Nullable(DateTime64(6, 'UTC')) COMMENT 'when the handler began; clock of the executing process; NULL: it never did' CODEC(Delta, ZSTD(1)),
    ended_at       DateTime64(6, 'UTC') COMMENT 'when the attempt ended; clock of the server' CODEC(Delta, ZSTD(1)),
    retry_at       Nullable(DateTime64(6, 'UTC')) COMMENT 'when the next attempt was planned; NULL: none' CODEC(Delta, ZSTD(1)),
    outcome        LowCardinality(String) COMMENT 'succeeded, failed, timed_out, cancelled, crashed or lost',
    message        String COMMENT 'one line for a person; empty on success' CODEC(ZSTD(1)),
    cpu_us         UInt64 COMMENT 'user plus system time, microseconds; see cpu_source' CODEC(ZSTD(1)),
    cpu_source     LowCardinality(String) COMMENT 'how cpu was obtained: measured, shared, unknown',
    peak_rss_bytes UInt64 COMMENT 'highest resident memory of the process, bytes; see rss_source' CODEC(ZSTD(1)),
    rss_source     LowCardinality(String) COMMENT 'how peak_rss_bytes was obtained: measured, shared, unknown',
    read_bytes     UInt64 COMMENT 'bytes fetched from storage, from /proc/<pid>/io; see io_source' CODEC(ZSTD(1)),
    write_bytes    UInt64 COMMENT 'bytes sent to storage, from /proc/<pid>/io; see io_source' CODEC(ZSTD(1)),
    io_source      LowCardinality(String) COMMENT 'how read_bytes and write_bytes were obtained: measured, shared, unknown',
    duration_ms    Float64 ALIAS dateDiff('microsecond', started_at, ended_at) / 1000 COMMENT 'from hand-over to end, milliseconds',
    queue_ms       Nullable(Float64) ALIAS dateDiff('microsecond', started_at, began_at) / 1000 COMMENT 'from hand-over to the beginning of the handler, milliseconds; NULL: it never began',
    cpu_ms         Nullable(Float64) ALIAS if(cpu_source IN ('measured', 'shared'), cpu_us / 1000, NULL) COMMENT 'user plus system time, milliseconds; NULL: unknown',
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(fire_at)
ORDER BY (namespace, task, fire_at, run_id, attempt)
SETTINGS non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'every attempt that has ended'
