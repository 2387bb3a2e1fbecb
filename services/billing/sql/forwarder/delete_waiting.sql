-- Usage that waited for the start of some runs, so much of it at the most; gives it back.
DELETE FROM waiting AS w
 USING (
       SELECT w.tenant_id, w.mode, w.run_id, w.source_id
         FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (tenant_id, mode, run_id)
         JOIN waiting AS w USING (tenant_id, mode, run_id)
        LIMIT $4) AS f
 WHERE w.tenant_id = f.tenant_id AND w.mode = f.mode AND w.run_id = f.run_id AND w.source_id = f.source_id
RETURNING w.tenant_id, w.mode, w.run_id, w.source_id, w.log_offset, w.meter, w.quantity, w.dimensions, w.tool_call_id, w.used_at
