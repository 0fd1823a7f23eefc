-- Has the roll-ups of all days made anew, so that backfills and retries are out of the lateness of old days too. What stands there
-- is read until it is replaced. The costs of all namespaces together (*) did not change.
-- Read by: the keeper of the roll-ups (rollup.go).
-- ORDER BY: as before.
ALTER TABLE rollups
    DELETE WHERE namespace != '*'
    SETTINGS mutations_sync = 1
