-- Counted anew: exact whatever was parked, redriven or skipped. Whoever calls this has locked the cursors.
UPDATE cursors c
   SET parked_records = (
       SELECT count(*) FROM parked p
        WHERE p.generation = c.generation AND p.family = c.family AND p.partition = c.partition)
 WHERE c.generation = $1
   AND (c.family, c.partition) IN (SELECT * FROM unnest($2::text[], $3::integer[]))
