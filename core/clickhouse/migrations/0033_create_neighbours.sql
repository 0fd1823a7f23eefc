-- The twenty tasks that took most of a machine, five minutes by five minutes, and whose attempts were slow meanwhile. A day is
-- made anew as a whole: of a day's rows those that were made last hold.
-- Read by: v_noisy_neighbours.
-- ORDER BY: a period is asked for; the rest names the task. Days are dropped whole when nobody asks for them any more.
CREATE TABLE IF NOT EXISTS neighbours
(
    day            Date COMMENT 'day of the period, UTC' CODEC(Delta, ZSTD(1)),
    period         DateTime('UTC') COMMENT 'beginning of the five minutes' CODEC(Delta, ZSTD(1)),
    host           LowCardinality(String) COMMENT 'name of the machine; from servers',
    namespace      LowCardinality(String) COMMENT 'business system of the task',
    task_type      LowCardinality(String) COMMENT 'Namespace.Type',
    task           LowCardinality(String) COMMENT 'name of the task when it fired',
    plugin         LowCardinality(String) COMMENT 'plugin whose process carried it, or lua-worker',
    attempts       UInt64 COMMENT 'attempts that were in progress in the period; from attempts' CODEC(ZSTD(1)),
    cpu_s          Float64 COMMENT 'CPU time they used in the period, seconds; an attempt''s is spread evenly over its time' CODEC(ZSTD(1)),
    cpu_share      Float64 COMMENT 'of all CPU time the machine had in the period, 0 to 1' CODEC(ZSTD(1)),
    rss_avg_bytes  Float64 COMMENT 'memory they held on average over the period, bytes' CODEC(ZSTD(1)),
    rss_peak_bytes UInt64 COMMENT 'highest memory of one of them, bytes' CODEC(ZSTD(1)),
    rss_share      Float64 COMMENT 'rss_avg_bytes of the machine''s memory, 0 to 1' CODEC(ZSTD(1)),
    rss_source     LowCardinality(String) COMMENT 'measured, shared or unknown; see v_noisy_neighbours',
    io_bytes       Float64 COMMENT 'read from and written to storage in the period, bytes' CODEC(ZSTD(1)),
    io_share       Float64 COMMENT 'of all the machine''s disks did in the period, 0 to 1; 0 if that is not known' CODEC(ZSTD(1)),
    host_cpu_share Float64 COMMENT 'busy CPU time of the whole machine in the period, 0 to 1; from host_samples' CODEC(ZSTD(1)),
    slow_names     Array(String) COMMENT 'tasks of the machine that took at least half as long again as usual in the period, the slowest first, at most 11: namespace/task' CODEC(ZSTD(1)),
    slow_times     Array(Float64) COMMENT 'how many times as long as usual each of them took' CODEC(ZSTD(1)),
    computed_at    DateTime64(6, 'UTC') COMMENT 'when the day was made; clock of the ClickHouse server' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(computed_at)
PARTITION BY day
ORDER BY (period, host, namespace, task_type, task)
TTL day + INTERVAL 9 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'the twenty tasks that took most of a machine, by five minutes'
