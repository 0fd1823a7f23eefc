-- What a reading stands for once a day is old enough to be thinned, as in run_samples. What was spent is added up; the mean of
-- the memory is spent_rss_byte_s by span_us.
-- Read by: whoever asks for old samples; the keeper that thins (thin.go).
-- ORDER BY: as before; at is that of the last reading the row is made of.
ALTER TABLE plugin_samples
    ADD COLUMN IF NOT EXISTS thinned_s UInt32 COMMENT 'length of the period whose readings the row stands for, seconds; 0: it is one reading, as measured; from thin.go' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS readings UInt32 DEFAULT 1 COMMENT 'readings that the row is made of; from thin.go' CODEC(ZSTD(1))
