-- What a line's words are, so that a word that is rare is found without reading every line.
-- Read by: the search of a task's lines (search.go), whose conditions are these expressions.
-- ORDER BY: as before. One index has whole words of letters and digits, whatever their case; the other each two neighbours of
-- what is not ASCII, because Chinese has no blanks between words. They are made for each day once it is over, not as rows
-- arrive or are merged: that would cost more than writing the line (DESIGN.md has the figures).
ALTER TABLE run_logs
    ADD INDEX IF NOT EXISTS message_words replaceRegexpAll(lower(message), '[^ -~]+', ' ') TYPE tokenbf_v1(20480, 3, 0) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS message_pairs replaceRegexpAll(message, '[ -~]+', ' ') TYPE ngrambf_v1(2, 8192, 2, 0) GRANULARITY 1
