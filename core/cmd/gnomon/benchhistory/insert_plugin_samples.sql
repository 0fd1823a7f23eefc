-- Readings of every process tree. Its counters are what its attempts used, a tenth more while they ran, and something for
-- being there; those of server and engine rise with the attempts of all. The microseconds of at keep two servers apart.
INSERT INTO plugin_samples (plugin, version, namespace, pid, at, cpu_us, rss_bytes, read_bytes, write_bytes, threads, fds, processes, running, kind, server, host, cpu_from, final, busy, start_ticks,
    span_us, attempts, spent_cpu_us, spent_read_bytes, spent_write_bytes, spent_rss_byte_s, total_rss_byte_s, busy_cpu_us, busy_rss_byte_s)
SELECT plugin, version, worker, pid, fromUnixTimestamp64Micro(toInt64(s) * 1000000 + 100 + cityHash64(server) % 900, 'UTC'), (passed * idle_cpu + cpu * 1.1) :: UInt64, (idle_rss + d_rss * 1.1) :: UInt64,
    (passed * 200 + r * 1.05) :: UInt64, (passed * 100 + w * 1.05) :: UInt64, 9 + s % 5, 14 + s % 9, 1 + pid % 3, least(6, n_hour / 600) :: UInt32, kind, server, host, 'proc', false, s % 3600 != 0, 1000 + pid,
    $EVERY$ * 1000000, n :: UInt64, ($EVERY$ * (idle_cpu + d_cpu * 1.1)) :: UInt64, ($EVERY$ * (200 + d_r * 1.05)) :: UInt64, ($EVERY$ * (100 + d_w * 1.05)) :: UInt64,
    ($EVERY$ * (idle_rss + d_rss * 1.1)) :: UInt64, (passed * idle_rss + rss * 1.1) :: UInt64, (passed * idle_cpu * 0.7 + cpu * 1.08) :: UInt64, (passed * idle_rss * 0.7 + rss * 1.1) :: UInt64
FROM
(
    SELECT *, s, s - $EPOCH$ AS passed, s - hour AS into, s = hour AS first,
        before_n + n_hour / 3600 * into AS n, before_cpu + cpu_hour / 3600 * into AS cpu, before_rss + rss_hour / 3600 * into AS rss, before_r + r_hour / 3600 * into AS r, before_w + w_hour / 3600 * into AS w,
        if(first, cpu_last, cpu_hour) / 3600 AS d_cpu, if(first, rss_last, rss_hour) / 3600 AS d_rss, if(first, r_last, r_hour) / 3600 AS d_r, if(first, w_last, w_hour) / 3600 AS d_w
    FROM
    (
        SELECT *,
            sum(n_hour) OVER before AS before_n, sum(cpu_hour) OVER before AS before_cpu, sum(rss_hour) OVER before AS before_rss, sum(r_hour) OVER before AS before_r, sum(w_hour) OVER before AS before_w,
            lagInFrame(cpu_hour) OVER till AS cpu_last, lagInFrame(rss_hour) OVER till AS rss_last, lagInFrame(r_hour) OVER till AS r_last, lagInFrame(w_hour) OVER till AS w_last
        FROM
        (
            SELECT t.server AS server, t.host AS host, t.kind AS kind, t.plugin AS plugin, t.version AS version, t.worker AS worker, t.pid AS pid, t.hour AS hour,
                transform(t.kind, ['server', 'engine', 'plugin'], [8000, 60000, 3000], 800) AS idle_cpu, transform(t.kind, ['server', 'engine', 'plugin'], [120e6, 600e6, 60e6], 30e6) AS idle_rss,
                h.n_hour AS n_hour, if(t.kind IN ('server', 'engine'), h.n_hour * if(t.kind = 'server', 900, 2000), h.cpu_hour) AS cpu_hour, if(t.kind IN ('server', 'engine'), h.n_hour * 2e6, h.rss_hour) AS rss_hour,
                if(t.kind IN ('server', 'engine'), h.n_hour * 200, h.r_hour) AS r_hour, if(t.kind IN ('server', 'engine'), h.n_hour * 2000, h.w_hour) AS w_hour
            FROM
            (
                SELECT *, arrayJoin(range(intDiv($EPOCH$, 3600) * 3600, $TO$, 3600)) :: UInt32 AS hour
                FROM
                (
                    SELECT DISTINCT server, host, if(worker = '', 'plugin', 'lua_worker') AS kind, plugin, plugin_version AS version, worker, pid FROM bench.tasks
                    UNION ALL
                    SELECT DISTINCT server, host, 'server', 'server', '1.0.0', '', 3900 FROM bench.tasks
                    UNION ALL
                    SELECT min(server), min(host), 'engine', 'engine', '26.3', '', 3950 FROM bench.tasks
                )
            ) AS t
            LEFT JOIN
            (
                SELECT server, plugin, worker, hour, sum(attempts) AS n_hour, sum(cpu_us) AS cpu_hour, sum(rss_byte_s) AS rss_hour, sum(read_bytes) AS r_hour, sum(write_bytes) AS w_hour
                FROM
                (
                    SELECT * FROM bench.tree_hours
                    UNION ALL
                    SELECT server, 'server', '', hour, attempts, 0, 0, 0, 0 FROM bench.tree_hours
                    UNION ALL
                    SELECT (SELECT min(server) FROM bench.tasks), 'engine', '', hour, attempts, 0, 0, 0, 0 FROM bench.tree_hours
                )
                WHERE hour < $TO$
                GROUP BY server, plugin, worker, hour
            ) AS h ON h.server = t.server AND h.plugin = t.plugin AND h.worker = t.worker AND h.hour = t.hour
        )
        WINDOW before AS (PARTITION BY server, plugin, worker ORDER BY hour ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), till AS (PARTITION BY server, plugin, worker ORDER BY hour ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    ARRAY JOIN range(greatest(hour, toUInt32($FROM$)), least(hour + 3600, toUInt32($TO$)), $EVERY$) AS s
    WHERE hour + 3600 > $FROM$
)
