-- The statements that make in schema $2 those indexes of the tables $3 in schema $1 that it lacks.
SELECT replace(pg_get_indexdef(i.indexrelid), format(' ON %I.%I ', $1::text, t.relname), format(' ON %I.%I ', $2::text, t.relname))
  FROM pg_index i
  JOIN pg_class x ON x.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
 WHERE n.nspname = $1
   AND t.relname = ANY ($3::text[])
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
   AND NOT EXISTS (SELECT FROM pg_class there JOIN pg_namespace m ON m.oid = there.relnamespace
                    WHERE m.nspname = $2 AND there.relname = x.relname)
 ORDER BY t.relname, x.relname
