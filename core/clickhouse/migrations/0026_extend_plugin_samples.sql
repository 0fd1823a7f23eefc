-- What process trees have used between two readings, so that a sum over rows is what they used; the server and the engine
-- are trees too. What is spent counts from the tree's previous recorded reading, the first one from its beginning, and
-- a tree that ends gives a last reading, by its parent: nothing falls between two ticks.
-- Read by: v_cost, process_hours.
-- ORDER BY: as before; two servers never write the same (plugin, namespace, version, pid, at): at has microseconds.
ALTER TABLE plugin_samples
    ADD COLUMN IF NOT EXISTS kind LowCardinality(String) DEFAULT if(plugin = 'lua-worker', 'lua_worker', 'plugin') COMMENT 'what the tree is: plugin, lua_worker, server (without its children) or engine',
    ADD COLUMN IF NOT EXISTS server LowCardinality(String) COMMENT 'id of the server it belongs to, see servers; empty: written before this was known',
    ADD COLUMN IF NOT EXISTS host LowCardinality(String) COMMENT 'name of the machine; empty: likewise',
    ADD COLUMN IF NOT EXISTS cpu_from LowCardinality(String) COMMENT 'where cpu_us was read: cgroup (all that ever ran in the tree), proc (living processes and ended ones that were waited for), rusage; empty: likewise',
    ADD COLUMN IF NOT EXISTS final Bool COMMENT 'true for the reading taken as the tree ended; its memory and counts of now are 0' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS busy Bool COMMENT 'an attempt was in progress at some time since the previous reading' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS start_ticks Nullable(UInt64) COMMENT 'start of the root, clock ticks since boot; with pid it names the tree; from /proc/<pid>/stat' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS span_us Nullable(UInt64) COMMENT 'time since the tree''s previous reading, or since it began, microseconds' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS attempts Nullable(UInt64) COMMENT 'attempts begun since the tree began' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS spent_cpu_us Nullable(UInt64) COMMENT 'growth of cpu_us over span_us, microseconds; NULL: not taken' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS spent_read_bytes Nullable(UInt64) COMMENT 'growth of read_bytes over span_us, bytes; NULL: not taken' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS spent_write_bytes Nullable(UInt64) COMMENT 'growth of write_bytes over span_us, bytes; NULL: not taken' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS spent_rss_byte_s Nullable(UInt64) COMMENT 'rss_bytes times span_us, byte-seconds; of a final reading what was held before; NULL: not taken' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS total_rss_byte_s Nullable(UInt64) COMMENT 'sum of spent_rss_byte_s since the tree began, byte-seconds' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS busy_cpu_us Nullable(UInt64) COMMENT 'of cpu_us what was spent in busy spans, microseconds since the tree began' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS busy_rss_byte_s Nullable(UInt64) COMMENT 'of total_rss_byte_s what was spent in busy spans, byte-seconds' CODEC(Delta, ZSTD(1)),
    COMMENT COLUMN IF EXISTS plugin 'name of the plugin, lua-worker, server or engine',
    COMMENT COLUMN IF EXISTS namespace 'namespace of a Lua worker; empty for what serves several'
