-- Puts together what a day's machines were using, a period at a time. Counters count from a machine's start: where they fall, it
-- has started again, and what was counted before stays a row of its own. A disk whose size was not read (0) has no free room to tell.
INSERT INTO $INTO$
(
    host, at, cpu_us, cpu_idle_us, cores, load1, mem_total_bytes, mem_used_bytes, swap_used_bytes, disk_read_bytes, disk_write_bytes, net_recv_bytes, net_sent_bytes,
    data_total_bytes, data_free_bytes, load5, load15, cpu_iowait_us, cpu_steal_us, swap_total_bytes, open_files, open_files_max, threads, runnable, blocked,
    context_switches, forks, cpu_some_us, memory_some_us, memory_full_us, io_some_us, io_full_us, fs_total_bytes, fs_free_bytes, thinned_s, readings, load1_peak, mem_used_mean_bytes
)
SELECT
    s.host, max(s.at), argMax(s.cpu_us, s.at), argMax(s.cpu_idle_us, s.at), argMax(s.cores, s.at), sum(s.load1 * s.readings) / sum(s.readings), argMax(s.mem_total_bytes, s.at), max(s.mem_used_bytes), max(s.swap_used_bytes),
    argMax(s.disk_read_bytes, s.at), argMax(s.disk_write_bytes, s.at), argMax(s.net_recv_bytes, s.at), argMax(s.net_sent_bytes, s.at),
    argMax(s.data_total_bytes, s.at), minIf(s.data_free_bytes, s.data_total_bytes > 0), sum(s.load5 * s.readings) / sumIf(s.readings, isNotNull(s.load5)), sum(s.load15 * s.readings) / sumIf(s.readings, isNotNull(s.load15)),
    argMax(s.cpu_iowait_us, s.at), argMax(s.cpu_steal_us, s.at), argMax(s.swap_total_bytes, s.at), max(s.open_files), argMax(s.open_files_max, s.at), max(s.threads), max(s.runnable), max(s.blocked),
    argMax(s.context_switches, s.at), argMax(s.forks, s.at), argMax(s.cpu_some_us, s.at), argMax(s.memory_some_us, s.at), argMax(s.memory_full_us, s.at), argMax(s.io_some_us, s.at), argMax(s.io_full_us, s.at),
    maxMap(s.fs_total_bytes), minMap(s.fs_free_bytes), {period:UInt32}, sum(s.readings), max(ifNull(s.load1_peak, s.load1)),
    sum(ifNull(s.mem_used_mean_bytes, toFloat64(s.mem_used_bytes)) * s.readings) / sum(s.readings)
FROM
(
    SELECT *, sum(fell) OVER (PARTITION BY host ORDER BY at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS starts
    FROM
    (
        SELECT *, cpu_us + cpu_idle_us < lagInFrame(cpu_us + cpu_idle_us) OVER (PARTITION BY host ORDER BY at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS fell
        FROM host_samples FINAL
        WHERE at >= {from:DateTime64(6, 'UTC')} AND at < {to:DateTime64(6, 'UTC')}
    )
) AS s
GROUP BY s.host, toStartOfInterval(s.at, toIntervalSecond({period:UInt32})), s.starts, s.data_total_bytes = 0
