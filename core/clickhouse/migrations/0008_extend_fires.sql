-- What policies, calendars, chains and gates have to say about a fire.
-- Read by: `gnomon why`, the steps of a workflow run, what a run has caused, should-run against did-run.
-- ORDER BY: as before. Steps are looked for by their workflow, which the bloom filter finds; what a run has caused is
-- younger than it, which bounds the search by run_id; fire_through_range finds the ranges of skipped fires that begin
-- before a period and reach into it. Old parts have no such values, so nothing is built for them.
ALTER TABLE fires
    ADD COLUMN IF NOT EXISTS series String COMMENT 'whose instants it belongs to: empty for the schedule''s own, else backfill:<id>, upstream:<run id>, workflow:<run id>/<step>#<round> or retry:<run id>' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS moved_from Nullable(DateTime64(6, 'UTC')) COMMENT 'the first instant that the calendars moved to fire_at; NULL: none was' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS workflow_id String COMMENT 'run_id of the workflow run it is a step of; empty: none' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS step LowCardinality(String) COMMENT 'name of the step in the workflow; empty: none',
    ADD COLUMN IF NOT EXISTS caused_by String COMMENT 'run_id of the run that caused it or that it repeats; empty: none' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS priority Int16 COMMENT 'by the task''s policies, -100 to 100: the higher is admitted first' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS gate LowCardinality(String) COMMENT 'what it waited at last: overlap, precondition, breaker or capacity; empty: it never waited',
    ADD COLUMN IF NOT EXISTS gate_key LowCardinality(String) COMMENT 'which one: the limit or breaker by name, the precondition by its index',
    ADD COLUMN IF NOT EXISTS wait_since Nullable(DateTime64(6, 'UTC')) COMMENT 'when it came to the first gate it waited at; NULL: it never waited; clock of the server' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS stop LowCardinality(String) COMMENT 'how it was asked to stop: cancel, terminate or supersede; empty: it was not',
    ADD COLUMN IF NOT EXISTS stop_by LowCardinality(String) COMMENT 'principal or run that asked it to stop; empty: none',
    ADD COLUMN IF NOT EXISTS breaches_json String COMMENT 'JSON: the service levels it missed, with kind, at and limit; empty: none' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS breaches Array(String) ALIAS if(breaches_json = '', [], arrayMap(b -> JSONExtractString(b, 'kind'), JSONExtractArrayRaw(breaches_json))) COMMENT 'kinds of the service levels it missed: not_started_in_time, not_finished_in_time, too_long, slower_than_usual',
    ADD COLUMN IF NOT EXISTS waited_ms Nullable(Float64) ALIAS if(decision = 'skipped', dateDiff('microsecond', wait_since, decided_at) / 1000, NULL) COMMENT 'from the first gate to the decision to skip it, milliseconds; NULL: it never waited, or started (see runs)',
    ADD INDEX IF NOT EXISTS workflow_id_bloom workflow_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS fire_through_range fire_through TYPE minmax GRANULARITY 1,
    COMMENT COLUMN IF EXISTS trigger 'schedule, manual, catch_up, backfill, upstream, workflow or retry',
    COMMENT COLUMN IF EXISTS reason 'why it was skipped: overlap, catch_up, nonexistent_local_time, calendar, paused, max_runs, precondition, breaker, capacity, superseded, disabled, edited, shutdown, unknown_type or poisoned; empty if started'
