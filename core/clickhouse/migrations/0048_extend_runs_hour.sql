-- How many have each figure of a hour of a task type, beside its histogram: to add that up for each mean took v_timing_by_hour
-- two thirds of its time.
-- Read by: v_timing_by_hour.
-- ORDER BY: as before.
ALTER TABLE runs_hour
    ADD COLUMN IF NOT EXISTS duration_count UInt64 DEFAULT arraySum(mapValues(duration_hist)) COMMENT 'from the start of the last attempt to the end: how many runs have this figure; from runs' CODEC(ZSTD(1)) AFTER attempts,
    ADD COLUMN IF NOT EXISTS lateness_count UInt64 DEFAULT arraySum(mapValues(lateness_hist)) COMMENT 'from the nominal instant to the start: how many runs have this figure; from runs' CODEC(ZSTD(1)) AFTER duration_hist,
    ADD COLUMN IF NOT EXISTS waited_count UInt64 DEFAULT arraySum(mapValues(waited_hist)) COMMENT 'from the first gate to the start: how many runs have this figure; from runs' CODEC(ZSTD(1)) AFTER lateness_hist,
    ADD COLUMN IF NOT EXISTS queue_count UInt64 DEFAULT arraySum(mapValues(queue_hist)) COMMENT 'from hand-over to the beginning of the handler: how many attempts have this figure; from attempts' CODEC(ZSTD(1)) AFTER waited_hist
