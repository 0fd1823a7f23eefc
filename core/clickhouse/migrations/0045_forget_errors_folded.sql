-- Forgets the groups of errors that are folded otherwise now, which would be counted beside the new ones: messages with apostrophes
-- and such that are not of ASCII alone. The roll-ups of all days are made anew since 0044, and these with them; those of runs
-- that have expired are gone.
-- Read by: v_errors_30d.
-- ORDER BY: as before.
ALTER TABLE errors_day
    DELETE WHERE match(concat(pattern, last_message), '[^\\x00-\\x7F]|\'')
    SETTINGS mutations_sync = 1
