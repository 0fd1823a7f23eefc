-- What everything cost: by day and task, and by hour and task type. Days are made anew as a whole and of all namespaces at
-- once, because processes are shared: what an attempt is given depends on who else was in its process in that hour.
-- Read by: v_cost, v_cost_by_hour.
-- ORDER BY: rights are per namespace, and one namespace's types and tasks are asked for together; the whole of it is the
-- row's identity.
CREATE TABLE IF NOT EXISTS costs
(
    span            LowCardinality(String) COMMENT 'what a row is over: day or hour',
    namespace       LowCardinality(String) COMMENT 'business system of the task; of a lua_worker that of its scripts; empty for what serves several',
    task_type       LowCardinality(String) COMMENT 'Namespace.Type; empty for what is no run',
    task            LowCardinality(String) COMMENT 'name of the task when it fired; empty for what is no run, and in rows over an hour',
    day             Date COMMENT 'day of the hour in which it was spent, UTC' CODEC(Delta, ZSTD(1)),
    hour            DateTime('UTC') COMMENT 'beginning of the hour, of a row over a day that of the day' CODEC(Delta, ZSTD(1)),
    kind            LowCardinality(String) COMMENT 'run, plugin, lua_worker, server or engine; see v_cost',
    server          LowCardinality(String) COMMENT 'id of the server, see servers',
    plugin          LowCardinality(String) COMMENT 'plugin whose processes they are, lua-worker, server or engine; empty: the server itself carried it out',
    plugin_version  LowCardinality(String) COMMENT 'version of that plugin; of a Lua worker and the server that of gnomon, of the engine that of ClickHouse',
    attempts        UInt64 COMMENT 'attempts that ended; from attempts' CODEC(ZSTD(1)),
    run_us          UInt64 COMMENT 'time attempts took, microseconds; from attempts' CODEC(ZSTD(1)),
    measured_us     UInt64 COMMENT 'CPU measured for attempts that had their process to themselves, microseconds' CODEC(ZSTD(1)),
    shared_us       UInt64 COMMENT 'CPU measured on the threads of attempts that shared a process, microseconds' CODEC(ZSTD(1)),
    apportioned_us  UInt64 COMMENT 'CPU that their process used beyond their threads while something ran, in proportion, microseconds' CODEC(ZSTD(1)),
    beyond_us       UInt64 COMMENT 'of what is no run: CPU that processes used beyond attempts, microseconds; from process_hours' CODEC(ZSTD(1)),
    cpu_source      LowCardinality(String) COMMENT 'measured, shared, unknown or process; see v_cost',
    rss_byte_s      UInt64 COMMENT 'resident memory times time, byte-seconds' CODEC(ZSTD(1)),
    read_bytes      UInt64 COMMENT 'fetched from storage, bytes' CODEC(ZSTD(1)),
    write_bytes     UInt64 COMMENT 'sent to storage, bytes' CODEC(ZSTD(1)),
    rows_seen       UInt64 COMMENT 'attempts and processes, by the hour, that the whole day was made of' CODEC(ZSTD(1)),
    computed_at     DateTime64(6, 'UTC') COMMENT 'when it was made; clock of the ClickHouse server' CODEC(Delta, ZSTD(1)),
    version         UInt64 MATERIALIZED rows_seen * 4294967296 + toUnixTimestamp(computed_at) COMMENT 'of two rows with one key the one made of more rows holds, then the later one' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(day)
ORDER BY (span, namespace, task_type, task, day, hour, kind, server, plugin, plugin_version)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'what everything cost, by day and task and by hour and task type'
