-- Indexes that lists follow are partial, by conditions that only lists name: without that Postgres
-- may take one of them, while tables are new, to look an approval up by its key, and read all of a
-- scope's approvals for each. Of every generation there is.
DO $$
DECLARE
    schema text;
BEGIN
    FOR schema IN
        SELECT nspname FROM pg_namespace
         WHERE nspname ~ '^approvals(_[0-9]+)?$' AND to_regclass(format('%I.approvals_alike', nspname)) IS NOT NULL
    LOOP
        EXECUTE format('DROP INDEX %I.approvals_alike, %1$I.approvals_by_time', schema);
        EXECUTE format(
            'CREATE INDEX approvals_alike ON %I.approvals (tenant_id, mode, agent_id, tool, requested_at DESC, approval_id DESC)
                 WHERE agent_id IS NOT NULL', schema);
        EXECUTE format(
            'CREATE INDEX approvals_by_time ON %I.approvals (tenant_id, mode, requested_at DESC, approval_id DESC)
                 WHERE requested_at > ''-infinity''', schema);
    END LOOP;
END
$$;
