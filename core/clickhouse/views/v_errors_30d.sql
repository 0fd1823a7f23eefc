-- What went wrong in the last 30 days: messages that differ only in numbers, names, paths and times taken together.
-- 近 30 天的错误归类：只差数字、引文、路径、时间的信息归为一类。
-- Read by: analysts, the overview, whoever is on call.
-- From: errors_day, the roll-up of the messages of runs that failed, timed out, crashed or were lost.
-- Fresh: made anew as runs end; half a minute behind on a small history, up to ten minutes and a pass on one of 100 million runs a year; "How fresh" above says the rule.
-- Example:
--   SELECT pattern, runs, tasks, first_seen, last_seen, example_run_id
--   FROM v_errors_30d WHERE namespace = 'Telemedicine' ORDER BY runs DESC LIMIT 20
CREATE OR REPLACE VIEW v_errors_30d
(
    namespace       LowCardinality(String) COMMENT 'business system; from the task',
    fingerprint     String COMMENT 'the same for all messages of the group, in all namespaces and for ever; hexadecimal',
    pattern         String COMMENT 'the message with what differs from run to run replaced: <uuid>, <time>, <text>, <path>, <hex>, <n>',
    runs            UInt64 COMMENT 'runs that ended so; from runs',
    outcomes        Map(String, UInt64) COMMENT 'of them by outcome; from runs',
    tasks           Array(String) COMMENT 'names of the tasks they are of, in order, at most 100',
    first_seen      DateTime64(6, 'UTC') COMMENT 'when the first of them ended, within the 30 days; clock of the server',
    last_seen       DateTime64(6, 'UTC') COMMENT 'when the last of them ended; clock of the server',
    by_day          Map(Date, UInt64) COMMENT 'of them by day of the nominal instant, UTC',
    example_run_id  String COMMENT 'UUIDv7 of the last of them',
    example_message String COMMENT 'message of the last of them as it was, at most 400 characters'
)
AS SELECT
    namespace, leftPad(lower(hex(e.fingerprint)), 16, '0') AS fingerprint, any(e.pattern) AS pattern, sum(e.runs) AS runs, sumMap(e.outcomes) AS outcomes,
    arraySort(groupUniqArray(100)(task)) AS tasks, min(first_at) AS first_seen, max(last_at) AS last_seen, sumMap(map(day, e.runs)) AS by_day,
    argMax(last_run_id, (last_at, last_run_id)) AS example_run_id, argMax(last_message, (last_at, last_run_id)) AS example_message
FROM errors_day AS e FINAL
WHERE day >= toDate(now('UTC')) - 30
GROUP BY namespace, e.fingerprint
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'what went wrong in the last 30 days, like messages taken together'
