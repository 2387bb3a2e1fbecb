-- Usage that waited for the start of some runs; gives it back.
DELETE FROM waiting AS w
 USING unnest($1::uuid[], $2::text[], $3::text[]) AS k (tenant_id, mode, run_id)
 WHERE w.tenant_id = k.tenant_id AND w.mode = k.mode AND w.run_id = k.run_id
RETURNING w.tenant_id, w.mode, w.run_id, w.source_id, w.log_offset, w.meter, w.quantity, w.dimensions, w.tool_call_id, w.used_at
