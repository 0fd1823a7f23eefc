-- When each row of attempts reached this server, by its own clock: what has come since the roll-ups were last made.
-- Read by: the keeper of the roll-ups (rollup.go) only. It is MATERIALIZED, so that SELECT * does not show it.
-- ORDER BY: as before. Rows come in about the order of fire_at, so the minmax index leaves out all but the last parts and
-- the few granules that late rows lie in.
ALTER TABLE attempts
    ADD COLUMN IF NOT EXISTS shipped_at DateTime('UTC') MATERIALIZED now('UTC') COMMENT 'when the row was inserted; clock of the ClickHouse server; of rows sent twice, the last' CODEC(Delta, ZSTD(1)),
    ADD INDEX IF NOT EXISTS shipped_at_range shipped_at TYPE minmax GRANULARITY 1
