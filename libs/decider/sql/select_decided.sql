SELECT family, partition, last_at, rules_version
  FROM unnest($1::text[], $2::integer[]) AS k (family, partition)
  JOIN decided AS d USING (family, partition)
