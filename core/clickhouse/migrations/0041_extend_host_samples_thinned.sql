-- What a reading stands for once a month is old enough to be thinned, as in run_samples. Memory, descriptors, threads are the
-- highest, room on disks the least; the loads are means, because they are means already, and the highest load stands beside.
-- Read by: whoever asks for old samples; the keeper that thins (thin.go).
-- ORDER BY: as before; at is that of the last reading the row is made of.
ALTER TABLE host_samples
    ADD COLUMN IF NOT EXISTS thinned_s UInt32 COMMENT 'length of the period whose readings the row stands for, seconds; 0: it is one reading, as measured; from thin.go' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS readings UInt32 DEFAULT 1 COMMENT 'readings that the row is made of; from thin.go' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS load1_peak Nullable(Float64) COMMENT 'highest load1 of the readings, while load1 is their mean; NULL: the row is one reading, as measured' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS mem_used_mean_bytes Nullable(Float64) COMMENT 'mean of mem_used_bytes over the readings, bytes, while mem_used_bytes is the highest; NULL: likewise' CODEC(ZSTD(1))
