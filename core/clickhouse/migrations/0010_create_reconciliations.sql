-- What each task should have done on each day against what was decided, computed anew from its schedule.
-- Read by: the ledger page, `gnomon doctor`, the metric of missing and doubled fires.
-- ORDER BY: one day of a namespace is asked for together. (namespace, day, task_id) is the row's identity; a day that
-- is checked again replaces what was found before, by checked_at.
CREATE TABLE IF NOT EXISTS reconciliations
(
    day          Date COMMENT 'the day that was checked, UTC',
    namespace    LowCardinality(String) COMMENT 'business system; from the task',
    task         LowCardinality(String) COMMENT 'name of the task when it was checked; unique in its namespace',
    task_id      LowCardinality(String) COMMENT 'UUID of the task',
    expected     UInt32 COMMENT 'nominal instants by the schedule, computed without the scheduler''s marks' CODEC(ZSTD(1)),
    decided      UInt32 COMMENT 'of them covered by rows of fires' CODEC(ZSTD(1)),
    started      UInt32 COMMENT 'of the decided ones started' CODEC(ZSTD(1)),
    skipped      UInt32 COMMENT 'of the decided ones skipped, with a reason' CODEC(ZSTD(1)),
    missing      UInt32 COMMENT 'nominal instants expected and not decided' CODEC(ZSTD(1)),
    doubled      UInt32 COMMENT 'nominal instants decided more than once' CODEC(ZSTD(1)),
    unexpected   UInt32 COMMENT 'rows of fires at an instant that the schedule does not have' CODEC(ZSTD(1)),
    miscounted   UInt32 COMMENT 'rows over several instants that name another number than there are' CODEC(ZSTD(1)),
    unjudged     UInt32 COMMENT 'of calendars that have changed since, so that nothing can be said of them' CODEC(ZSTD(1)),
    missing_list Array(DateTime64(6, 'UTC')) COMMENT 'the first of the missing instants, at most 100' CODEC(ZSTD(1)),
    checked_at   DateTime64(6, 'UTC') COMMENT 'when it was checked; clock of the server' CODEC(Delta, ZSTD(1)),
    server       LowCardinality(String) COMMENT 'id of the server that checked'
)
ENGINE = ReplacingMergeTree(checked_at)
PARTITION BY toYYYYMM(day)
ORDER BY (namespace, day, task_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
COMMENT 'what each task should have done on each day against what was decided'
