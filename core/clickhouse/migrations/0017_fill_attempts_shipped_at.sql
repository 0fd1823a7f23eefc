-- Gives the rows of attempts that were there before shipped_at the time of this migration; else they would be read as
-- inserted just now, for ever. They are rolled up once, like all that comes.
-- Read by: the keeper of the roll-ups (rollup.go).
-- ORDER BY: as before. The mutation writes one column in the background; parts are otherwise linked, not copied.
ALTER TABLE attempts MATERIALIZE COLUMN shipped_at
