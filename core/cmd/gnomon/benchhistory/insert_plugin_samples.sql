INSERT INTO plugin_samples (plugin, version, namespace, pid, at, cpu_us, rss_bytes, read_bytes, write_bytes, threads, fds, processes, running)
SELECT plugin, version, namespace, pid, fromUnixTimestamp64Micro(toInt64(s) * 1000000 + 137, 'UTC'), intDiv((s - $EPOCH$) * 1000000 * (5 + pid % 30), 100) + h % 200000,
    (40 + pid % 80 + h % 12 + if(plugin = 'imagearchive', (s % 604800) / 20000, 0)) :: UInt64 * 1048576, (s - $EPOCH$) * 2048 * (pid % 9), (s - $EPOCH$) * 512 * (pid % 7),
    9 + h % 5, 14 + h % 9, 1 + pid % 3, h % 6
FROM
(
    SELECT p.1 AS plugin, p.2 AS version, p.3 AS namespace, (4000 + number % 8 * 17) :: UInt32 AS pid, s, cityHash64($SEED$, plugin, namespace, s) AS h
    FROM
    (
        SELECT number, [('common', '1.4.0', ''), ('imagearchive', '2.1.3', ''), ('monitor', '1.0.8', ''), ('lua-worker', '', 'Telemedicine'), ('lua-worker', '', 'MedicalEducation'), ('lua-worker', '', 'Commerce')][1 + number] AS p
        FROM numbers(6)
    )
    ARRAY JOIN range($FROM$, $TO$, $EVERY$) AS s
)
