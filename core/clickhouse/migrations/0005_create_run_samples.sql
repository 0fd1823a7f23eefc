-- What attempts were using, about once a second while they ran.
-- Read by: a run's page, memory and CPU figures over time.
-- ORDER BY: like run_logs; (run_id, attempt, at) is the reading's identity.
CREATE TABLE IF NOT EXISTS run_samples
(
    namespace   LowCardinality(String) COMMENT 'business system; from the task',
    task        LowCardinality(String) COMMENT 'name of the task when it fired',
    task_type   LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    task_id     LowCardinality(String) COMMENT 'UUID of the task',
    run_id      String COMMENT 'UUIDv7 of the run' CODEC(ZSTD(1)),
    attempt     UInt16 COMMENT 'number of the attempt, from 1' CODEC(ZSTD(1)),
    fire_at     DateTime64(6, 'UTC') COMMENT 'nominal instant of the run' CODEC(Delta, ZSTD(1)),
    at          DateTime64(6, 'UTC') COMMENT 'when the reading was taken; clock of the server' CODEC(Delta, ZSTD(1)),
    cpu_us      UInt64 COMMENT 'user plus system time since the attempt began, microseconds; see cpu_source' CODEC(Delta, ZSTD(1)),
    cpu_source  LowCardinality(String) COMMENT 'how cpu_us was obtained: measured, shared, unknown',
    rss_bytes   UInt64 COMMENT 'resident memory now, bytes; see rss_source' CODEC(Delta, ZSTD(1)),
    rss_source  LowCardinality(String) COMMENT 'how rss_bytes was obtained: measured, shared, unknown',
    read_bytes  UInt64 COMMENT 'bytes fetched from storage since the attempt began; see io_source' CODEC(Delta, ZSTD(1)),
    write_bytes UInt64 COMMENT 'bytes sent to storage since the attempt began; see io_source' CODEC(Delta, ZSTD(1)),
    io_source   LowCardinality(String) COMMENT 'how read_bytes and write_bytes were obtained: measured, shared, unknown',
    final       Bool COMMENT 'true for the reading taken as the attempt ended' CODEC(ZSTD(1)),
    INDEX run_id_bloom run_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(fire_at)
ORDER BY (namespace, task, fire_at, run_id, attempt, at)
SETTINGS non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'what attempts were using while they ran'
