-- Of partitions that were left cleanly, or in which what was tried was survived.
DELETE FROM attempts AS a
 USING unnest($1::text[], $2::integer[]) AS k (family, partition)
 WHERE a.family = k.family AND a.partition = k.partition
