-- What each server did for each task type on each day. Made anew as a whole, like runs_day.
-- Read by: v_resources_by_server.
-- ORDER BY: one namespace's types are asked for together, and rights are per namespace; (namespace, task_type, day, server)
-- is the row's identity.
CREATE TABLE IF NOT EXISTS servers_day
(
    namespace      LowCardinality(String) COMMENT 'business system; from the task',
    task_type      LowCardinality(String) COMMENT 'Namespace.Type; from the task',
    day            Date COMMENT 'day of the nominal instant, UTC' CODEC(Delta, ZSTD(1)),
    server         LowCardinality(String) COMMENT 'id of the server that ran it; from runs',
    runs           UInt64 COMMENT 'runs that have ended; from runs' CODEC(ZSTD(1)),
    failures       UInt64 COMMENT 'of them failed, timed out, crashed or lost; from runs' CODEC(ZSTD(1)),
    cpu_us         UInt64 COMMENT 'user plus system time of their last attempts, microseconds, where it is known; from runs' CODEC(ZSTD(1)),
    cpu_shared_us  UInt64 COMMENT 'of it in processes that ran other attempts too, microseconds; from runs' CODEC(ZSTD(1)),
    peak_rss_bytes UInt64 COMMENT 'highest resident memory of a process during a last attempt, bytes; 0: not known; from runs' CODEC(ZSTD(1)),
    read_bytes     UInt64 COMMENT 'fetched from storage by their last attempts, bytes, where it is known; from runs' CODEC(ZSTD(1)),
    write_bytes    UInt64 COMMENT 'sent to storage by their last attempts, bytes, where it is known; from runs' CODEC(ZSTD(1)),
    rows_seen      UInt64 COMMENT 'rows of runs that this row was made of' CODEC(ZSTD(1)),
    computed_at    DateTime64(6, 'UTC') COMMENT 'when it was made; clock of the ClickHouse server' CODEC(Delta, ZSTD(1)),
    version        UInt64 MATERIALIZED rows_seen * 4294967296 + toUnixTimestamp(computed_at) COMMENT 'of two rows with one key the one made of more rows holds, then the later one' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(day)
ORDER BY (namespace, task_type, day, server)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'what each server did for each task type on each day'
