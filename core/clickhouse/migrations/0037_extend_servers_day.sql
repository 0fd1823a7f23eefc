-- Every attempt is its server's, not only the last of each run: attempts say since 0025 where they were made.
-- Read by: v_resources_by_server.
-- ORDER BY: as before.
ALTER TABLE servers_day
    ADD COLUMN IF NOT EXISTS attempts UInt64 COMMENT 'attempts that the server made; from runs and attempts' CODEC(ZSTD(1)) AFTER failures,
    COMMENT COLUMN IF EXISTS server 'id of the server that made the attempts; empty: written before attempts said so; from runs and attempts',
    COMMENT COLUMN IF EXISTS runs 'runs that have ended, the last attempt of which it made; from runs',
    COMMENT COLUMN IF EXISTS cpu_us 'user plus system time of the attempts, microseconds, where it is known; from runs and attempts',
    COMMENT COLUMN IF EXISTS cpu_shared_us 'of it in processes that ran other attempts too, microseconds; from runs and attempts',
    COMMENT COLUMN IF EXISTS peak_rss_bytes 'highest resident memory of a process during an attempt, bytes; 0: not known; from runs and attempts',
    COMMENT COLUMN IF EXISTS read_bytes 'fetched from storage by the attempts, bytes, where it is known; from runs and attempts',
    COMMENT COLUMN IF EXISTS write_bytes 'sent to storage by the attempts, bytes, where it is known; from runs and attempts',
    COMMENT COLUMN IF EXISTS rows_seen 'rows of runs and attempts that this row was made of'
