-- What each process tree used in each hour, made from plugin_samples as they come. Counters of a tree only rise, so that
-- the least and the greatest of an hour say what was used in it, and a reading that is written twice changes neither.
-- Read by: v_cost, which lives on when the samples themselves are gone.
-- ORDER BY: costs are asked for by period; the rest names the tree.
CREATE TABLE IF NOT EXISTS process_hours
(
    hour        DateTime('UTC') COMMENT 'beginning of the hour; clock of the server',
    host        LowCardinality(String) COMMENT 'name of the machine',
    server      LowCardinality(String) COMMENT 'id of the server it belongs to, see servers',
    kind        LowCardinality(String) COMMENT 'plugin, lua_worker, server or engine',
    plugin      LowCardinality(String) COMMENT 'name of the plugin, lua-worker, server or engine',
    version     LowCardinality(String) COMMENT 'version of the plugin; of the others that of gnomon',
    namespace   LowCardinality(String) COMMENT 'namespace of a Lua worker; empty for what serves several',
    pid         UInt32 COMMENT 'process id of the root of the tree',
    start_ticks UInt64 COMMENT 'start of the root, clock ticks since boot',
    cpu_us_from SimpleAggregateFunction(min, UInt64) COMMENT 'where the hour''s first reading began to count: microseconds of CPU since the tree began; from plugin_samples',
    cpu_us_to SimpleAggregateFunction(max, UInt64) COMMENT 'at the hour''s last reading: microseconds of CPU since the tree began; from plugin_samples',
    busy_cpu_us_from SimpleAggregateFunction(min, UInt64) COMMENT 'where the hour''s first reading began to count: microseconds of CPU in busy spans since the tree began; from plugin_samples',
    busy_cpu_us_to SimpleAggregateFunction(max, UInt64) COMMENT 'at the hour''s last reading: microseconds of CPU in busy spans since the tree began; from plugin_samples',
    read_bytes_from SimpleAggregateFunction(min, UInt64) COMMENT 'where the hour''s first reading began to count: bytes fetched from storage since the tree began; from plugin_samples',
    read_bytes_to SimpleAggregateFunction(max, UInt64) COMMENT 'at the hour''s last reading: bytes fetched from storage since the tree began; from plugin_samples',
    write_bytes_from SimpleAggregateFunction(min, UInt64) COMMENT 'where the hour''s first reading began to count: bytes sent to storage since the tree began; from plugin_samples',
    write_bytes_to SimpleAggregateFunction(max, UInt64) COMMENT 'at the hour''s last reading: bytes sent to storage since the tree began; from plugin_samples',
    rss_byte_s_from SimpleAggregateFunction(min, UInt64) COMMENT 'where the hour''s first reading began to count: byte-seconds of resident memory since the tree began; from plugin_samples',
    rss_byte_s_to SimpleAggregateFunction(max, UInt64) COMMENT 'at the hour''s last reading: byte-seconds of resident memory since the tree began; from plugin_samples',
    busy_rss_byte_s_from SimpleAggregateFunction(min, UInt64) COMMENT 'where the hour''s first reading began to count: byte-seconds of resident memory in busy spans since the tree began; from plugin_samples',
    busy_rss_byte_s_to SimpleAggregateFunction(max, UInt64) COMMENT 'at the hour''s last reading: byte-seconds of resident memory in busy spans since the tree began; from plugin_samples',
    rss_peak_bytes SimpleAggregateFunction(max, UInt64) COMMENT 'highest resident memory at a reading of the hour, bytes'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, host, server, kind, plugin, version, namespace, pid, start_ticks)
SETTINGS non_replicated_deduplication_window = 10000, old_parts_lifetime = 480
COMMENT 'what each process tree used in each hour'
