-- Every server process there was: what the ids in other tables stand for.
-- Read by: whoever joins a row to the machine it was made on; v_cost, the page of servers.
-- ORDER BY: an id is looked for; it is the row's identity, and its last record replaces the earlier ones.
CREATE TABLE IF NOT EXISTS servers
(
    server          LowCardinality(String) COMMENT 'id of the server: UUIDv7, new at each start',
    host            LowCardinality(String) COMMENT 'name of the machine',
    version         LowCardinality(String) COMMENT 'version of gnomon',
    pid             UInt32 COMMENT 'process id' CODEC(ZSTD(1)),
    started_at      DateTime64(6, 'UTC') COMMENT 'when it started; its clock' CODEC(ZSTD(1)),
    ended_at        Nullable(DateTime64(6, 'UTC')) COMMENT 'when it stopped in order; NULL: it runs, or was killed; its clock' CODEC(ZSTD(1)),
    cores           UInt32 COMMENT 'cores online when it started; from /proc/stat' CODEC(ZSTD(1)),
    cpu_limit_cores Nullable(Float64) COMMENT 'cores its control groups allow; from cpu.max or cpu.cfs_quota_us; NULL: no limit' CODEC(ZSTD(1)),
    mem_total_bytes UInt64 COMMENT 'memory of the machine, bytes; from /proc/meminfo' CODEC(ZSTD(1)),
    mem_limit_bytes Nullable(UInt64) COMMENT 'memory its control groups allow, bytes; from memory.max or memory.limit_in_bytes; NULL: no limit' CODEC(ZSTD(1)),
    recorded_at     DateTime64(6, 'UTC') COMMENT 'when this was written; its clock' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(recorded_at)
ORDER BY server
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480
COMMENT 'every server process there was'
