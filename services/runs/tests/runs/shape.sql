-- What the tables of schema $1 are made of, a line each, without the schema's name. Books aside:
-- those of all generations lie together.
WITH tables AS (
    SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname <> 'parked'
       AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
)
SELECT line FROM (
    SELECT concat_ws(' ', relname, relpersistence, relrowsecurity, relforcerowsecurity, reloptions,
                     (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(relacl) acl)) AS line FROM tables
    UNION ALL
    SELECT concat_ws(' ', relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,
                     pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation,
                     (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(a.attacl) acl))
      FROM tables
      JOIN pg_attribute a ON a.attrelid = tables.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT concat_ws(' ', relname, k.conname, pg_get_constraintdef(k.oid)) FROM tables JOIN pg_constraint k ON k.conrelid = tables.oid
    UNION ALL
    SELECT replace(pg_get_indexdef(i.indexrelid), $1 || '.', '') FROM tables JOIN pg_index i ON i.indrelid = tables.oid
    UNION ALL
    SELECT concat_ws(' ', p.tablename, p.policyname, p.permissive, p.roles, p.cmd, p.qual, p.with_check)
      FROM pg_policies p WHERE p.schemaname = $1 AND p.tablename IN (SELECT relname FROM tables)
    UNION ALL
    SELECT concat_ws(' ', 'schema', (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(nspacl) acl)) FROM pg_namespace WHERE nspname = $1
) lines
 ORDER BY line
