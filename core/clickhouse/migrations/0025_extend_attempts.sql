-- Which process carried an attempt, so that its share of what that process used can be found.
-- Read by: v_cost, v_noisy_neighbours, a run's page.
-- ORDER BY: as before. Costs are asked for by the hour in which an attempt ended, which ended_range finds; one that reaches
-- from one hour into another is found by hour_crossed. Old parts are read whole.
ALTER TABLE attempts
    ADD COLUMN IF NOT EXISTS server LowCardinality(String) COMMENT 'id of the server that made it, see servers; empty: written before this was known',
    ADD COLUMN IF NOT EXISTS plugin LowCardinality(String) COMMENT 'plugin whose process carried it, or lua-worker; empty: none, the server itself did, or it never reached one',
    ADD COLUMN IF NOT EXISTS plugin_version LowCardinality(String) COMMENT 'version of that plugin; of a Lua worker that of gnomon',
    ADD COLUMN IF NOT EXISTS pid UInt32 COMMENT 'process id of the root of the tree that carried it; 0: none' CODEC(ZSTD(1)),
    ADD INDEX IF NOT EXISTS ended_range ended_at TYPE minmax GRANULARITY 1,
    ADD INDEX IF NOT EXISTS hour_crossed (toStartOfHour(started_at) != toStartOfHour(ended_at)) TYPE set(2) GRANULARITY 1
