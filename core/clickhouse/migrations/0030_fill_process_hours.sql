-- Fills process_hours from plugin_samples, block by block as they are inserted.
-- Read by: nobody; see process_hours.
-- ORDER BY: that of process_hours. Rows without what was spent (of an older version) are left out, not guessed.
CREATE MATERIALIZED VIEW IF NOT EXISTS process_hours_fill TO process_hours
(
    hour DateTime('UTC') COMMENT 'see process_hours',
    host LowCardinality(String) COMMENT 'see process_hours',
    server LowCardinality(String) COMMENT 'see process_hours',
    kind LowCardinality(String) COMMENT 'see process_hours',
    plugin LowCardinality(String) COMMENT 'see process_hours',
    version LowCardinality(String) COMMENT 'see process_hours',
    namespace LowCardinality(String) COMMENT 'see process_hours',
    pid UInt32 COMMENT 'see process_hours',
    start_ticks UInt64 COMMENT 'see process_hours',
    cpu_us_from UInt64 COMMENT 'see process_hours',
    cpu_us_to UInt64 COMMENT 'see process_hours',
    busy_cpu_us_from UInt64 COMMENT 'see process_hours',
    busy_cpu_us_to UInt64 COMMENT 'see process_hours',
    read_bytes_from UInt64 COMMENT 'see process_hours',
    read_bytes_to UInt64 COMMENT 'see process_hours',
    write_bytes_from UInt64 COMMENT 'see process_hours',
    write_bytes_to UInt64 COMMENT 'see process_hours',
    rss_byte_s_from UInt64 COMMENT 'see process_hours',
    rss_byte_s_to UInt64 COMMENT 'see process_hours',
    busy_rss_byte_s_from UInt64 COMMENT 'see process_hours',
    busy_rss_byte_s_to UInt64 COMMENT 'see process_hours',
    rss_peak_bytes UInt64 COMMENT 'see process_hours'
)
AS SELECT
    toStartOfHour(p.at) AS hour, p.host AS host, p.server AS server, p.kind AS kind, p.plugin AS plugin, p.version AS version, p.namespace AS namespace,
    p.pid AS pid, assumeNotNull(p.start_ticks) AS start_ticks,
    min(p.cpu_us - least(p.cpu_us, assumeNotNull(p.spent_cpu_us))) AS cpu_us_from, max(p.cpu_us) AS cpu_us_to,
    min(assumeNotNull(p.busy_cpu_us) - least(assumeNotNull(p.busy_cpu_us), if(p.busy, assumeNotNull(p.spent_cpu_us), 0))) AS busy_cpu_us_from, max(assumeNotNull(p.busy_cpu_us)) AS busy_cpu_us_to,
    min(p.read_bytes - least(p.read_bytes, assumeNotNull(p.spent_read_bytes))) AS read_bytes_from, max(p.read_bytes) AS read_bytes_to,
    min(p.write_bytes - least(p.write_bytes, assumeNotNull(p.spent_write_bytes))) AS write_bytes_from, max(p.write_bytes) AS write_bytes_to,
    min(assumeNotNull(p.total_rss_byte_s) - least(assumeNotNull(p.total_rss_byte_s), assumeNotNull(p.spent_rss_byte_s))) AS rss_byte_s_from, max(assumeNotNull(p.total_rss_byte_s)) AS rss_byte_s_to,
    min(assumeNotNull(p.busy_rss_byte_s) - least(assumeNotNull(p.busy_rss_byte_s), if(p.busy, assumeNotNull(p.spent_rss_byte_s), 0))) AS busy_rss_byte_s_from, max(assumeNotNull(p.busy_rss_byte_s)) AS busy_rss_byte_s_to,
    max(p.rss_bytes) AS rss_peak_bytes
FROM plugin_samples AS p
WHERE isNotNull(p.spent_cpu_us)
GROUP BY hour, host, server, kind, plugin, version, namespace, pid, start_ticks
COMMENT 'fills process_hours from plugin_samples'
