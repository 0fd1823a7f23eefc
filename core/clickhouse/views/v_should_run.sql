-- What each task should have done on each day against what was decided and done.
-- 每个任务每天应当执行的次数与实际决定、执行的次数之对照。
-- Read by: analysts, the ledger page, the alert on missing and doubled fires.
-- From: reconciliations (computed from the schedules alone) without repeats, and the reasons in runs_day, the roll-up.
-- Fresh: a day is there once the server has checked it, soon after midnight UTC; `gnomon reconcile` checks it again.
-- Example:
--   SELECT day, namespace, task, expected, started, skipped, missing, doubled, reasons
--   FROM v_should_run
--   WHERE day >= today() - 30 AND complete = 0
--   ORDER BY missing DESC, day DESC LIMIT 20
CREATE OR REPLACE VIEW v_should_run
(
    day         Date COMMENT 'the day, UTC; from reconciliations',
    namespace   LowCardinality(String) COMMENT 'business system; from the task',
    task        LowCardinality(String) COMMENT 'name of the task when it was checked',
    task_id     LowCardinality(String) COMMENT 'UUID of the task',
    expected    UInt32 COMMENT 'nominal instants by the schedule; from reconciliations',
    decided     UInt32 COMMENT 'of them decided about, started or skipped; from reconciliations',
    started     UInt32 COMMENT 'of them started; from reconciliations',
    skipped     UInt32 COMMENT 'of them skipped, with a reason; from reconciliations',
    missing     UInt32 COMMENT 'of them not decided about; from reconciliations',
    doubled     UInt32 COMMENT 'of them decided about more than once; from reconciliations',
    unexpected  UInt32 COMMENT 'fires at instants that the schedule does not have; from reconciliations',
    reasons     Map(String, UInt64) COMMENT 'nominal instants skipped, by reason, those of backfills and chains included; a range counts on the day it begins; if a task was deleted on the day and another made under its name, all are with the later one; from fires',
    complete    Bool COMMENT 'true: every expected instant was decided exactly once, and no other',
    checked_at  DateTime64(6, 'UTC') COMMENT 'when the day was checked; clock of the server'
)
AS SELECT
    r.day AS day, r.namespace AS namespace, r.task AS task, r.task_id AS task_id, r.expected AS expected, r.decided AS decided, r.started AS started,
    r.skipped AS skipped, r.missing AS missing, r.doubled AS doubled, r.unexpected AS unexpected, f.reasons AS reasons,
    toBool(r.missing = 0 AND r.doubled = 0 AND r.unexpected = 0 AND r.miscounted = 0) AS complete, r.checked_at AS checked_at
FROM (SELECT * FROM reconciliations FINAL) AS r
LEFT JOIN
(
    SELECT namespace, task_id, day, sumMap(skip_reasons) AS reasons FROM (SELECT namespace, task_id, day, skip_reasons FROM runs_day FINAL WHERE fires_skipped > 0) GROUP BY namespace, task_id, day
) AS f ON f.namespace = r.namespace AND f.task_id = r.task_id AND f.day = r.day
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'what each task should have done on each day against what was decided'
