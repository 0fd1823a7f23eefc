-- Every version of every task: what a run was defined to do when it ran.
-- Read by: analysts, joined with `USING (task_id, task_version)`; the page of a task's runs, which learns its names here.
-- ORDER BY: a version is looked up by (task_id, task_version), its identity. A version that is sent again replaces itself, and
-- once its task is deleted, the row that says so stays, whatever is sent afterwards.
CREATE TABLE IF NOT EXISTS tasks
(
    task_id         String COMMENT 'UUID of the task' CODEC(ZSTD(1)),
    task_version    Int64 COMMENT 'rises with every change; from the definition' CODEC(ZSTD(1)),
    namespace       LowCardinality(String) COMMENT 'business system; from the definition',
    task            LowCardinality(String) COMMENT 'name of the task, unique in its namespace; from the definition',
    task_type       LowCardinality(String) COMMENT 'Namespace.Type; from the definition',
    schedule        String COMMENT 'cron expression, @every 90s, @at …, as it was written; from the definition' CODEC(ZSTD(1)),
    dialect         LowCardinality(String) COMMENT 'unix or quartz; empty: unix; of cron expressions only',
    zone            LowCardinality(String) COMMENT 'IANA time zone of the schedule; empty: UTC',
    enabled         Bool COMMENT 'whether its schedule fires' CODEC(ZSTD(1)),
    disabled_reason String COMMENT 'why it is disabled, if Gnomon did it; empty: somebody did, or it is enabled' CODEC(ZSTD(1)),
    owner           LowCardinality(String) COMMENT 'whom to ask about it; from the definition',
    category        LowCardinality(String) COMMENT 'a word to group tasks by; from the definition',
    description     String COMMENT 'what it is for; from the definition' CODEC(ZSTD(1)),
    labels          Map(LowCardinality(String), String) COMMENT 'free words to find it by; from the definition' CODEC(ZSTD(1)),
    params          String COMMENT 'JSON: the parameters; from the definition' CODEC(ZSTD(1)),
    policies        String COMMENT 'JSON, as in the REST API: what the task itself says; the namespace''s defaults are not in it' CODEC(ZSTD(1)),
    after           Array(String) COMMENT 'names of the tasks whose ends start it, in the same namespace' CODEC(ZSTD(1)),
    created_at      DateTime64(6, 'UTC') COMMENT 'when the task was created; clock of the server' CODEC(Delta, ZSTD(1)),
    valid_from      DateTime64(6, 'UTC') COMMENT 'when this version was stored; it holds until the next one; clock of the server' CODEC(Delta, ZSTD(1)),
    changed_by      LowCardinality(String) COMMENT 'principal that made this version, or gnomon',
    deleted         Bool COMMENT 'true: the task was deleted in this version' CODEC(ZSTD(1)),
    INDEX task_bloom task TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(deleted)
ORDER BY (task_id, task_version)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 480, min_age_to_force_merge_seconds = 3600
COMMENT 'every version of every task'
