-- All entries of a range in the order of the log, whatever record they say they come from.
DECLARE entries_of_range NO SCROLL CURSOR FOR
SELECT tenant_id, mode, family, partition, log_offset, ordinal, at, recorded_at, actor_type, actor, principal_id, role,
       entity_type, entity_id, action, run_id, details, stream, record_id
  FROM entries
 WHERE ($1::text IS NULL OR family = $1) AND ($2::integer IS NULL OR partition = $2)
   AND log_offset >= $3 AND log_offset < $4
 ORDER BY family, partition, log_offset, ordinal, tenant_id, mode
