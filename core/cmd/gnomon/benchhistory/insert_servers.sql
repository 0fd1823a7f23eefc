INSERT INTO servers (server, host, version, pid, started_at, cores, mem_total_bytes, recorded_at)
SELECT DISTINCT server, host, '1.0.0', 3900, toDateTime($EPOCH$, 'UTC'), 2, 16777216000, toDateTime($EPOCH$, 'UTC')
FROM bench.tasks
