-- Every attempt of every run of a stretch of time.
SELECT *, attempt,
    attempt = tries AS is_last,
    started_first_us + (attempt - 1) * retry_us AS started_us,
    if(is_last, last_us, retry_us - 30000000) AS duration_us,
    multiIf(NOT is_last, 'failed', end_as) AS outcome,
    multiIf(outcome = 'succeeded', '',
        in_outage, replaceOne(['dial tcp 10.20.$.15:1433: connect: connection refused', '连接下游服务失败：10.20.$.15 无响应', 'HTTP 503 from http://10.20.$.15/api: upstream unavailable'][1 + id_low % 3], '$', toString(downstream)),
        outcome = 'timed_out', replaceOne('timed out after $ s', '$', toString(intDiv(duration_us, 1000000) + 1)),
        outcome = 'crashed', 'signal: killed',
        outcome = 'lost', 'the server that ran it is gone',
        outcome = 'cancelled', 'cancelled by operator',
        replaceOne(['deadlock victim on table ExamCheckData, record $', '校验失败：第 $ 条记录缺少检查号', 'unexpected status 500 for request $', '患者 $ 的手机号格式错误，短信未发送', 'cannot parse answer: invalid character at offset $'][1 + id_low % 5], '$', toString(id_low % 100000))) AS message,
    (duration_us * cpu_share * (0.7 + 0.6 * u_use)) :: UInt64 AS used_cpu_us,
    (rss_bytes * (0.9 + 0.2 * u_use)) :: UInt64 AS used_rss_bytes,
    (io_bytes * u_use) :: UInt64 AS used_read_bytes,
    (io_bytes * (1 - u_use) / 4) :: UInt64 AS used_write_bytes
FROM ($FACTS$)
ARRAY JOIN range(1, tries + 1) AS attempt
WHERE started
