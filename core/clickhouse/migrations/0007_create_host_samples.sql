-- What whole machines were using, about once a second while something ran.
-- Read by: the host page, noisy neighbours, cost against the whole.
-- ORDER BY: one machine's figures of one period are asked for together; (host, at) is the reading's identity.
CREATE TABLE IF NOT EXISTS host_samples
(
    host             LowCardinality(String) COMMENT 'name of the machine',
    at               DateTime64(6, 'UTC') COMMENT 'when the reading was taken; clock of the machine' CODEC(Delta, ZSTD(1)),
    cpu_us           UInt64 COMMENT 'busy time of all cores since boot, microseconds; from /proc/stat' CODEC(Delta, ZSTD(1)),
    cpu_idle_us      UInt64 COMMENT 'idle and iowait time of all cores since boot, microseconds; from /proc/stat' CODEC(Delta, ZSTD(1)),
    cores            UInt16 COMMENT 'cores online' CODEC(ZSTD(1)),
    load1            Float64 COMMENT 'load average of one minute; from /proc/loadavg' CODEC(ZSTD(1)),
    mem_total_bytes  UInt64 COMMENT 'memory of the machine, bytes' CODEC(ZSTD(1)),
    mem_used_bytes   UInt64 COMMENT 'total minus available, bytes; from /proc/meminfo' CODEC(Delta, ZSTD(1)),
    swap_used_bytes  UInt64 COMMENT 'swap in use, bytes' CODEC(Delta, ZSTD(1)),
    disk_read_bytes  UInt64 COMMENT 'read from all whole disks since boot, bytes; from /proc/diskstats' CODEC(Delta, ZSTD(1)),
    disk_write_bytes UInt64 COMMENT 'written to all whole disks since boot, bytes; from /proc/diskstats' CODEC(Delta, ZSTD(1)),
    net_recv_bytes   UInt64 COMMENT 'received on all interfaces but loopback since boot, bytes; from /proc/net/dev' CODEC(Delta, ZSTD(1)),
    net_sent_bytes   UInt64 COMMENT 'sent on all interfaces but loopback since boot, bytes; from /proc/net/dev' CODEC(Delta, ZSTD(1)),
    data_total_bytes UInt64 COMMENT 'size of the file system that holds the data folder, bytes' CODEC(ZSTD(1)),
    data_free_bytes  UInt64 COMMENT 'free room of the file system that holds the data folder, bytes' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (host, at)
SETTINGS non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'what whole machines were using'
