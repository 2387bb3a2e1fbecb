SELECT tool_call_id, log_offset, started_record, started_at, ended_record, ended_at, late
  FROM tool_calls
 WHERE tenant_id = $1 AND mode = $2 AND run_id = $3
   AND log_offset > $6 AND log_offset >= 0
   AND ($4::text IS NULL OR tool = $4)
   AND ($5::text[] IS NULL OR status = ANY ($5))
 ORDER BY log_offset
 LIMIT $7
