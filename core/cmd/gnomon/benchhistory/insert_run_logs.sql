INSERT INTO run_logs (namespace, task, task_type, task_id, run_id, attempt, seq, fire_at, at, level, stream, message)
SELECT namespace, task, task_type, task_id, $RUN_ID$, attempt, seq, fromUnixTimestamp64Micro(us, 'UTC'),
    fromUnixTimestamp64Micro(started_us + intDiv(duration_us * seq, lines + 1), 'UTC'),
    multiIf(is_error, 'error', line_hash % 40 = 0, 'warn', line_hash % 8 = 0, 'debug', 'info'),
    multiIf(line_hash % 50 = 7, 'stdout', line_hash % 50 = 9, 'stderr', 'log'),
    if(is_error, message, replaceOne(replaceOne(replaceOne(template, '{a}', toString(line_hash % 900000)), '{b}', toString(intDiv(line_hash, 1000003) % 300)), '{c}', toString(intDiv(duration_us, 1000 * lines))))
FROM
(
    SELECT *, seq, intHash64(h + attempt * 1000 + seq) AS line_hash, seq = lines AND outcome != 'succeeded' AS is_error,
        multiIf(seq = 1, '开始执行 run started, batch {a}', seq = lines, 'finished: {a} records in {c} ms, 处理完成',
            [
                'synchronised patient P{a} with hospital {b} in {c} ms', '同步患者 P{a} 的检查记录，医院 {b}，耗时 {c} ms',
                'GET http://10.20.{b}.15/api/exams/{a} 200 {c} ms', 'select returned {b} rows from ExamCheckData where id > {a}',
                '归档文档 {a} 到存储 {b}，校验通过', 'document {a} verified against ObservationRequest, checksum ok',
                '短信已发送至尾号 {b} 的患者，流水号 {a}', 'queue depth {b}, oldest message {c} s, worker 4 of 8',
                '报工单 {a} 未在 {b} 分钟内提交，已发送提醒', 'material M{a} short by {b} pieces, purchase order created',
                '心电危机报告 {a} 已推送医生工作站 {b}', 'cache refreshed: {b} keys, {c} ms',
                '项目 {a} 健康度重新计算，指标 {b} 项', 'retrying page {b} of record {a} after slow answer',
                '设备 {b} 采集 {a} 个样本', 'skipped record {a}: unchanged since last run'
            ][1 + (number + line_hash % 5) % 16]) AS template
    FROM
    (
        SELECT *, multiIf(attempt < tries, 3, $LINES$ <= 3, $LINES$, 3 + h % (2 * $LINES$ - 5)) :: UInt64 AS lines
        FROM ($ATTEMPTS$)
    )
    ARRAY JOIN range(1, lines + 1) AS seq
)
