-- Has lines merged fewer times, each time more parts together: merges took two thirds of the CPU that a line cost.
-- Read by: the engine's choice of merges. A day that is still written has up to some fifty parts, and a finished one is one as before.
-- ORDER BY: as before.
ALTER TABLE run_logs
    MODIFY SETTING merge_selector_base = 24
