INSERT INTO host_samples (host, at, cpu_us, cpu_idle_us, cores, load1, mem_total_bytes, mem_used_bytes, swap_used_bytes, disk_read_bytes, disk_write_bytes, net_recv_bytes, net_sent_bytes, data_total_bytes, data_free_bytes)
SELECT host, fromUnixTimestamp64Micro(toInt64(s) * 1000000 + 211, 'UTC'), (elapsed * 620000) :: UInt64 + h % 400000, (elapsed * 1380000) :: UInt64, 2, round(0.6 + h % 200 / 100, 2), 16777216000,
    (5 + h % 3 + sin(s / 13751)) :: UInt64 * 1073741824, 0, (elapsed * 3e5) :: UInt64, (elapsed * 9e5) :: UInt64, (elapsed * 2e5) :: UInt64, (elapsed * 2.4e5) :: UInt64, 536870912000, (4e11 - elapsed * 4000) :: UInt64
FROM
(
    SELECT host, s, s - $EPOCH$ AS elapsed, cityHash64($SEED$, host, s) AS h
    FROM (SELECT ['gnomon-1', 'gnomon-2'][1 + number] AS host FROM numbers(2))
    ARRAY JOIN range($FROM$, $TO$, $EVERY$) AS s
)
