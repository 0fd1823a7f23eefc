-- Gives the rows of process_hours that were there before shipped_at the time of this migration, as for attempts: else they
-- would be read as inserted just now, for ever.
-- Read by: the keeper of the roll-ups (costs.go).
-- ORDER BY: as before.
ALTER TABLE process_hours MATERIALIZE COLUMN shipped_at
