-- What each namespace did on each day: runs_day, which it is made of in the same pass, added up. A namespace may have thousands of
-- tasks: to add their histograms up for each question took 0.3 s for a month and seconds for a year.
-- Read by: v_namespace_by_day; analysts who ask for weeks, months or all namespaces together.
-- ORDER BY: one namespace's days are asked for together; (namespace, day) is the row's identity.
CREATE TABLE IF NOT EXISTS namespaces_day
(
    namespace       LowCardinality(String) COMMENT 'business system; from the task',
    day             Date COMMENT 'day of the nominal instant, UTC' CODEC(Delta, ZSTD(1)),
    tasks           UInt64 COMMENT 'tasks that ran or were skipped; from runs_day' CODEC(ZSTD(1)),
    fires_started   UInt64 COMMENT 'nominal instants that started a run; from fires' CODEC(ZSTD(1)),
    fires_skipped   UInt64 COMMENT 'nominal instants that were skipped; a range counts on the day it begins; from fires' CODEC(ZSTD(1)),
    skip_reasons    Map(String, UInt64) COMMENT 'nominal instants that were skipped, by reason; from fires' CODEC(ZSTD(1)),
    runs            UInt64 COMMENT 'runs that have ended; from runs' CODEC(ZSTD(1)),
    succeeded       UInt64 COMMENT 'of them succeeded; from runs' CODEC(ZSTD(1)),
    failed          UInt64 COMMENT 'of them failed; from runs' CODEC(ZSTD(1)),
    timed_out       UInt64 COMMENT 'of them timed out; from runs' CODEC(ZSTD(1)),
    crashed         UInt64 COMMENT 'of them crashed; from runs' CODEC(ZSTD(1)),
    lost            UInt64 COMMENT 'of them lost; from runs' CODEC(ZSTD(1)),
    cancelled       UInt64 COMMENT 'of them cancelled; from runs' CODEC(ZSTD(1)),
    retried         UInt64 COMMENT 'of them tried more than once; from runs' CODEC(ZSTD(1)),
    attempts        UInt64 COMMENT 'attempts of these runs; from runs' CODEC(ZSTD(1)),
    duration_count  UInt64 COMMENT 'from the start of the last attempt to the end: how many runs have this figure; from runs' CODEC(ZSTD(1)),
    duration_sum_us UInt64 COMMENT 'from the start of the last attempt to the end, sum, microseconds; from runs' CODEC(ZSTD(1)),
    duration_max_us UInt64 COMMENT 'from the start of the last attempt to the end, longest, microseconds; from runs' CODEC(ZSTD(1)),
    duration_p50_us Nullable(Float32) COMMENT 'from the start of the last attempt to the end, median, within 2.2 %, microseconds; NULL: no figure; from runs' CODEC(ZSTD(1)),
    duration_p95_us Nullable(Float32) COMMENT 'from the start of the last attempt to the end, 95 % are below it, within 2.2 %, microseconds; NULL: no figure; from runs' CODEC(ZSTD(1)),
    duration_p99_us Nullable(Float32) COMMENT 'from the start of the last attempt to the end, 99 % are below it, within 2.2 %, microseconds; NULL: no figure; from runs' CODEC(ZSTD(1)),
    duration_hist   Map(UInt16, UInt64) COMMENT 'from the start of the last attempt to the end: how many lie in bucket b, which is 2^(b/16) to 2^((b+1)/16) microseconds; from runs' CODEC(ZSTD(1)),
    lateness_count  UInt64 COMMENT 'from the nominal instant to the start: how many runs have this figure; from runs' CODEC(ZSTD(1)),
    lateness_sum_us UInt64 COMMENT 'from the nominal instant to the start, sum, microseconds; from runs' CODEC(ZSTD(1)),
    lateness_max_us UInt64 COMMENT 'from the nominal instant to the start, longest, microseconds; from runs' CODEC(ZSTD(1)),
    lateness_p50_us Nullable(Float32) COMMENT 'from the nominal instant to the start, median, within 2.2 %, microseconds; NULL: no figure; from runs' CODEC(ZSTD(1)),
    lateness_p95_us Nullable(Float32) COMMENT 'from the nominal instant to the start, 95 % are below it, within 2.2 %, microseconds; NULL: no figure; from runs' CODEC(ZSTD(1)),
    lateness_p99_us Nullable(Float32) COMMENT 'from the nominal instant to the start, 99 % are below it, within 2.2 %, microseconds; NULL: no figure; from runs' CODEC(ZSTD(1)),
    lateness_hist   Map(UInt16, UInt64) COMMENT 'from the nominal instant to the start: how many lie in bucket b, which is 2^(b/16) to 2^((b+1)/16) microseconds; from runs' CODEC(ZSTD(1)),
    waited_count    UInt64 COMMENT 'from the first gate to the start: how many runs have this figure; from runs' CODEC(ZSTD(1)),
    waited_sum_us   UInt64 COMMENT 'from the first gate to the start, sum, microseconds; from runs' CODEC(ZSTD(1)),
    waited_max_us   UInt64 COMMENT 'from the first gate to the start, longest, microseconds; from runs' CODEC(ZSTD(1)),
    waited_p50_us   Nullable(Float32) COMMENT 'from the first gate to the start, median, within 2.2 %, microseconds; NULL: no figure; from runs' CODEC(ZSTD(1)),
    waited_p95_us   Nullable(Float32) COMMENT 'from the first gate to the start, 95 % are below it, within 2.2 %, microseconds; NULL: no figure; from runs' CODEC(ZSTD(1)),
    waited_p99_us   Nullable(Float32) COMMENT 'from the first gate to the start, 99 % are below it, within 2.2 %, microseconds; NULL: no figure; from runs' CODEC(ZSTD(1)),
    waited_hist     Map(UInt16, UInt64) COMMENT 'from the first gate to the start: how many lie in bucket b, which is 2^(b/16) to 2^((b+1)/16) microseconds; from runs' CODEC(ZSTD(1)),
    queue_count     UInt64 COMMENT 'from hand-over to the beginning of the handler: how many attempts have this figure; from attempts' CODEC(ZSTD(1)),
    queue_sum_us    UInt64 COMMENT 'from hand-over to the beginning of the handler, sum, microseconds; from attempts' CODEC(ZSTD(1)),
    queue_max_us    UInt64 COMMENT 'from hand-over to the beginning of the handler, longest, microseconds; from attempts' CODEC(ZSTD(1)),
    queue_p50_us    Nullable(Float32) COMMENT 'from hand-over to the beginning of the handler, median, within 2.2 %, microseconds; NULL: no figure; from attempts' CODEC(ZSTD(1)),
    queue_p95_us    Nullable(Float32) COMMENT 'from hand-over to the beginning of the handler, 95 % are below it, within 2.2 %, microseconds; NULL: no figure; from attempts' CODEC(ZSTD(1)),
    queue_p99_us    Nullable(Float32) COMMENT 'from hand-over to the beginning of the handler, 99 % are below it, within 2.2 %, microseconds; NULL: no figure; from attempts' CODEC(ZSTD(1)),
    queue_hist      Map(UInt16, UInt64) COMMENT 'from hand-over to the beginning of the handler: how many lie in bucket b, which is 2^(b/16) to 2^((b+1)/16) microseconds; from attempts' CODEC(ZSTD(1)),
    cpu_us          UInt64 COMMENT 'user plus system time of all attempts, microseconds, where it is known; from runs (last attempts) and attempts (earlier ones)' CODEC(ZSTD(1)),
    cpu_shared_us   UInt64 COMMENT 'of it in processes that ran other attempts too, microseconds' CODEC(ZSTD(1)),
    cpu_unknown     UInt64 COMMENT 'attempts whose CPU time is not known' CODEC(ZSTD(1)),
    peak_rss_bytes  UInt64 COMMENT 'highest resident memory of a process during an attempt, bytes' CODEC(ZSTD(1)),
    read_bytes      UInt64 COMMENT 'fetched from storage by all attempts, bytes' CODEC(ZSTD(1)),
    write_bytes     UInt64 COMMENT 'sent to storage by all attempts, bytes' CODEC(ZSTD(1)),
    rows_seen       UInt64 COMMENT 'rows of fires, runs and attempts that this row was made of' CODEC(ZSTD(1)),
    computed_at     DateTime64(6, 'UTC') COMMENT 'when it was made; clock of the ClickHouse server' CODEC(Delta, ZSTD(1)),
    version         UInt64 MATERIALIZED rows_seen * 4294967296 + toUnixTimestamp(computed_at) COMMENT 'of two rows with one key the one made of more rows holds, then the later one' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(day)
ORDER BY (namespace, day)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'what each namespace did on each day'
