-- What is of the past when somebody wants it is late by nature: a backfill or a retry has no lateness.
-- Read by: all lateness figures of single runs; the roll-ups have their own.
-- ORDER BY: as before. The column is computed as it is read, so nothing is written anew.
ALTER TABLE runs
    MODIFY COLUMN IF EXISTS lateness_ms Nullable(Float64) ALIAS if(attempts <= 1 AND trigger NOT IN ('backfill', 'retry'), dateDiff('microsecond', fire_at, started_at) / 1000, NULL) COMMENT 'from the nominal instant to the start, milliseconds; NULL: never started, tried more than once (see attempts), or a backfill or retry, whose instant was past when it was wanted'
