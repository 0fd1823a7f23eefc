-- What is and was thinned: a row each time the readings of a day, or of hosts' month, are put together. It is written before
-- they are replaced, when they are, and when what was replaced is gone from disk.
-- Read by: the keeper that thins (thin.go), which sees through what was begun when ClickHouse or the server was killed; `gnomon
-- doctor`; operators.
-- ORDER BY: it is read as a whole; (samples, day, begun_at) is the row's identity: a period that got rows later is thinned again.
CREATE TABLE IF NOT EXISTS thinnings
(
    samples      LowCardinality(String) COMMENT 'the table: run_samples, plugin_samples or host_samples',
    day          Date COMMENT 'the day, UTC; of host_samples the first of the month',
    begun_at     DateTime64(6, 'UTC') COMMENT 'when they were about to be replaced; clock of the ClickHouse server' CODEC(ZSTD(1)),
    recorded_at  DateTime64(6, 'UTC') COMMENT 'when the row was written; clock of the ClickHouse server' CODEC(ZSTD(1)),
    state        LowCardinality(String) COMMENT 'begun; replaced: readers have the new rows; done: the old parts are gone from disk, too; given up: they had changed meanwhile and stayed as they were',
    replaced     Array(String) COMMENT 'parts that are replaced; from system.parts' CODEC(ZSTD(1)),
    rows_before  UInt64 COMMENT 'rows that the day had, repeats apart' CODEC(ZSTD(1)),
    rows_after   UInt64 COMMENT 'rows that it has since' CODEC(ZSTD(1)),
    bytes_before UInt64 COMMENT 'on disk, compressed, bytes' CODEC(ZSTD(1)),
    bytes_after  UInt64 COMMENT 'on disk, compressed, before merges, bytes' CODEC(ZSTD(1)),
    took_ms      UInt32 COMMENT 'how long it took, milliseconds, 0 if the server was killed meanwhile; clock of the Gnomon server' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(recorded_at)
ORDER BY (samples, day, begun_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480
COMMENT 'what is and was thinned'
