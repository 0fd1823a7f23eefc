-- Says what the rows of all namespaces together are.
-- Read by: whoever reads rollups.
-- ORDER BY: as before.
ALTER TABLE rollups
    COMMENT COLUMN IF EXISTS namespace 'business system whose day was rolled up; empty: the row that says how far all is; *: the costs and neighbours of all together, its day 1970-01-01 how far they are'
