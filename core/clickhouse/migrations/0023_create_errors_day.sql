-- What went wrong on each day: the messages of failed runs of a task, those that differ only in numbers, names and places
-- taken together. Made anew as a whole, like runs_day.
-- Read by: v_errors_30d; analysts who ask about other periods.
-- ORDER BY: one task's days, and one namespace's, are asked for together; (namespace, task, day, fingerprint) is the row's identity.
CREATE TABLE IF NOT EXISTS errors_day
(
    namespace   LowCardinality(String) COMMENT 'business system; from the task',
    task        LowCardinality(String) COMMENT 'name of the task when it fired; unique in its namespace',
    day         Date COMMENT 'day of the nominal instant, UTC' CODEC(Delta, ZSTD(1)),
    fingerprint UInt64 COMMENT 'sipHash64 of pattern' CODEC(ZSTD(1)),
    task_type   LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    pattern     String COMMENT 'the message with what differs from run to run replaced: <uuid>, <time>, <text>, <path>, <hex>, <n>' CODEC(ZSTD(1)),
    runs        UInt64 COMMENT 'runs that failed, timed out, crashed or were lost with such a message; from runs' CODEC(ZSTD(1)),
    outcomes    Map(String, UInt64) COMMENT 'of them by outcome; from runs' CODEC(ZSTD(1)),
    first_at    DateTime64(6, 'UTC') COMMENT 'when the first of them ended; clock of the server; from runs' CODEC(Delta, ZSTD(1)),
    last_at     DateTime64(6, 'UTC') COMMENT 'when the last of them ended; clock of the server; from runs' CODEC(Delta, ZSTD(1)),
    last_run_id String COMMENT 'UUIDv7 of the last of them; from runs' CODEC(ZSTD(1)),
    last_message String COMMENT 'message of the last of them as it was; from runs' CODEC(ZSTD(1)),
    rows_seen   UInt64 COMMENT 'rows of runs that this row was made of' CODEC(ZSTD(1)),
    computed_at DateTime64(6, 'UTC') COMMENT 'when it was made; clock of the ClickHouse server' CODEC(Delta, ZSTD(1)),
    version     UInt64 MATERIALIZED rows_seen * 4294967296 + toUnixTimestamp(computed_at) COMMENT 'of two rows with one key the one made of more rows holds, then the later one' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(day)
ORDER BY (namespace, task, day, fingerprint)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'what went wrong on each day, like messages taken together'
