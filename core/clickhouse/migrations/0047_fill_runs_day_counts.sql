-- Writes down the counts of rows of runs_day that were there before; until then they are made of the histograms as they are read.
-- Read by: v_timing_by_day.
-- ORDER BY: as before. The mutation writes four columns in the background; parts are otherwise linked, not copied.
ALTER TABLE runs_day
    MATERIALIZE COLUMN duration_count,
    MATERIALIZE COLUMN lateness_count,
    MATERIALIZE COLUMN waited_count,
    MATERIALIZE COLUMN queue_count
