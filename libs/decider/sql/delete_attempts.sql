-- Of partitions that were left cleanly.
DELETE FROM attempts AS a
 USING unnest($1::text[], $2::integer[]) AS k (family, partition)
 WHERE a.family = k.family AND a.partition = k.partition
