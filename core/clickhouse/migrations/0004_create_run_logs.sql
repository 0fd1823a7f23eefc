-- Every line an attempt said.
-- Read by: a run's log page and its live tail, text search in a task's period.
-- ORDER BY: a task's lines of one period lie together, and in them a run's lines in the order they were said.
-- (run_id, attempt, seq) is the line's identity. A run without its task is found by the bloom filter.
CREATE TABLE IF NOT EXISTS run_logs
(
    namespace LowCardinality(String) COMMENT 'business system; from the task',
    task      LowCardinality(String) COMMENT 'name of the task when it fired',
    task_type LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    task_id   LowCardinality(String) COMMENT 'UUID of the task',
    run_id    String COMMENT 'UUIDv7 of the run' CODEC(ZSTD(1)),
    attempt   UInt16 COMMENT 'number of the attempt, from 1' CODEC(ZSTD(1)),
    seq       UInt64 COMMENT 'number of the line in its attempt, from 1 without holes, over all streams' CODEC(Delta, ZSTD(1)),
    fire_at   DateTime64(6, 'UTC') COMMENT 'nominal instant of the run' CODEC(Delta, ZSTD(1)),
    at        DateTime64(6, 'UTC') COMMENT 'when it was said; clock of the process that said it' CODEC(Delta, ZSTD(1)),
    level     Enum8('none' = 0, 'debug' = 1, 'info' = 2, 'warn' = 3, 'error' = 4) COMMENT 'severity; compare with level >= ''warn''' CODEC(ZSTD(1)),
    stream    Enum8('none' = 0, 'log' = 1, 'stdout' = 2, 'stderr' = 3, 'system' = 4) COMMENT 'log (the SDK), stdout, stderr, or system (said by Gnomon about the attempt)' CODEC(ZSTD(1)),
    message   String COMMENT 'the line, UTF-8; a cut one says so in attrs[''gnomon.cut_bytes'']' CODEC(ZSTD(1)),
    attrs     Map(LowCardinality(String), String) COMMENT 'structured attributes' CODEC(ZSTD(1)),
    INDEX run_id_bloom run_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(fire_at)
ORDER BY (namespace, task, fire_at, run_id, attempt, seq)
SETTINGS non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'every line an attempt said'
