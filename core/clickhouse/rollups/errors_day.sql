-- Makes the errors of some days of some namespaces anew: what the messages of failed runs say, each row once. PREWHERE may
-- come before FINAL because a row that was sent twice has the values of the first.
INSERT INTO errors_day
(
    namespace, task, day, fingerprint, task_type, pattern, runs, outcomes, first_at, last_at, last_run_id, last_message, rows_seen, computed_at
)
SELECT
    namespace, task, day, sipHash64(r.pattern) AS fingerprint, argMax(r.task_type, ended_at) AS task_type, r.pattern AS pattern, count() AS runs,
    CAST(sumMap([outcome], [toUInt64(1)]), 'Map(String, UInt64)') AS outcomes, min(ended_at) AS first_at, max(ended_at) AS last_at,
    argMax(run_id, (ended_at, run_id)) AS last_run_id, argMax(message, (ended_at, run_id)) AS last_message, count() AS rows_seen, now64(6, 'UTC') AS computed_at
FROM
(
    WITH
        '\\p{Han}\\p{Hiragana}\\p{Katakana}\\p{Hangul}' AS han, concat(han, '\\x{3000}-\\x{303F}\\x{FF00}-\\x{FFEF}“”‘’…—') AS wide, -- letters; and punctuation
        concat('[^\\s:,;)', wide, ']') AS plain, concat('(?:(?:[', han, ']+[/.\\\\])+', plain, '+)*') AS onward,
        concat('(?:', plain, '+|(?:[', han, ']+[/.\\\\])+', plain, '+)', onward) AS path
    SELECT namespace, task, task_type, toDate(fire_at) AS day, toString(outcome) AS outcome, ended_at, run_id, substringUTF8(message, 1, 400) AS message,
        replaceRegexpAll(message, '(?i)\\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\\b', '<uuid>') AS p1,
        replaceRegexpAll(p1, '\\b\\d{4}-\\d\\d-\\d\\d([T ]\\d\\d:\\d\\d(:\\d\\d([.,]\\d+)?)?(Z|[+-]\\d\\d:?\\d\\d)?)?', '<time>') AS p2,
        -- A ' is a quote where no ASCII letter touches it from outside: before and behind Chinese it is, in can't it is not; b'…' is Python's.
        replaceRegexpAll(p2, '"[^"]*"|(\\b[bBrRuU]|\\B)\'([^\']|\\b\'\\b)*\'\\B|`[^`]*`|“[^”]*”|「[^」]*」', '<text>') AS p3,
        -- Chinese is written without blanks: a path may begin behind it, and ends before it, unless a / or . follows, as in /data/报表.csv.
        replaceRegexpAll(p3, concat('[a-z][a-z0-9+.-]*://(?:[^\\s,;)', wide, ']*', plain, '|[', han, ']+)', onward, '|[A-Za-z]:\\\\', path, '|(^|[\\s(=:', wide, '])/', path), '\\1<path>') AS p4,
        replaceRegexpAll(p4, '(?i)\\b(0x[0-9a-f]+|[0-9a-f]*[0-9][0-9a-f]*[a-f][0-9a-f]*|[0-9a-f]*[a-f][0-9a-f]*[0-9][0-9a-f]*)\\b', '<hex>') AS p5,
        replaceRegexpAll(p5, '[0-9]+([.,][0-9]+)*', '<n>') AS pattern
    FROM runs FINAL
    PREWHERE outcome NOT IN ('succeeded', 'cancelled') AND namespace IN {namespaces:Array(String)} AND fire_at >= {from:DateTime64(6, 'UTC')} AND fire_at < {to:DateTime64(6, 'UTC')} AND toDate(fire_at) IN {days:Array(Date)}
) AS r
GROUP BY namespace, task, day, r.pattern
SETTINGS do_not_merge_across_partitions_select_final = 1, use_skip_indexes_if_final = 1
