-- What the attempts of a stretch of time used in each hour, by the process tree that carried them: spread evenly over their time.
INSERT INTO bench.tree_hours (server, plugin, worker, hour, attempts, cpu_us, rss_byte_s, read_bytes, write_bytes)
SELECT server, plugin, if(plugin = 'lua-worker', namespace, '') AS worker, toUnixTimestamp(h) AS hour, sum(ended), sum(cpu_us * share), sum(peak_rss_bytes * took), sum(read_bytes * share), sum(write_bytes * share)
FROM
(
    SELECT server, plugin, namespace, toStartOfHour(ended_at) AS h, 1 AS ended, 1. AS share, dateDiff('microsecond', started_at, ended_at) / 1e6 AS took, cpu_us, peak_rss_bytes, read_bytes, write_bytes
    FROM attempts
    WHERE fire_at >= toDateTime($FROM$, 'UTC') AND fire_at < toDateTime($TO$, 'UTC') AND toStartOfHour(started_at) = toStartOfHour(ended_at)
    UNION ALL
    SELECT server, plugin, namespace, h, h = toStartOfHour(ended_at), took / (dateDiff('microsecond', started_at, ended_at) / 1e6),
        dateDiff('microsecond', greatest(started_at, toDateTime64(h, 6, 'UTC')), least(ended_at, toDateTime64(h + INTERVAL 1 HOUR, 6, 'UTC'))) / 1e6 AS took, cpu_us, peak_rss_bytes, read_bytes, write_bytes
    FROM attempts
    ARRAY JOIN arrayMap(n -> toStartOfHour(started_at) + toIntervalHour(n), range(toUInt32(dateDiff('hour', started_at, ended_at)) + 1)) AS h
    WHERE fire_at >= toDateTime($FROM$, 'UTC') AND fire_at < toDateTime($TO$, 'UTC') AND toStartOfHour(started_at) != toStartOfHour(ended_at)
)
GROUP BY server, plugin, worker, hour
