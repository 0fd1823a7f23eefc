-- More of what whole machines were using. Rows written before, and kernels without a figure, have NULL.
-- Read by: the host page, noisy neighbours, alerts on room and pressure.
-- ORDER BY: as before.
ALTER TABLE host_samples
    ADD COLUMN IF NOT EXISTS load5 Nullable(Float64) COMMENT 'load average of five minutes; from /proc/loadavg' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS load15 Nullable(Float64) COMMENT 'load average of fifteen minutes; from /proc/loadavg' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_iowait_us Nullable(UInt64) COMMENT 'of cpu_idle_us, waiting for storage, since boot, microseconds; from /proc/stat' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_steal_us Nullable(UInt64) COMMENT 'of cpu_us, taken by the hypervisor, since boot, microseconds; from /proc/stat' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS swap_total_bytes Nullable(UInt64) COMMENT 'size of swap, bytes; from /proc/meminfo' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS open_files Nullable(UInt64) COMMENT 'open file handles of the machine; from /proc/sys/fs/file-nr' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS open_files_max Nullable(UInt64) COMMENT 'most open file handles there may be; from /proc/sys/fs/file-nr' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS threads Nullable(UInt64) COMMENT 'threads of all processes; from /proc/loadavg' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS runnable Nullable(UInt64) COMMENT 'threads that ran or could; from /proc/loadavg' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS blocked Nullable(UInt64) COMMENT 'processes that waited for storage; from /proc/stat' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS context_switches Nullable(UInt64) COMMENT 'context switches since boot; from /proc/stat' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS forks Nullable(UInt64) COMMENT 'processes and threads begun since boot; from /proc/stat' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_some_us Nullable(UInt64) COMMENT 'time some thread waited for a core, since boot, microseconds; from /proc/pressure/cpu; NULL: the kernel keeps none' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS memory_some_us Nullable(UInt64) COMMENT 'time some thread waited for memory, since boot, microseconds; from /proc/pressure/memory; NULL: likewise' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS memory_full_us Nullable(UInt64) COMMENT 'time all threads waited for memory, since boot, microseconds; from /proc/pressure/memory; NULL: likewise' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS io_some_us Nullable(UInt64) COMMENT 'time some thread waited for storage, since boot, microseconds; from /proc/pressure/io; NULL: likewise' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS io_full_us Nullable(UInt64) COMMENT 'time all threads waited for storage, since boot, microseconds; from /proc/pressure/io; NULL: likewise' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS fs_total_bytes Map(String, UInt64) COMMENT 'size of each file system on a block device and of the data folder''s, bytes by mount point; from statfs' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS fs_free_bytes Map(String, UInt64) COMMENT 'what an ordinary user may still take of each, bytes by mount point; from statfs' CODEC(ZSTD(1))
