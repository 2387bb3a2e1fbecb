-- Calls that agents asked for, by the moment they were decided, for those who look over a range of
-- them. Partial, so that nothing but such a range is ever looked up by it. Of every generation there is.
DO $$
DECLARE
    schema text;
BEGIN
    FOR schema IN
        SELECT nspname FROM pg_namespace
         WHERE nspname ~ '^approvals(_[0-9]+)?$' AND to_regclass(format('%I.commands', nspname)) IS NOT NULL
    LOOP
        EXECUTE format(
            'CREATE INDEX commands_calls ON %I.commands (tenant_id, mode, decided_at, partition, decided_offset)
                 WHERE decision_type = ''runledger.approval.v1.ToolCallDecided''', schema);
    END LOOP;
END
$$;
