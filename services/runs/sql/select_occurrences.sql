-- Only the filters that were asked for stand in the place below, so that each bounds the index.
SELECT scheduled_at, owner_id, record_id
  FROM occurrences
 WHERE tenant_id = $1 AND mode = $2 AND schedule_id = $3
/* filters */
 ORDER BY scheduled_at DESC, owner_id DESC, record_id DESC
 LIMIT $4
