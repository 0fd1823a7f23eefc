-- What each task type was, from each time on that it changed: its provider's version, its schema.
-- Read by: analysts, joined with `runs ASOF JOIN task_types AS t ON runs.task_type = t.task_type AND runs.decided_at >= t.valid_from`.
-- ORDER BY: a type is looked up by a time; (task_type, valid_from) is the row's identity.
CREATE TABLE IF NOT EXISTS task_types
(
    task_type        LowCardinality(String) COMMENT 'Namespace.Type',
    valid_from       DateTime64(6, 'UTC') COMMENT 'from when a server offered it so; it holds until the next row of the type; clock of the server' CODEC(Delta, ZSTD(1)),
    namespace        LowCardinality(String) COMMENT 'business system; from the name of the type',
    provider         LowCardinality(String) COMMENT 'who offers it: plugin:<name> or lua:<path of the script>',
    plugin           LowCardinality(String) COMMENT 'name of the plugin; empty: it is a script, or Gnomon''s own',
    provider_version LowCardinality(String) COMMENT 'semantic version of the plugin, or short content hash of the script',
    sha256           LowCardinality(String) COMMENT 'SHA-256 of the plugin''s executable, hexadecimal; empty: unknown, or no plugin',
    title_zh         String COMMENT 'title in Chinese; from the provider' CODEC(ZSTD(1)),
    title_en         String COMMENT 'title in English; from the provider' CODEC(ZSTD(1)),
    params_schema    String COMMENT 'JSON Schema 2020-12 of the parameters; from the provider' CODEC(ZSTD(1)),
    output_schema    String COMMENT 'JSON Schema 2020-12 of the output; empty: anything' CODEC(ZSTD(1)),
    needs            Array(String) COMMENT 'what must be granted for it to run: sql:business, http; from the provider' CODEC(ZSTD(1)),
    timeout_ms       UInt64 COMMENT 'default hard timeout of an attempt, milliseconds; 0: the server''s' CODEC(ZSTD(1)),
    resumable        Bool COMMENT 'whether an attempt whose server died may be executed again' CODEC(ZSTD(1)),
    server           LowCardinality(String) COMMENT 'id of the server that offered it'
)
ENGINE = ReplacingMergeTree
ORDER BY (task_type, valid_from)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600
COMMENT 'what each task type was, from each time on that it changed'
