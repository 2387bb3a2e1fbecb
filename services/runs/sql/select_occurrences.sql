SELECT scheduled_at, owner_id, record_id
  FROM occurrences
 WHERE tenant_id = $1 AND mode = $2 AND schedule_id = $3
   AND ($4::timestamptz IS NULL OR scheduled_at >= $4)
   AND ($5::timestamptz IS NULL OR scheduled_at < $5)
   AND ($6::timestamptz IS NULL OR (scheduled_at, owner_id, record_id) < ($6, $7::text, $8::uuid))
 ORDER BY scheduled_at DESC, owner_id DESC, record_id DESC
 LIMIT $9
