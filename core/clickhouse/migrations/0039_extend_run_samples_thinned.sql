-- What a reading stands for once a day is old enough to be thinned: one row then stands for all readings of five minutes.
-- Read by: whoever asks for old samples; the keeper that thins (thin.go), which finds what it has not thinned by thinned_s.
-- ORDER BY: as before; at is that of the last reading the row is made of.
ALTER TABLE run_samples
    ADD COLUMN IF NOT EXISTS thinned_s UInt32 COMMENT 'length of the period whose readings the row stands for, seconds; 0: it is one reading, as measured; from thin.go' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS readings UInt32 DEFAULT 1 COMMENT 'readings that the row is made of; from thin.go' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS rss_mean_bytes Nullable(Float64) COMMENT 'mean of rss_bytes over the readings, bytes, while rss_bytes is the highest; NULL: the row is one reading, as measured' CODEC(ZSTD(1))
