-- Every change of a circuit breaker: when it opened, was probed and closed, and because of which run.
-- Read by: `gnomon why` (a fire that met an open breaker), the page of a downstream, how often and how long it was open.
-- ORDER BY: one breaker's changes of one period are asked for together; (name, at, run_id) is the change's identity.
CREATE TABLE IF NOT EXISTS breaker_changes
(
    name      LowCardinality(String) COMMENT 'downstream:<name>, shared by all namespaces, or task:<task id>',
    at        DateTime64(6, 'UTC') COMMENT 'when it changed; clock of the server' CODEC(Delta, ZSTD(1)),
    state     LowCardinality(String) COMMENT 'closed, open or half_open, after the change',
    failures  UInt32 COMMENT 'attempts in a row that had failed' CODEC(ZSTD(1)),
    opened_at Nullable(DateTime64(6, 'UTC')) COMMENT 'when it last opened; NULL: never' CODEC(ZSTD(1)),
    probe_at  Nullable(DateTime64(6, 'UTC')) COMMENT 'open: when a run may try; NULL: not open' CODEC(ZSTD(1)),
    because   String COMMENT 'message of the last failure' CODEC(ZSTD(1)),
    namespace LowCardinality(String) COMMENT 'business system of the run that changed it',
    task      LowCardinality(String) COMMENT 'name of the task of that run',
    run_id    String COMMENT 'UUIDv7 of the run that changed it' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (name, at, run_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'every change of a circuit breaker'
