-- What the process trees of plugins and Lua workers were using, about once a second while something ran.
-- Read by: cost by plugin and namespace, leaks, noisy neighbours.
-- ORDER BY: one plugin's figures of one period are asked for together; (plugin, namespace, version, pid, at) is the
-- reading's identity.
CREATE TABLE IF NOT EXISTS plugin_samples
(
    plugin      LowCardinality(String) COMMENT 'name of the plugin, or lua-worker',
    version     LowCardinality(String) COMMENT 'version of the plugin',
    namespace   LowCardinality(String) COMMENT 'namespace of a Lua worker; empty for a plugin that serves several',
    pid         UInt32 COMMENT 'process id of the root of the tree' CODEC(ZSTD(1)),
    at          DateTime64(6, 'UTC') COMMENT 'when the reading was taken; clock of the server' CODEC(Delta, ZSTD(1)),
    cpu_us      UInt64 COMMENT 'user plus system time since the root process began, microseconds; from /proc/<pid>/stat' CODEC(Delta, ZSTD(1)),
    rss_bytes   UInt64 COMMENT 'resident memory of the tree now, bytes' CODEC(Delta, ZSTD(1)),
    read_bytes  UInt64 COMMENT 'bytes fetched from storage since the root began; from /proc/<pid>/io' CODEC(Delta, ZSTD(1)),
    write_bytes UInt64 COMMENT 'bytes sent to storage since the root began; from /proc/<pid>/io' CODEC(Delta, ZSTD(1)),
    threads     UInt32 COMMENT 'threads of the tree' CODEC(ZSTD(1)),
    fds         Int32 COMMENT 'open descriptors of the tree; -1: unreadable' CODEC(ZSTD(1)),
    processes   UInt32 COMMENT 'processes of the tree' CODEC(ZSTD(1)),
    running     UInt32 COMMENT 'attempts in progress' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (plugin, namespace, version, pid, at)
SETTINGS non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'what plugins and Lua workers were using'
