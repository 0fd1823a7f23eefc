-- When a process's hour last got a reading, by this server's clock: what has come since costs were last made.
-- Read by: the keeper of the roll-ups (costs.go) only. It is MATERIALIZED, so that SELECT * does not show it.
-- ORDER BY: as before. There are some hundred rows a day, which are read whole.
ALTER TABLE process_hours
    ADD COLUMN IF NOT EXISTS shipped_at SimpleAggregateFunction(max, DateTime('UTC')) MATERIALIZED now('UTC') COMMENT 'when the hour''s last reading was inserted; clock of the ClickHouse server'
