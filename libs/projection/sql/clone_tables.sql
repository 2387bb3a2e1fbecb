-- The statements that make tables in schema $2 like those named $3 in schema $1: unlogged, with
-- keys, row-level security and grants, without the other indexes.
WITH source AS (
    SELECT c.oid, c.relname, c.reloptions, c.relacl, c.relowner, c.relrowsecurity, c.relforcerowsecurity
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname = ANY ($3::text[])
), statements (step, number, name, statement) AS (
    SELECT 0, 0, '', format('GRANT %s ON SCHEMA %I TO %s', a.privilege_type, $2::text, a.grantee::regrole)
      FROM pg_namespace n, aclexplode(n.nspacl) a
     WHERE n.nspname = $1 AND a.grantee <> n.nspowner AND a.grantee <> 0
    UNION ALL
    SELECT 1, 0, relname, format(
               'CREATE UNLOGGED TABLE %I.%I (LIKE %I.%I INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS '
               'INCLUDING STORAGE INCLUDING COMMENTS)%s',
               $2::text, relname, $1::text, relname, ' WITH (' || array_to_string(reloptions, ', ') || ')')
      FROM source
    UNION ALL
    SELECT 2, 0, relname, format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', $2::text, relname, k.conname, pg_get_constraintdef(k.oid))
      FROM source
      JOIN pg_constraint k ON k.conrelid = source.oid AND k.contype IN ('p', 'u')
    UNION ALL
    SELECT 3, 0, relname, format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', $2::text, relname)
      FROM source
     WHERE relrowsecurity
    UNION ALL
    SELECT 3, 1, relname, format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY', $2::text, relname)
      FROM source
     WHERE relforcerowsecurity
    UNION ALL
    SELECT 4, 0, relname, format(
               'CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s%s%s', p.policyname, $2::text, relname, p.permissive, p.cmd,
               (SELECT string_agg(quote_ident(role), ', ') FROM unnest(p.roles) role),
               ' USING (' || p.qual || ')', ' WITH CHECK (' || p.with_check || ')')
      FROM source
      JOIN pg_policies p ON p.schemaname = $1 AND p.tablename = relname
    UNION ALL
    SELECT 5, 0, relname, format('GRANT %s ON %I.%I TO %s', a.privilege_type, $2::text, relname, a.grantee::regrole)
      FROM source, aclexplode(relacl) a
     WHERE a.grantee <> relowner AND a.grantee <> 0
    UNION ALL
    SELECT 5, 1, relname, format('GRANT %s (%I) ON %I.%I TO %s', a.privilege_type, t.attname, $2::text, relname, a.grantee::regrole)
      FROM source
      JOIN pg_attribute t ON t.attrelid = source.oid AND t.attnum > 0 AND NOT t.attisdropped,
           aclexplode(t.attacl) a
     WHERE a.grantee <> relowner AND a.grantee <> 0
)
SELECT statement FROM statements ORDER BY step, number, name, statement
