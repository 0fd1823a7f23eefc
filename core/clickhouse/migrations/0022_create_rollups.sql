-- Which days of which namespaces have been rolled up, and when; and how far: the row without a namespace.
-- Read by: the keeper of the roll-ups (rollup.go), which makes anew what has got rows since; `gnomon doctor` for the lag.
-- ORDER BY: it is read as a whole or for some days; (namespace, day) is the row's identity.
CREATE TABLE IF NOT EXISTS rollups
(
    namespace   LowCardinality(String) COMMENT 'business system whose day was rolled up; empty: the row that says how far all is',
    day         Date COMMENT 'day of the nominal instants, UTC; 1970-01-01 in the row without a namespace',
    rows_seen   UInt64 COMMENT 'rows of fires, runs and attempts that day has' CODEC(ZSTD(1)),
    computed_at DateTime64(6, 'UTC') COMMENT 'everything inserted some minutes before this is in the roll-ups; clock of the ClickHouse server' CODEC(Delta, ZSTD(1)),
    took_ms     UInt32 COMMENT 'how long the pass took, in the row without a namespace, else 0, milliseconds; clock of the Gnomon server' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(computed_at)
ORDER BY (namespace, day)
SETTINGS old_parts_lifetime = 480
COMMENT 'which days have been rolled up, and how far all is'
