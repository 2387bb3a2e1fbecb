INSERT INTO decided AS d (family, partition, last_at, rules_version)
SELECT * FROM unnest($1::text[], $2::integer[], $3::timestamptz[], $4::bigint[])
    ON CONFLICT (family, partition) DO UPDATE
   SET last_at = greatest(d.last_at, EXCLUDED.last_at),
       rules_version = greatest(d.rules_version, EXCLUDED.rules_version)
