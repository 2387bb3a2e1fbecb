-- Everything that migrations can make, a line or a few each, sorted: what two databases have to
-- agree on to be the same to our code. Rights of owners are left out, since they have them all;
-- NOT NULL is said of the column, since not every version of Postgres keeps it as a constraint.
WITH spaces AS (
    SELECT oid, nspname, nspowner, nspacl
      FROM pg_namespace
     WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
),
relations AS (
    SELECT c.*, format('%I.%I', s.nspname, c.relname) AS name
      FROM pg_class AS c JOIN spaces AS s ON s.oid = c.relnamespace
     WHERE c.relname NOT LIKE '\_sqlx\_migrations%'
),
tables AS (
    SELECT * FROM relations WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
),
columns AS (
    SELECT a.*, t.name, t.relowner, row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS place
      FROM pg_attribute AS a JOIN tables AS t ON t.oid = a.attrelid
     WHERE a.attnum > 0 AND NOT a.attisdropped
),
functions AS (
    SELECT p.*, format('%I.%I(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS name
      FROM pg_proc AS p JOIN spaces AS s ON s.oid = p.pronamespace
),
-- What has rights, whose it is, and the rights: those by default where none were ever given.
righted AS (
    SELECT format('schema %I', nspname) AS what, nspowner AS owner, coalesce(nspacl, acldefault('n', nspowner)) AS acl
      FROM spaces
    UNION ALL
    SELECT name, relowner, coalesce(relacl, acldefault('r', relowner)) FROM tables
    UNION ALL
    SELECT name, relowner, coalesce(relacl, acldefault('s', relowner)) FROM relations WHERE relkind = 'S'
    UNION ALL
    SELECT format('%s.%I', name, attname), relowner, attacl FROM columns WHERE attacl IS NOT NULL
    UNION ALL
    SELECT name, proowner, coalesce(proacl, acldefault('f', proowner)) FROM functions
    UNION ALL
    SELECT format('what %I will make (%s)', pg_get_userbyid(defaclrole), defaclobjtype), defaclrole, defaclacl
      FROM pg_default_acl
),
items (item) AS (
    SELECT format('schema %I owner %I', nspname, pg_get_userbyid(nspowner)) FROM spaces
    UNION ALL
    SELECT format('extension %I', extname) FROM pg_extension WHERE extname <> 'plpgsql'
    UNION ALL
    SELECT format('relation %s kind %s owner %I persistence %s%s%s%s', name, relkind, pg_get_userbyid(relowner), relpersistence,
                  CASE WHEN relrowsecurity THEN ' row security' END,
                  CASE WHEN relforcerowsecurity THEN ' forced' END,
                  ' with (' || array_to_string(reloptions, ', ') || ')')
      FROM tables
    UNION ALL
    SELECT format('column %s.%I: %s %s%s%s%s%s%s', c.name, c.attname, c.place, format_type(c.atttypid, c.atttypmod),
                  (SELECT format(' collate %I', l.collname) FROM pg_collation AS l
                    WHERE l.oid = c.attcollation AND l.collname <> 'default'),
                  CASE WHEN c.attnotnull THEN ' not null' END,
                  CASE c.attidentity WHEN 'a' THEN ' identity always' WHEN 'd' THEN ' identity' END,
                  CASE WHEN c.attgenerated = '' THEN ' default ' ELSE ' generated ' END || pg_get_expr(d.adbin, d.adrelid),
                  ' storage ' || nullif(c.attstorage, t.typstorage)::text)
      FROM columns AS c
      JOIN pg_type AS t ON t.oid = c.atttypid
      LEFT JOIN pg_attrdef AS d ON d.adrelid = c.attrelid AND d.adnum = c.attnum
    UNION ALL
    SELECT format('constraint %s.%I: %s', t.name, o.conname, pg_get_constraintdef(o.oid))
      FROM pg_constraint AS o JOIN tables AS t ON t.oid = o.conrelid
     WHERE o.contype <> 'n'
    UNION ALL
    SELECT format('index %s.%I: %s%s', t.name, c.relname, pg_get_indexdef(i.indexrelid),
                  CASE WHEN NOT i.indisvalid THEN ' INVALID' END)
      FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN tables AS t ON t.oid = i.indrelid
    UNION ALL
    SELECT format('sequence %s: %s start %s step %s from %s to %s%s', r.name, format_type(s.seqtypid, NULL), s.seqstart,
                  s.seqincrement, s.seqmin, s.seqmax, CASE WHEN s.seqcycle THEN ' cycle' END)
      FROM pg_sequence AS s JOIN relations AS r ON r.oid = s.seqrelid
    UNION ALL
    SELECT format('policy %s.%I: %s for %s to %s%s%s', t.name, p.polname,
                  CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
                  CASE p.polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update'
                                WHEN 'd' THEN 'delete' ELSE 'all' END,
                  (SELECT string_agg(CASE WHEN role = 0 THEN 'public' ELSE pg_get_userbyid(role) END, ', ' ORDER BY role = 0, pg_get_userbyid(role))
                     FROM unnest(p.polroles) AS role),
                  ' using ' || pg_get_expr(p.polqual, p.polrelid),
                  ' with check ' || pg_get_expr(p.polwithcheck, p.polrelid))
      FROM pg_policy AS p JOIN tables AS t ON t.oid = p.polrelid
    UNION ALL
    SELECT format('trigger %s.%I (%s): %s', t.name, g.tgname, g.tgenabled, pg_get_triggerdef(g.oid))
      FROM pg_trigger AS g JOIN tables AS t ON t.oid = g.tgrelid
     WHERE NOT g.tgisinternal
    UNION ALL
    SELECT format('view %s: %s', name, pg_get_viewdef(oid)) FROM tables WHERE relkind IN ('v', 'm')
    UNION ALL
    SELECT format('type %I.%I: %s%s', s.nspname, t.typname,
                  (SELECT format('enum (%s)', string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)) FROM pg_enum AS e WHERE e.enumtypid = t.oid),
                  (SELECT format('composite (%s)', string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum))
                     FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
      FROM pg_type AS t JOIN spaces AS s ON s.oid = t.typnamespace LEFT JOIN pg_class AS c ON c.oid = t.typrelid
     WHERE t.typtype = 'e' OR c.relkind = 'c'
    UNION ALL
    SELECT format('domain %I.%I: %s%s%s%s', s.nspname, t.typname, format_type(t.typbasetype, t.typtypmod),
                  CASE WHEN t.typnotnull THEN ' not null' END, ' default ' || t.typdefault,
                  (SELECT string_agg(format(' constraint %I %s', o.conname, pg_get_constraintdef(o.oid)), '' ORDER BY o.conname)
                     FROM pg_constraint AS o WHERE o.contypid = t.oid AND o.contype <> 'n'))
      FROM pg_type AS t JOIN spaces AS s ON s.oid = t.typnamespace
     WHERE t.typtype = 'd'
    UNION ALL
    SELECT format(E'function %s owner %I:\n%s', name, pg_get_userbyid(proowner), pg_get_functiondef(oid))
      FROM functions WHERE prokind IN ('f', 'p')
    UNION ALL
    SELECT format('aggregate or window function %s owner %I', name, pg_get_userbyid(proowner))
      FROM functions WHERE prokind NOT IN ('f', 'p')
    UNION ALL
    SELECT format('grant on %s to %s: %s', r.what, CASE WHEN g.grantee = 0 THEN 'public' ELSE pg_get_userbyid(g.grantee) END,
                  string_agg(g.privilege_type || CASE WHEN g.is_grantable THEN ' with grant option' ELSE '' END, ', '
                             ORDER BY g.privilege_type COLLATE "C"))
      FROM righted AS r CROSS JOIN LATERAL aclexplode(r.acl) AS g
     WHERE g.grantee <> r.owner
     GROUP BY r.what, g.grantee
)
SELECT string_agg(item, E'\n' ORDER BY item COLLATE "C") || E'\n' FROM items
